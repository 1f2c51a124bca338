//! The watches of epoll instances that several tasks change.
//!
//! `epoll_ctl` adds what is not watched and removes what is (`do_epoll_ctl`, fs/eventpoll.c): out of order, one of two
//! threads that take turns fails, and the other waits for what nobody watches.

use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Needs};
use super::super::model::{Cx, Model};
use super::super::world::{Mark, OfdIx};
use rustc_hash::FxHashMap;

/// Changes that are kept of one description.
const REGISTRATIONS: usize = 16;
const EPOLL_CTL_ADD: u64 = 1;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    /// By what is watched: the last changes, with their instance and number.
    changes: FxHashMap<OfdIx, Vec<(OfdIx, i32, Mark)>>,
}

/// The instance, the description and the number that an `epoll_ctl` is about.
fn registers(model: &Model<'_>, cx: &Cx<'_>) -> Option<(OfdIx, OfdIx, i32)> {
    if cx.known.sc != Sc::EpollCtl {
        return None;
    }
    let fd = cx.fd(2);
    Some((model.world.ofd_of(cx.task, cx.fd(0))?, model.world.ofd_of(cx.task, fd)?, fd))
}

impl Registrations {
    /// A change of what is watched finds what the one before left, even one that it was under way with, which returned
    /// first. What is added is added after those who had waited for nothing, who would be told at once.
    pub(super) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        let Some((ep, ofd, fd)) = registers(model, cx) else { return };
        let changes = self.changes.get(&ofd).into_iter().flatten();
        let before = changes.filter(|one| (one.0, one.1) == (ep, fd)).map(|(_, _, mark)| mark);
        needs.done(EdgeKind::Descriptor, before.filter(|mark| mark.task != cx.task));
        if cx.call.args[1] == EPOLL_CTL_ADD {
            needs.recorded(EdgeKind::NotYet, &model.world.ofds[ep as usize].idle);
        }
    }

    /// Remembers who changed, or found out, how something is watched.
    pub(super) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        let Some((ep, ofd, fd)) = registers(model, cx) else { return };
        let all = self.changes.entry(ofd).or_default();
        all.retain(|one| (one.0, one.1) != (ep, fd));
        if all.len() >= REGISTRATIONS {
            all.remove(0);
        }
        all.push((ep, fd, mark));
    }

    pub(super) fn forget(&mut self, ofd: OfdIx) {
        self.changes.remove(&ofd);
    }
}

/// What a change that ends or renews a watch is about: who was told of it by then was told while it was watched.
pub(super) fn rewatches(model: &Model<'_>, cx: &Cx<'_>) -> Option<OfdIx> {
    registers(model, cx).filter(|_| cx.call.args[1] != EPOLL_CTL_ADD).map(|(_, ofd, _)| ofd)
}
