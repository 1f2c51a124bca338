//! The sockets that were there before: bound, listening, connected.

use super::{Making, Thing, extra, feeder, nonblock, push_new};
use crate::compile::calls::nr;
use crate::compile::emit::EdgeKind;
use crate::compile::io::sharing::{choose_by_place, share_address};
use crate::compile::lower::{Lower, reachable};
use crate::compile::peers::family_of;
use crate::compile::world::{OfdIx, OfdKind, SockIx, SockState};
use crate::compile::{CompileError, netlink, wire};
use crate::plan::environment::PreopenedKind;
use ctrace_format::{FdTarget, SockAddr};
use ctrace_program::{Expect, Post, Sel, Wait, fd_operand, fds_operand, flags};
use rustc_hash::{FxHashMap, FxHashSet};

/// A socket that a command was started with (socket activation) and that it accepts connections from, and its address.
pub(super) fn listener_of(lower: &Lower<'_>, ofd: OfdIx) -> Option<(SockIx, SockAddr)> {
    let OfdKind::Sock(sock) = lower.world.ofds[ofd as usize].kind else { return None };
    let first = lower.facts.arrivals.queue(sock).first()?;
    let ends = first.ends.as_deref().or_else(|| lower.world.tuple(first.cookie));
    let own = lower.world.socks[sock as usize].local.clone();
    Some((sock, own.or_else(|| ends.map(|(local, _)| local.clone()))?))
}

/// The two ends of a unix socket pair know each other by inode.
pub(super) fn find_unix_pairs(lower: &mut Lower<'_>) {
    let source = lower.source;
    let mut by_ino: FxHashMap<u64, (u64, u64)> = FxHashMap::default();
    for fd in source.snapshot().processes.iter().flat_map(|p| &p.fds) {
        if let FdTarget::Socket { ino, cookie, family: 1, peer_ino, .. } = &fd.target {
            let identity = if *cookie == 0 { *ino | 1 << 63 } else { *cookie };
            by_ino.insert(*ino, (identity, *peer_ino));
        }
    }
    let pairs: Vec<(u64, u64)> = by_ino
        .values()
        .filter_map(|(identity, peer)| by_ino.get(peer).map(|(other, _)| (*identity, *other)))
        .collect();
    for (a, b) in pairs {
        let (Some(a), Some(b)) =
            (lower.world.sock_by_cookie.get(&a).copied(), lower.world.sock_by_cookie.get(&b).copied())
        else {
            continue;
        };
        lower.world.socks[a as usize].partner = Some(b);
        lower.world.socks[b as usize].partner = Some(a);
    }
}

pub(super) fn socket(
    lower: &mut Lower<'_>,
    at: u32,
    family: u16,
    kind: u16,
    protocol: u16,
) -> Result<(), CompileError> {
    let step =
        extra(nr::socket).imm(0, u64::from(family)).imm(1, u64::from(kind)).imm(2, u64::from(protocol));
    push_new(lower, step, fd_operand(at, false))
}

pub(super) fn bind(
    lower: &mut Lower<'_>,
    making: &Making,
    at: u32,
    addr: &SockAddr,
) -> Result<(), CompileError> {
    if let SockAddr::Inet(inet) = addr {
        let one = lower.emit.data(&1_u32.to_ne_bytes())?;
        let reuse =
            extra(nr::setsockopt).imm(0, u64::from(at)).imm(1, 1).imm(2, 2).arg(3, Sel::Data, one).imm(4, 4);
        lower.emit.put(0, &reuse)?;
        if inet.is_ipv6() && making.v4_ports.contains(&inet.port()) {
            // IPPROTO_IPV6, IPV6_V6ONLY
            let only = extra(nr::setsockopt)
                .imm(0, u64::from(at))
                .imm(1, 41)
                .imm(2, 26)
                .arg(3, Sel::Data, one)
                .imm(4, 4);
            lower.emit.put(0, &only)?;
        }
        if !inet.ip().is_unspecified() {
            lower.peers.addresses.insert(inet.ip());
        }
    }
    if let SockAddr::Unix(path) = addr
        && path.first().is_some_and(|c| *c != b'@' && *c != 0)
    {
        // Its file is there, like all that was there: made again by the bind.
        let path = lower.emit.cstr(path)?;
        let unlink = extra(nr::unlinkat).imm(0, -100_i64 as u64).arg(1, Sel::Data, path).imm(2, 0);
        lower.emit.put(0, &unlink)?;
    }
    let bytes = wire::sockaddr(addr);
    if bytes.len() <= 2 {
        return Ok(());
    }
    let blob = lower.emit.data(&bytes)?;
    let step = extra(nr::bind).imm(0, u64::from(at)).arg(1, Sel::Data, blob).imm(2, bytes.len() as u64);
    lower.emit.put(0, &step.expect(Expect::Exact, 0))?;
    Ok(())
}

/// Ports on which sockets of IPv4 listen: one of IPv6 at the same port has to be for IPv6 only.
pub(super) fn v4_ports(lower: &Lower<'_>) -> FxHashSet<u16> {
    let listening = lower.world.socks.iter().filter(|s| s.state == SockState::Listening && s.family == 2);
    listening
        .filter_map(|s| match s.local {
            Some(SockAddr::Inet(at)) => Some(at.port()),
            _ => None,
        })
        .collect()
}

pub(super) fn open_socket(
    lower: &mut Lower<'_>,
    sock: SockIx,
    at: u32,
    making: &mut Making,
    nonblocking: bool,
) -> Result<(), CompileError> {
    let state = lower.world.socks[sock as usize].clone();
    let connected = state.state == SockState::Connected;
    if state.family == 1 && (connected || state.partner.is_some()) {
        if let Some(partner) = state.partner {
            let other = making.number();
            making.made.insert(Thing::Socket(partner), other);
            let step = extra(nr::socketpair)
                .imm(0, 1)
                .imm(1, u64::from(state.kind))
                .imm(2, 0)
                .arg(3, Sel::Out, 8)
                .expect(Expect::Exact, 0)
                .post(Post::Fds, fds_operand(at, other, 3, false));
            lower.emit.put(0, &step)?;
        } else {
            let id = 0x4000_0000 | sock;
            feeder(lower, sock, id, false)?;
            let kind = PreopenedKind::Socket { id, end: 0, kind: state.kind };
            lower.surroundings.preopen(at as i32, kind);
        }
        return nonblock(lower, at, nonblocking, false);
    }
    let tcp = state.kind == 1 && matches!(state.local, Some(SockAddr::Inet(_)));
    if connected && tcp {
        let (Some(local), Some(peer)) = (state.local.clone(), state.peer.clone()) else { return Ok(()) };
        connection(lower, sock, at, making, &local, &peer, state.partner)?;
        return nonblock(lower, at, nonblocking, false);
    }
    if netlink::is(&state) {
        socket(lower, at, state.family, state.kind, netlink::PROTOCOL)?;
        let own = netlink::own(sock);
        bind(lower, making, at, &own)?;
        lower.kept.sockets.give(sock, own);
        return nonblock(lower, at, nonblocking, false);
    }
    if state.state == SockState::Listening {
        return listening_socket(lower, making, sock, at, nonblocking);
    }
    socket(lower, at, state.family, state.kind, state.protocol)?;
    let shared = lower.model().shares_its_address(sock);
    if shared {
        let step = share_address(&mut lower.emit, u64::from(at))?;
        lower.emit.put(0, &step.with(flags::EXTRA))?;
    }
    if let Some(local) = &state.local {
        bind(lower, making, at, local)?;
    }
    if shared {
        let step = choose_by_place(&mut lower.emit, u64::from(at))?;
        lower.emit.put(0, &step.with(flags::EXTRA))?;
    }
    if state.kind == 2
        && let Some(peer) = &state.peer
    {
        let family = family_of(peer);
        let whose = (sock, state.local.as_ref());
        lower.peers.datagram(&mut lower.emit, whose, Some(peer), family, 0, false)?;
        let bytes = wire::sockaddr(peer);
        let blob = lower.emit.data(&bytes)?;
        lower.emit.put(
            0,
            &extra(nr::connect).imm(0, u64::from(at)).arg(1, Sel::Data, blob).imm(2, bytes.len() as u64),
        )?;
    }
    nonblock(lower, at, nonblocking, false)
}

/// A socket that listens already.
pub(super) fn listening_socket(
    lower: &mut Lower<'_>,
    making: &Making,
    sock: SockIx,
    at: u32,
    nonblocking: bool,
) -> Result<(), CompileError> {
    let state = lower.world.socks[sock as usize].clone();
    socket(lower, at, state.family, state.kind, state.protocol)?;
    let shared = lower.model().shares_its_address(sock);
    if shared {
        let step = share_address(&mut lower.emit, u64::from(at))?;
        lower.emit.put(0, &step.with(flags::EXTRA))?;
    }
    if let Some(local) = &state.local {
        bind(lower, making, at, local)?;
    }
    lower.emit.put(0, &extra(nr::listen).imm(0, u64::from(at)).imm(1, 4096).expect(Expect::Exact, 0))?;
    if shared {
        let step = choose_by_place(&mut lower.emit, u64::from(at))?;
        lower.emit.put(0, &step.with(flags::EXTRA))?;
    }
    nonblock(lower, at, nonblocking, false)
}

/// An established TCP connection: the workload's end connects to a listener that exists for this one only.
pub(super) fn connection(
    lower: &mut Lower<'_>,
    sock: SockIx,
    at: u32,
    making: &mut Making,
    local: &SockAddr,
    peer: &SockAddr,
    partner: Option<SockIx>,
) -> Result<(), CompileError> {
    let family = lower.world.socks[sock as usize].family;
    let bytes = wire::sockaddr(peer);
    let blob = lower.emit.data(&bytes)?;
    let connect = extra(nr::connect)
        .imm(0, u64::from(at))
        .arg(1, Sel::Data, blob)
        .imm(2, bytes.len() as u64)
        .expect(Expect::Exact, 0);
    if let Some(partner) = partner {
        let (listener, other) = (making.number(), making.number());
        socket(lower, listener, family, 1, 0)?;
        bind(lower, making, listener, peer)?;
        lower.emit.put(0, &extra(nr::listen).imm(0, u64::from(listener)).imm(1, 1))?;
        socket(lower, at, family, 1, 0)?;
        bind(lower, making, at, local)?;
        lower.emit.put(0, &connect)?;
        let accept = extra(nr::accept4).imm(0, u64::from(listener)).imm(1, 0).imm(2, 0).imm(3, 0);
        push_new(lower, accept, fd_operand(other, false))?;
        lower.emit.put(0, &extra(nr::close).imm(0, u64::from(listener)))?;
        making.made.insert(Thing::Socket(partner), other);
        return Ok(());
    }
    let client = lower.world.listener(local).is_some();
    let peer = reachable(peer.clone());
    let ready = lower.peers.established(&mut lower.emit, sock, &peer, client)?;
    socket(lower, at, family, 1, 0)?;
    bind(lower, making, at, local)?;
    let mut waits: Vec<Wait> = Vec::new();
    lower.emit.wait(0, EdgeKind::Connection, ready, &mut waits);
    let step = lower.emit.put_after(0, &connect, &waits)?;
    lower.peers.established_accept(&mut lower.emit, sock, Wait::entered(0, step))
}
