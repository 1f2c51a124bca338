//! CPU time: processes in the workload's group use what the workload used and the replay's own tasks do not; others, beside
//! the group, use what the recorded neighbours used while the workload waited for a CPU.
//!
//! Both get their share at the beginning of each bin, so that they want the CPUs at the same time. What a bin was short of, or
//! had too much, the next one makes good.

use super::board::Crew;
use super::conductor::Conductor;
use crate::pressure::{BIN_NS, Demand};
use std::sync::atomic::Ordering::SeqCst;

/// As much of what was missing is made good later, in bins.
const CARRY_BINS: i128 = 2;

/// The weight of a group that is as important as one task.
const EVEN: u64 = 1000;
/// The least weight: the workload's own tasks are in the group as well, and are not to be late by more.
const LEAST: u64 = EVEN / 10;

/// A sum that is to follow another.
#[derive(Debug, Default)]
struct Pursuit {
    target_ns: u64,
    reached_ns: u64,
}

impl Pursuit {
    /// How much is missing, less than nothing when there is too much; never more than some bins.
    fn missing_ns(&self) -> i128 {
        let most = CARRY_BINS * i128::from(BIN_NS);
        (i128::from(self.target_ns) - i128::from(self.reached_ns)).clamp(-most, most)
    }

    /// Sets the next target. A part that was missing for too long is let go.
    fn aim(&mut self, more_ns: u64) {
        let missing = self.missing_ns();
        let from = i128::from(self.reached_ns) + missing;
        self.target_ns = u64::try_from(from).unwrap_or(0).saturating_add(more_ns);
    }
}

/// Follows the recorded load.
#[derive(Debug)]
pub(super) struct Loader {
    bins: Vec<Demand>,
    /// The bin that is under way.
    at: Option<usize>,
    /// As the kernel had counted before.
    first_ns: u64,
    used: Pursuit,
    waited: Pursuit,
    /// CPU time of those that spin, and of the workload's tasks in the last bin, ns.
    spun_ns: u64,
    own_ns: u64,
    /// CPU time of the neighbours, ns.
    crowded_ns: u64,
}

impl Loader {
    pub(super) fn new(bins: Vec<Demand>, conductor: &Conductor<'_>) -> Self {
        let first_ns = conductor.controls.used_ns().unwrap_or(0);
        let (used, waited) = (Pursuit::default(), Pursuit::default());
        Self { bins, at: None, first_ns, used, waited, spun_ns: 0, own_ns: 0, crowded_ns: 0 }
    }

    /// A bin begins, or, after the last, nothing is wanted any more.
    pub(super) fn begin(&mut self, bin: usize, conductor: &Conductor<'_>) {
        let page = &**conductor.board;
        self.account(conductor);
        let Some(demand) = self.bins.get(bin).copied() else {
            if self.at.take().is_some() {
                page.workload.set(0, 0);
                page.neighbours.set(0, 0);
                page.crowding.store(0, SeqCst);
            }
            return;
        };
        self.at = Some(bin);
        let bin_ns = conductor.scaled(BIN_NS).max(1);
        self.used.aim(conductor.scaled(demand.used_ns));
        if !demand.is_asked {
            self.waited.aim(conductor.scaled(demand.waited_ns));
        }
        let spinners = demand.spinners().min(conductor.workers);
        let want = self.used.missing_ns() - i128::from(self.own_ns);
        hand_out(&page.workload, spinners, want, bin_ns);
        let crowding = conductor.scaled(demand.crowding_ns());
        if crowding > 0 {
            let neighbours = conductor.neighbours.len() as u32;
            // The workload is to wait as long as it did. Half of what was missing is made good at a time: more waits make the
            // group wait longer for the same CPU time, too.
            let due = i128::from(conductor.scaled(demand.waited_ns));
            let missing = if demand.is_asked { 0 } else { (self.waited.missing_ns() - due) / 2 };
            // Without a weight of its own the group waits as long as its neighbours run.
            let _ = conductor.controls.set_weight(weight(demand, neighbours));
            hand_out(&page.neighbours, neighbours, i128::from(crowding) + missing, bin_ns);
        } else {
            if page.crowding.load(SeqCst) != 0 {
                let _ = conductor.controls.set_weight(EVEN);
            }
            page.neighbours.set(0, 0);
        }
        page.crowding.store(u32::from(crowding > 0), SeqCst);
    }

    /// Compares what the last bin had with what it was to have.
    fn account(&mut self, conductor: &Conductor<'_>) {
        let page = &**conductor.board;
        let used = conductor.controls.used_ns().unwrap_or(0).saturating_sub(self.first_ns);
        let (spun, waited) = conductor.scheduled(&conductor.helpers.spinners);
        let (crowded, _) = conductor.scheduled(&conductor.neighbours);
        let crowded_now = crowded.saturating_sub(self.crowded_ns);
        let (used_now, waited_now) =
            (used.saturating_sub(self.used.reached_ns), waited.saturating_sub(self.waited.reached_ns));
        self.own_ns = used_now.saturating_sub(spun.saturating_sub(self.spun_ns));
        if let Some(demand) = self.at.and_then(|at| self.bins.get(at)) {
            page.used.add(conductor.scaled(demand.used_ns), used_now);
            if demand.crowding_ns() > 0 {
                page.crowded.add(conductor.scaled(demand.crowding_ns()), crowded_now);
                if !demand.is_asked {
                    page.waited.add(conductor.scaled(demand.waited_ns), waited_now);
                }
            }
        }
        self.crowded_ns = crowded;
        self.spun_ns = spun;
        self.used.reached_ns = used;
        self.waited.reached_ns = waited;
    }
}

/// How important the workload is beside one neighbour on each CPU, so that it waits as long as it did for what it used. The
/// weight of a group is that of all CPUs together.
fn weight(demand: Demand, cpus: u32) -> u64 {
    let wide = u64::from(demand.spinners().clamp(1, cpus.max(1)));
    let each =
        if demand.is_asked { EVEN } else { demand.used_ns.saturating_mul(EVEN) / demand.waited_ns.max(1) };
    each.max(LEAST).saturating_mul(wide)
}

/// Shares an amount among so many, each of which has one CPU at most.
fn hand_out(crew: &Crew, count: u32, want_ns: i128, bin_ns: u64) {
    let each = if count == 0 { 0 } else { want_ns.max(0) / i128::from(count) };
    crew.set(count, u64::try_from(each).unwrap_or(u64::MAX).min(bin_ns));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_made_good_within_bounds() {
        let mut pursuit = Pursuit::default();
        pursuit.aim(BIN_NS);
        assert_eq!(pursuit.missing_ns(), i128::from(BIN_NS));
        pursuit.reached_ns = BIN_NS / 2;
        pursuit.aim(BIN_NS);
        assert_eq!(pursuit.missing_ns(), i128::from(BIN_NS + BIN_NS / 2));
        // Nothing was to be had for long: that is not made good at once.
        for _ in 0..100 {
            pursuit.aim(BIN_NS);
        }
        assert_eq!(pursuit.target_ns, BIN_NS / 2 + 3 * BIN_NS);
        // Nor is too much waited out for ever.
        pursuit.reached_ns = 100 * BIN_NS;
        pursuit.aim(0);
        assert_eq!(pursuit.missing_ns(), -CARRY_BINS * i128::from(BIN_NS));
    }

    #[test]
    fn the_workload_is_as_important_as_it_was() {
        let demand = |used_ns, waited_ns| Demand { used_ns, waited_ns, ..Demand::default() };
        assert_eq!(weight(demand(BIN_NS / 2, BIN_NS / 2), 2), 1000);
        assert_eq!(weight(demand(BIN_NS / 4, BIN_NS * 3 / 4), 2), 333);
        assert_eq!(weight(demand(BIN_NS, BIN_NS), 2), 2000, "two of them, on both CPUs");
        assert_eq!(weight(demand(0, BIN_NS), 0), LEAST);
        let asked = Demand { is_asked: true, ..demand(0, 0) };
        assert_eq!(weight(asked, 2), EVEN, "whatever it used");
    }

    #[test]
    fn nobody_gets_more_than_one_cpu() {
        let crew = Crew::default();
        hand_out(&crew, 2, i128::from(BIN_NS), BIN_NS);
        assert_eq!((crew.count.load(SeqCst), crew.each_ns.load(SeqCst)), (2, BIN_NS / 2));
        hand_out(&crew, 2, i128::from(5 * BIN_NS), BIN_NS);
        assert_eq!(crew.each_ns.load(SeqCst), BIN_NS);
        for (count, want) in [(0, 7), (3, -5)] {
            hand_out(&crew, count, want, BIN_NS);
            assert_eq!(crew.each_ns.load(SeqCst), 0);
        }
        assert_eq!(crew.turn.load(SeqCst), 4, "each is called");
    }
}
