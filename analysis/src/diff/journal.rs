//! A replay that nobody recorded, judged by what its workers say of themselves: the same gates, and of most metrics nothing to
//! compare.

use super::time::makespan_gate;
use super::{Rows, Told, conclude};
use crate::gates::Gates;
use crate::model::Missing;
use crate::report::{Failures, Report, SideInfo, Verdict};
use std::collections::BTreeMap;

/// The account that the workers of a replay give of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    /// Operations that were to be replayed.
    pub recorded: u64,
    /// Calls that were made.
    pub done: u64,
    /// Calls that ended otherwise than recorded.
    pub diverged: u64,
    /// Calls that the sandbox answered.
    pub emulated: u64,
    /// Errors whose cause was not rebuilt.
    pub missing: u64,
    /// Calls of the engine itself.
    pub engine: u64,
    /// Tasks.
    pub tasks: u64,
    /// Length of the recording.
    pub recorded_ns: u64,
    /// Length of the replay.
    pub makespan_ns: u64,
    /// The engine's own account.
    pub told: Told,
}

/// What the note of each value says.
const SOURCE: &str = "by the workers' journal";

/// Judges a replay by its journal.
pub fn judge_journal(journal: &Journal, gates: &Gates) -> Report {
    let of = journal.recorded;
    let part = |n: u64| (of > 0).then(|| n as f64 / of as f64);
    let mut rows = Rows { gates, unjudged: BTreeMap::new(), metrics: Vec::new() };
    for name in Gates::metrics() {
        match name {
            "coverage" => {
                rows.push(
                    name,
                    part(journal.done.min(of)),
                    of,
                    "",
                    format!("{}; {SOURCE}", share(journal.done, of)),
                );
            }
            "semantic" => {
                let value = part(journal.diverged).map(|wrong| (1.0 - wrong).max(0.0));
                let note = format!("{} with another outcome; {SOURCE}", share(journal.diverged, of));
                rows.push(name, value, of, "", note);
            }
            "makespan" => makespan_gate(journal, &mut rows),
            "forced" => super::metrics::forced_of(Some(&journal.told.forced), of, &mut rows),
            _ => rows.push(name, None, 0, unit(name), "only the recording of a replay can say".to_owned()),
        }
    }
    let nothing = if of == 0 { vec!["nothing was replayed".to_owned()] } else { Vec::new() };
    let concluded = conclude(&rows.metrics, nothing, |_| Vec::new());
    let mut warnings = super::unanswered_gates(&rows.metrics, gates);
    warnings
        .insert(0, "self-reported: the replay was judged by its own journal, not by the recorder".to_owned());
    let side = |calls, engine, emulated, makespan_ns| SideInfo {
        calls,
        compared: of,
        counted: 0,
        engine,
        emulated,
        processes: 0,
        threads: journal.tasks,
        streams: 0,
        makespan_ns,
        missing: Missing::default(),
    };
    Report {
        schema: 1,
        verdict: concluded.verdict,
        reasons: concluded.reasons,
        causes: Vec::new(),
        warnings,
        profile: gates.profile(),
        worst: concluded.worst.filter(|_| concluded.verdict == Verdict::Deviated),
        metrics: rows.metrics,
        resources: Vec::new(),
        first_divergence: None,
        first_match: None,
        failures: Failures { missing: journal.missing, ..Failures::default() },
        a: side(of, 0, 0, journal.recorded_ns),
        b: side(journal.done, journal.engine, journal.emulated, journal.makespan_ns),
    }
}

fn unit(metric: &str) -> &'static str {
    if metric == "drift" { "ms" } else { "" }
}

fn share(n: u64, of: u64) -> String {
    format!("{n} of {of}")
}
