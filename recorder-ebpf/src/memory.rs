//! Memory: page faults that block, and the OOM killer.

use crate::{
    capture::bounded,
    kernel::{copy_words, read_or_zero},
    maps::{SHARED, global, scratch, send_life, send_life_bytes},
    scope::{Stack, arg, slot, slot_number},
};
use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_ktime_get_boot_ns, bpf_probe_read_kernel_str},
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use ctrace_abi::{FaultEvent, MISSING, NO_SLOT, OomEvent, Slot, kind, loss};

/// A fault that blocks at least so long is told: what comes from memory is quicker.
const SLOW_NS: u64 = 100_000;
/// Counters of resident pages: file, anonymous and shared memory; between them, swap entries
/// (include/linux/mm_types_task.h).
const RESIDENT: [u32; 3] = [0, 1, 3];
/// Cgroups are rarely nested deeper.
const MAX_DEPTH: u32 = 16;
/// Longest name of a cgroup's folder, with its NUL.
const MAX_NAME: u32 = 256;
/// Pages that are charged at a time (`MEMCG_CHARGE_BATCH`, include/linux/memcontrol.h).
const BATCH: u64 = 64;
/// More pages than a limit has (`PAGE_COUNTER_MAX`, include/linux/page_counter.h).
const UNLIMITED: u64 = 1 << 50;

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
    let group = if victim >> 32 == 0 { 0 } else { at_limit(victim, &mut record) };
    let Some(buffer) = scratch(3) else { return 0 };
    // SAFETY: the buffer is larger than the record, aligned to 8, and this CPU's.
    unsafe { copy_words(buffer.cast::<OomEvent>(), &record) };
    let len = if group == 0 { size_of::<OomEvent>() as u32 } else { group_names(group) };
    send_life_bytes(buffer, bounded::<0x1fff>(u64::from(len)), loss::PROCESS_RING);
    0
}

/// Finds the nearest memory cgroup of a task that is at its limit, and says how much it may have and has. Returns its
/// folder (`struct kernfs_node *`), 0 when none is: then memory is short on the host, or on a part of it.
#[inline(always)]
fn at_limit(task: u64, record: &mut OomEvent) -> u64 {
    let (subsys, memory) = (global!(memory_subsys), global!(memcg_memory));
    if subsys == MISSING || memory == MISSING {
        return 0;
    }
    let set: u64 = read_or_zero(task, global!(task_cgroups));
    let css: u64 = read_or_zero(set, global!(css_set_subsys).wrapping_add(subsys * 8));
    if css == 0 {
        return 0;
    }
    let mut counter = css + u64::from(memory);
    for _ in 0..MAX_DEPTH {
        let usage: u64 = read_or_zero(counter, global!(counter_usage));
        let limit: u64 = read_or_zero(counter, global!(counter_max));
        // What was refused is not charged; and since it was, others may have given memory back.
        let room = limit / 16 + BATCH;
        let room = if room > 16 * BATCH { 16 * BATCH } else { room };
        if limit != 0 && limit < UNLIMITED && usage + room >= limit {
            record.limit_pages = limit;
            record.usage_pages = usage;
            let cgroup: u64 = read_or_zero(counter - u64::from(memory), global!(css_cgroup));
            return read_or_zero(cgroup, global!(cgroup_kn));
        }
        counter = read_or_zero(counter, global!(counter_parent));
        if counter == 0 {
            break;
        }
    }
    0
}

/// Puts the names of a cgroup's folder and of those above it behind the record in the scratch buffer. Returns where they
/// end. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn group_names(folder: u64) -> u32 {
    let Some(buffer) = scratch(3) else { return 0 };
    let mut folder = folder;
    let mut used = size_of::<OomEvent>() as u64;
    for _ in 0..MAX_DEPTH {
        if folder == 0 || used > 0xe00 {
            break;
        }
        let name: u64 = read_or_zero(folder, global!(kn_name));
        let at = bounded::<0xfff>(used);
        // SAFETY: the place is bounded; the helper writes at most the given size.
        let n =
            unsafe { bpf_probe_read_kernel_str(buffer.add(at as usize).cast(), MAX_NAME, name as *const _) };
        if n <= 0 {
            break;
        }
        used = at + bounded::<0x1ff>(n as u64);
        folder = read_or_zero(folder, global!(kn_parent));
    }
    used as u32
}
