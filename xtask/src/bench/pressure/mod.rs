//! `cargo xtask bench pressure`: how close replayed pressure comes to the recorded one, what it costs others, what is left
//! of replays that are killed meanwhile, and how fast they can be stopped.

mod abort;
mod group;
mod kills;
mod series;
mod situations;
mod victims;

use super::figure::{Line, conclude};
use super::process::Owned;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How long one command of ctrace may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The interpreter of the recorded programs: Debian's, which is the same on every host.
const PYTHON: &str = "/usr/bin/python3";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only these parts
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// Only situations and victims whose names contain this
    #[arg(long, value_name = "TEXT", default_value = "")]
    name: String,
    /// Replays of each situation, and rounds of each victim; medians are printed
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeat: u32,
    /// Replays that are killed
    #[arg(long, value_name = "N", default_value_t = 100)]
    kills: u32,
    /// How often each kind of condition aborts a replay
    #[arg(long, value_name = "N", default_value_t = 30)]
    aborts: u32,
    /// Leave the traces of the situations here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Begins the sequence of moments at which they are killed
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// The ctrace to measure [default: built from this tree]
    #[arg(long, value_name = "FILE")]
    ctrace: Option<PathBuf>,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Programs under pressure, recorded and replayed
    Situations,
    /// Programs beside recorded and beside replayed pressure
    Victims,
    /// Replays that are killed while they press
    Kills,
    /// Replays that are aborted while they press
    Button,
}

/// What the parts measure with.
struct Bench<'a> {
    args: &'a Args,
    ctrace: PathBuf,
    dir: tempfile::TempDir,
}

impl Bench<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Records a command.
    fn record(&self, trace: &Path, command: &[&str]) -> Result<()> {
        let mut record = Command::new(&self.ctrace);
        record.args(["record", "-q", "--force", "-o"]).arg(trace).arg("--").args(command);
        record.stdout(Stdio::null()).stderr(Stdio::null());
        let status = Owned::spawn(&mut record)?.wait_for(PATIENCE, "a recording")?;
        ensure!(status.success(), "recording failed: {status}");
        Ok(())
    }

    /// Replays a trace. Returns the result and the trace of the replay.
    fn replay(&self, trace: &Path) -> Result<(Value, PathBuf)> {
        let output = self.file("replayed.ctr");
        let mut replay = Command::new(&self.ctrace);
        replay.args(["replay", "--json", "--force", "-o"]).arg(&output).arg(trace);
        let said = replay.stdin(Stdio::null()).output().context("starting a replay")?;
        let value = serde_json::from_slice(&said.stdout).with_context(|| {
            format!("the replay ended with {}: {}", said.status, String::from_utf8_lossy(&said.stderr))
        })?;
        Ok((value, output))
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let ctrace = match &args.ctrace {
        Some(path) => path.canonicalize().with_context(|| format!("looking for {}", path.display()))?,
        None => super::build()?,
    };
    let dir = tempfile::tempdir().context("making a directory for recordings")?;
    let bench = Bench { args, ctrace, dir };
    let began = Instant::now();
    let has = |part: Part| args.only.is_empty() || args.only.contains(&part);
    let mut lines = Vec::new();
    if has(Part::Situations) {
        lines.extend(situations::measure(&bench));
    }
    if has(Part::Victims) {
        lines.extend(victims::measure(&bench));
    }
    if has(Part::Kills) {
        lines.push(
            kills::measure(&bench)
                .unwrap_or_else(|error| Line::broken("killed replays", format!("{error:#}"))),
        );
    }
    if has(Part::Button) {
        lines.extend(
            abort::measure(&bench)
                .unwrap_or_else(|error| vec![Line::broken("aborted replays", format!("{error:#}"))]),
        );
    }
    println!(
        "cargo xtask bench pressure --repeat {} --kills {} --aborts {}\n{}\n",
        args.repeat,
        args.kills,
        args.aborts,
        super::host()
    );
    Ok(conclude(&lines, began))
}
