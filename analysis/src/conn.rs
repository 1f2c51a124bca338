//! Streams of bytes that a process takes part in: TCP, UDP and unix sockets, socket pairs, pipes, and the standard
//! descriptors it was started with.
//!
//! A stream is compared by what crossed it, not by how the kernel sliced it: a *turn* is all bytes one way until the
//! direction changes.

use crate::names::NameId;
use crate::seq::Seq;
use ctrace_format::SockAddr;
use serde::Serialize;

/// What kind of stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnKind {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// UDP or another datagram protocol.
    Datagram,
    /// A unix socket.
    Unix,
    /// A pipe or FIFO.
    Pipe,
    /// Standard input, output or error, as inherited from outside the trace.
    Stdio,
    /// Another socket.
    Other,
}

/// Which side opened the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The process connected.
    Client,
    /// The process accepted.
    Server,
    /// The socket listens.
    Listener,
    /// Neither, or not known.
    Unknown,
}

/// How a stream ended for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseKind {
    /// Still open when the recording ended.
    Open,
    /// The process closed it first.
    Local,
    /// The other side closed it first.
    Peer,
    /// A reset.
    Reset,
    /// It never came about: the errno of the connect.
    Failed(u16),
    /// The process ended.
    Exit,
}

/// Bytes one way until the direction changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// True: the process sent them.
    pub sent: bool,
    /// How many.
    pub bytes: u64,
    /// From the end of the turn before (or the start of the connection) to the first call of this one, ns.
    pub gap_ns: u64,
}

/// Turns, packed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns {
    packed: Seq,
    len: u64,
}

impl Turns {
    fn push(&mut self, turn: Turn) {
        // A sequence keeps a symbol and a time: bytes beyond 31 bits are kept as several parts of one turn.
        let mut left = turn.bytes;
        loop {
            let part = left.min((1 << 29) - 1);
            left -= part;
            let symbol = (part as u32) << 2 | u32::from(left > 0) << 1 | u32::from(turn.sent);
            self.packed.push(symbol, turn.gap_ns, 0, 0);
            if left == 0 {
                break;
            }
        }
        self.len += 1;
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    fn iter(&self) -> impl Iterator<Item = Turn> + '_ {
        let mut ops = self.packed.iter();
        std::iter::from_fn(move || {
            let mut bytes = 0;
            loop {
                let op = ops.next()?;
                bytes += u64::from(op.symbol >> 2);
                if op.symbol & 2 == 0 {
                    return Some(Turn { sent: op.symbol & 1 == 1, bytes, gap_ns: op.t_ns });
                }
            }
        })
    }
}

/// One stream of one process.
#[derive(Debug, Clone)]
pub struct Conn {
    /// The process, an index into the model's processes.
    pub process: usize,
    /// What it is.
    pub kind: ConnKind,
    /// Who opened it.
    pub side: Side,
    /// Its run-independent name: `tcp to 10.0.0.7:7003`, `tcp at 0.0.0.0:80`, `pipe`, `stdout`.
    pub name: NameId,
    /// Our address.
    pub local: Option<SockAddr>,
    /// The other address.
    pub peer: Option<SockAddr>,
    /// Socket cookie or pipe inode; the descriptor number of a standard stream.
    pub identity: u64,
    /// First operation.
    pub first_ns: u64,
    /// End of the last operation.
    pub last_ns: u64,
    /// Bytes the process sent.
    pub sent: u64,
    /// Bytes the process received.
    pub received: u64,
    /// How it ended.
    pub close: CloseKind,
    /// Segments sent again, when the kernel told.
    pub retransmits: u32,
    pub(crate) turns: Turns,
    pub(crate) seq: Seq,
    current: Option<Current>,
    /// The process read to the end.
    pub(crate) saw_eof: bool,
    /// The process wrote after the reader had gone.
    pub(crate) broken: bool,
    /// What its connect came to, though that call did not wait, is among its operations.
    pub(crate) is_told: bool,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    sent: bool,
    bytes: u64,
    gap_ns: u64,
}

impl Conn {
    pub(crate) fn new(
        process: usize,
        kind: ConnKind,
        side: Side,
        name: NameId,
        identity: u64,
        t_ns: u64,
    ) -> Self {
        Self {
            process,
            kind,
            side,
            name,
            local: None,
            peer: None,
            identity,
            first_ns: t_ns,
            last_ns: t_ns,
            sent: 0,
            received: 0,
            close: CloseKind::Open,
            retransmits: 0,
            turns: Turns::default(),
            seq: Seq::default(),
            current: None,
            saw_eof: false,
            broken: false,
            is_told: false,
        }
    }

    /// The turns in order.
    pub fn turns(&self) -> impl Iterator<Item = Turn> + '_ {
        self.turns.iter()
    }

    /// Number of turns.
    pub fn turn_count(&self) -> u64 {
        self.turns.len()
    }

    /// Bytes crossed. Returns the time since the previous turn's end when a new turn begins.
    pub(crate) fn transfer(&mut self, sent: bool, bytes: u64, t_ns: u64, end_ns: u64) -> Option<u64> {
        if sent {
            self.sent = self.sent.saturating_add(bytes);
        } else {
            self.received = self.received.saturating_add(bytes);
        }
        let begun = match &mut self.current {
            Some(current) if current.sent == sent => {
                current.bytes = current.bytes.saturating_add(bytes);
                None
            }
            _ => {
                self.end_turn();
                // What was waited for arrives at the end of a receive; what is sent begins at its start.
                let at = if sent { t_ns } else { end_ns };
                let gap_ns = at.saturating_sub(self.last_ns);
                self.current = Some(Current { sent, bytes, gap_ns });
                Some(gap_ns)
            }
        };
        self.last_ns = self.last_ns.max(end_ns);
        begun
    }

    pub(crate) fn eof(&mut self) {
        self.saw_eof = true;
    }

    fn end_turn(&mut self) {
        if let Some(c) = self.current.take() {
            self.turns.push(Turn { sent: c.sent, bytes: c.bytes, gap_ns: c.gap_ns });
        }
    }

    pub(crate) fn fail(&mut self, errno: u16) {
        self.close = CloseKind::Failed(errno);
    }

    pub(crate) fn reset(&mut self) {
        if self.close == CloseKind::Open {
            self.close = CloseKind::Reset;
        }
    }

    /// The process closed its last descriptor, or ended.
    pub(crate) fn closed(&mut self, by_exit: bool, t_ns: u64) {
        if self.close == CloseKind::Open {
            self.close = match (self.saw_eof, by_exit) {
                (true, _) => CloseKind::Peer,
                (false, true) => CloseKind::Exit,
                (false, false) => CloseKind::Local,
            };
        }
        self.last_ns = self.last_ns.max(t_ns);
        self.finish();
    }

    /// No more operations.
    pub(crate) fn finish(&mut self) {
        self.end_turn();
        self.seq.shrink();
        self.turns.packed.shrink();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slicing_does_not_change_turns() {
        let mut one = Conn::new(0, ConnKind::Tcp, Side::Client, NameId(0), 1, 0);
        let mut two = one.clone();
        one.transfer(true, 100, 10, 20);
        one.transfer(false, 500, 30, 40);
        for _ in 0..10 {
            two.transfer(true, 10, 10, 20);
        }
        two.transfer(false, 499, 30, 40);
        two.transfer(false, 1, 41, 42);
        one.closed(false, 50);
        two.closed(false, 50);
        let turns: Vec<_> = one.turns().map(|t| (t.sent, t.bytes)).collect();
        assert_eq!(turns, [(true, 100), (false, 500)]);
        assert_eq!(turns, two.turns().map(|t| (t.sent, t.bytes)).collect::<Vec<_>>());
    }

    #[test]
    fn a_turn_may_be_larger_than_one_packed_part() {
        let mut c = Conn::new(0, ConnKind::Pipe, Side::Unknown, NameId(0), 1, 0);
        c.transfer(true, 5_000_000_000, 10, 20);
        c.closed(true, 30);
        assert_eq!(c.turns().map(|t| t.bytes).collect::<Vec<_>>(), [5_000_000_000]);
        assert_eq!(c.close, CloseKind::Exit);
    }
}
