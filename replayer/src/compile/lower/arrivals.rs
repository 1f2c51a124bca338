//! Connections that come to listeners: when each is made, and in which order they are taken.

use super::super::CompileError;
use super::super::arrivals::{Place, Told};
use super::super::calls::Sc;
use super::super::deps::{EdgeKind, Need};
use super::super::world::{Mark, OfdIx, OfdKind, SockIx, TaskIx, detail_addr, detail_epoll};
use super::waits::keep_latest;
use super::{Cx, Lower, accepting, reachable};
use ctrace_format::{SockAddr, SyscallFlags};
use ctrace_program::{REPORTED_ONCE, Wait};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Accepts that are kept of one listener: as many as may be under way at once.
const ACCEPTED: usize = 64;
/// Tasks that are kept of those that wait on one epoll instance.
const REPORTERS: usize = 64;

/// What has been written of the connections that come to listeners.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    /// The last accepts, and the places of the connections that they took.
    accepted: FxHashMap<SockIx, VecDeque<(u32, Mark)>>,
    /// Connections up to this place have been made.
    made: FxHashMap<SockIx, u32>,
    /// By what is watched: the last call that reported what is reported once, and of which epoll instance.
    reports: FxHashMap<OfdIx, (OfdIx, Mark)>,
    /// By epoll instance: the last calls that reported such things, by task.
    reporters: FxHashMap<OfdIx, Vec<Mark>>,
}

impl Lower<'_> {
    /// Where the connection that an accept takes came in.
    pub(crate) fn place_taken(&self, cx: &Cx<'_>) -> Option<Place> {
        accepting(cx)?;
        let cookie = self.world.accepted_cookie(self.source, cx.call);
        let arrivals = &self.facts.arrivals;
        // Without a cookie: the next socket that there will be.
        let next = self.world.socks.len() as SockIx;
        if cookie == 0 { arrivals.place(next) } else { arrivals.place_of_cookie(cookie) }
    }

    /// The place of the connection that a connect to somebody inside makes.
    pub(crate) fn place_made(&self, cx: &Cx<'_>) -> Option<Place> {
        let sock = self.world.sock_of(cx.task, cx.call.args[0] as i32)?;
        self.facts.accepted_as.get(&sock).and_then(|accepted| self.facts.arrivals.place(*accepted))
    }

    /// An accept takes the connection that came first of those that are left: each comes after the accept of the one before,
    /// even if that returned later.
    pub(crate) fn after_earlier_connections(&mut self, cx: &Cx<'_>, place: Place, waits: &mut Vec<Wait>) {
        let Some(before) = place.position.checked_sub(1) else { return };
        let me = self.prog(cx.task);
        let accepts = self.doors.accepted.get(&place.listener).into_iter().flatten();
        if let Some((_, mark)) = accepts.rev().find(|(position, _)| *position == before) {
            let on = self.prog(mark.task);
            self.deps.add(me, EdgeKind::Connection, Wait::completed(on, mark.step), waits);
            return;
        }
        let seq = self.world.tasks[cx.task as usize].ops;
        if let Some((other, at)) = self.facts.arrivals.overtaken((cx.task, seq))
            && self.world.tasks.get(other as usize).is_some_and(|state| state.ops == at)
        {
            // It has not returned yet: its steps are the next two of its task, see `Lower::accept`.
            let on = self.prog(other);
            let accept = self.b.next_step(on) + 1;
            self.deps.add(me, EdgeKind::Connection, Wait::completed(on, accept), waits);
        }
    }

    /// Whether somebody's accept comes after this one, which returned later.
    pub(crate) fn overtakes(&self, cx: &Cx<'_>) -> bool {
        let seq = self.world.tasks[cx.task as usize].ops;
        self.facts.arrivals.is_overtaking((cx.task, seq))
    }

    /// Whether a connection came while an accept found none: nothing makes it come at that moment again.
    pub(crate) fn is_crowded(&self, cx: &Cx<'_>) -> bool {
        let seq = self.world.tasks[cx.task as usize].ops;
        self.facts.arrivals.is_crowded((cx.task, seq))
    }

    /// Remembers who took which connection.
    pub(crate) fn remember_accept(&mut self, place: Place, mark: Mark) {
        let accepts = self.doors.accepted.entry(place.listener).or_default();
        if accepts.len() >= ACCEPTED {
            accepts.pop_front();
        }
        accepts.push_back((place.position, mark));
    }

    /// Those who were told of a connection that another task takes after that: for as long as they are being told, it is
    /// there. Who takes a connection itself that it was told of needs nobody's help, and who was told while somebody
    /// took it cannot be told again, see [`Self::told_in_vain`].
    pub(crate) fn after_who_was_told(
        &mut self,
        cx: &Cx<'_>,
        listener: SockIx,
        marks: &[Mark],
        waits: &mut Vec<Wait>,
    ) {
        let cookie = self.world.accepted_cookie(self.source, cx.call);
        let came_ns = self.facts.connects.established.get(&cookie).copied().unwrap_or(0);
        let me = self.prog(cx.task);
        for mark in marks.iter().filter(|mark| mark.task != cx.task) {
            let told = self.facts.arrivals.told((mark.task, mark.seq), listener);
            if told == Some(Told::Before) && mark.end_ns <= cx.call.t_ns && came_ns <= mark.end_ns {
                let on = self.prog(mark.task);
                self.deps.add(me, EdgeKind::Seen, Wait::completed(on, mark.step), waits);
            }
        }
    }

    /// What an `epoll_wait` reports that is reported once, and the instance, where others wait on it, too.
    fn reported_once(&self, cx: &Cx<'_>) -> Vec<(OfdIx, OfdIx)> {
        let waits =
            matches!(cx.known.sc, Sc::EpollWait | Sc::EpollPwait | Sc::EpollPwait2) && cx.call.ret > 0;
        let fd = cx.call.args[0] as i32;
        let ep = self.world.ofd_of(cx.task, fd).filter(|ep| waits && self.world.is_shared(cx.proc, fd, *ep));
        let Some((ep, epoll)) = ep.and_then(|ep| Some((ep, self.world.epoll(ep)?))) else {
            return Vec::new();
        };
        let entries = detail_epoll(cx.call).unwrap_or_default().iter();
        let watches = entries.filter_map(|entry| epoll.by_data(entry.data));
        watches.filter(|watch| watch.events & REPORTED_ONCE != 0).map(|watch| (watch.ofd, ep)).collect()
    }

    /// What is reported once goes to whoever asks first: several that wait on one instance ask for the same one after the
    /// other, as they were told.
    pub(crate) fn after_earlier_reports(&mut self, cx: &Cx<'_>, waits: &mut Vec<Wait>) {
        if cx.call.flags.contains(SyscallFlags::NO_EXIT)
            && matches!(cx.known.sc, Sc::EpollWait | Sc::EpollPwait | Sc::EpollPwait2)
            && let Some(ep) = self.world.ofd_of(cx.task, cx.call.args[0] as i32)
        {
            // Who waited to the end was told of nothing that the others were told of.
            for mark in
                self.doors.reporters.get(&ep).into_iter().flatten().filter(|mark| mark.task != cx.task)
            {
                let (me, on) = (self.first + cx.task, self.first + mark.task);
                self.deps.add(me, EdgeKind::Seen, Wait::completed(on, mark.step), waits);
            }
        }
        for (ofd, ep) in self.reported_once(cx) {
            if let Some((_, mark)) = self.doors.reports.get(&ofd).filter(|(by, _)| *by == ep)
                && mark.task != cx.task
            {
                let (me, on) = (self.prog(cx.task), self.prog(mark.task));
                self.deps.add(me, EdgeKind::Seen, Wait::completed(on, mark.step), waits);
            }
        }
    }

    pub(crate) fn remember_reports(&mut self, cx: &Cx<'_>, mark: Mark) {
        for (ofd, ep) in self.reported_once(cx) {
            self.doors.reports.insert(ofd, (ep, mark));
            keep_latest(self.doors.reporters.entry(ep).or_default(), mark, REPORTERS);
        }
    }

    /// A description is over.
    pub(crate) fn forget_reports(&mut self, ofd: OfdIx) {
        self.doors.reports.remove(&ofd);
        self.doors.reporters.remove(&ofd);
    }

    /// The listening descriptors that a readiness call named although somebody took the connection at that moment.
    pub(crate) fn told_in_vain(&self, cx: &Cx<'_>) -> Vec<i32> {
        let call = (cx.task, self.world.tasks[cx.task as usize].ops);
        let told = self.world.told_of_connections(cx.task, cx.call, cx.known.sc);
        let arrivals = &self.facts.arrivals;
        let vain = told.into_iter().filter(|(sock, _)| arrivals.told(call, *sock) == Some(Told::Meanwhile));
        vain.map(|(_, fd)| fd).collect()
    }

    /// A connection came about: whoever connected did so now.
    pub(crate) fn came_about(&mut self, cookie: u64) -> Result<(), CompileError> {
        let Some(place) = self.facts.arrivals.place_of_cookie(cookie) else { return Ok(()) };
        self.make_connections(place)
    }

    /// Makes the connections of those outside, in the order in which they came, up to a place.
    fn make_connections(&mut self, place: Place) -> Result<(), CompileError> {
        let made = self.doors.made.get(&place.listener).copied().unwrap_or(0);
        if place.position < made {
            return Ok(());
        }
        self.doors.made.insert(place.listener, place.position + 1);
        for position in made..=place.position {
            let Some(one) = self.facts.arrivals.queue(place.listener).get(position as usize).cloned() else {
                break;
            };
            let ends = match one.ends {
                Some(ends) => Some(*ends),
                None => self.world.tuple(one.cookie).cloned(),
            };
            if let Some((local, peer)) = ends.filter(|_| !self.is_inside(one.sock)) {
                let place = Place { position, ..place };
                let at_ns = one.at_ns.unwrap_or(0);
                let ofd = self.world.socks.get(place.listener as usize).and_then(|sock| sock.ofd);
                let after = ofd.map_or_else(Vec::new, |ofd| self.looked_before(ofd, at_ns));
                self.make_connection(place, one.sock, Some(&peer), local, at_ns, after)?;
            }
        }
        Ok(())
    }

    fn make_connection(
        &mut self,
        place: Place,
        sock: SockIx,
        from: Option<&SockAddr>,
        to: SockAddr,
        at_ns: u64,
        mut after: Vec<Wait>,
    ) -> Result<(), CompileError> {
        if self.peers.plays(sock) {
            // One that the queue of its listener has twice.
            return Ok(());
        }
        for member in self.companions(place.listener) {
            let listens = self.listens.get(&member);
            after.extend(listens.map(|mark| Wait::completed(self.prog(mark.task), mark.step)));
        }
        let kind = self.world.socks.get(place.listener as usize).map_or(1, |sock| sock.kind);
        let (b, deps) = (&mut self.b, &mut self.deps);
        self.peers.connect(b, deps, sock, (&self.world, place), from, &reachable(to), kind, at_ns, &after)
    }

    /// A connection was accepted: if whoever made it is outside and did not so yet, they have by now.
    pub(crate) fn was_accepted(
        &mut self,
        cx: &Cx<'_>,
        sock: SockIx,
        listener: SockIx,
    ) -> Result<(), CompileError> {
        let Some(place) = self.facts.arrivals.place(sock) else { return Ok(()) };
        let known = self.facts.connects.established.contains_key(&self.world.socks[sock as usize].cookie);
        if known {
            return self.make_connections(place);
        }
        if place.position < self.doors.made.get(&listener).copied().unwrap_or(0) {
            return Ok(());
        }
        self.doors.made.insert(listener, place.position + 1);
        let state = &self.world.socks[sock as usize];
        let from = state.peer.clone();
        let to = state.local.clone().or_else(|| self.world.socks[listener as usize].local.clone());
        let Some(to) = to else { return Ok(()) };
        let at_ns = self.pending_arrival.map_or(cx.call.t_ns, |arrival| arrival.at_ns);
        let after = std::mem::take(&mut self.pending_after);
        self.make_connection(place, sock, from.as_ref(), to, at_ns, after)
    }

    /// A listener, and those that listen at its address with it.
    pub(crate) fn companions(&self, listener: SockIx) -> Vec<SockIx> {
        let group = self.world.group_of(listener);
        if group.contains(&listener) { group.to_vec() } else { vec![listener] }
    }

    /// Of several sockets that have one address, each has its place by when it came, and by who is gone: they come one after
    /// the other, and none goes before the connections that were made, and the datagrams that came, while it was there.
    pub(crate) fn among_companions(&mut self, cx: &Cx<'_>, needs: &mut Vec<Need>, waits: &mut Vec<Wait>) {
        if cx.known.sc == Sc::Listen
            && let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32)
            && self.shares_its_address(sock)
        {
            let there = self.world.group_of(sock).iter().filter_map(|member| self.listens.get(member));
            needs.extend(there.map(|mark| Need { kind: EdgeKind::Connection, mark: *mark }));
        }
        if let Some(at) = self.binds_with_others(cx) {
            let there = self.world.groups.at(&at).iter().filter_map(|member| self.listens.get(member));
            needs.extend(there.map(|mark| Need { kind: EdgeKind::Connection, mark: *mark }));
        }
        for ofd in self.closing(cx) {
            let OfdKind::Sock(sock) = self.world.ofds[ofd as usize].kind else { continue };
            if !self.shares_its_address(sock) {
                continue;
            }
            for member in self.world.group_of(sock).to_vec() {
                let connected = self.peers.last_connect(member).map(|(_, wait)| wait);
                for wait in connected.into_iter().chain(self.peers.last_datagram(member)) {
                    let me = self.prog(cx.task);
                    self.deps.add(me, EdgeKind::Connection, wait, waits);
                }
            }
        }
    }

    /// A connect to somebody inside comes after the listener listens and has looked in vain, and after the connections that
    /// came before.
    pub(crate) fn before_arriving(&mut self, cx: &Cx<'_>, waits: &mut Vec<Wait>) -> Option<SockIx> {
        if cx.known.sc != Sc::Connect || cx.call.ret < -115 {
            return None;
        }
        let addr = detail_addr(cx.call, 1)?;
        let addr = self.world.absolute(cx.task, addr);
        let Some(place) = self.place_made(cx) else { return self.world.listener(&addr) };
        if let Some((position, wait)) = self.peers.last_connect(place.listener)
            && position < place.position
        {
            let me = self.prog(cx.task);
            self.deps.add(me, EdgeKind::Connection, wait, waits);
        }
        Some(place.listener)
    }

    /// Somebody inside has connected to somebody inside.
    pub(crate) fn has_arrived(&mut self, task: TaskIx, sock: SockIx, mark: Mark) {
        let accepted = self.facts.accepted_as.get(&sock);
        if let Some(place) = accepted.and_then(|accepted| self.facts.arrivals.place(*accepted)) {
            self.peers.connected(place, Wait::completed(self.prog(task), mark.step));
        }
    }
}
