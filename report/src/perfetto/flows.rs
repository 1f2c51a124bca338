//! Arrows from what one task did to what another got: a wake, a connection, bytes, a signal.
//!
//! Perfetto draws an arrow from the slice that began first, which of a wait and the wake that ends it is the wait. So both
//! ends are instants on a track of their own below their thread: the cause when its call began, the effect when its call was
//! over. An end is written once the other is known; those whose other end does not come within a number of others
//! of their thread are left out, so that every arrow has both ends.

use super::sheet::{Lane, Name, Note, Sheet, Value};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::hash::Hash;
use std::io::{self, Write};

/// Ends of a thread that wait for their others.
const WAITING: usize = 64;
/// Ends of one kind of arrow that wait for their others.
const OPEN: usize = 64;
/// Things that arrows are between: what was not used for longest is forgotten, all of it.
const THINGS: usize = 1 << 16;

/// An end of an arrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    thread: usize,
    id: u64,
    t_ns: u64,
}

impl End {
    pub(super) const fn t_ns(self) -> u64 {
        self.t_ns
    }
}

#[derive(Debug)]
struct Pending {
    id: u64,
    t_ns: u64,
    said: Said,
    /// So many others may still come.
    left: u64,
    /// The arrows that begin here, and those that end here.
    out: Vec<u64>,
    into: Vec<u64>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Pending>,
    lane: Option<Lane>,
}

/// Both ends of all arrows, as far as they are not written.
#[derive(Debug, Default)]
pub(super) struct Flows {
    queues: FxHashMap<usize, Queue>,
    ids: u64,
    drawn: u64,
}

/// What an end of an arrow says.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) category: &'static str,
    pub(super) text: &'static str,
    pub(super) about: Option<String>,
}

impl Flows {
    /// An end that may have so many others.
    pub(super) fn end(&mut self, thread: usize, t_ns: u64, left: u64, said: Said) -> End {
        self.ids += 1;
        let pending = Pending { id: self.ids, t_ns, said, left, out: Vec::new(), into: Vec::new() };
        let waiting = &mut self.queues.entry(thread).or_default().waiting;
        let at = waiting.iter().rposition(|other| other.t_ns <= t_ns).map_or(0, |before| before + 1);
        waiting.insert(at, pending);
        End { thread, id: self.ids, t_ns }
    }

    fn pending(&mut self, end: End) -> Option<&mut Pending> {
        let waiting = &mut self.queues.get_mut(&end.thread)?.waiting;
        waiting.iter_mut().find(|pending| pending.id == end.id && pending.left > 0)
    }

    /// Draws an arrow, if both ends can still be written.
    pub(super) fn connect(&mut self, from: End, to: End) -> bool {
        if self.pending(from).is_none() || self.pending(to).is_none() {
            return false;
        }
        self.drawn += 1;
        let id = self.drawn;
        if let Some(from) = self.pending(from) {
            from.out.push(id);
            from.left -= 1;
        }
        if let Some(to) = self.pending(to) {
            to.into.push(id);
            to.left -= 1;
        }
        true
    }

    /// Nothing more comes for this end.
    pub(super) fn close(&mut self, end: End) {
        if let Some(pending) = self.pending(end) {
            pending.left = 0;
        }
    }

    /// Arrows drawn.
    pub(super) const fn drawn(&self) -> u64 {
        self.drawn
    }

    /// Writes what is known of a thread, in the order of time; at the end, `all` of it.
    pub(super) fn settle<W: Write>(
        &mut self,
        thread: usize,
        sheet: &mut Sheet<W>,
        mut lane: impl FnMut(&mut Sheet<W>) -> io::Result<Lane>,
        all: bool,
    ) -> io::Result<()> {
        let Some(queue) = self.queues.get_mut(&thread) else { return Ok(()) };
        while let Some(first) = queue.waiting.front() {
            if first.left > 0 && !all && queue.waiting.len() <= WAITING {
                break;
            }
            let Some(pending) = queue.waiting.pop_front() else { break };
            if pending.out.is_empty() && pending.into.is_empty() {
                continue;
            }
            let on = match queue.lane {
                Some(lane) => lane,
                None => *queue.lane.insert(lane(sheet)?),
            };
            let what = (pending.said.category, Name::Often(pending.said.text));
            let notes: Vec<Note> =
                pending.said.about.map(|about| ("about", Value::Often(about))).into_iter().collect();
            sheet.flowing(on, pending.t_ns, what, notes, (pending.out, pending.into))?;
        }
        Ok(())
    }

    /// The threads that have ends to be written.
    pub(super) fn threads(&self) -> Vec<usize> {
        let waiting = self.queues.iter().filter(|(_, queue)| !queue.waiting.is_empty());
        let mut threads: Vec<usize> = waiting.map(|(thread, _)| *thread).collect();
        threads.sort_unstable();
        threads
    }
}

/// Ends that wait for their others, by what they are about: the one that came first is served first.
#[derive(Debug)]
pub(super) struct Meeting<K> {
    causes: FxHashMap<K, VecDeque<End>>,
    effects: FxHashMap<K, VecDeque<End>>,
}

impl<K> Default for Meeting<K> {
    fn default() -> Self {
        Self { causes: FxHashMap::default(), effects: FxHashMap::default() }
    }
}

impl<K: Eq + Hash + Clone> Meeting<K> {
    /// A cause, which may have so many effects: those that came before this was known, and later ones.
    pub(super) fn cause(&mut self, key: &K, end: End, times: u64, flows: &mut Flows) {
        let mut left = times;
        if let Some(waiting) = self.effects.get_mut(key) {
            while left > 0
                && let Some(effect) = waiting.pop_front()
            {
                if effect.t_ns >= end.t_ns && flows.connect(end, effect) {
                    left -= 1;
                }
            }
        }
        if left > 0 {
            push(&mut self.causes, key, end);
        }
    }

    /// An effect, which has one cause. One that began before `since_ns` had no part in it.
    pub(super) fn effect(&mut self, key: &K, end: End, since_ns: u64, flows: &mut Flows) {
        if let Some(waiting) = self.causes.get_mut(key) {
            while let Some(cause) = waiting.front().copied() {
                let fits = cause.t_ns >= since_ns && cause.t_ns <= end.t_ns;
                if fits && flows.connect(cause, end) {
                    return;
                }
                waiting.pop_front();
            }
        }
        push(&mut self.effects, key, end);
    }
}

fn push<K: Eq + Hash + Clone>(map: &mut FxHashMap<K, VecDeque<End>>, key: &K, end: End) {
    if map.len() >= THINGS && !map.contains_key(key) {
        map.clear();
    }
    let waiting = map.entry(key.clone()).or_default();
    if waiting.len() >= OPEN {
        waiting.pop_front();
    }
    waiting.push_back(end);
}
