//! What goes through sockets: bytes and messages of those that are no TCP sockets, and the messages of those that talk
//! to a DNS server. Seen in the task that sends or receives, within its call.

use crate::{
    arch::parameters,
    capture::{bounded, read_user, read_user_u32, read_user_u64, spec},
    kernel::read_or_zero,
    maps::{MESSAGES, PENDING, SPEC, TRAFFIC, add, global, lost, scratch, send, send_bulk},
    scope::{arg, slot, slot_number},
    socks::{AF_INET, AF_INET6, IPPROTO_TCP, tuple},
    usage::WINDOW_NS,
};
use aya_ebpf::{
    EbpfContext as _,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_ktime_get_boot_ns, bpf_probe_read_user},
    },
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};
use ctrace_abi::{
    DnsEvent, MAX_DNS, MISSING, NO_SLOT, SPEC_COMPAT, Slot, Traffic, TrafficEvent, abi, data, dns_how, kind,
    loss, progress,
};

const DNS_PORT: u16 = 53;
const SOCK_DGRAM: u16 = 2;
/// `MSG_PEEK`, include/linux/socket.h.
const MSG_PEEK: u32 = 2;
/// Size of `struct mmsghdr` and place of its `msg_len`, of 64-bit programs (include/linux/socket.h).
const MMSGHDR: u64 = 64;
const MSG_LEN: u64 = 56;
/// The same of 32-bit programs (`struct compat_mmsghdr`, include/net/compat.h).
const MMSGHDR_32: u64 = 32;
const MSG_LEN_32: u64 = 28;
/// Messages of a call that are counted. The kernel sends no more at once (`UIO_MAXIOV`), but may receive more.
const MAX_MESSAGES: u32 = 1024;

/// `TP_PROTO(struct sock *sk, int ret, int flags)`, since Linux 6.3.
#[raw_tracepoint(tracepoint = "sock_send_length")]
pub fn sock_send_length(ctx: RawTracePointContext) -> i32 {
    told(&ctx, 0)
}

/// `TP_PROTO(struct sock *sk, int ret, int flags)`, since Linux 6.3.
#[raw_tracepoint(tracepoint = "sock_recv_length")]
pub fn sock_recv_length(ctx: RawTracePointContext) -> i32 {
    if arg(&ctx, 2) as u32 & MSG_PEEK != 0 {
        return 0;
    }
    told(&ctx, 1)
}

#[inline(always)]
fn told(ctx: &RawTracePointContext, received: u32) -> i32 {
    // Most sockets are asked in vain. Where it costs less than to ask whose call it is, that comes first.
    if global!(direct) != 0 && !is_counted(arg(ctx, 0)) {
        return 0;
    }
    let tid = bpf_get_current_pid_tgid() as u32;
    let number = slot_number(tid);
    if number == 0 || number == NO_SLOT {
        return 0;
    }
    let bytes = arg(ctx, 1) as i32;
    if bytes >= 0 {
        moved(number, tid, arg(ctx, 0), received, bytes as u32);
    }
    0
}

/// `int security_socket_sendmsg(struct socket *sock, struct msghdr *msg, int size)`, where there is no tracepoint.
#[kprobe]
pub fn sock_sends(ctx: ProbeContext) -> u32 {
    begins(&ctx, 0);
    0
}

/// `int security_socket_recvmsg(struct socket *sock, struct msghdr *msg, int size, int flags)`, likewise.
#[kprobe]
pub fn sock_receives(ctx: ProbeContext) -> u32 {
    begins(&ctx, 1);
    0
}

/// Remembers the socket through which the call in flight is about to move data. How many bytes, the call's end tells:
/// who waits for data may wait for long, and the kernel keeps the return addresses of a few tasks only
/// (`kretprobe.maxactive`).
#[inline(always)]
fn begins(ctx: &ProbeContext, received: u32) {
    let tid = bpf_get_current_pid_tgid() as u32;
    let number = slot_number(tid);
    if number == 0 || number == NO_SLOT {
        return;
    }
    let Some(slot) = slot(number) else { return };
    if slot.busy != progress::IN_CALL {
        return;
    }
    let Some([socket, _, _, flags]) = parameters(ctx.as_ptr() as u64) else { return };
    if received != 0 && flags as u32 & MSG_PEEK != 0 {
        return;
    }
    // A socket of the kernel's own (a file system's on the network) is not the call's.
    if read_or_zero::<u64>(socket, global!(socket_file)) == 0 {
        return;
    }
    if let Some(pending) = PENDING.get_ptr_mut(u32::from(number)) {
        // SAFETY: a value of the map; it belongs to this task.
        let pending = unsafe { &mut *pending };
        pending.call_ns = slot.call.t_ns;
        pending.sk = read_or_zero(socket, global!(socket_sk));
        pending.received = received;
    }
}

/// At the end of a call: counts what it moved, if [`begins`] met it.
#[inline(always)]
pub fn ended(slot: &Slot, number: u32, ret: i64) {
    if global!(sock_by_call) == 0 || ret < 0 {
        return;
    }
    if let Some(pending) = PENDING.get(number) {
        if pending.call_ns == slot.call.t_ns {
            call_moved(number, ret as u64);
        }
    }
}

/// Counts what a call that returned `ret` moved. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn call_moved(number: u32, ret: u64) -> u32 {
    let Some(slot) = slot(number as u16) else { return 0 };
    let Some(spec) = spec(slot.call.abi, slot.call.nr) else { return 0 };
    match spec.data {
        // What is neither bytes nor messages (`io_uring_enter`).
        data::NONE => {}
        data::MESSAGES => {
            for i in 0..MAX_MESSAGES {
                if u64::from(i) >= ret {
                    return 0;
                }
                message_moved(number, i);
            }
            if ret > u64::from(MAX_MESSAGES) {
                lost(loss::SOCKET_MAP);
            }
        }
        _ => {
            if let Some(pending) = PENDING.get(number) {
                moved(number as u16, slot.call.tid, pending.sk, pending.received, ret as u32);
            }
        }
    }
    0
}

/// Counts message `index` of a `sendmmsg` or `recvmmsg`: the kernel wrote its length into the caller's array. A global
/// function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn message_moved(number: u32, index: u32) -> u32 {
    let Some(slot) = slot(number as u16) else { return 0 };
    let Some(pending) = PENDING.get(number) else { return 0 };
    let (size, at) = if slot.call.abi == abi::NATIVE { (MMSGHDR, MSG_LEN) } else { (MMSGHDR_32, MSG_LEN_32) };
    match read_user_u32(slot.call.args[1] + u64::from(index) * size + at) {
        Some(bytes) => moved(number as u16, slot.call.tid, pending.sk, pending.received, bytes),
        None => lost(loss::SOCKET_MAP),
    }
    0
}

/// Counts what went through a socket, and looks at it if it is from or for a DNS server.
#[inline(always)]
fn moved(number: u16, tid: u32, sk: u64, received: u32, bytes: u32) {
    let (family, port) = family_and_port(sk);
    let inet = family == AF_INET || family == AF_INET6;
    let mut dns = inet && port == DNS_PORT;
    if !is_tcp(sk, family) {
        let asked = count_traffic(sk, tid, received, bytes);
        // Of a socket that is not connected, only the call knows whom it asks.
        dns |= inet && (received == 0 || asked != 0);
    }
    if dns {
        message(u32::from(number), sk, received, bytes);
    }
}

/// Whether anything is to be told of what goes through a socket: it is no TCP connection, or one to a DNS server.
#[inline(always)]
fn is_counted(sk: u64) -> bool {
    let (family, port) = family_and_port(sk);
    !is_tcp(sk, family) || port == DNS_PORT
}

#[inline(always)]
fn is_tcp(sk: u64, family: u16) -> bool {
    (family == AF_INET || family == AF_INET6) && read_or_zero::<u16>(sk, global!(sk_protocol)) == IPPROTO_TCP
}

/// Address family, and the peer's port when it is that of an inet socket: neighbours in `struct sock_common`, read
/// at once where they are.
#[inline(always)]
fn family_and_port(sk: u64) -> (u16, u16) {
    let (family, port) = (global!(sk_family), global!(sk_dport));
    let apart = family.wrapping_sub(port);
    if port == MISSING || apart > 6 {
        return (read_or_zero(sk, family), u16::from_be(read_or_zero(sk, port)));
    }
    let both: u64 = read_or_zero(sk, port);
    ((both >> (8 * apart)) as u16, u16::from_be(both as u16))
}

/// Inode number of a socket, without its file.
#[inline(always)]
fn inode(sk: u64) -> u64 {
    let socket: u64 = read_or_zero(sk, global!(sk_socket));
    let at = global!(socket_inode);
    read_or_zero(socket, at.wrapping_add(global!(inode_ino)))
}

/// Adds to a socket's counters; says whether it was used to ask a DNS server. A global function, see
/// [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_traffic(sk: u64, tid: u32, received: u32, bytes: u32) -> u32 {
    let ino = inode(sk);
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let known = match TRAFFIC.get_ptr_mut(&sk) {
        Some(traffic) => {
            // SAFETY: a value of the map. Its counters are only ever added to.
            let traffic = unsafe { &mut *traffic };
            if traffic.ino != ino {
                // The address belongs to another socket now: the last words of the one before.
                report(sk, now);
                false
            } else {
                true
            }
        }
        None => false,
    };
    if !known {
        let Some(buffer) = scratch(4) else { return 0 };
        // SAFETY: the buffer is larger, aligned to 8, and this CPU's.
        let traffic = unsafe { &mut *buffer.cast::<Traffic>() };
        *traffic = Traffic::default();
        traffic.ino = ino;
        traffic.cookie = read_or_zero(sk, global!(sk_cookie));
        traffic.born_ns = now;
        traffic.from_ns = now;
        traffic.family = read_or_zero(sk, global!(sk_family));
        traffic.kind_ = read_or_zero(sk, global!(sk_type));
        traffic.protocol = read_or_zero(sk, global!(sk_protocol));
        tuple(&mut traffic.tuple, sk, traffic.family);
        if TRAFFIC.insert(&sk, traffic, 0).is_err() {
            lost(loss::SOCKET_MAP);
            return 0;
        }
    }
    let Some(traffic) = TRAFFIC.get_ptr_mut(&sk) else { return 0 };
    // SAFETY: as above.
    let traffic = unsafe { &mut *traffic };
    traffic.tid = tid;
    traffic.used_ns = now;
    // The end of a stream is no message.
    if bytes != 0 || traffic.kind_ == SOCK_DGRAM {
        let (messages, sum) = if received == 0 {
            (&raw mut traffic.sent, &raw mut traffic.bytes_sent)
        } else {
            (&raw mut traffic.received, &raw mut traffic.bytes_received)
        };
        // SAFETY: words of the value, aligned to 8.
        unsafe {
            add(messages, 1);
            add(sum, u64::from(bytes));
        }
    }
    if now - traffic.from_ns >= WINDOW_NS {
        traffic.from_ns = now;
        report(sk, now);
    }
    u32::from(traffic.dns)
}

/// Sends a socket's counters. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn report(sk: u64, now: u64) -> u32 {
    let Some(traffic) = TRAFFIC.get_ptr_mut(&sk) else { return 0 };
    let Some(buffer) = scratch(4) else { return 0 };
    // SAFETY: the buffer is larger, aligned to 8, and this CPU's.
    let record = unsafe { &mut *buffer.cast::<TrafficEvent>() };
    record.kind = kind::TRAFFIC;
    record.reserved = [0; 3];
    record.t_ns = now;
    record.sk = sk;
    // SAFETY: a value of the map.
    let traffic = unsafe { &mut *traffic };
    record.traffic = *traffic;
    tuple(&mut record.traffic.tuple, sk, traffic.family);
    // A socket that has given its addresses back keeps the last ones.
    if record.traffic.tuple.local_port == 0 {
        record.traffic.tuple = traffic.tuple;
    } else {
        traffic.tuple = record.traffic.tuple;
    }
    record.tid = traffic.tid;
    send_bulk(record, loss::SOCKET_RING);
    0
}

/// Where the message of the call in flight is: its first two parts, and the address it goes to.
#[inline(always)]
fn parts(number: u32) -> Option<[u64; 5]> {
    let slot = slot(number as u16)?;
    if slot.busy != progress::IN_CALL || slot.call.abi != abi::NATIVE || slot.call.nr >= SPEC_COMPAT {
        return None;
    }
    let spec = SPEC.get(slot.call.nr)?;
    let args = &slot.call.args;
    let (vector, count);
    let mut address = 0;
    match spec.data {
        data::BUFFER => return Some([args[1], args[2], 0, 0, if spec.nargs > 4 { args[4] } else { 0 }]),
        data::VECTOR => {
            vector = args[1];
            count = args[2];
        }
        data::MESSAGE | data::MESSAGES => {
            let mut header = args[1];
            if spec.data == data::MESSAGES {
                let call = slot.call.t_ns;
                let mut state = [call, 0];
                // SAFETY: copied out at once; the entry is this thread's.
                if let Some(known) = unsafe { MESSAGES.get(&slot.call.tid) } {
                    if known[0] == call {
                        state[1] = known[1];
                    }
                }
                header += state[1] * MMSGHDR;
                state[1] += 1;
                let _ = MESSAGES.insert(&slot.call.tid, &state, 0);
            }
            address = read_user_u64(header)?;
            vector = read_user_u64(header + 16)?;
            count = read_user_u64(header + 24)?;
        }
        _ => return None,
    }
    let mut out = [0, 0, 0, 0, address];
    if count > 0 {
        out[0] = read_user_u64(vector)?;
        out[1] = read_user_u64(vector + 8)?;
    }
    if count > 1 {
        out[2] = read_user_u64(vector + 16)?;
        out[3] = read_user_u64(vector + 24)?;
    }
    Some(out)
}

/// Sends what is sent to or received from a DNS server. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn message(number: u32, sk: u64, received: u32, bytes: u32) -> u32 {
    let Some(slot) = slot(number as u16) else { return 0 };
    let Some([first, first_len, second, second_len, address]) = parts(number) else { return 0 };
    let Some(buffer) = scratch(4) else { return 0 };
    // SAFETY: the buffer is larger, aligned to 8, and this CPU's.
    let record = unsafe { &mut *buffer.cast::<DnsEvent>() };
    record.to = [0; 32];
    let family: u16 = read_or_zero(sk, global!(sk_family));
    let connected = u16::from_be(read_or_zero(sk, global!(sk_dport)));
    if received == 0 && address != 0 {
        // `struct sockaddr_in6` has 28 bytes, `sockaddr_in` 16.
        let len = if family == AF_INET6 { 28 } else { 16 };
        // SAFETY: at most 28 bytes into a field of 32.
        unsafe { bpf_probe_read_user(record.to.as_mut_ptr().cast(), len, address as *const _) };
        let port = u16::from_be_bytes([record.to[2], record.to[3]]);
        if port != DNS_PORT {
            return 0;
        }
        if let Some(traffic) = TRAFFIC.get_ptr_mut(&sk) {
            // SAFETY: a value of the map.
            unsafe { (*traffic).dns = 1 };
        }
    } else if received == 0 && connected != DNS_PORT {
        return 0;
    }
    record.kind = kind::DNS;
    record.how = if received == 0 { 0 } else { dns_how::RECEIVED };
    if read_or_zero::<u16>(sk, global!(sk_protocol)) == IPPROTO_TCP {
        record.how |= dns_how::STREAM;
    }
    record.tid = slot.call.tid;
    // SAFETY: no preconditions.
    record.t_ns = unsafe { bpf_ktime_get_boot_ns() };
    record.sk = sk;
    record.cookie = read_or_zero(sk, global!(sk_cookie));
    record.ino = inode(sk);
    tuple(&mut record.tuple, sk, family);
    let all = u64::from(bytes).min(MAX_DNS as u64);
    let one = bounded::<0x3ff>(first_len.min(all));
    // SAFETY: 1 KiB behind the record is inside the buffer.
    let text = unsafe { buffer.add(size_of::<DnsEvent>()) };
    if one == 0 || !read_user(text, one, first) {
        return 0;
    }
    let mut len = one;
    let two = bounded::<0x3ff>(second_len.min(all - one.min(all)));
    if two != 0 {
        // SAFETY: another KiB.
        if read_user(unsafe { text.add(one as usize) }, two, second) {
            len = one + two;
        }
    }
    record.len = len as u16;
    let size = bounded::<0xfff>(size_of::<DnsEvent>() as u64 + len);
    if !send(buffer, size) {
        lost(loss::DNS_RING);
    }
    0
}
