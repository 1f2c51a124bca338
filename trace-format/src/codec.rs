//! What the columns of each event class mean: events to rows and back.
//!
//! One `encode` and one `decode` per class, side by side, so that they can be compared line by line. Field numbers
//! are part of the format (`FORMAT.md`); they are never reused.

use crate::columns::{EventSize, Relation, RowHead, TableBuilder, TableReader};
use crate::varint::{self, unzigzag, zigzag};
use crate::{
    Abi, Class, ClockAnchor, Connection, ConnectionKind, DecodeError, Detail, EpollEntry, Event, Loss,
    LossCause, Marker, Metric, ObjectId, PollEntry, Process, ProcessKind, Resource, Signal, SockAddr,
    SockCookie, StrId, Syscall, SyscallFlags, Sysno, TaskId, TcpState, Tid,
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
}

fn tag_and_arg(detail: &Detail) -> (u8, u8) {
    match detail {
        Detail::Str { arg, .. } => (tag::STR, *arg),
        Detail::Addr { arg, .. } => (tag::ADDR, *arg),
        Detail::Object { arg, .. } => (tag::OBJECT, *arg),
        Detail::Value { arg, .. } => (tag::VALUE, *arg),
        Detail::NewFds { arg, .. } => (tag::NEW_FDS, *arg),
        Detail::Iov { arg, .. } => (tag::IOV, *arg),
        Detail::Time { arg, .. } => (tag::TIME, *arg),
        Detail::Poll { arg, .. } => (tag::POLL, *arg),
        Detail::Epoll { arg, .. } => (tag::EPOLL, *arg),
        Detail::Stat { arg, .. } => (tag::STAT, *arg),
        Detail::SigAction { arg, .. } => (tag::SIG_ACTION, *arg),
        Detail::Argv { arg, .. } => (tag::ARGV, *arg),
        Detail::Bytes { arg, .. } => (tag::BYTES, *arg),
        Detail::Created => (tag::CREATED, 0),
    }
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
                    Detail::Addr { addr, .. } => add(0, addr_len(addr)),
                    Detail::Bytes { data, .. } => add(0, data.len() + 1),
                    Detail::Poll { entries, .. } => add(entries.len(), 0),
                    Detail::Epoll { entries, .. } => add(entries.len(), 0),
                    Detail::Argv { words, .. } => add(words.len(), 0),
                    _ => add(0, 0),
                })
        }
        Event::Process(Process { kind: ProcessKind::Exec { argv, .. }, .. }) => add(argv.len(), 0),
        Event::Connection(e) => add(0, addr_len(&e.local)) && add(0, addr_len(&e.peer)),
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

fn from_u32<T>(value: u64, make: impl FnOnce(u32) -> T) -> Result<T, DecodeError> {
    u32::try_from(value).map(make).map_err(|_| DecodeError::Malformed("a 32-bit field that is larger"))
}
fn from_u16(value: u64) -> Result<u16, DecodeError> {
    u16::try_from(value).map_err(|_| DecodeError::Malformed("a 16-bit field that is larger"))
}
fn from_u8(value: u64) -> Result<u8, DecodeError> {
    u8::try_from(value).map_err(|_| DecodeError::Malformed("an 8-bit field that is larger"))
}
fn from_bool(value: u64) -> Result<bool, DecodeError> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Malformed("a truth value that is neither 0 nor 1")),
    }
}
fn i32_to(value: i32) -> u64 {
    zigzag(value.into())
}
fn from_i32(value: u64) -> Result<i32, DecodeError> {
    i32::try_from(unzigzag(value)).map_err(|_| DecodeError::Malformed("a 32-bit field that is larger"))
}
/// An id that may be missing: 0, or the id + 1.
fn option_to(id: Option<u32>) -> u64 {
    id.map_or(0, |id| u64::from(id) + 1)
}
fn from_option<T>(value: u64, make: impl FnOnce(u32) -> T) -> Result<Option<T>, DecodeError> {
    value.checked_sub(1).map(|id| from_u32(id, make)).transpose()
}

/// Encodes events into tables, one event at a time.
pub(crate) struct Encoder {
    tick_ns: u64,
    key: Vec<u8>,
    scratch: Vec<u8>,
}

/// Times of an event, ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Encoder {
    pub(crate) fn new(tick_ns: u32) -> Self {
        Self { tick_ns: tick_ns.into(), key: Vec::new(), scratch: Vec::new() }
    }

    fn ticks(&self, ns: u64) -> u64 {
        ns / self.tick_ns
    }

    /// Adds the event to the table of its class. The caller made sure that it fits ([`size`]).
    pub(crate) fn add(&mut self, event: &Event, table: &mut TableBuilder) -> Times {
        match event {
            Event::Syscall(e) => self.syscall(e, table),
            Event::Process(e) => self.process(e, table),
            Event::Connection(e) => self.connection(e, table),
            Event::Signal(e) => self.signal(e, table),
            Event::Resource(e) => {
                let t = self.ticks(e.t_ns);
                self.key.clear();
                varint::put(&mut self.key, e.subject.into());
                varint::put(&mut self.key, e.metric as u64);
                let mut row = table.row(&self.key, 0, t, 0);
                row.put(field::A, e.value);
                Times { start: t, end: t }
            }
            Event::Loss(e) => {
                let (start, end) = (self.ticks(e.from_ns), self.ticks(e.t_ns));
                let mut row = table.row(&[], 0, end, 0);
                row.put(field::A, end.wrapping_sub(start));
                row.put(field::B, e.cpu.into());
                row.put(field::C, e.class as u64);
                row.put(field::D, e.cause as u64);
                row.put(field::E, e.count);
                Times { start, end }
            }
            Event::Marker(e) => {
                let t = self.ticks(e.t_ns);
                table.row(&[], 0, t, 0).put(field::A, e.text.0.into());
                Times { start: t, end: t }
            }
            Event::Anchor(e) => {
                let t = self.ticks(e.t_ns);
                let mut row = table.row(&[], 0, t, 0);
                row.put(field::A, e.monotonic_ns);
                row.put(field::B, e.realtime_ns);
                Times { start: t, end: t }
            }
        }
    }

    fn syscall(&mut self, e: &Syscall, table: &mut TableBuilder) -> Times {
        let start = self.ticks(e.t_ns);
        let duration = self.ticks(e.duration_ns);
        let end = start.wrapping_add(duration);
        let (wait_cpu, blocked) = (self.ticks(e.wait_cpu_ns), self.ticks(e.blocked_ns));
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let bits = bit(e.object.is_some(), shape::OBJECT)
            | bit(wait_cpu > 0, shape::WAIT_CPU)
            | bit(blocked > 0, shape::BLOCKED)
            | bit(e.ret < 0, shape::NEGATIVE);

        self.key.clear();
        self.key.push(e.sysno.abi as u8);
        varint::put(&mut self.key, e.sysno.nr.into());
        varint::put(&mut self.key, e.flags.0.into());
        self.key.push(e.args_mask);
        self.key.push(bits);
        for detail in &e.details {
            let (tag, arg) = tag_and_arg(detail);
            self.key.extend_from_slice(&[tag, arg]);
        }

        let mut elements = 0;
        let mut blobs = [0u64; MAX_DETAILS];
        for (detail, blob) in e.details.iter().zip(&mut blobs) {
            match detail {
                Detail::Addr { addr, .. } => {
                    self.scratch.clear();
                    encode_addr(addr, &mut self.scratch);
                    *blob = table.blob(&self.scratch);
                }
                Detail::Bytes { data, .. } => *blob = table.blob(data),
                Detail::Poll { entries, .. } => elements += entries.len(),
                Detail::Epoll { entries, .. } => elements += entries.len(),
                Detail::Argv { words, .. } => elements += words.len(),
                _ => {}
            }
        }

        let mut row = table.row(&self.key, e.task.0.into(), end, elements);
        row.put(field::DURATION, duration);
        for (i, arg) in e.args.iter().enumerate() {
            if e.args_mask & 1 << i != 0 {
                row.put(field::ARGS[i], *arg);
            }
        }
        row.put(field::RET, if e.ret < 0 { !e.ret } else { e.ret } as u64);
        if let Some(object) = e.object {
            row.put(field::OBJECT, object.0.into());
        }
        if wait_cpu > 0 {
            row.put(field::WAIT_CPU, wait_cpu);
        }
        if blocked > 0 {
            row.put(field::BLOCKED, blocked);
        }
        for ((detail, blob), slot) in e.details.iter().zip(blobs).zip(0..) {
            let f = field::DETAILS + slot * field::PER_DETAIL;
            match detail {
                Detail::Str { value, .. } => row.put(f, value.0.into()),
                Detail::Addr { .. } | Detail::Bytes { .. } => row.put(f, blob),
                Detail::Object { object, .. } => row.put(f, object.0.into()),
                Detail::Value { value, .. } => row.put(f, *value),
                Detail::NewFds { fds, objects, .. } => {
                    row.put(f, i32_to(fds[0]));
                    row.put(f + 1, i32_to(fds[1]));
                    row.put(f + 2, option_to(objects[0].map(|o| o.0)));
                    row.put(f + 3, option_to(objects[1].map(|o| o.0)));
                }
                Detail::Iov { bytes, count, .. } => {
                    row.put(f, *bytes);
                    row.put(f + 1, (*count).into());
                }
                Detail::Time { ns, .. } => row.put(f, *ns),
                Detail::Poll { entries, .. } => {
                    row.put(f, entries.len() as u64);
                    for entry in entries {
                        row.put(f + 1, i32_to(entry.fd));
                        row.put(f + 2, entry.events.into());
                        row.put(f + 3, entry.revents.into());
                    }
                }
                Detail::Epoll { entries, .. } => {
                    row.put(f, entries.len() as u64);
                    for entry in entries {
                        row.put(f + 1, entry.data);
                        row.put(f + 2, entry.events.into());
                    }
                }
                Detail::Stat { mode, size, ino, .. } => {
                    row.put(f, (*mode).into());
                    row.put(f + 1, *size);
                    row.put(f + 2, *ino);
                }
                Detail::SigAction { handler, flags, mask, .. } => {
                    row.put(f, (*handler).into());
                    row.put(f + 1, *flags);
                    row.put(f + 2, *mask);
                }
                Detail::Argv { words, count, .. } => {
                    row.put(f, words.len() as u64);
                    for word in words {
                        row.put(f + 1, word.0.into());
                    }
                    row.put(f + 2, (*count).into());
                }
                Detail::Created => {}
            }
        }
        // The column wraps, so that any pair of times is kept; what is said about the chunk saturates.
        Times { start, end: start.saturating_add(duration) }
    }

    fn process(&mut self, e: &Process, table: &mut TableBuilder) -> Times {
        let t = self.ticks(e.t_ns);
        let task = e.task.0.into();
        match &e.kind {
            ProcessKind::Fork { child } => table.row(&[1], task, t, 0).put(field::A, child.0.into()),
            ProcessKind::Exec { path, old_tid, argv, argc } => {
                let mut row = table.row(&[2], task, t, argv.len());
                row.put(field::A, path.0.into());
                row.put(field::B, old_tid.0.into());
                row.put(field::C, argv.len() as u64);
                for word in argv {
                    row.put(field::D, word.0.into());
                }
                row.put(field::E, (*argc).into());
            }
            ProcessKind::Exit { status, group_dead } => {
                let mut row = table.row(&[3], task, t, 0);
                row.put(field::A, (*status).into());
                row.put(field::B, (*group_dead).into());
            }
        }
        Times { start: t, end: t }
    }

    fn connection(&mut self, e: &Connection, table: &mut TableBuilder) -> Times {
        let t = self.ticks(e.t_ns);
        let mut blob = |addr| {
            self.scratch.clear();
            encode_addr(addr, &mut self.scratch);
            table.blob(&self.scratch)
        };
        let (local, peer) = (blob(&e.local), blob(&e.peer));
        let key = match e.kind {
            ConnectionKind::State { .. } => 1,
            ConnectionKind::Retransmit => 2,
            ConnectionKind::ResetSent => 3,
            ConnectionKind::ResetReceived => 4,
            ConnectionKind::Closed { .. } => 5,
        };
        let mut row = table.row(&[key], option_to(e.task.map(|t| t.0)), t, 0);
        row.put(field::COOKIE, e.cookie.0);
        row.put(field::B, local);
        row.put(field::C, peer);
        match &e.kind {
            ConnectionKind::State { old, new, error } => {
                row.put(field::D, *old as u64);
                row.put(field::E, *new as u64);
                row.put(field::F, (*error).into());
            }
            ConnectionKind::Retransmit | ConnectionKind::ResetSent | ConnectionKind::ResetReceived => {}
            ConnectionKind::Closed { bytes_sent, bytes_received, srtt_us, retransmits } => {
                row.put(field::D, *bytes_sent);
                row.put(field::E, *bytes_received);
                row.put(field::F, (*srtt_us).into());
                row.put(field::G, (*retransmits).into());
            }
        }
        Times { start: t, end: t }
    }

    fn signal(&mut self, e: &Signal, table: &mut TableBuilder) -> Times {
        let t = self.ticks(e.t_ns);
        let mut row = table.row(&[u8::from(e.delivered)], e.task.0.into(), t, 0);
        row.put(field::A, e.signo.into());
        row.put(field::B, i32_to(e.code));
        row.put(field::C, option_to(e.sender.map(|s| s.0)));
        Times { start: t, end: t }
    }
}

/// A shape of calls, parsed.
struct SyscallShape {
    sysno: Sysno,
    flags: SyscallFlags,
    args_mask: u8,
    bits: u8,
    details: Vec<(u8, u8)>,
}

/// Decodes the events of one chunk, row by row.
pub(crate) struct Decoder {
    class: Class,
    tick_ns: u64,
    table: TableReader,
    syscalls: Vec<SyscallShape>,
}

impl Decoder {
    /// Takes a decoded payload.
    pub(crate) fn new(
        class: Class,
        tick_ns: u32,
        payload: Vec<u8>,
        records: u32,
    ) -> Result<Self, DecodeError> {
        let table = TableReader::new(payload, records)?;
        let mut syscalls = Vec::new();
        if class == Class::Syscall {
            for shape in 0..table.shape_count() {
                syscalls.push(parse_syscall_shape(table.shape_key(shape))?);
            }
        }
        Ok(Self { class, tick_ns: tick_ns.into(), table, syscalls })
    }

    fn ns(&self, ticks: u64) -> u64 {
        ticks.saturating_mul(self.tick_ns)
    }

    /// The next event. `None`: of a kind that this version does not know.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, DecodeError> {
        let row = self.table.next_row()?;
        let event = match self.class {
            Class::Syscall => Some(Event::Syscall(self.syscall(&row)?)),
            Class::Process => self.process(&row)?.map(Event::Process),
            Class::Connection => self.connection(&row)?.map(Event::Connection),
            Class::Signal => Some(Event::Signal(self.signal(&row)?)),
            Class::Resource => self.resource(&row)?.map(Event::Resource),
            Class::Loss => self.loss(&row)?.map(Event::Loss),
            Class::Marker => {
                let text = from_u32(self.table.pull(&row, field::A)?, StrId)?;
                Some(Event::Marker(Marker { t_ns: self.ns(row.end), text }))
            }
            Class::Anchor => {
                let monotonic_ns = self.table.pull(&row, field::A)?;
                let realtime_ns = self.table.pull(&row, field::B)?;
                Some(Event::Anchor(ClockAnchor { t_ns: self.ns(row.end), monotonic_ns, realtime_ns }))
            }
        };
        Ok(event)
    }

    /// To be called behind the last event.
    pub(crate) fn check_end(&self) -> Result<(), DecodeError> {
        self.table.check_end()
    }

    fn addr(&self, blob: u64) -> Result<SockAddr, DecodeError> {
        decode_addr(self.table.blob(blob)?)
    }

    fn syscall(&mut self, row: &RowHead) -> Result<Syscall, DecodeError> {
        let shape = &self.syscalls[row.shape];
        let table = &mut self.table;
        let duration = table.pull(row, field::DURATION)?;
        let mut args = [0; 6];
        for (i, arg) in args.iter_mut().enumerate() {
            if shape.args_mask & 1 << i != 0 {
                *arg = table.pull(row, field::ARGS[i])?;
            }
        }
        let ret = table.pull(row, field::RET)? as i64;
        if ret < 0 {
            return Err(DecodeError::Malformed("a result out of range"));
        }
        let ret = if shape.bits & shape::NEGATIVE == 0 { ret } else { !ret };
        let mut pull_if = |bit, field| if shape.bits & bit == 0 { Ok(0) } else { table.pull(row, field) };
        let object = from_u32(pull_if(shape::OBJECT, field::OBJECT)?, ObjectId)?;
        let wait_cpu = pull_if(shape::WAIT_CPU, field::WAIT_CPU)?;
        let blocked = pull_if(shape::BLOCKED, field::BLOCKED)?;
        let mut details = Vec::with_capacity(shape.details.len());
        for ((tag, arg), slot) in shape.details.iter().zip(0..) {
            let first = field::DETAILS + slot * field::PER_DETAIL;
            // A kind of detail that this version does not know is left out: its columns are stepped over.
            details.extend(decode_detail(table, row, *tag, *arg, first)?);
        }
        Ok(Syscall {
            t_ns: row.end.wrapping_sub(duration).saturating_mul(self.tick_ns),
            duration_ns: duration.saturating_mul(self.tick_ns),
            task: from_u32(row.task, TaskId)?,
            sysno: shape.sysno,
            ret,
            flags: shape.flags,
            args,
            args_mask: shape.args_mask,
            object: (shape.bits & shape::OBJECT != 0).then_some(object),
            details,
            wait_cpu_ns: wait_cpu.saturating_mul(self.tick_ns),
            blocked_ns: blocked.saturating_mul(self.tick_ns),
        })
    }

    fn process(&mut self, row: &RowHead) -> Result<Option<Process>, DecodeError> {
        let key = self.table.shape_key(row.shape).first().copied();
        let t_ns = self.ns(row.end);
        let table = &mut self.table;
        let kind = match key {
            Some(1) => ProcessKind::Fork { child: from_u32(table.pull(row, field::A)?, TaskId)? },
            Some(2) => {
                let path = from_u32(table.pull(row, field::A)?, StrId)?;
                let old_tid = from_u32(table.pull(row, field::B)?, Tid)?;
                let words = table.pull_len(row, field::C)?;
                let mut argv = Vec::with_capacity(words.min(MAX_LIST));
                for _ in 0..words {
                    argv.push(from_u32(table.pull(row, field::D)?, StrId)?);
                }
                let argc = from_u32(table.pull(row, field::E)?, |n| n)?;
                ProcessKind::Exec { path, old_tid, argv, argc }
            }
            Some(3) => ProcessKind::Exit {
                status: from_u32(table.pull(row, field::A)?, |n| n)?,
                group_dead: from_bool(table.pull(row, field::B)?)?,
            },
            _ => return Ok(None),
        };
        Ok(Some(Process { t_ns, task: from_u32(row.task, TaskId)?, kind }))
    }

    fn connection(&mut self, row: &RowHead) -> Result<Option<Connection>, DecodeError> {
        let key = self.table.shape_key(row.shape).first().copied();
        let cookie = SockCookie(self.table.pull(row, field::COOKIE)?);
        let local = self.table.pull(row, field::B)?;
        let peer = self.table.pull(row, field::C)?;
        let (local, peer) = (self.addr(local)?, self.addr(peer)?);
        let t_ns = self.ns(row.end);
        let table = &mut self.table;
        let kind = match key {
            Some(1) => ConnectionKind::State {
                old: tcp_state(table.pull(row, field::D)?)?,
                new: tcp_state(table.pull(row, field::E)?)?,
                error: from_u16(table.pull(row, field::F)?)?,
            },
            Some(2) => ConnectionKind::Retransmit,
            Some(3) => ConnectionKind::ResetSent,
            Some(4) => ConnectionKind::ResetReceived,
            Some(5) => ConnectionKind::Closed {
                bytes_sent: table.pull(row, field::D)?,
                bytes_received: table.pull(row, field::E)?,
                srtt_us: from_u32(table.pull(row, field::F)?, |n| n)?,
                retransmits: from_u32(table.pull(row, field::G)?, |n| n)?,
            },
            _ => return Ok(None),
        };
        Ok(Some(Connection { t_ns, cookie, task: from_option(row.task, TaskId)?, local, peer, kind }))
    }

    fn signal(&mut self, row: &RowHead) -> Result<Signal, DecodeError> {
        let delivered = match self.table.shape_key(row.shape) {
            [delivered] => from_bool((*delivered).into())?,
            _ => return Err(DecodeError::Malformed("a signal of an unknown shape")),
        };
        Ok(Signal {
            t_ns: self.ns(row.end),
            task: from_u32(row.task, TaskId)?,
            signo: from_u32(self.table.pull(row, field::A)?, |n| n)?,
            code: from_i32(self.table.pull(row, field::B)?)?,
            sender: from_option(self.table.pull(row, field::C)?, TaskId)?,
            delivered,
        })
    }

    fn resource(&mut self, row: &RowHead) -> Result<Option<Resource>, DecodeError> {
        let value = self.table.pull(row, field::A)?;
        let (key, mut at) = (self.table.shape_key(row.shape), 0);
        let subject = from_u32(varint::get(key, &mut at)?, |n| n)?;
        let metric = varint::get(key, &mut at)?;
        let t_ns = self.ns(row.end);
        Ok(metric_of(metric).map(|metric| Resource { t_ns, subject, metric, value }))
    }

    fn loss(&mut self, row: &RowHead) -> Result<Option<Loss>, DecodeError> {
        let length = self.table.pull(row, field::A)?;
        let cpu = from_u32(self.table.pull(row, field::B)?, |n| n)?;
        let class = self.table.pull(row, field::C)?;
        let cause = self.table.pull(row, field::D)?;
        let count = self.table.pull(row, field::E)?;
        let (t_ns, from_ns) = (self.ns(row.end), self.ns(row.end.wrapping_sub(length)));
        Ok(class_of(class).zip(cause_of(cause)).map(|(class, cause)| Loss {
            t_ns,
            from_ns,
            cpu,
            class,
            cause,
            count,
        }))
    }
}

fn parse_syscall_shape(key: &[u8]) -> Result<SyscallShape, DecodeError> {
    let mut at = 1;
    let abi = match key.first() {
        Some(0) => Abi::X86_64,
        Some(1) => Abi::I386,
        Some(2) => Abi::X32,
        Some(3) => Abi::Aarch64,
        Some(4) => Abi::Arm,
        _ => return Err(DecodeError::Malformed("a call of an unknown table")),
    };
    let nr = from_u32(varint::get(key, &mut at)?, |n| n)?;
    let flags = SyscallFlags(from_u16(varint::get(key, &mut at)?)?);
    let rest = key.get(at..).unwrap_or_default();
    let [args_mask, bits, details @ ..] = rest else { return Err(DecodeError::Short) };
    let (pairs, rest) = details.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > MAX_DETAILS {
        return Err(DecodeError::Malformed("a call's shape of a wrong length"));
    }
    let details = pairs.iter().map(|[tag, arg]| (*tag, *arg)).collect();
    Ok(SyscallShape { sysno: Sysno { abi, nr }, flags, args_mask: *args_mask, bits: *bits, details })
}

fn decode_detail(
    table: &mut TableReader,
    row: &RowHead,
    tag: u8,
    arg: u8,
    f: u32,
) -> Result<Option<Detail>, DecodeError> {
    Ok(Some(match tag {
        tag::STR => Detail::Str { arg, value: from_u32(table.pull(row, f)?, StrId)? },
        tag::ADDR => {
            let blob = table.pull(row, f)?;
            Detail::Addr { arg, addr: decode_addr(table.blob(blob)?)? }
        }
        tag::OBJECT => Detail::Object { arg, object: from_u32(table.pull(row, f)?, ObjectId)? },
        tag::VALUE => Detail::Value { arg, value: table.pull(row, f)? },
        tag::NEW_FDS => Detail::NewFds {
            arg,
            fds: [from_i32(table.pull(row, f)?)?, from_i32(table.pull(row, f + 1)?)?],
            objects: [
                from_option(table.pull(row, f + 2)?, ObjectId)?,
                from_option(table.pull(row, f + 3)?, ObjectId)?,
            ],
        },
        tag::IOV => {
            Detail::Iov { arg, bytes: table.pull(row, f)?, count: from_u32(table.pull(row, f + 1)?, |n| n)? }
        }
        tag::TIME => Detail::Time { arg, ns: table.pull(row, f)? },
        tag::POLL => {
            let len = table.pull_len(row, f)?;
            let mut entries = Vec::with_capacity(len.min(MAX_LIST));
            for _ in 0..len {
                entries.push(PollEntry {
                    fd: from_i32(table.pull(row, f + 1)?)?,
                    events: from_u16(table.pull(row, f + 2)?)?,
                    revents: from_u16(table.pull(row, f + 3)?)?,
                });
            }
            Detail::Poll { arg, entries }
        }
        tag::EPOLL => {
            let len = table.pull_len(row, f)?;
            let mut entries = Vec::with_capacity(len.min(MAX_LIST));
            for _ in 0..len {
                let data = table.pull(row, f + 1)?;
                entries.push(EpollEntry { data, events: from_u32(table.pull(row, f + 2)?, |n| n)? });
            }
            Detail::Epoll { arg, entries }
        }
        tag::STAT => Detail::Stat {
            arg,
            mode: from_u32(table.pull(row, f)?, |n| n)?,
            size: table.pull(row, f + 1)?,
            ino: table.pull(row, f + 2)?,
        },
        tag::SIG_ACTION => Detail::SigAction {
            arg,
            handler: from_u8(table.pull(row, f)?)?,
            flags: table.pull(row, f + 1)?,
            mask: table.pull(row, f + 2)?,
        },
        tag::ARGV => {
            let len = table.pull_len(row, f)?;
            let mut words = Vec::with_capacity(len.min(MAX_LIST));
            for _ in 0..len {
                words.push(from_u32(table.pull(row, f + 1)?, StrId)?);
            }
            Detail::Argv { arg, words, count: from_u32(table.pull(row, f + 2)?, |n| n)? }
        }
        tag::BYTES => {
            let blob = table.pull(row, f)?;
            Detail::Bytes { arg, data: table.blob(blob)?.to_vec() }
        }
        tag::CREATED => Detail::Created,
        _ => return Ok(None),
    }))
}

pub(crate) fn class_of(number: u64) -> Option<Class> {
    CLASSES.into_iter().find(|c| *c as u64 == number)
}

/// All classes.
pub(crate) const CLASSES: [Class; 8] = [
    Class::Syscall,
    Class::Process,
    Class::Connection,
    Class::Signal,
    Class::Resource,
    Class::Loss,
    Class::Marker,
    Class::Anchor,
];

fn cause_of(number: u64) -> Option<LossCause> {
    use LossCause::{Malformed, MapFull, RingFull, Skipped, WriteFailed};
    [RingFull, MapFull, WriteFailed, Skipped, Malformed].into_iter().find(|c| *c as u64 == number)
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
pub(crate) const METRICS: [Metric; 34] = {
    use Metric as M;
    [
        M::CpuNs,
        M::CpuUserNs,
        M::CpuSystemNs,
        M::CpuThrottledNs,
        M::CpuThrottledPeriods,
        M::MemoryBytes,
        M::MemoryLimitBytes,
        M::MemoryAnonBytes,
        M::MemoryFileBytes,
        M::SwapBytes,
        M::MemoryMaxEvents,
        M::OomKills,
        M::IoReadBytes,
        M::IoWriteBytes,
        M::IoReadOps,
        M::IoWriteOps,
        M::PsiCpuSomeUs,
        M::PsiMemorySomeUs,
        M::PsiMemoryFullUs,
        M::PsiIoSomeUs,
        M::PsiIoFullUs,
        M::Pids,
        M::PidsLimit,
        M::OpenFds,
        M::TcpEstablished,
        M::TcpTimeWait,
        M::TcpListen,
        M::TcpOther,
        M::NetReceivedBytes,
        M::NetSentBytes,
        M::NetDropped,
        M::MinorFaults,
        M::MajorFaults,
        M::RssBytes,
    ]
};

fn metric_of(number: u64) -> Option<Metric> {
    METRICS.into_iter().find(|m| *m as u64 == number)
}

/// Ids of the dictionaries that an event refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ref {
    Str(StrId),
    Task(TaskId),
    Object(ObjectId),
}

/// Whether `known` holds for all ids of the event.
pub(crate) fn all_refs(event: &Event, mut known: impl FnMut(Ref) -> bool) -> bool {
    match event {
        Event::Syscall(e) => {
            known(Ref::Task(e.task))
                && e.object.is_none_or(|o| known(Ref::Object(o)))
                && e.details.iter().all(|detail| match detail {
                    Detail::Str { value, .. } => known(Ref::Str(*value)),
                    Detail::Object { object, .. } => known(Ref::Object(*object)),
                    Detail::NewFds { objects, .. } => {
                        objects.iter().flatten().all(|o| known(Ref::Object(*o)))
                    }
                    Detail::Argv { words, .. } => words.iter().all(|w| known(Ref::Str(*w))),
                    _ => true,
                })
        }
        Event::Process(e) => {
            known(Ref::Task(e.task))
                && match &e.kind {
                    ProcessKind::Fork { child } => known(Ref::Task(*child)),
                    ProcessKind::Exec { path, argv, .. } => {
                        known(Ref::Str(*path)) && argv.iter().all(|w| known(Ref::Str(*w)))
                    }
                    ProcessKind::Exit { .. } => true,
                }
        }
        Event::Connection(e) => e.task.is_none_or(|t| known(Ref::Task(t))),
        Event::Signal(e) => known(Ref::Task(e.task)) && e.sender.is_none_or(|t| known(Ref::Task(t))),
        Event::Marker(e) => known(Ref::Str(e.text)),
        Event::Resource(_) | Event::Loss(_) | Event::Anchor(_) => true,
    }
}

/// Replaces all ids of the event.
pub(crate) fn map_refs(event: &mut Event, map: &mut dyn FnMut(Ref) -> Ref) {
    fn string(id: &mut StrId, map: &mut dyn FnMut(Ref) -> Ref) {
        if let Ref::Str(new) = map(Ref::Str(*id)) {
            *id = new;
        }
    }
    fn task(id: &mut TaskId, map: &mut dyn FnMut(Ref) -> Ref) {
        if let Ref::Task(new) = map(Ref::Task(*id)) {
            *id = new;
        }
    }
    fn object(id: &mut ObjectId, map: &mut dyn FnMut(Ref) -> Ref) {
        if let Ref::Object(new) = map(Ref::Object(*id)) {
            *id = new;
        }
    }
    match event {
        Event::Syscall(e) => {
            task(&mut e.task, map);
            e.object.iter_mut().for_each(|o| object(o, map));
            for detail in &mut e.details {
                match detail {
                    Detail::Str { value, .. } => string(value, map),
                    Detail::Object { object: o, .. } => object(o, map),
                    Detail::NewFds { objects, .. } => {
                        objects.iter_mut().flatten().for_each(|o| object(o, map));
                    }
                    Detail::Argv { words, .. } => words.iter_mut().for_each(|w| string(w, map)),
                    _ => {}
                }
            }
        }
        Event::Process(e) => {
            task(&mut e.task, map);
            match &mut e.kind {
                ProcessKind::Fork { child } => task(child, map),
                ProcessKind::Exec { path, argv, .. } => {
                    string(path, map);
                    for word in argv {
                        string(word, map);
                    }
                }
                ProcessKind::Exit { .. } => {}
            }
        }
        Event::Connection(e) => e.task.iter_mut().for_each(|t| task(t, map)),
        Event::Signal(e) => {
            task(&mut e.task, map);
            e.sender.iter_mut().for_each(|t| task(t, map));
        }
        Event::Marker(e) => string(&mut e.text, map),
        Event::Resource(_) | Event::Loss(_) | Event::Anchor(_) => {}
    }
}
