//! A report of an incident: what it is made of, and what its two forms, a page ([`crate::html`]) and Markdown
//! ([`markdown`]), say in the same words.

mod compare;
mod facts;
mod figures;
#[cfg(test)]
pub(crate) mod fixtures;
mod headline;
mod markdown;
mod shell;
pub(crate) mod words;

pub use markdown::{MARKDOWN_BEGINS, markdown};
pub use shell::report_command;

pub(crate) use compare::{ErrorPair, errors, twin};
pub(crate) use facts::{Fact, facts};
pub(crate) use figures::{Figure, figures};
pub(crate) use headline::{Headline, headline, tone_of};
pub(crate) use shell::commands;

use crate::text::info::Began;
use crate::text::units;
use crate::text::when::{self, Zone};
use ctrace_analysis::picture::Picture;
use ctrace_analysis::{Account, Finding, Level, Overview, Report};
use ctrace_format::Trace;
use std::path::Path;

/// What a trace is to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What the report is about.
    Recording,
    /// A replay of it.
    Replay,
    /// Another run that it is compared with.
    Other,
}

impl Role {
    /// Its name, as it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Replay => "replay",
            Self::Other => "other run",
        }
    }
}

/// A trace with what was worked out of it.
#[derive(Clone, Copy)]
pub struct Traced<'a> {
    /// Its file's name.
    pub name: &'a str,
    /// The path that it was read from, for commands.
    pub path: &'a Path,
    /// SHA-256 of the file, in hexadecimal digits; `None`: it has no bytes of its own (a pipe, a recording that runs).
    pub sha256: Option<&'a str>,
    /// The trace.
    pub trace: &'a Trace,
    /// Figures of it.
    pub overview: &'a Overview,
    /// Its findings.
    pub account: &'a Account,
    /// What is drawn of it.
    pub picture: &'a Picture,
    /// What it is to the report.
    pub role: Role,
}

/// The comparison of a trace with the first.
#[derive(Clone, Copy)]
pub struct Compared<'a> {
    /// Which of the traces.
    pub b: usize,
    /// The result.
    pub report: &'a Report,
}

/// All that a report of an incident is made of.
#[derive(Clone, Copy)]
pub struct Incident<'a> {
    /// Its title.
    pub title: &'a str,
    /// The recording, and what it is compared with.
    pub traces: &'a [Traced<'a>],
    /// The comparisons.
    pub compared: &'a [Compared<'a>],
    /// The zone of whoever makes the report.
    pub zone: Zone,
    /// The version of the ctrace that makes it.
    pub version: &'a str,
}

/// How good or bad something is. It is shown by a sign and a word, and by a colour beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Neither.
    Plain,
    /// As it should be.
    Good,
    /// To be read with care.
    Care,
    /// As it should not be.
    Bad,
}

impl Tone {
    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::Plain => "·",
            Self::Good => "✔",
            Self::Care => "▲",
            Self::Bad => "✕",
        }
    }

    pub(crate) const fn of(level: Level) -> Self {
        match level {
            Level::Cause => Self::Bad,
            Level::Warning => Self::Care,
            Level::Note => Self::Plain,
        }
    }
}

impl<'a> Traced<'a> {
    /// A time that a comparison tells, which counts from where a dump's window begins, as the trace has it.
    pub(crate) fn in_trace(&self, compared_ns: u64) -> u64 {
        compared_ns.saturating_add(self.trace.window().map_or(0, |window| window.from_ns))
    }

    /// A time of it by the clock on the wall, ns since the epoch.
    pub(crate) fn realtime_ns(&self, t_ns: u64) -> u64 {
        self.trace.header().start_realtime_ns.saturating_add(t_ns)
    }

    /// The same as a time of day: `18:52:03.123`.
    pub(crate) fn wall(&self, t_ns: u64, zone: Zone) -> String {
        let wall = when::time_of_day(self.realtime_ns(t_ns), zone);
        wall.get(..12).unwrap_or(&wall).to_owned()
    }

    /// The same with its clock, as far as it is known.
    pub(crate) fn wall_utc(&self, t_ns: u64) -> Option<String> {
        match Began::of(self.trace.header()) {
            Began::Known => Some(format!("{} UTC", self.wall(t_ns, Zone::UTC))),
            Began::SomeDay => Some(format!("{} in the log", self.wall(t_ns, Zone::UTC))),
            Began::Unknown => None,
        }
    }

    /// The same as RFC 3339 has it, when the day is known.
    pub(crate) fn utc(&self, t_ns: u64) -> Option<String> {
        let is_known = Began::of(self.trace.header()) == Began::Known;
        is_known.then(|| units::rfc3339(self.realtime_ns(t_ns)))
    }

    /// The findings that say that something is wrong, or, without any, all of them.
    pub(crate) fn telling(&self) -> Vec<&'a Finding> {
        let telling: Vec<&Finding> = self.account.findings.iter().filter(|f| f.level > Level::Note).collect();
        if telling.is_empty() { self.account.findings.iter().collect() } else { telling }
    }
}

/// The first sentence of a report, and the word in front of it: a verdict, the level of a finding, `calm` or `doubt`.
pub fn first_sentence(incident: &Incident) -> (&'static str, String) {
    let headline = headline(incident);
    (headline.word, words::sentence(&headline.sentence))
}

/// A time since the start of a trace: `+2.524 s`.
pub(crate) fn after_start(ns: u64) -> String {
    format!("+{}.{:03} s", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000_000)
}

/// How much more something is: `+12`, `−3`, `=`.
pub(crate) fn difference(a: u64, b: u64, text: impl Fn(u64) -> String) -> String {
    match b.cmp(&a) {
        std::cmp::Ordering::Equal => "=".to_owned(),
        std::cmp::Ordering::Greater => format!("+{}", text(b - a)),
        std::cmp::Ordering::Less => format!("−{}", text(a - b)),
    }
}

/// `12 more` or nothing.
pub(crate) fn left_out(count: u64, noun: &str) -> Option<String> {
    (count > 0).then(|| {
        format!("{} more {noun}{} left out", units::count(count), if count == 1 { " is" } else { "s are" })
    })
}
