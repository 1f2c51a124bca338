//! How much CPU time the workload used and waited for, and how much its neighbours used.
//!
//! The tasks of a replay compute between calls for as long as the recorded ones did. Processes beside them stand for the
//! neighbours. That the workload then waits for CPUs as it did is an effect of both, and is measured.

use super::{BIN_NS, BINS_MAX, CPUS_MAX};
use ctrace_analysis::busy::{Bins, Busy};
use ctrace_format::Usage;
use serde::Serialize;

/// A workload that used less in each of its bins makes no load worth making, ns.
const LITTLE_NS: u64 = 10_000_000;
/// Neighbours keep a workload waiting for longer than what runs now and then on any machine, ns: a tenth of a bin.
const CROWDED_NS: u64 = 10_000_000;

/// One bin of [`BIN_NS`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// CPU time that the workload used, ns.
    pub used_ns: u64,
    /// Time that its tasks waited for a CPU, ns.
    pub waited_ns: u64,
    /// CPU time that everybody else used, ns.
    pub neighbours_ns: u64,
    /// A plan asks for these neighbours: how long the workload waits for them is not asked for.
    pub is_asked: bool,
}

impl Demand {
    /// CPU time of the neighbours that kept the workload waiting, ns. Its tasks wait for each other, too: for the neighbours as
    /// much as these had of the CPU time.
    pub fn crowding_ns(&self) -> u64 {
        let all = u128::from(self.used_ns) + u128::from(self.neighbours_ns);
        let for_them = u128::from(self.waited_ns) * u128::from(self.neighbours_ns) / all.max(1);
        if for_them < u128::from(CROWDED_NS) && !self.is_asked { 0 } else { self.neighbours_ns }
    }
}

/// CPU time over time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Load {
    /// By bins of [`BIN_NS`].
    #[serde(skip)]
    pub bins: Vec<Demand>,
}

impl Load {
    /// The sum of one figure.
    pub fn sum(&self, figure: impl Fn(&Demand) -> u64) -> u64 {
        self.bins.iter().map(figure).fold(0, u64::saturating_add)
    }

    /// So that neighbours want this share of each CPU between two moments, whatever there was before.
    pub(super) fn with_neighbours(mut self, share: f64, cpus: u32, window_ns: (u64, u64)) -> Self {
        if !(share > 0.0 && share <= 1.0) {
            return self;
        }
        let neighbours_ns = (share * BIN_NS as f64) as u64 * u64::from(cpus.clamp(1, CPUS_MAX));
        let bin = |ns: u64| usize::try_from(ns / BIN_NS).unwrap_or(BINS_MAX).min(BINS_MAX);
        let (from, to) = (bin(window_ns.0), bin(window_ns.1));
        self.bins.resize(self.bins.len().max(to), Demand::default());
        for bin in self.bins.iter_mut().take(to).skip(from) {
            bin.neighbours_ns = neighbours_ns;
            bin.is_asked = true;
        }
        self
    }

    /// Without what neighbours used.
    #[must_use]
    pub(super) fn without_neighbours(mut self) -> Self {
        self.bins.iter_mut().for_each(|bin| bin.neighbours_ns = 0);
        self
    }

    /// Without what the workload used.
    #[must_use]
    pub(super) fn of_neighbours(mut self) -> Self {
        self.bins.iter_mut().for_each(|bin| bin.used_ns = 0);
        self
    }

    /// Whether there is any worth making.
    pub(super) fn is_none(&self) -> bool {
        self.bins.iter().all(|bin| bin.used_ns < LITTLE_NS && bin.crowding_ns() == 0)
    }
}

/// Collects it.
#[derive(Debug, Default)]
pub(super) struct Collected {
    busy: Busy,
    /// CPU time of the host up to its last sample: when, and how much.
    host: Option<(u64, u64)>,
    host_bins: Bins,
}

impl Collected {
    /// A stretch of a task.
    pub(super) fn usage(&mut self, usage: &Usage) {
        self.busy.usage(usage);
    }

    /// A sample of the CPU time of the host.
    pub(super) fn host(&mut self, t_ns: u64, cpu_ns: u64) {
        if let Some((from, had)) = self.host.replace((t_ns, cpu_ns))
            && t_ns.saturating_sub(from) <= 10 * BIN_NS
        {
            self.host_bins.spread(from, t_ns, cpu_ns.saturating_sub(had));
        }
    }

    /// All of it; `throttled`: how long a quota kept the workload waiting. `None`: there was none worth making.
    pub(super) fn finish(self, throttled: &Bins) -> Option<Load> {
        let Busy { used, waited, .. } = self.busy;
        let demand = |bin: usize| {
            let used_ns = used.get(bin);
            // When exactly a quota kept whom waiting is not recorded: what is left after most was taken off is no wait.
            let by_quota = throttled.get(bin);
            let rest = waited.get(bin).saturating_sub(by_quota);
            let waited_ns = if rest < by_quota / 2 { 0 } else { rest };
            let neighbours_ns = self.host_bins.get(bin).saturating_sub(used_ns);
            Demand { used_ns, waited_ns, neighbours_ns, is_asked: false }
        };
        let bins = used.len().max(waited.len()).min(BINS_MAX);
        Some(Load { bins: (0..bins).map(demand).collect() }).filter(|load| !load.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctrace_format::TaskId;

    const MS: u64 = 1_000_000;

    fn usage(from_ms: u64, to_ms: u64, cpu_ms: u64, wait_ms: u64) -> Usage {
        Usage {
            t_ns: to_ms * MS,
            from_ns: from_ms * MS,
            task: TaskId(0),
            cpu_ns: cpu_ms * MS,
            wait_ns: wait_ms * MS,
            minor_faults: 0,
            major_faults: 0,
            yields: 0,
            preemptions: 0,
        }
    }

    #[test]
    fn stretches_of_tasks_and_the_hosts_samples_make_bins() {
        let mut all = Collected::default();
        all.usage(&usage(0, 100, 40, 20));
        all.usage(&usage(50, 150, 80, 40));
        for k in 0..3 {
            all.host(k * 100 * MS, k * 150 * MS);
        }
        let load = all.finish(&Bins::default()).unwrap();
        let bin = |used: u64, waited: u64, others: u64| Demand {
            used_ns: used * MS,
            waited_ns: waited * MS,
            neighbours_ns: others * MS,
            is_asked: false,
        };
        assert_eq!(load.bins, [bin(80, 40, 70), bin(40, 20, 110)]);
        assert_eq!(load.sum(|bin| bin.used_ns), 120 * MS);
        assert_eq!(load.bins[0].crowding_ns(), 70 * MS);
    }

    #[test]
    fn a_workload_that_hardly_computes_makes_no_load() {
        let mut all = Collected::default();
        all.usage(&usage(0, 100, 3, 0));
        all.host(0, 0);
        all.host(100 * MS, 200 * MS);
        assert_eq!(all.finish(&Bins::default()), None);
        // One that is kept waiting does: by its neighbours.
        let mut all = Collected::default();
        all.usage(&usage(0, 100, 3, 30));
        all.host(0, 0);
        all.host(100 * MS, 200 * MS);
        assert_eq!(all.finish(&Bins::default()).unwrap().bins[0].crowding_ns(), 197 * MS);
    }

    #[test]
    fn tasks_that_wait_for_each_other_are_not_crowded() {
        let bin = |used, waited, neighbours| Demand {
            used_ns: used * MS,
            waited_ns: waited * MS,
            neighbours_ns: neighbours * MS,
            is_asked: false,
        };
        assert_eq!(bin(180, 90, 10).crowding_ns(), 0);
        assert_eq!(bin(50, 50, 150).crowding_ns(), 150 * MS);
        assert_eq!(bin(0, 90, 0).crowding_ns(), 0);
        assert_eq!(Demand { is_asked: true, ..bin(0, 0, 50) }.crowding_ns(), 50 * MS);
    }

    #[test]
    fn no_recording_makes_more_bins_than_an_hour_has() {
        let mut all = Collected::default();
        all.usage(&Usage { from_ns: 0, t_ns: u64::MAX, cpu_ns: u64::MAX, ..usage(0, 0, 0, 0) });
        all.usage(&Usage { from_ns: u64::MAX, t_ns: 5, wait_ns: u64::MAX, ..usage(0, 0, 0, 0) });
        all.usage(&Usage { cpu_ns: u64::MAX, ..usage(0, 100, 0, u64::MAX / MS) });
        all.usage(&Usage { cpu_ns: u64::MAX, ..usage(0, 100, 0, 0) });
        all.host(5, u64::MAX);
        all.host(0, 3);
        let load = all.finish(&Bins::default()).unwrap();
        assert!(load.bins.len() <= BINS_MAX);
    }

    #[test]
    fn a_level_of_neighbours_is_the_same_all_along() {
        let before = Load { bins: vec![Demand { used_ns: 70 * MS, ..Demand::default() }; 3] };
        let load = before.clone().with_neighbours(0.5, 2, (200 * MS, 1_000 * MS));
        assert_eq!(load.bins.len(), 10);
        assert!(load.bins.iter().skip(2).all(|bin| bin.crowding_ns() == 100 * MS));
        assert_eq!((load.bins[1], load.bins[2].used_ns), (before.bins[1], 70 * MS));
        for share in [0.0, -1.0, 1.5, f64::NAN] {
            assert_eq!(before.clone().with_neighbours(share, 2, (0, u64::MAX)), before);
        }
        assert_eq!(before.with_neighbours(1.0, u32::MAX, (0, u64::MAX)).bins.len(), BINS_MAX);
    }
}
