//! The writing pass: every recorded call becomes a step of its task's program, with the waits it needs; what comes from
//! outside becomes steps of peers.

use super::CompileError;
use super::calls::{Known, Sc};
use super::deps::{Deps, EdgeKind, Need};
use super::environment;
use super::facts::{Facts, is_work};
use super::fsmodel::{InodeIx, PathId};
use super::futexes::Word;
use super::memory::Maps;
use super::peers::{Peers, Turn};
use super::setup;
use super::source::Source;
use super::world::{
    Arrival, BLOCKED_NS, Mark, OfdIx, OfdKind, Origin, ProcIx, SockIx, TaskIx, World, canonical, detail_addr,
};
use crate::plan::environment::{Environment, ExternalSignal, PeerProcess};
use crate::plan::{CompileOptions, Plan, PlanSummary, TaskSummary};
use ctrace_format::{Event, ProcessKind, SockAddr, Syscall, SyscallFlags};
use ctrace_program::{BuildError, Expect, Kind, ProgramBuilder, Step, TaskInfo, Wait, flags, task_flags};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;

/// What the pass keeps about a task, besides what the world does.
#[derive(Debug, Default)]
pub(crate) struct TaskState {
    /// Handlers running.
    pub(crate) depth: u32,
    /// A call that the kernel restarts by itself after the handlers: its number and the depth it was made at.
    restart: Option<(u32, u32)>,
    /// End of the last record.
    last_end_ns: u64,
    /// Its end has a step.
    ended: bool,
    /// Has had a record.
    begun: bool,
    /// Nothing was recorded of it since its birth.
    fresh: bool,
    /// Last signal generated for it: number, and whether a task inside sent it.
    signal: Option<(u32, bool)>,
}

/// Who used a descriptor number last, for waits between threads.
#[derive(Debug, Default, Clone, Copy)]
struct FdMarks {
    made: Option<Mark>,
    used: Option<Mark>,
    freed: Option<Mark>,
}

/// A call being written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cx<'a> {
    pub(crate) task: TaskIx,
    pub(crate) proc: ProcIx,
    pub(crate) call: &'a Syscall,
    pub(crate) known: Known,
    /// The host's number of the call.
    pub(crate) nr: u32,
    pub(crate) name: &'static str,
}

/// Steps for one call: `pre` are the engine's own, `step` is the call.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub(crate) pre: Vec<Step>,
    pub(crate) step: Step,
}

impl From<Step> for Lowered {
    fn from(step: Step) -> Self {
        Self { pre: Vec::new(), step }
    }
}

/// The pass.
pub(crate) struct Lower<'a> {
    pub(crate) source: &'a dyn Source,
    pub(crate) world: World,
    pub(crate) b: ProgramBuilder,
    pub(crate) deps: Deps,
    pub(crate) facts: Facts,
    pub(crate) peers: Peers,
    pub(crate) summary: PlanSummary,
    pub(crate) states: Vec<TaskState>,
    /// Index of the first recorded task in the program.
    pub(crate) first: u32,
    pub(crate) maps: FxHashMap<ProcIx, Maps>,
    /// Slots of futex words; a word has several, used in turn, so that a wake reaches those it did.
    pub(crate) futex_slots: FxHashMap<(Word, u32), u32>,
    /// Wakes of a word so far.
    pub(crate) wakes: FxHashMap<Word, u32>,
    pub(crate) quiet_futex: Option<u32>,
    pub(crate) deserted_futex: Option<u32>,
    /// Signal dispositions by process: 0 default, 1 ignore, 2 handler; and whether it restarts calls.
    pub(crate) dispositions: FxHashMap<(ProcIx, u32), (u8, bool)>,
    /// Recorded ids as the workload saw them (of an inner PID namespace, perhaps) → task.
    pub(crate) by_pid: FxHashMap<u64, TaskIx>,
    /// `timer_create` ids, inotify watches: recorded number → value slot.
    pub(crate) handles: FxHashMap<(ProcIx, u8, u64), u32>,
    fd_marks: FxHashMap<(u32, i32), FdMarks>,
    offsets: FxHashMap<OfdIx, Mark>,
    path_marks: FxHashMap<PathId, (Option<Mark>, Vec<Mark>)>,
    content: FxHashMap<InodeIx, (Option<Mark>, Option<Mark>)>,
    stream_writes: FxHashMap<(u8, u32), Mark>,
    stream_reads: FxHashMap<(u8, u32), Mark>,
    /// The last return from a signal handler of a process.
    handled: FxHashMap<ProcIx, Mark>,
    /// The listen step of listening sockets.
    listens: FxHashMap<SockIx, Mark>,
    /// Last connect of the workload to an outside address.
    connects: FxHashMap<SockAddr, Wait>,
    /// Local addresses given to unbound datagram sockets.
    pub(crate) dgram_ports: FxHashMap<SockIx, SockAddr>,
    pub(crate) next_port: u16,
    /// Sockets whose time limit for input is known to have been set.
    pub(crate) impatient: FxHashSet<SockIx>,
    pub(crate) timer_clocks: FxHashMap<(ProcIx, i32), u8>,
    pub(crate) environment: Environment,
    pub(crate) joins: FxHashMap<TaskIx, (TaskIx, u32)>,
    /// Ends of tasks whose own call, if they made one, has not come yet: wait status, time, whether the process ended.
    exits: BTreeMap<TaskIx, (u32, u64, bool)>,
    /// When the connection that the current accept takes had arrived, and who had looked before.
    pending_arrival: Option<Arrival>,
    pending_after: Vec<Wait>,
}

/// Writes the program.
pub(crate) fn write(
    source: &dyn Source,
    mut facts: Facts,
    options: &CompileOptions,
) -> Result<Plan, CompileError> {
    let dir = options.spool.clone().unwrap_or_else(std::env::temp_dir);
    let file = spool(&dir).map_err(|source| CompileError::Spool { dir, source })?;
    let b = ProgramBuilder::new(file)?;
    let paths = std::mem::take(&mut facts.paths);
    let model = std::mem::take(&mut facts.fs);
    let seed = std::mem::take(&mut facts.seed);
    let fs = super::fsmodel::FsModel::seeded(&model);
    let (files, executables) = environment::files(&model, &paths, &facts.links);
    let mut lower = Lower {
        source,
        world: World::new(seed, paths, fs),
        b,
        deps: Deps::default(),
        facts,
        peers: Peers::default(),
        summary: PlanSummary { recorded_ns: source.end_ns(), ..PlanSummary::default() },
        states: Vec::new(),
        first: 0,
        maps: FxHashMap::default(),
        futex_slots: FxHashMap::default(),
        wakes: FxHashMap::default(),
        quiet_futex: None,
        deserted_futex: None,
        dispositions: FxHashMap::default(),
        by_pid: FxHashMap::default(),
        handles: FxHashMap::default(),
        fd_marks: FxHashMap::default(),
        offsets: FxHashMap::default(),
        path_marks: FxHashMap::default(),
        content: FxHashMap::default(),
        stream_writes: FxHashMap::default(),
        stream_reads: FxHashMap::default(),
        handled: FxHashMap::default(),
        listens: FxHashMap::default(),
        connects: FxHashMap::default(),
        dgram_ports: FxHashMap::default(),
        next_port: 20_000,
        impatient: FxHashSet::default(),
        timer_clocks: FxHashMap::default(),
        environment: Environment { files, executables, umask: 0o022, ..Environment::default() },
        joins: FxHashMap::default(),
        exits: BTreeMap::new(),
        pending_arrival: None,
        pending_after: Vec::new(),
    };
    lower.find_joins();
    lower.create_tasks()?;
    lower.world.enter_snapshot(source)?;
    setup::before(&mut lower)?;
    source.for_each(&mut |event| lower.event(event))?;
    lower.finish()
}

fn spool(dir: &std::path::Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    // Unnamed, so that nothing is left whatever happens; where that is not possible, unnamed at once.
    if let Ok(file) = options.clone().custom_flags(libc::O_TMPFILE).open(dir) {
        return Ok(file);
    }
    let path =
        dir.join(format!("ctrace-program-{}-{:x}", std::process::id(), std::ptr::from_ref(dir).addr()));
    let file = options.create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

impl Lower<'_> {
    /// The program's index of a recorded task.
    pub(crate) fn prog(&self, task: TaskIx) -> u32 {
        self.first + task
    }

    fn find_joins(&mut self) {
        for (word, tasks) in &self.facts.tid_words {
            let Some(waits) = self.facts.futexes.by_word.get(word) else { continue };
            // The same word serves one thread after the other; waits and threads pair up in order.
            for (child, wait) in tasks.iter().zip(waits) {
                self.joins.insert(*child, *wait);
            }
        }
    }

    fn create_tasks(&mut self) -> Result<(), CompileError> {
        let tasks = std::mem::take(&mut self.facts.tasks);
        if tasks.is_empty() {
            return Err(CompileError::Empty);
        }
        let roots = tasks.iter().filter(|t| t.parent.is_none()).count();
        let synthetic = roots != 1 || tasks[0].parent.is_some();
        if synthetic {
            self.b.task(&TaskInfo {
                flags: task_flags::ROOT | task_flags::AT_GATE,
                name: b"start".to_vec(),
                ..TaskInfo::default()
            })?;
            self.first = 1;
            self.deps.born(0, None);
        }
        for task in &tasks {
            let mut set = 0;
            if task.origin != Origin::Forked {
                set |= task_flags::AT_GATE;
            }
            if !synthetic && task.parent.is_none() {
                set |= task_flags::ROOT;
            }
            let parent = task.parent.map(|p| self.first + p).or(synthetic.then_some(0));
            let ix = self.b.task(&TaskInfo {
                flags: set,
                tid: task.tid,
                tgid: task.tgid,
                parent,
                leader: Some(self.first + task.leader),
                name: task.comm.clone(),
            })?;
            self.deps.born(ix, None);
            self.states.push(TaskState::default());
            self.summary.tasks.push(TaskSummary {
                name: String::from_utf8_lossy(&task.comm).into_owned(),
                tid: task.tid,
                tgid: task.tgid,
                steps: 0,
            });
        }
        self.facts.tasks = tasks;
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), CompileError> {
        match event {
            Event::Syscall(call) => self.call(call)?,
            Event::Signal(signal) => self.signal(signal)?,
            Event::Process(process) => {
                if let ProcessKind::Exit { status, group_dead } = process.kind {
                    let task = self.world.task_of(self.source, process.task)?;
                    self.exits.insert(task, (status, process.t_ns, group_dead));
                }
                let parent = self.world.task_of(self.source, process.task)?;
                self.world.apply_other(self.source, event)?;
                if let ProcessKind::Fork { child } = process.kind {
                    let child = self.world.task_of(self.source, child)?;
                    self.forked(parent, child, process.t_ns);
                }
                if let ProcessKind::Exec { .. } = process.kind {
                    let proc = self.world.tasks[parent as usize].proc;
                    self.maps.insert(proc, Maps::default());
                    self.dispositions.retain(|(p, _), (kind, _)| *p != proc || *kind != 2);
                }
            }
            _ => {}
        }
        self.drain_gone(event.end_ns())
    }

    fn forked(&mut self, parent: TaskIx, child: TaskIx, at_ns: u64) {
        let (me, prog) = (self.prog(parent), self.prog(child));
        let done = self.b.next_step(me);
        self.deps.born(prog, Some((me, done)));
        let tid = self.world.tasks[child as usize].tid;
        self.by_pid.insert(u64::from(tid), child);
        let (from, to) = (self.world.tasks[parent as usize].proc, self.world.tasks[child as usize].proc);
        if from != to {
            let copy = self.maps.entry(from).or_default().forked();
            self.maps.insert(to, copy);
            let inherited: Vec<_> = (1..=64)
                .filter_map(|signo| self.dispositions.get(&(from, signo)).map(|d| (signo, *d)))
                .collect();
            for (signo, disposition) in inherited {
                self.dispositions.insert((to, signo), disposition);
            }
        }
        if let Some(state) = self.states.get_mut(child as usize) {
            state.last_end_ns = at_ns;
            state.begun = true;
            state.fresh = true;
        }
    }

    fn drain_gone(&mut self, at_ns: u64) -> Result<(), CompileError> {
        for ofd in std::mem::take(&mut self.world.gone_ofds) {
            self.offsets.remove(&ofd);
        }
        if self.world.gone_socks.is_empty() {
            return Ok(());
        }
        for sock in std::mem::take(&mut self.world.gone_socks) {
            let sent = self.world.socks[sock as usize].sent;
            self.peers.closed(&mut self.b, sock, sent, at_ns)?;
            self.stream_writes.remove(&(1, sock));
            self.stream_reads.remove(&(1, sock));
        }
        Ok(())
    }

    /// Counts a call under its name.
    pub(crate) fn count(map: &mut BTreeMap<String, u64>, name: &str) {
        if let Some(n) = map.get_mut(name) {
            *n += 1;
        } else {
            map.insert(name.to_owned(), 1);
        }
    }

    fn think(&mut self, task: TaskIx, call_t_ns: u64, blocked_ns: u64, wait_cpu_ns: u64, step: &mut Step) {
        let Some(state) = self.states.get_mut(task as usize) else { return };
        if !state.begun {
            return;
        }
        let gap = call_t_ns.saturating_sub(state.last_end_ns);
        // What a new task waits for first is a CPU: nothing to compute again.
        let fresh = std::mem::take(&mut state.fresh);
        let idle = if fresh { gap } else { blocked_ns.saturating_add(wait_cpu_ns).min(gap) };
        step.think_cpu_ns = u32::try_from(gap - idle).unwrap_or(u32::MAX);
        step.think_sleep_ns = u32::try_from(idle).unwrap_or(u32::MAX);
    }

    fn call(&mut self, call: &Syscall) -> Result<(), CompileError> {
        let task = self.world.task_of(self.source, call.task)?;
        if call.flags.contains(SyscallFlags::ENGINE) {
            return Ok(());
        }
        if task as usize >= self.states.len() {
            return Ok(());
        }
        let known = self.world.calls.get(call.sysno);
        let end_ns = call.t_ns.saturating_add(call.duration_ns);
        let name = known.name.unwrap_or("unknown");
        if !is_work(call) {
            let step = Step::of(Kind::Skip).with(flags::SURROGATE);
            Self::count(&mut self.summary.surrogate, name);
            self.push(task, call, Lowered::from(step), &[])?;
            self.states[task as usize].last_end_ns = end_ns;
            return Ok(());
        }
        // A call that the kernel restarted by itself is the same call of the worker.
        let depth = self.states[task as usize].depth;
        if let Some((nr, at)) = self.states[task as usize].restart
            && at == depth
        {
            self.states[task as usize].restart = None;
            if call.sysno.nr == nr || known.sc == Sc::RestartSyscall {
                self.note_restart(task, call, depth);
                self.states[task as usize].last_end_ns = end_ns;
                let label = self.b.next_step(self.prog(task)).saturating_sub(1);
                self.world.tasks[task as usize].label = label;
                return self.world.apply_call(self.source, task, call, &known);
            }
        }
        let cx = Cx {
            task,
            proc: self.world.tasks[task as usize].proc,
            call,
            known,
            nr: known.native.unwrap_or(0),
            name,
        };
        let mut waits = Vec::new();
        self.needs(&cx, &mut waits);
        let connect_wait = self.before_connect(&cx)?;
        if let Some(wait) = connect_wait {
            let me = self.prog(task);
            self.deps.add(me, EdgeKind::Connection, wait, &mut waits);
        }
        if let Some(wait) = self.peer_failure(&cx)? {
            let me = self.prog(task);
            self.deps.add(me, EdgeKind::Connection, wait, &mut waits);
        }
        let lowered = self.lower(&cx)?;
        let label = self.push(task, call, lowered, &waits)?;
        self.world.tasks[task as usize].label = label;
        self.note_restart(task, call, depth);
        if call.flags.contains(SyscallFlags::NO_EXIT) {
            self.world.apply_call(self.source, task, call, &known)?;
            return Ok(());
        }
        self.arrivals(&cx)?;
        self.unread_end(&cx)?;
        let mark =
            Mark { task, seq: self.world.tasks[task as usize].ops, step: label, start_ns: call.t_ns, end_ns };
        self.remember(&cx, mark);
        let child = (call.ret > 0 && matches!(known.sc, Sc::Clone | Sc::Clone3 | Sc::Fork | Sc::Vfork))
            .then(|| self.world.child_of_clone(task, call.ret))
            .flatten();
        if let Some(child) = child {
            self.by_pid.insert(call.ret as u64, child);
        }
        self.world.apply_call(self.source, task, call, &known)?;
        self.after_connect(&cx, mark)?;
        self.states[task as usize].last_end_ns = end_ns;
        Ok(())
    }

    /// Remembers that the kernel will restart this call by itself.
    fn note_restart(&mut self, task: TaskIx, call: &Syscall, depth: u32) {
        // ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK (include/linux/errno.h).
        if (-516..=-512).contains(&call.ret) && !call.flags.contains(SyscallFlags::NO_EXIT) {
            self.states[task as usize].restart = Some((call.sysno.nr, depth));
        }
    }

    /// Appends the steps of a call; think time and waits go to the first.
    pub(crate) fn push(
        &mut self,
        task: TaskIx,
        call: &Syscall,
        mut lowered: Lowered,
        waits: &[Wait],
    ) -> Result<u32, CompileError> {
        let me = self.prog(task);
        let state = &self.states[task as usize];
        let in_handler = if state.depth > 0 { flags::IN_HANDLER } else { 0 };
        lowered.step.t_ns = call.t_ns;
        lowered.step.duration_ns = u32::try_from(call.duration_ns).unwrap_or(u32::MAX);
        lowered.step.flags |= in_handler;
        lowered.step.event = self.world.tasks[task as usize].ops;
        if (-516..=-512).contains(&call.ret) || call.ret == -4 {
            lowered.step.flags |= flags::INTERRUPTED;
        }
        let mut first = true;
        let mut label = 0;
        let mut steps = std::mem::take(&mut lowered.pre);
        steps.push(lowered.step);
        for mut step in steps {
            if first {
                self.think(task, call.t_ns, call.blocked_ns, call.wait_cpu_ns, &mut step);
                self.b.set_waits(&mut step, waits)?;
                step.t_ns = call.t_ns;
                first = false;
            }
            step.flags |= in_handler;
            label = match self.b.push(me, &step) {
                Ok(label) => label,
                // What a call claims may be more than any call can do; that call is left out, not the rest.
                Err(
                    BuildError::Invalid { .. }
                    | BuildError::Limit { what: "bytes of one buffer" | "bytes of one I/O vector", .. },
                ) => {
                    let mut skip = Step::of(Kind::Skip).with(flags::MISSING | in_handler);
                    skip.nr = step.nr;
                    let known = self.world.calls.get(call.sysno);
                    Self::count(&mut self.summary.missing, known.name.unwrap_or("unknown"));
                    self.b.push(me, &skip)?
                }
                Err(error) => return Err(error.into()),
            };
        }
        self.states[task as usize].begun = true;
        Ok(label)
    }

    /// What a call has to wait for, as far as other tasks made it.
    fn needs(&mut self, cx: &Cx<'_>, waits: &mut Vec<Wait>) {
        let mut needs: Vec<Need> = Vec::new();
        let files = self.world.procs[cx.proc as usize].files;
        let call = cx.call;
        for fd in fd_args(cx) {
            if let Some(marks) = self.fd_marks.get(&(files, fd)) {
                needs.extend(marks.made.map(|mark| Need { kind: EdgeKind::Descriptor, mark }));
                if cx.known.sc == Sc::Close {
                    needs.extend(marks.used.map(|mark| Need { kind: EdgeKind::Descriptor, mark }));
                }
            }
        }
        if call.ret >= 0 {
            for fd in made_fds(cx) {
                if let Some(marks) = self.fd_marks.get(&(files, fd)) {
                    needs.extend(marks.freed.map(|mark| Need { kind: EdgeKind::Descriptor, mark }));
                }
            }
        }
        let (reads, writes) = transfers(cx);
        for fd in reads.iter().chain(&writes) {
            let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
            if matches!(self.world.ofds[ofd as usize].kind, OfdKind::Node { .. } | OfdKind::Mem { .. }) {
                needs.extend(self.offsets.get(&ofd).map(|mark| Need { kind: EdgeKind::Offset, mark: *mark }));
            }
        }
        for fd in &reads {
            let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
            if let Some(inode) = self.world.inode_of(ofd) {
                let marks = self.content.get(&inode).and_then(|(write, _)| *write);
                needs.extend(marks.map(|mark| Need { kind: EdgeKind::Content, mark }));
            }
            if let Some(key) = self.stream_key(ofd, false) {
                needs.extend(self.stream_reads.get(&key).map(|m| Need { kind: EdgeKind::Stream, mark: *m }));
            }
        }
        if let Some(listener) = accepting(cx).and_then(|fd| self.world.sock_of(cx.task, fd)) {
            // Who accepts which connection is decided by who comes first.
            let last = self.stream_reads.get(&(ACCEPTS, listener));
            needs.extend(last.map(|mark| Need { kind: EdgeKind::Connection, mark: *mark }));
        }
        for fd in &writes {
            let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
            if let Some(inode) = self.world.inode_of(ofd)
                && let Some((write, read)) = self.content.get(&inode)
            {
                needs.extend(
                    write.iter().chain(read).map(|mark| Need { kind: EdgeKind::Content, mark: *mark }),
                );
            }
            if let Some(key) = self.stream_key(ofd, true) {
                needs.extend(self.stream_writes.get(&key).map(|m| Need { kind: EdgeKind::Stream, mark: *m }));
            }
            for mark in self.idle_of_reader(ofd) {
                needs.push(Need { kind: EdgeKind::NotYet, mark });
            }
        }
        for (path, _) in self.named_paths(cx) {
            if let Some((changed, seen)) = self.path_marks.get(&path) {
                needs.extend(changed.map(|mark| Need { kind: EdgeKind::Path, mark }));
                if is_name_change(cx) {
                    needs.extend(seen.iter().map(|mark| Need { kind: EdgeKind::Path, mark: *mark }));
                }
            }
        }
        if cx.known.sc == Sc::Connect
            && call.ret >= -115
            && let Some(addr) = detail_addr(call, 1)
        {
            let addr = self.world.absolute(cx.task, addr);
            if let Some(listener) = self.world.listener(&addr) {
                needs.extend(
                    self.listens.get(&listener).map(|m| Need { kind: EdgeKind::Connection, mark: *m }),
                );
                for mark in self.idle_marks(self.world.socks[listener as usize].ofd) {
                    needs.push(Need { kind: EdgeKind::NotYet, mark });
                }
            }
        }
        for ofd in self.closing(cx) {
            // Somebody's writes succeeded while this end was open.
            let written = match self.world.ofds[ofd as usize].kind {
                OfdKind::Pipe { pipe, write: false } => Some((0, pipe)),
                OfdKind::Sock(sock) => self.world.socks[sock as usize].partner.map(|p| (1, p)),
                _ => None,
            };
            needs.extend(
                written
                    .and_then(|key| self.stream_writes.get(&key))
                    .map(|mark| Need { kind: EdgeKind::Stream, mark: *mark }),
            );
        }
        if matches!(cx.known.sc, Sc::Exit | Sc::ExitGroup) {
            let leader_exits = cx.known.sc == Sc::ExitGroup;
            let parent = self.world.procs[cx.proc as usize].parent;
            if leader_exits && let Some(parent) = parent {
                // Two SIGCHLDs at once are one: the next child ends after the last one's was dealt with.
                let dealt_with = self.handled.get(&parent).copied();
                let marks = self.world.procs[parent as usize].no_child.into_iter().chain(dealt_with);
                needs.extend(marks.map(|mark| Need { kind: EdgeKind::NotEnded, mark }));
            }
        }
        let me = self.prog(cx.task);
        for need in needs {
            if need.mark.task != cx.task {
                let on = self.prog(need.mark.task);
                self.deps.need(me, on, &need, call.t_ns, waits);
            }
        }
        if matches!(cx.known.sc, Sc::Exit | Sc::ExitGroup) {
            self.join_wait(cx.task, call.t_ns, waits);
        }
    }

    /// Descriptions of pipes and sockets that lose a descriptor by this call.
    fn closing(&self, cx: &Cx<'_>) -> Vec<OfdIx> {
        let table = self.world.files_of(cx.task);
        match cx.known.sc {
            Sc::Close => table.slots.get(&(cx.call.args[0] as i32)).map(|s| s.ofd).into_iter().collect(),
            Sc::Dup2 | Sc::Dup3 => {
                table.slots.get(&(cx.call.args[1] as i32)).map(|s| s.ofd).into_iter().collect()
            }
            Sc::ExitGroup => table.slots.values().map(|s| s.ofd).collect(),
            _ => Vec::new(),
        }
    }

    /// The thread that waits for this one to end is already waiting when it ends.
    fn join_wait(&mut self, task: TaskIx, at_ns: u64, waits: &mut Vec<Wait>) {
        let Some((waiter, seq)) = self.joins.get(&task).copied() else { return };
        let Some(state) = self.world.tasks.get(waiter as usize) else { return };
        // Its wait is the call it is in now, if it began before.
        if state.ops == seq && state.last_end_ns <= at_ns && !state.exited {
            let on = self.prog(waiter);
            let step = self.b.next_step(on);
            let me = self.prog(task);
            self.deps.add(me, EdgeKind::Join, Wait::entered(on, step), waits);
        }
    }

    fn stream_key(&self, ofd: OfdIx, write: bool) -> Option<(u8, u32)> {
        match self.world.ofds[ofd as usize].kind {
            OfdKind::Pipe { pipe, write: end } if end == write => Some((0, pipe)),
            OfdKind::Sock(sock) => Some((1, sock)),
            OfdKind::Event => Some((2, ofd)),
            _ => None,
        }
    }

    /// When the one who reads what is written to `ofd` had last found nothing.
    fn idle_of_reader(&self, ofd: OfdIx) -> Vec<Mark> {
        let reader = match self.world.ofds[ofd as usize].kind {
            OfdKind::Pipe { pipe, .. } => self.world.pipes[pipe as usize].reader,
            OfdKind::Sock(sock) => {
                self.world.socks[sock as usize].partner.and_then(|p| self.world.socks[p as usize].ofd)
            }
            OfdKind::Event => Some(ofd),
            _ => None,
        };
        self.idle_marks(reader)
    }

    fn idle_marks(&self, ofd: Option<OfdIx>) -> Vec<Mark> {
        let Some(ofd) = ofd else { return Vec::new() };
        let state = &self.world.ofds[ofd as usize];
        let mut marks: Vec<Mark> = state.idle.into_iter().collect();
        marks.extend(state.watched_by.iter().filter_map(|e| self.world.ofds[*e as usize].idle));
        marks
    }

    /// Remembers what a call did, for those that come after it.
    fn remember(&mut self, cx: &Cx<'_>, mark: Mark) {
        let files = self.world.procs[cx.proc as usize].files;
        let shared = true;
        if shared {
            for fd in fd_args(cx) {
                let marks = self.fd_marks.entry((files, fd)).or_default();
                if cx.known.sc == Sc::Close && cx.call.ret == 0 {
                    *marks = FdMarks { made: None, used: None, freed: Some(mark) };
                } else {
                    marks.used = Some(mark);
                }
            }
            if cx.call.ret >= 0 {
                for fd in made_fds(cx) {
                    let marks = self.fd_marks.entry((files, fd)).or_default();
                    *marks = FdMarks { made: Some(mark), used: None, freed: None };
                }
            }
        }
        if cx.call.ret >= 0 {
            let (reads, writes) = transfers(cx);
            for fd in reads.iter().chain(&writes) {
                let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
                if matches!(self.world.ofds[ofd as usize].kind, OfdKind::Node { .. } | OfdKind::Mem { .. }) {
                    self.offsets.insert(ofd, mark);
                }
            }
            for fd in &reads {
                let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
                if let Some(inode) = self.world.inode_of(ofd) {
                    self.content.entry(inode).or_default().1 = Some(mark);
                }
                if let Some(key) = self.stream_key(ofd, false) {
                    self.stream_reads.insert(key, mark);
                }
            }
            for fd in &writes {
                let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
                if let Some(inode) = self.world.inode_of(ofd) {
                    self.content.entry(inode).or_default().0 = Some(mark);
                }
                if let Some(key) = self.stream_key(ofd, true) {
                    self.stream_writes.insert(key, mark);
                }
            }
            if let Some(listener) = accepting(cx).and_then(|fd| self.world.sock_of(cx.task, fd)) {
                self.stream_reads.insert((ACCEPTS, listener), mark);
            }
            if cx.known.sc == Sc::Listen
                && let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32)
            {
                self.listens.insert(sock, mark);
            }
        }
        if cx.known.sc == Sc::RtSigreturn {
            self.handled.insert(cx.proc, mark);
        }
        let change = cx.call.ret >= 0 && is_name_change(cx);
        for (path, _) in self.named_paths(cx) {
            let marks = self.path_marks.entry(path).or_default();
            if change {
                marks.0 = Some(mark);
                marks.1.clear();
            } else {
                marks.1.retain(|m| m.task != mark.task);
                if marks.1.len() >= 8 {
                    marks.1.remove(0);
                }
                marks.1.push(mark);
            }
        }
    }

    /// The names a call is about, and whether it makes or removes them.
    pub(crate) fn named_paths(&mut self, cx: &Cx<'_>) -> Vec<(PathId, bool)> {
        let Some(args) = cx.known.args else { return Vec::new() };
        let mut out = Vec::new();
        let mut dirfd = None;
        for (i, (_, kind)) in args.iter().enumerate() {
            use ctrace_format::syscalls::Kind as K;
            match kind {
                K::DirFd => dirfd = Some(cx.call.args[i] as i32),
                K::Path => {
                    if let Some(target) = self.world.target(self.source, cx.task, cx.call, i as u8, dirfd)
                        && !target.by_fd
                    {
                        out.push((target.path, true));
                    }
                    dirfd = None;
                }
                _ => {}
            }
        }
        out
    }

    /// A connect to somebody outside: they have to be listening, or not to be.
    fn before_connect(&mut self, cx: &Cx<'_>) -> Result<Option<Wait>, CompileError> {
        if cx.known.sc != Sc::Connect {
            return Ok(None);
        }
        let Some(addr) = detail_addr(cx.call, 1) else { return Ok(None) };
        let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32) else { return Ok(None) };
        let addr = self.world.absolute(cx.task, addr);
        let state = &self.world.socks[sock as usize];
        let kind = state.kind;
        if !matches!(addr, SockAddr::Inet(_) | SockAddr::Unix(_)) || self.is_inside(sock) || kind == 2 {
            return Ok(None);
        }
        if self.world.listener(&addr).is_some() && self.world.socks[sock as usize].family != 1 {
            // Somebody inside listens there, and yet nobody inside accepted: it waits in the backlog for ever.
            return Ok(None);
        }
        let key = canonical(&addr);
        let refused = match cx.call.ret {
            -111 => true,
            -2 => matches!(addr, SockAddr::Unix(_)),
            0 | -115 => self.refused_later(cx, sock),
            _ => return Ok(None),
        };
        let first_up = self.facts.first_connect.get(&key).copied().unwrap_or(!refused);
        let worker = self.connects.get(&key).copied();
        let wait = self.peers.before_connect(
            &mut self.b,
            &mut self.deps,
            &addr,
            kind,
            !refused,
            first_up,
            worker,
        )?;
        Ok(wait)
    }

    /// A connect in progress that will turn out to be refused.
    fn refused_later(&self, cx: &Cx<'_>, sock: SockIx) -> bool {
        let _ = cx;
        let cookie = self.world.socks[sock as usize].cookie;
        self.facts.refused.contains(&cookie)
    }

    fn is_inside(&self, sock: SockIx) -> bool {
        self.world.socks[sock as usize].partner.is_some()
            || self.facts.inside.get(sock as usize).copied().unwrap_or(false)
    }

    /// After a connect or an accept: who plays the other end.
    fn after_connect(&mut self, cx: &Cx<'_>, mark: Mark) -> Result<(), CompileError> {
        self.world.newly_paired();
        let me = self.prog(cx.task);
        match cx.known.sc {
            Sc::Connect => {
                let Some(addr) = detail_addr(cx.call, 1) else { return Ok(()) };
                let addr = self.world.absolute(cx.task, addr);
                self.connects.insert(canonical(&addr), Wait::completed(me, mark.step));
                if cx.call.ret != 0 && cx.call.ret != -115 {
                    return Ok(());
                }
                let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32) else { return Ok(()) };
                if self.is_inside(sock) || self.refused_later(cx, sock) {
                    return Ok(());
                }
                if self.world.socks[sock as usize].kind == 2 {
                    return Ok(());
                }
                let at_ns = mark.end_ns;
                self.peers.serve(
                    &mut self.b,
                    &mut self.deps,
                    sock,
                    &addr,
                    at_ns,
                    Wait::entered(me, mark.step),
                )?;
            }
            Sc::Accept | Sc::Accept4 if cx.call.ret >= 0 => {
                let Some(sock) = self.world.sock_of(cx.task, cx.call.ret as i32) else { return Ok(()) };
                let Some(listener) = self.world.sock_of(cx.task, cx.call.args[0] as i32) else {
                    return Ok(());
                };
                if self.is_inside(sock) {
                    return Ok(());
                }
                let state = &self.world.socks[sock as usize];
                let listening = &self.world.socks[listener as usize];
                let (from, kind) = (state.peer.clone(), state.kind);
                let to = state.local.clone().or_else(|| listening.local.clone());
                let Some(to) = to.map(reachable) else { return Ok(()) };
                let at_ns = self.pending_arrival.map_or(cx.call.t_ns, |a| a.at_ns);
                let mut after: Vec<Wait> = Vec::new();
                if let Some(mark) = self.listens.get(&listener) {
                    after.push(Wait::completed(self.prog(mark.task), mark.step));
                }
                after.append(&mut self.pending_after);
                self.peers.connect(
                    &mut self.b,
                    &mut self.deps,
                    sock,
                    listener,
                    from.as_ref(),
                    &to,
                    kind,
                    at_ns,
                    &after,
                )?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits for those who had looked before something arrived at `at_ns`.
    fn looked_before(&self, ofd: OfdIx, at_ns: u64) -> Vec<Wait> {
        self.idle_marks(Some(ofd))
            .into_iter()
            .filter(|mark| mark.end_ns <= at_ns)
            .map(|mark| Wait::completed(self.prog(mark.task), mark.step))
            .collect()
    }

    /// When what a read or accept took had arrived.
    fn arrival(&self, cx: &Cx<'_>, ofd: OfdIx, sent: u64) -> Arrival {
        let end_ns = cx.call.t_ns.saturating_add(cx.call.duration_ns);
        match self.world.ofds[ofd as usize].ready {
            Some(ready) => ready,
            None if cx.call.duration_ns >= BLOCKED_NS => {
                Arrival { at_ns: end_ns, after_sent: sent, exact: true }
            }
            None => Arrival { at_ns: cx.call.t_ns, after_sent: sent, exact: false },
        }
    }

    /// What a call took from outside is sent by a peer.
    fn arrivals(&mut self, cx: &Cx<'_>) -> Result<(), CompileError> {
        self.pending_arrival = None;
        self.pending_after.clear();
        let fd = cx.call.args[0] as i32;
        match cx.known.sc {
            Sc::Accept | Sc::Accept4 if cx.call.ret >= 0 => {
                if let Some(ofd) = self.world.ofd_of(cx.task, fd) {
                    let arrival = self.arrival(cx, ofd, 0);
                    self.pending_arrival = Some(arrival);
                    self.pending_after = self.looked_before(ofd, arrival.at_ns);
                }
            }
            Sc::Read | Sc::Readv | Sc::Recvfrom | Sc::Recvmsg if cx.call.ret >= 0 => {
                if matches!(cx.known.sc, Sc::Recvfrom) && cx.call.args[3] & 2 != 0 {
                    return Ok(());
                }
                self.took(cx, fd, cx.call.ret as u64)?;
            }
            Sc::Splice | Sc::Tee if cx.call.ret >= 0 => self.took(cx, fd, cx.call.ret as u64)?,
            Sc::Sendto | Sc::Sendmsg | Sc::Write | Sc::Writev if cx.call.ret >= 0 => {
                if let Some(sock) = self.world.sock_of(cx.task, fd)
                    && self.world.socks[sock as usize].kind == 2
                {
                    self.peers.sent_datagram(&mut self.b, sock, cx.call.ret as u64)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn took(&mut self, cx: &Cx<'_>, fd: i32, n: u64) -> Result<(), CompileError> {
        let Some(ofd) = self.world.ofd_of(cx.task, fd) else { return Ok(()) };
        let key = match self.world.ofds[ofd as usize].kind {
            OfdKind::Sock(sock) => sock,
            OfdKind::Pipe { pipe, .. } => setup::pipe_key(pipe),
            _ => return Ok(()),
        };
        if !self.peers.plays(key) {
            return Ok(());
        }
        let (sent, last_send_ns) = match self.world.socks.get(key as usize) {
            Some(sock) => (sock.sent, sock.last_send_ns),
            None => (0, 0),
        };
        let arrival = self.arrival(cx, ofd, sent);
        // What was there at once may have come any time since the workload last sent.
        let at_ns = if arrival.exact { arrival.at_ns } else { last_send_ns.min(arrival.at_ns) };
        let after = self.looked_before(ofd, arrival.at_ns);
        let turn = Turn { after_sent: arrival.after_sent, at_ns, last_send_ns };
        let to = self.world.socks.get(key as usize).and_then(|s| s.local.clone());
        let to = self.dgram_ports.get(&key).cloned().or(to).map(reachable);
        if n == 0 && self.world.socks.get(key as usize).is_none_or(|s| s.kind != 2) {
            // The end of a pipe, or of a connection whose other end answered later data with a reset: it was closed, not
            // just done with sending.
            let closed =
                self.world.socks.get(key as usize).is_none_or(|s| self.facts.reset.contains(&s.cookie));
            if closed {
                let mut turn = turn;
                if let Some(state) = self.world.socks.get(key as usize) {
                    // What was sent after the last answer found nobody any more: that is what the reset says.
                    turn.after_sent = turn.after_sent.min(state.answered);
                    turn.at_ns = self.facts.fin.get(&state.cookie).copied().unwrap_or(turn.at_ns);
                }
                self.peers.gone(&mut self.b, &mut self.deps, key, turn, false, &after)?;
                return Ok(());
            }
        }
        self.peers.arrived(&mut self.b, &mut self.deps, key, n, turn, to.as_ref(), &after)
    }

    /// A connection is closed without a look at what had arrived: that was its end.
    fn unread_end(&mut self, cx: &Cx<'_>) -> Result<(), CompileError> {
        if cx.known.sc != Sc::Close || cx.call.ret != 0 {
            return Ok(());
        }
        let Some(ofd) = self.world.ofd_of(cx.task, cx.call.args[0] as i32) else { return Ok(()) };
        let (OfdKind::Sock(sock), Some(arrival)) =
            (&self.world.ofds[ofd as usize].kind, self.world.ofds[ofd as usize].ready)
        else {
            return Ok(());
        };
        let sock = *sock;
        if self.peers.plays(sock) && self.world.socks[sock as usize].kind == 1 {
            let last_send_ns = self.world.socks[sock as usize].last_send_ns;
            let turn = Turn { after_sent: arrival.after_sent, at_ns: arrival.at_ns, last_send_ns };
            let after = self.looked_before(ofd, arrival.at_ns);
            let reset = self.facts.reset.contains(&self.world.socks[sock as usize].cookie);
            self.peers.gone(&mut self.b, &mut self.deps, sock, turn, reset, &after)?;
        }
        Ok(())
    }

    /// A call that failed because the other end is gone.
    fn peer_failure(&mut self, cx: &Cx<'_>) -> Result<Option<Wait>, CompileError> {
        if !matches!(cx.call.ret, -104 | -32) {
            return Ok(None);
        }
        let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32) else { return Ok(None) };
        if !self.peers.plays(sock) {
            return Ok(None);
        }
        let state = &self.world.socks[sock as usize];
        let turn = Turn { after_sent: state.sent, at_ns: cx.call.t_ns, last_send_ns: state.last_send_ns };
        let me = self.prog(cx.task);
        let next = self.b.next_step(me);
        let after: Vec<Wait> = next.checked_sub(1).map(|s| Wait::completed(me, s)).into_iter().collect();
        self.peers.gone(&mut self.b, &mut self.deps, sock, turn, true, &after)
    }

    fn signal(&mut self, signal: &ctrace_format::Signal) -> Result<(), CompileError> {
        let task = self.world.task_of(self.source, signal.task)?;
        if task as usize >= self.states.len() {
            return Ok(());
        }
        let proc = self.world.tasks[task as usize].proc;
        let disposition = self.dispositions.get(&(proc, signal.signo)).copied().unwrap_or((0, false));
        if !signal.delivered {
            // Kernel-made signals (SIGCHLD, SIGPIPE, timers, faults) have their cause in the replay as well: si_code > 0
            // for them, and SI_TIMER, SI_KERNEL … for the rest; SI_USER and SI_TKILL are from somebody's kill.
            let sent = matches!(signal.code, 0 | -6 | -1);
            let inside = signal.sender.is_some();
            self.states[task as usize].signal = Some((signal.signo, inside || !sent));
            if sent && !inside {
                let me = self.prog(task);
                let done = self.b.next_step(me);
                self.environment.signals.push(ExternalSignal {
                    t_ns: signal.t_ns,
                    task: me,
                    after_seq: done * 2,
                    signo: signal.signo,
                    to_process: signal.code == 0,
                });
            }
            return Ok(());
        }
        if disposition.0 != 2 {
            return Ok(());
        }
        let mut step = Step::of(Kind::SignalHandler);
        step.nr = signal.signo;
        step.t_ns = signal.t_ns;
        self.think(task, signal.t_ns, 0, 0, &mut step);
        // Without SA_RESTART an interrupted call fails with EINTR; the kernel restarts only ERESTARTNOINTR then.
        if !disposition.1 {
            let depth = self.states[task as usize].depth;
            if self.states[task as usize].restart.is_some_and(|(_, at)| at == depth) {
                self.states[task as usize].restart = None;
            }
        }
        let state = &mut self.states[task as usize];
        if state.depth > 0 {
            step.flags |= flags::IN_HANDLER;
        }
        state.depth += 1;
        state.last_end_ns = state.last_end_ns.max(signal.t_ns);
        let me = self.prog(task);
        self.b.push(me, &step)?;
        Ok(())
    }

    /// A task that ended without a call of its own gets an end: it was killed, or its last call was lost.
    fn end(&mut self, task: TaskIx, status: u32, at_ns: u64, group_dead: bool) -> Result<(), CompileError> {
        if self.states[task as usize].ended || !group_dead {
            return Ok(());
        }
        let proc = self.world.tasks[task as usize].proc;
        let me = self.prog(task);
        let signo = status & 0x7f;
        if signo != 0 {
            // Killed: by somebody's signal, which comes in the replay as well, or by a fault of its own. Should the cause not
            // come about (a pipe that still had a reader), the end comes at its recorded time nevertheless.
            let leader = u64::from(self.prog(self.world.procs[proc as usize].first));
            let mut step = Step::call(super::calls::host_nr("tgkill").unwrap_or(0))
                .with(flags::ENGINE)
                .arg(0, ctrace_program::Sel::Pid, leader)
                .arg(1, ctrace_program::Sel::Pid, u64::from(me))
                .imm(2, u64::from(signo));
            if self.states[task as usize].signal.is_some_and(|(s, _)| s == signo) {
                step = step.with(flags::AT);
                step.t_ns = at_ns;
            }
            self.b.push(me, &step)?;
            return Ok(());
        }
        let by_other = self
            .world
            .tasks
            .iter()
            .zip(&self.states)
            .enumerate()
            .any(|(i, (t, s))| t.proc == proc && i as u32 != task && s.ended);
        if !by_other {
            let mut waits = Vec::new();
            self.join_wait(task, at_ns, &mut waits);
            let mut step = Step::of(Kind::Exit).imm(0, u64::from(status >> 8)).with(flags::EXTRA);
            step.nr = super::calls::host_nr("exit_group").unwrap_or(0);
            self.b.set_waits(&mut step, &waits)?;
            self.b.push(me, &step)?;
            self.states[task as usize].ended = true;
        }
        Ok(())
    }

    /// Remembers that a task has its exit step.
    pub(crate) fn ended(&mut self, task: TaskIx) {
        self.states[task as usize].ended = true;
    }

    fn finish(mut self) -> Result<Plan, CompileError> {
        for (task, (status, at_ns, group_dead)) in std::mem::take(&mut self.exits) {
            if (task as usize) < self.states.len() {
                self.end(task, status, at_ns, group_dead)?;
            }
        }
        let socks = &self.world.socks;
        let sent = |sock: SockIx| socks.get(sock as usize).map_or(0, |s| s.sent);
        let peer_root = self.peers.finish(&mut self.b, &sent)?;
        let preopened = setup::peer_ends(&self);
        self.environment.addresses = self.peers.addresses.iter().copied().collect();
        self.environment.hostname = self.source.header().host.hostname.clone().into_bytes();
        for (i, task) in self.summary.tasks.iter_mut().enumerate() {
            task.steps = self.b.next_step(self.first + i as u32);
        }
        let total: u64 = (0..self.b.task_count()).map(|t| u64::from(self.b.next_step(t))).sum();
        let recorded = self.summary.tasks.len() as u64 + u64::from(self.first);
        self.summary.peer_tasks = u64::from(self.b.task_count()) - recorded;
        self.summary.steps = total;
        self.summary.edges = std::mem::take(&mut self.deps.edges);
        self.summary.edges_implied = self.deps.implied;
        self.summary.files = self.environment.files.len() as u64;
        self.summary.peers_served = self.peers.served;
        self.summary.peers_clients = self.peers.clients;
        self.summary.peers_datagram = self.peers.datagram;
        if self.facts.unknown_fds > 0 {
            self.summary.notes.push(format!(
                "{} calls used descriptors whose origin the recording does not show",
                self.facts.unknown_fds
            ));
        }
        if self.world.fs.unexplained > 0 {
            self.summary.notes.push(format!(
                "{} times a file appeared or vanished by a hand outside the recording",
                self.world.fs.unexplained
            ));
        }
        let program = self.b.seal()?;
        let peers = peer_root.map(|task| PeerProcess { task, preopened }).into_iter().collect();
        Ok(Plan { program, environment: self.environment, peers, summary: self.summary })
    }
}

/// A wildcard address as somebody who connects to it has to say it.
pub(crate) fn reachable(addr: SockAddr) -> SockAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    match addr {
        SockAddr::Inet(at) if at.ip().is_unspecified() => {
            let ip =
                if at.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
            SockAddr::Inet(SocketAddr::new(ip, at.port()))
        }
        other => other,
    }
}

/// Key of accepts among the reads of streams.
const ACCEPTS: u8 = 3;

/// The listening descriptor of a successful accept.
fn accepting(cx: &Cx<'_>) -> Option<i32> {
    (matches!(cx.known.sc, Sc::Accept | Sc::Accept4) && cx.call.ret >= 0).then_some(cx.call.args[0] as i32)
}

/// Descriptors that a call uses.
fn fd_args(cx: &Cx<'_>) -> Vec<i32> {
    use ctrace_format::syscalls::Kind as K;
    let Some(args) = cx.known.args else { return Vec::new() };
    args.iter()
        .zip(cx.call.args)
        .filter(|((_, kind), _)| matches!(kind, K::Fd | K::DirFd))
        .map(|(_, value)| value as i32)
        .filter(|fd| *fd >= 0)
        .collect()
}

/// Descriptors that a successful call made.
fn made_fds(cx: &Cx<'_>) -> Vec<i32> {
    match cx.known.sc {
        Sc::Pipe | Sc::Pipe2 | Sc::Socketpair => {
            super::world::detail_newfds(cx.call).map_or_else(Vec::new, |(fds, _)| fds.to_vec())
        }
        Sc::Fcntl if matches!(cx.call.args[1], 0 | 1030) => vec![cx.call.ret as i32],
        _ if cx.known.name.is_some_and(ctrace_format::syscalls::returns_fd) => vec![cx.call.ret as i32],
        _ => Vec::new(),
    }
}

/// Descriptors that a call reads from and writes to.
fn transfers(cx: &Cx<'_>) -> (Vec<i32>, Vec<i32>) {
    let a = |i: usize| cx.call.args[i] as i32;
    match cx.known.sc {
        Sc::Read
        | Sc::Readv
        | Sc::Pread64
        | Sc::Preadv
        | Sc::Preadv2
        | Sc::Recvfrom
        | Sc::Recvmsg
        | Sc::Getdents
        | Sc::Getdents64
        | Sc::Lseek
        | Sc::Fstat => (vec![a(0)], Vec::new()),
        Sc::Write
        | Sc::Writev
        | Sc::Pwrite64
        | Sc::Pwritev
        | Sc::Pwritev2
        | Sc::Sendto
        | Sc::Sendmsg
        | Sc::Ftruncate
        | Sc::Fallocate => (Vec::new(), vec![a(0)]),
        Sc::Sendfile => (vec![a(1)], vec![a(0)]),
        Sc::Splice | Sc::CopyFileRange => (vec![a(0)], vec![a(2)]),
        Sc::Tee => (vec![a(0)], vec![a(1)]),
        _ => (Vec::new(), Vec::new()),
    }
}

/// Whether a successful call of this kind makes, moves or removes a name.
fn is_name_change(cx: &Cx<'_>) -> bool {
    match cx.known.sc {
        Sc::Open | Sc::Openat | Sc::Openat2 | Sc::Creat => {
            super::world::open_flags(cx.call, cx.known.sc).0 & super::world::O_CREAT != 0
        }
        Sc::Mkdir
        | Sc::Mkdirat
        | Sc::Mknod
        | Sc::Mknodat
        | Sc::Symlink
        | Sc::Symlinkat
        | Sc::Unlink
        | Sc::Unlinkat
        | Sc::Rmdir
        | Sc::Rename
        | Sc::Renameat
        | Sc::Renameat2
        | Sc::Link
        | Sc::Linkat => true,
        _ => false,
    }
}

/// Whether an expectation is worth stating for a call that never returned.
pub(crate) fn never(step: Step) -> Step {
    step.expect(Expect::Never, 0)
}
