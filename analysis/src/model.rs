//! The model: what a trace says happened, compactly and independent of the run.
//!
//! Built in one pass over the events. Holds packed sequences of symbols (a few bytes per operation), never the decoded
//! events.

use crate::build::{Builder, Lookup};
use crate::busy::Busy;
use crate::conn::Conn;
use crate::costs::Cost;
use crate::edits::Edits;
use crate::names::{NameId, Names};
use crate::order::Edges;
use crate::seq::Seq;
use crate::symbol::{OpClass, Symbol};
use ctrace_format::{Class, Lack, LossCause, Metric, Policy, ReadError, Trace};
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a model could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// No event of the trace could be read.
    #[error("the trace cannot be read: {source}; `ctrace verify` tells what is damaged")]
    Unreadable {
        /// The first error.
        source: ReadError,
    },
}

/// The fact in the header of a replay's recording that says what was replayed.
pub const REPLAY_OF: &str = "replay_of";
/// Fact of a recording of a replay: the plan of the faults that were put on top of what it replays.
pub const FAULTS: &str = "faults";

/// Width of a bin of a resource series, ns.
pub const BIN_NS: u64 = 100_000_000;

/// A thread.
#[derive(Debug, Clone)]
pub struct Thread {
    /// Its id in the recording.
    pub tid: u32,
    /// The process, an index into the model's processes.
    pub process: usize,
    /// Its last name.
    pub comm: String,
    /// Its role: see [`Process::role`].
    pub role: String,
    /// Number among the threads of the process that share its name, from 1, in order of start.
    pub ordinal: u32,
    /// Start of its first call.
    pub first_ns: u64,
    /// End of its last call.
    pub last_ns: u64,
    /// Calls it made, noise included.
    pub calls: u64,
    pub(crate) seq: Seq,
}

/// A process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id in the recording.
    pub tgid: u32,
    /// Its parent, an index into the model's processes.
    pub parent: Option<usize>,
    /// The last program it executed.
    pub exe: Arc<str>,
    /// Its arguments, redacted, as far as they are known.
    pub argv: Arc<[String]>,
    /// The last name of its leader.
    pub comm: String,
    /// Its role: the names of its ancestors and its own, with an ordinal among siblings of one name when it is not the
    /// first: `sh/git/git-remote#2`. The same in other runs of the same program.
    pub role: String,
    /// Number among the siblings that share its name, from 1, in order of start.
    pub ordinal: u32,
    /// When it began; 0 when it was there before.
    pub start_ns: u64,
    /// When it ended, and how (as wait(2) tells it).
    pub exit: Option<(u64, u32)>,
    /// Its threads, indices into the model's threads, leader first when it is known.
    pub threads: Vec<usize>,
    /// Descriptors open when it was first seen.
    pub start_fds: usize,
    /// Most descriptors open at one time, as far as known.
    pub max_fds: usize,
    /// Descriptors open when it ended, or when the recording did.
    pub end_fds: usize,
    /// The same without connections of clients that were still there, and what they were.
    pub(crate) held: Held,
    /// Calls by name and errno (0: none), noise included.
    pub(crate) counts: FxHashMap<(NameId, u16), u64>,
}

/// Descriptors that a process holds open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    pub(crate) count: u64,
    /// Their kinds, the most frequent first; empty for a process that holds few.
    pub(crate) kinds: Vec<HeldKind>,
}

/// Descriptors of one kind.
#[derive(Debug, Clone)]
pub(crate) struct HeldKind {
    /// The name that they share with those of another run.
    pub(crate) name: String,
    /// Their name in this run.
    pub(crate) shown: String,
    pub(crate) count: u64,
}

/// A call that had not returned when the recording ended.
#[derive(Debug, Clone)]
pub struct Hung {
    /// The thread, an index into the model's threads.
    pub thread: usize,
    /// The call.
    pub call: NameId,
    /// What it worked on.
    pub object: NameId,
    /// When it began.
    pub t_ns: u64,
    /// How long it had been in the kernel.
    pub duration_ns: u64,
}

/// What became of one kind of operation over time.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutcomeStat {
    pub(crate) count: u64,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    pub(crate) total_ns: u64,
    pub(crate) max_ns: u64,
    pub(crate) max_at_ns: u64,
    /// Bytes moved in all.
    pub(crate) bytes: u64,
    /// First process that did it.
    pub(crate) process: usize,
    /// How many of them a seccomp filter answered.
    pub(crate) filtered: u64,
    /// How many of those were answered by the sandbox of a replay.
    pub(crate) emulated: u64,
    /// Counts by bin of [`BIN_NS`], for failures.
    pub(crate) bins: Vec<(u32, u32)>,
}

/// Events that were seen and are missing.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct Missing {
    /// Lost, by class.
    pub by_class: BTreeMap<Class, u64>,
    /// Lost, by cause.
    #[serde(skip)]
    pub by_cause: BTreeMap<LossCause, u64>,
    /// Lost in all.
    pub lost: u64,
    /// Calls that were counted instead of recorded: they are known by number, not one by one.
    pub aggregated: u64,
    /// Calls that were recorded without what their pointers point to, because the recorder could not keep up.
    pub unread: u64,
    /// Parts of the file that could not be read.
    pub damaged: u64,
    /// The things that an imported trace lacks as a whole.
    #[serde(skip)]
    pub lacks: Vec<Lack>,
}

/// Where a recording comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Name, kernel and CPUs of the machine; empty: nobody knows.
    pub(crate) machine: String,
    /// What was masked.
    pub(crate) policy: Policy,
    /// It is the recording of a replay.
    pub(crate) replay: bool,
}

impl Origin {
    pub(crate) fn of(trace: &Trace) -> Self {
        let header = trace.header();
        let host = &header.host;
        Self {
            machine: if host.cpus == 0 {
                String::new()
            } else {
                format!("{} (Linux {}, {} CPUs)", host.hostname, host.kernel, host.cpus)
            },
            policy: Policy::of_header(&header.redaction),
            replay: host.facts.contains_key(REPLAY_OF),
        }
    }
}

/// A resource counter on bins of [`BIN_NS`].
#[derive(Debug, Clone)]
pub struct Series {
    /// Which counter.
    pub metric: Metric,
    /// Per bin: the growth of a cumulative counter, the last value of any other. Missing samples repeat or share.
    pub bins: Vec<f64>,
}

/// What a trace means. See the module.
#[derive(Debug)]
pub struct Model {
    /// All names.
    pub names: Names,
    /// All threads.
    pub threads: Vec<Thread>,
    /// All processes.
    pub processes: Vec<Process>,
    /// All streams.
    pub conns: Vec<Conn>,
    /// Calls that had not returned at the end.
    pub hung: Vec<Hung>,
    /// Resources of the scope.
    pub series: Vec<Series>,
    /// CPU time of its tasks, and of processes that count as its.
    pub busy: Busy,
    /// What is missing.
    pub missing: Missing,
    /// Calls in the trace, without the replay engine's own.
    pub calls: u64,
    /// Calls of the replay engine.
    pub engine_calls: u64,
    /// Calls that a seccomp filter answered, those of a replay's sandbox among them.
    pub filtered_calls: u64,
    /// Calls that the sandbox of a replay answered as recorded: they count like any other.
    pub emulated_calls: u64,
    /// Calls that are counted and not compared one by one.
    pub noise_calls: u64,
    /// Time of the first compared operation.
    pub first_ns: u64,
    /// End of the last call or life event.
    pub last_ns: u64,
    /// Length of the recording.
    pub duration_ns: u64,
    /// Whether the end of the recording cut off what was going on: processes were still alive.
    pub cut: bool,
    pub(crate) symbols: Vec<Symbol>,
    pub(crate) stats: Vec<OutcomeStat>,
    pub(crate) call_class: FxHashMap<NameId, OpClass>,
    pub(crate) edges: Edges,
    /// What the time went on, by role.
    pub(crate) costs: Vec<Cost>,
    /// Names that were asked for, and how often.
    pub(crate) lookups: Vec<(Lookup, u64)>,
    /// Processes that were killed for lack of memory.
    pub(crate) oom_kills: Vec<usize>,
    pub(crate) origin: Origin,
    /// Resolution of the recording's times.
    pub(crate) tick_ns: u64,
}

impl Model {
    /// Reads a trace.
    ///
    /// # Errors
    /// When nothing of it can be read. Damaged parts are counted in [`Model::missing`].
    pub fn build(trace: &Trace) -> Result<Self, ModelError> {
        Self::edited(trace, &Edits::default())
    }

    /// Reads a trace as it would have been with faults.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn edited(trace: &Trace, edits: &Edits) -> Result<Self, ModelError> {
        let mut builder = Builder::new(trace);
        let mut read = false;
        let mut damaged = 0;
        let mut first_error = None;
        let mut ordinal = 0;
        for event in trace.events(&ctrace_format::Filter::default()) {
            match event {
                Ok(event) => {
                    read = true;
                    edits.apply(ordinal, &event).for_each(|event| builder.event(&event));
                    ordinal += 1;
                }
                // Nothing of it is worth a conclusion.
                Err(source @ ReadError::TooDense { .. }) => return Err(ModelError::Unreadable { source }),
                Err(error) => {
                    damaged += 1;
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(source) if !read => Err(ModelError::Unreadable { source }),
            _ => Ok(builder.finish(damaged.max(trace.damage().len() as u64))),
        }
    }

    /// Time from the first compared operation to the end of the last call.
    pub fn makespan_ns(&self) -> u64 {
        self.last_ns.saturating_sub(self.first_ns)
    }

    /// The name of something.
    pub fn name(&self, id: NameId) -> &str {
        self.names.exact(id)
    }
}
