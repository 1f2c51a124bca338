//! Exit codes, and failures that know theirs.

use crate::output::{Document, Shape};
use ctrace_format::{ReadError, WriteError};
use serde_json::json;
use std::fmt;
use std::io;

/// How a command ended, when nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or the verdict is `match`.
    Done,
    /// The verdict is `deviated`.
    Deviated,
    /// The command line makes no sense.
    Usage,
    /// The verdict is `inconclusive`.
    Inconclusive,
    /// This host lacks something.
    Host,
    /// The target was not found, or vanished before recording began.
    NoTarget,
    /// Recorded, with more loss than allowed.
    Loss,
    /// Recording ended before the disk had less room than is to be kept.
    Room,
    /// Recording ended before the trace was larger than it may be.
    Size,
    /// A replay was aborted: a condition of `--abort-on` held.
    Aborted,
    /// A trace that cannot be read.
    BadTrace,
    /// An output that cannot be written (`EX_IOERR`).
    Output,
    /// A bug of ctrace (`EX_SOFTWARE`).
    Internal,
    /// Ended by a signal, after everything was flushed.
    Signal(u8),
    /// The recorded command's own status.
    Command(u8),
}

impl Exit {
    /// The code of the process.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Deviated => 1,
            Self::Usage => 2,
            Self::Inconclusive => 3,
            Self::Host => 4,
            Self::NoTarget => 5,
            Self::Loss => 6,
            Self::Room => 7,
            Self::Size => 8,
            Self::Aborted => 9,
            Self::BadTrace => 65,
            Self::Internal => 70,
            Self::Output => 74,
            Self::Signal(number) => 128_u8.saturating_add(number),
            Self::Command(code) => code,
        }
    }
}

/// Why a command could not do its work: what failed and where (the error's chain), and what helps.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
    pub(crate) fix: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), fix: None }
    }

    /// A failure described by a sentence.
    pub(crate) fn say(exit: Exit, what: impl fmt::Display) -> Self {
        Self::new(exit, anyhow::anyhow!("{what}"))
    }

    /// With what helps.
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// The failure and its causes as one sentence.
    pub(crate) fn text(&self) -> String {
        let mut text = self.error.to_string();
        for cause in self.error.chain().skip(1) {
            let cause = cause.to_string();
            // Some libraries repeat the cause in their own sentence.
            if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        text
    }

    /// As JSON has it.
    pub(crate) fn json(&self) -> Document {
        let text = crate::decode::plain(self.text().as_bytes());
        Document::new(
            Shape::Error,
            json!({"type": "error", "error": text, "fix": self.fix, "exit": self.exit.code()}),
        )
    }

    /// Whether the reader of our output went away, which is how `| head` ends and no failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.error
            .chain()
            .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let fix = read_fix(&error);
        Self { exit: Exit::BadTrace, error: error.into(), fix }
    }
}

/// What helps against a trace that cannot be read.
fn read_fix(error: &ReadError) -> Option<String> {
    match error {
        ReadError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Some("check the name; a recording that still runs is called NAME.partial".to_owned())
        }
        ReadError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Some("traces are readable by their owner alone: use sudo, or have it copied to you".to_owned())
        }
        ReadError::Unfinished { path, partial, live: false } => {
            Some(format!("ctrace repair {} -o {} makes it whole", partial.display(), path.display()))
        }
        ReadError::NotAFile { path, what } if what.contains("FIFO") => {
            Some(format!("of a FIFO, read it as standard input: ctrace … - < {}", path.display()))
        }
        _ => None,
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::new(Exit::Output, error)
    }
}

/// Failures of our own output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Exit::Output, anyhow::Error::new(error).context("writing the output"))
    }
}
