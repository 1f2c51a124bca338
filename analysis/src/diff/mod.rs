//! The diff engine: does the other run behave like the recording?
//!
//! Each task's operations are compared in the order the task made them. Operations on a stream are compared in the
//! order of that stream: in which order an event loop serves independent connections, and which of several workers
//! serves one, is scheduling and not behaviour. Metrics without anything to compare have no value and never pass.

mod both;
mod causes;
mod counts;
mod episodes;
mod growth;
mod hung;
mod joint;
mod journal;
mod lookups;
mod metrics;
mod network;
mod order;
mod outcomes;
mod pairing;
mod resources;
mod spent;
mod time;
mod walk;
mod warnings;
mod words;

use crate::gates::{self, Gates, Profile};
use crate::lacks;
use crate::model::Model;
use crate::report::{Metric, Report, SideInfo, Verdict};
use both::{Both, Run};
use joint::Joint;
pub use journal::{Journal, judge_journal};
use std::collections::BTreeMap;

/// Lost events of all events above which no verdict is given.
const MAX_LOSS: f64 = 0.001;
/// Alignment above which two runs are the same program doing the same things.
const IN_ORDER: f64 = 0.6;
/// Coverage of a replay below which there is too little to judge.
const MIN_COVERAGE: f64 = 0.5;

/// Metrics that failures explain.
const OF_FAILURES: &[&str] =
    &["coverage", "semantic", "outcomes", "alignment", "dfg", "errors", "incident_recall", "network"];
/// Metrics that time explains.
const OF_TIME: &[&str] = &["makespan", "drift", "latency_shift", "tail_shift", "added_time"];

/// Metrics that growth explains.
const OF_GROWTH: &[&str] = &["resources"];

/// Ends of waits and calls that the engine of a replay forced, for what would have ended them did not come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forced {
    /// How many, by how they were forced.
    pub by_kind: BTreeMap<String, u64>,
    /// The first of them, in words.
    pub first: Option<String>,
}

/// For how long, up to moments of a replay, tasks of it that were behind had lacked a CPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Starved {
    /// Moments, ns since the replay began, and the time lacked up to then, ns. Both grow, evenly between two of them.
    points: Vec<(u64, u64)>,
}

impl Starved {
    /// From pairs of a moment and the time lacked up to then.
    pub fn new(mut points: Vec<(u64, u64)>) -> Self {
        points.sort_unstable();
        Self { points }
    }

    /// The time lacked up to a moment.
    pub(crate) fn until(&self, t_ns: u64) -> u64 {
        let after = self.points.partition_point(|(at_ns, _)| *at_ns <= t_ns);
        let before = after.checked_sub(1).and_then(|last| self.points.get(last)).copied();
        match (before, self.points.get(after)) {
            (Some((from_ns, lacked_ns)), Some((to_ns, next_ns))) => {
                let share = (t_ns - from_ns) as f64 / (to_ns - from_ns) as f64;
                lacked_ns + (next_ns.saturating_sub(lacked_ns) as f64 * share) as u64
            }
            (before, _) => before.map_or(0, |(_, lacked_ns)| lacked_ns),
        }
    }
}

/// The account that the engine of a replay gives of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The ends that it forced.
    pub forced: Forced,
    /// The time that its machine lacked: the replay may be late by so much.
    pub starved: Starved,
}

/// Compares another run with the recording.
pub fn diff(recorded: &Model, other: &Model, gates: &Gates) -> Report {
    diff_replay(recorded, other, gates, None)
}

/// Compares a replay with the recording.
pub fn diff_replay(recorded: &Model, replay: &Model, gates: &Gates, told: Option<&Told>) -> Report {
    let models = Both::new(recorded, replay);
    let joint = Joint::new(models);
    let pairing = pairing::pair(models, &joint);
    let counts = counts::Counts::take(&joint, &pairing);
    let late_ns = time::late_ns(models, gates);
    let never = Starved::default();
    let walked = walk::walk(models, &joint, &pairing, told.map_or(&never, |told| &told.starved), late_ns);

    let (a, b) = (&recorded.missing.lacks, &replay.missing.lacks);
    let unjudged = lacks::unjudged(a, b, gates.profile() == Profile::Synthetic);
    let mut rows = Rows { gates, unjudged, metrics: Vec::new() };
    let covered = metrics::coverage(models, &joint, &pairing, &counts, &mut rows);
    outcomes::semantic(models, &joint, &counts, &walked, &pairing, gates.profile(), &mut rows);
    metrics::alignment(&walked, &pairing, &mut rows);
    metrics::dfg(&counts, &joint, &mut rows);
    let tick_ns = models.map(|m| m.tick_ns).most();
    let violation = order::order(&walked.partners, &joint, &pairing, tick_ns, &mut rows);
    time::makespan(models, &counts, &walked, &mut rows);
    time::drift(models, &walked, gates, &mut rows);
    let starved_ns = told.map_or(0, |told| told.starved.until(u64::MAX));
    let times = spent::Times::take(models, &pairing, starved_ns);
    time::spent(&times, &pairing, gates.profile(), &mut rows);
    let (growth, resources) = resources::resources(models, &pairing, &mut rows);
    let lookups = lookups::Lookups::take(models, &pairing, gates.profile());
    let failures = outcomes::errors(models, &joint, &counts, &pairing, &lookups, gates.profile(), &mut rows);
    episodes::incident_recall(models, &joint, &counts, &pairing, gates.profile(), &mut rows);
    let stream = network::network(models, &pairing, gates.profile(), &mut rows);
    metrics::forced(told.map(|told| &told.forced), &counts, &mut rows);

    let rows = rows.metrics;
    let covered = covered.filter(|_| gates.profile() == Profile::Synthetic);
    let (reasons, mut warnings) = inconclusive(models, counts.total, &rows, covered);
    warnings.splice(0..0, warnings::warnings(models));
    warnings.extend(unanswered_gates(&rows, gates));
    let mut causes = Vec::new();
    let concluded = conclude(&rows, reasons, |failed| {
        let missed = |names: &[&str]| failed.iter().any(|m| names.contains(&m.name));
        let explains = causes::Explains {
            failures: missed(OF_FAILURES),
            growth: missed(OF_GROWTH),
            time: missed(OF_TIME),
        };
        let found = causes::Found { lookups: &lookups, growth: &growth, times: &times };
        causes = causes::causes(models, &joint, &counts, &pairing, &found, explains);
        causes.iter().map(|c| c.text.clone()).collect()
    });
    let worst = concluded.worst;
    let in_order =
        rows.iter().find(|m| m.name == "alignment").is_none_or(|m| m.value.is_none_or(|v| v >= IN_ORDER));
    let found = walk::Found { order: violation, stream, in_order };
    let first_divergence = walk::first_divergence(&joint, &pairing, &walked, worst, &found);
    Report {
        schema: 1,
        verdict: concluded.verdict,
        reasons: concluded.reasons,
        causes,
        warnings,
        profile: gates.profile(),
        worst,
        metrics: rows,
        resources,
        first_divergence,
        first_match: walked.first_match,
        failures,
        a: side(recorded, counts.total.recorded),
        b: side(replay, counts.total.other),
    }
}

/// What follows from the metrics.
struct Concluded {
    verdict: Verdict,
    reasons: Vec<String>,
    worst: Option<&'static str>,
}

/// The verdict. `doubts`: why there is none; `explain`: what explains the gates that were missed.
fn conclude(
    rows: &[Metric],
    doubts: Vec<String>,
    explain: impl FnOnce(&[&Metric]) -> Vec<String>,
) -> Concluded {
    if !doubts.is_empty() {
        return Concluded { verdict: Verdict::Inconclusive, reasons: doubts, worst: None };
    }
    let mut failed: Vec<&Metric> = rows.iter().filter(|m| m.pass == Some(false)).collect();
    failed.sort_by(|x, y| severity(y).total_cmp(&severity(x)));
    let verdict = if failed.is_empty() { Verdict::Match } else { Verdict::Deviated };
    let mut reasons = if failed.is_empty() { Vec::new() } else { explain(&failed) };
    reasons.extend(failed.iter().map(|m| sentence(m)));
    Concluded { verdict, reasons, worst: failed.first().map(|m| m.name) }
}

/// Gates that were asked for, of metrics that had nothing to compare.
fn unanswered_gates(rows: &[Metric], gates: &Gates) -> Vec<String> {
    let unanswered = rows.iter().filter(|m| m.value.is_none() && gates.is_overridden(m.name));
    unanswered
        .map(|m| format!("{} has a gate of its own and nothing to compare: nothing was judged by it", m.name))
        .collect()
}

/// Collects metrics and applies their gates.
struct Rows<'g> {
    gates: &'g Gates,
    /// Metrics that say nothing of these runs, with the reason.
    unjudged: BTreeMap<&'static str, &'static str>,
    metrics: Vec<Metric>,
}

impl Rows<'_> {
    fn push(&mut self, name: &'static str, value: Option<f64>, n: u64, unit: &'static str, note: String) {
        let gate = self.gates.gate(name);
        self.push_gated(name, value, gate, n, unit, note);
    }

    fn push_gated(
        &mut self,
        name: &'static str,
        value: Option<f64>,
        gate: Option<f64>,
        n: u64,
        unit: &'static str,
        note: String,
    ) {
        let pass = value.zip(gate).map(|(v, g)| gates::passes(name, v, g));
        self.add(Metric { name, value, gate, pass, n, unit, note });
    }

    /// A metric without unit whose gate more than its value decides on.
    fn push_judged(
        &mut self,
        name: &'static str,
        value: Option<f64>,
        gate: Option<f64>,
        pass: Option<bool>,
        n: u64,
        note: String,
    ) {
        self.add(Metric { name, value, gate, pass, n, unit: "", note });
    }

    fn add(&mut self, metric: Metric) {
        self.metrics.push(match self.unjudged.get(metric.name) {
            Some(why) => {
                Metric { value: None, pass: None, n: 0, note: format!("not judged: {why}"), ..metric }
            }
            None => metric,
        });
    }
}

fn severity(m: &Metric) -> f64 {
    m.value.zip(m.gate).map_or(0.0, |(v, g)| gates::excess(m.name, v, g))
}

fn sentence(m: &Metric) -> String {
    let relation = match gates::sense(m.name) {
        gates::Sense::AtLeast => "below",
        gates::Sense::AtMost => "above",
    };
    let (value, gate) = (m.value.unwrap_or(0.0), m.gate.unwrap_or(0.0));
    let unit = if m.unit.is_empty() { String::new() } else { format!(" {}", m.unit) };
    let note = if m.note.is_empty() { String::new() } else { format!(": {}", m.note) };
    format!("{} {}{unit} is {relation} {}{unit}{note}", m.name, number(value), number(gate))
}

fn number(x: f64) -> String {
    let text = format!("{x:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() || text == "-" { "0".to_owned() } else { text.to_owned() }
}

fn inconclusive(
    models: Both<&Model>,
    compared: Both<u64>,
    rows: &[Metric],
    covered: Option<f64>,
) -> (Vec<String>, Vec<String>) {
    let (mut reasons, mut warnings) = (Vec::new(), Vec::new());
    for run in Run::BOTH {
        let (name, model) = (run.name(), *models.of(run));
        let lost = model.missing.lost;
        if lost > 0 {
            let share = lost as f64 / (model.calls + lost) as f64;
            let classes: Vec<String> =
                model.missing.by_class.iter().map(|(c, n)| format!("{n} {}", c.name())).collect();
            let text = format!("{name} lost {lost} events ({:.3} %): {}", share * 100.0, classes.join(", "));
            if share > MAX_LOSS { reasons.push(text) } else { warnings.push(text) }
        }
        let counted = model.missing.aggregated;
        if counted > 0 {
            let share = counted as f64 / (model.calls + counted) as f64;
            let text = format!(
                "{name} only counted {counted} calls ({:.3} %): the recorder could not keep up",
                share * 100.0
            );
            if share > MAX_LOSS { reasons.push(text) } else { warnings.push(text) }
        }
        let unread = model.missing.unread;
        if unread > 0 {
            let share = unread as f64 / model.calls.max(1) as f64;
            let text = format!(
                "{name} lacks what the pointers of {unread} calls point to ({:.3} %): the recorder could not keep up",
                share * 100.0
            );
            // A comparison that passes without it passes.
            let decides = share > MAX_LOSS && rows.iter().any(|row| row.pass == Some(false));
            if decides { reasons.push(text) } else { warnings.push(text) }
        }
        if let Some(why) = lacks::without_verdict(&model.missing.lacks) {
            reasons.push(format!("{name} {why}"));
        }
        if model.missing.damaged > 0 {
            reasons.push(format!(
                "{} parts of {name} are damaged; `ctrace verify` lists them",
                model.missing.damaged
            ));
        }
    }
    let hung = (compared.most() == 0).then(|| hung::alike(models)).flatten();
    if let Some(threads) = hung {
        let threads = if threads == 1 { "one thread".to_owned() } else { format!("{threads} threads") };
        warnings.push(format!("{threads} hung in both runs, and nothing else was done"));
    } else if compared.recorded == 0 {
        reasons.push("the recording has no operation that could be compared".to_owned());
    } else if compared.other == 0 {
        reasons.push("the other run has no operation that could be compared".to_owned());
    } else if rows.iter().all(|m| m.pass.is_none()) {
        reasons.push("no metric with a gate had anything to compare".to_owned());
    }
    if let Some(share) = covered.filter(|c| *c < MIN_COVERAGE)
        && reasons.is_empty()
    {
        reasons.push(format!("only {:.1} % of the recorded operations took place again", share * 100.0));
    }
    if reasons.is_empty() && compared.recorded < 20 && hung.is_none() {
        warnings.push(format!("only {} operations were compared", compared.recorded));
    }
    (reasons, warnings)
}

fn side(m: &Model, compared: u64) -> SideInfo {
    SideInfo {
        calls: m.calls,
        compared,
        counted: m.noise_calls,
        engine: m.engine_calls,
        emulated: m.emulated_calls,
        processes: m.processes.len() as u64,
        threads: m.threads.len() as u64,
        streams: m.conns.len() as u64,
        makespan_ns: m.makespan_ns(),
        missing: m.missing.clone(),
    }
}
