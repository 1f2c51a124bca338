//! System calls, one by one.

use super::{ObjectId, SockAddr, StrId, TaskId};
use serde::{Deserialize, Serialize};

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

impl Abi {
    /// Its name, as JSON output has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::I386 => "i386",
            Self::X32 => "x32",
            Self::Aarch64 => "aarch64",
            Self::Arm => "arm",
        }
    }
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
    /// The exit was seen without its entry: the call was under way when recording began.
    /// `t_ns` is then the time of the exit and the duration 0. The arguments are those in the registers at the exit,
    /// which the kernel preserves; what pointers point to is decoded unless the call may have changed it. Recordings
    /// made before [`Self::FILTERED`] was there have this for calls that a filter answered, too.
    /// With [`Self::NO_EXIT`], neither was seen: the call lasts from `t_ns`, the start of the recording or when the task
    /// came into it, to the end.
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
    /// A seccomp filter answered the call, so that the kernel never began with it. `t_ns` is the time of the answer and
    /// the duration 0.
    pub const FILTERED: Self = Self(1 << 5);
    /// The filter was that of a replay's sandbox, which gave the recorded answer; also has [`Self::FILTERED`].
    pub const EMULATED: Self = Self(1 << 6);

    /// Whether a seccomp filter of the workload's own answered: neither that of a replay's sandbox, which gives the recorded
    /// answer, nor a fault that ctrace injected.
    pub const fn is_denied(self) -> bool {
        self.contains(Self::FILTERED) && !self.contains(Self::EMULATED) && !self.contains(Self::INJECTED)
    }
    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// Those that `other` does not have.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
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
    /// Descriptors that went with a message (`SCM_RIGHTS`): the sender's numbers, or those that the receiver got.
    Passed {
        /// Argument index.
        arg: u8,
        /// Which message of the call, from 0.
        message: u32,
        /// The descriptors, possibly truncated (then the call is flagged).
        fds: Vec<PassedFd>,
    },
    /// The messages of a call that takes several at once, as many as it moved, or tried to; possibly truncated (then
    /// the call is flagged).
    Messages {
        /// Argument index.
        arg: u8,
        /// One entry per message.
        entries: Vec<Message>,
    },
    /// The address of the socket's own end, when it had none before the call, or the call did not say which: the kernel
    /// chose it, or a part of it.
    Local {
        /// The address after the call.
        addr: SockAddr,
    },
    /// The argument, or a word of it, is not known: its memory could not be read. A word of an argument vector is then
    /// empty.
    Unread {
        /// Argument index.
        arg: u8,
        /// Which word of an argument vector, from 0.
        word: Option<u32>,
    },
    /// The argument, or a word of it, is longer than what is recorded of it.
    Cut {
        /// Argument index.
        arg: u8,
        /// Which word of an argument vector, from 0.
        word: Option<u32>,
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
            | Self::Bytes { arg, .. }
            | Self::Passed { arg, .. }
            | Self::Messages { arg, .. }
            | Self::Unread { arg, .. }
            | Self::Cut { arg, .. } => Some(*arg),
            Self::Local { .. } | Self::Created | Self::CpuWait { .. } => None,
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

/// A descriptor that went with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PassedFd {
    /// Its number: the sender's in a call that sends, the receiver's in one that receives.
    pub fd: i32,
    /// The object behind it, when known.
    pub object: Option<ObjectId>,
}

/// One message of several.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Sum of the lengths of its parts: what is to be sent, or room for what comes.
    pub bytes: u64,
    /// Number of its parts.
    pub parts: u32,
    /// Bytes that were moved; 0 of a message that was not.
    pub moved: u32,
    /// Where it goes, or comes from, when the message says so.
    pub addr: Option<SockAddr>,
}

/// One epoll event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EpollEntry {
    /// `epoll_data` as the program registered it.
    pub data: u64,
    /// `EPOLL*` bits.
    pub events: u32,
}

impl Syscall {
    /// Whether nothing is known of the arguments: neither the entry nor the registers at the exit were seen.
    pub const fn arguments_unknown(&self) -> bool {
        self.flags.contains(SyscallFlags::NO_ENTER) && self.args_mask == 0
    }

    /// Bytes that a call that moves data moved. The result of one that takes several messages is their number.
    pub fn moved(&self) -> u64 {
        let messages = self.details.iter().find_map(|detail| match detail {
            Detail::Messages { entries, .. } => Some(entries),
            _ => None,
        });
        match messages {
            Some(entries) if self.ret >= 0 => entries.iter().map(|message| u64::from(message.moved)).sum(),
            _ => self.ret.max(0) as u64,
        }
    }

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
