//! The calls that took longest, and what they waited for.

use super::errors::errno_name;
use super::{Ranked, SlowCall};
use crate::findings::Seen;
use crate::findings::called::Called;
use crate::findings::people::{Actor, People, ProcessId, RoleId};
use crate::findings::places::{Place, Places};
use crate::findings::waits::locks::{FUTEX_CMD_MASK, FUTEX_WAKE, FUTEX_WAKE_BITSET};
use crate::findings::waits::{Awaited, awaited};
use crate::{Account, EventId, Level};
use ctrace_format::syscalls::{Call, Family, On};
use ctrace_format::{Detail, Event, Object, SockAddr, SyscallFlags, Trace};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cmp::Reverse;

/// A call that takes less is not slow.
pub(super) const SLOW_NS: u64 = 1_000_000;
/// Kinds of calls, by role, call and place, whose slowest ones are kept.
const MAX_KINDS: usize = 2_048;
/// So many of each kind.
const OF_KIND: usize = 8;
/// Rows that are shown.
const SHOWN: usize = 100;
/// Of those, the ones whose events travel with the picture.
const SAMPLED: usize = 100;
const MAX_WAKES: usize = 16_384;

/// What a call waited for.
#[derive(Debug, Clone, Copy)]
enum Why {
    /// An end of a connection that was asked.
    Answer,
    Connection,
    /// A lock, and who had it, when that was seen.
    Lock(Option<Actor>),
    Disk,
    Cpu,
    /// Somebody who writes to a pipe, or reads from it.
    Writer,
    Reader,
    Room,
    Child,
    Unknown,
}

#[derive(Debug, Clone)]
struct Slow {
    t_ns: u64,
    duration_ns: u64,
    call: &'static str,
    actor: Actor,
    place: Place,
    peer: Option<SockAddr>,
    errno: Option<u32>,
    is_open: bool,
    why: Why,
    number: u64,
    event: Event,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SlowCalls {
    kinds: FxHashMap<(RoleId, Call, Place), Vec<Slow>>,
    /// Slow calls in all.
    count: u64,
    /// By process and word: the thread that woke another last, and when.
    wakes: FxHashMap<(ProcessId, u64), (u64, Actor)>,
    /// Events that findings rest on.
    told: FxHashSet<EventId>,
}

impl SlowCalls {
    pub(super) fn new(account: &Account) -> Self {
        let telling = account.findings.iter().filter(|found| found.level > Level::Note);
        let told = telling.flat_map(|found| found.evidence.events.iter().copied()).collect();
        Self { told, ..Self::default() }
    }

    /// A thread woke another.
    pub(super) fn wake(&mut self, seen: &Seen<'_>) {
        let wakes = matches!(seen.s.args[1] & FUTEX_CMD_MASK, FUTEX_WAKE | FUTEX_WAKE_BITSET);
        if !wakes || seen.s.ret < 1 {
            return;
        }
        let word = (seen.actor.process, seen.s.args[0]);
        if self.wakes.len() < MAX_WAKES || self.wakes.contains_key(&word) {
            self.wakes.insert(word, (seen.t_ns, seen.actor));
        }
    }

    /// Takes in a call that took long. `is_idle`: it waited for something that comes when it comes.
    pub(super) fn add(
        &mut self,
        seen: &Seen<'_>,
        name: &'static str,
        place: Place,
        number: u64,
        is_idle: bool,
        trace: &Trace,
    ) {
        let row = seen.call.row();
        // A parent waits as long as its child lives, and an exit as long as there is.
        if is_idle || matches!(row.family, Family::Wait | Family::Exit) || row.waits == Some(On::Child) {
            return;
        }
        let what = awaited(seen, place, trace);
        // One that waits at a pipe and had not returned at the end may have nothing to do, unless a finding is about it.
        let is_told = || self.told.contains(&EventId { end_ns: seen.end_ns(), tid: seen.actor.tid });
        let is_pipe = seen.s.object.is_some_and(|object| matches!(trace.object(object), Object::Pipe { .. }));
        let is_open = seen.s.flags.contains(SyscallFlags::NO_EXIT);
        if what == Awaited::Work || is_open && is_pipe && row.family == Family::Receive && !is_told() {
            return;
        }
        self.count += 1;
        let mut key = (seen.actor.role, seen.call, place);
        if self.kinds.len() >= MAX_KINDS && !self.kinds.contains_key(&key) {
            key.2 = Place::ELSEWHERE;
            if self.kinds.len() >= 2 * MAX_KINDS && !self.kinds.contains_key(&key) {
                return;
            }
        }
        let kind = self.kinds.entry(key).or_default();
        let shortest = kind.iter().enumerate().min_by_key(|(_, slow)| slow.duration_ns);
        let shortest = shortest.map(|(at, slow)| (at, slow.duration_ns));
        if kind.len() >= OF_KIND && shortest.is_some_and(|(_, ns)| ns >= seen.duration_ns) {
            return;
        }
        let holder = || {
            let (t_ns, holder) = *self.wakes.get(&(seen.actor.process, seen.s.args[0]))?;
            (t_ns >= seen.t_ns && t_ns <= seen.end_ns() && holder.tid != seen.actor.tid).then_some(holder)
        };
        let slow = Slow {
            t_ns: seen.t_ns,
            duration_ns: seen.duration_ns,
            call: name,
            actor: seen.actor,
            place,
            peer: peer(seen, trace),
            errno: seen.s.errno(),
            is_open,
            why: if what == Awaited::Lock { Why::Lock(holder()) } else { why(seen, trace) },
            number,
            event: seen.event(),
        };
        match shortest.filter(|_| kind.len() >= OF_KIND) {
            Some((at, _)) => kind[at] = slow,
            None => kind.push(slow),
        }
    }

    /// The rows, the slowest first, and their events.
    pub(super) fn finish(
        self,
        people: &People,
        places: &Places,
        called: &Called,
    ) -> (Ranked<SlowCall>, Vec<(u64, Event)>) {
        let mut all: Vec<Slow> = self.kinds.into_values().flatten().collect();
        all.sort_by_key(|slow| (Reverse(slow.duration_ns), slow.t_ns, slow.actor.tid));
        all.truncate(SHOWN);
        let events = all.iter().take(SAMPLED).map(|slow| (slow.number, slow.event.clone())).collect();
        let rows: Vec<SlowCall> = all
            .into_iter()
            .map(|slow| {
                let on = on(&slow, places, called);
                SlowCall {
                    t_ns: slow.t_ns,
                    duration_ns: slow.duration_ns,
                    call: slow.call.to_owned(),
                    tid: slow.actor.tid,
                    tgid: people.process(slow.actor.process).tgid,
                    role: people.role_name(slow.actor.role).to_owned(),
                    errno: slow.errno.map(errno_name),
                    is_open: slow.is_open,
                    waited_for: words_of(slow.why, on.as_deref(), people),
                    event: EventId {
                        end_ns: slow.t_ns.saturating_add(slow.duration_ns),
                        tid: slow.actor.tid,
                    },
                    on,
                }
            })
            .collect();
        let left_out = self.count - rows.len() as u64;
        (Ranked { rows, left_out }, events)
    }
}

/// On what a call was, with the name that an address was found by.
fn on(slow: &Slow, places: &Places, called: &Called) -> Option<String> {
    let text = places.name(slow.place);
    let name = match &slow.peer {
        Some(SockAddr::Inet(peer)) => called.name(peer.ip()),
        _ => None,
    };
    match name {
        Some(name) => Some(format!("{} ({text})", places.name(name))),
        None => (!text.is_empty()).then(|| text.to_owned()),
    }
}

fn peer(seen: &Seen<'_>, trace: &Trace) -> Option<SockAddr> {
    let named = seen.s.details.iter().find_map(|detail| match detail {
        Detail::Addr { addr, .. } => Some(addr.clone()),
        _ => None,
    });
    named.or_else(|| match seen.s.object.map(|object| trace.object(object)) {
        Some(Object::Socket { peer, .. }) => peer.clone(),
        _ => None,
    })
}

/// What a call waited for that is no lock.
fn why(seen: &Seen<'_>, trace: &Trace) -> Why {
    let row = seen.call.row();
    let no_cpu_ns: u64 =
        seen.s.details.iter().map(|d| if let Detail::CpuWait { ns } = d { *ns } else { 0 }).sum();
    if no_cpu_ns > seen.duration_ns / 2 {
        return Why::Cpu;
    }
    let object = seen.s.object.map(|object| trace.object(object));
    match (row.family, object) {
        (Family::Connect, _) => Why::Connection,
        (Family::Receive, Some(Object::Socket { .. })) => Why::Answer,
        (Family::Receive, Some(Object::Pipe { .. })) => Why::Writer,
        (Family::Send, Some(Object::Pipe { .. })) => Why::Reader,
        (Family::Send | Family::Transfer, Some(Object::Socket { .. })) => Why::Room,
        (Family::Receive | Family::Send | Family::Transfer | Family::Open, Some(Object::File { .. })) => {
            Why::Disk
        }
        _ if row.waits == Some(On::Disk) => Why::Disk,
        _ if row.waits == Some(On::Child) => Why::Child,
        _ => Why::Unknown,
    }
}

fn words_of(why: Why, on: Option<&str>, people: &People) -> Option<String> {
    let peer = || on.filter(|on| *on != "socket").unwrap_or("the other end");
    Some(match why {
        Why::Answer => format!("the answer of {}", peer()),
        Why::Connection => format!("the connection to {}", peer()),
        Why::Lock(Some(holder)) => {
            let process = people.process(holder.process);
            let name = people.role_name(holder.role);
            let thread = if holder.tid == process.tgid { "pid" } else { "thread" };
            format!("a lock that {name} ({thread} {}) had", holder.tid)
        }
        Why::Lock(None) => match on.filter(|on| on.starts_with('/')) {
            Some(path) => format!("the lock of {path}"),
            None => "a lock".to_owned(),
        },
        Why::Disk => "the disk".to_owned(),
        Why::Cpu => "a CPU".to_owned(),
        Why::Writer => "somebody who writes to the pipe".to_owned(),
        Why::Reader => "somebody who reads from the pipe".to_owned(),
        Why::Room => format!("{} to take what is sent", peer()),
        Why::Child => "a child".to_owned(),
        Why::Unknown => return None,
    })
}
