//! Locks that no value of a word tells: a semaphore or a condition that a lock is made of, a monitor of a virtual machine,
//! a lock inside of a database.
//!
//! Idle workers wait in the same calls. Who wakes them tells the two apart: work comes from somebody who does not wait
//! for it, a lock from one who waited for it. So this is a lock only if those who wait wake one another, one at a time,
//! each after it has had it for a while, nobody much more often than the others, and if there was hardly a moment in
//! which all of them waited.

use super::super::Seen;
use super::super::people::{Actor, ProcessId, RoleId};
use super::super::tally::{Series, median};
use super::MAX_LOCKS;
use super::locks::{
    Contention, FUTEX_CMD_MASK, FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_WAKE, FUTEX_WAKE_BITSET, Lock,
};
use ctrace_format::{Detail, Signal};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;

/// Waits from which on a rhythm shows.
const WAITS: u64 = 20;
const WAITERS: usize = 3;
/// A lock that is had for less is no reason to wait for long.
const HELD_NS: u64 = 300_000;
const PENDING: usize = 16;

/// Threads that wake one another.
#[derive(Debug, Default)]
struct Hands {
    contention: Contention,
    /// By thread: how often it woke another.
    wakers: FxHashMap<u32, u64>,
    wakes: u64,
    /// Several were woken at a time.
    several: u64,
    /// Times between two wakes, and how much of them the one who woke was at work.
    between: Series,
    worked_ns: u64,
    last_ns: Option<u64>,
    /// The thread that was woken last.
    woken: Option<u32>,
    /// How often that one woke the next; or waited again by then, because another was faster.
    in_turn: u64,
    /// By thread that was woken: when the next was.
    next: FxHashMap<u32, u64>,
}

impl Hands {
    fn wake(&mut self, waker: u32, t_ns: u64, since_ns: Option<u64>) {
        self.wakes += 1;
        if self.wakers.len() < 4096 {
            *self.wakers.entry(waker).or_default() += 1;
        }
        if let Some(last_ns) = self.last_ns {
            let between_ns = t_ns.saturating_sub(last_ns);
            self.between.add(last_ns, between_ns);
            self.worked_ns += between_ns.min(since_ns.map_or(u64::MAX, |s| t_ns.saturating_sub(s)));
        }
        self.last_ns = Some(t_ns);
    }

    /// One that woke another, at this time, which had begun to wait then.
    fn turn(&mut self, waker: u32, t_ns: u64, woken: u32, began_ns: u64) {
        if let Some(next_ns) = self.next.remove(&woken) {
            self.in_turn += u64::from(began_ns <= next_ns);
        }
        match self.woken {
            // It is the one who wakes, or waited again meanwhile.
            Some(before) if before == waker || before == woken => self.in_turn += 1,
            Some(before) if self.next.len() < 4096 => {
                self.next.insert(before, t_ns);
            }
            _ => {}
        }
        self.woken = Some(woken);
    }

    /// The median time for which one has it, if it is a lock.
    fn held_ns(&self) -> Option<u64> {
        let waiters = &self.contention.waiters;
        let by_waiters: u64 =
            self.wakers.iter().filter(|(tid, _)| waiters.contains(tid)).map(|(_, n)| n).sum();
        let most = self.wakers.values().max().copied().unwrap_or(0);
        let held_ns = median(&self.between.sorted());
        let is_lock = waiters.len() >= WAITERS
            && self.contention.waits.len() >= WAITS
            && by_waiters * 10 >= self.wakes * 8
            && most * 10 <= self.wakes * 6
            && self.several * 10 <= self.wakes
            && u128::from(self.worked_ns) * 10 >= u128::from(self.between.sum_ns) * 8
            && held_ns >= HELD_NS;
        is_lock.then_some(held_ns)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Handed {
    words: FxHashMap<(ProcessId, u64), Hands>,
    /// Threads of a role, each with a word of its own.
    groups: FxHashMap<(ProcessId, RoleId), Hands>,
    /// Wakes whose waiter has not been seen to return.
    pending: FxHashMap<(ProcessId, u64), VecDeque<(Actor, u64)>>,
    /// When a thread returned from its last wait.
    returned: FxHashMap<u32, u64>,
}

impl Handed {
    pub(super) fn call(&mut self, seen: &Seen<'_>) {
        // The two words of a condition are one (`__g_signals`, nptl).
        let word = (seen.actor.process, seen.s.args[0] & !7);
        if self.words.len() >= MAX_LOCKS && !self.words.contains_key(&word) {
            return;
        }
        match seen.s.args[1] & FUTEX_CMD_MASK {
            FUTEX_WAKE | FUTEX_WAKE_BITSET if seen.s.ret >= 1 => {
                let since_ns = self.returned.get(&seen.actor.tid).copied();
                let hands = self.words.entry(word).or_default();
                hands.wake(seen.actor.tid, seen.t_ns, since_ns);
                hands.several += u64::from(seen.s.ret > 1);
                if seen.s.ret == 1 {
                    let pending = self.pending.entry(word).or_default();
                    if pending.len() >= PENDING {
                        pending.pop_front();
                    }
                    pending.push_back((seen.actor, seen.t_ns));
                }
            }
            FUTEX_WAIT | FUTEX_WAIT_BITSET if seen.s.ret == 0 => {
                // One that waits for a time, at most, has something else to do then.
                if seen.s.details.iter().any(|d| matches!(d, Detail::Time { .. })) {
                    return;
                }
                let (tid, role) = (seen.actor.tid, seen.actor.role);
                let hands = self.words.entry(word).or_default();
                hands.contention.add(role, tid, seen.t_ns, seen.duration_ns);
                let pending = self.pending.get_mut(&word);
                let woke = pending.and_then(|p| {
                    let at = p.iter().position(|(_, t_ns)| *t_ns >= seen.t_ns && *t_ns <= seen.end_ns())?;
                    p.remove(at)
                });
                if let Some((waker, t_ns)) = woke {
                    let since_ns = self.returned.get(&waker.tid).copied();
                    let group = self.groups.entry((seen.actor.process, role)).or_default();
                    group.contention.add(role, tid, seen.t_ns, seen.duration_ns);
                    group.turn(waker.tid, t_ns, tid, seen.t_ns);
                    group.wake(waker.tid, t_ns, since_ns);
                }
                if self.returned.len() < 4 * MAX_LOCKS || self.returned.contains_key(&tid) {
                    self.returned.insert(tid, seen.end_ns());
                }
            }
            _ => {}
        }
    }

    /// Decides whether it is a lock: the median time for which one thread had it.
    pub(super) fn contended(&self) -> Vec<(Lock, &Contention, u64)> {
        let mut told = FxHashSet::default();
        let mut all: Vec<(Lock, &Contention, u64)> = self
            .words
            .iter()
            .filter_map(|((process, word), hands)| {
                let held_ns = hands.held_ns()?;
                told.insert((*process, hands.contention.role?));
                Some((Lock::Word(*process, *word), &hands.contention, held_ns))
            })
            .collect();
        let groups = self.groups.iter().filter(|(key, hands)| {
            // Each thread has a word of its own: that it is one lock shows in that one has it at a time.
            !told.contains(&(key.0, key.1)) && hands.in_turn * 10 >= hands.wakes * 7
        });
        all.extend(groups.filter_map(|((process, role), hands)| {
            Some((Lock::Threads(*process, *role), &hands.contention, hands.held_ns()?))
        }));
        all.sort_by_key(|x| x.0);
        all
    }
}

/// Processes that serve clients, and wake one another by signals.
#[derive(Debug, Default)]
pub(in super::super) struct Serving {
    /// Processes that ever had a request of a client, and whether they owe its answer.
    owes: FxHashMap<ProcessId, bool>,
    /// The last signal of each process, and the process that sent it.
    signalled: FxHashMap<ProcessId, (u64, Actor)>,
}

impl Serving {
    /// A process got a request of a client, or answered it.
    pub(in super::super) fn owes(&mut self, process: ProcessId, owes: bool) {
        if self.owes.len() < MAX_LOCKS || self.owes.contains_key(&process) {
            self.owes.insert(process, owes);
        }
    }

    /// A process sent another a signal.
    pub(in super::super) fn signal(&mut self, signal: &Signal, to: ProcessId, from: Actor) {
        if self.owes.contains_key(&to) && self.owes.contains_key(&from.process) && to != from.process {
            self.signalled.insert(to, (signal.t_ns, from));
        }
    }

    /// Whether a process that owed an answer waited until another, which serves somebody else, woke it: the role of both.
    pub(super) fn waited(&self, seen: &Seen<'_>) -> Option<RoleId> {
        let process = seen.actor.process;
        if !self.owes.get(&process).copied().unwrap_or(false) {
            return None;
        }
        let (t_ns, from) = self.signalled.get(&process)?;
        let woke = *t_ns >= seen.t_ns && *t_ns <= seen.end_ns();
        (woke && from.role == seen.actor.role).then_some(seen.actor.role)
    }
}
