//! The addresses that the workload connects to: who listens there, and who accepts.

use super::{
    AF_INET, AF_INET6, Conn, IPPROTO_TCP, Peers, SO_REUSEADDR, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET,
    TCP_NODELAY, accept_at, extra, family_of,
};
use crate::compile::arrivals::Place;
use crate::compile::calls::nr;
use crate::compile::connects::Answer;
use crate::compile::emit::{EdgeKind, Emit};
use crate::compile::world::{SockIx, canonical};
use crate::compile::{CompileError, netlink, wire};
use ctrace_format::SockAddr;
use ctrace_program::{Expect, Kind, Post, Sel, Step, Wait, fd_operand};
use std::ops::Range;

/// Length of the queue of a listener that does not answer: the kernel takes one more. With a length of 0, it would say that
/// it is being flooded.
pub(super) const SHORT_QUEUE: u32 = 1;

/// An address that the workload connects to.
#[derive(Debug)]
pub(super) struct Server {
    task: u32,
    /// The listening socket; sockets that fill the queue of one that does not answer have the numbers after it.
    fd: u32,
    answer: Answer,
    /// Its last change.
    state: Option<Wait>,
    /// The last accept.
    accept: Option<Wait>,
    stream: bool,
}

impl Peers {
    /// Steps that make a socket bound to `addr` at `fd`.
    pub(super) fn bound(
        &mut self,
        emit: &mut Emit,
        task: u32,
        fd: u32,
        kind: u16,
        addr: Option<&SockAddr>,
        family: u16,
    ) -> Result<(), CompileError> {
        let protocol = if family == netlink::FAMILY { netlink::PROTOCOL } else { 0 };
        let socket = extra(nr::socket)
            .imm(0, u64::from(family))
            .imm(1, u64::from(kind))
            .imm(2, u64::from(protocol))
            .expect(Expect::Success, 0)
            .post(Post::Fd, fd_operand(fd, false));
        emit.put(task, &socket)?;
        let one = emit.data(&1_u32.to_ne_bytes())?;
        if matches!(u64::from(family), AF_INET | AF_INET6) && kind == SOCK_STREAM {
            // A peer sends when the recording has it: nothing is held back until what was sent before is acknowledged, which
            // may take 40 ms (`tcp_nagle_check`, net/ipv4/tcp_output.c). Accepted sockets have it from their listener.
            let at_once = extra(nr::setsockopt)
                .imm(0, u64::from(fd))
                .imm(1, IPPROTO_TCP)
                .imm(2, TCP_NODELAY)
                .arg(3, Sel::Data, one)
                .imm(4, 4);
            emit.put(task, &at_once)?;
        }
        let Some(addr) = addr else { return Ok(()) };
        if let SockAddr::Inet(at) = addr {
            let reuse = extra(nr::setsockopt)
                .imm(0, u64::from(fd))
                .imm(1, SOL_SOCKET)
                .imm(2, SO_REUSEADDR)
                .arg(3, Sel::Data, one)
                .imm(4, 4);
            emit.put(task, &reuse)?;
            if !at.ip().is_unspecified() {
                self.addresses.insert(at.ip());
            }
        }
        let bytes = wire::sockaddr(addr);
        let blob = emit.data(&bytes)?;
        let bind = extra(nr::bind)
            .imm(0, u64::from(fd))
            .arg(1, Sel::Data, blob)
            .imm(2, bytes.len() as u64)
            .expect(Expect::Exact, 0);
        emit.put(task, &bind)?;
        Ok(())
    }

    /// The workload is about to connect to `addr` and will get `answer`; the first who did so got `first`. Returns what it
    /// has to wait for.
    pub(crate) fn before_connect(
        &mut self,
        emit: &mut Emit,
        addr: &SockAddr,
        kind: u16,
        answer: Answer,
        first: Answer,
    ) -> Result<Option<Wait>, CompileError> {
        let key = canonical(addr);
        if let SockAddr::Inet(at) = &key
            && !at.ip().is_unspecified()
        {
            self.addresses.insert(at.ip());
        }
        if !self.servers.contains_key(&key) {
            if answer == Answer::Refuses && first == Answer::Refuses {
                return Ok(None);
            }
            let task = self.thread(emit, format!("server {}", self.servers.len()))?;
            let fd = self.new_fd();
            // Descriptors of those who fill its queue.
            for _ in 0..=SHORT_QUEUE {
                self.new_fd();
            }
            let stream = kind != SOCK_DGRAM;
            let mut state = None;
            if first != Answer::Refuses {
                // Connections that were there may have come from the same address: only one can listen at a time.
                let sync = Step::of(Kind::Sync);
                let mut waits = Vec::new();
                if let Some(wait) = self.last_established {
                    emit.wait(task, EdgeKind::Connection, wait, &mut waits);
                }
                emit.put_after(task, &sync, &waits)?;
                state = Some(self.listen(emit, task, fd, &key, kind, first)?);
            }
            emit.put(task, &Step::of(Kind::Gate))?;
            self.servers.insert(key.clone(), Server { task, fd, answer: first, state, accept: None, stream });
        }
        let Some(server) = self.servers.get(&key) else { return Ok(None) };
        let (task, fd, before, accept) = (server.task, server.fd, server.answer, server.accept);
        if before == answer {
            // Connections are taken in the order of the recording: two that come at nearly the same time from two
            // threads would change places otherwise, and each peer would wait for the other's bytes.
            return Ok(if answer == Answer::Accepts { accept.or(server.state) } else { server.state });
        }
        // The change comes after everything that needed the state before.
        let worker = self.asked.get(&key).copied();
        let mut waits = Vec::new();
        for wait in [accept, worker].into_iter().flatten() {
            emit.wait(task, EdgeKind::Connection, wait, &mut waits);
        }
        emit.put_after(task, &Step::of(Kind::Sync), &waits)?;
        // The listener first: who waits in its queue is gone with it.
        let open = match before {
            Answer::Accepts => 1,
            Answer::Silent => 2 + SHORT_QUEUE,
            Answer::Refuses => 0,
        };
        let mut closed = emit.next_step(task).saturating_sub(1);
        for fd in fd..fd + open {
            closed = emit.put(task, &extra(nr::close).imm(0, u64::from(fd)))?;
        }
        let state = match answer {
            Answer::Refuses => Wait::completed(task, closed),
            _ => self.listen(emit, task, fd, &key, kind, answer)?,
        };
        if let Some(server) = self.servers.get_mut(&key) {
            server.answer = answer;
            server.state = Some(state);
            server.accept = None;
        }
        Ok(Some(state))
    }

    pub(super) fn listen(
        &mut self,
        emit: &mut Emit,
        task: u32,
        fd: u32,
        addr: &SockAddr,
        kind: u16,
        answer: Answer,
    ) -> Result<Wait, CompileError> {
        if let SockAddr::Unix(path) = addr
            && path.first().is_some_and(|c| *c != b'@' && *c != 0)
        {
            let path = emit.cstr(path)?;
            emit.put(task, &extra(nr::unlinkat).imm(0, -100_i64 as u64).arg(1, Sel::Data, path).imm(2, 0))?;
        }
        self.bound(emit, task, fd, kind, Some(addr), family_of(addr))?;
        let silent = answer == Answer::Silent;
        let queue = if silent { SHORT_QUEUE } else { 4096 };
        let listen =
            extra(nr::listen).imm(0, u64::from(fd)).imm(1, u64::from(queue)).expect(Expect::Exact, 0);
        let mut last = emit.put(task, &listen)?;
        if silent {
            // The kernel does not answer a client whose listener has a full queue (`tcp_conn_request`, net/ipv4/tcp_input.c).
            let to = crate::compile::lower::reachable(addr.clone());
            let bytes = wire::sockaddr(&to);
            let blob = emit.data(&bytes)?;
            for filler in fd + 1..=fd + 1 + SHORT_QUEUE {
                self.bound(emit, task, filler, kind, None, family_of(addr))?;
                let connect = extra(nr::connect)
                    .imm(0, u64::from(filler))
                    .arg(1, Sel::Data, blob)
                    .imm(2, bytes.len() as u64);
                last = emit.put(task, &connect.expect(Expect::Exact, 0))?;
            }
        }
        Ok(Wait::completed(task, last))
    }

    /// The workload's connect of `sock` (step `worker`) succeeded or is in progress: somebody accepts it.
    pub(crate) fn serve(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        addr: &SockAddr,
        at_ns: u64,
        worker: Wait,
    ) -> Result<(), CompileError> {
        let key = canonical(addr);
        let Some(server) = self.servers.get(&key) else { return Ok(()) };
        if !server.stream {
            return Ok(());
        }
        let (listener, state, previous) = (server.fd, server.state, server.accept);
        let lane = self.lane(emit, at_ns)?;
        let (task, fd) = (self.lanes[lane].task, self.lanes[lane].fd);
        let mut waits = Vec::new();
        for wait in [state, previous, Some(worker)].into_iter().flatten() {
            emit.wait(task, EdgeKind::Connection, wait, &mut waits);
        }
        let mut accept = accept_at(listener, fd);
        accept.t_ns = at_ns;
        let step = emit.put_after(task, &accept, &waits)?;
        if let Some(server) = self.servers.get_mut(&key) {
            server.accept = Some(Wait::completed(task, step));
        }
        self.served += 1;
        self.conns.insert(sock, Conn::new(lane, fd, sock, at_ns));
        Ok(())
    }

    /// The places of the connections to a listener that are to be made now, up to this one.
    pub(crate) fn take_places(&mut self, place: Place) -> Range<u32> {
        let made = self.made.entry(place.listener).or_default();
        let first = *made;
        *made = first.max(place.position + 1);
        first..*made
    }

    /// The workload has connected to an address, or tried to.
    pub(crate) fn asked_by(&mut self, addr: &SockAddr, worker: Wait) {
        self.asked.insert(canonical(addr), worker);
    }

    /// Addresses that the workload connected to, or where it exchanged datagrams with somebody.
    pub(crate) fn asked(&self) -> usize {
        self.asked.len().max(self.at.len())
    }
}
