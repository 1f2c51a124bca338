//! Events as JSON.

use super::Events;
use crate::text::containers;
use crate::text::decode::{self, Arg, address};
use ctrace_format::{
    Aggregate, ConnectionKind, Event, ProcessKind, StrId, Syscall, SyscallFlags, Sysno, TaskId, syscalls,
};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

impl Events<'_> {
    pub(super) fn object_of(&self, event: &Event) -> Option<Value> {
        Some(match event {
            Event::Syscall(call) => serde_json::to_value(self.call_object(call, None)).unwrap_or_default(),
            Event::Process(e) => {
                let mut object = self.object("process", e.t_ns, Some(e.task));
                let more = match &e.kind {
                    ProcessKind::Fork { child } => {
                        let def = self.trace.task(*child);
                        json!({"kind": "fork", "child_tid": def.tid.0, "child_tgid": def.tgid.0})
                    }
                    ProcessKind::Exec { path, argv, argc, old_tid } => json!({
                        "kind": "exec", "path": self.known(*path), "argc": argc, "old_tid": old_tid.0,
                        "argv": argv.iter().map(|w| self.text(*w)).collect::<Vec<_>>(),
                    }),
                    ProcessKind::Exit { status, group_dead } => json!({
                        "kind": "exit", "status": status, "group_dead": group_dead,
                        "exit_code": decode::exit_code(*status),
                        "signal": decode::exit_signal(*status).map(decode::signal),
                        "core_dumped": decode::exit_signal(*status).map(|_| status & 0x80 != 0),
                    }),
                    ProcessKind::Placed { container } => {
                        json!({"kind": "placed", "container_number": container})
                    }
                    other => self.later_process_json(other),
                };
                extend(&mut object, more);
                object
            }
            Event::Connection(e) => {
                let mut object = self.object("connection", e.t_ns, e.task);
                extend(
                    &mut object,
                    json!({
                        "cookie": e.cookie.0, "local": address(&e.local), "peer": address(&e.peer),
                    }),
                );
                let more = match &e.kind {
                    ConnectionKind::State { old, new, error } => json!({
                        "kind": "state", "old": old.name(), "new": new.name(),
                        "error": (*error != 0).then(|| decode::errno_name(u32::from(*error))),
                    }),
                    ConnectionKind::Retransmit => json!({"kind": "retransmit"}),
                    ConnectionKind::ResetSent => json!({"kind": "reset_sent"}),
                    ConnectionKind::ResetReceived => json!({"kind": "reset_received"}),
                    ConnectionKind::Closed { bytes_sent, bytes_received, srtt_us, retransmits } => json!({
                        "kind": "closed", "bytes_sent": bytes_sent, "bytes_received": bytes_received,
                        "srtt_us": (*srtt_us > 0).then_some(srtt_us), "retransmits": retransmits, "closed_by": self.closing.of(e.cookie),
                    }),
                    ConnectionKind::Sample {
                        srtt_us,
                        cwnd,
                        send_window,
                        in_flight,
                        retransmits,
                        bytes_sent,
                        bytes_received,
                    } => json!({
                        "kind": "sample", "srtt_us": (*srtt_us > 0).then_some(srtt_us), "cwnd": cwnd, "send_window": send_window,
                        "in_flight": in_flight, "retransmits": retransmits, "bytes_sent": bytes_sent,
                        "bytes_received": bytes_received,
                    }),
                    _ => json!({"kind": "unknown"}),
                };
                extend(&mut object, more);
                object
            }
            Event::Anchor(e) => json!({
                "t_ns": e.t_ns, "type": "clock", "monotonic_ns": e.monotonic_ns, "realtime_ns": e.realtime_ns,
            }),
            Event::Signal(e) => {
                let mut object = self.object("signal", e.t_ns, Some(e.task));
                extend(
                    &mut object,
                    json!({
                        "signal": decode::signal(e.signo), "signo": e.signo, "code": e.code, "delivered": e.delivered,
                        "sender_tid": e.sender.map(|s| self.trace.task(s).tid.0),
                        "sender_pid": e.sender.map(|s| self.trace.task(s).tgid.0).or(e.outside.map(|o| o.pid.0)),
                        "sender_comm": e.sender.map(|s| self.trace.task(s).comm).or(e.outside.map(|o| o.comm))
                            .map(|comm| self.text(comm)),
                        "sender_outside": e.outside.is_some(),
                    }),
                );
                object
            }
            Event::Resource(e) => {
                let container = self.sampled(e.subject);
                let subject = match (e.subject, &container) {
                    (0, _) => "host",
                    (_, Some(_)) => "container",
                    _ => "scope",
                };
                let mut object = json!({
                    "t_ns": e.t_ns, "type": "resource", "subject": subject,
                    "metric": e.metric.name(), "value": e.value,
                });
                if let Some(name) = container {
                    extend(&mut object, json!({"container": name, "container_number": e.subject - 1}));
                }
                object
            }
            Event::Loss(e) => json!({
                "t_ns": e.t_ns, "type": "loss", "from_ns": e.from_ns, "class": e.class.name(),
                "cause": e.cause.name(), "cpu": (e.cpu != u32::MAX).then_some(e.cpu), "count": e.count,
            }),
            Event::Aggregate(e) => self.aggregate_json(e),
            Event::Fidelity(e) => json!({
                "t_ns": e.t_ns, "type": "fidelity", "cpu": e.cpu, "from": e.from.name(), "to": e.to.name(),
            }),
            Event::Marker(e) => json!({"t_ns": e.t_ns, "type": "marker", "text": self.text(e.text)}),
            other => return self.later_json(other),
        })
    }

    /// A text that is empty when it is not known.
    fn known(&self, id: StrId) -> Option<String> {
        (!self.trace.str(id).is_empty()).then(|| self.text(id))
    }

    pub(super) fn text(&self, id: StrId) -> String {
        decode::json_text(self.trace.str(id))
    }

    pub(super) fn object(&self, kind: &str, t_ns: u64, task: Option<TaskId>) -> Value {
        match task {
            None => json!({"t_ns": t_ns, "type": kind, "tid": null, "tgid": null, "comm": null}),
            Some(task) => {
                let def = self.trace.task(task);
                let mut object = json!({
                    "t_ns": t_ns, "type": kind, "tid": def.tid.0, "tgid": def.tgid.0, "comm": self.known(def.comm),
                });
                if let Some(number) = self.containers.number(task) {
                    extend(&mut object, json!({"container": containers::called(&self.containers, number)}));
                }
                object
            }
        }
    }

    pub(super) fn call_name(&self, sysno: Sysno) -> String {
        let mark = decode::abi_mark(sysno.abi, self.trace.header().abi);
        syscalls::name(sysno).map_or_else(|| format!("{mark}syscall_{}", sysno.nr), |n| format!("{mark}{n}"))
    }

    fn aggregate_json(&self, e: &Aggregate) -> Value {
        let mut object = self.object("aggregate", e.t_ns, Some(e.task));
        let histogram: Vec<Value> = e
            .histogram
            .iter()
            .enumerate()
            .filter(|(_, n)| **n > 0)
            .map(|(i, n)| json!({"from_ns": if i == 0 { 0 } else { 1_u64 << i.min(63) }, "count": n}))
            .collect();
        extend(
            &mut object,
            json!({
                "from_ns": e.from_ns, "cpu": e.cpu, "name": self.call_name(e.sysno), "fd": e.fd,
                "object": e.object.map(|o| decode::object(self.trace, self.trace.object(o), None)),
                "errno": (e.errno != 0).then(|| decode::errno_name(e.errno)),
                "engine": e.flags.contains(SyscallFlags::ENGINE),
                "count": e.count, "duration_ns": e.duration_ns, "histogram": histogram,
            }),
        );
        object
    }

    /// A call as an object.
    pub(super) const fn call_object<'b>(&'b self, event: &'b Syscall, schema: Option<u32>) -> CallObject<'b> {
        CallObject { show: self, event, schema }
    }
}

/// A call as an object of JSON. There are millions: it is written as it is, its fields in the order of their names, as those
/// of all objects.
pub(super) struct CallObject<'a> {
    show: &'a Events<'a>,
    event: &'a Syscall,
    /// The number of its shape, when it has one.
    schema: Option<u32>,
}

/// Arguments in the order of their names.
struct Arguments(Vec<(&'static str, Arg)>);

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, arg)| (name, arg)))
    }
}

/// How a call was observed, by name.
const FLAGS: [(SyscallFlags, &str); 7] = [
    (SyscallFlags::NO_ENTER, "no_enter"),
    (SyscallFlags::NO_EXIT, "no_exit"),
    (SyscallFlags::ENGINE, "engine"),
    (SyscallFlags::TRUNCATED, "truncated"),
    (SyscallFlags::INJECTED, "injected"),
    (SyscallFlags::FILTERED, "filtered"),
    (SyscallFlags::EMULATED, "emulated"),
];

impl Serialize for CallObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { show, event, schema } = self;
        let call = show.call(event);
        let def = show.trace.task(event.task);
        let unfinished = event.flags.contains(SyscallFlags::NO_EXIT);
        let sleep = show.states.get(&event.task).filter(|_| unfinished);
        let [unknown, cut] = call.missing();
        let mut map = serializer.serialize_map(None)?;
        if event.sysno.abi != show.trace.header().abi {
            map.serialize_entry("abi", event.sysno.abi.name())?;
        }
        let mut args = call.args();
        args.sort_by_key(|(name, _)| *name);
        map.serialize_entry("args", &Arguments(args))?;
        map.serialize_entry("comm", &show.known(def.comm))?;
        if let Some(number) = show.containers.number(event.task) {
            map.serialize_entry("container", &containers::called(&show.containers, number))?;
        }
        if !cut.is_empty() {
            map.serialize_entry("cut", &cut)?;
        }
        map.serialize_entry("duration_ns", &event.duration_ns)?;
        map.serialize_entry("errno", &event.errno().map(decode::errno_name))?;
        map.serialize_entry("fd", &call.fd_object())?;
        if FLAGS.iter().any(|(flag, _)| event.flags.contains(*flag)) {
            let set = FLAGS.iter().filter(|(flag, _)| event.flags.contains(*flag));
            map.serialize_entry("flags", &set.map(|(_, name)| *name).collect::<Vec<_>>())?;
        }
        if let Some(local) = call.local() {
            map.serialize_entry("local", &local)?;
        }
        let messages = call.messages_json();
        if !messages.is_empty() {
            map.serialize_entry("messages", &messages)?;
        }
        match call.name {
            "" => map.serialize_entry("name", &format!("syscall_{}", event.sysno.nr))?,
            name => map.serialize_entry("name", name)?,
        }
        let passed = call.passed_json();
        if !passed.is_empty() {
            map.serialize_entry("passed", &passed)?;
        }
        map.serialize_entry("ret", &(!unfinished).then_some(event.ret))?;
        if let Some(schema) = schema {
            map.serialize_entry("schema", schema)?;
        }
        if let Some(sleep) = sleep {
            map.serialize_entry("since_ns", &sleep.since_ns)?;
        }
        map.serialize_entry("t_ns", &event.t_ns)?;
        map.serialize_entry("tgid", &def.tgid.0)?;
        map.serialize_entry("tid", &def.tid.0)?;
        map.serialize_entry("type", "syscall")?;
        if !unknown.is_empty() {
            map.serialize_entry("unknown", &unknown)?;
        }
        if let Some(sleep) = sleep {
            map.serialize_entry("wchan", &show.text(sleep.wchan))?;
        }
        map.end()
    }
}

pub(super) fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}
