//! A report of an incident as one page of HTML that loads nothing.
//!
//! Everything that is to be read is written here, in Rust, and is there without the script: words, tables, the tree, the map.
//! The script ([`script`]) draws what moves, from one object of JSON ([`data`]). Every word of a trace may be hostile: it
//! becomes text by maud, after [`crate::escape`] has made it visible and [`crate::incident::words`] has bounded it. No
//! element has a style or a handler of its own, and the policy in the page's head lets nothing else run or load.

mod containers;
mod data;
mod end;
mod hash;
mod kit;
mod map;
mod processes;
mod replay;
mod script;
mod tables;
#[cfg(test)]
mod tests;
mod timeline;
mod top;

use crate::incident::{Headline, Incident, headline, words};
use crate::text::units;
use data::{AMOUNTS, Amount, Row};
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// How a file begins that [`page`] wrote.
pub const HTML_BEGINS: &str = "<!DOCTYPE html><!-- ctrace report -->";

/// Size that a page keeps to where it can, bytes for each trace.
const AIM: usize = 5 << 20;
/// Size above which no page is: some mailers and trackers take no more.
const MOST: usize = 25 << 20;

/// The page's own style, and that of what its script draws.
const STYLE: &str = concat!(include_str!("style.css"), include_str!("script/charts.css"));

/// A page, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The HTML.
    pub html: String,
    /// Ids of its sections, in order.
    pub sections: Vec<&'static str>,
    /// What it leaves out, in words.
    pub caps: Vec<String>,
}

/// Writes the page of an incident.
pub fn page(incident: &Incident) -> Page {
    within(incident, (AIM * incident.traces.len()).min(MOST), MOST)
}

fn within(incident: &Incident, aim: usize, most: usize) -> Page {
    let rows: Vec<Vec<Row>> = incident.traces.iter().map(data::rows).collect();
    let (sections, bodies) = sections(incident, &rows);
    // What is read comes first: the data get the room that it leaves.
    let read: usize =
        bodies.iter().map(|body| body.0.len()).sum::<usize>() + STYLE.len() + script::script().len();
    let (data, amount) = fitting(incident, &rows, read, aim, most);
    let caps = caps(incident, &rows, amount, aim);
    let appendix = end::appendix(incident, &caps);
    Page { html: shell(incident, &sections, &bodies, &appendix, &data), sections, caps }
}

/// As many data as there is room for: to the aim, if at least the third largest amount fits; else to the bound.
fn fitting(incident: &Incident, rows: &[Vec<Row>], read: usize, aim: usize, most: usize) -> (String, Amount) {
    let mut last = None;
    for (at, amount) in AMOUNTS.into_iter().enumerate() {
        let data = data::json(incident, rows, amount);
        let room = if at < 3 { aim } else { most };
        let fits = read + data.len() <= room;
        last = Some((data, amount));
        if fits {
            break;
        }
    }
    last.unwrap_or_else(|| (String::from("null"), AMOUNTS[0]))
}

/// What is not in the page, in words.
fn caps(incident: &Incident, rows: &[Vec<Row>], amount: Amount, aim: usize) -> Vec<String> {
    let mut caps = Vec::new();
    for (traced, rows) in incident.traces.iter().zip(rows) {
        let of = if incident.traces.len() > 1 {
            format!(" of {}", words::name(traced.name))
        } else {
            String::new()
        };
        let picture = traced.picture;
        let events = rows.len().min(amount.events) as u64;
        if picture.sample.of > events {
            caps.push(format!(
                "events{of}: {} of {} travel in this file",
                units::count(events),
                units::count(picture.sample.of)
            ));
        }
        let lanes = picture.lanes.rows.len().saturating_sub(amount.lanes) as u64 + picture.lanes.left_out;
        for (what, count) in [
            ("lanes of tasks", lanes),
            ("kinds of failures", picture.errors.left_out),
            ("slow calls", picture.slow_calls.left_out),
            ("connections", picture.connections.left_out),
            ("processes", picture.processes.left_out),
            ("ends of the service map, put together in groups", picture.map.grouped),
            ("long stretches of tasks, drawn as shares", picture.lanes.rows.iter().map(|l| l.left_out).sum()),
        ] {
            if count > 0 {
                caps.push(format!("{what}{of}: {} left out", units::count(count)));
            }
        }
    }
    if amount != AMOUNTS[0] {
        caps.push(format!(
            "events and lanes were trimmed to keep this file near {}",
            units::bytes(aim as u64)
        ));
    }
    caps
}

/// The sections but the last one, and their ids.
fn sections(incident: &Incident, rows: &[Vec<Row>]) -> (Vec<&'static str>, Vec<Markup>) {
    let all = [
        ("verdict", Some(top::verdict(incident))),
        ("changes", Some(top::changes(incident))),
        ("timeline", Some(timeline::timeline(incident))),
        ("lanes", Some(tables::lanes(incident))),
        ("map", Some(map::map(incident))),
        ("errors", Some(tables::errors_table(incident))),
        ("slow", Some(tables::slow(incident))),
        ("connections", Some(tables::connections(incident))),
        ("processes", Some(processes::processes(incident))),
        ("events", Some(end::events(incident, rows))),
        ("replay", replay::replay(incident)),
        ("reproduce", Some(end::reproduce(incident))),
    ];
    let (mut ids, bodies): (Vec<_>, Vec<_>) =
        all.into_iter().filter_map(|(id, body)| Some((id, body?))).unzip();
    ids.push("appendix");
    (ids, bodies)
}

/// Words for a section in the table of contents.
fn title(id: &str) -> &'static str {
    match id {
        "verdict" => "Verdict",
        "changes" => "What changed",
        "timeline" => "Timeline",
        "lanes" => "Tasks",
        "map" => "Service map",
        "errors" => "Errors",
        "slow" => "Slowest calls",
        "connections" => "Connections",
        "processes" => "Processes",
        "events" => "Events",
        "replay" => "Replay and comparison",
        "reproduce" => "Reproduce",
        _ => "Appendix",
    }
}

fn shell(
    incident: &Incident,
    sections: &[&'static str],
    bodies: &[Markup],
    appendix: &Markup,
    data: &str,
) -> String {
    let script = script::script();
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        hash::source(&script),
        hash::source(STYLE)
    );
    let title_of = words::name(incident.title);
    let headline = headline(incident);
    let html = html! {
        (DOCTYPE) (PreEscaped("<!-- ctrace report -->"))
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content={"ctrace " (incident.version)};
                meta name="description" content=(described(&headline));
                title { (title_of) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body class=[(incident.traces.len() > 1).then_some("pair")] {
                a.skip href="#verdict" { "Skip to the verdict" }
                (defs())
                header.top {
                    div {
                        p.brand { "ctrace report" }
                        h1 { bdi.name { (title_of) } }
                    }
                    button #theme type="button" hidden { "Light or dark" }
                }
                div.page {
                    nav.contents aria-label="Contents" {
                        ol { @for id in sections { li { a href={"#" (id)} { (title(id)) } } } }
                    }
                    main {
                        @for body in bodies { (body) }
                        (appendix)
                    }
                }
                script type="application/json" id="data" { (PreEscaped(data)) }
                script type="module" { (PreEscaped(script)) }
            }
        }
    };
    html.into_string()
}

/// The first sentence, for whoever shows a link to the page.
fn described(headline: &Headline) -> String {
    format!("{}: {}", headline.word, words::sentence(&headline.sentence))
}

/// Patterns and heads of arrows that drawings use.
fn defs() -> Markup {
    html! {
        svg.defs width="0" height="0" aria-hidden="true" focusable="false" {
            defs {
                pattern #hatch width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect.hatch-ground width="6" height="6" {}
                    line.hatch-line x1="0" y1="0" x2="0" y2="6" {}
                }
                marker #arrow viewBox="0 0 10 10" refX="9" refY="5" markerWidth="11" markerHeight="11" markerUnits="userSpaceOnUse" orient="auto" {
                    path.arrow d="M0 1L10 5L0 9z" {}
                }
                marker #arrow-failing viewBox="0 0 10 10" refX="9" refY="5" markerWidth="13" markerHeight="13" markerUnits="userSpaceOnUse" orient="auto" {
                    path.arrow-failing d="M0 1L10 5L0 9z" {}
                }
            }
        }
    }
}
