//! News of a replay while it is performed, and their receiver.

use std::fmt;
use std::time::Duration;

/// The stage of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The trace is compiled.
    Compiling,
    /// The sandbox is built.
    Building,
    /// The replay runs: for so long already, and so long as was expected.
    Replaying { elapsed: Duration, expected: Duration },
    /// The replay is compared with the recording.
    Judging,
}

/// Something worth saying that fails nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// The recorder remarks something.
    Recorder(String),
    /// The replay cannot be recorded here.
    Unrecorded,
    /// Something of the recorded surroundings could not be built.
    Lacking(String),
    /// The workload is no longer pressed.
    Unpressed,
    /// A condition that is to end the replay cannot hold here, or what ended it could not be noted.
    Condition(String),
}

impl Note {
    /// Whether the result means less for it.
    pub(crate) const fn is_warning(&self) -> bool {
        !matches!(self, Self::Recorder(_))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recorder(remark) => write!(f, "note: {remark}"),
            Self::Unrecorded => f.write_str(
                "the replay cannot be recorded here (`ctrace doctor` says why); its own journal is judged instead",
            ),
            Self::Unpressed => f.write_str(super::UNPRESSED),
            Self::Lacking(problem) => write!(f, "the sandbox lacks something: {problem}"),
            Self::Condition(what) => write!(f, "--abort-on: {what}"),
        }
    }
}

/// Watches a replay that is performed, and may end it.
pub(crate) trait Observer {
    /// This is being done from now on; of a replay that runs, again and again.
    fn begins(&mut self, stage: Stage);

    /// Something worth saying.
    fn note(&mut self, note: &Note);

    /// Somebody who asks for the end, if one did.
    fn interrupt(&mut self) -> Option<Interrupt>;
}

/// A signal that asks for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupt {
    pub(crate) number: u8,
    /// When it came, `CLOCK_BOOTTIME`.
    pub(crate) at_ns: u64,
}
