//! Runs a compiled program in a sandbox: start (held at the gate), release, wait, tear down.
//!
//! Processes: a *keeper* thread of ctrace forks a *launcher*, which enters the namespaces and forks *init*, PID 1 of the
//! sandbox. Init builds the surroundings, starts the root worker and the peers, watches them, and reports over a socket.
//! When ctrace dies the socket closes and a parent-death signal comes: init ends, and with it everything in its PID
//! namespace; mounts, network and shared memory go with their namespaces.

mod button;
mod control;
mod figures;
mod guard;
mod image;
mod init;
mod inspect;
mod message;
mod outcome;
mod pressed;

use crate::plan::environment::{Environment, FileKind, PeerProcess};
use crate::plan::need::Need;
use crate::pressure::Pressure;
use crate::sandbox::cgroup::Owned;
use crate::sandbox::limits::Limits;
use crate::sandbox::{Layers, SandboxError, host};
pub use button::{Button, Halt};
use ctrace_program::control::{Cause, Pace};
use ctrace_program::{DecodeError, Program};
pub use figures::{Figures, Look};
use guard::{Before, Guard};
pub use guard::{Enforcement, Hit};
pub use inspect::{Bound, Bounds, Description, Lane};
use message::Up;
pub use outcome::{Counters, Divergence, Ended, Outcome};
pub use pressed::{Effect, Helpers, Pressed};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Why a replay did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The sandbox could not be made on this side.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The sandbox could not be made; said by the process inside. `missing` is set when the host lacks something.
    #[error("the sandbox could not be built: {text}")]
    Inside {
        /// What failed, with its cause and fix.
        text: String,
        /// Whether the host lacks something.
        missing: bool,
    },
    /// The program is damaged.
    #[error("the compiled program cannot be read")]
    Program(#[source] DecodeError),
    /// The worker could not be put in front of the program.
    #[error(
        "the replay program could not be completed (is the disk of the directory for temporary files full? TMPDIR names another)"
    )]
    Image(#[source] io::Error),
    /// A process could not be started.
    #[error("start the sandbox's processes: {what}")]
    Start {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Init died without a report.
    #[error("the sandbox's init ended without a report (killed from outside, or out of memory)")]
    Lost,
    /// A limit was reached while the sandbox was built.
    #[error("{0}")]
    Over(Hit),
    /// The options make no sense.
    #[error("{0} must be greater than 0")]
    Option(&'static str),
}

/// What is run.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// A sealed program; its reserved front is overwritten.
    pub program: File,
    /// Its surroundings.
    pub environment: &'a Environment,
    /// Descriptors of the program's peer roots.
    pub peers: &'a [PeerProcess],
    /// What it takes.
    pub need: Need,
    /// How it is pressed.
    pub pressure: Pressure,
}

/// How it is run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Pacing.
    pub pace: Pace,
    /// Recorded time / replayed time; > 0.
    pub speed: f64,
    /// Share of computing time, in 1/1000, that a task that is behind the recording may leave out. Idle time is always
    /// left out.
    pub catch_up_permille: u32,
    /// A recorded task never begins a call before its recorded time. The sandbox's files are in memory and its peers are
    /// near: without this the replay of a workload that waited for a disk or a network is faster than the recording.
    pub hold: bool,
    /// Bounds on resources.
    pub limits: Limits,
    /// Whether init tells that calls are made, while they are.
    pub signs_of_life: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            pace: Pace::Resource,
            speed: 1.0,
            catch_up_permille: 500,
            hold: true,
            limits: Limits::default(),
            signs_of_life: false,
        }
    }
}

/// A replay.
#[derive(Debug)]
pub struct Replay;

/// A replay that is held at its gate or running.
#[derive(Debug)]
pub struct Running {
    channel: UnixStream,
    keeper: Option<JoinHandle<i32>>,
    root_pid: u32,
    /// Processes that take what the workload took.
    helpers: Helpers,
    init_pid: u32,
    launcher: i32,
    /// Somebody pressed the button.
    pressed: Arc<AtomicBool>,
    figures: Figures,
    problems: Vec<String>,
    copied: Option<String>,
    guard: Guard,
    cgroup: Option<Owned>,
    enforcement: Enforcement,
    layers: Layers,
    bounds: Bounds,
}

/// The inner ids of the root and of helpers, problems, why the program was copied, what holds the tasks.
type Greeting = (i32, Helpers, Vec<String>, Option<String>, Layers);

pub(crate) fn call_name(nr: u32) -> String {
    ctrace_format::syscalls::name(ctrace_format::Sysno { abi: native_abi(), nr })
        .map_or_else(|| format!("syscall_{nr}"), str::to_owned)
}

const fn native_abi() -> ctrace_format::Abi {
    if cfg!(target_arch = "aarch64") { ctrace_format::Abi::Aarch64 } else { ctrace_format::Abi::X86_64 }
}

pub(crate) fn cause_name(cause: u32) -> &'static str {
    match cause {
        c if c == Cause::Result as u32 => "result",
        c if c == Cause::Short as u32 => "fewer bytes",
        c if c == Cause::Long as u32 => "more bytes",
        c if c == Cause::ForcedWait as u32 => "wait forced to end",
        c if c == Cause::ForcedCall as u32 => "call forced to end",
        c if c == Cause::NoSignal as u32 => "signal missing",
        c if c == Cause::ExtraSignal as u32 => "extra signal",
        c if c == Cause::NoWaiters as u32 => "futex waiters missing",
        c if c == Cause::NotReady as u32 => "descriptor not ready",
        c if c == Cause::Renumber as u32 => "descriptor number",
        c if c == Cause::BadStep as u32 => "invalid step",
        _ => "unfinished entry",
    }
}

impl Replay {
    /// Builds the sandbox and starts the tasks that exist before the recording begins. They wait at the gate.
    ///
    /// # Errors
    /// When the host cannot isolate the replay, or the trace asks for more than the limits.
    pub fn start(inputs: Inputs<'_>, options: &RunOptions) -> Result<Running, ReplayError> {
        if options.speed.is_nan() || options.speed <= 0.0 {
            return Err(ReplayError::Option("the speed"));
        }
        options.limits.check(&at_least(&inputs), options.speed).map_err(SandboxError::from)?;
        let program = Program::open(inputs.program).map_err(ReplayError::Program)?;
        image::compose(program.file(), program.header.len).map_err(ReplayError::Image)?;
        // What is open for writing cannot be executed.
        let read_only = File::open(format!("/proc/self/fd/{}", program.file().as_raw_fd()));
        drop(program);
        let program = Program::open(read_only.map_err(ReplayError::Image)?).map_err(ReplayError::Program)?;
        let worker = image::worker().map_err(ReplayError::Image)?;
        let start = |what| move |source| ReplayError::Start { what, source };
        let (mut channel, inner) = UnixStream::pair().map_err(start("socketpair"))?;
        let (cgroup, enforcement) = match Owned::make(&options.limits, !inputs.pressure.is_none()) {
            Ok(owned) => {
                let version = owned.cgroup.version();
                (Some(owned), Enforcement::Cgroup { version })
            }
            Err(why) => (None, Enforcement::Sampling { why }),
        };
        let unpressed = match &enforcement {
            Enforcement::Sampling { why } if !inputs.pressure.is_none() => {
                Some(format!("recorded pressure is not replayed: there is no cgroup for it ({why})"))
            }
            _ => None,
        };
        let bounds = Bounds::new(&inputs.need, &options.limits);
        let before = Before::now();
        let since = before.clone();
        let group = cgroup.as_ref().map(|owned| owned.cgroup.clone());
        let setup = init::Setup {
            program,
            worker,
            environment: inputs.environment.clone(),
            peers: inputs.peers.to_vec(),
            need: inputs.need,
            pressure: inputs.pressure,
            options: options.clone(),
            cgroup: group.clone(),
        };
        // A parent-death signal is sent when the forking *thread* ends: this one lives as long as the launcher.
        let (started_tx, started_rx) = std::sync::mpsc::channel();
        let keeper = std::thread::Builder::new()
            .name("replay-keeper".to_owned())
            .spawn(move || {
                let launched = init::launch(&setup, inner);
                let pid = launched.as_ref().ok().copied();
                let _ = started_tx.send(launched);
                pid.map_or(-1, wait_for)
            })
            .map_err(start("thread"))?;
        let launcher = match started_rx.recv() {
            Ok(Ok(pid)) => pid,
            Ok(Err(source)) => return Err(ReplayError::Start { what: "fork", source }),
            Err(_) => return Err(ReplayError::Lost),
        };
        let figures = Figures::new(launcher, since, options.limits.memory.limit);
        let mut guard = channel
            .try_clone()
            .and_then(|channel| Guard::start(launcher, group, before, &options.limits, channel))
            .map_err(start("guard"))?;
        let shaken = Self::shake_hands(&mut channel, launcher).and_then(
            |(root, helpers, problems, copied, layers)| {
                let pids = host_pids(launcher, root).ok_or(ReplayError::Lost)?;
                let helpers = helpers.seen_outside(|inner| host_pid_beside(pids.0, inner));
                Ok((pids, helpers, problems, copied, layers))
            },
        );
        match shaken {
            Ok(((init_pid, root_pid), helpers, mut problems, copied, layers)) => {
                problems.extend(unpressed);
                Ok(Running {
                    channel,
                    keeper: Some(keeper),
                    root_pid,
                    helpers,
                    init_pid,
                    launcher,
                    pressed: Arc::default(),
                    figures,
                    problems,
                    copied,
                    layers,
                    guard,
                    cgroup,
                    enforcement,
                    bounds,
                })
            }
            Err(error) => {
                let _ = channel.shutdown(std::net::Shutdown::Both);
                let _ = keeper.join();
                match guard.stop().into_iter().find(|hit| hit.ended) {
                    Some(hit) => Err(ReplayError::Over(hit)),
                    None => Err(error),
                }
            }
        }
    }

    fn shake_hands(channel: &mut UnixStream, launcher: i32) -> Result<Greeting, ReplayError> {
        let mut byte = [0];
        if channel.read_exact(&mut byte).is_err() {
            return Err(ReplayError::Lost);
        }
        if byte == *b"U" {
            let maps = crate::sandbox::namespaces::write_id_maps(launcher);
            let answer = match &maps {
                Ok(true) => b"2",
                Ok(false) => b"1",
                Err(_) => b"X",
            };
            channel
                .write_all(answer)
                .map_err(|source| ReplayError::Start { what: "answer the launcher", source })?;
            maps?;
            channel.read_exact(&mut byte).map_err(|_| ReplayError::Lost)?;
        }
        match message::receive_rest(channel, byte[0]).map_err(|_| ReplayError::Lost)? {
            Up::Ready { root_pid, helpers, problems, copied, layers } => {
                Ok((root_pid, helpers, problems, copied, layers))
            }
            Up::Failed { text, missing } => Err(ReplayError::Inside { text, missing }),
            Up::Finished(_) | Up::Alive | Up::Unpressed => Err(ReplayError::Lost),
        }
    }
}

/// What the parts say that can be counted here, where the need says less.
fn at_least(inputs: &Inputs<'_>) -> Need {
    let environment = inputs.environment;
    let inside = environment.files.iter().fold(0_u64, |sum, file| match &file.kind {
        FileKind::Directory { entries } => sum.saturating_add(u64::from(*entries)),
        _ => sum,
    });
    let listed = (environment.files.len() + environment.executables.len()) as u64;
    Need {
        files: inputs.need.files.max(listed.saturating_add(inside)),
        addresses: inputs.need.addresses.max(environment.addresses.len() as u64),
        ..inputs.need
    }
}

fn wait_for(pid: i32) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: waits for our own child and writes its status.
        let got = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if got == pid || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return status;
        }
    }
}

/// Ids in this PID namespace of init (the launcher's only child) and of init's child with the given inner id.
fn host_pids(launcher: i32, root_inner: i32) -> Option<(u32, u32)> {
    let mut children: Vec<(u32, i32, i32)> = Vec::new();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(text) = host::process_file(pid, "status") else { continue };
        let last = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .and_then(|rest| rest.split_whitespace().last())
                .and_then(|word| word.parse::<i32>().ok())
        };
        if let (Some(parent), Some(inner)) = (last("PPid:"), last("NSpid:")) {
            children.push((pid, parent, inner));
        }
    }
    let init = children.iter().find(|(_, parent, inner)| *parent == launcher && *inner == 1)?.0;
    let root = children.iter().find(|(_, parent, inner)| *parent == init as i32 && *inner == root_inner)?.0;
    Some((init, root))
}

/// Id in this PID namespace of a process in init's that has this inner id.
fn host_pid_beside(init: u32, inner: i32) -> Option<u32> {
    let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let of = namespace(init)?;
    let pids = std::fs::read_dir("/proc").ok()?.flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|&pid| {
        let status = host::process_file(pid, "status").unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let last = ids.and_then(|ids| ids.split_whitespace().last()?.parse::<i32>().ok());
        last == Some(inner) && namespace(pid).as_ref() == Some(&of)
    })
}

impl Running {
    /// Processes that take what the workload took, by their ids here, and the directory of the cgroup that counts the memory
    /// of both: for who records the replay.
    pub fn beside(&self) -> (&Helpers, Option<PathBuf>) {
        (&self.helpers, self.cgroup.as_ref().and_then(|owned| owned.cgroup.work_memory()))
    }

    /// Process id of the root worker, as seen by this process: what to record.
    pub fn root_pid(&self) -> u32 {
        self.root_pid
    }

    /// How the replay is bounded as a whole.
    pub fn enforcement(&self) -> &Enforcement {
        &self.enforcement
    }

    /// Things of the environment that could not be built; later they are in the outcome.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The sandbox as it is now: how far it is from the host, and what bounds it.
    pub fn inspect(&self) -> Description {
        Description::look(self)
    }

    /// The red button.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn button(&self) -> io::Result<Button> {
        let cgroup = self.cgroup.as_ref().map(|owned| owned.cgroup.clone());
        let spared = [self.launcher, self.init_pid as i32];
        Ok(Button::new(self.channel.try_clone()?, cgroup, spared, Arc::clone(&self.pressed)))
    }

    /// Looks at it while it runs.
    pub fn figures(&self) -> Figures {
        self.figures.clone()
    }

    /// Opens the gate.
    ///
    /// # Errors
    /// When the sandbox is gone.
    pub fn release(&self) -> Result<(), ReplayError> {
        (&self.channel).write_all(b"R").map_err(|_| ReplayError::Lost)
    }

    /// Waits for the end, tears down, and looks for leftovers.
    ///
    /// # Errors
    /// When init died without a report.
    pub fn wait(mut self) -> Result<Outcome, ReplayError> {
        let mut outcome = self.observe()?;
        outcome.leftovers = self.finish();
        Ok(outcome)
    }

    /// Waits for the end. Tasks that were in a call when the recording ended are still in it until [`Self::finish`]: a
    /// recorder can be stopped before they are killed.
    ///
    /// # Errors
    /// When init died without a report.
    pub fn observe(&mut self) -> Result<Outcome, ReplayError> {
        let told = self.hear();
        let hits = self.guard.stop();
        let over = hits.iter().any(|hit| hit.ended);
        let pressed = self.pressed.load(Relaxed);
        let mut outcome = match told {
            Ok(Up::Finished(outcome)) => *outcome,
            _ if over => Outcome::unreported(Ended::OverLimit),
            _ if pressed => Outcome::unreported(Ended::Aborted),
            _ => {
                self.tear_down();
                return Err(ReplayError::Lost);
            }
        };
        if over {
            outcome.ended = Ended::OverLimit;
        } else if pressed && outcome.ended == Ended::Completed && outcome.tasks_finished < outcome.tasks {
            // Init found nobody left before it heard why.
            outcome.ended = Ended::Aborted;
        }
        outcome.hits.splice(0..0, hits);
        outcome.problems.splice(0..0, std::mem::take(&mut self.problems));
        Ok(outcome)
    }

    /// Hears init out.
    fn hear(&mut self) -> io::Result<Up> {
        loop {
            match message::receive(&mut self.channel)? {
                Up::Alive => self.figures.note_life(),
                Up::Unpressed => self.figures.note_unpressed(),
                told => return Ok(told),
            }
        }
    }

    /// Ends everything. Returns what is left behind: nothing, unless something is wrong.
    pub fn finish(mut self) -> Vec<String> {
        self.tear_down();
        let mut left = self.leftovers();
        if let Some(cgroup) = self.cgroup.take() {
            left.extend(cgroup.remove());
        }
        left
    }

    fn tear_down(&mut self) {
        let _ = self.channel.shutdown(std::net::Shutdown::Both);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }

    /// Everything lives in namespaces whose first process is gone, which leaves nothing to look for but that it is gone.
    fn leftovers(&self) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let left: Vec<String> = [("init", self.init_pid), ("root worker", self.root_pid)]
                .into_iter()
                .filter(|(_, pid)| PathBuf::from(format!("/proc/{pid}/ns/pid")).exists())
                .filter(|(_, pid)| {
                    host::process_file(*pid, "stat").is_ok_and(|stat| {
                        !stat.rsplit(')').next().is_some_and(|s| s.trim_start().starts_with('Z'))
                    })
                })
                .map(|(what, pid)| format!("process {pid} ({what})"))
                .collect();
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tear_down();
    }
}
