//! Opening and summarising a large recording.

use super::figure::{Goal, Line, Unit};
use super::tracer::{Setup, Tracer};
use super::workload::{Loop, Work};
use super::{Bench, median, process};
use anyhow::Result;
use std::process::Command;

/// Calls that the recording has at least.
const CALLS: u64 = 10_000_000;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    // A million a second: what the recorder keeps up with, call by call.
    let work = Work { threads: 2, per_ms: Some(500), ..Work::calls(CALLS * 21 / 40) };
    let mut producers = Loop::start(work)?;
    let tracer = Tracer::attach(Setup::Recorded, &bench.ctrace, bench.dir(), producers.pid())?;
    producers.run()?;
    let left = tracer.stop()?;
    let calls = left.calls.unwrap_or(0);
    anyhow::ensure!(calls >= CALLS, "only {calls} calls were recorded, {} were lost", left.lost);
    let file = bench.dir().join("observed");
    let mut times = Vec::new();
    let mut most_kib = 0;
    for _ in 0..5 {
        let (took, kib) = process::run_measured(Command::new(&bench.ctrace).arg("info").arg(&file))?;
        times.push(1000.0 * took.as_secs_f64());
        most_kib = most_kib.max(kib);
    }
    let beside = format!("{calls} calls, {:.1} MB", left.bytes as f64 / 1e6);
    Ok(vec![
        Line::new("open and summarise 10 M events", Unit::Millis, Goal::AtMost(1000.0), median(&times))
            .beside(beside),
        Line::new("the same: memory", Unit::Mib, Goal::AtMost(64.0), most_kib as f64 / 1024.0),
    ])
}
