//! What observes: nothing, empty programs, ctrace, and its peers.

use super::pair::Pair;
use super::process::{self, Owned};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// One way to observe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setup {
    Untraced,
    Empty,
    /// Programs that read the time and do nothing else.
    Clock,
    Rejected,
    Recorded,
    /// With `--precise`.
    RecordedPrecise,
    PerfRecord,
    /// With `-z`.
    PerfCompressed,
    PerfTrace,
    BpftraceCount,
    BpftracePrint,
    Strace,
}

/// How a tool says that it is attached.
enum Armed {
    /// By a line on its standard error with this in it.
    Says(&'static str),
    /// By what its output file holds.
    Writes(&'static str),
}

impl Setup {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::Empty => "empty raw_tp enter + exit",
            Self::Clock => "raw_tp enter + exit that read the time",
            Self::Rejected => "ctrace, recording another task",
            Self::Recorded => "ctrace",
            Self::RecordedPrecise => "ctrace --precise",
            Self::PerfRecord => "perf record",
            Self::PerfCompressed => "perf record -z",
            Self::PerfTrace => "perf trace",
            Self::BpftraceCount => "bpftrace count",
            Self::BpftracePrint => "bpftrace print",
            Self::Strace => "strace -f",
        }
    }

    /// By how much to shorten its rounds.
    pub(super) fn slowness(self) -> u32 {
        match self {
            Self::BpftracePrint => 10,
            Self::Strace | Self::PerfTrace => 50,
            _ => 1,
        }
    }

    /// Why it cannot be measured here, if it cannot.
    pub(super) fn missing(self) -> Option<String> {
        match self {
            Self::PerfRecord | Self::PerfCompressed | Self::PerfTrace => process::missing(&["perf"]),
            Self::BpftraceCount | Self::BpftracePrint => process::missing(&["bpftrace"]),
            Self::Strace => process::missing(&["strace"]),
            _ => None,
        }
    }

    fn is_ctrace(self) -> bool {
        matches!(self, Self::Recorded | Self::RecordedPrecise | Self::Rejected)
    }

    /// The command without its target; `None` where no process observes.
    fn command(self, ctrace: &Path, output: &Path) -> Option<Command> {
        const EVENTS: &str = "raw_syscalls:sys_enter,raw_syscalls:sys_exit";
        let (tool, args): (&Path, &[&str]) = match self {
            Self::Untraced | Self::Empty | Self::Clock => return None,
            Self::Rejected | Self::Recorded => (ctrace, &["record", "-o"]),
            Self::RecordedPrecise => (ctrace, &["record", "--precise", "-o"]),
            Self::PerfRecord => ("perf".as_ref(), &["record", "-e", EVENTS, "-m", "4096", "-o"]),
            Self::PerfCompressed => ("perf".as_ref(), &["record", "-z", "-e", EVENTS, "-m", "4096", "-o"]),
            Self::PerfTrace => ("perf".as_ref(), &["trace", "-o"]),
            Self::BpftraceCount | Self::BpftracePrint => ("bpftrace".as_ref(), &["-o"]),
            Self::Strace => ("strace".as_ref(), &["-f", "-o"]),
        };
        let mut command = Command::new(tool);
        command.args(args).arg(output);
        Some(command)
    }

    fn armed(self) -> Armed {
        match self {
            Self::BpftraceCount | Self::BpftracePrint => Armed::Writes("ttach"),
            // It says nothing; its file appears.
            Self::PerfRecord | Self::PerfCompressed | Self::PerfTrace => Armed::Writes(""),
            Self::Strace => Armed::Says("attached"),
            _ => Armed::Says("ecording"),
        }
    }
}

/// What an observation left.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) bytes: u64,
    /// Calls that the recording holds, where its tool or its form tells.
    pub(super) calls: Option<u64>,
    pub(super) lost: u64,
    /// What `ctrace info --json` says, of ctrace.
    pub(super) info: serde_json::Value,
    /// Peak memory of the observer, KiB.
    pub(super) rss_kib: Option<u64>,
    /// CPU time of the observer, in user space and in the kernel.
    pub(super) cpu: Duration,
}

impl Left {
    pub(super) fn bytes_per_call(&self) -> Option<f64> {
        self.calls.filter(|calls| *calls > 0).map(|calls| self.bytes as f64 / calls as f64)
    }
}

/// A running observer.
pub(super) enum Tracer {
    None,
    Pair(#[expect(dead_code, reason = "attached as long as it is held")] Pair),
    Process(Box<Observer>),
}

/// An observer that is a process. It ends with this.
pub(super) struct Observer {
    child: Owned,
    setup: Setup,
    output: PathBuf,
    ctrace: PathBuf,
    said: Receiver<String>,
    _bystander: Option<Owned>,
    /// From its start until it said that it is attached.
    pub(super) armed_after: Duration,
}

impl Tracer {
    /// Starts observing `pid` and returns when the observer is armed.
    pub(super) fn attach(setup: Setup, ctrace: &Path, dir: &Path, pid: u32) -> Result<Self> {
        Self::attach_with(setup, ctrace, dir, pid, &[])
    }

    /// As [`Tracer::attach`], with more arguments.
    pub(super) fn attach_with(
        setup: Setup,
        ctrace: &Path,
        dir: &Path,
        pid: u32,
        more: &[&str],
    ) -> Result<Self> {
        let output = dir.join("observed");
        let _ = std::fs::remove_file(&output);
        let Some(mut command) = setup.command(ctrace, &output) else {
            return Ok(match setup {
                Setup::Empty => Self::Pair(Pair::empty()?),
                Setup::Clock => Self::Pair(Pair::clock(pid)?),
                _ => Self::None,
            });
        };
        let mut bystander = None;
        let mut target = pid;
        if setup == Setup::Rejected {
            let child = Owned::spawn(Command::new("sleep").arg("3600")).context("starting sleep")?;
            target = child.id();
            bystander = Some(child);
        }
        match setup {
            Setup::BpftraceCount => command.arg("-e").arg(format!(
                "tracepoint:raw_syscalls:sys_enter /pid == {pid}/ {{ @[args->id] = count(); }}"
            )),
            Setup::BpftracePrint => command.arg("-e").arg(format!(
                "tracepoint:raw_syscalls:sys_exit /pid == {pid}/ {{ printf(\"%llu %d %ld\\n\", nsecs, args->id, args->ret); }}"
            )),
            _ => command.args(["-p", &target.to_string()]),
        };
        command.args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = Owned::spawn(&mut command).with_context(|| format!("starting {}", setup.name()))?;
        let said = listen(&mut child)?;
        wait_until_armed(&mut child, setup, &output, &said)?;
        let armed_after = began.elapsed();
        if !setup.is_ctrace() {
            // They announce themselves just before the last of their attachments.
            std::thread::sleep(Duration::from_millis(500));
        }
        let ctrace = ctrace.to_owned();
        Ok(Self::Process(Box::new(Observer {
            child,
            setup,
            output,
            ctrace,
            said,
            _bystander: bystander,
            armed_after,
        })))
    }

    /// Observes a command from its start to its end.
    pub(super) fn run(setup: Setup, ctrace: &Path, dir: &Path, target: &[&str]) -> Result<Left> {
        let output = dir.join("observed");
        let _ = std::fs::remove_file(&output);
        let mut command = setup.command(ctrace, &output).context("nothing that observes")?;
        command.arg("--").args(target);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Owned::spawn(&mut command).with_context(|| format!("starting {}", setup.name()))?;
        let said = listen(&mut child)?;
        let status = child.wait_for(Duration::from_secs(120), setup.name())?;
        let said: Vec<String> = said.iter().collect();
        anyhow::ensure!(status.success(), "{} ended with {status}: {}", setup.name(), said.join("; "));
        read_output(setup, ctrace, &output, &said)
    }

    /// Ends the observation as its user would (SIGINT) and says what it left.
    pub(super) fn stop(self) -> Result<Left> {
        match self {
            Self::Process(observer) => observer.stop(),
            _ => Ok(Left::default()),
        }
    }

    /// The observing process.
    pub(super) fn observer(&self) -> Result<&Observer> {
        match self {
            Self::Process(observer) => Ok(observer),
            _ => anyhow::bail!("no process observes"),
        }
    }
}

impl Observer {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn signal(&self, signal: i32) {
        self.child.signal(signal);
    }

    pub(super) fn stop(self) -> Result<Left> {
        let rss_kib = process::peak_rss_kib(self.pid());
        let cpu = process::cpu_time(self.pid());
        self.child.signal(libc::SIGINT);
        self.child.wait_for(Duration::from_secs(60), self.setup.name())?;
        let said: Vec<String> = self.said.iter().collect();
        let left = read_output(self.setup, &self.ctrace, &self.output, &said)?;
        Ok(Left { rss_kib, cpu, ..left })
    }
}

/// Reads a child's standard error to its end, so that it never blocks on a full pipe.
fn listen(child: &mut Owned) -> Result<Receiver<String>> {
    let stderr = child.stderr.take().context("the observer's stderr")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    Ok(receiver)
}

fn wait_until_armed(child: &mut Owned, setup: Setup, output: &Path, said: &Receiver<String>) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    let mut heard = Vec::new();
    loop {
        match setup.armed() {
            Armed::Says(word) => match said.recv_timeout(Duration::from_millis(50)) {
                Ok(line) if line.contains(word) => return Ok(()),
                Ok(line) => heard.push(line),
                Err(_) => {}
            },
            Armed::Writes(word) => {
                if std::fs::read(output).is_ok_and(|b| String::from_utf8_lossy(&b).contains(word)) {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let ended = child.try_wait()?.is_some();
        if ended || Instant::now() > until {
            heard.extend(said.try_iter());
            anyhow::bail!("{} does not start: {}", setup.name(), heard.join("; "));
        }
    }
}

/// What the recording holds.
fn read_output(setup: Setup, ctrace: &Path, output: &Path, said: &[String]) -> Result<Left> {
    let bytes = std::fs::metadata(output).map_or(0, |m| m.len());
    let mut left = Left { bytes, ..Left::default() };
    match setup {
        Setup::Recorded | Setup::RecordedPrecise => {
            left.info = info(ctrace, output, &[]).with_context(|| said.join("; "))?;
            left.calls = left.info["events"]["syscalls"].as_u64();
            left.lost = left.info["lost"]["total"].as_u64().unwrap_or(0);
        }
        // Of a compressed recording it does not say how many samples there are.
        Setup::PerfCompressed => {
            let report =
                Command::new("perf").args(["report", "--stats", "--stdio", "-i"]).arg(output).output()?;
            let text = String::from_utf8_lossy(&report.stdout);
            let samples = text.lines().find_map(|l| l.trim().strip_prefix("SAMPLE events:"));
            let samples = samples.and_then(|n| n.split_whitespace().next()?.parse::<u64>().ok());
            left.calls = samples.map(|n| n / 2);
        }
        Setup::PerfRecord => {
            // "[ perf record: Captured and wrote 3.2 MB FILE (12345 samples) ]": two of a call.
            let samples =
                said.iter().find_map(|l| l.split(" samples)").next()?.rsplit('(').next()?.parse().ok());
            left.calls = samples.map(|n: u64| n / 2);
        }
        Setup::Strace => {
            // A call that another task's line interrupts takes two lines.
            let text = BufReader::new(std::fs::File::open(output).context("opening strace's output")?);
            let lines = text.split(b'\n').map_while(Result::ok);
            left.calls = Some(lines.filter(|l| !l.windows(8).any(|w| w == b"resumed>")).count() as u64);
        }
        _ => {}
    }
    Ok(left)
}

/// `ctrace info --json` of a recording.
pub(super) fn info(ctrace: &Path, file: &Path, more: &[&str]) -> Result<serde_json::Value> {
    let output = Command::new(ctrace).args(["info", "--json"]).args(more).arg(file).output()?;
    serde_json::from_slice(&output.stdout).with_context(|| {
        format!("ctrace info {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim())
    })
}
