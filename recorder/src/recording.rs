//! The way in: start a recording, look at it, stop it.

use crate::clock;
use crate::command::Child;
use crate::decode::Decoder;
use crate::error::RecordError;
use crate::host;
use crate::load::{self, OBJECT, Programs, RingSizes};
use crate::pipeline::{self, CHANNEL, Message, Shared, Writing, Written};
use crate::specs;
use crate::target::{self, KEPT, Target};
use ctrace_format::{Abi, Finished, Header, Scope, Summary, TraceWriter};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
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
    /// Ticks of 1 ns rather than 100 ns.
    pub precise: bool,
    /// End by itself after this time.
    pub duration: Option<Duration>,
    /// End by itself at this size, bytes.
    pub max_size: Option<u64>,
    /// Memory for the kernel's ring buffers, bytes.
    pub ring_bytes: u64,
    /// Another eBPF object than the embedded one: for tests of a freshly built object.
    pub object: Option<PathBuf>,
}

impl Config {
    /// The defaults.
    pub fn new(target: Target, output: impl Into<PathBuf>) -> Self {
        Self {
            target,
            output: output.into(),
            precise: false,
            duration: None,
            max_size: None,
            ring_bytes: 16 << 20,
            object: None,
        }
    }
}

/// Starts recordings.
#[derive(Debug)]
pub struct Recorder;

/// A recording that is running. Dropping it without [`Recording::stop`] leaves a readable `.partial` file.
pub struct Recording {
    shared: Arc<Shared>,
    started: Instant,
    config: Config,
    child: Option<Child>,
    command_status: Arc<Mutex<Option<i32>>>,
    threads: Option<Threads>,
    watch: Watch,
}

struct Threads {
    drain: JoinHandle<()>,
    write: JoinHandle<Written>,
}

/// What ends a recording by itself.
enum Watch {
    Command,
    Tree,
    Cgroup(PathBuf),
}

/// Figures of a running recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Since its start.
    pub elapsed: Duration,
    /// System calls recorded.
    pub calls: u64,
    /// Events of all classes recorded.
    pub events: u64,
    /// Events lost.
    pub lost: u64,
    /// Size of the file so far.
    pub bytes: u64,
    /// Threads of the scope now.
    pub threads: u64,
}

/// Why a recording is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The target ended.
    TargetExited,
    /// [`Config::duration`] is over.
    Duration,
    /// [`Config::max_size`] is reached.
    Size,
    /// The file cannot be written.
    WriteFailed,
}

impl Ended {
    /// As the summary says it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::TargetExited => "target exited",
            Self::Duration => "duration reached",
            Self::Size => "size reached",
            Self::WriteFailed => "write failed",
        }
    }
}

/// A finished recording.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The file.
    pub file: Finished,
    /// What the file says about the end.
    pub summary: Summary,
    /// The figures at the end.
    pub stats: Stats,
    /// Exit status of the command, as wait(2) tells it.
    pub command_status: Option<i32>,
}

impl Recorder {
    /// Arms the programs, takes the scope in, and begins to write.
    ///
    /// # Errors
    /// When the target is not there, the privilege or a kernel feature is missing, or the file cannot be created.
    pub fn start(config: Config) -> Result<Recording, RecordError> {
        if let Target::Pid(pid) = config.target {
            target::check_process(pid)?;
        }
        let object = match &config.object {
            Some(path) => std::fs::read(path)
                .map_err(RecordError::system(format!("reading the eBPF object {}", path.display())))?,
            None => OBJECT.to_vec(),
        };
        let (kernel, offsets) = load::offsets()?;
        let mut offsets = offsets;
        offsets.globals.own_tgid = std::process::id();
        let sizes = RingSizes::within(config.ring_bytes, host::cpus());
        let mut programs = Programs::load(&object, &offsets, sizes, &specs::table())?;
        programs.fill_free(KEPT)?;
        let mut child = match &config.target {
            Target::Command(command) => Some(Child::hold(command)?),
            _ => None,
        };
        programs.attach(&kernel)?;
        drop(kernel);
        // Programs are attached and no task is in the table yet: from here on nothing of the scope is missed.
        let start_boottime_ns = clock::boottime_ns();
        let start_realtime_ns = clock::realtime_ns();
        let (scope, watch) = describe(&config.target);
        let (held, list): (bool, Box<dyn Fn() -> Vec<u32>>) = match &config.target {
            Target::Pid(pid) => {
                let pid = *pid;
                (false, Box::new(move || target::tree(pid)))
            }
            Target::Command(_) => {
                let pid = child.as_ref().map_or(0, Child::pid);
                (true, Box::new(move || vec![pid]))
            }
            Target::Cgroup(_) => (false, Box::new(Vec::new)),
        };
        let members = target::admit_processes(&programs, list, held)?;
        if let Target::Pid(pid) = config.target
            && members.is_empty()
        {
            return Err(RecordError::TargetExited { target: format!("process {pid}") });
        }
        let mut blind = vec![
            "io_uring: work submitted through rings is not seen".to_owned(),
            "vdso: clock reads without a system call are not seen".to_owned(),
            "mmap I/O: loads and stores to mapped files are not seen".to_owned(),
            "payload: contents of reads and writes are not recorded".to_owned(),
        ];
        blind.extend(offsets.missing.iter().map(|f| format!("{f}: this kernel has no such field")));
        blind.extend(programs.absent.iter().cloned());
        let header = Header {
            tick_ns: if config.precise { 1 } else { 100 },
            start_boottime_ns,
            start_realtime_ns,
            abi: if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 },
            scope,
            host: host::facts(),
            writer: concat!("ctrace ", env!("CARGO_PKG_VERSION")).to_owned(),
            blind,
            redaction: "default".into(),
        };
        let partial = partial(&config.output);
        let mut writer = TraceWriter::create(&config.output, &header)
            .map_err(|source| RecordError::Write { source, partial })?;
        let mut decoder = Decoder::new(start_boottime_ns);
        for m in &members {
            decoder.known(&mut writer, m.tid, m.tgid, &m.comm);
        }
        let shared = Arc::new(Shared::default());
        shared.alive.store(members.len() as u64, Ordering::Release);
        let command_status = Arc::new(Mutex::new(None));
        let threads = threads(programs, writer, decoder, &shared, &command_status, start_boottime_ns)?;
        if let Some(child) = &mut child {
            child.release().map_err(RecordError::system("releasing the command"))?;
        }
        Ok(Recording {
            shared,
            started: Instant::now(),
            config,
            child,
            command_status,
            threads: Some(threads.0),
            watch,
        })
    }
}

fn partial(output: &std::path::Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn threads(
    programs: Programs,
    writer: TraceWriter,
    decoder: Decoder,
    shared: &Arc<Shared>,
    command_status: &Arc<Mutex<Option<i32>>>,
    start_boottime_ns: u64,
) -> Result<(Threads, SyncSender<Message>), RecordError> {
    let rings = programs.rings()?;
    let (send, receive) = sync_channel(CHANNEL);
    let writing = Writing {
        writer,
        decoder,
        shared: Arc::clone(shared),
        start_boottime_ns,
        command_status: Arc::clone(command_status),
    };
    let write = std::thread::Builder::new()
        .name("ctrace-write".into())
        .spawn(move || writing.run(&receive))
        .map_err(RecordError::system("starting a thread"))?;
    let to_write = send.clone();
    let shared = Arc::clone(shared);
    let drain = std::thread::Builder::new()
        .name("ctrace-drain".into())
        .spawn(move || pipeline::drain(programs, &rings, &shared, &to_write, start_boottime_ns))
        .map_err(RecordError::system("starting a thread"))?;
    Ok((Threads { drain, write }, send))
}

fn describe(target: &Target) -> (Scope, Watch) {
    match target {
        Target::Pid(pid) => (Scope::Pid { pid: *pid }, Watch::Tree),
        Target::Cgroup(path) => (
            Scope::Cgroup { path: path.to_string_lossy().into_owned(), version: 2 },
            Watch::Cgroup(path.clone()),
        ),
        Target::Command(command) => (
            Scope::Command { argv: command.argv.iter().map(|a| a.to_string_lossy().into_owned()).collect() },
            Watch::Command,
        ),
    }
}

impl Recording {
    /// The figures now.
    pub fn stats(&self) -> Stats {
        Stats {
            elapsed: self.started.elapsed(),
            calls: self.shared.calls.load(Ordering::Relaxed),
            events: self.shared.events.load(Ordering::Relaxed),
            lost: self.shared.lost.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            threads: self.shared.alive.load(Ordering::Acquire),
        }
    }

    /// Id of the command's process, when there is one.
    pub fn command_pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::pid)
    }

    /// Whether the recording is over by itself. Then call [`Recording::stop`].
    pub fn poll(&mut self) -> Option<Ended> {
        if self.shared.failed.load(Ordering::Acquire) {
            return Some(Ended::WriteFailed);
        }
        if self.config.duration.is_some_and(|d| self.started.elapsed() >= d) {
            return Some(Ended::Duration);
        }
        if self.config.max_size.is_some_and(|max| self.shared.bytes.load(Ordering::Relaxed) >= max) {
            return Some(Ended::Size);
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
                self.shared.primed.load(Ordering::Acquire) && self.shared.alive.load(Ordering::Acquire) == 0
            }
            Watch::Cgroup(path) => !path.exists(),
        };
        over.then_some(Ended::TargetExited)
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
            std::thread::sleep(left.min(Duration::from_millis(5)));
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
        let partial = partial(&self.config.output);
        let Some(threads) = self.threads.take() else {
            return Err(RecordError::Panicked { thread: "write" });
        };
        pipeline::join(threads.drain, "drain")?;
        let written = pipeline::join(threads.write, "write")?;
        let stats = self.stats();
        let file = written.finished.map_err(|source| RecordError::Write { source, partial })?;
        Ok(Outcome { file, stats, command_status: written.summary.command_status, summary: written.summary })
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(threads) = self.threads.take() {
            let _ = threads.drain.join();
            let _ = threads.write.join();
        }
    }
}
