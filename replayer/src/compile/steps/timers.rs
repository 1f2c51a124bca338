//! Sleeps and timers.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::emit::Lowered;
use super::super::lower::Lower;
use super::super::model::Cx;
use super::super::world::{ProcIx, detail_bytes, detail_time, detail_value, le_u64};
use super::own_clock;
use ctrace_program::{Post, Sel, clock_operand, value_operand};
use rustc_hash::{FxHashMap, FxHashSet};

/// Sent by the kernel (include/uapi/asm-generic/siginfo.h).
const SI_KERNEL: i32 = 0x80;
const CLOCK_REALTIME: u8 = 0;
const CLOCK_MONOTONIC: u8 = 1;
const CLOCK_REALTIME_ALARM: u8 = 8;
/// `CLOCK_TAI`; there is no higher clock.
const CLOCK_TAI: u8 = 11;

/// Timers of processes.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// By the recorded id of `timer_create`: the value slot with the id here.
    slots: FxHashMap<(ProcIx, u64), u32>,
    /// Clocks of timers that are descriptors.
    clocks: FxHashMap<(ProcIx, i32), u8>,
    /// Processes that had a timer send them this signal, or whichever a timer of `timer_create` sends.
    armed: FxHashSet<(ProcIx, Option<i32>)>,
}

/// A clock id of a call.
pub(crate) fn clock_of(arg: u64) -> u8 {
    (arg as u8).min(CLOCK_TAI)
}

impl Timers {
    /// A descriptor is a timer of this clock.
    pub(crate) fn made(&mut self, proc: ProcIx, fd: i32, clock: u64) {
        self.clocks.insert((proc, fd), clock_of(clock));
    }

    /// A call may arm a timer that sends signals.
    pub(crate) fn note(&mut self, cx: &Cx<'_>) {
        // ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF (include/uapi/linux/time.h).
        let of_interval = [libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF];
        let signo = match cx.known.sc {
            Sc::Alarm => Some(libc::SIGALRM),
            Sc::Setitimer => of_interval.get(cx.call.args[0] as usize).copied(),
            Sc::TimerCreate => None,
            _ => return,
        };
        self.armed.insert((cx.proc, signo));
    }

    /// Whether a signal of the kernel has its cause outside the recording: a timer that was armed before, a key of a
    /// terminal.
    pub(crate) fn is_from_outside(&self, proc: ProcIx, signo: u32, code: i32) -> bool {
        match (code, signo as i32) {
            (SI_KERNEL, libc::SIGALRM | libc::SIGVTALRM | libc::SIGPROF) => {
                !self.armed.contains(&(proc, Some(signo as i32)))
            }
            // `isig`, drivers/tty/n_tty.c: contents are not recorded, so that no write here is that key.
            (SI_KERNEL, libc::SIGINT | libc::SIGQUIT | libc::SIGTSTP) => true,
            (libc::SI_TIMER, _) => !self.armed.contains(&(proc, None)),
            _ => false,
        }
    }

    fn clock(&self, proc: ProcIx, fd: i32) -> u8 {
        self.clocks.get(&(proc, fd)).copied().unwrap_or(CLOCK_MONOTONIC)
    }
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

impl Lower<'_> {
    pub(crate) fn sleep(&mut self, cx: &Cx<'_>) -> Lowered {
        const TIMER_ABSTIME: u64 = 1;
        if cx.known.sc == Sc::Nanosleep {
            let ns = detail_time(cx.call, 0).unwrap_or(cx.call.duration_ns);
            return self.call_step(cx).arg(0, Sel::Timespec, ns).imm(1, 0).into();
        }
        let step = self.plain(cx, &[1]).imm(0, own_clock(cx.call.args[0])).imm(3, 0);
        if cx.call.args[1] & TIMER_ABSTIME != 0 {
            let clock = clock_of(cx.call.args[0]);
            let left = self.left(cx, detail_time(cx.call, 2), clock);
            return step.arg(2, Sel::AbsTimespec, clock_operand(clock, left)).into();
        }
        let ns = detail_time(cx.call, 2).unwrap_or(cx.call.duration_ns);
        step.arg(2, Sel::Timespec, ns).into()
    }

    pub(crate) fn timer(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
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
                    let clock = self.kept.timers.clock(cx.proc, cx.fd(0));
                    let left = self.until(value, cx.call.t_ns, clock);
                    // What is far away on the host's clock may be near on that of a time namespace: when it was waited
                    // for, the end of the wait tells, and otherwise it was not later than it was seen.
                    let place = cx.id();
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
                self.kept.timers.slots.insert((cx.proc, id), slot);
                let step = self
                    .call_step(cx)
                    .imm(0, own_clock(cx.call.args[0]))
                    .imm(1, 0)
                    .arg(2, Sel::Out, 64)
                    .post(Post::StoreOut, u64::from(slot))
                    .aux(2);
                Ok(step.into())
            }
            _ => {
                let id = cx.call.args[0];
                let Some(slot) = self.kept.timers.slots.get(&(cx.proc, id)).copied() else {
                    return Ok(self.surrogate(cx));
                };
                let step = self.plain(cx, &[1]).arg(0, Sel::Value, value_operand(slot, 0));
                if cx.known.sc == Sc::TimerDelete {
                    return Ok(step.imm(1, 0).into());
                }
                if cx.call.args[1] & 1 != 0 {
                    let left = self.until(value, cx.call.t_ns, CLOCK_MONOTONIC);
                    let blob = self.emit.words(&[interval, left, 1])?;
                    return Ok(step.arg(2, Sel::AbsItimerspec, blob).imm(3, 0).into());
                }
                let blob = self.emit.words(&[interval, value])?;
                Ok(step.arg(2, Sel::Itimerspec, blob).imm(3, 0).into())
            }
        }
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
            CLOCK_REALTIME | CLOCK_REALTIME_ALARM | CLOCK_TAI => {
                header.start_realtime_ns.saturating_add(t_ns)
            }
            _ => header.start_boottime_ns.saturating_add(t_ns),
        };
        value_ns.saturating_sub(now).clamp(1, 1 << 55)
    }
}
