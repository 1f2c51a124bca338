//! A trace for Perfetto (`ui.perfetto.dev`, `trace_processor`): a protobuf of track events.
//!
//! | of the trace | on the timeline |
//! |---|---|
//! | processes, threads | process and thread tracks |
//! | calls | slices on their thread's track, with arguments, result, errno and what lies behind the descriptor |
//! | calls that were counted | instants on `counted calls` of their thread, and the counter `counted calls/s` |
//! | use of CPUs | slices `running`, `runnable`, `blocked` on `scheduler` of the thread: what it did most of a stretch; counters `running %` and `runnable %` with the exact shares |
//! | life, signals, name lookups, disk and `io_uring` requests | tracks below the thread |
//! | connections | slices on `connections` of the process; what happened to them, but for samples, on `connection events` |
//! | other sockets | `socket traffic` of the process |
//! | samples of resources | counters below `host`, `scope` and each container; what only grows is shown as a rate |
//! | wakes, connections, bytes, signals | arrows between instants on `hand-offs` of the threads |
//! | findings, markers, triggers, losses, changes of fidelity | tracks of their own at the top |
//!
//! Memory is bounded by the trace's dictionaries (tasks, names) and by what is under way, whatever its length.

mod calls;
mod counters;
mod flows;
mod hands;
mod network;
mod pair;
mod schema;
mod sheet;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;

pub use pair::{MANIFEST, Pair};

use crate::text::decode::plain;
use crate::text::{Events, containers};
use crate::{Paint, text::units};
use calls::Rates;
use counters::Counters;
use ctrace_analysis::Finding;
use ctrace_analysis::connects::Connects;
use ctrace_format::{
    Class, ClockAnchor, DumpReason, Event, Filter, Known, Loss, ReadError, TaskId, Trace, Usage,
};
use hands::Hands;
use network::Network;
use rustc_hash::FxHashMap;
use schema::{
    Attribute, CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, Clock, ClockSnapshot, CounterDescriptor,
    MERGE_NONE, ProcessDescriptor, ThreadDescriptor, TraceAttributes, TracePacket, TrackDescriptor,
    UNIT_COUNT,
};
use sheet::{Count, Lane, Lanes, Name, Note, Sheet, Uuid, Value};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// What is exported.
pub struct Export<'a> {
    /// The trace.
    pub trace: &'a Trace,
    /// What went wrong in it.
    pub findings: &'a [Finding],
    /// Moments to be marked: where a run and its replay part.
    pub moments: &'a [Moment],
    /// Which events.
    pub filter: Filter,
}

/// A moment to be marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The track that it is on.
    pub track: &'static str,
    /// When, ns since the start of the trace.
    pub t_ns: u64,
    /// What it is.
    pub text: String,
    /// More about it: names and texts.
    pub notes: Vec<(&'static str, String)>,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Events by class.
    pub events: BTreeMap<Class, u64>,
    /// Calls: each is a slice.
    pub calls: u64,
    /// Calls that were counted instead of recorded.
    pub counted: u64,
    /// Events that the trace says were lost.
    pub lost: u64,
    /// Parts of the trace that could not be read.
    pub unreadable: u64,
    /// Arrows between tasks.
    pub flows: u64,
    /// Length of what was written.
    pub bytes: u64,
}

/// Where a track hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Top,
    Process(usize),
    Thread(usize),
}

/// The tracks of a trace's tasks, and others as they are needed.
struct Tracks<W> {
    sheet: Sheet<W>,
    processes: Vec<Uuid>,
    threads: Vec<Uuid>,
    /// The process of each thread.
    process_of: Vec<usize>,
    /// The thread of each task.
    thread_of: Vec<usize>,
    lanes: FxHashMap<(Place, &'static str), Lanes>,
}

/// The track of calls below a thread: the thread's own.
const CALLS: &str = "calls";

impl<W: Write> Tracks<W> {
    fn new(trace: &Trace, out: W) -> io::Result<Self> {
        let header = trace.header();
        let mut tracks = Self {
            sheet: Sheet::new(out, trace.identity(), header.start_boottime_ns),
            processes: Vec::new(),
            threads: Vec::new(),
            process_of: Vec::new(),
            thread_of: Vec::new(),
            lanes: FxHashMap::default(),
        };
        tracks.sheet.general(TracePacket {
            clock_snapshot: Some(ClockSnapshot {
                clocks: vec![
                    clock(CLOCK_BOOTTIME, header.start_boottime_ns),
                    clock(CLOCK_REALTIME, header.start_realtime_ns),
                ],
                primary_trace_clock: Some(CLOCK_BOOTTIME),
            }),
            ..TracePacket::default()
        })?;
        tracks.attributes(trace)?;
        tracks.tasks(trace)?;
        Ok(tracks)
    }

    fn attributes(&mut self, trace: &Trace) -> io::Result<()> {
        let header = trace.header();
        let text = |key: &str, value: &str| Attribute {
            key: Some(format!("ctrace.{key}")),
            long_value: None,
            string_value: Some(plain(value.as_bytes())),
        };
        let number = |key: &str, value: u64| Attribute {
            key: Some(format!("ctrace.{key}")),
            long_value: i64::try_from(value).ok(),
            string_value: None,
        };
        let attribute = vec![
            text("writer", &header.writer),
            text("scope", &serde_json::to_string(&header.scope).unwrap_or_default()),
            text("kernel", &header.host.kernel),
            text("arch", &header.host.arch),
            text("hostname", &header.host.hostname),
            number("cpus", u64::from(header.host.cpus)),
            text("redaction", &header.redaction),
            text("blind", &header.blind.join("; ")),
            text("state", crate::text::state(trace.state())),
            number("lost", trace.lost_events()),
        ];
        let attributes = TraceAttributes { attribute };
        self.sheet.general(TracePacket { trace_attributes: Some(attributes), ..TracePacket::default() })
    }

    /// The tracks of all processes and threads, by the last name of each.
    fn tasks(&mut self, trace: &Trace) -> io::Result<()> {
        let own = ctrace_analysis::Containers::of(trace);
        let mut processes: FxHashMap<u32, usize> = FxHashMap::default();
        let mut threads: FxHashMap<(u32, u32), usize> = FxHashMap::default();
        let mut names: Vec<(u32, u32, String)> = Vec::new();
        let mut leaders: Vec<(u32, String, Option<u32>)> = Vec::new();
        for (index, task) in trace.tasks().iter().enumerate() {
            let (tgid, tid) = (task.tgid.0, task.tid.0);
            let comm = plain(trace.str(task.comm));
            let next = leaders.len();
            let process = *processes.entry(tgid).or_insert(next);
            if process == next {
                leaders.push((tgid, comm.clone(), None));
            }
            let leader = &mut leaders[process];
            if tid == tgid && !comm.is_empty() {
                leader.1.clone_from(&comm);
            }
            leader.2 = leader.2.or_else(|| own.number(TaskId(index as u32)));
            let next = names.len();
            let thread = *threads.entry((tgid, tid)).or_insert(next);
            if thread == next {
                names.push((tgid, tid, String::new()));
                self.process_of.push(process);
            }
            if !comm.is_empty() {
                names[thread].2 = comm;
            }
            self.thread_of.push(thread);
        }
        for (tgid, comm, container) in leaders {
            let argv = trace.snapshot().processes.iter().find(|p| p.tgid.0 == tgid).map(|p| &p.argv);
            if tgid == 0 {
                // The number of the idle task: nobody knows whose it was.
                self.processes.push(self.sheet.named(None, "unknown process")?);
                continue;
            }
            let process = ProcessDescriptor {
                pid: Some(tgid as i32),
                cmdline: argv.into_iter().flatten().map(|word| plain(word)).collect(),
                process_name: (!comm.is_empty()).then_some(comm),
                process_labels: container.and_then(|n| containers::called(&own, n)).into_iter().collect(),
            };
            let uuid =
                self.sheet.track(TrackDescriptor { process: Some(process), ..TrackDescriptor::default() })?;
            self.processes.push(uuid);
        }
        for ((tgid, tid, comm), process) in names.into_iter().zip(self.process_of.clone()) {
            if tid == 0 {
                self.threads.push(self.sheet.named(Some(self.processes[process]), "unknown thread")?);
                continue;
            }
            let thread = ThreadDescriptor {
                pid: Some(tgid as i32),
                tid: Some(i64::from(tid)),
                thread_name: (!comm.is_empty()).then_some(comm),
            };
            let uuid = self.sheet.track(TrackDescriptor {
                thread: Some(thread),
                parent_uuid: Some(self.processes[process].0),
                ..TrackDescriptor::default()
            })?;
            self.threads.push(uuid);
        }
        Ok(())
    }

    fn thread(&self, task: TaskId) -> usize {
        // Tasks of events are those of the dictionary.
        self.thread_of.get(task.0 as usize).copied().unwrap_or(0)
    }

    fn process(&self, task: TaskId) -> usize {
        self.process_of.get(self.thread(task)).copied().unwrap_or(0)
    }

    fn parent(&self, place: Place) -> Option<Uuid> {
        match place {
            Place::Top => None,
            Place::Process(process) => self.processes.get(process).copied(),
            Place::Thread(thread) => self.threads.get(thread).copied(),
        }
    }

    /// A track of this name that is free from then on.
    fn lane(&mut self, place: Place, name: &'static str, from_ns: u64) -> io::Result<Lane> {
        let parent = self.parent(place);
        if name == CALLS
            && let (Some(thread), false) = (parent, self.lanes.contains_key(&(place, name)))
        {
            let lane = self.sheet.lane(thread);
            self.lanes.insert((place, name), Lanes::with(lane));
        }
        let lanes = self.lanes.entry((place, name)).or_default();
        lanes.at(from_ns, &mut self.sheet, parent, name)
    }

    /// The one track of this name, for what comes in order of time.
    fn only(&mut self, place: Place, name: &'static str) -> io::Result<Lane> {
        self.lane(place, name, u64::MAX)
    }

    fn slice(
        &mut self,
        place: Place,
        name: &'static str,
        time: (u64, u64),
        what: (&str, Name<'_>),
        notes: Vec<Note>,
    ) -> io::Result<()> {
        let lane = self.lane(place, name, time.0)?;
        self.sheet.slice(lane, time, what, notes)
    }

    fn instant(
        &mut self,
        place: Place,
        name: &'static str,
        t_ns: u64,
        what: (&str, Name<'_>),
        notes: Vec<Note>,
    ) -> io::Result<()> {
        let lane = self.only(place, name)?;
        self.sheet.instant(lane, t_ns, what, notes)
    }
}

const fn clock(id: u32, ns: u64) -> Clock {
    Clock { clock_id: Some(id), timestamp: Some(ns) }
}

/// Writes a trace.
///
/// # Errors
/// As the output fails; or when the trace is one that is not to be read.
pub fn write<W: Write>(export: &Export<'_>, out: W) -> io::Result<Written> {
    let Export { trace, findings, moments, filter } = export;
    let mut tracks = Tracks::new(trace, out)?;
    let mut show = Events::new(trace, Paint::new(false));
    let mut connects = Connects::new();
    let mut written = Written::default();
    let mut rates = Rates::default();
    let mut counters = Counters::default();
    let mut hands = Hands::new(trace);
    let mut network = Network::default();
    let mut usages: FxHashMap<usize, Scheduler> = FxHashMap::default();
    for event in trace.events(filter) {
        let event = match event {
            Ok(event) => event,
            Err(error @ ReadError::TooDense { .. }) => return Err(io::Error::other(error)),
            Err(_) => {
                written.unreadable += 1;
                continue;
            }
        };
        show.learn(&event);
        let connected = connects.observe(&event, |object| trace.cookie(object));
        *written.events.entry(event.class()).or_default() += 1;
        hands.event(&event, &mut tracks)?;
        match &event {
            Event::Syscall(call) => {
                written.calls += 1;
                let failed = show.is_failure(&event, connected.as_ref());
                rates.call(event.end_ns(), failed, &mut tracks)?;
                calls::slice(&show, call, trace, &mut tracks)?;
            }
            Event::Aggregate(e) => {
                written.counted += e.count;
                rates.counted(e.t_ns, e.count, &mut tracks)?;
                let notes = vec![
                    ("count", Value::Uint(e.count)),
                    ("duration_ns", Value::Uint(e.duration_ns)),
                    ("from_ns", Value::Uint(e.from_ns)),
                    ("cpu", Value::Uint(u64::from(e.cpu))),
                ];
                let place = Place::Thread(tracks.thread(e.task));
                let text = show.told(&event);
                tracks.instant(place, "counted calls", e.t_ns, ("counted", Name::Once(&text)), notes)?;
            }
            Event::Usage(e) => {
                let thread = tracks.thread(e.task);
                usages.entry(thread).or_default().stretch(e, thread, &mut tracks)?;
            }
            Event::Resource(e) => counters.sample(e, &show, &mut tracks)?,
            Event::Connection(e) => network.connection(e, &show, &event, &mut tracks)?,
            Event::Loss(e) => {
                written.lost += e.count;
                lost(e, &show.told(&event), &mut tracks)?;
            }
            Event::Anchor(anchor) => snapshot(anchor, trace, &mut tracks.sheet)?,
            other => plainly(other, &show, &mut tracks)?,
        }
    }
    let end_ns = trace.end_ns();
    hands.finish(&mut tracks)?;
    network.finish(end_ns, &mut tracks)?;
    rates.finish(&mut tracks)?;
    aside(trace, findings, moments, &mut tracks)?;
    written.flows = hands.drawn();
    written.bytes = tracks.sheet.bytes();
    tracks.sheet.finish()?;
    Ok(written)
}

/// Kinds of events that are one slice or instant with a sentence.
fn plainly<W: Write>(event: &Event, show: &Events<'_>, tracks: &mut Tracks<W>) -> io::Result<()> {
    let text = show.told(event);
    let time = (event.start_ns(), event.end_ns());
    let thread = event.task().map_or(Place::Top, |task| Place::Thread(tracks.thread(task)));
    let what = |category| (category, Name::Once(text.as_str()));
    match event {
        Event::Process(e) => tracks.instant(thread, "life", e.t_ns, what("process"), Vec::new()),
        Event::Signal(e) => tracks.instant(thread, "signals", e.t_ns, what("signal"), Vec::new()),
        Event::Marker(e) => tracks.instant(Place::Top, "markers", e.t_ns, what("marker"), Vec::new()),
        Event::Fidelity(e) => {
            tracks.instant(Place::Top, "fidelity of the recording", e.t_ns, what("fidelity"), Vec::new())
        }
        Event::Injection(e) => {
            tracks.instant(thread, "injected faults", e.t_ns, what("injection"), Vec::new())
        }
        Event::Dns(_) => tracks.slice(thread, "name lookups", time, what("dns"), Vec::new()),
        Event::Block(_) => tracks.slice(thread, "disk requests", time, what("block"), Vec::new()),
        Event::Uring(_) => tracks.slice(thread, "io_uring requests", time, what("uring"), Vec::new()),
        Event::Socket(e) => {
            let place = e.task.map_or(Place::Top, |task| Place::Process(tracks.process(task)));
            let notes = vec![
                ("from_ns", Value::Uint(e.from_ns)),
                ("sent", Value::Uint(e.bytes_sent)),
                ("received", Value::Uint(e.bytes_received)),
            ];
            tracks.instant(place, "socket traffic", e.t_ns, what("socket"), notes)
        }
        _ => tracks.instant(thread, "other events", time.1, what("other"), Vec::new()),
    }
}

/// What a thread did with its time.
#[derive(Default)]
struct Scheduler {
    /// Shares of a CPU: had, and waited for.
    counters: Vec<Lane>,
    until_ns: Option<u64>,
}

impl Scheduler {
    fn stretch<W: Write>(&mut self, e: &Usage, thread: usize, tracks: &mut Tracks<W>) -> io::Result<()> {
        const TRACK: &str = "scheduler";
        const CATEGORY: &str = "scheduler";
        let place = Place::Thread(thread);
        if self.counters.is_empty() {
            let parent = tracks.parent(place);
            for name in ["running %", "runnable %"] {
                let percent = CounterDescriptor { unit: None, unit_name: Some("%".to_owned()) };
                self.counters.push(tracks.sheet.counter(parent, name, percent)?);
            }
        }
        // Between two stretches it was blocked.
        if let Some(until_ns) = self.until_ns.filter(|until_ns| *until_ns < e.from_ns) {
            let what = (CATEGORY, Name::Often("blocked"));
            tracks.slice(place, TRACK, (until_ns, e.from_ns), what, Vec::new())?;
            for lane in &self.counters {
                tracks.sheet.count(*lane, until_ns, Count::Part(0.0))?;
            }
        }
        let from_ns = self.until_ns.map_or(e.from_ns, |until_ns| until_ns.max(e.from_ns));
        self.until_ns = Some(from_ns.max(e.t_ns));
        let length_ns = e.t_ns.saturating_sub(e.from_ns);
        let blocked_ns = length_ns.saturating_sub(e.cpu_ns).saturating_sub(e.wait_ns);
        let states = [("running", e.cpu_ns), ("runnable", e.wait_ns), ("blocked", blocked_ns)];
        // The first of those that took as long.
        let most = states.iter().rev().max_by_key(|(_, ns)| *ns).map_or("blocked", |(name, _)| name);
        let notes = vec![
            ("running_ns", Value::Uint(e.cpu_ns)),
            ("runnable_ns", Value::Uint(e.wait_ns)),
            ("blocked_ns", Value::Uint(blocked_ns)),
            ("minor_faults", Value::Uint(e.minor_faults)),
            ("major_faults", Value::Uint(e.major_faults)),
            ("yields", Value::Uint(e.yields)),
            ("preemptions", Value::Uint(e.preemptions)),
        ];
        let time = (from_ns, from_ns.max(e.t_ns));
        tracks.slice(place, TRACK, time, (CATEGORY, Name::Often(most)), notes)?;
        for (lane, ns) in self.counters.iter().zip([e.cpu_ns, e.wait_ns]) {
            let share = if length_ns == 0 { 0.0 } else { ns as f64 * 100.0 / length_ns as f64 };
            tracks.sheet.count(*lane, from_ns, Count::Part(share))?;
        }
        Ok(())
    }
}

fn lost<W: Write>(e: &Loss, text: &str, tracks: &mut Tracks<W>) -> io::Result<()> {
    let notes = vec![
        ("count", Value::Uint(e.count)),
        ("class", Value::Often(e.class.name().to_owned())),
        ("cause", Value::Often(e.cause.name().to_owned())),
    ];
    tracks.slice(Place::Top, LOSS, (e.from_ns, e.t_ns), ("loss", Name::Once(text)), notes)
}

/// The track of what is missing.
const LOSS: &str = "lost events";

fn snapshot<W: Write>(anchor: &ClockAnchor, trace: &Trace, sheet: &mut Sheet<W>) -> io::Result<()> {
    let clocks = vec![
        clock(CLOCK_BOOTTIME, trace.header().start_boottime_ns.saturating_add(anchor.t_ns)),
        clock(CLOCK_REALTIME, anchor.realtime_ns),
        clock(CLOCK_MONOTONIC, anchor.monotonic_ns),
    ];
    let clock_snapshot = Some(ClockSnapshot { clocks, primary_trace_clock: Some(CLOCK_BOOTTIME) });
    sheet.general(TracePacket { clock_snapshot, ..TracePacket::default() })
}

/// What is told of the trace beside its events.
fn aside<W: Write>(
    trace: &Trace,
    findings: &[Finding],
    moments: &[Moment],
    tracks: &mut Tracks<W>,
) -> io::Result<()> {
    let mut findings: Vec<&Finding> = findings.iter().collect();
    findings.sort_by_key(|f| (f.to_ns, f.from_ns, f.rank));
    for f in findings {
        let mut notes = vec![
            ("kind", Value::Text(f.kind.name().to_owned())),
            ("level", Value::Text(f.level.name().to_owned())),
            ("rank", Value::Uint(u64::from(f.rank))),
            ("count", Value::Uint(f.count)),
        ];
        for (name, text) in [("role", &f.role), ("object", &f.object), ("errno", &f.errno)] {
            notes.extend(text.clone().map(|text| (name, Value::Text(text))));
        }
        let what = (f.level.name(), Name::Once(f.sentence.as_str()));
        tracks.slice(Place::Top, "findings", (f.from_ns, f.to_ns), what, notes)?;
    }
    if let Some(window) = trace.window() {
        let (t_ns, text) = match &window.reason {
            DumpReason::Trigger { text, t_ns } => (*t_ns, format!("trigger: {text}")),
            DumpReason::Signal => (window.to_ns, "dumped on SIGUSR1".to_owned()),
            DumpReason::Mark { text } => (window.to_ns, format!("dumped by a mark: {text}")),
            DumpReason::End => (window.to_ns, "dumped at the end of the recording".to_owned()),
        };
        let text = plain(text.as_bytes());
        tracks.instant(Place::Top, "triggers", t_ns, ("trigger", Name::Once(&text)), Vec::new())?;
        if window.evicted > 0 {
            let text = format!("let go before the window: {}", units::plural(window.evicted, "event"));
            let notes = vec![("count", Value::Uint(window.evicted))];
            tracks.slice(Place::Top, LOSS, (0, window.from_ns), ("evicted", Name::Once(&text)), notes)?;
        }
    }
    for damage in trace.damage() {
        let text = crate::text::damage(damage);
        let (from_ns, to_ns) = damage.lost.map_or((0, trace.end_ns()), |lost| (lost.from_ns, lost.to_ns));
        let notes = damage.lost.map(|lost| ("count", Value::Uint(lost.count))).into_iter().collect();
        tracks.slice(Place::Top, LOSS, (from_ns, to_ns), ("damage", Name::Once(&text)), notes)?;
    }
    let mut moments: Vec<&Moment> = moments.iter().collect();
    moments.sort_by_key(|moment| moment.t_ns);
    for moment in moments {
        let notes = moment.notes.iter().map(|(name, text)| (*name, Value::Text(text.clone()))).collect();
        let what = (moment.track, Name::Once(moment.text.as_str()));
        tracks.instant(Place::Top, moment.track, moment.t_ns, what, notes)?;
    }
    Ok(())
}

/// A counter of how often something happens.
fn per_second() -> CounterDescriptor {
    CounterDescriptor { unit: Some(UNIT_COUNT), unit_name: None }
}

/// A track at the top that stays apart from others of its name.
fn apart(name: &str) -> TrackDescriptor {
    TrackDescriptor {
        name: Some(name.to_owned()),
        sibling_merge_behavior: Some(MERGE_NONE),
        ..TrackDescriptor::default()
    }
}
