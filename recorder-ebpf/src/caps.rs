//! Who tasks act as, and what they may do.

use crate::{
    kernel::read_or_zero,
    maps::{CAPS, add, global, lost, send_life},
    scope::{arg, slot, slot_number},
};
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use ctrace_abi::{CapEvent, CapKey, Creds, HELD, MISSING, NO_SLOT, kind, loss};

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
/// int cap, int ret)`, since Linux 6.13. The kernel asks often: the first check of a kind is told, others counted.
#[raw_tracepoint(tracepoint = "cap_capable")]
pub fn cap_capable(ctx: RawTracePointContext) -> i32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    let number = slot_number(tid);
    if number == 0 || number == NO_SLOT {
        return 0;
    }
    let Some(slot) = slot(number) else { return 0 };
    if slot.fresh == HELD {
        // It is not the command yet.
        return 0;
    }
    let mut key = CapKey {
        start_ns: slot.start_ns,
        tid,
        call: MISSING,
        capability: arg(&ctx, 3) as u16,
        granted: u16::from(arg(&ctx, 4) as i32 == 0),
        reserved: 0,
    };
    if key.granted != 0 {
        // What a privileged process may do all the time is told of the process as a whole.
        key.tid = slot.call.tgid;
        key.start_ns = 0;
    } else if slot.busy != 0 {
        key.call = slot.call.nr & 0xff_ffff | u32::from(slot.call.abi) << 24;
    }
    if let Some(count) = CAPS.get_ptr_mut(&key) {
        // SAFETY: a value of the map, aligned to 8.
        unsafe { add(count, 1) };
        return 0;
    }
    if CAPS.insert(&key, &0, 0).is_err() {
        lost(loss::PROCESS_MAP);
        return 0;
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
    0
}
