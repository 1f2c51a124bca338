//! System calls by table and number: names, and what each argument means.
//!
//! Names of every call come from the `syscalls` crate. What a call does is written once, in [`table`]: the recorder (which
//! arguments to keep), the views (how to print them), the analysis (what an operation is) and the replayer ask it.

mod policy;
mod registers;
mod row;
mod table;

pub use policy::{About, Failing, failing, failing_on};
pub use registers::{Rule, kept_args};
pub use row::{Cloexec, Family, Follow, Limit, List, Makes, On, Replay, Row, Topic};
pub use table::{Call, nr};

use crate::event::{Abi, Sysno};

/// What an argument means. Decides how it is kept and printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A file descriptor.
    Fd,
    /// A directory descriptor, or `AT_FDCWD`.
    DirFd,
    /// A path that the call reads.
    Path,
    /// Another string that the call reads (a name, an attribute).
    Str,
    /// A signed number.
    Int,
    /// An unsigned number.
    UInt,
    /// A length or count in bytes.
    Size,
    /// A file offset.
    Off,
    /// A user address without further meaning; not kept.
    Ptr,
    /// A user address whose identity matters (futex words, mappings).
    Addr,
    /// File permissions, octal.
    Mode,
    /// `O_*`.
    OpenFlags,
    /// `AT_*`.
    AtFlags,
    /// `PROT_*`.
    Prot,
    /// `MAP_*`.
    MapFlags,
    /// `MSG_*`.
    MsgFlags,
    /// `SOCK_*`.
    SockType,
    /// `AF_*`.
    Domain,
    /// `CLONE_*`.
    CloneFlags,
    /// `FUTEX_*` operation.
    FutexOp,
    /// `fcntl` command.
    FcntlCmd,
    /// `ioctl` command.
    IoctlCmd,
    /// `EPOLL_CTL_*`.
    EpollOp,
    /// `SEEK_*`.
    Whence,
    /// `SHUT_*`.
    How,
    /// A signal number.
    Signal,
    /// A process, thread or group id.
    Pid,
    /// A clock id.
    Clock,
    /// Any other set of bits, hexadecimal.
    Flags,
    /// A socket address that the call reads; its length is the next argument.
    SockAddr,
    /// A socket address that the call writes; the next argument points to its length.
    SockAddrOut,
    /// An I/O vector; its count is the next argument.
    Iov,
    /// A `msghdr`.
    Msg,
    /// An `mmsghdr` array; its count is the next argument.
    Msgs,
    /// Two descriptors that the call writes.
    NewFds,
    /// A `timespec` that the call reads.
    Timespec,
    /// A `timeval` that the call reads.
    Timeval,
    /// Milliseconds, −1 for ever.
    Millis,
    /// A `pollfd` array; its count is the next argument.
    PollFds,
    /// An `fd_set`.
    FdSet,
    /// An `epoll_event` array that the call writes.
    EpollEvents,
    /// One `epoll_event` that the call reads.
    EpollEvent,
    /// A `struct stat` that the call writes.
    Stat,
    /// A `struct statx` that the call writes.
    Statx,
    /// A `sigaction` that the call reads.
    SigAction,
    /// A `sigset_t` that the call reads.
    SigSet,
    /// A 32-bit number that the call reads or writes behind a pointer.
    U32Ptr,
    /// A 64-bit number that the call reads or writes behind a pointer.
    U64Ptr,
    /// An argument vector.
    Argv,
    /// `clone_args`.
    CloneArgs,
    /// `open_how`.
    OpenHow,
    /// An `itimerspec` that the call reads.
    Itimerspec,
    /// An `rlimit64` that the call reads.
    Rlimit,
    /// A socket option's value that the call reads; its length is the next argument.
    OptVal,
}

/// One argument.
pub type Arg = (&'static str, Kind);

/// The name of a call, or `None` for a number its table does not have.
pub fn name(sysno: Sysno) -> Option<&'static str> {
    let nr = sysno.nr as usize;
    match sysno.abi {
        Abi::X86_64 | Abi::X32 => syscalls::x86_64::Sysno::new(nr).map(|s| s.name()),
        Abi::I386 => syscalls::x86::Sysno::new(nr).map(|s| s.name()),
        Abi::Aarch64 => syscalls::aarch64::Sysno::new(nr).map(|s| s.name()),
        Abi::Arm => syscalls::arm::Sysno::new(nr).map(|s| s.name()),
    }
}

/// The number of a call in a table, by name.
pub fn number(abi: Abi, name: &str) -> Option<Sysno> {
    let nr = match abi {
        Abi::X86_64 | Abi::X32 => name.parse::<syscalls::x86_64::Sysno>().ok()?.id() as u32,
        Abi::I386 => name.parse::<syscalls::x86::Sysno>().ok()?.id() as u32,
        Abi::Aarch64 => name.parse::<syscalls::aarch64::Sysno>().ok()?.id() as u32,
        Abi::Arm => name.parse::<syscalls::arm::Sysno>().ok()?.id() as u32,
    };
    Some(Sysno { abi, nr })
}

/// What the arguments of the call of this name mean. `None`: not described, the raw arguments are kept.
pub fn args(name: &str) -> Option<&'static [Arg]> {
    Call::named(name).row().args
}

/// Whether a successful call returns a new descriptor.
pub fn returns_fd(name: &str) -> bool {
    Call::named(name).row().makes.is_result()
}

/// The number of the descriptor that a path names.
pub fn descriptor_named(path: &[u8]) -> Option<i32> {
    const DIRECTORIES: [&[u8]; 3] = [b"/dev/fd/", b"/proc/self/fd/", b"/proc/thread-self/fd/"];
    const STANDARD: [&[u8]; 3] = [b"/dev/stdin", b"/dev/stdout", b"/dev/stderr"];
    if let Some((_, fd)) = STANDARD.iter().zip(0..).find(|(name, _)| **name == path) {
        return Some(fd);
    }
    let number = DIRECTORIES.iter().find_map(|directory| path.strip_prefix(*directory))?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_name_a_descriptor() {
        let named = ["/dev/stdout", "/proc/self/fd/7", "/dev/fd/x", "/dev/null"];
        assert_eq!(named.map(|path| descriptor_named(path.as_bytes())), [Some(1), Some(7), None, None]);
    }

    #[test]
    fn one_number_is_two_calls_in_two_tables() {
        assert_eq!(name(Sysno { abi: Abi::X86_64, nr: 20 }), Some("writev"));
        assert_eq!(name(Sysno { abi: Abi::I386, nr: 20 }), Some("getpid"));
        assert_eq!(name(Sysno { abi: Abi::X86_64, nr: 9999 }), None);
    }
}
