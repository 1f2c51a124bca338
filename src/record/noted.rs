//! What happens in the course of a recording: triggers that fire, dumps that are written or not.

use crate::output::Output;
use crate::units;
use ctrace_format::DumpReason;
use ctrace_recorder::{Dumped, Note, Noticed};

/// Firings that the summary lists; the file has them all.
const MOST: usize = 1000;

/// What happened so far.
#[derive(Default)]
pub(super) struct Noted {
    pub(super) fired: Vec<Noticed>,
    pub(super) dumps: Vec<Dumped>,
    pub(super) failed_dumps: u64,
}

impl Noted {
    /// Says what happened, and remembers it.
    pub(super) fn take(&mut self, note: &Note, out: &mut Output) {
        match note {
            Note::Noticed(noticed) => {
                out.say(&format!("+{}: trigger {}", units::duration(noticed.t_ns), noticed.text));
                if self.fired.len() < MOST {
                    self.fired.push(noticed.clone());
                }
            }
            Note::Dumped(dump) => {
                out.say(&dumped_text(dump));
                self.dumps.push(dump.clone());
            }
            Note::DumpFailed(error) => {
                self.failed_dumps += 1;
                out.warn(&format!("a dump could not be written: {error}; recording goes on"));
            }
            _ => {}
        }
    }
}

fn dumped_text(dump: &Dumped) -> String {
    let why = match &dump.reason {
        DumpReason::Trigger { .. } => "a trigger fired",
        DumpReason::Signal => "SIGUSR1",
        DumpReason::Mark { .. } => "ctrace mark",
        DumpReason::End => "the end",
    };
    let lost = if dump.lost > 0 { format!(", {} lost", units::count(dump.lost)) } else { String::new() };
    format!(
        "dumped to {}: {} in {}{lost}, {} ({why})",
        dump.file.path.display(),
        units::plural(dump.calls, "call"),
        units::duration((dump.to_ns - dump.from_ns) / 1_000_000 * 1_000_000),
        units::bytes(dump.file.bytes),
    )
}
