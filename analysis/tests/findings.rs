//! Findings say what happened, from the trace alone.
#![allow(missing_docs, reason = "a test")]

mod common;

use common::{MS, Run};
use ctrace_analysis::{FindingKind, findings};
use ctrace_format::{
    Abi, Dns, Event, Metric, ProcessKind, Resource, SockAddr, SockCookie, SyscallFlags, syscalls,
};

#[test]
fn a_peer_that_begins_to_refuse_is_the_first_thing_said() {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "checkout");
    for i in 0..41 {
        r.request(t, i + 1, "127.0.0.1:7003", (10, 10));
    }
    r.open(t, "/etc/missing", -2);
    r.now = 3200 * MS;
    for i in 0..23 {
        let socket = r.connect(t, 5, 1000 + i, "127.0.0.1:7003", -111);
        r.close(t, 5, socket);
    }
    let found = findings(&r.model());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        found[0].text,
        "checkout: connect to 127.0.0.1:7003 failed with ECONNREFUSED 23 times from +3.200 s to +3.206 s \
         (nobody listened there); before that it succeeded 41 times, after that never again"
    );
    assert_eq!((found[0].kind, found[0].count), (FindingKind::Failing, 23));
    assert_eq!(found[0].errno.as_deref(), Some("ECONNREFUSED"));
}

#[test]
fn a_full_disk_and_a_leak_are_said() {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "checkout");
    r.open(t, "/data/orders", 3);
    let f = r.file("/data/orders");
    for _ in 0..5 {
        r.io(t, "write", 3, f, 100);
    }
    for _ in 0..3 {
        r.io(t, "write", 3, f, -28);
    }
    for fd in 4..200 {
        r.open(t, "/data/leaked", fd);
    }
    for _ in 0..4 {
        r.open(t, "/data/leaked", -24);
    }
    let found = findings(&r.model());
    let texts: Vec<&str> = found.iter().map(|f| f.text.as_str()).collect();
    assert!(
        texts
            .iter()
            .any(|t| t.contains("write of /data/orders failed with ENOSPC 3 times")
                && t.contains("disk was full")),
        "{texts:#?}"
    );
    assert!(texts.iter().any(|t| t.contains("EMFILE 4 times")), "{texts:#?}");
    assert!(
        found.iter().any(|f| f.kind == FindingKind::DescriptorLeak && f.text.contains("197")),
        "{texts:#?}"
    );
}

#[test]
fn a_peer_that_becomes_slow_is_said_with_the_time() {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "checkout");
    for i in 0..60_u64 {
        let socket = r.connect(t, 5, i + 1, "127.0.0.1:7003", 0);
        r.io(t, "sendto", 5, socket, 100);
        r.now += if i < 40 { 2 * MS } else { 300 * MS };
        r.io(t, "recvfrom", 5, socket, 50);
        r.close(t, 5, socket);
    }
    let found = findings(&r.model());
    assert_eq!(found[0].kind, FindingKind::Slow, "{found:#?}");
    assert!(
        found[0].text.starts_with("answers of 127.0.0.1:7003 took 300.1 ms from +1."),
        "{}",
        found[0].text
    );
    assert!(found[0].text.contains("(median of 20); before that 2.1 ms (40)"), "{}", found[0].text);
}

#[test]
fn a_crash_is_said_and_a_hung_call() {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "app");
    r.exit(t, 11);
    let u = r.task(2, 2, "other");
    r.flagged(u, "fsync", SyscallFlags::NO_EXIT, 2000 * MS);
    let found = findings(&r.model());
    assert!(
        found.iter().any(|f| f.kind == FindingKind::BadExit && f.text.contains("killed by signal 11")),
        "{found:#?}"
    );
    assert!(found.iter().any(|f| f.kind == FindingKind::Hung && f.text.contains("fsync")), "{found:#?}");
}

#[test]
fn a_healthy_run_has_no_findings() {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "app");
    for i in 0..50 {
        r.open(t, "/lib/x86_64/libmissing.so", -2);
        r.request(t, i + 1, "127.0.0.1:80", (10, 10));
    }
    r.call(t, "ioctl", [1, 0x5401, 0, 0, 0, 0], -25);
    r.exit(t, 0);
    assert_eq!(findings(&r.model()), []);
}

#[test]
fn what_the_timeline_says_of_an_incident_is_said() {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "checkout");
    let other = r.task(9, 9, "batch");
    let mount = syscalls::number(Abi::X86_64, "mount");
    r.open(t, "/data/orders", -1);
    let denied = |call, count| ProcessKind::Capability { capability: 12, granted: false, count, call };
    r.life(t, denied(syscalls::number(Abi::X86_64, "openat"), 3));
    // Nobody minded this one.
    r.life(t, denied(mount, 70));
    let by = r.id(t);
    r.life(other, ProcessKind::OomKill { by: Some(by), rss_bytes: 24 << 20, limit: None });
    for (name, code, ms) in [("db.test", 2, 1), ("db", 0, 150), ("db.svc.local", 3, 1)] {
        let name = r.str(name);
        let event = Event::Dns(Dns {
            t_ns: r.now,
            duration_ns: ms * MS,
            task: by,
            cookie: SockCookie(4),
            server: SockAddr::Inet("10.0.0.2:53".parse().unwrap()),
            name,
            qtype: 1,
            answer: Some((code, 1)),
        });
        r.push(&event);
    }
    for i in 0..20 {
        r.now = (200 + 100 * i) * MS;
        for (metric, step) in [(Metric::CpuThrottledNs, 40 * MS), (Metric::ListenOverflows, 2)] {
            let sample = Resource { t_ns: r.now, subject: 1, metric, value: i * step };
            r.push(&Event::Resource(sample));
        }
    }
    let model = r.model();
    assert_eq!(model.processes.iter().filter(|p| p.tgid == 10).count(), 0, "a victim outside of the scope");
    let found = findings(&model);
    let texts: Vec<&str> = found.iter().map(|f| f.text.as_str()).collect();
    assert!(texts[0].starts_with("batch (pid 10) was killed for lack of memory at +"), "{texts:#?}");
    assert!(texts[0].ends_with("with 24.0 MiB resident; an allocation of checkout (pid 2) set it off"));
    for part in [
        "checkout (pid 2) was denied CAP_NET_ADMIN 3 times in openat, which failed with EPERM",
        "the name server failed for db.test once",
        "the name server took up to 150.0 ms for db (1 slow)",
        "the CPU quota held tasks back for 760.0 ms",
        "an accept queue was full 38 times",
    ] {
        assert!(texts.iter().any(|t| t.contains(part)), "{part}: {texts:#?}");
    }
    for part in ["db.svc.local", "in mount"] {
        assert!(!texts.iter().any(|t| t.contains(part)), "{part}: {texts:#?}");
    }
}
