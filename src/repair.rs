//! `ctrace repair`: writes what is intact of a trace as a complete one.

use crate::exit::{Exit, Failure};
use crate::output::{Output, Shape};
use crate::signals::Unfinished;
use crate::units;
use ctrace_format::{State, TraceFile};
use serde_json::json;
use std::path::PathBuf;

/// Write what is intact of a torn or damaged trace as a complete one.
///
/// The original is not touched.
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
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let file = TraceFile::open(&args.file)?;
    let copy = crate::output(&args.output, &crate::taken(args.force), out)?;
    crate::give_up(&[&args.output])?;
    let _on_signal = Unfinished::new(copy.partial_path());
    let report = ctrace_format::repair(file, copy).map_err(crate::redact::failure)?;
    if report.state == State::Live {
        out.warn("its recorder still runs; what it writes from now on is missing in the copy");
    }
    for damage in &report.damage {
        out.warn(&ctrace_report::text::damage(damage));
    }
    let kept: u64 = report.events.values().sum();
    let lost: u64 = report.damage.iter().filter_map(|d| d.lost).map(|l| l.count).sum();
    let lost_text =
        if lost > 0 { format!(", {} lost (the copy says so)", units::count(lost)) } else { String::new() };
    out.say(&format!(
        "{}: {} kept{lost_text}; {} unreadable",
        report.finished.path.display(),
        units::plural(kept, "event"),
        units::plural(report.damage.len() as u64, "part")
    ));
    if args.json {
        out.json(
            Shape::Summary,
            json!({
                "type": "summary", "file": report.finished.path, "events": kept, "lost": lost,
                "unreadable_parts": report.damage.len(), "bytes": report.finished.bytes,
            }),
        )?;
    }
    Ok(Exit::Done)
}
