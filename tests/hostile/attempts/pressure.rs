//! Pressure that a recording, or a plan, claims; and faults of plans, which come from elsewhere as well.

use super::{Attempt, JUDGED_OR_REFUSED};
use crate::story::Story;
use ctrace_format::{Detail, Event, Metric, Resource, Usage};

/// Subjects of samples.
const HOST: u32 = 0;
const SCOPE: u32 = 1;
/// Time between samples, ns.
const BIN_NS: u64 = 100_000_000;
/// A plan that is refused, or a replay that is judged or refused.
const PLANNED: &[i32] = &[0, 1, 2, 3, 4, 65, 74];

fn sample(t: &mut Story, subject: u32, metric: Metric, value: u64) {
    let t_ns = t.now;
    t.push(&Event::Resource(Resource { t_ns, subject, metric, value }));
}

/// A metric, and its value by the number of the sample.
type Series = (Metric, fn(u64) -> u64);

/// A second in which the workload sleeps, and, ten times, samples of the scope.
fn samples(t: &mut Story, all: &[Series]) {
    for number in 0..10 {
        for (metric, value) in all {
            sample(t, SCOPE, *metric, value(number));
        }
        t.call("nanosleep", [0, 0]).detail(Detail::Time { arg: 0, ns: BIN_NS }).takes(BIN_NS);
    }
}

/// Files that are written, and synced for so long each.
fn synced(t: &mut Story, paths: &[&str], bytes: i64, takes_ns: u64) {
    for path in paths {
        let fd = t.open(path, libc::O_CREAT | libc::O_RDWR);
        t.call("write", [fd, 0, bytes]).ret(bytes);
        t.call("fsync", [fd]).takes(takes_ns);
        t.call("close", [fd]);
    }
}

/// A second of calls that plans are about.
fn calls(t: &mut Story) {
    for number in 0..10 {
        let fd = t.open(format!("/data/{number}"), libc::O_CREAT | libc::O_RDWR);
        t.call("write", [fd, 0, 4096]).ret(4096);
        t.call("close", [fd]);
        let child = t.fork(t.root);
        t.call("getpid", []).by(child).ret(i64::from(child.tid));
        t.exit(child, 0);
        t.call("wait4", [i64::from(child.tid), 0, 0, 0]).ret(i64::from(child.tid));
        t.call("nanosleep", [0, 0]).detail(Detail::Time { arg: 0, ns: BIN_NS }).takes(BIN_NS);
    }
}

const fn planned(name: &'static str, plan: fn() -> String) -> Attempt {
    let mut attempt = Attempt::new(name, |t, _| calls(t)).briefly();
    attempt.plan = Some(plan);
    attempt.ends = PLANNED;
    attempt
}

const fn pressed(name: &'static str, tell: fn(&mut Story, &crate::bait::Bait)) -> Attempt {
    let mut attempt = Attempt::new(name, tell).briefly();
    attempt.ends = JUDGED_OR_REFUSED;
    attempt
}

/// A plan with these faults.
fn plan(faults: &str) -> String {
    format!("version: ctrace.faults/v1\nfaults:\n{faults}\n")
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    pressed("pressure: an exabyte of memory", |t, _| {
        samples(t, &[(Metric::RssBytes, |_| 1 << 60), (Metric::MemoryAnonBytes, |_| u64::MAX)]);
    }),
    pressed("pressure: memory that comes and goes", |t, _| {
        samples(t, &[(Metric::MemoryAnonBytes, |number| (number % 2) << 33)]);
    }),
    pressed("pressure: a memory limit of a byte, and of nothing", |t, _| {
        samples(
            t,
            &[(Metric::MemoryLimitBytes, |number| number % 2), (Metric::MemoryAnonBytes, |_| 1 << 30)],
        );
    }),
    pressed("pressure: no task may live", |t, _| {
        samples(t, &[(Metric::PidsLimit, |_| 0), (Metric::Pids, |_| u64::MAX)]);
        calls(t);
    }),
    pressed("pressure: an hour until a file is on a disk", |t, _| {
        synced(t, &["/data/a", "/data/b"], 4096, 36_000 * BIN_NS);
    }),
    pressed("pressure: longer than time is until a file is on a disk", |t, _| {
        synced(t, &["/data/a"], 4096, u64::MAX);
    }),
    pressed("pressure: a slow disk in place of devices", |t, _| {
        synced(t, &["/dev/null", "/dev/../dev/x"], 4096, 2 * BIN_NS);
    }),
    pressed("pressure: a slow disk in place of processes", |t, _| {
        synced(t, &["/proc/self/x", "/proc/1/environ"], 4096, 2 * BIN_NS);
    }),
    pressed("pressure: a slow disk in place of the engine", |t, _| {
        synced(t, &["/.ctrace/0/x", "/.ctrace/1/x"], 4096, 2 * BIN_NS);
    }),
    pressed("pressure: a slow disk in place of the root, by names that go up", |t, _| {
        synced(t, &["/a/../x", "/a/b/../../../../y", "/../../z"], 4096, 2 * BIN_NS);
    }),
    pressed("pressure: more on a slow disk than there is memory", |t, _| {
        for number in 0..64 {
            synced(t, &[&format!("/data/{number}")], 256 << 20, BIN_NS / 4);
        }
    }),
    pressed("pressure: a quota of nothing, throttled for ever", |t, _| {
        samples(
            t,
            &[
                (Metric::CpuQuotaNs, |_| 0),
                (Metric::CpuPeriodNs, |number| number),
                (Metric::CpuThrottledNs, |number| number << 60),
            ],
        );
    }),
    pressed("pressure: throttled on a million CPUs", |t, _| {
        samples(
            t,
            &[
                (Metric::CpuQuotaNs, |_| 1_000_000),
                (Metric::CpuPeriodNs, |_| BIN_NS),
                (Metric::CpuThrottledNs, |number| number * 1_000_000 * BIN_NS),
            ],
        );
    }),
    pressed("pressure: a thousand CPUs computed, and the neighbours' as many", |t, _| {
        for number in 1..=10 {
            sample(t, HOST, Metric::CpuNs, number * 1000 * BIN_NS);
            let (t_ns, task) = (t.now, t.root.id);
            for _ in 0..1000 {
                let usage = Usage {
                    t_ns,
                    from_ns: t_ns.saturating_sub(BIN_NS),
                    task,
                    cpu_ns: u64::MAX >> 1,
                    wait_ns: BIN_NS,
                    minor_faults: u64::MAX,
                    major_faults: u64::MAX,
                    yields: u64::MAX,
                    preemptions: u64::MAX,
                };
                t.push(&Event::Usage(usage));
            }
            t.call("nanosleep", [0, 0]).detail(Detail::Time { arg: 0, ns: BIN_NS }).takes(BIN_NS);
        }
    }),
    pressed("pressure: a hundred thousand samples, and some at the end of time", |t, _| {
        for number in 0..100_000 {
            t.now += 10_000;
            sample(t, SCOPE, Metric::MemoryAnonBytes, number << 20);
        }
        let now = std::mem::replace(&mut t.now, u64::MAX - 1);
        sample(t, SCOPE, Metric::MemoryAnonBytes, 1 << 40);
        t.now = now;
        t.call("getpid", []).ret(1000);
    }),
    pressed("pressure: kills for want of memory without number", |t, _| {
        samples(t, &[(Metric::OomKills, |number| number << 59), (Metric::MemoryAnonBytes, |_| 1 << 31)]);
    }),
    planned("plan: more memory than there is", || {
        plan("- pressure: {memory: {target: 900000000GiB, limit: 900000000GiB}}")
    }),
    planned("plan: all of the node's memory, at once", || {
        plan("- pressure: {memory: {target: 100% of node, ramp: 0ms}}")
    }),
    planned("plan: everything is scarce at a time", || {
        plan(
            "- pressure: {cpu: {load: 100%}, memory: {target: 900MiB, ramp: 1ms}}\n\
             - match: {syscall: '%file'}\n  do: {error: ENOMEM}",
        )
    }),
    planned("plan: every call takes a day", || {
        plan("- match: {syscall: '*'}\n  do: {delay_enter: {latency: 1400m}, error: EIO}")
    }),
    planned("plan: every call is answered by a signal", || {
        plan(
            "- match: {syscall: write}\n  do: {signal: SIGSEGV}\n- match: {syscall: close}\n  do: {signal: SIGKILL}\n\
             - match: {syscall: wait4}\n  do: {signal: SIGSEGV}",
        )
    }),
    planned("plan: every process is killed at once", || {
        plan("- process: {role: '*', do: kill}\n- process: {role: '*', do: oom, at: 100ms}")
    }),
    planned("plan: results that no kernel gives", || {
        plan(
            "- match: {syscall: write}\n  do: {retval: 1073741823}\n\
             - match: {syscall: openat}\n  do: {retval: 1073741823}\n- match: {syscall: 'clone*'}\n  do: {retval: 1}",
        )
    }),
    planned("plan: eight hundred rules, by chance, in bursts of microseconds", || {
        let rule = "- match: {syscall: '*'}\n  when: {prob: 0.5, burst: {active: 1us, dormant: 1us}}\n  do: {error: EIO}\n";
        plan(&rule.repeat(800))
    }),
    planned("plan: a megabyte of brackets", || "[".repeat(1 << 20)),
    planned("plan: aliases of aliases", || {
        let first = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        let level = |level: usize| {
            let below = format!("*a{}", level - 1);
            format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", "))
        };
        std::iter::once(first).chain((1..30).map(level)).collect()
    }),
    planned("plan: names that steer terminals", || {
        plan(
            "- match: {syscall: write, role: \"\\e]0;x\\a\\e[2J\", path: \"/\\u202e\\e[31m\"}\n  id: \"\\e[1A\"\n  do: {error: EIO}",
        )
    }),
    planned("plan: conditions without end", || {
        let text =
            "version: ctrace.faults/v1\nfaults:\n- match: {syscall: write}\n  do: {error: EIO}\nsteady:\n";
        text.to_owned() + &"- \"p99(write)<1ns\"\n".repeat(10_000)
    }),
    Attempt::new("faults: one of each kind on every call", |t, _| calls(t)).args(&[
        "--inject",
        "*:error=EIO:delay_enter=100ms:delay_exit=100ms:signal=SIGTERM",
        "--max-duration",
        "4s",
    ]),
];
