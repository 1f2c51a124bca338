//! Sockets that would reach the host or what is beyond.

use super::Attempt;
use crate::bait::Bait;
use crate::story::Story;
use ctrace_format::SockAddr;
use libc::{AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;

/// `EINPROGRESS`, after which a connection may still come about.
const LATER: i64 = -(libc::EINPROGRESS as i64);

fn inet(ip: impl Into<IpAddr>, port: u16) -> SockAddr {
    SockAddr::Inet(SocketAddr::new(ip.into(), port))
}

/// Connects, says something, in every way the recording can say that it worked.
fn talk(t: &mut Story, family: i32, kind: i32, to: &SockAddr) {
    for ret in [0, LATER, -i64::from(libc::ECONNREFUSED)] {
        let fd = t.connect(family, kind, to, ret);
        t.call("sendto", [fd, 0, 64, 0, 0, 0]).ret(64);
    }
    let (fd, object) = t.socket(family, kind, 0);
    t.call("sendto", [fd, 0, 64, 0, 0, 16]).addr(4, to.clone()).ret(64).on(object);
}

fn other(family: i32, data: &[u8]) -> SockAddr {
    SockAddr::Other { family: family as u16, data: data.to_vec() }
}

fn ports(b: &Bait) -> [u16; 4] {
    [b.tcp[0], b.tcp[1], b.tcp[2], b.udp]
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("connect to host listeners by IPv4", |t, b| {
        for port in ports(b) {
            for ip in
                [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(127, 9, 9, 9), Ipv4Addr::BROADCAST]
            {
                talk(t, AF_INET, SOCK_STREAM, &inet(ip, port));
                talk(t, AF_INET, SOCK_DGRAM, &inet(ip, port));
            }
        }
    }),
    Attempt::new("connect to host listeners by IPv6 and mapped addresses", |t, b| {
        for port in ports(b) {
            for ip in [Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST.to_ipv6_mapped()] {
                talk(t, AF_INET6, SOCK_STREAM, &inet(ip, port));
                talk(t, AF_INET6, SOCK_DGRAM, &inet(ip, port));
            }
        }
    }),
    Attempt::new("connect to a host socket at a path", |t, b| {
        for prefix in ["", "/..", "/proc/1/root", "/proc/self/root/../.."] {
            let path = [prefix.as_bytes(), b.unix.as_os_str().as_bytes()].concat();
            talk(t, AF_UNIX, SOCK_STREAM, &SockAddr::Unix(path.clone()));
            talk(t, AF_UNIX, SOCK_DGRAM, &SockAddr::Unix(path));
        }
    })
    .briefly(),
    Attempt::new("connect to abstract host sockets", |t, b| {
        for name in [format!("@{}", b.abstract_name), format!("\0{}", b.abstract_name)] {
            talk(t, AF_UNIX, SOCK_STREAM, &SockAddr::Unix(name.into_bytes()));
        }
        let name = format!("@{}-datagrams", b.abstract_name);
        talk(t, AF_UNIX, SOCK_DGRAM, &SockAddr::Unix(name.into_bytes()));
    }),
    Attempt::new("take the places of host listeners", |t, b| {
        for port in ports(b) {
            let (fd, object) = t.socket(AF_INET, SOCK_STREAM, 0);
            t.call("setsockopt", [fd, 1, 15, 0, 4]).bytes(3, &1_u32.to_ne_bytes()).on(object);
            t.call("bind", [fd, 0, 16]).addr(1, inet(Ipv4Addr::LOCALHOST, port)).on(object);
            t.call("listen", [fd, i64::MAX]).on(object);
        }
        let (fd, object) = t.socket(AF_UNIX, SOCK_STREAM, 0);
        t.call("bind", [fd, 0, 110])
            .addr(1, SockAddr::Unix(b.unix.as_os_str().as_bytes().to_vec()))
            .on(object);
    }),
    Attempt::new("sockets of every family, of every type", |t, _| {
        for family in 0..64 {
            for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, 4, 5, 10] {
                let (fd, object) = t.socket(family, kind, 0);
                t.call("connect", [fd, 0, 28]).addr(1, other(family, &[0xff; 26])).on(object);
                t.call("close", [fd]);
            }
        }
    }),
    Attempt::new("pairs of sockets of every family", |t, _| {
        for family in 0..64 {
            for kind in [SOCK_STREAM, SOCK_DGRAM, 5] {
                let fds = [t.fd() as i32, t.fd() as i32];
                t.call("socketpair", [family, kind.into(), 0, 0]).detail(ctrace_format::Detail::NewFds {
                    arg: 3,
                    fds,
                    objects: [None, None],
                });
            }
        }
    }),
    Attempt::new("the host of a virtual machine by vsock", |t, _| {
        for cid in [0_u32, 1, 2, 3, u32::MAX] {
            let data = [&[0; 2][..], &22_u32.to_ne_bytes(), &cid.to_ne_bytes(), &[0; 4]].concat();
            talk(t, libc::AF_VSOCK, SOCK_STREAM, &other(libc::AF_VSOCK, &data));
        }
    }),
    Attempt::new("the kernel by netlink: routes, audit, events, connector, generic", |t, _| {
        for protocol in 0..23 {
            let (fd, object) = t.socket(libc::AF_NETLINK, SOCK_RAW, protocol);
            t.call("bind", [fd, 0, 12])
                .addr(1, other(libc::AF_NETLINK, &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]))
                .on(object);
            t.call("sendto", [fd, 0, 512, 0, 0, 0]).ret(512).on(object);
            t.call("setsockopt", [fd, 270, 1, 0, 4]).bytes(3, &31_u32.to_ne_bytes()).on(object);
        }
    }),
    Attempt::new("raw packets and cryptography", |t, _| {
        for (family, kind, protocol) in [
            (AF_INET, SOCK_RAW, 255),
            (AF_INET6, SOCK_RAW, 58),
            (libc::AF_PACKET, SOCK_RAW, 0x0300),
            (libc::AF_PACKET, SOCK_DGRAM, 0x0300),
        ] {
            let (fd, object) = t.socket(family, kind, protocol);
            t.call("sendto", [fd, 0, 1500, 0, 0, 16])
                .addr(4, inet(Ipv4Addr::LOCALHOST, 0))
                .ret(1500)
                .on(object);
        }
        let algorithm = [b"hash".as_slice(), &[0; 18], b"sha512", &[0; 58]].concat();
        let (fd, object) = t.socket(libc::AF_ALG, 5, 0);
        t.call("bind", [fd, 0, 88]).addr(1, other(libc::AF_ALG, &algorithm)).on(object);
    }),
    Attempt::new("addresses beyond the host", |t, _| {
        for ip in [
            "192.0.2.1",
            "169.254.169.254",
            "224.0.0.1",
            "10.255.255.255",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
        ] {
            let ip: IpAddr = ip.parse().expect("an address");
            let family = if ip.is_ipv4() { AF_INET } else { AF_INET6 };
            talk(t, family, SOCK_STREAM, &inet(ip, 80));
            talk(t, family, SOCK_DGRAM, &inet(ip, 53));
        }
    }),
    Attempt::new("interfaces, routes and filters by options and ioctls", |t, _| {
        let (fd, object) = t.socket(AF_INET, SOCK_DGRAM, 0);
        // SIOCSIFFLAGS, SIOCSIFADDR, SIOCADDRT, SIOCETHTOOL, SIOCSIFHWADDR
        for command in [0x8914, 0x8916, 0x890b, 0x8946, 0x8924] {
            t.call("ioctl", [fd, command, 0]).bytes(2, &[0x41; 40]).on(object);
        }
        // SO_BINDTODEVICE, SO_MARK, SO_PRIORITY, SO_ATTACH_FILTER, SO_RCVBUFFORCE, SO_BUSY_POLL
        for option in [25, 36, 12, 26, 33, 46] {
            t.call("setsockopt", [fd, 1, option, 0, 16]).bytes(3, &[0x7f; 16]).on(object);
        }
        for option in 0..80 {
            t.call("setsockopt", [fd, 0, option, 0, 64]).bytes(3, &[0x7f; 64]).on(object);
        }
    }),
    Attempt::new("thousands of listeners with the longest queues", |t, _| {
        for port in 0..2000_u16 {
            let (fd, object) = t.socket(AF_INET, SOCK_STREAM, 0);
            t.call("bind", [fd, 0, 16]).addr(1, inet(Ipv4Addr::LOCALHOST, 10_000 + port)).on(object);
            t.call("listen", [fd, i64::from(i32::MAX)]).on(object);
        }
    })
    .demanding(),
    Attempt::new("thousands of peers", |t, _| {
        for n in 0..3000_u16 {
            let ip = Ipv4Addr::new(10, 7, (n / 250) as u8, (n % 250) as u8 + 1);
            let fd = t.connect(AF_INET, SOCK_STREAM, &inet(ip, 1000 + n), 0);
            t.call("write", [fd, 0, 10]).ret(10);
            t.call("read", [fd, 0, 10]).ret(10);
        }
    })
    .demanding()
    .briefly(),
    Attempt::new("thousands of clients at once", |t, _| {
        let (listener, object) = t.socket(AF_INET, SOCK_STREAM, 0);
        t.call("bind", [listener, 0, 16]).addr(1, inet(Ipv4Addr::LOCALHOST, 8080)).on(object);
        t.call("listen", [listener, 4096]).on(object);
        for n in 0..3000_u16 {
            let fd = t.fd();
            let from = inet(Ipv4Addr::new(10, 8, (n / 250) as u8, 1), 20_000 + n);
            let cookie = ctrace_format::SockCookie(t.fresh());
            let socket = t.object(&ctrace_format::Object::Socket {
                family: 2,
                kind: 1,
                protocol: 6,
                cookie,
                local: Some(inet(Ipv4Addr::LOCALHOST, 8080)),
                peer: Some(from.clone()),
            });
            t.call("accept4", [listener, 0, 0, 0]).addr(1, from).ret(fd).on(socket);
            t.call("read", [fd, 0, 1000]).ret(1000).on(socket);
        }
    })
    .demanding()
    .briefly(),
    Attempt::new("peers that send terabytes", |t, _| {
        let fd = t.connect(AF_INET, SOCK_STREAM, &inet(Ipv4Addr::new(10, 9, 0, 1), 80), 0);
        t.call("read", [fd, 0, i64::MAX]).ret(1 << 40).times(64);
        t.call("write", [fd, 0, i64::MAX]).ret(1 << 40).times(64);
    })
    .demanding(),
];
