//! Events besides calls, as text and as JSON.

use super::Events;
use super::json::extend;
use crate::Style;
use crate::text::decode::{self, address, capability, dns_code, dns_type, plain, uring_op};
use crate::text::units;
use ctrace_format::{
    Block, ConnectionKind, Dns, Event, Ids, Injection, Origin, ProcessKind, SockCookie, Socket, Sysno,
    TcpState, Uring, Usage, WaitKind, errno, linux, syscalls,
};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;

/// How each connection ended, learned from its events.
#[derive(Default)]
pub(crate) struct Closing(HashMap<SockCookie, &'static str>);

impl Closing {
    pub(crate) fn learn(&mut self, cookie: SockCookie, kind: &ConnectionKind) {
        let (how, final_word) = match kind {
            ConnectionKind::ResetSent => ("reset_sent", true),
            ConnectionKind::ResetReceived => ("reset_received", true),
            ConnectionKind::State { new: TcpState::Close, error, .. } => match *error {
                errno::ETIMEDOUT => ("timeout", true),
                errno::ECONNREFUSED => ("refused", true),
                errno::ECONNRESET => ("reset_received", true),
                _ => return,
            },
            ConnectionKind::State { old: TcpState::Established, new: TcpState::FinWait1, .. } => {
                ("local", false)
            }
            ConnectionKind::State { old: TcpState::Established, new: TcpState::CloseWait, .. } => {
                ("peer", false)
            }
            _ => return,
        };
        if final_word {
            self.0.insert(cookie, how);
        } else {
            self.0.entry(cookie).or_insert(how);
        }
    }

    /// Who ended it first, or what: `local`, `peer`, `reset_sent`, `reset_received`, `timeout`, `refused`.
    pub(crate) fn of(&self, cookie: SockCookie) -> Option<&'static str> {
        self.0.get(&cookie).copied()
    }

    /// The same in words.
    pub(crate) fn words(&self, cookie: SockCookie) -> Option<&'static str> {
        Some(match self.of(cookie)? {
            "local" => "closed first by us",
            "peer" => "closed first by the peer",
            "reset_sent" => "we reset it",
            "reset_received" => "reset by the peer",
            "timeout" => "timed out",
            _ => "refused",
        })
    }
}

/// Calls that take memory ask whether they may use what is set aside for root (`cap_vm_enough_memory`,
/// security/commoncap.c): the answer only matters when there is no other memory left.
pub(crate) fn is_overcommit(number: u32, call: Option<Sysno>) -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let takes_memory = matches!(
        call.and_then(syscalls::name),
        Some(
            "mmap"
                | "mremap"
                | "mprotect"
                | "brk"
                | "clone"
                | "clone3"
                | "fork"
                | "vfork"
                | "execve"
                | "execveat"
        )
    );
    number == CAP_SYS_ADMIN && takes_memory
}

fn seconds(ns: u64) -> String {
    format!("<{}.{:06}>", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000)
}

/// Pairs of what differs: `uid 0 → 65534`.
fn changes(old: Ids, new: Ids) -> String {
    let all = [
        ("uid", old.uid, new.uid),
        ("euid", old.euid, new.euid),
        ("gid", old.gid, new.gid),
        ("egid", old.egid, new.egid),
    ];
    let changed: Vec<String> =
        all.iter().filter(|(_, a, b)| a != b).map(|(name, a, b)| format!("{name} {a} → {b}")).collect();
    changed.join(", ")
}

fn ids_json(ids: Ids) -> Value {
    json!({"uid": ids.uid, "euid": ids.euid, "gid": ids.gid, "egid": ids.egid})
}

fn block_flags(flags: u8) -> Vec<&'static str> {
    [
        (Block::SYNC, "sync"),
        (Block::META, "meta"),
        (Block::FUA, "fua"),
        (Block::FLUSH, "flush"),
        (Block::READ_AHEAD, "read_ahead"),
    ]
    .into_iter()
    .filter(|(bit, _)| flags & bit != 0)
    .map(|(_, name)| name)
    .collect()
}

/// Major and minor number of a device.
fn device(dev: u64) -> String {
    let (major, minor) = linux::device(dev);
    format!("{major}:{minor}")
}

impl Events<'_> {
    /// Whether a line is shown only to those who ask for its class: there are many, and the calls say much of it.
    pub fn is_quiet(event: &Event) -> bool {
        match event {
            Event::Connection(e) => matches!(e.kind, ConnectionKind::Sample { .. }),
            Event::Process(e) => match e.kind {
                ProcessKind::Capability { granted: true, .. } => true,
                // A call that does not end says so itself.
                ProcessKind::State { state, .. } => matches!(state, b'S' | b'R' | b'I'),
                ProcessKind::Capability { capability, call, .. } => is_overcommit(capability, call),
                _ => false,
            },
            _ => false,
        }
    }

    /// What happened to a task, and how loudly to say it.
    pub(super) fn later_process_text(&self, kind: &ProcessKind) -> (String, Style) {
        match kind {
            ProcessKind::Load { path } => (format!("library {}", plain(self.trace.str(*path))), Style::Plain),
            ProcessKind::Identity { old, new } => (changes(*old, *new), Style::Bold),
            ProcessKind::Capability { capability: number, granted, count, call } => {
                let mut text =
                    format!("{} {}", capability(*number), if *granted { "granted" } else { "denied" });
                if let Some(call) = call {
                    let _ = write!(text, " in {}", syscalls::name(*call).unwrap_or("an unknown call"));
                }
                if *count > 1 {
                    let _ = write!(text, ", {} times more", units::count(u64::from(*count)));
                }
                (text, if *granted { Style::Plain } else { Style::Yellow })
            }
            ProcessKind::OomKill { by, rss_bytes, limit } => {
                let mut text = "chosen by the OOM killer".to_owned();
                if *rss_bytes > 0 {
                    let _ = write!(text, ", {} resident", units::bytes(*rss_bytes));
                }
                if let Some(by) = by {
                    let _ = write!(text, ", for an allocation of {}", self.who(*by));
                }
                if let Some(limit) = limit {
                    let _ = write!(
                        text,
                        ": {} of {} were used in {}",
                        units::bytes(limit.usage_bytes),
                        units::bytes(limit.limit_bytes),
                        plain(self.trace.str(limit.cgroup))
                    );
                }
                (text, Style::Red)
            }
            ProcessKind::Origin { origin: Origin::Runtime } => {
                ("belongs to the runtime that starts the container".to_owned(), Style::Dim)
            }
            ProcessKind::Origin { .. } => ("came into the container from outside".to_owned(), Style::Bold),
            ProcessKind::Fault { address, blocked_ns } => (
                format!("page fault at {address:#x} blocked for {}", units::duration(*blocked_ns)),
                Style::Yellow,
            ),
            ProcessKind::State { state, wchan, since_ns } => {
                let mut text = decode::task_state(*state).to_owned();
                let wchan = plain(self.trace.str(*wchan));
                if !wchan.is_empty() {
                    let _ = write!(text, " in {wchan}");
                }
                if let Some(since_ns) = since_ns {
                    let ago = units::duration(since_ns.unsigned_abs());
                    let _ = match since_ns {
                        ..0 => write!(text, ", since {ago} before the recording"),
                        0.. => write!(text, ", since {ago}"),
                    };
                }
                (text, if *state == b'D' { Style::Yellow } else { Style::Plain })
            }
            ProcessKind::WaitsFor { what, holder, object } => {
                let object = plain(self.trace.str(*object));
                let holder = self.who(*holder);
                let text = match what {
                    WaitKind::Futex => format!("waits for the mutex {object}, which {holder} has"),
                    WaitKind::Flock => format!("waits for the flock of {object}, which {holder} has"),
                    WaitKind::PosixLock => format!("waits for the lock of {object}, which {holder} has"),
                    WaitKind::Pipe | WaitKind::Socket => {
                        format!("waits for the other end of {object}, which {holder} has")
                    }
                    WaitKind::Child => format!("waits for the end of {holder}"),
                    other => format!("waits for {object} ({}), which {holder} has", other.name()),
                };
                (text, Style::Yellow)
            }
            _ => ("?".to_owned(), Style::Plain),
        }
    }

    pub(super) fn later_process_json(&self, kind: &ProcessKind) -> Value {
        match kind {
            ProcessKind::Load { path } => json!({"kind": "load", "path": self.text(*path)}),
            ProcessKind::Identity { old, new } => {
                json!({"kind": "identity", "old": ids_json(*old), "new": ids_json(*new)})
            }
            ProcessKind::Capability { capability: number, granted, count, call } => json!({
                "kind": "capability", "capability": capability(*number), "granted": granted, "count": count,
                "call": call.and_then(syscalls::name),
            }),
            ProcessKind::OomKill { by, rss_bytes, limit } => json!({
                "kind": "oom_kill", "rss_bytes": (*rss_bytes > 0).then_some(rss_bytes),
                "by_tid": by.map(|t| self.trace.task(t).tid.0),
                "limit": limit.as_ref().map(|l| json!({
                    "cgroup": self.text(l.cgroup), "limit_bytes": l.limit_bytes, "usage_bytes": l.usage_bytes,
                })),
            }),
            ProcessKind::Origin { origin } => json!({"kind": "origin", "origin": origin.name()}),
            ProcessKind::Fault { address, blocked_ns } => {
                json!({"kind": "fault", "address": (*address != 0).then(|| format!("{address:#x}")), "blocked_ns": blocked_ns})
            }
            ProcessKind::State { state, wchan, since_ns } => json!({
                "kind": "state", "state": char::from(*state).to_string(), "wchan": self.text(*wchan),
                "since_ns": since_ns,
            }),
            ProcessKind::WaitsFor { what, holder, object } => {
                let def = self.trace.task(*holder);
                json!({
                    "kind": "waits_for", "what": what.name(), "holder_tid": def.tid.0,
                    "holder_tgid": def.tgid.0, "holder": self.text(def.comm), "object": self.text(*object),
                })
            }
            _ => json!({"kind": "unknown"}),
        }
    }

    fn usage_text(e: &Usage) -> String {
        let length = e.t_ns.saturating_sub(e.from_ns);
        let mut text = format!("ran {} of {}", units::duration(e.cpu_ns), units::duration(length));
        let blocked = length.saturating_sub(e.cpu_ns).saturating_sub(e.wait_ns);
        if e.wait_ns > 0 {
            let _ = write!(text, ", waited {} for a CPU", units::duration(e.wait_ns));
        }
        if blocked > 0 {
            let _ = write!(text, ", blocked {}", units::duration(blocked));
        }
        for (count, what) in [
            (e.minor_faults, "minor fault"),
            (e.major_faults, "major fault"),
            (e.yields, "yield"),
            (e.preemptions, "preemption"),
        ] {
            if count > 0 {
                let _ = write!(text, ", {}", units::plural(count, what));
            }
        }
        text
    }

    fn socket_text(e: &Socket) -> String {
        let name = decode::socket_kind(e.family, e.kind, e.protocol);
        let ends =
            decode::ends(e.local.as_ref(), e.peer.as_ref()).unwrap_or_else(|| format!("#{}", e.cookie.0));
        let moved =
            |messages, bytes| format!("{} in {}", units::bytes(bytes), units::plural(messages, "message"));
        format!(
            "{name} {ends} {} sent, {} received",
            moved(e.sent, e.bytes_sent),
            moved(e.received, e.bytes_received)
        )
    }

    fn dns_text(&self, e: &Dns) -> (String, Style) {
        let name = plain(self.trace.str(e.name));
        let asked = format!("dns {} {name} @{}", dns_type(e.qtype), address(&e.server));
        match e.answer {
            Some((code, answers)) => {
                let style = if code == 0 { Style::Plain } else { Style::Red };
                let answers = units::plural(u64::from(answers), "answer");
                (format!("{asked} = {}, {answers} {}", dns_code(code), seconds(e.duration_ns)), style)
            }
            None => (format!("{asked} = no answer {}", seconds(e.duration_ns)), Style::Red),
        }
    }

    fn block_text(e: &Block) -> (String, Style) {
        let mut text = format!("disk {}", e.op.name());
        for flag in block_flags(e.flags) {
            let _ = write!(text, " {flag}");
        }
        let _ = write!(text, " {} on {} at sector {}", units::bytes(e.bytes), device(e.dev), e.sector);
        if e.queued_ns >= 1_000_000 {
            let _ = write!(text, ", {} in the queue", units::duration(e.queued_ns));
        }
        let error = u32::from(e.error);
        if error != 0 {
            let _ = write!(text, " = {} ({})", decode::errno_name(error), decode::errno_text(error));
        }
        let _ = write!(text, " {}", seconds(e.duration_ns));
        (text, if error == 0 { Style::Plain } else { Style::Red })
    }

    fn uring_text(&self, e: &Uring) -> (String, Style) {
        let object = e.object.map_or_else(String::new, |o| {
            format!("<{}>", decode::object(self.trace, self.trace.object(o), None))
        });
        let failed = e.ret < 0;
        let result = if failed { decode::errno_name(e.ret.unsigned_abs()) } else { e.ret.to_string() };
        let text = format!("io_uring {}({object}) = {result} {}", uring_op(e.opcode), seconds(e.duration_ns));
        (text, if failed { Style::Red } else { Style::Plain })
    }

    fn injection_text(&self, e: &Injection) -> String {
        let fault = e.fault;
        let mut does = Vec::new();
        if fault.enter_ns > 0 {
            does.push(format!("begins {} later", units::duration(fault.enter_ns)));
        }
        if let Some(signal) = fault.signal {
            does.push(format!("comes with {}", decode::signal(signal.into())));
        }
        if fault.after {
            does.push("does its work".to_owned());
        }
        match fault.result {
            Some(result @ ..0) => {
                does.push(format!("fails with {}", decode::errno_name(result.unsigned_abs())));
            }
            Some(result) => does.push(format!("returns {result}")),
            None => {}
        }
        if let Some(part) = fault.keeps_millionths {
            does.push(format!("moves {} % of its bytes", f64::from(part) / 1e4));
        }
        if fault.exit_ns > 0 {
            does.push(format!("returns {} later", units::duration(fault.exit_ns)));
        }
        let (call, rule) = (self.call_name(e.sysno), plain(self.trace.str(e.name)));
        format!("injected: {call} {} {} (rule {}: {rule})", units::count(e.nth), does.join(", "), e.rule + 1)
    }

    /// Words of the classes that are not `strace`'s.
    pub(super) fn later_text(&self, event: &Event) -> Option<(String, Style)> {
        Some(match event {
            Event::Usage(e) => (Self::usage_text(e), Style::Dim),
            Event::Socket(e) => (Self::socket_text(e), Style::Dim),
            Event::Dns(e) => self.dns_text(e),
            Event::Block(e) => Self::block_text(e),
            Event::Uring(e) => self.uring_text(e),
            Event::Injection(e) => (self.injection_text(e), Style::Yellow),
            _ => return None,
        })
    }

    /// Lines of the classes that are not `strace`'s.
    pub(super) fn later_line(&self, event: &Event) -> Option<String> {
        let (text, style) = self.later_text(event)?;
        let who = event.task().map_or_else(|| "net".to_owned(), |task| self.who(task));
        let t_ns = match event {
            Event::Usage(_) | Event::Socket(_) => event.end_ns(),
            _ => event.start_ns(),
        };
        Some(self.aside(t_ns, &who, style, &text))
    }

    /// JSON of the classes that are not `strace`'s.
    pub(super) fn later_json(&self, event: &Event) -> Option<Value> {
        let (mut object, more) = match event {
            Event::Usage(e) => (
                self.object("usage", e.t_ns, Some(e.task)),
                json!({
                    "from_ns": e.from_ns, "cpu_ns": e.cpu_ns, "wait_ns": e.wait_ns,
                    "blocked_ns": e.t_ns.saturating_sub(e.from_ns).saturating_sub(e.cpu_ns).saturating_sub(e.wait_ns),
                    "minor_faults": e.minor_faults, "major_faults": e.major_faults,
                    "yields": e.yields, "preemptions": e.preemptions,
                }),
            ),
            Event::Socket(e) => (
                self.object("socket", e.t_ns, e.task),
                json!({
                    "from_ns": e.from_ns, "cookie": e.cookie.0,
                    "socket": decode::socket_kind(e.family, e.kind, e.protocol),
                    "local": e.local.as_ref().map(address), "peer": e.peer.as_ref().map(address),
                    "sent": e.sent, "bytes_sent": e.bytes_sent,
                    "received": e.received, "bytes_received": e.bytes_received,
                }),
            ),
            Event::Dns(e) => (
                self.object("dns", e.t_ns, Some(e.task)),
                json!({
                    "duration_ns": e.duration_ns, "cookie": e.cookie.0, "server": address(&e.server),
                    "name": self.text(e.name), "qtype": dns_type(e.qtype),
                    "code": e.answer.map(|(code, _)| dns_code(code)), "answers": e.answer.map(|(_, n)| n),
                }),
            ),
            Event::Block(e) => (
                self.object("block", e.t_ns, Some(e.task)),
                json!({
                    "duration_ns": e.duration_ns, "queued_ns": e.queued_ns, "dev": device(e.dev),
                    "sector": e.sector, "bytes": e.bytes, "op": e.op.name(), "flags": block_flags(e.flags),
                    "errno": (e.error != 0).then(|| decode::errno_name(u32::from(e.error))),
                }),
            ),
            Event::Uring(e) => (
                self.object("uring", e.t_ns, Some(e.task)),
                json!({
                    "duration_ns": e.duration_ns, "op": uring_op(e.opcode), "ret": e.ret,
                    "errno": (e.ret < 0).then(|| decode::errno_name(e.ret.unsigned_abs())),
                    "object": e.object.map(|o| decode::object(self.trace, self.trace.object(o), None)),
                }),
            ),
            Event::Injection(e) => (
                self.object("injection", e.t_ns, Some(e.task)),
                json!({
                    "rule": e.rule, "name": self.text(e.name), "call": self.call_name(e.sysno), "nth": e.nth,
                    "result": e.fault.result,
                    "errno": e.fault.result.filter(|r| *r < 0).map(|r| decode::errno_name(r.unsigned_abs())),
                    "phase": if e.fault.after { "after" } else { "before" },
                    "short_millionths": e.fault.keeps_millionths,
                    "signal": e.fault.signal.map(|signal| decode::signal(signal.into())),
                    "delay_enter_ns": e.fault.enter_ns, "delay_exit_ns": e.fault.exit_ns,
                }),
            ),
            _ => return None,
        };
        extend(&mut object, more);
        Some(object)
    }
}
