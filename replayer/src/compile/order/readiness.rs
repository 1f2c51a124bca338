//! Reports that several tasks had: a task that saw something ready sees it before another takes it, and after another
//! registered it.

use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Needs};
use super::super::model::{Cx, Model};
use super::super::world::{MAX_WATCHERS, Mark, OfdIx, OfdKind, detail_epoll};
use super::arrivals::was_told_before;
use super::keep_latest;
use super::registrations::rewatches;
use ctrace_format::Detail;
use rustc_hash::FxHashMap;

/// `EPOLLIN`, `EPOLLERR`, `EPOLLHUP`, `EPOLLRDHUP`; as many of `poll`.
const READABLE: u32 = 0x2019;
const KIND: EdgeKind = EdgeKind::Seen;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    /// By task, the last readiness call that saw a description readable since it was read last.
    sightings: FxHashMap<OfdIx, Vec<Mark>>,
    /// By epoll instance that several tasks use and by descriptor: the call that registered it last.
    registered: FxHashMap<OfdIx, FxHashMap<i32, Mark>>,
}

impl Readiness {
    pub(super) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        if let Some(ofd) = cx.accepting().and_then(|fd| model.world.ofd_of(cx.task, fd))
            && let OfdKind::Sock(listener) = model.kind(ofd)
        {
            let told = self.sightings.get(&ofd).into_iter().flatten();
            needs.done(KIND, told.filter(|mark| was_told_before(model, cx, listener, mark)));
        }
        if cx.call.ret >= 0 {
            // Others that saw it ready would look in vain after it was taken. Even those that began to look while this one
            // was about to take it: it was taken after they saw it.
            for ofd in cx.reads().filter_map(|fd| model.world.ofd_of(cx.task, fd)) {
                needs.done(KIND, self.sightings.get(&ofd).into_iter().flatten());
            }
        }
        self.after_registrations(model, cx, needs);
        if let Some(ofd) = rewatches(model, cx) {
            needs.done(
                KIND,
                self.sightings.get(&ofd).into_iter().flatten().filter(|mark| mark.task != cx.task),
            );
        }
    }

    /// A wait on an instance that several use is told of what was registered by then. What is registered meanwhile comes
    /// by `Lower::arm`.
    fn after_registrations(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        if !cx.known.asks_epoll() || cx.call.ret <= 0 {
            return;
        }
        let Some(ep) = model.world.ofd_of(cx.task, cx.fd(0)).filter(|ep| model.facts.pools.has(*ep)) else {
            return;
        };
        let (Some(epoll), Some(registered)) = (model.world.epoll(ep), self.registered.get(&ep)) else {
            return;
        };
        let entries = detail_epoll(cx.call).unwrap_or_default().iter();
        let fds = entries.filter_map(|entry| epoll.by_data(entry.data)).map(|watch| watch.fd);
        let fds = fds.filter(|fd| !model.facts.pools.comes_meanwhile(cx.id(), *fd));
        needs.done(KIND, fds.filter_map(|fd| registered.get(&fd)));
    }

    pub(super) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        if cx.known.sc == Sc::EpollCtl
            && cx.call.ret == 0
            && let Some(ep) = model.world.ofd_of(cx.task, cx.fd(0)).filter(|ep| model.facts.pools.has(*ep))
        {
            self.registered.entry(ep).or_default().insert(cx.fd(2), mark);
        }
        if cx.call.ret > 0 && (cx.known.asks_epoll() || cx.known.polls()) {
            for (fd, ofd) in seen(model, cx) {
                // Files that nobody else has can be taken by nobody else.
                if model.world.is_shared(cx.proc, fd, ofd) {
                    keep_latest(self.sightings.entry(ofd).or_default(), mark, MAX_WATCHERS);
                }
            }
        } else if cx.call.ret >= 0 {
            // The bytes that were seen are taken.
            for ofd in cx.reads().filter_map(|fd| model.world.ofd_of(cx.task, fd)) {
                self.sightings.remove(&ofd);
            }
        }
    }

    pub(super) fn forget(&mut self, ofd: OfdIx) {
        self.sightings.remove(&ofd);
        self.registered.remove(&ofd);
    }
}

/// The descriptions that a readiness call saw readable.
fn seen(model: &Model<'_>, cx: &Cx<'_>) -> Vec<(i32, OfdIx)> {
    if cx.known.asks_epoll() {
        let ep = model.world.ofd_of(cx.task, cx.fd(0));
        let Some(epoll) = ep.and_then(|ep| model.world.epoll(ep)) else { return Vec::new() };
        let entries = detail_epoll(cx.call).unwrap_or_default().iter();
        let readable = entries.filter(|entry| entry.events & READABLE != 0);
        return readable.filter_map(|e| epoll.by_data(e.data)).map(|w| (w.fd, w.ofd)).collect();
    }
    let entries = cx.call.details.iter().filter_map(|detail| match detail {
        Detail::Poll { entries, .. } => Some(entries),
        _ => None,
    });
    let readable = entries.flatten().filter(|entry| u32::from(entry.revents) & READABLE != 0);
    readable.filter_map(|e| Some((e.fd, model.world.ofd_of(cx.task, e.fd)?))).collect()
}
