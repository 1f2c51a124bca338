//! What a failure says: the one place that decides which failed calls are failures.
//!
//! Most calls that fail do so by design. A failure is *benign* when it says "not yet", "again" or "elsewhere", or comes with
//! waiting; it is *expected* when healthy programs meet it while they look around; only the rest are failures. Triggers,
//! `--failed`, counts, the live line, findings and the diff ask here.

use super::{Call, Family};
use crate::errno::{
    EACCES, EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN, EALREADY, EBADF, ECHILD, EDQUOT, EEXIST, EFBIG,
    EHOSTUNREACH, EINPROGRESS, EINTR, EINVAL, EIO, EISCONN, EISDIR, EMFILE, ENETUNREACH, ENFILE, ENODATA,
    ENOENT, ENOEXEC, ENOMEM, ENOPROTOOPT, ENOSPC, ENOSYS, ENOTCONN, ENOTDIR, ENOTEMPTY, ENOTSOCK, ENOTTY,
    ENXIO, EOPNOTSUPP, EPERM, EPROTONOSUPPORT, ERANGE, ERESTART_RESTARTBLOCK, ERESTARTNOHAND, ERESTARTSYS,
    ESPIPE, ESRCH, EXDEV,
};

/// What the failure of a call says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failing {
    /// Nothing failed: the call would have had to wait, was interrupted, or goes on.
    Benign,
    /// Probing: the program asks whether something is there, or can be done, and goes on without it.
    Expected,
    /// Something failed.
    Failure,
}

/// What else is known of a call, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// The path that it was given, that of the file behind its descriptor, or the path of the unix socket that it is about.
    pub name: &'a [u8],
    /// It is about a socket that has no connections (UDP).
    pub datagram: bool,
}

/// What a failure says when nothing is known of the call's arguments.
pub fn failing(call: Call, errno: u16) -> Failing {
    failing_on(call, errno, About::default())
}

/// What a failure says.
pub fn failing_on(call: Call, errno: u16, about: About<'_>) -> Failing {
    let family = call.row().family;
    if goes_on(family, errno) {
        Failing::Benign
    } else if is_shortage(errno) {
        // Whatever the program asks: nobody probes for that.
        if is_expected_shortage(call, errno, about) { Failing::Expected } else { Failing::Failure }
    } else if is_probe(call, family, errno, about) {
        Failing::Expected
    } else {
        Failing::Failure
    }
}

impl Family {
    /// Whether a failure is one that a correct program meets by design or by timing: it says nothing about an incident, and
    /// how often it comes follows from when things happen.
    pub const fn is_benign(self, errno: u16) -> bool {
        match errno {
            // Asking whether something is a terminal, or can seek.
            ENOTTY | ESPIPE => true,
            ECHILD => matches!(self, Self::Wait) || goes_on(self, errno),
            _ => goes_on(self, errno),
        }
    }
}

/// Whether a call of this family that returned this error only waits, or was interrupted, or goes on.
const fn goes_on(family: Family, errno: u16) -> bool {
    match errno {
        // A limit makes fork and mmap fail with EAGAIN, and a full backlog the connect of a unix socket.
        EAGAIN => !matches!(family, Family::Clone | Family::Mmap | Family::Memory | Family::Connect),
        EINTR | ERESTARTSYS..=ERESTARTNOHAND | ERESTART_RESTARTBLOCK => true,
        EINPROGRESS | EALREADY | EISCONN => matches!(family, Family::Connect),
        _ => matches!(family, Family::Noise | Family::Readiness),
    }
}

/// Something has run out, or is broken.
const fn is_shortage(errno: u16) -> bool {
    matches!(errno, EIO | ENOMEM | ENFILE | EMFILE | EFBIG | ENOSPC | EDQUOT)
}

fn is_expected_shortage(call: Call, errno: u16, about: About<'_>) -> bool {
    match errno {
        // Asking whether pages are mapped.
        ENOMEM => matches!(call, Call::Mincore | Call::Msync | Call::Madvise),
        // Whether there are protection keys, and one is left.
        ENOSPC => call.name() == "pkey_alloc",
        // The other side of a pseudo terminal is gone: so its output ends.
        EIO => about.name.starts_with(b"/dev/pt"),
        _ => false,
    }
}

fn is_probe(call: Call, family: Family, errno: u16, about: About<'_>) -> bool {
    use Call as C;
    match errno {
        ENOTTY | ESPIPE | ENOSYS | ENODATA | ESRCH => true,
        EOPNOTSUPP => !matches!(family, Family::Accept | Family::Listen | Family::Connect),
        ENOENT if asks(call) || family == Family::Exec || call == C::EpollCtl => true,
        ENOENT => matches!(family, Family::Open | Family::Connect | Family::Path) && is_searched(about.name),
        // A process that is gone or is somebody else's, for who looks at all of them.
        EACCES | EPERM if about.name.starts_with(b"/proc/") => true,
        EACCES if matches!(call, C::Access | C::Faccessat | C::Faccessat2) => true,
        EACCES | EPERM => may_be_denied(call),
        EEXIST => {
            family == Family::Open
                || matches!(call, C::Mkdir | C::Mkdirat | C::Symlink | C::Symlinkat | C::Link | C::Linkat)
                || matches!(call, C::EpollCtl | C::Mmap)
        }
        ENOTDIR | EISDIR => {
            asks(call) || matches!(family, Family::Open | Family::Path | Family::Exec | Family::Receive)
        }
        ENXIO => family == Family::Open || call == C::Lseek,
        ENOTEMPTY => matches!(call, C::Rmdir | C::Unlinkat),
        ENOEXEC => family == Family::Exec,
        EBADF => matches!(call, C::Close | C::Fcntl | C::Fstat),
        ECHILD => family == Family::Wait,
        ERANGE => matches!(call, C::Getcwd) || is_attribute(call),
        EXDEV => {
            matches!(call, C::CopyFileRange | C::Ioctl | C::Rename | C::Renameat | C::Renameat2 | C::Link)
        }
        ENOPROTOOPT => matches!(call, C::Getsockopt | C::Setsockopt),
        ENOTSOCK => matches!(call, C::Getsockopt | C::Getsockname | C::Getpeername),
        ENOTCONN => matches!(call, C::Getpeername | C::Shutdown),
        EAFNOSUPPORT | EPROTONOSUPPORT => {
            family == Family::Socket || family == Family::Connect && about.datagram
        }
        // The C library sorts addresses by whether a socket without connections finds a way to them.
        ENETUNREACH | EHOSTUNREACH | EADDRNOTAVAIL => family == Family::Connect && about.datagram,
        EINVAL => {
            matches!(call, C::Readlink | C::Readlinkat | C::Ioctl | C::Madvise | C::RtSigaction)
                || matches!(call, C::CopyFileRange | C::Fsync | C::Fdatasync)
                || is_feature(call)
        }
        _ => is_feature(call),
    }
}

/// Calls that ask whether something is there, or only want it gone.
fn asks(call: Call) -> bool {
    use Call as C;
    matches!(
        call,
        C::Access
            | C::Faccessat
            | C::Faccessat2
            | C::Stat
            | C::Lstat
            | C::Newfstatat
            | C::Statx
            | C::Statfs
            | C::Readlink
            | C::Readlinkat
            | C::Unlink
            | C::Unlinkat
            | C::Rmdir
            | C::InotifyAddWatch
    ) || is_attribute(call)
}

fn is_attribute(call: Call) -> bool {
    call.name().ends_with("xattr")
}

/// Calls by which programs ask what the kernel can do, or lets them.
fn is_feature(call: Call) -> bool {
    let name = call.name();
    matches!(
        name,
        "prctl"
            | "arch_prctl"
            | "rseq"
            | "membarrier"
            | "seccomp"
            | "userfaultfd"
            | "get_mempolicy"
            | "kcmp"
            | "pkey_alloc"
    ) || name.starts_with("io_uring_")
        || name.starts_with("landlock_")
}

/// Calls that are tried and done without: EPERM and EACCES mean that the program is nobody special.
fn may_be_denied(call: Call) -> bool {
    // A regular file cannot be waited for; runtimes try.
    call == Call::EpollCtl
        || is_feature(call)
        || matches!(
            call.name(),
            "setpriority"
                | "sched_setscheduler"
                | "sched_setparam"
                | "sched_setattr"
                | "ioprio_set"
                | "mlockall"
        )
}

/// Names that programs look for in one place after the other: libraries, catalogues, headers, modules, and the sockets of
/// name services that few hosts run.
fn is_searched(name: &[u8]) -> bool {
    const BEGIN: [&[u8]; 12] = [
        b"/etc/ld.so.",
        b"/proc/",
        b"/sys/",
        b"/usr/share/locale/",
        b"/usr/lib/locale/",
        b"/usr/share/zoneinfo/",
        b"/var/run/nscd/",
        b"/run/nscd/",
        b"/run/avahi-daemon/",
        b"/var/run/avahi-daemon/",
        b"/run/systemd/userdb/",
        b"/etc/terminfo/",
    ];
    const WITHIN: [&[u8]; 6] =
        [b".so.", b"/glibc-hwcaps/", b"/gconv/", b"/__pycache__/", b"/include/", b"/LC_MESSAGES/"];
    const END: [&[u8]; 20] = [
        b".so",
        b".a",
        b".la",
        b".o",
        b".h",
        b".hh",
        b".hpp",
        b".gch",
        b".mo",
        b".py",
        b".pyc",
        b".pth",
        b".pm",
        b".pmc",
        b".rb",
        b".node",
        b".jar",
        b".class",
        b"/pyvenv.cfg",
        b"/pybuilddir.txt",
    ];
    BEGIN.iter().any(|begin| name.starts_with(begin))
        || END.iter().any(|end| name.ends_with(end))
        || WITHIN.iter().any(|within| name.windows(within.len()).any(|part| part == *within))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno;

    fn says(call: &str, error: &str, name: &str) -> Failing {
        let errno = error.parse().unwrap_or_else(|_| errno::number(error).expect(error) as u16);
        let call = Call::named(call);
        assert_ne!(call, Call::Unlisted);
        failing_on(call, errno, About { name: name.as_bytes(), datagram: false })
    }

    #[test]
    fn what_goes_on_is_no_failure() {
        for (call, error) in [
            ("connect", "EINPROGRESS"),
            ("connect", "EALREADY"),
            ("connect", "EISCONN"),
            ("read", "EAGAIN"),
            ("accept4", "EAGAIN"),
            ("sendto", "EAGAIN"),
            ("connect", "EINTR"),
            ("wait4", "512"),
            ("clock_nanosleep", "516"),
            ("futex", "ETIMEDOUT"),
            ("epoll_wait", "EINTR"),
        ] {
            assert_eq!(says(call, error, ""), Failing::Benign, "{call} {error}");
        }
    }

    #[test]
    fn probing_is_expected() {
        for (call, error, name) in [
            ("openat", "ENOENT", "/etc/ld.so.preload"),
            ("openat", "ENOENT", "/opt/lib/libssl.so.3"),
            ("openat", "ENOENT", "/usr/share/locale/de/LC_MESSAGES/coreutils.mo"),
            ("access", "ENOENT", "/etc/suid-debug"),
            ("access", "EACCES", "/root/.config"),
            ("newfstatat", "ENOENT", "/anything"),
            ("unlink", "ENOENT", "/run/app.pid"),
            ("execve", "ENOENT", "/usr/local/bin/make"),
            ("ioctl", "ENOTTY", ""),
            ("lseek", "ESPIPE", ""),
            ("epoll_ctl", "EPERM", "/etc/config"),
            ("mkdir", "EEXIST", "/var/lib/app"),
            ("getxattr", "ENODATA", "/bin/ls"),
            ("getxattr", "EOPNOTSUPP", "/proc/1"),
            ("openat", "ENXIO", "/dev/tty"),
            ("kill", "ESRCH", ""),
            ("close", "EBADF", ""),
            ("wait4", "ECHILD", ""),
            ("connect", "ENOENT", "/var/run/nscd/socket"),
            ("readlink", "EINVAL", "/etc"),
            ("io_uring_setup", "EPERM", ""),
            ("socket", "EAFNOSUPPORT", ""),
            ("read", "EIO", "/dev/ptmx"),
        ] {
            assert_eq!(says(call, error, name), Failing::Expected, "{call} {error} {name}");
        }
        let about = About { name: b"", datagram: true };
        assert_eq!(failing_on(Call::Connect, ENETUNREACH, about), Failing::Expected);
    }

    #[test]
    fn what_breaks_things_is_a_failure() {
        for (call, error, name) in [
            ("connect", "ECONNREFUSED", ""),
            ("connect", "ETIMEDOUT", ""),
            ("connect", "ENETUNREACH", ""),
            // The backlog of a unix socket is full.
            ("connect", "EAGAIN", "/run/app.sock"),
            ("connect", "ENOENT", "/run/app.sock"),
            ("openat", "ENOENT", "/etc/app/config.yaml"),
            ("openat", "EACCES", "/etc/shadow"),
            ("openat", "EMFILE", "/usr/lib/libz.so.1"),
            ("newfstatat", "EIO", "/data"),
            ("clone", "EAGAIN", ""),
            ("mmap", "ENOMEM", ""),
            ("write", "ENOSPC", "/data/log"),
            ("write", "EPIPE", ""),
            ("recvfrom", "ECONNRESET", ""),
            ("bind", "EADDRINUSE", ""),
            ("kill", "EPERM", ""),
            ("mkdir", "ENOSPC", "/var/lib/app"),
        ] {
            assert_eq!(says(call, error, name), Failing::Failure, "{call} {error} {name}");
        }
    }
}
