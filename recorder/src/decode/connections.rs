//! What happened to TCP connections.

use super::Decoder;
use crate::objects::both_ends;
use ctrace_abi::{TcpEvent, tcp};
use ctrace_format::{Connection, ConnectionKind, Event, TcpState, TraceWriter};

impl Decoder {
    pub(super) fn tcp(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) -> Option<()> {
        let e: TcpEvent = crate::raw::read(record)?;
        let cookie = self.objects.cookie(e.sk, e.cookie, e.ino);
        let (local, peer) = both_ends(&self.objects.tuple(e.sk, &e.tuple));
        let kind = match e.what {
            tcp::STATE => {
                ConnectionKind::State { old: state(e.old)?, new: state(e.new)?, error: e.error as u16 }
            }
            tcp::RETRANSMIT => ConnectionKind::Retransmit,
            tcp::RESET_SENT => ConnectionKind::ResetSent,
            tcp::RESET_RECEIVED => ConnectionKind::ResetReceived,
            tcp::DESTROY => {
                self.objects.destroyed(e.sk);
                ConnectionKind::Closed {
                    bytes_sent: e.sent,
                    bytes_received: e.received,
                    srtt_us: e.srtt_us,
                    retransmits: e.retransmits,
                }
            }
            tcp::SAMPLE => ConnectionKind::Sample {
                srtt_us: e.srtt_us,
                cwnd: e.cwnd,
                send_window: e.send_window,
                in_flight: e.in_flight,
                retransmits: e.retransmits,
                bytes_sent: e.sent,
                bytes_received: e.received,
            },
            _ => return None,
        };
        let task = self.known_task(w, e.tid);
        push(w, &Event::Connection(Connection { t_ns: self.rel(e.t_ns), cookie, task, local, peer, kind }));
        Some(())
    }
}

/// `include/net/tcp_states.h`.
fn state(raw: u8) -> Option<TcpState> {
    Some(match raw {
        1 => TcpState::Established,
        2 => TcpState::SynSent,
        3 => TcpState::SynRecv,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        6 => TcpState::TimeWait,
        7 => TcpState::Close,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        10 => TcpState::Listen,
        11 => TcpState::Closing,
        12 => TcpState::NewSynRecv,
        _ => return None,
    })
}
