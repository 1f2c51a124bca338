//! What the recorded processes had at each moment: descriptors and what they refer to, working directories, threads.
//! Fed with events in order of completion; every pass over a trace runs one, and two passes with the same seed see
//! the same numbering.

use super::CompileError;
use super::calls::{Calls, Known, Sc};
use super::fsmodel::{FsModel, InodeIx, NodeKind, PathId, Paths};
use super::links::Links;
use super::source::Source;
use ctrace_format::syscalls::Kind;
use ctrace_format::{
    Detail, EpollEntry, Event, FdTarget, Object, ObjectId, Process, ProcessKind, SockAddr, Syscall,
    SyscallFlags, TaskId,
};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

/// Limits against traces made to exhaust the compiler.
pub(crate) const MAX_TASKS: usize = 200_000;
const MAX_FD_SLOTS: usize = 8_000_000;

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
    /// End of its last record.
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
    pub(crate) files: u32,
    pub(crate) fs: u32,
    pub(crate) exe: Option<PathId>,
    /// The last time it asked for a child and none had ended.
    pub(crate) no_child: Option<Mark>,
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

/// A descriptor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FdSlot {
    pub(crate) ofd: OfdIx,
    pub(crate) cloexec: bool,
    /// When the call that made it returned.
    pub(crate) since_ns: u64,
}

/// A descriptor table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    pub(crate) slots: BTreeMap<i32, FdSlot>,
    users: u32,
}

/// What `CLONE_FS` shares.
#[derive(Debug, Clone)]
pub(crate) struct FsState {
    pub(crate) cwd: PathId,
    pub(crate) umask: u32,
}

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
    refs: u32,
    /// Epoll instances that watch it.
    pub(crate) watched_by: Vec<OfdIx>,
    /// Last time a wait on it (a readiness call, for an epoll instance) found nothing.
    pub(crate) idle: Option<Mark>,
    /// Was there before the recording, or came from outside.
    pub(crate) inherited: bool,
    /// A report of readiness that no read has used yet.
    pub(crate) ready: Option<Arrival>,
    /// Object of the trace's dictionary.
    pub(crate) object: Option<ObjectId>,
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

/// What is behind a description.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum OfdKind {
    /// A file, directory, device, FIFO.
    Node { path: PathId, inode: InodeIx },
    /// An end of a pipe.
    Pipe { pipe: PipeIx, write: bool },
    /// A socket.
    Sock(SockIx),
    /// epoll: data → descriptor.
    Epoll { watches: BTreeMap<u64, Watch> },
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

/// A descriptor that an epoll instance watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) fd: i32,
    pub(crate) ofd: OfdIx,
    pub(crate) events: u32,
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

/// What a socket is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SockState {
    Fresh,
    Connected,
    Listening,
}

/// A socket.
#[derive(Debug, Clone)]
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
    /// Accepted by the workload (rather than connected by it).
    pub(crate) accepted: bool,
    pub(crate) inherited: bool,
    /// Bytes sent and received so far.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// What had been sent when something was received last.
    pub(crate) answered: u64,
    pub(crate) last_send_ns: u64,
    pub(crate) born_ns: u64,
    /// Connections in flight to a listening unix socket, and accepts whose connect has not returned yet.
    pending: VecDeque<SockIx>,
    early: VecDeque<SockIx>,
    /// Its last descriptor is gone.
    pub(crate) closed: bool,
    /// Its description.
    pub(crate) ofd: Option<OfdIx>,
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
    /// Working directory of processes that nothing says otherwise of.
    pub(crate) cwd: Option<Vec<u8>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) calls: Calls,
    pub(crate) paths: Paths,
    pub(crate) fs: FsModel,
    pub(crate) tasks: Vec<Task>,
    pub(crate) procs: Vec<Proc>,
    pub(crate) files: Vec<Files>,
    pub(crate) fs_states: Vec<FsState>,
    pub(crate) ofds: Vec<Ofd>,
    free_ofds: Vec<OfdIx>,
    pub(crate) socks: Vec<Sock>,
    pub(crate) pipes: Vec<Pipe>,
    by_task_id: FxHashMap<TaskId, TaskIx>,
    by_key: FxHashMap<(u32, u64), TaskIx>,
    live_tid: FxHashMap<u32, TaskIx>,
    last_tid: FxHashMap<u32, TaskIx>,
    live_tgid: FxHashMap<u32, ProcIx>,
    pipe_by_ino: FxHashMap<u64, PipeIx>,
    pub(crate) sock_by_cookie: FxHashMap<u64, SockIx>,
    by_tuple: FxHashMap<(SockAddr, SockAddr), SockIx>,
    listeners: FxHashMap<SockAddr, SockIx>,
    slots: usize,
    seed: Seed,
    /// Descriptors used without having been made, in the order found.
    pub(crate) discovered: Vec<Inherited>,
    /// Descriptors used without having been made, in processes that could not have inherited them.
    pub(crate) unknown_fds: u64,
    /// Sockets and pipes whose last descriptor went since somebody last took this list.
    pub(crate) gone_socks: Vec<SockIx>,
    /// Descriptions that went since somebody last took this list; their indices are used again.
    pub(crate) gone_ofds: Vec<OfdIx>,
    pairs: Vec<(SockIx, SockIx)>,
    dgram_bound: FxHashMap<SockAddr, SockIx>,
    resolved: FxHashMap<(PathId, bool), PathId>,
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
    pub(crate) fn new(seed: Seed, paths: Paths, fs: FsModel) -> Self {
        Self {
            calls: Calls::default(),
            paths,
            fs,
            tasks: Vec::new(),
            procs: Vec::new(),
            files: Vec::new(),
            fs_states: Vec::new(),
            ofds: Vec::new(),
            free_ofds: Vec::new(),
            socks: Vec::new(),
            pipes: Vec::new(),
            by_task_id: FxHashMap::default(),
            by_key: FxHashMap::default(),
            live_tid: FxHashMap::default(),
            last_tid: FxHashMap::default(),
            live_tgid: FxHashMap::default(),
            pipe_by_ino: FxHashMap::default(),
            sock_by_cookie: FxHashMap::default(),
            by_tuple: FxHashMap::default(),
            listeners: FxHashMap::default(),
            slots: 0,
            seed,
            discovered: Vec::new(),
            unknown_fds: 0,
            gone_socks: Vec::new(),
            gone_ofds: Vec::new(),
            pairs: Vec::new(),
            dgram_bound: FxHashMap::default(),
            resolved: FxHashMap::default(),
        }
    }

    /// The paths and the file system, for the next pass.
    pub(crate) fn into_parts(self) -> (Paths, FsModel, Seed) {
        (self.paths, self.fs, self.seed)
    }

    /// Puts the processes of the start snapshot into the world.
    pub(crate) fn enter_snapshot(&mut self, source: &dyn Source) -> Result<(), CompileError> {
        for process in &source.snapshot().processes {
            let parent = self.live_tgid.get(&process.parent.0).copied();
            let cwd = if process.cwd.is_empty() {
                self.paths.intern(b"/")
            } else {
                self.paths.intern(&process.cwd)
            };
            self.fs.present(cwd, NodeKind::Dir);
            let exe = (!process.exe.is_empty()).then(|| self.paths.intern(&process.exe));
            if let Some(exe) = exe {
                let ix = self.fs.present(exe, NodeKind::File);
                self.fs.node_mut(ix).executed = true;
            }
            let proc = self.add_proc(process.tgid.0, parent, cwd, process.umask, exe);
            let mut tids: Vec<(u32, Vec<u8>)> =
                process.threads.iter().map(|t| (t.tid.0, t.comm.clone())).collect();
            if tids.is_empty() {
                tids.push((process.tgid.0, Vec::new()));
            }
            for (i, (tid, comm)) in tids.into_iter().enumerate() {
                let parent_task = if i == 0 {
                    parent.map(|p| self.procs[p as usize].leader)
                } else {
                    Some(self.procs[proc as usize].leader)
                };
                let task = self.add_task(tid, 0, proc, parent_task, Origin::Snapshot, comm)?;
                if i == 0 {
                    self.set_leader(proc, task);
                }
            }
            for fd in &process.fds {
                let kind = self.kind_of_target(&fd.target, fd.flags);
                let ofd = self.add_ofd(kind, fd.flags, None);
                self.ofds[ofd as usize].pos = fd.offset;
                self.ofds[ofd as usize].inherited = true;
                self.put_fd(proc, fd.fd, ofd, fd.flags & O_CLOEXEC != 0, 0)?;
            }
            for fd in &process.fds {
                if let FdTarget::Epoll { watches } = &fd.target {
                    for (watched, events, data) in watches {
                        self.watch(proc, fd.fd, *watched, *events, *data);
                    }
                }
            }
        }
        Ok(())
    }

    /// The task of an event; made when it is new.
    pub(crate) fn task_of(&mut self, source: &dyn Source, id: TaskId) -> Result<TaskIx, CompileError> {
        if let Some(ix) = self.by_task_id.get(&id) {
            return Ok(*ix);
        }
        let def = source.task(id);
        let comm = source.str(def.comm).to_vec();
        let ix = if let Some(ix) = self.by_key.get(&(def.tid.0, def.start_ns)) {
            *ix
        } else if let Some(ix) = self.live_tid.get(&def.tid.0).copied().filter(|t| {
            let task = &self.tasks[*t as usize];
            task.origin == Origin::Snapshot && !task.exited && task.ops == 0
        }) {
            // A snapshot does not tell when a thread began; its first event does.
            ix
        } else if let Some(ix) = self.last_tid.get(&def.tid.0).copied().filter(|t| {
            // What a task was in when it ended is recorded after its end, perhaps without its name.
            comm.is_empty() && self.procs[self.tasks[*t as usize].proc as usize].tgid == def.tgid.0
        }) {
            ix
        } else if let Some(proc) =
            self.live_tgid.get(&def.tgid.0).copied().filter(|_| def.tid.0 != def.tgid.0)
        {
            let leader = self.procs[proc as usize].leader;
            self.add_task(def.tid.0, def.start_ns, proc, Some(leader), Origin::Root, comm.clone())?
        } else {
            let cwd = self.seed.cwd.clone().unwrap_or_else(|| b"/".to_vec());
            let cwd = self.paths.intern(&cwd);
            self.fs.present(cwd, NodeKind::Dir);
            let proc = self.add_proc(def.tgid.0, None, cwd, 0o022, None);
            let ix = self.add_task(def.tid.0, def.start_ns, proc, None, Origin::Root, comm.clone())?;
            self.set_leader(proc, ix);
            self.give_inherited(source, ix)?;
            ix
        };
        self.by_key.insert((def.tid.0, def.start_ns), ix);
        self.by_task_id.insert(id, ix);
        if !comm.is_empty() {
            self.tasks[ix as usize].comm = comm;
        }
        Ok(ix)
    }

    /// Descriptors that an earlier pass found this root to have had.
    fn give_inherited(&mut self, source: &dyn Source, ix: TaskIx) -> Result<(), CompileError> {
        let (tid, start_ns) = (self.tasks[ix as usize].tid, self.tasks[ix as usize].start_ns);
        let proc = self.tasks[ix as usize].proc;
        let mine: Vec<Inherited> =
            self.seed.inherited.iter().filter(|i| i.tid == tid && i.start_ns == start_ns).cloned().collect();
        for one in mine {
            let ofd = self.inherited_ofd(source, &one);
            self.put_fd(proc, one.fd, ofd, false, 0)?;
        }
        Ok(())
    }

    fn inherited_ofd(&mut self, source: &dyn Source, one: &Inherited) -> OfdIx {
        let kind = one
            .object
            .map_or(OfdKind::Other, |id| self.kind_of_object(source, source.object(id), one.written));
        match &kind {
            OfdKind::Pipe { pipe, .. } => self.pipes[*pipe as usize].inherited = true,
            OfdKind::Sock(sock) => {
                let sock = &mut self.socks[*sock as usize];
                sock.inherited = true;
                if sock.state == SockState::Fresh && sock.peer.is_some() {
                    sock.state = SockState::Connected;
                }
            }
            _ => {}
        }
        let flags = if one.written { 2 } else { 0 };
        let ofd = self.add_ofd(kind, flags, one.object);
        self.ofds[ofd as usize].inherited = true;
        ofd
    }

    /// The descriptor table of a task.
    pub(crate) fn files_of(&self, task: TaskIx) -> &Files {
        let proc = &self.procs[self.tasks[task as usize].proc as usize];
        &self.files[proc.files as usize]
    }
    /// The working directory of a task.
    pub(crate) fn cwd_of(&self, task: TaskIx) -> PathId {
        let proc = &self.procs[self.tasks[task as usize].proc as usize];
        self.fs_states[proc.fs as usize].cwd
    }
    /// The description behind a descriptor of a task.
    pub(crate) fn ofd_of(&self, task: TaskIx, fd: i32) -> Option<OfdIx> {
        self.files_of(task).slots.get(&fd).map(|s| s.ofd)
    }
    /// The live task with this thread id.
    pub(crate) fn live(&self, tid: u32) -> Option<TaskIx> {
        self.live_tid.get(&tid).copied()
    }
    /// The listening socket inside that a connect to `addr` would reach.
    pub(crate) fn listener(&self, addr: &SockAddr) -> Option<SockIx> {
        let addr = canonical(addr);
        if let Some(ix) = self.listeners.get(&addr) {
            return Some(*ix);
        }
        let SockAddr::Inet(at) = addr else { return None };
        [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
            .into_iter()
            .find_map(|any| self.listeners.get(&SockAddr::Inet(SocketAddr::new(any, at.port()))).copied())
    }

    /// The child that a clone of `task` which returned `ret` made. The returned id may be of an inner PID namespace.
    pub(crate) fn child_of_clone(&self, task: TaskIx, ret: i64) -> Option<TaskIx> {
        self.tasks[task as usize].newborn.front().copied().or_else(|| self.live(u32::try_from(ret).ok()?))
    }
    /// Pairs of sockets that were found to be the two ends of one connection since the last time.
    pub(crate) fn newly_paired(&mut self) -> Vec<(SockIx, SockIx)> {
        if self.gone_socks.len() > 4096 || self.gone_ofds.len() > 4096 {
            // A pass that does not care.
            self.gone_socks.clear();
            self.gone_ofds.clear();
        }
        std::mem::take(&mut self.pairs)
    }

    /// Whether some datagram socket inside is bound to an address.
    pub(crate) fn bound(&self, addr: &SockAddr) -> bool {
        let addr = canonical(addr);
        self.dgram_bound.get(&addr).is_some_and(|s| !self.socks[*s as usize].closed)
    }

    /// Makes sure that the descriptor a call succeeded on is known: one that nothing made was inherited.
    pub(crate) fn ensure_fd(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        fd: i32,
        object: Option<ObjectId>,
        writes: bool,
    ) -> Result<Option<OfdIx>, CompileError> {
        if fd < 0 {
            return Ok(None);
        }
        if let Some(ofd) = self.ofd_of(task, fd) {
            let known = &mut self.ofds[ofd as usize];
            if known.inherited && writes && !known.writable {
                known.writable = true;
                if let Some(i) = self.discovered.iter_mut().find(|d| d.fd == fd && d.object == known.object) {
                    i.written = true;
                }
            }
            if known.object != object
                && let Some(id) = object
            {
                known.object = Some(id);
                self.learn(source, ofd, source.object(id));
            }
            return Ok(Some(ofd));
        }
        let Some(object) = object else {
            self.unknown_fds += 1;
            return Ok(None);
        };
        // The oldest ancestor inside is where it came from.
        let mut proc = self.tasks[task as usize].proc;
        let mut depth = 0;
        while let Some(parent) = self.procs[proc as usize].parent {
            proc = parent;
            depth += 1;
            if depth > MAX_TASKS {
                break;
            }
        }
        let root = self.procs[proc as usize].leader;
        let one = Inherited {
            tid: self.tasks[root as usize].tid,
            start_ns: self.tasks[root as usize].start_ns,
            fd,
            object: Some(object),
            written: writes,
        };
        if self.tasks[root as usize].origin != Origin::Root {
            self.unknown_fds += 1;
        }
        let ofd = self.inherited_ofd(source, &one);
        if !self.discovered.iter().any(|d| (d.tid, d.start_ns, d.fd) == (one.tid, one.start_ns, one.fd)) {
            self.discovered.push(one);
        }
        let mine = self.tasks[task as usize].proc;
        self.put_fd(mine, fd, ofd, false, 0)?;
        let root_files = self.procs[proc as usize].files;
        if proc != mine && !self.files[root_files as usize].slots.contains_key(&fd) {
            self.put_fd(proc, fd, ofd, false, 0)?;
        }
        Ok(Some(ofd))
    }

    /// An object that was not known yet when its descriptor was made.
    fn learn(&mut self, source: &dyn Source, ofd: OfdIx, object: &Object) {
        let _ = source;
        match (self.ofds[ofd as usize].kind.clone(), object) {
            (OfdKind::Node { inode, .. }, Object::File { mode, rdev, size, .. }) => {
                self.correct(inode, *mode, *size);
                self.tell(inode, *mode, *rdev, *size);
            }
            (OfdKind::Sock(ix), Object::Socket { cookie, local, peer, .. }) if cookie.0 != 0 => {
                let sock = &mut self.socks[ix as usize];
                // An identity by inode, of the snapshot, yields to the real one.
                if sock.cookie == 0 || sock.cookie >> 63 != 0 {
                    sock.cookie = cookie.0;
                    self.sock_by_cookie.insert(cookie.0, ix);
                }
                if sock.local.is_none() {
                    sock.local.clone_from(local);
                }
                if sock.peer.is_none() {
                    sock.peer.clone_from(peer);
                }
                if let Some((local, peer)) = self.seed.tuples.get(&cookie.0).cloned()
                    && sock.state == SockState::Connected
                {
                    sock.local = Some(local);
                    sock.peer = Some(peer);
                }
                if self.socks[ix as usize].state == SockState::Connected {
                    self.join_tuple(ix);
                }
            }
            _ => {}
        }
    }

    /// What the path argument `arg` of a call means; `dirfd` is the descriptor it is relative to.
    pub(crate) fn target(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        arg: u8,
        dirfd: Option<i32>,
    ) -> Option<Target> {
        let text = detail_str(call, arg).map(|id| source.str(id))?;
        let base = match dirfd {
            Some(fd) if fd != AT_FDCWD && text.first() != Some(&b'/') => match self.ofd_of(task, fd) {
                Some(ofd) => match self.ofds[ofd as usize].kind {
                    OfdKind::Node { path, .. } => path,
                    _ => return None,
                },
                None => return None,
            },
            _ => self.cwd_of(task),
        };
        let by_fd = text.is_empty();
        let path = self.paths.join(base, text);
        let sc = self.calls.get(call.sysno).sc;
        Some(Target { path: self.resolve(path, follows(sc, call)), by_fd })
    }

    /// The path behind links, the last component's only when `follow`.
    pub(crate) fn resolve(&mut self, path: PathId, follow: bool) -> PathId {
        if self.seed.links.is_empty() {
            return path;
        }
        if let Some(known) = self.resolved.get(&(path, follow)) {
            return *known;
        }
        let to = self.seed.links.resolve(self.paths.get(path), follow);
        let to = self.paths.intern(&to);
        self.resolved.insert((path, follow), to);
        to
    }

    /// Applies an event other than a system call.
    pub(crate) fn apply_process(&mut self, source: &dyn Source, event: &Process) -> Result<(), CompileError> {
        let task = self.task_of(source, event.task)?;
        match &event.kind {
            ProcessKind::Fork { child } => {
                let def = source.task(*child);
                let key = (def.tid.0, def.start_ns);
                if self.by_key.contains_key(&key) {
                    return Ok(());
                }
                let comm = source.str(def.comm).to_vec();
                let parent_proc = self.tasks[task as usize].proc;
                let flags = self.clone_flags_of(def.tid.0, event.t_ns);
                let ix = if def.tgid.0 == self.procs[parent_proc as usize].tgid && def.tid.0 != def.tgid.0 {
                    self.add_task(def.tid.0, def.start_ns, parent_proc, Some(task), Origin::Forked, comm)?
                } else {
                    self.fork(def.tid.0, def.tgid.0, def.start_ns, task, flags, comm)?
                };
                self.by_task_id.insert(*child, ix);
                self.by_key.insert(key, ix);
                self.tasks[task as usize].newborn.push_back(ix);
            }
            ProcessKind::Exec { path, old_tid, .. } => {
                let def = source.task(event.task);
                let task = if old_tid.0 != def.tid.0 && old_tid.0 != 0 {
                    self.live_tid.get(&old_tid.0).copied().unwrap_or(task)
                } else {
                    task
                };
                self.by_task_id.insert(event.task, task);
                self.live_tid.insert(def.tid.0, task);
                let proc = self.tasks[task as usize].proc;
                self.procs[proc as usize].leader = task;
                let path = self.paths.intern(source.str(*path));
                let path = self.resolve(path, true);
                self.procs[proc as usize].exe = Some(path);
                let ix = self.fs.present(path, NodeKind::File);
                self.fs.node_mut(ix).executed = true;
                self.exec(proc)?;
            }
            ProcessKind::Exit { status, group_dead } => {
                let state = &mut self.tasks[task as usize];
                state.exited = true;
                state.status = Some(*status);
                let (tid, proc) = (state.tid, state.proc);
                if self.live_tid.get(&tid) == Some(&task) {
                    self.live_tid.remove(&tid);
                }
                if *group_dead {
                    let tgid = self.procs[proc as usize].tgid;
                    self.procs[proc as usize].dead = true;
                    if self.live_tgid.get(&tgid) == Some(&proc) {
                        self.live_tgid.remove(&tgid);
                    }
                    self.drop_files(proc);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn clone_flags_of(&self, tid: u32, at_ns: u64) -> u64 {
        // The clone that made it returned after the fork event: the first such one.
        self.seed
            .clone_flags
            .get(&tid)
            .and_then(|all| all.iter().find(|(end, _)| *end >= at_ns))
            .map_or(0, |(_, flags)| *flags)
    }

    fn fork(
        &mut self,
        tid: u32,
        tgid: u32,
        start_ns: u64,
        parent: TaskIx,
        flags: u64,
        comm: Vec<u8>,
    ) -> Result<TaskIx, CompileError> {
        let from = self.procs[self.tasks[parent as usize].proc as usize].clone();
        let files = if flags & CLONE_FILES != 0 {
            self.files[from.files as usize].users += 1;
            from.files
        } else {
            let mut copy = self.files[from.files as usize].clone();
            copy.users = 1;
            self.slots += copy.slots.len();
            if self.slots > MAX_FD_SLOTS {
                return Err(CompileError::TooMany { what: "open descriptors", limit: MAX_FD_SLOTS });
            }
            for slot in copy.slots.values() {
                self.ofds[slot.ofd as usize].refs += 1;
            }
            self.files.push(copy);
            (self.files.len() - 1) as u32
        };
        let fs = if flags & CLONE_FS != 0 {
            from.fs
        } else {
            self.fs_states.push(self.fs_states[from.fs as usize].clone());
            (self.fs_states.len() - 1) as u32
        };
        let proc = self.procs.len() as ProcIx;
        self.procs.push(Proc {
            tgid,
            parent: Some(self.tasks[parent as usize].proc),
            leader: 0,
            first: 0,
            files,
            fs,
            exe: from.exe,
            no_child: None,
            dead: false,
        });
        self.live_tgid.insert(tgid, proc);
        let ix = self.add_task(tid, start_ns, proc, Some(parent), Origin::Forked, comm)?;
        self.set_leader(proc, ix);
        Ok(ix)
    }

    fn add_proc(
        &mut self,
        tgid: u32,
        parent: Option<ProcIx>,
        cwd: PathId,
        umask: u32,
        exe: Option<PathId>,
    ) -> ProcIx {
        self.files.push(Files { slots: BTreeMap::new(), users: 1 });
        self.fs_states.push(FsState { cwd, umask });
        let proc = self.procs.len() as ProcIx;
        self.procs.push(Proc {
            tgid,
            parent,
            leader: 0,
            first: 0,
            files: (self.files.len() - 1) as u32,
            fs: (self.fs_states.len() - 1) as u32,
            exe,
            no_child: None,
            dead: false,
        });
        self.live_tgid.insert(tgid, proc);
        proc
    }

    fn add_task(
        &mut self,
        tid: u32,
        start_ns: u64,
        proc: ProcIx,
        parent: Option<TaskIx>,
        origin: Origin,
        comm: Vec<u8>,
    ) -> Result<TaskIx, CompileError> {
        if self.tasks.len() >= MAX_TASKS {
            return Err(CompileError::TooMany { what: "tasks", limit: MAX_TASKS });
        }
        let ix = self.tasks.len() as TaskIx;
        self.tasks.push(Task {
            tid,
            start_ns,
            proc,
            parent,
            origin,
            exited: false,
            ops: 0,
            last_end_ns: start_ns,
            comm,
            status: None,
            label: 0,
            newborn: VecDeque::new(),
        });
        self.live_tid.insert(tid, ix);
        self.last_tid.insert(tid, ix);
        Ok(ix)
    }

    fn set_leader(&mut self, proc: ProcIx, task: TaskIx) {
        let proc = &mut self.procs[proc as usize];
        proc.leader = task;
        proc.first = task;
    }

    fn exec(&mut self, proc: ProcIx) -> Result<(), CompileError> {
        let files = self.procs[proc as usize].files;
        if self.files[files as usize].users > 1 {
            self.files[files as usize].users -= 1;
            let mut copy = self.files[files as usize].clone();
            copy.users = 1;
            self.slots += copy.slots.len();
            if self.slots > MAX_FD_SLOTS {
                return Err(CompileError::TooMany { what: "open descriptors", limit: MAX_FD_SLOTS });
            }
            for slot in copy.slots.values() {
                self.ofds[slot.ofd as usize].refs += 1;
            }
            self.procs[proc as usize].files = self.files.len() as u32;
            self.files.push(copy);
        }
        let files = self.procs[proc as usize].files;
        let gone: Vec<i32> =
            self.files[files as usize].slots.iter().filter(|(_, s)| s.cloexec).map(|(fd, _)| *fd).collect();
        for fd in gone {
            self.drop_fd(files, fd);
        }
        Ok(())
    }

    fn drop_files(&mut self, proc: ProcIx) {
        let files = self.procs[proc as usize].files;
        let table = &mut self.files[files as usize];
        table.users = table.users.saturating_sub(1);
        if table.users == 0 {
            let fds: Vec<i32> = table.slots.keys().copied().collect();
            for fd in fds {
                self.drop_fd(files, fd);
            }
        }
    }

    fn add_ofd(&mut self, kind: OfdKind, flags: u32, object: Option<ObjectId>) -> OfdIx {
        let ix = self.free_ofds.last().copied().unwrap_or(self.ofds.len() as OfdIx);
        match kind {
            OfdKind::Pipe { pipe, write: true } => self.pipes[pipe as usize].writers = true,
            OfdKind::Pipe { pipe, write: false } => {
                let pipe = &mut self.pipes[pipe as usize];
                pipe.readers = true;
                pipe.reader = Some(ix);
            }
            OfdKind::Sock(sock) => self.socks[sock as usize].ofd = Some(ix),
            _ => {}
        }
        let ofd = Ofd {
            kind,
            nonblock: flags & O_NONBLOCK != 0,
            append: flags & O_APPEND != 0,
            writable: flags & 3 != 0,
            pos: 0,
            refs: 0,
            watched_by: Vec::new(),
            idle: None,
            inherited: false,
            ready: None,
            object,
        };
        if let Some(ix) = self.free_ofds.pop() {
            self.ofds[ix as usize] = ofd;
            ix
        } else {
            self.ofds.push(ofd);
            (self.ofds.len() - 1) as OfdIx
        }
    }

    fn put_fd(
        &mut self,
        proc: ProcIx,
        fd: i32,
        ofd: OfdIx,
        cloexec: bool,
        at_ns: u64,
    ) -> Result<(), CompileError> {
        let files = self.procs[proc as usize].files;
        self.ofds[ofd as usize].refs += 1;
        let old = self.files[files as usize].slots.insert(fd, FdSlot { ofd, cloexec, since_ns: at_ns });
        if let Some(old) = old {
            self.unref(old.ofd);
        } else {
            self.slots += 1;
            if self.slots > MAX_FD_SLOTS {
                return Err(CompileError::TooMany { what: "open descriptors", limit: MAX_FD_SLOTS });
            }
        }
        Ok(())
    }

    fn drop_fd(&mut self, files: u32, fd: i32) {
        if let Some(slot) = self.files[files as usize].slots.remove(&fd) {
            self.slots = self.slots.saturating_sub(1);
            self.unref(slot.ofd);
        }
    }

    fn unref(&mut self, ofd: OfdIx) {
        let state = &mut self.ofds[ofd as usize];
        state.refs = state.refs.saturating_sub(1);
        if state.refs > 0 {
            return;
        }
        let kind = std::mem::replace(&mut state.kind, OfdKind::Other);
        let watchers = std::mem::take(&mut state.watched_by);
        for epoll in watchers {
            if let OfdKind::Epoll { watches } = &mut self.ofds[epoll as usize].kind {
                watches.retain(|_, w| w.ofd != ofd);
            }
        }
        match kind {
            OfdKind::Epoll { watches } => {
                for watch in watches.values() {
                    self.ofds[watch.ofd as usize].watched_by.retain(|e| *e != ofd);
                }
            }
            OfdKind::Sock(ix) => {
                self.socks[ix as usize].closed = true;
                self.socks[ix as usize].ofd = None;
                self.gone_socks.push(ix);
                let sock = &self.socks[ix as usize];
                if sock.state == SockState::Listening
                    && let Some(local) = &sock.local
                {
                    let key = canonical(local);
                    if self.listeners.get(&key) == Some(&ix) {
                        self.listeners.remove(&key);
                    }
                }
                if let (Some(local), Some(peer)) = (&sock.local, &sock.peer) {
                    let key = (canonical(local), canonical(peer));
                    if self.by_tuple.get(&key) == Some(&ix) {
                        self.by_tuple.remove(&key);
                    }
                }
                self.sock_by_cookie.remove(&self.socks[ix as usize].cookie);
            }
            _ => {}
        }
        self.free_ofds.push(ofd);
        self.gone_ofds.push(ofd);
    }

    fn watch(&mut self, proc: ProcIx, epfd: i32, fd: i32, events: u32, data: u64) {
        let files = &self.files[self.procs[proc as usize].files as usize];
        let (Some(ep), Some(watched)) = (files.slots.get(&epfd), files.slots.get(&fd)) else { return };
        let (ep, watched) = (ep.ofd, watched.ofd);
        if let OfdKind::Epoll { watches } = &mut self.ofds[ep as usize].kind {
            watches.retain(|_, w| w.fd != fd || w.ofd != watched);
            watches.insert(data, Watch { fd, ofd: watched, events });
            let list = &mut self.ofds[watched as usize].watched_by;
            if !list.contains(&ep) {
                list.push(ep);
            }
        }
    }

    fn sock(&mut self, mut sock: Sock) -> SockIx {
        if sock.cookie != 0
            && let Some(ix) = self.sock_by_cookie.get(&sock.cookie)
        {
            return *ix;
        }
        if let Some((local, peer)) = self.seed.tuples.get(&sock.cookie)
            && sock.state == SockState::Connected
        {
            sock.local = Some(local.clone());
            sock.peer = Some(peer.clone());
        }
        let ix = self.socks.len() as SockIx;
        if sock.cookie != 0 {
            self.sock_by_cookie.insert(sock.cookie, ix);
        }
        let listening = sock.state == SockState::Listening;
        self.socks.push(sock);
        if listening {
            self.listening(ix);
        }
        self.join_tuple(ix);
        ix
    }

    fn listening(&mut self, ix: SockIx) {
        self.socks[ix as usize].state = SockState::Listening;
        if let Some(local) = &self.socks[ix as usize].local {
            self.listeners.insert(canonical(local), ix);
        }
    }

    fn pair(&mut self, a: SockIx, b: SockIx) {
        self.socks[a as usize].partner = Some(b);
        self.socks[b as usize].partner = Some(a);
        self.pairs.push((a, b));
    }

    /// Finds the other end of a connected TCP socket inside.
    fn join_tuple(&mut self, ix: SockIx) {
        let sock = &self.socks[ix as usize];
        let (Some(local), Some(peer)) = (&sock.local, &sock.peer) else { return };
        if !matches!((local, peer), (SockAddr::Inet(_), SockAddr::Inet(_))) {
            return;
        }
        let (local, peer) = (canonical(local), canonical(peer));
        if let Some(other) = self.by_tuple.get(&(peer.clone(), local.clone())).copied()
            && other != ix
        {
            self.pair(ix, other);
        }
        self.by_tuple.insert((local, peer), ix);
    }

    fn pipe(&mut self, ino: u64) -> PipeIx {
        if ino != 0
            && let Some(ix) = self.pipe_by_ino.get(&ino)
        {
            return *ix;
        }
        let ix = self.pipes.len() as PipeIx;
        self.pipes.push(Pipe::default());
        if ino != 0 {
            self.pipe_by_ino.insert(ino, ix);
        }
        ix
    }

    fn kind_of_object(&mut self, source: &dyn Source, object: &Object, written: bool) -> OfdKind {
        match object {
            Object::File { path, mode, rdev, size, .. } => {
                let path = self.paths.intern(source.str(*path));
                let inode = self.fs.present(path, NodeKind::of_mode(*mode));
                self.tell(inode, *mode, *rdev, *size);
                OfdKind::Node { path, inode }
            }
            Object::Socket { family, kind, protocol, cookie, local, peer } => {
                OfdKind::Sock(self.sock(Sock {
                    local: local.clone(),
                    peer: peer.clone(),
                    state: if peer.is_some() { SockState::Connected } else { SockState::Fresh },
                    ..new_sock(*family, *kind, *protocol, cookie.0, 0)
                }))
            }
            Object::Pipe { ino } => OfdKind::Pipe { pipe: self.pipe(*ino), write: written },
            Object::Anon { kind, .. } => self.kind_of_anon(source.str(*kind)),
            _ => OfdKind::Other,
        }
    }

    fn kind_of_anon(&mut self, kind: &[u8]) -> OfdKind {
        match kind {
            b"eventpoll" => OfdKind::Epoll { watches: BTreeMap::new() },
            b"eventfd" => OfdKind::Event,
            b"timerfd" => OfdKind::Timer,
            b"signalfd" => OfdKind::Signal,
            b"inotify" => OfdKind::Inotify,
            b"pidfd" => OfdKind::Pid,
            other if other.starts_with(b"memfd") || other.starts_with(b"/memfd") => {
                let path = self.paths.intern(other);
                OfdKind::Mem { inode: self.fs.create(path, NodeKind::File, None) }
            }
            _ => OfdKind::Other,
        }
    }

    /// What a file is said to be by somebody who looked at it overrides what was thought.
    fn correct(&mut self, inode: InodeIx, mode: u32, size: u64) {
        let kind = NodeKind::of_mode(mode);
        let node = self.fs.node_mut(inode);
        // A link is seen through by most who look.
        if kind != NodeKind::Unknown && node.kind != kind && node.kind != NodeKind::Symlink {
            node.kind = kind;
            node.mode = Some(mode & 0o7777);
            if !node.written && kind == NodeKind::File {
                node.initial_size = Some(size);
                node.size = node.size.max(size);
            }
        }
    }

    fn tell(&mut self, inode: InodeIx, mode: u32, rdev: u64, size: u64) {
        if NodeKind::of_mode(mode) == NodeKind::File {
            self.fs.told_size(inode, size);
        }
        let node = self.fs.node_mut(inode);
        if node.kind == NodeKind::Unknown {
            node.kind = NodeKind::of_mode(mode);
        }
        if node.mode.is_none() && mode & 0o170_000 != 0 {
            node.mode = Some(mode & 0o7777);
        }
        if rdev != 0 {
            node.rdev = rdev;
        }
    }

    fn kind_of_target(&mut self, target: &FdTarget, flags: u32) -> OfdKind {
        match target {
            FdTarget::File { path, mode, size, rdev, .. } => {
                let deleted = path.strip_suffix(b" (deleted)");
                let path = self.paths.intern(deleted.unwrap_or(path));
                let inode = self.fs.present(path, NodeKind::of_mode(*mode));
                self.tell(inode, *mode, *rdev, *size);
                OfdKind::Node { path, inode }
            }
            FdTarget::Pipe { ino } => {
                let pipe = self.pipe(*ino);
                self.pipes[pipe as usize].inherited = true;
                OfdKind::Pipe { pipe, write: flags & 3 == 1 }
            }
            FdTarget::Socket { cookie, ino, family, kind, protocol, listening, local, peer, .. } => {
                // Without a cookie the inode tells sockets apart; the top bit keeps the two kinds of identity apart.
                let identity = if *cookie == 0 { *ino | 1 << 63 } else { *cookie };
                let state = if listening.is_some() {
                    SockState::Listening
                } else if peer.is_some() {
                    SockState::Connected
                } else {
                    SockState::Fresh
                };
                OfdKind::Sock(self.sock(Sock {
                    local: local.clone(),
                    peer: peer.clone(),
                    state,
                    inherited: true,
                    ..new_sock(*family, *kind, *protocol, identity, 0)
                }))
            }
            FdTarget::Epoll { .. } => OfdKind::Epoll { watches: BTreeMap::new() },
            FdTarget::Anon { kind, .. } => self.kind_of_anon(kind),
            _ => OfdKind::Other,
        }
    }

    /// Applies a completed call. `task` made it, `known` says which it is.
    pub(crate) fn apply_call(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        known: &Known,
    ) -> Result<(), CompileError> {
        let end_ns = call.t_ns.saturating_add(call.duration_ns);
        {
            let state = &mut self.tasks[task as usize];
            state.ops = state.ops.saturating_add(1);
            state.last_end_ns = end_ns;
        }
        if call.flags.contains(SyscallFlags::NO_EXIT) {
            return Ok(());
        }
        let seq = self.tasks[task as usize].ops - 1;
        let step = self.tasks[task as usize].label;
        let mark = Mark { task, seq, step, start_ns: call.t_ns, end_ns };
        let proc = self.tasks[task as usize].proc;
        let ok = call.ret >= 0;
        let fd0 = call.args[0] as i32;
        if !ok {
            self.apply_failure(source, task, call, known, mark)?;
            return Ok(());
        }
        match known.sc {
            Sc::Open | Sc::Openat | Sc::Openat2 | Sc::Creat => {
                let (flags, mode) = open_flags(call, known.sc);
                let dirfd = matches!(known.sc, Sc::Openat | Sc::Openat2).then_some(fd0);
                let path_arg = u8::from(dirfd.is_some());
                let kind = self.opened(source, task, call, path_arg, dirfd, flags, mode);
                let ofd = self.add_ofd(kind, flags, call.object);
                self.put_fd(proc, call.ret as i32, ofd, flags & O_CLOEXEC != 0, end_ns)?;
            }
            Sc::Socket => {
                let sock = self.sock(new_sock(
                    call.args[0] as u16,
                    (call.args[1] & 0xff) as u16,
                    call.args[2] as u16,
                    self.cookie_of(source, call.object),
                    end_ns,
                ));
                let ofd = self.add_ofd(OfdKind::Sock(sock), call.args[1] as u32, call.object);
                self.put_fd(proc, call.ret as i32, ofd, call.args[1] as u32 & O_CLOEXEC != 0, end_ns)?;
            }
            Sc::Socketpair | Sc::Pipe | Sc::Pipe2 => {
                let Some((fds, objects)) = detail_newfds(call) else { return Ok(()) };
                let flags = match known.sc {
                    Sc::Pipe2 => call.args[1] as u32,
                    Sc::Socketpair => call.args[1] as u32 & !0xff,
                    _ => 0,
                };
                let kinds = if known.sc == Sc::Socketpair {
                    let cookies = objects.map(|o| self.cookie_of(source, o));
                    let make = |cookie| Sock {
                        state: SockState::Connected,
                        ..new_sock(call.args[0] as u16, (call.args[1] & 0xff) as u16, 0, cookie, end_ns)
                    };
                    let a = self.sock(make(cookies[0]));
                    let b = self.sock(make(cookies[1]));
                    self.pair(a, b);
                    [OfdKind::Sock(a), OfdKind::Sock(b)]
                } else {
                    let ino = match objects[0].or(objects[1]).map(|o| source.object(o)) {
                        Some(Object::Pipe { ino }) => *ino,
                        _ => 0,
                    };
                    self.pipe_by_ino.remove(&ino);
                    let pipe = self.pipe(ino);
                    [OfdKind::Pipe { pipe, write: false }, OfdKind::Pipe { pipe, write: true }]
                };
                for (i, kind) in kinds.into_iter().enumerate() {
                    let access = if known.sc == Sc::Socketpair || i == 1 { 2 } else { 0 };
                    let ofd = self.add_ofd(kind, flags & !3 | access, objects[i]);
                    self.put_fd(proc, fds[i], ofd, flags & O_CLOEXEC != 0, end_ns)?;
                }
            }
            Sc::Accept | Sc::Accept4 => {
                self.ensure_fd(source, task, fd0, None, false)?;
                let listener = match self.ofd_of(task, fd0).map(|o| &self.ofds[o as usize].kind) {
                    Some(OfdKind::Sock(ix)) => Some(*ix),
                    _ => None,
                };
                let flags = if known.sc == Sc::Accept4 { call.args[3] as u32 } else { 0 };
                let sock = self.accepted(source, call, listener, end_ns);
                let ofd = self.add_ofd(OfdKind::Sock(sock), flags | 2, call.object);
                self.put_fd(proc, call.ret as i32, ofd, flags & O_CLOEXEC != 0, end_ns)?;
                if let Some(l) = self.ofd_of(task, fd0) {
                    self.ofds[l as usize].ready = None;
                }
            }
            Sc::Bind => {
                if let (Some(ix), Some(addr)) = (self.sock_of(task, fd0), detail_addr(call, 1)) {
                    if let SockAddr::Unix(path) = addr
                        && path.first().is_some_and(|b| *b != b'@' && *b != 0)
                    {
                        let path = self.paths.join(self.cwd_of(task), path);
                        self.fs.create(path, NodeKind::Socket, None);
                    }
                    let local = self.absolute(task, addr);
                    if self.socks[ix as usize].kind & 0xf == 2 {
                        self.dgram_bound.insert(canonical(&local), ix);
                    }
                    self.socks[ix as usize].local = Some(local);
                }
            }
            Sc::Getsockname => {
                if let (Some(ix), Some(addr)) = (self.sock_of(task, fd0), detail_addr(call, 1)) {
                    let sock = &mut self.socks[ix as usize];
                    if !matches!(addr, SockAddr::Unix(_)) {
                        sock.local = Some(addr.clone());
                    }
                    if sock.state == SockState::Listening {
                        self.listening(ix);
                    } else if sock.state == SockState::Connected {
                        self.join_tuple(ix);
                    }
                }
            }
            Sc::Listen => {
                if let Some(ix) = self.sock_of(task, fd0) {
                    self.listening(ix);
                }
            }
            Sc::Connect => {
                if let (Some(ix), Some(addr)) = (self.sock_of(task, fd0), detail_addr(call, 1)) {
                    self.connected(task, ix, addr, end_ns);
                }
            }
            Sc::Dup | Sc::Dup2 | Sc::Dup3 => {
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)? {
                    if known.sc == Sc::Dup2 && fd0 == call.ret as i32 {
                        return Ok(());
                    }
                    let cloexec = known.sc == Sc::Dup3 && call.args[2] as u32 & O_CLOEXEC != 0;
                    self.put_fd(proc, call.ret as i32, ofd, cloexec, end_ns)?;
                }
            }
            Sc::Fcntl => self.fcntl(source, task, proc, call, end_ns)?,
            Sc::Ioctl => {
                let files = self.procs[proc as usize].files;
                match call.args[1] as u32 {
                    FIOCLEX | FIONCLEX => {
                        if let Some(slot) = self.files[files as usize].slots.get_mut(&fd0) {
                            slot.cloexec = call.args[1] as u32 == FIOCLEX;
                        }
                    }
                    FIONBIO => {
                        if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)? {
                            self.ofds[ofd as usize].nonblock = detail_value(call, 2).unwrap_or(1) != 0;
                        }
                    }
                    _ => {
                        self.ensure_fd(source, task, fd0, call.object, false)?;
                    }
                }
            }
            Sc::Close => {
                let files = self.procs[proc as usize].files;
                // A close frees the number when it begins; another thread may have reused it before this one's return.
                if self.files[files as usize]
                    .slots
                    .get(&fd0)
                    .is_some_and(|s| s.since_ns <= call.t_ns || s.since_ns == 0)
                {
                    self.drop_fd(files, fd0);
                }
            }
            Sc::CloseRange => {
                let files = self.procs[proc as usize].files;
                let (first, last) =
                    (call.args[0].min(i32::MAX as u64) as i32, call.args[1].min(i32::MAX as u64) as i32);
                if first <= last {
                    let fds: Vec<i32> =
                        self.files[files as usize].slots.range(first..=last).map(|(fd, _)| *fd).collect();
                    let cloexec = call.args[2] & 4 != 0;
                    for fd in fds {
                        if cloexec {
                            if let Some(slot) = self.files[files as usize].slots.get_mut(&fd) {
                                slot.cloexec = true;
                            }
                        } else {
                            self.drop_fd(files, fd);
                        }
                    }
                }
            }
            Sc::EpollCreate | Sc::EpollCreate1 => {
                let flags = if known.sc == Sc::EpollCreate1 { call.args[0] as u32 } else { 0 };
                let ofd = self.add_ofd(OfdKind::Epoll { watches: BTreeMap::new() }, flags, call.object);
                self.put_fd(proc, call.ret as i32, ofd, flags & O_CLOEXEC != 0, end_ns)?;
            }
            Sc::EpollCtl => {
                let fd = call.args[2] as i32;
                let object = detail_object(call, 2);
                self.ensure_fd(source, task, fd0, call.object, false)?;
                self.ensure_fd(source, task, fd, object, false)?;
                match call.args[1] {
                    1 | 3 => {
                        let entry = detail_epoll(call).and_then(<[_]>::first).copied();
                        let (data, events) = entry.map_or((fd as u64, 1), |e| (e.data, e.events));
                        self.watch(proc, fd0, fd, events, data);
                    }
                    _ => {
                        if let (Some(ep), Some(ofd)) = (self.ofd_of(task, fd0), self.ofd_of(task, fd)) {
                            if let OfdKind::Epoll { watches } = &mut self.ofds[ep as usize].kind {
                                watches.retain(|_, w| w.ofd != ofd || w.fd != fd);
                            }
                            self.ofds[ofd as usize].watched_by.retain(|e| *e != ep);
                        }
                    }
                }
            }
            Sc::EpollWait | Sc::EpollPwait | Sc::EpollPwait2 => self.epoll_waited(task, call, mark),
            Sc::Poll | Sc::Ppoll | Sc::Select | Sc::Pselect6 => self.polled(task, call, mark),
            Sc::Eventfd | Sc::Eventfd2 => {
                let flags = if known.sc == Sc::Eventfd2 { call.args[1] as u32 } else { 0 };
                self.new_anon(proc, call, OfdKind::Event, flags | 2, end_ns)?;
            }
            Sc::TimerfdCreate => self.new_anon(proc, call, OfdKind::Timer, call.args[1] as u32, end_ns)?,
            Sc::Signalfd | Sc::Signalfd4 => {
                if fd0 == -1 {
                    let flags = if known.sc == Sc::Signalfd4 { call.args[3] as u32 } else { 0 };
                    self.new_anon(proc, call, OfdKind::Signal, flags, end_ns)?;
                }
            }
            Sc::InotifyInit | Sc::InotifyInit1 => {
                let flags = if known.sc == Sc::InotifyInit1 { call.args[0] as u32 } else { 0 };
                self.new_anon(proc, call, OfdKind::Inotify, flags, end_ns)?;
            }
            Sc::MemfdCreate => {
                let name = [b"/memfd:".as_slice(), &call.ret.to_le_bytes()].concat();
                let path = self.paths.intern(&name);
                let inode = self.fs.create(path, NodeKind::File, None);
                let cloexec = if call.args[1] & 1 != 0 { O_CLOEXEC } else { 0 };
                self.new_anon(proc, call, OfdKind::Mem { inode }, cloexec | 2, end_ns)?;
            }
            Sc::PidfdOpen => {
                self.new_anon(proc, call, OfdKind::Pid, call.args[1] as u32 | O_CLOEXEC, end_ns)?;
            }
            Sc::Chdir => {
                if let Some(target) = self.target(source, task, call, 0, None) {
                    self.fs.present(target.path, NodeKind::Dir);
                    let fs = self.procs[proc as usize].fs;
                    self.fs_states[fs as usize].cwd = target.path;
                }
            }
            Sc::Fchdir => {
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)?
                    && let OfdKind::Node { path, .. } = self.ofds[ofd as usize].kind
                {
                    let fs = self.procs[proc as usize].fs;
                    self.fs_states[fs as usize].cwd = path;
                }
            }
            Sc::Umask => {
                let fs = self.procs[proc as usize].fs;
                self.fs_states[fs as usize].umask = call.args[0] as u32 & 0o777;
            }
            Sc::Wait4 | Sc::Waitid => {
                let nohang =
                    if known.sc == Sc::Wait4 { call.args[2] & 1 != 0 } else { call.args[3] & 1 != 0 };
                if call.ret == 0 && nohang && known.sc == Sc::Wait4 {
                    self.procs[proc as usize].no_child = Some(mark);
                }
            }
            Sc::Clone | Sc::Clone3 | Sc::Fork | Sc::Vfork => {
                if call.ret > 0 {
                    self.tasks[task as usize].newborn.pop_front();
                }
            }
            _ => {
                self.apply_io(source, task, call, known, end_ns)?;
                self.apply_names(source, task, call, known)?;
            }
        }
        Ok(())
    }

    fn new_anon(
        &mut self,
        proc: ProcIx,
        call: &Syscall,
        kind: OfdKind,
        flags: u32,
        end_ns: u64,
    ) -> Result<(), CompileError> {
        let ofd = self.add_ofd(kind, flags, call.object);
        self.put_fd(proc, call.ret as i32, ofd, flags & O_CLOEXEC != 0, end_ns)
    }

    fn apply_failure(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        known: &Known,
        mark: Mark,
    ) -> Result<(), CompileError> {
        const EAGAIN: i64 = -11;
        const EINPROGRESS: i64 = -115;
        let fd0 = call.args[0] as i32;
        match (known.sc, call.ret) {
            (Sc::Connect, EINPROGRESS) => {
                if let (Some(ix), Some(addr)) = (self.sock_of(task, fd0), detail_addr(call, 1)) {
                    self.connected(task, ix, addr, mark.end_ns);
                }
            }
            (
                Sc::Read | Sc::Readv | Sc::Recvfrom | Sc::Recvmsg | Sc::Recvmmsg | Sc::Accept | Sc::Accept4,
                EAGAIN,
            ) => {
                if let Some(ofd) = self.ofd_of(task, fd0) {
                    let ofd = &mut self.ofds[ofd as usize];
                    ofd.idle = Some(mark);
                    ofd.ready = None;
                }
            }
            _ => {}
        }
        if call.object.is_some()
            && call.ret != -9
            && known.args.is_some_and(|a| a.first().is_some_and(|k| k.1 == Kind::Fd))
        {
            self.ensure_fd(source, task, fd0, call.object, false)?;
        }
        self.failed_name(source, task, call, known);
        Ok(())
    }

    /// What a failure says about the name it was about.
    fn failed_name(&mut self, source: &dyn Source, task: TaskIx, call: &Syscall, known: &Known) {
        let Some(args) = known.args else { return };
        let Some(arg) = args.iter().position(|(_, kind)| *kind == Kind::Path) else { return };
        let dirfd = (arg > 0 && args[arg - 1].1 == Kind::DirFd).then(|| call.args[arg - 1] as i32);
        let Some(target) = self.target(source, task, call, arg as u8, dirfd) else { return };
        if target.by_fd {
            return;
        }
        let path = target.path;
        match (known.sc, -call.ret) {
            (
                Sc::Link
                | Sc::Linkat
                | Sc::Rename
                | Sc::Renameat
                | Sc::Renameat2
                | Sc::Symlink
                | Sc::Symlinkat,
                _,
            )
            | (Sc::Mkdir | Sc::Mkdirat | Sc::Mknod | Sc::Mknodat, 2) => {}
            (Sc::Open | Sc::Openat | Sc::Openat2 | Sc::Creat, 2)
                if open_flags(call, known.sc).0 & O_CREAT != 0 => {}
            (_, 2) => self.fs.absent(path),
            // EISDIR, ENOTEMPTY; EEXIST
            (_, 21 | 39) | (Sc::Mkdir | Sc::Mkdirat, 17) => {
                self.fs.present(path, NodeKind::Dir);
            }
            // EINVAL of readlink: no link. EEXIST, ETXTBSY, ELOOP, EACCES of something that is there.
            (Sc::Readlink | Sc::Readlinkat, 22) | (Sc::Rmdir, 20) | (_, 17 | 26) => {
                self.fs.present(path, NodeKind::Unknown);
            }
            (Sc::Open | Sc::Openat, 40) => {
                self.fs.present(path, NodeKind::Symlink);
            }
            (Sc::Open | Sc::Openat, 6) if self.paths.get(path) == b"/dev/tty" => {
                let inode = self.fs.present(path, NodeKind::Device);
                self.fs.node_mut(inode).rdev = 0x500;
            }
            _ => {}
        }
    }

    #[expect(clippy::unused_self, reason = "alike its siblings, which need it")]
    fn cookie_of(&self, source: &dyn Source, object: Option<ObjectId>) -> u64 {
        match object.map(|o| source.object(o)) {
            Some(Object::Socket { cookie, .. }) => cookie.0,
            _ => 0,
        }
    }

    /// The socket behind a descriptor.
    pub(crate) fn sock_of(&self, task: TaskIx, fd: i32) -> Option<SockIx> {
        match self.ofds[self.ofd_of(task, fd)? as usize].kind {
            OfdKind::Sock(ix) => Some(ix),
            _ => None,
        }
    }

    /// A socket address with a path made absolute.
    pub(crate) fn absolute(&mut self, task: TaskIx, addr: &SockAddr) -> SockAddr {
        match addr {
            SockAddr::Unix(path) if path.first().is_some_and(|b| *b != b'/' && *b != b'@' && *b != 0) => {
                let path = self.paths.join(self.cwd_of(task), path);
                SockAddr::Unix(self.paths.get(path).to_vec())
            }
            other => other.clone(),
        }
    }

    fn accepted(
        &mut self,
        source: &dyn Source,
        call: &Syscall,
        listener: Option<SockIx>,
        end_ns: u64,
    ) -> SockIx {
        let (mut local, mut peer) = (None, detail_addr(call, 1).cloned());
        let (mut family, mut kind, mut protocol, mut cookie) = (2, 1, 0, 0);
        if let Some(l) = listener {
            let l = &self.socks[l as usize];
            (family, kind, protocol) = (l.family, l.kind, l.protocol);
            local.clone_from(&l.local);
        }
        if let Some(Object::Socket { cookie: c, local: l, peer: p, .. }) =
            call.object.map(|o| source.object(o))
        {
            cookie = c.0;
            if l.is_some() {
                local.clone_from(l);
            }
            if p.is_some() {
                peer.clone_from(p);
            }
        }
        let ix = self.sock(Sock {
            local,
            peer,
            accepted: true,
            state: SockState::Connected,
            ..new_sock(family, kind, protocol, cookie, end_ns)
        });
        if family == AF_UNIX
            && let Some(l) = listener
        {
            if let Some(other) = self.socks[l as usize].pending.pop_front() {
                self.pair(ix, other);
            } else if self.socks[l as usize].early.len() < 1024 {
                self.socks[l as usize].early.push_back(ix);
            }
        }
        ix
    }

    fn connected(&mut self, task: TaskIx, ix: SockIx, addr: &SockAddr, end_ns: u64) {
        let addr = self.absolute(task, addr);
        let listener = self.listener(&addr);
        let tuple = self.seed.tuples.get(&self.socks[ix as usize].cookie).cloned();
        let sock = &mut self.socks[ix as usize];
        sock.peer = Some(addr);
        sock.born_ns = end_ns;
        sock.state = SockState::Connected;
        if let Some((local, peer)) = tuple {
            sock.local = Some(local);
            sock.peer = Some(peer);
        }
        if sock.family == AF_UNIX {
            if let Some(l) = listener {
                if let Some(other) = self.socks[l as usize].early.pop_front() {
                    self.pair(ix, other);
                } else if self.socks[l as usize].pending.len() < 65_536 {
                    self.socks[l as usize].pending.push_back(ix);
                }
            }
        } else {
            self.join_tuple(ix);
        }
    }

    fn fcntl(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        proc: ProcIx,
        call: &Syscall,
        end_ns: u64,
    ) -> Result<(), CompileError> {
        let fd0 = call.args[0] as i32;
        let ofd = self.ensure_fd(source, task, fd0, call.object, false)?;
        let files = self.procs[proc as usize].files;
        match call.args[1] {
            0 | 1030 => {
                if let Some(ofd) = ofd {
                    self.put_fd(proc, call.ret as i32, ofd, call.args[1] == 1030, end_ns)?;
                }
            }
            2 => {
                if let Some(slot) = self.files[files as usize].slots.get_mut(&fd0) {
                    slot.cloexec = call.args[2] & 1 != 0;
                }
            }
            3 => {
                if let Some(ofd) = ofd
                    && self.ofds[ofd as usize].inherited
                {
                    self.ofds[ofd as usize].nonblock = call.ret as u32 & O_NONBLOCK != 0;
                    self.ofds[ofd as usize].append = call.ret as u32 & O_APPEND != 0;
                }
            }
            4 => {
                if let Some(ofd) = ofd {
                    self.ofds[ofd as usize].nonblock = call.args[2] as u32 & O_NONBLOCK != 0;
                    self.ofds[ofd as usize].append = call.args[2] as u32 & O_APPEND != 0;
                }
            }
            _ => {}
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of an open call")]
    fn opened(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        path_arg: u8,
        dirfd: Option<i32>,
        flags: u32,
        mode: u32,
    ) -> OfdKind {
        let object = call.object.map(|o| source.object(o));
        let target = self.target(source, task, call, path_arg, dirfd);
        let Some(Target { path, .. }) = target else {
            return object.map_or(OfdKind::Other, |o| self.kind_of_object(source, o, false));
        };
        if flags & O_TMPFILE == O_TMPFILE {
            let scratch = self.paths.join(path, b"#tmpfile");
            self.fs.present(path, NodeKind::Dir);
            let inode = self.fs.create(scratch, NodeKind::File, Some(mode));
            return OfdKind::Node { path: scratch, inode };
        }
        let created =
            call.details.contains(&Detail::Created) || flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL;
        let (kind, size, rdev, file_mode) = match object {
            Some(Object::File { mode, size, rdev, .. }) => (NodeKind::of_mode(*mode), *size, *rdev, *mode),
            _ if flags & O_DIRECTORY != 0 => (NodeKind::Dir, 0, 0, 0),
            _ => (NodeKind::Unknown, 0, 0, 0),
        };
        let known_present = self.fs.lookup(path).is_some();
        let inode = if created || (flags & O_CREAT != 0 && self.fs.is_absent(path)) {
            self.fs.create(path, if kind == NodeKind::Unknown { NodeKind::File } else { kind }, Some(mode))
        } else {
            let inode = self.fs.present(path, kind);
            if flags & O_TRUNC == 0 || known_present {
                self.tell(inode, file_mode, rdev, if flags & O_TRUNC == 0 { size } else { 0 });
            } else {
                self.tell(inode, file_mode, rdev, 0);
            }
            inode
        };
        if flags & O_TRUNC != 0 {
            self.fs.truncated(inode, 0);
        }
        OfdKind::Node { path, inode }
    }

    fn epoll_waited(&mut self, task: TaskIx, call: &Syscall, mark: Mark) {
        let Some(ep) = self.ofd_of(task, call.args[0] as i32) else { return };
        if call.ret == 0 {
            self.ofds[ep as usize].idle = Some(mark);
            return;
        }
        let waited = call.duration_ns >= BLOCKED_NS;
        let Some(entries) = detail_epoll(call) else { return };
        for EpollEntry { data, events } in entries.iter().copied() {
            let OfdKind::Epoll { watches } = &self.ofds[ep as usize].kind else { return };
            if events & 0x19 != 0
                && let Some(watch) = watches.get(&data).copied()
            {
                self.readable(watch.ofd, mark.end_ns, waited);
            }
        }
    }

    fn readable(&mut self, ofd: OfdIx, at_ns: u64, exact: bool) {
        let after_sent = match self.ofds[ofd as usize].kind {
            OfdKind::Sock(ix) => self.socks[ix as usize].sent,
            _ => 0,
        };
        let ready = &mut self.ofds[ofd as usize].ready;
        if ready.is_none() {
            *ready = Some(Arrival { at_ns, after_sent, exact });
        }
    }

    fn polled(&mut self, task: TaskIx, call: &Syscall, mark: Mark) {
        let waited = call.duration_ns >= BLOCKED_NS;
        for detail in &call.details {
            let Detail::Poll { entries, .. } = detail else { continue };
            for entry in entries {
                let Some(ofd) = self.ofd_of(task, entry.fd) else { continue };
                if entry.revents & 0x19 != 0 {
                    self.readable(ofd, mark.end_ns, waited);
                } else if entry.events & 1 != 0 && call.ret == 0 {
                    self.ofds[ofd as usize].idle = Some(mark);
                }
            }
        }
    }

    fn apply_io(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        known: &Known,
        end_ns: u64,
    ) -> Result<(), CompileError> {
        let n = call.ret.max(0) as u64;
        let fd0 = call.args[0] as i32;
        match known.sc {
            Sc::Read | Sc::Readv | Sc::Recvfrom | Sc::Recvmsg | Sc::Pread64 | Sc::Preadv | Sc::Preadv2 => {
                let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)? else { return Ok(()) };
                let at = positional(known.sc, call);
                self.moved_in(ofd, n, at);
            }
            Sc::Write | Sc::Writev | Sc::Sendto | Sc::Sendmsg | Sc::Pwrite64 | Sc::Pwritev | Sc::Pwritev2 => {
                let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, true)? else { return Ok(()) };
                let at = positional(known.sc, call);
                self.moved_out(ofd, n, at, end_ns);
            }
            Sc::Sendfile => {
                let input = call.args[1] as i32;
                let other = detail_object(call, 1);
                if let Some(ofd) = self.ensure_fd(source, task, input, other, false)? {
                    self.moved_in(ofd, n, detail_value(call, 2));
                }
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, true)? {
                    self.moved_out(ofd, n, None, end_ns);
                }
            }
            Sc::CopyFileRange | Sc::Splice | Sc::Tee => {
                let out = call.args[if known.sc == Sc::Tee { 1 } else { 2 }] as i32;
                let other = detail_object(call, if known.sc == Sc::Tee { 1 } else { 2 });
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)?
                    && known.sc != Sc::Tee
                {
                    self.moved_in(ofd, n, detail_value(call, 1));
                }
                if let Some(ofd) = self.ensure_fd(source, task, out, other, true)? {
                    self.moved_out(ofd, n, detail_value(call, 3), end_ns);
                }
            }
            Sc::Lseek => {
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)? {
                    self.ofds[ofd as usize].pos = n;
                    if call.args[2] == 2
                        && let Some(inode) = self.inode_of(ofd)
                        && self.fs.node(inode).kind != NodeKind::Dir
                    {
                        let size = (n as i64).saturating_sub(call.args[1] as i64);
                        if size >= 0 {
                            self.fs.told_size(inode, size as u64);
                        }
                    }
                }
            }
            Sc::Ftruncate | Sc::Fallocate => {
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, true)?
                    && let Some(inode) = self.inode_of(ofd)
                {
                    if known.sc == Sc::Ftruncate {
                        self.fs.truncated(inode, call.args[1]);
                    } else if call.args[1] & 1 == 0 {
                        self.fs.written_up_to(inode, call.args[2].saturating_add(call.args[3]));
                    }
                }
            }
            Sc::Getdents | Sc::Getdents64 => {
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)? {
                    let state = &mut self.ofds[ofd as usize];
                    state.pos = if n == 0 { 0 } else { state.pos.saturating_add(n) };
                    let pos = state.pos;
                    if let Some(inode) = self.inode_of(ofd) {
                        let node = self.fs.node_mut(inode);
                        node.kind = NodeKind::Dir;
                        if !node.written {
                            node.dirent_bytes = node.dirent_bytes.max(pos);
                        }
                    }
                }
            }
            Sc::Fstat => {
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)?
                    && let Some(inode) = self.inode_of(ofd)
                {
                    self.told_stat(inode, call);
                }
            }
            Sc::Mmap => {
                let fd = call.args[4] as i32;
                if call.args[3] & 0x20 == 0 && fd >= 0 {
                    self.ensure_fd(source, task, fd, call.object, false)?;
                    if let Some(ofd) = self.ofd_of(task, fd)
                        && let Some(inode) = self.inode_of(ofd)
                        && !self.fs.node(inode).written
                        && self.fs.node(inode).kind == NodeKind::File
                        && self.fs.node(inode).initial_size.is_none()
                    {
                        // Touched pages have to be inside the file.
                        self.fs.read_up_to(inode, call.args[5].saturating_add(call.args[1]).min(1 << 32));
                    }
                }
            }
            Sc::Fsync
            | Sc::Fdatasync
            | Sc::Getsockopt
            | Sc::Setsockopt
            | Sc::Getpeername
            | Sc::Shutdown
            | Sc::Fchmod
            | Sc::TimerfdSettime
            | Sc::InotifyAddWatch
            | Sc::Syncfs => {
                self.ensure_fd(source, task, fd0, call.object, false)?;
            }
            _ => {
                if let Some(args) = known.args
                    && args.first().is_some_and(|(_, kind)| *kind == ctrace_format::syscalls::Kind::Fd)
                    && call.object.is_some()
                {
                    self.ensure_fd(source, task, fd0, call.object, false)?;
                }
            }
        }
        Ok(())
    }

    /// The inode behind a description.
    pub(crate) fn inode_of(&self, ofd: OfdIx) -> Option<InodeIx> {
        match self.ofds[ofd as usize].kind {
            OfdKind::Node { inode, .. } | OfdKind::Mem { inode } => Some(inode),
            _ => None,
        }
    }

    fn moved_in(&mut self, ofd: OfdIx, n: u64, at: Option<u64>) {
        self.ofds[ofd as usize].ready = None;
        match self.ofds[ofd as usize].kind {
            OfdKind::Sock(ix) => {
                let sock = &mut self.socks[ix as usize];
                sock.received = sock.received.saturating_add(n);
                if n > 0 {
                    sock.answered = sock.sent;
                }
            }
            OfdKind::Node { inode, .. } | OfdKind::Mem { inode } => {
                let start = at.unwrap_or(self.ofds[ofd as usize].pos);
                let end = start.saturating_add(n);
                if n > 0 {
                    self.fs.read_up_to(inode, end);
                }
                if at.is_none() {
                    self.ofds[ofd as usize].pos = end;
                }
            }
            _ => {}
        }
    }

    fn moved_out(&mut self, ofd: OfdIx, n: u64, at: Option<u64>, end_ns: u64) {
        match self.ofds[ofd as usize].kind {
            OfdKind::Sock(ix) => {
                let sock = &mut self.socks[ix as usize];
                sock.sent = sock.sent.saturating_add(n);
                sock.last_send_ns = sock.last_send_ns.max(end_ns);
            }
            OfdKind::Node { inode, .. } | OfdKind::Mem { inode } => {
                let state = &self.ofds[ofd as usize];
                let start = match at {
                    Some(at) => at,
                    None if state.append => self.fs.node(inode).size,
                    None => state.pos,
                };
                let end = start.saturating_add(n);
                if self.fs.node(inode).kind == NodeKind::File || self.fs.node(inode).kind == NodeKind::Unknown
                {
                    self.fs.written_up_to(inode, end);
                }
                if at.is_none() {
                    self.ofds[ofd as usize].pos = end;
                }
            }
            _ => {}
        }
    }

    fn told_stat(&mut self, inode: InodeIx, call: &Syscall) {
        for detail in &call.details {
            if let Detail::Stat { mode, size, .. } = detail {
                self.correct(inode, *mode, *size);
                self.tell(inode, *mode, 0, *size);
                if NodeKind::of_mode(*mode) == NodeKind::Symlink {
                    let node = self.fs.node_mut(inode);
                    node.link_len = (*size).min(4095) as u32;
                }
            }
        }
    }

    /// Effects of successful calls on names.
    fn apply_names(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        known: &Known,
    ) -> Result<(), CompileError> {
        let fd = |i: usize| Some(call.args[i] as i32);
        match known.sc {
            Sc::Stat | Sc::Lstat | Sc::Newfstatat | Sc::Statx => {
                let (arg, dir, flags) = match known.sc {
                    Sc::Newfstatat => (1, fd(0), call.args[3]),
                    Sc::Statx => (1, fd(0), call.args[2]),
                    _ => (0, None, 0),
                };
                if let Some(target) = self.target(source, task, call, arg, dir) {
                    let inode = if target.by_fd && flags & 0x1000 != 0 {
                        let ofd = self.ensure_fd(source, task, call.args[0] as i32, call.object, false)?;
                        ofd.and_then(|o| self.inode_of(o))
                    } else {
                        let mode = call.details.iter().find_map(|d| match d {
                            Detail::Stat { mode, .. } => Some(*mode),
                            _ => None,
                        });
                        Some(self.fs.present(target.path, mode.map_or(NodeKind::Unknown, NodeKind::of_mode)))
                    };
                    if let Some(inode) = inode {
                        self.told_stat(inode, call);
                    }
                }
            }
            Sc::Access
            | Sc::Chmod
            | Sc::Chown
            | Sc::Lchown
            | Sc::Statfs
            | Sc::Getxattr
            | Sc::Lgetxattr
            | Sc::Listxattr
            | Sc::Llistxattr
            | Sc::Utime
            | Sc::Utimes => {
                if let Some(target) = self.target(source, task, call, 0, None) {
                    let inode = self.fs.present(target.path, NodeKind::Unknown);
                    self.got_xattr(source, call, known.sc, inode);
                }
            }
            Sc::Faccessat | Sc::Faccessat2 | Sc::Fchmodat | Sc::Fchownat | Sc::Utimensat | Sc::Futimesat => {
                if let Some(target) = self.target(source, task, call, 1, fd(0))
                    && !target.by_fd
                {
                    self.fs.present(target.path, NodeKind::Unknown);
                }
            }
            Sc::Truncate => {
                if let Some(target) = self.target(source, task, call, 0, None) {
                    let inode = self.fs.present(target.path, NodeKind::File);
                    self.fs.truncated(inode, call.args[1]);
                }
            }
            Sc::Readlink | Sc::Readlinkat => {
                let (arg, dir) = if known.sc == Sc::Readlinkat { (1, fd(0)) } else { (0, None) };
                if let Some(target) = self.target(source, task, call, arg, dir) {
                    let inode = self.fs.present(target.path, NodeKind::Symlink);
                    let node = self.fs.node_mut(inode);
                    node.kind = NodeKind::Symlink;
                    node.link_len = node.link_len.max(call.ret.clamp(0, 4095) as u32);
                }
            }
            Sc::Mkdir | Sc::Mkdirat => {
                let (arg, dir) = if known.sc == Sc::Mkdirat { (1, fd(0)) } else { (0, None) };
                let mode = call.args[usize::from(arg) + 1] as u32;
                if let Some(target) = self.target(source, task, call, arg, dir) {
                    self.fs.create(target.path, NodeKind::Dir, Some(mode));
                }
            }
            Sc::Mknod | Sc::Mknodat => {
                let (arg, dir) = if known.sc == Sc::Mknodat { (1, fd(0)) } else { (0, None) };
                let mode = call.args[usize::from(arg) + 1] as u32;
                if let Some(target) = self.target(source, task, call, arg, dir) {
                    let kind = if mode & 0o170_000 == 0 { NodeKind::File } else { NodeKind::of_mode(mode) };
                    self.fs.create(target.path, kind, Some(mode & 0o7777));
                }
            }
            Sc::Symlink | Sc::Symlinkat => {
                let (arg, dir) = if known.sc == Sc::Symlinkat { (2, fd(1)) } else { (1, None) };
                if let Some(target) = self.target(source, task, call, arg, dir) {
                    self.fs.create(target.path, NodeKind::Symlink, None);
                }
            }
            Sc::Unlink | Sc::Rmdir | Sc::Unlinkat => {
                let (arg, dir) = if known.sc == Sc::Unlinkat { (1, fd(0)) } else { (0, None) };
                let is_dir = known.sc == Sc::Rmdir || (known.sc == Sc::Unlinkat && call.args[2] & 0x200 != 0);
                if let Some(target) = self.target(source, task, call, arg, dir) {
                    let kind = if is_dir { NodeKind::Dir } else { NodeKind::Unknown };
                    self.fs.remove(target.path, kind);
                }
            }
            Sc::Rename | Sc::Renameat | Sc::Renameat2 | Sc::Link | Sc::Linkat => {
                let at = !matches!(known.sc, Sc::Rename | Sc::Link);
                let (a, b) = if at { (1, 3) } else { (0, 1) };
                let from = self.target(source, task, call, a, at.then_some(call.args[0] as i32));
                let to = self.target(source, task, call, b, at.then_some(call.args[2] as i32));
                if let (Some(from), Some(to)) = (from, to) {
                    if matches!(known.sc, Sc::Link | Sc::Linkat) {
                        if from.by_fd {
                            self.fs.create(to.path, NodeKind::File, None);
                        } else {
                            self.fs.link(from.path, to.path);
                        }
                    } else {
                        let exchange = known.sc == Sc::Renameat2 && call.args[4] & 2 != 0;
                        self.fs.rename(from.path, to.path, exchange);
                    }
                }
            }
            Sc::Execve | Sc::Execveat => {
                let proc = self.tasks[task as usize].proc;
                self.exec(proc)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn got_xattr(&mut self, source: &dyn Source, call: &Syscall, sc: Sc, inode: InodeIx) {
        if matches!(sc, Sc::Getxattr | Sc::Lgetxattr)
            && let Some(name) = detail_str(call, 1)
        {
            let node = self.fs.node_mut(inode);
            let name = source.str(name);
            if !node.written && node.xattrs.len() < 16 && !node.xattrs.iter().any(|(n, _)| &**n == name) {
                node.xattrs.push((name.into(), call.ret.clamp(0, 65_536) as u32));
            }
        }
    }

    /// Feeds an event that is not a system call.
    pub(crate) fn apply_other(&mut self, source: &dyn Source, event: &Event) -> Result<(), CompileError> {
        if let Event::Process(process) = event {
            self.apply_process(source, process)?;
        }
        Ok(())
    }
}

/// A call that lasted at least this long waited for something; shorter ones found it there.
pub(crate) const BLOCKED_NS: u64 = 15_000;

pub(crate) const AT_FDCWD: i32 = -100;
pub(crate) const AF_UNIX: u16 = 1;
pub(crate) const O_CREAT: u32 = 0o100;
pub(crate) const O_EXCL: u32 = 0o200;
pub(crate) const O_TRUNC: u32 = 0o1000;
pub(crate) const O_APPEND: u32 = 0o2000;
pub(crate) const O_NONBLOCK: u32 = 0o4000;
pub(crate) const O_CLOEXEC: u32 = 0o2_000_000;
pub(crate) const CLONE_FS: u64 = 0x200;
pub(crate) const CLONE_FILES: u64 = 0x400;
const FIOCLEX: u32 = 0x5451;
const FIONCLEX: u32 = 0x5450;
const FIONBIO: u32 = 0x5421;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_DIRECTORY: u32 = 0o40_000;
#[cfg(not(target_arch = "aarch64"))]
pub(crate) const O_DIRECTORY: u32 = 0o200_000;
const O_TMPFILE: u32 = 0o20_000_000 | O_DIRECTORY;

fn new_sock(family: u16, kind: u16, protocol: u16, cookie: u64, born_ns: u64) -> Sock {
    Sock {
        family,
        kind,
        protocol,
        cookie,
        local: None,
        peer: None,
        state: SockState::Fresh,
        partner: None,
        accepted: false,
        inherited: false,
        sent: 0,
        received: 0,
        answered: 0,
        last_send_ns: born_ns,
        born_ns,
        pending: VecDeque::new(),
        early: VecDeque::new(),
        closed: false,
        ofd: None,
    }
}

/// Addresses that mean the same socket compare equal after this.
pub(crate) fn canonical(addr: &SockAddr) -> SockAddr {
    match addr {
        SockAddr::Inet(SocketAddr::V6(v6)) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SockAddr::Inet(SocketAddr::new(IpAddr::V4(v4), v6.port())),
            None => SockAddr::Inet(SocketAddr::new(IpAddr::V6(*v6.ip()), v6.port())),
        },
        other => other.clone(),
    }
}

/// Flags and mode of an open call.
pub(crate) fn open_flags(call: &Syscall, sc: Sc) -> (u32, u32) {
    match sc {
        Sc::Open => (call.args[1] as u32, call.args[2] as u32 & 0o7777),
        Sc::Openat => (call.args[2] as u32, call.args[3] as u32 & 0o7777),
        Sc::Creat => (O_CREAT | O_TRUNC | 1, call.args[1] as u32 & 0o7777),
        _ => match detail_bytes(call, 2) {
            Some(how) => (le_u64(how, 0) as u32, le_u64(how, 8) as u32 & 0o7777),
            None => (detail_value(call, 2).unwrap_or(0) as u32, 0),
        },
    }
}

/// The offset of a positional read or write.
pub(crate) fn positional(sc: Sc, call: &Syscall) -> Option<u64> {
    match sc {
        Sc::Pread64 | Sc::Pwrite64 | Sc::Preadv | Sc::Pwritev => Some(call.args[3]),
        Sc::Preadv2 | Sc::Pwritev2 if call.args[3] != u64::MAX => Some(call.args[3]),
        _ => None,
    }
}

pub(crate) fn le_u64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

pub(crate) fn detail_str(call: &Syscall, arg: u8) -> Option<ctrace_format::StrId> {
    call.details.iter().find_map(|d| match d {
        Detail::Str { arg: a, value } if *a == arg => Some(*value),
        _ => None,
    })
}
pub(crate) fn detail_addr(call: &Syscall, arg: u8) -> Option<&SockAddr> {
    call.details.iter().find_map(|d| match d {
        Detail::Addr { arg: a, addr } if *a == arg => Some(addr),
        _ => None,
    })
}
pub(crate) fn detail_object(call: &Syscall, arg: u8) -> Option<ObjectId> {
    call.details.iter().find_map(|d| match d {
        Detail::Object { arg: a, object } if *a == arg => Some(*object),
        _ => None,
    })
}
pub(crate) fn detail_value(call: &Syscall, arg: u8) -> Option<u64> {
    call.details.iter().find_map(|d| match d {
        Detail::Value { arg: a, value } if *a == arg => Some(*value),
        _ => None,
    })
}
pub(crate) fn detail_time(call: &Syscall, arg: u8) -> Option<u64> {
    call.details.iter().find_map(|d| match d {
        Detail::Time { arg: a, ns } if *a == arg => Some(*ns),
        _ => None,
    })
}
pub(crate) fn detail_iov(call: &Syscall) -> Option<(u64, u32)> {
    call.details.iter().find_map(|d| match d {
        Detail::Iov { bytes, count, .. } => Some((*bytes, *count)),
        _ => None,
    })
}
pub(crate) fn detail_bytes(call: &Syscall, arg: u8) -> Option<&[u8]> {
    call.details.iter().find_map(|d| match d {
        Detail::Bytes { arg: a, data } if *a == arg => Some(data.as_slice()),
        _ => None,
    })
}
pub(crate) fn detail_newfds(call: &Syscall) -> Option<([i32; 2], [Option<ObjectId>; 2])> {
    call.details.iter().find_map(|d| match d {
        Detail::NewFds { fds, objects, .. } => Some((*fds, *objects)),
        _ => None,
    })
}
pub(crate) fn detail_epoll(call: &Syscall) -> Option<&[EpollEntry]> {
    call.details.iter().find_map(|d| match d {
        Detail::Epoll { entries, .. } => Some(entries.as_slice()),
        _ => None,
    })
}

/// Whether a call follows a link in the last component of its path.
fn follows(sc: Sc, call: &Syscall) -> bool {
    match sc {
        Sc::Readlink
        | Sc::Readlinkat
        | Sc::Lstat
        | Sc::Unlink
        | Sc::Unlinkat
        | Sc::Rmdir
        | Sc::Rename
        | Sc::Renameat
        | Sc::Renameat2
        | Sc::Symlink
        | Sc::Symlinkat
        | Sc::Link
        | Sc::Linkat
        | Sc::Lgetxattr
        | Sc::Llistxattr
        | Sc::Lchown
        | Sc::Mkdir
        | Sc::Mkdirat
        | Sc::Mknod
        | Sc::Mknodat => false,
        Sc::Newfstatat | Sc::Utimensat => call.args[3] & 0x100 == 0,
        Sc::Statx => call.args[2] & 0x100 == 0,
        Sc::Fchownat => call.args[4] & 0x100 == 0,
        Sc::Open | Sc::Openat | Sc::Openat2 => {
            let flags = open_flags(call, sc).0;
            flags & O_NOFOLLOW == 0 && flags & (O_CREAT | O_EXCL) != O_CREAT | O_EXCL
        }
        _ => true,
    }
}

#[cfg(target_arch = "aarch64")]
const O_NOFOLLOW: u32 = 0o100_000;
#[cfg(not(target_arch = "aarch64"))]
const O_NOFOLLOW: u32 = 0o400_000;
