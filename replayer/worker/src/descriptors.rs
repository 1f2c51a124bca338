//! Moving a new descriptor to the number that it had in the recording.

use crate::arch::nr;
use crate::engine::{Forced, Rest, marked};
use crate::state::{Task, count};
use core::ops::Range;
use ctrace_program::control::{Cause, status};
use ctrace_program::{PARKED, Step};

const F_DUPFD: u64 = 0;
const F_SETFD: u64 = 2;
pub const F_DUPFD_CLOEXEC: u64 = 1030;
const O_CLOEXEC: u64 = 0o2_000_000;

/// Descriptors that come with one message (`SCM_MAX_FD`, include/net/scm.h).
const PASSED_MAX: usize = 253;
/// Words of `struct msghdr` with its control data and their length, and the size of what holds one of several.
const CONTROL_WORD: usize = 4;
const CONTROL_LEN_WORD: usize = 5;
pub const MMSGHDR: u64 = 64;
/// `struct cmsghdr`, and its level and type for descriptors: `SOL_SOCKET`, `SCM_RIGHTS`.
const CMSGHDR: u64 = 16;
const RIGHTS: u64 = 1 | 1 << 32;

/// Moves the descriptors that came with the messages `these` to their numbers; the first of the step's messages is at
/// `header`. `wanted` is [`Post::Passed`]'s blob, of `words` words.
///
/// [`Post::Passed`]: ctrace_program::Post::Passed
pub fn place_passed(
    task: &Task,
    index: u32,
    step: &Step,
    (header, these): (u64, Range<u64>),
    wanted: *const u32,
    words: u64,
) {
    // SAFETY: the caller's blob has `words` words.
    let word = |i: u64| if i < words { unsafe { wanted.add(i as usize).read_unaligned() } } else { 0 };
    let cloexec = word(0) != 0;
    let mut at = 1;
    while at + 1 < words {
        let message = word(at);
        let mut from = [-1_i64; PASSED_MAX];
        let is_here = these.contains(&u64::from(message));
        let got = if is_here { passed_with(header + u64::from(message) * MMSGHDR, &mut from) } else { 0 };
        let mut to = [0_u32; PASSED_MAX];
        let mut count = 0;
        while at + 1 < words && word(at) == message {
            if let Some(to) = to.get_mut(count) {
                *to = word(at + 1);
                count += 1;
            }
            at += 2;
        }
        if got == 0 {
            continue;
        }
        if got != count {
            task.diverge(index, step, Cause::Renumber, count as i64, got as i64);
        }
        let count = count.min(got);
        if let (Some(from), Some(to)) = (from.get_mut(..count), to.get(..count)) {
            renumber_all(task, index, step, from, to, cloexec);
        }
    }
}

/// The descriptors in the control data of the message with this header.
fn passed_with(header: u64, fds: &mut [i64; PASSED_MAX]) -> usize {
    // SAFETY: the header is one of the step's own messages, of eight words, and the kernel filled it in.
    let words = unsafe { (header as *const [u64; 7]).read_unaligned() };
    let (mut at, len) = (words[CONTROL_WORD], words[CONTROL_LEN_WORD]);
    let end = at.saturating_add(len);
    let mut count = 0;
    while at != 0 && at + CMSGHDR <= end {
        // SAFETY: inside the control data that the kernel wrote.
        let [size, kind] = unsafe { (at as *const [u64; 2]).read_unaligned() };
        if size < CMSGHDR || size > end - at {
            break;
        }
        let numbers = if kind == RIGHTS { (size - CMSGHDR) / 4 } else { 0 };
        for i in 0..numbers {
            if let Some(fd) = fds.get_mut(count) {
                // SAFETY: as above.
                *fd = i64::from(unsafe { ((at + CMSGHDR + i * 4) as *const i32).read_unaligned() });
                count += 1;
            }
        }
        at += size.next_multiple_of(8);
    }
    count
}

/// Moves each of `from` to its `to`. One that lies where another belongs goes out of the way first.
pub fn renumber_all(task: &Task, index: u32, step: &Step, from: &mut [i64], to: &[u32], cloexec: bool) {
    let above = to.iter().copied().max().unwrap_or(0).saturating_add(1);
    for i in 0..from.len() {
        let Some(&here) = from.get(i) else { continue };
        if to.get(i).is_some_and(|to| i64::from(*to) != here) && to.iter().any(|to| i64::from(*to) == here) {
            let parked = marked(nr::FCNTL, [here as u64, F_DUPFD_CLOEXEC, u64::from(above), 0, 0]);
            if parked >= 0 {
                let _ = marked(nr::CLOSE, [here as u64, 0, 0, 0, 0]);
                if let Some(from) = from.get_mut(i) {
                    *from = parked;
                }
            }
            count(&task.slot.counters.engine_calls, 2);
        }
    }
    // All of them are out of the way before one is waited for: who holds what is waited for may wait for one of these.
    for (from, to) in from.iter_mut().zip(to) {
        if !place(task, *from, *to, cloexec) {
            *from = park(task, *from);
        } else {
            *from = i64::from(*to);
        }
    }
    for (from, to) in from.iter().zip(to) {
        await_place(task, index, step, *from, *to, cloexec);
    }
}

/// Moves `from` to `to`, however long that takes.
pub fn renumber(task: &Task, index: u32, step: &Step, from: i64, to: u32, cloexec: bool) {
    renumber_all(task, index, step, &mut [from], &[to], cloexec);
}

/// Moves `from` to `to` if that is free. The kernel is asked for the lowest free number from `to` on: `to` is never
/// overwritten.
fn place(task: &Task, from: i64, to: u32, cloexec: bool) -> bool {
    if from == i64::from(to) {
        return true;
    }
    let dup = if cloexec { F_DUPFD_CLOEXEC } else { F_DUPFD };
    let got = marked(nr::FCNTL, [from as u64, dup, u64::from(to), 0, 0]);
    let is_placed = got == i64::from(to);
    if got >= 0 {
        let gone = if is_placed { from } else { got };
        let _ = marked(nr::CLOSE, [gone as u64, 0, 0, 0, 0]);
    }
    count(&task.slot.counters.engine_calls, 2);
    is_placed
}

/// Moves a descriptor out of the way: its number may be the one that another thread waits for. Where the limit on descriptors
/// is low, it stays. Returns its number.
fn park(task: &Task, from: i64) -> i64 {
    let parked = marked(nr::FCNTL, [from as u64, F_DUPFD_CLOEXEC, PARKED, 0, 0]);
    count(&task.slot.counters.engine_calls, 1);
    if parked < 0 {
        return from;
    }
    let _ = marked(nr::CLOSE, [from as u64, 0, 0, 0, 0]);
    count(&task.slot.counters.engine_calls, 1);
    parked
}

/// Moves `held` to `to` when that is free. Another thread may hold it still: a descriptor of its own that is on its way to its
/// number, or one that it closed a moment earlier in the recording.
fn await_place(task: &Task, index: u32, step: &Step, held: i64, to: u32, cloexec: bool) {
    if held == i64::from(to) {
        if !cloexec && to >= PARKED as u32 {
            // Out of the way was where it belongs.
            let _ = marked(nr::FCNTL, [held as u64, F_SETFD, 0, 0, 0]);
            count(&task.slot.counters.engine_calls, 1);
        }
        return;
    }
    let forced = Forced::watch(task);
    let mut rest = Rest::default();
    let is_placed = loop {
        if place(task, held, to, cloexec) {
            break true;
        }
        if forced.is_on(task) {
            break false;
        }
        rest.take(task);
    };
    task.set_status(status::RUNNING);
    if !is_placed {
        // The recording has the number free, the replay has not: what is there now is what diverged.
        let flags = if cloexec { O_CLOEXEC } else { 0 };
        let moved = marked(nr::DUP3, [held as u64, u64::from(to), flags, 0, 0]);
        task.diverge(index, step, Cause::Renumber, i64::from(to), moved);
        let _ = marked(nr::CLOSE, [held as u64, 0, 0, 0, 0]);
        count(&task.slot.counters.engine_calls, 2);
    }
}
