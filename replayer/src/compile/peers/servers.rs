//! Addresses that the workload connects to: who listens there, and who accepts.

use super::super::CompileError;
use super::super::calls::nr;
use super::super::connects::Answer;
use super::super::emit::{EdgeKind, Emit};
use super::super::wire;
use super::super::world::{SockIx, canonical};
use super::{Conn, Peers, SHORT_QUEUE, SOCK_DGRAM, Server, extra, unlink};
use ctrace_format::SockAddr;
use ctrace_program::{Expect, Kind, Post, Sel, Step, Wait, fd_operand};

impl Peers {
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
        self.exists(&key);
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
                let waits = emit.waits(task, EdgeKind::Connection, self.last_established);
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
        let waits = emit.waits(task, EdgeKind::Connection, [accept, worker].into_iter().flatten());
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

    fn listen(
        &mut self,
        emit: &mut Emit,
        task: u32,
        fd: u32,
        addr: &SockAddr,
        kind: u16,
        answer: Answer,
    ) -> Result<Wait, CompileError> {
        unlink(emit, task, addr)?;
        self.bound(emit, task, fd, kind, Some(addr), wire::family_of(addr))?;
        let silent = answer == Answer::Silent;
        let queue = if silent { SHORT_QUEUE } else { 4096 };
        let listen =
            extra(nr::listen).imm(0, u64::from(fd)).imm(1, u64::from(queue)).expect(Expect::Exact, 0);
        let mut last = emit.put(task, &listen)?;
        if silent {
            // Who comes to a full queue is not answered (`tcp_conn_request`, net/ipv4/tcp_input.c).
            let to = wire::reachable(addr.clone());
            let bytes = wire::sockaddr(&to);
            let blob = emit.data(&bytes)?;
            for filler in fd + 1..=fd + 1 + SHORT_QUEUE {
                self.bound(emit, task, filler, kind, None, wire::family_of(addr))?;
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
        let waits =
            emit.waits(task, EdgeKind::Connection, [state, previous, Some(worker)].into_iter().flatten());
        let mut accept = accept_at(listener, fd);
        accept.t_ns = at_ns;
        let step = emit.put_after(task, &accept, &waits)?;
        if let Some(server) = self.servers.get_mut(&key) {
            server.accept = Some(Wait::completed(task, step));
        }
        self.served += 1;
        self.conns.insert(sock, Conn { last_ns: at_ns, ..Conn::new(lane, fd, sock) });
        Ok(())
    }
}

/// Accepts a connection at the descriptor `listener`, as `fd`.
pub(super) fn accept_at(listener: u32, fd: u32) -> Step {
    extra(nr::accept4)
        .imm(0, u64::from(listener))
        .imm(1, 0)
        .imm(2, 0)
        .imm(3, 0)
        .expect(Expect::Success, 0)
        .post(Post::Fd, fd_operand(fd, false))
}
