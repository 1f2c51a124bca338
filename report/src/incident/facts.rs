//! How far a report can be trusted: facts about the file that it was made of.

use super::{Incident, Tone, Traced, after_start, words};
use crate::text::info::{Began, doubts, jump_text, log_of, scope, window_text};
use crate::text::when::Zone;
use crate::text::{decode, units};
use ctrace_analysis::REPLAY_OF;
use ctrace_format::{DumpReason, Policy, State};

/// A fact about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    /// How good or bad it is.
    pub(crate) tone: Tone,
    /// What it is about.
    pub(crate) name: &'static str,
    /// The words.
    pub(crate) text: String,
}

fn fact(tone: Tone, name: &'static str, text: impl Into<String>) -> Fact {
    Fact { tone, name, text: text.into() }
}

/// The facts about a trace: first what bounds what it tells, then what it is.
pub(crate) fn facts(incident: &Incident, traced: &Traced) -> Vec<Fact> {
    let mut facts = vec![state(traced)];
    facts.extend(lost(traced));
    facts.extend(clock(traced));
    facts.extend(not_seen(traced));
    facts.push(redaction(traced));
    facts.push(hash(traced));
    facts.push(fact(
        Tone::Plain,
        "written by",
        format!("{}, read by ctrace {}", words::name(&traced.trace.header().writer), incident.version),
    ));
    facts.extend(what_and_when(incident, traced));
    facts
}

fn state(traced: &Traced) -> Fact {
    let doubts: Vec<String> = traced.overview.doubts(None).iter().map(doubts::text).collect();
    let told = |text: &str| {
        if doubts.is_empty() { text.to_owned() } else { format!("{text}: {}", doubts.join("; ")) }
    };
    match traced.trace.state() {
        State::Live => {
            fact(Tone::Care, "file", told("not finished, its recorder still runs; this is the trace so far"))
        }
        State::Torn => fact(Tone::Bad, "file", told("not finished (the recorder died or the file was cut)")),
        State::Complete if doubts.is_empty() => fact(Tone::Good, "file", "complete and intact"),
        State::Complete => fact(Tone::Bad, "file", told("it tells little")),
    }
}

fn lost(traced: &Traced) -> Vec<Fact> {
    let overview = traced.overview;
    let mut facts = Vec::new();
    if overview.lost.total == 0 {
        facts.push(fact(Tone::Good, "lost", "nothing"));
    } else {
        let mut causes: Vec<(&str, u64)> =
            overview.lost.by_cause.iter().map(|(cause, n)| (cause.name(), *n)).collect();
        causes.sort_unstable();
        let causes: Vec<String> = causes.iter().map(|(c, n)| format!("{} {c}", units::count(*n))).collect();
        let seen: u64 = traced.trace.counts().values().sum();
        let share = words::share(overview.lost.total, overview.lost.total.saturating_add(seen));
        let total = units::plural(overview.lost.total, "event");
        facts.push(fact(Tone::Bad, "lost", format!("{total} ({share} of all): {}", causes.join(", "))));
    }
    if overview.aggregated > 0 {
        let text =
            format!("{} only counted, not recorded one by one", units::plural(overview.aggregated, "call"));
        facts.push(fact(Tone::Care, "counted", text));
    }
    facts
}

fn clock(traced: &Traced) -> Vec<Fact> {
    const SHOWN: usize = 4;
    let jumps = &traced.overview.jumps;
    if log_of(&traced.trace.header().host).is_some() {
        return vec![fact(Tone::Plain, "clock", "not known: a log of another tool does not tell who set it")];
    }
    if jumps.is_empty() {
        return vec![fact(Tone::Good, "clock", "steady: nobody set it")];
    }
    let mut facts: Vec<Fact> =
        jumps.iter().take(SHOWN).map(|jump| fact(Tone::Care, "clock", jump_text(jump))).collect();
    if jumps.len() > SHOWN {
        facts.push(fact(Tone::Care, "clock", format!("{} more jumps", jumps.len() - SHOWN)));
    }
    facts
}

fn not_seen(traced: &Traced) -> Vec<Fact> {
    let mut facts = Vec::new();
    let blind = &traced.trace.header().blind;
    if !blind.is_empty() {
        let names: Vec<&str> = blind.iter().map(|b| b.split(':').next().unwrap_or(b)).collect();
        facts.push(fact(Tone::Plain, "not seen", words::sentence(&names.join(" · "))));
    }
    let unlearnt = traced.trace.unlearnt();
    if !unlearnt.is_empty() {
        facts.push(fact(Tone::Care, "not learnt", words::sentence(&unlearnt.join(" · "))));
    }
    facts
}

fn redaction(traced: &Traced) -> Fact {
    let header = traced.trace.header();
    let masked: u64 = traced.trace.summary().map_or(0, |s| s.redacted.values().sum());
    let policy = words::name(&header.redaction);
    match Policy::of_header(&header.redaction) {
        Policy::Off => fact(
            Tone::Bad,
            "redaction",
            format!("{policy}: nothing was masked; this report may show secrets"),
        ),
        Policy::Strict => fact(
            Tone::Care,
            "redaction",
            format!("{policy}: names are pseudonyms, {} replaced", units::plural(masked, "value")),
        ),
        Policy::Default => {
            fact(Tone::Good, "redaction", format!("{policy}, {} masked", units::plural(masked, "value")))
        }
    }
}

fn hash(traced: &Traced) -> Fact {
    let bytes = units::bytes(traced.trace.file_bytes());
    match traced.sha256 {
        Some(sha256) => fact(Tone::Plain, "SHA-256", format!("{sha256} ({bytes})")),
        None => fact(Tone::Care, "SHA-256", format!("none: it was read from a stream ({bytes})")),
    }
}

fn what_and_when(incident: &Incident, traced: &Traced) -> Vec<Fact> {
    let trace = traced.trace;
    let header = trace.header();
    let mut facts = Vec::new();
    let from_ns = trace.window().map_or(0, |w| w.from_ns);
    facts.push(fact(Tone::Plain, "when", when(incident.zone, traced, from_ns)));
    if let Some(window) = trace.window() {
        match &window.reason {
            DumpReason::Trigger { text, t_ns } => facts.push(fact(
                Tone::Plain,
                "trigger",
                format!("{}, fired at {}", words::sentence(text), after_start(*t_ns)),
            )),
            DumpReason::Signal => {
                facts.push(fact(Tone::Plain, "dumped", "because the recorder was sent SIGUSR1"));
            }
            DumpReason::Mark { text } => {
                facts.push(fact(Tone::Plain, "dumped", format!("by a mark: {}", words::sentence(text))));
            }
            DumpReason::End => {}
        }
        facts.push(fact(Tone::Plain, "window", window_text(window, header.start_realtime_ns)));
    }
    facts.push(fact(Tone::Plain, "scope", words::sentence(&scope(&header.scope))));
    facts.push(fact(Tone::Plain, "host", words::sentence(&crate::text::info::place(&header.host))));
    if let Some(status) = trace.summary().and_then(|s| s.command_status) {
        facts.push(fact(
            Tone::Plain,
            "status",
            format!("the command {}", decode::command_status(status as u32)),
        ));
    }
    if let Some(of) = header.host.facts.get(REPLAY_OF) {
        facts.push(replay_of(incident, traced, of));
    }
    for rule in ctrace_analysis::faults::told(header) {
        facts.push(fact(Tone::Care, "fault", words::sentence(&rule)));
    }
    // Of the recording it is the same.
    if let Some(first) = incident.traces.first()
        && first.trace.header().host.hostname != header.host.hostname
        && log_of(&first.trace.header().host).is_none()
        && log_of(&header.host).is_none()
    {
        let text =
            format!("not that of the recording ({})", words::name(&first.trace.header().host.hostname));
        facts.push(fact(Tone::Care, "host", text));
    }
    facts
}

fn replay_of(incident: &Incident, traced: &Traced, of: &str) -> Fact {
    let of = words::name(of);
    let known = incident.traces.iter().find(|other| format!("{:016x}", other.trace.identity()) == of);
    let engine = traced.trace.summary().map_or(0, |s| s.engine_calls);
    let own = format!("the engine's own {} are left out", units::plural(engine, "call"));
    match known {
        Some(other) => {
            fact(Tone::Good, "replay of", format!("{} (identity {of}); {own}", words::name(other.name)))
        }
        None => fact(
            Tone::Care,
            "replay of",
            format!("a recording that is not in this report (identity {of}); {own}"),
        ),
    }
}

fn when(zone: Zone, traced: &Traced, from_ns: u64) -> String {
    let header = traced.trace.header();
    let start = units::rfc3339(header.start_realtime_ns.saturating_add(from_ns));
    let ended = traced
        .trace
        .summary()
        .map_or_else(String::new, |s| format!(", ended: {}", words::sentence(&s.ended)));
    let length = words::time(traced.overview.duration_ns);
    match Began::of(header) {
        Began::Known => {}
        Began::SomeDay => {
            return format!("{} of a day that is not known, for {length}{ended}", &start[11..19]);
        }
        Began::Unknown => return format!("not known, for {length}{ended}"),
    }
    let utc = traced.wall(from_ns, Zone::UTC);
    let local = traced.wall(from_ns, zone);
    let local = if utc == local { String::new() } else { format!(" ({local} where the report was made)") };
    format!("{} {} UTC{local}, for {length}{ended}", &start[..10], &start[11..19])
}
