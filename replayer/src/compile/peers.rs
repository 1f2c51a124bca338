//! Everybody on the other end who is not in the recording: programs for tasks outside the recorded tree.
//!
//! One lane (a task of the peer process) plays one connection at a time: it accepts or connects, receives what the
//! workload had sent before each arrival, waits the recorded gap, sends, closes as the recording has it. One server task
//! per address opens and closes the listening socket. Lanes share a descriptor table, so a server's close is
//! everybody's.

use super::CompileError;
use super::arrivals::Place;
use super::calls::nr;
use super::connects::Answer;
use super::emit::{EdgeKind, Emit};
use super::io::sharing::name_place;
use super::netlink;
use super::wire;
use super::world::{SockIx, World, canonical};
use ctrace_format::SockAddr;
use ctrace_program::{Expect, Kind, PARKED, Post, Sel, Step, TaskInfo, Wait, fd_operand, flags, task_flags};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// One stream step moves at most this much.
const PART_BYTES: u64 = 1 << 20;
/// First descriptor that servers and lanes use; below are the other ends of inherited pipes.
const FIRST_FD: u32 = 512;
/// So many lanes there may be before they are used again at once, and how long they rest otherwise.
const LANES: usize = 128;
const REST_NS: u64 = 1_000_000_000;
/// Flags of a thread that shares everything.
const THREAD: u64 = 0x5_0f00;
const SOL_SOCKET: u64 = 1;
const SO_REUSEADDR: u64 = 2;
const SO_LINGER: u64 = 13;
const IPPROTO_TCP: u64 = 6;
const TCP_NODELAY: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const SOCK_STREAM: u16 = 1;
const MSG_NOSIGNAL: u64 = 0x4000;
const SOCK_DGRAM: u16 = 2;
/// Length of the queue of a listener that does not answer: the kernel takes one more. With a length of 0, it would say that
/// it is being flooded.
const SHORT_QUEUE: u32 = 1;

/// A task that plays connections, one after the other.
#[derive(Debug)]
struct Lane {
    task: u32,
    fd: u32,
}

/// How bytes get to the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Stream,
    Datagrams,
    Pipe,
}

/// A connection being played.
#[derive(Debug)]
struct Conn {
    lane: usize,
    /// Bytes that its steps so far receive.
    received: u64,
    /// Recorded time of its last act.
    last_ns: u64,
    carrier: Carrier,
    /// Its address: where datagrams reach it, or where it connected from.
    at: Option<SockAddr>,
    /// The workload's socket.
    sock: SockIx,
    /// It has closed or reset its end.
    over: bool,
    /// It connected to the workload, so what it sends are requests.
    client: bool,
    fd: u32,
    /// The place of the socket that its datagrams are aimed at.
    aims_at: Option<u32>,
}

impl Conn {
    fn is_datagram(&self) -> bool {
        self.carrier == Carrier::Datagrams
    }
}

/// An address that the workload connects to.
#[derive(Debug)]
struct Server {
    task: u32,
    /// What listens; those who fill the queue of one that does not answer come after it.
    fd: u32,
    answer: Answer,
    /// Its last change.
    state: Option<Wait>,
    /// The last accept.
    accept: Option<Wait>,
    stream: bool,
}

/// Builds the peers' programs.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    root: Option<u32>,
    lanes: Vec<Lane>,
    /// Lanes that play nothing: since when.
    free: BTreeSet<(u64, usize)>,
    tasks: Vec<u32>,
    conns: FxHashMap<SockIx, Conn>,
    servers: FxHashMap<SockAddr, Server>,
    /// Last connect of the workload to an address.
    asked: FxHashMap<SockAddr, Wait>,
    /// The addresses that connections were made from, and the closes that gave them back.
    vacated: FxHashMap<SockAddr, Wait>,
    /// Connections to a listener of the workload up to this place have been made.
    made: FxHashMap<SockIx, u32>,
    next_fd: u32,
    last_established: Option<Wait>,
    /// Who exchanges datagrams with a socket of the workload, by address (none: a sender without one).
    correspondents: FxHashMap<SockIx, FxHashMap<Option<SockAddr>, SockIx>>,
    next_correspondent: SockIx,
    /// The peers that are at an address for datagrams; none, where one was and has left.
    at: FxHashMap<SockAddr, BTreeSet<SockIx>>,
    /// Where nobody is: the last datagram that was to find nobody there.
    deserted: FxHashMap<SockAddr, Wait>,
    /// The last datagram sent to a socket of the workload: all who send to it do so in the recorded order.
    last_datagram: FxHashMap<SockIx, Wait>,
    /// Addresses that have to exist.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// Connections played, by kind, for the summary.
    pub(crate) served: u64,
    pub(crate) clients: u64,
    pub(crate) datagram: u64,
    /// Other ends of inherited descriptors: number in the peer process.
    pub(crate) inherited: Vec<(u32, u32)>,
}

/// Keys of those who exchange datagrams with a socket that has others already: above every other key.
const CORRESPONDENTS: SockIx = 0xc000_0000;

/// How far in time an arrival is from the moment before, and what it waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Bytes the workload had sent before.
    pub(crate) after_sent: u64,
    /// When it arrived.
    pub(crate) at_ns: u64,
    /// When the workload had last sent.
    pub(crate) last_send_ns: u64,
}

const fn extra(nr: u32) -> Step {
    Step::call(nr).with(flags::EXTRA)
}

impl Peers {
    fn root(&mut self, emit: &mut Emit) -> Result<u32, CompileError> {
        if let Some(root) = self.root {
            return Ok(root);
        }
        let root = emit.task(&TaskInfo {
            flags: task_flags::PEER | task_flags::PEER_ROOT | task_flags::AT_GATE,
            name: b"peers".to_vec(),
            ..TaskInfo::default()
        })?;
        self.root = Some(root);
        Ok(root)
    }

    fn thread(&mut self, emit: &mut Emit, name: String) -> Result<u32, CompileError> {
        let root = self.root(emit)?;
        let task = emit.task(&TaskInfo {
            flags: task_flags::PEER | task_flags::AT_GATE,
            parent: Some(root),
            leader: Some(root),
            name: name.into_bytes(),
            ..TaskInfo::default()
        })?;
        self.tasks.push(task);
        Ok(task)
    }

    fn new_fd(&mut self) -> u32 {
        self.next_fd += 1;
        FIRST_FD + self.next_fd - 1
    }

    /// A lane that was free before `at_ns`.
    fn lane(&mut self, emit: &mut Emit, at_ns: u64) -> Result<usize, CompileError> {
        // One that was free for a while, so that what is late in the replay does not hold up what comes next; when there
        // are many, any.
        let rest_ns = if self.lanes.len() < LANES { REST_NS } else { 0 };
        if let Some(&(free_ns, ix)) = self.free.first()
            && free_ns.saturating_add(rest_ns) <= at_ns
        {
            self.free.pop_first();
            return Ok(ix);
        }
        let name = format!("peer {}", self.lanes.len());
        let task = self.thread(emit, name)?;
        emit.put(task, &Step::of(Kind::Gate))?;
        let fd = self.new_fd();
        self.lanes.push(Lane { task, fd });
        Ok(self.lanes.len() - 1)
    }

    /// Steps that make a socket bound to `addr` at `fd`.
    fn bound(
        &mut self,
        emit: &mut Emit,
        task: u32,
        fd: u32,
        kind: u16,
        addr: Option<&SockAddr>,
        family: u16,
    ) -> Result<(), CompileError> {
        let protocol = if family == netlink::FAMILY { netlink::PROTOCOL } else { 0 };
        let socket = extra(nr::socket)
            .imm(0, u64::from(family))
            .imm(1, u64::from(kind))
            .imm(2, u64::from(protocol))
            .expect(Expect::Success, 0)
            .post(Post::Fd, fd_operand(fd, false));
        emit.put(task, &socket)?;
        let one = emit.data(&1_u32.to_ne_bytes())?;
        if matches!(u64::from(family), AF_INET | AF_INET6) && kind == SOCK_STREAM {
            // A peer sends when the recording has it: nothing is held back until what was sent before is acknowledged, which
            // may take 40 ms (`tcp_nagle_check`, net/ipv4/tcp_output.c). Accepted sockets have it from their listener.
            let at_once = extra(nr::setsockopt)
                .imm(0, u64::from(fd))
                .imm(1, IPPROTO_TCP)
                .imm(2, TCP_NODELAY)
                .arg(3, Sel::Data, one)
                .imm(4, 4);
            emit.put(task, &at_once)?;
        }
        let Some(addr) = addr else { return Ok(()) };
        if let SockAddr::Inet(at) = addr {
            let reuse = extra(nr::setsockopt)
                .imm(0, u64::from(fd))
                .imm(1, SOL_SOCKET)
                .imm(2, SO_REUSEADDR)
                .arg(3, Sel::Data, one)
                .imm(4, 4);
            emit.put(task, &reuse)?;
            if !at.ip().is_unspecified() {
                self.addresses.insert(at.ip());
            }
        }
        let bytes = wire::sockaddr(addr);
        let blob = emit.data(&bytes)?;
        let bind = extra(nr::bind)
            .imm(0, u64::from(fd))
            .arg(1, Sel::Data, blob)
            .imm(2, bytes.len() as u64)
            .expect(Expect::Exact, 0);
        emit.put(task, &bind)?;
        Ok(())
    }

    /// The workload is about to connect to `addr` and will get `answer`; the first who did so got `first`. Returns what it
    /// has to wait for.
    pub(crate) fn before_connect(
        &mut self,
        emit: &mut Emit,
        addr: &SockAddr,
        kind: u16,
        answer: Answer,
        first: Answer,
    ) -> Result<Option<Wait>, CompileError> {
        let key = canonical(addr);
        if let SockAddr::Inet(at) = &key
            && !at.ip().is_unspecified()
        {
            self.addresses.insert(at.ip());
        }
        if !self.servers.contains_key(&key) {
            if answer == Answer::Refuses && first == Answer::Refuses {
                return Ok(None);
            }
            let task = self.thread(emit, format!("server {}", self.servers.len()))?;
            let fd = self.new_fd();
            // Descriptors of those who fill its queue.
            for _ in 0..=SHORT_QUEUE {
                self.new_fd();
            }
            let stream = kind != SOCK_DGRAM;
            let mut state = None;
            if first != Answer::Refuses {
                // Connections that were there may have come from the same address: only one can listen at a time.
                let sync = Step::of(Kind::Sync);
                let mut waits = Vec::new();
                if let Some(wait) = self.last_established {
                    emit.wait(task, EdgeKind::Connection, wait, &mut waits);
                }
                emit.put_after(task, &sync, &waits)?;
                state = Some(self.listen(emit, task, fd, &key, kind, first)?);
            }
            emit.put(task, &Step::of(Kind::Gate))?;
            self.servers.insert(key.clone(), Server { task, fd, answer: first, state, accept: None, stream });
        }
        let Some(server) = self.servers.get(&key) else { return Ok(None) };
        let (task, fd, before, accept) = (server.task, server.fd, server.answer, server.accept);
        if before == answer {
            // Connections are taken in the order of the recording: two that come at nearly the same time from two
            // threads would change places otherwise, and each peer would wait for the other's bytes.
            return Ok(if answer == Answer::Accepts { accept.or(server.state) } else { server.state });
        }
        // The change comes after everything that needed the state before.
        let worker = self.asked.get(&key).copied();
        let mut waits = Vec::new();
        for wait in [accept, worker].into_iter().flatten() {
            emit.wait(task, EdgeKind::Connection, wait, &mut waits);
        }
        emit.put_after(task, &Step::of(Kind::Sync), &waits)?;
        // The listener first: who waits in its queue is gone with it.
        let open = match before {
            Answer::Accepts => 1,
            Answer::Silent => 2 + SHORT_QUEUE,
            Answer::Refuses => 0,
        };
        let mut closed = emit.next_step(task).saturating_sub(1);
        for fd in fd..fd + open {
            closed = emit.put(task, &extra(nr::close).imm(0, u64::from(fd)))?;
        }
        let state = match answer {
            Answer::Refuses => Wait::completed(task, closed),
            _ => self.listen(emit, task, fd, &key, kind, answer)?,
        };
        if let Some(server) = self.servers.get_mut(&key) {
            server.answer = answer;
            server.state = Some(state);
            server.accept = None;
        }
        Ok(Some(state))
    }

    fn listen(
        &mut self,
        emit: &mut Emit,
        task: u32,
        fd: u32,
        addr: &SockAddr,
        kind: u16,
        answer: Answer,
    ) -> Result<Wait, CompileError> {
        if let SockAddr::Unix(path) = addr
            && path.first().is_some_and(|c| *c != b'@' && *c != 0)
        {
            let path = emit.cstr(path)?;
            emit.put(task, &extra(nr::unlinkat).imm(0, -100_i64 as u64).arg(1, Sel::Data, path).imm(2, 0))?;
        }
        self.bound(emit, task, fd, kind, Some(addr), family_of(addr))?;
        let silent = answer == Answer::Silent;
        let queue = if silent { SHORT_QUEUE } else { 4096 };
        let listen =
            extra(nr::listen).imm(0, u64::from(fd)).imm(1, u64::from(queue)).expect(Expect::Exact, 0);
        let mut last = emit.put(task, &listen)?;
        if silent {
            // Who comes to a full queue is not answered (`tcp_conn_request`, net/ipv4/tcp_input.c).
            let to = super::lower::reachable(addr.clone());
            let bytes = wire::sockaddr(&to);
            let blob = emit.data(&bytes)?;
            for filler in fd + 1..=fd + 1 + SHORT_QUEUE {
                self.bound(emit, task, filler, kind, None, family_of(addr))?;
                let connect = extra(nr::connect)
                    .imm(0, u64::from(filler))
                    .arg(1, Sel::Data, blob)
                    .imm(2, bytes.len() as u64);
                last = emit.put(task, &connect.expect(Expect::Exact, 0))?;
            }
        }
        Ok(Wait::completed(task, last))
    }

    /// The workload's connect of `sock` (step `worker`) succeeded or is in progress: somebody accepts it.
    pub(crate) fn serve(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        addr: &SockAddr,
        at_ns: u64,
        worker: Wait,
    ) -> Result<(), CompileError> {
        let key = canonical(addr);
        let Some(server) = self.servers.get(&key) else { return Ok(()) };
        if !server.stream {
            return Ok(());
        }
        let (listener, state, previous) = (server.fd, server.state, server.accept);
        let lane = self.lane(emit, at_ns)?;
        let (task, fd) = (self.lanes[lane].task, self.lanes[lane].fd);
        let mut waits = Vec::new();
        for wait in [state, previous, Some(worker)].into_iter().flatten() {
            emit.wait(task, EdgeKind::Connection, wait, &mut waits);
        }
        let mut accept = accept_at(listener, fd);
        accept.t_ns = at_ns;
        let step = emit.put_after(task, &accept, &waits)?;
        if let Some(server) = self.servers.get_mut(&key) {
            server.accept = Some(Wait::completed(task, step));
        }
        self.served += 1;
        self.conns.insert(
            sock,
            Conn {
                lane,
                received: 0,
                last_ns: at_ns,
                carrier: Carrier::Stream,
                at: None,
                sock,
                over: false,
                client: false,
                fd,
                aims_at: None,
            },
        );
        Ok(())
    }

    /// The workload accepts `sock`: somebody connects from `from` to `to` at `at_ns`. Returns the connect.
    #[expect(clippy::too_many_arguments, reason = "both addresses, both sockets, and what to wait for")]
    pub(crate) fn connect(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        (world, place): (&World, Place),
        from: Option<&SockAddr>,
        to: &SockAddr,
        kind: u16,
        at_ns: u64,
        after: &[Wait],
    ) -> Result<Wait, CompileError> {
        let lane = self.lane(emit, at_ns)?;
        let (task, fd) = (self.lanes[lane].task, self.lanes[lane].fd);
        let from = from.filter(|a| match a {
            SockAddr::Inet(at) => !at.ip().is_unspecified() && at.port() != 0,
            SockAddr::Unix(path) => path.first().is_some_and(|c| *c == b'@' || *c == 0),
            _ => false,
        });
        let mut waits = Vec::new();
        // Two connections between the same addresses cannot be there at once (`__inet_check_established`,
        // net/ipv4/inet_hashtables.c).
        let vacated = from.and_then(|from| self.vacated.remove(from));
        for wait in after.iter().copied().chain(vacated) {
            emit.wait(task, EdgeKind::Connection, wait, &mut waits);
        }
        let mut sync = Step::of(Kind::Sync).with(flags::AT);
        sync.t_ns = at_ns;
        emit.put_after(task, &sync, &waits)?;
        self.bound(emit, task, fd, kind, from, family_of(to))?;
        for step in name_place(emit, world, place.listener, u64::from(fd), family_of(to))? {
            emit.put(task, &step.with(flags::EXTRA))?;
        }
        if let SockAddr::Inet(at) = canonical(to)
            && !at.ip().is_unspecified()
        {
            self.addresses.insert(at.ip());
        }
        let bytes = wire::sockaddr(to);
        let blob = emit.data(&bytes)?;
        let mut connect = extra(nr::connect)
            .imm(0, u64::from(fd))
            .arg(1, Sel::Data, blob)
            .imm(2, bytes.len() as u64)
            .expect(Expect::Exact, 0);
        connect.t_ns = at_ns;
        let step = emit.put(task, &connect)?;
        self.clients += 1;
        self.conns.insert(
            sock,
            Conn {
                lane,
                received: 0,
                last_ns: at_ns,
                carrier: Carrier::Stream,
                at: from.cloned(),
                sock,
                over: false,
                client: true,
                fd,
                aims_at: None,
            },
        );
        Ok(Wait::completed(task, step))
    }

    /// The places of the connections to a listener that are to be made now, up to this one.
    pub(crate) fn take_places(&mut self, place: Place) -> Range<u32> {
        let made = self.made.entry(place.listener).or_default();
        let first = *made;
        *made = first.max(place.position + 1);
        first..*made
    }

    /// The workload has connected to an address, or tried to.
    pub(crate) fn asked_by(&mut self, addr: &SockAddr, worker: Wait) {
        self.asked.insert(canonical(addr), worker);
    }

    /// Addresses that the workload connected to, or where it exchanged datagrams with somebody.
    pub(crate) fn asked(&self) -> usize {
        self.asked.len().max(self.at.len())
    }

    /// The key of the peer at `addr` that exchanges datagrams with the workload's `sock`, if there is one.
    pub(crate) fn correspondent(&self, sock: SockIx, addr: Option<&SockAddr>) -> Option<SockIx> {
        self.correspondents.get(&sock)?.get(&addr.cloned()).copied()
    }

    /// The last datagram that was sent to a socket of the workload.
    pub(crate) fn last_datagram(&self, receiver: SockIx) -> Option<Wait> {
        self.last_datagram.get(&receiver).copied()
    }

    /// What a peer sends goes to the one that had it of several sockets of the workload that have one address.
    pub(crate) fn aim(&mut self, emit: &mut Emit, world: &World, key: SockIx) -> Result<(), CompileError> {
        let Some(conn) = self.conns.get_mut(&key).filter(|conn| conn.is_datagram()) else { return Ok(()) };
        let place = world.place_among(conn.sock);
        if place.is_none() || place == conn.aims_at {
            return Ok(());
        }
        conn.aims_at = place;
        let task = self.lanes[conn.lane].task;
        let family = world.socks.get(conn.sock as usize).map_or(0, |sock| sock.family);
        for step in name_place(emit, world, conn.sock, u64::from(conn.fd), family)? {
            emit.put(task, &step.with(flags::EXTRA))?;
        }
        Ok(())
    }

    /// A datagram socket at `addr` for what the workload's `sock`, which has the address `own`, exchanges with it. `client`:
    /// the first is sent by it.
    pub(crate) fn datagram(
        &mut self,
        emit: &mut Emit,
        (sock, own): (SockIx, Option<&SockAddr>),
        addr: Option<&SockAddr>,
        family: u16,
        at_ns: u64,
        client: bool,
    ) -> Result<Option<Wait>, CompileError> {
        if self.correspondent(sock, addr).is_some() {
            return Ok(None);
        }
        let key = if self.conns.contains_key(&sock) {
            self.next_correspondent += 1;
            CORRESPONDENTS + self.next_correspondent
        } else {
            sock
        };
        self.correspondents.entry(sock).or_default().insert(addr.cloned(), key);
        let lane = self.lane(emit, at_ns)?;
        let (task, fd) = (self.lanes[lane].task, self.lanes[lane].fd);
        let mut shared = false;
        if let Some(addr) = addr {
            // A peer that was there before may be there still when this one comes: nothing keeps their steps in order.
            shared = self.at.contains_key(&canonical(addr));
            self.at.entry(canonical(addr)).or_default().insert(key);
            if let Some(unheard) = self.deserted.remove(&canonical(addr)) {
                let mut waits = Vec::new();
                emit.wait(task, EdgeKind::NotYet, unheard, &mut waits);
                emit.put_after(task, &Step::of(Kind::Sync), &waits)?;
            }
        }
        if client {
            let mut sync = Step::of(Kind::Sync).with(flags::AT);
            sync.t_ns = at_ns;
            emit.put(task, &sync)?;
        }
        if let Some(SockAddr::Unix(path)) = addr
            && path.first().is_some_and(|c| *c != b'@' && *c != 0)
        {
            let path = emit.cstr(path)?;
            emit.put(task, &extra(nr::unlinkat).imm(0, -100_i64 as u64).arg(1, Sel::Data, path).imm(2, 0))?;
        }
        self.bound(emit, task, fd, SOCK_DGRAM, addr, family)?;
        if let (true, Some(SockAddr::Inet(at)), Some(SockAddr::Inet(own))) = (shared, addr, own) {
            // Several are at one address, or may be: each of the later ones gets what comes from its own correspondent
            // (`compute_score`, net/ipv4/udp.c), who speaks from the address that it speaks to if it has none.
            let ip = if own.ip().is_unspecified() { at.ip() } else { own.ip() };
            let bytes = wire::sockaddr(&SockAddr::Inet(SocketAddr::new(ip, own.port())));
            let blob = emit.data(&bytes)?;
            let connect = extra(nr::connect).imm(0, u64::from(fd)).arg(1, Sel::Data, blob);
            emit.put(task, &connect.imm(2, bytes.len() as u64))?;
        }
        let ready = Wait::completed(task, emit.next_step(task).saturating_sub(1));
        self.datagram += 1;
        self.conns.insert(
            key,
            Conn {
                lane,
                received: 0,
                last_ns: at_ns,
                carrier: Carrier::Datagrams,
                at: addr.map(canonical),
                sock,
                over: false,
                client,
                fd,
                aims_at: None,
            },
        );
        Ok(Some(ready))
    }

    /// Nobody is to be at `addr` when a datagram comes there. Returns what its sender has to wait for.
    pub(crate) fn desert(
        &mut self,
        emit: &mut Emit,
        addr: &SockAddr,
        at_ns: u64,
    ) -> Result<Vec<Wait>, CompileError> {
        let key = canonical(addr);
        if let SockAddr::Inet(at) = &key
            && !at.ip().is_unspecified()
        {
            self.addresses.insert(at.ip());
        }
        let mut gone = Vec::new();
        for there in self.at.get_mut(&key).map(std::mem::take).unwrap_or_default() {
            let Some(conn) = self.conns.get(&there) else { continue };
            let (task, sock) = (self.lanes[conn.lane].task, conn.sock);
            self.leave(emit, there, 0, at_ns, None)?;
            if let Some(others) = self.correspondents.get_mut(&sock) {
                others.retain(|_, k| *k != there);
            }
            gone.push(Wait::completed(task, emit.next_step(task).saturating_sub(1)));
        }
        Ok(gone)
    }

    /// A datagram found nobody at `addr`: `sent`. Whoever comes there comes later.
    pub(crate) fn deserted(&mut self, addr: &SockAddr, sent: Wait) {
        self.deserted.insert(canonical(addr), sent);
    }

    /// The other end of an inherited pipe or socket (number `fd` in the peer process) is played by a lane of its own.
    pub(crate) fn inherited(
        &mut self,
        emit: &mut Emit,
        key: SockIx,
        fd: u32,
        pipe: bool,
    ) -> Result<(), CompileError> {
        if self.conns.contains_key(&key) {
            return Ok(());
        }
        let carrier = if pipe { Carrier::Pipe } else { Carrier::Stream };
        let lane = self.lane(emit, 0)?;
        self.conns.insert(
            key,
            Conn {
                lane,
                received: 0,
                last_ns: 0,
                carrier,
                at: None,
                sock: key,
                over: false,
                client: false,
                fd,
                aims_at: None,
            },
        );
        Ok(())
    }

    /// An established connection, first half: a lane listens at `addr`, before the gate. Returns when it does.
    pub(crate) fn established(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        addr: &SockAddr,
        client: bool,
    ) -> Result<Wait, CompileError> {
        let name = format!("peer {}", self.lanes.len());
        let task = self.thread(emit, name)?;
        let fd = self.new_fd();
        let listener = self.new_fd();
        // One after the other: several may be at the same address.
        let waits: Vec<Wait> = self.last_established.into_iter().collect();
        emit.put_after(task, &Step::of(Kind::Sync), &waits)?;
        self.bound(emit, task, listener, 1, Some(addr), family_of(addr))?;
        let step = emit
            .put(task, &extra(nr::listen).imm(0, u64::from(listener)).imm(1, 1).expect(Expect::Exact, 0))?;
        self.lanes.push(Lane { task, fd });
        let lane = self.lanes.len() - 1;
        self.conns.insert(
            sock,
            Conn {
                lane,
                received: 0,
                last_ns: 0,
                carrier: Carrier::Stream,
                at: None,
                sock,
                over: false,
                client,
                fd,
                aims_at: None,
            },
        );
        Ok(Wait::completed(task, step))
    }

    /// Second half: the workload's end connects (step `worker`), the lane accepts and stops listening.
    pub(crate) fn established_accept(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        worker: Wait,
    ) -> Result<(), CompileError> {
        let Some(conn) = self.conns.get(&sock) else { return Ok(()) };
        let (task, fd) = (self.lanes[conn.lane].task, conn.fd);
        let listener = fd + 1;
        let mut waits = Vec::new();
        emit.wait(task, EdgeKind::Connection, worker, &mut waits);
        emit.put_after(task, &accept_at(listener, fd), &waits)?;
        let step = emit.put(task, &extra(nr::close).imm(0, u64::from(listener)))?;
        self.last_established = Some(Wait::completed(task, step));
        emit.put(task, &Step::of(Kind::Gate))?;
        self.clients += 1;
        Ok(())
    }

    /// The last step so far of who plays the other end of a socket.
    pub(crate) fn last_step(&self, emit: &Emit, sock: SockIx) -> Option<Wait> {
        let task = self.lanes[self.conns.get(&sock)?.lane].task;
        emit.next_step(task).checked_sub(1).map(|step| Wait::completed(task, step))
    }

    /// Whether a socket's other end is played here.
    pub(crate) fn plays(&self, sock: SockIx) -> bool {
        self.conns.contains_key(&sock)
    }

    /// The workload sent a datagram of `n` bytes: it is received.
    pub(crate) fn sent_datagram(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        n: u64,
        at_ns: u64,
    ) -> Result<(), CompileError> {
        if let Some(conn) = self.conns.get_mut(&sock)
            && conn.is_datagram()
            && !conn.over
        {
            conn.received = conn.received.saturating_add(n);
            let n = n.min(65_536);
            let task = self.lanes[conn.lane].task;
            emit.put(task, &recv_step(conn.fd, n.max(1), at_ns))?;
        }
        Ok(())
    }

    /// Receives what the workload has sent by `at_ns`, `total` bytes in all.
    fn receive_up_to(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        total: u64,
        at_ns: u64,
    ) -> Result<(), CompileError> {
        let Some(conn) = self.conns.get_mut(&sock) else { return Ok(()) };
        if conn.is_datagram() || conn.over {
            return Ok(());
        }
        let task = self.lanes[conn.lane].task;
        let mut left = total.saturating_sub(conn.received);
        conn.received = conn.received.max(total);
        while left > 0 {
            let part = left.min(PART_BYTES);
            left -= part;
            let recv = recv_step(conn.fd, part, at_ns)
                .expect(Expect::Bytes, part as i64)
                .with(flags::STREAM | flags::BLOCKED);
            emit.put(task, &recv)?;
        }
        Ok(())
    }

    /// `n` bytes (0: an end of stream) arrived at the workload.
    pub(crate) fn arrived(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        n: u64,
        turn: Turn,
        to: Option<&SockAddr>,
        after: &[Wait],
    ) -> Result<(), CompileError> {
        self.receive_up_to(emit, sock, turn.after_sent, turn.at_ns)?;
        let Some(conn) = self.conns.get_mut(&sock) else { return Ok(()) };
        if conn.over {
            return Ok(());
        }
        let task = self.lanes[conn.lane].task;
        let gap = turn.at_ns.saturating_sub(conn.last_ns.max(turn.last_send_ns));
        conn.last_ns = conn.last_ns.max(turn.at_ns);
        let mut waits = Vec::new();
        for wait in after {
            emit.wait(task, EdgeKind::NotYet, *wait, &mut waits);
        }
        let mut think = gap;
        let fd = conn.fd;
        let dgram = conn.is_datagram();
        let receiver = conn.sock;
        if let Some(wait) = self.last_datagram.get(&receiver).filter(|_| dgram) {
            emit.wait(task, EdgeKind::Stream, *wait, &mut waits);
        }
        let open_loop = if conn.client { flags::OPEN_LOOP } else { 0 };
        let mut left = n;
        loop {
            let part = if dgram { left.min(65_536) } else { left.min(PART_BYTES) };
            let mut step = if n == 0 && !dgram {
                conn.over = false;
                extra(nr::shutdown).imm(0, u64::from(fd)).imm(1, 1)
            } else {
                let nr = if conn.carrier == Carrier::Pipe { nr::write } else { nr::sendto };
                let mut step = extra(nr).imm(0, u64::from(fd)).arg(1, Sel::Out, part).imm(2, part);
                if nr == nr::sendto {
                    step = step.imm(3, MSG_NOSIGNAL).imm(4, 0).imm(5, 0);
                }
                if let Some(to) = to.filter(|_| dgram) {
                    let bytes = wire::sockaddr(to);
                    let blob = emit.data(&bytes)?;
                    step.arg(4, Sel::Data, blob).imm(5, bytes.len() as u64)
                } else {
                    let mut step = step.expect(Expect::Bytes, part as i64).with(flags::STREAM).aux(4);
                    step.len_arg = 2;
                    step
                }
            };
            step.think_sleep_ns = think;
            step.t_ns = turn.at_ns;
            step.flags |= open_loop;
            think = 0;
            let step = emit.put_after(task, &step, &waits)?;
            waits.clear();
            if dgram {
                self.last_datagram.insert(receiver, Wait::completed(task, step));
            }
            left = if dgram { 0 } else { left.saturating_sub(part) };
            if left == 0 {
                return Ok(());
            }
        }
    }

    /// The other end is gone, with a reset or properly. Returns what a call that notices it has to wait for.
    pub(crate) fn gone(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        turn: Turn,
        reset: bool,
        after: &[Wait],
    ) -> Result<Option<Wait>, CompileError> {
        self.receive_up_to(emit, sock, turn.after_sent, turn.at_ns)?;
        let Some(conn) = self.conns.get_mut(&sock) else { return Ok(None) };
        if conn.over || conn.is_datagram() {
            return Ok(None);
        }
        conn.over = true;
        let task = self.lanes[conn.lane].task;
        let fd = conn.fd;
        let gap = turn.at_ns.saturating_sub(conn.last_ns.max(turn.last_send_ns));
        let mut waits = Vec::new();
        for wait in after {
            emit.wait(task, EdgeKind::NotYet, *wait, &mut waits);
        }
        let mut first = Step::of(Kind::Sync);
        first.think_sleep_ns = gap;
        first.t_ns = turn.at_ns;
        emit.put_after(task, &first, &waits)?;
        if reset {
            resets(emit, task, fd)?;
        }
        let closed = Wait::completed(task, emit.put(task, &extra(nr::close).imm(0, u64::from(fd)))?);
        if let Some(at) = conn.at.take() {
            self.vacated.insert(at, closed);
        }
        Ok(Some(closed))
    }

    /// The workload closed its end after sending `total` bytes in all; the other end may have answered with a reset.
    pub(crate) fn closed(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        total: u64,
        at_ns: u64,
        reset_ns: Option<u64>,
    ) -> Result<(), CompileError> {
        self.last_datagram.remove(&sock);
        let others: BTreeSet<SockIx> =
            self.correspondents.remove(&sock).unwrap_or_default().into_values().collect();
        for key in others {
            if key != sock {
                self.leave(emit, key, 0, at_ns, None)?;
            }
        }
        self.leave(emit, sock, total, at_ns, reset_ns)
    }

    /// One of those on the other end has received `total` bytes, and closes.
    fn leave(
        &mut self,
        emit: &mut Emit,
        sock: SockIx,
        total: u64,
        at_ns: u64,
        reset_ns: Option<u64>,
    ) -> Result<(), CompileError> {
        self.receive_up_to(emit, sock, total, at_ns)?;
        let Some(conn) = self.conns.remove(&sock) else { return Ok(()) };
        let task = self.lanes[conn.lane].task;
        if let Some(at) = &conn.at
            && let Some(there) = self.at.get_mut(at)
        {
            there.remove(&sock);
        }
        if !conn.over {
            if !conn.is_datagram() {
                emit.put(task, &recv_step(conn.fd, 4096, at_ns))?;
                if let Some(reset_ns) = reset_ns {
                    let mut then = Step::of(Kind::Sync);
                    then.think_sleep_ns = reset_ns.saturating_sub(at_ns);
                    then.t_ns = reset_ns;
                    emit.put(task, &then)?;
                    resets(emit, task, conn.fd)?;
                }
            }
            let step = emit.put(task, &extra(nr::close).imm(0, u64::from(conn.fd)))?;
            if let Some(at) = conn.at.filter(|_| conn.carrier == Carrier::Stream) {
                self.vacated.insert(at, Wait::completed(task, step));
            }
        }
        self.free.insert((at_ns, conn.lane));
        Ok(())
    }

    /// The end of the recording, at `end_ns`: open connections take what is still to come. Then the peer process makes its threads.
    pub(crate) fn finish(
        &mut self,
        emit: &mut Emit,
        sent: &dyn Fn(SockIx) -> u64,
        end_ns: u64,
    ) -> Result<Option<u32>, CompileError> {
        let mut open: Vec<SockIx> = self.conns.keys().copied().collect();
        open.sort_unstable();
        for sock in open {
            self.receive_up_to(emit, sock, sent(sock), end_ns)?;
        }
        let Some(root) = self.root else { return Ok(None) };
        // A write to a pipe whose readers are gone fails, and ends nobody: threads inherit the mask (signal(7)).
        let broken_pipe = emit.data(&(1_u64 << (libc::SIGPIPE - 1)).to_ne_bytes())?;
        let block = extra(nr::rt_sigprocmask).imm(0, libc::SIG_BLOCK as u64).arg(1, Sel::Data, broken_pipe);
        emit.put(root, &block.imm(2, 0).imm(3, 8))?;
        // Their table of descriptors grows before they share it, see `Lower::room_for_parked`: else the first of them that
        // gets a socket keeps all of them waiting, and whoever it was about to call.
        let last = FIRST_FD + self.next_fd.max(PARKED as u32 - FIRST_FD);
        let something = extra(nr::eventfd2).imm(0, 0).imm(1, 0);
        emit.put(root, &something.expect(Expect::Success, 0).post(Post::Fd, fd_operand(last, true)))?;
        emit.put(root, &extra(nr::close).imm(0, u64::from(last)))?;
        emit.meter.descriptor(last as i32);
        for task in &self.tasks {
            let clone = Step { nr: nr::clone, ..Step::of(Kind::Clone) }
                .with(flags::EXTRA)
                .imm(0, THREAD)
                .expect(Expect::Success, 0)
                .aux(u64::from(*task));
            emit.put(root, &clone)?;
        }
        emit.put(root, &Step::of(Kind::Gate))?;
        emit.put(root, &Step::of(Kind::Park))?;
        Ok(Some(root))
    }
}

/// Accepts a connection at the descriptor `listener`, as `fd`.
fn accept_at(listener: u32, fd: u32) -> Step {
    extra(nr::accept4)
        .imm(0, u64::from(listener))
        .imm(1, 0)
        .imm(2, 0)
        .imm(3, 0)
        .expect(Expect::Success, 0)
        .post(Post::Fd, fd_operand(fd, false))
}

/// A close of this descriptor is a reset.
fn resets(emit: &mut Emit, task: u32, fd: u32) -> Result<(), CompileError> {
    let linger = emit.data(&[1_u32.to_ne_bytes(), 0_u32.to_ne_bytes()].concat())?;
    let step = extra(nr::setsockopt)
        .imm(0, u64::from(fd))
        .imm(1, SOL_SOCKET)
        .imm(2, SO_LINGER)
        .arg(3, Sel::Data, linger)
        .imm(4, 8);
    emit.put(task, &step)?;
    Ok(())
}

/// Receives what the workload had sent by `at_ns`.
fn recv_step(fd: u32, len: u64, at_ns: u64) -> Step {
    let mut step = extra(nr::recvfrom)
        .imm(0, u64::from(fd))
        .arg(1, Sel::Out, len)
        .imm(2, len)
        .imm(3, 0)
        .imm(4, 0)
        .imm(5, 0);
    step.len_arg = 2;
    step.aux = 1;
    step.t_ns = at_ns;
    step
}

pub(crate) fn family_of(addr: &SockAddr) -> u16 {
    match addr {
        SockAddr::Inet(std::net::SocketAddr::V4(_)) => 2,
        SockAddr::Inet(_) => 10,
        SockAddr::Unix(_) => 1,
        SockAddr::Other { family, .. } => *family,
        _ => 0,
    }
}
