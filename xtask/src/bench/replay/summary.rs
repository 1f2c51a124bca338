//! The figures over all programs, against their goals.

use super::Judged;
use super::judge::Replay;
use crate::bench::figure::{Goal, Line, Unit};
use crate::bench::table::median;
use std::collections::BTreeMap;

/// Recorded calls per second from which two CPUs have no time left for a replay that is as fast.
const SATURATED: f64 = 150_000.0;
/// What a replay may take longer however short it is, in seconds.
const SLACK_S: f64 = 0.02;

/// All lines but that of memory.
pub(super) fn lines(all: &[Judged]) -> Vec<Line> {
    let replays = || all.iter().flat_map(|p| p.replays.iter().map(move |r| (p.name.as_str(), r)));
    let judged = || replays().filter(|(_, r)| r.is_judged());
    let unsaturated = || judged().filter(|(_, r)| r.rate() < SATURATED);
    let mut lines = vec![matching(all)];

    let worst = most(unsaturated().map(|(name, r)| (ratio(r, SLACK_S), name)));
    lines.push(line("worst makespan ratio, unsaturated", Unit::Times, Goal::AtMost(1.05), worst));
    let errors: Vec<f64> = unsaturated().filter_map(|(_, r)| makespan_error(r)).collect();
    let temporal: Vec<f64> =
        all.iter().filter_map(|p| makespan_error(p.temporal.as_ref().filter(|r| r.is_judged())?)).collect();
    lines.push(
        line(
            "makespan error, mean, unsaturated",
            Unit::Part,
            Goal::AtMost(0.01),
            mean(&errors).map(|m| (m, "")),
        )
        .beside(beside("by timestamps alone", Unit::Part, mean(&temporal))),
    );
    let saturated =
        most(judged().filter(|(_, r)| r.rate() >= SATURATED).map(|(name, r)| (ratio(r, 0.0), name)));
    let starved: f64 = judged().filter(|(_, r)| r.rate() >= SATURATED).map(|(_, r)| r.starved_s).sum();
    let text =
        saturated.map_or_else(String::new, |(_, name)| format!("{name}; starved of {starved:.2} s of CPU"));
    lines.push(
        line("makespan ratio at 150,000 calls/s and more", Unit::Times, Goal::AtMost(1.5), saturated)
            .beside(text),
    );

    let (wrong, n) =
        judged().filter_map(|(_, r)| r.wrong()).fold((0.0, 0.0), |(w, n), (a, b)| (w + a, n + b));
    let rate = (n > 0.0).then_some((10_000.0 * wrong / n, ""));
    lines.push(
        line("semantic mismatches in 10,000", Unit::Tenths, Goal::AtMost(1.0), rate)
            .beside(format!("{wrong} of {n}{}", where_wrong(all))),
    );
    lines.push(forced(&judged().map(|(_, r)| r).collect::<Vec<_>>()));
    let order = most(judged().filter_map(|(name, r)| Some((r.value("order")?, name))));
    lines.push(line("order violations", Unit::Count, Goal::AtMost(0.0), order));

    let drifts: Vec<f64> = all
        .iter()
        .filter_map(|p| {
            let own: Vec<f64> = p.replays.iter().filter_map(|r| r.value("drift")).collect();
            (!own.is_empty()).then(|| median(&own))
        })
        .collect();
    let middle = (!drifts.is_empty()).then(|| (median(&drifts), ""));
    let temporal: Vec<f64> = all.iter().filter_map(|p| p.temporal.as_ref()?.value("drift")).collect();
    let temporal = (!temporal.is_empty()).then(|| median(&temporal));
    lines.push(
        line("drift p99, median over programs (ms)", Unit::Tenths, Goal::AtMost(1.0), middle).beside(beside(
            "by timestamps alone",
            Unit::Tenths,
            temporal,
        )),
    );
    let drift = most(unsaturated().filter_map(|(name, r)| Some((r.value("drift")?, name))));
    lines.push(line("drift p99, worst, unsaturated (ms)", Unit::Tenths, Goal::AtMost(20.0), drift));
    let recall = most(judged().filter_map(|(name, r)| Some((-r.value("incident_recall")?, name))));
    let recall = recall.map(|(value, name)| (-value, name));
    lines.push(line("incident recall, worst", Unit::Times, Goal::AtLeast(1.0), recall));
    let late = most(judged().map(|(name, r)| (1000.0 * (r.makespan_s - r.recorded_s - r.starved_s), name)));
    lines.push(line("ends after the recorded end", Unit::Millis, Goal::AtMost(1000.0), late));
    lines
}

fn matching(all: &[Judged]) -> Line {
    let matching = all.iter().filter(|p| p.all_match()).count();
    let temporal = all.iter().filter_map(|p| p.temporal.as_ref()).filter(|r| r.matches()).count();
    let tried = all.iter().filter(|p| p.temporal.is_some()).count();
    let beside =
        if tried > 0 { format!("; by timestamps alone {temporal} of {tried}") } else { String::new() };
    let part = matching as f64 / all.len().max(1) as f64;
    Line::new("programs whose replays all match", Unit::Part, Goal::AtLeast(0.95), part)
        .beside(format!("{matching} of {}{beside}", all.len()))
}

fn forced(replays: &[&Replay]) -> Line {
    let name = "forced ends in 10,000";
    let rates: Vec<f64> = replays.iter().filter_map(|r| r.value("forced")).collect();
    let ops: u64 = replays.iter().map(|r| r.ops).sum();
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, n) in replays.iter().flat_map(|r| &r.forced) {
        *kinds.entry(kind).or_default() += n;
    }
    let count: u64 = kinds.values().sum();
    if rates.is_empty() && kinds.is_empty() {
        return Line::skipped(name, Unit::Tenths, Goal::AtMost(10.0), "the replay does not count them");
    }
    let by_kind: Vec<String> = kinds.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    Line::new(name, Unit::Tenths, Goal::AtMost(10.0), 10_000.0 * count as f64 / ops.max(1) as f64)
        .beside(by_kind.join(", "))
}

/// A figure of which a program is the worst one.
fn line(name: &str, unit: Unit, goal: Goal, value: Option<(f64, &str)>) -> Line {
    match value {
        Some((value, which)) => Line::new(name, unit, goal, value).beside(which),
        None => Line::skipped(name, unit, goal, "no program tells"),
    }
}

fn most<'a>(values: impl Iterator<Item = (f64, &'a str)>) -> Option<(f64, &'a str)> {
    values.max_by(|a, b| a.0.total_cmp(&b.0))
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn beside(what: &str, unit: Unit, value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{what} {}", unit.show(value)))
}

/// How much longer than recorded (or shorter: as bad), with this much for nothing.
pub(super) fn ratio(replay: &Replay, slack_s: f64) -> f64 {
    let error = makespan_error(replay).unwrap_or(0.0);
    if error * replay.recorded_s <= slack_s { 1.0 } else { 1.0 + error }
}

/// The comparison's own figure: a recording goes on after the last call, a replay does not.
fn makespan_error(replay: &Replay) -> Option<f64> {
    let longer = replay.makespan_s - replay.recorded_s;
    let raw = (replay.recorded_s > 0.0).then(|| longer.max(0.0) / replay.recorded_s);
    replay.value("makespan").or(raw)
}

/// The programs with most of the mismatches.
fn where_wrong(all: &[Judged]) -> String {
    let mut by_program: Vec<(f64, &str)> = all
        .iter()
        .map(|p| (p.replays.iter().filter_map(Replay::wrong).map(|(wrong, _)| wrong).sum(), p.name.as_str()))
        .filter(|(wrong, _)| *wrong > 0.0)
        .collect();
    by_program.sort_by(|a, b| b.0.total_cmp(&a.0));
    let texts: Vec<String> =
        by_program.iter().take(4).map(|(wrong, name)| format!("{name} {wrong}")).collect();
    if texts.is_empty() { String::new() } else { format!(": {}", texts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(recorded_s: f64, makespan_s: f64) -> Replay {
        Replay { verdict: "match".to_owned(), recorded_s, makespan_s, ops: 100, ..Replay::default() }
    }

    #[test]
    fn a_short_program_may_take_a_little_longer() {
        assert!(ratio(&replay(0.01, 0.029), SLACK_S) <= 1.0);
        assert!((ratio(&replay(1.0, 3.0), SLACK_S) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn one_replay_that_does_not_match_is_enough() {
        let judged = |replays| Judged { name: "a".to_owned(), replays, ..Judged::default() };
        let good = judged(vec![replay(1.0, 1.0), replay(1.0, 1.0)]);
        let bad =
            judged(vec![replay(1.0, 1.0), Replay { verdict: "deviated".to_owned(), ..replay(1.0, 1.0) }]);
        let lines = lines(&[good, bad, judged(Vec::new())]);
        assert_eq!(lines[0].passes(), Some(false));
        assert!(lines[0].beside.starts_with("1 of 3"), "{}", lines[0].beside);
    }
}
