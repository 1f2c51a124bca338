//! Who tasks act as, and what they may do.

use crate::{
    arch::{parameters, result},
    kernel::read_or_zero,
    maps::{CAPS, PENDING, add, global, lost, send_life},
    scope::{arg, slot, slot_number},
};
use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::{kprobe, kretprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};
use ctrace_abi::{CapEvent, CapKey, Creds, HELD, MISSING, NO_SLOT, Slot, kind, loss, progress};

/// Ids of a task's credentials.
#[inline(always)]
pub fn creds(task: u64) -> Creds {
    let cred: u64 = read_or_zero(task, global!(task_cred));
    Creds {
        uid: read_or_zero(cred, global!(cred_uid)),
        euid: read_or_zero(cred, global!(cred_euid)),
        gid: read_or_zero(cred, global!(cred_gid)),
        egid: read_or_zero(cred, global!(cred_egid)),
    }
}

/// `TP_PROTO(const struct cred *cred, struct user_namespace *target_ns, const struct user_namespace *capable_ns,
/// int cap, int ret)`, since Linux 6.14.
#[raw_tracepoint(tracepoint = "cap_capable")]
pub fn cap_capable(ctx: RawTracePointContext) -> i32 {
    if let Some((slot, _)) = asking() {
        checked(slot, arg(&ctx, 3) as u16, arg(&ctx, 4) as i32 == 0);
    }
    0
}

/// `int cap_capable(const struct cred *cred, struct user_namespace *ns, int cap, unsigned int opts)`: the question.
#[kprobe]
pub fn cap_asked(ctx: ProbeContext) -> u32 {
    let Some((_, number)) = asking() else { return 0 };
    let Some(pending) = PENDING.get_ptr_mut(number) else { return 0 };
    // SAFETY: a value of the map; it belongs to this task.
    let capability = unsafe { &mut (*pending).capability };
    if *capability != 0 {
        // The answer to the question before was not seen.
        lost(loss::PROCESS_MAP);
    }
    if let Some([_, _, cap, _]) = parameters(ctx.as_ptr() as u64) {
        *capability = cap as u32 + 1;
    }
    0
}

/// The answer. The kernel keeps the return addresses of a bounded number of tasks that are in the function at once;
/// it never sleeps, so that there are at most as many as CPUs, or a few more where the kernel can be preempted.
#[kretprobe]
pub fn cap_answered(ctx: RetProbeContext) -> u32 {
    let Some((slot, number)) = asking() else { return 0 };
    let Some(pending) = PENDING.get_ptr_mut(number) else { return 0 };
    // SAFETY: a value of the map; it belongs to this task.
    let capability = core::mem::take(unsafe { &mut (*pending).capability });
    if capability != 0 {
        if let Some(ret) = result(ctx.as_ptr() as u64) {
            checked(slot, (capability - 1) as u16, ret as i32 == 0);
        }
    }
    0
}

/// The calling task's slot and its number, if its checks are recorded.
#[inline(always)]
fn asking() -> Option<(&'static mut Slot, u32)> {
    let tid = bpf_get_current_pid_tgid() as u32;
    let number = slot_number(tid);
    if number == 0 || number == NO_SLOT {
        return None;
    }
    let slot = slot(number)?;
    // Held, it is not the command yet.
    if slot.fresh == HELD { None } else { Some((slot, u32::from(number))) }
}

/// Tells of a check. The kernel asks often: the first check of a kind is told, others counted.
#[inline(always)]
fn checked(slot: &Slot, capability: u16, granted: bool) {
    let mut key = CapKey {
        start_ns: slot.start_ns,
        tid: slot.call.tid,
        call: MISSING,
        capability,
        granted: u16::from(granted),
        reserved: 0,
    };
    if granted {
        // What a privileged process may do all the time is told of the process as a whole.
        key.tid = slot.call.tgid;
        key.start_ns = 0;
    } else if slot.busy == progress::IN_CALL {
        key.call = slot.call.nr & 0xff_ffff | u32::from(slot.call.abi) << 24;
    }
    if let Some(count) = CAPS.get_ptr_mut(&key) {
        // SAFETY: a value of the map, aligned to 8.
        unsafe { add(count, 1) };
        return;
    }
    if CAPS.insert(&key, &0, 0).is_err() {
        lost(loss::PROCESS_MAP);
        return;
    }
    let record = CapEvent {
        kind: kind::CAPABILITY,
        granted: key.granted as u8,
        capability: key.capability,
        tid: key.tid,
        // SAFETY: no preconditions.
        t_ns: unsafe { bpf_ktime_get_boot_ns() },
        start_ns: key.start_ns,
        count: 1,
        call: key.call,
        reserved: 0,
    };
    send_life(&record, loss::PROCESS_RING);
}
