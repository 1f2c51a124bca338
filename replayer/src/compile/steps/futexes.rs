//! Futex waits and wakes, each on a word of its own.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::facts::{self};
use super::super::lower::{Cx, Lower, Lowered};
use super::super::world::detail_time;
use ctrace_format::SyscallFlags;
use ctrace_program::{Expect, Kind, Sel, Step, clock_operand, flags};

impl Lower<'_> {
    /// The slot that stands for a word during its `ordinal`th wake; `None`: for the end of a thread.
    pub(crate) fn futex_slot(&mut self, word: super::super::futexes::Word, ordinal: Option<u32>) -> u32 {
        /// More wakes of one word are hardly ever under way at once.
        const TURNS: u32 = 32;
        let turn = ordinal.map_or(u32::MAX, |n| n % TURNS);
        if let Some(slot) = self.futex_slots.get(&(word, turn)) {
            return *slot;
        }
        let slot = self.b.futex_slot();
        self.futex_slots.insert((word, turn), slot);
        slot
    }

    /// A word that nobody ever wakes.
    pub(crate) fn quiet(&mut self) -> u32 {
        *self.quiet_futex.get_or_insert_with(|| self.b.futex_slot())
    }

    /// A word that nobody ever waits on.
    pub(crate) fn deserted(&mut self) -> u32 {
        *self.deserted_futex.get_or_insert_with(|| self.b.futex_slot())
    }

    pub(crate) fn futex(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        if cx.known.sc != Sc::Futex {
            return Ok(self.surrogate(cx));
        }
        let (op, private) = facts::futex_op(cx.call);
        let word = facts::futex_word(&self.world, cx.task, cx.call.args[0], private);
        let unfinished = cx.call.flags.contains(SyscallFlags::NO_EXIT);
        let ret = cx.call.ret;
        let base = self.plain(cx, &[1, 5]);
        match op {
            // FUTEX_WAIT, FUTEX_WAIT_BITSET
            0 | 9 => {
                let timeout = detail_time(cx.call, 3);
                if !unfinished && ret == 0 {
                    let seq = self.world.tasks[cx.task as usize].ops;
                    if self.facts.futexes.waits.contains(&(cx.task, seq)) {
                        let Some(child) = self.joined.get(&(cx.task, seq)).copied() else {
                            return Ok(self.surrogate(cx));
                        };
                        let slot = u64::from(self.futex_slot(word, None));
                        let child = u64::from(self.prog(child));
                        return Ok(base
                            .arg(0, Sel::Futex, slot)
                            .arg(2, Sel::Pid, child)
                            .imm(3, 0)
                            .imm(5, u64::from(u32::MAX))
                            .into());
                    }
                    let ordinal = self.facts.futexes.ended_by.get(&(cx.task, seq)).copied().unwrap_or(0);
                    let slot = u64::from(self.futex_slot(word, Some(ordinal)));
                    let step = base.arg(0, Sel::Futex, slot).imm(2, 0).imm(3, 0).imm(5, u64::from(u32::MAX));
                    return Ok(step.with(flags::BLOCKED).into());
                }
                let slot = u64::from(self.quiet());
                let mut step = base.arg(0, Sel::Futex, slot).imm(2, 0).imm(3, 0);
                if ret == -11 {
                    return Ok(step.imm(2, 1).into());
                }
                if let Some(ns) = timeout.filter(|_| ret == -110 || !unfinished) {
                    // Plain waits count from now, bitset waits name a moment.
                    step = if op == 9 {
                        let clock = u8::from(cx.call.args[1] & 0x100 == 0);
                        let left = self.left(cx, Some(ns), clock);
                        step.arg(3, Sel::AbsTimespec, clock_operand(clock, left))
                    } else {
                        step.arg(3, Sel::Timespec, ns)
                    };
                } else if ret == -110 {
                    return self.fault(cx);
                }
                Ok(step.into())
            }
            // FUTEX_WAKE, FUTEX_WAKE_BITSET
            1 | 10 => {
                if ret > 0 {
                    let count = self.wakes.entry(word).or_default();
                    let ordinal = *count;
                    *count = count.wrapping_add(1);
                    // Those whose wait never returned are not there to be woken.
                    let wasted = self.facts.futexes.wasted.get(&(word, ordinal)).copied().unwrap_or(0);
                    let woken = (ret as u64).saturating_sub(wasted);
                    if woken == 0 {
                        return Ok(self.surrogate(cx));
                    }
                    let slot = u64::from(self.futex_slot(word, Some(ordinal)));
                    let step = Step { kind: Kind::FutexWake as u8, ..base }
                        .arg(0, Sel::Futex, slot)
                        .imm(2, cx.call.args[2].min(woken))
                        .imm(5, u64::from(u32::MAX))
                        .expect(Expect::Exact, woken as i64);
                    return Ok(step.into());
                }
                let slot = u64::from(self.deserted());
                Ok(base.arg(0, Sel::Futex, slot).imm(2, cx.call.args[2]).imm(5, u64::from(u32::MAX)).into())
            }
            _ => {
                if matches!(op, 3..=5) && ret > 0 {
                    *self.wakes.entry(word).or_default() += 1;
                }
                Ok(self.surrogate(cx))
            }
        }
    }
}
