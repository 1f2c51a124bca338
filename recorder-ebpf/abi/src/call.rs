//! Calls, one by one, with what was copied of their arguments.

/// Size of a record under construction.
pub const SCRATCH: usize = 16_384;

/// Bytes of [`Tlv`] items that the slot of a task keeps for its call in flight. What does not fit is sent by itself.
pub const COPIES: usize = 256;

/// Bits of [`Call::flags`].
pub mod call_flag {
    /// The exit had no entry: the call was under way when the recording began.
    pub const NO_ENTER: u16 = 1;
    /// There was no exit.
    pub const NO_EXIT: u16 = 1 << 1;
    /// The sixth argument is [`crate::ENGINE_MARK`].
    pub const ENGINE: u16 = 1 << 2;
    /// Something could not be copied completely.
    pub const TRUNCATED: u16 = 1 << 3;
    /// An [`crate::CallArgs`] record was sent at entry: the slot has no room for what was copied, or it is needed sooner.
    pub const HAS_ARGS: u16 = 1 << 4;
    /// [`crate::Call::time_ns`] holds the call's timeout.
    pub const HAS_TIME: u16 = 1 << 5;
    /// The file was created by this call.
    pub const CREATED: u16 = 1 << 6;
    /// The entry copies must be tried again at exit: the page was not resident.
    pub const RETRY: u16 = 1 << 7;
    /// There is something to do at the call's exit besides telling of it.
    pub const AT_EXIT: u16 = 1 << 8;
    /// A filter (seccomp) answered the call before the kernel began with it: its time is that of the answer.
    pub const FILTERED: u16 = 1 << 9;
    /// The call's socket had no address of its own at entry: which one it has got is told at exit.
    pub const UNBOUND: u16 = 1 << 10;
    /// The call's message has control data, which may pass descriptors along.
    pub const PASSES: u16 = 1 << 11;
}

/// How a call was made.
pub mod abi {
    /// Native 64-bit.
    pub const NATIVE: u8 = 0;
    /// 32-bit: i386 on x86-64 (`int 0x80`, `sysenter`, `syscall32`), `AArch32` on aarch64.
    pub const COMPAT: u8 = 1;
    /// x32.
    pub const X32: u8 = 2;
}

/// A completed (or unfinished) call whose items have no room in a slot. Followed by [`Tlv`] items up to the end of the
/// record.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Call {
    /// [`crate::kind::CALL`].
    pub kind: u8,
    /// [`abi`].
    pub abi: u8,
    /// [`call_flag`].
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
    /// Identity of the file behind the first descriptor (kernel address of its `struct file`), or 0.
    pub file: u64,
    /// A timeout, see [`call_flag::HAS_TIME`].
    pub time_ns: u64,
    /// Runnable but not running since the previous record of the task, before this entry.
    pub wait_cpu_ns: u64,
    /// Blocked outside of a call since the previous record.
    pub blocked_ns: u64,
    /// Runnable but not running within this call.
    pub run_wait_ns: u64,
    /// Argument registers.
    pub args: [u64; 6],
}

/// Head of an item of a tail.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Tlv {
    /// [`crate::op`].
    pub op: u8,
    /// Argument index.
    pub arg: u8,
    /// Bytes of data that follow; padded to a multiple of 8.
    pub len: u16,
    /// 1: longer than copied, 2: could not be read, 4: of an argument vector, some words could not be read.
    pub fault: u16,
    /// 0: copied at the call's entry, 1: at its exit. From bit 1 on: which of the call's messages it is about.
    pub aux: u16,
}

/// What was copied at entry and has no room in a slot; [`Tlv`] items follow.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct CallArgs {
    /// [`crate::kind::ARGS`].
    pub kind: u8,
    /// [`abi`].
    pub abi: u8,
    /// [`call_flag`].
    pub flags: u16,
    /// Thread.
    pub tid: u32,
    /// Entry of the call.
    pub t_ns: u64,
}

/// Who a task acts as: an item of a call's tail.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Creds {
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective group.
    pub egid: u32,
}

const _: () = {
    assert!(size_of::<Call>() == 128);
    assert!(size_of::<Creds>() == 16);
    assert!(size_of::<Tlv>() == 8);
    assert!(size_of::<CallArgs>() == 16);
};
