//! The outcome of a replay, as its init and its guard report it.

use super::guard::Hit;
use super::pressed::Pressed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ended {
    /// Every task came to its end.
    Completed,
    /// Tasks had not come to their end long after the recording was over; see `stuck`.
    Stalled,
    /// It took longer than allowed.
    TimedOut,
    /// It was told to stop.
    Aborted,
    /// It would have taken more than a limit allows; see `hits`.
    OverLimit,
}

/// Totals over tasks; see `ctrace_program::control::Counters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Recorded calls that were really made.
    pub done: u64,
    /// Calls among those whose errno was emulated.
    pub emulated: u64,
    /// Calls that an injected fault answered.
    pub injected: u64,
    /// Calls that an injected fault delayed, cut short, or sent a signal with.
    pub delayed: u64,
    /// Recorded calls not made, by policy.
    pub refused: u64,
    /// Recorded calls that something else stood for.
    pub surrogate: u64,
    /// Recorded calls that could not be rebuilt.
    pub missing: u64,
    /// Results that differ from the recording.
    pub diverged: u64,
    /// Engine-marked calls.
    pub engine_calls: u64,
    /// Time in engine-marked calls and waits, ns.
    pub wait_ns: u64,
    /// Time spent computing, ns.
    pub spin_ns: u64,
    /// Unmarked calls that the recording does not have.
    pub extra: u64,
    /// Time by which steps began later than meant, ns.
    pub late_ns: u64,
}

/// One difference between a result and the recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// Task index.
    pub task: u32,
    /// Its name and recorded id.
    pub task_name: String,
    /// Step index.
    pub step: u32,
    /// The compiler's ordinal of the recorded event.
    pub event: u32,
    /// System call number.
    pub nr: u32,
    /// Why it is here.
    pub cause: String,
    /// The recorded result.
    pub expected: i64,
    /// The result of the replay.
    pub got: i64,
    /// When, ns since the gate opened.
    pub t_ns: u64,
    /// The step in words.
    pub what: String,
}

/// The outcome of a replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// From the opening of the gate to the last completed step of a recorded task, ns.
    pub makespan_ns: u64,
    /// Totals over the recorded tasks.
    pub counters: Counters,
    /// Totals over the peers.
    pub peers: Counters,
    /// The first divergences, oldest first.
    pub divergences: Vec<Divergence>,
    /// Tasks that were stuck at the end, in words.
    pub stuck: Vec<String>,
    /// Tasks that reached the end of their steps (or the call they were in when the recording ended).
    pub tasks_finished: u32,
    /// Tasks of the recording.
    pub tasks: u32,
    /// Wait status of the root task's process, if it ended by itself.
    pub root_status: Option<i32>,
    /// Things of the environment that could not be built.
    pub problems: Vec<String>,
    /// Remains on the host; empty unless something is wrong.
    pub leftovers: Vec<String>,
    /// Limits that it ran into.
    pub hits: Vec<Hit>,
    /// Ends that were forced, by kind: `wait` (for another task), `signal`, `readiness` (of a descriptor, or of futex
    /// waiters), `stop` (a stopped task), or the name of the call that was interrupted.
    pub forced: BTreeMap<String, u64>,
    /// The first of them, in words.
    pub forced_ends: Vec<String>,
    /// The time that the machine lacked, ns: for so long, tasks that were behind worked, or wanted a CPU or a device.
    pub starved_ns: u64,
    /// The same up to moments of the replay, between which it grew evenly: ns since the gate opened, and the time lacked by
    /// then.
    pub starved: Vec<(u64, u64)>,
    /// How it was pressed.
    pub pressed: Pressed,
}

impl Outcome {
    /// The outcome of a replay whose init could not report any more.
    pub(super) fn unreported(ended: Ended) -> Self {
        Self {
            ended,
            makespan_ns: 0,
            counters: Counters::default(),
            peers: Counters::default(),
            divergences: Vec::new(),
            stuck: Vec::new(),
            tasks_finished: 0,
            tasks: 0,
            root_status: None,
            problems: Vec::new(),
            leftovers: Vec::new(),
            hits: Vec::new(),
            forced: BTreeMap::new(),
            forced_ends: Vec::new(),
            starved_ns: 0,
            starved: Vec::new(),
            pressed: Pressed::default(),
        }
    }
}
