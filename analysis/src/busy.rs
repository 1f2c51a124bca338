//! Time over time: how much CPU time tasks used, how long they waited for a CPU, and for a disk, by bins of [`BIN_NS`].

use crate::model::BIN_NS;
use ctrace_format::syscalls::{On, Row};
use ctrace_format::{Metric, Resource, Syscall, Usage};

/// Most bins: a day. A time stamp of a damaged file may be anything.
const BINS_MAX: usize = 864_000;
/// A stretch of a task is about one bin long; the end of one that is said to be longer than so many counts.
const STRETCH_BINS: u64 = 100;

/// Amounts by bins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bins(Vec<u64>);

impl Bins {
    /// The amount in a bin.
    pub fn get(&self, bin: usize) -> u64 {
        self.0.get(bin).copied().unwrap_or(0)
    }

    /// How many there are: up to the last that has something.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All amounts.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied()
    }

    /// Shares an amount among the bins of a stretch of time, ns.
    pub fn spread(&mut self, from_ns: u64, to_ns: u64, amount: u64) {
        let last = BINS_MAX as u64 * BIN_NS;
        if amount == 0 || from_ns >= last {
            return;
        }
        let length = to_ns.saturating_sub(from_ns);
        if length == 0 {
            return self.add((from_ns / BIN_NS) as usize, amount);
        }
        let (mut at, to) = (from_ns, to_ns.min(last));
        while at < to {
            let end = ((at / BIN_NS + 1) * BIN_NS).min(to);
            let part = u128::from(amount) * u128::from(end - at) / u128::from(length);
            self.add((at / BIN_NS) as usize, part as u64);
            at = end;
        }
    }

    fn add(&mut self, bin: usize, amount: u64) {
        if self.0.len() <= bin {
            self.0.resize(bin + 1, 0);
        }
        self.0[bin] = self.0[bin].saturating_add(amount);
    }
}

/// CPU time of tasks, and their waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Busy {
    /// Used, ns.
    pub used: Bins,
    /// Waited for, ns.
    pub waited: Bins,
    /// Time in calls that return when something is on a disk, ns.
    pub synced: Bins,
    /// The last samples of processes that count as the scope's, used and waited: when, and how much.
    beside: [Option<(u64, u64)>; 2],
}

impl Busy {
    /// Adds a call, which this row of the table describes.
    pub fn call(&mut self, call: &Syscall, row: &Row) {
        if row.waits == Some(On::Disk) {
            self.synced.spread(call.t_ns, call.t_ns.saturating_add(call.duration_ns), call.duration_ns);
        }
    }

    /// Adds a stretch of a task.
    pub fn usage(&mut self, usage: &Usage) {
        let from = usage.from_ns.max(usage.t_ns.saturating_sub(STRETCH_BINS * BIN_NS));
        self.used.spread(from, usage.t_ns, usage.cpu_ns);
        self.waited.spread(from, usage.t_ns, usage.wait_ns);
    }
}

impl Busy {
    /// Adds what a sample of the scope says of processes that are not recorded themselves; others say nothing.
    pub fn sample(&mut self, sample: &Resource) {
        let (last, bins) = match sample.metric {
            Metric::BesideCpuNs => (&mut self.beside[0], &mut self.used),
            Metric::BesideCpuWaitNs => (&mut self.beside[1], &mut self.waited),
            _ => return,
        };
        if let Some((from, had)) = last.replace((sample.t_ns, sample.value)) {
            bins.spread(from, sample.t_ns, sample.value.saturating_sub(had));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIN: u64 = BIN_NS;

    #[test]
    fn amounts_are_shared_by_time() {
        let mut bins = Bins::default();
        bins.spread(BIN / 2, BIN * 5 / 2, 400);
        bins.spread(BIN * 2, BIN * 2, 7);
        assert_eq!(bins.iter().collect::<Vec<_>>(), [100, 200, 107]);
        assert_eq!((bins.len(), bins.get(9)), (3, 0));
    }

    #[test]
    fn no_time_stamp_makes_more_bins_than_a_day_has() {
        let mut bins = Bins::default();
        bins.spread(0, u64::MAX, u64::MAX);
        bins.spread(u64::MAX, 3, 9);
        bins.spread(5, 3, u64::MAX);
        assert!(bins.len() <= BINS_MAX);
        assert_eq!(bins.get(0), u64::MAX);
    }
}
