//! What this host has free, for one more program beside those that run: looked up, not guessed.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is free. `None`: nobody limits it, or nothing tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Free {
    /// Memory that could be had without swapping, bytes: the least of what the host has and what is left to each memory
    /// cgroup that ctrace is in.
    pub memory_bytes: Option<u64>,
    /// Tasks that could be started: by the host's numbers, by the pids cgroups that ctrace is in, and by its resource
    /// limit.
    pub tasks: Option<u64>,
    /// Descriptors that a process can have: the hard limit of ctrace itself.
    pub descriptors: Option<u64>,
}

/// The hierarchies of cgroups that ctrace is in and that can be seen here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hierarchies {
    /// Directory of ctrace's own cgroup and where the hierarchy is mounted, by controller; `""` is the unified one.
    by_controller: Vec<(String, PathBuf, PathBuf)>,
}

impl Hierarchies {
    /// Those of this process.
    pub(crate) fn own() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    /// From the text of `/proc/PID/cgroup` and `/proc/PID/mountinfo` (cgroups(7), proc(5)).
    fn parse(cgroup: &str, mountinfo: &str) -> Self {
        let mut mounts: Vec<(String, &str, &str)> = Vec::new();
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let mut fields = before.split(' ').skip(3);
            let (Some(root), Some(at)) = (fields.next(), fields.next()) else { continue };
            let mut kind = after.split(' ');
            match (kind.next(), kind.nth(1)) {
                (Some("cgroup2"), _) => mounts.push((String::new(), root, at)),
                (Some("cgroup"), Some(options)) => {
                    mounts.extend(options.split(',').map(|option| (option.to_owned(), root, at)));
                }
                _ => {}
            }
        }
        let mut this = Self::default();
        for line in cgroup.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            for name in names.split(',') {
                // What is mounted may be a part of the hierarchy: that of a container.
                let seen = mounts.iter().filter(|(option, ..)| option == name).find_map(|(_, root, at)| {
                    let inside = Path::new(path).strip_prefix(root).ok()?;
                    Some((Path::new(at).join(inside), PathBuf::from(at)))
                });
                if let Some((own, top)) = seen {
                    this.by_controller.push((name.to_owned(), own, top));
                }
            }
        }
        this
    }

    /// Hierarchies at these places: controller, own, top.
    #[cfg(test)]
    pub(crate) fn of(places: &[(&str, &Path, &Path)]) -> Self {
        let owned =
            |&(name, own, top): &(&str, &Path, &Path)| (name.to_owned(), own.to_owned(), top.to_owned());
        Self { by_controller: places.iter().map(owned).collect() }
    }

    /// Directory of ctrace's own cgroup and the top of the hierarchy, of a version 1 controller.
    pub(crate) fn v1(&self, controller: &str) -> Option<(&Path, &Path)> {
        self.by_controller
            .iter()
            .find(|(name, ..)| name == controller)
            .map(|(_, own, top)| (own.as_path(), top.as_path()))
    }

    /// The same of version 2.
    pub(crate) fn v2(&self) -> Option<(&Path, &Path)> {
        self.v1("")
    }

    /// The directory of ctrace's own cgroup and those above it, up to where the hierarchy is mounted.
    pub(crate) fn upwards<'a>(pair: Option<(&'a Path, &'a Path)>) -> impl Iterator<Item = &'a Path> {
        pair.into_iter().flat_map(|(own, top)| own.ancestors().take_while(move |at| at.starts_with(top)))
    }
}

/// A number in a file of a cgroup; `max` is none.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()?.trim_end_matches(':') == name).then(|| words.next()?.parse().ok())?
    })
}

/// Bytes left to a memory cgroup: page cache that nobody has used for a while counts as free.
fn left_of(limit: u64, used: u64, stat: &str) -> u64 {
    let reclaimable =
        field(stat, "total_inactive_file").or_else(|| field(stat, "inactive_file")).unwrap_or(0);
    limit.saturating_sub(used.saturating_sub(reclaimable))
}

fn least(values: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    values.into_iter().flatten().min()
}

impl Free {
    /// Looks.
    pub fn now() -> Self {
        let groups = Hierarchies::own();
        Self {
            memory_bytes: Gauge::of(&groups).look().map(|memory| memory.available),
            tasks: tasks(&groups),
            descriptors: descriptors(),
        }
    }
}

/// Tells how much memory is left, again and again: which cgroups bound ctrace is looked up once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Gauge {
    bounded: Vec<Bounded>,
    /// `memory.stat` of ctrace's own cgroup, and the name of the figure in it: the replay's shared memory is charged
    /// there, and nobody's outside.
    shared: Option<(PathBuf, &'static str)>,
}

/// A memory cgroup with a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bounded {
    limit: u64,
    used: PathBuf,
    stat: PathBuf,
}

/// What a [`Gauge`] shows, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// What could be had without swapping.
    pub(crate) available: u64,
    /// Shared memory in use, tmpfs and memfds included: of ctrace's own cgroup where it has one, of the host otherwise.
    pub(crate) shared: u64,
}

impl Gauge {
    pub(crate) fn own() -> Self {
        Self::of(&Hierarchies::own())
    }

    fn of(groups: &Hierarchies) -> Self {
        let mut this = Self::default();
        for (hierarchy, limit, used, shmem) in [
            (groups.v1("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_shmem"),
            (groups.v2(), "memory.max", "memory.current", "shmem"),
        ] {
            let bounded = Hierarchies::upwards(hierarchy).filter_map(|at| {
                // Version 1 says the largest number of pages where there is no limit.
                let limit = number(&at.join(limit)).filter(|limit| *limit < 1 << 60)?;
                Some(Bounded { limit, used: at.join(used), stat: at.join("memory.stat") })
            });
            this.bounded.extend(bounded);
            if let Some((own, top)) = hierarchy
                && own != top
                && fs::read_to_string(own.join("memory.stat")).is_ok_and(|stat| field(&stat, shmem).is_some())
            {
                this.shared = Some((own.join("memory.stat"), shmem));
            }
        }
        this
    }

    /// What it shows now; `None` without `/proc/meminfo`.
    pub(crate) fn look(&self) -> Option<Memory> {
        let host = fs::read_to_string("/proc/meminfo").ok()?;
        let bytes = |name| field(&host, name).map(|kib| kib.saturating_mul(1024));
        let groups = self.bounded.iter().filter_map(|group| {
            let stat = fs::read_to_string(&group.stat).unwrap_or_default();
            Some(left_of(group.limit, number(&group.used)?, &stat))
        });
        let available = bytes("MemAvailable").into_iter().chain(groups).min()?;
        let own = self.shared.as_ref().and_then(|(stat, name)| field(&fs::read_to_string(stat).ok()?, name));
        Some(Memory { available, shared: own.or_else(|| bytes("Shmem"))? })
    }
}

/// Entries of the host's table of open files that are not in use (proc(5), `file-nr`).
pub(crate) fn free_files() -> Option<u64> {
    let text = fs::read_to_string("/proc/sys/fs/file-nr").ok()?;
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [used, unused, most] = numbers.as_slice() else { return None };
    Some(most.saturating_sub(used.saturating_sub(*unused)))
}

fn tasks(groups: &Hierarchies) -> Option<u64> {
    let kernel = |name: &str| number(&Path::new("/proc/sys/kernel").join(name));
    // The fourth field is "runnable/existing" (proc(5)).
    let loadavg = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let existing: u64 = loadavg
        .split(' ')
        .nth(3)
        .and_then(|field| field.split_once('/'))
        .and_then(|(_, all)| all.parse().ok())
        .unwrap_or(0);
    let host = least([kernel("pid_max"), kernel("threads-max")]).map(|most| most.saturating_sub(existing));
    let group =
        |at: &Path| Some(number(&at.join("pids.max"))?.saturating_sub(number(&at.join("pids.current"))?));
    let v1 = Hierarchies::upwards(groups.v1("pids")).map(group);
    let v2 = Hierarchies::upwards(groups.v2()).map(group);
    // Root of the host is exempt (kernel/fork.c); of anybody else all tasks count, not those of the sandbox alone.
    let own = (!nix::unistd::geteuid().is_root())
        .then(|| nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NPROC).ok())
        .flatten()
        .map(|(soft, _)| soft.saturating_sub(existing.min(soft / 2)));
    least([host, own].into_iter().chain(v1).chain(v2))
}

fn descriptors() -> Option<u64> {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard)
}

/// A file of `/proc/PID`. A process's name, which `stat` and `status` tell, may be any bytes: those that are no text are
/// replaced.
///
/// # Errors
/// When there is no such process, or the file cannot be read.
pub(crate) fn process_file(pid: impl fmt::Display, name: &str) -> io::Result<String> {
    let bytes = fs::read(format!("/proc/{pid}/{name}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "4:memory:/a/b\n3:cpu,cpuacct:/\n0::/\n";
    const MOUNTS: &str = "\
30 20 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 20 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
32 20 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 20 0:29 / /proc rw - proc proc rw
";

    #[test]
    fn hierarchies_of_both_versions_are_found_where_they_are_mounted() {
        let groups = Hierarchies::parse(HYBRID, MOUNTS);
        let memory = groups.v1("memory").unwrap();
        assert_eq!(memory, (Path::new("/sys/fs/cgroup/memory/a/b"), Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(groups.v1("cpu").unwrap().0, Path::new("/sys/fs/cgroup/cpu"));
        assert_eq!(groups.v2().unwrap().0, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(groups.v1("pids"), None);
        let up: Vec<_> = Hierarchies::upwards(Some(memory)).collect();
        assert_eq!(up.len(), 3, "{up:?}");
        assert_eq!(up[2], Path::new("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn a_container_sees_its_part_of_the_hierarchy() {
        let mounts = "40 20 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let groups = Hierarchies::parse("0::/docker/x/inner\n", mounts);
        assert_eq!(groups.v2().unwrap().0, Path::new("/sys/fs/cgroup/inner"));
        // With a cgroup namespace the path begins at the container.
        let groups = Hierarchies::parse("0::/\n", "40 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n");
        assert_eq!(groups.v2().unwrap().0, Path::new("/sys/fs/cgroup"));
        assert_eq!(Hierarchies::parse("0::/elsewhere\n", mounts), Hierarchies::default());
    }

    #[test]
    fn idle_page_cache_of_a_cgroup_is_free() {
        assert_eq!(left_of(100, 90, "cache 50\ninactive_file 30\ntotal_inactive_file 40\n"), 50);
        assert_eq!(left_of(100, 90, "file 5\ninactive_file 30\n"), 40);
        assert_eq!(left_of(100, 120, ""), 0);
        assert_eq!(left_of(100, 10, "inactive_file 30\n"), 100);
    }

    #[test]
    fn the_gauge_sees_a_cgroup_that_leaves_less_than_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        fs::create_dir(&own).unwrap();
        let write = |at: &Path, name: &str, text: &str| fs::write(at.join(name), text).unwrap();
        write(dir.path(), "memory.max", "max\n");
        write(dir.path(), "memory.current", "1\n");
        write(&own, "memory.max", "1048576\n");
        write(&own, "memory.current", "1000000\n");
        write(&own, "memory.stat", "shmem 4096\ninactive_file 400000\n");
        let groups = Hierarchies { by_controller: vec![(String::new(), own.clone(), dir.path().to_owned())] };
        let gauge = Gauge::of(&groups);
        assert_eq!(gauge.bounded.len(), 1, "the top has no limit");
        assert_eq!(gauge.look(), Some(Memory { available: 448_576, shared: 4096 }));
        write(&own, "memory.current", "1048576\n");
        assert_eq!(gauge.look().unwrap().available, 400_000);
    }

    #[test]
    fn this_host_tells_what_it_has() {
        let free = Free::now();
        assert!(free.memory_bytes.is_some_and(|bytes| bytes > 0 && bytes < 1 << 50), "{free:?}");
        assert!(free.tasks.is_some_and(|tasks| tasks < 8 << 20), "{free:?}");
        assert!(free.descriptors.is_some_and(|n| n > 2), "{free:?}");
        assert!(free_files().is_some_and(|files| files > 0));
    }
}
