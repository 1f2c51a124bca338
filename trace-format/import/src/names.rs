//! Numbers of the names that strace writes: those of [`ctrace_format::linux`], and what only strace or the C library calls
//! by a name.

use ctrace_format::syscalls::Call;
use ctrace_format::{errno, linux};

/// Signals from 1 on, without their `SIG`.
const SIGNALS: [&[u8]; 31] = [
    b"HUP", b"INT", b"QUIT", b"ILL", b"TRAP", b"ABRT", b"BUS", b"FPE", b"KILL", b"USR1", b"SEGV", b"USR2",
    b"PIPE", b"ALRM", b"TERM", b"STKFLT", b"CHLD", b"CONT", b"STOP", b"TSTP", b"TTIN", b"TTOU", b"URG",
    b"XCPU", b"XFSZ", b"VTALRM", b"PROF", b"WINCH", b"IO", b"PWR", b"SYS",
];
/// `SIGRTMIN`, as the kernel counts.
const SIGRTMIN: u32 = 32;

/// Names that are not in the kernel's tables of numbers here, sorted.
const OTHERS: &[(&[u8], i64)] = &[
    (b"ARCH_GET_FS", 0x1003),
    (b"ARCH_GET_GS", 0x1004),
    (b"ARCH_SET_FS", 0x1002),
    (b"ARCH_SET_GS", 0x1001),
    (b"AT_STATX_SYNC_AS_STAT", 0),
    (b"CLD_CONTINUED", 6),
    (b"CLD_DUMPED", 3),
    (b"CLD_EXITED", 1),
    (b"CLD_KILLED", 2),
    (b"CLD_STOPPED", 5),
    (b"CLD_TRAPPED", 4),
    (b"FD_CLOEXEC", 1),
    (b"FUTEX_BITSET_MATCH_ANY", 0xffff_ffff),
    (b"FUTEX_CLOCK_REALTIME", 0x100),
    (b"FUTEX_PRIVATE_FLAG", 0x80),
    (b"F_OK", 0),
    (b"F_RDLCK", 0),
    (b"F_UNLCK", 2),
    (b"F_WRLCK", 1),
    (b"GRND_INSECURE", 4),
    (b"INT_MAX", 0x7fff_ffff),
    (b"IN_CLOEXEC", 0x80000),
    (b"IN_NONBLOCK", 0x800),
    (b"LONG_MAX", i64::MAX),
    (b"MAP_FILE", 0),
    (b"MAP_PRIVATE", 2),
    (b"MAP_SHARED", 1),
    (b"MAP_SHARED_VALIDATE", 3),
    (b"NETLINK_AUDIT", 9),
    (b"NETLINK_GENERIC", 16),
    (b"NETLINK_KOBJECT_UEVENT", 15),
    (b"NETLINK_NETFILTER", 12),
    (b"NETLINK_ROUTE", 0),
    (b"NETLINK_SOCK_DIAG", 4),
    (b"NULL", 0),
    (b"O_LARGEFILE", 0x8000),
    (b"PIDFD_NONBLOCK", 0x800),
    (b"PROT_NONE", 0),
    (b"RLIM64_INFINITY", -1),
    (b"RLIM_INFINITY", -1),
    (b"RSEQ_FLAG_UNREGISTER", 1),
    (b"SA_NOCLDSTOP", 1),
    (b"SA_NOCLDWAIT", 2),
    (b"SA_NODEFER", 0x4000_0000),
    (b"SA_ONSTACK", 0x0800_0000),
    (b"SA_RESETHAND", 0x8000_0000),
    (b"SA_RESTART", 0x1000_0000),
    (b"SA_RESTORER", 0x0400_0000),
    (b"SA_SIGINFO", 4),
    (b"SEGV_ACCERR", 2),
    (b"SEGV_MAPERR", 1),
    (b"SFD_CLOEXEC", 0x80000),
    (b"SFD_NONBLOCK", 0x800),
    (b"SIG_DFL", 0),
    (b"SIG_IGN", 1),
    (b"SI_KERNEL", 0x80),
    (b"SI_QUEUE", -1),
    (b"SI_TIMER", -2),
    (b"SI_TKILL", -6),
    (b"SI_USER", 0),
    (b"SOL_IP", 0),
    (b"SOL_IPV6", 41),
    (b"SOL_TCP", 6),
    (b"SOL_UDP", 17),
    (b"SO_RCVTIMEO_OLD", 20),
    (b"SO_SNDTIMEO_OLD", 21),
    (b"SO_TIMESTAMP_OLD", 29),
    (b"STATX_ALL", 0xfff),
    (b"STATX_BASIC_STATS", 0x7ff),
    (b"TFD_CLOEXEC", 0x80000),
    (b"TFD_NONBLOCK", 0x800),
    (b"TFD_TIMER_ABSTIME", 1),
    (b"TIMER_ABSTIME", 1),
    (b"UINT_MAX", 0xffff_ffff),
    (b"ULONG_MAX", -1),
    (b"WNOHANG", 1),
    (b"WSTOPPED", 2),
];

/// The number of a signal, with or without its `SIG`.
pub(crate) fn signal(name: &[u8]) -> Option<u32> {
    let name = name.strip_prefix(b"SIG").unwrap_or(name);
    if let Some(at) = SIGNALS.iter().position(|signal| *signal == name) {
        return Some(at as u32 + 1);
    }
    if name == b"RTMIN" {
        return Some(SIGRTMIN);
    }
    let realtime = name.strip_prefix(b"RT_").or_else(|| name.strip_prefix(b"RTMIN+"))?;
    let offset: u32 = std::str::from_utf8(realtime).ok()?.parse().ok()?;
    (offset <= 32).then_some(SIGRTMIN + offset)
}

/// The number of a name.
pub(crate) fn number(name: &[u8]) -> Option<i128> {
    if let Ok(at) = OTHERS.binary_search_by(|(of, _)| (*of).cmp(name)) {
        return Some(OTHERS[at].1.into());
    }
    if let Some(number) = linux::number(name) {
        return Some(number.into());
    }
    // `FUTEX_WAIT_PRIVATE` is two names.
    if let Some(operation) = name.strip_suffix(b"_PRIVATE").filter(|_| name.starts_with(b"FUTEX_")) {
        return Some(i128::from(linux::number(operation)?) | 0x80);
    }
    // `[ECONNREFUSED]`, as the value of `SO_ERROR`.
    if name.starts_with(b"E")
        && let Some(errno) = std::str::from_utf8(name).ok().and_then(errno::number)
    {
        return Some(errno.into());
    }
    if name == b"AT_FDCWD" {
        return Some(linux::AT_FDCWD.into());
    }
    // A signal's name in a set has no prefix; nothing else is called so.
    signal(name).map(Into::into)
}

/// How a call prints its arguments, where they are not all of them in their order: which argument each of those in the line
/// is.
pub(crate) fn places(call: Call, futex_op: Option<u64>) -> &'static [usize] {
    const ALL: &[usize] = &[0, 1, 2, 3, 4, 5];
    match call {
        // The two halves of the offset are one number.
        Call::Preadv2 | Call::Pwritev2 => &[0, 1, 2, 3, 5],
        Call::Futex => match u32::try_from(futex_op.unwrap_or_default() & 0x7f) {
            Ok(linux::FUTEX_WAIT_BITSET) => &[0, 1, 2, 3, 5],
            Ok(linux::FUTEX_WAKE_BITSET) => &[0, 1, 2, 5],
            Ok(linux::FUTEX_LOCK_PI | linux::FUTEX_LOCK_PI2) => &[0, 1, 3],
            _ => ALL,
        },
        _ => ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        assert!(OTHERS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn names_have_their_numbers() {
        for (name, expected) in [
            (&b"O_CLOEXEC"[..], 0x80000),
            (b"FUTEX_WAIT_PRIVATE", 0x80),
            (b"FUTEX_WAKE_BITSET_PRIVATE", 0x8a),
            (b"SIGCHLD", 17),
            (b"CHLD", 17),
            (b"RTMIN", 32),
            (b"SIGRT_1", 33),
            (b"AT_FDCWD", -100),
            (b"SI_TKILL", -6),
        ] {
            assert_eq!(number(name), Some(expected), "{}", String::from_utf8_lossy(name));
        }
        assert_eq!(number(b"COFFEE"), None);
    }
}
