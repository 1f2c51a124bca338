//! Everybody on the other end who is not in the recording: programs for tasks outside the recorded tree.
//!
//! One lane (a task of the peer process) plays one connection at a time: it accepts or connects, receives what the
//! workload had sent before each arrival, waits the recorded gap, sends, closes as the recording has it. One server task
//! per address opens and closes the listening socket. Lanes share a descriptor table, so a server's close is
//! everybody's.

mod clients;
mod datagrams;
mod servers;
mod turns;

use super::CompileError;
use super::calls::nr;
use super::connects::Answer;
use super::emit::Emit;
use super::netlink;
use super::world::{PipeIx, SockIx};
use ctrace_format::SockAddr;
use ctrace_program::{Expect, Kind, PARKED, Post, Sel, Step, TaskInfo, Wait, fd_operand, flags, task_flags};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

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
/// Longest datagram.
const DATAGRAM_MAX: u64 = 65_536;
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

/// What bytes go through between a peer and the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// A connection.
    Stream,
    /// A pipe, which the peer writes to.
    Pipe,
    /// Datagrams.
    Datagrams,
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
    /// Where datagrams reach it.
    at: Option<SockAddr>,
    /// The workload's socket.
    sock: SockIx,
    /// It has closed or reset its end.
    over: bool,
    /// It connected to the workload, so what it sends are requests.
    client: bool,
    fd: u32,
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
    /// Connections to a listener of the workload up to this place have been made.
    made: FxHashMap<SockIx, u32>,
    next_fd: u32,
    last_established: Option<Wait>,
    /// Who exchanges datagrams with a socket of the workload, by address (none: a sender without one).
    correspondents: FxHashMap<SockIx, FxHashMap<Option<SockAddr>, SockIx>>,
    next_correspondent: SockIx,
    /// Who is at an address for datagrams.
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

impl Conn {
    fn is_datagram(&self) -> bool {
        self.carrier == Carrier::Datagrams
    }

    /// One that has not begun.
    fn new(lane: usize, fd: u32, sock: SockIx) -> Self {
        Self {
            lane,
            received: 0,
            last_ns: 0,
            carrier: Carrier::Stream,
            at: None,
            sock,
            over: false,
            client: false,
            fd,
        }
    }
}

/// The name of a unix socket that is a file is free.
fn unlink(emit: &mut Emit, task: u32, addr: &SockAddr) -> Result<(), CompileError> {
    const AT_FDCWD: u64 = -100_i64 as u64;
    if let SockAddr::Unix(path) = addr
        && path.first().is_some_and(|c| *c != b'@' && *c != 0)
    {
        let path = emit.cstr(path)?;
        emit.put(task, &extra(nr::unlinkat).imm(0, AT_FDCWD).arg(1, Sel::Data, path).imm(2, 0))?;
    }
    Ok(())
}

/// The key under which peers know a pipe: above every socket index that a trace can have.
pub(crate) const fn pipe_key(pipe: PipeIx) -> SockIx {
    0x8000_0000 | pipe
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

    /// An address has to be there.
    pub(crate) fn exists(&mut self, addr: &SockAddr) {
        if let SockAddr::Inet(at) = addr
            && !at.ip().is_unspecified()
        {
            self.addresses.insert(at.ip());
        }
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
        if matches!(addr, SockAddr::Inet(_)) {
            let reuse = extra(nr::setsockopt)
                .imm(0, u64::from(fd))
                .imm(1, SOL_SOCKET)
                .imm(2, SO_REUSEADDR)
                .arg(3, Sel::Data, one)
                .imm(4, 4);
            emit.put(task, &reuse)?;
        }
        self.exists(addr);
        let bind = emit.addressed(nr::bind, u64::from(fd), addr)?.with(flags::EXTRA);
        emit.put(task, &bind.expect(Expect::Exact, 0))?;
        Ok(())
    }

    /// The other end of an inherited pipe or socket (number `fd` in the peer process) is played by a lane of its own.
    pub(crate) fn inherited(
        &mut self,
        emit: &mut Emit,
        key: SockIx,
        fd: u32,
        carrier: Carrier,
    ) -> Result<(), CompileError> {
        if self.conns.contains_key(&key) {
            return Ok(());
        }
        let lane = self.lane(emit, 0)?;
        self.conns.insert(key, Conn { carrier, ..Conn::new(lane, fd, key) });
        Ok(())
    }

    /// Whether a socket's other end is played here.
    pub(crate) fn plays(&self, sock: SockIx) -> bool {
        self.conns.contains_key(&sock)
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
        // Their table of descriptors grows before they share it, see `Steps::room_for_parked`: else the first of them that
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
