//! The binary layout that the replayer and its freestanding worker share.
//!
//! A *program* is one file: a header, a table of tasks, and per task its [`Step`]s in chunks of [`CHUNK_STEPS`], each step
//! as short as it can be ([`stored`]), plus data blobs that steps point to. The runner puts an ELF header in front of it
//! ([`RESERVED_BYTES`]) and makes it the interpreter of the worker's ELF image ([`PROGRAM_PATH`]), so the kernel maps the
//! program at [`PROGRAM_BASE`] of every worker image by itself: no call is needed and pages come in by faults. All offsets count from the
//! [`ProgramHeader`]; an offset `o` is the address `PROGRAM_BASE + o` in a worker.
//!
//! The *control region* ([`control`]) is one shared memory segment at [`CONTROL_BASE`] of every worker: the gate, the
//! clock, one slot per task, value and futex slots, stacks, scratch arenas, the divergence journal.
//!
//! This crate has no dependency and, without the `std` feature, no allocation.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod sleepers;
mod step;
pub mod stored;
pub use step::*;
#[cfg(feature = "std")]
mod builder;
pub mod control;
#[cfg(feature = "std")]
mod decode;
#[cfg(feature = "std")]
mod edit;
#[cfg(all(test, feature = "std"))]
mod tests;
#[cfg(feature = "std")]
pub use builder::{BuildError, ProgramBuilder, TaskInfo};
#[cfg(feature = "std")]
pub use decode::{DecodeError, Program};
#[cfg(feature = "std")]
pub use edit::{PlacedStep, PlacedWait};

/// Where the program lies in a worker's address space. Below 39 bits: some aarch64 kernels have no more.
pub const PROGRAM_BASE: u64 = 0x10_0000_0000;
/// Where the control region lies in a worker's address space.
pub const CONTROL_BASE: u64 = 0x40_0000_0000;
/// Most bytes a program may have: what fits between the two bases, less room for the heap (`brk` begins after the
/// program).
pub const PROGRAM_MAX_BYTES: u64 = 0x20_0000_0000;
/// Bytes in front of the program that the runner fills with an ELF header.
pub const RESERVED_BYTES: u64 = 128 * 1024;
/// Where the program lies in the private root: in a directory of its own, which may be a mount.
pub const PROGRAM_PATH: &str = "/dev/.ctrace/carrier/program";
/// Where a worker lies that nobody writes to.
pub const WORKER_PATH: &str = "/dev/.ctrace/worker";
/// A file that is executed and keeps its size begins with this line: the kernel starts the worker as its interpreter
/// (`load_script`, `fs/binfmt_script.c`). The line needs no end when the file ends with it.
pub const WORKER_LINE: &str = "#!/dev/.ctrace/worker\n";
/// Steps per chunk: all chunks of a task but the last are full.
pub const CHUNK_STEPS: u32 = 256;
/// First word of a program.
pub const PROGRAM_MAGIC: u64 = 0x314d_4152_4754_4343; // "CCTGRAM1"
/// Changes whenever the meaning of any structure of this crate changes.
pub const LAYOUT_VERSION: u32 = 10;
/// Value of the sixth argument of the engine's own calls; the same as `ctrace_abi::ENGINE_MARK`.
pub const ENGINE_MARK: u64 = 0xC7AC_E0E0_5EED_0001;
/// First of the numbers at which a descriptor waits until its own is free: above what programs commonly reach, below the
/// usual limit.
pub const PARKED: u64 = 700;
/// Upper half of the sixth argument of a call that the seccomp filter answers: with the errno in the low 12 bits (0: with
/// 0), or, with [`TAG_VALUE`], with 0. The same as `ctrace_abi::ANSWER_TAG`.
pub const FAULT_TAG: u64 = 0xC7AC_FA17_0000_0000;
/// Bit of a tag: the answer was not recorded but injected. The same as `ctrace_abi::ANSWER_INJECTED`.
pub const TAG_INJECTED: u64 = 1 << 30;
/// Bit of a tag: the bits below [`TAG_INJECTED`] are the result ≥ 0. The filter cannot give it; the recorder reports it.
pub const TAG_VALUE: u64 = 1 << 31;
/// Bit of a tag without [`TAG_VALUE`]: the call is none, but tells the recorder that a rule of a fault plan hits. The same as
/// `ctrace_abi::ANSWER_NOTE`.
pub const TAG_NOTE: u64 = 1 << 29;
/// The largest result that a tag can say.
pub const TAG_MAX: i64 = TAG_INJECTED as i64 - 1;

/// The tag of a call that is answered with `result`, from −4095 to [`TAG_MAX`].
pub const fn fault_tag(result: i64) -> u64 {
    if result > 0 {
        FAULT_TAG | TAG_VALUE | (result as u64 & (TAG_INJECTED - 1))
    } else {
        FAULT_TAG | (result.wrapping_neg() as u64 & 0xfff)
    }
}
/// Most tasks a program may have.
pub const MAX_TASKS: u32 = 1 << 16;
/// Most steps a task may have: its sequence number counts two per step in 32 bits.
pub const MAX_STEPS: u32 = (1 << 31) - 2;
/// Outputs above this come from the shared pool instead of the task's arena (contents are irrelevant).
pub const POOL_THRESHOLD: u64 = 256 * 1024;
/// Most bytes of one output buffer.
pub const POOL_MAX_BYTES: u64 = 1 << 30;

/// The first structure of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ProgramHeader {
    /// [`PROGRAM_MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`].
    pub version: u32,
    /// Number of tasks; ≤ [`MAX_TASKS`].
    pub tasks: u32,
    /// Bytes of the program, this header included.
    pub len: u64,
    /// Offset of `[TaskEntry; tasks]`.
    pub task_table: u64,
    /// Number of steps in all.
    pub steps: u64,
    /// Number of value slots (mapping addresses and other handles).
    pub value_slots: u32,
    /// Number of futex slots.
    pub futex_slots: u32,
    /// Bytes of the shared pool for large outputs.
    pub pool_bytes: u64,
    /// Bytes of the largest task arena.
    pub arena_bytes: u64,
    /// A set of [`header_flags`].
    pub flags: u64,
}

/// Bits of [`ProgramHeader::flags`].
pub mod header_flags {
    /// Some step has [`super::flags::FAULT`]: the sandbox needs the errno lane.
    pub const USES_FAULT_LANE: u64 = 1;
}

/// One recorded task (or one task of a peer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct TaskEntry {
    /// Number of steps.
    pub steps: u32,
    /// A set of [`task_flags`].
    pub flags: u32,
    /// Offset of `[u64]`: the offsets of the chunks ([`stored::ChunkHead`]), each of [`CHUNK_STEPS`] steps but the last.
    pub chunks: u64,
    /// Offset of this task's arena in the arena area; the runner lays tasks out one after the other.
    pub arena_offset: u64,
    /// Bytes of scratch that the largest step needs.
    pub arena_bytes: u64,
    /// Recorded thread id.
    pub tid: u32,
    /// Recorded process id.
    pub tgid: u32,
    /// Task index of the creator, or `u32::MAX`.
    pub parent: u32,
    /// Task index of the thread-group leader (itself for a leader).
    pub leader: u32,
    /// Blob with the task's name (for messages), or 0.
    pub name: u64,
}

/// The highest number of a signal (`_NSIG`, include/uapi/asm-generic/signal.h).
pub const SIGNAL_MAX: u32 = 64;
/// Codes of signals (include/uapi/asm-generic/siginfo.h).
pub mod signal_code {
    /// `SI_TKILL`: sent to a thread.
    pub const TKILL: i32 = -6;
    /// `SI_TIMER`: of a timer, for a thread or a process.
    pub const TIMER: i32 = -2;
    /// `SI_QUEUE`.
    pub const QUEUE: i32 = -1;
}

/// Whether a signal with this code may have come to any thread of the process. The kernel sends SIGPIPE (13) and SIGXFSZ (25)
/// to the thread whose call they are about, with the code of `kill` (`send_sig`, kernel/signal.c); a timer's code does not tell
/// whom the signal is for.
pub const fn is_to_process(signo: u32, code: i32) -> bool {
    !matches!(code, signal_code::TKILL | signal_code::TIMER) && !matches!(signo, 13 | 25)
}

/// Bits of [`TaskEntry::flags`].
pub mod task_flags {
    /// The root of the recorded tree. Exactly one task has it; the runner starts it, and the recorder watches it and
    /// its descendants. Everything recorded descends from it.
    pub const ROOT: u32 = 1;
    /// The root of a peer: the runner starts it as a process of its own, outside the recorded tree.
    pub const PEER_ROOT: u32 = 1 << 1;
    /// The task belongs to a peer (also set on a peer's root).
    pub const PEER: u32 = 1 << 2;
    /// The task exists before the gate opens; it reaches a [`Kind::Gate`] step.
    pub const AT_GATE: u32 = 1 << 3;
}

const _: () = assert!(size_of::<ProgramHeader>() == 72);
const _: () = assert!(size_of::<TaskEntry>() == 56);
