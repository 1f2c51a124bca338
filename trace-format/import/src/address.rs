//! Addresses of sockets: as calls print them, and as strace decorates descriptors with them.

use crate::text::unescape;
use crate::value::Value;
use ctrace_format::SockAddr;
use ctrace_format::linux::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The address in a structure like `{sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("1.2.3.4")}`.
pub(crate) fn of_struct(value: &Value<'_>) -> Option<SockAddr> {
    let family = u32::try_from(value.number_of(b"sa_family")?).ok()?;
    let inner = |name: &[u8]| match value.field(name)? {
        Value::Call(_, args) => args.first(),
        other => Some(other),
    };
    let port = |name: &[u8]| u16::try_from(inner(name)?.number()?).ok();
    match family {
        AF_INET => {
            let ip = match inner(b"sin_addr")? {
                Value::Text { escaped, .. } => std::str::from_utf8(escaped).ok()?.parse().ok()?,
                // `htonl(INADDR_ANY)`, `htonl(INADDR_LOOPBACK)`, or raw.
                Value::Name(b"INADDR_ANY") => Ipv4Addr::UNSPECIFIED,
                Value::Name(b"INADDR_LOOPBACK") => Ipv4Addr::LOCALHOST,
                Value::Number(raw) => Ipv4Addr::from(u32::try_from(*raw).ok()?.to_ne_bytes()),
                _ => return None,
            };
            Some(SockAddr::Inet(SocketAddr::new(IpAddr::V4(ip), port(b"sin_port")?)))
        }
        AF_INET6 => {
            // The address is a call without a name of its own: `inet_pton(AF_INET6, "::1", &sin6_addr)`.
            let Value::Struct(fields) = value else { return None };
            let text = fields.iter().find_map(|(_, field)| match field {
                Value::Call(b"inet_pton", args) => args.get(1),
                _ => None,
            })?;
            let Value::Text { escaped, .. } = text else { return None };
            let ip: IpAddr = std::str::from_utf8(escaped).ok()?.parse().ok()?;
            Some(SockAddr::Inet(SocketAddr::new(ip, port(b"sin6_port")?)))
        }
        AF_UNIX => match value.field(b"sun_path") {
            None => Some(SockAddr::Unix(Vec::new())),
            Some(Value::Text { escaped, .. }) => Some(SockAddr::Unix(unix_name(unescape(escaped)))),
            Some(Value::Call(b"@", args)) => {
                let Some(Value::Text { escaped, .. }) = args.first() else { return None };
                Some(SockAddr::Unix([b"@", &*unescape(escaped)].concat()))
            }
            Some(_) => None,
        },
        AF_NETLINK => {
            // struct sockaddr_nl: two bytes of padding, the port, the groups.
            let word = |name| u32::try_from(value.number_of(name).unwrap_or(0)).unwrap_or(0).to_ne_bytes();
            let data = [&[0, 0][..], &word(b"nl_pid"), &word(b"nl_groups")].concat();
            Some(SockAddr::Other { family: family as u16, data })
        }
        family => Some(SockAddr::Other { family: u16::try_from(family).ok()?, data: Vec::new() }),
    }
}

/// The name of a unix socket: an abstract one begins with a NUL in memory, or an `@` in front of its quotes, which the
/// reader of values drops.
fn unix_name(mut name: Vec<u8>) -> Vec<u8> {
    if name.first() == Some(&0) {
        name[0] = b'@';
    }
    while name.last() == Some(&0) {
        name.pop();
    }
    name
}

/// A socket as strace decorates its descriptor (`-yy`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decorated {
    pub(crate) family: u32,
    pub(crate) kind: u32,
    pub(crate) protocol: u32,
    pub(crate) inode: Option<u64>,
    pub(crate) local: Option<SockAddr>,
    pub(crate) peer: Option<SockAddr>,
    /// Inode of the other end of a pair of unix sockets.
    pub(crate) peer_inode: Option<u64>,
}

/// Reads `TCP:[1.2.3.4:5->6.7.8.9:10]`, `UNIX-STREAM:[12->13, "/run/x"]`, `socket:[12]`, ….
pub(crate) fn of_decoration(text: &[u8]) -> Option<Decorated> {
    let text = std::str::from_utf8(text).ok()?;
    let (protocol, rest) = text.split_once(":[")?;
    let inside = rest.strip_suffix(']')?;
    let (family, kind, protocol) = match protocol {
        "TCP" => (2, 1, 6),
        "TCPv6" => (10, 1, 6),
        "UDP" => (2, 2, 17),
        "UDPv6" => (10, 2, 17),
        "UDPLITE" => (2, 2, 136),
        "UDPLITEv6" => (10, 2, 136),
        "RAW" => (2, 3, 0),
        "RAWv6" => (10, 3, 0),
        "PING" => (2, 2, 1),
        "PINGv6" => (10, 2, 58),
        "SCTP" => (2, 1, 132),
        "SCTPv6" => (10, 1, 132),
        "UNIX" | "UNIX-STREAM" => (1, 1, 0),
        "UNIX-DGRAM" => (1, 2, 0),
        "UNIX-SEQPACKET" => (1, 5, 0),
        "NETLINK" => (16, 3, 0),
        "socket" => (0, 0, 0),
        _ => return None,
    };
    let mut socket =
        Decorated { family, kind, protocol, inode: None, local: None, peer: None, peer_inode: None };
    match family {
        1 => {
            let (inodes, name) = inside.split_once(',').unwrap_or((inside, ""));
            let (own, other) = inodes.split_once("->").unwrap_or((inodes, ""));
            socket.inode = own.trim().parse().ok();
            socket.peer_inode = other.trim().parse().ok();
            let name = name.trim();
            let (is_abstract, name) = name.strip_prefix('@').map_or((false, name), |name| (true, name));
            if let Some(name) = name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
                let mut bytes = unescape(name.as_bytes());
                if is_abstract {
                    bytes.insert(0, b'@');
                }
                socket.local = Some(SockAddr::Unix(unix_name(bytes)));
            }
        }
        // `NETLINK:[ROUTE:4711]`.
        16 => socket.inode = inside.rsplit(':').next().and_then(|n| n.parse().ok()),
        _ => {
            let (local, peer) = inside.split_once("->").map_or((inside, None), |(l, p)| (l, Some(p)));
            let end = |text: &str| text.parse().ok().map(SockAddr::Inet);
            socket.inode = inside.parse().ok();
            socket.local = end(local);
            socket.peer = peer.and_then(end);
            if socket.inode.is_none() && socket.local.is_none() {
                return None;
            }
        }
    }
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::number;

    fn of(text: &str) -> Option<SockAddr> {
        of_struct(&Value::read(text.as_bytes(), &number))
    }

    fn inet(text: &str) -> SockAddr {
        SockAddr::Inet(text.parse().unwrap())
    }

    #[test]
    fn addresses_of_calls_are_read() {
        for (text, address) in [
            (r#"{sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("1.2.3.4")}"#, inet("1.2.3.4:53")),
            (
                r#"{sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}"#,
                inet("[::1]:80"),
            ),
            (r#"{sa_family=AF_UNIX, sun_path="/run/x"}"#, SockAddr::Unix(b"/run/x".to_vec())),
            (r"{sa_family=AF_UNIX}", SockAddr::Unix(Vec::new())),
            (r#"{sa_family=AF_UNIX, sun_path="\0x"}"#, SockAddr::Unix(b"@x".to_vec())),
            ("{sa_family=0x2 /* AF_INET */, sin_port=htons(1), sin_addr=0x0100007f}", inet("127.0.0.1:1")),
        ] {
            assert_eq!(of(text), Some(address), "{text}");
        }
        assert_eq!(of("NULL"), None);
        assert_eq!(of("0x7ffe"), None);
        assert_eq!(of(r#"{sa_family=AF_UNIX, sun_path=@"x"}"#), Some(SockAddr::Unix(b"@x".to_vec())));
        let netlink = of("{sa_family=AF_NETLINK, nl_pid=1, nl_groups=00000000}");
        assert_eq!(netlink, Some(SockAddr::Other { family: 16, data: vec![0, 0, 1, 0, 0, 0, 0, 0, 0, 0] }));
    }

    #[test]
    fn decorations_of_sockets_are_read() {
        let tcp = of_decoration(b"TCP:[127.0.0.1:5->127.0.0.1:6]").unwrap();
        assert_eq!((tcp.local, tcp.peer), (Some(inet("127.0.0.1:5")), Some(inet("127.0.0.1:6"))));
        let v6 = of_decoration(b"TCPv6:[[::1]:5->[::1]:6]").unwrap();
        assert_eq!((v6.family, v6.peer), (10, Some(inet("[::1]:6"))));
        let unix = of_decoration(br#"UNIX-STREAM:[12->13, "/run/x"]"#).unwrap();
        assert_eq!((unix.inode, unix.peer_inode), (Some(12), Some(13)));
        assert_eq!(unix.local, Some(SockAddr::Unix(b"/run/x".to_vec())));
        assert_eq!(of_decoration(b"socket:[77]").unwrap().inode, Some(77));
        assert_eq!(of_decoration(b"NETLINK:[ROUTE:9]").unwrap().inode, Some(9));
        assert_eq!(of_decoration(b"pipe:[9]"), None);
        assert_eq!(of_decoration(b"TCP:[x]"), None);
    }
}
