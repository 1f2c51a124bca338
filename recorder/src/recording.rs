//! The way in: start a recording, look at it, stop it.

use crate::arch;
use crate::btf::Kernel;
use crate::caps::{self, Cap};
use crate::cgroup::{Cgroup, Hierarchy};
use crate::clock;
use crate::command::Child;
use crate::decode::Decoder;
use crate::error::RecordError;
use crate::flight::{self, Flight, Note, Observer, Request, RingConfig};
use crate::follow::{Follower, Live};
use crate::host;
use crate::load::{self, OBJECT, Programs, RingSizes};
use crate::pipeline::{self, CHANNEL, Message, Shared, Writing, Written};
use crate::pods::{self, Found, Group, Source};
use crate::sample::{self, Subject};
use crate::snapshot;
use crate::sockets;
use crate::specs;
use crate::target::{self, Member, Target};
use ctrace_abi::{Globals, UNNAMED_GROUP};
use ctrace_format::{
    Container, Finished, Header, Policy, RingOptions, Scope, Summary, TraceWriter, WriteError, WriteOptions,
};
use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
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
    config: Config,
    child: Option<Child>,
    command_status: Arc<Mutex<Option<i32>>>,
    threads: Option<Threads>,
    send: Option<SyncSender<Message>>,
    watch: Watch,
    remarks: Vec<String>,
    /// When the room in the file system was last looked at.
    looked: Option<Instant>,
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

/// The cgroups that a target is made of.
struct Grouped {
    groups: Vec<Group>,
    /// Of the hierarchy that they are in: any group of it.
    any: Cgroup,
    /// Containers: what is known of them, and how more are found.
    found: Option<Followed>,
}

/// What a scope of containers is besides its groups.
struct Followed {
    hierarchy: Hierarchy,
    containers: Vec<Container>,
    source: Option<Source>,
    notes: Vec<String>,
}

/// How long the thread that follows containers may take to end: it may be asking a runtime that hangs.
const FOLLOW_PATIENCE: Duration = Duration::from_millis(300);

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
    /// What happened since [`Recording::notes`] was last asked.
    pub notes: Vec<Note>,
}

impl Recorder {
    /// Arms the programs, takes the scope in, and begins to write.
    ///
    /// # Errors
    /// When the target is not there, the privilege or a kernel feature is missing, or the file cannot be created.
    pub fn start(config: Config) -> Result<Recording, RecordError> {
        Self::start_observed(config, None)
    }

    /// As [`Recorder::start`], with somebody who looks at every event.
    ///
    /// # Errors
    /// As [`Recorder::start`].
    pub fn start_observed(config: Config, observer: Option<Observer>) -> Result<Recording, RecordError> {
        // The cheap refusals first.
        target::check_namespace()?;
        let (scope, mut grouped) = resolve(&config)?;
        let object = match &config.object {
            Some(path) => Cow::Owned(
                std::fs::read(path)
                    .map_err(RecordError::system(format!("reading the eBPF object {}", path.display())))?,
            ),
            None => Cow::Borrowed(OBJECT),
        };
        let (kernel, mut offsets) = load::offsets()?;
        offsets.globals.own_tgid = std::process::id();
        if let Some(grouped) = &grouped {
            scope_globals(grouped, &kernel, &mut offsets.globals)?;
        }
        let sizes = RingSizes::within(config.ring_bytes, host::cpus());
        let mut programs = Programs::load(&object, &offsets, sizes, &specs::table(arch::HOST))?;
        let map = programs.groups()?;
        for group in grouped.iter().flat_map(|g| &g.groups) {
            map.insert(group.cgroup.id, group.number)
                .map_err(RecordError::system("telling the programs what to record"))?;
        }
        let mut child = match &config.target {
            Target::Command(command) => Some(Child::hold(command)?),
            _ => None,
        };
        let lists = listers(&config.target, grouped.as_ref(), child.as_ref().map(Child::pid));
        for pid in lists.iter().flat_map(|(_, list)| list()) {
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
            scope,
            host: facts,
            writer: concat!("ctrace ", env!("CARGO_PKG_VERSION")).to_owned(),
            blind: blind(&config.target, &offsets.missing, &programs),
            // The writer says what it did.
            redaction: String::new(),
        };
        let writer = if let Some(ring) = &config.ring {
            writable(&config.output)?;
            let mut options = RingOptions::new(ring.span.as_nanos() as u64, ring.bytes);
            options.redact = Some(config.redact);
            TraceWriter::ring(&header, options)
        } else {
            let mut options = WriteOptions::default();
            options.redact = Some(config.redact);
            TraceWriter::create_with(&config.output, &header, options)
        };
        let mut writer =
            writer.map_err(|source| RecordError::Write { source, partial: partial(&config.output) })?;
        let found = grouped.as_mut().and_then(|g| g.found.take());
        if let Some(found) = &found {
            writer
                .containers(&found.containers)
                .map_err(|source| RecordError::Write { source, partial: partial(&config.output) })?;
        }
        let table = programs.table();
        let members: Vec<Member> = lists
            .iter()
            .flat_map(|(number, list)| target::admit_processes(&table, list, child.is_some(), *number))
            .collect();
        if let Target::Pid(pid) = config.target
            && members.is_empty()
        {
            // Nothing was recorded: no file is better than an empty one.
            drop(writer);
            if config.ring.is_none() {
                let _ = std::fs::remove_file(partial(&config.output));
            }
            return Err(RecordError::TargetExited { target: format!("process {pid}") });
        }
        let mut decoder = Decoder::new(start_boottime_ns);
        decoder.block_flags = offsets.block_flags;
        if config.ring.is_some() {
            decoder.keep_places();
        }
        for m in &members {
            // Nothing is told of tasks before their first event.
            decoder.known(&mut writer, m, &mut |_, _| {});
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
            table: programs.table(),
            directory: parent(&config.output),
            flight: config.ring.map(|ring| Flight::new(ring, config.output.clone(), header)),
            observer,
        };
        let live = grouped.as_ref().map(|g| Arc::new(Live::new(g.groups.clone())));
        let subject = live.clone().map_or(Subject::Processes, Subject::Groups);
        let (ring, wake) = programs.group_events()?;
        let (mut threads, send) = threads(programs, writing, subject, config.ring)?;
        let mut remarks = Vec::new();
        let mut watch = match (&config.target, grouped) {
            (Target::Command(_), _) => Watch::Command,
            (_, Some(grouped)) => Watch::Cgroup(grouped.any.path),
            _ => Watch::Tree,
        };
        if let (Some(found), Some(live)) = (found, live) {
            watch = Watch::Live(Arc::clone(&live));
            remarks = found.notes;
            let follower = Follower {
                source: found.source,
                hierarchy: found.hierarchy,
                map,
                table,
                ring,
                wake,
                live,
                containers: found.containers,
                shared: Arc::clone(&shared),
                out: send.clone(),
                start_boottime_ns,
            };
            let spawned = std::thread::Builder::new().name("ctrace-follow".into()).spawn(|| follower.run());
            threads.follow = Some(spawned.map_err(RecordError::system("starting a thread"))?);
        }
        if child.is_none() {
            let mut tgids: Vec<u32> = members.iter().map(|m| m.tgid).collect();
            tgids.dedup();
            let taken_ns = clock::boottime_ns();
            let snapshot = snapshot::take(&tgids);
            // The write thread lives as long as the recording; if it died, stop() says so.
            let _ = send.send(Message::Snapshot(Box::new(snapshot), taken_ns));
        }
        if let Some(child) = &mut child {
            child.release().map_err(RecordError::system("releasing the command"))?;
        }
        Ok(Recording {
            shared,
            started: Instant::now(),
            config,
            child,
            command_status,
            threads: Some(threads),
            send: Some(send),
            watch,
            remarks,
            looked: None,
        })
    }
}

/// What the header says of the target, and the cgroups that it is made of, if it is.
fn resolve(config: &Config) -> Result<(Scope, Option<Grouped>), RecordError> {
    let endpoint = config.cri_endpoint.as_deref();
    let found = match &config.target {
        Target::Pid(pid) => {
            target::check_process(*pid)?;
            return Ok((Scope::Pid { pid: *pid }, None));
        }
        Target::Command(command) => {
            // The writer redacts it.
            let argv = command.argv.iter().map(|a| a.to_string_lossy().into_owned()).collect();
            return Ok((Scope::Command { argv }, None));
        }
        Target::Cgroup(path) => {
            let cgroup = Cgroup::find(path)?;
            let scope =
                Scope::Cgroup { path: cgroup.path.to_string_lossy().into_owned(), version: cgroup.version };
            let groups = vec![Group { number: UNNAMED_GROUP, cgroup: cgroup.clone() }];
            return Ok((scope, Some(Grouped { groups, any: cgroup, found: None })));
        }
        Target::Pod { name, namespace, container } => {
            pods::pod(name, namespace.as_deref(), container.as_deref(), endpoint)?
        }
        Target::Container(name) => pods::container(name, endpoint)?,
    };
    let Found { scope, hierarchy, groups, containers, source, notes } = found;
    let any = groups.first().map(|g| g.cgroup.clone()).or_else(|| hierarchy.group("/"));
    let any = any.ok_or_else(|| RecordError::TargetExited { target: "every container".into() })?;
    let found = Followed { hierarchy, containers, source, notes };
    Ok((scope, Some(Grouped { groups, any, found: Some(found) })))
}

/// Tells the programs in which hierarchy to look.
fn scope_globals(grouped: &Grouped, kernel: &Kernel, globals: &mut Globals) -> Result<(), RecordError> {
    let group = &grouped.any;
    globals.scope = u32::from(group.version);
    if let Some(found) = &grouped.found {
        globals.watch_groups = 1;
        globals.hierarchy = found.hierarchy.number();
    }
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

/// Lists the processes to take in when recording begins, by the number of their group.
type Lister = (u32, Box<dyn Fn() -> Vec<u32>>);

fn listers(target: &Target, grouped: Option<&Grouped>, child: Option<u32>) -> Vec<Lister> {
    match (target, grouped) {
        (_, Some(grouped)) => {
            // Containers before the pod that they are in.
            let mut groups = grouped.groups.clone();
            groups.sort_by_key(|g| g.number);
            groups
                .into_iter()
                .map(|group| (group.number, Box::new(move || group.cgroup.processes()) as Box<_>))
                .collect()
        }
        (Target::Pid(pid), None) => {
            let pid = *pid;
            vec![(0, Box::new(move || target::tree(pid)))]
        }
        _ => vec![(0, Box::new(move || child.into_iter().collect()))],
    }
}

/// What this recording cannot see.
fn blind(target: &Target, missing: &[String], programs: &Programs) -> Vec<String> {
    let rings = if programs.absent.iter().any(|a| a.contains("io_uring")) {
        "io_uring: work submitted through rings is not seen"
    } else {
        "io_uring: arguments of work submitted through rings are not seen, only what it was and how it ended"
    };
    let mut blind: Vec<String> = [
        rings,
        "vdso: clock reads without a system call are not seen",
        "mmap I/O: loads and stores to mapped files are not seen",
        "payload: contents of reads and writes are not recorded",
    ]
    .map(str::to_owned)
    .to_vec();
    blind.extend(missing.iter().map(|f| format!("{f}: this kernel has no such field")));
    blind.extend(programs.blind());
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

/// Whether dumps can be written: better known now than at the first incident.
fn writable(output: &Path) -> Result<(), RecordError> {
    let folder = parent(output);
    let source = if output.is_dir() {
        io::ErrorKind::IsADirectory.into()
    } else if !folder.is_dir() {
        io::ErrorKind::NotFound.into()
    } else {
        match nix::unistd::access(&folder, nix::unistd::AccessFlags::W_OK) {
            Ok(()) => return Ok(()),
            Err(errno) => errno.into(),
        }
    };
    let source = WriteError::Io { action: "dumping to", path: output.into(), source };
    Err(RecordError::Write { source, partial: partial(output) })
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
    ring: Option<RingConfig>,
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
    let snapshots = match ring {
        Some(ring) => {
            let (to_write, sharing) = (send.clone(), Arc::clone(&shared));
            let run = move || flight::snapshots(&ring, &sharing, &to_write, start);
            Some(spawn("ctrace-snapshot").spawn(run).map_err(failed())?)
        }
        None => None,
    };
    let to_write = send.clone();
    let sample = spawn("ctrace-sample")
        .spawn(move || sample::run(&subject, &shared, &to_write, start))
        .map_err(failed())?;
    Ok((Threads { snapshots, sample, drain, write, follow: None }, send))
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

    /// Asks for something while recording goes on.
    pub fn request(&self, request: Request) {
        if let Some(send) = &self.send {
            // If the thread that writes died, stop() says so.
            let _ = send.send(Message::Request(request));
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

    /// What was noticed when it began, as sentences.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
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
                self.shared.primed.load(Ordering::Acquire) && self.shared.alive.load(Ordering::Acquire) == 0
            }
            Watch::Cgroup(path) => !path.exists(),
            Watch::Live(live) if live.is_over() => return Some(Ended::ContainersGone),
            Watch::Live(_) => false,
        };
        over.then_some(Ended::TargetExited)
    }

    /// Whether there is less room than is to be kept, or will be when what was not written yet is. Looks now and then.
    fn is_disk_nearly_full(&mut self) -> bool {
        const EVERY: Duration = Duration::from_millis(100);
        /// An open chunk, what waits to be written, and the index.
        const TO_COME: u64 = 8 << 20;
        let Some(keep) = self.config.keep_free else { return false };
        if self.looked.is_some_and(|at| at.elapsed() < EVERY) {
            return false;
        }
        self.looked = Some(Instant::now());
        let folder = self.config.output.parent().filter(|p| !p.as_os_str().is_empty());
        nix::sys::statvfs::statvfs(folder.unwrap_or(Path::new("."))).is_ok_and(|room| {
            let free = room.blocks_available().saturating_mul(room.fragment_size());
            free < keep.saturating_add(TO_COME)
        })
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
        self.send = None;
        flight::join_snapshots(threads.snapshots)?;
        finish_following(threads.follow);
        pipeline::join(threads.sample, "sample")?;
        pipeline::join(threads.drain, "drain")?;
        let written = pipeline::join(threads.write, "write")?;
        let stats = self.stats();
        let file = written.finished.map_err(|source| RecordError::Write { source, partial })?;
        let command_status = written.summary.command_status;
        Ok(Outcome { file, stats, command_status, summary: written.summary, notes: self.notes() })
    }
}

/// Waits for the thread that follows containers, unless it is stuck; it touches nothing that the others need.
fn finish_following(thread: Option<JoinHandle<()>>) {
    let Some(thread) = thread else { return };
    let deadline = Instant::now() + FOLLOW_PATIENCE;
    while !thread.is_finished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    if thread.is_finished() && thread.join().is_err() {
        tracing::warn!("the thread that follows containers panicked");
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.send = None;
        if let Some(threads) = self.threads.take() {
            let _ = flight::join_snapshots(threads.snapshots);
            finish_following(threads.follow);
            let _ = threads.sample.join();
            let _ = threads.drain.join();
            let _ = threads.write.join();
        }
    }
}
