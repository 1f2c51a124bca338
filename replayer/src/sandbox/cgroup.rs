//! A cgroup of its own for each replay: what the kernel charges and bounds for all its processes together.
//!
//! The directories are made, and removed, by a *cleaner*: a process in its own session that blocks all signals and waits
//! until ctrace lets go of a pipe, or is gone. Whoever is killed, by itself or with its whole process group, the cleaner
//! then kills what is left in the cgroup and removes the directories. What a killed cleaner leaves, the next replay
//! removes.

mod freezer;
mod work;
mod writes;

use super::host::Hierarchies;
use super::limits::{Limits, Resource};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{ForkResult, Pid, fork};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
pub(crate) use work::{Controls, Switch};

/// Begins the name of every directory: `ctrace-NAMESPACE-PID-START-ORDINAL`.
const PREFIX: &str = "ctrace-";
/// `cpu.shares` of a replay; a task of the host has 1024 by itself.
const SHARES: u32 = 512;
/// `cpu.weight` of a replay; the default is 100.
const WEIGHT: u32 = 50;
/// How much more of both a replay has, on each CPU, that uses as much CPU time as its recording: as much as one task of the
/// host. The shares of a group are those of all CPUs together.
const PRESSED: u32 = 2;
/// Tasks of the engine beside the trace's: the launcher and what helps it.
pub(crate) const ENGINE_TASKS: u64 = 2;
/// Tasks that press the workload, at most: one, two on each CPU, one with memory, and one for the disk.
pub(crate) const PRESSER_TASKS: u64 = 2 * crate::pressure::CPUS_MAX as u64 + 3;
/// How long the cleaner waits for killed processes to be gone.
const CLEAN_LIMIT: Duration = Duration::from_secs(10);

/// What the cleaner says when the directories are there; anything else is why they are not.
const MADE: &str = "made";

/// One directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Directory {
    /// Version 1 controller; `None`: version 2, with all controllers.
    controller: Option<String>,
    at: PathBuf,
}

/// The directories of a replay, as its launcher and its guard use them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Cgroup {
    directories: Vec<Directory>,
    /// The workload has a group of its own within.
    parted: bool,
}

/// A cgroup that lives as long as this.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) cgroup: Cgroup,
    hold: Option<OwnedFd>,
    cleaner: Pid,
}

/// Where the directories are to be made, and why not.
fn places(groups: &Hierarchies) -> Result<Vec<Directory>, String> {
    let has = |at: &Path, file: &str, wanted: &str| {
        fs::read_to_string(at.join(file)).is_ok_and(|text| text.split_whitespace().any(|word| word == wanted))
    };
    // Version 2: beside ctrace's own cgroup or above, wherever the parent hands controllers down.
    let parent = Hierarchies::upwards(groups.v2())
        .find(|at| ["memory", "pids"].iter().all(|controller| has(at, "cgroup.subtree_control", controller)));
    if let Some(parent) = parent {
        return Ok(vec![Directory { controller: None, at: parent.to_owned() }]);
    }
    let mut all = Vec::new();
    let controllers = [
        ("memory", true),
        ("pids", true),
        ("cpu", false),
        ("cpuacct", false),
        ("freezer", false),
        ("blkio", false),
    ];
    for (controller, required) in controllers {
        match groups.v1(controller) {
            // Two of them may be in one hierarchy.
            Some((own, _)) if all.iter().any(|other: &Directory| other.at == own) => {}
            Some((own, _)) => {
                all.push(Directory { controller: Some(controller.to_owned()), at: own.to_owned() });
            }
            None if required => {
                return Err(format!("no {controller} controller is handed down to where ctrace runs"));
            }
            None => {}
        }
    }
    Ok(all)
}

/// The name of this process's directories. Process ids mean something in their namespace only.
fn own_name() -> io::Result<String> {
    static MADE_SO_FAR: AtomicU64 = AtomicU64::new(0);
    let start =
        start_time(std::process::id() as i32).ok_or_else(|| io::Error::other("no /proc/self/stat"))?;
    let ordinal = MADE_SO_FAR.fetch_add(1, Relaxed);
    Ok(format!("{PREFIX}{:x}-{}-{start}-{ordinal}", pid_namespace()?, std::process::id()))
}

fn pid_namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/pid")?.ino())
}

/// When a process began, in clock ticks since boot: field 22 of `/proc/PID/stat` (proc(5)).
fn start_time(pid: i32) -> Option<u64> {
    let stat = super::host::process_file(pid, "stat").ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Whether the directory of this name belongs to a process that is no more.
fn is_stale(name: &str, namespace: u64, alive: &dyn Fn(i32) -> Option<u64>) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let parts: Vec<&str> = rest.split('-').collect();
    let [of, pid, start, ordinal] = parts.as_slice() else { return false };
    let (Ok(of), Ok(pid), Ok(start), Ok(_)) =
        (u64::from_str_radix(of, 16), pid.parse(), start.parse::<u64>(), ordinal.parse::<u64>())
    else {
        return false;
    };
    of == namespace && alive(pid) != Some(start)
}

impl Cgroup {
    /// Moves this process, which must be single-threaded, and so all its children to come.
    ///
    /// # Errors
    /// When the kernel refuses: the process would run unbounded.
    pub(crate) fn enter(&self) -> io::Result<()> {
        for directory in &self.directories {
            // Zero is the writer (cgroups(7)).
            fs::write(directory.engine(self.parted).join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// Whether the workload has a group of its own.
    pub(crate) fn is_parted(&self) -> bool {
        self.parted
    }

    /// 1 or 2.
    pub(crate) fn version(&self) -> u8 {
        if self.directories.iter().any(|d| d.controller.is_none()) { 2 } else { 1 }
    }

    fn of(&self, controller: &str) -> Option<&Path> {
        self.directories
            .iter()
            .find(|d| d.controller.as_deref().is_none_or(|name| name == controller))
            .map(|d| d.at.as_path())
    }

    /// Processes that the kernel killed because the memory limit was reached: the replay's, not one that a recording had.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = if self.version() == 2 { "memory.events" } else { "memory.oom_control" };
        let all = self.of("memory").map_or(0, |at| counter(&at.join(file), "oom_kill"));
        all.saturating_sub(self.oom_kills_of_work())
    }

    /// Clones that failed because the limit on tasks was reached.
    pub(crate) fn refused_tasks(&self) -> u64 {
        self.of("pids").map_or(0, |at| counter(&at.join("pids.events"), "max"))
    }

    fn make(&self, limits: &Limits) -> io::Result<()> {
        for directory in &self.directories {
            fs::create_dir(&directory.at).map_err(|error| at(&directory.at, &error))?;
        }
        let set = |controller: &str, file: &str, value: &str| -> io::Result<()> {
            let file =
                self.of(controller).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.join(file);
            fs::write(&file, value).map_err(|error| at(&file, &error))
        };
        let importance = if self.parted { PRESSED * host_cpus() } else { 1 };
        let memory = limits.get(Resource::Memory).limit.to_string();
        let engine = ENGINE_TASKS + if self.parted { PRESSER_TASKS } else { 0 };
        let tasks = limits.get(Resource::Tasks).limit.saturating_add(engine).to_string();
        if self.version() == 2 {
            set("memory", "memory.max", &memory)?;
            set("memory", "memory.oom.group", "1")?;
            // Absent without swap, or without the controller: nothing to bound then.
            let _ = set("memory", "memory.swap.max", "0");
            let _ = set("cpu", "cpu.weight", &(WEIGHT * importance).to_string());
        } else {
            set("memory", "memory.limit_in_bytes", &memory)?;
            // Absent without accounting of swap, or of socket buffers.
            let _ = set("memory", "memory.memsw.limit_in_bytes", &memory);
            let _ = set("memory", "memory.kmem.tcp.limit_in_bytes", &memory);
            let _ = set("cpu", "cpu.shares", &(SHARES * importance).to_string());
        }
        set("pids", "pids.max", &tasks)?;
        if self.parted {
            if self.version() == 1 {
                // Since Linux 5.11 there is nothing else.
                let _ = set("memory", "memory.use_hierarchy", "1");
            }
            self.part()?;
        }
        Ok(())
    }

    /// Kills what is in it and removes the directories. False when something stays.
    fn clear(&self) -> bool {
        let deadline = Instant::now() + CLEAN_LIMIT;
        loop {
            self.kill();
            let mut left = false;
            for directory in &self.directories {
                for at in directory.within().into_iter().chain([directory.at.clone()]) {
                    left |= fs::remove_dir(&at).is_err_and(|error| error.kind() != io::ErrorKind::NotFound);
                }
            }
            if !left || Instant::now() > deadline {
                return !left;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill(&self) {
        // A task dies when the write is done that it waits for.
        self.let_writes_go();
        for directory in &self.directories {
            if directory.controller.is_none() && fs::write(directory.at.join("cgroup.kill"), "1").is_ok() {
                return;
            }
        }
        // A frozen cgroup does not fork while it is read.
        let _ = self.freeze();
        for directory in &self.directories {
            for pid in processes(directory).filter(|&pid| pid > 1) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        self.thaw();
    }

    /// Its directories that are still there.
    fn remaining(&self) -> Vec<String> {
        let there = self.directories.iter().filter(|d| d.at.exists());
        there.map(|d| format!("cgroup {}", d.at.display())).collect()
    }
}

/// CPUs that this process may use.
fn host_cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)).min(1024)
}

/// The error with what it is about.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The processes in a directory and within.
fn processes(directory: &Directory) -> impl Iterator<Item = i32> {
    directory.populated().flat_map(|at| {
        let text = fs::read_to_string(at.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>()
    })
}

fn counter(at: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(at).unwrap_or_default();
    let words = |line: &str| -> Option<u64> {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    };
    text.lines().find_map(words).unwrap_or(0)
}

/// Removes the directories of replays whose ctrace and cleaner are both gone. Those of one replay go together: what was frozen
/// when both were killed does not die before it is let go.
fn sweep(parents: &[Directory]) {
    let Ok(namespace) = pid_namespace() else { return };
    let mut stale: BTreeMap<String, Vec<Directory>> = BTreeMap::new();
    for parent in parents {
        for entry in fs::read_dir(&parent.at).into_iter().flatten().flatten() {
            if let Ok(name) = entry.file_name().into_string()
                && is_stale(&name, namespace, &start_time)
            {
                let at = entry.path();
                stale.entry(name).or_default().push(Directory { at, ..parent.clone() });
            }
        }
    }
    for directories in stale.into_values() {
        Cgroup { directories, parted: true }.clear();
    }
}

impl Owned {
    /// Makes a cgroup with these limits. `parted`: with a group of the workload's own in it.
    ///
    /// # Errors
    /// A sentence that says why this host, or this user, has none.
    pub(crate) fn make(limits: &Limits, parted: bool) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let parents = places(&Hierarchies::own())?;
        let name = own_name().map_err(text)?;
        let directories: Vec<Directory> =
            parents.iter().map(|parent| Directory { at: parent.at.join(&name), ..parent.clone() }).collect();
        let cgroup = Cgroup { directories, parted };
        let (told, hold) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| text(e.into()))?;
        let (answer, answers) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| text(e.into()))?;
        // SAFETY: the child runs Rust code without exec; it is single-threaded, glibc's allocator survives fork, and it
        // takes no lock that another thread could have held (no stdio, no logging).
        let cleaner = match unsafe { fork() }.map_err(|errno| text(errno.into()))? {
            ForkResult::Child => {
                let status = clean(&cgroup, &parents, limits, File::from(told), File::from(answers));
                // SAFETY: ends the process without the destructors of the forked parent.
                unsafe { libc::_exit(status) }
            }
            ForkResult::Parent { child } => child,
        };
        drop((told, answers));
        let owned = Self { cgroup, hold: Some(hold), cleaner };
        let mut said = String::new();
        File::from(answer).read_to_string(&mut said).map_err(text)?;
        match said.as_str() {
            MADE => Ok(owned),
            "" => Err("the process that makes it ended".to_owned()),
            _ => Err(said),
        }
    }

    /// Removes it. Returns what stays.
    pub(crate) fn remove(mut self) -> Vec<String> {
        self.end();
        self.cgroup.remaining()
    }

    fn end(&mut self) {
        if self.hold.take().is_some() {
            let _ = nix::sys::wait::waitpid(self.cleaner, None);
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.end();
    }
}

/// The cleaner's life.
fn clean(cgroup: &Cgroup, parents: &[Directory], limits: &Limits, mut told: File, mut answers: File) -> i32 {
    // Out of reach of signals to ctrace's process group and session before there is anything to clean.
    let _ = nix::unistd::setsid();
    let _ = SigSet::all().thread_block();
    let _ = nix::sys::prctl::set_name(c"ctrace-cleaner");
    let _ = nix::unistd::chdir("/");
    // What ctrace has open must not stay open because of this: not its terminal, and not the other end of `told`.
    for fd in 0..3 {
        if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
            // SAFETY: descriptors of this process; what was at the target is not needed any more.
            unsafe { libc::dup2(null.as_raw_fd(), fd) };
        }
    }
    super::close_all_but(&[0, 1, 2, told.as_raw_fd(), answers.as_raw_fd()]);
    sweep(parents);
    let made = cgroup.make(limits);
    let text = made.as_ref().map_or_else(ToString::to_string, |()| MADE.to_owned());
    let _ = answers.write_all(text.as_bytes());
    drop(answers);
    if made.is_ok() {
        // Until nobody holds the other end: all signals are blocked, so nothing else ends this.
        let _ = told.read(&mut [0]);
    }
    i32::from(!cgroup.clear())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_dead_owners_of_the_same_namespace_are_stale() {
        let alive = |pid| (pid == 10).then_some(77);
        assert!(!is_stale("ctrace-f0-10-77-0", 0xf0, &alive), "its owner lives");
        assert!(is_stale("ctrace-f0-10-76-0", 0xf0, &alive), "the id was used again");
        assert!(is_stale("ctrace-f0-11-77-5", 0xf0, &alive), "nobody has the id");
        assert!(!is_stale("ctrace-f1-11-77-0", 0xf0, &alive), "ids of another namespace mean nothing here");
        for other in ["ctrace-f0-11-77", "ctrace-f0-11-77-1-2", "ctrace-f0-x-77-0", "system.slice", "ctrace-"]
        {
            assert!(!is_stale(other, 0xf0, &alive), "{other}");
        }
    }

    #[test]
    fn counters_are_read_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n").unwrap();
        assert_eq!(counter(file.path(), "oom_kill"), 3);
        assert_eq!(counter(file.path(), "max"), 0);
    }

    #[test]
    fn version_2_is_used_where_a_parent_hands_controllers_down() {
        let top = tempfile::tempdir().unwrap();
        let slice = top.path().join("slice");
        let own = slice.join("own.scope");
        fs::create_dir_all(&own).unwrap();
        for (at, controllers) in [(top.path(), "cpu memory pids"), (&slice, "memory pids"), (&own, "")] {
            fs::write(at.join("cgroup.subtree_control"), controllers).unwrap();
        }
        let groups = Hierarchies::of(&[("", &own, top.path())]);
        let parent = places(&groups).unwrap();
        assert_eq!(parent, [Directory { controller: None, at: slice.clone() }]);
        // Files take what the kernel's would.
        let directories = vec![Directory { controller: None, at: slice.join("ctrace-x") }];
        let cgroup = Cgroup { directories, parted: false };
        cgroup.make(&Limits::default()).unwrap();
        let text = |file: &str| fs::read_to_string(slice.join("ctrace-x").join(file)).unwrap();
        assert_eq!(text("memory.max"), (1_u64 << 30).to_string());
        assert_eq!((text("memory.oom.group"), text("memory.swap.max")), ("1".to_owned(), "0".to_owned()));
        assert_eq!((text("pids.max"), text("cpu.weight")), ("1026".to_owned(), "50".to_owned()));
        fs::write(slice.join("ctrace-x/memory.events"), "max 9\noom 2\noom_kill 2\n").unwrap();
        fs::write(slice.join("ctrace-x/pids.events"), "max 7\n").unwrap();
        assert_eq!((cgroup.oom_kills(), cgroup.refused_tasks()), (2, 7));

        // Nobody hands anything down, and there is no version 1 either.
        fs::write(slice.join("cgroup.subtree_control"), "cpu").unwrap();
        fs::write(top.path().join("cgroup.subtree_control"), "").unwrap();
        assert!(places(&groups).unwrap_err().contains("memory"));
        // Version 1 is used below ctrace's own.
        let groups =
            Hierarchies::of(&[("", &own, top.path()), ("memory", &own, &own), ("pids", &slice, &slice)]);
        let controllers: Vec<_> =
            places(&groups).unwrap().into_iter().map(|d| d.controller.unwrap()).collect();
        assert_eq!(controllers, ["memory", "pids"]);
    }

    #[test]
    fn the_cleaner_makes_and_removes_what_the_kernel_enforces() {
        let limits = Limits { memory: crate::sandbox::limits::Limit::flag(64 << 20), ..Limits::default() };
        let owned = match Owned::make(&limits, false) {
            Ok(owned) => owned,
            Err(why) => {
                eprintln!("skipped: {why}");
                return;
            }
        };
        let memory = owned.cgroup.of("memory").unwrap().to_owned();
        let file = if owned.cgroup.version() == 2 { "memory.max" } else { "memory.limit_in_bytes" };
        assert_eq!(fs::read_to_string(memory.join(file)).unwrap().trim(), (64 << 20).to_string());
        assert_eq!((owned.cgroup.oom_kills(), owned.cgroup.refused_tasks()), (0, 0));
        assert!(!owned.cgroup.remaining().is_empty());
        // One that is killed leaves its directories to the next.
        kill(owned.cleaner, Signal::SIGKILL).unwrap();
        let cgroup = owned.cgroup.clone();
        assert_eq!(owned.remove(), cgroup.remaining());
        assert!(memory.exists());
        let name = memory.file_name().unwrap().to_str().unwrap();
        assert!(!is_stale(name, pid_namespace().unwrap(), &start_time), "its owner is this test");
        assert!(is_stale(name, pid_namespace().unwrap(), &|_| None));
        assert!(cgroup.clear());
        assert_eq!(cgroup.remaining(), [""; 0]);
    }
}
