//! What is recorded: resolving a target, and taking its tasks into the kernel's table without missing one.

use crate::aside;
use crate::error::RecordError;
use crate::origin;
use crate::proc;
use crate::table::Table;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What to record.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Target {
    /// A process, its threads, and its descendants, those it has and those to come. Ends when none of them is left.
    Pid(u32),
    /// A cgroup and those below it: an absolute path, or one relative to a cgroup mount.
    Cgroup(PathBuf),
    /// A pod of this node, by its name or the beginning of it: all its containers, those that appear included. Ends
    /// when the pod does.
    Pod {
        /// The name.
        name: String,
        /// Its namespace, where the name is not enough.
        namespace: Option<String>,
        /// Only its containers of this name.
        container: Option<String>,
    },
    /// A container, by its id or the beginning of it, or by its name in a pod. Ends with it; by name, with its pod.
    Container(String),
    /// A command to start. Its first `execve` is recorded, and everything after it. Ends when it exits.
    Command(Command),
}

/// A command to start and record.
#[derive(Debug, Clone)]
pub struct Command {
    /// The program and its arguments; a program without a slash is looked up in `PATH`.
    pub argv: Vec<OsString>,
    /// Give it a process group of its own, so that a terminal's Ctrl-C does not reach it.
    pub own_group: bool,
    /// Signals that it ignores from its start on.
    pub ignored: Vec<i32>,
    /// The trace goes to standard output: what the command prints there goes to standard error.
    pub output_is_data: bool,
}

impl Command {
    /// A command in the recorder's process group.
    pub fn new<I: IntoIterator<Item = S>, S: Into<OsString>>(argv: I) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self { argv, own_group: false, ignored: Vec::new(), output_is_data: false }
    }
}

/// A task that was taken in.
pub(crate) struct Member {
    pub(crate) tid: u32,
    pub(crate) tgid: u32,
    pub(crate) comm: Vec<u8>,
    /// The group of the scope that it is in; 0 for a scope without cgroups.
    pub(crate) group: u32,
    /// When it began, `CLOCK_BOOTTIME`, to a clock tick.
    pub(crate) start_boottime_ns: u64,
    /// Page faults so far: minor, major.
    pub(crate) faults: [u64; 2],
    /// It is in a group, and runs the program of a container runtime. Asked where that may be known.
    pub(crate) is_runtime: bool,
}

/// A thread that lives.
pub(crate) fn member(tgid: u32, tid: u32, group: u32) -> Option<Member> {
    let stat = proc::stat(tgid, tid).filter(|s| !s.exiting)?;
    let start_boottime_ns = stat.start_ticks.saturating_mul(crate::sample::tick_ns());
    Some(Member {
        tid,
        tgid,
        comm: stat.comm,
        group,
        start_boottime_ns,
        faults: [stat.counters[0], stat.counters[1]],
        is_runtime: group != 0 && origin::runs_runtime(tgid),
    })
}

/// Passes over the processes of a scope, at most: each finds fewer new ones, but for a scope that makes processes faster
/// than they can be taken in.
const MOST_PASSES: u32 = 100;

/// The tasks that were taken in, and whether those were all.
pub(crate) struct Admitted {
    pub(crate) members: Vec<Member>,
    pub(crate) complete: bool,
}

/// What is said when they were not all.
pub(crate) fn not_all(group: u32) -> String {
    let of = if group == 0 { String::new() } else { format!(" of group {group}") };
    format!("all processes{of}: new ones came faster than they could be taken in")
}

/// Takes every thread of the processes that `list` names into the table. Threads that appear meanwhile are either started
/// by a thread that is in the table (the fork program takes them in) or found by the next pass; passes go on until one
/// finds nothing new.
pub(crate) fn admit_processes(
    table: &Table,
    list: &dyn Fn() -> Vec<u32>,
    held: bool,
    group: u32,
) -> Admitted {
    let own = std::process::id();
    let mut members = Vec::new();
    let mut seen = BTreeSet::new();
    for _ in 0..MOST_PASSES {
        let before = members.len();
        for tgid in list() {
            if tgid == own || aside::is_one(tgid) {
                continue;
            }
            for tid in proc::threads(tgid) {
                if table.is_recorded(tid) || !seen.insert(tid) {
                    continue;
                }
                let Some(member) = member(tgid, tid, group) else { continue };
                table.admit(tid, tgid, held, member.faults);
                // It may have exited between the look and the entry; a later task of the same id is not ours.
                if proc::stat(tgid, tid).is_none_or(|s| s.exiting) {
                    table.expel(tid);
                    continue;
                }
                members.push(member);
            }
        }
        if members.len() == before {
            return Admitted { members, complete: true };
        }
    }
    Admitted { members, complete: false }
}

/// A process and its present descendants.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, proc::process_stat(pid)?.parent)))
        .collect();
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    tree
}

/// Checks that this process's ids are those that the programs see: the kernel tells them the ids of the initial PID
/// namespace, `/proc` those of the recorder's own.
pub(crate) fn check_namespace() -> Result<(), RecordError> {
    // PROC_PID_INIT_INO, include/linux/proc_ns.h.
    const INITIAL: &str = "pid:[4026531836]";
    match std::fs::read_link("/proc/self/ns/pid") {
        Ok(link) if link.as_os_str() != INITIAL => Err(RecordError::KernelLacks {
            what: "the same process ids for the recorder and its programs: it runs in a PID namespace of its own".into(),
            fix: "run it on the host, or in a container with the host's PID namespace (--pid=host, hostPID: true)".into(),
        }),
        _ => Ok(()),
    }
}

/// Checks that a process exists and has not ended.
pub(crate) fn check_process(pid: u32) -> Result<(), RecordError> {
    let target = format!("process {pid}");
    if !Path::new(&format!("/proc/{pid}")).exists() {
        return Err(RecordError::TargetNotFound { target, hint: format!("/proc/{pid} does not exist") });
    }
    match proc::status_field(pid, "Tgid").and_then(|t| t.parse::<u32>().ok()) {
        Some(tgid) if tgid != pid => {
            return Err(RecordError::TargetNotFound {
                target,
                hint: format!("{pid} is a thread of process {tgid}; use -p {tgid}"),
            });
        }
        _ => {}
    }
    if proc::stat(pid, pid).is_none_or(|s| s.exiting) {
        return Err(RecordError::TargetExited { target });
    }
    Ok(())
}
