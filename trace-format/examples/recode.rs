//! Writes the events of a trace again, with the encoder as it is: what they take, and how fast that and reading are.
//!
//! `cargo run --release -p ctrace-format --example recode -- FILE OUT [ROUNDS]`
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, reason = "an example is no library")]

use ctrace_format::{Class, Event, Filter, Summary, Trace, TraceWriter};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Writes the trace again; the time that the events took.
fn write(trace: &Trace, events: &[Event], out: &Path) -> Result<Duration, Box<dyn std::error::Error>> {
    let mut writer = TraceWriter::create(out, trace.header())?;
    writer.snapshot(trace.snapshot())?;
    // A new trace gives the ids of the dictionaries in the order of their entries, as the old one did.
    let last = trace.tasks().len();
    for task in trace.tasks() {
        let comm = writer.str(trace.str(task.comm));
        writer.task(&ctrace_format::TaskDef { comm, ..task.clone() });
    }
    assert!(last == trace.tasks().len());
    let began = Instant::now();
    for event in events {
        writer.push(event)?;
    }
    writer.flush()?;
    let took = began.elapsed();
    writer.finish(&trace.summary().cloned().unwrap_or_else(Summary::default))?;
    Ok(took)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let path = PathBuf::from(args.next().ok_or("name a trace")?);
    let out = PathBuf::from(args.next().ok_or("name the trace to write")?);
    let rounds: u32 = args.next().and_then(|n| n.to_str()?.parse().ok()).unwrap_or(1);
    let trace = Trace::open(&path)?;
    let mut decoding = Duration::MAX;
    let mut encoding = Duration::MAX;
    for _ in 0..rounds {
        let began = Instant::now();
        let events: Vec<Event> = trace.events(&Filter::default()).collect::<Result<_, _>>()?;
        decoding = decoding.min(began.elapsed());
        encoding = encoding.min(write(&trace, &events, &out)?);
    }
    let count: u64 = trace.counts().values().sum();
    let calls = trace.counts().get(&Class::Syscall).copied().unwrap_or(0).max(1) as f64;
    let bytes = std::fs::metadata(&out)?.len();
    println!(
        "{:<40} {bytes:>9} bytes ({:.3} a call), before {} ({:.3}); ns an event: encode {:.0}, decode {:.0}",
        path.display(),
        bytes as f64 / calls,
        trace.file_bytes(),
        trace.file_bytes() as f64 / calls,
        encoding.as_nanos() as f64 / count as f64,
        decoding.as_nanos() as f64 / count as f64,
    );
    Ok(())
}
