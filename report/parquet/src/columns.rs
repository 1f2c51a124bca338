//! All tables and their columns: what they are called, what is in them, and what it means.
//!
//! But for `syscalls`, `findings` and `trace`, a column has the value of the field of that name of `ctrace events --json`.

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A number.
    Int,
    /// A number that is never negative, and may have 64 bits.
    UInt,
    /// True or false.
    Bool,
    /// Words; a list or an object of JSON as its text.
    Text,
    /// A moment in UTC, to the nanosecond.
    Time,
}

impl Type {
    /// Its name, as SQL has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int => "BIGINT",
            Self::UInt => "UBIGINT",
            Self::Bool => "BOOLEAN",
            Self::Text => "VARCHAR",
            Self::Time => "TIMESTAMP_NS",
        }
    }
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// Whether every row has a value.
    pub required: bool,
    /// What it means.
    pub about: &'static str,
}

/// A table: a file of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// What its rows are.
    pub about: &'static str,
    /// Its columns; those of [`Table::common`] come first.
    pub columns: &'static [Column],
    /// Which columns come first.
    pub common: Common,
}

/// Columns that many tables begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Common {
    /// When, and which task.
    Task,
    /// When.
    Time,
    /// None.
    None,
}

const fn must(name: &'static str, kind: Type, about: &'static str) -> Column {
    Column { name, kind, required: true, about }
}

const fn may(name: &'static str, kind: Type, about: &'static str) -> Column {
    Column { name, kind, required: false, about }
}

const T_NS: Column = must(
    "t_ns",
    Type::Int,
    "when, ns since the start of the trace; of what takes time and has no from_ns: its start",
);
const TIME: Column =
    must("time", Type::Time, "the same in UTC, by the clock as it was set when recording began");

const TIMES: &[Column] = &[T_NS, TIME];

const TASK: &[Column] = &[
    T_NS,
    TIME,
    may("tid", Type::Int, "thread"),
    may("tgid", Type::Int, "process"),
    may("comm", Type::Text, "name of the thread"),
    may("container", Type::Text, "container of a pod"),
];

impl Table {
    /// All its columns.
    pub fn all(&self) -> impl Iterator<Item = &'static Column> {
        let common = match self.common {
            Common::Task => TASK,
            Common::Time => TIMES,
            Common::None => &[],
        };
        common.iter().chain(self.columns)
    }
}

/// Numbers of [`TABLES`].
pub(crate) mod number {
    pub(crate) const SYSCALLS: usize = 0;
    pub(crate) const FINDINGS: usize = 16;
    pub(crate) const TRACE: usize = 17;
}

/// All tables.
pub const TABLES: &[Table] = &[
    Table {
        name: "syscalls",
        about: "system calls, one by one, in the order in which they were over",
        common: Common::Task,
        columns: &[
            must("name", Type::Text, "name of the call"),
            may("abi", Type::Text, "table of its number, where it is not the trace's own"),
            must("args", Type::Text, "arguments as in a line of `ctrace events`"),
            may("ret", Type::Int, "result; -errno of one that failed; none of one that did not return"),
            may("errno", Type::Text, "name of the error"),
            must("duration_ns", Type::Int, "from entry to exit"),
            may("fd", Type::Int, "descriptor that it is about, or that it made"),
            may("object", Type::Text, "what lies behind the descriptor"),
            may("path", Type::Text, "path that it names or works on"),
            may("peer", Type::Text, "address that it names, or other end of its socket"),
            may("bytes", Type::Int, "bytes that a call that moves data moved"),
            must("failed", Type::Bool, "whether it failed as `ctrace events --failed` means it"),
            must("cpu_wait_ns", Type::Int, "within the call: runnable, and waiting for a CPU"),
            must(
                "cpu_wait_before_ns",
                Type::Int,
                "between the thread's record before and this call: waiting for a CPU",
            ),
            must(
                "blocked_before_ns",
                Type::Int,
                "between the thread's record before and this call: blocked in page faults",
            ),
            may(
                "flags",
                Type::Text,
                "how it was observed: no_enter, no_exit, engine, truncated, injected, filtered, emulated",
            ),
        ],
    },
    Table {
        name: "processes",
        about: "what became of processes and threads",
        common: Common::Task,
        columns: &[
            must(
                "kind",
                Type::Text,
                "fork, exec, exit, load, identity, capability, oom_kill, fault, placed, state, waits_for, origin",
            ),
            may("child_tid", Type::Int, "fork: the new thread"),
            may("child_tgid", Type::Int, "fork: its process"),
            may("path", Type::Text, "exec, load: the file"),
            may("argv", Type::Text, "exec: arguments, a list of JSON"),
            may("argc", Type::Int, "exec: how many there are"),
            may("old_tid", Type::Int, "exec: the thread before"),
            may("status", Type::Int, "exit: as wait(2) tells it"),
            may("exit_code", Type::Int, "exit: status that it gave"),
            may("signal", Type::Text, "exit: signal that ended it"),
            may("core_dumped", Type::Bool, "exit: whether there is a core dump"),
            may("group_dead", Type::Bool, "exit: whether the process ended"),
            may("old", Type::Text, "identity: before, an object of JSON"),
            may("new", Type::Text, "identity: after, an object of JSON"),
            may("capability", Type::Text, "capability: which"),
            may("granted", Type::Bool, "capability: whether it has it"),
            may("count", Type::Int, "capability: how often it was asked"),
            may("call", Type::Text, "capability: in which call"),
            may("rss_bytes", Type::UInt, "oom_kill: memory that it had"),
            may("by_tid", Type::Int, "oom_kill: thread that wanted memory"),
            may("limit", Type::Text, "oom_kill: the limit, an object of JSON"),
            may("address", Type::Text, "fault: what was touched"),
            may("blocked_ns", Type::Int, "fault: how long"),
            may("container_number", Type::Int, "placed: number of the container"),
            may("state", Type::Text, "state: letter of the scheduler"),
            may("wchan", Type::Text, "state: function of the kernel that it sleeps in"),
            may("since_ns", Type::Int, "state: since when"),
            may("what", Type::Text, "waits_for: what it is"),
            may("holder_tid", Type::Int, "waits_for: thread that has it"),
            may("holder_tgid", Type::Int, "waits_for: its process"),
            may("holder", Type::Text, "waits_for: its name"),
            may("object", Type::Text, "waits_for: its name"),
            may("origin", Type::Text, "origin: runtime, outside"),
        ],
    },
    Table {
        name: "connections",
        about: "what happened to TCP connections, and samples of how they did",
        common: Common::Task,
        columns: &[
            must("kind", Type::Text, "state, retransmit, reset_sent, reset_received, closed, sample"),
            must("cookie", Type::UInt, "the socket"),
            may("local", Type::Text, "our end"),
            may("peer", Type::Text, "the other end"),
            may("old", Type::Text, "state: before"),
            may("new", Type::Text, "state: after"),
            may("error", Type::Text, "state: error that ended it"),
            may("bytes_sent", Type::UInt, "closed, sample: sent and acknowledged so far"),
            may("bytes_received", Type::UInt, "closed, sample: received so far"),
            may("srtt_us", Type::Int, "closed, sample: smoothed round-trip time"),
            may("retransmits", Type::Int, "closed, sample: segments sent again so far"),
            may("closed_by", Type::Text, "closed: local, peer, reset_sent, reset_received, timeout, refused"),
            may("cwnd", Type::Int, "sample: congestion window, segments"),
            may("send_window", Type::Int, "sample: window of the peer, bytes"),
            may("in_flight", Type::Int, "sample: segments under way"),
        ],
    },
    Table {
        name: "signals",
        about: "signals sent and delivered",
        common: Common::Task,
        columns: &[
            must("signal", Type::Text, "name"),
            must("signo", Type::Int, "number"),
            must("code", Type::Int, "si_code"),
            must("delivered", Type::Bool, "whether it was delivered (true) or sent"),
            may("sender_tid", Type::Int, "thread that sent it"),
            may("sender_pid", Type::Int, "its process"),
            may("sender_comm", Type::Text, "its name"),
            must("sender_outside", Type::Bool, "whether the sender is not recorded"),
        ],
    },
    Table {
        name: "resources",
        about: "samples of resource counters",
        common: Common::Time,
        columns: &[
            must("subject", Type::Text, "host, scope, container"),
            may("container", Type::Text, "name of the container"),
            may("container_number", Type::Int, "its number"),
            must("metric", Type::Text, "name of the counter; ends in its unit"),
            must("value", Type::UInt, "value; 2^64 - 1 of a limit that is not set"),
        ],
    },
    Table {
        name: "usage",
        about: "what threads did with stretches of time",
        common: Common::Task,
        columns: &[
            must("from_ns", Type::Int, "start of the stretch; t_ns is its end"),
            must("cpu_ns", Type::Int, "on a CPU"),
            must("wait_ns", Type::Int, "runnable, and waiting for a CPU"),
            must("blocked_ns", Type::Int, "blocked"),
            must("minor_faults", Type::Int, "page faults that needed no disk"),
            must("major_faults", Type::Int, "page faults that needed one"),
            must("yields", Type::Int, "times it gave the CPU up"),
            must("preemptions", Type::Int, "times the CPU was taken from it"),
        ],
    },
    Table {
        name: "sockets",
        about: "traffic of sockets that are not TCP, by stretches of time",
        common: Common::Task,
        columns: &[
            must("from_ns", Type::Int, "start of the stretch; t_ns is its end"),
            must("cookie", Type::UInt, "the socket"),
            must("socket", Type::Text, "udp, unix, netlink, ..."),
            may("local", Type::Text, "our end"),
            may("peer", Type::Text, "the other end"),
            must("sent", Type::UInt, "messages sent"),
            must("bytes_sent", Type::UInt, "their bytes"),
            must("received", Type::UInt, "messages received"),
            must("bytes_received", Type::UInt, "their bytes"),
        ],
    },
    Table {
        name: "dns",
        about: "name lookups",
        common: Common::Task,
        columns: &[
            must(
                "duration_ns",
                Type::Int,
                "until the answer was read, it was asked again, or the trace ended",
            ),
            must("cookie", Type::UInt, "the socket"),
            must("server", Type::Text, "who was asked"),
            must("name", Type::Text, "the name"),
            must("qtype", Type::Text, "A, AAAA, ..."),
            may("code", Type::Text, "response code; none: no answer"),
            may("answers", Type::Int, "how many"),
        ],
    },
    Table {
        name: "blocks",
        about: "requests of block devices",
        common: Common::Task,
        columns: &[
            must("duration_ns", Type::Int, "until it was done"),
            must("queued_ns", Type::Int, "of that, until the device got it"),
            must("dev", Type::Text, "device, major:minor"),
            must("sector", Type::UInt, "first sector, of 512 bytes"),
            must("bytes", Type::UInt, "bytes done"),
            must("op", Type::Text, "read, write, flush, discard, write_zeroes, other"),
            must("flags", Type::Text, "sync, meta, fua, flush, read_ahead: a list of JSON"),
            may("errno", Type::Text, "name of the error"),
        ],
    },
    Table {
        name: "urings",
        about: "requests through io_uring",
        common: Common::Task,
        columns: &[
            must("duration_ns", Type::Int, "until its completion was posted"),
            must("op", Type::Text, "what"),
            must("ret", Type::Int, "result, or -errno"),
            may("errno", Type::Text, "name of the error"),
            may("object", Type::Text, "what it worked on"),
        ],
    },
    Table {
        name: "injections",
        about: "hits of a fault plan in a replay, told before what is done to the call",
        common: Common::Task,
        columns: &[
            must("rule", Type::UInt, "index of the rule in the plan, from 0 on"),
            must("name", Type::Text, "its id, or the rule as it was written"),
            must("call", Type::Text, "name of the call"),
            must("nth", Type::UInt, "its number, from 1 on, among those that the rule counts together"),
            may("result", Type::Int, "what it returns: -errno, or a value"),
            may("errno", Type::Text, "name of the error"),
            must("phase", Type::Text, "whether it fails before or after its work"),
            may("short_millionths", Type::UInt, "part of its bytes that it moves"),
            may("signal", Type::Text, "signal that its caller gets"),
            must("delay_enter_ns", Type::UInt, "how much later it begins"),
            must("delay_exit_ns", Type::UInt, "how much later it returns"),
        ],
    },
    Table {
        name: "aggregates",
        about: "calls that were counted, not recorded one by one: sum(count) of them are not in `syscalls`",
        common: Common::Task,
        columns: &[
            must("from_ns", Type::Int, "start of the interval; t_ns is its end"),
            must("cpu", Type::Int, "CPU on which they ended"),
            must("name", Type::Text, "name of the call"),
            may("fd", Type::Int, "descriptor"),
            may("object", Type::Text, "what lies behind it"),
            may("errno", Type::Text, "name of the error that they failed with"),
            must("engine", Type::Bool, "whether a replay engine made them"),
            must("count", Type::UInt, "how many"),
            must("duration_ns", Type::UInt, "sum of their durations"),
            must("histogram", Type::Text, "how many took at least how long: a list of JSON"),
        ],
    },
    Table {
        name: "fidelity",
        about: "from when on how much of calls was recorded",
        common: Common::Time,
        columns: &[
            must("cpu", Type::Int, "of calls that end on this CPU"),
            must("from", Type::Text, "before: full, no_arguments, aggregated"),
            must("to", Type::Text, "from then on"),
        ],
    },
    Table {
        name: "losses",
        about: "events that were lost: sum(count) of them",
        common: Common::Time,
        columns: &[
            must("from_ns", Type::Int, "start of the stretch; t_ns is its end"),
            must("class", Type::Text, "class of the events"),
            must("cause", Type::Text, "why"),
            may("cpu", Type::Int, "on which CPU"),
            must("count", Type::UInt, "how many"),
        ],
    },
    Table {
        name: "markers",
        about: "remarks on the timeline",
        common: Common::Time,
        columns: &[must("text", Type::Text, "the remark")],
    },
    Table {
        name: "clocks",
        about: "simultaneous readings of three clocks",
        common: Common::Time,
        columns: &[
            must("boottime_ns", Type::Int, "CLOCK_BOOTTIME"),
            must("monotonic_ns", Type::Int, "CLOCK_MONOTONIC"),
            must("realtime_ns", Type::Int, "CLOCK_REALTIME, since the epoch"),
        ],
    },
    Table {
        name: "findings",
        about: "what went wrong, the most telling first, as `ctrace info` says it",
        common: Common::None,
        columns: &[
            must("rank", Type::Int, "place, from 1"),
            must("level", Type::Text, "cause, warning, note"),
            must("kind", Type::Text, "kind, see the manual"),
            must("sentence", Type::Text, "what happened"),
            must("from_ns", Type::Int, "when it began"),
            must("to_ns", Type::Int, "when it was last seen"),
            must("count", Type::Int, "how often"),
            may("role", Type::Text, "who"),
            may("object", Type::Text, "against what"),
            may("errno", Type::Text, "name of the error"),
        ],
    },
    Table {
        name: "trace",
        about: "the trace itself: one row",
        common: Common::None,
        columns: &[
            must("start", Type::Time, "when it began"),
            must("start_boottime_ns", Type::Int, "the same by CLOCK_BOOTTIME"),
            must("duration_ns", Type::Int, "its length"),
            must("tick_ns", Type::Int, "resolution of its times"),
            must("state", Type::Text, "complete, live, torn"),
            must("writer", Type::Text, "ctrace that wrote it"),
            must("hostname", Type::Text, "machine"),
            must("kernel", Type::Text, "its kernel"),
            must("arch", Type::Text, "its architecture"),
            must("cpus", Type::Int, "its CPUs"),
            must("scope", Type::Text, "what was recorded, an object of JSON"),
            must("redaction", Type::Text, "what was masked"),
            must("blind", Type::Text, "what could not be seen, a list of JSON"),
            must("lost", Type::UInt, "events that were lost"),
            must("unreadable_chunks", Type::Int, "parts of the file that could not be read"),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_each_says_what_it_is() {
        assert_eq!(TABLES[number::SYSCALLS].name, "syscalls");
        assert_eq!(TABLES[number::FINDINGS].name, "findings");
        assert_eq!(TABLES[number::TRACE].name, "trace");
        let tables: BTreeSet<&str> = TABLES.iter().map(|table| table.name).collect();
        assert_eq!(tables.len(), TABLES.len());
        for table in TABLES {
            let names: Vec<&str> = table.all().map(|column| column.name).collect();
            let unique: BTreeSet<&str> = names.iter().copied().collect();
            assert_eq!(unique.len(), names.len(), "{}: {names:?}", table.name);
            assert!(table.all().all(|column| !column.about.is_empty()));
        }
    }
}
