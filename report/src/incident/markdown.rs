//! A report of an incident as Markdown, for pull requests and tickets: the same words as the page, the first rows of its
//! tables, and lines of blocks for its curves.

use super::{
    Compared, Incident, Role, Tone, Traced, after_start, commands, difference, errors, facts, figures,
    headline, words,
};
use crate::Paint;
use crate::markdown::{Markdown, Part};
use crate::text::units;
use crate::verdict::{divergence_lines, gate_text, mark, number};
use ctrace_analysis::picture::{Curve, PanelKind};

/// How a file begins that [`markdown`] wrote.
pub const MARKDOWN_BEGINS: &str = "<!-- ctrace report -->";

/// The most bytes: comments of pull requests take no more than 65,536 characters.
const MOST: usize = 60_000;
/// Rows of each table, tried until the text fits.
const ROWS: [usize; 6] = [25, 15, 10, 5, 2, 0];
/// Characters of a word that are shown.
const WORD: usize = 140;
/// Blocks in a sparkline.
const BLOCKS: usize = 40;

/// Writes the report.
pub fn markdown(incident: &Incident) -> String {
    let mut text = String::new();
    for rows in ROWS {
        text = with(incident, rows);
        if text.len() <= MOST {
            break;
        }
    }
    text
}

/// A text that is built from parts, and outlives them.
fn word(text: &str) -> String {
    words::short(text, WORD).text()
}

fn with(incident: &Incident, rows: usize) -> String {
    let mut out = Markdown::default();
    out.comment("ctrace report");
    let headline = headline(incident);
    out.heading(&[Part::Word(&word(incident.title))]);
    let sentence = words::sentence(&headline.sentence);
    out.paragraph(&[
        Part::Ours(headline.tone.sign()),
        Part::Ours(" **"),
        Part::Ours(headline.word),
        Part::Ours("**: "),
        Part::Word(&sentence),
    ]);
    findings(&mut out, incident, &headline.sentence, rows);
    trust(&mut out, incident);
    if incident.traces.len() > 1 {
        figures_of(&mut out, incident);
    }
    for compared in incident.compared {
        comparison(&mut out, incident, compared);
    }
    changes(&mut out, incident, rows);
    curves(&mut out, incident, rows);
    errors_of(&mut out, incident, rows);
    for (n, traced) in incident.traces.iter().enumerate() {
        let name = (incident.traces.len() > 1).then(|| named(n, traced));
        slow(&mut out, traced, name.as_deref(), rows);
        connections(&mut out, traced, name.as_deref(), rows);
    }
    out.part("Reproduce");
    out.code(&commands(incident).into_iter().map(|command| command.line).collect::<Vec<_>>());
    out.finish()
}

/// The letter of a trace with its name.
fn named(n: usize, traced: &Traced) -> String {
    format!("{}: {} {}", letter(n), traced.role.name(), word(traced.name))
}

const fn letter(n: usize) -> char {
    (b'A' + if n < 25 { n as u8 } else { 25 }) as char
}

fn findings(out: &mut Markdown, incident: &Incident, first: &str, rows: usize) {
    for (n, traced) in incident.traces.iter().enumerate() {
        let told: Vec<(Tone, &'static str, String, String)> = traced
            .telling()
            .iter()
            .filter(|f| f.sentence != first)
            .take(rows.min(9))
            .map(|f| {
                let wall = traced.wall_utc(f.from_ns).map_or_else(String::new, |wall| format!(" ({wall})"));
                let when = format!("{}{wall}", after_start(f.from_ns));
                (Tone::of(f.level), f.level.name(), words::sentence(&f.sentence), when)
            })
            .collect();
        if told.is_empty() {
            continue;
        }
        if incident.traces.len() > 1 {
            let name = named(n, traced);
            out.paragraph(&[Part::Ours("Findings in "), Part::Word(&name)]);
        }
        let items: Vec<Vec<Part>> = told
            .iter()
            .map(|(tone, level, sentence, when)| {
                vec![
                    Part::Ours(tone.sign()),
                    Part::Ours(" "),
                    Part::Ours(level),
                    Part::Ours(": "),
                    Part::Word(sentence),
                    Part::Ours(" from "),
                    Part::Word(when),
                ]
            })
            .collect();
        out.items(&items);
    }
}

fn trust(out: &mut Markdown, incident: &Incident) {
    for (n, traced) in incident.traces.iter().enumerate() {
        let facts = facts(incident, traced);
        let rows: Vec<Vec<Part>> = facts
            .iter()
            .map(|fact| vec![Part::Ours(fact.tone.sign()), Part::Ours(fact.name), Part::Word(&fact.text)])
            .collect();
        out.part("How far to trust this");
        if incident.traces.len() > 1 {
            let name = named(n, traced);
            out.paragraph(&[Part::Word(&name)]);
        }
        out.wide_table(&["", "", "what is known"], &rows);
    }
}

fn figures_of(out: &mut Markdown, incident: &Incident) {
    let figures = figures(incident);
    out.part("Figures");
    let mut head = vec!["figure", "A"];
    let mut rows: Vec<Vec<Part>> =
        figures.iter().map(|f| vec![Part::Ours(f.name), Part::Word(&f.values[0])]).collect();
    for n in 1..incident.traces.len() {
        head.extend([COLUMNS[n.min(COLUMNS.len() - 1)], DIFFERENCES[n.min(COLUMNS.len() - 1)]]);
        for (row, figure) in rows.iter_mut().zip(&figures) {
            row.extend([Part::Word(&figure.values[n]), Part::Word(&figure.differences[n])]);
        }
    }
    out.wide_table(&head, &rows);
}

/// Names of columns for traces.
const COLUMNS: [&str; 6] = ["A", "B", "C", "D", "E", "other"];
const DIFFERENCES: [&str; 6] = ["", "B − A", "C − A", "D − A", "E − A", "other − A"];

fn comparison(out: &mut Markdown, incident: &Incident, compared: &Compared) {
    let (Some(traced), report) = (incident.traces.get(compared.b), compared.report) else { return };
    out.part(if traced.role == Role::Replay { "Replay" } else { "Comparison" });
    let name = named(compared.b, traced);
    out.paragraph(&[
        Part::Word(&name),
        Part::Ours(" against A: **"),
        Part::Ours(report.verdict.name()),
        Part::Ours("**"),
    ]);
    let reasons: Vec<String> = report.reasons.iter().take(9).map(|r| words::sentence(r)).collect();
    out.list(reasons.iter().map(String::as_str));
    let cells: Vec<[String; 4]> = report
        .metrics
        .iter()
        .map(|m| {
            let value = m.value.map_or_else(|| "n/a".to_owned(), |v| number(v, m.unit));
            [value, gate_text(m), units::count(m.n), words::sentence(&m.note)]
        })
        .collect();
    let rows: Vec<Vec<Part>> = report
        .metrics
        .iter()
        .zip(&cells)
        .map(|(m, [value, gate, n, note])| {
            vec![
                Part::Ours(mark(m).1),
                Part::Ours(m.name),
                Part::Word(value),
                Part::Word(gate),
                Part::Word(n),
                Part::Word(note),
            ]
        })
        .collect();
    out.wide_table(&["", "metric", "value", "gate", "n", ""], &rows);
    let warnings: Vec<String> = report.warnings.iter().take(9).map(|w| words::sentence(w)).collect();
    if !warnings.is_empty() {
        out.list(warnings.iter().map(String::as_str));
    }
    if let Some(divergence) = &report.first_divergence {
        let lines: Vec<String> =
            divergence_lines(divergence, Paint::none()).iter().map(|l| words::sentence(l)).collect();
        out.code(&lines);
    }
}

fn changes(out: &mut Markdown, incident: &Incident, rows: usize) {
    let all: Vec<[String; 5]> = incident
        .traces
        .iter()
        .enumerate()
        .flat_map(|(n, traced)| {
            traced.picture.changes.iter().take(rows.min(8)).map(move |change| (n, change))
        })
        .map(|(n, change)| {
            let at = after_start(change.at_ns);
            let at = if incident.traces.len() > 1 { format!("{} {at}", letter(n)) } else { at };
            [
                at,
                word(&change.curve),
                words::value(change.before, change.unit),
                words::value(change.after, change.unit),
                words::effect(change.effect).to_owned(),
            ]
        })
        .collect();
    if !all.is_empty() {
        out.part("What changed");
        out.wide_table(&["when", "curve", "before", "after", "effect"], &cells(&all));
    }
}

fn cells<const N: usize>(rows: &[[String; N]]) -> Vec<Vec<Part<'_>>> {
    rows.iter().map(|row| row.iter().map(|cell| Part::Word(cell)).collect()).collect()
}

fn curves(out: &mut Markdown, incident: &Incident, rows: usize) {
    let mut all: Vec<[String; 3]> = Vec::new();
    for (n, traced) in incident.traces.iter().enumerate() {
        for panel in &traced.picture.panels {
            let most = match panel.kind {
                PanelKind::Calls | PanelKind::Latency | PanelKind::Errors => 3,
                _ => 1,
            };
            for curve in panel.series.iter().filter(|curve| !curve.is_limit).take(most) {
                let peak =
                    curve.values.iter().flatten().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
                if peak > 0.0 {
                    let mark =
                        if incident.traces.len() > 1 { format!("{} ", letter(n)) } else { String::new() };
                    all.push([
                        format!("{mark}{}", word(&curve.name)),
                        blocks(curve, peak),
                        words::value(peak, curve.unit),
                    ]);
                }
            }
        }
    }
    all.truncate(rows * 2);
    if !all.is_empty() {
        out.part("Timeline");
        out.wide_table(&["curve", "from begin to end", "highest"], &cells(&all));
    }
}

/// A curve as blocks.
fn blocks(curve: &Curve, peak: f64) -> String {
    let per_block = curve.values.len().div_ceil(BLOCKS).max(1);
    let heights: Vec<u32> = curve
        .values
        .chunks(per_block)
        .map(|chunk| chunk.iter().flatten().copied().filter(|v| v.is_finite()).fold(0.0, f64::max))
        .map(|value| if value > 0.0 { (value / peak * 1e6).ceil() as u32 } else { 0 })
        .collect();
    words::spark(&heights)
}

fn errors_of(out: &mut Markdown, incident: &Incident, rows: usize) {
    out.part("Errors");
    let pairs = errors(incident.traces);
    let mut all: Vec<[String; 5]> = Vec::new();
    for pair in pairs.iter().filter(|pair| pair.any().is_some_and(|row| !row.is_benign())).take(rows) {
        let Some(row) = pair.any() else { continue };
        let counts = pair.counts();
        let mut count: Vec<String> = counts.iter().map(|n| units::count(*n)).collect();
        if let [a, .., b] = counts.as_slice() {
            count.push(format!("({})", difference(*a, *b, units::count)));
        }
        let count =
            count.join(" · ") + &pair.by_design().map_or_else(String::new, |share| format!(", {share}"));
        all.push([
            format!("{} → {}", word(&row.call), word(&row.errno)),
            count,
            words::spark(&row.spark),
            format!("{} to {}", after_start(row.first_ns), after_start(row.last_ns)),
            row.on.first().map_or_else(String::new, |(on, _)| word(on)),
        ]);
    }
    if all.is_empty() {
        out.paragraph(&[Part::Ours("No call failed other than by design.")]);
    } else {
        out.wide_table(&["call and error", "times", "over time", "first and last", "against"], &cells(&all));
    }
}

fn slow(out: &mut Markdown, traced: &Traced, name: Option<&str>, rows: usize) {
    let all: Vec<[String; 5]> = traced
        .picture
        .slow_calls
        .rows
        .iter()
        .take(rows.min(10))
        .map(|call| {
            [
                words::time(call.duration_ns),
                word(&call.call),
                call.on.as_deref().map_or_else(String::new, word),
                call.waited_for.as_deref().map_or_else(String::new, word),
                format!("{} {}", word(&call.role), after_start(call.t_ns)),
            ]
        })
        .collect();
    if !all.is_empty() {
        out.part("Slowest calls");
        named_table(out, name, &["took", "call", "on", "waited for", "who and when"], &all);
    }
}

fn connections(out: &mut Markdown, traced: &Traced, name: Option<&str>, rows: usize) {
    let all: Vec<[String; 5]> = traced
        .picture
        .connections
        .rows
        .iter()
        .take(rows.min(10))
        .map(|row| {
            [
                format!("{} {}", if row.is_outgoing { "→" } else { "←" }, word(&row.peer)),
                word(&row.role),
                row.slowest_answer.map_or_else(String::new, |(ns, _)| words::time(ns)),
                format!(
                    "{} sent, {} received",
                    units::bytes(row.sent_bytes),
                    units::bytes(row.received_bytes)
                ),
                row.ended.to_owned(),
            ]
        })
        .collect();
    if !all.is_empty() {
        out.part("Connections");
        named_table(out, name, &["other end", "of", "slowest answer", "bytes", "end"], &all);
    }
}

fn named_table<const N: usize>(
    out: &mut Markdown,
    name: Option<&str>,
    head: &[&'static str],
    rows: &[[String; N]],
) {
    if let Some(name) = name {
        out.paragraph(&[Part::Word(name)]);
    }
    out.wide_table(head, &cells(rows));
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{HOSTILE, Made, with};
    use super::*;
    use pulldown_cmark::{Event, Options, Parser, Tag};

    /// What a text becomes: headings, tables, code spans; anything else that is markup is an error.
    fn read(text: &str) -> (usize, usize, Vec<String>) {
        let (mut headings, mut tables, mut code, mut html) = (0, 0, Vec::new(), 0);
        for event in Parser::new_ext(text, Options::all()) {
            match event {
                Event::Start(Tag::Heading { .. }) => headings += 1,
                Event::Start(Tag::Table(_)) => tables += 1,
                Event::Code(word) => code.push(word.into_string()),
                Event::Html(_) => html += 1,
                Event::Start(Tag::Link { .. } | Tag::Image { .. } | Tag::Emphasis | Tag::BlockQuote(_))
                | Event::InlineHtml(_)
                | Event::Rule => panic!("{event:?} in {text}"),
                _ => {}
            }
        }
        assert_eq!(html, 1, "the comment alone: {text}");
        (headings, tables, code)
    }

    #[test]
    fn a_ticket_begins_with_the_finding_and_ends_with_the_commands() {
        let made = Made::incident(0);
        let text = with("Checkout", &[&made], markdown);
        let (headings, tables, code) = read(&text);
        assert!(headings >= 7 && tables >= 5, "{text}");
        assert!(text.starts_with(MARKDOWN_BEGINS));
        let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words} in {text}"));
        assert!(
            at("150 times") < at("How far to trust") && at("How far to trust") < at("What changed"),
            "{text}"
        );
        assert!(
            at("What changed") < at("▁") && at("### Errors") < at("ctrace events incident.ctr --at"),
            "{text}"
        );
        assert!(code.iter().any(|word| word == "complete and intact"), "{code:?}");
    }

    #[test]
    fn a_pair_has_its_metrics_and_differences() {
        let (a, b) = (Made::incident(0), Made::incident(0).replayed());
        let text = with("pair", &[&a, &b], markdown);
        read(&text);
        for words in ["**match**", "| ✔ | coverage |", "B − A", "ctrace diff incident.ctr 'replay of it.ctr'"]
        {
            assert!(text.contains(words), "{words} in {text}");
        }
    }

    #[test]
    fn a_hostile_trace_makes_neither_markup_nor_a_long_text() {
        let long = format!("{HOSTILE}{}", "`|\u{202e}<!--".repeat(100_000));
        for name in [HOSTILE, &long] {
            let made = Made::named(name);
            let text = with(name, &[&made, &made], markdown);
            read(&text);
            assert!(text.len() <= MOST, "{}", text.len());
            assert!(!text.chars().any(|c| c != '\n' && crate::escape::is_hostile(c)));
        }
    }
}
