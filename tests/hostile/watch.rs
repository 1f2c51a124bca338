//! What a run takes from the host while it runs, looked at from outside: by its cgroups and in `/proc`.

use crate::cage::{Group, members};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Processes looked into at a time: of a bomb, the first are like the rest.
const LOOKED_INTO: usize = 64;
/// Time between two looks at least; a look never takes more than a third of the time.
const PAUSE: Duration = Duration::from_millis(10);
/// Device nodes that a workload may expect to find.
pub(crate) const DEVICES: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "ptmx"];

/// The most that was seen.
#[derive(Debug, Default, Clone)]
pub(crate) struct Usage {
    /// Bytes of all cgroups together.
    pub(crate) memory: u64,
    /// Processes and threads.
    pub(crate) tasks: u64,
    /// Bytes of temporary files.
    pub(crate) temporary: u64,
    /// Files in the directory for temporary files.
    pub(crate) temporary_inodes: u64,
    /// Real-time tasks and tasks that go before the host's, by name.
    pub(crate) eager: BTreeSet<String>,
    /// Objects of the host that the run holds a lock on, or watches.
    pub(crate) held: BTreeSet<String>,
    /// Bounds outside of the run's own that were reached.
    pub(crate) refusals: Vec<String>,
}

/// A look at one run.
pub(crate) struct Watch {
    root: u32,
    temporary: PathBuf,
    ours: Vec<PathBuf>,
    /// cgroups of the run's own, wherever they are.
    own: BTreeSet<PathBuf>,
    /// Processes that were seen, with the time of their start: a number may be used again.
    seen: BTreeMap<u32, u64>,
    host: BTreeMap<(u64, u64), &'static str>,
    usage: Usage,
}

impl Watch {
    pub(crate) fn new(root: u32, temporary: &Path, groups: &[Group]) -> Self {
        let host = DEVICES
            .into_iter()
            .filter_map(|name| {
                let metadata = fs::metadata(Path::new("/dev").join(name)).ok()?;
                Some(((metadata.dev(), metadata.ino()), name))
            })
            .collect();
        Self {
            root,
            temporary: temporary.to_path_buf(),
            ours: groups.iter().map(|g| g.dir.clone()).collect(),
            own: BTreeSet::new(),
            seen: BTreeMap::new(),
            host,
            usage: Usage::default(),
        }
    }

    /// One look, and a pause.
    pub(crate) fn look(&mut self) {
        let began = Instant::now();
        for pid in tree(self.root) {
            self.look_into(pid);
        }
        self.count();
        self.locks();
        std::thread::sleep(PAUSE.max(began.elapsed() * 2));
    }

    fn look_into(&mut self, pid: u32) {
        let Some(stat) = Stat::of(pid) else { return };
        self.seen.insert(pid, stat.start);
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        // The recorder's own threads and processes may go before others: they must keep up with them.
        let outside =
            pid == self.root || fs::read_link(format!("/proc/{pid}/ns/pid")).ok() == own_pid_namespace();
        for thread in threads.take(LOOKED_INTO).filter(|_| !outside) {
            let Some(stat) = Stat::at(&thread.path().to_string_lossy()) else { continue };
            // SCHED_FIFO, SCHED_RR, SCHED_DEADLINE (linux/sched.h).
            if matches!(stat.policy, 1 | 2 | 6) {
                self.usage.eager.insert(format!("{} is a real-time task", stat.comm));
            }
            if stat.nice < 0 {
                self.usage.eager.insert(format!("{} has the nice value {}", stat.comm, stat.nice));
            }
        }
        for line in fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default().lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let Some(dir) = group_dir(controllers, path) else { continue };
            if path != "/" && !self.ours.contains(&dir) && !is_ours(&dir) {
                self.own.insert(dir);
            }
        }
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten() {
            let info = fs::read_to_string(entry.path()).unwrap_or_default();
            for line in info.lines().filter(|line| line.starts_with("inotify ")) {
                // "inotify wd:1 ino:5 sdev:6 …" in hexadecimal (fs/notify/fdinfo.c).
                let field = |name: &str| {
                    line.split(' ')
                        .find_map(|f| f.strip_prefix(name))
                        .and_then(|v| u64::from_str_radix(v, 16).ok())
                };
                if let (Some(ino), Some(sdev)) = (field("ino:"), field("sdev:"))
                    && let Some(name) = self.host_node(sdev >> 20, sdev & 0xf_ffff, ino)
                {
                    self.usage.held.insert(format!("{} watches the host's /dev/{name}", stat.comm));
                }
            }
        }
    }

    fn host_node(&self, major: u64, minor: u64, ino: u64) -> Option<&'static str> {
        self.host.get(&(libc::makedev(major as u32, minor as u32), ino)).copied()
    }

    /// Locks of device nodes, whoever holds them: nobody else locks those.
    fn locks(&mut self) {
        for line in fs::read_to_string("/proc/locks").unwrap_or_default().lines() {
            // "1: FLOCK  ADVISORY  WRITE 708 00:05:4 0 EOF" (fs/locks.c).
            let Some(id) = line.split_whitespace().find(|word| word.matches(':').count() == 2) else {
                continue;
            };
            let mut parts = id.split(':');
            let mut hex = || parts.next().and_then(|p| u64::from_str_radix(p, 16).ok());
            let (Some(major), Some(minor)) = (hex(), hex()) else { continue };
            let Some(ino) = parts.next().and_then(|p| p.parse().ok()) else { continue };
            if let Some(name) = self.host_node(major, minor, ino) {
                self.usage.held.insert(format!("a lock on the host's /dev/{name}"));
            }
        }
    }

    fn count(&mut self) {
        let number = |dir: &Path, file: &str| {
            fs::read_to_string(dir.join(file)).ok().and_then(|text| text.trim().parse::<u64>().ok())
        };
        let (mut memory, mut tasks) = (0, 0);
        for dir in self
            .ours
            .iter()
            .chain(self.own.iter().filter(|dir| !self.ours.iter().any(|o| dir.starts_with(o))))
        {
            memory += number(dir, "memory.max_usage_in_bytes")
                .or_else(|| number(dir, "memory.peak"))
                .or_else(|| number(dir, "memory.current"))
                .unwrap_or(0);
            tasks += number(dir, "pids.current").unwrap_or(0);
        }
        self.usage.memory = self.usage.memory.max(memory);
        self.usage.tasks = self.usage.tasks.max(tasks);
        if let Ok(statfs) = nix::sys::statvfs::statvfs(&self.temporary) {
            let used = (statfs.blocks() - statfs.blocks_free()) * statfs.fragment_size();
            self.usage.temporary = self.usage.temporary.max(used);
            self.usage.temporary_inodes =
                self.usage.temporary_inodes.max(statfs.files() - statfs.files_free());
        }
    }

    /// Peaks are kept by the kernel: they are read once more.
    pub(crate) fn usage(&mut self) -> Usage {
        self.count();
        self.usage.clone()
    }

    /// What was seen and is still there.
    pub(crate) fn remains(&self) -> Vec<String> {
        let mut left: Vec<String> = self.alive().map(describe).collect();
        for dir in self.own.iter().filter(|dir| dir.exists()) {
            left.push(format!("cgroup {}", dir.display()));
            left.extend(members(dir).into_iter().map(describe));
        }
        left
    }

    fn alive(&self) -> impl Iterator<Item = u32> + '_ {
        self.seen
            .iter()
            .filter(|(pid, start)| Stat::of(**pid).is_some_and(|s| s.start == **start && s.state != 'Z'))
            .map(|(pid, _)| *pid)
    }

    /// Ends what is still there.
    pub(crate) fn kill(&self) {
        for pid in self.alive().chain(self.own.iter().flat_map(|dir| members(dir))) {
            let pid = nix::unistd::Pid::from_raw(pid as i32);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        for dir in &self.own {
            crate::cage::remove(dir);
        }
    }
}

/// Whether this test is in the group itself.
fn is_ours(dir: &Path) -> bool {
    members(dir).contains(&std::process::id())
}

fn own_pid_namespace() -> Option<PathBuf> {
    fs::read_link("/proc/self/ns/pid").ok()
}

/// The directory of a line of `/proc/PID/cgroup`.
fn group_dir(controllers: &str, path: &str) -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let base = if controllers.is_empty() {
        let unified = root.join("unified");
        if unified.is_dir() { unified } else { root.to_path_buf() }
    } else {
        root.join(controllers.trim_start_matches("name="))
    };
    let dir = base.join(path.trim_start_matches('/'));
    dir.is_dir().then_some(dir)
}

/// A process in words.
pub(crate) fn describe(pid: u32) -> String {
    Stat::of(pid).map_or_else(|| format!("process {pid}"), |stat| format!("process {pid} ({})", stat.comm))
}

/// The process and those below it. Not every kernel lists a task's children (`CONFIG_PROC_CHILDREN`).
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in names.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(stat) = Stat::of(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut all = vec![root];
    let mut at = 0;
    while at < all.len() && all.len() < LOOKED_INTO {
        all.extend(children.get(&all[at]).into_iter().flatten());
        at += 1;
    }
    all
}

/// A line of `/proc/PID/stat`.
struct Stat {
    comm: String,
    state: char,
    parent: u32,
    nice: i64,
    start: u64,
    policy: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::at(&format!("/proc/{pid}"))
    }

    fn at(dir: &str) -> Option<Self> {
        let text = fs::read(format!("{dir}/stat")).ok()?;
        let text = String::from_utf8_lossy(&text);
        let (front, back) = (text.find('(')?, text.rfind(')')?);
        let fields: Vec<&str> = text.get(back + 2..)?.split_whitespace().collect();
        // proc_pid_stat(5); the state is field 3.
        let field = |number: usize| fields.get(number - 3);
        Some(Self {
            comm: text.get(front + 1..back)?.escape_debug().to_string(),
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            nice: field(19)?.parse().ok()?,
            start: field(22)?.parse().ok()?,
            policy: field(41)?.parse().ok()?,
        })
    }
}
