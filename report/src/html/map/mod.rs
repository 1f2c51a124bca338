//! The service map: a drawing, and the same as a table.

mod layout;

use super::kit::{Side, both_wide, digits, letter, more, name, peer, percent, section, sides, table};
use crate::incident::words::{self, short};
use crate::incident::{Incident, difference};
use crate::text::units;
use ctrace_analysis::picture::{Edge, Map, Node};
use layout::{BOX_HEIGHT, BOX_WIDTH, Layout, layout};
use maud::{Markup, html};
use std::fmt::Write as _;

/// Characters of a name in a box.
const IN_BOX: usize = 18;
/// Edges up to which all of them are labelled; of more only those that fail.
const LABELLED: usize = 14;
/// Width of a drawing that is legible when it is made as wide as the page.
const FITTED: f64 = 1_380.0;
/// Rows of the table.
const ROWS: usize = 120;

/// The section.
pub(super) fn map(incident: &Incident) -> Markup {
    let body = html! {
        (both_wide(incident, drawing))
        @if incident.traces.len() > 1 { (joint_table(incident)) } @else { (both_wide(incident, edges_table)) }
    };
    let lead = "Lines run from the end that connects to the one that accepts. The wider, the more bytes; dashes say that \
                connections failed, the shorter the more.";
    section("map", "Service map", lead, &body)
}

/// The nodes, at most as many as a map has, and the edges between them.
fn bounded(map: &Map) -> (&[Node], Vec<&Edge>) {
    let nodes = &map.nodes[..map.nodes.len().min(Map::MAX_NODES)];
    let edges = map.edges.iter().filter(|e| e.from < nodes.len() && e.to < nodes.len()).collect();
    (nodes, edges)
}

fn drawing(side: Side) -> Markup {
    let map = &side.traced.picture.map;
    let (nodes, edges) = bounded(map);
    if nodes.is_empty() {
        return html! { p.none { "Nobody talked to anybody." } };
    }
    let ends: Vec<(usize, usize)> = edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let places = layout(nodes.len(), &ends);
    let failing = edges.iter().filter(|edge| edge.failed > 0).count();
    let id = |what: &str| format!("map-{what}-{}", side.n);
    html! {
        div.scroll.map-box tabindex="0" role="region" aria-label=(side.titled("Drawing of the service map")) {
            svg.map.fitted[places.width <= FITTED] viewBox={"0 0 " (digits(places.width)) " " (digits(places.height))} width=(digits(places.width))
                height=(digits(places.height)) role="group" aria-labelledby={(id("title")) " " (id("desc"))} {
                title id=(id("title")) { (side.titled("Service map")) }
                desc id=(id("desc")) {
                    (units::plural(nodes.len() as u64, "end")) " and " (units::plural(edges.len() as u64, "line"))
                    " between them, of which " (failing) " have failures. The table below says the same."
                }
                @for (at, edge) in edges.iter().enumerate() {
                    (line(side, nodes, edge, &places, at, twins(&edges, at)))
                }
                @for (at, node) in nodes.iter().enumerate() { (box_of(side, node, places.nodes[at])) }
                @for (at, edge) in edges.iter().enumerate() {
                    @if edge.failed > 0 || edges.len() <= LABELLED { (label(&edges, &places, at, twins(&edges, at))) }
                }
            }
        }
        @if map.grouped > 0 { p.more { (units::plural(map.grouped, "end")) " are put together in groups." } }
    }
}

/// How many edges before this one are between the same ends: they are drawn beside each other.
fn twins(edges: &[&Edge], at: usize) -> usize {
    let same = |a: &Edge, b: &Edge| (a.from, a.to) == (b.from, b.to) || (a.to, a.from) == (b.from, b.to);
    edges[..at].iter().filter(|edge| same(edge, edges[at])).count()
}

/// The points that a line goes through.
fn points(edge: &Edge, places: &Layout, at: usize, twin: usize) -> Vec<(f64, f64)> {
    let aside = twin as f64 * 12.0;
    let middle = |n: usize| (places.nodes[n].0, places.nodes[n].1 + BOX_HEIGHT / 2.0 + aside);
    let (from, to) = (middle(edge.from), middle(edge.to));
    let is_right = to.0 > from.0;
    let is_left = to.0 < from.0;
    let mut points = vec![(if is_left { from.0 } else { from.0 + BOX_WIDTH }, from.1)];
    points.extend(places.bends[at].iter().map(|(x, y)| (*x, y + aside)));
    points.push((if is_right { to.0 } else { to.0 + BOX_WIDTH }, to.1));
    points
}

/// A curve through points, level where it meets them.
fn curve(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (n, (x, y)) in points.iter().enumerate() {
        if n == 0 {
            let _ = write!(path, "M{} {}", digits(*x), digits(*y));
            continue;
        }
        let (before_x, before_y) = points[n - 1];
        // Ends in the same column are connected by a bow on its right.
        let same = (x - before_x).abs() < 1.0;
        let bend = if same { 60.0 } else { (x - before_x) / 2.0 };
        let (first, second) = (before_x + bend, if same { x + bend } else { x - bend });
        let lift = if same && (y - before_y).abs() < 1.0 { 16.0 } else { 0.0 };
        let _ = write!(
            path,
            "C{} {} {} {} {} {}",
            digits(first),
            digits(before_y - lift),
            digits(second),
            digits(y + lift),
            digits(*x),
            digits(*y)
        );
    }
    path
}

/// Bytes in both directions.
const fn bytes(edge: &Edge) -> u64 {
    edge.sent_bytes.saturating_add(edge.received_bytes)
}

/// How much of it failed, in four steps, each of which has dashes of its own.
fn failing(edge: &Edge) -> usize {
    match (edge.failed, edge.failed as f64 / edge.count.max(1) as f64) {
        (0, _) => 0,
        (_, share) if share < 0.1 => 1,
        (_, share) if share < 0.5 => 2,
        _ => 3,
    }
}

fn line(side: Side, nodes: &[Node], edge: &Edge, places: &Layout, at: usize, twin: usize) -> Markup {
    let points = points(edge, places, at, twin);
    // A line of a kilobyte is thin, one of a gigabyte thick.
    let width = (((bytes(edge) + 1) as f64).log10() - 1.5).clamp(1.5, 8.0);
    let step = failing(edge);
    let head = if step > 0 { "url(#arrow-failing)" } else { "url(#arrow)" };
    html! {
        path.edge.{"failing-" (step)} d=(curve(&points)) stroke-width=(digits(width)) marker-end=(head) data-trace=(side.n) {
            title { (told(nodes, edge)) }
        }
    }
}

/// All about a line, in words.
fn told(nodes: &[Node], edge: &Edge) -> String {
    let end = |n: usize| nodes.get(n).map_or_else(String::new, |node| words::name(&node.name));
    let mut text = format!(
        "{} to {}: {} {}, {}",
        end(edge.from),
        end(edge.to),
        units::count(edge.count),
        edge.protocol,
        units::bytes(bytes(edge))
    );
    if edge.failed > 0 {
        let _ = write!(text, ", {} failed", units::count(edge.failed));
        if let Some(failure) = &edge.failure {
            let _ = write!(text, " ({})", words::name(failure));
        }
    }
    if let Some(p99) = edge.p99_ns {
        let _ = write!(text, ", p99 {}", words::time(p99));
    }
    text
}

/// The words on a line, what failed or else how much there was: beside the end at which fewer lines meet.
fn label(edges: &[&Edge], places: &Layout, at: usize, twin: usize) -> Markup {
    let edge = edges[at];
    let points = points(edge, places, at, twin);
    let [from, .., to] = points.as_slice() else { return html! {} };
    let leaving = edges.iter().filter(|other| other.from == edge.from || other.to == edge.from).count();
    let arriving = edges.iter().filter(|other| other.to == edge.to || other.from == edge.to).count();
    let (near, far) = if arriving <= leaving { (to, from) } else { (from, to) };
    // Where the line leaves the box: on its right, or on its left.
    let is_right = far.0 > near.0 || (far.0 - near.0).abs() < 1.0;
    let (x, anchor) = if is_right { (near.0 + 12.0, "start") } else { (near.0 - 14.0, "end") };
    let y = near.1 + twin as f64 * 24.0;
    let first = if edge.failed > 0 {
        let how = edge.failure.as_deref().map_or_else(|| "failed".to_owned(), in_box);
        format!("✕ {} of {} {how}", units::count(edge.failed), units::count(edge.count))
    } else {
        format!("{} × {}", units::count(edge.count), edge.protocol)
    };
    let second = edge.p99_ns.map(|p99| format!("p99 {}", words::time(p99)));
    html! {
        text class=(if edge.failed > 0 { "label label-failing" } else { "label" }) x=(digits(x)) y=(digits(y - 7.0))
            text-anchor=(anchor) { (first) }
        @if let Some(second) = second { text.label x=(digits(x)) y=(digits(y + 16.0)) text-anchor=(anchor) { (second) } }
    }
}

/// What an end is.
fn kind(node: &Node) -> String {
    let kind = match node.kind {
        "service" => "recorded",
        "peer" => "peer",
        "client" => "client",
        "name-server" => "name server",
        "unix" => "unix socket",
        "group" => "group",
        other => other,
    };
    if node.members > 1 {
        format!("{kind}, {} together", units::count(node.members))
    } else {
        kind.to_owned()
    }
}

fn box_of(side: Side, node: &Node, (x, y): (f64, f64)) -> Markup {
    let full = words::name(&node.name);
    let inside = html! {
        title { (full) ", " (kind(node)) }
        rect class={"node node-" (node.kind)} x=(digits(x)) y=(digits(y)) width=(digits(BOX_WIDTH)) height=(digits(BOX_HEIGHT))
            rx=(if node.kind == "service" { "3" } else { "14" }) {}
        text.node-name x=(digits(x + BOX_WIDTH / 2.0)) y=(digits(y + 20.0)) text-anchor="middle" { (in_box(&node.name)) }
        text.node-kind x=(digits(x + BOX_WIDTH / 2.0)) y=(digits(y + 36.0)) text-anchor="middle" { (kind(node)) }
    };
    match node.tgid {
        Some(tgid) => {
            html! { a.node-link href=(side.process_link(tgid)) data-tgid=(tgid) data-trace=(side.n) { (inside) } }
        }
        None => {
            html! { a.node-link href={"#peer=" (percent(&full))} data-peer=(full) data-trace=(side.n) { (inside) } }
        }
    }
}

/// A name as short as a box is wide.
fn in_box(text: &str) -> String {
    let short = short(text, IN_BOX);
    match short.rest {
        None => ended(&short.head, IN_BOX),
        Some((_, tail)) => format!("{}…{}", ended(&short.head, IN_BOX * 2 / 3), ended(&tail, IN_BOX / 3)),
    }
}

/// The first characters: what was spelled out is longer than it was.
fn ended(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        text.chars().take(most - 1).chain(['…']).collect()
    }
}

fn edges_table(side: Side) -> Markup {
    let (nodes, edges) = bounded(&side.traced.picture.map);
    if edges.is_empty() {
        return html! {};
    }
    let columns = [
        ("from", false),
        ("to", false),
        ("by", false),
        ("connections", true),
        ("failed", true),
        ("sent", true),
        ("received", true),
        ("p50", true),
        ("p99", true),
    ];
    let rows = html! { @for edge in edges.iter().take(ROWS) { (edge_row(side, nodes, edge)) } };
    html! {
        (table(&side.titled("Who talked to whom"), &columns, &rows))
        (more(edges.len().saturating_sub(ROWS) as u64, "line"))
    }
}

fn edge_row(side: Side, nodes: &[Node], edge: &Edge) -> Markup {
    let time = |ns: Option<u64>| ns.map_or_else(|| "–".to_owned(), words::time);
    html! {
        tr data-trace=(side.n) data-peer=(words::name(&nodes[edge.to].name)) {
            th scope="row" { (end(side, &nodes[edge.from])) }
            td { (end(side, &nodes[edge.to])) }
            td { (edge.protocol) }
            td.number { (units::count(edge.count)) }
            td.number.bad[edge.failed > 0] {
                @if edge.failed > 0 { "✕ " } (units::count(edge.failed))
                @if let Some(failure) = &edge.failure { span.note { (words::share(edge.failed, edge.count)) ", " (name(failure)) } }
            }
            td.number { (units::bytes(edge.sent_bytes)) }
            td.number { (units::bytes(edge.received_bytes)) }
            td.number { (time(edge.p50_ns)) }
            td.number { (time(edge.p99_ns)) }
        }
    }
}

fn end(side: Side, node: &Node) -> Markup {
    match node.tgid {
        Some(tgid) => side.process(&node.name, tgid),
        None => peer(&node.name),
    }
}

/// A line of the map in several traces.
struct Joint<'a> {
    from: &'a Node,
    to: &'a Node,
    edges: Vec<Option<&'a Edge>>,
}

/// The lines of all traces, by the names of their ends.
fn joint<'a>(incident: &Incident<'a>) -> Vec<Joint<'a>> {
    let mut all: Vec<Joint> = Vec::new();
    for (at, traced) in incident.traces.iter().enumerate() {
        let (nodes, edges) = bounded(&traced.picture.map);
        for edge in edges {
            let (from, to) = (&nodes[edge.from], &nodes[edge.to]);
            let same = |j: &&mut Joint| {
                let protocol = j.edges.iter().flatten().next().map(|e| e.protocol);
                j.edges[at].is_none()
                    && (&j.from.name, &j.to.name, protocol) == (&from.name, &to.name, Some(edge.protocol))
            };
            if let Some(known) = all.iter_mut().find(same) {
                known.edges[at] = Some(edge);
            } else {
                let mut edges = vec![None; incident.traces.len()];
                edges[at] = Some(edge);
                all.push(Joint { from, to, edges });
            }
        }
    }
    all
}

/// Lines of several traces and how they differ.
fn joint_table(incident: &Incident) -> Markup {
    let all = joint(incident);
    if all.is_empty() {
        return html! {};
    }
    let counts =
        |j: &Joint, of: fn(&Edge) -> u64| -> Vec<u64> { j.edges.iter().map(|e| e.map_or(0, of)).collect() };
    html! {
        div.scroll tabindex="0" role="region" aria-label="Who talked to whom" {
            table {
                caption { "Who talked to whom" }
                thead { tr {
                    th scope="col" { "from" } th scope="col" { "to" } th scope="col" { "by" }
                    @for what in ["connections", "failed", "bytes"] {
                        @for side in sides(incident) {
                            th.number scope="col" { (what) " " (letter(side.n)) }
                            @if side.n > 0 { th.number scope="col" { (letter(side.n)) " − " (letter(0)) } }
                        }
                    }
                } }
                tbody {
                    @for j in all.iter().take(ROWS) {
                        tr data-peer=(words::name(&j.to.name)) {
                            th scope="row" { (name(&j.from.name)) }
                            td { (name(&j.to.name)) }
                            td { (j.edges.iter().flatten().next().map_or("", |e| e.protocol)) }
                            (cells(&counts(j, |e| e.count), units::count))
                            (cells(&counts(j, |e| e.failed), units::count))
                            (cells(&counts(j, bytes), units::bytes))
                        }
                    }
                }
            }
        }
        (more(all.len().saturating_sub(ROWS) as u64, "line"))
    }
}

fn cells(values: &[u64], text: fn(u64) -> String) -> Markup {
    html! {
        @for (n, value) in values.iter().enumerate() {
            td.number { (text(*value)) }
            @if n > 0 { td.number.difference { (difference(values[0], *value, text)) } }
        }
    }
}
