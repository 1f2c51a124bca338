//! The events of a trace: what was observed, in the vocabulary every other crate uses.
//!
//! An event is small and self-contained except for three kinds of references into the trace's
//! dictionaries: [`TaskId`], [`ObjectId`] and [`StrId`]. Dictionaries only grow and an id keeps its meaning for
//! the whole file, so consumers may use ids as keys.
//!
//! Times are nanoseconds of `CLOCK_BOOTTIME` since [`crate::Header::start_boottime_ns`]; the file rounds them
//! down to its tick.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $int);
    };
}
id!(/// Thread id in the initial PID namespace of the recorder.
    Tid(u32));
id!(/// Thread-group (process) id in the initial PID namespace of the recorder.
    Tgid(u32));
id!(/// A string of the trace's dictionary (a path, a comm, an argv word): bytes, not necessarily UTF-8.
    StrId(u32));
id!(/// A task of the trace's dictionary: see [`TaskDef`].
    TaskId(u32));
id!(/// An object behind a file descriptor, of the trace's dictionary: see [`Object`].
    ObjectId(u32));
id!(/// Kernel socket cookie: unique per socket and network namespace lifetime, never 0 for a known socket.
    SockCookie(u64));

/// A thread under one name. A task that changes its comm or its tgid (exec) gets a further entry; `(tid, start_ns)`
/// tells tasks apart when the kernel reuses a tid.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskDef {
    /// Thread id.
    pub tid: Tid,
    /// Thread-group id.
    pub tgid: Tgid,
    /// `task_struct.comm` at the time of the entry's first event.
    pub comm: StrId,
    /// When the task began, relative to the start of the trace; 0 for tasks that were there before.
    pub start_ns: u64,
}

/// Which system call table a number belongs to. The same number means different calls in different tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Abi {
    /// x86-64 native.
    X86_64 = 0,
    /// 32-bit calls on an x86-64 kernel (`int 0x80`, `sysenter`).
    I386 = 1,
    /// x32: x86-64 table with `__X32_SYSCALL_BIT` (already removed from the number).
    X32 = 2,
    /// aarch64 native.
    Aarch64 = 3,
    /// 32-bit calls on an aarch64 kernel.
    Arm = 4,
}

/// A system call number and its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sysno {
    /// The table.
    pub abi: Abi,
    /// The number in it.
    pub nr: u32,
}

/// Facts about how a [`Syscall`] was observed. A set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SyscallFlags(pub u16);

impl SyscallFlags {
    /// The exit was seen without its entry: the call was blocked when recording began, or seccomp failed it.
    /// `t_ns` is then the time of the exit and the duration 0. The arguments are those in the registers at the exit,
    /// which the kernel preserves; what pointers point to is not decoded.
    pub const NO_ENTER: Self = Self(1);
    /// The entry was seen and the call never returned: still in flight at the end of the recording (the duration is
    /// the time until then), or ended by the death of its task. `ret` is meaningless.
    pub const NO_EXIT: Self = Self(1 << 1);
    /// A coordination call of the replay engine itself, not of the workload.
    pub const ENGINE: Self = Self(1 << 2);
    /// A decoded argument was longer than the recorder copies, or lay in memory that could not be read.
    pub const TRUNCATED: Self = Self(1 << 3);
    /// The call failed by a fault that ctrace injected.
    pub const INJECTED: Self = Self(1 << 4);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// Both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One completed (or unfinished) system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syscall {
    /// Time of entry.
    pub t_ns: u64,
    /// From entry to exit.
    pub duration_ns: u64,
    /// Who called.
    pub task: TaskId,
    /// Which call.
    pub sysno: Sysno,
    /// What the kernel returned: a value ≥ 0, or −errno.
    pub ret: i64,
    /// How it was observed.
    pub flags: SyscallFlags,
    /// Raw argument registers. Arguments that mean nothing for the call, and pointers whose target is in
    /// `details`, may be 0: see `args_mask`.
    pub args: [u64; 6],
    /// Bit *i* set: `args[i]` was kept.
    pub args_mask: u8,
    /// The object behind the first file-descriptor argument, or, for calls that make a descriptor, behind the result.
    pub object: Option<ObjectId>,
    /// Decoded arguments and results, in argument order.
    pub details: Vec<Detail>,
    /// Time between the previous record of the task and this entry spent runnable but waiting for a CPU.
    pub wait_cpu_ns: u64,
    /// Time between the previous record of the task and this entry spent blocked outside of any call (page faults).
    pub blocked_ns: u64,
}

/// A decoded argument or result of a call. `arg` is the index of the argument it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Detail {
    /// A string as the program passed it (path, name), without the final NUL.
    Str {
        /// Argument index.
        arg: u8,
        /// The bytes.
        value: StrId,
    },
    /// A socket address, passed or returned.
    Addr {
        /// Argument index.
        arg: u8,
        /// The address, as dictionary text would lose its structure.
        addr: SockAddr,
    },
    /// The object behind a further descriptor argument (`dup2` target, `sendfile` input, `epoll_ctl` fd …).
    Object {
        /// Argument index.
        arg: u8,
        /// The object.
        object: ObjectId,
    },
    /// A scalar behind a pointer (an offset, a wait status, an option value, a ready count), as the call left it.
    Value {
        /// Argument index.
        arg: u8,
        /// The scalar.
        value: u64,
    },
    /// Descriptors the call made (`pipe`, `socketpair`), with their objects when known.
    NewFds {
        /// Argument index.
        arg: u8,
        /// The two descriptors.
        fds: [i32; 2],
        /// The objects behind them.
        objects: [Option<ObjectId>; 2],
    },
    /// An I/O vector: total length and number of parts.
    Iov {
        /// Argument index.
        arg: u8,
        /// Sum of the parts' lengths.
        bytes: u64,
        /// Number of parts.
        count: u32,
    },
    /// A timeout or sleep, relative or absolute as the call says. A missing timeout is not recorded.
    Time {
        /// Argument index.
        arg: u8,
        /// Nanoseconds.
        ns: u64,
    },
    /// Descriptors asked about and answered by `poll` and `select` families.
    Poll {
        /// Argument index.
        arg: u8,
        /// One entry per descriptor, possibly truncated (then the call is flagged).
        entries: Vec<PollEntry>,
    },
    /// Events returned by `epoll_wait`, or passed to `epoll_ctl` (one entry).
    Epoll {
        /// Argument index.
        arg: u8,
        /// `(data, events)` pairs, possibly truncated (then the call is flagged).
        entries: Vec<EpollEntry>,
    },
    /// What `stat` and its relatives said about a file.
    Stat {
        /// Argument index.
        arg: u8,
        /// `st_mode`.
        mode: u32,
        /// `st_size`.
        size: u64,
        /// `st_ino`.
        ino: u64,
    },
    /// A signal disposition passed to `rt_sigaction`: 0 default, 1 ignore, 2 a handler.
    SigAction {
        /// Argument index.
        arg: u8,
        /// Default, ignore or handler.
        handler: u8,
        /// `sa_flags`.
        flags: u64,
        /// `sa_mask`.
        mask: u64,
    },
    /// An argument vector (`execve`), already redacted.
    Argv {
        /// Argument index.
        arg: u8,
        /// The words, possibly fewer than `count`.
        words: Vec<StrId>,
        /// The number of words the program passed.
        count: u32,
    },
    /// A small fixed structure that is not payload (socket option, limit, terminal setting), as raw bytes.
    Bytes {
        /// Argument index.
        arg: u8,
        /// At most 64 bytes.
        data: Vec<u8>,
    },
    /// The `open` created the file (`FMODE_CREATED`): it was not there before.
    Created,
    /// Time within the call spent runnable but waiting for a CPU: woken, or preempted, and not yet running. Waits that
    /// are as short as a wake-up always takes are left out.
    CpuWait {
        /// How long.
        ns: u64,
    },
}

impl Detail {
    /// The index of the argument it belongs to; `None`: it is about the whole call.
    pub const fn arg(&self) -> Option<u8> {
        match self {
            Self::Str { arg, .. }
            | Self::Addr { arg, .. }
            | Self::Object { arg, .. }
            | Self::Value { arg, .. }
            | Self::NewFds { arg, .. }
            | Self::Iov { arg, .. }
            | Self::Time { arg, .. }
            | Self::Poll { arg, .. }
            | Self::Epoll { arg, .. }
            | Self::Stat { arg, .. }
            | Self::SigAction { arg, .. }
            | Self::Argv { arg, .. }
            | Self::Bytes { arg, .. } => Some(*arg),
            Self::Created | Self::CpuWait { .. } => None,
        }
    }
}

/// One descriptor of a poll or select set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PollEntry {
    /// The descriptor.
    pub fd: i32,
    /// `POLL*` bits asked for.
    pub events: u16,
    /// `POLL*` bits answered.
    pub revents: u16,
}

/// One epoll event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EpollEntry {
    /// `epoll_data` as the program registered it.
    pub data: u64,
    /// `EPOLL*` bits.
    pub events: u32,
}

/// A socket address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SockAddr {
    /// IPv4 or IPv6 with port.
    Inet(std::net::SocketAddr),
    /// A unix socket: path, `@`-prefixed abstract name, or empty when unnamed.
    Unix(Vec<u8>),
    /// Another family, raw (at most 28 bytes after the family).
    Other {
        /// `AF_*`.
        family: u16,
        /// The rest of the structure.
        data: Vec<u8>,
    },
}

/// What a file descriptor refers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Object {
    /// A file, directory, device, FIFO or symlink in a file system.
    File {
        /// Absolute path as the task sees it (kernel-resolved).
        path: StrId,
        /// `st_dev`.
        dev: u64,
        /// `st_ino`.
        ino: u64,
        /// `st_mode`: type and permissions.
        mode: u32,
        /// Device number of a device node, otherwise 0.
        rdev: u64,
        /// Size when first seen.
        size: u64,
    },
    /// A socket.
    Socket {
        /// `AF_*`.
        family: u16,
        /// `SOCK_*`, without flags.
        kind: u16,
        /// `IPPROTO_*`.
        protocol: u16,
        /// Its cookie.
        cookie: SockCookie,
        /// Bound address when first seen, if any.
        local: Option<SockAddr>,
        /// Connected address when first seen, if any.
        peer: Option<SockAddr>,
    },
    /// An anonymous pipe.
    Pipe {
        /// Its inode: both ends have the same.
        ino: u64,
    },
    /// `eventfd`, `eventpoll`, `timerfd`, `signalfd`, `inotify`, `pidfd`, `io_uring`, `memfd:…`, …
    Anon {
        /// The kernel's name, without brackets.
        kind: StrId,
        /// An identity that is unique in the trace.
        id: u64,
    },
}

/// A change in the life of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// When.
    pub t_ns: u64,
    /// Whose life (the parent, for a fork).
    pub task: TaskId,
    /// What happened.
    pub kind: ProcessKind,
}

/// See [`Process`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProcessKind {
    /// A new task.
    Fork {
        /// The child.
        child: TaskId,
    },
    /// A new program. `argv` is redacted.
    Exec {
        /// The file that was executed.
        path: StrId,
        /// The thread id before (another thread than the leader may exec and takes the leader's id).
        old_tid: Tid,
        /// Argument words, possibly fewer than `argc`.
        argv: Vec<StrId>,
        /// Number of arguments.
        argc: u32,
    },
    /// The end of the task.
    Exit {
        /// `exit_code` as wait(2) would tell it: status << 8, or the signal number (| 0x80 with a core dump).
        status: u32,
        /// Whether the whole process ended with it.
        group_dead: bool,
    },
    /// A file was mapped executable: a library. Once per process and file.
    Load {
        /// The file.
        path: StrId,
    },
    /// Its identity changed: the `setuid` family, or the execution of a set-id program.
    Identity {
        /// Before.
        old: Ids,
        /// After.
        new: Ids,
    },
    /// The kernel asked whether the task has a capability. Checks of one (task, capability, answer, call) are told
    /// the first time at once, and then summed up.
    Capability {
        /// `CAP_*` number.
        capability: u32,
        /// The answer.
        granted: bool,
        /// Checks since the last such event.
        count: u32,
        /// The call that it was asked in.
        call: Option<Sysno>,
    },
    /// The OOM killer chose the task's process.
    OomKill {
        /// The task whose allocation set it off, when it is a task of the trace.
        by: Option<TaskId>,
        /// Memory that the process had resident, bytes; 0 when it could not be read.
        rss_bytes: u64,
    },
    /// A page fault outside of any call kept the task off the CPU: the page came from a disk, or memory was short.
    Fault {
        /// What was touched.
        address: u64,
        /// How long it was blocked. The event's time is the end.
        blocked_ns: u64,
    },
    /// The task is in a container of the scope. Said of every task of a recorded container, under each of its names.
    Placed {
        /// [`crate::Container::number`].
        container: u32,
    },
}

impl ProcessKind {
    /// Whether it is about the life of a task: its birth, its program, its end. The other kinds are facts about a task,
    /// told when they are known, which may be after its end.
    pub const fn is_life(&self) -> bool {
        matches!(self, Self::Fork { .. } | Self::Exec { .. } | Self::Exit { .. })
    }
}

/// Who a task acts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Ids {
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective group.
    pub egid: u32,
}

/// A TCP connection's change of state or a fact about it. Attributed by cookie, not by the current task, since it
/// may happen in softirq context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// When.
    pub t_ns: u64,
    /// The socket.
    pub cookie: SockCookie,
    /// The task that owns the socket, when it is known.
    pub task: Option<TaskId>,
    /// Our end.
    pub local: SockAddr,
    /// The other end.
    pub peer: SockAddr,
    /// What happened.
    pub kind: ConnectionKind,
}

/// Kernel TCP states (`include/net/tcp_states.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub enum TcpState {
    Established = 1,
    SynSent = 2,
    SynRecv = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
    NewSynRecv = 12,
}

/// See [`Connection`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ConnectionKind {
    /// The state changed.
    State {
        /// From.
        old: TcpState,
        /// To.
        new: TcpState,
        /// `sk_err` at that time: 0, or the errno that ended the connection (ECONNREFUSED, ETIMEDOUT, ECONNRESET …).
        error: u16,
    },
    /// A segment was sent again.
    Retransmit,
    /// We sent a RST.
    ResetSent,
    /// We received a RST.
    ResetReceived,
    /// The socket ended; totals of its life.
    Closed {
        /// Payload bytes sent and acknowledged.
        bytes_sent: u64,
        /// Payload bytes received.
        bytes_received: u64,
        /// Smoothed round-trip time, µs; 0 when never measured.
        srtt_us: u32,
        /// Segments retransmitted in all.
        retransmits: u32,
    },
    /// How it does, seen when a segment arrived: at most every 100 ms.
    Sample {
        /// Smoothed round-trip time, µs.
        srtt_us: u32,
        /// Congestion window, segments.
        cwnd: u32,
        /// Window that the peer offers, bytes.
        send_window: u32,
        /// Segments sent and not acknowledged.
        in_flight: u32,
        /// Segments retransmitted so far.
        retransmits: u32,
        /// Payload bytes sent so far.
        bytes_sent: u64,
        /// Payload bytes received so far.
        bytes_received: u64,
    },
}

/// What a task did with a stretch of time. The rest of the stretch it was blocked; so it was between two stretches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// End of the stretch.
    pub t_ns: u64,
    /// Its start.
    pub from_ns: u64,
    /// Who.
    pub task: TaskId,
    /// On a CPU.
    pub cpu_ns: u64,
    /// Runnable, waiting for a CPU.
    pub wait_ns: u64,
    /// Page faults that needed no disk.
    pub minor_faults: u64,
    /// Page faults that needed one.
    pub major_faults: u64,
    /// Times it gave the CPU up.
    pub yields: u64,
    /// Times the CPU was taken from it.
    pub preemptions: u64,
}

/// What went through a socket that is no TCP socket (UDP, unix, raw, netlink) in a stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// End of the stretch.
    pub t_ns: u64,
    /// Its start.
    pub from_ns: u64,
    /// The task that used it last, when it is known.
    pub task: Option<TaskId>,
    /// The socket.
    pub cookie: SockCookie,
    /// `AF_*`.
    pub family: u16,
    /// `SOCK_*`.
    pub kind: u16,
    /// `IPPROTO_*`.
    pub protocol: u16,
    /// Our end, when it is bound.
    pub local: Option<SockAddr>,
    /// The other end, when it is connected.
    pub peer: Option<SockAddr>,
    /// Messages sent.
    pub sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Messages received.
    pub received: u64,
    /// Their bytes.
    pub bytes_received: u64,
}

/// A DNS query that the scope sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// When it was sent.
    pub t_ns: u64,
    /// Until its answer was read; without one, until it was sent again or the trace ended.
    pub duration_ns: u64,
    /// Who asked.
    pub task: TaskId,
    /// Through which socket.
    pub cookie: SockCookie,
    /// Whom.
    pub server: SockAddr,
    /// The name, without the final dot.
    pub name: StrId,
    /// Type: 1 A, 28 AAAA, …
    pub qtype: u16,
    /// Response code (0 `NOERROR`, 2 `SERVFAIL`, 3 `NXDOMAIN`, …) and number of answers; `None`: no answer.
    pub answer: Option<(u8, u16)>,
}

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

/// A signal generated for, or delivered to, a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// When.
    pub t_ns: u64,
    /// The receiver.
    pub task: TaskId,
    /// Signal number.
    pub signo: u32,
    /// `si_code`.
    pub code: i32,
    /// The sender, when it is a task of the trace.
    pub sender: Option<TaskId>,
    /// False: generated; true: delivered.
    pub delivered: bool,
}

/// One sample of one resource counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// When.
    pub t_ns: u64,
    /// Of what: 0 is the host, 1 the scope (its cgroup, or the sum over its processes or containers), *n* + 1 the
    /// container of number *n*.
    pub subject: u32,
    /// Which counter.
    pub metric: Metric,
    /// Its value: cumulative or instantaneous as the metric says.
    pub value: u64,
}

/// What a [`Resource`] sample measures. Cumulative unless its text says "now".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u16)]
#[non_exhaustive]
pub enum Metric {
    /// CPU time used, ns.
    CpuNs = 1,
    /// CPU time in user mode, ns.
    CpuUserNs = 2,
    /// CPU time in kernel mode, ns.
    CpuSystemNs = 3,
    /// Time throttled by a quota, ns.
    CpuThrottledNs = 4,
    /// Periods in which it was throttled.
    CpuThrottledPeriods = 5,
    /// Periods of the quota.
    CpuPeriods = 6,
    /// Memory charged now, bytes.
    MemoryBytes = 10,
    /// Memory limit now, bytes; `u64::MAX` without one.
    MemoryLimitBytes = 11,
    /// Anonymous memory now, bytes.
    MemoryAnonBytes = 12,
    /// Page cache now, bytes.
    MemoryFileBytes = 13,
    /// Swap used now, bytes.
    SwapBytes = 14,
    /// Times the limit was hit.
    MemoryMaxEvents = 15,
    /// OOM kills.
    OomKills = 16,
    /// Times it was reclaimed below its protection (`memory.low`).
    MemoryLowEvents = 17,
    /// Times it was slowed down above `memory.high`.
    MemoryHighEvents = 18,
    /// Times an allocation was about to fail.
    MemoryOomEvents = 19,
    /// Bytes read from block devices.
    IoReadBytes = 20,
    /// Bytes written to block devices.
    IoWriteBytes = 21,
    /// Read operations.
    IoReadOps = 22,
    /// Write operations.
    IoWriteOps = 23,
    /// PSI, some, µs: CPU.
    PsiCpuSomeUs = 30,
    /// PSI, some, µs: memory.
    PsiMemorySomeUs = 31,
    /// PSI, full, µs: memory.
    PsiMemoryFullUs = 32,
    /// PSI, some, µs: I/O.
    PsiIoSomeUs = 33,
    /// PSI, full, µs: I/O.
    PsiIoFullUs = 34,
    /// PSI, full, µs: CPU.
    PsiCpuFullUs = 35,
    /// Tasks now.
    Pids = 40,
    /// Task limit now.
    PidsLimit = 41,
    /// Open file descriptors now.
    OpenFds = 42,
    /// Established TCP sockets now.
    TcpEstablished = 43,
    /// TCP sockets in TIME-WAIT now.
    TcpTimeWait = 44,
    /// Listening TCP sockets now.
    TcpListen = 45,
    /// Other TCP sockets now.
    TcpOther = 46,
    /// TCP sockets now that the peer has closed and the program has not.
    TcpCloseWait = 47,
    /// Longest accept queue now, connections.
    AcceptQueue = 48,
    /// Connections that found an accept queue full.
    ListenOverflows = 49,
    /// Bytes received by the network namespace.
    NetReceivedBytes = 50,
    /// Bytes sent by the network namespace.
    NetSentBytes = 51,
    /// Packets dropped by the network namespace.
    NetDropped = 52,
    /// TCP segments retransmitted by the network namespace.
    TcpRetransmits = 53,
    /// Handshake packets that listeners dropped, for a full queue or otherwise.
    ListenDrops = 54,
    /// Datagrams dropped because a socket's buffer was full.
    UdpBufferErrors = 55,
    /// Minor page faults.
    MinorFaults = 60,
    /// Major page faults.
    MajorFaults = 61,
    /// Resident memory now, bytes.
    RssBytes = 62,
}

impl Metric {
    /// Whether it counts what has been, not what is now.
    pub const fn is_cumulative(self) -> bool {
        !matches!(
            self,
            Self::MemoryBytes
                | Self::MemoryLimitBytes
                | Self::MemoryAnonBytes
                | Self::MemoryFileBytes
                | Self::SwapBytes
                | Self::Pids
                | Self::PidsLimit
                | Self::OpenFds
                | Self::TcpEstablished
                | Self::TcpTimeWait
                | Self::TcpListen
                | Self::TcpOther
                | Self::TcpCloseWait
                | Self::AcceptQueue
                | Self::RssBytes
        )
    }
}

/// Events that were seen and are not in the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// End of the interval.
    pub t_ns: u64,
    /// Start of the interval.
    pub from_ns: u64,
    /// CPU on which they were lost; `u32::MAX` when not tied to one.
    pub cpu: u32,
    /// Class of the lost events.
    pub class: Class,
    /// Why.
    pub cause: LossCause,
    /// How many.
    pub count: u64,
}

/// Why events were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
#[non_exhaustive]
pub enum LossCause {
    /// The ring between kernel and user space was full.
    RingFull = 1,
    /// A kernel map was full.
    MapFull = 2,
    /// The trace could not be written.
    WriteFailed = 3,
    /// The kernel skipped the program (recursion).
    Skipped = 4,
    /// A record could not be decoded.
    Malformed = 5,
    /// Calls were to be counted rather than recorded, and the table of counts was full.
    AggregateFull = 6,
}

/// System calls that were counted instead of recorded one by one, because the recorder could not keep up: those of one
/// task to one descriptor, of one number and outcome, that ended on one CPU in an interval of 100 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// End of the interval.
    pub t_ns: u64,
    /// Start of the interval.
    pub from_ns: u64,
    /// CPU on which they ended.
    pub cpu: u32,
    /// Who called.
    pub task: TaskId,
    /// Which call.
    pub sysno: Sysno,
    /// How they were observed.
    pub flags: SyscallFlags,
    /// The first descriptor argument.
    pub fd: Option<i32>,
    /// The object behind it.
    pub object: Option<ObjectId>,
    /// The error that they failed with; 0: they succeeded.
    pub errno: u32,
    /// How many.
    pub count: u64,
    /// Sum of their durations.
    pub duration_ns: u64,
    /// How many of them took from 2^*i* to 2^(*i* + 1) ns (the first: below 2); what is not there is 0.
    pub histogram: Vec<u64>,
}

/// How much the recorder writes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FidelityLevel {
    /// Everything.
    Full = 0,
    /// Every call, without what its pointers point to. Such calls have [`SyscallFlags::TRUNCATED`].
    NoArguments = 1,
    /// Calls are counted: see [`Aggregate`].
    Aggregated = 2,
}

impl FidelityLevel {
    /// Its name, as JSON output has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::NoArguments => "no_arguments",
            Self::Aggregated => "aggregated",
        }
    }
}

/// From now on the recorder writes more, or less, of the calls that end on a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fidelity {
    /// When.
    pub t_ns: u64,
    /// On which CPU.
    pub cpu: u32,
    /// Until then.
    pub from: FidelityLevel,
    /// From then on.
    pub to: FidelityLevel,
}

/// A remark on the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// When.
    pub t_ns: u64,
    /// The text.
    pub text: StrId,
}

/// Simultaneous readings of three clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAnchor {
    /// `CLOCK_BOOTTIME` since the start of the trace, ns.
    pub t_ns: u64,
    /// `CLOCK_MONOTONIC`, ns.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME`, ns since the epoch.
    pub realtime_ns: u64,
}

/// Anything on the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A system call.
    Syscall(Syscall),
    /// Fork, exec, exit.
    Process(Process),
    /// A TCP connection.
    Connection(Connection),
    /// A signal.
    Signal(Signal),
    /// A resource sample.
    Resource(Resource),
    /// Lost events.
    Loss(Loss),
    /// A remark.
    Marker(Marker),
    /// Clock readings.
    Anchor(ClockAnchor),
    /// What a task did with its time.
    Usage(Usage),
    /// Traffic of a socket that is no TCP socket.
    Socket(Socket),
    /// A DNS query.
    Dns(Dns),
    /// A request of a block device.
    Block(Block),
    /// A request through an `io_uring`.
    Uring(Uring),
    /// System calls that were counted.
    Aggregate(Aggregate),
    /// A change in how much is recorded of a call.
    Fidelity(Fidelity),
}

/// The kind of an [`Event`]; each has chunks of its own in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[allow(missing_docs, reason = "named as the events are")]
pub enum Class {
    Syscall = 1,
    Process = 2,
    Connection = 3,
    Signal = 4,
    Resource = 5,
    Loss = 6,
    Marker = 7,
    Anchor = 8,
    Usage = 10,
    Socket = 11,
    Dns = 12,
    Block = 13,
    Uring = 14,
    /// [`Event::Aggregate`] and [`Event::Fidelity`].
    Aggregate = 9,
}

impl Class {
    /// Its name, as JSON output has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syscall => "syscall",
            Self::Process => "process",
            Self::Connection => "connection",
            Self::Signal => "signal",
            Self::Resource => "resource",
            Self::Loss => "loss",
            Self::Marker => "marker",
            Self::Anchor => "anchor",
            Self::Usage => "usage",
            Self::Socket => "socket",
            Self::Dns => "dns",
            Self::Block => "block",
            Self::Uring => "uring",
            Self::Aggregate => "aggregate",
        }
    }
}

impl Event {
    /// Its class.
    pub const fn class(&self) -> Class {
        match self {
            Self::Syscall(_) => Class::Syscall,
            Self::Process(_) => Class::Process,
            Self::Connection(_) => Class::Connection,
            Self::Signal(_) => Class::Signal,
            Self::Resource(_) => Class::Resource,
            Self::Loss(_) => Class::Loss,
            Self::Marker(_) => Class::Marker,
            Self::Anchor(_) => Class::Anchor,
            Self::Usage(_) => Class::Usage,
            Self::Socket(_) => Class::Socket,
            Self::Dns(_) => Class::Dns,
            Self::Block(_) => Class::Block,
            Self::Uring(_) => Class::Uring,
            Self::Aggregate(_) | Self::Fidelity(_) => Class::Aggregate,
        }
    }

    /// The task it belongs to, if it belongs to one.
    pub const fn task(&self) -> Option<TaskId> {
        match self {
            Self::Syscall(e) => Some(e.task),
            Self::Process(e) => Some(e.task),
            Self::Connection(e) => e.task,
            Self::Signal(e) => Some(e.task),
            Self::Usage(e) => Some(e.task),
            Self::Socket(e) => e.task,
            Self::Dns(e) => Some(e.task),
            Self::Block(e) => Some(e.task),
            Self::Uring(e) => Some(e.task),
            Self::Aggregate(e) => Some(e.task),
            Self::Resource(_) | Self::Loss(_) | Self::Marker(_) | Self::Anchor(_) | Self::Fidelity(_) => None,
        }
    }

    /// Counts its times from `origin_ns` on. `false`: it was over by then.
    pub(crate) fn rebase(&mut self, origin_ns: u64) -> bool {
        let end_ns = self.end_ns();
        let left_ns = |t_ns: u64| end_ns.saturating_sub(t_ns.max(origin_ns));
        let earlier = |t_ns: &mut u64| *t_ns = t_ns.saturating_sub(origin_ns);
        match self {
            Self::Syscall(e) => {
                e.duration_ns = left_ns(e.t_ns);
                e.wait_cpu_ns = e.wait_cpu_ns.min(e.duration_ns);
                e.blocked_ns = e.blocked_ns.min(e.duration_ns);
                earlier(&mut e.t_ns);
            }
            Self::Loss(e) => {
                earlier(&mut e.from_ns);
                earlier(&mut e.t_ns);
            }
            Self::Usage(e) => {
                let length_ns = left_ns(e.from_ns);
                e.cpu_ns = e.cpu_ns.min(length_ns);
                e.wait_ns = e.wait_ns.min(length_ns - e.cpu_ns);
                earlier(&mut e.from_ns);
                earlier(&mut e.t_ns);
            }
            Self::Socket(e) => {
                earlier(&mut e.from_ns);
                earlier(&mut e.t_ns);
            }
            Self::Dns(e) => {
                e.duration_ns = left_ns(e.t_ns);
                earlier(&mut e.t_ns);
            }
            Self::Block(e) => {
                e.duration_ns = left_ns(e.t_ns);
                e.queued_ns = e.queued_ns.min(e.duration_ns);
                earlier(&mut e.t_ns);
            }
            Self::Uring(e) => {
                e.duration_ns = left_ns(e.t_ns);
                earlier(&mut e.t_ns);
            }
            Self::Aggregate(e) => {
                earlier(&mut e.from_ns);
                earlier(&mut e.t_ns);
            }
            Self::Fidelity(e) => earlier(&mut e.t_ns),
            Self::Process(e) => earlier(&mut e.t_ns),
            Self::Connection(e) => earlier(&mut e.t_ns),
            Self::Signal(e) => earlier(&mut e.t_ns),
            Self::Resource(e) => earlier(&mut e.t_ns),
            Self::Marker(e) => earlier(&mut e.t_ns),
            Self::Anchor(e) => earlier(&mut e.t_ns),
        }
        end_ns > origin_ns
    }

    /// When it began: the entry of a system call, the start of a stretch, the time of what takes none.
    pub const fn start_ns(&self) -> u64 {
        match self {
            Self::Syscall(e) => e.t_ns,
            Self::Loss(e) => e.from_ns,
            Self::Usage(e) => e.from_ns,
            Self::Socket(e) => e.from_ns,
            Self::Dns(e) => e.t_ns,
            Self::Block(e) => e.t_ns,
            Self::Uring(e) => e.t_ns,
            Self::Aggregate(e) => e.from_ns,
            other => other.end_ns(),
        }
    }

    /// When it was complete: the exit of a system call, the end of whatever else takes time, the time of the rest.
    /// Readers yield events in this order.
    pub const fn end_ns(&self) -> u64 {
        match self {
            Self::Syscall(e) => e.t_ns.saturating_add(e.duration_ns),
            Self::Process(e) => e.t_ns,
            Self::Connection(e) => e.t_ns,
            Self::Signal(e) => e.t_ns,
            Self::Resource(e) => e.t_ns,
            Self::Loss(e) => e.t_ns,
            Self::Marker(e) => e.t_ns,
            Self::Anchor(e) => e.t_ns,
            Self::Usage(e) => e.t_ns,
            Self::Socket(e) => e.t_ns,
            Self::Dns(e) => e.t_ns.saturating_add(e.duration_ns),
            Self::Block(e) => e.t_ns.saturating_add(e.duration_ns),
            Self::Uring(e) => e.t_ns.saturating_add(e.duration_ns),
            Self::Aggregate(e) => e.t_ns,
            Self::Fidelity(e) => e.t_ns,
        }
    }
}

impl Syscall {
    /// The errno it failed with, if it did.
    pub const fn errno(&self) -> Option<u32> {
        // MAX_ERRNO, include/linux/err.h. A call without exit has no result.
        if self.ret < 0 && self.ret >= -4095 && !self.flags.contains(SyscallFlags::NO_EXIT) {
            Some(self.ret.unsigned_abs() as u32)
        } else {
            None
        }
    }
}
