//! Connections that come from outside: each is made when, and in the order in which, it came.

use super::super::CompileError;
use super::super::arrivals::Place;
use super::super::model::Cx;
use super::super::world::{Arrival, Mark, SockIx, TaskIx};
use super::{Lower, reachable};
use ctrace_format::SockAddr;
use ctrace_program::Wait;

/// A connection that somebody outside makes.
struct Connection {
    sock: SockIx,
    from: Option<SockAddr>,
    to: SockAddr,
    at_ns: u64,
    /// The tasks that had looked for it in vain.
    after: Vec<Wait>,
}

impl Lower<'_> {
    /// A connection came about: whoever connected did so now.
    pub(super) fn came_about(&mut self, cookie: u64) -> Result<(), CompileError> {
        let Some(place) = self.facts.arrivals.place_of_cookie(cookie) else { return Ok(()) };
        self.make_connections(place)
    }

    /// Makes the connections of those outside, in the order in which they came, up to a place.
    fn make_connections(&mut self, place: Place) -> Result<(), CompileError> {
        for position in self.peers.take_places(place) {
            let Some(one) = self.facts.arrivals.queue(place.listener).get(position as usize).cloned() else {
                break;
            };
            let ends = match one.ends {
                Some(ends) => Some(*ends),
                None => self.world.tuple(one.cookie).cloned(),
            };
            if let Some((to, from)) = ends.filter(|_| !self.model().is_inside(one.sock)) {
                let at_ns = one.at_ns.unwrap_or(0);
                let ofd = self.world.socks.get(place.listener as usize).and_then(|sock| sock.ofd);
                let after = ofd.map_or_else(Vec::new, |ofd| self.looked_before(ofd, at_ns));
                let connection = Connection { sock: one.sock, from: Some(from), to, at_ns, after };
                self.make_connection(Place { position, ..place }, connection)?;
            }
        }
        Ok(())
    }

    fn make_connection(&mut self, place: Place, connection: Connection) -> Result<(), CompileError> {
        let Connection { sock, from, to, at_ns, mut after } = connection;
        if self.peers.plays(sock) {
            // One that the queue of its listener has twice.
            return Ok(());
        }
        let model = self.model();
        let listens = self.order.arrivals.listens_of(&model, place.listener);
        after.extend(listens.map(|mark| self.emit.done(mark)));
        after.extend(self.order.arrivals.last_made(place.listener));
        let kind = self.world.socks.get(place.listener as usize).map_or(1, |sock| sock.kind);
        let (emit, to) = (&mut self.emit, reachable(to));
        let made =
            self.peers.connect(emit, sock, (&self.world, place), from.as_ref(), &to, kind, at_ns, &after)?;
        self.order.arrivals.made(place, made);
        let cookie =
            self.facts.arrivals.queue(place.listener).get(place.position as usize).map(|one| one.cookie);
        if let Some(sends) = cookie.and_then(|cookie| self.facts.unheard.get(&cookie)) {
            self.peers.will_not_hear(sock, *sends);
        }
        if let Some(first) = self.facts.firsts.of(sock) {
            self.peers.speaks(sock, first);
        }
        Ok(())
    }

    /// A connection was accepted: if whoever made it is outside and did not so yet, they have by now.
    pub(super) fn was_accepted(
        &mut self,
        cx: &Cx<'_>,
        sock: SockIx,
        listener: SockIx,
        arrival: Option<(Arrival, Vec<Wait>)>,
    ) -> Result<(), CompileError> {
        let Some(place) = self.facts.arrivals.place(sock) else { return Ok(()) };
        let known = self.facts.connects.established.contains_key(&self.world.socks[sock as usize].cookie);
        if known {
            return self.make_connections(place);
        }
        if self.peers.take_places(Place { listener, ..place }).is_empty() {
            return Ok(());
        }
        let state = &self.world.socks[sock as usize];
        let from = state.peer.clone();
        let to = self.world.later_name(listener).or(state.local.as_ref()).cloned();
        let to = to.or_else(|| self.world.socks[listener as usize].local.clone());
        let Some(to) = to else { return Ok(()) };
        let (at_ns, after) = match arrival {
            Some((arrival, after)) => (arrival.at_ns, after),
            None => (cx.call.t_ns, Vec::new()),
        };
        self.make_connection(place, Connection { sock, from, to, at_ns, after })
    }

    /// Somebody inside has connected to somebody inside.
    pub(super) fn has_arrived(&mut self, task: TaskIx, sock: SockIx, mark: Mark) {
        let accepted = self.facts.accepted_as.get(&sock);
        if let Some(place) = accepted.and_then(|accepted| self.facts.arrivals.place(*accepted)) {
            self.order.arrivals.made(place, Wait::completed(self.emit.prog(task), mark.step));
        }
    }
}
