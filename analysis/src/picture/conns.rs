//! One connection: what is known of it, and its row.

use super::edges::{Far, Protocol};
use super::{ConnectionRow, Grid, processes};
use crate::EventId;
use crate::findings::called::Called;
use crate::findings::people::{Actor, People};
use crate::findings::places::Places;
use crate::findings::words;
use ctrace_format::SockAddr;
use ctrace_format::errno::{ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT};

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Ended {
    #[default]
    Open,
    Closed,
    ClosedByPeer,
    Reset,
    ResetByPeer,
    Refused,
    TimedOut,
    Unreachable,
    Failed,
}

impl Ended {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::ClosedByPeer => "closed by peer",
            Self::Reset => "reset",
            Self::ResetByPeer => "reset by peer",
            Self::Refused => "refused",
            Self::TimedOut => "timed out",
            Self::Unreachable => "unreachable",
            Self::Failed => "failed",
        }
    }

    pub(super) const fn is_failure(self) -> bool {
        !matches!(self, Self::Open | Self::Closed | Self::ClosedByPeer)
    }

    pub(super) const fn of(errno: u16) -> Self {
        match errno {
            ECONNREFUSED => Self::Refused,
            ETIMEDOUT => Self::TimedOut,
            ECONNRESET => Self::ResetByPeer,
            EHOSTUNREACH | ENETUNREACH => Self::Unreachable,
            _ => Self::Failed,
        }
    }
}

/// One connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Conn {
    pub(super) from_ns: u64,
    pub(super) last_ns: u64,
    /// It was there when recording began.
    pub(super) is_old: bool,
    pub(super) actor: Option<Actor>,
    pub(super) local: Option<SockAddr>,
    pub(super) peer: Option<SockAddr>,
    pub(super) protocol: Option<Protocol>,
    /// This end connected.
    pub(super) is_outgoing: Option<bool>,
    /// As calls moved them, and as the kernel counted them: sent, received.
    pub(super) moved: [u64; 2],
    pub(super) counted: [u64; 2],
    pub(super) connect_ns: Option<u64>,
    /// The end of the last call that asked, without an answer so far.
    pub(super) asked_ns: Option<u64>,
    pub(super) slowest: Option<(u64, u64)>,
    pub(super) kernel: Kernel,
    pub(super) ended: Ended,
    /// The other end said that it sends nothing more.
    pub(super) saw_end: bool,
    pub(super) event: Option<EventId>,
    /// Where its answers are counted.
    pub(super) edge: Option<u32>,
}

/// The kernel's own words about a connection: its states and samples.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kernel {
    pub(super) srtt_us: u32,
    pub(super) retransmits: u64,
    pub(super) is_told: bool,
}

impl Conn {
    /// The first failure is the one that counts, except that a refusal says more than the reset that it came with.
    pub(super) fn fail(&mut self, ended: Ended, event: EventId) {
        let is_better =
            matches!(ended, Ended::Refused) && matches!(self.ended, Ended::ResetByPeer | Ended::Reset);
        if !self.ended.is_failure() || is_better {
            self.ended = ended;
            self.event = Some(event);
        }
    }

    pub(super) fn measured(&mut self, srtt_us: u32, retransmits: u32) {
        if srtt_us > 0 {
            self.kernel.srtt_us = srtt_us;
        }
        self.kernel.retransmits = self.kernel.retransmits.max(u64::from(retransmits));
    }

    /// Bytes sent and received. Of a connection that is older than the recording the kernel counted more than was seen.
    pub(super) fn bytes(&self) -> [u64; 2] {
        let is_counted = !self.is_old && self.counted.iter().sum::<u64>() > self.moved.iter().sum();
        if is_counted { self.counted } else { self.moved }
    }
}

pub(super) fn row(
    conn: &Conn,
    grid: &Grid,
    people: &People,
    places: &mut Places,
    called: &Called,
) -> ConnectionRow {
    let address = |addr: Option<&SockAddr>| addr.map(words::address).unwrap_or_default();
    let name = match &conn.peer {
        Some(SockAddr::Inet(peer)) => called.name(peer.ip()).map(|place| places.name(place).to_owned()),
        _ => None,
    };
    let peer = address(conn.peer.as_ref());
    let process = conn.actor.map(|actor| people.process(actor.process));
    let [sent_bytes, received_bytes] = conn.bytes();
    ConnectionRow {
        from_ns: conn.from_ns,
        to_ns: if conn.ended == Ended::Open { grid.end_ns().max(conn.last_ns) } else { conn.last_ns },
        role: process.map(processes::role).unwrap_or_default(),
        tgid: process.map(|process| process.tgid),
        local: address(conn.local.as_ref()),
        peer: name.map_or_else(|| peer.clone(), |name| format!("{name} ({peer})")),
        protocol: conn.protocol.map_or("tcp", Protocol::name),
        is_outgoing: conn.is_outgoing.unwrap_or(true),
        sent_bytes,
        received_bytes,
        connect_ns: conn.connect_ns,
        slowest_answer: conn.slowest,
        rtt_ns: (conn.kernel.srtt_us > 0).then(|| u64::from(conn.kernel.srtt_us) * 1_000),
        retransmits: conn.kernel.retransmits,
        ended: conn.ended.name(),
        event: conn.event,
    }
}

/// The other end of a connection, as the map tells ends apart.
pub(super) fn far_of(conn: &Conn) -> Option<Far> {
    match (conn.is_outgoing, &conn.peer, &conn.local) {
        (Some(false), Some(SockAddr::Inet(peer)), _) => Some(Far::Client(peer.ip())),
        (Some(false), _, Some(local)) if conn.protocol == Some(Protocol::Unix) => {
            Some(Far::Clients(local.clone()))
        }
        (Some(true) | None, Some(peer), _) => Some(Far::Peer(peer.clone())),
        _ => None,
    }
}

/// An address that names something.
pub(super) fn named(addr: Option<&SockAddr>) -> Option<SockAddr> {
    addr.filter(|addr| match addr {
        SockAddr::Unix(path) => !path.is_empty(),
        SockAddr::Inet(addr) => addr.port() != 0,
        _ => false,
    })
    .cloned()
}
