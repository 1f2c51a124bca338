//! Steps before the gate opens: they make the descriptors that were inherited or open, and the processes and threads that
//! were there, when the recording began.

mod processes;
mod sockets;

use crate::compile::CompileError;
use crate::compile::calls::nr;
use crate::compile::fsmodel::{InodeIx, NodeKind};
use crate::compile::lower::Lower;
use crate::compile::world::{O_APPEND, O_NONBLOCK, OfdIx, OfdKind, Origin, PipeIx, SockIx, TaskIx};
use crate::plan::environment::{Preopened, PreopenedKind};
use ctrace_format::TaskId;
use ctrace_program::{Expect, Kind, Post, Sel, Step, fd_operand, fds_operand, flags};
use processes::{clone, descriptor_limit, gate, make_room, tree};
use rustc_hash::{FxHashMap, FxHashSet};
use sockets::{listener_of, listening_socket, open_socket};

/// Flags of a thread that shares what threads share.
const THREAD: u64 = 0x5_0f00;
const SIGCHLD: u64 = 17;
const F_SETFL: u64 = 4;
const PR_SET_NAME: u64 = 15;
/// First number of the other ends of inherited descriptors in the peer process.
const PEER_END: u32 = 64;

/// The key under which peers know a pipe: above every socket index that a trace can have.
pub(crate) const fn pipe_key(pipe: PipeIx) -> SockIx {
    0x8000_0000 | pipe
}

const fn extra(nr: u32) -> Step {
    Step::call(nr).with(flags::EXTRA)
}

/// The descriptors of the peer process: the other ends of what the workload inherited.
pub(crate) fn peer_ends(lower: &Lower<'_>) -> Vec<Preopened> {
    let mut ends = Vec::new();
    for (id, fd) in &lower.peers.inherited {
        let Some(mine) = lower.surroundings.preopened().iter().find(|p| match p.kind {
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

/// Writes everything that comes before the gate.
pub(crate) fn before(lower: &mut Lower<'_>) -> Result<(), CompileError> {
    if !lower.emit.has_start() && lower.facts.tasks[0].origin == Origin::Root {
        return command(lower);
    }
    tree(lower)
}

/// A command that the recorder started: one process, with what it inherited.
fn command(lower: &mut Lower<'_>) -> Result<(), CompileError> {
    let fact = &lower.facts.tasks[0];
    let root = lower
        .source
        .tasks()
        .iter()
        .position(|t| t.tid.0 == fact.tid && (t.start_ns, fact.origin) == (fact.start_ns, Origin::Root))
        .map_or(TaskId(0), |i| TaskId(i as u32));
    let task = lower.world.task_of(lower.source, root)?;
    let slots: Vec<(i32, OfdIx)> =
        lower.world.files_of(task).slots().iter().map(|(fd, slot)| (*fd, slot.what.id())).collect();
    let mut seen: FxHashMap<Thing, i32> = FxHashMap::default();
    for fd in 0..3 {
        if !slots.iter().any(|(n, _)| *n == fd) {
            lower.surroundings.preopen(fd, PreopenedKind::Null);
        }
    }
    let mut listeners = Vec::new();
    let mut streams = Vec::new();
    for (fd, ofd) in slots {
        if let Some((sock, local)) = listener_of(lower, ofd) {
            listeners.push((fd, ofd, sock, local));
            lower.surroundings.preopen(fd, PreopenedKind::Null);
            continue;
        }
        // A file is opened with its flags.
        if !matches!(lower.world.ofds[ofd as usize].kind, OfdKind::Node { .. }) || lower.is_tty(ofd) {
            streams.push((fd, ofd));
        }
        let kind = match identity(lower, ofd) {
            Some(id) => {
                if let Some(first) = seen.get(&id) {
                    PreopenedKind::SameAs { fd: *first }
                } else {
                    seen.insert(id, fd);
                    preopened(lower, ofd)?
                }
            }
            None => preopened(lower, ofd)?,
        };
        lower.surroundings.preopen(fd, kind);
    }
    for (fd, ofd, sock, local) in listeners {
        lower.world.socks[sock as usize].local = Some(local);
        lower.world.listening(sock);
        let nonblocking = lower.world.ofds[ofd as usize].nonblock;
        listening_socket(lower, &Making::default(), sock, fd as u32, nonblocking)?;
    }
    for (fd, ofd) in streams {
        let state = &lower.world.ofds[ofd as usize];
        let (nonblocks, appends) = (state.nonblock, state.append);
        nonblock(lower, fd as u32, nonblocks, appends)?;
    }
    let me = lower.emit.prog(task);
    // Threads of it that no recorded clone made.
    let late: Vec<TaskIx> = (1..lower.facts.tasks.len() as TaskIx)
        .filter(|t| lower.facts.tasks[*t as usize].origin == Origin::Root)
        .collect();
    if !late.is_empty() {
        make_room(lower, me, lower.world.tasks[task as usize].proc)?;
    }
    for thread in late {
        clone(lower, me, thread, THREAD)?;
        gate(lower, thread)?;
    }
    descriptor_limit(lower, me, lower.world.tasks[task as usize].proc)?;
    lower.emit.put(me, &Step::of(Kind::Gate))?;
    lower.surroundings.begin_in(lower.world.paths.get(lower.world.fs_of(task).cwd).to_vec());
    Ok(())
}

/// Two inherited descriptors are the same if these are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Thing {
    PipeEnd { pipe: PipeIx, write: bool },
    Socket(SockIx),
    File { inode: InodeIx, writable: bool },
}

fn identity(lower: &Lower<'_>, ofd: OfdIx) -> Option<Thing> {
    let state = &lower.world.ofds[ofd as usize];
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
}

impl Making {
    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }
}

/// A descriptor that the root simply has, its other end played by a peer.
fn preopened(lower: &mut Lower<'_>, ofd: OfdIx) -> Result<PreopenedKind, CompileError> {
    let state = lower.world.ofds[ofd as usize].clone();
    Ok(match state.kind {
        OfdKind::Node { path, inode } => {
            let node = lower.world.fs.node(inode).clone();
            let path = lower.world.paths.get(path).to_vec();
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
            let inside = lower.facts.pipes_inside.get(pipe as usize).copied().unwrap_or(false);
            if !write && !inside {
                feeder(lower, pipe_key(pipe), pipe, true)?;
            }
            PreopenedKind::Pipe { id: pipe, write }
        }
        OfdKind::Sock(sock) => {
            let kind = lower.world.socks[sock as usize].kind;
            let id = 0x4000_0000 | sock;
            feeder(lower, sock, id, false)?;
            PreopenedKind::Socket { id, end: 0, kind: if kind == 0 { 1 } else { kind } }
        }
        _ => PreopenedKind::Null,
    })
}

fn feeder(lower: &mut Lower<'_>, key: SockIx, id: u32, pipe: bool) -> Result<(), CompileError> {
    let fd = PEER_END + lower.peers.inherited.len() as u32;
    if lower.peers.plays(key) || fd >= 500 {
        return Ok(());
    }
    lower.peers.inherited.push((id, fd));
    lower.peers.inherited(&mut lower.emit, key, fd, pipe)
}

/// Makes what was behind a descriptor, at number `at` of the first task.
fn open(lower: &mut Lower<'_>, ofd: OfdIx, at: u32, making: &mut Making) -> Result<(), CompileError> {
    let state = lower.world.ofds[ofd as usize].clone();
    let to = fd_operand(at, false);
    match state.kind {
        OfdKind::Sock(sock) => return open_socket(lower, sock, at, making, state.nonblock),
        OfdKind::Pipe { pipe, write } => {
            let both = lower.world.pipes[pipe as usize].readers && lower.world.pipes[pipe as usize].writers;
            if both {
                let other = making.number();
                making.made.insert(Thing::PipeEnd { pipe, write: !write }, other);
                let (read, written) = if write { (other, at) } else { (at, other) };
                let step = extra(nr::pipe2)
                    .arg(0, Sel::Out, 8)
                    .imm(1, 0)
                    .expect(Expect::Exact, 0)
                    .post(Post::Fds, fds_operand(read, written, 0, false));
                lower.emit.put(0, &step)?;
            } else {
                let kind = preopened(lower, ofd)?;
                lower.surroundings.preopen(at as i32, kind);
            }
        }
        OfdKind::Node { .. } => {
            let kind = preopened(lower, ofd)?;
            lower.surroundings.preopen(at as i32, kind);
        }
        OfdKind::Epoll => push_new(lower, extra(nr::epoll_create1).imm(0, 0), to)?,
        OfdKind::Event => push_new(lower, extra(nr::eventfd2).imm(0, 0).imm(1, 0), to)?,
        OfdKind::Timer => push_new(lower, extra(nr::timerfd_create).imm(0, 1).imm(1, 0), to)?,
        OfdKind::Inotify => push_new(lower, extra(nr::inotify_init1).imm(0, 0), to)?,
        OfdKind::Signal => {
            let mask = lower.emit.data(&[0; 8])?;
            let step = extra(nr::signalfd4).imm(0, u64::MAX).arg(1, Sel::Data, mask).imm(2, 8).imm(3, 0);
            push_new(lower, step, to)?;
        }
        OfdKind::Mem { inode } => {
            let name = lower.emit.cstr(b"replay")?;
            push_new(lower, extra(nr::memfd_create).arg(0, Sel::Data, name).imm(1, 0), to)?;
            let size = lower.world.fs.node(inode).size;
            lower.emit.put(0, &extra(nr::ftruncate).imm(0, u64::from(at)).imm(1, size))?;
        }
        OfdKind::Pid | OfdKind::Other => {
            lower.surroundings.preopen(at as i32, PreopenedKind::Null);
        }
    }
    nonblock(lower, at, state.nonblock, state.append)
}

fn push_new(lower: &mut Lower<'_>, step: Step, to: u64) -> Result<(), CompileError> {
    lower.emit.put(0, &step.expect(Expect::Success, 0).post(Post::Fd, to))?;
    Ok(())
}

fn nonblock(lower: &mut Lower<'_>, at: u32, nonblock: bool, append: bool) -> Result<(), CompileError> {
    let value = if nonblock { O_NONBLOCK } else { 0 } | if append { O_APPEND } else { 0 };
    if value != 0 {
        lower
            .emit
            .put(0, &extra(nr::fcntl).imm(0, u64::from(at)).imm(1, F_SETFL).imm(2, u64::from(value)))?;
    }
    Ok(())
}
