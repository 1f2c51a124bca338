//! Finding a cgroup, v1 or v2, and its processes.

use crate::btf::Kernel;
use crate::error::RecordError;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A cgroup that exists.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    /// Its folder.
    pub(crate) path: PathBuf,
    /// Its path below the mount of its hierarchy.
    pub(crate) below: PathBuf,
    /// 1 or 2.
    pub(crate) version: u8,
    /// v1: the controllers of its hierarchy.
    controllers: Vec<String>,
    /// `kernfs_node.id`: the inode number of the folder, on 64-bit machines (fs/kernfs, `kernfs_ino`).
    pub(crate) id: u64,
}

struct Mount {
    at: PathBuf,
    version: u8,
    controllers: Vec<String>,
}

fn mounts() -> Vec<Mount> {
    parse_mounts(&fs::read_to_string("/proc/self/mounts").unwrap_or_default())
}

fn parse_mounts(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let f: Vec<&str> = line.split(' ').collect();
            let version = match *f.get(2)? {
                "cgroup" => 1,
                "cgroup2" => 2,
                _ => return None,
            };
            let controllers = f.get(3)?.split(',').map(str::to_owned).collect();
            Some(Mount { at: PathBuf::from(f[1]), version, controllers })
        })
        .collect()
}

impl Cgroup {
    /// Finds a cgroup by an absolute path, or by one below the mount of a hierarchy (v2 first).
    pub(crate) fn find(path: &Path) -> Result<Self, RecordError> {
        let mut mounts = mounts();
        mounts.sort_by_key(|m| std::cmp::Reverse((m.version, m.at.as_os_str().len())));
        let not_found =
            |hint: String| RecordError::TargetNotFound { target: format!("cgroup {}", path.display()), hint };
        if mounts.is_empty() {
            return Err(not_found("no cgroup file system is mounted".into()));
        }
        for mount in &mounts {
            let folder = if path.starts_with(&mount.at) {
                path.to_owned()
            } else {
                mount.at.join(path.strip_prefix("/").unwrap_or(path))
            };
            if let Ok(found) = fs::metadata(&folder)
                && found.is_dir()
                && folder.join("cgroup.procs").exists()
            {
                return Ok(Self {
                    below: folder.strip_prefix(&mount.at).unwrap_or(&folder).to_owned(),
                    path: folder,
                    version: mount.version,
                    controllers: mount.controllers.clone(),
                    id: found.ino(),
                });
            }
        }
        let tried: Vec<String> = mounts.iter().map(|m| m.at.display().to_string()).collect();
        Err(not_found(format!("looked below {}", tried.join(", "))))
    }

    /// v1: index of a controller of its hierarchy in `css_set.subsys` (`enum cgroup_subsys_id`).
    pub(crate) fn subsystem(&self, kernel: &Kernel) -> Option<u32> {
        self.controllers.iter().find_map(|name| {
            let name = if name == "blkio" { "io" } else { name };
            kernel.enumerator("cgroup_subsys_id", &format!("{name}_cgrp_id"))
        })
    }

    /// Processes in it and below it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut out = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            if let Ok(text) = fs::read_to_string(folder.join("cgroup.procs")) {
                out.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()));
            }
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    folders.push(entry.path());
                }
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_both_versions_are_found() {
        let text = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu,cpuacct 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let mounts = parse_mounts(text);
        assert_eq!(mounts.iter().map(|m| m.version).collect::<Vec<_>>(), [1, 2]);
        assert!(mounts[0].controllers.contains(&"cpuacct".to_owned()));
    }

    #[test]
    fn an_unknown_cgroup_says_where_it_was_looked_for() {
        let Err(RecordError::TargetNotFound { target, .. }) = Cgroup::find(Path::new("no/such/group")) else {
            panic!("found");
        };
        assert_eq!(target, "cgroup no/such/group");
    }
}
