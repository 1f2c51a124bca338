//! What is written over the timeline: findings, markers, triggers, jumps of a clock, programs that began and ended.

use super::{Grid, Span};
use crate::Account;
use crate::clock::{Jump, Jumps};
use crate::findings::words;
use ctrace_format::{ClockAnchor, DumpReason, Marker, Process, ProcessKind, Trace};

/// Spans of one kind that are told.
const MAX_OF_KIND: usize = 200;
const MAX_EXECS: usize = 100;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Spans {
    markers: Vec<Span>,
    execs: Vec<Span>,
    exits: Vec<Span>,
    clock: Jumps,
}

fn moment(t_ns: u64, kind: &'static str, text: String) -> Span {
    Span { from_ns: t_ns, to_ns: t_ns, kind, rank: None, text }
}

impl Spans {
    pub(super) fn marker(&mut self, marker: &Marker, trace: &Trace) {
        if self.markers.len() < MAX_OF_KIND {
            self.markers.push(moment(marker.t_ns, "marker", words::text(trace.str(marker.text))));
        }
    }

    pub(super) fn anchor(&mut self, anchor: ClockAnchor) {
        self.clock.add(anchor);
        self.clock.found.truncate(MAX_OF_KIND);
    }

    pub(super) fn process(&mut self, event: &Process, comm: &str, trace: &Trace) {
        match &event.kind {
            ProcessKind::Exec { path, .. } if self.execs.len() < MAX_EXECS => {
                let path = words::text(trace.str(*path));
                let text = if path.is_empty() { format!("{comm} began") } else { format!("{path} began") };
                self.execs.push(moment(event.t_ns, "exec", text));
            }
            ProcessKind::Exit { status, group_dead: true }
                if *status != 0 && self.exits.len() < MAX_OF_KIND =>
            {
                let text = format!("{comm} ended: {}", super::processes::ended(*status));
                self.exits.push(moment(event.t_ns, "exit", text));
            }
            _ => {}
        }
    }

    /// All of them, by time.
    pub(super) fn finish(self, grid: &Grid, trace: &Trace, account: &Account) -> Vec<Span> {
        let finding = |found: &crate::Finding| Span {
            from_ns: found.from_ns,
            to_ns: found.to_ns,
            kind: "finding",
            rank: Some(found.rank),
            text: found.sentence.clone(),
        };
        let mut all: Vec<Span> = account.findings.iter().take(MAX_OF_KIND).map(finding).collect();
        all.extend(self.markers);
        all.extend(self.execs);
        all.extend(self.exits);
        all.extend(self.clock.found.iter().map(|jump| match jump {
            Jump::Stepped { t_ns, by_ns } => {
                let way = if *by_ns < 0 { "back" } else { "forward" };
                let by = words::span(by_ns.unsigned_abs());
                moment(*t_ns, "clock-jump", format!("the clock was set {way} by {by}"))
            }
            Jump::Slept { t_ns, for_ns } => {
                moment(*t_ns, "clock-jump", format!("the machine slept for {}", words::span(*for_ns)))
            }
        }));
        if let Some(window) = trace.window() {
            match &window.reason {
                DumpReason::Trigger { text, t_ns } => all.push(moment(*t_ns, "trigger", text.clone())),
                DumpReason::Mark { text } => {
                    all.push(moment(window.to_ns, "trigger", format!("dumped for the mark {text}")));
                }
                DumpReason::Signal => {
                    all.push(moment(window.to_ns, "trigger", "dumped for a signal".to_owned()));
                }
                DumpReason::End => {}
            }
        }
        // A report shows them within its axis.
        all.retain(|span| span.to_ns >= grid.from_ns || span.rank.is_some());
        all.sort_by_key(|span| (span.from_ns, span.to_ns, span.rank));
        all
    }
}
