//! Watches what a replay takes, from outside: ctrace's own thread beside it, which the replay cannot hold up.
//!
//! Where the replay has a cgroup, the kernel bounds it and the guard reads what the kernel counted. Where it has none
//! (an ordinary user, a container), the guard adds up what the replay holds, and ends it when that is too much.

use crate::sandbox::cgroup::{Cgroup, ENGINE_TASKS};
use crate::sandbox::host::{self, Gauge, Memory};
use crate::sandbox::limits::{Limit, Limits, Resource, Source};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the kernel's counters are read.
const COUNTED_TICK: Duration = Duration::from_millis(20);
/// How often the host's memory is looked at where there is no cgroup: memory is filled at some GB a second per CPU.
const SAMPLED_TICK: Duration = Duration::from_millis(4);
/// Adding up processes may take this part of one CPU: of the time that this thread ran, not of what it waited for one.
const SHARE_OF_TIME: u32 = 10;
/// How long init may take to end the replay in good order.
const PATIENCE: Duration = Duration::from_millis(200);
/// The replay ends when less than this part of the host's table of open files is left, whoever took it.
const FILES_RESERVE_PART: u64 = 4;

/// How a replay is bounded as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "by")]
#[non_exhaustive]
pub enum Enforcement {
    /// By the kernel, in a cgroup of its own.
    Cgroup {
        /// Version of the hierarchy: 1 or 2.
        version: u8,
    },
    /// By adding up what it holds some hundred times a second.
    Sampling {
        /// Why it has no cgroup.
        why: String,
    },
}

/// A limit that the replay ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// Of what.
    pub resource: Resource,
    /// The limit.
    pub limit: Limit,
    /// What it had, when that is known.
    pub had: Option<u64>,
    /// Whether the replay was ended for it; otherwise the kernel refused what was above the limit.
    pub ended: bool,
    /// The limit was not reached, but the host was running out.
    pub host_ran_out: bool,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host_ran_out {
            let word = self.resource.word();
            let left =
                self.had.map_or_else(String::new, |left| format!(" ({} left)", self.resource.text(left)));
            return write!(f, "the replay was ended because this host runs out of {word}{left}");
        }
        let verb = if self.ended { "was ended at" } else { "ran into" };
        let most = self.resource.phrase(self.limit.limit);
        write!(f, "the replay {verb} its limit of {most} ({})", self.limit.source)?;
        if let Some(had) = self.had {
            write!(f, ": it had {}", self.resource.text(had))?;
        }
        Ok(())
    }
}

impl Hit {
    /// Of a limit that was reached, and ended nothing.
    pub(crate) fn of(resource: Resource, limits: &Limits) -> Self {
        Self { resource, limit: limits.get(resource), had: None, ended: false, host_ran_out: false }
    }

    /// The limit that was hit, with the flag that allows more, or the place where more is free.
    pub fn with_fix(&self) -> String {
        if self.host_ran_out || self.limit.source == Source::Free {
            return format!("{self}; replay it where more is free");
        }
        let more = self.had.unwrap_or(0).max(self.limit.limit.saturating_mul(2));
        format!("{self}; {} allows more", self.resource.flag(more))
    }
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Guard {
    stop: Arc<AtomicBool>,
    hits: Arc<Mutex<Vec<Hit>>>,
    cgroup: Option<Cgroup>,
    limits: Limits,
    thread: Option<JoinHandle<()>>,
}

/// What there was before the replay, and how that is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    gauge: Gauge,
    memory: Option<Memory>,
    files: Option<u64>,
}

impl Before {
    /// Looks now.
    pub(crate) fn now() -> Self {
        let gauge = Gauge::own();
        Self { memory: gauge.look(), files: host::free_files(), gauge }
    }

    /// Shared memory that came since: memfds, System V segments and the files of the private root are nobody's in particular,
    /// and all of it is taken to be the replay's.
    pub(super) fn shared_since(&self) -> u64 {
        let now = self.memory.and_then(|_| self.gauge.look());
        now.zip(self.memory).map_or(0, |(now, before)| now.shared.saturating_sub(before.shared))
    }
}

impl Guard {
    /// Begins to watch what descends from `launcher`. `channel` ends the replay in good order.
    pub(crate) fn start(
        launcher: i32,
        cgroup: Option<Cgroup>,
        before: Before,
        limits: &Limits,
        channel: UnixStream,
    ) -> std::io::Result<Self> {
        let (stop, hits) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let limits = *limits;
        let (stopped, found, group) = (Arc::clone(&stop), Arc::clone(&hits), cgroup.clone());
        let thread = std::thread::Builder::new().name("replay-guard".to_owned()).spawn(move || {
            let mut watch =
                Watching { launcher, limits, before, next_sum: Instant::now(), sum: Sum::default() };
            let note = |hit| found.lock().unwrap_or_else(PoisonError::into_inner).push(hit);
            let mut full = false;
            while !stopped.load(Relaxed) {
                let hit = match &group {
                    Some(cgroup) => watch.counted(cgroup),
                    None => watch.sampled(),
                };
                if let Some(hit) = hit.or_else(|| watch.file_table()) {
                    note(Hit { ended: true, ..hit });
                    if group.is_none() {
                        watch.sum.kill();
                    }
                    watch.end(&channel, &stopped);
                    return;
                }
                // The launcher counts as well.
                if group.is_none() && !full && watch.sum.tasks + 1 >= limits.tasks.limit {
                    full = true;
                    note(Hit::of(Resource::Tasks, &limits));
                }
                std::thread::sleep(if group.is_some() { COUNTED_TICK } else { SAMPLED_TICK });
            }
        })?;
        Ok(Self { stop, hits, cgroup, limits, thread: Some(thread) })
    }

    /// Stops watching. Returns the limits that the replay ran into.
    pub(crate) fn stop(&mut self) -> Vec<Hit> {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let mut hits = std::mem::take(&mut *self.hits.lock().unwrap_or_else(PoisonError::into_inner));
        // What happened since the last look, and what ends nothing.
        if let Some(cgroup) = &self.cgroup {
            if cgroup.oom_kills() > 0 && !hits.iter().any(|hit| hit.resource == Resource::Memory) {
                hits.push(Hit { ended: true, ..Hit::of(Resource::Memory, &self.limits) });
            }
            if cgroup.refused_tasks() > 0 {
                hits.push(Hit::of(Resource::Tasks, &self.limits));
            }
        }
        hits
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Watching {
    launcher: i32,
    limits: Limits,
    before: Before,
    next_sum: Instant,
    /// The processes, when they were added up last.
    sum: Sum,
}

impl Watching {
    fn counted(&self, cgroup: &Cgroup) -> Option<Hit> {
        (cgroup.oom_kills() > 0).then(|| Hit::of(Resource::Memory, &self.limits))
    }

    /// The table of open files is the whole host's, and no cgroup bounds it.
    fn file_table(&self) -> Option<Hit> {
        let (before, now) = (self.before.files?, host::free_files()?);
        let hit = Hit::of(Resource::Descriptors, &self.limits);
        (now < before / FILES_RESERVE_PART).then_some(Hit { had: Some(now), host_ran_out: true, ..hit })
    }

    fn sampled(&mut self) -> Option<Hit> {
        let (before, now) = (self.before.memory?, self.before.gauge.look()?);
        let limit = self.limits.memory.limit;
        let reserve = memory_reserve(before.available, limit);
        let hit = Hit::of(Resource::Memory, &self.limits);
        if now.available < reserve {
            return Some(Hit { had: Some(now.available), host_ran_out: true, ..hit });
        }
        if Instant::now() >= self.next_sum {
            let began = own_cpu_time();
            self.sum = Sum::of(self.launcher);
            self.next_sum = Instant::now() + own_cpu_time().saturating_sub(began) * SHARE_OF_TIME;
        }
        // Memfds, System V segments and the files of the private root are shared memory, and nobody's in particular: all
        // that came since the beginning is taken to be the replay's.
        let held = self.sum.private_bytes.saturating_add(now.shared.saturating_sub(before.shared));
        if held > limit {
            return Some(Hit { had: Some(held), ..hit });
        }
        let most = self.limits.tasks.limit.saturating_add(ENGINE_TASKS);
        let tasks = self.sum.tasks;
        (tasks > most).then(|| Hit { had: Some(tasks), ..Hit::of(Resource::Tasks, &self.limits) })
    }

    /// Ends the replay: by init, which reports, or without it.
    fn end(&self, mut channel: &UnixStream, stopped: &AtomicBool) {
        let _ = channel.write_all(b"A");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if stopped.load(Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // Init dies with the launcher, and everything else with init.
        let _ = kill(Pid::from_raw(self.launcher), Signal::SIGKILL);
    }
}

/// How much memory is to stay free of what was, whoever takes it: what the kernel holds for a replay (buffers of sockets and
/// pipes) is added up nowhere. That is half, and less where the limit leaves less, but for an eighth: others need some, too.
fn memory_reserve(available: u64, limit: u64) -> u64 {
    (available / 2).min(available.saturating_sub(limit) / 8 * 7)
}

/// CPU time of the calling thread.
fn own_cpu_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(Duration::ZERO, Duration::from)
}

/// What the processes of a replay are, added up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Memory that is a process's alone, page tables included.
    pub(super) private_bytes: u64,
    pub(super) tasks: u64,
    /// CPU time of all that is below the sandbox's init, what has ended and was waited for included.
    pub(super) cpu_ns: u64,
    /// The processes below the sandbox's init.
    workers: Vec<i32>,
}

impl Sum {
    /// Of everything that descends from a process, itself not included.
    pub(super) fn of(process: i32) -> Self {
        let mut sum = Self::default();
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        let mut told: BTreeMap<i32, Told> = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let Ok(stat) = host::process_file(pid, "stat") else { continue };
            let Some(one) = Told::parse(&stat) else { continue };
            children.entry(one.parent).or_default().push(pid);
            told.insert(pid, one);
        }
        let inits = children.remove(&process).unwrap_or_default();
        let mut next = inits.clone();
        while let Some(pid) = next.pop() {
            next.extend(children.remove(&pid).unwrap_or_default());
            let one = told.get(&pid).copied().unwrap_or_default();
            sum.tasks += one.threads;
            sum.cpu_ns += if inits.contains(&pid) { one.children_ns } else { one.own_ns + one.children_ns };
            if let Some(status) = Status::of(pid) {
                sum.private_bytes += status.private_bytes;
            }
            if !inits.contains(&pid) {
                sum.workers.push(pid);
            }
        }
        sum
    }

    /// Kills the workers, and leaves init to report: it would not get a CPU among them. A process that has taken over the
    /// id of one that is gone is not in a PID namespace below ours, and stays.
    fn kill(&self) {
        for &pid in &self.workers {
            // SAFETY: integers only; the answer is a fresh descriptor, or none.
            let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
            if fd < 0 {
                continue;
            }
            // SAFETY: a fresh descriptor that nobody else owns.
            let process = unsafe { OwnedFd::from_raw_fd(fd as i32) };
            if Status::of(pid).is_some_and(|status| status.pid_namespaces > own_pid_namespaces()) {
                let none = std::ptr::null::<libc::siginfo_t>();
                // SAFETY: a descriptor of ours, a signal, no details.
                unsafe {
                    libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), libc::SIGKILL, none, 0)
                };
            }
        }
    }
}

/// Fields of `/proc/PID/stat` (proc(5)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    parent: i32,
    threads: u64,
    /// CPU time of its own, and of children that it waited for.
    own_ns: u64,
    children_ns: u64,
}

impl Told {
    fn parse(stat: &str) -> Option<Self> {
        // Behind the name: state (3), parent (4) … CPU times (14 to 17) … threads (20).
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().take(18).collect();
        let ns = |field: usize| Some(fields.get(field)?.parse::<u64>().ok()?.saturating_mul(tick_ns()));
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            threads: fields.get(17)?.parse().ok()?,
            own_ns: ns(11)?.saturating_add(ns(12)?),
            children_ns: ns(13)?.saturating_add(ns(14)?),
        })
    }
}

/// One of the ticks that the kernel tells CPU time in.
fn tick_ns() -> u64 {
    // SAFETY: an integer only.
    let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    1_000_000_000 / u64::try_from(hz).unwrap_or(100).max(1)
}

/// What `/proc/PID/status` says (proc(5)).
struct Status {
    /// `RssAnon` and `VmPTE`.
    private_bytes: u64,
    /// The PID namespaces, from ours on, in which the process has an id: numbers in `NSpid`.
    pid_namespaces: usize,
}

impl Status {
    fn of(pid: i32) -> Option<Self> {
        let text = host::process_file(pid, "status").ok()?;
        let mut status = Self { private_bytes: 0, pid_namespaces: 0 };
        for line in text.lines() {
            let Some((key, rest)) = line.split_once(':') else { continue };
            let mut words = rest.split_whitespace();
            match key {
                "NSpid" => status.pid_namespaces = words.count(),
                "RssAnon" | "VmPTE" => {
                    let kib = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
                    status.private_bytes += kib << 10;
                }
                _ => {}
            }
        }
        Some(status)
    }
}

fn own_pid_namespaces() -> usize {
    Status::of(std::process::id() as i32).map_or(usize::MAX, |status| status.pid_namespaces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::process::{Command, Stdio};

    #[test]
    fn what_descends_from_a_process_is_added_up() {
        // A name need not be text.
        let directory = tempfile::tempdir().unwrap();
        let named = directory.path().join(OsStr::from_bytes(b"s\xff)\xfe"));
        fs::copy("/bin/sleep", &named).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & \"$0\" 60 & wait"])
            .arg(&named)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let own = std::process::id() as i32;
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut sum = Sum::of(child.id() as i32);
        while sum.tasks < 2 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            sum = Sum::of(child.id() as i32);
        }
        assert_eq!(sum.tasks, 2);
        assert!(sum.private_bytes > 0);
        assert!(Sum::of(own).tasks >= 3);
        let pids = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        child.kill().unwrap();
        child.wait().unwrap();
        for pid in pids.split_whitespace() {
            kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
        }
        assert_eq!(Sum::of(child.id() as i32), Sum::default());
    }

    #[test]
    fn a_line_of_a_process_is_read_behind_whatever_name() {
        let line = "7 (a ) 1 b) S 3 7 7 0 -1 4194560 100 0 0 0 5 6 70 80 20 0 9 0 12 0 0";
        let told = Told::parse(line).unwrap();
        assert_eq!((told.parent, told.threads), (3, 9));
        assert_eq!((told.own_ns, told.children_ns), (11 * tick_ns(), 150 * tick_ns()));
        assert_eq!(Told::parse("7 (cut) S 3 7"), None);
    }

    #[test]
    fn half_of_what_was_free_stays_or_what_the_limit_leaves() {
        assert_eq!(memory_reserve(64 << 30, 1 << 30), 32 << 30);
        assert_eq!(memory_reserve(2 << 30, 1 << 30), (7 << 30) / 8);
        // Somebody wants all of it.
        assert_eq!(memory_reserve(2 << 30, 2 << 30), 0);
    }

    #[test]
    fn a_hit_is_a_sentence_with_the_figure() {
        let limits = Limits { memory: Limit::flag(1 << 30), ..Limits::default() };
        let hit = Hit { ended: true, had: Some(3 << 29), ..Hit::of(Resource::Memory, &limits) };
        assert_eq!(
            hit.to_string(),
            "the replay was ended at its limit of 1.0 GiB of memory (the flag): it had 1.5 GiB"
        );
        let hit = Hit { host_ran_out: true, ..hit };
        assert!(hit.to_string().contains("this host runs out of memory"));
    }
}
