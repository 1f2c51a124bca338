//! Finds the calls of a recording that a plan hits.

use super::choose::Chosen;
use super::fits::Seen;
use super::plan::{Phase, Plan, Rule};
use super::seats::{Names, Seat, Seats};
use crate::EventId;
use crate::edits::{cannot_fail_after, moves};
use crate::fds::{SocketEffect, socket_effect};
use ctrace_format::syscalls::{self, Call, Family};
use ctrace_format::{
    Detail, Event, Filter, Object, ReadError, SockAddr, SockCookie, Syscall, SyscallFlags, Sysno, TaskId,
    Tgid, Trace,
};
use rustc_hash::FxHashMap;

/// Most hits of a plan that are kept.
const MAX_HITS: usize = 1 << 20;

/// The calls of a recording that a plan hits.
#[derive(Debug, Clone, Default)]
pub struct Resolution {
    /// The rules, in the order of the plan.
    pub rules: Vec<Resolved>,
    /// The hits, in the order of events; those of one event in the order of rules.
    pub hits: Vec<Hit>,
}

/// The figures of a rule.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// How many calls match.
    pub eligible: u64,
    /// How many of them are hit.
    pub hits: u64,
    /// Index of the first hit in [`Resolution::hits`].
    pub first: Option<usize>,
    /// How many more would be, had a rule before it not decided their result.
    pub shadowed: u64,
    /// Why it hits nothing, with what the recording has that is nearest; or why a replay cannot do it.
    pub why: Option<String>,
}

/// A call that is hit by a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The rule: its index in [`Plan::rules`].
    pub rule: usize,
    /// The event: its number, from 0 on, among all events of the trace in the order in which [`Trace::events`] yields them.
    pub ordinal: u64,
    /// The event, as `ctrace events --at` takes it.
    pub event: EventId,
    /// When the call began, as `ctrace events` shows it.
    pub t_ns: u64,
    /// Its number, from 1 on, among those that the rule counts together.
    pub nth: u64,
    /// Chance: a word that depends on nothing but the plan's seed, the rule, the task's role and its rank among tasks of that
    /// role, the call and the number: another recording of the same program is hit at the same places.
    pub draw: u64,
}

/// Why a plan cannot be resolved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The trace cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It hits too much.
    #[error("the plan hits more than {MAX_HITS} calls; narrow its rules, as by when=, max=, role= or peer=")]
    TooMany,
}

impl Plan {
    /// Finds the calls of a recording that it hits.
    ///
    /// # Errors
    /// When the trace cannot be read, or it hits too much.
    pub fn resolve(&self, trace: &Trace) -> Result<Resolution, ResolveError> {
        let mut chosen =
            self.rules.iter().map(|rule| Chosen::of(rule, trace)).collect::<Result<Vec<_>, _>>()?;
        if self.rules.iter().any(|rule| rule.when.rate.is_some()) {
            // How often an error comes is known after a first look.
            let looked = Resolver::new(self, trace, chosen).run()?;
            chosen = looked.chosen;
            self.rules.iter().zip(&mut chosen).for_each(|(rule, chosen)| chosen.settle(rule));
        }
        let resolver = Resolver::new(self, trace, chosen).run()?;
        let Resolver { seen, chosen, mut resolution, .. } = resolver;
        for (((rule, seen), chosen), resolved) in
            self.rules.iter().zip(&seen).zip(&chosen).zip(&mut resolution.rules)
        {
            if resolved.hits == 0 {
                resolved.why = Some(seen.why(rule, resolved, chosen));
            }
        }
        Ok(resolution)
    }
}

struct Resolver<'a> {
    plan: &'a Plan,
    trace: &'a Trace,
    /// Names of processes: those of their first threads.
    processes: FxHashMap<Tgid, TaskId>,
    /// Other ends of connections.
    peers: FxHashMap<SockCookie, SockAddr>,
    seats: Seats,
    /// By rule, task and call.
    counted: FxHashMap<(usize, Seat, Sysno), u64>,
    seen: Vec<Seen>,
    chosen: Vec<Chosen>,
    /// Bytes that connections moved, and whether they received them; only kept when a rule asks.
    moved: Option<FxHashMap<(SockCookie, bool), u64>>,
    resolution: Resolution,
}

impl<'a> Resolver<'a> {
    fn new(plan: &'a Plan, trace: &'a Trace, chosen: Vec<Chosen>) -> Self {
        let counts_bytes = plan.rules.iter().any(|rule| rule.matching.from_byte.is_some());
        Self {
            plan,
            trace,
            processes: FxHashMap::default(),
            peers: FxHashMap::default(),
            seats: Seats::default(),
            counted: FxHashMap::default(),
            seen: plan.rules.iter().map(|_| Seen::default()).collect(),
            chosen,
            moved: counts_bytes.then(FxHashMap::default),
            resolution: Resolution {
                rules: plan.rules.iter().map(|_| Resolved::default()).collect(),
                hits: Vec::new(),
            },
        }
    }

    fn run(mut self) -> Result<Self, ResolveError> {
        for (ordinal, event) in (0..).zip(self.trace.events(&Filter::default())) {
            self.event(ordinal, &event?)?;
        }
        Ok(self)
    }

    fn event(&mut self, ordinal: u64, event: &Event) -> Result<(), ResolveError> {
        if let Some(task) = event.task() {
            let def = self.trace.task(task);
            if def.tid.0 == def.tgid.0 {
                self.processes.insert(def.tgid, task);
            }
        }
        match event {
            Event::Connection(connection) => {
                self.peers.insert(connection.cookie, connection.peer.clone());
            }
            Event::Syscall(call) => self.call(ordinal, event, call)?,
            _ => {}
        }
        Ok(())
    }

    fn call(&mut self, ordinal: u64, event: &Event, call: &Syscall) -> Result<(), ResolveError> {
        let sc = Call::of(call.sysno);
        // Under way already, or not the workload's; and ends that no answer can keep from taking place.
        let is_over =
            call.flags.contains(SyscallFlags::ENGINE) || call.flags.contains(SyscallFlags::NO_ENTER);
        if is_over || sc.row().family == Family::Exit || sc == Call::RtSigreturn {
            return Ok(());
        }
        let peer = self.peer(sc, call);
        let def = self.trace.task(call.task);
        let names = Names::of(self.trace, &self.processes, call.task);
        let seat = self.seats.seat(def, || names.role());
        let origin_ns = self.trace.origin_ns();
        let t_ns = call.t_ns + origin_ns;
        let moved = self.moved(sc, call);
        let mut is_decided = false;
        for (at, rule) in self.plan.rules.iter().enumerate() {
            if !rule.matching.calls.has_call(call.sysno)
                || !self.seen[at].fits(rule, self.trace, &names, call, sc, peer.as_ref())
                || !self.seen[at].chosen(rule, call, t_ns, moved, &self.chosen[at])
            {
                continue;
            }
            let resolved = &mut self.resolution.rules[at];
            resolved.eligible += 1;
            let nth = self.counted.entry((at, seat, call.sysno)).or_default();
            *nth += 1;
            let draw = draw(self.plan.seed, &rule.text, self.seats.name(seat), seat.rank, call.sysno, *nth);
            if rule.when.nth.is_none_or(|numbers| numbers.has(*nth))
                && !self.chosen[at].draws(rule, call, draw)
            {
                continue;
            }
            if !is_hit(rule, *nth, draw) || rule.when.max.is_some_and(|max| resolved.hits >= max) {
                continue;
            }
            if rule.act.result.is_some() && std::mem::replace(&mut is_decided, true) {
                resolved.shadowed += 1;
                continue;
            }
            if self.resolution.hits.len() >= MAX_HITS {
                return Err(ResolveError::TooMany);
            }
            if let Some(why) = cannot(rule, sc, call) {
                resolved.why.get_or_insert_with(|| why.to_owned());
            }
            resolved.hits += 1;
            resolved.first.get_or_insert(self.resolution.hits.len());
            let event = EventId { end_ns: event.end_ns() + origin_ns, tid: def.tid.0 };
            self.resolution.hits.push(Hit { rule: at, ordinal, event, t_ns, nth: *nth, draw });
        }
        Ok(())
    }

    /// How many bytes had gone the way of this transfer over its connection before it.
    fn moved(&mut self, sc: Call, call: &Syscall) -> u64 {
        let is_received = match sc.row().family {
            Family::Receive => true,
            Family::Send => false,
            _ => return 0,
        };
        let (Some(moved), Some(object)) = (&mut self.moved, call.object) else { return 0 };
        let Object::Socket { cookie, .. } = self.trace.object(object) else { return 0 };
        let sum = moved.entry((*cookie, is_received)).or_default();
        let before = *sum;
        *sum = sum.saturating_add(u64::try_from(call.ret).unwrap_or(0));
        before
    }

    /// The other end that a call is about.
    fn peer(&mut self, sc: Call, call: &Syscall) -> Option<SockAddr> {
        let named = call.details.iter().find_map(|detail| match detail {
            Detail::Addr { addr, .. } => Some(addr),
            _ => None,
        });
        let object = call.object.map(|object| self.trace.object(object));
        let Some(Object::Socket { cookie, peer, .. }) = object else { return named.cloned() };
        if let Some(SocketEffect::Connects { to: Some(to), .. }) = socket_effect(sc, call) {
            self.peers.insert(*cookie, to.clone());
        }
        let is_address = matches!(sc.row().family, Family::Connect | Family::Send | Family::Accept);
        let named = named.filter(|_| is_address);
        named.or_else(|| self.peers.get(cookie)).or(peer.as_ref()).cloned()
    }
}

/// Why a replay cannot do this to a call.
fn cannot(rule: &Rule, sc: Call, call: &Syscall) -> Option<&'static str> {
    let act = &rule.act;
    act.unsupported().or_else(|| {
        let does = call.ret >= 0 && !call.flags.contains(SyscallFlags::NO_EXIT);
        if act.phase == Phase::After && does {
            return cannot_fail_after(sc, call);
        }
        let nothing = act.short.is_some() && act.result.is_none() && !moves(sc);
        nothing.then_some("it moves no bytes of which there could be fewer")
    })
}

fn is_hit(rule: &Rule, nth: u64, draw: u64) -> bool {
    let by_chance = |prob: f64| {
        // A draw below so many of 2^53.
        const STEPS: f64 = (1_u64 << 53) as f64;
        (draw >> 11) as f64 / STEPS < prob
    };
    rule.when.nth.is_none_or(|numbers| numbers.has(nth)) && rule.when.prob.is_none_or(by_chance)
}

/// Chance that everybody who asks again gets again: `SplitMix64` over what it depends on.
fn draw(seed: u64, rule: &str, role: &str, rank: u32, sysno: Sysno, nth: u64) -> u64 {
    let mix = |mut word: u64| {
        word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    };
    let name = syscalls::name(sysno).unwrap_or_default();
    let names = rule.bytes().chain(name.bytes()).chain(role.bytes());
    let words = names.map(u64::from).chain([u64::from(rank), nth]);
    mix(words.fold(mix(seed), |state, word| mix(state ^ word)))
}
