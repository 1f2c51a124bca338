//! `ctrace replay`: does the same things to a kernel again, in a sandbox, under the same recorder, and compares.

mod answers;
mod limits;
mod present;

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::{diff, record, signals, units};
use answers::{Answers, journal, told};
use ctrace_analysis::{Profile, REPLAY_OF, Report, Verdict};
use ctrace_format::{Policy, Taken, Trace, TraceFile};
use ctrace_recorder::{Config, Ended as RecordEnded, RecordError, Recorder, Recording, Target};
use ctrace_replayer::plan::{CompileOptions, Plan, PlanSummary};
use ctrace_replayer::{
    CompileError, Ended, Hit, Inputs, Outcome, Pace, Replay, ReplayError, RunOptions, Running, SandboxError,
};
use present::{as_json, describe, dry_run, sum};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Do what a trace shows to a kernel again, in a sandbox, and compare.
///
/// The calls are real; the sandbox reaches nothing outside. The replay is recorded by the same recorder and compared
/// with the recording. Exit 0: match; 1: deviated; 3: inconclusive.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo ctrace replay incident.ctr                  replay, record the replay, compare
  ctrace replay incident.ctr --dry-run             only say what would be done
  sudo ctrace replay incident.ctr --mode afap      without the time the workload spent thinking

Without root the replay is judged by its own journal (`self-reported`): only root can record it.")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option that is given or not")]
pub(crate) struct Args {
    /// The trace
    file: PathBuf,
    /// The recording of the replay [default: FILE with .replay.ctr]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file of that name, if it is yours; without this, only an earlier replay of the same trace is replaced
    #[arg(long)]
    force: bool,
    /// When to make a call: after the one before it and its recorded pause (resource), in the recorded order of all
    /// calls (temporal), at once (afap)
    #[arg(long, value_name = "MODE", default_value = "resource")]
    mode: Mode,
    /// How much faster than recorded
    #[arg(long, value_name = "FACTOR", value_parser = parse_speed, default_value = "1", allow_negative_numbers = true)]
    speed: f64,
    #[arg(long, value_name = "METRIC=GATE", help = diff::gate_help("makespan=0.2"))]
    fail_on: Vec<String>,
    /// Only compile, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: every step of every task and of every peer, with what it waits for
    #[arg(long, requires = "dry_run", conflicts_with = "json")]
    steps: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: limits::Args,
}

/// The paces as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    Resource,
    Temporal,
    Afap,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err(format!("{text:?} is no speed; write 2 for twice as fast")),
    }
}

/// How to replay.
pub(crate) struct Options {
    pub(crate) output: PathBuf,
    /// What to do where that name is taken.
    pub(crate) taken: Taken,
    pub(crate) mode: Mode,
    pub(crate) speed: f64,
    pub(crate) limits: limits::Args,
    pub(crate) fail_on: Vec<String>,
}

impl Options {
    /// The defaults, with the replay's recording at `output`.
    pub(crate) fn to(output: PathBuf) -> Self {
        Self {
            output,
            taken: Taken::Next,
            mode: Mode::Resource,
            speed: 1.0,
            limits: limits::Args::default(),
            fail_on: Vec::new(),
        }
    }
}

/// A replay that was done and judged.
pub(crate) struct Performed {
    /// The recording of the replay, if there is one.
    pub(crate) output: Option<PathBuf>,
    pub(crate) report: Report,
    pub(crate) json: Value,
    /// The signal that ended it, if one did.
    pub(crate) signal: Option<u8>,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<Exit, Failure> {
    let file = TraceFile::open(&args.file)?;
    if args.dry_run {
        crate::give_up(&[])?;
        return dry_run(&args, &crate::read(file, out)?.rebased(), out);
    }
    let output = args.output.clone().unwrap_or_else(|| args.file.with_extension("replay.ctr"));
    crate::keep_inputs(&[&file], &output)?;
    let trace = crate::read(file, out)?.rebased();
    let taken = if args.force {
        Taken::Replace
    } else if args.output.is_none() {
        let of = identity(&trace);
        Taken::ReplaceIf(Arc::new(move |file| is_replay_of(file, &of)))
    } else {
        Taken::Next
    };
    let options = Options {
        output,
        taken,
        mode: args.mode,
        speed: args.speed,
        limits: args.limits,
        fail_on: args.fail_on,
    };
    signals::catch().map_err(|e| Failure::new(Exit::Internal, e))?;
    // Signals are only counted from now on: nothing may hold this process that a signal is to end.
    out.do_not_wait();
    let performed = perform(&args.file, &trace, &options, out)?;
    if args.json {
        out.json(&performed.json)?;
    } else {
        diff::print(&args.file, performed.output.as_deref(), &performed.report, out)?;
    }
    Ok(performed.signal.map_or_else(|| diff::exit(performed.report.verdict), Exit::Signal))
}

/// Replays a trace, records the replay and compares the two.
pub(crate) fn perform(
    path: &Path,
    trace: &Trace,
    options: &Options,
    out: &mut Output,
) -> Result<Performed, Failure> {
    let gates = diff::gates(Profile::Synthetic, &options.fail_on)?;
    let bar = crate::progress::spinner(out, true);
    bar.set_message("compiling the trace");
    let plan = compile(path, trace, options.limits.max_program)?;
    bar.set_message("building the sandbox");
    let Plan { program, environment, peers, need, summary } = plan;
    let limits = options.limits.resolve(&need, options.speed);
    let run_options = RunOptions {
        limits,
        pace: match options.mode {
            Mode::Resource => Pace::Resource,
            Mode::Temporal => Pace::Temporal,
            Mode::Afap => Pace::Afap,
        },
        speed: options.speed,
        ..RunOptions::default()
    };
    let inputs = Inputs { program, environment: &environment, peers: &peers, need };
    let running = Replay::start(inputs, &run_options).map_err(replay_failure)?;
    let recording = watch(trace, &summary, &running, options, out)?;
    let sandbox = running.inspect();
    running.release().map_err(replay_failure)?;
    let (running, mut outcome) = wait(running, &summary, options.speed, &bar)?;
    bar.finish_and_clear();
    let signal = (outcome.ended == Ended::Aborted && signals::count() > 0).then(signals::last);

    // The recording ends before what is still in its last call is killed: those ends are ours, not the workload's.
    let recorded = match recording {
        Some(recording) => Some(recording.stop(RecordEnded::TargetExited.text()).map_err(record::failure)?),
        None => None,
    };
    outcome.leftovers = running.finish();
    let mut output = None;
    let (mut report, answers) = if let Some(recorded) = recorded {
        let replayed = Trace::open(&recorded.file.path)?;
        let answers = Answers::recorded(&replayed);
        let a = diff::model(path, trace)?;
        let b = diff::model(&recorded.file.path, &replayed)?;
        output = Some(recorded.file.path);
        (ctrace_analysis::diff_replay(&a, &b, &gates, Some(&told(&outcome))), answers)
    } else {
        let report = ctrace_analysis::judge_journal(&journal(&summary, &outcome), &gates);
        (report, Answers::self_reported(&summary, &outcome))
    };
    judge_hits(&outcome.hits, &mut report);
    for problem in &outcome.problems {
        out.warn(&format!("the sandbox lacks something: {problem}"));
    }
    describe(&summary, &outcome, &sandbox, out);
    let json = as_json(&summary, &outcome, &sandbox, &report, &answers, output.as_deref());
    Ok(Performed { output, report, json, signal })
}

fn compile(path: &Path, trace: &Trace, max_program: Option<u64>) -> Result<Plan, Failure> {
    let options = CompileOptions { max_program, ..CompileOptions::default() };
    Plan::compile(trace, &options).map_err(|e: CompileError| {
        Failure::new(
            match e {
                CompileError::TooLarge { .. } if max_program.is_some() => Exit::Usage,
                _ if e.is_of_disk() => Exit::Output,
                _ => Exit::BadTrace,
            },
            anyhow::Error::new(e).context(format!("{} cannot be replayed", path.display())),
        )
    })
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

/// As [`REPLAY_OF`] has it of a replay.
fn identity(trace: &Trace) -> String {
    format!("{:016x}", trace.identity())
}

/// Whether a file is the recording of a replay of this trace.
fn is_replay_of(file: File, of: &str) -> bool {
    Trace::from_file(file)
        .is_ok_and(|trace| trace.header().host.facts.get(REPLAY_OF).is_some_and(|it| it == of))
}

/// Records the replay, which is held at its gate. Without the privilege it goes unobserved.
fn watch(
    trace: &Trace,
    plan: &PlanSummary,
    running: &Running,
    options: &Options,
    out: &mut Output,
) -> Result<Option<Recording>, Failure> {
    let mut config = Config::new(Target::Pid(running.root_pid()), &options.output);
    config.taken = options.taken.clone();
    config.ring_bytes = ring_bytes(plan).max(config.ring_bytes);
    // Its processes are ours: they can become nobody else's, having no way to gain a privilege.
    config.facts.insert(REPLAY_OF.to_owned(), identity(trace));
    // The replay does what the trace says: what is masked in one must be in the other.
    config.redact = Policy::of_header(&trace.header().redaction).min(Policy::Default);
    match Recorder::start(config) {
        Ok(recording) => {
            for remark in recording.remarks() {
                out.say(&format!("note: {remark}"));
            }
            Ok(Some(recording))
        }
        Err(RecordError::NoPrivilege { .. } | RecordError::KernelLacks { .. }) => {
            out.warn("the replay cannot be recorded here (`ctrace doctor` says why); its own journal is judged instead");
            Ok(None)
        }
        Err(error) => Err(record::failure(error)),
    }
}

/// Rings that hold all calls of a replay if they can: unlike a recorder in production, that of a replay shares the CPUs with
/// a load that may want all of them, and what is only counted cannot be judged.
fn ring_bytes(plan: &PlanSummary) -> u64 {
    /// A record with what most calls have beside their arguments, and the beginnings of segments that stay empty.
    const RECORD_BYTES: u64 = 128;
    const MAX: u64 = 128 << 20;
    // The rings are halved between calls with and without such things.
    (2 * RECORD_BYTES).saturating_mul(sum(&plan.calls)).min(MAX).next_power_of_two()
}

/// Waits for the end, or for a signal, which ends the replay.
fn wait(
    running: Running,
    plan: &PlanSummary,
    speed: f64,
    bar: &crate::progress::Progress,
) -> Result<(Running, Outcome), Failure> {
    let abort = running.abort_handle().map_err(|e| Failure::new(Exit::Internal, e))?;
    let began = Instant::now();
    let expected = plan.recorded_ns as f64 / speed;
    let worker = std::thread::spawn(move || {
        let mut running = running;
        let outcome = running.observe();
        outcome.map(|outcome| (running, outcome))
    });
    let mut aborted = false;
    while !worker.is_finished() {
        if signals::count() > 0 && !aborted {
            aborted = true;
            // When it is over already there is nothing left to stop.
            let _ = abort.abort();
        }
        bar.set_message(format!(
            "replaying: {} of {}",
            units::duration(began.elapsed().as_millis() as u64 * 1_000_000),
            units::duration(expected as u64)
        ));
        std::thread::sleep(Duration::from_millis(20));
    }
    match worker.join() {
        Ok(outcome) => outcome.map_err(replay_failure),
        Err(_) => Err(Failure::say(Exit::Internal, "waiting for the replay panicked")),
    }
}

/// A replay that lacked less time is not told of it: a moment in a queue of the scheduler is part of every run.
const NOTABLE_NS: u64 = 10_000_000;

const fn ended_text(ended: Ended) -> &'static str {
    match ended {
        Ended::Completed => "completed",
        Ended::Stalled => "cut off: the recording was over, and tasks had not come to their end",
        Ended::TimedOut => "timed out: --max-duration allows more",
        Ended::Aborted => "aborted",
        Ended::OverLimit => "over a limit",
        _ => "otherwise",
    }
}

/// Exit code and fix for a replay that did not run.
fn replay_failure(error: ReplayError) -> Failure {
    let error = match error {
        ReplayError::Sandbox(SandboxError::Limit(too_much)) => return limits::refusal(too_much),
        ReplayError::Over(hit) => return Failure::say(Exit::Inconclusive, hit.with_fix()),
        other => other,
    };
    let (exit, fix) = match &error {
        ReplayError::Sandbox(_) | ReplayError::Inside { missing: true, .. } => (
            Exit::Host,
            Some("`ctrace doctor` shows which isolation this host has; without it ctrace refuses to replay"),
        ),
        ReplayError::Option(_) => (Exit::Usage, None),
        ReplayError::Image(_) => {
            (Exit::Output, Some("free some space, or point TMPDIR to a directory with space"))
        }
        ReplayError::Program(_) => (Exit::BadTrace, Some("`ctrace verify` tells what is damaged")),
        ReplayError::Lost => (Exit::Internal, Some("free some memory, or replay a shorter recording")),
        _ => (Exit::Internal, None),
    };
    let failure = Failure::new(exit, error);
    match fix {
        Some(fix) => failure.fix(fix),
        None => failure,
    }
}
