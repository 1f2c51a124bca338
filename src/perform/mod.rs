//! Replays a trace, records the replay and judges it. Prints nothing: an observer is told on the way, and what came of it
//! is returned.
//!
//! The recorder and the replayer do not know one another; this is where they are put together, for every command that
//! replays.

mod answers;
mod failure;
mod json;
mod observer;
mod recording;

use crate::diff;
use crate::exit::{Exit, Failure};
pub(crate) use answers::Answers;
use answers::{journal, told};
use ctrace_analysis::edits::Edits;
use ctrace_analysis::{Gates, Profile, Report, Verdict, diff_replay, judge_journal};
use ctrace_format::{Taken, Trace};
use ctrace_recorder::Ended as RecordEnded;
use ctrace_replayer::plan::{CompileOptions, Plan, PlanSummary};
use ctrace_replayer::{
    Description, Ended, Flags, Free, Hit, Inputs, Limits, Outcome, Pace, Replay, RunOptions, Running,
};
pub(crate) use failure::refusal;
pub(crate) use observer::{Note, Observer, Stage};
pub(crate) use recording::{identity, replaces_replays_of};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often an observer is told how far a replay is, and asked whether it is to end.
const TICK: Duration = Duration::from_millis(20);

/// How to replay and judge.
#[derive(Debug)]
pub(crate) struct Options {
    /// The path of the replay's recording.
    pub(crate) output: PathBuf,
    /// The choice for a name that is taken.
    pub(crate) taken: Taken,
    pub(crate) pace: Pace,
    /// Recorded time / replayed time.
    pub(crate) speed: f64,
    /// The limits that were asked for.
    pub(crate) limits: Flags,
    /// The most that the compiled trace may take, if that was said.
    pub(crate) max_program: Option<u64>,
    pub(crate) gates: Gates,
    /// The faults that are put on top.
    pub(crate) faults: Option<Faults>,
}

/// Faults on top of a recording.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    /// The recording as it would have been with them.
    pub(crate) edits: Arc<Edits>,
    /// The plan that they come from, as the replay's recording keeps it.
    pub(crate) plan: String,
}

impl Options {
    /// The defaults, with the replay's recording at `output`.
    pub(crate) fn to(output: PathBuf) -> Self {
        Self {
            output,
            taken: Taken::Next,
            pace: Pace::Resource,
            speed: 1.0,
            limits: Flags::default(),
            max_program: None,
            gates: Gates::new(Profile::Synthetic),
            faults: None,
        }
    }

    fn edits(&self) -> Option<&Arc<Edits>> {
        self.faults.as_ref().map(|faults| &faults.edits)
    }
}

/// A replay that was done and judged.
#[derive(Debug)]
pub(crate) struct Performed {
    /// The summary of the plan.
    pub(crate) plan: PlanSummary,
    /// The outcome of the replay.
    pub(crate) outcome: Outcome,
    /// The sandbox that it ran in.
    pub(crate) sandbox: Description,
    /// How it compares with the recording.
    pub(crate) report: Report,
    /// How its calls came to their errors.
    pub(crate) answers: Answers,
    /// The recording of the replay; `None`: it could not be recorded, and was judged by its own journal.
    pub(crate) recording: Option<PathBuf>,
    /// The signal that ended it, if one did.
    pub(crate) signal: Option<u8>,
    /// How many faults were planned.
    pub(crate) planned: u64,
}

impl Performed {
    /// How the command ends that did this.
    pub(crate) fn exit(&self) -> Exit {
        self.signal.map_or_else(|| diff::exit(self.report.verdict), Exit::Signal)
    }
}

/// Replays the trace that was read from `path`, records the replay and compares the two.
pub(crate) fn replay_recorded_and_judged(
    path: &Path,
    trace: &Trace,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Performed, Failure> {
    observer.begins(Stage::Compiling);
    let Plan { program, environment, peers, need, summary: plan } =
        compile(path, trace, options.max_program, options.edits())?;
    observer.begins(Stage::Building);
    let run_options = RunOptions {
        limits: Limits::resolve(&need, &Free::now(), &options.limits, options.speed),
        pace: options.pace,
        speed: options.speed,
        ..RunOptions::default()
    };
    let inputs = Inputs { program, environment: &environment, peers: &peers, need };
    let running = Replay::start(inputs, &run_options).map_err(failure::of_replay)?;
    let recording = recording::start(trace, &plan, running.root_pid(), options, observer)?;
    let sandbox = running.inspect();
    running.release().map_err(failure::of_replay)?;
    let expected = Duration::from_nanos((plan.recorded_ns as f64 / options.speed) as u64);
    let (running, mut outcome, signal) = wait(running, expected, observer)?;

    // The recording ends before what is still in its last call is killed: those ends are ours, not the workload's.
    let ended = RecordEnded::TargetExited.text();
    let recorded = recording.map(|it| it.stop(ended)).transpose().map_err(crate::record::failure)?;
    outcome.leftovers = running.finish();
    observer.begins(Stage::Judging);
    let recording = recorded.map(|recorded| recorded.file.path);
    let (mut report, answers) = judge(path, trace, recording.as_deref(), &plan, &outcome, options)?;
    if let Some(edits) = options.edits() {
        judge_faults(edits.planned(), answers.injected + answers.delayed, &mut report);
    }
    judge_hits(&outcome.hits, &mut report);
    for problem in &outcome.problems {
        observer.note(&Note::Lacking(problem.clone()));
    }
    let signal = signal.filter(|_| outcome.ended == Ended::Aborted);
    let planned = options.edits().map_or(0, |edits| edits.planned());
    Ok(Performed { plan, outcome, sandbox, report, answers, recording, signal, planned })
}

/// Compiles the plan of a replay.
pub(crate) fn compile(
    path: &Path,
    trace: &Trace,
    max_program: Option<u64>,
    edits: Option<&Arc<Edits>>,
) -> Result<Plan, Failure> {
    let options = CompileOptions { max_program, edits: edits.cloned(), ..CompileOptions::default() };
    Plan::compile(trace, &options).map_err(|e| failure::of_compile(e, path, max_program.is_some()))
}

/// Compares the recording of the replay with that of the incident; without one, its own journal.
fn judge(
    path: &Path,
    trace: &Trace,
    recording: Option<&Path>,
    plan: &PlanSummary,
    outcome: &Outcome,
    options: &Options,
) -> Result<(Report, Answers), Failure> {
    let Some(recording) = recording else {
        let report = judge_journal(&journal(plan, outcome), &options.gates);
        return Ok((report, Answers::self_reported(plan, outcome)));
    };
    let replayed = Trace::open(recording)?;
    let answers = Answers { delayed: outcome.counters.delayed, ..Answers::recorded(&replayed) };
    let none = Arc::default();
    let gates = options.gates.clone().delayed(options.edits().is_some_and(|edits| edits.delays()));
    let recorded = diff::model(path, trace, options.edits().unwrap_or(&none))?;
    let other = diff::model(recording, &replayed, &none)?;
    Ok((diff_replay(&recorded, &other, &gates, Some(&told(outcome))), answers))
}

/// A replay with faults tells nothing of them if none took place.
fn judge_faults(planned: u64, fired: u64, report: &mut Report) {
    if fired == planned && planned > 0 {
        return;
    }
    if report.verdict == Verdict::Match {
        report.verdict = Verdict::Inconclusive;
    }
    let reason = if planned == 0 {
        "no fault was planned: no rule hits a call of the recording".to_owned()
    } else {
        format!("{fired} of {planned} planned faults took place")
    };
    report.reasons.insert(0, reason);
}

/// A replay that ran into a limit did not do what the recording did: it matches nothing, whatever was compared.
fn judge_hits(hits: &[Hit], report: &mut Report) {
    if hits.is_empty() {
        return;
    }
    if report.verdict == Verdict::Match || hits.iter().any(|hit| hit.ended) {
        report.verdict = Verdict::Inconclusive;
    }
    report.reasons.splice(0..0, hits.iter().map(Hit::with_fix));
}

/// Waits for the end, or for a signal, which ends the replay and is returned.
fn wait(
    running: Running,
    expected: Duration,
    observer: &mut dyn Observer,
) -> Result<(Running, Outcome, Option<u8>), Failure> {
    let abort = running.abort_handle().map_err(|e| Failure::new(Exit::Internal, e))?;
    let began = Instant::now();
    let worker = std::thread::spawn(move || {
        let mut running = running;
        let outcome = running.observe();
        outcome.map(|outcome| (running, outcome))
    });
    let mut signal = None;
    while !worker.is_finished() {
        if signal.is_none() {
            signal = observer.signal();
            if signal.is_some() {
                // When it is over already there is nothing left to stop.
                let _ = abort.abort();
            }
        }
        observer.begins(Stage::Replaying { elapsed: began.elapsed(), expected });
        std::thread::sleep(TICK);
    }
    match worker.join() {
        Ok(outcome) => {
            outcome.map(|(running, outcome)| (running, outcome, signal)).map_err(failure::of_replay)
        }
        Err(_) => Err(Failure::say(Exit::Internal, "waiting for the replay panicked")),
    }
}

/// How many of all kinds.
pub(crate) fn sum(map: &BTreeMap<String, u64>) -> u64 {
    map.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctrace_replayer::{Limit, Resource, Source};

    fn hit(ended: bool) -> Hit {
        let limit = Limit { limit: 10, source: Source::Flag };
        Hit { resource: Resource::Tasks, limit, had: None, ended, host_ran_out: false }
    }

    fn report(verdict: Verdict) -> Report {
        let mut report = judge_journal(&ctrace_analysis::Journal::default(), &Gates::new(Profile::Synthetic));
        report.verdict = verdict;
        report
    }

    #[test]
    fn a_replay_that_ran_into_a_limit_matches_nothing() {
        for (before, ended, after) in [
            (Verdict::Match, false, Verdict::Inconclusive),
            (Verdict::Deviated, false, Verdict::Deviated),
            (Verdict::Deviated, true, Verdict::Inconclusive),
        ] {
            let mut judged = report(before);
            judge_hits(&[hit(ended)], &mut judged);
            assert_eq!(judged.verdict, after);
            assert!(judged.reasons[0].ends_with("--max-tasks 20 allows more"), "{:?}", judged.reasons);
        }
        let mut judged = report(Verdict::Match);
        judge_hits(&[], &mut judged);
        assert_eq!(judged.verdict, Verdict::Match);
    }
}
