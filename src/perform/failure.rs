//! Replays that did not take place: exit code and fix.

use crate::exit::{Exit, Failure};
use ctrace_replayer::{CompileError, ReplayError, SandboxError, Source, TooMuch};
use std::path::Path;

/// The failure of a trace that cannot be compiled. `bounded`: whether the command line says how large the program may be.
pub(super) fn of_compile(error: CompileError, path: &Path, bounded: bool) -> Failure {
    let exit = match error {
        CompileError::TooLarge { .. } if bounded => Exit::Usage,
        _ if error.is_of_disk() => Exit::Output,
        _ => Exit::BadTrace,
    };
    Failure::new(exit, anyhow::Error::new(error).context(format!("{} cannot be replayed", path.display())))
}

/// The failure of a replay that did not run.
pub(super) fn of_replay(error: ReplayError) -> Failure {
    let error = match error {
        ReplayError::Sandbox(SandboxError::Limit(too_much)) => return refusal(too_much),
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

/// The failure of a trace that needs more than it may have.
pub(crate) fn refusal(error: TooMuch) -> Failure {
    let allow = format!("allow it: {}", error.resource.flag(error.need));
    if error.is_dishonest() {
        return Failure::new(Exit::BadTrace, error).fix(
            "do not trust this trace; `ctrace info` and `ctrace events` read it without running anything",
        );
    }
    let (exit, fix) = match error.limit.source {
        Source::Host => (Exit::Host, format!("replay it where more is free, or {allow}")),
        Source::Free => (Exit::Host, "replay it where more is free".to_owned()),
        Source::Own => (Exit::Host, format!("raise the hard limit first: `ulimit -Hn {}`", error.need)),
        _ => (Exit::Usage, allow),
    };
    Failure::new(exit, error).fix(fix)
}
