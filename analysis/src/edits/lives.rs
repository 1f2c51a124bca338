//! What signals do to processes, and which threads those have.

use ctrace_format::syscalls::Call;
use ctrace_format::{Detail, Event, Known, ProcessKind, Snapshot, Syscall, TaskId, Tgid};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

// asm-generic/signal.h, as x86-64 and aarch64 have them.
const SIGKILL: u32 = 9;
const SIGCHLD: u32 = 17;
const SIGCONT: u32 = 18;
const SIGSTOP: u32 = 19;
const SIGTTOU: u32 = 22;
const SIGURG: u32 = 23;
const SIGWINCH: u32 = 28;
/// `SA_RESETHAND`.
const ONCE: u64 = 0x8000_0000;
/// `rt_sigprocmask`.
const SIG_BLOCK: u64 = 0;
const SIG_UNBLOCK: u64 = 1;
/// What [`Detail::SigAction`] says.
const DEFAULT: u8 = 0;
const IGNORES: u8 = 1;

/// The effect of a signal on a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It is ignored, or it waits until it is not blocked any more.
    None,
    /// A handler takes it.
    Handled,
    /// The process ends.
    Ends,
}

/// The signals that stop a process unless it handles or ignores them.
pub(crate) fn stops(signo: u32) -> bool {
    (SIGSTOP..=SIGTTOU).contains(&signo)
}

fn bit(signo: u32) -> u64 {
    signo.checked_sub(1).and_then(|at| 1_u64.checked_shl(at)).unwrap_or(0)
}

/// Signals of a process.
#[derive(Debug, Clone, Copy, Default)]
struct Actions {
    caught: u64,
    /// Caught once, and not again.
    once: u64,
    ignored: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lives {
    actions: FxHashMap<Tgid, Actions>,
    blocked: FxHashMap<u32, u64>,
    /// Sent, and blocked.
    held: FxHashMap<u32, u64>,
    /// By id: a thread that takes another name is another task of the dictionary.
    threads: FxHashMap<Tgid, BTreeMap<u32, TaskId>>,
}

impl Lives {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let mut this = Self::default();
        for process in &snapshot.processes {
            let (caught, ignored) = (process.sig_caught, process.sig_ignored);
            this.actions.insert(process.tgid, Actions { caught, once: 0, ignored });
            this.blocked.extend(process.threads.iter().map(|thread| (thread.tid.0, thread.sig_blocked)));
        }
        this
    }

    /// Takes an event. A signal that was held back and is not any more is returned: its thread is that of the event.
    pub(super) fn event(&mut self, event: &Event, words: &(impl Known + ?Sized)) -> Option<u32> {
        let task = event.task()?;
        let def = words.task_def(task)?;
        let (tid, tgid) = (def.tid.0, def.tgid);
        self.threads.entry(tgid).or_default().insert(tid, task);
        match event {
            Event::Syscall(call) => return self.call(call, tid, tgid),
            Event::Process(process) => match process.kind {
                ProcessKind::Fork { child } => {
                    let child_def = words.task_def(child)?;
                    let mask = self.blocked.get(&tid).copied().unwrap_or(0);
                    self.blocked.insert(child_def.tid.0, mask);
                    self.held.remove(&child_def.tid.0);
                    if child_def.tgid != tgid {
                        self.threads.remove(&child_def.tgid);
                        let actions = self.actions.get(&tgid).copied().unwrap_or_default();
                        self.actions.insert(child_def.tgid, actions);
                    }
                    self.threads.entry(child_def.tgid).or_default().insert(child_def.tid.0, child);
                }
                ProcessKind::Exec { .. } => {
                    // What was caught has its default again (`flush_signal_handlers`, kernel/signal.c).
                    let actions = self.actions.entry(tgid).or_default();
                    (actions.caught, actions.once) = (0, 0);
                    self.threads.insert(tgid, BTreeMap::from([(tid, task)]));
                }
                ProcessKind::Exit { group_dead: true, .. } => {
                    self.threads.remove(&tgid);
                }
                ProcessKind::Exit { .. } => {
                    if let Some(threads) = self.threads.get_mut(&tgid) {
                        threads.remove(&tid);
                    }
                }
                _ => {}
            },
            _ => {}
        }
        None
    }

    fn call(&mut self, call: &Syscall, tid: u32, tgid: Tgid) -> Option<u32> {
        if call.ret != 0 {
            return None;
        }
        match Call::of(call.sysno) {
            Call::RtSigaction => {
                let action = call.details.iter().find_map(|detail| match detail {
                    Detail::SigAction { handler, flags, .. } => Some((*handler, *flags)),
                    _ => None,
                });
                let (handler, flags) = action?;
                let signal = bit(call.args[0] as u32);
                let actions = self.actions.entry(tgid).or_default();
                let put =
                    |set: &mut u64, is_in: bool| *set = if is_in { *set | signal } else { *set & !signal };
                let catches = handler != DEFAULT && handler != IGNORES;
                put(&mut actions.ignored, handler == IGNORES);
                put(&mut actions.caught, catches);
                put(&mut actions.once, catches && flags & ONCE != 0);
                None
            }
            Call::RtSigprocmask => {
                let set = call.details.iter().find_map(|detail| match detail {
                    Detail::Value { arg: 1, value } => Some(*value),
                    _ => None,
                })?;
                let mask = self.blocked.entry(tid).or_default();
                *mask = match call.args[0] {
                    SIG_BLOCK => *mask | set,
                    SIG_UNBLOCK => *mask & !set,
                    _ => set,
                };
                let free = self.held.get(&tid).copied().unwrap_or(0) & !*mask;
                (free != 0).then(|| {
                    self.held.entry(tid).and_modify(|held| *held &= !free);
                    free.trailing_zeros() + 1
                })
            }
            _ => None,
        }
    }

    /// Sends a thread a signal.
    pub(super) fn strike(&mut self, tid: u32, tgid: Tgid, signo: u32) -> Effect {
        let signal = bit(signo);
        let is_forced = matches!(signo, SIGKILL | SIGSTOP);
        let actions = self.actions.entry(tgid).or_default();
        if !is_forced && actions.ignored & signal != 0 {
            return Effect::None;
        }
        if !is_forced && self.blocked.get(&tid).is_some_and(|mask| mask & signal != 0) {
            *self.held.entry(tid).or_default() |= signal;
            return Effect::None;
        }
        if !is_forced && actions.caught & signal != 0 {
            if actions.once & signal != 0 {
                actions.caught &= !signal;
            }
            return Effect::Handled;
        }
        match signo {
            SIGCHLD | SIGCONT | SIGURG | SIGWINCH => Effect::None,
            signo if stops(signo) => Effect::None,
            _ => Effect::Ends,
        }
    }

    /// The threads of a process that are there, and their ids.
    pub(super) fn threads(&self, tgid: Tgid) -> impl Iterator<Item = (u32, TaskId)> {
        self.threads.get(&tgid).into_iter().flatten().map(|(tid, task)| (*tid, *task))
    }
}
