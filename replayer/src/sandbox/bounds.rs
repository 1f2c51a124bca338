//! What one process of a replay may take: its place before the OOM killer, its priority, its resource limits, and the
//! counts of its namespaces. What all of them may take together is in [`super::cgroup`].

use super::SandboxError;
use super::cgroup::{ENGINE_TASKS, PRESSER_TASKS};
use super::limits::{FILE_BYTES, Limits};
use std::collections::BTreeMap;
use std::fs;
use std::io;

/// The score with which the kernel kills first (proc(5), `oom_score_adj`).
const OOM_FIRST: &str = "1000";
/// How much less urgent a replay is than what started it: a third of the weight (kernel/sched/core.c,
/// `sched_prio_to_weight`).
const NICE: i32 = 5;
/// Bytes of POSIX message queues: the kernel's default (linux/mqueue.h, `MQ_BYTES_MAX`).
const MESSAGE_QUEUE_BYTES: u64 = 819_200;
/// Signals that wait, timers included, which have one each.
const PENDING_SIGNALS: u64 = 16_384;
/// Instances and watches of inotify in the sandbox's user namespace. They count for the user outside as well, whom the
/// kernel allows 128 instances (`fs.inotify.max_user_instances`): half of that.
const INOTIFY: [(&str, u64); 2] = [("max_inotify_instances", 64), ("max_inotify_watches", 32_768)];
/// Namespaces that nobody in the sandbox makes: the call filter refuses them, and here the kernel does.
const NAMESPACES: [&str; 7] = [
    "max_cgroup_namespaces",
    "max_ipc_namespaces",
    "max_mnt_namespaces",
    "max_net_namespaces",
    "max_pid_namespaces",
    "max_time_namespaces",
    "max_uts_namespaces",
];
/// The least `kernel.pid_max` (kernel/pid.c: `RESERVED_PIDS` and one more).
const PID_MAX_LEAST: u64 = 301;

/// Makes this process, and all that descend from it, what a replay is: first to go when memory runs out, behind everybody
/// when CPUs are short, and never real-time. To be called by a single-threaded process before it
/// enters any namespace: later `/proc` is not its own any more.
///
/// # Errors
/// When the kernel refuses one of these: the replay would be a danger to the host.
pub(crate) fn take_on(limits: &Limits) -> Result<(), SandboxError> {
    let fail =
        |what: &'static str, subject: &str, error: io::Error| SandboxError::build(what, subject, error);
    fs::write("/proc/self/oom_score_adj", OOM_FIRST).map_err(|error| {
        fail("let the OOM killer take the replay first", "/proc/self/oom_score_adj", error)
    })?;
    let normal = libc::sched_param { sched_priority: 0 };
    // SAFETY: reads one structure; 0 is this process.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const normal) };
    nix::Error::result(set)
        .map_err(|errno| fail("leave real-time scheduling", "sched_setscheduler", errno.into()))?;
    // SAFETY: integers only; 0 is this process.
    let now = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // SAFETY: as above.
    let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, (now + NICE).min(19)) };
    nix::Error::result(set).map_err(|errno| fail("lower the priority", "setpriority", errno.into()))?;
    for (resource, most) in everywhere(limits) {
        lower(resource, most, most).map_err(|error| fail("lower a resource limit", "prlimit64", error))?;
    }
    Ok(())
}

/// Resource limits of every process of a replay: number, the most. (uapi/asm-generic/resource.h)
fn everywhere(limits: &Limits) -> [(u32, u64); 5] {
    [
        (libc::RLIMIT_RTPRIO, 0),
        (libc::RLIMIT_NICE, 0),
        (libc::RLIMIT_MSGQUEUE, MESSAGE_QUEUE_BYTES),
        (libc::RLIMIT_SIGPENDING, PENDING_SIGNALS),
        (libc::RLIMIT_MEMLOCK, limits.memory.limit),
    ]
}

/// Lowers a resource limit of this process as far as wanted; what is lower already stays. Returns the soft limit now.
fn lower(resource: u32, soft: u64, hard: u64) -> io::Result<u64> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one rlimit structure.
    nix::Error::result(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, 0_u64, &raw mut now) })?;
    let max = hard.min(now.rlim_max);
    let new = libc::rlimit { rlim_cur: soft.min(max), rlim_max: max };
    // SAFETY: reads one rlimit structure.
    nix::Error::result(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const new, 0_u64) })?;
    Ok(new.rlim_cur)
}

/// Bounds what the sandbox's namespaces count. To be called by init, where `/proc` is still the host's. Kernels that do
/// not count one of these have other bounds (`RLIMIT_NPROC`, the cgroup); none of them is required.
pub(crate) fn bound_namespaces(limits: &Limits) {
    for name in NAMESPACES {
        let _ = fs::write(format!("/proc/sys/user/{name}"), "0");
    }
    for (name, most) in INOTIFY {
        let at = format!("/proc/sys/user/{name}");
        let now = fs::read_to_string(&at).ok().and_then(|text| text.trim().parse::<u64>().ok());
        if now.is_some_and(|now| now > most) {
            let _ = fs::write(at, most.to_string());
        }
    }
    // Since Linux 6.14 each PID namespace has its own; before, root of the host would change the host's here. Ids are
    // not used again at once: twice as many as tasks.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if map.split_whitespace().nth(1) == Some("0") {
        return;
    }
    let ids = limits.tasks.limit.saturating_mul(2).max(PID_MAX_LEAST);
    let now =
        fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    if now.is_some_and(|now| now > ids) {
        let _ = fs::write("/proc/sys/kernel/pid_max", ids.to_string());
    }
}

/// Sets resource limits: the recorded ones (number → soft, hard) as far as possible, and the sandbox's own bounds.
/// `counted`: a cgroup bounds the tasks. Returns what could not be set.
///
/// `RLIMIT_AS` and `RLIMIT_DATA` count what is mapped, not what is touched: programs map far more than they ever have,
/// and so does the worker. Memory is bounded by what is charged or sampled instead.
pub(crate) fn set_limits(
    recorded: &BTreeMap<u32, (u64, u64)>,
    limits: &Limits,
    counted: bool,
) -> Vec<String> {
    let own = [
        // Where there is a cgroup its own limit comes first, and counts who was refused.
        (
            libc::RLIMIT_NPROC,
            limits.tasks.limit.saturating_add(if counted { 2 * ENGINE_TASKS + PRESSER_TASKS } else { 0 }),
        ),
        (libc::RLIMIT_NOFILE, limits.descriptors.limit),
        (libc::RLIMIT_FSIZE, FILE_BYTES),
    ];
    let mut wanted = recorded.clone();
    // Of core dumps the limit is the same for all (see `confine`).
    wanted.remove(&libc::RLIMIT_CORE);
    for (resource, most) in own {
        wanted.entry(resource).or_insert((most, most));
    }
    for (resource, most) in own.into_iter().chain(everywhere(limits)) {
        if let Some((soft, hard)) = wanted.get_mut(&resource) {
            (*soft, *hard) = ((*soft).min(most), (*hard).min(most));
        }
    }
    let mut problems = Vec::new();
    for (resource, (soft, hard)) in wanted {
        match lower(resource, soft, hard) {
            // A bound of the sandbox's own that the host keeps lower anyway is no problem.
            Ok(now) if now < soft && recorded.contains_key(&resource) => {
                problems.push(format!("resource limit {resource}: {soft} wanted, {now} possible"));
            }
            Ok(_) => {}
            Err(error) => problems.push(format!("resource limit {resource}: {error}")),
        }
    }
    problems
}
