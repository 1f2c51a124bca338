//! `ctrace replay`: does the same things to a kernel again, in a sandbox, under the same recorder, and compares.

mod amplify;
mod limits;
mod present;

use crate::exit::{Exit, Failure};
use crate::output::{Output, Shape};
use crate::perform::{self, Faults, Options};
use crate::plan::Expressions;
use crate::{diff, faults, plan, record, signals};
use ctrace_analysis::faults::Plan as FaultPlan;
use ctrace_analysis::{Profile, Trigger, without_replay};
use ctrace_format::{Lack, Policy, Taken, Trace, TraceFile};
use ctrace_replayer::Pace;
use ctrace_replayer::pressure::{Selection, UnknownKind};
pub(crate) use present::{Screen, describe};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Do what a trace shows to a kernel again, in a sandbox, and compare.
///
/// The calls are real; the sandbox reaches nothing outside. The replay is recorded by the same recorder and compared
/// with the recording. Exit 0: match; 1: deviated; 3: inconclusive; 9: aborted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo ctrace replay incident.ctr                  replay, record the replay, compare
  ctrace replay incident.ctr --dry-run             only say what would be done
  sudo ctrace replay incident.ctr --mode afap      without the time the workload spent thinking
  sudo ctrace replay incident.ctr --inject connect:error=ECONNREFUSED:when=3+
  sudo ctrace replay incident.ctr --plan payment-refuses.yaml
  sudo ctrace replay incident.ctr --amplify --steady 'errno(connect)<20/s'
                                                   its own errors, ever more often, until it breaks
  sudo ctrace replay incident.ctr --abort-on 'errno(connect)>5/s' --abort-on 'silent>10s'
                                                   end it when one of these holds

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
    /// End the replay as soon as EXPR holds of it: freeze, kill, report (exit 9); in the language of `record --trigger`,
    /// and `silent>5s`: nothing came for so long
    #[arg(long, value_name = "EXPR", value_parser = record::parse_trigger)]
    abort_on: Vec<Trigger>,
    /// The recorded pressure that is replayed: recorded (all), off, or some of cpu, contention, memory,
    /// disk, pids
    #[arg(long, value_name = "KINDS", value_parser = parse_pressure, default_value = "recorded")]
    pressure: Selection,
    /// A condition that is to hold all the time, in the same language: p99(recvfrom)<200ms; if it does not, the replay deviates
    #[arg(long, value_name = "EXPR", value_parser = parse_steady)]
    steady: Vec<Trigger>,
    #[command(flatten)]
    amplify: amplify::Args,
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
    #[command(flatten)]
    faults: Expressions,
}

/// The paces as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    Resource,
    Temporal,
    Afap,
}

impl Mode {
    const fn pace(self) -> Pace {
        match self {
            Self::Resource => Pace::Resource,
            Self::Temporal => Pace::Temporal,
            Self::Afap => Pace::Afap,
        }
    }
}

/// Refuses a trace that was imported from a log that does not tell what a replay needs.
fn told_enough(path: &Path, trace: &Trace, mode: Mode) -> Result<(), Failure> {
    let lacks = Lack::of(trace.header());
    let paced = matches!(mode, Mode::Resource);
    // What no mode can do without comes first.
    let why = without_replay(&lacks, false).or_else(|| without_replay(&lacks, paced));
    let Some(why) = why else { return Ok(()) };
    let failure =
        Failure::say(Exit::Inconclusive, format_args!("{} cannot be replayed: {why}", path.display()));
    Err(failure.fix(if paced && without_replay(&lacks, false).is_none() {
        "replay it without pauses: --mode afap; or record with strace -f -ttt -T -yy"
    } else {
        "record with strace -f -ttt -T -yy, or with ctrace record"
    }))
}

/// Refuses conditions on names that the trace, and so its replay, does not have.
fn has_names(option: &str, conditions: &[Trigger], trace: &Trace) -> Result<(), Failure> {
    let is_strict = Policy::of_header(&trace.header().redaction) == Policy::Strict;
    match conditions.iter().find(|trigger| is_strict && trigger.is_about_paths()) {
        None => Ok(()),
        Some(trigger) => Err(Failure::say(
            Exit::Usage,
            format_args!(
                "{option} {} asks for a path, and this trace has pseudonyms (--redact strict)",
                trigger.text()
            ),
        )
        .fix("leave the path out, or replay the trace that this one was made of")),
    }
}

fn parse_pressure(text: &str) -> Result<Selection, String> {
    text.parse().map_err(|error: UnknownKind| error.to_string())
}

/// Reads a condition that is to hold all the time.
fn parse_steady(text: &str) -> Result<Trigger, String> {
    Trigger::parse_steady(text).map_err(|error| record::trigger_error(text, &error))
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err(format!("{text:?} is no speed; write 2 for twice as fast")),
    }
}

/// A plan on top of a recording.
struct OnTop {
    faults: Faults,
    abort_on: Vec<Trigger>,
    steady: Vec<Trigger>,
}

/// The faults that are asked for, and the conditions that end their replay. Each rule has to hit something.
fn on_top(args: &Args, trace: &Trace, out: &mut Output) -> Result<Option<OnTop>, Failure> {
    let Some(plan) = args.faults.plan()? else { return Ok(None) };
    let faults = put_on_top(&plan, trace, out)?;
    let usage = |error: String| Failure::say(Exit::Usage, error);
    let abort_on = plan.abort.iter().map(|text| record::parse_trigger(text).map_err(usage));
    let steady = plan.steady.iter().map(|text| parse_steady(text).map_err(usage));
    Ok(Some(OnTop {
        abort_on: abort_on.collect::<Result<_, _>>()?,
        steady: steady.collect::<Result<_, _>>()?,
        faults,
    }))
}

/// The faults of a plan, which are told. Each rule has to hit something.
pub(crate) fn put_on_top(plan: &FaultPlan, trace: &Trace, out: &mut Output) -> Result<Faults, Failure> {
    let resolution = faults::resolve(plan, trace)?;
    if let Some(why) = plan::lacks(plan, &resolution) {
        let failure = Failure::say(Exit::Inconclusive, why);
        return Err(failure.fix("ctrace plan check says what each rule hits"));
    }
    for line in plan::lines(plan, &resolution) {
        out.say(&line);
    }
    let edits = faults::edits(plan, &resolution, trace)?;
    Ok(Faults {
        edits: Arc::new(edits),
        plan: plan.text(),
        rules: plan.rules.iter().map(|rule| rule.name().to_owned()).collect(),
        levels: plan.pressure.clone(),
    })
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let file = TraceFile::open(&args.file)?;
    if args.dry_run {
        crate::give_up(&[])?;
        let trace = crate::read(file, out)?.rebased();
        let faults = on_top(args, &trace, out)?;
        return present::dry_run(args, &trace, faults.as_ref().map(|on_top| &on_top.faults), out);
    }
    let output = args.output.clone().unwrap_or_else(|| args.file.with_extension("replay.ctr"));
    crate::keep_inputs(&[&file], &output)?;
    let gates = diff::gates(Profile::Synthetic, &args.fail_on)?;
    let trace = crate::read(file, out)?.rebased();
    told_enough(&args.file, &trace, args.mode)?;
    let (mut abort_on, mut steady) = (args.abort_on.clone(), args.steady.clone());
    let faults = on_top(args, &trace, out)?.map(|on_top| {
        abort_on.extend(on_top.abort_on);
        steady.extend(on_top.steady);
        on_top.faults
    });
    has_names("--abort-on", &abort_on, &trace)?;
    has_names("--steady", &steady, &trace)?;
    let taken = if args.force {
        Taken::Replace
    } else if args.output.is_none() {
        perform::replaces_replays_of(&trace)
    } else {
        Taken::Next
    };
    let options = Options {
        output,
        taken,
        pace: args.mode.pace(),
        speed: args.speed,
        limits: args.limits.flags(),
        max_program: args.limits.max_program,
        gates,
        pressure: args.pressure,
        faults,
        abort_on,
        steady,
    };
    signals::catch().map_err(|e| Failure::new(Exit::Internal, e))?;
    // Signals are only counted from now on: nothing may hold this process that a signal is to end.
    out.do_not_wait();
    if args.amplify.amplify {
        return amplify::run(&args.amplify, args.json, &args.file, &trace, options, out);
    }
    let performed = perform::replay_recorded_and_judged(&args.file, &trace, &options, &mut Screen::new(out))?;
    describe(&performed, out);
    if args.json {
        out.json(Shape::Replay, performed.json())?;
    } else {
        diff::print(&args.file, performed.recording.as_deref(), &performed.report, out)?;
        diff::say_next(&args.file, performed.recording.as_deref().into_iter(), out);
    }
    Ok(performed.exit())
}
