//! Series of a trace by bins of 100 ms, as its events have them.

use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const BIN_NS: u64 = 100_000_000;
/// Bins that one run may be ahead of the other at most.
const AHEAD: usize = 20;

/// A thing that calls tell over time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    /// Time within calls of this name, ns.
    TimeIn(&'static str),
    /// How many calls failed with this error.
    Failed(&'static str),
}

impl Told {
    pub(super) fn name(self) -> String {
        match self {
            Self::TimeIn(call) => format!("time in {call}"),
            Self::Failed(errno) => format!("calls that fail with {errno}"),
        }
    }

    /// It over time, since the first call.
    pub(super) fn of(self, ctrace: &Path, trace: &Path) -> Result<Vec<f64>> {
        let mut command = Command::new(ctrace);
        command.args(["events", "--json", "--class", "syscall"]).arg(trace);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("the events")?).lines();
        let (mut bins, mut first) = (Vec::new(), None);
        for line in lines {
            let event: Value = serde_json::from_str(&line?).context("an event")?;
            let t_ns = event["t_ns"].as_u64().unwrap_or(0);
            let begin = t_ns.saturating_sub(*first.get_or_insert(t_ns));
            match self {
                Self::TimeIn(call) if event["name"] == call => {
                    spread(&mut bins, begin, event["duration_ns"].as_u64().unwrap_or(0));
                }
                Self::Failed(errno) if event["errno"] == errno => *bin(&mut bins, begin) += 1.0,
                _ => {}
            }
        }
        child.wait()?;
        Ok(bins)
    }
}

fn bin(bins: &mut Vec<f64>, t_ns: u64) -> &mut f64 {
    let at = (t_ns / BIN_NS) as usize;
    bins.resize(bins.len().max(at + 1), 0.0);
    &mut bins[at]
}

/// Shares a time among the bins in which it passed.
fn spread(bins: &mut Vec<f64>, begin_ns: u64, length_ns: u64) {
    let (mut at, end) = (begin_ns, begin_ns + length_ns);
    while at < end {
        let next = end.min((at / BIN_NS + 1) * BIN_NS);
        *bin(bins, at) += (next - at) as f64;
        at = next;
    }
}

/// All differences of bins, of the recorded sum; and the same when each run may be ahead of the other for a while (dynamic
/// time warping). `None`: nothing was recorded.
pub(super) fn apart(recorded: &[f64], replayed: &[f64]) -> Option<(f64, f64)> {
    let sum: f64 = recorded.iter().sum();
    if sum <= 0.0 {
        return None;
    }
    let at = |series: &[f64], i: usize| series.get(i).copied().unwrap_or(0.0);
    let bins = recorded.len().max(replayed.len());
    let error: f64 = (0..bins).map(|i| (at(recorded, i) - at(replayed, i)).abs()).sum();
    let mut row = vec![f64::INFINITY; bins + 1];
    row[0] = 0.0;
    for i in 0..bins {
        let mut next = vec![f64::INFINITY; bins + 1];
        for j in i.saturating_sub(AHEAD)..(i + AHEAD + 1).min(bins) {
            let differs = (at(recorded, i) - at(replayed, j)).abs();
            next[j + 1] = differs + row[j].min(row[j + 1]).min(next[j]);
        }
        row = next;
    }
    Some((error / sum, row.last().copied().unwrap_or(f64::INFINITY) / sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_series_is_apart_by_bins_and_not_when_warped() {
        let near = |pair: Option<(f64, f64)>, error: f64, warped: f64| {
            let (e, w) = pair.unwrap();
            (e - error).abs() < 1e-9 && (w - warped).abs() < 1e-9
        };
        let recorded = [0.0, 4.0, 0.0, 4.0, 0.0, 0.0];
        assert!(near(apart(&recorded, &recorded), 0.0, 0.0));
        assert!(near(apart(&recorded, &[0.0, 0.0, 4.0, 0.0, 4.0, 0.0]), 2.0, 0.0));
        assert!(near(apart(&recorded, &[]), 1.0, 1.0));
        assert_eq!(apart(&[], &recorded), None);
    }

    #[test]
    fn a_long_call_is_in_all_bins_in_which_it_lasts() {
        let mut bins = Vec::new();
        spread(&mut bins, 50_000_000, 200_000_000);
        assert_eq!(bins, [5e7, 1e8, 5e7]);
    }
}
