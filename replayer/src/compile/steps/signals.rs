//! Signals: what is done about them, which are held back, which are waited for.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::emit::Lowered;
use super::super::model::Cx;
use super::super::world::{ProcIx, detail_time, detail_value};
use super::Steps;
use ctrace_format::Detail;
use ctrace_program::{Expect, Kind, SIG_DEFAULT, SIG_HANDLER, SIG_IGNORE, SIG_QUERY, Sel, Step, flags};
use rustc_hash::FxHashMap;

/// `rt_sigtimedwait` without a signal in its time.
const EAGAIN: i64 = -11;

/// What [`Detail::SigAction`] says of a signal that a handler takes.
const HANDLER: u8 = 2;
const SIGCHLD: u32 = 17;

/// The signals that handlers of a process take.
#[derive(Debug, Default)]
pub(crate) struct Caught {
    by_proc: FxHashMap<ProcIx, u64>,
}

/// The bit of a signal in a set of them.
fn bit(signo: u32) -> u64 {
    signo.checked_sub(1).and_then(|at| 1_u64.checked_shl(at)).unwrap_or(0)
}

impl Caught {
    /// Whether a handler takes a signal.
    pub(crate) fn is(&self, proc: ProcIx, signo: u32) -> bool {
        self.by_proc.get(&proc).is_some_and(|caught| caught & bit(signo) != 0)
    }
    /// From now on, a handler takes a signal, or none does.
    pub(crate) fn set(&mut self, proc: ProcIx, signo: u32, is_caught: bool) {
        let caught = self.by_proc.entry(proc).or_default();
        *caught = if is_caught { *caught | bit(signo) } else { *caught & !bit(signo) };
    }
    /// What was caught has its default again (`flush_signal_handlers`, kernel/signal.c).
    pub(super) fn executed(&mut self, proc: ProcIx) {
        self.by_proc.remove(&proc);
    }
    /// A process made another, with the same handlers.
    pub(super) fn forked(&mut self, from: ProcIx, to: ProcIx) {
        if let Some(caught) = self.by_proc.get(&from).copied() {
            self.by_proc.insert(to, caught);
        }
    }
}

impl Steps<'_> {
    pub(crate) fn sigaction(&mut self, cx: &Cx<'_>) -> Step {
        let signo = cx.call.args[0];
        let action = cx.call.details.iter().find_map(|d| match d {
            Detail::SigAction { handler, flags, mask, .. } => Some((*handler, *flags, *mask)),
            _ => None,
        });
        let mut step = Step { nr: cx.nr, ..Step::of(Kind::Sigaction) }.imm(0, signo);
        step.expect_kind = Expect::Exact as u8;
        step.expect = cx.call.ret;
        let Some((handler, sa_flags, mask)) = action else { return step.aux(SIG_QUERY) };
        if cx.call.ret == 0 {
            self.kept.caught.set(cx.proc, signo as u32, handler == HANDLER);
        }
        let kind = match handler {
            0 => SIG_DEFAULT,
            1 => SIG_IGNORE,
            _ => SIG_HANDLER,
        };
        step.imm(1, sa_flags).imm(2, mask).aux(kind)
    }

    #[expect(clippy::unnecessary_wraps, reason = "alike its siblings, which can fail")]
    pub(crate) fn sigreturn(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let mut step = Step::of(Kind::SignalReturn);
        step.nr = cx.nr;
        if self.emit.leave_handler(cx.task) {
            return Ok(step.into());
        }
        // The delivery was not recorded. One signal that has a handler is the one, SIGCHLD before others.
        let caught = |signo: &u32| self.kept.caught.is(cx.proc, *signo);
        let Some(signo) = [SIGCHLD].into_iter().chain(1..=64).find(caught) else {
            return Ok(self.missing(cx));
        };
        let mut handler = Step::of(Kind::SignalHandler);
        handler.nr = signo;
        Ok(Lowered::after(vec![handler], step.with(flags::IN_HANDLER)))
    }

    pub(crate) fn sigmask(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let (arg, size_arg) = match cx.known.sc {
            Sc::RtSigprocmask => (1, 3),
            Sc::RtSigsuspend => (0, 1),
            _ => (0, 3),
        };
        let mut step = self.plain(cx, &[0]);
        step = match detail_value(cx.call, arg as u8) {
            Some(mask) => {
                let blob = self.emit.data(&mask.to_ne_bytes())?;
                step.arg(arg, Sel::Data, blob)
            }
            None => step.imm(arg, 0),
        };
        step = step.imm(size_arg, 8);
        match cx.known.sc {
            Sc::RtSigprocmask => step = step.arg(2, Sel::Out, 8),
            Sc::RtSigtimedwait => {
                step = step.arg(1, Sel::Out, 128);
                step = match detail_time(cx.call, 2) {
                    Some(ns) => step.arg(2, Sel::Timespec, ns),
                    // Under way when the recording began: its limit passed when it did.
                    None if cx.call.ret == EAGAIN => step.arg(2, Sel::Timespec, cx.call.duration_ns),
                    None => step.imm(2, 0),
                };
            }
            _ => {}
        }
        Ok(step.into())
    }
}
