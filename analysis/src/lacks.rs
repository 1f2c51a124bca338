//! The commands and metrics that a trace rules out because it lacks something as a whole.

use ctrace_format::Lack;
use std::collections::BTreeMap;

/// Metrics that judge how long calls took.
const LATENCY: &[&str] = &["latency_shift", "tail_shift", "added_time"];
/// Metrics that judge when things happened.
const MOMENTS: &[&str] = &["makespan", "drift", "incident_recall"];

/// Why a comparison says nothing by a metric. `a` and `b`: what each of the two runs lacks.
pub(crate) fn unjudged(a: &[Lack], b: &[Lack], is_replay: bool) -> BTreeMap<&'static str, &'static str> {
    let either = |lack: Lack| a.contains(&lack) || b.contains(&lack);
    let one = |lack: Lack| a.contains(&lack) != b.contains(&lack);
    let mut out = BTreeMap::new();
    let mut mute = |metrics: &[&'static str], why: &'static str| {
        for metric in metrics {
            out.entry(*metric).or_insert(why);
        }
    };
    if either(Lack::Times) {
        mute(MOMENTS, "a log without times");
        mute(LATENCY, "a log without times");
    }
    if either(Lack::Durations) {
        mute(LATENCY, "a log without durations (strace -T)");
    }
    if one(Lack::Pace) {
        mute(LATENCY, "one of the runs was slowed down by strace");
        // A replay keeps to the recorded pace, whatever made it.
        if !is_replay {
            mute(&["makespan", "drift"], "one of the runs was slowed down by strace");
        }
    }
    if either(Lack::Order) {
        mute(&["order"], "logs without a common time");
    }
    out
}

/// Why there is no verdict over a run that lacks these.
pub(crate) fn without_verdict(lacks: &[Lack]) -> Option<&'static str> {
    lacks.iter().find_map(|lack| match lack {
        Lack::Children => Some("was imported from a log without its children (strace -f)"),
        Lack::Calls => Some("was imported from a log that leaves calls out (strace -e)"),
        Lack::Arguments => Some("was imported from a log without names and structures (strace -e raw)"),
        _ => None,
    })
}

/// Something that cannot be said of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuledOut {
    /// The command, with its options where only these are ruled out.
    pub command: &'static str,
    /// Metrics that it does not judge; empty: it does nothing.
    pub metrics: Vec<&'static str>,
    /// The reason.
    pub why: String,
}

/// The commands and metrics that a trace with these lacks rules out, against a recording.
pub fn ruled_out(lacks: &[Lack]) -> Vec<RuledOut> {
    let whole = |command, why: &str| RuledOut { command, metrics: Vec::new(), why: why.to_owned() };
    let mut out = Vec::new();
    if let Some(why) = without_replay(lacks, false) {
        out.push(whole("replay", why));
    } else if let Some(why) = without_replay(lacks, true) {
        out.push(whole("replay --mode resource", why));
    }
    if let Some(why) = without_verdict(lacks) {
        out.push(whole("diff", &format!("inconclusive, for it {why}")));
    }
    if lacks.contains(&Lack::Durations) {
        out.push(whole("info --slow", "how long calls took is not in it (strace -T tells it)"));
    }
    for (metric, why) in unjudged(lacks, &[], false) {
        match out.iter_mut().find(|ruled| ruled.command == "diff" && ruled.why == why) {
            Some(ruled) => ruled.metrics.push(metric),
            None => out.push(RuledOut { command: "diff", metrics: vec![metric], why: why.to_owned() }),
        }
    }
    out
}

/// Why a trace that lacks these is not replayed; `paced`: at the recorded pace.
pub fn without_replay(lacks: &[Lack], paced: bool) -> Option<&'static str> {
    lacks.iter().find_map(|lack| match lack {
        Lack::Children => Some("what the children did is not in it (strace -f follows them)"),
        Lack::Calls => Some("calls were left out of it (strace without -e has all)"),
        Lack::Arguments => Some("names and structures are not in it (strace without -e raw has them)"),
        Lack::Order => Some("which of two tasks was first is not in it (strace -ff with -ttt tells it)"),
        Lack::Times if paced => Some("when calls were made is not in it (strace -ttt tells it)"),
        Lack::Durations if paced => Some("how long calls took is not in it (strace -T tells it)"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ruled_out_has_its_reason() {
        let names = |lacks: &[Lack]| -> Vec<&str> { ruled_out(lacks).iter().map(|r| r.command).collect() };
        assert_eq!(names(&[]), [""; 0]);
        assert_eq!(names(&[Lack::Pace]), ["diff"]);
        assert_eq!(
            names(&[Lack::Pace, Lack::Durations]),
            ["replay --mode resource", "info --slow", "diff", "diff"]
        );
        assert_eq!(names(&[Lack::Children]), ["replay", "diff"]);
        let times = ruled_out(&[Lack::Times]);
        assert_eq!(times[1].metrics.len(), LATENCY.len() + MOMENTS.len());
    }

    #[test]
    fn two_logs_of_one_kind_are_judged_by_their_times() {
        assert!(unjudged(&[Lack::Pace], &[Lack::Pace], false).is_empty());
        let unlike = unjudged(&[Lack::Pace], &[], false);
        assert!(unlike.contains_key("makespan") && unlike.contains_key("latency_shift"));
        // A replay keeps the pace of what it replays.
        let replayed = unjudged(&[Lack::Pace], &[], true);
        assert!(!replayed.contains_key("makespan") && replayed.contains_key("latency_shift"));
        assert!(unjudged(&[Lack::Pace, Lack::Order], &[Lack::Pace], false).contains_key("order"));
    }
}
