//! The replay worker: a freestanding program that makes the calls of a replay program, and nothing else.
//!
//! It has no libc, no thread-local storage, no heap and no start-up calls of its own but one marked `shmat`, so what a
//! recorder sees of it is the replayed calls and the engine's marked ones. It lies at every recorded path that was
//! executed; the program is a segment of the same file (see `ctrace-program`), the control region is shared memory.
//!
//! All state is in the control region: the worker may be a thread, a forked process, a vfork child or a fresh image, and
//! any of them may be interrupted by a signal whose handler interprets further steps.
#![no_std]
#![no_main]

mod alarm;
mod arch;
mod args;
mod bounds;
mod deaths;
mod descriptors;
mod disk;
mod elsewhere;
mod engine;
mod epoll;
mod handed_over;
mod image;
mod interp;
mod numbers;
mod signal;
mod state;

use ctrace_program::CONTROL_BASE;
use engine::marked;

const PR_SET_DUMPABLE: u64 = 4;
/// `how` of `rt_sigprocmask`: the mask itself.
pub const SIG_SETMASK: u64 = 2;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    die(101)
}

/// Ends the process: only for states that cannot be.
fn die(status: u64) -> ! {
    loop {
        let _ = marked(arch::nr::EXIT_GROUP, [status, 0, 0, 0, 0]);
    }
}

/// Where the kernel starts an image: finds `CTRACE=shm,task,step,old task,old step` in the environment.
extern "C" fn start(stack: *const u64) -> ! {
    // SAFETY: the kernel's argument block: argc, argv…, NULL, envp…, NULL.
    let mut at = unsafe { stack.add(*stack as usize + 2) };
    let mut words = [0_u64; 5];
    loop {
        // SAFETY: as above, up to the NULL that ends it.
        let entry = unsafe { *at } as *const u8;
        if entry.is_null() {
            die(102);
        }
        if parse(entry, &mut words) {
            break;
        }
        // SAFETY: not yet at the NULL.
        at = unsafe { at.add(1) };
    }
    let [shm, task, step, old_task, old_step] = words;
    if marked(arch::nr::SHMAT, [shm, CONTROL_BASE, 0, 0, 0]) != CONTROL_BASE as i64 {
        die(103);
    }
    let Some(state) = state::Task::new(task as u32) else { die(104) };
    state.slot.step.store(step as u32, core::sync::atomic::Ordering::Relaxed);
    state.adopt();
    // Threads that had their turn at the numbers of descriptors are gone.
    state.slot.numbers.state.store(0, core::sync::atomic::Ordering::Relaxed);
    // A crash is nobody's business outside: a core handler or a core socket would be the host's. An exec makes a process
    // dumpable again; the signals that could have been the end of it before this are let through now.
    let _ = marked(arch::nr::PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0]);
    let mask = state.slot.exec_mask.load(core::sync::atomic::Ordering::Relaxed);
    let _ = marked(arch::nr::RT_SIGPROCMASK, [SIG_SETMASK, &raw const mask as u64, 0, 8, 0]);
    // These, and the shmat above.
    state::count(&state.slot.counters.engine_calls, 3);
    if let Some(old) = state::Task::new(old_task as u32) {
        engine::publish(old.slot, (old_step as u32).wrapping_mul(2).wrapping_add(2));
    }
    // SAFETY: the stack block of this task is its own and unused: the image is fresh.
    unsafe { arch::ctrace_switch(task, state::stack_top(task as u32)) }
}

fn parse(text: *const u8, words: &mut [u64; 5]) -> bool {
    let mut at = text;
    for &expected in b"CTRACE=" {
        // SAFETY: a NUL-terminated string; a difference ends the loop at the latest at the NUL.
        if unsafe { *at } != expected {
            return false;
        }
        // SAFETY: not yet at the NUL.
        at = unsafe { at.add(1) };
    }
    for word in words.iter_mut() {
        loop {
            // SAFETY: as above.
            let byte = unsafe { *at };
            if byte == 0 {
                break;
            }
            // SAFETY: not yet at the NUL.
            at = unsafe { at.add(1) };
            if !byte.is_ascii_digit() {
                break;
            }
            *word = word.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        }
    }
    true
}
