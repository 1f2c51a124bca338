//! The picture of a trace: everything that a report shows of it, in bounded size.
//!
//! One pass over the events, in order of their ends, in bounded memory. What grows with the trace is put on a grid of
//! at most [`MAX_BINS`] bins, or kept for the few that matter most; each list says how many it leaves out
//! ([`Ranked::left_out`]). Times are ns since the start of the trace.

mod calls;
mod changes;
mod conns;
mod edges;
mod errors;
mod gaps;
mod grid;
mod lanes;
mod machine;
mod map;
mod paint;
mod panels;
mod processes;
mod quantiles;
mod sample;
mod segments;
mod slow;
mod sockets;
mod spans;

use crate::{Account, EventId};
use ctrace_format::{Event, Filter, ReadError, Trace};
pub use paint::Painter;
use serde::Serialize;

/// The most bins that a timeline has.
pub const MAX_BINS: usize = 1_500;

/// Everything that a report shows of one trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// The time axis.
    pub grid: Grid,
    /// The timeline: panels one below the other, in the order in which they are shown. Every [`Panel`] kind is there;
    /// one without values says why.
    pub panels: Vec<Panel>,
    /// Stretches over which events are missing or were counted only.
    pub gaps: Vec<Gap>,
    /// Markers, triggers and findings: what is written over the timeline.
    pub spans: Vec<Span>,
    /// Where a series changed its level, the most telling first.
    pub changes: Vec<Change>,
    /// Tasks and what they did with their time, those that matter most first.
    pub lanes: Ranked<Lane>,
    /// Who talked to whom.
    pub map: Map,
    /// Calls that failed, those that break things first.
    pub errors: Ranked<ErrorRow>,
    /// Calls that failed other than by design, also of rows that are left out.
    pub failures: u64,
    /// The calls that took longest, other than waits for nothing in particular.
    pub slow_calls: Ranked<SlowCall>,
    /// Connections, the slowest first.
    pub connections: Ranked<ConnectionRow>,
    /// Processes, parents before children.
    pub processes: Ranked<ProcessRow>,
    /// Events behind the figures: around findings, the slow calls, the first ones of each kind of failure.
    pub sample: Sample,
}

impl Picture {
    /// Works out what a report shows of a trace. `account`: what the trace tells.
    ///
    /// # Errors
    /// When nothing of it can be read, or it is denser than any recording.
    pub fn of(trace: &Trace, account: &Account) -> Result<Self, ReadError> {
        let mut painter = Painter::new(trace, account);
        let mut first_error = None;
        let mut is_read = false;
        for event in trace.events(&Filter::default()) {
            match event {
                Ok(event) => {
                    is_read = true;
                    painter.event(&event);
                }
                Err(error @ ReadError::TooDense { .. }) => return Err(error),
                Err(error) => {
                    painter.unread(&error);
                    first_error = first_error.or(Some(error));
                }
            }
        }
        match first_error.filter(|_| !is_read) {
            Some(error) => Err(error),
            None => Ok(painter.finish()),
        }
    }
}

/// The time axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Grid {
    /// When it begins: 0, or where the window of a dump does.
    pub from_ns: u64,
    /// Length of the trace, from there on.
    pub duration_ns: u64,
    /// Width of a bin: 1, 2 or 5 times a power of ten.
    pub width_ns: u64,
    /// How many there are.
    pub bins: usize,
}

/// A list of which only the first are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ranked<T> {
    /// The first ones.
    pub rows: Vec<T>,
    /// How many more there were; 0: it is the whole list.
    pub left_out: u64,
}

/// What a panel of the timeline is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PanelKind {
    /// Calls in a second, by class of call.
    Calls,
    /// Median and 99th percentile of the durations, by class of call.
    Latency,
    /// Failures in a second, by error.
    Errors,
    /// Connections opened, refused, reset and closed.
    Connections,
    /// How long answers took, round trips, retransmits, name lookups.
    Network,
    /// CPUs used, throttled and waited for.
    Cpu,
    /// Memory and its limit.
    Memory,
    /// Pressure (PSI).
    Pressure,
    /// Latency of disk requests.
    Disk,
    /// The accept queue of listeners and what it turned away.
    Backlog,
    /// Descriptors and tasks, with their limits.
    Counts,
}

/// A panel of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Panel {
    /// What it is about.
    pub kind: PanelKind,
    /// Its curves; empty: `empty` says why.
    pub series: Vec<Curve>,
    /// Why it has no values.
    pub empty: Option<String>,
}

/// What the values of a curve are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Times in a second.
    PerSecond,
    /// A duration, ns.
    Ns,
    /// Bytes.
    Bytes,
    /// How many.
    Count,
    /// A share, from 0 to 1 (of CPUs: 1 is one CPU).
    Share,
}

/// One curve of a panel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// Its name, unique in its panel and the same in another run: `file`, `ECONNREFUSED`, `p99 network`, `used`.
    pub name: String,
    /// What its values are.
    pub unit: Unit,
    /// Whether it is a bound for the others (a limit, a quota), not something measured.
    pub is_limit: bool,
    /// One value per bin of the grid; `None`: not known there. JSON has four digits of each.
    #[serde(serialize_with = "grid::short")]
    pub values: Vec<Option<f64>>,
}

/// A stretch over which events are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// When it began.
    pub from_ns: u64,
    /// When it ended.
    pub to_ns: u64,
    /// How many.
    pub count: u64,
    /// `lost`, `counted` (calls that were counted, not recorded one by one), `unread` (the file is damaged) or `cut`.
    pub kind: &'static str,
    /// By what: a cause of loss, the damage.
    pub cause: String,
}

/// Something that is written over the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// When it began.
    pub from_ns: u64,
    /// When it ended; of a moment the same.
    pub to_ns: u64,
    /// `finding`, `marker`, `trigger`, `clock-jump`, `exec` or `exit`.
    pub kind: &'static str,
    /// The rank of the finding.
    pub rank: Option<u32>,
    /// The words.
    pub text: String,
}

/// A change in the level of a curve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// When.
    pub at_ns: u64,
    /// The panel.
    pub panel: PanelKind,
    /// The curve of it.
    pub curve: String,
    /// What its values are.
    pub unit: Unit,
    /// The median before, back to the change before it; of what is counted the mean.
    #[serde(serialize_with = "grid::short_one")]
    pub before: f64,
    /// The median after, up to the next change; of what is counted the mean.
    #[serde(serialize_with = "grid::short_one")]
    pub after: f64,
    /// Cliff's delta of the values after against those before, from −1 to 1: how sure it is that one after is larger.
    #[serde(serialize_with = "grid::short_one")]
    pub effect: f64,
    /// Rank of the finding that began with it, if one did.
    pub finding: Option<u32>,
    /// The sentence.
    pub text: String,
}

/// What a task did with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// On a CPU.
    Running,
    /// Waiting for a CPU.
    Runnable,
    /// Blocked, in a call or on a page.
    Blocked,
    /// In a call whose time was not split (no scheduler data).
    Calling,
}

/// The time of one task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lane {
    /// Its thread id.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// Its name.
    pub comm: String,
    /// Its role.
    pub role: String,
    /// When it was first there.
    pub from_ns: u64,
    /// When it ended, or the trace did.
    pub to_ns: u64,
    /// Calls that it made.
    pub calls: u64,
    /// Time on a CPU, waiting for one, blocked, in all; `None`: the trace does not tell.
    pub spent: Option<[u64; 3]>,
    /// Stretches in order of time, each at least as long as a bin, exact: the longest ones of the task.
    pub stretches: Vec<Stretch>,
    /// The rest, put on the grid: shares of the bin spent running, runnable and blocked, in 255ths, of the bins in which
    /// there is something: `(bin, running, runnable, blocked)`. Where the trace does not tell (`spent`), the last one is
    /// the share spent in calls.
    pub mixed: Vec<(u32, u8, u8, u8)>,
    /// Stretches as long as a bin that found no room.
    pub left_out: u64,
}

/// A long stretch of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// When it began.
    pub from_ns: u64,
    /// When it ended.
    pub to_ns: u64,
    /// What the task did.
    pub state: State,
    /// The call that it was in.
    pub call: Option<&'static str>,
    /// On what: an address, a path, an object.
    pub on: Option<String>,
    /// The error that the call ended with.
    pub errno: Option<String>,
}

/// Who talked to whom.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Map {
    /// The ends: services of the trace and their peers. At most [`Map::MAX_NODES`].
    pub nodes: Vec<Node>,
    /// What went between them.
    pub edges: Vec<Edge>,
    /// Peers that were put together in groups.
    pub grouped: u64,
}

impl Map {
    /// The most nodes; beyond them those that talked least are put together.
    pub const MAX_NODES: usize = 60;
}

/// An end of connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name: a role of the trace, an address, a DNS name with its port, a path of a unix socket.
    pub name: String,
    /// `service` (a process of the trace), `peer`, `client`, `name-server`, `unix`, or `group`.
    pub kind: &'static str,
    /// Its process, of a service.
    pub tgid: Option<u32>,
    /// How many were put together in it; 1 otherwise.
    pub members: u64,
}

/// What went from the end that connects to the one that accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// The end that connected: a position in [`Map::nodes`].
    pub from: usize,
    /// The end that accepted.
    pub to: usize,
    /// `tcp`, `udp`, `unix` or `dns`.
    pub protocol: &'static str,
    /// Connections, or questions.
    pub count: u64,
    /// Of those, how many failed: refused, timed out, reset, not answered.
    pub failed: u64,
    /// The commonest of the failures, by name.
    pub failure: Option<String>,
    /// Bytes from the connecting end to the other.
    pub sent_bytes: u64,
    /// Bytes back.
    pub received_bytes: u64,
    /// Median time of an answer (or of a connect, without one), ns.
    pub p50_ns: Option<u64>,
    /// Its 99th percentile, ns.
    pub p99_ns: Option<u64>,
}

/// Calls of one name that failed with one error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorRow {
    /// The call.
    pub call: String,
    /// The errno's name.
    pub errno: String,
    /// What it means, in words.
    pub meaning: String,
    /// How often.
    pub count: u64,
    /// Calls of this name in all.
    pub calls: u64,
    /// How many of `count` tell of something that failed. Healthy programs meet the others while they look around or wait.
    pub failures: u64,
    /// When first.
    pub first_ns: u64,
    /// When last.
    pub last_ns: u64,
    /// Against what, the commonest first; at most five.
    pub on: Vec<(String, u64)>,
    /// Roles that met it, the commonest first; at most five.
    pub roles: Vec<(String, u64)>,
    /// How many in each of at most 60 parts of the time axis, all of a length: a sparkline.
    pub spark: Vec<u32>,
    /// The first one.
    pub event: EventId,
}

impl ErrorRow {
    /// Whether all of them are by design: they break nothing.
    pub const fn is_benign(&self) -> bool {
        self.failures == 0
    }
}

/// A call that took long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlowCall {
    /// When it began.
    pub t_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// The call.
    pub call: String,
    /// Its thread, process, and name.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// Its role.
    pub role: String,
    /// On what.
    pub on: Option<String>,
    /// The errno's name, when it failed.
    pub errno: Option<String>,
    /// It had not returned when the recording ended.
    pub is_open: bool,
    /// What it waited for, in words: `the answer of 10.0.0.7:5432`, `a CPU`, `the disk`, `a lock that worker-2 had`.
    pub waited_for: Option<String>,
    /// The event.
    pub event: EventId,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionRow {
    /// When it was opened, or first seen.
    pub from_ns: u64,
    /// When it ended, or the trace did.
    pub to_ns: u64,
    /// The process of the trace that has it.
    pub role: String,
    /// Its process.
    pub tgid: Option<u32>,
    /// Its own address.
    pub local: String,
    /// The other end, with its DNS name when one was looked up.
    pub peer: String,
    /// `tcp`, `udp` or `unix`.
    pub protocol: &'static str,
    /// Whether this end connected.
    pub is_outgoing: bool,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Time to connect, ns.
    pub connect_ns: Option<u64>,
    /// The longest time until an answer, ns, and when that wait began.
    pub slowest_answer: Option<(u64, u64)>,
    /// Smoothed round trip at the end, ns.
    pub rtt_ns: Option<u64>,
    /// Retransmits.
    pub retransmits: u64,
    /// How it ended: `open`, `closed`, `closed by peer`, `reset`, `reset by peer`, `refused`, `timed out`, `unreachable`,
    /// or `failed`.
    pub ended: &'static str,
    /// An event of it.
    pub event: Option<EventId>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessRow {
    /// Its id.
    pub tgid: u32,
    /// Its parent in the list: a position before its own.
    pub parent: Option<usize>,
    /// Its name.
    pub comm: String,
    /// Its role.
    pub role: String,
    /// Its program.
    pub exe: String,
    /// Its arguments.
    pub argv: Vec<String>,
    /// The name of its container.
    pub container: Option<String>,
    /// When it began; 0: it was there.
    pub from_ns: u64,
    /// When it ended; `None`: it lived on.
    pub to_ns: Option<u64>,
    /// How it ended, in words (`exit 1`, `SIGKILL`, `SIGSEGV, core dumped`), when it did.
    pub ended: Option<String>,
    /// Whether that is an end that should not be: a signal, or a status other than 0.
    pub is_failed: bool,
    /// Threads that it had in all.
    pub threads: u64,
    /// Calls.
    pub calls: u64,
    /// Of those, how many failed other than by design.
    pub failed: u64,
    /// Time on a CPU, ns; `None`: the trace does not tell.
    pub cpu_ns: Option<u64>,
    /// Processes of the same parent and role that were folded into this row, itself included: 1 otherwise.
    pub alike: u64,
}

/// Events behind the figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The events, in order of their ends.
    pub events: Vec<Event>,
    /// Events of the trace that could have been chosen.
    pub of: u64,
}

impl Sample {
    /// The most events that are chosen.
    pub const MAX: usize = 4_000;
}
