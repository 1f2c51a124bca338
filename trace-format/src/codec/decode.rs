//! Rows to events. Nothing here trusts the rows.

use super::{
    MAX_DETAILS, MAX_LIST, block_op, cause_of, class_of, decode_addr, does, fidelity_of, field, metric_of,
    origin_of, shape, tag, tcp_state,
};
use crate::columns::{RowHead, TableReader};
use crate::varint::{self, unzigzag};
use crate::{
    Abi, Aggregate, Block, Class, ClockAnchor, Connection, ConnectionKind, DecodeError, Detail, Dns,
    EpollEntry, Event, Fault, Fidelity, Ids, Injection, Loss, Marker, Message, ObjectId, OomLimit, Outsider,
    PassedFd, PollEntry, Process, ProcessKind, Resource, Signal, SockAddr, SockCookie, Socket, StrId,
    Syscall, SyscallFlags, Sysno, TaskId, Tgid, Tid, Uring, Usage, WaitKind,
};

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
        if table.is_chained() && class != Class::Syscall {
            return Err(DecodeError::Malformed("chained ends of what is no call"));
        }
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
            Class::Usage => Some(Event::Usage(self.usage(&row)?)),
            Class::Socket => Some(Event::Socket(self.socket(&row)?)),
            Class::Dns => Some(Event::Dns(self.dns(&row)?)),
            Class::Block => self.block(&row)?.map(Event::Block),
            Class::Uring => Some(Event::Uring(self.uring(&row)?)),
            Class::Injection => self.injection(&row)?.map(Event::Injection),
            Class::Aggregate => self.aggregate(&row)?,
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
        let gap = if table.is_chained() { table.pull(row, field::GAP)? } else { 0 };
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
            details.extend(decode_detail(table, row, self.tick_ns, (*tag, *arg), first)?);
        }
        let took = duration.wrapping_add(wait_cpu).wrapping_add(blocked);
        let end = table.end(row, gap, took);
        Ok(Syscall {
            t_ns: end.wrapping_sub(duration).saturating_mul(self.tick_ns),
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
        let mut key = self.table.shape_key(row.shape).iter().copied();
        let (key, more) = (key.next(), key.next());
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
            Some(4) => ProcessKind::Load { path: from_u32(table.pull(row, field::A)?, StrId)? },
            Some(5) => {
                let mut fields = field::A..;
                let mut ids = || -> Result<Ids, DecodeError> {
                    let mut id = || {
                        let field = fields.next().unwrap_or_default();
                        from_u32(table.pull(row, field)?, |n| n)
                    };
                    Ok(Ids { uid: id()?, euid: id()?, gid: id()?, egid: id()? })
                };
                ProcessKind::Identity { old: ids()?, new: ids()? }
            }
            Some(6) => {
                let capability = from_u32(table.pull(row, field::A)?, |n| n)?;
                let granted = from_bool(table.pull(row, field::B)?)?;
                let count = from_u32(table.pull(row, field::C)?, |n| n)?;
                let (nr, abi) = (table.pull(row, field::D)?, table.pull(row, field::E)?);
                let call = match nr.checked_sub(1) {
                    Some(nr) => Some(Sysno { abi: abi_of(abi)?, nr: from_u32(nr, |n| n)? }),
                    None => None,
                };
                ProcessKind::Capability { capability, granted, count, call }
            }
            Some(7) => ProcessKind::OomKill {
                by: from_option(table.pull(row, field::A)?, TaskId)?,
                rss_bytes: table.pull(row, field::B)?,
                limit: {
                    let cgroup = from_option(table.pull(row, field::C)?, StrId)?;
                    let (limit_bytes, usage_bytes) = (table.pull(row, field::D)?, table.pull(row, field::E)?);
                    cgroup.map(|cgroup| OomLimit { cgroup, limit_bytes, usage_bytes })
                },
            },
            Some(8) => ProcessKind::Fault {
                address: table.pull(row, field::A)?,
                blocked_ns: table.pull(row, field::B)?.saturating_mul(self.tick_ns),
            },
            Some(16) => ProcessKind::Placed { container: from_u32(table.pull(row, field::A)?, |n| n)? },
            Some(17) => {
                let state = table.pull(row, field::A)?;
                let state =
                    u8::try_from(state).map_err(|_| DecodeError::Malformed("a state that is no letter"))?;
                let wchan = from_u32(table.pull(row, field::B)?, StrId)?;
                let known = from_bool(table.pull(row, field::C)?)?;
                let ticks = unzigzag(table.pull(row, field::D)?);
                let since_ns = known.then(|| ticks.saturating_mul(self.tick_ns as i64));
                ProcessKind::State { state, wchan, since_ns }
            }
            Some(18) => {
                let Some(what) = WaitKind::ALL.into_iter().find(|what| Some(*what as u8) == more) else {
                    return Ok(None);
                };
                let holder = from_u32(table.pull(row, field::A)?, TaskId)?;
                let object = from_u32(table.pull(row, field::B)?, StrId)?;
                ProcessKind::WaitsFor { what, holder, object }
            }
            Some(24) => match origin_of(table.pull(row, field::A)?) {
                Some(origin) => ProcessKind::Origin { origin },
                None => return Ok(None),
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
            Some(6) => ConnectionKind::Sample {
                srtt_us: from_u32(table.pull(row, field::D)?, |n| n)?,
                cwnd: from_u32(table.pull(row, field::E)?, |n| n)?,
                send_window: from_u32(table.pull(row, field::F)?, |n| n)?,
                in_flight: from_u32(table.pull(row, field::G)?, |n| n)?,
                retransmits: from_u32(table.pull(row, field::H)?, |n| n)?,
                bytes_sent: table.pull(row, field::I)?,
                bytes_received: table.pull(row, field::J)?,
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
            outside: {
                let pid = from_option(self.table.pull(row, field::D)?, Tgid)?;
                let comm = from_u32(self.table.pull(row, field::E)?, StrId)?;
                pid.map(|pid| Outsider { pid, comm })
            },
            delivered,
        })
    }

    fn usage(&mut self, row: &RowHead) -> Result<Usage, DecodeError> {
        let mut pull = |field| self.table.pull(row, field);
        let (length, cpu, wait) = (pull(field::A)?, pull(field::B)?, pull(field::C)?);
        let (minor_faults, major_faults) = (pull(field::D)?, pull(field::E)?);
        let (yields, preemptions) = (pull(field::F)?, pull(field::G)?);
        Ok(Usage {
            t_ns: self.ns(row.end),
            from_ns: self.ns(row.end.wrapping_sub(length)),
            task: from_u32(row.task, TaskId)?,
            cpu_ns: self.ns(cpu),
            wait_ns: self.ns(wait),
            minor_faults,
            major_faults,
            yields,
            preemptions,
        })
    }

    /// An address that may be missing: 0, or the number of its byte string + 1.
    fn addr_option(&self, blob: u64) -> Result<Option<SockAddr>, DecodeError> {
        blob.checked_sub(1).map(|blob| self.addr(blob)).transpose()
    }

    fn socket(&mut self, row: &RowHead) -> Result<Socket, DecodeError> {
        let (key, mut at) = (self.table.shape_key(row.shape), 0);
        let family = from_u16(varint::get(key, &mut at)?)?;
        let kind = from_u16(varint::get(key, &mut at)?)?;
        let protocol = from_u16(varint::get(key, &mut at)?)?;
        let mut pull = |field| self.table.pull(row, field);
        let cookie = SockCookie(pull(field::COOKIE)?);
        let (local, peer, length) = (pull(field::B)?, pull(field::C)?, pull(field::D)?);
        let (sent, bytes_sent) = (pull(field::E)?, pull(field::F)?);
        let (received, bytes_received) = (pull(field::G)?, pull(field::H)?);
        Ok(Socket {
            t_ns: self.ns(row.end),
            from_ns: self.ns(row.end.wrapping_sub(length)),
            task: from_option(row.task, TaskId)?,
            cookie,
            family,
            kind,
            protocol,
            local: self.addr_option(local)?,
            peer: self.addr_option(peer)?,
            sent,
            bytes_sent,
            received,
            bytes_received,
        })
    }

    fn dns(&mut self, row: &RowHead) -> Result<Dns, DecodeError> {
        let answered = match self.table.shape_key(row.shape) {
            [answered] => from_bool((*answered).into())?,
            _ => return Err(DecodeError::Malformed("a DNS query of an unknown shape")),
        };
        let mut pull = |field| self.table.pull(row, field);
        let cookie = SockCookie(pull(field::COOKIE)?);
        let (server, duration) = (pull(field::B)?, pull(field::C)?);
        let name = from_u32(pull(field::D)?, StrId)?;
        let qtype = from_u16(pull(field::E)?)?;
        let answer =
            if answered { Some((from_u8(pull(field::F)?)?, from_u16(pull(field::G)?)?)) } else { None };
        Ok(Dns {
            t_ns: self.ns(row.end.wrapping_sub(duration)),
            duration_ns: self.ns(duration),
            task: from_u32(row.task, TaskId)?,
            cookie,
            server: self.addr_option(server)?.ok_or(DecodeError::Malformed("a DNS query to nobody"))?,
            name,
            qtype,
            answer,
        })
    }

    fn block(&mut self, row: &RowHead) -> Result<Option<Block>, DecodeError> {
        let [op, flags] = self.table.shape_key(row.shape) else {
            return Err(DecodeError::Malformed("a block request of an unknown shape"));
        };
        let (op, flags) = (block_op(*op), *flags);
        let mut pull = |field| self.table.pull(row, field);
        let (dev, sector) = (pull(field::A)?, pull(field::B)?);
        let (duration, queued) = (pull(field::C)?, pull(field::D)?);
        let (bytes, error) = (pull(field::E)?, from_u16(pull(field::F)?)?);
        let task = from_u32(row.task, TaskId)?;
        Ok(op.map(|op| Block {
            t_ns: self.ns(row.end.wrapping_sub(duration)),
            duration_ns: self.ns(duration),
            queued_ns: self.ns(queued),
            task,
            dev,
            sector,
            bytes,
            op,
            flags,
            error,
        }))
    }

    fn uring(&mut self, row: &RowHead) -> Result<Uring, DecodeError> {
        let [opcode] = self.table.shape_key(row.shape) else {
            return Err(DecodeError::Malformed("a ring request of an unknown shape"));
        };
        let opcode = *opcode;
        let mut pull = |field| self.table.pull(row, field);
        let object = from_option(pull(field::A)?, ObjectId)?;
        let (duration, ret) = (pull(field::B)?, from_i32(pull(field::C)?)?);
        Ok(Uring {
            t_ns: self.ns(row.end.wrapping_sub(duration)),
            duration_ns: self.ns(duration),
            task: from_u32(row.task, TaskId)?,
            opcode,
            object,
            ret,
        })
    }

    /// `None`: it does something that this version does not know, and what else it does would mislead.
    fn injection(&mut self, row: &RowHead) -> Result<Option<Injection>, DecodeError> {
        let [bits] = self.table.shape_key(row.shape) else { return Ok(None) };
        let bits = *bits;
        let (t_ns, tick_ns) = (self.ns(row.end), self.tick_ns);
        let mut pull = |field| self.table.pull(row, field);
        let rule = from_u32(pull(field::A)?, |n| n)?;
        let name = from_u32(pull(field::B)?, StrId)?;
        let abi = abi_of(pull(field::C)?)?;
        let nr = from_u32(pull(field::D)?, |n| n)?;
        let nth = pull(field::E)?;
        let mut pull_if = |bit, field| if bits & bit == 0 { Ok(None) } else { pull(field).map(Some) };
        let result = pull_if(does::RESULT, field::F)?.map(from_i32).transpose()?;
        let keeps_millionths = pull_if(does::PART, field::G)?.map(|n| from_u32(n, |n| n)).transpose()?;
        let signal = pull_if(does::SIGNAL, field::H)?.map(from_u8).transpose()?;
        let enter = pull_if(does::ENTER, field::I)?.unwrap_or(0);
        let exit = pull_if(does::EXIT, field::J)?.unwrap_or(0);
        let known = does::RESULT | does::AFTER | does::PART | does::SIGNAL | does::ENTER | does::EXIT;
        let fault = Fault {
            result,
            after: bits & does::AFTER != 0,
            keeps_millionths,
            signal,
            enter_ns: enter.saturating_mul(tick_ns),
            exit_ns: exit.saturating_mul(tick_ns),
        };
        let task = from_u32(row.task, TaskId)?;
        let injection = Injection { t_ns, task, rule, name, sysno: Sysno { abi, nr }, nth, fault };
        Ok((bits & !known == 0).then_some(injection))
    }

    fn aggregate(&mut self, row: &RowHead) -> Result<Option<Event>, DecodeError> {
        let end = row.end;
        let (t_ns, tick_ns) = (self.ns(end), self.tick_ns);
        match self.table.shape_key(row.shape) {
            [1] => {}
            [2] => {
                let cpu = from_u32(self.table.pull(row, field::A)?, |n| n)?;
                let from = fidelity_of(self.table.pull(row, field::B)?);
                let to = fidelity_of(self.table.pull(row, field::C)?);
                let change = from.zip(to).map(|(from, to)| Fidelity { t_ns, cpu, from, to });
                return Ok(change.map(Event::Fidelity));
            }
            _ => return Ok(None),
        }
        let table = &mut self.table;
        let length = table.pull(row, field::A)?;
        let cpu = from_u32(table.pull(row, field::B)?, |n| n)?;
        let abi = abi_of(table.pull(row, field::C)?)?;
        let nr = from_u32(table.pull(row, field::D)?, |n| n)?;
        let flags = SyscallFlags(from_u16(table.pull(row, field::E)?)?);
        let fd = from_option(table.pull(row, field::F)?, u32::cast_signed)?;
        let object = from_option(table.pull(row, field::G)?, ObjectId)?;
        let errno = from_u32(table.pull(row, field::H)?, |n| n)?;
        let count = table.pull(row, field::I)?;
        let duration_ns = table.pull(row, field::J)?;
        let len = table.pull_len(row, field::K)?;
        let mut histogram = Vec::with_capacity(len.min(MAX_LIST));
        for _ in 0..len {
            histogram.push(table.pull(row, field::L)?);
        }
        let Some(task) = from_option(row.task, TaskId)? else {
            return Err(DecodeError::Malformed("counted calls of no task"));
        };
        Ok(Some(Event::Aggregate(Aggregate {
            t_ns,
            from_ns: end.wrapping_sub(length).saturating_mul(tick_ns),
            cpu,
            task,
            sysno: Sysno { abi, nr },
            flags,
            fd,
            object,
            errno,
            count,
            duration_ns,
            histogram,
        })))
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

fn abi_of(number: u64) -> Result<Abi, DecodeError> {
    Ok(match number {
        0 => Abi::X86_64,
        1 => Abi::I386,
        2 => Abi::X32,
        3 => Abi::Aarch64,
        4 => Abi::Arm,
        _ => return Err(DecodeError::Malformed("a call of an unknown table")),
    })
}

/// The call of a shape, if it is one.
pub(crate) fn sysno_of(key: &[u8]) -> Option<Sysno> {
    parse_syscall_shape(key).ok().map(|shape| shape.sysno)
}

fn parse_syscall_shape(key: &[u8]) -> Result<SyscallShape, DecodeError> {
    let mut at = 1;
    let abi = abi_of(key.first().copied().map_or(u64::MAX, u64::from))?;
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
    tick_ns: u64,
    (tag, arg): (u8, u8),
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
        tag::PASSED => {
            let len = table.pull_len(row, f)?;
            let mut fds = Vec::with_capacity(len.min(MAX_LIST));
            for _ in 0..len {
                fds.push(PassedFd {
                    fd: from_i32(table.pull(row, f + 1)?)?,
                    object: from_option(table.pull(row, f + 2)?, ObjectId)?,
                });
            }
            Detail::Passed { arg, message: from_u32(table.pull(row, f + 3)?, |n| n)?, fds }
        }
        tag::MESSAGES => {
            let len = table.pull_len(row, f)?;
            let mut entries = Vec::with_capacity(len.min(MAX_LIST));
            for _ in 0..len {
                let bytes = table.pull(row, f + 1)?;
                let parts = from_u32(table.pull(row, f + 2)?, |n| n)?;
                let moved = from_u32(table.pull(row, f + 3)?, |n| n)?;
                let addr = match table.pull(row, f + 4)?.checked_sub(1) {
                    Some(blob) => Some(decode_addr(table.blob(blob)?)?),
                    None => None,
                };
                entries.push(Message { bytes, parts, moved, addr });
            }
            Detail::Messages { arg, entries }
        }
        tag::LOCAL => {
            let blob = table.pull(row, f)?;
            Detail::Local { addr: decode_addr(table.blob(blob)?)? }
        }
        tag::UNREAD => Detail::Unread { arg, word: from_option(table.pull(row, f)?, |n| n)? },
        tag::CUT => Detail::Cut { arg, word: from_option(table.pull(row, f)?, |n| n)? },
        tag::CREATED => Detail::Created,
        tag::CPU_WAIT_NS => Detail::CpuWait { ns: table.pull(row, f)? },
        tag::CPU_WAIT => Detail::CpuWait { ns: table.pull(row, f)?.saturating_mul(tick_ns) },
        _ => return Ok(None),
    }))
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
fn from_i32(value: u64) -> Result<i32, DecodeError> {
    i32::try_from(unzigzag(value)).map_err(|_| DecodeError::Malformed("a 32-bit field that is larger"))
}
/// An id that may be missing: 0, or the id + 1.
fn from_option<T>(value: u64, make: impl FnOnce(u32) -> T) -> Result<Option<T>, DecodeError> {
    value.checked_sub(1).map(|id| from_u32(id, make)).transpose()
}
