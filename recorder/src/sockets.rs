//! Asking about the sockets of other processes, through a copy of their descriptor.

use crate::look::{Look, Looker, words};
use crate::objects::sockaddr;
use ctrace_format::{FdTarget, SockAddr};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;

fn own(fd: i64) -> Option<OwnedFd> {
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: a descriptor that a call just made for us.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn option<T: Default>(fd: &OwnedFd, level: i32, name: i32) -> Option<T> {
    let mut value = T::default();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` has `len` bytes.
    let r = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    (r == 0).then_some(value)
}

type NameCall = unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn name(fd: &OwnedFd, call: NameCall) -> Option<Vec<u8>> {
    let mut bytes = [0_u8; MAX_NAME];
    let mut len = bytes.len() as libc::socklen_t;
    // SAFETY: a buffer of `len` bytes.
    let r = unsafe { call(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut len) };
    if r == 0 { Some(bytes.get(..len as usize)?.to_vec()) } else { None }
}

/// `sizeof(struct sockaddr_storage)`.
const MAX_NAME: usize = 128;
/// Numbers in front of the names in the answer of [`ask`].
const NUMBERS: usize = 8;

/// A copy of a descriptor of another process (Linux 5.6; needs `CAP_SYS_PTRACE` over it).
fn copy(tgid: u32, fd: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let process = own(unsafe { libc::syscall(libc::SYS_pidfd_open, tgid, 0) });
    let process = process.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: no pointers.
    let copy = own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) });
    copy.ok_or_else(io::Error::last_os_error)
}

/// Asks about a socket of another process, and makes the kernel give it a cookie: numbers and names for [`describe`] and
/// [`Asked`]. May wait for the socket's lock, so that only a [`Looker`] calls it.
pub(crate) fn ask(tgid: u32, fd: u32) -> io::Result<Vec<u8>> {
    let copy = copy(tgid, fd)?;
    let cookie = option::<u64>(&copy, libc::SOL_SOCKET, libc::SO_COOKIE).unwrap_or(0);
    let int = |name| option::<u32>(&copy, libc::SOL_SOCKET, name).map_or(0, u64::from);
    let listens = int(libc::SO_ACCEPTCONN);
    let backlog = if listens == 0 {
        0
    } else {
        // Of a listener, tcpi_sacked is the backlog (tcp_get_info, net/ipv4/tcp.c); it is the u32 at 28.
        option::<[u32; 8]>(&copy, libc::IPPROTO_TCP, libc::TCP_INFO).map_or(0, |info| u64::from(info[7]))
    };
    let local = name(&copy, libc::getsockname).unwrap_or_default();
    let peer = name(&copy, libc::getpeername).unwrap_or_default();
    let numbers: [u64; NUMBERS] = [
        cookie,
        int(libc::SO_DOMAIN),
        int(libc::SO_TYPE),
        int(libc::SO_PROTOCOL),
        listens,
        backlog,
        local.len() as u64,
        peer.len() as u64,
    ];
    let mut answer: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
    answer.extend(local);
    answer.extend(peer);
    Ok(answer)
}

/// What [`ask`] answered.
#[derive(Default)]
struct Asked {
    cookie: u64,
    family: u16,
    kind: u16,
    protocol: u16,
    listening: Option<u32>,
    local: Option<SockAddr>,
    peer: Option<SockAddr>,
}

impl Asked {
    fn read(answer: &[u8]) -> Option<Self> {
        let [cookie, family, kind, protocol, listens, backlog, local, peer] = words::<NUMBERS>(answer)?;
        let names = answer.get(NUMBERS * 8..)?;
        let (local, rest) = names.split_at_checked(local as usize)?;
        Some(Self {
            cookie,
            family: family as u16,
            kind: kind as u16,
            protocol: protocol as u16,
            listening: (listens != 0).then_some(backlog as u32),
            local: address(local),
            peer: address(rest.get(..peer as usize)?),
        })
    }
}

fn address(bytes: &[u8]) -> Option<SockAddr> {
    match sockaddr(bytes)? {
        SockAddr::Inet(a) if a.port() == 0 => None,
        SockAddr::Unix(n) if n.is_empty() => None,
        other => Some(other),
    }
}

/// Makes the kernel give every socket of a process a cookie, so that its records and the snapshot agree on it.
/// Returns the network namespace's inode number and the port of each TCP listener.
pub(crate) fn name_all(tgid: u32, looker: &Looker) -> Vec<(u64, u16)> {
    let netns = std::fs::metadata(format!("/proc/{tgid}/ns/net")).map_or(0, |m| m.ino());
    let is_socket = |fd: &u32| {
        std::fs::read_link(format!("/proc/{tgid}/fd/{fd}"))
            .is_ok_and(|l| l.to_string_lossy().starts_with("socket:"))
    };
    let sockets = crate::proc::numbers(&format!("/proc/{tgid}/fd")).into_iter().filter(is_socket);
    let looks: Vec<Look> = sockets.map(|fd| Look::Socket { tgid, fd }).collect();
    let answers = looker.look_at(&looks).into_iter().filter_map(|seen| Asked::read(&seen.known()?));
    answers
        .filter(|asked| asked.listening.is_some())
        .filter_map(|asked| match asked.local {
            Some(SockAddr::Inet(address)) => Some((netns, address.port())),
            _ => None,
        })
        .collect()
}

/// Describes a socket of another process; `answer` is what [`ask`] answered, `peer_ino` the other end of a unix pair, or 0.
pub(crate) fn describe(answer: Option<&[u8]>, ino: u64, peer_ino: u64) -> FdTarget {
    let Asked { cookie, family, kind, protocol, listening, local, peer } =
        answer.and_then(Asked::read).unwrap_or_default();
    FdTarget::Socket { ino, cookie, family, kind, protocol, listening, local, peer, peer_ino }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_described() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let Ok(answer) = ask(std::process::id(), listener.as_raw_fd() as u32) else {
            eprintln!("skipped: pidfd_getfd is not available");
            return;
        };
        let FdTarget::Socket { family, kind, listening, local, cookie, .. } = describe(Some(&answer), 1, 0)
        else {
            panic!("no socket");
        };
        assert_ne!(cookie, 0);
        assert_eq!((family, kind), (2, 1));
        assert_eq!(local, Some(SockAddr::Inet(address)));
        assert!(listening.unwrap() > 0);
    }
}
