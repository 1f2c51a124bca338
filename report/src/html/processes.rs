//! Processes as a tree.

use super::containers::containers;
use super::kit::{Side, both_wide, code, more, name, section, table};
use crate::incident::Incident;
use crate::incident::words;
use crate::text::units;
use ctrace_analysis::picture::ProcessRow;
use maud::{Markup, html};

/// Rows that are shown.
const ROWS: usize = 200;
/// Words of a command line that are shown.
const WORDS: usize = 24;
/// Levels that are indented further than the one above.
const DEEPEST: usize = 8;

/// The tree of processes.
pub(super) fn processes(incident: &Incident) -> Markup {
    let body = both_wide(incident, |side| {
        let all = &side.traced.picture.processes;
        if all.rows.is_empty() {
            return html! { p.none { "There were no processes." } };
        }
        let columns = [
            ("process", false),
            ("end", false),
            ("there", false),
            ("threads", true),
            ("calls", true),
            ("failed", true),
            ("CPU", true),
        ];
        let order = order(&all.rows);
        let rows =
            html! { @for (at, depth) in order.iter().take(ROWS) { (row(side, &all.rows[*at], *depth)) } };
        html! {
            (containers(side))
            (table(&side.titled("Processes, each below the one that started it"), &columns, &rows))
            (more(all.left_out + all.rows.len().saturating_sub(ROWS) as u64, "row"))
        }
    });
    section("processes", "Processes", "", &body)
}

/// Positions of rows with their depth, each behind its parent.
pub(super) fn order(rows: &[ProcessRow]) -> Vec<(usize, usize)> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); rows.len()];
    let mut roots = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        // A parent stands before its children: what says otherwise would make a circle.
        match row.parent.filter(|parent| *parent < at) {
            Some(parent) => children[parent].push(at),
            None => roots.push(at),
        }
    }
    let mut order = Vec::with_capacity(rows.len());
    let mut waiting: Vec<(usize, usize)> = roots.into_iter().rev().map(|at| (at, 0)).collect();
    while let Some((at, depth)) = waiting.pop() {
        order.push((at, depth));
        waiting.extend(children[at].iter().rev().map(|child| (*child, depth + 1)));
    }
    order
}

fn row(side: Side, process: &ProcessRow, depth: usize) -> Markup {
    let argv: Vec<String> = process.argv.iter().take(WORDS).map(|word| words::name(word)).collect();
    let cut = process.argv.len().saturating_sub(WORDS);
    let line = if argv.is_empty() { words::name(&process.exe) } else { argv.join(" ") };
    html! {
        tr data-tgid=(process.tgid) data-from=(side.on_axis(process.from_ns)) data-to=[process.to_ns.map(|to_ns| side.on_axis(to_ns))]
            data-trace=(side.n) {
            th scope="row" class={"depth depth-" (depth.min(DEEPEST))} {
                span.unseen { "level " (depth + 1) ": " }
                @if depth > 0 { span.branch aria-hidden="true" { "└ " } }
                (side.process(&process.comm, process.tgid))
                @if process.alike > 1 { span.times { " × " (units::count(process.alike)) " alike" } }
                span.note {
                    (code(&line))
                    @if cut > 0 { " and " (cut) " more words" }
                    @if let Some(container) = &process.container { " in container " (name(container)) }
                    @if process.role != process.comm { " as " (name(&process.role)) }
                }
            }
            td class=[process.is_failed.then_some("bad")] { @match &process.ended {
                Some(ended) => { @if process.is_failed { "✕ " } (name(ended)) },
                None => span.absent { "lived on" },
            } }
            td { @match process.to_ns {
                Some(to) => (side.stretch(process.from_ns, to)),
                None => { "from " (side.at(process.from_ns, process.from_ns)) },
            } }
            td.number { (units::count(process.threads)) }
            td.number { (units::count(process.calls)) }
            td.number.care[process.failed > 0] { (units::count(process.failed)) }
            td.number { (process.cpu_ns.map_or_else(|| "–".to_owned(), words::time)) }
        }
    }
}
