//! The private network: loopback up, with the recorded addresses on it. Plain rtnetlink, no tools needed.

use super::SandboxError;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTAX_QUICKACK: u16 = 15;
const NLM_REQUEST_ACK: u16 = 1 | 4;
const NLM_REQUEST_ACK_CREATE: u16 = NLM_REQUEST_ACK | 0x400;
const NLM_REPLACE: u16 = 0x100;
const NLMSG_ERROR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const IFF_UP: u32 = 1;
/// The loopback interface has index 1 in every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// Brings loopback up and adds addresses to it. Returns those that the kernel would not take.
///
/// # Errors
/// When loopback itself cannot be brought up.
pub(crate) fn set_up(addresses: &[IpAddr]) -> Result<Vec<String>, SandboxError> {
    let fail = |source: io::Error| SandboxError::build("bring up the private network", "lo", source);
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
            .map_err(|errno| fail(errno.into()))?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(|errno| fail(errno.into()))?;

    // struct ifinfomsg: family, pad, type, index, flags, change.
    let mut link = vec![0, 0, 0, 0];
    link.extend_from_slice(&LOOPBACK.to_ne_bytes());
    link.extend_from_slice(&IFF_UP.to_ne_bytes());
    link.extend_from_slice(&IFF_UP.to_ne_bytes());
    request(&socket, RTM_NEWLINK, &link).map_err(fail)?;

    let mut problems = Vec::new();
    for address in addresses {
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() && address.is_ipv6() {
            continue;
        }
        if let IpAddr::V4(v4) = address
            && v4.octets()[0] == 127
        {
            continue;
        }
        let (family, prefix, octets) = match address {
            IpAddr::V4(v4) => (libc::AF_INET as u8, 32, v4.octets().to_vec()),
            IpAddr::V6(v6) => (libc::AF_INET6 as u8, 128, v6.octets().to_vec()),
        };
        // struct ifaddrmsg: family, prefix length, flags, scope, index.
        let mut message = vec![family, prefix, if prefix == 128 { IFA_F_NODAD } else { 0 }, 0];
        message.extend_from_slice(&LOOPBACK.to_ne_bytes());
        for kind in [IFA_LOCAL, IFA_ADDRESS] {
            message.extend_from_slice(&(4 + octets.len() as u16).to_ne_bytes());
            message.extend_from_slice(&kind.to_ne_bytes());
            message.extend_from_slice(&octets);
        }
        match request(&socket, RTM_NEWADDR, &message) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => problems.push(format!("address {address}: {error}")),
        }
    }
    if let Err(error) = acknowledge_at_once(&socket, addresses) {
        problems.push(format!("acknowledgements: {error}"));
    }
    // Recorded servers may have bound low ports with a capability that the sandbox does not give.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    Ok(problems)
}

/// Makes every connection acknowledge at once what arrives (`tcp_in_quickack_mode`, `net/ipv4/tcp_input.c`). What is small is
/// held back until what was sent before is acknowledged (`tcp_nagle_check`), and acknowledgements are delayed for up to
/// 40 ms, which depends on how the other end spoke before: a peer here speaks in other parts than the recorded one did,
/// and waits for all of a turn before it answers.
fn acknowledge_at_once(socket: &OwnedFd, addresses: &[IpAddr]) -> io::Result<()> {
    let loopback = Ipv4Addr::LOCALHOST;
    route(socket, RTM_NEWROUTE, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8, Some(loopback))?;
    let own = [IpAddr::V4(loopback), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    // Each once: a second time, the route that is removed is the one that was made, and nothing leads there any more.
    let all: BTreeSet<IpAddr> = own.into_iter().chain(addresses.iter().copied()).collect();
    for address in all {
        match address {
            IpAddr::V4(v4) => {
                // In place of the route that came with the address; others of loopback have none of their own.
                if v4 == loopback || !v4.is_loopback() {
                    let _ = route(socket, RTM_NEWROUTE, address, 32, Some(v4));
                }
            }
            IpAddr::V6(_) => {
                // Beside it, since nobody can make one of its rank (`ip6_route_info_create`, net/ipv6/route.c).
                if route(socket, RTM_NEWROUTE, address, 128, None).is_ok() {
                    let _ = route(socket, RTM_DELROUTE, address, 128, None);
                }
            }
        }
    }
    Ok(())
}

/// Makes or, of the kernel's own, removes the route to an address of this host.
fn route(socket: &OwnedFd, kind: u16, to: IpAddr, prefix: u8, from: Option<Ipv4Addr>) -> io::Result<()> {
    const TABLE_LOCAL: u8 = 255;
    const BY_KERNEL: u8 = 2;
    const LOCAL: u8 = 2;
    let (family, scope, octets) = match to {
        IpAddr::V4(v4) => (libc::AF_INET as u8, libc::RT_SCOPE_HOST, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, libc::RT_SCOPE_UNIVERSE, v6.octets().to_vec()),
    };
    // struct rtmsg: family, lengths of the prefixes, type of service, table, protocol, scope, type, flags.
    let mut message = vec![family, prefix, 0, 0, TABLE_LOCAL, BY_KERNEL, scope, LOCAL, 0, 0, 0, 0];
    let mut attribute = |kind: u16, value: &[u8]| {
        message.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(value);
    };
    attribute(libc::RTA_DST, &octets);
    attribute(libc::RTA_OIF, &LOOPBACK.to_ne_bytes());
    if let Some(from) = from {
        attribute(libc::RTA_PREFSRC, &from.octets());
    }
    if kind == RTM_NEWROUTE {
        let quick = [&8_u16.to_ne_bytes()[..], &RTAX_QUICKACK.to_ne_bytes(), &1_u32.to_ne_bytes()].concat();
        attribute(libc::RTA_METRICS, &quick);
        return send(socket, kind, NLM_REQUEST_ACK_CREATE | NLM_REPLACE, &message);
    }
    send(socket, kind, NLM_REQUEST_ACK, &message)
}

fn request(socket: &OwnedFd, kind: u16, body: &[u8]) -> io::Result<()> {
    send(socket, kind, NLM_REQUEST_ACK_CREATE, body)
}

fn send(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&1_u32.to_ne_bytes());
    message.extend_from_slice(&0_u32.to_ne_bytes());
    message.extend_from_slice(body);
    sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let n = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let field =
        |at: usize| answer.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).unwrap_or_default();
    let is_error = u16::from_ne_bytes([answer[4], answer[5]]) == NLMSG_ERROR;
    if n < 20 || !is_error {
        return Err(io::Error::other("unexpected netlink answer"));
    }
    match i32::from_ne_bytes(field(16)) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}
