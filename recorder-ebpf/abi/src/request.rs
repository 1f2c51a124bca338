//! Requests of block devices, and of rings.

/// A request of a block device: a value of the map of requests, and the end of a [`BlockEvent`].
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct BlockEvent {
    /// [`crate::kind::BLOCK`].
    pub kind: u8,
    /// `blk_status_t`.
    pub status: u8,
    /// Must be 0.
    pub reserved: u16,
    /// The task.
    pub tid: u32,
    /// When it was done.
    pub t_ns: u64,
    /// When it was made.
    pub from_ns: u64,
    /// When the device got it.
    pub issued_ns: u64,
    /// First sector.
    pub sector: u64,
    /// Bytes.
    pub bytes: u64,
    /// `dev_t`, kernel encoding.
    pub dev: u32,
    /// `cmd_flags`.
    pub flags: u32,
}

/// A request of an `io_uring`: a value of the map of requests, and a record.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct UringEvent {
    /// [`crate::kind::URING`].
    pub kind: u8,
    /// `IORING_OP_*`.
    pub opcode: u8,
    /// Must be 0.
    pub reserved: u16,
    /// The task.
    pub tid: u32,
    /// When it was done.
    pub t_ns: u64,
    /// When it was submitted.
    pub from_ns: u64,
    /// Its `struct file`, or 0.
    pub file: u64,
    /// Result.
    pub ret: i32,
    /// Must be 0.
    pub reserved2: u32,
}

const _: () = {
    assert!(size_of::<BlockEvent>() == 56);
    assert!(size_of::<UringEvent>() == 40);
};
