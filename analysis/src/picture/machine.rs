//! The panels of the machine: CPU, memory, pressure, disks, queues, descriptors and tasks.

use super::panels::panel;
use super::quantiles::Quantiles;
use super::{Curve, Grid, Panel, PanelKind, Unit};
use crate::findings::containers;
use crate::findings::machine::{HOST, SCOPE};
use ctrace_format::{Block, Container, Metric, Resource, Usage};
use rustc_hash::FxHashMap;

/// Containers that have curves of their own.
const MAX_CONTAINERS: usize = 6;

/// The samples of one counter, on the grid.
#[derive(Debug)]
struct Sampled {
    last: (u64, u64),
    /// Of a cumulative one: its growth by bin, and for how much of the bin that is known, ns. Of another one: its highest
    /// value in the bin.
    sums: Vec<f64>,
    known_ns: Vec<u64>,
}

impl Sampled {
    fn new(grid: &Grid, first: &Resource) -> Self {
        let mut this = Self {
            last: (first.t_ns, first.value),
            sums: vec![0.0; grid.bins],
            known_ns: vec![0; grid.bins],
        };
        if !first.metric.is_cumulative() {
            this.level(grid.bin(first.t_ns), first.value);
        }
        this
    }

    fn level(&mut self, bin: usize, value: u64) {
        self.sums[bin] = self.sums[bin].max(value as f64);
        self.known_ns[bin] = self.known_ns[bin].max(1);
    }

    fn add(&mut self, grid: &Grid, r: &Resource) {
        let (from_ns, before) = self.last;
        self.last = (r.t_ns, r.value);
        if !r.metric.is_cumulative() {
            // It had the value until then.
            for bin in grid.bin(from_ns)..grid.bin(r.t_ns) {
                self.level(bin, before);
            }
            return self.level(grid.bin(r.t_ns), r.value);
        }
        // A counter that goes back was set to 0 meanwhile: nobody knows how far it had come.
        let Some(growth) = r.value.checked_sub(before).filter(|_| r.t_ns > from_ns) else { return };
        let length = (r.t_ns - from_ns) as f64;
        grid.overlaps(from_ns, r.t_ns, |bin, ns| {
            self.sums[bin] += growth as f64 * ns as f64 / length;
            self.known_ns[bin] = self.known_ns[bin].saturating_add(ns);
        });
    }

    /// Values by bin: of a cumulative one how much it grew in a second.
    fn values(&self, metric: Metric, scale: f64) -> Vec<Option<f64>> {
        let value = |(sum, known): (&f64, &u64)| match known {
            0 => None,
            ns if metric.is_cumulative() => Some(sum * scale / (*ns as f64 / 1e9)),
            _ => Some(sum * scale),
        };
        self.sums.iter().zip(&self.known_ns).map(value).collect()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Machine {
    samples: FxHashMap<(u32, Metric), Sampled>,
    subjects: Vec<u32>,
    /// Time on a CPU and for want of one, ns.
    ran: Vec<f64>,
    waited: Vec<f64>,
    requests: Quantiles,
    flushes: Quantiles,
    cpus: u32,
}

impl Machine {
    pub(super) fn new(cpus: u32) -> Self {
        Self { cpus, ..Self::default() }
    }

    pub(super) fn sample(&mut self, grid: &Grid, r: &Resource) {
        if !self.subjects.contains(&r.subject) {
            // The host, the scope, and a few containers.
            if self.subjects.len() >= MAX_CONTAINERS + 2 {
                return;
            }
            self.subjects.push(r.subject);
        }
        match self.samples.get_mut(&(r.subject, r.metric)) {
            Some(sampled) => sampled.add(grid, r),
            None if is_shown(r.metric) => {
                self.samples.insert((r.subject, r.metric), Sampled::new(grid, r));
            }
            None => {}
        }
    }

    pub(super) fn usage(&mut self, grid: &Grid, usage: &Usage) {
        if self.ran.is_empty() {
            (self.ran, self.waited) = (vec![0.0; grid.bins], vec![0.0; grid.bins]);
        }
        grid.spread(usage.from_ns, usage.t_ns, usage.cpu_ns as f64, &mut self.ran);
        grid.spread(usage.from_ns, usage.t_ns, usage.wait_ns as f64, &mut self.waited);
    }

    pub(super) fn block(&mut self, grid: &Grid, block: &Block) {
        let end_ns = block.t_ns.saturating_add(block.duration_ns);
        self.requests.add(grid.bins, grid.bin(end_ns), block.duration_ns);
    }

    /// A call waited until a disk had everything.
    pub(super) fn flush(&mut self, grid: &Grid, bin: usize, ns: u64) {
        self.flushes.add(grid.bins, bin, ns);
    }

    fn curve(&self, subject: u32, metric: Metric, name: String, unit: Unit, scale: f64) -> Option<Curve> {
        let sampled = self.samples.get(&(subject, metric))?;
        let values = sampled.values(metric, scale);
        // A limit without a bound is none.
        let is_unlimited = |value: &Option<f64>| value.is_none_or(|v| v >= u64::MAX as f64 * scale);
        let is_limit = matches!(metric, Metric::MemoryLimitBytes | Metric::PidsLimit);
        if values.iter().all(Option::is_none) || is_limit && values.iter().all(is_unlimited) {
            return None;
        }
        let values = if is_limit {
            values.into_iter().map(|value| value.filter(|_| !is_unlimited(&value))).collect()
        } else {
            values
        };
        Some(Curve { name, unit, is_limit, values })
    }

    /// As [`Self::curve`], unless nothing ever happened.
    fn lively(&self, subject: u32, metric: Metric, name: String, unit: Unit, scale: f64) -> Option<Curve> {
        let curve = self.curve(subject, metric, name, unit, scale)?;
        curve.values.iter().flatten().any(|value| *value > 0.0).then_some(curve)
    }

    /// The subjects that have limits of their own, with what is put behind the names of their curves: containers where they
    /// are told apart, else the scope.
    fn groups(&self, containers: &[Container]) -> Vec<(u32, String)> {
        let mut all: Vec<u32> = self.subjects.iter().copied().filter(|s| *s > SCOPE).collect();
        all.sort_unstable();
        if all.is_empty() {
            return vec![(SCOPE, String::new())];
        }
        let mut names: Vec<String> = Vec::new();
        for subject in &all {
            let known = containers.iter().find(|c| c.number + 1 == *subject);
            let name = known.map_or_else(|| format!("container {}", subject - 1), containers::name);
            let same = names.iter().filter(|n| **n == name || n.starts_with(&format!("{name} #"))).count();
            names.push(if same == 0 { name } else { format!("{name} #{}", same + 1) });
        }
        all.into_iter().zip(names.into_iter().map(|name| format!(" {name}"))).collect()
    }

    pub(super) fn panels(&self, grid: &Grid, containers: &[Container]) -> [Panel; 6] {
        let groups = self.groups(containers);
        let counts = self.counts();
        [
            self.cpu(grid, &groups),
            self.memory(&groups),
            self.pressure(),
            self.disk(grid),
            self.backlog(),
            panel(PanelKind::Counts, counts, "nobody counted descriptors and tasks"),
        ]
    }

    fn cpu(&self, grid: &Grid, groups: &[(u32, String)]) -> Panel {
        let mut series = Vec::new();
        let width = grid.width_ns as f64;
        let share = |name: &str, sums: &[f64]| Curve {
            name: name.to_owned(),
            unit: Unit::Share,
            is_limit: false,
            values: sums.iter().map(|ns| Some(ns / width)).collect(),
        };
        if self.ran.is_empty() {
            series.extend(self.curve(SCOPE, Metric::CpuNs, "used".to_owned(), Unit::Share, 1e-9));
        } else {
            series.push(share("used", &self.ran));
            series.push(share("waited for", &self.waited));
        }
        for (subject, name) in groups {
            let throttled = format!("throttled{name}");
            series.extend(self.lively(*subject, Metric::CpuThrottledNs, throttled, Unit::Share, 1e-9));
            series.extend(self.quota(*subject, format!("limit{name}")));
        }
        let machine = self.curve(HOST, Metric::CpuNs, "the machine".to_owned(), Unit::Share, 1e-9);
        if !series.is_empty() && self.cpus > 0 {
            series.extend(machine);
        }
        panel(PanelKind::Cpu, series, "the trace has neither scheduler data nor samples of CPU time")
    }

    /// The CPUs that a quota allows.
    fn quota(&self, subject: u32, name: String) -> Option<Curve> {
        let quota = self.samples.get(&(subject, Metric::CpuQuotaNs))?;
        let period = self.samples.get(&(subject, Metric::CpuPeriodNs))?;
        let quota = quota.values(Metric::CpuQuotaNs, 1.0);
        let period = period.values(Metric::CpuPeriodNs, 1.0);
        let cpus = |(quota, period): (Option<f64>, Option<f64>)| match (quota, period) {
            (Some(quota), Some(period)) if period > 0.0 && quota < u64::MAX as f64 => Some(quota / period),
            _ => None,
        };
        let values: Vec<Option<f64>> = quota.into_iter().zip(period).map(cpus).collect();
        let is_there = values.iter().any(Option::is_some);
        is_there.then_some(Curve { name, unit: Unit::Share, is_limit: true, values })
    }

    fn memory(&self, groups: &[(u32, String)]) -> Panel {
        let mut series = Vec::new();
        for (subject, name) in groups {
            let used = self.curve(*subject, Metric::MemoryBytes, format!("used{name}"), Unit::Bytes, 1.0);
            let resident =
                || self.curve(*subject, Metric::RssBytes, format!("resident{name}"), Unit::Bytes, 1.0);
            series.extend(used.or_else(resident));
            let limit = format!("limit{name}");
            series.extend(self.curve(*subject, Metric::MemoryLimitBytes, limit, Unit::Bytes, 1.0));
            let swap = format!("swapped{name}");
            series.extend(self.lively(*subject, Metric::SwapBytes, swap, Unit::Bytes, 1.0));
        }
        panel(PanelKind::Memory, series, "the trace has no samples of memory")
    }

    fn pressure(&self) -> Panel {
        const KINDS: [(Metric, &str); 6] = [
            (Metric::PsiCpuSomeUs, "some of them waited for a CPU"),
            (Metric::PsiCpuFullUs, "all of them waited for a CPU"),
            (Metric::PsiMemorySomeUs, "some of them waited for memory"),
            (Metric::PsiMemoryFullUs, "all of them waited for memory"),
            (Metric::PsiIoSomeUs, "some of them waited for I/O"),
            (Metric::PsiIoFullUs, "all of them waited for I/O"),
        ];
        let of = |subject: u32, ending: &str| -> Vec<Curve> {
            let curve = |(metric, name): &(Metric, &str)| {
                let mut curve =
                    self.lively(subject, *metric, format!("{name}{ending}"), Unit::Share, 1e-6)?;
                // The kernel adds up later than it is asked: no time is longer than it is.
                curve.values.iter_mut().flatten().for_each(|share| *share = share.min(1.0));
                Some(curve)
            };
            KINDS.iter().filter_map(curve).collect()
        };
        let is_sampled = |subject| KINDS.iter().any(|kind| self.samples.contains_key(&(subject, kind.0)));
        let mut series = of(SCOPE, "");
        if !is_sampled(SCOPE) {
            series = of(HOST, " (the machine)");
        }
        let why = if is_sampled(SCOPE) || is_sampled(HOST) {
            "there was no pressure: nobody waited for a CPU, memory or I/O"
        } else {
            "the trace has no pressure figures (PSI)"
        };
        panel(PanelKind::Pressure, series, why)
    }

    fn disk(&self, grid: &Grid) -> Panel {
        let mut series = Vec::new();
        for (durations, name) in [(&self.requests, "request"), (&self.flushes, "fsync")] {
            if !durations.is_empty() {
                series.push(durations.curve(format!("p50 {name}"), 500));
                series.push(durations.longest(format!("longest {name}"), grid));
            }
        }
        panel(PanelKind::Disk, series, "no request of a disk and no fsync was recorded")
    }

    fn backlog(&self) -> Panel {
        let subject = if self.samples.contains_key(&(SCOPE, Metric::AcceptQueue)) { SCOPE } else { HOST };
        let of = |metric, name: &str, unit| self.lively(subject, metric, name.to_owned(), unit, 1.0);
        let series: Vec<Curve> = [
            of(Metric::AcceptQueue, "longest queue", Unit::Count),
            of(Metric::ListenOverflows, "found the queue full", Unit::PerSecond),
            of(Metric::ListenDrops, "dropped", Unit::PerSecond),
        ]
        .into_iter()
        .flatten()
        .collect();
        let why = if self.samples.contains_key(&(subject, Metric::AcceptQueue)) {
            "nobody waited to be accepted, and nobody was turned away"
        } else {
            "the trace has no samples of accept queues"
        };
        panel(PanelKind::Backlog, series, why)
    }

    fn counts(&self) -> Vec<Curve> {
        const KINDS: [(Metric, &str); 5] = [
            (Metric::OpenFds, "open descriptors"),
            (Metric::Pids, "tasks"),
            (Metric::PidsLimit, "limit of tasks"),
            (Metric::TcpEstablished, "established connections"),
            (Metric::TcpCloseWait, "connections left open"),
        ];
        let of = |(metric, name): &(Metric, &str)| {
            self.lively(SCOPE, *metric, (*name).to_owned(), Unit::Count, 1.0)
        };
        KINDS.iter().filter_map(of).collect()
    }
}

/// Whether a panel shows a counter: the others take no memory.
const fn is_shown(metric: Metric) -> bool {
    matches!(
        metric,
        Metric::CpuNs
            | Metric::CpuThrottledNs
            | Metric::CpuQuotaNs
            | Metric::CpuPeriodNs
            | Metric::MemoryBytes
            | Metric::MemoryLimitBytes
            | Metric::SwapBytes
            | Metric::RssBytes
            | Metric::PsiCpuSomeUs
            | Metric::PsiCpuFullUs
            | Metric::PsiMemorySomeUs
            | Metric::PsiMemoryFullUs
            | Metric::PsiIoSomeUs
            | Metric::PsiIoFullUs
            | Metric::AcceptQueue
            | Metric::ListenOverflows
            | Metric::ListenDrops
            | Metric::OpenFds
            | Metric::Pids
            | Metric::PidsLimit
            | Metric::TcpEstablished
            | Metric::TcpCloseWait
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(metric: Metric, samples: &[(u64, u64)]) -> Vec<Option<f64>> {
        let grid = Grid { from_ns: 0, duration_ns: 8_000, width_ns: 1_000, bins: 8 };
        let mut machine = Machine::new(1);
        for (t_ns, value) in samples.iter().copied() {
            machine.sample(&grid, &Resource { t_ns, subject: SCOPE, metric, value });
        }
        machine.samples[&(SCOPE, metric)].values(metric, 1.0)
    }

    #[test]
    fn a_counter_becomes_a_rate_and_one_that_was_reset_no_negative_peak() {
        let values = machine(Metric::CpuNs, &[(1_000, 100), (3_000, 300), (5_000, 50), (7_000, 250)]);
        let hundred = Some(100.0 / 1e-6);
        assert_eq!(values[..3], [None, hundred, hundred]);
        assert_eq!(values[4..], [None, hundred, hundred, None], "{values:?}");
    }

    #[test]
    fn a_level_holds_until_the_next_sample() {
        let values = machine(Metric::MemoryBytes, &[(1_500, 10), (4_100, 30), (4_900, 20)]);
        let (ten, thirty) = (Some(10.0), Some(30.0));
        assert_eq!(values, [None, ten, ten, ten, thirty, None, None, None]);
    }
}
