//! The types that the kernel half and the user half of the recorder share.
//!
//! This is the wire between one build of the recorder and the eBPF object embedded in it; nothing here is ever
//! written to a file. Every structure is `repr(C)` without implicit padding (checked below), so that the verifier
//! never sees uninitialised bytes leave the kernel.
#![no_std]

/// Value of a system call's sixth argument register that marks a coordination call of the replay engine.
///
/// The kernel ignores that register for calls with fewer than six arguments, and `FUTEX_WAIT`/`FUTEX_WAKE` ignore
/// it too (`kernel/futex/syscalls.c`: `val3` is only used by the bitset, requeue-compare and wake-op operations).
pub const ENGINE_MARK: u64 = 0xC7AC_E0E0_5EED_0001;

/// Number of bulk rings in the object. CPUs beyond it share (`cpu % RINGS`).
pub const RINGS: u32 = 16;
/// Slots for tasks of the scope: slot 0 is never used (0 in the task table means "not recorded").
pub const SLOTS: u32 = 32_768;
/// A bulk ring is a number of segments; a record does not cross from one into the next.
pub const SEGMENT: usize = 1 << 16;
/// The last place of a segment at which a record may begin.
pub const SEGMENT_LAST: u64 = (SEGMENT - 160) as u64;
/// Kernel stacks that are told apart in [`Shared`].
pub const STACKS: usize = 4096;
/// Entries of the map of aggregates.
pub const AGGREGATES: u32 = 32_768;
/// Length of the interval of an aggregate.
pub const WINDOW_NS: u64 = 100_000_000;
/// Classes of durations of an aggregate: `log2(ns)`, longer ones in the last.
pub const BUCKETS: usize = 40;
/// Task table entry of a task that is in scope but got no slot: its calls are counted as lost.
pub const NO_SLOT: u16 = u16::MAX;
/// Entries of the call specification table: native numbers first, then those of 32-bit calls.
pub const SPECS: u32 = 1024;
/// Index of the first entry for 32-bit calls.
pub const SPEC_COMPAT: u32 = 512;
/// Most copies that one call can ask for, entry and exit together.
pub const MAX_OPS: usize = 6;
/// Longest string copied from user space, the NUL included (`PATH_MAX`, include/uapi/linux/limits.h).
pub const MAX_STR: usize = 4096;
/// Longest list of fixed-size items copied (pollfd, `epoll_event`).
pub const MAX_ITEMS: usize = 64;
/// Most words of an argument vector that are copied.
pub const MAX_ARGV: usize = 32;
/// Longest word of an argument vector that is copied, the NUL included.
pub const MAX_WORD: usize = 256;
/// Most components of a path.
pub const MAX_COMPONENTS: usize = 48;
/// Size of a record under construction.
pub const SCRATCH: usize = 16_384;
/// Value of [`Slot::fresh`] of a task that waits at the recorder's gate.
pub const HELD: u32 = 2;
/// Number of a group of which only this is known: its tasks are recorded. Smaller numbers are containers'.
pub const UNNAMED_GROUP: u32 = 0x4000_0000;
/// Longest path of a cgroup that is reported, the NUL included (`TRACE_CGROUP_PATH_LEN`, kernel/cgroup/cgroup-internal.h).
pub const MAX_GROUP_PATH: usize = 1024;
/// "This kernel has no such field".
pub const MISSING: u32 = u32::MAX;

/// What a ring record is: the first byte of each.
pub mod kind {
    /// [`crate::Call`].
    pub const CALL: u8 = 1;
    /// [`crate::CallArgs`]: what was copied at the entry of a call; precedes its CALL.
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
    /// [`crate::Short`]: a call without a tail.
    pub const SHORT: u8 = 100;
    /// [`crate::LevelChange`].
    pub const LEVEL: u8 = 101;
    /// [`crate::AggregateRecord`]: made in user space of an entry of the map of aggregates.
    pub const AGGREGATE: u8 = 102;
}

/// Bits of [`Call::flags`].
pub mod call_flag {
    /// The exit had no entry.
    pub const NO_ENTER: u16 = 1;
    /// There was no exit.
    pub const NO_EXIT: u16 = 1 << 1;
    /// The sixth argument is [`crate::ENGINE_MARK`].
    pub const ENGINE: u16 = 1 << 2;
    /// Something could not be copied completely.
    pub const TRUNCATED: u16 = 1 << 3;
    /// An [`crate::CallArgs`] record was sent at entry.
    pub const HAS_ARGS: u16 = 1 << 4;
    /// [`crate::Call::time_ns`] holds the call's timeout.
    pub const HAS_TIME: u16 = 1 << 5;
    /// The file was created by this call.
    pub const CREATED: u16 = 1 << 6;
    /// The entry copies must be tried again at exit: the page was not resident.
    pub const RETRY: u16 = 1 << 7;
    /// There is something to do at the call's exit besides telling of it.
    pub const AT_EXIT: u16 = 1 << 8;
}

/// Bits of [`Short::flags`] above those of [`call_flag`]: what follows the core, in this order.
pub mod short_flag {
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

/// How a call was made.
pub mod abi {
    /// Native 64-bit.
    pub const NATIVE: u8 = 0;
    /// 32-bit: i386 on x86-64 (`int 0x80`, `sysenter`, `syscall32`), `AArch32` on aarch64.
    pub const COMPAT: u8 = 1;
    /// x32.
    pub const X32: u8 = 2;
}

/// Values of [`Globals::machine`](crate::Globals::machine).
pub mod machine {
    /// x86-64.
    pub const X86_64: u32 = 1;
    /// aarch64.
    pub const AARCH64: u32 = 2;
}

/// Bits of [`Spec::flags`].
pub mod spec_flag {
    /// `fd_arg` is a descriptor to resolve at entry.
    pub const FD: u8 = 1;
    /// The result is a new descriptor.
    pub const RET_FD: u8 = 1 << 1;
    /// Some op runs at entry.
    pub const AT_ENTRY: u8 = 1 << 2;
    /// Some op runs at exit.
    pub const AT_EXIT: u8 = 1 << 3;
    /// `time_arg` points to a time to read at entry.
    pub const TIME: u8 = 1 << 4;
    /// The call opens a path: look for `FMODE_CREATED`.
    pub const OPENS: u8 = 1 << 5;
    /// The new descriptor is one of a new file, not of one that was there (as `dup` makes): describe it anew.
    pub const NEW_FILE: u8 = 1 << 6;
    /// Copy whatever the level: such calls are rare and tell the most (`execve`).
    pub const ALWAYS: u8 = 1 << 7;
}

/// What [`Op`] copies. The value is also the type of the resulting [`Tlv`].
pub mod op {
    /// Nothing.
    pub const NONE: u8 = 0;
    /// A NUL-terminated string.
    pub const STR: u8 = 1;
    /// A socket address whose length is argument `len`.
    pub const ADDR: u8 = 2;
    /// A socket address whose length is behind argument `len`.
    pub const ADDR_OUT: u8 = 3;
    /// `size` bytes.
    pub const BYTES: u8 = 4;
    /// Bytes whose number is argument `len`, at most 64.
    pub const OPT: u8 = 5;
    /// An iovec array, `len` entries: sum and count (two u64).
    pub const IOV: u8 = 6;
    /// A msghdr: its iovec, as an `IOV` item.
    pub const MSG: u8 = 7;
    /// pollfd array, `len` entries.
    pub const POLL: u8 = 8;
    /// `epoll_event` array, as many as the call returned.
    pub const EPOLL: u8 = 9;
    /// An argument vector: u32 count, then NUL-terminated words.
    pub const ARGV: u8 = 10;
    /// Two descriptors, read at exit, with the objects behind them: i32, i32, u64, u64.
    pub const FDS: u8 = 11;
    /// The object behind a further descriptor argument: u64.
    pub const OBJECT: u8 = 12;
    /// An `fd_set` of as many bits as argument 0 says.
    pub const FDSET: u8 = 13;
    /// A msghdr: its name, as an `ADDR` item.
    pub const MSG_NAME: u8 = 14;
    /// `size` bytes, if there are any: the argument may be no pointer.
    pub const PEEK: u8 = 15;
    /// Who the task acts as ([`crate::Creds`]); whatever the argument is.
    pub const CREDS: u8 = 16;
    /// Nothing: paths may lead elsewhere from now on.
    pub const MOVES: u8 = 17;
}

/// One copy that a call asks for.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Op {
    /// What to do: [`op`].
    pub op: u8,
    /// Argument that it belongs to.
    pub arg: u8,
    /// Argument that holds a length or count, where the op needs one.
    pub len: u8,
    /// [`when`].
    pub when: u8,
    /// Fixed size, where the op needs one.
    pub size: u16,
    /// Must be 0.
    pub reserved: u16,
}

/// When an [`Op`] runs.
pub mod when {
    /// At entry.
    pub const ENTRY: u8 = 0;
    /// At exit, if the call succeeded.
    pub const EXIT_OK: u8 = 1;
    /// At exit.
    pub const EXIT: u8 = 2;
}

/// What to do for one call number. Written by user space before arming.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Spec {
    /// [`spec_flag`].
    pub flags: u8,
    /// Argument that is the first descriptor.
    pub fd_arg: u8,
    /// Argument that points to a time.
    pub time_arg: u8,
    /// 0: `timespec`, 1: `timeval`, 2: `itimerspec` (its `it_value`); bit 2 set: 32-bit layout.
    pub time_kind: u8,
    /// Number of ops used.
    pub ops_len: u8,
    /// Number of arguments that the call has.
    pub nargs: u8,
    /// Where the call's data are, and what its result counts: [`data`].
    pub data: u8,
    /// Must be 0.
    pub reserved: u8,
    /// The copies.
    pub ops: [Op; MAX_OPS],
}

/// Where a call keeps what it sends or receives, for messages that are looked at (DNS). The result of such a call is a
/// number of bytes, that of [`data::MESSAGES`] a number of messages.
pub mod data {
    /// Nowhere.
    pub const NONE: u8 = 0;
    /// Argument 1, of the length in argument 2; an address may be argument 4.
    pub const BUFFER: u8 = 1;
    /// Argument 1 is a `msghdr`.
    pub const MESSAGE: u8 = 2;
    /// Argument 1 is an array of `mmsghdr`.
    pub const MESSAGES: u8 = 3;
    /// Argument 1 is an array of `iovec`, as many as argument 2 says.
    pub const VECTOR: u8 = 4;
}

/// A completed (or unfinished) call. Followed by [`Tlv`] items up to the end of the record.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Call {
    /// [`kind::CALL`].
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
    /// [`op`].
    pub op: u8,
    /// Argument index.
    pub arg: u8,
    /// Bytes of data that follow; padded to a multiple of 8.
    pub len: u16,
    /// 1: longer than copied, 2: could not be read.
    pub fault: u16,
    /// Op-specific.
    pub aux: u16,
}

/// What was copied at entry; [`Tlv`] items follow.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct CallArgs {
    /// [`kind::ARGS`].
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

/// The core of a call without a tail, as the bulk ring has it. See [`short_flag`] for what follows.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Short {
    /// [`kind::SHORT`].
    pub kind: u8,
    /// [`abi`].
    pub abi: u8,
    /// [`call_flag`] and [`short_flag`].
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
    /// As [`Call::file`].
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
    /// Stacks of tasks that are not recorded, each with the epoch in which that was found.
    pub foreign: [u64; STACKS],
    /// Hints: the slot that a stack belongs to, if that slot says the same.
    pub slots: [u16; STACKS],
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
    /// [`abi`].
    pub abi: u8,
    /// [`call_flag`], its low bits.
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
    /// [`kind::AGGREGATE`].
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
    /// [`kind::LEVEL`].
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

/// State of one recorded task: a value of the slot array.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slot {
    /// The call in flight, if `busy`.
    pub call: Call,
    /// 1 while a call is in flight.
    pub busy: u32,
    /// 1 until the task's first entry: the child's return from clone has no entry and is not reported.
    /// [`HELD`] until its first `execve`: nothing before that is reported.
    pub fresh: u32,
    /// The task's kernel stack (see [`Shared`]); 0 until it is known, and when the slot is free.
    pub stack: u64,
    /// When the task began (`task_struct.start_boottime`); 0 when it was there before.
    pub start_ns: u64,
    /// Arguments of the call in flight that were read.
    pub nargs: u64,
    /// The last file that was resolved for this task.
    pub last_file: u64,
    /// Files that were resolved before, by [`known_at`].
    pub known: [KnownFile; KNOWN],
    /// When the task was switched out; 0 while it runs.
    pub out_ns: u64,
    /// When it became runnable again.
    pub woken_ns: u64,
    /// Waited for a CPU outside of a call since the last record.
    pub wait_cpu_ns: u64,
    /// Blocked since the last record.
    pub blocked_ns: u64,
    /// How it left the CPU: bits of its state, 0 while it was runnable.
    pub out_state: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Its last page fault in user mode.
    pub fault_ns: u64,
    /// Where.
    pub fault_address: u64,
    /// What it has done since the last [`UsageEvent`].
    pub usage: Usage,
}

/// Files that a task remembers to be described.
pub const KNOWN: usize = 8;

/// A file that was described to user space.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct KnownFile {
    /// `struct file *`.
    pub file: u64,
    /// Its inode then: the address may belong to another file later.
    pub inode: u64,
}

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
    /// [`kind::USAGE`].
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
    /// [`kind::FAULT`].
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

/// A victim of the OOM killer.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct OomEvent {
    /// [`kind::OOM`].
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
}

/// Checks of a capability.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct CapEvent {
    /// [`kind::CAPABILITY`].
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
    /// The call's number, with [`abi`] from bit 24 on; [`MISSING`] outside of calls.
    pub call: u32,
    /// `CAP_*`.
    pub capability: u16,
    /// 1: granted.
    pub granted: u16,
    /// Must be 0.
    pub reserved: u32,
}

/// What went through a socket that is no TCP socket, in all so far: a value of the traffic map, and the rest of
/// a [`TrafficEvent`].
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Traffic {
    /// Inode number.
    pub ino: u64,
    /// `skc_cookie` or 0.
    pub cookie: u64,
    /// When the count began: with the socket's address, its identity.
    pub born_ns: u64,
    /// When it was last reported.
    pub from_ns: u64,
    /// When it was last used.
    pub used_ns: u64,
    /// The task that used it last.
    pub tid: u32,
    /// `AF_*`.
    pub family: u16,
    /// `SOCK_*`.
    pub kind_: u16,
    /// `IPPROTO_*`.
    pub protocol: u16,
    /// 1: it was used to ask a DNS server.
    pub dns: u16,
    /// Must be 0.
    pub reserved: u32,
    /// Messages sent.
    pub sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Messages received.
    pub received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// The tuple.
    pub tuple: Tuple,
}

/// The state of a socket's traffic.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TrafficEvent {
    /// [`kind::TRAFFIC`].
    pub kind: u8,
    /// Must be 0.
    pub reserved: [u8; 3],
    /// The task that used it last.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Address of its `struct sock`.
    pub sk: u64,
    /// In all so far.
    pub traffic: Traffic,
}

/// A message to or from a DNS server; up to [`MAX_DNS`] bytes of it follow.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct DnsEvent {
    /// [`kind::DNS`].
    pub kind: u8,
    /// [`dns_how`].
    pub how: u8,
    /// Bytes of the message that follow.
    pub len: u16,
    /// The task.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Address of its `struct sock`.
    pub sk: u64,
    /// `skc_cookie` or 0.
    pub cookie: u64,
    /// Inode number.
    pub ino: u64,
    /// The address that the call gave, as `struct sockaddr`; family 0: none.
    pub to: [u8; 32],
    /// The tuple.
    pub tuple: Tuple,
}

/// Bits of [`DnsEvent::how`].
pub mod dns_how {
    /// It was received, not sent.
    pub const RECEIVED: u8 = 1;
    /// Over TCP.
    pub const STREAM: u8 = 1 << 1;
}

/// Most bytes of a DNS message that are copied.
pub const MAX_DNS: usize = 512;

/// A request of a block device: a value of the map of requests, and the end of a [`BlockEvent`].
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct BlockEvent {
    /// [`kind::BLOCK`].
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
    /// [`kind::URING`].
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

/// A new task.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Fork {
    /// [`kind::FORK`].
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

/// A new program.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Exec {
    /// [`kind::EXEC`].
    pub kind: u8,
    /// Must be 0.
    pub reserved: [u8; 3],
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
    /// `bprm->filename`, NUL-terminated.
    pub path: [u8; 512],
}

/// The end of a task.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Exit {
    /// [`kind::EXIT`].
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
    /// [`kind::COMM`].
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

/// A task that entered or left the scope by moving between cgroups.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Join {
    /// [`kind::JOIN`] or [`kind::LEAVE`].
    pub kind: u8,
    /// Must be 0.
    pub reserved: [u8; 3],
    /// The task.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Its process.
    pub tgid: u32,
    /// The group that it is in, as user space numbered it.
    pub group: u32,
    /// Its start.
    pub start_ns: u64,
    /// Its name.
    pub comm: [u8; 16],
}

/// A cgroup of the watched hierarchy that was made or is removed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Group {
    /// [`kind::GROUP`].
    pub kind: u8,
    /// 1: removed, 0: made.
    pub removed: u8,
    /// Must be 0.
    pub reserved: u16,
    /// The recorded group that it is or is below, as user space numbered it; 0: none.
    pub group: u32,
    /// When.
    pub t_ns: u64,
    /// Its identity (`kernfs_node.id`).
    pub id: u64,
    /// Its path below the root of its hierarchy, NUL-terminated.
    pub path: [u8; MAX_GROUP_PATH],
}

/// A file (not a socket), seen for the first time. Path components follow, leaf first, each with a NUL.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct FileObject {
    /// [`kind::FILE`].
    pub kind: u8,
    /// 1: the path has more components than were copied; 2: unlinked; 4: a pseudo file without a place in the tree;
    /// 8: made by the call that met it.
    pub flags: u8,
    /// Bytes of path.
    pub path_len: u16,
    /// Who met it.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Its identity.
    pub file: u64,
    /// Address of its inode.
    pub inode: u64,
    /// `i_ino`.
    pub ino: u64,
    /// `i_size`.
    pub size: u64,
    /// `i_mode`.
    pub mode: u32,
    /// `i_rdev`, kernel encoding.
    pub rdev: u32,
    /// `s_dev`, kernel encoding.
    pub dev: u32,
    /// `s_magic`, low half.
    pub magic: u32,
    /// `f_mode`.
    pub f_mode: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// A socket, seen for the first time. Addresses are in `sockaddr` form without the family.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SockObject {
    /// [`kind::SOCK`].
    pub kind: u8,
    /// Bytes of `unix_local`.
    pub unix_local_len: u8,
    /// Bytes of `unix_peer`.
    pub unix_peer_len: u8,
    /// Must be 0.
    pub reserved: u8,
    /// Who met it.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Identity of its file; 0 when it was met without one (a child of a listener).
    pub file: u64,
    /// Address of its `struct sock`.
    pub sk: u64,
    /// `skc_cookie`, 0 while nobody asked for it.
    pub cookie: u64,
    /// Inode number, 0 without a file.
    pub ino: u64,
    /// `AF_*`.
    pub family: u16,
    /// `SOCK_*`.
    pub kind_: u16,
    /// `IPPROTO_*`.
    pub protocol: u16,
    /// TCP state.
    pub state: u16,
    /// The tuple.
    pub tuple: Tuple,
    /// Local unix address after the family.
    pub unix_local: [u8; 108],
    /// Peer's unix address after the family.
    pub unix_peer: [u8; 108],
}

/// Addresses and ports of an inet socket.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Tuple {
    /// Local address: IPv4 in the first 4 bytes, or IPv6.
    pub local: [u8; 16],
    /// Remote address.
    pub remote: [u8; 16],
    /// Local port, host order.
    pub local_port: u16,
    /// Remote port, host order.
    pub remote_port: u16,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Must be 0.
    pub reserved: u16,
}

/// Something happened to a TCP socket of the scope.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TcpEvent {
    /// [`kind::TCP`].
    pub kind: u8,
    /// [`tcp`].
    pub what: u8,
    /// State before.
    pub old: u8,
    /// State after.
    pub new: u8,
    /// Task of the scope that caused it, or 0.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Address of its `struct sock`.
    pub sk: u64,
    /// `skc_cookie` or 0.
    pub cookie: u64,
    /// Inode number, 0 when it has no file (yet).
    pub ino: u64,
    /// `sk_err`.
    pub error: u32,
    /// `srtt_us >> 3`.
    pub srtt_us: u32,
    /// `bytes_acked` or `bytes_sent`.
    pub sent: u64,
    /// `bytes_received`.
    pub received: u64,
    /// `total_retrans`.
    pub retransmits: u32,
    /// `snd_cwnd`.
    pub cwnd: u32,
    /// `snd_wnd`.
    pub send_window: u32,
    /// `packets_out`.
    pub in_flight: u32,
    /// The tuple.
    pub tuple: Tuple,
}

/// Values of [`TcpEvent::what`].
pub mod tcp {
    /// `inet_sock_set_state`.
    pub const STATE: u8 = 1;
    /// `tcp_retransmit_skb`.
    pub const RETRANSMIT: u8 = 2;
    /// `tcp_send_reset`.
    pub const RESET_SENT: u8 = 3;
    /// `tcp_receive_reset`.
    pub const RESET_RECEIVED: u8 = 4;
    /// `tcp_destroy_sock`.
    pub const DESTROY: u8 = 5;
    /// `tcp_probe`.
    pub const SAMPLE: u8 = 6;
}

/// A signal.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct SignalEvent {
    /// [`kind::SIGNAL`].
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

/// What user space tells the programs before they are loaded: switches, and offsets of kernel structure fields in
/// bytes, [`MISSING`] where this kernel has none.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "offset fields are named structure_field as in the kernel")]
pub struct Globals {
    /// The recorder's own process: never recorded.
    pub own_tgid: u32,
    /// 0: process tree, 1: cgroup v1, 2: cgroup v2.
    pub scope: u32,
    /// v1: index of the controller in `css_set.subsys`.
    pub subsys: u32,
    /// v2/v1: number of the hierarchy (`cgroup_root.hierarchy_id`); 0 is v2's.
    pub hierarchy: u32,
    /// 1: report cgroups that are made and removed.
    pub watch_groups: u32,
    pub cgroup_root: u32,
    pub root_hierarchy: u32,
    /// 1: measure time off CPU.
    pub sched: u32,
    /// Bits of the word at `task_compat` that say that the running call is a 32-bit one.
    pub compat_mask: u32,
    /// Whose registers these are: [`machine`].
    pub machine: u32,
    /// Bit of a call's number that marks x32 calls; 0 where there are none.
    pub x32_bit: u32,
    /// Size of `struct epoll_event`: packed on x86-64 only (include/uapi/linux/eventpoll.h).
    pub epoll_event_bytes: u32,
    /// Timer ticks (`jiffies`) between two samples of a connection.
    pub sample_ticks: u32,
    /// Offset in `struct pt_regs` of the argument registers: `r10` (x86-64), `regs` (aarch64).
    pub regs_args: u32,
    /// Of what they do not hold: `bp` and `bx`, arguments of i386 calls; `orig_x0`, the first argument after the call.
    pub regs_more: u32,
    /// Of the call's number, 32 bits: `orig_ax`, `syscallno`.
    pub regs_nr: u32,

    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_compat: u32,
    pub task_files: u32,
    pub task_fs: u32,
    pub task_start: u32,
    pub task_exit_code: u32,
    pub task_signal: u32,
    pub task_comm: u32,
    pub task_cgroups: u32,
    pub task_thread_node: u32,
    pub signal_live: u32,
    pub signal_thread_head: u32,
    pub css_set_subsys: u32,
    pub css_set_dfl: u32,
    pub css_cgroup: u32,
    pub cgroup_kn: u32,
    pub cgroup_level: u32,
    pub cgroup_ancestors: u32,
    pub cgroup_ancestors_are_ids: u32,
    pub kn_id: u32,
    pub bprm_filename: u32,
    pub files_fdt: u32,
    pub fdt_max: u32,
    pub fdt_fd: u32,
    pub file_inode: u32,
    pub file_dentry: u32,
    pub file_mnt: u32,
    pub file_mode: u32,
    pub file_private: u32,
    pub inode_mode: u32,
    pub inode_ino: u32,
    pub inode_size: u32,
    pub inode_rdev: u32,
    pub inode_sb: u32,
    pub sb_dev: u32,
    pub sb_magic: u32,
    pub dentry_parent: u32,
    pub dentry_name: u32,
    pub dentry_hash: u32,
    pub dentry_unhashed: u32,
    pub vfsmount_root: u32,
    pub mount_mnt: u32,
    pub mount_parent: u32,
    pub mount_mountpoint: u32,
    pub fs_root_mnt: u32,
    pub fs_root_dentry: u32,
    pub socket_type: u32,
    pub socket_sk: u32,
    pub socket_file: u32,
    pub sk_family: u32,
    pub sk_state: u32,
    pub sk_cookie: u32,
    pub sk_daddr: u32,
    pub sk_rcv_saddr: u32,
    pub sk_dport: u32,
    pub sk_num: u32,
    pub sk_v6_daddr: u32,
    pub sk_v6_rcv_saddr: u32,
    pub sk_protocol: u32,
    pub sk_type: u32,
    pub sk_err: u32,
    pub sk_socket: u32,
    pub unix_addr: u32,
    pub unix_peer: u32,
    pub unix_address_len: u32,
    pub unix_address_name: u32,
    pub tcp_bytes_sent: u32,
    pub tcp_bytes_retrans: u32,
    pub sk_flags: u32,
    pub tcp_bytes_received: u32,
    pub tcp_srtt: u32,
    pub tcp_total_retrans: u32,
    pub siginfo_code: u32,
    pub sk_net: u32,
    pub net_inum: u32,
    pub tcp_cwnd: u32,
    pub tcp_send_window: u32,
    pub tcp_packets_out: u32,
    pub task_min_flt: u32,
    pub task_maj_flt: u32,
    pub task_mm: u32,
    pub task_cred: u32,
    pub cred_uid: u32,
    pub cred_euid: u32,
    pub cred_gid: u32,
    pub cred_egid: u32,
    /// Of the first counter of resident pages.
    pub mm_rss: u32,
    /// From one counter to the next.
    pub mm_rss_stride: u32,
    /// Of the inode, from the `struct socket` on.
    pub socket_inode: u32,
    pub rq_queue: u32,
    pub rq_flags: u32,
    pub rq_data_len: u32,
    pub rq_sector: u32,
    pub rq_part: u32,
    pub part_dev: u32,
    pub queue_disk: u32,
    pub disk_major: u32,
    pub disk_minor: u32,
    pub uring_opcode: u32,
    pub uring_file: u32,
    pub cqe_res: u32,
    pub cqe_flags: u32,
    /// 1: `io_uring_complete` passes the completion's fields instead of a pointer to it.
    pub uring_flat: u32,
    /// Number of `execve`.
    pub nr_execve: u32,
    /// Segments of a CPU's bulk ring, a power of two.
    pub segments: u32,
    /// Offset in `struct pt_regs` of a function's result, when it returns: `ax`, `regs`.
    pub regs_result: u32,
    /// 1: the end of a call tells what went through a socket, see [`Pending`].
    pub sock_by_call: u32,
}

impl Globals {
    /// Nothing known.
    #[must_use]
    pub const fn unknown() -> Self {
        // SAFETY: every field is an integer; every bit pattern is a value.
        let mut g: Self = unsafe { core::mem::transmute([0xff_u8; size_of::<Self>()]) };
        g.own_tgid = 0;
        g.scope = 0;
        g.subsys = 0;
        g.hierarchy = 0;
        g.watch_groups = 0;
        g.sched = 0;
        g.compat_mask = 0;
        g.machine = 0;
        g.x32_bit = 0;
        g.epoll_event_bytes = 0;
        g.sample_ticks = 100;
        g.cgroup_ancestors_are_ids = 0;
        g.nr_execve = 59;
        g.uring_flat = 0;
        g.segments = 4;
        g.sock_by_call = 0;
        g
    }
}

const _: () = {
    assert!(size_of::<Op>() == 8);
    assert!(size_of::<Spec>() == 8 + 8 * MAX_OPS);
    assert!(size_of::<Call>() == 128);
    assert!(size_of::<Pending>() == 24);
    assert!(size_of::<Usage>() == 56);
    assert!(size_of::<UsageEvent>() == 64);
    assert!(size_of::<FaultEvent>() == 32);
    assert!(size_of::<OomEvent>() == 48);
    assert!(size_of::<CapKey>() == 24);
    assert!(size_of::<CapEvent>() == 40);
    assert!(size_of::<Traffic>() == 40 + 16 + 32 + 40);
    assert!(size_of::<TrafficEvent>() == 24 + 128);
    assert!(size_of::<DnsEvent>() == 40 + 32 + 40);
    assert!(size_of::<BlockEvent>() == 56);
    assert!(size_of::<UringEvent>() == 40);
    assert!(size_of::<Creds>() == 16);
    assert!(size_of::<Slot>() == 128 + 64 + 16 * KNOWN + 8 + 24 + 56);
    assert!(size_of::<Short>() == 48);
    assert!(size_of::<Short>() + 10 * 8 < SEGMENT - SEGMENT_LAST as usize);
    assert!(size_of::<Head>() == 128);
    assert!(size_of::<Shared>() == 64 + STACKS * 10);
    assert!(size_of::<AggregateKey>() == 40);
    assert!(size_of::<Aggregate>() == 16 + 4 * BUCKETS);
    assert!(size_of::<AggregateRecord>() == 16 + 40 + 16 + 4 * BUCKETS);
    assert!(size_of::<LevelChange>() == 16);
    assert!(size_of::<Tlv>() == 8);
    assert!(size_of::<CallArgs>() == 16);
    assert!(size_of::<Fork>() == 56);
    assert!(size_of::<Exec>() == 24 + 16 + 16 + 512);
    assert!(size_of::<Exit>() == 24);
    assert!(size_of::<Comm>() == 32);
    assert!(size_of::<Join>() == 48);
    assert!(size_of::<Group>() == 24 + MAX_GROUP_PATH);
    assert!(size_of::<FileObject>() == 72);
    assert!(size_of::<Tuple>() == 40);
    assert!(size_of::<SockObject>() == 48 + 8 + 40 + 216);
    assert!(size_of::<TcpEvent>() == 80 + 40);
    assert!(size_of::<SignalEvent>() == 24);
    assert!(size_of::<Globals>().is_multiple_of(8));
};
