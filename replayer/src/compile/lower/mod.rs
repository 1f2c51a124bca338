//! The writing pass: every recorded call becomes a step of its task's program, with the waits it needs; what comes from
//! outside becomes steps of peers.

mod arrivals;
mod ends;
mod locks;
mod meter;
mod outside;
mod waits;

use super::CompileError;
use super::bounds::keeps_to_its_memory;
use super::budget::Budget;
use super::calls::{HOST, Known, Sc};
use super::circles;
use super::deps::{Deps, EdgeKind};
use super::environment;
use super::facts::{Facts, is_work};
use super::fsmodel::InodeIx;
use super::futexes::Word;
use super::io::BUFFER_MAX;
use super::memory::Maps;
use super::paths::PathId;
use super::peers::Peers;
use super::setup;
use super::shapes::Shapes;
use super::source::Source;
use super::steps::Futexes;
use super::steps::terminals::TIOCGPTPEER;
use super::world::{Arrival, Mark, OfdIx, Origin, ProcIx, SockIx, StreamKey, TaskIx, World};
use crate::plan::environment::{Environment, FileKind, FileSpec, PeerProcess, Volume};
use crate::plan::need::Need;
use crate::plan::{CompileOptions, Plan, PlanSummary, TaskSummary};
use ctrace_format::syscalls::{Family, Makes};
use ctrace_format::{ConnectionKind, Event, ProcessKind, SockAddr, Syscall, SyscallFlags, Sysno, TcpState};
use ctrace_program::{
    BuildError, DecodeError, Expect, Kind, Program, ProgramBuilder, Step, TaskInfo, Wait, flags, task_flags,
};
use meter::{Beside, Meter};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// What the pass keeps about a task, besides what the world does.
#[derive(Debug, Default)]
pub(crate) struct TaskState {
    /// Handlers running.
    pub(crate) depth: u32,
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
#[derive(Debug, Default, Clone)]
pub(crate) struct FdMarks {
    made: Option<Mark>,
    /// The last use by each of those that used it last.
    used: Vec<Mark>,
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
    /// Which of `pre` waits for something, and what for.
    pub(crate) late: Late,
    /// The engine's own after the call.
    pub(crate) then: Vec<Step>,
    /// The time that the call took passes in `pre`: what stands for it is made at its end.
    pub(crate) spent: bool,
}

/// Which of the steps before a call waits for something, and what for.
pub(crate) type Late = (usize, Vec<Wait>);

impl Lowered {
    /// The call, and the engine's own steps before it.
    pub(crate) fn after(pre: Vec<Step>, step: Step) -> Self {
        Self { pre, step, late: Late::default(), then: Vec::new(), spent: false }
    }

    /// What stands for a call, after the time that the call took.
    pub(crate) fn spent(pre: Vec<Step>, step: Step) -> Self {
        Self { spent: true, ..Self::after(pre, step) }
    }
}

/// How many datagrams were sent to a socket from inside and taken from it, and by whom the last were sent: the number with
/// those, and the call.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    sent: u64,
    taken: u64,
    last: VecDeque<(u64, Mark)>,
}

/// An exit whose steps are written when the parent has the child.
#[derive(Debug)]
pub(crate) struct Leaving {
    call: Syscall,
    lowered: Lowered,
    waits: Vec<Wait>,
}

impl From<Step> for Lowered {
    fn from(step: Step) -> Self {
        Self::after(Vec::new(), step)
    }
}

/// Signals have numbers below this.
const SIGNALS: usize = 65;
/// A signal that a handler takes.
const CAUGHT: u8 = 2;
/// What a process does about each signal; shared with those that it was forked from, until one of them changes it.
type Dispositions = Rc<[Option<(u8, bool)>; SIGNALS]>;
/// Calls that are counted by name; there are fewer calls, and fewer errors of each.
const NAMES_MAX: usize = 4096;

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
    /// Address spaces so far.
    spaces: u32,
    /// Slots of futex words.
    pub(crate) futexes: Futexes,
    /// Signal dispositions by process, see [`Self::disposition`].
    pub(crate) dispositions: FxHashMap<ProcIx, Dispositions>,
    /// Recorded ids as the workload saw them (of an inner PID namespace, perhaps) → task.
    pub(crate) by_pid: FxHashMap<u64, TaskIx>,
    /// `timer_create` ids, inotify watches: recorded number → value slot.
    pub(crate) handles: FxHashMap<(ProcIx, u8, u64), u32>,
    /// System V shared memory: recorded id → value slot with the id here, and bytes.
    pub(crate) segments: FxHashMap<u64, (u32, u64)>,
    fd_marks: FxHashMap<(u32, i32), FdMarks>,
    /// The last calls that made descriptors, by table.
    makers: FxHashMap<u32, VecDeque<Mark>>,
    offsets: FxHashMap<OfdIx, VecDeque<Mark>>,
    path_marks: FxHashMap<PathId, (VecDeque<Mark>, Vec<Mark>)>,
    /// Who last wrote a file, and who looked at it since.
    content: FxHashMap<InodeIx, (VecDeque<Mark>, Vec<Mark>)>,
    /// Locks on files.
    pub(crate) locks: FxHashMap<InodeIx, locks::Lock>,
    /// Who last appended to a file.
    appended: FxHashMap<InodeIx, VecDeque<Mark>>,
    stream_writes: FxHashMap<StreamKey, VecDeque<Mark>>,
    stream_reads: FxHashMap<StreamKey, VecDeque<Mark>>,
    /// Connections that come to listeners.
    doors: arrivals::Doors,
    /// The last calls of tasks that ended.
    exit_marks: FxHashMap<TaskIx, Mark>,
    /// The clones that made tasks.
    births: FxHashMap<TaskIx, Mark>,
    /// The last signal that somebody could send to a task.
    kill_marks: FxHashMap<TaskIx, Mark>,
    /// The last return from a signal handler of a process.
    handled: FxHashMap<ProcIx, Mark>,
    /// By task, the last readiness call that saw a description readable since it was read last.
    sightings: FxHashMap<OfdIx, Vec<Mark>>,
    /// The last signals sent to a process, by sender.
    signals_sent: FxHashMap<ProcIx, Vec<Mark>>,
    /// The last time that a process took a signal: which, or any that its descriptors are for.
    pub(crate) signals_taken: FxHashMap<(ProcIx, Option<u32>), Mark>,
    /// Watches of descriptions that several epoll instances have, and that are out for a while: instance, descriptor.
    pub(crate) unwatched: FxHashMap<OfdIx, FxHashSet<i32>>,
    /// The listen step of listening sockets.
    listens: FxHashMap<SockIx, Mark>,
    /// Last connect of the workload to an outside address.
    connects: FxHashMap<SockAddr, Wait>,
    /// Datagrams that came to a socket from inside.
    datagrams: FxHashMap<SockIx, Delivered>,
    /// Local addresses given to unbound datagram sockets.
    pub(crate) dgram_ports: FxHashMap<SockIx, SockAddr>,
    pub(crate) next_port: u16,
    /// Sockets whose time limit for input is known to have been set.
    pub(crate) impatient: FxHashSet<SockIx>,
    pub(crate) timer_clocks: FxHashMap<(ProcIx, i32), u8>,
    pub(crate) environment: Environment,
    /// The paths of `environment.executables`, and of its links.
    pub(crate) executables: FxHashSet<Vec<u8>>,
    pub(crate) links: FxHashSet<Vec<u8>>,
    /// Names of descriptors, at which files stand for what is opened there.
    pub(crate) stand_ins: FxHashSet<Vec<u8>>,
    pub(crate) shapes: Shapes,
    /// File systems that were found full, by `st_dev`, and are as large here.
    pub(crate) full: FxHashMap<u64, Volume>,
    /// Ports on which sockets of IPv4 listened from the start.
    pub(crate) v4_ports: FxHashSet<u16>,
    pub(crate) joins: FxHashMap<TaskIx, (TaskIx, u32)>,
    /// The same the other way round, and the words of thread ids that are waited on, by thread.
    pub(crate) joined: FxHashMap<(TaskIx, u32), TaskIx>,
    pub(crate) join_words: FxHashMap<TaskIx, Word>,
    /// Threads that were made during the recording, and the first of each such process, by process.
    threads_of: FxHashMap<ProcIx, Vec<TaskIx>>,
    /// Tasks with an end of their own, by process.
    pub(crate) ends: FxHashMap<ProcIx, u32>,
    /// Tasks of `leaving`, by process, and those processes by parent.
    leaving_of: FxHashMap<ProcIx, BTreeSet<TaskIx>>,
    leaving_children: FxHashMap<ProcIx, BTreeSet<ProcIx>>,
    /// Exits of children that their parents have not yet waited for.
    leaving: BTreeMap<TaskIx, Leaving>,
    /// Ends of tasks whose own call, if they made one, has not come yet: wait status, time, whether the process ended.
    exits: BTreeMap<TaskIx, (u32, u64, bool)>,
    /// When the connection that the current accept takes had arrived, and who had looked before.
    pending_arrival: Option<Arrival>,
    pending_after: Vec<Wait>,
    /// Numbers that nobody gets before the accepts that were under way at the start have taken theirs: by table.
    pub(crate) held_numbers: FxHashMap<u32, Vec<i32>>,
    /// What the steps take.
    pub(crate) meter: Meter,
    /// Transfers that move less than they did.
    pub(crate) shortened: u64,
}

/// Writes the program.
pub(crate) fn write(
    source: &dyn Source,
    facts: Facts,
    options: &CompileOptions,
) -> Result<Plan, CompileError> {
    let dir = options.spool();
    let by_disk = free_bytes(&dir).unwrap_or(u64::MAX) / 2;
    let by_trace = options.max_program.unwrap_or_else(|| program_bytes(source.file_bytes()));
    let file = spool(&dir).map_err(|source| CompileError::Spool { dir: dir.clone(), source })?;
    write_to(file, by_trace.min(by_disk), source, facts).map_err(|error| match error {
        CompileError::TooLarge { max, .. } if max == by_disk => CompileError::NoRoom { dir, max },
        CompileError::Build(BuildError::Io { source, .. }) => CompileError::Spool { dir, source },
        other => other,
    })
}

/// The most bytes of a program for a recording of that length. A recorded call takes a fifth of a byte (of loops that do
/// little else) to 10 bytes; a step, with what it shares with others, about 30.
fn program_bytes(file_bytes: u64) -> u64 {
    const PER_BYTE: u64 = 256;
    const FREE: u64 = 64 << 20;
    file_bytes.saturating_mul(PER_BYTE).saturating_add(FREE)
}

/// What is free for us where a directory is.
fn free_bytes(dir: &std::path::Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(dir).ok()?;
    Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

fn write_to(
    file: std::fs::File,
    max_bytes: u64,
    source: &dyn Source,
    mut facts: Facts,
) -> Result<Plan, CompileError> {
    let budget = Budget::of(source);
    let mut b = ProgramBuilder::new(file)?;
    b.limit(max_bytes);
    let paths = std::mem::take(&mut facts.paths);
    let model = std::mem::take(&mut facts.fs);
    let seed = std::mem::take(&mut facts.seed);
    let fs = super::fsmodel::FsModel::seeded(&model);
    let environment::Surroundings { files, executables, executable_sizes } =
        environment::files(&model, &paths, &facts.links, budget)?;
    let full = model.devices.volumes(&executables);
    let mut volumes: Vec<_> = full.values().cloned().collect();
    volumes.sort_by(|a, b| a.path.cmp(&b.path));
    volumes.dedup_by(|a, b| a.path == b.path);
    let terminals = facts.told.terminals().filter_map(|number| u32::try_from(number).ok()).collect();
    let mut lower = Lower {
        source,
        world: World::new(budget, seed, paths, fs),
        b,
        deps: Deps::default(),
        facts,
        peers: Peers::default(),
        summary: PlanSummary { recorded_ns: source.end_ns(), ..PlanSummary::default() },
        states: Vec::new(),
        first: 0,
        maps: FxHashMap::default(),
        spaces: 0,
        futexes: Futexes::default(),
        dispositions: FxHashMap::default(),
        by_pid: FxHashMap::default(),
        handles: FxHashMap::default(),
        segments: FxHashMap::default(),
        fd_marks: FxHashMap::default(),
        makers: FxHashMap::default(),
        offsets: FxHashMap::default(),
        path_marks: FxHashMap::default(),
        content: FxHashMap::default(),
        locks: FxHashMap::default(),
        appended: FxHashMap::default(),
        shortened: 0,
        stream_writes: FxHashMap::default(),
        stream_reads: FxHashMap::default(),
        doors: arrivals::Doors::default(),
        exit_marks: FxHashMap::default(),
        births: FxHashMap::default(),
        kill_marks: FxHashMap::default(),
        handled: FxHashMap::default(),
        sightings: FxHashMap::default(),
        signals_sent: FxHashMap::default(),
        signals_taken: FxHashMap::default(),
        unwatched: FxHashMap::default(),
        listens: FxHashMap::default(),
        connects: FxHashMap::default(),
        datagrams: FxHashMap::default(),
        dgram_ports: FxHashMap::default(),
        next_port: 20_000,
        impatient: FxHashSet::default(),
        timer_clocks: FxHashMap::default(),
        executables: executables.iter().cloned().collect(),
        links: files
            .iter()
            .filter(|f| matches!(f.kind, FileKind::Link { .. }))
            .map(|f| f.path.clone())
            .collect(),
        stand_ins: FxHashSet::default(),
        shapes: Shapes::default(),
        v4_ports: FxHashSet::default(),
        environment: Environment {
            files,
            executables,
            executable_sizes,
            volumes,
            terminals,
            umask: 0o022,
            ..Environment::default()
        },
        full,
        joins: FxHashMap::default(),
        joined: FxHashMap::default(),
        join_words: FxHashMap::default(),
        threads_of: FxHashMap::default(),
        ends: FxHashMap::default(),
        leaving_of: FxHashMap::default(),
        leaving_children: FxHashMap::default(),
        leaving: BTreeMap::new(),
        exits: BTreeMap::new(),
        pending_arrival: None,
        pending_after: Vec::new(),
        held_numbers: FxHashMap::default(),
        meter: Meter::default(),
    };
    lower.find_joins();
    lower.create_tasks()?;
    lower.world.enter_snapshot(source)?;
    setup::before(&mut lower)?;
    source.for_each(&mut |event| lower.event(event))?;
    lower.finish()
}

/// A file that never has a name, so that nothing is left whatever happens: on the disk of `dir`, or in memory where its file
/// system has no such files.
pub(crate) fn spool(dir: &std::path::Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
    match options.open(dir) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            let memory = rustix::fs::memfd_create("ctrace-program", rustix::fs::MemfdFlags::CLOEXEC)?;
            Ok(memory.into())
        }
        opened => opened,
    }
}

impl Lower<'_> {
    /// The program's index of a recorded task.
    pub(crate) fn prog(&self, task: TaskIx) -> u32 {
        self.first + task
    }

    pub(crate) fn create_tasks(&mut self) -> Result<(), CompileError> {
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
            self.meter.born(1);
            self.first = 1;
            self.deps.born(0, None);
        }
        for task in &tasks {
            let mut set = 0;
            if task.origin != Origin::Forked {
                set |= task_flags::AT_GATE;
                self.meter.born(1);
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

    pub(crate) fn event(&mut self, event: &Event) -> Result<(), CompileError> {
        match event {
            Event::Syscall(call) => self.call(call)?,
            Event::Signal(signal) => self.signal(signal)?,
            Event::Connection(connection) => {
                let established =
                    matches!(connection.kind, ConnectionKind::State { new: TcpState::Established, .. });
                self.world.apply_other(self.source, event)?;
                if established {
                    self.came_about(connection.cookie.0)?;
                }
            }
            Event::Process(process) if process.kind.is_life() => {
                if let ProcessKind::Exit { status, group_dead } = process.kind {
                    let task = self.world.task_of(self.source, process.task)?;
                    self.exits.insert(task, (status, process.t_ns, group_dead));
                    self.meter.died();
                    if group_dead {
                        self.meter.emptied(self.world.tasks[task as usize].proc);
                    }
                }
                let parent = self.world.task_of(self.source, process.task)?;
                self.world.apply_other(self.source, event)?;
                if let ProcessKind::Fork { child } = process.kind {
                    let child = self.world.task_of(self.source, child)?;
                    self.forked(parent, child, process.t_ns);
                }
                if let ProcessKind::Exec { .. } = process.kind {
                    let proc = self.world.tasks[parent as usize].proc;
                    let space = self.new_space();
                    self.maps.insert(proc, Maps::default().forked(space));
                    if let Some(actions) = self.dispositions.get_mut(&proc) {
                        // What was caught has its default again (`flush_signal_handlers`, kernel/signal.c).
                        for action in Rc::make_mut(actions) {
                            *action = action.filter(|(kind, _)| *kind != CAUGHT);
                        }
                    }
                    self.meter.emptied(proc);
                }
            }
            Event::Resource(sample) => self.meter.sample(sample),
            _ => {}
        }
        self.check()?;
        self.drain_gone(event.end_ns())
    }

    /// Refuses a trace that makes more of something than a recording of its length has.
    fn check(&self) -> Result<(), CompileError> {
        const NAMES: [&str; 7] = [
            "descriptor numbers",
            "names that calls are about",
            "addresses connected to",
            "timers and watches",
            "futex words",
            "mappings",
            "address spaces",
        ];
        let kept = [
            self.fd_marks.len(),
            self.path_marks.len(),
            self.connects.len(),
            self.handles.len(),
            self.futexes.len(),
            self.b.slots() as usize,
            self.maps.len(),
        ];
        let budget = self.world.budget;
        if budget.holds(kept.into_iter().fold(0, usize::max)) {
            return Ok(());
        }
        NAMES.into_iter().zip(kept).try_for_each(|(what, count)| budget.things(what, count))
    }

    pub(crate) fn forked(&mut self, parent: TaskIx, child: TaskIx, at_ns: u64) {
        self.meter.born(1);
        let (me, prog) = (self.prog(parent), self.prog(child));
        let done = self.b.next_step(me);
        self.deps.born(prog, Some((me, done)));
        let tid = self.world.tasks[child as usize].tid;
        self.by_pid.insert(u64::from(tid), child);
        let (from, to) = (self.world.tasks[parent as usize].proc, self.world.tasks[child as usize].proc);
        if from == to {
            let first = self.world.procs[to as usize].first;
            self.threads_of.entry(to).or_insert_with(|| vec![first]).push(child);
        } else {
            let space = self.new_space();
            let copy = self.maps.entry(from).or_default().forked(space);
            self.maps.insert(to, copy);
            if let Some(actions) = self.dispositions.get(&from) {
                let actions = Rc::clone(actions);
                self.dispositions.insert(to, actions);
            }
        }
        if let Some(state) = self.states.get_mut(child as usize) {
            state.last_end_ns = at_ns;
            state.begun = true;
            state.fresh = true;
        }
    }

    /// A number for an address space.
    fn new_space(&mut self) -> u32 {
        self.spaces = self.spaces.wrapping_add(1);
        self.spaces
    }

    /// What a process does about a signal: 0 default, 1 ignore, 2 handler; and whether it restarts calls.
    pub(crate) fn disposition(&self, proc: ProcIx, signo: u32) -> Option<(u8, bool)> {
        self.dispositions.get(&proc)?.get(signo as usize).copied().flatten()
    }

    /// A process does something else about a signal from now on.
    pub(crate) fn set_disposition(&mut self, proc: ProcIx, signo: u32, kind: u8, restarts: bool) {
        let actions = self.dispositions.entry(proc).or_insert_with(|| Rc::new([None; SIGNALS]));
        if let Some(action) = Rc::make_mut(actions).get_mut(signo as usize) {
            *action = Some((kind, restarts));
        }
    }

    /// Counts a call under its name.
    pub(crate) fn count(map: &mut BTreeMap<String, u64>, name: &str) {
        if let Some(n) = map.get_mut(name) {
            *n += 1;
        } else if map.len() < NAMES_MAX {
            map.insert(name.to_owned(), 1);
        } else {
            *map.entry("others".to_owned()).or_default() += 1;
        }
    }

    pub(crate) fn think(
        &mut self,
        task: TaskIx,
        call_t_ns: u64,
        blocked_ns: u64,
        wait_cpu_ns: u64,
        step: &mut Step,
    ) {
        let Some(state) = self.states.get_mut(task as usize) else { return };
        if !state.begun {
            return;
        }
        let gap = call_t_ns.saturating_sub(state.last_end_ns);
        // What a new task waits for first is a CPU: nothing to compute again.
        let fresh = std::mem::take(&mut state.fresh);
        let idle = if fresh { gap } else { blocked_ns.saturating_add(wait_cpu_ns).min(gap) };
        step.think_cpu_ns = gap - idle;
        step.think_sleep_ns = idle;
    }

    pub(crate) fn call(&mut self, call: &Syscall) -> Result<(), CompileError> {
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
        self.reaped(&cx)?;
        let mut lowered = self.lower(&cx)?;
        self.early_accepts(&cx, &mut lowered, &mut waits);
        let parent = self.world.procs[cx.proc as usize].parent;
        let label = if known.sc == Sc::ExitGroup && parent.is_some() {
            let label = self.b.next_step(self.prog(task));
            self.leaving.insert(task, Leaving { call: call.clone(), lowered, waits });
            self.leaving_of.entry(cx.proc).or_default().insert(task);
            if let Some(parent) = parent {
                self.leaving_children.entry(parent).or_default().insert(cx.proc);
            }
            label
        } else {
            self.push(task, call, lowered, &waits)?
        };
        self.world.tasks[task as usize].label = label;
        if matches!(known.sc, Sc::Exit | Sc::ExitGroup) {
            let seq = self.world.tasks[task as usize].ops;
            self.exit_marks.insert(task, Mark { task, seq, step: label, start_ns: call.t_ns, end_ns });
        }
        if call.flags.contains(SyscallFlags::NO_EXIT) {
            self.world.apply_call(self.source, task, call, &known)?;
            return Ok(());
        }
        self.arrivals(&cx)?;
        self.unread_end(&cx)?;
        let mark =
            Mark { task, seq: self.world.tasks[task as usize].ops, step: label, start_ns: call.t_ns, end_ns };
        self.remember(&cx, mark);
        if call.ret >= 0 {
            self.meter.call(cx.proc, known.sc, call);
        }
        let child = (call.ret > 0 && matches!(known.sc, Sc::Clone | Sc::Clone3 | Sc::Fork | Sc::Vfork))
            .then(|| self.world.child_of_clone(task, call.ret))
            .flatten();
        if let Some(child) = child {
            self.by_pid.insert(call.ret as u64, child);
            self.births.insert(child, mark);
        }
        self.world.apply_call(self.source, task, call, &known)?;
        self.after_connect(&cx, mark)?;
        self.states[task as usize].last_end_ns = end_ns;
        Ok(())
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
        let end_ns = call.t_ns.saturating_add(call.duration_ns);
        (lowered.step.t_ns, lowered.step.duration_ns) =
            if lowered.spent { (end_ns, 0) } else { (call.t_ns, call.duration_ns) };
        lowered.step.flags |= in_handler;
        lowered.step.event = self.world.tasks[task as usize].ops;
        if (-516..=-512).contains(&call.ret) || call.ret == -4 {
            lowered.step.flags |= flags::INTERRUPTED;
        }
        let mut label = 0;
        let Lowered { pre, step, late: (later, mut late), then, .. } = lowered;
        let main = pre.len();
        for (i, mut step) in pre.into_iter().chain(std::iter::once(step)).chain(then).enumerate() {
            let mut own: &[Wait] = &[];
            if i == 0 {
                self.think(task, call.t_ns, call.blocked_ns, call.wait_cpu_ns, &mut step);
                own = waits;
            }
            if i != main && step.t_ns == 0 {
                // What the engine does for a call belongs to that call's time.
                (step.t_ns, step.duration_ns) = (call.t_ns, call.duration_ns);
            }
            if i == later && !late.is_empty() {
                late.extend_from_slice(own);
                own = &late;
            }
            step.flags |= in_handler;
            let sysno = Sysno { abi: HOST, nr: step.nr };
            let known = self.world.calls.get(sysno);
            let bytes_of = |blob| self.b.blob(blob).map(|bytes| bytes.len() as u64);
            let (name, args) = (known.name.unwrap_or_default(), known.args.unwrap_or_default());
            let pushed = if keeps_to_its_memory(&step, name, args, bytes_of) {
                self.b.push_after(me, &step, own)
            } else {
                Err(BuildError::Invalid { task: me, step: 0, what: "an address that is not the step's own" })
            };
            let made = match pushed {
                Ok(made) => made,
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
            if i == main {
                label = made;
            }
        }
        self.states[task as usize].begun = true;
        Ok(label)
    }

    pub(crate) fn finish(mut self) -> Result<Plan, CompileError> {
        for task in self.leaving.keys().copied().collect::<Vec<_>>() {
            self.leave(task)?;
        }
        for (task, (status, at_ns, group_dead)) in std::mem::take(&mut self.exits) {
            if (task as usize) < self.states.len() {
                self.end(task, status, at_ns, group_dead)?;
            }
        }
        let socks = &self.world.socks;
        let sent = |sock: SockIx| socks.get(sock as usize).map_or(0, |s| s.sent);
        let peer_root = self.peers.finish(&mut self.b, &sent, self.source.end_ns())?;
        let preopened = setup::peer_ends(&self);
        let executables = &self.executables;
        let is_link = |f: &FileSpec| matches!(f.kind, FileKind::Link { .. });
        self.environment.files.retain(|f| is_link(f) || !executables.contains(&f.path));
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
        if self.shortened > 0 {
            self.summary.notes.push(format!(
                "{} calls moved more than {} MiB at once, and move that much",
                self.shortened,
                BUFFER_MAX >> 20
            ));
        }
        if self.world.fs.unexplained > 0 {
            self.summary.notes.push(format!(
                "{} times a file appeared or vanished by a hand outside the recording",
                self.world.fs.unexplained
            ));
        }
        let (entries, content_bytes) = self.entries();
        let beside = Beside {
            space: self.world.fs.space,
            descriptions: self.world.ofds.len() as u64,
            fd_numbers: self.world.fd_numbers,
            peers: self.summary.peer_tasks,
            entries,
            content_bytes,
        };
        let program = self.b.seal()?;
        let sealed = program
            .try_clone()
            .map_err(|source| DecodeError::Io { offset: 0, source })
            .and_then(Program::open);
        let sealed = sealed.map_err(CompileError::Sealed)?;
        self.summary.cut = circles::cut(&sealed).map_err(CompileError::Sealed)?;
        if let Some(first) = self.summary.cut.first() {
            self.summary.notes.push(format!(
                "{} waits could never hold and were taken back, the first one that of {} for {} at {:.6} s: please report this",
                self.summary.cut.len(),
                sealed.task_name(first.task),
                sealed.task_name(first.on),
                first.t_ns as f64 / 1e9
            ));
        }
        let need = Need {
            duration_ns: self.summary.recorded_ns,
            addresses: self.environment.addresses.len() as u64,
            ..self.meter.need(&sealed, beside)
        };
        let peers = peer_root.map(|task| PeerProcess { task, preopened }).into_iter().collect();
        Ok(Plan { program, environment: self.environment, peers, need, summary: self.summary })
    }

    /// Files of the environment that the model of the file system does not have, and bytes of those with content.
    fn entries(&self) -> (u64, u64) {
        let (mut entries, mut content_bytes) = (self.environment.executables.len() as u64, 0_u64);
        for file in &self.environment.files {
            match &file.kind {
                FileKind::Directory { entries: more } => entries = entries.saturating_add(u64::from(*more)),
                FileKind::Content { bytes } => content_bytes += (bytes.len() as u64).next_multiple_of(4096),
                _ => {}
            }
        }
        (entries, content_bytes)
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

/// The listening descriptor of a successful accept.
pub(crate) fn accepting(cx: &Cx<'_>) -> Option<i32> {
    (cx.known.row().family == Family::Accept && cx.call.ret >= 0).then_some(cx.call.args[0] as i32)
}

/// The listening descriptor of an accept that succeeded or came in vain.
pub(crate) fn looking(cx: &Cx<'_>) -> Option<i32> {
    const EAGAIN: i64 = -11;
    let looks = cx.known.row().family == Family::Accept && (cx.call.ret >= 0 || cx.call.ret == EAGAIN);
    looks.then_some(cx.call.args[0] as i32)
}

/// Descriptors that a call uses.
pub(crate) fn fd_args(cx: &Cx<'_>) -> Vec<i32> {
    use ctrace_format::syscalls::Kind as K;
    let Some(args) = cx.known.args else { return Vec::new() };
    args.iter()
        .zip(cx.call.args)
        .filter(|((_, kind), _)| matches!(kind, K::Fd | K::DirFd))
        .map(|(_, value)| value as i32)
        .chain(passed(cx, &[Sc::Sendmsg, Sc::Sendmmsg]))
        .filter(|fd| *fd >= 0)
        .collect()
}

/// Descriptors that went with the messages of a call of these.
fn passed<'a>(cx: &Cx<'a>, of: &[Sc]) -> impl Iterator<Item = i32> + 'a {
    let call = of.contains(&cx.known.sc).then_some(cx.call);
    call.into_iter().flat_map(super::world::details_passed).flat_map(|(_, fds)| fds).map(|passed| passed.fd)
}

/// Descriptors that a successful call made.
pub(crate) fn made_fds(cx: &Cx<'_>) -> Vec<i32> {
    match cx.known.row().makes {
        Makes::Two => super::world::detail_newfds(cx.call).map_or_else(Vec::new, |(fds, _)| fds.to_vec()),
        Makes::Result(_) => vec![cx.call.ret as i32],
        // F_DUPFD, F_DUPFD_CLOEXEC.
        _ if cx.known.sc == Sc::Fcntl && matches!(cx.call.args[1], 0 | 1030) => vec![cx.call.ret as i32],
        _ if cx.known.sc == Sc::Ioctl && cx.call.args[1] as u32 == TIOCGPTPEER => vec![cx.call.ret as i32],
        _ if matches!(cx.known.sc, Sc::Recvmsg | Sc::Recvmmsg) => passed(cx, &[cx.known.sc]).collect(),
        Makes::Nothing => Vec::new(),
    }
}

/// Descriptors that a call reads from and writes to.
pub(crate) fn transfers(cx: &Cx<'_>) -> (Vec<i32>, Vec<i32>) {
    let row = cx.known.row();
    let of = |bits: u8| {
        let named = cx.call.args.iter().enumerate().filter(|(i, _)| bits & 1 << i != 0);
        named.map(|(_, fd)| *fd as i32).collect()
    };
    (of(row.reads), of(row.writes))
}

/// Whether a successful call of this kind makes, moves or removes a name.
pub(crate) fn is_name_change(cx: &Cx<'_>) -> bool {
    cx.known.row().renames
        || matches!(cx.known.sc, Sc::Open | Sc::Openat | Sc::Openat2 | Sc::Creat)
            && super::world::open_flags(cx.call, cx.known.sc).0 & super::world::O_CREAT != 0
}

/// Whether an expectation is worth stating for a call that never returned.
pub(crate) fn never(step: Step) -> Step {
    step.expect(Expect::Never, 0)
}
