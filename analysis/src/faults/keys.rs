//! The keys of `ctrace.faults/v1`: the one table that plan files are read by, and that their JSON schema is made of.

use super::schema::{Form, Key, Scalar, Table};

const fn key(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, form, needed: false, about }
}

const fn needed(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, form, needed: true, about }
}

const fn said(name: &'static str) -> Form {
    Form::Scalar(Scalar::Said(name))
}

const TIME: Form = Form::Scalar(Scalar::Time);
const BYTES: Form = Form::Scalar(Scalar::Bytes);
const SHARE: Form = Form::Scalar(Scalar::Share);
const TEXT: Form = Form::Scalar(Scalar::Text);
const YES: Form = Form::Scalar(Scalar::Bool);
const CONDITION: Form = Form::Scalar(Scalar::Condition);
const RECORDED: Form = Form::Scalar(Scalar::Words(&["recorded"]));
const PEER: Key = key("peer", said("peer"), "the other end: 10.0.0.1:80, :80, db:5432, /run/x.sock, @name");
const ROLE: Key = key(
    "role",
    said("role"),
    "name of the thread, its process, or process/thread; * and ? stand for letters",
);

/// The version of the documents.
pub const VERSION: &str = "ctrace.faults/v1";

/// The whole document.
pub(super) const PLAN: Table = Table {
    name: "plan",
    about: "Faults on top of the replay of a recording",
    keys: &[
        needed("version", Form::Scalar(Scalar::Words(&[VERSION])), "the version of this vocabulary"),
        key("name", TEXT, "the plan's name, for people"),
        key(
            "seed",
            Form::Scalar(Scalar::Whole(0, u64::MAX)),
            "decides whatever is left to chance; 1 without it",
        ),
        key(
            "fail",
            said("phase"),
            "the phase of errors that say none: before the call does its work, or after",
        ),
        key("hosts", Form::Names(&PEER.form), "addresses of the hosts that peers name"),
        key(
            "window",
            said("window"),
            "stretch of the recording's clock for every fault without times of its own: 12s..40s",
        ),
        needed(
            "faults",
            Form::List(&FAULT),
            "the faults; of several for one call, the first decides what it returns",
        ),
        key(
            "steady",
            Form::List(&CONDITION),
            "conditions that are to hold all the time, in the language of triggers",
        ),
        key("abort", Form::List(&CONDITION), "conditions that end the replay, as --abort-on"),
    ],
    one_of: &[],
    with: &[],
};

const FAULT: Form = Form::Map(&Table {
    name: "fault",
    about: "One fault: do, inject, net, dns, process, time or pressure",
    keys: &[
        key("id", TEXT, "its name, for people"),
        key("match", Form::Map(&MATCH), "the calls that it is about; all that is said has to hold"),
        key("when", Form::Map(&WHEN), "the choice among those"),
        key("max", said("max"), "at most so many in all"),
        key("do", Form::Map(&DO), "what happens to them"),
        key("inject", Form::Scalar(Scalar::Expression), "the same in one line, as --inject has it"),
        key("net", Form::Map(&NET), "the network between a role and a peer"),
        key("dns", Form::Map(&DNS), "answers to questions for names"),
        key("process", Form::Map(&PROCESS), "the end or a stop of processes"),
        key("time", Form::Map(&TIME_FAULT), "other clocks"),
        key("pressure", Form::Map(&PRESSURE), "shortage of resources"),
    ],
    one_of: &["do", "inject", "net", "dns", "process", "time", "pressure"],
    with: &[("match", &["do"]), ("when", &["do", "net", "dns"]), ("max", &["do", "net", "dns"])],
});

pub(super) const MATCH: Table = Table {
    name: "match",
    about: "Calls",
    keys: &[
        needed("syscall", said("calls"), "calls as strace names them: connect, %file, !read, /regex, open*"),
        ROLE,
        PEER,
        key("path", said("path"), "a path, which what lies below has too; or a pattern with * and ?"),
        key(
            "arg",
            Form::OneOrList(&Form::Scalar(Scalar::Said("arg"))),
            "comparisons of arguments: count>=4096, flags&O_APPEND",
        ),
        key("errno_was", said("errno_was"), "calls that failed so in the recording"),
    ],
    one_of: &[],
    with: &[],
};

pub(super) const WHEN: Table = Table {
    name: "when",
    about: "A choice among calls",
    keys: &[
        key("nth", said("when"), "numbers: first[..last][+[step]], counted for each task and call"),
        key("prob", said("prob"), "each with this probability, 0 to 1"),
        key(
            "rate",
            said("rate"),
            "recorded*K: so many more that the error comes K times as often as in the recording",
        ),
        key("burst", Form::Map(&BURST), "stretches that come again and again"),
        key("window", said("window"), "a stretch of the recording's clock: 12s..40s, 12s.., ..40s"),
        key("during", said("during"), "finding:N: while this finding lasts, as ctrace info numbers them"),
        key(
            "from_byte",
            said("from_byte"),
            "transfers on connections that moved so many bytes the same way before: 4096, 4KiB",
        ),
    ],
    one_of: &[],
    with: &[],
};

const BURST: Table = Table {
    name: "burst",
    about: "Stretches that come again and again",
    keys: &[
        needed("active", TIME, "how long one lasts"),
        needed("dormant", TIME, "how long nothing happens then"),
        key("delay", TIME, "when the first begins"),
    ],
    one_of: &[],
    with: &[],
};

const DELAY: Form = Form::Either(&[
    Form::Scalar(Scalar::Time),
    Form::Map(&Table {
        name: "delay",
        about: "A time that is not always the same",
        keys: &[
            needed("latency", TIME, "in the middle"),
            key("jitter", TIME, "more or less by at most this"),
        ],
        one_of: &[],
        with: &[],
    }),
]);

pub(super) const DO: Table = Table {
    name: "do",
    about: "What happens to a call",
    keys: &[
        key("error", said("error"), "it fails: ECONNREFUSED, or a number"),
        key("retval", said("retval"), "it returns this number"),
        key("signal", said("signal"), "this signal is sent to its caller"),
        key("syscall", said("syscall"), "this call, one of %pure, is made in its place"),
        key("delay_enter", DELAY, "it begins later"),
        key("delay_exit", DELAY, "it returns later"),
        key("poke_enter", said("poke_enter"), "memory of arguments before it: @arg2=00ff"),
        key("poke_exit", said("poke_exit"), "memory of arguments after it"),
        key("phase", said("phase"), "an error before the call does its work, or after"),
        key("short", said("short"), "it transfers this part of what it did, 0 to 1"),
    ],
    one_of: &[],
    with: &[("phase", &["error"])],
};

pub(super) const NET: Table = Table {
    name: "net",
    about: "The network between a role and a peer",
    keys: &[
        needed("peer", PEER.form, "the other end; any: whatever is no unix socket"),
        ROLE,
        key(
            "direction",
            Form::Scalar(Scalar::Words(&["to", "from", "both"])),
            "of partition (default both), delay and reset (default from): to the peer, from it, or both",
        ),
        key("refuse", YES, "the peer refuses connections: ECONNREFUSED"),
        key(
            "reset",
            Form::Either(&[YES, BYTES]),
            "connections break: ECONNRESET, at once or after so many bytes",
        ),
        key("blackhole", YES, "nothing comes back: connects and receives end with ETIMEDOUT"),
        key("partition", YES, "nothing goes through: connects, receives and sends end with ETIMEDOUT"),
        key("delay", TIME, "answers, connects too, come later"),
        key("jitter", TIME, "more or less than delay by at most this"),
        key("slow_close", TIME, "close and shutdown take longer"),
        key("limit_data", BYTES, "the connection ends after so many received bytes"),
        key(
            "rate",
            Form::Scalar(Scalar::BitRate),
            "bandwidth: 1mbps, 500kbps (bytes a second, as tc has it), 8mbit",
        ),
        key("loss", SHARE, "share of packets that are lost"),
        key("duplicate", SHARE, "share of packets that come twice"),
        key("corrupt", SHARE, "share of packets with a wrong bit"),
        key("reorder", SHARE, "share of packets that overtake others"),
    ],
    one_of: &[],
    with: &[("jitter", &["delay"])],
};

const DNS: Table = Table {
    name: "dns",
    about: "Answers to questions for names",
    keys: &[
        key("name", TEXT, "questions for these names: a pattern with * and ?"),
        ROLE,
        key("server", PEER.form, "the server that is asked; :53 without it"),
        needed(
            "answer",
            Form::Either(&[
                Form::Scalar(Scalar::Words(&["nxdomain", "servfail", "drop"])),
                Form::Map(&Table {
                    name: "answer",
                    about: "Another answer",
                    keys: &[
                        key("A", TEXT, "an IPv4 address"),
                        key("AAAA", TEXT, "an IPv6 address"),
                        key("ttl", TIME, "how long it is good"),
                    ],
                    one_of: &["A", "AAAA"],
                    with: &[],
                }),
            ]),
            "the answer",
        ),
    ],
    one_of: &[],
    with: &[],
};

const PROCESS: Table = Table {
    name: "process",
    about: "The end or a stop of processes",
    keys: &[
        needed("role", ROLE.form, ROLE.about),
        needed(
            "do",
            Form::Scalar(Scalar::Words(&["kill", "stop", "restart", "oom"])),
            "what happens to them",
        ),
        key("for", TIME, "how long a stop lasts"),
        key("at", TIME, "when, on the recording's clock; at the beginning without it"),
    ],
    one_of: &[],
    with: &[],
};

const TIME_FAULT: Table = Table {
    name: "time",
    about: "Other clocks",
    keys: &[
        needed("offset", Form::Scalar(Scalar::Offset), "how much later they are, or earlier: 10m, -30s"),
        ROLE,
        key(
            "clocks",
            Form::OneOrList(&Form::Scalar(Scalar::Words(&["REALTIME", "MONOTONIC", "BOOTTIME"]))),
            "which; REALTIME without it",
        ),
    ],
    one_of: &[],
    with: &[],
};

const PRESSURE: Table = Table {
    name: "pressure",
    about: "Shortage of resources",
    keys: &[
        key(
            "cpu",
            Form::Either(&[
                RECORDED,
                Form::Map(&Table {
                    name: "cpu",
                    about: "CPU time",
                    keys: &[
                        key("throttled", SHARE, "share of the time in which nothing may run"),
                        key("quota", Form::Scalar(Scalar::Number(0.01, 4096.0)), "CPUs that may be used"),
                        key("load", SHARE, "share of each CPU that neighbours take"),
                    ],
                    one_of: &["throttled", "quota", "load"],
                    with: &[],
                }),
            ]),
            "CPU time",
        ),
        key(
            "memory",
            Form::Either(&[
                RECORDED,
                Form::Map(&Table {
                    name: "memory",
                    about: "Memory",
                    keys: &[
                        key(
                            "target",
                            Form::Scalar(Scalar::Amount),
                            "memory that is used in all: 512MiB, 95% of limit, 80% of node",
                        ),
                        key(
                            "limit",
                            Form::Scalar(Scalar::Amount),
                            "the limit: 512MiB, 50% of limit, 10% of node",
                        ),
                        key("ramp", TIME, "how long it takes to get there"),
                    ],
                    one_of: &[],
                    with: &[("ramp", &["target"])],
                }),
            ]),
            "memory",
        ),
        key(
            "disk",
            Form::Either(&[
                RECORDED,
                Form::Map(&Table {
                    name: "disk",
                    about: "The disk",
                    keys: &[
                        key("full", SHARE, "share of the disk that is used"),
                        key("write_bps", BYTES, "bytes a second that may be written"),
                        key("read_bps", BYTES, "bytes a second that may be read"),
                        key("fsync", TIME, "how long it takes to flush"),
                    ],
                    one_of: &[],
                    with: &[],
                }),
            ]),
            "the disk",
        ),
        key("fds", Form::Scalar(Scalar::Whole(0, 1 << 20)), "descriptors that a process may have"),
        key("pids", Form::Scalar(Scalar::Whole(1, 1 << 22)), "tasks that there may be"),
    ],
    one_of: &[],
    with: &[],
};
