//! Sums over the last stretch of time, in memory that does not depend on what comes.

use std::collections::VecDeque;

/// Parts that a window is counted in: what is older than the window is forgotten one part at a time.
const PARTS: u64 = 128;

/// Counts over a sliding window: events, and those of them that are *high*. A window is at most its length long, and at
/// least 127/128 of it, so it never counts what is too old.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    part_ns: u64,
    /// Part number, events, high ones; rising.
    parts: VecDeque<(u64, u64, u64)>,
    events: u64,
    high: u64,
}

impl Counts {
    pub(super) fn new(window_ns: u64) -> Self {
        Self { part_ns: window_ns.div_ceil(PARTS).max(1), parts: VecDeque::new(), events: 0, high: 0 }
    }

    pub(super) fn add(&mut self, now_ns: u64, events: u64, high: u64) {
        self.advance(now_ns);
        let part = now_ns / self.part_ns;
        match self.parts.back_mut() {
            Some((last, n, h)) if *last == part => {
                *n += events;
                *h += high;
            }
            _ => self.parts.push_back((part, events, high)),
        }
        self.events += events;
        self.high += high;
    }

    /// Forgets what has left the window.
    pub(super) fn advance(&mut self, now_ns: u64) {
        let first = (now_ns / self.part_ns + 1).saturating_sub(PARTS);
        while let Some((part, events, high)) = self.parts.front()
            && *part < first
        {
            self.events -= events;
            self.high -= high;
            self.parts.pop_front();
        }
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }
    pub(super) fn high(&self) -> u64 {
        self.high
    }
}

/// Growth of a counter over a sliding window.
#[derive(Debug, Clone)]
pub(super) struct Growth {
    window_ns: u64,
    /// Readings; the first is the newest that is as old as the window, once there is one.
    readings: VecDeque<(u64, u64)>,
}

impl Growth {
    pub(super) fn new(window_ns: u64) -> Self {
        Self { window_ns, readings: VecDeque::new() }
    }

    pub(super) fn read(&mut self, now_ns: u64, value: u64) {
        // A counter that falls was reset.
        if self.readings.back().is_some_and(|(_, last)| value < *last) {
            self.readings.clear();
        }
        let close = |(t_ns, _): &(u64, u64)| now_ns - t_ns < self.window_ns / PARTS;
        // Closer readings replace the last one, not the first: that is what the growth counts from.
        if self.readings.len() > 1 && self.readings.get(self.readings.len() - 2).is_some_and(close) {
            self.readings.pop_back();
        }
        self.readings.push_back((now_ns, value));
        while let Some((second, _)) = self.readings.get(1)
            && now_ns - second >= self.window_ns
        {
            self.readings.pop_front();
        }
    }

    /// Growth per ns over the window; `None` until it was seen.
    pub(super) fn share(&self) -> Option<f64> {
        let ((first_ns, first), (last_ns, last)) = (self.readings.front()?, self.readings.back()?);
        let elapsed = last_ns - first_ns;
        (elapsed > 0 && elapsed >= self.window_ns * 9 / 10).then(|| (last - first) as f64 / elapsed as f64)
    }

    /// The least growth per ns of the window, when less than the window was seen.
    pub(super) fn at_least(&self) -> Option<f64> {
        let ((_, first), (_, last)) = (self.readings.front()?, self.readings.back()?);
        Some((last - first) as f64 / self.window_ns as f64)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.readings.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_are_those_of_the_window(
            steps in proptest::collection::vec((0u64..2_000, 0u64..3), 1..400),
            window in 100u64..5_000,
        ) {
            let mut counts = Counts::new(window);
            let mut all = Vec::new();
            let mut now = 10_000;
            for (later, events) in steps {
                now += later;
                counts.add(now, events, events / 2);
                all.push((now, events));
                let sum = |from: u64| all.iter().filter(|(t, _)| *t > from).map(|(_, n)| n).sum::<u64>();
                // Parts are rounded up: a window of 100 counts in parts of 1.
                let part = window.div_ceil(PARTS);
                let (least, most) = (sum(now - (PARTS - 1) * part), sum(now.saturating_sub(PARTS * part)));
                prop_assert!((least..=most).contains(&counts.events()), "{} of {least}..={most}", counts.events());
                prop_assert!(counts.parts.len() as u64 <= PARTS);
            }
        }

        #[test]
        fn growth_is_that_of_the_window(steps in proptest::collection::vec((1u64..50, 0u64..100), 1..2_000)) {
            let mut growth = Growth::new(1_000);
            let (mut now, mut value) = (0, 0);
            let mut all = Vec::new();
            for (later, more) in steps {
                now += later;
                value += more;
                growth.read(now, value);
                all.push((now, value));
                prop_assert!(growth.readings.len() as u64 <= 2 * PARTS + 2);
                if let Some(share) = growth.share() {
                    let near = |age: u64| all.iter().rev().find(|(t, _)| *t + age <= now).or(all.first()).unwrap().1;
                    let elapsed = (growth.readings.back().unwrap().0 - growth.readings[0].0) as f64;
                    let grown = (share * elapsed).round() as u64;
                    prop_assert!(grown <= value - near(1_200) && grown >= value - near(850), "{grown}");
                }
            }
        }
    }
}
