//! Connections on their way to those who accept them: in which order they came to each listener, who took which, and who
//! was told of one that somebody else took.
//!
//! A listening socket hands its connections out in the order in which they came. Several threads and processes may wait
//! for them, and all of them may be told; the recording says when each call began and ended, but not at which moment in
//! between the kernel took a connection from the queue. What is found here follows from the calls together, so that
//! whoever plays it again keeps to one order that all of them agree with.

use super::world::{SockIx, TaskIx};
use ctrace_format::SockAddr;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;

/// Accepts whose place among the last ones is not settled yet: more are never under way at once on one listener.
const UNSETTLED: usize = 64;
/// A connection is seen this long before its state says that it is there: it is queued first (`tcp_child_process`,
/// `net/ipv4/tcp_minisocks.c`).
const EARLY_NS: u64 = 2_000;
/// Steps before the accept that takes a connection, and before the connect that makes one, where a call that returned
/// earlier waits for it: it counts on them.
pub(crate) const STEPS_BEFORE_ACCEPT: u32 = 1;
/// See [`STEPS_BEFORE_ACCEPT`].
pub(crate) const STEPS_BEFORE_CONNECT: u32 = 2;
/// Tasks whose last look at one listener is kept.
const TELLS: usize = 256;

/// A call: its task, and its number among those of the task.
pub(crate) type CallId = (TaskIx, u32);

/// When a call was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) call: CallId,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
}

/// A connection that somebody accepted.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    /// The accepted socket.
    pub(crate) sock: SockIx,
    pub(crate) cookie: u64,
    /// When it came about; unknown if that was before the recording.
    pub(crate) at_ns: Option<u64>,
    /// Its addresses, here and there, of those that came about before.
    pub(crate) ends: Option<Box<(SockAddr, SockAddr)>>,
}

/// A place in the queue of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) listener: SockIx,
    pub(crate) position: u32,
}

/// Why a readiness call was told of a connection that its task did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was there: somebody else took it later.
    Before,
    /// Somebody took it while the call was under way.
    Meanwhile,
}

/// A look at a listener that found something, and what became of it so far.
#[derive(Debug, Clone, Copy)]
struct Tell {
    span: Span,
    /// Somebody took, after the call, what had come before its end.
    taken_later: bool,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order of their places.
    settled: Vec<Incoming>,
    /// The last ones, which others may come before, and their accepts.
    recent: VecDeque<(Incoming, Span)>,
    /// The accept of the last settled one.
    last: Option<Span>,
    tells: VecDeque<Tell>,
    /// Accepts that found nothing.
    vain: VecDeque<Span>,
}

/// Collects what happens to listeners. Calls are told in order of completion.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    queues: FxHashMap<SockIx, Queue>,
    told: FxHashMap<(CallId, SockIx), Told>,
    crowded: FxHashSet<CallId>,
    overtaken: FxHashMap<CallId, CallId>,
}

/// What is known of all listeners.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    queues: FxHashMap<SockIx, Vec<Incoming>>,
    places: FxHashMap<SockIx, Place>,
    by_cookie: FxHashMap<u64, Place>,
    told: FxHashMap<(CallId, SockIx), Told>,
    crowded: FxHashSet<CallId>,
    overtaken: FxHashMap<CallId, CallId>,
    overtaking: FxHashSet<CallId>,
}

impl Observed {
    /// Somebody accepted a connection.
    pub(crate) fn accepted(
        &mut self,
        listener: SockIx,
        span: Span,
        sock: SockIx,
        cookie: u64,
        at_ns: Option<u64>,
        ends: Option<(SockAddr, SockAddr)>,
    ) {
        let queue = self.queues.entry(listener).or_default();
        let came_ns = at_ns.unwrap_or(0);
        let one = Incoming { sock, cookie, at_ns, ends: ends.map(Box::new) };
        if queue.recent.len() >= UNSETTLED {
            queue.settle_one(&mut self.overtaken);
        }
        // It came before those that were being accepted at the same time, if it came about before them.
        let later = |(other, accept): &&(Incoming, Span)| {
            other.at_ns.unwrap_or(0) > came_ns && accept.end_ns > span.start_ns
        };
        let place = queue.recent.len() - queue.recent.iter().rev().take_while(later).count();
        queue.recent.insert(place, (one, span));
        let mut later = VecDeque::new();
        for mut tell in std::mem::take(&mut queue.tells) {
            let was_there = came_ns <= tell.span.end_ns.saturating_add(EARLY_NS);
            let own = tell.span.call.0 == span.call.0;
            if was_there && !own {
                tell.taken_later |= span.start_ns >= tell.span.end_ns;
                later.push_back(tell);
            } else if !(was_there && own) {
                // Those that come now had not come then.
                self.told.insert((tell.span.call, listener), tell.of());
            }
        }
        queue.tells = later;
        queue.vain.retain(|vain| {
            let came_first = at_ns.is_some_and(|at_ns| at_ns < vain.end_ns);
            if came_first {
                self.crowded.insert(vain.call);
            }
            // What is accepted from here on had come later, too.
            !came_first && span.start_ns < vain.end_ns
        });
    }

    /// An accept found nothing.
    pub(crate) fn in_vain(&mut self, listener: SockIx, span: Span) {
        self.settle(listener, span.call.0);
        let queue = self.queues.entry(listener).or_default();
        if queue.vain.len() >= TELLS {
            queue.vain.pop_front();
        }
        queue.vain.push_back(span);
    }

    /// A readiness call said that something can be accepted.
    pub(crate) fn told(&mut self, listener: SockIx, span: Span) {
        self.settle(listener, span.call.0);
        let queue = self.queues.entry(listener).or_default();
        if queue.tells.len() >= TELLS
            && let Some(tell) = queue.tells.pop_front()
        {
            self.told.insert((tell.span.call, listener), tell.of());
        }
        queue.tells.push_back(Tell { span, taken_later: false });
    }

    /// A task looks again: what it was told of before, others have taken or will take.
    fn settle(&mut self, listener: SockIx, task: TaskIx) {
        let Some(queue) = self.queues.get_mut(&listener) else { return };
        let told = &mut self.told;
        queue.tells.retain(|tell| {
            let its = tell.span.call.0 == task;
            if its {
                told.insert((tell.span.call, listener), tell.of());
            }
            !its
        });
    }

    /// Everything has been told.
    pub(crate) fn finish(mut self) -> Arrivals {
        let mut all = Arrivals::default();
        for (listener, mut queue) in self.queues {
            for tell in &queue.tells {
                self.told.insert((tell.span.call, listener), tell.of());
            }
            while !queue.recent.is_empty() {
                queue.settle_one(&mut self.overtaken);
            }
            for (position, one) in queue.settled.iter().enumerate() {
                let place = Place { listener, position: position as u32 };
                all.places.insert(one.sock, place);
                if one.cookie != 0 {
                    all.by_cookie.insert(one.cookie, place);
                }
            }
            all.queues.insert(listener, queue.settled);
        }
        all.overtaking = self.overtaken.values().copied().collect();
        all.overtaken = self.overtaken;
        (all.told, all.crowded) = (self.told, self.crowded);
        all
    }
}

impl Queue {
    /// Nothing comes before the first of the recent ones any more.
    fn settle_one(&mut self, overtaken: &mut FxHashMap<CallId, CallId>) {
        let Some((one, accept)) = self.recent.pop_front() else { return };
        if let Some(before) = self.last
            // When two returned at one moment, either may be told of first.
            && before.end_ns >= accept.end_ns
            && before.call.0 != accept.call.0
        {
            overtaken.insert(accept.call, before.call);
        }
        self.settled.push(one);
        self.last = Some(accept);
    }
}

impl Tell {
    fn of(self) -> Told {
        if self.taken_later { Told::Before } else { Told::Meanwhile }
    }
}

impl Arrivals {
    /// The connections that came to a listener, in order.
    pub(crate) fn queue(&self, listener: SockIx) -> &[Incoming] {
        self.queues.get(&listener).map_or(&[], Vec::as_slice)
    }

    /// Whether somebody accepted from a socket.
    pub(crate) fn is_listener(&self, sock: SockIx) -> bool {
        self.queues.contains_key(&sock)
    }

    /// Where an accepted socket came in.
    pub(crate) fn place(&self, accepted: SockIx) -> Option<Place> {
        self.places.get(&accepted).copied()
    }

    /// The same, by cookie.
    pub(crate) fn place_of_cookie(&self, cookie: u64) -> Option<Place> {
        self.by_cookie.get(&cookie).copied()
    }

    /// What a readiness call was told of a listener, if its own task took nothing of that.
    pub(crate) fn told(&self, call: CallId, listener: SockIx) -> Option<Told> {
        self.told.get(&(call, listener)).copied()
    }

    /// Whether a connection came while an accept found none.
    pub(crate) fn is_crowded(&self, call: CallId) -> bool {
        self.crowded.contains(&call)
    }

    /// Tells which connects made the connections that were accepted. Two that are under way together may return in the
    /// other order than that in which their connections came.
    pub(crate) fn connected(&mut self, connects: impl Iterator<Item = (SockIx, Span)>) {
        let mut by_listener: FxHashMap<SockIx, Vec<(u32, Span)>> = FxHashMap::default();
        for (accepted, span) in connects {
            if let Some(place) = self.place(accepted) {
                by_listener.entry(place.listener).or_default().push((place.position, span));
            }
        }
        for connects in by_listener.values_mut() {
            connects.sort_unstable_by_key(|(position, _)| *position);
            for pair in connects.windows(2) {
                let (before, after) = (pair[0].1, pair[1].1);
                if before.end_ns >= after.end_ns && before.call.0 != after.call.0 {
                    self.overtaken.insert(after.call, before.call);
                    self.overtaking.insert(before.call);
                }
            }
        }
    }

    /// The accept, or the connect, of the connection before that of `call`, if it returned after it.
    pub(crate) fn overtaken(&self, call: CallId) -> Option<CallId> {
        self.overtaken.get(&call).copied()
    }

    /// Whether an accept, or a connect, of a later connection returned before this one.
    pub(crate) fn is_overtaking(&self, call: CallId) -> bool {
        self.overtaking.contains(&call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const L: SockIx = 1;

    fn span(task: TaskIx, seq: u32, start_ns: u64, end_ns: u64) -> Span {
        Span { call: (task, seq), start_ns, end_ns }
    }

    fn order(all: &Arrivals) -> Vec<u64> {
        all.queue(L).iter().map(|one| one.cookie).collect()
    }

    #[test]
    fn connections_are_taken_in_the_order_in_which_they_came() {
        let mut seen = Observed::default();
        // The second connection is accepted quicker than the first.
        seen.accepted(L, span(0, 0, 1_000, 3_000), 12, 2, Some(900), None);
        seen.accepted(L, span(1, 0, 990, 3_500), 11, 1, Some(800), None);
        // That it came about before says nothing when it was accepted after the others had been.
        seen.accepted(L, span(0, 1, 4_000, 4_500), 13, 3, Some(700), None);
        let all = seen.finish();
        assert_eq!(order(&all), [1, 2, 3]);
        assert_eq!(all.overtaken((0, 0)), Some((1, 0)));
        assert!(all.is_overtaking((1, 0)) && !all.is_overtaking((0, 0)));
        assert_eq!(all.place(13), Some(Place { listener: L, position: 2 }));
        assert_eq!(all.place_of_cookie(1), Some(Place { listener: L, position: 0 }));
    }

    #[test]
    fn of_two_accepts_that_return_at_one_moment_the_second_may_be_told_of_first() {
        let mut seen = Observed::default();
        seen.accepted(L, span(0, 0, 1_007, 1_030), 12, 2, Some(200), None);
        seen.accepted(L, span(1, 0, 1_000, 1_030), 11, 1, Some(100), None);
        let all = seen.finish();
        assert_eq!(order(&all), [1, 2]);
        assert_eq!(all.overtaken((0, 0)), Some((1, 0)));
    }

    #[test]
    fn connections_that_are_made_together_may_be_told_in_the_other_order() {
        let mut seen = Observed::default();
        for (sock, cookie) in [(11, 1), (12, 2), (13, 3)] {
            let ns = 5_000 + u64::from(sock);
            seen.accepted(L, span(9, sock, ns, ns), sock, cookie, Some(100 * cookie), None);
        }
        let mut all = seen.finish();
        // The second connection's connect returns while that of the first is under way; the third one's comes after both.
        let connects = [(12, span(1, 0, 50, 220)), (11, span(0, 0, 80, 240)), (13, span(1, 1, 250, 300))];
        all.connected(connects.into_iter());
        assert_eq!(all.overtaken((1, 0)), Some((0, 0)));
        assert!(all.is_overtaking((0, 0)));
        assert_eq!((all.overtaken((0, 0)), all.overtaken((1, 1))), (None, None));
    }

    #[test]
    fn who_is_told_and_takes_nothing_was_told_of_what_another_took() {
        let mut seen = Observed::default();
        seen.told(L, span(0, 0, 0, 10_000));
        seen.told(L, span(1, 0, 0, 10_200));
        seen.told(L, span(2, 0, 0, 10_500));
        // Task 0 takes it: after task 1 was told, and while task 2 was being told.
        seen.accepted(L, span(0, 1, 10_300, 10_900), 11, 1, Some(9_000), None);
        seen.in_vain(L, span(1, 1, 11_000, 11_100));
        seen.in_vain(L, span(2, 1, 11_000, 11_200));
        let all = seen.finish();
        assert_eq!(all.told((0, 0), L), None);
        assert_eq!(all.told((1, 0), L), Some(Told::Before));
        assert_eq!(all.told((2, 0), L), Some(Told::Meanwhile));
    }

    #[test]
    fn a_connection_that_came_later_is_not_what_was_told_of() {
        let mut seen = Observed::default();
        seen.told(L, span(1, 0, 0, 10_200));
        seen.told(L, span(0, 0, 0, 10_000));
        seen.accepted(L, span(0, 1, 10_300, 10_900), 11, 1, Some(9_000), None);
        // It takes the next one, which had not come when it was told.
        seen.accepted(L, span(1, 1, 30_000, 30_100), 12, 2, Some(20_000), None);
        let all = seen.finish();
        assert_eq!(all.told((1, 0), L), Some(Told::Before));
        assert_eq!(all.told((0, 0), L), None);
    }

    #[test]
    fn an_accept_in_vain_while_one_comes_cannot_be_made_again() {
        let mut seen = Observed::default();
        seen.in_vain(L, span(0, 0, 1_000, 2_000));
        seen.in_vain(L, span(1, 0, 1_000, 2_600));
        seen.accepted(L, span(0, 1, 3_000, 4_000), 11, 1, Some(2_500), None);
        let all = seen.finish();
        assert!(!all.is_crowded((0, 0)) && all.is_crowded((1, 0)));
    }
}
