//! Memory: ten times a second a helper's memory is made what the workload had and the replay's own tasks have not.

use super::board::call;
use super::conductor::Conductor;
use crate::pressure::{Counted, Memory};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// The part of the replay's memory limit, in 1/8, that the ballast fills up at most.
const MEMORY_EIGHTHS: u64 = 7;

/// Memory below the recorded limit that stays free.
const MARGIN_BYTES: u64 = 1 << 20;

impl Conductor<'_> {
    /// Makes the ballast what is missing.
    pub(super) fn fill(&self, memory: &Memory, bin: usize) {
        let page = &**self.board;
        let target = memory.bins.get(bin).copied().unwrap_or(0);
        let has = match memory.counted {
            Counted::Anonymous => self.controls.anonymous_bytes(),
            Counted::Resident => Some(self.resident_bytes()),
        };
        let Some(has) = has else { return };
        if bin > 0 {
            page.memory.add(memory.bins.get(bin - 1).copied().unwrap_or(0), has);
        }
        let held = page.held.load(SeqCst);
        let wanted = held.saturating_add(target).saturating_sub(has);
        let whole = self.controls.whole_memory_bytes().unwrap_or(0);
        let free = (self.limits.memory.limit / 8 * MEMORY_EIGHTHS).saturating_sub(whole);
        // Its own group's limit is there for the workload: whoever took the last of it would be killed.
        let left = self.memory_limit.map_or(u64::MAX, |limit| {
            limit.saturating_sub(MARGIN_BYTES).saturating_sub(self.controls.work_memory_bytes().unwrap_or(0))
        });
        let allowed = wanted.min(held.saturating_add(free.min(left)));
        if allowed < wanted {
            page.refused.fetch_max(wanted - allowed, Relaxed);
        }
        if allowed != held {
            page.wanted.store(allowed, SeqCst);
            call(&page.ballast_turn);
        }
    }

    /// The resident memory of the workload's processes and of the ballast.
    fn resident_bytes(&self) -> u64 {
        let all = self.controls.processes().into_iter().filter(|pid| !self.helpers.spinners.contains(pid));
        all.filter_map(|pid| self.threads.resident_bytes(pid)).sum()
    }
}
