//! What a server still does while it is recorded.

use super::figure::{Goal, Line, Unit, list};
use super::process::Awake;
use super::servers::Program;
use super::tracer::{Setup, Tracer};
use super::{Bench, median};
use anyhow::Result;

pub(super) fn redis(bench: &Bench) -> Result<Vec<Line>> {
    measure(bench, Program::Redis, "redis GET throughput while recorded, of untraced", Goal::AtLeast(0.95))
}

pub(super) fn nginx(bench: &Bench) -> Result<Vec<Line>> {
    measure(bench, Program::Nginx, "nginx throughput while recorded, of untraced", Goal::AtLeast(0.93))
}

fn measure(bench: &Bench, program: Program, figure: &str, goal: Goal) -> Result<Vec<Line>> {
    if let Some(why) = program.missing() {
        return Ok(vec![Line::skipped(figure, Unit::Part, goal, why)]);
    }
    // What two empty programs cost a server is the least that any recorder of all its calls can.
    let setups = [
        Setup::Recorded,
        Setup::Empty,
        Setup::PerfRecord,
        Setup::BpftracePrint,
        Setup::PerfTrace,
        Setup::Strace,
    ];
    let seconds = if bench.quick { 1.0 } else { 2.0 };
    let mut lost = 0;
    let _awake = Awake::start();
    let parts = bench.rounds(5, 2, &setups, |round| {
        let server = program.start(bench.dir())?;
        let untraced = server.load(seconds)?;
        for setup in &setups {
            round.take(*setup, || {
                let tracer = Tracer::attach(*setup, &bench.ctrace, bench.dir(), server.pid())?;
                let seconds = if setup.slowness() > 1 { seconds / 2.0 } else { seconds };
                let rate = server.load(seconds)?;
                lost += tracer.stop()?.lost;
                Ok(rate / untraced)
            });
        }
        Ok(())
    })?;
    let Some(recorded) = parts.of(Setup::Recorded) else {
        return Ok(vec![Line::failed(figure, Unit::Part, goal, parts.why(Setup::Recorded))]);
    };
    let peers: Vec<(&str, f64)> =
        setups[1..].iter().filter_map(|setup| Some((setup.name(), median(parts.of(*setup)?)))).collect();
    let beside = parts.with_missing(format!("{lost} lost; {}", list(Unit::Part, &peers)));
    Ok(vec![Line::new(figure, Unit::Part, goal, median(recorded)).beside(beside)])
}
