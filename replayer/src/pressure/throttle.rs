//! When a quota kept tasks from running.
//!
//! A recording tells how long, in all, CPUs of the group were throttled up to each sample, ten times a second, not when. The
//! kernel counts that when it lets them go: at the end of a period of the quota. When periods end is told by the tasks: those
//! that waited for a CPU for long go on then. So each span of throttling ends with a period, and is as long as was counted.

use super::{BINS_MAX, CPUS_MAX};
use serde::Serialize;

/// Spans that are shorter cannot be told from the time that it takes to throttle somebody.
const SHORTEST_NS: u64 = 3_000_000;
/// The least part of a period that stays open, in 1/1000: a group whose quota is used up was given some before.
const OPEN_PERMILLE: u64 = 20;
/// The end of what is followed.
const LATEST_NS: u64 = BINS_MAX as u64 * super::BIN_NS;
/// Parts of a period whose activity is told apart.
const PHASES: usize = 50;
/// A part of the period with less than this part of the mean weight is quiet.
const QUIET: f64 = 0.1;
/// Lengths of a quota's period that the kernel takes (kernel/sched/core.c: `min_cfs_quota_period`,
/// `max_cfs_quota_period`).
pub(crate) const PERIOD_NS: std::ops::RangeInclusive<u64> = 1_000_000..=1_000_000_000;

/// A quota on CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Period {
    /// CPU time in each period, ns.
    pub quota_ns: u64,
    /// Length of a period, ns.
    pub length_ns: u64,
}

impl Period {
    /// Within what the kernel takes.
    fn clamped(self) -> Self {
        let length_ns = self.length_ns.clamp(*PERIOD_NS.start(), *PERIOD_NS.end());
        let most = length_ns.saturating_mul(super::OPEN_CPUS);
        Self { quota_ns: self.quota_ns.clamp(*PERIOD_NS.start(), most), length_ns }
    }
}

/// A time in which CPUs of the group are throttled, on the recording's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// When it begins, ns.
    pub begin_ns: u64,
    /// When it ends, ns.
    pub end_ns: u64,
    /// How many CPUs.
    pub cpus: u32,
}

impl Span {
    /// Throttled time in it, added up over its CPUs.
    pub fn throttled_ns(&self) -> u64 {
        (self.end_ns - self.begin_ns).saturating_mul(u64::from(self.cpus))
    }
}

/// Throttling over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Throttle {
    /// The quota.
    pub period: Period,
    /// In order of time; none touches another.
    #[serde(skip)]
    pub spans: Vec<Span>,
}

impl Throttle {
    /// Throttled time, added up over CPUs.
    pub fn throttled_ns(&self) -> u64 {
        self.spans.iter().map(Span::throttled_ns).fold(0, u64::saturating_add)
    }

    /// So that one CPU has `share` of its time between two moments, and what was before is left elsewhere. As it was, when
    /// that is no share, or as much as there is.
    pub(super) fn with_level(before: Option<Self>, share: f64, window_ns: (u64, u64)) -> Option<Self> {
        const PERIOD: u64 = 100_000_000;
        if !(share > 0.0 && share < 1.0) {
            return before;
        }
        let period = Period { quota_ns: (share * PERIOD as f64) as u64, length_ns: PERIOD }.clamped();
        let (from, to) = (window_ns.0, window_ns.1.min(LATEST_NS));
        let periods = to.saturating_sub(from) / PERIOD;
        let level = (1..=periods).map(|k| span(period, from, k, PERIOD - period.quota_ns, 1));
        let mut spans = before.map_or_else(Vec::new, |before| before.spans);
        spans.retain(|span| span.end_ns < from || span.begin_ns > to);
        spans.extend(level);
        spans.sort_by_key(|span| span.begin_ns);
        spans.truncate(BINS_MAX);
        Some(Self { period, spans }).filter(|made| !made.spans.is_empty())
    }

    /// From samples of the time throttled up to then, ns, in order, and the activity of the tasks.
    pub(super) fn recorded(
        period: Period,
        samples: &[(u64, u64)],
        activity: &Activity,
        cpus: u32,
    ) -> Option<Self> {
        let period = period.clamped();
        let (length, phase) = (period.length_ns, activity.phase_ns());
        let mut spans = Vec::new();
        // A span that is too short to be made is made with the next one.
        let mut left = 0;
        for pair in samples.windows(2) {
            let [(from, had), (to, has)] = pair else { continue };
            left += has.saturating_sub(*had);
            // The periods that ended since the sample before share what was counted.
            let ended = |t_ns: u64| t_ns.checked_sub(phase).map_or(0, |since| since / length + 1);
            let end = ended((*to).min(LATEST_NS));
            if left == 0 || end == 0 {
                continue;
            }
            for k in ended(*from)..end {
                let throttled = left / (end - k);
                let cpus = cpus_of(period, throttled, cpus);
                let made = span(period, phase, k, throttled / u64::from(cpus), cpus);
                if spans.len() >= BINS_MAX {
                    return Some(Self { period, spans });
                }
                if made.end_ns - made.begin_ns >= SHORTEST_NS {
                    left -= throttled;
                    spans.push(made);
                }
            }
            // A sample that came late for the end of a period is made up for in the next; more than a period is not.
            left = left.min(length);
        }
        (!spans.is_empty()).then_some(Self { period, spans })
    }
}

/// How many CPUs were throttled for so long in one period: each had run until the quota was used up.
fn cpus_of(period: Period, throttled_ns: u64, cpus: u32) -> u32 {
    let by_quota = (throttled_ns + period.quota_ns + period.length_ns / 2) / period.length_ns;
    (by_quota.max(1) as u32).clamp(1, cpus.clamp(1, CPUS_MAX))
}

/// A span at the end of the `k`th period.
fn span(period: Period, phase_ns: u64, k: u64, length_ns: u64, cpus: u32) -> Span {
    let end_ns = phase_ns.saturating_add(k.saturating_mul(period.length_ns));
    let most = period.length_ns - period.length_ns / 1000 * OPEN_PERMILLE;
    Span { begin_ns: end_ns.saturating_sub(length_ns.min(most)), end_ns, cpus }
}

/// When, within the periods of a quota, tasks went on that had waited for a CPU.
#[derive(Debug)]
pub(super) struct Activity {
    length_ns: u64,
    waited: [f64; PHASES],
}

impl Activity {
    pub(super) fn new(length_ns: u64) -> Self {
        Self { length_ns: length_ns.max(1), waited: [0.0; PHASES] }
    }

    /// A task went on at `t_ns`, having waited for a CPU for so long.
    pub(super) fn add(&mut self, t_ns: u64, wait_ns: u64) {
        // Others hold a task up for some ms, a quota for the better part of a period.
        if wait_ns >= self.length_ns / 10 {
            let phase = u128::from(t_ns % self.length_ns) * PHASES as u128 / u128::from(self.length_ns);
            self.waited[phase as usize] += wait_ns.min(self.length_ns) as f64;
        }
    }

    /// When a period begins: after the longest quiet part of it.
    fn phase_ns(&self) -> u64 {
        let mean = self.waited.iter().sum::<f64>() / PHASES as f64;
        if mean == 0.0 {
            return 0;
        }
        let quiet = |i: usize| self.waited[i % PHASES] < mean * QUIET;
        let run = |from: usize| (from..from + PHASES).take_while(|i| quiet(*i)).count();
        let starts = (0..PHASES).filter(|i| quiet(*i) && !quiet(i + PHASES - 1));
        let longest = starts.max_by_key(|from| run(*from));
        let begin = longest.map_or(0, |from| (from + run(from)) % PHASES);
        begin as u64 * self.length_ns / PHASES as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const FIFTH: Period = Period { quota_ns: 20 * MS, length_ns: 100 * MS };

    fn activity(ends_ms: &[(u64, u64)]) -> Activity {
        let mut activity = Activity::new(100 * MS);
        for (at, wait) in ends_ms {
            activity.add(at * MS, wait * MS);
        }
        activity
    }

    #[test]
    fn periods_end_when_those_go_on_that_have_waited() {
        let ends: Vec<_> = (0..20).map(|k| (k * 100 + 37 + k % 3, 80)).collect();
        assert_eq!(activity(&ends).phase_ns(), 36 * MS);
        // A task that does not call for long is seen anywhere in the part that is not throttled.
        let ends: Vec<_> = (0..60).map(|k| (k * 100 + 95 + k % 20, 80)).collect();
        assert_eq!(activity(&ends).phase_ns(), 94 * MS);
        // A wait for others tells nothing.
        assert_eq!(activity(&[(37, 4)]).phase_ns(), 0);
    }

    #[test]
    fn spans_end_with_periods_and_are_as_long_as_was_counted() {
        let activity = activity(&[(30, 80), (130, 80), (230, 80)]);
        let samples =
            [(0, 500), (100 * MS, 500 + 80 * MS), (200 * MS, 500 + 160 * MS), (300 * MS, 500 + 160 * MS)];
        let made = Throttle::recorded(FIFTH, &samples, &activity, 2).unwrap();
        let span = |begin: u64, end: u64| Span { begin_ns: begin * MS, end_ns: end * MS, cpus: 1 };
        // The first period began before the recording did.
        assert_eq!(made.spans, [span(0, 30), span(50, 130)]);
    }

    #[test]
    fn two_cpus_that_run_are_both_throttled() {
        assert_eq!(cpus_of(FIFTH, 80 * MS, 2), 1);
        assert_eq!(cpus_of(FIFTH, 180 * MS, 2), 2);
        assert_eq!(cpus_of(FIFTH, 180 * MS, 1), 1);
        assert_eq!(cpus_of(FIFTH, u64::MAX / 2, u32::MAX), CPUS_MAX);
    }

    #[test]
    fn no_recording_makes_more_than_the_kernel_takes() {
        let activity = Activity::new(0);
        for period in [0, 1, u64::MAX] {
            let period = Period { quota_ns: period, length_ns: period };
            let samples: Vec<_> = (0..100).map(|k| (k * 100 * MS, u64::MAX / 100 * k)).collect();
            let Some(made) = Throttle::recorded(period, &samples, &activity, u32::MAX) else {
                assert!(period.length_ns < SHORTEST_NS, "too short to be made");
                continue;
            };
            assert!(PERIOD_NS.contains(&made.period.length_ns));
            assert!(made.spans.len() <= BINS_MAX);
            for pair in made.spans.windows(2) {
                assert!(pair[0].end_ns < pair[1].begin_ns, "{pair:?}");
            }
            assert!(made.spans.iter().all(|s| s.begin_ns < s.end_ns && s.cpus <= CPUS_MAX));
        }
        // Samples in no order, and one alone.
        assert_eq!(Throttle::recorded(FIFTH, &[(5, 9)], &activity, 1), None);
        assert_eq!(Throttle::recorded(FIFTH, &[(500 * MS, 9), (0, u64::MAX)], &activity, 1), None);
    }
}
