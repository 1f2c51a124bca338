//! Connections: who has them, what went through them, how long answers took, and how they ended.

use super::conns::{Conn, Ended, far_of, named, row};
use super::edges::{Edges, Far, Protocol};
use super::{ConnectionRow, Grid, Ranked};
use crate::EventId;
use crate::connects::{Connected, Connects};
use crate::findings::Seen;
use crate::findings::called::Called;
use crate::findings::people::{Actor, People, ProcessId};
use crate::findings::places::{Place, Places};
use ctrace_format::errno::{ECONNRESET, ETIMEDOUT};
use ctrace_format::linux::{AF_INET, AF_INET6, AF_UNIX};
use ctrace_format::syscalls::{Call, Family};
use ctrace_format::{
    Connection, ConnectionKind, Detail, Dns, Event, FdTarget, Object, ObjectId, Snapshot, SockAddr,
    SockCookie, Socket, Syscall, SyscallFlags, TcpState, Trace,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cmp::Reverse;
use std::net::SocketAddr;

/// Connections that are followed at a time.
const MAX_FOLLOWED: usize = 65_536;
/// Own ends of connections that processes of the trace made.
const MAX_OWN: usize = 131_072;
const DNS_PORT: u16 = 53;
/// Rows that are shown.
const SHOWN: usize = 200;
/// Rows of one role, peer and end.
const ALIKE: usize = 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Sockets {
    connects: Connects,
    open: FxHashMap<u64, Conn>,
    /// Own ends of connections that were made by processes of the trace: who accepts one of them does so from within.
    own: FxHashSet<SocketAddr>,
    pub(super) edges: Edges,
    pub(super) called: Called,
    /// Answers that were got, and not taken by [`Sockets::answers`] so far: when, how long they took, and whether it was
    /// a peer's.
    answers: Vec<(u64, u64, bool)>,
    rows: Vec<(u64, Conn)>,
    left_out: u64,
    /// Lookups are events of their own.
    has_lookups: bool,
}

impl Sockets {
    pub(super) fn new(has_lookups: bool) -> Self {
        Self {
            connects: Connects::new(),
            open: FxHashMap::default(),
            own: FxHashSet::default(),
            edges: Edges::default(),
            called: Called::default(),
            answers: Vec::new(),
            rows: Vec::new(),
            left_out: 0,
            has_lookups,
        }
    }

    /// Sockets that were there when recording began.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot, people: &mut People) {
        for process in &snapshot.processes {
            let Some(role) = people.role_of(process.tgid.0) else { continue };
            for fd in &process.fds {
                let FdTarget::Socket { cookie, family, kind, listening, local, peer, .. } = &fd.target else {
                    continue;
                };
                if let (Some(_), Some(local)) = (listening, local) {
                    self.edges.listens(local, role);
                    continue;
                }
                if *cookie == 0 || peer.is_none() || self.open.len() >= MAX_FOLLOWED {
                    continue;
                }
                let conn = self.open.entry(*cookie).or_default();
                conn.is_old = true;
                (conn.local, conn.peer) = (named(local.as_ref()), named(peer.as_ref()));
                conn.protocol = Protocol::of(u32::from(*family), u32::from(*kind));
            }
        }
        // A listener may come after what it accepted.
        for conn in self.open.values_mut() {
            let is_served = conn.local.as_ref().is_some_and(|local| self.edges.listener(local).is_some());
            conn.is_outgoing = Some(!is_served);
            if let (true, Some(SockAddr::Inet(local))) = (!is_served, &conn.local) {
                self.own.insert(*local);
            }
        }
    }

    fn conn(&mut self, cookie: u64, t_ns: u64) -> &mut Conn {
        if self.open.len() >= MAX_FOLLOWED && !self.open.contains_key(&cookie) {
            self.forget();
        }
        let conn = self.open.entry(cookie).or_insert_with(|| Conn { from_ns: t_ns, ..Conn::default() });
        conn.last_ns = conn.last_ns.max(t_ns);
        conn
    }

    /// Makes room: those that ended go, and the older half of the others.
    fn forget(&mut self) {
        let mut times: Vec<u64> = self.open.values().map(|conn| conn.last_ns).collect();
        let middle = times.len() / 2;
        let median = *times.select_nth_unstable(middle).1;
        let gone: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, conn)| conn.ended != Ended::Open || conn.last_ns <= median)
            .map(|(cookie, _)| *cookie)
            .collect();
        let mut gone: Vec<(u64, Conn)> =
            gone.into_iter().filter_map(|cookie| Some((cookie, self.open.remove(&cookie)?))).collect();
        gone.sort_by_key(|(cookie, conn)| (conn.from_ns, *cookie));
        for (cookie, conn) in gone {
            self.over(cookie, conn);
        }
    }

    /// A call on a socket, or that makes one. Returns the outcome of an attempt to connect, if it is one.
    pub(super) fn call(
        &mut self,
        event: &Event,
        s: &Syscall,
        call: Call,
        actor: Actor,
        trace: &Trace,
    ) -> Option<Connected> {
        let family = call.row().family;
        let end_ns = s.t_ns.saturating_add(s.duration_ns);
        let told = match family {
            Family::Connect => self.connects.observe(event, |o| cookie(trace, o)),
            Family::Fd if call == Call::Getsockopt => self.connects.observe(event, |o| cookie(trace, o)),
            _ => None,
        };
        let object = s.object.map(|id| trace.object(id));
        if let Some(Object::Socket { cookie, family: af, kind, local, peer, .. }) = object
            && cookie.0 != 0
            && !is_netlink(u32::from(*af))
        {
            let is_over = family == Family::Close && s.ret == 0;
            if family == Family::Listen && s.ret == 0 {
                if let Some(local) = local {
                    self.edges.listens(local, actor.role);
                }
            } else if moves(family) || is_over && self.open.contains_key(&cookie.0) {
                let conn = self.conn(cookie.0, s.t_ns);
                conn.last_ns = conn.last_ns.max(end_ns);
                conn.actor.get_or_insert(actor);
                if conn.protocol.is_none() {
                    conn.protocol = Protocol::of(u32::from(*af), u32::from(*kind));
                }
                if conn.local.is_none() {
                    conn.local = named(local.as_ref());
                }
                if conn.peer.is_none() {
                    conn.peer = named(peer.as_ref());
                }
                let event = EventId { end_ns, tid: actor.tid };
                conn.event.get_or_insert(event);
                self.moved(cookie.0, s, family, actor, end_ns);
            }
        }
        if let Some(connected) = &told {
            self.connected(connected, actor);
        }
        told
    }

    /// Whether a call that receives waits for something that comes when it comes: the next request of a client, or what
    /// nobody asked for.
    pub(super) fn is_idle(&self, seen: &Seen<'_>, trace: &Trace) -> bool {
        let cookie = seen.s.object.and_then(|object| cookie(trace, object));
        let conn = cookie.and_then(|cookie| self.open.get(&cookie.0));
        seen.call.row().family == Family::Receive
            && conn.is_some_and(|conn| conn.is_outgoing != Some(true) || conn.asked_ns.is_none())
    }

    /// The answers since this was asked last: when they were there, how long they took, and whether a peer gave them.
    pub(super) fn answers(&mut self) -> impl Iterator<Item = (u64, u64, bool)> + '_ {
        self.answers.drain(..)
    }

    /// The other end of a socket, when it is known.
    pub(super) fn peer(&self, object: Option<ObjectId>, trace: &Trace) -> Option<&SockAddr> {
        self.open.get(&cookie(trace, object?)?.0)?.peer.as_ref()
    }

    fn moved(&mut self, cookie: u64, s: &Syscall, family: Family, actor: Actor, end_ns: u64) {
        let Some(conn) = self.open.get_mut(&cookie) else { return };
        let id = EventId { end_ns, tid: actor.tid };
        if let Some(errno) = s.errno().and_then(|e| u16::try_from(e).ok())
            && matches!(errno, ECONNRESET | ETIMEDOUT)
            && family != Family::Connect
        {
            conn.fail(Ended::of(errno), id);
        }
        let peer = s.details.iter().find_map(|d| match d {
            Detail::Addr { addr, .. } => Some(addr),
            _ => None,
        });
        match family {
            Family::Connect => {
                conn.is_outgoing = Some(true);
                conn.peer = named(peer).or(conn.peer.take());
                if let Some(SockAddr::Inet(peer)) = &conn.peer {
                    self.called.connects(actor.tid, *peer);
                }
            }
            Family::Accept if s.ret >= 0 => {
                conn.is_outgoing = Some(false);
                if let Some(local) = &conn.local {
                    self.edges.listens(local, actor.role);
                }
                if conn.peer.is_none() {
                    conn.peer = named(peer);
                }
            }
            Family::Send if s.ret > 0 => {
                conn.moved[0] = conn.moved[0].saturating_add(s.moved());
                if conn.peer.is_none() {
                    conn.peer = named(peer);
                }
                self.turn(cookie, true, end_ns, id);
            }
            Family::Receive if s.ret > 0 => {
                conn.moved[1] = conn.moved[1].saturating_add(s.moved());
                if conn.peer.is_none() {
                    conn.peer = named(peer);
                }
                self.turn(cookie, false, end_ns, id);
            }
            Family::Receive if s.ret == 0 && !s.flags.contains(SyscallFlags::NO_EXIT) => {
                conn.saw_end = true;
                conn.asked_ns = None;
            }
            Family::Transfer if s.ret > 0 => {
                conn.moved[0] = conn.moved[0].saturating_add(s.moved());
                self.turn(cookie, true, end_ns, id);
            }
            Family::Close if conn.ended == Ended::Open => {
                conn.ended = if conn.saw_end { Ended::ClosedByPeer } else { Ended::Closed };
            }
            _ => {}
        }
    }

    /// Bytes went one way: what was asked before may have its answer. Of a connection that was made, the other end answers;
    /// of one that was accepted, this one.
    fn turn(&mut self, cookie: u64, sent: bool, end_ns: u64, id: EventId) {
        let Some(conn) = self.open.get_mut(&cookie) else { return };
        let is_outgoing = conn.is_outgoing.unwrap_or(true);
        if sent == is_outgoing {
            conn.asked_ns = Some(end_ns);
            return;
        }
        let Some(asked_ns) = conn.asked_ns.take() else { return };
        let took_ns = end_ns.saturating_sub(asked_ns);
        if conn.slowest.is_none_or(|slowest| took_ns > slowest.0) {
            conn.slowest = Some((took_ns, asked_ns));
            if !conn.ended.is_failure() {
                conn.event = Some(id);
            }
        }
        if conn.edge.is_none() && !is_inside(conn, &self.own) {
            let edge = conn.actor.zip(far_of(conn)).zip(conn.protocol);
            conn.edge = edge.map(|((actor, far), protocol)| self.edges.at(actor.role, far, protocol));
        }
        let edge = conn.edge;
        self.answers.push((end_ns, took_ns, is_outgoing));
        if let Some(edge) = edge {
            self.edges.answer(edge, took_ns);
        }
    }

    fn connected(&mut self, connected: &Connected, actor: Actor) {
        let Some(cookie) = connected.cookie else { return };
        let id = EventId { end_ns: connected.end_ns(), tid: actor.tid };
        let conn = self.conn(cookie.0, connected.t_ns);
        conn.actor.get_or_insert(actor);
        conn.is_outgoing = Some(true);
        conn.from_ns = conn.from_ns.min(connected.t_ns);
        if conn.peer.is_none() {
            conn.peer = named(connected.peer.as_ref());
        }
        match connected.error {
            None => conn.connect_ns = Some(connected.took_ns),
            Some(errno) => {
                conn.connect_ns = Some(connected.took_ns);
                conn.fail(Ended::of(errno), id);
            }
        }
    }

    /// The kernel told of a connection. Returns the outcome of an attempt to connect, if it is one.
    pub(super) fn connection(
        &mut self,
        event: &Event,
        change: &Connection,
        trace: &Trace,
        people: &mut People,
    ) -> Option<Connected> {
        let told = self.connects.observe(event, |o| cookie(trace, o));
        let actor = change.task.map(|task| people.of(task, trace));
        if change.cookie.0 != 0 && !matches!(change.kind, ConnectionKind::State { new: TcpState::Listen, .. })
        {
            self.changed(change, actor);
        } else if let Some(actor) = actor {
            self.edges.listens(&change.local, actor.role);
        }
        if let Some(connected) = &told
            && let Some(actor) = connected.task.map(|task| people.of(task, trace)).or(actor)
        {
            self.connected(connected, actor);
        }
        told
    }

    fn changed(&mut self, change: &Connection, actor: Option<Actor>) {
        // The end of a listener is no connection.
        if matches!(change.kind, ConnectionKind::State { old: TcpState::Listen, .. }) {
            return;
        }
        let id = EventId { end_ns: change.t_ns, tid: actor.map_or(0, |actor| actor.tid) };
        let conn = self.conn(change.cookie.0, change.t_ns);
        conn.kernel.is_told = true;
        conn.actor = conn.actor.or(actor);
        conn.protocol.get_or_insert(Protocol::Tcp);
        conn.event.get_or_insert(id);
        let has_port = |addr: &SockAddr| matches!(addr, SockAddr::Inet(a) if a.port() != 0);
        if has_port(&change.local) {
            conn.local = Some(change.local.clone());
        }
        if has_port(&change.peer) {
            conn.peer = Some(change.peer.clone());
        }
        match change.kind {
            ConnectionKind::State { old, new, error } => {
                match (old, new) {
                    (_, TcpState::SynSent) | (TcpState::SynSent, _) => conn.is_outgoing = Some(true),
                    (TcpState::SynRecv | TcpState::NewSynRecv, _) => {
                        conn.is_outgoing.get_or_insert(false);
                    }
                    (_, TcpState::CloseWait) => conn.saw_end = true,
                    _ => {}
                }
                if error != 0 && new == TcpState::Close {
                    conn.fail(Ended::of(error), id);
                }
            }
            ConnectionKind::ResetSent => conn.fail(Ended::Reset, id),
            ConnectionKind::ResetReceived => conn.fail(Ended::ResetByPeer, id),
            ConnectionKind::Retransmit => conn.kernel.retransmits += 1,
            ConnectionKind::Closed { bytes_sent, bytes_received, srtt_us, retransmits } => {
                conn.counted = [bytes_sent, bytes_received];
                conn.measured(srtt_us, retransmits);
                if conn.ended == Ended::Open {
                    conn.ended = if conn.saw_end { Ended::ClosedByPeer } else { Ended::Closed };
                }
            }
            ConnectionKind::Sample { srtt_us, retransmits, bytes_sent, bytes_received, .. } => {
                conn.counted = [bytes_sent, bytes_received];
                conn.measured(srtt_us, retransmits);
            }
            _ => {}
        }
        if let (Some(true), Some(SockAddr::Inet(local))) = (conn.is_outgoing, &conn.local)
            && local.port() != 0
        {
            let local = *local;
            if self.own.len() >= MAX_OWN {
                self.own.clear();
            }
            self.own.insert(local);
        }
    }

    /// Traffic of a socket that is no TCP socket.
    pub(super) fn traffic(&mut self, socket: &Socket, actor: Option<Actor>) {
        if socket.cookie.0 == 0 || is_netlink(u32::from(socket.family)) {
            return;
        }
        let conn = self.conn(socket.cookie.0, socket.from_ns);
        conn.last_ns = conn.last_ns.max(socket.t_ns);
        conn.actor = conn.actor.or(actor);
        conn.protocol = conn.protocol.or(Protocol::of(u32::from(socket.family), u32::from(socket.kind)));
        conn.local = conn.local.take().or_else(|| named(socket.local.as_ref()));
        conn.peer = conn.peer.take().or_else(|| named(socket.peer.as_ref()));
        conn.counted[0] = conn.counted[0].saturating_add(socket.bytes_sent);
        conn.counted[1] = conn.counted[1].saturating_add(socket.bytes_received);
    }

    /// A name was asked for.
    pub(super) fn lookup(&mut self, dns: &Dns, actor: Actor, name: Place) {
        const NO_SUCH_NAME: u8 = 3;
        if let Some((0, _)) = dns.answer {
            self.called.answered(actor.tid, name);
        }
        let edge = self.edges.at(actor.role, Far::Peer(dns.server.clone()), Protocol::Dns);
        match dns.answer {
            None => self.edges.failed(edge, "no answer"),
            Some((0 | NO_SUCH_NAME, _)) => self.edges.answer(edge, dns.duration_ns),
            Some((2, _)) => self.edges.failed(edge, "SERVFAIL"),
            Some((5, _)) => self.edges.failed(edge, "REFUSED"),
            Some(_) => self.edges.failed(edge, "an error of the server"),
        }
        self.edges.count(edge, 1, [0, 0]);
    }

    /// A connection is over, or nobody follows it any more.
    fn over(&mut self, cookie: u64, conn: Conn) {
        if let Some((far, protocol)) = far_of(&conn).zip(conn.protocol)
            && let Some(actor) = conn.actor
        {
            if self.has_lookups && is_of_names(&conn) {
                return;
            }
            if !is_inside(&conn, &self.own) {
                let edge = conn.edge.unwrap_or_else(|| self.edges.at(actor.role, far, protocol));
                self.edges.count(edge, 1, conn.bytes());
                if let Some(ns) = conn.connect_ns.filter(|_| !conn.ended.is_failure()) {
                    self.edges.connected(edge, ns);
                }
                if conn.ended.is_failure() {
                    self.edges.failed(edge, conn.ended.name());
                }
            }
        } else if conn.peer.is_none() && conn.local.is_none() {
            // An end of a pair that nobody can name.
            return;
        }
        if conn.peer.is_none() && conn.is_outgoing.is_none() {
            return;
        }
        self.rows.push((cookie, conn));
        if self.rows.len() >= 16 * SHOWN {
            self.prune();
        }
    }

    /// Keeps the rows that may be shown.
    fn prune(&mut self) {
        self.rows.sort_by_key(|(cookie, conn)| {
            let slowest = conn.slowest.map_or(0, |s| s.0).max(conn.connect_ns.unwrap_or(0));
            (
                Reverse(slowest),
                !conn.ended.is_failure(),
                Reverse(conn.bytes().iter().sum::<u64>()),
                conn.from_ns,
                *cookie,
            )
        });
        let mut alike: FxHashMap<(Option<ProcessId>, Option<Far>, Ended), usize> = FxHashMap::default();
        let before = self.rows.len();
        let mut kept = 0;
        self.rows.retain(|(_, conn)| {
            let process = conn.actor.map(|actor| actor.process);
            let nth = alike.entry((process, far_of(conn), conn.ended)).or_default();
            *nth += 1;
            let keeps = *nth <= ALIKE && kept < SHOWN;
            kept += usize::from(keeps);
            keeps
        });
        self.left_out += (before - self.rows.len()) as u64;
    }

    /// Ends, and tells of connections, the slowest first.
    pub(super) fn finish(
        mut self,
        grid: &Grid,
        people: &People,
        places: &mut Places,
    ) -> (Ranked<ConnectionRow>, Edges, Called) {
        let mut open: Vec<(u64, Conn)> = self.open.drain().collect();
        open.sort_by_key(|(cookie, conn)| (conn.from_ns, *cookie));
        for (cookie, conn) in open {
            self.over(cookie, conn);
        }
        self.prune();
        let rows = self.rows.iter().map(|(_, conn)| row(conn, grid, people, places, &self.called)).collect();
        (Ranked { rows, left_out: self.left_out }, self.edges, self.called)
    }
}

/// Whether both ends of an accepted connection are in the trace: the other one tells of it.
fn is_inside(conn: &Conn, own: &FxHashSet<SocketAddr>) -> bool {
    conn.is_outgoing == Some(false) && matches!(&conn.peer, Some(SockAddr::Inet(peer)) if own.contains(peer))
}

/// Whether a connection is one with a name server.
fn is_of_names(conn: &Conn) -> bool {
    conn.protocol == Some(Protocol::Udp)
        && matches!(&conn.peer, Some(SockAddr::Inet(peer)) if peer.port() == DNS_PORT)
}

fn cookie(trace: &Trace, object: ObjectId) -> Option<SockCookie> {
    match trace.object(object) {
        Object::Socket { cookie, .. } => Some(*cookie),
        _ => None,
    }
}

/// Calls that tell something of a connection.
const fn moves(family: Family) -> bool {
    matches!(
        family,
        Family::Connect
            | Family::Accept
            | Family::Send
            | Family::Receive
            | Family::Transfer
            | Family::Shutdown
    )
}

/// Whether sockets of a family have no ends that somebody would look for.
const fn is_netlink(family: u32) -> bool {
    !matches!(family, AF_UNIX | AF_INET | AF_INET6)
}
