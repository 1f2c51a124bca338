//! Descriptors, and the things that they refer to: descriptions, pipes, sockets.

use super::super::fsmodel::InodeIx;
use super::super::paths::PathId;
use super::{Mark, OfdIx, PipeIx, SockIx, TaskIx};
use ctrace_analysis::fds;
use ctrace_format::{ObjectId, SockAddr};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Weak;

/// A descriptor table: its descriptors hold descriptions.
pub(crate) type Files = fds::Table<fds::Held<OfdIx>>;

/// A descriptor.
pub(crate) type FdSlot = fds::Slot<fds::Held<OfdIx>>;

/// A description, as descriptors and messages refer to it: when the last of them goes, it is over.
pub(crate) type OfdRef = fds::Description<OfdIx>;

/// An open file description.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "what F_GETFL tells, and where it came from")]
pub(crate) struct Ofd {
    pub(crate) kind: OfdKind,
    pub(crate) nonblock: bool,
    pub(crate) append: bool,
    pub(crate) writable: bool,
    /// File offset.
    pub(crate) pos: u64,
    /// It was opened by the name of a descriptor of a file that has no name any more, or is what was opened so: here those are
    /// one description, with one offset.
    pub(crate) has_twin: bool,
    /// The reference that its descriptors share.
    pub(super) handle: Weak<OfdRef>,
    /// Epoll instances that watch it.
    pub(crate) watched_by: BTreeSet<OfdIx>,
    /// By task, last time a wait on it (a readiness call, for an epoll instance) found nothing.
    pub(crate) idle: Vec<Mark>,
    /// Was there before the recording, or came from outside.
    pub(crate) inherited: bool,
    /// A report of readiness that no read has used yet.
    pub(crate) ready: Option<Arrival>,
    /// Tasks that were told that it is ready, and have not looked yet; kept if several processes have it.
    pub(crate) told: Vec<TaskIx>,
    /// Object of the trace's dictionary.
    pub(crate) object: Option<ObjectId>,
}

/// Looks in vain that are kept of one description.
const IDLE_MARKS: usize = 16;

impl Ofd {
    /// A task found nothing here.
    pub(crate) fn looked_in_vain(&mut self, mark: Mark) {
        self.idle.retain(|m| m.task != mark.task);
        if self.idle.len() >= IDLE_MARKS {
            self.idle.remove(0);
        }
        self.idle.push(mark);
    }

    /// Whether the task had been told that it is ready. It is not told any more.
    pub(crate) fn untold(&mut self, task: TaskIx) -> bool {
        let before = self.told.len();
        self.told.retain(|told| *told != task);
        self.told.len() < before
    }
}

/// Evidence that input had arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// When, at the latest.
    pub(crate) at_ns: u64,
    /// How much had been sent on the same connection before.
    pub(crate) after_sent: u64,
    /// Whether the arrival ended a wait, so that `at_ns` is exact.
    pub(crate) exact: bool,
}

/// The object that a description is open on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfdKind {
    /// A file, directory, device, FIFO.
    Node { path: PathId, inode: InodeIx },
    /// An end of a pipe.
    Pipe { pipe: PipeIx, write: bool },
    /// A socket.
    Sock(SockIx),
    /// An epoll instance, see [`World::epoll`].
    Epoll,
    /// eventfd.
    Event,
    /// timerfd.
    Timer,
    /// signalfd.
    Signal,
    /// inotify.
    Inotify,
    /// memfd.
    Mem { inode: InodeIx },
    /// pidfd.
    Pid,
    /// Something else.
    Other,
}

/// A pipe.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipe {
    /// Came with the first process, or was open at the start: some end may be outside.
    pub(crate) inherited: bool,
    /// Somebody inside held the write end at some time.
    pub(crate) writers: bool,
    /// Somebody inside held the read end at some time.
    pub(crate) readers: bool,
    /// Description of its read end, last known.
    pub(crate) reader: Option<OfdIx>,
}

/// The state of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SockState {
    Fresh,
    Connected,
    Listening,
}

/// A socket.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Sock {
    pub(crate) family: u16,
    pub(crate) kind: u16,
    pub(crate) protocol: u16,
    pub(crate) cookie: u64,
    pub(crate) local: Option<SockAddr>,
    pub(crate) peer: Option<SockAddr>,
    pub(crate) state: SockState,
    /// The other end, when it is inside.
    pub(crate) partner: Option<SockIx>,
    /// A call bound it to all addresses of the host: from which one it speaks depends on whom it speaks to.
    pub(crate) anywhere: bool,
    /// Accepted by the workload (rather than connected by it).
    pub(crate) accepted: bool,
    pub(crate) inherited: bool,
    /// Bytes sent and received so far.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Sends that succeeded so far.
    pub(crate) sends: u32,
    /// Bytes that had been sent when something was received last.
    pub(crate) answered: u64,
    pub(crate) last_send_ns: u64,
    pub(crate) born_ns: u64,
    /// Connections in flight to a listening unix socket, and accepts whose connect has not returned yet.
    pub(super) pending: VecDeque<SockIx>,
    pub(super) early: VecDeque<SockIx>,
    /// The workload said that it sends no more.
    pub(crate) finished: bool,
    /// Its last descriptor is gone.
    pub(crate) closed: bool,
    /// Its description.
    pub(crate) ofd: Option<OfdIx>,
}

impl Sock {
    /// Whether it sends and receives datagrams, each to or from an address.
    pub(crate) fn is_datagram(&self) -> bool {
        self.kind & 0xf == 2 || super::super::netlink::is(self)
    }
}

pub(crate) fn new_sock(family: u16, kind: u16, protocol: u16, cookie: u64, born_ns: u64) -> Sock {
    Sock {
        family,
        kind,
        protocol,
        cookie,
        local: None,
        peer: None,
        state: SockState::Fresh,
        partner: None,
        anywhere: false,
        accepted: false,
        inherited: false,
        sent: 0,
        received: 0,
        sends: 0,
        answered: 0,
        last_send_ns: born_ns,
        born_ns,
        pending: VecDeque::new(),
        early: VecDeque::new(),
        finished: false,
        closed: false,
        ofd: None,
    }
}
