//! A description of a trace, as an object.

use super::{Info, SHOWN, containers, doubts, spent};
use crate::text::{self, decode, units};
use crate::{Document, Shape};
use ctrace_analysis::{Account, CallCounts, Injections, Jump, is_complete};
use ctrace_format::{Class, DumpReason, Policy, syscalls};
use serde_json::{Map, Value, json};

/// Rows of a list that may have many.
const KEPT: usize = 4_096;

impl Info<'_> {
    /// The same as [`Info::lines`] for a program, and more.
    pub fn document(&self) -> Document {
        let mut object = self.object();
        if let Some(account) = self.account {
            extend(&mut object, of_account(account));
        }
        if let Some(calls) = self.calls {
            extend(&mut object, self.of_calls(calls));
        }
        Document::new(Shape::Info, object)
    }

    fn object(&self) -> Value {
        let (trace, overview) = (self.trace, self.overview);
        let header = trace.header();
        let summary = trace.summary();
        let lost = &overview.lost;
        let by_class: Map<String, Value> =
            lost.by_class.iter().map(|(c, n)| (c.name().to_owned(), json!(n))).collect();
        let by_cause: Map<String, Value> =
            lost.by_cause.iter().map(|(c, n)| (c.name().to_owned(), json!(n))).collect();
        json!({
            "format": 1,
            "complete": is_complete(trace),
            "state": text::state(trace.state()),
            "start": units::rfc3339(header.start_realtime_ns),
            "duration_ns": overview.duration_ns,
            "tick_ns": header.tick_ns,
            "scope": containers::scope_json(trace, self.calls),
            "host": header.host,
            "writer": header.writer,
            "events": self.events(),
            "aggregated": overview.aggregated,
            "lost": {"total": lost.total, "by_class": by_class, "by_cause": by_cause},
            "processes": overview.processes,
            "tasks": overview.threads,
            "connections": overview.network.connections,
            "injections": self.injections(),
            "bytes": {
                "file": trace.file_bytes(), "decoded": trace.decoded_bytes(), "per_syscall": self.bytes_per_call(),
            },
            "clock": overview.jumps.iter().map(jump).collect::<Vec<_>>(),
            "blind": header.blind,
            "unlearnt": trace.unlearnt(),
            "cut": lost.cut.map(|(from_ns, events)| json!({"from_ns": from_ns, "events": events})),
            "doubts": overview.doubts(self.calls).iter().map(doubts::json).collect::<Vec<_>>(),
            "redaction": {
                "policy": Policy::of_header(&header.redaction).name(), "header": header.redaction,
                "counts": summary.map(|s| &s.redacted),
            },
            "ended": summary.map(|s| &s.ended),
            "command_status": summary.and_then(|s| s.command_status),
            "engine_calls": summary.map(|s| s.engine_calls),
            "window": trace.window(),
            "trigger": self.trigger(),
            "damage": trace.damage().iter().map(text::damage_json).collect::<Vec<_>>(),
        })
    }

    /// Hits of the rules of a fault plan.
    fn injections(&self) -> Vec<Value> {
        let of_rule = |(rule, hits): (&u32, &Injections)| {
            let calls: Map<String, Value> = hits
                .calls
                .iter()
                .map(|(sysno, n)| (syscalls::name(*sysno).unwrap_or("unknown").to_owned(), json!(n)))
                .collect();
            json!({
                "rule": rule, "name": decode::json_text(self.trace.str(hits.name)), "count": hits.count,
                "calls": calls, "first_ns": hits.first_ns, "last_ns": hits.last_ns,
            })
        };
        self.overview.injections.iter().map(of_rule).collect()
    }

    fn events(&self) -> Map<String, Value> {
        let counts = self.trace.counts();
        let mut events: Map<String, Value> = counts.iter().map(|(c, n)| (plural(*c), json!(n))).collect();
        for class in [Class::Syscall, Class::Process, Class::Connection, Class::Signal, Class::Resource] {
            events.entry(plural(class)).or_insert(json!(0));
        }
        events.insert("total".to_owned(), json!(counts.values().sum::<u64>()));
        events
    }

    /// The trigger that a dump was made for, and when it fired.
    fn trigger(&self) -> Value {
        match self.trace.window().map(|window| &window.reason) {
            Some(DumpReason::Trigger { text, t_ns }) => {
                json!({"text": text, "t_ns": t_ns, "time": units::rfc3339(self.realtime_ns(*t_ns))})
            }
            _ => Value::Null,
        }
    }

    fn of_calls(&self, counts: &CallCounts) -> Value {
        let calls: Vec<Value> = counts
            .calls()
            .iter()
            .map(|call| json!({"name": call.name, "count": call.count, "time_ns": call.total_ns}))
            .collect();
        let errors: Vec<Value> = counts
            .errors()
            .iter()
            .map(|e| {
                let on: Vec<Value> = self
                    .targets(e)
                    .iter()
                    .take(SHOWN)
                    .map(|(on, n)| json!({"target": on, "count": n}))
                    .collect();
                json!({
                    "name": e.name, "errno": decode::errno_name(e.errno), "count": e.count,
                    "first_ns": e.first_ns, "last_ns": e.last_ns, "on": on,
                })
            })
            .collect();
        json!({"calls": calls, "errors": errors, "spent": spent::json(&counts.spent)})
    }
}

fn of_account(account: &Account) -> Value {
    json!({
        "findings": account.findings,
        "latency": account.latencies.iter().take(KEPT).collect::<Vec<_>>(),
        "exits": account.exits,
    })
}

/// `syscalls` is the one class that the contract names in the plural.
fn plural(class: Class) -> String {
    match class {
        Class::Syscall => "syscalls".to_owned(),
        other => other.name().to_owned(),
    }
}

fn jump(jump: &Jump) -> Value {
    match jump {
        Jump::Stepped { t_ns, by_ns } => json!({"t_ns": t_ns, "kind": "stepped", "by_ns": by_ns}),
        Jump::Slept { t_ns, for_ns } => json!({"t_ns": t_ns, "kind": "slept", "for_ns": for_ns}),
    }
}

fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}
