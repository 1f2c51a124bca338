//! Calls that the kernel makes again by itself are one call.
//!
//! A call that a signal interrupts returns a code that no program sees (`ERESTARTSYS` and its like). If no handler runs (the
//! process was stopped and continued, or the signal did nothing), the kernel makes the call again, or goes on with it as
//! `restart_syscall`; a recorder sees two calls. The worker that makes it is stopped and continued as well, and sees none of
//! this: its program has one call, from the first entry to the last return.

use super::CompileError;
use super::source::{Delay, Hits, Moment, Source};
use ctrace_format::{
    Detail, Event, Header, Object, ObjectId, Signal, Snapshot, StrId, Syscall, SyscallFlags, TaskDef, TaskId,
    syscalls,
};
use rustc_hash::FxHashMap;

/// `ERESTARTSYS`, `ERESTARTNOINTR`, `ERESTARTNOHAND`, `ERESTART_RESTARTBLOCK` (include/linux/errno.h).
const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;
const SIGCONT: u64 = 18;
/// SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU.
const STOPS: std::ops::RangeInclusive<u32> = 19..=22;
/// Signals that are kept until it is known what they did.
const HELD_MAX: usize = 64;

/// A source whose restarted calls are whole.
pub(crate) struct Rejoined<S> {
    inner: S,
}

impl<S> Rejoined<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

/// An interrupted call, and the signals that were delivered since.
#[derive(Debug)]
struct Held {
    call: Syscall,
    signals: Vec<Signal>,
}

#[derive(Debug, Default)]
struct Rejoin {
    held: FxHashMap<TaskId, Held>,
    /// When tasks were stopped.
    stopped: FxHashMap<TaskId, u64>,
    /// When somebody inside last let somebody continue.
    continued_ns: u64,
}

type Each<'a> = &'a mut dyn FnMut(&Event) -> Result<(), CompileError>;

impl Rejoin {
    fn event(&mut self, event: &Event, each: Each<'_>) -> Result<(), CompileError> {
        match event {
            Event::Syscall(call) if !call.flags.contains(SyscallFlags::ENGINE) => self.call(call, each),
            Event::Signal(signal) if signal.delivered => {
                if STOPS.contains(&signal.signo) {
                    self.stopped.insert(signal.task, signal.t_ns);
                }
                match self.held.get_mut(&signal.task) {
                    Some(held) if held.signals.len() < HELD_MAX => {
                        held.signals.push(signal.clone());
                        Ok(())
                    }
                    _ => each(event),
                }
            }
            Event::Process(process) => {
                self.release(process.task, each)?;
                each(event)
            }
            _ => each(event),
        }
    }

    fn call(&mut self, call: &Syscall, each: Each<'_>) -> Result<(), CompileError> {
        let name = syscalls::name(call.sysno);
        let signo = match name {
            Some("tgkill" | "rt_tgsigqueueinfo") => Some(call.args[2]),
            Some("kill" | "tkill" | "rt_sigqueueinfo" | "pidfd_send_signal") => Some(call.args[1]),
            _ => None,
        };
        if signo == Some(SIGCONT) && call.ret == 0 {
            self.continued_ns = self.continued_ns.max(call.t_ns.saturating_add(call.duration_ns));
        }
        self.continued(call, each)?;
        let mut whole = None;
        if let Some(held) = self.held.get(&call.task) {
            let same = held.call.sysno == call.sysno && held.call.args == call.args;
            if name == Some("restart_syscall") || same && !call.flags.contains(SyscallFlags::NO_ENTER) {
                if let Some(held) = self.held.remove(&call.task) {
                    whole = Some(joined(held.call, call));
                    held.signals.into_iter().try_for_each(|signal| each(&Event::Signal(signal)))?;
                }
            } else {
                self.release(call.task, each)?;
            }
        }
        let whole = whole.unwrap_or_else(|| call.clone());
        if RESTARTS.contains(&whole.ret) && !whole.flags.contains(SyscallFlags::NO_EXIT) {
            self.held.insert(whole.task, Held { call: whole, signals: Vec::new() });
            return Ok(());
        }
        each(&Event::Syscall(whole))
    }

    /// Who was stopped makes calls again: if nobody inside let it, somebody outside did.
    fn continued(&mut self, call: &Syscall, each: Each<'_>) -> Result<(), CompileError> {
        let Some(stopped_ns) = self.stopped.get(&call.task).copied().filter(|at| *at <= call.t_ns) else {
            return Ok(());
        };
        self.stopped.remove(&call.task);
        if self.continued_ns >= stopped_ns {
            return Ok(());
        }
        self.continued_ns = call.t_ns;
        each(&Event::Signal(Signal {
            t_ns: call.t_ns,
            task: call.task,
            signo: SIGCONT as u32,
            code: 0,
            sender: None,
            delivered: false,
            outside: None,
        }))
    }

    /// A handler ran, or the task has ended: its call was interrupted for good.
    fn release(&mut self, task: TaskId, each: Each<'_>) -> Result<(), CompileError> {
        let Some(held) = self.held.remove(&task) else { return Ok(()) };
        each(&Event::Syscall(held.call))?;
        held.signals.into_iter().try_for_each(|signal| each(&Event::Signal(signal)))
    }
}

/// An interrupted call and its continuation.
fn joined(first: Syscall, then: &Syscall) -> Syscall {
    let end_ns = then.t_ns.saturating_add(then.duration_ns);
    let mut details = then.details.clone();
    let waited: u64 =
        first.details.iter().map(|detail| if let Detail::CpuWait { ns } = detail { *ns } else { 0 }).sum();
    match details.iter_mut().find_map(|d| if let Detail::CpuWait { ns } = d { Some(ns) } else { None }) {
        Some(ns) => *ns = ns.saturating_add(waited),
        None if waited > 0 => details.push(Detail::CpuWait { ns: waited }),
        None => {}
    }
    // What was asked is as it was first; what the call answered is with the last.
    let asked = |detail: &Detail| matches!(detail, Detail::Time { .. });
    details.retain(|detail| !asked(detail) || !first.details.iter().any(asked));
    let known: Vec<Option<u8>> = details.iter().map(Detail::arg).collect();
    details.extend(first.details.into_iter().filter(|d| d.arg().is_some() && !known.contains(&d.arg())));
    details.sort_by_key(|detail| detail.arg().unwrap_or(u8::MAX));
    Syscall {
        duration_ns: end_ns.saturating_sub(first.t_ns),
        ret: then.ret,
        flags: first.flags.union(then.flags),
        object: then.object.or(first.object),
        details,
        ..first
    }
}

impl<S: Source> Source for Rejoined<S> {
    fn header(&self) -> &Header {
        self.inner.header()
    }
    fn snapshot(&self) -> &Snapshot {
        self.inner.snapshot()
    }
    fn str(&self, id: StrId) -> &[u8] {
        self.inner.str(id)
    }
    fn task(&self, id: TaskId) -> &TaskDef {
        self.inner.task(id)
    }
    fn tasks(&self) -> &[TaskDef] {
        self.inner.tasks()
    }
    fn object(&self, id: ObjectId) -> &Object {
        self.inner.object(id)
    }
    fn end_ns(&self) -> u64 {
        self.inner.end_ns()
    }
    fn file_bytes(&self) -> u64 {
        self.inner.file_bytes()
    }
    fn began_in(&self) -> Option<Vec<u8>> {
        self.inner.began_in()
    }
    fn delay(&self, call: &Syscall) -> Option<Delay> {
        self.inner.delay(call)
    }
    fn hits(&self, task: TaskId, at: Moment) -> Option<Hits> {
        self.inner.hits(task, at)
    }
    fn for_each(&self, each: &mut dyn FnMut(&Event) -> Result<(), CompileError>) -> Result<(), CompileError> {
        let mut rejoin = Rejoin::default();
        self.inner.for_each(&mut |event| rejoin.event(event, each))?;
        let mut left: Vec<(u64, TaskId)> = rejoin.held.values().map(|h| (h.call.t_ns, h.call.task)).collect();
        left.sort_unstable();
        left.into_iter().try_for_each(|(_, task)| rejoin.release(task, each))
    }
}
