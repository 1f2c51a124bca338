//! The types that the kernel half and the user half of the recorder share.
//!
//! This is the wire between one build of the recorder and the eBPF object embedded in it; nothing here is ever
//! written to a file. Every structure is `repr(C)` without implicit padding (checked where it is defined), so that the
//! verifier never sees uninitialised bytes leave the kernel.
#![no_std]

mod bulk;
mod call;
mod globals;
mod network;
mod object;
mod request;
mod scope;
mod spec;
mod task;

pub use bulk::{
    AGGREGATES, Aggregate, AggregateKey, AggregateRecord, BUCKETS, Head, LevelChange, RINGS, SEGMENT,
    SEGMENT_LAST, Short, WINDOW_NS, level, short_flag,
};
pub use call::{COPIES, Call, CallArgs, Creds, SCRATCH, Tlv, abi, call_flag};
pub use globals::{Globals, machine};
pub use network::{DnsEvent, MAX_DNS, TcpEvent, Traffic, TrafficEvent, dns_how, tcp};
pub use object::{FileObject, MAX_COMPONENTS, SockObject, Tuple};
pub use request::{BlockEvent, UringEvent};
pub use scope::{Group, Join, MAX_GROUP_PATH, UNNAMED_GROUP};
pub use spec::{
    MAX_ARGV, MAX_ITEMS, MAX_OPS, MAX_PASSED, MAX_STR, MAX_WORD, Op, SPEC_COMPAT, SPECS, Spec, data, op,
    spec_flag, when,
};
pub use task::{
    CapEvent, CapKey, Comm, DESCRIBED, Exec, Exit, FaultEvent, Fork, HELD, KNOWN, KnownFile, MAX_ARGUMENTS,
    MAX_PROGRAM, NO_SLOT, OomEvent, OpenedFile, PROBED, Pending, SLOTS, STACKS, Shared, SignalEvent, Slot,
    Usage, UsageEvent, exec_flag, known_at, progress,
};

/// Value of a system call's sixth argument register that marks a coordination call of the replay engine.
///
/// The kernel ignores that register for calls with fewer than six arguments, and `FUTEX_WAIT`/`FUTEX_WAKE` ignore
/// it too (`kernel/futex/syscalls.c`: `val3` is only used by the bitset, requeue-compare and wake-op operations).
pub const ENGINE_MARK: u64 = 0xC7AC_E0E0_5EED_0001;
/// Upper half of the sixth argument of a call that the replay's sandbox answers instead of the kernel; the lower half
/// says the answer, see [`answer`].
pub const ANSWER_TAG: u64 = 0xC7AC_FA17_0000_0000;
/// Bit of a tag: the bits below it are a result ≥ 0, not an errno.
pub const ANSWER_VALUE: u64 = 1 << 31;

/// Whether a sixth argument has [`ANSWER_TAG`].
#[allow(clippy::inline_always, reason = "the kernel half has no stack for a call")]
#[inline(always)]
#[must_use]
pub const fn is_answer(tag: u64) -> bool {
    tag >> 32 == ANSWER_TAG >> 32
}

/// The result that a tag stands for. The filter itself can answer with an errno or with 0 only.
#[allow(clippy::inline_always, reason = "the kernel half has no stack for a call")]
#[inline(always)]
#[must_use]
pub const fn answer(tag: u64) -> i64 {
    if tag & ANSWER_VALUE != 0 { (tag & (ANSWER_VALUE - 1)) as i64 } else { -((tag & 0xfff) as i64) }
}
/// The number of no helper: in its calls, user space puts the kernel's `bpf_rdonly_cast` in place of it.
pub const RDONLY_CAST: u32 = 0x7ace_0001;
/// "This kernel has no such field".
pub const MISSING: u32 = u32::MAX;

/// What a ring record is: the first byte of each.
pub mod kind {
    /// [`crate::Call`]: a call with more items than a slot has room for.
    pub const CALL: u8 = 1;
    /// [`crate::CallArgs`]: what was copied at the entry of a call, if it is much; precedes the call.
    pub const ARGS: u8 = 2;
    /// [`crate::Fork`].
    pub const FORK: u8 = 3;
    /// [`crate::Exec`].
    pub const EXEC: u8 = 4;
    /// [`crate::Exit`].
    pub const EXIT: u8 = 5;
    /// [`crate::Comm`].
    pub const COMM: u8 = 6;
    /// [`crate::FileObject`] with path components.
    pub const FILE: u8 = 7;
    /// [`crate::SockObject`].
    pub const SOCK: u8 = 8;
    /// [`crate::TcpEvent`].
    pub const TCP: u8 = 9;
    /// [`crate::SignalEvent`].
    pub const SIGNAL: u8 = 10;
    /// [`crate::Join`]: a task was moved into the recorded cgroup.
    pub const JOIN: u8 = 11;
    /// [`crate::Join`]: a task was moved out of the recorded cgroup.
    pub const LEAVE: u8 = 12;
    /// [`crate::UsageEvent`].
    pub const USAGE: u8 = 13;
    /// [`crate::FaultEvent`].
    pub const FAULT: u8 = 14;
    /// [`crate::OomEvent`].
    pub const OOM: u8 = 15;
    /// [`crate::CapEvent`].
    pub const CAPABILITY: u8 = 16;
    /// [`crate::TrafficEvent`].
    pub const TRAFFIC: u8 = 17;
    /// [`crate::DnsEvent`] with the message.
    pub const DNS: u8 = 18;
    /// [`crate::BlockEvent`].
    pub const BLOCK: u8 = 19;
    /// [`crate::UringEvent`].
    pub const URING: u8 = 20;
    /// [`crate::Group`]: a cgroup was made or removed. Not in the rings of the others, see the kernel half.
    pub const GROUP: u8 = 32;
    /// [`crate::Short`]: a call.
    pub const SHORT: u8 = 100;
    /// [`crate::LevelChange`].
    pub const LEVEL: u8 = 101;
    /// [`crate::AggregateRecord`]: made in user space of an entry of the map of aggregates.
    pub const AGGREGATE: u8 = 102;
}

/// Indices into the per-CPU loss counters.
pub mod loss {
    /// A finished call did not fit into the ring.
    pub const CALL_RING: u32 = 0;
    /// A call of a task without slot.
    pub const CALL_MAP: u32 = 1;
    /// A lifecycle record did not fit.
    pub const PROCESS_RING: u32 = 2;
    /// A connection record did not fit.
    pub const CONNECTION_RING: u32 = 3;
    /// A signal record did not fit.
    pub const SIGNAL_RING: u32 = 4;
    /// An argument or object record did not fit (its call is still there, flagged).
    pub const DETAIL_RING: u32 = 5;
    /// A connection could not be followed: the map is full.
    pub const CONNECTION_MAP: u32 = 6;
    /// A call could be neither recorded nor counted: the map of aggregates is full.
    pub const AGGREGATE_MAP: u32 = 7;
    /// A change of level did not fit into the ring.
    pub const LEVEL_RING: u32 = 8;
    /// A usage record did not fit.
    pub const USAGE_RING: u32 = 16;
    /// A traffic record did not fit: what it said is in the next one.
    pub const SOCKET_RING: u32 = 17;
    /// A socket's traffic could not be counted: the map is full.
    pub const SOCKET_MAP: u32 = 18;
    /// A DNS message did not fit.
    pub const DNS_RING: u32 = 19;
    /// A block request did not fit.
    pub const BLOCK_RING: u32 = 20;
    /// A block request could not be followed: the map is full.
    pub const BLOCK_MAP: u32 = 21;
    /// A ring request did not fit.
    pub const URING_RING: u32 = 22;
    /// A ring request could not be followed: the map is full.
    pub const URING_MAP: u32 = 23;
    /// A capability check could not be counted: the map is full, or a kretprobe missed its end.
    pub const PROCESS_MAP: u32 = 24;
    /// Number of counters.
    pub const COUNT: u32 = 32;
}

/// Bit of a tag with an errno, or with 0: the answer was not recorded but is a fault on top.
pub const ANSWER_INJECTED: u64 = 1 << 30;
/// Bit of a tag without [`ANSWER_VALUE`]: the call is none, but tells of a rule of a fault plan that hits.
pub const ANSWER_NOTE: u64 = 1 << 29;
