//! Changes that an epoll instance reports once.
//!
//! With `EPOLLET` and `EPOLLONESHOT`, what one `epoll_wait` reports no later one does. Here bytes may come a moment later
//! than they did: the call that is to report them has reported something else, and a later one would report them again.
//! Every registration carries its descriptor as its data (see `ctrace_program::watch_data`), so that what is still to come
//! is known, and taken when it does.

use crate::arch::{self, nr};
use crate::engine::{PollFd, await_ready, marked};
use crate::state::{Task, blob, count};
use ctrace_program::{Step, watch_parts};

/// Reports that are asked for one after the other: of as many descriptors as one waits for at a time, mostly.
const ROUNDS_MAX: u32 = 4096;
/// Bytes of `struct epoll_event`: packed on one architecture.
const EVENT_BYTES: usize = size_of::<arch::EpollEvent>();

/// Sees to it that a call has reported what it reported in the recording. False: the task was forced
/// on before.
pub fn delivered(task: &Task, step: &Step, regs: &[u64; 6], reported: i64) -> bool {
    let Some((at, len)) = blob(step.post_arg) else { return true };
    let wanted = len as usize / size_of::<PollFd>();
    let [ep, events, ..] = *regs;
    // SAFETY: the blob has so many entries.
    let mut due = unsafe { due(at, wanted) };
    // SAFETY: the call wrote that many entries to the scratch of its second argument.
    unsafe { take(&mut due, at, events, reported) };
    if !await_ready(task, at, len) {
        return false;
    }
    // What this call is to have reported is not to be reported again. What is reported as long as it is so may come before
    // it, but each of those only once in a round.
    let mut rounds = 0;
    while due != 0 && rounds < ROUNDS_MAX {
        let taken = marked(nr::EPOLL_PWAIT, [ep, events, regs[2], 0, 0]);
        count(&task.slot.counters.engine_calls, 1);
        if taken <= 0 {
            break;
        }
        // SAFETY: as above.
        unsafe { take(&mut due, at, events, taken) };
        rounds += 1;
    }
    true
}

/// Which of the wanted ones (the first 64) are reported once, as bits.
///
/// # Safety
/// `named` is an array of so many entries.
unsafe fn due(named: u64, len: usize) -> u64 {
    (0..len.min(64)).fold(0, |due, i| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { (named as *const PollFd).add(i).read_unaligned() };
        due | u64::from(wanted.revents != 0) << i
    })
}

/// Takes from what is due what was reported.
///
/// # Safety
/// `named` has an entry for every bit of `due`, and `events` as many as were reported.
unsafe fn take(due: &mut u64, named: u64, events: u64, reported: i64) {
    for n in 0..reported.max(0) as usize {
        // SAFETY: the caller's promise.
        let fd = watch_parts(unsafe { event(events, n) }.data).0;
        let mut left = *due;
        while left != 0 {
            let i = left.trailing_zeros();
            left &= left - 1;
            // SAFETY: as above.
            if unsafe { (named as *const PollFd).add(i as usize).read_unaligned() }.fd == fd {
                *due &= !(1 << i);
            }
        }
    }
}

/// # Safety
/// `events` is an array of more than `n` entries.
unsafe fn event(events: u64, n: usize) -> arch::EpollEvent {
    // SAFETY: the caller's promise.
    unsafe { ((events as usize + n * EVENT_BYTES) as *const arch::EpollEvent).read_unaligned() }
}
