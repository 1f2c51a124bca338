//! What a replay will do, as data.

pub mod environment;
pub mod need;

use crate::pressure::Pressure;
use ctrace_analysis::edits::Edits;
use environment::{Environment, PeerProcess};
use need::Need;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

pub use crate::compile::{Cut, EdgeKind};

/// How to compile.
#[derive(Debug, Clone, Default)]
pub struct CompileOptions {
    /// Where the program is written; `None`: the directory for temporary files. It is removed with the plan.
    pub spool: Option<PathBuf>,
    /// Most bytes of the program; `None`: 64 MiB and 256 for every byte of the trace. Never more than half of what is
    /// free in `spool`.
    pub max_program: Option<u64>,
    /// The differences from the recording: faults, and all that follows from them.
    pub edits: Option<Arc<Edits>>,
}

impl CompileOptions {
    /// The directory for the program.
    pub(crate) fn spool(&self) -> PathBuf {
        self.spool.clone().unwrap_or_else(std::env::temp_dir)
    }
}

/// A compiled trace: what each task does, what must be there before, who plays the others.
#[derive(Debug)]
pub struct Plan {
    /// The sealed program of all tasks, an unnamed file.
    pub program: File,
    /// The surroundings.
    pub environment: Environment,
    /// Processes outside the recorded tree.
    pub peers: Vec<PeerProcess>,
    /// What it takes.
    pub need: Need,
    /// How scarce things were.
    pub pressure: Pressure,
    /// What it amounts to.
    pub summary: PlanSummary,
}

/// A plan in figures, for people and for `--dry-run --json`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PlanSummary {
    /// The recorded tasks.
    pub tasks: Vec<TaskSummary>,
    /// Recorded calls that have a step, by name.
    pub calls: BTreeMap<String, u64>,
    /// Calls that are not made, by name: they could reach outside the sandbox, or are unknown.
    pub refused: BTreeMap<String, u64>,
    /// Calls that something else stands for, by name.
    pub surrogate: BTreeMap<String, u64>,
    /// Calls whose error is emulated because its cause cannot be rebuilt, by name and errno.
    pub emulated: BTreeMap<String, u64>,
    /// Calls that an injected fault answers, by name and errno.
    pub injected: BTreeMap<String, u64>,
    /// Calls that are not made because of what a fault prevents, by name.
    pub prevented: BTreeMap<String, u64>,
    /// Calls that cannot be rebuilt, by name.
    pub missing: BTreeMap<String, u64>,
    /// Waits between tasks, by reason.
    pub edges: BTreeMap<EdgeKind, u64>,
    /// Waits that others imply, and that were dropped for that.
    pub edges_implied: u64,
    /// Waits that could never hold, and were taken back: a bug of the compiler, or a trace that contradicts itself.
    pub cut: Vec<Cut>,
    /// Files, directories, links that are made before.
    pub files: u64,
    /// Connections of the workload to peers.
    pub peers_served: u64,
    /// Connections of peers to the workload.
    pub peers_clients: u64,
    /// Datagram exchanges with peers.
    pub peers_datagram: u64,
    /// Tasks that play peers.
    pub peer_tasks: u64,
    /// Steps in all, peers included.
    pub steps: u64,
    /// Length of the recording, ns.
    pub recorded_ns: u64,
    /// What the plan knows to be different, for people.
    pub notes: Vec<String>,
}

/// One recorded task.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TaskSummary {
    /// Its name.
    pub name: String,
    /// Recorded thread id.
    pub tid: u32,
    /// Recorded process id.
    pub tgid: u32,
    /// Number of its steps.
    pub steps: u32,
}
