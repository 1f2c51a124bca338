//! Counts, durations and their change over time, in bounded memory.

use super::people::{Actor, Doers};

/// Durations by their logarithm: four buckets an octave, from 1 ns to 2^40 ns (18 minutes).
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    buckets: Vec<u32>,
    pub(super) count: u64,
    pub(super) total_ns: u64,
    pub(super) max_ns: u64,
    pub(super) max_at_ns: u64,
}

const OCTAVES: usize = 40;

fn bucket(ns: u64) -> usize {
    let ns = ns.max(4);
    let octave = 63 - ns.leading_zeros() as usize;
    let quarter = (ns >> (octave - 2) & 3) as usize;
    (octave * 4 + quarter).min(OCTAVES * 4 - 1)
}

/// The middle of a bucket.
fn middle(bucket: usize) -> u64 {
    let (octave, quarter) = (bucket / 4, (bucket % 4) as u64);
    if octave < 2 {
        return bucket as u64;
    }
    let step = 1_u64 << (octave - 2);
    (1 << octave) + quarter * step + step / 2
}

impl Histogram {
    pub(super) fn add(&mut self, at_ns: u64, ns: u64) {
        if self.buckets.is_empty() {
            self.buckets = vec![0; OCTAVES * 4];
        }
        let slot = &mut self.buckets[bucket(ns)];
        *slot = slot.saturating_add(1);
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(ns);
        if ns >= self.max_ns {
            (self.max_ns, self.max_at_ns) = (ns, at_ns);
        }
    }

    /// The duration that `permille` of 1,000 do not exceed, within an eighth.
    pub(super) fn quantile(&self, permille: u64) -> u64 {
        let place = (self.count * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (i, n) in self.buckets.iter().enumerate() {
            seen += u64::from(*n);
            if seen >= place {
                return middle(i).min(self.max_ns);
            }
        }
        self.max_ns
    }
}

/// A series of durations: all of them while they are few, an even part of them when they are many. Which ones are kept
/// depends on a hash of their number, so that no rhythm of the program coincides with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    kept: Vec<(u64, u64)>,
    seen: u64,
    level: u32,
    pub(super) sum_ns: u64,
    pub(super) max_ns: u64,
    pub(super) max_at_ns: u64,
}

const KEPT: usize = 1024;

impl Series {
    pub(super) fn add(&mut self, t_ns: u64, ns: u64) {
        self.seen += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
        if ns >= self.max_ns {
            (self.max_ns, self.max_at_ns) = (ns, t_ns);
        }
        if !chosen(self.seen, self.level) {
            return;
        }
        if self.kept.len() >= KEPT {
            self.level += 1;
            let (seen, level) = (self.seen, self.level);
            // Their numbers are not kept; half of them go, by a hash of their time: by another bit of it each time.
            self.kept.retain(|(t, ns)| mixed(t ^ ns.rotate_left(32)) >> (level % 64) & 1 == 0);
            if !chosen(seen, level) {
                return;
            }
        }
        self.kept.push((t_ns, ns));
    }

    /// How many there were.
    pub(super) fn len(&self) -> u64 {
        self.seen
    }

    /// Those that were kept, by time.
    pub(super) fn sorted(&self) -> Vec<(u64, u64)> {
        let mut kept = self.kept.clone();
        kept.sort_unstable();
        kept
    }
}

fn mixed(n: u64) -> u64 {
    // SplitMix64's finaliser (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

fn chosen(number: u64, level: u32) -> bool {
    level == 0 || mixed(number) & ((1 << level.min(63)) - 1) == 0
}

/// The median of the durations of a part of a series.
pub(super) fn median(part: &[(u64, u64)]) -> u64 {
    quantile(part, 500)
}

/// A quantile of the durations of a part of a series, in 1/1000.
pub(super) fn quantile(part: &[(u64, u64)], permille: usize) -> u64 {
    let mut all: Vec<u64> = part.iter().map(|x| x.1).collect();
    if all.is_empty() {
        return 0;
    }
    let place = ((all.len() * permille).div_ceil(1000)).clamp(1, all.len()) - 1;
    *all.select_nth_unstable(place).1
}

/// Where a series (sorted by time) is best cut in two: the cut that explains most of the variance of the logarithms
/// (the first step of binary segmentation: Scott and Knott, Biometrics 30, 1974).
pub(super) fn change_point(series: &[(u64, u64)]) -> Option<usize> {
    const EDGE: usize = 3;
    if series.len() < 2 * EDGE {
        return None;
    }
    let logs: Vec<f64> = series.iter().map(|x| (x.1.max(1) as f64).ln()).collect();
    let total: f64 = logs.iter().sum();
    let n = logs.len() as f64;
    let mut left = 0.0;
    let mut best: Option<(f64, usize)> = None;
    for (i, x) in logs.iter().enumerate() {
        if i >= EDGE && logs.len() - i >= EDGE {
            let (k, m) = (i as f64, n - i as f64);
            let between = (left / k - (total - left) / m).powi(2) * k * m / n;
            if best.is_none_or(|b| between > b.0) {
                best = Some((between, i));
            }
        }
        left += x;
    }
    best.map(|b| b.1)
}

/// Failures of one kind: how often, when, and what came before and after.
#[derive(Debug, Clone, Default)]
pub(super) struct Failed {
    pub(super) count: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    /// Successes before the first.
    pub(super) ok_before: u64,
    /// Successes up to the last.
    pub(super) ok_at_last: u64,
    /// Answered by a seccomp filter; of those, by a replay's sandbox.
    pub(super) filtered: u64,
    pub(super) emulated: u64,
    /// Injected by ctrace.
    pub(super) injected: u64,
    /// Some were to make or change something.
    pub(super) changes: bool,
    /// The thread of the first.
    pub(super) tid: u32,
    /// The processes that met them.
    pub(super) by: Doers,
    second: (u64, u64),
    /// Most within one second, and when it began.
    pub(super) burst: (u64, u64),
}

impl Failed {
    pub(super) fn add(&mut self, t_ns: u64, actor: Actor, ok_so_far: u64) {
        const SECOND_NS: u64 = 1_000_000_000;
        if self.count == 0 {
            (self.first_ns, self.ok_before, self.tid) = (t_ns, ok_so_far, actor.tid);
        }
        self.by.add(actor.process);
        self.count += 1;
        self.last_ns = self.last_ns.max(t_ns);
        self.ok_at_last = ok_so_far;
        if t_ns / SECOND_NS != self.second.0 {
            self.second = (t_ns / SECOND_NS, 0);
        }
        self.second.1 += 1;
        if self.second.1 > self.burst.0 {
            self.burst = (self.second.1, self.second.0 * SECOND_NS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_an_eighth() {
        let mut histogram = Histogram::default();
        for ns in 1..=10_000_u64 {
            histogram.add(ns, ns * 1000);
        }
        for permille in [10, 500, 990] {
            let (found, right) = (histogram.quantile(permille) as f64, permille as f64 * 10_000.0);
            assert!((found / right - 1.0).abs() <= 0.125, "{permille}: {found} for {right}");
        }
        assert_eq!((histogram.max_ns, histogram.max_at_ns), (10_000_000, 10_000));
        histogram.add(0, u64::MAX);
        assert_eq!(histogram.quantile(0), middle(bucket(1000)));
    }

    #[test]
    fn a_long_series_keeps_the_share_of_what_is_slow() {
        let mut series = Series::default();
        for i in 0..100_000_u64 {
            series.add(i, if i % 3 == 0 { 1_000_000_000 } else { 1_000_000 });
        }
        let kept = series.sorted();
        assert!((256..=KEPT).contains(&kept.len()), "{}", kept.len());
        let slow = kept.iter().filter(|x| x.1 > 500_000_000).count() * 100 / kept.len();
        assert!((25..=42).contains(&slow), "{slow} % of what was kept");
        assert_eq!(series.len(), 100_000);
    }

    #[test]
    fn the_cut_is_where_it_became_slow() {
        let series: Vec<(u64, u64)> = (0..40).map(|i| (i, if i < 25 { 1_000 } else { 90_000 })).collect();
        assert_eq!(change_point(&series), Some(25));
        assert_eq!(change_point(&series[..5]), None);
    }
}
