//! What the recorder itself takes: CPU at a steady rate, and the time until it is armed.

use super::figure::{Goal, Line, Unit, list};
use super::tracer::{Setup, Tracer};
use super::workload::{Loop, Work};
use super::{Bench, median};
use anyhow::Result;

pub(super) fn cpu(bench: &Bench) -> Result<Vec<Line>> {
    const PER_MS: u64 = 100;
    let seconds = if bench.quick { 3 } else { 6 };
    let (mut shares, mut slowest, mut lost, mut mib) = (Vec::new(), f64::MAX, 0, 0);
    for _ in 0..if bench.quick { 1 } else { 5 } {
        let mut producers = Loop::start(Work::pair(seconds * 1000, Some(PER_MS)))?;
        let tracer = Tracer::attach(Setup::Recorded, &bench.ctrace, bench.dir(), producers.pid())?;
        // Starting is not what is measured.
        let before = super::process::cpu_time(tracer.observer()?.pid());
        let done = producers.run()?;
        let left = tracer.stop()?;
        shares.push(left.cpu.saturating_sub(before).as_secs_f64() / done.took.as_secs_f64());
        slowest = slowest.min(done.calls as f64 / done.took.as_secs_f64());
        lost += left.lost;
        mib = mib.max(left.rss_kib.unwrap_or(0) / 1024);
    }
    shares.sort_by(f64::total_cmp);
    let spread = list(Unit::Part, &[("least", shares[0]), ("most", shares[shares.len() - 1])]);
    let beside = format!("at {slowest:.0} calls/s, {lost} lost, {mib} MiB at the peak; {spread}");
    anyhow::ensure!(slowest > 160_000.0, "the producers made only {slowest:.0} calls/s");
    let figure = "recorder CPU at 200,000 calls/s, of one core";
    Ok(vec![Line::new(figure, Unit::Part, Goal::AtMost(0.08), median(&shares)).beside(beside)])
}

pub(super) fn armed(bench: &Bench) -> Result<Vec<Line>> {
    let setups = [Setup::Recorded, Setup::BpftraceCount];
    let times = bench.rounds(7, 3, &setups, |round| {
        for setup in setups {
            round.take(setup, || {
                let target = Loop::start(Work::calls(1))?;
                let tracer = Tracer::attach(setup, &bench.ctrace, bench.dir(), target.pid())?;
                let took = tracer.observer()?.armed_after;
                tracer.stop()?;
                Ok(1000.0 * took.as_secs_f64())
            });
        }
        Ok(())
    })?;
    let (figure, goal) = ("time from `record -p` to armed", Goal::AtMost(250.0));
    let Some(own) = times.of(Setup::Recorded) else {
        return Ok(vec![Line::failed(figure, Unit::Millis, goal, times.why(Setup::Recorded))]);
    };
    let peers: Vec<(&str, f64)> =
        times.of(Setup::BpftraceCount).map(|values| ("bpftrace", median(values))).into_iter().collect();
    let beside = times.with_missing(list(Unit::Millis, &peers));
    Ok(vec![Line::new(figure, Unit::Millis, goal, median(own)).beside(beside)])
}
