//! `ctrace replay --amplify`: the errors that a recording has by itself come more often, in steps, until a condition that is to
//! hold does not.

use super::Screen;
use crate::exit::{Exit, Failure};
use crate::faults;
use crate::output::{Output, Shape};
use crate::perform::{self, Faults, Options, Performed};
use crate::{decode, units};
use anyhow::Context as _;
use ctrace_analysis::Verdict;
use ctrace_analysis::faults::{Natural, Sweep, Tried, amplify, natural};
use ctrace_format::{OutFile, Taken, Trace, errno};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to amplify.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// Let the errors that the recording has come more often, in steps, until a --steady condition does not hold
    #[arg(long, requires = "steady", conflicts_with_all = ["inject", "plan", "dry_run", "abort_on"])]
    pub(super) amplify: bool,
    /// How many times as often, from the smallest on; what lies between the last that holds and the first that breaks is
    /// searched
    #[arg(long, value_name = "F,F,…", value_delimiter = ',', value_parser = parse_factor, default_value = "1,1.2,2,5",
          requires = "amplify")]
    sweep: Vec<f64>,
    /// How often each step is tried, with other chances: it breaks when most of its tries do
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100), default_value_t = 3,
          requires = "amplify")]
    tries: u32,
}

fn parse_factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(factor),
        _ => Err(format!("{text:?} is no factor; write 2 for twice as often")),
    }
}

/// One replay of the sweep.
struct Run {
    factor: f64,
    seed: u64,
    performed: Performed,
}

impl Run {
    /// The condition that did not hold, with its figures.
    fn broke(&self) -> Option<&str> {
        self.performed.steady.iter().find_map(|steady| Some(steady.failed.as_ref()?.text.as_str()))
    }

    fn json(&self) -> Value {
        let performed = self.performed.json();
        json!({
            "factor": self.factor,
            "seed": self.seed,
            "injections": performed["injections"],
            "verdict": performed["diff"]["verdict"],
            "steady": performed["steady"],
        })
    }
}

/// Sweeps. The recording of the replay that broke first at the smallest factor is left at `options.output`; if none did, that
/// of the last one.
pub(super) fn run(
    args: &Args,
    as_json: bool,
    path: &Path,
    trace: &Trace,
    mut options: Options,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let all = natural(trace)?;
    for line in all.iter().map(describe) {
        out.say(&line);
    }
    if all.is_empty() {
        let what = format!("{} has no errors that could come more often", path.display());
        return Err(Failure::say(Exit::Inconclusive, what).fix("say which are to come: --inject, --plan"));
    }
    let output = std::mem::take(&mut options.output);
    let taken = std::mem::replace(&mut options.taken, Taken::Replace);
    let beside = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = tempfile::Builder::new().prefix(".ctrace-sweep-").tempdir_in(beside);
    let scratch = scratch.with_context(|| format!("making a directory in {}", beside.display()));
    let scratch = scratch.map_err(|error| Failure::new(Exit::Output, error))?;
    let mut sweep = Sweep::new(args.sweep.clone());
    let mut runs: Vec<Run> = Vec::new();
    let mut kept: Option<(f64, bool, PathBuf)> = None;
    while let Some(factor) = sweep.next_factor() {
        let mut tried = Tried { factor, broke: 0, tries: 0 };
        for seed in 1..=u64::from(args.tries) {
            let Some(faults) = faults_at(&all, factor, seed, trace)? else { break };
            options.faults = Some(faults);
            options.output = scratch.path().join(format!("{}.ctr", runs.len()));
            let performed =
                perform::replay_recorded_and_judged(path, trace, &options, &mut Screen::new(out))?;
            if performed.aborted.is_some() {
                return Ok(performed.exit());
            }
            let run = Run { factor, seed, performed };
            tried.tries += 1;
            tried.broke += u32::from(run.broke().is_some());
            // The smallest factor that breaks, else the last.
            let is_better = kept.as_ref().is_none_or(|(other, broke, _)| match (run.broke(), broke) {
                (_, false) => true,
                (Some(_), true) => factor < *other,
                (None, true) => false,
            });
            if let Some(recording) = run.performed.recording.clone().filter(|_| is_better) {
                kept = Some((factor, run.broke().is_some(), recording));
            }
            runs.push(run);
        }
        if tried.tries > 0 {
            out.say(&step(&tried, &runs));
        } else {
            out.say(&format!("×{factor:.2}: not tried: no error comes more often at it"));
        }
        sweep.note(tried);
    }
    if runs.iter().all(|run| run.performed.planned == 0) {
        let what = "no fault took place: none of the errors can come more often";
        return Err(Failure::say(Exit::Inconclusive, what).fix("take larger factors: --sweep 2,5,10"));
    }
    let left = kept.map(|(_, _, recording)| leave(&recording, &output, &taken)).transpose()?;
    let end = conclusion(&sweep, &runs);
    if as_json {
        let object = json!({
            "natural": all.iter().map(natural_json).collect::<Vec<_>>(),
            "steps": sweep.tried().iter().map(step_json).collect::<Vec<_>>(),
            "runs": runs.iter().map(Run::json).collect::<Vec<_>>(),
            "breaking": sweep.breaking().as_ref().map(step_json),
            "held": sweep.held().as_ref().map(step_json),
            "replay_trace": left,
            "conclusion": end,
        });
        out.json(Shape::Sweep, object)?;
    } else {
        out.data(&end)?;
    }
    if let Some(left) = left {
        let what = if sweep.breaking().is_some() { "the replay that broke" } else { "the last replay" };
        out.say(&format!("{what}: {}", left.display()));
    }
    let is_unlike = |run: &Run| run.broke().is_none() && run.performed.report.verdict != Verdict::Match;
    Ok(match sweep.breaking() {
        Some(_) => Exit::Deviated,
        // Replays that did something else tell nothing of what holds.
        None if runs.iter().all(is_unlike) => Exit::Inconclusive,
        None => Exit::Done,
    })
}

/// The recording's errors at a factor; `None`: none of them comes more often at it.
fn faults_at(all: &[Natural], factor: f64, seed: u64, trace: &Trace) -> Result<Option<Faults>, Failure> {
    let plan = amplify(all, factor, seed).map_err(|error| Failure::say(Exit::Internal, error))?;
    let Some(plan) = plan else { return Ok(None) };
    let resolution = faults::resolve(&plan, trace)?;
    let edits = faults::edits(&plan, &resolution, trace)?;
    Ok((edits.planned() > 0).then(|| Faults {
        edits: Arc::new(edits),
        plan: plan.text(),
        rules: plan.rules.iter().map(|rule| rule.name().to_owned()).collect(),
        levels: None,
    }))
}

/// Leaves a recording at the name that was asked for.
fn leave(recording: &Path, output: &Path, taken: &Taken) -> Result<PathBuf, Failure> {
    let file = OutFile::create(output, taken)?;
    let path = file.write_with(|to| {
        let mut from = std::fs::File::open(recording)?;
        std::io::copy(&mut from, to).map(|_| ())
    })?;
    Ok(path)
}

fn describe(natural: &Natural) -> String {
    let role = decode::plain(natural.role.as_bytes());
    format!(
        "{role}: {} → {} in {} of {} ({:.1} %); at factor 1: {:.1} %",
        natural.call,
        errno::name(natural.errno.into()).unwrap_or("an error"),
        units::count(natural.failed),
        units::plural(natural.calls, "call"),
        natural.rate() * 100.0,
        natural.amplified() * 100.0
    )
}

fn natural_json(natural: &Natural) -> Value {
    json!({
        "role": natural.role, "call": natural.call, "errno": errno::name(natural.errno.into()),
        "calls": natural.calls, "failed": natural.failed, "rate": natural.rate(), "amplified": natural.amplified(),
    })
}

fn step_json(tried: &Tried) -> Value {
    let (from, to) = tried.share();
    json!({"factor": tried.factor, "broke": tried.broke, "tries": tried.tries, "share": [from, to]})
}

fn step(tried: &Tried, runs: &[Run]) -> String {
    let here = runs.iter().filter(|run| (run.factor - tried.factor).abs() < f64::EPSILON);
    let faults = here.map(|run| run.performed.planned).max().unwrap_or(0);
    let broke = if tried.broke == 0 {
        "held".to_owned()
    } else {
        format!("broke in {} of {}", tried.broke, tried.tries)
    };
    format!("×{:.2}: {broke}, {} a try", tried.factor, units::plural(faults, "fault"))
}

/// What came of it, in a sentence.
fn conclusion(sweep: &Sweep, runs: &[Run]) -> String {
    let Some(breaking) = sweep.breaking() else {
        let highest = sweep.highest().unwrap_or(0.0);
        return format!("the steady state holds up to ×{highest:.2}, the largest factor that was tried");
    };
    let first =
        runs.iter().find(|run| (run.factor - breaking.factor).abs() < f64::EPSILON && run.broke().is_some());
    let detail = first.and_then(Run::broke).unwrap_or_default();
    let (from, to) = breaking.share();
    let held = sweep.held().map_or_else(
        || "; no smaller factor was tried".to_owned(),
        |held| format!("; it held at ×{:.2}", held.factor),
    );
    format!(
        "breaks at ×{:.2}: {} did not hold in {} of {} (95 % confidence: {:.0} to {:.0} % of all){held}",
        breaking.factor,
        decode::plain(detail.as_bytes()),
        breaking.broke,
        units::plural(u64::from(breaking.tries), "try"),
        from * 100.0,
        to * 100.0
    )
}
