//! What a condition that holds says: its figures, and who it was.

use super::super::blame::{Culprit, container_text};
use super::{Condition, Measure, SCOPE, State};
use ctrace_format::Known;

impl Condition {
    /// What made it hold; by `key` alone, if there is one.
    pub(in super::super) fn figures(&self, key: Option<&str>, known: &dyn Known) -> Option<String> {
        /// More are not named.
        const NAMED: usize = 3;
        if !self.holds {
            return None;
        }
        let window = time_text(self.window_ns);
        if let (Measure::Quantile { .. }, State::Counts(counts, _)) = (&self.measure, &self.state) {
            let (high, n) = (counts.high(), counts.events());
            return Some(format!("{}: {high} of {n} above in {window}", self.text));
        }
        if let (Measure::Memory { of_limit }, State::Memory(memory)) = (&self.measure, &self.state) {
            let (subject, value) = memory
                .subjects(*of_limit)
                .filter(|(subject, _)| key.is_none_or(|key| key == subject.to_string()))
                .find(|(_, value)| self.comparison.holds(*value, self.limit))?;
            let figure = if *of_limit {
                let limit = memory.limit(subject).unwrap_or(0);
                format!("{value:.1} % of {}", mebibytes(limit as f64))
            } else {
                mebibytes(value)
            };
            let who = if subject > SCOPE {
                format!("container {}: ", container_text(subject - 1, known))
            } else {
                String::new()
            };
            return Some(format!("{}: {who}{figure}", self.text));
        }
        if self.measure == Measure::Silent {
            return Some(format!("{}: nothing came for so long", self.text));
        }
        let busiest = match &self.state {
            State::Counts(_, blames) => blames.busiest(),
            _ => Vec::new(),
        };
        let mut named: Vec<_> =
            busiest.iter().filter(|(culprit, _)| key.is_none_or(|key| key == culprit.key)).collect();
        let more = named.len().saturating_sub(NAMED);
        named.truncate(NAMED);
        let is_end = matches!(self.measure, Measure::Exit | Measure::ContainerExit);
        let mut who = match &named[..] {
            [(culprit, _)] => culprit.text.clone(),
            many if is_end => {
                many.iter().map(|(culprit, _)| culprit.text.clone()).collect::<Vec<_>>().join(", ")
            }
            many => {
                let one = |(culprit, events): &&(&Culprit, u64)| format!("{} ({events})", culprit.text);
                many.iter().map(one).collect::<Vec<_>>().join(", ")
            }
        };
        if more > 0 {
            who = format!("{who} and {more} more");
        }
        if is_end && !who.is_empty() {
            return Some(format!("{}: {who}", self.text));
        }
        let value = match (key, &named[..]) {
            (Some(_), [(_, events)]) => *events as f64,
            _ => self.value()?,
        };
        let figure = match self.measure {
            Measure::Share { .. } => format!("{value:.1} %"),
            Measure::Now(_) => format!("{value}"),
            _ => format!("{value} in {window}"),
        };
        let by = if who.is_empty() { String::new() } else { format!(" by {who}") };
        Some(format!("{}: {figure}{by}", self.text))
    }
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

/// `10s`, `250ms`.
fn time_text(ns: u64) -> String {
    match ns {
        _ if ns.is_multiple_of(60_000_000_000) => format!("{}m", ns / 60_000_000_000),
        _ if ns.is_multiple_of(1_000_000_000) => format!("{}s", ns / 1_000_000_000),
        _ => format!("{}ms", ns as f64 / 1e6),
    }
}
