//! The way in: start a recording, look at it, stop it.

use crate::arch;
use crate::btf::Kernel;
use crate::caps::{self, Cap};
use crate::cgroup::Cgroup;
use crate::clock;
use crate::command::Child;
use crate::decode::Decoder;
use crate::error::RecordError;
use crate::host;
use crate::load::{self, OBJECT, Programs, RingSizes};
use crate::pipeline::{self, CHANNEL, Message, Shared, Writing, Written};
use crate::sample::{self, Subject};
use crate::snapshot;
use crate::sockets;
use crate::specs;
use crate::target::{self, KEPT, Target};
use ctrace_abi::Globals;
use ctrace_format::{Finished, Header, Policy, Scope, Summary, TraceWriter, WriteOptions};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
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
    /// What is redacted before it is written.
    pub redact: Policy,
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
            redact: Policy::Default,
            ring_bytes: 16 << 20,
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
    config: Config,
    child: Option<Child>,
    command_status: Arc<Mutex<Option<i32>>>,
    threads: Option<Threads>,
    watch: Watch,
}

struct Threads {
    sample: JoinHandle<()>,
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
        // The cheap refusals first.
        target::check_namespace()?;
        let group = match &config.target {
            Target::Pid(pid) => {
                target::check_process(*pid)?;
                None
            }
            Target::Cgroup(path) => Some(Cgroup::find(path)?),
            Target::Command(_) => None,
        };
        let object = match &config.object {
            Some(path) => Cow::Owned(
                std::fs::read(path)
                    .map_err(RecordError::system(format!("reading the eBPF object {}", path.display())))?,
            ),
            None => Cow::Borrowed(OBJECT),
        };
        let (kernel, mut offsets) = load::offsets()?;
        offsets.globals.own_tgid = std::process::id();
        if let Some(group) = &group {
            scope_globals(group, &kernel, &mut offsets.globals)?;
        }
        let sizes = RingSizes::within(config.ring_bytes, host::cpus());
        let mut programs = Programs::load(&object, &offsets, sizes, &specs::table(arch::HOST))?;
        programs.fill_free(KEPT)?;
        let mut child = match &config.target {
            Target::Command(command) => Some(Child::hold(command)?),
            _ => None,
        };
        let list = lister(&config.target, group.as_ref(), child.as_ref().map(Child::pid));
        for pid in list() {
            for (netns, port) in sockets::name_all(pid) {
                programs.listens(netns, port, pid);
            }
        }
        programs.attach(&kernel)?;
        drop(kernel);
        // The kernel's type information is tens of megabytes while it is searched; nothing as large follows.
        // SAFETY: no pointers.
        unsafe { libc::malloc_trim(0) };
        let facts = host::facts();
        // Programs are attached and no task is in the table yet: from here on nothing of the scope is missed.
        let start_boottime_ns = clock::boottime_ns();
        let header = Header {
            tick_ns: if config.precise { 1 } else { 100 },
            start_boottime_ns,
            start_realtime_ns: clock::realtime_ns(),
            abi: arch::HOST.native,
            scope: scope(&config.target, group.as_ref()),
            host: facts,
            writer: concat!("ctrace ", env!("CARGO_PKG_VERSION")).to_owned(),
            blind: blind(&config.target, &offsets.missing, &programs.absent),
            // The writer says what it did.
            redaction: String::new(),
        };
        let mut options = WriteOptions::default();
        options.redact = Some(config.redact);
        let mut writer = TraceWriter::create_with(&config.output, &header, options)
            .map_err(|source| RecordError::Write { source, partial: partial(&config.output) })?;
        let members = target::admit_processes(&programs, &list, child.is_some())?;
        if let Target::Pid(pid) = config.target
            && members.is_empty()
        {
            // Nothing was recorded: no file is better than an empty one.
            drop(writer);
            let _ = std::fs::remove_file(partial(&config.output));
            return Err(RecordError::TargetExited { target: format!("process {pid}") });
        }
        let mut decoder = Decoder::new(start_boottime_ns);
        for m in &members {
            decoder.known(&mut writer, m.tid, m.tgid, &m.comm);
        }
        let shared = Arc::new(Shared::default());
        shared.alive.store(members.len() as u64, Ordering::Release);
        let command_status = Arc::new(Mutex::new(None));
        let writing = Writing {
            writer,
            decoder,
            shared: Arc::clone(&shared),
            start_boottime_ns,
            command_status: Arc::clone(&command_status),
            directory: parent(&config.output),
        };
        let subject = group.clone().map_or(Subject::Processes, Subject::Cgroup);
        let (threads, send) = threads(programs, writing, subject)?;
        if child.is_none() {
            let mut tgids: Vec<u32> = members.iter().map(|m| m.tgid).collect();
            tgids.dedup();
            let snapshot = snapshot::take(&tgids);
            // The write thread lives as long as the recording; if it died, stop() says so.
            let _ = send.send(Message::Snapshot(Box::new(snapshot)));
        }
        drop(send);
        if let Some(child) = &mut child {
            child.release().map_err(RecordError::system("releasing the command"))?;
        }
        let watch = match (&config.target, group) {
            (Target::Command(_), _) => Watch::Command,
            (_, Some(group)) => Watch::Cgroup(group.path),
            _ => Watch::Tree,
        };
        Ok(Recording {
            shared,
            started: Instant::now(),
            config,
            child,
            command_status,
            threads: Some(threads),
            watch,
        })
    }
}

/// Tells the programs which cgroup to look for.
fn scope_globals(group: &Cgroup, kernel: &Kernel, globals: &mut Globals) -> Result<(), RecordError> {
    globals.cgroup_id = group.id;
    globals.scope = u32::from(group.version);
    if group.version == 1 {
        globals.subsys = group.subsystem(kernel).ok_or_else(|| RecordError::KernelLacks {
            what: format!(
                "a controller for {}: tasks of a named v1 hierarchy cannot be told apart",
                group.path.display()
            ),
            fix: "give the same cgroup in a hierarchy that has a controller (cpu, memory, pids)".into(),
        })?;
    }
    Ok(())
}

/// The processes to take in when recording begins.
fn lister(target: &Target, group: Option<&Cgroup>, child: Option<u32>) -> Box<dyn Fn() -> Vec<u32>> {
    match (target, group.cloned()) {
        (_, Some(group)) => Box::new(move || group.processes()),
        (Target::Pid(pid), _) => {
            let pid = *pid;
            Box::new(move || target::tree(pid))
        }
        _ => Box::new(move || child.into_iter().collect()),
    }
}

fn scope(target: &Target, group: Option<&Cgroup>) -> Scope {
    match (target, group) {
        (_, Some(group)) => {
            Scope::Cgroup { path: group.path.to_string_lossy().into_owned(), version: group.version }
        }
        (Target::Command(command), _) => {
            // The writer redacts it.
            Scope::Command { argv: command.argv.iter().map(|a| a.to_string_lossy().into_owned()).collect() }
        }
        (Target::Pid(pid), _) => Scope::Pid { pid: *pid },
        (Target::Cgroup(path), None) => {
            Scope::Cgroup { path: path.to_string_lossy().into_owned(), version: 0 }
        }
    }
}

/// What this recording cannot see.
fn blind(target: &Target, missing: &[String], absent: &[String]) -> Vec<String> {
    let mut blind: Vec<String> = [
        "io_uring: work submitted through rings is not seen",
        "vdso: clock reads without a system call are not seen",
        "mmap I/O: loads and stores to mapped files are not seen",
        "payload: contents of reads and writes are not recorded",
    ]
    .map(str::to_owned)
    .to_vec();
    blind.extend(missing.iter().map(|f| format!("{f}: this kernel has no such field")));
    blind.extend(absent.iter().cloned());
    // A command that we start is ours.
    if !matches!(target, Target::Command(_)) {
        blind.extend(caps::blind_spots());
    }
    blind
}

/// The directory of a file.
fn parent(output: &Path) -> PathBuf {
    output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).into()
}

fn partial(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn threads(
    programs: Programs,
    writing: Writing,
    subject: Subject,
) -> Result<(Threads, SyncSender<Message>), RecordError> {
    let rings = programs.rings()?;
    let (send, receive) = sync_channel(CHANNEL);
    let start = writing.start_boottime_ns;
    let shared = Arc::clone(&writing.shared);
    let spawn = |name: &str| std::thread::Builder::new().name(name.into());
    let failed = || RecordError::system("starting a thread");
    let write = spawn("ctrace-write").spawn(move || writing.run(&receive)).map_err(failed())?;
    let (to_write, sharing) = (send.clone(), Arc::clone(&shared));
    let drain = spawn("ctrace-drain")
        .spawn(move || pipeline::drain(programs, &rings, &sharing, &to_write, start))
        .map_err(failed())?;
    let to_write = send.clone();
    let sample = spawn("ctrace-sample")
        .spawn(move || sample::run(&subject, &shared, &to_write, start))
        .map_err(failed())?;
    Ok((Threads { sample, drain, write }, send))
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
        pipeline::join(threads.sample, "sample")?;
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
            let _ = threads.sample.join();
            let _ = threads.drain.join();
            let _ = threads.write.join();
        }
    }
}
