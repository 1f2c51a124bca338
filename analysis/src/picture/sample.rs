//! Events behind the figures: those around what findings rest on, slow ones, the first of each kind of failure, lives and
//! connections, and some of every moment.

use super::{Grid, Sample};
use crate::{Account, EventId};
use ctrace_format::syscalls::Failing;
use ctrace_format::{ConnectionKind, Event, ProcessKind, TcpState};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;

/// Events of findings that are shown with what was around them.
const MAX_EVIDENCE: usize = 64;
/// So many events before and after one, in all and of its thread.
const AROUND: usize = 8;
/// What lies further from one is not around it.
const NEAR_NS: u64 = 500_000_000;
/// Of each kind of failure.
const OF_FAILURE: u64 = 2;
const MAX_FAILURES: usize = 400;
const MAX_CONNECTIONS: usize = 400;
const MAX_LIVES: usize = 300;

/// Why an event was chosen, the best reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Evidence,
    Failure,
    Slow,
    Connection,
    Life,
    /// One of its moment.
    Spread,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Chooser {
    /// All of them fit.
    takes_all: bool,
    /// By the number of the event.
    chosen: FxHashMap<u64, (Reason, Event)>,
    number: u64,
    evidence: Vec<EventId>,
    /// The first that is still to come.
    next: usize,
    wanted: FxHashSet<EventId>,
    recent: VecDeque<(u64, Event)>,
    /// By the threads of the evidence: their recent events, and how many of the next ones are wanted.
    threads: FxHashMap<u32, (VecDeque<(u64, Event)>, usize)>,
    /// How many of the next ones are wanted.
    after: usize,
    failures: usize,
    connections: usize,
    lives: usize,
    /// The last moment of which there is one.
    moment: Option<usize>,
}

impl Chooser {
    /// `total`: events of the trace.
    pub(super) fn new(account: &Account, total: u64) -> Self {
        let all = account.findings.iter().flat_map(|found| found.evidence.events.iter().copied());
        let mut evidence: Vec<EventId> = all.take(MAX_EVIDENCE).collect();
        evidence.sort_unstable();
        evidence.dedup();
        Self {
            takes_all: total <= Sample::MAX as u64,
            chosen: FxHashMap::default(),
            number: 0,
            next: 0,
            wanted: evidence.iter().copied().collect(),
            recent: VecDeque::new(),
            threads: evidence.iter().map(|id| (id.tid, Default::default())).collect(),
            evidence,
            after: 0,
            failures: 0,
            connections: 0,
            lives: 0,
            moment: None,
        }
    }

    fn choose(&mut self, reason: Reason, number: u64, event: &Event) {
        let entry = self.chosen.entry(number).or_insert_with(|| (reason, event.clone()));
        entry.0 = entry.0.min(reason);
    }

    /// The number that the next event will have.
    pub(super) const fn next(&self) -> u64 {
        self.number + 1
    }

    /// Looks at an event of this thread, which failed so or not at all; with how many failures of its kind came before.
    pub(super) fn event(&mut self, grid: &Grid, event: &Event, tid: u32, failed: Option<(Failing, u64)>) {
        self.number += 1;
        let number = self.number;
        if self.takes_all {
            return self.choose(Reason::Spread, number, event);
        }
        if let Some((says, nth)) = failed
            && nth < OF_FAILURE
            && says != Failing::Benign
            && self.failures < MAX_FAILURES
        {
            self.failures += 1;
            self.choose(Reason::Failure, number, event);
        }
        match event {
            Event::Connection(e) if self.connections < MAX_CONNECTIONS => {
                // What fails has room of its own.
                let is_failure = match e.kind {
                    ConnectionKind::State { error, .. } => error != 0,
                    ConnectionKind::ResetSent | ConnectionKind::ResetReceived => true,
                    _ => false,
                };
                let opens = matches!(e.kind, ConnectionKind::State { new: TcpState::Established, .. });
                if is_failure || opens && self.connections < MAX_CONNECTIONS / 2 {
                    self.connections += 1;
                    self.choose(Reason::Connection, number, event);
                }
            }
            Event::Process(e) if self.lives < MAX_LIVES => {
                let is_bad_end = matches!(e.kind, ProcessKind::Exit { status, .. } if status != 0);
                let is_kill = matches!(e.kind, ProcessKind::OomKill { .. });
                if is_bad_end || is_kill || e.kind.is_life() && self.lives < MAX_LIVES / 2 {
                    self.lives += 1;
                    self.choose(Reason::Life, number, event);
                }
            }
            Event::Signal(_) | Event::Marker(_) if self.lives < MAX_LIVES => {
                self.lives += 1;
                self.choose(Reason::Life, number, event);
            }
            _ => {}
        }
        self.around(number, event, tid);
        let moment = grid.bin(event.end_ns());
        if self.moment.is_none_or(|last| moment > last) {
            self.moment = Some(moment);
            self.choose(Reason::Spread, number, event);
        }
    }

    /// Chooses it if it is near to what a finding rests on.
    fn around(&mut self, number: u64, event: &Event, tid: u32) {
        let end_ns = event.end_ns();
        while self.evidence.get(self.next).is_some_and(|id| id.end_ns < end_ns) {
            self.next += 1;
        }
        if self.after > 0 {
            self.after -= 1;
            self.choose(Reason::Evidence, number, event);
        }
        let is_near =
            self.evidence.get(self.next).is_some_and(|id| id.end_ns <= end_ns.saturating_add(NEAR_NS));
        if let Some((recent, after)) = self.threads.get_mut(&tid) {
            if *after > 0 {
                *after -= 1;
                self.choose(Reason::Evidence, number, event);
            } else if is_near {
                keep(recent, number, event);
            }
        }
        if !is_near {
            return;
        }
        keep(&mut self.recent, number, event);
        let is_it = |id: EventId| self.wanted.contains(&id);
        if !is_it(EventId { end_ns, tid }) && !is_it(EventId { end_ns, tid: 0 }) {
            return;
        }
        let mut all: Vec<(u64, Event)> = self.recent.drain(..).collect();
        if let Some((recent, after)) = self.threads.get_mut(&tid) {
            all.extend(recent.drain(..));
            *after = AROUND;
        }
        self.after = AROUND;
        for (number, event) in all {
            self.choose(Reason::Evidence, number, &event);
        }
    }

    /// Events that are wanted for another reason, by their numbers.
    pub(super) fn slow(&mut self, events: Vec<(u64, Event)>) {
        for (number, event) in events {
            self.choose(Reason::Slow, number, &event);
        }
    }

    /// Ends, and gives those that were chosen.
    pub(super) fn finish(self) -> Sample {
        let mut all: Vec<(u64, Reason, Event)> =
            self.chosen.into_iter().map(|(number, (reason, event))| (number, reason, event)).collect();
        all.sort_unstable_by_key(|(number, ..)| *number);
        let better = all.iter().filter(|(_, reason, _)| *reason != Reason::Spread).count();
        if all.len() > Sample::MAX {
            // Of those that stand for a moment only, an even part.
            let room = Sample::MAX.saturating_sub(better);
            let others = all.len() - better;
            let (mut nth, mut taken) = (0, 0);
            all.retain(|(_, reason, _)| {
                if *reason != Reason::Spread {
                    return true;
                }
                nth += 1;
                let keeps = nth * room / others.max(1) > taken;
                taken += usize::from(keeps);
                keeps
            });
        }
        // The rest has bounds of its own that leave room.
        all.truncate(Sample::MAX);
        Sample { events: all.into_iter().map(|(.., event)| event).collect(), of: self.number }
    }
}

fn keep(recent: &mut VecDeque<(u64, Event)>, number: u64, event: &Event) {
    if recent.len() > AROUND {
        recent.pop_front();
    }
    recent.push_back((number, event.clone()));
}
