//! Connections, other sockets, and name lookups.

use super::{SockAddr, SockCookie, StrId, TaskId};
use serde::{Deserialize, Serialize};

/// A TCP connection's change of state or a fact about it. Attributed by cookie, not by the current task, since it
/// may happen in softirq context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// When.
    pub t_ns: u64,
    /// The socket.
    pub cookie: SockCookie,
    /// The task that owns the socket, when it is known.
    pub task: Option<TaskId>,
    /// Our end.
    pub local: SockAddr,
    /// The other end.
    pub peer: SockAddr,
    /// What happened.
    pub kind: ConnectionKind,
}

/// Kernel TCP states (`include/net/tcp_states.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub enum TcpState {
    Established = 1,
    SynSent = 2,
    SynRecv = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
    NewSynRecv = 12,
}

impl TcpState {
    /// Its name, as `ss` and the kernel's documentation have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
            Self::NewSynRecv => "NEW_SYN_RECV",
        }
    }
}

/// See [`Connection`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ConnectionKind {
    /// The state changed.
    State {
        /// From.
        old: TcpState,
        /// To.
        new: TcpState,
        /// `sk_err` at that time: 0, or the errno that ended the connection (ECONNREFUSED, ETIMEDOUT, ECONNRESET …).
        error: u16,
    },
    /// A segment was sent again.
    Retransmit,
    /// We sent a RST.
    ResetSent,
    /// We received a RST.
    ResetReceived,
    /// The socket ended; totals of its life.
    Closed {
        /// Payload bytes sent and acknowledged.
        bytes_sent: u64,
        /// Payload bytes received.
        bytes_received: u64,
        /// Smoothed round-trip time, µs; 0 when never measured.
        srtt_us: u32,
        /// Segments retransmitted in all.
        retransmits: u32,
    },
    /// How it does, seen when a segment arrived: at most every 100 ms.
    Sample {
        /// Smoothed round-trip time, µs.
        srtt_us: u32,
        /// Congestion window, segments.
        cwnd: u32,
        /// Window that the peer offers, bytes.
        send_window: u32,
        /// Segments sent and not acknowledged.
        in_flight: u32,
        /// Segments retransmitted so far.
        retransmits: u32,
        /// Payload bytes sent so far.
        bytes_sent: u64,
        /// Payload bytes received so far.
        bytes_received: u64,
    },
}

/// What went through a socket that is no TCP socket (UDP, unix, raw, netlink) in a stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// End of the stretch.
    pub t_ns: u64,
    /// Its start.
    pub from_ns: u64,
    /// The task that used it last, when it is known.
    pub task: Option<TaskId>,
    /// The socket.
    pub cookie: SockCookie,
    /// `AF_*`.
    pub family: u16,
    /// `SOCK_*`.
    pub kind: u16,
    /// `IPPROTO_*`.
    pub protocol: u16,
    /// Our end, when it is bound.
    pub local: Option<SockAddr>,
    /// The other end, when it is connected.
    pub peer: Option<SockAddr>,
    /// Messages sent.
    pub sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Messages received.
    pub received: u64,
    /// Their bytes.
    pub bytes_received: u64,
}

/// A DNS query that the scope sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// When it was sent.
    pub t_ns: u64,
    /// Until its answer was read; without one, until it was sent again or the trace ended.
    pub duration_ns: u64,
    /// Who asked.
    pub task: TaskId,
    /// Through which socket.
    pub cookie: SockCookie,
    /// Whom.
    pub server: SockAddr,
    /// The name, without the final dot.
    pub name: StrId,
    /// Type: 1 A, 28 AAAA, …
    pub qtype: u16,
    /// Response code (0 `NOERROR`, 2 `SERVFAIL`, 3 `NXDOMAIN`, …) and number of answers; `None`: no answer.
    pub answer: Option<(u8, u16)>,
}
