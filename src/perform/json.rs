//! A performed replay as one JSON object: the one of `replay --json`, whichever command it is a part of.

use super::{Aborted, Performed, Steady, sum};
use ctrace_report::Shape;
use serde_json::{Value, json};

impl Performed {
    /// The object of the contract.
    pub(crate) fn json(&self) -> Value {
        let Self { plan, outcome, report, answers, .. } = self;
        let counters = &outcome.counters;
        let hits = outcome.hits.iter().map(|hit| json!({"hit": hit, "text": hit.with_fix()}));
        let mut sandbox = json!(self.sandbox);
        sandbox["recorded"] = json!(self.recording.is_some());
        json!({
            "schema": Shape::Replay.schema(),
            "diff": report,
            "makespan_ns": outcome.makespan_ns,
            "recorded_ns": plan.recorded_ns,
            "replayed_ops": counters.done,
            "refused": plan.refused,
            "surrogate": plan.surrogate,
            "errors": {
                "real": answers.real, "injected": answers.injected, "emulated": answers.emulated, "missing": report.failures.missing,
            },
            "emulated": answers.by_call,
            "injections": {
                "planned": self.planned,
                "fired": answers.injected + answers.delayed,
                "hits": self.hits,
                "journaled": answers.journaled,
                "prevented": plan.prevented,
            },
            "steady": self.steady.iter().map(Steady::json).collect::<Vec<_>>(),
            "sandbox": sandbox,
            "leftovers": outcome.leftovers,
            "replay_trace": self.recording,
            "ended": outcome.ended,
            "aborted": self.aborted.as_ref().map(Aborted::json),
            "forced": {"total": sum(&outcome.forced), "by_kind": outcome.forced, "ends": outcome.forced_ends},
            "pressure": {
                "by_kind": outcome.pressed.effects.iter().map(|effect| (effect.kind.clone(), json!(effect))).collect::<serde_json::Map<_, _>>(),
                "recorded": self.pressure,
                "died": outcome.pressed.died,
                "notes": outcome.pressed.notes,
                "ballast_cpu_ns": outcome.pressed.ballast_cpu_ns,
            },
            "starved_ns": outcome.starved_ns,
            "engine": {"calls": counters.engine_calls, "wait_ns": counters.wait_ns, "spin_ns": counters.spin_ns},
            "tasks": {"recorded": outcome.tasks, "finished": outcome.tasks_finished, "stuck": outcome.stuck},
            "divergences": outcome.divergences,
            "problems": outcome.problems,
            "limits_hit": hits.collect::<Vec<_>>(),
        })
    }
}
