//! What several were told of, and what is told once only: who saw something ready sees it before another takes it.

use super::super::emit::{EdgeKind, Needs};
use super::super::model::{Cx, Model};
use super::super::world::{MAX_WATCHERS, Mark, OfdIx, OfdKind, detail_epoll};
use super::arrivals::was_told_before;
use super::keep_latest;
use ctrace_format::Detail;
use ctrace_program::REPORTED_ONCE;
use rustc_hash::FxHashMap;

/// Tasks that are kept of those that wait on one epoll instance.
const REPORTERS: usize = 64;
/// `EPOLLIN`, `EPOLLERR`, `EPOLLHUP`, `EPOLLRDHUP`; as many of `poll`.
const READABLE: u32 = 0x2019;
const KIND: EdgeKind = EdgeKind::Seen;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    /// By task, the last readiness call that saw a description readable since it was read last.
    sightings: FxHashMap<OfdIx, Vec<Mark>>,
    /// By what is watched: the last call that reported what is reported once, and of which epoll instance.
    reports: FxHashMap<OfdIx, (OfdIx, Mark)>,
    /// By epoll instance: the last calls that reported such things, by task.
    reporters: FxHashMap<OfdIx, Vec<Mark>>,
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
        self.after_earlier_reports(model, cx, needs);
    }

    /// What is reported once goes to whoever asks first: several that wait on one instance ask for the same one after the
    /// other, as they were told.
    fn after_earlier_reports(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        if cx.unfinished()
            && cx.known.asks_epoll()
            && let Some(ep) = model.world.ofd_of(cx.task, cx.fd(0))
        {
            // Who waited to the end was told of nothing that the others were told of.
            needs.done(KIND, self.reporters.get(&ep).into_iter().flatten());
        }
        for (ofd, ep) in reported_once(model, cx) {
            let report = self.reports.get(&ofd).filter(|(by, _)| *by == ep);
            needs.done(KIND, report.map(|(_, mark)| mark));
        }
    }

    pub(super) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        for (ofd, ep) in reported_once(model, cx) {
            self.reports.insert(ofd, (ep, mark));
            keep_latest(self.reporters.entry(ep).or_default(), mark, REPORTERS);
        }
        if cx.call.ret > 0 && (cx.known.asks_epoll() || cx.known.polls()) {
            for (fd, ofd) in seen(model, cx) {
                // Files that nobody else has can be taken by nobody else.
                if model.world.is_shared(cx.proc, fd, ofd) {
                    keep_latest(self.sightings.entry(ofd).or_default(), mark, MAX_WATCHERS);
                }
            }
        } else if cx.call.ret >= 0 {
            // What was seen is taken.
            for ofd in cx.reads().filter_map(|fd| model.world.ofd_of(cx.task, fd)) {
                self.sightings.remove(&ofd);
            }
        }
    }

    pub(super) fn forget(&mut self, ofd: OfdIx) {
        self.sightings.remove(&ofd);
        self.reports.remove(&ofd);
        self.reporters.remove(&ofd);
    }
}

/// What a readiness call saw readable.
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

/// What an `epoll_wait` reports that is reported once, and the instance, where others wait on it, too.
fn reported_once(model: &Model<'_>, cx: &Cx<'_>) -> Vec<(OfdIx, OfdIx)> {
    if !cx.known.asks_epoll() || cx.call.ret <= 0 {
        return Vec::new();
    }
    let fd = cx.fd(0);
    let ep = model.world.ofd_of(cx.task, fd).filter(|ep| model.world.is_shared(cx.proc, fd, *ep));
    let Some((ep, epoll)) = ep.and_then(|ep| Some((ep, model.world.epoll(ep)?))) else {
        return Vec::new();
    };
    let entries = detail_epoll(cx.call).unwrap_or_default().iter();
    let watches = entries.filter_map(|entry| epoll.by_data(entry.data));
    watches.filter(|watch| watch.events & REPORTED_ONCE != 0).map(|watch| (watch.ofd, ep)).collect()
}
