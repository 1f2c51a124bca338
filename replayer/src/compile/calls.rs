//! Which system call an event is, as an enumeration the passes can match on: names are resolved once per number.

use ctrace_format::{Abi, Sysno, syscalls};
use rustc_hash::FxHashMap;

macro_rules! calls {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// The calls with a meaning of their own to some pass. Everything else is [`Sc::Other`] and known by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Sc { $($variant,)* Other }
        impl Sc {
            /// The call of this name.
            pub(crate) fn by_name(name: &str) -> Self {
                match name { $($name => Self::$variant,)* _ => Self::Other }
            }
        }
    };
}

calls! {
    Accept = "accept", Accept4 = "accept4", Access = "access", Alarm = "alarm", ArchPrctl = "arch_prctl",
    Bind = "bind", Brk = "brk", Chdir = "chdir", Chmod = "chmod", Chown = "chown", Clone = "clone",
    Clone3 = "clone3", ClockNanosleep = "clock_nanosleep", Close = "close", CloseRange = "close_range",
    Connect = "connect", CopyFileRange = "copy_file_range", Creat = "creat", Dup = "dup", Dup2 = "dup2", Dup3 = "dup3",
    EpollCreate = "epoll_create", EpollCreate1 = "epoll_create1", EpollCtl = "epoll_ctl", EpollPwait = "epoll_pwait",
    EpollPwait2 = "epoll_pwait2", EpollWait = "epoll_wait", Eventfd = "eventfd", Eventfd2 = "eventfd2",
    Execve = "execve", Execveat = "execveat", Exit = "exit", ExitGroup = "exit_group", Faccessat = "faccessat",
    Faccessat2 = "faccessat2", Fallocate = "fallocate", Fchdir = "fchdir", Fchmod = "fchmod", Fchmodat = "fchmodat",
    Fchownat = "fchownat", Fcntl = "fcntl", Fdatasync = "fdatasync", Flock = "flock", Fork = "fork", Fstat = "fstat", Fsync = "fsync",
    Ftruncate = "ftruncate", Futex = "futex", FutexWait = "futex_wait", FutexWake = "futex_wake",
    Futimesat = "futimesat", Getcwd = "getcwd", Getdents = "getdents",
    Getdents64 = "getdents64", Getpeername = "getpeername", Getsockname = "getsockname", Getsockopt = "getsockopt",
    Getxattr = "getxattr", InotifyAddWatch = "inotify_add_watch", InotifyInit = "inotify_init",
    InotifyInit1 = "inotify_init1", Ioctl = "ioctl", Kill = "kill", Lchown = "lchown", Lgetxattr = "lgetxattr",
    Link = "link", Linkat = "linkat", Listen = "listen", Listxattr = "listxattr", Llistxattr = "llistxattr",
    Lseek = "lseek", Lstat = "lstat", Madvise = "madvise", MemfdCreate = "memfd_create", Mkdir = "mkdir",
    Mkdirat = "mkdirat", Mknod = "mknod", Mknodat = "mknodat", Mlock = "mlock", Mmap = "mmap", Mprotect = "mprotect",
    Mremap = "mremap", Msync = "msync", Munlock = "munlock", Munmap = "munmap", Nanosleep = "nanosleep",
    Newfstatat = "newfstatat", Open = "open", Openat = "openat",
    Openat2 = "openat2", Pause = "pause", PidfdOpen = "pidfd_open", Pipe = "pipe", Pipe2 = "pipe2", Poll = "poll",
    Ppoll = "ppoll", Prctl = "prctl", Pread64 = "pread64", Preadv = "preadv", Preadv2 = "preadv2",
    Prlimit64 = "prlimit64", Pselect6 = "pselect6", Pwrite64 = "pwrite64", Pwritev = "pwritev", Pwritev2 = "pwritev2",
    Read = "read", Readahead = "readahead", Readlink = "readlink", Readlinkat = "readlinkat", Readv = "readv",
    Recvfrom = "recvfrom", Recvmmsg = "recvmmsg", Recvmsg = "recvmsg", Rename = "rename", Renameat = "renameat",
    Renameat2 = "renameat2", RestartSyscall = "restart_syscall", Rmdir = "rmdir", Rseq = "rseq",
    RtSigaction = "rt_sigaction",
    RtSigprocmask = "rt_sigprocmask", RtSigreturn = "rt_sigreturn", RtSigsuspend = "rt_sigsuspend",
    RtSigtimedwait = "rt_sigtimedwait", Select = "select", Sendfile = "sendfile", Sendmmsg = "sendmmsg",
    Sendmsg = "sendmsg", Sendto = "sendto", SetRobustList = "set_robust_list", SetTidAddress = "set_tid_address",
    Setitimer = "setitimer", Setpgid = "setpgid", Setrlimit = "setrlimit", Setsid = "setsid", Setsockopt = "setsockopt", Shutdown = "shutdown",
    Sigaltstack = "sigaltstack", Signalfd = "signalfd", Signalfd4 = "signalfd4", Socket = "socket",
    Socketpair = "socketpair", Splice = "splice", Stat = "stat", Statfs = "statfs", Statx = "statx",
    Symlink = "symlink", Symlinkat = "symlinkat", Sync = "sync", Syncfs = "syncfs", Tee = "tee", Tgkill = "tgkill",
    TimerCreate = "timer_create", TimerDelete = "timer_delete", TimerSettime = "timer_settime",
    TimerfdCreate = "timerfd_create", TimerfdSettime = "timerfd_settime", Tkill = "tkill", Truncate = "truncate",
    Umask = "umask", Unlink = "unlink", Unlinkat = "unlinkat", Utime = "utime", Utimensat = "utimensat",
    Utimes = "utimes", Vfork = "vfork", Vmsplice = "vmsplice", Wait4 = "wait4", Waitid = "waitid", Write = "write",
    Writev = "writev",
}

/// A call by number, resolved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// What the passes match on.
    pub(crate) sc: Sc,
    /// Its name, when its table has the number.
    pub(crate) name: Option<&'static str>,
    /// The number of the call of that name on the replaying host, if it has one.
    pub(crate) native: Option<u32>,
    /// What its arguments mean.
    pub(crate) args: Option<&'static [syscalls::Arg]>,
}

/// The system call table of the host this was built for.
pub(crate) const HOST: Abi = if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 };

/// Numbers seen so far, resolved.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    known: FxHashMap<Sysno, Known>,
}

impl Calls {
    /// Resolves a number.
    pub(crate) fn get(&mut self, sysno: Sysno) -> Known {
        *self.known.entry(sysno).or_insert_with(|| {
            let name = syscalls::name(sysno);
            Known {
                sc: name.map_or(Sc::Other, Sc::by_name),
                name,
                native: name.and_then(|n| syscalls::number(HOST, n)).map(|s| s.nr),
                args: name.and_then(syscalls::args),
            }
        })
    }
}

/// A short way to numbers of the host's table for calls that the compiler adds itself.
pub(crate) fn host_nr(name: &str) -> Option<u32> {
    syscalls::number(HOST, name).map(|s| s.nr)
}

/// Index of a call's argument that points to a limit of its wait.
pub(crate) fn limit_arg(sysno: Sysno) -> Option<u8> {
    match syscalls::name(sysno)? {
        "select" | "pselect6" => Some(4),
        "epoll_pwait2" => Some(3),
        "ppoll" => Some(2),
        _ => None,
    }
}

/// Index of a call's argument that limits its wait in milliseconds.
pub(crate) fn milliseconds_arg(sysno: Sysno) -> Option<usize> {
    match syscalls::name(sysno)? {
        "epoll_wait" | "epoll_pwait" => Some(3),
        "poll" => Some(2),
        _ => None,
    }
}
