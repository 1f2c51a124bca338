//! What a trace says about itself: header, start snapshot, end summary.

use crate::event::{Abi, SockAddr, Tgid, Tid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The first thing in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Length of a tick, ns: 100, or 1 with `--precise`. Must be > 0.
    pub tick_ns: u32,
    /// `CLOCK_BOOTTIME` at the start, ns.
    pub start_boottime_ns: u64,
    /// `CLOCK_REALTIME` at the start, ns since the epoch.
    pub start_realtime_ns: u64,
    /// The native system call table.
    pub abi: Abi,
    /// What was recorded.
    pub scope: Scope,
    /// The machine.
    pub host: Host,
    /// Version of the ctrace that wrote it.
    pub writer: String,
    /// What the recorder could not see, by name, with the reason: `io_uring`, `vdso`, `mmap I/O`, `payload`, `ipv6 srtt: field missing`, …
    pub blind: Vec<String>,
    /// What was redacted before writing, by rule; the counts are in the [`Summary`].
    pub redaction: String,
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// A process, its threads, and its future children.
    Pid {
        /// The process.
        pid: u32,
    },
    /// A cgroup and those below it.
    Cgroup {
        /// Its path below the hierarchy's mount, or the mount's path itself as given.
        path: String,
        /// v1 or v2.
        version: u8,
    },
    /// A command that the recorder started, with everything it started.
    Command {
        /// Its (redacted) argument vector.
        argv: Vec<String>,
    },
    /// A container.
    Container {
        /// Its id.
        id: String,
        /// Pod, namespace, image, labels.
        labels: BTreeMap<String, String>,
    },
    /// A pod: its containers, those that appear while it is recorded included. See [`crate::Trace::containers`].
    Pod(Pod),
}

/// A pod, as its runtime described it when recording began.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its Kubernetes uid.
    pub uid: String,
    /// Id of its sandbox.
    pub id: String,
    /// How often its sandbox was made anew.
    pub attempt: u32,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations that do not look like secrets.
    pub annotations: BTreeMap<String, String>,
    /// Name and version of the runtime that said so.
    pub runtime: String,
    /// Only the containers of this name are recorded; `None`: all, and the sandbox.
    pub only: Option<String>,
}

/// A container of the scope: as its runtime described it when it was first seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Container {
    /// Its number in the trace, from 1: what [`crate::ProcessKind::Placed`] and, plus 1, [`crate::Resource::subject`]
    /// say.
    pub number: u32,
    /// Its id.
    pub id: String,
    /// Its name in the pod; empty when nobody who knows was asked.
    pub name: String,
    /// How often it was restarted before.
    pub attempt: u32,
    /// The pod's sandbox, which holds its namespaces: no container of the pod's specification.
    pub sandbox: bool,
    /// Its image, as its author wrote it.
    pub image: String,
    /// Its image, as the runtime identifies it.
    pub image_ref: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations that do not look like secrets.
    pub annotations: BTreeMap<String, String>,
    /// Its cgroup: the folder, with the mount of the hierarchy.
    pub cgroup: String,
    /// Version of the hierarchy, 1 or 2.
    pub cgroup_version: u8,
    /// When it was made, ns since the epoch; 0: not known.
    pub created_realtime_ns: u64,
    /// When it appeared, ns since the start of the trace; 0: it was there.
    pub from_ns: u64,
    /// When its cgroup was removed; `None`: not while recorded.
    pub to_ns: Option<u64>,
}

/// Facts about the machine that explain a recording.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub arch: String,
    /// Host name as the recorder saw it.
    pub hostname: String,
    /// Online CPUs.
    pub cpus: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Anything else worth knowing: clocksource, congestion control, cgroup mode, …
    pub facts: BTreeMap<String, String>,
}

/// The state of the scope at the start of the recording.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// The processes of the scope, parents before children. Empty for a command that the recorder started.
    pub processes: Vec<ProcessSnapshot>,
}

/// A process at the start of the recording.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessSnapshot {
    /// Its id.
    pub tgid: Tgid,
    /// Its parent's id.
    pub parent: Tgid,
    /// Its ids in nested PID namespaces, innermost last.
    pub ns_pids: Vec<u32>,
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// Executable path.
    pub exe: Vec<u8>,
    /// Working directory.
    pub cwd: Vec<u8>,
    /// Root directory.
    pub root: Vec<u8>,
    /// Arguments, redacted.
    pub argv: Vec<Vec<u8>>,
    /// Threads, leader first.
    pub threads: Vec<ThreadSnapshot>,
    /// Open descriptors.
    pub fds: Vec<FdSnapshot>,
    /// Memory mappings.
    pub maps: Vec<MapSnapshot>,
    /// Resource limits: name → (soft, hard), `u64::MAX` for unlimited.
    pub limits: BTreeMap<String, (u64, u64)>,
    /// Ignored signals, bit (signo − 1).
    pub sig_ignored: u64,
    /// Caught signals.
    pub sig_caught: u64,
    /// Effective uid.
    pub uid: u32,
    /// Effective gid.
    pub gid: u32,
    /// umask.
    pub umask: u32,
}

/// A thread at the start of the recording.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ThreadSnapshot {
    /// Its id.
    pub tid: Tid,
    /// Its name.
    pub comm: Vec<u8>,
    /// Blocked signals.
    pub sig_blocked: u64,
    /// The system call it is blocked in, if any: number and arguments (`/proc/TID/syscall`).
    pub syscall: Option<(u32, [u64; 6])>,
}

/// A descriptor at the start of the recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdSnapshot {
    /// The descriptor.
    pub fd: i32,
    /// `open` flags, close-on-exec included.
    pub flags: u32,
    /// File offset.
    pub offset: u64,
    /// What it refers to.
    pub target: FdTarget,
}

/// What a descriptor of the snapshot refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FdTarget {
    /// A file.
    File {
        /// Its path.
        path: Vec<u8>,
        /// `st_mode`; 0: not known, and then `dev`, `size` and `rdev` are not either.
        mode: u32,
        /// `st_dev`.
        dev: u64,
        /// `st_ino`; 0: not known.
        ino: u64,
        /// `st_size`, as the kernel knew it without asking the file system's server.
        size: u64,
        /// `st_rdev`.
        rdev: u64,
    },
    /// A pipe; both ends have the same inode.
    Pipe {
        /// Its inode.
        ino: u64,
    },
    /// A socket.
    Socket {
        /// Its inode.
        ino: u64,
        /// Its cookie, when it could be learned; 0 otherwise.
        cookie: u64,
        /// `AF_*`.
        family: u16,
        /// `SOCK_*`.
        kind: u16,
        /// `IPPROTO_*`.
        protocol: u16,
        /// Whether it listens, and with what backlog.
        listening: Option<u32>,
        /// Bound address.
        local: Option<SockAddr>,
        /// Connected address.
        peer: Option<SockAddr>,
        /// Inode of the other end of a unix pair, 0 when unknown.
        peer_ino: u64,
    },
    /// epoll with what it watches: `(fd, events, data)`.
    Epoll {
        /// What it watches.
        watches: Vec<(i32, u32, u64)>,
    },
    /// Another anonymous inode.
    Anon {
        /// The kernel's name, without brackets.
        kind: Vec<u8>,
        /// State worth keeping (`eventfd-count`, timer settings), as `/proc/PID/fdinfo` tells it.
        info: Vec<u8>,
    },
}

/// A mapping at the start of the recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapSnapshot {
    /// First address.
    pub start: u64,
    /// Length, bytes.
    pub len: u64,
    /// `PROT_*`, with bit 3 for shared.
    pub prot: u8,
    /// File offset.
    pub offset: u64,
    /// File or `[name]`, empty for anonymous memory.
    pub path: Vec<u8>,
}

/// What the recorder knew at the end. Missing in a torn file; readers then count for themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Length of the recording, ns.
    pub duration_ns: u64,
    /// Why it ended: `target exited`, `interrupted`, `duration reached`, `disk full`, …
    pub ended: String,
    /// Exit status of a command that the recorder started, as wait(2) tells it.
    pub command_status: Option<i32>,
    /// Redactions by rule.
    pub redacted: BTreeMap<String, u64>,
    /// Calls made by the replay engine itself, if this is the recording of a replay.
    pub engine_calls: u64,
}

/// Of a trace that a flight recorder dumped: which part of the recording it holds, and why it was dumped. Times are those
/// of the recording, as everywhere in the trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Everything that ended after this time is there; of what ended before, a part. 0: from the start.
    pub from_ns: u64,
    /// When it was taken.
    pub to_ns: u64,
    /// When the snapshot was taken; `None` when the trace has none.
    pub snapshot_ns: Option<u64>,
    /// Events in front of the window that the recorder let go, as it was told to. They are no loss.
    pub evicted: u64,
    /// Which dump of the recording it is, from 1 on.
    pub number: u32,
    /// Why.
    pub reason: DumpReason,
}

/// See [`Window`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DumpReason {
    /// A trigger fired.
    Trigger {
        /// Its expression, and the figures that made it fire.
        text: String,
        /// When.
        t_ns: u64,
    },
    /// The recorder was sent SIGUSR1.
    Signal,
    /// `ctrace mark --dump`.
    Mark {
        /// The mark's text.
        text: String,
    },
    /// The recording ended.
    End,
}

/// What was worked out about the events of a trace while they were written, so that nobody has to read all of them again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Version of what it says; a reader that does not know it works everything out anew.
    pub version: u32,
    /// JSON, made of events as they were written.
    pub json: String,
}
