//! Kernel records → events of the trace: who is who, what is what.
//!
//! Owns the dictionary side of a recording: which task a thread id means now, which object a file identity means
//! now. Records come in order of their end.

mod calls;
mod connections;
mod dns;
mod life;
mod programs;
mod states;
mod timeline;

use crate::meaning::Meanings;
use crate::objects::Objects;
use crate::origin::{Came, Groups};
use crate::target::Member;
use ctrace_abi::{Creds, FileObject, Join, SockObject, UNNAMED_GROUP, WINDOW_NS, kind};
use ctrace_format::{
    Detail, Event, Holder, Origin, Process, ProcessKind, Ref, StrId, TaskDef, TaskId, Tgid, Tid, TraceWriter,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;
use std::collections::hash_map::Entry;

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
    came: Came,
}

/// The number of the container that a group is, if it is one.
fn container(group: u32) -> Option<u32> {
    (1..UNNAMED_GROUP).contains(&group).then_some(group)
}

/// See the module.
pub(crate) struct Decoder {
    start_boottime_ns: u64,
    tasks: FxHashMap<u32, Task>,
    /// What was copied at the entry of the call that a thread is in, where that was much.
    entry: FxHashMap<u32, Vec<u8>>,
    /// When threads moved into the scope, where they did.
    joined: FxHashMap<u32, u64>,
    /// What the kernel says of the program that a thread's call has begun.
    executed: FxHashMap<u32, programs::Executed>,
    objects: Objects,
    meanings: Meanings,
    /// Empty; its memory is for the details of the next call.
    details: Vec<Detail>,
    /// Records that made no sense.
    pub(crate) malformed: u64,
    /// Calls with the replay engine's mark.
    pub(crate) engine_calls: u64,
    /// Calls decoded.
    pub(crate) calls: u64,
    /// Calls that were counted instead.
    pub(crate) aggregated: u64,
    tasks_changed: bool,
    /// Whether the kernel half records a thread now.
    is_recorded: Box<dyn Fn(u32) -> bool + Send>,
    /// When the event of the record that is decoded was complete.
    now_ns: u64,
    /// When the recorder was told to stop, `CLOCK_BOOTTIME`; `u64::MAX`: not yet.
    pub(crate) stop_ns: u64,
    /// Processes that ended a short while ago.
    dead: FxHashSet<u32>,
    /// The child that waits to become the command, until it executes that.
    held: Option<u32>,
    /// Threads that may be gone, see [`Decoder::forget_gone`].
    suspects: FxHashSet<u32>,
    timeline: timeline::State,
    /// Bits of block requests on this kernel.
    pub(crate) block_flags: Vec<(u32, u8)>,
    /// Names of the rules of the fault plan of a replay.
    pub(crate) rules: Vec<String>,
    /// Tasks that got an id and are in a container, or came from elsewhere: not told yet.
    placed: Vec<(TaskId, ProcessKind)>,
    /// Of a flight recorder: what was told of tasks so, and when. A dump tells again what its window has left behind.
    places: Option<FxHashMap<TaskId, Vec<(ProcessKind, u64)>>>,
    /// Where the tasks of the scope's groups come from.
    begun: Groups,
    /// The groups of the scope are containers: of a task in one that has no number it is not known whose it is.
    has_containers: bool,
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
    /// `is_recorded`: whether the kernel half records a thread at the time of the question.
    pub(crate) fn new(start_boottime_ns: u64, is_recorded: impl Fn(u32) -> bool + Send + 'static) -> Self {
        Self {
            start_boottime_ns,
            is_recorded: Box::new(is_recorded),
            now_ns: 0,
            stop_ns: u64::MAX,
            tasks: FxHashMap::default(),
            entry: FxHashMap::default(),
            joined: FxHashMap::default(),
            executed: FxHashMap::default(),
            objects: Objects::default(),
            meanings: Meanings::new(),
            details: Vec::new(),
            malformed: 0,
            engine_calls: 0,
            calls: 0,
            aggregated: 0,
            tasks_changed: true,
            dead: FxHashSet::default(),
            held: None,
            suspects: FxHashSet::default(),
            timeline: timeline::State::default(),
            block_flags: Vec::new(),
            rules: Vec::new(),
            placed: Vec::new(),
            places: None,
            begun: Groups::default(),
            has_containers: false,
        }
    }

    /// The groups of the scope are containers.
    pub(crate) fn follow_containers(&mut self) {
        self.has_containers = true;
    }

    /// What the members that are known are, in a group that was there before the recording: something runs in it.
    pub(crate) fn was_there(&mut self, group: u32, outsiders: &BTreeSet<u32>) {
        self.begun.begins(group);
        for task in self.tasks.values_mut().filter(|task| outsiders.contains(&task.tgid)) {
            task.came.origin = Some(Origin::Outside);
        }
    }

    /// This process is not the command yet: it is none of the scope's until it executes a program.
    pub(crate) fn hold(&mut self, pid: Option<u32>) {
        self.held = pid;
    }

    /// What is written is a window of what is decoded.
    pub(crate) fn keep_places(&mut self) {
        self.places = Some(FxHashMap::default());
    }

    /// Which containers tasks are in, as far as it was told before `from_ns` alone.
    pub(crate) fn places_before(&self, from_ns: u64, tick_ns: u32) -> Vec<Event> {
        let t_ns = from_ns + u64::from(tick_ns);
        let all =
            self.places.iter().flatten().flat_map(|(task, told)| told.iter().map(move |told| (task, told)));
        let places = all.filter(|(_, (_, told_ns))| *told_ns <= from_ns);
        places
            .map(|(task, (kind, _))| Event::Process(Process { t_ns, task: *task, kind: kind.clone() }))
            .collect()
    }

    /// Tells which containers the tasks are in that got an id, and where they come from.
    fn tell_placed(
        &mut self,
        w: &mut TraceWriter,
        t_ns: u64,
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) {
        for (task, kind) in self.placed.drain(..) {
            if let Some(places) = &mut self.places {
                let told = places.entry(task).or_default();
                let is_same =
                    |other: &ProcessKind| std::mem::discriminant(other) == std::mem::discriminant(&kind);
                told.retain(|(other, _)| !is_same(other));
                told.push((kind.clone(), t_ns));
            }
            push(w, &Event::Process(Process { t_ns, task, kind }));
        }
    }

    fn rel(&self, boottime_ns: u64) -> u64 {
        boottime_ns.saturating_sub(self.start_boottime_ns)
    }

    /// The living processes, when they changed since the last call.
    pub(crate) fn changed_tgids(&mut self) -> Option<Vec<u32>> {
        if !std::mem::take(&mut self.tasks_changed) {
            return None;
        }
        let held = self.held;
        let mut tgids: Vec<u32> =
            self.tasks.values().map(|t| t.tgid).filter(|tgid| held != Some(*tgid)).collect();
        tgids.sort_unstable();
        tgids.dedup();
        Some(tgids)
    }

    /// Forgets the threads whose ends were lost: those that the kernel half does not record, and did not at the last
    /// call. To be called when events of processes were lost, with time for what is on its way in between.
    pub(crate) fn forget_gone(&mut self) {
        let is_recorded = &self.is_recorded;
        let gone: FxHashSet<u32> = self.tasks.keys().copied().filter(|tid| !is_recorded(*tid)).collect();
        for tid in gone.intersection(&self.suspects) {
            self.tasks_changed = true;
            self.entry.remove(tid);
            self.executed.remove(tid);
            if let Some(Task { id: Some(task), .. }) = self.tasks.remove(tid) {
                self.timeline.ended(*tid, task, self.now_ns, false);
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
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) {
        let start_ns = self.rel(member.start_boottime_ns);
        if self.timeline.ended_at(member.tid).is_some_and(|(_, ended_ns)| start_ns <= ended_ns) {
            // It ended after it was found, and the record of that was faster.
            return;
        }
        let comm = w.comm(&member.comm);
        self.tasks_changed = true;
        let is_new = !self.tasks.contains_key(&member.tid);
        let came = Came {
            origin: self
                .begun
                .arrival(member.group)
                .filter(|origin| *origin == Origin::Runtime && is_new && member.is_runtime),
            undecided: false,
        };
        let new =
            Task { tgid: member.tgid, start_ns, comm, id: None, creds: None, group: member.group, came };
        let task = self.tasks.entry(member.tid).or_insert(new);
        if task.group != member.group {
            task.group = member.group;
            if task.came == Came::default() && !member.is_runtime {
                // It has executed the container's program already, when nobody knew whose it was.
                self.begun.begins(member.group);
            } else if member.is_runtime && !task.came.undecided && task.came.origin.is_none() {
                // What it did was told before it was known how it came in.
                let arrival = self.begun.arrival(member.group);
                task.came.origin = arrival.filter(|origin| *origin == Origin::Runtime);
            }
            self.begun.decide(&mut task.came, member.group);
            if let (Some(id), Some(container)) = (task.id, container(member.group)) {
                self.placed.push((id, ProcessKind::Placed { container }));
                self.placed.extend(task.came.origin.map(|origin| (id, ProcessKind::Origin { origin })));
                let now = self.rel(crate::clock::boottime_ns());
                self.tell_placed(w, now, push);
            }
        }
    }

    /// The task that had this id before, when the record that is decoded is of that one: what was counted, and what
    /// waited in a full ring, comes after its task has ended, and the id may be another's by then.
    fn earlier(&self, tid: u32) -> Option<TaskId> {
        /// The kernel's time of a birth and that of a record are of two clocks.
        const CLOCKS_DIFFER_NS: u64 = 1_000_000;
        let (id, ended_ns) = self.timeline.ended_at(tid)?;
        let is_meant = match self.tasks.get(&tid) {
            Some(task) => self.now_ns.saturating_add(CLOCKS_DIFFER_NS) < task.start_ns,
            // Counts are of an interval, in which the task ended.
            None => self.now_ns <= ended_ns.saturating_add(WINDOW_NS) || !(self.is_recorded)(tid),
        };
        is_meant.then_some(id)
    }

    /// The task of a record. One that was not known is alive if the kernel half records it; if not, it has ended, and
    /// nothing would tell of its end any more.
    fn task(&mut self, w: &mut TraceWriter, tid: u32, tgid: u32) -> TaskId {
        if let Some(id) = self.earlier(tid) {
            return id;
        }
        let task = match self.tasks.entry(tid) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                // The record of its birth was lost, or it moved in: ask while it lives.
                let comm = std::fs::read(format!("/proc/{tgid}/task/{tid}/comm")).unwrap_or_default();
                let comm = w.comm(comm.trim_ascii_end());
                if !(self.is_recorded)(tid) {
                    let id = w.task(&TaskDef { tid: Tid(tid), tgid: Tgid(tgid), comm, start_ns: 0 });
                    self.timeline.ended(tid, id, self.now_ns, false);
                    return id;
                }
                self.tasks_changed = true;
                unknown.insert(Task {
                    tgid,
                    start_ns: 0,
                    comm,
                    id: None,
                    creds: None,
                    group: 0,
                    came: Came::default(),
                })
            }
        };
        *task.id.get_or_insert_with(|| {
            let id = w.task(&TaskDef {
                tid: Tid(tid),
                tgid: Tgid(task.tgid),
                comm: task.comm,
                start_ns: task.start_ns,
            });
            let place = container(task.group).map(|container| ProcessKind::Placed { container });
            let origin = task.came.origin.map(|origin| ProcessKind::Origin { origin });
            self.placed.extend([place, origin].into_iter().flatten().map(|kind| (id, kind)));
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
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) {
        let end_ns = crate::raw::end_ns(record);
        self.now_ns = self.rel(end_ns.min(self.stop_ns));
        let done = match record.first() {
            _ if end_ns > self.stop_ns => self.after_stop(w, record, self.stop_ns, push),
            Some(&kind::SHORT) => {
                crate::raw::long(record).map(|(call, tail)| self.finish_call(w, &call, tail, push))
            }
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
            Some(&(kind::JOIN | kind::LEAVE)) => {
                if let Some(Join { kind: kind::JOIN, tid, t_ns, .. }) = crate::raw::read(record) {
                    self.joined.insert(tid, self.rel(t_ns));
                }
                self.join(w, record)
            }
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
            self.tell_placed(w, self.now_ns, push);
        }
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

    /// A task that may have ended: only if it is known now.
    fn known_task(&mut self, w: &mut TraceWriter, tid: u32) -> Option<TaskId> {
        let tgid = self.tasks.get(&tid)?.tgid;
        Some(self.task(w, tid, tgid))
    }
}

pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Record;
    use ctrace_abi::{AggregateKey, AggregateRecord, BUCKETS, Call, Exit, WINDOW_NS, call_flag};
    use ctrace_format::{Abi, Fault, Header, Host, InjectionNote, Scope, Sink, SyscallFlags};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Nowhere;

    impl std::io::Write for Nowhere {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Nowhere {
        fn sync(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn writer() -> TraceWriter {
        let header = Header {
            tick_ns: 1,
            start_boottime_ns: 0,
            start_realtime_ns: 0,
            abi: Abi::X86_64,
            scope: Scope::Pid { pid: 1 },
            host: Host::default(),
            writer: String::new(),
            blind: Vec::new(),
            redaction: String::new(),
        };
        TraceWriter::over(Box::new(Nowhere), &header).unwrap()
    }

    fn bytes<T: Record>(record: &T) -> &[u8] {
        // SAFETY: records are integers without padding.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast(), size_of::<T>()) }
    }

    const TID: u32 = 4_000_000;
    const MS: u64 = 1_000_000;

    fn call(t_ns: u64) -> Call {
        Call { kind: kind::CALL, tid: TID, tgid: TID, t_ns, ..Call::default() }
    }

    fn exit(t_ns: u64) -> Exit {
        Exit { kind: kind::EXIT, group_dead: 1, reserved: 0, tid: TID, t_ns, tgid: TID, code: 0 }
    }

    fn join(t_ns: u64) -> Join {
        let comm = *b"new\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let (reserved, group) = ([0; 3], 0);
        Join { kind: kind::JOIN, reserved, tid: TID, t_ns, tgid: TID, group, start_ns: t_ns, comm }
    }

    /// The task of a record's call.
    fn task_of<T: Record>(decoder: &mut Decoder, w: &mut TraceWriter, record: &T) -> Option<TaskId> {
        let mut task = None;
        decoder.record(w, bytes(record), &mut |_, event| {
            if let Event::Syscall(call) = event {
                task = Some(call.task);
            }
        });
        task
    }

    #[test]
    fn what_comes_late_is_of_the_task_that_has_ended_which_stays_so() {
        let mut w = writer();
        let recorded = Arc::new(AtomicBool::new(true));
        let in_table = Arc::clone(&recorded);
        let mut decoder = Decoder::new(0, move |_| in_table.load(Ordering::Relaxed));
        let member = Member {
            tid: TID,
            tgid: TID,
            comm: b"old".to_vec(),
            group: 0,
            start_boottime_ns: 0,
            faults: [0; 2],
            is_runtime: false,
        };
        decoder.known(&mut w, &member, &mut |_, _| {});
        let old = task_of(&mut decoder, &mut w, &call(10 * MS));
        assert_eq!(decoder.alive(), 1);
        recorded.store(false, Ordering::Relaxed);
        task_of(&mut decoder, &mut w, &exit(20 * MS));
        assert_eq!(decoder.alive(), 0);
        // Late: what was counted of it, and that it had been found.
        assert_eq!(task_of(&mut decoder, &mut w, &call(15 * MS)), old);
        assert_eq!(task_of(&mut decoder, &mut w, &call(900 * MS)), old, "as long as nobody else has its id");
        decoder.known(&mut w, &member, &mut |_, _| {});
        assert_eq!(decoder.alive(), 0);

        // Another gets its id.
        recorded.store(true, Ordering::Relaxed);
        task_of(&mut decoder, &mut w, &join(1_000 * MS));
        let new = task_of(&mut decoder, &mut w, &call(1_010 * MS));
        assert!(new.is_some() && new != old);
        assert_eq!(task_of(&mut decoder, &mut w, &call(16 * MS)), old, "before the other was born");
        assert_eq!(decoder.alive(), 1);
        recorded.store(false, Ordering::Relaxed);
        task_of(&mut decoder, &mut w, &exit(1_020 * MS));
        assert_eq!(decoder.alive(), 0);
    }

    #[test]
    fn a_task_that_nobody_has_told_of_lives_if_the_kernel_half_records_it() {
        let mut w = writer();
        let mut decoder = Decoder::new(0, |_| false);
        let ghost = task_of(&mut decoder, &mut w, &call(10 * MS));
        assert_eq!((ghost.is_some(), decoder.alive()), (true, 0));
        assert_eq!(task_of(&mut decoder, &mut w, &call(11 * MS)), ghost);
        let mut decoder = Decoder::new(0, |_| true);
        task_of(&mut decoder, &mut w, &call(10 * MS));
        assert_eq!(decoder.alive(), 1);
    }

    #[test]
    fn what_is_complete_after_the_stop_is_under_way_at_it_or_not_told() {
        let mut w = writer();
        let mut decoder = Decoder::new(0, |_| true);
        task_of(&mut decoder, &mut w, &join(1));
        decoder.stop_ns = 100;
        let mut told = Vec::new();
        let mut see = |record: &[u8]| {
            decoder.record(&mut w, record, &mut |_, event| {
                if let Event::Syscall(call) = event {
                    told.push((call.t_ns, call.duration_ns, call.ret, call.flags));
                }
            });
        };
        let lasting = |t_ns, dur_ns| Call { dur_ns, ret: 7, ..call(t_ns) };
        for call in [lasting(50, 50), lasting(60, 41), lasting(101, 3)] {
            see(bytes(&call));
        }
        see(bytes(&exit(110)));
        let returned = (50, 50, 7, SyscallFlags::default());
        assert_eq!(told, [returned, (60, 40, 0, SyscallFlags::NO_EXIT)]);
        assert_eq!(decoder.alive(), 1, "its end was seen later");
    }

    #[test]
    fn a_note_of_the_replay_is_an_injection_and_a_call_of_the_engine() {
        let mut w = writer();
        let mut decoder = Decoder::new(0, |_| true);
        decoder.rules = vec!["first".to_owned(), "slow".to_owned()];
        let fault = Fault { exit_ns: 300 * MS, ..Fault::default() };
        let note = InjectionNote { rule: 1, nr: 7, nth: 3, fault };
        let [which, nth, done, enter_ns, exit_ns] = note.arguments();
        let tag = ctrace_abi::ANSWER_TAG | ctrace_abi::ANSWER_NOTE;
        let args = [which, nth, done, enter_ns, exit_ns, tag];
        let call = Call { flags: call_flag::FILTERED, args, ..call(10 * MS) };
        let mut told = Vec::new();
        decoder.record(&mut w, bytes(&call), &mut |_, event| match event {
            Event::Injection(hit) => {
                told.push((hit.t_ns, hit.rule, hit.name, hit.sysno.nr, hit.nth, hit.fault));
            }
            Event::Syscall(call) => {
                let engine = SyscallFlags::ENGINE.union(SyscallFlags::FILTERED);
                assert_eq!((call.flags, call.ret), (engine, 0));
            }
            _ => {}
        });
        assert_eq!(told, [(10 * MS, 1, w.str(b"slow"), 7, 3, fault)]);
        assert_eq!(decoder.engine_calls, 1);
    }

    #[test]
    fn counts_of_a_window_end_with_the_recording() {
        let mut w = writer();
        let mut decoder = Decoder::new(0, |_| true);
        task_of(&mut decoder, &mut w, &join(1));
        decoder.stop_ns = WINDOW_NS + 40;
        let mut told = Vec::new();
        for window in [0, 1, 2] {
            let key = AggregateKey { window, tid: TID, tgid: TID, ..AggregateKey::default() };
            let value = ctrace_abi::Aggregate { count: 5, dur_ns: 0, buckets: [0; BUCKETS] };
            let t_ns = u64::from(window + 1) * WINDOW_NS;
            let record = AggregateRecord { kind: kind::AGGREGATE, reserved: [0; 7], t_ns, key, value };
            decoder.record(&mut w, bytes(&record), &mut |_, event| {
                if let Event::Aggregate(counts) = event {
                    told.push((counts.from_ns, counts.t_ns, counts.count));
                }
            });
        }
        assert_eq!(told, [(0, WINDOW_NS, 5), (WINDOW_NS, WINDOW_NS + 40, 5)]);
    }

    #[test]
    fn a_process_ends_once_though_its_last_threads_end_at_the_same_moment() {
        let mut w = writer();
        let mut decoder = Decoder::new(0, |_| true);
        let mut ends = Vec::new();
        let mut see = |record: &[u8]| {
            decoder.record(&mut w, record, &mut |_, event| {
                if let Event::Process(Process { kind: ProcessKind::Exit { group_dead, .. }, .. }) = event {
                    ends.push(*group_dead);
                }
            });
        };
        let thread = |t_ns| Exit { tid: TID + 1, ..exit(t_ns) };
        see(bytes(&join(1)));
        see(bytes(&thread(10)));
        see(bytes(&exit(11)));
        // Another gets its id.
        see(bytes(&join(20)));
        see(bytes(&exit(30)));
        assert_eq!(ends, [true, false, true]);
    }
}
