//! A replay's figures while it goes on, for who cannot record it: added up from the kernel's, and what init tells.

use super::guard::{Before, Sum};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Looks at a replay that runs.
#[derive(Debug, Clone)]
pub struct Figures {
    launcher: i32,
    before: Before,
    memory_limit: u64,
    /// How often init told that tasks went on.
    alive: Arc<AtomicU64>,
    /// The process that presses it has died.
    unpressed: Arc<AtomicBool>,
}

/// The figures at a moment. Those of its peers are among them: outside, nobody tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Memory that it holds, as its limit counts it.
    pub memory_bytes: u64,
    /// The limit.
    pub memory_limit_bytes: u64,
    /// Processes and threads.
    pub tasks: u64,
    /// CPU time that it has used, ended processes included.
    pub cpu_ns: u64,
}

impl Figures {
    pub(super) fn new(launcher: i32, before: Before, memory_limit: u64) -> Self {
        Self { launcher, before, memory_limit, alive: Arc::default(), unpressed: Arc::default() }
    }

    /// Looks.
    pub fn look(&self) -> Look {
        let sum = Sum::of(self.launcher);
        Look {
            memory_bytes: sum.private_bytes.saturating_add(self.before.shared_since()),
            memory_limit_bytes: self.memory_limit,
            tasks: sum.tasks.saturating_sub(1),
            cpu_ns: sum.cpu_ns,
        }
    }

    /// How often it was told so far that calls were made ([`super::RunOptions::signs_of_life`]).
    pub fn signs_of_life(&self) -> u64 {
        self.alive.load(Relaxed)
    }

    /// Whether what presses it has died.
    pub fn is_unpressed(&self) -> bool {
        self.unpressed.load(Relaxed)
    }

    pub(super) fn note_unpressed(&self) {
        self.unpressed.store(true, Relaxed);
    }

    pub(super) fn note_life(&self) {
        self.alive.fetch_add(1, Relaxed);
    }
}
