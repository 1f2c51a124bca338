//! Everybody on the other end who is not in the recording: programs for tasks outside the recorded tree.
//!
//! One lane (a task of the peer process) plays one connection at a time: it accepts or connects, receives what the
//! workload had sent before each arrival, waits the recorded gap, sends, closes as the recording has it. Clients that come
//! by the thousand share lanes (see `hands`). One server task per address opens and closes the listening socket. Lanes
//! share a descriptor table, so a server's close is everybody's.

mod datagrams;
mod hands;
mod servers;
mod turns;

use crate::compile::arrivals::Place;
use crate::compile::calls::nr;
use crate::compile::emit::{EdgeKind, Emit};
use crate::compile::io::sharing::name_place;
use crate::compile::world::{SockIx, World, canonical};
use crate::compile::{CompileError, wire};
use ctrace_format::SockAddr;
use ctrace_program::{Expect, Kind, Post, Sel, Step, TaskInfo, Wait, fd_operand, flags, task_flags};
use rustc_hash::FxHashMap;
use servers::Server;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
pub(crate) use turns::{Leaving, Turn};

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
const IPPROTO_IP: u64 = 0;
const IP_MINTTL: u64 = 21;
const IPPROTO_IPV6: u64 = 41;
const IPV6_MINHOPCOUNT: u64 = 73;
const IPPROTO_TCP: u64 = 6;
const TCP_NODELAY: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const SOCK_STREAM: u16 = 1;
const MSG_NOSIGNAL: u64 = 0x4000;
const SOCK_DGRAM: u16 = 2;

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
    /// Whoever is free plays it; else its lane, which plays nothing else.
    shared: bool,
    /// Recorded time of its last act that is shared, and its last step.
    last_act_ns: u64,
    done: Option<Wait>,
    /// The bytes that it sent before the compiler met the call that takes it.
    said: u64,
    /// Bytes that its steps so far send, and after how many of them it acknowledges nothing more.
    sent: u64,
    hears_until: Option<u64>,
}

impl Conn {
    /// A stream to the workload's `sock`.
    const fn new(lane: usize, fd: u32, sock: SockIx, at_ns: u64) -> Self {
        Self {
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
            shared: false,
            last_act_ns: at_ns,
            done: None,
            said: 0,
            sent: 0,
            hears_until: None,
        }
    }

    fn is_datagram(&self) -> bool {
        self.carrier == Carrier::Datagrams
    }
}

/// Builds the peers' programs.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    root: Option<u32>,
    lanes: Vec<Lane>,
    /// Lanes that no connection has for itself: since when, or how far those are in the recording that play shared ones.
    free: BTreeSet<(u64, usize)>,
    /// Descriptors of shared connections that are over, and the closes that gave them back.
    free_fds: VecDeque<(u32, Wait)>,
    /// The first words that shared clients are about to send: when, and how much.
    firsts: BTreeMap<(u64, SockIx), u64>,
    /// Shared clients that the workload has left, and that have not left yet.
    left: VecDeque<(Conn, Leaving)>,
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
    /// The peers that exchange datagrams with a socket of the workload, by address (none: a sender without one).
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
        self.catch_up(emit, at_ns)?;
        if from.is_some_and(|from| self.left.iter().any(|(conn, _)| conn.at.as_ref() == Some(from))) {
            self.all_leave(emit, 0, at_ns)?;
        }
        let own = self.lane_of_client(emit, at_ns)?;
        let (mut act, lane) = self.act_at(emit, own, at_ns)?;
        let (fd, given_back) = match own {
            Some(lane) => (self.lanes[lane].fd, None),
            None => self.fd_of_shared(),
        };
        let from = from.filter(|a| match a {
            SockAddr::Inet(at) => !at.ip().is_unspecified() && at.port() != 0,
            SockAddr::Unix(path) => path.first().is_some_and(|c| *c == b'@' || *c == 0),
            _ => false,
        });
        // Two connections between the same addresses cannot be there at once (`__inet_check_established`,
        // net/ipv4/inet_hashtables.c).
        let vacated = from.and_then(|from| self.vacated.remove(from));
        for wait in after.iter().copied().chain(vacated).chain(given_back) {
            act.wait(emit, EdgeKind::Connection, wait);
        }
        let mut sync = Step::of(Kind::Sync).with(flags::AT);
        sync.t_ns = at_ns;
        act.put(emit, &sync)?;
        let task = act.task;
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
        let made = act.put(emit, &connect)?;
        self.clients += 1;
        let (at, shared) = (from.cloned(), own.is_none());
        let done = shared.then_some(made);
        self.conns.insert(sock, Conn { at, client: true, shared, done, ..Conn::new(lane, fd, sock, at_ns) });
        Ok(made)
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
        self.conns.insert(key, Conn { carrier, ..Conn::new(lane, fd, key, 0) });
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
        self.conns.insert(sock, Conn { client, ..Conn::new(lane, fd, sock, 0) });
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

    /// Whether a socket's other end is played here.
    pub(crate) fn plays(&self, sock: SockIx) -> bool {
        self.conns.contains_key(&sock)
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

/// Receives until the workload sends no more: what it sent before has been received.
fn end_step(fd: u32, at_ns: u64) -> Step {
    recv_step(fd, 4096, at_ns)
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
