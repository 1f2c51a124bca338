//! System calls by table and number: names, and what each argument means.
//!
//! Names of every call come from the `syscalls` crate. What the arguments mean is written here once, by name, and
//! serves the recorder (which arguments to keep), the views (how to print them) and the replayer.

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
    ARGS.binary_search_by(|(n, _)| (*n).cmp(name)).ok().map(|i| ARGS[i].1)
}

/// Whether a successful call returns a new descriptor.
pub fn returns_fd(name: &str) -> bool {
    matches!(
        name,
        "open"
            | "openat"
            | "openat2"
            | "creat"
            | "socket"
            | "accept"
            | "accept4"
            | "dup"
            | "dup2"
            | "dup3"
            | "epoll_create"
            | "epoll_create1"
            | "eventfd"
            | "eventfd2"
            | "timerfd_create"
            | "signalfd"
            | "signalfd4"
            | "inotify_init"
            | "inotify_init1"
            | "fanotify_init"
            | "memfd_create"
            | "memfd_secret"
            | "pidfd_open"
            | "pidfd_getfd"
            | "userfaultfd"
            | "perf_event_open"
            | "io_uring_setup"
            | "mq_open"
            | "open_tree"
            | "fsopen"
            | "fspick"
            | "fsmount"
            | "landlock_create_ruleset"
            | "open_by_handle_at"
    )
}

#[allow(clippy::enum_glob_use, reason = "the table is unreadable with every kind qualified")]
use Kind::*;

/// Sorted by name (a test checks).
#[rustfmt::skip]
static ARGS: &[(&str, &[Arg])] = &[
    ("accept", &[("fd", Fd), ("addr", SockAddrOut), ("addrlen", Ptr)]),
    ("accept4", &[("fd", Fd), ("addr", SockAddrOut), ("addrlen", Ptr), ("flags", SockType)]),
    ("access", &[("path", Path), ("mode", Mode)]),
    ("alarm", &[("seconds", UInt)]),
    ("arch_prctl", &[("code", Flags), ("addr", Addr)]),
    ("bind", &[("fd", Fd), ("addr", SockAddr), ("addrlen", UInt)]),
    ("brk", &[("addr", Addr)]),
    ("capget", &[("header", Ptr), ("data", Ptr)]),
    ("capset", &[("header", Ptr), ("data", Ptr)]),
    ("chdir", &[("path", Path)]),
    ("chmod", &[("path", Path), ("mode", Mode)]),
    ("chown", &[("path", Path), ("uid", Int), ("gid", Int)]),
    ("chroot", &[("path", Path)]),
    ("clock_getres", &[("clock", Clock), ("res", Ptr)]),
    ("clock_gettime", &[("clock", Clock), ("tp", Ptr)]),
    ("clock_nanosleep", &[("clock", Clock), ("flags", Flags), ("request", Timespec), ("remain", Ptr)]),
    (
        "clone",
        &[("flags", CloneFlags), ("stack", Addr), ("parent_tid", Ptr), ("child_tid", Ptr), ("tls", Ptr)],
    ),
    ("clone3", &[("args", CloneArgs), ("size", Size)]),
    ("close", &[("fd", Fd)]),
    ("close_range", &[("first", UInt), ("last", UInt), ("flags", Flags)]),
    ("connect", &[("fd", Fd), ("addr", SockAddr), ("addrlen", UInt)]),
    (
        "copy_file_range",
        &[
            ("fd_in", Fd),
            ("off_in", U64Ptr),
            ("fd_out", Fd),
            ("off_out", U64Ptr),
            ("len", Size),
            ("flags", Flags),
        ],
    ),
    ("creat", &[("path", Path), ("mode", Mode)]),
    ("dup", &[("fd", Fd)]),
    ("dup2", &[("fd", Fd), ("newfd", Fd)]),
    ("dup3", &[("fd", Fd), ("newfd", Fd), ("flags", OpenFlags)]),
    ("epoll_create", &[("size", Int)]),
    ("epoll_create1", &[("flags", OpenFlags)]),
    ("epoll_ctl", &[("epfd", Fd), ("op", EpollOp), ("fd", Fd), ("event", EpollEvent)]),
    (
        "epoll_pwait",
        &[
            ("epfd", Fd),
            ("events", EpollEvents),
            ("maxevents", Int),
            ("timeout", Millis),
            ("sigmask", Ptr),
            ("sigsetsize", Size),
        ],
    ),
    (
        "epoll_pwait2",
        &[
            ("epfd", Fd),
            ("events", EpollEvents),
            ("maxevents", Int),
            ("timeout", Timespec),
            ("sigmask", Ptr),
            ("sigsetsize", Size),
        ],
    ),
    ("epoll_wait", &[("epfd", Fd), ("events", EpollEvents), ("maxevents", Int), ("timeout", Millis)]),
    ("eventfd", &[("count", UInt)]),
    ("eventfd2", &[("count", UInt), ("flags", OpenFlags)]),
    ("execve", &[("path", Path), ("argv", Argv), ("envp", Ptr)]),
    ("execveat", &[("dirfd", DirFd), ("path", Path), ("argv", Argv), ("envp", Ptr), ("flags", AtFlags)]),
    ("exit", &[("status", Int)]),
    ("exit_group", &[("status", Int)]),
    ("faccessat", &[("dirfd", DirFd), ("path", Path), ("mode", Mode)]),
    ("faccessat2", &[("dirfd", DirFd), ("path", Path), ("mode", Mode), ("flags", AtFlags)]),
    ("fadvise64", &[("fd", Fd), ("offset", Off), ("len", Size), ("advice", Int)]),
    ("fallocate", &[("fd", Fd), ("mode", Flags), ("offset", Off), ("len", Off)]),
    ("fchdir", &[("fd", Fd)]),
    ("fchmod", &[("fd", Fd), ("mode", Mode)]),
    ("fchmodat", &[("dirfd", DirFd), ("path", Path), ("mode", Mode)]),
    ("fchmodat2", &[("dirfd", DirFd), ("path", Path), ("mode", Mode), ("flags", AtFlags)]),
    ("fchown", &[("fd", Fd), ("uid", Int), ("gid", Int)]),
    ("fchownat", &[("dirfd", DirFd), ("path", Path), ("uid", Int), ("gid", Int), ("flags", AtFlags)]),
    ("fcntl", &[("fd", Fd), ("cmd", FcntlCmd), ("arg", Int)]),
    ("fdatasync", &[("fd", Fd)]),
    ("fgetxattr", &[("fd", Fd), ("name", Str), ("value", Ptr), ("size", Size)]),
    ("flistxattr", &[("fd", Fd), ("list", Ptr), ("size", Size)]),
    ("flock", &[("fd", Fd), ("operation", Int)]),
    ("fork", &[]),
    ("fremovexattr", &[("fd", Fd), ("name", Str)]),
    ("fsetxattr", &[("fd", Fd), ("name", Str), ("value", Ptr), ("size", Size), ("flags", Flags)]),
    ("fstat", &[("fd", Fd), ("stat", Stat)]),
    ("fstatfs", &[("fd", Fd), ("buf", Ptr)]),
    ("fsync", &[("fd", Fd)]),
    ("ftruncate", &[("fd", Fd), ("length", Off)]),
    (
        "futex",
        &[
            ("uaddr", Addr),
            ("op", FutexOp),
            ("val", UInt),
            ("timeout", Timespec),
            ("uaddr2", Addr),
            ("val3", UInt),
        ],
    ),
    (
        "futex_wait",
        &[
            ("uaddr", Addr),
            ("val", UInt),
            ("mask", Flags),
            ("flags", Flags),
            ("timeout", Timespec),
            ("clock", Clock),
        ],
    ),
    (
        "futex_waitv",
        &[("waiters", Ptr), ("count", UInt), ("flags", Flags), ("timeout", Timespec), ("clock", Clock)],
    ),
    ("futex_wake", &[("uaddr", Addr), ("mask", Flags), ("count", Int), ("flags", Flags)]),
    ("futimesat", &[("dirfd", DirFd), ("path", Path), ("times", Ptr)]),
    ("getcpu", &[("cpu", Ptr), ("node", Ptr), ("cache", Ptr)]),
    ("getcwd", &[("buf", Ptr), ("size", Size)]),
    ("getdents", &[("fd", Fd), ("dirp", Ptr), ("count", Size)]),
    ("getdents64", &[("fd", Fd), ("dirp", Ptr), ("count", Size)]),
    ("getegid", &[]),
    ("geteuid", &[]),
    ("getgid", &[]),
    ("getgroups", &[("size", Int), ("list", Ptr)]),
    ("getitimer", &[("which", Int), ("value", Ptr)]),
    ("getpeername", &[("fd", Fd), ("addr", SockAddrOut), ("addrlen", Ptr)]),
    ("getpgid", &[("pid", Pid)]),
    ("getpgrp", &[]),
    ("getpid", &[]),
    ("getppid", &[]),
    ("getpriority", &[("which", Int), ("who", Int)]),
    ("getrandom", &[("buf", Ptr), ("count", Size), ("flags", Flags)]),
    ("getresgid", &[("rgid", Ptr), ("egid", Ptr), ("sgid", Ptr)]),
    ("getresuid", &[("ruid", Ptr), ("euid", Ptr), ("suid", Ptr)]),
    ("getrlimit", &[("resource", Int), ("rlim", Ptr)]),
    ("getrusage", &[("who", Int), ("usage", Ptr)]),
    ("getsid", &[("pid", Pid)]),
    ("getsockname", &[("fd", Fd), ("addr", SockAddrOut), ("addrlen", Ptr)]),
    ("getsockopt", &[("fd", Fd), ("level", Int), ("optname", Int), ("optval", U32Ptr), ("optlen", Ptr)]),
    ("gettid", &[]),
    ("gettimeofday", &[("tv", Ptr), ("tz", Ptr)]),
    ("getuid", &[]),
    ("getxattr", &[("path", Path), ("name", Str), ("value", Ptr), ("size", Size)]),
    ("inotify_add_watch", &[("fd", Fd), ("path", Path), ("mask", Flags)]),
    ("inotify_init", &[]),
    ("inotify_init1", &[("flags", OpenFlags)]),
    ("inotify_rm_watch", &[("fd", Fd), ("wd", Int)]),
    ("io_cancel", &[("ctx", Addr), ("iocb", Ptr), ("result", Ptr)]),
    ("io_destroy", &[("ctx", Addr)]),
    ("io_getevents", &[("ctx", Addr), ("min_nr", Int), ("nr", Int), ("events", Ptr), ("timeout", Timespec)]),
    ("io_setup", &[("nr", UInt), ("ctx", U64Ptr)]),
    ("io_submit", &[("ctx", Addr), ("nr", Int), ("iocbs", Ptr)]),
    (
        "io_uring_enter",
        &[
            ("fd", Fd),
            ("to_submit", UInt),
            ("min_complete", UInt),
            ("flags", Flags),
            ("arg", Ptr),
            ("argsz", Size),
        ],
    ),
    ("io_uring_register", &[("fd", Fd), ("opcode", UInt), ("arg", Ptr), ("nr_args", UInt)]),
    ("io_uring_setup", &[("entries", UInt), ("params", Ptr)]),
    ("ioctl", &[("fd", Fd), ("cmd", IoctlCmd), ("arg", Flags)]),
    ("ioprio_get", &[("which", Int), ("who", Int)]),
    ("ioprio_set", &[("which", Int), ("who", Int), ("ioprio", Flags)]),
    ("kill", &[("pid", Pid), ("sig", Signal)]),
    ("lchown", &[("path", Path), ("uid", Int), ("gid", Int)]),
    ("lgetxattr", &[("path", Path), ("name", Str), ("value", Ptr), ("size", Size)]),
    ("link", &[("oldpath", Path), ("newpath", Path)]),
    (
        "linkat",
        &[("olddirfd", DirFd), ("oldpath", Path), ("newdirfd", DirFd), ("newpath", Path), ("flags", AtFlags)],
    ),
    ("listen", &[("fd", Fd), ("backlog", Int)]),
    ("listxattr", &[("path", Path), ("list", Ptr), ("size", Size)]),
    ("llistxattr", &[("path", Path), ("list", Ptr), ("size", Size)]),
    ("lremovexattr", &[("path", Path), ("name", Str)]),
    ("lseek", &[("fd", Fd), ("offset", Off), ("whence", Whence)]),
    ("lsetxattr", &[("path", Path), ("name", Str), ("value", Ptr), ("size", Size), ("flags", Flags)]),
    ("lstat", &[("path", Path), ("stat", Stat)]),
    ("madvise", &[("addr", Addr), ("length", Size), ("advice", Int)]),
    ("membarrier", &[("cmd", Int), ("flags", Flags), ("cpu", Int)]),
    ("memfd_create", &[("name", Str), ("flags", Flags)]),
    ("mincore", &[("addr", Addr), ("length", Size), ("vec", Ptr)]),
    ("mkdir", &[("path", Path), ("mode", Mode)]),
    ("mkdirat", &[("dirfd", DirFd), ("path", Path), ("mode", Mode)]),
    ("mknod", &[("path", Path), ("mode", Mode), ("dev", UInt)]),
    ("mknodat", &[("dirfd", DirFd), ("path", Path), ("mode", Mode), ("dev", UInt)]),
    ("mlock", &[("addr", Addr), ("length", Size)]),
    ("mlock2", &[("addr", Addr), ("length", Size), ("flags", Flags)]),
    ("mlockall", &[("flags", Flags)]),
    (
        "mmap",
        &[("addr", Addr), ("length", Size), ("prot", Prot), ("flags", MapFlags), ("fd", Fd), ("offset", Off)],
    ),
    ("mount", &[("source", Path), ("target", Path), ("fstype", Str), ("flags", Flags), ("data", Ptr)]),
    ("mprotect", &[("addr", Addr), ("length", Size), ("prot", Prot)]),
    (
        "mremap",
        &[("addr", Addr), ("old_length", Size), ("new_length", Size), ("flags", Flags), ("new_addr", Addr)],
    ),
    ("msync", &[("addr", Addr), ("length", Size), ("flags", Flags)]),
    ("munlock", &[("addr", Addr), ("length", Size)]),
    ("munlockall", &[]),
    ("munmap", &[("addr", Addr), ("length", Size)]),
    ("nanosleep", &[("request", Timespec), ("remain", Ptr)]),
    ("newfstatat", &[("dirfd", DirFd), ("path", Path), ("stat", Stat), ("flags", AtFlags)]),
    ("open", &[("path", Path), ("flags", OpenFlags), ("mode", Mode)]),
    ("openat", &[("dirfd", DirFd), ("path", Path), ("flags", OpenFlags), ("mode", Mode)]),
    ("openat2", &[("dirfd", DirFd), ("path", Path), ("how", OpenHow), ("size", Size)]),
    ("pause", &[]),
    ("personality", &[("persona", Flags)]),
    ("pidfd_getfd", &[("pidfd", Fd), ("fd", Int), ("flags", Flags)]),
    ("pidfd_open", &[("pid", Pid), ("flags", OpenFlags)]),
    ("pidfd_send_signal", &[("pidfd", Fd), ("sig", Signal), ("info", Ptr), ("flags", Flags)]),
    ("pipe", &[("fds", NewFds)]),
    ("pipe2", &[("fds", NewFds), ("flags", OpenFlags)]),
    ("pivot_root", &[("new_root", Path), ("put_old", Path)]),
    ("pkey_alloc", &[("flags", Flags), ("access_rights", Flags)]),
    ("pkey_free", &[("pkey", Int)]),
    ("poll", &[("fds", PollFds), ("nfds", UInt), ("timeout", Millis)]),
    (
        "ppoll",
        &[("fds", PollFds), ("nfds", UInt), ("timeout", Timespec), ("sigmask", Ptr), ("sigsetsize", Size)],
    ),
    ("prctl", &[("option", Int), ("arg2", Addr), ("arg3", Addr), ("arg4", Addr), ("arg5", Addr)]),
    ("pread64", &[("fd", Fd), ("buf", Ptr), ("count", Size), ("offset", Off)]),
    ("preadv", &[("fd", Fd), ("iov", Iov), ("iovcnt", UInt), ("offset", Off)]),
    (
        "preadv2",
        &[
            ("fd", Fd),
            ("iov", Iov),
            ("iovcnt", UInt),
            ("offset", Off),
            ("offset_high", UInt),
            ("flags", Flags),
        ],
    ),
    ("prlimit64", &[("pid", Pid), ("resource", Int), ("new_limit", Rlimit), ("old_limit", Ptr)]),
    (
        "pselect6",
        &[
            ("nfds", Int),
            ("readfds", FdSet),
            ("writefds", FdSet),
            ("exceptfds", FdSet),
            ("timeout", Timespec),
            ("sigmask", Ptr),
        ],
    ),
    ("pwrite64", &[("fd", Fd), ("buf", Ptr), ("count", Size), ("offset", Off)]),
    ("pwritev", &[("fd", Fd), ("iov", Iov), ("iovcnt", UInt), ("offset", Off)]),
    (
        "pwritev2",
        &[
            ("fd", Fd),
            ("iov", Iov),
            ("iovcnt", UInt),
            ("offset", Off),
            ("offset_high", UInt),
            ("flags", Flags),
        ],
    ),
    ("read", &[("fd", Fd), ("buf", Ptr), ("count", Size)]),
    ("readahead", &[("fd", Fd), ("offset", Off), ("count", Size)]),
    ("readlink", &[("path", Path), ("buf", Ptr), ("bufsiz", Size)]),
    ("readlinkat", &[("dirfd", DirFd), ("path", Path), ("buf", Ptr), ("bufsiz", Size)]),
    ("readv", &[("fd", Fd), ("iov", Iov), ("iovcnt", UInt)]),
    (
        "recvfrom",
        &[
            ("fd", Fd),
            ("buf", Ptr),
            ("len", Size),
            ("flags", MsgFlags),
            ("addr", SockAddrOut),
            ("addrlen", Ptr),
        ],
    ),
    ("recvmmsg", &[("fd", Fd), ("msgvec", Msgs), ("vlen", UInt), ("flags", MsgFlags), ("timeout", Timespec)]),
    ("recvmsg", &[("fd", Fd), ("msg", Msg), ("flags", MsgFlags)]),
    ("removexattr", &[("path", Path), ("name", Str)]),
    ("rename", &[("oldpath", Path), ("newpath", Path)]),
    ("renameat", &[("olddirfd", DirFd), ("oldpath", Path), ("newdirfd", DirFd), ("newpath", Path)]),
    (
        "renameat2",
        &[("olddirfd", DirFd), ("oldpath", Path), ("newdirfd", DirFd), ("newpath", Path), ("flags", Flags)],
    ),
    ("restart_syscall", &[]),
    ("rmdir", &[("path", Path)]),
    ("rseq", &[("rseq", Addr), ("len", UInt), ("flags", Flags), ("sig", Flags)]),
    ("rt_sigaction", &[("signum", Signal), ("act", SigAction), ("oldact", Ptr), ("sigsetsize", Size)]),
    ("rt_sigpending", &[("set", Ptr), ("sigsetsize", Size)]),
    ("rt_sigprocmask", &[("how", Int), ("set", SigSet), ("oldset", Ptr), ("sigsetsize", Size)]),
    ("rt_sigqueueinfo", &[("pid", Pid), ("sig", Signal), ("info", Ptr)]),
    ("rt_sigreturn", &[]),
    ("rt_sigsuspend", &[("mask", SigSet), ("sigsetsize", Size)]),
    ("rt_sigtimedwait", &[("set", SigSet), ("info", Ptr), ("timeout", Timespec), ("sigsetsize", Size)]),
    ("rt_tgsigqueueinfo", &[("tgid", Pid), ("tid", Pid), ("sig", Signal), ("info", Ptr)]),
    ("sched_get_priority_max", &[("policy", Int)]),
    ("sched_get_priority_min", &[("policy", Int)]),
    ("sched_getaffinity", &[("pid", Pid), ("cpusetsize", Size), ("mask", Ptr)]),
    ("sched_getattr", &[("pid", Pid), ("attr", Ptr), ("size", Size), ("flags", Flags)]),
    ("sched_getparam", &[("pid", Pid), ("param", Ptr)]),
    ("sched_getscheduler", &[("pid", Pid)]),
    ("sched_setaffinity", &[("pid", Pid), ("cpusetsize", Size), ("mask", U64Ptr)]),
    ("sched_setparam", &[("pid", Pid), ("param", U32Ptr)]),
    ("sched_setscheduler", &[("pid", Pid), ("policy", Int), ("param", U32Ptr)]),
    ("sched_yield", &[]),
    (
        "select",
        &[("nfds", Int), ("readfds", FdSet), ("writefds", FdSet), ("exceptfds", FdSet), ("timeout", Timeval)],
    ),
    ("sendfile", &[("out_fd", Fd), ("in_fd", Fd), ("offset", U64Ptr), ("count", Size)]),
    ("sendmmsg", &[("fd", Fd), ("msgvec", Msgs), ("vlen", UInt), ("flags", MsgFlags)]),
    ("sendmsg", &[("fd", Fd), ("msg", Msg), ("flags", MsgFlags)]),
    (
        "sendto",
        &[
            ("fd", Fd),
            ("buf", Ptr),
            ("len", Size),
            ("flags", MsgFlags),
            ("addr", SockAddr),
            ("addrlen", UInt),
        ],
    ),
    ("set_robust_list", &[("head", Addr), ("len", Size)]),
    ("set_tid_address", &[("tidptr", Addr)]),
    ("setfsgid", &[("gid", Int)]),
    ("setfsuid", &[("uid", Int)]),
    ("setgid", &[("gid", Int)]),
    ("setgroups", &[("size", Int), ("list", Ptr)]),
    ("sethostname", &[("name", Str), ("len", Size)]),
    ("setitimer", &[("which", Int), ("new_value", Ptr), ("old_value", Ptr)]),
    ("setns", &[("fd", Fd), ("nstype", Flags)]),
    ("setpgid", &[("pid", Pid), ("pgid", Pid)]),
    ("setpriority", &[("which", Int), ("who", Int), ("prio", Int)]),
    ("setregid", &[("rgid", Int), ("egid", Int)]),
    ("setresgid", &[("rgid", Int), ("egid", Int), ("sgid", Int)]),
    ("setresuid", &[("ruid", Int), ("euid", Int), ("suid", Int)]),
    ("setreuid", &[("ruid", Int), ("euid", Int)]),
    ("setrlimit", &[("resource", Int), ("rlim", Rlimit)]),
    ("setsid", &[]),
    ("setsockopt", &[("fd", Fd), ("level", Int), ("optname", Int), ("optval", OptVal), ("optlen", UInt)]),
    ("setuid", &[("uid", Int)]),
    ("setxattr", &[("path", Path), ("name", Str), ("value", Ptr), ("size", Size), ("flags", Flags)]),
    ("shmat", &[("shmid", Int), ("addr", Addr), ("flags", Flags)]),
    ("shmctl", &[("shmid", Int), ("cmd", Int), ("buf", Ptr)]),
    ("shmdt", &[("addr", Addr)]),
    ("shmget", &[("key", Int), ("size", Size), ("flags", Flags)]),
    ("shutdown", &[("fd", Fd), ("how", How)]),
    ("sigaltstack", &[("ss", Addr), ("old_ss", Ptr)]),
    ("signalfd", &[("fd", Fd), ("mask", SigSet), ("sizemask", Size)]),
    ("signalfd4", &[("fd", Fd), ("mask", SigSet), ("sizemask", Size), ("flags", OpenFlags)]),
    ("socket", &[("domain", Domain), ("type", SockType), ("protocol", Int)]),
    ("socketpair", &[("domain", Domain), ("type", SockType), ("protocol", Int), ("fds", NewFds)]),
    (
        "splice",
        &[
            ("fd_in", Fd),
            ("off_in", U64Ptr),
            ("fd_out", Fd),
            ("off_out", U64Ptr),
            ("len", Size),
            ("flags", Flags),
        ],
    ),
    ("stat", &[("path", Path), ("stat", Stat)]),
    ("statfs", &[("path", Path), ("buf", Ptr)]),
    ("statx", &[("dirfd", DirFd), ("path", Path), ("flags", AtFlags), ("mask", Flags), ("statx", Statx)]),
    ("symlink", &[("target", Path), ("linkpath", Path)]),
    ("symlinkat", &[("target", Path), ("newdirfd", DirFd), ("linkpath", Path)]),
    ("sync", &[]),
    ("sync_file_range", &[("fd", Fd), ("offset", Off), ("nbytes", Off), ("flags", Flags)]),
    ("syncfs", &[("fd", Fd)]),
    ("sysinfo", &[("info", Ptr)]),
    ("tee", &[("fd_in", Fd), ("fd_out", Fd), ("len", Size), ("flags", Flags)]),
    ("tgkill", &[("tgid", Pid), ("tid", Pid), ("sig", Signal)]),
    ("time", &[("tloc", Ptr)]),
    ("timer_create", &[("clock", Clock), ("sevp", Ptr), ("timerid", U32Ptr)]),
    ("timer_delete", &[("timerid", Int)]),
    ("timer_settime", &[("timerid", Int), ("flags", Flags), ("new_value", Itimerspec), ("old_value", Ptr)]),
    ("timerfd_create", &[("clock", Clock), ("flags", OpenFlags)]),
    ("timerfd_gettime", &[("fd", Fd), ("value", Ptr)]),
    ("timerfd_settime", &[("fd", Fd), ("flags", Flags), ("new_value", Itimerspec), ("old_value", Ptr)]),
    ("times", &[("buf", Ptr)]),
    ("tkill", &[("tid", Pid), ("sig", Signal)]),
    ("truncate", &[("path", Path), ("length", Off)]),
    ("umask", &[("mask", Mode)]),
    ("umount2", &[("target", Path), ("flags", Flags)]),
    ("uname", &[("buf", Ptr)]),
    ("unlink", &[("path", Path)]),
    ("unlinkat", &[("dirfd", DirFd), ("path", Path), ("flags", AtFlags)]),
    ("unshare", &[("flags", CloneFlags)]),
    ("utime", &[("path", Path), ("times", Ptr)]),
    ("utimensat", &[("dirfd", DirFd), ("path", Path), ("times", Ptr), ("flags", AtFlags)]),
    ("utimes", &[("path", Path), ("times", Ptr)]),
    ("vfork", &[]),
    ("vmsplice", &[("fd", Fd), ("iov", Iov), ("iovcnt", UInt), ("flags", Flags)]),
    ("wait4", &[("pid", Pid), ("status", U32Ptr), ("options", Flags), ("rusage", Ptr)]),
    ("waitid", &[("idtype", Int), ("id", Pid), ("info", Ptr), ("options", Flags), ("rusage", Ptr)]),
    ("write", &[("fd", Fd), ("buf", Ptr), ("count", Size)]),
    ("writev", &[("fd", Fd), ("iov", Iov), ("iovcnt", UInt)]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_real_calls() {
        assert!(ARGS.windows(2).all(|w| w[0].0 < w[1].0));
        for (name, args) in ARGS {
            assert!(number(Abi::X86_64, name).is_some(), "{name} is no x86-64 call");
            assert!(args.len() <= 6, "{name}");
        }
    }

    #[test]
    fn one_number_is_two_calls_in_two_tables() {
        assert_eq!(name(Sysno { abi: Abi::X86_64, nr: 20 }), Some("writev"));
        assert_eq!(name(Sysno { abi: Abi::I386, nr: 20 }), Some("getpid"));
        assert_eq!(name(Sysno { abi: Abi::X86_64, nr: 9999 }), None);
    }
}
