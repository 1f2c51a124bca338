//! What a flight ring of 64 MiB holds, and what memory it takes.

use super::Bench;
use super::figure::{Goal, Line, Unit};
use super::servers::Program;
use super::tracer::{self, Setup, Tracer};
use anyhow::{Context, Result};
use std::process::Command;

/// Bytes of the ring.
const RING: u64 = 64 << 20;
/// Loads of redis, each with a dump at its end: enough to fill the ring.
const LOADS: u32 = 5;
/// Length of one, about.
const LOAD_SECONDS: f64 = 25.0;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let held = ("calls that a flight ring of 64 MiB holds", Unit::Millions, Goal::AtLeast(10.0));
    let memory = ("the same: memory of the recorder", Unit::Mib, Goal::AtMost(160.0));
    let skip = |why: &str| {
        Ok(vec![Line::skipped(held.0, held.1, held.2, why), Line::skipped(memory.0, memory.1, memory.2, why)])
    };
    let help = Command::new(&bench.ctrace).args(["record", "--help"]).output().context("starting ctrace")?;
    if !String::from_utf8_lossy(&help.stdout).contains("--ring") {
        return skip("this ctrace has no --ring");
    }
    if let Some(why) = Program::Redis.missing() {
        return skip(&why);
    }
    let dir = bench.dir().join("ring");
    std::fs::create_dir_all(&dir)?;
    let server = Program::Redis.start(bench.dir())?;
    let ring = ["--ring", "1h", "--ring-size", "64M"];
    let tracer = Tracer::attach_with(Setup::Recorded, &bench.ctrace, &dir, server.pid(), &ring)?;
    let observer = tracer.observer()?;
    let loads = if bench.quick { 1 } else { LOADS };
    for _ in 0..loads {
        server.load(LOAD_SECONDS)?;
        // A dump takes what memory it takes while the ring is as full as it gets.
        observer.signal(libc::SIGUSR1);
    }
    let stopped = tracer.stop();
    let mut last = None;
    for entry in std::fs::read_dir(&dir)? {
        let path = entry?.path();
        if let Ok(info) = tracer::info(&bench.ctrace, &path, &[]) {
            let window = &info["window"];
            let figure = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
            let (number, evicted) = (figure(&window["number"]), figure(&window["evicted"]));
            let (calls, lost) = (figure(&info["events"]["syscalls"]), figure(&info["lost"]["total"]));
            last = last.max(Some((number, calls, evicted, lost, path.metadata()?.len())));
        }
    }
    let left = stopped?;
    let Some((dumps, calls, evicted, lost, bytes)) = last.filter(|(_, calls, ..)| *calls > 0) else {
        anyhow::bail!("the recorder left no dump of its ring");
    };
    let mib = bytes as f64 / f64::from(1 << 20);
    let mut beside = format!("redis: {calls} calls in {mib:.1} MiB, the last of {dumps} dumps, {lost} lost");
    let holds = if evicted > 0 {
        calls as f64
    } else {
        // It did not fill: what it holds follows from what a call takes.
        beside.push_str("; extrapolated");
        calls as f64 * RING as f64 / bytes as f64
    };
    let rss_kib = left.rss_kib.context("the recorder's memory")?;
    Ok(vec![
        Line::new(held.0, held.1, held.2, holds / 1e6).beside(beside),
        Line::new(memory.0, memory.1, memory.2, rss_kib as f64 / 1024.0),
    ])
}
