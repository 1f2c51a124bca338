//! `cargo xtask bench record`: what recording costs and what a recording is worth, beside its peers, in one run.
//!
//! Every figure is a module that measures and returns lines: value, goal, and what the peers did. Figures over time are medians
//! of ratios, each taken within a round in which every setup ran once, so that a machine that speeds up or slows
//! down does so for all of them.

mod button;
mod cost;
mod disk;
mod figure;
mod loss;
mod open;
mod page;
mod pair;
mod pressure;
mod process;
mod read;
mod recorder;
mod replay;
mod ring;
mod servers;
mod table;
mod throughput;
mod tracer;
mod workload;

use anyhow::{Context, Result};
use figure::{Line, conclude, progress};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use table::{median, quartiles};
use tracer::Setup;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// The recorder's figures against their goals, beside its peers. Needs root. Ends with 1 when a goal is missed.
    Record(Record),
    /// Real programs: each recorded afresh, replayed several times and judged, and the figures over all of them. Needs root,
    /// installs Debian packages. Ends with 1 when a goal is missed.
    Replay(replay::Args),
    /// Real programs: each recorded twice and compared with itself; every deviation is a false one. Needs root, installs Debian
    /// packages. Ends with 1 when there is one.
    Again(replay::again::Args),
    /// Reading: every command that reads a trace, over 0.1, 1 and 10 million calls, beside its peers. Needs root. Ends with 1
    /// when a goal is missed.
    Read(read::Args),
    /// The report in a browser: how long one of the largest size takes to open, beside an empty page of that size. Needs
    /// root and Chromium with its driver. Ends with 1 when a goal is missed.
    Page(page::Args),
    /// The red button: one recorded program, whose replays are aborted by everything that can. Needs root. Ends with 1 when a goal
    /// is missed.
    Button(button::Args),
    /// Faults: real programs, recorded once and replayed with twelve rules each; the predicted calls against those that
    /// failed. Needs root, installs Debian packages. Ends with 1 when a goal is missed.
    Faults(replay::faults::Args),
    /// Pressure: small programs under pressure, recorded and replayed; what other programs lose beside both; what is left of
    /// replays that are killed. Needs root, installs Debian packages. Ends with 1 when a goal is missed.
    Pressure(pressure::Args),
    /// The loop that is recorded (started by `record`).
    #[command(hide = true)]
    Loop(workload::Work),
}

#[derive(clap::Args)]
struct Record {
    /// Every figure (about ten minutes)
    #[arg(long, required_unless_present_any = ["only", "list"], conflicts_with = "only")]
    all: bool,
    /// Only these figures
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Say which figures there are
    #[arg(long)]
    list: bool,
    /// Fewer and shorter rounds (about three minutes): to see that it works, not to quote
    #[arg(long)]
    quick: bool,
    /// The ctrace to measure [default: built from this tree]
    #[arg(long, value_name = "FILE")]
    ctrace: Option<PathBuf>,
}

/// Something that is measured.
struct Figure {
    name: &'static str,
    about: &'static str,
    measure: fn(&Bench) -> Result<Vec<Line>>,
}

const FIGURES: [Figure; 10] = [
    Figure { name: "cost", about: "what a call costs that is recorded, or rejected", measure: cost::measure },
    Figure { name: "redis", about: "throughput of redis while recorded", measure: throughput::redis },
    Figure { name: "nginx", about: "throughput of nginx while recorded", measure: throughput::nginx },
    Figure { name: "loss", about: "losses under two producers flat out", measure: loss::flat_out },
    Figure {
        name: "overload",
        about: "counts when the recorder is stopped meanwhile",
        measure: loss::overload,
    },
    Figure { name: "disk", about: "bytes per call on disk", measure: disk::measure },
    Figure { name: "cpu", about: "CPU of the recorder at 200,000 calls a second", measure: recorder::cpu },
    Figure { name: "armed", about: "time until recording begins", measure: recorder::armed },
    Figure { name: "ring", about: "what a flight ring holds and takes", measure: ring::measure },
    Figure { name: "open", about: "opening a recording of 10 million events", measure: open::measure },
];

/// What a figure measures with.
struct Bench {
    ctrace: PathBuf,
    dir: tempfile::TempDir,
    quick: bool,
}

impl Bench {
    /// A directory of the figure's own.
    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs rounds in which every setup is measured once.
    fn rounds(
        &self,
        full: u32,
        quick: u32,
        setups: &[Setup],
        mut round: impl FnMut(&mut Samples) -> Result<()>,
    ) -> Result<Samples> {
        let mut samples = Samples {
            all: setups.iter().map(|setup| (*setup, Vec::new())).collect(),
            failed: setups.iter().filter_map(|setup| Some((*setup, setup.missing()?))).collect(),
        };
        for _ in 0..if self.quick { quick } else { full } {
            round(&mut samples)?;
        }
        Ok(samples)
    }
}

/// What rounds gave, by setup.
struct Samples {
    all: Vec<(Setup, Vec<f64>)>,
    /// Setups that cannot be measured here, and why.
    failed: Vec<(Setup, String)>,
}

impl Samples {
    /// Whether a setup was not found not to work here.
    fn works(&self, setup: Setup) -> bool {
        !self.failed.iter().any(|(failed, _)| *failed == setup)
    }

    /// Measures a setup; one that does not work here is left out from then on, and said so.
    fn take(&mut self, setup: Setup, measure: impl FnOnce() -> Result<f64>) {
        if !self.works(setup) {
            return;
        }
        match measure() {
            Ok(value) => {
                if let Some((_, values)) = self.all.iter_mut().find(|(s, _)| *s == setup) {
                    values.push(value);
                }
            }
            Err(error) => self.failed.push((setup, format!("{error:#}"))),
        }
    }

    /// The values of a setup, one of each round; `None` when it could not be measured in all of them.
    fn of(&self, setup: Setup) -> Option<&[f64]> {
        let values = self.all.iter().find(|(s, _)| *s == setup).map(|(_, values)| values.as_slice());
        values.filter(|values| self.works(setup) && !values.is_empty())
    }

    /// Why a setup could not be measured.
    fn why(&self, setup: Setup) -> String {
        let failed = self.failed.iter().find(|(failed, _)| *failed == setup);
        failed.map_or_else(|| "it was not measured".to_owned(), |(_, why)| why.clone())
    }

    /// The text, and which setups are not in it.
    fn with_missing(&self, mut text: String) -> String {
        for (setup, why) in &self.failed {
            text = format!("{text}; {} skipped: {why}", setup.name());
        }
        text
    }
}

/// Runs a benchmark.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match &args.what {
        What::Loop(work) => workload::serve_loop(*work).map(|()| ExitCode::SUCCESS),
        What::Record(args) => record(args),
        What::Read(args) => read::run(args),
        What::Page(args) => page::run(args),
        What::Button(args) => button::run(args),
        What::Faults(args) => replay::faults::run(args),
        What::Pressure(args) => pressure::run(args),
        What::Again(args) => replay::again::run(args),
        What::Replay(args) => replay::run(args),
    }
}

fn record(args: &Record) -> Result<ExitCode> {
    if args.list {
        for Figure { name, about, .. } in &FIGURES {
            println!("{name:<10} {about}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = args.only.iter().find(|name| !FIGURES.iter().any(|f| f.name == **name)) {
        anyhow::bail!("there is no figure {unknown}; `--list` names them all");
    }
    let ctrace = match &args.ctrace {
        Some(path) => path.canonicalize().with_context(|| format!("looking for {}", path.display()))?,
        None => build()?,
    };
    let began = Instant::now();
    let mut lines = Vec::new();
    for figure in FIGURES.iter().filter(|f| args.all || args.only.iter().any(|name| name == f.name)) {
        let dir = tempfile::tempdir().context("making a directory for recordings")?;
        let bench = Bench { ctrace: ctrace.clone(), dir, quick: args.quick };
        let started = Instant::now();
        lines.extend(
            (figure.measure)(&bench)
                .unwrap_or_else(|error| vec![Line::broken(figure.name, format!("{error:#}"))]),
        );
        progress(figure.name, started);
    }
    println!("cargo xtask bench record{}", command_line(args));
    println!("{}\n", host());
    Ok(conclude(&lines, began))
}

fn command_line(args: &Record) -> String {
    let only = if args.all { " --all".to_owned() } else { format!(" --only {}", args.only.join(",")) };
    format!("{only}{}", if args.quick { " --quick" } else { "" })
}

fn host() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("");
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let model = model.trim_start_matches([' ', '\t', ':']).trim_end();
    format!("Linux {}, {cpus} CPUs, {model}", kernel.trim())
}

fn build() -> Result<PathBuf> {
    let root = crate::root();
    let status = std::process::Command::new("cargo")
        .args(["build", "--release", "--package", "ctrace"])
        .current_dir(&root)
        .status()
        .context("starting cargo")?;
    anyhow::ensure!(status.success(), "cargo build failed: {status}");
    // As cargo has it: a relative one starts at the root, where cargo ran.
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(root.join(target).join("release/ctrace"))
}
