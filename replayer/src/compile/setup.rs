//! What happens before the gate opens: descriptors that were inherited or open, and processes and threads that were
//! there when the recording began.

use super::CompileError;
use super::calls::nr;
use super::emit::EdgeKind;
use super::facts::{CLONE_THREAD, TaskFact};
use super::fsmodel::{InodeIx, NodeKind};
use super::io::sharing::{choose_by_place, share_address};
use super::lower::{Lower, reachable};
use super::netlink;
use super::peers::family_of;
use super::wire;
use super::world::limits::RLIMIT_NOFILE;
use super::world::{
    O_APPEND, O_CLOEXEC, O_NONBLOCK, OfdIx, OfdKind, Origin, PipeIx, ProcIx, SockIx, SockState, TaskIx, Watch,
};
use crate::plan::environment::{Preopened, PreopenedKind};
use ctrace_format::{FdTarget, SockAddr, TaskId};
use ctrace_program::{
    Expect, Kind, Post, SIG_HANDLER, SIG_IGNORE, Sel, Step, Wait, fd_operand, fds_operand, flags, soft_limit,
};
use rustc_hash::{FxHashMap, FxHashSet};

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
        lower.world.files_of(task).slots.iter().map(|(fd, slot)| (*fd, slot.ofd())).collect();
    let mut seen: FxHashMap<Thing, i32> = FxHashMap::default();
    for fd in 0..3 {
        if !slots.iter().any(|(n, _)| *n == fd) {
            lower.surroundings.preopen(fd, PreopenedKind::Null);
        }
    }
    let mut listeners = Vec::new();
    for (fd, ofd) in slots {
        if let Some((sock, local)) = listener_of(lower, ofd) {
            listeners.push((fd, ofd, sock, local));
            lower.surroundings.preopen(fd, PreopenedKind::Null);
            continue;
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
    let me = lower.emit.prog(task);
    // Threads of it that no recorded clone made.
    let late: Vec<TaskIx> = (1..lower.facts.tasks.len() as TaskIx)
        .filter(|t| lower.facts.tasks[*t as usize].origin == Origin::Root)
        .collect();
    for thread in late {
        clone(lower, me, thread, THREAD)?;
        gate(lower, thread)?;
    }
    descriptor_limit(lower, me, lower.world.tasks[task as usize].proc)?;
    lower.emit.put(me, &Step::of(Kind::Gate))?;
    lower.surroundings.begin_in(lower.world.paths.get(lower.world.cwd_of(task)).to_vec());
    Ok(())
}

/// A socket that a command was started with (socket activation) and that it accepts connections from, and its address.
fn listener_of(lower: &Lower<'_>, ofd: OfdIx) -> Option<(SockIx, SockAddr)> {
    let OfdKind::Sock(sock) = lower.world.ofds[ofd as usize].kind else { return None };
    let first = lower.facts.arrivals.queue(sock).first()?;
    let ends = first.ends.as_deref().or_else(|| lower.world.tuple(first.cookie));
    let own = lower.world.socks[sock as usize].local.clone();
    Some((sock, own.or_else(|| ends.map(|(local, _)| local.clone()))?))
}

/// The limit of descriptors that a process began with: not before everything of its own is in its place.
fn descriptor_limit(lower: &mut Lower<'_>, me: u32, proc: ProcIx) -> Result<(), CompileError> {
    let Some(soft) = lower.world.procs[proc as usize].fd_limit else { return Ok(()) };
    let limit = extra(nr::prlimit64).imm(0, 0).imm(1, RLIMIT_NOFILE).imm(3, 0);
    lower.emit.put(me, &limit.arg(2, Sel::SoftLimit, soft_limit(RLIMIT_NOFILE, soft)))?;
    Ok(())
}

fn gate(lower: &mut Lower<'_>, task: TaskIx) -> Result<(), CompileError> {
    let me = lower.emit.prog(task);
    lower.emit.put(me, &Step::of(Kind::Gate))?;
    Ok(())
}

fn clone(lower: &mut Lower<'_>, me: u32, child: TaskIx, clone_flags: u64) -> Result<(), CompileError> {
    let step = Step { nr: nr::clone, ..Step::of(Kind::Clone) }
        .with(flags::EXTRA)
        .imm(0, clone_flags)
        .expect(Expect::Success, 0)
        .aux(u64::from(lower.emit.prog(child)));
    lower.emit.put(me, &step)?;
    Ok(())
}

/// What makes two inherited descriptors the same.
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

/// Processes that were there: a first task makes everything that was open, then the processes, which put things into
/// their places and make their threads.
fn tree(lower: &mut Lower<'_>) -> Result<(), CompileError> {
    let facts: Vec<TaskFact> = lower.facts.tasks.clone();
    let there = There::of(lower, &facts);
    if !lower.emit.has_start() {
        program(lower, 0, there.snapshots.get(&facts[0].tgid).copied())?;
    }
    let base: u32 = lower
        .world
        .files
        .iter()
        .filter_map(|f| f.slots.last().map(|(fd, _)| fd))
        .max()
        .map_or(64, |fd| fd.saturating_add(1).clamp(64, 1 << 16) as u32);
    let mut making = Making { next: base, v4_ports: v4_ports(lower), ..Making::default() };
    let mut by_ofd: FxHashMap<OfdIx, u32> = FxHashMap::default();
    for fd in 0..3 {
        lower.surroundings.preopen(fd, PreopenedKind::Null);
    }
    find_unix_pairs(lower);
    let procs = lower.world.procs.len();
    let mut all: Vec<OfdIx> = (0..procs)
        .flat_map(|proc| {
            lower.world.files[lower.world.procs[proc].files as usize].slots.iter().map(|(_, s)| s.ofd())
        })
        .collect();
    // Connections first: an accepted one has the port of its listener, which can be bound only before that listens.
    all.sort_by_key(|ofd| match lower.world.ofds[*ofd as usize].kind {
        OfdKind::Sock(sock) => lower.world.socks[sock as usize].state != SockState::Connected,
        _ => true,
    });
    for ofd in all {
        let shared = identity(lower, ofd).filter(|thing| !matches!(thing, Thing::File { .. }));
        if let Some(at) = shared.and_then(|thing| making.made.get(&thing)) {
            by_ofd.insert(ofd, *at);
            continue;
        }
        if by_ofd.contains_key(&ofd) {
            continue;
        }
        let at = making.number();
        open(lower, ofd, at, &mut making)?;
        by_ofd.insert(ofd, at);
        if let Some(thing) = shared {
            making.made.insert(thing, at);
        }
    }
    lower.emit.meter.descriptor(making.next as i32);
    lower.surroundings.begin_in(b"/".to_vec());
    if lower.emit.has_start() {
        for (i, fact) in facts.iter().enumerate() {
            if fact.parent.is_none() {
                clone(lower, 0, i as TaskIx, SIGCHLD)?;
            }
        }
        // What it made belongs to the others: as long as it held a copy, no close of theirs would be seen outside.
        lower
            .emit
            .put(0, &extra(nr::close_range).imm(0, u64::from(base)).imm(1, u64::from(u32::MAX)).imm(2, 0))?;
        lower.emit.put(0, &Step::of(Kind::Gate))?;
        lower.emit.put(0, &Step::of(Kind::Park))?;
    }
    for (i, fact) in facts.iter().enumerate() {
        let ix = i as TaskIx;
        if fact.origin == Origin::Forked {
            continue;
        }
        if fact.leader != ix {
            name(lower, ix, fact)?;
            gate(lower, ix)?;
            continue;
        }
        let proc = lower.world.tasks.get(i).map(|t| t.proc);
        process(lower, ix, fact, &there, proc, base, &by_ofd)?;
    }
    Ok(())
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
    fn of(lower: &Lower<'a>, facts: &[TaskFact]) -> Self {
        let mut there = Self::default();
        for (i, fact) in facts.iter().enumerate().filter(|(_, fact)| fact.origin != Origin::Forked) {
            let ix = i as TaskIx;
            match fact.parent {
                Some(parent) if fact.leader == ix => there.children.entry(parent).or_default().push(ix),
                None if fact.leader == ix => {}
                _ => there.threads.entry(fact.leader).or_default().push(ix),
            }
        }
        for process in &lower.source.snapshot().processes {
            there.snapshots.entry(process.tgid.0).or_insert(process);
        }
        there
    }
}

fn process(
    lower: &mut Lower<'_>,
    ix: TaskIx,
    fact: &TaskFact,
    there: &There<'_>,
    proc: Option<ProcIx>,
    base: u32,
    by_ofd: &FxHashMap<OfdIx, u32>,
) -> Result<(), CompileError> {
    let me = lower.emit.prog(ix);
    let snapshot = there.snapshots.get(&fact.tgid).copied();
    if me != 0 {
        program(lower, ix, snapshot)?;
    }
    for child in there.children.get(&ix).into_iter().flatten() {
        clone(lower, me, *child, SIGCHLD)?;
    }
    if let Some(proc) = proc {
        let state = lower.world.procs[proc as usize].clone();
        let slots: Vec<(i32, OfdIx, bool)> = lower.world.files[state.files as usize]
            .slots
            .iter()
            .map(|(fd, s)| (*fd, s.ofd(), s.cloexec))
            .collect();
        lower.emit.put(me, &extra(nr::close_range).imm(0, 0).imm(1, u64::from(base) - 1).imm(2, 0))?;
        for (fd, ofd, cloexec) in &slots {
            if let Some(at) = by_ofd.get(ofd) {
                let flags = if *cloexec { u64::from(O_CLOEXEC) } else { 0 };
                let dup = extra(nr::dup3).imm(0, u64::from(*at)).imm(1, *fd as u64).imm(2, flags);
                lower.emit.put(me, &dup.expect(Expect::Success, 0))?;
            }
        }
        lower
            .emit
            .put(me, &extra(nr::close_range).imm(0, u64::from(base)).imm(1, u64::from(u32::MAX)).imm(2, 0))?;
        hold_numbers(lower, me, state.files, &slots)?;
        for (fd, ofd, _) in &slots {
            let watches: Vec<Watch> =
                lower.world.epoll(*ofd).into_iter().flat_map(|epoll| epoll.watches().copied()).collect();
            for watch in watches {
                let blob = lower.emit.data(&wire::epoll_event(watch.fd, watch.events))?;
                let add = extra(nr::epoll_ctl).imm(0, *fd as u64).imm(1, 1).imm(2, watch.fd as u64);
                lower.emit.put(me, &add.arg(3, Sel::Data, blob))?;
            }
        }
        let fs = lower.world.fs_states[state.fs as usize].clone();
        let cwd = lower.world.paths.get(fs.cwd).to_vec();
        let cwd = lower.emit.cstr(&cwd)?;
        lower.emit.put(me, &extra(nr::chdir).arg(0, Sel::Data, cwd))?;
        lower.emit.put(me, &extra(nr::umask).imm(0, u64::from(fs.umask)))?;
        signals(lower, me, proc, snapshot)?;
        descriptor_limit(lower, me, proc)?;
    }
    name(lower, ix, fact)?;
    for thread in there.threads.get(&ix).into_iter().flatten() {
        clone(lower, me, *thread, THREAD | CLONE_THREAD)?;
    }
    gate(lower, ix)
}

/// An accept takes a number before it waits for a connection. One that was under way at the start had taken a number when
/// lower ones were in use; here something holds those until it has taken it again.
fn hold_numbers(
    lower: &mut Lower<'_>,
    me: u32,
    files: u32,
    slots: &[(i32, OfdIx, bool)],
) -> Result<(), CompileError> {
    const HELD_MAX: i32 = 1024;
    let Some(accepts) = lower.facts.early_accepts.get_mut(&files) else { return Ok(()) };
    accepts.sort_unstable();
    let taken: Vec<i32> = accepts.iter().map(|(fd, _)| *fd).collect();
    let highest = taken.last().copied().unwrap_or(0).min(HELD_MAX);
    let is_free = |fd: &i32| !taken.contains(fd) && !slots.iter().any(|(used, ..)| used == fd);
    let held: Vec<i32> = (0..highest).filter(is_free).collect();
    for fd in &held {
        let step = extra(nr::eventfd2).imm(0, 0).imm(1, 0).expect(Expect::Success, 0);
        lower.emit.put(me, &step.post(Post::Fd, fd_operand(*fd as u32, false)))?;
    }
    lower.order.descriptors.hold(files, held);
    Ok(())
}

/// A process of the snapshot begins as the program it was, so that it is called and shown as that.
fn program(
    lower: &mut Lower<'_>,
    ix: TaskIx,
    snapshot: Option<&ctrace_format::ProcessSnapshot>,
) -> Result<(), CompileError> {
    let Some(snapshot) = snapshot else { return Ok(()) };
    if snapshot.exe.first() != Some(&b'/') {
        return Ok(());
    }
    let exe = lower.world.paths.intern(&snapshot.exe);
    let exe = lower.world.resolve(exe, true);
    let text = lower.world.paths.get(exe).to_vec();
    lower.surroundings.executed(text.clone());
    let path = lower.emit.cstr(&text)?;
    let mut words = Vec::new();
    for word in snapshot.argv.iter().take(64) {
        words.push(lower.emit.cstr(word)?);
    }
    if words.is_empty() {
        words.push(path);
    }
    let argv = lower.emit.pointers(&words)?;
    let me = lower.emit.prog(ix);
    let next = lower.emit.next_step(me) + 1;
    let step =
        extra(nr::execve).arg(0, Sel::Data, path).arg(1, Sel::Data, argv).imm(2, 0).expect(Expect::Exact, 0);
    lower.emit.put(
        me,
        &Step { kind: Kind::Exec as u8, ..step }.aux(u64::from(me)).post(Post::None, u64::from(next)),
    )?;
    Ok(())
}

fn name(lower: &mut Lower<'_>, ix: TaskIx, fact: &TaskFact) -> Result<(), CompileError> {
    let me = lower.emit.prog(ix);
    let comm = &fact.comm[..fact.comm.len().min(15)];
    let blob = lower.emit.cstr(comm)?;
    lower.emit.put(me, &extra(nr::prctl).imm(0, PR_SET_NAME).arg(1, Sel::Data, blob))?;
    Ok(())
}

fn signals(
    lower: &mut Lower<'_>,
    me: u32,
    proc: ProcIx,
    snapshot: Option<&ctrace_format::ProcessSnapshot>,
) -> Result<(), CompileError> {
    // Flags are not in /proc; nearly every handler restarts calls.
    const SA_RESTART: u64 = 0x1000_0000;
    let Some(snapshot) = snapshot else { return Ok(()) };
    for signo in 1..=64_u32 {
        let bit = 1_u64 << (signo - 1);
        let caught = snapshot.sig_caught & bit != 0;
        let kind = if caught {
            SIG_HANDLER
        } else if snapshot.sig_ignored & bit != 0 {
            SIG_IGNORE
        } else {
            continue;
        };
        if signo == 9 || signo == 19 {
            continue;
        }
        lower.kept.caught.set(proc, signo, caught);
        let mut step = Step::of(Kind::Sigaction).with(flags::EXTRA);
        step.nr = nr::rt_sigaction;
        lower.emit.put(me, &step.imm(0, u64::from(signo)).imm(1, SA_RESTART).imm(2, 0).aux(kind))?;
    }
    Ok(())
}

/// The two ends of a unix socket pair know each other by inode.
fn find_unix_pairs(lower: &mut Lower<'_>) {
    let source = lower.source;
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
            (lower.world.sock_by_cookie.get(&a).copied(), lower.world.sock_by_cookie.get(&b).copied())
        else {
            continue;
        };
        lower.world.socks[a as usize].partner = Some(b);
        lower.world.socks[b as usize].partner = Some(a);
    }
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

fn socket(lower: &mut Lower<'_>, at: u32, family: u16, kind: u16, protocol: u16) -> Result<(), CompileError> {
    let step =
        extra(nr::socket).imm(0, u64::from(family)).imm(1, u64::from(kind)).imm(2, u64::from(protocol));
    push_new(lower, step, fd_operand(at, false))
}

fn bind(lower: &mut Lower<'_>, making: &Making, at: u32, addr: &SockAddr) -> Result<(), CompileError> {
    if let SockAddr::Inet(inet) = addr {
        let one = lower.emit.data(&1_u32.to_ne_bytes())?;
        let reuse =
            extra(nr::setsockopt).imm(0, u64::from(at)).imm(1, 1).imm(2, 2).arg(3, Sel::Data, one).imm(4, 4);
        lower.emit.put(0, &reuse)?;
        if inet.is_ipv6() && making.v4_ports.contains(&inet.port()) {
            // IPPROTO_IPV6, IPV6_V6ONLY
            let only = extra(nr::setsockopt)
                .imm(0, u64::from(at))
                .imm(1, 41)
                .imm(2, 26)
                .arg(3, Sel::Data, one)
                .imm(4, 4);
            lower.emit.put(0, &only)?;
        }
        if !inet.ip().is_unspecified() {
            lower.peers.addresses.insert(inet.ip());
        }
    }
    if let SockAddr::Unix(path) = addr
        && path.first().is_some_and(|c| *c != b'@' && *c != 0)
    {
        // Its file is there, like all that was there: made again by the bind.
        let path = lower.emit.cstr(path)?;
        let unlink = extra(nr::unlinkat).imm(0, -100_i64 as u64).arg(1, Sel::Data, path).imm(2, 0);
        lower.emit.put(0, &unlink)?;
    }
    let bytes = wire::sockaddr(addr);
    if bytes.len() <= 2 {
        return Ok(());
    }
    let blob = lower.emit.data(&bytes)?;
    let step = extra(nr::bind).imm(0, u64::from(at)).arg(1, Sel::Data, blob).imm(2, bytes.len() as u64);
    lower.emit.put(0, &step.expect(Expect::Exact, 0))?;
    Ok(())
}

/// Ports on which sockets of IPv4 listen: one of IPv6 at the same port has to be for IPv6 only.
fn v4_ports(lower: &Lower<'_>) -> FxHashSet<u16> {
    let listening = lower.world.socks.iter().filter(|s| s.state == SockState::Listening && s.family == 2);
    listening
        .filter_map(|s| match s.local {
            Some(SockAddr::Inet(at)) => Some(at.port()),
            _ => None,
        })
        .collect()
}

fn open_socket(
    lower: &mut Lower<'_>,
    sock: SockIx,
    at: u32,
    making: &mut Making,
    nonblocking: bool,
) -> Result<(), CompileError> {
    let state = lower.world.socks[sock as usize].clone();
    let connected = state.state == SockState::Connected;
    if state.family == 1 && (connected || state.partner.is_some()) {
        if let Some(partner) = state.partner {
            let other = making.number();
            making.made.insert(Thing::Socket(partner), other);
            let step = extra(nr::socketpair)
                .imm(0, 1)
                .imm(1, u64::from(state.kind))
                .imm(2, 0)
                .arg(3, Sel::Out, 8)
                .expect(Expect::Exact, 0)
                .post(Post::Fds, fds_operand(at, other, 3, false));
            lower.emit.put(0, &step)?;
        } else {
            let id = 0x4000_0000 | sock;
            feeder(lower, sock, id, false)?;
            let kind = PreopenedKind::Socket { id, end: 0, kind: state.kind };
            lower.surroundings.preopen(at as i32, kind);
        }
        return nonblock(lower, at, nonblocking, false);
    }
    let tcp = state.kind == 1 && matches!(state.local, Some(SockAddr::Inet(_)));
    if connected && tcp {
        let (Some(local), Some(peer)) = (state.local.clone(), state.peer.clone()) else { return Ok(()) };
        connection(lower, sock, at, making, &local, &peer, state.partner)?;
        return nonblock(lower, at, nonblocking, false);
    }
    if netlink::is(&state) {
        socket(lower, at, state.family, state.kind, netlink::PROTOCOL)?;
        let own = netlink::own(sock);
        bind(lower, making, at, &own)?;
        lower.kept.sockets.give(sock, own);
        return nonblock(lower, at, nonblocking, false);
    }
    if state.state == SockState::Listening {
        return listening_socket(lower, making, sock, at, nonblocking);
    }
    socket(lower, at, state.family, state.kind, state.protocol)?;
    let shared = lower.model().shares_its_address(sock);
    if shared {
        let step = share_address(&mut lower.emit, u64::from(at))?;
        lower.emit.put(0, &step.with(flags::EXTRA))?;
    }
    if let Some(local) = &state.local {
        bind(lower, making, at, local)?;
    }
    if shared {
        let step = choose_by_place(&mut lower.emit, u64::from(at))?;
        lower.emit.put(0, &step.with(flags::EXTRA))?;
    }
    if state.kind == 2
        && let Some(peer) = &state.peer
    {
        let family = family_of(peer);
        let whose = (sock, state.local.as_ref());
        lower.peers.datagram(&mut lower.emit, whose, Some(peer), family, 0, false)?;
        let bytes = wire::sockaddr(peer);
        let blob = lower.emit.data(&bytes)?;
        lower.emit.put(
            0,
            &extra(nr::connect).imm(0, u64::from(at)).arg(1, Sel::Data, blob).imm(2, bytes.len() as u64),
        )?;
    }
    nonblock(lower, at, nonblocking, false)
}

/// A socket that listens already.
fn listening_socket(
    lower: &mut Lower<'_>,
    making: &Making,
    sock: SockIx,
    at: u32,
    nonblocking: bool,
) -> Result<(), CompileError> {
    let state = lower.world.socks[sock as usize].clone();
    socket(lower, at, state.family, state.kind, state.protocol)?;
    let shared = lower.model().shares_its_address(sock);
    if shared {
        let step = share_address(&mut lower.emit, u64::from(at))?;
        lower.emit.put(0, &step.with(flags::EXTRA))?;
    }
    if let Some(local) = &state.local {
        bind(lower, making, at, local)?;
    }
    lower.emit.put(0, &extra(nr::listen).imm(0, u64::from(at)).imm(1, 4096).expect(Expect::Exact, 0))?;
    if shared {
        let step = choose_by_place(&mut lower.emit, u64::from(at))?;
        lower.emit.put(0, &step.with(flags::EXTRA))?;
    }
    nonblock(lower, at, nonblocking, false)
}

/// An established TCP connection: the workload's end connects to a listener that exists for this one only.
fn connection(
    lower: &mut Lower<'_>,
    sock: SockIx,
    at: u32,
    making: &mut Making,
    local: &SockAddr,
    peer: &SockAddr,
    partner: Option<SockIx>,
) -> Result<(), CompileError> {
    let family = lower.world.socks[sock as usize].family;
    let bytes = wire::sockaddr(peer);
    let blob = lower.emit.data(&bytes)?;
    let connect = extra(nr::connect)
        .imm(0, u64::from(at))
        .arg(1, Sel::Data, blob)
        .imm(2, bytes.len() as u64)
        .expect(Expect::Exact, 0);
    if let Some(partner) = partner {
        let (listener, other) = (making.number(), making.number());
        socket(lower, listener, family, 1, 0)?;
        bind(lower, making, listener, peer)?;
        lower.emit.put(0, &extra(nr::listen).imm(0, u64::from(listener)).imm(1, 1))?;
        socket(lower, at, family, 1, 0)?;
        bind(lower, making, at, local)?;
        lower.emit.put(0, &connect)?;
        let accept = extra(nr::accept4).imm(0, u64::from(listener)).imm(1, 0).imm(2, 0).imm(3, 0);
        push_new(lower, accept, fd_operand(other, false))?;
        lower.emit.put(0, &extra(nr::close).imm(0, u64::from(listener)))?;
        making.made.insert(Thing::Socket(partner), other);
        return Ok(());
    }
    let client = lower.world.listener(local).is_some();
    let peer = reachable(peer.clone());
    let ready = lower.peers.established(&mut lower.emit, sock, &peer, client)?;
    socket(lower, at, family, 1, 0)?;
    bind(lower, making, at, local)?;
    let mut waits: Vec<Wait> = Vec::new();
    lower.emit.wait(0, EdgeKind::Connection, ready, &mut waits);
    let step = lower.emit.put_after(0, &connect, &waits)?;
    lower.peers.established_accept(&mut lower.emit, sock, Wait::entered(0, step))
}
