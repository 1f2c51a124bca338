//! Entry and exit of system calls: one record per call.

use crate::{
    arch::{arguments, arguments_at_exit, is_compat, is_x32, nr},
    bulk::{is_full, tell, waited_for_nothing},
    capture::{
        CUT, FAULT, POSITION, UNBOUND, argument, bounded, is_unentered, keep, run_first, run_op, spec, time,
    },
    files::{fix_now, known_file, known_to, open_file, opened, was_created},
    kernel::{copy_some_words, copy_words, current_of, now, now_by},
    maps::{SHARED, global, lost, scratch, send},
    messages::{CONTROL, passed},
    scope::{Stack, admit, arg, slot},
    traffic::ended,
};
use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use ctrace_abi::{
    Call, CallArgs, ENGINE_MARK, HELD, MAX_OPS, NO_SLOT, Shared, Slot, Spec, abi, answer, call_flag,
    is_answer, kind, loss, op, progress, spec_flag, when,
};

/// What the kernel says of a call that it does not carry out.
const ENOSYS: i64 = -38;

/// The file behind a call's first descriptor argument.
#[inline(always)]
fn first_file(task: *const u8, spec: &Spec, args: &[u64; 6]) -> u64 {
    let fd = match spec.fd_arg {
        0 => args[0],
        1 => args[1],
        2 => args[2],
        3 => args[3],
        _ => args[4],
    };
    open_file(task, fd as u32)
}

/// Copies the time limit that a call's argument points to. Returns the flag to set on the call.
#[inline(always)]
fn timeout(call: &mut Call, spec: &Spec) -> u16 {
    let pointer = match spec.time_arg {
        0 => call.args[0],
        2 => call.args[2],
        3 => call.args[3],
        _ => call.args[4],
    };
    if pointer != 0 {
        if let Some(ns) = time(spec.time_kind, pointer) {
            call.time_ns = ns;
            return call_flag::HAS_TIME;
        }
    }
    0
}

/// Entry of a call. `TP_PROTO(struct pt_regs *regs, long id)`.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn sys_enter(ctx: RawTracePointContext) -> i32 {
    let Some(shared) = SHARED.get_ptr_mut(0) else { return 0 };
    let stack = Stack::of(arg(&ctx, 0));
    if let Some((slot, number)) = stack.slot(shared) {
        enter(&ctx, shared, slot, number);
        return 0;
    }
    if stack.is_foreign(shared) {
        return 0;
    }
    let mut number = stack.find(shared);
    if number == NO_SLOT {
        let pid_tgid = bpf_get_current_pid_tgid();
        admit(pid_tgid as u32, (pid_tgid >> 32) as u32, 0, false);
        number = stack.find(shared);
    }
    if number != 0 && number != NO_SLOT {
        if let Some(slot) = slot(number) {
            enter(&ctx, shared, slot, u32::from(number));
        }
    }
    0
}

#[inline(always)]
fn enter(ctx: &RawTracePointContext, shared: *const Shared, slot: &mut Slot, number: u32) {
    let regs = arg(ctx, 0);
    let id = arg(ctx, 1);
    if slot.fresh != 0 {
        if slot.fresh == HELD {
            // What the gate did is not the command's: that begins with its execve.
            if id != u64::from(global!(nr_execve)) {
                return;
            }
            crate::usage::begin_anew(number);
        }
        slot.fresh = 0;
    }
    let task = current_of(slot);
    let call = &mut slot.call;
    let mut how = abi::NATIVE;
    let mut nr = id as u32;
    let compat = is_compat(task);
    if compat {
        how = abi::COMPAT;
    } else if is_x32(id) {
        how = abi::X32;
        nr &= !global!(x32_bit);
    }
    let mut flags = 0;
    let mut file = 0;
    let spec = spec(how, nr);
    slot.nargs = match spec {
        Some(spec) => u32::from(spec.nargs),
        None => 6,
    };
    if slot.nargs != 0 {
        let Some(args) = arguments(regs, compat) else { return };
        call.args = args;
        if args[5] == ENGINE_MARK {
            flags |= call_flag::ENGINE;
        }
    }
    call.nr = nr;
    call.abi = how;
    slot.copied = 0;
    if let Some(spec) = spec {
        let todo = spec.flags;
        if todo != 0 {
            if todo & spec_flag::FD != 0 {
                file = first_file(task, spec, &call.args);
                if file != slot.last_file && known_to(&mut slot.known, shared, file, call.tid) {
                    slot.last_file = file;
                }
            }
            if todo & spec_flag::TIME != 0 {
                flags |= timeout(call, spec);
            }
            if todo & (spec_flag::RET_FD | spec_flag::AT_EXIT) != 0 {
                flags |= call_flag::AT_EXIT;
            }
            if todo & spec_flag::AT_ENTRY != 0 {
                call.flags = flags;
                call.file = file;
                flags |= if todo & spec_flag::ALWAYS != 0 || is_full() {
                    entry_copies(number) as u16
                } else {
                    call_flag::TRUNCATED
                };
                if flags & call_flag::PASSES != 0 {
                    flags |= entry_passed(number) as u16;
                }
            }
        }
    }
    call.flags = flags;
    call.file = file;
    slot.busy = progress::IN_CALL;
    call.t_ns = now_by(shared);
}

/// Exit of a call. `TP_PROTO(struct pt_regs *regs, long ret)`.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let Some(shared) = SHARED.get_ptr_mut(0) else { return 0 };
    let stack = Stack::of(arg(&ctx, 0));
    let ret = arg(&ctx, 1) as i64;
    if let Some((slot, number)) = stack.slot(shared) {
        leave(&ctx, shared, slot, number, ret);
        return 0;
    }
    if stack.is_foreign(shared) {
        return 0;
    }
    let number = stack.find(shared);
    if number == NO_SLOT {
        lost(loss::CALL_MAP);
    } else if number != 0 {
        if let Some(slot) = slot(number) {
            leave(&ctx, shared, slot, u32::from(number), ret);
        }
    }
    0
}

#[inline(always)]
fn leave(ctx: &RawTracePointContext, shared: *const Shared, slot: &mut Slot, number: u32, mut ret: i64) {
    let now = now_by(shared);
    if slot.busy != progress::IN_CALL {
        if slot.fresh != 0 {
            if slot.fresh != HELD {
                slot.fresh = 0;
                slot.busy = progress::BETWEEN;
            }
            return;
        }
        ret = unentered(arg(ctx, 0), slot, number, now, ret);
    } else {
        ended(slot, number, ret);
    }
    slot.busy = progress::BETWEEN;
    if slot.call.flags & (call_flag::AT_EXIT | call_flag::RETRY | call_flag::UNBOUND) != 0 {
        slot.call.ret = ret;
        slot.call.dur_ns = now - slot.call.t_ns;
        if exit_copies(number) != 0 {
            return;
        }
    }
    tell(slot, number, now, ret);
}

/// An exit without an entry: describes the call from the registers that it was made with, and returns its result. A
/// filter (seccomp) answered it, which comes before the entry's tracepoint; or it was under way when the recording began.
#[inline(always)]
fn unentered(regs: u64, slot: &mut Slot, number: u32, now: u64, mut ret: i64) -> i64 {
    let trapped = slot.trapped != 0;
    slot.trapped = 0;
    let filtered = trapped || slot.busy == progress::BETWEEN;
    let task = current_of(slot);
    let call = &mut slot.call;
    call.flags = if filtered { call_flag::FILTERED } else { call_flag::NO_ENTER };
    call.nr = nr(regs);
    call.abi = abi::NATIVE;
    if is_compat(task) {
        call.abi = abi::COMPAT;
    } else if is_x32(u64::from(call.nr)) {
        call.abi = abi::X32;
        call.nr &= !global!(x32_bit);
    }
    call.t_ns = now;
    call.dur_ns = 0;
    call.args = arguments_at_exit(regs, call.abi == abi::COMPAT).unwrap_or_default();
    let tag = call.args[5];
    if tag == ENGINE_MARK {
        call.flags |= call_flag::ENGINE;
    }
    // The sandbox of a replay answered: nothing was made, whatever the answer says.
    let emulated = filtered && is_answer(tag);
    if emulated {
        ret = answer(tag);
    } else if trapped {
        // The register holds no result (kernel/seccomp.c, `syscall_rollback`).
        ret = ENOSYS;
    }
    slot.nargs = 6;
    slot.copied = 0;
    call.file = 0;
    if let Some(spec) = spec(call.abi, call.nr) {
        let todo = spec.flags;
        if todo & spec_flag::FD != 0 {
            call.file = first_file(task, spec, &call.args);
            fix_now(now);
            known_file(call.file, call.tid);
            fix_now(0);
        }
        if !emulated && todo & (spec_flag::RET_FD | spec_flag::AT_EXIT) != 0 {
            call.flags |= call_flag::AT_EXIT;
        }
        if filtered && todo & spec_flag::TIME != 0 {
            call.flags |= timeout(call, spec);
        }
        // What the arguments of a filtered call point to is as the caller left it. A call that was under way may have
        // overwritten it (`select` and its kind, which have a time limit), or have replaced the caller's memory (`execve`).
        if todo & spec_flag::AT_ENTRY != 0 && (filtered || todo & (spec_flag::TIME | spec_flag::ALWAYS) == 0)
        {
            let more = if todo & spec_flag::ALWAYS != 0 || is_full() {
                entry_copies(number) as u16
            } else {
                call_flag::TRUNCATED
            };
            slot.call.flags |= more;
            if emulated && more & call_flag::RETRY != 0 {
                slot.call.flags = slot.call.flags & !call_flag::RETRY | call_flag::TRUNCATED;
            }
        }
    }
    if !filtered {
        // Off the CPU since the start of the recording was within this call.
        let waited = slot.wait_cpu_ns;
        waited_for_nothing(slot);
        slot.call.run_wait_ns = waited;
    }
    ret
}

/// Ends the call of a slot without a result: its task leaves. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cut_short(number: u32, now: u64) -> u32 {
    let Some(slot) = slot(number as u16) else { return 0 };
    slot.busy = progress::UNSEEN;
    slot.call.flags |= call_flag::NO_EXIT;
    tell(slot, number, now, 0);
    0
}

/// Runs the ops of a call's entry and keeps what they copied until its exit, or sends it when it is much. Returns the
/// flags to set on the call. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn entry_copies(number: u32) -> u32 {
    let Some(slot) = slot(number as u16) else { return 0 };
    let Some(spec) = spec(slot.call.abi, slot.call.nr) else { return 0 };
    let Some(buffer) = scratch(0) else { return 0 };
    let mut position = size_of::<CallArgs>() as u32;
    let mut flags = 0;
    for i in 0..MAX_OPS {
        if i >= spec.entry_len as usize {
            break;
        }
        let result = if i == 0 {
            run_first(number, slot, spec, buffer, 0, 0, position)
        } else if names_nothing(slot, spec, i) {
            continue;
        } else {
            run_op(number, i as u32, 0, position)
        };
        if result & FAULT != 0 {
            flags |= call_flag::RETRY;
        }
        if result & CUT != 0 {
            flags |= call_flag::TRUNCATED;
        }
        if result & UNBOUND != 0 {
            flags |= call_flag::UNBOUND;
        }
        if result & CONTROL != 0 {
            flags |= call_flag::PASSES;
        }
        position = result & POSITION;
    }
    if position <= size_of::<CallArgs>() as u32 {
        return u32::from(flags);
    }
    // The words of a new program are asked for before its `execve` ends: they go ahead.
    let ahead = spec.flags & spec_flag::ALWAYS != 0;
    if !ahead && keep(slot, buffer, size_of::<CallArgs>() as u32, position) {
        return u32::from(flags);
    }
    // A call without an entry is told of with this time: what belongs to it comes before.
    let t_ns = if is_unentered(slot) { slot.call.t_ns - 1 } else { now() };
    // SAFETY: the buffer is larger, aligned to 8, and this CPU's.
    unsafe {
        *buffer.cast::<CallArgs>() =
            CallArgs { kind: kind::ARGS, abi: slot.call.abi, flags, tid: slot.call.tid, t_ns };
    }
    if send(buffer, bounded::<0x3fff>(u64::from(position))) {
        flags |= call_flag::HAS_ARGS;
    } else {
        lost(loss::DETAIL_RING);
        flags |= call_flag::TRUNCATED;
    }
    u32::from(flags)
}

/// As [`entry_copies`], the descriptors that the call's message passes along: apart, since what it calls needs the room that
/// the frames of a chain of calls share. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn entry_passed(number: u32) -> u32 {
    let Some(slot) = slot(number as u16) else { return 0 };
    let Some(spec) = spec(slot.call.abi, slot.call.nr) else { return 0 };
    let begin = size_of::<CallArgs>() as u32;
    let result = passed(number, slot, spec, 0, begin);
    let position = result & POSITION;
    let cut = if result & CUT == 0 { 0 } else { call_flag::TRUNCATED };
    let Some(buffer) = scratch(0) else { return 0 };
    if position <= begin || keep(slot, buffer, begin, position) {
        return u32::from(cut);
    }
    // SAFETY: the buffer is larger, aligned to 8, and this CPU's.
    unsafe {
        *buffer.cast::<CallArgs>() =
            CallArgs { kind: kind::ARGS, abi: slot.call.abi, flags: cut, tid: slot.call.tid, t_ns: now() };
    }
    if send(buffer, bounded::<0x3fff>(u64::from(position))) {
        return u32::from(cut | call_flag::HAS_ARGS);
    }
    lost(loss::DETAIL_RING);
    u32::from(call_flag::TRUNCATED)
}

/// Whether an op asks for the file behind a descriptor that is none (`AT_FDCWD`), or what becomes of a socket that sends
/// to nobody in particular.
#[inline(always)]
fn names_nothing(slot: &Slot, spec: &Spec, op: usize) -> bool {
    let op = spec.ops[op];
    match op.op {
        op::OBJECT => (argument(slot, op.arg) as i32) < 0,
        op::UNBOUND => argument(slot, op.arg) == 0,
        _ => false,
    }
}

/// Runs the ops of a call's exit and keeps what they copied, for who tells of the call. 1: that was more than a slot
/// keeps, and the call was sent with it. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn exit_copies(number: u32) -> u32 {
    let Some(slot) = slot(number as u16) else { return 0 };
    let task = current_of(slot);
    let call = &mut slot.call;
    let Some(spec) = spec(call.abi, call.nr) else { return 0 };
    let Some(buffer) = scratch(1) else { return 0 };
    let ok = call.ret >= 0;
    if ok && spec.flags & spec_flag::RET_FD != 0 {
        let file = open_file(task, call.ret as u32);
        if file != 0 {
            fix_now(call.t_ns + call.dur_ns);
            if spec.flags & spec_flag::NEW_FILE != 0 {
                opened(&mut slot.opened, file, call.tid);
            } else {
                known_file(file, call.tid);
            }
            fix_now(0);
            call.file = file;
            if spec.flags & spec_flag::OPENS != 0 && was_created(file) {
                call.flags |= call_flag::CREATED;
            }
        }
    }
    // Room for what was copied at entry: it comes first.
    let begin = size_of::<Call>() as u32 + slot.copied;
    let mut position = begin;
    let copies = if spec.flags & spec_flag::ALWAYS != 0 || is_full() { spec.ops_len as usize } else { 0 };
    if copies == 0 && spec.flags & spec_flag::AT_EXIT != 0 {
        slot.call.flags |= call_flag::TRUNCATED;
    }
    let first = spec.entry_len as usize;
    let mut has_first = false;
    let mut control = false;
    for i in 0..MAX_OPS {
        if i >= copies {
            break;
        }
        let run_it = match spec.ops[i].when {
            // A program that has begun has another memory than its caller had.
            when::ENTRY => {
                slot.call.flags & call_flag::RETRY != 0 && !(ok && spec.flags & spec_flag::ALWAYS != 0)
            }
            when::EXIT_OK => ok,
            when::CHOSEN => slot.call.flags & call_flag::UNBOUND != 0,
            _ => true,
        };
        if i == first {
            has_first = run_it;
        } else if run_it {
            let result = run_op(number, i as u32, 1, position);
            if result & (CUT | FAULT) != 0 {
                slot.call.flags |= call_flag::TRUNCATED;
            }
            control |= result & CONTROL != 0;
            position = result & POSITION;
        }
    }
    if has_first {
        let result = run_first(number, slot, spec, buffer, first as u32, 1, position);
        if result & (CUT | FAULT) != 0 {
            slot.call.flags |= call_flag::TRUNCATED;
        }
        control |= result & CONTROL != 0;
        position = result & POSITION;
    }
    if control {
        let result = passed(number, slot, spec, 1, position);
        if result & CUT != 0 {
            slot.call.flags |= call_flag::TRUNCATED;
        }
        position = result & POSITION;
    }
    if position <= begin || keep(slot, buffer, begin, position) {
        return 0;
    }
    let call = &mut slot.call;
    call.kind = kind::CALL;
    call.wait_cpu_ns = slot.wait_cpu_ns;
    call.blocked_ns = slot.blocked_ns;
    // SAFETY: the buffer is larger, aligned to 8, and this CPU's.
    unsafe {
        copy_words(buffer.cast::<Call>(), call);
        copy_some_words(buffer.add(size_of::<Call>()).cast(), slot.copies.as_ptr(), slot.copied / 8);
    }
    if !send(buffer, bounded::<0x3fff>(u64::from(position))) {
        call.flags |= call_flag::TRUNCATED;
        lost(loss::DETAIL_RING);
        return 0;
    }
    waited_for_nothing(slot);
    1
}
