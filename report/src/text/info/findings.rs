//! The first lines: what went wrong, the cause first.

use super::{Info, doubts};
use crate::text::when::{self, Zone};
use crate::text::{decode, units};
use crate::{Paint, Style};
use ctrace_analysis::{Account, Exited, Finding, Kind, Level};
use ctrace_format::State;

/// Findings that are said at the top; the others are in `--json`.
const SHOWN: usize = 3;

/// The findings in at most three sentences, and whatever else began with the first. Where nothing stands out, it says so,
/// unless the file tells too little for that to mean anything: then it says why.
pub(super) fn lines(info: &Info, paint: Paint) -> Vec<String> {
    let none = Vec::new();
    let findings = info.account.map_or(&none, |account| &account.findings);
    let start_realtime_ns = info.trace.header().start_realtime_ns;
    let telling: Vec<&Finding> = findings.iter().filter(|f| f.level > Level::Note).collect();
    let notes: Vec<&Finding> = findings.iter().filter(|f| f.level == Level::Note).collect();
    let mut lines = Vec::new();
    let shown = if telling.is_empty() { &notes } else { &telling };
    // Where nobody did anything, the call that everybody is in is what there is to tell.
    let hangs = notes.first().is_some_and(|note| note.kind == Kind::Hang);
    let little: Vec<String> = info.overview.doubts(info.calls).iter().map(doubts::text).collect();
    if telling.is_empty() && !little.is_empty() {
        lines.push(paint.paint(Style::Yellow, &format!("this file tells little: {}", little.join("; "))));
    } else if telling.is_empty() && !hangs && info.account.is_some() {
        let so_far = if info.trace.state() == State::Live { " so far" } else { "" };
        lines.push(paint.paint(Style::Green, &format!("nothing that went wrong stands out{so_far}")));
    }
    for finding in shown.iter().take(SHOWN) {
        lines.push(sentence(finding, start_realtime_ns, info.zone, paint));
        let with: Vec<String> = finding
            .evidence
            .with
            .iter()
            .filter_map(|rank| findings.iter().find(|f| f.rank == *rank))
            .filter(|other| !shown.iter().take(SHOWN).any(|s| s.rank == other.rank))
            .map(|other| {
                let object = other.object.as_deref().map_or_else(String::new, |o| format!(" ({o})"));
                decode::plain(format!("{}{object}", other.kind.name()).as_bytes())
            })
            .collect();
        if let Some(id) = finding.evidence.events.first().filter(|_| finding.rank == 1) {
            lines.push(paint.paint(
                Style::Dim,
                &format!("             see: ctrace events {} --at {id}", info.file.display()),
            ));
        }
        if finding.rank == 1 && !with.is_empty() {
            lines.push(paint.paint(Style::Dim, &format!("             began with it: {}", with.join(", "))));
        }
    }
    let more = telling.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.push(paint.paint(
            Style::Dim,
            &format!("             {} more: --json lists them", units::count(more as u64)),
        ));
    }
    if !telling.is_empty() && !little.is_empty() {
        lines.push(paint.paint(Style::Yellow, &format!("             of this file: {}", little.join("; "))));
    }
    lines
}

fn sentence(finding: &Finding, start_realtime_ns: u64, zone: Zone, paint: Paint) -> String {
    let style = match finding.level {
        Level::Cause => Style::Red,
        Level::Warning => Style::Yellow,
        Level::Note => Style::Dim,
    };
    let level = finding.level.name();
    let wall = when::time_of_day(start_realtime_ns.saturating_add(finding.from_ns), zone);
    let when = paint.paint(Style::Dim, &format!("[{}]", wall.get(..12).unwrap_or(&wall)));
    let text = decode::plain(finding.sentence.as_bytes());
    format!("{} {text} {when}", paint.paint(style, &format!("{level:<12}")))
}

/// How processes ended that did not end well.
pub(super) fn exits(account: &Account) -> String {
    const KINDS: usize = 6;
    let mut kinds: Vec<(String, u64)> = Vec::new();
    for exit in &account.exits {
        let text = exit_text(exit);
        match kinds.iter_mut().find(|(known, _)| *known == text) {
            Some((_, count)) => *count += 1,
            None => kinds.push((text, 1)),
        }
    }
    let more = kinds.len().saturating_sub(KINDS);
    let mut parts: Vec<String> = kinds
        .into_iter()
        .take(KINDS)
        .map(|(text, count)| if count > 1 { format!("{} × {text}", units::count(count)) } else { text })
        .collect();
    if more > 0 {
        parts.push(format!("{more} more kinds"));
    }
    parts.join(" · ")
}

fn exit_text(exit: &Exited) -> String {
    let comm = decode::plain(exit.comm.as_bytes());
    match (exit.code, &exit.signal) {
        (Some(code), _) => format!("{comm} with status {code}"),
        (None, Some(signal)) => {
            format!("{comm} by {signal}{}", if exit.core { " (core dumped)" } else { "" })
        }
        (None, None) => comm,
    }
}
