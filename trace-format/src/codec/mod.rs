//! What the columns of each event class mean: events to rows and back.
//!
//! Field numbers, tags and keys are part of the format (`FORMAT.md`); they are never reused. `encode` and `decode` are
//! mirror images, to be compared function by function.

mod decode;
mod encode;
mod refs;

pub(crate) use decode::{Decoder, sysno_of};
pub(crate) use encode::Encoder;
pub use refs::Ref;
pub(crate) use refs::{Remap, all_refs, map_refs};

use crate::columns::{EventSize, Relation};
use crate::{
    BlockOp, Class, DecodeError, Detail, Event, FidelityLevel, LossCause, Metric, Origin, Process,
    ProcessKind, SockAddr, TcpState,
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Fields of a call's columns.
pub(crate) mod field {
    pub(crate) const DURATION: u32 = 1;
    pub(crate) const ARGS: [u32; 6] = [2, 3, 4, 5, 6, 7];
    pub(crate) const RET: u32 = 8;
    pub(crate) const OBJECT: u32 = 9;
    pub(crate) const WAIT_CPU: u32 = 10;
    pub(crate) const BLOCKED: u32 = 11;
    /// Time between the task's last call and this one that it neither waited nor was blocked.
    pub(crate) const GAP: u32 = 12;
    /// The first field of a detail; each detail of a call has 16.
    pub(crate) const DETAILS: u32 = 64;
    pub(crate) const PER_DETAIL: u32 = 16;

    /// Fields of the other classes.
    pub(crate) const A: u32 = 1;
    pub(crate) const B: u32 = 2;
    pub(crate) const C: u32 = 3;
    pub(crate) const D: u32 = 4;
    pub(crate) const E: u32 = 5;
    pub(crate) const F: u32 = 6;
    pub(crate) const G: u32 = 7;
    pub(crate) const H: u32 = 8;
    pub(crate) const I: u32 = 9;
    pub(crate) const J: u32 = 10;
    pub(crate) const K: u32 = 11;
    pub(crate) const L: u32 = 12;

    /// A connection's cookie.
    pub(crate) const COOKIE: u32 = A;
}

/// Details a call may have.
pub(crate) const MAX_DETAILS: usize = 64;
/// Elements a list of an event may have.
pub(crate) const MAX_LIST: usize = 65_536;
/// Bytes a byte string of an event may have.
pub(crate) const MAX_BLOB: usize = 1 << 20;

/// What to try for a call's column.
pub(crate) fn syscall_relation(field: u32) -> Relation {
    match field {
        field::GAP => Relation::Present,
        field::RET => Relation::Near(&field::ARGS),
        field::OBJECT => Relation::KeyedBy(field::ARGS[0]),
        _ => Relation::None,
    }
}

/// What to try for the columns of other classes.
pub(crate) fn no_relation(_: u32) -> Relation {
    Relation::None
}

/// What decides the shape of a call.
mod shape {
    pub(super) const OBJECT: u8 = 1;
    pub(super) const WAIT_CPU: u8 = 1 << 1;
    pub(super) const BLOCKED: u8 = 1 << 2;
    /// The result is negative: the column holds its complement.
    pub(super) const NEGATIVE: u8 = 1 << 3;
}

/// Bits that decide the shape of an injection.
mod does {
    pub(super) const RESULT: u8 = 1;
    pub(super) const AFTER: u8 = 1 << 1;
    pub(super) const PART: u8 = 1 << 2;
    pub(super) const SIGNAL: u8 = 1 << 3;
    pub(super) const ENTER: u8 = 1 << 4;
    pub(super) const EXIT: u8 = 1 << 5;
}

/// Kinds of details, as the shape of a call names them.
mod tag {
    pub(super) const STR: u8 = 1;
    pub(super) const ADDR: u8 = 2;
    pub(super) const OBJECT: u8 = 3;
    pub(super) const VALUE: u8 = 4;
    pub(super) const NEW_FDS: u8 = 5;
    pub(super) const IOV: u8 = 6;
    pub(super) const TIME: u8 = 7;
    pub(super) const POLL: u8 = 8;
    pub(super) const EPOLL: u8 = 9;
    pub(super) const STAT: u8 = 10;
    pub(super) const SIG_ACTION: u8 = 11;
    pub(super) const ARGV: u8 = 12;
    pub(super) const BYTES: u8 = 13;
    pub(super) const CREATED: u8 = 14;
    /// In ns: of files of early writers.
    pub(super) const CPU_WAIT_NS: u8 = 15;
    /// In ticks.
    pub(super) const CPU_WAIT: u8 = 16;
    pub(super) const PASSED: u8 = 17;
    pub(super) const MESSAGES: u8 = 18;
    pub(super) const LOCAL: u8 = 19;
    pub(super) const UNREAD: u8 = 24;
    pub(super) const CUT: u8 = 25;
}

/// An argument index of 0 stands for none, too.
fn tag_and_arg(detail: &Detail) -> (u8, u8) {
    let tag = match detail {
        Detail::Str { .. } => tag::STR,
        Detail::Addr { .. } => tag::ADDR,
        Detail::Object { .. } => tag::OBJECT,
        Detail::Value { .. } => tag::VALUE,
        Detail::NewFds { .. } => tag::NEW_FDS,
        Detail::Iov { .. } => tag::IOV,
        Detail::Time { .. } => tag::TIME,
        Detail::Poll { .. } => tag::POLL,
        Detail::Epoll { .. } => tag::EPOLL,
        Detail::Stat { .. } => tag::STAT,
        Detail::SigAction { .. } => tag::SIG_ACTION,
        Detail::Argv { .. } => tag::ARGV,
        Detail::Bytes { .. } => tag::BYTES,
        Detail::Created => tag::CREATED,
        Detail::CpuWait { .. } => tag::CPU_WAIT,
        Detail::Passed { .. } => tag::PASSED,
        Detail::Messages { .. } => tag::MESSAGES,
        Detail::Local { .. } => tag::LOCAL,
        Detail::Unread { .. } => tag::UNREAD,
        Detail::Cut { .. } => tag::CUT,
    };
    (tag, detail.arg().unwrap_or(0))
}

/// Upper bounds of what the event adds to a chunk; `None` when it is more than any chunk may hold.
pub(crate) fn size(event: &Event) -> Option<EventSize> {
    let mut size = EventSize { bytes: 512, elements: 0, blobs: 0, columns: 12 };
    let mut add = |elements: usize, blob_bytes: usize| {
        size.elements += elements;
        size.blobs += usize::from(blob_bytes > 0);
        // An element has at most three values of ten bytes; a detail's directory entries and values take less
        // than 200.
        size.bytes += 200 + elements * 30 + blob_bytes;
        size.columns += 4;
        elements <= MAX_LIST && blob_bytes <= MAX_BLOB
    };
    let fits = match event {
        Event::Syscall(e) => {
            e.details.len() <= MAX_DETAILS
                && e.details.iter().all(|detail| match detail {
                    Detail::Addr { addr, .. } | Detail::Local { addr } => add(0, addr_len(addr)),
                    Detail::Passed { fds, .. } => add(fds.len(), 0),
                    // Four values each: one more than an element has.
                    Detail::Messages { entries, .. } => {
                        add(2 * entries.len(), 0)
                            && entries
                                .iter()
                                .filter_map(|m| m.addr.as_ref())
                                .all(|addr| add(0, addr_len(addr)))
                    }
                    Detail::Bytes { data, .. } => add(0, data.len() + 1),
                    Detail::Poll { entries, .. } => add(entries.len(), 0),
                    Detail::Epoll { entries, .. } => add(entries.len(), 0),
                    Detail::Argv { words, .. } => add(words.len(), 0),
                    _ => add(0, 0),
                })
        }
        Event::Process(Process { kind: ProcessKind::Exec { argv, .. }, .. }) => add(argv.len(), 0),
        Event::Aggregate(e) => add(e.histogram.len(), 0),
        Event::Connection(e) => add(0, addr_len(&e.local)) && add(0, addr_len(&e.peer)),
        Event::Socket(e) => [&e.local, &e.peer].into_iter().flatten().all(|addr| add(0, addr_len(addr))),
        Event::Dns(e) => add(0, addr_len(&e.server)),
        _ => true,
    };
    // What an empty chunk holds besides the event.
    (fits && size.bytes + 4096 <= crate::layout::MAX_DECODED).then_some(size)
}

fn addr_len(addr: &SockAddr) -> usize {
    match addr {
        SockAddr::Inet(_) => 32,
        SockAddr::Unix(path) => path.len() + 1,
        SockAddr::Other { data, .. } => data.len() + 3,
    }
}

/// Forms of an address in a byte string, by its first byte.
mod addr_form {
    pub(super) const OTHER: u8 = 0;
    pub(super) const UNIX: u8 = 1;
    pub(super) const V4: u8 = 4;
    pub(super) const V6: u8 = 6;
}

pub(crate) fn encode_addr(addr: &SockAddr, out: &mut Vec<u8>) {
    match addr {
        SockAddr::Inet(SocketAddr::V4(v4)) => {
            out.push(addr_form::V4);
            out.extend_from_slice(&v4.ip().octets());
            out.extend_from_slice(&v4.port().to_le_bytes());
        }
        SockAddr::Inet(SocketAddr::V6(v6)) => {
            out.push(addr_form::V6);
            out.extend_from_slice(&v6.ip().octets());
            out.extend_from_slice(&v6.port().to_le_bytes());
            out.extend_from_slice(&v6.flowinfo().to_le_bytes());
            out.extend_from_slice(&v6.scope_id().to_le_bytes());
        }
        SockAddr::Unix(path) => {
            out.push(addr_form::UNIX);
            out.extend_from_slice(path);
        }
        SockAddr::Other { family, data } => {
            out.push(addr_form::OTHER);
            out.extend_from_slice(&family.to_le_bytes());
            out.extend_from_slice(data);
        }
    }
}

pub(crate) fn decode_addr(bytes: &[u8]) -> Result<SockAddr, DecodeError> {
    const BAD: DecodeError = DecodeError::Malformed("an address of an unknown form or length");
    let (form, rest) = bytes.split_first().ok_or(BAD)?;
    match (*form, rest.len()) {
        (addr_form::V4, 6) => {
            let ip = Ipv4Addr::new(rest[0], rest[1], rest[2], rest[3]);
            Ok(SockAddr::Inet(SocketAddrV4::new(ip, crate::layout::u16_at(rest, 4)).into()))
        }
        (addr_form::V6, 26) => {
            let mut ip = [0; 16];
            ip.copy_from_slice(&rest[..16]);
            let (port, flow) = (crate::layout::u16_at(rest, 16), crate::layout::u32_at(rest, 18));
            let scope = crate::layout::u32_at(rest, 22);
            Ok(SockAddr::Inet(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into()))
        }
        (addr_form::UNIX, _) => Ok(SockAddr::Unix(rest.to_vec())),
        (addr_form::OTHER, 2..) => {
            Ok(SockAddr::Other { family: crate::layout::u16_at(rest, 0), data: rest[2..].to_vec() })
        }
        _ => Err(BAD),
    }
}

pub(crate) fn class_of(number: u64) -> Option<Class> {
    CLASSES.into_iter().find(|c| *c as u64 == number)
}

/// All classes.
pub(crate) const CLASSES: [Class; 15] = [
    Class::Syscall,
    Class::Process,
    Class::Connection,
    Class::Signal,
    Class::Resource,
    Class::Loss,
    Class::Marker,
    Class::Anchor,
    Class::Usage,
    Class::Socket,
    Class::Dns,
    Class::Block,
    Class::Uring,
    Class::Injection,
    Class::Aggregate,
];

fn block_op(number: u8) -> Option<BlockOp> {
    use BlockOp::{Discard, Flush, Other, Read, Write, WriteZeroes};
    [Read, Write, Flush, Discard, WriteZeroes, Other].into_iter().find(|op| *op as u8 == number)
}

fn cause_of(number: u64) -> Option<LossCause> {
    use LossCause::{AggregateFull, Malformed, MapFull, RingFull, Skipped, WriteFailed};
    [RingFull, MapFull, WriteFailed, Skipped, Malformed, AggregateFull]
        .into_iter()
        .find(|c| *c as u64 == number)
}

fn origin_of(number: u64) -> Option<Origin> {
    [Origin::Runtime, Origin::Outside].into_iter().find(|o| *o as u64 == number)
}

fn fidelity_of(number: u64) -> Option<FidelityLevel> {
    use FidelityLevel::{Aggregated, Full, NoArguments};
    [Full, NoArguments, Aggregated].into_iter().find(|l| *l as u64 == number)
}

fn tcp_state(number: u64) -> Result<TcpState, DecodeError> {
    use TcpState::{
        Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, NewSynRecv, SynRecv,
        SynSent, TimeWait,
    };
    [
        Established,
        SynSent,
        SynRecv,
        FinWait1,
        FinWait2,
        TimeWait,
        Close,
        CloseWait,
        LastAck,
        Listen,
        Closing,
        NewSynRecv,
    ]
    .into_iter()
    .find(|s| *s as u64 == number)
    .ok_or(DecodeError::Malformed("an unknown TCP state"))
}

/// All metrics.
pub(crate) const METRICS: [Metric; 49] = {
    use Metric as M;
    [
        M::CpuNs,
        M::CpuUserNs,
        M::CpuSystemNs,
        M::CpuThrottledNs,
        M::CpuThrottledPeriods,
        M::CpuPeriods,
        M::CpuQuotaNs,
        M::CpuPeriodNs,
        M::MemoryBytes,
        M::MemoryLimitBytes,
        M::MemoryAnonBytes,
        M::MemoryFileBytes,
        M::SwapBytes,
        M::MemoryMaxEvents,
        M::OomKills,
        M::MemoryLowEvents,
        M::MemoryHighEvents,
        M::MemoryOomEvents,
        M::IoReadBytes,
        M::IoWriteBytes,
        M::IoReadOps,
        M::IoWriteOps,
        M::PsiCpuSomeUs,
        M::PsiMemorySomeUs,
        M::PsiMemoryFullUs,
        M::PsiIoSomeUs,
        M::PsiIoFullUs,
        M::PsiCpuFullUs,
        M::Pids,
        M::PidsLimit,
        M::OpenFds,
        M::TcpEstablished,
        M::TcpTimeWait,
        M::TcpListen,
        M::TcpOther,
        M::TcpCloseWait,
        M::AcceptQueue,
        M::ListenOverflows,
        M::NetReceivedBytes,
        M::NetSentBytes,
        M::NetDropped,
        M::TcpRetransmits,
        M::ListenDrops,
        M::UdpBufferErrors,
        M::MinorFaults,
        M::MajorFaults,
        M::RssBytes,
        M::BesideCpuNs,
        M::BesideCpuWaitNs,
    ]
};

fn metric_of(number: u64) -> Option<Metric> {
    METRICS.into_iter().find(|m| *m as u64 == number)
}
