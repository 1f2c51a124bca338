//! The interpreter: waits, thinks, calls, compares, one step after the other.

mod life;
mod signals;

use crate::alarm;
use crate::arch::{self, nr};
use crate::args::{Scratch, resolve};
use crate::bounds::{allows, is_engine_memory};
use crate::deaths::tell_again;
use crate::descriptors::{MMSGHDR, place_passed, renumber, renumber_all};
use crate::elsewhere::{EADDRNOTAVAIL, move_socket};
use crate::engine::{
    Forced, PollFd, Rest, await_ready, futex_wait, futex_waiters, marked, note, now_ns, poll, publish,
    scaled, think_until, wait_for_all,
};
use crate::epoll::delivered;
use crate::handed_over::early;
use crate::numbers::Turn;
use crate::state::{Task, blob, control, count, slot, value, word};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicU32, fence};
use ctrace_program::control::{Cause, Pace, fate, status};
use ctrace_program::{
    ENGINE_MARK, Expect, Kind, Post, SIGNAL_MAX, Sel, Step, TAG_INJECTED, fault_tag, fds_parts, flags,
    other_ready, task_flags,
};
use life::{clone, exec, exit, gate};
pub use signals::run_handler;
use signals::{sigaction, signal_handler};

/// A word for calls that nothing keeps from being made.
static NEVER: AtomicU32 = AtomicU32::new(0);
/// What `ctrace_call` returns instead of making a call.
const NOT_MADE: i64 = i64::MIN;
const EINTR: i64 = -4;
const EAGAIN: i64 = -11;
const EINVAL: i64 = -22;
const POLLIN: i16 = 1;
const CLONE_FILES: u64 = 0x400;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VM: u64 = 0x100;
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
const CLONE_SETTLS: u64 = 0x8_0000;
const MADV_POPULATE_READ: u64 = 22;
const MADV_POPULATE_WRITE: u64 = 23;
/// Most that a peer leaves out of one gap when it is behind the recording.
const PEER_CATCH_UP_NS: u64 = 500_000;
/// Behind the recording by this much, a task makes its calls without computing in between.
const STARVED_NS: u64 = 5_000_000;
const SIG_BLOCK: u64 = 0;

/// Where a new task begins, on its own stack.
pub extern "C" fn child_entry(task: u64) -> ! {
    let Some(task) = Task::new(task as u32) else { crate::die(105) };
    task.adopt();
    run(&task, 0);
    park(&task)
}

/// Where a fresh image goes on, on the task's stack.
pub extern "C" fn resume_entry(task: u64) -> ! {
    let Some(task) = Task::new(task as u32) else { crate::die(106) };
    run(&task, 0);
    park(&task)
}

/// Waits for the end.
fn park(task: &Task) -> ! {
    loop {
        task.set_status(status::PARKED);
        let forced = task.slot.force.load(Relaxed);
        let _ = futex_wait(word(&task.slot.force), forced, u64::MAX);
    }
}

/// Runs steps from the task's current one on. `depth` > 0: until the handler's end.
pub fn run(task: &Task, depth: u32) {
    loop {
        let index = task.slot.step.load(Relaxed);
        let Some(step) = &task.step(index) else { park(task) };
        let kind = Kind::from_u8(step.kind);
        if step.waits_len > 0 {
            wait_for_all(task, index, step);
        }
        pace(task, step);
        if task.slot.step.load(Relaxed) != index {
            // A handler whose place is here ran meanwhile.
            continue;
        }
        match kind {
            Some(Kind::Call) => call(task, index, step),
            Some(Kind::FutexWake) => {
                call(task, index, step);
            }
            Some(Kind::Clone) => clone(task, index, step),
            Some(Kind::Exec) => exec(task, index, step),
            Some(Kind::Exit) => exit(task, index, step),
            Some(Kind::Sigaction) => sigaction(task, index, step),
            Some(Kind::SignalHandler) => signal_handler(task, index, step),
            Some(Kind::SignalReturn) => {
                count_done(task, step);
                complete(task, index);
                if depth > 0 {
                    return;
                }
            }
            Some(Kind::Gate) => gate(task, index),
            Some(Kind::Skip) => {
                let counters = &task.slot.counters;
                if step.flags & flags::REFUSED != 0 {
                    count(&counters.refused, 1);
                } else if step.flags & flags::SURROGATE != 0 {
                    count(&counters.surrogate, 1);
                } else {
                    count(&counters.missing, 1);
                }
                take_recorded_time(task, step);
                complete(task, index);
            }
            Some(Kind::Touch) => {
                let mut scratch = Scratch::new(task);
                if let Some(address) = resolve(task, step, 0, &mut scratch, 0) {
                    touch(task, address, step.args[1], step.args[2] != 0);
                }
                complete(task, index);
            }
            Some(Kind::AwaitReady) => {
                if let Some((at, len)) = blob(step.args[0])
                    && !await_ready(task, at, len)
                {
                    task.diverge(index, step, Cause::NotReady, 0, 0);
                }
                complete(task, index);
            }
            Some(Kind::Sync) => complete(task, index),
            Some(Kind::Delay) => {
                count(&task.slot.shift_ns, step.aux);
                count(&task.slot.counters.delayed, step.expect as u64);
                think_until(task, now_ns().saturating_add(scaled(step.aux)), 0);
                complete(task, index);
            }
            Some(Kind::Note) => {
                note(step);
                count(&task.slot.counters.engine_calls, 1);
                complete(task, index);
            }
            Some(Kind::Park) => {
                publish(task.slot, index.wrapping_mul(2).wrapping_add(1));
                park(task)
            }
            None => {
                task.diverge(index, step, Cause::BadStep, 0, i64::from(step.kind));
                complete(task, index);
            }
        }
    }
}

/// Lets the think time of a step pass, and more when the step has an absolute time.
fn pace(task: &Task, step: &Step) {
    let control = control();
    let pace = control.pace.load(Relaxed);
    // A step without a time of its own is not delayed either.
    let t_ns = if step.t_ns > 0 { step.t_ns.saturating_add(task.slot.shift_ns.load(Relaxed)) } else { 0 };
    if pace == Pace::Afap as u32 {
        if step.flags & flags::AT != 0 {
            think_until(task, scaled(t_ns), 0);
        }
        return;
    }
    let floor = task.slot.not_before.load(Relaxed);
    task.slot.not_before.store(0, Relaxed);
    let absolute = step.flags & flags::AT != 0 || pace == Pace::Temporal as u32;
    let hold = control.hold.load(Relaxed) != 0 && task.entry.flags & task_flags::PEER == 0;
    let mut target = if absolute || hold { scaled(t_ns) } else { 0 };
    let think = step.think_cpu_ns.saturating_add(step.think_sleep_ns);
    if think == 0 && target == 0 && floor == 0 {
        return;
    }
    let begin = task.slot.last_end.load(Relaxed).max(floor);
    let mut spin = scaled(step.think_cpu_ns);
    let idle = scaled(step.think_sleep_ns);
    // Behind the recording: idle time may be dropped, a share of the computing, too.
    let behind = if t_ns > 0 {
        begin.saturating_add(idle.saturating_add(spin)).saturating_sub(scaled(t_ns))
    } else {
        0
    };
    // The gap of a peer that answers is a latency that the recorded tasks saw, mostly; part of it is how late they looked.
    let answers = task.entry.flags & task_flags::PEER != 0 && step.flags & flags::OPEN_LOOP == 0;
    let idle_may_drop = if answers { (idle / 2).min(PEER_CATCH_UP_NS) } else { idle };
    let idle_kept = idle - behind.min(idle_may_drop);
    // As much as it likes when the machine lacks the time: burning more of it would only make that worse.
    let permille = if behind >= STARVED_NS { 1000 } else { control.catch_up_permille.load(Relaxed) };
    let may_drop = u128::from(spin) * u128::from(permille) / 1000;
    spin -= (behind - (idle - idle_kept)).min(may_drop as u64);
    if pace != Pace::Temporal as u32 || step.flags & flags::AT != 0 {
        target = target.max(begin.saturating_add(idle_kept).saturating_add(spin));
    }
    think_until(task, target, spin);
    let now = now_ns();
    if now > target {
        count(&task.slot.counters.late_ns, now - target);
    }
}

/// Lets the recorded duration of a step pass although what stands for it takes less.
fn take_recorded_time(task: &Task, step: &Step) {
    task.slot.not_before.store(now_ns().saturating_add(scaled(step.duration_ns)), Relaxed);
}

/// Publishes the completion of a step and moves on.
fn complete(task: &Task, index: u32) {
    task.slot.step.store(index + 1, Relaxed);
    task.slot.last_end.store(now_ns(), Relaxed);
    publish(task.slot, index.wrapping_mul(2).wrapping_add(2));
}

/// Publishes the beginning of a step.
pub fn enter(task: &Task, index: u32) {
    publish(task.slot, index.wrapping_mul(2).wrapping_add(1));
}

/// The completion of an interrupted call, by the handler that interrupted it.
pub fn complete_interrupted(task: &Task, index: u32, step: &Step, result: i64) {
    let as_recorded = step.flags & flags::INTERRUPTED != 0 && (result == EINTR || is_restart(result));
    if !as_recorded && !matches(task, step, result) {
        task.diverge(index, step, Cause::Result, step.expect, result);
    }
    count_done(task, step);
    complete(task, index);
}

/// Results that only a tracer sees: the kernel makes the call again after the handler.
pub fn is_restart(result: i64) -> bool {
    matches!(result, -516 | -514..=-512)
}

fn count_done(task: &Task, step: &Step) {
    if step.flags & (flags::ENGINE | flags::EXTRA) == 0 {
        count(&task.slot.counters.done, 1);
        if step.flags & flags::SURROGATE != 0 {
            count(&task.slot.counters.surrogate, 1);
        } else if step.flags & (flags::FAULT | flags::INJECTED) == flags::INJECTED {
            count(&task.slot.counters.delayed, 1);
        } else if step.flags & flags::INJECTED != 0 {
            count(&task.slot.counters.injected, 1);
        } else if step.flags & flags::FAULT != 0 {
            count(&task.slot.counters.emulated, 1);
        }
    } else if step.flags & flags::ENGINE != 0 {
        count(&task.slot.counters.engine_calls, 1);
    }
}

fn registers(task: &Task, step: &Step, scratch: &mut Scratch, skip: u64) -> Option<[u64; 6]> {
    let mut regs = [0; 6];
    for (index, reg) in regs.iter_mut().enumerate() {
        *reg = resolve(task, step, index, scratch, skip)?;
    }
    if step.flags & flags::ENGINE != 0 {
        regs[5] = ENGINE_MARK;
    } else if step.flags & flags::FAULT != 0 {
        regs[5] = fault_tag(step.expect);
        if step.flags & flags::INJECTED != 0 {
            regs[5] |= TAG_INJECTED;
        }
    }
    Some(regs)
}

/// A step whose operands make no sense, or whose scratch was not accounted for.
fn bad_step(task: &Task, index: u32, step: &Step) {
    task.diverge(index, step, Cause::BadStep, 0, 0);
    count(&task.slot.counters.missing, 1);
    complete(task, index);
}

/// Makes the call. `None`: a handler completed the step meanwhile. Otherwise the result, and the step it belongs to
/// (another one when the kernel made the call again after a handler).
fn issue(task: &Task, index: &mut u32, step: &mut Step, regs: &[u64; 6], top: u64) -> (i64, bool) {
    let slot = task.slot;
    let base = slot.scratch_top.load(Relaxed);
    slot.scratch_top.store(top, Relaxed);
    slot.fate.store(fate::NONE, Relaxed);
    let never = step.expect_kind == Expect::Never as u8;
    task.set_status(if never { status::FINAL_CALL } else { status::CALL });
    let interrupter = interrupter(task, *index, step);
    let unless = interrupter.map_or(NEVER.as_ptr(), |(place, early)| {
        alarm::note(task, &place);
        if early.load(SeqCst) == 0 {
            tell_again(task, &place);
        }
        // Another thread counts the signal before it looks who is in such a call.
        fence(SeqCst);
        early.as_ptr()
    });
    // SAFETY: the call is what this program is for; the sandbox confines it, and the arguments point to blobs and scratch.
    let result = unsafe { arch::ctrace_call(step.nr, regs, unless) };
    task.set_status(status::RUNNING);
    if interrupter.is_some() {
        alarm::forget(task);
    }
    slot.scratch_top.store(base, Relaxed);
    match slot.fate.load(Relaxed) {
        fate::COMPLETED => (result, true),
        fate::RESTARTED => {
            let now = slot.step.load(Relaxed);
            if let Some(other) = task.step(now) {
                *index = now;
                *step = other;
            }
            (result, false)
        }
        _ => (result, false),
    }
}

fn call(task: &Task, index: u32, step: &Step) {
    let mut scratch = Scratch::new(task);
    let Some(mut regs) = registers(task, step, &mut scratch, 0) else { return bad_step(task, index, step) };
    enter(task, index);
    let emulated = step.flags & flags::FAULT != 0;
    let begin = if emulated { now_ns() } else { 0 };
    if !emulated && !allows(task, step.nr, &regs) {
        count(&task.slot.counters.refused, 1);
        return complete(task, index);
    }
    if step.kind == Kind::FutexWake as u8 {
        await_waiters(task, index, step, &regs);
    }
    if step.flags & flags::NOT_READY != 0 && is_ready(task, step, &regs) {
        regs[5] = fault_tag(step.expect);
        count(&task.slot.counters.emulated, 1);
    }
    if step.flags & flags::WAITS_FOR_DISK != 0 && !emulated {
        crate::disk::hold_writes(task, step);
    }
    let _turn = Turn::of(task, index, step, &regs);
    let forced = Forced::watch(task);
    let strikes = flags::ENGINE | flags::INJECTED;
    if step.flags & strikes == strikes {
        // Before: the task may not come back.
        count(&task.slot.counters.delayed, 1);
    }
    // Another one, when the kernel makes the call again after a handler.
    let (mut index, mut step) = (index, *step);
    let (mut result, mut taken) = issue(task, &mut index, &mut step, &regs, scratch.top());
    if emulated {
        // The filter answers at once, and can give no result but 0.
        if result == 0 {
            result = step.expect;
        }
        if control().pace.load(Relaxed) != Pace::Afap as u32 {
            think_until(task, begin.saturating_add(scaled(u64::from(step.duration_ns))), 0);
        }
    }
    if result == NOT_MADE {
        // The signal that interrupts this call has come already: nothing would end the call.
        count(&task.slot.counters.missing, 1);
        return complete(task, index);
    }
    while !taken && result == EINTR && step.flags & flags::INTERRUPTED == 0 && step.expect != EINTR {
        if forced.is_on(task) {
            task.diverge(index, &step, Cause::ForcedCall, step.expect, result);
            count_done(task, &step);
            return complete(task, index);
        }
        // A signal that the recording does not have here.
        count(&task.slot.counters.extra, 1);
        (result, taken) = issue(task, &mut index, &mut step, &regs, scratch.top());
    }
    if !taken && result == EADDRNOTAVAIL && step.nr == nr::CONNECT && step.flags & flags::EXTRA != 0 {
        move_socket(task, regs[0]);
        (result, taken) = issue(task, &mut index, &mut step, &regs, scratch.top());
    }
    take_passed(task, index, &step, &regs, 0, result);
    if !taken && step.flags & (flags::STREAM | flags::RETRY) != 0 {
        (result, taken) = persist(task, &mut index, &mut step, &mut regs, result);
    }
    post(task, index, &step, &regs, result);
    if taken {
        return;
    }
    if step.flags & flags::STREAM == 0 && !matches(task, &step, result) {
        task.diverge(index, &step, Cause::Result, step.expect, result);
    }
    count_done(task, &step);
    complete(task, index);
}

/// Whether the descriptor of a step has what the recorded call did not find.
fn is_ready(task: &Task, step: &Step, regs: &[u64; 6]) -> bool {
    let fd = regs.get(usize::from(step.fd_arg)).copied().unwrap_or(0) as i32;
    poll(task, &mut [PollFd { fd, events: step.aux as i16, revents: 0 }], false) > 0
}

/// The place of the signal that interrupts this call in the recording, and the count of its early arrivals.
fn interrupter(task: &Task, index: u32, step: &Step) -> Option<(Step, &'static AtomicU32)> {
    let next = (step.flags & flags::INTERRUPTED != 0).then(|| task.step(index + 1)).flatten()?;
    let handled = next.kind == Kind::SignalHandler as u8 && next.nr <= SIGNAL_MAX;
    let early = handled.then(|| early(task, next.nr, next.flags & flags::TO_PROCESS != 0)).flatten()?;
    Some((next, early))
}

/// Continues a short read or write, and waits out an unexpected `EAGAIN`.
fn persist(task: &Task, index: &mut u32, step: &mut Step, regs: &mut [u64; 6], first: i64) -> (i64, bool) {
    let stream = step.flags & flags::STREAM != 0 && step.expect_kind == Expect::Bytes as u8;
    let wanted = if stream { step.expect.max(0) } else { 0 };
    let mut total = first.max(0);
    let mut result = first;
    let forced = Forced::watch(task);
    let mut rest = Rest::default();
    loop {
        if stream {
            if total >= wanted || result == 0 || (result < 0 && result != EAGAIN) {
                break;
            }
        } else if result != EAGAIN || step.expect == EAGAIN {
            return (result, false);
        }
        if result == EAGAIN {
            let events = if step.aux == 0 { POLLIN } else { step.aux as i16 };
            let fd = regs.get(usize::from(step.fd_arg)).copied().unwrap_or(0) as i32;
            let none = PollFd { fd: -1, events: 0, revents: 0 };
            let other = other_ready(step.aux).map_or(none, |(arg, events)| {
                let fd = regs.get(usize::from(arg)).copied().unwrap_or(0) as i32;
                PollFd { fd, events: events as i16, revents: 0 }
            });
            let mut fds = [PollFd { fd, events, revents: 0 }, other];
            loop {
                let ready = poll(task, &mut fds, true);
                for fd in fds.iter_mut().filter(|fd| fd.revents != 0) {
                    fd.fd = -1;
                }
                // What keeps the call from going on may be another descriptor than these.
                rest.take(task);
                let all = fds.iter().all(|fd| fd.fd < 0);
                if (all || (ready < 0 && ready != EINTR)) && !forced.is_on(task) {
                    break;
                }
                if forced.is_on(task) {
                    task.diverge(*index, step, Cause::NotReady, wanted, total);
                    return (result, false);
                }
            }
        }
        let mut scratch = Scratch::new(task);
        let skip = if stream { total as u64 } else { 0 };
        let Some(again) = registers(task, step, &mut scratch, skip) else { break };
        *regs = again;
        if stream && step.len_arg < 6 {
            regs[usize::from(step.len_arg)] = (wanted - total) as u64;
        }
        count(&task.slot.counters.extra, 1);
        let (next, taken) = issue(task, index, step, regs, scratch.top());
        take_passed(task, *index, step, regs, if stream { total } else { 0 }, next);
        if taken {
            return (next, true);
        }
        result = next;
        total += result.max(0);
    }
    if total != wanted {
        let cause = if total < wanted { Cause::Short } else { Cause::Long };
        task.diverge(*index, step, cause, wanted, if total == 0 { result } else { total });
    }
    (if total > 0 { total } else { result }, false)
}

/// Whether a result is what the recording has.
fn matches(_: &Task, step: &Step, result: i64) -> bool {
    match Expect::from_u8(step.expect_kind) {
        Some(Expect::Any) | None => true,
        Some(Expect::Exact | Expect::Bytes) => result == step.expect,
        Some(Expect::Success) => result >= 0 || result < -4095,
        Some(Expect::Ready) => match step.expect {
            0 => result == 0,
            1.. => result > 0,
            errno => result == errno,
        },
        Some(Expect::Pid) => slot(step.expect as u32)
            .is_some_and(|other| i64::from(other.tid.load(Relaxed)) == result && result > 0),
        Some(Expect::Never) => false,
    }
}

/// Puts the descriptors that came with messages where they belong, before another call receives into the same memory.
/// `done`: what was moved before.
fn take_passed(task: &Task, index: u32, step: &Step, regs: &[u64; 6], done: i64, result: i64) {
    if step.post != Post::Passed as u8 || result < 0 {
        return;
    }
    let Some((wanted, len)) = blob(step.post_arg) else { return };
    let (done, result) = (done.unsigned_abs(), result.unsigned_abs());
    let messages = if step.sel[1] == Sel::Mmsg as u8 {
        (regs[1].wrapping_sub(done * MMSGHDR), done..done.saturating_add(result))
    } else {
        (regs[1], 0..1)
    };
    place_passed(task, index, step, messages, wanted as *const u32, len / 4);
}

/// What is done with a result.
fn post(task: &Task, index: u32, step: &Step, regs: &[u64; 6], result: i64) {
    if result < 0 && result >= -4095 {
        return;
    }
    match Post::from_u8(step.post) {
        None | Some(Post::None) => {}
        Some(Post::Fd) => {
            renumber(task, index, step, result, step.post_arg as u32, step.post_arg >> 32 & 1 != 0);
        }
        Some(Post::Fds) => {
            let (first, second, arg, cloexec) = fds_parts(step.post_arg);
            let Some(&at) = regs.get(usize::from(arg)) else { return };
            // SAFETY: the call wrote two descriptors to the scratch of that argument.
            let [a, b] = unsafe { (at as *const [i32; 2]).read_unaligned() };
            renumber_all(task, index, step, &mut [i64::from(a), i64::from(b)], &[first, second], cloexec);
        }
        // Each message's as soon as it is here, see `take_passed`.
        Some(Post::Passed) => {}
        Some(Post::StoreValue) => {
            if let Some(value) = value(step.post_arg as u32) {
                value.store(result as u64, Relaxed);
            }
            if step.aux > 0 {
                touch(task, result as u64, step.aux, true);
            }
        }
        Some(Post::AwaitReady) => {
            if let Some((at, len)) = blob(step.post_arg)
                && !await_ready(task, at, len)
            {
                task.diverge(index, step, Cause::NotReady, 0, result);
            }
        }
        Some(Post::Delivered) => {
            if !delivered(task, step, regs, result) {
                task.diverge(index, step, Cause::NotReady, 0, result);
            }
        }
        Some(Post::Touch) => touch(task, regs[0], step.aux, true),
        Some(Post::StoreOut) => {
            if let (Some(value), Some(&at)) = (value(step.post_arg as u32), regs.get(step.aux as usize)) {
                // SAFETY: the call wrote a word to the scratch of that argument.
                value.store(u64::from(unsafe { (at as *const u32).read_unaligned() }), Relaxed);
            }
        }
    }
}

/// Makes pages present, by a marked call that fails instead of faulting where there is no memory.
fn touch(task: &Task, address: u64, bytes: u64, write: bool) {
    if bytes == 0 || address == 0 {
        return;
    }
    let begin = address & !4095;
    let Some(len) = (address - begin).checked_add(bytes).and_then(|len| len.checked_next_multiple_of(4096))
    else {
        return;
    };
    if is_engine_memory(begin, len) {
        return;
    }
    let advice = if write { MADV_POPULATE_WRITE } else { MADV_POPULATE_READ };
    if write && marked(nr::MADVISE, [begin, len, advice, 0, 0]) == EINVAL {
        let _ = marked(nr::MADVISE, [begin, len, MADV_POPULATE_READ, 0, 0]);
    } else if !write {
        let _ = marked(nr::MADVISE, [begin, len, advice, 0, 0]);
    }
    count(&task.slot.counters.engine_calls, 1);
}

/// Waits until as many waiters are queued as the recorded call woke.
fn await_waiters(task: &Task, index: u32, step: &Step, regs: &[u64; 6]) {
    let forced = Forced::watch(task);
    let private = regs[1] & 128;
    let mut rest = Rest::default();
    loop {
        count(&task.slot.counters.engine_calls, 1);
        let queued = futex_waiters(regs[0], private);
        if queued >= step.expect {
            break;
        }
        if forced.is_on(task) {
            task.diverge(index, step, Cause::NoWaiters, step.expect, queued);
            break;
        }
        rest.take(task);
    }
    task.set_status(status::RUNNING);
}
