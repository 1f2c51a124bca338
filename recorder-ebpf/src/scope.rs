//! Which tasks are recorded: the task table.

use crate::maps::{FREE, SLOT, TASKS};
use aya_ebpf::{EbpfContext as _, programs::RawTracePointContext};
use ctrace_abi::{NO_SLOT, Slot, Usage};

/// The table entry of a thread; 0 when it is not recorded.
#[inline(always)]
pub fn slot_number(tid: u32) -> u16 {
    match TASKS.get(tid >> 2) {
        Some(four) => four[(tid & 3) as usize],
        None => 0,
    }
}

/// Sets the table entry of a thread.
#[inline(always)]
pub fn set_slot_number(tid: u32, number: u16) {
    if let Some(four) = TASKS.get_ptr_mut(tid >> 2) {
        // SAFETY: the index is masked; entries of different threads are different halfwords.
        unsafe { (*four)[(tid & 3) as usize] = number };
    }
}

/// The state of a recorded thread.
#[inline(always)]
pub fn slot(number: u16) -> Option<&'static mut Slot> {
    // SAFETY: a slot belongs to one task, and a task runs on one CPU.
    SLOT.get_ptr_mut(u32::from(number)).map(|s| unsafe { &mut *s })
}

/// Takes a thread into the scope. Its calls are counted as lost when there is no free slot.
#[inline(always)]
pub fn admit(tid: u32, tgid: u32, start_ns: u64, fresh: bool) {
    let mut number = NO_SLOT;
    if let Ok(Some(free)) = FREE.pop() {
        number = free as u16;
        if let Some(slot) = slot(number) {
            slot.busy = 0;
            slot.fresh = u32::from(fresh);
            slot.start_ns = start_ns;
            slot.last_file = 0;
            slot.out_ns = 0;
            slot.woken_ns = 0;
            slot.wait_cpu_ns = 0;
            slot.blocked_ns = 0;
            slot.out_state = 0;
            slot.fault_ns = 0;
            slot.usage = Usage::default();
            slot.call.tid = tid;
            slot.call.tgid = tgid;
        }
    }
    set_slot_number(tid, number);
}

/// Removes a thread from the scope.
#[inline(always)]
pub fn release(tid: u32, number: u16) {
    set_slot_number(tid, 0);
    if number != NO_SLOT {
        let _ = FREE.push(u32::from(number), 0);
    }
}

/// Argument `n` of a raw tracepoint.
#[inline(always)]
pub fn arg(ctx: &RawTracePointContext, n: usize) -> u64 {
    // SAFETY: the context of a raw tracepoint is an array of its arguments; the verifier checks `n`.
    unsafe { *ctx.as_ptr().cast::<u64>().add(n) }
}
