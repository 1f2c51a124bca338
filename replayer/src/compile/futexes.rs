//! Which futex waits were ended by which wakes. A wait that returned 0 without a recorded wake was ended by the kernel
//! (the exit of a thread clears its tid word) or from outside, and has to be replayed differently.

use super::world::TaskIx;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;

/// Identity of a futex word: address space (process index; `u32::MAX` for shared words) and address.
pub(crate) type Word = (u32, u64);

/// Waits and wakes of one word that have no counterpart yet are forgotten beyond this many.
const OPEN_MAX: usize = 1024;

#[derive(Debug, Default)]
struct Open {
    waits: VecDeque<(TaskIx, u32, u64, u64)>,
    /// Start, end, waiters left, ordinal among the word's wakes.
    wakes: VecDeque<(u64, u64, u64, u32)>,
    woken: u32,
}

/// Matches waits with wakes as they complete.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    open: FxHashMap<Word, Open>,
    unmatched: FxHashSet<(TaskIx, u32)>,
    /// Waits without a wake, by word.
    by_word: FxHashMap<Word, Vec<(TaskIx, u32)>>,
    ended_by: FxHashMap<(TaskIx, u32), u32>,
    wasted: FxHashMap<(Word, u32), u64>,
}

impl Matcher {
    /// A wait ended with 0.
    pub(crate) fn waited(&mut self, word: Word, task: TaskIx, seq: u32, start_ns: u64, end_ns: u64) {
        let open = self.open.entry(word).or_default();
        // It was waiting when the wake came, and returned afterwards.
        let fits = |w: &(u64, u64, u64, u32)| w.0 <= end_ns && w.1 >= start_ns && w.2 > 0;
        if let Some(i) = open.wakes.iter().position(fits) {
            open.wakes[i].2 -= 1;
            self.ended_by.insert((task, seq), open.wakes[i].3);
            if open.wakes[i].2 == 0 {
                open.wakes.remove(i);
            }
            return;
        }
        open.waits.push_back((task, seq, start_ns, end_ns));
        if open.waits.len() > OPEN_MAX
            && let Some((task, seq, ..)) = open.waits.pop_front()
        {
            self.unmatched.insert((task, seq));
        }
    }
    /// A wake woke `count`.
    pub(crate) fn woke(&mut self, word: Word, start_ns: u64, end_ns: u64, count: u64) {
        let open = self.open.entry(word).or_default();
        let ordinal = open.woken;
        open.woken = open.woken.wrapping_add(1);
        let mut left = count;
        while left > 0
            && let Some(i) =
                open.waits.iter().position(|(_, _, start, end)| *end >= start_ns && *start <= end_ns)
        {
            if let Some((task, seq, ..)) = open.waits.remove(i) {
                self.ended_by.insert((task, seq), ordinal);
            }
            left -= 1;
        }
        if left > 0 {
            open.wakes.push_back((start_ns, end_ns, left, ordinal));
            if open.wakes.len() > OPEN_MAX
                && let Some((_, _, left, ordinal)) = open.wakes.pop_front()
            {
                self.wasted.insert((word, ordinal), left);
            }
        }
    }
    /// Number of words.
    pub(crate) fn words(&self) -> usize {
        self.open.len()
    }
    /// The waits that no wake ended.
    pub(crate) fn finish(mut self) -> Unmatched {
        for (word, open) in self.open {
            for (task, seq, ..) in open.waits {
                self.unmatched.insert((task, seq));
                self.by_word.entry(word).or_default().push((task, seq));
            }
            for (_, _, left, ordinal) in open.wakes {
                self.wasted.insert((word, ordinal), left);
            }
        }
        Unmatched {
            waits: self.unmatched,
            by_word: self.by_word,
            ended_by: self.ended_by,
            wasted: self.wasted,
        }
    }
}

/// Waits that returned 0 and that no recorded wake ended.
#[derive(Debug, Default)]
pub(crate) struct Unmatched {
    /// By task and ordinal of the call.
    pub(crate) waits: FxHashSet<(TaskIx, u32)>,
    /// By word.
    pub(crate) by_word: FxHashMap<Word, Vec<(TaskIx, u32)>>,
    /// Of the other waits: which of their word's wakes ended them.
    pub(crate) ended_by: FxHashMap<(TaskIx, u32), u32>,
    /// Wakes that reached tasks whose wait never returned: how many of those.
    pub(crate) wasted: FxHashMap<(Word, u32), u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_may_be_seen_before_or_after_the_wait_it_ends() {
        let mut m = Matcher::default();
        m.woke((0, 8), 10, 12, 1);
        m.waited((0, 8), 1, 0, 5, 11);
        m.waited((0, 8), 1, 1, 20, 31);
        m.woke((0, 8), 30, 32, 1);
        // Nobody who began to wait after a wake was woken by it.
        m.woke((0, 8), 33, 34, 1);
        m.waited((0, 8), 2, 0, 40, 50);
        let left = m.finish();
        assert_eq!(left.waits.into_iter().collect::<Vec<_>>(), [(2, 0)]);
    }
}
