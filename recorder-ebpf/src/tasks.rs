//! Life of tasks: fork, exec, exit, new names.

use crate::{
    calls::{cut_short, entry_copies},
    capture::{bounded, read_user},
    cgroups,
    kernel::{now, read_or, read_or_zero},
    maps::{global, scratch, send_life, send_life_bytes},
    scope::{admit, arg, release, set_slot_number, slot, slot_number},
};
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_kernel_str},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use ctrace_abi::{
    Comm, Exec, Exit, Fork, MAX_ARGUMENTS, MAX_PROGRAM, NO_SLOT, call_flag, exec_flag, kind, loss, progress,
};

/// `TP_PROTO(struct task_struct *parent, struct task_struct *child)`: the child has not run yet.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tid = pid_tgid as u32;
    let child = arg(&ctx, 1);
    let inside = slot_number(tid) != 0;
    let by_cgroup = global!(scope) != 0;
    if !inside && !by_cgroup {
        return 0;
    }
    // With clone3(CLONE_INTO_CGROUP) a child may begin elsewhere than its parent.
    let group = if by_cgroup { cgroups::group(child) } else { 0 };
    let joins = !by_cgroup || group != 0;
    if !inside {
        if joins {
            cgroups::join(child, group);
        }
        return 0;
    }
    let record = Fork {
        kind: kind::FORK,
        outside: u8::from(!joins),
        reserved: 0,
        tid,
        t_ns: now(),
        tgid: (pid_tgid >> 32) as u32,
        child_tid: read_or_zero(child, global!(task_pid)),
        child_tgid: read_or_zero(child, global!(task_tgid)),
        group,
        start_ns: read_or_zero(child, global!(task_start)),
        comm: read_or_zero(child, global!(task_comm)),
    };
    send_life(&record, loss::PROCESS_RING);
    if joins {
        admit(record.child_tid, record.child_tgid, record.start_ns, true);
        if let Some(slot) = slot(slot_number(record.child_tid)) {
            // It waits for a CPU from its birth on.
            slot.out_ns = record.t_ns;
            slot.woken_ns = record.t_ns;
            slot.usage.from_ns = record.t_ns;
        }
    }
    0
}

/// `TP_PROTO(struct task_struct *task, struct linux_binprm *bprm)`, since Linux 6.10: the kernel has copied what the caller
/// passed, so that all of it is resident now, and the caller's memory is still there (`begin_new_exec`, fs/exec.c).
#[raw_tracepoint(tracepoint = "sched_prepare_exec")]
pub fn sched_prepare_exec(_ctx: RawTracePointContext) -> i32 {
    let number = slot_number(bpf_get_current_pid_tgid() as u32);
    if number == 0 || number == NO_SLOT {
        return 0;
    }
    if let Some(slot) = slot(number) {
        if slot.busy == progress::IN_CALL && slot.call.flags & call_flag::RETRY != 0 {
            let flags = entry_copies(u32::from(number)) as u16;
            slot.call.flags = slot.call.flags & !(call_flag::RETRY | call_flag::TRUNCATED) | flags;
        }
    }
    0
}

/// `TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`: the new program is in place. A
/// thread other than the leader has taken the leader's id by now; the leader has exited (`de_thread`, fs/exec.c).
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tid = pid_tgid as u32;
    let old = arg(&ctx, 1) as u32;
    let number = slot_number(old);
    if number == 0 {
        return 0;
    }
    if old != tid {
        set_slot_number(old, 0);
        set_slot_number(tid, number);
        if number != NO_SLOT {
            if let Some(slot) = slot(number) {
                slot.call.tid = tid;
            }
        }
    }
    let Some(buffer) = scratch(3) else { return 0 };
    // SAFETY: the scratch buffer is larger than the record, aligned to 8, and this CPU's.
    let record = unsafe { &mut *buffer.cast::<Exec>() };
    record.kind = kind::EXEC;
    record.flags = 0;
    record.path_len = 0;
    record.args_len = 0;
    record.tid = tid;
    record.t_ns = now();
    record.tgid = (pid_tgid >> 32) as u32;
    record.old_tid = old;
    record.creds = crate::caps::creds(arg(&ctx, 0));
    record.comm = read_or_zero(arg(&ctx, 0), global!(task_comm));
    let bprm = arg(&ctx, 2);
    record.argc = read_or_zero(bprm, global!(bprm_argc));
    let name: u64 = read_or_zero(bprm, global!(bprm_filename));
    let interp: u64 = read_or(bprm, global!(bprm_interp), name);
    if interp != name {
        record.flags |= exec_flag::INTERPRETED;
    }
    // SAFETY: the buffer has 16 KiB; the helper writes at most the given size.
    let n = unsafe {
        bpf_probe_read_kernel_str(buffer.add(size_of::<Exec>()).cast(), MAX_PROGRAM as u32, name as *const _)
    };
    // Only as much as there is: a storm of programs must fit into the ring.
    let path = if n > 0 { bounded::<0xfff>(n as u64 - 1) } else { 0 };
    record.path_len = path as u16;
    // The arguments where the new program finds them: what the caller passed may be in memory that was not resident
    // when its call began.
    let mm: u64 = read_or_zero(arg(&ctx, 0), global!(task_mm));
    let from: u64 = read_or_zero(mm, global!(mm_arg_start));
    let mut len = read_or_zero::<u64>(mm, global!(mm_arg_end)).wrapping_sub(from);
    if len >= MAX_ARGUMENTS as u64 {
        len = MAX_ARGUMENTS as u64 - 1;
        record.flags |= exec_flag::ARGUMENTS_CUT;
    }
    let len = bounded::<0xfff>(len);
    let at = size_of::<Exec>() as u64 + path;
    // SAFETY: less than 64 + 4096 + 4096 bytes from the beginning of the buffer.
    let read = from != 0 && unsafe { read_user(buffer.add(at as usize), len, from) };
    let len = if read { len } else { 0 };
    record.args_len = len as u32;
    send_life_bytes(buffer, at + len, loss::PROCESS_RING);
    0
}

/// `TP_PROTO(struct task_struct *p)`, with a `bool group_dead` since 6.16. `exit_code` is set by then (`do_exit`,
/// kernel/exit.c). The call in flight, `exit` itself or the one that was killed, ends here.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tid = pid_tgid as u32;
    let number = slot_number(tid);
    if number == 0 {
        return 0;
    }
    let now = now();
    if number != NO_SLOT {
        if let Some(slot) = slot(number) {
            if slot.busy == progress::IN_CALL {
                cut_short(u32::from(number), now);
            }
        }
    }
    let task = arg(&ctx, 0);
    if number != NO_SLOT {
        crate::usage::end(u32::from(number), task);
    }
    let signal: u64 = read_or_zero(task, global!(task_signal));
    let live: u32 = read_or(signal, global!(signal_live), 1);
    let record = Exit {
        kind: kind::EXIT,
        group_dead: u8::from(live == 0),
        reserved: 0,
        tid,
        t_ns: now,
        tgid: (pid_tgid >> 32) as u32,
        code: read_or_zero(task, global!(task_exit_code)),
    };
    send_life(&record, loss::PROCESS_RING);
    release(tid, number);
    0
}

/// `TP_PROTO(struct task_struct *task, const char *comm)`: `prctl`, `/proc/PID/comm` and exec. Any task may rename
/// its siblings.
#[raw_tracepoint(tracepoint = "task_rename")]
pub fn task_rename(ctx: RawTracePointContext) -> i32 {
    let tid: u32 = read_or_zero(arg(&ctx, 0), global!(task_pid));
    if slot_number(tid) == 0 {
        return 0;
    }
    let mut record = Comm { kind: kind::COMM, reserved: [0; 3], tid, t_ns: now(), comm: [0; 16] };
    // SAFETY: the helper writes at most the given size.
    unsafe { bpf_probe_read_kernel_str(record.comm.as_mut_ptr().cast(), 16, arg(&ctx, 1) as *const _) };
    send_life(&record, loss::PROCESS_RING);
    0
}
