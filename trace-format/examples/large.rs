//! Writes a large redis-like trace, then opens, streams and verifies it: time and memory of each step.
//!
//! `cargo run --release -p ctrace-format --example large -- FILE [EVENTS]` writes FILE and measures itself;
//! an existing FILE is only read.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, reason = "an example is no library")]

#[path = "../benches/redis.rs"]
mod redis;

use ctrace_format::{Filter, Summary, Trace, TraceWriter, verify};
use std::path::PathBuf;
use std::time::Instant;

fn resident_kib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap_or("?").trim().to_owned()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let path = PathBuf::from(args.next().ok_or("name a file")?);
    let events: usize = args.next().and_then(|n| n.to_str()?.parse().ok()).unwrap_or(10_000_000);
    if !path.exists() {
        let start = Instant::now();
        let mut writer = TraceWriter::create(&path, &redis::header())?;
        let mut redis = redis::Redis::new(&mut writer);
        for _ in 0..events {
            writer.push(&redis.call())?;
        }
        let finished = writer.finish(&Summary::default())?;
        let per_call = finished.bytes as f64 / events as f64;
        println!(
            "write   {:?}, {} bytes, {per_call:.2} a call, peak {}",
            start.elapsed(),
            finished.bytes,
            resident_kib()
        );
        return Ok(());
    }
    let start = Instant::now();
    let trace = Trace::open(&path)?;
    println!("open    {:?}, {:?}, peak {}", start.elapsed(), trace.counts(), resident_kib());
    let start = Instant::now();
    let count = trace.events(&Filter::default()).flatten().count();
    println!("stream  {:?}, {count} events, peak {}", start.elapsed(), resident_kib());
    let start = Instant::now();
    let report = verify(&path)?;
    for damage in report.damage.iter().take(5) {
        println!("        at {}: {}", damage.offset, damage.what);
    }
    println!("verify  {:?}, intact: {}, peak {}", start.elapsed(), report.is_intact(), resident_kib());
    Ok(())
}
