//! A line of the table: what was measured, against its goal, beside the peers.

use super::table::{Cell, Table};
use std::process::ExitCode;
use std::time::Instant;

/// What must hold of a measured value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// A factor.
    Times,
    /// A part, shown in percent.
    Part,
    Count,
    /// A number with one digit after the point.
    Tenths,
    Bytes,
    Millis,
    Mib,
    Millions,
}

impl Unit {
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::Times => format!("{value:.2}×"),
            Self::Part => format!("{:.1} %", 100.0 * value),
            Self::Count => format!("{value:.0}"),
            Self::Tenths => format!("{value:.1}"),
            Self::Bytes => format!("{value:.2} B"),
            Self::Millis => format!("{value:.0} ms"),
            Self::Mib => format!("{value:.0} MiB"),
            Self::Millions => format!("{value:.1} M"),
        }
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Value(f64),
    /// It cannot be measured here: why.
    Skipped(String),
    /// It went wrong: how.
    Failed(String),
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) figure: String,
    pub(super) unit: Unit,
    pub(super) goal: Goal,
    pub(super) outcome: Outcome,
    /// What the peers did in the same run, and other remarks.
    pub(super) beside: String,
}

impl Line {
    pub(super) fn new(figure: impl Into<String>, unit: Unit, goal: Goal, value: f64) -> Self {
        Self { figure: figure.into(), unit, goal, outcome: Outcome::Value(value), beside: String::new() }
    }

    pub(super) fn skipped(figure: impl Into<String>, unit: Unit, goal: Goal, why: impl Into<String>) -> Self {
        let outcome = Outcome::Skipped(why.into());
        Self { figure: figure.into(), unit, goal, outcome, beside: String::new() }
    }

    pub(super) fn failed(figure: impl Into<String>, unit: Unit, goal: Goal, how: impl Into<String>) -> Self {
        let outcome = Outcome::Failed(how.into());
        Self { figure: figure.into(), unit, goal, outcome, beside: String::new() }
    }

    /// A figure whose measurement went wrong as a whole.
    pub(super) fn broken(figure: impl Into<String>, how: impl Into<String>) -> Self {
        Self::failed(figure, Unit::Count, Goal::AtMost(0.0), how)
    }

    pub(super) fn beside(mut self, beside: impl Into<String>) -> Self {
        self.beside = beside.into();
        self
    }

    /// Whether the goal was reached; `None`: there is no value to compare.
    pub(super) fn passes(&self) -> Option<bool> {
        match (&self.outcome, self.goal) {
            (Outcome::Value(value), Goal::AtMost(most)) => Some(*value <= most),
            (Outcome::Value(value), Goal::AtLeast(least)) => Some(*value >= least),
            (Outcome::Failed(_), _) => Some(false),
            (Outcome::Skipped(_), _) => None,
        }
    }

    /// As one object.
    pub(super) fn json(&self) -> serde_json::Value {
        let (value, why) = match &self.outcome {
            Outcome::Value(value) => (Some(*value), None),
            Outcome::Skipped(why) | Outcome::Failed(why) => (None, Some(why)),
        };
        let (most, least) = match self.goal {
            Goal::AtMost(most) => (Some(most), None),
            Goal::AtLeast(least) => (None, Some(least)),
        };
        serde_json::json!({
            "figure": self.figure, "value": value, "why": why, "at_most": most, "at_least": least,
            "pass": self.passes(), "beside": self.beside,
        })
    }

    pub(super) fn cells(&self) -> Vec<Cell> {
        let mark = match self.passes() {
            Some(true) => "✔",
            Some(false) => "✘",
            None => "·",
        };
        let (value, beside) = match &self.outcome {
            Outcome::Value(value) => (self.unit.show(*value), self.beside.clone()),
            Outcome::Skipped(why) => ("–".to_owned(), format!("skipped: {why}")),
            Outcome::Failed(why) => ("–".to_owned(), format!("failed: {why}")),
        };
        let goal = match self.goal {
            Goal::AtMost(most) => format!("≤ {}", self.unit.show(most)),
            Goal::AtLeast(least) => format!("≥ {}", self.unit.show(least)),
        };
        [mark.to_owned(), self.figure.clone(), value, goal, beside].map(|t| Cell::text(&t)).into()
    }
}

/// The figures as a table.
pub(super) fn table(lines: &[Line]) -> Table {
    let mut table = Table::new(&["", "figure", "measured", "goal", "in the same run"], &[0, 1, 4]);
    for line in lines {
        table.row(line.cells());
    }
    table
}

/// Prints the figures of a benchmark that began then, and how many reached their goals: it fails when one did not.
pub(super) fn conclude(lines: &[Line], began: Instant) -> ExitCode {
    println!("{}", table(lines));
    let count = |of: fn(&Line) -> bool| lines.iter().filter(|line| of(line)).count();
    let missed = count(|line| line.passes() == Some(false));
    let skipped = count(|line| matches!(line.outcome, Outcome::Skipped(_)));
    println!(
        "{} of {} goals reached, {skipped} skipped; {} s",
        lines.len() - missed - skipped,
        lines.len(),
        began.elapsed().as_secs()
    );
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says that a part of a benchmark that began then is done: the table comes at the end.
pub(super) fn progress(name: &str, began: Instant) {
    #[expect(clippy::print_stderr, reason = "progress of a developer's tool")]
    {
        eprintln!("{name:<24} {:>4} s", began.elapsed().as_secs());
    }
}

/// Values with their names, as a list.
pub(super) fn list(unit: Unit, values: &[(&str, f64)]) -> String {
    let texts: Vec<String> =
        values.iter().map(|(name, value)| format!("{name} {}", unit.show(*value))).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_at_its_bound_and_missed_beyond() {
        let line = |goal, value| Line::new("f", Unit::Times, goal, value).passes();
        assert_eq!(line(Goal::AtMost(2.0), 2.0), Some(true));
        assert_eq!(line(Goal::AtMost(2.0), 2.01), Some(false));
        assert_eq!(line(Goal::AtLeast(0.95), 0.95), Some(true));
        assert_eq!(line(Goal::AtLeast(0.95), 0.94), Some(false));
        assert_eq!(line(Goal::AtMost(2.0), f64::NAN), Some(false));
        assert_eq!(Line::skipped("f", Unit::Times, Goal::AtMost(1.0), "no perf").passes(), None);
    }
}
