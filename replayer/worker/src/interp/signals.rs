//! Handlers of the workload's signals: how they are set, raised and run.

use super::{bad_step, complete, count_done, enter, issue, matches, run};
use crate::alarm;
use crate::arch;
use crate::args::Scratch;
use crate::deaths::{raise, tell_again};
use crate::engine::{Forced, futex_wait};
use crate::handed_over::{early, take_early};
use crate::state::{Task, count, word};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use ctrace_program::control::{Cause, status};
use ctrace_program::{ENGINE_MARK, SIG_DEFAULT, SIG_IGNORE, SIG_QUERY, Step, flags};

/// The handler is given the `siginfo_t` (`setup_rt_frame`, arch/x86/kernel/signal_64.c).
const SA_SIGINFO: u64 = 4;

pub(super) fn sigaction(task: &Task, index: u32, step: &Step) {
    let mut scratch = Scratch::new(task);
    let [signo, sa_flags, mask, ..] = step.args;
    let (handler, sa_flags, restorer) = match step.aux {
        SIG_DEFAULT | SIG_IGNORE => (step.aux, sa_flags & !arch::SA_RESTORER, 0),
        _ => {
            let sa_flags = sa_flags | arch::SA_RESTORER | SA_SIGINFO;
            (crate::signal::handler as *const () as u64, sa_flags, arch::restorer())
        }
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

/// The recording has a handler here: waits for its signal. The handler runs the steps itself when the signal comes now;
/// when it came before, they run here.
pub(super) fn signal_handler(task: &Task, index: u32, step: &Step) {
    let Some(own) = early(task, step.nr, false) else { return bad_step(task, index, step) };
    let forced = Forced::watch(task);
    if step.flags & flags::SURROGATE != 0 && own.load(Relaxed) == 0 {
        raise(task, step.nr);
    }
    let arrivals = &task.slot.pending_signals[0];
    alarm::note(task, step);
    loop {
        let arrived = arrivals.load(SeqCst);
        // Another thread that finds a signal to the process sends it on to those that wait, or counts it for those that look
        // later (`hand_over`).
        task.slot.status.store(status::SIGNAL, SeqCst);
        let is_over = task.slot.step.load(SeqCst) != index;
        let came = !is_over && take_early(task, step);
        if !is_over && !came && step.flags & flags::SURROGATE == 0 && !forced.is_on(task) {
            if tell_again(task, step) {
                continue;
            }
            let _ = futex_wait(word(arrivals), arrived, u64::MAX);
            count(&task.slot.counters.engine_calls, 1);
            continue;
        }
        task.set_status(status::RUNNING);
        alarm::forget(task);
        if is_over {
            return;
        }
        // A surrogate is blocked or ignored here: the steps run without it.
        if !came && step.flags & flags::SURROGATE == 0 {
            task.diverge(index, step, Cause::NoSignal, i64::from(step.nr), 0);
            // A signal to oneself that is not blocked has come when the call returns (`exit_to_user_mode_loop`).
            raise(task, step.nr);
            if task.slot.step.load(Relaxed) != index {
                return;
            }
            let _ = take_early(task, step);
        }
        break;
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
