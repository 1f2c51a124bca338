//! The sentence that a report begins with.

use super::{Incident, Tone};
use crate::text::info::doubts;
use crate::text::units;
use ctrace_analysis::{Finding, Kind, Level, Report, Verdict};
use ctrace_format::State;

/// The first sentence.
#[derive(Debug)]
pub(crate) struct Headline<'a> {
    /// How bad it is.
    pub(crate) tone: Tone,
    /// The word in front of it: a verdict, or the level of a finding.
    pub(crate) word: &'static str,
    /// The sentence.
    pub(crate) sentence: String,
    /// The finding that it is.
    pub(crate) finding: Option<&'a Finding>,
}

/// The verdict of a comparison, else the first finding, else why there is none.
pub(crate) fn headline<'a>(incident: &Incident<'a>) -> Headline<'a> {
    let rank = |report: &Report| match report.verdict {
        Verdict::Match => 0,
        Verdict::Inconclusive => 1,
        Verdict::Deviated => 2,
    };
    // The worst decides, the first of the worst is told.
    let worst = incident.compared.iter().rev().max_by_key(|compared| rank(compared.report));
    match worst {
        Some(compared) => of_verdict(compared.report),
        None => of_findings(incident),
    }
}

pub(crate) const fn tone_of(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Match => Tone::Good,
        Verdict::Deviated => Tone::Bad,
        Verdict::Inconclusive => Tone::Care,
    }
}

fn of_verdict<'a>(report: &Report) -> Headline<'a> {
    let sentence = report.reasons.first().cloned().unwrap_or_else(|| {
        format!("Every gate passed over {}", units::plural(report.a.compared, "operation"))
    });
    Headline { tone: tone_of(report.verdict), word: report.verdict.name(), sentence, finding: None }
}

fn of_findings<'a>(incident: &Incident<'a>) -> Headline<'a> {
    let none = Headline {
        tone: Tone::Care,
        word: "nothing",
        sentence: "there is no trace to tell of".to_owned(),
        finding: None,
    };
    let Some(first) = incident.traces.first() else { return none };
    let findings = first.telling();
    let telling = findings.first().copied().filter(|f| f.level > Level::Note);
    if let Some(finding) = telling {
        return Headline {
            tone: Tone::of(finding.level),
            word: finding.level.name(),
            sentence: finding.sentence.clone(),
            finding: Some(finding),
        };
    }
    let little: Vec<String> = first.overview.doubts(None).iter().map(doubts::text).collect();
    if !little.is_empty() {
        let sentence = format!("This file tells little: {}", little.join("; "));
        return Headline { tone: Tone::Care, word: "doubt", sentence, finding: None };
    }
    // Where nobody did anything, the call that everybody is in is what there is to tell.
    if let Some(hang) = findings.first().copied().filter(|note| note.kind == Kind::Hang) {
        let sentence = hang.sentence.clone();
        return Headline { tone: Tone::Plain, word: "note", sentence, finding: Some(hang) };
    }
    let so_far = if first.trace.state() == State::Live { " so far" } else { "" };
    Headline {
        tone: Tone::Good,
        word: "calm",
        sentence: format!("Nothing that went wrong stands out{so_far}"),
        finding: None,
    }
}
