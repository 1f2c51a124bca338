//! Durations by bin: their quantiles in bounded memory, whatever comes.

use super::{Curve, Grid, Unit};

/// Four buckets an octave from 2^7 ns on: a duration is known within an eighth.
const PER_OCTAVE: usize = 4;
const FIRST_OCTAVE: u32 = 7;
/// The last octave begins at 2^38 ns, which is 4.6 minutes.
const BUCKETS: usize = 32 * PER_OCTAVE;

fn bucket(ns: u64) -> usize {
    let octave = ns.max(1).ilog2();
    if octave < FIRST_OCTAVE {
        return 0;
    }
    let quarter = (ns >> (octave - 2) & 3) as usize;
    ((octave - FIRST_OCTAVE) as usize * PER_OCTAVE + quarter).min(BUCKETS - 1)
}

fn middle(bucket: usize) -> f64 {
    let octave = (FIRST_OCTAVE as usize + bucket / PER_OCTAVE) as f64;
    octave.exp2() * (1.0 + ((bucket % PER_OCTAVE) as f64 + 0.5) / PER_OCTAVE as f64)
}

/// Durations of one kind, without time.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    buckets: Vec<u32>,
    pub(super) count: u64,
    pub(super) max_ns: u64,
}

impl Histogram {
    pub(super) fn add(&mut self, ns: u64) {
        if self.buckets.is_empty() {
            self.buckets = vec![0; BUCKETS];
        }
        let slot = &mut self.buckets[bucket(ns)];
        *slot = slot.saturating_add(1);
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else {
            for (slot, n) in self.buckets.iter_mut().zip(&other.buckets) {
                *slot = slot.saturating_add(*n);
            }
        }
        self.count += other.count;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// The duration that `permille` of 1,000 do not exceed.
    pub(super) fn quantile(&self, permille: u64) -> Option<u64> {
        quantile(&self.buckets, permille).map(|ns| (ns as u64).min(self.max_ns))
    }
}

fn quantile(buckets: &[u32], permille: u64) -> Option<f64> {
    let count: u64 = buckets.iter().map(|n| u64::from(*n)).sum();
    let place = (count * permille).div_ceil(1000).max(1);
    let mut seen = 0;
    for (i, n) in buckets.iter().enumerate() {
        seen += u64::from(*n);
        if seen >= place {
            return Some(middle(i));
        }
    }
    None
}

/// Durations by bin.
#[derive(Debug, Clone, Default)]
pub(super) struct Quantiles {
    buckets: Vec<u32>,
    longest: Vec<u64>,
}

impl Quantiles {
    pub(super) fn add(&mut self, bins: usize, bin: usize, ns: u64) {
        self.add_all(bins, bin, ns, 1);
    }

    pub(super) fn add_all(&mut self, bins: usize, bin: usize, ns: u64, n: u64) {
        if self.buckets.is_empty() {
            self.buckets = vec![0; BUCKETS * bins];
            self.longest = vec![0; bins];
        }
        let slot = &mut self.buckets[bin * BUCKETS + bucket(ns)];
        *slot = slot.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        self.longest[bin] = self.longest[bin].max(ns);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// A quantile of each bin; `None` where there was nothing.
    pub(super) fn curve(&self, name: String, permille: u64) -> Curve {
        let of_bin =
            |(counts, longest): (&[u32], &u64)| quantile(counts, permille).map(|ns| ns.min(*longest as f64));
        let values = self.buckets.chunks(BUCKETS).zip(&self.longest).map(of_bin).collect();
        Curve { name, unit: Unit::Ns, is_limit: false, values }
    }

    /// The longest of each bin.
    pub(super) fn longest(&self, name: String, grid: &Grid) -> Curve {
        let known = |bin: usize| self.buckets[bin * BUCKETS..][..BUCKETS].iter().any(|n| *n > 0);
        let values = (0..grid.bins).map(|bin| known(bin).then(|| self.longest[bin] as f64)).collect();
        Curve { name, unit: Unit::Ns, is_limit: false, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_an_eighth_and_never_beyond_the_longest() {
        let (mut histogram, mut by_bin) = (Histogram::default(), Quantiles::default());
        for us in 1..=1_000_u64 {
            histogram.add(us * 1_000);
            by_bin.add(3, 1, us * 1_000);
        }
        for (permille, right) in [(500, 500_000.0), (990, 990_000.0)] {
            let all = histogram.quantile(permille).unwrap_or(0) as f64;
            let curve = by_bin.curve("p".to_owned(), permille);
            let [None, Some(of_bin), None] = curve.values[..] else { panic!("{:?}", curve.values) };
            for found in [all, of_bin] {
                assert!((found / right - 1.0).abs() <= 0.13, "{permille}: {found}");
            }
        }
        let mut one = Histogram::default();
        one.add(3);
        one.add(u64::MAX);
        assert_eq!((one.quantile(500), one.max_ns), (Some(144), u64::MAX));
    }
}
