//! A recording as it would have been with faults.
//!
//! A replay with faults is compiled from this and judged against this: calls that the faults hit have failed, and what depends
//! on what these calls would have brought about has not taken place. Nobody else decides what depends on what, so that the
//! plan, the replay and the verdict agree.
//!
//! These depend on a call that is made to fail:
//!
//! - uses of the descriptors that it would have made, and of their copies; what a wait for readiness said of them;
//! - uses of a connection that it would have opened, and the other end's accept with all that follows, where that is recorded;
//! - the task that it would have made, with its children, and waits that reaped it;
//! - everything after an exec but the end of the process;
//! - uses of a name that it would have made, up to when another call makes it;
//! - reads of the bytes that it would have written, where the reader is recorded.
//!
//! A process that a signal ends does nothing more. Its parent is told of it by the wait that reaps it; ends of pipes and
//! connections that it alone had are gone, and those at the other ends read what is left, then the end (or a reset, where bytes
//! were lost), and write in vain; whom it would have accepted is refused.
//!
//! A call that does its work and is told to have failed is there twice: as the engine's own, and as what its caller sees. What it
//! made is closed at once, as the kernel leaves nothing to a caller that it tells of a failure.
//!
//! Everything else is done as recorded, and meets the real consequences. A program may have done something else in place of all
//! this (a retry, an error message): what it would have done is not known.

mod acts;
mod bits;
mod children;
mod contents;
mod files;
mod follow;
mod hangups;
mod lives;
mod names;
mod ready;
mod scout;
mod seen;

pub use acts::{Strike, is_of_a_fault, strike};
pub(crate) use acts::{cannot_fail_after, moves};
pub(crate) use lives::stops;

use acts::{Way, after, answered, before, way};
use bits::Bits;
use ctrace_format::{
    Connection, ConnectionKind, Detail, Event, Fault, Known, Snapshot, Syscall, SyscallFlags, syscalls,
};
use follow::{Decided, Fate, Follower};
use rustc_hash::{FxHashMap, FxHashSet};
use scout::Scout;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// How often the recording is gone through at most: so long is a chain of connections of which each is made because of the one
/// before it.
const ROUNDS: usize = 6;

/// The change of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Injection {
    /// The number of its event in the recording, from 0 on, in the order in which a reader yields them.
    pub ordinal: u64,
    /// The result that it gets in place of being made: −errno, or a value. `None`: it is made.
    pub result: Option<i64>,
    /// It is made all the same, and its caller is told the result.
    pub done: bool,
    /// Of the bytes that it moved it moves so many millionths, and one at least.
    pub keeps_millionths: Option<u32>,
    /// Its task gets this signal when it makes the call.
    pub signal: Option<u32>,
    /// How much later it begins, ns.
    pub enter_ns: u64,
    /// How much later its task goes on, ns.
    pub exit_ns: u64,
}

/// A hit of a rule of a plan, as the replay's trace is to tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The rule: its index in the plan.
    pub rule: u32,
    /// The call's number, from 1 on, among those that the rule counts together.
    pub nth: u64,
    /// The rule's effect on the call.
    pub fault: Fault,
}

/// The differences between a recording and what it would have been.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    injections: FxHashMap<u64, Injection>,
    /// By event: the hits of rules that its injection comes from, in the order of rules.
    told: FxHashMap<u64, Vec<Told>>,
    /// Events that do not take place.
    absent: Bits,
    /// Events that move fewer bytes, or report fewer descriptors: the result that they have.
    less: FxHashMap<u64, Less>,
    /// Calls that do not take place, by name.
    left_out: BTreeMap<&'static str, u64>,
    /// Events that come before others.
    inserted: FxHashMap<u64, Vec<Event>>,
    /// Where a recorded command began, if the recording tells.
    began_in: Vec<u8>,
    /// Calls that are not made since the signal that came with them ended their process.
    struck: FxHashSet<u64>,
}

/// A call that does part of what it did, or tells something else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Less {
    /// `None`: as it was.
    result: Option<i64>,
    /// Descriptors, and data of registrations, that it does not report.
    without: Vec<u64>,
    /// The wait status that it tells.
    status: Option<u64>,
    /// Bytes that a connection sent and received fewer.
    fewer: [u64; 2],
    /// The result does not depend on how far others have got in a replay: it is given.
    is_given: bool,
}

impl Edits {
    /// Works out what follows from injections. `each` passes all events of the recording in order; it is called
    /// a few times.
    ///
    /// # Errors
    /// The errors of `each`.
    pub fn of<E>(
        snapshot: &Snapshot,
        words: &(impl Known + ?Sized),
        injections: impl IntoIterator<Item = Injection>,
        mut each: impl FnMut(&mut dyn FnMut(&Event) -> Result<(), E>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let injections: FxHashMap<u64, Injection> = injections.into_iter().map(|i| (i.ordinal, i)).collect();
        let mut this = Self { injections, ..Self::default() };
        let has_effect =
            |i: &Injection| i.result.is_some() || i.keeps_millionths.is_some() || i.signal.is_some();
        if !this.injections.values().any(has_effect) {
            return Ok(this);
        }
        let mut scout = Scout::new(snapshot);
        let mut ordinal = 0;
        each(&mut |event| {
            scout.event(ordinal, event, this.injections.get(&ordinal), words);
            ordinal += 1;
            Ok(())
        })?;
        let mut foreseen = scout.finish();
        // A connection that is not made for want of its socket, or of its task, is not accepted either: it is foreseen the
        // next time.
        let mut edits = Self::default();
        for _ in 0..ROUNDS {
            edits = Self::default();
            let mut follower = Follower::new(snapshot, foreseen.clone());
            let mut more = foreseen.clone();
            let mut ordinal = 0;
            let mut decided = Vec::new();
            each(&mut |event| {
                let injection = this.injections.get(&ordinal);
                let fate = follower.event(ordinal, event, injection, words, &mut |fate| decided.push(fate));
                let name = match event {
                    Event::Syscall(call) if !follower.struck.contains(&ordinal) => {
                        syscalls::name(call.sysno).unwrap_or("unknown")
                    }
                    _ => "",
                };
                if matches!(fate, Fate::Absent | Fate::Refused) {
                    more.lacks(event, words);
                }
                more.connection(event);
                decided.push(Decided { ordinal, name, fate });
                decided.drain(..).for_each(|one| edits.decide(one));
                ordinal += 1;
                Ok(())
            })?;
            (edits.inserted, edits.struck) = (follower.inserted, follower.struck);
            more.holes = Some(follower.contents.holes());
            if more.is_as(&foreseen) {
                break;
            }
            foreseen = more;
        }
        edits.injections = std::mem::take(&mut this.injections);
        edits.began_in = foreseen.start;
        Ok(edits)
    }

    fn decide(&mut self, Decided { ordinal, name, fate }: Decided) {
        let was_absent = self.absent.has(ordinal);
        let is_absent = fate == Fate::Absent;
        if was_absent != is_absent {
            if is_absent {
                self.absent.set(ordinal);
            } else {
                self.absent.clear(ordinal);
            }
            if !name.is_empty() {
                let count = self.left_out.entry(name).or_default();
                *count = if is_absent { *count + 1 } else { count.saturating_sub(1) };
            }
        }
        let less = match fate {
            Fate::Other { result, without } => Less { result: Some(result), without, ..Less::default() },
            Fate::Refused => Less { result: Some(follow::ECONNREFUSED), is_given: true, ..Less::default() },
            Fate::Gone { result } => Less { result: Some(result), is_given: true, ..Less::default() },
            Fate::Reaps { child, status } => {
                Less { result: Some(child), status: Some(status), ..Less::default() }
            }
            Fate::Carries { sent, received } => Less { fewer: [sent, received], ..Less::default() },
            Fate::Stays | Fate::Absent => {
                self.less.remove(&ordinal);
                return;
            }
        };
        self.less.insert(ordinal, less);
    }

    /// With the hits of rules that the injections come from, by event.
    #[must_use]
    pub fn telling(mut self, hits: impl IntoIterator<Item = (u64, Told)>) -> Self {
        for (ordinal, told) in hits {
            self.told.entry(ordinal).or_default().push(told);
        }
        self
    }

    /// The hits of rules that the change of an event comes from; none where another fault prevents it.
    pub fn told(&self, ordinal: u64) -> &[Told] {
        if self.takes_place(ordinal) { self.told.get(&ordinal).map_or(&[], Vec::as_slice) } else { &[] }
    }

    /// How many hits of rules there are to be.
    pub fn planned_hits(&self) -> u64 {
        self.told.keys().map(|ordinal| self.told(*ordinal).len() as u64).sum()
    }

    fn takes_place(&self, ordinal: u64) -> bool {
        !self.absent.has(ordinal) || self.struck.contains(&ordinal)
    }

    /// Whether calls are delayed.
    pub fn delays(&self) -> bool {
        self.injections.values().any(|injection| injection.enter_ns > 0 || injection.exit_ns > 0)
    }

    /// Whether nothing is different.
    pub fn is_empty(&self) -> bool {
        self.injections.is_empty()
    }

    /// The directory that a recorded command began in, if the recording tells: a call that did may have failed since.
    pub fn began_in(&self) -> Option<&[u8]> {
        Some(self.began_in.as_slice()).filter(|dir| !dir.is_empty())
    }

    /// The change of an event.
    pub fn injection(&self, ordinal: u64) -> Option<&Injection> {
        self.injections.get(&ordinal)
    }

    /// Calls that do not take place because of what they depend on, by name.
    pub fn left_out(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.left_out.iter().map(|(name, count)| (*name, *count)).filter(|(_, count)| *count > 0)
    }

    /// How many faults there are to be: answers in place of calls, and calls that are only delayed, cut short, or made under a
    /// signal. One that is prevented by another is none.
    pub fn planned(&self) -> u64 {
        self.injections.keys().filter(|ordinal| self.takes_place(**ordinal)).count() as u64
    }

    /// Whether a fault is that a call moves fewer bytes.
    pub fn shortens(&self, ordinal: u64, event: &Event) -> bool {
        let (Some(injection), Event::Syscall(call)) = (self.injections.get(&ordinal), event) else {
            return false;
        };
        matches!(way(injection, syscalls::Call::of(call.sysno), call), Way::Part(_))
    }

    /// An event as it would have been, with what would have come before and after it.
    pub fn apply<'e>(&'e self, ordinal: u64, event: &'e Event) -> impl Iterator<Item = Cow<'e, Event>> {
        let before = self.inserted.get(&ordinal).into_iter().flatten().map(Cow::Borrowed);
        let (itself, then) = self.itself(ordinal, event);
        before.chain(itself).chain(then.into_iter().map(Cow::Owned))
    }

    fn itself<'e>(&self, ordinal: u64, event: &'e Event) -> (Option<Cow<'e, Event>>, Vec<Event>) {
        if self.absent.has(ordinal) {
            return (None, Vec::new());
        }
        let Event::Syscall(call) = event else {
            let carried = match (event, self.less.get(&ordinal)) {
                (Event::Connection(connection), Some(less)) => Cow::Owned(carries(connection, less)),
                _ => Cow::Borrowed(event),
            };
            return (Some(carried), Vec::new());
        };
        let one = |call| (Some(Cow::Owned(Event::Syscall(call))), Vec::new());
        let injection = self.injections.get(&ordinal);
        match injection.map(|injection| way(injection, syscalls::Call::of(call.sysno), call)) {
            Some(Way::Instead(result)) => one(answered(call, result)),
            Some(Way::After(result)) => {
                let (real, then) = after(call, result);
                (Some(Cow::Owned(Event::Syscall(real))), then)
            }
            Some(Way::Before(result)) => (one(before(call, result)).0, vec![event.clone()]),
            Some(Way::Made | Way::Part(_)) | None => match self.less.get(&ordinal) {
                Some(less) => one(reduced(call, less)),
                None => (Some(Cow::Borrowed(event)), Vec::new()),
            },
        }
    }
}

/// The connection without the bytes that were not sent.
fn carries(connection: &Connection, less: &Less) -> Event {
    let mut connection = connection.clone();
    if let ConnectionKind::Closed { bytes_sent, bytes_received, .. }
    | ConnectionKind::Sample { bytes_sent, bytes_received, .. } = &mut connection.kind
    {
        *bytes_sent = bytes_sent.saturating_sub(less.fewer[0]);
        *bytes_received = bytes_received.saturating_sub(less.fewer[1]);
    }
    Event::Connection(connection)
}

/// The call without what it does not report, with the result that leaves.
fn reduced(call: &Syscall, less: &Less) -> Syscall {
    let mut call = call.clone();
    if let Some(result) = less.result.filter(|_| less.is_given) {
        let mut call = answered(&call, result);
        call.flags = call.flags.without(SyscallFlags::INJECTED).union(SyscallFlags::EMULATED);
        return call;
    }
    if let Some(result) = less.result {
        call.ret = result;
        call.flags = call.flags.without(SyscallFlags::NO_EXIT);
    }
    let reports = |at: u64| !less.without.contains(&at);
    for detail in &mut call.details {
        match detail {
            Detail::Epoll { entries, .. } => entries.retain(|entry| reports(entry.data)),
            Detail::Poll { entries, .. } => entries.retain(|entry| reports(entry.fd as u64)),
            Detail::Value { arg: 1, value } => *value = less.status.unwrap_or(*value),
            _ => {}
        }
    }
    call
}
