//! What the clocks of the recorded machine did meanwhile. Times in a trace are `CLOCK_BOOTTIME`, which nothing changes;
//! what programs took from the other clocks may have jumped.

use ctrace_format::ClockAnchor;

/// A clock runs at most 500 ppm fast or slow by being slewed (`MAXFREQ`, include/linux/timex.h), which is half a
/// millisecond between two readings; the readings themselves lie within one.
const NOTABLE_NS: u64 = 20_000_000;

/// A clock that was not where it should have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// `CLOCK_REALTIME` was set, by so much.
    Stepped {
        /// Noticed at.
        t_ns: u64,
        /// By so much.
        by_ns: i64,
    },
    /// The machine slept: `CLOCK_MONOTONIC` stood still.
    Slept {
        /// Noticed at.
        t_ns: u64,
        /// For so long.
        for_ns: u64,
    },
}

/// Finds jumps in readings that come one after the other.
#[derive(Debug, Default)]
pub struct Jumps {
    before: Option<ClockAnchor>,
    /// Those that were found.
    pub found: Vec<Jump>,
}

impl Jumps {
    /// The next reading.
    pub fn add(&mut self, now: ClockAnchor) {
        if let Some(before) = self.before.replace(now) {
            let passed = i128::from(now.t_ns) - i128::from(before.t_ns);
            let notable = |by: i128| by.unsigned_abs() >= u128::from(NOTABLE_NS);
            let realtime = i128::from(now.realtime_ns) - i128::from(before.realtime_ns) - passed;
            let stood_still = passed - (i128::from(now.monotonic_ns) - i128::from(before.monotonic_ns));
            if notable(realtime) {
                let by_ns = i64::try_from(realtime).unwrap_or(if realtime < 0 { i64::MIN } else { i64::MAX });
                self.found.push(Jump::Stepped { t_ns: now.t_ns, by_ns });
            }
            if notable(stood_still)
                && let Ok(for_ns) = u64::try_from(stood_still)
            {
                self.found.push(Jump::Slept { t_ns: now.t_ns, for_ns });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn found(readings: &[(u64, u64, u64)]) -> Vec<Jump> {
        let mut jumps = Jumps::default();
        for (t_ns, monotonic_ns, realtime_ns) in readings.iter().copied() {
            jumps.add(ClockAnchor { t_ns, monotonic_ns, realtime_ns });
        }
        jumps.found
    }

    #[test]
    fn a_step_and_a_sleep_are_told_apart_and_slewing_is_neither() {
        let steady =
            [(0, 5 * S, 100 * S), (S, 6 * S, 101 * S + 500_000), (2 * S, 7 * S, 102 * S + 1_000_000)];
        assert_eq!(found(&steady), []);
        let back = [(0, 5 * S, 9000 * S), (S, 6 * S, 5401 * S), (2 * S, 7 * S, 5402 * S)];
        assert_eq!(found(&back), [Jump::Stepped { t_ns: S, by_ns: -3600 * S as i64 }]);
        let slept = [(0, 5 * S, 100 * S), (61 * S, 6 * S, 161 * S)];
        assert_eq!(found(&slept), [Jump::Slept { t_ns: 61 * S, for_ns: 60 * S }]);
        // Hostile readings do not overflow.
        assert_eq!(found(&[(0, 0, 0), (u64::MAX, u64::MAX, 0), (0, 0, u64::MAX)]).len(), 2);
    }
}
