//! `ctrace redact`: a copy of a trace that tells less.

use crate::exit::{Exit, Failure};
use crate::output::{Output, Shape};
use crate::signals::Unfinished;
use crate::units;
use ctrace_format::{Policy, RepairError, State, TraceFile};
use serde_json::json;
use std::path::PathBuf;

/// How much a trace may tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Redact {
    /// Everything as it was seen
    Off,
    /// Mask what looks secret: passwords, tokens, keys
    #[default]
    Default,
    /// Pseudonyms for names, paths, arguments and addresses
    Strict,
}

impl From<Redact> for Policy {
    fn from(redact: Redact) -> Self {
        match redact {
            Redact::Off => Self::Off,
            Redact::Default => Self::Default,
            Redact::Strict => Self::Strict,
        }
    }
}

/// Write a copy of a trace that tells less, to hand to somebody else.
///
/// Pseudonyms are made with a key that exists only while the copy is written. The original is not touched.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The trace
    file: PathBuf,
    /// The trace to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Replace a file of that name, if it is yours; without this, the next free name is taken
    #[arg(long)]
    force: bool,
    /// What the copy may tell
    #[arg(long, value_name = "POLICY", default_value = "strict")]
    redact: Redact,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let file = TraceFile::open(&args.file)?;
    let copy = crate::output(&args.output, &crate::taken(args.force), out)?;
    crate::give_up(&[&args.output])?;
    let _on_signal = Unfinished::new(copy.partial_path());
    let report = ctrace_format::redact(file, copy, args.redact.into()).map_err(failure)?;
    if report.state == State::Live {
        out.warn("its recorder still runs; what it writes from now on is missing in the copy");
    }
    for damage in &report.damage {
        out.warn(&ctrace_report::text::damage(damage));
    }
    let events: u64 = report.events.values().sum();
    let lost: u64 = report.damage.iter().filter_map(|d| d.lost).map(|l| l.count).sum();
    out.say(&format!(
        "{}: {}, {} redacted ({} of {})",
        report.finished.path.display(),
        units::plural(events, "event"),
        units::plural(report.redacted.values().sum(), "value"),
        units::plural(report.redacted.len() as u64, "kind"),
        Policy::from(args.redact)
    ));
    for (rule, count) in &report.redacted {
        out.say(&format!("  {:>9}   {rule}", units::count(*count)));
    }
    if args.json {
        out.json(
            Shape::Summary,
            json!({
                "type": "summary", "file": report.finished.path, "events": events, "lost": lost,
                "policy": Policy::from(args.redact).name(), "redacted": report.redacted,
                "unreadable_parts": report.damage.len(), "bytes": report.finished.bytes,
            }),
        )?;
    }
    Ok(Exit::Done)
}

/// Exit code and fix for a copy that could not be made.
pub(crate) fn failure(error: RepairError) -> Failure {
    match error {
        RepairError::Read(error) => Failure::from(error),
        RepairError::Write(error) => Failure::from(error),
        error @ RepairError::SameFile { .. } => Failure::new(Exit::Usage, error),
        error @ RepairError::Laxer { .. } => Failure::new(Exit::Usage, error).fix(
            "what a trace does not tell cannot be brought back: take the original, or a stricter policy",
        ),
        error => Failure::new(Exit::Internal, error),
    }
}
