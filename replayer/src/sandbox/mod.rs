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

use crate::plan::environment::{Environment, FileKind, FileSpec};
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
    #[error("the trace asks for {value} {what}; the limit is {max}")]
    Limit {
        /// Of what; `--max-WHAT` raises it.
        what: &'static str,
        /// How many.
        value: u64,
        /// The limit.
        max: u64,
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

impl Limits {
    /// Checks what a trace asks for before anything is made.
    ///
    /// # Errors
    /// When it is more than the limits.
    pub(crate) fn check(&self, environment: &Environment) -> Result<(), SandboxError> {
        let inside = |file: &FileSpec| match &file.kind {
            FileKind::Directory { entries } => u64::from(*entries),
            _ => 0,
        };
        let files = environment.files.iter().fold(environment.executables.len() as u64, |sum, file| {
            sum.saturating_add(1).saturating_add(inside(file))
        });
        let addresses = environment.addresses.len() as u64;
        for (what, value, max) in [("files", files, self.files), ("addresses", addresses, self.addresses)] {
            if value > max {
                return Err(SandboxError::Limit { what, value, max });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_limits_is_refused_by_name() {
        let address = std::net::IpAddr::from([10, 0, 0, 7]);
        let environment = Environment { addresses: vec![address; 3], ..Environment::default() };
        let limits = Limits { addresses: 3, ..Limits::default() };
        assert!(limits.check(&environment).is_ok());
        let limits = Limits { addresses: 2, ..Limits::default() };
        let refused = limits.check(&environment);
        assert!(
            matches!(refused, Err(SandboxError::Limit { what: "addresses", value: 3, max: 2 })),
            "{refused:?}"
        );
    }
}
