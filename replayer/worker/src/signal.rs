//! The one signal handler: finds its task by the stack it runs on, and its place in the program.

use crate::arch::{Frame, Struck, nr, stack_pointer};
use crate::args::{Scratch, resolve};
use crate::handed_over::{early, hand_over, is_for_all};
use crate::interp::{complete_interrupted, enter, run_handler};
use crate::state::{Task, task_of_stack};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use ctrace_program::control::{fate, status};
use ctrace_program::{Kind, Sel, Step, flags};

const RESTARTED: i64 = -512;
const EINTR: i64 = -4;

pub extern "C" fn handler(signo: i32, info: *const i32, ucontext: *mut u64) {
    let Some(task) = Task::new(task_of_stack(stack_pointer())) else { return };
    let slot = task.slot;
    // Whoever was about to wait for a signal looks again.
    slot.pending_signals[0].fetch_add(1, SeqCst);
    let at = slot.step.load(Relaxed);
    let before = slot.status.load(Relaxed);
    let is_place = |index: u32| {
        task.step(index).is_some_and(|step| step.kind == Kind::SignalHandler as u8 && step.nr == signo as u32)
    };
    let frame = Frame::new(ucontext);
    let struck = match before {
        status::CALL | status::FINAL_CALL => frame.struck(),
        _ => Struck::Elsewhere,
    };
    if matches!(struck, Struck::Elsewhere) {
        if is_place(at) {
            // This may come right after another handler, before the interpreter has seen what that did to its call: the
            // calls of these steps must not overwrite it.
            let of_call = slot.fate.load(Relaxed);
            run_handler(&task, at);
            slot.fate.store(of_call, Relaxed);
            slot.status.store(before, Relaxed);
            return;
        }
    } else if let Some(step) = task.step(at)
        && is_place(at + 1)
    {
        let interrupted = step.flags & flags::INTERRUPTED != 0;
        let (result, again) = match struck {
            // The recorded call was not interrupted: its signal came later. Here it comes too early: the call goes on (by
            // itself, or made again) and the handler's steps run after it.
            Struck::Done(EINTR) | Struck::Restart if !interrupted && step.expect != EINTR => (None, false),
            Struck::Done(result) => (Some(result), false),
            Struck::Restart => (Some(RESTARTED), true),
            // It would block although its signal has come.
            _ if interrupted => (Some(EINTR), false),
            _ => (None, false),
        };
        if let Some(result) = result {
            if matches!(struck, Struck::Before) {
                frame.skip_call(EINTR);
            }
            complete_interrupted(&task, at, &step, result);
            run_handler(&task, at + 1);
            let next = slot.step.load(Relaxed);
            let same = task.step(next).filter(|other| other.nr == step.nr && other.kind == step.kind);
            if let Some(other) = same.filter(|_| again) {
                enter(&task, next);
                if other.nr == nr::FUTEX {
                    wait_again(&task, &frame, &other);
                }
                slot.fate.store(fate::RESTARTED, Relaxed);
                slot.status.store(before, Relaxed);
            } else {
                if again {
                    frame.skip_call(EINTR);
                }
                slot.fate.store(fate::COMPLETED, Relaxed);
                // A further signal may strike at the same place, before the interpreter goes on: the result in the
                // registers is that of a step that is over, not of the one at hand.
                slot.status.store(status::RUNNING, Relaxed);
            }
            return;
        }
    }
    // Not its place: the steps run when a task comes to them.
    let to_process = is_for_all(signo, info);
    let Some(pending) = early(&task, signo as u32, to_process) else { return };
    pending.fetch_add(1, SeqCst);
    if to_process {
        hand_over(&task, signo as u32, pending);
    }
}

/// A wait on a futex that is made again finds what its word holds by then: words of a program do not change, so that which
/// word it is, and which value it asks for, say what it finds. Its time limit stays where it is.
fn wait_again(task: &Task, frame: &Frame, step: &Step) {
    let mut scratch = Scratch::new(task);
    for index in 0..3 {
        let is_plain =
            step.sel.get(index).is_some_and(|sel| *sel == Sel::Imm as u8 || *sel == Sel::Futex as u8);
        if is_plain && let Some(value) = resolve(task, step, index, &mut scratch, 0) {
            frame.set_argument(index, value);
        }
    }
}
