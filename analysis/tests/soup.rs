//! Whatever a trace holds, building and comparing neither panics nor leaves the ranges.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(missing_docs, reason = "a test")]

mod common;

use common::Run;
use ctrace_analysis::picture::{MAX_BINS, Map, PanelKind, Picture, Sample};
use ctrace_analysis::{CallCounts, Gates, Model, Profile, Verdict, account, diff};
use ctrace_format::{Abi, Connection, ConnectionKind};
use ctrace_format::{
    Detail, Event, Object, Process, ProcessKind, SockAddr, SockCookie, Syscall, SyscallFlags, Sysno, TaskId,
    TcpState,
};
use proptest::prelude::*;

/// An event in numbers.
type Raw = (u8, u16, i64, u64, [u64; 6], u8, u8, u16);

fn build(raw: &[Raw]) -> Run {
    let mut r = Run::new(1);
    let tasks: Vec<_> =
        (0..6_u32).map(|i| r.task(i, i / 2 * 2, ["a", "b", "worker-12345"][i as usize % 3])).collect();
    let path = r.str("/tmp/x1Yz9Q/f");
    let empty = r.str("");
    let objects = [
        r.file("/etc/passwd"),
        r.pipe(5),
        r.tcp(9),
        r.tcp(10),
        r.object(&Object::Anon { kind: path, id: 3 }),
        r.object(&Object::Socket {
            family: 1,
            kind: 2,
            protocol: 0,
            cookie: SockCookie(0),
            local: Some(SockAddr::Unix(vec![0xff, 0xfe])),
            peer: Some(SockAddr::Other { family: 77, data: vec![] }),
        }),
    ];
    for &(kind, nr, ret, t, args, a, b, c) in raw {
        let task = TaskId(u32::from(a) % tasks.len() as u32);
        let object = objects.get(b as usize % 8).copied();
        let event = match kind % 8 {
            0..=4 => {
                let details = match b % 7 {
                    0 => vec![Detail::Str { arg: 1, value: if c % 2 == 0 { path } else { empty } }],
                    1 => vec![Detail::NewFds {
                        arg: 0,
                        fds: [args[0] as i32, args[1] as i32],
                        objects: [object, None],
                    }],
                    2 => vec![Detail::Addr { arg: 1, addr: SockAddr::Inet("10.0.0.1:80".parse().unwrap()) }],
                    3 => vec![
                        Detail::Value { arg: 3, value: args[5] },
                        Detail::Bytes { arg: 0, data: vec![a; b as usize % 9] },
                    ],
                    4 => vec![Detail::Str { arg: 0, value: path }, Detail::Str { arg: 1, value: empty }],
                    5 => vec![Detail::Iov { arg: 1, bytes: args[4], count: 3 }],
                    _ => vec![],
                };
                Event::Syscall(Syscall {
                    t_ns: t,
                    duration_ns: args[0],
                    task,
                    sysno: Sysno {
                        abi: if c % 11 == 0 { Abi::I386 } else { Abi::X86_64 },
                        nr: u32::from(nr),
                    },
                    ret,
                    flags: SyscallFlags(c & 0x1f),
                    args,
                    args_mask: a,
                    object,
                    details,
                    wait_cpu_ns: args[1],
                    blocked_ns: args[2],
                })
            }
            5 => Event::Process(Process {
                t_ns: t,
                task,
                kind: match b % 3 {
                    0 => ProcessKind::Fork { child: TaskId(u32::from(b) % 6) },
                    1 => {
                        ProcessKind::Exec { path, old_tid: ctrace_format::Tid(3), argv: vec![empty], argc: 9 }
                    }
                    _ => ProcessKind::Exit { status: u32::from(c), group_dead: c % 2 == 0 },
                },
            }),
            6 => Event::Connection(Connection {
                t_ns: t,
                cookie: SockCookie(u64::from(b % 12)),
                task: Some(task),
                local: SockAddr::Unix(vec![]),
                peer: SockAddr::Inet("[::1]:40000".parse().unwrap()),
                kind: match c % 4 {
                    0 => ConnectionKind::ResetReceived,
                    1 => ConnectionKind::Retransmit,
                    _ => ConnectionKind::State { old: TcpState::SynSent, new: TcpState::Close, error: c },
                },
            }),
            _ => Event::Resource(ctrace_format::Resource {
                t_ns: t,
                subject: u32::from(a % 2),
                metric: if b % 2 == 0 {
                    ctrace_format::Metric::CpuNs
                } else {
                    ctrace_format::Metric::RssBytes
                },
                value: args[3],
            }),
        };
        r.push(&event);
    }
    r
}

fn raw() -> impl Strategy<Value = Vec<Raw>> {
    let nr = prop_oneof![0_u16..60, 0_u16..460];
    let ret = prop_oneof![Just(0_i64), -140_i64..200, any::<i64>()];
    let t = prop_oneof![0_u64..3_000_000_000, any::<u64>()];
    let arg = prop_oneof![0_u64..8, any::<u64>()];
    let args = [arg.clone(), arg.clone(), arg.clone(), arg.clone(), arg.clone(), arg];
    let event = (any::<u8>(), nr, ret, t, args, any::<u8>(), any::<u8>(), any::<u16>());
    proptest::collection::vec(event, 0..80)
}

fn check(a: &Model, b: &Model) {
    for profile in [Profile::Synthetic, Profile::RealBinary] {
        let report = diff(a, b, &Gates::new(profile));
        for m in &report.metrics {
            let Some(v) = m.value else {
                assert_eq!(m.pass, None, "{m:?}");
                continue;
            };
            assert!(v.is_finite() && v >= 0.0, "{m:?}");
            assert!(m.n > 0, "{m:?}");
            if ["coverage", "semantic", "alignment", "dfg", "errors", "network"].contains(&m.name) {
                assert!(v <= 1.0 + 1e-9, "{m:?}");
            }
        }
        assert_eq!(report.verdict == Verdict::Match, report.reasons.is_empty(), "{report:#?}");
        serde_json::to_string(&report).unwrap();
    }
}

/// A picture has its bounds, its positions exist, and its sums are those of the trace.
fn check_picture(trace: &ctrace_format::Trace) {
    let picture = Picture::of(trace, &account(trace).unwrap()).unwrap();
    let grid = picture.grid;
    assert!((1..=MAX_BINS).contains(&grid.bins));
    let sum = |kind: PanelKind| {
        let panel = picture.panels.iter().find(|panel| panel.kind == kind).unwrap();
        let values = panel.series.iter().flat_map(|curve| curve.values.iter().flatten());
        values.sum::<f64>() * grid.width_ns as f64 / 1e9
    };
    let counts = CallCounts::of(trace);
    let calls: u64 = counts.calls().iter().map(|call| call.count).sum();
    let errors: u64 = counts.errors().iter().map(|error| error.count).sum();
    assert!((sum(PanelKind::Calls) - calls as f64).abs() < 1e-6 * (1 + calls) as f64, "{calls} calls");
    assert!((sum(PanelKind::Errors) - errors as f64).abs() < 1e-6 * (1 + errors) as f64, "{errors} errors");
    assert_eq!(picture.errors.rows.iter().map(|row| row.count).sum::<u64>(), errors);
    assert_eq!(picture.processes.rows.iter().map(|row| row.calls).sum::<u64>(), calls);
    for panel in &picture.panels {
        assert_eq!(panel.series.is_empty(), panel.empty.is_some(), "{panel:?}");
        for curve in &panel.series {
            assert_eq!(curve.values.len(), grid.bins);
            assert!(curve.values.iter().flatten().all(|v| v.is_finite() && *v >= 0.0), "{curve:?}");
        }
    }
    for lane in &picture.lanes.rows {
        assert!(lane.from_ns <= lane.to_ns);
        assert!(lane.stretches.iter().all(|s| s.from_ns <= s.to_ns), "{lane:?}");
        assert!(
            lane.mixed.is_sorted_by_key(|m| m.0) && lane.mixed.iter().all(|m| (m.0 as usize) < grid.bins)
        );
    }
    assert!(picture.map.nodes.len() <= Map::MAX_NODES);
    let nodes = picture.map.nodes.len();
    assert!(
        picture.map.edges.iter().all(|e| e.from < nodes && e.to < nodes && e.failed <= e.count.max(e.failed))
    );
    assert!(picture.processes.rows.iter().enumerate().all(|(at, row)| row.parent.is_none_or(|p| p < at)));
    assert!(
        picture.sample.events.len() <= Sample::MAX && picture.sample.events.len() as u64 <= picture.sample.of
    );
    assert!(picture.sample.events.is_sorted_by_key(Event::end_ns));
    assert_eq!(picture, Picture::of(trace, &account(trace).unwrap()).unwrap(), "twice the same");
    serde_json::to_string(&(&picture.panels, &picture.lanes, &picture.errors, &picture.spans)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_events_have_a_picture(x in raw()) {
        check_picture(&build(&x).finish());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_events_can_be_compared_and_equal_ones_are_equal(x in raw(), y in raw()) {
        let (tx, ty) = (build(&x).finish(), build(&y).finish());
        let (a, b) = (Model::build(&tx).unwrap(), Model::build(&ty).unwrap());
        let told = account(&tx).unwrap().findings;
        prop_assert!(told.iter().zip(1..).all(|(f, rank)| f.rank == rank && f.from_ns <= f.to_ns), "{:#?}", told);
        prop_assert_eq!(told, account(&tx).unwrap().findings);
        check(&a, &b);
        let again = Model::build(&tx).unwrap();
        let report = diff(&a, &again, &Gates::new(Profile::Synthetic));
        prop_assert_ne!(report.verdict, Verdict::Deviated, "{:#?}", report);
        prop_assert_eq!(&report.first_divergence, &None);
        for name in ["coverage", "semantic", "alignment", "dfg", "errors", "network"] {
            let m = report.metric(name).unwrap();
            prop_assert!(m.value.is_none_or(|v| v > 1.0 - 1e-9), "{:?}", m);
        }
    }
}
