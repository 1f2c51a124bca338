//! Signals of the scope.

use crate::{
    kernel::{now, read_or_zero},
    maps::{global, send_life},
    scope::{arg, slot, slot_number},
};
use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use ctrace_abi::{SignalEvent, kind, loss};

const SIGCHLD: u16 = 17;
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
    // TRACE_SIGNAL_DELIVERED is 0: what was ignored, or already pending, changes nothing.
    if slot_number(tid) == 0 || arg(&ctx, 4) as i32 != 0 {
        return 0;
    }
    let signo = arg(&ctx, 0) as u16;
    let code = code(arg(&ctx, 1));
    // Signals of timers and of the network are raised in whatever task an interrupt met.
    let has_sender = (code <= 0 && code != SI_TIMER) || signo == SIGCHLD;
    let current = bpf_get_current_pid_tgid() as u32;
    // SYS_SECCOMP, SYS_USER_DISPATCH: in the middle of a call of the task's own.
    if signo == SIGSYS && code > 0 && tid == current {
        if let Some(slot) = slot(slot_number(tid)) {
            slot.trapped = 1;
        }
    }
    let sender = if has_sender && slot_number(current) != 0 { current } else { 0 };
    emit(tid, signo, code, sender, 0);
    0
}

/// `TP_PROTO(int sig, struct kernel_siginfo *info, struct k_sigaction *ka)`, in the receiver.
#[raw_tracepoint(tracepoint = "signal_deliver")]
pub fn signal_deliver(ctx: RawTracePointContext) -> i32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    if slot_number(tid) == 0 {
        return 0;
    }
    emit(tid, arg(&ctx, 0) as u16, code(arg(&ctx, 1)), 0, 1);
    0
}

#[inline(always)]
fn emit(tid: u32, signo: u16, code: i32, sender: u32, delivered: u8) {
    let record = SignalEvent { kind: kind::SIGNAL, delivered, signo, tid, t_ns: now(), sender, code };
    send_life(&record, loss::SIGNAL_RING);
}
