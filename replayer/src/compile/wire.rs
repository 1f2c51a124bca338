//! Kernel structures as bytes.

use ctrace_format::{PollEntry, SockAddr};
use ctrace_program::watch_data;
use std::net::SocketAddr;

/// A `sockaddr` of any family.
pub(crate) fn sockaddr(addr: &SockAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    match addr {
        SockAddr::Inet(SocketAddr::V4(v4)) => {
            out.extend_from_slice(&2_u16.to_ne_bytes());
            out.extend_from_slice(&v4.port().to_be_bytes());
            out.extend_from_slice(&v4.ip().octets());
            out.extend_from_slice(&[0; 8]);
        }
        SockAddr::Inet(SocketAddr::V6(v6)) => {
            out.extend_from_slice(&10_u16.to_ne_bytes());
            out.extend_from_slice(&v6.port().to_be_bytes());
            out.extend_from_slice(&v6.flowinfo().to_ne_bytes());
            out.extend_from_slice(&v6.ip().octets());
            out.extend_from_slice(&v6.scope_id().to_ne_bytes());
        }
        SockAddr::Unix(path) => {
            out.extend_from_slice(&1_u16.to_ne_bytes());
            match path.split_first() {
                Some((b'@' | 0, name)) => {
                    out.push(0);
                    out.extend_from_slice(&name[..name.len().min(107)]);
                }
                Some(_) => {
                    out.extend_from_slice(&path[..path.len().min(107)]);
                    out.push(0);
                }
                None => {}
            }
        }
        SockAddr::Other { family, data } => {
            out.extend_from_slice(&family.to_ne_bytes());
            out.extend_from_slice(&data[..data.len().min(126)]);
        }
        _ => out.extend_from_slice(&0_u16.to_ne_bytes()),
    }
    out
}

/// `struct cmsghdr` (include/linux/socket.h).
const CMSGHDR: usize = 16;

/// Control data that pass these descriptors along: one `struct cmsghdr` of `SOL_SOCKET`, `SCM_RIGHTS`, and their numbers.
pub(crate) fn rights(fds: &[i32]) -> Vec<u8> {
    const SOL_SOCKET: i32 = 1;
    const SCM_RIGHTS: i32 = 1;
    let mut out = (CMSGHDR + 4 * fds.len()).to_ne_bytes().to_vec();
    for word in [SOL_SOCKET, SCM_RIGHTS].iter().chain(fds) {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out.resize(rights_len(fds.len()), 0);
    out
}

/// Bytes of control data for so many descriptors.
pub(crate) const fn rights_len(fds: usize) -> usize {
    CMSGHDR + (4 * fds).next_multiple_of(8)
}

/// `struct pollfd[]`.
pub(crate) fn pollfds(entries: impl IntoIterator<Item = PollEntry>) -> Vec<u8> {
    marked_pollfds(entries.into_iter().map(|entry| PollEntry { revents: 0, ..entry }))
}

/// `struct pollfd[]` with something in the place of the answers.
pub(crate) fn marked_pollfds(entries: impl IntoIterator<Item = PollEntry>) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend_from_slice(&entry.fd.to_ne_bytes());
        out.extend_from_slice(&entry.events.to_ne_bytes());
        out.extend_from_slice(&entry.revents.to_ne_bytes());
    }
    out
}

/// `struct epoll_event`: packed on x86-64 only. Its data is [`watch_data`], for the worker to know what was reported.
///
/// Without `EPOLLEXCLUSIVE`: which of several waiters was woken is known, the kernel is not to choose again.
pub(crate) fn epoll_event(fd: i32, events: u32) -> Vec<u8> {
    const EPOLLEXCLUSIVE: u32 = 1 << 28;
    let events = events & !EPOLLEXCLUSIVE;
    let mut out = events.to_ne_bytes().to_vec();
    if !cfg!(target_arch = "x86_64") {
        out.extend_from_slice(&[0; 4]);
    }
    out.extend_from_slice(&watch_data(fd, events).to_ne_bytes());
    out
}

/// An `fd_set` with these descriptors, large enough for `nfds`.
pub(crate) fn fd_set(nfds: u64, fds: impl IntoIterator<Item = i32>) -> Vec<u8> {
    let words = nfds.min(65_536).div_ceil(64).max(1) as usize;
    let mut out = vec![0_u8; words * 8];
    for fd in fds {
        let Ok(fd) = usize::try_from(fd) else { continue };
        if let Some(byte) = out.get_mut(fd / 8) {
            *byte |= 1 << (fd % 8);
        }
    }
    out
}

/// The address family of an address.
pub(crate) fn family_of(addr: &SockAddr) -> u16 {
    match addr {
        SockAddr::Inet(std::net::SocketAddr::V4(_)) => 2,
        SockAddr::Inet(_) => 10,
        SockAddr::Unix(_) => 1,
        SockAddr::Other { family, .. } => *family,
        _ => 0,
    }
}

/// A wildcard address as somebody who connects to it has to say it.
pub(crate) fn reachable(addr: SockAddr) -> SockAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    match addr {
        SockAddr::Inet(at) if at.ip().is_unspecified() => {
            let ip =
                if at.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
            SockAddr::Inet(SocketAddr::new(ip, at.port()))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abstract_names_begin_with_a_nul() {
        assert_eq!(sockaddr(&SockAddr::Unix(b"@x".to_vec())), [1, 0, 0, b'x']);
        assert_eq!(sockaddr(&SockAddr::Unix(b"/x".to_vec())), [1, 0, b'/', b'x', 0]);
        assert_eq!(sockaddr(&SockAddr::Unix(Vec::new())), [1, 0]);
    }

    #[test]
    fn descriptors_are_passed_by_one_control_message() {
        let bytes = rights(&[3, 700, 5]);
        assert_eq!(bytes.len(), 32);
        assert_eq!(bytes[..8], 28_u64.to_ne_bytes());
        assert_eq!(bytes[16..20], 3_i32.to_ne_bytes());
        assert_eq!(bytes[20..24], 700_i32.to_ne_bytes());
    }

    #[test]
    fn a_descriptor_set_has_the_bits_of_its_members() {
        assert_eq!(fd_set(10, [0, 9, -1, 4000]), [1, 2, 0, 0, 0, 0, 0, 0]);
    }
}
