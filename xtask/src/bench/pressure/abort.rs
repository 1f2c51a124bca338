//! The red button of replays that press: how long it takes until they are frozen.

use super::group::{Group, Limit, neighbours};
use super::{Bench, PYTHON};
use crate::bench::button::{self, Kind, PROGRAM};
use crate::bench::figure::{Line, progress};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

const KINDS: [Kind; 4] = [
    Kind {
        name: "an event under pressure",
        args: &["--abort-on", "errno(connect)>5/s"],
        by: "condition",
        interrupts: None,
    },
    Kind {
        name: "a sample under pressure",
        args: &["--abort-on", "fds>20"],
        by: "condition",
        interrupts: None,
    },
    Kind { name: "Ctrl-C under pressure", args: &[], by: "signal", interrupts: Some(Duration::from_secs(1)) },
    Kind {
        name: "--max-duration under pressure",
        args: &["--max-duration", "1s"],
        by: "max-duration",
        interrupts: None,
    },
];

/// A child that computes and holds ever more memory for as long as the program works.
const CHILD: &str = "import os, time\n\
    if os.fork() == 0:\n\
    \x20 held, end = [], time.monotonic() + 3.5\n\
    \x20 while time.monotonic() < end: sum(range(20000)); os.stat('/'); held.append(b'x' * (16 << 10))\n\
    \x20 os._exit(0)\n";

pub(super) fn measure(bench: &Bench<'_>) -> Result<Vec<Line>> {
    let began = Instant::now();
    let trace = bench.file("abort.ctr");
    let group = Group::make(&[Limit::CpuQuota(50_000), Limit::Memory(512 << 20)], "")?;
    let script = format!("{}exec {PYTHON} -S -E -c \"$0\"", group.enter());
    let others = neighbours(2)?;
    bench.record(&trace, &["sh", "-c", &script, &format!("{CHILD}{PROGRAM}")])?;
    drop((others, group));
    // Without pressure, the figure would be that of `bench button`.
    let (whole, _) = bench.replay(&trace)?;
    for kind in ["cpu_throttled", "memory"] {
        let reached = whole["pressure"]["by_kind"][kind]["reached"].as_u64().unwrap_or(0);
        ensure!(reached > 0, "the replay is without {kind}: {}", whole["pressure"]);
    }
    let mut lines = Vec::new();
    for kind in &KINDS {
        lines.extend(
            button::measure(kind, bench.args.aborts, &bench.ctrace, &trace)
                .unwrap_or_else(|error| vec![Line::broken(kind.name, format!("{error:#}"))]),
        );
        progress(kind.name, began);
    }
    Ok(lines)
}
