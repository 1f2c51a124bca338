//! What the sandbox answered in the kernel's place, and what the engine reports of itself.

use super::sum;
use ctrace_analysis::{Forced, Journal, Starved, Told};
use ctrace_format::{Class, Event, Filter, SyscallFlags, Trace, syscalls};
use ctrace_replayer::Outcome;
use ctrace_replayer::plan::PlanSummary;
use std::collections::BTreeMap;

/// How the calls of a replay came to their errors, and which of its calls its sandbox answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    /// Errors whose cause was there.
    pub(crate) real: u64,
    /// Errors that the sandbox gave.
    pub(crate) emulated: u64,
    /// Calls that a fault answered.
    pub(crate) injected: u64,
    /// Calls that a fault delayed, cut short, or sent a signal with.
    pub(crate) delayed: u64,
    /// Hits of rules that the replay's trace tells of; `None`: there is none.
    pub(crate) journaled: Option<u64>,
    /// All calls that the sandbox answered, failed or not, by name.
    pub(crate) by_call: BTreeMap<String, u64>,
}

impl Answers {
    /// As the recording of the replay has it.
    pub(super) fn recorded(trace: &Trace) -> Self {
        let filter = Filter { classes: vec![Class::Syscall, Class::Injection], ..Filter::default() };
        let mut this = Self::default();
        let mut journaled = 0;
        for event in trace.events(&filter).flatten() {
            journaled += u64::from(matches!(event, Event::Injection(_)));
            let Event::Syscall(call) = event else { continue };
            if call.flags.contains(SyscallFlags::ENGINE) {
                continue;
            }
            if call.flags.contains(SyscallFlags::INJECTED) {
                this.injected += 1;
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
        this.journaled = Some(journaled);
        this
    }
}

/// The account that the engine gives of itself.
pub(super) fn told(outcome: &Outcome) -> Told {
    let forced = Forced { by_kind: outcome.forced.clone(), first: outcome.forced_ends.first().cloned() };
    Told { forced, starved: Starved::new(outcome.starved.clone()) }
}

/// What the workers of a replay that could not be recorded say of it.
pub(super) fn journal(plan: &PlanSummary, outcome: &Outcome) -> Journal {
    let counters = &outcome.counters;
    let not_done = counters.refused + counters.missing;
    Journal {
        recorded: plan.calls.values().sum::<u64>().max(counters.done + not_done),
        done: counters.done,
        diverged: counters.diverged,
        emulated: counters.emulated,
        missing: sum(&plan.missing),
        engine: counters.engine_calls,
        tasks: u64::from(outcome.tasks),
        recorded_ns: plan.recorded_ns,
        makespan_ns: outcome.makespan_ns,
        told: told(outcome),
    }
}

impl Answers {
    /// As far as the plan and the workers' counters say: errors that came by themselves are not among those.
    pub(super) fn self_reported(plan: &PlanSummary, outcome: &Outcome) -> Self {
        let counters = &outcome.counters;
        Self {
            real: 0,
            emulated: counters.emulated,
            injected: counters.injected,
            delayed: counters.delayed,
            journaled: None,
            by_call: plan.emulated.clone(),
        }
    }
}
