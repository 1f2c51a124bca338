//! Where a replay runs: namespaces, a private root, a private network, a system call filter. Everything here lives in
//! namespaces that die with their last process, so there is nothing to undo.
//!
//! The functions of this module run in forked children of ctrace (single-threaded, before any program is executed); they
//! return errors that say what the host must allow.

pub(crate) mod confine;
pub(crate) mod lend;
pub(crate) mod namespaces;
pub(crate) mod net;
pub(crate) mod root;

use std::io;

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// A namespace could not be made.
    #[error("{what} is not possible here: {fix}")]
    Isolation {
        /// What was tried.
        what: &'static str,
        /// What to allow.
        fix: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Something inside the sandbox could not be built.
    #[error("{what}: {subject}")]
    Build {
        /// What was tried.
        what: &'static str,
        /// On what.
        subject: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The trace asks for more than the limits allow.
    #[error("the trace asks for {value} {what}; the limit is {max} (--max-{option})")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        value: u64,
        /// The limit.
        max: u64,
        /// The option that raises it.
        option: &'static str,
    },
}

impl SandboxError {
    pub(crate) fn build(
        what: &'static str,
        subject: impl Into<String>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Build { what, subject: subject.into(), source: source.into() }
    }
}

/// Bounds on what a replay may take, whatever its trace says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads at a time.
    pub tasks: u64,
    /// Files, directories and links of the private root.
    pub files: u64,
    /// Bytes that the files of the private root may occupy (holes do not count).
    pub disk_bytes: u64,
    /// Largest file size.
    pub file_bytes: u64,
    /// Addresses on the private loopback.
    pub addresses: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tasks: 8192, files: 400_000, disk_bytes: 4 << 30, file_bytes: 1 << 40, addresses: 4096 }
    }
}
