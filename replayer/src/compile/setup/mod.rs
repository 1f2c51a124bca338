//! What happens before the gate opens: descriptors that were inherited or open, and processes and threads that were
//! there when the recording began.

mod processes;
mod sockets;

use super::CompileError;
use super::calls::nr;
use super::environment::Surroundings;
use super::facts::TaskFact;
use super::fsmodel::{InodeIx, NodeKind};
use super::peers::{Carrier, Peers, pipe_key};
use super::steps::Steps;
use super::world::limits::RLIMIT_NOFILE;
use super::world::{O_APPEND, O_NONBLOCK, OfdIx, OfdKind, Origin, PipeIx, ProcIx, SockIx, SockState, TaskIx};
use crate::plan::environment::{Preopened, PreopenedKind};
use ctrace_format::{FdTarget, SockAddr, TaskId};
use ctrace_program::{Expect, Kind, Post, Sel, Step, fd_operand, fds_operand, flags, soft_limit};
use processes::{name, process, program};
use rustc_hash::{FxHashMap, FxHashSet};
use sockets::{listening_socket, open_socket};

/// Flags of a thread that shares what threads share.
const THREAD: u64 = 0x5_0f00;
const SIGCHLD: u64 = 17;
const F_SETFL: u64 = 4;
const PR_SET_NAME: u64 = 15;
/// First number of the other ends of inherited descriptors in the peer process.
const PEER_END: u32 = 64;

const fn extra(nr: u32) -> Step {
    Step::call(nr).with(flags::EXTRA)
}

/// The descriptors of the peer process: the other ends of what the workload inherited.
pub(crate) fn peer_ends(peers: &Peers, surroundings: &Surroundings) -> Vec<Preopened> {
    let mut ends = Vec::new();
    for (id, fd) in &peers.inherited {
        let Some(mine) = surroundings.preopened().iter().find(|p| match p.kind {
            PreopenedKind::Pipe { id: i, .. } | PreopenedKind::Socket { id: i, .. } => i == *id,
            _ => false,
        }) else {
            continue;
        };
        let kind = match mine.kind {
            PreopenedKind::Pipe { id, write } => PreopenedKind::Pipe { id, write: !write },
            PreopenedKind::Socket { id, end, kind } => PreopenedKind::Socket { id, end: 1 - end, kind },
            _ => continue,
        };
        ends.push(Preopened { fd: *fd as i32, kind, cloexec: false });
    }
    ends
}

/// Numbers that nobody gets before the accepts that were under way at the start have taken theirs, by table.
pub(crate) type Held = FxHashMap<u32, Vec<i32>>;

/// Writes everything that comes before the gate.
pub(crate) fn before(steps: &mut Steps<'_>) -> Result<Held, CompileError> {
    if !steps.emit.has_start() && steps.facts.tasks[0].origin == Origin::Root {
        command(steps)?;
        return Ok(Held::default());
    }
    tree(steps)
}

/// A command that the recorder started: one process, with what it inherited.
fn command(steps: &mut Steps<'_>) -> Result<(), CompileError> {
    let fact = &steps.facts.tasks[0];
    let root = steps
        .source
        .tasks()
        .iter()
        .position(|t| t.tid.0 == fact.tid && (t.start_ns, fact.origin) == (fact.start_ns, Origin::Root))
        .map_or(TaskId(0), |i| TaskId(i as u32));
    let task = steps.world.task_of(steps.source, root)?;
    let slots: Vec<(i32, OfdIx)> =
        steps.world.files_of(task).slots.iter().map(|(fd, slot)| (*fd, slot.ofd())).collect();
    let mut seen: FxHashMap<Thing, i32> = FxHashMap::default();
    for fd in 0..3 {
        if !slots.iter().any(|(n, _)| *n == fd) {
            steps.surroundings.preopen(fd, PreopenedKind::Null);
        }
    }
    let mut listeners = Vec::new();
    let mut streams = Vec::new();
    for (fd, ofd) in slots {
        if let Some((sock, local)) = listener_of(steps, ofd) {
            listeners.push((fd, ofd, sock, local));
            steps.surroundings.preopen(fd, PreopenedKind::Null);
            continue;
        }
        // A file is opened with its flags.
        if !matches!(steps.world.ofds[ofd as usize].kind, OfdKind::Node { .. }) || steps.is_tty(ofd) {
            streams.push((fd, ofd));
        }
        let kind = match identity(steps, ofd) {
            Some(id) => {
                if let Some(first) = seen.get(&id) {
                    PreopenedKind::SameAs { fd: *first }
                } else {
                    seen.insert(id, fd);
                    preopened(steps, ofd)?
                }
            }
            None => preopened(steps, ofd)?,
        };
        steps.surroundings.preopen(fd, kind);
    }
    for (fd, ofd, sock, local) in listeners {
        steps.world.socks[sock as usize].local = Some(local);
        steps.world.listening(sock);
        let nonblocking = steps.world.ofds[ofd as usize].nonblock;
        listening_socket(steps, &Making::default(), sock, fd as u32, nonblocking)?;
    }
    for (fd, ofd) in streams {
        let state = &steps.world.ofds[ofd as usize];
        let (nonblocks, appends) = (state.nonblock, state.append);
        nonblock(steps, fd as u32, nonblocks, appends)?;
    }
    let me = steps.emit.prog(task);
    // Threads of it that no recorded clone made.
    let late: Vec<TaskIx> = (1..steps.facts.tasks.len() as TaskIx)
        .filter(|t| steps.facts.tasks[*t as usize].origin == Origin::Root)
        .collect();
    if !late.is_empty() {
        make_room(steps, me, steps.world.tasks[task as usize].proc)?;
    }
    for thread in late {
        clone(steps, me, thread, THREAD)?;
        gate(steps, thread)?;
    }
    descriptor_limit(steps, me, steps.world.tasks[task as usize].proc)?;
    steps.emit.put(me, &Step::of(Kind::Gate))?;
    steps.surroundings.begin_in(steps.world.paths.get(steps.world.cwd_of(task)).to_vec());
    Ok(())
}

/// A socket that a command was started with (socket activation) and that it accepts connections from, and its address.
fn listener_of(steps: &Steps<'_>, ofd: OfdIx) -> Option<(SockIx, SockAddr)> {
    let OfdKind::Sock(sock) = steps.world.ofds[ofd as usize].kind else { return None };
    let first = steps.facts.arrivals.queue(sock).first()?;
    let ends = first.ends.as_deref().or_else(|| steps.world.tuple(first.cookie));
    let own = steps.world.socks[sock as usize].local.clone();
    Some((sock, own.or_else(|| ends.map(|(local, _)| local.clone()))?))
}

/// The limit of descriptors that a process began with: not before everything of its own is in its place.
fn descriptor_limit(steps: &mut Steps<'_>, me: u32, proc: ProcIx) -> Result<(), CompileError> {
    let Some(soft) = steps.world.procs[proc as usize].fd_limit else { return Ok(()) };
    let limit = extra(nr::prlimit64).imm(0, 0).imm(1, RLIMIT_NOFILE).imm(3, 0);
    steps.emit.put(me, &limit.arg(2, Sel::SoftLimit, soft_limit(RLIMIT_NOFILE, soft)))?;
    Ok(())
}

/// Lets the table of a process grow as long as its threads do not share it.
fn make_room(steps: &mut Steps<'_>, me: u32, proc: ProcIx) -> Result<(), CompileError> {
    for step in steps.room_for_parked(proc, flags::EXTRA).into_iter().flatten() {
        steps.emit.put(me, &step)?;
    }
    Ok(())
}

fn gate(steps: &mut Steps<'_>, task: TaskIx) -> Result<(), CompileError> {
    let me = steps.emit.prog(task);
    steps.emit.put(me, &Step::of(Kind::Gate))?;
    Ok(())
}

fn clone(steps: &mut Steps<'_>, me: u32, child: TaskIx, clone_flags: u64) -> Result<(), CompileError> {
    let step = Step { nr: nr::clone, ..Step::of(Kind::Clone) }
        .with(flags::EXTRA)
        .imm(0, clone_flags)
        .expect(Expect::Success, 0)
        .aux(u64::from(steps.emit.prog(child)));
    steps.emit.put(me, &step)?;
    Ok(())
}

/// What makes two inherited descriptors the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Thing {
    PipeEnd { pipe: PipeIx, write: bool },
    Socket(SockIx),
    File { inode: InodeIx, writable: bool },
}

fn identity(steps: &Steps<'_>, ofd: OfdIx) -> Option<Thing> {
    let state = &steps.world.ofds[ofd as usize];
    match state.kind {
        OfdKind::Pipe { pipe, write } => Some(Thing::PipeEnd { pipe, write }),
        OfdKind::Sock(sock) => Some(Thing::Socket(sock)),
        OfdKind::Node { inode, .. } => Some(Thing::File { inode, writable: state.writable }),
        _ => None,
    }
}

/// What the first task has made of what was open.
#[derive(Debug, Default)]
struct Making {
    /// The number that comes next.
    next: u32,
    /// The numbers of things that several descriptors may refer to.
    made: FxHashMap<Thing, u32>,
    /// Ports on which sockets of IPv4 listened from the start.
    v4_ports: FxHashSet<u16>,
    held: Held,
}

impl Making {
    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }
}

/// A descriptor that the root simply has, its other end played by a peer.
fn preopened(steps: &mut Steps<'_>, ofd: OfdIx) -> Result<PreopenedKind, CompileError> {
    let state = steps.world.ofds[ofd as usize].clone();
    Ok(match state.kind {
        OfdKind::Node { path, inode } => {
            let node = steps.world.fs.node(inode).clone();
            let path = steps.world.paths.get(path).to_vec();
            let major = (node.rdev >> 8) & 0xfff;
            if path == b"/dev/null" {
                PreopenedKind::Null
            } else if node.kind == NodeKind::Device
                && (path.starts_with(b"/dev/pts/") || path == b"/dev/tty" || matches!(major, 4 | 5 | 136))
            {
                PreopenedKind::Terminal
            } else {
                let access = if node.kind == NodeKind::Dir { 0 } else { u32::from(state.writable) * 2 };
                let append = if state.append { O_APPEND } else { 0 };
                PreopenedKind::File { path, flags: access | append, offset: state.pos }
            }
        }
        OfdKind::Pipe { pipe, write } => {
            let inside = steps.facts.pipes_inside.get(pipe as usize).copied().unwrap_or(false);
            if !write && !inside {
                feeder(steps, pipe_key(pipe), pipe, Carrier::Pipe)?;
            }
            PreopenedKind::Pipe { id: pipe, write }
        }
        OfdKind::Sock(sock) => {
            let kind = steps.world.socks[sock as usize].kind;
            let id = 0x4000_0000 | sock;
            feeder(steps, sock, id, Carrier::Stream)?;
            PreopenedKind::Socket { id, end: 0, kind: if kind == 0 { 1 } else { kind } }
        }
        _ => PreopenedKind::Null,
    })
}

fn feeder(steps: &mut Steps<'_>, key: SockIx, id: u32, carrier: Carrier) -> Result<(), CompileError> {
    let fd = PEER_END + steps.peers.inherited.len() as u32;
    if steps.peers.plays(key) || fd >= 500 {
        return Ok(());
    }
    steps.peers.inherited.push((id, fd));
    steps.peers.inherited(steps.emit, key, fd, carrier)
}

/// Processes that were there: a first task makes everything that was open, then the processes, which put things into
/// their places and make their threads.
fn tree(steps: &mut Steps<'_>) -> Result<Held, CompileError> {
    let facts: Vec<TaskFact> = steps.facts.tasks.clone();
    let there = There::of(steps, &facts);
    if !steps.emit.has_start() {
        program(steps, 0, there.snapshots.get(&facts[0].tgid).copied())?;
    }
    let base: u32 = steps
        .world
        .files
        .iter()
        .filter_map(|f| f.slots.last().map(|(fd, _)| fd))
        .max()
        .map_or(64, |fd| fd.saturating_add(1).clamp(64, 1 << 16) as u32);
    let mut making = Making { next: base, v4_ports: v4_ports(steps), ..Making::default() };
    let mut by_ofd: FxHashMap<OfdIx, u32> = FxHashMap::default();
    for fd in 0..3 {
        steps.surroundings.preopen(fd, PreopenedKind::Null);
    }
    find_unix_pairs(steps);
    let procs = steps.world.procs.len();
    let mut all: Vec<OfdIx> = (0..procs)
        .flat_map(|proc| {
            steps.world.files[steps.world.procs[proc].files as usize].slots.iter().map(|(_, s)| s.ofd())
        })
        .collect();
    // Connections first: an accepted one has the port of its listener, which can be bound only before that listens.
    all.sort_by_key(|ofd| match steps.world.ofds[*ofd as usize].kind {
        OfdKind::Sock(sock) => steps.world.socks[sock as usize].state != SockState::Connected,
        _ => true,
    });
    for ofd in all {
        let shared = identity(steps, ofd).filter(|thing| !matches!(thing, Thing::File { .. }));
        if let Some(at) = shared.and_then(|thing| making.made.get(&thing)) {
            // Made as the other end of another one, or known by another name: what `F_SETFL` sets is its own.
            let state = &steps.world.ofds[ofd as usize];
            let (nonblocks, appends) = (state.nonblock, state.append);
            if !by_ofd.contains_key(&ofd) {
                nonblock(steps, *at, nonblocks, appends)?;
            }
            by_ofd.insert(ofd, *at);
            continue;
        }
        if by_ofd.contains_key(&ofd) {
            continue;
        }
        let at = making.number();
        open(steps, ofd, at, &mut making)?;
        by_ofd.insert(ofd, at);
        if let Some(thing) = shared {
            making.made.insert(thing, at);
        }
    }
    steps.emit.meter.descriptor(making.next as i32);
    steps.surroundings.begin_in(b"/".to_vec());
    if steps.emit.has_start() {
        for (i, fact) in facts.iter().enumerate() {
            if fact.parent.is_none() {
                clone(steps, 0, i as TaskIx, SIGCHLD)?;
            }
        }
        // What it made belongs to the others: as long as it held a copy, no close of theirs would be seen outside.
        steps
            .emit
            .put(0, &extra(nr::close_range).imm(0, u64::from(base)).imm(1, u64::from(u32::MAX)).imm(2, 0))?;
        steps.emit.put(0, &Step::of(Kind::Gate))?;
        steps.emit.put(0, &Step::of(Kind::Park))?;
    }
    for (i, fact) in facts.iter().enumerate() {
        let ix = i as TaskIx;
        if fact.origin == Origin::Forked {
            continue;
        }
        if fact.leader != ix {
            name(steps, ix, fact)?;
            gate(steps, ix)?;
            continue;
        }
        let proc = steps.world.tasks.get(i).map(|t| t.proc);
        process(steps, &mut making, ix, fact, &there, proc, base, &by_ofd)?;
    }
    Ok(making.held)
}

/// What was there at the start, by what it belongs to.
#[derive(Default)]
struct There<'a> {
    /// First tasks of the processes that a process made.
    children: FxHashMap<TaskIx, Vec<TaskIx>>,
    /// Further threads, by first task.
    threads: FxHashMap<TaskIx, Vec<TaskIx>>,
    /// The snapshot's processes.
    snapshots: FxHashMap<u32, &'a ctrace_format::ProcessSnapshot>,
}

impl<'a> There<'a> {
    fn of(steps: &Steps<'a>, facts: &[TaskFact]) -> Self {
        let mut there = Self::default();
        for (i, fact) in facts.iter().enumerate().filter(|(_, fact)| fact.origin != Origin::Forked) {
            let ix = i as TaskIx;
            match fact.parent {
                Some(parent) if fact.leader == ix => there.children.entry(parent).or_default().push(ix),
                None if fact.leader == ix => {}
                _ => there.threads.entry(fact.leader).or_default().push(ix),
            }
        }
        for process in &steps.source.snapshot().processes {
            there.snapshots.entry(process.tgid.0).or_insert(process);
        }
        there
    }
}

/// The two ends of a unix socket pair know each other by inode.
fn find_unix_pairs(steps: &mut Steps<'_>) {
    let source = steps.source;
    let mut by_ino: FxHashMap<u64, (u64, u64)> = FxHashMap::default();
    for fd in source.snapshot().processes.iter().flat_map(|p| &p.fds) {
        if let FdTarget::Socket { ino, cookie, family: 1, peer_ino, .. } = &fd.target {
            let identity = if *cookie == 0 { *ino | 1 << 63 } else { *cookie };
            by_ino.insert(*ino, (identity, *peer_ino));
        }
    }
    let pairs: Vec<(u64, u64)> = by_ino
        .values()
        .filter_map(|(identity, peer)| by_ino.get(peer).map(|(other, _)| (*identity, *other)))
        .collect();
    for (a, b) in pairs {
        let (Some(a), Some(b)) =
            (steps.world.sock_by_cookie.get(&a).copied(), steps.world.sock_by_cookie.get(&b).copied())
        else {
            continue;
        };
        steps.world.socks[a as usize].partner = Some(b);
        steps.world.socks[b as usize].partner = Some(a);
    }
}

/// Makes what was behind a descriptor, at number `at` of the first task.
fn open(steps: &mut Steps<'_>, ofd: OfdIx, at: u32, making: &mut Making) -> Result<(), CompileError> {
    let state = steps.world.ofds[ofd as usize].clone();
    let to = fd_operand(at, false);
    match state.kind {
        OfdKind::Sock(sock) => return open_socket(steps, sock, at, making, state.nonblock),
        OfdKind::Pipe { pipe, write } => {
            let both = steps.world.pipes[pipe as usize].readers && steps.world.pipes[pipe as usize].writers;
            if both {
                let other = making.number();
                making.made.insert(Thing::PipeEnd { pipe, write: !write }, other);
                let (read, written) = if write { (other, at) } else { (at, other) };
                let step = extra(nr::pipe2)
                    .arg(0, Sel::Out, 8)
                    .imm(1, 0)
                    .expect(Expect::Exact, 0)
                    .post(Post::Fds, fds_operand(read, written, 0, false));
                steps.emit.put(0, &step)?;
            } else {
                let kind = preopened(steps, ofd)?;
                steps.surroundings.preopen(at as i32, kind);
            }
        }
        OfdKind::Node { .. } => {
            let kind = preopened(steps, ofd)?;
            steps.surroundings.preopen(at as i32, kind);
        }
        OfdKind::Epoll => push_new(steps, extra(nr::epoll_create1).imm(0, 0), to)?,
        OfdKind::Event => push_new(steps, extra(nr::eventfd2).imm(0, 0).imm(1, 0), to)?,
        OfdKind::Timer => push_new(steps, extra(nr::timerfd_create).imm(0, 1).imm(1, 0), to)?,
        OfdKind::Inotify => push_new(steps, extra(nr::inotify_init1).imm(0, 0), to)?,
        OfdKind::Signal => {
            let mask = steps.emit.data(&[0; 8])?;
            let step = extra(nr::signalfd4).imm(0, u64::MAX).arg(1, Sel::Data, mask).imm(2, 8).imm(3, 0);
            push_new(steps, step, to)?;
        }
        OfdKind::Mem { inode } => {
            let name = steps.emit.cstr(b"replay")?;
            push_new(steps, extra(nr::memfd_create).arg(0, Sel::Data, name).imm(1, 0), to)?;
            let size = steps.world.fs.node(inode).size;
            steps.emit.put(0, &extra(nr::ftruncate).imm(0, u64::from(at)).imm(1, size))?;
        }
        OfdKind::Pid | OfdKind::Other => {
            steps.surroundings.preopen(at as i32, PreopenedKind::Null);
        }
    }
    nonblock(steps, at, state.nonblock, state.append)
}

fn push_new(steps: &mut Steps<'_>, step: Step, to: u64) -> Result<(), CompileError> {
    steps.emit.put(0, &step.expect(Expect::Success, 0).post(Post::Fd, to))?;
    Ok(())
}

fn nonblock(steps: &mut Steps<'_>, at: u32, nonblock: bool, append: bool) -> Result<(), CompileError> {
    let value = if nonblock { O_NONBLOCK } else { 0 } | if append { O_APPEND } else { 0 };
    if value != 0 {
        steps
            .emit
            .put(0, &extra(nr::fcntl).imm(0, u64::from(at)).imm(1, F_SETFL).imm(2, u64::from(value)))?;
    }
    Ok(())
}

/// Ports on which sockets of IPv4 listen: one of IPv6 at the same port has to be for IPv6 only.
fn v4_ports(steps: &Steps<'_>) -> FxHashSet<u16> {
    let listening = steps.world.socks.iter().filter(|s| s.state == SockState::Listening && s.family == 2);
    listening
        .filter_map(|s| match s.local {
            Some(SockAddr::Inet(at)) => Some(at.port()),
            _ => None,
        })
        .collect()
}
