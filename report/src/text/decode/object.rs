//! Objects behind descriptors.

use super::{flags, hex, plain};
use ctrace_format::linux::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM};
use ctrace_format::{Abi, Object, SockAddr, SockCookie, Trace};
use std::collections::HashMap;

/// A socket address.
pub(crate) fn address(addr: &SockAddr) -> String {
    match addr {
        SockAddr::Inet(addr) => addr.to_string(),
        SockAddr::Unix(path) if path.is_empty() => "unix:unnamed".to_owned(),
        SockAddr::Unix(path) => format!("unix:{}", plain(path)),
        SockAddr::Other { family, data } if u32::from(*family) == AF_NETLINK && data.len() >= 10 => {
            netlink(data)
        }
        SockAddr::Other { family, data } => {
            let family = flags::one(u64::from(*family), flags::DOMAIN);
            format!("{family}:{}", hex(data))
        }
        _ => "?".to_owned(),
    }
}

/// `struct sockaddr_nl` behind the family: padding, port (0: the kernel), groups.
fn netlink(data: &[u8]) -> String {
    let word =
        |at: usize| data[at..at + 4].iter().rev().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
    match (word(2), word(6)) {
        (port, 0) => format!("netlink:{port}"),
        (port, groups) => format!("netlink:{port} groups=0x{groups:x}"),
    }
}

/// `tcp`, `udp`, `unix`, `netlink`, …
pub(crate) fn socket_kind(family: u16, kind: u16, protocol: u16) -> String {
    let family = u32::from(family);
    let kind = u32::from(kind);
    match (family, kind) {
        (AF_INET, SOCK_STREAM) => "tcp".to_owned(),
        (AF_INET, SOCK_DGRAM) => "udp".to_owned(),
        (AF_INET6, SOCK_STREAM) => "tcp6".to_owned(),
        (AF_INET6, SOCK_DGRAM) => "udp6".to_owned(),
        (AF_UNIX, SOCK_STREAM) => "unix".to_owned(),
        (AF_UNIX, SOCK_DGRAM) => "unix-dgram".to_owned(),
        (AF_UNIX, SOCK_SEQPACKET) => "unix-seqpacket".to_owned(),
        (AF_NETLINK, _) => "netlink".to_owned(),
        _ => format!("socket {} {kind} {protocol}", flags::one(u64::from(family), flags::DOMAIN)),
    }
}

/// Both ends of a socket: `local→peer`, or the one that is known.
pub(crate) fn ends(local: Option<&SockAddr>, peer: Option<&SockAddr>) -> Option<String> {
    let known =
        |a: Option<&SockAddr>| a.filter(|a| !matches!(a, SockAddr::Unix(p) if p.is_empty())).map(address);
    match (known(local), known(peer)) {
        (Some(local), Some(peer)) => Some(format!("{local}→{peer}")),
        (Some(local), None) => Some(local),
        (None, Some(peer)) => Some(format!("→{peer}")),
        (None, None) => None,
    }
}

/// The recorder's cookie of a socket that never had one of the kernel's: its inode, and this bit.
const INODE_COOKIE: u64 = 1 << 63;

/// The object behind a descriptor, as `strace -yy` would put it between angle brackets. `known` are the ends of a
/// socket learned later than the dictionary's entry.
pub(crate) fn object(trace: &Trace, object: &Object, known: Option<&(SockAddr, SockAddr)>) -> String {
    match object {
        Object::File { path, .. } => plain(trace.str(*path)),
        Object::Socket { family, kind, protocol, cookie, local, peer } => {
            let name = socket_kind(*family, *kind, *protocol);
            let ends = ends(local.as_ref().or(known.map(|k| &k.0)), peer.as_ref().or(known.map(|k| &k.1)));
            ends.map_or_else(
                || match cookie.0.checked_sub(INODE_COOKIE) {
                    // As in /proc/PID/fd.
                    Some(ino) => format!("{name}:[{ino}]"),
                    None => format!("{name} #{}", cookie.0),
                },
                |ends| format!("{name} {ends}"),
            )
        }
        Object::Pipe { ino } => format!("pipe:[{ino}]"),
        Object::Anon { kind, id } => format!("{}:[{id}]", plain(trace.str(*kind))),
        _ => "?".to_owned(),
    }
}

/// Ends of sockets, learned from the events so far: a socket's dictionary entry is from when it was first seen,
/// which is before it was connected.
#[derive(Debug, Default)]
pub(crate) struct Ends(HashMap<SockCookie, (SockAddr, SockAddr)>);

impl Ends {
    /// So many sockets are remembered: memory stays bounded.
    const MAX: usize = 65_536;

    /// Remembers both ends of a socket.
    pub(crate) fn learn(&mut self, cookie: SockCookie, local: &SockAddr, peer: &SockAddr) {
        let unspecified = |a: &SockAddr| matches!(a, SockAddr::Inet(a) if a.port() == 0);
        if unspecified(peer) || unspecified(local) {
            return;
        }
        if self.0.len() >= Self::MAX && !self.0.contains_key(&cookie) {
            // Old sockets are closed by now, mostly; the ones in use are learned again with their next change.
            self.0.clear();
        }
        self.0.insert(cookie, (local.clone(), peer.clone()));
    }

    pub(crate) fn of(&self, object: &Object) -> Option<&(SockAddr, SockAddr)> {
        match object {
            Object::Socket { cookie, .. } => self.0.get(cookie),
            _ => None,
        }
    }
}

/// The word that marks a call of a foreign table.
pub(crate) const fn abi_mark(abi: Abi, native: Abi) -> &'static str {
    if abi as u8 == native as u8 {
        return "";
    }
    match abi {
        Abi::I386 => "[i386] ",
        Abi::X32 => "[x32] ",
        Abi::Arm => "[arm] ",
        Abi::X86_64 => "[x86_64] ",
        Abi::Aarch64 => "[aarch64] ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_netlink_is_a_port_and_groups() {
        let of = |data: &[u8]| address(&SockAddr::Other { family: AF_NETLINK as u16, data: data.to_vec() });
        assert_eq!(of(&[0, 0, 0x77, 0x2d, 0, 0, 0, 0, 0, 0]), "netlink:11639");
        assert_eq!(of(&[0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0]), "netlink:0 groups=0x11");
        // Too short to be one.
        assert_eq!(of(&[0, 1]), "AF_NETLINK:0001");
    }
}
