//! Sockets: which connections do not come about, who has their ends, and who listens no more.

use crate::fds::{Descriptor, Generation};
use ctrace_format::{SockAddr, SockCookie, Tgid};
use rustc_hash::{FxHashMap, FxHashSet};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// Sockets whose connection does not come about.
    pub(super) unconnected: FxHashSet<SockCookie>,
    /// Both ends of connections: one's own, the other.
    pub(super) ends: FxHashMap<SockCookie, (SockAddr, SockAddr)>,
    /// The sockets that have them.
    pub(super) by_ends: FxHashMap<(SockAddr, SockAddr), SockCookie>,
    /// The other sockets of pairs.
    pub(super) pairs: FxHashMap<SockCookie, SockCookie>,
    /// Connections that were dropped when they were accepted, as those who made them know them: they are reset when those have
    /// sent anything.
    pub(super) dropped: FxHashSet<(SockAddr, SockAddr)>,
    /// Listeners, by who accepts.
    pub(super) listeners: FxHashMap<Tgid, FxHashSet<Generation>>,
    /// Processes that have ended and whose listeners nobody else has.
    pub(super) deaf: FxHashSet<Tgid>,
}

impl Sockets {
    /// A process ends, and with it these descriptions.
    pub(super) fn leaves(&mut self, tgid: Tgid, gone: &[Descriptor]) {
        let listeners = self.listeners.remove(&tgid).unwrap_or_default();
        if listeners.iter().all(|listener| gone.iter().any(|it| it.generation == *listener)) {
            self.deaf.insert(tgid);
        }
    }
}
