//! Why a recording cannot start or finish.

use ctrace_format::WriteError;
use std::io;
use std::path::PathBuf;

/// What went wrong. The command maps variants to exit codes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The caller may not load eBPF programs.
    #[error("{what}: permission denied; recording needs {needs}")]
    NoPrivilege {
        /// What was refused.
        what: String,
        /// The capabilities that were missing.
        needs: &'static str,
    },
    /// It is somebody else's, and the capabilities are the program's, not the caller's.
    #[error("{target} is not yours to record: {why}")]
    NotYours {
        /// `process 123`.
        target: String,
        /// What makes it so.
        why: String,
    },
    /// There is no such process or cgroup.
    #[error("no such {target}{}", if hint.is_empty() { String::new() } else { format!(": {hint}") })]
    TargetNotFound {
        /// `process 123` or `cgroup /x`.
        target: String,
        /// What was looked at.
        hint: String,
    },
    /// The name fits several.
    #[error("{target} is ambiguous; it may be {}", candidates.join(", "))]
    TargetAmbiguous {
        /// `pod checkout`.
        target: String,
        /// What it may be.
        candidates: Vec<String>,
    },
    /// No container runtime answers, so that names of pods mean nothing here.
    #[error("{target}: {}", no_runtime(failures))]
    NoRuntime {
        /// `pod checkout`.
        target: String,
        /// Why those that were tried do not answer; empty: there is none.
        failures: Vec<String>,
    },
    /// It was there and ended before the recording began.
    #[error("{target} ended before recording began")]
    TargetExited {
        /// `process 123`.
        target: String,
    },
    /// The kernel cannot do what recording needs.
    #[error("this kernel lacks {what}; {fix}")]
    KernelLacks {
        /// What.
        what: String,
        /// What would help.
        fix: String,
    },
    /// The trace could not be written. What was written before is a readable recording.
    #[error("writing the trace: {source}")]
    Write {
        /// Why.
        #[source]
        source: WriteError,
        /// The file that holds what was recorded until then.
        partial: PathBuf,
        /// Whether anything was recorded: not when the file could not be begun.
        begun: bool,
    },
    /// The disk does not answer: the recording ended without it. What was written before is a readable recording.
    #[error(
        "the disk does not answer: {unwritten} of {seen} events were not written to {}",
        partial.display()
    )]
    DiskHangs {
        /// Events that are not in the file, as far as it is known.
        unwritten: u64,
        /// Events that were seen.
        seen: u64,
        /// The file that holds what was recorded until then, if it could be begun.
        partial: PathBuf,
    },
    /// A thread of the recorder does not come to its end.
    #[error("the recorder's {thread} thread hangs; what was written before is readable")]
    Hangs {
        /// Which.
        thread: &'static str,
    },
    /// A command could not be started.
    #[error("cannot start {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A system call of the recorder itself failed.
    #[error("{action}: {source}")]
    System {
        /// What was attempted.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A thread of the recorder died.
    #[error("the recorder's {thread} thread panicked; what was written before is readable")]
    Panicked {
        /// Which.
        thread: &'static str,
    },
}

fn no_runtime(failures: &[String]) -> String {
    if failures.is_empty() {
        "no container runtime's socket was found, and only a runtime knows names of pods".to_owned()
    } else {
        format!(
            "no container runtime answers, and only a runtime knows names of pods ({})",
            failures.join("; ")
        )
    }
}

impl RecordError {
    /// For `map_err`: says what was attempted.
    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}
