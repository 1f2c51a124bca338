//! A peer plays its connection turn by turn: it receives, waits, sends and closes.

use super::hands::{Act, LEFT};
use super::{
    Carrier, Conn, FIRST_FD, IP_MINTTL, IPPROTO_IP, IPPROTO_IPV6, IPV6_MINHOPCOUNT, MSG_NOSIGNAL, Peers,
    THREAD, end_step, extra, recv_step, resets,
};
use crate::compile::calls::nr;
use crate::compile::emit::{EdgeKind, Emit};
use crate::compile::world::SockIx;
use crate::compile::{CompileError, wire};
use ctrace_format::SockAddr;
use ctrace_program::{Expect, Kind, PARKED, Post, Sel, Step, Wait, fd_operand, flags};
use std::collections::BTreeSet;

/// One stream step moves at most this much.
pub(super) const PART_BYTES: u64 = 1 << 20;

/// How far in time an arrival is from the moment before, and what it waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Bytes the workload had sent before.
    pub(crate) after_sent: u64,
    /// When it arrived.
    pub(crate) at_ns: u64,
    /// When the workload had last sent.
    pub(crate) last_send_ns: u64,
}

/// How somebody goes whose other end the workload has closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaving {
    /// Bytes the workload had sent in all.
    pub(crate) total: u64,
    /// When the workload closed its end.
    pub(crate) at_ns: u64,
    /// When they answered with a reset, if they did.
    pub(crate) reset_ns: Option<u64>,
    /// A step that found them there.
    pub(crate) after: Option<Wait>,
    /// The workload's close, when the reset was all that they answered to it: they read nothing of what came last.
    pub(crate) unheard: Option<Wait>,
}

impl Leaving {
    /// They received nothing more.
    pub(super) const fn at(at_ns: u64) -> Self {
        Self { total: 0, at_ns, reset_ns: None, after: None, unheard: None }
    }
}

/// Receives what the workload has sent by `at_ns`, `total` bytes in all.
fn receive_up_to(
    emit: &mut Emit,
    act: &mut Act,
    conn: &mut Conn,
    total: u64,
    at_ns: u64,
) -> Result<(), CompileError> {
    if conn.is_datagram() || conn.over {
        return Ok(());
    }
    let mut left = total.saturating_sub(conn.received);
    conn.received = conn.received.max(total);
    while left > 0 {
        let part = left.min(PART_BYTES);
        left -= part;
        let recv = recv_step(conn.fd, part, at_ns)
            .expect(Expect::Bytes, part as i64)
            .with(flags::STREAM | flags::BLOCKED);
        let done = act.put(emit, &recv)?;
        conn.done = conn.shared.then_some(done);
    }
    Ok(())
}

/// From here on, a peer acknowledges nothing. In the sandbox, acknowledgements come at once, and of a socket whose end was
/// acknowledged nothing is left that a reset could come to (`tcp_time_wait`, `net/ipv4/tcp_minisocks.c`). So the peer does not
/// take what has not come from afar: no packet has so many hops left (`tcp_v4_rcv`, `net/ipv4/tcp_ipv4.c`).
fn hears_no_more(emit: &mut Emit, act: &mut Act, conn: &Conn) -> Result<(), CompileError> {
    let most = emit.data(&255_u32.to_ne_bytes())?;
    let (level, option) = match &conn.at {
        Some(SockAddr::Inet(at)) if at.is_ipv6() => (IPPROTO_IPV6, IPV6_MINHOPCOUNT),
        _ => (IPPROTO_IP, IP_MINTTL),
    };
    let step = extra(nr::setsockopt).imm(0, u64::from(conn.fd)).imm(1, level).imm(2, option);
    act.put(emit, &step.arg(3, Sel::Data, most).imm(4, 4).expect(Expect::Exact, 0))?;
    Ok(())
}

impl Peers {
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
        self.catch_up(emit, turn.at_ns)?;
        let said = self.conns.get_mut(&sock).map_or(0, |conn| {
            let said = conn.said.min(n);
            conn.said -= said;
            said
        });
        if said > 0 && said == n {
            return Ok(());
        }
        self.say(emit, sock, n - said, turn, to, after)
    }

    /// Somebody sends `n` bytes, or says that there are no more.
    pub(super) fn say(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        n: u64,
        turn: Turn,
        to: Option<&SockAddr>,
        after: &[Wait],
    ) -> Result<(), CompileError> {
        let Some(mut conn) = self.conns.remove(&sock) else { return Ok(()) };
        let said = if conn.over { Ok(()) } else { self.say_as(emit, &mut conn, n, turn, to, after) };
        self.conns.insert(sock, conn);
        said
    }

    fn say_as(
        &mut self,
        emit: &mut Emit,
        conn: &mut Conn,
        n: u64,
        turn: Turn,
        to: Option<&SockAddr>,
        after: &[Wait],
    ) -> Result<(), CompileError> {
        let mut act = self.act(emit, conn, turn.at_ns)?;
        receive_up_to(emit, &mut act, conn, turn.after_sent, turn.at_ns)?;
        let gap = turn.at_ns.saturating_sub(conn.last_ns.max(turn.last_send_ns).max(act.before_ns));
        conn.last_ns = conn.last_ns.max(turn.at_ns);
        for wait in after {
            act.wait(emit, EdgeKind::NotYet, *wait);
        }
        conn.sent = conn.sent.saturating_add(n);
        if conn.hears_until == Some(conn.sent) {
            hears_no_more(emit, &mut act, conn)?;
        }
        let mut think = gap;
        let fd = conn.fd;
        let dgram = conn.is_datagram();
        let receiver = conn.sock;
        if let Some(wait) = self.last_datagram.get(&receiver).filter(|_| dgram) {
            act.wait(emit, EdgeKind::Stream, *wait);
        }
        let open_loop = if conn.client { flags::OPEN_LOOP } else { 0 };
        let mut left = n;
        loop {
            let part = if dgram { left.min(65_536) } else { left.min(PART_BYTES) };
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
            let done = act.put(emit, &step)?;
            conn.done = conn.shared.then_some(done);
            if dgram {
                self.last_datagram.insert(receiver, done);
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
        self.catch_up(emit, turn.at_ns)?;
        let Some(mut conn) = self.conns.remove(&sock) else { return Ok(None) };
        let gone = if conn.over || conn.is_datagram() {
            Ok(None)
        } else {
            self.go(emit, &mut conn, turn, reset, after).map(Some)
        };
        self.conns.insert(sock, conn);
        gone
    }

    fn go(
        &mut self,
        emit: &mut Emit,
        conn: &mut Conn,
        turn: Turn,
        reset: bool,
        after: &[Wait],
    ) -> Result<Wait, CompileError> {
        let mut act = self.act(emit, conn, turn.at_ns)?;
        receive_up_to(emit, &mut act, conn, turn.after_sent, turn.at_ns)?;
        conn.over = true;
        let fd = conn.fd;
        let gap = turn.at_ns.saturating_sub(conn.last_ns.max(turn.last_send_ns).max(act.before_ns));
        for wait in after {
            act.wait(emit, EdgeKind::NotYet, *wait);
        }
        let mut first = Step::of(Kind::Sync);
        first.think_sleep_ns = gap;
        first.t_ns = turn.at_ns;
        act.put(emit, &first)?;
        if reset {
            resets(emit, act.task, fd)?;
        }
        let closed = act.put(emit, &extra(nr::close).imm(0, u64::from(fd)))?;
        conn.done = conn.shared.then_some(closed);
        if let Some(at) = conn.at.take() {
            self.vacated.insert(at, closed);
        }
        Ok(closed)
    }

    /// The other end receives `total` bytes in all, and then hears that the workload sends no more.
    pub(crate) fn hears_the_end(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        total: u64,
        at_ns: u64,
    ) -> Result<(), CompileError> {
        self.catch_up(emit, at_ns)?;
        let Some(mut conn) = self.conns.remove(&sock) else { return Ok(()) };
        if !conn.over && !conn.is_datagram() {
            let mut act = self.act(emit, &mut conn, at_ns)?;
            receive_up_to(emit, &mut act, &mut conn, total, at_ns)?;
            let done = act.put(emit, &end_step(conn.fd, at_ns))?;
            conn.done = conn.shared.then_some(done);
        }
        self.conns.insert(sock, conn);
        Ok(())
    }

    /// Somebody who has just connected sends so many bytes in all, and then acknowledges nothing more, see
    /// [`Leaving::unheard`].
    pub(crate) fn will_not_hear(&mut self, sock: SockIx, sends: u64) {
        if let Some(conn) = self.conns.get_mut(&sock) {
            conn.hears_until = Some(sends);
        }
    }

    /// The workload closed its end.
    pub(crate) fn closed(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        leaving: Leaving,
    ) -> Result<(), CompileError> {
        self.last_datagram.remove(&sock);
        let others: BTreeSet<SockIx> =
            self.correspondents.remove(&sock).unwrap_or_default().into_values().collect();
        for key in others {
            if key != sock {
                self.leave(emit, key, Leaving::at(leaving.at_ns))?;
            }
        }
        self.leave(emit, sock, leaving)
    }

    /// One of those on the other end has received all, and closes.
    pub(super) fn leave(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        leaving: Leaving,
    ) -> Result<(), CompileError> {
        let at_ns = leaving.at_ns;
        self.catch_up(emit, at_ns)?;
        let Some(mut conn) = self.conns.remove(&sock) else { return Ok(()) };
        if let Some(at) = &conn.at
            && let Some(there) = self.at.get_mut(at)
        {
            there.remove(&sock);
        }
        let unseen = leaving.reset_ns.is_none() && leaving.unheard.is_none() && leaving.after.is_none();
        if conn.shared && unseen && !conn.over {
            self.left.push_back((conn, leaving));
            return self.all_leave(emit, LEFT, at_ns);
        }
        if !conn.over {
            // Until the reset, whoever is to send it does nothing else.
            let until_ns = leaving.reset_ns.map_or(at_ns, |reset_ns| reset_ns.max(at_ns));
            let act = self.act(emit, &mut conn, until_ns)?;
            self.part(emit, act, &mut conn, leaving)?;
        }
        self.free(&conn, at_ns);
        Ok(())
    }

    /// A client that has received all hears that this was all, and closes.
    pub(super) fn part(
        &mut self,
        emit: &mut Emit,
        mut act: Act,
        conn: &mut Conn,
        leaving: Leaving,
    ) -> Result<(), CompileError> {
        let Leaving { total, at_ns, reset_ns, after, unheard } = leaving;
        let unheard = unheard.filter(|_| conn.hears_until.is_some());
        if unheard.is_none() {
            receive_up_to(emit, &mut act, conn, total, at_ns)?;
        }
        if !conn.is_datagram() {
            match unheard {
                Some(closed) => act.wait(emit, EdgeKind::Connection, closed),
                None => {
                    act.put(emit, &end_step(conn.fd, at_ns))?;
                }
            }
            if let Some(reset_ns) = reset_ns {
                let mut then = Step::of(Kind::Sync);
                then.think_sleep_ns = reset_ns.saturating_sub(at_ns.max(act.before_ns));
                then.t_ns = reset_ns;
                act.put(emit, &then)?;
                resets(emit, act.task, conn.fd)?;
            }
        }
        if let Some(wait) = after {
            act.wait(emit, EdgeKind::NotYet, wait);
        }
        let closed = act.put(emit, &extra(nr::close).imm(0, u64::from(conn.fd)))?;
        conn.done = conn.shared.then_some(closed);
        if conn.carrier == Carrier::Stream
            && let Some(at) = &conn.at
        {
            self.vacated.insert(at.clone(), closed);
        }
        Ok(())
    }

    /// The end of the recording, at `end_ns`: open connections take what is still to come. Then the peer process makes its threads.
    pub(crate) fn finish(
        &mut self,
        emit: &mut Emit,
        sent: &dyn Fn(SockIx) -> u64,
        end_ns: u64,
    ) -> Result<Option<u32>, CompileError> {
        let mut open: Vec<SockIx> = self.conns.keys().copied().collect();
        open.sort_unstable();
        self.catch_up(emit, end_ns)?;
        self.all_leave(emit, 0, end_ns)?;
        for sock in open {
            let Some(mut conn) = self.conns.remove(&sock) else { continue };
            // An act is for steps: its waits are taken to have been made.
            if sent(sock) > conn.received {
                let mut act = self.act(emit, &mut conn, end_ns)?;
                receive_up_to(emit, &mut act, &mut conn, sent(sock), end_ns)?;
            }
        }
        let Some(root) = self.root else { return Ok(None) };
        // A write to a pipe whose readers are gone fails, and ends nobody: threads inherit the mask (signal(7)).
        let broken_pipe = emit.data(&(1_u64 << (libc::SIGPIPE - 1)).to_ne_bytes())?;
        let block = extra(nr::rt_sigprocmask).imm(0, libc::SIG_BLOCK as u64).arg(1, Sel::Data, broken_pipe);
        emit.put(root, &block.imm(2, 0).imm(3, 8))?;
        // Their table of descriptors grows before they share it, see `Lower::room_for_parked`: else the first of them that
        // gets a socket keeps all of them waiting, and whoever it was about to call.
        let last = FIRST_FD + self.next_fd.max(PARKED as u32 - FIRST_FD);
        let something = extra(nr::eventfd2).imm(0, 0).imm(1, 0);
        emit.put(root, &something.expect(Expect::Success, 0).post(Post::Fd, fd_operand(last, true)))?;
        emit.put(root, &extra(nr::close).imm(0, u64::from(last)))?;
        emit.meter.descriptor(last as i32);
        for task in &self.tasks {
            let clone = Step { nr: nr::clone, ..Step::of(Kind::Clone) }
                .with(flags::EXTRA)
                .imm(0, THREAD)
                .expect(Expect::Success, 0)
                .aux(u64::from(*task));
            emit.put(root, &clone)?;
        }
        emit.put(root, &Step::of(Kind::Gate))?;
        emit.put(root, &Step::of(Kind::Park))?;
        Ok(Some(root))
    }
}
