//! Messages: with descriptors, several at a time, from sockets whose address the kernel chooses. Every socket that gets
//! one is asked for it afterwards.

use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::RawFd;

const SIZES: [usize; 3] = [50, 20, 7];

fn socket(family: i32, kind: i32) -> RawFd {
    // SAFETY: numbers.
    let fd = unsafe { libc::socket(family, kind, 0) };
    assert!(fd >= 0);
    fd
}

/// Asks a socket for its address: the port of one of IPv4.
fn port(fd: RawFd) -> u16 {
    // SAFETY: integers, zero.
    let mut addr: libc::sockaddr_in = unsafe { zeroed() };
    let mut len = size_of_val(&addr) as u32;
    // SAFETY: an address of that length.
    assert_eq!(unsafe { libc::getsockname(fd, (&raw mut addr).cast(), &raw mut len) }, 0);
    u16::from_be(addr.sin_port)
}

fn loopback(port: u16) -> libc::sockaddr_in {
    // SAFETY: integers, zero.
    let mut addr: libc::sockaddr_in = unsafe { zeroed() };
    addr.sin_family = libc::AF_INET as u16;
    addr.sin_port = port.to_be();
    addr.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
    addr
}

fn ok(result: i32) {
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Sends these descriptors through one end of a pair, and receives them at the other.
fn pass(pair: [RawFd; 2], fds: &[RawFd]) {
    let mut byte = [7_u8; 3];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    let mut control = [0_u64; 64];
    // SAFETY: integers and null pointers.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    let bytes = size_of_val(fds) as u32;
    // SAFETY: sizes only; then one control message in a buffer that has room for it.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(bytes) as usize;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(bytes) as usize;
        std::ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(head).cast(), fds.len());
        assert_eq!(libc::sendmsg(pair[0], &raw const message, 0), 3);
        message.msg_controllen = size_of_val(&control);
        assert_eq!(libc::recvmsg(pair[1], &raw mut message, 0), 3);
    }
}

/// Sends three messages to an address at once, and receives them at once.
fn several(from: RawFd, to: RawFd, mut addr: libc::sockaddr_in) {
    let mut bytes = [0_u8; 64];
    let mut parts = SIZES.map(|iov_len| libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len });
    let mut all: [libc::mmsghdr; 3] = parts.each_mut().map(|part| {
        // SAFETY: integers and null pointers.
        let mut message: libc::mmsghdr = unsafe { zeroed() };
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_name = (&raw mut addr).cast();
        message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        message
    });
    // SAFETY: three messages of one part each, with an address.
    unsafe {
        assert_eq!(libc::sendmmsg(from, all.as_mut_ptr(), 3, 0), 3);
        assert_eq!(libc::recvmmsg(to, all.as_mut_ptr(), 3, 0, std::ptr::null_mut()), 3);
    }
}

pub(crate) fn all() {
    let mut pair = [0; 2];
    // SAFETY: room for two descriptors.
    ok(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) });
    let mut pipe = [0; 2];
    // SAFETY: room for two descriptors.
    ok(unsafe { libc::pipe(pipe.as_mut_ptr()) });
    pass(pair, &pipe[..1]);
    pass(pair, &[pipe[1], 0, pair[0]]);

    let size = size_of::<libc::sockaddr_in>() as u32;
    let any = loopback(0);
    let server = socket(libc::AF_INET, libc::SOCK_DGRAM);
    // SAFETY: an address of that length.
    ok(unsafe { libc::bind(server, (&raw const any).cast(), size) });
    let at = loopback(port(server));
    let to = (&raw const at).cast();
    let sender = socket(libc::AF_INET, libc::SOCK_DGRAM);
    // SAFETY: a byte, and an address of that length.
    assert_eq!(unsafe { libc::sendto(sender, b"x".as_ptr().cast(), 1, 0, to, size) }, 1);
    port(sender);
    let mut byte = [0_u8; 1];
    // SAFETY: a byte.
    assert_eq!(unsafe { libc::recv(server, byte.as_mut_ptr().cast(), 1, 0) }, 1);
    let client = socket(libc::AF_INET, libc::SOCK_DGRAM);
    // SAFETY: an address of that length.
    ok(unsafe { libc::connect(client, to, size) });
    port(client);
    let many = socket(libc::AF_INET, libc::SOCK_DGRAM);
    several(many, server, at);
    port(many);
    let listener = socket(libc::AF_INET, libc::SOCK_STREAM);
    // SAFETY: numbers.
    ok(unsafe { libc::listen(listener, 1) });
    port(listener);
    let named = socket(libc::AF_UNIX, libc::SOCK_DGRAM);
    let family = libc::AF_UNIX as u16;
    // SAFETY: an address of the family alone.
    ok(unsafe { libc::bind(named, (&raw const family).cast(), 2) });
    // SAFETY: integers, zero.
    let mut addr: libc::sockaddr_un = unsafe { zeroed() };
    let mut len = size_of_val(&addr) as u32;
    // SAFETY: an address of that length.
    ok(unsafe { libc::getsockname(named, (&raw mut addr).cast(), &raw mut len) });
}
