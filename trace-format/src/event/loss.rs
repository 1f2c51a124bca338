//! What the trace does not have one by one: events that were lost, calls that were counted.

use super::{Class, ObjectId, SyscallFlags, Sysno, TaskId};
use serde::{Deserialize, Serialize};

/// Events that were seen and are not in the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// End of the interval.
    pub t_ns: u64,
    /// Start of the interval.
    pub from_ns: u64,
    /// CPU on which they were lost; `u32::MAX` when not tied to one.
    pub cpu: u32,
    /// Class of the lost events.
    pub class: Class,
    /// Why.
    pub cause: LossCause,
    /// How many.
    pub count: u64,
}

/// Why events were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
#[non_exhaustive]
pub enum LossCause {
    /// The ring between kernel and user space was full.
    RingFull = 1,
    /// A kernel map was full.
    MapFull = 2,
    /// The trace could not be written.
    WriteFailed = 3,
    /// The kernel skipped the program (recursion).
    Skipped = 4,
    /// A record could not be decoded.
    Malformed = 5,
    /// Calls were to be counted rather than recorded, and the table of counts was full.
    AggregateFull = 6,
}

impl LossCause {
    /// Its name, as JSON output has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::MapFull => "map_full",
            Self::WriteFailed => "write_failed",
            Self::Skipped => "skipped",
            Self::Malformed => "malformed",
            Self::AggregateFull => "aggregate_full",
        }
    }
}

/// System calls that were counted instead of recorded one by one, because the recorder could not keep up: those of one
/// task to one descriptor, of one number and outcome, that ended on one CPU in an interval of 100 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// End of the interval.
    pub t_ns: u64,
    /// Start of the interval.
    pub from_ns: u64,
    /// CPU on which they ended.
    pub cpu: u32,
    /// Who called.
    pub task: TaskId,
    /// Which call.
    pub sysno: Sysno,
    /// How they were observed.
    pub flags: SyscallFlags,
    /// The first descriptor argument.
    pub fd: Option<i32>,
    /// The object behind it.
    pub object: Option<ObjectId>,
    /// The error that they failed with; 0: they succeeded.
    pub errno: u32,
    /// How many.
    pub count: u64,
    /// Sum of their durations.
    pub duration_ns: u64,
    /// How many of them took from 2^*i* to 2^(*i* + 1) ns (the first: below 2); what is not there is 0.
    pub histogram: Vec<u64>,
}

/// How much the recorder writes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FidelityLevel {
    /// Everything.
    Full = 0,
    /// Every call, without what its pointers point to. Such calls have [`SyscallFlags::TRUNCATED`].
    NoArguments = 1,
    /// Calls are counted: see [`Aggregate`].
    Aggregated = 2,
}

impl FidelityLevel {
    /// Its name, as JSON output has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::NoArguments => "no_arguments",
            Self::Aggregated => "aggregated",
        }
    }
}

/// From now on the recorder writes more, or less, of the calls that end on a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fidelity {
    /// When.
    pub t_ns: u64,
    /// On which CPU.
    pub cpu: u32,
    /// Until then.
    pub from: FidelityLevel,
    /// From then on.
    pub to: FidelityLevel,
}
