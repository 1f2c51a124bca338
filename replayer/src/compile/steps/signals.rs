//! Signals, sleeps and timers.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::emit::Lowered;
use super::super::lower::{Cx, Lower};
use super::super::world::{detail_bytes, detail_time, detail_value, le_u64};
use ctrace_format::Detail;
use ctrace_program::{
    Expect, Kind, Post, SIG_DEFAULT, SIG_HANDLER, SIG_IGNORE, SIG_QUERY, Sel, Step, clock_operand, flags,
    value_operand,
};

/// `rt_sigtimedwait` without a signal in its time.
const EAGAIN: i64 = -11;

impl Lower<'_> {
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
            const SA_RESTART: u64 = 0x1000_0000;
            self.set_disposition(cx.proc, signo as u32, handler, sa_flags & SA_RESTART != 0);
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
        let caught = |signo: &u32| self.disposition(cx.proc, *signo).is_some_and(|d| d.0 == 2);
        let Some(signo) = [17].into_iter().chain(1..=64).find(caught) else { return Ok(self.missing(cx)) };
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

    pub(crate) fn sleep(&mut self, cx: &Cx<'_>) -> Lowered {
        const TIMER_ABSTIME: u64 = 1;
        if cx.known.sc == Sc::Nanosleep {
            let ns = detail_time(cx.call, 0).unwrap_or(cx.call.duration_ns);
            return self.call_step(cx).arg(0, Sel::Timespec, ns).imm(1, 0).into();
        }
        let step = self.plain(cx, &[0, 1]).imm(3, 0);
        if cx.call.args[1] & TIMER_ABSTIME != 0 {
            let clock = (cx.call.args[0] as u8).min(11);
            let left = self.left(cx, detail_time(cx.call, 2), clock);
            return step.arg(2, Sel::AbsTimespec, clock_operand(clock, left)).into();
        }
        let ns = detail_time(cx.call, 2).unwrap_or(cx.call.duration_ns);
        step.arg(2, Sel::Timespec, ns).into()
    }

    pub(crate) fn timer(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        const TIMERS: u8 = 1;
        let spec = detail_bytes(cx.call, 2).or_else(|| detail_bytes(cx.call, 1));
        let ns = |sec: u64, rest: u64| sec.saturating_mul(1_000_000_000).saturating_add(rest);
        let (interval, value) = spec.map_or_else(
            || (0, detail_time(cx.call, 2).unwrap_or(0)),
            |s| {
                let unit = if cx.known.sc == Sc::Setitimer { 1000 } else { 1 };
                let part = |at: usize| ns(le_u64(s, at), le_u64(s, at + 8).saturating_mul(unit));
                (part(0), part(16))
            },
        );
        match cx.known.sc {
            Sc::Setitimer => {
                let blob = self.emit.words(&[interval, value])?;
                Ok(self.plain(cx, &[0]).arg(1, Sel::Itimerval, blob).imm(2, 0).into())
            }
            Sc::TimerfdSettime => {
                let absolute = cx.call.args[1] & 1 != 0;
                let step = self.plain(cx, &[0, 1]).imm(3, 0);
                if absolute && value != 0 {
                    let clock = self.timer_clock(cx);
                    let left = self.until(value, cx.call.t_ns, clock);
                    // What is far away on the host's clock may be near on that of a time namespace: when it was waited
                    // for, the end of the wait tells, and otherwise it was not later than it was seen.
                    let place = (cx.task, self.world.tasks[cx.task as usize].ops);
                    let left = match self.facts.told.expiries.get(&place) {
                        Some((seen, true)) => *seen,
                        Some((seen, false)) => left.min(*seen),
                        None => left,
                    };
                    let blob = self.emit.words(&[interval, left, u64::from(clock)])?;
                    return Ok(step.arg(2, Sel::AbsItimerspec, blob).into());
                }
                let blob = self.emit.words(&[interval, value])?;
                Ok(step.arg(2, Sel::Itimerspec, blob).into())
            }
            Sc::TimerCreate => {
                let id = detail_value(cx.call, 2).unwrap_or(0);
                let slot = self.emit.value_slot();
                self.handles.insert((cx.proc, TIMERS, id), slot);
                let step = self
                    .plain(cx, &[0])
                    .imm(1, 0)
                    .arg(2, Sel::Out, 64)
                    .post(Post::StoreOut, u64::from(slot))
                    .aux(2);
                Ok(step.into())
            }
            _ => {
                let id = cx.call.args[0];
                let Some(slot) = self.handles.get(&(cx.proc, TIMERS, id)).copied() else {
                    return Ok(self.surrogate(cx));
                };
                let step = self.plain(cx, &[1]).arg(0, Sel::Value, value_operand(slot, 0));
                if cx.known.sc == Sc::TimerDelete {
                    return Ok(step.imm(1, 0).into());
                }
                if cx.call.args[1] & 1 != 0 {
                    let left = self.until(value, cx.call.t_ns, 1);
                    let blob = self.emit.words(&[interval, left, 1])?;
                    return Ok(step.arg(2, Sel::AbsItimerspec, blob).imm(3, 0).into());
                }
                let blob = self.emit.words(&[interval, value])?;
                Ok(step.arg(2, Sel::Itimerspec, blob).imm(3, 0).into())
            }
        }
    }

    pub(crate) fn timer_clock(&self, cx: &Cx<'_>) -> u8 {
        self.timer_clocks.get(&(cx.proc, cx.call.args[0] as i32)).copied().unwrap_or(1)
    }

    /// How long a call that waited until a moment of a clock had to wait. It took longer by as much as its timer was late,
    /// which its timer here is again. A moment of another frame of reference (a time namespace, a clock that was set) is not
    /// within the call; then its duration stands for it.
    pub(crate) fn left(&self, cx: &Cx<'_>, moment_ns: Option<u64>, clock: u8) -> u64 {
        moment_ns
            .map(|moment_ns| self.until(moment_ns, cx.call.t_ns, clock))
            .filter(|left| *left <= cx.call.duration_ns)
            .unwrap_or(cx.call.duration_ns)
    }

    /// How far a recorded moment of a clock was away at `t_ns`.
    pub(crate) fn until(&self, value_ns: u64, t_ns: u64, clock: u8) -> u64 {
        let header = self.source.header();
        let now = match clock {
            0 | 8 | 11 => header.start_realtime_ns.saturating_add(t_ns),
            _ => header.start_boottime_ns.saturating_add(t_ns),
        };
        value_ns.saturating_sub(now).clamp(1, 1 << 55)
    }
}
