//! Sockets: what they are, and what happens to TCP connections.

use crate::{
    kernel::read_or_zero,
    maps::{SOCKS, global, lost, scratch, send},
};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use ctrace_abi::{MISSING, SockObject, Tuple, kind, loss};

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;

/// Addresses and ports of an inet socket. `skc_dport` is in network order, `skc_num` in host order
/// (include/net/sock.h).
#[inline(always)]
pub fn tuple(sk: u64, family: u16) -> Tuple {
    let mut t = Tuple { family, ..Tuple::default() };
    if family == AF_INET {
        let local: [u8; 4] = read_or_zero(sk, global!(sk_rcv_saddr));
        let remote: [u8; 4] = read_or_zero(sk, global!(sk_daddr));
        t.local[..4].copy_from_slice(&local);
        t.remote[..4].copy_from_slice(&remote);
    } else if family == AF_INET6 {
        t.local = read_or_zero(sk, global!(sk_v6_rcv_saddr));
        t.remote = read_or_zero(sk, global!(sk_v6_daddr));
    } else {
        return t;
    }
    t.local_port = read_or_zero(sk, global!(sk_num));
    t.remote_port = u16::from_be(read_or_zero(sk, global!(sk_dport)));
    t
}

/// Describes a socket to user space. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn announce_socket(file: u64, inode: u64, tid: u32) -> u32 {
    let Some(buffer) = scratch(2) else { return 0 };
    // SAFETY: the buffer is larger, aligned to 8, and this CPU's.
    let o = unsafe { &mut *buffer.cast::<SockObject>() };
    // A socket's file keeps its `struct socket` as private data (net/socket.c, sock_alloc_file).
    let socket: u64 = read_or_zero(file, global!(file_private));
    let sk: u64 = read_or_zero(socket, global!(socket_sk));
    if sk == 0 {
        return 0;
    }
    o.kind = kind::SOCK;
    o.reserved = 0;
    o.unix_local_len = 0;
    o.unix_peer_len = 0;
    o.tid = tid;
    o.t_ns = crate::files::now();
    o.file = file;
    o.sk = sk;
    o.cookie = read_or_zero(sk, global!(sk_cookie));
    o.ino = read_or_zero(inode, global!(inode_ino));
    o.family = read_or_zero(sk, global!(sk_family));
    o.kind_ = read_or_zero(sk, global!(sk_type));
    o.protocol = read_or_zero(sk, global!(sk_protocol));
    o.state = u16::from(read_or_zero::<u8>(sk, global!(sk_state)));
    o.tuple = tuple(sk, o.family);
    if o.family == AF_UNIX {
        o.unix_local_len = unix_name(sk, o.unix_local.as_mut_ptr());
        let peer: u64 = read_or_zero(sk, global!(unix_peer));
        if peer != 0 {
            o.unix_peer_len = unix_name(peer, o.unix_peer.as_mut_ptr());
        }
    }
    if o.protocol == IPPROTO_TCP && (o.family == AF_INET || o.family == AF_INET6) {
        follow(sk, tid);
    }
    u32::from(send(buffer, size_of::<SockObject>() as u64))
}

/// From now on, what happens to this TCP socket is recorded, whoever causes it.
#[inline(always)]
pub fn follow(sk: u64, tid: u32) {
    if SOCKS.insert(&sk, &tid, 0).is_err() {
        lost(loss::CONNECTION_MAP);
    }
}

/// Copies a unix socket's name (without the family) and returns its length.
#[inline(always)]
fn unix_name(sk: u64, to: *mut u8) -> u8 {
    let address: u64 = read_or_zero(sk, global!(unix_addr));
    if address == 0 || global!(unix_address_name) == MISSING {
        return 0;
    }
    let len: u32 = read_or_zero(address, global!(unix_address_len));
    let len = if len > 110 { 110 } else { len };
    if len <= 2 {
        return 0;
    }
    let from = address + u64::from(global!(unix_address_name)) + 2;
    // SAFETY: the whole name field (108 bytes) is copied; what is beyond `len` is not looked at.
    let failed = unsafe { bpf_probe_read_kernel(to.cast(), 108, from as *const _) };
    if failed == 0 { (len - 2) as u8 } else { 0 }
}
