//! What the recorded processes had at each moment: descriptors and what they refer to, working directories, threads.
//! Fed with events in order of completion; every pass over a trace runs one, and two passes with the same seed see
//! the same numbering.

pub(crate) mod apply;
mod descriptors;
mod details;
mod epoll;
pub(crate) mod from_start;
pub(crate) mod groups;
pub(crate) mod limits;
mod names;
mod numbers;
mod open;
mod passing;
mod processes;
mod sockets;
mod transfers;

pub(crate) use details::{
    detail_addr, detail_bytes, detail_epoll, detail_iov, detail_local, detail_messages, detail_newfds,
    detail_object, detail_str, detail_time, detail_value, details_passed, le_u64,
};
pub(crate) use numbers::*;
pub(crate) use open::*;

use super::CompileError;
use super::arrivals::CallId;
use super::budget::Budget;
use super::calls::Calls;
use super::fsmodel::{FsModel, InodeIx};
use super::links::Links;
use super::overlaps::Overlaps;
use super::paths::{PathId, Paths};
use ctrace_analysis::fds::{Closing, Held, Registry, TableId, Tables};
use ctrace_format::{ObjectId, SockAddr, StrId, Syscall, TaskId};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

/// Index of a task (thread) of the world.
pub(crate) type TaskIx = u32;
/// Index of a process of the world.
pub(crate) type ProcIx = u32;
/// Index of an open file description; reused after its last close.
pub(crate) type OfdIx = u32;
/// Index of a socket; never reused.
pub(crate) type SockIx = u32;
/// Index of a pipe; never reused.
pub(crate) type PipeIx = u32;

/// What bytes, counts and connections go through in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StreamKey {
    /// A pipe.
    Pipe(PipeIx),
    /// What is written to, or read from, a socket.
    Sock(SockIx),
    /// The count of an eventfd.
    Event(OfdIx),
    /// What is sent to a datagram socket.
    Datagrams(SockIx),
}

pub(crate) use epoll::{Epoll, Watch};

/// Limits against traces made to exhaust the compiler. No host has as many tasks, or files open, at a time; tasks are
/// counted over the whole recording.
pub(crate) const MAX_TASKS: usize = 200_000;
/// Descriptors in all tables together, one that copies of a table have in common counted once.
pub(crate) const MAX_FD_SLOTS: usize = 2_000_000;
/// Descriptors that calls on ranges may mark in all.
pub(crate) const MAX_MARKED: usize = 1 << 25;
/// Tasks that are told of one description, and epoll instances that watch it, as far as anybody has to know.
pub(crate) const MAX_WATCHERS: usize = 64;

/// A thread.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) tid: u32,
    pub(crate) start_ns: u64,
    pub(crate) proc: ProcIx,
    pub(crate) parent: Option<TaskIx>,
    pub(crate) origin: Origin,
    pub(crate) exited: bool,
    /// Syscall events seen so far.
    pub(crate) ops: u32,
    /// Start and end of its last record.
    pub(crate) last_start_ns: u64,
    pub(crate) last_end_ns: u64,
    /// A name for people.
    pub(crate) comm: Vec<u8>,
    /// Wait status, once it ended.
    pub(crate) status: Option<u32>,
    /// Step of the program that stands for the call being applied; set by the pass that writes programs.
    pub(crate) label: u32,
    /// Children whose clone has not returned yet.
    pub(crate) newborn: VecDeque<TaskIx>,
}

/// How a task came into the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was there at the start.
    Snapshot,
    /// A recorded fork or clone made it.
    Forked,
    /// It appeared without either: the recorder's command, or a newcomer to the scope.
    Root,
}

/// A process.
#[derive(Debug, Clone)]
pub(crate) struct Proc {
    pub(crate) tgid: u32,
    pub(crate) parent: Option<ProcIx>,
    pub(crate) leader: TaskIx,
    /// Its first thread: the leader until another one executes a program.
    pub(crate) first: TaskIx,
    pub(crate) files: TableId,
    pub(crate) fs: u32,
    /// Its oldest ancestor inside, or the youngest that the snapshot shows; perhaps itself.
    pub(crate) root: ProcIx,
    pub(crate) exe: Option<PathId>,
    /// Its process group was made during the recording: nobody outside is in it.
    pub(crate) own_group: bool,
    /// The last times it asked for a child (its recorded number; 0: any) and none had ended.
    pub(crate) no_child: BTreeMap<u64, Mark>,
    /// Threads that it has had, and that it has.
    threads: u32,
    live_threads: u32,
    /// Another process may have the same working directory.
    shares_fs: bool,
    /// The soft limit of descriptor numbers, when known.
    pub(crate) fd_limit: Option<u64>,
    /// What its last exec executed, if that was by a descriptor: the path, if it has one.
    pub(crate) opened: Option<(Option<PathId>, InodeIx)>,
    pub(crate) dead: bool,
}

/// A place in the recording: the `seq`th call of a task, and its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) task: TaskIx,
    pub(crate) seq: u32,
    /// Step of the program, once there is one.
    pub(crate) step: u32,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
}

/// What `CLONE_FS` shares.
#[derive(Debug, Clone)]
pub(crate) struct FsState {
    pub(crate) cwd: PathId,
    /// The root directory: where absolute paths begin.
    pub(crate) root: PathId,
    /// The directory that `cwd` stood for when it became the working directory.
    pub(crate) directory: Option<InodeIx>,
    /// Nothing has told the working directory: it is the one that the recording began in, whichever that was.
    pub(crate) began_here: bool,
    pub(crate) umask: u32,
}

/// A descriptor that was there before the first recorded call of its process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inherited {
    pub(crate) tid: u32,
    pub(crate) start_ns: u64,
    pub(crate) fd: i32,
    pub(crate) object: Option<ObjectId>,
    /// It was seen to be written to.
    pub(crate) written: bool,
    /// It was seen not to block.
    pub(crate) nonblock: bool,
    /// It was seen to append.
    pub(crate) append: bool,
}

/// What an earlier pass learned that a later one needs from its first event on.
#[derive(Debug, Default)]
pub(crate) struct Seed {
    /// Descriptors to be there from the start.
    pub(crate) inherited: Vec<Inherited>,
    /// Flags of the clone that made a task.
    pub(crate) clone_flags: FxHashMap<u32, Vec<(u64, u64)>>,
    /// Addresses of TCP sockets by cookie: own, other.
    pub(crate) tuples: FxHashMap<u64, (SockAddr, SockAddr)>,
    /// Symbolic links: where the kernel ended up when a path was opened.
    pub(crate) links: Links,
    /// Descriptors (of a process, by number) that the snapshot shows because it took a while: a call made them meanwhile.
    pub(crate) late: FxHashSet<(u32, i32)>,
    /// Addresses that sockets of the workload had as their own, besides loopback's: those of the recorded host.
    pub(crate) own_ips: FxHashSet<IpAddr>,
    /// Working directory of processes that nothing says otherwise of.
    pub(crate) cwd: Option<Vec<u8>>,
    /// The limit of descriptor numbers that processes began with, as far as a failure tells it.
    pub(crate) fd_limit: Option<u64>,
    /// Changes of names that returned after others had found them made.
    pub(crate) overlaps: Overlaps,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) budget: Budget,
    /// Bytes of addresses that are kept.
    address_bytes: Cell<usize>,
    pub(crate) calls: Calls,
    pub(crate) paths: Paths,
    pub(crate) fs: FsModel,
    /// Highest number of a descriptor that there was, plus one.
    pub(crate) fd_numbers: u64,
    pub(crate) tasks: Vec<Task>,
    pub(crate) procs: Vec<Proc>,
    pub(crate) files: Tables<Held<OfdIx>>,
    /// Tables of which the kernel's have been given room for the numbers of the engine.
    pub(crate) roomy: FxHashSet<TableId>,
    pub(crate) fs_states: Vec<FsState>,
    pub(crate) ofds: Vec<Ofd>,
    epolls: FxHashMap<OfdIx, Epoll>,
    free_ofds: Vec<OfdIx>,
    pub(crate) socks: Vec<Sock>,
    pub(crate) pipes: Vec<Pipe>,
    by_task_id: FxHashMap<TaskId, TaskIx>,
    by_key: FxHashMap<(u32, u64), TaskIx>,
    live_tid: FxHashMap<u32, TaskIx>,
    /// Recorded ids as the workload saw them (of an inner PID namespace, perhaps).
    numbered: FxHashMap<u64, TaskIx>,
    last_tid: FxHashMap<u32, TaskIx>,
    live_tgid: FxHashMap<u32, ProcIx>,
    pipe_by_ino: FxHashMap<u64, PipeIx>,
    pub(crate) sock_by_cookie: FxHashMap<u64, SockIx>,
    /// There are timers that nobody was seen to make.
    pub(crate) found_timers: bool,
    by_tuple: FxHashMap<(SockAddr, SockAddr), SockIx>,
    /// The last connection that came about from an address, by its cookie.
    came_from: FxHashMap<SockAddr, u64>,
    /// Connections that nobody has accepted yet.
    waiting: FxHashSet<u64>,
    /// The same, and others, by port, in the order in which they came about; the first one is waiting.
    queues: FxHashMap<u16, VecDeque<u64>>,
    listeners: FxHashMap<SockAddr, SockIx>,
    pub(crate) groups: groups::Groups,
    registry: Rc<Registry<OfdIx>>,
    /// Descriptors that calls on ranges marked.
    marked: usize,
    seed: Seed,
    /// Sockets by the file that their name stands for.
    bound_files: FxHashMap<InodeIx, SockIx>,
    /// Names that such files were given later, and of such a socket the last.
    later_names: FxHashMap<SockAddr, SockIx>,
    renamed: FxHashMap<SockIx, SockAddr>,
    /// Descriptors of the seed, by task.
    inherited: FxHashMap<(u32, u64), Vec<usize>>,
    /// Descriptors used without having been made, in the order found.
    pub(crate) discovered: Vec<Inherited>,
    /// Where they are, by task and number.
    found: FxHashMap<(u32, u64, i32), usize>,
    /// The first of them by number and object.
    by_number: FxHashMap<(i32, Option<ObjectId>), usize>,
    /// The same by description.
    discovered_as: FxHashMap<OfdIx, usize>,
    /// Path arguments, as seen from a directory.
    targets: FxHashMap<(PathId, PathId, StrId), PathId>,
    /// Descriptors used without having been made, in processes that could not have inherited them.
    pub(crate) unknown_fds: u64,
    /// Sockets and pipes whose last descriptor went since somebody last took this list.
    pub(crate) gone_socks: Vec<SockIx>,
    /// Descriptions that went since somebody last took this list; their indices are used again.
    pub(crate) gone_ofds: Vec<OfdIx>,
    pairs: Vec<(SockIx, SockIx)>,
    dgram_bound: FxHashMap<SockAddr, SockIx>,
    passing: passing::Passing,
    resolved: FxHashMap<(PathId, bool), PathId>,
    /// Numbers of pseudo terminals, by their masters.
    pub(crate) ptys: FxHashMap<OfdIx, u64>,
    /// The limit of descriptors that the first refused one tells of.
    pub(crate) told_fd_limit: Option<u64>,
    /// Numbers that descriptors had at some time, and those that must have been in use when a higher one was given out;
    /// below which number that was looked at.
    numbers_known: BTreeSet<i32>,
    numbers_unknown: BTreeSet<i32>,
    numbers_judged: i32,
    /// Descriptors that were passed by in looks for free numbers.
    numbers_looked_at: u64,
    /// Descriptors of unknown origin that could be written to, but not read.
    written_to: FxHashSet<(ProcIx, i32)>,
    /// Changes of names that have been made and will return.
    took_effect: FxHashSet<CallId>,
}

/// The path a path argument stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) path: PathId,
    /// The argument was empty with a descriptor (`AT_EMPTY_PATH`).
    pub(crate) by_fd: bool,
}

impl World {
    /// A world before the first event.
    pub(crate) fn new(budget: Budget, seed: Seed, paths: Paths, fs: FsModel) -> Self {
        let mut inherited: FxHashMap<(u32, u64), Vec<usize>> = FxHashMap::default();
        for (i, one) in seed.inherited.iter().enumerate() {
            inherited.entry((one.tid, one.start_ns)).or_default().push(i);
        }
        Self {
            budget,
            address_bytes: Cell::new(0),
            calls: Calls::default(),
            paths,
            fs,
            fd_numbers: 0,
            tasks: Vec::new(),
            procs: Vec::new(),
            files: Tables::unbounded(),
            roomy: FxHashSet::default(),
            fs_states: Vec::new(),
            ofds: Vec::new(),
            epolls: FxHashMap::default(),
            free_ofds: Vec::new(),
            socks: Vec::new(),
            pipes: Vec::new(),
            by_task_id: FxHashMap::default(),
            by_key: FxHashMap::default(),
            live_tid: FxHashMap::default(),
            numbered: FxHashMap::default(),
            last_tid: FxHashMap::default(),
            live_tgid: FxHashMap::default(),
            pipe_by_ino: FxHashMap::default(),
            sock_by_cookie: FxHashMap::default(),
            found_timers: false,
            by_tuple: FxHashMap::default(),
            came_from: FxHashMap::default(),
            waiting: FxHashSet::default(),
            queues: FxHashMap::default(),
            listeners: FxHashMap::default(),
            groups: groups::Groups::default(),
            registry: Rc::default(),
            marked: 0,
            bound_files: FxHashMap::default(),
            later_names: FxHashMap::default(),
            renamed: FxHashMap::default(),
            inherited,
            seed,
            discovered: Vec::new(),
            found: FxHashMap::default(),
            by_number: FxHashMap::default(),
            discovered_as: FxHashMap::default(),
            targets: FxHashMap::default(),
            unknown_fds: 0,
            gone_socks: Vec::new(),
            gone_ofds: Vec::new(),
            pairs: Vec::new(),
            dgram_bound: FxHashMap::default(),
            passing: passing::Passing::default(),
            resolved: FxHashMap::default(),
            ptys: FxHashMap::default(),
            told_fd_limit: None,
            numbers_known: BTreeSet::new(),
            numbers_unknown: BTreeSet::new(),
            numbers_judged: 0,
            numbers_looked_at: 0,
            written_to: FxHashSet::default(),
            took_effect: FxHashSet::default(),
        }
    }

    /// The paths and the file system, for the next pass.
    pub(crate) fn into_parts(self) -> (Paths, FsModel, Seed) {
        (self.paths, self.fs, self.seed)
    }

    /// Refuses a trace that makes more of something than a recording of its length has.
    fn check(&self) -> Result<(), CompileError> {
        let Self { budget, paths, fs, socks, pipes, ofds, .. } = self;
        // After every event: mostly, one comparison tells that there is nothing to say.
        let most = paths.len().max(fs.nodes().len()).max(socks.len()).max(pipes.len()).max(ofds.len());
        if budget.holds(most) && budget.holds_names((paths.bytes() as usize).max(self.address_bytes.get())) {
            return Ok(());
        }
        for (what, count) in [
            ("paths", paths.len()),
            ("files", fs.nodes().len()),
            ("sockets", socks.len()),
            ("pipes", pipes.len()),
            ("open files", ofds.len()),
        ] {
            budget.things(what, count)?;
        }
        budget.names("bytes of paths", paths.bytes() as usize)?;
        budget.names("bytes of addresses", self.address_bytes.get())
    }

    /// The descriptor table of a task.
    pub(crate) fn files_of(&self, task: TaskIx) -> &Files {
        let proc = &self.procs[self.tasks[task as usize].proc as usize];
        &self.files[proc.files]
    }

    /// Whether more than one task has the descriptor table of a process.
    pub(crate) fn has_shared_files(&self, proc: ProcIx) -> bool {
        let state = &self.procs[proc as usize];
        state.threads > 1 || self.files[state.files].users() > 1
    }

    /// Whether calls on a descriptor wait.
    pub(crate) fn blocks(&self, task: TaskIx, fd: i32) -> bool {
        self.ofd_of(task, fd).is_some_and(|ofd| !self.ofds[ofd as usize].nonblock)
    }

    /// The working directory of a task, and what comes with it.
    pub(crate) fn fs_of(&self, task: TaskIx) -> &FsState {
        let proc = &self.procs[self.tasks[task as usize].proc as usize];
        &self.fs_states[proc.fs as usize]
    }

    /// The bytes of a path as a task sees it from its working directory, or its root.
    pub(crate) fn seen(&self, task: TaskIx, path: &[u8]) -> Vec<u8> {
        let state = self.fs_of(task);
        self.paths.joined(state.root, state.cwd, path)
    }

    /// Whether others than one thread of a process could read from a description that it has as `fd`.
    pub(crate) fn is_shared(&self, proc: ProcIx, fd: i32, ofd: OfdIx) -> bool {
        self.procs[proc as usize].threads > 1 || self.has_others(proc, fd, ofd)
    }

    /// Whether there is another descriptor of a description than `fd` of a process.
    pub(crate) fn has_others(&self, proc: ProcIx, fd: i32, ofd: OfdIx) -> bool {
        let files = &self.files[self.procs[proc as usize].files];
        self.ofds[ofd as usize].handle.strong_count() > 1 || files.slots().is_shared_at(&fd)
    }

    /// Descriptors in all tables; one that tables have in common counts once.
    #[cfg(test)]
    pub(crate) fn slots(&self) -> usize {
        self.registry.descriptors()
    }

    /// What an epoll instance watches.
    pub(crate) fn epoll(&self, ofd: OfdIx) -> Option<&Epoll> {
        self.epolls.get(&ofd)
    }

    /// What an epoll instance watches, to change.
    pub(crate) fn epoll_mut(&mut self, ofd: OfdIx) -> Option<&mut Epoll> {
        self.epolls.get_mut(&ofd)
    }

    /// The description that a close is about: what has its number may be another thread's by now, since a close gives the number
    /// back when it begins.
    pub(crate) fn closed_by(&self, task: TaskIx, call: &Syscall) -> Option<OfdIx> {
        match self.files_of(task).closing(call.args[0] as i32, call.t_ns)? {
            Closing::Present(slot) => Some(slot.what.id()),
            Closing::Past(()) | Closing::Unseen => None,
        }
    }

    /// The description behind a descriptor of a task.
    pub(crate) fn ofd_of(&self, task: TaskIx, fd: i32) -> Option<OfdIx> {
        self.files_of(task).get(fd).map(|slot| slot.what.id())
    }
}
