//! Those who connect to the workload, during the recording or before.

use super::super::CompileError;
use super::super::arrivals::Place;
use super::super::calls::nr;
use super::super::emit::{EdgeKind, Emit};
use super::super::sharing::name_place;
use super::super::wire;
use super::super::world::{SockIx, World, canonical};
use super::servers::accept_at;
use super::{Conn, Lane, Peers, extra};
use ctrace_format::SockAddr;
use ctrace_program::{Expect, Kind, Step, Wait, flags};
use std::ops::Range;

impl Peers {
    /// The workload accepts `sock`: somebody connects from `from` to `to` at `at_ns`. Returns the connect.
    #[expect(clippy::too_many_arguments, reason = "both addresses, both sockets, and what to wait for")]
    pub(crate) fn connect(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        (world, place): (&World, Place),
        from: Option<&SockAddr>,
        to: &SockAddr,
        kind: u16,
        at_ns: u64,
        after: &[Wait],
    ) -> Result<Wait, CompileError> {
        let lane = self.lane(emit, at_ns)?;
        let (task, fd) = (self.lanes[lane].task, self.lanes[lane].fd);
        let from = from.filter(|a| match a {
            SockAddr::Inet(at) => !at.ip().is_unspecified() && at.port() != 0,
            SockAddr::Unix(path) => path.first().is_some_and(|c| *c == b'@' || *c == 0),
            _ => false,
        });
        let waits = emit.waits(task, EdgeKind::Connection, after.iter().copied());
        let mut sync = Step::of(Kind::Sync).with(flags::AT);
        sync.t_ns = at_ns;
        emit.put_after(task, &sync, &waits)?;
        self.bound(emit, task, fd, kind, from, wire::family_of(to))?;
        for step in name_place(emit, world, place, u64::from(fd), wire::family_of(to))? {
            emit.put(task, &step.with(flags::EXTRA))?;
        }
        self.exists(&canonical(to));
        let connect = emit.addressed(nr::connect, u64::from(fd), to)?.with(flags::EXTRA);
        let mut connect = connect.expect(Expect::Exact, 0);
        connect.t_ns = at_ns;
        let step = emit.put(task, &connect)?;
        self.clients += 1;
        self.conns.insert(sock, Conn { last_ns: at_ns, client: true, ..Conn::new(lane, fd, sock) });
        Ok(Wait::completed(task, step))
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

    /// Addresses that the workload connected to.
    pub(crate) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// An established connection, first half: a lane listens at `addr`, before the gate. Returns when it does.
    pub(crate) fn established(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        addr: &SockAddr,
        client: bool,
    ) -> Result<Wait, CompileError> {
        let name = format!("peer {}", self.lanes.len());
        let task = self.thread(emit, name)?;
        let fd = self.new_fd();
        let listener = self.new_fd();
        // One after the other: several may be at the same address.
        let waits: Vec<Wait> = self.last_established.into_iter().collect();
        emit.put_after(task, &Step::of(Kind::Sync), &waits)?;
        self.bound(emit, task, listener, 1, Some(addr), wire::family_of(addr))?;
        let step = emit
            .put(task, &extra(nr::listen).imm(0, u64::from(listener)).imm(1, 1).expect(Expect::Exact, 0))?;
        self.lanes.push(Lane { task, fd });
        let lane = self.lanes.len() - 1;
        self.conns.insert(sock, Conn { client, ..Conn::new(lane, fd, sock) });
        Ok(Wait::completed(task, step))
    }

    /// Second half: the workload's end connects (step `worker`), the lane accepts and stops listening.
    pub(crate) fn established_accept(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        worker: Wait,
    ) -> Result<(), CompileError> {
        let Some(conn) = self.conns.get(&sock) else { return Ok(()) };
        let (task, fd) = (self.lanes[conn.lane].task, conn.fd);
        let listener = fd + 1;
        let waits = emit.waits(task, EdgeKind::Connection, [worker]);
        emit.put_after(task, &accept_at(listener, fd), &waits)?;
        let step = emit.put(task, &extra(nr::close).imm(0, u64::from(listener)))?;
        self.last_established = Some(Wait::completed(task, step));
        emit.put(task, &Step::of(Kind::Gate))?;
        self.clients += 1;
        Ok(())
    }
}
