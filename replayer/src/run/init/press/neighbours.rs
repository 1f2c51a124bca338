//! Neighbours: processes beside the workload's group use the CPU time that the recorded neighbours used while the workload
//! waited for a CPU.
//!
//! Nothing is added to the CPU time of the workload itself: its tasks compute between calls for as long as the recorded ones
//! did. Like the recorded ones they get less of it where others want the CPUs, too.

use super::conductor::Conductor;
use crate::pressure::Load;
use std::sync::atomic::Ordering::SeqCst;

/// CPU time, ns: sums that only grow.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    /// The workload's tasks.
    workload: u64,
    /// The neighbours.
    neighbours: u64,
}

impl Used {
    fn so_far(conductor: &Conductor<'_>) -> Self {
        let group = conductor.controls.used_ns().unwrap_or(0);
        Self {
            workload: group.saturating_sub(conductor.used_by(&conductor.helpers.spinners)),
            neighbours: conductor.used_by(&conductor.neighbours),
        }
    }
}

/// Follows the recorded neighbours, and measures the CPU time of them and of the workload.
#[derive(Debug)]
pub(super) struct Neighbours {
    load: Load,
    /// The bin that is under way.
    at: Option<usize>,
    /// As it was when that began.
    before: Used,
}

impl Neighbours {
    pub(super) fn new(load: Load, conductor: &Conductor<'_>) -> Self {
        Self { load, at: None, before: Used::so_far(conductor) }
    }

    /// A bin begins, or, after the last, nothing is wanted any more.
    pub(super) fn begin(&mut self, bin: usize, conductor: &Conductor<'_>) {
        self.account(conductor);
        let is_over = self.at.is_none() && bin >= self.load.bins.len();
        let demand = self.load.bins.get(bin).copied();
        self.at = demand.map(|_| bin);
        if is_over {
            return;
        }
        let page = &**conductor.board;
        let demand = demand.unwrap_or_default();
        let crowding = conductor.scaled(demand.crowding_ns());
        page.neighbours.set(crowding);
        page.crowding.store(u32::from(crowding > 0), SeqCst);
        conductor.make_scarce(crowding > 0);
    }

    /// Compares the CPU time in the bin that ends with the recorded one.
    fn account(&mut self, conductor: &Conductor<'_>) {
        let page = &**conductor.board;
        let now = Used::so_far(conductor);
        let before = std::mem::replace(&mut self.before, now);
        let Some(demand) = self.at.and_then(|at| self.load.bins.get(at)) else { return };
        page.used.add(conductor.scaled(demand.used_ns), now.workload.saturating_sub(before.workload));
        if demand.crowding_ns() > 0 {
            let neighbours = now.neighbours.saturating_sub(before.neighbours);
            page.crowded.add(conductor.scaled(demand.crowding_ns()), neighbours);
        }
    }
}
