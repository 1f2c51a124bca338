//! Replays a trace, records the replay and judges it. Prints nothing: an observer is told on the way, and what came of it
//! is returned.
//!
//! The recorder and the replayer do not know one another; this is where they are put together, for every command that
//! replays.

mod abort;
mod answers;
mod conditions;
mod failure;
mod json;
mod observer;
mod recording;
mod steady;

use crate::exit::{Exit, Failure};
use crate::{clock, diff};
use abort::Watch;
pub(crate) use abort::{Aborted, By};
pub(crate) use answers::Answers;
use answers::{journal, told};
use conditions::{Conditions, Sampler};
use ctrace_analysis::edits::Edits;
use ctrace_analysis::faults::Levels;
use ctrace_analysis::{Gates, Profile, Report, Trigger, Verdict, diff_replay, judge_journal};
use ctrace_format::{Taken, Trace};
use ctrace_recorder::{Ended as RecordEnded, Recording};
use ctrace_replayer::plan::need::Need;
use ctrace_replayer::plan::{CompileOptions, Plan, PlanSummary};
use ctrace_replayer::pressure::{Bases, Level, Pressure, Selection, least_memory_limit};
use ctrace_replayer::{
    Description, Flags, Free, Hit, Inputs, Limits, Outcome, Pace, Pressed, Replay, ReplayError, Resource,
    RunOptions, Running,
};
use ctrace_report::text::units;
pub(crate) use failure::refusal;
pub(crate) use observer::{Interrupt, Note, Observer, Stage};
pub(crate) use recording::{identity, replaces_replays_of};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
pub(crate) use steady::Steady;

/// Said of a replay whose presser has died.
pub(crate) const UNPRESSED: &str =
    "the process that presses the workload has died: from then on the replay was without pressure";

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
    /// The kinds of recorded pressure that are replayed.
    pub(crate) pressure: Selection,
    /// Conditions that end it.
    pub(crate) abort_on: Vec<Trigger>,
    /// Conditions that are to hold all the time.
    pub(crate) steady: Vec<Trigger>,
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
    /// The names of its rules; none: it asks for nothing but pressure.
    pub(crate) rules: Vec<String>,
    /// Levels of pressure in place of the recorded ones.
    pub(crate) levels: Option<Levels>,
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
            pressure: Selection::ALL,
            faults: None,
            abort_on: Vec::new(),
            steady: Vec::new(),
        }
    }

    /// Levels of pressure that a plan asks for.
    fn levels(&self) -> Option<&Levels> {
        self.faults.as_ref().and_then(|on_top| on_top.levels.as_ref())
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
    /// The cause of its end, if it was ended before.
    pub(crate) aborted: Option<Aborted>,
    /// How many faults were planned.
    pub(crate) planned: u64,
    /// How many hits of rules those come from.
    pub(crate) hits: u64,
    /// The recorded pressure that was to be replayed, for people.
    pub(crate) pressure: Vec<String>,
    /// What came of the conditions that were to hold.
    pub(crate) steady: Vec<Steady>,
}

impl Performed {
    /// How the command ends that did this.
    pub(crate) fn exit(&self) -> Exit {
        match self.aborted.as_ref().map(|aborted| &aborted.by) {
            Some(By::Signal(number)) => Exit::Signal(*number),
            Some(By::Condition { .. } | By::Silence { .. }) => Exit::Aborted,
            // A limit like the others.
            Some(By::MaxDuration(_)) | None => diff::exit(self.report.verdict),
        }
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
    let Plan { program, environment, peers, need, pressure, summary: plan } =
        compile(path, trace, options.max_program, options.edits())?;
    observer.begins(Stage::Building);
    let level = options.levels().map(|levels| level(levels, &pressure, plan.recorded_ns)).transpose()?;
    let pressure = match options.pace {
        // It knows no moments.
        Pace::Afap if level.is_some() => {
            let what = "a replay as fast as possible has no time in which a plan's pressure could be";
            return Err(Failure::say(Exit::Usage, what).fix("leave out --mode afap"));
        }
        Pace::Afap => Pressure::default(),
        _ => {
            let recorded = pressure.only(options.pressure);
            level.iter().fold(recorded, |recorded, level| recorded.with(level, cpus()))
        }
    };
    let (is_pressed, pressure_lines) = (!pressure.is_none(), pressure.lines());
    let left_out = pressure.notes.clone();
    let conditions = Conditions::new(&options.abort_on);
    let run_options = RunOptions {
        limits: Limits::resolve(&need, &Free::now(), &options.limits, options.speed),
        pace: options.pace,
        speed: options.speed,
        signs_of_life: conditions.are_about_silence(),
        ..RunOptions::default()
    };
    check_memory(level.as_ref(), &need, &run_options.limits)?;
    let inputs = Inputs { program, environment: &environment, peers: &peers, need, pressure };
    let running = Replay::start(inputs, &run_options).map_err(failure::of_replay)?;
    let recording = recording::start(trace, &plan, &running, options, &conditions, observer)?;
    if recording.is_none() {
        conditions.refuse_beyond_figures()?;
    }
    let sandbox = running.inspect();
    let button = running.button().map_err(|e| Failure::new(Exit::Internal, e))?;
    let released_ns = clock::boottime_ns();
    let limit = run_options.limits.duration;
    let mut watch = Watch {
        conditions: &conditions,
        sampler: recording.is_none().then(|| Sampler::new(running.figures())),
        start_ns: recording.as_ref().map_or(released_ns, Recording::start_boottime_ns),
        limit,
        figures: is_pressed.then(|| running.figures()),
        expected: Duration::from_nanos((plan.recorded_ns as f64 / options.speed) as u64),
    };
    running.release().map_err(failure::of_replay)?;
    let observed = std::thread::spawn(move || observe(running));
    let mut aborted = watch.until(|| observed.is_finished(), observer);
    let start_ns = watch.start_ns;
    if let Some(aborted) = &mut aborted {
        aborted.halt(&button, recording.as_ref(), observer);
    }
    // The recording ends before what is halted, or still in its last call, is killed: those ends are ours, not the workload's.
    let reason =
        aborted.as_ref().map_or_else(|| RecordEnded::TargetExited.text().to_owned(), Aborted::to_string);
    let recorded = recording.map(|it| it.stop(&reason)).transpose();
    if aborted.is_some() {
        button.kill();
    }
    let Ok(observed) = observed.join() else {
        return Err(Failure::say(Exit::Internal, "waiting for the replay panicked"));
    };
    let (running, mut outcome, ended_ns) = observed.map_err(failure::of_replay)?;
    outcome.leftovers = running.finish();
    outcome.pressed.notes.extend(left_out);
    if let Some(aborted) = &mut aborted {
        aborted.is_gone(ended_ns);
    }
    let recorded = recorded.map_err(crate::record::failure)?;
    let aborted = aborted
        .or_else(|| Aborted::late(&conditions, start_ns))
        .or_else(|| Aborted::overtime(&outcome, limit, released_ns, start_ns));
    observer.begins(Stage::Judging);
    let recording = recorded.map(|recorded| recorded.file.path);
    let (mut report, answers) = judge(path, trace, recording.as_deref(), &plan, &outcome, options)?;
    if let Some(edits) =
        options.edits().filter(|_| options.faults.as_ref().is_some_and(|on_top| !on_top.rules.is_empty()))
    {
        judge_faults(edits.planned(), answers.injected + answers.delayed, &mut report);
        report.warnings.extend(missing_in_journal(edits.planned_hits(), answers.journaled));
    }
    judge_hits(&outcome.hits, &mut report);
    judge_pressure(&outcome.pressed, options.levels().is_some(), &mut report);
    if let Some(aborted) = &aborted {
        aborted.judge(&mut report);
    }
    for problem in &outcome.problems {
        observer.note(&Note::Lacking(problem.clone()));
    }
    let steady = steady::judge(&options.steady, recording.as_deref(), &mut report)?;
    let (planned, hits) = options.edits().map_or((0, 0), |edits| (edits.planned(), edits.planned_hits()));
    Ok(Performed {
        plan,
        outcome,
        sandbox,
        report,
        answers,
        recording,
        aborted,
        planned,
        hits,
        steady,
        pressure: pressure_lines,
    })
}

/// Waits for the end; with the time when it came.
fn observe(mut running: Running) -> Result<(Running, Outcome, u64), ReplayError> {
    let outcome = running.observe()?;
    Ok((running, outcome, clock::boottime_ns()))
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

/// Said when the trace of a replay does not tell of every hit of a rule.
fn missing_in_journal(hits: u64, journaled: Option<u64>) -> Option<String> {
    let missing = hits.checked_sub(journaled?).filter(|missing| *missing > 0)?;
    Some(format!(
        "the replay's trace lacks {missing} of {hits} injections: they did not come to pass, or the recorder counted \
         calls rather than recording each"
    ))
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

/// Whether there is room for the memory that a plan asks for.
fn check_memory(levels: Option<&Level>, need: &Need, limits: &Limits) -> Result<(), Failure> {
    let Some(Level { memory_bytes, limit_bytes, .. }) = levels else { return Ok(()) };
    let most = limits.memory.limit;
    if let Some(target) = memory_bytes.filter(|target| *target > most) {
        let what = format!(
            "the plan asks for {} of memory, and the replay may have {}",
            units::bytes(target),
            units::bytes(most)
        );
        return Err(
            Failure::say(Exit::Usage, what).fix(format!("allow it: {}", Resource::Memory.flag(target)))
        );
    }
    let least = least_memory_limit(need);
    if let Some(limit) = limit_bytes.filter(|limit| *limit < least) {
        let what = format!(
            "the plan limits memory to {}, and the replay itself needs {}",
            units::bytes(limit),
            units::bytes(least)
        );
        return Err(Failure::say(Exit::Inconclusive, what).fix("raise the limit of the plan"));
    }
    Ok(())
}

/// The levels of a plan on top of a recording of this length with this pressure.
pub(crate) fn level(levels: &Levels, recorded: &Pressure, length_ns: u64) -> Result<Level, Failure> {
    let bases = Bases { length_ns, node_bytes: node_bytes() };
    Level::of(levels, recorded, bases).map_err(|error| Failure::new(Exit::Inconclusive, error))
}

/// CPUs of this host.
pub(crate) fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// Memory of this host, bytes (`proc_meminfo(5)`).
fn node_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A replay whose pressure ended before it did says nothing.
fn judge_pressure(pressed: &Pressed, is_asked_for: bool, report: &mut Report) {
    if is_asked_for && pressed.effects.is_empty() {
        report.verdict = Verdict::Inconclusive;
        report
            .reasons
            .insert(0, "the pressure of the plan did not take place; the problems say why".to_owned());
    }
    if pressed.died {
        report.verdict = Verdict::Inconclusive;
        report.reasons.insert(0, UNPRESSED.to_owned());
    }
}

/// How many of all kinds.
pub(crate) fn sum(map: &BTreeMap<String, u64>) -> u64 {
    map.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctrace_replayer::{Limit, Source};

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
