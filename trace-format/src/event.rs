//! The events of a trace: what was observed, in the vocabulary every other crate uses.
//!
//! An event is small and self-contained except for three kinds of references into the trace's
//! dictionaries: [`TaskId`], [`ObjectId`] and [`StrId`]. Dictionaries only grow and an id keeps its meaning for
//! the whole file, so consumers may use ids as keys.
//!
//! Times are nanoseconds of `CLOCK_BOOTTIME` since [`crate::Header::start_boottime_ns`]; the file rounds them
//! down to its tick.

mod call;
mod injection;
mod loss;
mod network;
mod object;
mod request;
mod resource;
mod task;

pub use call::{Abi, Detail, EpollEntry, Message, PassedFd, PollEntry, Syscall, SyscallFlags, Sysno};
pub use injection::{Fault, Injection, InjectionNote};
pub use loss::{Aggregate, Fidelity, FidelityLevel, Loss, LossCause};
pub use network::{Connection, ConnectionKind, Dns, Socket, TcpState};
pub use object::{Object, SockAddr};
pub use request::{Block, BlockOp, Uring};
pub use resource::{Metric, Resource};
pub use task::{Ids, OomLimit, Origin, Outsider, Process, ProcessKind, Signal, TaskDef, Usage, WaitKind};

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
    /// A fault of a plan hit a call of a replay.
    Injection(Injection),
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
    Injection = 15,
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
            Self::Injection => "injection",
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
            Self::Injection(_) => Class::Injection,
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
            Self::Injection(e) => Some(e.task),
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
            Self::Process(e) => {
                earlier(&mut e.t_ns);
                if let ProcessKind::State { since_ns: Some(since_ns), .. } = &mut e.kind {
                    *since_ns = since_ns.saturating_sub_unsigned(origin_ns);
                }
            }
            Self::Connection(e) => earlier(&mut e.t_ns),
            Self::Signal(e) => earlier(&mut e.t_ns),
            Self::Resource(e) => earlier(&mut e.t_ns),
            Self::Marker(e) => earlier(&mut e.t_ns),
            Self::Injection(e) => earlier(&mut e.t_ns),
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
            Self::Injection(e) => e.t_ns,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_when_a_task_sleeps_is_told_from_the_start_of_the_window() {
        let told = |since_ns| {
            let kind = ProcessKind::State { state: b'S', wchan: StrId(0), since_ns };
            let mut event = Event::Process(Process { t_ns: 900, task: TaskId(0), kind });
            assert!(event.rebase(500));
            let Event::Process(Process { t_ns, kind: ProcessKind::State { since_ns, .. }, .. }) = event
            else {
                panic!("{event:?}");
            };
            assert_eq!(t_ns, 400);
            since_ns
        };
        assert_eq!([told(None), told(Some(700)), told(Some(-30))], [None, Some(200), Some(-530)]);
    }
}
