//! An event as a line like `strace`'s, or as an object of JSON.

mod json;
mod lines;
mod row;
mod timeline;

pub use row::{Row, errno, name_in_json};

use crate::text::containers;
use crate::text::decode::{Call, Ends, plain};
use crate::text::units;
use crate::text::when::{self, Time, Zone};
use crate::{Document, Paint, Shape, Style};
use ctrace_analysis::Containers;
use ctrace_analysis::connects::Connected;
use ctrace_format::syscalls::Failing;
use ctrace_format::{
    Event, FidelityLevel, Process, ProcessKind, StrId, Syscall, SyscallFlags, TaskId, Trace, syscalls,
};
use std::cell::Cell;
use std::collections::HashMap;

/// The events of one trace as lines like `strace`'s, or as objects of JSON. They are to be shown in order: it learns from
/// each.
pub struct Events<'a> {
    trace: &'a Trace,
    ends: Ends,
    closing: timeline::Closing,
    /// The last known state of tasks.
    states: HashMap<TaskId, Sleep>,
    containers: Containers<'a>,
    paint: Paint,
    time: Time,
    zone: Zone,
    /// The least columns that a task's name takes.
    who_columns: usize,
    /// The time of the line before.
    before_ns: Cell<Option<u64>>,
}

/// A task's state.
struct Sleep {
    wchan: StrId,
    since_ns: Option<i64>,
}

impl<'a> Events<'a> {
    /// Events of this trace. Colours are the caller's choice, of lines alone.
    pub fn new(trace: &'a Trace, paint: Paint) -> Self {
        Self {
            trace,
            ends: Ends::default(),
            closing: timeline::Closing::default(),
            states: HashMap::new(),
            containers: Containers::of(trace),
            paint,
            time: Time::Relative,
            zone: Zone::UTC,
            who_columns: 22,
            before_ns: Cell::new(None),
        }
    }

    /// Shows times so; by the clock on the wall, in this zone.
    #[must_use]
    pub fn timed(self, time: Time, zone: Zone) -> Self {
        Self { time, zone, ..self }
    }

    /// Gives the names of tasks at least so many columns, where there is little room.
    #[must_use]
    pub fn with_who_columns(self, who_columns: usize) -> Self {
        Self { who_columns, ..self }
    }

    /// The trace that they are of.
    pub const fn trace(&self) -> &'a Trace {
        self.trace
    }

    /// The container of each task.
    pub const fn containers(&self) -> &Containers<'a> {
        &self.containers
    }

    /// The container of a sample, if it is one of a container.
    fn sampled(&self, subject: u32) -> Option<String> {
        let number = subject.checked_sub(1).filter(|n| *n > 0)?;
        Some(containers::called(&self.containers, number).unwrap_or_else(|| format!("container {number}")))
    }

    /// Must see every event of connections and processes, shown or not.
    pub fn learn(&mut self, event: &Event) {
        if let Event::Process(Process { task, kind: ProcessKind::State { wchan, since_ns, .. }, .. }) = event
        {
            self.states.insert(*task, Sleep { wchan: *wchan, since_ns: *since_ns });
        }
        if let Event::Connection(e) = event {
            self.ends.learn(e.cookie, &e.local, &e.peer);
            self.closing.learn(e.cookie, &e.kind);
        }
    }

    /// The call, ready to be decoded.
    pub(crate) fn call<'b>(&'b self, call: &'b Syscall) -> Call<'b> {
        let name = syscalls::name(call.sysno).unwrap_or("");
        Call { trace: self.trace, event: call, name, ends: &self.ends }
    }

    pub(crate) fn who(&self, task: TaskId) -> String {
        let def = self.trace.task(task);
        // The name of one that ended before anybody could ask is not known.
        let comm = plain(self.trace.str(def.comm));
        format!("{}[{}]", if comm.is_empty() { "?" } else { &comm }, def.tid.0)
    }

    fn prefix(&self, t_ns: u64, who: &str) -> String {
        let seconds = |ns: u64| format!("{:>6}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000);
        let time = match self.time {
            Time::Relative => seconds(t_ns),
            Time::Wall => {
                when::time_of_day(self.trace.header().start_realtime_ns.saturating_add(t_ns), self.zone)
            }
            // Lines come in the order of ends, so that one may have begun before the one above it.
            Time::Delta => match self.before_ns.replace(Some(t_ns)) {
                Some(before) if before > t_ns => {
                    format!("{:>13}", format!("-{}", seconds(before - t_ns).trim_start()))
                }
                before => seconds(t_ns - before.unwrap_or(t_ns)),
            },
        };
        format!(
            "{}  {} ",
            self.paint.paint(Style::Dim, &time),
            self.paint.padded(Style::Cyan, who, self.who_columns)
        )
    }

    fn aside(&self, t_ns: u64, who: &str, style: Style, text: &str) -> String {
        format!("{}{}", self.prefix(t_ns, who), self.paint.paint(style, &format!("--- {text} ---")))
    }

    /// The event as a line. Anchors have none.
    pub fn line(&self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Syscall(call) => self.syscall_line(call),
            Event::Process(e) => {
                let (text, style) = self.process_text(e);
                self.aside(e.t_ns, &self.who(e.task), style, &text)
            }
            Event::Connection(e) => {
                let who = e.task.map_or_else(|| "net".to_owned(), |t| self.who(t));
                let (text, bad) = self.connection_text(e);
                self.aside(e.t_ns, &who, if bad { Style::Red } else { Style::Plain }, &text)
            }
            Event::Signal(e) => self.aside(e.t_ns, &self.who(e.task), Style::Yellow, &self.signal_text(e)),
            Event::Resource(e) => {
                let container = self.sampled(e.subject);
                let subject = container.as_deref().unwrap_or(if e.subject == 0 { "host" } else { "scope" });
                let text = format!("{} = {}", e.metric.name(), lines::metric_value(e));
                self.aside(e.t_ns, &plain(subject.as_bytes()), Style::Dim, &text)
            }
            Event::Loss(e) => {
                let cpu = if e.cpu == u32::MAX { String::new() } else { format!(" on CPU {}", e.cpu) };
                let text = format!(
                    "LOST {} {}{cpu} since {}.{:06}: {}",
                    units::count(e.count),
                    e.class.name(),
                    e.from_ns / 1_000_000_000,
                    e.from_ns % 1_000_000_000 / 1_000,
                    e.cause.name()
                );
                self.aside(e.t_ns, "ctrace", Style::Red, &text)
            }
            Event::Aggregate(e) => {
                self.aside(e.t_ns, &self.who(e.task), Style::Yellow, &self.aggregate_text(e))
            }
            Event::Fidelity(e) => {
                let now = match e.to {
                    FidelityLevel::Full => "recorded in full again",
                    FidelityLevel::NoArguments => "recorded without what their pointers point to",
                    _ => "counted, not recorded",
                };
                let text = format!("from here on, calls on CPU {} are {now}", e.cpu);
                self.aside(e.t_ns, "ctrace", Style::Yellow, &text)
            }
            Event::Marker(e) => self.aside(e.t_ns, "mark", Style::Bold, &plain(self.trace.str(e.text))),
            other => return self.later_line(other),
        })
    }

    /// What an event that is no call says, without time and task; empty for what has no words.
    pub(crate) fn told(&self, event: &Event) -> String {
        match event {
            Event::Process(e) => self.process_text(e).0,
            Event::Connection(e) => self.connection_text(e).0,
            Event::Signal(e) => self.signal_text(e),
            Event::Loss(e) => {
                format!("{} {} lost: {}", units::count(e.count), e.class.name(), e.cause.name())
            }
            Event::Aggregate(e) => self.aggregate_text(e),
            Event::Fidelity(e) => format!("CPU {}: {} → {}", e.cpu, e.from.name(), e.to.name()),
            Event::Marker(e) => plain(self.trace.str(e.text)),
            other => self.later_text(other).map_or_else(String::new, |(text, _)| text),
        }
    }

    /// What samples of resources are of: `host`, `scope`, or a container.
    pub(crate) fn subject(&self, subject: u32) -> String {
        match self.sampled(subject) {
            Some(container) => format!("container {}", plain(container.as_bytes())),
            None if subject == 0 => "host".to_owned(),
            None => "scope".to_owned(),
        }
    }

    /// The event as an object; readings of the clocks too, which have no line.
    pub fn json(&self, event: &Event) -> Option<Document> {
        if let Event::Syscall(call) = event {
            return Some(Document::of_event(&self.call_object(call, Some(Shape::Event.schema()))));
        }
        self.object_of(event).map(|object| Document::new(Shape::Event, object))
    }

    /// The object of [`Self::json`], to be taken apart.
    pub fn value(&self, event: &Event) -> Option<serde_json::Value> {
        self.object_of(event)
    }

    /// Whether the event is a call that failed, other than by waiting or being interrupted, or tells of a connect that came to
    /// nothing. `connected`: what became of an attempt to connect, known by this event. A replay engine's own calls do not
    /// count.
    pub fn is_failure(&self, event: &Event, connected: Option<&Connected>) -> bool {
        let Event::Syscall(call) = event else { return false };
        !call.flags.contains(SyscallFlags::ENGINE)
            && (self.call(call).failing().is_some_and(|says| says != Failing::Benign)
                || connected.is_some_and(|connected| connected.error.is_some()))
    }

    /// Whether the event is a call that failed as calls of healthy programs do: it asked whether something is there, or can
    /// be done.
    pub fn is_probing(&self, event: &Event) -> bool {
        matches!(event, Event::Syscall(call) if self.call(call).failing() == Some(Failing::Expected))
    }

    /// The kernel function in which a task sleeps.
    fn asleep(&self, task: TaskId) -> Option<String> {
        let wchan = plain(self.trace.str(self.states.get(&task)?.wchan));
        (!wchan.is_empty()).then(|| format!(" in {wchan}"))
    }
}
