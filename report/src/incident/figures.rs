//! A few figures of each trace side by side.

use super::{Incident, Traced, difference, words};
use crate::text::units;
use ctrace_format::Class;

/// A figure of all traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Figure {
    /// What it counts.
    pub(crate) name: &'static str,
    /// Its value in each trace.
    pub(crate) values: Vec<String>,
    /// How much more each trace has than the first; of the first nothing.
    pub(crate) differences: Vec<String>,
}

/// The figures of the traces, in the order in which they are shown.
pub(crate) fn figures(incident: &Incident) -> Vec<Figure> {
    let calls = |t: &Traced| t.trace.counts().get(&Class::Syscall).copied().unwrap_or(0);
    let failed = |t: &Traced| t.picture.failures;
    let count = |n: u64| units::count(n);
    let row = |name, of: &dyn Fn(&Traced) -> u64, text: &dyn Fn(u64) -> String| {
        let raw: Vec<u64> = incident.traces.iter().map(of).collect();
        let first = raw.first().copied().unwrap_or(0);
        Figure {
            name,
            values: raw.iter().map(|n| text(*n)).collect(),
            differences: raw
                .iter()
                .enumerate()
                .map(|(at, n)| if at == 0 { String::new() } else { difference(first, *n, text) })
                .collect(),
        }
    };
    vec![
        row("duration", &|t| t.overview.duration_ns, &words::time),
        row("calls", &calls, &count),
        row("failed calls", &failed, &count),
        row("processes", &|t| t.overview.processes, &count),
        row("threads", &|t| t.overview.threads, &count),
        row("connections", &|t| t.overview.network.connections, &count),
        row("refused", &|t| t.overview.network.refused, &count),
        row("reset", &|t| t.overview.network.reset, &count),
        row("retransmits", &|t| t.overview.network.retransmits, &count),
        row("lost events", &|t| t.overview.lost.total, &count),
    ]
}
