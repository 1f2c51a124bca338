//! Classes of calls, by strace's names.

use ctrace_format::syscalls::{self, Kind, List};

/// A class of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallClass {
    File,
    Desc,
    Net,
    Process,
    Memory,
    Signal,
    Ipc,
    Poll,
    Time,
    Creds,
    Stat,
    Lstat,
    Fstat,
    AnyStat,
    Statfs,
    Fstatfs,
    AnyStatfs,
    Pure,
    Clock,
}

/// Their names, without the `%` before them.
pub(super) const CLASSES: &[(&str, CallClass)] = &[
    ("file", CallClass::File),
    ("desc", CallClass::Desc),
    ("net", CallClass::Net),
    ("network", CallClass::Net),
    ("process", CallClass::Process),
    ("memory", CallClass::Memory),
    ("signal", CallClass::Signal),
    ("ipc", CallClass::Ipc),
    ("poll", CallClass::Poll),
    ("time", CallClass::Time),
    ("creds", CallClass::Creds),
    ("stat", CallClass::Stat),
    ("lstat", CallClass::Lstat),
    ("fstat", CallClass::Fstat),
    ("%stat", CallClass::AnyStat),
    ("statfs", CallClass::Statfs),
    ("fstatfs", CallClass::Fstatfs),
    ("%statfs", CallClass::AnyStatfs),
    ("pure", CallClass::Pure),
    ("clock", CallClass::Clock),
];

/// Calls that ask for, or change, who a task acts as.
const CREDS: [&str; 21] = [
    "capget",
    "capset",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getresgid",
    "getresuid",
    "getuid",
    "prctl",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setuid",
    "getxuid",
    "getxgid",
];

/// Calls that always succeed and have no arguments, as strace(1) lists them.
const PURE: [&str; 8] = ["getegid", "geteuid", "getgid", "getpgrp", "getpid", "getppid", "gettid", "getuid"];

/// Calls that read or change the clocks of the machine.
const CLOCK: [&str; 12] = [
    "adjtimex",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_getres",
    "clock_getres_time64",
    "clock_gettime",
    "clock_gettime64",
    "clock_settime",
    "clock_settime64",
    "gettimeofday",
    "settimeofday",
    "stime",
];

impl CallClass {
    /// strace's names without `%`.
    pub(super) fn legacy(name: &str) -> Option<Self> {
        Some(match name {
            "desc" => Self::Desc,
            "file" => Self::File,
            "memory" => Self::Memory,
            "process" => Self::Process,
            "signal" => Self::Signal,
            "ipc" => Self::Ipc,
            "network" => Self::Net,
            _ => return None,
        })
    }

    /// Whether the call of this name is in it.
    pub(crate) fn has(self, name: &str) -> bool {
        let row = syscalls::Call::named(name).row();
        let any = |kinds: &[Kind]| row.args.is_some_and(|args| args.iter().any(|(_, k)| kinds.contains(k)));
        match self {
            Self::File => any(&[Kind::Path]),
            Self::Desc => any(&[Kind::Fd, Kind::DirFd, Kind::NewFds, Kind::PollFds]) || row.makes.is_result(),
            Self::Net => {
                any(&[
                    Kind::SockAddr,
                    Kind::SockAddrOut,
                    Kind::MsgFlags,
                    Kind::Domain,
                    Kind::OptVal,
                    Kind::How,
                ]) || matches!(name, "listen" | "getsockopt" | "accept" | "sendfile")
            }
            Self::Process => row.listed == Some(List::Process),
            Self::Memory => row.listed == Some(List::Memory),
            Self::Signal => any(&[Kind::Signal, Kind::SigAction, Kind::SigSet]) || name.starts_with("rt_sig"),
            Self::Ipc => {
                ["shm", "sem", "msg", "mq_"].iter().any(|p| name.starts_with(p)) && !name.starts_with("msync")
                    || name.starts_with("futex")
                    || name.starts_with("pipe")
                    || name.starts_with("eventfd")
            }
            Self::Poll => row.listed == Some(List::Poll),
            Self::Time => {
                name.contains("nanosleep")
                    || name.starts_with("timer")
                    || name.starts_with("clock_")
                    || matches!(
                        name,
                        "alarm" | "setitimer" | "getitimer" | "gettimeofday" | "time" | "times" | "pause"
                    )
            }
            // In 32-bit tables their names end in 32.
            Self::Creds => CREDS.contains(&name.trim_end_matches("32")),
            Self::Pure => PURE.contains(&name.trim_end_matches("32")),
            Self::Stat => matches!(name, "stat" | "stat64" | "oldstat"),
            Self::Lstat => matches!(name, "lstat" | "lstat64" | "oldlstat"),
            Self::Fstat => {
                matches!(name, "fstat" | "fstat64" | "oldfstat" | "fstatat64" | "newfstatat" | "statx")
            }
            Self::AnyStat => [Self::Stat, Self::Lstat, Self::Fstat].iter().any(|class| class.has(name)),
            Self::Statfs => matches!(name, "statfs" | "statfs64"),
            Self::Fstatfs => matches!(name, "fstatfs" | "fstatfs64"),
            Self::AnyStatfs => Self::Statfs.has(name) || Self::Fstatfs.has(name) || name == "ustat",
            Self::Clock => CLOCK.contains(&name) || name == "time",
        }
    }
}
