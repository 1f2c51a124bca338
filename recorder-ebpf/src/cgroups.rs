//! Membership in the recorded cgroups, asked when a task is made or moved, never per call.
//!
//! The scope is a set of cgroups of one hierarchy: a pod's containers may have no parent of their own. User space
//! fills the set, and adds to it while recording, when a container appears: it learns of new cgroups from here.

use crate::{
    calls::cut_short,
    kernel::{now, read_or_zero},
    maps::{GROUPS, WALK, global, scratch, send_group, send_life},
    scope::{admit, arg, release, slot, slot_number},
};
use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel_str, macros::raw_tracepoint, programs::RawTracePointContext,
};
use ctrace_abi::{Group, Join, MAX_GROUP_PATH, MISSING, NO_SLOT, kind, loss, progress};

/// Cgroups are rarely nested deeper; what is deeper is not found.
const MAX_DEPTH: u32 = 16;

/// The recorded group that a task is in or below; 0: none. In the v2 hierarchy the task's `css_set` points to its
/// cgroup; in a v1 hierarchy, to the state of each controller, which points to the cgroup (`include/linux/cgroup-defs.h`).
#[inline(always)]
pub fn group(task: u64) -> u32 {
    let set: u64 = read_or_zero(task, global!(task_cgroups));
    let cgroup: u64 = if global!(scope) == 2 {
        read_or_zero(set, global!(css_set_dfl))
    } else {
        let css: u64 = read_or_zero(set, global!(css_set_subsys).wrapping_add(global!(subsys) * 8));
        read_or_zero(css, global!(css_cgroup))
    };
    nearest(cgroup)
}

/// The nearest recorded group among a cgroup and its ancestors; 0: none. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn nearest(cgroup: u64) -> u32 {
    let at = global!(cgroup_ancestors);
    let level: u32 = read_or_zero(cgroup, global!(cgroup_level));
    if at == MISSING || cgroup == 0 {
        return 0;
    }
    let mut found = 0;
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
        // SAFETY: read at once; user space writes whole words.
        if let Some(number) = unsafe { GROUPS.get(&id) } {
            found = *number;
        }
    }
    found
}

/// Takes a task in.
#[inline(always)]
pub fn join(task: u64, group: u32) {
    let record = describe(task, kind::JOIN, group);
    if record.tgid == global!(own_tgid) {
        return;
    }
    send_life(&record, loss::PROCESS_RING);
    admit(record.tid, record.tgid, record.start_ns, true);
    if let Some(slot) = slot(slot_number(record.tid)) {
        crate::usage::begin(slot, task, record.t_ns);
    }
}

#[inline(always)]
fn describe(task: u64, kind: u8, group: u32) -> Join {
    Join {
        kind,
        reserved: [0; 3],
        tid: read_or_zero(task, global!(task_pid)),
        t_ns: now(),
        tgid: read_or_zero(task, global!(task_tgid)),
        group,
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
    let group = group(task);
    if group != 0 && number == 0 {
        join(task, group);
    } else if group == 0 && number != 0 {
        if number != NO_SLOT {
            if let Some(slot) = slot(number) {
                if slot.busy == progress::IN_CALL {
                    cut_short(u32::from(number), now());
                }
            }
            crate::usage::end(u32::from(number), task);
        }
        send_life(&describe(task, kind::LEAVE, 0), loss::PROCESS_RING);
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

/// `TP_PROTO(struct cgroup *cgrp, const char *path)`, before the folder can be seen (`cgroup_mkdir`,
/// kernel/cgroup/cgroup.c).
#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    tell(&ctx, false);
    0
}

/// `TP_PROTO(struct cgroup *cgrp, const char *path)`: no task is in it any more.
#[raw_tracepoint(tracepoint = "cgroup_rmdir")]
pub fn cgroup_rmdir(ctx: RawTracePointContext) -> i32 {
    tell(&ctx, true);
    0
}

#[inline(always)]
fn tell(ctx: &RawTracePointContext, removed: bool) {
    if global!(watch_groups) == 0 {
        return;
    }
    let cgroup = arg(ctx, 0);
    let root: u64 = read_or_zero(cgroup, global!(cgroup_root));
    let hierarchy: u32 = read_or_zero(root, global!(root_hierarchy));
    if hierarchy != global!(hierarchy) {
        return;
    }
    let Some(buffer) = scratch(3) else { return };
    // SAFETY: the scratch buffer is larger than the record, aligned to 8, and this CPU's.
    let record = unsafe { &mut *buffer.cast::<Group>() };
    record.kind = kind::GROUP;
    record.removed = u8::from(removed);
    record.reserved = 0;
    record.group = nearest(cgroup);
    record.t_ns = now();
    record.id = read_or_zero(read_or_zero(cgroup, global!(cgroup_kn)), global!(kn_id));
    record.path[0] = 0;
    let path = arg(ctx, 1) as *const core::ffi::c_void;
    // SAFETY: the helper writes at most the given size.
    unsafe { bpf_probe_read_kernel_str(record.path.as_mut_ptr().cast(), MAX_GROUP_PATH as u32, path) };
    send_group(record);
}
