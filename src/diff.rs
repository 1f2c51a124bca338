//! `ctrace diff`: whether another run did what the recording shows.

use crate::exit::{Exit, Failure};
use crate::output::{Document, Output};
use crate::{faults, read};
use anyhow::Context;
use ctrace_analysis::edits::Edits;
use ctrace_analysis::{Gates, Model, Profile, Report, Verdict, diff};
use ctrace_format::{Header, OutFile, Policy, Taken, Trace, TraceFile};
use ctrace_report::verdict::{self, JUNIT_BEGINS, MARKDOWN_BEGINS, junit, markdown};
use std::path::{Path, PathBuf};

/// Compare a recording with other runs, metric by metric.
///
/// Exit 0: match; 1: deviated; 3: inconclusive.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctrace diff incident.ctr replay.ctr
  ctrace diff before.ctr after.ctr --fail-on alignment=0.9 --junit diff.xml")]
pub(crate) struct Args {
    /// The recording
    a: PathBuf,
    /// The other runs
    #[arg(required = true)]
    b: Vec<PathBuf>,
    /// The kind of the other run: a replay must do everything again, a real program the same on the whole
    #[arg(long, value_name = "KIND", default_value = "auto")]
    profile: ProfileName,
    #[arg(long, value_name = "METRIC=GATE", help = gate_help("alignment=0.9"))]
    fail_on: Vec<String>,
    /// Write the result as XML for CI (`JUnit`)
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the result as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Replace files of these names, if they are yours; without this, only what diff wrote before is replaced
    #[arg(long)]
    force: bool,
    /// One JSON object per run
    #[arg(long)]
    json: bool,
}

/// Which metrics there are.
pub(crate) fn gate_help(example: &str) -> String {
    let metrics = Gates::metrics().collect::<Vec<_>>().join(", ");
    format!("Another gate for a metric, as in {example}; metrics: {metrics}")
}

/// The profiles as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProfileName {
    /// A replay when the trace is one of a replay
    Auto,
    /// A replay
    Synthetic,
    /// A run of a real program
    Real,
}

impl ProfileName {
    /// The profile for a run that is a replay, or is none.
    pub(crate) const fn of(self, is_replay: bool) -> Profile {
        match self {
            Self::Synthetic => Profile::Synthetic,
            Self::Auto if is_replay => Profile::Synthetic,
            Self::Auto | Self::Real => Profile::RealBinary,
        }
    }
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let first = TraceFile::open(&args.a)?;
    let others = args.b.iter().map(|path| TraceFile::open(path)).collect::<Result<Vec<_>, _>>()?;
    let outputs: Vec<&Path> =
        [&args.junit, &args.markdown].into_iter().flatten().map(PathBuf::as_path).collect();
    let inputs: Vec<&TraceFile> = std::iter::once(&first).chain(&others).collect();
    for output in &outputs {
        crate::keep_inputs(&inputs, output)?;
    }
    let junit_file = written_to(args.junit.as_deref(), JUNIT_BEGINS, args.force, out)?;
    let markdown_file = written_to(args.markdown.as_deref(), MARKDOWN_BEGINS, args.force, out)?;
    crate::give_up(&outputs)?;
    let first = read(first, out)?;
    let redaction = first.header().redaction.clone();
    let first = first.rebased();
    let none = Edits::default();
    let a = model(&args.a, &first, &none)?;
    let mut reports = Vec::new();
    for file in others {
        let path = file.path().to_owned();
        let trace = read(file, out)?;
        if strangers(&redaction, &trace.header().redaction) {
            out.warn(STRANGERS);
        }
        let trace = trace.rebased();
        let replay = trace.summary().is_some_and(|s| s.engine_calls > 0);
        let b = model(&path, &trace, &none)?;
        let planned = planned(&args.a, &first, trace.header(), out)?;
        drop(trace);
        let profile = args.profile.of(replay);
        let report = against(&a, planned.as_ref(), &b, &gates(profile, &args.fail_on)?);
        if args.json {
            out.document(&Document::of_report(&report))?;
        } else {
            print(&args.a, Some(&path), &report, out)?;
        }
        reports.push((path, report));
    }
    if let Some(file) = junit_file {
        let xml = junit(&args.a, &reports)
            .context("writing the verdict as XML")
            .map_err(|e| Failure::new(Exit::Internal, e))?;
        file.write_whole(xml.as_bytes())?;
    }
    if let Some(file) = markdown_file {
        file.write_whole(markdown(&args.a, &reports).as_bytes())?;
    }
    if !args.json {
        say_next(&args.a, reports.iter().map(|(b, _)| b.as_path()), out);
    }
    Ok(worst(reports.iter().map(|(_, r)| r.verdict)))
}

/// Names the command that shows the same as a report. What came through a pipe cannot be read again.
pub(crate) fn say_next<'a>(a: &'a Path, others: impl Iterator<Item = &'a Path>, out: &mut Output) {
    let paths: Vec<&Path> = std::iter::once(a).chain(others).collect();
    if paths.iter().all(|path| path.exists()) {
        out.say(&format!("next: {}", ctrace_report::incident::report_command(&paths)));
    }
}

/// Makes a file that is written at the end. An earlier one of its kind, which begins like this, is replaced.
fn written_to(
    path: Option<&Path>,
    begins: &'static str,
    force: bool,
    out: &mut Output,
) -> Result<Option<OutFile>, Failure> {
    let taken = if force { Taken::Replace } else { Taken::replace_if_begins(begins) };
    path.map(|path| crate::output(path, &taken, out)).transpose()
}

/// See [`strangers`].
pub(crate) const STRANGERS: &str =
    "both traces have pseudonyms, of different keys: names in one mean nothing in the other";

/// Whether two headers tell of pseudonyms that cannot be compared.
pub(crate) fn strangers(a: &str, b: &str) -> bool {
    Policy::of_header(a) == Policy::Strict && Policy::of_header(b) == Policy::Strict && a != b
}

/// The gates of a profile with the changes of `--fail-on`.
pub(crate) fn gates(profile: Profile, fail_on: &[String]) -> Result<Gates, Failure> {
    let mut gates = Gates::new(profile);
    for text in fail_on {
        gates.fail_on(text).map_err(|e| Failure::new(Exit::Usage, e))?;
    }
    Ok(gates)
}

/// What a trace means.
pub(crate) fn model(path: &Path, trace: &Trace, edits: &Edits) -> Result<Model, Failure> {
    Model::edited(trace, edits)
        .with_context(|| format!("understanding {}", path.display()))
        .map_err(|e| Failure::new(Exit::BadTrace, e))
}

/// A recording as it would have been with the faults that its replay was to have.
pub(crate) struct Planned {
    model: Model,
    delays: bool,
}

/// The recording as a replay with this header was to show it, where that is another one than it was.
pub(crate) fn planned(
    path: &Path,
    trace: &Trace,
    replay: &Header,
    out: &mut Output,
) -> Result<Option<Planned>, Failure> {
    let edits = faults::of_replay(trace, replay, out)?;
    if edits.is_empty() {
        return Ok(None);
    }
    Ok(Some(Planned { model: model(path, trace, &edits)?, delays: edits.delays() }))
}

/// Compares a recording, as it was or as it was planned, with another run: what was planned is no deviation.
pub(crate) fn against(recorded: &Model, planned: Option<&Planned>, other: &Model, gates: &Gates) -> Report {
    match planned {
        Some(Planned { model, delays }) => diff(model, other, &gates.clone().delayed(*delays)),
        None => diff(recorded, other, gates),
    }
}

/// The exit code of a verdict.
pub(crate) const fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Match => Exit::Done,
        Verdict::Deviated => Exit::Deviated,
        Verdict::Inconclusive => Exit::Inconclusive,
    }
}

/// One deviation decides; without one, one doubt does.
fn worst(verdicts: impl Iterator<Item = Verdict>) -> Exit {
    let rank = |v: &Verdict| match v {
        Verdict::Match => 0,
        Verdict::Inconclusive => 1,
        Verdict::Deviated => 2,
    };
    verdicts.max_by_key(rank).map_or(Exit::Inconclusive, exit)
}

/// Prints the verdict, the reasons, the table of metrics and the first divergence. `b` is nothing when a replay was judged by
/// its journal.
///
/// # Errors
/// As the standard output fails.
pub(crate) fn print(a: &Path, b: Option<&Path>, report: &Report, out: &mut Output) -> Result<(), Failure> {
    for line in verdict::lines(a, b, report, out.data_paint()) {
        out.data(&line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_deviation_decides_and_then_one_doubt() {
        use Verdict::{Deviated, Inconclusive, Match};
        assert_eq!(worst([Match, Match].into_iter()), Exit::Done);
        assert_eq!(worst([Match, Inconclusive].into_iter()), Exit::Inconclusive);
        assert_eq!(worst([Inconclusive, Deviated, Match].into_iter()), Exit::Deviated);
    }
}
