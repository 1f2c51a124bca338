//! Processes that end with their owner, and what the kernel says of them.

use anyhow::{Context, Result};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A child that is killed when it is dropped, and by the kernel when this process dies.
pub(super) struct Owned(Child);

impl Owned {
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let bind = || {
            // SAFETY: touches no memory.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            Ok(())
        };
        // SAFETY: prctl is async-signal-safe.
        unsafe { command.pre_exec(bind) };
        command.spawn().map(Self)
    }

    pub(super) fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that has not been waited for: `wait` takes `self`.
        unsafe { libc::kill(self.0.id() as i32, signal) };
    }

    /// Waits for its end, at most `patience`.
    pub(super) fn wait_for(mut self, patience: Duration, what: &str) -> Result<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            anyhow::ensure!(Instant::now() < until, "{what} does not end; it was killed");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Keeps every CPU busy with a thread that runs when nothing else would. A virtual machine's CPU that goes idle is given
/// back to the hypervisor; getting it back costs more than what is measured, and a server that is a little slower lets
/// its clients go idle more often.
pub(super) struct Awake {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Awake {
    pub(super) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = (0..cpus)
            .map(|_| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    let param = libc::sched_param { sched_priority: 0 };
                    // SAFETY: a valid parameter. A thread that cannot be made idle must not compete.
                    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param) } == 0 {
                        while !stop.load(Ordering::Relaxed) {
                            std::hint::spin_loop();
                        }
                    }
                })
            })
            .collect();
        Self { stop, threads }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Deref for Owned {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}
impl DerefMut for Owned {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}
impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Why a tool cannot be used, if it cannot.
pub(super) fn missing(tools: &[&str]) -> Option<String> {
    let there = |tool: &str| {
        std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|dir| dir.join(tool).is_file())
        })
    };
    let missing: Vec<&str> = tools.iter().copied().filter(|tool| !there(tool)).collect();
    (!missing.is_empty()).then(|| format!("{} is not installed (.ci/setup)", missing.join(", ")))
}

/// Largest resident set so far, KiB.
pub(super) fn peak_rss_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

/// CPU time so far, in user space and in the kernel.
pub(super) fn cpu_time(pid: u32) -> Duration {
    // proc(5): utime and stime are the 14th and 15th field, in clock ticks (100 a second on every Linux).
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Runs to the end, and well: how long it took, and its largest resident set in KiB.
pub(super) fn run_measured(command: &mut Command) -> Result<(Duration, u64)> {
    let (took, kib, code) = run_measured_to(command)?;
    anyhow::ensure!(code == 0, "{command:?} ended with {code}");
    Ok((took, kib))
}

/// Runs to the end: how long it took, its largest resident set in KiB, and its exit code.
pub(super) fn run_measured_to(command: &mut Command) -> Result<(Duration, u64, i32)> {
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("starting a command")?;
    let (mut status, pid) = (0, child.id() as i32);
    // SAFETY: an all-zero rusage is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: waits for our own child with valid out-pointers; `child` is not waited for again.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    let took = began.elapsed();
    anyhow::ensure!(
        waited == pid && libc::WIFEXITED(status),
        "{command:?} ended with wait status {status:#x}"
    );
    Ok((took, usage.ru_maxrss as u64, libc::WEXITSTATUS(status)))
}
