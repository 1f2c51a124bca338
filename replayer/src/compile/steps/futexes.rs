//! Futex calls. Every task waits on a word of its own, so that a wake reaches those whom it did and nobody else: it names
//! them. Who wakes several gathers them on one word first.

use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Late, Lowered};
use super::super::facts::{self, futex_ops};
use super::super::futexes::{Pair, Word};
use super::super::model::Cx;
use super::super::world::{TaskIx, detail_time};
use super::Steps;
use ctrace_program::{Expect, Kind, Sel, Step, Wait, clock_operand, flags};
use rustc_hash::FxHashMap;

/// `FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0)`: leaves the second word as it is.
const NO_OP: u64 = 1 << 28;
const EAGAIN: i64 = -11;
const ETIMEDOUT: i64 = -110;
const CLOCK_REALTIME: u8 = 0;
const CLOCK_MONOTONIC: u8 = 1;

/// What a word of the program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Use {
    /// A task waits here until somebody wakes it.
    Of(TaskIx),
    /// Those whom one call of a task is about; where it moves them.
    Gathered(TaskIx),
    Moved(TaskIx),
    /// The kernel clears it when a thread ends.
    ThreadId(Word),
    /// Nobody ever wakes it.
    Quiet,
    /// Nobody ever waits here.
    Deserted,
}

/// The words of the program.
#[derive(Debug, Default)]
pub(crate) struct Futexes {
    slots: FxHashMap<Use, u32>,
}

impl Futexes {
    /// Their number.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

impl Steps<'_> {
    fn futex_slot(&mut self, what: Use) -> u64 {
        let slot = self.kept.futexes.slots.entry(what).or_insert_with(|| self.emit.futex_slot());
        u64::from(*slot)
    }

    /// The slot of a word that holds the id of a thread until it ends.
    pub(crate) fn tid_slot(&mut self, word: Word) -> u32 {
        self.futex_slot(Use::ThreadId(word)) as u32
    }

    pub(crate) fn futex(&mut self, cx: &Cx<'_>) -> Lowered {
        if cx.known.sc != Sc::Futex {
            return self.surrogate(cx);
        }
        let (op, _) = facts::futex_op(cx.call);
        let woken = cx.call.ret > 0 && !cx.unfinished();
        match op {
            futex_ops::WAIT | futex_ops::WAIT_BITSET => self.futex_wait(cx, op),
            futex_ops::WAKE
            | futex_ops::WAKE_BITSET
            | futex_ops::REQUEUE
            | futex_ops::CMP_REQUEUE
            | futex_ops::WAKE_OP => {
                if woken {
                    self.futex_wake(cx, op)
                } else {
                    self.futex_in_vain(cx, op).into()
                }
            }
            _ => self.surrogate(cx),
        }
    }

    fn futex_wait(&mut self, cx: &Cx<'_>, op: u64) -> Lowered {
        let base = self.plain(cx, &[1]).imm(2, 0).imm(3, 0).imm(5, u64::from(u32::MAX));
        let unfinished = cx.unfinished();
        if !unfinished && cx.call.ret == 0 {
            let wait = cx.id();
            if !self.facts.futexes.alone.contains(&wait) {
                let slot = self.futex_slot(Use::Of(cx.task));
                return base.arg(0, Sel::Futex, slot).with(flags::BLOCKED).into();
            }
            let Some(child) = self.facts.joins.thread_of(wait) else { return self.surrogate(cx) };
            let (_, private) = facts::futex_op(cx.call);
            let word = facts::futex_word(self.world, cx.task, cx.call.args[0], private);
            let slot = u64::from(self.tid_slot(word));
            let child = u64::from(self.emit.prog(child));
            return base.arg(0, Sel::Futex, slot).arg(2, Sel::Pid, child).into();
        }
        // A call that the kernel makes again after a handler waits where it did.
        let again = (-516..=-512).contains(&cx.call.ret);
        let slot = self.futex_slot(if again { Use::Of(cx.task) } else { Use::Quiet });
        let step = base.arg(0, Sel::Futex, slot);
        if cx.call.ret == EAGAIN {
            return step.imm(2, 1).into();
        }
        // The limit of a wait that was under way when the recording began is not known: it passed when it did.
        let passed = (cx.call.ret == ETIMEDOUT && !unfinished).then_some(cx.call.duration_ns);
        let limit = detail_time(cx.call, 3).filter(|_| !unfinished && cx.call.t_ns > 0).or(passed);
        let Some(ns) = limit else { return step.into() };
        if op == futex_ops::WAIT {
            return step.arg(3, Sel::Timespec, ns).into();
        }
        // These name a moment. One that was interrupted had not come to it.
        let real = cx.call.args[1] & futex_ops::CLOCK_REALTIME != 0;
        let clock = if real { CLOCK_REALTIME } else { CLOCK_MONOTONIC };
        let left = if passed.is_some() {
            self.left(cx, detail_time(cx.call, 3), clock)
        } else {
            self.until(ns, cx.call.t_ns, clock).max(cx.call.duration_ns)
        };
        step.arg(3, Sel::AbsTimespec, clock_operand(clock, left)).into()
    }

    /// A call that ended waits, or moved some.
    fn futex_wake(&mut self, cx: &Cx<'_>, op: u64) -> Lowered {
        let seq = cx.seq;
        let pairs: Vec<Pair> = self.facts.futexes.of(cx.task, seq).to_vec();
        let woken = pairs.iter().filter(|pair| !pair.moved).count() as u64;
        let all = pairs.len() as u64;
        // Those whose wait never returned are not there to be woken.
        if all == 0 {
            return self.surrogate(cx);
        }
        let sleeping = pairs.iter().filter_map(|pair| self.is_waiting(pair)).collect();
        let (_, private) = facts::futex_op(cx.call);
        let private = if private { futex_ops::PRIVATE } else { 0 };
        let first = self.futex_slot(Use::Of(pairs[0].sleeper.0));
        let gathers = all > 1 || matches!(op, futex_ops::REQUEUE | futex_ops::CMP_REQUEUE);
        let on = if gathers { self.futex_slot(Use::Gathered(cx.task)) } else { first };
        let base = Step { kind: Kind::FutexWake as u8, ..self.plain(cx, &[1]) };
        let mut step = base.arg(0, Sel::Futex, on).expect(Expect::Exact, all as i64).imm(2, woken);
        let mut lowered = Lowered::from(step);
        if gathers {
            for pair in &pairs {
                let from = self.futex_slot(Use::Of(pair.sleeper.0));
                lowered.pre.push(moving(cx.nr, from, on, private));
            }
        }
        match op {
            futex_ops::REQUEUE | futex_ops::CMP_REQUEUE => {
                let to = self.futex_slot(Use::Moved(cx.task));
                step = step.imm(3, all - woken).arg(4, Sel::Futex, to).imm(5, 0);
                for pair in pairs.iter().filter(|pair| pair.moved) {
                    let back = self.futex_slot(Use::Of(pair.sleeper.0));
                    lowered.then.push(moving(cx.nr, to, back, private));
                }
            }
            futex_ops::WAKE_OP => {
                let other = self.futex_slot(Use::Deserted);
                step = step.imm(3, 0).arg(4, Sel::Futex, other).imm(5, NO_OP);
            }
            _ => step = step.imm(5, u64::from(u32::MAX)),
        }
        lowered.step = step;
        lowered.late = Late { at: 0, waits: sleeping };
        lowered
    }

    /// A call that found nobody.
    fn futex_in_vain(&mut self, cx: &Cx<'_>, op: u64) -> Step {
        let slot = self.futex_slot(Use::Deserted);
        let step = self.plain(cx, &[1, 2]).arg(0, Sel::Futex, slot);
        match op {
            futex_ops::REQUEUE | futex_ops::CMP_REQUEUE => {
                // It found another value, or the word's.
                let value = u64::from(cx.call.ret == EAGAIN);
                step.imm(3, cx.call.args[3]).arg(4, Sel::Futex, slot).imm(5, value)
            }
            futex_ops::WAKE_OP => step.imm(3, cx.call.args[3]).arg(4, Sel::Futex, slot).imm(5, NO_OP),
            _ => step.imm(5, u64::from(u32::MAX)),
        }
    }

    /// A wake comes when the one that it is for waits in the call that it ended, not in the one before. `None`: when that
    /// began after the wake did, or is not known.
    fn is_waiting(&mut self, pair: &Pair) -> Option<Wait> {
        let (task, seq) = pair.sleeper;
        let state = self.world.tasks.get(task as usize).filter(|_| pair.before)?;
        let on = self.emit.prog(task);
        let step = match state.ops {
            // It has not returned yet: its step is the next of its task.
            ops if ops == seq => self.emit.next_step(on),
            ops if ops == seq + 1 => state.label,
            _ => return None,
        };
        let mut waits = Vec::new();
        let me = self.emit.prog(pair.waker.0);
        self.emit.wait(me, EdgeKind::Futex, Wait::entered(on, step), &mut waits);
        waits.pop()
    }
}

/// Moves one who waits from a word to another, by the engine's own call.
fn moving(nr: u32, from: u64, to: u64, private: u64) -> Step {
    Step { kind: Kind::FutexWake as u8, ..Step::call(nr) }
        .with(flags::ENGINE)
        .arg(0, Sel::Futex, from)
        .imm(1, futex_ops::REQUEUE | private)
        .imm(2, 0)
        .imm(3, 1)
        .arg(4, Sel::Futex, to)
        .expect(Expect::Exact, 1)
}
