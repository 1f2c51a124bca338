//! The sandbox's own processes: the launcher (enters the namespaces) and init (PID 1: builds, starts, watches, reaps).
//!
//! Both are forks of ctrace without an exec. They are single-threaded, print nothing, and never return to their caller.

use super::control::{Control, calibrate, counter, monotonic_ns};
use super::message::{Up, send};
use super::{Ended, Outcome, RunOptions, call_name};
use crate::plan::environment::{Environment, ExternalSignal, PeerProcess, Preopened, PreopenedKind};
use crate::sandbox::root::{self, Problems, Supply, WORKER_DIRECTORY, file_name};
use crate::sandbox::{SandboxError, confine, lend, namespaces, net};
use ctrace_program::control::status;
use ctrace_program::{CONTROL_BASE, Kind, Program, RESERVED_BYTES, header_flags, task_flags};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{ForkResult, fork};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How often init looks at the tasks.
const TICK: Duration = Duration::from_millis(4);
/// How long tasks may take to reach the gate.
const GATE_LIMIT: Duration = Duration::from_secs(60);
/// A call may take this much longer than recorded, and twice as long, before it counts as stuck.
const CALL_SLACK_NS: u64 = 1_000_000_000;
/// Descriptors of the sandbox's own use are moved above what recorded programs use.
const OWN_FDS: RawFd = 400;
/// Waits that are given up before the replay is declared stalled.
const BREAKS_MAX: u32 = 1000;

/// What init needs to know.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) program: Program,
    /// The worker's ELF image.
    pub(crate) worker: Vec<u8>,
    pub(crate) environment: Environment,
    pub(crate) peers: Vec<PeerProcess>,
    pub(crate) options: RunOptions,
    pub(crate) max_duration: Duration,
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
    close_all_but(&[0, 1, 2, channel.as_raw_fd(), setup.program.file().as_raw_fd()]);
    // Before the namespaces: only out here the file can have a name.
    let loan = lend::lend(setup.program.file());
    let (many_users, supply) = match enter(&mut channel, parent, loan) {
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
            drop((channel, supply));
            super::wait_for(child.as_raw());
            0
        }
        Ok(ForkResult::Child) => {
            // The parent's death signal was set by the parent for itself only.
            if namespaces::die_with_parent(None).is_err() {
                exit(1);
            }
            if let Err(error) = init(setup, &mut channel, many_users, supply) {
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

/// `None`: the parent could not map users, and says so itself.
fn enter(
    channel: &mut UnixStream,
    parent: i32,
    loan: io::Result<lend::Loan>,
) -> Result<Option<(bool, Supply)>, SandboxError> {
    let talk = |error: io::Error| SandboxError::build("talk to ctrace", "socket", error);
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
    let supply = match loan.and_then(|loan| loan.mount().map(|tree| (tree, loan))) {
        Ok((tree, loan)) => Supply::Mount(tree, loan),
        Err(error) => Supply::Copy(error.to_string()),
    };
    namespaces::become_inner_root(many_users)?;
    namespaces::enter_other_namespaces()?;
    // New credentials clear the death signal.
    namespaces::die_with_parent(Some(parent)).map_err(talk)?;
    Ok(Some((many_users, supply)))
}

fn close_all_but(keep: &[RawFd]) {
    let mut sorted: Vec<RawFd> = keep.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut from = 0;
    for fd in sorted {
        if fd > from {
            // SAFETY: closes descriptors that nothing in this process uses any more.
            unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) };
        }
        from = fd + 1;
    }
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, from, u32::MAX, 0) };
}

/// Ends of pipes and socket pairs by (id, end).
type Ends = BTreeMap<(u32, u8), OwnedFd>;

fn init(
    setup: &Setup,
    channel: &mut UnixStream,
    many_users: bool,
    supply: Supply,
) -> Result<(), SandboxError> {
    let environment = &setup.environment;
    let _ = nix::unistd::setsid();
    // Out of the way of the host when memory runs out. Raising one's own score is always allowed.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let mult = calibrate();
    let mut problems = Problems::default();
    for text in net::set_up(&environment.addresses, &setup.options.limits)? {
        problems.add(text);
    }
    if !namespaces::forbid_nested_user_namespaces() {
        return Err(SandboxError::Isolation {
            what: "forbidding nested user namespaces",
            fix: "/proc/sys/user/max_user_namespaces must be writable for the owner of the namespace",
            source: io::Error::last_os_error(),
        });
    }
    let hostname: &[u8] = if environment.hostname.is_empty() { b"replay" } else { &environment.hostname };
    let hostname = &hostname[..hostname.len().min(64)];
    nix::unistd::sethostname(std::ffi::OsStr::from_bytes(hostname))
        .map_err(|errno| SandboxError::build("set the host name", "sethostname", errno))?;
    let workers = environment.executables.len() as u64 + 1;
    let mut own_bytes = workers * (setup.worker.len() as u64).next_multiple_of(4096);
    if matches!(supply, Supply::Copy(..)) {
        own_bytes += (setup.program.header.len + RESERVED_BYTES).next_multiple_of(4096);
    }
    root::enter(environment, &setup.options.limits, own_bytes)?;
    let copied = root::supply(supply, setup.program.file(), &setup.worker)?;

    let roots: Vec<u32> = (0..setup.program.header.tasks)
        .filter(|&task| flags_of(&setup.program, task) & (task_flags::ROOT | task_flags::PEER_ROOT) != 0)
        .collect();
    let names: Vec<Vec<u8>> = roots.iter().map(|&task| task_name(&setup.program, task)).collect();
    let populated = root::populate(environment, &setup.options.limits, &setup.worker, &names)?;
    problems.count += populated.count;
    problems.texts.extend(populated.texts);

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
    control.header().epoch.store(if mult == 0 { monotonic_ns() } else { counter() }, Relaxed);

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
        let start = Start { setup, control: &control, task, preopened, image: &image, many_users, is_root };
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
    send(channel, &Up::Ready { root_pid, problems: problems.texts, copied }).map_err(talk)?;
    if !wait_for_release(channel) {
        return Ok(());
    }
    control.release(if mult == 0 { monotonic_ns() } else { counter() });
    // What drains the tasks' output lives until they are gone: a closed one would wake those that read or write.
    let mut watch = Watch::new(setup, &control, root_pid, drains);
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

fn all_preopened(setup: &Setup) -> impl Iterator<Item = &Preopened> {
    setup.environment.preopened.iter().chain(setup.peers.iter().flat_map(|peer| &peer.preopened))
}

/// The (id, end) of a descriptor: of a pipe, end 0 reads and end 1 writes. Pipes and socket pairs have different ids.
fn end_of(kind: &PreopenedKind) -> Option<(u32, u8)> {
    match kind {
        PreopenedKind::Pipe { id, write } => Some((*id, u8::from(*write))),
        PreopenedKind::Socket { id, end, .. } => Some((*id, *end)),
        _ => None,
    }
}

fn make_ends(setup: &Setup, ends: &mut Ends) -> Result<(), SandboxError> {
    for preopened in all_preopened(setup) {
        let Some((id, _)) = end_of(&preopened.kind) else { continue };
        if ends.contains_key(&(id, 0)) {
            continue;
        }
        let error = |errno: nix::Error| {
            SandboxError::build("make an inherited descriptor", format!("pipe {id}"), errno)
        };
        let (first, second) = match preopened.kind {
            PreopenedKind::Socket { kind, .. } => {
                let mut fds = [0; 2];
                // SAFETY: writes two descriptors.
                let ret = unsafe {
                    libc::socketpair(libc::AF_UNIX, i32::from(kind) | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr())
                };
                nix::Error::result(ret).map_err(error)?;
                // SAFETY: fresh descriptors that nobody else owns.
                let first = unsafe { OwnedFd::from_raw_fd(fds[0]) };
                // SAFETY: as above.
                (first, unsafe { OwnedFd::from_raw_fd(fds[1]) })
            }
            _ => nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(error)?,
        };
        let up = |fd: OwnedFd| {
            nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(OWN_FDS))
                // SAFETY: a fresh descriptor that nobody else owns.
                .map(|new| unsafe { OwnedFd::from_raw_fd(new) })
                .map_err(error)
        };
        ends.insert((id, 0), up(first)?);
        ends.insert((id, 1), up(second)?);
    }
    Ok(())
}

/// The ends that no process was given.
fn unclaimed(setup: &Setup, ends: Ends) -> Ends {
    let claimed: BTreeSet<(u32, u8)> = all_preopened(setup).filter_map(|p| end_of(&p.kind)).collect();
    let sockets: BTreeSet<u32> = all_preopened(setup)
        .filter_map(|p| match p.kind {
            PreopenedKind::Socket { id, .. } => Some(id),
            _ => None,
        })
        .collect();
    ends.into_iter()
        .filter(|(end, _)| !claimed.contains(end))
        // Either end of a socket pair can be drained.
        .map(|((id, end), fd)| ((id, if sockets.contains(&id) { 0 } else { end }), fd))
        .collect()
}

/// One process to start.
struct Start<'a> {
    setup: &'a Setup,
    control: &'a Control,
    task: u32,
    preopened: &'a [Preopened],
    image: &'a Path,
    many_users: bool,
    is_root: bool,
}

impl Start<'_> {
    fn start(
        &self,
        ends: &Ends,
        drains: &mut Vec<OwnedFd>,
        problems: &mut Problems,
    ) -> Result<i32, SandboxError> {
        let error =
            |what: &'static str| move |errno: nix::Error| SandboxError::build("start a worker", what, errno);
        let terminal = if self.preopened.iter().any(|p| p.kind == PreopenedKind::Terminal) {
            let pty = nix::pty::openpty(None, None).map_err(error("openpty"))?;
            drains.push(pty.master);
            Some(pty.slave)
        } else {
            None
        };
        let (report_read, report_write) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(error("pipe"))?;
        // SAFETY: as in `launch`; we are single-threaded.
        match unsafe { fork() }.map_err(error("fork"))? {
            ForkResult::Child => {
                drop(report_read);
                let mut report = File::from(report_write);
                let text = match self.become_worker(ends, terminal.as_ref(), &mut report) {
                    Ok(never) => match never {},
                    Err(error) => {
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        format!("!{error}: {}", cause.unwrap_or_default())
                    }
                };
                let _ = report.write_all(text.as_bytes());
                exit(1)
            }
            ForkResult::Parent { child } => {
                drop(report_write);
                drop(terminal);
                let mut text = String::new();
                let _ = File::from(report_read).read_to_string(&mut text);
                for line in text.lines() {
                    if let Some(failure) = line.strip_prefix('!') {
                        return Err(SandboxError::build(
                            "start a worker",
                            "child",
                            io::Error::other(failure.to_owned()),
                        ));
                    }
                    problems.add(line.to_owned());
                }
                Ok(child.as_raw())
            }
        }
    }

    /// In the child: takes on the process's descriptors, limits and confinement, and starts the worker's image.
    fn become_worker(
        &self,
        ends: &Ends,
        terminal: Option<&OwnedFd>,
        report: &mut File,
    ) -> Result<std::convert::Infallible, SandboxError> {
        let environment = &self.setup.environment;
        let error =
            |what: &'static str| move |errno: nix::Error| SandboxError::build("start a worker", what, errno);
        if !self.is_root {
            // Signals that recorded programs send to their own process group do not reach peers.
            nix::unistd::setpgid(nix::unistd::Pid::from_raw(0), nix::unistd::Pid::from_raw(0))
                .map_err(error("setpgid"))?;
            // Peers sleep as exactly as they can; recorded tasks keep the slack they had.
            // SAFETY: prctl with integers only.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
        }
        let hard = confine::max_open_files();
        let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard);
        let cwd = if environment.cwd.is_empty() { b"/".as_slice() } else { &environment.cwd };
        if let Err(error) = std::env::set_current_dir(Path::new(std::ffi::OsStr::from_bytes(cwd))) {
            let _ = writeln!(report, "working directory: {error}");
        }
        let kept = self.take_descriptors(ends, terminal, report);
        // SAFETY: changes this process's umask only.
        unsafe { libc::umask((environment.umask & 0o777) as libc::mode_t) };
        for signo in 1..=64 {
            // SAFETY: back to the default action; signals that cannot be set answer EINVAL.
            unsafe { libc::signal(signo, libc::SIG_DFL) };
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(error("sigprocmask"))?;
        let text = |bytes: &[u8]| {
            CString::new(bytes).map_err(|_| {
                SandboxError::build("start a worker", "name", io::Error::from_raw_os_error(libc::EINVAL))
            })
        };
        let image = text(self.image.as_os_str().as_bytes())?;
        let name = text(self.image.file_name().map_or(b"task", |name| name.as_bytes()))?;
        let variable =
            text(format!("CTRACE={},{},0,{},0", self.control.shm_id(), self.task, u32::MAX).as_bytes())?;
        if self.is_root {
            for problem in confine::set_limits(environment, &self.setup.options.limits) {
                let _ = writeln!(report, "{problem}");
            }
        }
        let mut keep = kept;
        keep.push(report.as_raw_fd());
        close_all_but(&keep);
        let fault_lane = self.setup.program.header.flags & header_flags::USES_FAULT_LANE != 0;
        confine::apply(environment, self.many_users, fault_lane)?;
        nix::unistd::execve(&image, &[&name], &[&variable]).map_err(error("execve"))
    }

    /// Puts descriptors at their numbers. Returns the numbers.
    fn take_descriptors(&self, ends: &Ends, terminal: Option<&OwnedFd>, report: &mut File) -> Vec<RawFd> {
        // The report's descriptor must not be where a recorded one goes.
        if let Ok(high) = nix::fcntl::fcntl(&*report, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(OWN_FDS + 500)) {
            // SAFETY: a fresh descriptor that nobody else owns.
            *report = unsafe { File::from_raw_fd(high) };
        }
        let mut moved: Vec<(RawFd, &Preopened)> = Vec::new();
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        for preopened in self.preopened {
            let source: io::Result<OwnedFd> = match &preopened.kind {
                PreopenedKind::Null => null(),
                PreopenedKind::File { path, flags, offset } => {
                    let flags = *flags as i32;
                    let accmode = flags & libc::O_ACCMODE;
                    let other = flags
                        & !(libc::O_ACCMODE | libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_CLOEXEC);
                    File::options()
                        .read(accmode != libc::O_WRONLY)
                        .write(accmode != libc::O_RDONLY)
                        .custom_flags(other | libc::O_NONBLOCK)
                        .open(std::ffi::OsStr::from_bytes(path))
                        .and_then(|mut file| {
                            if *offset > 0 {
                                file.seek(SeekFrom::Start(*offset))?;
                            }
                            if other & libc::O_NONBLOCK == 0 {
                                nix::fcntl::fcntl(
                                    &file,
                                    nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::from_bits_retain(other)),
                                )?;
                            }
                            Ok(OwnedFd::from(file))
                        })
                }
                kind @ (PreopenedKind::Pipe { .. } | PreopenedKind::Socket { .. }) => end_of(kind)
                    .and_then(|end| ends.get(&end))
                    .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
                    .and_then(OwnedFd::try_clone),
                PreopenedKind::Terminal => terminal
                    .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
                    .and_then(OwnedFd::try_clone),
                PreopenedKind::SameAs { fd } => moved
                    .iter()
                    .find(|(_, other)| other.fd == *fd)
                    .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
                    .and_then(|(source, _)| {
                        // SAFETY: `moved` holds descriptors that stay open until the end of this function.
                        unsafe { std::os::fd::BorrowedFd::borrow_raw(*source) }.try_clone_to_owned()
                    }),
            };
            let source = source.or_else(|error| {
                let _ = writeln!(report, "descriptor {}: {error}; /dev/null stands for it", preopened.fd);
                null()
            });
            let Ok(source) = source else { continue };
            if let Ok(high) = nix::fcntl::fcntl(&source, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(OWN_FDS + 600))
            {
                moved.push((high, preopened));
            }
        }
        let mut numbers = Vec::new();
        for (source, preopened) in moved {
            let flags = if preopened.cloexec { libc::O_CLOEXEC } else { 0 };
            // SAFETY: both are descriptors of this process; what was at the target is not needed any more.
            if unsafe { libc::dup3(source, preopened.fd, flags) } == preopened.fd {
                numbers.push(preopened.fd);
            } else {
                let _ = writeln!(report, "descriptor {}: {}", preopened.fd, io::Error::last_os_error());
            }
        }
        numbers
    }
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
            let describe = Watch::new(setup, control, 0, Vec::new()).stuck(&mut |_| true);
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

/// Watches a running replay.
struct Watch<'a> {
    setup: &'a Setup,
    control: &'a Control,
    root_pid: i32,
    root_status: Option<i32>,
    drains: Vec<OwnedFd>,
    signals: Vec<ExternalSignal>,
    /// Last `seq` and status seen per task, and when they changed.
    seen: Vec<(u32, u32, u64)>,
    last_progress_ns: u64,
    breaks: u32,
}

impl<'a> Watch<'a> {
    fn new(setup: &'a Setup, control: &'a Control, root_pid: i32, drains: Vec<OwnedFd>) -> Self {
        let mut signals = setup.environment.signals.clone();
        signals.sort_by_key(|signal| std::cmp::Reverse(signal.t_ns));
        Self {
            setup,
            control,
            root_pid,
            root_status: None,
            drains,
            signals,
            seen: vec![(0, 0, 0); control.tasks() as usize],
            last_progress_ns: 0,
            breaks: 0,
        }
    }

    fn is_peer(&self, task: u32) -> bool {
        flags_of(&self.setup.program, task) & task_flags::PEER != 0
    }

    fn run(&mut self, channel: &mut UnixStream) -> Outcome {
        let begin = monotonic_ns();
        let mut stuck = Vec::new();
        let ended = loop {
            let now = monotonic_ns().saturating_sub(begin);
            let children = self.reap();
            self.send_signals(now);
            let finished = self.look(now);
            if finished || !children {
                break Ended::Completed;
            }
            if now > self.setup.max_duration.as_nanos() as u64 {
                stuck = self.stuck(&mut |_| true);
                break Ended::TimedOut;
            }
            let stall = self.setup.options.stall.as_nanos() as u64;
            if now.saturating_sub(self.last_progress_ns) > stall && !self.excused(now) {
                if self.breaks >= BREAKS_MAX || !self.break_one() {
                    stuck = self.stuck(&mut |_| true);
                    break Ended::Stalled;
                }
                self.breaks += 1;
                self.last_progress_ns = now;
            }
            if self.serve(channel) {
                break Ended::Aborted;
            }
        };
        self.outcome(ended, stuck)
    }

    /// Reaps what has ended. False: nothing is left.
    fn reap(&mut self) -> bool {
        loop {
            let mut status = 0;
            // SAFETY: writes one status.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
            match pid {
                0 => return true,
                p if p < 0 => return false,
                p if p == self.root_pid => self.root_status = Some(status),
                _ => {}
            }
        }
    }

    fn send_signals(&mut self, now: u64) {
        while let Some(signal) = self.signals.last() {
            let at = (signal.t_ns as f64 / self.setup.options.speed) as u64;
            let slot = self.control.slot(signal.task);
            if at > now || slot.seq.load(Relaxed) < signal.after_seq {
                return;
            }
            let tid = slot.tid.load(Relaxed);
            if tid > 1 {
                let leader =
                    self.setup.program.tasks.get(signal.task as usize).map_or(signal.task, |t| t.leader);
                let tgid = self.control.slot(leader).tid.load(Relaxed);
                if signal.to_process {
                    // SAFETY: integers only; the id is of this PID namespace.
                    unsafe { libc::kill(tgid, signal.signo as i32) };
                } else {
                    // SAFETY: as above.
                    unsafe { libc::syscall(libc::SYS_tgkill, tgid, tid, signal.signo) };
                }
            }
            self.signals.pop();
        }
    }

    /// Notes progress. True: every recorded task has come to its end.
    fn look(&mut self, now: u64) -> bool {
        let mut open = false;
        for task in 0..self.control.tasks() {
            let slot = self.control.slot(task);
            let (seq, state) = (slot.seq.load(Relaxed), slot.status.load(Relaxed));
            let seen = &mut self.seen[task as usize];
            if (seen.0, seen.1) != (seq, state) {
                let moved = seen.0 != seq;
                *seen = (seq, state, now);
                if moved {
                    self.last_progress_ns = now;
                }
            }
            let quiet_ns = now.saturating_sub(seen.2);
            if !self.is_peer(task) && is_open(state) && !(quiet_ns > 20_000_000 && self.is_dead(task)) {
                open = true;
            }
        }
        !open
    }

    /// Whether the task runs no more: its process exited or was killed, and may be waiting to be reaped.
    fn is_dead(&self, task: u32) -> bool {
        let tid = self.control.slot(task).tid.load(Relaxed);
        if tid <= 1 {
            return false;
        }
        // A zombie still has its id but no memory. Reading a word that every worker has mapped tells.
        let mut word = 0_u64;
        let size = size_of::<u64>();
        let local = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: size };
        let remote = libc::iovec { iov_base: CONTROL_BASE as *mut libc::c_void, iov_len: size };
        // SAFETY: writes at most eight bytes to `word`.
        let read = unsafe { libc::process_vm_readv(tid, &raw const local, 1, &raw const remote, 1, 0) };
        read < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
    }

    /// Whether some task is in something that the recording says takes as long.
    fn excused(&self, now: u64) -> bool {
        (0..self.control.tasks()).any(|task| {
            let slot = self.control.slot(task);
            let state = slot.status.load(Relaxed);
            let since = self.seen[task as usize].2;
            match state {
                status::THINKING => !self.is_dead(task),
                status::CALL => {
                    let step = self.setup.program.step(task, slot.step.load(Relaxed));
                    let recorded = step.map_or(0, |step| u64::from(step.duration_ns));
                    let scaled = (recorded as f64 / self.setup.options.speed) as u64;
                    now.saturating_sub(since) < scaled.saturating_mul(2).saturating_add(CALL_SLACK_NS)
                        && !self.is_dead(task)
                }
                _ => false,
            }
        }) || self.signals.last().is_some_and(|signal| signal.t_ns > now)
    }

    /// Tells the waiting task whose step was recorded first to go on without what it waits for.
    fn break_one(&self) -> bool {
        let first = (0..self.control.tasks())
            .filter(|&task| {
                let state = self.control.slot(task).status.load(Relaxed);
                matches!(state, status::WAITING | status::SIGNAL | status::POLLING) && !self.is_dead(task)
            })
            .min_by_key(|&task| {
                let index = self.control.slot(task).step.load(Relaxed);
                self.setup.program.step(task, index).map_or(u64::MAX, |step| step.t_ns)
            });
        match first {
            Some(task) => {
                self.control.break_wait(task);
                true
            }
            None => false,
        }
    }

    /// Reads what must be drained and what ctrace says. True: stop.
    fn serve(&mut self, channel: &mut UnixStream) -> bool {
        let mut closed = Vec::new();
        let mut stop = false;
        {
            let mut fds = vec![PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.drains.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
            let timeout = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
            if poll(&mut fds, timeout).unwrap_or(0) <= 0 {
                return false;
            }
            let ready: Vec<bool> =
                fds.iter().map(|fd| fd.revents().is_some_and(|revents| !revents.is_empty())).collect();
            let mut buffer = vec![0; 65_536];
            for (index, fd) in self.drains.iter().enumerate() {
                if ready[index + 1] && nix::unistd::read(fd, &mut buffer).unwrap_or(0) == 0 {
                    closed.push(index);
                }
            }
            if ready[0] {
                // Anything is a reason to stop: an order, or the end of ctrace.
                stop = true;
            }
        }
        for index in closed.into_iter().rev() {
            drop(self.drains.swap_remove(index));
        }
        stop
    }

    /// Where the tasks are that have not ended, in words.
    fn stuck(&self, which: &mut dyn FnMut(u32) -> bool) -> Vec<String> {
        let mut out = Vec::new();
        for task in (0..self.control.tasks()).filter(|&task| which(task)) {
            let slot = self.control.slot(task);
            let state = slot.status.load(Relaxed);
            if !is_open(state) || state == status::GATE || self.is_dead(task) {
                continue;
            }
            let index = slot.step.load(Relaxed);
            let program = &self.setup.program;
            let what = program.step(task, index).map_or_else(
                |_| "the end of its steps".to_owned(),
                |step| program.describe(&step, &call_name),
            );
            let doing = match state {
                status::WAITING => {
                    let (other, seq) = (slot.waits_for_task.load(Relaxed), slot.waits_for_seq.load(Relaxed));
                    let at = self.control.slot(other);
                    format!(
                        "waits for {} to get to step {} (it is at step {}{})",
                        program.task_name(other),
                        seq.saturating_sub(1) / 2,
                        at.step.load(Relaxed),
                        if self.is_dead(other) { ", and gone" } else { "" },
                    )
                }
                status::CALL | status::FINAL_CALL => "is blocked in its call".to_owned(),
                status::SIGNAL => "waits for a signal".to_owned(),
                status::POLLING => "waits for a descriptor to become ready".to_owned(),
                status::THINKING => "computes or idles".to_owned(),
                _ => "runs".to_owned(),
            };
            let kind = if self.is_peer(task) { "peer " } else { "" };
            out.push(format!(
                "{kind}{} {doing}, step {index}: {}",
                program.task_name(task),
                what.trim_start()
            ));
            if out.len() >= 100 {
                out.push("and more".to_owned());
                break;
            }
        }
        out
    }

    fn outcome(&self, ended: Ended, stuck: Vec<String>) -> Outcome {
        let recorded: Vec<u32> = (0..self.control.tasks()).filter(|&task| !self.is_peer(task)).collect();
        let makespan_ns = recorded
            .iter()
            .map(|&task| self.control.slot(task).last_end.load(Relaxed))
            .filter(|&t| t < 1 << 62)
            .max();
        let finished = recorded.iter().filter(|&&task| {
            let slot = self.control.slot(task);
            let steps = self.setup.program.tasks.get(task as usize).map_or(0, |entry| entry.steps);
            let index = slot.step.load(Relaxed);
            let last = self.setup.program.step(task, index).ok();
            index >= steps
                || slot.status.load(Relaxed) == status::FINAL_CALL
                || last.is_some_and(|step| step.kind == Kind::Park as u8)
        });
        Outcome {
            ended,
            makespan_ns: makespan_ns.unwrap_or(0),
            counters: self.control.counters(|task| !self.is_peer(task)),
            peers: self.control.counters(|task| self.is_peer(task)),
            divergences: self.control.divergences(&self.setup.program),
            stuck,
            tasks_finished: finished.count() as u32,
            tasks: recorded.len() as u32,
            root_status: self.root_status,
            problems: Vec::new(),
            leftovers: Vec::new(),
        }
    }
}

/// Whether a task in this state may still do something.
fn is_open(state: u32) -> bool {
    !matches!(state, status::UNBORN | status::EXITED | status::PARKED | status::FINAL_CALL)
}
