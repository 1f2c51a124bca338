//! Locks, calls that do not return, and tasks that wait for each other.

mod circles;
mod handed;
pub(crate) mod locks;

use self::locks::{FUTEX_CMD_MASK, FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_WAIT, FUTEX_WAIT_BITSET, lock_of};
use super::attempts::attempted;
use super::people::{Actor, ProcessId, RoleId};
use super::places::{Place, Places};
use super::words::{at, count, span};
use super::{Dictionary, EventId, Facts, Finding, Kind, Level, Seen};
use ctrace_format::syscalls::{Call, Family, On};
use ctrace_format::{Object, SyscallFlags, WaitKind};
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt::Write as _;

const MAX_LOCKS: usize = 16_384;
const MAX_WAITING: usize = 65_536;
/// So long nobody waits for an answer that comes.
const LONG_WAIT_NS: u64 = 1_000_000_000;

/// The thing that a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// Something that comes when it comes: work, a time, a signal.
    Work,
    /// Something that another has.
    Lock,
    /// Anything else: it should come.
    Answer,
}

impl Waiting {
    fn is_idle(&self) -> bool {
        self.waits == Awaited::Work
    }

    fn is_lock(&self) -> bool {
        self.waits == Awaited::Lock
    }
}

/// A call that had not returned at the end.
#[derive(Debug, Clone)]
struct Waiting {
    call: Call,
    actor: Actor,
    place: Place,
    t_ns: u64,
    end_ns: u64,
    /// It began before the recording.
    always: bool,
    waits: Awaited,
    /// It waits, without a limit, on a word that only its process can change.
    private: bool,
}

/// The state of a thread at the end.
#[derive(Debug, Clone, Default)]
struct State {
    /// The scheduler's letter.
    letter: u8,
    process: Option<ProcessId>,
    since_ns: Option<i64>,
    wchan: String,
}

/// A thread waits for something that another has.
#[derive(Debug, Clone)]
struct Edge {
    what: WaitKind,
    holder: Actor,
    object: Place,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Long waits that a signal interrupted.
    cut: Vec<Waiting>,
    pub(super) locks: locks::Locks,
    waiting: Vec<Waiting>,
    states: FxHashMap<u32, State>,
    edges: FxHashMap<u32, Vec<Edge>>,
}

/// The thing that a call waits for. `place`: against what it is.
pub(crate) fn awaited(seen: &Seen<'_>, place: Place, words: &(impl Dictionary + ?Sized)) -> Awaited {
    let row = seen.call.row();
    if lock_of(seen, || place).is_some() {
        return Awaited::Lock;
    }
    // Bytes from those who may have nothing to say are work that has not come; those of a connection that we made
    // are an answer.
    let work = match seen.s.object.map(|o| words.object(o)) {
        Some(Object::Anon { .. }) => true,
        Some(Object::File { mode, .. }) => mode & 0o170_000 == 0o020_000,
        _ => false,
    };
    let idle = matches!(row.family, Family::Readiness | Family::Noise | Family::Accept)
        || matches!(row.waits, Some(On::Time | On::Signal | On::Readiness))
        || row.family == Family::Receive && work;
    if idle { Awaited::Work } else { Awaited::Answer }
}

/// The call that a thread is in.
fn waiting(seen: &Seen<'_>, places: &mut Places, words: &(impl Dictionary + ?Sized)) -> Waiting {
    let place = places.of(seen, words);
    Waiting {
        call: seen.call,
        actor: seen.actor,
        place,
        t_ns: seen.t_ns,
        end_ns: seen.end_ns(),
        always: seen.s.flags.contains(SyscallFlags::NO_ENTER),
        waits: awaited(seen, place, words),
        private: waits_privately(seen),
    }
}

/// Whether a thread waits without a limit on a word of its process's own.
fn waits_privately(seen: &Seen<'_>) -> bool {
    const FUTEX_PRIVATE_FLAG: u64 = 128;
    let limited = seen.s.details.iter().any(|d| matches!(d, ctrace_format::Detail::Time { .. }));
    seen.call == Call::Futex
        && seen.s.args[1] & FUTEX_PRIVATE_FLAG != 0
        && matches!(
            seen.s.args[1] & FUTEX_CMD_MASK,
            FUTEX_WAIT | FUTEX_WAIT_BITSET | FUTEX_LOCK_PI | FUTEX_LOCK_PI2
        )
        && (seen.s.args_mask & 8 == 0 || seen.s.args[3] == 0)
        && !limited
}

/// Whether a call that failed so was interrupted by a signal (include/linux/errno.h).
const fn is_interrupted(errno: u32) -> bool {
    matches!(errno, 4 | 512..=514 | 516)
}

impl Waits {
    pub(super) fn call(&mut self, seen: &Seen<'_>, places: &mut Places, words: &(impl Dictionary + ?Sized)) {
        if seen.duration_ns >= LONG_WAIT_NS
            && seen.s.errno().is_some_and(is_interrupted)
            && self.cut.len() < MAX_LOCKS
        {
            let waiting = waiting(seen, places, words);
            self.cut.push(waiting);
        }
        self.locks.call(seen, places, words);
    }

    /// A call had not returned when the recording, or its task, ended.
    pub(super) fn never_returned(
        &mut self,
        seen: &Seen<'_>,
        places: &mut Places,
        words: &(impl Dictionary + ?Sized),
    ) {
        if self.waiting.len() >= MAX_WAITING {
            return;
        }
        let waiting = waiting(seen, places, words);
        self.waiting.push(waiting);
    }

    /// Takes in the state of a thread at the end.
    pub(super) fn state(&mut self, actor: Actor, letter: u8, wchan: String, since_ns: Option<i64>) {
        if self.states.len() < MAX_WAITING {
            let process = Some(actor.process);
            self.states.insert(actor.tid, State { letter, process, since_ns, wchan });
        }
    }

    /// A thread waits for something that another has.
    pub(super) fn waits_for(&mut self, waiter: Actor, what: WaitKind, holder: Actor, object: Place) {
        if self.edges.len() < MAX_WAITING {
            let edges = self.edges.entry(waiter.tid).or_default();
            if edges.len() < 64 {
                edges.push(Edge { what, holder, object });
            }
        }
    }

    /// `known`: threads that wait for peers, which were told of.
    pub(super) fn findings(&self, facts: &Facts<'_>, known: &FxHashSet<u32>, out: &mut Vec<Finding>) {
        self.locks.findings(facts, out);
        let mut told = self.deadlocks(facts, out);
        told.extend(known);
        self.nobody_wakes(facts, &mut told, out);
        self.stopped(facts, &mut told, out);
        self.hangs(facts, &told, out);
        self.cut_off(facts, &told, out);
    }

    /// Processes all of whose threads wait on words that only they could change: nobody is left to wake one.
    fn nobody_wakes(&self, facts: &Facts<'_>, told: &mut FxHashSet<u32>, out: &mut Vec<Finding>) {
        let mut threads: FxHashMap<ProcessId, u64> = FxHashMap::default();
        for process in self.states.values().filter_map(|s| s.process) {
            *threads.entry(process).or_default() += 1;
        }
        let mut asleep: std::collections::BTreeMap<ProcessId, Vec<&Waiting>> =
            std::collections::BTreeMap::new();
        for waiting in self.waiting.iter().filter(|w| w.private && !told.contains(&w.actor.tid)) {
            asleep.entry(waiting.actor.process).or_default().push(waiting);
        }
        for (process, waiting) in asleep {
            let all = threads.get(&process).copied().unwrap_or(0) == waiting.len() as u64;
            if !all || facts.people.process(process).exit.is_some() {
                continue;
            }
            let Some(last) = waiting.iter().max_by_key(|w| (w.t_ns, w.actor.tid)) else { continue };
            let who = facts.people.named_process(process, facts.containers);
            let sentence = match waiting.len() {
                1 => format!(
                    "{who} has not returned from futex {}: no thread of it is left to wake it",
                    self.since(last)
                ),
                n => format!(
                    "all {} threads of {who} wait in futex, the last {}: none is left to wake another",
                    count(n as u64),
                    self.since(last)
                ),
            };
            told.extend(waiting.iter().map(|w| w.actor.tid));
            let kind = if waiting.len() > 1 { Kind::Deadlock } else { Kind::Hang };
            let mut found = Finding::new(kind, Level::Cause, super::rank::score(kind), sentence)
                .over(last.t_ns, facts.duration_ns, waiting.len() as u64)
                .by(facts.people.role_name(last.actor.role));
            found.evidence.events =
                waiting.iter().take(4).map(|w| EventId { end_ns: w.end_ns, tid: w.actor.tid }).collect();
            out.push(found);
        }
    }

    /// Processes that were stopped at the end.
    fn stopped(&self, facts: &Facts<'_>, told: &mut FxHashSet<u32>, out: &mut Vec<Finding>) {
        let mut processes: std::collections::BTreeMap<ProcessId, (u32, Option<i64>)> =
            std::collections::BTreeMap::new();
        for (tid, state) in self.states.iter().filter(|(_, s)| s.letter == b'T') {
            let Some(process) = state.process.filter(|p| facts.people.process(*p).exit.is_none()) else {
                continue;
            };
            told.insert(*tid);
            let entry = processes.entry(process).or_insert((*tid, state.since_ns));
            entry.0 = entry.0.min(*tid);
        }
        for (process, (tid, since_ns)) in processes {
            let since = match since_ns {
                Some(ns) if ns >= 0 => format!("since {}", at(ns as u64)),
                Some(ns) => format!("since {} before the recording", span(ns.unsigned_abs())),
                None => "at the end of the recording".to_owned(),
            };
            let who = facts.people.named_process(process, facts.containers);
            let sentence = format!(
                "{who} is stopped {since}: a signal stopped it (SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU) and nobody continued it"
            );
            let from_ns = since_ns.map_or(0, |ns| ns.max(0) as u64);
            out.push(
                Finding::new(Kind::Hang, Level::Cause, super::rank::score(Kind::Hang), sentence)
                    .over(from_ns, facts.duration_ns, 1)
                    .by(facts.people.process(process).comm.as_str())
                    .seen(facts.duration_ns, tid),
            );
        }
    }

    /// Calls that a process was in for long when a signal ended it: it hung, and somebody lost patience.
    fn cut_off(&self, facts: &Facts<'_>, told: &FxHashSet<u32>, out: &mut Vec<Finding>) {
        const NEAR_NS: u64 = 100_000_000;
        let mut seen = FxHashSet::default();
        for w in self.cut.iter().chain(&self.waiting) {
            let Some((ended_ns, status)) = facts.people.process(w.actor.process).exit else { continue };
            let by_signal = status & 0x7f;
            // Others of a process that goes on may have parked the thread.
            let goes_on =
                ended_ns.saturating_sub(facts.people.process(w.actor.process).last_ns) < LONG_WAIT_NS / 2;
            if w.call == Call::Futex && goes_on {
                continue;
            }
            if by_signal == 0
                || w.is_idle()
                || ended_ns.saturating_sub(w.end_ns) > NEAR_NS
                || w.end_ns.saturating_sub(w.t_ns) < LONG_WAIT_NS
            {
                continue;
            }
            if told.contains(&w.actor.tid) || !seen.insert((w.actor.role, w.call, w.place)) {
                continue;
            }
            let object = facts.places.name(w.place);
            let call = if w.is_lock() && w.call == Call::Futex {
                "futex (a lock)".to_owned()
            } else {
                attempted(w.call, object)
            };
            let sentence = format!(
                "{} had not returned from {call} {} when {} ended it",
                named_thread(facts, &w.actor),
                self.since(w),
                super::ends::signal_name(by_signal)
            );
            out.push(
                Finding::new(Kind::Hang, Level::Cause, super::rank::score(Kind::Hang), sentence)
                    .over(w.t_ns, w.end_ns, 1)
                    .by(facts.people.role_name(w.actor.role))
                    .against(object)
                    .seen(w.end_ns, w.actor.tid),
            );
        }
    }

    /// Since when a call has not returned.
    fn since(&self, waiting: &Waiting) -> String {
        let known = self.states.get(&waiting.actor.tid).and_then(|s| s.since_ns);
        match known {
            _ if !waiting.always => {
                format!("since {} ({})", at(waiting.t_ns), span(waiting.end_ns.saturating_sub(waiting.t_ns)))
            }
            Some(since) if since < 0 => {
                let before = since.unsigned_abs();
                format!(
                    "since {} before the recording ({} in all)",
                    span(before),
                    span(before + waiting.end_ns)
                )
            }
            _ => format!("since before the recording (at least {})", span(waiting.end_ns)),
        }
    }

    fn hangs(&self, facts: &Facts<'_>, circle: &FxHashSet<u32>, out: &mut Vec<Finding>) {
        const LONG_NS: u64 = 500_000_000;
        // Where nobody did anything, everybody's wait is what there is to tell.
        let active = facts.people.processes.iter().map(|p| p.calls).sum::<u64>() > self.waiting.len() as u64;
        let mut waiting: Vec<&Waiting> = self
            .waiting
            .iter()
            .filter(|w| {
                let lasted = w.end_ns.saturating_sub(w.t_ns);
                let gone = facts.people.process(w.actor.process).exit.is_some();
                !gone && !circle.contains(&w.actor.tid) && (lasted >= LONG_NS || w.always)
            })
            .collect();
        waiting.sort_by_key(|w| (w.is_idle(), w.t_ns, w.actor.tid));
        // Threads that wait alike are one finding.
        let mut alike: FxHashMap<(RoleId, Call, Place, bool), u64> = FxHashMap::default();
        for w in &waiting {
            *alike.entry((w.actor.role, w.call, w.place, w.always)).or_default() += 1;
        }
        let mut told = FxHashSet::default();
        for w in waiting {
            let key = (w.actor.role, w.call, w.place, w.always);
            if !told.insert(key) {
                continue;
            }
            // A parent that waits for a child that lives waits as long as that does.
            let child = w.call.row().family == Family::Wait;
            let idle = w.is_idle() || child || w.call.row().family == Family::Exit;
            if idle && active {
                continue;
            }
            let level = match (idle, w.is_lock(), active) {
                (true, ..) => Level::Note,
                // Threads are parked on a lock by those who have work for them later.
                (_, true, true) if w.call == Call::Futex => Level::Note,
                (_, true, _) => Level::Cause,
                _ => match w.call.row().family {
                    Family::Receive if facts.places.name(w.place) == "pipe" => {
                        if active {
                            Level::Note
                        } else {
                            Level::Warning
                        }
                    }
                    Family::Receive => {
                        if active {
                            Level::Note
                        } else {
                            Level::Warning
                        }
                    }
                    _ => Level::Cause,
                },
            };
            out.push(self.hang(facts, w, alike[&key], level));
        }
    }

    fn hang(&self, facts: &Facts<'_>, w: &Waiting, n: u64, level: Level) -> Finding {
        let mut object = facts.places.name(w.place).to_owned();
        let edges = self.edges.get(&w.actor.tid);
        if object.is_empty()
            && let Some(edge) = edges.and_then(|e| e.first())
        {
            facts.places.name(edge.object).clone_into(&mut object);
        }
        let call = if w.is_lock() && w.call == Call::Futex {
            format!(
                "futex (a lock{})",
                if object.is_empty() { String::new() } else { format!(" at {object}") }
            )
        } else {
            attempted(w.call, &object)
        };
        let who = if n > 1 {
            format!("{} threads of {}", count(n), facts.who(w.actor.role))
        } else {
            named_thread(facts, &w.actor)
        };
        let mut sentence = format!("{who} has not returned from {call} {}", self.since(w));
        if n > 1 {
            sentence = sentence.replacen(" has not", " have not", 1);
        }
        if let Some(edge) = edges.and_then(|e| e.iter().find(|e| e.holder.tid != w.actor.tid)) {
            let holder = facts.people.named_process(edge.holder.process, facts.containers);
            let _ = match edge.what {
                WaitKind::Futex | WaitKind::Flock | WaitKind::PosixLock => {
                    write!(sentence, "; {holder} holds it")
                }
                WaitKind::Pipe | WaitKind::Socket => write!(sentence, "; {holder} has the other end"),
                _ => write!(sentence, "; it waits for {holder} to end"),
            };
        }
        if let Some(state) = self.states.get(&w.actor.tid).filter(|s| !s.wchan.is_empty() && s.wchan != "0") {
            let _ = write!(sentence, " (in the kernel: {})", state.wchan);
        }
        Finding::new(Kind::Hang, level, super::rank::score(Kind::Hang), sentence)
            .over(w.t_ns, facts.duration_ns, n)
            .by(facts.people.role_name(w.actor.role))
            .against(object)
            .seen(w.end_ns, w.actor.tid)
    }
}

/// A thread as a sentence names it.
fn named_thread(facts: &Facts<'_>, actor: &Actor) -> String {
    let process = facts.people.named_process(actor.process, facts.containers);
    if facts.people.process(actor.process).tgid == actor.tid {
        process
    } else {
        format!("{process}, thread {}", actor.tid)
    }
}
