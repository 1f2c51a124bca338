//! Which programs of the object sit where: raw tracepoints, and what takes their place where the kernel lacks them.

use crate::btf::Kernel;
use std::path::Path;

/// A program of the object: the raw tracepoint has the same name.
pub(crate) struct Hook {
    /// Of the program and of the tracepoint.
    pub(crate) name: &'static str,
    /// Nothing can be recorded without it.
    pub(crate) required: bool,
    /// What the trace lacks without it.
    pub(crate) loses: &'static str,
}

/// Every program, in the order of attachment: what keeps the task table first.
pub(crate) static HOOKS: &[Hook] = &[
    Hook { name: "sched_process_fork", required: true, loses: "child processes" },
    Hook { name: "sched_process_exec", required: true, loses: "executed programs" },
    Hook {
        name: "sched_prepare_exec",
        required: false,
        loses: "names that scripts were started by, where a child of a fork had not touched them",
    },
    Hook { name: "sched_process_exit", required: true, loses: "ends of processes" },
    Hook { name: "task_rename", required: false, loses: "changes of thread names" },
    Hook { name: "cgroup_attach_task", required: false, loses: "tasks that move into the cgroup" },
    Hook { name: "cgroup_mkdir", required: false, loses: "first calls of containers that appear" },
    Hook { name: "cgroup_rmdir", required: false, loses: "ends of containers" },
    Hook { name: "inet_sock_set_state", required: false, loses: "TCP connections" },
    Hook { name: "tcp_retransmit_skb", required: false, loses: "TCP retransmissions" },
    Hook { name: "tcp_send_reset", required: false, loses: "TCP resets sent" },
    Hook { name: "tcp_receive_reset", required: false, loses: "TCP resets received" },
    Hook { name: "tcp_destroy_sock", required: false, loses: "totals of TCP connections" },
    Hook { name: "signal_generate", required: false, loses: "signals generated" },
    Hook { name: "signal_deliver", required: false, loses: "signals delivered" },
    Hook { name: "tcp_probe", required: false, loses: "round-trip times and windows of TCP connections" },
    Hook { name: "sock_send_length", required: false, loses: "traffic of UDP and unix sockets, DNS queries" },
    Hook { name: "sock_recv_length", required: false, loses: "traffic of UDP and unix sockets, DNS answers" },
    Hook { name: "mark_victim", required: false, loses: "victims of the OOM killer" },
    Hook { name: "page_fault_user", required: false, loses: "page faults that block" },
    Hook { name: "cap_capable", required: false, loses: "capability checks" },
    Hook { name: "block_io_start", required: false, loses: "block requests that another task issues" },
    Hook { name: "block_rq_issue", required: false, loses: "block requests" },
    Hook { name: "block_rq_complete", required: false, loses: "block requests" },
    Hook { name: "io_uring_submit_req", required: false, loses: "requests through io_uring" },
    Hook { name: "io_uring_complete", required: false, loses: "requests through io_uring" },
    Hook { name: "sched_switch", required: false, loses: "time off the CPU between calls" },
    Hook { name: "sched_wakeup", required: false, loses: "time off the CPU between calls" },
    Hook { name: "sys_enter", required: true, loses: "system calls" },
    Hook { name: "sys_exit", required: true, loses: "system calls" },
];

/// Fields without which a program would tell nonsense: it is not attached then.
static NEEDS: &[(&str, &[&str])] = &[
    ("sock_send_length", SOCKETS),
    ("sock_recv_length", SOCKETS),
    ("block_io_start", &["request.__data_len", "request.cmd_flags"]),
    ("block_rq_issue", &["request.__data_len", "request.cmd_flags"]),
    ("block_rq_complete", &["request.__data_len", "request.cmd_flags"]),
    ("io_uring_submit_req", &["io_kiocb.opcode", "io_uring_cqe.res", "io_uring_cqe.flags"]),
    ("io_uring_complete", &["io_kiocb.opcode", "io_uring_cqe.res", "io_uring_cqe.flags"]),
];
static SOCKETS: &[&str] = &["socket_alloc.vfs_inode", "sock.sk_socket", "socket.file", "socket.sk"];

/// What a tracepoint was called before.
static OLDER: &[(&str, &str)] = &[("io_uring_submit_req", "io_uring_submit_sqe")];

/// Programs that together tell what one on a tracepoint would, on kernels that do not have it.
pub(crate) struct Instead {
    /// The program on the tracepoint.
    pub(crate) hook: &'static str,
    /// All are needed.
    pub(crate) programs: &'static [Substitute],
    /// What they do not see and the tracepoint would.
    pub(crate) unseen: Option<&'static str>,
}

/// A program in the place of another, or in a part of it.
pub(crate) struct Substitute {
    /// Its name.
    pub(crate) program: &'static str,
    pub(crate) at: At,
}

/// Where a substitute sits.
pub(crate) enum At {
    /// On another raw tracepoint, which has the program's name.
    Tracepoint,
    /// On a function of the kernel: its name, and the parameters that the program reads, by name and place.
    Function(&'static str, &'static [(&'static str, usize)]),
}

// What all calls go through that send or receive, just before the tracepoints. It is in a file of its own, so that no
// compiler inlines it, and a kernel without `CONFIG_SECURITY_NETWORK` has no such function.
const SENDS: At = At::Function("security_socket_sendmsg", &[("sock", 0)]);
const RECEIVES: At = At::Function("security_socket_recvmsg", &[("sock", 0), ("flags", 3)]);
static UNSEEN_TRAFFIC: &str = "traffic of UDP and unix sockets by io_uring, sendfile, splice, the 32-bit socketcall, and \
                               calls in flight when the recording began: kprobes do not tell of it";

pub(crate) static INSTEAD: &[Instead] = &[
    Instead {
        hook: "cap_capable",
        programs: &[
            // The answer first: then each question that is seen is answered.
            Substitute { program: "cap_answered", at: At::Function("cap_capable", &[]) },
            Substitute { program: "cap_asked", at: At::Function("cap_capable", &[("cap", 2)]) },
        ],
        unseen: None,
    },
    Instead {
        hook: "sock_send_length",
        programs: &[Substitute { program: "sock_sends", at: SENDS }],
        unseen: Some(UNSEEN_TRAFFIC),
    },
    Instead {
        hook: "sock_recv_length",
        programs: &[Substitute { program: "sock_receives", at: RECEIVES }],
        unseen: Some(UNSEEN_TRAFFIC),
    },
    Instead {
        hook: "block_io_start",
        // What another task issues was put into a queue before, by the task that asked.
        programs: &[Substitute { program: "block_rq_insert", at: At::Tracepoint }],
        unseen: None,
    },
];

impl Substitute {
    fn needs_kprobes(&self) -> bool {
        matches!(self.at, At::Function(..))
    }
}

/// Fields without which a program would tell nonsense.
pub(crate) fn needs(hook: &str) -> &'static [&'static str] {
    NEEDS.iter().find(|(name, _)| *name == hook).map_or(&[], |(_, fields)| fields)
}

/// What a tracepoint was called before.
pub(crate) fn older(hook: &str) -> Option<&'static str> {
    OLDER.iter().find(|(name, _)| *name == hook).map(|(_, older)| *older)
}

/// What takes the place of a tracepoint that the kernel does not have, if anything does.
pub(crate) fn instead(kernel: &Kernel, hook: &str) -> Option<&'static Instead> {
    INSTEAD.iter().find(|i| i.hook == hook).filter(|_| !kernel.has_tracepoint(hook))
}

/// Whether a program has a place on this kernel.
pub(crate) fn is_wanted(kernel: &Kernel, program: &str) -> bool {
    let substitute =
        INSTEAD.iter().find_map(|i| Some((i, i.programs.iter().find(|s| s.program == program)?)));
    match substitute {
        Some((of, it)) => instead(kernel, of.hook).is_some() && (has_kprobes() || !it.needs_kprobes()),
        None => instead(kernel, program).is_none(),
    }
}

/// Whether any program may sit on a function of this kernel.
pub(crate) fn uses_kprobes(kernel: &Kernel) -> bool {
    substitutes().any(|s| s.needs_kprobes() && is_wanted(kernel, s.program))
}

/// Whether the ends of calls tell what went through sockets.
pub(crate) fn traffic_by_call(kernel: &Kernel) -> bool {
    ["sock_sends", "sock_receives"].iter().any(|program| is_wanted(kernel, program))
}

/// Every program of the object, in the order of detachment: no question is seen whose answer is not.
pub(crate) fn programs() -> impl Iterator<Item = &'static str> {
    HOOKS.iter().map(|h| h.name).chain(substitutes().rev().map(|s| s.program))
}

fn substitutes() -> impl DoubleEndedIterator<Item = &'static Substitute> {
    INSTEAD.iter().flat_map(|i| i.programs)
}

/// Whether programs can be put on functions: the kernel has kprobes, and perf events for them.
pub(crate) fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe").exists()
}
