//! Whether the recording's counts are those of the calls that were made: under all that two producers can do, and
//! when the recorder gets no CPU for two seconds meanwhile.

use super::Bench;
use super::figure::{Goal, Line, Unit};
use super::tracer::{self, Setup, Tracer};
use super::workload::{Done, Loop, Work};
use anyhow::{Context, Result};
use std::time::Duration;

/// What a recording says of the producers' calls.
struct Counts {
    made: u64,
    recorded: u64,
    aggregated: u64,
    lost: u64,
}

impl Counts {
    fn read(bench: &Bench, done: Done, tracer: Tracer) -> Result<Self> {
        let left = tracer.stop()?;
        // The process makes a few other calls, before and after: they are told apart by name.
        let details = tracer::info(&bench.ctrace, &bench.dir().join("observed"), &["--details"])?;
        let calls = details["calls"].as_array().context("ctrace info --details lists calls")?;
        let getppid = calls.iter().find(|call| call["name"] == "getppid");
        let recorded = getppid.and_then(|call| call["count"].as_u64()).unwrap_or(0);
        let aggregated = left.info["aggregated"].as_u64().unwrap_or(0);
        let lost = left.info["lost"]["by_class"]["syscall"].as_u64().unwrap_or(0);
        Ok(Self { made: done.calls, recorded, aggregated, lost })
    }

    /// Calls of which the recording does not say what became of them, or that it invented.
    fn unexplained(&self) -> f64 {
        (self.recorded + self.aggregated + self.lost).abs_diff(self.made) as f64
    }

    fn text(&self) -> String {
        let Self { made, recorded, aggregated, lost } = self;
        format!("{made} made: {recorded} recorded, {aggregated} aggregated, {lost} lost")
    }
}

pub(super) fn flat_out(bench: &Bench) -> Result<Vec<Line>> {
    let seconds = if bench.quick { 10 } else { 60 };
    let mut producers = Loop::start(Work::pair(seconds * 1000, None))?;
    let tracer = Tracer::attach(Setup::Recorded, &bench.ctrace, bench.dir(), producers.pid())?;
    let done = producers.run()?;
    let counts = Counts::read(bench, done, tracer)?;
    let rate = counts.made as f64 / done.took.as_secs_f64() / 1e6;
    let figure = format!("lost calls of two producers flat out for {seconds} s");
    let text = format!("{:.2} M/s; {}", rate, counts.text());
    Ok(vec![
        Line::new(figure, Unit::Count, Goal::AtMost(0.0), counts.lost as f64).beside(text),
        Line::new("the same: calls not accounted for", Unit::Count, Goal::AtMost(0.0), counts.unexplained()),
    ])
}

pub(super) fn overload(bench: &Bench) -> Result<Vec<Line>> {
    let mut producers = Loop::start(Work::pair(4000, None))?;
    let tracer = Tracer::attach(Setup::Recorded, &bench.ctrace, bench.dir(), producers.pid())?;
    producers.go()?;
    std::thread::sleep(Duration::from_secs(1));
    tracer.observer()?.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_secs(2));
    tracer.observer()?.signal(libc::SIGCONT);
    let done = producers.wait()?;
    let counts = Counts::read(bench, done, tracer)?;
    let figure = "recorder stopped for 2 s of full load: calls not accounted for";
    Ok(vec![Line::new(figure, Unit::Count, Goal::AtMost(0.0), counts.unexplained()).beside(counts.text())])
}
