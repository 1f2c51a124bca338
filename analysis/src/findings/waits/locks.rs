//! Locks that threads queue for, and how long.

use super::super::attempts::{EACCES, EAGAIN, figures_of};
use super::super::people::{ProcessId, RoleId};
use super::super::places::{Place, Places};
use super::super::rank::score;
use super::super::tally::{Series, quantile};
use super::super::words::{percent, plural, span, times, when};
use super::super::{Dictionary, Facts, Finding, Kind, Level, Seen};
use super::handed::{Handed, Serving};
use super::{LONG_WAIT_NS, MAX_LOCKS};
use ctrace_format::syscalls::{Call, Family, On};
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt::Write as _;

/// `FUTEX_*`, include/uapi/linux/futex.h.
pub(crate) const FUTEX_CMD_MASK: u64 = 0x7f;
pub(crate) const FUTEX_WAIT: u64 = 0;
pub(crate) const FUTEX_WAKE: u64 = 1;
pub(crate) const FUTEX_LOCK_PI: u64 = 6;
pub(crate) const FUTEX_WAIT_BITSET: u64 = 9;
pub(crate) const FUTEX_WAKE_BITSET: u64 = 10;
pub(crate) const FUTEX_LOCK_PI2: u64 = 13;
/// The word of a mutex of the C library, and of Rust's, that somebody waits for (nptl/lowlevellock.h,
/// std/src/sys/sync/mutex/futex.rs).
const CONTENDED: u64 = 2;
/// The word of a read-write lock of the C library that somebody writes under while others wait
/// (`PTHREAD_RWLOCK_FUTEX_USED` and `PTHREAD_RWLOCK_WRPHASE`, `nptl/pthread_rwlock_common.c`).
const RWLOCK_CONTENDED: u64 = 3;
/// Rust's mark of a writer: more readers than there can be (std/src/sys/sync/rwlock/futex.rs).
const RWLOCK_WRITTEN: u64 = 0x3fff_ffff;
const FUTEX_WAITERS: u64 = 0x8000_0000;
/// `fcntl` commands that lock, include/uapi/asm-generic/fcntl.h.
const F_SETLK: u64 = 6;
const F_SETLKW: u64 = 7;
const F_OFD_SETLK: u64 = 37;
const F_OFD_SETLKW: u64 = 38;
/// `flock` operations that do not wait, include/uapi/asm-generic/fcntl.h.
const LOCK_NB: u64 = 4;
const LOCK_UN: u64 = 8;
/// Waits in all from which on a lock is worth a word.
const LEAST_NS: u64 = 200_000_000;
const LEAST_PAUSED_NS: u64 = 1_000_000_000;
const LEAST_WAIT_NS: u64 = 500_000;
const LEAST_MEDIAN_NS: u64 = 1_000_000;

/// A lock: a word of a process, or a file; or one inside of a program, which its threads or processes hand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Lock {
    Word(ProcessId, u64),
    File(Place),
    Threads(ProcessId, RoleId),
    Processes(RoleId),
}

#[derive(Debug, Default)]
pub(super) struct Contention {
    pub(super) waits: Series,
    pub(super) waiters: FxHashSet<u32>,
    pub(super) role: Option<RoleId>,
    /// So many waits were pauses before the next try.
    pauses: u64,
    first_ns: u64,
    last_ns: u64,
}

impl Contention {
    pub(super) fn add(&mut self, role: RoleId, tid: u32, t_ns: u64, duration_ns: u64) {
        if self.waits.len() == 0 {
            self.first_ns = t_ns;
        }
        self.last_ns = self.last_ns.max(t_ns.saturating_add(duration_ns));
        self.role.get_or_insert(role);
        if self.waiters.len() < 4096 {
            self.waiters.insert(tid);
        }
        self.waits.add(t_ns, duration_ns);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(in super::super) struct Locks {
    waited: FxHashMap<Lock, Contention>,
    /// The file whose lock a thread was refused last: it may sleep and try again.
    refused: FxHashMap<u32, Place>,
    handed: Handed,
    pub(in super::super) serving: Serving,
}

/// Whether a call waits for a lock that a thread has, and which.
pub(super) fn lock_of(seen: &Seen<'_>, place: impl FnOnce() -> Place) -> Option<Lock> {
    match seen.call {
        Call::Futex => {
            let (command, value) = (seen.s.args[1] & FUTEX_CMD_MASK, seen.s.args[2] & 0xffff_ffff);
            let rwlock = value & RWLOCK_WRITTEN == RWLOCK_WRITTEN && value > RWLOCK_WRITTEN;
            let mutex = match command {
                FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => true,
                // musl keeps the owner's id in the word.
                FUTEX_WAIT => value == CONTENDED || value & FUTEX_WAITERS != 0 && value & 0x3fff_ffff != 0,
                FUTEX_WAIT_BITSET => value == CONTENDED || value == RWLOCK_CONTENDED || rwlock,
                _ => false,
            };
            mutex.then_some(Lock::Word(seen.actor.process, seen.s.args[0]))
        }
        Call::Flock => (seen.s.args[1] & (LOCK_UN | LOCK_NB) == 0).then(|| Lock::File(place())),
        Call::Fcntl if matches!(seen.s.args[1], F_SETLKW | F_OFD_SETLKW) => Some(Lock::File(place())),
        _ => None,
    }
}

/// Whether a call asks for the lock of a file and does not wait for it.
fn tries(seen: &Seen<'_>) -> bool {
    match seen.call {
        Call::Flock => seen.s.args[1] & LOCK_NB != 0,
        Call::Fcntl => matches!(seen.s.args[1], F_SETLK | F_OFD_SETLK),
        _ => false,
    }
}

impl Locks {
    pub(super) fn call(&mut self, seen: &Seen<'_>, places: &mut Places, words: &(impl Dictionary + ?Sized)) {
        let row = seen.call.row();
        let tid = seen.actor.tid;
        if row.family == Family::Readiness {
            if let Some(role) = self.serving.waited(seen) {
                self.add(Lock::Processes(role), seen);
            }
            return;
        }
        if row.waits == Some(On::Time) {
            // It sleeps before it asks for the lock again.
            if seen.s.ret == 0
                && let Some(place) = self.refused.remove(&tid)
            {
                self.add(Lock::File(place), seen);
                if let Some(contention) = self.waited.get_mut(&Lock::File(place)) {
                    contention.pauses += 1;
                }
            }
            return;
        }
        if row.family == Family::Send && !self.refused.is_empty() {
            self.refused.remove(&tid);
        }
        if !matches!(seen.call, Call::Futex | Call::Flock | Call::Fcntl) {
            return;
        }
        if tries(seen) {
            let errno = seen.s.errno().map(|e| e as u16);
            if matches!(errno, Some(EAGAIN | EACCES)) && self.refused.len() < MAX_LOCKS {
                self.refused.insert(tid, places.of(seen, words));
            }
            return;
        }
        if let Some(lock) = lock_of(seen, || places.of(seen, words)) {
            if seen.duration_ns > 0 {
                self.add(lock, seen);
            }
        } else if seen.call == Call::Futex {
            self.handed.call(seen);
        }
    }

    fn add(&mut self, lock: Lock, seen: &Seen<'_>) {
        if self.waited.len() < MAX_LOCKS || self.waited.contains_key(&lock) {
            let contention = self.waited.entry(lock).or_default();
            contention.add(seen.actor.role, seen.actor.tid, seen.t_ns, seen.duration_ns);
        }
    }

    pub(super) fn findings(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        let mut locks: Vec<_> = self.waited.iter().collect();
        locks.sort_by_key(|(lock, _)| **lock);
        for (lock, contention) in locks {
            out.extend(contended(facts, *lock, contention, None));
        }
        for (lock, contention, held_ns) in self.handed.contended() {
            out.extend(contended(facts, lock, contention, Some(held_ns)));
        }
    }
}

/// Threads that spent their time waiting for a lock. `held_ns`: for how long one has it.
fn contended(
    facts: &Facts<'_>,
    lock: Lock,
    contention: &Contention,
    held_ns: Option<u64>,
) -> Option<Finding> {
    let waits = &contention.waits;
    let span_ns = contention.last_ns.saturating_sub(contention.first_ns);
    let waiters = contention.waiters.len() as u64;
    let series = waits.sorted();
    // A program that tries again after a pause waits for longer than the lock is held.
    let least_ns = if contention.pauses * 2 > waits.len() { LEAST_PAUSED_NS } else { LEAST_NS };
    if waits.sum_ns < least_ns || span_ns == 0 || quantile(&series, 900) < LEAST_WAIT_NS {
        return None;
    }
    // A lock that others hand on quickly is what locks are for; that it is one was worked out.
    let told_by_itself = matches!(lock, Lock::Word(..) | Lock::File(_)) && held_ns.is_none();
    if !told_by_itself && quantile(&series, 500) < LEAST_MEDIAN_NS {
        return None;
    }
    let all_ns = u128::from(span_ns) * u128::from(waiters);
    let share = (u128::from(waits.sum_ns) * 100 / all_ns.max(1)) as u64;
    let file = matches!(lock, Lock::File(_));
    // One that waits once is told as a call that took long; those who queue all the time have a convoy.
    // A single thread may be parked on a lock; those who queue for one are held up by each other.
    let queue = waiters >= 2 || file;
    // Whoever waits once for another's lock of a file, and long, is held up as well.
    let long = file && waits.max_ns >= LONG_WAIT_NS && waits.sum_ns.saturating_mul(5) >= facts.duration_ns;
    let level = if long
        || share >= 30 && waits.len() >= 10 && queue && span_ns.saturating_mul(5) >= facts.duration_ns
    {
        Level::Cause
    } else if share >= 30 && waits.len() >= 3 && queue && told_by_itself {
        Level::Warning
    } else {
        return None;
    };
    let (object, name) = match lock {
        Lock::Word(_, address) => (format!("{address:#x}"), format!("the lock at {address:#x}")),
        Lock::File(place) => {
            (facts.places.name(place).to_owned(), format!("the lock of {}", facts.places.name(place)))
        }
        Lock::Threads(..) => {
            ("a lock of its threads".to_owned(), "a lock that another of them had".to_owned())
        }
        Lock::Processes(_) => (
            "a lock of its processes".to_owned(),
            "a lock that another of them had, with a request to answer".to_owned(),
        ),
    };
    let role = contention.role?;
    let who = if matches!(lock, Lock::Processes(_)) { "process" } else { "thread" };
    let waiting =
        if waiters > 1 && who == "process" { format!("{waiters} processes") } else { plural(waiters, who) };
    let mut sentence = format!(
        "{}: {waiting} waited for {name} {} {} (median {}, up to {}): {} of their time, {} in all",
        facts.who(role),
        times(waits.len()),
        when(contention.first_ns, contention.last_ns),
        span(quantile(&series, 500)),
        span(waits.max_ns),
        percent(waits.sum_ns, all_ns.min(u128::from(u64::MAX)) as u64),
        span(waits.sum_ns)
    );
    if let Some(held_ns) = held_ns {
        let _ = write!(sentence, "; each had it for {} (median) before another got it", span(held_ns));
    }
    let mut found = Finding::new(Kind::LockWait, level, score(Kind::LockWait), sentence)
        .over(contention.first_ns, contention.last_ns, waits.len())
        .by(facts.people.role_name(role))
        .against(object)
        .seen(waits.max_at_ns.saturating_add(waits.max_ns), 0);
    found.evidence.during = Some(figures_of(&series, quantile(&series, 500)));
    Some(found)
}
