//! Traces and pictures of them that tests make reports of.

use super::{Compared, Incident, Role, Traced};
use crate::text::when::Zone;
use ctrace_analysis::picture::{
    Change, ConnectionRow, Curve, Edge, ErrorRow, Gap, Grid, Lane, Map, Node, Panel, PanelKind, Picture,
    ProcessRow, Ranked, Sample, SlowCall, Span, State, Stretch, Unit,
};
use ctrace_analysis::{Account, EventId, Gates, Model, Overview, Profile, Report, account, diff};
use ctrace_format::{
    Abi, Detail, Event, Filter, Header, Host, Scope, SockAddr, Summary, Syscall, SyscallFlags, TaskDef, Tgid,
    Tid, Trace, TraceWriter, syscalls,
};
use std::path::{Path, PathBuf};

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MS;

/// Words that try to be something else.
pub(crate) const HOSTILE: &str =
    "</script><script>alert(1)</script><!--\u{202e}gpj\0\n\"'&--><img src=x onerror=alert(1)>`|";

/// A trace with everything that a report takes.
pub(crate) struct Made {
    pub(crate) trace: Trace,
    overview: Overview,
    account: Account,
    pub(crate) picture: Picture,
    path: PathBuf,
    role: Role,
    _dir: tempfile::TempDir,
}

/// Writes a trace of these calls: name, start, duration, result.
fn trace(dir: &Path, comm: &str, calls: &[(&str, u64, u64, i64)], is_whole: bool, start_ms: u64) -> PathBuf {
    let header = Header {
        tick_ns: 100,
        start_boottime_ns: SECOND,
        // 2026-12-01T18:00:00Z.
        start_realtime_ns: 1_796_148_000 * SECOND + start_ms * MS,
        abi: Abi::X86_64,
        scope: Scope::Command { argv: vec![comm.to_owned()] },
        host: Host { hostname: comm.to_owned(), kernel: "6.1.0".to_owned(), cpus: 2, ..Host::default() },
        writer: "ctrace 0.1.0".to_owned(),
        blind: vec!["io_uring: arguments".to_owned(), "payload: never".to_owned()],
        redaction: "default".to_owned(),
    };
    let path = dir.join("incident.ctr");
    let mut writer = TraceWriter::create(&path, &header).unwrap();
    let comm = writer.str(comm.as_bytes());
    let task = writer.task(&TaskDef { tid: Tid(7), tgid: Tgid(7), comm, start_ns: 1 });
    for (name, t_ns, duration_ns, ret) in calls {
        let sysno = syscalls::number(Abi::X86_64, name).unwrap();
        let peer = || Detail::Addr { arg: 1, addr: SockAddr::Inet(([127, 0, 0, 1], 36_625).into()) };
        writer
            .push(&Event::Syscall(Syscall {
                t_ns: *t_ns,
                duration_ns: *duration_ns,
                task,
                sysno,
                args: [3, 0, 0, 0, 0, 0],
                args_mask: 1,
                ret: *ret,
                flags: SyscallFlags::default(),
                object: None,
                wait_cpu_ns: 0,
                blocked_ns: 0,
                details: (*name == "connect").then(peer).into_iter().collect(),
            }))
            .unwrap();
    }
    if is_whole {
        let summary =
            Summary { duration_ns: 8 * SECOND, ended: "target exited".to_owned(), ..Summary::default() };
        writer.finish(&summary).unwrap();
    } else {
        drop(writer);
    }
    path
}

impl Made {
    fn new(
        comm: &str,
        calls: &[(&str, u64, u64, i64)],
        start_ms: u64,
        picture: impl FnOnce(&Trace) -> Picture,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = trace(dir.path(), comm, calls, true, start_ms);
        let trace = Trace::open(&path).unwrap();
        let (overview, account) = (Overview::of(&trace), account(&trace).unwrap());
        let picture = picture(&trace);
        Self {
            trace,
            overview,
            account,
            picture,
            path: PathBuf::from("incident.ctr"),
            role: Role::Recording,
            _dir: dir,
        }
    }

    /// A shop whose payment refuses connections.
    pub(crate) fn incident(start_ms: u64) -> Self {
        const ECONNREFUSED: i64 = -111;
        let calls: Vec<(&str, u64, u64, i64)> = (0..400)
            .map(|n| {
                let t = n * 20 * MS;
                if (125..275).contains(&n) {
                    ("connect", t, 30_000, ECONNREFUSED)
                } else {
                    ("sendto", t, 40_000, 85)
                }
            })
            .collect();
        Self::new("checkout", &calls, start_ms, shop)
    }

    /// As a replay of another one.
    pub(crate) fn replayed(mut self) -> Self {
        (self.role, self.path) = (Role::Replay, PathBuf::from("replay of it.ctr"));
        self
    }

    /// A trace in which nothing is.
    pub(crate) fn empty() -> Self {
        Self::new("nothing", &[], 0, |_| empty())
    }

    /// A trace all names of which are this.
    pub(crate) fn named(name: &str) -> Self {
        Self::new(name, &[("getppid", MS, 1_000, 1)], 0, |trace| hostile(trace, name))
    }

    fn traced(&self) -> Traced<'_> {
        Traced {
            name: self.path.to_str().unwrap_or_default(),
            path: &self.path,
            sha256: Some("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
            trace: &self.trace,
            overview: &self.overview,
            account: &self.account,
            picture: &self.picture,
            role: self.role,
        }
    }
}

/// Hands the incident of these traces, each compared with the first, to a function.
pub(crate) fn with<T>(title: &str, made: &[&Made], of: impl FnOnce(&Incident) -> T) -> T {
    let traces: Vec<Traced> = made.iter().map(|made| made.traced()).collect();
    let models: Vec<Model> = made.iter().map(|made| Model::build(&made.trace).unwrap()).collect();
    let gates = Gates::new(Profile::Synthetic);
    let reports: Vec<Report> = models.iter().skip(1).map(|b| diff(&models[0], b, &gates)).collect();
    let compared: Vec<Compared> =
        reports.iter().enumerate().map(|(n, report)| Compared { b: n + 1, report }).collect();
    of(&Incident { title, traces: &traces, compared: &compared, zone: Zone(|_| 3_600), version: "0.1.0" })
}

const BINS: usize = 400;

fn grid() -> Grid {
    Grid { from_ns: 0, duration_ns: 8 * SECOND, width_ns: 20 * MS, bins: BINS }
}

fn curve(name: &str, unit: Unit, value: impl Fn(usize) -> Option<f64>) -> Curve {
    Curve { name: name.to_owned(), unit, is_limit: false, values: (0..BINS).map(value).collect() }
}

fn ranked<T>(rows: Vec<T>, left_out: u64) -> Ranked<T> {
    Ranked { rows, left_out }
}

fn empty() -> Picture {
    use PanelKind::{
        Backlog, Calls, Connections, Counts, Cpu, Disk, Errors, Latency, Memory, Network, Pressure,
    };
    let none =
        |kind| Panel { kind, series: Vec::new(), empty: Some("no event of it is in the trace".to_owned()) };
    Picture {
        grid: Grid { from_ns: 0, duration_ns: 0, width_ns: 1, bins: 0 },
        panels: [Calls, Latency, Errors, Connections, Network, Cpu, Memory, Pressure, Disk, Backlog, Counts]
            .map(none)
            .into(),
        gaps: Vec::new(),
        spans: Vec::new(),
        changes: Vec::new(),
        lanes: ranked(Vec::new(), 0),
        map: Map::default(),
        failures: 0,
        errors: ranked(Vec::new(), 0),
        slow_calls: ranked(Vec::new(), 0),
        connections: ranked(Vec::new(), 0),
        processes: ranked(Vec::new(), 0),
        sample: Sample { events: Vec::new(), of: 0 },
    }
}

fn sample(trace: &Trace) -> Sample {
    let events: Vec<Event> = trace.events(&Filter::default()).flatten().collect();
    Sample { of: events.len() as u64 + 1_000, events }
}

const FAILING: std::ops::Range<usize> = 125..275;

fn shop(trace: &Trace) -> Picture {
    let wave = |n: usize| ((n as f64) / 9.0).sin();
    let fails = |n: usize| FAILING.contains(&n);
    let mut panels = empty().panels;
    panels[0].series = vec![
        curve("network", Unit::PerSecond, |n| Some(if fails(n) { 90.0 } else { 300.0 } + 30.0 * wave(n))),
        curve("file", Unit::PerSecond, |n| Some(60.0 + 9.0 * wave(n * 3))),
        curve("wait", Unit::PerSecond, |n| (!(40..60).contains(&n)).then_some(20.0)),
    ];
    panels[1].series = vec![
        curve("p50 network", Unit::Ns, |n| Some(if fails(n) { 3.0e6 } else { 4.0e4 })),
        curve("p99 network", Unit::Ns, |n| Some((if fails(n) { 9.0e6 } else { 3.0e5 }) * (1.2 + wave(n)))),
    ];
    panels[2].series =
        vec![curve("ECONNREFUSED", Unit::PerSecond, |n| Some(if fails(n) { 60.0 } else { 0.0 }))];
    panels[3].series = vec![
        curve("opened", Unit::PerSecond, |n| Some(if fails(n) { 60.0 } else { 20.0 })),
        curve("refused", Unit::PerSecond, |n| Some(if fails(n) { 60.0 } else { 0.0 })),
    ];
    panels[6].series = vec![
        curve("rss", Unit::Bytes, |n| Some(1e8 + n as f64 * 1e5)),
        Curve { is_limit: true, ..curve("limit", Unit::Bytes, |_| Some(2e8)) },
    ];
    for panel in &mut panels {
        if !panel.series.is_empty() {
            panel.empty = None;
        }
    }
    Picture {
        grid: grid(),
        panels,
        gaps: vec![Gap {
            from_ns: SECOND,
            to_ns: SECOND + 200 * MS,
            count: 34,
            kind: "lost",
            cause: "ring full".to_owned(),
        }],
        spans: vec![
            Span {
                from_ns: 2_500 * MS,
                to_ns: 5_500 * MS,
                kind: "finding",
                rank: Some(1),
                text: "connect was refused 150 times".to_owned(),
            },
            Span {
                from_ns: 2_400 * MS,
                to_ns: 2_400 * MS,
                kind: "marker",
                rank: None,
                text: "deploy 1.2.3 begins".to_owned(),
            },
        ],
        changes: vec![Change {
            at_ns: 2_500 * MS,
            panel: PanelKind::Errors,
            curve: "ECONNREFUSED".to_owned(),
            unit: Unit::PerSecond,
            before: 0.0,
            after: 60.0,
            effect: 1.0,
            finding: Some(1),
            text: "ECONNREFUSED went from none to 60/s".to_owned(),
        }],
        lanes: ranked(vec![lane(7), lane(8)], 3),
        map: map(),
        failures: 180,
        errors: ranked(errors(), 2),
        slow_calls: ranked(vec![slow("recvfrom", "the answer of 10.0.0.7:5432")], 12),
        connections: ranked(
            vec![connection("db:5432 (10.0.0.7)", "closed"), connection("payment:8080", "refused")],
            0,
        ),
        processes: ranked(processes(), 0),
        sample: sample(trace),
    }
}

fn lane(tid: u32) -> Lane {
    Lane {
        tid,
        tgid: 7,
        comm: "checkout".to_owned(),
        role: "checkout-N".to_owned(),
        from_ns: 0,
        to_ns: 8 * SECOND,
        calls: 4_711,
        spent: (tid == 7).then_some([SECOND, SECOND / 2, 6 * SECOND]),
        stretches: vec![Stretch {
            from_ns: SECOND,
            to_ns: 2 * SECOND,
            state: State::Blocked,
            call: Some("recvfrom"),
            on: Some("10.0.0.7:5432".to_owned()),
            errno: None,
        }],
        mixed: (0..BINS as u32).map(|n| (n, 20, 30, 200)).collect(),
        left_out: 1,
    }
}

fn map() -> Map {
    let node = |name: &str, kind, members| Node {
        name: name.to_owned(),
        kind,
        tgid: (kind == "service").then_some(7),
        members,
    };
    let edge = |from, to, protocol, count, failed, bytes| Edge {
        from,
        to,
        protocol,
        count,
        failed,
        failure: (failed > 0).then(|| "refused".to_owned()),
        sent_bytes: bytes,
        received_bytes: bytes * 3,
        p50_ns: Some(2 * MS),
        p99_ns: Some(40 * MS),
    };
    Map {
        nodes: vec![
            node("customers", "group", 31),
            node("frontend", "client", 1),
            node("checkout", "service", 1),
            node("db:5432", "peer", 1),
            node("payment.shop.svc.cluster.local:8080", "peer", 1),
            node("10.96.0.10:53", "name-server", 1),
            node("/run/log.sock", "unix", 1),
        ],
        edges: vec![
            edge(0, 1, "tcp", 900, 0, 80_000),
            edge(1, 2, "tcp", 450, 3, 1_000_000),
            edge(2, 3, "tcp", 12, 0, 9_000_000),
            edge(2, 4, "tcp", 181, 180, 400),
            edge(2, 5, "dns", 40, 8, 4_000),
            edge(2, 6, "unix", 1, 0, 500_000),
            edge(4, 2, "tcp", 2, 0, 600),
            edge(0, 3, "tcp", 2, 0, 600),
        ],
        grouped: 31,
    }
}

fn errors() -> Vec<ErrorRow> {
    let row = |call: &str, errno: &str, count, is_benign| ErrorRow {
        call: call.to_owned(),
        errno: errno.to_owned(),
        meaning: "Connection refused".to_owned(),
        count,
        calls: 400,
        failures: if is_benign { 0 } else { count },
        first_ns: 2_500 * MS,
        last_ns: 5_480 * MS,
        on: vec![("127.0.0.1:36625".to_owned(), count), ("127.0.0.1:36626".to_owned(), 1)],
        roles: vec![("checkout-N".to_owned(), count)],
        spark: (0..60).map(|n| if (19..41).contains(&n) { 5 + n % 3 } else { 0 }).collect(),
        event: EventId { end_ns: 2_500_030_000, tid: 7 },
    };
    vec![row("connect", "ECONNREFUSED", 180, false), row("openat", "ENOENT", 4, true)]
}

fn slow(call: &str, waited_for: &str) -> SlowCall {
    SlowCall {
        t_ns: 3 * SECOND,
        duration_ns: 240 * MS,
        call: call.to_owned(),
        tid: 7,
        tgid: 7,
        role: "checkout-N".to_owned(),
        on: Some("tcp 10.0.0.3:40000→10.0.0.7:5432".to_owned()),
        errno: None,
        is_open: false,
        waited_for: Some(waited_for.to_owned()),
        event: EventId { end_ns: 3_240 * MS, tid: 7 },
    }
}

fn connection(peer: &str, ended: &'static str) -> ConnectionRow {
    ConnectionRow {
        from_ns: SECOND,
        to_ns: 7 * SECOND,
        role: "checkout-N".to_owned(),
        tgid: Some(7),
        local: "10.0.0.3:40000".to_owned(),
        peer: peer.to_owned(),
        protocol: "tcp",
        is_outgoing: true,
        sent_bytes: 40_000,
        received_bytes: 9_000_000,
        connect_ns: Some(MS),
        slowest_answer: Some((240 * MS, 3 * SECOND)),
        rtt_ns: Some(200_000),
        retransmits: 2,
        ended,
        event: Some(EventId { end_ns: SECOND, tid: 7 }),
    }
}

fn processes() -> Vec<ProcessRow> {
    let row = |tgid, parent, comm: &str, ended: Option<&str>| ProcessRow {
        tgid,
        parent,
        comm: comm.to_owned(),
        role: format!("{comm}-N"),
        exe: format!("/usr/bin/{comm}"),
        argv: vec![format!("/usr/bin/{comm}"), "--port".to_owned(), "8080".to_owned()],
        container: Some("app".to_owned()),
        from_ns: 0,
        to_ns: ended.map(|_| 6 * SECOND),
        ended: ended.map(str::to_owned),
        is_failed: ended.is_some_and(|e| e != "exit 0"),
        threads: 3,
        calls: 1_234,
        failed: 180,
        cpu_ns: Some(SECOND),
        alike: if comm == "worker" { 4 } else { 1 },
    };
    vec![
        row(7, None, "checkout", None),
        row(8, Some(0), "worker", Some("exit 0")),
        row(9, Some(1), "helper", Some("SIGKILL")),
        row(10, Some(0), "sidecar", None),
    ]
}

/// A picture all words of which are this.
fn hostile(trace: &Trace, name: &str) -> Picture {
    let mut picture = shop(trace);
    let text = || name.to_owned();
    for panel in &mut picture.panels {
        for (n, curve) in panel.series.iter_mut().enumerate() {
            curve.name = format!("{name}{n}");
        }
        panel.empty = panel.series.is_empty().then(text);
    }
    picture.gaps.iter_mut().for_each(|gap| gap.cause = text());
    picture.spans.iter_mut().for_each(|span| span.text = text());
    for change in &mut picture.changes {
        (change.curve, change.text) = (text(), text());
    }
    for lane in &mut picture.lanes.rows {
        (lane.comm, lane.role) = (text(), text());
        lane.stretches.iter_mut().for_each(|stretch| stretch.on = Some(text()));
    }
    picture.map.nodes.iter_mut().for_each(|node| node.name = text());
    picture.map.edges.iter_mut().filter(|edge| edge.failed > 0).for_each(|edge| edge.failure = Some(text()));
    for row in &mut picture.errors.rows {
        (row.call, row.errno, row.meaning) = (text(), text(), text());
        row.on.iter_mut().chain(&mut row.roles).for_each(|(on, _)| *on = text());
    }
    for call in &mut picture.slow_calls.rows {
        (call.call, call.role, call.on, call.waited_for) = (text(), text(), Some(text()), Some(text()));
        call.errno = Some(text());
    }
    for row in &mut picture.connections.rows {
        (row.role, row.local, row.peer) = (text(), text(), text());
    }
    for row in &mut picture.processes.rows {
        (row.comm, row.role, row.exe, row.container) = (text(), text(), text(), Some(text()));
        row.argv = vec![text(); 40];
        row.ended = Some(text());
    }
    picture
}
