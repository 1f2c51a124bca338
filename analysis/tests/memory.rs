//! Models hold sequences of a few bytes an operation, not the decoded file.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(missing_docs, reason = "a test")]

mod common;

use common::Run;
use ctrace_analysis::{Gates, Model, Profile, Verdict, diff};

/// Peak resident memory of this process, KiB.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().trim_end_matches(" kB").trim().parse().ok())
}

/// A server with 50 connections and a log: a million calls, in another order for another seed.
fn server(calls: u64, seed: u64) -> Run {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "server");
    let sockets: Vec<_> = (0..50).map(|i| r.tcp(seed * 1000 + i + 1)).collect();
    let log = r.file("/var/log/server.log");
    let mut x = seed + 1;
    for _ in 0..calls / 4 {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let c = (x >> 33) as usize % sockets.len();
        r.call(t, "epoll_wait", [4, 0, 16, 100, 0, 0], 1);
        r.io(t, "read", 10 + c as i32, sockets[c], 100);
        r.io(t, "write", 3, log, 80);
        r.io(t, "write", 10 + c as i32, sockets[c], 1000);
    }
    r
}

#[test]
fn a_million_calls_take_a_few_megabytes() {
    // More by hand: CTRACE_MEMORY_CALLS=10000000.
    let calls = std::env::var("CTRACE_MEMORY_CALLS").map_or(1_000_000, |n| n.parse().unwrap());
    let (a, b) = (server(calls, 1).finish(), server(calls, 2).finish());
    // Forgets the peak of the writing.
    if std::fs::write("/proc/self/clear_refs", "5").is_err() {
        println!("skipped: /proc/self/clear_refs cannot be written on this system");
        return;
    }
    let before = peak_kib().unwrap();
    let (a, b) = (Model::build(&a).unwrap(), Model::build(&b).unwrap());
    let report = diff(&a, &b, &Gates::new(Profile::RealBinary));
    let used = peak_kib().unwrap().saturating_sub(before);
    println!("building two models and comparing them added {used} KiB");
    assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
    assert_eq!(report.a.calls, calls);
    // 8 bytes a call and run, and what does not grow.
    assert!(used * 1024 < 2 * 8 * calls + (24 << 20), "{used} KiB");
}
