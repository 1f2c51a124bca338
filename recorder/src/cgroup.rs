//! Finding a cgroup, v1 or v2, and its processes; and the container that a cgroup is of, by its name.

use crate::btf::Kernel;
use crate::error::RecordError;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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

#[derive(Debug, Clone)]
struct Mount {
    at: PathBuf,
    version: u8,
    controllers: Vec<String>,
}

/// A hierarchy of cgroups. Where there are several, containers are in all of them; the scope is a set in one.
#[derive(Debug, Clone)]
pub(crate) struct Hierarchy {
    mount: Mount,
    /// As `/proc/PID/cgroup` and the kernel number it; 0 is v2's.
    number: u32,
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

/// A line of `/proc/PID/cgroup`.
struct Membership<'a> {
    number: u32,
    controllers: &'a str,
    path: &'a str,
}

fn memberships(text: &str) -> impl Iterator<Item = Membership<'_>> {
    text.lines().filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some(Membership { number: number.parse().ok()?, controllers, path })
    })
}

/// v1 controllers, those that container runtimes always use first.
const PREFERRED: &[&str] = &["memory", "cpu", "pids", "cpuacct", "blkio", "freezer", "devices", "cpuset"];

impl Hierarchy {
    /// The hierarchy to look for a container in, given what `/proc/PID/cgroup` says of one of its processes: v2, if
    /// the process is in a group of its own there.
    pub(crate) fn of(membership: &str) -> Option<Self> {
        let mounts = mounts();
        let in_v2 = memberships(membership).any(|m| m.number == 0 && m.path != "/");
        if in_v2 && let Some(mount) = mounts.iter().find(|m| m.version == 2) {
            return Some(Self { mount: mount.clone(), number: 0 });
        }
        PREFERRED.iter().find_map(|controller| {
            let member = memberships(membership)
                .find(|m| m.path != "/" && m.controllers.split(',').any(|c| c == *controller))?;
            let mount =
                mounts.iter().find(|m| m.version == 1 && m.controllers.iter().any(|c| c == controller))?;
            Some(Self { mount: mount.clone(), number: member.number })
        })
    }

    /// The number by which the kernel knows it.
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    /// The path of a process' group in it.
    pub(crate) fn path<'a>(&self, membership: &'a str) -> Option<&'a str> {
        memberships(membership).find(|m| m.number == self.number).map(|m| m.path)
    }

    /// A cgroup by its path in the hierarchy. `None`: it is not there (any more).
    pub(crate) fn group(&self, path: &str) -> Option<Cgroup> {
        let folder = self.mount.at.join(path.trim_start_matches('/'));
        let found = fs::metadata(&folder).ok().filter(fs::Metadata::is_dir)?;
        Some(Cgroup::new(&self.mount, folder, found.ino()))
    }

    /// As [`Hierarchy::group`], of one that may not be visible yet: its identity is known.
    pub(crate) fn new_group(&self, path: &str, id: u64) -> Cgroup {
        Cgroup::new(&self.mount, self.mount.at.join(path.trim_start_matches('/')), id)
    }
}

/// The mount point of the v2 hierarchy, looked up once.
fn v2_mount() -> Option<&'static Mount> {
    static MOUNT: OnceLock<Option<Mount>> = OnceLock::new();
    MOUNT.get_or_init(|| mounts().into_iter().find(|m| m.version == 2)).as_ref()
}

/// Where the v1 hierarchy of a controller is mounted. Looked up once: hierarchies do not change while a host runs.
fn v1_mount(controller: &str) -> Option<&'static Mount> {
    static MOUNTS: OnceLock<Vec<Mount>> = OnceLock::new();
    let all = MOUNTS.get_or_init(mounts);
    all.iter().find(|m| m.version == 1 && m.controllers.iter().any(|c| c == controller))
}

/// The group of a controller that a process is in, and those above it, from the inside out; and the version of the
/// hierarchy. Of what `/proc/PID/cgroup` says.
fn groups_of(membership: &str, controller: &str) -> (u8, Vec<PathBuf>) {
    let above = |at: &Path, path: &str| {
        let folder = at.join(path.trim_start_matches('/'));
        folder.ancestors().take_while(|f| f.starts_with(at)).map(Path::to_owned).collect()
    };
    let v1 = v1_mount(controller).and_then(|mount| {
        let of = memberships(membership).find(|m| m.controllers.split(',').any(|c| c == controller))?;
        Some((1, above(&mount.at, of.path)))
    });
    let v2 = || {
        let of = memberships(membership).find(|m| m.number == 0)?;
        Some((2, above(&v2_mount()?.at, of.path)))
    };
    v1.or_else(v2).unwrap_or_default()
}

/// The files that hold the memory limits of a process: of its group, and of those above it.
pub(crate) fn memory_limits(membership: &str) -> impl Iterator<Item = PathBuf> {
    let (version, folders) = groups_of(membership, "memory");
    let file = if version == 1 { "memory.limit_in_bytes" } else { "memory.max" };
    folders.into_iter().map(move |folder| folder.join(file))
}

/// CPU time that a quota allows in each of its periods, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) allowed_ns: u64,
    pub(crate) period_ns: u64,
}

impl Quota {
    /// The quota of `cpu.max` (v2); `None`: no quota.
    pub(crate) fn of_v2(text: &str) -> Option<Self> {
        let (allowed, period) = text.trim().split_once(' ')?;
        Self::of_us(allowed.parse().ok()?, period.parse().ok()?)
    }

    /// The quota of `cpu.cfs_quota_us` and `cpu.cfs_period_us` (v1); `None`: no quota.
    pub(crate) fn of_v1(allowed: &str, period: &str) -> Option<Self> {
        Self::of_us(allowed.trim().parse().ok()?, period.trim().parse().ok()?)
    }

    fn of_us(allowed: i64, period: i64) -> Option<Self> {
        let ns = |us: i64| u64::try_from(us).ok().filter(|us| *us > 0)?.checked_mul(1_000);
        Some(Self { allowed_ns: ns(allowed)?, period_ns: ns(period)? })
    }

    /// The quota of a folder with the files of the CPU controller.
    pub(crate) fn read(version: u8, folder: &Path) -> Option<Self> {
        let text = |file| fs::read_to_string(folder.join(file)).unwrap_or_default();
        if version == 1 {
            Self::of_v1(&text("cpu.cfs_quota_us"), &text("cpu.cfs_period_us"))
        } else {
            Self::of_v2(&text("cpu.max"))
        }
    }

    /// Whether it allows less than another.
    fn is_below(self, other: Self) -> bool {
        u128::from(self.allowed_ns) * u128::from(other.period_ns)
            < u128::from(other.allowed_ns) * u128::from(self.period_ns)
    }
}

/// The group that holds a process back most: of its own and those above it, the one with the smallest quota; the version
/// of its hierarchy, and its folder. `None`: none has one.
pub(crate) fn tightest_quota(membership: &str) -> Option<(u8, PathBuf, Quota)> {
    let (version, folders) = groups_of(membership, "cpu");
    let with = folders.into_iter().filter_map(|folder| Some((Quota::read(version, &folder)?, folder)));
    let least = with.reduce(|least, next| if next.0.is_below(least.0) { next } else { least });
    least.map(|(quota, folder)| (version, folder, quota))
}

/// What `/proc/PID/cgroup` says; empty when the process is gone.
pub(crate) fn membership(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

/// The container that a component of a cgroup's path is of, by the naming of the runtimes:
/// `cri-containerd-ID.scope`, `crio-ID.scope`, `docker-ID.scope`, `libpod-ID.scope`, or `ID` itself. An id has 64
/// hexadecimal digits.
pub(crate) fn container_id(component: &str) -> Option<&str> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let id = name.rsplit_once('-').map_or(name, |(_, id)| id);
    // A podman container's conmon has a cgroup of its own, with the same id.
    let is_helper = ["conmon-", "-conmon-"].iter().any(|helper| name.contains(helper));
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) && !is_helper).then_some(id)
}

/// Whether a component of a cgroup's path is the group of a whole pod: `podUID`, or `kubepods-…-podUID.slice` with
/// underscores in the uid.
pub(crate) fn is_pod(component: &str, uid: &str) -> bool {
    let name = component.strip_suffix(".slice").unwrap_or(component);
    !uid.is_empty()
        && name.rsplit_once("pod").is_some_and(|(_, found)| found == uid || found == uid.replace('-', "_"))
}

/// Every container that some process is in, by the names of cgroups alone: id → a process.
pub(crate) fn containers_of_processes() -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for pid in crate::proc::numbers("/proc") {
        let text = membership(pid);
        for member in memberships(&text) {
            for component in member.path.split('/') {
                if let Some(id) = container_id(component) {
                    found.entry(id.to_owned()).or_insert(pid);
                }
            }
        }
    }
    found
}

/// A process in a cgroup whose last component is this name: a container of a runtime that lets people choose ids.
pub(crate) fn process_in_group_named(name: &str) -> Option<u32> {
    crate::proc::numbers("/proc")
        .into_iter()
        .find(|pid| memberships(&membership(*pid)).any(|m| m.path.rsplit('/').next() == Some(name)))
}

/// The path up to and including the component that is a container's.
pub(crate) fn up_to_container<'a>(path: &'a str, id: &str) -> Option<&'a str> {
    let mut begin = 0;
    for component in path.split('/') {
        let end = begin + component.len();
        if component == id || container_id(component) == Some(id) {
            return path.get(..end);
        }
        begin = end + 1;
    }
    None
}

impl Cgroup {
    fn new(mount: &Mount, folder: PathBuf, id: u64) -> Self {
        Self {
            below: folder.strip_prefix(&mount.at).unwrap_or(&folder).to_owned(),
            path: folder,
            version: mount.version,
            controllers: mount.controllers.clone(),
            id,
        }
    }

    /// The group above it.
    pub(crate) fn parent(&self) -> Option<Self> {
        let folder = self.path.parent()?.to_owned();
        let below = self.below.parent()?.to_owned();
        let id = fs::metadata(&folder).ok()?.ino();
        Some(Self { path: folder, below, id, ..self.clone() })
    }

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
            // Neither `..` nor a link leads out of the hierarchy: its files are read with more rights than the caller's.
            if let Ok(folder) = fs::canonicalize(&folder)
                && folder.starts_with(&mount.at)
                && let Ok(found) = fs::metadata(&folder)
                && found.is_dir()
                && folder.join("cgroup.procs").exists()
            {
                return Ok(Self::new(mount, folder, found.ino()));
            }
        }
        let tried: Vec<String> = mounts.iter().map(|m| m.at.display().to_string()).collect();
        Err(not_found(format!("looked below {}", tried.join(", "))))
    }

    /// A file of a v1 controller of the same group: its own, or at the same path in the controller's hierarchy, since
    /// container runtimes use one path for all. On a hybrid host a v2 folder has files of the same names, and nothing in
    /// them of controllers that are in v1. `None`: the controller is in no v1 hierarchy.
    pub(crate) fn v1_file(&self, controller: &str, file: &str) -> Option<PathBuf> {
        if self.version == 1 && self.controllers.iter().any(|c| c == controller) {
            return Some(self.path.join(file));
        }
        let mount = v1_mount(controller)?;
        Some(mount.at.join(&self.below).join(file))
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
    fn containers_are_known_by_the_names_of_their_cgroups() {
        let id = "0123456789abcdef".repeat(4);
        for name in ["", "cri-containerd-", "crio-", "docker-", "libpod-"] {
            assert_eq!(container_id(&format!("{name}{id}.scope")), Some(id.as_str()), "{name}");
        }
        assert_eq!(container_id(&id), Some(id.as_str()));
        for other in ["crio-conmon-", "libpod-conmon-"] {
            assert_eq!(container_id(&format!("{other}{id}.scope")), None, "{other}");
        }
        assert_eq!(container_id("system.slice"), None);
        assert_eq!(container_id(&id[1..]), None);
        let path = format!("/kubepods/burstable/podx/{id}/inner");
        assert_eq!(up_to_container(&path, &id), Some(&path[..path.len() - 6]));
        assert_eq!(up_to_container("/k8s.io/web/x", "web"), Some("/k8s.io/web"));
        assert_eq!(up_to_container("/a/b", "web"), None);
    }

    #[test]
    fn the_group_of_a_pod_has_its_uid() {
        let uid = "aa-bb";
        assert!(is_pod("podaa-bb", uid) && is_pod("kubepods-burstable-podaa_bb.slice", uid));
        assert!(!is_pod("podaa-bc", uid) && !is_pod("k8s.io", uid) && !is_pod("pod", ""));
    }

    #[test]
    fn memberships_are_read() {
        let text = "9:name=systemd:/x\n4:cpu,cpuacct:/k8s.io/a:b\n0::/\n";
        let all: Vec<_> = memberships(text).map(|m| (m.number, m.controllers, m.path)).collect();
        assert_eq!(all, [(9, "name=systemd", "/x"), (4, "cpu,cpuacct", "/k8s.io/a:b"), (0, "", "/")]);
    }

    #[test]
    fn quotas_are_read_and_compared() {
        let fifth = Quota { allowed_ns: 20_000_000, period_ns: 100_000_000 };
        assert_eq!(Quota::of_v2("20000 100000\n"), Some(fifth));
        assert_eq!(Quota::of_v1("20000\n", "100000\n"), Some(fifth));
        assert_eq!((Quota::of_v2("max 100000"), Quota::of_v1("-1", "100000")), (None, None));
        let third = Quota { allowed_ns: 10_000_000, period_ns: 30_000_000 };
        assert!(fifth.is_below(third) && !third.is_below(fifth) && !fifth.is_below(fifth));
    }

    #[test]
    fn an_unknown_cgroup_says_where_it_was_looked_for() {
        let Err(RecordError::TargetNotFound { target, .. }) = Cgroup::find(Path::new("no/such/group")) else {
            panic!("found");
        };
        assert_eq!(target, "cgroup no/such/group");
    }

    #[test]
    fn no_path_leads_out_of_the_hierarchy() {
        let Some(mount) = mounts().pop() else {
            eprintln!("skipped: no cgroup file system is mounted");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.procs"), "1\n").unwrap();
        let up = "../".repeat(mount.at.components().count());
        let path = mount.at.join(up).join(dir.path().strip_prefix("/").unwrap());
        assert!(path.join("cgroup.procs").exists());
        assert!(matches!(Cgroup::find(&path), Err(RecordError::TargetNotFound { .. })));
    }
}
