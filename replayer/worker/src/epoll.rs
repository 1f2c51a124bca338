//! Changes that an epoll instance reports once.
//!
//! With `EPOLLET` and `EPOLLONESHOT`, what one `epoll_wait` reports no later one does. Here bytes may come a moment sooner
//! than they did, or another thread may be the one who is told: the recorded call that is to report them would wait for
//! ever. Every registration carries its descriptor and its events as its data (see `ctrace_program::watch_data`), so
//! that what was reported to the wrong call can be registered anew, which makes the kernel report it again if it is
//! still so.

use crate::arch::{self, nr};
use crate::engine::{PollFd, await_ready, marked};
use crate::state::{Task, blob, count};
use ctrace_program::{REPORTED_ONCE, Step, watch_parts};

const EPOLL_CTL_MOD: u64 = 3;
/// `EPOLLIN`, `EPOLLERR`, `EPOLLHUP`, `EPOLLRDHUP`.
const READABLE: u32 = 0x2019;
/// Bytes of `struct epoll_event`: packed on one architecture.
const EVENT_BYTES: usize = size_of::<arch::EpollEvent>();

/// Sees to it that a call has reported what it reported in the recording, and nothing else. False: the task was forced
/// on before.
pub fn delivered(task: &Task, step: &Step, regs: &[u64; 6], reported: i64) -> bool {
    let Some((at, len)) = blob(step.post_arg) else { return true };
    let Some(wanted) = (len as usize / size_of::<PollFd>()).checked_sub(1) else { return true };
    // SAFETY: the blob begins with an entry that is no descriptor.
    let others_wait = unsafe { (at as *const PollFd).read_unaligned() }.fd != 0;
    let named = at + size_of::<PollFd>() as u64;
    let [ep, events, ..] = *regs;
    // SAFETY: the call wrote that many entries to the scratch of its second argument.
    let mut missing = unsafe { missing(named, wanted, events, reported) };
    if others_wait {
        // SAFETY: as above.
        unsafe { put_back(task, ep, named, wanted, events, reported) };
    }
    if !await_ready(task, named, (wanted * size_of::<PollFd>()) as u64) {
        return false;
    }
    // What this call is to have reported is not to be reported again.
    while missing {
        let taken = marked(nr::EPOLL_PWAIT, [ep, events, regs[2], 0, 0]);
        count(&task.slot.counters.engine_calls, 1);
        if taken <= 0 {
            break;
        }
        if others_wait {
            // SAFETY: as above.
            unsafe { put_back(task, ep, named, wanted, events, taken) };
        }
        missing = taken as u64 >= regs[2];
    }
    true
}

/// Whether something that is reported once was not.
///
/// # Safety
/// `named` and `events` are arrays of so many entries.
unsafe fn missing(named: u64, len: usize, events: u64, reported: i64) -> bool {
    (0..len).any(|i| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { (named as *const PollFd).add(i).read_unaligned() };
        wanted.revents != 0
            && !(0..reported.max(0) as usize).any(|n| {
                // SAFETY: as above.
                let event = unsafe { event(events, n) };
                watch_parts(event.data).0 == wanted.fd
            })
    })
}

/// Registers anew what was reported once although it was not for this call.
///
/// # Safety
/// As for [`missing`].
unsafe fn put_back(task: &Task, ep: u64, named: u64, len: usize, events: u64, reported: i64) {
    for n in 0..reported.max(0) as usize {
        // SAFETY: the caller's promise.
        let event = unsafe { event(events, n) };
        let (fd, watched) = watch_parts(event.data);
        let is_named = (0..len).any(|i| {
            // SAFETY: as above.
            unsafe { (named as *const PollFd).add(i).read_unaligned() }.fd == fd
        });
        if is_named || watched & REPORTED_ONCE == 0 || event.events & READABLE == 0 {
            continue;
        }
        let again = arch::EpollEvent { events: watched, ..event };
        let _ = marked(nr::EPOLL_CTL, [ep, EPOLL_CTL_MOD, fd as u64, &raw const again as u64, 0]);
        count(&task.slot.counters.engine_calls, 1);
    }
}

/// # Safety
/// `events` is an array of more than `n` entries.
unsafe fn event(events: u64, n: usize) -> arch::EpollEvent {
    // SAFETY: the caller's promise.
    unsafe { ((events as usize + n * EVENT_BYTES) as *const arch::EpollEvent).read_unaligned() }
}
