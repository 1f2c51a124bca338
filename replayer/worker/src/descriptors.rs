//! Moving a new descriptor to the number that it had in the recording.

use crate::arch::nr;
use crate::engine::{Forced, Rest, marked};
use crate::state::{Task, count};
use ctrace_program::Step;
use ctrace_program::control::{Cause, status};

const F_DUPFD: u64 = 0;
const F_SETFD: u64 = 2;
pub const F_DUPFD_CLOEXEC: u64 = 1030;
const O_CLOEXEC: u64 = 0o2_000_000;
/// Where descriptors wait until their number is free: above what programs commonly reach, below the usual limit.
const PARKED: u64 = 700;

/// Moves `from` to `to`. Another thread may still hold `to`: a descriptor of its own that is on its way to its number,
/// or one that it closed a moment earlier in the recording. So `to` is never overwritten while that may pass: the
/// kernel is asked for the lowest free number from `to` on, until that is `to`.
pub fn renumber(task: &Task, index: u32, step: &Step, from: i64, to: u32, cloexec: bool) {
    let wanted = i64::from(to);
    if from == wanted {
        return;
    }
    let mut calls = 2_u64;
    let dup = if cloexec { F_DUPFD_CLOEXEC } else { F_DUPFD };
    // Out of the way first: `from` may be the number that another thread waits for.
    let parked = marked(nr::FCNTL, [from as u64, F_DUPFD_CLOEXEC, PARKED, 0, 0]);
    let held = if parked >= 0 {
        let _ = marked(nr::CLOSE, [from as u64, 0, 0, 0, 0]);
        parked
    } else {
        // A low descriptor limit: it stays where it is.
        from
    };
    if held == wanted {
        // Out of the way was where it belongs.
        if !cloexec {
            let _ = marked(nr::FCNTL, [held as u64, F_SETFD, 0, 0, 0]);
        }
        count(&task.slot.counters.engine_calls, calls + u64::from(!cloexec));
        return;
    }
    let forced = Forced::watch(task);
    let mut rest = Rest::default();
    let placed = loop {
        let got = marked(nr::FCNTL, [held as u64, dup, u64::from(to), 0, 0]);
        calls += 1;
        if got == wanted {
            break true;
        }
        if got >= 0 {
            let _ = marked(nr::CLOSE, [got as u64, 0, 0, 0, 0]);
            calls += 1;
        }
        if forced.is_on(task) {
            break false;
        }
        rest.take(task);
    };
    task.set_status(status::RUNNING);
    if !placed {
        // The recording has the number free, the replay has not: what is there now is what diverged.
        let flags = if cloexec { O_CLOEXEC } else { 0 };
        let moved = marked(nr::DUP3, [held as u64, u64::from(to), flags, 0, 0]);
        calls += 1;
        task.diverge(index, step, Cause::Renumber, wanted, moved);
    }
    let _ = marked(nr::CLOSE, [held as u64, 0, 0, 0, 0]);
    count(&task.slot.counters.engine_calls, calls + 1);
}
