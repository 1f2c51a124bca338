//! Tasks that sleep until another task has come to a place of its program. That task wakes them as it goes on.
//!
//! A task that woke all its sleepers whenever it moves would wake each of `n` for every other of them. So a sleeper has a
//! futex word by where its place is: one for each place of the eight around it, one for each eight of the 64 around those, one
//! for each 64 of the 1,024 around those, and so on up to 262,144 and for each part of those beyond. A task that passes a place
//! wakes the words of that place alone. A sleeper that waited for many sleeps again, for a nearer one: it is woken at most
//! five times, and once more for every 262,144 places. Many sleep for long: those who play connections that come much later.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

/// Futex words of a task.
pub const WORDS: usize = 64;
/// First word of the eights, of the 64s, of the 1,024s, and of the 16,384s.
const EIGHTS: u32 = 8;
const SIXTY_FOURS: u32 = 16;
const THOUSANDS: u32 = 32;
const FAR: u32 = 48;

/// The sleepers of one task.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Sleepers {
    /// The words that somebody may sleep on, a bit each.
    asleep: AtomicU64,
    /// Bumped when those who sleep on them are woken. Futex words.
    words: [[AtomicU32; WORDS / 2]; 2],
}

/// A word to sleep on as long as it has a value.
#[derive(Debug)]
pub struct Sleep<'a> {
    /// Futex word.
    pub word: &'a AtomicU32,
    /// The value that it has until somebody is to be woken.
    pub value: u32,
}

impl Sleepers {
    /// Announces that somebody sleeps until `seq` is at least `target`. `None`: it is.
    ///
    /// We set the bit and then look at `seq`; the task stores `seq` and then looks at the bits: one of us sees the other. A word
    /// is bumped after its bit was cleared, so that who set the bit before that and has not slept by then does not sleep.
    pub fn sleep(&self, seq: &AtomicU32, target: u32) -> Option<Sleep<'_>> {
        loop {
            let at = seq.load(SeqCst);
            if at >= target {
                return None;
            }
            let place = place(at, target);
            let word = self.word(place);
            let value = word.load(SeqCst);
            self.asleep.fetch_or(1 << place, SeqCst);
            let now = seq.load(SeqCst);
            if now >= target {
                return None;
            }
            if self::place(now, target) == place {
                return Some(Sleep { word, value });
            }
        }
    }

    /// The task has gone on from one place to another, and has stored that. Calls `wake` for each word whose sleepers are to be
    /// woken.
    #[inline]
    pub fn passed(&self, from: u32, to: u32, wake: impl FnMut(&AtomicU32)) {
        let asleep = self.asleep.load(SeqCst);
        if asleep != 0 {
            self.rouse(asleep & words(from, to), wake);
        }
    }

    /// Wakes all who sleep: they look again.
    pub fn all(&self, wake: impl FnMut(&AtomicU32)) {
        self.rouse(u64::MAX, wake);
    }

    const fn word(&self, place: u32) -> &AtomicU32 {
        let place = place as usize % WORDS;
        &self.words[place * 2 / WORDS][place % (WORDS / 2)]
    }

    fn rouse(&self, mut which: u64, mut wake: impl FnMut(&AtomicU32)) {
        if which == 0 {
            return;
        }
        self.asleep.fetch_and(!which, SeqCst);
        while which != 0 {
            let word = self.word(which.trailing_zeros());
            which &= which - 1;
            word.fetch_add(1, SeqCst);
            wake(word);
        }
    }
}

/// The word of a sleeper, by where the task is and where it has to be.
const fn place(at: u32, target: u32) -> u32 {
    if at >> 3 == target >> 3 {
        target & 7
    } else if at >> 6 == target >> 6 {
        EIGHTS + ((target >> 3) & 7)
    } else if at >> 10 == target >> 10 {
        SIXTY_FOURS + ((target >> 6) & 15)
    } else if at >> 14 == target >> 14 {
        THOUSANDS + ((target >> 10) & 15)
    } else {
        FAR + ((target >> 14) & 15)
    }
}

/// The words, a bit each, of the places after `from` up to `to`.
const fn words(from: u32, to: u32) -> u64 {
    let near = ring(from, to, 8) | ring(from >> 3, to >> 3, 8) << EIGHTS;
    let near = near | ring(from >> 6, to >> 6, 16) << SIXTY_FOURS;
    near as u64
        | (ring(from >> 10, to >> 10, 16) as u64) << THOUSANDS
        | (ring(from >> 14, to >> 14, 16) as u64) << FAR
}

/// The numbers after `from` up to `to`, a bit each, in a ring of `size` bits.
const fn ring(from: u32, to: u32, size: u32) -> u32 {
    let whole = u32::MAX >> (32 - size);
    let count = to.saturating_sub(from);
    if count >= size {
        return whole;
    }
    let first = (1_u32 << count) - 1;
    let turn = from.wrapping_add(1) % size;
    // The part beyond the last bit goes on at the first.
    (first << turn | first >> (size - turn)) & whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn who_sleeps_is_woken_by_the_time_the_task_is_there() {
        for (from, target) in [
            (0, 1),
            (0, 7),
            (5, 9),
            (7, 8),
            (3, 64),
            (60, 70),
            (1, 5_000),
            (1_000, 2_025),
            (16_383, 16_384),
            (5, 700_001),
        ] {
            let (mut at, mut woken) = (from, 0);
            while at < target {
                let word = place(at, target);
                let until = (at + 1..=target).find(|to| words(at, *to) & 1 << word != 0);
                at = until.expect("never woken");
                woken += 1;
            }
            assert!(woken <= 5 + ((target - from) >> 18), "{from} to {target}: {woken}");
        }
    }

    #[test]
    fn places_in_one_eight_have_words_of_their_own() {
        let words: BTreeSet<u32> = (16..24).map(|target| place(16, target)).collect();
        assert_eq!(words.len(), 8);
        let eights: BTreeSet<u32> = (72..128).step_by(8).map(|target| place(64, target)).collect();
        assert_eq!(eights.len(), 7);
    }

    #[test]
    fn a_ring_has_the_numbers_after_one_up_to_another() {
        for (from, to) in
            [(0_u32, 0_u32), (0, 1), (6, 9), (7, 15), (3, 10), (3, 11), (9, 100), (u32::MAX - 1, u32::MAX)]
        {
            let bits = (u64::from(from) + 1..=u64::from(to))
                .map(|n| 1 << (n % 8))
                .fold(0, |all, bit: u32| all | bit);
            assert_eq!(ring(from, to, 8), bits, "{from} to {to}");
        }
    }

    #[test]
    fn threads_that_sleep_for_one_another_all_go_on() {
        const ROUNDS: u32 = 3_000;
        let (seqs, sleepers) =
            ([AtomicU32::new(0), AtomicU32::new(0)], [Sleepers::default(), Sleepers::default()]);
        let publish = |of: usize, to: u32| {
            let from = seqs[of].swap(to, SeqCst);
            sleepers[of].passed(from, to, |_| {});
        };
        let wait = |of: usize, target: u32| {
            while let Some(sleep) = sleepers[of].sleep(&seqs[of], target) {
                while sleep.word.load(SeqCst) == sleep.value {
                    std::thread::yield_now();
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (1..=ROUNDS).for_each(|round| {
                    publish(0, 3 * round);
                    wait(1, round);
                });
            });
            scope.spawn(|| {
                (1..=ROUNDS).for_each(|round| {
                    wait(0, 3 * round);
                    publish(1, round);
                });
            });
            scope.spawn(|| wait(0, 2 * ROUNDS));
        });
    }
}
