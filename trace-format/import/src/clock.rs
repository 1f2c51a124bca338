//! Times of lines → nanoseconds since the start of the trace.

use crate::leader::Stamp;

/// Lines of a log without times lie so far apart, so that they have an order.
pub(crate) const APART_NS: u64 = 1_000;
const SECOND_NS: u64 = 1_000_000_000;
const DAY_NS: u64 = 86_400 * SECOND_NS;
/// A log by the time of day that goes back by as much has seen midnight.
const MIDNIGHT_NS: u64 = DAY_NS / 2;

/// The clock of one log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    /// The time of the log's clock at which the trace begins.
    start_ns: u64,
    days_ns: u64,
    /// How far the log's clock was put back meanwhile.
    back_ns: u64,
    /// Times of the last two lines, by the log's clock as if nobody had put it back.
    last: [u64; 2],
    /// Times have no digits behind the point: lines of one second are kept apart.
    coarse: bool,
    /// How often the clock went back.
    pub(crate) steps: u64,
}

impl Clock {
    pub(crate) fn new(start_ns: u64, coarse: bool) -> Self {
        Self { start_ns, coarse, last: [start_ns; 2], ..Self::default() }
    }

    /// The clock of a log that tells pauses only, and began at this time of the trace.
    pub(crate) fn begin_at(&mut self, t_ns: u64) {
        self.last = [self.start_ns.saturating_add(t_ns); 2];
    }

    /// No line is before this time of the trace.
    pub(crate) fn not_before(&mut self, t_ns: u64) {
        self.last[1] = self.last[1].max(self.start_ns.saturating_add(t_ns));
    }

    /// The time of a line.
    pub(crate) fn at(&mut self, stamp: Option<Stamp>) -> u64 {
        let [before, last] = self.last;
        let now = match stamp {
            None => last.saturating_add(APART_NS),
            Some(Stamp::Since(ns)) => last.saturating_add(ns),
            Some(Stamp::Epoch(ns)) => ns.saturating_add(self.back_ns),
            Some(Stamp::Day(ns)) => {
                let now = ns.saturating_add(self.days_ns).saturating_add(self.back_ns);
                if now.saturating_add(MIDNIGHT_NS) < last {
                    self.days_ns += DAY_NS;
                    now.saturating_add(DAY_NS)
                } else {
                    now
                }
            }
        };
        // A line that is a day from its neighbours has a damaged time.
        let now = if now.abs_diff(last) > DAY_NS { last } else { now };
        let now = if self.coarse && now.saturating_add(SECOND_NS) > last {
            now.max(last.saturating_add(APART_NS))
        } else if now >= before {
            // Between the two before it: it was the last line that had a wrong time.
            now
        } else {
            self.back_ns = self.back_ns.saturating_add(last - now);
            self.steps += 1;
            last
        };
        self.last = [last.min(now), now];
        now.saturating_sub(self.start_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = SECOND_NS;

    #[test]
    fn midnight_is_the_next_day() {
        let mut clock = Clock::new(86_399 * S, false);
        assert_eq!(clock.at(Some(Stamp::Day(86_399 * S))), 0);
        assert_eq!(clock.at(Some(Stamp::Day(2 * S))), 3 * S);
        assert_eq!(clock.at(Some(Stamp::Day(3 * S))), 4 * S);
        assert_eq!(clock.steps, 0);
    }

    #[test]
    fn a_clock_that_is_put_back_goes_on() {
        let mut clock = Clock::new(100 * S, false);
        let times = [100, 110, 105, 106].map(|t| clock.at(Some(Stamp::Epoch(t * S))));
        // 105 lies between the two before: the line of 110 was wrong, not the clock.
        assert_eq!((times, clock.steps), ([0, 10 * S, 5 * S, 6 * S], 0));
        let times = [107, 50, 51].map(|t| clock.at(Some(Stamp::Epoch(t * S))));
        assert_eq!((times, clock.steps), ([7 * S, 7 * S, 8 * S], 1));
    }

    #[test]
    fn a_line_a_day_away_has_no_time() {
        let mut clock = Clock::new(100 * S, false);
        assert_eq!(clock.at(Some(Stamp::Epoch(101 * S))), S);
        assert_eq!(clock.at(Some(Stamp::Epoch(u64::MAX))), S);
        assert_eq!(clock.at(Some(Stamp::Epoch(102 * S))), 2 * S);
    }

    #[test]
    fn lines_of_one_second_have_an_order() {
        let mut clock = Clock::new(100 * S, true);
        let times = [100, 100, 101].map(|t| clock.at(Some(Stamp::Epoch(t * S))));
        assert_eq!(times, [APART_NS, 2 * APART_NS, S]);
        let mut clock = Clock::default();
        assert_eq!([clock.at(None), clock.at(Some(Stamp::Since(5 * S)))], [APART_NS, 5 * S + APART_NS]);
    }
}
