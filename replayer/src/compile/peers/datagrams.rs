//! Those who exchange datagrams with the workload, and addresses where nobody is to be.

use super::super::CompileError;
use super::super::emit::{EdgeKind, Emit};
use super::super::world::{SockIx, canonical};
use super::turns::recv_step;
use super::{CORRESPONDENTS, Carrier, Conn, DATAGRAM_MAX, Peers, SOCK_DGRAM, unlink};
use ctrace_format::SockAddr;
use ctrace_program::{Kind, Step, Wait, flags};

impl Peers {
    /// The key of the peer at `addr` that exchanges datagrams with the workload's `sock`, if there is one.
    pub(crate) fn correspondent(&self, sock: SockIx, addr: Option<&SockAddr>) -> Option<SockIx> {
        self.correspondents.get(&sock)?.get(&addr.cloned()).copied()
    }

    /// A datagram socket at `addr` for what the workload's `sock` exchanges with it. `client`: the first is sent by it.
    pub(crate) fn datagram(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
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
        if let Some(addr) = addr {
            self.at.entry(canonical(addr)).or_default().insert(key);
            if let Some(unheard) = self.deserted.remove(&canonical(addr)) {
                let waits = emit.waits(task, EdgeKind::NotYet, [unheard]);
                emit.put_after(task, &Step::of(Kind::Sync), &waits)?;
            }
        }
        if client {
            let mut sync = Step::of(Kind::Sync).with(flags::AT);
            sync.t_ns = at_ns;
            emit.put(task, &sync)?;
        }
        if let Some(addr) = addr {
            unlink(emit, task, addr)?;
        }
        self.bound(emit, task, fd, SOCK_DGRAM, addr, family)?;
        let ready = Wait::completed(task, emit.next_step(task).saturating_sub(1));
        self.datagram += 1;
        self.conns.insert(
            key,
            Conn {
                last_ns: at_ns,
                carrier: Carrier::Datagrams,
                at: addr.map(canonical),
                client,
                ..Conn::new(lane, fd, sock)
            },
        );
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
        self.exists(&key);
        let mut gone = Vec::new();
        for there in self.at.remove(&key).unwrap_or_default() {
            let Some(conn) = self.conns.get(&there) else { continue };
            let (task, sock) = (self.lanes[conn.lane].task, conn.sock);
            self.leave(emit, there, 0, at_ns)?;
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
            let n = n.min(DATAGRAM_MAX);
            let task = self.lanes[conn.lane].task;
            emit.put(task, &recv_step(conn.fd, n.max(1), at_ns))?;
        }
        Ok(())
    }
}
