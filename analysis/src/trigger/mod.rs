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
//! | `errno(CALL)`, `errno(CALL,ERRNO)`, `errno(*)` (also `errors`) | count per time: `>5/s`, `>=3/10s` | calls that failed; of `connect` the outcome |
//! | `refused`, `refused(ADDR)` | count per time | connections that nobody took |
//! | `count(CALL)`, `rate(CALL)`, `count(CALL,WHERE)` | count per time | calls that returned |
//! | `p50(CALL)` `p90` `p95` `p99` `max`, `p99(CALL,WHERE)` | time: `>50ms`, over the last 10 s or `>50ms/1m` | how long calls took |
//! | `signal(NAME)` | count per time | signals generated |
//! | `retransmits`, `resets`, `lost` | count per time | segments sent again, connections reset, events lost |
//! | `exit` | status: `!=0`, `=137` | processes that ended; 128 + signal for a killed one |
//! | `container-exit` | –, or status: `!=0` | containers that ended, with the status of their first process |
//! | `oom` | – | OOM kills in the scope, or on the host where the scope has no counter of its own |
//! | `rss` (also `memory`) | `>90%` of the limit, `>500M` | resident memory of processes, charged memory of a cgroup; in percent, of any container by its own limit |
//! | `fds`, `threads` | number | open descriptors, tasks |
//! | `cpu`, `throttled` | percent of the last second, or `>20%/10s` | CPU time used (100 % is one CPU), time throttled |
//! | `psi(cpu)` `psi(memory)` `psi(io)` `psi(cpu,full)` `psi(memory,full)` `psi(io,full)` | percent of the last 10 s | pressure stall |
//! | `silent` | time: `>5s` | how long no task of the scope did anything: no call returned, no CPU time was used, nothing else came |
//!
//! `WHERE` is a path (a prefix, or a pattern with `*` and `?`) or an address (`10.0.0.7:5432`, `10.0.0.7`, `:5432`). Without an
//! error, `errno` counts what is a failure by [`ctrace_format::syscalls::failing`]: neither calls that would have had to
//! wait, nor those by which healthy programs look around; a named error counts wherever a call returns it.
//!
//! Counts without a comparison mean at least one. A percentile of fewer than 10 calls is none: nothing is compared. A
//! condition that asks for little (`<`, `<=`, `=`) holds only once its whole window was seen.
//!
//! A trigger fires when its expression becomes true. It is armed again when the expression was false for 10 s on end and a
//! minute has passed since it fired, so that one incident is one firing ([`Rearm`]). Somebody else, for whom it holds alone,
//! makes it fire meanwhile: another program, container, or peer of a connection.

mod about;
mod blame;
mod ends;
mod measure;
mod memory;
mod parse;
mod silence;
mod sliding;

use crate::connects::Connects;
use about::Peers;
use blame::Places;
use ctrace_format::{Event, Known, Metric};
use ends::Ends;
use measure::{Condition, Sight};

pub use parse::TriggerError;
pub(crate) use parse::words::SIGNALS;

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
    connects: Option<Connects>,
    peers: Option<Peers>,
    places: Places,
    ends: Ends,
}

#[derive(Debug, Clone)]
enum Armed {
    Yes,
    /// Fired; the expression was true until the second time.
    No {
        fired_ns: u64,
        true_ns: u64,
        /// By whom: others may make it fire.
        blamed: Vec<String>,
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

/// Culprits that one incident may have: more are no incident of one culprit.
const MAX_BLAMED: usize = 8;

/// Without events that concern it, an expression is judged this often.
const JUDGE_EVERY_NS: u64 = 10_000_000;

impl Trigger {
    /// Parses an expression.
    ///
    /// # Errors
    /// When it is none: where, and what could stand there.
    pub fn parse(text: &str) -> Result<Self, TriggerError> {
        let (root, conditions) = parse::parse(text)?;
        let connects = conditions.iter().any(Condition::is_about_connects).then(Connects::new);
        let peers = conditions.iter().any(Condition::is_about_peers).then(Peers::default);
        Ok(Self {
            text: text.trim().to_owned(),
            root,
            conditions,
            rearm: Rearm::default(),
            now_ns: 0,
            judged_ns: 0,
            state: Armed::Yes,
            connects,
            peers,
            places: Places::default(),
            ends: Ends::default(),
        })
    }

    /// Parses an expression that is to hold all the time, a *steady state*: the trigger fires when it does not hold.
    ///
    /// A condition of which nothing is known, as a percentile of calls that are not made, does not fail.
    ///
    /// # Errors
    /// When it is none: where, and what could stand there.
    pub fn parse_steady(text: &str) -> Result<Self, TriggerError> {
        let mut trigger = Self::parse(text)?;
        if !trigger.root.negate() {
            let what = "a steady state holds all the time: leave out `for`".to_owned();
            return Err(TriggerError { text: trigger.text, column: 1, what });
        }
        trigger.conditions.iter_mut().for_each(Condition::negate);
        Ok(trigger)
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

    /// Looks at an event; they come about in order of their ends. `known` tells what ids mean, as far as that is known.
    pub fn observe(&mut self, event: &Event, known: &dyn Known) -> Option<Firing> {
        self.now_ns = self.now_ns.max(event.end_ns());
        let now_ns = self.now_ns;
        let connected = self
            .connects
            .as_mut()
            .and_then(|connects| connects.observe(event, |object| known.cookie(object)));
        if let Some(peers) = &mut self.peers {
            peers.observe(event, known);
        }
        let placed = self.places.observe(event);
        let ended = self.ends.observe(event, placed, &self.places, known);
        let none = Peers::default();
        let sight = Sight {
            event,
            connected: connected.as_ref(),
            ended: &ended,
            peers: self.peers.as_ref().unwrap_or(&none),
            places: &self.places,
            known,
            now_ns,
        };
        let mut concerned = false;
        for condition in &mut self.conditions {
            concerned |= condition.observe(&sight);
        }
        if !concerned && now_ns < self.judged_ns + JUDGE_EVERY_NS {
            return None;
        }
        self.decide(concerned, known)
    }

    /// Time passes, and nothing comes: `now_ns` is the time on the timeline of the events. For triggers that are about
    /// silence, where nobody else tells the time when what delivers the events is silent itself.
    pub fn pass(&mut self, now_ns: u64) -> Option<Firing> {
        self.now_ns = self.now_ns.max(now_ns);
        if self.now_ns < self.judged_ns + JUDGE_EVERY_NS {
            return None;
        }
        self.decide(false, &())
    }

    /// A sign of life that no event tells of.
    pub fn note_life(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        for condition in &mut self.conditions {
            condition.note_life(self.now_ns);
        }
    }

    /// Decides whether the expression holds by all that was seen.
    fn decide(&mut self, concerned: bool, known: &dyn Known) -> Option<Firing> {
        let now_ns = self.now_ns;
        self.judged_ns = now_ns;
        for condition in &mut self.conditions {
            condition.judge(now_ns);
        }
        let holds = self.root.holds(&self.conditions, now_ns);
        match &mut self.state {
            Armed::Yes if holds => {
                let blamed = blamed(&self.conditions);
                self.state = Armed::No { fired_ns: now_ns, true_ns: now_ns, blamed };
                Some(self.firing(None, known))
            }
            Armed::Yes => None,
            Armed::No { true_ns, blamed, .. } if holds => {
                *true_ns = now_ns;
                if !concerned || blamed.len() >= MAX_BLAMED {
                    return None;
                }
                // Somebody else's incident is another one.
                let alone = self.conditions.iter().flat_map(Condition::culprits).filter(|(_, alone)| *alone);
                let conditions = &self.conditions;
                let root = &self.root;
                let key = alone.map(|(key, _)| key).find(|key| {
                    !blamed.contains(key)
                        && conditions.iter().any(|condition| condition.blames(key))
                        && root.holds_for(conditions, key, now_ns)
                })?;
                blamed.push(key.clone());
                Some(self.firing(Some(&key), known))
            }
            Armed::No { fired_ns, true_ns, .. } => {
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

    /// That the expression holds, with the figures; by one culprit alone, if there is a `key`.
    fn firing(&self, key: Option<&str>, known: &dyn Known) -> Firing {
        let meant = |condition: &&Condition| key.is_none_or(|key| condition.holds_for(key));
        let why: Vec<String> = self
            .conditions
            .iter()
            .filter(meant)
            .filter_map(|condition| condition.figures(key.filter(|key| condition.blames(key)), known))
            .collect();
        let why = why.join(", ");
        // A condition alone is the expression.
        let text = if why.starts_with(&self.text) { why } else { format!("{} ({why})", self.text) };
        Firing { t_ns: self.now_ns, text }
    }

    /// Whether it asks for paths by their names, which a strict redaction does not leave.
    pub fn is_about_paths(&self) -> bool {
        self.conditions.iter().any(Condition::is_about_paths)
    }

    /// Whether it asks for how long nothing came.
    pub fn is_about_silence(&self) -> bool {
        self.conditions.iter().any(Condition::is_about_silence)
    }

    /// Whether something holds because nothing came.
    pub fn is_silent(&self) -> bool {
        self.conditions.iter().any(|condition| condition.is_about_silence() && condition.holds())
    }

    /// Conditions that cannot be told by samples of these metrics and by how long nothing came: as they were written.
    pub fn beyond(&self, sampled: &[Metric]) -> Vec<&str> {
        let can_tell = |condition: &&Condition| {
            condition.is_about_silence() || condition.metric().is_some_and(|metric| sampled.contains(&metric))
        };
        self.conditions.iter().filter(|condition| !can_tell(condition)).map(Condition::text).collect()
    }

    /// Whether the trigger waits for something to happen, rather than for its last incident to be over.
    pub fn is_armed(&self) -> bool {
        matches!(self.state, Armed::Yes)
    }

    /// Whether [`Self::lacking`] can be asked: the scope was sampled, so that what did not come does not come.
    pub fn is_settled(&self) -> bool {
        self.conditions.iter().all(Condition::is_settled)
    }

    /// What the expression needs and this host or scope does not have: to be asked when the trigger is settled. A
    /// condition that lacks its figure never holds.
    pub fn lacking(&self, known: &dyn Known) -> Vec<String> {
        self.conditions.iter().filter_map(|condition| condition.lacking(known)).collect()
    }
}

/// Who made the conditions hold: those who would have alone, or else all of them.
fn blamed(conditions: &[Condition]) -> Vec<String> {
    let mut blamed = Vec::new();
    for condition in conditions.iter().filter(|condition| condition.holds()) {
        let culprits = condition.culprits();
        let any_alone = culprits.iter().any(|(_, alone)| *alone);
        blamed.extend(culprits.into_iter().filter(|(_, alone)| *alone || !any_alone).map(|(key, _)| key));
    }
    blamed
}

impl Node {
    /// Holds from now on where it did not, once its conditions are negated too (De Morgan). False: it cannot.
    fn negate(&mut self) -> bool {
        let nodes = match self {
            Self::Is(_) => return true,
            Self::For { .. } => return false,
            Self::All(nodes) | Self::Any(nodes) => std::mem::take(nodes),
        };
        let was_all = matches!(self, Self::All(_));
        let mut nodes = nodes;
        let all = nodes.iter_mut().all(Self::negate);
        *self = if was_all { Self::Any(nodes) } else { Self::All(nodes) };
        all
    }

    /// Whether it holds by what one culprit did alone.
    fn holds_for(&self, conditions: &[Condition], key: &str, now_ns: u64) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.holds_for(conditions, key, now_ns)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds_for(conditions, key, now_ns)),
            Self::Is(at) => conditions[*at].holds_for(key),
            Self::For { inner, ns, since_ns } => {
                inner.holds_for(conditions, key, now_ns)
                    && since_ns.is_some_and(|since| now_ns - since >= *ns)
            }
        }
    }

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
        | Metric::PsiCpuFullUs
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
