//! What is sent and received on a connection, and its end.

use super::super::CompileError;
use super::super::calls::nr;
use super::super::emit::{EdgeKind, Emit};
use super::super::wire;
use super::super::world::SockIx;
use super::{Carrier, DATAGRAM_MAX, MSG_NOSIGNAL, PART_BYTES, Peers, SO_LINGER, SOL_SOCKET, Turn, extra};
use ctrace_format::SockAddr;
use ctrace_program::{Expect, Kind, Sel, Step, Wait, flags};
use std::collections::BTreeSet;

impl Peers {
    /// Receives what the workload has sent by `at_ns`, `total` bytes in all.
    pub(super) fn receive_up_to(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        total: u64,
        at_ns: u64,
    ) -> Result<(), CompileError> {
        let Some(conn) = self.conns.get_mut(&sock) else { return Ok(()) };
        if conn.is_datagram() || conn.over {
            return Ok(());
        }
        let task = self.lanes[conn.lane].task;
        let mut left = total.saturating_sub(conn.received);
        conn.received = conn.received.max(total);
        while left > 0 {
            let part = left.min(PART_BYTES);
            left -= part;
            let recv = recv_step(conn.fd, part, at_ns)
                .expect(Expect::Bytes, part as i64)
                .with(flags::STREAM | flags::BLOCKED);
            emit.put(task, &recv)?;
        }
        Ok(())
    }

    /// `n` bytes (0: an end of stream) arrived at the workload.
    pub(crate) fn arrived(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        n: u64,
        turn: Turn,
        to: Option<&SockAddr>,
        after: &[Wait],
    ) -> Result<(), CompileError> {
        self.receive_up_to(emit, sock, turn.after_sent, turn.at_ns)?;
        let Some(conn) = self.conns.get_mut(&sock) else { return Ok(()) };
        if conn.over {
            return Ok(());
        }
        let task = self.lanes[conn.lane].task;
        let gap = turn.at_ns.saturating_sub(conn.last_ns.max(turn.last_send_ns));
        conn.last_ns = conn.last_ns.max(turn.at_ns);
        let mut waits = emit.waits(task, EdgeKind::NotYet, after.iter().copied());
        let mut think = gap;
        let fd = conn.fd;
        let dgram = conn.is_datagram();
        let receiver = conn.sock;
        if let Some(wait) = self.last_datagram.get(&receiver).filter(|_| dgram) {
            emit.wait(task, EdgeKind::Stream, *wait, &mut waits);
        }
        let open_loop = if conn.client { flags::OPEN_LOOP } else { 0 };
        let mut left = n;
        loop {
            let part = if dgram { left.min(DATAGRAM_MAX) } else { left.min(PART_BYTES) };
            let mut step = if n == 0 && !dgram {
                conn.over = false;
                extra(nr::shutdown).imm(0, u64::from(fd)).imm(1, 1)
            } else {
                let nr = if conn.carrier == Carrier::Pipe { nr::write } else { nr::sendto };
                let mut step = extra(nr).imm(0, u64::from(fd)).arg(1, Sel::Out, part).imm(2, part);
                if nr == nr::sendto {
                    step = step.imm(3, MSG_NOSIGNAL).imm(4, 0).imm(5, 0);
                }
                if let Some(to) = to.filter(|_| dgram) {
                    let bytes = wire::sockaddr(to);
                    let blob = emit.data(&bytes)?;
                    step.arg(4, Sel::Data, blob).imm(5, bytes.len() as u64)
                } else {
                    let mut step = step.expect(Expect::Bytes, part as i64).with(flags::STREAM).aux(4);
                    step.len_arg = 2;
                    step
                }
            };
            step.think_sleep_ns = think;
            step.t_ns = turn.at_ns;
            step.flags |= open_loop;
            think = 0;
            let step = emit.put_after(task, &step, &waits)?;
            waits.clear();
            if dgram {
                self.last_datagram.insert(receiver, Wait::completed(task, step));
            }
            left = if dgram { 0 } else { left.saturating_sub(part) };
            if left == 0 {
                return Ok(());
            }
        }
    }

    /// The other end is gone, with a reset or properly. Returns what a call that notices it has to wait for.
    pub(crate) fn gone(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        turn: Turn,
        reset: bool,
        after: &[Wait],
    ) -> Result<Option<Wait>, CompileError> {
        self.receive_up_to(emit, sock, turn.after_sent, turn.at_ns)?;
        let Some(conn) = self.conns.get_mut(&sock) else { return Ok(None) };
        if conn.over || conn.is_datagram() {
            return Ok(None);
        }
        conn.over = true;
        let task = self.lanes[conn.lane].task;
        let fd = conn.fd;
        let gap = turn.at_ns.saturating_sub(conn.last_ns.max(turn.last_send_ns));
        let waits = emit.waits(task, EdgeKind::NotYet, after.iter().copied());
        let mut first = Step::of(Kind::Sync);
        first.think_sleep_ns = gap;
        first.t_ns = turn.at_ns;
        emit.put_after(task, &first, &waits)?;
        if reset {
            let linger = emit.data(&[1_u32.to_ne_bytes(), 0_u32.to_ne_bytes()].concat())?;
            let step = extra(nr::setsockopt)
                .imm(0, u64::from(fd))
                .imm(1, SOL_SOCKET)
                .imm(2, SO_LINGER)
                .arg(3, Sel::Data, linger)
                .imm(4, 8);
            emit.put(task, &step)?;
        }
        let step = emit.put(task, &extra(nr::close).imm(0, u64::from(fd)))?;
        Ok(Some(Wait::completed(task, step)))
    }

    /// The workload closed its end after sending `total` bytes in all.
    pub(crate) fn closed(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        total: u64,
        at_ns: u64,
    ) -> Result<(), CompileError> {
        self.last_datagram.remove(&sock);
        let others: BTreeSet<SockIx> =
            self.correspondents.remove(&sock).unwrap_or_default().into_values().collect();
        for key in others {
            if key != sock {
                self.leave(emit, key, 0, at_ns)?;
            }
        }
        self.leave(emit, sock, total, at_ns)
    }

    /// One of those on the other end has received `total` bytes, and closes.
    pub(super) fn leave(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        total: u64,
        at_ns: u64,
    ) -> Result<(), CompileError> {
        self.receive_up_to(emit, sock, total, at_ns)?;
        let Some(conn) = self.conns.remove(&sock) else { return Ok(()) };
        let task = self.lanes[conn.lane].task;
        if let Some(at) = &conn.at
            && let Some(there) = self.at.get_mut(at)
        {
            there.remove(&sock);
            if there.is_empty() {
                self.at.remove(at);
            }
        }
        if !conn.over {
            if !conn.is_datagram() {
                emit.put(task, &recv_step(conn.fd, 4096, at_ns))?;
            }
            emit.put(task, &extra(nr::close).imm(0, u64::from(conn.fd)))?;
        }
        self.free.insert((at_ns, conn.lane));
        Ok(())
    }
}

/// Receives what the workload had sent by `at_ns`.
pub(super) fn recv_step(fd: u32, len: u64, at_ns: u64) -> Step {
    let mut step = extra(nr::recvfrom)
        .imm(0, u64::from(fd))
        .arg(1, Sel::Out, len)
        .imm(2, len)
        .imm(3, 0)
        .imm(4, 0)
        .imm(5, 0);
    step.len_arg = 2;
    step.aux = 1;
    step.t_ns = at_ns;
    step
}
