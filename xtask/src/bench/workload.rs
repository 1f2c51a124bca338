//! Processes that do nothing but the cheapest system call.

use super::process::Owned;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Error, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How much a [`Loop`] does.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Work {
    /// Threads that do it.
    #[arg(long, default_value_t = 1)]
    pub(super) threads: u32,
    /// Calls of each.
    #[arg(long, default_value_t = u64::MAX)]
    pub(super) calls: u64,
    /// At most so long.
    #[arg(long, default_value_t = u64::MAX / 1_000_000)]
    pub(super) ms: u64,
    /// At most so many calls of each in a millisecond.
    #[arg(long)]
    pub(super) per_ms: Option<u64>,
    /// Calls whose argument and outcome cannot be foreseen, instead of the cheapest.
    #[arg(long)]
    pub(super) random: bool,
}

impl Work {
    pub(super) const fn calls(calls: u64) -> Self {
        Self { threads: 1, calls, ms: u64::MAX / 1_000_000, per_ms: None, random: false }
    }
    /// Two threads, for so long.
    pub(super) const fn pair(ms: u64, per_ms: Option<u64>) -> Self {
        Self { threads: 2, calls: u64::MAX, ms, per_ms, random: false }
    }
}

/// What a [`Loop`] did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    /// Calls of all threads.
    pub(super) calls: u64,
    pub(super) took: Duration,
}

/// A process that for each line makes calls, and says how many in what time.
pub(super) struct Loop {
    child: Owned,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

/// The body of that process.
pub(super) fn serve_loop(work: Work) -> Result<()> {
    println!("ready");
    // Until the input ends: when the tracer has detached.
    for line in std::io::stdin().lines() {
        line?;
        let began = Instant::now();
        let until = began + Duration::from_millis(work.ms);
        let threads: Vec<_> =
            (1..work.threads).map(|_| std::thread::spawn(move || calls(work, until))).collect();
        let mut made = calls(work, until);
        for thread in threads {
            made += thread.join().map_err(|_| anyhow::anyhow!("a thread of the loop panicked"))?;
        }
        println!("{} {made}", began.elapsed().as_nanos());
    }
    Ok(())
}

/// The calls of one thread; how many.
fn calls(work: Work, until: Instant) -> u64 {
    let began = Instant::now();
    let mut made = 0;
    // SAFETY: the name ends with a 0. Without a descriptor the calls fail, which is as good.
    let fd = if work.random { unsafe { libc::memfd_create(c"loop".as_ptr(), 0) } } else { -1 };
    // xorshift64, Marsaglia 2003.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    while made < work.calls {
        if work.random {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // SAFETY: no pointers.
            unsafe { libc::lseek(fd, (random >> 24).cast_signed(), libc::SEEK_SET) };
        } else {
            // SAFETY: getppid has no arguments and no effect; the raw call keeps libc from answering by itself.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
        made += 1;
        if let Some(per_ms) = work.per_ms {
            if made.is_multiple_of(per_ms) {
                let due = Duration::from_millis(made / per_ms);
                // What is left of the millisecond goes to whoever wants the CPU.
                std::thread::sleep(due.saturating_sub(began.elapsed()));
                if Instant::now() >= until {
                    break;
                }
            }
        } else if made.is_multiple_of(1024) && Instant::now() >= until {
            break;
        }
    }
    made
}

impl Loop {
    /// Starts the process; it does nothing yet.
    pub(super) fn start(work: Work) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["bench", "loop", "--threads", &work.threads.to_string()])
            .args(["--calls", &work.calls.to_string(), "--ms", &work.ms.to_string()])
            .args(work.per_ms.map(|n| format!("--per-ms={n}")))
            .args(work.random.then_some("--random"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = Owned::spawn(&mut command).context("starting the loop")?;
        let stdout = child.stdout.take().context("the loop's output")?;
        let mut lines = BufReader::new(stdout).lines();
        lines.next().context("the loop did not start")??;
        Ok(Self { child, lines })
    }
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
    /// Lets it run, and waits until it has.
    pub(super) fn run(&mut self) -> Result<Done> {
        self.go()?;
        self.wait()
    }
    /// Lets it run.
    pub(super) fn go(&mut self) -> Result<()> {
        Ok(self.child.stdin.as_mut().context("the loop's input")?.write_all(b"go\n")?)
    }
    /// Waits until it has run.
    pub(super) fn wait(&mut self) -> Result<Done> {
        let line = self.lines.next().context("the loop died")??;
        let (ns, calls) = line.split_once(' ').context("the loop says how long and how many")?;
        Ok(Done { calls: calls.parse()?, took: Duration::from_nanos(ns.parse()?) })
    }
}

/// As long as it lives, the calling thread and what it starts leave the first CPU to others, if there are more.
pub(super) struct Apart {
    all: libc::cpu_set_t,
    first: libc::cpu_set_t,
}

impl Apart {
    pub(super) fn new() -> Result<Self> {
        // SAFETY: plain integers; zero is valid, and the kernel writes as many bytes as there are.
        let (mut all, mut first): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let r = unsafe { libc::sched_getaffinity(0, size_of_val(&all), &raw mut all) };
        anyhow::ensure!(r == 0, "asking for the CPUs: {}", Error::last_os_error());
        // SAFETY: within the set.
        let cpu = (0..libc::CPU_SETSIZE as usize).find(|cpu| unsafe { libc::CPU_ISSET(*cpu, &all) });
        let cpu = cpu.context("no CPU")?;
        let mut others = all;
        // SAFETY: as above.
        unsafe { libc::CPU_SET(cpu, &mut first) };
        // SAFETY: as above.
        unsafe { libc::CPU_CLR(cpu, &mut others) };
        // SAFETY: as above.
        if unsafe { libc::CPU_COUNT(&others) } > 0 {
            set(0, &others)?;
        }
        Ok(Self { all, first })
    }

    /// Starts a command on that CPU.
    pub(super) fn pin_from_start(&self, command: &mut Command) {
        let first = self.first;
        // SAFETY: sched_setaffinity is async-signal-safe; the set is copied into the closure.
        unsafe { command.pre_exec(move || set_one(0, &first)) };
    }

    /// Keeps a process on that CPU.
    pub(super) fn pin(&self, pid: u32) -> Result<()> {
        set(pid, &self.first)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // What was allowed before is allowed again.
        let _ = set(0, &self.all);
    }
}

fn set(pid: u32, cpus: &libc::cpu_set_t) -> Result<()> {
    set_one(pid, cpus).context("choosing CPUs")
}

fn set_one(pid: u32, cpus: &libc::cpu_set_t) -> std::io::Result<()> {
    // SAFETY: the kernel reads as many bytes as there are.
    let r = unsafe { libc::sched_setaffinity(pid.cast_signed(), size_of_val(cpus), cpus) };
    if r == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
