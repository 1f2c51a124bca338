//! Starting a command so that its first `execve` is already recorded: fork, wait at a gate, arm, open the gate.

use crate::disk::Disk;
use crate::error::RecordError;
use crate::patience::Patience;
use crate::target::Command;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// How long a child that was not let go may take to end.
const PATIENCE: Duration = Duration::from_millis(500);

/// A child that waits at the gate, or runs.
pub(crate) struct Child {
    pid: Pid,
    gate: Option<OwnedFd>,
    status: Option<i32>,
}

impl Child {
    /// Forks. The child waits until [`Child::release`]; if the recorder dies before that, it exits.
    pub(crate) fn hold(command: &Command, disk: &Disk) -> Result<Self, RecordError> {
        let program = command.argv.first().cloned().unwrap_or_default();
        let spawn = |source: io::Error| RecordError::Spawn { program: PathBuf::from(&program), source };
        let candidates = candidates(&program, disk).map_err(spawn)?;
        let argv: Vec<CString> = command
            .argv
            .iter()
            .map(|a| CString::new(a.as_bytes()))
            .collect::<Result<_, _>>()
            .map_err(|_| spawn(io::ErrorKind::InvalidInput.into()))?;
        let mut argv_ptrs: Vec<*const libc::c_char> = argv.iter().map(|a| a.as_ptr()).collect();
        argv_ptrs.push(std::ptr::null());
        let (wait_end, gate) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| spawn(e.into()))?;
        // SAFETY: the child only makes async-signal-safe calls on memory prepared above, then execs or exits.
        match unsafe { fork() }.map_err(|e| spawn(e.into()))? {
            ForkResult::Parent { child } => Ok(Self { pid: child, gate: Some(gate), status: None }),
            ForkResult::Child => {
                drop(gate);
                child(&wait_end, &candidates, &argv_ptrs, command)
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Opens the gate.
    pub(crate) fn release(&mut self) -> io::Result<()> {
        if let Some(gate) = self.gate.take() {
            nix::unistd::write(&gate, b"g").map_err(io::Error::from)?;
        }
        Ok(())
    }

    /// The exit status as wait(2) tells it, once it has exited.
    pub(crate) fn try_wait(&mut self) -> Option<i32> {
        if self.status.is_none() {
            self.status = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => Some(code << 8),
                Ok(WaitStatus::Signaled(_, signal, core)) => {
                    Some(signal as i32 | if core { 0x80 } else { 0 })
                }
                Err(nix::errno::Errno::ECHILD) => Some(0),
                _ => None,
            };
        }
        self.status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Still at the gate: closing the gate ends it, unless it is frozen.
        if self.gate.take().is_some() {
            let mut patience = Patience::new(PATIENCE);
            while self.try_wait().is_none() && !patience.is_over(0, Duration::ZERO) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Runs in the forked child: no allocation, no locks.
fn child(wait_end: &OwnedFd, candidates: &[CString], argv: &[*const libc::c_char], command: &Command) -> ! {
    if command.own_group {
        // SAFETY: no preconditions.
        unsafe { libc::setpgid(0, 0) };
    }
    // Rust ignores SIGPIPE; the command must not inherit that.
    // SAFETY: restores a default disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    for signal in &command.ignored {
        // SAFETY: no handler.
        unsafe { libc::signal(*signal, libc::SIG_IGN) };
    }
    if command.output_is_data {
        // What it prints must not come between the bytes of the trace.
        // SAFETY: plain descriptors.
        unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) };
    }
    let mut byte = 0_u8;
    // SAFETY: one byte into a local.
    let got = unsafe { libc::read(wait_end.as_raw_fd(), (&raw mut byte).cast(), 1) };
    if got != 1 {
        // SAFETY: ends the child without running the parent's handlers.
        unsafe { libc::_exit(125) }
    }
    let mut errno = libc::ENOENT;
    for path in candidates {
        // SAFETY: NUL-terminated strings and a null-terminated array, alive in this frame's caller.
        unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), environ()) };
        errno = nix::errno::Errno::last_raw();
        if errno != libc::ENOENT && errno != libc::ENOTDIR {
            break;
        }
    }
    // As shells do: 127 not found, 126 found and not executable.
    let status = if errno == libc::ENOENT || errno == libc::ENOTDIR { 127 } else { 126 };
    // SAFETY: as above.
    unsafe { libc::_exit(status) }
}

fn environ() -> *const *const libc::c_char {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: read in a single-threaded child.
    unsafe { environ }
}

/// The paths to try. A program that is not there, or no program, makes no recording.
fn candidates(program: &OsStr, disk: &Disk) -> io::Result<Vec<CString>> {
    let c = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    if program.as_bytes().contains(&b'/') || program.is_empty() {
        return match disk.is_program(program.as_ref()) {
            Some(true) => Ok(vec![c(program.as_bytes())?]),
            Some(false) => Err(io::Error::from_raw_os_error(libc::EACCES)),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let all: Vec<PathBuf> = std::env::split_paths(&path).map(|dir| dir.join(program)).collect();
    let found: Vec<(PathBuf, bool)> =
        all.into_iter().filter_map(|path| disk.is_program(&path).map(|runs| (path, runs))).collect();
    if found.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    if found.iter().all(|(_, runs)| !runs) {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    found.into_iter().map(|(path, _)| c(path.as_os_str().as_bytes())).collect()
}
