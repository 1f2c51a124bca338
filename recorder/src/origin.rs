//! Where the tasks of recorded cgroups come from: the application, the runtime that starts it, or somebody who came in
//! later (`kubectl exec`, `ctr exec`, a process moved by hand).
//!
//! While recording, moves into a cgroup tell: whoever comes before any program of the container has begun is the runtime's
//! (`runc init`), whoever comes later is from outside, and what is forked is as its parent. Of processes that were there
//! before the recording, `/proc` tells as much: who entered the container's PID namespace after its first process did.

use crate::proc;
use ctrace_format::Origin;
use rustc_hash::FxHashSet;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;

/// Programs that start containers.
const RUNTIMES: [&str; 5] = ["runc", "crun", "youki", "runsc", "kata-runtime"];

/// Which of a task's origins is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) origin: Option<Origin>,
    /// It came into a cgroup of which is not known yet whose it is.
    pub(crate) undecided: bool,
}

/// Groups in which a program has begun.
#[derive(Default)]
pub(crate) struct Groups(FxHashSet<u32>);

impl Groups {
    pub(crate) fn begins(&mut self, group: u32) {
        self.0.insert(group);
    }

    /// Decides of a task of which it was not known into whose group it came.
    pub(crate) fn decide(&self, came: &mut Came, group: u32) {
        if std::mem::take(&mut came.undecided) && came.origin.is_none() {
            came.origin = self.arrival(group);
        }
    }

    /// Of a task that comes into a group.
    pub(crate) fn arrival(&self, group: u32) -> Option<Origin> {
        (group != 0).then(|| if self.0.contains(&group) { Origin::Outside } else { Origin::Runtime })
    }
}

/// Whether a task that executes this is the runtime still: it executes itself once more, by a descriptor, so that nobody can
/// change it under way.
pub(crate) fn is_runtime_again(filename: &[u8]) -> bool {
    filename.starts_with(b"/proc/self/") || filename.starts_with(b"/dev/fd/")
}

/// Whether a task has a name by which runtimes prepare containers: `runc:[2:INIT]`.
pub(crate) fn is_runtime_name(comm: &[u8]) -> bool {
    RUNTIMES.iter().any(|runtime| {
        let rest = comm.strip_prefix(runtime.as_bytes());
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b':')))
    })
}

/// Whether a process runs the program of a container runtime.
pub(crate) fn runs_runtime(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| is_runtime(&exe))
}

fn is_runtime(exe: &Path) -> bool {
    let name = exe.file_name().and_then(OsStr::to_str).unwrap_or_default();
    // A copy in memory: `memfd:runc_cloned:/proc/self/exe (deleted)`.
    let copy = exe.to_str().and_then(|exe| exe.strip_prefix("/memfd:")).unwrap_or_default();
    RUNTIMES.iter().any(|runtime| name == *runtime || copy.starts_with(runtime))
}

/// A process of a cgroup.
struct Process {
    parent: u32,
    start_ticks: u64,
    /// Its parent is in a PID namespace around its own: it was put into it (`setns`), or is the first in it.
    entered: bool,
}

/// Those of a cgroup's processes that came in from outside, and what descends from them.
pub(crate) fn outsiders(processes: &[u32]) -> BTreeSet<u32> {
    let all = processes.iter().filter_map(|pid| {
        let stat = proc::process_stat(*pid)?;
        let entered = depth(stat.parent) < depth(*pid);
        Some((*pid, Process { parent: stat.parent, start_ticks: stat.start_ticks, entered }))
    });
    others(&all.collect())
}

/// How many PID namespaces a process is in, one in another.
fn depth(pid: u32) -> usize {
    proc::status_field(pid, "NSpid").map_or(0, |ids| ids.split_ascii_whitespace().count())
}

/// Those that descend from one that entered when the first process, the application's, was there. In the host's PID
/// namespace nobody enters: nothing is told then.
fn others(all: &BTreeMap<u32, Process>) -> BTreeSet<u32> {
    let Some((first, _)) = all.iter().min_by_key(|(pid, process)| (process.start_ticks, **pid)) else {
        return BTreeSet::new();
    };
    let is_outside = |mut pid: u32| {
        for _ in 0..all.len() {
            match all.get(&pid) {
                Some(process) if process.entered => return pid != *first,
                Some(process) => pid = process.parent,
                // An orphan that the pod's first process has adopted.
                None => break,
            }
        }
        false
    };
    all.keys().copied().filter(|pid| is_outside(*pid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_entered_a_running_container_came_from_outside_and_so_did_its_children() {
        let of = |parent, start_ticks, entered| Process { parent, start_ticks, entered };
        let mut all = BTreeMap::from([
            (10, of(3, 1, true)),
            (11, of(10, 2, false)),
            // An orphan.
            (12, of(2, 3, false)),
            (20, of(3, 9, true)),
            (21, of(20, 9, false)),
        ]);
        assert_eq!(others(&all), BTreeSet::from([20, 21]));
        for process in all.values_mut() {
            process.entered = false;
        }
        assert_eq!(others(&all), BTreeSet::new());
    }

    #[test]
    fn the_runtimes_program_is_known_and_so_is_its_copy() {
        for exe in ["/usr/sbin/runc", "/memfd:runc_cloned:/proc/self/exe (deleted)", "/usr/bin/crun"] {
            assert!(is_runtime(Path::new(exe)), "{exe}");
        }
        assert!(
            !is_runtime(Path::new("/usr/bin/redis-server")) && !is_runtime(Path::new("/memfd:x (deleted)"))
        );
        assert!(is_runtime_name(b"runc:[2:INIT]") && is_runtime_name(b"crun"));
        assert!(!is_runtime_name(b"runcible") && !is_runtime_name(b"sh"));
        assert!(is_runtime_again(b"/proc/self/exe") && is_runtime_again(b"/proc/self/fd/7"));
        assert!(!is_runtime_again(b"/bin/sh"));
    }

    #[test]
    fn whoever_comes_before_a_program_begins_is_the_runtimes() {
        let mut groups = Groups::default();
        assert_eq!((groups.arrival(0), groups.arrival(3)), (None, Some(Origin::Runtime)));
        groups.begins(3);
        assert_eq!((groups.arrival(3), groups.arrival(4)), (Some(Origin::Outside), Some(Origin::Runtime)));
    }
}
