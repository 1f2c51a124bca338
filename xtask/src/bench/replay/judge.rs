//! One replay of a recording, and what it says of itself.

use super::program::Place;
use crate::bench::process::Owned;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a replay may take besides the recorded time, compiling and judging included, before it is ended and counted as
/// hanging.
const LONGEST: Duration = Duration::from_secs(90);

/// Metrics that a machine which is busy with something else fails: when things happened, and what a clock had to end.
const OF_TIME: [&str; 6] = ["makespan", "drift", "latency_shift", "tail_shift", "incident_recall", "forced"];

/// A metric of the comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Metric {
    pub(super) value: Option<f64>,
    pub(super) pass: Option<bool>,
    pub(super) n: Option<f64>,
}

/// One replay.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Replay {
    /// `match`, `deviated`, `inconclusive`, or what went wrong.
    pub(super) verdict: String,
    pub(super) ops: u64,
    pub(super) recorded_s: f64,
    pub(super) makespan_s: f64,
    /// From the command to its end.
    pub(super) wall_s: f64,
    pub(super) rss_mib: f64,
    pub(super) metrics: BTreeMap<String, Metric>,
    /// Ends that the engine forced, by kind.
    pub(super) forced: BTreeMap<String, u64>,
    /// Seconds of CPU that were lacking.
    pub(super) starved_s: f64,
    pub(super) reasons: Vec<String>,
    pub(super) divergence: String,
}

impl Replay {
    pub(super) fn matches(&self) -> bool {
        self.verdict == "match"
    }

    /// Whether nothing but time was judged to be different.
    pub(super) fn does_the_same(&self) -> bool {
        let of_time = |name: &str| OF_TIME.contains(&name);
        self.matches() || self.verdict == "deviated" && self.failing().into_iter().all(of_time)
    }

    /// Whether it ended and was judged at all.
    pub(super) fn is_judged(&self) -> bool {
        matches!(self.verdict.as_str(), "match" | "deviated" | "inconclusive")
    }

    pub(super) fn value(&self, metric: &str) -> Option<f64> {
        self.metrics.get(metric)?.value
    }

    /// Operations with another outcome, and operations.
    pub(super) fn wrong(&self) -> Option<(f64, f64)> {
        let metric = self.metrics.get("semantic")?;
        let n = metric.n?;
        Some((((1.0 - metric.value?) * n).round(), n))
    }

    /// Recorded calls per second.
    pub(super) fn rate(&self) -> f64 {
        if self.recorded_s > 0.0 { self.ops as f64 / self.recorded_s } else { 0.0 }
    }

    pub(super) fn failing(&self) -> Vec<&str> {
        self.metrics.iter().filter(|(_, m)| m.pass == Some(false)).map(|(name, _)| name.as_str()).collect()
    }
}

/// Replays a recording once.
pub(super) fn replay(place: &Place<'_>, name: &str, mode: Option<&str>) -> Result<Replay> {
    let output = place.dir.join(name);
    let (json, log) = (output.with_extension("json"), output.with_extension("log"));
    let mut command = Command::new(place.ctrace);
    command.args(["replay", "--json", "--force", "-o"]).arg(output.with_extension("ctr"));
    if let Some(mode) = mode {
        command.args(["--mode", mode]);
    }
    command.arg(place.trace()).current_dir(&place.dir).stdin(Stdio::null());
    command.stdout(std::fs::File::create(&json)?).stderr(std::fs::File::create(&log)?);
    let began = Instant::now();
    let child = Owned::spawn(&mut command).context("starting ctrace replay")?;
    let rss = Peak::watch(child.id());
    let status = child.wait_for(LONGEST, "ctrace replay");
    let (wall_s, rss_mib) = (began.elapsed().as_secs_f64(), rss.mib());
    let text = std::fs::read_to_string(&json).unwrap_or_default();
    let said: Option<Value> =
        text.lines().rev().find(|l| !l.is_empty()).and_then(|l| serde_json::from_str(l).ok());
    let Some(said) = said.filter(|said| said["diff"]["verdict"].is_string()) else {
        let error = std::fs::read_to_string(&log).unwrap_or_default();
        let last = error.lines().last().unwrap_or_default();
        let verdict = match status {
            Ok(status) => format!("failed ({status}): {last}"),
            Err(_) => "hangs".to_owned(),
        };
        return Ok(Replay { verdict, wall_s, rss_mib, ..Replay::default() });
    };
    Ok(Replay { wall_s, rss_mib, ..read(&said) })
}

fn read(said: &Value) -> Replay {
    let seconds = |ns: &Value| ns.as_f64().unwrap_or(0.0) / 1e9;
    let metric =
        |m: &Value| Metric { value: m["value"].as_f64(), pass: m["pass"].as_bool(), n: m["n"].as_f64() };
    let metrics = said["diff"]["metrics"].as_object();
    let texts = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().filter_map(|t| t.as_str().map(str::to_owned)).collect()
    };
    Replay {
        verdict: said["diff"]["verdict"].as_str().unwrap_or_default().to_owned(),
        ops: said["replayed_ops"].as_u64().unwrap_or(0),
        recorded_s: seconds(&said["recorded_ns"]),
        makespan_s: seconds(&said["makespan_ns"]),
        metrics: metrics.into_iter().flatten().map(|(name, m)| (name.clone(), metric(m))).collect(),
        forced: counts(&said["forced"]),
        starved_s: seconds(&said["starved_ns"]),
        reasons: texts(&said["diff"]["reasons"]),
        divergence: divergence(&said["diff"]["first_divergence"]),
        ..Replay::default()
    }
}

/// Counts by name; of an object with more in it, its `by_kind`.
fn counts(value: &Value) -> BTreeMap<String, u64> {
    let all = value["by_kind"].as_object().or(value.as_object());
    all.into_iter().flatten().filter_map(|(kind, n)| Some((kind.clone(), n.as_u64()?))).collect()
}

fn divergence(value: &Value) -> String {
    if value.is_null() {
        return String::new();
    }
    // What one run has and the other has not, out of what surrounds it.
    let of = |line: &Value| {
        let (mark, text) = (line["mark"].as_str()?, line["text"].as_str()?);
        (mark.trim() != "").then(|| format!("{mark}{text}"))
    };
    let marked: Vec<String> =
        value["context"].as_array().into_iter().flatten().filter_map(of).take(4).collect();
    let who = value["thread"].as_str().or(value["role"].as_str()).unwrap_or_default();
    let at = value["a_ns"].as_f64().or(value["b_ns"].as_f64()).unwrap_or(0.0) / 1e9;
    format!("{who} at {at:.3} s: {}", marked.join(", ")).chars().take(300).collect()
}

/// The largest resident set of a process while it runs, looked at now and then.
struct Peak {
    stop: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<u64>,
}

impl Peak {
    fn watch(pid: u32) -> Self {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            loop {
                most = most.max(crate::bench::process::peak_rss_kib(pid).unwrap_or(0));
                let waited = stopped.recv_timeout(Duration::from_millis(200));
                if !matches!(waited, Err(std::sync::mpsc::RecvTimeoutError::Timeout)) {
                    return most;
                }
            }
        });
        Self { stop, thread }
    }

    fn mib(self) -> f64 {
        drop(self.stop);
        self.thread.join().unwrap_or(0) as f64 / 1024.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_read() {
        let said = serde_json::json!({
            "diff": {"verdict": "deviated", "reasons": ["r"], "first_divergence": null, "metrics": {
                "semantic": {"value": 0.999, "pass": false, "n": 2000}, "order": {"value": null, "pass": null, "n": 0}}},
            "recorded_ns": 2_000_000_000_u64, "makespan_ns": 2_100_000_000_u64, "replayed_ops": 4000,
            "forced": {"futex": 2, "read": 1},
        });
        let replay = read(&said);
        assert!(replay.is_judged() && !replay.matches());
        assert_eq!(replay.wrong(), Some((2.0, 2000.0)));
        assert_eq!(replay.failing(), ["semantic"]);
        assert_eq!(replay.forced.values().sum::<u64>(), 3);
        assert!((replay.rate() - 2000.0).abs() < 1e-9);
    }
}
