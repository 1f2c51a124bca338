//! Which futex wakes ended which waits.
//!
//! A wait that returned 0 was ended by a wake that was under way, or over, when it returned, and that did not end before the
//! wait began; a wake that returned n ended n waits. Calls are told in the order in which they return, so a wait takes the
//! first wake that fits: that finds a partner for as many as can have one (waits are intervals in order of their ends, wakes
//! are moments), and where it does not, one wait gives its wake up for another. Since both conditions hold for every pair, a
//! step never waits for what its own progress causes.
//!
//! A requeue moves waits to another word: the wake of that word ends them. A wait without a wake was ended by the kernel (the
//! exit of a thread clears its tid word) or from outside, and has to be replayed differently.

use super::world::TaskIx;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;

/// Identity of a futex word: address space (process index; [`SHARED`] for shared words) and address.
pub(crate) type Word = (u32, u64);
/// The address space of words that processes share.
pub(crate) const SHARED: u32 = u32::MAX;

/// Wakes of one word that a wait may still turn out to have been ended by, and waits that a wake may.
const OPEN_MAX: usize = 256;
/// Words that are related to one word by calls that are about both.
const RELATED_MAX: usize = 16;
/// `FUTEX_BITSET_MATCH_ANY`: the waits that a wake without a mask ends.
pub(crate) const ANY: u32 = u32::MAX;

/// A wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sleep {
    pub(crate) task: TaskIx,
    pub(crate) seq: u32,
    pub(crate) word: Word,
    pub(crate) mask: u32,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
}

/// A call that ended waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waking {
    pub(crate) task: TaskIx,
    pub(crate) seq: u32,
    pub(crate) word: Word,
    pub(crate) mask: u32,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    /// Waits that it ended.
    pub(crate) woken: u32,
    /// Another word that it is about: waits that it moved there (a requeue), or perhaps ended there (`None`).
    pub(crate) other: Option<(Word, Option<u32>)>,
}

/// A wait and the call that ended it, or moved it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) waker: (TaskIx, u32),
    /// It was moved by the waker and ended by another.
    pub(crate) moved: bool,
    pub(crate) sleeper: (TaskIx, u32),
    /// The wait began before the waking call did.
    pub(crate) before: bool,
}

/// Threads whose end another waits for, by the word that the kernel clears when a thread ends.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    /// The waits, by thread, and the threads, by wait.
    waits: FxHashMap<TaskIx, (TaskIx, u32)>,
    threads: FxHashMap<(TaskIx, u32), TaskIx>,
    words: FxHashMap<TaskIx, Word>,
}

impl Joins {
    /// By word of a thread id: the waits on it, and the threads that those waits name.
    pub(crate) fn of(
        words: &FxHashMap<Word, Vec<TaskIx>>,
        wakes: &Wakes,
        named: &FxHashMap<(TaskIx, u32), TaskIx>,
    ) -> Self {
        let mut joins = Self::default();
        for (word, threads) in words {
            let Some(waits) = wakes.by_word.get(word) else { continue };
            // The same word serves one thread after the other. A wait names its thread by the value that it finds there; where
            // that is an id of another namespace, waits and threads pair up in order.
            for (wait, thread) in waits.iter().filter_map(|wait| Some((wait, named.get(wait)?))) {
                joins.waits.insert(*thread, *wait);
            }
            let left: Vec<TaskIx> =
                threads.iter().filter(|thread| !joins.waits.contains_key(*thread)).copied().collect();
            for (thread, wait) in left.into_iter().zip(waits.iter().filter(|wait| !named.contains_key(*wait)))
            {
                joins.waits.insert(thread, *wait);
            }
            for thread in threads {
                joins.words.entry(*thread).or_insert(*word);
            }
        }
        joins.threads = joins.waits.iter().map(|(thread, wait)| (*wait, *thread)).collect();
        joins
    }

    /// The call that waits for a thread to end.
    pub(crate) fn wait_for(&self, thread: TaskIx) -> Option<(TaskIx, u32)> {
        self.waits.get(&thread).copied()
    }

    /// The thread whose end a call waits for.
    pub(crate) fn thread_of(&self, wait: (TaskIx, u32)) -> Option<TaskIx> {
        self.threads.get(&wait).copied()
    }

    /// The word that the kernel clears when a thread ends, if somebody waits for that.
    pub(crate) fn word(&self, thread: TaskIx) -> Option<Word> {
        self.waits.get(&thread)?;
        self.words.get(&thread).copied()
    }
}

/// A waking call in the window.
#[derive(Debug)]
struct Open {
    call: Waking,
    left: u32,
    left_to_move: u32,
    ended: Vec<Sleep>,
}

impl Open {
    fn fits(&self, sleep: &Sleep) -> bool {
        self.call.start_ns <= sleep.end_ns
            && self.call.end_ns >= sleep.start_ns
            && self.call.mask & sleep.mask != 0
            && self.call.task != sleep.task
    }
}

#[derive(Debug, Default)]
struct Queue {
    wakes: VecDeque<Open>,
    sleeps: VecDeque<Sleep>,
    /// Words whose wakes may have ended waits on this one, and words whose waits the wakes of this one may have ended.
    wakes_from: Vec<Word>,
    sleeps_from: Vec<Word>,
}

/// Matches waits with wakes as they complete.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    queues: FxHashMap<Word, Queue>,
    found: Vec<Pair>,
    unmatched: Vec<Sleep>,
}

fn pair(call: &Waking, sleep: &Sleep, moved: bool) -> Pair {
    Pair {
        waker: (call.task, call.seq),
        moved,
        sleeper: (sleep.task, sleep.seq),
        before: sleep.start_ns < call.start_ns,
    }
}

fn relate(to: &mut Vec<Word>, word: Word) {
    if !to.contains(&word) && to.len() < RELATED_MAX {
        to.push(word);
    }
}

impl Matcher {
    /// A wait ended with 0.
    pub(crate) fn waited(&mut self, sleep: Sleep) {
        if !self.take(&sleep) {
            let queue = self.queues.entry(sleep.word).or_default();
            queue.sleeps.push_back(sleep);
            if queue.sleeps.len() > OPEN_MAX {
                self.unmatched.extend(queue.sleeps.pop_front());
            }
        }
    }

    /// A wait was still there when its task ended, or the recording: it may have been ended without ever returning.
    pub(crate) fn stayed(&mut self, sleep: &Sleep) {
        if let Some(queue) = self.queues.get_mut(&sleep.word)
            && let Some(open) = queue.wakes.iter_mut().rev().find(|open| open.left > 0 && open.fits(sleep))
        {
            open.left -= 1;
        }
    }

    /// Finds the wake of a wait.
    fn take(&mut self, sleep: &Sleep) -> bool {
        let Some(queue) = self.queues.get_mut(&sleep.word) else { return false };
        if let Some(open) = queue.wakes.iter_mut().find(|open| open.left > 0 && open.fits(sleep)) {
            open.left -= 1;
            open.ended.push(*sleep);
            return true;
        }
        for word in queue.wakes_from.clone() {
            if self.take_from(sleep, word) {
                return true;
            }
        }
        let Some(queue) = self.queues.get_mut(&sleep.word) else { return false };
        make_room(&mut queue.wakes, sleep)
    }

    /// Finds the wake of a wait among those of a related word: one that is about both words, or, when a requeue moved waits
    /// there, one of that word, or one that is about that word, too.
    fn take_from(&mut self, sleep: &Sleep, word: Word) -> bool {
        let from = sleep.word;
        if self.take_of_two(sleep, word, from, 0) {
            return true;
        }
        let moving = self.queues.get(&from).and_then(|queue| {
            queue.wakes.iter().find(|open| {
                open.left_to_move > 0 && open.fits(sleep) && open.call.other.is_some_and(|(to, _)| to == word)
            })
        });
        let Some(moving) = moving.map(|open| open.call) else { return false };
        let Some(queue) = self.queues.get_mut(&word) else { return false };
        let ends =
            |open: &&mut Open| open.left > 0 && open.fits(sleep) && moving.start_ns <= open.call.end_ns;
        let ended = if let Some(open) = queue.wakes.iter_mut().find(ends) {
            open.left -= 1;
            open.ended.push(*sleep);
            true
        } else {
            let others = queue.wakes_from.clone();
            others.into_iter().any(|other| self.take_of_two(sleep, other, word, moving.start_ns))
        };
        let mover = self.queues.get_mut(&from).and_then(|queue| {
            let same = |open: &&mut Open| (open.call.task, open.call.seq) == (moving.task, moving.seq);
            queue.wakes.iter_mut().find(same)
        });
        if ended && let Some(open) = mover {
            open.left_to_move -= 1;
            self.found.push(pair(&moving, sleep, true));
        }
        ended
    }

    /// Finds the wake of a wait on the word `second` among those of `first` that are about both, not before `since_ns`.
    fn take_of_two(&mut self, sleep: &Sleep, first: Word, second: Word, since_ns: u64) -> bool {
        let Some(queue) = self.queues.get_mut(&first) else { return false };
        let ends = |open: &&mut Open| {
            open.left > 0
                && open.call.other == Some((second, None))
                && open.fits(sleep)
                && open.call.end_ns >= since_ns
        };
        let Some(open) = queue.wakes.iter_mut().find(ends) else { return false };
        open.left -= 1;
        open.ended.push(*sleep);
        true
    }

    /// A call ended waits, or moved some.
    pub(crate) fn woke(&mut self, call: Waking) {
        let moving = call.other.and_then(|(_, count)| count).unwrap_or(0);
        if let Some((other, moves)) = call.other {
            let (sleeps, wakes) = if moves.is_some() { (call.word, other) } else { (other, call.word) };
            relate(&mut self.queues.entry(sleeps).or_default().wakes_from, wakes);
            relate(&mut self.queues.entry(wakes).or_default().sleeps_from, sleeps);
        }
        let open = Open { call, left: call.woken, left_to_move: moving, ended: Vec::new() };
        let queue = self.queues.entry(call.word).or_default();
        queue.wakes.push_back(open);
        let old = if queue.wakes.len() > OPEN_MAX { queue.wakes.pop_front() } else { None };
        let near = queue.sleeps_from.clone();
        if let Some(old) = old {
            self.close(&old);
        }
        let far = near.iter().filter_map(|word| self.queues.get(word)).flat_map(|queue| &queue.sleeps_from);
        let words: FxHashSet<Word> = [call.word].iter().chain(&near).chain(far).copied().collect();
        // Those that it ended may have been quicker to return.
        for word in words {
            let waiting = self.queues.get_mut(&word).map(|queue| std::mem::take(&mut queue.sleeps));
            let left: VecDeque<Sleep> =
                waiting.into_iter().flatten().filter(|sleep| !self.take(sleep)).collect();
            if let Some(queue) = self.queues.get_mut(&word) {
                queue.sleeps = left;
            }
        }
    }

    fn close(&mut self, open: &Open) {
        self.found.extend(open.ended.iter().map(|sleep| pair(&open.call, sleep, false)));
    }

    /// Number of words.
    pub(crate) fn words(&self) -> usize {
        self.queues.len()
    }

    /// What has been found.
    pub(crate) fn finish(mut self) -> Wakes {
        for (_, queue) in std::mem::take(&mut self.queues) {
            queue.wakes.iter().for_each(|open| self.close(open));
            self.unmatched.extend(queue.sleeps);
        }
        self.found.sort_unstable();
        self.unmatched.sort_unstable_by_key(|sleep| (sleep.end_ns, sleep.task));
        let mut by_word: FxHashMap<Word, Vec<(TaskIx, u32)>> = FxHashMap::default();
        for sleep in &self.unmatched {
            by_word.entry(sleep.word).or_default().push((sleep.task, sleep.seq));
        }
        Wakes {
            pairs: self.found,
            alone: self.unmatched.iter().map(|sleep| (sleep.task, sleep.seq)).collect(),
            by_word,
        }
    }
}

/// Gives a wait the wake of another one that can have a different wake.
fn make_room(wakes: &mut VecDeque<Open>, sleep: &Sleep) -> bool {
    for mine in 0..wakes.len() {
        if wakes[mine].ended.is_empty() || !wakes[mine].fits(sleep) {
            continue;
        }
        for at in 0..wakes[mine].ended.len() {
            let other = wakes[mine].ended[at];
            if other.word == sleep.word
                && let Some(open) = wakes.iter_mut().find(|open| open.left > 0 && open.fits(&other))
            {
                open.left -= 1;
                open.ended.push(other);
                wakes[mine].ended[at] = *sleep;
                return true;
            }
        }
    }
    false
}

/// Which calls ended which waits.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    /// In order of the waking calls.
    pairs: Vec<Pair>,
    /// Waits that returned 0 and that no recorded call ended, by task and ordinal of the call.
    pub(crate) alone: FxHashSet<(TaskIx, u32)>,
    /// The same by word, in order of their ends.
    pub(crate) by_word: FxHashMap<Word, Vec<(TaskIx, u32)>>,
}

impl Wakes {
    /// The waits that a call ended, and after them those that it moved.
    pub(crate) fn of(&self, task: TaskIx, seq: u32) -> &[Pair] {
        let from = self.pairs.partition_point(|pair| pair.waker < (task, seq));
        let len = self.pairs[from..].partition_point(|pair| pair.waker == (task, seq));
        &self.pairs[from..from + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Word = (0, 8);
    const B: Word = (0, 16);

    fn sleep(task: TaskIx, seq: u32, start_ns: u64, end_ns: u64) -> Sleep {
        Sleep { task, seq, word: A, mask: ANY, start_ns, end_ns }
    }
    fn wake(seq: u32, start_ns: u64, end_ns: u64, woken: u32) -> Waking {
        Waking { task: 9, seq, word: A, mask: ANY, start_ns, end_ns, woken, other: None }
    }
    fn sleepers(wakes: &Wakes, seq: u32) -> Vec<(TaskIx, u32)> {
        wakes.of(9, seq).iter().map(|pair| pair.sleeper).collect()
    }

    #[test]
    fn a_wake_may_be_seen_before_or_after_the_wait_it_ends() {
        let mut m = Matcher::default();
        m.woke(wake(0, 10, 12, 1));
        m.waited(sleep(1, 0, 5, 11));
        m.waited(sleep(1, 1, 20, 31));
        m.woke(wake(1, 30, 32, 1));
        // Nobody who began to wait after a wake was woken by it.
        m.woke(wake(2, 33, 34, 1));
        m.waited(sleep(2, 0, 40, 50));
        let wakes = m.finish();
        assert_eq!(sleepers(&wakes, 0), [(1, 0)]);
        assert_eq!(sleepers(&wakes, 1), [(1, 1)]);
        assert_eq!(sleepers(&wakes, 2), []);
        assert_eq!(wakes.alone.into_iter().collect::<Vec<_>>(), [(2, 0)]);
    }

    #[test]
    fn every_wait_gets_a_wake_if_there_is_a_way() {
        let mut m = Matcher::default();
        m.woke(wake(0, 10, 30, 1));
        m.woke(wake(1, 28, 29, 1));
        // Both fit the first wake; only one of them fits the second.
        m.waited(sleep(1, 0, 5, 40));
        m.waited(Sleep { task: 2, mask: ANY, ..sleep(2, 0, 30, 50) });
        let wakes = m.finish();
        assert_eq!((sleepers(&wakes, 0), sleepers(&wakes, 1)), (vec![(2, 0)], vec![(1, 0)]));
        assert!(wakes.alone.is_empty());
    }

    #[test]
    fn a_mask_and_the_waker_itself_tell_waits_apart() {
        let mut m = Matcher::default();
        m.waited(Sleep { mask: 1, ..sleep(1, 0, 5, 20) });
        m.waited(Sleep { mask: 2, ..sleep(2, 0, 5, 21) });
        m.waited(sleep(9, 7, 5, 22));
        m.woke(Waking { mask: 2, ..wake(0, 15, 25, 1) });
        let wakes = m.finish();
        assert_eq!(sleepers(&wakes, 0), [(2, 0)]);
        assert_eq!(wakes.alone.len(), 2);
    }

    #[test]
    fn a_moved_wait_is_ended_by_a_wake_of_the_other_word() {
        let mut m = Matcher::default();
        m.woke(Waking { other: Some((B, Some(2))), ..wake(0, 10, 12, 1) });
        m.waited(sleep(1, 0, 1, 15));
        m.woke(Waking { word: B, ..wake(1, 20, 21, 1) });
        m.waited(sleep(2, 0, 2, 25));
        m.waited(sleep(3, 0, 3, 31));
        m.woke(Waking { word: B, ..wake(2, 30, 32, 1) });
        let wakes = m.finish();
        let moved: Vec<_> = wakes.of(9, 0).iter().map(|pair| (pair.sleeper.0, pair.moved)).collect();
        assert_eq!(moved, [(1, false), (2, true), (3, true)]);
        assert_eq!((sleepers(&wakes, 1), sleepers(&wakes, 2)), (vec![(2, 0)], vec![(3, 0)]));
    }

    #[test]
    fn a_wake_of_two_words_ends_waits_on_either() {
        let mut m = Matcher::default();
        m.woke(Waking { other: Some((B, None)), ..wake(0, 10, 12, 2) });
        m.waited(sleep(1, 0, 1, 15));
        m.waited(Sleep { word: B, ..sleep(2, 0, 1, 16) });
        assert_eq!(sleepers(&m.finish(), 0), [(1, 0), (2, 0)]);
    }

    #[test]
    fn a_moved_wait_is_ended_by_a_wake_of_two_words() {
        const C: Word = (0, 24);
        let mut m = Matcher::default();
        m.woke(Waking { other: Some((B, Some(1))), ..wake(0, 10, 12, 1) });
        m.waited(sleep(1, 0, 1, 15));
        // The wait is seen first.
        m.waited(sleep(2, 0, 2, 25));
        m.woke(Waking { word: C, other: Some((B, None)), ..wake(1, 20, 30, 1) });
        let wakes = m.finish();
        assert_eq!((sleepers(&wakes, 0), sleepers(&wakes, 1)), (vec![(1, 0), (2, 0)], vec![(2, 0)]));
    }

    #[test]
    fn a_wait_that_never_returned_takes_the_wake_that_nobody_else_took() {
        let mut m = Matcher::default();
        m.woke(wake(0, 10, 12, 2));
        m.waited(sleep(1, 0, 1, 15));
        m.stayed(&sleep(2, 0, 2, 20));
        m.waited(sleep(3, 0, 3, 30));
        let wakes = m.finish();
        assert_eq!(sleepers(&wakes, 0), [(1, 0)]);
        assert!(wakes.alone.contains(&(3, 0)));
    }
}
