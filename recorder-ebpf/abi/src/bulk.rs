//! The bulk ring of a CPU: calls in a short form, and counts of calls while it is full.

use crate::COPIES;

/// Number of bulk rings in the object. CPUs beyond it share (`cpu % RINGS`).
pub const RINGS: u32 = 16;
/// A bulk ring is a number of segments; a record does not cross from one into the next.
pub const SEGMENT: usize = 1 << 16;
/// The last place of a segment at which a record may begin.
pub const SEGMENT_LAST: u64 = (SEGMENT - 400) as u64;
/// Entries of the map of aggregates.
pub const AGGREGATES: u32 = 32_768;
/// Length of the interval of an aggregate.
pub const WINDOW_NS: u64 = 100_000_000;
/// Classes of durations of an aggregate: `log2(ns)`, longer ones in the last.
pub const BUCKETS: usize = 40;

/// Bits of [`Short::flags`] above those of [`call_flag`]: what follows the core, in this order, [`short_flag::TAIL`]
/// last.
pub mod short_flag {
    /// A word that says how many bytes of [`crate::Tlv`] items follow, and these.
    pub const TAIL: u16 = 1 << 11;
    /// Arguments 0 to 2.
    pub const ARGS: u16 = 1 << 12;
    /// Arguments 3 to 5.
    pub const MORE_ARGS: u16 = 1 << 13;
    /// [`crate::Call::wait_cpu_ns`], [`crate::Call::blocked_ns`], [`crate::Call::run_wait_ns`].
    pub const WAITS: u16 = 1 << 14;
    /// [`crate::Call::time_ns`].
    pub const TIME: u16 = 1 << 15;
}

/// How much is recorded of a call: decided per CPU by how full its bulk ring is.
pub mod level {
    /// Everything.
    pub const FULL: u32 = 0;
    /// One record per call, without what its pointers point to.
    pub const NO_ARGUMENTS: u32 = 1;
    /// Calls are counted in the map of aggregates.
    pub const AGGREGATED: u32 = 2;
}

/// The core of a call as the bulk ring has it. See [`short_flag`] for what follows.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Short {
    /// [`crate::kind::SHORT`].
    pub kind: u8,
    /// [`crate::abi`].
    pub abi: u8,
    /// [`crate::call_flag`] and [`short_flag`].
    pub flags: u16,
    /// Thread.
    pub tid: u32,
    /// Entry, `CLOCK_BOOTTIME`.
    pub t_ns: u64,
    /// Exit − entry.
    pub dur_ns: u64,
    /// Result.
    pub ret: i64,
    /// Number.
    pub nr: u32,
    /// Process.
    pub tgid: u32,
    /// As [`crate::Call::file`].
    pub file: u64,
}

/// The positions of a CPU's bulk ring, in bytes since the start, and what is decided by them. Written by that CPU,
/// but for `taken`, which is in a cache line of its own.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Head {
    /// Up to here records are complete.
    pub written: u64,
    /// Up to here may be written without another look at `taken`.
    pub limit: u64,
    /// Not 0 while a record is being written.
    pub busy: u32,
    /// [`level`].
    pub level: u32,
    /// Calls that went into the map of aggregates.
    pub aggregated: u64,
    /// Must be 0.
    pub reserved: [u64; 4],
    /// Up to here the reader has read.
    pub taken: u64,
    /// Must be 0.
    pub reserved2: [u64; 7],
}

/// What calls are counted by.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct AggregateKey {
    /// Thread.
    pub tid: u32,
    /// Process.
    pub tgid: u32,
    /// Number.
    pub nr: u32,
    /// First descriptor argument, −1 without.
    pub fd: i32,
    /// Identity of the file behind it, or 0.
    pub file: u64,
    /// Interval: its start, in units of [`WINDOW_NS`].
    pub window: u32,
    /// CPU.
    pub cpu: u16,
    /// Error, 0 for success.
    pub errno: u16,
    /// [`crate::abi`].
    pub abi: u8,
    /// [`crate::call_flag`], its low bits.
    pub flags: u8,
    /// Must be 0.
    pub reserved: [u8; 6],
}

/// What is counted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Aggregate {
    /// Calls.
    pub count: u64,
    /// Sum of their durations.
    pub dur_ns: u64,
    /// How many of them had which [`BUCKETS`] of duration.
    pub buckets: [u32; BUCKETS],
}

/// An entry of the map of aggregates as a record.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AggregateRecord {
    /// [`crate::kind::AGGREGATE`].
    pub kind: u8,
    /// Must be 0.
    pub reserved: [u8; 7],
    /// End of the interval.
    pub t_ns: u64,
    /// What was counted by.
    pub key: AggregateKey,
    /// What was counted.
    pub value: Aggregate,
}

/// A CPU records calls in another level of detail from now on.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct LevelChange {
    /// [`crate::kind::LEVEL`].
    pub kind: u8,
    /// [`level`] before.
    pub from: u8,
    /// [`level`] now.
    pub to: u8,
    /// Must be 0.
    pub reserved: u8,
    /// CPU.
    pub cpu: u32,
    /// When.
    pub t_ns: u64,
}

const _: () = {
    assert!(size_of::<Short>() == 48);
    assert!(size_of::<Short>() + 11 * 8 + COPIES <= SEGMENT - SEGMENT_LAST as usize);
    assert!(size_of::<Head>() == 128);
    assert!(size_of::<AggregateKey>() == 40);
    assert!(size_of::<Aggregate>() == 16 + 4 * BUCKETS);
    assert!(size_of::<AggregateRecord>() == 16 + 40 + 16 + 4 * BUCKETS);
    assert!(size_of::<LevelChange>() == 16);
};
