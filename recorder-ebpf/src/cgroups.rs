//! Membership in the recorded cgroup, asked when a task is made or moved, never per call.

use crate::{
    calls::cut_short,
    kernel::{now, read_or_zero},
    maps::{WALK, global, send_life},
    scope::{admit, arg, release, slot, slot_number},
};
use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use ctrace_abi::{Join, MISSING, NO_SLOT, kind, loss};

/// Cgroups are rarely nested deeper; what is deeper is not found.
const MAX_DEPTH: u32 = 16;

/// Whether a task is in the recorded cgroup or below it. In the v2 hierarchy the task's `css_set` points to its
/// cgroup; in a v1 hierarchy, to the state of each controller, which points to the cgroup (`include/linux/cgroup-defs.h`).
#[inline(always)]
pub fn contains(task: u64) -> bool {
    let set: u64 = read_or_zero(task, global!(task_cgroups));
    let cgroup: u64 = if global!(scope) == 2 {
        read_or_zero(set, global!(css_set_dfl))
    } else {
        let css: u64 = read_or_zero(set, global!(css_set_subsys).wrapping_add(global!(subsys) * 8));
        read_or_zero(css, global!(css_cgroup))
    };
    is_below(cgroup) != 0
}

/// Whether a cgroup is the recorded one or below it. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_below(cgroup: u64) -> u32 {
    let at = global!(cgroup_ancestors);
    let level: u32 = read_or_zero(cgroup, global!(cgroup_level));
    if at == MISSING || cgroup == 0 {
        return 0;
    }
    for i in 0..MAX_DEPTH {
        if i > level {
            break;
        }
        let word: u64 = read_or_zero(cgroup, at.wrapping_add(i * 8));
        let id = if global!(cgroup_ancestors_are_ids) != 0 {
            word
        } else {
            read_or_zero(read_or_zero(word, global!(cgroup_kn)), global!(kn_id))
        };
        if id == global!(cgroup_id) {
            return 1;
        }
    }
    0
}

/// Takes a task in.
#[inline(always)]
pub fn join(task: u64) {
    let record = describe(task, kind::JOIN);
    if record.tgid == global!(own_tgid) {
        return;
    }
    send_life(&record, loss::PROCESS_RING);
    admit(record.tid, record.tgid, true);
}

#[inline(always)]
fn describe(task: u64, kind: u8) -> Join {
    Join {
        kind,
        reserved: [0; 3],
        tid: read_or_zero(task, global!(task_pid)),
        t_ns: now(),
        tgid: read_or_zero(task, global!(task_tgid)),
        reserved2: 0,
        start_ns: read_or_zero(task, global!(task_start)),
        comm: read_or_zero(task, global!(task_comm)),
    }
}

/// Compares a task's membership with the table. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn moved(task: u64) -> u32 {
    let tid: u32 = read_or_zero(task, global!(task_pid));
    let number = slot_number(tid);
    let inside = contains(task);
    if inside && number == 0 {
        join(task);
    } else if !inside && number != 0 {
        if number != NO_SLOT {
            if let Some(slot) = slot(number) {
                if slot.busy != 0 {
                    cut_short(u32::from(number), now());
                }
            }
        }
        send_life(&describe(task, kind::LEAVE), loss::PROCESS_RING);
        release(tid, number);
    }
    0
}

/// `TP_PROTO(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, bool threadgroup)`, after the
/// move (`cgroup_attach_task`, kernel/cgroup/cgroup.c).
#[raw_tracepoint(tracepoint = "cgroup_attach_task")]
pub fn cgroup_attach_task(ctx: RawTracePointContext) -> i32 {
    if global!(scope) == 0 {
        return 0;
    }
    let task = arg(&ctx, 2);
    if arg(&ctx, 3) as u8 == 0 || global!(task_thread_node) == MISSING {
        moved(task);
        return 0;
    }
    let Some(walk) = WALK.get_ptr_mut(2) else { return 0 };
    // SAFETY: this CPU's memory.
    let walk = unsafe { &mut *walk };
    let signal: u64 = read_or_zero(task, global!(task_signal));
    walk.base = signal + u64::from(global!(signal_thread_head));
    walk.next = read_or_zero(walk.base, 0);
    for _ in 0..4096 {
        if thread_step(2) != 0 {
            break;
        }
    }
    0
}

/// Looks at one thread of a process that was moved. Not 0: it was the last. A global function, see
/// [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn thread_step(which: u32) -> u32 {
    let Some(walk) = WALK.get_ptr_mut(which & 3) else { return 1 };
    // SAFETY: this CPU's memory.
    let walk = unsafe { &mut *walk };
    let node = walk.next;
    if node == 0 || node == walk.base {
        return 1;
    }
    walk.next = read_or_zero(node, 0);
    moved(node - u64::from(global!(task_thread_node)));
    0
}
