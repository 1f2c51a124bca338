//! Netlink: what the kernel answered is not recorded, only how long it was and when it came. So each netlink socket of the
//! workload becomes one of the protocol that the kernel leaves to programs (`NETLINK_USERSOCK`: no part of the kernel
//! listens, any user may send from port to port of its own network namespace), and a peer stands for the kernel: it takes
//! the questions and sends answers as long as the recorded ones. Questions, readiness and reads are real that way, whatever
//! the protocol was, and nothing that a trace says reaches the kernel's own ends of netlink.

use super::world::{Sock, SockIx};
use ctrace_format::SockAddr;

/// `AF_NETLINK`.
pub(crate) const FAMILY: u16 = libc::AF_NETLINK as u16;
/// The protocol that stands for all.
pub(crate) const PROTOCOL: u16 = libc::NETLINK_USERSOCK as u16;
/// `SOL_NETLINK`, and its options that join and leave groups: of the protocol that stands for others, programs without
/// rights cannot be members (`netlink_setsockopt`, `net/netlink/af_netlink.c`).
pub(crate) const LEVEL: u64 = libc::SOL_NETLINK as u64;
pub(crate) const GROUP_OPTIONS: [u64; 2] =
    [libc::NETLINK_ADD_MEMBERSHIP as u64, libc::NETLINK_DROP_MEMBERSHIP as u64];

/// Ports of the workload's sockets and of those who answer them are the socket's number and one of these. Process ids,
/// which are what the kernel takes for a port of a socket without one, are lower (`PID_MAX_LIMIT`).
const WORKLOAD: u32 = 0x2000_0000;
const KERNEL: u32 = 0x4000_0000;
const NUMBER: u32 = 0x1fff_ffff;

/// Whether a socket speaks netlink.
pub(crate) fn is(sock: &Sock) -> bool {
    sock.family == FAMILY
}

/// The address of the workload's `sock`.
pub(crate) fn own(sock: SockIx) -> SockAddr {
    address(WORKLOAD | sock & NUMBER)
}

/// The address of who answers the workload's `sock`.
pub(crate) fn kernel(sock: SockIx) -> SockAddr {
    address(KERNEL | sock & NUMBER)
}

/// `struct sockaddr_nl`, behind the family: two bytes of padding, port, groups.
fn address(port: u32) -> SockAddr {
    let mut data = vec![0; 10];
    data[2..6].copy_from_slice(&port.to_ne_bytes());
    SockAddr::Other { family: FAMILY, data }
}
