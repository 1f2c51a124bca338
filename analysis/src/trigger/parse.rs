//! From text to conditions, with errors that say where and what else.

mod names;
pub(crate) mod words;

use super::Node;
use super::about::About;
use super::measure::{Calls, Comparison, Condition, Measure};
use crate::near::similar;
use ctrace_format::Metric;
use words::scale;

/// What stands in an expression where something else should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}, column {column}: {what}")]
pub struct TriggerError {
    /// The expression.
    pub text: String,
    /// Where, in characters from 1 on.
    pub column: usize,
    /// What is wrong, and what could stand there.
    pub what: String,
}

/// Longest expression, and deepest nesting.
const MAX_TEXT: usize = 4096;
const MAX_DEPTH: usize = 64;
/// Longest window.
const MAX_WINDOW_NS: f64 = 24.0 * 3600e9;

const SECOND: u64 = 1_000_000_000;

const MEASURES: &str = "errno(CALL) errno(CALL,ERRNO) refused(ADDR) count(CALL) p50(CALL) p90(CALL) p95(CALL) p99(CALL) \
     p99(CALL,PATH) p99(CALL,PEER) max(CALL) signal(NAME) retransmits resets lost exit container-exit oom rss fds threads cpu throttled psi(cpu|memory|io) \
     silent";

pub(super) fn parse(text: &str) -> Result<(Node, Vec<Condition>), TriggerError> {
    let mut parser = Parser { text, at: 0, depth: 0, conditions: Vec::new() };
    if text.len() > MAX_TEXT {
        return Err(parser.error(0, format!("an expression has at most {MAX_TEXT} characters")));
    }
    let root = parser.any()?;
    parser.space();
    if parser.at < text.len() {
        return Err(parser.error(parser.at, "expected `and`, `or`, `for`, or the end".into()));
    }
    Ok((root, parser.conditions))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    conditions: Vec<Condition>,
}

type Parsed<T> = Result<T, TriggerError>;

/// What follows a measure.
enum Value {
    /// A count in a time.
    Count,
    /// A duration, in a time that defaults to 10 s.
    Duration,
    /// Percent, over this time by default.
    Percent { window_ns: u64 },
    /// Percent or bytes.
    Memory,
    /// A number.
    Number,
    /// An exit status.
    Status,
    /// A duration that something lasts.
    Lasting,
    /// An exit status, or none at all.
    AnyStatus,
    /// Nothing.
    Nothing,
}

impl<'a> Parser<'a> {
    fn error(&self, at: usize, what: String) -> TriggerError {
        let column = self.text[..at.min(self.text.len())].chars().count() + 1;
        TriggerError { text: self.text.to_owned(), column, what }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Steps over `token` if it is next.
    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let is_next = self.rest().starts_with(token);
        if is_next {
            self.at += token.len();
        }
        is_next
    }

    /// Steps over a whole word if it is next.
    fn eat_word(&mut self, word: &str) -> bool {
        let before = self.at;
        if self.word() == word {
            return true;
        }
        self.at = before;
        false
    }

    fn word(&mut self) -> &'a str {
        self.space();
        let rest = self.rest();
        let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn any(&mut self) -> Parsed<Node> {
        self.list(&["or", "||"], Self::all, Node::Any)
    }

    fn all(&mut self) -> Parsed<Node> {
        self.list(&["and", "&&"], Self::factor, Node::All)
    }

    fn list(
        &mut self,
        between: &[&str; 2],
        part: fn(&mut Self) -> Parsed<Node>,
        join: fn(Vec<Node>) -> Node,
    ) -> Parsed<Node> {
        let first = part(self)?;
        let mut nodes = vec![first];
        while self.eat_word(between[0]) || self.eat(between[1]) {
            nodes.push(part(self)?);
        }
        Ok(match nodes.pop() {
            Some(only) if nodes.is_empty() => only,
            last => {
                nodes.extend(last);
                join(nodes)
            }
        })
    }

    fn factor(&mut self) -> Parsed<Node> {
        let inner = if self.eat("(") {
            if self.depth == MAX_DEPTH {
                return Err(self.error(self.at, "parentheses nested too deeply".into()));
            }
            self.depth += 1;
            let inner = self.any()?;
            self.depth -= 1;
            self.close()?;
            inner
        } else {
            self.condition()?
        };
        if !self.eat_word("for") {
            return Ok(inner);
        }
        let ns = self.duration("how long, such as 5s")?;
        Ok(Node::For { inner: Box::new(inner), ns, since_ns: None })
    }

    fn close(&mut self) -> Parsed<()> {
        if self.eat(")") { Ok(()) } else { Err(self.error(self.at, "expected `)`".into())) }
    }

    fn condition(&mut self) -> Parsed<Node> {
        self.space();
        let start = self.at;
        let name = self.word();
        let share = |metric, unit_ns, or_host| Measure::Share { metric, unit_ns, or_host };
        let (measure, value) = match name {
            "errno" | "errors" => {
                self.open("a call, such as errno(connect)")?;
                let calls = self.calls()?;
                let errno = if self.eat(",") && !self.eat("*") { Some(self.errno(&calls)?) } else { None };
                self.close()?;
                (Measure::Failed { calls, errno }, Value::Count)
            }
            "count" | "rate" => {
                let (calls, about) = self.one_call(name)?;
                (Measure::Returned { calls, about }, Value::Count)
            }
            "p50" | "p90" | "p95" | "p99" | "max" => {
                let permille = match name {
                    "p50" => 500,
                    "p90" => 900,
                    "p95" => 950,
                    "p99" => 990,
                    _ => 1000,
                };
                let (calls, about) = self.one_call(name)?;
                (Measure::Quantile { calls, permille, about }, Value::Duration)
            }
            "signal" => {
                self.open("a signal, such as signal(SIGSEGV)")?;
                let signo = self.signal()?;
                self.close()?;
                (Measure::Signal { signo }, Value::Count)
            }
            "retransmits" => (Measure::Retransmits, Value::Count),
            "resets" => (Measure::Resets, Value::Count),
            "lost" => (Measure::Lost, Value::Count),
            "refused" => {
                let about = if self.eat("(") {
                    let about = if self.eat("*") { None } else { Some(self.about()?) };
                    self.close()?;
                    about
                } else {
                    None
                };
                (Measure::Refused { about }, Value::Count)
            }
            "exit" => (Measure::Exit, Value::Status),
            // A word ends where the hyphen is.
            "container" if self.eat("-exit") => (Measure::ContainerExit, Value::AnyStatus),
            "oom" => (Measure::Oom, Value::Nothing),
            "rss" | "memory" => (Measure::Memory { of_limit: false }, Value::Memory),
            "silent" => (Measure::Silent, Value::Lasting),
            "fds" => (Measure::Now(Metric::OpenFds), Value::Number),
            "threads" => (Measure::Now(Metric::Pids), Value::Number),
            "cpu" => (share(Metric::CpuNs, 1, false), Value::Percent { window_ns: SECOND }),
            "throttled" => (share(Metric::CpuThrottledNs, 1, false), Value::Percent { window_ns: SECOND }),
            "psi" => {
                self.open("psi(cpu), psi(memory), psi(io), psi(cpu,full), psi(memory,full) or psi(io,full)")?;
                let metric = self.pressure()?;
                self.close()?;
                (share(metric, 1000, true), Value::Percent { window_ns: 10 * SECOND })
            }
            "" => return Err(self.error(start, format!("expected a condition: {MEASURES}"))),
            _ => {
                let known: Vec<&str> = MEASURES.split([' ', '(']).collect();
                let hint = similar(name, known);
                return Err(
                    self.error(start, format!("there is no measure {name:?}{hint}; there are {MEASURES}"))
                );
            }
        };
        let (measure, comparison, limit, window_ns) = self.value(measure, &value)?;
        let text = self.text[start..self.at].trim_end().to_owned();
        self.conditions.push(Condition::new(text, measure, comparison, limit, window_ns));
        Ok(Node::Is(self.conditions.len() - 1))
    }

    fn open(&mut self, what: &str) -> Parsed<()> {
        if self.eat("(") { Ok(()) } else { Err(self.error(self.at, format!("expected `(` and {what}"))) }
    }

    fn one_call(&mut self, name: &str) -> Parsed<(Calls, Option<About>)> {
        self.open(&format!("a call, such as {name}(fsync)"))?;
        let calls = self.calls()?;
        let about = if self.eat(",") { Some(self.about()?) } else { None };
        self.close()?;
        Ok((calls, about))
    }

    fn comparison(&mut self) -> Option<Comparison> {
        // Longer ones first.
        [
            (">=", Comparison::AtLeast),
            ("<=", Comparison::AtMost),
            ("!=", Comparison::Unequal),
            ("==", Comparison::Equal),
            (">", Comparison::Greater),
            ("<", Comparison::Less),
            ("=", Comparison::Equal),
        ]
        .into_iter()
        .find(|(text, _)| self.eat(text))
        .map(|(_, comparison)| comparison)
    }

    fn value(&mut self, measure: Measure, value: &Value) -> Parsed<(Measure, Comparison, f64, u64)> {
        self.space();
        let at = self.at;
        let Some(comparison) = self.comparison() else {
            return match value {
                // Once is enough.
                Value::Count | Value::Nothing => Ok((measure, Comparison::AtLeast, 1.0, SECOND)),
                Value::AnyStatus => Ok((measure, Comparison::AtLeast, 0.0, SECOND)),
                Value::Duration => Err(self.error(at, "expected a comparison, such as >50ms".into())),
                Value::Lasting => Err(self.error(at, "expected how long, such as >5s".into())),
                Value::Percent { .. } => Err(self.error(at, "expected a comparison, such as >20%".into())),
                Value::Memory => Err(self.error(at, "expected a comparison, such as >90% or >500M".into())),
                Value::Number => Err(self.error(at, "expected a comparison, such as >1000".into())),
                Value::Status => Err(self.error(at, "expected a comparison, such as !=0".into())),
            };
        };
        match value {
            Value::Nothing => Err(self.error(at, "nothing is compared here".into())),
            Value::Count => {
                let (limit, unit) = self.number("a count and a time, such as 5/s")?;
                self.no_unit(unit)?;
                let window = self.window()?;
                let window_ns = window.ok_or_else(|| {
                    self.error(self.at, "expected `/` and a time, such as /s or /10s".into())
                })?;
                Ok((measure, comparison, limit, window_ns))
            }
            Value::Duration => {
                if matches!(comparison, Comparison::Equal | Comparison::Unequal) {
                    return Err(self.error(at, "a duration is compared by >, >=, < or <=".into()));
                }
                let limit = self.duration("a time, such as 50ms")?;
                Ok((measure, comparison, limit as f64, self.window()?.unwrap_or(10 * SECOND)))
            }
            Value::Lasting => {
                if !matches!(comparison, Comparison::Greater | Comparison::AtLeast) {
                    return Err(self.error(at, "how long nothing came is compared by > or >=".into()));
                }
                Ok((measure, comparison, self.duration("a time, such as 5s")? as f64, SECOND))
            }
            Value::Percent { window_ns } => {
                let (limit, unit) = self.number("a part, such as 20%")?;
                self.unit(unit, "%", "a part of the time: write it as 20%")?;
                Ok((measure, comparison, limit, self.window()?.unwrap_or(*window_ns)))
            }
            Value::Memory => {
                self.space();
                let figure_at = self.at;
                let (limit, unit) = self.number("a part of the limit or a size, such as 90% or 500M")?;
                let scale = match unit.1 {
                    "%" => return Ok((Measure::Memory { of_limit: true }, comparison, limit, SECOND)),
                    "k" | "K" | "KiB" => 1_u64 << 10,
                    "M" | "MiB" => 1 << 20,
                    "G" | "GiB" => 1 << 30,
                    "B" => 1,
                    "" => {
                        let figure = &self.text[figure_at..unit.0];
                        return Err(self.error(
                            unit.0,
                            format!(
                                "{figure} of what? Write {figure}% for a part of the limit, or {figure}M for mebibytes (also K, G, B)"
                            ),
                        ));
                    }
                    _ => return Err(self.error(unit.0, "expected %, K, M or G".into())),
                };
                Ok((measure, comparison, limit * scale as f64, SECOND))
            }
            Value::Number | Value::Status | Value::AnyStatus => {
                self.space();
                let figure_at = self.at;
                let (limit, unit) = self.number("a number")?;
                self.no_unit(unit)?;
                if !matches!(value, Value::Number) && limit > 255.0 {
                    return Err(self.error(
                        figure_at,
                        "an exit status is at most 255; of a killed process it is 128 + signal".into(),
                    ));
                }
                Ok((measure, comparison, limit, SECOND))
            }
        }
    }

    fn no_unit(&self, unit: (usize, &str)) -> Parsed<()> {
        self.unit(unit, "", "a plain number")
    }

    fn unit(&self, (at, found): (usize, &str), wanted: &str, what: &str) -> Parsed<()> {
        if found == wanted { Ok(()) } else { Err(self.error(at, format!("expected {what}"))) }
    }

    /// A number, and its unit with its place.
    fn number(&mut self, what: &str) -> Parsed<(f64, (usize, &'a str))> {
        self.space();
        let at = self.at;
        let rest = self.rest();
        let len = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let number: f64 = rest[..len].parse().map_err(|_| self.error(at, format!("expected {what}")))?;
        self.at += len;
        let unit_at = self.at;
        let rest = self.rest();
        let len = rest.find(|c: char| !(c.is_alphabetic() || c == '%')).unwrap_or(rest.len());
        // A word behind a space is the next word.
        self.at += len;
        Ok((number, (unit_at, &rest[..len])))
    }

    fn duration(&mut self, what: &str) -> Parsed<u64> {
        self.space();
        let at = self.at;
        let (number, (unit_at, unit)) = self.number(what)?;
        let Some(scale) = scale(unit) else {
            return Err(self.error(unit_at, "expected a unit of time: us, ms, s, m or h".into()));
        };
        self.bounded(at, number * scale)
    }

    fn bounded(&self, at: usize, ns: f64) -> Parsed<u64> {
        if (1.0..=MAX_WINDOW_NS).contains(&ns) {
            Ok(ns as u64)
        } else {
            Err(self.error(at, "expected a time of at least 1ns and at most 24h".into()))
        }
    }

    /// `/s`, `/10s`, if it is there.
    fn window(&mut self) -> Parsed<Option<u64>> {
        if !self.eat("/") {
            return Ok(None);
        }
        self.space();
        let at = self.at;
        if self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            return self.duration("a time, such as /10s").map(Some);
        }
        let unit = self.word();
        match scale(unit) {
            Some(scale) => self.bounded(at, scale).map(Some),
            None => Err(self.error(at, "expected a time, such as /s or /10s".into())),
        }
    }
}
