//! What was replayed or compared, and how close it came.

use super::kit::{Side, code, letter, letter_of, name, section, sentence, sides, sign, table, tone_class};
use crate::incident::words;
use crate::incident::{Compared, Incident, Role, Tone};
use crate::text::units;
use crate::verdict::{gate_text, how, number};
use ctrace_analysis::{Cause, Divergence, Line, Metric, Profile, Report, SideInfo, Verdict};
use maud::{Markup, html};
use std::fmt::Write as _;

/// Causes that are shown.
const CAUSES: usize = 12;

/// The section; `None` where nothing was compared and nothing is a replay.
pub(super) fn replay(incident: &Incident) -> Option<Markup> {
    if incident.compared.is_empty() {
        let first = sides(incident).find(|side| side.traced.role == Role::Replay)?;
        let body = html! {
            p { "This trace is one of a replay. It was not compared: " (code("ctrace report RECORDING --diff REPLAY")) " does that." }
            p { (units::plural(first.traced.trace.summary().map_or(0, |s| s.engine_calls), "call")) " of the engine's own are in it." }
        };
        return Some(section("replay", "Replay", "", &body));
    }
    let is_replay = incident.traces.iter().any(|t| t.role == Role::Replay);
    let title = if is_replay { "Replay" } else { "Comparison" };
    let body = html! { @for compared in incident.compared { (one(incident, compared)) } };
    Some(section("replay", title, "How close the other run came, metric by metric.", &body))
}

fn one(incident: &Incident, compared: &Compared) -> Markup {
    let report = compared.report;
    let Some(other) = sides(incident).find(|side| side.n == compared.b) else { return html! {} };
    let tone = crate::incident::tone_of(report.verdict);
    html! {
        div.comparison {
            h3 { (letter(other.n)) " against " (letter(0)) ": " (other.label()) }
            p class={"verdict-line " (tone_class(tone))} {
                (sign(tone)) b { (report.verdict.name()) } ": "
                @match report.reasons.first() {
                    Some(reason) => (sentence(reason)),
                    None => { "every gate passed over " (units::plural(report.a.compared, "operation")) },
                }
            }
            p.note {
                @match report.profile {
                    Profile::RealBinary => "Judged as another run of a real program: the same on the whole.",
                    _ => "Judged as a replay: everything that was recorded, again.",
                }
            }
            @if overlap(report) { p.verdict-line.care { (sign(Tone::Care)) "The two runs have nothing in common that could be compared." } }
            (metrics(other, &report.metrics))
            (causes(report))
            (warnings(report))
            @if let Some(divergence) = &report.first_divergence { (first_divergence(incident, other, divergence)) }
            (amounts(other, report))
        }
    }
}

/// Whether nothing was compared.
fn overlap(report: &Report) -> bool {
    report.verdict != Verdict::Match && (report.a.compared == 0 || report.b.compared == 0)
}

fn metrics(other: Side, metrics: &[Metric]) -> Markup {
    let columns = [
        ("metric", false),
        ("result", false),
        ("value", true),
        ("gate", true),
        ("taken over", true),
        ("evidence", false),
    ];
    let rows = html! {
        @for metric in metrics {
            @let (tone, result) = result(metric);
            tr class=(tone_class(tone)) {
                th scope="row" { (metric.name) }
                td.result.(tone_class(tone)) { (sign(tone)) (result) }
                td.number { (metric.value.map_or_else(|| "n/a".to_owned(), |v| number(v, metric.unit))) }
                td.number { (gate_text(metric)) }
                td.number { (units::count(metric.n)) }
                td { (sentence(&metric.note)) }
            }
        }
    };
    table(&format!("Metrics of trace {}", letter_of(other.n)), &columns, &rows)
}

fn result(metric: &Metric) -> (Tone, &'static str) {
    match (metric.value, metric.pass) {
        (None, _) => (Tone::Plain, "nothing to compare"),
        (_, Some(true)) => (Tone::Good, "passed"),
        (_, Some(false)) => (Tone::Bad, "missed"),
        (_, None) => (Tone::Plain, "for information"),
    }
}

fn causes(report: &Report) -> Markup {
    html! {
        @if !report.causes.is_empty() {
            h4 { "What explains the difference" }
            ol.causes {
                @for cause in report.causes.iter().take(CAUSES) { li { (cause_of(cause)) } }
            }
            (super::kit::more(report.causes.len().saturating_sub(CAUSES) as u64, "cause"))
        }
    }
}

fn cause_of(cause: &Cause) -> Markup {
    let amount = |a: &ctrace_analysis::Amount| {
        let mut text = format!("{} ×", units::count(a.count));
        for (what, ns) in [("in all", a.total_ns), ("p50", a.p50_ns), ("p99", a.p99_ns)] {
            if let Some(ns) = ns {
                let _ = write!(text, ", {what} {}", words::time(ns));
            }
        }
        if let Some(bytes) = a.bytes {
            let _ = write!(text, ", {}", units::bytes(bytes));
        }
        text
    };
    html! {
        (sentence(&cause.text))
        span.note {
            (cause.kind) " · before: " (amount(&cause.before)) " · after: " (amount(&cause.after))
            @if let Some(share) = cause.share { " · " (words::number(share * 100.0)) " % of what was added or saved" }
        }
    }
}

fn warnings(report: &Report) -> Markup {
    html! {
        @if !report.warnings.is_empty() {
            h4 { "What weakens the verdict" }
            ul.warnings { @for warning in &report.warnings { li { (sign(Tone::Care)) (sentence(warning)) } } }
        }
    }
}

fn first_divergence(incident: &Incident, other: Side, divergence: &Divergence) -> Markup {
    let first = sides(incident).next();
    let columns = [
        ("in", false),
        ("at A", true),
        (if other.n == 1 { "at B" } else { "at the other" }, true),
        ("operation", false),
    ];
    let rows = html! { @for line in &divergence.context { (context_line(first, other, line)) } };
    let at = |side: Side, ns: u64| side.at(side.traced.in_trace(ns), side.traced.in_trace(ns));
    html! {
        h4 { "Where they part first" }
        p {
            b { (how(divergence.kind)) } " in " (name(&divergence.role)) ": " (code(&divergence.operation))
            @if let Some(instead) = &divergence.instead { " → " (code(instead)) }
            @if let (Some(ns), Some(side)) = (divergence.a_ns, first) { ", at " (at(side, ns)) " of the recording" }
            @if let Some(ns) = divergence.b_ns { ", at " (at(other, ns)) " of the other run" }
        }
        @if !divergence.context.is_empty() { (table(&format!("The operations around it, trace {}", letter_of(other.n)), &columns, &rows)) }
    }
}

fn context_line(first: Option<Side>, other: Side, line: &Line) -> Markup {
    let (class, word) = match line.mark {
        '-' => ("only-a", "only in the recording: "),
        '+' => ("only-b", "only in the other run: "),
        _ => ("in-both", ""),
    };
    let at = |side: Side, ns: u64| side.at(side.traced.in_trace(ns), side.traced.in_trace(ns));
    html! {
        tr class=(class) {
            td.mark { span aria-hidden="true" { (line.mark) } span.unseen { (word) } }
            td.number { @if let (Some(ns), Some(side)) = (line.a_ns, first) { (at(side, ns)) } }
            td.number { @if let Some(ns) = line.b_ns { (at(other, ns)) } }
            td { (code(&line.text)) }
        }
    }
}

/// A number of a side.
type Amount = fn(&SideInfo) -> u64;

/// What was compared.
fn amounts(other: Side, report: &Report) -> Markup {
    let of: [(&str, Amount); 9] = [
        ("calls", |s| s.calls),
        ("compared one by one", |s| s.compared),
        ("counted only", |s| s.counted),
        ("the engine's own, left out", |s| s.engine),
        ("answered by the sandbox as recorded", |s| s.emulated),
        ("processes", |s| s.processes),
        ("threads", |s| s.threads),
        ("streams", |s| s.streams),
        ("first operation to last", |s| s.makespan_ns),
    ];
    let text =
        |name: &str, n: u64| if name == "first operation to last" { words::time(n) } else { units::count(n) };
    let rows = html! {
        @for (name, get) in of {
            tr {
                th scope="row" { (name) }
                td.number { (text(name, get(&report.a))) }
                td.number { (text(name, get(&report.b))) }
            }
        }
    };
    html! {
        details {
            summary { "What was compared" }
            (table(&format!("What was compared, trace {}", letter_of(other.n)), &[("what", false), ("recording", true), ("other run", true)], &rows))
        }
    }
}
