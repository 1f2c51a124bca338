//! Lives of processes and threads: what was done before they ended, and who had found them alive.

use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Needs};
use super::super::model::{Cx, Model};
use super::super::world::{Mark, ProcIx, TaskIx};
use ctrace_format::syscalls::Family;
use rustc_hash::{FxHashMap, FxHashSet};

const KIND: EdgeKind = EdgeKind::NotEnded;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    /// The last calls of tasks that ended.
    exits: FxHashMap<TaskIx, Mark>,
    /// Tasks whose exit has begun, and has no step yet.
    leaving: FxHashSet<TaskIx>,
    /// The clones that made tasks.
    births: FxHashMap<TaskIx, Mark>,
    /// The last return from a signal handler of a process.
    handled: FxHashMap<ProcIx, Mark>,
    /// Threads that were made during the recording, and the first of each such process.
    threads: FxHashMap<ProcIx, Vec<TaskIx>>,
}

impl Processes {
    pub(super) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        let parent = model.world.procs[cx.proc as usize].parent;
        if let Some(parent) = parent.filter(|_| model.ends_process(cx)) {
            // Two SIGCHLDs at once are one: the next child ends after the last one's was dealt with.
            needs.recorded(KIND, self.handled.get(&parent));
        }
    }

    /// The end of a process ends all of its threads, wherever they are: not before the calls that they had made by then.
    pub(crate) fn other_threads(&self, model: &Model<'_>, cx: &Cx<'_>) -> Needs {
        if cx.known.sc != Sc::ExitGroup {
            return Needs::default();
        }
        let mut needs = Needs::default();
        for other in self.threads.get(&cx.proc).into_iter().flatten().filter(|other| **other != cx.task) {
            let state = &model.world.tasks[*other as usize];
            if state.exited {
                // It may have gone without anybody having waited for it.
                needs.recorded(KIND, self.exits.get(other));
            } else if state.proc == cx.proc {
                needs.recorded(KIND, &model.last_call(*other));
            }
        }
        needs
    }

    /// How far everybody has got, one task aside: who is killed by a fault had read what others had written by then, and
    /// was there for them.
    pub(crate) fn everybody(model: &Model<'_>, task: TaskIx) -> Needs {
        let mut needs = Needs::default();
        for other in (0..model.world.tasks.len() as TaskIx).filter(|other| *other != task) {
            needs.recorded(KIND, &model.last_call(other));
        }
        needs
    }

    /// The thread that waits for this one to end (at `at_ns`) is already waiting when it ends.
    pub(crate) fn joined(model: &Model<'_>, task: TaskIx, at_ns: u64) -> Needs {
        let mut needs = Needs::default();
        let Some(wait) = model.facts.joins.wait_for(task) else { return needs };
        let Some(state) = model.world.tasks.get(wait.0 as usize) else { return needs };
        // Its wait is the call it is in now, if it began before.
        if model.is_next(wait) && state.last_end_ns <= at_ns && !state.exited {
            needs.entered(EdgeKind::Join, wait.0);
        }
        needs
    }

    /// A signal to one that had ended must not come before that.
    pub(super) fn not_before_end(&self, model: &Model<'_>, target: u64, needs: &mut Needs) {
        let Some(task) = model.world.numbered(target) else { return };
        needs.recorded(KIND, self.exits.get(&task));
        if self.leaving.contains(&task) {
            // It had begun to end, and its next step is that: to block signals, or to exit.
            needs.passed(KIND, task, 0);
        }
    }

    /// A signal found its target where the recording has it: born, with the handlers it had set by then. Sent to one that is
    /// late, it would find nobody, or end what was about to catch it.
    pub(super) fn as_far_as(&self, model: &Model<'_>, cx: &Cx<'_>, target: u64, needs: &mut Needs) {
        let number = target as u32 as i32;
        let target = if cx.known.sc == Sc::Kill { u64::from(number.unsigned_abs()) } else { target };
        let Some(task) = model.world.numbered(target) else { return };
        let mark = model.last_call(task).or_else(|| self.births.get(&task).copied());
        needs.recorded(EdgeKind::Signal, &mark);
    }

    /// Who had looked for an ended child in vain after it had begun to end: those whose look was over by `start_ns`, when
    /// its exit began, and the others.
    pub(crate) fn looks(model: &Model<'_>, task: TaskIx, start_ns: u64) -> (Needs, Needs) {
        let (mut known, mut later) = (Needs::default(), Needs::default());
        let proc = &model.world.procs[model.world.tasks[task as usize].proc as usize];
        let Some(parent) = proc.parent else { return (known, later) };
        let looks = &model.world.procs[parent as usize].no_child;
        let whom = [0, u64::from(proc.tgid)];
        for mark in whom.iter().filter_map(|whom| looks.get(whom)).filter(|mark| mark.task != task) {
            let over = mark.end_ns <= start_ns;
            if over { &mut known } else { &mut later }.done(KIND, [mark]);
        }
        (known, later)
    }

    /// The last return of a process from a handler.
    pub(crate) fn handled(&self, proc: ProcIx) -> Option<Mark> {
        self.handled.get(&proc).copied()
    }

    /// A process made a thread.
    pub(crate) fn thread(&mut self, proc: ProcIx, first: TaskIx, thread: TaskIx) {
        self.threads.entry(proc).or_insert_with(|| vec![first]).push(thread);
    }

    /// A clone made a task.
    pub(crate) fn born(&mut self, task: TaskIx, clone: Mark) {
        self.births.insert(task, clone);
    }

    /// A task has begun to end; its steps are to come.
    pub(crate) fn leaves(&mut self, task: TaskIx) {
        self.leaving.insert(task);
    }

    /// The steps are there with which a task ends.
    pub(crate) fn has_left(&mut self, task: TaskIx) {
        self.leaving.remove(&task);
    }

    /// A task makes the call with which it ends.
    pub(crate) fn ends(&mut self, cx: &Cx<'_>, mark: Mark) {
        if cx.known.row().family == Family::Exit {
            self.exits.insert(cx.task, mark);
        }
    }

    pub(super) fn remember(&mut self, cx: &Cx<'_>, mark: Mark) {
        if cx.known.sc == Sc::RtSigreturn {
            self.handled.insert(cx.proc, mark);
        }
    }
}
