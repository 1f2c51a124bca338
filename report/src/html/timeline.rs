//! The timeline: a place for the script's, and a drawing of each panel for print and for readers without the script.

use super::kit::{Side, both, line, more, rect, section, sentence, sign, table};
use super::top::panel;
use crate::incident::words;
use crate::incident::{Incident, Tone, after_start};
use crate::text::units;
use ctrace_analysis::Level;
use ctrace_analysis::picture::{Curve, Gap, Grid, Panel, Picture, Span, Unit};
use maud::{Markup, PreEscaped, html};

/// Points of a curve.
const POINTS: usize = 200;
/// Size of a drawing in its own coordinates; it is stretched to the page's width.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 60.0;
/// Curves of a panel; the script shows all.
const CURVES: usize = 8;
/// Rows of the table of marks.
const MARKS: usize = 100;
/// Limits that are so many times as high as everything else are told, not drawn.
const FAR: f64 = 4.0;

/// The section.
pub(super) fn timeline(incident: &Incident) -> Markup {
    let body = html! {
        div #filter {}
        @for side in super::kit::sides(incident) { (moved(side)) }
        @for side in super::kit::sides(incident) { div.timeline data-trace=(side.n) {} }
        div.timeline-static { (both(incident, drawn)) }
        (both(incident, marks))
        (both(incident, gaps))
    };
    let lead = "Everything on one time axis. Dashed lines are limits; hatched stretches lack events.";
    section("timeline", "Timeline", lead, &body)
}

/// Says so where the times of a trace are not those of the axis.
fn moved(side: Side) -> Markup {
    let (by_ns, is_later) = side.moved_ns();
    html! {
        @if by_ns > 0 {
            p.note {
                "The traces begin together on this axis: a moment of " (super::kit::letter(side.n)) " " (super::kit::name(side.traced.name)) " is shown " (words::time(by_ns))
                @if is_later { " later" } @else { " earlier" } " than it was there."
            }
        }
    }
}

fn drawn(side: Side) -> Markup {
    let picture = side.traced.picture;
    html! {
        @for panel in picture.panels.iter().filter(|panel| !panel.series.is_empty()) { (one(picture, panel)) }
        @if picture.panels.iter().any(|panel| !panel.series.is_empty()) { (ticks(picture)) }
        (nothing(picture))
    }
}

/// Times below the panels.
fn ticks(picture: &Picture) -> Markup {
    html! {
        div.ticks aria-hidden="true" {
            @for quarter in 0..5_u64 {
                span { (after_start(picture.grid.part_ns(quarter, 4))) }
            }
        }
    }
}

fn one(picture: &Picture, of: &Panel) -> Markup {
    let title = panel(of.kind);
    let mut units: Vec<Unit> = Vec::new();
    for curve in &of.series {
        if !units.contains(&curve.unit) {
            units.push(curve.unit);
        }
    }
    html! {
        div.panel {
            p.panel-name { (title) }
            @for unit in units { (plot(picture, title, unit, of.series.iter().filter(|c| c.unit == unit).collect())) }
        }
    }
}

/// Panels without curves, and why they have none.
fn nothing(picture: &Picture) -> Markup {
    let mut reasons: Vec<(&str, Vec<&'static str>)> = Vec::new();
    for of in picture.panels.iter().filter(|panel| panel.series.is_empty()) {
        let why = of.empty.as_deref().unwrap_or("nothing of it was recorded");
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, panels)) => panels.push(panel(of.kind)),
            None => reasons.push((why, vec![panel(of.kind)])),
        }
    }
    html! {
        @if !reasons.is_empty() {
            ul.nothing { @for (why, panels) in reasons { li { "No curve of " (panels.join(", ")) ": " (sentence(why)) } } }
        }
    }
}

/// Curves of one unit.
fn plot(picture: &Picture, title: &str, unit: Unit, mut curves: Vec<&Curve>) -> Markup {
    let hidden = curves.len().saturating_sub(CURVES);
    curves.sort_by_key(|curve| curve.is_limit);
    curves.truncate(CURVES);
    let most = |is_limit: bool| {
        curves.iter().filter(|c| c.is_limit == is_limit).map(|c| peak(c)).fold(0.0, f64::max)
    };
    let measured = most(false);
    let top = if most(true) <= measured * FAR { measured.max(most(true)) } else { measured };
    let top = if top > 0.0 { top * 1.05 } else { 1.0 };
    let mut shapes = String::new();
    for gap in &picture.gaps {
        shapes.push_str(&band(picture, "loss", gap.from_ns, gap.to_ns).into_string());
    }
    for span in picture.spans.iter().filter(|span| span.kind == "finding") {
        shapes.push_str(&band(picture, "span", span.from_ns, span.to_ns).into_string());
    }
    for (at, curve) in curves.iter().enumerate() {
        shapes.push_str(&drawing(&picture.grid, curve, at, top));
    }
    let told: Vec<String> = curves
        .iter()
        .map(|c| format!("{} up to {}", words::name(&c.name), words::value(peak(c), unit)))
        .collect();
    html! {
        figure {
            svg.plot viewBox={"0 0 " (WIDTH) " " (HEIGHT)} preserveAspectRatio="none" role="img"
                aria-label={(title) ": " (told.join(", "))} {
                (line("axis", 0.0, HEIGHT, WIDTH, HEIGHT))
                (PreEscaped(shapes))
            }
            figcaption {
                @for (at, curve) in curves.iter().enumerate() {
                    span.legend {
                        svg.swatch viewBox="0 0 20 8" width="20" height="8" aria-hidden="true" { (line(&class(curve, at), 0.0, 4.0, 20.0, 4.0)) }
                        " " (super::kit::name(&curve.name)) " ≤ " (words::value(peak(curve), unit))
                        @if curve.is_limit && peak(curve) > top { " (above)" }
                    }
                }
                @if hidden > 0 { span.legend { "and " (hidden) " more" } }
            }
        }
    }
}

/// The highest value.
fn peak(curve: &Curve) -> f64 {
    curve.values.iter().flatten().copied().filter(|v| v.is_finite()).fold(0.0, f64::max)
}

fn class(curve: &Curve, at: usize) -> String {
    if curve.is_limit { "curve limit".to_owned() } else { format!("curve curve-{}", at % CURVES) }
}

/// The curve as lines, each as long as values are known.
fn drawing(grid: &Grid, curve: &Curve, at: usize, top: f64) -> String {
    let per_point = curve.values.len().div_ceil(POINTS).max(1);
    let points: Vec<Option<f64>> = curve
        .values
        .chunks(per_point)
        .map(|chunk| chunk.iter().flatten().copied().filter(|v| v.is_finite()).reduce(f64::max))
        .collect();
    // A point stands in the middle of its bins, the last of which may reach beyond the trace.
    let x = |n: usize| {
        let edge = |bin: usize| grid.share(grid.start_ns(bin));
        f64::midpoint(edge(n * per_point), edge((n + 1) * per_point)) * WIDTH
    };
    let mut out = String::new();
    for run in runs(&points) {
        let coordinates: Vec<String> = run
            .iter()
            .map(|(n, value)| {
                let y = HEIGHT - (value / top).clamp(-0.02, 1.02) * HEIGHT;
                format!("{},{}", super::kit::digits(x(*n)), super::kit::digits(y))
            })
            .collect();
        // A point alone would not be seen.
        let points = if let [only] = coordinates.as_slice() {
            format!("{only} {only}")
        } else {
            coordinates.join(" ")
        };
        out.push_str(&html! { polyline class=(class(curve, at)) points=(points) {} }.into_string());
    }
    out
}

/// Stretches of values that are known.
fn runs(points: &[Option<f64>]) -> Vec<Vec<(usize, f64)>> {
    let mut runs: Vec<Vec<(usize, f64)>> = Vec::new();
    let mut is_open = false;
    for (n, value) in points.iter().enumerate() {
        match (value, is_open) {
            (Some(value), true) => runs.last_mut().into_iter().for_each(|run| run.push((n, *value))),
            (Some(value), false) => runs.push(vec![(n, *value)]),
            (None, _) => {}
        }
        is_open = value.is_some();
    }
    runs
}

/// A stretch of time over the whole height.
fn band(picture: &Picture, class: &str, from_ns: u64, to_ns: u64) -> Markup {
    let at = |ns: u64| picture.grid.share(ns) * WIDTH;
    let from = at(from_ns);
    rect(class, from, 0.0, (at(to_ns) - from).max(1.0), HEIGHT)
}

/// What is written over the timeline.
fn marks(side: Side) -> Markup {
    let spans = &side.traced.picture.spans;
    if spans.is_empty() {
        return html! {};
    }
    let rows = html! { @for span in spans.iter().take(MARKS) { (mark(side, span)) } };
    html! {
        details.marks open[spans.len() <= 10] {
            summary { "Marks on the timeline" }
            (table(&side.titled("Marks on the timeline"), &[("when", false), ("what", false), ("words", false)], &rows))
        }
        (more(spans.len().saturating_sub(MARKS) as u64, "mark"))
    }
}

fn mark(side: Side, span: &Span) -> Markup {
    let level = span
        .rank
        .and_then(|rank| side.traced.account.findings.iter().find(|f| f.rank == rank))
        .map(|f| f.level);
    html! {
        tr data-from=(side.on_axis(span.from_ns)) data-to=(side.on_axis(span.to_ns)) data-trace=(side.n) {
            td { (side.stretch(span.from_ns, span.to_ns)) }
            th scope="row" {
                @match level {
                    Some(level) if level > Level::Note => { (sign(Tone::of(level))) (level.name()) },
                    _ => (span.kind),
                }
            }
            td { (sentence(&span.text)) }
        }
    }
}

/// Stretches over which events are missing.
fn gaps(side: Side) -> Markup {
    let gaps = &side.traced.picture.gaps;
    if gaps.is_empty() {
        return html! {};
    }
    let columns = [("when", false), ("events", true), ("why", false)];
    let rows = html! { @for gap in gaps.iter().take(MARKS) { (gap_row(side, gap)) } };
    html! {
        (table(&side.titled("Missing events"), &columns, &rows))
        (more(gaps.len().saturating_sub(MARKS) as u64, "gap"))
    }
}

fn gap_row(side: Side, gap: &Gap) -> Markup {
    let why = match gap.kind {
        "lost" => "lost",
        "counted" => "counted only, not recorded one by one",
        "unread" => "cannot be read",
        "cut" => "not written",
        other => other,
    };
    html! {
        tr data-from=(side.on_axis(gap.from_ns)) data-to=(side.on_axis(gap.to_ns)) data-trace=(side.n) {
            td { (side.stretch(gap.from_ns, gap.to_ns)) }
            td.number { (units::count(gap.count)) }
            td { (why) @if !gap.cause.is_empty() { ": " (sentence(&gap.cause)) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_interrupted_where_nothing_is_known() {
        let points = [Some(1.0), Some(2.0), None, Some(3.0), None];
        let runs = runs(&points);
        assert_eq!(runs, [vec![(0, 1.0), (1, 2.0)], vec![(3, 3.0)]]);
    }
}
