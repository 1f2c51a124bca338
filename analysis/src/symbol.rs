//! What an operation is, independent of the run: call, object role, outcome, size.
//!
//! Also decides which calls are *noise*: calls whose number or order depends on scheduling in the same program on the
//! same input (lock hand-offs, readiness checks, retries of calls that would have blocked). Noise is counted and never
//! compared call by call.

use crate::names::NameId;
use ctrace_format::{Detail, Syscall, SyscallFlags};
use serde::Serialize;

/// What a call does, as far as the model treats it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Receive,
    Send,
    Transfer,
    Readiness,
    Noise,
    Memory,
    Mmap,
    Open,
    Close,
    Socket,
    Pipe,
    Connect,
    Accept,
    Bind,
    Listen,
    Shutdown,
    EpollCtl,
    Clone,
    Exec,
    Exit,
    Wait,
    Kill,
    Path,
    Fd,
    Other,
}

/// Classes for which coverage is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OpClass {
    /// Reads, writes and the like on files.
    File,
    /// Paths and metadata.
    Metadata,
    /// Bytes through sockets, pipes and terminals, as turns.
    Stream,
    /// Making and configuring sockets and pipes.
    Network,
    /// Processes and threads.
    Process,
    /// Memory.
    Memory,
    /// Signals.
    Signal,
    /// Readiness checks: never compared by number.
    Readiness,
    /// Locks and retries: never compared by number.
    Noise,
    /// Anything else.
    Other,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It succeeded.
    Ok,
    /// It failed with this errno.
    Errno(u16),
    /// A read at the end of the stream or file.
    Eof,
    /// It started something that completes later (`EINPROGRESS`).
    Started,
    /// A readiness call answered.
    Ready,
    /// A readiness call or timed wait ran out.
    Timeout,
    /// It never returned.
    InFlight,
    /// The status of an exit, as wait(2) tells it.
    Exit(u32),
}

/// An operation without time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Symbol {
    pub(crate) call: NameId,
    pub(crate) object: NameId,
    pub(crate) outcome: Outcome,
    /// Command, option, mode: what makes calls of one name different things.
    pub(crate) qualifier: u32,
    /// Position of the highest set bit of the bytes moved, plus one; 0: no size.
    pub(crate) size: u8,
    pub(crate) class: OpClass,
}

pub(crate) const EAGAIN: u16 = 11;
const EINTR: u16 = 4;
const ECHILD: u16 = 10;
const ESRCH: u16 = 3;
pub(crate) const EPIPE: u16 = 32;
const ENOTTY: u16 = 25;
const ESPIPE: u16 = 29;
const EALREADY: u16 = 114;
const EISCONN: u16 = 106;
const EINPROGRESS: u16 = 115;
const ENOTCONN: u16 = 107;
const ECONNRESET: u16 = 104;
const WNOHANG: u64 = 1;

/// Failures that a correct program meets by design or by timing: they say nothing about an incident.
pub(crate) fn is_benign(kind: Kind, errno: u16) -> bool {
    match errno {
        // 512 and up: ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK never reach the program.
        // ENOTTY, ESPIPE: asking whether something is a terminal or can seek.
        // fork and mmap mean a limit by EAGAIN.
        EAGAIN => !matches!(kind, Kind::Clone | Kind::Mmap | Kind::Memory),
        EINTR | ENOTTY | ESPIPE | 512..=514 | 516 => true,
        EINPROGRESS | EALREADY | EISCONN => kind == Kind::Connect,
        ECHILD => kind == Kind::Wait,
        _ => kind == Kind::Noise || kind == Kind::Readiness,
    }
}

/// Failures that depend on who closes or ends first.
pub(crate) fn is_race(errno: u16) -> bool {
    matches!(errno, EPIPE | ECONNRESET | ENOTCONN | ESRCH)
}

/// Looks a call up by name.
pub(crate) fn describe(name: &str) -> (Kind, OpClass) {
    use Kind as K;
    use OpClass as C;
    match name {
        "read" | "readv" | "pread64" | "preadv" | "preadv2" => (K::Receive, C::File),
        "recvfrom" | "recvmsg" | "recvmmsg" => (K::Receive, C::Stream),
        "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" => (K::Send, C::File),
        "sendto" | "sendmsg" | "sendmmsg" => (K::Send, C::Stream),
        "sendfile" | "splice" | "tee" | "copy_file_range" | "vmsplice" => (K::Transfer, C::File),
        "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait" | "epoll_pwait" | "epoll_pwait2"
        | "io_getevents" | "io_pgetevents" | "pause" | "rt_sigsuspend" => (K::Readiness, C::Readiness),
        "futex" | "futex_wait" | "futex_wake" | "futex_waitv" | "futex_requeue" | "sched_yield"
        | "membarrier" | "restart_syscall" | "rt_sigreturn" | "sigreturn" | "getcpu" | "clock_gettime"
        | "gettimeofday" | "time" | "io_uring_enter" | "rseq" | "getrandom" => (K::Noise, C::Noise),
        "brk" | "munmap" | "mprotect" | "mremap" | "madvise" | "mincore" | "mlock" | "mlock2" | "munlock"
        | "msync" => (K::Memory, C::Memory),
        "mmap" => (K::Mmap, C::Memory),
        "open" | "openat" | "openat2" | "creat" | "open_by_handle_at" => (K::Open, C::Metadata),
        "close" => (K::Close, C::File),
        "socket" => (K::Socket, C::Network),
        "pipe" | "pipe2" | "socketpair" => (K::Pipe, C::Network),
        "connect" => (K::Connect, C::Network),
        "accept" | "accept4" => (K::Accept, C::Network),
        "bind" => (K::Bind, C::Network),
        "listen" => (K::Listen, C::Network),
        "shutdown" => (K::Shutdown, C::Network),
        "setsockopt" | "getsockopt" | "getsockname" | "getpeername" => (K::Fd, C::Network),
        "epoll_ctl" => (K::EpollCtl, C::Network),
        "clone" | "clone3" | "fork" | "vfork" => (K::Clone, C::Process),
        "execve" | "execveat" => (K::Exec, C::Process),
        "exit" | "exit_group" => (K::Exit, C::Process),
        "wait4" | "waitid" | "waitpid" => (K::Wait, C::Process),
        "kill" | "tkill" | "tgkill" | "pidfd_send_signal" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo" => {
            (K::Kill, C::Signal)
        }
        "rt_sigaction" | "rt_sigprocmask" | "sigaltstack" | "rt_sigpending" | "rt_sigtimedwait" => {
            (K::Other, C::Signal)
        }
        "fsync" | "fdatasync" | "ftruncate" | "fallocate" | "lseek" | "fadvise64" | "flock"
        | "sync_file_range" | "readahead" | "dup" | "dup2" | "dup3" | "fcntl" | "ioctl" => (K::Fd, C::File),
        "fstat" | "fstatfs" | "getdents" | "getdents64" | "fchmod" | "fchown" | "fchdir" | "fgetxattr"
        | "fsetxattr" | "flistxattr" => (K::Fd, C::Metadata),
        _ => match ctrace_format::syscalls::args(name) {
            Some(args) if args.iter().any(|(_, k)| *k == ctrace_format::syscalls::Kind::Path) => {
                (K::Path, C::Metadata)
            }
            Some([(_, ctrace_format::syscalls::Kind::Fd), ..]) => (K::Fd, C::Other),
            _ => (K::Other, C::Other),
        },
    }
}

/// What makes calls of one name different things.
pub(crate) fn qualifier(name: &str, s: &Syscall) -> u32 {
    // Access mode, O_CREAT, O_TRUNC, O_APPEND, O_DIRECTORY.
    const OPEN_FLAGS: u64 = 0o3 | 0o100 | 0o1000 | 0o2000 | 0o200_000;
    if s.flags.contains(SyscallFlags::NO_ENTER) {
        return u32::MAX;
    }
    let a = |i: usize| s.args[i] as u32;
    match name {
        "open" => (s.args[1] & OPEN_FLAGS) as u32,
        "openat" => (s.args[2] & OPEN_FLAGS) as u32,
        "fcntl" | "ioctl" | "epoll_ctl" | "shutdown" | "madvise" | "flock" | "prlimit64" | "kill"
        | "tkill" | "pidfd_send_signal" => a(1),
        "lseek" | "tgkill" => a(2),
        "socket" | "socketpair" => a(0) << 8 | a(1) & 0xf,
        "setsockopt" | "getsockopt" => a(1) << 16 | a(2) & 0xffff,
        "rt_sigaction" | "prctl" | "setitimer" => a(0),
        _ => 0,
    }
}

/// The outcome, and whether the call is noise because of it.
pub(crate) fn outcome(kind: Kind, name: &str, s: &Syscall) -> (Outcome, bool) {
    if s.flags.contains(SyscallFlags::NO_EXIT) {
        // exit does not return; the status comes from the end of the task. Anything else never came back: whether a call
        // was cut off at the end of the recording depends on when that was.
        return (Outcome::InFlight, true);
    }
    if let Some(errno) = s.errno() {
        let errno = errno as u16;
        if kind == Kind::Connect && errno == EINPROGRESS {
            return (Outcome::Started, false);
        }
        let retried = matches!(errno, EAGAIN | EINTR | 512..=514 | 516);
        let noise = match kind {
            Kind::Noise | Kind::Readiness => is_benign(kind, errno),
            Kind::Connect => errno == EALREADY || retried && errno != EAGAIN,
            Kind::Clone | Kind::Mmap | Kind::Memory => retried && errno != EAGAIN,
            _ => retried,
        };
        return (Outcome::Errno(errno), noise);
    }
    match kind {
        Kind::Readiness => {
            (if s.ret == 0 && !name.starts_with("rt_sig") { Outcome::Timeout } else { Outcome::Ready }, true)
        }
        Kind::Noise | Kind::Memory => (Outcome::Ok, true),
        Kind::Receive if s.ret == 0 && requested(s) != Some(0) => (Outcome::Eof, false),
        // Asked whether a child ended: as often as the caller liked.
        Kind::Wait => (Outcome::Ok, s.ret == 0 && name != "waitid" && s.args[2] & WNOHANG != 0),
        Kind::Fd if name == "getsockopt" && a_socket_error(s) => match value(s, 3) {
            Some(e @ 1..=4095) => (Outcome::Errno(e as u16), false),
            _ => (Outcome::Ok, false),
        },
        _ => (Outcome::Ok, false),
    }
}

/// `getsockopt(SOL_SOCKET, SO_ERROR)`: how a non-blocking connect learns its result.
fn a_socket_error(s: &Syscall) -> bool {
    s.args[1] == 1 && s.args[2] == 4
}

fn value(s: &Syscall, index: u8) -> Option<u64> {
    s.details.iter().find_map(|d| match d {
        Detail::Value { arg, value } if *arg == index => Some(*value),
        _ => None,
    })
}

/// Bytes asked for by a read, when known.
fn requested(s: &Syscall) -> Option<u64> {
    let iov = s.details.iter().find_map(|d| match d {
        Detail::Iov { bytes, .. } => Some(*bytes),
        _ => None,
    });
    iov.or_else(|| (s.args_mask & 4 != 0).then_some(s.args[2]))
}

/// The size class of a number of bytes.
pub(crate) fn size_class(bytes: u64) -> u8 {
    (64 - bytes.leading_zeros()) as u8 + 1
}

/// The result of a symbol for a person.
pub(crate) fn outcome_text(outcome: Outcome) -> String {
    match outcome {
        Outcome::Ok => "ok".to_owned(),
        Outcome::Errno(e) => {
            ctrace_format::errno::name(u32::from(e)).map_or_else(|| format!("errno {e}"), str::to_owned)
        }
        Outcome::Eof => "end of stream".to_owned(),
        Outcome::Started => "in progress".to_owned(),
        Outcome::Ready => "ready".to_owned(),
        Outcome::Timeout => "timeout".to_owned(),
        Outcome::InFlight => "never returned".to_owned(),
        Outcome::Exit(status) if status & 0x7f != 0 => format!("killed by signal {}", status & 0x7f),
        Outcome::Exit(status) => format!("status {}", status >> 8),
    }
}
