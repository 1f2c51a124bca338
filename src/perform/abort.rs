//! Ends a replay before its end, and measures how fast.

use super::conditions::{Conditions, Fired, Sampler};
use super::observer::{Interrupt, Note, Observer, Stage};
use crate::{clock, units};
use ctrace_analysis::{Report, Verdict};
use ctrace_recorder::{Recording, Request};
use ctrace_replayer::{Button, Ended, Figures, Halt, Limit, Outcome, Resource};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fmt;
use std::time::{Duration, Instant};

/// How often signals and the time are looked at. A condition that an event makes hold is heard of at once.
const LOOK: Duration = Duration::from_millis(5);

/// The cause of its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum By {
    /// An expression held.
    Condition { expr: String, detail: String },
    /// An expression held because nothing came.
    Silence { expr: String, detail: String },
    /// A signal to ctrace.
    Signal(u8),
    /// `--max-duration`.
    MaxDuration(Limit),
}

/// A replay that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) by: By,
    /// When it was to end, ns on the replay's timeline: of a condition, the time of the event that made it hold.
    t_ns: u64,
    /// The same, `CLOCK_BOOTTIME`.
    held_ns: u64,
    /// When that was seen here.
    seen_ns: u64,
    /// The means; `None`: it was over already.
    halt: Option<Halt>,
    /// When nothing of it ran any more.
    frozen_ns: Option<u64>,
    /// When nothing of it was there any more.
    gone_ns: Option<u64>,
}

impl Aborted {
    fn new(by: By, t_ns: u64, held_ns: u64, seen_ns: u64) -> Self {
        Self { by, t_ns, held_ns, seen_ns, halt: None, frozen_ns: None, gone_ns: None }
    }

    fn fired(fired: Fired, start_ns: u64) -> Self {
        let Fired { expr, text, t_ns, by_silence, seen_ns } = fired;
        let detail = detail(&expr, &text);
        let by = if by_silence { By::Silence { expr, detail } } else { By::Condition { expr, detail } };
        Self::new(by, t_ns, start_ns + t_ns, seen_ns)
    }

    /// Stops the replay, and says so on its timeline.
    pub(super) fn halt(
        &mut self,
        button: &Button,
        recording: Option<&Recording>,
        observer: &mut dyn Observer,
    ) {
        let halt = button.halt();
        self.halt = Some(halt);
        let now_ns = clock::boottime_ns();
        if matches!(halt, Halt::Frozen(_)) {
            self.frozen_ns = Some(now_ns);
        }
        if let Some(recording) = recording
            && !recording.request(Request::Mark(self.to_string(), now_ns))
        {
            let what = "the recorder is too far behind to mark where the replay was aborted".to_owned();
            observer.note(&Note::Condition(what));
        }
    }

    /// Everything of it has ended, at this time; nothing is left of it now.
    pub(super) fn is_gone(&mut self, ended_ns: u64) {
        if self.halt.is_some() {
            self.frozen_ns.get_or_insert(ended_ns);
            self.gone_ns = Some(clock::boottime_ns());
        }
    }

    /// One that held as the replay came to its end by itself: it would have ended it at any other time.
    pub(super) fn late(conditions: &Conditions, start_ns: u64) -> Option<Self> {
        conditions.fired().map(|fired| Self::fired(fired, start_ns))
    }

    /// One whose init ended it: nobody here did in time.
    pub(super) fn overtime(outcome: &Outcome, limit: Limit, released_ns: u64, start_ns: u64) -> Option<Self> {
        (outcome.ended == Ended::TimedOut).then(|| {
            let held_ns = released_ns + limit.limit;
            Self::new(By::MaxDuration(limit), held_ns.saturating_sub(start_ns), held_ns, held_ns)
        })
    }

    /// How long it took from what ended it to the last moment that anything of it ran, ns.
    pub(crate) fn held_to_frozen_ns(&self) -> Option<u64> {
        self.frozen_ns.map(|at| at.saturating_sub(self.held_ns))
    }

    fn detected_to_frozen_ns(&self) -> Option<u64> {
        self.frozen_ns.map(|at| at.saturating_sub(self.seen_ns))
    }

    fn frozen_to_gone_ns(&self) -> Option<u64> {
        self.gone_ns.zip(self.frozen_ns).map(|(gone, frozen)| gone.saturating_sub(frozen))
    }

    /// A replay that was cut short is no evidence of anything.
    pub(super) fn judge(&self, report: &mut Report) {
        report.verdict = Verdict::Inconclusive;
        report.reasons.insert(0, self.to_string());
    }

    /// As the JSON of a replay has it.
    pub(crate) fn json(&self) -> Value {
        let (by, expr) = match &self.by {
            By::Condition { expr, .. } => ("condition", Some(expr)),
            By::Silence { expr, .. } => ("silence", Some(expr)),
            By::Signal(_) => ("signal", None),
            By::MaxDuration(_) => ("max-duration", None),
        };
        let how = self.halt.map(|halt| match halt {
            Halt::Frozen(1) => "freezer_v1",
            Halt::Frozen(_) => "freezer_v2",
            Halt::Killed => "killed",
        });
        json!({
            "by": by, "expr": expr, "text": self.to_string(), "t_ns": self.t_ns, "how": how,
            "held_to_frozen_ns": self.held_to_frozen_ns(),
            "detected_to_frozen_ns": self.detected_to_frozen_ns(),
            "frozen_to_gone_ns": self.frozen_to_gone_ns(),
        })
    }

    /// How it was stopped and how long that took, for people.
    pub(crate) fn how(&self) -> String {
        let time = |ns: Option<u64>| ns.map_or_else(|| "some time".to_owned(), units::duration);
        let held = time(self.held_to_frozen_ns());
        let seen = time(self.detected_to_frozen_ns());
        let gone = time(self.frozen_to_gone_ns());
        match self.halt {
            None => "the replay was over by then: there was nothing to stop".to_owned(),
            Some(Halt::Frozen(version)) => {
                format!(
                    "frozen after {held}, {seen} of it since it was seen (freezer v{version}); gone {gone} later"
                )
            }
            Some(Halt::Killed) => format!(
                "killed after {held}, {seen} of it since it was seen (nothing here freezes it); gone {gone} later"
            ),
        }
    }
}

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = units::duration(self.t_ns);
        match &self.by {
            By::Condition { expr, detail } | By::Silence { expr, detail } => {
                write!(f, "aborted: {expr} held at {at}: {detail}")
            }
            By::Signal(number) => match Signal::try_from(i32::from(*number)) {
                Ok(signal) => write!(f, "aborted: {signal} at {at}"),
                Err(_) => write!(f, "aborted: signal {number} at {at}"),
            },
            By::MaxDuration(limit) => write!(
                f,
                "aborted: --max-duration was over ({}); {} allows more",
                units::duration(limit.limit),
                Resource::Duration.flag(limit.limit.saturating_mul(2)),
            ),
        }
    }
}

/// The figures in a text that begins with its expression.
fn detail(expr: &str, text: &str) -> String {
    let rest = text.strip_prefix(expr).unwrap_or(text).trim_start_matches([':', ' ']);
    // Parts of a combined expression stand in parentheses.
    let inner = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    inner.unwrap_or(rest).to_owned()
}

/// Waits for what ends a replay before its end.
pub(super) struct Watch<'a> {
    pub(super) conditions: &'a Conditions,
    pub(super) sampler: Option<Sampler>,
    /// When the replay's timeline began, `CLOCK_BOOTTIME`.
    pub(super) start_ns: u64,
    pub(super) limit: Limit,
    /// How long it will take.
    pub(super) expected: Duration,
    /// Those of a replay that is pressed, until it is said that it no longer is.
    pub(super) figures: Option<Figures>,
}

impl Watch<'_> {
    /// Waits until it is over or to be ended.
    pub(super) fn until(&mut self, over: impl Fn() -> bool, observer: &mut dyn Observer) -> Option<Aborted> {
        let (began, began_ns) = (Instant::now(), clock::boottime_ns());
        let limit = Duration::from_nanos(self.limit.limit);
        while !over() {
            let left = limit.saturating_sub(began.elapsed());
            if let Some(fired) = self.conditions.wait(LOOK.min(left)) {
                return Some(Aborted::fired(fired, self.start_ns));
            }
            let now_ns = clock::boottime_ns();
            if let Some(Interrupt { number, at_ns }) = observer.interrupt() {
                let t_ns = at_ns.saturating_sub(self.start_ns);
                return Some(Aborted::new(By::Signal(number), t_ns, at_ns, now_ns));
            }
            if began.elapsed() >= limit {
                let held_ns = began_ns + self.limit.limit;
                let t_ns = held_ns.saturating_sub(self.start_ns);
                return Some(Aborted::new(By::MaxDuration(self.limit), t_ns, held_ns, now_ns));
            }
            let t_ns = now_ns.saturating_sub(self.start_ns);
            if let Some(sampler) = &mut self.sampler {
                sampler.look(self.conditions, t_ns);
            }
            if self.figures.take_if(|figures| figures.is_unpressed()).is_some() {
                observer.note(&Note::Unpressed);
            }
            self.conditions.pass(t_ns);
            while let Some(lacking) = self.conditions.lacking() {
                observer.note(&Note::Condition(lacking));
            }
            observer.begins(Stage::Replaying { elapsed: began.elapsed(), expected: self.expected });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(by_silence: bool) -> Fired {
        let (expr, text) = ("a or b", "a or b (a: 6 in 1s by x[1])");
        Fired {
            expr: expr.into(),
            text: text.into(),
            t_ns: 2_000_000_000,
            by_silence,
            seen_ns: 9_012_000_000,
        }
    }

    #[test]
    fn times_are_those_between_what_happened_what_was_seen_and_what_was_done() {
        let mut aborted = Aborted::fired(fired(false), 7_000_000_000);
        assert_eq!(aborted.to_string(), "aborted: a or b held at 2s: a: 6 in 1s by x[1]");
        assert!(aborted.how().contains("nothing to stop"));
        assert_eq!(aborted.json()["frozen_to_gone_ns"], Value::Null);
        aborted.halt = Some(Halt::Frozen(1));
        aborted.frozen_ns = Some(9_015_000_000);
        aborted.gone_ns = Some(9_115_000_000);
        let json = aborted.json();
        assert_eq!(
            (&json["by"], &json["expr"], &json["how"]),
            (&json!("condition"), &json!("a or b"), &json!("freezer_v1"))
        );
        assert_eq!(json["t_ns"], 2_000_000_000_u64);
        assert_eq!(json["held_to_frozen_ns"], 15_000_000);
        assert_eq!(json["detected_to_frozen_ns"], 3_000_000);
        assert_eq!(json["frozen_to_gone_ns"], 100_000_000);
    }

    #[test]
    fn every_cause_has_its_name_and_sentence() {
        let limit = Limit::flag(2_000_000_000);
        for (by, name, sentence) in [
            (
                By::Silence { expr: "silent>2s".into(), detail: "nothing".into() },
                "silence",
                "silent>2s held at 1s: nothing",
            ),
            (By::Signal(2), "signal", "SIGINT at 1s"),
            (By::MaxDuration(limit), "max-duration", "--max-duration 4s allows more"),
        ] {
            let aborted = Aborted::new(by, 1_000_000_000, 0, 0);
            assert_eq!(aborted.json()["by"], name);
            let text = aborted.to_string();
            assert!(text.starts_with("aborted: ") && text.ends_with(sentence), "{text}");
        }
    }
}
