//! Memory: page faults that block, and the OOM killer.

use crate::{
    kernel::read_or_zero,
    maps::{SHARED, global, send_life},
    scope::{Stack, arg, slot, slot_number},
};
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use ctrace_abi::{FaultEvent, MISSING, NO_SLOT, OomEvent, Slot, kind, loss};

/// A fault that blocks at least so long is told: what comes from memory is quicker.
const SLOW_NS: u64 = 100_000;
/// Counters of resident pages: file, anonymous and shared memory; between them, swap entries
/// (include/linux/mm_types_task.h).
const RESIDENT: [u32; 3] = [0, 1, 3];

/// `TP_PROTO(unsigned long address, struct pt_regs *regs, unsigned long error_code)`: a fault in user mode begins.
#[raw_tracepoint(tracepoint = "page_fault_user")]
pub fn page_fault_user(ctx: RawTracePointContext) -> i32 {
    let Some(shared) = SHARED.get_ptr_mut(0) else { return 0 };
    // Registers that user mode left lie where a call's do (`sync_regs`, arch/x86/kernel/traps.c).
    let stack = Stack::of(arg(&ctx, 1));
    if let Some((slot, _)) = stack.slot(shared) {
        faulted(slot, arg(&ctx, 0));
        return 0;
    }
    if stack.is_foreign(shared) {
        return 0;
    }
    let number = stack.find(shared);
    if number == 0 || number == NO_SLOT {
        return 0;
    }
    if let Some(slot) = slot(number) {
        faulted(slot, arg(&ctx, 0));
    }
    0
}

#[inline(always)]
fn faulted(slot: &mut Slot, address: u64) {
    slot.fault_address = address;
    slot.fault_call = slot.call.t_ns;
}

/// A task goes on that was blocked outside of a call, by nothing that a signal can end.
#[inline(always)]
pub fn stalled(slot: &Slot, now: u64, blocked: u64) {
    // The last fault is the cause when it came after the last call.
    if blocked < SLOW_NS || slot.fault_address == 0 || slot.fault_call != slot.call.t_ns {
        return;
    }
    let record = FaultEvent {
        kind: kind::FAULT,
        reserved: [0; 3],
        tid: slot.call.tid,
        t_ns: now,
        address: slot.fault_address,
        blocked_ns: blocked,
    };
    send_life(&record, loss::PROCESS_RING);
}

/// `TP_PROTO(struct task_struct *task, uid_t uid)`; before Linux 6.10 the victim's pid alone. In the task that needs
/// the memory.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn mark_victim(ctx: RawTracePointContext) -> i32 {
    let current = bpf_get_current_pid_tgid() as u32;
    let by = if slot_number(current) == 0 { 0 } else { current };
    let victim = arg(&ctx, 0);
    let mut record = OomEvent { kind: kind::OOM, by, ..OomEvent::default() };
    // Kernel addresses have their high half set; pids do not.
    if victim >> 32 == 0 {
        record.tid = victim as u32;
    } else {
        record.tid = read_or_zero(victim, global!(task_pid));
        record.tgid = read_or_zero(victim, global!(task_tgid));
        record.comm = read_or_zero(victim, global!(task_comm));
        let mm: u64 = read_or_zero(victim, global!(task_mm));
        let (at, stride) = (global!(mm_rss), global!(mm_rss_stride));
        if at != MISSING {
            for counter in RESIDENT {
                let pages: i64 = read_or_zero(mm, at.wrapping_add(counter.wrapping_mul(stride)));
                if pages > 0 {
                    record.rss_pages += pages as u64;
                }
            }
        }
    }
    if slot_number(record.tid) == 0 && by == 0 {
        return 0;
    }
    // SAFETY: no preconditions.
    record.t_ns = unsafe { bpf_ktime_get_boot_ns() };
    send_life(&record, loss::PROCESS_RING);
    0
}
