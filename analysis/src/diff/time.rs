//! When operations took place, and how long the runs took.

use super::Rows;
use super::both::Both;
use super::counts::Counts;
use super::journal::Journal;
use super::pairing::Pairing;
use super::spent::{Item, Times};
use super::walk::Walked;
use super::words;
use crate::gates::{self, Gates, Profile};
use crate::model::Model;
use hdrhistogram::Histogram;

/// The recorder adds at most this to a call, ns (`cargo xtask bench record --only cost` measures it).
const RECORDING_NS: u64 = 300;
/// What starting and ending the tasks of a replay takes, ns.
const ENGINE_NS: u64 = 100_000_000;
/// The tick of the scheduler, ns: 1/`CONFIG_HZ`, of kernels with the lowest that distributions build (250).
const SCHEDULER_NS: u64 = 4_000_000;

/// Length of the run.
pub(crate) fn makespan(models: Both<&Model>, counts: &Counts, walked: &Walked<'_>, rows: &mut Rows<'_>) {
    let took = models.map(|m| m.makespan_ns());
    let noise = noise_ns(models);
    let difference = took.apart();
    let waited = if walked.end.late == (took.more() > 0) { walked.end.ns.min(difference) } else { 0 };
    let value = (counts.total.shared() > 0 && took.recorded > 0)
        .then(|| (difference - waited) as f64 / took.recorded as f64);
    let mut note = lengths(took);
    if waited >= 1_000_000 {
        note = format!("{note}; {:.0} ms of it waiting for a CPU, not counted", waited as f64 / 1e6);
    }
    let gate = rows.gates.gate("makespan");
    let within = difference - waited <= noise;
    if within && value.zip(gate).is_some_and(|(v, g)| !gates::passes("makespan", v, g)) {
        note = format!("{note}; less than {:.1} ms are noise", noise as f64 / 1e6);
    }
    let pass = value.zip(gate).map(|(v, g)| within || gates::passes("makespan", v, g));
    rows.push_judged("makespan", value, gate, pass, u64::from(value.is_some()), note);
}

/// The length of a replay by its journal: what the machine lacked is not counted.
pub(super) fn makespan_gate(journal: &Journal, rows: &mut Rows<'_>) {
    let took = Both::new(journal.recorded_ns, journal.makespan_ns);
    let starved = if took.more() > 0 { journal.told.starved.until(u64::MAX) } else { 0 };
    let difference = took.apart().saturating_sub(starved);
    // Nothing tells when the first operation began: what the engine does before it and after the last one is in it.
    let value = (journal.recorded > 0 && took.recorded > 0)
        .then(|| difference.saturating_sub(ENGINE_NS) as f64 / took.recorded as f64);
    let note = format!("{}, by the workers' journal", lengths(took));
    rows.push("makespan", value, u64::from(value.is_some()), "", note);
}

/// Two lengths of time, that of the other run first.
fn lengths(took: Both<u64>) -> String {
    format!("{:.3} s against {:.3} s", took.other as f64 / 1e9, took.recorded as f64 / 1e9)
}

/// The least difference of two lengths of time that says something about what was done rather than about the clocks: the
/// resolution of both recordings at both ends, what recording a call costs for as many calls as one run has more, and
/// the tick of the scheduler, which may pass before a task that can run is noticed.
fn noise_ns(models: Both<&Model>) -> u64 {
    let more = models.map(|m| m.calls + m.engine_calls).apart();
    let ticks_ns = models.map(|m| m.tick_ns);
    2 * (ticks_ns.recorded + ticks_ns.other) + more * RECORDING_NS + SCHEDULER_NS
}

/// By how much a matched operation is off its recorded time that the gates of time do not allow.
pub(crate) fn late_ns(models: Both<&Model>, gates: &Gates) -> u64 {
    let share = gates.gate("makespan").map_or(0, |g| (models.recorded.makespan_ns() as f64 * g) as u64);
    let drift = drift_gate(models, gates).map_or(u64::MAX, |ms| (ms * 1e6) as u64);
    share.max(noise_ns(models)).min(drift)
}

fn drift_gate(models: Both<&Model>, gates: &Gates) -> Option<f64> {
    let gate = gates.gate("drift");
    // 1 % of the longer run, and never less than what a scheduler may take.
    let longer_ms = models.map(|m| m.makespan_ns()).most() as f64 / 1e6;
    if gates.is_overridden("drift") { gate } else { gate.map(|g| g.max(longer_ms * 0.01)) }
}

/// How far matched operations are from their recorded time, starts aligned.
pub(crate) fn drift(models: Both<&Model>, walked: &Walked<'_>, gates: &Gates, rows: &mut Rows<'_>) {
    let (h, all) = (&walked.own_drift, &walked.drift);
    let ms = |h: &Histogram<u64>, q: f64| h.value_at_quantile(q) as f64 / 1e6;
    let gate = drift_gate(models, gates);
    if h.is_empty() {
        rows.push_gated("drift", None, gate, 0, "ms", String::new());
        return;
    }
    let p99 = ms(h, 0.99);
    let mut note = format!("p50 {:.3} ms, p99 {p99:.3} ms", ms(h, 0.5));
    if ms(all, 0.99) >= p99 + 1.0 {
        note = format!(
            "{note}; p50 {:.3} ms, p99 {:.3} ms with the time spent waiting for a CPU",
            ms(all, 0.5),
            ms(all, 0.99)
        );
    }
    rows.push_gated("drift", Some(p99), gate, h.len(), "ms", note);
}

/// What waits and calls took, by what they were for: how far typical lengths and the longest ones are shifted, and what
/// that adds up to.
pub(crate) fn spent(times: &Times, pairing: &Pairing<'_>, profile: Profile, rows: &mut Rows<'_>) {
    let note =
        |worst: Option<(f64, &Item)>| worst.map_or(String::new(), |(_, item)| words::short(item, pairing));
    let (worst, n) = times.shift(profile);
    let value = (n > 0).then(|| worst.map_or(1.0, |w| w.0));
    rows.push("latency_shift", value, n, "", note(worst));
    let (worst, n) = times.tail(profile);
    let value = (n > 0).then(|| worst.map_or(0.0, |w| w.0));
    rows.push("tail_shift", value, n, "", note(worst));
    let n = times.items.len() as u64;
    let added = times.added();
    let value = (n > 0).then(|| added.map_or(0.0, |w| w.0));
    rows.push("added_time", value, n, "", note(added));
}
