//! What the picture of a trace shows is what the trace has, for any trace, in bounded size.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(missing_docs, reason = "a test")]

mod common;

use common::{MS, Run, Task};
use ctrace_analysis::picture::{MAX_BINS, Map, PanelKind, Picture, Sample, State};
use ctrace_analysis::{Account, CallCounts, Overview, account};
use ctrace_format::syscalls::number;
use ctrace_format::{
    Abi, Aggregate, ConnectionKind, Detail, Dns, Event, Metric, Object, ProcessKind, Resource, SockAddr,
    SockCookie, SyscallFlags, TcpState, Trace, Usage,
};

fn picture(trace: &Trace) -> (Picture, Account) {
    let account = account(trace).unwrap();
    (Picture::of(trace, &account).unwrap(), account)
}

/// The values of a panel's curve added up over time.
fn total(picture: &Picture, kind: PanelKind, name: Option<&str>) -> f64 {
    let panel = picture.panels.iter().find(|panel| panel.kind == kind).unwrap();
    let series = panel.series.iter().filter(|curve| name.is_none_or(|name| curve.name == name));
    let sum: f64 = series.flat_map(|curve| curve.values.iter().flatten()).sum();
    sum * picture.grid.width_ns as f64 / 1e9
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs().max(1.0)
}

/// A service that asks a database whose server goes away for a while.
fn outage() -> (Run, Task) {
    let mut r = Run::new(1000);
    let t = r.task(1, 1, "app");
    r.exec(t, "/usr/bin/app");
    for i in 0..300_u64 {
        if (100..200).contains(&i) {
            r.connect(t, 5, 100 + i, "10.0.0.7:5432", -111);
            r.tcp_event(
                100 + i,
                "10.0.0.7:5432",
                ConnectionKind::State { old: TcpState::SynSent, new: TcpState::Close, error: 111 },
            );
            r.tcp_event(100 + i, "10.0.0.7:5432", ConnectionKind::ResetReceived);
        } else {
            r.request(t, 100 + i, "10.0.0.7:5432", (100, 1000));
        }
        r.now += 20 * MS;
    }
    (r, t)
}

#[test]
fn what_it_counts_is_what_info_counts() {
    let trace = outage().0.finish();
    let (picture, _) = picture(&trace);
    let (counts, overview) = (CallCounts::of(&trace), Overview::of(&trace));
    let calls: u64 = counts.calls().iter().map(|call| call.count).sum();
    assert!(is_near(total(&picture, PanelKind::Calls, None), calls as f64));
    let errors = counts.errors();
    let table: Vec<_> =
        picture.errors.rows.iter().map(|row| (row.call.as_str(), row.errno.as_str(), row.count)).collect();
    assert_eq!(table, [("connect", "ECONNREFUSED", 100)]);
    assert_eq!(errors.iter().map(|e| e.count).sum::<u64>(), 100);
    assert!(is_near(total(&picture, PanelKind::Errors, None), 100.0));
    assert!(is_near(
        total(&picture, PanelKind::Connections, Some("refused")),
        overview.network.refused as f64
    ));
    assert!(is_near(total(&picture, PanelKind::Connections, Some("reset")), overview.network.reset as f64));
    let row = &picture.errors.rows[0];
    assert_eq!((row.calls, row.is_benign()), (300, false));
    assert_eq!(row.on, [("10.0.0.7:5432".to_owned(), 100)]);
    assert_eq!(row.spark.iter().sum::<u32>(), 100);
    assert_eq!(picture.processes.rows[0].failed, 100);
    assert_eq!(picture.processes.rows[0].calls, calls);
}

#[test]
fn an_outage_is_its_first_change_and_the_map_says_whom_it_hit() {
    let trace = outage().0.finish();
    let (picture, account) = picture(&trace);
    let change = picture.changes.first().unwrap();
    assert_eq!((change.panel, change.curve.as_str()), (PanelKind::Errors, "ECONNREFUSED"), "{change:?}");
    let finding = &account.findings[0];
    assert_eq!(change.finding, Some(finding.rank));
    assert!(change.at_ns.abs_diff(finding.from_ns) <= 25 * MS, "{change:?} {finding:?}");
    assert!(change.text.contains("ECONNREFUSED failures rose from 0/s to"), "{}", change.text);
    let names: Vec<_> = picture.map.nodes.iter().map(|n| (n.kind, n.name.as_str())).collect();
    assert_eq!(names, [("peer", "10.0.0.7:5432"), ("service", "app")]);
    let edge = &picture.map.edges[0];
    assert_eq!((edge.count, edge.failed, edge.failure.as_deref()), (300, 100, Some("refused")));
    assert_eq!((edge.sent_bytes, edge.received_bytes), (20_000, 200_000));
    assert_eq!(picture.spans.iter().find(|s| s.rank == Some(1)).map(|s| s.kind), Some("finding"));
}

#[test]
fn calls_that_were_counted_are_in_every_figure() {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "app");
    r.call(t, "getpid", [0; 6], 1);
    let aggregate = |from_ns: u64, errno: u32, count: u64| Aggregate {
        t_ns: from_ns + 100 * MS,
        from_ns,
        cpu: 0,
        task: r.id(t),
        sysno: number(Abi::X86_64, "read").unwrap(),
        flags: SyscallFlags::default(),
        fd: Some(3),
        object: None,
        errno,
        count,
        duration_ns: count * 1_500,
        histogram: [vec![0; 10], vec![count]].concat(),
    };
    let both = [aggregate(1_100 * MS, 0, 9_000), aggregate(1_200 * MS, 5, 77)];
    for a in both {
        r.push(&Event::Aggregate(a));
    }
    r.now += 500 * MS;
    let (picture, _) = picture(&r.finish());
    assert!(is_near(total(&picture, PanelKind::Calls, None), 9_078.0));
    assert!(is_near(total(&picture, PanelKind::Errors, Some("EIO")), 77.0));
    assert_eq!((picture.errors.rows[0].count, picture.errors.rows[0].calls), (77, 9_077));
    let latency = picture.panels.iter().find(|p| p.kind == PanelKind::Latency).unwrap();
    let p50 = latency.series.iter().find(|c| c.name == "p50 file").unwrap();
    assert!(p50.values.iter().flatten().all(|ns| (1_024.0..=2_048.0).contains(ns)), "{p50:?}");
    let gap = picture.gaps.iter().find(|gap| gap.kind == "counted").unwrap();
    assert_eq!((gap.from_ns, gap.to_ns, gap.count), (1_100 * MS, 1_300 * MS, 9_077));
}

#[test]
fn a_trace_with_nothing_in_it_says_why_its_panels_are_empty() {
    let (picture, _) = picture(&Run::new(1).finish());
    assert_eq!(picture.panels.len(), 11);
    for panel in &picture.panels {
        assert!(
            panel.series.is_empty() && panel.empty.as_deref().is_some_and(|why| !why.is_empty()),
            "{panel:?}"
        );
    }
    let mut run = Run::new(1);
    run.now = 0;
    let t = run.task(1, 1, "one");
    run.call(t, "getpid", [0; 6], 1);
    run.now = 0;
    let (picture, _) = self::picture(&run.finish());
    assert!(is_near(total(&picture, PanelKind::Calls, None), 1.0));
    assert_eq!((picture.sample.events.len(), picture.lanes.rows.len()), (1, 1));
}

#[test]
fn a_lane_says_what_its_task_waited_for_and_where_it_ran() {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "worker");
    let socket = r.connect(t, 5, 9, "10.0.0.7:5432", 0);
    r.io(t, "sendto", 5, socket, 10);
    let began_ns = r.now;
    let s = ctrace_format::Syscall {
        t_ns: began_ns,
        duration_ns: 400 * MS,
        task: r.id(t),
        sysno: number(Abi::X86_64, "recvfrom").unwrap(),
        ret: 5,
        flags: SyscallFlags::default(),
        args: [5, 0, 10, 0, 0, 0],
        args_mask: 0x3f,
        object: Some(socket),
        details: Vec::new(),
        wait_cpu_ns: 0,
        blocked_ns: 0,
    };
    r.push(&Event::Syscall(s));
    r.now += 500 * MS;
    let (from_ns, t_ns) = (began_ns - 100 * MS, r.now);
    r.push(&Event::Usage(Usage {
        t_ns,
        from_ns,
        task: r.id(t),
        cpu_ns: 150 * MS,
        wait_ns: 20 * MS,
        minor_faults: 0,
        major_faults: 0,
        yields: 0,
        preemptions: 0,
    }));
    let (picture, _) = picture(&r.finish());
    let lane = &picture.lanes.rows[0];
    assert_eq!((lane.comm.as_str(), lane.calls), ("worker", 4));
    assert_eq!(lane.spent.map(|spent| [spent[0], spent[1]]), Some([150 * MS, 20 * MS]));
    let [stretch] = lane.stretches.as_slice() else { panic!("{lane:?}") };
    assert_eq!(
        (stretch.from_ns, stretch.to_ns, stretch.state),
        (began_ns, began_ns + 400 * MS, State::Blocked)
    );
    assert_eq!((stretch.call, stretch.on.as_deref()), (Some("recvfrom"), Some("10.0.0.7:5432")));
    // It ran outside of the call that it waited in.
    let width = picture.grid.width_ns;
    let inside = lane.mixed.iter().filter(|m| {
        let at = u64::from(m.0) * width;
        at > began_ns && at + width < began_ns + 400 * MS
    });
    assert_eq!(inside.count(), 0, "{lane:?}");
    let ran: f64 = lane.mixed.iter().map(|m| f64::from(m.1) / 255.0 * width as f64).sum();
    assert!((ran / (150 * MS) as f64 - 1.0).abs() < 0.05, "{ran}");
    let slow = &picture.slow_calls.rows[0];
    assert_eq!(slow.waited_for.as_deref(), Some("the answer of 10.0.0.7:5432"));
    assert_eq!((slow.call.as_str(), slow.duration_ns), ("recvfrom", 400 * MS));
    let connection = &picture.connections.rows[0];
    assert_eq!(connection.slowest_answer.map(|a| a.0), Some(400 * MS + 90_000));
    assert_eq!(connection.event, Some(slow.event));
}

#[test]
fn a_peer_has_the_name_that_was_looked_up() {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "app");
    let name = r.str("db.internal");
    let (t_ns, task) = (r.now, r.id(t));
    r.push(&Event::Dns(Dns {
        t_ns,
        duration_ns: MS,
        task,
        cookie: SockCookie(77),
        server: SockAddr::Inet("10.0.0.2:53".parse().unwrap()),
        name,
        qtype: 1,
        answer: Some((0, 1)),
    }));
    r.now += 2 * MS;
    r.request(t, 9, "10.0.0.7:5432", (10, 20));
    let (picture, _) = picture(&r.finish());
    let names: Vec<_> = picture.map.nodes.iter().map(|n| (n.kind, n.name.as_str())).collect();
    assert_eq!(names, [("name-server", "10.0.0.2:53"), ("peer", "db.internal:5432"), ("service", "app")]);
    assert_eq!(picture.connections.rows[0].peer, "db.internal (10.0.0.7:5432)");
}

#[test]
fn both_ends_of_a_connection_within_the_trace_are_one_edge() {
    let mut r = Run::new(1);
    let (server, client) = (r.task(1, 1, "server"), r.task(2, 2, "client"));
    let address = |text: &str| Some(SockAddr::Inet(text.parse().unwrap()));
    let socket = |r: &mut Run, cookie: u64, local: &str, peer: &str| {
        r.object(&Object::Socket {
            family: 2,
            kind: 1,
            protocol: 6,
            cookie: SockCookie(cookie),
            local: address(local),
            peer: address(peer),
        })
    };
    let of_client = r.connect(client, 3, 1, "127.0.0.1:80", 0);
    // `tcp_event` has this as the own end.
    r.tcp_state(1, "127.0.0.1:80", TcpState::SynSent, TcpState::Established, 0);
    let of_server = socket(&mut r, 2, "127.0.0.1:80", "127.0.0.1:45000");
    r.call_with(server, "accept4", [9, 0, 0, 0, 0, 0], 5, Some(of_server), Vec::new());
    r.io(client, "sendto", 3, of_client, 100);
    r.io(server, "recvfrom", 5, of_server, 100);
    r.io(server, "sendto", 5, of_server, 700);
    r.io(client, "recvfrom", 3, of_client, 700);
    let (picture, _) = picture(&r.finish());
    let names: Vec<_> = picture.map.nodes.iter().map(|n| (n.kind, n.name.as_str())).collect();
    assert_eq!(names, [("service", "client"), ("service", "server")]);
    let [edge] = picture.map.edges.as_slice() else { panic!("{:?}", picture.map) };
    assert_eq!((edge.from, edge.to, edge.count), (0, 1, 1));
    assert_eq!((edge.sent_bytes, edge.received_bytes), (100, 700));
}

#[test]
fn many_alike_are_folded_and_nothing_grows_without_bound() {
    let mut r = Run::new(10);
    let parent = r.task(1, 1, "sh");
    for i in 0..3_000_u32 {
        let child = r.task(2 + i, 2 + i, "curl");
        r.fork(parent, child);
        r.exec(child, "/usr/bin/curl");
        let peer = format!("10.{}.{}.{}:80", i >> 16 & 255, i >> 8 & 255, i & 255);
        r.request(child, 1_000 + u64::from(i), &peer, (10, 20));
        r.open(child, &format!("/data/{i}"), -13);
        r.exit(child, u32::from(i == 1_500) << 8);
    }
    let (picture, _) = picture(&r.finish());
    let rows = &picture.processes.rows;
    // The shell, the many, the one that failed, and the one that a finding names.
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert_eq!(rows.iter().map(|row| row.alike).sum::<u64>() + picture.processes.left_out, 3_001);
    assert!(rows.iter().any(|row| row.ended.as_deref() == Some("exit 1") && row.is_failed));
    assert_eq!(rows.iter().map(|row| row.calls).sum::<u64>(), 3_000 * 6);
    assert!(rows.iter().skip(1).all(|row| row.parent == Some(0)));
    assert!(picture.map.nodes.len() <= Map::MAX_NODES, "{}", picture.map.nodes.len());
    let members: u64 = picture.map.nodes.iter().filter(|n| n.kind != "service").map(|n| n.members).sum();
    assert_eq!(members, 3_000, "each peer is there, by itself or in a group");
    assert_eq!(picture.map.edges.iter().map(|edge| edge.count).sum::<u64>(), 3_000);
    assert_eq!(picture.lanes.rows.len() as u64 + picture.lanes.left_out, 3_001);
    assert_eq!(picture.connections.rows.len() as u64 + picture.connections.left_out, 3_000);
    assert!(picture.sample.events.len() <= Sample::MAX && picture.sample.of > 20_000);
    assert_eq!(picture.errors.rows[0].count, 3_000);
    assert_eq!(picture.errors.rows[0].on.len(), 5);
}

#[test]
fn what_a_finding_rests_on_is_in_the_sample_with_what_was_around() {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "app");
    let log = r.file("/var/log/app");
    for i in 0..20_000_u64 {
        r.io(t, "write", 3, log, 80);
        if i % 1_000 == 777 {
            r.connect(t, 5, i, "10.0.0.7:5432", -111);
        }
    }
    let (picture, account) = picture(&r.finish());
    let sample = &picture.sample.events;
    assert!(sample.len() <= Sample::MAX, "{}", sample.len());
    assert!(sample.is_sorted_by_key(Event::end_ns));
    let shown = |end_ns: u64| sample.iter().position(|event| event.end_ns() == end_ns);
    let ids: Vec<_> = account.findings.iter().flat_map(|f| f.evidence.events.iter()).collect();
    assert!(!ids.is_empty());
    for id in ids {
        let at = shown(id.end_ns).unwrap_or_else(|| panic!("{id} is missing"));
        let near = &sample[at - 4..=at + 4];
        assert!(near[8].end_ns() - near[0].end_ns() <= 2 * MS, "{near:?}");
    }
    // Every moment has some.
    for from_ms in [1_000, 1_500, 2_000, 2_500] {
        let time = from_ms * MS..(from_ms + 500) * MS;
        let n = sample.iter().filter(|event| time.contains(&event.end_ns())).count();
        assert!(n >= 100, "{n} from {from_ms} ms on");
    }
}

#[test]
fn limits_and_queues_have_their_panels() {
    let mut r = Run::new(1);
    for i in 0..50_u64 {
        let t_ns = i * 100 * MS;
        for (metric, value) in [
            (Metric::MemoryBytes, (50 + i) << 20),
            (Metric::MemoryLimitBytes, 128 << 20),
            (Metric::AcceptQueue, i % 7),
            (Metric::ListenOverflows, i * 3),
            (Metric::CpuThrottledNs, i * 50 * MS),
            (Metric::CpuQuotaNs, 50 * MS),
            (Metric::CpuPeriodNs, 100 * MS),
            (Metric::PidsLimit, u64::MAX),
            (Metric::Pids, 4),
        ] {
            r.push(&Event::Resource(Resource { t_ns, subject: 1, metric, value }));
        }
    }
    r.now = 4_900 * MS;
    let (picture, _) = picture(&r.finish());
    let curve = |kind: PanelKind, name: &str| {
        let panel = picture.panels.iter().find(|panel| panel.kind == kind).unwrap();
        panel.series.iter().find(|curve| curve.name == name)
    };
    let last = |kind, name: &str| curve(kind, name).unwrap().values.iter().flatten().last().copied().unwrap();
    assert!(is_near(last(PanelKind::Memory, "used"), f64::from(99 << 20)));
    assert!(curve(PanelKind::Memory, "limit").unwrap().is_limit);
    assert!(is_near(last(PanelKind::Backlog, "found the queue full"), 30.0));
    assert!(is_near(last(PanelKind::Cpu, "throttled"), 0.5));
    assert!(is_near(last(PanelKind::Cpu, "limit"), 0.5));
    assert!(curve(PanelKind::Counts, "limit of tasks").is_none(), "a limit without a bound is none");
}

#[test]
fn calls_of_the_engine_are_left_out() {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "worker");
    r.marked(t, "futex", [0; 6], 0);
    r.call(t, "getpid", [0; 6], 1);
    let (picture, _) = picture(&r.finish());
    assert!(is_near(total(&picture, PanelKind::Calls, None), 1.0));
    assert_eq!((picture.sample.of, picture.lanes.rows[0].calls), (1, 1));
}

#[test]
fn a_lock_has_the_thread_that_had_it() {
    let mut r = Run::new(1);
    let (a, b) = (r.task(1, 1, "app"), r.task(2, 1, "holder"));
    r.call(a, "getpid", [0; 6], 1);
    let began_ns = r.now;
    r.now += 60 * MS;
    r.call(b, "futex", [0x1000, 1, 1, 0, 0, 0], 1);
    let s = ctrace_format::Syscall {
        t_ns: began_ns,
        duration_ns: 61 * MS,
        task: r.id(a),
        sysno: number(Abi::X86_64, "futex").unwrap(),
        ret: 0,
        flags: SyscallFlags::default(),
        args: [0x1000, 0, 2, 0, 0, 0],
        args_mask: 0x3f,
        object: None,
        details: Vec::<Detail>::new(),
        wait_cpu_ns: 0,
        blocked_ns: 0,
    };
    r.push(&Event::Syscall(s));
    r.life(a, ProcessKind::Exit { status: 0, group_dead: true });
    let (picture, _) = picture(&r.finish());
    let waited = picture.slow_calls.rows[0].waited_for.clone().unwrap();
    assert_eq!(waited, "a lock that app/holder (thread 3) had");
    assert!(picture.grid.bins <= MAX_BINS);
}
