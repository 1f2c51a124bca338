//! What must exist around a replay before it begins: files, descriptors, addresses, limits. Pure data: `compile` fills
//! it from a trace, `sandbox` builds it. Every path is as recorded; the sandbox resolves it lexically inside the private
//! root (`..` never climbs out), so no path of a trace can name anything outside.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How large a program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutableSize {
    /// Its bytes.
    pub bytes: u64,
    /// It is executed by its descriptor as well, which an exec may close: it can have no interpreter, which would not find it.
    pub by_descriptor: bool,
}

/// The surroundings of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Environment {
    /// Files that existed before. Parents that are not listed are made as directories with mode 0755.
    pub files: Vec<FileSpec>,
    /// Recorded paths of executed programs: the worker lies there (mode 0755), reached through whatever links `files` has.
    pub executables: Vec<Vec<u8>>,
    /// How long those of them were whose size is known: the worker's file is made as long.
    pub executable_sizes: BTreeMap<Vec<u8>, ExecutableSize>,
    /// Addresses to add to the loopback interface, besides 127.0.0.1/8 and `::1`.
    pub addresses: Vec<IpAddr>,
    /// Soft and hard limits of the root task, by the kernel's name in `/proc/PID/limits` order of `setrlimit` numbers:
    /// resource number → (soft, hard). Raising above what ctrace itself has is not possible and is reported.
    pub limits: BTreeMap<u32, (u64, u64)>,
    /// Descriptors that the root task has when it starts. Everything else is closed.
    pub preopened: Vec<Preopened>,
    /// File systems of a bounded size.
    pub volumes: Vec<Volume>,
    /// The directory that is on a disk of its own where waits for a disk are replayed.
    #[serde(default)]
    pub slow: Option<Vec<u8>>,
    /// Numbers of the pseudo terminals that the workload makes: others are taken while it runs.
    pub terminals: Vec<u32>,
    /// Directories that become the root directory of some task, which executes programs there.
    #[serde(default)]
    pub roots: BTreeSet<Vec<u8>>,
    /// Working directory of the root task.
    pub cwd: Vec<u8>,
    /// umask of the root task.
    pub umask: u32,
    /// User and group of the root task. Used when the host allows more than one user inside (ctrace runs as root).
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// Mount a real `/proc` of the replay's own PID namespace. Otherwise `/proc` is a directory like any other and holds
    /// what `files` says: reads then give exactly the recorded number of bytes.
    pub real_proc: bool,
    /// Host name.
    pub hostname: Vec<u8>,
    /// Signals that came from outside the recorded scope.
    pub signals: Vec<ExternalSignal>,
}

/// A file system of its own in the private root, in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Absolute path of its root.
    pub path: Vec<u8>,
    /// The bytes that its files can have.
    pub bytes: u64,
}

/// A file, directory, link or special file of the private root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Absolute path.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
}

/// Kinds of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file of that many bytes: sparse, reads as zeros.
    Regular {
        /// Its size.
        size: u64,
    },
    /// A regular file with content: stubs of `/proc` and `/sys` files, small.
    Content {
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A directory; `entries` further names are made in it (empty files) so that listing it costs what it did.
    Directory {
        /// Number of entries to be there at least, those that `files` names included.
        entries: u32,
    },
    /// A symbolic link. Absolute targets are inside the private root by construction.
    Link {
        /// Its target.
        target: Vec<u8>,
    },
    /// A FIFO.
    Fifo,
    /// The name of a unix socket. Who binds one there in the replay removes it first, if the workload does not.
    Socket,
    /// A character device: null, zero, full, random, urandom, tty are such in the sandbox; any other becomes an empty
    /// regular file.
    Device {
        /// Its number (`st_rdev`).
        rdev: u64,
    },
}

/// A descriptor that the root task has from the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preopened {
    /// Its number.
    pub fd: i32,
    /// What it is.
    pub kind: PreopenedKind,
    /// Whether it closes on exec.
    pub cloexec: bool,
}

/// Kinds of inherited descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PreopenedKind {
    /// `/dev/null`.
    Null,
    /// A file of the private root, opened with `flags` (never created), at an offset.
    File {
        /// Its path.
        path: Vec<u8>,
        /// `open` flags.
        flags: u32,
        /// Offset.
        offset: u64,
    },
    /// One end of a pipe. Descriptors with the same `id` share the pipe. The ends that the root does not hold belong to
    /// the peer program task with that preopened id, or, when no peer asks for it, to a built-in drain (for a write end)
    /// or an end of file (for a read end).
    Pipe {
        /// Which pipe.
        id: u32,
        /// Read end or write end.
        write: bool,
    },
    /// One end of a unix socket pair; the other as for `Pipe`.
    Socket {
        /// Which pair.
        id: u32,
        /// Which end, 0 or 1.
        end: u8,
        /// `SOCK_STREAM`, `SOCK_DGRAM`, `SOCK_SEQPACKET`.
        kind: u16,
    },
    /// A terminal: the slave of a fresh pseudo terminal whose output is drained and whose input never comes.
    Terminal,
    /// A copy of another preopened descriptor (same open file description).
    SameAs {
        /// That descriptor.
        fd: i32,
    },
}

/// Descriptors that a peer root of the program starts with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PeerProcess {
    /// Task index of the peer root in the program.
    pub task: u32,
    /// Its descriptors: the other ends of what the root has.
    pub preopened: Vec<Preopened>,
}

/// A signal from outside the recorded scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalSignal {
    /// When it was sent, ns since the start of the recording.
    pub t_ns: u64,
    /// Task index of the receiver.
    pub task: u32,
    /// The receiver must have got this far ([`ctrace_program::Wait`] sequence number). If that is into a call, the call has
    /// begun to wait.
    pub after_seq: u32,
    /// Signal number.
    pub signo: u32,
    /// To the whole process rather than the thread.
    pub to_process: bool,
}
