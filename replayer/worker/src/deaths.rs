//! Signals that tell of the death of a child. Of two that nobody took yet the kernel keeps one (`legacy_queue`, kernel/signal.c),
//! so that children that die at one time here are told of once, where the recording told of each.

use crate::arch::nr;
use crate::engine::marked;
use crate::state::{Task, count, slot};
use core::sync::atomic::Ordering::Relaxed;
use ctrace_program::{Kind, Sel, Step};

const ECHILD: i64 = -10;
const ESRCH: i64 = -3;
// include/uapi/linux/wait.h
const P_PID: u64 = 1;
const WNOHANG: u64 = 1;
const WEXITED: u64 = 4;
const WNOWAIT: u64 = 0x100_0000;
const WALL: u64 = 0x4000_0000;
/// Integers of a `siginfo_t`. The first is the signal, and 0 if there is no such child.
const INFO_WORDS: usize = 32;

/// Sends this task the signal that a place is for, if it tells of a child that has died and whose own signal was one with
/// another's. Only a task that looked for the signal, and found none, may ask. Returns whether it sent one.
pub fn tell_again(task: &Task, place: &Step) -> bool {
    if place.kind != Kind::SignalHandler as u8 || place.sel[0] != Sel::Pid as u8 {
        return false;
    }
    let child = slot(place.args[0] as u32).map_or(0, |child| child.tid.load(Relaxed));
    if child <= 0 || !is_dead(task, child.unsigned_abs()) || is_pending(task, place.nr) {
        return false;
    }
    raise(task, place.nr);
    true
}

/// Sends this task a signal.
pub fn raise(task: &Task, signo: u32) {
    // Not `tgkill`: to learn the process id is a call without arguments, whose mark nobody sees.
    let tid = u64::from(task.slot.tid.load(Relaxed).unsigned_abs());
    let _ = marked(nr::TKILL, [tid, u64::from(signo), 0, 0, 0]);
    count(&task.slot.counters.engine_calls, 1);
}

/// Whether a child has died, so that its parent has been sent a signal (`exit_notify`, kernel/exit.c, does both under a lock that
/// the wait takes).
fn is_dead(task: &Task, child: u32) -> bool {
    let mut info = [0_u32; INFO_WORDS];
    let options = WNOHANG | WEXITED | WNOWAIT | WALL;
    let found = marked(nr::WAITID, [P_PID, u64::from(child), info.as_mut_ptr() as u64, options, 0]);
    count(&task.slot.counters.engine_calls, 1);
    // SAFETY: whole words; the compiler does not see that the kernel writes there.
    let [signo, ..] = unsafe { (&raw const info).read_volatile() };
    match found {
        0 => signo != 0,
        ECHILD => {
            count(&task.slot.counters.engine_calls, 1);
            marked(nr::TKILL, [u64::from(child), 0, 0, 0, 0]) == ESRCH
        }
        _ => false,
    }
}

/// Whether a signal waits for this task to take it.
fn is_pending(task: &Task, signo: u32) -> bool {
    let set = [0_u64];
    let found = marked(nr::RT_SIGPENDING, [set.as_ptr() as u64, 8, 0, 0, 0]);
    count(&task.slot.counters.engine_calls, 1);
    // SAFETY: a whole word; the compiler does not see that the kernel writes there.
    let set = unsafe { (&raw const set).read_volatile() }[0];
    found == 0 && signo.checked_sub(1).and_then(|bit| set.checked_shr(bit)).is_some_and(|bits| bits & 1 != 0)
}
