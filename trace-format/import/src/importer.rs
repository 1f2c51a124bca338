//! Lines → events, in the order of the log.

use crate::clock::Clock;
use crate::decode::{self, Draft, Outcome, Reading};
use crate::form::{self, CallText, Form};
use crate::later::Later;
use crate::leader::Leader;
use crate::lines::Line;
use crate::objects::Objects;
use crate::survey::{Survey, Times};
use crate::tasks::{Open, Shares, Tasks};
use crate::told::Told;
use crate::{names, structures, value};
use ctrace_format::linux::{CLONE_FILES, CLONE_THREAD};
use ctrace_format::syscalls::{self, Call, Family, Rule};
use ctrace_format::{
    Abi, Class, Detail, Event, Loss, LossCause, Outsider, Process, ProcessKind, Signal, Syscall, SyscallFlags,
    Sysno, Tgid, Tid, TraceWriter, WriteError,
};
use rustc_hash::{FxHashMap, FxHashSet};

/// Bytes of lines that wait: for the end of their call, or for their parent to be known.
const MAX_WAITING: usize = 64 << 20;

/// A line that waits until it is known whose child it is of.
struct Held {
    log: usize,
    number: u64,
    t_ns: u64,
    text: Vec<u8>,
}

/// Where a line is in the logs, and when it is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    pub(crate) log: usize,
    pub(crate) number: u64,
    pub(crate) t_ns: u64,
}

/// See the module.
pub(crate) struct Importer<'s> {
    survey: &'s Survey,
    pub(crate) tasks: Tasks,
    pub(crate) objects: Objects,
    later: Later,
    pub(crate) told: Told,
    held: FxHashMap<u32, Vec<Held>>,
    waiting_bytes: usize,
    /// When the last readable line was.
    good_ns: u64,
    /// Unreadable lines since then.
    lost: u64,
    /// Children of calls that have not been seen yet.
    unseen: FxHashSet<u32>,
    /// The beginning of a line that strace went on with in the next one, and its number.
    parted: Option<(u64, Vec<u8>)>,
}

impl<'s> Importer<'s> {
    pub(crate) fn new(survey: &'s Survey) -> Self {
        Self {
            survey,
            tasks: Tasks::default(),
            objects: Objects::default(),
            later: Later::default(),
            told: Told::default(),
            held: FxHashMap::default(),
            waiting_bytes: 0,
            good_ns: 0,
            lost: 0,
            unseen: FxHashSet::default(),
            parted: None,
        }
    }

    /// Reads a line of a log that may have been parted: on its standard error strace says that it attached to a child in the
    /// middle of another line.
    pub(crate) fn line(
        &mut self,
        w: &mut TraceWriter,
        log: usize,
        line: Line<'_>,
        tid: Option<u32>,
        clock: &mut Clock,
    ) -> Result<(), WriteError> {
        self.told.lines += 1;
        if let Some((number, head)) = self.parted.take() {
            let text = [&head[..], line.text].concat();
            let whole = Line { text: &text, ..line };
            if !matches!(form::form(Leader::read(&text).rest), Form::Bad(_)) {
                return self.whole(w, log, whole, tid, clock);
            }
            self.whole(w, log, Line { number, text: &head, too_long: false, unended: false }, tid, clock)?;
        }
        if let Some(at) = parted(line.text) {
            self.parted = Some((line.number, line.text[..at].to_vec()));
            return Ok(());
        }
        self.whole(w, log, line, tid, clock)
    }

    /// Reads a whole line. `tid`: the thread that the log is of, where each has its own.
    fn whole(
        &mut self,
        w: &mut TraceWriter,
        log: usize,
        line: Line<'_>,
        tid: Option<u32>,
        clock: &mut Clock,
    ) -> Result<(), WriteError> {
        if line.too_long {
            return self.unread(At { log, number: line.number, t_ns: self.good_ns }, "it is longer than 1 MiB");
        }
        let leader = Leader::read(line.text);
        let form = form::form(leader.rest);
        let is_cut = line.unended && matches!(form, Form::Bad(_));
        if let Form::Bad(why) = form {
            let at = At { log, number: line.number, t_ns: self.good_ns };
            if leader.tid.is_none() && leader.stamp.is_none() && self.survey.is_foreign(line.text) {
                self.told.foreign += 1;
                return Ok(());
            }
            return self.unread(at, if is_cut { "the log ends within it" } else { why });
        }
        let t_ns = if matches!(form, Form::Empty | Form::Remark) { self.good_ns } else { clock.at(leader.stamp) };
        let at = At { log, number: line.number, t_ns };
        let tid = leader.tid.or(tid).or_else(|| self.nameless());
        self.good(w, t_ns)?;
        self.form(w, at, tid, leader, form)?;
        if self.survey.times == Times::None || self.survey.is_coarse() {
            // What ended before the next line began is before it.
            clock.not_before(self.later.last_ns);
        }
        Ok(())
    }

    /// The thread of a line that names none.
    fn nameless(&self) -> Option<u32> {
        let main = self.survey.main;
        if self.tasks.knows(main) { Some(main) } else { self.tasks.only().or(Some(main)) }
    }

    /// A line can be read: what could not before it lies between the last one and this one.
    fn good(&mut self, w: &mut TraceWriter, t_ns: u64) -> Result<(), WriteError> {
        let count = std::mem::take(&mut self.lost);
        if count > 0 {
            let (from_ns, t_ns) = (self.good_ns.min(t_ns), t_ns);
            let (class, cause) = (Class::Syscall, LossCause::Malformed);
            self.push(w, Event::Loss(Loss { t_ns, from_ns, cpu: u32::MAX, class, cause, count }))?;
        }
        self.good_ns = t_ns;
        self.later.flush(w, t_ns)
    }

    fn unread(&mut self, at: At, why: &'static str) -> Result<(), WriteError> {
        self.told.unread(at.log, at.number, why);
        self.lost += 1;
        Ok(())
    }

    pub(crate) fn push(&mut self, w: &mut TraceWriter, event: Event) -> Result<(), WriteError> {
        self.told.events += 1;
        self.later.push(w, event, self.good_ns)
    }

    fn form(
        &mut self,
        w: &mut TraceWriter,
        at: At,
        tid: Option<u32>,
        leader: Leader<'_>,
        form: Form<'_>,
    ) -> Result<(), WriteError> {
        match form {
            Form::Empty | Form::Remark | Form::Bad(_) => return Ok(()),
            // Its own lines say what it does, and the call that made it whose child it is.
            Form::Attached(_) => return Ok(()),
            Form::Detached(tid) => return self.left(w, tid, at.t_ns),
            Form::Mode { tid, mode } => {
                let abi = match mode {
                    b"32 bit" => Abi::I386,
                    b"x32" => Abi::X32,
                    _ => self.survey.abi,
                };
                if let Some(task) = self.tasks.get(tid) {
                    task.abi = abi;
                }
                return Ok(());
            }
            _ => {}
        }
        let Some(tid) = tid else { return self.unread(at, "it does not say whose it is") };
        if !self.sighted(w, tid, at, leader.rest)? {
            return Ok(());
        }
        if let Some(comm) = leader.comm
            && let Some(task) = self.tasks.get(tid)
        {
            let comm = w.comm(&value::unescape(comm));
            task.rename(comm);
        }
        match form {
            Form::Call(call) => self.call(w, at, tid, leader.nr, &call, at.t_ns, SyscallFlags::default()),
            Form::Unfinished(text) => self.begun(w, at, tid, leader.nr, text),
            Form::Resumed { name, rest } => self.resumed(w, at, tid, name, rest),
            Form::Signal { name, info } => self.signal(w, at, tid, name, info),
            Form::Exited(status) => self.exited(w, at.t_ns, tid, u32::from(status) << 8),
            Form::Killed { signal, core } => {
                let signo = names::signal(signal).unwrap_or(0);
                self.exited(w, at.t_ns, tid, signo | if core { 0x80 } else { 0 })
            }
            Form::Superseded(by) => self.superseded(w, at.t_ns, tid, by),
            _ => Ok(()),
        }
    }

    /// A thread is named. `false`: nobody knows yet whose child it is, and the line waits for that.
    fn sighted(&mut self, w: &mut TraceWriter, tid: u32, at: At, text: &[u8]) -> Result<bool, WriteError> {
        if self.tasks.knows(tid) {
            return Ok(true);
        }
        if !self.tasks.has_room() {
            self.unread(at, "more threads live than there can be")?;
            return Ok(false);
        }
        let parents = self.tasks.waiting(|open| makes_task(&open.text));
        match parents[..] {
            [] => {
                let comm = w.comm(self.survey.comm(tid));
                let abi = self.survey.abi;
                self.tasks.found(tid, tid, comm, if self.told.tasks == 0 { 0 } else { at.t_ns }, abi);
                self.told.tasks += 1;
            }
            [parent] => self.born(w, parent, tid, at.t_ns)?,
            _ => {
                self.waiting_bytes += text.len();
                if self.waiting_bytes <= MAX_WAITING {
                    let At { log, number, t_ns } = at;
                    self.held.entry(tid).or_default().push(Held { log, number, t_ns, text: text.to_vec() });
                    return Ok(false);
                }
                self.born(w, parents[0], tid, at.t_ns)?;
            }
        }
        Ok(true)
    }

    /// A task makes another one, as it said in the call that it is in.
    fn born(&mut self, w: &mut TraceWriter, parent: u32, child: u32, t_ns: u64) -> Result<(), WriteError> {
        let Some(task) = self.tasks.get(parent) else { return Ok(()) };
        let (began_ns, shares) = match &task.open {
            Some(open) => (open.t_ns, shares_of(&open.text)),
            None => (t_ns, Shares::default()),
        };
        self.fork(w, parent, child, began_ns.max(1), shares)
    }

    fn fork(
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
    fn release(&mut self, w: &mut TraceWriter, tid: u32) -> Result<(), WriteError> {
        for Held { log, number, t_ns, text } in self.held.remove(&tid).unwrap_or_default() {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(text.len());
            let leader = Leader { rest: &text, ..Leader::default() };
            let form = form::form(&text);
            self.form(w, At { log, number, t_ns }, Some(tid), leader, form)?;
        }
        Ok(())
    }

    fn begun(
        &mut self,
        w: &mut TraceWriter,
        at: At,
        tid: u32,
        nr: Option<u32>,
        text: &[u8],
    ) -> Result<(), WriteError> {
        self.abandon(w, tid, at.t_ns)?;
        self.waiting_bytes += text.len();
        if self.waiting_bytes > MAX_WAITING {
            self.waiting_bytes -= text.len();
            return self.unread(at, "too many calls wait for their ends");
        }
        self.unseen.remove(&tid);
        if let Some(task) = self.tasks.get(tid) {
            task.open = Some(Open { text: text.to_vec(), t_ns: at.t_ns, nr });
        }
        Ok(())
    }

    fn resumed(
        &mut self,
        w: &mut TraceWriter,
        at: At,
        tid: u32,
        name: &[u8],
        rest: &[u8],
    ) -> Result<(), WriteError> {
        let Some(task) = self.tasks.get(tid) else { return Ok(()) };
        // What a thread began that executes a program is ended by the leader, whose id it takes.
        let by = task.executes.unwrap_or(tid);
        let open = self.tasks.get(by).and_then(|task| task.open.take());
        if let Some(open) = open {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(open.text.len());
            let begun_as = open.text.iter().position(|b| *b == b'(').map(|len| &open.text[..len]);
            if begun_as == Some(name) {
                let mut text = open.text;
                text.extend_from_slice(rest);
                return match form::form(&text) {
                    Form::Call(call) => {
                        self.call(w, at, tid, open.nr, &call, open.t_ns, SyscallFlags::default())
                    }
                    Form::Bad(why) => self.unread(at, why),
                    _ => self.unread(at, "it ends another call than it began"),
                };
            }
            self.unread(at, "it ends another call than the one that was begun")?;
        }
        // The beginning is before the log, or in a line that could not be read.
        self.told.without_begin += 1;
        let text = [name, b"(", rest].concat();
        match form::call(&text) {
            Ok(call) => {
                let call = CallText { args: smallvec::SmallVec::new(), ..call };
                self.call(w, at, tid, None, &call, at.t_ns, SyscallFlags::NO_ENTER)
            }
            Err(why) => self.unread(at, why),
        }
    }

    /// The call that a task is in does not end in the log.
    fn abandon(&mut self, w: &mut TraceWriter, tid: u32, t_ns: u64) -> Result<(), WriteError> {
        let Some(open) = self.tasks.get(tid).and_then(|task| task.open.take()) else { return Ok(()) };
        self.waiting_bytes = self.waiting_bytes.saturating_sub(open.text.len());
        let mut text = open.text;
        text.extend_from_slice(b"<unfinished ...>) = ?");
        let at = At { log: 0, number: 0, t_ns };
        match form::call(&text) {
            Ok(call) => self.call(w, at, tid, open.nr, &call, open.t_ns, SyscallFlags::default()),
            Err(_) => Ok(()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a call is where, who, which, since when and how")]
    fn call(
        &mut self,
        w: &mut TraceWriter,
        at: At,
        tid: u32,
        nr: Option<u32>,
        text: &CallText<'_>,
        began_ns: u64,
        mut flags: SyscallFlags,
    ) -> Result<(), WriteError> {
        let Some(task) = self.tasks.get(tid) else { return Ok(()) };
        let Some(sysno) = number_of(task.abi, text.name, nr) else {
            return self.unread(at, "no call has this name");
        };
        let outcome = if text.open && text.result.is_empty() {
            Some(Outcome { ret: None, about: None, note: b"" })
        } else {
            decode::outcome(text.result)
        };
        let Some(outcome) = outcome else { return self.unread(at, "its result makes no sense") };
        let call = Call::of(sysno);
        self.unseen.remove(&tid);
        if outcome.note.ends_with(b"(INJECTED)") {
            self.told.injected += 1;
        }
        let end_ns = match (text.duration_ns, outcome.ret) {
            (Some(ns), Some(_)) => began_ns.saturating_add(ns),
            _ => at.t_ns.max(began_ns),
        };
        if outcome.ret.is_none() {
            flags = flags.union(SyscallFlags::NO_EXIT);
            if !matches!(call.row().family, Family::Exit) {
                self.told.without_end += 1;
            }
        }
        let mut draft = Reading { w, call, outcome: &outcome, texts: &text.args }.read();
        if draft.truncated {
            self.told.cut += 1;
            flags = flags.union(SyscallFlags::TRUNCATED);
        }
        let made = Performed { call, outcome: &outcome, tid, t_ns: began_ns, end_ns };
        let object = self.perform(w, &made, &mut draft)?;
        let mask = syscalls::kept_args(syscalls::name(sysno).unwrap_or_default());
        let (args, kept) = Rule::of(call.name()).kept(mask, &draft.args);
        let Some(task) = self.tasks.get(tid) else { return Ok(()) };
        let event = Syscall {
            t_ns: if flags.contains(SyscallFlags::NO_ENTER) { end_ns } else { began_ns },
            duration_ns: if flags.contains(SyscallFlags::NO_ENTER) { 0 } else { end_ns - began_ns },
            task: task.id(w),
            sysno,
            ret: outcome.ret.unwrap_or(0),
            flags,
            args,
            args_mask: if flags.contains(SyscallFlags::NO_ENTER) { 0 } else { kept & draft.known },
            object,
            details: draft.details,
            wait_cpu_ns: 0,
            blocked_ns: 0,
        };
        self.told.calls += 1;
        self.push(w, Event::Syscall(event))
    }

    /// Makes a child, and a program, of a call; the rest is [`crate::effects`].
    fn perform(
        &mut self,
        w: &mut TraceWriter,
        made: &Performed<'_>,
        draft: &mut Draft<'_>,
    ) -> Result<Option<ctrace_format::ObjectId>, WriteError> {
        let succeeded = made.outcome.succeeded();
        match made.call.row().family {
            Family::Clone if succeeded => self.made_child(w, made, draft)?,
            Family::Exec if succeeded => self.executed(w, made, draft)?,
            _ => {}
        }
        Ok(self.effects(w, made, draft))
    }

    fn made_child(
        &mut self,
        w: &mut TraceWriter,
        made: &Performed<'_>,
        draft: &Draft<'_>,
    ) -> Result<(), WriteError> {
        // `12 /* 3456 in strace's PID NS */`: the number of the log's other lines is the second one.
        let note = made.outcome.note.strip_prefix(b"/* ").unwrap_or_default();
        let len = note.iter().take_while(|b| b.is_ascii_digit()).count();
        let translated = value::number(&note[..len]);
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

    fn executed(
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
            self.tasks.end(old_tid);
        }
        let kind = ProcessKind::Exec { path: w.str(&path), old_tid: Tid(old_tid), argv, argc };
        self.push(w, Event::Process(Process { t_ns: made.end_ns, task: id, kind }))
    }

    fn signal(
        &mut self,
        w: &mut TraceWriter,
        at: At,
        tid: u32,
        name: &[u8],
        info: &[u8],
    ) -> Result<(), WriteError> {
        let info = value::Value::read(info, &names::number);
        let signo = names::signal(name).or_else(|| info.number_of(b"si_signo").and_then(|n| n.try_into().ok()));
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

    fn exited(&mut self, w: &mut TraceWriter, t_ns: u64, tid: u32, status: u32) -> Result<(), WriteError> {
        self.abandon(w, tid, t_ns)?;
        self.unseen.remove(&tid);
        let Some(task) = self.tasks.get(tid).map(|task| task.id(w)) else { return Ok(()) };
        let group_dead = self.tasks.end(tid);
        if tid == self.survey.main && self.survey.command.is_some() {
            self.told.status = Some(status as i32);
        }
        self.push(w, Event::Process(Process { t_ns, task, kind: ProcessKind::Exit { status, group_dead } }))
    }

    /// Another thread of a process executes a program, and takes the id of the first one, which ends.
    fn superseded(&mut self, w: &mut TraceWriter, t_ns: u64, tid: u32, by: u32) -> Result<(), WriteError> {
        let Some(task) = self.tasks.get(tid) else { return Ok(()) };
        task.executes = Some(by);
        let id = task.id(w);
        let kind = ProcessKind::Exit { status: 0, group_dead: false };
        self.push(w, Event::Process(Process { t_ns, task: id, kind }))
    }

    /// strace lets go of a task.
    fn left(&mut self, w: &mut TraceWriter, tid: u32, t_ns: u64) -> Result<(), WriteError> {
        self.abandon(w, tid, t_ns)
    }

    /// When a thread began, as far as that is known.
    pub(crate) fn began(&mut self, tid: Option<u32>) -> u64 {
        tid.and_then(|tid| self.tasks.get(tid)).map_or(0, |task| task.start_ns)
    }

    /// The logs are read.
    pub(crate) fn finish(mut self, w: &mut TraceWriter) -> Result<Told, WriteError> {
        if let Some((number, _)) = self.parted.take() {
            self.unread(At { log: 0, number, t_ns: self.good_ns }, "the log ends within it")?;
        }
        let end_ns = self.good_ns;
        let held: Vec<u32> = self.held.keys().copied().collect();
        for tid in held {
            let comm = w.comm(b"");
            let since_ns = self.held.get(&tid).and_then(|lines| lines.first()).map_or(0, |line| line.t_ns);
            self.tasks.found(tid, tid, comm, since_ns, self.survey.abi);
            self.told.tasks += 1;
            self.release(w, tid)?;
        }
        for tid in self.tasks.tids() {
            self.abandon(w, tid, end_ns)?;
        }
        self.good(w, end_ns)?;
        self.later.flush(w, u64::MAX)?;
        self.told.unseen_children = self.unseen.len() as u64;
        self.told.duration_ns = self.later.last_ns.max(end_ns);
        Ok(self.told)
    }
}

/// Where a line is parted by strace's word that it attached to a task.
fn parted(text: &[u8]) -> Option<usize> {
    const WORD: &[u8] = b"strace: Process ";
    let before = text.strip_suffix(b" attached")?;
    let len = before.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let at = before[..before.len() - len].strip_suffix(WORD)?.len();
    (at > 0 && len > 0).then_some(at)
}

/// A call that was made.
pub(crate) struct Performed<'a> {
    pub(crate) call: Call,
    pub(crate) outcome: &'a Outcome<'a>,
    pub(crate) tid: u32,
    pub(crate) t_ns: u64,
    pub(crate) end_ns: u64,
}

/// Whether the text of a call that has not ended is of one that makes a task.
fn makes_task(text: &[u8]) -> bool {
    let len = text.iter().position(|b| *b == b'(').unwrap_or(0);
    matches!(&text[..len], b"clone" | b"clone3" | b"fork" | b"vfork" | b"clone2")
}

fn shares(flags: u64) -> Shares {
    let has = |bit: u32| flags & u64::from(bit) != 0;
    Shares { process: has(CLONE_THREAD), files: has(CLONE_FILES) }
}

/// As [`shares`], of a call that has not ended.
fn shares_of(text: &[u8]) -> Shares {
    let has = |name: &[u8]| value::find(text, name).is_some();
    Shares { process: has(b"CLONE_THREAD"), files: has(b"CLONE_FILES") }
}

/// The number of a call, by `-n`, by its name, or by what strace calls one that it does not know. Names that the table of
/// the machine does not have are those of 32-bit programs.
fn number_of(abi: Abi, name: &[u8], nr: Option<u32>) -> Option<Sysno> {
    let name = std::str::from_utf8(name).ok()?;
    let tables = [abi, Abi::X86_64, Abi::I386, Abi::Aarch64, Abi::Arm];
    if let Some(known) = tables.into_iter().find_map(|abi| syscalls::number(abi, name)) {
        return Some(known);
    }
    let raw = name.strip_prefix("syscall_").and_then(|digits| structures::hexadecimal(digits));
    raw.or(nr).map(|nr| Sysno { abi, nr })
}
