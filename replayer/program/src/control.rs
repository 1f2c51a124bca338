//! The control region: what the tasks of a running replay share.
//!
//! One segment, mapped read-write at [`crate::CONTROL_BASE`] of every worker process:
//! header, task slots, value slots, futex slots, journal, stacks, pool, arenas; [`Layout`] says where. The segment is
//! sparse: only touched pages take memory.

use crate::sleepers::Sleepers;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

/// First word of the region.
pub const CONTROL_MAGIC: u64 = 0x314c_5254_4e4f_4343;
/// Entries of the divergence journal.
pub const JOURNAL_ENTRIES: u32 = 4096;
/// Bytes of a task's stack block, which is aligned to its size: the task is known from the stack pointer. The lower
/// quarter is the alternate signal stack.
pub const STACK_BYTES: u64 = 64 * 1024;
/// Bytes at the start of a task's arena that live as long as the task (`Sel::Keep`).
pub const KEEP_BYTES: u64 = 4096;
/// Bytes of the region for `Sel::StandIn`.
pub const STAND_IN_BYTES: u64 = 1 << 30;
/// Distance of two futex slots, bytes.
pub const FUTEX_STRIDE: u64 = 16;

/// How tasks pace themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Pace {
    /// Closed loop: previous end + think time.
    Resource = 0,
    /// As fast as possible: no think time.
    Afap = 1,
    /// Every step waits for its recorded time.
    Temporal = 2,
}

/// Start of the region.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct ControlHeader {
    /// [`CONTROL_MAGIC`].
    pub magic: u64,
    /// [`crate::LAYOUT_VERSION`].
    pub version: u32,
    /// Number of tasks.
    pub tasks: u32,
    /// Bytes of the region.
    pub len: u64,
    /// 0: held; 1: released. Futex word.
    pub gate: AtomicU32,
    /// Tasks that have reached the gate.
    pub at_gate: AtomicU32,
    /// Nonzero: tasks stop as soon as they look.
    pub abort: AtomicU32,
    /// A [`Pace`].
    pub pace: AtomicU32,
    /// Counter value at the release of the gate.
    pub epoch: AtomicU64,
    /// ns = (counter − epoch) × `mult` / 2^32; 0: the counter is not usable, use `CLOCK_MONOTONIC` (ns).
    pub mult: AtomicU64,
    /// Recorded ns × `scale` / 2^32 = replayed ns (1 / speed).
    pub scale: AtomicU64,
    /// How long the replay clock has been held back, ns: it is the time since the gate opened less this. Written by the
    /// runner's init only; never decreases.
    pub lag: AtomicU64,
    /// Nonzero: recorded tasks never run ahead of the recording.
    pub hold: AtomicU32,
    /// Share of a think time, in 1/1000, that may be dropped to catch up with lost time.
    pub catch_up_permille: AtomicU32,
    /// Entries ever written to the journal (it keeps the first [`JOURNAL_ENTRIES`]).
    pub journal: AtomicU32,
    /// Id of the System V segment, for images after an exec.
    pub shm_id: AtomicI32,
    /// Nonzero: the device nodes are the host's, which no step may lock or watch.
    pub host_devices: AtomicU32,
    /// Nonzero: CPU time is scarce now. Tasks compute first, as the recorded ones did, and wait for the rest of their time.
    /// Otherwise they compute last, so that they are in time. Written by the process that presses.
    pub scarce: AtomicU32,
    /// The CPU on which a task began to compute last while that was so.
    pub busy_cpu: AtomicU32,
    /// Writes that are held up.
    pub writes: Writes,
    /// Where the parts lie.
    pub layout: Layout,
}

/// How tasks have their writes held up while a recorded call waited for a disk.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Writes {
    /// Until when, ns on the replay clock; 0: nobody has asked. The earliest of those who ask counts for all.
    pub until: AtomicU64,
    /// Changes when somebody asks. Futex word.
    pub asked: AtomicU32,
    /// A value of [`writes`]. Futex word; written by the process that presses.
    pub state: AtomicU32,
}

/// Values of [`Writes::state`].
pub mod writes {
    /// Nobody holds them up.
    pub const UNSERVED: u32 = 0;
    /// They go through.
    pub const OPEN: u32 = 1;
    /// They are held up.
    pub const HELD: u32 = 2;
}

/// Offsets of the parts from the start of the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Layout {
    /// `[TaskSlot; tasks]`.
    pub slots: u64,
    /// `[AtomicU64; value_slots]`.
    pub values: u64,
    /// Futex words, [`FUTEX_STRIDE`] apart.
    pub futexes: u64,
    /// `[JournalEntry; JOURNAL_ENTRIES]`.
    pub journal: u64,
    /// Stack blocks; `CONTROL_BASE + stacks` is a multiple of [`STACK_BYTES`].
    pub stacks: u64,
    /// Shared scratch for large outputs.
    pub pool: u64,
    /// Task arenas, at `TaskEntry::arena_offset` each.
    pub arenas: u64,
    /// [`STAND_IN_BYTES`] for `Sel::StandIn`.
    pub stand_in: u64,
    /// Bytes in all.
    pub len: u64,
}

impl Layout {
    /// Where the parts lie for a program; `arenas_bytes` is the sum of all arenas.
    pub const fn new(
        tasks: u32,
        value_slots: u32,
        futex_slots: u32,
        pool_bytes: u64,
        arenas_bytes: u64,
    ) -> Self {
        const fn up(value: u64, to: u64) -> u64 {
            value.div_ceil(to) * to
        }
        let slots = up(size_of::<ControlHeader>() as u64, 4096);
        let values = up(slots + tasks as u64 * size_of::<TaskSlot>() as u64, 4096);
        let futexes = up(values + value_slots as u64 * 8, 4096);
        let journal = up(futexes + futex_slots as u64 * FUTEX_STRIDE, 4096);
        let stacks = up(journal + JOURNAL_ENTRIES as u64 * size_of::<JournalEntry>() as u64, STACK_BYTES);
        let pool = stacks + tasks as u64 * STACK_BYTES;
        let arenas = up(pool + pool_bytes, 4096);
        let stand_in = up(arenas + arenas_bytes, 4096);
        let len = stand_in + STAND_IN_BYTES;
        Self { slots, values, futexes, journal, stacks, pool, arenas, stand_in, len }
    }
}

/// States of a task.
pub mod status {
    /// Not created yet.
    pub const UNBORN: u32 = 0;
    /// Running its steps.
    pub const RUNNING: u32 = 1;
    /// Waiting for dependencies.
    pub const WAITING: u32 = 2;
    /// At the gate.
    pub const GATE: u32 = 3;
    /// In a call.
    pub const CALL: u32 = 4;
    /// In a call that never returned in the recording.
    pub const FINAL_CALL: u32 = 5;
    /// At the end of its steps.
    pub const PARKED: u32 = 6;
    /// It has exited (or is about to).
    pub const EXITED: u32 = 7;
    /// Waiting for a signal that the recording has here.
    pub const SIGNAL: u32 = 8;
    /// Thinking.
    pub const THINKING: u32 = 9;
    /// In an engine-marked poll.
    pub const POLLING: u32 = 10;
    /// Pausing between two looks at what nothing announces.
    pub const RESTING: u32 = 11;
}

/// Values of [`TaskSlot::fate`].
pub mod fate {
    /// No handler ran its steps during the call.
    pub const NONE: u32 = 0;
    /// The step of the call was completed by the handler.
    pub const COMPLETED: u32 = 1;
    /// The kernel made the call again: its result belongs to the step that `step` names now.
    pub const RESTARTED: u32 = 2;
}

/// One task of the running replay.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct TaskSlot {
    /// 2 × step + 1: step entered; 2 × step + 2: completed. Never decreases.
    pub seq: AtomicU32,
    /// A [`status`].
    pub status: AtomicU32,
    /// Live thread id in the replay's PID namespace, 0 before birth.
    pub tid: AtomicI32,
    /// While waiting: the task waited for.
    pub waits_for_task: AtomicU32,
    /// While waiting: the `seq` waited for.
    pub waits_for_seq: AtomicU32,
    /// Index of the current step.
    pub step: AtomicU32,
    /// Worker's own: which wait this is, of all that the task may be forced to give up, counted from 1. Never decreases.
    pub waits: AtomicU32,
    /// The runner's init has forced this task on up to this one of its `waits`: to give it up, or not to make its
    /// interrupted call again. Futex word.
    pub force: AtomicU32,
    /// How often the task has looked in vain at what nothing announces. Written by the task only.
    pub vain: AtomicU32,
    /// Counters, written by the task only.
    pub counters: Counters,
    /// Worker's own: signals that arrived before their place in the program, one count per signal number: those to the process
    /// are counted by its leader, for whichever of its threads has the place. No signal has number 0: there, all that ever
    /// arrived at this task are counted. Futex word.
    pub pending_signals: [AtomicU32; 65],
    /// Worker's own: depth of handlers running.
    pub handler_depth: AtomicU32,
    /// Worker's own: what a signal did to the call it interrupted ([`fate`]).
    pub fate: AtomicU32,
    /// Time of the end of the last step, ns on the replay clock.
    pub last_end: AtomicU64,
    /// When the timer goes off whose signal the task waits for, or which is to interrupt its call, ns on the replay clock; 0:
    /// none that is known.
    pub timer_at: AtomicU64,
    /// Worker's own: time before which the next step does not begin, whatever the pace but `Afap` (0: none): what stood for
    /// a recorded call took less time than the call.
    pub not_before: AtomicU64,
    /// By how much the task is later than its steps say, ns of recorded time: the sum of its delays so far.
    pub shift_ns: AtomicU64,
    /// Worker's own: first arena address that the current step does not use.
    pub scratch_top: AtomicU64,
    /// Worker's own: the signals that are blocked while an image is replaced, and were before.
    pub exec_mask: AtomicU64,
    /// The tasks that sleep until this one has come to a place of its program.
    pub sleepers: Sleepers,
    /// Worker's own: of a thread-group leader, how its threads give each other numbers of descriptors.
    pub numbers: Numbers,
}

/// Numbers of the descriptors that a process has, while one of its threads begins to accept.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Numbers {
    /// How many calls change the table at the moment; or [`numbers::TAKING`], or [`numbers::BEGUN`].
    pub state: AtomicU32,
    /// The number that is taken, the task and the step that take it.
    pub wanted: AtomicU32,
    /// See `wanted`.
    pub by: AtomicU32,
    /// See `wanted`.
    pub step: AtomicU32,
    /// Lower numbers that are taken meanwhile: so many.
    pub filled: AtomicU32,
    /// See `filled`.
    pub fillers: [AtomicU32; FILLERS],
}

/// Lower numbers that may be free when an accept takes its own.
pub const FILLERS: usize = 26;

/// Values of [`Numbers::state`] other than counts.
pub mod numbers {
    /// A task takes the lower ones that are free, or gives them back.
    pub const TAKING: u32 = 1 << 31;
    /// It has begun its call. The lower ones are given back as soon as that has its number.
    pub const BEGUN: u32 = 1 << 30;
}

/// What a task did. All are totals.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Counters {
    /// Recorded calls that were really made.
    pub done: AtomicU64,
    /// Of those, calls whose errno was emulated.
    pub emulated: AtomicU64,
    /// Calls that an injected fault answered.
    pub injected: AtomicU64,
    /// Calls that an injected fault delayed, cut short, or sent a signal with.
    pub delayed: AtomicU64,
    /// Recorded calls not made, by policy.
    pub refused: AtomicU64,
    /// Recorded calls that something else stood for.
    pub surrogate: AtomicU64,
    /// Recorded calls that could not be rebuilt.
    pub missing: AtomicU64,
    /// Results that differ from the recording.
    pub diverged: AtomicU64,
    /// Engine-marked calls.
    pub engine_calls: AtomicU64,
    /// Time spent in engine-marked calls and waits for dependencies, ns.
    pub wait_ns: AtomicU64,
    /// Time spent computing (spinning), ns.
    pub spin_ns: AtomicU64,
    /// Unmarked calls that the recording does not have (continuations of short reads and writes, retries).
    pub extra: AtomicU64,
    /// Time by which steps began later than meant, ns.
    pub late_ns: AtomicU64,
}

/// Why an entry is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Cause {
    /// The result is not the expected one.
    Result = 1,
    /// A stream gave fewer bytes than recorded.
    Short = 2,
    /// A stream gave more bytes than recorded.
    Long = 3,
    /// A wait for another task was forced to end.
    ForcedWait = 4,
    /// A signal did not arrive; the task sent it to itself.
    NoSignal = 5,
    /// A signal arrived that the recording does not have here.
    ExtraSignal = 6,
    /// The expected number of futex waiters did not show up.
    NoWaiters = 7,
    /// Descriptors did not become ready.
    NotReady = 8,
    /// A descriptor could not be moved to its recorded number.
    Renumber = 9,
    /// The step is not valid (a bug of the compiler).
    BadStep = 10,
    /// A blocked call was forced to end.
    ForcedCall = 11,
}

/// One divergence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct JournalEntry {
    /// Task index.
    pub task: u32,
    /// Step index.
    pub step: u32,
    /// System call number.
    pub nr: u32,
    /// A [`Cause`]; 0: not written.
    pub cause: u32,
    /// What the recording says.
    pub expected: i64,
    /// What happened.
    pub got: i64,
    /// When, ns on the replay clock.
    pub t_ns: u64,
}

const _: () = assert!(size_of::<ControlHeader>() <= 4096);
const _: () = assert!(size_of::<TaskSlot>() == 896);
const _: () = assert!(size_of::<JournalEntry>() == 40);
