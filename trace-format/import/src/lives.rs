//! Tasks: their births, programs, signals and ends.

use crate::calls::Performed;
use crate::decode::Draft;
use crate::form;
use crate::importer::{At, Held, Importer, MAX_WAITING};
use crate::leader::Leader;
use crate::tasks::Shares;
use crate::{names, text, value};
use ctrace_format::linux::{CLONE_FILES, CLONE_THREAD};
use ctrace_format::syscalls::{Call, Family};
use ctrace_format::{
    Detail, Event, ObjectId, Outsider, Process, ProcessKind, Signal, Tgid, Tid, TraceWriter, WriteError,
};

/// What a line that waits takes beside its text.
const HELD: usize = 64;

impl Importer<'_> {
    /// A thread is named. `false`: nobody knows yet whose child it is, and the line waits for that.
    pub(crate) fn sighted(
        &mut self,
        w: &mut TraceWriter,
        tid: u32,
        at: At,
        text: &[u8],
    ) -> Result<bool, WriteError> {
        if self.tasks.knows(tid) {
            return Ok(true);
        }
        if !self.tasks.has_room() {
            self.unread(at, "more threads live than there can be")?;
            return Ok(false);
        }
        match self.tasks.making() {
            [None, _] => {
                let comm = w.comm(self.survey.comm(tid));
                let abi = self.survey.abi;
                let since_ns =
                    if self.told.tasks == 0 || self.survey.command.is_none() { 0 } else { at.t_ns };
                let table = self.objects.table();
                self.tasks.found([tid, self.survey.process_of(tid)], comm, since_ns, abi, table);
                self.told.tasks += 1;
            }
            [Some(parent), None] => self.born(w, parent, tid, at.t_ns)?,
            [Some(parent), Some(_)] => {
                self.waiting_bytes += text.len() + HELD;
                if self.waiting_bytes <= MAX_WAITING {
                    let At { log, number, t_ns } = at;
                    self.held.entry(tid).or_default().push(Held { log, number, t_ns, text: text.to_vec() });
                    return Ok(false);
                }
                self.born(w, parent, tid, at.t_ns)?;
            }
        }
        Ok(true)
    }

    /// A task makes another one, as it said in the call that it is in.
    pub(crate) fn born(
        &mut self,
        w: &mut TraceWriter,
        parent: u32,
        child: u32,
        t_ns: u64,
    ) -> Result<(), WriteError> {
        let Some(task) = self.tasks.get(parent) else { return Ok(()) };
        let (began_ns, shares) = match &task.open {
            Some(open) => (open.t_ns, shares_of(&open.text)),
            None => (t_ns, Shares::default()),
        };
        self.fork(w, parent, child, began_ns.max(1), shares)
    }

    pub(crate) fn fork(
        &mut self,
        w: &mut TraceWriter,
        parent: u32,
        child: u32,
        t_ns: u64,
        shares: Shares,
    ) -> Result<(), WriteError> {
        let Some(id) = self.tasks.get(parent).map(|task| task.id(w)) else { return Ok(()) };
        if !self.tasks.has_room() {
            return Ok(());
        }
        self.told.tasks += 1;
        let born = self.tasks.born(&mut self.objects, parent, child, t_ns, shares).map(|task| task.id(w));
        let Some(born) = born else { return Ok(()) };
        self.unseen.insert(child);
        self.push(w, Event::Process(Process { t_ns, task: id, kind: ProcessKind::Fork { child: born } }))
    }

    /// It is known now whose child a thread is: its lines are read.
    pub(crate) fn release(&mut self, w: &mut TraceWriter, tid: u32) -> Result<(), WriteError> {
        for Held { log, number, t_ns, text } in self.held.remove(&tid).unwrap_or_default() {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(text.len() + HELD);
            let leader = Leader { rest: &text, ..Leader::default() };
            let form = form::form(&text);
            self.form(w, At { log, number, t_ns }, Some(tid), &leader, form)?;
        }
        Ok(())
    }

    /// Makes a child, and a program, of a call; the rest is [`crate::effects`].
    pub(crate) fn perform(
        &mut self,
        w: &mut TraceWriter,
        made: &Performed<'_>,
        draft: &mut Draft<'_>,
    ) -> Result<Option<ObjectId>, WriteError> {
        let succeeded = made.outcome.succeeded();
        match made.call.row().family {
            Family::Clone if succeeded => self.made_child(w, made, draft)?,
            Family::Exec if succeeded => self.executed(w, made, draft)?,
            _ => {}
        }
        Ok(self.effects(w, made, draft))
    }

    pub(crate) fn made_child(
        &mut self,
        w: &mut TraceWriter,
        made: &Performed<'_>,
        draft: &Draft<'_>,
    ) -> Result<(), WriteError> {
        // `12 /* 3456 in strace's PID NS */`: the number of the log's other lines is the second one.
        let note = made.outcome.note.strip_prefix(b"/* ").unwrap_or_default();
        let len = note.iter().take_while(|b| b.is_ascii_digit()).count();
        let translated = text::number(&note[..len]);
        let child = translated.or(made.outcome.ret.map(Into::into)).and_then(|tid| u32::try_from(tid).ok());
        let Some(child) = child.filter(|child| *child != 0 && *child != made.tid) else { return Ok(()) };
        if self.tasks.knows(child) {
            return Ok(());
        }
        let flags = if made.call == Call::Clone3 {
            draft.details.iter().find_map(|detail| match detail {
                Detail::Bytes { data, .. } => Some(u64::from_ne_bytes(data.get(..8)?.try_into().ok()?)),
                _ => None,
            })
        } else {
            Some(draft.args[0])
        };
        let shares = shares(flags.filter(|_| made.call.name().starts_with("clone")).unwrap_or(0));
        self.fork(w, made.tid, child, made.t_ns.max(1), shares)?;
        self.release(w, child)
    }

    pub(crate) fn executed(
        &mut self,
        w: &mut TraceWriter,
        made: &Performed<'_>,
        draft: &Draft<'_>,
    ) -> Result<(), WriteError> {
        let path = draft.path.clone().unwrap_or_default();
        let (argv, argc) = draft
            .details
            .iter()
            .find_map(|detail| match detail {
                Detail::Argv { words, count, .. } => Some((words.clone(), *count)),
                _ => None,
            })
            .unwrap_or_default();
        let Some(task) = self.tasks.get(made.tid) else { return Ok(()) };
        let old_tid = task.executes.take().unwrap_or(made.tid);
        task.table.exec();
        if !path.is_empty() {
            /// `TASK_COMM_LEN`, with its NUL.
            const COMM: usize = 16;
            let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
            let comm = w.comm(&name[..name.len().min(COMM - 1)]);
            task.rename(comm);
        }
        let id = task.id(w);
        if old_tid != made.tid {
            self.tasks.end(old_tid, made.end_ns);
        }
        let kind = ProcessKind::Exec { path: w.str(&path), old_tid: Tid(old_tid), argv, argc };
        self.push(w, Event::Process(Process { t_ns: made.end_ns, task: id, kind }))
    }

    pub(crate) fn signal(
        &mut self,
        w: &mut TraceWriter,
        at: At,
        tid: u32,
        name: &[u8],
        info: &[u8],
    ) -> Result<(), WriteError> {
        let info = value::Value::read(info, &names::number);
        let signo =
            names::signal(name).or_else(|| info.number_of(b"si_signo").and_then(|n| n.try_into().ok()));
        let Some(signo) = signo else { return self.unread(at, "no signal has this name") };
        let code = info.number_of(b"si_code").and_then(|code| i32::try_from(code).ok()).unwrap_or(0);
        let from = info.number_of(b"si_pid").and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        let sender = from.and_then(|pid| self.tasks.known_id(w, pid));
        let outside = match (sender, from) {
            (None, Some(pid)) => Some(Outsider { pid: Tgid(pid), comm: w.comm(b"") }),
            _ => None,
        };
        let Some(task) = self.tasks.get(tid).map(|task| task.id(w)) else { return Ok(()) };
        let t_ns = at.t_ns;
        self.push(w, Event::Signal(Signal { t_ns, task, signo, code, sender, outside, delivered: true }))
    }

    pub(crate) fn exited(
        &mut self,
        w: &mut TraceWriter,
        t_ns: u64,
        tid: u32,
        status: u32,
    ) -> Result<(), WriteError> {
        self.abandon(w, tid, t_ns)?;
        self.unseen.remove(&tid);
        let Some(task) = self.tasks.get(tid) else { return Ok(()) };
        let t_ns = task.reaped_ns.map_or(t_ns, |reaped_ns| reaped_ns.min(t_ns));
        let task = task.id(w);
        let group_dead = self.tasks.end(tid, t_ns);
        if tid == self.survey.main && self.survey.command.is_some() {
            self.told.status = Some(status as i32);
        }
        self.push(w, Event::Process(Process { t_ns, task, kind: ProcessKind::Exit { status, group_dead } }))
    }

    /// Another thread of a process executes a program, and takes the id of the first one, which ends.
    pub(crate) fn superseded(
        &mut self,
        w: &mut TraceWriter,
        t_ns: u64,
        tid: u32,
        by: u32,
    ) -> Result<(), WriteError> {
        let Some(task) = self.tasks.get(tid) else { return Ok(()) };
        task.executes = Some(by);
        let id = task.id(w);
        let kind = ProcessKind::Exit { status: 0, group_dead: false };
        self.push(w, Event::Process(Process { t_ns, task: id, kind }))
    }

    /// strace lets go of a task.
    pub(crate) fn left(&mut self, w: &mut TraceWriter, tid: u32, t_ns: u64) -> Result<(), WriteError> {
        self.abandon(w, tid, t_ns)
    }
}

fn shares(flags: u64) -> Shares {
    let has = |bit: u32| flags & u64::from(bit) != 0;
    Shares { process: has(CLONE_THREAD), files: has(CLONE_FILES) }
}

/// As [`shares`], of a call that has not ended.
fn shares_of(text: &[u8]) -> Shares {
    let has = |name: &[u8]| text::find(text, name).is_some();
    Shares { process: has(b"CLONE_THREAD"), files: has(b"CLONE_FILES") }
}
