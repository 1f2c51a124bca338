//! `cargo xtask bench replay`: real programs, each recorded afresh, replayed several times and judged.
//!
//! The programs are data (`corpus.txt`). A program whose replays do not all match is shown with what fails and the first
//! divergence; the summary is the figures that a release is measured by. Everything is on loopback, bounded in time, and
//! ended by process id.

pub(super) mod again;
mod corpus;
pub(super) mod faults;
mod judge;
mod memory;
pub(super) mod program;
mod summary;

use super::figure::{self, Line};
use super::table::{Cell, Table, median};
use anyhow::{Context, Result};
use corpus::Program;
use judge::Replay;
use program::Place;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(super) struct Args {
    /// Only these programs: names, beginnings of names, or kinds
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Only the programs that `cargo xtask test` runs, once each
    #[arg(long)]
    fast: bool,
    /// Say which programs there are
    #[arg(long)]
    list: bool,
    /// How often each recording is replayed
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeat: u32,
    /// One JSON object a program, then the summary
    #[arg(long)]
    json: bool,
    /// Without the replays by timestamps alone and the trace of 10 million calls
    #[arg(long)]
    quick: bool,
    /// Append what comes out to this file, one JSON object a program
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Without the programs that the file of `--save` has
    #[arg(long, requires = "save")]
    go_on: bool,
    /// Begin with no program after so many seconds
    #[arg(long, value_name = "SECONDS")]
    within: Option<u64>,
    /// Show what earlier runs saved; the last of each program counts
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "fast", "save"])]
    show: Option<PathBuf>,
    /// Leave the traces here, a directory a program
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Other programs than those that are built in, written as they are
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// First of the ports that programs get
    #[arg(long, value_name = "PORT", default_value_t = 7600)]
    port: u16,
    /// The ctrace to measure [default: built from this tree]
    #[arg(long, value_name = "FILE")]
    ctrace: Option<PathBuf>,
}

/// Replays of a program in the test run, if the first is not as it should be.
const FAST_REPEAT: u32 = 3;
/// Ports that are used in turn: one that was just closed may not be free.
const PORTS: u16 = 90;

/// What became of a program.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Judged {
    name: String,
    kind: String,
    /// It could not be recorded: why.
    broken: Option<String>,
    /// It cannot be installed here: why.
    skipped: Option<String>,
    known: Option<String>,
    replays: Vec<Replay>,
    /// Paced by timestamps alone.
    temporal: Option<Replay>,
}

impl Judged {
    fn all_match(&self) -> bool {
        !self.replays.is_empty() && self.replays.iter().all(Replay::matches)
    }

    /// Whether most of its replays did the same as the recording, whatever time they took: what a test can ask for on a
    /// machine that does other things as well.
    fn does_the_same(&self) -> bool {
        let same = self.replays.iter().filter(|replay| replay.does_the_same()).count();
        self.broken.is_none() && same * 2 > self.replays.len()
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(file) = &args.show {
        return Ok(report(args, &saved(file)?, Vec::new()));
    }
    let done = match &args.save {
        Some(file) if args.go_on && file.exists() => saved(file)?,
        _ => Vec::new(),
    };
    let is_done = |p: &Program| done.iter().any(|d| d.name == p.name);
    let wanted = |p: &Program| {
        let named = |only: &String| p.name.starts_with(only.as_str()) || p.kind == *only;
        !is_done(p) && (!args.fast || p.fast) && (args.only.is_empty() || args.only.iter().any(named))
    };
    let programs: Vec<Program> = corpus::all(args.corpus.as_deref())?.into_iter().filter(wanted).collect();
    anyhow::ensure!(!programs.is_empty(), "no program is meant; `--list` names them all");
    if args.list {
        let mut table = Table::new(&["program", "kind", "fast", "needs"], &[0, 1, 2, 3]);
        for p in &programs {
            let fast = if p.fast { "fast" } else { "" };
            table.row([&p.name, &p.kind, fast, &p.needs.join(" ")].map(Cell::text).into());
        }
        println!("{table}");
        return Ok(ExitCode::SUCCESS);
    }
    let ctrace = match &args.ctrace {
        Some(path) => path.canonicalize().with_context(|| format!("looking for {}", path.display()))?,
        None => super::build()?,
    };
    program::adopt();
    let own = tempfile::tempdir().context("making a directory for recordings")?;
    // Servers that leave root have to get there.
    program::open_to_all(own.path())?;
    let base = args.keep.as_deref().unwrap_or(own.path());
    let mut all = Vec::new();
    let started = Instant::now();
    for (i, one) in programs.iter().enumerate() {
        let port = args.port + (3 * i as u16) % PORTS;
        if args.within.is_some_and(|within| started.elapsed().as_secs() >= within) {
            break;
        }
        let place = Place { ctrace: &ctrace, dir: base.join(&one.name), port };
        let began = Instant::now();
        let judged = judged(args, one, &place);
        program::sweep();
        if args.keep.is_none() {
            let _ = std::fs::remove_dir_all(&place.dir);
        }
        progress(args, &judged, began)?;
        all.push(judged);
    }
    let memory = if args.quick || args.fast || !args.only.is_empty() {
        Vec::new()
    } else {
        vec![memory::measure(&ctrace, own.path())]
    };
    program::sweep();
    Ok(report(args, &all, memory))
}

/// What earlier runs left; the last of each program counts.
fn saved(file: &Path) -> Result<Vec<Judged>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut all: Vec<Judged> = Vec::new();
    for line in text.lines() {
        let one: Judged = serde_json::from_str(line).context("reading a saved result")?;
        match all.iter_mut().find(|p| p.name == one.name) {
            Some(earlier) => *earlier = one,
            None => all.push(one),
        }
    }
    Ok(all)
}

fn judged(args: &Args, one: &Program, place: &Place<'_>) -> Judged {
    let mut judged = Judged {
        name: one.name.clone(),
        kind: one.kind.clone(),
        known: one.known.clone(),
        ..Judged::default()
    };
    if let Err(error) = program::install(&one.needs) {
        judged.skipped = Some(format!("{error:#}"));
        return judged;
    }
    if let Err(error) = program::record(one, place) {
        judged.broken = Some(format!("{error:#}"));
        return judged;
    }
    let repeat = if args.fast { FAST_REPEAT } else { args.repeat };
    for k in 0..repeat {
        if args.fast && judged.does_the_same() {
            break;
        }
        match judge::replay(place, &format!("replay{k}"), None) {
            Ok(replay) => judged.replays.push(replay),
            Err(error) => judged.broken = Some(format!("{error:#}")),
        }
    }
    if !args.quick && !args.fast {
        judged.temporal = judge::replay(place, "temporal", Some("temporal")).ok();
    }
    let ops = judged.replays.iter().map(|r| r.ops).max().unwrap_or(0);
    if judged.replays.iter().any(Replay::is_judged) && ops < one.calls {
        judged.broken = Some(format!("only {ops} calls: it did not do its work"));
    }
    judged
}

/// Says that a program is done; the tables come at the end.
fn progress(args: &Args, judged: &Judged, began: Instant) -> Result<()> {
    if let Some(file) = &args.save {
        let mut file = std::fs::File::options().create(true).append(true).open(file)?;
        writeln!(file, "{}", serde_json::to_string(judged)?)?;
    }
    if args.json {
        println!("{}", serde_json::to_string(judged)?);
    }
    let count = judged.replays.iter().filter(|r| r.matches()).count();
    let state = judged.broken.as_ref().or(judged.skipped.as_ref());
    let state = state.map_or_else(|| format!("{count} of {}", judged.replays.len()), Clone::clone);
    #[expect(clippy::print_stderr, reason = "progress of a developer's tool")]
    {
        eprintln!("{:<28} {:>3} s  {state}", judged.name, began.elapsed().as_secs());
    }
    Ok(())
}

fn report(args: &Args, all: &[Judged], memory: Vec<Line>) -> ExitCode {
    let tried: Vec<Judged> = all.iter().filter(|p| p.skipped.is_none()).cloned().collect();
    let mut lines = summary::lines(&tried);
    lines.extend(memory);
    if args.fast {
        return tested(all);
    }
    let missed = lines.iter().filter(|line| line.passes() == Some(false)).count();
    if args.json {
        let figures: Vec<serde_json::Value> = lines.iter().map(Line::json).collect();
        println!("{}", serde_json::json!({"type": "summary", "figures": figures, "missed": missed}));
    } else {
        println!("{}\n{}", super::host(), programs(all));
        println!("{}", failures(all));
        println!("{}", figure::table(&lines));
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the whole test run reads: a program of which most replays do not do the same fails, unless it is known not to.
fn tested(all: &[Judged]) -> ExitCode {
    println!("{}", programs(all));
    let mut failed = 0;
    for p in all {
        if let Some(why) = &p.skipped {
            println!("skipped: replay of {}: {why}", p.name);
        } else if let Some(why) = p.known.as_ref().filter(|_| !p.does_the_same()) {
            println!("known, to be mended: the replay of {} does not match: {why}", p.name);
        } else if p.known.is_some() {
            println!("mended: the replay of {} matches; take its `known` out of the corpus", p.name);
        } else if !p.does_the_same() {
            failed += 1;
            println!("failed: replay of {}: {}", p.name, failure(p));
        }
    }
    let passed = all.len() - failed - all.iter().filter(|p| p.skipped.is_some()).count();
    println!("test result: {}. {passed} passed; {failed} failed", if failed == 0 { "ok" } else { "FAILED" });
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A row a program: the middle of its replays, and how far they lie apart.
fn programs(all: &[Judged]) -> Table {
    let heading = [
        "program",
        "match",
        "calls",
        "calls/s",
        "s",
        "makespan",
        "spread",
        "drift ms",
        "wrong",
        "coverage",
        "network",
        "recall",
        "order",
        "forced",
        "starved s",
        "fails",
    ];
    let mut table = Table::new(&heading, &[0, 15]);
    for p in all {
        let judged: Vec<&Replay> = p.replays.iter().filter(|r| r.is_judged()).collect();
        let first = judged.first().copied().cloned().unwrap_or_default();
        let each =
            |f: &dyn Fn(&Replay) -> Option<f64>| -> Vec<f64> { judged.iter().filter_map(|r| f(r)).collect() };
        let ratios = each(&|r| Some(summary::ratio(r, 0.0)));
        let worst = |metric: &str, low: bool| {
            let values = each(&|r| r.value(metric));
            let worst = values.iter().copied().reduce(if low { f64::min } else { f64::max });
            worst.map_or_else(|| "–".to_owned(), |v| format!("{v:.3}"))
        };
        let (low, high) = ratios.iter().fold((f64::MAX, 0.0_f64), |(l, h), r| (l.min(*r), h.max(*r)));
        let wrong: f64 = judged.iter().filter_map(|r| r.wrong()).map(|(wrong, _)| wrong).fold(0.0, f64::max);
        let forced: u64 = judged.iter().map(|r| r.forced.values().sum()).max().unwrap_or(0);
        let mut fails: Vec<&str> = judged.iter().flat_map(|r| r.failing()).collect();
        fails.sort_unstable();
        fails.dedup();
        let matching = p.replays.iter().filter(|r| r.matches()).count();
        let row = if judged.is_empty() {
            let mut row = vec![p.name.clone(), format!("0/{}", p.replays.len())];
            row.resize(15, "–".to_owned());
            row.push(failure(p));
            row
        } else {
            vec![
                p.name.clone(),
                format!("{matching}/{}", p.replays.len()),
                first.ops.to_string(),
                format!("{:.0}", first.rate()),
                format!("{:.2}", first.recorded_s),
                format!("{:.3}×", median(&ratios)),
                format!("{:.3}", high - low),
                worst("drift", false),
                format!("{wrong}"),
                worst("coverage", true),
                worst("network", true),
                worst("incident_recall", true),
                worst("order", false),
                forced.to_string(),
                format!("{:.2}", judged.iter().map(|r| r.starved_s).fold(0.0, f64::max)),
                fails.join(" "),
            ]
        };
        table.row(row.iter().map(|text| Cell::text(text)).collect());
    }
    table
}

/// What is wrong with a program that does not match.
fn failure(p: &Judged) -> String {
    if let Some(why) = p.broken.as_ref().or(p.skipped.as_ref()) {
        return why.clone();
    }
    let Some(replay) = p.replays.iter().find(|r| !r.matches()) else { return String::new() };
    let mut parts = vec![replay.verdict.clone()];
    parts.extend(replay.reasons.iter().cloned());
    if !replay.divergence.is_empty() {
        parts.push(format!("first: {}", replay.divergence));
    }
    parts.join("; ")
}

fn failures(all: &[Judged]) -> String {
    let failing = all.iter().filter(|p| !p.all_match());
    failing.map(|p| [p.name.as_str(), ": ", &failure(p), "\n"].concat()).collect()
}
