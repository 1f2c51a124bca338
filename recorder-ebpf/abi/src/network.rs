//! TCP connections, the traffic of other sockets, DNS messages.

use crate::Tuple;

/// What went through a socket that is no TCP socket, in all so far: a value of the traffic map, and the rest of
/// a [`TrafficEvent`].
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Traffic {
    /// Inode number.
    pub ino: u64,
    /// `skc_cookie` or 0.
    pub cookie: u64,
    /// When the count began: with the socket's address, its identity.
    pub born_ns: u64,
    /// When it was last reported.
    pub from_ns: u64,
    /// When it was last used.
    pub used_ns: u64,
    /// The task that used it last.
    pub tid: u32,
    /// `AF_*`.
    pub family: u16,
    /// `SOCK_*`.
    pub kind_: u16,
    /// `IPPROTO_*`.
    pub protocol: u16,
    /// 1: it was used to ask a DNS server.
    pub dns: u16,
    /// Must be 0.
    pub reserved: u32,
    /// Messages sent.
    pub sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Messages received.
    pub received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// The tuple.
    pub tuple: Tuple,
}

/// The state of a socket's traffic.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TrafficEvent {
    /// [`crate::kind::TRAFFIC`].
    pub kind: u8,
    /// Must be 0.
    pub reserved: [u8; 3],
    /// The task that used it last.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Address of its `struct sock`.
    pub sk: u64,
    /// In all so far.
    pub traffic: Traffic,
}

/// A message to or from a DNS server; up to [`MAX_DNS`] bytes of it follow.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct DnsEvent {
    /// [`crate::kind::DNS`].
    pub kind: u8,
    /// [`dns_how`].
    pub how: u8,
    /// Bytes of the message that follow.
    pub len: u16,
    /// The task.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Address of its `struct sock`.
    pub sk: u64,
    /// `skc_cookie` or 0.
    pub cookie: u64,
    /// Inode number.
    pub ino: u64,
    /// The address that the call gave, as `struct sockaddr`; family 0: none.
    pub to: [u8; 32],
    /// The tuple.
    pub tuple: Tuple,
}

/// Bits of [`DnsEvent::how`].
pub mod dns_how {
    /// It was received, not sent.
    pub const RECEIVED: u8 = 1;
    /// Over TCP.
    pub const STREAM: u8 = 1 << 1;
}

/// Most bytes of a DNS message that are copied.
pub const MAX_DNS: usize = 512;

/// Something happened to a TCP socket of the scope.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TcpEvent {
    /// [`crate::kind::TCP`].
    pub kind: u8,
    /// [`tcp`].
    pub what: u8,
    /// State before.
    pub old: u8,
    /// State after.
    pub new: u8,
    /// Task of the scope that caused it, or 0.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Address of its `struct sock`.
    pub sk: u64,
    /// `skc_cookie` or 0.
    pub cookie: u64,
    /// Inode number, 0 when it has no file (yet).
    pub ino: u64,
    /// `sk_err`.
    pub error: u32,
    /// `srtt_us >> 3`.
    pub srtt_us: u32,
    /// `bytes_acked` or `bytes_sent`.
    pub sent: u64,
    /// `bytes_received`.
    pub received: u64,
    /// `total_retrans`.
    pub retransmits: u32,
    /// `snd_cwnd`.
    pub cwnd: u32,
    /// `snd_wnd`.
    pub send_window: u32,
    /// `packets_out`.
    pub in_flight: u32,
    /// The tuple.
    pub tuple: Tuple,
}

/// Values of [`TcpEvent::what`].
pub mod tcp {
    /// `inet_sock_set_state`.
    pub const STATE: u8 = 1;
    /// `tcp_retransmit_skb`.
    pub const RETRANSMIT: u8 = 2;
    /// `tcp_send_reset`.
    pub const RESET_SENT: u8 = 3;
    /// `tcp_receive_reset`.
    pub const RESET_RECEIVED: u8 = 4;
    /// `tcp_destroy_sock`.
    pub const DESTROY: u8 = 5;
    /// `tcp_probe`.
    pub const SAMPLE: u8 = 6;
}

const _: () = {
    assert!(size_of::<Traffic>() == 40 + 16 + 32 + 40);
    assert!(size_of::<TrafficEvent>() == 24 + 128);
    assert!(size_of::<DnsEvent>() == 40 + 32 + 40);
    assert!(size_of::<TcpEvent>() == 80 + 40);
};
