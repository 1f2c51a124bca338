//! Tasks begin and end: clone, exec, exit, and the gate before the recorded begin.

use super::{
    CLONE_FILES, CLONE_NAMESPACES, CLONE_PIDFD, CLONE_SETTLS, CLONE_VM, NEVER, SIG_BLOCK, bad_step, complete,
    count_done, enter, matches, registers, take_recorded_time,
};
use crate::SIG_SETMASK;
use crate::arch::{self, nr};
use crate::args::{Scratch, decimal};
use crate::descriptors::renumber;
use crate::engine::{futex_wait, marked, now_ns, publish};
use crate::numbers::Turn;
use crate::state::{Task, control, count, slot, stack_bottom, stack_top, word};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use ctrace_program::control::{Cause, STACK_BYTES, status};
use ctrace_program::{Expect, Post, Step, flags};

pub(super) fn clone(task: &Task, index: u32, step: &Step) {
    let child = step.aux as u32;
    let (Some(child_slot), Some(child_task)) = (slot(child), Task::new(child)) else {
        return bad_step(task, index, step);
    };
    let mut scratch = Scratch::new(task);
    let Some(mut regs) = registers(task, step, &mut scratch, 0) else { return bad_step(task, index, step) };
    // No step of a trace makes namespaces.
    let clone_flags = regs[0] & !CLONE_NAMESPACES;
    regs[0] = clone_flags;
    // Pointers that are no selectors would name memory of the recorded process.
    for arg in [2, 3] {
        if step.sel[arg] == 0 && regs[arg] != 0 {
            regs[arg] = child_task.keep() + 4096 - 32 + arg as u64 * 4;
        }
    }
    let pidfd_at = child_task.keep() + 4096 - 16;
    let (ptid, ctid, tls) = (regs[2], regs[3], child_task.keep() + 2048);
    let tls = if clone_flags & CLONE_SETTLS != 0 { tls } else { 0 };
    let pidfd = clone_flags & CLONE_PIDFD != 0;
    let stack = stack_top(child);
    if step.nr == nr::CLONE3 {
        let begin = stack_bottom(child) + STACK_BYTES / 4;
        let Some(at) = scratch.words([
            clone_flags & !0xff,
            if pidfd { pidfd_at } else { 0 },
            ctid,
            ptid,
            clone_flags & 0xff,
            if clone_flags & CLONE_VM != 0 { begin } else { 0 },
            if clone_flags & CLONE_VM != 0 { stack - begin } else { 0 },
            tls,
        ]) else {
            return bad_step(task, index, step);
        };
        regs = [at, 64, 0, 0, 0, regs[5]];
    } else if step.nr == nr::CLONE {
        regs[1] = if clone_flags & CLONE_VM != 0 { stack } else { 0 };
        regs[2] = if pidfd { pidfd_at } else { ptid };
        regs[arch::CLONE_CTID_ARG] = ctid;
        regs[arch::CLONE_TLS_ARG] = tls;
    }
    if clone_flags & CLONE_FILES == 0 {
        // A child does not get the descriptors that an accept holds until it has its number.
        drop(Turn::of(task, index, step, &regs));
    }
    child_slot.step.store(0, Relaxed);
    child_slot.status.store(status::RUNNING, Relaxed);
    enter(task, index);
    task.set_status(status::CALL);
    // SAFETY: the child runs on its own stack block and enters `child_entry`.
    let result = unsafe { arch::ctrace_clone(step.nr, &regs, stack, u64::from(child)) };
    task.set_status(status::RUNNING);
    if result > 0 {
        let _ = child_slot.tid.compare_exchange(0, result as i32, SeqCst, Relaxed);
        if pidfd && step.post == Post::Fd as u8 {
            // SAFETY: the kernel wrote the descriptor there.
            let fd = unsafe { (pidfd_at as *const i32).read_volatile() };
            renumber(task, index, step, i64::from(fd), step.post_arg as u32, true);
        }
    } else {
        child_slot.status.store(status::UNBORN, Relaxed);
    }
    let fine = match Expect::from_u8(step.expect_kind) {
        Some(Expect::Pid) => result > 0,
        _ => matches(task, step, result),
    };
    if !fine {
        task.diverge(index, step, Cause::Result, step.expect, result);
    }
    count_done(task, step);
    complete(task, index);
}

pub(super) fn exec(task: &Task, index: u32, step: &Step) {
    let mut scratch = Scratch::new(task);
    let regs = registers(task, step, &mut scratch, 0);
    let (Some(mut regs), Some(text), Some(table)) = (regs, scratch.take(128), scratch.words([0, 0])) else {
        return bad_step(task, index, step);
    };
    let mut to = text;
    for &byte in b"CTRACE=" {
        // SAFETY: scratch of 128 bytes: 7, five numbers of at most 10 digits, four commas, a NUL.
        unsafe { (to as *mut u8).write(byte) };
        to += 1;
    }
    let shm = control().shm_id.load(Relaxed) as u64;
    for number in [shm, step.aux, step.post_arg, u64::from(task.index), u64::from(index)] {
        to = decimal(number & 0xffff_ffff, to);
        // SAFETY: as above.
        unsafe { (to as *mut u8).write(b',') };
        to += 1;
    }
    // SAFETY: as above: the last comma becomes the end.
    unsafe { ((to - 1) as *mut u8).write(0) };
    // SAFETY: scratch of two words.
    unsafe { (table as *mut u64).write(text) };
    if step.flags & flags::FAULT == 0 {
        regs[if step.nr == nr::EXECVEAT { 3 } else { 2 }] = table;
    }
    if step.flags & flags::WRITTEN != 0 {
        crate::image::restore(task, step.nr, &mut regs);
    }
    enter(task, index);
    // Loading the recorded program took longer than loading the worker.
    take_recorded_time(task, step);
    // Counted before: there is no after.
    count_done(task, step);
    // The new image is dumpable until it has said otherwise: nothing is to crash it before (see `start`).
    let (all, mut before) = (u64::MAX, 0_u64);
    let mask = [SIG_SETMASK, &raw const all as u64, &raw mut before as u64, 8, 0];
    let masked = step.flags & flags::FAULT == 0 && marked(nr::RT_SIGPROCMASK, mask) == 0;
    // SAFETY: the kernel wrote it behind the compiler's back.
    let before = unsafe { core::ptr::from_ref(&before).read_volatile() };
    if let (true, Some(next)) = (masked, slot(step.aux as u32)) {
        next.exec_mask.store(before, Relaxed);
        count(&task.slot.counters.engine_calls, 1);
    }
    task.set_status(status::CALL);
    // SAFETY: replaces this image, or fails.
    let result = unsafe { arch::ctrace_call(step.nr, &regs, NEVER.as_ptr()) };
    task.set_status(status::RUNNING);
    if masked {
        let _ = marked(nr::RT_SIGPROCMASK, [SIG_SETMASK, &raw const before as u64, 0, 8, 0]);
        count(&task.slot.counters.engine_calls, 1);
    }
    if !matches(task, step, result) {
        task.diverge(index, step, Cause::Result, step.expect, result);
    }
    complete(task, index);
}

pub(super) fn exit(task: &Task, index: u32, step: &Step) {
    let mut scratch = Scratch::new(task);
    let Some(regs) = registers(task, step, &mut scratch, 0) else { return bad_step(task, index, step) };
    count_done(task, step);
    // Whoever waits for this end may send a signal to what has ended: it must not be what ends it.
    let all = u64::MAX;
    let _ = marked(nr::RT_SIGPROCMASK, [SIG_BLOCK, &raw const all as u64, 0, 8, 0]);
    count(&task.slot.counters.engine_calls, 1);
    task.slot.step.store(index + 1, Relaxed);
    task.slot.last_end.store(now_ns(), Relaxed);
    task.set_status(status::EXITED);
    publish(task.slot, index.wrapping_mul(2).wrapping_add(2));
    loop {
        // SAFETY: does not return.
        let _ = unsafe { arch::ctrace_call(step.nr, &regs, NEVER.as_ptr()) };
    }
}

pub(super) fn gate(task: &Task, index: u32) {
    let control = control();
    task.set_status(status::GATE);
    enter(task, index);
    control.at_gate.fetch_add(1, SeqCst);
    while control.gate.load(SeqCst) == 0 {
        let _ = futex_wait(word(&control.gate), 0, u64::MAX);
    }
    task.set_status(status::RUNNING);
    task.slot.step.store(index + 1, Relaxed);
    // The recording begins now, whenever this task wakes up; what was done to get here does not count.
    task.slot.counters.engine_calls.store(0, Relaxed);
    task.slot.last_end.store(0, Relaxed);
    publish(task.slot, index.wrapping_mul(2).wrapping_add(2));
}
