//! Kernel records → events of the trace: who is who, what is what.
//!
//! Owns the dictionary side of a recording: which task a thread id means now, which object a file identity means
//! now. Records come in order of their end.

use crate::arch;
mod dns;
mod timeline;

use crate::details::{self, Context};
use crate::meaning::{Meaning, Meanings, kept, time_counts};
use crate::objects::{Objects, both_ends};
use crate::target::Member;
use ctrace_abi::{
    AggregateRecord, Call, CallArgs, Comm, Creds, Exec, Exit, FileObject, Fork, Join, LevelChange,
    SignalEvent, Slot, SockObject, TcpEvent, UNNAMED_GROUP, WINDOW_NS, call_flag, kind, level, op, tcp,
};
use ctrace_format::{
    Aggregate, Connection, ConnectionKind, Detail, Event, Fidelity, FidelityLevel, Holder, Process,
    ProcessKind, Ref, Signal, StrId, Syscall, SyscallFlags, Sysno, TaskDef, TaskId, TcpState, Tgid, Tid,
    TraceWriter,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::mem::offset_of;

/// A task that wakes up waits this long on an idle machine too.
const NOTABLE_WAIT_NS: u64 = 50_000;
/// `PROT_EXEC`, include/uapi/asm-generic/mman-common.h.
const PROT_EXEC: u64 = 4;

/// A thread as it is now.
struct Task {
    tgid: u32,
    start_ns: u64,
    comm: StrId,
    id: Option<TaskId>,
    /// Who it acts as, when that is known.
    creds: Option<Creds>,
    /// The group of the scope that it is in, or 0.
    group: u32,
}

/// The number of the container that a group is, if it is one.
fn container(group: u32) -> Option<u32> {
    (1..UNNAMED_GROUP).contains(&group).then_some(group)
}

/// See the module.
pub(crate) struct Decoder {
    start_boottime_ns: u64,
    tasks: FxHashMap<u32, Task>,
    /// What was copied at the entry of the call that a thread is in.
    entry: FxHashMap<u32, Vec<u8>>,
    objects: Objects,
    meanings: Meanings,
    /// Records that made no sense.
    pub(crate) malformed: u64,
    /// Calls with the replay engine's mark.
    pub(crate) engine_calls: u64,
    /// Calls decoded.
    pub(crate) calls: u64,
    /// Calls that were counted instead.
    pub(crate) aggregated: u64,
    tasks_changed: bool,
    /// Threads that may be gone, see [`Decoder::forget_gone`].
    suspects: FxHashSet<u32>,
    timeline: timeline::State,
    /// Bits of block requests on this kernel.
    pub(crate) block_flags: Vec<(u32, u8)>,
    /// Tasks that got an id and are in a container: not told yet.
    placed: Vec<(TaskId, u32)>,
    /// Of a flight recorder: which containers tasks are in, and when that was told. A dump tells again what its window
    /// has left behind.
    places: Option<FxHashMap<TaskId, (u32, u64)>>,
}

/// Every id that is kept from one record to the next is named here: a flight recorder gives other ids away.
impl Holder for Decoder {
    fn held(&self, keep: &mut dyn FnMut(Ref)) {
        for task in self.tasks.values() {
            keep(Ref::Str(task.comm));
            if let Some(id) = task.id {
                keep(Ref::Task(id));
            }
        }
        for (id, _) in &self.placed {
            keep(Ref::Task(*id));
        }
        self.objects.held(keep);
        self.timeline.held(keep);
    }

    fn forget(&mut self, alive: &dyn Fn(Ref) -> bool) {
        self.objects.forget(alive);
        self.timeline.forget(alive);
        if let Some(places) = &mut self.places {
            places.retain(|id, _| alive(Ref::Task(*id)));
        }
    }
}

impl Decoder {
    pub(crate) fn new(start_boottime_ns: u64) -> Self {
        Self {
            start_boottime_ns,
            tasks: FxHashMap::default(),
            entry: FxHashMap::default(),
            objects: Objects::default(),
            meanings: Meanings::new(),
            malformed: 0,
            engine_calls: 0,
            calls: 0,
            aggregated: 0,
            tasks_changed: true,
            suspects: FxHashSet::default(),
            timeline: timeline::State::default(),
            block_flags: Vec::new(),
            placed: Vec::new(),
            places: None,
        }
    }

    /// What is written is a window of what is decoded.
    pub(crate) fn keep_places(&mut self) {
        self.places = Some(FxHashMap::default());
    }

    /// Which containers tasks are in, as far as it was told before `from_ns` alone.
    pub(crate) fn places_before(&self, from_ns: u64, tick_ns: u32) -> Vec<Event> {
        let t_ns = from_ns + u64::from(tick_ns);
        let places = self.places.iter().flatten().filter(|(_, (_, told_ns))| *told_ns <= from_ns);
        places
            .map(|(task, (container, _))| {
                let kind = ProcessKind::Placed { container: *container };
                Event::Process(Process { t_ns, task: *task, kind })
            })
            .collect()
    }

    /// Tells which containers the tasks are in that got an id.
    fn tell_placed(&mut self, w: &mut TraceWriter, t_ns: u64, push: &mut dyn FnMut(&mut TraceWriter, Event)) {
        for (task, container) in self.placed.drain(..) {
            if let Some(places) = &mut self.places {
                places.insert(task, (container, t_ns));
            }
            push(w, Event::Process(Process { t_ns, task, kind: ProcessKind::Placed { container } }));
        }
    }

    fn rel(&self, boottime_ns: u64) -> u64 {
        boottime_ns.saturating_sub(self.start_boottime_ns)
    }

    /// Calls in flight at the time of a dump, with what else is told of them. They are counted when they return.
    pub(crate) fn in_flight_now(
        &mut self,
        w: &mut TraceWriter,
        slots: &[(Slot, Vec<u8>)],
        now_boottime_ns: u64,
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) {
        let counts = (self.calls, self.engine_calls);
        for (slot, copies) in slots {
            self.in_flight(w, slot, copies, now_boottime_ns, push);
        }
        (self.calls, self.engine_calls) = counts;
    }

    /// The living processes, when they changed since the last call.
    pub(crate) fn changed_tgids(&mut self) -> Option<Vec<u32>> {
        if !std::mem::take(&mut self.tasks_changed) {
            return None;
        }
        let mut tgids: Vec<u32> = self.tasks.values().map(|t| t.tgid).collect();
        tgids.sort_unstable();
        tgids.dedup();
        Some(tgids)
    }

    /// Forgets the threads whose ends were lost: those that the kernel half does not record, and did not at the last
    /// call. To be called when events of processes were lost, with time for what is on its way in between.
    pub(crate) fn forget_gone(&mut self, is_recorded: &dyn Fn(u32) -> bool) {
        let gone: FxHashSet<u32> = self.tasks.keys().copied().filter(|tid| !is_recorded(*tid)).collect();
        for tid in gone.intersection(&self.suspects) {
            self.tasks_changed = true;
            self.entry.remove(tid);
            if let Some(Task { id: Some(task), .. }) = self.tasks.remove(tid) {
                self.timeline.ended(*tid, task, false);
            }
        }
        self.suspects = gone;
    }

    /// Number of recorded threads that have not exited.
    pub(crate) fn alive(&self) -> usize {
        self.tasks.len()
    }

    /// A thread that was there before the recording, or in a container before its container was known.
    pub(crate) fn known(
        &mut self,
        w: &mut TraceWriter,
        member: &Member,
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) {
        let comm = w.comm(&member.comm);
        let start_ns = self.rel(member.start_boottime_ns);
        self.tasks_changed = true;
        let new = Task { tgid: member.tgid, start_ns, comm, id: None, creds: None, group: member.group };
        let task = self.tasks.entry(member.tid).or_insert(new);
        if task.group != member.group {
            task.group = member.group;
            if let (Some(id), Some(container)) = (task.id, container(member.group)) {
                self.placed.push((id, container));
                let now = self.rel(crate::clock::boottime_ns());
                self.tell_placed(w, now, push);
            }
        }
    }

    fn task(&mut self, w: &mut TraceWriter, tid: u32, tgid: u32) -> TaskId {
        let task = self.tasks.entry(tid).or_insert_with(|| {
            // The record of its birth was lost, or it moved in: ask while it lives.
            let comm = std::fs::read(format!("/proc/{tgid}/task/{tid}/comm")).unwrap_or_default();
            Task { tgid, start_ns: 0, comm: w.comm(comm.trim_ascii_end()), id: None, creds: None, group: 0 }
        });
        *task.id.get_or_insert_with(|| {
            let id = w.task(&TaskDef {
                tid: Tid(tid),
                tgid: Tgid(task.tgid),
                comm: task.comm,
                start_ns: task.start_ns,
            });
            self.placed.extend(container(task.group).map(|container| (id, container)));
            id
        })
    }

    fn rename(&mut self, w: &mut TraceWriter, tid: u32, comm: &[u8]) {
        let comm = w.comm(until_nul(comm));
        if let Some(task) = self.tasks.get_mut(&tid)
            && task.comm != comm
        {
            task.comm = comm;
            task.id = None;
        }
    }

    /// Decodes one record; `push` gets the events that it makes.
    pub(crate) fn record(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) {
        let done = match record.first() {
            Some(&kind::SHORT) => crate::raw::long(record).map(|call| self.finish_call(w, &call, &[], push)),
            Some(&kind::CALL) => self.call(w, record, push),
            Some(&kind::AGGREGATE) => self.aggregate(w, record, push),
            Some(&kind::LEVEL) => self.level(w, record, push),
            Some(&kind::ARGS) => self.args(record),
            Some(&kind::FORK) => self.fork(w, record, push),
            Some(&kind::EXEC) => self.exec(w, record, push),
            Some(&kind::EXIT) => self.exit(w, record, push),
            Some(&kind::COMM) => self.comm(w, record),
            Some(&kind::FILE) => self.file(w, record),
            Some(&kind::SOCK) => self.socket(w, record),
            Some(&kind::TCP) => self.tcp(w, record, push),
            Some(&kind::SIGNAL) => self.signal(w, record, push),
            Some(&(kind::JOIN | kind::LEAVE)) => self.join(w, record),
            Some(&kind::USAGE) => self.usage(w, record, push),
            Some(&kind::FAULT) => self.fault(w, record, push),
            Some(&kind::OOM) => self.oom(w, record, push),
            Some(&kind::CAPABILITY) => self.capability(w, record, push),
            Some(&kind::TRAFFIC) => self.traffic(w, record, push),
            Some(&kind::DNS) => self.dns(w, record, push),
            Some(&kind::BLOCK) => self.block(w, record, push),
            Some(&kind::URING) => self.uring(w, record, push),
            _ => None,
        };
        if done.is_none() {
            self.malformed += 1;
        }
        if !self.placed.is_empty() {
            self.tell_placed(w, self.rel(crate::raw::end_ns(record)), push);
        }
    }

    fn args(&mut self, record: &[u8]) -> Option<()> {
        let head: CallArgs = crate::raw::read(record)?;
        let entry = self.entry.entry(head.tid).or_default();
        entry.clear();
        entry.extend_from_slice(&record[size_of::<CallArgs>()..]);
        Some(())
    }

    fn file(&mut self, w: &mut TraceWriter, record: &[u8]) -> Option<()> {
        let file: FileObject = crate::raw::read(record)?;
        let names = record.get(size_of::<FileObject>()..)?.get(..usize::from(file.path_len))?;
        self.objects.file(w, &file, names);
        Some(())
    }

    fn socket(&mut self, w: &mut TraceWriter, record: &[u8]) -> Option<()> {
        let socket: SockObject = crate::raw::read(record)?;
        self.objects.socket(w, &socket);
        Some(())
    }

    /// A call that was in flight when the programs were detached; `tail` is what was copied of its arguments then.
    pub(crate) fn in_flight(
        &mut self,
        w: &mut TraceWriter,
        slot: &Slot,
        tail: &[u8],
        now_boottime_ns: u64,
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) {
        let mut call = slot.call;
        call.wait_cpu_ns = slot.wait_cpu_ns;
        call.blocked_ns = slot.blocked_ns;
        call.flags |= call_flag::NO_EXIT;
        call.dur_ns = now_boottime_ns.saturating_sub(call.t_ns);
        self.finish_call(w, &call, tail, push);
        self.tell_placed(w, self.rel(now_boottime_ns), push);
    }

    fn call(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) -> Option<()> {
        let call: Call = crate::raw::read(record)?;
        self.finish_call(w, &call, &record[size_of::<Call>()..], push);
        Some(())
    }

    fn finish_call(
        &mut self,
        w: &mut TraceWriter,
        call: &Call,
        tail: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) {
        self.calls += 1;
        let task = self.task(w, call.tid, call.tgid);
        let sysno = Sysno { abi: arch::HOST.table(call.abi), nr: call.nr };
        let unknown = Meaning::unknown();
        let meaning = self.meanings.get(sysno).unwrap_or(&unknown);
        let mut flags = call_flags(call.flags);
        if flags.contains(SyscallFlags::ENGINE) {
            self.engine_calls += 1;
        }
        let mut details = Vec::new();
        let mut creds = [None; 2];
        let entry = if call.flags & call_flag::HAS_ARGS == 0 { None } else { self.entry.get(&call.tid) };
        if entry.is_some() || !tail.is_empty() {
            creds = [entry.and_then(|e| timeline::creds(e)), timeline::creds(tail)];
            let items =
                details::merge(entry.map(|e| details::items(e)).unwrap_or_default(), details::items(tail));
            // A copy that failed at entry and was not made good at exit, or was cut.
            if items.iter().any(|i| i.head.fault != 0) {
                flags = flags.union(SyscallFlags::TRUNCATED);
            }
            let mut context = Context { writer: w, objects: &self.objects };
            details = details::decode(&items, meaning.args, &mut context);
        }
        if call.flags & call_flag::HAS_ARGS != 0 && entry.is_none() {
            // The record with the entry's copies was lost.
            flags = flags.union(SyscallFlags::TRUNCATED);
        }
        if let Some(arg) = meaning.time_arg
            && call.flags & call_flag::HAS_TIME != 0
            && time_counts(meaning.name, &call.args)
        {
            let at = details.partition_point(|d| d.arg().is_some_and(|of| of < arg));
            details.insert(at, Detail::Time { arg, ns: call.time_ns });
        }
        if call.flags & call_flag::CREATED != 0 {
            details.push(Detail::Created);
        }
        if call.run_wait_ns >= NOTABLE_WAIT_NS {
            details.push(Detail::CpuWait { ns: call.run_wait_ns });
        }
        let (args, args_mask) = kept(meaning, &call.args);
        let object = self.objects.get(call.file);
        let loads = call.args[2] & PROT_EXEC != 0
            && call.ret >= 0
            && call.flags & call_flag::NO_EXIT == 0
            && meaning.name == "mmap";
        let event = Syscall {
            t_ns: self.rel(call.t_ns),
            duration_ns: call.dur_ns,
            task,
            sysno,
            ret: call.ret,
            flags,
            args,
            args_mask,
            object,
            details,
            wait_cpu_ns: call.wait_cpu_ns,
            blocked_ns: call.blocked_ns,
        };
        push(w, Event::Syscall(event));
        if let [Some(old), Some(new)] = creds {
            self.identity(w, call, task, old, new, push);
        }
        if loads && let Some(object) = object {
            self.load(w, call, task, object, push);
        }
    }

    /// Calls that were counted.
    fn aggregate(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) -> Option<()> {
        let AggregateRecord { key, value, .. } = crate::raw::read(record)?;
        let task = self.task(w, key.tid, key.tgid);
        let flags = call_flags(u16::from(key.flags));
        if flags.contains(SyscallFlags::ENGINE) {
            self.engine_calls += value.count;
        }
        self.aggregated += value.count;
        let from_ns = u64::from(key.window) * WINDOW_NS;
        let used = value.buckets.iter().rposition(|n| *n != 0).map_or(0, |last| last + 1);
        let event = Aggregate {
            t_ns: self.rel(from_ns + WINDOW_NS),
            from_ns: self.rel(from_ns),
            cpu: u32::from(key.cpu),
            task,
            sysno: Sysno { abi: arch::HOST.table(key.abi), nr: key.nr },
            flags,
            fd: (key.fd >= 0).then_some(key.fd),
            object: self.objects.get(key.file),
            errno: u32::from(key.errno),
            count: value.count,
            duration_ns: value.dur_ns,
            histogram: value.buckets[..used].iter().map(|n| u64::from(*n)).collect(),
        };
        push(w, Event::Aggregate(event));
        Some(())
    }

    fn level(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) -> Option<()> {
        let change: LevelChange = crate::raw::read(record)?;
        let (from, to) = (fidelity(change.from)?, fidelity(change.to)?);
        push(w, Event::Fidelity(Fidelity { t_ns: self.rel(change.t_ns), cpu: change.cpu, from, to }));
        Some(())
    }

    fn fork(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) -> Option<()> {
        let fork: Fork = crate::raw::read(record)?;
        self.tasks_changed = true;
        let parent = self.task(w, fork.tid, fork.tgid);
        let creds = self.tasks.get(&fork.tid).and_then(|t| t.creds);
        let comm = w.comm(until_nul(&fork.comm));
        self.tasks.insert(
            fork.child_tid,
            Task {
                tgid: fork.child_tgid,
                start_ns: self.rel(fork.start_ns).max(1),
                comm,
                id: None,
                creds,
                group: fork.group,
            },
        );
        let child = self.task(w, fork.child_tid, fork.child_tgid);
        push(
            w,
            Event::Process(Process {
                t_ns: self.rel(fork.t_ns),
                task: parent,
                kind: ProcessKind::Fork { child },
            }),
        );
        if fork.outside != 0 {
            self.tasks.remove(&fork.child_tid);
        }
        Some(())
    }

    fn exec(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) -> Option<()> {
        // The path is as long as it is; what is missing of the structure is 0.
        let mut whole = [0; size_of::<Exec>()];
        record.get(..offset_of!(Exec, path))?;
        let len = record.len().min(whole.len());
        whole[..len].copy_from_slice(&record[..len]);
        let exec: Exec = crate::raw::read(&whole)?;
        if exec.old_tid != exec.tid {
            // The thread takes over the leader's id; the leader's exit was recorded before.
            if let Some(mut task) = self.tasks.remove(&exec.old_tid) {
                task.id = None;
                self.tasks.insert(exec.tid, task);
            }
            if let Some(entry) = self.entry.remove(&exec.old_tid) {
                self.entry.insert(exec.tid, entry);
            }
        }
        self.rename(w, exec.tid, &exec.comm);
        let task = self.task(w, exec.tid, exec.tgid);
        let path = w.str(until_nul(&exec.path));
        let (argv, argc) = self.argv(w, exec.tid).unwrap_or_default();
        self.timeline.executed(exec.tgid);
        push(
            w,
            Event::Process(Process {
                t_ns: self.rel(exec.t_ns),
                task,
                kind: ProcessKind::Exec { path, old_tid: Tid(exec.old_tid), argv, argc },
            }),
        );
        self.executed_as(w, &exec, task, push);
        Some(())
    }

    /// The argument vector that was copied at the entry of the execve that a task is in.
    fn argv(&mut self, w: &mut TraceWriter, tid: u32) -> Option<(Vec<StrId>, u32)> {
        let items = details::items(self.entry.get(&tid)?);
        let item = items.iter().find(|i| i.head.op == op::ARGV)?;
        let (words, count) = details::words(item.data)?;
        Some((w.argv(words), count))
    }

    fn exit(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) -> Option<()> {
        let exit: Exit = crate::raw::read(record)?;
        let task = self.task(w, exit.tid, exit.tgid);
        push(
            w,
            Event::Process(Process {
                t_ns: self.rel(exit.t_ns),
                task,
                kind: ProcessKind::Exit { status: exit.code, group_dead: exit.group_dead != 0 },
            }),
        );
        self.tasks.remove(&exit.tid);
        self.timeline.ended(exit.tid, task, exit.group_dead != 0);
        self.tasks_changed = true;
        self.entry.remove(&exit.tid);
        Some(())
    }

    fn join(&mut self, w: &mut TraceWriter, record: &[u8]) -> Option<()> {
        let join: Join = crate::raw::read(record)?;
        self.tasks_changed = true;
        if join.kind == kind::LEAVE {
            let task = self.known_task(w, join.tid);
            self.tasks.remove(&join.tid);
            if let Some(task) = task {
                self.timeline.ended(join.tid, task, false);
            }
        } else {
            let comm = w.comm(until_nul(&join.comm));
            let start_ns = self.rel(join.start_ns);
            let group = join.group;
            self.tasks
                .insert(join.tid, Task { tgid: join.tgid, start_ns, comm, id: None, creds: None, group });
        }
        Some(())
    }

    /// A task that may have ended: only if it is known now.
    fn known_task(&mut self, w: &mut TraceWriter, tid: u32) -> Option<TaskId> {
        let tgid = self.tasks.get(&tid)?.tgid;
        Some(self.task(w, tid, tgid))
    }

    fn tcp(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) -> Option<()> {
        let e: TcpEvent = crate::raw::read(record)?;
        let cookie = self.objects.cookie(e.sk, e.cookie, e.ino);
        let (local, peer) = both_ends(&self.objects.tuple(e.sk, &e.tuple));
        let kind = match e.what {
            tcp::STATE => {
                ConnectionKind::State { old: state(e.old)?, new: state(e.new)?, error: e.error as u16 }
            }
            tcp::RETRANSMIT => ConnectionKind::Retransmit,
            tcp::RESET_SENT => ConnectionKind::ResetSent,
            tcp::RESET_RECEIVED => ConnectionKind::ResetReceived,
            tcp::DESTROY => {
                self.objects.destroyed(e.sk);
                ConnectionKind::Closed {
                    bytes_sent: e.sent,
                    bytes_received: e.received,
                    srtt_us: e.srtt_us,
                    retransmits: e.retransmits,
                }
            }
            tcp::SAMPLE => ConnectionKind::Sample {
                srtt_us: e.srtt_us,
                cwnd: e.cwnd,
                send_window: e.send_window,
                in_flight: e.in_flight,
                retransmits: e.retransmits,
                bytes_sent: e.sent,
                bytes_received: e.received,
            },
            _ => return None,
        };
        let task = self.known_task(w, e.tid);
        push(w, Event::Connection(Connection { t_ns: self.rel(e.t_ns), cookie, task, local, peer, kind }));
        Some(())
    }

    fn signal(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) -> Option<()> {
        let s: SignalEvent = crate::raw::read(record)?;
        let sender = if s.sender == 0 { None } else { self.known_task(w, s.sender) };
        // A signal may still reach a task that has exited (its parent has not waited yet): that is no event.
        if let Some(task) = self.known_task(w, s.tid) {
            push(
                w,
                Event::Signal(Signal {
                    t_ns: self.rel(s.t_ns),
                    task,
                    signo: u32::from(s.signo),
                    code: s.code,
                    sender,
                    delivered: s.delivered != 0,
                }),
            );
        }
        Some(())
    }

    fn comm(&mut self, w: &mut TraceWriter, record: &[u8]) -> Option<()> {
        let comm: Comm = crate::raw::read(record)?;
        self.rename(w, comm.tid, &comm.comm);
        Some(())
    }
}

fn call_flags(raw: u16) -> SyscallFlags {
    [
        (call_flag::NO_ENTER, SyscallFlags::NO_ENTER),
        (call_flag::NO_EXIT, SyscallFlags::NO_EXIT),
        (call_flag::ENGINE, SyscallFlags::ENGINE),
        (call_flag::TRUNCATED, SyscallFlags::TRUNCATED),
    ]
    .into_iter()
    .filter(|(bit, _)| raw & bit != 0)
    .fold(SyscallFlags::default(), |set, (_, flag)| set.union(flag))
}

fn fidelity(level: u8) -> Option<FidelityLevel> {
    Some(match u32::from(level) {
        level::FULL => FidelityLevel::Full,
        level::NO_ARGUMENTS => FidelityLevel::NoArguments,
        level::AGGREGATED => FidelityLevel::Aggregated,
        _ => return None,
    })
}

/// `include/net/tcp_states.h`.
fn state(raw: u8) -> Option<TcpState> {
    Some(match raw {
        1 => TcpState::Established,
        2 => TcpState::SynSent,
        3 => TcpState::SynRecv,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        6 => TcpState::TimeWait,
        7 => TcpState::Close,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        10 => TcpState::Listen,
        11 => TcpState::Closing,
        12 => TcpState::NewSynRecv,
        _ => return None,
    })
}

pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}
