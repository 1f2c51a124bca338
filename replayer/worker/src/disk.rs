//! Waits for a disk: before a task makes a call that waited for one, it has writes held up until the call's recorded end.

use crate::arch::nr;
use crate::engine::{FUTEX_WAKE, futex_wait, marked, now_ns, scaled};
use crate::state::{Task, control, count, word};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use ctrace_program::Step;
use ctrace_program::control::{Pace, writes};
use ctrace_program::task_flags;

/// A call that is to end so soon is not held up: it is late.
const SOON_NS: u64 = 1_000_000;
/// A look at whether they are held up.
const LOOK_NS: u64 = 1_000_000;
/// The process that holds them up has died if it has not answered in this time; the call is made without.
const DEAD_NS: u64 = 200_000_000;

/// Has writes held up until the recorded end of this step.
pub fn hold_writes(task: &Task, step: &Step) {
    let control = control();
    let held = &control.writes;
    let is_paced = control.pace.load(Relaxed) != Pace::Afap as u32 && step.t_ns > 0;
    let is_peer = task.entry.flags & task_flags::PEER != 0;
    if held.state.load(SeqCst) == writes::UNSERVED || !is_paced || is_peer {
        return;
    }
    let end_ns = step.t_ns.saturating_add(step.duration_ns).saturating_add(task.slot.shift_ns.load(Relaxed));
    let until = scaled(end_ns);
    let begin = now_ns();
    while now_ns().saturating_add(SOON_NS) < until && now_ns().saturating_sub(begin) < DEAD_NS {
        // What was asked before may have been done with meanwhile.
        let asked = held.until.load(SeqCst);
        if asked == 0 || asked > until {
            let _ = held.until.compare_exchange(asked, until, SeqCst, SeqCst);
            held.asked.fetch_add(1, SeqCst);
            let _ = marked(nr::FUTEX, [word(&held.asked), FUTEX_WAKE, 1, 0, 0]);
            count(&task.slot.counters.engine_calls, 1);
        } else if held.state.load(SeqCst) == writes::HELD {
            break;
        } else {
            let _ = futex_wait(word(&held.state), writes::OPEN, LOOK_NS);
            count(&task.slot.counters.engine_calls, 1);
        }
    }
}
