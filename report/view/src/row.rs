//! An event as it is listed, and what can be followed from it.

use ctrace_format::{Detail, Event, Object, ObjectId, ProcessKind, SockCookie, TaskId, Trace};
use ctrace_report::escape;
use ctrace_report::text::Events;
use serde_json::Value;
use std::collections::HashSet;

/// Where an event is: its page, and its place on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) page: usize,
    pub(crate) at: u32,
}

/// An event that was read to be shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// The line, in which nothing acts.
    pub(crate) text: String,
    pub(crate) end_ns: u64,
    /// It tells of something that went wrong.
    pub(crate) is_error: bool,
    /// It is a call, which there are most of.
    pub(crate) is_call: bool,
    pub(crate) task: Option<Follow>,
    pub(crate) object: Option<Follow>,
    pub(crate) socket: Option<Follow>,
    /// All that it knows: names and values.
    pub(crate) detail: Vec<(String, String)>,
}

impl Row {
    /// The event as it is listed.
    pub(crate) fn of(events: &Events, event: &Event, is_error: bool) -> Self {
        let trace = events.trace();
        let text = events.line(event).unwrap_or_default();
        let object = object_of(event);
        let task = event.task().map(|task| {
            let def = trace.task(task);
            let comm = String::from_utf8_lossy(trace.str(def.comm)).into_owned();
            Follow { what: What::Task(task), label: escape::line(&format!("{comm}[{}]", def.tid.0)).into() }
        });
        let object = object.map(|object| Follow {
            what: What::Object(object),
            label: escape::line(&object_name(trace, object)).into(),
        });
        let socket = cookie_of(trace, event).map(|cookie| {
            let label = object.as_ref().map_or_else(|| format!("socket #{}", cookie.0), |o| o.label.clone());
            Follow { what: What::Socket(cookie), label }
        });
        Self {
            text: escape::line(&text).into(),
            end_ns: event.end_ns(),
            is_error,
            is_call: matches!(event, Event::Syscall(_)),
            task,
            object,
            socket,
            detail: detail(events, event),
        }
    }
}

fn object_of(event: &Event) -> Option<ObjectId> {
    match event {
        Event::Syscall(e) => e.object.or_else(|| {
            e.details.iter().find_map(|detail| match detail {
                Detail::Object { object, .. } => Some(*object),
                Detail::NewFds { objects, .. } => objects[0],
                _ => None,
            })
        }),
        Event::Aggregate(e) => e.object,
        Event::Uring(e) => e.object,
        _ => None,
    }
}

fn cookie_of(trace: &Trace, event: &Event) -> Option<SockCookie> {
    match event {
        Event::Connection(e) => Some(e.cookie),
        Event::Socket(e) => Some(e.cookie),
        Event::Dns(e) => Some(e.cookie),
        other => match trace.object(object_of(other)?) {
            Object::Socket { cookie, .. } => Some(*cookie),
            _ => None,
        },
    }
}

fn object_name(trace: &Trace, id: ObjectId) -> String {
    match trace.object(id) {
        Object::File { path, .. } => String::from_utf8_lossy(trace.str(*path)).into_owned(),
        Object::Socket { cookie, peer: Some(ctrace_format::SockAddr::Inet(peer)), .. } => {
            format!("socket #{} to {peer}", cookie.0)
        }
        Object::Socket { cookie, .. } => format!("socket #{}", cookie.0),
        Object::Pipe { ino } => format!("pipe:[{ino}]"),
        Object::Anon { kind, id } => format!("{}:[{id}]", String::from_utf8_lossy(trace.str(*kind))),
        _ => "?".to_owned(),
    }
}

/// The fields of the event's object of JSON, those that have a value.
fn detail(events: &Events, event: &Event) -> Vec<(String, String)> {
    let object = events.json(event).and_then(|document| serde_json::from_str(document.line()).ok());
    let Some(Value::Object(fields)) = object else { return Vec::new() };
    let mut out = Vec::new();
    for (name, value) in &fields {
        if name != "schema" {
            flatten(name, value, &mut out);
        }
    }
    out
}

/// Fields of fields get a row each.
fn flatten(name: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (inner, value) in fields {
                flatten(&format!("{name}.{inner}"), value, out);
            }
        }
        Value::String(text) => out.push((escape::line(name).into(), escape::line(text).into())),
        Value::Array(items) if items.is_empty() => {}
        other => out.push((escape::line(name).into(), escape::line(&other.to_string()).into())),
    }
}

/// Something whose events are listed alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Follow {
    pub(crate) what: What,
    /// Its name, in which nothing acts.
    pub(crate) label: String,
}

/// See [`Follow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A thread, by one of its entries in the dictionary.
    Task(TaskId),
    /// What a descriptor refers to, by one of its entries.
    Object(ObjectId),
    /// A socket: its calls, and what the kernel tells of it.
    Socket(SockCookie),
}

/// Something that is followed, made ready for a trace.
pub(crate) enum Trail {
    Everything,
    Tasks(HashSet<TaskId>),
    Objects(HashSet<ObjectId>),
    Socket(SockCookie),
}

/// What makes two entries of the dictionary the same object.
#[derive(PartialEq, Eq)]
enum Same<'a> {
    File(u64, u64),
    Path(&'a [u8]),
    Socket(SockCookie),
    Pipe(u64),
    Anon(&'a [u8], u64),
    Unknown(ObjectId),
}

fn same(trace: &Trace, id: ObjectId) -> Same<'_> {
    match trace.object(id) {
        Object::File { path, ino: 0, .. } => Same::Path(trace.str(*path)),
        Object::File { dev, ino, .. } => Same::File(*dev, *ino),
        Object::Socket { cookie, .. } => Same::Socket(*cookie),
        Object::Pipe { ino } => Same::Pipe(*ino),
        Object::Anon { kind, id } => Same::Anon(trace.str(*kind), *id),
        _ => Same::Unknown(id),
    }
}

impl Trail {
    /// Finds out what belongs to it.
    pub(crate) fn new(what: Option<What>, trace: &Trace) -> Self {
        match what {
            None => Self::Everything,
            Some(What::Socket(cookie)) => Self::Socket(cookie),
            Some(What::Task(task)) => {
                let def = trace.task(task);
                let all = trace.tasks().iter().enumerate();
                let same = all.filter(|(_, t)| t.tid == def.tid && t.start_ns == def.start_ns);
                Self::Tasks(same.map(|(id, _)| TaskId(id as u32)).collect())
            }
            Some(What::Object(object)) => {
                let wanted = same(trace, object);
                let all = (0..trace.objects().len() as u32).map(ObjectId);
                Self::Objects(all.filter(|id| same(trace, *id) == wanted).collect())
            }
        }
    }

    /// Whether an event belongs to it.
    pub(crate) fn has(&self, trace: &Trace, event: &Event) -> bool {
        match self {
            Self::Everything => true,
            Self::Tasks(tasks) => {
                event.task().is_some_and(|task| tasks.contains(&task))
                    || matches!(event, Event::Process(e)
                        if matches!(e.kind, ProcessKind::Fork { child } if tasks.contains(&child)))
                    || matches!(event, Event::Signal(e) if e.sender.is_some_and(|s| tasks.contains(&s)))
            }
            Self::Objects(objects) => {
                let has = |id: Option<ObjectId>| id.is_some_and(|id| objects.contains(&id));
                match event {
                    Event::Syscall(e) => {
                        has(e.object)
                            || e.details.iter().any(|detail| match detail {
                                Detail::Object { object, .. } => has(Some(*object)),
                                Detail::NewFds { objects, .. } => objects.iter().any(|o| has(*o)),
                                Detail::Passed { fds, .. } => fds.iter().any(|fd| has(fd.object)),
                                _ => false,
                            })
                    }
                    other => has(object_of(other)),
                }
            }
            Self::Socket(cookie) => cookie_of(trace, event) == Some(*cookie),
        }
    }
}
