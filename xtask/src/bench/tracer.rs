//! What observes: nothing, empty programs, ctrace, and its peers.

use super::empty::EmptyPair;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One way to observe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setup {
    Untraced,
    Empty,
    Rejected,
    Recorded,
    PerfRecord,
    BpftraceCount,
    BpftracePrint,
    Strace,
}

impl Setup {
    pub(super) const ALL: [Self; 8] = [
        Self::Untraced,
        Self::Empty,
        Self::Rejected,
        Self::Recorded,
        Self::PerfRecord,
        Self::BpftraceCount,
        Self::BpftracePrint,
        Self::Strace,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::Empty => "empty raw_tp enter + exit",
            Self::Rejected => "ctrace, recording another task",
            Self::Recorded => "ctrace, recording it",
            Self::PerfRecord => "perf record raw_syscalls:*",
            Self::BpftraceCount => "bpftrace, count per call",
            Self::BpftracePrint => "bpftrace, print per call",
            Self::Strace => "strace -f",
        }
    }

    /// By how much to shorten its rounds.
    pub(super) fn slowness(self) -> u64 {
        match self {
            Self::BpftracePrint => 10,
            Self::Strace => 50,
            _ => 1,
        }
    }

    /// Why it cannot be measured here, if it cannot.
    pub(super) fn missing(self) -> Option<String> {
        let tool = match self {
            Self::PerfRecord => "perf",
            Self::BpftraceCount | Self::BpftracePrint => "bpftrace",
            Self::Strace => "strace",
            _ => return None,
        };
        let there = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        there.is_err().then(|| format!("{tool} is not installed"))
    }
}

/// What an observation left.
#[derive(Default)]
pub(super) struct Left {
    pub(super) bytes: Option<u64>,
    pub(super) calls: Option<u64>,
    pub(super) lost: Option<u64>,
    /// Peak memory of the observer, KiB.
    pub(super) rss_kib: Option<u64>,
    /// CPU time of the observer, in user space and in the kernel.
    pub(super) cpu: Duration,
}

/// A running observer.
pub(super) enum Tracer {
    None,
    Empty(#[expect(dead_code, reason = "attached as long as it is held")] EmptyPair),
    Process { child: Child, output: PathBuf, setup: Setup, ctrace: PathBuf, bystander: Option<Child> },
}

impl Tracer {
    /// Starts observing `pid` and returns when the observer is armed.
    pub(super) fn attach(setup: Setup, ctrace: &Path, dir: &Path, pid: u32) -> Result<Self> {
        let output = dir.join("observed");
        let _ = std::fs::remove_file(&output);
        let mut bystander = None;
        let pid_text = pid.to_string();
        let mut command = match setup {
            Setup::Untraced => return Ok(Self::None),
            Setup::Empty => return Ok(Self::Empty(EmptyPair::attach()?)),
            Setup::Recorded | Setup::Rejected => {
                let mut target = pid;
                if setup == Setup::Rejected {
                    let child = Command::new("sleep").arg("3600").spawn().context("starting sleep")?;
                    target = child.id();
                    bystander = Some(child);
                }
                let mut c = Command::new(ctrace);
                c.args(["record", "-p", &target.to_string(), "-o"]).arg(&output);
                c
            }
            Setup::PerfRecord => {
                let mut c = Command::new("perf");
                c.args([
                    "record",
                    "-e",
                    "raw_syscalls:sys_enter,raw_syscalls:sys_exit",
                    "-m",
                    "4096",
                    "-p",
                    &pid_text,
                    "-o",
                ])
                .arg(&output);
                c
            }
            Setup::BpftraceCount => {
                let mut c = Command::new("bpftrace");
                c.arg("-o").arg(&output).arg("-e").arg(format!(
                    "tracepoint:raw_syscalls:sys_enter /pid == {pid}/ {{ @[args->id] = count(); }}"
                ));
                c
            }
            Setup::BpftracePrint => {
                let mut c = Command::new("bpftrace");
                c.arg("-o").arg(&output).arg("-e").arg(format!(
                    "tracepoint:raw_syscalls:sys_exit /pid == {pid}/ {{ printf(\"%llu %d %ld\\n\", nsecs, args->id, args->ret); }}"
                ));
                c
            }
            Setup::Strace => {
                let mut c = Command::new("strace");
                c.args(["-f", "-p", &pid_text, "-o"]).arg(&output);
                c
            }
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", setup.name()))?;
        wait_until_armed(&mut child, setup, &output)?;
        Ok(Self::Process { child, output, setup, ctrace: ctrace.to_owned(), bystander })
    }

    /// Ends the observation as its user would (SIGINT) and says what it left.
    pub(super) fn stop(self) -> Result<Left> {
        let Self::Process { mut child, output, setup, ctrace, bystander } = self else {
            return Ok(Left::default());
        };
        let rss_kib = peak_rss_kib(child.id());
        let cpu = cpu_time(child.id());
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
        let status = child.wait()?;
        if let Some(mut bystander) = bystander {
            bystander.kill()?;
            bystander.wait()?;
        }
        let bytes = std::fs::metadata(&output).ok().map(|m| m.len());
        let mut left = Left { bytes, rss_kib, cpu, ..Left::default() };
        match setup {
            Setup::Recorded => {
                let info = Command::new(&ctrace).args(["info", "--json"]).arg(&output).output()?;
                let info: serde_json::Value = serde_json::from_slice(&info.stdout)
                    .with_context(|| format!("ctrace info on the recording (record ended with {status})"))?;
                left.calls = info["events"]["syscalls"].as_u64();
                left.lost = info["lost"]["total"].as_u64();
            }
            Setup::Rejected | Setup::BpftraceCount => left.bytes = None,
            _ => {}
        }
        Ok(left)
    }
}

fn peak_rss_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

fn cpu_time(pid: u32) -> Duration {
    // proc(5): utime and stime are the 14th and 15th field, in clock ticks (100 a second on every Linux).
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Waits for the line by which each tool says that it is attached; perf says nothing, its file appears.
fn wait_until_armed(child: &mut Child, setup: Setup, output: &Path) -> Result<()> {
    let stderr = child.stderr.take().context("the observer's stderr")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Reads to the end so that the observer never blocks on a full pipe.
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let until = Instant::now() + Duration::from_secs(20);
    // bpftrace writes its word into its output, perf writes none: its file appears.
    let in_output = match setup {
        Setup::BpftraceCount | Setup::BpftracePrint => Some("ttach"),
        Setup::PerfRecord => Some(""),
        _ => None,
    };
    if let Some(word) = in_output {
        while !std::fs::read(output).is_ok_and(|b| String::from_utf8_lossy(&b).contains(word)) {
            anyhow::ensure!(Instant::now() < until, "{} does not start", setup.name());
            std::thread::sleep(Duration::from_millis(20));
        }
    } else {
        let word = if setup == Setup::Strace { "attached" } else { "ecording" };
        let mut heard = Vec::new();
        loop {
            match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(word) => break,
                Ok(line) => heard.push(line),
                Err(_) => anyhow::bail!("{} does not start: {}", setup.name(), heard.join("; ")),
            }
        }
    }
    // The tools announce themselves just before the last of their attachments.
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}
