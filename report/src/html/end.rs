//! What a page ends with: events, commands, and everything that somebody may want to know about the file.

use super::data::Row;
use super::kit::{Side, both, code, name, section, sentence, table};
use crate::incident::{Incident, after_start, commands};
use crate::text::units;
use ctrace_format::Class;
use maud::{Markup, html};

/// Events that are there without the script.
const EVENTS: usize = 40;

/// Events behind the figures.
pub(super) fn events(incident: &Incident, rows: &[Vec<Row>]) -> Markup {
    let body = html! {
        div #events-list {
            (both(incident, |side| events_of(side, rows.get(side.n).map_or(&[], Vec::as_slice))))
        }
    };
    section(
        "events",
        "Events",
        "A choice of the events behind the figures: around findings, slow calls, and the first failures of each kind.",
        &body,
    )
}

fn events_of(side: Side, rows: &[Row]) -> Markup {
    if rows.is_empty() {
        return html! { p.none { "No event was chosen." } };
    }
    // Those that failed say most.
    let mut shown: Vec<&Row> = rows.iter().filter(|row| row.errno.is_some()).take(EVENTS / 2).collect();
    let others = rows.iter().filter(|row| row.errno.is_none()).take(EVENTS - shown.len());
    shown.extend(others);
    shown.sort_by_key(|row| row.t);
    let lines = html! {
        @for row in &shown {
            tr data-event=(row.id) data-from=(side.on_axis(row.t)) data-to=(side.on_axis(row.t.saturating_add(row.d))) data-tid=(row.tid) data-tgid=(row.tgid)
                data-call=[(!row.call.is_empty()).then_some(&row.call)] data-errno=[row.errno.as_ref()]
                data-peer=[row.peer.as_ref()] data-trace=(side.n) {
                td { a.event href=(side.event_link(&row.id)) data-event=(row.id) data-trace=(side.n) { (after_start(row.t)) } }
                td { (side.task(&row.comm, row.tid)) }
                td { (code(&row.text)) }
            }
        }
    };
    html! {
        (table(&side.titled("Events"), &[("began", false), ("task", false), ("event", false)], &lines))
        p.more {
            (units::count(shown.len() as u64)) " of " (units::count(rows.len() as u64)) " in this file, chosen from "
            (units::count(side.traced.picture.sample.of)) "."
        }
    }
}

/// Commands that show the same.
pub(super) fn reproduce(incident: &Incident) -> Markup {
    let body = html! {
        dl.commands {
            @for command in commands(incident) {
                dt { (command.what) }
                dd { pre tabindex="0" { code { (crate::escape::line(&command.line)) } } }
            }
        }
    };
    section("reproduce", "Reproduce", "Each line can be pasted into a shell beside the files.", &body)
}

/// The appendix.
pub(super) fn appendix(incident: &Incident, caps: &[String]) -> Markup {
    let body = html! {
        h3 { "Left out of this page" }
        @if caps.is_empty() { p.none { "Nothing." } }
        @else { ul.caps { @for cap in caps { li { (cap) } } } }
        (both(incident, about))
        h3 { "Terms" }
        dl.glossary {
            @for (term, meaning) in GLOSSARY { div { dt { (term) } dd { (meaning) } } }
        }
        p.note { "Made by ctrace " (incident.version) ". The page loads nothing and sends nothing." }
    };
    section("appendix", "Appendix", "", &body)
}

fn about(side: Side) -> Markup {
    let trace = side.traced.trace;
    let header = trace.header();
    let host = &header.host;
    // The log of another tool does not tell them.
    let is_known = crate::text::info::log_of(host).is_none();
    let facts = html! {
        @if is_known {
            (row("host name", &host.hostname)) (row("kernel", &host.kernel)) (row("architecture", &host.arch))
            (row("CPUs", &host.cpus.to_string())) (row("memory", &units::bytes(host.memory_bytes)))
        } @else { (row("host", "not known")) }
        @for (key, value) in host.facts.iter().take(MANY) { (row(key, value)) }
    };
    let header_rows = html! {
        (row("file", &side.traced.path.to_string_lossy()))
        (row("SHA-256", side.traced.sha256.unwrap_or("none: it was read from a stream")))
        (row("size", &format!("{} on disk, {} decoded", units::bytes(trace.file_bytes()), units::bytes(trace.decoded_bytes()))))
        (row("identity", &format!("{:016x}", trace.identity())))
        (row("began", side.traced.utc(0).as_deref().unwrap_or("not known")))
        (row("began, ns since boot", &units::count(header.start_boottime_ns)))
        (row("tick", &format!("{} ns", header.tick_ns)))
        (row("written by", &header.writer)) (row("redaction", &header.redaction))
    };
    let counts = html! {
        @for (class, n) in trace.counts() {
            tr { th scope="row" { (if *class == Class::Syscall { "calls" } else { class.name() }) } td.number { (units::count(*n)) } }
        }
    };
    let number = [("what", false), ("number", true)];
    html! {
        (table(&side.titled("The host"), &[("fact", false), ("value", false)], &facts))
        (table(&side.titled("The file"), &[("fact", false), ("value", false)], &header_rows))
        (super::containers::pod(side))
        (table(&side.titled("Events of the file"), &number, &counts))
        @if let Some(summary) = trace.summary().filter(|s| !s.redacted.is_empty()) {
            @let rows = html! { @for (rule, n) in summary.redacted.iter().take(MANY) {
                tr { th scope="row" { (name(rule)) } td.number { (units::count(*n)) } }
            } };
            (table(&side.titled("Values that were masked"), &number, &rows))
        }
        @if !header.blind.is_empty() {
            h4 { "Not seen, and why" }
            ul { @for blind in header.blind.iter().take(MANY) { li { (sentence(blind)) } } }
        }
        @if !trace.damage().is_empty() {
            h4 { "Damage" }
            ul { @for damage in trace.damage().iter().take(MANY) { li { (sentence(&crate::text::damage(damage))) } } }
        }
    }
}

/// Rows of lists that a file may make long.
const MANY: usize = 60;

fn row(key: &str, value: &str) -> Markup {
    html! { tr { th scope="row" { (name(key)) } td { (sentence(value)) } } }
}

const GLOSSARY: &[(&str, &str)] = &[
    ("before, after", "Medians of a curve up to a change and from it on."),
    (
        "effect",
        "Cliff's delta: how sure it is that a value after a change is larger than one before; below 0.147 negligible, 0.33 small, \
         0.474 medium, else large.",
    ),
    ("p50, p99", "Durations that half, and all but a hundredth, do not exceed."),
    ("by design", "Failures that correct programs meet while they look around, wait, or are interrupted."),
    ("blocked", "Not running and not ready to: in a call, or until a page is there."),
    ("waited for a CPU", "Ready to run while others ran."),
    ("throttled", "Held back by a CPU quota."),
    ("pressure", "Share of time in which tasks lacked something (PSI)."),
    ("lost", "Events that the recorder saw and could not keep."),
    ("counted", "Calls of which only the number was kept, to disturb the program less."),
    (
        "cause, warning, note",
        "A cause explains an incident by itself; a warning should not be, or follows from one; healthy programs have notes, too.",
    ),
    ("role", "What a task is, whatever its number: its program and place, the same in another run."),
    ("coverage", "Part of the recorded operations that the other run did too."),
    ("semantic", "Part of them that ended as recorded: value, error, bytes."),
    ("alignment", "Part of both runs that stands in the same order."),
    ("dfg", "Likeness of what directly follows what."),
    ("drift", "How far the other run's operations are from their recorded times."),
    ("forced", "Waits that a replay ended itself, since nothing else did."),
    ("replay engine", "The part of ctrace that makes the recorded calls again; its own calls are left out."),
];
