//! Names of bit sets and enumerations, by what an argument means.

use ctrace_format::linux;

/// A value and its name.
pub(crate) type Names = &'static [(u64, &'static str)];

macro_rules! names {
    ($($name:ident)*) => { &[$((linux::$name as u64, stringify!($name))),*] };
}

/// The names of the bits in `value`, joined by `|`; what has no name in hexadecimal; `zero` for no bits.
pub(crate) fn bits(value: u64, names: Names, zero: &str) -> String {
    let mut rest = value;
    let mut out = String::new();
    for (bit, name) in names {
        if *bit != 0 && rest & bit == *bit {
            rest &= !bit;
            push(&mut out, name);
        }
    }
    if rest != 0 {
        push(&mut out, &format!("{rest:#x}"));
    }
    if out.is_empty() { zero.to_owned() } else { out }
}

fn push(out: &mut String, word: &str) {
    if !out.is_empty() {
        out.push('|');
    }
    out.push_str(word);
}

/// The name of `value`, or the number.
pub(crate) fn one(value: u64, names: Names) -> String {
    find(value, names).map_or_else(|| (value as i64).to_string(), str::to_owned)
}

/// The name of `value`.
pub(crate) fn find(value: u64, names: Names) -> Option<&'static str> {
    names.iter().find(|(v, _)| *v == value).map(|(_, n)| *n)
}

/// `open` flags: access mode and bits.
pub(crate) fn open(value: u64) -> String {
    const BITS: Names = names![
        O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_SYNC O_DSYNC O_ASYNC O_DIRECT O_TMPFILE O_DIRECTORY
        O_NOFOLLOW O_NOATIME O_CLOEXEC O_PATH
    ];
    // On 64-bit machines nobody has to ask for it, yet 32-bit calls pass it (include/uapi/asm-generic/fcntl.h).
    const LARGEFILE: u64 = 0o100_000;
    let mode = match value & 3 {
        0 => "O_RDONLY",
        1 => "O_WRONLY",
        2 => "O_RDWR",
        _ => "O_ACCMODE",
    };
    let rest = value & !3 & !LARGEFILE;
    if rest == 0 { mode.to_owned() } else { format!("{mode}|{}", bits(rest, BITS, "0")) }
}

pub(crate) const FD: Names = names![O_NONBLOCK O_CLOEXEC];
pub(crate) const EVENTFD: Names = names![EFD_SEMAPHORE EFD_NONBLOCK EFD_CLOEXEC];
pub(crate) const AT: Names = names![AT_SYMLINK_NOFOLLOW AT_SYMLINK_FOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH AT_STATX_FORCE_SYNC AT_STATX_DONT_SYNC];
pub(crate) const AT_UNLINK: Names = names![AT_REMOVEDIR];
pub(crate) const AT_ACCESS: Names = names![AT_EACCESS AT_SYMLINK_NOFOLLOW AT_EMPTY_PATH];
pub(crate) const PROT: Names = names![PROT_READ PROT_WRITE PROT_EXEC PROT_GROWSDOWN PROT_GROWSUP];
pub(crate) const MAP_BITS: Names = names![
    MAP_FIXED MAP_ANONYMOUS MAP_GROWSDOWN MAP_DENYWRITE MAP_EXECUTABLE MAP_LOCKED MAP_NORESERVE MAP_POPULATE
    MAP_NONBLOCK MAP_STACK MAP_HUGETLB MAP_SYNC MAP_FIXED_NOREPLACE
];

/// `mmap` flags: sharing and bits.
pub(crate) fn map(value: u64) -> String {
    let sharing = match value & 3 {
        1 => "MAP_SHARED",
        2 => "MAP_PRIVATE",
        3 => "MAP_SHARED_VALIDATE",
        _ => "0",
    };
    let rest = value & !3;
    if rest == 0 { sharing.to_owned() } else { format!("{sharing}|{}", bits(rest, MAP_BITS, "0")) }
}

pub(crate) const MSG: Names = names![
    MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_CTRUNC MSG_TRUNC MSG_DONTWAIT MSG_EOR MSG_WAITALL MSG_FIN MSG_SYN MSG_CONFIRM
    MSG_RST MSG_ERRQUEUE MSG_NOSIGNAL MSG_MORE MSG_WAITFORONE MSG_FASTOPEN MSG_CMSG_CLOEXEC
];
pub(crate) const DOMAIN: Names = names![
    AF_UNSPEC AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_ALG AF_VSOCK AF_BLUETOOTH AF_CAN AF_KEY AF_XDP
];
pub(crate) const SOCK: Names = names![SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_RDM SOCK_SEQPACKET SOCK_DCCP];
pub(crate) const SOCK_BITS: Names = names![SOCK_NONBLOCK SOCK_CLOEXEC];

/// `SOCK_*` with its flags; without a type only the flags (`accept4`).
pub(crate) fn sock_type(value: u64) -> String {
    let flags = value & !0xf;
    let kind = match value & 0xf {
        0 => return bits(flags, SOCK_BITS, "0"),
        kind => one(kind, SOCK),
    };
    if flags == 0 { kind } else { format!("{kind}|{}", bits(flags, SOCK_BITS, "0")) }
}

pub(crate) const CLONE: Names = names![
    CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_PIDFD CLONE_PTRACE CLONE_VFORK CLONE_PARENT CLONE_THREAD
    CLONE_NEWNS CLONE_SYSVSEM CLONE_SETTLS CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_DETACHED CLONE_UNTRACED
    CLONE_CHILD_SETTID CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET CLONE_IO
];

/// `clone` flags, whose low byte is the exit signal.
pub(crate) fn clone(value: u64) -> String {
    let (flags, signal) = (value & !0xff, value & 0xff);
    let mut out = bits(flags, CLONE, "");
    if signal != 0 {
        push(&mut out, &super::signal(signal as u32));
    }
    if out.is_empty() { "0".to_owned() } else { out }
}

const FUTEX: Names = names![
    FUTEX_WAIT FUTEX_WAKE FUTEX_FD FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP FUTEX_LOCK_PI FUTEX_UNLOCK_PI
    FUTEX_TRYLOCK_PI FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET FUTEX_WAIT_REQUEUE_PI FUTEX_CMP_REQUEUE_PI FUTEX_LOCK_PI2
];

/// A futex operation with its flags.
pub(crate) fn futex(value: u64) -> String {
    let mut out = one(value & 0x7f, FUTEX);
    if value & 128 != 0 {
        out.push_str("_PRIVATE");
    }
    if value & 256 != 0 {
        out.push_str("|FUTEX_CLOCK_REALTIME");
    }
    out
}

pub(crate) const FCNTL: Names = names![
    F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_DUPFD_CLOEXEC F_SETPIPE_SZ
    F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_SETLEASE F_GETLEASE F_NOTIFY
];
pub(crate) const EPOLL_OP: Names = names![EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD];
pub(crate) const EPOLL: Names = names![
    EPOLLIN EPOLLPRI EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDNORM EPOLLRDBAND EPOLLWRNORM EPOLLWRBAND EPOLLMSG EPOLLRDHUP
    EPOLLEXCLUSIVE EPOLLWAKEUP EPOLLONESHOT EPOLLET
];
pub(crate) const POLL: Names = names![POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLNVAL POLLRDNORM POLLRDBAND POLLWRNORM POLLWRBAND POLLRDHUP];
pub(crate) const WHENCE: Names = names![SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE];
pub(crate) const SHUT: Names = names![SHUT_RD SHUT_WR SHUT_RDWR];
pub(crate) const CLOCK: Names = names![
    CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID CLOCK_MONOTONIC_RAW
    CLOCK_REALTIME_COARSE CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME CLOCK_REALTIME_ALARM CLOCK_BOOTTIME_ALARM CLOCK_TAI
];
pub(crate) const ACCESS: Names = names![R_OK W_OK X_OK];
pub(crate) const MADVISE: Names = names![
    MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE MADV_REMOVE MADV_DONTFORK
    MADV_DOFORK MADV_HUGEPAGE MADV_NOHUGEPAGE MADV_DONTDUMP MADV_DODUMP MADV_MERGEABLE MADV_UNMERGEABLE MADV_COLD
    MADV_PAGEOUT MADV_POPULATE_READ MADV_POPULATE_WRITE MADV_WIPEONFORK MADV_KEEPONFORK
];
pub(crate) const FADVISE: Names = names![
    POSIX_FADV_NORMAL POSIX_FADV_RANDOM POSIX_FADV_SEQUENTIAL POSIX_FADV_WILLNEED POSIX_FADV_DONTNEED
    POSIX_FADV_NOREUSE
];
pub(crate) const RLIMIT: Names = names![
    RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC RLIMIT_NOFILE
    RLIMIT_MEMLOCK RLIMIT_AS RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME
];
pub(crate) const WAIT: Names =
    names![WNOHANG WUNTRACED WCONTINUED WEXITED WNOWAIT __WALL __WCLONE __WNOTHREAD];
pub(crate) const ID_TYPE: Names = names![P_ALL P_PID P_PGID P_PIDFD];
pub(crate) const SIG_HOW: Names = names![SIG_BLOCK SIG_UNBLOCK SIG_SETMASK];
pub(crate) const SA: Names = &[
    (1, "SA_NOCLDSTOP"),
    (2, "SA_NOCLDWAIT"),
    (4, "SA_SIGINFO"),
    (0x0400_0000, "SA_RESTORER"),
    (0x0800_0000, "SA_ONSTACK"),
    (0x1000_0000, "SA_RESTART"),
    (0x4000_0000, "SA_NODEFER"),
    (0x8000_0000, "SA_RESETHAND"),
];
pub(crate) const GETRANDOM: Names = names![GRND_NONBLOCK GRND_RANDOM];
pub(crate) const MREMAP: Names = names![MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP];
pub(crate) const MSYNC: Names = names![MS_ASYNC MS_INVALIDATE MS_SYNC];
pub(crate) const FALLOCATE: Names = names![
    FALLOC_FL_KEEP_SIZE FALLOC_FL_PUNCH_HOLE FALLOC_FL_COLLAPSE_RANGE FALLOC_FL_ZERO_RANGE FALLOC_FL_INSERT_RANGE
    FALLOC_FL_UNSHARE_RANGE
];
pub(crate) const FLOCK: Names = names![LOCK_SH LOCK_EX LOCK_NB LOCK_UN];
pub(crate) const RENAME: Names = names![RENAME_NOREPLACE RENAME_EXCHANGE RENAME_WHITEOUT];
pub(crate) const MEMFD: Names = names![MFD_CLOEXEC MFD_ALLOW_SEALING MFD_HUGETLB];
pub(crate) const SPLICE: Names = names![SPLICE_F_MOVE SPLICE_F_NONBLOCK SPLICE_F_MORE SPLICE_F_GIFT];
pub(crate) const TIMER: Names = &[(1, "TIMER_ABSTIME"), (2, "TFD_TIMER_CANCEL_ON_SET")];
pub(crate) const INOTIFY: Names = names![
    IN_ACCESS IN_MODIFY IN_ATTRIB IN_CLOSE_WRITE IN_CLOSE_NOWRITE IN_OPEN IN_MOVED_FROM IN_MOVED_TO IN_CREATE
    IN_DELETE IN_DELETE_SELF IN_MOVE_SELF IN_ONLYDIR IN_DONT_FOLLOW IN_EXCL_UNLINK IN_MASK_ADD IN_ISDIR IN_ONESHOT
];
pub(crate) const MOUNT: Names = names![
    MS_RDONLY MS_NOSUID MS_NODEV MS_NOEXEC MS_SYNCHRONOUS MS_REMOUNT MS_MANDLOCK MS_DIRSYNC MS_NOATIME MS_NODIRATIME
    MS_BIND MS_MOVE MS_REC MS_SILENT MS_UNBINDABLE MS_PRIVATE MS_SLAVE MS_SHARED MS_RELATIME MS_STRICTATIME
    MS_LAZYTIME
];
pub(crate) const UMOUNT: Names = names![MNT_FORCE MNT_DETACH MNT_EXPIRE UMOUNT_NOFOLLOW];
pub(crate) const CLOSE_RANGE: Names = names![CLOSE_RANGE_UNSHARE CLOSE_RANGE_CLOEXEC];
pub(crate) const MLOCKALL: Names = names![MCL_CURRENT MCL_FUTURE MCL_ONFAULT];
pub(crate) const STATX: Names = names![
    STATX_TYPE STATX_MODE STATX_NLINK STATX_UID STATX_GID STATX_ATIME STATX_MTIME STATX_CTIME STATX_INO STATX_SIZE
    STATX_BLOCKS STATX_BTIME STATX_MNT_ID STATX_DIOALIGN
];
pub(crate) const ARCH_PRCTL: Names = &[
    (0x1001, "ARCH_SET_GS"),
    (0x1002, "ARCH_SET_FS"),
    (0x1003, "ARCH_GET_FS"),
    (0x1004, "ARCH_GET_GS"),
    (0x1011, "ARCH_GET_CPUID"),
    (0x1012, "ARCH_SET_CPUID"),
    (0x3001, "ARCH_CET_STATUS"),
];
pub(crate) const PRCTL: Names = names![
    PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_SET_DUMPABLE PR_GET_KEEPCAPS PR_SET_KEEPCAPS PR_SET_NAME
    PR_GET_NAME PR_GET_SECCOMP PR_SET_SECCOMP PR_CAPBSET_READ PR_CAPBSET_DROP PR_SET_TIMERSLACK PR_GET_TIMERSLACK
    PR_SET_MM PR_SET_CHILD_SUBREAPER PR_GET_CHILD_SUBREAPER PR_SET_NO_NEW_PRIVS PR_GET_NO_NEW_PRIVS
    PR_GET_TID_ADDRESS PR_SET_THP_DISABLE PR_GET_THP_DISABLE PR_CAP_AMBIENT PR_SET_VMA PR_SET_PTRACER
];
pub(crate) const MEMBARRIER: Names = names![
    MEMBARRIER_CMD_QUERY MEMBARRIER_CMD_GLOBAL MEMBARRIER_CMD_PRIVATE_EXPEDITED
    MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED
];
pub(crate) const EPOLL_CREATE: Names = names![EPOLL_CLOEXEC];
pub(crate) const ITIMER: Names = names![ITIMER_REAL ITIMER_VIRTUAL ITIMER_PROF];
pub(crate) const PRIO: Names = names![PRIO_PROCESS PRIO_PGRP PRIO_USER];
pub(crate) const IPPROTO: Names =
    names![IPPROTO_IP IPPROTO_ICMP IPPROTO_TCP IPPROTO_UDP IPPROTO_IPV6 IPPROTO_ICMPV6 IPPROTO_RAW];
pub(crate) const LEVEL: Names = &[
    (linux::SOL_SOCKET as u64, "SOL_SOCKET"),
    (linux::IPPROTO_IP as u64, "SOL_IP"),
    (linux::IPPROTO_TCP as u64, "SOL_TCP"),
    (linux::IPPROTO_UDP as u64, "SOL_UDP"),
    (linux::IPPROTO_IPV6 as u64, "SOL_IPV6"),
    (linux::SOL_NETLINK as u64, "SOL_NETLINK"),
];
const SO: Names = names![
    SO_DEBUG SO_REUSEADDR SO_TYPE SO_ERROR SO_DONTROUTE SO_BROADCAST SO_SNDBUF SO_RCVBUF SO_KEEPALIVE SO_OOBINLINE
    SO_PRIORITY SO_LINGER SO_REUSEPORT SO_PASSCRED SO_PEERCRED SO_RCVLOWAT SO_SNDLOWAT SO_RCVTIMEO SO_SNDTIMEO
    SO_BINDTODEVICE SO_ATTACH_FILTER SO_DETACH_FILTER SO_PEERNAME SO_TIMESTAMP SO_ACCEPTCONN SO_PEERSEC SO_SNDBUFFORCE
    SO_RCVBUFFORCE SO_MARK SO_PROTOCOL SO_DOMAIN SO_BUSY_POLL SO_INCOMING_CPU SO_COOKIE SO_PEERPIDFD
];
const TCP: Names = names![
    TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT TCP_LINGER2 TCP_DEFER_ACCEPT
    TCP_WINDOW_CLAMP TCP_INFO TCP_QUICKACK TCP_CONGESTION TCP_USER_TIMEOUT TCP_FASTOPEN TCP_NOTSENT_LOWAT
    TCP_FASTOPEN_CONNECT TCP_ULP
];
const IP: Names = names![
    IP_TOS IP_TTL IP_HDRINCL IP_OPTIONS IP_RECVOPTS IP_PKTINFO IP_MTU_DISCOVER IP_RECVERR IP_RECVTTL IP_RECVTOS IP_MTU
    IP_FREEBIND IP_TRANSPARENT IP_MULTICAST_IF IP_MULTICAST_TTL IP_MULTICAST_LOOP IP_ADD_MEMBERSHIP
    IP_BIND_ADDRESS_NO_PORT
];
const IPV6: Names = names![
    IPV6_V6ONLY IPV6_UNICAST_HOPS IPV6_MULTICAST_IF IPV6_MULTICAST_HOPS IPV6_RECVPKTINFO IPV6_PKTINFO IPV6_RECVERR
    IPV6_MTU_DISCOVER IPV6_TCLASS
];

/// A socket option at its level.
pub(crate) fn socket_option(level: u64, option: u64) -> String {
    let level = level as u32;
    let names = match level {
        linux::SOL_SOCKET => SO,
        linux::IPPROTO_TCP => TCP,
        linux::IPPROTO_IP => IP,
        linux::IPPROTO_IPV6 => IPV6,
        _ => &[],
    };
    one(option, names)
}

const IOCTL: Names = names![
    TCGETS TCSETS TCSETSW TCSETSF TCGETA TCSBRK TCXONC TCFLSH TIOCGWINSZ TIOCSWINSZ TIOCGPGRP TIOCSPGRP TIOCSCTTY
    TIOCNOTTY TIOCSTI TIOCOUTQ FIONREAD FIONBIO FIOCLEX FIONCLEX FIOASYNC TIOCGSID TIOCGPTN TIOCSPTLCK
    TIOCGPTPEER TIOCMGET TIOCMSET TIOCEXCL TIOCNXCL FICLONE FICLONERANGE
    SIOCGIFNAME SIOCGIFCONF SIOCGIFFLAGS SIOCGIFADDR SIOCGIFNETMASK SIOCGIFMTU SIOCGIFHWADDR SIOCGIFINDEX
];

/// An `ioctl` command: its name, or direction, type, number and size as `_IOC` packs them.
pub(crate) fn ioctl(value: u64) -> String {
    let value = value & 0xffff_ffff;
    if let Some(name) = find(value, IOCTL) {
        return name.to_owned();
    }
    let (dir, size, kind, nr) = (value >> 30, (value >> 16) & 0x3fff, (value >> 8) & 0xff, value & 0xff);
    if dir == 0 && size == 0 {
        return format!("{value:#x}");
    }
    let dir = ["_IOC_NONE", "_IOC_WRITE", "_IOC_READ", "_IOC_READ|_IOC_WRITE"][dir as usize & 3];
    format!("_IOC({dir}, {kind:#x}, {nr:#x}, {size:#x})")
}

/// File type and permissions as `stat` reports them.
pub(crate) fn file_mode(mode: u32) -> String {
    let kind = match mode & linux::S_IFMT {
        linux::S_IFREG => "S_IFREG|",
        linux::S_IFDIR => "S_IFDIR|",
        linux::S_IFLNK => "S_IFLNK|",
        linux::S_IFCHR => "S_IFCHR|",
        linux::S_IFBLK => "S_IFBLK|",
        linux::S_IFIFO => "S_IFIFO|",
        linux::S_IFSOCK => "S_IFSOCK|",
        _ => "",
    };
    format!("{kind}0{:o}", mode & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_read_as_strace_prints_them() {
        assert_eq!(open(0), "O_RDONLY");
        assert_eq!(
            open(u64::from(linux::O_WRONLY | linux::O_CREAT | linux::O_CLOEXEC)),
            "O_WRONLY|O_CREAT|O_CLOEXEC"
        );
        assert_eq!(map(0x22), "MAP_PRIVATE|MAP_ANONYMOUS");
        assert_eq!(bits(5, PROT, "PROT_NONE"), "PROT_READ|PROT_EXEC");
        assert_eq!(bits(0, PROT, "PROT_NONE"), "PROT_NONE");
        assert_eq!(clone(0x0100_0011), "CLONE_CHILD_SETTID|SIGCHLD");
        assert_eq!(futex(129), "FUTEX_WAKE_PRIVATE");
        assert_eq!(sock_type(0x80001), "SOCK_STREAM|SOCK_CLOEXEC");
        assert_eq!(ioctl(0x5401), "TCGETS");
        assert_eq!(ioctl(0x8004_6601), "_IOC(_IOC_READ, 0x66, 0x1, 0x4)");
        assert_eq!(bits(0x8000_0001, EPOLL, "0"), "EPOLLIN|EPOLLET");
        assert_eq!(file_mode(0o100_644), "S_IFREG|0644");
        assert_eq!(socket_option(1, 2), "SO_REUSEADDR");
    }

    #[test]
    fn what_has_no_name_is_not_hidden() {
        assert_eq!(bits(0x1000_0001, PROT, "0"), "PROT_READ|0x10000000");
        assert_eq!(one(77, WHENCE), "77");
    }
}
