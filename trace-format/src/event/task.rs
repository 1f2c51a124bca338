//! Tasks: who they are, what becomes of them, and what they do with their time.

use super::{StrId, Sysno, TaskId, Tgid, Tid};
use serde::{Deserialize, Serialize};

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
    /// A new program. `argv` is redacted: what the caller passed or, where that could not be read, what the new program
    /// finds (a script's begins with its interpreter).
    Exec {
        /// The file that was executed; empty when it is not known.
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
        /// The memory cgroup that was at its limit. `None`: the memory of the host was short, or it is not known.
        limit: Option<OomLimit>,
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
    /// What the task was doing when it was looked at: at the start, if it was there, and at the end. The call that it
    /// was in is a call of the trace.
    State {
        /// The scheduler's letter, as in `/proc/TID/stat`: `S` sleeping, `D` not to be interrupted, `R` running, ….
        state: u8,
        /// The function of the kernel that it sleeps in; empty: none, or it was not told.
        wchan: StrId,
        /// Since when it has been so, relative to the start of the trace; negative: before it. `None`: not known.
        since_ns: Option<i64>,
    },
    /// The task waits for something that another has, as it was at the end. A task may wait for several, and for
    /// itself.
    WaitsFor {
        /// What it is.
        what: WaitKind,
        /// The task that has it, or of several in a process the one that made the process.
        holder: TaskId,
        /// Its name: of a lock, the path of the file or the address of the word; otherwise the object.
        object: StrId,
    },
    /// The task did not begin as a part of what runs in the recorded cgroups. Said of it and of the tasks that it makes,
    /// under each of their names.
    Origin {
        /// Where it came from.
        origin: Origin,
    },
}

/// What a task waits for that another has, see [`ProcessKind::WaitsFor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
#[non_exhaustive]
pub enum WaitKind {
    /// A mutex whose owner is told by its memory.
    Futex = 1,
    /// `flock`.
    Flock = 2,
    /// A lock of a range of a file: POSIX, or of an open file description.
    PosixLock = 3,
    /// The other end of a pipe or FIFO.
    Pipe = 4,
    /// The other end of a connection.
    Socket = 5,
    /// The end of a child.
    Child = 6,
}

impl WaitKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Futex, Self::Flock, Self::PosixLock, Self::Pipe, Self::Socket, Self::Child];

    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Futex => "futex",
            Self::Flock => "flock",
            Self::PosixLock => "posix-lock",
            Self::Pipe => "pipe",
            Self::Socket => "socket",
            Self::Child => "child",
        }
    }
}

/// Where a task of a recorded cgroup came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
#[non_exhaustive]
pub enum Origin {
    /// It came into the cgroup before any program of the container had begun: the runtime, preparing the container.
    /// From its own first `execve` on it is the application, and no longer of this origin.
    Runtime = 1,
    /// It came into the cgroup when the container had begun (`kubectl exec`, `ctr exec`, a process moved by hand).
    Outside = 2,
}

impl Origin {
    /// Its name, as JSON output has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Outside => "outside",
        }
    }
}

/// A memory cgroup at its limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OomLimit {
    /// Its path in its hierarchy.
    pub cgroup: StrId,
    /// Its limit, bytes.
    pub limit_bytes: u64,
    /// What was charged to it, bytes.
    pub usage_bytes: u64,
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
    /// The sender, when it is a process that is not recorded.
    pub outside: Option<Outsider>,
    /// False: generated; true: delivered.
    pub delivered: bool,
}

/// A process that is not recorded and did something to one that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Outsider {
    /// Its process id.
    pub pid: Tgid,
    /// `task_struct.comm` of the thread that did it.
    pub comm: StrId,
}
