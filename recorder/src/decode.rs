//! Kernel records → events of the trace: who is who, what is what.
//!
//! Owns the dictionary side of a recording: which task a thread id means now, which object a file identity means
//! now. Records come in order of their end.

use ctrace_abi::{Call, Comm, Exec, Exit, Fork, Slot, abi, call_flag, kind};
use ctrace_format::{
    Abi, Event, Process, ProcessKind, StrId, Syscall, SyscallFlags, Sysno, TaskDef, TaskId, Tgid, Tid,
    TraceWriter,
};
use rustc_hash::FxHashMap;

/// A thread as it is now.
struct Task {
    tgid: u32,
    start_ns: u64,
    comm: StrId,
    id: Option<TaskId>,
}

/// See the module.
pub(crate) struct Decoder {
    start_boottime_ns: u64,
    tasks: FxHashMap<u32, Task>,
    /// What was copied at the entry of the call that a thread is in.
    entry: FxHashMap<u32, (u64, Vec<u8>)>,
    /// Records that made no sense.
    pub(crate) malformed: u64,
    /// Calls with the replay engine's mark.
    pub(crate) engine_calls: u64,
    /// Calls decoded.
    pub(crate) calls: u64,
    redacted: std::collections::BTreeMap<String, u64>,
}

impl Decoder {
    pub(crate) fn new(start_boottime_ns: u64) -> Self {
        Self {
            start_boottime_ns,
            tasks: FxHashMap::default(),
            entry: FxHashMap::default(),
            malformed: 0,
            engine_calls: 0,
            calls: 0,
            redacted: std::collections::BTreeMap::new(),
        }
    }

    fn rel(&self, boottime_ns: u64) -> u64 {
        boottime_ns.saturating_sub(self.start_boottime_ns)
    }

    /// Redactions by rule.
    pub(crate) fn redacted(&self) -> std::collections::BTreeMap<String, u64> {
        self.redacted.clone()
    }

    /// Number of recorded threads that have not exited.
    pub(crate) fn alive(&self) -> usize {
        self.tasks.len()
    }

    /// A thread that was there before the recording.
    pub(crate) fn known(&mut self, w: &mut TraceWriter, tid: u32, tgid: u32, comm: &[u8]) {
        let comm = w.str(comm);
        self.tasks.entry(tid).or_insert(Task { tgid, start_ns: 0, comm, id: None });
    }

    fn task(&mut self, w: &mut TraceWriter, tid: u32, tgid: u32) -> TaskId {
        let task = self.tasks.entry(tid).or_insert_with(|| {
            // The record of its birth was lost, or it moved in: ask while it lives.
            let comm = std::fs::read(format!("/proc/{tgid}/task/{tid}/comm")).unwrap_or_default();
            Task { tgid, start_ns: 0, comm: w.str(comm.trim_ascii_end()), id: None }
        });
        *task.id.get_or_insert_with(|| {
            w.task(&TaskDef {
                tid: Tid(tid),
                tgid: Tgid(task.tgid),
                comm: task.comm,
                start_ns: task.start_ns,
            })
        })
    }

    fn rename(&mut self, w: &mut TraceWriter, tid: u32, comm: &[u8]) {
        let comm = w.str(until_nul(comm));
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
            Some(&kind::CALL) => self.call(w, record, push),
            Some(&kind::ARGS) => self.args(record),
            Some(&kind::FORK) => self.fork(w, record, push),
            Some(&kind::EXEC) => self.exec(w, record, push),
            Some(&kind::EXIT) => self.exit(w, record, push),
            Some(&kind::COMM) => self.comm(w, record),
            _ => None,
        };
        if done.is_none() {
            self.malformed += 1;
        }
    }

    fn args(&mut self, record: &[u8]) -> Option<()> {
        let head: ctrace_abi::CallArgs = crate::raw::read(record)?;
        self.entry.insert(head.tid, (head.t_ns, record[size_of::<ctrace_abi::CallArgs>()..].to_vec()));
        Some(())
    }

    /// A call that was in flight when the programs were detached.
    pub(crate) fn in_flight(
        &mut self,
        w: &mut TraceWriter,
        slot: &Slot,
        now_boottime_ns: u64,
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) {
        let mut call = slot.call;
        call.flags |= call_flag::NO_EXIT;
        call.dur_ns = now_boottime_ns.saturating_sub(call.t_ns);
        self.finish_call(w, &call, &[], push);
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
        _tail: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) {
        self.calls += 1;
        let task = self.task(w, call.tid, call.tgid);
        let mut flags = SyscallFlags::default();
        for (raw, flag) in [
            (call_flag::NO_ENTER, SyscallFlags::NO_ENTER),
            (call_flag::NO_EXIT, SyscallFlags::NO_EXIT),
            (call_flag::ENGINE, SyscallFlags::ENGINE),
            (call_flag::TRUNCATED, SyscallFlags::TRUNCATED),
        ] {
            if call.flags & raw != 0 {
                flags = flags.union(flag);
            }
        }
        if flags.contains(SyscallFlags::ENGINE) {
            self.engine_calls += 1;
        }
        let event = Syscall {
            t_ns: self.rel(call.t_ns),
            duration_ns: call.dur_ns,
            task,
            sysno: Sysno { abi: table(call.abi), nr: call.nr },
            ret: call.ret,
            flags,
            args: call.args,
            args_mask: if flags.contains(SyscallFlags::NO_ENTER) { 0 } else { 0x3f },
            object: None,
            details: Vec::new(),
            wait_cpu_ns: call.wait_cpu_ns,
            blocked_ns: call.blocked_ns,
        };
        push(w, Event::Syscall(event));
    }

    fn fork(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, Event),
    ) -> Option<()> {
        let fork: Fork = crate::raw::read(record)?;
        let parent = self.task(w, fork.tid, fork.tgid);
        let comm = w.str(until_nul(&fork.comm));
        self.tasks.insert(
            fork.child_tid,
            Task { tgid: fork.child_tgid, start_ns: self.rel(fork.start_ns).max(1), comm, id: None },
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
        let exec: Exec = crate::raw::read(record)?;
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
        push(
            w,
            Event::Process(Process {
                t_ns: self.rel(exec.t_ns),
                task,
                kind: ProcessKind::Exec { path, old_tid: Tid(exec.old_tid), argv: Vec::new(), argc: 0 },
            }),
        );
        Some(())
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
        self.entry.remove(&exit.tid);
        Some(())
    }

    fn comm(&mut self, w: &mut TraceWriter, record: &[u8]) -> Option<()> {
        let comm: Comm = crate::raw::read(record)?;
        self.rename(w, comm.tid, &comm.comm);
        Some(())
    }
}

fn table(how: u8) -> Abi {
    match how {
        abi::I386 => Abi::I386,
        abi::X32 => Abi::X32,
        _ => Abi::X86_64,
    }
}

pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}
