//! When chunks are closed, so that what a crash loses is little.

use std::time::{Duration, Instant};

/// How often chunks are closed, so that a crash loses little.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// How soon the first events are in the file, and the first calls: these may come later.
const FLUSH_FIRST: Duration = Duration::from_millis(100);

/// See the module.
pub(crate) struct Flushes {
    last: Instant,
    /// When the first event came, and the first call, as long as they are in no chunk that was closed.
    firsts: [First; 2],
}

/// The first of something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    NotYet,
    Waits(Instant),
    Closed,
}

impl Flushes {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, firsts: [First::NotYet; 2] }
    }

    /// Whether to close them now, given what was pushed until then.
    pub(crate) fn is_due(&mut self, now: Instant, events: u64, calls: u64) -> bool {
        for (first, count) in self.firsts.iter_mut().zip([events, calls]) {
            if *first == First::NotYet && count > 0 {
                *first = First::Waits(now);
            }
        }
        let waits =
            |first: &First| matches!(first, First::Waits(since) if now.duration_since(*since) >= FLUSH_FIRST);
        let is_due = now.duration_since(self.last) >= FLUSH_EVERY || self.firsts.iter().any(waits);
        if is_due {
            self.last = now;
            for first in self.firsts.iter_mut().filter(|first| matches!(first, First::Waits(_))) {
                *first = First::Closed;
            }
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_calls_are_in_the_file_soon_and_the_next_within_a_second() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut flushes = Flushes::new(begin);
        assert!(!flushes.is_due(at(50), 0, 0));
        assert!(!flushes.is_due(at(60), 3, 0));
        assert!(!flushes.is_due(at(159), 9, 0));
        assert!(flushes.is_due(at(160), 9, 0));
        assert!(!flushes.is_due(at(500), 99, 1));
        assert!(flushes.is_due(at(600), 99, 7));
        assert!(!flushes.is_due(at(1599), 999, 70));
        assert!(flushes.is_due(at(1600), 999, 70));
    }
}
