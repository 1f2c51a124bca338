//! What recording adds to a call of a loop that does nothing else, in units of what two empty programs add.

use super::figure::{Goal, Line, Unit, list};
use super::tracer::{Setup, Tracer};
use super::workload::{Loop, Work};
use super::{Bench, median};
use anyhow::Result;

const RECORDED: &str = "cost of a recorded call, of empty programs'";
const REJECTED: &str = "cost of a call of another task, of empty programs'";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let setups = [
        Setup::Untraced,
        Setup::Empty,
        Setup::Rejected,
        Setup::Recorded,
        Setup::PerfRecord,
        Setup::BpftraceCount,
        Setup::BpftracePrint,
        Setup::PerfTrace,
        Setup::Strace,
    ];
    let calls = if bench.quick { 400_000 } else { 1_000_000 };
    let ratios = bench.rounds(5, 3, &setups, |round| {
        let ns = |setup: Setup| -> Result<f64> {
            let calls = calls / u64::from(setup.slowness());
            let mut target = Loop::start(Work::calls(calls))?;
            let tracer = Tracer::attach(setup, &bench.ctrace, bench.dir(), target.pid())?;
            let done = target.run()?;
            tracer.stop()?;
            Ok(done.took.as_nanos() as f64 / done.calls as f64)
        };
        let base = ns(Setup::Untraced)?;
        let empty = ns(Setup::Empty)? - base;
        anyhow::ensure!(empty > 0.0, "empty programs cost nothing measurable");
        for setup in &setups[2..] {
            round.take(*setup, || Ok((ns(*setup)? - base) / empty));
        }
        Ok(())
    })?;
    let peers: Vec<(&str, f64)> =
        setups[4..].iter().filter_map(|setup| Some((setup.name(), median(ratios.of(*setup)?)))).collect();
    let beside = ratios.with_missing(list(Unit::Times, &peers));
    let line = |figure, setup, goal| match ratios.of(setup) {
        Some(values) => Line::new(figure, Unit::Times, goal, median(values)),
        None => Line::failed(figure, Unit::Times, goal, ratios.why(setup)),
    };
    Ok(vec![
        line(RECORDED, Setup::Recorded, Goal::AtMost(2.0)).beside(beside),
        line(REJECTED, Setup::Rejected, Goal::AtMost(1.2)),
    ])
}
