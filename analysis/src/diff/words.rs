//! Differences in time as sentences, with before and after.

use super::both::{Both, Run};
use super::pairing::Pairing;
use super::spent::Item;
use crate::costs::{Hist, Spent};
use crate::findings::words::span;
use crate::names::shorten;

/// Quantiles that show a difference, the most telling first.
const QUANTILES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (1.0, "longest")];
/// A quantile that differs by less shows nothing.
const SHOWS: f64 = 1.5;

/// A role, with the name of its threads where that is another one.
pub(super) fn who(item: &Item, pairing: &Pairing<'_>) -> String {
    let run = if item.more_ns() > 0 { Run::Other } else { Run::Recorded };
    let role = pairing.role(item.family, run);
    match item.thread.as_str() {
        "" | "…" => role.to_owned(),
        thread if role.ends_with(thread) => role.to_owned(),
        thread => format!("{role}:{thread}"),
    }
}

/// What shows a difference between lengths.
enum Shown {
    /// A quantile: its name, and its values.
    Quantile(&'static str, Both<u64>),
    /// A few that are longer than any was before: how many of how many, how long they typically take, and how long the
    /// longest one took before.
    Few { n: u64, of: u64, ns: Both<u64> },
}

impl Shown {
    const fn lengths(&self) -> Both<u64> {
        match self {
            Self::Quantile(_, ns) | Self::Few { ns, .. } => *ns,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Quantile(name, ns) => format!("{name} {}", before_after(*ns)),
            Self::Few { n, of, ns } => {
                let take = if *n == 1 { "takes" } else { "take" };
                let (now, before) = (span(ns.other), span(ns.recorded));
                format!("{} of {} {take} {now}, before at most {before}", count(*n), count(*of))
            }
        }
    }
}

/// What shows the difference: what is typical where that explains half of it; else the few that do, or a quantile.
fn telling(lengths: &Both<Hist>) -> Option<Shown> {
    let longer = lengths.other.total_ns > lengths.recorded.total_ns;
    let shows = |at: Both<u64>| {
        let ratio = at.other.max(1) as f64 / at.recorded.max(1) as f64;
        if longer { ratio >= SHOWS } else { ratio <= 1.0 / SHOWS }
    };
    let quantile = |(q, name): (f64, &'static str)| {
        let at = lengths.map(|h| h.quantile_ns(q));
        shows(at).then_some(Shown::Quantile(name, at))
    };
    let each = lengths.map(Hist::mean_ns).more().unsigned_abs();
    let is_typical = |shown: &Shown| shown.lengths().more().unsigned_abs().saturating_mul(2) >= each;
    let typical = quantile(QUANTILES[0]);
    if typical.as_ref().is_some_and(is_typical) {
        return typical;
    }
    let tail = || QUANTILES[1..].iter().find_map(|q| quantile(*q));
    few(lengths).or_else(tail).or(typical)
}

/// The few that are longer than any was in the recording, where they make most of the difference.
fn few(lengths: &Both<Hist>) -> Option<Shown> {
    let (before, other) = (&lengths.recorded, &lengths.other);
    let most_ns = before.max_ns;
    let longer = other.beyond((most_ns as f64 * SHOWS) as u64);
    // Those that are as long as they typically are.
    let long = longer.beyond(longer.quantile_ns(0.5) / 2);
    let more = lengths.map(|h| h.total_ns).more();
    let explains = long.total_ns.saturating_sub(most_ns.saturating_mul(long.count)).saturating_mul(2);
    let is_most = more > 0 && before.count > 0 && explains >= more.unsigned_abs();
    let ns = Both::new(most_ns, long.quantile_ns(0.5));
    (is_most && long.count > 0).then_some(Shown::Few { n: long.count, of: other.count, ns })
}

/// Two lengths of time, in the unit of the longer one where that is readable.
fn before_after(ns: Both<u64>) -> String {
    let longest = ns.most();
    if longest >= 1_000_000_000 {
        let seconds = ns.map(|ns| {
            if *ns >= 1_000_000_000 {
                format!("{:.2}", *ns as f64 / 1e9)
            } else {
                format!("{:.3}", *ns as f64 / 1e9)
            }
        });
        return format!("{} → {} s", seconds.recorded, seconds.other);
    }
    format!("{} → {}", span(ns.recorded), span(ns.other))
}

pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `9,000 times, never in the recording`.
pub(super) fn how_often(n: Both<u64>) -> String {
    let times = |n: u64| match n {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        n => format!("{} times", count(n)),
    };
    format!("{} in the recording, {} in the other run", times(n.recorded), times(n.other))
}

/// `payments:18080 answers client 1.20 s later (p50 0.001 → 1.20 s), 87 % of the added time`.
pub(super) fn sentence(item: &Item, share: f64, pairing: &Pairing<'_>) -> String {
    let more = item.more_ns() > 0;
    let who = who(item, pairing);
    let counts = item.counts();
    let shown = telling(&item.lengths);
    let often = counts.most();
    // How often it is said where that is what differs.
    let number_differs = counts.apart() * 4 > often;
    // Each time, or in all where it is not the single one that differs, or there is nothing to compare it with.
    let each = shown.as_ref().filter(|_| counts.shared() > 0);
    let by = |way: &str| match each {
        Some(shown) => format!("{} {way}", span(shown.lengths().more().unsigned_abs())),
        None => format!("{} {way} in all", span(item.more_ns().unsigned_abs())),
    };
    let longer = if more { "longer" } else { "shorter" };
    let (way, late) = (by(longer), by(if more { "later" } else { "sooner" }));
    let object = if item.object.is_empty() { "others".to_owned() } else { shorten(&item.object, 80) };
    let peer = object.split_once(" to ").map_or(object.as_str(), |(_, peer)| peer);
    let on = |text: &str| if item.object.is_empty() { String::new() } else { format!("{text}{object}") };
    let call = &item.call;
    let what = match item.spent {
        Spent::Answer => format!("{peer} answers {who} {late}"),
        Spent::Lookup => {
            let (name, server) = object.rsplit_once(" at ").unwrap_or((object.as_str(), "a name server"));
            format!("the name server {server} answers {who} {late} for {name}")
        }
        Spent::Connect => format!("{who} waits {way} for its connections to {peer}"),
        Spent::Lock => format!("{who} waits {way} for {object}"),
        Spent::File | Spent::Call => format!("{who}: {call}{} takes {way}", on(" of ")),
        Spent::Room => format!("{who} waits {way} until {object} takes what it sends"),
        Spent::Input => format!("{who} waits {way} for input{}", on(" from ")),
        Spent::Cpu => format!("{who} computes {longer}"),
        Spent::CpuWait => format!("{who} waits {longer} for a CPU"),
        Spent::Fault => format!("{who} is blocked {longer} by page faults"),
        Spent::Inside => format!("{who} waits {way} for another task of the run{}", on(", through ")),
        Spent::Condition => format!("{who} waits {way} for other threads"),
        Spent::Event => format!("{who} waits {way} for events"),
        Spent::Child => format!("{who} waits {way} for its children"),
        Spent::Thread => format!("{who} waits {way} for its threads to end"),
        Spent::Request => format!("{who} waits {way} for requests{}", on(" to ")),
        Spent::Service => format!("{who} takes {way} to answer its clients{}", on(", ")),
        Spent::Sleep => format!("{who} sleeps {way}"),
        Spent::Signal => format!("{who} waits {way} for a signal"),
    };
    let mut facts = Vec::new();
    match each {
        Some(shown) if !item.spent.is_of_machine() => facts.push(shown.text()),
        _ => facts.push(before_after(item.totals())),
    }
    if number_differs && !item.spent.is_of_machine() {
        facts.push(how_often(counts));
    }
    let side = if more { "added" } else { "saved" };
    format!("{what} ({}), {:.0} % of the {side} time", facts.join("; "), share * 100.0)
}

/// Whose time it is, on what, before and after.
pub(super) fn short(item: &Item, pairing: &Pairing<'_>) -> String {
    let object = match item.object.as_str() {
        "" => item.call.clone(),
        object => format!("{} {}", item.call, shorten(object, 80)).trim().to_owned(),
    };
    let in_all = Shown::Quantile("in all", item.totals());
    let shown = telling(&item.lengths).unwrap_or(in_all).text();
    format!("{}: {} {object}: {shown}", who(item, pairing), item.spent.name())
}
