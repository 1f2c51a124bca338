//! The actors: processes, and the roles of their threads.

use super::Dictionary;
use super::words::text;
use crate::roles;
use ctrace_format::{Container, Origin, Snapshot, StrId, TaskDef, TaskId};
use rustc_hash::{FxHashMap, FxHashSet};

/// An index into [`People::roles`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RoleId(pub(crate) u32);

/// An index into [`People::processes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ProcessId(pub(crate) u32);

/// Threads that do the same: those of one name in processes of one name.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) name: String,
    /// Threads and processes that had it.
    pub(crate) threads: u32,
    pub(crate) processes: u32,
    /// The process that had it first.
    pub(crate) first: ProcessId,
}

/// A process of the scope.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) tgid: u32,
    pub(crate) parent: Option<ProcessId>,
    pub(crate) comm: String,
    /// Its program, when an exec or the snapshot told.
    pub(crate) exe: Option<String>,
    /// The program and arguments of a process that came from outside.
    pub(crate) command: Option<String>,
    pub(crate) start_ns: u64,
    /// When it ended, and how, as wait(2) tells it.
    pub(crate) exit: Option<(u64, u32)>,
    pub(crate) container: Option<u32>,
    /// Where it came from, when it did not begin as a part of the scope, and when that was told.
    pub(crate) origin: Option<(Origin, u64)>,
    pub(crate) calls: u64,
    /// When its last call began.
    pub(crate) last_ns: u64,
}

/// One thread under one name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Actor {
    pub(crate) role: RoleId,
    pub(crate) process: ProcessId,
    pub(crate) tid: u32,
}

/// Processes of a role that did something: one, or several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Doers {
    #[default]
    None,
    One(ProcessId),
    Several,
}

impl Doers {
    pub(crate) fn add(&mut self, process: ProcessId) {
        *self = match *self {
            Self::None => Self::One(process),
            Self::One(same) if same == process => *self,
            _ => Self::Several,
        };
    }

    /// Those of both.
    pub(crate) fn and(&mut self, others: Self) {
        match others {
            Self::None => {}
            Self::One(process) => self.add(process),
            Self::Several => *self = Self::Several,
        }
    }
}

/// The name of a task that no event tells is empty.
fn or_nameless(comm: &str) -> &str {
    if comm.is_empty() { "a program without a name" } else { comm }
}

/// Everybody.
#[derive(Debug, Default)]
pub(crate) struct People {
    pub(crate) processes: Vec<Process>,
    pub(crate) roles: Vec<Role>,
    actors: Vec<Option<Actor>>,
    /// The last process of each id.
    last: FxHashMap<u32, ProcessId>,
    by_name: FxHashMap<String, RoleId>,
    /// Roles that a process has, so that it is counted once.
    had: FxHashSet<(ProcessId, RoleId)>,
    /// Threads that were counted, by id and role.
    counted: FxHashSet<(u32, RoleId)>,
    /// Processes beyond those that are told apart: all of them are the last entry, with one more that it began with.
    pub(crate) untold: u64,
}

/// Processes that are told apart.
const MAX_PROCESSES: usize = 1 << 18;
const MAX_ROLES: usize = 4096;
/// include/linux/sched.h.
const TASK_COMM_LEN: usize = 16;

impl People {
    /// Those who were there when recording began.
    pub(crate) fn snapshot(&mut self, snapshot: &Snapshot) {
        let people = self;
        for p in &snapshot.processes {
            let parent = people.last.get(&p.parent.0).copied();
            let comm = p.threads.first().map(|t| text(&t.comm)).unwrap_or_default();
            let id = people.born(p.tgid.0, parent, comm, 0);
            if let Some(process) = people.processes.get_mut(id.0 as usize) {
                process.exe = (!p.exe.is_empty()).then(|| text(&p.exe));
            }
        }
    }

    fn born(&mut self, tgid: u32, parent: Option<ProcessId>, comm: String, start_ns: u64) -> ProcessId {
        let id = ProcessId(self.processes.len().min(MAX_PROCESSES) as u32);
        if self.processes.len() <= MAX_PROCESSES {
            let container = parent.and_then(|p| self.processes[p.0 as usize].container);
            let exe = parent.and_then(|p| self.processes[p.0 as usize].exe.clone());
            self.processes.push(Process {
                tgid,
                parent,
                comm,
                exe,
                command: None,
                start_ns,
                exit: None,
                container,
                origin: None,
                calls: 0,
                last_ns: 0,
            });
        } else {
            self.untold += 1;
        }
        self.last.insert(tgid, id);
        id
    }

    /// A task forks a process.
    pub(crate) fn fork(
        &mut self,
        parent: TaskId,
        child: &TaskDef,
        words: &(impl Dictionary + ?Sized),
        t_ns: u64,
    ) {
        let parent = self.of(parent, words).process;
        if child.tid.0 == child.tgid.0 && child.tgid.0 != self.process(parent).tgid {
            let comm = text(words.str(child.comm));
            self.born(child.tgid.0, Some(parent), comm, t_ns);
        }
    }

    /// A process executes a program.
    pub(crate) fn exec(
        &mut self,
        task: TaskId,
        path: StrId,
        argv: &[StrId],
        words: &(impl Dictionary + ?Sized),
    ) {
        /// Characters of a command line that a sentence quotes.
        const LONGEST: usize = 120;
        let process = self.of(task, words).process;
        let path = text(words.str(path));
        // The runtime executes itself once more before it executes what it was told to.
        let is_runtime = super::containers::is_runtime_program(&path);
        let process = &mut self.processes[process.0 as usize];
        if !path.is_empty() {
            // A task gets the name of the file (`begin_new_exec`, fs/exec.c); that it had the name before does not tell.
            let base = path.rsplit('/').next().unwrap_or_default();
            process.comm = base.chars().take(TASK_COMM_LEN - 1).collect();
            process.exe = Some(path);
        }
        match process.origin {
            // With its first program, what a runtime has prepared becomes the application.
            Some((Origin::Runtime, _)) if !is_runtime => process.origin = None,
            Some((Origin::Outside, _)) if !is_runtime && process.command.is_none() => {
                let line: Vec<String> = argv.iter().map(|word| text(words.str(*word))).collect();
                let line = line.join(" ");
                let short: String = line.chars().take(LONGEST).collect();
                process.command = Some(if short.len() < line.len() { format!("{short}…") } else { short });
            }
            _ => {}
        }
    }

    /// A process ends.
    pub(crate) fn exit(&mut self, process: ProcessId, t_ns: u64, status: u32) {
        self.processes[process.0 as usize].exit.get_or_insert((t_ns, status));
    }

    /// The thread of a task.
    pub(crate) fn of(&mut self, task: TaskId, words: &(impl Dictionary + ?Sized)) -> Actor {
        if let Some(Some(actor)) = self.actors.get(task.0 as usize) {
            return *actor;
        }
        let def = words.task(task).clone();
        let comm = text(words.str(def.comm));
        // A task of a process that has ended may speak once more; one that began later is another's.
        let known = self.last.get(&def.tgid.0).copied().filter(|id| {
            let ended = self.process(*id).exit.map_or(u64::MAX, |exit| exit.0);
            def.start_ns <= ended
        });
        let process = known.unwrap_or_else(|| self.born(def.tgid.0, None, comm.clone(), def.start_ns));
        if def.tid.0 == def.tgid.0 && !comm.is_empty() {
            self.processes[process.0 as usize].comm.clone_from(&comm);
        }
        let role = self.role(process, &comm, def.tid.0);
        let actor = Actor { role, process, tid: def.tid.0 };
        if self.actors.len() <= task.0 as usize {
            self.actors.resize(task.0 as usize + 1, None);
        }
        self.actors[task.0 as usize] = Some(actor);
        actor
    }

    /// The role of the first thread of the last process with this id.
    pub(crate) fn role_of(&mut self, tgid: u32) -> Option<RoleId> {
        let process = *self.last.get(&tgid)?;
        let comm = self.process(process).comm.clone();
        Some(self.role(process, &comm, tgid))
    }

    fn role(&mut self, process: ProcessId, comm: &str, tid: u32) -> RoleId {
        let name = roles::of_thread(&self.processes[process.0 as usize].comm, comm);
        let id = match self.by_name.get(&name) {
            Some(id) => *id,
            None if self.roles.len() >= MAX_ROLES => RoleId(MAX_ROLES as u32 - 1),
            None => {
                let id = RoleId(self.roles.len() as u32);
                self.by_name.insert(name.clone(), id);
                self.roles.push(Role { name, threads: 0, processes: 0, first: process });
                id
            }
        };
        if self.had.insert((process, id)) {
            self.roles[id.0 as usize].processes += 1;
        }
        if self.counted.insert((tid, id)) {
            self.roles[id.0 as usize].threads += 1;
        }
        id
    }

    /// A task is in a container.
    pub(crate) fn placed(&mut self, task: TaskId, container: u32, words: &(impl Dictionary + ?Sized)) {
        let process = self.of(task, words).process;
        self.processes[process.0 as usize].container.get_or_insert(container);
    }

    /// A task did not begin as a part of what runs in the scope.
    pub(crate) fn came(
        &mut self,
        task: TaskId,
        origin: Origin,
        t_ns: u64,
        words: &(impl Dictionary + ?Sized),
    ) {
        let process = self.of(task, words).process;
        self.processes[process.0 as usize].origin.get_or_insert((origin, t_ns));
    }

    /// Processes that came from outside, not those that these made, and when.
    pub(crate) fn outsiders(&self) -> Vec<(ProcessId, u64)> {
        let all = (0..self.processes.len() as u32).map(ProcessId);
        all.filter(|id| self.visitor(*id) == Some(*id))
            .filter_map(|id| Some((id, self.process(id).origin?.1)))
            .collect()
    }

    /// Whether a process came from outside, or descends from one that did.
    pub(crate) fn is_outside(&self, id: ProcessId) -> bool {
        matches!(self.process(id).origin, Some((Origin::Outside, _)))
    }

    /// The one that came from outside, of a process that did or that descends from it.
    pub(crate) fn visitor(&self, id: ProcessId) -> Option<ProcessId> {
        let mut id = self.is_outside(id).then_some(id)?;
        // A parent was there before its child: the chain has an end.
        while let Some(parent) = self.process(id).parent.filter(|parent| self.is_outside(*parent)) {
            id = parent;
        }
        Some(id)
    }

    /// The process of a container that its runtime started: its first one that neither came from outside nor is the
    /// runtime's own.
    pub(crate) fn main_of(&self, container: u32) -> Option<ProcessId> {
        let is_main = |p: &Process| p.container == Some(container) && p.origin.is_none() && p.exe.is_some();
        self.processes.iter().position(is_main).map(|at| ProcessId(at as u32))
    }

    /// The process of the application that started one in a container: its nearest ancestor that had executed a program.
    /// A runtime forks twice on its way into a container and executes at most copies of itself there; how many of these
    /// processes are recorded depends on how soon the group of the container is known.
    pub(crate) fn started_by(&self, id: ProcessId) -> Option<ProcessId> {
        let is_application = |id: &ProcessId| {
            self.process(*id).exe.as_deref().is_some_and(|exe| !super::containers::is_runtime_program(exe))
        };
        // A parent was there before its child: the chain has an end.
        std::iter::successors(self.process(id).parent, |id| self.process(*id).parent).find(is_application)
    }

    pub(crate) fn process(&self, id: ProcessId) -> &Process {
        &self.processes[id.0 as usize]
    }

    pub(crate) fn role_name(&self, id: RoleId) -> &str {
        &self.roles[id.0 as usize].name
    }

    /// A role as a sentence names it: with its process, or how many had it, and its container.
    pub(crate) fn named(&self, id: RoleId, containers: &[Container]) -> String {
        let role = &self.roles[id.0 as usize];
        let name = or_nameless(&role.name);
        let who = match (role.processes, role.threads) {
            (..=1, ..=1) => format!("{name} (pid {})", self.process(role.first).tgid),
            (..=1, n) => format!("{name} (pid {}, {n} threads)", self.process(role.first).tgid),
            (n, _) => format!("{name} ({n} processes)"),
        };
        match self.container_of(role.first, containers) {
            Some(container) => format!("{who} in container {container}"),
            None => who,
        }
    }

    /// Those of a role who did something, as a sentence names them: one process by its id.
    pub(crate) fn named_by(&self, id: RoleId, doers: Doers, containers: &[Container]) -> String {
        let role = &self.roles[id.0 as usize];
        let Doers::One(process) = doers else { return self.named(id, containers) };
        if role.processes <= 1 {
            return self.named(id, containers);
        }
        let who = format!("{} (pid {})", or_nameless(&role.name), self.process(process).tgid);
        match self.container_of(process, containers) {
            Some(container) => format!("{who} in container {container}"),
            None => who,
        }
    }

    /// A process as a sentence names it.
    pub(crate) fn named_process(&self, id: ProcessId, containers: &[Container]) -> String {
        let process = self.process(id);
        let who = format!("{} (pid {})", or_nameless(&process.comm), process.tgid);
        match self.container_of(id, containers) {
            Some(container) => format!("{who} in container {container}"),
            None => who,
        }
    }

    fn container_of(&self, process: ProcessId, containers: &[Container]) -> Option<String> {
        let number = self.process(process).container?;
        containers.iter().find(|c| c.number == number).map(super::containers::name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(tgid: u32, comm: &str) -> Process {
        Process {
            tgid,
            parent: None,
            comm: comm.to_owned(),
            exe: None,
            command: None,
            start_ns: 0,
            exit: None,
            container: None,
            origin: None,
            calls: 0,
            last_ns: 0,
        }
    }

    #[test]
    fn one_process_is_named_and_several_are_counted() {
        let mut doers = Doers::default();
        doers.add(ProcessId(3));
        doers.add(ProcessId(3));
        assert_eq!(doers, Doers::One(ProcessId(3)));
        doers.and(Doers::None);
        doers.and(Doers::One(ProcessId(3)));
        assert_eq!(doers, Doers::One(ProcessId(3)));
        doers.and(Doers::One(ProcessId(4)));
        assert_eq!(doers, Doers::Several);
        let role = Role { name: "sh".to_owned(), threads: 2, processes: 2, first: ProcessId(0) };
        let people = People {
            processes: vec![process(7, "sh"), process(8, "")],
            roles: vec![role],
            ..People::default()
        };
        let named = |doers| people.named_by(RoleId(0), doers, &[]);
        assert_eq!(named(Doers::One(ProcessId(1))), "sh (pid 8)");
        assert_eq!(named(Doers::Several), "sh (2 processes)");
        assert_eq!(people.named_process(ProcessId(1), &[]), "a program without a name (pid 8)");
    }

    #[test]
    fn the_runtime_on_its_way_into_a_container_is_no_program_of_it() {
        let child = |parent, comm: &str, exe: Option<&str>| Process {
            parent: Some(ProcessId(parent)),
            exe: exe.map(str::to_owned),
            ..process(9, comm)
        };
        let people = People {
            processes: vec![
                Process { exe: Some("/proc/self/exe".to_owned()), ..process(7, "runc:[0:PARENT]") },
                child(0, "runc:[1:CHILD]", Some("/proc/self/exe")),
                child(1, "sh", Some("/bin/sh")),
                child(2, "cat", Some("/proc/self/exe")),
                process(8, "runc:[1:CHILD]"),
                child(4, "sh", Some("/bin/sh")),
                child(5, "sh", Some("/bin/sh")),
            ],
            ..People::default()
        };
        let by: Vec<_> = (0..7).map(|id| people.started_by(ProcessId(id)).map(|by| by.0)).collect();
        assert_eq!(by, [None, None, None, Some(2), None, None, Some(5)]);
    }
}
