//! `cargo xtask bench again`: real programs, each recorded twice doing the same, and the two recordings compared. Every
//! deviation is a false one.

use super::super::table::{Cell, Table};
use super::PORTS;
use super::corpus::{self, Program};
use super::program::{self, Place};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Options of `cargo xtask bench again`.
#[derive(clap::Args)]
pub(in crate::bench) struct Args {
    /// Only these programs: names, beginnings of names, or kinds
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// How often each program is recorded after the first time
    #[arg(long, value_name = "N", default_value_t = 1)]
    pairs: u32,
    /// Leave the recordings here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Other programs than those that are built in, written as they are
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// First of the ports that programs get
    #[arg(long, value_name = "PORT", default_value_t = 7700)]
    port: u16,
    /// The ctrace to measure [default: built from this tree]
    #[arg(long, value_name = "FILE")]
    ctrace: Option<PathBuf>,
}

/// What was said of a pair.
struct Said {
    name: String,
    verdict: String,
    reasons: Vec<String>,
    /// Metrics by name: value.
    values: Vec<(String, f64)>,
}

/// The metrics that the table shows.
const SHOWN: [&str; 7] =
    ["alignment", "dfg", "errors", "latency_shift", "tail_shift", "added_time", "resources"];

pub(in crate::bench) fn run(args: &Args) -> Result<ExitCode> {
    let wanted = |p: &Program| {
        let named = |only: &String| p.name.starts_with(only.as_str()) || p.kind == *only;
        args.only.is_empty() || args.only.iter().any(named)
    };
    let programs: Vec<Program> = corpus::all(args.corpus.as_deref())?.into_iter().filter(wanted).collect();
    anyhow::ensure!(
        !programs.is_empty(),
        "no program is meant; `cargo xtask bench replay --list` names them all"
    );
    let ctrace = match &args.ctrace {
        Some(path) => path.canonicalize().with_context(|| format!("looking for {}", path.display()))?,
        None => super::super::build()?,
    };
    program::adopt();
    let own = tempfile::tempdir().context("making a directory for recordings")?;
    program::open_to_all(own.path())?;
    let base = args.keep.as_deref().unwrap_or(own.path());
    let (mut all, mut broken) = (Vec::new(), 0);
    for (i, one) in programs.iter().enumerate() {
        let port = args.port + (3 * i as u16) % PORTS;
        let place = Place { ctrace: &ctrace, dir: base.join(&one.name), port };
        match pairs(args.pairs, one, &place, base) {
            Ok(said) => all.extend(said),
            Err(error) => {
                broken += 1;
                println!("not recorded: {}: {error:#}", one.name);
            }
        }
        program::sweep();
        let _ = std::fs::remove_dir_all(&place.dir);
    }
    program::sweep();
    Ok(report(&all, broken))
}

/// Records a program some times in one place and compares each recording with the one before it.
fn pairs(pairs: u32, one: &Program, place: &Place<'_>, base: &Path) -> Result<Vec<Said>> {
    program::install(&one.needs)?;
    let mut out = Vec::new();
    let mut last: Option<PathBuf> = None;
    for k in 0..=pairs {
        program::record(one, place)?;
        program::sweep();
        let trace = base.join(format!("{}.{k}.ctr", one.name));
        std::fs::rename(place.trace(), &trace).context("keeping the recording")?;
        if let Some(last) = last {
            out.push(compare(&one.name, place.ctrace, &last, &trace)?);
        }
        last = Some(trace);
    }
    Ok(out)
}

fn compare(name: &str, ctrace: &Path, a: &Path, b: &Path) -> Result<Said> {
    let run = Command::new(ctrace)
        .args(["diff", "--json"])
        .arg(a)
        .arg(b)
        .output()
        .context("starting ctrace diff")?;
    let said: Value = serde_json::from_slice(&run.stdout)
        .with_context(|| format!("ctrace diff said {}", String::from_utf8_lossy(&run.stderr)))?;
    let values = SHOWN.iter().filter_map(|m| Some(((*m).to_owned(), said["metrics"][m]["value"].as_f64()?)));
    Ok(Said {
        name: name.to_owned(),
        verdict: said["verdict"].as_str().unwrap_or("?").to_owned(),
        reasons: texts(&said["reasons"]),
        values: values.collect(),
    })
}

fn texts(list: &Value) -> Vec<String> {
    let words = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    words.map(str::to_owned).collect()
}

fn report(all: &[Said], broken: usize) -> ExitCode {
    let mut heading = vec!["program", "verdict"];
    heading.extend(SHOWN);
    let mut table = Table::new(&heading, &[0, 1]);
    for said in all {
        let mut row = vec![Cell::text(&said.name), Cell::text(&said.verdict)];
        row.extend(SHOWN.iter().map(|metric| {
            let value = said.values.iter().find(|v| v.0 == *metric);
            Cell::text(&value.map_or_else(|| "n/a".to_owned(), |v| format!("{:.3}", v.1)))
        }));
        table.row(row);
    }
    println!("{}\n{table}", super::super::host());
    for said in all.iter().filter(|said| said.verdict != "match") {
        println!("{}: {}", said.name, said.verdict);
        for reason in said.reasons.iter().take(4) {
            println!("    {reason}");
        }
    }
    let count = |verdict: &str| all.iter().filter(|said| said.verdict == verdict).count();
    println!(
        "pairs: {}; match {}, deviated {}, inconclusive {}; not recorded: {broken}",
        all.len(),
        count("match"),
        count("deviated"),
        count("inconclusive")
    );
    if count("deviated") == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
