//! What a page begins with: the verdict or the first finding, how far to trust it, and what changed.

use super::kit::{
    Column, Side, both, call, errno, letter, name, section, sentence, sides, sign, table, tone_class,
    two_way_bar,
};
use crate::incident::words;
use crate::incident::{Fact, Figure, Headline, Incident, Tone, facts, figures, headline, twin};
use crate::text::units;
use ctrace_analysis::Finding;
use ctrace_analysis::picture::{Change, PanelKind};
use maud::{Markup, html};

/// Findings below the first that are shown.
const FINDINGS: usize = 9;
/// Changes of a trace that are shown.
const CHANGES: usize = 12;

/// The verdict.
pub(super) fn verdict(incident: &Incident) -> Markup {
    let headline = headline(incident);
    let body = html! {
        div class={"headline " (tone_class(headline.tone))} {
            p.badge { span aria-hidden="true" { (headline.tone.sign()) } " " (word(&headline)) }
            p.sentence { (sentence(&headline.sentence)) }
            @if let (Some(finding), Some(side)) = (headline.finding, sides(incident).next()) {
                (about(side, finding))
            }
        }
        (read_with_care(incident))
        @if incident.traces.len() == 1 { (strip(&figures(incident))) }
        (others(incident, &headline))
        @if incident.traces.len() > 1 { (figures_table(&figures(incident))) }
        h3 { "How far to trust this" }
        (both(incident, |side| trust(&facts(incident, side.traced))))
    };
    section("verdict", "Verdict", "", &body)
}

/// What somebody must know about the files before anything else.
fn read_with_care(incident: &Incident) -> Markup {
    const ABOUT: [&str; 6] = ["file", "lost", "counted", "clock", "redaction", "replay of"];
    let told: Vec<(Side, Vec<Fact>)> = sides(incident)
        .map(|side| {
            let mut facts = facts(incident, side.traced);
            facts.retain(|f| matches!(f.tone, Tone::Care | Tone::Bad) && ABOUT.contains(&f.name));
            (side, facts)
        })
        .collect();
    html! {
        @for (side, facts) in told.iter().filter(|(_, facts)| !facts.is_empty()) {
            p.read-with-care {
                @if side.of_many { (letter(side.n)) " " }
                b { "Read with care. " }
                @for (n, fact) in facts.iter().enumerate() {
                    @if n > 0 { " · " }
                    (sign(fact.tone)) (fact.name) ": " bdi dir="ltr" { (fact.text) }
                }
            }
        }
    }
}

fn word(headline: &Headline) -> &'static str {
    match headline.word {
        "match" => "Match: the other run did the same",
        "deviated" => "Deviated: the other run did not do the same",
        "inconclusive" => "Inconclusive: it cannot be said",
        "cause" => "Cause",
        "warning" => "Warning",
        "note" => "Note",
        "calm" => "No finding",
        _ => "Doubt",
    }
}

/// When a finding was, how often, and what shows it.
fn about(side: Side, finding: &Finding) -> Markup {
    html! {
        p.about {
            (side.stretch(finding.from_ns, finding.to_ns))
            @if let Some(wall) = side.traced.wall_utc(finding.from_ns) {
                " · " span.wall data-utc=[side.traced.utc(finding.from_ns)] { (wall) }
            }
            @if finding.count > 1 { " · " (units::count(finding.count)) " times" }
            @if let Some(code) = &finding.errno { " · " (errno(code)) }
            @for id in finding.evidence.events.iter().take(3) { " · " (side.event(*id)) }
            @let with = began_with(side, finding);
            @if !with.is_empty() { br; "Began with it: " (with.join(", ")) }
        }
    }
}

fn began_with(side: Side, finding: &Finding) -> Vec<String> {
    let of = |rank: &u32| side.traced.account.findings.iter().find(|f| f.rank == *rank);
    let words = |other: &Finding| match &other.object {
        Some(object) => format!("{} ({})", other.kind.name(), words::name(object)),
        None => other.kind.name().to_owned(),
    };
    finding.evidence.with.iter().filter_map(of).map(words).collect()
}

/// The reasons and findings that are not the first sentence.
fn others(incident: &Incident, headline: &Headline) -> Markup {
    let reasons: Vec<&String> = incident
        .compared
        .iter()
        .flat_map(|compared| &compared.report.reasons)
        .filter(|reason| **reason != headline.sentence)
        .take(FINDINGS)
        .collect();
    html! {
        @if !reasons.is_empty() {
            h3 { "Further reasons" }
            ul.reasons { @for reason in reasons { li { (sentence(reason)) } } }
        }
        @if incident.traces.len() > 1 || headline.finding.is_some() {
            (both(incident, |side| findings(side, headline.finding)))
        }
    }
}

fn findings(side: Side, shown: Option<&Finding>) -> Markup {
    let telling = side.traced.telling();
    let is_shown = |f: &&&Finding| side.n == 0 && shown.is_some_and(|s| s.rank == f.rank);
    let rest: Vec<&&Finding> = telling.iter().filter(|f| !is_shown(f)).collect();
    html! {
        @if telling.is_empty() && side.of_many {
            p.none {
                @if side.traced.overview.doubts(None).is_empty() { "Nothing that went wrong stands out." }
                @else { "This file tells too little to say what went wrong." }
            }
        }
        @if !rest.is_empty() {
            @if !side.of_many { h3 { "What else went wrong" } }
            ol.findings {
                @for finding in rest.iter().take(FINDINGS) {
                    li data-from=(side.on_axis(finding.from_ns)) data-to=(side.on_axis(finding.to_ns)) data-trace=(side.n) {
                        (sign(Tone::of(finding.level))) b { (finding.level.name()) } " "
                        (sentence(&finding.sentence))
                        (about(side, finding))
                    }
                }
            }
            (super::kit::more(rest.len().saturating_sub(FINDINGS) as u64, "finding"))
        }
    }
}

/// The facts about a file.
fn trust(facts: &[Fact]) -> Markup {
    html! {
        dl.trust {
            @for fact in facts {
                div class={"fact " (tone_class(fact.tone))} {
                    dt { (sign(fact.tone)) (fact.name) }
                    dd { bdi dir="ltr" { (fact.text) } }
                }
            }
        }
    }
}

/// Figures of one trace; those that are 0 say nothing, but that nothing is lost.
fn strip(figures: &[Figure]) -> Markup {
    let value = |figure: &Figure| figure.values.first().cloned().unwrap_or_default();
    html! {
        dl.strip {
            @for figure in figures.iter().filter(|figure| value(figure) != "0" || figure.name == "lost events") {
                div { dt { (figure.name) } dd { (value(figure)) } }
            }
        }
    }
}

/// Figures of several traces and how they differ.
fn figures_table(figures: &[Figure]) -> Markup {
    let traces = figures.first().map_or(0, |f| f.values.len());
    html! {
        div.scroll tabindex="0" role="region" aria-label="Figures of the traces" {
            table.figures {
                caption { "Figures of the traces" }
                thead { tr {
                    th scope="col" { "trace" }
                    @for figure in figures { th.number scope="col" { (figure.name) } }
                } }
                tbody {
                    @for n in 0..traces {
                        tr {
                            th scope="row" { (letter(n)) }
                            @for figure in figures { td.number { (figure.values[n]) } }
                        }
                        @if n > 0 {
                            tr {
                                th scope="row" { (letter(n)) " − " (letter(0)) }
                                @for figure in figures { td.number.difference { (figure.differences[n]) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What a panel is called.
pub(super) const fn panel(kind: PanelKind) -> &'static str {
    match kind {
        PanelKind::Calls => "Calls",
        PanelKind::Latency => "Latency",
        PanelKind::Errors => "Errors",
        PanelKind::Connections => "Connections",
        PanelKind::Network => "Round trips and retransmits",
        PanelKind::Cpu => "CPU",
        PanelKind::Memory => "Memory",
        PanelKind::Pressure => "Pressure",
        PanelKind::Disk => "Disk latency",
        PanelKind::Backlog => "Accept queue",
        PanelKind::Counts => "Descriptors and tasks",
    }
}

/// What changed.
pub(super) fn changes(incident: &Incident) -> Markup {
    let body = both(incident, |side| changes_of(incident, side));
    section(
        "changes",
        "What changed",
        "Where a curve of the timeline moved to another level, the most telling first.",
        &body,
    )
}

fn changes_of(incident: &Incident, side: Side) -> Markup {
    let changes = &side.traced.picture.changes;
    if changes.is_empty() {
        return html! { p.none { "No curve changed its level for good." } };
    }
    let mut columns: Vec<Column> = vec![
        ("when", false),
        ("what", false),
        ("before", true),
        ("after", true),
        ("change", true),
        ("effect", false),
    ];
    let other = sides(incident).find(|other| other.n != side.n);
    if other.is_some() {
        columns.push((if side.n == 0 { "also in B" } else { "also in A" }, false));
    }
    let rows = html! {
        @for change in changes.iter().take(CHANGES) {
            tr data-from=(side.on_axis(change.at_ns)) data-to=(side.on_axis(change.at_ns)) data-trace=(side.n) {
                td { (side.at(change.at_ns, change.at_ns)) }
                th scope="row" {
                    (panel(change.panel)) " · " (curve(change))
                    span.note { (sentence(&change.text)) }
                }
                td.number { (words::value(change.before, change.unit)) }
                td.number { (words::value(change.after, change.unit)) }
                td.number { (ratio(change.before, change.after)) }
                td.effect { (two_way_bar(change.effect)) (words::effect(change.effect)) }
                @if let Some(other) = other {
                    td { @match twin(change, other.traced) {
                        Some(twin) => (other.at(twin.at_ns, twin.at_ns)),
                        None => span.absent { "no" },
                    } }
                }
            }
        }
    };
    let shown = changes.len().min(CHANGES);
    html! {
        (table(&side.titled("Changes of level"), &columns, &rows))
        (super::kit::more((changes.len() - shown) as u64, "change"))
    }
}

/// The name of a curve, which filters where it is that of an error.
fn curve(change: &Change) -> Markup {
    let is_errno = change.panel == PanelKind::Errors
        && change.curve.starts_with('E')
        && change.curve.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    if is_errno { errno(&change.curve) } else { name(&change.curve) }
}

/// How many times as much, or what else there is to say.
fn ratio(before: f64, after: f64) -> String {
    if before <= 0.0 && after > 0.0 {
        return "from none".to_owned();
    }
    if after <= 0.0 && before > 0.0 {
        return "to none".to_owned();
    }
    let ratio = after / before;
    match ratio {
        r if !r.is_finite() => String::new(),
        r if r >= 1.0 => format!("×{}", words::number(r)),
        r => format!("÷{}", words::number(1.0 / r)),
    }
}

/// A call and the error that it ended with.
pub(super) fn call_and_errno(of: &str, error: &str) -> Markup {
    html! { (call(of)) " → " (errno(error)) }
}
