//! An event as a line like `strace`'s, or as an object of JSON.

mod timeline;

use crate::containers::Containers;
use crate::decode::args::{Arg, Call, Ends};
use crate::decode::{self, address, plain, quoted};
use crate::output::{Paint, Style};
use crate::units;
use crate::when::{self, Time};
use ctrace_format::{
    Aggregate, Connection, ConnectionKind, Event, FidelityLevel, Metric, Process, ProcessKind, Resource,
    Signal, StrId, Syscall, SyscallFlags, TaskId, TcpState, Trace, syscalls,
};
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Shows the events of one trace, in order: it learns from each.
pub(crate) struct Show<'a> {
    trace: &'a Trace,
    ends: Ends,
    closing: timeline::Closing,
    /// What tasks did when they were last looked at.
    states: HashMap<TaskId, Sleep>,
    containers: Containers<'a>,
    paint: Paint,
    time: Time,
    /// The time of the line before.
    before_ns: Cell<Option<u64>>,
}

/// A task's state.
struct Sleep {
    wchan: StrId,
    since_ns: Option<i64>,
}

impl<'a> Show<'a> {
    pub(crate) fn new(trace: &'a Trace, paint: Paint) -> Self {
        Self {
            trace,
            ends: Ends::default(),
            closing: timeline::Closing::default(),
            states: HashMap::new(),
            containers: Containers::read(trace),
            paint,
            time: Time::Relative,
            before_ns: Cell::new(None),
        }
    }

    /// Shows times so.
    pub(crate) fn timed(self, time: Time) -> Self {
        Self { time, ..self }
    }

    /// Which task is in which container.
    pub(crate) const fn containers(&self) -> &Containers<'a> {
        &self.containers
    }

    /// The container of a sample, if it is one of a container.
    fn sampled(&self, subject: u32) -> Option<String> {
        let number = subject.checked_sub(1).filter(|n| *n > 0)?;
        Some(self.containers.name(number).unwrap_or_else(|| format!("container {number}")))
    }

    /// Must see every event of connections and processes, shown or not.
    pub(crate) fn learn(&mut self, event: &Event) {
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

    fn who(&self, task: TaskId) -> String {
        let def = self.trace.task(task);
        // The name of one that ended before anybody could ask is not known.
        let comm = plain(self.trace.str(def.comm));
        format!("{}[{}]", if comm.is_empty() { "?" } else { &comm }, def.tid.0)
    }

    fn prefix(&self, t_ns: u64, who: &str) -> String {
        let seconds = |ns: u64| format!("{:>6}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000);
        let time = match self.time {
            Time::Relative => seconds(t_ns),
            Time::Wall => when::time_of_day(self.trace.header().start_realtime_ns.saturating_add(t_ns)),
            // Lines come in the order of ends, so that one may have begun before the one above it.
            Time::Delta => match self.before_ns.replace(Some(t_ns)) {
                Some(before) if before > t_ns => {
                    format!("{:>13}", format!("-{}", seconds(before - t_ns).trim_start()))
                }
                before => seconds(t_ns - before.unwrap_or(t_ns)),
            },
        };
        format!("{}  {} ", self.paint.paint(Style::Dim, &time), self.paint.padded(Style::Cyan, who, 22))
    }

    fn aside(&self, t_ns: u64, who: &str, style: Style, text: &str) -> String {
        format!("{}{}", self.prefix(t_ns, who), self.paint.paint(style, &format!("--- {text} ---")))
    }

    /// The event as a line. Anchors have none.
    pub(crate) fn line(&self, event: &Event) -> Option<String> {
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
                let text = format!("{} = {}", metric_name(e.metric), metric_value(e));
                self.aside(e.t_ns, &plain(subject.as_bytes()), Style::Dim, &text)
            }
            Event::Loss(e) => {
                let cpu = if e.cpu == u32::MAX { String::new() } else { format!(" on CPU {}", e.cpu) };
                let text = format!(
                    "LOST {} {}{cpu} since {}.{:06}: {:?}",
                    units::count(e.count),
                    class_name(e.class),
                    e.from_ns / 1_000_000_000,
                    e.from_ns % 1_000_000_000 / 1_000,
                    e.cause
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

    /// Where in the kernel a task sleeps.
    fn asleep(&self, task: TaskId) -> Option<String> {
        let wchan = plain(self.trace.str(self.states.get(&task)?.wchan));
        (!wchan.is_empty()).then(|| format!(" in {wchan}"))
    }

    fn syscall_line(&self, event: &Syscall) -> String {
        let call = self.call(event);
        let mut name = decode::abi_mark(event.sysno.abi, self.trace.header().abi).to_owned();
        if call.name.is_empty() {
            let _ = write!(name, "syscall_{}", event.sysno.nr);
        } else {
            name.push_str(call.name);
        }
        let unseen = event.flags.contains(SyscallFlags::NO_ENTER);
        let unfinished = event.flags.contains(SyscallFlags::NO_EXIT);
        let filtered = event.flags.contains(SyscallFlags::FILTERED);
        let inner = if unseen && !unfinished && event.args_mask == 0 {
            "<entered before the recording>".to_owned()
        } else {
            let args: Vec<String> = call.args().iter().map(|(_, a)| a.text()).collect();
            args.join(", ")
        };
        let result = call.result();
        let failed = event.errno().is_some();
        let result = self.paint.paint(if failed { Style::Red } else { Style::Plain }, &result);
        let created = event.details.iter().any(|d| matches!(d, ctrace_format::Detail::Created));
        let mut notes = String::new();
        for (yes, note) in [
            (created, " (created)"),
            (unseen && !unfinished && event.args_mask != 0, " <entry not seen>"),
            (unfinished && !unseen, " <unfinished>"),
            (unfinished && unseen, " <unfinished, since before the recording>"),
            (event.flags.contains(SyscallFlags::INJECTED), " (INJECTED)"),
            (event.flags.contains(SyscallFlags::EMULATED), " (emulated)"),
            (filtered && !event.flags.contains(SyscallFlags::EMULATED), " (answered by a filter)"),
            (event.flags.contains(SyscallFlags::ENGINE), " (replay engine)"),
        ] {
            if yes {
                notes.push_str(note);
            }
        }
        if unfinished {
            notes.push_str(&self.asleep(event.task).unwrap_or_default());
        }
        let duration = if unseen || filtered {
            String::new()
        } else {
            let ns = event.duration_ns;
            let text = format!(" <{}.{:06}>", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000);
            self.paint.paint(Style::Dim, &text)
        };
        format!(
            "{}{name}({inner}) = {result}{notes}{duration}",
            self.prefix(event.t_ns, &self.who(event.task))
        )
    }

    fn process_text(&self, event: &Process) -> (String, Style) {
        let text = match &event.kind {
            ProcessKind::Fork { child } => {
                let (parent, def) = (self.trace.task(event.task), self.trace.task(*child));
                let what = if parent.tgid == def.tgid { "thread" } else { "process" };
                format!("new {what} {}", def.tid.0)
            }
            ProcessKind::Exec { path, argv, argc, old_tid } => {
                let mut words: Vec<String> = argv.iter().map(|w| quoted(self.trace.str(*w))).collect();
                if (argv.len() as u64) < u64::from(*argc) {
                    words.push(format!("… {argc} in all"));
                }
                let by = if *old_tid == self.trace.task(event.task).tid {
                    String::new()
                } else {
                    format!(" by thread {}", old_tid.0)
                };
                let path = plain(self.trace.str(*path));
                format!("exec {} [{}]{by}", if path.is_empty() { "…" } else { &path }, words.join(", "))
            }
            ProcessKind::Exit { status, group_dead } => {
                let what = if *group_dead { "process" } else { "thread" };
                format!("{what} {}", decode::wait_status(*status))
            }
            ProcessKind::Placed { container } => {
                let name = self.containers.name(*container);
                format!("in container {}", plain(name.unwrap_or_else(|| container.to_string()).as_bytes()))
            }
            other => return self.later_process_text(other),
        };
        (text, Style::Bold)
    }

    /// What happened to a connection, and whether it is bad news.
    fn connection_text(&self, event: &Connection) -> (String, bool) {
        let ends = format!("tcp {}→{}", address(&event.local), address(&event.peer));
        match &event.kind {
            ConnectionKind::State { old, new, error } => {
                let error_text = match error {
                    0 => String::new(),
                    e => {
                        format!(
                            ": {} ({})",
                            decode::errno_name(u32::from(*e)),
                            decode::errno_text(u32::from(*e))
                        )
                    }
                };
                (format!("{ends} {} → {}{error_text}", state_name(*old), state_name(*new)), *error != 0)
            }
            ConnectionKind::Retransmit => (format!("{ends} retransmit"), true),
            ConnectionKind::ResetSent => (format!("{ends} we reset it"), true),
            ConnectionKind::ResetReceived => (format!("{ends} reset by the peer"), true),
            ConnectionKind::Closed { bytes_sent, bytes_received, srtt_us, retransmits } => {
                let mut text = format!(
                    "{ends} closed: {} sent, {} received",
                    units::bytes(*bytes_sent),
                    units::bytes(*bytes_received)
                );
                if *srtt_us > 0 {
                    let _ = write!(text, ", rtt {}", units::duration(u64::from(*srtt_us) * 1_000));
                }
                if *retransmits > 0 {
                    let _ = write!(text, ", {}", units::plural(u64::from(*retransmits), "retransmit"));
                }
                if let Some(how) = self.closing.words(event.cookie) {
                    let _ = write!(text, ", {how}");
                }
                (text, false)
            }
            ConnectionKind::Sample {
                srtt_us,
                cwnd,
                send_window,
                in_flight,
                retransmits,
                bytes_sent,
                bytes_received,
            } => {
                let mut text = format!(
                    "{ends} rtt {}, cwnd {cwnd}, {in_flight} in flight, window {}, {} sent, {} received",
                    units::duration(u64::from(*srtt_us) * 1_000),
                    units::bytes(u64::from(*send_window)),
                    units::bytes(*bytes_sent),
                    units::bytes(*bytes_received)
                );
                if *retransmits > 0 {
                    let _ = write!(text, ", {}", units::plural(u64::from(*retransmits), "retransmit"));
                }
                (text, false)
            }
            _ => (ends, false),
        }
    }

    fn signal_text(&self, event: &Signal) -> String {
        let name = decode::signal(event.signo);
        let from = match (event.sender, event.outside) {
            (Some(sender), _) => format!(" from {}", self.who(sender)),
            (None, Some(by)) => {
                format!(" from {}[{}] outside", plain(self.trace.str(by.comm)), by.pid.0)
            }
            (None, None) => String::new(),
        };
        let code = if event.code == 0 { String::new() } else { format!(" code {}", event.code) };
        if event.delivered { format!("{name} delivered{code}") } else { format!("{name} sent{from}{code}") }
    }

    /// The event as JSON. Anchors have none.
    pub(crate) fn json(&self, event: &Event) -> Option<Value> {
        Some(match event {
            Event::Syscall(call) => self.syscall_json(call),
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
                        "kind": "state", "old": state_name(*old), "new": state_name(*new),
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
                    "metric": metric_name(e.metric), "value": e.value,
                });
                if let Some(name) = container {
                    extend(&mut object, json!({"container": name, "container_number": e.subject - 1}));
                }
                object
            }
            Event::Loss(e) => json!({
                "t_ns": e.t_ns, "type": "loss", "from_ns": e.from_ns, "class": class_name(e.class),
                "cause": cause_name(e.cause), "cpu": (e.cpu != u32::MAX).then_some(e.cpu), "count": e.count,
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
    fn known(&self, id: ctrace_format::StrId) -> Option<String> {
        (!self.trace.str(id).is_empty()).then(|| self.text(id))
    }

    fn text(&self, id: ctrace_format::StrId) -> String {
        decode::json_text(self.trace.str(id))
    }

    fn object(&self, kind: &str, t_ns: u64, task: Option<TaskId>) -> Value {
        match task {
            None => json!({"t_ns": t_ns, "type": kind, "tid": null, "tgid": null, "comm": null}),
            Some(task) => {
                let def = self.trace.task(task);
                let mut object = json!({
                    "t_ns": t_ns, "type": kind, "tid": def.tid.0, "tgid": def.tgid.0, "comm": self.known(def.comm),
                });
                if let Some(number) = self.containers.number(task) {
                    extend(&mut object, json!({"container": self.containers.name(number)}));
                }
                object
            }
        }
    }

    fn aggregate_name(&self, e: &Aggregate) -> String {
        let mark = decode::abi_mark(e.sysno.abi, self.trace.header().abi);
        syscalls::name(e.sysno)
            .map_or_else(|| format!("{mark}syscall_{}", e.sysno.nr), |n| format!("{mark}{n}"))
    }

    fn aggregate_text(&self, e: &Aggregate) -> String {
        let mut text = format!("{} × {}", units::count(e.count), self.aggregate_name(e));
        if let Some(fd) = e.fd {
            let _ = write!(text, "({fd})");
        }
        if e.errno != 0 {
            let _ = write!(text, " = {}", decode::errno_name(e.errno));
        }
        if let Some(object) = e.object {
            let object = decode::object(self.trace, self.trace.object(object), None);
            let _ = write!(text, " on {object}");
        }
        let _ = write!(
            text,
            " in {}, {} on average",
            units::duration(e.t_ns.saturating_sub(e.from_ns)),
            units::duration(e.duration_ns / e.count.max(1))
        );
        text
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
                "from_ns": e.from_ns, "cpu": e.cpu, "name": self.aggregate_name(e), "fd": e.fd,
                "object": e.object.map(|o| decode::object(self.trace, self.trace.object(o), None)),
                "errno": (e.errno != 0).then(|| decode::errno_name(e.errno)),
                "engine": e.flags.contains(SyscallFlags::ENGINE),
                "count": e.count, "duration_ns": e.duration_ns, "histogram": histogram,
            }),
        );
        object
    }

    fn syscall_json(&self, event: &Syscall) -> Value {
        let call = self.call(event);
        let mut object = self.object("syscall", event.t_ns, Some(event.task));
        let args: serde_json::Map<String, Value> =
            call.args().into_iter().map(|(name, arg): (_, Arg)| (name.to_owned(), arg.json())).collect();
        let unfinished = event.flags.contains(SyscallFlags::NO_EXIT);
        let name =
            if call.name.is_empty() { format!("syscall_{}", event.sysno.nr) } else { call.name.to_owned() };
        let flags: Vec<&str> = [
            (SyscallFlags::NO_ENTER, "no_enter"),
            (SyscallFlags::NO_EXIT, "no_exit"),
            (SyscallFlags::ENGINE, "engine"),
            (SyscallFlags::TRUNCATED, "truncated"),
            (SyscallFlags::INJECTED, "injected"),
            (SyscallFlags::FILTERED, "filtered"),
            (SyscallFlags::EMULATED, "emulated"),
        ]
        .into_iter()
        .filter(|(f, _)| event.flags.contains(*f))
        .map(|(_, n)| n)
        .collect();
        extend(
            &mut object,
            json!({
                "name": name, "args": args, "ret": if unfinished { Value::Null } else { json!(event.ret) },
                "errno": event.errno().map(decode::errno_name), "duration_ns": event.duration_ns, "fd": call.fd_json(),
            }),
        );
        if !flags.is_empty() {
            extend(&mut object, json!({"flags": flags}));
        }
        if unfinished && let Some(sleep) = self.states.get(&event.task) {
            extend(&mut object, json!({"wchan": self.text(sleep.wchan), "since_ns": sleep.since_ns}));
        }
        for (what, names) in ["unknown", "cut"].into_iter().zip(call.missing()) {
            if !names.is_empty() {
                extend(&mut object, json!({what: names}));
            }
        }
        if let Some(local) = call.local() {
            extend(&mut object, json!({"local": local}));
        }
        for (what, value) in [("passed", call.passed_json()), ("messages", call.messages_json())] {
            if !value.is_empty() {
                extend(&mut object, json!({what: value}));
            }
        }
        if event.sysno.abi != self.trace.header().abi {
            extend(&mut object, json!({"abi": format!("{:?}", event.sysno.abi).to_lowercase()}));
        }
        object
    }
}

fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// As `ss` and the kernel's documentation name it.
pub(crate) const fn state_name(state: TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTABLISHED",
        TcpState::SynSent => "SYN_SENT",
        TcpState::SynRecv => "SYN_RECV",
        TcpState::FinWait1 => "FIN_WAIT1",
        TcpState::FinWait2 => "FIN_WAIT2",
        TcpState::TimeWait => "TIME_WAIT",
        TcpState::Close => "CLOSE",
        TcpState::CloseWait => "CLOSE_WAIT",
        TcpState::LastAck => "LAST_ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
        TcpState::NewSynRecv => "NEW_SYN_RECV",
    }
}

/// `cpu_ns`, `memory_bytes`, …: the metric's own name, as JSON spells names.
pub(crate) fn metric_name(metric: Metric) -> String {
    snake(&format!("{metric:?}"))
}

/// `syscall`, `process`, …
pub(crate) fn class_name(class: ctrace_format::Class) -> String {
    format!("{class:?}").to_lowercase()
}

/// `ring_full`, …
pub(crate) fn cause_name(cause: ctrace_format::LossCause) -> String {
    snake(&format!("{cause:?}"))
}

fn snake(camel: &str) -> String {
    let mut out = String::new();
    for (i, c) in camel.char_indices() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn metric_value(sample: &Resource) -> String {
    let name = metric_name(sample.metric);
    match sample.value {
        u64::MAX => "none".to_owned(),
        v if name.ends_with("_ns") => units::duration(v),
        v if name.ends_with("_us") => units::duration(v.saturating_mul(1_000)),
        v if name.ends_with("_bytes") => units::bytes(v),
        v => units::count(v),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_are_snake_case() {
        assert_eq!(metric_name(Metric::CpuThrottledNs), "cpu_throttled_ns");
        assert_eq!(class_name(ctrace_format::Class::Syscall), "syscall");
        assert_eq!(cause_name(ctrace_format::LossCause::RingFull), "ring_full");
    }
}
