//! Who traces whom. Nobody traces in a sandbox: `ptrace` gets the answer that it had, and so does whatever else depends on a
//! tracer, which is told of stops that do not take place, and of the end of tasks that are not its children.

use super::calls::{Known, Sc};
use super::world::{ProcIx, TaskIx, World, detail_value};
use ctrace_format::Syscall;
use rustc_hash::FxHashSet;

const TRACEME: u64 = 0;
const WUNTRACED: u64 = 2;
/// Low byte of the wait status of what is stopped.
const STOPPED: u64 = 0x7f;
/// `SIGSTOP`, `SIGTSTP`, `SIGTTIN`, `SIGTTOU`.
const STOPS: std::ops::RangeInclusive<u64> = 19..=22;
const SIGCHLD: u32 = 17;
/// `si_code` of a `SIGCHLD`: the end of a child, in three kinds; a stop, in two; that it goes on.
const CLD_EXITED: i32 = 1;
const CLD_TRAPPED: i32 = 4;
const CLD_CONTINUED: i32 = 6;

/// The tasks that were traced at some time, and the processes that traced some.
#[derive(Debug, Default)]
pub(crate) struct Tracing {
    traced: FxHashSet<TaskIx>,
    tracers: FxHashSet<ProcIx>,
}

impl Tracing {
    /// A call has returned, and was not applied yet.
    pub(crate) fn call(&mut self, world: &World, task: TaskIx, call: &Syscall, known: &Known) {
        let asked = known.name == Some("ptrace") && call.ret >= 0;
        let told = known.sc == Sc::Wait4 && call.ret > 0 && call.args[2] & WUNTRACED == 0 && is_stop(call);
        if !asked && !told {
            return;
        }
        if asked && call.args[0] == TRACEME {
            self.traced.insert(task);
            return;
        }
        // What a tracer is told of may be a child of what it traces, which it never named.
        let number = if asked { call.args[1] } else { call.ret as u64 };
        if let Some(traced) = world.by_number(number) {
            self.traced.insert(traced);
            self.tracers.insert(world.tasks[task as usize].proc);
        }
    }

    /// Whether a wait has an answer that only a tracer gets.
    pub(crate) fn answers(&self, world: &World, task: TaskIx, call: &Syscall) -> bool {
        let proc = world.tasks[task as usize].proc;
        if !self.tracers.contains(&proc) {
            return false;
        }
        // Somebody to wait for is there, though perhaps no child.
        let Ok(number @ 1..) = u64::try_from(call.ret) else { return call.ret == 0 };
        let Some(traced) = world.by_number(number).filter(|traced| self.traced.contains(traced)) else {
            return false;
        };
        is_stop(call) || !is_child(world, proc, traced)
    }

    /// Whether a signal to a task is a stop that its tracer decides on.
    pub(crate) fn is_stop(&self, task: TaskIx, signo: u64) -> bool {
        STOPS.contains(&signo) && self.traced.contains(&task)
    }

    /// Whether a signal tells a tracer of what does not happen here.
    pub(crate) fn tells(
        &self,
        world: &World,
        proc: ProcIx,
        signo: u32,
        code: i32,
        about: Option<TaskIx>,
    ) -> bool {
        if signo != SIGCHLD || !self.tracers.contains(&proc) {
            return false;
        }
        let is_of_another = || about.is_some_and(|about| !is_child(world, proc, about));
        match code {
            CLD_TRAPPED..=CLD_CONTINUED => true,
            CLD_EXITED..CLD_TRAPPED => is_of_another(),
            _ => false,
        }
    }
}

/// Whether a wait was told of a stop.
fn is_stop(call: &Syscall) -> bool {
    detail_value(call, 1).is_some_and(|status| status & 0xff == STOPPED)
}

/// Whether a task stands for a child of a process: the first of one that it made.
fn is_child(world: &World, proc: ProcIx, task: TaskIx) -> bool {
    let of = &world.procs[world.tasks[task as usize].proc as usize];
    of.parent == Some(proc) && of.first == task
}
