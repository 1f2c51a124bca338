//! Connections that come to listeners, and datagrams to those that have an address together: in which order they are made and
//! taken.

use super::super::arrivals::{Place, STEPS_BEFORE_ACCEPT, STEPS_BEFORE_CONNECT, Told};
use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Needs};
use super::super::model::{Cx, Model};
use super::super::world::{Mark, OfdKind, SockIx};
use super::keep;
use super::streams::after_rivals;
use ctrace_format::syscalls::Family;
use ctrace_program::Wait;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Accepts that are kept of one listener: as many as may be under way at once.
const ACCEPTED: usize = 64;
const KIND: EdgeKind = EdgeKind::Connection;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Arriving {
    /// The last accepts, and the places of the connections that they took.
    accepted: FxHashMap<SockIx, VecDeque<(u32, Mark)>>,
    /// The last accepts, with or without a known place.
    accepts: FxHashMap<SockIx, VecDeque<Mark>>,
    /// The last connect to a listener of the workload, and its place, so that connections come in order.
    made: FxHashMap<SockIx, (u32, Wait)>,
    /// The calls that let sockets come to their addresses: to listen there, or to take datagrams.
    listens: FxHashMap<SockIx, Mark>,
    /// The last datagram that somebody outside sent to a socket.
    sent: FxHashMap<SockIx, Wait>,
}

impl Arriving {
    pub(super) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        if let Some(listener) = cx.looking() {
            self.taken(model, cx, listener, needs);
        }
        self.among_companions(model, cx, needs);
        self.arriving(model, cx, needs);
    }

    /// The order of accepts decides which task has which connection, and which comes in vain.
    fn taken(&self, model: &Model<'_>, cx: &Cx<'_>, fd: i32, needs: &mut Needs) {
        let Some(listener) = model.world.sock_of(cx.task, fd) else { return };
        if let Some(place) = model.place_taken(cx) {
            self.after_earlier_connections(model, cx, place, needs);
        } else if let Some(ofd) = model.world.ofd_of(cx.task, fd) {
            after_rivals(model, cx, ofd, KIND, self.accepts.get(&listener), needs);
        }
    }

    /// An accept takes the connection that came first of those that are left: each comes after the accept of the one before,
    /// even if that returned later.
    fn after_earlier_connections(&self, model: &Model<'_>, cx: &Cx<'_>, place: Place, needs: &mut Needs) {
        let Some(before) = place.position.checked_sub(1) else { return };
        let accepts = self.accepted.get(&place.listener).into_iter().flatten();
        if let Some((_, mark)) = accepts.rev().find(|(position, _)| *position == before) {
            needs.done(KIND, [mark]);
        } else if let Some(accept) = model.facts.arrivals.overtaken(cx.id())
            && model.is_next(accept)
        {
            // It has not returned yet: its steps are the next ones of its task.
            needs.passed(KIND, accept.0, STEPS_BEFORE_ACCEPT);
        }
    }

    /// Each of several sockets that have one address has its place by when it came, and by who is gone: they come one after
    /// the other, and none goes before the connections that were made, and the datagrams that were sent, while it was there.
    fn among_companions(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        if cx.known.row().family == Family::Listen
            && let Some(sock) = model.sock(cx)
            && model.shares_its_address(sock)
        {
            let group = model.world.group_of(sock).iter();
            needs.recorded(KIND, group.filter_map(|member| self.listens.get(member)));
        }
        if let Some(at) = model.binds_with_others(cx) {
            let group = model.world.groups.at(&at).iter();
            needs.recorded(KIND, group.filter_map(|member| self.listens.get(member)));
        }
        for ofd in model.closing(cx) {
            let OfdKind::Sock(sock) = model.kind(ofd) else { continue };
            if !model.shares_its_address(sock) {
                continue;
            }
            for member in model.world.group_of(sock) {
                let made = self.made.get(member).map(|(_, wait)| wait);
                for wait in made.into_iter().chain(self.sent.get(member)) {
                    needs.step(KIND, *wait);
                }
            }
        }
    }

    /// A connect to somebody inside comes after the listener listens and has looked in vain, and after the connections that
    /// came before.
    fn arriving(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        let Some(listener) = model.reached_listener(cx) else { return };
        if let Some(place) = model.place_made(cx)
            && let Some((position, wait)) = self.made.get(&place.listener)
            && *position < place.position
        {
            needs.step(KIND, *wait);
        }
        if let Some(connect) = model.facts.arrivals.overtaken(cx.id())
            && model.is_next(connect)
        {
            // It has not returned yet, but its connection came first.
            needs.passed(KIND, connect.0, STEPS_BEFORE_CONNECT);
        }
        needs.recorded(KIND, self.listens_of(model, listener));
        needs.recorded(EdgeKind::NotYet, &model.idle(model.world.socks[listener as usize].ofd));
    }

    /// The calls that let a socket come to its address, and those that have it with it.
    pub(crate) fn listens_of(&self, model: &Model<'_>, listener: SockIx) -> impl Iterator<Item = &Mark> {
        model.companions(listener).into_iter().filter_map(|member| self.listens.get(&member))
    }

    /// The last connection that was made to a listener of the workload.
    pub(crate) fn last_made(&self, listener: SockIx) -> Option<Wait> {
        self.made.get(&listener).map(|(_, wait)| *wait)
    }

    /// A connection to a listener of the workload was made, by whomever.
    pub(crate) fn made(&mut self, place: Place, wait: Wait) {
        let last = self.made.entry(place.listener).or_insert((place.position, wait));
        if place.position >= last.0 {
            *last = (place.position, wait);
        }
    }

    /// Somebody outside sent a datagram to a socket.
    pub(crate) fn sent(&mut self, receiver: SockIx, wait: Wait) {
        self.sent.insert(receiver, wait);
    }

    pub(super) fn forget(&mut self, sock: SockIx) {
        self.sent.remove(&sock);
    }

    pub(super) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        if cx.call.ret < 0 {
            return;
        }
        if let Some(listener) = cx.accepting().and_then(|fd| model.world.sock_of(cx.task, fd)) {
            keep(self.accepts.entry(listener).or_default(), mark);
            if let Some(place) = model.place_taken(cx) {
                let accepted = self.accepted.entry(place.listener).or_default();
                if accepted.len() >= ACCEPTED {
                    accepted.pop_front();
                }
                accepted.push_back((place.position, mark));
            }
        }
        if let Some(sock) = model.comes_to_address(cx) {
            // Several sockets at one address are complete when a filter tells them apart, see `io::sharing`.
            let listens = cx.known.sc == Sc::Listen && model.shares_its_address(sock);
            let filter = u32::from(listens || model.binds_with_others(cx).is_some());
            self.listens.insert(sock, Mark { step: mark.step + filter, ..mark });
        }
    }
}

/// Whether whoever was told of a connection (`mark`) has to be done before somebody else takes it: for as long as they are
/// being told, it is there. Who takes a connection itself that it was told of needs nobody's help, and who was told while
/// somebody took it cannot be told again, see [`Model::told_in_vain`].
pub(super) fn was_told_before(model: &Model<'_>, cx: &Cx<'_>, listener: SockIx, mark: &Mark) -> bool {
    let cookie = model.world.accepted_cookie(model.source, cx.call);
    let came_ns = model.facts.connects.established.get(&cookie).copied().unwrap_or(0);
    let told = model.facts.arrivals.told((mark.task, mark.seq), listener);
    told == Some(Told::Before) && mark.end_ns <= cx.call.t_ns && came_ns <= model.ended_by(mark)
}
