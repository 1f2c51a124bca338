//! Sockets: what they are, and what happens to TCP connections.

use crate::{
    capture::bounded,
    kernel::{now, read_or_zero, read_to, ticks},
    maps::{Followed, LISTENERS, SHARED, SOCKS, global, lost, scratch, send, send_life},
    scope::{arg, slot_number},
};
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_kernel},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use ctrace_abi::{MISSING, PROBED, Shared, SockObject, TcpEvent, Tuple, kind, loss, tcp};

/// TCP states, include/net/tcp_states.h.
const TCP_ESTABLISHED: u8 = 1;
const TCP_SYN_SENT: u8 = 2;
const TCP_SYN_RECV: u8 = 3;
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;

pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const IPPROTO_TCP: u16 = 6;

/// Addresses and ports of an inet socket. `skc_dport` is in network order, `skc_num` in host order
/// (include/net/sock.h).
#[inline(always)]
pub fn tuple(t: &mut Tuple, sk: u64, family: u16) {
    // Volatile words: a call of `memset` would have a frame of its own, see `read_to`.
    let words = core::ptr::from_mut(t).cast::<u64>();
    for i in 0..size_of::<Tuple>() / 8 {
        // SAFETY: inside `t`: integers, at a multiple of 8 in both records that hold a tuple.
        unsafe { words.add(i).write_volatile(0) };
    }
    t.family = family;
    if family == AF_INET {
        read_to(t.local.as_mut_ptr().cast::<u32>(), sk, global!(sk_rcv_saddr));
        read_to(t.remote.as_mut_ptr().cast::<u32>(), sk, global!(sk_daddr));
    } else if family == AF_INET6 {
        read_to(&raw mut t.local, sk, global!(sk_v6_rcv_saddr));
        read_to(&raw mut t.remote, sk, global!(sk_v6_daddr));
    } else {
        return;
    }
    read_to(&raw mut t.local_port, sk, global!(sk_num));
    read_to(&raw mut t.remote_port, sk, global!(sk_dport));
    t.remote_port = u16::from_be(t.remote_port);
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
    read_to(&raw mut o.cookie, sk, global!(sk_cookie));
    read_to(&raw mut o.ino, inode, global!(inode_ino));
    read_to(&raw mut o.family, sk, global!(sk_family));
    read_to(&raw mut o.kind_, sk, global!(sk_type));
    read_to(&raw mut o.protocol, sk, global!(sk_protocol));
    o.state = 0;
    read_to((&raw mut o.state).cast::<u8>(), sk, global!(sk_state));
    tuple(&mut o.tuple, sk, o.family);
    if o.family == AF_UNIX {
        o.unix_local_len = unix_name(sk, o.unix_local.as_mut_ptr());
        let peer: u64 = read_or_zero(sk, global!(unix_peer));
        if peer != 0 {
            o.unix_peer_len = unix_name(peer, o.unix_peer.as_mut_ptr());
        }
    }
    if o.protocol == IPPROTO_TCP && (o.family == AF_INET || o.family == AF_INET6) {
        follow(sk, tid);
        if o.state == u16::from(TCP_LISTEN) {
            listens(sk, tid);
        }
    }
    u32::from(send(buffer, size_of::<SockObject>() as u64))
}

/// Bits of an entry of `Shared::probed` that hold the time.
const TICKS: u64 = (1 << 22) - 1;

/// Where it is remembered that a socket needs no sample yet.
#[inline(always)]
fn probed(shared: *mut Shared, sk: u64) -> *mut u64 {
    let at = bounded::<{ PROBED as i32 - 1 }>(sk >> 6 ^ sk >> 14);
    // SAFETY: the index is bounded.
    unsafe { (*shared).probed.as_mut_ptr().add(at as usize) }
}

/// One word for a socket, which is aligned to 64 bytes and whose address begins with 16 ones, and a time in ticks.
#[inline(always)]
fn probe_mark(sk: u64, now: u32) -> u64 {
    sk >> 6 << 22 | u64::from(now) & TICKS
}

/// Ticks since the mark of a socket; many when it is another's.
#[inline(always)]
fn probed_since(mark: u64, sk: u64, now: u32) -> u32 {
    if mark >> 22 != sk << 16 >> 22 {
        return u32::MAX;
    }
    (u64::from(now).wrapping_sub(mark) & TICKS) as u32
}

/// From now on, what happens to this TCP socket is recorded, whoever causes it.
#[inline(always)]
pub fn follow(sk: u64, tid: u32) {
    if let Some(shared) = SHARED.get_ptr_mut(0) {
        // SAFETY: a whole word of the map's value.
        unsafe { probed(shared, sk).write_volatile(0) };
    }
    // The first sample follows when the connection has had a while: short ones only have their totals.
    if SOCKS.insert(&sk, &Followed { tid, sampled: ticks() }, 0).is_err() {
        lost(loss::CONNECTION_MAP);
    }
}

/// Connections that arrive at this listener belong to the scope before anybody accepts them.
#[inline(always)]
fn listens(sk: u64, tid: u32) {
    if LISTENERS.insert(&endpoint(sk), &tid, 0).is_err() {
        lost(loss::CONNECTION_MAP);
    }
}

/// Network namespace (its inode number, as `/proc/PID/ns/net` tells it) and local port.
#[inline(always)]
fn endpoint(sk: u64) -> [u64; 2] {
    let net: u64 = read_or_zero(sk, global!(sk_net));
    let inum: u32 = read_or_zero(net, global!(net_inum));
    [u64::from(inum), u64::from(read_or_zero::<u16>(sk, global!(sk_num)))]
}

/// The thread that a followed socket belongs to; 0 when the socket is not of the scope.
#[inline(always)]
fn owner(sk: u64) -> u32 {
    // SAFETY: copied out at once.
    match unsafe { SOCKS.get(&sk) } {
        Some(followed) => followed.tid,
        None => 0,
    }
}

#[inline(always)]
fn event(sk: u64, tid: u32, what: u8, old: u8, new: u8) {
    let family: u16 = read_or_zero(sk, global!(sk_family));
    let mut e = TcpEvent {
        kind: kind::TCP,
        what,
        old,
        new,
        tid,
        t_ns: now(),
        sk,
        cookie: read_or_zero(sk, global!(sk_cookie)),
        ino: 0,
        error: read_or_zero(sk, global!(sk_err)),
        srtt_us: 0,
        sent: 0,
        received: 0,
        retransmits: 0,
        cwnd: 0,
        send_window: 0,
        in_flight: 0,
        tuple: Tuple::default(),
    };
    tuple(&mut e.tuple, sk, family);
    if what == tcp::DESTROY || what == tcp::SAMPLE {
        e.cwnd = read_or_zero(sk, global!(tcp_cwnd));
        e.send_window = read_or_zero(sk, global!(tcp_send_window));
        e.in_flight = read_or_zero(sk, global!(tcp_packets_out));
        e.srtt_us = read_or_zero::<u32>(sk, global!(tcp_srtt)) >> 3;
        e.retransmits = read_or_zero(sk, global!(tcp_total_retrans));
        let sent: u64 = read_or_zero(sk, global!(tcp_bytes_sent));
        let again: u64 = read_or_zero(sk, global!(tcp_bytes_retrans));
        e.sent = sent.wrapping_sub(again);
        e.received = read_or_zero(sk, global!(tcp_bytes_received));
        // The peer's FIN counts as a byte (tcp_rcv_nxt_update, net/ipv4/tcp_input.c); SOCK_DONE says it came.
        let flags: u64 = read_or_zero(sk, global!(sk_flags));
        if e.received > 0 && flags & (1 << 1) != 0 {
            e.received -= 1;
        }
    }
    send_life(&e, loss::CONNECTION_RING);
}

/// `TP_PROTO(const struct sock *sk, const int oldstate, const int newstate)`. May run in softirq with an unrelated
/// current task: the socket decides whether it is recorded.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let sk = arg(&ctx, 0);
    let old = arg(&ctx, 1) as u8;
    let new = arg(&ctx, 2) as u8;
    if old == new {
        // tcp_close() after shutdown() sets FIN_WAIT1 again.
        return 0;
    }
    let mut tid = owner(sk);
    if tid == 0 {
        if read_or_zero::<u16>(sk, global!(sk_protocol)) != IPPROTO_TCP {
            return 0;
        }
        if old == TCP_CLOSE && (new == TCP_SYN_SENT || new == TCP_LISTEN) {
            // connect() and listen() do this themselves.
            let current = bpf_get_current_pid_tgid() as u32;
            if slot_number(current) == 0 {
                return 0;
            }
            tid = current;
        } else if new == TCP_SYN_RECV || (old == TCP_SYN_RECV && new == TCP_ESTABLISHED) {
            // SAFETY: copied out at once.
            match unsafe { LISTENERS.get(&endpoint(sk)) } {
                Some(of) => tid = *of,
                None => return 0,
            }
        } else {
            return 0;
        }
        follow(sk, tid);
    }
    if new == TCP_LISTEN {
        listens(sk, tid);
    } else if old == TCP_LISTEN && new == TCP_CLOSE {
        let _ = LISTENERS.remove(&endpoint(sk));
    }
    event(sk, tid, tcp::STATE, old, new);
    0
}

#[inline(always)]
fn simple(ctx: &RawTracePointContext, what: u8) -> i32 {
    let sk = arg(ctx, 0);
    if sk == 0 {
        return 0;
    }
    let tid = owner(sk);
    if tid != 0 {
        event(sk, tid, what, 0, 0);
        if what == tcp::DESTROY {
            let _ = SOCKS.remove(&sk);
        }
    }
    0
}

/// `TP_PROTO(const struct sock *sk, const struct sk_buff *skb, …)`.
#[raw_tracepoint(tracepoint = "tcp_retransmit_skb")]
pub fn tcp_retransmit_skb(ctx: RawTracePointContext) -> i32 {
    simple(&ctx, tcp::RETRANSMIT)
}

/// `TP_PROTO(const struct sock *sk, …)`; the socket may be missing.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub fn tcp_send_reset(ctx: RawTracePointContext) -> i32 {
    simple(&ctx, tcp::RESET_SENT)
}

/// `TP_PROTO(struct sock *sk)`.
#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
pub fn tcp_receive_reset(ctx: RawTracePointContext) -> i32 {
    simple(&ctx, tcp::RESET_RECEIVED)
}

/// `TP_PROTO(struct sock *sk)`.
#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
pub fn tcp_destroy_sock(ctx: RawTracePointContext) -> i32 {
    simple(&ctx, tcp::DESTROY)
}

/// `TP_PROTO(struct sock *sk, struct sk_buff *skb)`: a segment arrived on an established connection.
#[raw_tracepoint(tracepoint = "tcp_probe")]
pub fn tcp_probe(ctx: RawTracePointContext) -> i32 {
    let sk = arg(&ctx, 0);
    let Some(shared) = SHARED.get_ptr_mut(0) else { return 0 };
    let now = ticks();
    // The table of sockets is asked once per sample, and as often for sockets of others.
    let probed = probed(shared, sk);
    // SAFETY: a whole word of the map's value.
    if probed_since(unsafe { probed.read_volatile() }, sk, now) < global!(sample_ticks) {
        return 0;
    }
    // SAFETY: as above.
    unsafe { probed.write_volatile(probe_mark(sk, now)) };
    let Some(followed) = SOCKS.get_ptr_mut(&sk) else { return 0 };
    // SAFETY: a value of the map. The socket is locked, so that nobody else samples it.
    let followed = unsafe { &mut *followed };
    if now.wrapping_sub(followed.sampled) < global!(sample_ticks) {
        return 0;
    }
    followed.sampled = now;
    event(sk, followed.tid, tcp::SAMPLE, 0, 0);
    0
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
