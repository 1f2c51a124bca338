//! Threads and processes: those of the start snapshot, those that were forked, what they execute, how they end.

use super::super::CompileError;
use super::super::fsmodel::{Executed, InodeIx, NodeKind};
use super::super::paths::PathId;
use super::super::source::Source;
use super::limits::LIMIT_NAME;
use super::{
    CLONE_FS, FsState, MAX_TASKS, O_CLOEXEC, OfdIx, OfdKind, Origin, Proc, ProcIx, Task, TaskIx, World,
};
use ctrace_analysis::fds::CLONE_FILES;
use ctrace_format::{Event, FdTarget, Process, ProcessKind, Syscall, TaskId};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};

/// A task's name, as long as the kernel's own get (kernel threads; `TASK_COMM_LEN` is 16).
fn comm_of(name: &[u8]) -> Vec<u8> {
    name[..name.len().min(64)].to_vec()
}

impl World {
    /// Puts the processes of the start snapshot into the world.
    pub(crate) fn enter_snapshot(&mut self, source: &dyn Source) -> Result<(), CompileError> {
        // A socket is one description whoever has it, and so is an end of a pipe unless somebody opened it anew.
        let mut shared: FxHashMap<(u32, Option<bool>), OfdIx> = FxHashMap::default();
        for process in &source.snapshot().processes {
            let parent = self.live_tgid.get(&process.parent.0).copied();
            let cwd = if process.cwd.is_empty() {
                self.paths.intern(b"/")
            } else {
                self.paths.intern(&process.cwd)
            };
            self.fs.present(&mut self.paths, cwd, NodeKind::Dir);
            let exe = (!process.exe.is_empty()).then(|| self.paths.intern(&process.exe));
            if let Some(exe) = exe {
                let ix = self.fs.present(&mut self.paths, exe, NodeKind::File);
                self.fs.node_mut(ix).executed.get_or_insert(Executed::ByName);
            }
            let proc = self.add_proc(process.tgid.0, parent, cwd, process.umask, exe);
            if let Some((soft, _)) = process.limits.get(LIMIT_NAME) {
                self.procs[proc as usize].fd_limit = Some(*soft);
            }
            let mut tids: Vec<(u32, Vec<u8>)> =
                process.threads.iter().map(|t| (t.tid.0, comm_of(&t.comm))).collect();
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
                if self.seed.late.contains(&(process.tgid.0, fd.fd)) {
                    continue;
                }
                let kind = self.kind_of_target(&fd.target, fd.flags);
                let identity = match kind {
                    OfdKind::Sock(sock) => Some((sock, None)),
                    OfdKind::Pipe { pipe, write } => Some((pipe, Some(write))),
                    _ => None,
                };
                let ofd = match identity.and_then(|i| shared.get(&i)) {
                    Some(ofd) => *ofd,
                    None => self.add_ofd(kind, fd.flags, None),
                };
                if let Some(identity) = identity {
                    shared.insert(identity, ofd);
                }
                self.ofds[ofd as usize].pos = fd.offset;
                self.ofds[ofd as usize].inherited = true;
                self.put_fd(proc, fd.fd, ofd, fd.flags & O_CLOEXEC != 0, 0)?;
            }
            self.give_inherited(source, self.procs[proc as usize].leader)?;
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
        let comm = comm_of(source.str(def.comm));
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
            self.fs.present(&mut self.paths, cwd, NodeKind::Dir);
            let proc = self.add_proc(def.tgid.0, None, cwd, 0o022, None);
            self.fs_states[self.procs[proc as usize].fs as usize].began_here = self.seed.cwd.is_none();
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

    /// What was executed by its descriptor: the kernel calls that `/dev/fd/N` (`do_open_execat`, fs/exec.c). The path is
    /// `None` for a memfd.
    fn executed_descriptor(&self, proc: ProcIx, name: &[u8]) -> Option<(Option<PathId>, InodeIx)> {
        let number = std::str::from_utf8(name.strip_prefix(b"/dev/fd/")?).ok()?;
        let slot = self.files[self.procs[proc as usize].files].get(number.parse().ok()?)?;
        match self.ofds[slot.what.id() as usize].kind {
            OfdKind::Node { path, inode } => Some((Some(path), inode)),
            OfdKind::Mem { inode } => Some((None, inode)),
            _ => None,
        }
    }

    /// The live task with this thread id.
    pub(crate) fn live(&self, tid: u32) -> Option<TaskIx> {
        self.live_tid.get(&tid).copied()
    }

    /// The workload knows a task by this number.
    pub(crate) fn number(&mut self, task: TaskIx, number: u64) {
        self.numbered.insert(number, task);
    }

    /// The task that the workload last knew by a number.
    pub(crate) fn numbered(&self, number: u64) -> Option<TaskIx> {
        self.numbered.get(&number).copied()
    }

    /// The task that somebody means by a number.
    pub(crate) fn by_number(&self, number: u64) -> Option<TaskIx> {
        let number = u64::from(number as u32);
        self.numbered(number).or_else(|| self.live(number as u32))
    }

    /// The child that a clone of `task` which returned `ret` made. The returned id may be of an inner PID namespace.
    pub(crate) fn child_of_clone(&self, task: TaskIx, ret: i64) -> Option<TaskIx> {
        self.tasks[task as usize].newborn.front().copied().or_else(|| self.live(u32::try_from(ret).ok()?))
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
                let comm = comm_of(source.str(def.comm));
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
                let opened = self.executed_descriptor(proc, source.str(*path));
                self.procs[proc as usize].opened = opened;
                if let Some((path, inode)) = opened {
                    self.procs[proc as usize].exe = path.or(self.procs[proc as usize].exe);
                    self.fs.node_mut(inode).executed = Some(Executed::ByDescriptor);
                } else {
                    let path = self.seen(task, source.str(*path));
                    let path = self.paths.intern(&path);
                    let path = self.resolve(path, true);
                    self.procs[proc as usize].exe = Some(path);
                    let ix = self.fs.program(&mut self.paths, path);
                    self.fs.node_mut(ix).executed.get_or_insert(Executed::ByName);
                }
                self.exec(proc)?;
            }
            ProcessKind::Exit { status, group_dead } => {
                let state = &mut self.tasks[task as usize];
                state.exited = true;
                state.status = Some(*status);
                let (tid, proc) = (state.tid, state.proc);
                let living = &mut self.procs[proc as usize].live_threads;
                *living = living.saturating_sub(1);
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

    pub(crate) fn clone_flags_of(&self, tid: u32, at_ns: u64) -> u64 {
        // The clone that made it returned after the fork event: the first such one.
        self.seed
            .clone_flags
            .get(&tid)
            .and_then(|all| all.get(all.partition_point(|(end, _)| *end < at_ns)))
            .map_or(0, |(_, flags)| *flags)
    }

    pub(crate) fn fork(
        &mut self,
        tid: u32,
        tgid: u32,
        start_ns: u64,
        parent: TaskIx,
        flags: u64,
        comm: Vec<u8>,
    ) -> Result<TaskIx, CompileError> {
        let above = self.tasks[parent as usize].proc;
        let from = &self.procs[above as usize];
        let (from_files, from_fs, exe, own_group, root) =
            (from.files, from.fs, from.exe, from.own_group, from.root);
        let fd_limit = from.fd_limit;
        let files = if flags & CLONE_FILES != 0 {
            self.files.share(from_files);
            from_files
        } else {
            self.files.copy(from_files)
        };
        let shares_fs = flags & CLONE_FS != 0;
        let fs = if shares_fs {
            self.procs[above as usize].shares_fs = true;
            from_fs
        } else {
            self.fs_states.push(self.fs_states[from_fs as usize].clone());
            (self.fs_states.len() - 1) as u32
        };
        let proc = self.procs.len() as ProcIx;
        self.procs.push(Proc {
            tgid,
            parent: Some(above),
            leader: 0,
            first: 0,
            files,
            fs,
            root,
            exe,
            own_group,
            no_child: BTreeMap::new(),
            threads: 0,
            live_threads: 0,
            shares_fs,
            fd_limit,
            opened: None,
            dead: false,
        });
        self.live_tgid.insert(tgid, proc);
        let ix = self.add_task(tid, start_ns, proc, Some(parent), Origin::Forked, comm)?;
        self.set_leader(proc, ix);
        Ok(ix)
    }

    /// `setpgid(pid, pgid)`: into a group of its own, or into one that is known.
    pub(crate) fn regrouped(&mut self, caller: ProcIx, call: &Syscall) {
        let by_id = |world: &Self, id: u64| match id as u32 {
            0 => Some(caller),
            tgid => world.live_tgid.get(&tgid).copied(),
        };
        let Some(moved) = by_id(self, call.args[0]) else { return };
        let leader = if call.args[1] == 0 { Some(moved) } else { by_id(self, call.args[1]) };
        self.procs[moved as usize].own_group =
            leader.is_some_and(|l| l == moved || self.procs[l as usize].own_group);
    }

    pub(crate) fn add_proc(
        &mut self,
        tgid: u32,
        parent: Option<ProcIx>,
        cwd: PathId,
        umask: u32,
        exe: Option<PathId>,
    ) -> ProcIx {
        let files = self.files.fresh();
        let directory = self.fs.lookup(cwd);
        let root = self.paths.intern(b"/");
        self.fs_states.push(FsState { cwd, root, directory, began_here: false, umask });
        let proc = self.procs.len() as ProcIx;
        self.procs.push(Proc {
            tgid,
            parent,
            leader: 0,
            first: 0,
            files,
            fs: (self.fs_states.len() - 1) as u32,
            root: proc,
            exe,
            own_group: false,
            no_child: BTreeMap::new(),
            threads: 0,
            live_threads: 0,
            shares_fs: false,
            fd_limit: self.seed.fd_limit,
            opened: None,
            dead: false,
        });
        self.live_tgid.insert(tgid, proc);
        proc
    }

    pub(crate) fn add_task(
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
        self.procs[proc as usize].threads += 1;
        self.procs[proc as usize].live_threads += 1;
        self.tasks.push(Task {
            tid,
            start_ns,
            proc,
            parent,
            origin,
            exited: false,
            ops: 0,
            last_start_ns: start_ns,
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

    pub(crate) fn set_leader(&mut self, proc: ProcIx, task: TaskIx) {
        let proc = &mut self.procs[proc as usize];
        proc.leader = task;
        proc.first = task;
    }

    /// A table of descriptors of the process's own. What one of several threads does to its own table only is not followed.
    pub(crate) fn unshare_files(&mut self, task: TaskIx) {
        let proc = self.tasks[task as usize].proc;
        if self.procs[proc as usize].live_threads <= 1 {
            self.own_files(proc);
        }
    }

    /// A working directory of the process's own.
    pub(crate) fn unshare_directory(&mut self, task: TaskIx) {
        let proc = self.tasks[task as usize].proc;
        if self.procs[proc as usize].live_threads <= 1 && self.procs[proc as usize].shares_fs {
            self.procs[proc as usize].shares_fs = false;
            let fs = self.procs[proc as usize].fs;
            self.fs_states.push(self.fs_states[fs as usize].clone());
            self.procs[proc as usize].fs = (self.fs_states.len() - 1) as u32;
        }
    }

    fn own_files(&mut self, proc: ProcIx) {
        self.procs[proc as usize].files = self.files.own(self.procs[proc as usize].files);
    }

    pub(crate) fn exec(&mut self, proc: ProcIx) -> Result<(), CompileError> {
        self.own_files(proc);
        let files = self.procs[proc as usize].files;
        for (_, closed) in self.files.exec(files) {
            drop(closed);
            self.bury();
        }
        self.within_limits()
    }

    /// Feeds an event that is not a system call.
    pub(crate) fn apply_other(&mut self, source: &dyn Source, event: &Event) -> Result<(), CompileError> {
        if let Event::Process(process) = event
            && process.kind.is_life()
        {
            self.apply_process(source, process)?;
        }
        if let Event::Connection(connection) = event {
            self.connection_changed(connection)?;
        }
        self.check()
    }
}
