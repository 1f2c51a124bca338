//! Numbers of the kernel, and what calls say in them.

use super::super::calls::Sc;
use super::{detail_bytes, le_u64};
use ctrace_analysis::fds;
use ctrace_format::{SockAddr, Syscall};
use std::net::{IpAddr, SocketAddr};

/// A call that lasted at least this long waited for something; shorter ones found it there.
pub(crate) const BLOCKED_NS: u64 = 15_000;

pub(crate) const AT_FDCWD: i32 = -100;
pub(crate) const AF_UNIX: u16 = 1;
pub(crate) const SOCK_DGRAM: u16 = 2;
pub(crate) const O_CREAT: u32 = 0o100;
pub(crate) const O_EXCL: u32 = 0o200;
pub(crate) const O_TRUNC: u32 = 0o1000;
pub(crate) const O_APPEND: u32 = 0o2000;
pub(crate) const O_NONBLOCK: u32 = 0o4000;
pub(crate) const O_CLOEXEC: u32 = 0o2_000_000;
pub(crate) const CLONE_FS: u64 = 0x200;
pub(crate) const CLONE_NEWNS: u64 = 0x2_0000;
pub(crate) const CLONE_NEWUSER: u64 = 0x1000_0000;
pub(crate) const FIONBIO: u32 = 0x5421;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_DIRECTORY: u32 = 0o40_000;
#[cfg(not(target_arch = "aarch64"))]
pub(crate) const O_DIRECTORY: u32 = 0o200_000;
pub(crate) const O_TMPFILE: u32 = 0o20_000_000 | O_DIRECTORY;

/// Addresses that mean the same socket compare equal after this.
pub(crate) fn canonical(addr: &SockAddr) -> SockAddr {
    match addr {
        SockAddr::Inet(SocketAddr::V6(v6)) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SockAddr::Inet(SocketAddr::new(IpAddr::V4(v4), v6.port())),
            None => SockAddr::Inet(SocketAddr::new(IpAddr::V6(*v6.ip()), v6.port())),
        },
        other => other.clone(),
    }
}

/// Whether a path of the kernel's is all of it: of very long ones a recorder has the end only.
pub(crate) fn is_whole(path: &[u8]) -> bool {
    !path.starts_with(b"/.../")
}

/// Flags and mode of an open call.
pub(crate) fn open_flags(call: &Syscall, sc: Sc) -> (u32, u32) {
    let flags = fds::open_flags(sc, call).unwrap_or(0) as u32;
    let mode = match sc {
        Sc::Open => call.args[2],
        Sc::Openat => call.args[3],
        Sc::Creat => call.args[1],
        // struct open_how.
        _ => detail_bytes(call, 2).map_or(0, |how| le_u64(how, 8)),
    };
    (flags, mode as u32 & 0o7777)
}

/// Whether an `open` that succeeded made the file, as the kernel said or the flags ask for.
pub(crate) fn is_told_to_create(call: &Syscall, flags: u32) -> bool {
    call.details.contains(&ctrace_format::Detail::Created) || flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL
}

/// The offset of a positional read or write.
pub(crate) fn positional(sc: Sc, call: &Syscall) -> Option<u64> {
    match sc {
        Sc::Pread64 | Sc::Pwrite64 | Sc::Preadv | Sc::Pwritev => Some(call.args[3]),
        Sc::Preadv2 | Sc::Pwritev2 if call.args[3] != u64::MAX => Some(call.args[3]),
        _ => None,
    }
}
