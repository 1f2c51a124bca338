//! Where a replay runs: namespaces, a private root, a private network, a system call filter. Everything here lives in
//! namespaces that die with their last process, so there is nothing to undo.
//!
//! The functions of this module run in forked children of ctrace (single-threaded, before any program is executed); they
//! return errors that say what the host must allow.

pub(crate) mod bounds;
pub(crate) mod carrier;
pub(crate) mod cgroup;
pub(crate) mod confine;
pub(crate) mod devices;
pub(crate) mod disk;
pub(crate) mod host;
pub(crate) mod landlock;
pub(crate) mod limits;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod net;
pub(crate) mod resource;
pub(crate) mod root;

use limits::TooMuch;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::RawFd;

/// Layers of the sandbox that not every host lets be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Layers {
    /// The device nodes are the sandbox's own. Otherwise they are the host's, read-only.
    pub own_devices: bool,
    /// The keyring of the session that ctrace was started in was left. Calls that use keys are refused in any case.
    pub own_keyring: bool,
    /// The kernel's version of Landlock, which is in force.
    pub landlock: Option<i64>,
}

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
    #[error(transparent)]
    Limit(#[from] TooMuch),
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

/// Closes all descriptors of this process but some.
pub(crate) fn close_all_but(keep: &[RawFd]) {
    let mut sorted: Vec<RawFd> = keep.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut from = 0;
    for fd in sorted {
        if fd > from {
            // SAFETY: closes descriptors that nothing in this process uses any more.
            unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) };
        }
        from = fd + 1;
    }
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, from, u32::MAX, 0) };
}
