//! What tasks do with their time: on a CPU, waiting for one, blocked, in stretches of about 100 ms.
//!
//! The sums are kept in the task's slot at the switches that happen anyway, and sent when a switch finds the stretch
//! long enough: no timer, and nothing at all for a task that sleeps.

use crate::{
    kernel::{current, read_or_zero},
    maps::{global, send_bulk},
    scope::slot,
};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use ctrace_abi::{Slot, Usage, UsageEvent, kind, loss};

/// A stretch is sent at the first switch after this time.
pub const WINDOW_NS: u64 = 100_000_000;

/// A task that was there before the scope took it in: what it did until now does not count.
#[inline(always)]
pub fn begin(slot: &mut Slot, task: u64, t: u64) {
    slot.usage.from_ns = t;
    slot.usage.faults =
        [read_or_zero(task, global!(task_min_flt)), read_or_zero(task, global!(task_maj_flt))];
}

/// The running task begins here, whatever it did before. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn begin_anew(number: u32) -> u32 {
    let Some(slot) = slot(number as u16) else { return 0 };
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    slot.usage = Usage { on_ns: now, ..Usage::default() };
    slot.wait_cpu_ns = 0;
    slot.blocked_ns = 0;
    slot.call.run_wait_ns = 0;
    begin(slot, current() as u64, now);
    0
}

/// The task leaves its CPU, if it was seen to have one: a virtual machine's kernel makes some switches without
/// telling (seen on 6.18). What such a task did since is not known, and counts as nothing. True: the stretch is to be
/// closed.
#[inline(always)]
pub fn leave(slot: &mut Slot, t: u64, runnable: bool, was_on: bool) -> bool {
    let usage = &mut slot.usage;
    if usage.from_ns == 0 {
        // Nothing is known of the time before.
        usage.from_ns = t;
        return false;
    }
    if was_on {
        usage.cpu_ns += t - since(usage.on_ns, usage.from_ns);
    }
    usage.on_ns = 0;
    if runnable {
        usage.preemptions += 1;
    } else {
        usage.yields += 1;
    }
    t - usage.from_ns >= WINDOW_NS
}

/// The task gets a CPU that it waited for. By the slot's number: [`close`] may have changed the slot just before.
#[inline(always)]
pub fn arrive(number: u16, t: u64, waited: u64) {
    let Some(slot) = slot(number) else { return };
    slot.usage.on_ns = t;
    slot.usage.wait_ns += waited;
}

/// On the CPU since then: a task that was not seen to get its CPU had it when the stretch began.
#[inline(always)]
fn since(on: u64, from: u64) -> u64 {
    if on > from { on } else { from }
}

/// The task ends, or leaves the scope.
#[inline(always)]
pub fn end(number: u32, task: u64) {
    let Some(slot) = slot(number as u16) else { return };
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let usage = &mut slot.usage;
    if usage.from_ns != 0 && slot.out_ns == 0 {
        usage.cpu_ns += now - since(usage.on_ns, usage.from_ns);
        usage.on_ns = now;
    }
    close(number, task, now, now);
}

/// Sends the stretch of a slot that ends at `end`; the next begins at `next`. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn close(number: u32, task: u64, end: u64, next: u64) -> u32 {
    let Some(slot) = slot(number as u16) else { return 0 };
    let tid = slot.call.tid;
    let usage = &mut slot.usage;
    let faults =
        [read_or_zero::<u64>(task, global!(task_min_flt)), read_or_zero::<u64>(task, global!(task_maj_flt))];
    let before = usage.faults;
    let record = UsageEvent {
        kind: kind::USAGE,
        reserved: [0; 3],
        tid,
        t_ns: end,
        from_ns: usage.from_ns,
        cpu_ns: usage.cpu_ns,
        wait_ns: usage.wait_ns,
        faults: [faults[0].wrapping_sub(before[0]), faults[1].wrapping_sub(before[1])],
        yields: usage.yields,
        preemptions: usage.preemptions,
    };
    usage.from_ns = next;
    usage.cpu_ns = 0;
    usage.wait_ns = 0;
    usage.faults = faults;
    usage.yields = 0;
    usage.preemptions = 0;
    if record.from_ns != 0 && record.from_ns < end && record.cpu_ns | record.wait_ns != 0 {
        send_bulk(&record, loss::USAGE_RING);
    }
    0
}
