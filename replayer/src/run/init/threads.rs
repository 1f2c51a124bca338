//! What the kernel says of the sandbox's threads, and how a blocked one is made to go on.

use crate::sandbox::SandboxError;
use rustix::fs::{Dir, Mode, OFlags, openat, readlinkat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Longest line of `/proc/TID/stat`, with room to spare.
const LINE_BYTES: usize = 1024;
/// Most descriptors of a process that are looked through.
const LISTED_MAX: usize = 1024;
/// How often init looks whether a thread has stopped before it leaves that to the next reaping.
const STOP_LOOKS: u32 = 100;

/// What a thread does, by its state (`task_state_array`, fs/proc/array.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// It has a CPU or waits for one.
    Runs,
    /// It waits for what others do, or for a moment.
    Sleeps,
    /// It waits for a device, or for its vfork child.
    WaitsForDevice,
    /// A signal stopped it.
    Stopped,
    /// It has ended.
    Gone,
    /// The sandbox has no view of its threads.
    Unknown,
}

/// The sandbox's threads, as its first process sees them.
#[derive(Debug)]
pub(super) struct Threads {
    /// A proc file system of the sandbox's PID namespace that is mounted nowhere.
    proc: Option<OwnedFd>,
    /// Threads that init is attached to: each has been told to stop, and is let go when it has.
    attached: BTreeSet<i32>,
}

impl Threads {
    /// A view of the threads of the calling process's PID namespace. To be called while the host's `/proc` is in sight: the
    /// kernel makes no other for who does not see one in full (`mount_too_revealing`, fs/namespace.c).
    ///
    /// # Errors
    /// When the kernel makes none; the replay then decides without.
    pub(super) fn view() -> Result<OwnedFd, SandboxError> {
        let make = || {
            let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&context)?;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        };
        make().map_err(|errno: rustix::io::Errno| {
            SandboxError::build("look at the replay's threads", "a /proc of its own", io::Error::from(errno))
        })
    }

    pub(super) fn new(view: Option<OwnedFd>) -> Self {
        Self { proc: view, attached: BTreeSet::new() }
    }

    fn read(&self, tid: i32, name: &str, line: &mut [u8]) -> Option<usize> {
        let proc = self.proc.as_ref()?;
        let file = openat(proc, format!("{tid}/{name}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        rustix::io::read(file.ok()?, line).ok()
    }

    pub(super) fn doing(&self, tid: i32) -> Doing {
        if self.proc.is_none() {
            return Doing::Unknown;
        }
        let mut line = [0; LINE_BYTES];
        // The process's own file adds up what all its threads have done.
        let Some(len) = self.read(tid, &format!("task/{tid}/stat"), &mut line) else { return Doing::Gone };
        // The name, in parentheses, may hold any byte: the state follows the last one.
        let state = line[..len].iter().rposition(|byte| *byte == b')').and_then(|at| line.get(at + 2));
        match state {
            Some(b'R') => Doing::Runs,
            Some(b'D') => Doing::WaitsForDevice,
            Some(b'T' | b't') => Doing::Stopped,
            Some(b'Z' | b'X') => Doing::Gone,
            _ => Doing::Sleeps,
        }
    }

    /// The descriptor that it looks through.
    pub(super) fn descriptor(&self) -> Option<RawFd> {
        self.proc.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The resident memory of a process, bytes.
    pub(super) fn resident_bytes(&self, process: i32) -> Option<u64> {
        let mut line = [0; LINE_BYTES];
        let len = self.read(process, "statm", &mut line)?;
        let pages: u64 = std::str::from_utf8(&line[..len]).ok()?.split(' ').nth(1)?.parse().ok()?;
        Some(pages.saturating_mul(page_bytes()))
    }

    /// How long a thread has had a CPU or waited for one, ns.
    pub(super) fn demand_ns(&self, tid: i32) -> Option<u64> {
        self.scheduled_ns(tid).map(|(had, waited)| had.saturating_add(waited))
    }

    /// How long a thread has had a CPU, and how long it has waited for one, ns.
    pub(super) fn scheduled_ns(&self, tid: i32) -> Option<(u64, u64)> {
        let mut line = [0; LINE_BYTES];
        let len = self.read(tid, "schedstat", &mut line)?;
        let text = std::str::from_utf8(&line[..len]).ok()?;
        let mut words = text.split_ascii_whitespace().map_while(|word| word.parse::<u64>().ok());
        Some((words.next()?, words.next()?))
    }

    /// Files that a process has open, as the same open files, by the paths that the kernel gives them.
    pub(super) fn open_files(&self, process: i32, is_asked_for: impl Fn(&[u8]) -> bool) -> Vec<OwnedFd> {
        let all = || {
            let proc = self.proc.as_ref()?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let listed = openat(proc, format!("{process}/fd"), flags, Mode::empty()).ok()?;
            let itself = pidfd_open(Pid::from_raw(process)?, PidfdFlags::empty()).ok()?;
            let entries = Dir::read_from(&listed).ok()?.take(LISTED_MAX).map_while(Result::ok);
            let found = entries.filter_map(|entry| {
                let path = readlinkat(&listed, entry.file_name(), Vec::new()).ok()?;
                let fd = entry.file_name().to_str().ok()?.parse().ok()?;
                let file =
                    is_asked_for(path.to_bytes()).then(|| pidfd_getfd(&itself, fd, PidfdGetfdFlags::empty()));
                file?.ok()
            });
            Some(found.collect())
        };
        all().unwrap_or_default()
    }

    /// Makes a blocked call of a thread return `EINTR`.
    ///
    /// A signal would do that, too, but it would need a handler, whose return is a call, and it would be on the replay's
    /// recording. A tracer's stop is neither: the call returns to be restarted (`ERESTARTSYS` and its like), and the stop
    /// comes before the kernel does so (Documentation: ptrace(2), `PTRACE_INTERRUPT`).
    pub(super) fn interrupt(&mut self, tid: i32) {
        if self.attached.contains(&tid) || !request(libc::PTRACE_SEIZE, tid, 0) {
            return;
        }
        self.attached.insert(tid);
        let _ = request(libc::PTRACE_INTERRUPT, tid, 0);
        for _ in 0..STOP_LOOKS {
            let mut status = 0;
            // SAFETY: writes one status.
            let got = unsafe { libc::waitpid(tid, &raw mut status, libc::WNOHANG | libc::__WALL) };
            if got == tid {
                self.reaped(tid, status);
                return;
            }
            if got < 0 {
                self.attached.remove(&tid);
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Takes note of a status that init has reaped: a thread that was told to stop and has is let go. True: it is still
    /// there.
    pub(super) fn reaped(&mut self, tid: i32, status: i32) -> bool {
        if !libc::WIFSTOPPED(status) {
            self.attached.remove(&tid);
            return false;
        }
        let told = status >> 16 == libc::PTRACE_EVENT_STOP;
        if told {
            forbid_restart(tid);
        }
        // A signal that was on its way is passed on.
        let signal = if told { 0 } else { libc::WSTOPSIG(status) };
        let _ = request(libc::PTRACE_DETACH, tid, signal as usize);
        self.attached.remove(&tid);
        true
    }
}

fn page_bytes() -> u64 {
    // SAFETY: an integer only.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

fn request(what: libc::c_uint, tid: i32, data: usize) -> bool {
    // SAFETY: these requests take integers only, and act on a thread of the sandbox.
    unsafe { libc::ptrace(what, tid, 0_usize, data) == 0 }
}

/// `ERESTARTSYS`, `ERESTARTNOINTR`, `ERESTARTNOHAND`, `ERESTART_RESTARTBLOCK` (include/linux/errno.h), negated.
#[cfg(target_arch = "x86_64")]
const RESTARTS: [i64; 4] = [-512, -513, -514, -516];

/// The call that a stopped thread was in returns `EINTR` instead of being made again.
#[cfg(target_arch = "x86_64")]
fn forbid_restart(tid: i32) {
    // SAFETY: a structure of integers.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the structure.
    let read = unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, 0_usize, &raw mut registers) };
    // Elsewhere than in a call, orig_rax is -1.
    if read == 0 && (registers.orig_rax as i64) >= 0 && RESTARTS.contains(&(registers.rax as i64)) {
        registers.rax = -i64::from(libc::EINTR) as u64;
        registers.orig_rax = u64::MAX;
        // SAFETY: the kernel reads the structure.
        unsafe { libc::ptrace(libc::PTRACE_SETREGS, tid, 0_usize, &raw const registers) };
    }
}

/// The call that a stopped thread was in returns `EINTR` instead of being made again.
///
/// By the time of the stop the kernel has moved the program counter back to the `svc` instruction (`do_signal`,
/// arch/arm64/kernel/signal.c) and compares it with that place before it restarts the call.
#[cfg(target_arch = "aarch64")]
fn forbid_restart(tid: i32) {
    const SVC: u32 = 0xd400_0001;
    const SVC_BYTES: u64 = 4;
    // SAFETY: a structure of integers.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    let mut vector =
        libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<libc::user_regs_struct>() };
    let set = libc::NT_PRSTATUS as usize;
    // SAFETY: the kernel fills what the vector says.
    if unsafe { libc::ptrace(libc::PTRACE_GETREGSET, tid, set, &raw mut vector) } != 0 {
        return;
    }
    // SAFETY: reads a word of the stopped thread's program.
    let word = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, tid, registers.pc as usize, 0_usize) };
    if word as u32 == SVC {
        registers.pc += SVC_BYTES;
        registers.regs[0] = -i64::from(libc::EINTR) as u64;
        // SAFETY: the kernel reads what the vector says.
        unsafe { libc::ptrace(libc::PTRACE_SETREGSET, tid, set, &raw mut vector) };
    }
}
