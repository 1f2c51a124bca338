//! Steps: what a task does, one call at a time.

/// One step of a task: wait for others, think, make one call, compare the result. A program has it as [`crate::stored`]
/// says; this is what the worker and the builder work with.
///
/// Order of work: (1) wait until all of `waits` hold; (2) think: sleep `think_sleep_ns`, spin `think_cpu_ns`, counted
/// from the end of the previous step ((1) and (2) overlap); with [`flags::AT`] also wait until `t_ns`; (3) publish
/// "entered"; (4) build the arguments and make the call; (5) apply `post`, compare with `expect`, publish "completed".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// System call number of the native table. For [`Kind::SignalHandler`] the signal number.
    pub nr: u32,
    /// A set of [`flags`].
    pub flags: u32,
    /// A [`Kind`].
    pub kind: u8,
    /// An [`Expect`].
    pub expect_kind: u8,
    /// A [`Post`].
    pub post: u8,
    /// Free for the compiler: low bits of the recorded event's ordinal, shown in messages.
    pub event: u32,
    /// A [`Sel`] per argument.
    pub sel: [u8; 6],
    /// Stream completion ([`flags::STREAM`]): index of the length argument (6: the length is in an [`Sel::Iov`],
    /// [`Sel::Msg`]).
    pub len_arg: u8,
    /// Stream completion: index of the fd argument to poll when the call says `EAGAIN` (usually 0).
    pub fd_arg: u8,
    /// Operands of the selectors.
    pub args: [u64; 6],
    /// Operand of `expect_kind`.
    pub expect: i64,
    /// Operand of `post`.
    pub post_arg: u64,
    /// Operand of `kind`; see there.
    pub aux: u64,
    /// On-CPU time since the previous step, ns.
    pub think_cpu_ns: u64,
    /// Off-CPU time since the previous step, ns (outside of any call; idle, may be shortened to catch up).
    pub think_sleep_ns: u64,
    /// Recorded time of entry, ns since the start of the recording.
    pub t_ns: u64,
    /// Recorded duration, ns.
    pub duration_ns: u64,
    /// Number of [`Wait`]s. Of a step that was read from a program; the builder is told them apart.
    pub waits_len: u32,
    /// Offset of the first of them ([`crate::stored::decode_wait`]), as `waits_len`.
    pub waits: u64,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The call `nr` with the selected arguments.
    Call = 0,
    /// `clone`, `fork`, `vfork`, `clone3`. `aux` = index of the child's task. The worker supplies the child's stack and
    /// the child begins its own program. `args[0]` = clone flags (Imm, exit signal included for all four; for `fork`
    /// and `vfork` ignored), `args[1]` = 0, `args[2]` = parent tid pointer, `args[3]` = child tid pointer, `args[4]` = TLS.
    /// For `clone3` (same operands) the structure is built from them (exit signal = low byte of `args[0]`).
    /// A clone that failed in the recording is a `Call` (with [`flags::FAULT`]).
    Clone = 1,
    /// `execve`/`execveat` that is really made. `args` as the call's (path and argv as [`Sel::Data`]; the environment
    /// argument is replaced by the worker). `aux` = task index as which the new image continues at `post_arg` (step
    /// index): usually the same task and the following step. A failure falls through to the next step.
    Exec = 2,
    /// `exit` or `exit_group`: publishes completion first, never returns.
    Exit = 3,
    /// `rt_sigaction`: `args[0]` = signal, `args[1]` = `sa_flags`, `args[2]` = `sa_mask`, `aux` = [`SIG_DEFAULT`],
    /// [`SIG_IGNORE`], [`SIG_HANDLER`] or [`SIG_QUERY`]. All Imm.
    Sigaction = 4,
    /// A handler for signal `nr` begins here; the steps up to the matching [`Kind::SignalReturn`] are the handler's.
    /// Waits (for real) until the signal has arrived, or the runner forces it on; then the task sends itself the signal.
    /// With [`flags::SURROGATE`] it does so at once. `args[0]` may be a child ([`Sel::Pid`]) of whose death the signal tells: the
    /// task also sends itself the signal once the child has died and none has come, for it was one with another child's.
    SignalHandler = 5,
    /// End of a handler: the recorded `rt_sigreturn`, made by returning from the handler.
    SignalReturn = 6,
    /// Waits for the gate. Steps before it are set-up: they run before recording begins.
    Gate = 7,
    /// No call is made ([`flags::REFUSED`], [`flags::SURROGATE`] or [`flags::MISSING`] say why); counted.
    Skip = 8,
    /// A futex wake or requeue whose recorded result `expect` > 0: first waits until that many waiters are queued on
    /// `args[0]`, or the runner forces it on; then makes the call.
    FutexWake = 9,
    /// Touches memory at `args[0]` ([`Sel::Value`]) for `args[1]` bytes, writing if `args[2]` ≠ 0, a page at a time. No call.
    Touch = 10,
    /// The task was alive outside of any call when the recording ended: park. Also implied after the last step.
    Park = 11,
    /// Waits with an engine-marked `poll` until every descriptor of the blob `args[0]` (`struct pollfd[]`) has one of
    /// its `events`, or the runner forces it on. No call is counted.
    AwaitReady = 12,
    /// Waits, thinks and publishes only. No call is made or counted.
    Sync = 13,
    /// The task stands still for `aux` ns of recorded time, and is later by that from then on: it does not catch up.
    /// `expect`: 1 if this counts as a delay of a call, 0 if another does.
    Delay = 14,
    /// Tells the recorder that a rule of a fault plan hits the call that comes next: a call that the filter answers, with
    /// `args[0..5]`. No call is counted.
    Note = 15,
}

/// Operand of [`flags::HOLDS_NUMBER`]: one that no accept has.
pub const NUMBER_ARG: usize = 4;

/// `Kind::Sigaction` operand: `SIG_DFL`.
pub const SIG_DEFAULT: u64 = 0;
/// `Kind::Sigaction` operand: `SIG_IGN`.
pub const SIG_IGNORE: u64 = 1;
/// `Kind::Sigaction` operand: a handler (the worker's own).
pub const SIG_HANDLER: u64 = 2;
/// `Kind::Sigaction` operand: only the old action is asked for.
pub const SIG_QUERY: u64 = 3;

/// How an operand becomes an argument register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Sel {
    /// The operand itself.
    Imm = 0,
    /// Blob offset → address of its bytes (read-only).
    Data = 1,
    /// Blob offset → address of a fresh copy in the arena (the kernel may write it).
    InOut = 2,
    /// Length → address of that many scratch bytes. Input buffers whose contents do not matter (`write`) use it, too.
    Out = 3,
    /// Task index → its live thread id (a leader's is the process id).
    Pid = 4,
    /// Task index → minus its live thread id (process groups).
    PidNeg = 5,
    /// Value slot and offset ([`value_operand`]) → stored value + offset. Mapping addresses, brk, watch descriptors, ….
    Value = 6,
    /// Futex slot → address of its word (u32, initially 0).
    Futex = 7,
    /// Offset → address in the task's 4 KiB of memory that lives as long as the task (rseq, robust list, TLS …).
    Keep = 8,
    /// Blob of u64 lengths → address of a `struct iovec[]` over scratch bytes.
    Iov = 9,
    /// Blob of a [`MsgDesc`] → address of a `struct msghdr`.
    Msg = 10,
    /// Blob of [`MsgDesc`]s → address of a `struct mmsghdr[]`.
    Mmsg = 11,
    /// Nanoseconds (relative) → address of a `struct timespec`, divided by the speed.
    Timespec = 12,
    /// Nanoseconds (relative) → address of a `struct timeval`, divided by the speed.
    Timeval = 13,
    /// Nanoseconds (relative) → milliseconds as a value, rounded up, divided by the speed; `u64::MAX` → −1.
    Millis = 14,
    /// [`clock_operand`] → address of a `struct timespec` that lies that many ns after now on that clock.
    AbsTimespec = 15,
    /// Blob of two u64 (interval, value; ns, relative) → address of a `struct itimerspec`.
    Itimerspec = 16,
    /// Blob of two u64 (interval, value; ns, relative) → address of a `struct itimerval`.
    Itimerval = 17,
    /// Blob of three u64 (interval ns, ns from now, clock id) → address of a `struct itimerspec` with an absolute value.
    AbsItimerspec = 18,
    /// Size (capped) → address of a `stack_t` naming the task's alternate stack.
    AltStack = 19,
    /// Blob of a [`PathPid`] → address of a path with a task's live id in it.
    PathPid = 20,
    /// Offset (< 1 GiB) → address in a region that stands for mappings the program itself did not make (its image, the
    /// loader's, the stack): whole pages that may be protected, advised, unmapped. Every image has a fresh one.
    StandIn = 21,
    /// [`soft_limit`] → address of a `struct rlimit64` with that soft limit, as far as the caller's hard limit allows, and with
    /// the hard limit as it is.
    SoftLimit = 22,
}

/// Operand of [`Sel::Value`]: slot < 2^24, |offset| < 2^39.
pub const fn value_operand(slot: u32, offset: i64) -> u64 {
    ((slot as u64) << 40) | (offset as u64 & 0xff_ffff_ffff)
}

/// The parts of [`value_operand`].
pub const fn value_parts(operand: u64) -> (u32, i64) {
    ((operand >> 40) as u32, ((operand << 24) as i64) >> 24)
}

/// Operand of [`Sel::SoftLimit`]: which resource, and the limit (< 2^56; anything above counts as no limit).
pub const fn soft_limit(resource: u64, soft: u64) -> u64 {
    let most = (1 << 56) - 1;
    resource << 56 | if soft < most { soft } else { most }
}

/// The parts of [`soft_limit`].
pub const fn soft_limit_parts(operand: u64) -> (u64, u64) {
    (operand >> 56, operand & ((1 << 56) - 1))
}

/// Operand of [`Sel::AbsTimespec`]: clock id and ns from now (< 2^56).
pub const fn clock_operand(clock: u8, ns: u64) -> u64 {
    ((clock as u64) << 56) | (ns & 0x00ff_ffff_ffff_ffff)
}

/// The parts of [`clock_operand`].
pub const fn clock_parts(operand: u64) -> (u8, u64) {
    ((operand >> 56) as u8, operand & 0x00ff_ffff_ffff_ffff)
}

/// What the result is compared with. Anything else is a divergence: counted and journaled, never fatal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Expect {
    /// Anything.
    Any = 0,
    /// Exactly `expect` (results and −errno alike).
    Exact = 1,
    /// Not an error.
    Success = 2,
    /// Error or not, as `expect` is (readiness calls: 0, > 0, −errno classes compared: −errno exactly).
    Ready = 3,
    /// Live thread id of task `expect`.
    Pid = 4,
    /// The call never returned in the recording. If it returns here, that is a divergence (and the task goes on).
    Never = 5,
    /// `expect` bytes in all on a stream (with [`flags::STREAM`]).
    Bytes = 6,
}

/// What is done with the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Post {
    /// Nothing.
    None = 0,
    /// The result is a new descriptor: move it to the number `post_arg & 0xffff_ffff` (bit 32: close-on-exec).
    Fd = 1,
    /// Two descriptors were written to the scratch of argument [`fds_operand`]: move them.
    Fds = 2,
    /// Store the result in value slot `post_arg`; then touch `aux` bytes at it (writing, a page at a time).
    StoreValue = 3,
    /// Then wait with an engine-marked `poll` until each descriptor of the blob `post_arg` (`struct pollfd[]`) is ready, or
    /// the runner forces it on. For readiness calls whose recorded answer named several descriptors.
    AwaitReady = 4,
    /// Touch `aux` bytes at the address in `args[0]` after resolution (mprotect, madvise …).
    Touch = 5,
    /// A u32 that the call wrote to the scratch of argument `aux` is stored in value slot `post_arg` (timer ids).
    StoreOut = 6,
    /// As [`Post::AwaitReady`], after an `epoll_wait` of an instance that reports changes: `revents` is 1 where a change is
    /// reported once. What came late is taken.
    Delivered = 7,
    /// Descriptors came with the message of argument 1, or with the messages of one that takes several: they are moved to
    /// the numbers that the blob `post_arg` says: close-on-exec or not (u32), then for each which message and number
    /// (two u32).
    Passed = 8,
}

/// `fd_arg` and `aux` of a step that is made again when the descriptor of an argument has one of some events, and that of
/// another argument one of others.
pub const fn ready_operand(arg: u8, events: u16, other: Option<(u8, u16)>) -> (u8, u64) {
    let aux = match other {
        Some((arg, events)) => (arg as u64 + 1) << 16 | (events as u64) << 32,
        None => 0,
    };
    (arg, aux | events as u64)
}

/// The other argument and its events of a [`ready_operand`].
pub const fn other_ready(aux: u64) -> Option<(u8, u16)> {
    match (aux >> 16) as u8 {
        0 => None,
        arg => Some((arg - 1, (aux >> 32) as u16)),
    }
}

/// `EPOLLET`, `EPOLLONESHOT`: a change is reported once.
pub const REPORTED_ONCE: u32 = 1 << 31 | 1 << 30;

/// The data of a registration with an epoll instance: its descriptor and its events.
pub const fn watch_data(fd: i32, events: u32) -> u64 {
    fd as u32 as u64 | (events as u64) << 32
}

/// The parts of [`watch_data`].
pub const fn watch_parts(data: u64) -> (i32, u32) {
    (data as u32 as i32, (data >> 32) as u32)
}

/// Operand of [`Post::Fds`]: the two recorded numbers, which argument points to them, close-on-exec.
pub const fn fds_operand(first: u32, second: u32, arg: u8, cloexec: bool) -> u64 {
    (first as u64 & 0xff_ffff)
        | ((second as u64 & 0xff_ffff) << 24)
        | ((arg as u64 & 7) << 48)
        | ((cloexec as u64) << 56)
}

/// The parts of [`fds_operand`].
pub const fn fds_parts(operand: u64) -> (u32, u32, u8, bool) {
    (
        (operand & 0xff_ffff) as u32,
        ((operand >> 24) & 0xff_ffff) as u32,
        ((operand >> 48) & 7) as u8,
        operand >> 56 & 1 != 0,
    )
}

/// Operand of [`Post::Fd`].
pub const fn fd_operand(fd: u32, cloexec: bool) -> u64 {
    fd as u64 | ((cloexec as u64) << 32)
}

/// Bits of [`Step::flags`].
pub mod flags {
    /// The engine's own: the sixth argument is the mark, nothing is counted as replayed.
    pub const ENGINE: u32 = 1;
    /// The recorded result is emulated: the sixth argument is the fault tag of `expect`. Works for any call, since the
    /// tagged call is never carried out. The call takes its recorded duration.
    pub const FAULT: u32 = 1 << 1;
    /// Read/write on a stream: `expect` bytes in all; short calls are continued, `EAGAIN` is waited out.
    pub const STREAM: u32 = 1 << 2;
    /// On an unexpected `EAGAIN`: engine-marked poll of `fd_arg` for what `aux` says (poll bits; 0: by direction, in),
    /// then again. Implied by `STREAM` (where the poll bits are also in `aux`).
    pub const RETRY: u32 = 1 << 3;
    /// Open loop: the step does not begin before `t_ns` of the replay's clock.
    pub const AT: u32 = 1 << 4;
    /// Not done, by policy.
    pub const REFUSED: u32 = 1 << 5;
    /// Something else stands for it.
    pub const SURROGATE: u32 = 1 << 6;
    /// Could not be rebuilt.
    pub const MISSING: u32 = 1 << 7;
    /// The recorded call blocked for a cause that other tasks make.
    pub const BLOCKED: u32 = 1 << 8;
    /// The step belongs to a signal handler.
    pub const IN_HANDLER: u32 = 1 << 9;
    /// The recorded call was interrupted by a signal.
    pub const INTERRUPTED: u32 = 1 << 10;
    /// The step stands for a call that the recording does not contain (set-up, peers): not counted as replayed, not marked.
    pub const EXTRA: u32 = 1 << 11;
    /// The recorded call found nothing (`EAGAIN`), and one that finds something would take it away from those after it:
    /// first an engine-marked poll of `fd_arg` for `aux`, without waiting; when that is ready, the errno is emulated.
    pub const NOT_READY: u32 = 1 << 12;
    /// [`super::Kind::Exec`]: the workload has written the file that is executed. A worker is put in its place first. With
    /// `AT_EMPTY_PATH`, argument 5 may be a path ([`super::Sel::Data`]) under which the same file can be opened.
    pub const WRITTEN: u32 = 1 << 14;
    /// [`super::Kind::SignalHandler`]: the signal was sent to the process, so that any of its threads may find it. (Here it may
    /// be another one than in the recording.)
    pub const TO_PROCESS: u32 = 1 << 17;
    /// A peer that asks rather than answers: behind the recording, it may leave its gap out. (An answering peer's gap is a
    /// latency that the workload saw.)
    pub const OPEN_LOOP: u32 = 1 << 13;
    /// An accept that waits for a connection, and takes a descriptor number of a table that tasks share before it does: that
    /// is the number in argument [`super::NUMBER_ARG`], whichever is the lowest that is free.
    pub const HOLDS_NUMBER: u32 = 1 << 15;
    /// The call changes a table in which steps hold numbers ([`HOLDS_NUMBER`]): not while one of them takes its own.
    pub const SHARES_NUMBERS: u32 = 1 << 16;
    /// A fault on top: with [`FAULT`], the result was not recorded; else the call is made, and counted as one that a fault
    /// changed; with [`ENGINE`], before it is made.
    pub const INJECTED: u32 = 1 << 18;
    /// The recorded call waited until something was on the disk: where waits for a disk are replayed, writes are held up
    /// until its recorded end.
    pub const WAITS_FOR_DISK: u32 = 1 << 19;
}

/// A dependency: the step begins only after `task` has reached `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Wait {
    /// Task index.
    pub task: u32,
    /// Sequence number: [`Wait::entered`] or [`Wait::completed`].
    pub seq: u32,
}

impl Wait {
    /// After `task` has issued its step `step`.
    pub const fn entered(task: u32, step: u32) -> Self {
        Self { task, seq: step * 2 + 1 }
    }
    /// After `task` has completed its step `step`.
    pub const fn completed(task: u32, step: u32) -> Self {
        Self { task, seq: step * 2 + 2 }
    }
}

/// A message of `sendmsg`, `recvmsg` and relatives. As a blob, it is followed by `iovs` u64 lengths; several follow each
/// other for [`Sel::Mmsg`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct MsgDesc {
    /// Blob with the address to send to (0: none, or receive into `name_len` bytes of scratch).
    pub name: u64,
    /// Bytes of scratch for a received address, or length of `name`.
    pub name_len: u32,
    /// Number of I/O vector lengths that follow.
    pub iovs: u32,
    /// Blob with control data to send (0: none, or receive into `control_len` bytes of scratch).
    pub control: u64,
    /// Bytes of scratch for received control data, or length of `control`.
    pub control_len: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// A path with a task's live id in it: `prefix`, the id, `suffix`. As a blob, followed by the bytes of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct PathPid {
    /// Task index.
    pub task: u32,
    /// Bytes of the prefix.
    pub prefix_len: u16,
    /// Bytes of the suffix.
    pub suffix_len: u16,
}

macro_rules! from_u8 {
    ($name:ident: $first:ident ..= $last:ident) => {
        impl $name {
            /// The value with this number, if there is one.
            pub const fn from_u8(value: u8) -> Option<Self> {
                if value <= Self::$last as u8 {
                    // SAFETY: the enum is repr(u8) and numbered without gaps from 0 to its last variant.
                    Some(unsafe { core::mem::transmute::<u8, Self>(value) })
                } else {
                    None
                }
            }
        }
        const _: () = assert!($name::$first as u8 == 0);
    };
}
from_u8!(Kind: Call ..= Note);
from_u8!(Sel: Imm ..= SoftLimit);
from_u8!(Expect: Any ..= Bytes);
from_u8!(Post: None ..= Passed);

impl Step {
    /// A call without arguments, expectations, waits or think time.
    pub const fn call(nr: u32) -> Self {
        Self {
            nr,
            flags: 0,
            kind: Kind::Call as u8,
            expect_kind: Expect::Any as u8,
            post: Post::None as u8,
            event: 0,
            sel: [0; 6],
            len_arg: 2,
            fd_arg: 0,
            args: [0; 6],
            expect: 0,
            post_arg: 0,
            aux: 0,
            think_cpu_ns: 0,
            think_sleep_ns: 0,
            t_ns: 0,
            duration_ns: 0,
            waits_len: 0,
            waits: 0,
        }
    }

    /// A step of another kind.
    pub const fn of(kind: Kind) -> Self {
        let mut step = Self::call(0);
        step.kind = kind as u8;
        step
    }

    /// Sets argument `index`.
    #[must_use]
    pub const fn arg(mut self, index: usize, sel: Sel, operand: u64) -> Self {
        self.sel[index] = sel as u8;
        self.args[index] = operand;
        self
    }

    /// Sets argument `index` to a plain value.
    #[must_use]
    pub const fn imm(self, index: usize, value: u64) -> Self {
        self.arg(index, Sel::Imm, value)
    }

    /// Sets what the result must be.
    #[must_use]
    pub const fn expect(mut self, kind: Expect, operand: i64) -> Self {
        self.expect_kind = kind as u8;
        self.expect = operand;
        self
    }

    /// Sets what is done with the result.
    #[must_use]
    pub const fn post(mut self, post: Post, operand: u64) -> Self {
        self.post = post as u8;
        self.post_arg = operand;
        self
    }

    /// Sets the kind's operand.
    #[must_use]
    pub const fn aux(mut self, aux: u64) -> Self {
        self.aux = aux;
        self
    }

    /// Adds flags.
    #[must_use]
    pub const fn with(mut self, flags: u32) -> Self {
        self.flags |= flags;
        self
    }
}
