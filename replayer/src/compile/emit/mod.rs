//! The output: the programs of all tasks, the waits between their steps, and what they come to in figures. Knows
//! nothing of the rules by which steps and waits are chosen.

mod bounds;
mod circles;
mod deps;
mod meter;
mod needs;
mod shapes;

pub(crate) use bounds::is_address;
pub use circles::Cut;
pub use deps::EdgeKind;
pub(crate) use meter::{Beside, Meter};
pub(crate) use needs::Needs;
pub(crate) use shapes::{BUFFER_MAX, split};

use super::CompileError;
use super::calls::{Calls, HOST};
use super::facts::TaskFact;
use super::world::{Mark, Origin, TaskIx};
use crate::plan::need::Need;
use crate::plan::{PlanSummary, TaskSummary};
use bounds::keeps_to_its_memory;
use ctrace_format::{Syscall, Sysno};
use ctrace_program::{
    BuildError, DecodeError, Kind, MsgDesc, Program, ProgramBuilder, Step, TaskInfo, Wait, flags, task_flags,
};
use deps::Deps;
use shapes::Shapes;
use std::collections::BTreeMap;
use std::fs::File;

/// Calls that are counted by name; there are fewer calls, and fewer errors of each.
const NAMES_MAX: usize = 4096;
/// The results that the kernel alone sees (`ERESTARTSYS` to `ERESTART_RESTARTBLOCK`, include/linux/errno.h), and `EINTR`.
pub(crate) const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;
const EINTR: i64 = -4;

/// Steps for one call: `pre` are the engine's own, `step` is the call.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub(crate) pre: Vec<Step>,
    pub(crate) step: Step,
    pub(crate) late: Late,
    /// The engine's own after the call.
    pub(crate) then: Vec<Step>,
    /// The time that the call took passes in `pre`: what stands for it is made at its end.
    pub(crate) spent: bool,
}

/// The step before a call that waits for something, and its waits.
#[derive(Debug, Default)]
pub(crate) struct Late {
    pub(crate) at: usize,
    pub(crate) waits: Vec<Wait>,
}

impl Lowered {
    /// The call, and the engine's own steps before it.
    pub(crate) fn after(pre: Vec<Step>, step: Step) -> Self {
        Self { pre, step, late: Late::default(), then: Vec::new(), spent: false }
    }

    /// A stand-in for a call, made after the time that the call took.
    pub(crate) fn spent(pre: Vec<Step>, step: Step) -> Self {
        Self { spent: true, ..Self::after(pre, step) }
    }
}

impl From<Step> for Lowered {
    fn from(step: Step) -> Self {
        Self::after(Vec::new(), step)
    }
}

/// As what the summary counts a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// It has a step.
    Step,
    /// It is not made, by policy.
    Refused,
    /// Something else stands for it.
    Surrogate,
    /// It is answered as it was.
    Emulated,
    /// A fault answers it.
    Injected,
    /// It cannot be rebuilt.
    Missing,
}

/// How far the program of a recorded task has got.
#[derive(Debug, Default)]
struct Writing {
    /// Handlers running.
    depth: u32,
    /// End of the last record.
    last_end_ns: u64,
    /// Has had a record.
    begun: bool,
    /// Nothing was recorded of it since its birth.
    fresh: bool,
    /// The step of its last call, if a signal interrupted that.
    interrupted: Option<u32>,
}

/// See the module.
pub(crate) struct Emit {
    b: ProgramBuilder,
    deps: Deps,
    /// The need of the steps.
    pub(crate) meter: Meter,
    /// The figures of all of it.
    pub(crate) summary: PlanSummary,
    tasks: Vec<Writing>,
    /// Index of the first recorded task in the program.
    first: u32,
    calls: Calls,
    shapes: Shapes,
}

impl Emit {
    /// An empty program in `file`, which may get that long.
    pub(crate) fn new(file: File, max_bytes: u64, recorded_ns: u64) -> Result<Self, CompileError> {
        let mut b = ProgramBuilder::new(file)?;
        b.limit(max_bytes);
        Ok(Self {
            b,
            deps: Deps::default(),
            meter: Meter::default(),
            summary: PlanSummary { recorded_ns, ..PlanSummary::default() },
            tasks: Vec::new(),
            first: 0,
            calls: Calls::default(),
            shapes: Shapes::default(),
        })
    }

    /// Makes the recorded tasks, and one that makes them where there is no such task among them.
    pub(crate) fn create_tasks(&mut self, tasks: &[TaskFact]) -> Result<(), CompileError> {
        let Some(oldest) = tasks.first() else { return Err(CompileError::Empty) };
        let roots = tasks.iter().filter(|t| t.parent.is_none()).count();
        let synthetic = roots != 1 || oldest.parent.is_some();
        if synthetic {
            self.task(&TaskInfo {
                flags: task_flags::ROOT | task_flags::AT_GATE,
                name: b"start".to_vec(),
                ..TaskInfo::default()
            })?;
            self.meter.born(1);
            self.first = 1;
        }
        for task in tasks {
            let mut set = 0;
            if task.origin != Origin::Forked {
                set |= task_flags::AT_GATE;
                self.meter.born(1);
            }
            if !synthetic && task.parent.is_none() {
                set |= task_flags::ROOT;
            }
            let parent = task.parent.map(|p| self.prog(p)).or(synthetic.then_some(0));
            self.task(&TaskInfo {
                flags: set,
                tid: task.tid,
                tgid: task.tgid,
                parent,
                leader: Some(self.prog(task.leader)),
                name: task.comm.clone(),
            })?;
            self.tasks.push(Writing::default());
            self.summary.tasks.push(TaskSummary {
                name: String::from_utf8_lossy(&task.comm).into_owned(),
                tid: task.tid,
                tgid: task.tgid,
                steps: 0,
            });
        }
        Ok(())
    }

    /// One more task.
    pub(crate) fn task(&mut self, info: &TaskInfo) -> Result<u32, CompileError> {
        let task = self.b.task(info)?;
        self.deps.born(task, None);
        Ok(task)
    }

    /// Whether a task of its own makes the recorded ones.
    pub(crate) fn has_start(&self) -> bool {
        self.first > 0
    }

    /// The program's index of a recorded task.
    pub(crate) fn prog(&self, task: TaskIx) -> u32 {
        self.first + task
    }

    /// Whether there is a program for a recorded task.
    pub(crate) fn has(&self, task: TaskIx) -> bool {
        (task as usize) < self.tasks.len()
    }

    /// Index of the step that a task of the program gets next.
    pub(crate) fn next_step(&self, prog: u32) -> u32 {
        self.b.next_step(prog)
    }

    /// Bytes for steps to point to.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<u64, CompileError> {
        Ok(self.b.data(bytes)?)
    }

    /// A string for steps to point to.
    pub(crate) fn cstr(&mut self, bytes: &[u8]) -> Result<u64, CompileError> {
        Ok(self.b.cstr(bytes)?)
    }

    /// Numbers for steps to point to.
    pub(crate) fn words(&mut self, words: &[u64]) -> Result<u64, CompileError> {
        Ok(self.b.words(words)?)
    }

    /// Addresses of data for steps to point to.
    pub(crate) fn pointers(&mut self, blobs: &[u64]) -> Result<u64, CompileError> {
        Ok(self.b.pointers(blobs)?)
    }

    /// Messages, and how long their parts are.
    pub(crate) fn messages(&mut self, messages: &[(MsgDesc, Vec<u64>)]) -> Result<u64, CompileError> {
        Ok(self.b.messages(messages)?)
    }

    /// A slot for a value that a step leaves to others.
    pub(crate) fn value_slot(&mut self) -> u32 {
        self.b.value_slot()
    }

    /// A futex word.
    pub(crate) fn futex_slot(&mut self) -> u32 {
        self.b.futex_slot()
    }

    /// Slots so far.
    pub(crate) fn slots(&self) -> usize {
        self.b.slots() as usize
    }

    /// Appends a step to a task of the program.
    pub(crate) fn put(&mut self, prog: u32, step: &Step) -> Result<u32, CompileError> {
        Ok(self.b.push(prog, step)?)
    }

    /// Appends a step that waits for others.
    pub(crate) fn put_after(&mut self, prog: u32, step: &Step, waits: &[Wait]) -> Result<u32, CompileError> {
        Ok(self.b.push_after(prog, step, waits)?)
    }

    /// Adds what the next step of a task of the program waits for.
    pub(crate) fn wait(&mut self, prog: u32, kind: EdgeKind, wait: Wait, waits: &mut Vec<Wait>) {
        self.deps.add(prog, kind, wait, waits);
    }

    /// Waits until a recorded call is complete.
    pub(crate) fn done(&self, mark: &Mark) -> Wait {
        Wait::completed(self.prog(mark.task), mark.step)
    }

    /// A recorded task made another at `at_ns`.
    pub(crate) fn forked(&mut self, parent: TaskIx, child: TaskIx, at_ns: u64) {
        self.meter.born(1);
        let (me, prog) = (self.prog(parent), self.prog(child));
        let done = self.b.next_step(me);
        self.deps.born(prog, Some((me, done)));
        if let Some(writing) = self.tasks.get_mut(child as usize) {
            writing.last_end_ns = at_ns;
            writing.begun = true;
            writing.fresh = true;
        }
    }

    /// Counts a call under its name.
    pub(crate) fn count(&mut self, what: As, name: &str) {
        let map = match what {
            As::Step => &mut self.summary.calls,
            As::Refused => &mut self.summary.refused,
            As::Surrogate => &mut self.summary.surrogate,
            As::Emulated => &mut self.summary.emulated,
            As::Injected => &mut self.summary.injected,
            As::Missing => &mut self.summary.missing,
        };
        tally(map, name);
    }

    /// The time between the last record of a task and a call at `t_ns` becomes that of the step before which it passes.
    fn think(&mut self, task: TaskIx, t_ns: u64, idle_ns: u64, step: &mut Step) {
        let Some(writing) = self.tasks.get_mut(task as usize).filter(|writing| writing.begun) else { return };
        let gap = t_ns.saturating_sub(writing.last_end_ns);
        // A new task first waits for a CPU: it has nothing to compute again.
        let fresh = std::mem::take(&mut writing.fresh);
        let idle = if fresh { gap } else { idle_ns.min(gap) };
        step.think_cpu_ns = gap - idle;
        step.think_sleep_ns = idle;
    }

    /// A call of a task has ended.
    pub(crate) fn returned(&mut self, task: TaskIx, end_ns: u64) {
        if let Some(writing) = self.tasks.get_mut(task as usize) {
            writing.last_end_ns = end_ns;
        }
    }

    /// Appends the step of a handler that a signal runs, at its time. Returns the step.
    pub(crate) fn handler(&mut self, task: TaskIx, mut step: Step) -> Result<u32, CompileError> {
        self.think(task, step.t_ns, 0, &mut step);
        if let Some(writing) = self.tasks.get_mut(task as usize) {
            if writing.depth > 0 {
                step.flags |= flags::IN_HANDLER;
            }
            writing.depth += 1;
            writing.last_end_ns = writing.last_end_ns.max(step.t_ns);
        }
        self.put(self.prog(task), &step)
    }

    /// The step of a task's last call, if a signal interrupted that.
    pub(crate) fn interrupted(&self, task: TaskIx) -> Option<u32> {
        self.tasks.get(task as usize)?.interrupted
    }

    /// A task returns from a handler; whether it was in one.
    pub(crate) fn leave_handler(&mut self, task: TaskIx) -> bool {
        let Some(writing) = self.tasks.get_mut(task as usize).filter(|writing| writing.depth > 0) else {
            return false;
        };
        writing.depth -= 1;
        true
    }

    /// Appends the steps of a call, the `event`th of its task; think time and waits go to the first. Returns the step that
    /// is the call.
    pub(crate) fn call(
        &mut self,
        task: TaskIx,
        call: &Syscall,
        event: u32,
        mut lowered: Lowered,
        waits: &[Wait],
    ) -> Result<u32, CompileError> {
        let me = self.prog(task);
        let nested = self.tasks.get(task as usize).is_some_and(|writing| writing.depth > 0);
        let in_handler = if nested { flags::IN_HANDLER } else { 0 };
        let end_ns = call.t_ns.saturating_add(call.duration_ns);
        (lowered.step.t_ns, lowered.step.duration_ns) =
            if lowered.spent { (end_ns, 0) } else { (call.t_ns, call.duration_ns) };
        lowered.step.flags |= in_handler;
        lowered.step.event = event;
        let is_interrupted = RESTARTS.contains(&call.ret) || call.ret == EINTR;
        if is_interrupted {
            lowered.step.flags |= flags::INTERRUPTED;
        }
        let mut label = 0;
        let Lowered { pre, step, late: Late { at: later, waits: mut late }, then, .. } = lowered;
        let main = pre.len();
        for (i, mut step) in pre.into_iter().chain(std::iter::once(step)).chain(then).enumerate() {
            let mut own: &[Wait] = &[];
            if i == 0 {
                let idle_ns = call.blocked_ns.saturating_add(call.wait_cpu_ns);
                self.think(task, call.t_ns, idle_ns, &mut step);
                own = waits;
            }
            if i != main && step.t_ns == 0 {
                // The engine's steps for a call belong to that call's time.
                (step.t_ns, step.duration_ns) = (call.t_ns, call.duration_ns);
            }
            if i == later && !late.is_empty() {
                late.extend_from_slice(own);
                own = &late;
            }
            step.flags |= in_handler;
            let made = match self.put_checked(me, &step, own) {
                Ok(made) => made,
                // A call may claim more than any call can do; that call is left out, not the rest.
                Err(
                    BuildError::Invalid { .. }
                    | BuildError::Limit { what: "bytes of one buffer" | "bytes of one I/O vector", .. },
                ) => {
                    let mut skip = Step::of(Kind::Skip).with(flags::MISSING | in_handler);
                    skip.nr = step.nr;
                    let known = self.calls.get(call.sysno);
                    self.count(As::Missing, known.name.unwrap_or("unknown"));
                    self.put(me, &skip)?
                }
                Err(error) => return Err(error.into()),
            };
            if i == main {
                label = made;
            }
        }
        if let Some(writing) = self.tasks.get_mut(task as usize) {
            writing.begun = true;
            writing.interrupted = is_interrupted.then_some(label);
        }
        Ok(label)
    }

    /// Appends a step, if the kernel is given no memory by it that is not its own.
    fn put_checked(&mut self, prog: u32, step: &Step, waits: &[Wait]) -> Result<u32, BuildError> {
        let known = self.calls.get(Sysno { abi: HOST, nr: step.nr });
        let bytes_of = |blob| self.b.blob(blob).map(|bytes| bytes.len() as u64);
        let (name, args) = (known.name.unwrap_or_default(), known.args.unwrap_or_default());
        if keeps_to_its_memory(step, name, args, bytes_of) {
            self.b.push_after(prog, step, waits)
        } else {
            let what = "an address that is not the step's own";
            Err(BuildError::Invalid { task: prog, step: 0, what })
        }
    }

    /// Closes the program: it is complete. Returns it, what it takes and what it amounts to.
    pub(crate) fn seal(mut self, beside: Beside) -> Result<(File, Need, PlanSummary), CompileError> {
        for (i, task) in self.summary.tasks.iter_mut().enumerate() {
            task.steps = self.b.next_step(self.first + i as u32);
        }
        let recorded = self.summary.tasks.len() as u64 + u64::from(self.first);
        self.summary.peer_tasks = u64::from(self.b.task_count()) - recorded;
        self.summary.steps = (0..self.b.task_count()).map(|t| u64::from(self.b.next_step(t))).sum();
        self.summary.edges = self.deps.edges;
        self.summary.edges_implied = self.deps.implied;
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
        let need = self.meter.need(&sealed, beside, self.summary.peer_tasks);
        Ok((program, Need { duration_ns: self.summary.recorded_ns, ..need }, self.summary))
    }
}

fn tally(map: &mut BTreeMap<String, u64>, name: &str) {
    if let Some(n) = map.get_mut(name) {
        *n += 1;
    } else if map.len() < NAMES_MAX {
        map.insert(name.to_owned(), 1);
    } else {
        *map.entry("others".to_owned()).or_default() += 1;
    }
}
