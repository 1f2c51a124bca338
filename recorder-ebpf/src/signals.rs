//! Signals of the scope.

use crate::{
    kernel::{now, read_or_zero},
    maps::{global, send_life, send_life_bytes},
    scope::{arg, slot, slot_number},
};
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_current_comm},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use core::mem::offset_of;
use ctrace_abi::{SignalEvent, kind, loss};

const SIGCHLD: u16 = 17;
const SIGCONT: u16 = 18;
const SIGSYS: u16 = 31;
/// `SI_KERNEL`, include/uapi/asm-generic/siginfo.h.
const SI_KERNEL: i32 = 0x80;
/// `SI_TIMER`.
const SI_TIMER: i32 = -2;

/// `si_code`. `SEND_SIG_NOINFO` (0) and `SEND_SIG_PRIV` (1) are no pointers (include/linux/signal.h).
#[inline(always)]
fn code(info: u64) -> i32 {
    match info {
        0 => 0,
        1 => SI_KERNEL,
        _ => read_or_zero(info, global!(siginfo_code)),
    }
}

/// `TP_PROTO(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`.
#[raw_tracepoint(tracepoint = "signal_generate")]
pub fn signal_generate(ctx: RawTracePointContext) -> i32 {
    let task = arg(&ctx, 2);
    let tid: u32 = read_or_zero(task, global!(task_pid));
    let signo = arg(&ctx, 0) as u16;
    // TRACE_SIGNAL_DELIVERED is 0: what was ignored, or already pending, changes nothing. SIGCONT does: whoever is stopped
    // goes on before anybody asks whether it is ignored (`prepare_signal`, kernel/signal.c).
    if slot_number(tid) == 0 || (arg(&ctx, 4) as i32 != 0 && signo != SIGCONT) {
        return 0;
    }
    let code = code(arg(&ctx, 1));
    // Signals of timers and of the network are raised in whatever task an interrupt met.
    let has_sender = (code <= 0 && code != SI_TIMER) || signo == SIGCHLD;
    let pid_tgid = bpf_get_current_pid_tgid();
    let current = pid_tgid as u32;
    // SYS_SECCOMP, SYS_USER_DISPATCH: in the middle of a call of the task's own.
    if signo == SIGSYS && code > 0 && tid == current {
        if let Some(slot) = slot(slot_number(tid)) {
            slot.trapped = 1;
        }
    }
    let mut record = event(tid, signo, code, 0);
    if has_sender {
        if slot_number(current) != 0 {
            record.sender = current;
        } else {
            record.outside = (pid_tgid >> 32) as u32;
            // SAFETY: the helper writes the size of the field.
            unsafe { bpf_get_current_comm(record.comm.as_mut_ptr().cast(), record.comm.len() as u32) };
            send_life(&record, loss::SIGNAL_RING);
            return 0;
        }
    }
    emit(&record);
    0
}

/// `TP_PROTO(int sig, struct kernel_siginfo *info, struct k_sigaction *ka)`, in the receiver.
#[raw_tracepoint(tracepoint = "signal_deliver")]
pub fn signal_deliver(ctx: RawTracePointContext) -> i32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    if slot_number(tid) == 0 {
        return 0;
    }
    emit(&event(tid, arg(&ctx, 0) as u16, code(arg(&ctx, 1)), 1));
    0
}

#[inline(always)]
fn event(tid: u32, signo: u16, code: i32, delivered: u8) -> SignalEvent {
    SignalEvent { kind: kind::SIGNAL, delivered, signo, tid, t_ns: now(), code, ..SignalEvent::default() }
}

/// Sends what a record without a sender that is not recorded has.
#[inline(always)]
fn emit(record: &SignalEvent) {
    let len = offset_of!(SignalEvent, outside) as u64;
    send_life_bytes(core::ptr::from_ref(record).cast(), len, loss::SIGNAL_RING);
}
