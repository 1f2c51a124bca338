//! What conditions measure, and whether they hold.

use super::metric_text;
use super::sliding::{Counts, Growth};
use ctrace_format::{Connection, ConnectionKind, Event, Metric, Process, ProcessKind, Resource, Sysno};

/// Calls that a percentile needs.
const MIN_CALLS: u64 = 10;
/// Subjects of resource samples.
const HOST: u32 = 0;
const SCOPE: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Greater,
    AtLeast,
    Less,
    AtMost,
    Equal,
    Unequal,
}

impl Comparison {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Greater => value > limit,
            Self::AtLeast => value >= limit,
            Self::Less => value < limit,
            Self::AtMost => value <= limit,
            Self::Equal => value.total_cmp(&limit).is_eq(),
            Self::Unequal => value.total_cmp(&limit).is_ne(),
        }
    }

    /// Whether it may hold because nothing has been seen yet.
    fn is_eager(self) -> bool {
        matches!(self, Self::Less | Self::AtMost | Self::Equal)
    }
}

/// Which calls; empty: all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calls(pub(super) Vec<Sysno>);

impl Calls {
    fn has(&self, sysno: Sysno) -> bool {
        self.0.is_empty() || self.0.contains(&sysno)
    }
}

/// What a condition is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Measure {
    Failed {
        calls: Calls,
        errno: Option<u32>,
    },
    Returned {
        calls: Calls,
    },
    /// In 1/1000; 1000: the longest.
    Quantile {
        calls: Calls,
        permille: u64,
    },
    Signal {
        signo: u32,
    },
    Retransmits,
    Resets,
    Lost,
    /// The status is compared, not a count.
    Exit,
    Oom,
    Memory {
        of_limit: bool,
    },
    /// A value as it is now.
    Now(Metric),
    /// Growth in percent of the time; the metric's unit in ns; whether the host's stands in where the scope has none.
    Share {
        metric: Metric,
        unit_ns: u32,
        or_host: bool,
    },
}

/// How its figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Count,
    Percent,
    Bytes,
    Number,
}

#[derive(Debug, Clone)]
enum State {
    Counts(Counts),
    Growth(Growth),
    /// The value, and what limits it: the scope's limit, and the host's.
    Value {
        value: Option<u64>,
        limit: Option<u64>,
        host_limit: Option<u64>,
    },
}

/// A measure compared with a limit.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    text: String,
    measure: Measure,
    comparison: Comparison,
    limit: f64,
    window_ns: u64,
    state: State,
    first_ns: Option<u64>,
    holds: bool,
    /// The last readings of the counter of OOM kills: of the host, of the scope.
    oom: [Option<u64>; 2],
    /// OOM kills that were told and that no counter has shown yet.
    oom_told: u64,
    /// The scope has the metric itself.
    scope_has: bool,
}

impl Condition {
    pub(super) fn new(
        text: String,
        measure: Measure,
        comparison: Comparison,
        limit: f64,
        window_ns: u64,
    ) -> Self {
        let state = match measure {
            Measure::Memory { .. } | Measure::Now(_) => {
                State::Value { value: None, limit: None, host_limit: None }
            }
            Measure::Share { .. } => State::Growth(Growth::new(window_ns)),
            _ => State::Counts(Counts::new(window_ns)),
        };
        Self {
            text,
            measure,
            comparison,
            limit,
            window_ns,
            state,
            first_ns: None,
            holds: false,
            oom: [None; 2],
            oom_told: 0,
            scope_has: false,
        }
    }

    /// Takes the event in. Returns whether it concerns the condition.
    pub(super) fn observe(&mut self, event: &Event, now_ns: u64) -> bool {
        self.first_ns.get_or_insert(now_ns);
        let (limit, comparison) = (self.limit, self.comparison);
        // Events and high ones to count.
        let count = match (&self.measure, event) {
            (Measure::Failed { calls, errno }, Event::Syscall(call)) => {
                let failed = call.errno().is_some_and(|e| errno.is_none_or(|wanted| wanted == e));
                (failed && calls.has(call.sysno)).then_some((1, 0))
            }
            (Measure::Returned { calls }, Event::Syscall(call)) => calls.has(call.sysno).then_some((1, 0)),
            (Measure::Quantile { calls, .. }, Event::Syscall(call)) => calls.has(call.sysno).then(|| {
                let took = call.duration_ns as f64;
                let is_high = match comparison {
                    Comparison::AtLeast | Comparison::Less => took >= limit,
                    _ => took > limit,
                };
                (1, u64::from(is_high))
            }),
            (Measure::Signal { signo }, Event::Signal(signal)) => {
                (signal.signo == *signo && !signal.delivered).then_some((1, 0))
            }
            (
                Measure::Retransmits,
                Event::Connection(Connection { kind: ConnectionKind::Retransmit, .. }),
            )
            | (
                Measure::Resets,
                Event::Connection(Connection {
                    kind: ConnectionKind::ResetSent | ConnectionKind::ResetReceived,
                    ..
                }),
            ) => Some((1, 0)),
            (Measure::Lost, Event::Loss(loss)) => Some((loss.count, 0)),
            (
                Measure::Exit,
                Event::Process(Process { kind: ProcessKind::Exit { status, group_dead: true }, .. }),
            ) => comparison.holds(f64::from(exit_code(*status)), limit).then_some((1, 0)),
            (Measure::Oom, Event::Process(Process { kind: ProcessKind::OomKill { .. }, .. })) => {
                self.oom_told += 1;
                Some((1, 0))
            }
            (Measure::Oom, Event::Resource(Resource { metric: Metric::OomKills, subject, value, .. })) => {
                let known = self.oom.get_mut(*subject as usize);
                let before = known.and_then(|last| last.replace(*value));
                // The host's counter stands in where the scope has none.
                let counts = *subject == SCOPE || self.oom[SCOPE as usize].is_none();
                before.filter(|before| counts && value > before).map(|before| {
                    // The counter follows what the kernel told at once.
                    let told = self.oom_told.min(value - before);
                    self.oom_told -= told;
                    (value - before - told, 0)
                })
            }
            (_, Event::Resource(sample)) => return self.sample(sample, now_ns),
            _ => None,
        };
        let (State::Counts(counts), Some((events, high))) = (&mut self.state, count) else { return false };
        counts.add(now_ns, events, high);
        true
    }

    fn sample(&mut self, sample: &Resource, now_ns: u64) -> bool {
        match (&self.measure, &mut self.state) {
            (Measure::Share { metric, or_host, .. }, State::Growth(growth)) if *metric == sample.metric => {
                match sample.subject {
                    SCOPE if !self.scope_has => {
                        // Not the host's any more.
                        self.scope_has = true;
                        *growth = Growth::new(self.window_ns);
                    }
                    SCOPE => {}
                    HOST if *or_host && !self.scope_has => {}
                    _ => return false,
                }
                growth.read(now_ns, sample.value);
            }
            (Measure::Now(metric), State::Value { value, .. })
                if *metric == sample.metric && sample.subject == SCOPE =>
            {
                *value = Some(sample.value);
            }
            (Measure::Memory { .. }, State::Value { value, limit, host_limit }) => {
                match (sample.subject, sample.metric) {
                    (SCOPE, Metric::MemoryBytes | Metric::RssBytes) => *value = Some(sample.value),
                    (SCOPE, Metric::MemoryLimitBytes) => *limit = Some(sample.value),
                    (HOST, Metric::MemoryLimitBytes) => *host_limit = Some(sample.value),
                    _ => return false,
                }
            }
            _ => return false,
        }
        true
    }

    /// Decides whether it holds now.
    pub(super) fn judge(&mut self, now_ns: u64) {
        if let State::Counts(counts) = &mut self.state {
            counts.advance(now_ns);
        }
        let seen_ns = now_ns - self.first_ns.unwrap_or(now_ns);
        self.holds = match (&self.measure, &self.state) {
            (Measure::Quantile { permille, .. }, State::Counts(counts)) => {
                let (n, low) = (counts.events(), counts.events() - counts.high());
                let least = if *permille == 1000 { 1 } else { MIN_CALLS };
                // Of n sorted durations, the quantile is the one at this place, from 1 on.
                let place = (n * permille).div_ceil(1000);
                let is_high = low < place;
                let wants_high = matches!(self.comparison, Comparison::Greater | Comparison::AtLeast);
                n >= least && is_high == wants_high
            }
            (Measure::Exit, State::Counts(counts)) => counts.events() > 0,
            (_, State::Counts(counts)) => {
                (!self.comparison.is_eager() || seen_ns >= self.window_ns)
                    && self.comparison.holds(counts.events() as f64, self.limit)
            }
            _ => self.value().is_some_and(|value| self.comparison.holds(value, self.limit)),
        };
    }

    /// The figure, of a condition that compares one.
    fn value(&self) -> Option<f64> {
        match (&self.measure, &self.state) {
            (Measure::Share { unit_ns, .. }, State::Growth(growth)) => {
                growth.share().map(|share| share * f64::from(*unit_ns) * 100.0)
            }
            (Measure::Memory { of_limit: true }, State::Value { value, .. }) => {
                Some((*value)? as f64 * 100.0 / self.memory_limit()? as f64)
            }
            (_, State::Value { value, .. }) => value.map(|v| v as f64),
            (_, State::Counts(counts)) => Some(counts.events() as f64),
            _ => None,
        }
    }

    fn memory_limit(&self) -> Option<u64> {
        let State::Value { limit, host_limit, .. } = &self.state else { return None };
        limit.filter(|l| *l != u64::MAX).or(*host_limit).filter(|l| *l > 0)
    }

    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// What made it hold.
    pub(super) fn figures(&self) -> Option<String> {
        if !self.holds {
            return None;
        }
        let window = time_text(self.window_ns);
        if let (Measure::Quantile { .. }, State::Counts(counts)) = (&self.measure, &self.state) {
            let (high, n) = (counts.high(), counts.events());
            return Some(format!("{}: {high} of {n} above in {window}", self.text));
        }
        let value = self.value()?;
        let figure = match self.unit() {
            Unit::Count => format!("{value} in {window}"),
            Unit::Percent => format!("{value:.1} %"),
            Unit::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
            Unit::Number => format!("{value}"),
        };
        Some(format!("{}: {figure}", self.text))
    }

    fn unit(&self) -> Unit {
        match self.measure {
            Measure::Memory { of_limit: true } | Measure::Share { .. } => Unit::Percent,
            Measure::Memory { of_limit: false } => Unit::Bytes,
            Measure::Now(_) => Unit::Number,
            _ => Unit::Count,
        }
    }

    /// What it needs and has not had.
    pub(super) fn lacking(&self) -> Option<String> {
        let missing = match (&self.measure, &self.state) {
            (Measure::Share { metric, .. }, State::Growth(growth)) if growth.is_empty() => *metric,
            (Measure::Now(metric), State::Value { value: None, .. }) => *metric,
            (Measure::Memory { .. }, State::Value { value: None, .. }) => Metric::RssBytes,
            (Measure::Memory { of_limit: true }, _) if self.memory_limit().is_none() => {
                Metric::MemoryLimitBytes
            }
            (Measure::Oom, _) if self.oom == [None; 2] => Metric::OomKills,
            _ => return None,
        };
        Some(format!("{} cannot hold here: {}", self.text, metric_text(missing)))
    }
}

/// As a shell tells it.
fn exit_code(status: u32) -> u32 {
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    }
}

/// `10s`, `250ms`.
fn time_text(ns: u64) -> String {
    match ns {
        _ if ns.is_multiple_of(60_000_000_000) => format!("{}m", ns / 60_000_000_000),
        _ if ns.is_multiple_of(1_000_000_000) => format!("{}s", ns / 1_000_000_000),
        _ => format!("{}ms", ns as f64 / 1e6),
    }
}
