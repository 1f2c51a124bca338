//! What a flight ring of 64 MiB holds, and what memory it takes.

use super::Bench;
use super::figure::{Goal, Line, Unit};
use super::servers::Program;
use super::tracer::{self, Setup, Tracer};
use super::workload::{Loop, Work};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Bytes of the ring.
const RING: u64 = 64 << 20;
const RECORD: [&str; 4] = ["--ring", "1h", "--ring-size", "64M"];
/// Loads of redis.
const LOADS: u32 = 4;
/// Length of one, about.
const LOAD_SECONDS: f64 = 25.0;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let (held, memory) =
        ("calls that a flight ring of 64 MiB holds", "memory of the recorder with a full one");
    let (at_least, at_most) = (Goal::AtLeast(10.0), Goal::AtMost(160.0));
    let help = Command::new(&bench.ctrace).args(["record", "--help"]).output().context("starting ctrace")?;
    if !String::from_utf8_lossy(&help.stdout).contains("--ring") {
        let why = "this ctrace has no --ring";
        return Ok(vec![
            Line::skipped(held, Unit::Millions, at_least, why),
            Line::skipped(memory, Unit::Mib, at_most, why),
        ]);
    }
    let mut lines = if let Some(why) = Program::Redis.missing() {
        vec![Line::skipped(held, Unit::Millions, at_least, why)]
    } else {
        let last = of_redis(bench)?;
        let (holds, how) = if last.evicted > 0 {
            (last.calls as f64, "")
        } else {
            // It did not fill: what it holds follows from what a call takes.
            (last.calls as f64 * RING as f64 / last.bytes as f64, "; extrapolated")
        };
        let line = Line::new(held, Unit::Millions, at_least, holds / 1e6);
        vec![line.beside(format!("redis: {}{how}", last.text()))]
    };
    let (last, rss_kib) = full(bench)?;
    anyhow::ensure!(last.evicted > 0, "the ring did not fill: {}", last.text());
    let line = Line::new(memory, Unit::Mib, at_most, rss_kib as f64 / 1024.0);
    lines.push(line.beside(format!("random seeks, dumped meanwhile: {}", last.text())));
    Ok(lines)
}

fn of_redis(bench: &Bench) -> Result<Held> {
    let dir = bench.dir().join("ring-redis");
    std::fs::create_dir_all(&dir)?;
    let server = Program::Redis.start(bench.dir())?;
    let tracer = Tracer::attach_with(Setup::Recorded, &bench.ctrace, &dir, server.pid(), &RECORD)?;
    for _ in 0..if bench.quick { 1 } else { LOADS } {
        server.load(LOAD_SECONDS, None)?;
    }
    tracer.stop()?;
    Held::by_the_last_dump(bench, &dir)
}

/// A ring that is full of what hardly compresses, and the peak of the recorder's memory, a dump included.
fn full(bench: &Bench) -> Result<(Held, u64)> {
    const SECONDS: u64 = 60;
    let dir = bench.dir().join("ring-full");
    std::fs::create_dir_all(&dir)?;
    let mut producer = Loop::start(Work { random: true, ms: SECONDS * 1000, ..Work::calls(u64::MAX) })?;
    let tracer = Tracer::attach_with(Setup::Recorded, &bench.ctrace, &dir, producer.pid(), &RECORD)?;
    producer.go()?;
    std::thread::sleep(Duration::from_secs(SECONDS - 5));
    tracer.observer()?.signal(libc::SIGUSR1);
    producer.wait()?;
    let rss_kib = tracer.stop()?.rss_kib.context("the recorder's memory")?;
    Ok((Held::by_the_last_dump(bench, &dir)?, rss_kib))
}

/// What a dump holds.
struct Held {
    number: u64,
    calls: u64,
    evicted: u64,
    lost: u64,
    bytes: u64,
}

impl Held {
    fn by_the_last_dump(bench: &Bench, dir: &Path) -> Result<Self> {
        let mut dumps = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let info = tracer::info(&bench.ctrace, &path, &[])?;
            let figure = |value: &serde_json::Value| value.as_u64().context("info's figures of a dump");
            dumps.push(Self {
                number: figure(&info["window"]["number"])?,
                calls: figure(&info["events"]["syscalls"])?,
                evicted: figure(&info["window"]["evicted"])?,
                lost: figure(&info["lost"]["total"])?,
                bytes: path.metadata()?.len(),
            });
        }
        dumps.into_iter().max_by_key(|dump| dump.number).context("the recorder left no dump of its ring")
    }

    fn text(&self) -> String {
        let mib = self.bytes as f64 / f64::from(1 << 20);
        format!("{} calls in {mib:.1} MiB, {} lost", self.calls, self.lost)
    }
}
