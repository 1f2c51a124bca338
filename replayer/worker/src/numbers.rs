//! Numbers of descriptors that threads give each other.
//!
//! The kernel gives the lowest number that is free. A call that makes a descriptor at once is moved to its recorded number
//! afterwards ([`crate::descriptors`]); an accept has its number before it waits for a connection (`__sys_accept4_file`,
//! net/socket.c), and keeps it from all others until it returns. So an accept first takes the lower numbers that are free,
//! and gives them back when it has its own; meanwhile no other thread changes the table.

use crate::arch::nr;
use crate::descriptors::F_DUPFD_CLOEXEC;
use crate::engine::{Forced, Rest, marked};
use crate::state::{Task, count, slot};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use ctrace_program::control::{Cause, Numbers, numbers, status};
use ctrace_program::{Expect, NUMBER_ARG, Step, Wait, flags};

/// Words of the set in which a number is asked for, and its bits.
const SET_WORDS: usize = 16;
const SET: u64 = 64 * SET_WORDS as u64;

/// A call's turn at the numbers of its process. It ends when this is dropped.
pub struct Turn<'t> {
    task: &'t Task,
    numbers: &'static Numbers,
    holds: bool,
}

impl<'t> Turn<'t> {
    /// Waits for it, if the step needs one.
    pub fn of(task: &'t Task, index: u32, step: &Step, regs: &[u64; 6]) -> Option<Self> {
        let holds = step.flags & flags::HOLDS_NUMBER != 0;
        if !holds && step.flags & flags::SHARES_NUMBERS == 0 {
            return None;
        }
        let numbers = &slot(task.entry.leader)?.numbers;
        let turn = Self { task, numbers, holds };
        let forced = Forced::watch(task);
        let mut rest = Rest::default();
        let came = loop {
            if if holds { turn.take(index, step, regs) } else { turn.join() } {
                break true;
            }
            if forced.is_on(task) {
                break false;
            }
            rest.take(task);
        };
        task.set_status(status::RUNNING);
        if !came {
            task.diverge(index, step, Cause::Renumber, step.args[NUMBER_ARG] as i64, 0);
        }
        came.then_some(turn)
    }

    /// Takes part in what may happen together. False: not now.
    fn join(&self) -> bool {
        let state = &self.numbers.state;
        let now = state.load(SeqCst);
        if now & (numbers::TAKING | numbers::BEGUN) == 0 {
            return state.compare_exchange(now, now + 1, SeqCst, SeqCst).is_ok();
        }
        self.settle();
        false
    }

    /// Takes the numbers below the one that the accept gets. False: not now.
    fn take(&self, index: u32, step: &Step, regs: &[u64; 6]) -> bool {
        let state = &self.numbers.state;
        if state.compare_exchange(0, numbers::TAKING, SeqCst, SeqCst).is_err() {
            self.settle();
            return false;
        }
        let (open, wanted) = (regs[0], step.args[NUMBER_ARG] as u32);
        let mut filled = 0;
        let lowest = loop {
            let got = marked(nr::FCNTL, [open, F_DUPFD_CLOEXEC, 0, 0, 0]);
            count(&self.task.slot.counters.engine_calls, 1);
            let Ok(number) = u32::try_from(got) else { break None };
            match self.numbers.fillers.get(filled) {
                Some(filler) if number < wanted => filler.store(number, Relaxed),
                _ => {
                    self.close(number);
                    break Some(number);
                }
            }
            filled += 1;
        };
        self.numbers.filled.store(filled as u32, Relaxed);
        match lowest {
            // The number that the accept gets now, or a lower one where more are free than can be taken.
            Some(number) if number <= wanted || !makes_one(step) => {
                self.numbers.wanted.store(number, Relaxed);
                self.numbers.by.store(self.task.index, Relaxed);
                self.numbers.step.store(index, Relaxed);
                state.store(numbers::BEGUN, SeqCst);
                true
            }
            // It was closed in the recording, and will be here.
            Some(_) => {
                self.give_back();
                false
            }
            // The process may have no more: the accept gets what there is.
            None => {
                self.give_back();
                true
            }
        }
    }

    /// Gives back what an accept took first, if it has its number or is over.
    fn settle(&self) {
        let all = self.numbers;
        if all.state.load(SeqCst) != numbers::BEGUN
            || !self.is_settled()
            || all.state.compare_exchange(numbers::BEGUN, numbers::TAKING, SeqCst, SeqCst).is_err()
        {
            return;
        }
        // It may be another one by now.
        if self.is_settled() { self.give_back() } else { all.state.store(numbers::BEGUN, SeqCst) }
    }

    fn is_settled(&self) -> bool {
        let by = self.numbers.by.load(Relaxed);
        let complete = Wait::completed(by, self.numbers.step.load(Relaxed)).seq;
        by == self.task.index
            || slot(by).is_none_or(|slot| slot.seq.load(SeqCst) >= complete)
            || self.is_taken(self.numbers.wanted.load(Relaxed))
    }

    fn give_back(&self) {
        let filled = self.numbers.filled.load(Relaxed) as usize;
        for filler in self.numbers.fillers.iter().take(filled) {
            self.close(filler.load(Relaxed));
        }
        self.numbers.state.store(0, SeqCst);
    }

    fn close(&self, number: u32) {
        let _ = marked(nr::CLOSE, [u64::from(number), 0, 0, 0, 0]);
        count(&self.task.slot.counters.engine_calls, 1);
    }

    /// Whether a number is not free: `select` refuses numbers that are (`max_select_fd`, fs/select.c), and changes nothing.
    fn is_taken(&self, number: u32) -> bool {
        const EBADF: i64 = -9;
        let number = u64::from(number);
        count(&self.task.slot.counters.engine_calls, 1);
        let Some(select) = nr::SELECT.filter(|_| number < SET) else {
            // It is asked for, and for a moment taken.
            let mine = u64::from(self.numbers.fillers[0].load(Relaxed));
            let got = marked(nr::FCNTL, [mine, F_DUPFD_CLOEXEC, number, 0, 0]);
            if let Ok(got) = u32::try_from(got) {
                self.close(got);
            }
            return got != number as i64;
        };
        let mut set = [0_u64; SET_WORDS];
        if let Some(word) = set.get_mut(number as usize / 64) {
            *word = 1 << (number % 64);
        }
        let at_once = [0_u64; 2];
        let (set, at_once) = (set.as_mut_ptr() as u64, at_once.as_ptr() as u64);
        marked(select, [number + 1, set, 0, 0, at_once]) != EBADF
    }
}

/// Whether the recorded accept made a descriptor. Several that did not may hold numbers at a time, whichever these are, above
/// all that were made.
fn makes_one(step: &Step) -> bool {
    step.expect_kind != Expect::Never as u8 && step.expect >= 0
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.holds {
            self.numbers.state.fetch_sub(1, SeqCst);
        } else if self.numbers.by.load(Relaxed) == self.task.index {
            self.settle();
        }
    }
}
