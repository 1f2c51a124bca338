//! Handlers of the workload's signals: how they are set, raised and run.

use super::{bad_step, complete, count_done, enter, issue, matches, run};
use crate::arch::{self, nr};
use crate::args::Scratch;
use crate::engine::{Forced, futex_wait, marked};
use crate::state::{Task, count, word};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use ctrace_program::control::{Cause, status};
use ctrace_program::{ENGINE_MARK, SIG_DEFAULT, SIG_IGNORE, SIG_QUERY, Step, flags};

pub(super) fn sigaction(task: &Task, index: u32, step: &Step) {
    let mut scratch = Scratch::new(task);
    let [signo, sa_flags, mask, ..] = step.args;
    let (handler, sa_flags, restorer) = match step.aux {
        SIG_DEFAULT | SIG_IGNORE => (step.aux, sa_flags & !arch::SA_RESTORER, 0),
        _ => (crate::signal::handler as *const () as u64, sa_flags | arch::SA_RESTORER, arch::restorer()),
    };
    let (Some(act), Some(old)) =
        (scratch.words([handler, sa_flags, restorer, mask]), scratch.words([0, 0, 0, 0]))
    else {
        return bad_step(task, index, step);
    };
    let mut regs = [signo, act, 0, 8, 0, 0];
    if step.aux == SIG_QUERY {
        regs = [signo, 0, old, 8, 0, 0];
    }
    if step.flags & flags::ENGINE != 0 {
        regs[5] = ENGINE_MARK;
    }
    let (mut index, mut step) = (index, *step);
    enter(task, index);
    let (result, taken) = issue(task, &mut index, &mut step, &regs, scratch.top());
    if taken {
        return;
    }
    if !matches(task, &step, result) {
        task.diverge(index, &step, Cause::Result, step.expect, result);
    }
    count_done(task, &step);
    complete(task, index);
}

/// Sends this task a signal.
pub(super) fn raise(task: &Task, signo: u32) {
    // Not `tgkill`: to learn the process id is a call without arguments, whose mark nobody sees.
    let tid = u64::from(task.slot.tid.load(Relaxed).unsigned_abs());
    let _ = marked(nr::TKILL, [tid, u64::from(signo), 0, 0, 0]);
    count(&task.slot.counters.engine_calls, 1);
}

/// The recording has a handler here: waits for its signal. The handler runs the steps itself when the signal comes now;
/// when it came before, they run here.
pub(super) fn signal_handler(task: &Task, index: u32, step: &Step) {
    let Some(pending) = task.slot.pending_signals.get(step.nr as usize) else {
        return bad_step(task, index, step);
    };
    let forced = Forced::watch(task);
    if step.flags & flags::SURROGATE != 0 && pending.load(Relaxed) == 0 {
        raise(task, step.nr);
    }
    let arrivals = &task.slot.pending_signals[0];
    loop {
        let arrived = arrivals.load(SeqCst);
        if task.slot.step.load(Relaxed) != index {
            return;
        }
        if pending.load(Relaxed) > 0 {
            pending.fetch_sub(1, SeqCst);
            break;
        }
        if step.flags & flags::SURROGATE != 0 {
            // Blocked or ignored here: the steps run without it.
            break;
        }
        if forced.is_on(task) {
            task.diverge(index, step, Cause::NoSignal, i64::from(step.nr), 0);
            // A signal to oneself that is not blocked has come when the call returns (`exit_to_user_mode_loop`).
            raise(task, step.nr);
            if task.slot.step.load(Relaxed) != index {
                return;
            }
            if pending.load(Relaxed) > 0 {
                pending.fetch_sub(1, SeqCst);
            }
            break;
        }
        task.set_status(status::SIGNAL);
        let _ = futex_wait(word(arrivals), arrived, u64::MAX);
        count(&task.slot.counters.engine_calls, 1);
        task.set_status(status::RUNNING);
    }
    complete(task, index);
}

/// Called by the signal handler: the handler's steps, up to its end. The first step is the `SignalHandler` one.
pub fn run_handler(task: &Task, index: u32) {
    let depth = task.slot.handler_depth.load(Relaxed) + 1;
    task.slot.handler_depth.store(depth, Relaxed);
    complete(task, index);
    run(task, depth);
    task.slot.handler_depth.store(depth - 1, Relaxed);
}
