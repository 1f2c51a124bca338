//! From a trace to a plan: pure, streaming, bounded.
//!
//! Three passes over the events in order of completion. The first finds what was there before the recording began, the
//! second deduces the file system, the futex wakes and who is inside (both in [`facts`]); the third ([`lower`]) writes one program per
//! task with the waits between them, and the peers' programs. Memory grows with tasks, paths and open connections, not
//! with events: steps go to a file as they are made.
//!
//! Order is kept by waits that follow the recorded order of time: a step waits for one that began before it ended. Accepts
//! have an order of their own, which calls that were under way at the same time agree with ([`arrivals`]). The finished
//! program is checked for waits that can never hold ([`emit`]).

mod arrivals;
mod budget;
mod calls;
mod connects;
mod datagrams;
mod emit;
mod environment;
mod facts;
mod firsts;
mod fsmodel;
mod futexes;
mod io;
mod links;
mod lower;
mod memory;
mod model;
mod netlink;
mod order;
mod overlaps;
mod paths;
mod peers;
mod pools;
mod refusals;
mod restarts;
mod setup;
mod source;
mod steps;
mod terminals;
mod told;
mod tracing;
mod volumes;
mod wire;
mod world;

#[cfg(test)]
mod tests;

pub use emit::{Cut, EdgeKind};
pub(crate) use source::Source;

use crate::plan::{CompileOptions, Plan};
use ctrace_format::{ReadError, Trace};
use ctrace_program::{BuildError, DecodeError};
use std::path::PathBuf;

/// Why a trace could not be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The trace could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The program could not be built.
    #[error("cannot build the replay program")]
    Build(#[source] BuildError),
    /// The program has become larger than a recording of that length needs.
    #[error(
        "the replay program has {bytes} bytes so far, and may have {max}; \
        --max-program SIZE lets it have more"
    )]
    TooLarge {
        /// The bytes that it would have so far.
        bytes: u64,
        /// The most that it may have.
        max: u64,
    },
    /// The program has become larger than the disk can bear.
    #[error("the replay program needs more than {max} bytes, half of what is free in {}; free some space, or point \
        TMPDIR elsewhere", dir.display())]
    NoRoom {
        /// Where it was.
        dir: PathBuf,
        /// The most that it may have.
        max: u64,
    },
    /// The program cannot be written.
    #[error("cannot write the replay program to {}; make room for it there, or point TMPDIR to a directory where there is", dir.display())]
    Spool {
        /// Where it was to be.
        dir: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The trace has more of something than a replay can have.
    #[error(
        "the trace has more than {limit} {what}, the most that a replay of a recording of its length can have; \
        replay a shorter recording"
    )]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most there can be.
        limit: usize,
    },
    /// The program cannot be read back.
    #[error("cannot read the replay program back")]
    Sealed(#[source] DecodeError),
    /// Nothing to do.
    #[error("the trace has no system calls to replay")]
    Empty,
}

impl From<BuildError> for CompileError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::TooLarge { bytes, max } => Self::TooLarge { bytes, max },
            BuildError::Limit { what, max, .. } => {
                Self::TooMany { what, limit: usize::try_from(max).unwrap_or(usize::MAX) }
            }
            other => Self::Build(other),
        }
    }
}

impl CompileError {
    /// Whether the cause is the disk rather than the trace.
    pub fn is_of_disk(&self) -> bool {
        matches!(self, Self::Spool { .. } | Self::NoRoom { .. })
    }
}

impl Plan {
    /// Compiles a trace.
    ///
    /// # Errors
    /// When it cannot be read, has nothing to replay, or exceeds a limit.
    pub fn compile(trace: &Trace, options: &CompileOptions) -> Result<Self, CompileError> {
        compile(trace, options)
    }
}

/// Compiles any source.
pub(crate) fn compile(source: &dyn Source, options: &CompileOptions) -> Result<Plan, CompileError> {
    let edited;
    let source: &dyn Source = match &options.edits {
        Some(edits) => {
            edited = source::Edited::new(source, edits)?;
            &edited
        }
        None => source,
    };
    let source = restarts::Rejoined::new(source::Completed::new(source));
    let facts = facts::gather(&source)?;
    lower::write(&source, facts, options).map_err(|error| match error {
        CompileError::Build(BuildError::Io { source, .. }) => {
            CompileError::Spool { dir: options.spool(), source }
        }
        other => other,
    })
}
