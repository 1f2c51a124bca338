//! `cargo xtask bench read`: what reading costs: every command that reads a trace, over traces of 0.1, 1 and 10 million calls,
//! beside its peers in the same run.
//!
//! A command's growth is its time for ten million calls, less what it takes to start, over ten times that for a million: 1 is
//! linear.

use super::figure::{Goal, Line, Unit, conclude, list};
use super::process;
use super::table::median;
use super::tracer::{Setup, Tracer};
use super::workload::{Loop, Work};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[derive(clap::Args)]
pub(super) struct Args {
    /// A tenth of the calls: to see that it works, not to quote
    #[arg(long)]
    quick: bool,
    /// Only commands whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Measure over this trace alone, without growth and peers
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// The ctrace to measure [default: built from this tree]
    #[arg(long, value_name = "FILE")]
    ctrace: Option<PathBuf>,
}

/// Rounds, in each of which every command runs once over every trace.
const ROUNDS: usize = 3;
/// The commands hold for traces of so many events.
const LARGE: f64 = 10_000_000.0;
const MIB: f64 = 1024.0;

/// A command that reads.
struct Reads {
    name: &'static str,
    /// Its words; `@` is the trace, `%` a further one alike, `=` an output.
    words: &'static [&'static str],
    /// Seconds over ten million events.
    seconds: f64,
    mib: Option<f64>,
    /// Exit codes that say that it did its work.
    done: &'static [i32],
}

const COMMANDS: [Reads; 9] = [
    Reads { name: "info", words: &["info", "@"], seconds: 1.0, mib: Some(64.0), done: &[0] },
    Reads {
        name: "info --details",
        words: &["info", "--details", "@"],
        seconds: 8.0,
        mib: Some(64.0),
        done: &[0],
    },
    Reads { name: "events", words: &["events", "@"], seconds: 20.0, mib: None, done: &[0] },
    // Half a million a second.
    Reads { name: "events --json", words: &["events", "--json", "@"], seconds: 20.0, mib: None, done: &[0] },
    Reads { name: "diff", words: &["diff", "@", "%"], seconds: 8.0, mib: Some(200.0), done: &[0, 1, 3] },
    Reads {
        name: "report",
        words: &["report", "@", "--force", "-o", "=.html"],
        seconds: 10.0,
        mib: Some(300.0),
        done: &[0],
    },
    Reads {
        name: "export parquet",
        words: &["export", "--format", "parquet", "@", "--force", "-o", "=.parquet"],
        seconds: 20.0,
        mib: Some(300.0),
        done: &[0],
    },
    Reads {
        name: "export perfetto",
        words: &["export", "--format", "perfetto", "@", "--force", "-o", "=.pftrace"],
        seconds: 30.0,
        mib: Some(300.0),
        done: &[0],
    },
    Reads {
        name: "view --once",
        words: &["view", "--once", "--size", "80x24", "@"],
        seconds: 1.0,
        mib: None,
        done: &[0],
    },
];

/// A recording, and another of the same program.
struct Traces {
    calls: u64,
    one: PathBuf,
    other: PathBuf,
}

/// Seconds and KiB of the rounds of one command over one trace.
#[derive(Default)]
struct Runs {
    seconds: Vec<f64>,
    kib: u64,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let began = std::time::Instant::now();
    let ctrace = match &args.ctrace {
        Some(path) => path.canonicalize().with_context(|| format!("looking for {}", path.display()))?,
        None => super::build()?,
    };
    let dir = tempfile::tempdir().context("making a directory for recordings")?;
    let traces = if let Some(file) = &args.trace {
        vec![given(&ctrace, file)?]
    } else {
        let most = if args.quick { 1_000_000 } else { 10_000_000 };
        [most / 100, most / 10, most]
            .into_iter()
            .map(|calls| recorded(&ctrace, dir.path(), calls))
            .collect::<Result<Vec<_>>>()?
    };
    let mut lines = Vec::new();
    for command in COMMANDS.iter().filter(|c| args.only.as_ref().is_none_or(|o| c.name.contains(o.as_str())))
    {
        lines.extend(
            measure(command, &ctrace, &traces, dir.path())
                .unwrap_or_else(|error| vec![Line::broken(command.name, format!("{error:#}"))]),
        );
    }
    if args.trace.is_none() && args.only.is_none() {
        lines.extend(peers(&ctrace, dir.path(), &traces));
    }
    println!("cargo xtask bench read{}", if args.quick { " --quick" } else { "" });
    println!("{}\n", super::host());
    Ok(conclude(&lines, began))
}

fn given(ctrace: &Path, file: &Path) -> Result<Traces> {
    let info = super::tracer::info(ctrace, file, &[])?;
    let calls =
        info["events"]["syscalls"].as_u64().context("the trace does not say how many calls it has")?;
    Ok(Traces { calls, one: file.to_owned(), other: file.to_owned() })
}

/// Records the loop twice.
fn recorded(ctrace: &Path, dir: &Path, calls: u64) -> Result<Traces> {
    let mut files = Vec::new();
    let mut least = u64::MAX;
    for which in ["one", "other"] {
        // A million a second: the recorder keeps up with it, call by call.
        let work = Work { threads: 2, per_ms: Some(500), random: true, ..Work::calls(calls * 21 / 40) };
        let mut producers = Loop::start(work)?;
        let tracer = Tracer::attach(Setup::Recorded, ctrace, dir, producers.pid())?;
        producers.run()?;
        let left = tracer.stop()?;
        let had = left.calls.unwrap_or(0);
        anyhow::ensure!(had >= calls, "only {had} calls were recorded, {} were lost", left.lost);
        let file = dir.join(format!("{which}-{calls}.ctr"));
        std::fs::rename(dir.join("observed"), &file)?;
        files.push(file);
        least = least.min(had);
    }
    let other = files.pop().context("two recordings")?;
    let one = files.pop().context("two recordings")?;
    Ok(Traces { calls: least, one, other })
}

fn measure(command: &Reads, ctrace: &Path, traces: &[Traces], dir: &Path) -> Result<Vec<Line>> {
    let mut runs: Vec<Runs> = traces.iter().map(|_| Runs::default()).collect();
    for _ in 0..ROUNDS {
        for (traces, runs) in traces.iter().zip(&mut runs) {
            let (seconds, kib) = once(command, ctrace, traces, dir)?;
            runs.seconds.push(seconds);
            runs.kib = runs.kib.max(kib);
        }
    }
    let (Some(largest), Some(last)) = (traces.last(), runs.last()) else { return Ok(Vec::new()) };
    let scale = largest.calls as f64 / LARGE;
    let took = median(&last.seconds);
    let millions = largest.calls as f64 / 1e6;
    let times: Vec<String> = traces
        .iter()
        .zip(&runs)
        .map(|(traces, runs)| {
            format!("{:.1} M calls {:.2} s", traces.calls as f64 / 1e6, median(&runs.seconds))
        })
        .collect();
    let mut lines = vec![
        Line::new(
            format!("{}: time", command.name),
            Unit::Millis,
            Goal::AtMost(1000.0 * (command.seconds * scale).max(1.0)),
            1000.0 * took,
        )
        .beside(format!("{}; {:.2} M calls/s", times.join(", "), millions / took)),
    ];
    if let Some(most) = command.mib {
        let mib = last.kib as f64 / MIB;
        lines.push(Line::new(format!("{}: memory", command.name), Unit::Mib, Goal::AtMost(most), mib));
    }
    if let [small, middle, large] = &runs[..] {
        let [small, middle, large] = [small, middle, large].map(|runs| median(&runs.seconds));
        // The smallest is nearly all start. Where the largest takes hardly longer, there is no growth to tell.
        if large > 0.2 {
            let growth = (large - small) / (10.0 * (middle - small)).max(0.01);
            lines.push(Line::new(
                format!("{}: growth", command.name),
                Unit::Times,
                Goal::AtMost(1.5),
                growth,
            ));
        }
    }
    Ok(lines)
}

fn once(command: &Reads, ctrace: &Path, traces: &Traces, dir: &Path) -> Result<(f64, u64)> {
    let mut run = Command::new(ctrace);
    // A diff that deviates says so at length.
    run.arg("--quiet");
    for word in command.words {
        match *word {
            "@" => run.arg(&traces.one),
            "%" => run.arg(&traces.other),
            word => match word.strip_prefix('=') {
                Some(suffix) => run.arg(dir.join(format!("made{suffix}"))),
                None => run.arg(word),
            },
        };
    }
    let (took, kib, code) = process::run_measured_to(&mut run)?;
    anyhow::ensure!(command.done.contains(&code), "{run:?} ended with {code}");
    Ok((took.as_secs_f64(), kib))
}

/// The time of peers for one event of theirs, over ours: one call is two events of perf, and one line of strace.
fn peers(ctrace: &Path, dir: &Path, traces: &[Traces]) -> Vec<Line> {
    let figure = "a call printed, over perf script and strace's text through grep";
    let goal = Goal::AtMost(1.0);
    compared(ctrace, dir, traces).map_or_else(
        |error| vec![Line::failed(figure, Unit::Times, goal, format!("{error:#}"))],
        |(ours, theirs)| {
            let beside = list(Unit::Count, &theirs.iter().map(|(n, ns)| (*n, *ns)).collect::<Vec<_>>());
            let perf = theirs.iter().find(|(name, _)| *name == "perf script").map(|(_, ns)| *ns);
            let text = format!("ns a call: ctrace events {ours:.0}, {beside}");
            match perf {
                Some(perf) => vec![Line::new(figure, Unit::Times, goal, ours / perf).beside(text)],
                None => vec![Line::skipped(figure, Unit::Times, goal, text)],
            }
        },
    )
}

/// Nanoseconds a call of ours, and of each peer that is here.
fn compared(ctrace: &Path, dir: &Path, traces: &[Traces]) -> Result<(f64, Vec<(&'static str, f64)>)> {
    let middle = traces.get(1).context("a trace of a million calls")?;
    let ns = |(took, _): (std::time::Duration, u64), calls: u64| took.as_nanos() as f64 / calls.max(1) as f64;
    let ours = ns(process::run_measured(Command::new(ctrace).arg("events").arg(&middle.one))?, middle.calls);
    let mut theirs = Vec::new();
    for (setup, calls) in [(Setup::PerfRecord, 500_000), (Setup::Strace, 50_000)] {
        if setup.missing().is_some() {
            continue;
        }
        let mut producers = Loop::start(Work { random: true, per_ms: Some(200), ..Work::calls(calls) })?;
        let tracer = Tracer::attach(setup, ctrace, dir, producers.pid())?;
        producers.run()?;
        let left = tracer.stop()?;
        let had = left.calls.filter(|calls| *calls > 0).context("the peer recorded nothing")?;
        let observed = dir.join("observed");
        let (name, mut command) = if setup == Setup::Strace {
            let mut grep = Command::new("grep");
            grep.args(["-c", "lseek"]).arg(&observed);
            ("grep of strace's text", grep)
        } else {
            let mut script = Command::new("perf");
            script.args(["script", "-i"]).arg(&observed);
            ("perf script", script)
        };
        theirs.push((name, ns(process::run_measured(&mut command)?, had)));
    }
    Ok((ours, theirs))
}
