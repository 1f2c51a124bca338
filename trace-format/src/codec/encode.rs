//! Events to rows.

use super::{does, encode_addr, field, shape, tag_and_arg};
use crate::columns::TableBuilder;
use crate::varint::{self, zigzag};
use crate::{
    Aggregate, Block, Connection, ConnectionKind, Detail, Dns, Event, Fault, Injection, Process, ProcessKind,
    Signal, SockAddr, Socket, Syscall, Uring, Usage,
};

fn i32_to(value: i32) -> u64 {
    zigzag(value.into())
}
/// An id that may be missing: 0, or the id + 1.
fn option_to(id: Option<u32>) -> u64 {
    id.map_or(0, |id| u64::from(id) + 1)
}

/// Encodes events into tables, one event at a time.
pub(crate) struct Encoder {
    tick_ns: u64,
    key: Vec<u8>,
    scratch: Vec<u8>,
    /// Of each detail of a call, its byte string.
    blobs: Vec<u64>,
    /// Of each message of a call, the byte string of its address + 1, or 0.
    message_blobs: Vec<u64>,
}

/// Times of an event, ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Encoder {
    pub(crate) fn new(tick_ns: u32) -> Self {
        Self {
            tick_ns: tick_ns.into(),
            key: Vec::new(),
            scratch: Vec::new(),
            blobs: Vec::new(),
            message_blobs: Vec::new(),
        }
    }

    fn ticks(&self, ns: u64) -> u64 {
        ns / self.tick_ns
    }

    /// Adds the event to the table of its class. The caller made sure that it fits ([`super::size`]).
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
            Event::Usage(e) => self.usage(e, table),
            Event::Socket(e) => self.socket(e, table),
            Event::Dns(e) => self.dns(e, table),
            Event::Block(e) => self.block(e, table),
            Event::Uring(e) => self.uring(e, table),
            Event::Injection(e) => self.injection(e, table),
            Event::Aggregate(e) => self.aggregate(e, table),
            Event::Fidelity(e) => {
                let t = self.ticks(e.t_ns);
                let mut row = table.row(&[2], 0, t, 0);
                row.put(field::A, e.cpu.into());
                row.put(field::B, e.from as u64);
                row.put(field::C, e.to as u64);
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
        self.blobs.clear();
        self.message_blobs.clear();
        for detail in &e.details {
            let mut blob = 0;
            match detail {
                Detail::Addr { addr, .. } | Detail::Local { addr } => {
                    self.scratch.clear();
                    encode_addr(addr, &mut self.scratch);
                    blob = table.blob(&self.scratch);
                }
                Detail::Bytes { data, .. } => blob = table.blob(data),
                Detail::Poll { entries, .. } => elements += entries.len(),
                Detail::Epoll { entries, .. } => elements += entries.len(),
                Detail::Argv { words, .. } => elements += words.len(),
                Detail::Passed { fds, .. } => elements += fds.len(),
                Detail::Messages { entries, .. } => {
                    elements += entries.len();
                    for message in entries {
                        let blob = self.addr(message.addr.as_ref(), table);
                        self.message_blobs.push(blob);
                    }
                }
                _ => {}
            }
            self.blobs.push(blob);
        }

        let computing = start.wrapping_sub(wait_cpu).wrapping_sub(blocked);
        let times = (computing, end);
        let mut row = table.row_in_chain(&self.key, e.task.0.into(), times, elements, field::GAP);
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
        let mut message_blobs = self.message_blobs.iter();
        for ((detail, blob), slot) in e.details.iter().zip(&self.blobs).zip(0..) {
            let f = field::DETAILS + slot * field::PER_DETAIL;
            match detail {
                Detail::Str { value, .. } => row.put(f, value.0.into()),
                Detail::Addr { .. } | Detail::Local { .. } | Detail::Bytes { .. } => row.put(f, *blob),
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
                Detail::CpuWait { ns } => row.put(f, ns / self.tick_ns),
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
                Detail::Passed { message, fds, .. } => {
                    row.put(f, fds.len() as u64);
                    for passed in fds {
                        row.put(f + 1, i32_to(passed.fd));
                        row.put(f + 2, option_to(passed.object.map(|o| o.0)));
                    }
                    row.put(f + 3, (*message).into());
                }
                Detail::Messages { entries, .. } => {
                    row.put(f, entries.len() as u64);
                    for (message, blob) in entries.iter().zip(&mut message_blobs) {
                        row.put(f + 1, message.bytes);
                        row.put(f + 2, message.parts.into());
                        row.put(f + 3, message.moved.into());
                        row.put(f + 4, *blob);
                    }
                }
                Detail::Unread { word, .. } | Detail::Cut { word, .. } => row.put(f, option_to(*word)),
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
            ProcessKind::Load { path } => table.row(&[4], task, t, 0).put(field::A, path.0.into()),
            ProcessKind::Identity { old, new } => {
                let mut row = table.row(&[5], task, t, 0);
                let ids = [old.uid, old.euid, old.gid, old.egid, new.uid, new.euid, new.gid, new.egid];
                for (id, field) in ids.into_iter().zip(field::A..) {
                    row.put(field, id.into());
                }
            }
            ProcessKind::Capability { capability, granted, count, call } => {
                let mut row = table.row(&[6], task, t, 0);
                row.put(field::A, (*capability).into());
                row.put(field::B, (*granted).into());
                row.put(field::C, (*count).into());
                row.put(field::D, call.map_or(0, |c| u64::from(c.nr) + 1));
                row.put(field::E, call.map_or(0, |c| c.abi as u64));
            }
            ProcessKind::OomKill { by, rss_bytes, limit } => {
                let mut row = table.row(&[7], task, t, 0);
                row.put(field::A, option_to(by.map(|b| b.0)));
                row.put(field::B, *rss_bytes);
                row.put(field::C, option_to(limit.as_ref().map(|l| l.cgroup.0)));
                row.put(field::D, limit.as_ref().map_or(0, |l| l.limit_bytes));
                row.put(field::E, limit.as_ref().map_or(0, |l| l.usage_bytes));
            }
            ProcessKind::Fault { address, blocked_ns } => {
                let mut row = table.row(&[8], task, t, 0);
                row.put(field::A, *address);
                row.put(field::B, self.ticks(*blocked_ns));
            }
            ProcessKind::Placed { container } => {
                table.row(&[16], task, t, 0).put(field::A, (*container).into());
            }
            ProcessKind::State { state, wchan, since_ns } => {
                let since = since_ns.map(|ns| ns.div_euclid(self.tick_ns as i64));
                let mut row = table.row(&[17], task, t, 0);
                row.put(field::A, (*state).into());
                row.put(field::B, wchan.0.into());
                row.put(field::C, since.is_some().into());
                row.put(field::D, zigzag(since.unwrap_or(0)));
            }
            ProcessKind::WaitsFor { what, holder, object } => {
                let mut row = table.row(&[18, *what as u8], task, t, 0);
                row.put(field::A, holder.0.into());
                row.put(field::B, object.0.into());
            }
            ProcessKind::Origin { origin } => {
                table.row(&[24], task, t, 0).put(field::A, *origin as u64);
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
            ConnectionKind::Sample { .. } => 6,
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
            ConnectionKind::Sample {
                srtt_us,
                cwnd,
                send_window,
                in_flight,
                retransmits,
                bytes_sent,
                bytes_received,
            } => {
                row.put(field::D, (*srtt_us).into());
                row.put(field::E, (*cwnd).into());
                row.put(field::F, (*send_window).into());
                row.put(field::G, (*in_flight).into());
                row.put(field::H, (*retransmits).into());
                row.put(field::I, *bytes_sent);
                row.put(field::J, *bytes_received);
            }
        }
        Times { start: t, end: t }
    }

    fn aggregate(&mut self, e: &Aggregate, table: &mut TableBuilder) -> Times {
        let (start, end) = (self.ticks(e.from_ns), self.ticks(e.t_ns));
        let mut row = table.row(&[1], option_to(Some(e.task.0)), end, e.histogram.len());
        row.put(field::A, end.wrapping_sub(start));
        row.put(field::B, e.cpu.into());
        row.put(field::C, e.sysno.abi as u64);
        row.put(field::D, e.sysno.nr.into());
        row.put(field::E, e.flags.0.into());
        row.put(field::F, option_to(e.fd.map(i32::cast_unsigned)));
        row.put(field::G, option_to(e.object.map(|o| o.0)));
        row.put(field::H, e.errno.into());
        row.put(field::I, e.count);
        row.put(field::J, e.duration_ns);
        row.put(field::K, e.histogram.len() as u64);
        for n in &e.histogram {
            row.put(field::L, *n);
        }
        Times { start, end }
    }

    fn signal(&mut self, e: &Signal, table: &mut TableBuilder) -> Times {
        let t = self.ticks(e.t_ns);
        let mut row = table.row(&[u8::from(e.delivered)], e.task.0.into(), t, 0);
        row.put(field::A, e.signo.into());
        row.put(field::B, i32_to(e.code));
        row.put(field::C, option_to(e.sender.map(|s| s.0)));
        row.put(field::D, option_to(e.outside.map(|o| o.pid.0)));
        row.put(field::E, e.outside.map_or(0, |o| o.comm.0.into()));
        Times { start: t, end: t }
    }

    fn usage(&mut self, e: &Usage, table: &mut TableBuilder) -> Times {
        let (start, end) = (self.ticks(e.from_ns), self.ticks(e.t_ns));
        let (cpu, wait) = (self.ticks(e.cpu_ns), self.ticks(e.wait_ns));
        let mut row = table.row(&[], e.task.0.into(), end, 0);
        row.put(field::A, end.wrapping_sub(start));
        row.put(field::B, cpu);
        row.put(field::C, wait);
        row.put(field::D, e.minor_faults);
        row.put(field::E, e.major_faults);
        row.put(field::F, e.yields);
        row.put(field::G, e.preemptions);
        Times { start, end }
    }

    /// The byte string of an address that may be missing: its number + 1, or 0.
    fn addr(&mut self, addr: Option<&SockAddr>, table: &mut TableBuilder) -> u64 {
        let Some(addr) = addr else { return 0 };
        self.scratch.clear();
        encode_addr(addr, &mut self.scratch);
        table.blob(&self.scratch) + 1
    }

    fn socket(&mut self, e: &Socket, table: &mut TableBuilder) -> Times {
        let (start, end) = (self.ticks(e.from_ns), self.ticks(e.t_ns));
        let (local, peer) = (self.addr(e.local.as_ref(), table), self.addr(e.peer.as_ref(), table));
        self.key.clear();
        for part in [e.family, e.kind, e.protocol] {
            varint::put(&mut self.key, part.into());
        }
        let mut row = table.row(&self.key, option_to(e.task.map(|t| t.0)), end, 0);
        row.put(field::COOKIE, e.cookie.0);
        row.put(field::B, local);
        row.put(field::C, peer);
        row.put(field::D, end.wrapping_sub(start));
        row.put(field::E, e.sent);
        row.put(field::F, e.bytes_sent);
        row.put(field::G, e.received);
        row.put(field::H, e.bytes_received);
        Times { start, end }
    }

    /// Start and end of what takes time, and the duration: the end's column wraps, what is said of the chunk saturates.
    fn span(&self, t_ns: u64, duration_ns: u64) -> (u64, u64, Times) {
        let (start, duration) = (self.ticks(t_ns), self.ticks(duration_ns));
        let times = Times { start, end: start.saturating_add(duration) };
        (start.wrapping_add(duration), duration, times)
    }

    fn dns(&mut self, e: &Dns, table: &mut TableBuilder) -> Times {
        let (end, duration, times) = self.span(e.t_ns, e.duration_ns);
        let server = self.addr(Some(&e.server), table);
        let mut row = table.row(&[e.answer.is_some().into()], e.task.0.into(), end, 0);
        row.put(field::COOKIE, e.cookie.0);
        row.put(field::B, server);
        row.put(field::C, duration);
        row.put(field::D, e.name.0.into());
        row.put(field::E, e.qtype.into());
        if let Some((code, answers)) = e.answer {
            row.put(field::F, code.into());
            row.put(field::G, answers.into());
        }
        times
    }

    fn block(&mut self, e: &Block, table: &mut TableBuilder) -> Times {
        let (end, duration, times) = self.span(e.t_ns, e.duration_ns);
        let queued = self.ticks(e.queued_ns);
        let mut row = table.row(&[e.op as u8, e.flags], e.task.0.into(), end, 0);
        row.put(field::A, e.dev);
        row.put(field::B, e.sector);
        row.put(field::C, duration);
        row.put(field::D, queued);
        row.put(field::E, e.bytes);
        row.put(field::F, e.error.into());
        times
    }

    fn uring(&mut self, e: &Uring, table: &mut TableBuilder) -> Times {
        let (end, duration, times) = self.span(e.t_ns, e.duration_ns);
        let mut row = table.row(&[e.opcode], e.task.0.into(), end, 0);
        row.put(field::A, option_to(e.object.map(|o| o.0)));
        row.put(field::B, duration);
        row.put(field::C, i32_to(e.ret));
        times
    }
    fn injection(&mut self, e: &Injection, table: &mut TableBuilder) -> Times {
        let t = self.ticks(e.t_ns);
        let Fault { result, after, keeps_millionths, signal, enter_ns, exit_ns } = e.fault;
        let (enter, exit) = (self.ticks(enter_ns), self.ticks(exit_ns));
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let bits = bit(result.is_some(), does::RESULT)
            | bit(after, does::AFTER)
            | bit(keeps_millionths.is_some(), does::PART)
            | bit(signal.is_some(), does::SIGNAL)
            | bit(enter > 0, does::ENTER)
            | bit(exit > 0, does::EXIT);
        let mut row = table.row(&[bits], e.task.0.into(), t, 0);
        row.put(field::A, e.rule.into());
        row.put(field::B, e.name.0.into());
        row.put(field::C, e.sysno.abi as u64);
        row.put(field::D, e.sysno.nr.into());
        row.put(field::E, e.nth);
        if let Some(result) = result {
            row.put(field::F, i32_to(result));
        }
        if let Some(part) = keeps_millionths {
            row.put(field::G, part.into());
        }
        if let Some(signal) = signal {
            row.put(field::H, signal.into());
        }
        if enter > 0 {
            row.put(field::I, enter);
        }
        if exit > 0 {
            row.put(field::J, exit);
        }
        Times { start: t, end: t }
    }
}
