//! Descriptors: who opens them and does not close them, and who has none left.

use super::attempts::{EMFILE, ENFILE, around, attempted};
use super::people::ProcessId;
use super::places::{Place, Places};
use super::tally::Failed;
use super::words::{at, count, errno_name, span, times, when};
use super::{Dictionary, Facts, Finding, Kind, Level, Seen};
use crate::fds::{self, Closing, Effect, Slot, Stands, asks_for_number, effects};
use ctrace_format::syscalls::{Call, Family, Kind as ArgKind};
use ctrace_format::{Snapshot, Syscall, SyscallFlags};
use rustc_hash::FxHashMap;
use std::fmt::Write as _;

/// Descriptors of a process, and origins of them, that are followed.
const MAX_OPEN: usize = 1 << 16;
const MAX_ORIGINS: usize = 1024;
/// Descriptors that must stay open to be called a leak.
const LEAK: u64 = 20;
const BIG_LEAK: u64 = 50;
const EBADF: u32 = 9;

/// Where descriptors come from.
#[derive(Debug, Default, Clone)]
struct Origin {
    opened: u64,
    closed: u64,
    first_ns: u64,
    last_ns: u64,
    /// When half of those that are open now were.
    halves: Vec<u64>,
}

/// A descriptor stands for where it came from: an index into [`Table::origins`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OriginIx(usize);

impl Stands for OriginIx {
    type Key = ();
    type Past = ();

    fn key(&self) -> Option<()> {
        None
    }

    // Whatever had a number that another call was given is counted as closed.
    fn past(self) {}
}

#[derive(Debug, Default)]
struct Table {
    open: fds::Table<OriginIx>,
    origins: Vec<((Call, Place), Origin)>,
    index: FxHashMap<(Call, Place), usize>,
    /// Open when it was first seen.
    inherited: u64,
    highest: i32,
    limited: Failed,
    opened: u64,
    failing: Option<(Call, Place, u16)>,
    tid: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    tables: FxHashMap<ProcessId, Table>,
    limits: FxHashMap<u32, u64>,
}

impl Descriptors {
    /// The limits of those who were there when recording began.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) {
        let limits = snapshot.processes.iter().filter_map(|p| {
            let limit =
                p.limits.iter().find(|(name, _)| name.contains("open files") || name.contains("NOFILE"));
            limit.map(|(_, (soft, _))| (p.tgid.0, *soft))
        });
        self.limits.extend(limits);
    }

    pub(super) fn call(&mut self, seen: &Seen<'_>, places: &mut Places, words: &(impl Dictionary + ?Sized)) {
        // An error that a filter gives tells nothing of the table; one that is injected stands for what it says.
        let injected = seen.s.flags.contains(SyscallFlags::INJECTED);
        if seen.s.flags.contains(SyscallFlags::FILTERED) && !injected {
            return;
        }
        let (call, s) = (seen.call, seen.s);
        let connects = call.row().family == Family::Connect;
        let limited = s.errno().map(|e| e as u16).filter(|e| matches!(*e, EMFILE | ENFILE));
        let refused = limited.filter(|_| asks_for_number(call, s));
        let mut effects = effects(call, s).peekable();
        if effects.peek().is_none() && refused.is_none() && !connects {
            return;
        }
        let table = self.tables.entry(seen.actor.process).or_default();
        if connects {
            table.connected(s.args[0] as i32, places.of(seen, words));
        }
        if let Some(errno) = refused {
            let ok = table.opened;
            if table.limited.count == 0 {
                let place = places.of(seen, words);
                (table.failing, table.tid) = (Some((call, place, errno)), seen.actor.tid);
            }
            table.limited.add(seen.end_ns(), seen.actor, ok);
            table.limited.injected += u64::from(injected);
        }
        for effect in effects {
            match effect {
                Effect::Closes { fd } => table.close(fd, seen.t_ns),
                Effect::ClosesRange { first, last } => table.close_range(first, last),
                _ => {
                    if let Some(fd) = effect.made().filter(|fd| *fd >= 0) {
                        table.open(fd, call, places.of(seen, words), seen.end_ns());
                    }
                }
            }
        }
    }

    /// The place that the descriptor of a call was opened on, where the call does not name its object.
    pub(super) fn behind(&self, process: ProcessId, call: Call, s: &Syscall) -> Place {
        let is_about_one = matches!(call.row().args, Some([(_, ArgKind::Fd), ..]));
        if s.object.is_some() || !is_about_one || s.arguments_unknown() || s.errno() == Some(EBADF) {
            return Place::NOWHERE;
        }
        let slot =
            self.tables.get(&process).and_then(|table| Some((table, table.open.get(s.args[0] as i32)?)));
        slot.map_or(Place::NOWHERE, |(table, slot)| table.origins[slot.what.0].0.1)
    }

    /// A process begins with the descriptors of its parent.
    pub(super) fn fork(&mut self, parent: ProcessId, child: ProcessId) {
        let inherited = self.tables.get(&parent).map_or(0, |t| t.inherited + t.open.slots().len() as u64);
        self.tables.insert(child, Table { inherited, ..Table::default() });
    }

    /// A program is executed: what it inherits is nobody's leak.
    pub(super) fn exec(&mut self, process: ProcessId) {
        if let Some(table) = self.tables.get_mut(&process) {
            *table = Table { inherited: 3, ..Table::default() };
        }
    }

    /// A process ends. A table that tells nothing is forgotten.
    pub(super) fn exit(&mut self, process: ProcessId) {
        if self.tables.get(&process).is_some_and(|t| t.limited.count == 0 && t.leak(0).is_none()) {
            self.tables.remove(&process);
        }
    }

    pub(super) fn findings(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        let mut tables: Vec<_> = self.tables.iter().collect();
        tables.sort_by_key(|(process, _)| **process);
        for (process, table) in tables {
            let known = facts.people.process(*process);
            let life_ns = known.exit.map_or(facts.duration_ns, |e| e.0).saturating_sub(known.start_ns);
            let who = facts.people.named_process(*process, facts.containers);
            let leak = table.leak(life_ns);
            if let Some((call, place, origin)) = leak {
                let kept = origin.opened - origin.closed;
                let each = origin.last_ns.saturating_sub(origin.first_ns) / origin.opened.max(2);
                let mut sentence = format!(
                    "{who} opened {} descriptors by {} {} and closed {}: one more about every {}",
                    count(origin.opened),
                    attempted(call, facts.places.name(place)),
                    when(origin.first_ns, origin.last_ns),
                    if origin.closed == 0 { "none".to_owned() } else { count(origin.closed) },
                    span(each)
                );
                let level = if table.limited.count > 0 {
                    let limit = self.limit(*process, facts, table);
                    let _ = write!(
                        sentence,
                        ", up to its limit of {}; from {} on {} failed with {} {}",
                        count(limit),
                        at(table.limited.first_ns),
                        table.failing.map_or_else(String::new, |f| attempted(f.0, facts.places.name(f.1))),
                        table.failing.map_or_else(String::new, |f| errno_name(f.2)),
                        times(table.limited.count)
                    );
                    Level::Cause
                } else if kept >= BIG_LEAK {
                    Level::Cause
                } else {
                    Level::Warning
                };
                out.push(
                    Finding::new(Kind::FdLeak, level, super::rank::score(Kind::FdLeak), sentence)
                        .over(origin.first_ns, origin.last_ns, kept)
                        .by(known.comm.as_str())
                        .against(facts.places.name(place))
                        .seen(origin.last_ns, 0),
                );
            }
            if table.limited.count > 0 {
                let (call, place, errno) = table.failing.unwrap_or((Call::Unlisted, Place::NOWHERE, EMFILE));
                let is_injected = table.limited.injected == table.limited.count;
                let limit = if is_injected {
                    "as a fault plan says".to_owned()
                } else if errno == EMFILE {
                    format!("it had {} open, its limit", count(self.limit(*process, facts, table)))
                } else {
                    "the system's limit was reached".to_owned()
                };
                let sentence = format!(
                    "{who} got no further descriptor {} {} ({}: {}; {limit}){}",
                    times(table.limited.count),
                    when(table.limited.first_ns, table.limited.last_ns),
                    attempted(call, facts.places.name(place)),
                    errno_name(errno),
                    around(&table.limited, table.opened)
                );
                out.push(
                    Finding::new(Kind::FdLimit, Level::Cause, super::rank::score(Kind::FdLimit), sentence)
                        .over(table.limited.first_ns, table.limited.last_ns, table.limited.count)
                        .by(known.comm.as_str())
                        .against(facts.places.name(place))
                        .with_errno(errno)
                        .seen(table.limited.first_ns, table.tid),
                );
            }
        }
    }

    /// The limit of a process: the highest number is one less (`get_unused_fd_flags`, fs/file.c).
    fn limit(&self, process: ProcessId, facts: &Facts<'_>, table: &Table) -> u64 {
        let known = self.limits.get(&facts.people.process(process).tgid).copied();
        known.filter(|_| table.highest == 0).unwrap_or(table.highest as u64 + 1)
    }
}

impl Table {
    fn origin(&mut self, call: Call, place: Place) -> Option<usize> {
        if let Some(at) = self.index.get(&(call, place)) {
            return Some(*at);
        }
        if self.origins.len() >= MAX_ORIGINS {
            return None;
        }
        self.index.insert((call, place), self.origins.len());
        self.origins.push(((call, place), Origin::default()));
        Some(self.origins.len() - 1)
    }

    fn open(&mut self, fd: i32, call: Call, place: Place, t_ns: u64) {
        self.highest = self.highest.max(fd);
        self.opened += 1;
        if let Some(Slot { what: OriginIx(at), .. }) = self.open.get(fd) {
            // It was closed unseen, or its close has not returned yet.
            self.origins[*at].1.closed += 1;
        }
        let Some(at) = self.origin(call, place) else {
            self.open.remove(fd);
            return;
        };
        self.count(at, t_ns);
        if self.open.slots().len() < MAX_OPEN {
            self.open.take(fd, Slot { what: OriginIx(at), cloexec: false, since_ns: t_ns });
        }
    }

    fn count(&mut self, at: usize, t_ns: u64) {
        const KEPT: usize = 64;
        let origin = &mut self.origins[at].1;
        if origin.opened == 0 {
            origin.first_ns = t_ns;
        }
        origin.opened += 1;
        origin.last_ns = t_ns;
        if origin.halves.len() >= KEPT {
            let mut odd = false;
            origin.halves.retain(|_| {
                odd = !odd;
                odd
            });
        }
        origin.halves.push(t_ns);
    }

    fn close(&mut self, fd: i32, began_ns: u64) {
        if let Some(Closing::Present(Slot { what: OriginIx(at), .. })) = self.open.close(fd, began_ns) {
            self.origins[at].1.closed += 1;
        }
    }

    fn close_range(&mut self, first: i32, last: i32) {
        for (_, Slot { what: OriginIx(at), .. }) in self.open.inside(first, last) {
            self.origins[*at].1.closed += 1;
        }
        self.open.remove_range(first, last);
    }

    /// A socket is one to a place from now on.
    fn connected(&mut self, fd: i32, place: Place) {
        let Some(before) = self.open.get(fd).map(|slot| slot.what.0) else { return };
        let (call, _) = self.origins[before].0;
        if call != Call::Socket {
            return;
        }
        let t_ns = self.origins[before].1.last_ns;
        if let Some(at) = self.origin(Call::Connect, place) {
            self.origins[before].1.opened -= 1;
            self.count(at, t_ns);
            self.open.change(fd, |from| *from = OriginIx(at));
        }
    }

    /// The origin whose descriptors stay: many of one kind, hardly one closed, and more of them all along.
    fn leak(&self, life_ns: u64) -> Option<(Call, Place, &Origin)> {
        let limited = self.limited.count > 0;
        self.origins
            .iter()
            .filter(|((call, place), origin)| {
                let kept = origin.opened.saturating_sub(origin.closed);
                // Those who come and stay are load, not a leak; files of many names are a cache.
                let counts = !matches!(call, Call::Accept | Call::Accept4 | Call::Recvmsg | Call::Recvmmsg)
                    && *place != Place::ELSEWHERE;
                let spread = origin.last_ns.saturating_sub(origin.first_ns);
                // Opened in one go is what a program does that begins.
                let steady = origin.halves.get(origin.halves.len() / 2).is_some_and(|half| {
                    let half = half.saturating_sub(origin.first_ns);
                    half * 10 >= spread * 2 && half * 10 <= spread * 8
                });
                counts
                    && kept >= LEAK
                    && origin.closed * 10 <= origin.opened
                    && (limited || steady && spread.saturating_mul(2) >= life_ns)
            })
            .max_by_key(|(_, origin)| origin.opened - origin.closed)
            .map(|((call, place), origin)| (*call, *place, origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A close that began before another call was given the number closes the earlier descriptor.
    #[test]
    fn a_number_given_out_again_before_its_close_returned_is_counted_once() {
        let mut table = Table::default();
        let counts = |table: &Table| (table.origins[0].1.opened, table.origins[0].1.closed);
        table.open(5, Call::Openat, Place::NOWHERE, 10);
        table.open(5, Call::Openat, Place::NOWHERE, 30);
        table.close(5, 20);
        assert_eq!(counts(&table), (2, 1));
        table.close(5, 40);
        assert_eq!(counts(&table), (2, 2));
        for fd in 3..9 {
            table.open(fd, Call::Openat, Place::NOWHERE, 50);
        }
        table.close_range(4, 7);
        assert_eq!((counts(&table), table.open.slots().len()), ((8, 6), 2));
    }
}
