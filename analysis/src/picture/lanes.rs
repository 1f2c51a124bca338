//! Tasks and what they did with their time.

use super::errors::errno_name;
use super::{Grid, Lane, Ranked, State, Stretch};
use crate::Account;
use crate::findings::Seen;
use crate::findings::people::{Actor, People, ProcessId};
use crate::findings::places::{Place, Places};
use crate::findings::waits::{Awaited, awaited};
use crate::findings::words;
use ctrace_format::syscalls::Failing;
use ctrace_format::{Detail, StrId, SyscallFlags, TaskId, Trace, Usage};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cmp::Reverse;

/// Lanes that are shown.
const SHOWN: usize = 40;
/// Tasks that are followed at a time; of more, those that did least go.
const MAX_FOLLOWED: usize = 512;
/// Tasks that are told apart.
const MAX_TASKS: usize = 1 << 20;
/// Stretches of a task that are shown; twice as many are kept.
const STRETCHES: usize = 400;
/// Long calls since the last stretch of use that are looked at.
const MAX_RECENT: usize = 64;
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Long {
    from_ns: u64,
    to_ns: u64,
    state: State,
    call: &'static str,
    place: Place,
    errno: Option<u32>,
}

/// One task.
#[derive(Debug)]
struct Followed {
    actor: Actor,
    comm: StrId,
    from_ns: u64,
    to_ns: Option<u64>,
    calls: u64,
    failed: u64,
    /// On a CPU, and for want of one; `None`: nobody told.
    used: Option<[u64; 2]>,
    /// How much findings have to do with it.
    wanted: u8,
    long_ns: u64,
    stretches: Vec<Long>,
    left_out: u64,
    /// Shares of the bins: running, runnable, and in short calls.
    shares: [Vec<f32>; 3],
    /// Long calls that ended since the last stretch of use.
    recent: Vec<(u64, u64)>,
}

impl Followed {
    fn rank(&self) -> impl Ord + use<> {
        Reverse((self.wanted, self.failed, self.long_ns, self.calls, Reverse(self.actor.tid)))
    }

    fn put(&mut self, grid: &Grid, what: usize, from_ns: u64, to_ns: u64, ns: f64) {
        let shares = &mut self.shares[what];
        if shares.is_empty() {
            *shares = vec![0.0; grid.bins];
        }
        let (width, length) = (grid.width_ns as f64, to_ns.saturating_sub(from_ns).max(1) as f64);
        grid.overlaps(from_ns, to_ns, |bin, here| shares[bin] += (ns * here as f64 / length / width) as f32);
    }

    /// Keeps the longest stretches.
    fn prune(&mut self, most: usize) {
        if self.stretches.len() <= most {
            return;
        }
        self.stretches.sort_unstable_by_key(|long| (Reverse(long.to_ns - long.from_ns), long.from_ns));
        self.left_out += (self.stretches.len() - most) as u64;
        self.stretches.truncate(most);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lanes {
    /// By task of the trace: the position of its lane.
    of_task: Vec<u32>,
    by_thread: FxHashMap<(ProcessId, u32), u32>,
    all: Vec<Option<Box<Followed>>>,
    followed: usize,
    /// The trace tells of CPUs.
    has_usage: bool,
    /// Threads and roles of findings.
    threads: FxHashSet<u32>,
    roles: FxHashSet<String>,
    untold: u64,
}

impl Lanes {
    pub(super) fn new(account: &Account, has_usage: bool) -> Self {
        let telling = || account.findings.iter().filter(|found| found.level > crate::Level::Note);
        Self {
            of_task: Vec::new(),
            by_thread: FxHashMap::default(),
            all: Vec::new(),
            followed: 0,
            has_usage,
            threads: telling().flat_map(|found| found.evidence.events.iter().map(|id| id.tid)).collect(),
            roles: telling().filter_map(|found| found.role.clone()).collect(),
            untold: 0,
        }
    }

    /// A task is met for the first time, under this name.
    pub(super) fn met(&mut self, grid: &Grid, task: TaskId, actor: Actor, people: &People, trace: &Trace) {
        let at = task.0 as usize;
        if self.of_task.len() <= at {
            self.of_task.resize(at + 1, NONE);
        }
        let def = trace.task(task);
        if let Some(lane) = self.by_thread.get(&(actor.process, actor.tid)) {
            self.of_task[at] = *lane;
            if let Some(followed) = &mut self.all[*lane as usize] {
                (followed.comm, followed.actor) = (def.comm, actor);
            }
            return;
        }
        if self.by_thread.len() >= MAX_TASKS {
            self.untold += 1;
            return;
        }
        if self.followed >= MAX_FOLLOWED {
            self.forget();
        }
        let wanted = match () {
            () if self.threads.contains(&actor.tid) => 2,
            () if self.roles.contains(people.role_name(actor.role)) => 1,
            () => 0,
        };
        let lane = self.all.len() as u32;
        self.by_thread.insert((actor.process, actor.tid), lane);
        self.of_task[at] = lane;
        self.followed += 1;
        self.all.push(Some(Box::new(Followed {
            actor,
            comm: def.comm,
            from_ns: def.start_ns.max(grid.from_ns),
            to_ns: None,
            calls: 0,
            failed: 0,
            used: None,
            wanted,
            long_ns: 0,
            stretches: Vec::new(),
            left_out: 0,
            shares: Default::default(),
            recent: Vec::new(),
        })));
    }

    /// Makes room: of those that are followed, the lower half goes.
    fn forget(&mut self) {
        let mut order: Vec<usize> = (0..self.all.len()).filter(|at| self.all[*at].is_some()).collect();
        order.sort_by_cached_key(|at| self.all[*at].as_ref().map(|followed| followed.rank()));
        for at in order.drain(order.len() / 2..) {
            self.all[at] = None;
        }
        self.followed = order.len();
    }

    fn of(&mut self, task: TaskId) -> Option<&mut Followed> {
        let lane = *self.of_task.get(task.0 as usize)?;
        self.all.get_mut(lane as usize)?.as_deref_mut()
    }

    /// A call of a task returned, or was under way at the end.
    pub(super) fn call(
        &mut self,
        grid: &Grid,
        seen: &Seen<'_>,
        name: &'static str,
        place: Place,
        failed: Option<Failing>,
        trace: &Trace,
    ) {
        let has_usage = self.has_usage;
        let Some(lane) = self.of(seen.s.task) else { return };
        lane.calls += 1;
        lane.failed += u64::from(failed == Some(Failing::Failure));
        let is_first = lane.calls == 1;
        let flags = seen.s.flags;
        let is_exit_only = flags.contains(SyscallFlags::NO_ENTER) && !flags.contains(SyscallFlags::NO_EXIT);
        // A call whose entry was not seen began before the recording.
        let from_ns = if is_exit_only && is_first && !flags.contains(SyscallFlags::FILTERED) {
            lane.from_ns
        } else {
            seen.t_ns.max(grid.from_ns)
        };
        let to_ns = seen.end_ns();
        let length = to_ns.saturating_sub(from_ns);
        if length < grid.width_ns {
            if !has_usage && length > 0 {
                lane.put(grid, 2, from_ns, to_ns, length as f64);
            }
            return;
        }
        let waited: u64 =
            seen.s.details.iter().map(|d| if let Detail::CpuWait { ns } = d { *ns } else { 0 }).sum();
        let state = if waited > length / 2 {
            State::Runnable
        } else if has_usage && seen.call.row().waits.is_some() {
            State::Blocked
        } else {
            State::Calling
        };
        if awaited(seen, place, trace) != Awaited::Work {
            lane.long_ns = lane.long_ns.saturating_add(length);
        }
        lane.stretches.push(Long { from_ns, to_ns, state, call: name, place, errno: seen.s.errno() });
        if lane.stretches.len() >= 2 * STRETCHES {
            lane.prune(STRETCHES);
        }
        if lane.recent.len() < MAX_RECENT {
            lane.recent.push((from_ns, to_ns));
        }
    }

    /// Calls of a task were counted.
    pub(super) fn counted(&mut self, task: TaskId, n: u64) {
        if let Some(lane) = self.of(task) {
            lane.calls = lane.calls.saturating_add(n);
        }
    }

    /// A task used time. What long calls did not take is where it was used.
    pub(super) fn usage(&mut self, grid: &Grid, usage: &Usage) {
        let Some(lane) = self.of(usage.task) else { return };
        let [cpu_ns, wait_ns] = lane.used.get_or_insert_default();
        *cpu_ns = cpu_ns.saturating_add(usage.cpu_ns);
        *wait_ns = wait_ns.saturating_add(usage.wait_ns);
        let (mut at_ns, mut free) = (usage.from_ns, Vec::new());
        for (from_ns, to_ns) in std::mem::take(&mut lane.recent) {
            if from_ns.min(usage.t_ns) > at_ns {
                free.push((at_ns, from_ns.min(usage.t_ns)));
            }
            at_ns = at_ns.max(to_ns);
        }
        if usage.t_ns > at_ns {
            free.push((at_ns, usage.t_ns));
        }
        let room: u64 = free.iter().map(|(from_ns, to_ns)| to_ns - from_ns).sum();
        if room < usage.cpu_ns.saturating_add(usage.wait_ns) || room == 0 {
            free = vec![(usage.from_ns, usage.t_ns)];
        }
        let room = free.iter().map(|(from_ns, to_ns)| to_ns.saturating_sub(*from_ns)).sum::<u64>().max(1);
        for (from_ns, to_ns) in free {
            let part = to_ns.saturating_sub(from_ns) as f64 / room as f64;
            lane.put(grid, 0, from_ns, to_ns, usage.cpu_ns as f64 * part);
            lane.put(grid, 1, from_ns, to_ns, usage.wait_ns as f64 * part);
        }
    }

    /// A task ended.
    pub(super) fn exit(&mut self, task: TaskId, t_ns: u64) {
        if let Some(lane) = self.of(task) {
            lane.to_ns.get_or_insert(t_ns);
        }
    }

    /// The lanes that matter most.
    pub(super) fn finish(self, grid: &Grid, people: &People, places: &Places, trace: &Trace) -> Ranked<Lane> {
        let total = self.all.len() as u64 + self.untold;
        let mut all: Vec<Box<Followed>> = self.all.into_iter().flatten().collect();
        all.sort_by_cached_key(|followed| followed.rank());
        all.truncate(SHOWN);
        let rows: Vec<Lane> =
            all.into_iter().map(|followed| lane(*followed, grid, people, places, trace)).collect();
        let left_out = total - rows.len() as u64;
        Ranked { rows, left_out }
    }
}

fn lane(mut from: Followed, grid: &Grid, people: &People, places: &Places, trace: &Trace) -> Lane {
    from.prune(STRETCHES);
    from.stretches.sort_unstable_by_key(|long| (long.from_ns, long.to_ns));
    let to_ns = from.to_ns.unwrap_or(grid.end_ns()).max(from.from_ns);
    let lived_ns = to_ns - from.from_ns;
    let spent = from.used.map(|[cpu_ns, wait_ns]| {
        let blocked_ns = lived_ns.saturating_sub(cpu_ns).saturating_sub(wait_ns);
        [cpu_ns, wait_ns, blocked_ns]
    });
    let mixed = mixed(&from, grid, to_ns);
    let stretch = |long: &Long| {
        let on = places.name(long.place);
        Stretch {
            from_ns: long.from_ns,
            to_ns: long.to_ns,
            state: long.state,
            call: Some(long.call),
            on: (!on.is_empty()).then(|| on.to_owned()),
            errno: long.errno.map(errno_name),
        }
    };
    Lane {
        tid: from.actor.tid,
        tgid: people.process(from.actor.process).tgid,
        comm: words::text(trace.str(from.comm)),
        role: people.role_name(from.actor.role).to_owned(),
        from_ns: from.from_ns,
        to_ns,
        calls: from.calls,
        spent,
        stretches: from.stretches.iter().map(stretch).collect(),
        mixed,
        left_out: from.left_out,
    }
}

/// The time that no stretch covers, on the grid.
fn mixed(from: &Followed, grid: &Grid, to_ns: u64) -> Vec<(u32, u8, u8, u8)> {
    let width = grid.width_ns as f64;
    let mut alive = vec![0.0_f64; grid.bins];
    grid.overlaps(from.from_ns, to_ns.min(grid.end_ns()), |bin, ns| alive[bin] += ns as f64 / width);
    for long in &from.stretches {
        grid.overlaps(long.from_ns, long.to_ns, |bin, ns| alive[bin] -= ns as f64 / width);
    }
    let share = |what: usize, bin: usize| from.shares[what].get(bin).map_or(0.0, |share| f64::from(*share));
    let part = |share: f64| (share * 255.0).round().clamp(0.0, 255.0) as u8;
    let bins = (0..grid.bins).filter_map(|bin| {
        let (running, runnable) = (share(0, bin), share(1, bin));
        let blocked =
            if from.used.is_some() { (alive[bin] - running - runnable).max(0.0) } else { share(2, bin) };
        let at = (bin as u32, part(running), part(runnable), part(blocked));
        (at.1 > 0 || at.2 > 0 || at.3 > 0).then_some(at)
    });
    bins.collect()
}
