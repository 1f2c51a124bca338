//! Tasks: what is kept of each, and what is told of it besides its calls.

use crate::{COPIES, Call, Creds};

/// Slots for tasks of the scope: slot 0 is never used (0 in the task table means "not recorded").
pub const SLOTS: u32 = 32_768;
/// Kernel stacks that are told apart in [`Shared`].
pub const STACKS: usize = 4096;
/// Task table entry of a task that is in scope but got no slot: its calls are counted as lost.
pub const NO_SLOT: u16 = u16::MAX;
/// Value of [`Slot::fresh`] of a task that waits at the recorder's gate.
pub const HELD: u32 = 2;

/// What all programs share.
///
/// A task is recognised by its kernel stack, which is what the tracepoints of calls pass (`struct pt_regs` lies on it):
/// no helper call is needed. A stack belongs to one task until that task ends.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Shared {
    /// One more each time that a task enters the scope: what `foreign` says of an earlier epoch does not count.
    pub epoch: u64,
    /// `CLOCK_BOOTTIME` − `CLOCK_MONOTONIC`, which the kernel reads faster. Kept by user space.
    pub boot_offset: u64,
    /// Slots that were ever given out. A number that was given back is given out again before a new one.
    pub slots_used: u64,
    /// Calls of the scope that may have changed what paths lead to.
    pub moves: u64,
    /// Must be 0.
    pub reserved: [u64; 4],
    /// TCP sockets that need no sample yet, by a part of their address: who it is, and since when.
    pub probed: [u64; PROBED],
    /// How often files were described, by a part of their address.
    pub described: [u64; DESCRIBED],
    /// Stacks of tasks that are not recorded, each with the epoch in which that was found.
    pub foreign: [u64; STACKS],
    /// Hints: the slot that a stack belongs to, if that slot says the same.
    pub slots: [u16; STACKS],
}

/// State of one recorded task: a value of the slot array.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slot {
    /// The call in flight, if `busy` says so.
    pub call: Call,
    /// [`progress`].
    pub busy: u32,
    /// 1 until the task's first entry: the child's return from clone has no entry and is not reported.
    /// [`HELD`] until its first `execve`: nothing before that is reported.
    pub fresh: u32,
    /// The task's kernel stack (see [`Shared`]); 0 until it is known, and when the slot is free.
    pub stack: u64,
    /// Its `struct task_struct`, as long as `stack` is known.
    pub task: u64,
    /// Arguments of the call in flight that were read.
    pub nargs: u32,
    /// Bytes of `copies` that are used.
    pub copied: u32,
    /// The last file that was resolved for this task.
    pub last_file: u64,
    /// Waited for a CPU outside of a call since the last record.
    pub wait_cpu_ns: u64,
    /// Blocked since the last record.
    pub blocked_ns: u64,
    /// When it was switched out; 0 while it runs.
    pub out_ns: u64,
    /// When it became runnable again.
    pub woken_ns: u64,
    /// How it left the CPU: bits of its state, 0 while it was runnable.
    pub out_state: u32,
    /// 1: a filter turned the call in flight into a signal (`SECCOMP_RET_TRAP`), whose handler gives the result.
    pub trapped: u32,
    /// Where its last page fault in user mode was; 0 before the first.
    pub fault_address: u64,
    /// The call before that ([`Call::t_ns`]).
    pub fault_call: u64,
    /// When the task began (`task_struct.start_boottime`); 0 when it was there before.
    pub start_ns: u64,
    /// What it has done since the last [`UsageEvent`].
    pub usage: Usage,
    /// What was copied for the call in flight. The verifier wants as many bytes behind it as it has itself.
    pub copies: [u64; COPIES / 8],
    /// Files that were resolved before, by [`known_at`].
    pub known: [KnownFile; KNOWN],
    /// The file that was opened last.
    pub opened: OpenedFile,
    /// What makes each begin where a cache line does.
    pub padding: [u64; 4],
}

/// Values of [`Slot::busy`].
pub mod progress {
    /// No call was seen yet: one may have been under way when the recording began.
    pub const UNSEEN: u32 = 0;
    /// In a call whose entry was seen.
    pub const IN_CALL: u32 = 1;
    /// Between two calls: an exit without an entry is that of a call which a filter (seccomp) answered.
    pub const BETWEEN: u32 = 2;
}

/// Files that a task remembers to be described.
pub const KNOWN: usize = 8;

/// A file that was described to user space.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct KnownFile {
    /// `struct file *`.
    pub file: u64,
    /// Its inode then, address and number in one: the file's address may belong to another later, and the inode's too.
    pub inode: u64,
    /// [`Shared::described`] then: another task may have described another file of this address since.
    pub described: u64,
}

/// A file that was described: what it was then, and where it was found.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct OpenedFile {
    /// `struct file *`.
    pub file: u64,
    /// Its inode, address and number in one.
    pub inode: u64,
    /// Its dentry; 0 for what is a new one whenever it is met again.
    pub dentry: u64,
    /// The dentry's parent.
    pub parent: u64,
    /// Hash and length of the dentry's name.
    pub name: u64,
    /// [`Shared::described`] then.
    pub described: u64,
    /// [`Shared::moves`] then.
    pub moves: u64,
    /// When, in timer ticks; the count wraps.
    pub at: u32,
    /// To whom.
    pub tid: u32,
}

/// Entries of [`Shared::probed`].
pub const PROBED: usize = 256;

/// Counters in [`Shared::described`].
pub const DESCRIBED: usize = 1024;

/// Where a file is remembered. Structures in the kernel are aligned to cache lines of 64 bytes.
#[must_use]
pub const fn known_at(file: u64) -> usize {
    ((file >> 6 ^ file >> 9 ^ file >> 12) & (KNOWN as u64 - 1)) as usize
}

/// What a recorded task is in the middle of, by the number of its slot: a kprobe sees the beginning of a function, and
/// how it ends is seen elsewhere. Used on kernels without the tracepoints that tell both at once.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Pending {
    /// Entry of the call ([`Call::t_ns`]) that moves data through a socket.
    pub call_ns: u64,
    /// Address of its `struct sock`.
    pub sk: u64,
    /// 1: it receives, 0: it sends.
    pub received: u32,
    /// The capability that is being asked for, plus 1; 0: none.
    pub capability: u32,
}

/// Sums of a stretch of a task's time.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Start of the stretch; 0: none was begun.
    pub from_ns: u64,
    /// When it got the CPU that it has; 0 while it has none, or had it at the start.
    pub on_ns: u64,
    /// On a CPU.
    pub cpu_ns: u64,
    /// Runnable and not running.
    pub wait_ns: u64,
    /// The task's fault counters at the start.
    pub faults: [u64; 2],
    /// Times it gave the CPU up.
    pub yields: u32,
    /// Times the CPU was taken from it.
    pub preemptions: u32,
}

/// A stretch of a task's time. The task's time outside of its stretches it was blocked.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct UsageEvent {
    /// [`crate::kind::USAGE`].
    pub kind: u8,
    /// Must be 0.
    pub reserved: [u8; 3],
    /// The task.
    pub tid: u32,
    /// End.
    pub t_ns: u64,
    /// Start.
    pub from_ns: u64,
    /// On a CPU.
    pub cpu_ns: u64,
    /// Runnable and not running.
    pub wait_ns: u64,
    /// Minor and major faults.
    pub faults: [u64; 2],
    /// Times it gave the CPU up.
    pub yields: u32,
    /// Times the CPU was taken from it.
    pub preemptions: u32,
}

/// A page fault in user mode that blocked.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct FaultEvent {
    /// [`crate::kind::FAULT`].
    pub kind: u8,
    /// Must be 0.
    pub reserved: [u8; 3],
    /// The task.
    pub tid: u32,
    /// When it went on.
    pub t_ns: u64,
    /// What was touched.
    pub address: u64,
    /// How long it was blocked.
    pub blocked_ns: u64,
}

/// A victim of the OOM killer. Followed by the path of the cgroup whose limit it is about: the names of its folder and of
/// those above it, the innermost first, each with its NUL.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct OomEvent {
    /// [`crate::kind::OOM`].
    pub kind: u8,
    /// Must be 0.
    pub reserved: [u8; 3],
    /// The victim.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Its process.
    pub tgid: u32,
    /// The task of the scope whose allocation set it off, or 0.
    pub by: u32,
    /// Resident pages, without what is still in per-CPU counters.
    pub rss_pages: u64,
    /// The victim's name.
    pub comm: [u8; 16],
    /// Pages that the nearest memory cgroup which was at its limit may have; 0: none was.
    pub limit_pages: u64,
    /// Pages that it had.
    pub usage_pages: u64,
}

/// Checks of a capability.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct CapEvent {
    /// [`crate::kind::CAPABILITY`].
    pub kind: u8,
    /// 1: the task has it.
    pub granted: u8,
    /// `CAP_*`.
    pub capability: u16,
    /// The task.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// The task's start.
    pub start_ns: u64,
    /// Checks since the last such event.
    pub count: u64,
    /// The call that it was asked in, see [`CapKey::call`].
    pub call: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// Checks that are counted together.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct CapKey {
    /// The task's start.
    pub start_ns: u64,
    /// The task.
    pub tid: u32,
    /// The call's number, with [`crate::abi`] from bit 24 on; [`crate::MISSING`] outside of calls.
    pub call: u32,
    /// `CAP_*`.
    pub capability: u16,
    /// 1: granted.
    pub granted: u16,
    /// Must be 0.
    pub reserved: u32,
}

/// A new task.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Fork {
    /// [`crate::kind::FORK`].
    pub kind: u8,
    /// 1 when the child is not recorded.
    pub outside: u8,
    /// Must be 0.
    pub reserved: u16,
    /// The parent.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Parent's process.
    pub tgid: u32,
    /// Child.
    pub child_tid: u32,
    /// Child's process.
    pub child_tgid: u32,
    /// The group that the child is in, as user space numbered it; 0 for a scope without cgroups.
    pub group: u32,
    /// Child's start.
    pub start_ns: u64,
    /// Child's name.
    pub comm: [u8; 16],
}

/// Longest path of a program that is reported, the NUL included (`PATH_MAX`, include/uapi/linux/limits.h).
pub const MAX_PROGRAM: usize = 4096;
/// Bytes of the arguments of a new program that are reported.
pub const MAX_ARGUMENTS: usize = 4096;

/// Bits of [`Exec::flags`].
pub mod exec_flag {
    /// Another program interprets the file: the arguments are those of the interpreter (`bprm->interp`).
    pub const INTERPRETED: u8 = 1;
    /// There are more arguments than are reported.
    pub const ARGUMENTS_CUT: u8 = 1 << 1;
}

/// A new program. Followed by its path (`bprm->filename`) without a NUL, and by its arguments, each with its NUL.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Exec {
    /// [`crate::kind::EXEC`].
    pub kind: u8,
    /// [`exec_flag`].
    pub flags: u8,
    /// Bytes of the path.
    pub path_len: u16,
    /// The task.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Its process.
    pub tgid: u32,
    /// Its thread id before.
    pub old_tid: u32,
    /// Who it acts as.
    pub creds: Creds,
    /// Its name.
    pub comm: [u8; 16],
    /// Number of its arguments.
    pub argc: u32,
    /// Bytes of them that are reported.
    pub args_len: u32,
}

/// The end of a task.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Exit {
    /// [`crate::kind::EXIT`].
    pub kind: u8,
    /// 1: the last thread of its process.
    pub group_dead: u8,
    /// Must be 0.
    pub reserved: u16,
    /// The task.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Its process.
    pub tgid: u32,
    /// `task_struct.exit_code`.
    pub code: u32,
}

/// A new name.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Comm {
    /// [`crate::kind::COMM`].
    pub kind: u8,
    /// Must be 0.
    pub reserved: [u8; 3],
    /// The task.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Its name.
    pub comm: [u8; 16],
}

/// A signal.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct SignalEvent {
    /// [`crate::kind::SIGNAL`].
    pub kind: u8,
    /// 1: delivered, 0: generated.
    pub delivered: u8,
    /// Signal number.
    pub signo: u16,
    /// Receiver.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Sender when it is a task of the scope, or 0.
    pub sender: u32,
    /// `si_code`.
    pub code: i32,
    /// Process that sent it and is not recorded, or 0. A record without such a sender ends here.
    pub outside: u32,
    /// Must be 0.
    pub reserved: u32,
    /// The sender's name.
    pub comm: [u8; 16],
}

const _: () = {
    assert!(size_of::<Usage>() == 56);
    assert!(size_of::<UsageEvent>() == 64);
    assert!(size_of::<FaultEvent>() == 32);
    assert!(size_of::<OomEvent>() == 64);
    assert!(size_of::<CapKey>() == 24);
    assert!(size_of::<CapEvent>() == 40);
    assert!(size_of::<Pending>() == 24);
    assert!(size_of::<OpenedFile>() == 64);
    assert!(size_of::<Slot>() == 128 + 104 + 56 + COPIES + 24 * KNOWN + 64 + 32);
    assert!(size_of::<Slot>().is_multiple_of(64));
    assert!(size_of::<Slot>() - core::mem::offset_of!(Slot, copies) >= 2 * COPIES);
    assert!(size_of::<Shared>() == 64 + 8 * PROBED + DESCRIBED * 8 + STACKS * 10);
    assert!(size_of::<Fork>() == 56);
    assert!(size_of::<Exec>() == 24 + 16 + 16 + 8);
    assert!(size_of::<Exit>() == 24);
    assert!(size_of::<Comm>() == 32);
    assert!(size_of::<SignalEvent>() == 48);
};
