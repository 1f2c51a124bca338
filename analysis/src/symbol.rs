//! What an operation is, independent of the run: call, object role, outcome, size.
//!
//! Also decides which calls are *noise*: calls whose number or order depends on scheduling in the same program on the
//! same input (lock hand-offs, readiness checks, retries of calls that would have blocked). Noise is counted and never
//! compared call by call.

use crate::names::NameId;
use ctrace_format::syscalls::Call;
use ctrace_format::{Detail, Syscall, SyscallFlags};

pub(crate) use ctrace_format::syscalls::Family as Kind;
/// Classes for which coverage is counted apart.
pub use ctrace_format::syscalls::Topic as OpClass;

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

impl Outcome {
    /// The outcome of an exit. Whether the kernel dumped a core is up to the host (core(5)): it is left out.
    pub(crate) const fn of_end(status: u32) -> Self {
        const SIGNAL: u32 = 0x7f;
        const CORE: u32 = 0x80;
        Self::Exit(if status & SIGNAL == 0 { status } else { status & !CORE })
    }
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

/// The part of a qualifier that says: this call only learns that an attempt failed, which is told by an operation of its own.
const LEARNS: u32 = 1 << 31;

impl Symbol {
    /// It learns of a failure that is told already.
    pub(crate) const fn learning(self) -> Self {
        Self { qualifier: self.qualifier | LEARNS, ..self }
    }

    pub(crate) const fn learns(self) -> bool {
        self.qualifier != u32::MAX && self.qualifier & LEARNS != 0
    }
}

pub(crate) const EAGAIN: u16 = 11;
const EINTR: u16 = 4;
const ESRCH: u16 = 3;
pub(crate) const EPIPE: u16 = 32;
pub(crate) const EISCONN: u16 = 106;
const EALREADY: u16 = 114;
const EINPROGRESS: u16 = 115;
const ENOTCONN: u16 = 107;
const ECONNRESET: u16 = 104;
const WNOHANG: u64 = 1;

/// Failures that depend on who closes or ends first.
pub(crate) fn is_race(errno: u16) -> bool {
    matches!(errno, EPIPE | ECONNRESET | ENOTCONN | ESRCH)
}

/// What the call of this name does.
pub(crate) fn kind_of(name: &str) -> Kind {
    Call::named(name).row().family
}

/// What makes calls of one name different things.
pub(crate) fn qualifier(call: Call, s: &Syscall) -> u32 {
    // Access mode, O_CREAT, O_TRUNC, O_APPEND, O_DIRECTORY.
    const OPEN_FLAGS: u64 = 0o3 | 0o100 | 0o1000 | 0o2000 | 0o200_000;
    if s.arguments_unknown() {
        return u32::MAX;
    }
    let a = |i: usize| s.args[i] as u32;
    match call {
        Call::Open => (s.args[1] & OPEN_FLAGS) as u32,
        Call::Openat => (s.args[2] & OPEN_FLAGS) as u32,
        Call::Fcntl
        | Call::Ioctl
        | Call::EpollCtl
        | Call::Shutdown
        | Call::Madvise
        | Call::Flock
        | Call::Prlimit64
        | Call::Kill
        | Call::Tkill
        | Call::PidfdSendSignal => a(1),
        Call::Lseek | Call::Tgkill => a(2),
        Call::Socket | Call::Socketpair => a(0) << 8 | a(1) & 0xf,
        Call::Setsockopt | Call::Getsockopt => a(1) << 16 | a(2) & 0xffff,
        Call::RtSigaction | Call::Prctl | Call::Setitimer => a(0),
        _ => 0,
    }
}

/// The outcome, and whether the call is noise because of it.
pub(crate) fn outcome(kind: Kind, call: Call, s: &Syscall) -> (Outcome, bool) {
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
            Kind::Noise | Kind::Readiness => kind.is_benign(errno),
            Kind::Connect => errno == EALREADY || retried && errno != EAGAIN,
            Kind::Clone | Kind::Mmap | Kind::Memory => retried && errno != EAGAIN,
            _ => retried,
        };
        return (Outcome::Errno(errno), noise);
    }
    match kind {
        Kind::Readiness => {
            (if s.ret == 0 && call != Call::RtSigsuspend { Outcome::Timeout } else { Outcome::Ready }, true)
        }
        Kind::Noise | Kind::Memory => (Outcome::Ok, true),
        Kind::Receive if s.ret == 0 && requested(s) != Some(0) => (Outcome::Eof, false),
        // Asked whether a child ended: as often as the caller liked.
        Kind::Wait => (Outcome::Ok, s.ret == 0 && call != Call::Waitid && s.args[2] & WNOHANG != 0),
        Kind::Fd if call == Call::Getsockopt && a_socket_error(s) => match value(s, 3) {
            Some(e @ 1..=4095) => (Outcome::Errno(e as u16), false),
            _ => (Outcome::Ok, false),
        },
        _ => (Outcome::Ok, false),
    }
}

/// `getsockopt(SOL_SOCKET, SO_ERROR)`: how a non-blocking connect learns its result.
pub(crate) fn a_socket_error(s: &Syscall) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_dump_makes_no_other_end() {
        assert_eq!(Outcome::of_end(0x8b), Outcome::of_end(0x0b));
        assert_eq!(Outcome::of_end(0x8b00), Outcome::Exit(0x8b00), "the status 139 of an exit is none");
    }
}
