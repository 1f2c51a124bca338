//! The answers of peers: slow ones, and those that never come.

use super::super::attempts::{around, figures_of};
use super::super::people::{Actor, People, RoleId};
use super::super::places::{Place, Places};
use super::super::rank::score;
use super::super::tally::{Failed, Series, change_point, median};
use super::super::words::{at, count, plural, span, when};
use super::super::{Dictionary, Facts, Finding, Kind, Level, Seen};
use super::{Network, bounded, places};
use ctrace_format::syscalls::{Call, Family};
use ctrace_format::{Detail, FdTarget, Snapshot, SockAddr, SyscallFlags};
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt::Write as _;

/// An answer that takes less is not slow, however fast others were.
const SLOW_NS: u64 = 50_000_000;
/// So long nobody waits for an answer that comes.
const LONG_NS: u64 = 1_000_000_000;
/// An answer that takes so many times longer than the slowest before does not come.
const TIMES_LONGER: u64 = 10;

/// The answers of a place to a role.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) times: Series,
    /// Requests without an answer that the program gave up, and how long it had waited.
    pub(super) given_up: Failed,
    pub(super) waited: Series,
    /// Those that a fault plan delayed.
    injected: FxHashSet<(u64, u64)>,
}

/// With the slowest of these answers as what shows it.
fn shown_by(found: Finding, answers: &[(u64, u64)]) -> Finding {
    match answers.iter().max_by_key(|x| x.1) {
        Some((t_ns, ns)) => found.seen(t_ns.saturating_add(*ns), 0),
        None => found,
    }
}

impl Answers {
    /// A fault plan delayed the answer to what was sent then.
    pub(super) fn delayed(&mut self, sent_ns: u64, took_ns: u64) {
        const MOST: usize = 65_536;
        if self.injected.len() < MOST {
            self.injected.insert((sent_ns, took_ns));
        }
    }

    /// How many of these answers were ctrace's doing, in words.
    fn by_whom(&self, slow: &[(u64, u64)]) -> String {
        let mut long = slow.iter().filter(|answer| answer.1 >= SLOW_NS);
        let injected = long.clone().filter(|answer| self.injected.contains(answer)).count();
        match injected {
            0 => String::new(),
            _ if long.all(|answer| self.injected.contains(answer)) => "; a fault plan injected it".to_owned(),
            n => format!("; a fault plan injected {}", count(n as u64)),
        }
    }

    /// Whether nobody who asked here before waited nearly as long.
    pub(super) fn is_long(&self, waited_ns: u64) -> bool {
        self.times.len() >= 3
            && waited_ns >= LONG_NS
            && waited_ns >= self.times.max_ns.saturating_mul(TIMES_LONGER)
    }

    /// The program did not wait any longer for an answer.
    pub(super) fn gave_up(&mut self, sent_ns: u64, end_ns: u64, actor: Actor) {
        let ok = self.times.len();
        self.given_up.add(end_ns, actor, ok);
        self.waited.add(sent_ns, end_ns.saturating_sub(sent_ns));
    }
}

/// A call that waits for the answer of a peer and had not returned when the recording, or its thread, ended.
#[derive(Debug, Clone, Copy)]
struct Silent {
    actor: Actor,
    call: Call,
    /// The peer.
    place: Place,
    /// Further peers that owe an answer.
    more: usize,
    /// When it was asked; `None`: before the recording, or never.
    sent_ns: Option<u64>,
    t_ns: u64,
    end_ns: u64,
}

/// Calls that wait for peers, and what descriptors were for before the recording.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    silent: Vec<Silent>,
    /// By process and descriptor: peers that it had connected to.
    peers: FxHashMap<(u32, i32), SockAddr>,
    /// Other sources of work that it had: a thread with those waits for work.
    others: FxHashSet<(u32, i32)>,
    /// By process and descriptor of an epoll: the descriptors that it watches.
    watched: FxHashMap<(u32, i32), Vec<i32>>,
}

impl Unanswered {
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot, listening: &FxHashSet<u16>) {
        for process in &snapshot.processes {
            for fd in &process.fds {
                let key = (process.tgid.0, fd.fd);
                match &fd.target {
                    FdTarget::Socket { listening: None, local, peer: Some(peer), .. } => {
                        let served =
                            matches!(local, Some(SockAddr::Inet(l)) if listening.contains(&l.port()));
                        let named = !matches!(peer, SockAddr::Unix(path) if path.is_empty());
                        if served {
                            self.others.insert(key);
                        } else if named {
                            self.peers.insert(key, peer.clone());
                        }
                    }
                    FdTarget::Epoll { watches } => {
                        self.watched.insert(key, watches.iter().map(|w| w.0).collect());
                    }
                    // By these a program wakes itself.
                    FdTarget::Anon { .. } | FdTarget::Socket { listening: None, .. } => {}
                    _ => {
                        self.others.insert(key);
                    }
                }
            }
        }
    }

    /// The peers that a call waits for which began before the recording: none if it waits for anything else.
    fn watched_by(&self, seen: &Seen<'_>, tgid: u32) -> Vec<&SockAddr> {
        let of_epoll = self.watched.get(&(tgid, seen.s.args[0] as i32)).cloned();
        let polled = seen.s.details.iter().find_map(|d| match d {
            Detail::Poll { entries, .. } => Some(entries.iter().map(|e| e.fd).collect::<Vec<_>>()),
            _ => None,
        });
        let fds = polled.or(of_epoll).unwrap_or_default();
        if fds.iter().any(|fd| self.others.contains(&(tgid, *fd))) {
            return Vec::new();
        }
        fds.iter().filter_map(|fd| self.peers.get(&(tgid, *fd))).collect()
    }
}

/// How much less telling than otherwise a slow answer is whose server is recorded: a lock that it waits for comes first.
const SERVED_INSIDE: u32 = 50;

impl Network {
    /// A call had not returned when the recording, or its thread, ended.
    pub(in super::super) fn never_returned(
        &mut self,
        seen: &Seen<'_>,
        people: &People,
        known: &mut Places,
        words: &(impl Dictionary + ?Sized),
    ) {
        const MOST: usize = 65_536;
        let (tid, family) = (seen.actor.tid, seen.call.row().family);
        if self.unanswered.silent.len() >= MOST {
            return;
        }
        let asked = match family {
            Family::Receive => places::cookie(seen.s.object, words).into_iter().collect(),
            Family::Readiness => self.asking.get(&tid).cloned().unwrap_or_default(),
            _ => return,
        };
        let owed: Vec<(u64, Place)> = asked
            .iter()
            .filter_map(|cookie| self.flows.get(cookie))
            .filter_map(|flow| Some((flow.sent_ns?, flow.place)))
            .collect();
        let mut silent = Silent {
            actor: seen.actor,
            call: seen.call,
            place: Place::NOWHERE,
            more: 0,
            sent_ns: None,
            t_ns: seen.t_ns,
            end_ns: seen.end_ns(),
        };
        if let Some((sent_ns, place)) = owed.iter().min() {
            (silent.place, silent.sent_ns, silent.more) = (*place, Some(*sent_ns), owed.len() - 1);
        } else if family == Family::Readiness && seen.s.flags.contains(SyscallFlags::NO_ENTER) {
            let watched = self.unanswered.watched_by(seen, people.process(seen.actor.process).tgid);
            let Some(first) = watched.first() else { return };
            (silent.place, silent.more) = (known.address(first), watched.len() - 1);
        } else {
            return;
        }
        self.unanswered.silent.push(silent);
    }

    /// A process ends: what it was asked to wait for, it waits for no longer.
    pub(in super::super) fn exit(&mut self, actor: Actor, t_ns: u64) {
        for cookie in self.asking.remove(&actor.tid).unwrap_or_default() {
            let Some(flow) = self.flows.get_mut(&cookie) else { continue };
            let (Some(sent_ns), true) = (flow.sent_ns.take(), flow.timed_out) else { continue };
            if let Some(answers) = bounded(&mut self.answers, (actor.role, flow.place)) {
                answers.gave_up(sent_ns, t_ns, actor);
            }
        }
    }

    /// Peers that have not answered. Returns the threads that wait for them.
    pub(super) fn silent_peers(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) -> FxHashSet<u32> {
        let mut told = FxHashSet::default();
        let mut alike: std::collections::BTreeMap<(RoleId, Place), Vec<&Silent>> =
            std::collections::BTreeMap::new();
        for silent in &self.unanswered.silent {
            alike.entry((silent.actor.role, silent.place)).or_default().push(silent);
        }
        let active =
            facts.people.processes.iter().map(|p| p.calls).sum::<u64>() > self.unanswered.silent.len() as u64;
        for ((role, place), all) in alike {
            let Some(first) = all.iter().min_by_key(|s| (s.sent_ns, s.t_ns, s.actor.tid)) else { continue };
            let since_ns = first.sent_ns.unwrap_or(first.t_ns);
            let waited_ns = first.end_ns.saturating_sub(since_ns);
            let answers = self.answers.get(&(role, place)).map(|a| (a, a.times.sorted()));
            let earlier = answers.as_ref().filter(|(_, series)| !series.is_empty());
            let level = match earlier {
                _ if waited_ns < LONG_NS => continue,
                _ if first.sent_ns.is_none() && active => continue,
                Some((answers, _)) if answers.is_long(waited_ns) => Level::Cause,
                Some(_) => Level::Note,
                None => Level::Warning,
            };
            let object = self.place_name(facts, place);
            let n = all.len() as u64;
            let who = match n {
                1 => {
                    let process = facts.people.named_process(first.actor.process, facts.containers);
                    if facts.people.process(first.actor.process).tgid == first.actor.tid {
                        process
                    } else {
                        format!("{process}, thread {}", first.actor.tid)
                    }
                }
                n => format!("{} threads of {}", count(n), facts.who(role)),
            };
            let has = if n == 1 { "has" } else { "have" };
            let mut sentence = match first.sent_ns {
                Some(sent_ns) => format!(
                    "{who} {has} no answer of {object} to what it sent at {}: it waits in {} for {}",
                    at(sent_ns),
                    first.call.name(),
                    span(waited_ns)
                ),
                None => format!(
                    "{who} {has} not returned from {} since before the recording (at least {}): it waits for {object} and nothing else",
                    first.call.name(),
                    span(waited_ns)
                ),
            };
            if first.more > 0 {
                let _ = write!(sentence, " (and for {} more)", plural(first.more as u64, "peer"));
            }
            if let Some((answers, series)) = earlier {
                let _ = write!(
                    sentence,
                    "; {} before took {} (median; up to {})",
                    plural(answers.times.len(), "answer"),
                    span(median(series)),
                    span(answers.times.max_ns)
                );
            }
            if let Some((_, status)) = facts.people.process(first.actor.process).exit {
                sentence.push_str(match status & 0x7f {
                    0 => "; then it exited",
                    _ => "; then a signal ended it",
                });
            }
            let mut found = Finding::new(Kind::Hang, level, score(Kind::Hang), sentence)
                .over(since_ns, first.end_ns, n)
                .by(facts.people.role_name(role))
                .against(object)
                .seen(first.end_ns, first.actor.tid);
            found.evidence.before = earlier.map(|(_, series)| figures_of(series, median(series)));
            out.push(found);
            told.extend(all.iter().map(|s| s.actor.tid));
        }
        told
    }

    pub(super) fn slow_peer(
        &self,
        facts: &Facts<'_>,
        role: RoleId,
        place: Place,
        answers: &Answers,
        out: &mut Vec<Finding>,
    ) {
        let object = self.place_name(facts, place);
        let who = facts.who(role);
        let series = answers.times.sorted();
        // A server that is recorded, too, has its own reason, which tells more when there is a finding about it.
        let behind = if self.is_served_inside(facts, place) { SERVED_INSIDE } else { 0 };
        let finding = |kind, level, sentence: String, from_ns, to_ns, n| {
            Finding::new(kind, level, score(kind) - behind, sentence)
                .over(from_ns, to_ns, n)
                .by(facts.people.role_name(role))
                .against(object.as_str())
        };
        let given_up = &answers.given_up;
        if given_up.count > 0 {
            let who = facts.who_met(role, given_up);
            let sentence = format!(
                "{who}: {object} did not answer {} {}; the program gave up after {}{}",
                if given_up.count == 1 {
                    "a request".to_owned()
                } else {
                    format!("{} requests", count(given_up.count))
                },
                when(given_up.first_ns, given_up.last_ns),
                span(median(&answers.waited.sorted())),
                around(given_up, answers.times.len())
            );
            out.push(
                finding(
                    Kind::TimedOut,
                    Level::Cause,
                    sentence,
                    given_up.first_ns,
                    given_up.last_ns,
                    given_up.count,
                )
                .seen(given_up.first_ns, given_up.tid),
            );
        }
        if series.is_empty() {
            return;
        }
        let (typical, last_ns) = (median(&series), series.last().map_or(0, |x| x.0));
        if let Some(cut) = change_point(&series) {
            let (early, late) = (median(&series[..cut]), median(&series[cut..]));
            if late >= SLOW_NS && late >= early.saturating_mul(4) {
                let n = (series.len() - cut) as u64;
                let sentence = format!(
                    "{who}: answers of {object} took {} from {} on (median of {}); before that {} (of {}){}",
                    span(late),
                    at(series[cut].0),
                    count(n),
                    span(early),
                    count(cut as u64),
                    answers.by_whom(&series[cut..])
                );
                let mut found = finding(Kind::SlowPeer, Level::Cause, sentence, series[cut].0, last_ns, n);
                found.evidence.before = Some(figures_of(&series[..cut], early));
                found.evidence.during = Some(figures_of(&series[cut..], late));
                out.push(shown_by(found, &series[cut..]));
                return;
            }
        }
        let limit = SLOW_NS.max(typical.saturating_mul(10)).max(100_000_000);
        let slow: Vec<(u64, u64)> = series.iter().copied().filter(|x| x.1 >= limit).collect();
        let lost: u64 = slow.iter().map(|x| x.1).sum();
        if slow.len() * 50 >= series.len() && slow.len() >= 2 && lost.saturating_mul(10) >= facts.duration_ns
        {
            let sentence = format!(
                "{who}: {} of {} answers of {object} took {} (up to {}); the others {}{}",
                count(slow.len() as u64),
                count(series.len() as u64),
                span(median(&slow)),
                span(answers.times.max_ns),
                span(typical),
                answers.by_whom(&slow)
            );
            let mut found = finding(
                Kind::SlowPeer,
                Level::Warning,
                sentence,
                slow[0].0,
                slow[slow.len() - 1].0,
                slow.len() as u64,
            );
            found.evidence.before = Some(figures_of(&series, typical));
            found.evidence.during = Some(figures_of(&slow, median(&slow)));
            out.push(shown_by(found, &slow));
        } else if typical >= 500_000_000 && series.len() >= 3 {
            let sentence = format!(
                "{who}: answers of {object} took {} (median of {}), all along{}",
                span(typical),
                count(answers.times.len()),
                answers.by_whom(&series)
            );
            let mut found =
                finding(Kind::SlowPeer, Level::Note, sentence, series[0].0, last_ns, answers.times.len());
            found.evidence.during = Some(figures_of(&series, typical));
            out.push(found);
        }
    }
}
