//! What crosses the border of the recording: connections, arrivals, ends.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::connects::Answer;
use super::super::io::messages::senders;
use super::super::model::Cx;
use super::super::netlink;
use super::super::peers::{Leaving, Turn};
use super::super::setup;
use super::super::world::{
    Arrival, BLOCKED_NS, Mark, OfdIx, OfdKind, SockIx, SockState, World, canonical, detail_addr,
    detail_messages,
};
use super::{Lower, reachable};
use ctrace_format::SockAddr;
use ctrace_program::Wait;

const MSG_PEEK: u64 = 2;
const MSG_ERRQUEUE: u64 = 0x2000;
const EPIPE: i64 = -32;
const ECONNRESET: i64 = -104;
const ENOTCONN: i64 = -107;

/// Whether a call takes several datagrams that were there when it began.
fn takes_several(cx: &Cx<'_>) -> bool {
    cx.known.sc == Sc::Recvmmsg && cx.call.ret > 1 && cx.call.duration_ns < BLOCKED_NS
}

impl Lower<'_> {
    /// Forgets what is over; the step `by` was the end of it.
    pub(super) fn drain_gone(&mut self, at_ns: u64, by: Option<Wait>) -> Result<(), CompileError> {
        for ofd in std::mem::take(&mut self.world.gone_ofds) {
            self.order.forget_description(ofd);
            self.kept.watches.forget(ofd);
            self.kept.instances.forget(ofd);
        }
        for sock in std::mem::take(&mut self.world.gone_socks) {
            let state = &self.world.socks[sock as usize];
            let reset_ns = self.facts.reset.get(&state.cookie).copied();
            // A shutdown found the connection there: the other end had not gone by then.
            let there = self.order.streams.ended_before(sock, at_ns).map(|mark| self.emit.done(mark));
            let unheard = by.filter(|_| self.facts.unheard.contains_key(&state.cookie));
            let leaving = Leaving { total: state.sent, at_ns, reset_ns, after: there, unheard };
            self.peers.closed(&mut self.emit, sock, leaving)?;
            let (order, model) = self.looking();
            order.forget_socket(&model, sock);
        }
        Ok(())
    }

    /// A connect to somebody outside: they have to be listening, or not to be.
    pub(crate) fn before_connect(&mut self, cx: &Cx<'_>) -> Result<Option<Wait>, CompileError> {
        if cx.known.sc != Sc::Connect {
            return Ok(None);
        }
        let Some(addr) = detail_addr(cx.call, 1) else { return Ok(None) };
        let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32) else { return Ok(None) };
        let addr = self.world.absolute(cx.task, addr);
        let state = &self.world.socks[sock as usize];
        let (kind, datagram) = (state.kind, state.is_datagram());
        let asks = self.peers.plays(sock);
        if !matches!(addr, SockAddr::Inet(_) | SockAddr::Unix(_))
            || self.model().is_inside(sock)
            || datagram
            || asks
        {
            return Ok(None);
        }
        if self.world.listener(&addr).is_some() && self.world.socks[sock as usize].family != 1 {
            // Somebody inside listens there, and yet nobody inside accepted: it waits in the backlog for ever.
            return Ok(None);
        }
        let key = canonical(&addr);
        let Some(answer) = self.facts.connects.answer(cx.call, &addr, state.cookie) else { return Ok(None) };
        let first = self.facts.connects.first(&key).unwrap_or(answer);
        self.peers.before_connect(&mut self.emit, &addr, kind, answer, first)
    }

    /// After a connect or an accept: who plays the other end.
    pub(super) fn after_connect(
        &mut self,
        cx: &Cx<'_>,
        mark: Mark,
        arrival: Option<(Arrival, Vec<Wait>)>,
    ) -> Result<(), CompileError> {
        self.world.newly_paired();
        let me = self.emit.prog(cx.task);
        match cx.known.sc {
            Sc::Connect => {
                let Some(addr) = detail_addr(cx.call, 1) else { return Ok(()) };
                let addr = self.world.absolute(cx.task, addr);
                self.peers.asked_by(&addr, Wait::completed(me, mark.step));
                if cx.call.ret != 0 && cx.call.ret != -115 {
                    return Ok(());
                }
                let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32) else { return Ok(()) };
                self.has_arrived(cx.task, sock, mark);
                // A second connect of one in progress only asks how the first went.
                let cookie = self.world.socks[sock as usize].cookie;
                let accepts = self.facts.connects.answer(cx.call, &addr, cookie) == Some(Answer::Accepts);
                if self.model().is_inside(sock) || !accepts || self.peers.plays(sock) {
                    return Ok(());
                }
                if self.world.socks[sock as usize].is_datagram() {
                    return Ok(());
                }
                let at_ns = mark.end_ns;
                self.peers.serve(&mut self.emit, sock, &addr, at_ns, Wait::entered(me, mark.step))?;
            }
            Sc::Accept | Sc::Accept4 if cx.call.ret >= 0 => {
                let Some(sock) = self.world.sock_of(cx.task, cx.call.ret as i32) else { return Ok(()) };
                let Some(listener) = self.world.sock_of(cx.task, cx.call.args[0] as i32) else {
                    return Ok(());
                };
                if !self.model().is_inside(sock) {
                    self.was_accepted(cx, sock, listener, arrival)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits for those who had looked before something arrived at `at_ns`.
    pub(crate) fn looked_before(&self, ofd: OfdIx, at_ns: u64) -> Vec<Wait> {
        self.model()
            .idle(Some(ofd))
            .into_iter()
            .filter(|mark| mark.end_ns <= at_ns)
            .map(|mark| self.emit.done(&mark))
            .collect()
    }

    /// When what a read or accept took had arrived.
    pub(crate) fn arrival(&self, cx: &Cx<'_>, ofd: OfdIx, sent: u64) -> Arrival {
        let end_ns = cx.call.t_ns.saturating_add(cx.call.duration_ns);
        match self.world.ofds[ofd as usize].ready {
            Some(ready) => ready,
            None if cx.call.duration_ns >= BLOCKED_NS => {
                Arrival { at_ns: end_ns, after_sent: sent, exact: true }
            }
            None => Arrival { at_ns: cx.call.t_ns, after_sent: sent, exact: false },
        }
    }

    /// Lets a peer send what a call took from outside. Returns when the connection that an accept takes had arrived, and who
    /// had looked for it before.
    pub(super) fn arrivals(&mut self, cx: &Cx<'_>) -> Result<Option<(Arrival, Vec<Wait>)>, CompileError> {
        let fd = cx.fd(0);
        match cx.known.sc {
            Sc::Accept | Sc::Accept4 if cx.call.ret >= 0 => {
                return Ok(self.world.ofd_of(cx.task, fd).map(|ofd| {
                    let arrival = self.arrival(cx, ofd, 0);
                    (arrival, self.looked_before(ofd, arrival.at_ns))
                }));
            }
            Sc::Read | Sc::Readv | Sc::Recvfrom | Sc::Recvmsg | Sc::Recvmmsg if cx.call.ret >= 0 => {
                let flags_arg = match cx.known.sc {
                    Sc::Recvfrom | Sc::Recvmmsg => Some(3),
                    Sc::Recvmsg => Some(2),
                    _ => None,
                };
                let flags = flags_arg.map_or(0, |i| cx.call.args[i]);
                // A look takes nothing, but the end of the stream has come by then.
                let ended = cx.call.ret == 0 && cx.known.sc == Sc::Recvfrom && cx.call.args[2] > 0;
                if flags & MSG_ERRQUEUE != 0 || flags & MSG_PEEK != 0 && !ended {
                    return Ok(None);
                }
                if !takes_several(cx) {
                    self.took(cx, fd, cx.call.moved())?;
                }
            }
            Sc::Splice | Sc::Tee if cx.call.ret >= 0 => self.took(cx, fd, cx.call.ret as u64)?,
            Sc::Sendto | Sc::Sendmsg | Sc::Sendmmsg | Sc::Write | Sc::Writev if cx.call.ret >= 0 => {
                if let Some(sock) = self.world.sock_of(cx.task, fd)
                    && self.world.socks[sock as usize].is_datagram()
                {
                    let lens: Vec<u64> = match detail_messages(cx.call) {
                        Some(entries) => entries.iter().map(|message| u64::from(message.moved)).collect(),
                        None => vec![cx.call.ret as u64],
                    };
                    let is_netlink = netlink::is(&self.world.socks[sock as usize]);
                    let before = self.world.socks[sock as usize].sends;
                    let is_unheard = self.facts.refusals.is_unheard(sock, before);
                    let end_ns = cx.call.t_ns.saturating_add(cx.call.duration_ns);
                    for (to, n) in World::destinations(cx.call, cx.known.sc).into_iter().zip(lens) {
                        let to = to.or(self.world.socks[sock as usize].peer.clone());
                        let to = to.map(|to| reachable(self.world.absolute(cx.task, &to)));
                        let to = if is_netlink { Some(netlink::kernel(sock)) } else { to };
                        if let Some(to) = to.as_ref().filter(|_| is_unheard) {
                            let me = self.emit.prog(cx.task);
                            let step = self.emit.next_step(me).saturating_sub(1);
                            self.peers.deserted(to, Wait::completed(me, step));
                            continue;
                        }
                        let key = self.peers.correspondent(sock, to.as_ref()).unwrap_or(sock);
                        self.peers.sent_datagram(&mut self.emit, key, n, end_ns)?;
                    }
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// Lets peers send the datagrams that a call takes all at once, before it. Returns what it has to wait for.
    pub(super) fn come_together(&mut self, cx: &Cx<'_>) -> Result<Option<Wait>, CompileError> {
        if !takes_several(cx) {
            return Ok(None);
        }
        self.took(cx, cx.fd(0), cx.call.moved())?;
        Ok(self.world.sock_of(cx.task, cx.fd(0)).and_then(|sock| self.peers.last_datagram(sock)))
    }

    pub(crate) fn took(&mut self, cx: &Cx<'_>, fd: i32, n: u64) -> Result<(), CompileError> {
        let Some(ofd) = self.world.ofd_of(cx.task, fd) else { return Ok(()) };
        let key = match self.world.ofds[ofd as usize].kind {
            OfdKind::Sock(sock) if self.world.socks[sock as usize].is_datagram() => {
                for (from, n) in senders(cx) {
                    self.took_datagram(cx, ofd, sock, from, n)?;
                }
                return Ok(());
            }
            OfdKind::Sock(sock) => sock,
            OfdKind::Pipe { pipe, .. } => setup::pipe_key(pipe),
            _ => return Ok(()),
        };
        if !self.peers.plays(key) {
            return Ok(());
        }
        let (sent, last_send_ns) = match self.world.socks.get(key as usize) {
            Some(sock) => (sock.sent, sock.last_send_ns),
            None => (0, 0),
        };
        let arrival = self.arrival(cx, ofd, sent);
        // What was there at once may have come any time since the workload last sent.
        let at_ns = if arrival.exact { arrival.at_ns } else { last_send_ns.min(arrival.at_ns) };
        let after = self.looked_before(ofd, arrival.at_ns);
        let turn = Turn { after_sent: arrival.after_sent, at_ns, last_send_ns };
        let to = self.world.socks.get(key as usize).and_then(|s| s.local.clone());
        let to = self.kept.sockets.given(key).or(to).map(reachable);
        if n == 0 {
            // The end of a pipe, or of a connection whose other end answered later data with a reset: it was closed, not
            // just done with sending.
            let closed =
                self.world.socks.get(key as usize).is_none_or(|s| self.facts.reset.contains_key(&s.cookie));
            if closed {
                let mut turn = turn;
                if let Some(state) = self.world.socks.get(key as usize) {
                    let fin = self.facts.fin.get(&state.cookie);
                    // The reset says that something found nobody any more: it was sent after the end or, where nothing was, after the
                    // last answer.
                    turn.after_sent = match fin.and_then(|fin| fin.read) {
                        Some(read) => read.min(state.sent),
                        None => turn.after_sent.min(state.answered),
                    };
                    turn.at_ns = fin.map_or(turn.at_ns, |fin| fin.at_ns);
                }
                self.peers.gone(&mut self.emit, key, turn, false, &after)?;
                return Ok(());
            }
        }
        if n == 0 && self.ended_first(key) {
            self.peers.hears_the_end(&mut self.emit, key, sent, turn.at_ns)?;
        }
        self.peers.arrived(&mut self.emit, key, n, turn, to.as_ref(), &after)
    }

    /// Whether the workload had ended its direction of a connection before the other end did.
    fn ended_first(&self, sock: SockIx) -> bool {
        let Some(state) = self.world.socks.get(sock as usize) else { return false };
        let is_told = self.facts.connects.established.contains_key(&state.cookie);
        state.finished && is_told && !self.facts.fin.contains_key(&state.cookie)
    }

    /// A datagram came from outside: whoever is at its address sent it.
    fn took_datagram(
        &mut self,
        cx: &Cx<'_>,
        ofd: OfdIx,
        sock: SockIx,
        told: Option<SockAddr>,
        n: u64,
    ) -> Result<(), CompileError> {
        let state = &self.world.socks[sock as usize];
        let is_netlink = netlink::is(state);
        if state.partner.is_some() || is_netlink && n == 0 {
            return Ok(());
        }
        let (sent, last_send_ns, family) = (state.sent, state.last_send_ns, state.family);
        let peer = state.peer.clone();
        let (connected, is_connected) =
            (peer.clone().map(|p| canonical(&p)), state.state == SockState::Connected);
        let from = told.or(peer).map(|from| reachable(self.world.absolute(cx.task, &from)));
        // An empty name is a sender without an address.
        let from = from.filter(|a| !matches!(a, SockAddr::Unix(path) if path.is_empty()));
        let from = if is_netlink { Some(netlink::kernel(sock)) } else { from };
        let end_ns = cx.call.t_ns.saturating_add(cx.call.duration_ns);
        let inside = match &from {
            // Who sent it may be told of only later, since its call returned after this one did.
            Some(from) => self.world.bound(from) || self.facts.datagrams.had(&self.world.alike(from), end_ns),
            // The sender has no address, or the call did not ask for it.
            None => true,
        };
        if inside && (self.facts.datagrams.took(sock) || from.is_some()) {
            return Ok(());
        }
        let arrival = self.arrival(cx, ofd, sent);
        let known = match from {
            None if self.peers.plays(sock) => Some(sock),
            _ => self.peers.correspondent(sock, from.as_ref()),
        };
        let mut to = self.own_address_of(sock);
        if let (Some(SockAddr::Inet(to)), Some(SockAddr::Inet(peer)), true) =
            (&mut to, &connected, is_connected)
            && to.ip().is_unspecified()
        {
            // All addresses are on one interface: the kernel chose the one that was connected to (`ip_route_connect`).
            to.set_ip(peer.ip());
        }
        let own = to.clone();
        let to = to.map(reachable);
        let key = match known {
            Some(key) => key,
            None if to.is_some() => {
                let at_ns = arrival.at_ns;
                let whose = (sock, own.as_ref());
                self.peers.datagram(&mut self.emit, whose, from.as_ref(), family, at_ns, true)?;
                self.peers.correspondent(sock, from.as_ref()).unwrap_or(sock)
            }
            None => return Ok(()),
        };
        self.peers.aim(&mut self.emit, &self.world, key)?;
        let mut after = self.looked_before(ofd, arrival.at_ns);
        // It comes to a socket that is there.
        let model = self.model();
        let there = self.order.arrivals.listens_of(&model, sock);
        after.extend(there.map(|mark| self.emit.done(mark)));
        // It may answer what was sent last, to whomever: what the senders know of one another is not seen.
        let sent_before = self.order.streams.sent_before(sock, arrival.at_ns);
        after.extend(sent_before.map(|mark| self.emit.done(mark)));
        // As with a stream: what was there at once may have come any time since the last send.
        let at_ns = if arrival.exact { arrival.at_ns } else { last_send_ns.min(arrival.at_ns) };
        let turn = Turn { after_sent: sent, at_ns, last_send_ns };
        self.peers.arrived(&mut self.emit, key, n, turn, to.as_ref(), &after)?;
        if let Some(sent) = self.peers.last_datagram(sock) {
            self.order.arrivals.sent(sock, sent);
        }
        Ok(())
    }

    /// A connection is closed without a look at what had arrived: that was its end.
    pub(crate) fn unread_end(&mut self, cx: &Cx<'_>) -> Result<(), CompileError> {
        if cx.known.sc != Sc::Close || cx.call.ret != 0 {
            return Ok(());
        }
        let Some(ofd) = self.world.closed_by(cx.task, cx.call) else { return Ok(()) };
        let (OfdKind::Sock(sock), Some(arrival)) =
            (&self.world.ofds[ofd as usize].kind, self.world.ofds[ofd as usize].ready)
        else {
            return Ok(());
        };
        let sock = *sock;
        if self.world.has_others(cx.proc, cx.call.args[0] as i32, ofd) {
            // Others have it still.
            return Ok(());
        }
        if self.peers.plays(sock) && self.world.socks[sock as usize].kind == 1 && self.unread(sock) == 0 {
            let last_send_ns = self.world.socks[sock as usize].last_send_ns;
            let turn = Turn { after_sent: arrival.after_sent, at_ns: arrival.at_ns, last_send_ns };
            let after = self.looked_before(ofd, arrival.at_ns);
            let reset = self.facts.reset.contains_key(&self.world.socks[sock as usize].cookie);
            self.peers.gone(&mut self.emit, sock, turn, reset, &after)?;
        }
        Ok(())
    }

    /// The other end had been closed when something was sent to it, which it answered with a reset: it has to be closed by
    /// then, and properly, or what is sent next fails in another way (`tcp_reset`, `net/ipv4/tcp_input.c`).
    fn sent_to_closed(&mut self, cx: &Cx<'_>) -> Result<Option<Wait>, CompileError> {
        let sends = matches!(cx.known.sc, Sc::Write | Sc::Writev | Sc::Sendto | Sc::Sendmsg | Sc::Sendfile);
        if !sends || cx.call.ret <= 0 {
            return Ok(None);
        }
        let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32) else { return Ok(None) };
        let state = &self.world.socks[sock as usize];
        let Some(fin_ns) = self.facts.fin.get(&state.cookie).map(|fin| fin.at_ns) else { return Ok(None) };
        if fin_ns > cx.call.t_ns || !self.facts.reset.contains_key(&state.cookie) || !self.peers.plays(sock) {
            return Ok(None);
        }
        let turn = Turn { after_sent: state.sent, at_ns: fin_ns, last_send_ns: state.last_send_ns };
        self.gone_after_unread(sock, turn, false, &[])
    }

    /// The other end is gone, and what it had sent before is read later, if at all.
    fn gone_after_unread(
        &mut self,
        sock: SockIx,
        turn: Turn,
        reset: bool,
        after: &[Wait],
    ) -> Result<Option<Wait>, CompileError> {
        let unread = self.unread(sock);
        if unread > 0 {
            self.peers.arrived(&mut self.emit, sock, unread, turn, None, after)?;
        }
        self.peers.gone(&mut self.emit, sock, turn, reset, after)
    }

    /// The connection to somebody outside whose last descriptor a call closes.
    fn closes(&self, cx: &Cx<'_>) -> Option<(SockIx, OfdIx)> {
        if cx.known.sc != Sc::Close || cx.call.ret != 0 {
            return None;
        }
        let ofd = self.world.closed_by(cx.task, cx.call)?;
        let OfdKind::Sock(sock) = self.world.ofds[ofd as usize].kind else { return None };
        let ends = self.peers.plays(sock) && !self.world.has_others(cx.proc, cx.fd(0), ofd);
        ends.then_some((sock, ofd))
    }

    /// The other end had been reset when the last descriptor was closed, and no call told.
    fn reset_unseen(&mut self, cx: &Cx<'_>) -> Result<Option<Wait>, CompileError> {
        let Some((sock, ofd)) = self.closes(cx) else { return Ok(None) };
        if self.world.ofds[ofd as usize].ready.is_some() && self.unread(sock) == 0 {
            // The reset was what had been announced, see `Self::unread_end`.
            return Ok(None);
        }
        let state = &self.world.socks[sock as usize];
        let reset_ns = self.facts.reset.get(&state.cookie).copied();
        let Some(at_ns) = reset_ns.filter(|reset_ns| *reset_ns <= cx.end_ns()) else { return Ok(None) };
        let turn = Turn { after_sent: state.sent, at_ns, last_send_ns: state.last_send_ns };
        let after = self.last_step(cx);
        self.peers.gone(&mut self.emit, sock, turn, true, &after)
    }

    /// Bytes that came to a connection that is closed, and that nobody read, as far as a reset tells that there may be some:
    /// the close is one when there are (`__tcp_close`, net/ipv4/tcp.c).
    fn unread(&self, sock: SockIx) -> u64 {
        let state = &self.world.socks[sock as usize];
        self.facts.cut_off.get(&state.cookie).map_or(0, |bytes| bytes.saturating_sub(state.received))
    }

    /// A connection is closed before what came was read: it has come by then.
    fn closes_unread(&mut self, cx: &Cx<'_>) -> Result<Option<Wait>, CompileError> {
        let Some((sock, ofd)) = self.closes(cx) else { return Ok(None) };
        let bytes = self.unread(sock);
        if bytes == 0 {
            return Ok(None);
        }
        let state = &self.world.socks[sock as usize];
        let (after_sent, last_send_ns) = (state.sent, state.last_send_ns);
        let at_ns = self.world.ofds[ofd as usize].ready.map_or(cx.call.t_ns, |ready| ready.at_ns);
        let turn = Turn { after_sent, at_ns, last_send_ns };
        let after = self.looked_before(ofd, at_ns);
        self.peers.arrived(&mut self.emit, sock, bytes, turn, None, &after)?;
        Ok(self.peers.last_step(&self.emit, sock))
    }

    /// The step before the one that is being written, of the same task.
    fn last_step(&self, cx: &Cx<'_>) -> Vec<Wait> {
        let me = self.emit.prog(cx.task);
        let next = self.emit.next_step(me);
        next.checked_sub(1).map(|step| Wait::completed(me, step)).into_iter().collect()
    }

    /// A call found a connection that was over (`inet_shutdown`, `inet_getname`, `net/ipv4/af_inet.c`). Where the workload had
    /// ended its direction, the other end had heard of that and had ended its own; else it had reset the connection.
    fn over_by_then(&mut self, cx: &Cx<'_>) -> Result<Option<Wait>, CompileError> {
        if !matches!(cx.known.sc, Sc::Shutdown | Sc::Getpeername) {
            return Ok(None);
        }
        let Some(sock) = self.world.sock_of(cx.task, cx.fd(0)).filter(|sock| self.peers.plays(*sock)) else {
            return Ok(None);
        };
        let state = &self.world.socks[sock as usize];
        let reset_ns = self.facts.reset.get(&state.cookie).copied().filter(|at_ns| *at_ns <= cx.end_ns());
        let reset = reset_ns.is_some() || !state.finished;
        // It may have come any time since the last send.
        let at_ns = reset_ns.unwrap_or(state.last_send_ns);
        let turn = Turn { after_sent: state.sent, at_ns, last_send_ns: state.last_send_ns };
        if !reset {
            self.peers.hears_the_end(&mut self.emit, sock, state.sent, at_ns)?;
        }
        let after = self.last_step(cx);
        self.peers.gone(&mut self.emit, sock, turn, reset, &after)
    }

    /// A call that failed because the other end is gone.
    pub(crate) fn peer_failure(&mut self, cx: &Cx<'_>) -> Result<Option<Wait>, CompileError> {
        if let Some(wait) = self.sent_to_closed(cx)? {
            return Ok(Some(wait));
        }
        let come = self.closes_unread(cx)?;
        if let Some(wait) = self.reset_unseen(cx)?.or(come) {
            return Ok(Some(wait));
        }
        if cx.call.ret == ENOTCONN {
            return self.over_by_then(cx);
        }
        if !matches!(cx.call.ret, ECONNRESET | EPIPE) {
            return Ok(None);
        }
        let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32) else { return Ok(None) };
        if !self.peers.plays(sock) {
            return Ok(None);
        }
        let state = &self.world.socks[sock as usize];
        if state.finished && cx.call.ret == EPIPE {
            // It had said itself that it sends no more (`SEND_SHUTDOWN`, `tcp_sendmsg_locked`, net/ipv4/tcp.c).
            return Ok(None);
        }
        let receives = matches!(cx.known.sc, Sc::Read | Sc::Readv | Sc::Recvfrom | Sc::Recvmsg);
        if let Some(ofd) = self.world.ofd_of(cx.task, cx.call.args[0] as i32).filter(|_| receives)
            && let Some(ready) = self.world.ofds[ofd as usize].ready
        {
            // The reset had been announced: whoever announced it does not come before it.
            let (after_sent, at_ns) = (ready.after_sent, ready.at_ns);
            let turn = Turn { after_sent, at_ns, last_send_ns: state.last_send_ns };
            let after = self.looked_before(ofd, at_ns);
            return self.peers.gone(&mut self.emit, sock, turn, true, &after);
        }
        let (after_sent, last_send_ns) = (state.sent, state.last_send_ns);
        // It was reset when the kernel says so; unknown, it is since the call before.
        let reset_ns = self.facts.reset.get(&state.cookie).copied().filter(|at_ns| *at_ns <= cx.call.t_ns);
        let (at_ns, after) = match (reset_ns, self.world.ofd_of(cx.task, cx.call.args[0] as i32)) {
            (Some(at_ns), Some(ofd)) => (at_ns, self.looked_before(ofd, at_ns)),
            _ => (cx.call.t_ns, self.last_step(cx)),
        };
        let turn = Turn { after_sent, at_ns, last_send_ns };
        self.gone_after_unread(sock, turn, true, &after)
    }
}
