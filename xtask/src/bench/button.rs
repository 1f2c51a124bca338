//! How fast the red button of a replay is: one recorded program, replayed again and again, and aborted by everything that can.

use super::figure::{Goal, Line, Unit, conclude, progress};
use super::process::{Owned, missing};
use super::table::percentile;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(super) struct Args {
    /// How often each kind of condition aborts a replay
    #[arg(long, value_name = "N", default_value_t = 30)]
    repeat: u32,
    /// The ctrace to measure [default: built from this tree]
    #[arg(long, value_name = "FILE")]
    ctrace: Option<PathBuf>,
}

/// Most from what made a condition hold to the last moment that anything of the replay ran, ms.
const MOST_MS: f64 = 150.0;
/// How long a replay may take that was aborted.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connections that nobody takes, twenty a second, beside descriptors that are never closed; then no calls any more.
pub(super) const PROGRAM: &str = "import os, socket, time\n\
    for i in range(40):\n\
    \x20 s = socket.socket()\n\
    \x20 try: s.connect(('127.0.0.1', 9))\n\
    \x20 except OSError: pass\n\
    \x20 s.close()\n\
    \x20 os.open('/', os.O_RDONLY)\n\
    \x20 time.sleep(0.05)\n\
    time.sleep(2)\n";

/// The cause that ends a replay.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) args: &'static [&'static str],
    /// How it is called in the result.
    pub(super) by: &'static str,
    /// So long after the replay began to be recorded, SIGINT.
    pub(super) interrupts: Option<Duration>,
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "an event (errno)",
        args: &["--abort-on", "errno(connect)>5/s"],
        by: "condition",
        interrupts: None,
    },
    Kind { name: "a sample (fds)", args: &["--abort-on", "fds>20"], by: "condition", interrupts: None },
    Kind { name: "silence", args: &["--abort-on", "silent>300ms"], by: "silence", interrupts: None },
    Kind { name: "Ctrl-C", args: &[], by: "signal", interrupts: Some(Duration::from_millis(500)) },
    Kind { name: "--max-duration", args: &["--max-duration", "500ms"], by: "max-duration", interrupts: None },
];

/// The times of one abort, ms.
struct Times {
    held_to_frozen: f64,
    seen_to_frozen: f64,
    frozen_to_gone: f64,
    leftovers: usize,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(why) = missing(&["python3"]) {
        anyhow::bail!(why);
    }
    let ctrace = match &args.ctrace {
        Some(path) => path.canonicalize().with_context(|| format!("looking for {}", path.display()))?,
        None => super::build()?,
    };
    let dir = tempfile::tempdir().context("making a directory for recordings")?;
    let trace = dir.path().join("recorded.ctr");
    let mut command = Command::new(&ctrace);
    command.args(["record", "-q", "-o"]).arg(&trace).args(["--", "python3", "-c", PROGRAM]);
    let recorded = Owned::spawn(&mut command)?.wait_for(PATIENCE, "the recording")?;
    ensure!(recorded.success(), "recording failed: {recorded}");
    let began = Instant::now();
    let mut lines = Vec::new();
    for kind in &KINDS {
        lines.extend(measure(kind, args.repeat, &ctrace, &trace).unwrap_or_else(|error| {
            vec![Line::broken(format!("aborted by {}", kind.name), format!("{error:#}"))]
        }));
        progress(kind.name, began);
    }
    println!("cargo xtask bench button --repeat {}\n{}\n", args.repeat, super::host());
    Ok(conclude(&lines, began))
}

/// Aborts so many replays of a trace.
pub(super) fn measure(kind: &Kind, repeat: u32, ctrace: &Path, trace: &Path) -> Result<Vec<Line>> {
    let all = (0..repeat).map(|_| abort(kind, ctrace, trace)).collect::<Result<Vec<Times>>>()?;
    let of = |time: fn(&Times) -> f64| all.iter().map(time).collect::<Vec<f64>>();
    let held = of(|times| times.held_to_frozen);
    let text = |values: &[f64]| {
        let at = |part| percentile(values, part);
        format!("p50 {:.1}, p90 {:.1}, p99 {:.1} ms", at(50), at(90), at(99))
    };
    let beside = format!(
        "{}; since it was seen here {}; gone {} later; {repeat} aborts",
        text(&held),
        text(&of(|times| times.seen_to_frozen)),
        text(&of(|times| times.frozen_to_gone)),
    );
    let name = format!("aborted by {}: until it is frozen, p99", kind.name);
    let leftovers: usize = all.iter().map(|times| times.leftovers).sum();
    Ok(vec![
        Line::new(name, Unit::Millis, Goal::AtMost(MOST_MS), percentile(&held, 99)).beside(beside),
        Line::new("– the same: leftovers", Unit::Count, Goal::AtMost(0.0), leftovers as f64),
    ])
}

/// One replay that is aborted.
fn abort(kind: &Kind, ctrace: &Path, trace: &Path) -> Result<Times> {
    let output = trace.with_file_name("replayed.ctr");
    let mut command = Command::new(ctrace);
    command.args(["replay", "--json", "--force", "-o"]).arg(&output).arg(trace).args(kind.args);
    let mut replay = Owned::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
    let mut stdout = replay.stdout.take().context("the replay's output")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    if let Some(later) = kind.interrupts {
        let partial = trace.with_file_name("replayed.ctr.partial");
        let until = Instant::now() + PATIENCE;
        while !partial.exists() {
            ensure!(Instant::now() < until, "the replay does not begin");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(later);
        replay.signal(libc::SIGINT);
    }
    let status = replay.wait_for(PATIENCE, "the replay")?;
    let text = reader.join().map_err(|_| anyhow::anyhow!("reading the result panicked"))??;
    let said: Value =
        serde_json::from_str(&text).with_context(|| format!("the replay ended with {status}"))?;
    let aborted = &said["aborted"];
    ensure!(aborted["by"] == kind.by, "it was not aborted by its {}: {aborted} ({status})", kind.name);
    let ms = |name: &str| {
        let ns = aborted[name].as_u64().with_context(|| format!("no {name}: {aborted}"))?;
        Ok::<_, anyhow::Error>(ns as f64 / 1e6)
    };
    Ok(Times {
        held_to_frozen: ms("held_to_frozen_ns")?,
        seen_to_frozen: ms("detected_to_frozen_ns")?,
        frozen_to_gone: ms("frozen_to_gone_ns")?,
        leftovers: said["leftovers"].as_array().context("leftovers")?.len(),
    })
}
