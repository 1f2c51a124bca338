//! Failures that only one of two runs has: each counts once, under the name of whose it is.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(missing_docs, reason = "a test")]

mod common;

use common::{MS, Run, compare, replay, value};
use ctrace_analysis::Verdict;
use ctrace_format::{Detail, Dns, Event, SockAddr, SockCookie, TcpState};

const EINPROGRESS: i64 = -115;
const ECONNREFUSED: u16 = 111;
const SERVER: &str = "127.0.0.1:7003";

/// How a program learns what a connect that did not wait came to.
#[derive(Clone, Copy)]
enum Asks {
    /// By connecting again, as `IO::Socket::INET` with a timeout does.
    Connects,
    SoError,
}

/// A client whose connects do not wait. `tells`: the kernel's own view is recorded, too.
fn client(refused: bool, asks: Asks, tells: bool) -> Run {
    let mut r = Run::new(10);
    let t = r.task(1, 1, "client");
    for cookie in 1..=50 {
        if tells {
            r.tcp_state(cookie, SERVER, TcpState::Close, TcpState::SynSent, 0);
        }
        let socket = r.connect(t, 5, cookie, SERVER, EINPROGRESS);
        let (new, error) = if refused { (TcpState::Close, ECONNREFUSED) } else { (TcpState::Established, 0) };
        if tells {
            r.tcp_state(cookie, SERVER, TcpState::SynSent, new, error);
        }
        match asks {
            Asks::Connects => {
                let addr = SockAddr::Inet(SERVER.parse().unwrap());
                let details = vec![Detail::Addr { arg: 1, addr }];
                r.call_with(t, "connect", [5, 0, 16, 0, 0, 0], -i64::from(error), Some(socket), details);
            }
            Asks::SoError => {
                let details = vec![Detail::Value { arg: 3, value: u64::from(error) }];
                r.call_with(t, "getsockopt", [5, 1, 4, 0, 0, 0], 0, Some(socket), details);
            }
        }
        r.close(t, 5, socket);
    }
    r.exit(t, 0);
    r
}

#[test]
fn a_refused_connect_that_did_not_wait_counts_once() {
    for (asks, tells) in
        [(Asks::Connects, true), (Asks::Connects, false), (Asks::SoError, true), (Asks::SoError, false)]
    {
        let report = compare(client(false, asks, tells), client(true, asks, tells));
        assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
        let failures: Vec<_> = report.causes.iter().filter(|c| c.kind == "failure").collect();
        assert_eq!(failures.len(), 1, "{failures:#?}");
        assert_eq!(
            failures[0].text,
            "client: connect to 127.0.0.1:7003 fails with ECONNREFUSED: never in the recording, 50 times in the other run"
        );
        assert_eq!((report.failures.recorded, report.failures.other), (0, 50));
        assert_eq!(value(&report, "errors"), Some(0.0));
    }
}

/// A program that asks for names, each with what it gets: a response code, or nothing.
fn asks(names: &[(&str, Option<u8>)], times: usize) -> Run {
    let mut r = Run::new(10);
    let t = r.task(1, 1, "app");
    for _ in 0..times {
        for (name, code) in names {
            r.call(t, "getppid", [0; 6], 1);
            let name = r.str(name);
            let event = Event::Dns(Dns {
                t_ns: r.now,
                duration_ns: MS,
                task: r.id(t),
                cookie: SockCookie(7),
                server: SockAddr::Inet("127.0.0.77:53".parse().unwrap()),
                name,
                qtype: 1,
                answer: code.map(|code| (code, u16::from(code == 0))),
            });
            r.push(&event);
            r.now += 2 * MS;
        }
    }
    r.exit(t, 0);
    r
}

#[test]
fn a_name_that_is_not_found_is_a_failure() {
    for (answer, word) in [(Some(3), "NXDOMAIN"), (Some(2), "SERVFAIL"), (None, "no answer")] {
        let (good, bad) = ([("db.test", Some(0))], [("db.test", answer)]);
        let report = compare(asks(&good, 8), asks(&bad, 8));
        assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
        assert_eq!(
            report.reasons[0],
            format!(
                "app asks 127.0.0.77:53 for db.test: {word}: never in the recording, 8 times in the other run"
            )
        );
        assert_eq!(report.causes[0].object.as_deref(), Some("db.test at 127.0.0.77:53"));
        assert_eq!(value(&report, "errors"), Some(0.0));
        assert_eq!(compare(asks(&bad, 8), asks(&bad, 8)).verdict, Verdict::Match);
        assert_eq!(compare(asks(&bad, 8), asks(&good, 8)).verdict, Verdict::Deviated);
        // A replay is told by its own metrics.
        assert_eq!(replay(asks(&good, 8), asks(&bad, 8)).verdict, Verdict::Match);
    }
}

#[test]
fn names_that_are_new_in_each_run_are_compared_by_their_number() {
    let run = |letter: &str, n: usize| {
        let names: Vec<String> = (0..n).map(|i| format!("{letter}{i}.test")).collect();
        let names: Vec<(&str, Option<u8>)> = names.iter().map(|name| (name.as_str(), Some(3))).collect();
        asks(&names, 1)
    };
    let report = compare(run("a", 9), run("b", 10));
    assert_eq!(value(&report, "errors"), Some(1.0), "{report:#?}");
    let report = compare(run("a", 9), run("b", 90));
    assert!(value(&report, "errors").unwrap() < 0.9, "{report:#?}");
}

#[test]
fn what_was_asked_when_the_recording_ended_has_not_failed() {
    let run = |open: bool| {
        let mut r = Run::new(10);
        let t = r.task(1, 1, "app");
        for _ in 0..50 {
            r.call(t, "getppid", [0; 6], 1);
        }
        if open {
            let name = r.str("db.test");
            let event = Event::Dns(Dns {
                t_ns: r.now,
                duration_ns: MS,
                task: r.id(t),
                cookie: SockCookie(7),
                server: SockAddr::Inet("127.0.0.77:53".parse().unwrap()),
                name,
                qtype: 1,
                answer: None,
            });
            r.push(&event);
        }
        r
    };
    assert_eq!(compare(run(false), run(true)).verdict, Verdict::Match);
}

#[test]
fn a_failure_of_another_program_is_told_under_its_name() {
    let run = |exe: &str, errno: i64| {
        let mut r = Run::new(10);
        let t = r.task(1, 1, exe);
        r.exec(t, &format!("/usr/bin/{exe}"));
        for _ in 0..30 {
            r.call(t, "pkey_alloc", [0; 6], errno);
        }
        r.exit(t, 0);
        r
    };
    let report = compare(run("true", 0), run("node", -28));
    assert_eq!(report.causes[0].role, "node", "{report:#?}");
    assert!(report.reasons[0].starts_with("node: pkey_alloc"), "{:#?}", report.reasons);
    let report = compare(run("true", -28), run("node", 0));
    assert_eq!(report.causes[0].role, "true", "{report:#?}");
}
