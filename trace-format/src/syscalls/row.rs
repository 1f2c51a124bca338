//! What a row of the table tells.

use super::{Arg, Kind};
use serde::Serialize;

/// What a call does, as far as it is treated apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Family {
    Receive,
    Send,
    /// From one descriptor to another.
    Transfer,
    Readiness,
    /// Its number and order depend on scheduling in one program on one input.
    Noise,
    Memory,
    Mmap,
    Open,
    Close,
    Socket,
    Pipe,
    Connect,
    Accept,
    Bind,
    Listen,
    Shutdown,
    EpollCtl,
    Clone,
    Exec,
    Exit,
    Wait,
    Kill,
    /// Another call about a path.
    Path,
    /// Another call about a descriptor.
    Fd,
    Other,
}

/// What a call is about: the classes that coverage is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Reads, writes and the like on files.
    File,
    /// Paths and metadata.
    Metadata,
    /// Bytes through sockets, pipes and terminals, as turns.
    Stream,
    /// Making and configuring sockets and pipes.
    Network,
    /// Processes and threads.
    Process,
    /// Memory.
    Memory,
    /// Signals.
    Signal,
    /// Readiness checks: never compared by number.
    Readiness,
    /// Locks and retries: never compared by number.
    Noise,
    /// Anything else.
    Other,
}

impl Topic {
    /// Its name, as JSON output has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Metadata => "metadata",
            Self::Stream => "stream",
            Self::Network => "network",
            Self::Process => "process",
            Self::Memory => "memory",
            Self::Signal => "signal",
            Self::Readiness => "readiness",
            Self::Noise => "noise",
            Self::Other => "other",
        }
    }
}

/// Whether exec closes the descriptor that a call makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloexec {
    /// Never, unless somebody says so later (or the call says it where this table cannot tell).
    Unset,
    /// Always.
    Always,
    /// With `O_CLOEXEC` (and `SOCK_CLOEXEC`, `EFD_CLOEXEC`, …, which are the same bit) in this argument.
    By(usize),
    /// With this bit in this argument.
    ByBit(usize, u64),
}

impl Cloexec {
    /// Whether it is set for these arguments.
    pub const fn is_set(self, args: &[u64; 6]) -> bool {
        const O_CLOEXEC: u64 = 0o2_000_000;
        match self {
            Self::Unset => false,
            Self::Always => true,
            Self::By(arg) => args[arg] & O_CLOEXEC != 0,
            Self::ByBit(arg, bit) => args[arg] & bit != 0,
        }
    }
}

/// Descriptors that a successful call makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Makes {
    /// None.
    Nothing,
    /// The result is one.
    Result(Cloexec),
    /// Two, which the call writes to memory.
    Two,
}

impl Makes {
    /// Whether the result is a descriptor.
    pub const fn is_result(self) -> bool {
        matches!(self, Self::Result(_))
    }
}

/// Whether a path argument that names a link means what the link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// It does.
    Always,
    /// The link itself is meant.
    Never,
    /// It does unless this argument has `AT_SYMLINK_NOFOLLOW`.
    Unless(usize),
    /// `O_NOFOLLOW`, and `O_CREAT` with `O_EXCL`, mean the link itself.
    ByOpenFlags,
}

/// What a call can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Bytes, a message, an event.
    Input,
    /// Room for what is written.
    Room,
    /// A connection to take, or the answer to one.
    Connection,
    /// The end of a child.
    Child,
    /// A wake, an unlock.
    Lock,
    /// A time.
    Time,
    /// A signal.
    Signal,
    /// Any of several descriptors.
    Readiness,
    /// A disk.
    Disk,
}

/// The argument that limits a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// It points to a time.
    Pointer(usize),
    /// Milliseconds.
    Millis(usize),
}

impl Limit {
    /// Index of the argument.
    pub const fn arg(self) -> usize {
        match self {
            Self::Pointer(arg) | Self::Millis(arg) => arg,
        }
    }
}

/// What a replay does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// A function of its own makes its steps.
    Own,
    /// The same call, arguments by their kinds: it asks or does something harmless, or something about names and
    /// descriptors that are the sandbox's.
    Same,
    /// The same call about the task that stands for the recorded one.
    Identity,
    /// It would restrict, re-identify or reprioritise the worker: its answer is taken for granted.
    Granted,
    /// Something else stands for it: its answer, or its time.
    Surrogate,
    /// It is not made.
    Refused,
}

/// A class of strace's that no other column tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `%process`.
    Process,
    /// `%memory`.
    Memory,
    /// `%poll`.
    Poll,
}

/// What is known of one call.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The kernel's name.
    pub name: &'static str,
    /// What the arguments mean. `None`: not described.
    pub args: Option<&'static [Arg]>,
    /// What it does.
    pub family: Family,
    /// What it is about.
    pub topic: Topic,
    /// The descriptors that it makes.
    pub makes: Makes,
    /// Arguments (bits) that are descriptors whose bytes, position or length it takes.
    pub reads: u8,
    /// Arguments (bits) that are descriptors whose bytes or length it changes.
    pub writes: u8,
    /// Whether it always makes, moves or removes a name.
    pub renames: bool,
    /// What a link means to it.
    pub follow: Follow,
    /// What it can wait for.
    pub waits: Option<On>,
    /// The argument that limits the wait.
    pub limit: Option<Limit>,
    /// What a replay does with it.
    pub replay: Replay,
    /// Another class of strace's that it is in.
    pub listed: Option<List>,
}

impl Row {
    pub(super) const fn new(name: &'static str, args: Option<&'static [Arg]>) -> Self {
        let (family, topic) = match args {
            Some(args) if has_path(args) => (Family::Path, Topic::Metadata),
            Some([(_, Kind::Fd), ..]) => (Family::Fd, Topic::Other),
            _ => (Family::Other, Topic::Other),
        };
        Self {
            name,
            args,
            family,
            topic,
            makes: Makes::Nothing,
            reads: 0,
            writes: 0,
            renames: false,
            follow: Follow::Always,
            waits: None,
            limit: None,
            replay: Replay::Refused,
            listed: None,
        }
    }

    pub(super) const fn is(self, family: Family, topic: Topic) -> Self {
        Self { family, topic, ..self }
    }

    pub(super) const fn makes(self, cloexec: Cloexec) -> Self {
        Self { makes: Makes::Result(cloexec), ..self }
    }

    pub(super) const fn makes_two(self) -> Self {
        Self { makes: Makes::Two, ..self }
    }

    pub(super) const fn reads(self, arg: u8) -> Self {
        Self { reads: self.reads | 1 << arg, ..self }
    }

    pub(super) const fn writes(self, arg: u8) -> Self {
        Self { writes: self.writes | 1 << arg, ..self }
    }

    pub(super) const fn renames(self) -> Self {
        Self { renames: true, ..self }
    }

    pub(super) const fn follows(self, follow: Follow) -> Self {
        Self { follow, ..self }
    }

    pub(super) const fn waits(self, on: On) -> Self {
        Self { waits: Some(on), ..self }
    }

    pub(super) const fn limit(self, limit: Limit) -> Self {
        Self { limit: Some(limit), ..self }
    }

    pub(super) const fn own(self) -> Self {
        self.replayed(Replay::Own)
    }

    pub(super) const fn replayed(self, replay: Replay) -> Self {
        Self { replay, ..self }
    }

    pub(super) const fn listed(self, list: List) -> Self {
        Self { listed: Some(list), ..self }
    }
}

const fn has_path(args: &[Arg]) -> bool {
    let mut i = 0;
    while i < args.len() {
        if matches!(args[i].1, Kind::Path) {
            return true;
        }
        i += 1;
    }
    false
}
