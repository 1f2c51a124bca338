//! A plan and its rules.

use super::asks::{Levels, Other};
use super::moments::{Burst, Window};
use super::{Match, PlanError, parse};
use crate::edits::stops;
use std::fmt::Write as _;

/// A plan.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Whatever is decided by chance is decided by this.
    pub seed: u64,
    /// The rules, in their order: where two decide the result of one call, the first does.
    pub rules: Vec<Rule>,
    /// Its name, for people.
    pub name: Option<String>,
    /// Levels of resources; [`Self::others`] has the fault.
    pub pressure: Option<Levels>,
    /// Faults that are none of calls.
    pub others: Vec<Other>,
    /// Conditions that are to hold all the time, in the language of [`crate::Trigger`].
    pub steady: Vec<String>,
    /// Conditions that end a replay.
    pub abort: Vec<String>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The name of the fault that it is a part of.
    pub id: Option<String>,
    /// As it was written.
    pub text: String,
    /// The calls that it is about.
    pub matching: Match,
    /// The choice among those.
    pub when: When,
    /// The fault.
    pub act: Action,
}

impl Rule {
    /// Its id; without one, the rule as it was written.
    pub fn name(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.text)
    }
}

/// A choice among the calls that match. Those outside of its times do not count. The others are numbered, by thread and call, as strace counts them; the numbers in `nth`
/// are kept, and chance decides among those.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct When {
    /// These numbers; `None`: all.
    pub nth: Option<Nth>,
    /// Each with this probability, 0 to 1.
    pub prob: Option<f64>,
    /// At most so many in all.
    pub max: Option<u64>,
    /// So many more by chance that the error comes this many times as often as in the recording.
    pub rate: Option<f64>,
    /// Calls that begin in bursts.
    pub burst: Option<Burst>,
    /// Calls that begin in this stretch.
    pub window: Option<Window>,
    /// Calls that begin while this finding lasts, by the number that `ctrace info` gives it.
    pub during: Option<u32>,
}

impl When {
    /// Whether it chooses by time.
    pub const fn has_times(&self) -> bool {
        self.window.is_some() || self.burst.is_some() || self.during.is_some()
    }
}

/// `first[..last][+[step]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nth {
    /// The first number, from 1 on.
    pub first: u64,
    /// The last one; `None`: there is none.
    pub last: Option<u64>,
    /// The distance between two.
    pub step: u64,
}

impl Nth {
    /// Whether this number is one of them.
    pub const fn has(self, nth: u64) -> bool {
        let within = match self.last {
            Some(last) => nth <= last,
            None => true,
        };
        nth >= self.first && within && (nth - self.first).is_multiple_of(self.step)
    }
}

/// A fault of a call. All that is there is done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Action {
    /// It gets this result: −errno, or a value.
    pub result: Option<i64>,
    /// Whether it does its work although it fails.
    pub phase: Phase,
    /// This signal is sent to the caller when it makes the call.
    pub signal: Option<u32>,
    /// The call begins later.
    pub delay_enter: Option<Delay>,
    /// The call returns later.
    pub delay_exit: Option<Delay>,
    /// Another call is made in its place, by its name.
    pub instead: Option<String>,
    /// Memory that arguments point to is changed.
    pub pokes: bool,
    /// It moves this share, 0 to 1, of the bytes that it moved.
    pub short: Option<f64>,
}

/// The largest result that a replay can give: it has to find room in a tag beside what else that says.
const RESULT_MAX: i64 = (1 << 30) - 1;
/// The smallest one, −`MAX_ERRNO` (include/linux/err.h): lower ones are addresses.
const RESULT_MIN: i64 = -4095;

impl Action {
    /// Why a replay cannot do it; `None`: it can.
    pub fn unsupported(&self) -> Option<&'static str> {
        if self.signal.is_some_and(stops) {
            Some(
                "a replay cannot stop a process and let it go on; send it a signal that ends it, or delay its calls",
            )
        } else if self.instead.is_some() {
            Some("a replay cannot make another call in place of one: what that would do is not recorded")
        } else if self.pokes {
            Some("a replay has no arguments of the program's that it could change: it makes them up")
        } else if self.result.is_some_and(|result| !(RESULT_MIN..=RESULT_MAX).contains(&result)) {
            Some("a replay can answer with results from -4095 to 1073741823 only")
        } else {
            None
        }
    }
}

/// When a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// It does nothing.
    #[default]
    Before,
    /// It does its work, and says that it failed.
    After,
}

/// How long something takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// In the middle.
    pub ns: u64,
    /// More or less by at most this.
    pub jitter_ns: u64,
}

impl Delay {
    /// How long it takes at the hit of this [`super::Hit::draw`]: evenly distributed over what the jitter leaves open.
    pub fn at(self, draw: u64) -> u64 {
        let low = self.ns.saturating_sub(self.jitter_ns);
        let width = u128::from(self.ns.saturating_add(self.jitter_ns) - low) + 1;
        // The upper half of the product of two words is even over the second.
        low + ((u128::from(draw) * width) >> 64) as u64
    }
}

impl Plan {
    /// A plan of expressions.
    ///
    /// # Errors
    /// The first expression that makes no sense: where, why, and what was probably meant.
    pub fn of_expressions<'t>(
        expressions: impl IntoIterator<Item = &'t str>,
        seed: u64,
    ) -> Result<Self, PlanError> {
        let rules = expressions.into_iter().map(parse::rule).collect::<Result<_, _>>()?;
        Ok(Self { seed, rules, ..Self::default() })
    }

    /// The rules of this plan, and then those of another one, whose seed counts if `seeded`.
    #[must_use]
    pub fn and(mut self, other: Self, seeded: bool) -> Self {
        self.rules.extend(other.rules);
        if seeded {
            self.seed = other.seed;
        }
        self
    }

    /// The plan with this phase for the errors of rules that say none.
    #[must_use]
    pub fn failing(mut self, phase: Phase) -> Self {
        for rule in &mut self.rules {
            let says = rule.text.split(':').any(|part| part.starts_with("phase="));
            if phase == Phase::After && !says && rule.act.result.is_some_and(|result| result < 0) {
                rule.text.push_str(":phase=after");
                rule.act.phase = phase;
            }
        }
        self
    }

    /// The plan as [`Self::of_text`] reads it: a seed and expressions, or a document in one line.
    pub fn text(&self) -> String {
        let plain = Self { seed: self.seed, rules: self.rules.clone(), ..Self::default() };
        if *self != plain || self.rules.iter().any(|rule| rule.id.is_some()) {
            return self.document().json();
        }
        let mut text = format!("{}\n", self.seed);
        for rule in &self.rules {
            let _ = writeln!(text, "{}", rule.text);
        }
        text
    }

    /// A plan as [`Self::text`] writes it.
    ///
    /// # Errors
    /// The text is no plan.
    pub fn of_text(text: &str) -> Result<Self, PlanError> {
        if text.starts_with('{') {
            return Self::of_document(text).map_err(|error| PlanError::new(text, 0, error.what));
        }
        let mut lines = text.lines();
        let seed = lines.next().and_then(|line| line.parse().ok());
        let seed = seed.ok_or_else(|| PlanError::new(text, 0, "no seed".to_owned()))?;
        Self::of_expressions(lines, seed)
    }

    /// The faults that a replay cannot do whatever the recording is, and why.
    pub fn impossible(&self) -> impl Iterator<Item = (String, &'static str)> {
        self.others.iter().filter_map(|other| Some((other.text(), other.why?)))
    }
}
