//! Sockets that have one address together (`SO_REUSEPORT`): those that listen there, and those that datagrams come to.

use super::{Sock, SockIx, SockState, canonical};
use ctrace_format::SockAddr;
use rustc_hash::{FxHashMap, FxHashSet};

/// Sockets of one address that are told apart: a connection names its own by one byte of its first packet.
const GROUP_MAX: usize = 250;

/// An address, and whether it is one of datagrams: ports of TCP and UDP have nothing to do with each other.
pub(crate) type Shared = (bool, SockAddr);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// By address, in the order in which the kernel keeps them.
    members: FxHashMap<Shared, Vec<SockIx>>,
    /// Where each of them is.
    homes: FxHashMap<SockIx, Shared>,
    /// Addresses that several have had at a time.
    shared: FxHashSet<Shared>,
}

/// Where a socket may have companions.
pub(crate) fn address(sock: &Sock) -> Option<Shared> {
    let local = canonical(sock.local.as_ref()?);
    match &local {
        SockAddr::Inet(at) if sock.is_datagram() => (at.port() != 0).then_some((true, local)),
        _ => (sock.state == SockState::Listening).then_some((false, local)),
    }
}

impl Groups {
    /// A socket has come to its address.
    pub(crate) fn join(&mut self, at: Shared, ix: SockIx) {
        if self.homes.get(&ix) == Some(&at) {
            return;
        }
        self.leave(ix);
        let group = self.members.entry(at.clone()).or_default();
        if group.len() >= GROUP_MAX {
            return;
        }
        group.push(ix);
        if group.len() == 2 {
            self.shared.insert(at.clone());
        }
        self.homes.insert(ix, at);
    }

    /// A socket has left its address. Returns another one that is still there.
    pub(crate) fn leave(&mut self, ix: SockIx) -> Option<SockIx> {
        let at = self.homes.remove(&ix)?;
        let group = self.members.get_mut(&at)?;
        if let Some(place) = group.iter().position(|member| *member == ix) {
            // The last takes its place (`__reuseport_detach_sock`, net/core/sock_reuseport.c).
            group.swap_remove(place);
        }
        let left = group.last().copied();
        if left.is_none() {
            self.members.remove(&at);
        }
        left
    }

    /// Those that have the address of one.
    pub(crate) fn of(&self, ix: SockIx) -> &[SockIx] {
        self.homes.get(&ix).and_then(|at| self.members.get(at)).map_or(&[], Vec::as_slice)
    }

    /// Those at an address.
    pub(crate) fn at(&self, at: &Shared) -> &[SockIx] {
        self.members.get(at).map_or(&[], Vec::as_slice)
    }

    /// Addresses that several have had at a time.
    pub(crate) fn shared(&mut self) -> FxHashSet<Shared> {
        std::mem::take(&mut self.shared)
    }
}
