//! Tables of a page: errors, slow calls, connections, and the summary of tasks.

use super::kit::{Side, both_wide, errno, letter, more, name, parts_bar, peer, section, sides, spark, table};
use super::top::call_and_errno;
use crate::incident::words;
use crate::incident::{ErrorPair, Incident, difference, errors};
use crate::text::units;
use ctrace_analysis::picture::{ConnectionRow, ErrorRow, Lane, SlowCall};
use maud::{Markup, html};

/// Rows of a table that are shown.
const ROWS: usize = 100;

/// Calls that failed.
pub(super) fn errors_table(incident: &Incident) -> Markup {
    let pairs = errors(incident.traces);
    let left_out: u64 = incident.traces.iter().map(|t| t.picture.errors.left_out).sum();
    let body = if pairs.is_empty() {
        html! { p.none { "No call failed." } }
    } else {
        html! {
            div.scroll tabindex="0" role="region" aria-label="Calls that failed" {
                table.errors {
                    caption { "Calls that failed" }
                    thead { tr {
                        th scope="col" { "call and error" }
                        @if incident.traces.len() > 1 {
                            @for side in sides(incident) {
                                th.number scope="col" { (letter(side.n)) }
                                @if side.n > 0 { th.number scope="col" { (letter(side.n)) " − " (letter(0)) } }
                            }
                        } @else {
                            th.number scope="col" { "times" }
                        }
                        th.number scope="col" { "of calls" }
                        th scope="col" { "over time" }
                        th scope="col" { "first and last" }
                        th scope="col" { "against" }
                        th scope="col" { "by" }
                    } }
                    tbody { @for pair in pairs.iter().take(ROWS) { (error_row(incident, pair)) } }
                }
            }
            (more(left_out + pairs.len().saturating_sub(ROWS) as u64, "kind"))
        }
    };
    let lead = "Failures that break things come first; dimmed ones are those of healthy programs, which look around or wait.";
    section("errors", "Errors", lead, &body)
}

fn error_row(incident: &Incident, pair: &ErrorPair) -> Markup {
    let Some(any) = pair.any() else { return html! {} };
    let counts = pair.counts();
    let present: Vec<(Side, &ErrorRow)> =
        sides(incident).zip(&pair.rows).filter_map(|(side, row)| row.map(|row| (side, row))).collect();
    html! {
        tr class=[any.is_benign().then_some("benign")] data-call=(words::name(&any.call)) data-errno=(words::name(&any.errno))
            data-from=[present.iter().map(|(side, row)| side.on_axis(row.first_ns)).min()]
            data-to=[present.iter().map(|(side, row)| side.on_axis(row.last_ns)).max()] {
            th scope="row" {
                (call_and_errno(&any.call, &any.errno))
                span.note { (name(&any.meaning)) @if let Some(share) = pair.by_design() { ", " (share) } }
            }
            @for (n, count) in counts.iter().enumerate() {
                td.number { (units::count(*count)) }
                @if n > 0 { td.number.difference { (difference(counts[0], *count, units::count)) } }
            }
            td.number {
                @for (_, row) in &present { div { (words::share(row.count, row.calls)) " of " (units::count(row.calls)) } }
            }
            td { @for (side, row) in &present { div.spark-line { (mark(*side)) (spark(&row.spark)) } } }
            td {
                @for (side, row) in &present {
                    div { (mark(*side)) (side.stretch(row.first_ns, row.last_ns)) " " (side.event(row.event)) }
                }
            }
            td { (most(any.on.iter().map(|(on, n)| (peer(on), *n)))) }
            td { (most(any.roles.iter().map(|(role, n)| (name(role), *n)))) }
        }
    }
}

/// The letter of a trace, where there are several.
fn mark(side: Side) -> Markup {
    html! { @if side.of_many { (letter(side.n)) " " } }
}

fn most(items: impl Iterator<Item = (Markup, u64)>) -> Markup {
    html! { ul.plain-list { @for (item, n) in items { li { (item) span.times { " × " (units::count(n)) } } } } }
}

/// The calls that took longest.
pub(super) fn slow(incident: &Incident) -> Markup {
    let body = both_wide(incident, |side| {
        let calls = &side.traced.picture.slow_calls;
        if calls.rows.is_empty() {
            return html! { p.none { "No call took long." } };
        }
        let columns = [
            ("took", true),
            ("call", false),
            ("on", false),
            ("waited for", false),
            ("task", false),
            ("began", false),
            ("event", false),
        ];
        let most = calls.rows.iter().map(|call| call.duration_ns).max().unwrap_or(0);
        let rows = html! { @for call in calls.rows.iter().take(ROWS) { (slow_row(side, call, most)) } };
        html! {
            (table(&side.titled("Slowest calls"), &columns, &rows))
            (more(calls.left_out + calls.rows.len().saturating_sub(ROWS) as u64, "call"))
        }
    });
    section(
        "slow",
        "Slowest calls",
        "Without waits for nothing in particular, such as an idle server's.",
        &body,
    )
}

fn slow_row(side: Side, call: &SlowCall, most: u64) -> Markup {
    html! {
        tr data-from=(side.on_axis(call.t_ns)) data-to=(side.on_axis(call.t_ns.saturating_add(call.duration_ns)))
            data-trace=(side.n) data-tid=(call.tid)
            data-tgid=(call.tgid) data-call=(words::name(&call.call)) data-errno=[call.errno.as_deref().map(words::name)]
            data-event=(call.event) {
            td.number {
                (words::time(call.duration_ns)) @if call.is_open { span.note { "not over" } }
                (parts_bar(&[("part-time", call.duration_ns)], most))
            }
            th scope="row" {
                (super::kit::call(&call.call))
                @if let Some(error) = &call.errno { " → " (errno(error)) }
            }
            td { @if let Some(on) = &call.on { (name(on)) } }
            td { @if let Some(on) = &call.waited_for { (name(on)) } @else { span.absent { "not known" } } }
            td { (side.task(&call.role, call.tid)) }
            td { (side.at(call.t_ns, call.t_ns.saturating_add(call.duration_ns))) }
            td { (side.event(call.event)) }
        }
    }
}

/// Connections.
pub(super) fn connections(incident: &Incident) -> Markup {
    let body = both_wide(incident, |side| {
        let all = &side.traced.picture.connections;
        if all.rows.is_empty() {
            return html! { p.none { "There were no connections." } };
        }
        let columns = [
            ("other end", false),
            ("of", false),
            ("slowest answer", true),
            ("connect", true),
            ("round trip", true),
            ("sent", true),
            ("received", true),
            ("resent", true),
            ("from and to", false),
            ("end", false),
        ];
        let rows = html! { @for row in all.rows.iter().take(ROWS) { (connection_row(side, row)) } };
        html! {
            (table(&side.titled("Connections, the slowest first"), &columns, &rows))
            (more(all.left_out + all.rows.len().saturating_sub(ROWS) as u64, "connection"))
        }
    });
    section("connections", "Connections", "", &body)
}

fn connection_row(side: Side, row: &ConnectionRow) -> Markup {
    let time = |ns: Option<u64>| ns.map_or_else(|| "–".to_owned(), words::time);
    let is_bad = !matches!(row.ended, "open" | "closed" | "closed by peer");
    html! {
        tr data-from=(side.on_axis(row.from_ns)) data-to=(side.on_axis(row.to_ns)) data-trace=(side.n) data-tgid=[row.tgid]
            data-peer=(words::name(&row.peer)) data-event=[row.event] {
            th scope="row" {
                span.direction title=(if row.is_outgoing { "it connected" } else { "it accepted" }) {
                    (if row.is_outgoing { "→" } else { "←" })
                    span.unseen { (if row.is_outgoing { " to " } else { " from " }) }
                }
                " " (peer(&row.peer))
                span.note { (row.protocol) @if !row.local.is_empty() { ", own end " (name(&row.local)) } }
            }
            td { @match row.tgid {
                Some(tgid) => (side.process(&row.role, tgid)),
                None => (name(&row.role)),
            } }
            td.number { @match row.slowest_answer {
                Some((ns, at)) => { (words::time(ns)) " " (side.at(at, at.saturating_add(ns))) },
                None => "–",
            } }
            td.number { (time(row.connect_ns)) }
            td.number { (time(row.rtt_ns)) }
            td.number { (units::bytes(row.sent_bytes)) }
            td.number { (units::bytes(row.received_bytes)) }
            td.number.care[row.retransmits > 0] { (units::count(row.retransmits)) }
            td { (side.stretch(row.from_ns, row.to_ns)) }
            td class=[is_bad.then_some("bad")] { @if is_bad { "✕ " } (row.ended) @if let Some(id) = row.event { " " (side.event(id)) } }
        }
    }
}

/// Lanes: the script's, and what they add up to.
pub(super) fn lanes(incident: &Incident) -> Markup {
    let body = both_wide(incident, |side| {
        let lanes = &side.traced.picture.lanes;
        let columns = [
            ("task", false),
            ("role", false),
            ("calls", true),
            ("ran", true),
            ("waited for a CPU", true),
            ("blocked", true),
            ("its time", false),
            ("there", false),
        ];
        let rows = html! { @for lane in lanes.rows.iter().take(ROWS) { (lane_row(side, lane)) } };
        html! {
            div.lanes data-trace=(side.n) {}
            @if lanes.rows.is_empty() {
                p.none { "No task did anything." }
            } @else {
                details.figures-of-tasks open[lanes.rows.len() <= 12] {
                    summary { "Tasks in figures" }
                    (table(&side.titled("Time of tasks"), &columns, &rows))
                    p.key {
                        svg.swatch viewBox="0 0 10 10" width="10" height="10" aria-hidden="true" { (super::kit::rect("part-ran", 0.0, 0.0, 10.0, 10.0)) }
                        " running  "
                        svg.swatch viewBox="0 0 10 10" width="10" height="10" aria-hidden="true" { (super::kit::rect("part-waited", 0.0, 0.0, 10.0, 10.0)) }
                        " waiting for a CPU  "
                        svg.swatch viewBox="0 0 10 10" width="10" height="10" aria-hidden="true" { (super::kit::rect("part-blocked", 0.0, 0.0, 10.0, 10.0)) }
                        " blocked"
                    }
                }
                (more(lanes.left_out + lanes.rows.len().saturating_sub(ROWS) as u64, "task"))
            }
        }
    });
    section(
        "lanes",
        "Tasks",
        "What each task did with its time: ran, was ready and waited for a CPU, or was blocked.",
        &body,
    )
}

fn lane_row(side: Side, lane: &Lane) -> Markup {
    let whole = lane.to_ns.saturating_sub(lane.from_ns);
    html! {
        tr data-tid=(lane.tid) data-tgid=(lane.tgid) data-from=(side.on_axis(lane.from_ns)) data-to=(side.on_axis(lane.to_ns))
             data-trace=(side.n) {
            th scope="row" { (side.task(&lane.comm, lane.tid)) }
            td { (name(&lane.role)) }
            td.number { (units::count(lane.calls)) }
            @match lane.spent {
                Some([ran, waited, blocked]) => {
                    td.number { (words::time(ran)) }
                    td.number { (words::time(waited)) }
                    td.number { (words::time(blocked)) }
                    td { (parts_bar(&[("part-ran", ran), ("part-waited", waited), ("part-blocked", blocked)], whole)) }
                }
                None => {
                    td.number { "–" } td.number { "–" } td.number { "–" }
                    td { span.absent { "not recorded" } }
                }
            }
            td { (side.stretch(lane.from_ns, lane.to_ns)) }
        }
    }
}
