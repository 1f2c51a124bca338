//! What is on the timeline besides calls, life, connections and signals.

use super::dns::{self, Pending, Question};
use super::{Decoder, until_nul};
use crate::arch;
use crate::collect::call_of;
use crate::details::Item;
use crate::objects::{both_ends, ends, sockaddr, user_dev};
use crate::raw;
use ctrace_abi::{
    BlockEvent, Call, CapEvent, Creds, DnsEvent, Exec, FaultEvent, OomEvent, Traffic, TrafficEvent,
    UringEvent, UsageEvent, dns_how, op,
};
use ctrace_format::{
    Block, BlockOp, Dns, Event, Ids, ObjectId, OomLimit, Process, ProcessKind, Ref, SockAddr, SockCookie,
    Socket, StrId, Sysno, TaskDef, TaskId, Tgid, Tid, TraceWriter, Uring, Usage,
};
use rustc_hash::{FxHashMap, FxHashSet};

type Push<'a> = &'a mut dyn FnMut(&mut TraceWriter, &Event);

/// Tasks that have ended and may still be meant; more are forgotten all at once.
const MAX_ENDED: usize = 65_536;
/// A count that was not reported for so long has ended: the kernel half forgets it sooner.
const FORGET_NS: u64 = 60_000_000_000;

/// Who asked whom for what.
struct Asked {
    task: TaskId,
    cookie: SockCookie,
    server: SockAddr,
    name: StrId,
    qtype: u16,
}

/// What the decoder remembers for this.
#[derive(Default)]
pub(super) struct State {
    /// Threads that have ended, and when: what they began may end later, and what they did be told later.
    ended: FxHashMap<u32, (TaskId, u64)>,
    /// What each process has mapped executable.
    loaded: FxHashMap<u32, FxHashSet<StrId>>,
    dns: Pending<Asked>,
    /// What was told of each count: by socket address and beginning.
    traffic: FxHashMap<(u64, u64), Traffic>,
}

impl State {
    /// Passes the ids that will be told of when something else comes.
    pub(super) fn held(&self, keep: &mut dyn FnMut(Ref)) {
        for asked in self.dns.waiting() {
            keep(Ref::Task(asked.task));
            keep(Ref::Str(asked.name));
        }
    }

    /// Drops what is only remembered: of a task that nothing in the window knows, nothing follows any more; a library
    /// that is mapped again is told of again.
    pub(super) fn forget(&mut self, alive: &dyn Fn(Ref) -> bool) {
        self.ended.retain(|_, (task, _)| alive(Ref::Task(*task)));
        for paths in self.loaded.values_mut() {
            paths.retain(|path| alive(Ref::Str(*path)));
        }
    }

    /// The last task that had this id and has ended, and when.
    pub(super) fn ended_at(&self, tid: u32) -> Option<(TaskId, u64)> {
        self.ended.get(&tid).copied()
    }

    /// A task has ended.
    pub(super) fn ended(&mut self, tid: u32, task: TaskId, at_ns: u64, process: bool) {
        if self.ended.len() >= MAX_ENDED {
            self.ended.clear();
        }
        self.ended.insert(tid, (task, at_ns));
        if process {
            // The leader's id is the process's.
            self.loaded.remove(&tid);
        }
    }

    /// A process has a new program: nothing is mapped of the old one.
    pub(super) fn executed(&mut self, tgid: u32) {
        self.loaded.remove(&tgid);
    }
}

/// The path of a folder, by its name and those of the folders above it, each with its NUL. The root has none.
fn path_of(names: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = names.split(|b| *b == 0).filter(|name| !name.is_empty()).collect();
    names.reverse();
    names.into_iter().flat_map(|name| [b"/", name].concat()).collect()
}

/// Who the task acts as, as a call's tail says it.
pub(super) fn creds(items: &[Item<'_>], phase: u16) -> Option<Creds> {
    raw::read(items.iter().find(|i| i.head.op == op::CREDS && i.head.aux == phase)?.data)
}

fn ids(creds: Creds) -> Ids {
    Ids { uid: creds.uid, euid: creds.euid, gid: creds.gid, egid: creds.egid }
}

/// `enum req_op`, `include/linux/blk_types.h`: the low byte of a request's flags.
fn block_op(flags: u32) -> BlockOp {
    match flags & 0xff {
        0 => BlockOp::Read,
        1 => BlockOp::Write,
        2 => BlockOp::Flush,
        3 => BlockOp::Discard,
        9 => BlockOp::WriteZeroes,
        _ => BlockOp::Other,
    }
}

/// `blk_errors`, block/blk-core.c.
fn block_error(status: u8) -> u16 {
    let errno = match status {
        0 => 0,
        1 => libc::EOPNOTSUPP,
        2 => libc::ETIMEDOUT,
        3 => libc::ENOSPC,
        4 => libc::ENOLINK,
        5 => libc::EREMOTEIO,
        6 => libc::EBADE,
        7 => libc::ENODATA,
        8 => libc::EILSEQ,
        9 => libc::ENOMEM,
        _ => libc::EIO,
    };
    errno as u16
}

impl Decoder {
    /// A task that lives, or that has ended lately.
    fn past_task(&mut self, w: &mut TraceWriter, tid: u32) -> Option<TaskId> {
        self.known_task(w, tid).or_else(|| Some(self.timeline.ended_at(tid)?.0))
    }

    pub(super) fn usage(&mut self, w: &mut TraceWriter, record: &[u8], push: Push<'_>) -> Option<()> {
        let e: UsageEvent = raw::read(record)?;
        let task = self.past_task(w, e.tid)?;
        let usage = Usage {
            t_ns: self.rel(e.t_ns),
            from_ns: self.rel(e.from_ns),
            task,
            cpu_ns: e.cpu_ns,
            wait_ns: e.wait_ns,
            minor_faults: e.faults[0],
            major_faults: e.faults[1],
            yields: e.yields.into(),
            preemptions: e.preemptions.into(),
        };
        push(w, &Event::Usage(usage));
        Some(())
    }

    pub(super) fn fault(&mut self, w: &mut TraceWriter, record: &[u8], push: Push<'_>) -> Option<()> {
        let e: FaultEvent = raw::read(record)?;
        let task = self.past_task(w, e.tid)?;
        let kind = ProcessKind::Fault { address: e.address, blocked_ns: e.blocked_ns };
        push(w, &Event::Process(Process { t_ns: self.rel(e.t_ns), task, kind }));
        Some(())
    }

    pub(super) fn oom(&mut self, w: &mut TraceWriter, record: &[u8], push: Push<'_>) -> Option<()> {
        let e: OomEvent = raw::read(record)?;
        let by = if e.by == 0 { None } else { self.known_task(w, e.by) };
        let victim = self.past_task(w, e.tid);
        let task = victim.unwrap_or_else(|| {
            // Somebody else's process pays for what the scope needs.
            let comm = w.comm(until_nul(&e.comm));
            w.task(&TaskDef { tid: Tid(e.tid), tgid: Tgid(e.tgid.max(e.tid)), comm, start_ns: 0 })
        });
        let rss_bytes = e.rss_pages * crate::mapped::page_size() as u64;
        let path = path_of(record.get(size_of::<OomEvent>()..).unwrap_or_default());
        let limit = (e.limit_pages != 0).then(|| OomLimit {
            cgroup: w.str(&path),
            limit_bytes: e.limit_pages * crate::mapped::page_size() as u64,
            usage_bytes: e.usage_pages * crate::mapped::page_size() as u64,
        });
        let kind = ProcessKind::OomKill { by, rss_bytes, limit };
        push(w, &Event::Process(Process { t_ns: self.rel(e.t_ns), task, kind }));
        Some(())
    }

    pub(super) fn capability(&mut self, w: &mut TraceWriter, record: &[u8], push: Push<'_>) -> Option<()> {
        let e: CapEvent = raw::read(record)?;
        let start_ns = self.rel(e.start_ns).max(1);
        let lives = self
            .tasks
            .get(&e.tid)
            .is_some_and(|t| e.start_ns == 0 || t.start_ns <= 1 || t.start_ns == start_ns);
        let task = if lives {
            self.known_task(w, e.tid)
        } else {
            self.timeline.ended_at(e.tid).map(|(task, _)| task)
        }?;
        let call = call_of(e.call).map(|(how, nr)| Sysno { abi: arch::HOST.table(how), nr });
        let kind = ProcessKind::Capability {
            capability: e.capability.into(),
            granted: e.granted != 0,
            count: u32::try_from(e.count).unwrap_or(u32::MAX),
            call,
        };
        push(w, &Event::Process(Process { t_ns: self.rel(e.t_ns), task, kind }));
        Some(())
    }

    /// A call of the `setuid` family has ended.
    pub(super) fn identity(
        &mut self,
        w: &mut TraceWriter,
        call: &Call,
        task: TaskId,
        old: Creds,
        new: Creds,
        push: Push<'_>,
    ) {
        if let Some(known) = self.tasks.get_mut(&call.tid) {
            known.creds = Some(new);
        }
        if old != new {
            let kind = ProcessKind::Identity { old: ids(old), new: ids(new) };
            let t_ns = self.rel(call.t_ns.saturating_add(call.dur_ns));
            push(w, &Event::Process(Process { t_ns, task, kind }));
        }
    }

    /// A program was executed: one with a set-id bit acts as somebody else from now on.
    pub(super) fn executed_as(&mut self, w: &mut TraceWriter, exec: &Exec, task: TaskId, push: Push<'_>) {
        let new = exec.creds;
        let Some(known) = self.tasks.get_mut(&exec.tid) else { return };
        let real = Creds { euid: new.uid, egid: new.gid, ..new };
        let old = known.creds.replace(new).unwrap_or(real);
        if old != new {
            let kind = ProcessKind::Identity { old: ids(old), new: ids(new) };
            push(w, &Event::Process(Process { t_ns: self.rel(exec.t_ns), task, kind }));
        }
    }

    /// A file was mapped executable.
    pub(super) fn load(
        &mut self,
        w: &mut TraceWriter,
        call: &Call,
        task: TaskId,
        object: ObjectId,
        push: Push<'_>,
    ) {
        let Some(path) = self.objects.path(object) else { return };
        if self.timeline.loaded.entry(call.tgid).or_default().insert(path) {
            let t_ns = self.rel(call.t_ns.saturating_add(call.dur_ns));
            push(w, &Event::Process(Process { t_ns, task, kind: ProcessKind::Load { path } }));
        }
    }

    pub(super) fn traffic(&mut self, w: &mut TraceWriter, record: &[u8], push: Push<'_>) -> Option<()> {
        let e: TrafficEvent = raw::read(record)?;
        let now = e.traffic;
        let key = (e.sk, now.born_ns);
        let told = self
            .timeline
            .traffic
            .get(&key)
            .copied()
            .unwrap_or(Traffic { from_ns: now.born_ns, ..Traffic::default() });
        let more = |get: fn(&Traffic) -> u64| get(&now).saturating_sub(get(&told));
        let (sent, received) = (more(|t| t.sent), more(|t| t.received));
        if sent == 0 && received == 0 {
            return Some(());
        }
        let cookie = self.objects.cookie(e.sk, now.cookie, now.ino);
        let task = self.past_task(w, now.tid);
        let (local, peer) = self.objects.unix_ends(e.sk).unwrap_or_else(|| ends(&now.tuple));
        let socket = Socket {
            t_ns: self.rel(e.t_ns),
            from_ns: self.rel(told.from_ns),
            task,
            cookie,
            family: now.family,
            kind: now.kind_,
            protocol: now.protocol,
            local,
            peer,
            sent,
            bytes_sent: more(|t| t.bytes_sent),
            received,
            bytes_received: more(|t| t.bytes_received),
        };
        if self.timeline.traffic.len() >= MAX_ENDED {
            self.timeline.traffic.retain(|_, t| e.t_ns.saturating_sub(t.from_ns) < FORGET_NS);
        }
        self.timeline.traffic.insert(key, Traffic { from_ns: e.t_ns, ..now });
        push(w, &Event::Socket(socket));
        Some(())
    }

    pub(super) fn dns(&mut self, w: &mut TraceWriter, record: &[u8], push: Push<'_>) -> Option<()> {
        let e: DnsEvent = raw::read(record)?;
        let text = record.get(size_of::<DnsEvent>()..)?.get(..usize::from(e.len))?;
        // Something else may be sent to that port, and a length alone over TCP: that is no query.
        let Some(message) = dns::parse(text, e.how & dns_how::STREAM != 0) else { return Some(()) };
        if e.how & dns_how::RECEIVED != 0 {
            if message.answer.is_some()
                && let Some(question) = self.timeline.dns.answer(e.sk, &message)
            {
                self.told(w, question, e.t_ns, message.answer, push);
            }
            return Some(());
        }
        if message.answer.is_some() {
            // The scope is a server itself.
            return Some(());
        }
        let task = self.past_task(w, e.tid)?;
        let server = if e.to[0] == 0 && e.to[1] == 0 { both_ends(&e.tuple).1 } else { sockaddr(&e.to)? };
        let asked = Asked {
            task,
            cookie: self.objects.cookie(e.sk, e.cookie, e.ino),
            server,
            name: w.host(&message.name),
            qtype: message.qtype,
        };
        if let Some((before, until)) = self.timeline.dns.ask(e.sk, message, e.t_ns, asked) {
            self.told(w, before, until, None, push);
        }
        Some(())
    }

    fn told(
        &mut self,
        w: &mut TraceWriter,
        question: Question<Asked>,
        until_ns: u64,
        answer: Option<(u8, u16)>,
        push: Push<'_>,
    ) {
        let Asked { task, cookie, server, name, qtype } = question.what;
        let dns = Dns {
            t_ns: self.rel(question.sent_ns),
            duration_ns: until_ns.saturating_sub(question.sent_ns),
            task,
            cookie,
            server,
            name,
            qtype,
            answer,
        };
        push(w, &Event::Dns(dns));
    }

    pub(super) fn block(&mut self, w: &mut TraceWriter, record: &[u8], push: Push<'_>) -> Option<()> {
        let e: BlockEvent = raw::read(record)?;
        let task = self.past_task(w, e.tid)?;
        let flags = self
            .block_flags
            .iter()
            .filter(|(bit, _)| e.flags & bit != 0)
            .fold(0, |all, (_, flag)| all | flag);
        let block = Block {
            t_ns: self.rel(e.from_ns),
            duration_ns: e.t_ns.saturating_sub(e.from_ns),
            queued_ns: e.issued_ns.saturating_sub(e.from_ns),
            task,
            dev: user_dev(e.dev),
            sector: e.sector,
            bytes: e.bytes,
            op: block_op(e.flags),
            flags,
            error: block_error(e.status),
        };
        push(w, &Event::Block(block));
        Some(())
    }

    pub(super) fn uring(&mut self, w: &mut TraceWriter, record: &[u8], push: Push<'_>) -> Option<()> {
        let e: UringEvent = raw::read(record)?;
        let task = self.past_task(w, e.tid)?;
        let uring = Uring {
            t_ns: self.rel(e.from_ns),
            duration_ns: e.t_ns.saturating_sub(e.from_ns),
            task,
            opcode: e.opcode,
            object: self.objects.get(e.file),
            ret: e.ret,
        };
        push(w, &Event::Uring(uring));
        Some(())
    }

    /// The recording ends: what was asked and not answered is told.
    pub(crate) fn end(&mut self, w: &mut TraceWriter, now_boottime_ns: u64, push: Push<'_>) {
        for question in self.timeline.dns.rest() {
            self.told(w, question, now_boottime_ns, None, push);
        }
    }
}
