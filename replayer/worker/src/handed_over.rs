//! Signals to a process. The kernel gives one to any thread that does not block it (`complete_signal`, kernel/signal.c), here
//! perhaps to another than in the recording: what one thread finds counts for whichever has the place, and goes on to a thread
//! that waits for it.

use crate::arch::nr;
use crate::engine::marked;
use crate::state::{Task, count, header, slot};
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use ctrace_program::control::status;
use ctrace_program::{Kind, Step, flags, is_to_process, signal_code};

/// Index of `si_code` among the integers of `siginfo_t`.
const CODE: usize = 2;
/// Bytes of a `siginfo_t`, in words.
const INFO_WORDS: usize = 16;

/// Whether a signal that came may as well have come to another thread of the process.
pub fn is_for_all(signo: i32, info: *const i32) -> bool {
    // SAFETY: the kernel gives a whole `siginfo_t` to a handler that was set with SA_SIGINFO, as ours are.
    is_to_process(signo.unsigned_abs(), unsafe { *info.add(CODE) })
}

/// The count of arrivals of a signal before its place.
pub fn early(task: &Task, signo: u32, to_process: bool) -> Option<&'static AtomicU32> {
    let counts = if to_process { slot(task.entry.leader).unwrap_or(task.slot) } else { task.slot };
    counts.pending_signals.get(signo as usize)
}

/// Takes one of the early arrivals that a place is for.
pub fn take_early(task: &Task, step: &Step) -> bool {
    let takes = |to_process| {
        let less = |count: u32| count.checked_sub(1);
        early(task, step.nr, to_process).is_some_and(|early| early.fetch_update(SeqCst, SeqCst, less).is_ok())
    };
    (step.flags & flags::TO_PROCESS != 0 && takes(true)) || takes(false)
}

/// Sends a signal that has been counted on to a thread of the process that waits for it. Whoever comes to its place later finds
/// it counted: it makes known that it waits before it looks.
pub fn hand_over(task: &Task, signo: u32, counted: &AtomicU32) {
    let Some(other) = waiting(task, signo) else { return };
    if counted.fetch_update(SeqCst, SeqCst, |count| count.checked_sub(1)).is_err() {
        return;
    }
    let process = slot(task.entry.leader).map_or(0, |leader| leader.tid.load(Relaxed));
    let thread = other.slot.tid.load(Relaxed);
    // As if it had been sent to the process: out of place, it is counted as such again.
    let mut info = [0_u64; INFO_WORDS];
    info[0] = u64::from(signo);
    info[1] = u64::from(signal_code::QUEUE as u32);
    let [process, thread] = [process, thread].map(|id| u64::from(id.unsigned_abs()));
    let sent = marked(nr::RT_TGSIGQUEUEINFO, [process, thread, u64::from(signo), info.as_ptr() as u64, 0]);
    count(&task.slot.counters.engine_calls, 1);
    if sent < 0 {
        counted.fetch_add(1, SeqCst);
    }
}

/// The thread of the process that needs a signal to go on, and has needed it first in the recording.
fn waiting(task: &Task, signo: u32) -> Option<Task> {
    let place = |other: &Task| {
        let at = other.slot.step.load(SeqCst);
        let found = match other.slot.status.load(SeqCst) {
            status::SIGNAL => other.step(at),
            status::CALL => {
                other.step(at).filter(|step| step.flags & flags::INTERRUPTED != 0).and(other.step(at + 1))
            }
            _ => None,
        };
        found.filter(|step| {
            step.kind == Kind::SignalHandler as u8 && step.nr == signo && step.flags & flags::TO_PROCESS != 0
        })
    };
    let threads = (0..header().tasks).filter_map(Task::new).filter(|other| {
        other.entry.leader == task.entry.leader
            && other.index != task.index
            && other.slot.tid.load(Relaxed) > 1
    });
    let found = threads.filter_map(|other| Some((place(&other)?.t_ns, other)));
    found.min_by_key(|(t_ns, _)| *t_ns).map(|(_, other)| other)
}
