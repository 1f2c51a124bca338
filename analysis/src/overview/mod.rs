//! The contents of a trace in figures: how many events of each kind, over which time, and how many are missing.
//!
//! [`Overview`] reads the few events of the rare classes; [`CallCounts`] reads every call.

pub(crate) mod calls;
mod doubts;
mod spent;

pub use calls::{CallCount, CallCounts, ContainerCount, Failed, On};
pub use doubts::Doubt;
pub use spent::{Requests, Spent};

use crate::clock::{Jump, Jumps};
use crate::resets::{Reset, Resets};
use ctrace_format::errno::ECONNREFUSED;
use ctrace_format::{
    Class, ConnectionKind, Container, Event, Filter, Injection, LossCause, ProcessKind, SockCookie, State,
    StrId, Sysno, TaskDef, TaskId, Trace,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Figures of a trace that need no pass over its calls.
#[derive(Debug, Default)]
pub struct Overview {
    /// Length of the recording, or of the window of it that the trace holds, ns.
    pub duration_ns: u64,
    /// Processes that it tells of.
    pub processes: u64,
    /// Threads that it tells of.
    pub threads: u64,
    /// Calls that were only counted.
    pub aggregated: u64,
    /// Changes in how much is recorded of a call.
    pub levels: u64,
    /// Events that were seen and are not in the trace.
    pub lost: Lost,
    /// TCP connections.
    pub network: Network,
    /// Hits of the rules of a fault plan, by the index of the rule: the trace is of a replay.
    pub injections: BTreeMap<u32, Injections>,
    /// Moments at which a clock was set, or stood still.
    pub jumps: Vec<Jump>,
    /// Reasons why the file tells less than a recording does, as far as they are known without reading all of it.
    doubts: Vec<Doubt>,
}

/// Events that were seen and are not in the trace.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Lost {
    /// All of them.
    pub total: u64,
    /// By their class.
    pub by_class: BTreeMap<Class, u64>,
    /// By the reason.
    pub by_cause: BTreeMap<LossCause, u64>,
    /// Events that could not be written: from when on, ns since the start, and how many.
    pub cut: Option<(u64, u64)>,
}

/// Hits of a rule of a fault plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injections {
    /// The rule's id; without one, the rule as it was written.
    pub name: StrId,
    /// How many.
    pub count: u64,
    /// By call.
    pub calls: BTreeMap<Sysno, u64>,
    /// When the first was.
    pub first_ns: u64,
    /// When the last was.
    pub last_ns: u64,
}

/// TCP connections, in figures.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Network {
    /// How many there were.
    pub connections: u64,
    /// How often one was refused.
    pub refused: u64,
    /// How often one was reset, by either end; a refusal is none.
    pub reset: u64,
    /// Segments that were sent again.
    pub retransmits: u64,
}

impl Overview {
    /// Works it out.
    pub fn of(trace: &Trace) -> Self {
        let mut this = Self {
            duration_ns: duration_ns(trace),
            processes: tasks(trace).map(|t| t.tgid).collect::<HashSet<_>>().len() as u64,
            threads: tasks(trace).map(|t| (t.tid, t.start_ns)).collect::<HashSet<_>>().len() as u64,
            ..Self::default()
        };
        let mut connections: HashSet<SockCookie> = HashSet::new();
        let mut clock = Jumps::default();
        let mut resets = Resets::default();
        let classes = vec![Class::Loss, Class::Connection, Class::Anchor, Class::Aggregate, Class::Injection];
        let mut unread = 0;
        for event in trace.events(&Filter { classes, ..Filter::default() }) {
            let Ok(event) = event else {
                unread += 1;
                continue;
            };
            match event {
                Event::Loss(e) => this.lost.add(&e),
                Event::Anchor(e) => clock.add(e),
                Event::Aggregate(e) => this.aggregated += e.count,
                Event::Fidelity(_) => this.levels += 1,
                Event::Injection(e) => this.injected(&e),
                Event::Connection(e) => {
                    connections.insert(e.cookie);
                    this.network.add(&e.kind);
                    match resets.observe(&e) {
                        Some(Reset::Seen) => this.network.reset += 1,
                        Some(Reset::Refused { .. }) => this.network.reset -= 1,
                        None => {}
                    }
                }
                _ => {}
            }
        }
        this.network.connections = connections.len() as u64;
        this.jumps = clock.found;
        this.doubts = doubts::of(trace, &this.lost, unread);
        this
    }

    fn injected(&mut self, e: &Injection) {
        let none =
            Injections { name: e.name, count: 0, calls: BTreeMap::new(), first_ns: e.t_ns, last_ns: e.t_ns };
        let of_rule = self.injections.entry(e.rule).or_insert(none);
        of_rule.count += 1;
        of_rule.last_ns = of_rule.last_ns.max(e.t_ns);
        *of_rule.calls.entry(e.sysno).or_default() += 1;
    }

    /// Reasons why the file tells less than a recording does. `calls`: those of the same trace, if they were counted; damage
    /// within them is known only then.
    pub fn doubts(&self, calls: Option<&CallCounts>) -> Vec<Doubt> {
        doubts::with_unread(self.doubts.clone(), calls.map_or(0, CallCounts::unread))
    }
}

impl Lost {
    fn add(&mut self, loss: &ctrace_format::Loss) {
        self.total += loss.count;
        *self.by_class.entry(loss.class).or_default() += loss.count;
        *self.by_cause.entry(loss.cause).or_default() += loss.count;
        if loss.cause == LossCause::WriteFailed {
            let (from_ns, count) = self.cut.unwrap_or((u64::MAX, 0));
            self.cut = Some((from_ns.min(loss.from_ns), count.saturating_add(loss.count)));
        }
    }
}

impl Network {
    fn add(&mut self, kind: &ConnectionKind) {
        match kind {
            ConnectionKind::State { error: ECONNREFUSED, .. } => self.refused += 1,
            ConnectionKind::Retransmit => self.retransmits += 1,
            _ => {}
        }
    }
}

/// Whether a trace was finished and all of it is there.
pub fn is_complete(trace: &Trace) -> bool {
    trace.state() == State::Complete && trace.damage().is_empty()
}

/// The length that the recorder gives, else the time of the last event.
pub(crate) fn duration_ns(trace: &Trace) -> u64 {
    if let Some(window) = trace.window() {
        return window.to_ns - window.from_ns.min(window.to_ns);
    }
    trace.summary().map_or_else(|| trace.end_ns(), |s| s.duration_ns)
}

/// Without the ids that nothing in a window needs, or whose entries are lost.
fn tasks(trace: &Trace) -> impl Iterator<Item = &TaskDef> {
    trace.tasks().iter().filter(|t| t.tid.0 != 0)
}

/// The containers of a trace, and which task is in which.
#[derive(Debug)]
pub struct Containers<'a> {
    list: &'a [Container],
    of: HashMap<TaskId, u32>,
}

impl<'a> Containers<'a> {
    /// Reads the few events that say where tasks are; of a trace without containers, none.
    pub fn of(trace: &'a Trace) -> Self {
        let mut of = HashMap::new();
        if !trace.containers().is_empty() {
            let filter = Filter { classes: vec![Class::Process], ..Filter::default() };
            for event in trace.events(&filter).flatten() {
                if let Event::Process(e) = event
                    && let ProcessKind::Placed { container } = e.kind
                {
                    of.insert(e.task, container);
                }
            }
        }
        Self { list: trace.containers(), of }
    }

    /// All of them.
    pub const fn all(&self) -> &'a [Container] {
        self.list
    }

    /// The number of the container that a task is in.
    pub fn number(&self, task: TaskId) -> Option<u32> {
        self.of.get(&task).copied()
    }
}
