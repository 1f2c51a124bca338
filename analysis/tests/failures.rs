//! Failures that only one of two runs has: each counts once, under the name of whose it is.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(missing_docs, reason = "a test")]

mod common;

use common::{Run, compare, value};
use ctrace_analysis::Verdict;
use ctrace_format::{Detail, SockAddr, TcpState};

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
