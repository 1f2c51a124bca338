//! Starting the sandbox's first processes: descriptors at their numbers, limits, confinement, the worker's image.

use super::super::control::Control;
use super::{Setup, close_all_but, exit};
use crate::plan::environment::{Preopened, PreopenedKind};
use crate::sandbox::cgroup::Controls;
use crate::sandbox::root::Problems;
use crate::sandbox::{SandboxError, bounds, confine};
use ctrace_program::header_flags;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{ForkResult, fork};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Descriptors of the sandbox's own use are moved above what recorded programs use.
const OWN_FDS: RawFd = 400;

/// Ends of pipes and socket pairs by (id, end).
pub(super) type Ends = BTreeMap<(u32, u8), OwnedFd>;

/// One process to start.
pub(super) struct Start<'a> {
    pub(super) setup: &'a Setup,
    pub(super) control: &'a Control,
    pub(super) task: u32,
    pub(super) preopened: &'a [Preopened],
    pub(super) image: &'a Path,
    pub(super) many_users: bool,
    pub(super) is_root: bool,
    /// The group that it is to be in.
    pub(super) group: Option<&'a Controls>,
}

impl Start<'_> {
    pub(super) fn start(
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
        if self.is_root {
            leave_group_of_init().map_err(error("setpgid"))?;
        } else {
            // Signals that recorded programs send to their own process group do not reach peers.
            nix::unistd::setpgid(nix::unistd::Pid::from_raw(0), nix::unistd::Pid::from_raw(0))
                .map_err(error("setpgid"))?;
            // Peers sleep as exactly as they can; recorded tasks keep the slack they had.
            // SAFETY: prctl with integers only.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
        }
        if let Some(group) = self.group {
            let error = |error| SandboxError::build("enter the workload's cgroup", "cgroup.procs", error);
            group.enter().map_err(error)?;
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
        let recorded = if self.is_root { &environment.limits } else { &BTreeMap::new() };
        for problem in bounds::set_limits(recorded, &self.setup.options.limits, self.setup.cgroup.is_some()) {
            let _ = writeln!(report, "{problem}");
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
        // The report's descriptor must not be where a recorded one goes, nor those that are on their way there.
        let highest = self.preopened.iter().map(|preopened| preopened.fd).max().unwrap_or(0);
        let above = highest.saturating_add(1).max(OWN_FDS);
        if let Ok(high) = nix::fcntl::fcntl(&*report, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(above)) {
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
            if let Ok(high) = nix::fcntl::fcntl(&source, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(above)) {
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

/// Joins a process group that is neither init's nor led by this process. In init's, which has no parent in another group of
/// the session, SIGTSTP and its like would stop nobody; a leader could begin no session of its own.
fn leave_group_of_init() -> Result<(), nix::Error> {
    let this = nix::unistd::Pid::from_raw(0);
    // SAFETY: as in `launch`; we are single-threaded, and the child only waits for its end.
    match unsafe { fork() }? {
        ForkResult::Child => loop {
            nix::unistd::pause();
        },
        ForkResult::Parent { child } => {
            let joined = nix::unistd::setpgid(child, child).and_then(|()| nix::unistd::setpgid(this, child));
            // The group lasts as long as it has a member.
            nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL)?;
            nix::sys::wait::waitpid(child, None)?;
            joined
        }
    }
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

pub(super) fn make_ends(setup: &Setup, ends: &mut Ends) -> Result<(), SandboxError> {
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
pub(super) fn unclaimed(setup: &Setup, ends: Ends) -> Ends {
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
