//! Lengths of time on a logarithmic scale: a few bytes for each kind of length that occurs.

/// Buckets in each doubling: a length is known to about 4 %.
const PER_OCTAVE: u64 = 16;
const OCTAVE_BITS: u32 = PER_OCTAVE.trailing_zeros();

/// How many lengths there were, of which kind, and their sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hist {
    /// (bucket, number), sorted.
    buckets: Vec<(u16, u32)>,
    pub(crate) count: u64,
    pub(crate) total_ns: u64,
    pub(crate) max_ns: u64,
}

fn bucket(ns: u64) -> u16 {
    let ns = ns.max(1);
    let octave = ns.ilog2();
    // The digits that follow the highest one.
    let part = if octave >= OCTAVE_BITS {
        ns >> (octave - OCTAVE_BITS) & (PER_OCTAVE - 1)
    } else {
        ns << (OCTAVE_BITS - octave) & (PER_OCTAVE - 1)
    };
    (u64::from(octave) * PER_OCTAVE + part) as u16
}

/// The middle of a bucket.
fn middle(bucket: u16) -> f64 {
    let (octave, part) = (u64::from(bucket) / PER_OCTAVE, u64::from(bucket) % PER_OCTAVE);
    (octave as f64).exp2() * (1.0 + (part as f64 + 0.5) / PER_OCTAVE as f64)
}

impl Hist {
    pub(crate) fn add(&mut self, ns: u64) {
        self.put(bucket(ns), 1);
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    fn put(&mut self, bucket: u16, n: u32) {
        match self.buckets.binary_search_by_key(&bucket, |b| b.0) {
            Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(n),
            Err(at) => self.buckets.insert(at, (bucket, n)),
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (bucket, n) in &other.buckets {
            self.put(*bucket, *n);
        }
        self.count += other.count;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    pub(crate) fn mean_ns(&self) -> u64 {
        self.total_ns / self.count.max(1)
    }

    /// The length that a share of all do not exceed.
    pub(crate) fn quantile_ns(&self, q: f64) -> u64 {
        let rank = (q * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, n) in &self.buckets {
            seen += u64::from(*n);
            if seen >= rank {
                return (middle(*bucket) as u64).min(self.max_ns);
            }
        }
        self.max_ns
    }

    /// Those that are longer, each to a few percent.
    pub(crate) fn beyond(&self, ns: u64) -> Self {
        let mut out = Self { max_ns: self.max_ns, ..Self::default() };
        for (bucket, n) in self.buckets.iter().filter(|(bucket, _)| middle(*bucket) > ns as f64) {
            out.buckets.push((*bucket, *n));
            out.count += u64::from(*n);
            out.total_ns = out.total_ns.saturating_add(middle(*bucket) as u64 * u64::from(*n));
        }
        out
    }

    /// How many times as long as those of `self` those of `other` typically are: the median over all pairs, after Hodges
    /// and Lehmann.
    pub(crate) fn shift(&self, other: &Self) -> Option<f64> {
        let mut pairs: Vec<(i32, f64)> = Vec::with_capacity(self.buckets.len() * other.buckets.len());
        for (x, n) in &self.buckets {
            for (y, m) in &other.buckets {
                // Buckets are as wide as one another but within an octave, where they are close to it.
                let steps = ((middle(*y) / middle(*x)).log2() * PER_OCTAVE as f64).round() as i32;
                pairs.push((steps, f64::from(*n) * f64::from(*m)));
            }
        }
        pairs.sort_unstable_by_key(|p| p.0);
        let half = pairs.iter().map(|p| p.1).sum::<f64>() / 2.0;
        let mut seen = 0.0;
        let median = pairs.iter().find(|(_, n)| {
            seen += n;
            seen >= half
        })?;
        Some((f64::from(median.0) / PER_OCTAVE as f64).exp2())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lengths: impl IntoIterator<Item = u64>) -> Hist {
        let mut hist = Hist::default();
        lengths.into_iter().for_each(|ns| hist.add(ns));
        hist
    }

    #[test]
    fn a_length_comes_back_to_a_few_percent() {
        for ns in [1, 2, 3, 7, 15, 16, 17, 999, 1_000_000, 1_234_567_890, 1 << 62] {
            let back = of([ns, ns * 2 - 1]).quantile_ns(0.5) as f64;
            assert!((back / ns as f64 - 1.0).abs() < 0.04 || ns < 16, "{ns}: {back}");
        }
    }

    #[test]
    fn the_shift_is_that_of_most_pairs() {
        let fast = of((0..100).map(|i| 1_000_000 + i * 1000));
        let slow = of((0..100).map(|i| 3_000_000 + i * 3000));
        let shift = fast.shift(&slow).unwrap();
        assert!((shift / 3.0 - 1.0).abs() < 0.05, "{shift}");
        assert!((slow.shift(&fast).unwrap() * shift - 1.0).abs() < 0.05);
        // A third that is slow does not shift the rest.
        let mixed = of((0..100).map(|i| if i % 3 == 0 { 1_200_000_000 } else { 1_000_000 + i * 1000 }));
        assert!((fast.shift(&mixed).unwrap() - 1.0).abs() < 0.07);
        assert_eq!(Hist::default().shift(&fast), None);
    }

    #[test]
    fn merged_ones_are_as_if_added_together() {
        let mut one = of([5, 500, 50_000]);
        one.merge(&of([7, 500]));
        assert_eq!(one, of([5, 500, 50_000, 7, 500]));
    }
}
