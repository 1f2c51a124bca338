//! Entry and exit of system calls: one record per call.

use crate::{
    kernel::{current, read},
    maps::{global, lost, send},
    scope::{admit, arg, slot, slot_number},
};
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use ctrace_abi::{Call, ENGINE_MARK, HELD, MISSING, NO_SLOT, abi, call_flag, kind, loss};

/// Registers of `struct pt_regs` from `r10` to `orig_ax` (arch/x86/include/asm/ptrace.h): the 64-bit arguments.
const REGS_R10: u32 = 7 * 8;
/// `bp`, then `bx`.
const REGS_BP: u32 = 4 * 8;
const REGS_ORIG_AX: u32 = 15 * 8;
/// `__X32_SYSCALL_BIT`.
const X32_BIT: u64 = 0x4000_0000;

/// How the running call was made. `TS_COMPAT` (arch/x86/include/asm/thread_info.h) is set by the 32-bit entries.
#[inline(always)]
fn is_compat() -> bool {
    let offset = global!(task_status);
    if offset == MISSING {
        return false;
    }
    let task = current();
    // SAFETY: a typed pointer plus the offset of `thread_info.status`; the verifier checks the access.
    let status = unsafe { core::ptr::read_volatile(task.add(offset as usize).cast::<u32>()) };
    status & global!(status_i386) != 0
}

/// Entry of a call. `TP_PROTO(struct pt_regs *regs, long id)`.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn sys_enter(ctx: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tid = pid_tgid as u32;
    let number = slot_number(tid);
    if number == 0 {
        return 0;
    }
    enter(&ctx, tid, (pid_tgid >> 32) as u32, number);
    0
}

#[inline(always)]
fn enter(ctx: &RawTracePointContext, tid: u32, tgid: u32, number: u16) {
    let mut number = number;
    if number == NO_SLOT {
        admit(tid, tgid, 0, false);
        number = slot_number(tid);
    }
    let Some(slot) = slot(number) else { return };
    let regs = arg(ctx, 0);
    let id = arg(ctx, 1);
    if slot.fresh == HELD {
        // The gate's own calls are not the command's: it begins with its execve.
        if id != u64::from(global!(nr_execve)) {
            return;
        }
    }
    // r10 r9 r8 ax cx dx si di
    let Some(r) = read::<[u64; 8]>(regs, REGS_R10) else { return };
    let call = &mut slot.call;
    let mut how = abi::NATIVE;
    let mut nr = id as u32;
    if is_compat() {
        how = abi::I386;
        let low = read::<[u64; 2]>(regs, REGS_BP).unwrap_or_default();
        let narrow = |v: u64| v & 0xffff_ffff;
        call.args = [narrow(low[1]), narrow(r[4]), narrow(r[5]), narrow(r[6]), narrow(r[7]), narrow(low[0])];
    } else {
        if id & X32_BIT != 0 {
            how = abi::X32;
            nr = (id & !X32_BIT) as u32;
        }
        call.args = [r[7], r[6], r[5], r[0], r[2], r[1]];
    }
    let mut flags = 0;
    if call.args[5] == ENGINE_MARK {
        flags |= call_flag::ENGINE;
    }
    call.kind = kind::CALL;
    call.abi = how;
    call.flags = flags;
    call.nr = nr;
    call.ret = 0;
    call.file = 0;
    call.time_ns = 0;
    call.wait_cpu_ns = slot.wait_cpu_ns;
    call.blocked_ns = slot.blocked_ns;
    slot.wait_cpu_ns = 0;
    slot.blocked_ns = 0;
    slot.fresh = 0;
    slot.busy = 1;
    // SAFETY: no preconditions.
    call.t_ns = unsafe { bpf_ktime_get_boot_ns() };
}

/// Exit of a call. `TP_PROTO(struct pt_regs *regs, long ret)`.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tid = pid_tgid as u32;
    let number = slot_number(tid);
    if number == 0 {
        return 0;
    }
    if number == NO_SLOT {
        lost(loss::CALL_MAP);
        return 0;
    }
    if let Some(slot) = slot(number) {
        // SAFETY: no preconditions.
        let now = unsafe { bpf_ktime_get_boot_ns() };
        let call = &mut slot.call;
        call.ret = arg(&ctx, 1) as i64;
        if slot.busy == 0 {
            if slot.fresh != 0 {
                if slot.fresh != HELD {
                    slot.fresh = 0;
                }
                return 0;
            }
            call.kind = kind::CALL;
            call.flags = call_flag::NO_ENTER;
            call.abi = if is_compat() { abi::I386 } else { abi::NATIVE };
            call.nr = read::<u64>(arg(&ctx, 0), REGS_ORIG_AX).unwrap_or_default() as u32;
            call.t_ns = now;
            call.args = [0; 6];
            call.file = 0;
            call.time_ns = 0;
            call.wait_cpu_ns = 0;
            call.blocked_ns = 0;
        }
        slot.busy = 0;
        call.dur_ns = now - call.t_ns;
        emit(call);
    }
    0
}

/// Sends a call without a tail.
#[inline(always)]
pub fn emit(call: &Call) {
    if !send(core::ptr::from_ref(call).cast(), size_of::<Call>() as u64) {
        lost(loss::CALL_RING);
    }
}
