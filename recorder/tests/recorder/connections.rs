//! TCP connections, by their sockets.

use crate::support::{calls, record};
use ctrace_format::{ConnectionKind, Detail, SockAddr, TcpState};
use std::collections::BTreeMap;

#[test]
fn refused_established_and_reset_connections_are_told_apart() {
    let Some(r) = record(&[calls().as_os_str(), "tcp".as_ref()]) else { return };
    let all = r.connections();
    assert!(!all.is_empty(), "no connection events; blind: {:?}", r.trace.header().blind);
    let states = |want: &dyn Fn(&ConnectionKind) -> bool| all.iter().filter(|c| want(&c.kind)).count();
    // ECONNREFUSED ends SYN_SENT.
    let refused = states(&|k| {
        matches!(k, ConnectionKind::State { old: TcpState::SynSent, new: TcpState::Close, error: 111 })
    });
    assert_eq!(refused, 1);
    let established = states(&|k| matches!(k, ConnectionKind::State { new: TcpState::Established, .. }));
    // Two connections, both ends of each.
    assert_eq!(established, 4);
    assert_eq!(states(&|k| matches!(k, ConnectionKind::ResetReceived)), 2, "the refusal and the reset");
    let mut totals: Vec<(u64, u64)> = all
        .iter()
        .filter_map(|c| match c.kind {
            ConnectionKind::Closed { bytes_sent, bytes_received, .. } => Some((bytes_sent, bytes_received)),
            _ => None,
        })
        .filter(|t| *t != (0, 0))
        .collect();
    totals.sort_unstable();
    assert_eq!(totals, [(3, 5), (5, 3)]);
}

#[test]
fn a_connection_keeps_its_cookie_and_its_ends() {
    let Some(r) = record(&[calls().as_os_str(), "tcp".as_ref()]) else { return };
    let mut ends: BTreeMap<u64, Vec<(SockAddr, SockAddr)>> = BTreeMap::new();
    for c in r.connections() {
        let known = matches!(&c.peer, SockAddr::Inet(a) if a.port() != 0);
        if known {
            ends.entry(c.cookie.0).or_default().push((c.local, c.peer));
        }
    }
    for (cookie, pairs) in &ends {
        assert!(*cookie != 0);
        let last = pairs.last().unwrap();
        assert!(matches!(&last.0, SockAddr::Inet(a) if a.port() != 0), "{pairs:?}");
    }
    // Every connect names its address, and its object is the socket of the events.
    let connects = r.named("connect");
    assert_eq!(connects.len(), 3);
    assert_eq!(connects[0].errno(), Some(111));
    for call in &connects {
        assert!(
            call.details
                .iter()
                .any(|d| matches!(d, Detail::Addr { addr: SockAddr::Inet(a), .. } if a.port() != 0))
        );
        let ctrace_format::Object::Socket { cookie, .. } = r.trace.object(call.object.unwrap()) else {
            panic!("no socket");
        };
        assert!(ends.contains_key(&cookie.0));
    }
}
