//! What a server still does while it is recorded.
//!
//! Two ways. With both CPUs for server, load and recorder, the row of the table: what a user of a full machine sees, and
//! the scheduler's choices with it, which are worth more than what is measured; so the median of many rounds, and where
//! half of them lie. And with server and load on a CPU of their own: what a request costs, the least of all rounds,
//! which repeats better. There, what two programs leave that only read the time in the server's calls is about what any
//! recorder leaves at most that tells how long calls take.

use super::figure::{Goal, Line, Unit, list};
use super::process::Awake;
use super::servers::Program;
use super::tracer::{Setup, Tracer};
use super::workload::Apart;
use super::{Bench, Samples, median, quartiles};
use anyhow::Result;

pub(super) fn redis(bench: &Bench) -> Result<Vec<Line>> {
    measure(bench, Program::Redis, "redis GET throughput while recorded, of untraced", Goal::AtLeast(0.95))
}

pub(super) fn nginx(bench: &Bench) -> Result<Vec<Line>> {
    measure(bench, Program::Nginx, "nginx throughput while recorded, of untraced", Goal::AtLeast(0.93))
}

const OURS: [Setup; 2] = [Setup::Recorded, Setup::Empty];
const PEERS: [Setup; 4] = [Setup::PerfRecord, Setup::BpftracePrint, Setup::PerfTrace, Setup::Strace];

fn measure(bench: &Bench, program: Program, figure: &str, goal: Goal) -> Result<Vec<Line>> {
    if let Some(why) = program.missing() {
        return Ok(vec![Line::skipped(figure, Unit::Part, goal, why)]);
    }
    let mut lost = 0;
    let (parts, peers) = {
        let _awake = Awake::start();
        let parts =
            bench.rounds(12, 2, &OURS, |round| of_untraced(bench, program, &OURS, round, &mut lost))?;
        let peers = bench.rounds(3, 1, &PEERS, |round| of_untraced(bench, program, &PEERS, round, &mut 0))?;
        (parts, peers)
    };
    let Some(recorded) = parts.of(Setup::Recorded) else {
        return Ok(vec![Line::failed(figure, Unit::Part, goal, parts.why(Setup::Recorded))]);
    };
    let spread = |setup| parts.of(setup).map(|parts| (median(parts), quartiles(parts)));
    let text = |(median, (low, high)): (f64, (f64, f64))| {
        format!("{:.1} % ({:.0}–{:.0})", 100.0 * median, 100.0 * low, 100.0 * high)
    };
    let half =
        |(low, high): (f64, f64)| format!("half of the rounds {:.0}–{:.0} %", 100.0 * low, 100.0 * high);
    let mut beside = format!("{lost} lost; {}", half(quartiles(recorded)));
    if let Some(empty) = spread(Setup::Empty) {
        beside = format!("{beside}; empty programs {}", text(empty));
    }
    beside = format!("{beside}; {}", on_a_cpu(bench, program)?);
    let of_peers: Vec<(&str, f64)> =
        PEERS.iter().filter_map(|setup| Some((setup.name(), median(peers.of(*setup)?)))).collect();
    beside = peers.with_missing(parts.with_missing(format!("{beside}; {}", list(Unit::Part, &of_peers))));
    Ok(vec![Line::new(figure, Unit::Part, goal, median(recorded)).beside(beside)])
}

/// One round: rates while traced, of the mean of the rates before and after.
fn of_untraced(
    bench: &Bench,
    program: Program,
    setups: &[Setup],
    round: &mut Samples,
    lost: &mut u64,
) -> Result<()> {
    const SECONDS: f64 = 1.0;
    let server = program.start(bench.dir())?;
    let before = server.load(SECONDS, None)?;
    let mut rates = Vec::new();
    for setup in setups.iter().filter(|setup| round.works(**setup)) {
        let mut rate = || -> Result<f64> {
            let tracer = Tracer::attach(*setup, &bench.ctrace, bench.dir(), server.pid())?;
            let rate = server.load(if setup.slowness() > 1 { SECONDS / 2.0 } else { SECONDS }, None)?;
            *lost += tracer.stop()?.lost;
            Ok(rate)
        };
        rates.push((*setup, rate()));
    }
    let untraced = f64::midpoint(before, server.load(SECONDS, None)?);
    for (setup, rate) in rates {
        round.take(setup, || Ok(rate? / untraced));
    }
    Ok(())
}

/// The same, of the least time that a request takes where server and load have a CPU to themselves, in words.
fn on_a_cpu(bench: &Bench, program: Program) -> Result<String> {
    const SETUPS: [Setup; 4] = [Setup::Untraced, Setup::Empty, Setup::Clock, Setup::Recorded];
    let apart = Apart::new()?;
    let _awake = Awake::start();
    let server = program.start(bench.dir())?;
    apart.pin(server.pid())?;
    let rates = bench.rounds(10, 2, &SETUPS, |round| {
        for setup in SETUPS {
            round.take(setup, || {
                let tracer = Tracer::attach(setup, &bench.ctrace, bench.dir(), server.pid())?;
                // The first fills caches.
                let rates = [server.load(0.5, Some(&apart))?, server.load(0.5, Some(&apart))?];
                tracer.stop()?;
                Ok(rates[0].max(rates[1]))
            });
        }
        Ok(())
    })?;
    let most = |setup| rates.of(setup).map(|rates| rates.iter().copied().fold(0.0, f64::max));
    let Some(untraced) = most(Setup::Untraced) else { anyhow::bail!("{}", rates.why(Setup::Untraced)) };
    let names = [
        (Setup::Recorded, "recorded"),
        (Setup::Clock, "programs that read the time"),
        (Setup::Empty, "empty programs"),
    ];
    let parts: Vec<(&str, f64)> =
        names.into_iter().filter_map(|(setup, name)| Some((name, most(setup)? / untraced))).collect();
    Ok(rates.with_missing(format!("on a CPU of their own: {}", list(Unit::Part, &parts))))
}
