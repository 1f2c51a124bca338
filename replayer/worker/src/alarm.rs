//! The timer of real time that sends SIGALRM (`setitimer`, `alarm`). It was set as late as its task was then, and goes off as
//! late: the runner's init is told when that will be.

use crate::arch::nr;
use crate::engine::{marked, now_ns, scaled};
use crate::state::{Task, count};
use core::sync::atomic::Ordering::Relaxed;
use ctrace_program::{Kind, Step};

const ITIMER_REAL: u64 = 0;
const SIGALRM: u32 = 14;

/// Notes when the timer of the process goes off, if a place is for its signal.
pub fn note(task: &Task, place: &Step) {
    if place.kind != Kind::SignalHandler as u8 || place.nr != SIGALRM {
        return;
    }
    // `struct itimerval`: interval and time left, each seconds and microseconds.
    let mut timer = [0_u64; 4];
    let found = marked(nr::GETITIMER, [ITIMER_REAL, timer.as_mut_ptr() as u64, 0, 0, 0]);
    count(&task.slot.counters.engine_calls, 1);
    // SAFETY: whole words; the compiler does not see that the kernel writes there.
    let [interval_s, interval_us, left_s, left_us] = unsafe { (&raw const timer).read_volatile() };
    let (interval, left) = (ns(interval_s, interval_us), ns(left_s, left_us));
    if found < 0 || left == 0 {
        return;
    }
    let at = now_ns().saturating_add(left);
    // A timer that goes off again and again does so for this place at the time that is next to it.
    let is_next = interval == 0 || at.saturating_sub(scaled(place.t_ns)) <= interval / 2;
    task.slot.timer_at.store(if is_next { at } else { 0 }, Relaxed);
}

/// The signal has come, or is waited for no more.
pub fn forget(task: &Task) {
    task.slot.timer_at.store(0, Relaxed);
}

fn ns(seconds: u64, micros: u64) -> u64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(micros.saturating_mul(1000))
}
