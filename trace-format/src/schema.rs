//! The names of the columns, written into every file so that it describes itself.

use crate::codec::field;
use crate::columns::row;
use serde::{Deserialize, Serialize};

/// One column of an event class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ColumnSchema {
    /// `Class` number; 0: columns of the rows, of all classes; 100: details of calls.
    pub(crate) class: u8,
    /// Kind of the event within the class, or tag of the detail; 0 for all.
    pub(crate) kind: u8,
    /// Field number; of a detail, relative to the detail's first.
    pub(crate) field: u32,
    /// Its name.
    pub(crate) name: String,
    /// What its integers are.
    pub(crate) unit: String,
}

/// All columns of version 1.
pub(crate) fn schema() -> Vec<ColumnSchema> {
    const DETAILS: u8 = 100;
    let detail = |tag, field, name, unit| (DETAILS, tag, field, name, unit);
    [
        (0, 0, row::SHAPE, "shape", "index"),
        (0, 0, row::TASK, "task", "task id; connection, aggregate: + 1, 0 none"),
        (0, 0, row::END, "end", "ticks"),
        (1, 0, field::DURATION, "duration", "ticks"),
        (1, 0, field::ARGS[0], "arg0", "u64"),
        (1, 0, field::ARGS[1], "arg1", "u64"),
        (1, 0, field::ARGS[2], "arg2", "u64"),
        (1, 0, field::ARGS[3], "arg3", "u64"),
        (1, 0, field::ARGS[4], "arg4", "u64"),
        (1, 0, field::ARGS[5], "arg5", "u64"),
        (1, 0, field::RET, "ret", "i64, complement if negative"),
        (1, 0, field::OBJECT, "object", "object id"),
        (1, 0, field::WAIT_CPU, "wait_cpu", "ticks"),
        (1, 0, field::BLOCKED, "blocked", "ticks"),
        (1, 0, field::GAP, "gap", "ticks"),
        detail(1, 0, "str", "string id"),
        detail(2, 0, "addr", "blob"),
        detail(3, 0, "object", "object id"),
        detail(4, 0, "value", "u64"),
        detail(5, 0, "new_fds.fd0", "zigzag"),
        detail(5, 1, "new_fds.fd1", "zigzag"),
        detail(5, 2, "new_fds.object0", "object id + 1, 0 none"),
        detail(5, 3, "new_fds.object1", "object id + 1, 0 none"),
        detail(6, 0, "iov.bytes", "u64"),
        detail(6, 1, "iov.count", "u32"),
        detail(7, 0, "time", "ns"),
        detail(8, 0, "poll.len", "count"),
        detail(8, 1, "poll.fd", "list of zigzag"),
        detail(8, 2, "poll.events", "list of u16"),
        detail(8, 3, "poll.revents", "list of u16"),
        detail(9, 0, "epoll.len", "count"),
        detail(9, 1, "epoll.data", "list of u64"),
        detail(9, 2, "epoll.events", "list of u32"),
        detail(10, 0, "stat.mode", "u32"),
        detail(10, 1, "stat.size", "u64"),
        detail(10, 2, "stat.ino", "u64"),
        detail(11, 0, "sigaction.handler", "u8"),
        detail(11, 1, "sigaction.flags", "u64"),
        detail(11, 2, "sigaction.mask", "u64"),
        detail(12, 0, "argv.len", "count"),
        detail(12, 1, "argv.word", "list of string id"),
        detail(12, 2, "argv.count", "u32"),
        detail(13, 0, "bytes", "blob"),
        detail(16, 0, "cpu_wait", "ticks"),
        detail(17, 0, "passed.len", "count"),
        detail(17, 1, "passed.fd", "list of zigzag"),
        detail(17, 2, "passed.object", "list of object id + 1, 0 none"),
        detail(17, 3, "passed.message", "index"),
        detail(18, 0, "messages.len", "count"),
        detail(18, 1, "messages.bytes", "list of bytes"),
        detail(18, 2, "messages.parts", "list of count"),
        detail(18, 3, "messages.moved", "list of bytes"),
        detail(18, 4, "messages.addr", "list of blob + 1, 0 none"),
        detail(19, 0, "local", "blob"),
        detail(24, 0, "unread", "word + 1, 0 all of it"),
        detail(25, 0, "cut", "word + 1, 0 all of it"),
        (2, 1, field::A, "fork.child", "task id"),
        (2, 2, field::A, "exec.path", "string id"),
        (2, 2, field::B, "exec.old_tid", "u32"),
        (2, 2, field::C, "exec.argv.len", "count"),
        (2, 2, field::D, "exec.argv.word", "list of string id"),
        (2, 2, field::E, "exec.argc", "u32"),
        (2, 3, field::A, "exit.status", "u32"),
        (2, 3, field::B, "exit.group_dead", "bool"),
        (2, 4, field::A, "load.path", "string id"),
        (2, 5, field::A, "identity.old_uid", "u32"),
        (2, 5, field::B, "identity.old_euid", "u32"),
        (2, 5, field::C, "identity.old_gid", "u32"),
        (2, 5, field::D, "identity.old_egid", "u32"),
        (2, 5, field::E, "identity.new_uid", "u32"),
        (2, 5, field::F, "identity.new_euid", "u32"),
        (2, 5, field::G, "identity.new_gid", "u32"),
        (2, 5, field::H, "identity.new_egid", "u32"),
        (2, 6, field::A, "capability.number", "u32"),
        (2, 6, field::B, "capability.granted", "bool"),
        (2, 6, field::C, "capability.count", "count"),
        (2, 6, field::D, "capability.call", "number + 1, 0 none"),
        (2, 6, field::E, "capability.abi", "abi"),
        (2, 7, field::A, "oom_kill.by", "task id + 1, 0 none"),
        (2, 7, field::B, "oom_kill.rss", "bytes"),
        (2, 7, field::C, "oom_kill.cgroup", "string id + 1, 0 none"),
        (2, 7, field::D, "oom_kill.limit", "bytes"),
        (2, 7, field::E, "oom_kill.usage", "bytes"),
        (2, 8, field::A, "fault.address", "u64"),
        (2, 8, field::B, "fault.blocked", "ticks"),
        (2, 16, field::A, "placed.container", "container's number"),
        (2, 24, field::A, "origin", "1 runtime, 2 outside"),
        (3, 0, field::COOKIE, "cookie", "u64"),
        (3, 0, field::B, "local", "blob"),
        (3, 0, field::C, "peer", "blob"),
        (3, 1, field::D, "state.old", "tcp state"),
        (3, 1, field::E, "state.new", "tcp state"),
        (3, 1, field::F, "state.error", "errno"),
        (3, 5, field::D, "closed.bytes_sent", "bytes"),
        (3, 5, field::E, "closed.bytes_received", "bytes"),
        (3, 5, field::F, "closed.srtt", "us"),
        (3, 5, field::G, "closed.retransmits", "count"),
        (3, 6, field::D, "sample.srtt", "us"),
        (3, 6, field::E, "sample.cwnd", "segments"),
        (3, 6, field::F, "sample.send_window", "bytes"),
        (3, 6, field::G, "sample.in_flight", "segments"),
        (3, 6, field::H, "sample.retransmits", "count"),
        (3, 6, field::I, "sample.bytes_sent", "bytes"),
        (3, 6, field::J, "sample.bytes_received", "bytes"),
        (4, 0, field::A, "signo", "u32"),
        (4, 0, field::B, "code", "zigzag"),
        (4, 0, field::C, "sender", "task id + 1, 0 none"),
        (4, 0, field::D, "outside.pid", "process id + 1, 0 none"),
        (4, 0, field::E, "outside.comm", "string id"),
        (5, 0, field::A, "value", "u64"),
        (6, 0, field::A, "length", "ticks"),
        (6, 0, field::B, "cpu", "u32"),
        (6, 0, field::C, "class", "class"),
        (6, 0, field::D, "cause", "cause"),
        (6, 0, field::E, "count", "count"),
        (7, 0, field::A, "text", "string id"),
        (8, 0, field::A, "monotonic", "ns"),
        (8, 0, field::B, "realtime", "ns"),
        (9, 1, field::A, "aggregate.length", "ticks"),
        (9, 1, field::B, "aggregate.cpu", "u32"),
        (9, 1, field::C, "aggregate.abi", "abi"),
        (9, 1, field::D, "aggregate.number", "u32"),
        (9, 1, field::E, "aggregate.flags", "bits"),
        (9, 1, field::F, "aggregate.fd", "u32 + 1, 0 none"),
        (9, 1, field::G, "aggregate.object", "object id + 1, 0 none"),
        (9, 1, field::H, "aggregate.errno", "errno, 0 none"),
        (9, 1, field::I, "aggregate.count", "count"),
        (9, 1, field::J, "aggregate.duration", "ns"),
        (9, 1, field::K, "aggregate.histogram.len", "count"),
        (9, 1, field::L, "aggregate.histogram", "list of count"),
        (9, 2, field::A, "fidelity.cpu", "u32"),
        (9, 2, field::B, "fidelity.from", "level"),
        (9, 2, field::C, "fidelity.to", "level"),
        (10, 0, field::A, "length", "ticks"),
        (10, 0, field::B, "cpu", "ticks"),
        (10, 0, field::C, "wait", "ticks"),
        (10, 0, field::D, "minor_faults", "count"),
        (10, 0, field::E, "major_faults", "count"),
        (10, 0, field::F, "yields", "count"),
        (10, 0, field::G, "preemptions", "count"),
        (11, 0, field::COOKIE, "cookie", "u64"),
        (11, 0, field::B, "local", "blob + 1, 0 none"),
        (11, 0, field::C, "peer", "blob + 1, 0 none"),
        (11, 0, field::D, "length", "ticks"),
        (11, 0, field::E, "sent", "count"),
        (11, 0, field::F, "bytes_sent", "bytes"),
        (11, 0, field::G, "received", "count"),
        (11, 0, field::H, "bytes_received", "bytes"),
        (12, 0, field::COOKIE, "cookie", "u64"),
        (12, 0, field::B, "server", "blob + 1"),
        (12, 0, field::C, "duration", "ticks"),
        (12, 0, field::D, "name", "string id"),
        (12, 0, field::E, "qtype", "u16"),
        (12, 1, field::F, "code", "u8"),
        (12, 1, field::G, "answers", "count"),
        (13, 0, field::A, "dev", "st_dev"),
        (13, 0, field::B, "sector", "512 bytes"),
        (13, 0, field::C, "duration", "ticks"),
        (13, 0, field::D, "queued", "ticks"),
        (13, 0, field::E, "bytes", "bytes"),
        (13, 0, field::F, "error", "errno"),
        (14, 0, field::A, "object", "object id + 1, 0 none"),
        (14, 0, field::B, "duration", "ticks"),
        (14, 0, field::C, "ret", "zigzag"),
    ]
    .into_iter()
    .map(|(class, kind, field, name, unit)| ColumnSchema {
        class,
        kind,
        field,
        name: name.into(),
        unit: unit.into(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_column_has_one_name_and_a_unit() {
        let schema = schema();
        let numbers: BTreeSet<_> = schema.iter().map(|c| (c.class, c.kind, c.field)).collect();
        assert_eq!(numbers.len(), schema.len());
        let names: BTreeSet<_> = schema.iter().map(|c| (c.class, &c.name)).collect();
        assert_eq!(names.len(), schema.len());
        assert!(schema.iter().all(|c| !c.unit.is_empty()));
    }
}
