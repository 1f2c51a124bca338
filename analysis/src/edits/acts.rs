//! The changes of one call, and the events that stand for them.

use super::Injection;
use crate::fds::{Effect, effects};
use ctrace_format::syscalls::{self, Call, Family, Makes};
use ctrace_format::{
    Connection, ConnectionKind, Detail, Event, Process, ProcessKind, Signal, SockAddr, SockCookie, Syscall,
    SyscallFlags, Sysno, TaskId, Tgid, Tid,
};

// asm-generic/errno-base.h, asm-generic/errno.h
const EBADF: i64 = -9;
const ECONNABORTED: i64 = -103;
/// `SI_TKILL`, include/uapi/asm-generic/siginfo.h.
const SI_TKILL: i32 = -6;
/// Bytes are kept in millionths of what a call moved.
pub(super) const WHOLE: u64 = 1_000_000;

/// Flags of a call that a fault makes, beside the one that the caller sees: the engine marks it as its own.
pub(super) const OF_A_FAULT: SyscallFlags = SyscallFlags(SyscallFlags::ENGINE.0 | SyscallFlags::INJECTED.0);

/// Whether a call is made by a fault, and the caller does not know: the work of one that is told to have failed, the close of
/// what that made, or the sending of a signal ([`strike`]).
pub fn is_of_a_fault(call: &Syscall) -> bool {
    call.flags.contains(OF_A_FAULT)
}

/// The signal that a fault sends by a call of [`is_of_a_fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// Its number.
    pub signo: u32,
    /// It is the whole of a fault, which is counted by it.
    pub counts: bool,
    /// The process ends of it.
    pub kills: bool,
}

/// The signal that a call sends, if a fault makes it for that.
pub fn strike(call: &Syscall) -> Option<Strike> {
    let [_, _, signo, counts, kills, _] = call.args;
    let sends = is_of_a_fault(call) && Call::of(call.sysno) == Call::Tgkill;
    sends.then_some(Strike { signo: signo as u32, counts: counts != 0, kills: kills != 0 })
}

/// The way in which a call is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It is made as it was.
    Made,
    /// The result is given, and it is not made.
    Instead(i64),
    /// It is made, and its caller is told this.
    After(i64),
    /// The result is given to another such call before it.
    Before(i64),
    /// It moves so many bytes.
    Part(u64),
}

/// How an injection changes a call.
///
/// The kernel never sees a call that a seccomp filter answers. Two calls have their failures differently, as Linux has them: the
/// number of a close is free whatever that reports (`filp_flush`, fs/open.c; close(2)), `EBADF` aside; and an accept that
/// fails leaves its connection to the next one, but for `ECONNABORTED`, which says that it is gone.
pub(super) fn way(injection: &Injection, sc: Call, call: &Syscall) -> Way {
    let is_over = !call.flags.contains(SyscallFlags::NO_EXIT);
    let does = is_over && call.ret >= 0;
    let Some(result) = injection.result else {
        let keeps = injection.keeps_millionths.filter(|_| does && moves(sc) && call.ret > 1);
        return keeps.map_or(Way::Made, |keeps| {
            let part = u128::from(call.ret.unsigned_abs()) * u128::from(keeps) / u128::from(WHOLE);
            Way::Part((part as u64).clamp(1, call.ret.unsigned_abs()))
        });
    };
    let family = sc.row().family;
    let frees = sc == Call::Close && result < 0 && result != EBADF;
    let drops = family == Family::Accept && result == ECONNABORTED;
    if does && (injection.done || frees || drops) {
        return Way::After(result);
    }
    if family == Family::Accept && (does || !is_over) {
        return Way::Before(result);
    }
    Way::Instead(result)
}

/// Whether a call moves bytes that it counts in its result.
pub(crate) fn moves(sc: Call) -> bool {
    let several = matches!(sc, Call::Sendmmsg | Call::Recvmmsg);
    matches!(sc.row().family, Family::Receive | Family::Send | Family::Transfer) && !several
}

/// Why a call cannot do its work and be told to have failed.
pub(crate) fn cannot_fail_after(sc: Call, call: &Syscall) -> Option<&'static str> {
    let row = sc.row();
    let sixth = match sc {
        // Without an address, its length is not looked at.
        Call::Sendto | Call::Recvfrom => call.args[4] != 0,
        _ => row.args.is_none_or(|args| args.len() > 5),
    };
    match row.family {
        Family::Clone | Family::Exec => Some("what it makes cannot be taken back: let it fail before"),
        Family::Kill => Some("its signal would not be told from one of the engine's: let it fail before"),
        Family::Connect => Some("its other end would be there, and nobody to use it: let it fail before"),
        Family::Mmap | Family::Memory | Family::Readiness | Family::Noise => {
            Some("it leaves nothing but what its result says: let it fail before")
        }
        _ if sixth => Some(
            "all of its arguments are taken, and none is left to mark the call by which it does its work",
        ),
        _ => None,
    }
}

/// The call, answered before the kernel began with it. It is in its place in the order: it ends when it ended.
pub(super) fn answered(call: &Syscall, result: i64) -> Syscall {
    let row = Call::of(call.sysno).row();
    let mut call = call.clone();
    call.t_ns = call.t_ns.saturating_add(call.duration_ns);
    call.duration_ns = 0;
    call.ret = result;
    let seen = SyscallFlags::NO_EXIT.union(SyscallFlags::NO_ENTER).union(SyscallFlags::EMULATED);
    call.flags = call.flags.without(seen).union(SyscallFlags::FILTERED).union(SyscallFlags::INJECTED);
    if row.makes != Makes::Nothing {
        // The object is the one that it would have made.
        call.object = None;
    }
    // Whatever it would have said. A registration is an argument.
    let asks = row.family == Family::EpollCtl;
    call.details.retain(|detail| match detail {
        Detail::NewFds { .. }
        | Detail::Stat { .. }
        | Detail::Poll { .. }
        | Detail::Local { .. }
        | Detail::Created
        | Detail::CpuWait { .. } => false,
        Detail::Epoll { .. } => asks,
        _ => true,
    });
    call
}

/// The call as an engine's own, then the closes of what it made, and the one that its caller sees.
pub(super) fn after(call: &Syscall, result: i64) -> (Syscall, Vec<Event>) {
    let mut real = call.clone();
    real.flags = real.flags.union(OF_A_FAULT);
    let sc = Call::of(call.sysno);
    let mut told = answered(call, result);
    if sc == Call::Close {
        // There is nothing any more that the number stands for.
        told.object = None;
    }
    let mut then: Vec<Event> = Vec::new();
    if let Some(close) = syscalls::number(call.sysno.abi, "close") {
        let made = effects(sc, call).filter_map(Effect::taken);
        then.extend(made.map(|fd| Event::Syscall(own(call, close, [fd as u64, 0, 0, 0, 0, 0]))));
    }
    then.push(Event::Syscall(told));
    (real, then)
}

/// The call before an accept, which takes nothing out of the queue.
pub(super) fn before(call: &Syscall, result: i64) -> Syscall {
    let begins = Syscall { duration_ns: 0, ..call.clone() };
    Syscall { wait_cpu_ns: 0, blocked_ns: 0, ..answered(&begins, result) }
}

/// A call of a fault, at the end of another one.
fn own(of: &Syscall, sysno: Sysno, args: [u64; 6]) -> Syscall {
    Syscall {
        t_ns: of.t_ns.saturating_add(of.duration_ns),
        duration_ns: 0,
        sysno,
        ret: 0,
        flags: OF_A_FAULT,
        args,
        args_mask: 0x3f,
        object: None,
        details: Vec::new(),
        wait_cpu_ns: 0,
        blocked_ns: 0,
        ..*of
    }
}

/// An end of a connection is reset.
pub(super) fn reset(t_ns: u64, cookie: SockCookie, ends: &(SockAddr, SockAddr), sent: bool) -> Event {
    let (local, peer) = ends.clone();
    let kind = if sent { ConnectionKind::ResetSent } else { ConnectionKind::ResetReceived };
    Event::Connection(Connection { t_ns, cookie, task: None, local, peer, kind })
}

/// The tasks that a signal strikes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Struck {
    pub(super) t_ns: u64,
    pub(super) task: TaskId,
    pub(super) tid: Tid,
    pub(super) tgid: Tgid,
    pub(super) sysno: Sysno,
}

impl Struck {
    /// The signal on its way.
    pub(super) fn sends(&self, strike: Strike) -> Vec<Event> {
        let Some(sysno) = syscalls::number(self.sysno.abi, "tgkill") else { return Vec::new() };
        let Strike { signo, counts, kills } = strike;
        let args = [
            u64::from(self.tgid.0),
            u64::from(self.tid.0),
            u64::from(signo),
            u64::from(counts),
            u64::from(kills),
            0,
        ];
        vec![Event::Syscall(self.call(sysno, args, OF_A_FAULT)), self.signal(signo, false)]
    }

    /// A handler takes it. Nothing is known of what that would have done but that it returns.
    pub(super) fn handles(&self, signo: u32) -> Vec<Event> {
        let sigreturn = syscalls::number(self.sysno.abi, "rt_sigreturn");
        let returns = sigreturn.map(|nr| Event::Syscall(self.call(nr, [0; 6], SyscallFlags::default())));
        [self.signal(signo, true)].into_iter().chain(returns).collect()
    }

    /// A thread of the process ends of it.
    pub(super) fn ends(&self, task: TaskId, signo: u32, group_dead: bool) -> Event {
        let kind = ProcessKind::Exit { status: signo, group_dead };
        Event::Process(Process { t_ns: self.t_ns, task, kind })
    }

    /// It ends itself with this code.
    pub(super) fn exits(&self, sysno: Sysno, code: u32) -> Syscall {
        self.call(sysno, [u64::from(code), 0, 0, 0, 0, 0], SyscallFlags::NO_EXIT)
    }

    /// The signal is sent, or taken.
    pub(super) fn signal(&self, signo: u32, delivered: bool) -> Event {
        let (t_ns, task) = (self.t_ns, self.task);
        let sender = Some(task);
        Event::Signal(Signal { t_ns, task, signo, code: SI_TKILL, sender, outside: None, delivered })
    }

    fn call(&self, sysno: Sysno, args: [u64; 6], flags: SyscallFlags) -> Syscall {
        Syscall {
            t_ns: self.t_ns,
            duration_ns: 0,
            task: self.task,
            sysno,
            ret: 0,
            flags,
            args,
            args_mask: 0x3f,
            object: None,
            details: Vec::new(),
            wait_cpu_ns: 0,
            blocked_ns: 0,
        }
    }
}
