//! Signals that arrive, and how tasks end.

use super::super::CompileError;
use super::super::calls::{Sc, nr};
use super::super::emit::{As, EdgeKind, Late, Lowered};
use super::super::model::Cx;
use super::super::order::Processes;
use super::super::source::Moment;
use super::super::steps::FAULT_SIGNAL;
use super::super::world::{Mark, ProcIx, TaskIx};
use super::Lower;
use crate::plan::environment::ExternalSignal;
use ctrace_analysis::edits::Strike;
use ctrace_format::{Signal, Syscall};
use ctrace_program::{Kind, SIGNAL_MAX, Sel, Step, Wait, flags, is_to_process, signal_code};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Signals that the kernel sends for what an instruction did: SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS.
const OF_FAULTS: [u32; 6] = [4, 5, 7, 8, 11, 31];
// include/uapi/asm-generic/siginfo.h
const SIGCHLD: u32 = 17;
const SI_USER: i32 = 0;
/// `CLD_EXITED`, `CLD_KILLED`, `CLD_DUMPED` (include/uapi/asm-generic/siginfo.h).
const DEATHS: std::ops::RangeInclusive<i32> = 1..=3;

/// An exit whose steps are written when the parent has the child.
#[derive(Debug)]
struct Leaving {
    call: Syscall,
    lowered: Lowered,
    waits: Vec<Wait>,
    /// The parent's last return from a handler before it was told of the end, if that came after the call.
    handled: Option<Mark>,
}

/// How a task ended.
#[derive(Debug, Clone, Copy)]
struct Exited {
    /// The signal that ended it; 0: none.
    signo: u32,
    code: u32,
    at_ns: u64,
}

#[derive(Debug, Default)]
struct TaskState {
    /// Its end has a step.
    ended: bool,
    /// Last signal generated for it.
    signal: Option<u32>,
}

/// Ends of tasks.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    tasks: Vec<TaskState>,
    /// Processes of which a task has an end of its own.
    ended: FxHashSet<ProcIx>,
    /// Exits of children that their parents have not yet waited for.
    leaving: BTreeMap<TaskIx, Leaving>,
    /// Tasks of those, by process, and those processes by parent.
    leaving_of: FxHashMap<ProcIx, BTreeSet<TaskIx>>,
    leaving_children: FxHashMap<ProcIx, BTreeSet<ProcIx>>,
    /// Children that have died, by parent, as long as the parent was not told.
    untold: FxHashMap<ProcIx, VecDeque<TaskIx>>,
    /// The child whose death the SIGCHLD tells of that a process has not taken yet; the first of several.
    told: FxHashMap<ProcIx, TaskIx>,
    /// How many signals of a number were sent to a process, or a thread of it, and did not reach a handler yet.
    sent: FxHashMap<(ProcIx, u32), u32>,
    /// Ends of whole processes, by their last task; its own call, if it made one, may be still to come.
    exits: BTreeMap<TaskIx, Exited>,
}

impl Ends {
    /// For so many recorded tasks.
    pub(super) fn of(tasks: usize) -> Self {
        Self { tasks: std::iter::repeat_with(TaskState::default).take(tasks).collect(), ..Self::default() }
    }

    /// A task ended with this wait status; with it, perhaps, its process.
    pub(super) fn exited(&mut self, task: TaskIx, status: u32, at_ns: u64, group_dead: bool) {
        let exited = Exited { signo: status & 0x7f, code: status >> 8, at_ns };
        if group_dead {
            self.exits.insert(task, exited);
        } else {
            self.exits.remove(&task);
        }
    }
}

impl Lower<'_> {
    pub(super) fn signal(&mut self, signal: &Signal) -> Result<(), CompileError> {
        let task = self.world.task_of(self.source, signal.task)?;
        let Some(state) = self.ends.tasks.get_mut(task as usize) else { return Ok(()) };
        let (me, state_of) = (self.emit.prog(task), &self.world.tasks[task as usize]);
        let (proc, seq) = (state_of.proc, state_of.ops);
        if !signal.delivered {
            state.signal = Some(signal.signo);
            if signal.signo <= SIGNAL_MAX {
                let sent = self.ends.sent.entry((proc, signal.signo)).or_default();
                *sent = sent.saturating_add(1);
            }
            if signal.signo == SIGCHLD && DEATHS.contains(&signal.code) {
                self.told_of_death(proc);
            }
            // Those of somebody's call have no cause here if that was nobody recorded. Those of the kernel (SIGCHLD, SIGPIPE,
            // timers, faults) mostly have their cause in the replay as well.
            let sent = matches!(signal.code, SI_USER | signal_code::TKILL | signal_code::QUEUE)
                && signal.sender.is_none();
            let about = signal.sender.map(|sender| self.world.task_of(self.source, sender)).transpose()?;
            let traced = self.facts.tracing.tells(&self.world, proc, signal.signo, signal.code, about);
            if sent || traced || self.kept.timers.is_from_outside(proc, signal.signo, signal.code) {
                self.surroundings.signal(self.external(me, signal));
            }
            return Ok(());
        }
        let was_sent = self.ends.sent.get_mut(&(proc, signal.signo)).is_some_and(|sent| {
            let any = *sent > 0;
            *sent = sent.saturating_sub(1);
            any
        });
        let tells_of_death = signal.signo == SIGCHLD && DEATHS.contains(&signal.code);
        let child = if tells_of_death { self.ends.told.remove(&proc) } else { None };
        if !self.kept.caught.is(proc, signal.signo) {
            return Ok(());
        }
        // It was sent before the recording began, or in an interrupt in which the kernel ran no program of the recorder.
        if !was_sent && self.kept.timers.is_from_outside(proc, signal.signo, signal.code) {
            let external = self.external(me, signal);
            match self.emit.interrupted(task) {
                Some(step) => self.surroundings.signal_into(step, external),
                None => self.surroundings.signal(external),
            }
        }
        let mut step = Step::of(Kind::SignalHandler);
        step.nr = signal.signo;
        step.t_ns = signal.t_ns;
        // Those of the kernel (si_code > 0) come from what an instruction did to memory or registers, or a filter to a call,
        // that do not exist here: the task raises them itself.
        if OF_FAULTS.contains(&signal.signo) && signal.code > 0 {
            step = step.with(flags::SURROGATE);
            self.emit.count(As::Surrogate, FAULT_SIGNAL);
        } else if is_to_process(signal.signo, signal.code) {
            step = step.with(flags::TO_PROCESS);
        }
        if let Some(child) = child {
            step = step.arg(0, Sel::Pid, u64::from(self.emit.prog(child)));
        }
        let step = self.emit.handler(task, step)?;
        let mark = Mark { task, seq, step, start_ns: signal.t_ns, end_ns: signal.t_ns };
        self.order.signals.took(proc, Some(signal.signo), mark);
        Ok(())
    }

    /// A signal as somebody outside sends it to a task of the program, after what is written of it so far.
    fn external(&self, task: u32, signal: &Signal) -> ExternalSignal {
        ExternalSignal {
            t_ns: signal.t_ns,
            task,
            after_seq: self.emit.next_step(task) * 2,
            signo: signal.signo,
            to_process: signal.code != signal_code::TKILL,
        }
    }

    /// A task gets a signal of a fault. One that ends its process comes when everybody is where they were.
    pub(super) fn strike(
        &mut self,
        task: TaskIx,
        call: &Syscall,
        strike: Strike,
    ) -> Result<(), CompileError> {
        let state = &self.world.tasks[task as usize];
        let (proc, seq, me) = (state.proc, state.ops, self.emit.prog(task));
        let leader = self.emit.prog(self.world.procs[proc as usize].first);
        let mut step = Step::call(nr::tgkill)
            .with(flags::ENGINE)
            .arg(0, Sel::Pid, u64::from(leader))
            .arg(1, Sel::Pid, u64::from(me))
            .imm(2, u64::from(strike.signo));
        if strike.counts {
            step = step.with(flags::INJECTED);
        }
        let mut waits = Vec::new();
        if strike.kills {
            let others = Processes::everybody(&self.model(), task);
            self.emit.wait_for(task, call.t_ns, others, &mut waits);
            self.ended(task);
        }
        let mut lowered = Lowered::from(step);
        self.note_hits(call, &mut lowered, &[Moment::Begin(call.t_ns)]);
        self.emit.call(task, call, seq, lowered, &waits)?;
        self.emit.returned(task, call.t_ns);
        Ok(())
    }

    /// Remembers that a task has its exit step.
    pub(super) fn ended(&mut self, task: TaskIx) {
        if let Some(state) = self.ends.tasks.get_mut(task as usize) {
            state.ended = true;
            self.ends.ended.insert(self.world.tasks[task as usize].proc);
        }
    }

    /// The exit of a child is written later. Returns the step that it will begin with.
    pub(super) fn leaves(&mut self, cx: &Cx<'_>, lowered: Lowered, waits: Vec<Wait>) -> u32 {
        self.ends.leaving.insert(cx.task, Leaving { call: cx.call.clone(), lowered, waits, handled: None });
        self.ends.leaving_of.entry(cx.proc).or_default().insert(cx.task);
        if let Some(parent) = self.world.procs[cx.proc as usize].parent {
            self.ends.leaving_children.entry(parent).or_default().insert(cx.proc);
        }
        self.order.processes.leaves(cx.task);
        self.emit.next_step(self.emit.prog(cx.task))
    }

    /// A process has died, and its parent is about to be told by a signal.
    pub(super) fn died(&mut self, task: TaskIx) {
        let proc = self.world.tasks[task as usize].proc;
        let Some(parent) = self.world.procs[proc as usize].parent else { return };
        let leaving = self.ends.leaving_of.get(&proc).and_then(BTreeSet::first).copied();
        self.ends.untold.entry(parent).or_default().push_back(leaving.unwrap_or(task));
    }

    /// A process is told that a child has died, some time after that did (`exit_notify`, kernel/exit.c). Of two such signals at
    /// once only one comes: handlers that had returned by then return before the child ends.
    fn told_of_death(&mut self, parent: ProcIx) {
        let Some(child) = self.ends.untold.get_mut(&parent).and_then(VecDeque::pop_front) else { return };
        self.ends.told.entry(parent).or_insert(child);
        let Some(handled) = self.order.processes.handled(parent) else { return };
        if let Some(leaving) = self.ends.leaving.get_mut(&child) {
            leaving.handled = (handled.end_ns > leaving.call.t_ns).then_some(handled);
        }
    }

    /// Writes the ends of children that a wait is about to return.
    pub(super) fn reaped(&mut self, cx: &Cx<'_>) -> Result<(), CompileError> {
        let one = match cx.known.sc {
            Sc::Wait4 if cx.call.ret > 0 => Some(cx.call.ret as u64),
            Sc::Waitid if cx.call.ret == 0 => None,
            _ => return Ok(()),
        };
        let its_proc =
            one.and_then(|pid| self.world.numbered(pid)).map(|t| self.world.tasks[t as usize].proc);
        let ends = &self.ends;
        let procs: Vec<ProcIx> = match its_proc {
            Some(its) => vec![its],
            None => ends.leaving_children.get(&cx.proc).into_iter().flatten().copied().collect(),
        };
        let waited_for: BTreeSet<TaskIx> =
            procs.iter().filter_map(|proc| ends.leaving_of.get(proc)).flatten().copied().collect();
        waited_for.into_iter().try_for_each(|task| self.leave(task))
    }

    /// Writes the end of a task that had begun to leave.
    fn leave(&mut self, task: TaskIx) -> Result<(), CompileError> {
        let Some(mut leaving) = self.ends.leaving.remove(&task) else { return Ok(()) };
        self.order.processes.has_left(task);
        let proc = self.world.tasks[task as usize].proc;
        if let Some(tasks) = self.ends.leaving_of.get_mut(&proc) {
            tasks.remove(&task);
            if tasks.is_empty() {
                self.ends.leaving_of.remove(&proc);
                let parent = self.world.procs[proc as usize].parent;
                if let Some(children) = parent.and_then(|parent| self.ends.leaving_children.get_mut(&parent))
                {
                    children.remove(&proc);
                }
            }
        }
        self.leave_after_looks(task, &mut leaving)?;
        let event = self.world.tasks[task as usize].ops;
        self.emit.call(task, &leaving.call, event, leaving.lowered, &leaving.waits)?;
        Ok(())
    }

    /// An exit takes its time: a child that the parent found running may have begun to end before. Its end comes after
    /// the last of those looks, which is known when the parent has it. Its descriptors are closed at once, since the
    /// parent may see that first.
    fn leave_after_looks(&mut self, task: TaskIx, leaving: &mut Leaving) -> Result<(), CompileError> {
        let start_ns = leaving.call.t_ns;
        let (known, mut later) = Processes::looks(&self.model(), task, start_ns);
        later.done(EdgeKind::NotEnded, &leaving.handled);
        self.emit.wait_for(task, start_ns, known, &mut leaving.waits);
        let mut after = Vec::new();
        self.emit.wait_for(task, start_ns, later, &mut after);
        if !after.is_empty() {
            // Signals that are sent to it meanwhile found it ending.
            let all = self.emit.data(&u64::MAX.to_ne_bytes())?;
            let pre = &mut leaving.lowered.pre;
            let block = Step::call(nr::rt_sigprocmask).with(flags::ENGINE);
            pre.insert(0, block.imm(0, 0).arg(1, Sel::Data, all).imm(2, 0).imm(3, 8));
            let close = Step::call(nr::close_range).with(flags::ENGINE);
            pre.push(close.imm(0, 0).imm(1, u64::from(u32::MAX)).imm(2, 0));
            leaving.lowered.late = Late { at: pre.len(), waits: after };
            pre.push(Step::of(Kind::Sync));
        }
        Ok(())
    }

    /// Writes all ends that are left.
    pub(super) fn write_ends(&mut self) -> Result<(), CompileError> {
        for task in self.ends.leaving.keys().copied().collect::<Vec<_>>() {
            self.leave(task)?;
        }
        let exits = std::mem::take(&mut self.ends.exits);
        exits.into_iter().try_for_each(|(task, exited)| self.end(task, exited))
    }

    /// A process that ended without a call of its own gets an end: it was killed, or its last call was lost.
    fn end(&mut self, task: TaskIx, exited: Exited) -> Result<(), CompileError> {
        let Exited { signo, code, at_ns } = exited;
        let Some(state) = self.ends.tasks.get(task as usize).filter(|state| !state.ended) else {
            return Ok(());
        };
        let proc = self.world.tasks[task as usize].proc;
        let me = self.emit.prog(task);
        if signo != 0 {
            // Killed: by somebody's signal, which comes in the replay as well, or by a fault of its own. Should the cause not
            // come about (a pipe that still had a reader), the end comes at its recorded time nevertheless.
            let first = self.world.procs[proc as usize].first;
            let leader = u64::from(self.emit.prog(first));
            let mut step = Step::call(nr::tgkill)
                .with(flags::ENGINE)
                .arg(0, Sel::Pid, leader)
                .arg(1, Sel::Pid, u64::from(me))
                .imm(2, u64::from(signo));
            if state.signal == Some(signo) {
                step = step.with(flags::AT);
                step.t_ns = at_ns;
            }
            // Not before the one who sent it came to that. Signals can still be sent to a process that has died.
            let sent = self.order.signals.killer(first);
            let sent = sent.filter(|mark| mark.task != task && mark.start_ns <= at_ns);
            let sent: Vec<Wait> = sent.map(|mark| self.emit.done(mark)).into_iter().collect();
            self.emit.put_after(me, &step, &sent)?;
            return Ok(());
        }
        // Another thread's exit is that of all.
        if !self.ends.ended.contains(&proc) {
            let mut waits = Vec::new();
            let joined = Processes::joined(&self.model(), task, at_ns);
            self.emit.wait_for(task, at_ns, joined, &mut waits);
            let mut step = Step::of(Kind::Exit).imm(0, u64::from(code)).with(flags::EXTRA);
            step.nr = nr::exit_group;
            self.emit.put_after(me, &step, &waits)?;
            self.ended(task);
        }
        Ok(())
    }
}
