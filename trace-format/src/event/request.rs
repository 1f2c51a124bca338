//! Requests that are not calls: of block devices, and through an `io_uring`.

use super::{ObjectId, TaskId};
use serde::{Deserialize, Serialize};

/// A request of a block device that a task of the scope made. Buffered writes reach a disk later, by other tasks, and
/// so does what a throttle held back: a kernel thread makes the request then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// When it was made.
    pub t_ns: u64,
    /// Until it was done.
    pub duration_ns: u64,
    /// Of that, until the device got it.
    pub queued_ns: u64,
    /// Who.
    pub task: TaskId,
    /// Device number, as `st_dev`.
    pub dev: u64,
    /// First sector, of 512 bytes.
    pub sector: u64,
    /// Bytes done.
    pub bytes: u64,
    /// What.
    pub op: BlockOp,
    /// How: [`Block::SYNC`] and others.
    pub flags: u8,
    /// Errno, or 0.
    pub error: u16,
}

impl Block {
    /// Somebody waits for it.
    pub const SYNC: u8 = 1;
    /// Metadata of a file system.
    pub const META: u8 = 2;
    /// To be on stable storage when done.
    pub const FUA: u8 = 4;
    /// The device's cache is flushed first.
    pub const FLUSH: u8 = 8;
    /// Read ahead.
    pub const READ_AHEAD: u8 = 16;
}

/// See [`Block`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub enum BlockOp {
    Read = 0,
    Write = 1,
    Flush = 2,
    Discard = 3,
    WriteZeroes = 9,
    Other = 255,
}

impl BlockOp {
    /// Its name, as JSON output has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::WriteZeroes => "write_zeroes",
            Self::Other => "other",
        }
    }
}

/// A request submitted through an `io_uring`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uring {
    /// When the kernel took it.
    pub t_ns: u64,
    /// Until its completion was posted.
    pub duration_ns: u64,
    /// Who submitted it.
    pub task: TaskId,
    /// `IORING_OP_*`.
    pub opcode: u8,
    /// The object behind its descriptor, when it is one that the trace knows.
    pub object: Option<ObjectId>,
    /// Result: a value ≥ 0, or −errno.
    pub ret: i32,
}
