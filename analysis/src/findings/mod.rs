//! Findings: what went wrong, the cause first, each as a sentence with its evidence.
//!
//! A finding says what happened, who did it, against what, when, how often, and how it was before. All of them come from
//! one pass over the events, in bounded memory ([`Watch`]): while a recording is made, or when a trace is read.
//!
//! Failures that correct programs meet by design (lookups of files that may be missing, questions whether something is a
//! terminal, retries) are none. [`Level`] says how much one is worth: a [`Level::Cause`] or [`Level::Warning`] is worth
//! somebody's night, a [`Level::Note`] is context.

pub(crate) mod attempts;
mod backlog;
pub(crate) mod called;
mod calls;
pub(crate) mod containers;
mod cpu;
mod descriptors;
pub(crate) mod ends;
pub(crate) mod injected;
pub(crate) mod machine;
mod memory;
mod missed;
mod network;
mod pauses;
pub(crate) mod people;
pub(crate) mod places;
mod rank;
mod starts;
mod stops;
mod tally;
mod visits;
pub(crate) mod waits;
pub(crate) mod words;

use ctrace_format::syscalls::{About, Call, Failing, failing_on};
use ctrace_format::{
    Container, Event, Filter, Header, Known, Object, ObjectId, ReadError, Scope, Snapshot, StrId, TaskDef,
    TaskId, Tgid, Tid, Trace,
};
use serde::{Deserialize, Serialize};

/// A kind of thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// Nobody listened at an address: ECONNREFUSED.
    Refused,
    /// No route, or nobody there: EHOSTUNREACH, ENETUNREACH.
    Unreachable,
    /// No answer in time: ETIMEDOUT, or the program gave up.
    TimedOut,
    /// The other end reset connections, or had closed them.
    Reset,
    /// Answers of a peer became slow, or some of them are.
    SlowPeer,
    /// A name server answered late or not at all.
    SlowName,
    /// A name server failed, or knew no such name.
    NameFailed,
    /// The same attempt failed again and again without a pause.
    RetryStorm,
    /// Connections found the queue of a listener full.
    BacklogFull,
    /// No local port was left.
    PortsExhausted,
    /// A process reached its limit of open descriptors.
    FdLimit,
    /// A process opens descriptors and does not close them.
    FdLeak,
    /// No further task was allowed.
    PidsLimit,
    /// A file system or quota was full.
    DiskFull,
    /// A disk was slow.
    SlowDisk,
    /// A signal stopped a process, and another continued it.
    Stopped,
    /// Threads waited for each other's locks.
    LockWait,
    /// Threads wait for each other in a circle.
    Deadlock,
    /// A call did not return.
    Hang,
    /// Tasks were ready to run and got no CPU.
    CpuStarved,
    /// A CPU quota held tasks back.
    Throttled,
    /// Memory reached its limit.
    MemoryLimit,
    /// The kernel killed a process for lack of memory.
    Oom,
    /// A process was ended by a signal that tells of a bug.
    Crash,
    /// A process ended with a status other than 0.
    Exit,
    /// A file that was needed was not there.
    MissingFile,
    /// Somebody lacked a permission.
    Permission,
    /// A seccomp filter refused a call.
    SeccompDenied,
    /// A clock was set, or stood still.
    ClockJump,
    /// A process was ended by a signal that somebody sent.
    SignalEnded,
    /// A process came into a container from outside of it.
    Entered,
    /// A call failed for another reason.
    Failing,
    /// Events are missing from the trace.
    Loss,
}

impl Kind {
    /// Its name, as JSON has it: stable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed-out",
            Self::Reset => "reset",
            Self::SlowPeer => "slow-peer",
            Self::SlowName => "slow-name",
            Self::NameFailed => "name-failed",
            Self::RetryStorm => "retry-storm",
            Self::BacklogFull => "backlog-full",
            Self::PortsExhausted => "ports-exhausted",
            Self::FdLimit => "fd-limit",
            Self::FdLeak => "fd-leak",
            Self::PidsLimit => "pids-limit",
            Self::DiskFull => "disk-full",
            Self::SlowDisk => "slow-disk",
            Self::Stopped => "stopped",
            Self::LockWait => "lock-wait",
            Self::Deadlock => "deadlock",
            Self::Hang => "hang",
            Self::CpuStarved => "cpu-starved",
            Self::Throttled => "throttled",
            Self::MemoryLimit => "memory-limit",
            Self::Oom => "oom",
            Self::Crash => "crash",
            Self::Exit => "exit",
            Self::MissingFile => "missing-file",
            Self::Permission => "permission",
            Self::SeccompDenied => "seccomp-denied",
            Self::ClockJump => "clock-jump",
            Self::SignalEnded => "signal-ended",
            Self::Entered => "entered",
            Self::Failing => "failing",
            Self::Loss => "loss",
        }
    }
}

/// How much a finding is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Context: healthy programs have it, too.
    Note,
    /// Something that should not be, or follows from a cause.
    Warning,
    /// Something that by itself explains an incident.
    Cause,
}

impl Level {
    /// Its name, as JSON has it: stable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Cause => "cause",
        }
    }
}

/// An event of the trace, in text `END-TID`: `events --at` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId {
    /// When it was complete, ns since the start of the trace.
    pub end_ns: u64,
    /// The thread that it belongs to; 0: none.
    pub tid: u32,
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.end_ns, self.tid)
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for EventId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for EventId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('-').and_then(|(end, tid)| Some((end.parse().ok()?, tid.parse().ok()?)));
        let (end_ns, tid) = parts.ok_or_else(|| {
            format!("{text:?} is no id of an event: one is the end of the event in ns, and its thread, as 2557035000-4711")
        })?;
        Ok(Self { end_ns, tid })
    }
}

/// Figures of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// How many attempts or answers.
    pub count: u64,
    /// Median duration, ns, when there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub p50_ns: Option<u64>,
    /// The duration that 99 % do not exceed, ns.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub p99_ns: Option<u64>,
}

/// The facts that a finding rests on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// Events that show it, the first ones.
    pub events: Vec<EventId>,
    /// How it was before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<Figures>,
    /// How it was meanwhile.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub during: Option<Figures>,
    /// Ranks of other findings that began at about the same time.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub with: Vec<u32>,
}

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Its kind.
    pub kind: Kind,
    /// How much it is worth.
    pub level: Level,
    /// Its place, from 1: the most telling first.
    pub rank: u32,
    /// The sentence.
    pub sentence: String,
    /// When it began, ns since the start of the trace.
    pub from_ns: u64,
    /// When it was last seen.
    pub to_ns: u64,
    /// How often.
    pub count: u64,
    /// Who: the role of the threads.
    pub role: Option<String>,
    /// Against what: an address, a path, a name, a lock.
    pub object: Option<String>,
    /// The errno's name, when it is about one.
    pub errno: Option<String>,
    /// The facts that it rests on.
    pub evidence: Evidence,
    /// How telling it is, among those of its level.
    #[serde(skip)]
    pub(crate) score: u32,
}

impl Finding {
    fn new(kind: Kind, level: Level, score: u32, sentence: String) -> Self {
        Self {
            kind,
            level,
            rank: 0,
            sentence,
            from_ns: 0,
            to_ns: 0,
            count: 1,
            role: None,
            object: None,
            errno: None,
            evidence: Evidence::default(),
            score,
        }
    }

    fn over(self, from_ns: u64, to_ns: u64, count: u64) -> Self {
        Self { from_ns, to_ns: to_ns.max(from_ns), count, ..self }
    }

    fn by(self, role: impl Into<String>) -> Self {
        Self { role: Some(role.into()), ..self }
    }

    fn against(self, object: impl Into<String>) -> Self {
        let object: String = object.into();
        Self { object: (!object.is_empty()).then_some(object), ..self }
    }

    fn with_errno(self, errno: u16) -> Self {
        Self { errno: Some(words::errno_name(errno)), ..self }
    }

    fn seen(mut self, end_ns: u64, tid: u32) -> Self {
        self.evidence.events.push(EventId { end_ns, tid });
        self
    }
}

/// How long calls of one kind took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// The call.
    pub call: String,
    /// The role that made it.
    pub role: String,
    /// On what: a path, an address.
    pub object: Option<String>,
    /// Calls that did not fail.
    pub count: u64,
    /// Time in all of them.
    pub total_ns: u64,
    /// Their median, within an eighth.
    pub p50_ns: u64,
    /// The duration that 99 % do not exceed, within an eighth.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// When the longest began.
    pub max_at_ns: u64,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// When.
    pub t_ns: u64,
    /// The status that it gave.
    pub code: Option<u32>,
    /// The signal that ended it.
    pub signal: Option<String>,
    /// Whether it left a core dump.
    pub core: bool,
}

/// All that a trace tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// The findings, the most telling first.
    pub findings: Vec<Finding>,
    /// How long calls took, those that took most time in all first; the first hundred.
    pub latencies: Vec<Latency>,
    /// Processes that ended by a signal or with a status other than 0, in order of time; the first thousand.
    pub exits: Vec<Exited>,
}

/// The names that events refer to; what is not known is nameless.
pub(crate) trait Dictionary {
    fn str(&self, id: StrId) -> &[u8];
    fn task(&self, id: TaskId) -> &TaskDef;
    fn object(&self, id: ObjectId) -> &Object;
}

impl<K: Known + ?Sized> Dictionary for K {
    fn str(&self, id: StrId) -> &[u8] {
        self.string(id).unwrap_or_default()
    }
    fn task(&self, id: TaskId) -> &TaskDef {
        const NOBODY: TaskDef = TaskDef { tid: Tid(0), tgid: Tgid(0), comm: StrId(u32::MAX), start_ns: 0 };
        self.task_def(id).unwrap_or(&NOBODY)
    }
    fn object(&self, id: ObjectId) -> &Object {
        const NOTHING: Object = Object::Anon { kind: StrId(u32::MAX), id: 0 };
        self.object_def(id).unwrap_or(&NOTHING)
    }
}

/// Facts about a recording that are known when it ends.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Its length.
    pub duration_ns: u64,
    /// The containers of the scope.
    pub containers: &'a [Container],
}

/// Looks at the events of a trace, in order of their ends, and says in the end what went wrong.
#[derive(Debug)]
pub struct Watch {
    scope: Scope,
    tick_ns: u64,
    people: people::People,
    places: places::Places,
    calls: calls::Calls,
    attempts: attempts::Attempts,
    network: network::Network,
    descriptors: descriptors::Descriptors,
    machine: machine::Machine,
    waits: waits::Waits,
    ends: ends::Ends,
    pauses: pauses::Pauses,
    visits: visits::Visits,
    starts: starts::Starts,
    delays: injected::Delays,
    lost: u64,
    counted: u64,
    last_ns: u64,
}

impl Watch {
    /// Begins with a recording.
    pub fn new(header: &Header) -> Self {
        Self {
            scope: header.scope.clone(),
            tick_ns: u64::from(header.tick_ns.max(1)),
            people: people::People::default(),
            places: places::Places::default(),
            calls: calls::Calls::default(),
            attempts: attempts::Attempts::default(),
            network: network::Network::default(),
            descriptors: descriptors::Descriptors::default(),
            machine: machine::Machine::new(header),
            waits: waits::Waits::default(),
            ends: ends::Ends::default(),
            pauses: pauses::Pauses::default(),
            visits: visits::Visits::default(),
            starts: starts::Starts::default(),
            delays: injected::Delays::default(),
            lost: 0,
            counted: 0,
            last_ns: 0,
        }
    }

    /// Learns what was there when recording began. Comes before the events.
    pub fn snapshot(&mut self, snapshot: &Snapshot) {
        self.people.snapshot(snapshot);
        self.network.snapshot(snapshot, &mut self.people, &mut self.places);
        self.descriptors.snapshot(snapshot);
    }

    /// Looks at an event.
    pub fn event(&mut self, event: &Event, words: &(impl Known + ?Sized)) {
        self.last_ns = self.last_ns.max(self.floor(event.end_ns()));
        if let Event::Syscall(s) = event {
            self.syscall(s, words);
        } else {
            self.rare(&self.floored(event), words);
        }
        if let Some((process, t_ns)) = self.network.take_hit() {
            self.ends.hit(process, t_ns);
        }
    }

    fn rare(&mut self, event: &Event, words: &(impl Dictionary + ?Sized)) {
        match event {
            Event::Process(p) => self.process(p, words),
            Event::Connection(c) => self.network.connection(c, &mut self.people, &mut self.places, words),
            Event::Signal(s) => {
                self.ends.signal(s, &mut self.people, words);
                self.pauses.signal(s, &mut self.people, words);
                self.visits.signal(s, &mut self.people, words);
                if let Some(from) = s.sender.filter(|_| !s.delivered) {
                    let (to, from) = (self.people.of(s.task, words), self.people.of(from, words));
                    self.waits.locks.serving.signal(s, to.process, from);
                }
            }
            Event::Dns(d) => self.network.name(d, &mut self.people, &mut self.places, words),
            Event::Resource(r) => self.machine.sample(*r),
            Event::Usage(u) => {
                let actor = self.people.of(u.task, words);
                let container = self.people.process(actor.process).container;
                self.machine.usage(u, actor, container);
            }
            Event::Block(b) => self.machine.block(b),
            Event::Anchor(a) => self.machine.anchor(*a),
            Event::Injection(i) => self.delays.told(i),
            Event::Loss(l) => self.lost = self.lost.saturating_add(l.count),
            Event::Aggregate(a) => self.counted = self.counted.saturating_add(a.count),
            _ => {}
        }
    }

    /// A time as the file keeps it: an account that is made while a trace is written is that of the trace.
    fn floor(&self, ns: u64) -> u64 {
        ns - ns % self.tick_ns
    }

    fn floored(&self, event: &Event) -> Event {
        let mut event = event.clone();
        match &mut event {
            Event::Process(e) => e.t_ns = self.floor(e.t_ns),
            Event::Connection(e) => e.t_ns = self.floor(e.t_ns),
            Event::Signal(e) => e.t_ns = self.floor(e.t_ns),
            Event::Resource(e) => e.t_ns = self.floor(e.t_ns),
            Event::Dns(e) => (e.t_ns, e.duration_ns) = (self.floor(e.t_ns), self.floor(e.duration_ns)),
            Event::Block(e) => (e.t_ns, e.duration_ns) = (self.floor(e.t_ns), self.floor(e.duration_ns)),
            Event::Usage(e) => {
                (e.t_ns, e.from_ns) = (self.floor(e.t_ns), self.floor(e.from_ns));
                (e.cpu_ns, e.wait_ns) = (self.floor(e.cpu_ns), self.floor(e.wait_ns));
            }
            Event::Anchor(e) => e.t_ns = self.floor(e.t_ns),
            Event::Injection(e) => {
                (e.t_ns, e.fault.enter_ns) = (self.floor(e.t_ns), self.floor(e.fault.enter_ns));
                e.fault.exit_ns = self.floor(e.fault.exit_ns);
            }
            _ => {}
        }
        event
    }

    fn syscall(&mut self, s: &ctrace_format::Syscall, words: &(impl Dictionary + ?Sized)) {
        if s.flags.contains(ctrace_format::SyscallFlags::ENGINE) {
            return;
        }
        let added = self.delays.of(s);
        let call = self.calls.of(s.sysno);
        let actor = self.people.of(s.task, words);
        let process = &mut self.people.processes[actor.process.0 as usize];
        process.calls += 1;
        process.last_ns = process.last_ns.max(s.t_ns);
        let number = process.calls;
        // Calls of the runtime before the application begins are not the application's.
        if matches!(process.origin, Some((ctrace_format::Origin::Runtime, _))) {
            return;
        }
        let added = injected::Added { before_ns: self.floor(added.before_ns), ..added };
        // To the caller they are part of the call.
        let t_ns = self.floor(s.t_ns).saturating_sub(added.before_ns);
        let around_ns = added.before_ns.saturating_add(added.after_ns);
        let duration_ns = self.floor(s.duration_ns).saturating_add(around_ns);
        let behind = self.descriptors.behind(actor.process, call, s);
        let seen = Seen { s, t_ns, duration_ns, added, call, actor, number, behind };
        if s.flags.contains(ctrace_format::SyscallFlags::NO_EXIT) {
            self.waits.never_returned(&seen, &mut self.places, words);
            self.network.never_returned(&seen, &self.people, &mut self.places, words);
            return;
        }
        let place = self.network.call(&seen, &mut self.places, words);
        if place.is_some_and(|p| self.network.is_clients(p))
            && let Some(owes) = network::owes(&seen)
        {
            self.waits.locks.serving.owes(actor.process, owes);
        }
        self.waits.call(&seen, &mut self.places, words);
        self.descriptors.call(&seen, &mut self.places, words);
        self.ends.call(&seen, &mut self.places, words);
        self.visits.call(&seen, &self.people, &mut self.places, words);
        self.starts.call(&seen, &self.people, &mut self.places, words);
        if let Some(place) = place {
            self.attempts.call(&seen, place, &self.places, words);
        }
    }

    fn process(&mut self, p: &ctrace_format::Process, words: &(impl Dictionary + ?Sized)) {
        use ctrace_format::ProcessKind as K;
        match &p.kind {
            K::Fork { child } => {
                let parent = self.people.of(p.task, words);
                let def = words.task(*child).clone();
                self.people.fork(p.task, &def, words, p.t_ns);
                let child = self.people.of(*child, words);
                if child.process != parent.process {
                    self.descriptors.fork(parent.process, child.process);
                    self.starts.fork(parent.process, child.process);
                }
            }
            K::Exec { path, argv, .. } => {
                self.people.exec(p.task, *path, argv, words);
                let actor = self.people.of(p.task, words);
                self.descriptors.exec(actor.process);
                self.ends.exec(actor.process);
                self.starts.exec(actor.process);
            }
            K::Exit { status, group_dead } => {
                let actor = self.people.of(p.task, words);
                if *group_dead {
                    self.people.exit(actor.process, p.t_ns, *status);
                    let start = self.starts.exit(actor, *status, &self.people, &self.places);
                    self.ends.exit(actor, p.t_ns, *status, start, &self.people);
                    self.descriptors.exit(actor.process);
                    self.network.exit(actor, p.t_ns);
                }
            }
            K::Placed { container } => self.people.placed(p.task, *container, words),
            K::OomKill { by, rss_bytes, limit } => {
                let victim = self.people.of(p.task, words);
                let by = by.map(|by| self.people.of(by, words).process);
                let limit = limit.as_ref().map(|l| machine::Limit {
                    group: words::text(words.str(l.cgroup)),
                    bytes: l.limit_bytes,
                    used: l.usage_bytes,
                });
                self.machine.oom_kill(p.t_ns, victim, by, *rss_bytes, limit);
            }
            K::Fault { blocked_ns, .. } => self.machine.fault(p.t_ns, *blocked_ns),
            K::Origin { origin } => self.people.came(p.task, *origin, p.t_ns, words),
            K::State { state, wchan, since_ns } => {
                let actor = self.people.of(p.task, words);
                self.waits.state(actor, *state, words::text(words.str(*wchan)), *since_ns);
            }
            K::WaitsFor { what, holder, object } => {
                let waiter = self.people.of(p.task, words);
                let holder = self.people.of(*holder, words);
                let object = self.places.string(*object, words);
                self.waits.waits_for(waiter, *what, holder, object);
            }
            _ => {}
        }
    }

    /// Ends, and says what the trace tells.
    pub fn finish(self, end: End<'_>) -> Account {
        let mut all = Vec::new();
        let facts = Facts {
            people: &self.people,
            places: &self.places,
            scope: &self.scope,
            containers: end.containers,
            duration_ns: end.duration_ns.max(self.last_ns),
        };
        let told = self.network.findings(&facts, &mut all);
        self.attempts.findings(&facts, &self.network, &mut all);
        self.descriptors.findings(&facts, &mut all);
        self.machine.findings(&facts, &mut all);
        let overflows = self.machine.overflows(end.containers);
        backlog::findings(&facts, &overflows, self.network.listeners(), &mut all);
        self.waits.findings(&facts, &told, &mut all);
        self.starts.findings(&facts, &mut all);
        self.pauses.findings(&facts, &mut all);
        self.visits.findings(&facts, &self.machine.killed(), &mut all);
        self.ends.findings(&facts, &self.machine.victims(), &mut all);
        for (count, what) in [
            (self.lost, "events were lost while recording: what is said here may be incomplete"),
            (
                self.counted,
                "calls were counted instead of recorded one by one: the recorder could not keep up",
            ),
        ] {
            if count > 0 {
                let sentence = format!("{} {what}", words::count(count));
                all.push(Finding::new(Kind::Loss, Level::Note, 1, sentence).over(
                    0,
                    facts.duration_ns,
                    count,
                ));
            }
        }
        Account {
            findings: rank::rank(all, facts.duration_ns),
            latencies: self.attempts.latencies(&facts),
            exits: self.ends.exits(&facts),
        }
    }
}

/// A call with what was worked out about it.
pub(crate) struct Seen<'a> {
    pub(crate) s: &'a ctrace_format::Syscall,
    /// Its times, as the file keeps them.
    pub(crate) t_ns: u64,
    pub(crate) duration_ns: u64,
    /// The delay that a fault plan added to it; its times include that.
    pub(crate) added: injected::Added,
    pub(crate) call: ctrace_format::syscalls::Call,
    pub(crate) actor: people::Actor,
    /// Its number among the calls of its process.
    pub(crate) number: u64,
    /// The place behind its descriptor, where the event does not name it.
    pub(crate) behind: places::Place,
}

impl Seen<'_> {
    pub(crate) fn end_ns(&self) -> u64 {
        self.t_ns.saturating_add(self.duration_ns)
    }

    pub(crate) fn event(&self) -> Event {
        let (t_ns, duration_ns) = (self.t_ns, self.duration_ns);
        Event::Syscall(ctrace_format::Syscall { t_ns, duration_ns, ..self.s.clone() })
    }
}

/// Facts that sentences need.
struct Facts<'a> {
    people: &'a people::People,
    places: &'a places::Places,
    scope: &'a Scope,
    containers: &'a [Container],
    duration_ns: u64,
}

impl Facts<'_> {
    fn who(&self, role: people::RoleId) -> String {
        self.people.named(role, self.containers)
    }

    /// Those of a role who met these failures.
    fn who_met(&self, role: people::RoleId, failed: &tally::Failed) -> String {
        self.people.named_by(role, failed.by, self.containers)
    }
}

impl Account {
    /// Version of what is kept with a trace: raised whenever the same events would give another account.
    pub const VERSION: u32 = 5;
}

/// Works out from its events what a trace tells.
///
/// # Errors
/// When nothing of it can be read, or it is denser than any recording.
pub fn account(trace: &Trace) -> Result<Account, ReadError> {
    let mut watch = Watch::new(trace.header());
    watch.snapshot(trace.snapshot());
    let mut read = false;
    let mut first_error = None;
    for event in trace.events(&Filter::default()) {
        match event {
            Ok(event) => {
                read = true;
                watch.event(&event, trace);
            }
            Err(error @ ReadError::TooDense { .. }) => return Err(error),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    if let Some(error) = first_error.filter(|_| !read) {
        return Err(error);
    }
    let duration_ns = trace.summary().map_or_else(|| trace.end_ns(), |s| s.duration_ns);
    Ok(watch.finish(End { duration_ns, containers: trace.containers() }))
}

/// Whether a failure is worth a word: no correct program meets it by design.
pub(crate) fn is_remarkable(call: &str, object: &str, errno: u16) -> bool {
    let call = Call::named(call);
    let name = object.as_bytes();
    // The C library asks a name service cache that few hosts run.
    let cache = call == Call::Connect && object.contains("nscd");
    failing_on(call, errno, About { name, datagram: false }) == Failing::Failure && !cache
}
