//! Asking about the sockets of other processes, through a copy of their descriptor.

use crate::objects::sockaddr;
use ctrace_format::{FdTarget, SockAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;

/// A reference to a process (Linux 5.3).
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// `None` when the process is gone or pidfds are not there.
    pub(crate) fn open(pid: u32) -> Option<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        own(fd).map(Self)
    }

    /// A copy of one of its descriptors (Linux 5.6; needs `CAP_SYS_PTRACE` over it).
    fn copy(&self, fd: RawFd) -> Option<OwnedFd> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.0.as_raw_fd(), fd, 0) };
        own(fd)
    }
}

fn own(fd: i64) -> Option<OwnedFd> {
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: a descriptor that a call just made for us.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn option<T: Default>(fd: &OwnedFd, level: i32, name: i32) -> Option<T> {
    let mut value = T::default();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` has `len` bytes.
    let r = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    (r == 0).then_some(value)
}

type NameCall = unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn name(fd: &OwnedFd, call: NameCall) -> Option<SockAddr> {
    let mut bytes = [0_u8; 128];
    let mut len = bytes.len() as libc::socklen_t;
    // SAFETY: a buffer of `len` bytes.
    let r = unsafe { call(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut len) };
    if r != 0 {
        return None;
    }
    match sockaddr(bytes.get(..len as usize)?)? {
        SockAddr::Inet(a) if a.port() == 0 => None,
        SockAddr::Unix(n) if n.is_empty() => None,
        other => Some(other),
    }
}

/// Makes the kernel give every socket of a process a cookie, so that its records and the snapshot agree on it.
/// Returns the network namespace's inode number and the port of each TCP listener.
pub(crate) fn name_all(pid: u32) -> Vec<(u64, u16)> {
    let mut listeners = Vec::new();
    let Some(pidfd) = PidFd::open(pid) else { return listeners };
    let netns = std::fs::metadata(format!("/proc/{pid}/ns/net")).map_or(0, |m| m.ino());
    for fd in crate::proc::numbers(&format!("/proc/{pid}/fd")) {
        let is_socket = std::fs::read_link(format!("/proc/{pid}/fd/{fd}"))
            .is_ok_and(|l| l.to_string_lossy().starts_with("socket:"));
        if is_socket && let Some(copy) = pidfd.copy(fd as RawFd) {
            let _ = option::<u64>(&copy, libc::SOL_SOCKET, libc::SO_COOKIE);
            if option::<i32>(&copy, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) == Some(1)
                && let Some(SockAddr::Inet(address)) = name(&copy, libc::getsockname)
            {
                listeners.push((netns, address.port()));
            }
        }
    }
    listeners
}

/// Describes a socket of another process; `peer_ino` is the other end of a unix pair, or 0.
pub(crate) fn describe(pidfd: Option<&PidFd>, fd: RawFd, ino: u64, peer_ino: u64) -> FdTarget {
    let copy = pidfd.and_then(|p| p.copy(fd));
    let int = |name| copy.as_ref().and_then(|c| option::<i32>(c, libc::SOL_SOCKET, name)).unwrap_or(0);
    let listening = (int(libc::SO_ACCEPTCONN) != 0).then(|| {
        // Of a listener, tcpi_sacked is the backlog (tcp_get_info, net/ipv4/tcp.c); it is the u32 at 28.
        copy.as_ref()
            .and_then(|c| option::<[u32; 8]>(c, libc::IPPROTO_TCP, libc::TCP_INFO))
            .map_or(0, |info| info[7])
    });
    FdTarget::Socket {
        ino,
        cookie: copy.as_ref().and_then(|c| option::<u64>(c, libc::SOL_SOCKET, libc::SO_COOKIE)).unwrap_or(0),
        family: int(libc::SO_DOMAIN) as u16,
        kind: int(libc::SO_TYPE) as u16,
        protocol: int(libc::SO_PROTOCOL) as u16,
        listening,
        local: copy.as_ref().and_then(|c| name(c, libc::getsockname)),
        peer: copy.as_ref().and_then(|c| name(c, libc::getpeername)),
        peer_ino,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_described() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pidfd = PidFd::open(std::process::id());
        let FdTarget::Socket { family, kind, listening, local, cookie, .. } =
            describe(pidfd.as_ref(), listener.as_raw_fd(), 1, 0)
        else {
            panic!("no socket");
        };
        if cookie == 0 {
            eprintln!("skipped: pidfd_getfd is not available");
            return;
        }
        assert_eq!((family, kind), (2, 1));
        assert_eq!(local, Some(SockAddr::Inet(address)));
        assert!(listening.unwrap() > 0);
    }
}
