//! `ctrace verify`: whether every byte of a trace is what was written.

use crate::exit::{Exit, Failure};
use crate::output::{Output, Shape, Style};
use crate::{decode, units};
use ctrace_format::{State, TraceFile};
use ctrace_report::text;
use serde_json::json;
use std::path::PathBuf;

/// Check a trace from the first byte to the last.
///
/// Exit 0: intact and complete (or still being written); 65: not.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The trace
    file: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let file = TraceFile::open(&args.file)?;
    crate::give_up(&[])?;
    let report = ctrace_format::verify_trace(&file.read()?)?;
    let total: u64 = report.events.values().sum();
    let intact = report.is_intact();
    let hash = report.sha256.map(|h| decode::hex(&h));
    if args.json {
        let damage: Vec<_> = report.damage.iter().map(text::damage_json).collect();
        out.json(
            Shape::Check,
            json!({
                "intact": intact, "complete": intact && report.state == State::Complete,
                "state": text::state(report.state), "events": total, "chunks": report.chunks,
                "bytes": report.bytes, "sha256": hash, "lost": report.lost_events(), "damage": damage,
            }),
        )?;
        return Ok(exit(intact, report.state));
    }
    let paint = out.data_paint();
    for damage in &report.damage {
        out.data(&format!("{} {}", paint.paint(Style::Red, "✕"), text::damage(damage)))?;
    }
    let events = units::plural(total, "event");
    let chunks = units::plural(report.chunks, "chunk");
    let line = match (intact, report.state) {
        (true, State::Complete) => {
            format!("{} intact and complete: {events} in {chunks}", paint.paint(Style::Green, "✔"))
        }
        (true, State::Live) => format!("intact so far: {events} in {chunks}; its recorder still runs"),
        (true, State::Torn) => format!(
            "{} not finished: {events} in {chunks} are intact; the recorder died or the file was cut",
            paint.paint(Style::Yellow, "✕")
        ),
        (false, _) => format!("{events} are intact, the rest is damaged"),
    };
    out.data(&line)?;
    if let Some(hash) = hash.filter(|_| intact) {
        out.data(&format!("  sha256 {hash}"))?;
    }
    let exit = exit(intact, report.state);
    if exit != Exit::Done && report.state == State::Live {
        out.say("its recorder still runs, and may be in the middle of a write: look again");
    } else if exit != Exit::Done {
        let fix = out.paint().paint(Style::Cyan, "fix:");
        out.say(&format!("{fix}   ctrace repair {} -o FIXED.ctr keeps what is intact", args.file.display()));
    }
    Ok(exit)
}

/// A trace that is still being written is fine as long as what is there is.
fn exit(intact: bool, state: State) -> Exit {
    if intact && state != State::Torn { Exit::Done } else { Exit::BadTrace }
}
