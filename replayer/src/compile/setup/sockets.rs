//! Sockets that were open when the recording began.

use super::super::CompileError;
use super::super::calls::nr;
use super::super::emit::EdgeKind;
use super::super::netlink;
use super::super::peers::Carrier;
use super::super::sharing::{choose_by_place, share_address};
use super::super::steps::Steps;
use super::super::wire;
use super::super::world::{SockIx, SockState};
use super::{Making, Thing, extra, feeder, nonblock, push_new};
use crate::plan::environment::PreopenedKind;
use ctrace_format::SockAddr;
use ctrace_program::{Expect, Post, Sel, Wait, fd_operand, fds_operand, flags};

fn socket(steps: &mut Steps<'_>, at: u32, family: u16, kind: u16, protocol: u16) -> Result<(), CompileError> {
    let step =
        extra(nr::socket).imm(0, u64::from(family)).imm(1, u64::from(kind)).imm(2, u64::from(protocol));
    push_new(steps, step, fd_operand(at, false))
}

fn bind(steps: &mut Steps<'_>, making: &Making, at: u32, addr: &SockAddr) -> Result<(), CompileError> {
    if let SockAddr::Inet(inet) = addr {
        let one = steps.emit.data(&1_u32.to_ne_bytes())?;
        let reuse =
            extra(nr::setsockopt).imm(0, u64::from(at)).imm(1, 1).imm(2, 2).arg(3, Sel::Data, one).imm(4, 4);
        steps.emit.put(0, &reuse)?;
        if inet.is_ipv6() && making.v4_ports.contains(&inet.port()) {
            // IPPROTO_IPV6, IPV6_V6ONLY
            let only = extra(nr::setsockopt)
                .imm(0, u64::from(at))
                .imm(1, 41)
                .imm(2, 26)
                .arg(3, Sel::Data, one)
                .imm(4, 4);
            steps.emit.put(0, &only)?;
        }
        if !inet.ip().is_unspecified() {
            steps.peers.addresses.insert(inet.ip());
        }
    }
    if let SockAddr::Unix(path) = addr
        && path.first().is_some_and(|c| *c != b'@' && *c != 0)
    {
        // Its file is there, like all that was there: made again by the bind.
        let path = steps.emit.cstr(path)?;
        let unlink = extra(nr::unlinkat).imm(0, -100_i64 as u64).arg(1, Sel::Data, path).imm(2, 0);
        steps.emit.put(0, &unlink)?;
    }
    let bytes = wire::sockaddr(addr);
    if bytes.len() <= 2 {
        return Ok(());
    }
    let blob = steps.emit.data(&bytes)?;
    let step = extra(nr::bind).imm(0, u64::from(at)).arg(1, Sel::Data, blob).imm(2, bytes.len() as u64);
    steps.emit.put(0, &step.expect(Expect::Exact, 0))?;
    Ok(())
}

pub(super) fn open_socket(
    steps: &mut Steps<'_>,
    sock: SockIx,
    at: u32,
    making: &mut Making,
    nonblocking: bool,
) -> Result<(), CompileError> {
    let state = steps.world.socks[sock as usize].clone();
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
            steps.emit.put(0, &step)?;
        } else {
            let id = 0x4000_0000 | sock;
            feeder(steps, sock, id, Carrier::Stream)?;
            let kind = PreopenedKind::Socket { id, end: 0, kind: state.kind };
            steps.surroundings.preopen(at as i32, kind);
        }
        return nonblock(steps, at, nonblocking, false);
    }
    let tcp = state.kind == 1 && matches!(state.local, Some(SockAddr::Inet(_)));
    if connected && tcp {
        let (Some(local), Some(peer)) = (state.local.clone(), state.peer.clone()) else { return Ok(()) };
        connection(steps, sock, at, making, &local, &peer, state.partner)?;
        return nonblock(steps, at, nonblocking, false);
    }
    if netlink::is(&state) {
        socket(steps, at, state.family, state.kind, netlink::PROTOCOL)?;
        let own = netlink::own(sock);
        bind(steps, making, at, &own)?;
        steps.kept.sockets.give(sock, own);
        return nonblock(steps, at, nonblocking, false);
    }
    if state.state == SockState::Listening {
        return listening_socket(steps, making, sock, at, nonblocking);
    }
    socket(steps, at, state.family, state.kind, state.protocol)?;
    if let Some(local) = &state.local {
        bind(steps, making, at, local)?;
    }
    if state.kind == 2
        && let Some(peer) = &state.peer
    {
        let family = wire::family_of(peer);
        steps.peers.datagram(steps.emit, sock, Some(peer), family, 0, false)?;
        let connect = steps.emit.addressed(nr::connect, u64::from(at), peer)?;
        steps.emit.put(0, &connect.with(flags::EXTRA))?;
    }
    nonblock(steps, at, nonblocking, false)
}

/// A socket that listens already.
pub(super) fn listening_socket(
    steps: &mut Steps<'_>,
    making: &Making,
    sock: SockIx,
    at: u32,
    nonblocking: bool,
) -> Result<(), CompileError> {
    let state = steps.world.socks[sock as usize].clone();
    socket(steps, at, state.family, state.kind, state.protocol)?;
    let shared = steps.model().shares_its_address(sock);
    if shared {
        let step = share_address(steps.emit, u64::from(at))?;
        steps.emit.put(0, &step.with(flags::EXTRA))?;
    }
    if let Some(local) = &state.local {
        bind(steps, making, at, local)?;
    }
    steps.emit.put(0, &extra(nr::listen).imm(0, u64::from(at)).imm(1, 4096).expect(Expect::Exact, 0))?;
    if shared {
        let step = choose_by_place(steps.emit, u64::from(at))?;
        steps.emit.put(0, &step.with(flags::EXTRA))?;
    }
    nonblock(steps, at, nonblocking, false)
}

/// An established TCP connection: the workload's end connects to a listener that exists for this one only.
fn connection(
    steps: &mut Steps<'_>,
    sock: SockIx,
    at: u32,
    making: &mut Making,
    local: &SockAddr,
    peer: &SockAddr,
    partner: Option<SockIx>,
) -> Result<(), CompileError> {
    let family = steps.world.socks[sock as usize].family;
    let connect = steps.emit.addressed(nr::connect, u64::from(at), peer)?.with(flags::EXTRA);
    let connect = connect.expect(Expect::Exact, 0);
    if let Some(partner) = partner {
        let (listener, other) = (making.number(), making.number());
        socket(steps, listener, family, 1, 0)?;
        bind(steps, making, listener, peer)?;
        steps.emit.put(0, &extra(nr::listen).imm(0, u64::from(listener)).imm(1, 1))?;
        socket(steps, at, family, 1, 0)?;
        bind(steps, making, at, local)?;
        steps.emit.put(0, &connect)?;
        let accept = extra(nr::accept4).imm(0, u64::from(listener)).imm(1, 0).imm(2, 0).imm(3, 0);
        push_new(steps, accept, fd_operand(other, false))?;
        steps.emit.put(0, &extra(nr::close).imm(0, u64::from(listener)))?;
        making.made.insert(Thing::Socket(partner), other);
        return Ok(());
    }
    let client = steps.world.listener(local).is_some();
    let peer = wire::reachable(peer.clone());
    let ready = steps.peers.established(steps.emit, sock, &peer, client)?;
    socket(steps, at, family, 1, 0)?;
    bind(steps, making, at, local)?;
    let mut waits: Vec<Wait> = Vec::new();
    steps.emit.wait(0, EdgeKind::Connection, ready, &mut waits);
    let step = steps.emit.put_after(0, &connect, &waits)?;
    steps.peers.established_accept(steps.emit, sock, Wait::entered(0, step))
}
