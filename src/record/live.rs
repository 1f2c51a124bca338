//! The line that shows, on a terminal, how a recording is going.

use crate::progress::Progress;
use crate::units;
use ctrace_recorder::Stats;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often the line changes: faster is not read, slower seems stuck.
const EVERY: Duration = Duration::from_millis(200);
/// Rates are those of this time.
const RATE_OVER: Duration = Duration::from_secs(1);

/// Nothing where there is no terminal.
pub(super) struct Live {
    bar: Progress,
    ring_bytes: Option<u64>,
    shown: Option<Instant>,
    /// The figures of the last moments, oldest first.
    past: VecDeque<Stats>,
}

impl Live {
    pub(super) fn new(bar: Progress, ring_bytes: Option<u64>) -> Self {
        Self { bar, ring_bytes, shown: None, past: VecDeque::new() }
    }

    /// Shows the figures, if it is time to.
    pub(super) fn show(&mut self, stats: &Stats) {
        if self.bar.is_hidden() || self.shown.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        self.past.push_back(*stats);
        while self.past.get(1).is_some_and(|past| stats.elapsed.saturating_sub(past.elapsed) >= RATE_OVER) {
            self.past.pop_front();
        }
        let before = self.past.front().unwrap_or(stats);
        self.bar.set_message(line(before, stats, self.ring_bytes));
    }

    /// Takes the line away while something else is written.
    pub(super) fn pause(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// What matters most comes first: a narrow terminal cuts the end.
fn line(before: &Stats, now: &Stats, ring_bytes: Option<u64>) -> String {
    let seconds = now.elapsed.saturating_sub(before.elapsed).as_secs_f64();
    let rate = |before: u64, now: u64| {
        if seconds > 0.0 { (now.saturating_sub(before) as f64 / seconds).round() as u64 } else { 0 }
    };
    let mut parts = vec![
        clock(now.elapsed),
        format!("{} calls/s", units::count(rate(before.calls, now.calls))),
        format!("{} errors/s", units::count(rate(before.failures, now.failures))),
        format!("{} lost", units::count(now.lost)),
    ];
    match (now.window, ring_bytes) {
        (Some((from_ns, calls)), Some(most)) => {
            let held = now.elapsed.saturating_sub(Duration::from_nanos(from_ns));
            parts.push(format!("window {} ({} calls)", clock(held), units::count(calls)));
            parts.push(format!("{} of {}", units::bytes(now.bytes), units::bytes(most)));
        }
        _ => parts.push(units::bytes(now.bytes)),
    }
    parts.push(units::plural(now.threads, "thread"));
    parts.push(units::plural(now.connections, "connection"));
    parts.join(" · ")
}

/// `0:07`, `12:34`, `1:02:03`: of constant width from one second to the next.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(ms: u64, calls: u64, window: Option<(u64, u64)>) -> Stats {
        Stats {
            elapsed: Duration::from_millis(ms),
            calls,
            aggregated: 0,
            events: calls,
            lost: 0,
            bytes: 3 << 20,
            threads: 1,
            failures: calls / 10,
            connections: 2,
            window,
        }
    }

    #[test]
    fn rates_are_those_between_two_looks() {
        let text = line(&stats(6_500, 1_000, None), &stats(7_500, 13_500, None), None);
        assert_eq!(
            text,
            "0:07 · 12,500 calls/s · 1,250 errors/s · 0 lost · 3.0 MiB · 1 thread · 2 connections"
        );
        let first = stats(100, 50, None);
        assert!(line(&first, &first, None).contains("0 calls/s"));
    }

    #[test]
    fn a_flight_recorder_shows_its_window() {
        let now = stats(3_723_000, 9, Some((3_663_000_000_000, 1_234)));
        let text = line(&now, &now, Some(64 << 20));
        assert!(text.starts_with("1:02:03 · "), "{text}");
        assert!(text.contains("window 1:00 (1,234 calls) · 3.0 MiB of 64.0 MiB"), "{text}");
    }
}
