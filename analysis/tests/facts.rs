//! Facts about comparisons, each on a trace small enough to know the answer.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod common;

use common::{MS, Run, compare, replay, value};
use ctrace_analysis::{CloseKind, DivergenceKind, Gates, Model, Profile, Side, Verdict, diff};
use ctrace_format::{ConnectionKind, Detail, Event, Fidelity, FidelityLevel, SyscallFlags, TcpState};

const ENOENT: i64 = -2;
const EAGAIN: i64 = -11;
const ECONNREFUSED: i64 = -111;

/// A client that asks a server a number of times; then it writes a file.
fn client(pid_base: u32, refused_from: usize) -> Run {
    let mut r = Run::new(pid_base);
    let t = r.task(1, 1, "client");
    r.exec(t, "/usr/bin/client");
    for path in ["/etc/ld.so.cache", "/lib/libc.so.6", "/etc/client.conf"] {
        r.open(t, path, 3);
        let file = r.file(path);
        r.io(t, "read", 3, file, 832);
        r.close(t, 3, file);
    }
    for i in 0..40 {
        let cookie = u64::from(pid_base) * 1000 + i as u64 + 1;
        if i < refused_from {
            r.request(t, cookie, "127.0.0.1:7003", (120, 512));
        } else {
            let socket = r.connect(t, 5, cookie, "127.0.0.1:7003", ECONNREFUSED);
            r.close(t, 5, socket);
        }
    }
    r.open(t, "/var/log/client.log", 4);
    let log = r.file("/var/log/client.log");
    for _ in 0..20 {
        r.io(t, "write", 4, log, 64);
    }
    r.close(t, 4, log);
    r.exit(t, 0);
    r
}

#[test]
fn a_trace_matches_itself_perfectly() {
    for profile in [Profile::Synthetic, Profile::RealBinary] {
        let trace = client(1000, 30).finish();
        let (a, b) = (Model::build(&trace).unwrap(), Model::build(&trace).unwrap());
        let report = diff(&a, &b, &Gates::new(profile));
        assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
        assert_eq!(report.first_divergence, None);
        for metric in ["coverage", "semantic", "alignment", "dfg", "errors", "network"] {
            assert_eq!(value(&report, metric), Some(1.0), "{metric}");
        }
        for metric in ["makespan", "outcomes"] {
            assert_eq!(value(&report, metric), Some(0.0), "{metric}");
        }
        assert!(value(&report, "drift").unwrap() < 0.001);
    }
}

#[test]
fn ids_do_not_matter() {
    let report = replay(client(1000, 40), client(7_000_000, 40));
    assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
    assert_eq!(report.first_divergence, None);
}

#[test]
fn a_refused_connection_is_found_where_it_happened() {
    let a = client(1000, 40);
    let b = client(2000, 17);
    let report = compare(a, b);
    assert_eq!(report.verdict, Verdict::Deviated);
    assert_eq!(value(&report, "errors"), Some(0.0));
    let first = report.first_divergence.expect("they part");
    assert!(
        first.operation.contains("connect")
            || first.instead.as_deref().is_some_and(|i| i.contains("ECONNREFUSED")),
        "{first:#?}"
    );
    assert!(report.reasons.iter().any(|r| r.contains("ECONNREFUSED")), "{:?}", report.reasons);
}

#[test]
fn one_file_that_was_not_there_is_told() {
    let run = |pid, missing: bool| {
        let mut r = Run::new(pid);
        let t = r.task(1, 1, "app");
        for i in 0..300 {
            r.open(t, &format!("/data/f{}", i % 10), 3);
            let f = r.file(&format!("/data/f{}", i % 10));
            r.close(t, 3, f);
        }
        if missing {
            r.open(t, "/etc/app.conf", ENOENT);
        } else {
            r.open(t, "/etc/app.conf", 3);
        }
        for _ in 0..300 {
            r.call(t, "getppid", [0; 6], 1);
        }
        r.exit(t, 0);
        r
    };
    let report = compare(run(10, false), run(20, true));
    assert_eq!(report.verdict, Verdict::Deviated);
    assert_eq!(value(&report, "outcomes"), Some(1.0));
    let first = report.first_divergence.expect("they part");
    assert_eq!(first.kind, DivergenceKind::Outcome);
    assert_eq!(first.operation, "openat(/etc/app.conf)");
    assert_eq!(first.instead.as_deref(), Some("openat(/etc/app.conf) → ENOENT"));
    // 600 calls, 100 µs each, after 1 s.
    assert_eq!(first.a_ns, Some(1000 * MS + 600 * MS / 10));
    let marks: String = first.context.iter().map(|l| l.mark).collect();
    assert!(marks.starts_with("    ") && marks.contains('-') && marks.contains('+'), "{marks:?}");
}

#[test]
fn another_exit_status_is_told() {
    let run = |status| {
        let mut r = Run::new(5);
        let t = r.task(1, 1, "app");
        for _ in 0..200 {
            r.call(t, "getppid", [0; 6], 1);
        }
        r.exit(t, status);
        r
    };
    let report = compare(run(0), run(3 << 8));
    assert_eq!(report.verdict, Verdict::Deviated);
    assert_eq!(value(&report, "errors"), Some(0.0));
    assert_eq!(report.first_divergence.unwrap().instead.as_deref(), Some("exit() → status 3"));
    let killed = compare(run(0), run(11));
    assert_eq!(killed.first_divergence.unwrap().instead.as_deref(), Some("exit() → killed by signal 11"));
}

#[test]
fn missing_writes_are_told() {
    let run = |writes| {
        let mut r = Run::new(5);
        let t = r.task(1, 1, "app");
        r.open(t, "/data/log", 3);
        let f = r.file("/data/log");
        for _ in 0..writes {
            r.io(t, "write", 3, f, 100);
        }
        r.close(t, 3, f);
        r.exit(t, 0);
        r
    };
    let report = replay(run(100), run(90));
    assert_eq!(report.verdict, Verdict::Deviated);
    // Of 100 writes, an open, a close and an exit: too few of those to judge alone.
    assert!(
        (value(&report, "coverage").unwrap() - 93.0 / 103.0).abs() < 1e-9,
        "{:?}",
        report.metric("coverage")
    );
    // 103 and 93 operations, 10 only in the first.
    assert!((value(&report, "alignment").unwrap() - (1.0 - 10.0 / 196.0)).abs() < 1e-9);
    assert_eq!(report.first_divergence.unwrap().kind, DivergenceKind::Missing);
}

#[test]
fn scheduling_noise_is_tolerated() {
    let run = |noisy: bool| {
        let mut r = Run::new(if noisy { 900 } else { 100 });
        let t = r.task(1, 1, "server");
        let socket = r.tcp(if noisy { 77 } else { 66 });
        let epoll = |r: &mut Run, ready| r.call(t, "epoll_wait", [4, 0, 16, 100, 0, 0], ready);
        for i in 0..50 {
            epoll(&mut r, 1);
            if noisy {
                epoll(&mut r, 0);
                r.io(t, "read", 7, socket, EAGAIN);
                r.call(t, "futex", [0x1000 + i, 1, 1, 0, 0, 0], 1);
                r.call(t, "sched_yield", [0; 6], 0);
                r.io(t, "read", 7, socket, 60);
                r.io(t, "read", 7, socket, 40);
                r.io(t, "write", 7, socket, 300);
                r.io(t, "write", 7, socket, EAGAIN);
                r.io(t, "write", 7, socket, 700);
            } else {
                r.io(t, "read", 7, socket, 100);
                r.io(t, "write", 7, socket, 1000);
            }
        }
        r.close(t, 7, socket);
        r.exit(t, 0);
        r
    };
    let report = compare(run(false), run(true));
    assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
    for metric in ["semantic", "alignment", "dfg", "network"] {
        assert_eq!(value(&report, metric), Some(1.0), "{metric}");
    }
}

#[test]
fn the_order_of_independent_connections_is_scheduling() {
    let run = |order: &[u64]| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "server");
        for round in 0..30 {
            for c in order {
                let socket = r.tcp(*c);
                r.io(t, "read", *c as i32, socket, 10 + round);
                r.io(t, "write", *c as i32, socket, 5);
            }
        }
        r.exit(t, 0);
        r
    };
    let report = replay(run(&[10, 11, 12]), run(&[12, 10, 11]));
    assert_eq!(value(&report, "alignment"), Some(1.0));
    assert_eq!(value(&report, "network"), Some(1.0));
}

#[test]
fn siblings_that_start_in_another_order_are_the_same_siblings() {
    let run = |first: &str, pid| {
        let mut r = Run::new(pid);
        let parent = r.task(1, 1, "sh");
        r.exec(parent, "/bin/sh");
        let order = if first == "sort" { ["sort", "grep"] } else { ["grep", "sort"] };
        let mut children = Vec::new();
        for (i, comm) in order.iter().enumerate() {
            let child = r.task(10 + i as u32, 10 + i as u32, comm);
            r.fork(parent, child);
            children.push((child, *comm));
        }
        for (child, comm) in children {
            r.exec(child, &format!("/usr/bin/{comm}"));
            for _ in 0..10 {
                r.open(child, &format!("/etc/{comm}"), 3);
            }
            r.exit(child, 0);
        }
        r.exit(parent, 0);
        r.model()
    };
    let (a, b) = (run("sort", 100), run("grep", 5000));
    let report = diff(&a, &b, &Gates::new(Profile::Synthetic));
    assert_eq!(value(&report, "alignment"), Some(1.0));
    let mut roles: Vec<_> = a.processes.iter().map(|p| p.role.as_str()).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["sh", "sh/grep", "sh/sort"]);
}

#[test]
fn equal_siblings_are_told_apart_by_what_they_did() {
    let run = |swap: bool| {
        let mut r = Run::new(1);
        let parent = r.task(1, 1, "pool");
        for i in 0..2 {
            let child = r.task(10 + i, 10 + i, "pool");
            r.fork(parent, child);
            let writer = (i == 0) ^ swap;
            for _ in 0..20 {
                r.open(child, if writer { "/data/out" } else { "/data/in" }, 3);
            }
            r.exit(child, 0);
        }
        r
    };
    assert_eq!(value(&replay(run(false), run(true)), "alignment"), Some(1.0));
}

#[test]
fn temporary_names_and_ephemeral_ports_do_not_matter() {
    let run = |name: &str, port: u16, pid: u32| {
        let mut r = Run::new(pid);
        let t = r.task(1, 1, "app");
        r.open(t, &format!("/tmp/{name}/data"), 3);
        r.open(t, &format!("/run/app/{}.lock", pid + 1), 4);
        r.request(t, u64::from(port), &format!("127.0.0.1:{port}"), (10, 10));
        r.exit(t, 0);
        r
    };
    let report = compare(run("tmpab12cd", 43211, 3000), run("tmpzz98_x", 51023, 4000));
    assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
    assert_eq!(value(&report, "alignment"), Some(1.0));
    assert_eq!(value(&report, "network"), Some(1.0));
}

#[test]
fn a_stable_port_does_matter() {
    let run = |port: u16| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for i in 0..5 {
            r.request(t, i + 1, &format!("127.0.0.1:{port}"), (10, 10));
        }
        r
    };
    assert_eq!(value(&compare(run(7003), run(7004)), "network"), Some(0.0));
}

#[test]
fn bytes_turns_and_ends_of_streams_are_compared() {
    let run = |received: i64, eof: bool| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        let socket = r.connect(t, 5, 9, "10.0.0.7:80", 0);
        r.io(t, "sendto", 5, socket, 100);
        r.io(t, "recvfrom", 5, socket, received);
        if eof {
            r.io(t, "recvfrom", 5, socket, 0);
        }
        r.close(t, 5, socket);
        r
    };
    assert_eq!(value(&replay(run(5000, true), run(5000, true)), "network"), Some(1.0));
    assert_eq!(value(&replay(run(5000, true), run(4999, true)), "network"), Some(0.0));
    assert_eq!(value(&compare(run(5000, true), run(4999, true)), "network"), Some(1.0));
    let report = replay(run(5000, true), run(5000, false));
    assert_eq!(value(&report, "network"), Some(0.0));
    assert!(report.metric("network").unwrap().note.contains("ended"), "{:?}", report.metric("network"));
}

#[test]
fn streams_of_siblings_belong_together_by_what_crossed_them() {
    // Two of one program, which start in another order and read in other slices.
    let run = |pid, sizes: [&[i64]; 2]| {
        let mut r = Run::new(pid);
        let shell = r.task(1, 1, "sh");
        for (i, slices) in (0..).zip(sizes) {
            let sort = r.task(10 + i, 10 + i, "sort");
            r.fork(shell, sort);
            let pipe = r.pipe(70 + u64::from(i));
            for bytes in slices {
                r.io(sort, "read", 0, pipe, *bytes);
            }
            r.io(sort, "read", 0, pipe, 0);
            r.exit(sort, 0);
        }
        r
    };
    let network = |x, y| value(&replay(run(1, x), run(2, y)), "network").unwrap();
    assert!(network([&[14_140], &[16_988]], [&[8192, 4096, 4700], &[14_140]]) > 0.99);
    assert!(network([&[14_140], &[16_988]], [&[8192, 4096, 4701], &[14_140]]) < 0.9);
}

#[test]
fn streams_that_carried_the_same_belong_together_by_how_they_went() {
    // Two of one kind, of which one was ended by the other side; they come in another order.
    let run = |ended_first: bool| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for (fd, ended) in [(5, ended_first), (6, !ended_first)] {
            let socket = r.connect(t, fd, fd as u64 + 4, "10.0.0.7:80", 0);
            r.io(t, "sendto", fd, socket, 100);
            r.io(t, "recvfrom", fd, socket, 500);
            if ended {
                r.io(t, "recvfrom", fd, socket, 0);
            }
            r.close(t, fd, socket);
        }
        r
    };
    assert_eq!(value(&replay(run(true), run(false)), "network"), Some(1.0));
}

#[test]
fn a_model_knows_its_connections() {
    let mut r = Run::new(1);
    let t = r.task(1, 1, "app");
    r.request(t, 9, "10.0.0.7:80", (100, 5000));
    let refused = r.connect(t, 6, 10, "10.0.0.8:81", ECONNREFUSED);
    r.close(t, 6, refused);
    let m = r.model();
    assert_eq!(m.conns.len(), 2);
    assert_eq!((m.conns[0].sent, m.conns[0].received, m.conns[0].close), (100, 5000, CloseKind::Local));
    assert_eq!(m.name(m.conns[0].name), "tcp to 10.0.0.7:80");
    assert_eq!(
        m.conns[0].turns().map(|t| (t.sent, t.bytes)).collect::<Vec<_>>(),
        [(true, 100), (false, 5000)]
    );
    assert_eq!(m.conns[1].close, CloseKind::Failed(111));
}

#[test]
fn a_connection_may_be_reset_before_it_is_accepted() {
    let run = |sooner: bool| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        let [listener, accepted] = [r.tcp(8), r.tcp(9)];
        let resets = |r: &mut Run| r.tcp_event(9, "10.0.0.7:4000", ConnectionKind::ResetReceived);
        if sooner {
            resets(&mut r);
        }
        r.io(t, "accept4", 3, listener, 5);
        r.io(t, "recvfrom", 5, accepted, 1);
        if !sooner {
            resets(&mut r);
        }
        r.close(t, 5, accepted);
        r
    };
    assert!(run(true).model().conns.iter().any(|conn| conn.close == CloseKind::Reset));
    assert_eq!(value(&compare(run(true), run(false)), "network"), Some(1.0));
}

#[test]
fn an_accept_does_not_change_what_the_listeners_number_is() {
    const F_DUPFD: u64 = 0;
    let mut r = Run::new(1);
    let t = r.task(1, 1, "app");
    let [first, second] = [r.tcp(9), r.tcp(10)];
    // Each tells of the connection that it makes.
    r.io(t, "accept4", 3, first, 5);
    r.marked(t, "fcntl", [3, F_DUPFD, 0, 0, 0, 0], 7);
    r.io(t, "accept4", 3, second, 6);
    r.marked(t, "close", [7, 0, 0, 0, 0, 0], 0);
    r.close(t, 5, first);
    r.close(t, 6, second);
    let sockets = |r: Run| r.model().conns.iter().map(|conn| conn.identity).collect::<Vec<_>>();
    assert_eq!(sockets(r), [9, 10]);
}

#[test]
fn a_duplicate_may_have_a_number_before_its_close_returns() {
    const F_DUPFD: u64 = 0;
    let mut r = Run::new(1);
    let t = r.task(1, 1, "app");
    let [first, second] = [r.tcp(9), r.tcp(10)];
    r.io(t, "accept4", 3, first, 5);
    r.io(t, "accept4", 3, second, 6);
    r.call_with(t, "fcntl", [6, F_DUPFD, 0, 0, 0, 0], 5, Some(second), Vec::new());
    // It began before that returned.
    r.now -= 95_000;
    r.close(t, 5, first);
    r.close(t, 5, second);
    r.close(t, 6, second);
    let sockets = |r: Run| r.model().conns.iter().map(|conn| conn.identity).collect::<Vec<_>>();
    assert_eq!(sockets(r), [9, 10]);
}

#[test]
fn a_non_blocking_connect_fails_when_the_kernel_says_so() {
    let run = |error: u16| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for i in 1..=10 {
            let socket = r.connect(t, 5, i, "10.0.0.7:80", -115);
            let new = if error == 0 { TcpState::Established } else { TcpState::Close };
            r.tcp_state(i, "10.0.0.7:80", TcpState::SynSent, new, error);
            r.close(t, 5, socket);
        }
        r
    };
    assert_eq!(value(&compare(run(0), run(0)), "errors"), None);
    let report = compare(run(0), run(111));
    assert_eq!(report.verdict, Verdict::Deviated);
    assert_eq!(value(&report, "errors"), Some(0.0));
}

#[test]
fn loss_makes_a_comparison_inconclusive_and_says_how_much() {
    let run = |lost| {
        let mut r = client(1, 40);
        if lost > 0 {
            r.lose(lost);
        }
        r
    };
    let report = compare(run(0), run(50));
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert!(report.reasons[0].contains("50 events"), "{:?}", report.reasons);
}

#[test]
fn nothing_to_compare_is_inconclusive() {
    let report = compare(Run::new(1), Run::new(2));
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert!(report.metrics.iter().all(|m| m.pass != Some(true) || m.n > 0), "{:#?}", report.metrics);
    assert_eq!(compare(client(1, 40), Run::new(2)).verdict, Verdict::Inconclusive);
}

#[test]
fn the_engines_own_calls_are_set_apart() {
    let mut b = client(1, 40);
    let t = common::Task(0);
    for _ in 0..500 {
        b.flagged(t, "futex", SyscallFlags::ENGINE, 100);
        b.flagged(t, "openat", SyscallFlags::ENGINE, 100);
    }
    let report = replay(client(1, 40), b);
    assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
    assert_eq!(report.b.engine, 1000);
    assert_eq!(report.a.calls, report.b.calls);
}

#[test]
fn a_run_that_takes_longer_is_told() {
    let run = |sleep: u64| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for _ in 0..100 {
            r.call(t, "getppid", [0; 6], 1);
            r.now += sleep;
        }
        r
    };
    let report = replay(run(9 * MS / 10), run(18 * MS / 10));
    // 100 calls, 1 ms against 1.9 ms each.
    assert!((value(&report, "makespan").unwrap() - 0.9).abs() < 0.02, "{:?}", report.metric("makespan"));
    assert!((value(&report, "drift").unwrap() - 0.9 * 99.0).abs() < 2.0, "{:?}", report.metric("drift"));
    assert_eq!(report.verdict, Verdict::Deviated);
    assert_eq!(compare(run(9 * MS / 10), run(18 * MS / 10)).verdict, Verdict::Match);
}

#[test]
fn another_program_deviates_from_its_first_call() {
    let mut other = Run::new(1);
    let t = other.task(1, 1, "redis-server");
    other.exec(t, "/usr/bin/redis-server");
    for i in 0..100 {
        other.open(t, &format!("/var/lib/redis/{}", i % 3), 3);
        other.call(t, "getpid", [0; 6], 5);
    }
    let report = compare(client(1, 40), other);
    assert_eq!(report.verdict, Verdict::Deviated);
    assert!(value(&report, "alignment").unwrap() < 0.1);
    let first = report.first_divergence.unwrap();
    assert_eq!(first.a_ns, Some(1000 * MS + 1000));
}

#[test]
fn the_json_is_what_the_contract_says() {
    let report = compare(client(1, 40), client(2, 10));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["verdict"], "deviated");
    assert!(json["reasons"].as_array().is_some_and(|r| !r.is_empty()));
    let metric = &json["metrics"]["alignment"];
    assert!(
        metric["value"].is_f64()
            && metric["gate"].is_f64()
            && metric["pass"].is_boolean()
            && metric["n"].is_u64()
    );
    assert!(json["metrics"]["coverage"]["gate"].is_null());
    assert!(json["first_divergence"]["context"].is_array());
}

#[test]
fn a_descriptor_without_object_is_followed_through_the_table() {
    let run = |pid| {
        let mut r = Run::new(pid);
        let t = r.task(1, 1, "app");
        let value = r.str("/data/x");
        let object = r.file("/data/x");
        r.call_with(t, "openat", [0; 6], 3, Some(object), vec![Detail::Str { arg: 1, value }]);
        r.call(t, "fsync", [3, 0, 0, 0, 0, 0], 0);
        r
    };
    let m = run(1).model();
    assert!(m.names.contains("/data/x"));
    assert_eq!(value(&replay(run(1), run(2)), "semantic"), Some(1.0));
}

#[test]
fn a_call_that_a_filter_failed_stands_for_the_recorded_one() {
    // seccomp fails a call before it is seen: its arguments are unknown.
    let run = |filtered: bool| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for i in 0..20_u64 {
            r.open(t, &format!("/data/{}", i % 3), 3);
            let f = r.file(&format!("/data/{}", i % 3));
            if filtered {
                r.failed_unseen(t, "write", 28);
            } else {
                r.io(t, "write", 3, f, -28);
            }
            r.close(t, 3, f);
        }
        r.exit(t, 0);
        r
    };
    let report = replay(run(false), run(true));
    for metric in ["coverage", "semantic", "alignment", "dfg", "errors"] {
        assert_eq!(value(&report, metric), Some(1.0), "{metric}: {:?}", report.metric(metric));
    }
    assert_eq!(report.first_divergence, None);
}

#[test]
fn a_file_is_what_it_was_opened_as() {
    let run = |real: &str| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        let value = r.str("/lib/libc.so.6");
        let object = r.file(real);
        r.call_with(t, "openat", [0; 6], 3, Some(object), vec![Detail::Str { arg: 1, value }]);
        r.io(t, "read", 3, object, 832);
        r.close(t, 3, object);
        r
    };
    assert_eq!(value(&replay(run("/usr/lib/libc.so.6"), run("/lib/libc.so.6")), "alignment"), Some(1.0));
}

#[test]
fn an_incident_must_come_again_at_its_time_and_as_often() {
    let run = |from: usize, failures: usize| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        for i in 0..400 {
            r.now += 10 * MS;
            let ret = if (from..from + failures).contains(&i) { ECONNREFUSED } else { 0 };
            let socket = r.connect(t, 5, i as u64 + 1, "127.0.0.1:7003", ret);
            r.close(t, 5, socket);
        }
        r
    };
    let recall = |a, b| value(&replay(a, b), "incident_recall");
    assert_eq!(recall(run(100, 50), run(100, 50)), Some(1.0));
    assert_eq!(recall(run(100, 50), run(103, 45)), Some(1.0));
    assert_eq!(recall(run(100, 50), run(100, 20)), Some(0.0));
    assert_eq!(recall(run(100, 50), run(200, 50)), Some(0.0));
    assert_eq!(recall(run(100, 0), run(100, 50)), None);
}

#[test]
fn a_process_that_does_nothing_is_no_part_of_the_tree() {
    let run = |engine: bool| {
        let mut r = Run::new(1);
        let root = r.task(1, 1, if engine { "start" } else { "server" });
        let server = if engine {
            r.flagged(root, "futex", SyscallFlags::ENGINE, 100);
            let server = r.task(2, 2, "server");
            r.fork(root, server);
            server
        } else {
            root
        };
        for i in 0..50_u64 {
            r.request(server, i + 1, "127.0.0.1:7003", (10, 10));
        }
        r.exit(server, 0);
        if engine {
            r.exit(root, 0);
        }
        r
    };
    let report = replay(run(false), run(true));
    assert_eq!(value(&report, "alignment"), Some(1.0));
    assert_eq!(report.verdict, Verdict::Match, "{report:#?}");
}

#[test]
fn the_engine_may_move_descriptors() {
    let run = |engine: bool| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        let (file, other) = (r.file("/data/x"), r.file("/data/y"));
        let value = r.str("/data/x");
        let path = vec![Detail::Str { arg: 1, value }];
        let fd = if engine { 3 } else { 7 };
        r.call_with(t, "openat", [0; 6], fd, Some(file), path);
        if engine {
            r.marked(t, "dup3", [3, 7, 0, 0, 0, 0], 7);
            r.marked(t, "close", [3, 0, 0, 0, 0, 0], 0);
        }
        r.io(t, "read", 7, file, 100);
        r.call(t, "fsync", [7, 0, 0, 0, 0, 0], 0);
        r.io(t, "read", 3, other, 100);
        r
    };
    let report = replay(run(false), run(true));
    assert_eq!(value(&report, "alignment"), Some(1.0), "{:?}", report.first_divergence);
    assert_eq!(report.b.engine, 2);
}

#[test]
fn who_opened_a_connection_is_told_by_ports_and_first_words() {
    let side = |local: &str, peer: &str, call: &str| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        let socket = r.object(&ctrace_format::Object::Socket {
            family: 2,
            kind: 1,
            protocol: 6,
            cookie: ctrace_format::SockCookie(9),
            local: Some(ctrace_format::SockAddr::Inet(local.parse().unwrap())),
            peer: Some(ctrace_format::SockAddr::Inet(peer.parse().unwrap())),
        });
        r.io(t, call, 5, socket, 10);
        let m = r.model();
        (m.conns[0].side, m.name(m.conns[0].name).to_owned())
    };
    let name = |text: &str| text.to_owned();
    assert_eq!(side("10.0.0.1:80", "10.0.0.2:50000", "write"), (Side::Server, name("tcp at 10.0.0.1:80")));
    assert_eq!(side("10.0.0.1:50000", "10.0.0.2:80", "read"), (Side::Client, name("tcp to 10.0.0.2:80")));
    assert_eq!(side("10.0.0.1:40000", "10.0.0.2:50000", "read").0, Side::Server);
    assert_eq!(side("10.0.0.1:40000", "10.0.0.2:50000", "write").0, Side::Client);
}

#[test]
fn a_socket_keeps_its_name_when_its_maker_closes_it_before_its_receiver_uses_it() {
    let run = |pid, closes_first: bool| {
        let mut r = Run::new(pid);
        let (parent, child) = (r.task(1, 1, "server"), r.task(2, 2, "worker"));
        let listener = r.tcp(9);
        let at = ctrace_format::SockAddr::Inet("10.0.0.1:80".parse().unwrap());
        r.call_with(parent, "socket", [2, 1, 6, 0, 0, 0], 4, Some(listener), Vec::new());
        let bound = vec![ctrace_format::Detail::Addr { arg: 1, addr: at }];
        r.call_with(parent, "bind", [4, 0, 16, 0, 0, 0], 0, Some(listener), bound);
        r.call_with(parent, "listen", [4, 5, 0, 0, 0, 0], 0, Some(listener), Vec::new());
        let asks = |r: &mut Run| {
            r.call_with(child, "getpeername", [4, 0, 0, 0, 0, 0], -107, Some(listener), Vec::new());
        };
        if closes_first {
            r.close(parent, 4, listener);
            asks(&mut r);
        } else {
            asks(&mut r);
            r.close(parent, 4, listener);
        }
        r
    };
    let report = compare(run(1, false), run(2, true));
    assert_eq!(value(&report, "alignment"), Some(1.0), "{report:#?}");
}

#[test]
fn a_full_disk_is_shown_where_it_was_met_and_not_at_the_exit_it_caused() {
    let run = |pid, full: bool, begin: u64| {
        let mut r = Run::new(pid);
        // Another start, as when a shell takes its time.
        r.now += begin;
        let t = r.task(1, 1, "dd");
        let out = r.file("/data/out");
        r.open(t, "/data/out", 3);
        for _ in 0..30 {
            r.io(t, "write", 3, out, 8192);
        }
        if full {
            r.io(t, "write", 3, out, -28);
            r.open(t, "/usr/share/locale/messages.mo", -2);
        }
        r.close(t, 3, out);
        r.exit(t, if full { 1 << 8 } else { 0 });
        r
    };
    let report = compare(run(1, false, 0), run(2, true, 7 * MS));
    assert_eq!(report.verdict, Verdict::Deviated);
    let first = report.first_divergence.unwrap();
    assert!(first.operation.contains("ENOSPC"), "{first:#?}");
}

#[test]
fn how_work_was_batched_is_no_outcome_but_moving_less_throughout_is() {
    let run = |pid, sizes: &dyn Fn(usize) -> i64| {
        let mut r = Run::new(pid);
        let t = r.task(1, 1, "server");
        let log = r.file("/data/log");
        r.open(t, "/data/log", 3);
        for i in 0..200 {
            r.io(t, "write", 3, log, sizes(i));
        }
        r
    };
    let now = |i: usize| if i.is_multiple_of(2) { 100 } else { 1000 };
    let then = |i: usize| if i.is_multiple_of(2) { 1000 } else { 100 };
    assert_eq!(compare(run(1, &now), run(2, &then)).verdict, Verdict::Match);
    assert_eq!(replay(run(1, &now), run(2, &then)).verdict, Verdict::Deviated);
    assert_eq!(compare(run(1, &|_| 1000), run(2, &|_| 100)).verdict, Verdict::Deviated);
}

#[test]
fn the_end_of_a_file_is_its_end_however_much_was_asked_for() {
    let run = |pid, asked: u64| {
        let mut r = Run::new(pid);
        let t = r.task(1, 1, "bash");
        let script = r.file("/data/script");
        r.open(t, "/data/script", 3);
        for _ in 0..30 {
            r.io(t, "read", 3, script, 600);
        }
        r.call_with(t, "read", [3, 0, asked, 0, 0, 0], 0, Some(script), Vec::new());
        r
    };
    let report = replay(run(1, 600), run(2, 0));
    assert_eq!(report.verdict, Verdict::Match, "{:?}", report.reasons);
}

#[test]
fn workers_ended_by_their_owner_may_end_by_themselves_and_nobody_elses_may() {
    let run = |pid, own: bool, killed: u32| {
        let mut r = Run::new(pid);
        let owner = r.task(1, 1, "pool");
        for i in 0..4 {
            let worker = r.task(10 + i, 10 + i, "worker");
            r.fork(owner, worker);
            for _ in 0..20 {
                r.open(worker, "/data/job", 3);
            }
            let ended = i < killed;
            if own && ended {
                r.call(owner, "kill", [u64::from(10 + i), 15, 0, 0, 0, 0], 0);
            }
            r.exit(worker, if ended { 15 } else { 0 });
        }
        r
    };
    let errors = |own| value(&compare(run(1, own, 2), run(2, own, 0)), "errors").unwrap();
    assert!(errors(true) > 0.99);
    assert!(errors(false) < 0.9);
}

#[test]
fn which_worker_takes_work_from_a_shared_pipe_does_not_matter_that_it_is_taken_does() {
    let run = |pid, takes: [u32; 3]| {
        let mut r = Run::new(pid);
        let owner = r.task(1, 1, "pool");
        let pipe = r.pipe(77);
        for (i, n) in (0..).zip(takes) {
            let worker = r.task(10 + i, 10 + i, "worker");
            r.fork(owner, worker);
            for _ in 0..40 {
                r.open(worker, "/data/job", 3);
            }
            for _ in 0..n {
                r.io(worker, "read", 4, pipe, 500);
            }
            r.exit(worker, 0);
        }
        r
    };
    let network = |x, y| value(&compare(run(1, x), run(2, y)), "network").unwrap();
    assert!(network([10, 10, 10], [25, 5, 0]) > 0.99);
    assert!(network([10, 10, 10], [10, 5, 0]) < 0.9);
}

/// Two threads of a process that hands itself work through a pipe: how often they take turns is chance.
#[test]
fn a_pipe_that_a_process_has_both_ends_of_is_two_streams() {
    let run = |pid, at_once: usize| {
        let mut r = Run::new(pid);
        let (writer, reader) = (r.task(1, 1, "writer"), r.task(2, 1, "reader"));
        let pipe = r.pipe(77);
        for _ in 0..24 / at_once {
            (0..at_once).for_each(|_| r.io(writer, "write", 8, pipe, 1));
            (0..at_once).for_each(|_| r.io(reader, "read", 4, pipe, 1));
        }
        r.exit(writer, 0);
        r
    };
    let report = replay(run(1000, 1), run(2000, 4));
    assert_eq!(
        (value(&report, "coverage"), value(&report, "network")),
        (Some(1.0), Some(1.0)),
        "{report:#?}"
    );
    assert_eq!(report.first_divergence, None, "{report:#?}");
}

/// A recorder that cannot keep up leaves out what pointers point to: what differs by that is no deviation.
#[test]
fn a_difference_from_what_was_not_read_is_none() {
    let run = |pid, reads: bool| {
        let mut r = Run::new(pid);
        let t = r.task(1, 1, "app");
        let change = |from, to| Event::Fidelity(Fidelity { t_ns: MS, cpu: 0, from, to });
        let levels = (FidelityLevel::Full, FidelityLevel::NoArguments);
        if !reads {
            r.push(&change(levels.0, levels.1));
        }
        for _ in 0..100 {
            if reads {
                r.open(t, "/data/job", 3);
            } else {
                r.flagged(t, "openat", SyscallFlags::TRUNCATED, 10_000);
            }
        }
        r.exit(t, 0);
        r
    };
    let report = replay(run(1000, false), run(2000, true));
    assert_eq!(report.verdict, Verdict::Inconclusive, "{report:#?}");
    assert!(report.reasons[0].contains("100 calls"), "{:?}", report.reasons);
    assert_eq!(replay(run(1000, false), run(2000, false)).verdict, Verdict::Match);
}

/// A program opens a file without a name by the name of its descriptor; a replay opens it by another name, or opens a copy.
#[test]
fn what_is_opened_by_the_name_of_its_descriptor_is_known_by_its_own() {
    let run = |pid, path: &str| {
        let mut r = Run::new(pid);
        let t = r.task(1, 1, "cat");
        r.exec(t, "/usr/bin/cat");
        let file = r.file("/tmp/x");
        r.open(t, "/tmp/x", 3);
        r.open(t, path, 4);
        for _ in 0..40 {
            r.io(t, "read", 4, file, 64);
        }
        r.close(t, 4, file);
        r.exit(t, 0);
        r
    };
    let report = replay(run(1000, "/proc/self/fd/3"), run(2000, "/tmp/x"));
    assert_eq!(report.first_divergence, None, "{report:#?}");
}

/// A descriptor that another task closed in a table that they share, which only the clone tells.
#[test]
fn a_close_that_finds_nothing_is_of_nothing() {
    let run = |pid, opens: bool| {
        let mut r = Run::new(pid);
        let t = r.task(1, 1, "a");
        r.exec(t, "/usr/bin/a");
        r.open(t, "/tmp/x", 3);
        r.open(t, "/tmp/y", if opens { 9 } else { 4 });
        r.call_with(t, "close", [9, 0, 0, 0, 0, 0], -9, None, Vec::new());
        r.exit(t, 0);
        r
    };
    let report = replay(run(1000, true), run(2000, false));
    assert_eq!(value(&report, "errors"), Some(1.0), "{report:#?}");
}

/// The kernel answers a segment that belongs to no connection in the listener's name.
#[test]
fn a_listener_that_sends_a_reset_goes_on() {
    let run = |resets: bool| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        let [listener, accepted] = [r.tcp(8), r.tcp(9)];
        r.io(t, "accept4", 3, listener, 5);
        if resets {
            r.tcp_event(8, "0.0.0.0:0", ConnectionKind::ResetSent);
        }
        r.io(t, "recvfrom", 5, accepted, 1);
        r.close(t, 5, accepted);
        r.close(t, 3, listener);
        r
    };
    assert!(run(true).model().conns.iter().all(|conn| conn.close != CloseKind::Reset));
    assert_eq!(value(&compare(run(false), run(true)), "network"), Some(1.0));
}

/// Terminals hand on what is written to them in parts of their own.
#[test]
fn the_parts_that_a_terminal_gives_do_not_matter() {
    let run = |path: &str, parts: &[i64]| {
        let mut r = Run::new(1);
        let t = r.task(1, 1, "app");
        let file = r.file(path);
        for _ in 0..20 {
            for part in parts {
                r.io(t, "read", 3, file, *part);
            }
            r.io(t, "write", 3, file, 10);
        }
        r
    };
    for (path, wanted) in [("/dev/pts/0", true), ("/dev/ptmx", true), ("/srv/pts/0", false)] {
        let report = replay(run(path, &[6, 60]), run(path, &[60, 6]));
        assert_eq!(value(&report, "semantic") == Some(1.0), wanted, "{path}: {report:#?}");
    }
}
