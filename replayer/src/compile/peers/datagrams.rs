//! Peers that exchange datagrams with the workload.

use super::{Carrier, Conn, Leaving, Peers, SOCK_DGRAM, extra, recv_step};
use crate::compile::calls::nr;
use crate::compile::emit::{EdgeKind, Emit};
use crate::compile::io::sharing::name_place;
use crate::compile::world::{SockIx, World, canonical};
use crate::compile::{CompileError, wire};
use ctrace_format::SockAddr;
use ctrace_program::{Kind, Sel, Step, Wait, flags};
use std::net::SocketAddr;

/// Keys of those who exchange datagrams with a socket that has others already: above every other key.
pub(super) const CORRESPONDENTS: SockIx = 0xc000_0000;

impl Peers {
    /// The key of the peer at `addr` that exchanges datagrams with the workload's `sock`, if there is one.
    pub(crate) fn correspondent(&self, sock: SockIx, addr: Option<&SockAddr>) -> Option<SockIx> {
        self.correspondents.get(&sock)?.get(&addr.cloned()).copied()
    }

    /// The last datagram that was sent to a socket of the workload.
    pub(crate) fn last_datagram(&self, receiver: SockIx) -> Option<Wait> {
        self.last_datagram.get(&receiver).copied()
    }

    /// Where several sockets of the workload have one address, a peer aims its datagrams at the one that had them.
    pub(crate) fn aim(&mut self, emit: &mut Emit, world: &World, key: SockIx) -> Result<(), CompileError> {
        let Some(conn) = self.conns.get_mut(&key).filter(|conn| conn.is_datagram()) else { return Ok(()) };
        let place = world.place_among(conn.sock);
        if place.is_none() || place == conn.aims_at {
            return Ok(());
        }
        conn.aims_at = place;
        let task = self.lanes[conn.lane].task;
        let family = world.socks.get(conn.sock as usize).map_or(0, |sock| sock.family);
        for step in name_place(emit, world, conn.sock, u64::from(conn.fd), family)? {
            emit.put(task, &step.with(flags::EXTRA))?;
        }
        Ok(())
    }

    /// A datagram socket at `addr` for what the workload's `sock`, which has the address `own`, exchanges with it. `client`:
    /// the first is sent by it.
    pub(crate) fn datagram(
        &mut self,
        emit: &mut Emit,
        (sock, own): (SockIx, Option<&SockAddr>),
        addr: Option<&SockAddr>,
        family: u16,
        at_ns: u64,
        client: bool,
    ) -> Result<Option<Wait>, CompileError> {
        if self.correspondent(sock, addr).is_some() {
            return Ok(None);
        }
        let key = if self.conns.contains_key(&sock) {
            self.next_correspondent += 1;
            CORRESPONDENTS + self.next_correspondent
        } else {
            sock
        };
        self.correspondents.entry(sock).or_default().insert(addr.cloned(), key);
        let lane = self.lane(emit, at_ns)?;
        let (task, fd) = (self.lanes[lane].task, self.lanes[lane].fd);
        let mut shared = false;
        if let Some(addr) = addr {
            // A peer that was there before may be there still when this one comes: nothing keeps their steps in order.
            shared = self.at.contains_key(&canonical(addr));
            self.at.entry(canonical(addr)).or_default().insert(key);
            if let Some(unheard) = self.deserted.remove(&canonical(addr)) {
                let mut waits = Vec::new();
                emit.wait(task, EdgeKind::NotYet, unheard, &mut waits);
                emit.put_after(task, &Step::of(Kind::Sync), &waits)?;
            }
        }
        if client {
            let mut sync = Step::of(Kind::Sync).with(flags::AT);
            sync.t_ns = at_ns;
            emit.put(task, &sync)?;
        }
        if let Some(SockAddr::Unix(path)) = addr
            && path.first().is_some_and(|c| *c != b'@' && *c != 0)
        {
            let path = emit.cstr(path)?;
            emit.put(task, &extra(nr::unlinkat).imm(0, -100_i64 as u64).arg(1, Sel::Data, path).imm(2, 0))?;
        }
        self.bound(emit, task, fd, SOCK_DGRAM, addr, family)?;
        if let (true, Some(SockAddr::Inet(at)), Some(SockAddr::Inet(own))) = (shared, addr, own) {
            // Several are at one address, or may be: each of the later ones gets what comes from its own correspondent
            // (`compute_score`, net/ipv4/udp.c), who speaks from the address that it speaks to if it has none.
            let ip = if own.ip().is_unspecified() { at.ip() } else { own.ip() };
            let bytes = wire::sockaddr(&SockAddr::Inet(SocketAddr::new(ip, own.port())));
            let blob = emit.data(&bytes)?;
            let connect = extra(nr::connect).imm(0, u64::from(fd)).arg(1, Sel::Data, blob);
            emit.put(task, &connect.imm(2, bytes.len() as u64))?;
        }
        let ready = Wait::completed(task, emit.next_step(task).saturating_sub(1));
        self.datagram += 1;
        let (carrier, at) = (Carrier::Datagrams, addr.map(canonical));
        self.conns.insert(key, Conn { carrier, at, client, ..Conn::new(lane, fd, sock, at_ns) });
        Ok(Some(ready))
    }

    /// Nobody is to be at `addr` when a datagram comes there. Returns what its sender has to wait for.
    pub(crate) fn desert(
        &mut self,
        emit: &mut Emit,
        addr: &SockAddr,
        at_ns: u64,
    ) -> Result<Vec<Wait>, CompileError> {
        let key = canonical(addr);
        if let SockAddr::Inet(at) = &key
            && !at.ip().is_unspecified()
        {
            self.addresses.insert(at.ip());
        }
        let mut gone = Vec::new();
        for there in self.at.get_mut(&key).map(std::mem::take).unwrap_or_default() {
            let Some(conn) = self.conns.get(&there) else { continue };
            let (task, sock) = (self.lanes[conn.lane].task, conn.sock);
            self.leave(emit, there, Leaving::at(at_ns))?;
            if let Some(others) = self.correspondents.get_mut(&sock) {
                others.retain(|_, k| *k != there);
            }
            gone.push(Wait::completed(task, emit.next_step(task).saturating_sub(1)));
        }
        Ok(gone)
    }

    /// A datagram found nobody at `addr`: `sent`. Whoever comes there comes later.
    pub(crate) fn deserted(&mut self, addr: &SockAddr, sent: Wait) {
        self.deserted.insert(canonical(addr), sent);
    }

    /// The workload sent a datagram of `n` bytes: it is received.
    pub(crate) fn sent_datagram(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        n: u64,
        at_ns: u64,
    ) -> Result<(), CompileError> {
        if let Some(conn) = self.conns.get_mut(&sock)
            && conn.is_datagram()
            && !conn.over
        {
            conn.received = conn.received.saturating_add(n);
            let n = n.min(65_536);
            let task = self.lanes[conn.lane].task;
            emit.put(task, &recv_step(conn.fd, n.max(1), at_ns))?;
        }
        Ok(())
    }
}
