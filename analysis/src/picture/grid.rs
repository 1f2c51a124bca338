//! The time axis, and what is put on it.

use super::{Curve, Grid, MAX_BINS, Unit};
use serde::{Serialize, Serializer};

impl Grid {
    /// The axis of a trace that begins at `from_ns` and is so long.
    pub(super) fn over(from_ns: u64, duration_ns: u64) -> Self {
        let least = duration_ns.div_ceil(MAX_BINS as u64).max(1);
        let mut width_ns = 1_u64;
        // No length of 64 bits needs more than 2 · 10^16.
        while width_ns < least {
            let decade = 10_u64.pow(width_ns.ilog10());
            width_ns = match width_ns / decade {
                1 => 2 * decade,
                2 => 5 * decade,
                _ => 10 * decade,
            };
        }
        let bins = usize::try_from(duration_ns.div_ceil(width_ns).max(1)).unwrap_or(MAX_BINS).min(MAX_BINS);
        Self { from_ns, duration_ns, width_ns, bins }
    }

    /// The bin of a time; the nearest one of a time outside.
    pub fn bin(&self, t_ns: u64) -> usize {
        let bin = t_ns.saturating_sub(self.from_ns) / self.width_ns;
        usize::try_from(bin).unwrap_or(usize::MAX).min(self.bins - 1)
    }

    /// When a bin begins.
    pub fn start_ns(&self, bin: usize) -> u64 {
        self.from_ns.saturating_add(self.width_ns.saturating_mul(bin as u64))
    }

    /// The end of the axis.
    pub fn end_ns(&self) -> u64 {
        self.from_ns.saturating_add(self.duration_ns)
    }

    /// A time on the axis: the nearest one of a time outside.
    pub fn within(&self, t_ns: u64) -> u64 {
        t_ns.clamp(self.from_ns, self.end_ns())
    }

    /// Where on the axis a time lies: 0 at its beginning, 1 at its end and later.
    pub fn share(&self, t_ns: u64) -> f64 {
        (self.within(t_ns) - self.from_ns) as f64 / self.duration_ns.max(1) as f64
    }

    /// The time at the `n`th of so many equal parts of the axis.
    pub fn part_ns(&self, n: u64, parts: u64) -> u64 {
        let passed = u128::from(self.duration_ns) * u128::from(n) / u128::from(parts.max(1));
        self.from_ns.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// Length of a bin, s.
    pub(super) fn width_s(&self) -> f64 {
        self.width_ns as f64 / 1e9
    }

    /// Tells of each bin that a stretch touches how much of it lies there, ns. A stretch without length is told once.
    pub(super) fn overlaps(&self, from_ns: u64, to_ns: u64, mut told: impl FnMut(usize, u64)) {
        let (first, last) = (self.bin(from_ns), self.bin(to_ns.max(from_ns)));
        if first == last {
            return told(first, to_ns.saturating_sub(from_ns));
        }
        let mut at_ns = from_ns;
        for bin in first..=last {
            let end_ns = if bin == last { to_ns } else { self.start_ns(bin + 1) };
            if end_ns > at_ns {
                told(bin, end_ns - at_ns);
                at_ns = end_ns;
            }
        }
    }

    /// Puts an amount that a stretch gave on the bins that it touches, evenly over its time.
    pub(super) fn spread(&self, from_ns: u64, to_ns: u64, amount: f64, sums: &mut [f64]) {
        let length = to_ns.saturating_sub(from_ns);
        if length == 0 {
            sums[self.bin(to_ns)] += amount;
            return;
        }
        self.overlaps(from_ns, to_ns, |bin, ns| sums[bin] += amount * ns as f64 / length as f64);
    }

    /// A curve of what was counted: times in a second.
    pub(super) fn rate(&self, name: impl Into<String>, counts: &[f64]) -> Curve {
        let width_s = self.width_s();
        let values = counts.iter().map(|n| Some(n / width_s)).collect();
        Curve { name: name.into(), unit: Unit::PerSecond, is_limit: false, values }
    }
}

/// A value to four digits: nobody reads more of a chart.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let magnitude = 10_f64.powi(3 - value.abs().log10().floor() as i32);
    let out = (value * magnitude).round() / magnitude;
    if out.is_finite() { out } else { value }
}

/// A value as JSON has it: whole numbers without a point.
struct Short(f64);

impl Serialize for Short {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = rounded(self.0);
        if value.fract() == 0.0 && value.abs() < 9e15 {
            serializer.serialize_i64(value as i64)
        } else {
            serializer.serialize_f64(value)
        }
    }
}

pub(super) fn short<S: Serializer>(values: &[Option<f64>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(|value| value.map(Short)))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
pub(super) fn short_one<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Short(*value).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bin_is_one_two_or_five_times_a_power_of_ten() {
        for (duration, width) in [
            (0, 1),
            (1, 1),
            (1_500, 1),
            (1_501, 2),
            (3_001, 5),
            (7_501, 10),
            (8_131_000_000, 10_000_000),
            (60_000_000_000, 50_000_000),
        ] {
            assert_eq!(Grid::over(0, duration).width_ns, width, "{duration}");
        }
        assert_eq!(Grid::over(0, 0).bins, 1);
    }

    #[test]
    fn the_axis_of_a_dump_begins_with_its_window() {
        let grid = Grid::over(100_000, 3_000);
        assert_eq!((grid.width_ns, grid.bins, grid.end_ns()), (2, 1_500, 103_000));
        assert_eq!([0, 100_000, 100_003, 103_000, u64::MAX].map(|t| grid.bin(t)), [0, 0, 1, 1_499, 1_499]);
        assert_eq!((grid.start_ns(0), grid.start_ns(1)), (100_000, 100_002));
        let percent = [0, 100_000, 101_500, 103_000, u64::MAX].map(|t| (grid.share(t) * 100.0) as u32);
        assert_eq!(percent, [0, 0, 50, 100, 100]);
        assert_eq!([0, 1, 4].map(|n| grid.part_ns(n, 4)), [100_000, 100_750, 103_000]);
        assert!(Grid::over(7, 0).share(9) < 1e-9);
    }

    #[test]
    fn four_digits_are_kept() {
        let text = |x: f64| serde_json::to_string(&Short(x)).unwrap_or_default();
        let given = [0.0, 1.0, 123_456.0, 0.001_234_56, -2.000_01, f64::NAN, f64::MAX];
        let kept = given.map(text);
        assert_eq!(kept[..6], ["0", "1", "123500", "0.001235", "-2", "0"]);
        assert!(kept[6].parse::<f64>().is_ok(), "{}", kept[6]);
    }

    proptest! {
        #[test]
        fn nothing_lies_outside_and_nothing_is_lost(
            origin in any::<u64>(), duration in any::<u64>(), a in any::<u64>(), b in any::<u64>(),
        ) {
            let grid = Grid::over(origin, duration);
            prop_assert!(grid.bins >= 1 && grid.bins <= MAX_BINS);
            let reach = u128::from(grid.width_ns) * grid.bins as u128;
            prop_assert!(reach >= u128::from(duration));
            let digits = grid.width_ns / 10_u64.pow(grid.width_ns.ilog10());
            prop_assert!([1, 2, 5].contains(&digits), "{}", grid.width_ns);
            let (from, to) = (a.min(b), a.max(b));
            let mut sums = vec![0.0; grid.bins];
            grid.spread(from, to, 7.0, &mut sums);
            prop_assert!((sums.iter().sum::<f64>() - 7.0).abs() < 1e-6);
        }
    }
}
