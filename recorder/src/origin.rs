//! Where the tasks of recorded cgroups come from: the application, the runtime that starts it, or somebody who came in
//! later (`kubectl exec`, `ctr exec`, a process moved by hand).
//!
//! While recording, moves into a cgroup tell: whoever comes before any program of the container has begun is the runtime's
//! (`runc init`), whoever comes later is from outside, and what is forked is as its parent. Of processes that were there
//! before the recording, `/proc` tells as much: a container's first process is the first of its PID namespace, and all that
//! the application is descends from it.

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

/// Those of a cgroup's processes that came in from outside, and what descends from them.
pub(crate) fn outsiders(processes: &[u32]) -> BTreeSet<u32> {
    let stats: BTreeMap<u32, (u32, u64)> = processes
        .iter()
        .filter_map(|pid| Some((*pid, proc::process_stat(*pid)?)))
        .map(|(pid, stat)| (pid, (stat.parent, stat.start_ticks)))
        .collect();
    let oldest = stats.iter().min_by_key(|(pid, (_, start))| (*start, **pid)).map(|(pid, _)| *pid);
    match oldest {
        // Elsewhere, whoever adopts orphans may be outside.
        Some(oldest) if is_first_of_its_namespace(oldest) => others(&stats, oldest),
        _ => BTreeSet::new(),
    }
}

/// Those that do not descend from the first.
fn others(stats: &BTreeMap<u32, (u32, u64)>, first: u32) -> BTreeSet<u32> {
    let descends = |mut pid: u32| {
        for _ in 0..=stats.len() {
            if pid == first {
                return true;
            }
            match stats.get(&pid) {
                Some((parent, _)) => pid = *parent,
                None => break,
            }
        }
        false
    };
    stats.keys().copied().filter(|pid| !descends(*pid)).collect()
}

fn is_first_of_its_namespace(pid: u32) -> bool {
    let ids = proc::status_field(pid, "NSpid").unwrap_or_default();
    let ids: Vec<&str> = ids.split_ascii_whitespace().collect();
    ids.len() > 1 && ids.last() == Some(&"1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_descend_from_the_first_came_from_outside() {
        let stats = [(10, (3, 1)), (11, (10, 2)), (12, (11, 3)), (20, (3, 9)), (21, (20, 9))].into();
        assert_eq!(others(&stats, 10), BTreeSet::from([20, 21]));
    }

    #[test]
    fn the_runtimes_program_is_known_and_so_is_its_copy() {
        for exe in ["/usr/sbin/runc", "/memfd:runc_cloned:/proc/self/exe (deleted)", "/usr/bin/crun"] {
            assert!(is_runtime(Path::new(exe)), "{exe}");
        }
        assert!(
            !is_runtime(Path::new("/usr/bin/redis-server")) && !is_runtime(Path::new("/memfd:x (deleted)"))
        );
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
