//! Resets of connections, without those that refuse one.
//!
//! The kernel tells a refused attempt twice: that a reset was received, and right after it that the socket went from
//! `SYN_SENT` to `CLOSE` with `ECONNREFUSED` (`tcp_reset`, `net/ipv4/tcp_input.c`). No connection that existed was reset.

use ctrace_format::{Connection, ConnectionKind, SockCookie, TcpState};
use rustc_hash::FxHashMap;

/// Resets whose meaning is not known yet. The kernel tells it within microseconds.
const MAX_OPEN: usize = 4096;

/// The meaning of an event for a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    /// There was one.
    Seen,
    /// The one that was seen at this time refused a connection: it is none.
    Refused { seen_ns: u64 },
}

/// Follows the events of connections.
#[derive(Debug, Default)]
pub(crate) struct Resets {
    open: FxHashMap<SockCookie, u64>,
}

impl Resets {
    pub(crate) fn observe(&mut self, change: &Connection) -> Option<Reset> {
        match change.kind {
            ConnectionKind::ResetReceived | ConnectionKind::ResetSent => {
                if self.open.len() >= MAX_OPEN {
                    self.open.clear();
                }
                self.open.insert(change.cookie, change.t_ns);
                Some(Reset::Seen)
            }
            ConnectionKind::State { old, new, .. } => {
                let seen_ns = self.open.remove(&change.cookie)?;
                let is_refusal = old == TcpState::SynSent && new == TcpState::Close;
                is_refusal.then_some(Reset::Refused { seen_ns })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctrace_format::SockAddr;

    fn change(cookie: u64, t_ns: u64, kind: ConnectionKind) -> Connection {
        let at = SockAddr::Inet("127.0.0.1:1".parse().unwrap());
        Connection { t_ns, cookie: SockCookie(cookie), task: None, local: at.clone(), peer: at, kind }
    }

    #[test]
    fn a_reset_that_refuses_is_none() {
        const REFUSED: u16 = 111;
        let mut resets = Resets::default();
        let closed = |old, error| ConnectionKind::State { old, new: TcpState::Close, error };
        let mut told = |cookie, t_ns, kind| resets.observe(&change(cookie, t_ns, kind));
        assert_eq!(told(1, 10, ConnectionKind::ResetReceived), Some(Reset::Seen));
        assert_eq!(told(2, 11, ConnectionKind::ResetReceived), Some(Reset::Seen));
        assert_eq!(told(1, 12, closed(TcpState::SynSent, REFUSED)), Some(Reset::Refused { seen_ns: 10 }));
        // A reset of a connection that existed stays one.
        assert_eq!(told(2, 13, closed(TcpState::Established, 104)), None);
        assert_eq!(told(2, 14, closed(TcpState::SynSent, REFUSED)), None);
    }
}
