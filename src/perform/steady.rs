//! Conditions that are to hold all the time, judged by the recording of a replay.

use crate::exit::Failure;
use ctrace_analysis::{Firing, Report, Trigger, Verdict};
use ctrace_format::{Event, Filter, SyscallFlags, Trace};
use serde_json::{Value, json};
use std::path::Path;

/// What came of one condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Steady {
    pub(crate) expr: String,
    /// When it did not hold, and by which figures; `None`: it held.
    pub(crate) failed: Option<Firing>,
}

impl Steady {
    pub(super) fn json(&self) -> Value {
        let failed = self.failed.as_ref();
        json!({
            "expr": self.expr,
            "held": failed.is_none(),
            "t_ns": failed.map(|firing| firing.t_ns),
            "detail": failed.map(|firing| &firing.text),
        })
    }
}

/// Judges the conditions by the recording of the replay. One that did not hold deviates; without a recording nothing is known.
pub(super) fn judge(
    triggers: &[Trigger],
    recording: Option<&Path>,
    report: &mut Report,
) -> Result<Vec<Steady>, Failure> {
    if triggers.is_empty() {
        return Ok(Vec::new());
    }
    let Some(recording) = recording else {
        report.verdict = Verdict::Inconclusive;
        let what = "the replay was not recorded, so that nobody knows whether the steady state held";
        report.reasons.insert(0, what.to_owned());
        return Ok(Vec::new());
    };
    let trace = Trace::open(recording)?;
    let mut triggers = triggers.to_vec();
    let mut all: Vec<Steady> =
        triggers.iter().map(|trigger| Steady { expr: trigger.text().to_owned(), failed: None }).collect();
    for event in trace.events(&Filter::default()) {
        let event = event?;
        // The engine's calls are none of the workload's doing.
        if matches!(&event, Event::Syscall(call) if call.flags.contains(SyscallFlags::ENGINE)) {
            continue;
        }
        for (trigger, steady) in triggers.iter_mut().zip(&mut all) {
            if steady.failed.is_none() {
                steady.failed = trigger.observe(&event, &trace);
            }
        }
    }
    let failed: Vec<String> = all
        .iter()
        .filter_map(|steady| {
            let firing = steady.failed.as_ref()?;
            Some(format!(
                "the steady state did not hold at {:.3} s: {}",
                firing.t_ns as f64 / 1e9,
                firing.text
            ))
        })
        .collect();
    if !failed.is_empty() && report.verdict == Verdict::Match {
        report.verdict = Verdict::Deviated;
    }
    report.reasons.splice(0..0, failed);
    Ok(all)
}
