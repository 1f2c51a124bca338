//! The traffic between the ends of connections, summed up.

use super::quantiles::Histogram;
use crate::findings::people::RoleId;
use ctrace_format::SockAddr;
use ctrace_format::linux::{AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM};
use rustc_hash::FxHashMap;
use std::net::IpAddr;

/// Ends that are told apart, for all roles together; the rest of each role is one.
const MAX_EDGES: usize = 8_192;
const MAX_LISTENERS: usize = 8_192;
const MAX_FAILURES: usize = 8;

/// A protocol, as the map tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Unix,
    Dns,
}

impl Protocol {
    /// The protocol of a socket.
    pub(super) const fn of(family: u32, kind: u32) -> Option<Self> {
        match (family, kind) {
            (AF_UNIX, _) => Some(Self::Unix),
            (AF_INET | AF_INET6, SOCK_DGRAM) => Some(Self::Udp),
            (AF_INET | AF_INET6, _) => Some(Self::Tcp),
            _ => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::Dns => "dns",
        }
    }
}

/// The other end of connections of a role.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Far {
    /// It was connected to.
    Peer(SockAddr),
    /// It connected.
    Client(IpAddr),
    /// They connected to this socket.
    Clients(SockAddr),
    /// One of too many.
    Other,
}

/// What went between a role and another end.
#[derive(Debug, Default)]
pub(super) struct Edge {
    pub(super) count: u64,
    pub(super) failed: u64,
    pub(super) failures: Vec<(&'static str, u64)>,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) answers: Histogram,
    pub(super) connects: Histogram,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Edges {
    pub(super) all: Vec<Edge>,
    index: FxHashMap<(RoleId, Far, Protocol), u32>,
    listeners: FxHashMap<SockAddr, RoleId>,
    by_port: FxHashMap<u16, RoleId>,
    /// Addresses of the recorded machine or pod: those that something is bound to.
    own: rustc_hash::FxHashSet<IpAddr>,
}

impl Edges {
    /// The edge of a role and another end.
    pub(super) fn at(&mut self, role: RoleId, far: Far, protocol: Protocol) -> u32 {
        let mut key = (role, far, protocol);
        if self.all.len() >= MAX_EDGES && !self.index.contains_key(&key) {
            key.1 = Far::Other;
        }
        let all = &mut self.all;
        *self.index.entry(key).or_insert_with(|| {
            all.push(Edge::default());
            all.len() as u32 - 1
        })
    }

    pub(super) fn answer(&mut self, edge: u32, ns: u64) {
        self.all[edge as usize].answers.add(ns);
    }

    pub(super) fn connected(&mut self, edge: u32, ns: u64) {
        self.all[edge as usize].connects.add(ns);
    }

    pub(super) fn count(&mut self, edge: u32, n: u64, bytes: [u64; 2]) {
        let edge = &mut self.all[edge as usize];
        edge.count += n;
        edge.sent = edge.sent.saturating_add(bytes[0]);
        edge.received = edge.received.saturating_add(bytes[1]);
    }

    pub(super) fn failed(&mut self, edge: u32, why: &'static str) {
        let edge = &mut self.all[edge as usize];
        edge.failed += 1;
        add_failure(&mut edge.failures, why, 1);
    }

    /// A role listens there.
    pub(super) fn listens(&mut self, local: &SockAddr, role: RoleId) {
        let is_nameless = match local {
            SockAddr::Unix(path) => path.is_empty(),
            SockAddr::Inet(addr) => addr.port() == 0,
            _ => true,
        };
        if is_nameless || self.listeners.len() >= MAX_LISTENERS {
            return;
        }
        if let SockAddr::Inet(addr) = local {
            self.by_port.entry(addr.port()).or_insert(role);
            self.own.insert(addr.ip());
        }
        if !self.listeners.contains_key(local) {
            self.listeners.insert(local.clone(), role);
        }
    }

    /// The role of the trace that listens there, or has accepted from there.
    pub(super) fn listener(&self, addr: &SockAddr) -> Option<RoleId> {
        if let Some(role) = self.listeners.get(addr) {
            return Some(*role);
        }
        let SockAddr::Inet(addr) = addr else { return None };
        let is_own = addr.ip().is_loopback() || self.own.contains(&addr.ip());
        let any = [IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])];
        let is_bound_to_any =
            any.iter().any(|ip| self.listeners.contains_key(&SockAddr::Inet((*ip, addr.port()).into())));
        self.by_port.get(&addr.port()).copied().filter(|_| is_own && is_bound_to_any)
    }

    /// All of them, in a stable order.
    pub(super) fn sorted(&self) -> Vec<(&(RoleId, Far, Protocol), &Edge)> {
        let mut all: Vec<_> = self.index.iter().collect();
        all.sort_by_key(|(_, at)| **at);
        all.into_iter().map(|(key, at)| (key, &self.all[*at as usize])).collect()
    }
}

/// Counts a failure by its name.
pub(super) fn add_failure(failures: &mut Vec<(&'static str, u64)>, why: &'static str, n: u64) {
    if let Some(known) = failures.iter_mut().find(|known| known.0 == why) {
        known.1 += n;
    } else if failures.len() < MAX_FAILURES {
        failures.push((why, n));
    }
}
