//! Connections, the answers of peers, and names.

mod answers;
mod names;
mod targets;

use self::answers::Answers;
use self::names::Name;
use self::targets::Target;
use super::attempts::{self, ECONNREFUSED};
use super::called::Called;
use super::people::{Actor, People, ProcessId, RoleId};
use super::places::{self, Place, Places};
use super::tally::Failed;
use super::words;
use super::{Dictionary, Facts, Finding, Seen};
use crate::connects::{Connected, Connects};
use ctrace_format::syscalls::{About, Call, Failing, Family, failing_on};
use ctrace_format::{Connection, Event, FdTarget, Object, Snapshot, SockAddr, SockCookie};
use rustc_hash::{FxHashMap, FxHashSet};

const MAX_TARGETS: usize = 16_384;
const MAX_FLOWS: usize = 65_536;
const MAX_LISTENERS: usize = 256;
/// Peers whose answers a thread waits for at a time, that are told apart.
const MAX_ASKED: usize = 64;
/// Tries of one thread that follow each other faster than this are made without a pause.
const NO_PAUSE_NS: u64 = 20_000_000;
/// A wait that ends without anything after so long was a timeout of the program.
const TIMEOUT_NS: u64 = 20_000_000;
const DNS_PORT: u16 = 53;
const DNS_ENDING: &str = ":53";

/// A socket that listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listener {
    pub(super) role: RoleId,
    pub(super) place: Place,
    /// How many may wait in its queue, when that is known.
    pub(super) backlog: Option<u64>,
}

/// A socket.
#[derive(Debug, Clone, Copy)]
struct Flow {
    place: Place,
    client: bool,
    /// When the last request was sent that has no answer yet.
    sent_ns: Option<u64>,
    /// The thread that asked saw a timeout since.
    timed_out: bool,
    /// A fault plan delayed the request.
    is_delayed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Network {
    connects: Connects,
    targets: FxHashMap<(RoleId, Place), Target>,
    answers: FxHashMap<(RoleId, Place), Answers>,
    flows: FxHashMap<u64, Flow>,
    /// By thread: the sockets on which it waits for an answer.
    asking: FxHashMap<u32, Vec<u64>>,
    unanswered: answers::Unanswered,
    listening: FxHashSet<u16>,
    listeners: Vec<Listener>,
    /// Names of unix sockets that somebody listened on when recording began.
    unix_listeners: FxHashSet<Place>,
    /// By process and descriptor: what a socket was bound to, and its backlog once it listens.
    bound: FxHashMap<(ProcessId, i32), (Place, Option<u64>)>,
    clients: FxHashSet<Place>,
    names: FxHashMap<(RoleId, Place, Place), Name>,
    /// Name servers on whose port nobody listened.
    silent: FxHashSet<Place>,
    called: Called,
    /// The address of a place.
    ip_of: FxHashMap<Place, std::net::IpAddr>,
    /// The process that failed to reach somebody last, and when: not told to anybody yet.
    hit: Option<(ProcessId, u64)>,
}

impl Network {
    /// Sockets that listen, or did.
    pub(super) fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Whether a process of the recording listens there.
    fn is_served_inside(&self, facts: &Facts<'_>, place: Place) -> bool {
        let port = |name: &str| name.parse::<std::net::SocketAddr>().ok().map(|at| at.port());
        self.listeners.iter().any(|l| l.place == place)
            || self.unix_listeners.contains(&place)
            || port(facts.places.name(place)).is_some_and(|port| self.listening.contains(&port))
    }

    fn listens(&mut self, role: RoleId, place: Place, backlog: Option<u64>) {
        if let Some(known) = self.listeners.iter_mut().find(|l| l.role == role && l.place == place) {
            known.backlog = backlog.or(known.backlog);
        } else if self.listeners.len() < MAX_LISTENERS {
            self.listeners.push(Listener { role, place, backlog });
        }
    }

    /// Takes in the listeners that were there when recording began.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot, people: &mut People, places: &mut Places) {
        for process in &snapshot.processes {
            for fd in &process.fds {
                if let FdTarget::Socket {
                    listening: Some(backlog),
                    local: Some(local @ SockAddr::Inet(_)),
                    ..
                } = &fd.target
                    && let Some(role) = people.role_of(process.tgid.0)
                {
                    self.listens(role, places.address(local), Some(u64::from(*backlog)));
                }
            }
        }
        let unix = snapshot.processes.iter().flat_map(|p| &p.fds).filter_map(|fd| match &fd.target {
            FdTarget::Socket { listening: Some(_), local: Some(local @ SockAddr::Unix(_)), .. } => {
                Some(local)
            }
            _ => None,
        });
        self.unix_listeners.extend(unix.take(MAX_LISTENERS).map(|local| places.address(local)));
        let listening = snapshot.processes.iter().flat_map(|p| &p.fds).filter_map(|fd| match &fd.target {
            FdTarget::Socket { listening: Some(_), local: Some(SockAddr::Inet(local)), .. } => {
                Some(local.port())
            }
            _ => None,
        });
        self.listening.extend(listening);
        self.unanswered.snapshot(snapshot, &self.listening);
    }

    /// Whether a place stands for those who connected to us.
    pub(super) fn is_clients(&self, place: Place) -> bool {
        self.clients.contains(&place)
    }

    /// Looks at a call. Returns against what it was; `None`: it needs no other look.
    pub(super) fn call(
        &mut self,
        seen: &Seen<'_>,
        places: &mut Places,
        words: &(impl Dictionary + ?Sized),
    ) -> Option<Place> {
        let family = seen.call.row().family;
        match family {
            // A filter answered in the kernel's place: nobody was asked.
            Family::Connect if seen.s.flags.is_denied() => return Some(places.of(seen, words)),
            Family::Connect => {
                self.attempt(seen, places, words);
                return None;
            }
            Family::Bind if seen.s.ret >= 0 => {
                let to = seen.s.details.iter().find_map(|d| match d {
                    ctrace_format::Detail::Addr { addr: addr @ SockAddr::Inet(to), .. } if to.port() != 0 => {
                        Some(places.address(addr))
                    }
                    _ => None,
                });
                let key = (seen.actor.process, seen.s.args[0] as i32);
                if let Some(to) = to.filter(|_| self.bound.len() < MAX_FLOWS) {
                    self.bound.insert(key, (to, None));
                }
            }
            Family::Listen => {
                let key = (seen.actor.process, seen.s.args[0] as i32);
                let local = match seen.s.object.map(|o| words.object(o)) {
                    Some(Object::Socket { local: Some(address @ SockAddr::Inet(local)), .. })
                        if local.port() != 0 =>
                    {
                        self.listening.insert(local.port());
                        Some(places.address(address))
                    }
                    _ => self.bound.get(&key).map(|b| b.0).filter(|to| *to != Place::NOWHERE),
                };
                // The kernel's own limit may be lower (net.core.somaxconn).
                let backlog = u64::from(seen.s.args[1] as u32);
                if self.bound.len() < MAX_FLOWS {
                    self.bound.insert(key, (local.unwrap_or(Place::NOWHERE), Some(backlog)));
                }
                if let Some(local) = local {
                    self.listens(seen.actor.role, local, Some(backlog));
                }
            }
            Family::Accept => self.accepted(seen, places, words),
            Family::Readiness => {
                // It waited and nothing came.
                if seen.s.ret == 0
                    && seen.duration_ns >= TIMEOUT_NS
                    && let Some(asked) = self.asking.get(&seen.actor.tid)
                {
                    for cookie in asked {
                        if let Some(flow) = self.flows.get_mut(cookie) {
                            flow.timed_out = true;
                        }
                    }
                }
            }
            Family::Fd if seen.call == Call::Getsockopt => {
                let event = seen.event();
                if let Some(connected) =
                    self.connects.observe(&event, |o| places::cookie(Some(o), words).map(SockCookie))
                {
                    self.connected(&connected, seen.actor, places);
                }
                return Some(Place::NOWHERE);
            }
            Family::Receive | Family::Send | Family::Transfer | Family::Close => {
                if let Some(cookie) = places::cookie(seen.s.object, words) {
                    return Some(self.traffic(seen, cookie, family, places, words));
                }
            }
            _ => {}
        }
        Some(places.of(seen, words))
    }

    fn accepted(&mut self, seen: &Seen<'_>, places: &mut Places, words: &(impl Dictionary + ?Sized)) {
        let Some(cookie) = places::cookie(seen.s.object, words).filter(|_| seen.s.ret >= 0) else { return };
        // The call that made it a listener may have come before the recording, or before it had an address.
        if let Some(Object::Socket { local: Some(SockAddr::Inet(local)), .. }) =
            seen.s.object.map(|o| words.object(o))
        {
            self.listening.insert(local.port());
            // One that was told to take any port has one by now.
            let listener = (seen.actor.process, seen.s.args[0] as i32);
            if let Some((Place::NOWHERE, backlog)) = self.bound.get(&listener).copied() {
                let local = places.address(&SockAddr::Inet(*local));
                self.listens(seen.actor.role, local, backlog);
                self.bound.insert(listener, (local, backlog));
            }
        }
        let place = self.clients_of(seen, places, words);
        self.flow(cookie, Flow { place, client: false, sent_ns: None, timed_out: false, is_delayed: false });
    }

    fn clients_of(
        &mut self,
        seen: &Seen<'_>,
        places: &mut Places,
        words: &(impl Dictionary + ?Sized),
    ) -> Place {
        let local = match seen.s.object.map(|o| words.object(o)) {
            Some(Object::Socket { local: Some(local), .. }) => words::address(local),
            _ => "a socket".to_owned(),
        };
        let place = places.named(&format!("clients of {local}"));
        self.clients.insert(place);
        place
    }

    fn flow(&mut self, cookie: u64, flow: Flow) {
        if self.flows.len() >= MAX_FLOWS {
            self.flows.clear();
        }
        self.flows.insert(cookie, flow);
    }

    /// Bytes went through a socket, or it was closed.
    fn traffic(
        &mut self,
        seen: &Seen<'_>,
        cookie: u64,
        family: Family,
        places: &mut Places,
        words: &(impl Dictionary + ?Sized),
    ) -> Place {
        if !self.flows.contains_key(&cookie) {
            let server = match seen.s.object.map(|o| words.object(o)) {
                Some(Object::Socket { local: Some(SockAddr::Inet(local)), .. }) => {
                    self.listening.contains(&local.port())
                }
                _ => false,
            };
            let place = if server { self.clients_of(seen, places, words) } else { places.of(seen, words) };
            self.flow(
                cookie,
                Flow { place, client: !server, sent_ns: None, timed_out: false, is_delayed: false },
            );
        }
        let Some(flow) = self.flows.get_mut(&cookie) else { return Place::NOWHERE };
        let (place, tid, end_ns) = (flow.place, seen.actor.tid, seen.end_ns());
        if places.name(place).ends_with(DNS_ENDING) && seen.s.errno() == Some(u32::from(ECONNREFUSED)) {
            self.silent.insert(place);
        }
        if !flow.client || places.name(place).ends_with(DNS_ENDING) || !is_a_peer(places.name(place)) {
            return place;
        }
        let key = (seen.actor.role, place);
        match family {
            Family::Send if seen.s.ret > 0 => {
                // The sender waits for the answer during a delay that was added after the call.
                (flow.sent_ns, flow.timed_out) = (Some(end_ns.saturating_sub(seen.added.after_ns)), false);
                flow.is_delayed = seen.added.after_ns > 0;
                let asked = self.asking.entry(tid).or_default();
                if asked.len() < MAX_ASKED && !asked.contains(&cookie) {
                    asked.push(cookie);
                }
            }
            Family::Receive if seen.s.ret > 0 => {
                if let Some(sent_ns) = flow.sent_ns.take()
                    && let Some(answers) = bounded(&mut self.answers, key)
                {
                    let took_ns = end_ns.saturating_sub(sent_ns);
                    answers.times.add(sent_ns, took_ns);
                    if flow.is_delayed || !seen.added.is_none() {
                        answers.delayed(sent_ns, took_ns);
                    }
                }
                self.answered(tid, cookie);
            }
            // The other end closed, or failed: no answer is missing.
            Family::Receive if seen.s.ret == 0 => flow.sent_ns = None,
            Family::Receive if seen.s.errno() == Some(u32::from(attempts::EAGAIN)) => {
                // SO_RCVTIMEO.
                flow.timed_out |= seen.duration_ns >= TIMEOUT_NS;
            }
            Family::Receive | Family::Send if seen.s.errno().is_some() => flow.sent_ns = None,
            Family::Close => {
                let (sent_ns, timed_out) = (flow.sent_ns.take(), flow.timed_out);
                if let Some(sent_ns) = sent_ns
                    && let Some(answers) = bounded(&mut self.answers, key)
                    && (timed_out || answers.is_long(end_ns.saturating_sub(sent_ns)))
                {
                    self.hit = Some((seen.actor.process, end_ns));
                    answers.gave_up(sent_ns, end_ns, seen.actor);
                }
                self.answered(tid, cookie);
            }
            _ => {}
        }
        place
    }

    /// A thread waits no longer for the answer of a peer.
    fn answered(&mut self, tid: u32, cookie: u64) {
        if let Some(asked) = self.asking.get_mut(&tid) {
            asked.retain(|c| *c != cookie);
            if asked.is_empty() {
                self.asking.remove(&tid);
            }
        }
    }

    fn attempt(&mut self, seen: &Seen<'_>, places: &mut Places, words: &(impl Dictionary + ?Sized)) {
        let event = seen.event();
        let told = self.connects.observe(&event, |o| places::cookie(Some(o), words).map(SockCookie));
        let peer = seen.s.details.iter().find_map(|d| match d {
            ctrace_format::Detail::Addr { addr: SockAddr::Inet(peer), .. } => Some(*peer),
            _ => None,
        });
        if let Some(peer) = peer {
            self.called.connects(seen.actor.tid, peer);
        }
        if let Some(cookie) = places::cookie(seen.s.object, words) {
            let place = places.of(seen, words);
            self.flow(
                cookie,
                Flow { place, client: true, sent_ns: None, timed_out: false, is_delayed: false },
            );
        }
        if let Some(connected) = told {
            self.connected(&connected, seen.actor, places);
        }
    }

    /// A connection changed its state.
    pub(super) fn connection(
        &mut self,
        change: &Connection,
        people: &mut People,
        places: &mut Places,
        words: &(impl Dictionary + ?Sized),
    ) {
        let event = Event::Connection(change.clone());
        let told = self.connects.observe(&event, |o| places::cookie(Some(o), words).map(SockCookie));
        if let Some(connected) = told {
            let Some(task) = connected.task else { return };
            let actor = people.of(task, words);
            self.connected(&connected, actor, places);
        }
    }

    fn connected(&mut self, connected: &Connected, actor: Actor, places: &mut Places) {
        let (role, tid) = (actor.role, actor.tid);
        let Some(peer) = &connected.peer else { return };
        let place = places.address(peer);
        if let SockAddr::Inet(peer) = peer {
            // A connect of a datagram socket asks nobody.
            if peer.port() == 0 || peer.port() == DNS_PORT {
                return;
            }
            self.ip_of.insert(place, peer.ip());
        }
        let Some(target) = bounded(&mut self.targets, (role, place)) else { return };
        let end_ns = connected.end_ns();
        if connected.error.is_some_and(|errno| !is_expected(peer, errno)) {
            self.hit = Some((actor.process, end_ns));
        }
        match connected.error {
            None => target.ok += 1,
            Some(errno) if is_expected(peer, errno) => {}
            Some(_) if connected.gave_up => target.gave_up.add(end_ns, actor, target.ok),
            Some(errno) => {
                let ok = target.ok;
                if target.last.len() < 4096 {
                    let last = target.last.insert(tid, end_ns);
                    target.quick +=
                        u64::from(last.is_some_and(|l| connected.t_ns.saturating_sub(l) < NO_PAUSE_NS));
                }
                let at = target.failed.iter().position(|(e, _)| *e == errno).unwrap_or_else(|| {
                    target.failed.push((errno, Failed::default()));
                    target.failed.len() - 1
                });
                let failed = &mut target.failed[at].1;
                failed.add(end_ns, actor, ok);
                failed.injected += u64::from(connected.injected);
            }
        }
    }

    /// The process that failed to reach somebody since this was asked last.
    pub(super) const fn take_hit(&mut self) -> Option<(ProcessId, u64)> {
        self.hit.take()
    }

    /// A place with the name that it was found by.
    fn place_name(&self, facts: &Facts<'_>, place: Place) -> String {
        let address = facts.places.name(place);
        match self.ip_of.get(&place).and_then(|ip| self.called.name(*ip)) {
            Some(name) => format!("{} ({address})", facts.places.name(name)),
            None => address.to_owned(),
        }
    }

    /// Returns the threads that were told of.
    pub(super) fn findings(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) -> FxHashSet<u32> {
        let mut targets: Vec<_> = self.targets.iter().collect();
        targets.sort_by_key(|(key, _)| **key);
        for ((role, place), target) in targets {
            self.target(facts, *role, *place, target, out);
        }
        let mut answers: Vec<_> = self.answers.iter().collect();
        answers.sort_by_key(|(key, _)| **key);
        for ((role, place), answers) in answers {
            self.slow_peer(facts, *role, *place, answers, out);
        }
        self.names(facts, out);
        self.silent_peers(facts, out)
    }
}

/// Whether a server owes an answer after a call on a socket of a client; `None`: it changes nothing.
pub(super) fn owes(seen: &Seen<'_>) -> Option<bool> {
    match seen.call.row().family {
        Family::Receive if seen.s.ret > 0 => Some(true),
        Family::Send if seen.s.ret > 0 => Some(false),
        _ => None,
    }
}

/// Whether a connect may fail so by design.
fn is_expected(peer: &SockAddr, errno: u16) -> bool {
    let name = match peer {
        SockAddr::Unix(path) => path.as_slice(),
        _ => b"",
    };
    // The daemon that caches names, which few hosts run.
    name.windows(4).any(|w| w == b"nscd")
        || failing_on(Call::Connect, errno, About { name, datagram: false }) != Failing::Failure
}

/// Whether a place is an address of somebody else: not an end of a pair that nobody can name.
fn is_a_peer(name: &str) -> bool {
    !name.is_empty() && !name.starts_with("socket") && !name.starts_with("an ")
}

/// The entry of a map that does not grow without end.
fn bounded<K: Eq + std::hash::Hash, V: Default>(map: &mut FxHashMap<K, V>, key: K) -> Option<&mut V> {
    if map.len() >= MAX_TARGETS && !map.contains_key(&key) {
        return None;
    }
    Some(map.entry(key).or_default())
}
