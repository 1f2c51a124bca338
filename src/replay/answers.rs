//! What the sandbox answered in the kernel's place, and what the engine reports of itself.

use super::present::sum;
use ctrace_analysis::{
    Failures, Forced, Gates, Metric, Missing, Profile, Report, SideInfo, Starved, Told, Verdict,
};
use ctrace_format::{Class, Event, Filter, SyscallFlags, Trace, syscalls};
use ctrace_replayer::Outcome;
use ctrace_replayer::plan::PlanSummary;
use std::collections::BTreeMap;

/// How the calls of a replay came to their errors, and which of its calls its sandbox answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers {
    /// Errors whose cause was there.
    pub(super) real: u64,
    /// Errors that the sandbox gave.
    pub(super) emulated: u64,
    /// All calls that the sandbox answered, failed or not, by name.
    pub(super) by_call: BTreeMap<String, u64>,
}

impl Answers {
    /// As the recording of the replay has it.
    pub(super) fn recorded(trace: &Trace) -> Self {
        let filter = Filter { classes: vec![Class::Syscall], ..Filter::default() };
        let mut this = Self::default();
        for event in trace.events(&filter).flatten() {
            let Event::Syscall(call) = event else { continue };
            if call.flags.contains(SyscallFlags::ENGINE) {
                continue;
            }
            let emulated = call.flags.contains(SyscallFlags::EMULATED);
            if call.errno().is_some() {
                *(if emulated { &mut this.emulated } else { &mut this.real }) += 1;
            }
            if emulated {
                let name = syscalls::name(call.sysno).unwrap_or("unknown");
                *this.by_call.entry(name.to_owned()).or_default() += 1;
            }
        }
        this
    }
}

/// The account that the engine gives of itself.
pub(super) fn told(outcome: &Outcome) -> Told {
    let forced = Forced { by_kind: outcome.forced.clone(), first: outcome.forced_ends.first().cloned() };
    Told { forced, starved: Starved::new(outcome.starved.clone()) }
}

/// The verdict on a replay that could not be recorded: what the workers say of themselves.
pub(super) fn self_reported(plan: &PlanSummary, outcome: &Outcome) -> Report {
    let counters = &outcome.counters;
    let not_done = counters.refused + counters.missing;
    let recorded = plan.calls.values().sum::<u64>().max(counters.done + not_done);
    let part = |n: u64| (recorded > 0).then(|| n as f64 / recorded as f64);
    let metric = |name, value: Option<f64>, gate: f64, note: &str| Metric {
        name,
        value,
        gate: Some(gate),
        pass: value.map(|v| v >= gate),
        n: recorded,
        unit: "",
        note: note.to_owned(),
    };
    let forced = part(sum(&outcome.forced)).map(|share| share * 10_000.0);
    let metrics = vec![
        Metric {
            pass: forced.map(|n| n <= 10.0),
            ..metric("forced", forced, 10.0, "by the workers' journal")
        },
        metric("coverage", part(counters.done.min(recorded)), 0.95, "by the workers' journal"),
        metric(
            "semantic",
            part(counters.diverged).map(|d| (1.0 - d).max(0.0)),
            0.999,
            "by the workers' journal",
        ),
    ];
    let mut reasons: Vec<String> = metrics
        .iter()
        .filter(|m| m.pass == Some(false))
        .map(|m| {
            let side = if Gates::is_upper(m.name) { "above" } else { "below" };
            format!("{} {:.4} is {side} {}", m.name, m.value.unwrap_or_default(), m.gate.unwrap_or_default())
        })
        .collect();
    let verdict = if recorded == 0 {
        reasons.push("nothing was replayed".to_owned());
        Verdict::Inconclusive
    } else if reasons.is_empty() {
        Verdict::Match
    } else {
        Verdict::Deviated
    };
    let side = |calls, makespan_ns| SideInfo {
        calls,
        compared: recorded,
        counted: 0,
        engine: counters.engine_calls,
        emulated: counters.emulated,
        processes: 0,
        threads: u64::from(outcome.tasks),
        streams: 0,
        makespan_ns,
        missing: Missing::default(),
    };
    Report {
        schema: 1,
        verdict,
        worst: metrics.iter().find(|m| m.pass == Some(false)).map(|m| m.name),
        reasons,
        causes: Vec::new(),
        warnings: vec![
            "self-reported: the replay was judged by its own journal, not by the recorder".to_owned(),
        ],
        profile: Profile::Synthetic,
        metrics,
        first_divergence: None,
        failures: Failures { missing: sum(&plan.missing), ..Failures::default() },
        a: side(recorded, plan.recorded_ns),
        b: side(counters.done, outcome.makespan_ns),
    }
}

impl Answers {
    /// As far as the plan and the workers' counters say: errors that came by themselves are not among those.
    pub(super) fn self_reported(plan: &PlanSummary, outcome: &Outcome) -> Self {
        Self { real: 0, emulated: outcome.counters.emulated, by_call: plan.emulated.clone() }
    }
}
