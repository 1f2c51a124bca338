//! What recording adds to a call of a loop that does nothing else, in units of what two empty programs add.

use super::figure::{Goal, Line, Unit, list};
use super::tracer::{Setup, Tracer};
use super::workload::{Apart, Loop, Work};
use super::{Bench, Samples};
use anyhow::Result;

const RECORDED: &str = "cost of a recorded call, of empty programs'";
const REJECTED: &str = "cost of a call of another task, of empty programs'";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let setups = [Setup::Untraced, Setup::Empty, Setup::Clock, Setup::Rejected, Setup::Recorded];
    let peers =
        [Setup::PerfRecord, Setup::BpftraceCount, Setup::BpftracePrint, Setup::PerfTrace, Setup::Strace];
    // The loop has a CPU, and who traces it the others: what a recorder does besides is a figure of its own.
    let apart = Apart::new()?;
    let ns = |setup: Setup| -> Result<f64> {
        let calls = 50_000 / u64::from(setup.slowness());
        let mut target = Loop::start(Work::calls(calls))?;
        apart.pin(target.pid())?;
        let tracer = Tracer::attach(setup, &bench.ctrace, bench.dir(), target.pid())?;
        // 20 ms each, in which a reader of rings has its turns too.
        let mut least = f64::INFINITY;
        for _ in 0..8 {
            let done = target.run()?;
            least = least.min(done.took.as_nanos() as f64 / done.calls as f64);
        }
        tracer.stop()?;
        Ok(least)
    };
    let round = |round: &mut Samples, setups: &[Setup]| {
        for setup in setups {
            round.take(*setup, || ns(*setup));
        }
        Ok(())
    };
    // Where the programs come to lie in memory is worth a tenth of these, hence many rounds.
    let took = bench.rounds(20, 5, &setups, |samples| round(samples, &setups))?;
    let peers_took = bench.rounds(5, 2, &peers, |samples| round(samples, &peers))?;
    // The least of all rounds: what else the machine does only ever adds, and what a neighbour of a virtual machine does
    // lasts longer than a round.
    let least =
        |took: &Samples, setup| took.of(setup).map(|ns| ns.iter().copied().fold(f64::INFINITY, f64::min));
    let (Some(base), Some(empty)) = (least(&took, Setup::Untraced), least(&took, Setup::Empty)) else {
        anyhow::bail!("nothing to compare with: {}; {}", took.why(Setup::Untraced), took.why(Setup::Empty));
    };
    anyhow::ensure!(empty > base, "empty programs cost nothing measurable");
    let ratio = |took: &Samples, setup| least(took, setup).map(|ns| (ns - base) / (empty - base));
    let beside: Vec<(&str, f64)> =
        peers.iter().filter_map(|setup| Some((setup.name(), ratio(&peers_took, *setup)?))).collect();
    let clock = ratio(&took, Setup::Clock).map(|ratio| ("programs that read the time", ratio));
    let beside: Vec<_> = clock.into_iter().chain(beside).collect();
    let beside = peers_took.with_missing(list(Unit::Times, &beside));
    let line = |figure, setup, goal| match ratio(&took, setup) {
        Some(ratio) => Line::new(figure, Unit::Times, goal, ratio),
        None => Line::failed(figure, Unit::Times, goal, took.why(setup)),
    };
    Ok(vec![
        line(RECORDED, Setup::Recorded, Goal::AtMost(2.0)).beside(beside),
        line(REJECTED, Setup::Rejected, Goal::AtMost(1.2)),
    ])
}
