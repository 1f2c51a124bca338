//! Expressions: strace's grammar of `--inject` and `--fault`, and more to choose by.

use super::matching::{Comparison, Match, Peer, Predicate};
use super::moments::{self, Burst, Mistake, Window};
use super::plan::{Action, Delay, Nth, Phase, Rule, When};
use crate::calls::CallClass;
use crate::near::similar;
use crate::trigger::SIGNALS;
use crate::{Calls, Pattern};
use ctrace_format::{errno, linux, syscalls};

/// Longest expression.
const MAX_TEXT: usize = 4096;
/// Largest number of `when` (strace(1)).
const MAX_WHEN: u64 = 65_535;
/// `MAX_ERRNO`, include/linux/err.h.
const MAX_ERRNO: i64 = 4095;
/// `ENOSYS`: what strace's `--fault` fails with unless told otherwise.
const ENOSYS: i64 = 38;
/// The highest number of a signal (`_NSIG`, include/uapi/asm-generic/signal.h), and the first real-time one.
const SIGNAL_MAX: u32 = 64;
const SIGRTMIN: u32 = 32;
/// Longest delay: a day.
const MAX_DELAY_NS: u64 = 86_400_000_000_000;

/// Something stands in an expression where something else should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}\n  {text}\n  {caret:>width$}", caret = "^", width = column)]
pub struct PlanError {
    /// The expression.
    pub text: String,
    /// Where, in characters from 1 on.
    pub column: usize,
    /// The mistake, and the word that was probably meant.
    pub what: String,
}

impl PlanError {
    pub(super) fn new(text: &str, at: usize, what: String) -> Self {
        // An expression of one line is shown as it is; whatever moves the cursor is not.
        let shown: String =
            text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(200).collect();
        let before = text.get(..at).unwrap_or(text);
        Self { text: shown, column: before.chars().count() + 1, what }
    }
}

/// Whatever can be said of a fault; each has a value.
const KEYS: [&str; 24] = [
    "error",
    "retval",
    "signal",
    "syscall",
    "delay_enter",
    "delay_exit",
    "poke_enter",
    "poke_exit",
    "when",
    "peer",
    "path",
    "role",
    "arg",
    "prob",
    "max",
    "phase",
    "jitter",
    "errno_was",
    "from_byte",
    "rate",
    "burst",
    "window",
    "during",
    "short",
];
/// Whatever `--fault` of strace's does not take (strace(1)): it is about errors.
const NOT_OF_FAULT: [&str; 7] =
    ["short", "retval", "signal", "delay_enter", "delay_exit", "poke_enter", "poke_exit"];

/// A part of an expression, and where it begins.
#[derive(Debug, Clone, Copy)]
struct Part<'t> {
    at: usize,
    text: &'t str,
}

impl<'t> Part<'t> {
    /// The key, and the value after it.
    fn key(self) -> (&'t str, Option<Self>) {
        match self.text.split_once('=') {
            Some((key, value)) => (key, Some(Part { at: self.at + key.len() + 1, text: value })),
            None => (self.text, None),
        }
    }
}

/// The parts between colons; empty ones say nothing (strace splits with `strtok_r`). An address and a path may have colons of
/// their own: what follows them and looks like no key is theirs.
fn parts(text: &str, start: usize) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut at = start;
    for piece in text[start..].split(':') {
        // A mistyped key as well, which is told as one.
        let is_word = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let is_key = KEYS.contains(&piece) || piece.split_once('=').is_some_and(|(key, _)| is_word(key));
        let taker = parts.last_mut().filter(|last| matches!(last.key().0, "peer" | "path" | "role"));
        match taker.filter(|_| !is_key) {
            // What ends an expression ends the value too.
            Some(_) if piece.is_empty() && at == text.len() => {}
            Some(last) => last.text = &text[last.at..at + piece.len()],
            None if piece.is_empty() && at > start => {}
            None => parts.push(Part { at, text: piece }),
        }
        at += piece.len() + 1;
    }
    parts
}

/// Reads an expression.
pub(super) fn rule(text: &str) -> Result<Rule, PlanError> {
    let fail = |at: usize, what: String| Err(PlanError::new(text, at, what));
    if text.len() > MAX_TEXT {
        return fail(MAX_TEXT, format!("an expression has at most {MAX_TEXT} bytes"));
    }
    if let Some(at) = text.find(|c: char| c.is_control()) {
        return fail(at, "an expression is one line of plain text".to_owned());
    }
    let (is_fault, start) = match text.split_once('=') {
        Some((word @ ("inject" | "fault"), _)) => (word == "fault", word.len() + 1),
        _ => (false, 0),
    };
    let mut reader = Reader { text, act: Action::default(), when: When::default(), jitter_ns: None };
    let mut parts = parts(text, start).into_iter();
    let set = parts.next().unwrap_or(Part { at: start, text: "" });
    let calls = Calls::parse_strace(set.text).map_err(|e| PlanError::new(text, set.at + e.at, e.what))?;
    let mut matching = Match { calls, ..Match::default() };
    let mut seen: Vec<&str> = Vec::new();
    for part in parts {
        let (key, value) = part.key();
        let Some(known) = KEYS.iter().find(|known| **known == key) else {
            let hint = similar(key, KEYS);
            let all = KEYS.join(", ");
            return fail(
                part.at,
                format!("{key:?} is nothing that can be said of a fault{hint}; there are {all}"),
            );
        };
        if is_fault && NOT_OF_FAULT.contains(known) {
            return fail(part.at, format!("fault= is about errors; write inject= to say {known}"));
        }
        let Some(value) = value.filter(|value| !value.text.is_empty()) else {
            return fail(part.at, format!("{known} needs a value: {known}=…"));
        };
        // Of several `when`, strace takes the last.
        if seen.contains(known) && !matches!(*known, "arg" | "when") {
            return fail(part.at, format!("{known} is said twice"));
        }
        seen.push(known);
        reader.take(known, value, &mut matching)?;
    }
    let Reader { mut act, when, jitter_ns, .. } = reader;
    if let Some(jitter_ns) = jitter_ns {
        let delays: Vec<&mut Delay> =
            [&mut act.delay_enter, &mut act.delay_exit].into_iter().flatten().collect();
        if delays.is_empty() {
            return fail(
                start,
                "jitter is that of a delay: delay_enter=… or delay_exit=… is missing".to_owned(),
            );
        }
        for delay in delays {
            delay.jitter_ns = jitter_ns;
        }
    }
    if is_fault && act.result.is_none() {
        act.result = Some(-ENOSYS);
    }
    if act == Action::default() {
        let what =
            "nothing is done: say error=…, retval=…, short=…, delay_enter=…, delay_exit=…, or signal=…";
        return fail(text.len(), what.to_owned());
    }
    if when.rate.is_some() && (when.prob.is_some() || act.result.is_none_or(|result| result >= 0)) {
        let what = "rate multiplies how often an error comes: it goes with error=…, and not with prob";
        return fail(start, what.to_owned());
    }
    if act.phase == Phase::After && act.result.is_none_or(|result| result >= 0) {
        return fail(start, "phase is that of an error: error=… is missing".to_owned());
    }
    Ok(Rule { id: None, text: text.to_owned(), matching, when, act })
}

/// Reads a value alone, as it could stand at a key of an expression; `calls` is the set of calls.
pub(super) fn value(key: &str, text: &str) -> Result<(), Mistake> {
    if let Some(at) = text.find(|c: char| c.is_control()) {
        return Err((at, "this is one line of plain text".to_owned()));
    }
    if key == "calls" {
        return Calls::parse_strace(text).map(drop).map_err(|e| (e.at, e.what));
    }
    let mut reader = Reader { text, act: Action::default(), when: When::default(), jitter_ns: None };
    let mistake = |error: PlanError| {
        (text.char_indices().nth(error.column - 1).map_or(text.len(), |(at, _)| at), error.what)
    };
    reader.take(key, Part { at: 0, text }, &mut Match::default()).map_err(mistake)
}

struct Reader<'t> {
    text: &'t str,
    act: Action,
    when: When,
    jitter_ns: Option<u64>,
}

impl Reader<'_> {
    fn fail<T>(&self, at: usize, what: String) -> Result<T, PlanError> {
        Err(PlanError::new(self.text, at, what))
    }

    fn take(&mut self, key: &str, value: Part<'_>, matching: &mut Match) -> Result<(), PlanError> {
        match key {
            "error" | "retval" => {
                if self.act.result.is_some() {
                    return self.fail(value.at, "a call has one result: either error or retval".to_owned());
                }
                self.act.result = Some(if key == "error" { -self.errno(value)? } else { self.word(value)? });
            }
            "signal" => self.act.signal = Some(self.signal(value)?),
            "syscall" => {
                let name = value.text;
                if !crate::calls::every_name().any(|known| known == name) {
                    let hint = similar(name, crate::calls::every_name());
                    return self.fail(value.at, format!("no system call is named {name:?}{hint}"));
                }
                if !CallClass::Pure.has(name) {
                    let what =
                        "only calls that change nothing and cannot fail (%pure) can take another's place";
                    return self.fail(value.at, what.to_owned());
                }
                self.act.instead = Some(name.to_owned());
            }
            "delay_enter" => self.act.delay_enter = Some(Delay { ns: self.time(value)?, jitter_ns: 0 }),
            "delay_exit" => self.act.delay_exit = Some(Delay { ns: self.time(value)?, jitter_ns: 0 }),
            "poke_enter" | "poke_exit" => {
                self.of(value, moments::pokes)?;
                self.act.pokes = true;
            }
            "when" => self.when.nth = Some(self.nth(value)?),
            "prob" => {
                let prob = value.text.parse().ok().filter(|prob: &f64| (0.0..=1.0).contains(prob));
                let Some(prob) = prob else {
                    return self.fail(value.at, format!("{:?} is no probability: 0 to 1", value.text));
                };
                self.when.prob = Some(prob);
            }
            "max" => self.when.max = Some(self.number(value, i64::MAX)? as u64),
            "phase" => {
                self.act.phase = match value.text {
                    "before" => Phase::Before,
                    "after" => Phase::After,
                    other => {
                        let hint = similar(other, ["before", "after"]);
                        return self.fail(
                            value.at,
                            format!("{other:?} is no phase{hint}; there are before and after"),
                        );
                    }
                }
            }
            "jitter" => self.jitter_ns = Some(self.time(value)?),
            "role" => matching.role = Some(Pattern::whole(value.text)),
            "path" => matching.path = Some(Pattern::new(value.text)),
            "peer" => matching.peer = Some(self.of(value, Peer::parse)?),
            "errno_was" => matching.errno_was = Some(self.errno(value)?),
            "from_byte" => matching.from_byte = Some(self.of(value, moments::bytes)?),
            "rate" => self.when.rate = Some(self.of(value, moments::rate)?),
            "burst" => self.when.burst = Some(self.of(value, Burst::parse)?),
            "window" => self.when.window = Some(self.of(value, Window::parse)?),
            "during" => self.when.during = Some(self.of(value, moments::finding)?),
            "short" => self.act.short = Some(self.of(value, moments::part)?),
            _ => matching.args.push(self.predicate(value)?),
        }
        Ok(())
    }

    /// A value that somebody else reads.
    fn of<T>(&self, value: Part<'_>, read: impl Fn(&str) -> Result<T, Mistake>) -> Result<T, PlanError> {
        read(value.text).or_else(|(at, what)| self.fail(value.at + at, what))
    }

    fn number(&self, value: Part<'_>, max: i64) -> Result<i64, PlanError> {
        let text = value.text;
        let parsed = unsigned(text).and_then(|number| i64::try_from(number).ok());
        match parsed.filter(|number| (0..=max).contains(number)) {
            Some(number) => Ok(number),
            None if max == i64::MAX => self.fail(value.at, format!("{text:?} is no number from 0 on")),
            None => self.fail(value.at, format!("{text:?} is no number from 0 to {max}")),
        }
    }

    /// A result as `strtoull` reads it: any word of 64 bits, with its sign.
    fn word(&self, value: Part<'_>) -> Result<i64, PlanError> {
        let (is_negative, digits) = match value.text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, value.text.strip_prefix('+').unwrap_or(value.text)),
        };
        match unsigned(digits) {
            Some(number) if is_negative => Ok(number.wrapping_neg().cast_signed()),
            Some(number) => Ok(number.cast_signed()),
            None => self.fail(value.at, format!("{:?} is no number of 64 bits", value.text)),
        }
    }

    fn errno(&self, value: Part<'_>) -> Result<i64, PlanError> {
        let known = errno::number(&value.text.to_uppercase()).map(i64::from);
        let number = value.text.parse().ok().filter(|number| (1..=MAX_ERRNO).contains(number));
        known.or(number).map_or_else(
            || {
                let names = (1..=133).filter_map(errno::name);
                let hint = similar(&value.text.to_uppercase(), names);
                self.fail(
                    value.at,
                    format!("no error is named {:?}{hint}; write ENOENT, or 1 to {MAX_ERRNO}", value.text),
                )
            },
            Ok,
        )
    }

    fn signal(&self, value: Part<'_>) -> Result<u32, PlanError> {
        let upper = value.text.to_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let real_time = || match bare.strip_prefix("RT") {
            Some("MIN") => Some(SIGRTMIN),
            Some("MAX") => Some(SIGNAL_MAX),
            Some(rest) => {
                let n: u32 = rest.strip_prefix('_').or_else(|| rest.strip_prefix("MIN+"))?.parse().ok()?;
                SIGRTMIN.checked_add(n)
            }
            None => None,
        };
        let named = SIGNALS.iter().position(|name| *name == bare).map(|at| at as u32 + 1);
        let number = || bare.parse().ok();
        let signal =
            named.or_else(real_time).or_else(number).filter(|signal| (1..=SIGNAL_MAX).contains(signal));
        signal.map_or_else(
            || {
                let hint = similar(bare, SIGNALS);
                let text = value.text;
                self.fail(
                    value.at,
                    format!("no signal is named {text:?}{hint}; write SIGTERM, or 1 to {SIGNAL_MAX}"),
                )
            },
            Ok,
        )
    }

    /// Microseconds, or with a unit.
    fn time(&self, value: Part<'_>) -> Result<u64, PlanError> {
        let digits = value.text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let scale = match &value.text[digits.len()..] {
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "" => 1e3,
            "ns" => 1.0,
            unit => {
                let at = value.at + digits.len();
                return self.fail(
                    at,
                    format!("{unit:?} is no unit of time; there are s, ms, us (as without a unit), ns"),
                );
            }
        };
        let ns = digits.parse().ok().map(|number: f64| number * scale);
        match ns.filter(|ns| ns.is_finite() && *ns >= 0.0 && !digits.starts_with(['+', '-'])) {
            Some(ns) if ns <= MAX_DELAY_NS as f64 => Ok(ns as u64),
            Some(_) => self.fail(value.at, "a delay is a day at most".to_owned()),
            None => self.fail(value.at, format!("{:?} is no time; write 200us, 5ms, 1s", value.text)),
        }
    }

    /// `first[..last][+[step]]`.
    fn nth(&self, value: Part<'_>) -> Result<Nth, PlanError> {
        let upto = |max: u64, at: usize, text: &str| {
            let is_digits = text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse().ok().filter(|number| is_digits && (1..=max).contains(number));
            number.map_or_else(
                || {
                    self.fail(
                        at,
                        format!(
                            "{text:?} is no number of a call: 1 to {max}, as in 3, 3+, 3+2, 3..9, 3..9+2"
                        ),
                    )
                },
                Ok,
            )
        };
        let one = |at, text| upto(MAX_WHEN, at, text);
        let (range, step) = match value.text.split_once('+') {
            Some((range, step)) => (range, Some((value.at + range.len() + 1, step))),
            None => (value.text, None),
        };
        let (first, last) = match range.split_once("..") {
            Some((first, last)) => (first, Some((value.at + first.len() + 2, last))),
            None => (range, None),
        };
        let first = one(value.at, first)?;
        // strace keeps the largest for "no last one".
        let last = last.map(|(at, text)| Ok((at, upto(MAX_WHEN - 1, at, text)?))).transpose()?;
        if let Some((at, last)) = last.filter(|(_, last)| *last < first) {
            return self.fail(at, format!("the last one, {last}, comes before the first, {first}"));
        }
        let step = match step {
            None if last.is_none() => return Ok(Nth { first, last: Some(first), step: 1 }),
            None | Some((_, "")) => 1,
            Some((at, text)) => one(at, text)?,
        };
        Ok(Nth { first, last: last.map(|(_, last)| last), step })
    }

    /// `flags&0x400`, `arg2>64`.
    fn predicate(&self, value: Part<'_>) -> Result<Predicate, PlanError> {
        const OPERATORS: [(&str, Comparison); 7] = [
            (">=", Comparison::AtLeast),
            ("<=", Comparison::AtMost),
            ("!=", Comparison::Unequal),
            ("&", Comparison::Has),
            (">", Comparison::Greater),
            ("<", Comparison::Less),
            ("=", Comparison::Equal),
        ];
        let found = OPERATORS
            .iter()
            .filter_map(|(word, comparison)| Some((value.text.find(word)?, *word, *comparison)));
        // The first one, and of those that begin there the longest.
        let Some((at, word, comparison)) = found.min_by_key(|(at, word, _)| (*at, usize::MAX - word.len()))
        else {
            return self.fail(value.at, "no comparison: write flags&0x400, count>=4096, arg2!=0".to_owned());
        };
        let arg = &value.text[..at];
        if !is_argument(arg) {
            let hint = similar(arg, argument_names());
            return self.fail(value.at, format!("no call has an argument {arg:?}{hint}; write its name as events --json has it, or arg0 to arg5"));
        }
        let number = Part { at: value.at + at + word.len(), text: &value.text[at + word.len()..] };
        Ok(Predicate { arg: arg.to_owned(), comparison, value: self.constant(number)? })
    }

    /// A number, or constants of the kernel's with `|` between: `O_CREAT|O_APPEND`.
    fn constant(&self, value: Part<'_>) -> Result<i64, PlanError> {
        if let Some(text) = value.text.strip_prefix('-') {
            return Ok(-self.number(Part { at: value.at + 1, text }, i64::MAX)?);
        }
        let mut all = 0;
        let mut at = value.at;
        for text in value.text.split('|') {
            let part = Part { at, text };
            all |= match linux::number(text.as_bytes()) {
                Some(number) => i64::from(number),
                None if text.starts_with(|c: char| c.is_ascii_digit()) => self.number(part, i64::MAX)?,
                None => {
                    let hint = similar(text, linux::names());
                    return self.fail(
                        at,
                        format!("no constant is named {text:?}{hint}; write O_APPEND, or a number"),
                    );
                }
            };
            at += text.len() + 1;
        }
        Ok(all)
    }
}

/// A number as `strtoull(…, 0)` reads it: decimal, octal after `0`, hexadecimal after `0x`.
fn unsigned(text: &str) -> Option<u64> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+')),
        None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}

fn argument_names() -> impl Iterator<Item = &'static str> {
    syscalls::Call::ALL.iter().flat_map(|call| call.row().args.unwrap_or_default()).map(|(name, _)| *name)
}

fn is_argument(name: &str) -> bool {
    matches!(name, "arg0" | "arg1" | "arg2" | "arg3" | "arg4" | "arg5")
        || argument_names().any(|known| known == name)
}
