//! The private network: loopback up, with the recorded addresses on it. Plain rtnetlink, no tools needed.

use super::SandboxError;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const NLM_REQUEST_ACK_CREATE: u16 = 1 | 4 | 0x400;
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
    // Recorded servers may have bound low ports with a capability that the sandbox does not give.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    Ok(problems)
}

fn request(socket: &OwnedFd, kind: u16, body: &[u8]) -> io::Result<()> {
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&NLM_REQUEST_ACK_CREATE.to_ne_bytes());
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
