//! What became of attempts to connect: who answered, what the kernel said, and when.

use super::source::Source;
use super::world::{World, canonical, detail_addr};
use ctrace_analysis::connects::{Connected, Connects as Attempts};
use ctrace_format::{Connection, ConnectionKind, Event, Object, SockAddr, Syscall, TcpState};
use rustc_hash::{FxHashMap, FxHashSet};
use std::net::IpAddr;

const EAGAIN: i64 = -11;
const ENOENT: i64 = -2;
const ENETUNREACH: i64 = -101;
const ETIMEDOUT: u16 = 110;
const ECONNREFUSED: u16 = 111;
const EINPROGRESS: i64 = -115;

/// How an address answers those who connect to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Somebody listens.
    Accepts,
    /// Nobody listens.
    Refuses,
    /// Nothing comes back: as where nothing is, or a filter drops what comes, or a queue is full.
    Silent,
}

/// What the recording tells of attempts to connect.
#[derive(Debug, Default)]
pub(crate) struct Connects {
    attempts: Attempts,
    /// The outcome of a socket's last attempt, if its call did not wait, by cookie.
    outcomes: FxHashMap<u64, Connected>,
    /// Sockets that still asked when the recording ended.
    asking: FxHashSet<u64>,
    /// Sockets that were connected, by either end: when.
    pub(crate) established: FxHashMap<u64, u64>,
    /// Sockets that had nothing left to come but the answer to their end: since when, and until when.
    leaving: FxHashMap<u64, (u64, u64)>,
    /// The first attempt on each address: what the call returned, and of which socket.
    first: FxHashMap<SockAddr, (i64, u64)>,
    /// Addresses that somebody reached, or had.
    reached: FxHashSet<IpAddr>,
}

impl Connects {
    /// As many as there are.
    pub(crate) fn len(&self) -> usize {
        let all = [self.outcomes.len(), self.established.len(), self.leaving.len(), self.reached.len()];
        all.into_iter().max().unwrap_or(0)
    }

    /// Takes an event in.
    pub(crate) fn observe(&mut self, source: &dyn Source, event: &Event) {
        let connected = self.attempts.observe(event, |object| match source.object(object) {
            Object::Socket { cookie, .. } => Some(*cookie),
            _ => None,
        });
        if let Some(connected) = connected.filter(|connected| connected.waited)
            && let Some(cookie) = connected.cookie
        {
            self.outcomes.insert(cookie.0, connected);
        }
    }

    /// There are no more events.
    pub(crate) fn finish(&mut self) {
        let pending = std::mem::take(&mut self.attempts);
        self.asking = pending.pending().filter(|one| one.is_told).map(|one| one.cookie.0).collect();
    }

    /// A change of a connection.
    pub(crate) fn changed(&mut self, change: &Connection) {
        let ConnectionKind::State { old, new, .. } = change.kind else { return };
        let cookie = change.cookie.0;
        if cookie == 0 {
            return;
        }
        match (old, new) {
            (_, TcpState::Established) => {
                self.established.insert(cookie, change.t_ns);
            }
            (_, TcpState::LastAck | TcpState::Closing) => {
                self.leaving.insert(cookie, (change.t_ns, u64::MAX));
            }
            (TcpState::LastAck | TcpState::Closing, _) => {
                if let Some((_, until_ns)) = self.leaving.get_mut(&cookie) {
                    *until_ns = change.t_ns;
                }
            }
            _ => {}
        }
    }

    /// How the attempt that `call` makes or continues was answered; `None` where it came to nobody.
    pub(crate) fn answer(&self, call: &Syscall, addr: &SockAddr, cookie: u64) -> Option<Answer> {
        self.answer_of(call.ret, addr, cookie)
    }

    fn answer_of(&self, ret: i64, addr: &SockAddr, cookie: u64) -> Option<Answer> {
        let unix = matches!(addr, SockAddr::Unix(_));
        match ret {
            0 => Some(Answer::Accepts),
            EINPROGRESS => Some(self.outcome(cookie)),
            EAGAIN if unix => Some(Answer::Silent),
            ENOENT if unix => Some(Answer::Refuses),
            ret if ret == -i64::from(ECONNREFUSED) => Some(Answer::Refuses),
            ret if ret == -i64::from(ETIMEDOUT) => Some(Answer::Silent),
            _ => None,
        }
    }

    fn outcome(&self, cookie: u64) -> Answer {
        if self.established.contains_key(&cookie) {
            return Answer::Accepts;
        }
        match self.outcomes.get(&cookie).map(|outcome| outcome.error) {
            // The program gave up, too.
            Some(Some(ETIMEDOUT)) => Answer::Silent,
            Some(Some(_)) => Answer::Refuses,
            // Under way when the recording ended.
            None if self.asking.contains(&cookie) => Answer::Silent,
            // Established, or nothing is known of it.
            Some(None) | None => Answer::Accepts,
        }
    }

    /// How long a socket that asked at `since_ns` waited for an answer until the kernel gave up.
    pub(crate) fn patience_ns(&self, call: &Syscall, cookie: u64) -> Option<u64> {
        if call.ret == -i64::from(ETIMEDOUT) {
            return Some(call.duration_ns);
        }
        let outcome = self.outcomes.get(&cookie).filter(|_| call.ret == EINPROGRESS)?;
        let kernel_gave_up = outcome.error == Some(ETIMEDOUT) && !outcome.gave_up;
        kernel_gave_up.then(|| outcome.end_ns().saturating_sub(call.t_ns))
    }

    /// Whether a socket waited for the answer to its end at a time. On loopback it is there when the call that ends returns,
    /// unless the owner of the other end was using it at that moment (`sock_owned_by_user`, `net/ipv4/tcp_ipv4.c`): nothing
    /// makes that so again.
    pub(crate) fn was_leaving(&self, cookie: u64, at_ns: u64) -> bool {
        self.leaving.get(&cookie).is_some_and(|(since_ns, until_ns)| (*since_ns..*until_ns).contains(&at_ns))
    }

    /// How the first attempt on an address was answered.
    pub(crate) fn first(&self, addr: &SockAddr) -> Option<Answer> {
        let (ret, cookie) = *self.first.get(addr)?;
        self.answer_of(ret, addr, cookie)
    }

    /// An attempt, before it changes the world.
    pub(crate) fn attempted(&mut self, call: &Syscall, addr: &SockAddr, cookie: u64) {
        if self.answer(call, addr, cookie).is_some() {
            self.first.entry(canonical(addr)).or_insert((call.ret, cookie));
            self.reaches(addr);
        }
    }

    /// An address is there.
    pub(crate) fn reaches(&mut self, addr: &SockAddr) {
        if let SockAddr::Inet(at) = canonical(addr) {
            self.reached.insert(at.ip());
        }
    }

    /// Addresses of a call that succeeded, and of all sockets in the end.
    pub(crate) fn saw(&mut self, call: &Syscall) {
        if call.ret >= 0 {
            for arg in [1, 4] {
                if let Some(addr) = detail_addr(call, arg) {
                    self.reaches(addr);
                }
            }
        }
    }

    /// Addresses of sockets.
    pub(crate) fn saw_all(&mut self, world: &World) {
        for addr in world.socks.iter().flat_map(|sock| [&sock.local, &sock.peer]).flatten() {
            self.reaches(addr);
        }
    }

    /// Whether there is no route to an address in a network that has the recorded ones only, as there was none.
    pub(crate) fn has_no_route(&self, call: &Syscall, addr: Option<&SockAddr>) -> bool {
        let Some(SockAddr::Inet(at)) = addr.map(canonical) else { return false };
        let routed = match at.ip() {
            IpAddr::V4(ip) => {
                !(ip.is_loopback() || ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast())
            }
            IpAddr::V6(ip) => {
                !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local())
            }
        };
        call.ret == ENETUNREACH && routed && !self.reached.contains(&at.ip())
    }
}
