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
//! Everything else is done as recorded, and meets the real consequences. A program may have done something else in place of all
//! this (a retry, an error message): what it would have done is not known.

mod bits;
mod follow;
mod ready;

use bits::Bits;
use ctrace_format::{Detail, Event, Known, Snapshot, Syscall, SyscallFlags, syscalls};
use follow::{Decided, Fate, Follower, Foreseen};
use rustc_hash::FxHashMap;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// How often the recording is gone through at most: so long is a chain of connections of which each is made because of the one
/// before it.
const ROUNDS: usize = 6;

/// The change of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Injection {
    /// The number of its event in the recording, from 0 on, in the order in which a reader yields them.
    pub ordinal: u64,
    /// The result that it gets in place of being made: −errno, or 0. `None`: it is made.
    pub result: Option<i64>,
    /// How much later it begins, ns.
    pub enter_ns: u64,
    /// How much later its task goes on, ns.
    pub exit_ns: u64,
}

/// The differences between a recording and what it would have been.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    injections: FxHashMap<u64, Injection>,
    /// Events that do not take place.
    absent: Bits,
    /// Events that move fewer bytes, or report fewer descriptors: the result that they have.
    less: FxHashMap<u64, Less>,
    /// Calls that do not take place, by name.
    left_out: BTreeMap<&'static str, u64>,
}

/// A call that does part of what it did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Less {
    result: i64,
    /// Descriptors, and data of registrations, that it does not report.
    without: Vec<u64>,
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
        let replaced = |ordinal: u64| this.injections.get(&ordinal).is_some_and(|i| i.result.is_some());
        if !this.injections.values().any(|i| i.result.is_some()) {
            return Ok(this);
        }
        let mut foreseen = Foreseen::default();
        let mut ordinal = 0;
        each(&mut |event| {
            if replaced(ordinal) {
                foreseen.note(event, words);
            } else {
                foreseen.connect(event, true, words);
            }
            foreseen.connection(event);
            ordinal += 1;
            Ok(())
        })?;
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
                let fails = replaced(ordinal);
                let fate = follower.event(ordinal, event, fails, words, &mut |fate| decided.push(fate));
                let name = match event {
                    Event::Syscall(call) => syscalls::name(call.sysno).unwrap_or("unknown"),
                    _ => "",
                };
                if fate == Fate::Absent {
                    more.lacks(event, words);
                }
                more.connection(event);
                decided.push(Decided { ordinal, name, fate });
                decided.drain(..).for_each(|one| edits.decide(one));
                ordinal += 1;
                Ok(())
            })?;
            if more.clients() == foreseen.clients() {
                break;
            }
            foreseen = more;
        }
        edits.injections = std::mem::take(&mut this.injections);
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
        match fate {
            Fate::Other { result, without } => {
                self.less.insert(ordinal, Less { result, without });
            }
            _ => {
                self.less.remove(&ordinal);
            }
        }
    }

    /// Whether calls are delayed.
    pub fn delays(&self) -> bool {
        self.injections.values().any(|injection| injection.enter_ns > 0 || injection.exit_ns > 0)
    }

    /// Whether nothing is different.
    pub fn is_empty(&self) -> bool {
        self.injections.is_empty()
    }

    /// The change of an event.
    pub fn injection(&self, ordinal: u64) -> Option<&Injection> {
        self.injections.get(&ordinal)
    }

    /// Calls that do not take place because of what they depend on, by name.
    pub fn left_out(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.left_out.iter().map(|(name, count)| (*name, *count)).filter(|(_, count)| *count > 0)
    }

    /// How many faults there are to be: answers in place of calls, and calls that are only delayed. One that is prevented by
    /// another is none.
    pub fn planned(&self) -> u64 {
        self.injections.keys().filter(|ordinal| !self.absent.has(**ordinal)).count() as u64
    }

    /// An event as it would have been; `None`: it does not take place.
    pub fn apply<'e>(&self, ordinal: u64, event: &'e Event) -> Option<Cow<'e, Event>> {
        if self.absent.has(ordinal) {
            return None;
        }
        let Event::Syscall(call) = event else { return Some(Cow::Borrowed(event)) };
        if let Some(result) = self.injections.get(&ordinal).and_then(|i| i.result) {
            return Some(Cow::Owned(Event::Syscall(answered(call, result))));
        }
        if let Some(less) = self.less.get(&ordinal) {
            return Some(Cow::Owned(Event::Syscall(reduced(call, less))));
        }
        Some(Cow::Borrowed(event))
    }
}

/// The call, answered before the kernel began with it. It is in its place in the order: it ends when it ended.
fn answered(call: &Syscall, result: i64) -> Syscall {
    let row = syscalls::Call::of(call.sysno).row();
    let mut call = call.clone();
    call.t_ns = call.t_ns.saturating_add(call.duration_ns);
    call.duration_ns = 0;
    call.ret = result;
    let seen = SyscallFlags::NO_EXIT.union(SyscallFlags::NO_ENTER).union(SyscallFlags::EMULATED);
    call.flags = call.flags.without(seen).union(SyscallFlags::FILTERED).union(SyscallFlags::INJECTED);
    if row.makes != syscalls::Makes::Nothing {
        // The object is the one that it would have made.
        call.object = None;
    }
    // Whatever it would have said. A registration is an argument.
    let asks = row.family == syscalls::Family::EpollCtl;
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

/// The call without what it does not report, with the result that leaves.
fn reduced(call: &Syscall, less: &Less) -> Syscall {
    let mut call = call.clone();
    call.ret = less.result;
    let reports = |at: u64| !less.without.contains(&at);
    for detail in &mut call.details {
        match detail {
            Detail::Epoll { entries, .. } => entries.retain(|entry| reports(entry.data)),
            Detail::Poll { entries, .. } => entries.retain(|entry| reports(entry.fd as u64)),
            _ => {}
        }
    }
    call
}
