//! The sandbox's own processes: the launcher (enters the namespaces) and init (PID 1: builds, starts, watches, reaps).
//!
//! Both are forks of ctrace without an exec. They are single-threaded, print nothing, and never return to their caller.

mod force;
mod life;
mod press;
mod progress;
mod start;
mod terminals;
mod threads;
mod watch;

use super::control::{Control, calibrate, counter, monotonic_ns};
use super::message::{Up, send};
use super::{Ended, RunOptions};
use crate::plan::environment::{Environment, PeerProcess};
use crate::plan::need::Need;
use crate::pressure::Pressure;
use crate::sandbox::cgroup::{Cgroup, Controls};
use crate::sandbox::disk::{self, Disk};
use crate::sandbox::limits::Limits;
use crate::sandbox::root::{self, Problems, Supply, WORKER_DIRECTORY, file_name};
use crate::sandbox::{
    Layers, SandboxError, bounds, carrier, close_all_but, devices, landlock, namespaces, net,
};
use ctrace_program::{Program, RESERVED_BYTES, task_flags};
use nix::unistd::{ForkResult, fork};
use press::Presser;
use start::{Ends, Start, make_ends, unclaimed};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use threads::Threads;
use watch::Watch;

/// How long tasks may take to reach the gate.
const GATE_LIMIT: Duration = Duration::from_secs(60);

/// What init needs to know.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) program: Program,
    /// The worker's ELF image.
    pub(crate) worker: Vec<u8>,
    pub(crate) environment: Environment,
    pub(crate) peers: Vec<PeerProcess>,
    /// The resources that it takes.
    pub(crate) need: Need,
    /// How it is to be pressed.
    pub(crate) pressure: Pressure,
    pub(crate) options: RunOptions,
    /// The cgroup to be in.
    pub(crate) cgroup: Option<Cgroup>,
}

/// Forks the launcher. Returns its process id.
///
/// # Errors
/// When there is no process left.
pub(crate) fn launch(setup: &Setup, channel: UnixStream) -> io::Result<i32> {
    let parent = nix::unistd::getpid().as_raw();
    // SAFETY: the child runs Rust code without exec; it is single-threaded then, glibc's allocator survives fork, and the
    // code below takes no lock that another thread could have held (no stdio, no logging).
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            let status = launcher(setup, channel, parent);
            exit(status)
        }
    }
}

fn exit(status: i32) -> ! {
    // SAFETY: ends the process without running destructors or exit handlers of the forked parent.
    unsafe { libc::_exit(status) }
}

fn fail(channel: &mut UnixStream, error: &(dyn std::error::Error + 'static)) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    let missing = matches!(error.downcast_ref::<SandboxError>(), Some(SandboxError::Isolation { .. }));
    let _ = send(channel, &Up::Failed { text, missing });
}

fn launcher(setup: &Setup, mut channel: UnixStream, parent: i32) -> i32 {
    if namespaces::die_with_parent(Some(parent)).is_err() {
        return 1;
    }
    // Signals to ctrace's process group do not reach this process: it ends with ctrace, and no sooner (see `carrier`).
    let _ = nix::unistd::setsid();
    close_all_but(&[0, 1, 2, channel.as_raw_fd(), setup.program.file().as_raw_fd()]);
    // Before there are bounds: that of a file is less than a disk.
    let disk = disk_for(setup);
    let left = namespaces::leave_lent_capabilities()
        .map_err(|error| SandboxError::build("leave lent capabilities behind", "capset", error));
    if let Err(error) = left.and_then(|()| bounds::take_on(&setup.options.limits)) {
        fail(&mut channel, &error);
        return 1;
    }
    let entered = match enter(setup, disk, &mut channel, parent) {
        Ok(Some(entered)) => entered,
        Ok(None) => return 1,
        Err(error) => {
            fail(&mut channel, &error);
            return 1;
        }
    };
    // SAFETY: as in `launch`.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => {
            drop((channel, entered));
            super::wait_for(child.as_raw());
            0
        }
        Ok(ForkResult::Child) => {
            // The parent's death signal was set by the parent for itself only.
            if namespaces::die_with_parent(None).is_err() {
                exit(1);
            }
            if let Err(error) = init(setup, &mut channel, entered) {
                fail(&mut channel, &error);
            }
            exit(0)
        }
        Err(errno) => {
            fail(&mut channel, &SandboxError::build("start the sandbox's init", "fork", errno));
            1
        }
    }
}

/// What was brought along into the namespaces.
#[derive(Debug)]
struct Entered {
    many_users: bool,
    supply: Supply,
    /// Device nodes of the sandbox's own.
    devices: Option<OwnedFd>,
    /// Whether the session's keyring was left behind.
    keyring: bool,
    /// Files of the workload's group, where it is to be pressed.
    controls: Option<Controls>,
    /// The disk whose writes are held up, or why there is none.
    disk: Option<Result<Disk, String>>,
}

/// The part of the limit on files that is the disk's on which waits are replayed. The limit is twice what a replay needs
/// (`Limits`): each half has room for all of it.
fn slow_bytes(limits: &Limits) -> u64 {
    limits.disk.limit / 2
}

/// Makes the disk on which waits are replayed, where there are some. `Err`: why there is none.
fn disk_for(setup: &Setup) -> Option<Result<Disk, String>> {
    setup.pressure.disk.as_ref()?;
    setup.cgroup.as_ref().filter(|cgroup| cgroup.is_parted())?;
    let limits = &setup.options.limits;
    Some(match setup.environment.slow {
        Some(_) => disk::make(slow_bytes(limits), limits.files.limit),
        None => Err("the files that were synced have no directory of their own without programs".to_owned()),
    })
}

/// `None`: the parent could not map users, and says so itself.
fn enter(
    setup: &Setup,
    disk: Option<Result<Disk, String>>,
    channel: &mut UnixStream,
    parent: i32,
) -> Result<Option<Entered>, SandboxError> {
    let program = setup.program.file();
    let talk = |error: io::Error| SandboxError::build("talk to ctrace", "socket", error);
    // As root out here, else in the namespace: a file system belongs to those whom its maker's namespace knows.
    let devices = devices::make().ok();
    let early = carrier::make();
    let outside = carrier::look(program);
    namespaces::enter_user_namespace()?;
    channel.write_all(b"U").map_err(talk)?;
    let mut answer = [0];
    channel.read_exact(&mut answer).map_err(talk)?;
    if answer == *b"X" {
        return Ok(None);
    }
    let many_users = answer == *b"2";
    namespaces::enter_mount_namespace()?;
    // As the user who made the file: to the sandbox's users its directory may be closed.
    let loaded = early.or_else(|_| carrier::make()).and_then(|carrier| {
        namespaces::outlive_parent()?;
        carrier::load(&carrier, root::mount_point(), program, &outside?)
    });
    let supply = loaded.map_or_else(|error| Supply::Copy(error.to_string()), Supply::Mount);
    // Not before: when ctrace is gone, everything in the cgroup is killed, and the program had a name for a moment. Nothing of
    // the trace has run, and nothing as large as it was made.
    if let Some(cgroup) = &setup.cgroup {
        cgroup
            .enter()
            .map_err(|error| SandboxError::build("enter the replay's cgroup", "cgroup.procs", error))?;
    }
    let pressed = setup.cgroup.as_ref().filter(|cgroup| cgroup.is_parted());
    let controls = pressed
        .map(|cgroup| {
            Controls::open(cgroup)
                .map_err(|error| SandboxError::build("open the workload's cgroup", "cgroup.procs", error))
        })
        .transpose()?;
    namespaces::become_inner_root(many_users)?;
    let keyring = namespaces::leave_session_keyring();
    namespaces::enter_other_namespaces()?;
    // New credentials clear the death signal.
    namespaces::die_with_parent(Some(parent)).map_err(talk)?;
    let devices = devices.filter(|_| many_users);
    Ok(Some(Entered { many_users, supply, devices, keyring, controls, disk }))
}

/// Nothing of what ctrace was given as standard input and output is open in the sandbox.
fn forget_descriptors() -> Result<(), SandboxError> {
    let fail = |error: io::Error| SandboxError::build("leave the standard descriptors", "/dev/null", error);
    let null = File::options().read(true).write(true).open("/dev/null").map_err(fail)?;
    for fd in 0..3 {
        // SAFETY: both are descriptors of this process, which uses none of the first three.
        if unsafe { libc::dup2(null.as_raw_fd(), fd) } != fd {
            return Err(fail(io::Error::last_os_error()));
        }
    }
    Ok(())
}

fn init(setup: &Setup, channel: &mut UnixStream, entered: Entered) -> Result<(), SandboxError> {
    let environment = &setup.environment;
    let Entered { many_users, supply, devices, keyring, controls, disk } = entered;
    let _ = nix::unistd::setsid();
    let mult = calibrate();
    let mut problems = Problems::default();
    for text in net::set_up(&environment.addresses)? {
        problems.add(text);
    }
    let view = match Threads::view() {
        Ok(view) => Some(view),
        Err(error) => {
            let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            problems.add(format!("{error}: {why}; which tasks run is not known"));
            None
        }
    };
    if !namespaces::forbid_nested_user_namespaces() {
        return Err(SandboxError::Isolation {
            what: "forbidding nested user namespaces",
            fix: "/proc/sys/user/max_user_namespaces must be writable for the owner of the namespace",
            source: io::Error::last_os_error(),
        });
    }
    bounds::bound_namespaces(&setup.options.limits);
    let hostname: &[u8] = if environment.hostname.is_empty() { b"replay" } else { &environment.hostname };
    let hostname = &hostname[..hostname.len().min(64)];
    nix::unistd::sethostname(std::ffi::OsStr::from_bytes(hostname))
        .map_err(|errno| SandboxError::build("set the host name", "sethostname", errno))?;
    let disk = disk.and_then(|disk| {
        disk.map_err(|why| problems.add(format!("waits for a disk are not replayed: {why}"))).ok()
    });
    let mut limits = setup.options.limits;
    if disk.is_some() {
        limits.disk.limit -= slow_bytes(&limits);
    }
    let workers = environment.executables.len() as u64 + 1;
    let mut own_bytes = workers * (setup.worker.len() as u64).next_multiple_of(4096);
    if matches!(supply, Supply::Copy(..)) {
        own_bytes += (setup.program.header.len + RESERVED_BYTES).next_multiple_of(4096);
    }
    root::enter(environment, &limits, own_bytes, devices.as_ref())?;
    let copied = root::supply(supply, setup.program.file(), &setup.worker)?;
    forget_descriptors()?;

    let roots: Vec<u32> = (0..setup.program.header.tasks)
        .filter(|&task| flags_of(&setup.program, task) & (task_flags::ROOT | task_flags::PEER_ROOT) != 0)
        .collect();
    let names: Vec<Vec<u8>> = roots.iter().map(|&task| task_name(&setup.program, task)).collect();
    let slow = environment.slow.as_deref().zip(disk.as_ref());
    let populated = root::populate(environment, slow, &limits, &setup.worker, &names)?;
    // Kept to the end, so that the workload's terminals get the numbers they had.
    let _taken = root::take_terminals(&environment.terminals);
    problems.count += populated.count;
    problems.texts.extend(populated.texts);
    let layers =
        Layers { own_devices: devices.is_some(), own_keyring: keyring, landlock: landlock::restrict()? };

    let control = Control::create(&setup.program).map_err(|error| {
        SandboxError::build("make the control region", "System V shared memory (CONFIG_SYSVIPC)", error)
    })?;
    control.pace(
        setup.options.pace,
        setup.options.speed,
        setup.options.catch_up_permille,
        setup.options.hold,
        mult,
    );
    control.header().host_devices.store(u32::from(devices.is_none()), Relaxed);
    control.header().epoch.store(if mult == 0 { monotonic_ns() } else { counter() }, Relaxed);

    let presser = match &controls {
        Some(controls) => {
            let mut lacks = Vec::new();
            let presser = Presser::start(setup, controls, &control, view.as_ref(), disk.as_ref(), &mut lacks);
            for text in lacks {
                problems.add(text);
            }
            presser.unwrap_or_else(|text| {
                problems.add(text);
                None
            })
        }
        None => None,
    };

    let mut ends = Ends::new();
    let mut drains: Vec<OwnedFd> = Vec::new();
    make_ends(setup, &mut ends)?;
    let mut root_pid = 0;
    for (index, &task) in roots.iter().enumerate() {
        let is_root = flags_of(&setup.program, task) & task_flags::ROOT != 0;
        let none = Vec::new();
        let preopened = if is_root {
            &environment.preopened
        } else {
            setup.peers.iter().find(|peer| peer.task == task).map_or(&none, |peer| &peer.preopened)
        };
        let image = Path::new(WORKER_DIRECTORY).join(index.to_string()).join(file_name(&names[index]));
        let group = controls.as_ref().filter(|_| is_root);
        let start =
            Start { setup, control: &control, task, preopened, image: &image, many_users, is_root, group };
        let pid = start.start(&ends, &mut drains, &mut problems)?;
        if is_root {
            root_pid = pid;
        }
    }
    // Ends that somebody holds are closed here, or nobody would ever see the end of them; ends that nobody asked for are
    // drained (what is written there goes nowhere) or closed (nothing ever comes).
    for ((_, end), fd) in unclaimed(setup, ends) {
        if end == 0 {
            drains.push(fd);
        }
    }
    wait_for_gate(setup, &control)?;
    root::remove_worker_directory()
        .map_err(|error| SandboxError::build("remove the start directory", WORKER_DIRECTORY, error))?;
    if problems.count > problems.texts.len() as u64 {
        let more = problems.count - problems.texts.len() as u64;
        problems.texts.push(format!("and {more} more"));
    }
    let talk = |error: io::Error| SandboxError::build("talk to ctrace", "socket", error);
    let helpers = presser.as_ref().map(|presser| presser.helpers.clone()).unwrap_or_default();
    send(channel, &Up::Ready { root_pid, helpers, problems: problems.texts, copied, layers })
        .map_err(talk)?;
    // Nobody who is started later has them.
    drop(controls);
    if !wait_for_release(channel) {
        return Ok(());
    }
    control.release(if mult == 0 { monotonic_ns() } else { counter() });
    // What drains the tasks' output lives until they are gone: a closed one would wake those that read or write.
    let mut watch = Watch::new(setup, &control, root_pid, drains, Threads::new(view));
    watch.presser = presser;
    let outcome = watch.run(channel);
    let over = outcome.ended == Ended::Completed;
    if !over {
        kill_everything();
    }
    send(channel, &Up::Finished(Box::new(outcome))).map_err(talk)?;
    if over {
        // Tasks are where they were when the recording ended: in their last calls. They stay there until ctrace, which may
        // still be recording them, has seen enough: an order, or the end of the connection.
        let _ = channel.read(&mut [0]);
        kill_everything();
    }
    Ok(())
}

fn flags_of(program: &Program, task: u32) -> u32 {
    program.tasks.get(task as usize).map_or(0, |entry| entry.flags)
}

fn task_name(program: &Program, task: u32) -> Vec<u8> {
    let blob = program.tasks.get(task as usize).map_or(0, |entry| entry.name);
    let mut name = if blob == 0 { b"task".to_vec() } else { program.blob(blob).unwrap_or_default() };
    name.retain(|&b| b != 0);
    name
}

fn kill_everything() {
    // SAFETY: as PID 1 of the namespace this reaches everything in it but ourselves.
    unsafe { libc::kill(-1, libc::SIGKILL) };
    // SAFETY: reaps; no status is wanted.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL) } > 0 {}
}

fn wait_for_gate(setup: &Setup, control: &Control) -> Result<(), SandboxError> {
    let expected =
        setup.program.tasks.iter().filter(|task| task.flags & task_flags::AT_GATE != 0).count() as u32;
    let begin = monotonic_ns();
    while control.header().at_gate.load(Relaxed) < expected {
        let late = monotonic_ns().saturating_sub(begin) > GATE_LIMIT.as_nanos() as u64;
        // SAFETY: looks for dead children without reaping more than them.
        let dead = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
        if late || dead > 0 {
            let arrived = control.header().at_gate.load(Relaxed);
            let what = if late { "took too long" } else { "ended" };
            let describe = Watch::new(setup, control, 0, Vec::new(), Threads::new(None)).stuck(&mut |_| true);
            return Err(SandboxError::build(
                "set up the recorded processes",
                format!("{arrived} of {expected} tasks are at the gate; one {what}"),
                io::Error::other(describe.join("; ")),
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn wait_for_release(channel: &mut UnixStream) -> bool {
    let mut byte = [0];
    channel.read_exact(&mut byte).is_ok() && byte == *b"R"
}
