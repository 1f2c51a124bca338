//! Triggers: conditions on the stream of events, written by people, that say when something is wrong.
//!
//! Used to dump a flight recorder, to mark a recording, and to abort a replay. One expression is parsed once
//! ([`Trigger::parse`]) and then sees every event ([`Trigger::observe`]); it keeps sums over sliding windows in bounded
//! memory, whatever comes. Events are its clock: resource samples come ten times a second even when nothing else does.
//!
//! ```text
//! expression  = term { "or" term }
//! term        = factor { "and" factor }
//! factor      = ( "(" expression ")" | condition ) [ "for" TIME ]
//! condition   = measure [ comparison value [ "/" TIME ] ]
//! comparison  = ">" | ">=" | "<" | "<=" | "=" | "!="
//! ```
//!
//! | measure | value | of what |
//! |---|---|---|
//! | `errno(CALL)`, `errno(CALL,ERRNO)`, `errno(*)` | count per time: `>5/s`, `>=3/10s` | calls that failed |
//! | `count(CALL)`, `rate(CALL)` | count per time | calls that returned |
//! | `p50(CALL)` `p90` `p95` `p99` `max` | time: `>50ms`, over the last 10 s or `>50ms/1m` | how long calls took |
//! | `signal(NAME)` | count per time | signals generated |
//! | `retransmits`, `resets`, `lost` | count per time | segments sent again, connections reset, events lost |
//! | `exit` | status: `!=0`, `=137` | processes that ended; 128 + signal for a killed one |
//! | `oom` | – | OOM kills in the scope, or on the host where the scope has no counter of its own |
//! | `rss` (also `memory`) | `>90%` of the limit, `>500M` | resident memory of processes, charged memory of a cgroup |
//! | `fds`, `threads` | number | open descriptors, tasks |
//! | `cpu`, `throttled` | percent of the last second, or `>20%/10s` | CPU time used (100 % is one CPU), time throttled |
//! | `psi(cpu)` `psi(memory)` `psi(io)` `psi(memory,full)` `psi(io,full)` | percent of the last 10 s | pressure stall |
//!
//! Counts without a comparison mean at least one. A percentile of fewer than 10 calls is none: nothing is compared. A
//! condition that asks for little (`<`, `<=`, `=`) holds only once its whole window was seen.
//!
//! A trigger fires when its expression becomes true. It is armed again when the expression was false for 10 s on end and a
//! minute has passed since it fired, so that one incident is one firing ([`Rearm`]).

mod measure;
mod parse;
mod sliding;

use ctrace_format::{Event, Metric};
use measure::Condition;

pub use parse::TriggerError;

/// When a trigger that fired is armed again: both must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rearm {
    /// The expression was false for so long.
    pub quiet_ns: u64,
    /// So long has passed since it fired.
    pub cooldown_ns: u64,
}

impl Default for Rearm {
    fn default() -> Self {
        Self { quiet_ns: 10_000_000_000, cooldown_ns: 60_000_000_000 }
    }
}

/// One firing of a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// The time of the event that made the expression true.
    pub t_ns: u64,
    /// The expression, with the figures that made it true.
    pub text: String,
}

/// A parsed expression and what it has seen.
#[derive(Debug, Clone)]
pub struct Trigger {
    text: String,
    root: Node,
    conditions: Vec<Condition>,
    rearm: Rearm,
    now_ns: u64,
    judged_ns: u64,
    state: Armed,
}

#[derive(Debug, Clone, Copy)]
enum Armed {
    Yes,
    /// Fired; the expression was true until the second time.
    No {
        fired_ns: u64,
        true_ns: u64,
    },
}

#[derive(Debug, Clone)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    /// Index of a condition.
    Is(usize),
    For {
        inner: Box<Node>,
        ns: u64,
        since_ns: Option<u64>,
    },
}

/// Without events that concern it, an expression is judged this often.
const JUDGE_EVERY_NS: u64 = 10_000_000;

impl Trigger {
    /// Parses an expression.
    ///
    /// # Errors
    /// When it is none: where, and what could stand there.
    pub fn parse(text: &str) -> Result<Self, TriggerError> {
        let (root, conditions) = parse::parse(text)?;
        Ok(Self {
            text: text.trim().to_owned(),
            root,
            conditions,
            rearm: Rearm::default(),
            now_ns: 0,
            judged_ns: 0,
            state: Armed::Yes,
        })
    }

    /// With other rules for arming again.
    #[must_use]
    pub fn with_rearm(mut self, rearm: Rearm) -> Self {
        self.rearm = rearm;
        self
    }

    /// The expression.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Looks at an event; they come about in order of their ends.
    pub fn observe(&mut self, event: &Event) -> Option<Firing> {
        self.now_ns = self.now_ns.max(event.end_ns());
        let mut concerned = false;
        for condition in &mut self.conditions {
            concerned |= condition.observe(event, self.now_ns);
        }
        if !concerned && self.now_ns < self.judged_ns + JUDGE_EVERY_NS {
            return None;
        }
        self.judged_ns = self.now_ns;
        let now_ns = self.now_ns;
        for condition in &mut self.conditions {
            condition.judge(now_ns);
        }
        let holds = self.root.holds(&self.conditions, now_ns);
        match &mut self.state {
            Armed::Yes if holds => {
                self.state = Armed::No { fired_ns: now_ns, true_ns: now_ns };
                let why: Vec<String> = self.conditions.iter().filter_map(Condition::figures).collect();
                let why = why.join(", ");
                // A condition alone is the expression.
                let text = if why.starts_with(&self.text) { why } else { format!("{} ({why})", self.text) };
                Some(Firing { t_ns: now_ns, text })
            }
            Armed::Yes => None,
            Armed::No { true_ns, .. } if holds => {
                *true_ns = now_ns;
                None
            }
            Armed::No { fired_ns, true_ns } => {
                let Rearm { quiet_ns, cooldown_ns } = self.rearm;
                if now_ns >= true_ns.saturating_add(quiet_ns)
                    && now_ns >= fired_ns.saturating_add(cooldown_ns)
                {
                    self.state = Armed::Yes;
                }
                None
            }
        }
    }

    /// Whether the trigger waits for something to happen, rather than for its last incident to be over.
    pub fn is_armed(&self) -> bool {
        matches!(self.state, Armed::Yes)
    }

    /// What the expression needs and the stream has not had so far: to be asked when resource samples have come, a
    /// second after the start. A condition that lacks its figure never holds.
    pub fn lacking(&self) -> Vec<String> {
        self.conditions.iter().filter_map(Condition::lacking).collect()
    }
}

impl Node {
    fn holds(&mut self, conditions: &[Condition], now_ns: u64) -> bool {
        match self {
            // All are looked at: each `for` has its own clock.
            Self::All(nodes) => {
                nodes.iter_mut().map(|node| node.holds(conditions, now_ns)).filter(|holds| !holds).count()
                    == 0
            }
            Self::Any(nodes) => {
                nodes.iter_mut().map(|node| node.holds(conditions, now_ns)).filter(|holds| *holds).count() > 0
            }
            Self::Is(at) => conditions[*at].holds(),
            Self::For { inner, ns, since_ns } => {
                if inner.holds(conditions, now_ns) {
                    let since = *since_ns.get_or_insert(now_ns);
                    now_ns - since >= *ns
                } else {
                    *since_ns = None;
                    false
                }
            }
        }
    }
}

/// How a missing metric is called, and why it may be missing.
fn metric_text(metric: Metric) -> &'static str {
    match metric {
        Metric::CpuThrottledNs => {
            "the scope has no throttling counter: it is no cgroup with the cpu controller (--cgroup, --pod)"
        }
        Metric::PsiCpuSomeUs
        | Metric::PsiMemorySomeUs
        | Metric::PsiMemoryFullUs
        | Metric::PsiIoSomeUs
        | Metric::PsiIoFullUs => "pressure stall information is off on this host (boot with psi=1)",
        Metric::OomKills => "neither the scope nor the host counts OOM kills",
        Metric::MemoryLimitBytes => "the scope has no memory limit and the host's memory is not known",
        Metric::RssBytes => "the scope's memory is not sampled",
        Metric::OpenFds => "open descriptors are not sampled",
        Metric::Pids => "the scope's tasks are not counted: it is no cgroup with the pids controller",
        Metric::CpuNs => "the scope's CPU time is not counted",
        _ => "it is not sampled",
    }
}
