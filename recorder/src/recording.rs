//! The way in: start a recording, look at it, stop it.

mod start;

use crate::caps::{self, Cap};
use crate::command::Child;
use crate::disk::Disk;
use crate::error::RecordError;
use crate::flight::{Note, Request, RingConfig};
use crate::follow::Live;
use crate::patience::Patience;
use crate::pipeline::{self, Message, Shared, Written};
use crate::privilege::Whose;
use crate::table::Table;
use crate::target::Target;
use ctrace_format::{Finished, Policy, Summary, Taken};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What to record, and where to.
#[derive(Debug, Clone)]
pub struct Config {
    /// What.
    pub target: Target,
    /// The file: `NAME.partial` while recording, `NAME` when finished.
    pub output: PathBuf,
    /// What to do where that name is taken. Dumps take the next free one, always.
    pub taken: Taken,
    /// Whose processes may be in the scope. A scope that gains another's ends.
    pub whose: Whose,
    /// For the header's facts about the machine.
    pub facts: BTreeMap<String, String>,
    /// Names of the rules of the fault plan of a replay.
    pub rules: Vec<String>,
    /// Memory and CPU time of the workload that are not in the processes of its scope: of a replay that is pressed.
    pub beside: Beside,
    /// Ticks of 1 ns rather than 100 ns.
    pub precise: bool,
    /// End by itself after this time.
    pub duration: Option<Duration>,
    /// End by itself at this size, bytes.
    pub max_size: Option<u64>,
    /// What is redacted before it is written.
    pub redact: Policy,
    /// End by itself before the file system has less room than this, bytes.
    pub keep_free: Option<u64>,
    /// Memory for the kernel's ring buffers, bytes.
    pub ring_bytes: u64,
    /// Keep the last window in memory, and dump it to `output` and its siblings, instead of writing all to it.
    pub ring: Option<RingConfig>,
    /// Endpoint of the container runtime, a path or `unix://…`; `None`: that of the environment
    /// (`CONTAINER_RUNTIME_ENDPOINT`), or the first default one that answers.
    pub cri_endpoint: Option<String>,
    /// Another eBPF object than the embedded one: for tests of a freshly built object.
    pub object: Option<PathBuf>,
}

/// Memory and CPU time that count as the scope's beside those of its processes.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Processes whose resident memory counts.
    pub holders: Vec<u32>,
    /// Processes of one thread whose CPU time, and time waited for a CPU, count.
    pub spinners: Vec<u32>,
    /// The directory of the cgroup of both, for what the kernel charges to it.
    pub memory: Option<PathBuf>,
}

impl Config {
    /// The defaults.
    pub fn new(target: Target, output: impl Into<PathBuf>) -> Self {
        Self {
            target,
            output: output.into(),
            taken: Taken::Next,
            whose: Whose::Everybody,
            facts: BTreeMap::new(),
            rules: Vec::new(),
            beside: Beside::default(),
            precise: false,
            duration: None,
            max_size: None,
            redact: Policy::Default,
            keep_free: None,
            ring_bytes: 16 << 20,
            ring: None,
            cri_endpoint: None,
            object: None,
        }
    }
}

/// Starts recordings.
#[derive(Debug)]
pub struct Recorder;

/// A recording that is running. Dropping it stops it and finishes the file; only [`Recording::stop`] says how it went.
pub struct Recording {
    shared: Arc<Shared>,
    started: Instant,
    start_boottime_ns: u64,
    config: Config,
    child: Option<Child>,
    command_status: Arc<Mutex<Option<i32>>>,
    threads: Option<Threads>,
    send: Option<SyncSender<Message>>,
    watch: Watch,
    remarks: Vec<String>,
    /// Which threads the kernel half records.
    table: Arc<Table>,
    disk: Arc<Disk>,
    /// The name that the file will have, and the one that it has now.
    names: [PathBuf; 2],
}

struct Threads {
    snapshots: Option<JoinHandle<()>>,
    sample: JoinHandle<()>,
    drain: JoinHandle<()>,
    write: JoinHandle<Written>,
    follow: Option<JoinHandle<()>>,
}

/// What ends a recording by itself.
enum Watch {
    Command,
    Tree,
    Cgroup(PathBuf),
    Live(Arc<Live>),
}

/// How long threads may take to end that nothing of the trace comes from any more: one may be asking a runtime that hangs.
const OTHERS_PATIENCE: Duration = Duration::from_millis(300);
/// How long nothing may go on before what is left to do is given up. Looks at the target may take nearly as long in all.
const PATIENCE: Duration = Duration::from_millis(2500);
/// How long a request may wait for its turn.
const REQUEST_PATIENCE: Duration = Duration::from_millis(500);

/// Figures of a running recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Since its start.
    pub elapsed: Duration,
    /// System calls recorded.
    pub calls: u64,
    /// System calls counted instead, for want of room.
    pub aggregated: u64,
    /// Events of all classes recorded.
    pub events: u64,
    /// Events lost.
    pub lost: u64,
    /// Size of the file so far; of a flight recorder, of the window in memory.
    pub bytes: u64,
    /// Threads of the scope now.
    pub threads: u64,
    /// Calls that failed, without those that only say "not yet".
    pub failures: u64,
    /// TCP connections that were established.
    pub connections: u64,
    /// Of a flight recorder: where its window begins, ns since the start, and the calls in it.
    pub window: Option<(u64, u64)>,
}

/// Why a recording is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The target ended.
    TargetExited,
    /// The pod's sandbox is gone, or the container.
    ContainersGone,
    /// [`Config::duration`] is over.
    Duration,
    /// [`Config::max_size`] is reached.
    Size,
    /// The file system has no more room than [`Config::keep_free`].
    DiskNearlyFull,
    /// The file cannot be written.
    WriteFailed,
    /// A process of the scope became somebody else's: [`Config::whose`].
    NotYours,
}

impl Ended {
    /// As the summary says it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::TargetExited => "target exited",
            Self::ContainersGone => "containers gone",
            Self::Duration => "duration reached",
            Self::Size => "size reached",
            Self::DiskNearlyFull => "disk nearly full",
            Self::WriteFailed => "write failed",
            Self::NotYours => "a process became another user's",
        }
    }
}

/// A finished recording.
#[derive(Debug)]
pub struct Outcome {
    /// The file.
    pub file: Finished,
    /// What the file says about the end.
    pub summary: Summary,
    /// The figures at the end.
    pub stats: Stats,
    /// Exit status of the command, as wait(2) tells it.
    pub command_status: Option<i32>,
    /// What could not be learnt of the scope because it did not answer in time, as sentences. The file says it too.
    pub unlearnt: Vec<String>,
    /// Whether the trace has no room for more: [`Config::max_size`], whatever ended the recording.
    pub size_reached: bool,
    /// Whether a process of the scope became somebody else's, whatever else ended the recording: it is told up to there.
    pub not_yours: bool,
    /// What happened since [`Recording::notes`] was last asked.
    pub notes: Vec<Note>,
}

/// The name of a file that is not finished.
pub(crate) fn partial(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

impl Recording {
    /// The figures now.
    pub fn stats(&self) -> Stats {
        Stats {
            elapsed: self.started.elapsed(),
            calls: self.shared.calls.load(Ordering::Relaxed),
            aggregated: self.shared.aggregated.load(Ordering::Relaxed),
            events: self.shared.events.load(Ordering::Relaxed),
            lost: self.shared.lost.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            threads: self.shared.alive.load(Ordering::Acquire),
            failures: self.shared.failures.load(Ordering::Relaxed),
            connections: self.shared.connections.load(Ordering::Relaxed),
            window: self.config.ring.map(|_| {
                let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
                (load(&self.shared.window_from_ns), load(&self.shared.window_calls))
            }),
        }
    }

    /// When its timeline begins, `CLOCK_BOOTTIME`.
    pub fn start_boottime_ns(&self) -> u64 {
        self.start_boottime_ns
    }

    /// The calling thread gives up every capability that the rest of the recording needs no more, for good. Threads
    /// that it starts from now on begin without them. Not done by itself: the caller may have other plans.
    ///
    /// # Errors
    /// When the kernel refuses, which it does not for giving up.
    pub fn drop_privileges(&self) -> std::io::Result<()> {
        // A command may have become another user's.
        let keep: &[Cap] = if self.child.is_some() { &[Cap::Kill] } else { &[] };
        caps::keep_only(keep)
    }

    /// Asks for something while recording goes on. Whether it will be done: not when the recorder is so far behind, or
    /// its disk so slow, that there is no room for it soon.
    #[must_use]
    pub fn request(&self, request: Request) -> bool {
        let Some(send) = &self.send else { return false };
        let mut message = Message::Request(request);
        let mut patience = Patience::new(REQUEST_PATIENCE);
        loop {
            message = match send.try_send(message) {
                Ok(()) => return true,
                Err(TrySendError::Full(message)) if !patience.is_over(0, Duration::ZERO) => message,
                Err(_) => return false,
            };
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What happened since this was last asked.
    pub fn notes(&self) -> Vec<Note> {
        std::mem::take(&mut *self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Id of the command's process, when there is one.
    pub fn command_pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::pid)
    }

    /// The name that the file will have; of a flight recorder, the one that dumps begin with.
    pub fn output(&self) -> &Path {
        &self.names[0]
    }

    /// The name that the file has until then.
    pub fn partial(&self) -> &Path {
        &self.names[1]
    }

    /// What was noticed when it began, as sentences.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Whether the recording is over by itself. Then call [`Recording::stop`].
    pub fn poll(&mut self) -> Option<Ended> {
        if self.shared.size_reached.load(Ordering::Acquire) {
            return Some(Ended::Size);
        }
        if self.shared.failed.load(Ordering::Acquire) {
            return Some(Ended::WriteFailed);
        }
        if self.shared.not_yours.load(Ordering::Acquire) {
            return Some(Ended::NotYours);
        }
        if self.config.duration.is_some_and(|d| self.started.elapsed() >= d) {
            return Some(Ended::Duration);
        }
        if self.config.max_size.is_some_and(|max| self.shared.bytes.load(Ordering::Relaxed) >= max) {
            return Some(Ended::Size);
        }
        if self.is_disk_nearly_full() {
            return Some(Ended::DiskNearlyFull);
        }
        let over = match &self.watch {
            Watch::Command => match self.child.as_mut().and_then(Child::try_wait) {
                Some(status) => {
                    *self.command_status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                    true
                }
                None => false,
            },
            Watch::Tree => {
                self.shared.primed.load(Ordering::Acquire)
                    && (self.shared.alive.load(Ordering::Acquire) == 0 || self.is_late_and_over())
            }
            Watch::Cgroup(path) => !path.exists(),
            Watch::Live(live) if live.is_over() => return Some(Ended::ContainersGone),
            Watch::Live(_) => false,
        };
        over.then_some(Ended::TargetExited)
    }

    /// Whether there is less room than is to be kept, or will be when what was not written yet is.
    fn is_disk_nearly_full(&self) -> bool {
        /// An open chunk, what waits to be written, and the index.
        const TO_COME: u64 = 8 << 20;
        let (Some(keep), Some(free)) = (self.config.keep_free, self.shared.free()) else { return false };
        free < keep.saturating_add(TO_COME)
    }

    /// Whether the kernel half has seen the end of every thread, while those who count them here wait for the disk.
    fn is_late_and_over(&self) -> bool {
        self.disk.is_asked() && self.table.is_empty()
    }

    /// Waits until the recording is over by itself, at most `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Option<Ended> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(ended) = self.poll() {
                return Some(ended);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            std::thread::sleep(left.min(Duration::from_millis(10)));
        }
    }

    /// Detaches, drains, flushes, finishes the file. `reason` is for the file's summary, see [`Ended::text`].
    ///
    /// # Errors
    /// When the file cannot be finished; what was written before is readable.
    pub fn stop(mut self, reason: &str) -> Result<Outcome, RecordError> {
        self.poll();
        reason.clone_into(&mut self.shared.reason.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.stop.store(true, Ordering::Release);
        let partial = self.names[1].clone();
        let Some(threads) = self.threads.take() else {
            return Err(RecordError::Panicked { thread: "write" });
        };
        self.send = None;
        let written = self.finish(threads)?;
        let stats = self.stats();
        let file = written.finished.map_err(|source| RecordError::Write { source, partial, begun: true })?;
        let command_status = written.summary.command_status;
        let unlearnt =
            self.shared.unlearnt.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let not_yours = self.shared.not_yours.load(Ordering::Acquire);
        let summary = written.summary;
        let size_reached = self.shared.size_reached.load(Ordering::Acquire);
        let notes = self.notes();
        Ok(Outcome { file, summary, stats, command_status, unlearnt, size_reached, not_yours, notes })
    }

    /// Waits for the threads as long as something goes on. No thread waits in a call that a signal does not end, so that
    /// one which is left behind does not keep the process.
    fn finish(&self, threads: Threads) -> Result<Written, RecordError> {
        let Threads { snapshots, sample, drain, write, follow } = threads;
        sample.thread().unpark();
        let mut patience = Patience::new(PATIENCE);
        while !write.is_finished() {
            let progress = self.shared.steps.load(Ordering::Acquire) + self.disk.progress();
            if patience.is_over(progress, self.disk.allowance()) {
                return Err(self.hangs(drain));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let written = pipeline::join(write, "write")?;
        let others =
            [(Some(sample), "sample"), (Some(drain), "drain"), (snapshots, "snapshot"), (follow, "follow")];
        let mut patience = Patience::new(OTHERS_PATIENCE);
        for (thread, name) in others {
            let Some(thread) = thread else { continue };
            while !thread.is_finished() && !patience.is_over(0, Duration::ZERO) {
                std::thread::sleep(Duration::from_millis(2));
            }
            if thread.is_finished() {
                pipeline::join(thread, name)?;
            } else {
                tracing::warn!(name, "a thread is left behind");
            }
        }
        Ok(written)
    }

    /// Why it does not come to its end.
    fn hangs(&self, drain: JoinHandle<()>) -> RecordError {
        let partial = self.names[1].clone();
        if self.disk.is_asked() {
            let seen = self.shared.events.load(Ordering::Relaxed);
            let unwritten = seen - self.shared.safe_events.load(Ordering::Relaxed).min(seen);
            return RecordError::DiskHangs { unwritten, seen, partial };
        }
        if drain.is_finished() {
            // It panicked, and those who wait for it cannot know.
            return match pipeline::join(drain, "drain") {
                Err(error) => error,
                Ok(()) => RecordError::Hangs { thread: "write" },
            };
        }
        RecordError::Hangs { thread: "drain" }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.send = None;
        if let Some(threads) = self.threads.take() {
            // Only stop() says how it went.
            let _ = self.finish(threads);
        }
    }
}
