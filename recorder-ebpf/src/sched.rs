//! Time off the CPU: between calls, what tells computing from waiting in the gap between two records; within calls,
//! what tells waiting for a CPU from waiting for the cause.

use crate::{
    kernel::{now, read_or_zero},
    maps::global,
    scope::{arg, slot, slot_number},
};
use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use ctrace_abi::{NO_SLOT, progress};

/// `TASK_UNINTERRUPTIBLE`, include/linux/sched.h.
const UNINTERRUPTIBLE: u32 = 2;

/// `TP_PROTO(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)`, the last
/// since Linux 5.18.
#[raw_tracepoint(tracepoint = "sched_switch")]
pub fn sched_switch(ctx: RawTracePointContext) -> i32 {
    let prev: u32 = read_or_zero(arg(&ctx, 1), global!(task_pid));
    let number = if prev == 0 { 0 } else { slot_number(prev) };
    if number != 0 && number != NO_SLOT {
        if let Some(slot) = slot(number) {
            let t = now();
            let was_on = slot.out_ns == 0;
            slot.out_ns = t;
            // Preempted, or gone with the state TASK_RUNNING (0): it waits for a CPU from now on.
            let state = arg(&ctx, 3) as u32;
            let runnable = arg(&ctx, 0) as u8 != 0 || state == 0;
            slot.woken_ns = if runnable { t } else { 0 };
            slot.out_state = if runnable { 0 } else { state };
            if crate::usage::leave(slot, t, runnable, was_on) {
                crate::usage::close(u32::from(number), arg(&ctx, 1), t, t);
            }
        }
    }
    let next: u32 = read_or_zero(arg(&ctx, 2), global!(task_pid));
    let number = if next == 0 { 0 } else { slot_number(next) };
    if number != 0 && number != NO_SLOT {
        if let Some(slot) = slot(number) {
            if slot.out_ns != 0 {
                let t = now();
                let woken = if slot.woken_ns == 0 { t } else { slot.woken_ns };
                if woken - slot.out_ns >= crate::usage::WINDOW_NS {
                    // What came before a long sleep is a stretch of its own, and the sleep is none.
                    crate::usage::close(u32::from(number), arg(&ctx, 2), slot.out_ns, woken);
                }
                crate::usage::arrive(number, t, t - woken);
                if slot.busy != progress::IN_CALL && slot.out_state & UNINTERRUPTIBLE != 0 {
                    crate::memory::stalled(slot, t, woken - slot.out_ns);
                }
                if slot.busy != progress::IN_CALL {
                    slot.wait_cpu_ns += t - woken;
                    slot.blocked_ns += woken - slot.out_ns;
                } else {
                    // What it blocks for in a call is the call's own affair; that it then waits for a CPU is not.
                    slot.call.run_wait_ns += t - woken;
                }
                slot.out_ns = 0;
            } else {
                crate::usage::arrive(number, now(), 0);
            }
        }
    }
    0
}

/// `TP_PROTO(struct task_struct *p)`.
#[raw_tracepoint(tracepoint = "sched_wakeup")]
pub fn sched_wakeup(ctx: RawTracePointContext) -> i32 {
    let tid: u32 = read_or_zero(arg(&ctx, 0), global!(task_pid));
    let number = slot_number(tid);
    if number != 0 && number != NO_SLOT {
        if let Some(slot) = slot(number) {
            if slot.out_ns != 0 && slot.woken_ns == 0 {
                slot.woken_ns = now();
            }
        }
    }
    0
}
