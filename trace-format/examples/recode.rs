//! Writes the events of a trace again, with the encoder as it is: what they take, and the CPU time that writing
//! and reading them takes.
//!
//! `cargo run --release -p ctrace-format --example recode -- FILE OUT [ROUNDS]`
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, reason = "an example is no library")]

use ctrace_format::{Class, Event, Filter, OutFile, Sink, Taken, Trace, TraceFile, TraceWriter, repair};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A file that nobody keeps.
struct Nowhere;

impl io::Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Nowhere {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// CPU time of this thread: others want the machine, too.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0))
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
        let began = cpu_time();
        let events: Vec<Event> = trace.events(&Filter::default()).collect::<Result<_, _>>()?;
        decoding = decoding.min(cpu_time().saturating_sub(began));
        let mut writer = TraceWriter::over(Box::new(Nowhere), trace.header())?;
        let began = cpu_time();
        for event in &events {
            writer.push(event)?;
        }
        writer.flush()?;
        encoding = encoding.min(cpu_time().saturating_sub(began));
    }
    repair(TraceFile::open(&path)?, OutFile::create(&out, &Taken::Replace)?)?;
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
