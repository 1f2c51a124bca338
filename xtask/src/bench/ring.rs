//! What a flight ring of 64 MiB holds, and what memory it takes.

use super::Bench;
use super::figure::{Goal, Line, Unit};
use super::servers::Program;
use super::tracer::{self, Setup, Tracer};
use anyhow::{Context, Result};
use std::process::Command;

/// Bytes of the ring.
const RING: u64 = 64 << 20;

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
    server.load(if bench.quick { 5.0 } else { 20.0 })?;
    let observer = tracer.observer()?;
    let rss_kib = super::process::peak_rss_kib(observer.pid()).context("the recorder's memory")?;
    // It writes the ring when it ends.
    let stopped = tracer.stop();
    let mut best = None;
    for entry in std::fs::read_dir(&dir)? {
        let path = entry?.path();
        let bytes = path.metadata()?.len();
        if let Ok(info) = tracer::info(&bench.ctrace, &path, &[]) {
            let calls = info["events"]["syscalls"].as_u64().unwrap_or(0);
            best = best.max(Some((calls, bytes)));
        }
    }
    let Some((calls, bytes)) = best.filter(|(calls, _)| *calls > 0) else {
        stopped?;
        anyhow::bail!("the recorder left no dump of its ring");
    };
    // A load that fills it would take a minute: what it holds follows from what a call takes.
    let holds = calls as f64 * RING as f64 / bytes as f64;
    let beside = format!("redis: {calls} calls in {:.1} MiB", bytes as f64 / f64::from(1 << 20));
    Ok(vec![
        Line::new(held.0, held.1, held.2, holds / 1e6).beside(beside),
        Line::new(memory.0, memory.1, memory.2, rss_kib as f64 / 1024.0),
    ])
}
