//! Finds the calls of a recording that a plan hits.

use super::plan::{Nth, Phase, Plan, Rule};
use crate::edits::{cannot_fail_after, moves};
use crate::fds::{SocketEffect, socket_effect};
use crate::names::lossy;
use crate::near::nearest;
use crate::{EventId, roles};
use ctrace_format::linux::open_flags;
use ctrace_format::syscalls::{self, Call, Family, Kind};
use ctrace_format::{
    Detail, Event, Filter, Object, ReadError, SockAddr, SockCookie, Syscall, SyscallFlags, Sysno, TaskDef,
    TaskId, Tgid, Trace,
};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;

/// Most hits of a plan that are kept.
const MAX_HITS: usize = 1 << 20;
/// Names of each sort that are kept to say what a rule might have meant.
const MAX_NAMES: usize = 256;
/// Names that are listed in a sentence.
const LISTED: usize = 4;

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
        let mut resolver = Resolver {
            plan: self,
            trace,
            processes: FxHashMap::default(),
            peers: FxHashMap::default(),
            seats: Seats::default(),
            counted: FxHashMap::default(),
            seen: self.rules.iter().map(|_| Seen::default()).collect(),
            resolution: Resolution {
                rules: self.rules.iter().map(|_| Resolved::default()).collect(),
                hits: Vec::new(),
            },
        };
        for (ordinal, event) in (0..).zip(trace.events(&Filter::default())) {
            resolver.event(ordinal, &event?)?;
        }
        let Resolver { seen, mut resolution, .. } = resolver;
        for ((rule, seen), resolved) in self.rules.iter().zip(&seen).zip(&mut resolution.rules) {
            if resolved.hits == 0 {
                resolved.why = Some(seen.why(rule, resolved));
            }
        }
        Ok(resolution)
    }
}

/// Counts the calls that passed each question of a rule, and keeps names of those that did not.
#[derive(Debug, Default)]
struct Seen {
    calls: u64,
    of_role: u64,
    to_peer: u64,
    on_path: u64,
    with_args: u64,
    roles: BTreeSet<String>,
    peers: BTreeSet<String>,
    paths: BTreeSet<String>,
}

/// A task among those of its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Seat {
    role: u32,
    /// From 0 on, in the order in which tasks of this role made their first calls.
    rank: u32,
}

/// The places of tasks. A thread id that is used again is another task.
#[derive(Debug, Default)]
struct Seats {
    roles: FxHashMap<String, u32>,
    names: Vec<String>,
    taken: Vec<u32>,
    of: FxHashMap<(u32, u64), Seat>,
}

impl Seats {
    fn seat(&mut self, def: &TaskDef, role: impl FnOnce() -> String) -> Seat {
        *self.of.entry((def.tid.0, def.start_ns)).or_insert_with(|| {
            let name = role();
            let role = *self.roles.entry(name).or_insert_with_key(|name| {
                self.names.push(name.clone());
                self.taken.push(0);
                self.taken.len() as u32 - 1
            });
            let taken = &mut self.taken[role as usize];
            *taken += 1;
            Seat { role, rank: *taken - 1 }
        })
    }

    fn name(&self, seat: Seat) -> &str {
        &self.names[seat.role as usize]
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
    resolution: Resolution,
}

impl Resolver<'_> {
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
        let mut is_decided = false;
        for (at, rule) in self.plan.rules.iter().enumerate() {
            if !rule.matching.calls.has_call(call.sysno)
                || !self.seen[at].fits(rule, self.trace, &names, call, sc, peer.as_ref())
            {
                continue;
            }
            let resolved = &mut self.resolution.rules[at];
            resolved.eligible += 1;
            let nth = self.counted.entry((at, seat, call.sysno)).or_default();
            *nth += 1;
            let draw = draw(self.plan.seed, &rule.text, self.seats.name(seat), seat.rank, call.sysno, *nth);
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
            let t_ns = call.t_ns + origin_ns;
            self.resolution.hits.push(Hit { rule: at, ordinal, event, t_ns, nth: *nth, draw });
        }
        Ok(())
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

/// The names of a task.
struct Names<'a> {
    thread: &'a [u8],
    process: &'a [u8],
}

impl<'a> Names<'a> {
    fn of(trace: &'a Trace, processes: &FxHashMap<Tgid, TaskId>, task: TaskId) -> Self {
        let name = |task: TaskId| trace.str(trace.task(task).comm);
        Self { thread: name(task), process: name(*processes.get(&trace.task(task).tgid).unwrap_or(&task)) }
    }

    fn role(&self) -> String {
        roles::of_thread(&lossy(self.process), &lossy(self.thread))
    }
}

impl Seen {
    fn fits(
        &mut self,
        rule: &Rule,
        trace: &Trace,
        names: &Names<'_>,
        call: &Syscall,
        sc: Call,
        peer: Option<&SockAddr>,
    ) -> bool {
        let matching = &rule.matching;
        self.calls += 1;
        if let Some(role) = &matching.role {
            let both = names.role();
            if ![names.thread, names.process, both.as_bytes()].iter().any(|name| role.fits(name)) {
                remember(&mut self.roles, &both);
                return false;
            }
        }
        self.of_role += 1;
        if let Some(wanted) = &matching.peer
            && !peer.is_some_and(|peer| wanted.is(peer))
        {
            if let Some(peer) = peer {
                remember(&mut self.peers, &address(peer));
            }
            return false;
        }
        self.to_peer += 1;
        if let Some(wanted) = &matching.path {
            let args = sc.row().args.unwrap_or_default();
            let named = call.details.iter().filter_map(|detail| match detail {
                Detail::Str { arg, value }
                    if matches!(args.get(usize::from(*arg)), Some((_, Kind::Path))) =>
                {
                    Some(*value)
                }
                _ => None,
            });
            let object = call.object.map(|object| trace.object(object));
            let opened = if let Some(Object::File { path, .. }) = object { Some(*path) } else { None };
            let paths: Vec<&[u8]> = named.chain(opened).map(|path| trace.str(path)).collect();
            if !paths.iter().any(|path| wanted.fits(path)) {
                for path in paths {
                    remember(&mut self.paths, &lossy(path));
                }
                return false;
            }
        }
        self.on_path += 1;
        let holds = matching.args.iter().all(|predicate| {
            let names = sc.row().args.unwrap_or_default();
            let by_number = predicate.arg.strip_prefix("arg").and_then(|digit| digit.parse().ok());
            let at = names.iter().position(|(name, _)| *name == predicate.arg).or(by_number);
            let kept = at.filter(|at| *at < call.args.len() && call.args_mask & 1 << at != 0);
            kept.is_some_and(|at| {
                let is_open = matches!(names.get(at), Some((_, Kind::OpenFlags)));
                let value = if is_open { open_flags(call.args[at], call.sysno.abi) } else { call.args[at] };
                predicate.comparison.holds(value.cast_signed(), predicate.value)
            })
        });
        self.with_args += u64::from(holds);
        holds
    }

    /// Why a rule hits nothing.
    fn why(&self, rule: &Rule, resolved: &Resolved) -> String {
        let among = |names: &BTreeSet<String>, what: &str| {
            if names.is_empty() {
                return String::new();
            }
            let listed: Vec<&str> = names.iter().map(String::as_str).take(LISTED).collect();
            let more = if names.len() > LISTED { ", …" } else { "" };
            format!("; {what} {}{more}", listed.join(", "))
        };
        if self.calls == 0 {
            return "the recording has no such call".to_owned();
        }
        if self.of_role == 0 {
            let meant = rule.text.split(':').find_map(|part| part.strip_prefix("role="));
            let near = meant.and_then(|meant| nearest(meant, self.roles.iter().map(String::as_str)));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            return format!(
                "no task of this role makes such a call{hint}{}",
                among(&self.roles, "these do:")
            );
        }
        if self.to_peer == 0 {
            return format!("no such call is about this peer{}", among(&self.peers, "they are about"));
        }
        if self.on_path == 0 {
            return format!("no such call is about this path{}", among(&self.paths, "they are about"));
        }
        if self.with_args == 0 {
            return format!("none of {} such calls has these arguments", self.on_path);
        }
        if resolved.shadowed > 0 {
            return format!("rules before it decide all {} calls that it would hit", resolved.shadowed);
        }
        match rule.when.nth {
            Some(Nth { first, .. }) => {
                format!("{} calls match, and no task makes one of them {first} times", resolved.eligible)
            }
            None => format!("{} calls match, and chance chose none of them", resolved.eligible),
        }
    }
}

fn remember(names: &mut BTreeSet<String>, name: &str) {
    if names.len() < MAX_NAMES && !names.contains(name) {
        names.insert(name.chars().take(80).flat_map(char::escape_debug).collect());
    }
}

fn address(addr: &SockAddr) -> String {
    match addr {
        SockAddr::Inet(at) => at.to_string(),
        SockAddr::Unix(name) => lossy(name).into_owned(),
        SockAddr::Other { family, .. } => format!("an address of family {family}"),
        _ => "an address of another kind".to_owned(),
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
