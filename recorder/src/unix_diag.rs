//! Which unix socket is connected to which: the kernel's socket diagnosis (`NETLINK_SOCK_DIAG`, Linux 3.3).

use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike as _};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd};

/// `SOCK_DIAG_BY_FAMILY`, `include/uapi/linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`, include/uapi/linux/netlink.h.
const DUMP: u16 = 0x301;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `UDIAG_SHOW_PEER` and `UNIX_DIAG_PEER`, `include/uapi/linux/unix_diag.h`.
const SHOW_PEER: u32 = 4;
const PEER: u16 = 2;

/// Inode → inode of the other end, for the sockets of this network namespace. Empty where the kernel has no
/// diagnosis.
pub(crate) fn peers() -> BTreeMap<u64, u64> {
    let mut peers = BTreeMap::new();
    let Some(socket) = ask() else { return peers };
    let mut buffer = vec![0_u8; 1 << 16];
    loop {
        // SAFETY: a buffer of the given length.
        let n = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let Some(bytes) = usize::try_from(n).ok().filter(|n| *n > 0).and_then(|n| buffer.get(..n)) else {
            return peers;
        };
        if parse(bytes, &mut peers) {
            return peers;
        }
    }
}

fn ask() -> Option<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 4) };
    if fd < 0 {
        return None;
    }
    // SAFETY: just made for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // The kernel answers at once; if it ever does not, peers are not known.
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(1)).ok()?;
    // struct nlmsghdr, then struct unix_diag_req: every state, any inode.
    let mut request = Vec::with_capacity(40);
    request.extend(40_u32.to_ne_bytes());
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([1, 0, 0, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request.extend(SHOW_PEER.to_ne_bytes());
    request.extend([0; 8]);
    // SAFETY: a buffer of the given length.
    let sent = unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    (sent == request.len() as isize).then_some(socket)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Takes a datagram of messages in. True: it was the last, or makes no sense.
fn parse(mut bytes: &[u8], peers: &mut BTreeMap<u64, u64>) -> bool {
    while !bytes.is_empty() {
        let (Some(len), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) else { return true };
        let Some(message) = bytes.get(16..len as usize) else { return true };
        if kind != BY_FAMILY || kind == DONE {
            return true;
        }
        // struct unix_diag_msg has 16 bytes, its inode is at 4; attributes follow.
        if let (Some(ino), Some(attributes)) = (u32_at(message, 4), message.get(16..))
            && let Some(peer) = peer(attributes)
        {
            peers.insert(u64::from(ino), u64::from(peer));
        }
        bytes = bytes.get((len as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

fn peer(mut attributes: &[u8]) -> Option<u32> {
    loop {
        let len = usize::from(u16_at(attributes, 0)?);
        if u16_at(attributes, 2)? == PEER {
            return u32_at(attributes, 4);
        }
        attributes = attributes.get(len.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn the_ends_of_a_pair_name_each_other() {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let ino = |s: &std::os::unix::net::UnixStream| {
            std::fs::metadata(format!("/proc/self/fd/{}", s.as_raw_fd())).unwrap().ino()
        };
        let peers = peers();
        if peers.is_empty() {
            eprintln!("skipped: no unix socket diagnosis");
            return;
        }
        assert_eq!(peers.get(&ino(&a)), Some(&ino(&b)));
        assert_eq!(peers.get(&ino(&b)), Some(&ino(&a)));
    }

    #[test]
    fn a_cut_message_ends_the_answer() {
        assert!(parse(&[40, 0, 0, 0, 20, 0], &mut BTreeMap::new()));
        assert!(parse(&[255, 255, 0, 0, 20, 0, 0, 0], &mut BTreeMap::new()));
    }
}
