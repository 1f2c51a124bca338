//! The passes that only look: what has to be known about the whole recording before the first step can be written.

use super::CompileError;
use super::budget::Budget;
use super::calls::Sc;
use super::datagrams::Datagrams;
use super::fsmodel::{FsModel, Paths};
use super::futexes::{Matcher, Unmatched, Word};
use super::links::{Links, Observed};
use super::source::Source;
use super::told::Told;
use super::world::{self, OfdKind, Origin, Seed, StreamKey, TaskIx, World, canonical};
use ctrace_format::{ConnectionKind, Event, Object, ProcessKind, SockAddr, Syscall, SyscallFlags, TcpState};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::net::IpAddr;

/// What the passes found.
pub(crate) struct Facts {
    /// For the writing pass's world.
    pub(crate) seed: Seed,
    pub(crate) paths: Paths,
    pub(crate) fs: FsModel,
    /// By socket index: the other end is inside, too.
    pub(crate) inside: Vec<bool>,
    pub(crate) futexes: Unmatched,
    /// Outbound addresses: what the first connect to each came to (whether somebody listened).
    pub(crate) first_connect: FxHashMap<SockAddr, bool>,
    /// Addresses that some connect reached.
    pub(crate) reached: FxHashSet<SockAddr>,
    /// By pipe index: held by the workload on both ends at some time.
    pub(crate) pipes_inside: Vec<bool>,
    /// Words of thread ids that the kernel clears at exit, by word: tasks.
    pub(crate) tid_words: FxHashMap<Word, Vec<TaskIx>>,
    /// Processes from the snapshot whose descriptors the workload used.
    pub(crate) unknown_fds: u64,
    /// All tasks, in the order in which every pass finds them.
    pub(crate) tasks: Vec<TaskFact>,
    /// Sockets whose connect was refused after it had begun, by cookie.
    pub(crate) refused: FxHashSet<u64>,
    /// Sockets that received a reset, by cookie.
    pub(crate) reset: FxHashSet<u64>,
    /// Address of each socket, as last known: what a bind to any port came to.
    pub(crate) locals: Vec<Option<SockAddr>>,
    /// When the other end said that it sends no more, by cookie.
    pub(crate) fin: FxHashMap<u64, u64>,
    /// When connections came about, by cookie.
    pub(crate) established: FxHashMap<u64, u64>,
    /// Accepts that ended before one that had taken an earlier connection did: whom they come after. Task and number of its
    /// call.
    pub(crate) overtaken: FxHashMap<(TaskIx, u32), (TaskIx, u32)>,
    /// Those whom they come after.
    pub(crate) overtaking: FxHashSet<(TaskIx, u32)>,
    /// Links of the file system.
    pub(crate) links: Links,
    /// Writes that blocked, by the end of the stream that they were made to: when they began and returned, in order of
    /// their returns.
    pub(crate) blocked_writes: FxHashMap<StreamKey, Vec<(u64, u64)>>,
    /// First tasks of the processes that a signal ended.
    pub(crate) killed: FxHashSet<TaskIx>,
    /// Datagrams from inside.
    pub(crate) datagrams: Datagrams,
    /// What calls did that only what followed tells.
    pub(crate) told: Told,
}

/// An accept, as far as its place among others matters.
#[derive(Debug, Clone, Copy)]
struct Accepted {
    established_ns: u64,
    task: TaskIx,
    seq: u32,
    end_ns: u64,
}

/// Addresses of the recorded host that are kept.
const OWN_IPS: usize = 4096;
/// Accepts that are kept of one listener.
const ACCEPTED: usize = 32;

/// A task, before the program is written.
#[derive(Debug, Clone)]
pub(crate) struct TaskFact {
    pub(crate) tid: u32,
    pub(crate) tgid: u32,
    pub(crate) parent: Option<TaskIx>,
    pub(crate) leader: TaskIx,
    pub(crate) origin: Origin,
    pub(crate) start_ns: u64,
    pub(crate) comm: Vec<u8>,
}

/// Whether the event counts as a call of the workload.
pub(crate) fn is_work(call: &Syscall) -> bool {
    !call.flags.contains(SyscallFlags::ENGINE) && !call.flags.contains(SyscallFlags::NO_ENTER)
}

/// The word that a futex call is about.
pub(crate) fn futex_word(world: &World, task: TaskIx, addr: u64, private: bool) -> Word {
    // Words in shared memory are told apart by address only: processes that share them map them where they like, but
    // mostly they are forks of one another.
    let space = if private { world.tasks[task as usize].proc } else { u32::MAX };
    (space, addr)
}

/// Operation of a futex call, without its modifiers, and whether it is private to the address space.
pub(crate) fn futex_op(call: &Syscall) -> (u64, bool) {
    (call.args[1] & 0x7f, call.args[1] & 0x80 != 0)
}

/// Looks at the whole recording.
pub(crate) fn gather(source: &dyn Source) -> Result<Facts, CompileError> {
    let seed = discover(source)?;
    let budget = Budget::of(source);
    let mut world = World::new(budget, seed, Paths::default(), FsModel::default());
    world.enter_snapshot(source)?;
    let mut matcher = Matcher::default();
    let mut first_connect = FxHashMap::default();
    let mut tid_words: FxHashMap<Word, Vec<TaskIx>> = FxHashMap::default();
    let mut inside: FxHashSet<u32> = FxHashSet::default();
    let mut refused = FxHashSet::default();
    let mut reset = FxHashSet::default();
    let mut fin = FxHashMap::default();
    let mut established: FxHashMap<u64, u64> = FxHashMap::default();
    let mut accepted: FxHashMap<u32, VecDeque<Accepted>> = FxHashMap::default();
    let mut overtaken = FxHashMap::default();
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut killed = FxHashSet::default();
    let mut told = Told::default();
    let mut reached = FxHashSet::default();
    let mut datagrams = Datagrams::default();
    let mut blocked_writes: FxHashMap<StreamKey, Vec<(u64, u64)>> = FxHashMap::default();
    source.for_each(&mut |event| {
        if let Event::Process(process) = event
            && let ProcessKind::Exit { status, group_dead: true } = process.kind
            && status & 0x7f != 0
        {
            let task = world.task_of(source, process.task)?;
            let proc = world.tasks[task as usize].proc;
            killed.insert(world.procs[proc as usize].first);
        }
        if let Event::Connection(c) = event {
            let all = [reset.len(), fin.len(), established.len()];
            budget.things("connections", all.into_iter().max().unwrap_or(0))?;
            match c.kind {
                ConnectionKind::ResetReceived => {
                    reset.insert(c.cookie.0);
                }
                ConnectionKind::State { old: TcpState::Established, new: TcpState::CloseWait, .. } => {
                    fin.insert(c.cookie.0, c.t_ns);
                }
                ConnectionKind::State { new: TcpState::Established, .. } if c.cookie.0 != 0 => {
                    established.insert(c.cookie.0, c.t_ns);
                }
                _ => {}
            }
        }
        if let Event::Connection(c) = event
            && let ConnectionKind::State { old: TcpState::SynSent, new: TcpState::Close, error: 111 } = c.kind
        {
            refused.insert(c.cookie.0);
        }
        if let Event::Signal(signal) = event {
            world.task_of(source, signal.task)?;
        }
        let Event::Syscall(call) = event else { return world.apply_other(source, event) };
        let task = world.task_of(source, call.task)?;
        if names.len() <= task as usize {
            names.resize(task as usize + 1, Vec::new());
        }
        if names[task as usize].is_empty() {
            names[task as usize].clone_from(&world.tasks[task as usize].comm);
        }
        if !is_work(call) {
            return Ok(());
        }
        let known = world.calls.get(call.sysno);
        let seq = world.tasks[task as usize].ops;
        match known.sc {
            Sc::Futex if !call.flags.contains(SyscallFlags::NO_EXIT) => {
                let (op, private) = futex_op(call);
                let word = futex_word(&world, task, call.args[0], private);
                budget.things("futex words", matcher.words())?;
                match (op, call.ret) {
                    (0 | 9, 0) => matcher.waited(word, task, seq, call.t_ns, event.end_ns()),
                    (1 | 10 | 3 | 4 | 5, n) if n > 0 => {
                        matcher.woke(word, call.t_ns, event.end_ns(), n as u64);
                    }
                    _ => {}
                }
            }
            Sc::Clone | Sc::Clone3 if call.ret > 0 => {
                if let Some((flags, _, child_tid)) = clone_operands(call, known.sc)
                    && flags & CLONE_CHILD_CLEARTID != 0
                    && child_tid != 0
                    && let Some(child) = world.child_of_clone(task, call.ret)
                {
                    let word = futex_word(&world, task, child_tid, true);
                    tid_words.entry(word).or_default().push(child);
                    let word = futex_word(&world, task, child_tid, false);
                    tid_words.entry(word).or_default().push(child);
                }
            }
            Sc::Accept | Sc::Accept4 if call.ret >= 0 => {
                // Connections are taken in the order in which they came about, by calls that may take long to return.
                let cookie = world.cookie_of(source, call.object);
                if let Some(listener) = world.sock_of(task, call.args[0] as i32)
                    && let Some(&established_ns) = established.get(&cookie)
                {
                    let others = accepted.entry(listener).or_default();
                    let next = others
                        .iter()
                        .filter(|o| {
                            o.task != task && o.established_ns > established_ns && o.end_ns > call.t_ns
                        })
                        .min_by_key(|o| o.established_ns);
                    if let Some(next) = next {
                        overtaken.insert((next.task, next.seq), (task, seq));
                    }
                    if others.len() >= ACCEPTED {
                        others.pop_front();
                    }
                    others.push_back(Accepted { established_ns, task, seq, end_ns: event.end_ns() });
                }
            }
            Sc::Connect => {
                if let Some(addr) = world::detail_addr(call, 1) {
                    let refused = call.ret == -111 || call.ret == -2;
                    let addr = world.absolute(task, addr);
                    if call.ret >= 0 {
                        reached.insert(canonical(&addr));
                    }
                    if world.listener(&addr).is_none() {
                        first_connect.entry(canonical(&addr)).or_insert(!refused);
                    }
                }
            }
            _ => {}
        }
        if call.ret > 0
            && call.duration_ns >= world::BLOCKED_NS
            && matches!(known.sc, Sc::Write | Sc::Writev | Sc::Sendto | Sc::Sendmsg)
            && let Some(ofd) = world.ofd_of(task, call.args[0] as i32)
        {
            let end = match world.ofds[ofd as usize].kind {
                OfdKind::Pipe { pipe, write: true } => Some(StreamKey::Pipe(pipe)),
                OfdKind::Sock(sock) => Some(StreamKey::Sock(sock)),
                _ => None,
            };
            if let Some(end) = end {
                blocked_writes.entry(end).or_default().push((call.t_ns, event.end_ns()));
            }
        }
        if !call.flags.contains(SyscallFlags::NO_EXIT) {
            datagrams.note(&mut world, budget, task, call, known.sc)?;
        }
        told.call(&world, budget, task, call, &known)?;
        world.apply_call(source, task, call, &known)?;
        told.applied(&world, task, call, &known);
        for (ix, sock) in world.newly_paired() {
            inside.insert(ix);
            inside.insert(sock);
        }
        Ok(())
    })?;
    let pipes_inside = world.pipes.iter().map(|p| p.readers && p.writers).collect();
    let count = world.socks.len();
    let tasks = world
        .tasks
        .iter()
        .enumerate()
        .map(|(i, t)| TaskFact {
            tid: t.tid,
            tgid: world.procs[t.proc as usize].tgid,
            parent: t.parent,
            leader: world.procs[t.proc as usize].first,
            origin: t.origin,
            start_ns: t.start_ns,
            comm: names.get(i).filter(|n| !n.is_empty()).unwrap_or(&t.comm).clone(),
        })
        .collect();
    let unknown_fds = world.unknown_fds;
    let locals = world.socks.iter().map(|s| s.local.clone()).collect();
    let (paths, fs, seed) = world.into_parts();
    let links = seed.links.clone();
    Ok(Facts {
        seed,
        paths,
        fs,
        inside: (0..count as u32).map(|i| inside.contains(&i)).collect(),
        futexes: matcher.finish(),
        first_connect,
        pipes_inside,
        tid_words,
        unknown_fds,
        tasks,
        refused,
        locals,
        reset,
        fin,
        established,
        overtaking: overtaken.values().copied().collect(),
        overtaken,
        links,
        blocked_writes,
        reached,
        killed,
        datagrams,
        told,
    })
}

/// Finds the descriptors that were there before the first call, the flags of clones and the addresses of connections.
fn discover(source: &dyn Source) -> Result<Seed, CompileError> {
    let mut tuples = FxHashMap::default();
    let mut links = Observed::default();
    let mut own_ips: FxHashSet<IpAddr> = FxHashSet::default();
    let mut own = |addr: &SockAddr| {
        if let SockAddr::Inet(at) = canonical(addr)
            && !at.ip().is_unspecified()
            && !at.ip().is_loopback()
            && own_ips.len() < OWN_IPS
        {
            own_ips.insert(at.ip());
        }
    };
    let mut cwd: Option<Vec<u8>> = None;
    let mut moved = false;
    let mut clone_flags: FxHashMap<u32, Vec<(u64, u64)>> = FxHashMap::default();
    let budget = Budget::of(source);
    let mut world = World::new(budget, Seed::default(), Paths::default(), FsModel::default());
    world.enter_snapshot(source)?;
    source.for_each(&mut |event| {
        match event {
            Event::Connection(connection) => {
                own(&connection.local);
                let established =
                    matches!(connection.kind, ConnectionKind::State { new: TcpState::Established, .. });
                if connection.cookie.0 != 0 && established {
                    budget.things("connections", tuples.len())?;
                    tuples.insert(connection.cookie.0, (connection.local.clone(), connection.peer.clone()));
                }
            }
            Event::Signal(signal) => {
                world.task_of(source, signal.task)?;
            }
            Event::Syscall(call) => {
                let task = world.task_of(source, call.task)?;
                if !is_work(call) {
                    return Ok(());
                }
                let known = world.calls.get(call.sysno);
                let asked = if known.sc == Sc::Getsockname { world::detail_addr(call, 1) } else { None };
                if let Some(addr) = world::detail_local(call).or(asked) {
                    own(addr);
                }
                if matches!(known.sc, Sc::Clone | Sc::Clone3)
                    && call.ret > 0
                    && let Some((flags, ..)) = clone_operands(call, known.sc)
                {
                    let child = world.child_of_clone(task, call.ret);
                    let tid = child.map_or(call.ret as u32, |c| world.tasks[c as usize].tid);
                    clone_flags.entry(tid).or_default().push((event.end_ns(), flags));
                }
                moved |= known.sc == Sc::Fchdir && call.ret == 0;
                moved |= known.sc == Sc::Chdir
                    && call.ret == 0
                    && world::detail_str(call, 0).is_none_or(|t| source.str(t).first() == Some(&b'/'));
                if !moved
                    && cwd.is_none()
                    && call.ret >= 0
                    && (known.sc == Sc::Open
                        || known.sc == Sc::Openat && call.args[0] as i32 == world::AT_FDCWD)
                    && let Some(Object::File { path: found, .. }) = call.object.map(|o| source.object(o))
                    && world::is_whole(source.str(*found))
                    && let arg = u8::from(known.sc == Sc::Openat)
                    && world::detail_str(call, arg).is_some_and(|t| source.str(t).first() != Some(&b'/'))
                    && let Some(target) = world.target(source, task, call, arg, None)
                {
                    cwd = started_in(world.paths.get(target.path), source.str(*found));
                }
                if matches!(known.sc, Sc::Open | Sc::Openat | Sc::Openat2)
                    && call.ret >= 0
                    && world::detail_str(call, u8::from(known.sc != Sc::Open))
                        .is_some_and(|t| source.str(t).first() == Some(&b'/'))
                    && let Some(Object::File { path: found, .. }) = call.object.map(|o| source.object(o))
                    && world::is_whole(source.str(*found))
                {
                    let at = known.sc != Sc::Open;
                    let dirfd = at.then_some(call.args[0] as i32);
                    if let Some(target) = world.target(source, task, call, u8::from(at), dirfd) {
                        links.observe(world.paths.get(target.path), source.str(*found));
                    }
                }
                world.apply_call(source, task, call, &known)?;
                world.newly_paired();
            }
            _ => world.apply_other(source, event)?,
        }
        Ok(())
    })?;
    let fd_limit = world.told_fd_limit;
    let links = links.solve();
    Ok(Seed { inherited: world.discovered, clone_flags, tuples, links, own_ips, cwd, fd_limit })
}

/// Where a process began, as far as one call tells it: `path` is where a relative path leads from a working directory of
/// `/`, and `found` where it did lead.
fn started_in(path: &[u8], found: &[u8]) -> Option<Vec<u8>> {
    if path == b"/" {
        return Some(found.to_vec());
    }
    let base = found.strip_suffix(path)?;
    Some(if base.is_empty() { b"/".to_vec() } else { base.to_vec() })
}

/// Exit signal of a process.
const SIGCHLD: u64 = 0x11;
pub(crate) const CLONE_VM: u64 = 0x100;
pub(crate) const CLONE_VFORK: u64 = 0x4000;
pub(crate) const CLONE_THREAD: u64 = 0x1_0000;
pub(crate) const CLONE_PARENT_SETTID: u64 = 0x10_0000;
pub(crate) const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
pub(crate) const CLONE_CHILD_SETTID: u64 = 0x100_0000;

/// Flags (with the exit signal in the low byte), and the recorded parent-tid and child-tid addresses of a clone.
pub(crate) fn clone_operands(call: &Syscall, sc: Sc) -> Option<(u64, u64, u64)> {
    match sc {
        Sc::Clone => {
            let child = if cfg!(target_arch = "aarch64") { call.args[4] } else { call.args[3] };
            Some((call.args[0], call.args[2], child))
        }
        Sc::Clone3 => match world::detail_bytes(call, 0) {
            // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, …
            Some(args) => Some((
                world::le_u64(args, 0) | (world::le_u64(args, 32) & 0xff),
                world::le_u64(args, 24),
                world::le_u64(args, 16),
            )),
            None => world::detail_value(call, 0).map(|flags| (flags, 0, 0)),
        },
        Sc::Fork => Some((SIGCHLD, 0, 0)),
        Sc::Vfork => Some((CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0)),
        _ => None,
    }
}
