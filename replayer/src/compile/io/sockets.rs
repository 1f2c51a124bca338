//! Sockets: addresses, connections, options, datagrams.

use super::super::CompileError;
use super::super::arrivals::STEPS_BEFORE_CONNECT;
use super::super::calls::{Sc, nr};
use super::super::emit::{EdgeKind, Late, Lowered};
use super::super::lower::{Lower, reachable};
use super::super::model::Cx;
use super::super::netlink;
use super::super::peers::family_of;
use super::super::wire;
use super::super::world::from_start::TIME_LIMIT_NS;
use super::super::world::{
    O_CLOEXEC, OfdKind, SockIx, SockState, canonical, detail_addr, detail_bytes, detail_value,
};
use super::sharing::{choose_by_place, name_place};
use super::{Channel, EAGAIN, POLLERR, POLLHUP, POLLIN, POLLOUT, SO_RCVTIMEO, SOL_SOCKET};
use ctrace_format::{PollEntry, SockAddr};
use ctrace_program::{Kind, Sel, Step, Wait, flags};
use rustc_hash::{FxHashMap, FxHashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Ports that sockets of datagrams get here: of no service, and below the ephemeral ones that peers get.
const PORTS: std::ops::Range<u16> = 20_000..60_001;

/// Facts about sockets that the workload does not have.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Local addresses given to unbound datagram sockets.
    given: FxHashMap<SockIx, SockAddr>,
    next_port: u16,
    /// Sockets whose time limit for input is known to have been set.
    impatient: FxHashSet<SockIx>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { given: FxHashMap::default(), next_port: PORTS.start, impatient: FxHashSet::default() }
    }
}

impl Sockets {
    /// The address that a socket was given here.
    pub(crate) fn given(&self, sock: SockIx) -> Option<SockAddr> {
        self.given.get(&sock).cloned()
    }
    /// A socket is given an address. Whether it had none.
    pub(crate) fn give(&mut self, sock: SockIx, addr: SockAddr) -> bool {
        self.given.insert(sock, addr).is_none()
    }
    /// A port that was not given for a while.
    fn port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = if PORTS.contains(&(port + 1)) { port + 1 } else { PORTS.start };
        port
    }
}

impl Lower<'_> {
    /// Whether the socket of a call had said that it ends, and waited for the answer to that.
    pub(crate) fn waits_for_the_last_answer(&self, cx: &Cx<'_>) -> bool {
        let sock = self.world.sock_of(cx.task, cx.call.args[0] as i32);
        sock.is_some_and(|sock| {
            self.facts.connects.was_leaving(self.world.socks[sock as usize].cookie, cx.call.t_ns)
        })
    }

    /// Whether the other end's close reset the socket of a call before the call returned.
    pub(crate) fn was_reset_meanwhile(&self, cx: &Cx<'_>) -> bool {
        let sock = self.world.sock_of(cx.task, cx.call.args[0] as i32);
        sock.is_some_and(|sock| {
            let cookie = &self.world.socks[sock as usize].cookie;
            self.facts.reset_by.contains_key(cookie)
                && self.facts.reset.get(cookie).is_some_and(|at_ns| *at_ns <= cx.end_ns())
                && self.world.socks[sock as usize]
                    .partner
                    .is_some_and(|partner| self.order.streams.has_ended(partner))
        })
    }

    /// A socket that blocks gave up: it has a time limit, which was set before the recording when no call set it.
    pub(crate) fn impatient(&mut self, cx: &Cx<'_>, pre: &mut Vec<Step>) -> Result<(), CompileError> {
        const EAGAIN: i64 = -11;
        let fd = cx.call.args[0] as i32;
        let Some(sock) = self.world.sock_of(cx.task, fd) else { return Ok(()) };
        let Some(ofd) = self.world.ofd_of(cx.task, fd) else { return Ok(()) };
        if cx.call.ret != EAGAIN
            || cx.call.duration_ns < TIME_LIMIT_NS
            || self.nonblocking(cx, ofd)
            || !self.kept.sockets.impatient.insert(sock)
        {
            return Ok(());
        }
        let (seconds, micros) =
            (cx.call.duration_ns / 1_000_000_000, cx.call.duration_ns % 1_000_000_000 / 1000);
        let limit = self.emit.words(&[seconds, micros])?;
        let step = Step::call(nr::setsockopt)
            .with(flags::ENGINE)
            .imm(0, cx.call.args[0])
            .imm(1, SOL_SOCKET)
            .imm(2, SO_RCVTIMEO)
            .arg(3, Sel::Data, limit)
            .imm(4, 16);
        pre.push(step);
        Ok(())
    }

    /// A datagram goes to somebody outside: they exist, and they can answer because the sender's address is known. Returns
    /// what the send waits for.
    pub(crate) fn datagram_peer(
        &mut self,
        cx: &Cx<'_>,
        sock: SockIx,
        to: Option<&SockAddr>,
        pre: &mut Vec<Step>,
    ) -> Result<Late, CompileError> {
        let state = self.world.socks[sock as usize].clone();
        if !netlink::is(&state) {
            self.own_address(cx, sock, pre)?;
        }
        if state.partner.is_some() || cx.call.ret < 0 {
            return Ok(Late::default());
        }
        if netlink::is(&state) {
            return self.ask_kernel(cx, sock, pre);
        }
        let Some(peer) = to.cloned().or(state.peer) else { return Ok(Late::default()) };
        let peer = self.world.absolute(cx.task, &peer);
        if self.world.bound(&peer) {
            return Ok(Late::default());
        }
        let (at, family) = (reachable(peer.clone()), family_of(&peer));
        if self.facts.refusals.is_unheard(sock, state.sends) {
            let gone = self.peers.desert(&mut self.emit, &at, cx.call.t_ns)?;
            return Ok(self.after(cx, gone, pre));
        }
        self.sender_port(cx, sock, &peer, pre)?;
        let own = self.own_address_of(sock);
        let whose = (sock, own.as_ref());
        let ready = self.peers.datagram(&mut self.emit, whose, Some(&at), family, cx.call.t_ns, false)?;
        Ok(self.after(cx, ready, pre))
    }

    /// The address that a datagram socket has here: of the host's addresses, the kernel chooses another one than it did,
    /// since all are on one interface.
    pub(crate) fn own_address_of(&self, sock: SockIx) -> Option<SockAddr> {
        if let Some(given) = self.kept.sockets.given(sock) {
            return Some(given);
        }
        let state = &self.world.socks[sock as usize];
        let mut own = self.world.later_name(sock).or(state.local.as_ref()).cloned();
        if let (Some(SockAddr::Inet(at)), true) = (&mut own, state.anywhere) {
            at.set_ip(match at {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                SocketAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            });
        }
        own
    }

    /// The call that `pre` comes before waits for others, after it has thought.
    fn after(&mut self, cx: &Cx<'_>, others: impl IntoIterator<Item = Wait>, pre: &mut Vec<Step>) -> Late {
        let mut waits: Vec<Wait> = Vec::new();
        let me = self.emit.prog(cx.task);
        for other in others {
            self.emit.wait(me, EdgeKind::Connection, other, &mut waits);
        }
        if waits.is_empty() {
            return Late::default();
        }
        pre.push(Step::of(Kind::Sync));
        let at = pre.len();
        pre.push(Step::of(Kind::Sync));
        Late { at, waits }
    }

    /// A question to the kernel: whoever answers for it is there, knows where to, and gets what is sent to nobody in
    /// particular.
    fn ask_kernel(&mut self, cx: &Cx<'_>, sock: SockIx, pre: &mut Vec<Step>) -> Result<Late, CompileError> {
        let kernel = netlink::kernel(sock);
        let at_ns = cx.call.t_ns;
        let ready = self.peers.datagram(
            &mut self.emit,
            (sock, None),
            Some(&kernel),
            netlink::FAMILY,
            at_ns,
            false,
        )?;
        let first = ready.is_some();
        let late = self.after(cx, ready, pre);
        if first {
            self.netlink_port(cx, sock, pre)?;
            pre.push(self.addressed(nr::connect, cx.call.args[0], &kernel)?.with(flags::ENGINE));
        }
        Ok(late)
    }

    /// A netlink socket that no call has bound has the port that answers go to.
    fn netlink_port(&mut self, cx: &Cx<'_>, sock: SockIx, pre: &mut Vec<Step>) -> Result<(), CompileError> {
        let own = netlink::own(sock);
        if self.kept.sockets.give(sock, own.clone()) {
            pre.push(self.addressed(nr::bind, cx.call.args[0], &own)?.with(flags::ENGINE));
        }
        Ok(())
    }

    /// `bind` or `connect`.
    fn addressed(&mut self, nr: u32, fd: u64, addr: &SockAddr) -> Result<Step, CompileError> {
        let bytes = wire::sockaddr(addr);
        let blob = self.emit.data(&bytes)?;
        let step = Step::call(nr).imm(0, fd).arg(1, Sel::Data, blob);
        Ok(step.imm(2, bytes.len() as u64))
    }

    /// Gives an unbound datagram socket an address that peers know.
    pub(crate) fn sender_port(
        &mut self,
        cx: &Cx<'_>,
        sock: SockIx,
        peer: &SockAddr,
        pre: &mut Vec<Step>,
    ) -> Result<(), CompileError> {
        let state = &self.world.socks[sock as usize];
        if state.local.is_some()
            || self.kept.sockets.given.contains_key(&sock)
            || !matches!(peer, SockAddr::Inet(_))
        {
            return Ok(());
        }
        let port = self.kept.sockets.port();
        let local = if state.family == 10 {
            SockAddr::Inet(SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), port))
        } else {
            SockAddr::Inet(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
        };
        pre.push(self.addressed(nr::bind, cx.call.args[0], &local)?.with(flags::ENGINE));
        self.kept.sockets.give(sock, local);
        Ok(())
    }

    pub(crate) fn bind(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let Some(mut addr) = self.model().address_of_bind(cx) else { return Ok(self.surrogate(cx)) };
        if let SockAddr::Inet(at) = &addr
            && !at.ip().is_unspecified()
        {
            self.peers.addresses.insert(at.ip());
        }
        if let Some(sock) = self.netlink_of(cx) {
            // The groups that it joins send nothing here; a peer does.
            addr = netlink::own(sock);
            self.kept.sockets.give(sock, addr.clone());
        }
        let bytes = wire::sockaddr(&addr);
        let blob = self.emit.data(&bytes)?;
        let step = self.plain(cx, &[0]).arg(1, Sel::Data, blob).imm(2, bytes.len() as u64);
        let mut lowered = Lowered::from(step);
        if self.model().binds_with_others(cx).is_some() {
            lowered.then.push(choose_by_place(&mut self.emit, cx.call.args[0])?.with(flags::ENGINE));
        }
        Ok(lowered)
    }

    /// The netlink socket that a call is about.
    pub(crate) fn netlink_of(&self, cx: &Cx<'_>) -> Option<SockIx> {
        let sock = self.world.sock_of(cx.task, cx.call.args[0] as i32)?;
        netlink::is(&self.world.socks[sock as usize]).then_some(sock)
    }

    /// Whether a recorded failure to connect comes by itself.
    pub(crate) fn connect_rebuilds(&mut self, cx: &Cx<'_>) -> bool {
        let datagram = self
            .world
            .sock_of(cx.task, cx.call.args[0] as i32)
            .is_some_and(|s| self.world.socks[s as usize].kind != 1);
        let addr = detail_addr(cx.call, 1);
        match cx.call.ret {
            -111 | -115 | -9 | -106 | -114 => true,
            -101 => self.facts.connects.has_no_route(cx.call, addr),
            // A full queue, where nobody inside has one.
            -110 | -11 if !datagram => match addr.cloned() {
                Some(addr) => {
                    let addr = self.world.absolute(cx.task, &addr);
                    let unix = matches!(addr, SockAddr::Unix(_));
                    unix == (cx.call.ret == EAGAIN) && self.world.listener(&addr).is_none()
                }
                None => false,
            },
            -2 => match detail_addr(cx.call, 1).cloned() {
                Some(addr @ SockAddr::Unix(_)) => {
                    // A peer's datagram socket is there from the start; one that nobody ever reached is not there at all.
                    let addr = self.world.absolute(cx.task, &addr);
                    !datagram || !self.facts.reached.contains(&canonical(&addr))
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// The kernel gives up on an unanswered connect when it did, however often it would ask again here.
    fn give_up(&mut self, cx: &Cx<'_>, sock: SockIx, pre: &mut Vec<Step>) -> Result<(), CompileError> {
        const IPPROTO_TCP: u64 = 6;
        const TCP_SYNCNT: u64 = 7;
        const TCP_USER_TIMEOUT: u64 = 18;
        const SYN_RETRIES_MAX: u32 = 127;
        let cookie = self.world.socks[sock as usize].cookie;
        let Some(ns) = self.facts.connects.patience_ns(cx.call, cookie) else { return Ok(()) };
        let ms = u32::try_from(ns / 1_000_000).unwrap_or(u32::MAX).max(1);
        for (option, value) in [(TCP_SYNCNT, SYN_RETRIES_MAX), (TCP_USER_TIMEOUT, ms)] {
            let blob = self.emit.data(&value.to_ne_bytes())?;
            let step = Step::call(nr::setsockopt).with(flags::ENGINE);
            let step = step.imm(0, cx.call.args[0]).imm(1, IPPROTO_TCP).imm(2, option);
            pre.push(step.arg(3, Sel::Data, blob).imm(4, 4));
        }
        Ok(())
    }

    pub(crate) fn connect(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let Some(mut addr) = detail_addr(cx.call, 1).cloned() else { return Ok(self.surrogate(cx)) };
        let mut pre = Vec::new();
        let mut late = Late::default();
        if let Some(sock) = self.netlink_of(cx) {
            self.netlink_port(cx, sock, &mut pre)?;
            addr = netlink::kernel(sock);
        }
        let sock = self.world.sock_of(cx.task, cx.call.args[0] as i32);
        if let Some(sock) = sock
            && self.world.socks[sock as usize].is_datagram()
            && cx.call.ret >= 0
        {
            let peer = self.world.absolute(cx.task, &addr);
            self.own_address(cx, sock, &mut pre)?;
            if !self.world.bound(&peer) && !matches!(peer, SockAddr::Other { .. }) {
                let known = self.peers.plays(sock);
                if let SockAddr::Unix(_) = peer
                    && !known
                {
                    // Its socket must be there before the connect.
                    let ready = self.peers.datagram(
                        &mut self.emit,
                        (sock, None),
                        Some(&peer),
                        family_of(&peer),
                        cx.call.t_ns,
                        false,
                    )?;
                    late = self.after(cx, ready, &mut pre);
                }
                if let SockAddr::Inet(at) = &peer
                    && !at.ip().is_unspecified()
                {
                    self.peers.addresses.insert(at.ip());
                }
                self.sender_port(cx, sock, &peer, &mut pre)?;
            }
        }
        if let Some(sock) = sock {
            self.give_up(cx, sock, &mut pre)?;
        }
        if let Some(place) = self.model().place_made(cx) {
            let (fd, family) =
                (cx.call.args[0], sock.map_or(0, |sock| self.world.socks[sock as usize].family));
            let steps = name_place(&mut self.emit, &self.world, place.listener, fd, family)?;
            pre.extend(steps.into_iter().map(|step| step.with(flags::ENGINE)));
            if self.facts.arrivals.is_overtaking(cx.id()) {
                pre.resize(STEPS_BEFORE_CONNECT as usize, Step::of(Kind::Sync));
            }
        }
        let bytes = wire::sockaddr(&addr);
        let blob = self.emit.data(&bytes)?;
        let step = self.plain(cx, &[0]).arg(1, Sel::Data, blob).imm(2, bytes.len() as u64);
        Ok(Lowered { late, ..Lowered::after(pre, step) })
    }

    pub(crate) fn accept(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let mut pre = Vec::new();
        self.impatient(cx, &mut pre)?;
        let four = cx.known.sc == Sc::Accept4;
        let step = if four { self.plain(cx, &[0, 3]) } else { self.plain(cx, &[0]) };
        let len = self.emit.data(&128_u32.to_ne_bytes())?;
        let step = step.arg(1, Sel::Out, 128).arg(2, Sel::InOut, len);
        let Some(ofd) = self.ofd(cx, 0) else {
            return Ok(if cx.call.ret >= 0 { self.missing(cx) } else { Lowered::after(pre, step) });
        };
        if cx.call.ret == EAGAIN && self.facts.arrivals.is_crowded(cx.id()) {
            return Ok(self.fault(cx));
        }
        if cx.call.ret >= 0 && !cx.unfinished() {
            self.ready_first(cx, ofd, POLLIN, &mut pre)?;
            if pre.is_empty() && self.facts.arrivals.is_overtaking(cx.id()) {
                pre.push(Step::of(Kind::Sync));
            }
        }
        let cloexec = four && cx.call.args[3] as u32 & O_CLOEXEC != 0;
        let mut step = self.new_fd(cx, step, cloexec);
        if cx.call.ret >= 0 {
            step = step.with(flags::RETRY).aux(u64::from(POLLIN));
        } else if cx.call.ret == EAGAIN {
            step = step.with(flags::NOT_READY).aux(u64::from(POLLIN));
        }
        Ok(Lowered::after(pre, step))
    }

    pub(crate) fn getsockopt(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let len = self.emit.data(&64_u32.to_ne_bytes())?;
        let step = self.plain(cx, &[0, 1, 2]).arg(3, Sel::Out, 64).arg(4, Sel::InOut, len);
        let mut pre = Vec::new();
        // SOL_SOCKET, SO_ERROR: a connect in progress has to have come to its end.
        if (cx.call.args[1], cx.call.args[2]) == (1, 4)
            && cx.call.ret == 0
            && let Some(ofd) = self.ofd(cx, 0)
            && let OfdKind::Sock(sock) = self.world.ofds[ofd as usize].kind
            && self.world.socks[sock as usize].state == SockState::Connected
            && self.world.socks[sock as usize].sent == 0
            && !self.world.socks[sock as usize].accepted
        {
            let entry =
                PollEntry { fd: cx.call.args[0] as i32, events: POLLOUT | POLLERR | POLLHUP, revents: 0 };
            let blob = self.emit.data(&wire::pollfds([entry]))?;
            let mut wait = Step::of(Kind::AwaitReady);
            wait.args[0] = blob;
            pre.push(wait);
        }
        Ok(Lowered::after(pre, step))
    }

    pub(crate) fn setsockopt(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        // Options that reach outside the socket or need rights the sandbox does not have.
        // SO_BINDTODEVICE, SO_ATTACH_FILTER, SO_MARK, SO_ATTACH_BPF, SO_PRIORITY, SO_SNDBUFFORCE, SO_RCVBUFFORCE,
        // SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF.
        const REFUSED: [(u64, u64); 9] =
            [(1, 25), (1, 26), (1, 36), (1, 50), (1, 12), (1, 32), (1, 33), (1, 51), (1, 52)];
        let option = (cx.call.args[1], cx.call.args[2]);
        if option == (SOL_SOCKET, SO_RCVTIMEO)
            && let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32)
        {
            self.kept.sockets.impatient.insert(sock);
        }
        if REFUSED.contains(&option)
            || option.0 == netlink::LEVEL && netlink::GROUP_OPTIONS.contains(&option.1)
        {
            return Ok(self.surrogate(cx));
        }
        let foreign = self.channel(self.ofd(cx, 0)) == Channel::Foreign;
        let Some(value) = detail_bytes(cx.call, 3)
            .map(<[u8]>::to_vec)
            .or_else(|| detail_value(cx.call, 3).map(|v| (v as u32).to_ne_bytes().to_vec()))
        else {
            return Ok(if foreign { self.surrogate(cx) } else { self.missing(cx) });
        };
        let blob = self.emit.data(&value)?;
        let len = cx.call.args[4].min(value.len() as u64);
        Ok(self.plain(cx, &[0, 1, 2]).arg(3, Sel::Data, blob).imm(4, len).into())
    }
}
