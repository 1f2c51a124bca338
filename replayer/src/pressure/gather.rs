//! The pressure that a recording shows.

use super::disk::Disk;
use super::load::Collected;
use super::throttle::{Activity, Period, Throttle};
use super::{BIN_NS, BINS_MAX, CPUS_MAX, Counted, Memory, Pressure};
use ctrace_analysis::busy::Bins;
use ctrace_format::syscalls::{Call, On};
use ctrace_format::{Event, Metric, Resource, Syscall};

/// The scope as a whole.
const SCOPE: u32 = 1;
/// The machine.
const HOST: u32 = 0;
/// No limit is as large as this, bytes or tasks.
const NO_LIMIT: u64 = 1 << 60;

/// Memory as one counter has it.
#[derive(Debug, Default)]
struct Levels {
    bins: Vec<u64>,
}

impl Levels {
    fn add(&mut self, t_ns: u64, bytes: u64) {
        let bin = usize::try_from(t_ns / BIN_NS).unwrap_or(usize::MAX);
        if bin < BINS_MAX {
            let last = self.bins.last().copied().unwrap_or(bytes);
            self.bins.resize(self.bins.len().max(bin + 1), last);
            self.bins[bin] = bytes;
        }
    }
}

/// Collects it, sample by sample, in order of time.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    quota_ns: Option<u64>,
    period: Option<Period>,
    activity: Option<Activity>,
    load: Collected,
    throttled: Vec<(u64, u64)>,
    resident: Levels,
    anonymous: Levels,
    limit_bytes: Option<u64>,
    pids: Option<u64>,
    oom_kills: (Option<u64>, u64),
    disk: Disk,
    later: bool,
}

impl Gather {
    /// The next event.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Syscall(call) => self.call(call),
            Event::Resource(sample) => self.sample(sample),
            Event::Usage(usage) => self.load.usage(usage),
            _ => {}
        }
    }

    /// A sample.
    fn sample(&mut self, sample: &Resource) {
        let Resource { t_ns, subject, metric, value } = *sample;
        if subject != SCOPE {
            if subject == HOST && metric == Metric::CpuNs {
                self.load.host(t_ns, value);
            }
            return;
        }
        let limit = |so_far: Option<u64>| {
            if value >= NO_LIMIT { so_far } else { Some(so_far.map_or(value, |s| s.min(value))) }
        };
        self.later |= t_ns / BIN_NS >= BINS_MAX as u64;
        match metric {
            Metric::CpuQuotaNs if value < NO_LIMIT => self.quota_ns = Some(value),
            Metric::CpuPeriodNs if value < NO_LIMIT => {
                if let (None, Some(quota_ns)) = (self.period, self.quota_ns) {
                    self.period = Some(Period { quota_ns, length_ns: value });
                    self.activity = Some(Activity::new(value));
                }
            }
            Metric::CpuThrottledNs if self.throttled.len() < BINS_MAX => self.throttled.push((t_ns, value)),
            Metric::RssBytes => self.resident.add(t_ns, value),
            Metric::MemoryAnonBytes => self.anonymous.add(t_ns, value),
            Metric::MemoryLimitBytes => self.limit_bytes = limit(self.limit_bytes),
            Metric::PidsLimit => self.pids = limit(self.pids),
            Metric::OomKills => {
                let first = *self.oom_kills.0.get_or_insert(value);
                self.oom_kills.1 = value.saturating_sub(first);
            }
            _ => {}
        }
    }

    /// A call.
    fn call(&mut self, call: &Syscall) {
        if Call::of(call.sysno).row().waits == Some(On::Disk) {
            self.disk.add(call.duration_ns);
        }
        if call.wait_cpu_ns > 0
            && let Some(activity) = &mut self.activity
        {
            activity.add(call.t_ns, call.wait_cpu_ns);
        }
    }

    /// All of it. `cpus`: of the recorded machine; 0: not known.
    pub(crate) fn finish(self, cpus: u32) -> Pressure {
        let cpus = if cpus == 0 { CPUS_MAX } else { cpus };
        let cpu = self
            .period
            .zip(self.activity.as_ref())
            .and_then(|(period, activity)| Throttle::recorded(period, &self.throttled, activity, cpus));
        let (counted, bins) = if self.anonymous.bins.is_empty() {
            (Counted::Resident, self.resident.bins)
        } else {
            (Counted::Anonymous, self.anonymous.bins)
        };
        let peak_bytes = bins.iter().copied().max().unwrap_or(0);
        let memory =
            (peak_bytes > 0).then_some(Memory { counted, bins, peak_bytes, limit_bytes: self.limit_bytes });
        let mut notes = Vec::new();
        if self.later {
            notes.push("pressure after the first hour of the recording is not replayed".to_owned());
        }
        let mut throttled = Bins::default();
        for span in cpu.iter().flat_map(|cpu| &cpu.spans) {
            throttled.spread(span.begin_ns, span.end_ns, span.throttled_ns());
        }
        Pressure {
            cpu,
            load: self.load.finish(&throttled),
            memory,
            disk: self.disk.finish(),
            pids: self.pids,
            oom_kills: self.oom_kills.1,
            notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctrace_format::{Abi, SyscallFlags, TaskId, syscalls};

    const MS: u64 = 1_000_000;

    fn samples(of: &[(u64, Metric, u64)]) -> Pressure {
        let mut gather = Gather::default();
        for &(t_ms, metric, value) in of {
            gather.sample(&Resource { t_ns: t_ms * MS, subject: SCOPE, metric, value });
        }
        gather.finish(2)
    }

    #[test]
    fn a_recording_without_pressure_has_none() {
        assert!(samples(&[]).is_none());
        assert!(
            samples(&[(0, Metric::MemoryLimitBytes, u64::MAX), (0, Metric::PidsLimit, u64::MAX)]).is_none()
        );
        // The host's memory is not the scope's.
        let mut gather = Gather::default();
        gather.sample(&Resource { t_ns: 0, subject: 0, metric: Metric::RssBytes, value: 1 << 30 });
        assert!(gather.finish(2).is_none());
    }

    #[test]
    fn throttling_needs_a_quota() {
        let throttled = |k: u64| (k * 100, Metric::CpuThrottledNs, k * 60 * MS);
        assert!(samples(&[throttled(0), throttled(1)]).cpu.is_none());
        let quota = [(0, Metric::CpuQuotaNs, 40 * MS), (0, Metric::CpuPeriodNs, 100 * MS)];
        let all: Vec<_> = quota.into_iter().chain((0..5).map(throttled)).collect();
        let cpu = samples(&all).cpu.unwrap();
        assert_eq!(cpu.spans.len(), 4);
        assert_eq!(cpu.throttled_ns(), 240 * MS);
    }

    #[test]
    fn memory_is_what_is_anonymous_or_else_what_is_resident() {
        let memory = samples(&[
            (0, Metric::RssBytes, 10),
            (310, Metric::RssBytes, 40),
            (0, Metric::MemoryLimitBytes, 99),
            (300, Metric::MemoryLimitBytes, 77),
        ])
        .memory
        .unwrap();
        assert_eq!((memory.counted, memory.bins), (Counted::Resident, vec![10, 10, 10, 40]));
        assert_eq!((memory.peak_bytes, memory.limit_bytes), (40, Some(77)));
        let memory = samples(&[(0, Metric::RssBytes, 10), (0, Metric::MemoryAnonBytes, 20)]).memory.unwrap();
        assert_eq!((memory.counted, memory.bins), (Counted::Anonymous, vec![20]));
    }

    #[test]
    fn waits_for_a_disk_are_those_of_fsync_and_its_like() {
        let waited = |name: &str| {
            let mut gather = Gather::default();
            gather.call(&Syscall {
                t_ns: 0,
                duration_ns: 25 * BIN_NS,
                task: TaskId(0),
                sysno: syscalls::number(Abi::X86_64, name).unwrap(),
                ret: 0,
                flags: SyscallFlags::default(),
                args: [0; 6],
                args_mask: 0,
                object: None,
                details: Vec::new(),
                wait_cpu_ns: 0,
                blocked_ns: 0,
            });
            gather.finish(2).disk.map(|disk| disk.waited_ns)
        };
        assert_eq!(["fsync", "fdatasync"].map(waited), [Some(25 * BIN_NS); 2]);
        assert_eq!(["read", "nanosleep"].map(waited), [None; 2]);
    }

    #[test]
    fn no_recording_makes_more_bins_than_an_hour_has() {
        let memory = samples(&[(1, Metric::RssBytes, 5), (u64::MAX / MS, Metric::RssBytes, u64::MAX)]);
        assert_eq!(memory.memory.as_ref().unwrap().bins, [5]);
        assert_eq!(memory.notes.len(), 1);
        assert_eq!(samples(&[(0, Metric::OomKills, 7), (100, Metric::OomKills, 9)]).oom_kills, 2);
    }
}
