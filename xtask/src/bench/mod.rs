//! `cargo xtask bench`: what recording costs, beside its peers, in one interleaved run.
//!
//! Every figure is a median over rounds in which each setup ran once, so that a machine that speeds up or slows down
//! does so for all of them; ratios are what to quote.

mod empty;
mod table;
mod tracer;
mod workload;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use table::{Cell, Table};
use tracer::{Setup, Tracer};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// The cost of recording a system call: a getppid loop, and redis GET, under every setup.
    Record {
        /// Rounds; each setup runs once in each.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// Calls of the loop in a round, for the setups that are not orders of magnitude slower.
        #[arg(long, default_value_t = 2_000_000)]
        calls: u64,
        /// Requests of redis-benchmark in a round.
        #[arg(long, default_value_t = 100_000)]
        requests: u64,
        /// Seconds that two producers make 500,000 calls a second in all.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Leave the redis part out.
        #[arg(long)]
        no_redis: bool,
    },
    /// The loop itself (started by `record`).
    #[command(hide = true)]
    Loop {
        /// How many calls.
        calls: u64,
        /// At most so many in a millisecond.
        #[arg(long)]
        per_ms: Option<u64>,
    },
}

/// Runs a benchmark.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match args.what {
        What::Loop { calls, per_ms } => workload::serve_loop(calls, per_ms)?,
        What::Record { rounds, calls, requests, seconds, no_redis } => {
            let ctrace = build()?;
            let dir = tempfile::tempdir().context("making a directory for recordings")?;
            getppid(&ctrace, dir.path(), rounds, calls)?;
            sustained(&ctrace, dir.path(), seconds)?;
            if no_redis {
                println!("redis: left out by --no-redis");
            } else {
                redis(&ctrace, dir.path(), rounds, requests)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn build() -> Result<PathBuf> {
    let root = crate::root();
    let status = std::process::Command::new("cargo")
        .args(["build", "--release", "--package", "ctrace"])
        .current_dir(&root)
        .status()
        .context("starting cargo")?;
    anyhow::ensure!(status.success(), "cargo build failed: {status}");
    Ok(root.join("target/release/ctrace"))
}

/// What was measured of one setup over the rounds.
struct Row {
    setup: Setup,
    values: Vec<f64>,
    bytes_per_call: Option<f64>,
    lost: Option<u64>,
    /// Why it was not measured.
    failed: Option<String>,
}

impl Row {
    fn all(setups: &[Setup]) -> Vec<Self> {
        setups
            .iter()
            .map(|s| Self {
                setup: *s,
                values: Vec::new(),
                bytes_per_call: None,
                lost: None,
                failed: s.missing(),
            })
            .collect()
    }

    /// Attaches the observer; a peer that does not start here is left out of the rounds that follow, and said so.
    fn attach(&mut self, ctrace: &Path, dir: &Path, pid: u32) -> Option<Tracer> {
        match Tracer::attach(self.setup, ctrace, dir, pid) {
            Ok(tracer) => Some(tracer),
            Err(error) => {
                self.failed = Some(format!("{error:#}"));
                None
            }
        }
    }

    /// Adds a round; `calls` is how many the recording holds, when the tool does not say so itself.
    fn add(&mut self, value: f64, left: &tracer::Left, calls: Option<u64>) {
        self.values.push(value);
        if let (Some(bytes), Some(calls)) = (left.bytes, left.calls.or(calls)) {
            self.bytes_per_call = Some(bytes as f64 / calls as f64);
        }
        if let Some(lost) = left.lost {
            self.lost = Some(self.lost.unwrap_or(0) + lost);
        }
    }

    fn tail(&self) -> [Cell; 2] {
        [
            self.bytes_per_call.map_or(Cell::none(), |b| Cell::number(b, 2)),
            self.lost.map_or(Cell::none(), |n| Cell::text(&n.to_string())),
        ]
    }
}

fn say_what_failed(rows: &[Row]) {
    for row in rows {
        if let Some(why) = &row.failed {
            println!("not measured: {}: {why}", row.setup.name());
        }
    }
}

/// The median of a setup's values, 0 when it was not measured.
fn median_of(rows: &[Row], setup: Setup) -> f64 {
    rows.iter().find(|r| r.setup == setup).map_or(0.0, |r| table::median(&r.values))
}

/// Nanoseconds per call of a loop that does nothing else.
fn getppid(ctrace: &Path, dir: &Path, rounds: u32, calls: u64) -> Result<()> {
    println!("getppid loop, {calls} calls a round, {rounds} interleaved rounds, median");
    let mut rows = Row::all(&Setup::ALL);
    for _ in 0..rounds {
        for row in rows.iter_mut().filter(|r| r.failed.is_none()) {
            let calls = calls / row.setup.slowness();
            let mut target = workload::Loop::start(calls, None)?;
            let Some(tracer) = row.attach(ctrace, dir, target.pid()) else { continue };
            let ns = target.run()?;
            row.add(ns, &tracer.stop()?, Some(calls));
        }
    }
    let base = median_of(&rows, Setup::Untraced);
    let empty = median_of(&rows, Setup::Empty) - base;
    let mut table = Table::new(&["setup", "ns/call", "added ns", "added / empty pair", "bytes/call", "lost"]);
    for row in rows.iter().filter(|r| !r.values.is_empty()) {
        let ns = table::median(&row.values);
        let mut cells = vec![
            Cell::text(row.setup.name()),
            Cell::number(ns, 0),
            Cell::number(ns - base, 0),
            Cell::number((ns - base) / empty, 2),
        ];
        cells.extend(row.tail());
        table.row(cells);
    }
    println!("{table}");
    say_what_failed(&rows);
    Ok(())
}

/// Two producers at 500,000 calls a second in all: what is lost, and what the recorder itself takes.
fn sustained(ctrace: &Path, dir: &Path, seconds: u64) -> Result<()> {
    const PER_MS: u64 = 250;
    println!("two producers, together 500,000 calls/s for {seconds} s");
    let calls = PER_MS * 1000 * seconds;
    let mut producers =
        [workload::Loop::start(calls, Some(PER_MS))?, workload::Loop::start(calls, Some(PER_MS))?];
    // Both are children of this process, whose own few calls are recorded with theirs.
    let tracer = Tracer::attach(Setup::Recorded, ctrace, dir, std::process::id())?;
    let began = std::time::Instant::now();
    for producer in &mut producers {
        producer.go()?;
    }
    for producer in &mut producers {
        producer.wait()?;
    }
    let took = began.elapsed();
    let left = tracer.stop()?;
    let mut table = Table::new(&["made", "calls/s", "recorded", "lost", "recorder CPU", "recorder peak MiB"]);
    table.row(vec![
        Cell::text(&(2 * calls).to_string()),
        Cell::number(2.0 * calls as f64 / took.as_secs_f64(), 0),
        left.calls.map_or(Cell::none(), |n| Cell::text(&n.to_string())),
        left.lost.map_or(Cell::none(), |n| Cell::text(&n.to_string())),
        Cell::text(&format!("{:.0} % of a core", 100.0 * left.cpu.as_secs_f64() / took.as_secs_f64())),
        left.rss_kib.map_or(Cell::none(), |kib| Cell::number(kib as f64 / 1024.0, 1)),
    ]);
    println!("{table}");
    Ok(())
}

/// redis GET: requests per second while the server is recorded, and what a call takes on disk.
fn redis(ctrace: &Path, dir: &Path, rounds: u32, requests: u64) -> Result<()> {
    if let Some(why) = workload::Redis::missing() {
        println!("redis: not measured: {why}");
        return Ok(());
    }
    println!(
        "redis-benchmark GET, 20 clients, {requests} requests a round, {rounds} interleaved rounds, median"
    );
    let setups = [
        Setup::Untraced,
        Setup::Rejected,
        Setup::Recorded,
        Setup::PerfRecord,
        Setup::BpftracePrint,
        Setup::Strace,
    ];
    let mut rows = Row::all(&setups);
    for _ in 0..rounds {
        for row in rows.iter_mut().filter(|r| r.failed.is_none()) {
            let server = workload::Redis::start(dir)?;
            let Some(tracer) = row.attach(ctrace, dir, server.pid()) else { continue };
            let rate = server.benchmark(requests / row.setup.slowness().min(5))?;
            row.add(rate, &tracer.stop()?, None);
        }
    }
    let base = median_of(&rows, Setup::Untraced);
    let mut table = Table::new(&["setup", "requests/s", "of untraced", "bytes/call", "lost"]);
    for row in rows.iter().filter(|r| !r.values.is_empty()) {
        let rate = table::median(&row.values);
        let mut cells = vec![
            Cell::text(row.setup.name()),
            Cell::number(rate, 0),
            Cell::text(&format!("{:.0} %", 100.0 * rate / base)),
        ];
        cells.extend(row.tail());
        table.row(cells);
    }
    println!("{table}");
    say_what_failed(&rows);
    Ok(())
}
