//! Names of addresses: a thread connects to the name that it asked for last.

use super::places::Place;
use rustc_hash::FxHashMap;
use std::net::{IpAddr, SocketAddr};

const DNS_PORT: u16 = 53;
const MAX_NAMES: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Called {
    /// The name that a thread asked for last.
    last: FxHashMap<u32, Place>,
    names: FxHashMap<IpAddr, Place>,
}

impl Called {
    /// A thread was told the address of a name.
    pub(crate) fn answered(&mut self, tid: u32, name: Place) {
        if self.last.len() < MAX_NAMES || self.last.contains_key(&tid) {
            self.last.insert(tid, name);
        }
    }

    /// A thread connects.
    pub(crate) fn connects(&mut self, tid: u32, peer: SocketAddr) {
        if peer.port() == DNS_PORT || peer.port() == 0 || self.names.len() >= MAX_NAMES {
            return;
        }
        if let Some(name) = self.last.remove(&tid) {
            self.names.entry(peer.ip()).or_insert(name);
        }
    }

    /// The name of an address.
    pub(crate) fn name(&self, ip: IpAddr) -> Option<Place> {
        self.names.get(&ip).copied()
    }
}
