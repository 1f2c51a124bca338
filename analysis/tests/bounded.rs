//! The picture of a trace is of bounded size whatever the trace has, and says what it leaves out.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(missing_docs, reason = "a test")]

mod common;

use common::{MS, Run, Task};
use ctrace_analysis::account;
use ctrace_analysis::picture::{MAX_BINS, Map, Picture, Sample};
use ctrace_format::{ConnectionKind, TcpState, Trace};
use serde::Serialize;

/// Rows of each list, the most that is shown.
const LANES: usize = 40;
const ERRORS: usize = 200;
const SLOW: usize = 100;
const CONNECTIONS: usize = 200;
const PROCESSES: usize = 400;
/// All of it as JSON, without the sample.
const BYTES: usize = 1 << 20;

fn picture(trace: &Trace) -> Picture {
    let picture = Picture::of(trace, &account(trace).unwrap()).unwrap();
    is_bounded(&picture);
    picture
}

/// The size of a part as JSON.
fn bytes(part: &impl Serialize) -> usize {
    serde_json::to_vec(part).unwrap().len()
}

#[track_caller]
fn is_bounded(picture: &Picture) {
    assert!(picture.grid.bins <= MAX_BINS);
    assert!(picture.lanes.rows.len() <= LANES, "{} lanes", picture.lanes.rows.len());
    assert!(picture.errors.rows.len() <= ERRORS, "{} errors", picture.errors.rows.len());
    assert!(picture.slow_calls.rows.len() <= SLOW, "{} calls", picture.slow_calls.rows.len());
    assert!(picture.connections.rows.len() <= CONNECTIONS, "{} connections", picture.connections.rows.len());
    assert!(picture.processes.rows.len() <= PROCESSES, "{} processes", picture.processes.rows.len());
    assert!(picture.map.nodes.len() <= Map::MAX_NODES, "{} nodes", picture.map.nodes.len());
    assert!(picture.sample.events.len() <= Sample::MAX);
    let parts = [
        ("panels", bytes(&picture.panels)),
        ("gaps", bytes(&picture.gaps)),
        ("spans", bytes(&picture.spans)),
        ("changes", bytes(&picture.changes)),
        ("lanes", bytes(&picture.lanes)),
        ("map", bytes(&picture.map)),
        ("errors", bytes(&picture.errors)),
        ("slow calls", bytes(&picture.slow_calls)),
        ("connections", bytes(&picture.connections)),
        ("processes", bytes(&picture.processes)),
    ];
    let all: usize = parts.iter().map(|(_, bytes)| bytes).sum();
    assert!(all < BYTES, "{parts:?}");
}

/// How many things there are.
const MANY: u32 = 1_100_000;

#[test]
fn a_million_tasks_fit() {
    let mut r = Run::new(10);
    let parent = r.task(1, 1, "sh");
    for i in 0..MANY {
        // Each has a name, a role and a file of its own: nothing can be put together by them.
        let child = r.task(2 + i, 2 + i, &format!("w{i}"));
        r.fork(parent, child);
        r.open(child, &format!("/data/{i}"), -13);
        r.exit(child, u32::from(i % 1_000 == 0) << 8);
    }
    let picture = picture(&r.finish());
    let told = picture.processes.rows.iter().map(|row| row.alike).sum::<u64>() + picture.processes.left_out;
    assert_eq!(told, u64::from(MANY) + 1, "every process is in a row or counted");
    assert_eq!(picture.lanes.rows.len() as u64 + picture.lanes.left_out, u64::from(MANY) + 1);
    let failed: u64 = picture.errors.rows.iter().map(|row| row.count).sum();
    assert_eq!(failed, u64::from(MANY));
    assert!(picture.processes.rows.iter().any(|row| row.is_failed), "those that failed come first");
    assert!(picture.sample.of >= u64::from(MANY) * 3);
}

/// A connection of its own to an end of its own.
fn connect(r: &mut Run, t: Task, i: u32) {
    let peer = format!("10.{}.{}.{}:80", i >> 16 & 255, i >> 8 & 255, i & 255);
    let cookie = 1_000 + u64::from(i);
    if i.is_multiple_of(2) {
        r.request(t, cookie, &peer, (10, 20));
        r.tcp_state(cookie, &peer, TcpState::SynSent, TcpState::Established, 0);
        r.tcp_state(cookie, &peer, TcpState::Established, TcpState::Close, 0);
    } else {
        r.connect(t, 5, cookie, &peer, -111);
        r.tcp_state(cookie, &peer, TcpState::SynSent, TcpState::Close, 111);
        r.tcp_event(cookie, &peer, ConnectionKind::ResetReceived);
    }
}

#[test]
fn a_million_sockets_fit() {
    let mut r = Run::new(10);
    let t = r.task(1, 1, "crawler");
    r.exec(t, "/usr/bin/crawler");
    for i in 0..MANY {
        connect(&mut r, t, i);
    }
    let picture = picture(&r.finish());
    assert_eq!(picture.connections.rows.len() as u64 + picture.connections.left_out, u64::from(MANY));
    let edges: u64 = picture.map.edges.iter().map(|edge| edge.count).sum();
    assert_eq!(edges, u64::from(MANY), "every connection is on a line of the map");
    let failed: u64 = picture.map.edges.iter().map(|edge| edge.failed).sum();
    assert_eq!(failed, u64::from(MANY / 2));
    assert!(picture.map.grouped > 0, "the map says that it put ends together");
    let refused = &picture.errors.rows[0];
    assert_eq!((refused.errno.as_str(), refused.count), ("ECONNREFUSED", u64::from(MANY / 2)));
    assert!(refused.on.len() <= 5);
}

/// A service whose connections are refused every other time, for `seconds`.
fn service(r: &mut Run, seconds: u64, mut each: impl FnMut(&mut Run)) {
    let t = r.task(1, 1, "app");
    r.exec(t, "/usr/bin/app");
    let end = r.now + seconds * 1_000 * MS;
    let mut i = 0;
    while r.now < end {
        connect(r, t, i);
        r.now += 2 * MS;
        i += 1;
        each(r);
    }
}

#[test]
fn of_a_torn_file_what_is_there_is_shown_and_what_is_not_is_said() {
    let mut r = Run::new(10);
    service(&mut r, 60, |_| {});
    let trace = r.torn(6);
    assert!(!trace.damage().is_empty());
    let picture = picture(&trace);
    let gap = picture.gaps.iter().find(|gap| gap.kind == "unread" || gap.kind == "cut");
    assert!(gap.is_some_and(|gap| gap.to_ns <= picture.grid.end_ns()), "{:?}", picture.gaps);
    assert!(picture.grid.duration_ns > 20_000 * MS, "{:?}", picture.grid);
    assert_eq!(picture.errors.rows[0].errno, "ECONNREFUSED");
    assert!(!picture.sample.events.is_empty());
}

#[test]
fn a_dump_is_shown_within_its_window() {
    let mut r = Run::in_flight(10, 5_000 * MS);
    service(&mut r, 60, Run::turn);
    let trace = r.dump();
    let window = trace.window().unwrap();
    let picture = picture(&trace);
    let grid = picture.grid;
    assert!(window.from_ns > 40_000 * MS, "{window:?}");
    assert_eq!(grid.from_ns, window.from_ns);
    assert!(grid.duration_ns < 20_000 * MS, "{grid:?}");
    let is_within = |t_ns: u64| (grid.from_ns..=grid.end_ns()).contains(&t_ns);
    assert!(picture.sample.events.iter().all(|event| is_within(event.end_ns())));
    assert!(picture.lanes.rows.iter().all(|lane| is_within(lane.from_ns) && is_within(lane.to_ns)));
    assert!(picture.errors.rows.iter().all(|row| is_within(row.first_ns) && is_within(row.last_ns)));
    // The rate is that of the whole run: nothing was put on another bin than its own.
    let errors =
        picture.panels.iter().find(|panel| panel.series.iter().any(|s| s.name == "ECONNREFUSED")).unwrap();
    let curve = errors.series.iter().find(|s| s.name == "ECONNREFUSED").unwrap();
    let known: Vec<f64> = curve.values.iter().flatten().copied().collect();
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let half = known.len() / 2;
    for part in [&known[..half], &known[half..]] {
        let of_part = part.iter().sum::<f64>() / part.len() as f64;
        assert!((of_part - mean).abs() < mean * 0.1, "{of_part} of {mean}");
    }
}
