//! Calls: begun in one line and ended in another, or whole.

use crate::decode::{self, Draft, Outcome, Reading};
use crate::form::{self, CallText, Form};
use crate::importer::{At, Importer, MAX_WAITING};
use crate::structures;
use crate::tasks::Open;
use ctrace_format::linux::{P_PID, WCONTINUED, WUNTRACED};
use ctrace_format::syscalls::{self, Call, Family, Rule};
use ctrace_format::{Abi, Detail, Event, Syscall, SyscallFlags, Sysno, TraceWriter, WriteError};
use smallvec::SmallVec;

/// A call that was made.
pub(crate) struct Performed<'a> {
    pub(crate) call: Call,
    pub(crate) outcome: &'a Outcome<'a>,
    pub(crate) tid: u32,
    pub(crate) t_ns: u64,
    pub(crate) end_ns: u64,
}

impl Importer<'_> {
    pub(crate) fn begun(
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
        self.tasks.open(tid, Open { text: text.to_vec(), t_ns: at.t_ns, nr });
        Ok(())
    }

    pub(crate) fn resumed(
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
        let open = self.tasks.close(by);
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
                let call = CallText { args: SmallVec::new(), ..call };
                self.call(w, at, tid, None, &call, at.t_ns, SyscallFlags::NO_ENTER)
            }
            Err(why) => self.unread(at, why),
        }
    }

    /// The call that a task is in does not end in the log.
    pub(crate) fn abandon(&mut self, w: &mut TraceWriter, tid: u32, t_ns: u64) -> Result<(), WriteError> {
        let Some(open) = self.tasks.close(tid) else { return Ok(()) };
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
    pub(crate) fn call(
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
        // How long it took at least, where the log does not say how long.
        let end_ns = match text.duration_ns {
            None if outcome.ret == Some(0) => end_ns.max(began_ns.saturating_add(draft.waited_ns(call))),
            _ => end_ns,
        };
        let end_ns = match reaped(call, &outcome, &draft) {
            Some(child) => self.tasks.reaped(child, end_ns),
            None => end_ns,
        };
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
        self.push(w, Event::Syscall(event))?;
        if call.row().family == Family::Exit && self.survey.quiet {
            // No line tells of the end itself.
            return self.exited(w, end_ns, tid, ((args[0] & 0xff) as u32) << 8);
        }
        Ok(())
    }
}

/// The child whose end a wait tells of; the others that it may tell of have only been stopped or continued.
fn reaped(call: Call, outcome: &Outcome<'_>, draft: &Draft) -> Option<u32> {
    let may_be_stopped = |options: u64| options & u64::from(WUNTRACED | WCONTINUED) != 0;
    let pid = match call {
        Call::Wait4 => {
            let status = draft.details.iter().find_map(|detail| match detail {
                Detail::Value { arg: 1, value } => Some(*value),
                _ => None,
            });
            let stopped =
                status.map_or_else(|| may_be_stopped(draft.args[2]), |status| status & 0x7f == 0x7f);
            outcome.ret.filter(|_| !stopped)?
        }
        Call::Waitid if outcome.ret == Some(0) && draft.args[0] == u64::from(P_PID) => {
            i64::try_from(draft.args[1]).ok().filter(|_| !may_be_stopped(draft.args[3]))?
        }
        _ => return None,
    };
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}

/// The number of a call, by `-n`, by its name, or by what strace calls one that it does not know. Names that the table of
/// the machine does not have are those of 32-bit programs.
fn number_of(abi: Abi, name: &[u8], nr: Option<u32>) -> Option<Sysno> {
    let name = std::str::from_utf8(name).ok()?;
    let tables = [abi, Abi::X86_64, Abi::I386, Abi::Aarch64, Abi::Arm];
    if let Some(known) = tables.into_iter().find_map(|abi| syscalls::number(abi, name)) {
        return Some(known);
    }
    let raw = name.strip_prefix("syscall_").and_then(structures::hexadecimal);
    raw.or(nr).map(|nr| Sysno { abi, nr })
}
