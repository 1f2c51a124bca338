//! What the kernel was told behind a pointer that the recording does not keep, as far as what followed tells it: how much was
//! added to an eventfd, and when a timer of an absolute time went off.

use super::CompileError;
use super::budget::Budget;
use super::calls::{Known, Sc};
use super::world::{BLOCKED_NS, OfdIx, OfdKind, TaskIx, World, detail_epoll, detail_value};
use ctrace_format::{Detail, Syscall};
use rustc_hash::{FxHashMap, FxHashSet};

const EFD_SEMAPHORE: u64 = 1;
const EAGAIN: i64 = -11;
const TFD_TIMER_ABSTIME: u64 = 1;

/// The call of a task: its number among them.
type Place = (TaskIx, u32);
/// An eventfd, as its readers found it.
#[derive(Debug, Default)]
struct Counter {
    semaphore: bool,
    count: u64,
    /// Reads of a semaphore that are to be explained by a write that has not been told yet.
    owed: u64,
    last_write: Option<Place>,
}

/// A timer that was set to an absolute time, and has not been seen to go off.
#[derive(Debug, Clone, Copy)]
struct Armed {
    place: Place,
    at_ns: u64,
}

/// A timer that was there before the recording, as it was seen to go off until somebody set it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Running {
    /// When it went off first.
    first_ns: Option<u64>,
    /// When somebody read that it had, and how often by then.
    read: Option<(u64, u64)>,
    interval_ns: u64,
    was_set: bool,
}

impl Running {
    /// In which time from the start on it goes off, and how often from then on (0: once), as `timerfd_settime` has it.
    pub(crate) fn setting(&self) -> Option<[u64; 2]> {
        self.first_ns.map(|first_ns| [self.interval_ns, first_ns.max(1)])
    }

    fn went_off(&mut self, at_ns: u64, times: Option<u64>) {
        if self.was_set {
            return;
        }
        self.first_ns.get_or_insert(at_ns);
        let Some(times) = times else { return };
        if let Some((before_ns, _)) = self.read.filter(|_| self.interval_ns == 0) {
            self.interval_ns = at_ns.saturating_sub(before_ns) / times.max(1);
        }
        self.read = Some((at_ns, times));
    }
}

/// Collects them over the events of a recording.
#[derive(Debug, Default)]
pub(crate) struct Told {
    counters: FxHashMap<OfdIx, Counter>,
    armed: FxHashMap<OfdIx, Armed>,
    /// Timers that somebody was seen to make.
    made: FxHashSet<OfdIx>,
    /// The others.
    pub(crate) running: FxHashMap<OfdIx, Running>,
    /// What a write added to an eventfd, if it was more than one.
    pub(crate) added: FxHashMap<Place, u64>,
    /// How long after it was set a timer was seen to have gone off, and whether somebody waited for just that.
    pub(crate) expiries: FxHashMap<Place, (u64, bool)>,
}

impl Told {
    /// A call that is about to be applied.
    pub(crate) fn call(
        &mut self,
        world: &World,
        budget: Budget,
        task: TaskIx,
        call: &Syscall,
        known: &Known,
    ) -> Result<(), CompileError> {
        let place = (task, world.tasks[task as usize].ops);
        let ofd = || world.ofd_of(task, call.args[0] as i32);
        match known.sc {
            Sc::Read if !self.counters.is_empty() || self.has_timers(world) => {
                let Some(ofd) = ofd() else { return Ok(()) };
                match world.ofds[ofd as usize].kind {
                    OfdKind::Event => self.taken(ofd, call),
                    OfdKind::Timer if call.ret > 0 => {
                        self.went_off(world, ofd, call, Some(detail_value(call, 1).unwrap_or(1)));
                    }
                    _ => {}
                }
            }
            Sc::Write if call.ret == 8 && !self.counters.is_empty() => {
                if let Some(counter) = ofd().and_then(|ofd| self.counters.get_mut(&ofd)) {
                    let least = counter.owed.max(1);
                    let value = detail_value(call, 1).unwrap_or(least);
                    counter.count = counter.count.saturating_add(value).saturating_sub(counter.owed);
                    counter.owed = 0;
                    counter.last_write = Some(place);
                    if value != 1 {
                        budget.things("values of eventfds", self.added.len())?;
                        self.added.insert(place, value);
                    }
                }
            }
            Sc::TimerfdSettime if call.ret == 0 => {
                let Some(ofd) = ofd() else { return Ok(()) };
                self.armed.remove(&ofd);
                if !self.made.contains(&ofd) {
                    self.running.entry(ofd).or_default().was_set = true;
                }
                if call.args[1] & TFD_TIMER_ABSTIME != 0 {
                    self.armed.insert(ofd, Armed { place, at_ns: call.t_ns });
                }
            }
            Sc::EpollWait | Sc::EpollPwait | Sc::EpollPwait2 if call.ret > 0 && self.has_timers(world) => {
                let Some(epoll) = ofd().and_then(|ep| world.epoll(ep)) else { return Ok(()) };
                for entry in detail_epoll(call).unwrap_or_default() {
                    if let Some(watch) = epoll.by_data(entry.data) {
                        self.went_off(world, watch.ofd, call, None);
                    }
                }
            }
            Sc::Poll | Sc::Ppoll | Sc::Select | Sc::Pselect6 if call.ret > 0 && self.has_timers(world) => {
                for detail in &call.details {
                    let Detail::Poll { entries, .. } = detail else { continue };
                    for entry in entries.iter().filter(|entry| entry.revents & 1 != 0) {
                        if let Some(ofd) = world.ofd_of(task, entry.fd) {
                            self.went_off(world, ofd, call, None);
                        }
                    }
                }
            }
            _ => {}
        }
        budget.things("timers of absolute times", self.expiries.len())
    }

    /// A call that has been applied: an eventfd may have come of it.
    pub(crate) fn applied(&mut self, world: &World, task: TaskIx, call: &Syscall, known: &Known) {
        if call.ret < 0 {
            return;
        }
        let Some(ofd) = world.ofd_of(task, call.ret as i32) else { return };
        match known.sc {
            Sc::Eventfd | Sc::Eventfd2 => {
                let semaphore = known.sc == Sc::Eventfd2 && call.args[1] & EFD_SEMAPHORE != 0;
                let count = u64::from(call.args[0] as u32);
                self.counters.insert(ofd, Counter { semaphore, count, owed: 0, last_write: None });
            }
            // It may have the number of a description that is gone.
            Sc::TimerfdCreate => {
                self.armed.remove(&ofd);
                self.made.insert(ofd);
            }
            _ => {}
        }
    }

    fn taken(&mut self, ofd: OfdIx, call: &Syscall) {
        let Some(counter) = self.counters.get_mut(&ofd) else { return };
        if call.ret == EAGAIN {
            counter.count = 0;
        }
        if call.ret != 8 {
            return;
        }
        if !counter.semaphore {
            counter.count = 0;
        } else if counter.count > 0 {
            counter.count -= 1;
        } else if let Some(last) = counter.last_write.filter(|_| call.duration_ns < BLOCKED_NS) {
            // There was more than the writes so far are known to have added.
            let value = self.added.entry(last).or_insert(1);
            *value = value.saturating_add(1);
        } else {
            counter.owed = counter.owed.saturating_add(1);
        }
    }

    fn went_off(&mut self, world: &World, ofd: OfdIx, call: &Syscall, times: Option<u64>) {
        let end_ns = call.t_ns.saturating_add(call.duration_ns);
        if let Some(armed) = self.armed.remove(&ofd) {
            let waited = call.duration_ns >= BLOCKED_NS;
            self.expiries.insert(armed.place, (end_ns.saturating_sub(armed.at_ns), waited));
        }
        if !self.made.contains(&ofd) && matches!(world.ofds[ofd as usize].kind, OfdKind::Timer) {
            self.running.entry(ofd).or_default().went_off(end_ns, times);
        }
    }

    fn has_timers(&self, world: &World) -> bool {
        !self.armed.is_empty() || world.found_timers
    }
}
