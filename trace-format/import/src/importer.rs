//! Lines → events, in the order of the log.

use crate::clock::Clock;
use crate::form::{self, Form};
use crate::later::{Later, Shown};
use crate::leader::Leader;
use crate::lines::Line;
use crate::objects::Objects;
use crate::survey::{Survey, Times};
use crate::tasks::Tasks;
use crate::told::Told;
use crate::{names, text};
use ctrace_format::{Abi, Class, Event, Loss, LossCause, SyscallFlags, TraceWriter, WriteError};
use rustc_hash::{FxHashMap, FxHashSet};

/// Bytes of lines that wait: for the end of their call, or for their parent to be known.
pub(crate) const MAX_WAITING: usize = 64 << 20;

/// A line that waits until it is known whose child it is of.
pub(crate) struct Held {
    pub(crate) log: usize,
    pub(crate) number: u64,
    pub(crate) t_ns: u64,
    pub(crate) text: Vec<u8>,
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
    pub(crate) survey: &'s Survey,
    pub(crate) tasks: Tasks,
    pub(crate) objects: Objects,
    later: Later<'s>,
    pub(crate) told: Told,
    pub(crate) held: FxHashMap<u32, Vec<Held>>,
    pub(crate) waiting_bytes: usize,
    /// When the last readable line was.
    pub(crate) good_ns: u64,
    /// Unreadable lines since then.
    lost: u64,
    /// Children of calls that have not been seen yet.
    pub(crate) unseen: FxHashSet<u32>,
    /// The beginning of a line that strace went on with in the next one, and its number.
    parted: Option<(u64, Vec<u8>)>,
}

impl<'s> Importer<'s> {
    pub(crate) fn new(survey: &'s Survey, shown: &'s mut Shown<'s>) -> Self {
        Self {
            survey,
            tasks: Tasks::default(),
            objects: Objects::default(),
            later: Later::new(shown),
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
            return self
                .unread(At { log, number: line.number, t_ns: self.good_ns }, "it is longer than 1 MiB");
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
        let t_ns =
            if matches!(form, Form::Empty | Form::Remark) { self.good_ns } else { clock.at(leader.stamp) };
        let at = At { log, number: line.number, t_ns };
        let tid = leader.tid.or(tid).or_else(|| self.nameless());
        self.good(w, t_ns)?;
        self.form(w, at, tid, &leader, form)?;
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
    pub(crate) fn good(&mut self, w: &mut TraceWriter, t_ns: u64) -> Result<(), WriteError> {
        let count = std::mem::take(&mut self.lost);
        if count > 0 {
            let (from_ns, t_ns) = (self.good_ns.min(t_ns), t_ns);
            let (class, cause) = (Class::Syscall, LossCause::Malformed);
            self.push(w, Event::Loss(Loss { t_ns, from_ns, cpu: u32::MAX, class, cause, count }))?;
        }
        self.good_ns = t_ns;
        self.later.flush(w, t_ns)
    }

    /// Counts a line that cannot be read: that ends its reading, and goes on with the next one.
    #[expect(clippy::unnecessary_wraps, reason = "its callers return what it returns")]
    pub(crate) fn unread(&mut self, at: At, why: &'static str) -> Result<(), WriteError> {
        self.told.unread(at.log, at.number, why);
        self.lost += 1;
        Ok(())
    }

    pub(crate) fn push(&mut self, w: &mut TraceWriter, event: Event) -> Result<(), WriteError> {
        self.told.events += 1;
        self.later.push(w, event, self.good_ns)
    }

    pub(crate) fn form(
        &mut self,
        w: &mut TraceWriter,
        at: At,
        tid: Option<u32>,
        leader: &Leader<'_>,
        form: Form<'_>,
    ) -> Result<(), WriteError> {
        match form {
            // Of a task that strace attaches to, its own lines say what it does, and the call that made it whose child it is.
            Form::Empty | Form::Remark | Form::Bad(_) | Form::Attached(_) => return Ok(()),
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
            let comm = w.comm(&text::unescape(comm));
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
            if !self.tasks.has_room() {
                let lines = self.held.remove(&tid).unwrap_or_default();
                for Held { log, number, t_ns, .. } in lines {
                    self.unread(At { log, number, t_ns }, "more threads live than there can be")?;
                }
                continue;
            }
            let comm = w.comm(b"");
            let since_ns = self.held.get(&tid).and_then(|lines| lines.first()).map_or(0, |line| line.t_ns);
            let table = self.objects.table();
            self.tasks.found([tid, tid], comm, since_ns, self.survey.abi, table);
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
