//! Which paths and peers a condition is about.

use crate::Pattern;
use ctrace_format::syscalls::Call;
use ctrace_format::{
    Connection, ConnectionKind, Detail, Event, Known, Object, SockAddr, SockCookie, Syscall,
};
use rustc_hash::FxHashMap;
use std::net::{IpAddr, SocketAddr};

/// Connections whose other end is remembered.
const MAX_PEERS: usize = 65_536;

/// A path, or the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    /// A file, or the path of a unix socket.
    Path(Pattern),
    /// An address, a port, or both.
    Peer { ip: Option<IpAddr>, port: Option<u16> },
}

impl About {
    /// # Errors
    /// A sentence for what is neither.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse::<SocketAddr>() {
            return Ok(Self::Peer { ip: Some(canonical(at.ip())), port: Some(at.port()) });
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Self::Peer { ip: Some(canonical(ip)), port: None });
        }
        if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse().ok()) {
            return Ok(Self::Peer { ip: None, port: Some(port) });
        }
        if text.starts_with(['/', '*', '?', '@']) {
            return Ok(Self::Path(Pattern::new(text)));
        }
        Err("expected a path (/var/lib/, or a pattern such as *.db) or an address (10.0.0.7:5432, 10.0.0.7, :5432)"
            .into())
    }

    pub(super) fn fits_addr(&self, addr: &SockAddr) -> bool {
        match (self, addr) {
            (Self::Peer { ip, port }, SockAddr::Inet(at)) => {
                ip.is_none_or(|ip| ip == canonical(at.ip())) && port.is_none_or(|port| port == at.port())
            }
            (Self::Path(pattern), SockAddr::Unix(path)) => pattern.fits(path),
            _ => false,
        }
    }

    /// Whether a call is about it.
    pub(super) fn fits(&self, call: &Syscall, peers: &Peers, known: &dyn Known) -> bool {
        let named = call.details.iter().any(|detail| match detail {
            Detail::Str { value, .. } => match self {
                Self::Path(pattern) => known.string(*value).is_some_and(|name| pattern.fits(name)),
                Self::Peer { .. } => false,
            },
            Detail::Addr { addr, .. } => self.fits_addr(addr),
            _ => false,
        });
        if named {
            return true;
        }
        match (call.object.and_then(|object| known.object_def(object)), self) {
            (Some(Object::File { path, .. }), Self::Path(pattern)) => {
                known.string(*path).is_some_and(|name| pattern.fits(name))
            }
            (Some(Object::Socket { cookie, peer, .. }), _) => {
                peers.of(*cookie).or(peer.as_ref()).is_some_and(|peer| self.fits_addr(peer))
            }
            _ => false,
        }
    }
}

/// An IPv4 address as such, however a program wrote it.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// The other ends of connections: a socket is described before it is connected.
#[derive(Debug, Clone, Default)]
pub(super) struct Peers(FxHashMap<SockCookie, SockAddr>);

impl Peers {
    pub(super) fn observe(&mut self, event: &Event, known: &dyn Known) {
        match event {
            Event::Connection(Connection { cookie, kind: ConnectionKind::Closed { .. }, .. }) => {
                self.0.remove(cookie);
            }
            Event::Connection(Connection { cookie, peer, kind: ConnectionKind::State { .. }, .. })
                if cookie.0 != 0 =>
            {
                self.put(*cookie, peer);
            }
            Event::Syscall(call) if Call::of(call.sysno) == Call::Connect => {
                let addr = call.details.iter().find_map(|detail| match detail {
                    Detail::Addr { addr, .. } => Some(addr),
                    _ => None,
                });
                if let (Some(addr), Some(cookie)) =
                    (addr, call.object.and_then(|object| known.cookie(object)).filter(|cookie| cookie.0 != 0))
                {
                    self.put(cookie, addr);
                }
            }
            _ => {}
        }
    }

    fn put(&mut self, cookie: SockCookie, addr: &SockAddr) {
        if self.0.len() >= MAX_PEERS {
            self.0.clear();
        }
        self.0.insert(cookie, addr.clone());
    }

    fn of(&self, cookie: SockCookie) -> Option<&SockAddr> {
        self.0.get(&cookie)
    }
}
