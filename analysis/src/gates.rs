//! What a metric must reach.

use serde::Serialize;
use std::collections::BTreeMap;

/// What is compared with the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// A replay of the recording: everything is expected again.
    Synthetic,
    /// Another run of a real program: the same behaviour is expected, not the same schedule.
    RealBinary,
}

/// Why a gate cannot be set.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum GateError {
    /// No such metric.
    #[error("there is no metric {name:?}; there are: {known}")]
    UnknownMetric {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Not `metric=threshold`.
    #[error("{text:?} is not metric=threshold with a number ≥ 0, as in alignment=0.9")]
    Syntax {
        /// What was given.
        text: String,
    },
}

/// How a value relates to its gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sense {
    /// Must be at least the gate.
    AtLeast,
    /// Must be at most the gate.
    AtMost,
}

/// One row per metric: name, sense, gate of a replay, gate of a real run, unit.
const TABLE: &[(&str, Sense, Option<f64>, Option<f64>)] = &[
    ("coverage", Sense::AtLeast, Some(0.95), None),
    ("semantic", Sense::AtLeast, Some(0.999), Some(0.999)),
    ("outcomes", Sense::AtMost, None, Some(0.0)),
    ("alignment", Sense::AtLeast, Some(0.98), Some(0.85)),
    ("dfg", Sense::AtLeast, Some(0.95), Some(0.80)),
    ("order", Sense::AtMost, Some(0.0), None),
    ("makespan", Sense::AtMost, Some(0.05), None),
    // Milliseconds; the gate of a replay is max(5 ms, 1 % of the recording) unless set.
    ("drift", Sense::AtMost, Some(5.0), None),
    // Ratios, of whichever is longer to the other.
    ("latency_shift", Sense::AtMost, Some(1.2), Some(2.0)),
    // Logarithms of ratios: of 1.5 and 3.
    ("tail_shift", Sense::AtMost, Some(0.405_465_108_108_164_4), Some(1.098_612_288_668_109_8)),
    // Of the recorded length.
    ("added_time", Sense::AtMost, None, Some(0.25)),
    // Replays do not use as much of the machine as what they replay.
    ("resources", Sense::AtMost, None, Some(0.30)),
    ("errors", Sense::AtLeast, Some(0.95), Some(0.90)),
    ("incident_recall", Sense::AtLeast, Some(1.0), Some(0.9)),
    ("network", Sense::AtLeast, Some(1.0), Some(0.95)),
    // For 10,000 operations.
    ("forced", Sense::AtMost, Some(10.0), None),
];

/// The gates of one comparison.
#[derive(Debug, Clone)]
pub struct Gates {
    profile: Profile,
    overrides: BTreeMap<&'static str, f64>,
    is_delayed: bool,
}

/// Metrics that say when things were done, and how long they took.
const OF_TIME: [&str; 4] = ["makespan", "drift", "latency_shift", "tail_shift"];

impl Gates {
    /// The gates of a profile.
    pub fn new(profile: Profile) -> Self {
        Self { profile, overrides: BTreeMap::new(), is_delayed: false }
    }

    /// Calls of the other run are delayed on purpose: when things are done has no gate, unless somebody sets one.
    #[must_use]
    pub fn delayed(self, is_delayed: bool) -> Self {
        Self { is_delayed, ..self }
    }

    /// The profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Names of all metrics that can have a gate.
    pub fn metrics() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|t| t.0)
    }

    /// Whether a metric must be at most its gate, not at least.
    pub fn is_upper(metric: &str) -> bool {
        sense(metric) == Sense::AtMost
    }

    /// Sets a gate as `--fail-on` says it: `metric=threshold`.
    ///
    /// # Errors
    /// When there is no such metric, or no number.
    pub fn fail_on(&mut self, text: &str) -> Result<(), GateError> {
        let syntax = || GateError::Syntax { text: text.to_owned() };
        let (name, value) = text.split_once('=').ok_or_else(syntax)?;
        let row = TABLE.iter().find(|t| t.0 == name.trim()).ok_or_else(|| GateError::UnknownMetric {
            name: name.trim().to_owned(),
            known: Self::metrics().collect::<Vec<_>>().join(", "),
        })?;
        let value: f64 = value.trim().parse().map_err(|_| syntax())?;
        if !value.is_finite() || value < 0.0 {
            return Err(syntax());
        }
        self.overrides.insert(row.0, value);
        Ok(())
    }

    /// The gate of a metric, `None` when it only informs.
    pub(crate) fn gate(&self, metric: &str) -> Option<f64> {
        if let Some(value) = self.overrides.get(metric) {
            return Some(*value);
        }
        if self.is_delayed && OF_TIME.contains(&metric) {
            return None;
        }
        let row = TABLE.iter().find(|t| t.0 == metric)?;
        match self.profile {
            Profile::Synthetic => row.2,
            Profile::RealBinary => row.3,
        }
    }

    pub(crate) fn is_overridden(&self, metric: &str) -> bool {
        self.overrides.contains_key(metric)
    }
}

pub(crate) fn sense(metric: &str) -> Sense {
    TABLE.iter().find(|t| t.0 == metric).map_or(Sense::AtLeast, |t| t.1)
}

pub(crate) fn passes(metric: &str, value: f64, gate: f64) -> bool {
    // Sums of products of the same numbers may differ in their last bits.
    const EPS: f64 = 1e-9;
    match sense(metric) {
        Sense::AtLeast => value >= gate - EPS,
        Sense::AtMost => value <= gate + EPS,
    }
}

/// How badly a gate is missed, to find the worst of several: 0 is just missed.
pub(crate) fn excess(metric: &str, value: f64, gate: f64) -> f64 {
    match sense(metric) {
        Sense::AtLeast => (gate - value) / gate.max(1e-9),
        Sense::AtMost => (value - gate) / gate.max(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_can_set_a_gate_and_only_a_real_one() {
        let mut gates = Gates::new(Profile::RealBinary);
        assert_eq!(gates.gate("coverage"), None);
        gates.fail_on("coverage=0.5").unwrap();
        assert_eq!(gates.gate("coverage"), Some(0.5));
        assert!(matches!(gates.fail_on("speed=1"), Err(GateError::UnknownMetric { .. })));
        assert!(matches!(gates.fail_on("coverage"), Err(GateError::Syntax { .. })));
        assert!(matches!(gates.fail_on("coverage=NaN"), Err(GateError::Syntax { .. })));
    }

    #[test]
    fn senses() {
        assert!(passes("alignment", 0.98, 0.98) && !passes("alignment", 0.97, 0.98));
        assert!(passes("makespan", 0.05, 0.05) && !passes("makespan", 0.06, 0.05));
    }
}
