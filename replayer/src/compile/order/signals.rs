//! Signals: sent after the one before was taken, to whom they found, and taken after they were sent.

use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Needs};
use super::super::model::{Cx, Model};
use super::super::world::{Mark, OfdKind, ProcIx, TaskIx};
use super::keep_latest;
use super::processes::Processes;
use rustc_hash::FxHashMap;

/// Senders of signals that are kept of one process.
const SENDERS: usize = 16;
/// Descriptors of a process among which one for signals is looked for.
const MAX_LOOKED_AT: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// The last signal that somebody could send to a task.
    killed: FxHashMap<TaskIx, Mark>,
    /// The last signals sent to a process, by sender.
    sent: FxHashMap<ProcIx, Vec<Mark>>,
    /// The last time that a process took a signal: which, or any that its descriptors are for.
    taken: FxHashMap<(ProcIx, Option<u32>), Mark>,
}

/// Whether a call reads from a descriptor for signals.
fn reads_signals(model: &Model<'_>, cx: &Cx<'_>, fd: i32) -> bool {
    model.world.ofd_of(cx.task, fd).is_some_and(|ofd| model.kind(ofd) == OfdKind::Signal)
}

impl Signals {
    pub(super) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>, processes: &Processes, needs: &mut Needs) {
        if let Some((target, signo)) = cx.kills() {
            processes.not_before_end(model, target, needs);
            self.unsent(model, target, signo, needs);
            processes.as_far_as(model, cx, target, needs);
        }
        if cx.reads().any(|fd| reads_signals(model, cx, fd)) {
            // What had been sent by then comes with one read, or is one signal.
            needs.recorded(EdgeKind::Signal, self.sent.get(&cx.proc).into_iter().flatten());
        }
        if let Some(child) = model.reaped_child(cx) {
            // Who could still be sent a signal had not been waited for.
            needs.recorded(EdgeKind::NotEnded, self.killed.get(&child));
        }
    }

    /// A standard signal that is sent before the last one was taken is lost: one is sent after the other was, and after
    /// a look that found none.
    fn unsent(&self, model: &Model<'_>, target: u64, signo: u32, needs: &mut Needs) {
        let Some(task) = model.world.numbered(target) else { return };
        let proc = model.world.tasks[task as usize].proc;
        let taken = [Some(signo), None].into_iter().filter_map(|by| self.taken.get(&(proc, by)));
        needs.recorded(EdgeKind::Signal, taken);
        let files = &model.world.files[model.world.procs[proc as usize].files];
        for (_, slot) in files.slots().iter().take(MAX_LOOKED_AT) {
            if model.kind(slot.what.id()) == OfdKind::Signal {
                needs.recorded(EdgeKind::NotYet, &model.idle(Some(slot.what.id())));
            }
        }
    }

    pub(super) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        match cx.known.sc {
            Sc::Kill | Sc::Tkill | Sc::Tgkill if cx.call.ret == 0 => {
                let target = cx.kills().and_then(|(target, _)| model.world.numbered(target));
                if let Some(task) = target {
                    self.killed.insert(task, mark);
                    let sent = self.sent.entry(model.world.tasks[task as usize].proc).or_default();
                    keep_latest(sent, mark, SENDERS);
                }
            }
            Sc::RtSigtimedwait if cx.call.ret > 0 => self.took(cx.proc, Some(cx.call.ret as u32), mark),
            Sc::Read | Sc::Readv if cx.call.ret > 0 && reads_signals(model, cx, cx.fd(0)) => {
                self.took(cx.proc, None, mark);
            }
            _ => {}
        }
    }

    /// A process took a signal: this one, or any that its descriptors are for.
    pub(crate) fn took(&mut self, proc: ProcIx, signo: Option<u32>, mark: Mark) {
        self.taken.insert((proc, signo), mark);
    }

    /// Who last sent a signal to a task that it could be sent to.
    pub(crate) fn killer(&self, task: TaskIx) -> Option<&Mark> {
        self.killed.get(&task)
    }
}
