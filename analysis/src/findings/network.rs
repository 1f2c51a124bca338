//! Connections, the answers of peers, and names.

use super::attempts::{
    self, EADDRNOTAVAIL, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, around, figures_of, meaning,
};
use super::people::{Actor, People, ProcessId, RoleId};
use super::places::{self, Place, Places};
use super::tally::{Failed, Series, change_point, median, quantile};
use super::words::{self, at, count, errno_name, percent, span, times, when};
use super::{Dictionary, Facts, Finding, Kind, Level, Seen};
use crate::connects::{Connected, Connects};
use ctrace_format::syscalls::{About, Call, Failing, Family, failing_on};
use ctrace_format::{Connection, Dns, Event, FdTarget, Object, Snapshot, SockAddr, SockCookie};
use rustc_hash::{FxHashMap, FxHashSet};

const MAX_TARGETS: usize = 16_384;
const MAX_FLOWS: usize = 65_536;
/// Tries of one thread that follow each other faster than this are made without a pause.
const NO_PAUSE_NS: u64 = 20_000_000;
/// So many of them are a storm.
const STORM: u64 = 50;
/// An answer that takes less is not slow, however fast others were.
const SLOW_NS: u64 = 50_000_000;
/// A wait that ends without anything after so long was a timeout of the program.
const TIMEOUT_NS: u64 = 20_000_000;
/// Response code of a name that does not exist (RFC 1035).
const NXDOMAIN: u8 = 3;
const DNS_PORT: u16 = 53;
const DNS_ENDING: &str = ":53";

/// When a name server was asked, how long its answer took, and for which name.
type Answered = (u64, u64, Place);

/// Connections from a role to a place.
#[derive(Debug, Default)]
struct Target {
    ok: u64,
    failed: Vec<(u16, Failed)>,
    /// The last failure of each thread, and failures that came right after one.
    last: FxHashMap<u32, u64>,
    quick: u64,
    gave_up: Failed,
}

/// The answers of a place to a role.
#[derive(Debug, Default)]
struct Answers {
    times: Series,
    /// Requests without an answer that the program gave up, and how long it had waited.
    given_up: Failed,
    waited: Series,
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
}

/// Questions for a name to a server.
#[derive(Debug, Default)]
struct Name {
    answers: Series,
    answered: u64,
    missing: Failed,
    refused: Failed,
    code: u8,
    unanswered: Failed,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Network {
    connects: Connects,
    targets: FxHashMap<(RoleId, Place), Target>,
    answers: FxHashMap<(RoleId, Place), Answers>,
    flows: FxHashMap<u64, Flow>,
    /// By thread: the sockets on which it waits for an answer.
    asking: FxHashMap<u32, u64>,
    listening: FxHashSet<u16>,
    clients: FxHashSet<Place>,
    names: FxHashMap<(RoleId, Place, Place), Name>,
    /// Name servers on whose port nobody listened.
    silent: FxHashSet<Place>,
    /// The name that a thread asked for last.
    last_name: FxHashMap<u32, Place>,
    /// Names of addresses.
    called: FxHashMap<std::net::IpAddr, Place>,
    /// The address of a place.
    ip_of: FxHashMap<Place, std::net::IpAddr>,
    /// The process that failed to reach somebody last, and when: not told to anybody yet.
    hit: Option<(ProcessId, u64)>,
}

impl Network {
    /// Takes in the listeners that were there when recording began.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) {
        let listening = snapshot.processes.iter().flat_map(|p| &p.fds).filter_map(|fd| match &fd.target {
            FdTarget::Socket { listening: Some(_), local: Some(SockAddr::Inet(local)), .. } => {
                Some(local.port())
            }
            _ => None,
        });
        self.listening.extend(listening);
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
            Family::Connect => {
                self.attempt(seen, places, words);
                return None;
            }
            Family::Listen => {
                if let Some(Object::Socket { local: Some(SockAddr::Inet(local)), .. }) =
                    seen.s.object.map(|o| words.object(o))
                {
                    self.listening.insert(local.port());
                }
            }
            Family::Accept => self.accepted(seen, places, words),
            Family::Readiness => {
                // It waited and nothing came.
                if seen.s.ret == 0
                    && seen.duration_ns >= TIMEOUT_NS
                    && let Some(cookie) = self.asking.get(&seen.actor.tid)
                    && let Some(flow) = self.flows.get_mut(cookie)
                {
                    flow.timed_out = true;
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
        }
        let place = self.clients_of(seen, places, words);
        self.flow(cookie, Flow { place, client: false, sent_ns: None, timed_out: false });
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
            self.flow(cookie, Flow { place, client: !server, sent_ns: None, timed_out: false });
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
                (flow.sent_ns, flow.timed_out) = (Some(end_ns), false);
                self.asking.insert(tid, cookie);
            }
            Family::Receive if seen.s.ret > 0 => {
                if let Some(sent_ns) = flow.sent_ns.take()
                    && let Some(answers) = bounded(&mut self.answers, key)
                {
                    answers.times.add(sent_ns, end_ns.saturating_sub(sent_ns));
                }
                self.asking.remove(&tid);
            }
            // The other end closed, or failed: no answer is missing.
            Family::Receive if seen.s.ret == 0 => flow.sent_ns = None,
            Family::Receive if seen.s.errno() == Some(u32::from(attempts::EAGAIN)) => {
                // SO_RCVTIMEO.
                flow.timed_out |= seen.duration_ns >= TIMEOUT_NS;
            }
            Family::Receive | Family::Send if seen.s.errno().is_some() => flow.sent_ns = None,
            Family::Close => {
                if let (Some(sent_ns), true) = (flow.sent_ns.take(), flow.timed_out)
                    && let Some(answers) = bounded(&mut self.answers, key)
                {
                    let ok = answers.times.len();
                    self.hit = Some((seen.actor.process, end_ns));
                    answers.given_up.add(end_ns, tid, ok);
                    answers.waited.add(sent_ns, end_ns.saturating_sub(sent_ns));
                }
                self.asking.remove(&tid);
            }
            _ => {}
        }
        place
    }

    fn attempt(&mut self, seen: &Seen<'_>, places: &mut Places, words: &(impl Dictionary + ?Sized)) {
        let event = seen.event();
        let told = self.connects.observe(&event, |o| places::cookie(Some(o), words).map(SockCookie));
        // A thread connects to the name that it asked for last.
        let peer = seen.s.details.iter().find_map(|d| match d {
            ctrace_format::Detail::Addr { addr: SockAddr::Inet(peer), .. } => Some(*peer),
            _ => None,
        });
        if let Some(peer) = peer.filter(|p| p.port() != DNS_PORT && p.port() != 0)
            && let Some(name) = self.last_name.remove(&seen.actor.tid)
        {
            self.called.entry(peer.ip()).or_insert(name);
        }
        if let Some(cookie) = places::cookie(seen.s.object, words) {
            let place = places.of(seen, words);
            self.flow(cookie, Flow { place, client: true, sent_ns: None, timed_out: false });
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
            Some(_) if connected.gave_up => target.gave_up.add(end_ns, tid, target.ok),
            Some(errno) => {
                let ok = target.ok;
                if target.last.len() < 4096 {
                    let last = target.last.insert(tid, end_ns);
                    target.quick +=
                        u64::from(last.is_some_and(|l| connected.t_ns.saturating_sub(l) < NO_PAUSE_NS));
                }
                if let Some((_, failed)) = target.failed.iter_mut().find(|(e, _)| *e == errno) {
                    failed.add(end_ns, tid, ok);
                } else {
                    let mut failed = Failed::default();
                    failed.add(end_ns, tid, ok);
                    target.failed.push((errno, failed));
                }
            }
        }
    }

    /// A name was asked for.
    pub(super) fn name(
        &mut self,
        dns: &Dns,
        people: &mut People,
        places: &mut Places,
        words: &(impl Dictionary + ?Sized),
    ) {
        let actor = people.of(dns.task, words);
        let (server, name) = (places.address(&dns.server), places.string(dns.name, words));
        let end_ns = dns.t_ns.saturating_add(dns.duration_ns);
        let Some(entry) = bounded(&mut self.names, (actor.role, server, name)) else { return };
        let ok = entry.answered;
        if dns.answer.is_none_or(|(code, _)| code != 0) {
            self.hit = Some((actor.process, end_ns));
        }
        match dns.answer {
            // Told when the socket was closed, or at the end: the time of the question says more.
            None => entry.unanswered.add(dns.t_ns, actor.tid, ok),
            Some((NXDOMAIN, _)) => entry.missing.add(end_ns, actor.tid, ok),
            Some((0, _)) => {
                entry.answered += 1;
                self.last_name.insert(actor.tid, name);
            }
            Some((code, _)) => {
                entry.code = code;
                entry.refused.add(end_ns, actor.tid, ok);
            }
        }
        if dns.answer.is_some() {
            entry.answers.add(dns.t_ns, dns.duration_ns);
        }
    }

    /// The process that failed to reach somebody since this was asked last.
    pub(super) const fn take_hit(&mut self) -> Option<(ProcessId, u64)> {
        self.hit.take()
    }

    /// A place with the name that it was found by.
    fn place_name(&self, facts: &Facts<'_>, place: Place) -> String {
        let address = facts.places.name(place);
        match self.ip_of.get(&place).and_then(|ip| self.called.get(ip)) {
            Some(name) => format!("{} ({address})", facts.places.name(*name)),
            None => address.to_owned(),
        }
    }

    pub(super) fn findings(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
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
    }

    fn target(&self, facts: &Facts<'_>, role: RoleId, place: Place, target: &Target, out: &mut Vec<Finding>) {
        let object = self.place_name(facts, place);
        let who = facts.who(role);
        let all: u64 = target.failed.iter().map(|(_, f)| f.count).sum();
        for (errno, failed) in &target.failed {
            let (kind, level) = match *errno {
                ECONNREFUSED => (Kind::Refused, Level::Cause),
                EHOSTUNREACH | ENETUNREACH => (Kind::Unreachable, Level::Cause),
                ETIMEDOUT => (Kind::TimedOut, Level::Cause),
                EADDRNOTAVAIL => (Kind::PortsExhausted, Level::Cause),
                attempts::EAGAIN => (Kind::BacklogFull, Level::Cause),
                attempts::EPERM | attempts::EACCES => (Kind::Permission, Level::Warning),
                attempts::ENOENT if object.starts_with('/') => (Kind::Refused, Level::Warning),
                attempts::ECONNRESET => (Kind::Reset, Level::Cause),
                _ => (Kind::Failing, Level::Note),
            };
            let around_start = target.ok > failed.ok_at_last && failed.ok_before == 0 && failed.count <= 5;
            let level = match failed.count {
                // A service that is not there yet, or not any more, when somebody looks.
                1 | 2 => Level::Note,
                _ if around_start => Level::Note,
                // One address of several that a name has may not answer.
                _ if target.ok == 0 && self.reached_otherwise(role, place) => Level::Note,
                // A service that others would have is none that this one lacks, unless it was there.
                _ if *errno == attempts::ENOENT && failed.ok_before == 0 => Level::Note,
                _ => level,
            };
            let meaning = meaning(*errno).map_or_else(String::new, |m| format!(" ({m})"));
            let sentence = format!(
                "{who}: connect to {object} failed with {} {} {}{meaning}{}",
                errno_name(*errno),
                times(failed.count),
                when(failed.first_ns, failed.last_ns),
                around(failed, target.ok)
            );
            let finding = |kind, level, sentence| {
                Finding::new(kind, level, super::rank::score(kind), sentence)
                    .over(failed.first_ns, failed.last_ns, failed.count)
                    .by(facts.people.role_name(role))
                    .against(object.as_str())
                    .with_errno(*errno)
                    .seen(failed.first_ns, failed.tid)
            };
            out.push(finding(kind, level, sentence));
            let span_ns = failed.last_ns.saturating_sub(failed.first_ns).max(1_000_000);
            if target.quick >= STORM && target.quick * 10 >= all * 6 && failed.count * 10 >= all * 6 {
                let rate = u128::from(failed.count) * 1_000_000_000 / u128::from(span_ns);
                let sentence = format!(
                    "{who} tried to connect to {object} {} times {} without a pause ({} a second), each time {}{}",
                    count(failed.count),
                    when(failed.first_ns, failed.last_ns),
                    count(rate as u64),
                    errno_name(*errno),
                    around(failed, target.ok)
                );
                out.push(finding(Kind::RetryStorm, Level::Cause, sentence));
            }
        }
        if target.gave_up.count > 0 {
            let failed = &target.gave_up;
            let sentence = format!(
                "{who}: {object} did not answer to connect, {} {}, until the program gave up{}",
                times(failed.count),
                when(failed.first_ns, failed.last_ns),
                around(failed, target.ok)
            );
            let level = if target.ok == 0 && self.reached_otherwise(role, place) {
                Level::Note
            } else {
                Level::Cause
            };
            out.push(
                Finding::new(Kind::TimedOut, level, super::rank::score(Kind::TimedOut), sentence)
                    .over(failed.first_ns, failed.last_ns, failed.count)
                    .by(facts.people.role_name(role))
                    .against(object.as_str())
                    .with_errno(ETIMEDOUT)
                    .seen(failed.first_ns, failed.tid),
            );
        }
    }

    /// Whether the role reached another address of the same port or name: programs try several (RFC 8305).
    fn reached_otherwise(&self, role: RoleId, place: Place) -> bool {
        let name = |place| self.ip_of.get(place).and_then(|ip| self.called.get(ip));
        self.targets.iter().any(|((other_role, other), target)| {
            *other_role == role
                && *other != place
                && target.ok > 0
                && name(other).is_some()
                && name(other) == name(&place)
        })
    }

    fn slow_peer(
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
        let finding = |kind, level, sentence: String, from_ns, to_ns, n| {
            Finding::new(kind, level, super::rank::score(kind), sentence)
                .over(from_ns, to_ns, n)
                .by(facts.people.role_name(role))
                .against(object.as_str())
        };
        let given_up = &answers.given_up;
        if given_up.count > 0 {
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
                    "{who}: answers of {object} took {} from {} on (median of {}); before that {} (of {})",
                    span(late),
                    at(series[cut].0),
                    count(n),
                    span(early),
                    count(cut as u64)
                );
                let mut found = finding(Kind::SlowPeer, Level::Cause, sentence, series[cut].0, last_ns, n);
                found.evidence.before = Some(figures_of(&series[..cut], early));
                found.evidence.during = Some(figures_of(&series[cut..], late));
                out.push(found);
                return;
            }
        }
        let limit = SLOW_NS.max(typical.saturating_mul(10)).max(100_000_000);
        let slow: Vec<(u64, u64)> = series.iter().copied().filter(|x| x.1 >= limit).collect();
        let lost: u64 = slow.iter().map(|x| x.1).sum();
        if slow.len() * 50 >= series.len() && slow.len() >= 2 && lost.saturating_mul(10) >= facts.duration_ns
        {
            let sentence = format!(
                "{who}: {} of {} answers of {object} took {} (up to {}); the others {}",
                count(slow.len() as u64),
                count(series.len() as u64),
                span(median(&slow)),
                span(answers.times.max_ns),
                span(typical)
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
            out.push(found);
        } else if typical >= 500_000_000 && series.len() >= 3 {
            let sentence = format!(
                "{who}: answers of {object} took {} (median of {}), all along",
                span(typical),
                count(answers.times.len())
            );
            let mut found =
                finding(Kind::SlowPeer, Level::Note, sentence, series[0].0, last_ns, answers.times.len());
            found.evidence.during = Some(figures_of(&series, typical));
            out.push(found);
        }
    }

    /// Whether a name that does not exist was one of the guesses for one that does: `db.default.svc.cluster.local` on
    /// the way to `db`.
    fn is_guess(&self, facts: &Facts<'_>, role: RoleId, name: Place) -> bool {
        let text = facts.places.name(name);
        self.names.iter().any(|((other_role, _, other), entry)| {
            let known = facts.places.name(*other);
            *other_role == role
                && entry.answered > 0
                && (text.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'))
                    || known.strip_prefix(text).is_some_and(|rest| rest.starts_with('.')))
        })
    }

    fn names(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        // A name that does not exist is an answer that some ask for: whoever needs it asks again, or ends for it.
        const ASKED_AGAIN: u64 = 3;
        let mut all: Vec<_> = self.names.iter().collect();
        all.sort_by_key(|(key, _)| **key);
        // Slowness is a server's, whatever it is asked for.
        let mut servers: std::collections::BTreeMap<_, Vec<Answered>> = std::collections::BTreeMap::new();
        for ((role, server, name), entry) in all {
            let (who, server_name, text) =
                (facts.who(*role), facts.places.name(*server), facts.places.name(*name));
            let text = if text.is_empty() { "the root" } else { text };
            let sums = servers.entry((*role, *server)).or_default();
            sums.extend(entry.answers.sorted().into_iter().map(|(t, ns)| (t, ns, *name)));
            let unanswered = if self.silent.contains(server) {
                (Kind::NameFailed, "refused (nobody listened there)")
            } else {
                (Kind::SlowName, "did not answer")
            };
            for (failed, kind, what) in [
                (&entry.unanswered, unanswered.0, unanswered.1),
                (&entry.refused, Kind::NameFailed, "failed"),
                (&entry.missing, Kind::NameFailed, "knew no such name"),
            ] {
                if failed.count == 0
                    || kind == Kind::NameFailed
                        && what.starts_with("knew")
                        && self.is_guess(facts, *role, *name)
                {
                    continue;
                }
                // A name server has no address of the machine itself (RFC 6761, section 6.3).
                let asks = what.starts_with("knew")
                    && (failed.count < ASKED_AGAIN
                        || text.trim_end_matches('.').rsplit('.').next() == Some("localhost"));
                let level = if asks { Level::Note } else { Level::Cause };
                let code =
                    if what == "failed" { format!(" ({})", code_name(entry.code)) } else { String::new() };
                let sentence = format!(
                    "{who} asked the name server {server_name} for {text}: it {what}{code} {} {}{}",
                    times(failed.count),
                    when(failed.first_ns, failed.last_ns),
                    around(failed, entry.answered)
                );
                out.push(
                    Finding::new(kind, level, super::rank::score(kind), sentence)
                        .over(failed.first_ns, failed.last_ns, failed.count)
                        .by(facts.people.role_name(*role))
                        .against(format!("{text} at {server_name}"))
                        .seen(failed.first_ns, failed.tid),
                );
            }
        }
        for ((role, server), mut answers) in servers {
            answers.sort_unstable();
            let series: Vec<(u64, u64)> = answers.iter().map(|x| (x.0, x.1)).collect();
            let slow: Vec<(u64, u64, Place)> =
                answers.iter().copied().filter(|x| x.1 >= 100_000_000).collect();
            if slow.is_empty() {
                continue;
            }
            let slowest = slow.iter().max_by_key(|x| x.1).copied().unwrap_or(slow[0]);
            let lost = union(slow.iter().map(|x| (x.0, x.1)));
            let figures: Vec<(u64, u64)> = slow.iter().map(|x| (x.0, x.1)).collect();
            let name = facts.places.name(slowest.2);
            let rest: Vec<(u64, u64)> = series.iter().copied().filter(|x| x.1 < 100_000_000).collect();
            let others =
                if rest.is_empty() { String::new() } else { format!("; the others {}", span(median(&rest))) };
            let sentence = format!(
                "{}: the name server {} took {} (median; up to {}, for {name}) to answer {} of {} questions {}{others}; {} of the recording was spent waiting for it",
                facts.who(role),
                facts.places.name(server),
                span(quantile(&figures, 500)),
                span(slowest.1),
                count(slow.len() as u64),
                count(series.len() as u64),
                when(slow[0].0, slow[slow.len() - 1].0),
                percent(lost, facts.duration_ns),
            );
            // One late answer of many is the network's noise.
            let level =
                if slow.len() >= 2 || slowest.1 >= 1_000_000_000 { Level::Cause } else { Level::Note };
            let mut found = Finding::new(Kind::SlowName, level, super::rank::score(Kind::SlowName), sentence)
                .over(slow[0].0, slow[slow.len() - 1].0, slow.len() as u64)
                .by(facts.people.role_name(role))
                .against(format!("{name} at {}", facts.places.name(server)));
            found.evidence.before = (!rest.is_empty()).then(|| figures_of(&rest, median(&rest)));
            found.evidence.during = Some(figures_of(&figures, median(&figures)));
            out.push(found);
        }
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

/// The time that stretches (start, length) take together, in order of their starts.
fn union(stretches: impl Iterator<Item = (u64, u64)>) -> u64 {
    let (mut sum, mut up_to) = (0_u64, 0);
    for (from, length) in stretches {
        let end = from.saturating_add(length);
        sum = sum.saturating_add(end.saturating_sub(from.max(up_to)));
        up_to = up_to.max(end);
    }
    sum
}

/// A response code (RFC 1035, RFC 2136).
fn code_name(code: u8) -> String {
    match code {
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        code => format!("code {code}"),
    }
}

/// The entry of a map that does not grow without end.
fn bounded<K: Eq + std::hash::Hash, V: Default>(map: &mut FxHashMap<K, V>, key: K) -> Option<&mut V> {
    if map.len() >= MAX_TARGETS && !map.contains_key(&key) {
        return None;
    }
    Some(map.entry(key).or_default())
}
