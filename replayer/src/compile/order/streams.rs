//! What bytes, counts and datagrams go through in order: who wrote before, who read before, who looked in vain.

use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Needs};
use super::super::model::{Cx, Model};
use super::super::world::{
    BLOCKED_NS, Mark, OfdIx, OfdKind, PipeIx, SOCK_DGRAM, Sock, SockIx, StreamKey, World,
};
use super::{RIVALS, before, keep};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

const EAGAIN: i64 = -11;

/// How many datagrams were sent to a socket from inside and taken from it, and by whom the last were sent: the number with
/// those, and the call.
#[derive(Debug, Default)]
struct Delivered {
    sent: u64,
    taken: u64,
    last: VecDeque<(u64, Mark)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    writes: FxHashMap<StreamKey, VecDeque<Mark>>,
    reads: FxHashMap<StreamKey, VecDeque<Mark>>,
    /// The last write to each pipe that wrote all it was to: it needed nobody's close to return.
    whole: FxHashMap<PipeIx, Mark>,
    /// Calls that ended one direction of a connection, or both, by the socket that they were made on.
    ended: FxHashMap<SockIx, VecDeque<Mark>>,
    /// The last of them that were no closes.
    shut: FxHashMap<SockIx, Mark>,
    /// Datagrams that came to a socket from inside.
    datagrams: FxHashMap<SockIx, Delivered>,
}

/// Of several that wait for the same, the kernel chooses who gets it; here that is known: who got it later waits until
/// the others have it.
pub(super) fn after_rivals(
    model: &Model<'_>,
    cx: &Cx<'_>,
    ofd: OfdIx,
    kind: EdgeKind,
    rivals: Option<&VecDeque<Mark>>,
    needs: &mut Needs,
) {
    let Some(rivals) = rivals else { return };
    needs.recorded(kind, before([rivals], cx.call.t_ns));
    let blocks = cx.call.duration_ns >= BLOCKED_NS && !model.world.ofds[ofd as usize].nonblock;
    // Who came in vain found it taken, too.
    if blocks || cx.call.ret == EAGAIN {
        needs.done(kind, rivals.back());
    }
}

impl Streams {
    pub(super) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        let start_ns = cx.call.t_ns;
        let ofd_of = |fd: i32| model.world.ofd_of(cx.task, fd);
        for ofd in cx.reads().filter_map(ofd_of) {
            if let Some(key) = model.stream(ofd, false) {
                after_rivals(model, cx, ofd, EdgeKind::Stream, self.reads.get(&key), needs);
                if matches!(key, StreamKey::Sock(sock) if model.world.socks[sock as usize].is_datagram()) {
                    // A peer that speaks next to a socket of several threads may have waited for the answer of another thread.
                    needs.recorded(EdgeKind::Stream, before(self.writes.get(&key), start_ns));
                }
            }
        }
        for ofd in cx.writes().filter_map(ofd_of) {
            if let Some(key) = model.stream(ofd, true) {
                needs.recorded(EdgeKind::Stream, before(self.writes.get(&key), start_ns));
                if let StreamKey::Sock(sock) = key {
                    needs.recorded(EdgeKind::Stream, before(self.ended.get(&sock), start_ns));
                    // What is said on a connection answers what was heard by then, whichever threads do it: whether one
                    // handed it to another in memory is not seen.
                    needs.recorded(EdgeKind::Stream, before(self.reads.get(&key), start_ns));
                }
                if model.kind(ofd) == OfdKind::Event {
                    // A read takes all that was added: what is added too early is not there for the next one.
                    needs.recorded(EdgeKind::Stream, before(self.reads.get(&key), start_ns));
                }
            }
            needs.recorded(EdgeKind::NotYet, &model.idle_of_reader(ofd));
        }
        for receiver in model.datagram_receivers(cx) {
            // Who receives several's datagrams has them in the order in which they were sent.
            let sent = self.writes.get(&StreamKey::Datagrams(receiver));
            needs.recorded(EdgeKind::Stream, before(sent, start_ns));
            needs.recorded(EdgeKind::NotYet, &model.idle(model.world.socks[receiver as usize].ofd));
        }
        self.after_those_sent(model, cx, needs);
    }

    /// Several messages are taken at once when they are there: those from inside are sent by then.
    fn after_those_sent(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        if cx.known.sc != Sc::Recvmmsg || cx.call.ret < 2 {
            return;
        }
        let Some(datagrams) = model.sock(cx).and_then(|sock| self.datagrams.get(&sock)) else { return };
        let wanted = datagrams.taken.saturating_add(cx.call.ret as u64);
        let last = datagrams.last.iter().find(|(upto, _)| *upto >= wanted);
        needs.recorded(EdgeKind::Stream, last.map(|(_, mark)| mark));
    }

    /// A close of an end waits for two things: somebody's writes succeeded while it was open, and the other end was closed
    /// or shut down before it. Which end goes first decides what becomes of a connection (`tcp_fin`,
    /// `net/ipv4/tcp_input.c`; `__tcp_close`, `net/ipv4/tcp.c`), also once nobody has the other end any more.
    pub(super) fn ends(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        for sock in model.ending(cx) {
            let partner = model.world.socks[sock as usize].partner;
            let ended = partner.and_then(|partner| self.ended.get(&partner));
            // Even those that were still under way: they had begun before, and were over sooner.
            needs.done(EdgeKind::Stream, before(ended, cx.call.t_ns));
            if let Some(partner) = partner
                && let cookie = &model.world.socks[partner as usize].cookie
                && model.facts.reset_by.get(cookie) == Some(&(cx.task, cx.call.t_ns))
            {
                // While this call was under way, a shutdown that succeeded came before the reset, and a close that was over.
                needs.done(EdgeKind::Stream, self.shut.get(&partner));
                let reset_ns = model.facts.reset.get(cookie).copied().unwrap_or(u64::MAX);
                let sooner = ended.into_iter().flatten().filter(|mark| mark.end_ns < reset_ns);
                needs.done(EdgeKind::Stream, sooner);
            }
            // A shutdown that succeeded came before the reset.
            if cx.known.sc != Sc::Shutdown || cx.call.ret < 0 {
                self.after_reset(model, cx, sock, needs);
            }
        }
        for ofd in model.closing(cx) {
            let written = match model.kind(ofd) {
                OfdKind::Pipe { pipe, write: false } => {
                    // A process that ends closes a while after it began to end.
                    needs.done(EdgeKind::Stream, self.whole.get(&pipe));
                    self.writes.get(&StreamKey::Pipe(pipe))
                }
                OfdKind::Sock(sock) => {
                    let partner = model.world.socks[sock as usize].partner;
                    let written = partner.and_then(|partner| self.writes.get(&StreamKey::Sock(partner)));
                    // Even those that this close was under way with: it did not reach them.
                    needs.done(EdgeKind::Stream, written.and_then(|marks| marks.back()));
                    written
                }
                _ => None,
            };
            needs.recorded(EdgeKind::Stream, before(written, cx.call.t_ns));
        }
    }

    /// Whether an end has been closed or shut down.
    pub(crate) fn has_ended(&self, sock: SockIx) -> bool {
        self.ended.contains_key(&sock)
    }

    /// A close that found its connection reset comes after the one that reset it, which had begun before and returned later.
    fn after_reset(&self, model: &Model<'_>, cx: &Cx<'_>, sock: SockIx, needs: &mut Needs) {
        let Sock { cookie, partner, .. } = &model.world.socks[sock as usize];
        let reset_ns = model.facts.reset.get(cookie).filter(|at_ns| **at_ns <= cx.end_ns());
        let by = reset_ns.and_then(|_| model.facts.reset_by.get(cookie));
        let Some((task, began_ns)) =
            by.filter(|(task, began_ns)| *task != cx.task && *began_ns <= cx.call.t_ns)
        else {
            return;
        };
        let ended = partner.and_then(|partner| self.ended.get(&partner)).into_iter().flatten();
        if ended.into_iter().all(|mark| (mark.task, mark.start_ns) != (*task, *began_ns)) {
            needs.passed(EdgeKind::Stream, *task, 0);
        }
    }

    pub(super) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        if cx.call.ret < 0 {
            return;
        }
        let ofd_of = |fd: i32| model.world.ofd_of(cx.task, fd);
        for key in cx.reads().filter_map(ofd_of).filter_map(|ofd| model.stream(ofd, false)) {
            keep(self.reads.entry(key).or_default(), mark);
        }
        for key in cx.writes().filter_map(ofd_of).filter_map(|ofd| model.stream(ofd, true)) {
            if let StreamKey::Pipe(pipe) = key
                && cx.wrote_all()
            {
                self.whole.insert(pipe, mark);
            }
            keep(self.writes.entry(key).or_default(), mark);
        }
        for receiver in model.datagram_receivers(cx) {
            keep(self.writes.entry(StreamKey::Datagrams(receiver)).or_default(), mark);
        }
        self.count_datagrams(model, cx, mark);
        for sock in model.ending(cx) {
            keep(self.ended.entry(sock).or_default(), mark);
            if cx.known.sc == Sc::Shutdown {
                self.shut.insert(sock, mark);
            }
        }
    }

    /// Counts the datagrams that a call sent to sockets inside, or took.
    fn count_datagrams(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        let Some(sock) = model.sock(cx) else { return };
        if model.world.socks[sock as usize].kind & 0xf != SOCK_DGRAM {
            return;
        }
        let taken = match cx.known.sc {
            Sc::Read | Sc::Readv | Sc::Recvfrom | Sc::Recvmsg => 1,
            Sc::Recvmmsg => cx.call.ret.unsigned_abs(),
            _ => 0,
        };
        if taken > 0
            && let Some(datagrams) = self.datagrams.get_mut(&sock)
        {
            datagrams.taken = datagrams.taken.saturating_add(taken);
        }
        for to in World::destinations(cx.call, cx.known.sc) {
            let Some(receiver) = model.world.receiver_of(cx.task, sock, to.as_ref()) else { continue };
            let datagrams = self.datagrams.entry(receiver).or_default();
            datagrams.sent += 1;
            if datagrams.last.back().is_some_and(|(_, last)| *last == mark) {
                datagrams.last.pop_back();
            } else if datagrams.last.len() >= RIVALS {
                datagrams.last.pop_front();
            }
            datagrams.last.push_back((datagrams.sent, mark));
        }
    }

    /// The last call that sent something from a socket by that time.
    pub(crate) fn sent_before(&self, sock: SockIx, at_ns: u64) -> Option<&Mark> {
        let sends = self.writes.get(&StreamKey::Sock(sock)).into_iter().flatten();
        sends.rev().find(|mark| mark.end_ns <= at_ns)
    }

    /// The last call before a socket was closed, at `closed_ns`, that ended a direction of its connection.
    pub(crate) fn ended_before(&self, sock: SockIx, closed_ns: u64) -> Option<&Mark> {
        let ended = self.ended.get(&sock).into_iter().flatten();
        ended.rev().find(|mark| mark.end_ns < closed_ns)
    }

    /// A socket is over. The other end of its connection may still wait for what was done at this one.
    pub(super) fn forget(&mut self, model: &Model<'_>, sock: SockIx) {
        self.writes.remove(&StreamKey::Datagrams(sock));
        self.reads.remove(&StreamKey::Sock(sock));
        self.datagrams.remove(&sock);
        for over in model.nobody_waits_for(sock) {
            self.writes.remove(&StreamKey::Sock(over));
            self.ended.remove(&over);
        }
    }
}
