//! What compiling and replaying a trace of 10 million calls takes of memory.

use crate::bench::figure::{Goal, Line, Unit};
use crate::bench::process;
use crate::bench::tracer::{Setup, Tracer};
use crate::bench::workload::{Loop, Work};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Calls that the recording has at least.
const CALLS: u64 = 10_000_000;
const MOST_MIB: f64 = 300.0;

pub(super) fn measure(ctrace: &Path, dir: &Path) -> Line {
    let name = "memory of compiling a trace of 10 M calls";
    compiling(ctrace, dir).map_or_else(
        |error| Line::failed(name, Unit::Mib, Goal::AtMost(MOST_MIB), format!("{error:#}")),
        |(mib, seconds)| {
            Line::new(name, Unit::Mib, Goal::AtMost(MOST_MIB), mib).beside(format!("in {seconds:.0} s"))
        },
    )
}

fn compiling(ctrace: &Path, dir: &Path) -> Result<(f64, f64)> {
    let work = Work { threads: 2, per_ms: Some(500), ..Work::calls(CALLS * 21 / 40) };
    let mut producers = Loop::start(work)?;
    let tracer = Tracer::attach(Setup::Recorded, ctrace, dir, producers.pid())?;
    producers.run()?;
    let left = tracer.stop()?;
    let calls = left.calls.unwrap_or(0);
    anyhow::ensure!(calls >= CALLS, "only {calls} calls were recorded, {} were lost", left.lost);
    let mut command = Command::new(ctrace);
    command.args(["replay", "--dry-run", "--json"]).arg(dir.join("observed"));
    let (took, kib) = process::run_measured(&mut command)?;
    Ok((kib as f64 / 1024.0, took.as_secs_f64()))
}
