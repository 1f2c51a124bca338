//! The passes that only look: what has to be known about the whole recording before the first step can be written.

use super::CompileError;
use super::arrivals::{Arrivals, CallId, Observed as Arriving, Span};
use super::budget::Budget;
use super::calls::Sc;
use super::connects::Connects;
use super::datagrams::Datagrams;
use super::firsts::Firsts;
use super::fsmodel::FsModel;
use super::futexes::{ANY, Joins, Matcher, SHARED, Sleep, Wakes, Waking, Word};
use super::links::{Links, Observed};
use super::model::Cx;
use super::overlaps::Finder;
use super::paths::Paths;
use super::pools::Pools;
use super::refusals::Refusals;
use super::source::Source;
use super::terminals::Terminals;
use super::told::Told;
use super::tracing::Tracing;
use super::world::groups::Shared;
use super::world::{self, OfdKind, Origin, Seed, SockIx, StreamKey, TaskIx, World, canonical};
use ctrace_analysis::edits::{is_of_a_fault, strike};
use ctrace_analysis::fds::{Effect, TableId, clone_flags, effects};
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
    pub(crate) futexes: Wakes,
    /// What became of attempts to connect.
    pub(crate) connects: Connects,
    /// Addresses that some connect reached.
    pub(crate) reached: FxHashSet<SockAddr>,
    /// By pipe index: held by the workload on both ends at some time.
    pub(crate) pipes_inside: Vec<bool>,
    /// Threads whose end another waits for.
    pub(crate) joins: Joins,
    /// Processes from the snapshot whose descriptors the workload used.
    pub(crate) unknown_fds: u64,
    /// All tasks, in the order in which every pass finds them.
    pub(crate) tasks: Vec<TaskFact>,
    /// Datagrams that nobody took.
    pub(crate) refusals: Refusals,
    /// The first bytes that came to each connection.
    pub(crate) firsts: Firsts,
    /// Sockets that received a reset, by cookie: when.
    pub(crate) reset: FxHashMap<u64, u64>,
    /// Sockets that received a reset while somebody inside closed the other end, by cookie: the task, and when its close began.
    pub(crate) reset_by: FxHashMap<u64, (TaskIx, u64)>,
    /// Sockets that received a reset instead of an acknowledgement of their end, by cookie: how many bytes had come to them
    /// in all.
    pub(crate) unheard: FxHashMap<u64, u64>,
    /// Sockets that sent or received a reset, by cookie: how many bytes had come to them in all; 0: not known.
    pub(crate) cut_off: FxHashMap<u64, u64>,
    /// Address of each socket, as last known: what a bind to any port came to.
    pub(crate) locals: Vec<Option<SockAddr>>,
    /// When the other end said that it sends no more, by cookie.
    pub(crate) fin: FxHashMap<u64, Fin>,
    /// Who accepted which connection, in which order they came, and who was told of them.
    pub(crate) arrivals: Arrivals,
    /// By socket of those who connected to somebody inside: the socket that was accepted.
    pub(crate) accepted_as: FxHashMap<SockIx, SockIx>,
    /// Calls that made a descriptor of a number that was being closed: the close, which returned later.
    pub(crate) closed_by_then: FxHashMap<CallId, CallId>,
    /// The closes of such numbers.
    pub(crate) closed_late: FxHashSet<CallId>,
    /// Calls that got a number whose descriptor was closed by a call that was not seen: before its task was attached to,
    /// mostly.
    pub(crate) closed_unseen: FxHashSet<CallId>,
    /// Tables of descriptors that tasks share, and in which accepts wait: the highest number that a call made there.
    pub(crate) held_numbers: FxHashMap<TableId, i32>,
    /// Addresses that several sockets had together.
    pub(crate) shared_addresses: FxHashSet<Shared>,
    /// Links of the file system.
    pub(crate) links: Links,
    /// Writes that blocked, by the end of the stream that they were made to: when they began and returned, in order of
    /// their returns.
    pub(crate) blocked_writes: FxHashMap<StreamKey, Vec<(u64, u64)>>,
    /// First tasks of the processes that a signal ended.
    pub(crate) killed: FxHashSet<TaskIx>,
    /// Accepts that were under way when the recording began, and the numbers they had taken: by table of descriptors.
    pub(crate) early_accepts: FxHashMap<TableId, Vec<(i32, TaskIx)>>,
    /// Datagrams from inside.
    pub(crate) datagrams: Datagrams,
    /// What calls did that only what followed tells.
    pub(crate) told: Told,
    pub(crate) terminals: Terminals,
    /// Tracers, and the tasks that they trace.
    pub(crate) tracing: Tracing,
    /// Epoll instances that several tasks use.
    pub(crate) pools: Pools,
}

/// Addresses of the recorded host that are kept.
const OWN_IPS: usize = 4096;

/// The other end of a connection sends no more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fin {
    /// When that came.
    pub(crate) at_ns: u64,
    /// Bytes that the workload had sent by then, where it sent more later. An end that was closed had read all that had come:
    /// else it would have been reset at once (`__tcp_close`, net/ipv4/tcp.c).
    pub(crate) read: Option<u64>,
}

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

/// Whether a call was made by the engine of a replay, and is of no interest to another one. Those of faults are made again.
pub(crate) fn is_engines(call: &Syscall) -> bool {
    call.flags.contains(SyscallFlags::ENGINE) && !is_of_a_fault(call)
}

/// Whether the event counts as a call of the workload.
pub(crate) fn is_work(call: &Syscall) -> bool {
    !is_engines(call) && !call.flags.contains(SyscallFlags::NO_ENTER) && strike(call).is_none()
}

/// Whether a fault answered the call: what it says tells nothing of the state of things, and it changed nothing.
pub(crate) fn is_injected(call: &Syscall) -> bool {
    call.flags.contains(SyscallFlags::INJECTED.union(SyscallFlags::FILTERED))
}

/// The word that a futex call is about.
pub(crate) fn futex_word(world: &World, task: TaskIx, addr: u64, private: bool) -> Word {
    // Words in shared memory are told apart by address only: processes that share them map them where they like, but
    // mostly they are forks of one another.
    let space = if private { world.tasks[task as usize].proc } else { SHARED };
    (space, addr)
}

/// Operation of a futex call, without its modifiers, and whether it is private to the address space.
pub(crate) fn futex_op(call: &Syscall) -> (u64, bool) {
    (call.args[1] & 0x7f, call.args[1] & 0x80 != 0)
}

/// Operations of futex calls (include/uapi/linux/futex.h).
pub(crate) mod futex_ops {
    pub(crate) const WAIT: u64 = 0;
    pub(crate) const WAKE: u64 = 1;
    pub(crate) const REQUEUE: u64 = 3;
    pub(crate) const CMP_REQUEUE: u64 = 4;
    pub(crate) const WAKE_OP: u64 = 5;
    pub(crate) const WAIT_BITSET: u64 = 9;
    pub(crate) const WAKE_BITSET: u64 = 10;
    /// Modifiers.
    pub(crate) const PRIVATE: u64 = 0x80;
    pub(crate) const CLOCK_REALTIME: u64 = 0x100;
}

/// Tells the matcher of a futex call.
fn futex(matcher: &mut Matcher, world: &World, task: TaskIx, call: &Syscall, end_ns: u64) {
    let (op, private) = futex_op(call);
    let word = futex_word(world, task, call.args[0], private);
    let seq = world.tasks[task as usize].ops;
    let start_ns = call.t_ns;
    let mask = match op {
        futex_ops::WAIT_BITSET | futex_ops::WAKE_BITSET if call.args[5] as u32 != 0 => call.args[5] as u32,
        _ => ANY,
    };
    let unfinished = call.flags.contains(SyscallFlags::NO_EXIT);
    let woken = u32::try_from(call.ret).unwrap_or(0);
    let other = futex_word(world, task, call.args[4], private);
    let waking = Waking { task, seq, word, mask, start_ns, end_ns, woken, other: None };
    match op {
        futex_ops::WAIT | futex_ops::WAIT_BITSET if unfinished || call.ret == 0 => {
            let sleep = Sleep { task, seq, word, mask, start_ns, end_ns };
            if unfinished { matcher.stayed(&sleep) } else { matcher.waited(sleep) }
        }
        futex_ops::WAKE | futex_ops::WAKE_BITSET if woken > 0 && !unfinished => matcher.woke(waking),
        futex_ops::REQUEUE | futex_ops::CMP_REQUEUE if woken > 0 && !unfinished => {
            // The result counts both: those that it woke came first.
            let ended = woken.min(call.args[2] as u32);
            matcher.woke(Waking { woken: ended, other: Some((other, Some(woken - ended))), ..waking });
        }
        futex_ops::WAKE_OP if woken > 0 && !unfinished => {
            matcher.woke(Waking { other: Some((other, None)), ..waking });
        }
        _ => {}
    }
}

/// So much a socket sends before anything of it is acknowledged (`TCP_INIT_CWND`, include/net/tcp.h, of segments that are
/// smaller nowhere).
const UNHEARD_BYTES: u64 = 10 * 536;

/// Looks at the whole recording.
pub(crate) fn gather(source: &dyn Source) -> Result<Facts, CompileError> {
    let seed = discover(source)?;
    let budget = Budget::of(source);
    let mut world = World::new(budget, seed, Paths::default(), FsModel::default());
    world.enter_snapshot(source)?;
    let mut matcher = Matcher::default();
    let mut connects = Connects::default();
    let mut tid_words: FxHashMap<Word, Vec<TaskIx>> = FxHashMap::default();
    let mut inside: FxHashSet<u32> = FxHashSet::default();
    let mut reset = FxHashMap::default();
    let (mut reset_by, mut sent_reset) = (FxHashMap::default(), FxHashMap::default());
    let mut unheard = FxHashMap::default();
    let mut firsts = Firsts::default();
    let mut cut_off: FxHashMap<u64, u64> = FxHashMap::default();
    let mut refusals = Refusals::default();
    let mut fin: FxHashMap<u64, (u64, Option<(SockIx, u64)>)> = FxHashMap::default();
    let mut arriving = Arriving::default();
    let mut accepted_as = FxHashMap::default();
    // The last connect of each socket.
    let mut connecting = FxHashMap::default();
    // By table and number: who made it while another was there still, and when that returned.
    let mut reused: FxHashMap<(TableId, i32), VecDeque<(CallId, u64)>> = FxHashMap::default();
    let mut closed_by_then = FxHashMap::default();
    let mut closed_unseen = FxHashSet::default();
    let mut held_numbers: FxHashSet<TableId> = FxHashSet::default();
    // By table: the highest number that a call made.
    let mut highest: FxHashMap<TableId, i32> = FxHashMap::default();
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut killed = FxHashSet::default();
    let mut early_accepts: FxHashMap<TableId, Vec<(i32, TaskIx)>> = FxHashMap::default();
    let (mut told, mut terminals) = (Told::default(), Terminals::default());
    let mut tracing = Tracing::default();
    let mut pools = Pools::default();
    let mut named: FxHashMap<CallId, TaskIx> = FxHashMap::default();
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
        connects.observe(source, event);
        if let Event::Connection(c) = event {
            let all = [reset.len(), cut_off.len(), fin.len(), connects.len()];
            budget.things("connections", all.into_iter().max().unwrap_or(0))?;
            match c.kind {
                ConnectionKind::ResetReceived => {
                    reset.entry(c.cookie.0).or_insert(c.t_ns);
                    cut_off.entry(c.cookie.0).or_insert(0);
                }
                // A listener, which has no peer, answers with a reset what belongs to no connection.
                ConnectionKind::ResetSent
                    if c.cookie.0 != 0 && !matches!(&c.peer, SockAddr::Inet(peer) if peer.port() == 0) =>
                {
                    cut_off.entry(c.cookie.0).or_insert(0);
                    sent_reset.insert(c.cookie.0, c.t_ns);
                }
                ConnectionKind::Closed { bytes_received, bytes_sent, .. } => {
                    // Bytes that were sent, and not acknowledged, did not keep them from sending more.
                    if let Some(bytes) = unheard.get_mut(&c.cookie.0)
                        && bytes_sent <= UNHEARD_BYTES
                    {
                        *bytes = bytes_received;
                    }
                    // The kernel counts from the connection's begin: if the recording did not see that, nobody knows how much of
                    // it was read before.
                    if connects.established.contains_key(&c.cookie.0)
                        && let Some(bytes) = cut_off.get_mut(&c.cookie.0)
                    {
                        *bytes = bytes_received;
                    }
                }
                ConnectionKind::State { old: TcpState::Established, new: TcpState::CloseWait, .. } => {
                    let sock = world.sock_by_cookie.get(&c.cookie.0).copied();
                    let sent = sock.map(|sock| (sock, world.socks[sock as usize].sent));
                    fin.insert(c.cookie.0, (c.t_ns, sent));
                }
                ConnectionKind::State { old: TcpState::FinWait1, new: TcpState::Close, .. }
                    if reset.contains_key(&c.cookie.0) =>
                {
                    unheard.insert(c.cookie.0, 0);
                }
                _ => connects.changed(c),
            }
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
        if !is_work(call) || is_injected(call) {
            return Ok(());
        }
        world.catch_up(source, task)?;
        let known = world.calls.get(call.sysno);
        // Else its result says nothing.
        let returned = !call.flags.contains(SyscallFlags::NO_EXIT);
        let seq = world.tasks[task as usize].ops;
        match known.sc {
            Sc::Futex => {
                budget.things("futex words", matcher.words())?;
                futex(&mut matcher, &world, task, call, event.end_ns());
                let (op, private) = futex_op(call);
                if matches!(op, futex_ops::WAIT | futex_ops::WAIT_BITSET)
                    && let Some(threads) = tid_words.get(&futex_word(&world, task, call.args[0], private))
                {
                    let is_named =
                        |thread: &&TaskIx| world.tasks[**thread as usize].tid == call.args[2] as u32;
                    named.extend(threads.iter().rfind(is_named).map(|thread| ((task, seq), *thread)));
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
            // It took its number before the recording began.
            Sc::Accept | Sc::Accept4 if returned && call.ret >= 0 && call.t_ns == 0 && seq == 0 => {
                let files = world.procs[world.tasks[task as usize].proc as usize].files;
                early_accepts.entry(files).or_default().push((call.ret as i32, task));
            }
            Sc::Connect => {
                if let Some(addr) = world::detail_addr(call, 1) {
                    let addr = world.absolute(task, addr);
                    if call.ret >= 0 {
                        reached.insert(canonical(&addr));
                    }
                    if world.listener(&addr).is_none() {
                        let sock = world.sock_of(task, call.args[0] as i32);
                        let cookie = sock.map_or(0, |s| world.socks[s as usize].cookie);
                        connects.attempted(call, &addr, cookie);
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
        refusals.saw(&world, task, call, known.sc);
        connects.saw(call);
        budget.things("refused datagrams", refusals.len())?;
        let span = Span { call: (task, seq), start_ns: call.t_ns, end_ns: event.end_ns() };
        let proc = world.tasks[task as usize].proc;
        let files = world.procs[proc as usize].files;
        let cx = Cx { task, proc, call, known, nr: 0, name: "", seq, paths: &[] };
        let made = if returned && call.ret >= 0 { cx.makes() } else { Vec::new() };
        for fd in cx.takes() {
            if world.files_of(task).get(fd).is_some() {
                let reused = reused.entry((files, fd)).or_default();
                if reused.len() >= REUSED {
                    reused.pop_front();
                }
                reused.push_back((span.call, span.end_ns));
                if made == [call.ret as i32] {
                    closed_unseen.insert(span.call);
                }
                budget.things("descriptors closed unseen", closed_unseen.len())?;
            }
        }
        if known.sc == Sc::Close
            && let Some(reused) = reused.get_mut(&(files, call.args[0] as i32))
            // Whoever got it first after this close began; and may have closed it, too, before this close returned.
            && let Some(at) = reused.iter().position(|(made, end_ns)| call.t_ns < *end_ns && made.0 != task)
            && let Some((made, _)) = reused.remove(at)
        {
            closed_by_then.insert(made, span.call);
            closed_unseen.remove(&made);
        }
        if known.sc == Sc::Close
            && let Some(sock) = world.sock_of(task, call.args[0] as i32)
            && let Some(partner) = world.socks[sock as usize].partner
            && let cookie = world.socks[partner as usize].cookie
            // It may get there later than it was sent: when whoever uses the other end is done (`tcp_add_backlog`,
            // net/ipv4/tcp_ipv4.c).
            && [(&reset, cookie), (&sent_reset, world.socks[sock as usize].cookie)].iter().any(|(at, cookie)| {
                at.get(cookie).is_some_and(|at_ns| (span.start_ns..=span.end_ns).contains(at_ns))
            })
        {
            reset_by.insert(cookie, (task, span.start_ns));
        }
        if known.sc == Sc::Connect
            && returned
            && let Some(sock) = world.sock_of(task, call.args[0] as i32)
        {
            connecting.insert(sock, span);
        }
        let accepts = matches!(known.sc, Sc::Accept | Sc::Accept4);
        if let Some(made) = made.into_iter().max() {
            let highest = highest.entry(files).or_insert(0);
            *highest = made.max(*highest);
        }
        if accepts
            && cx.took_number()
            && world.has_shared_files(proc)
            && world.blocks(task, cx.fd(0))
            && held_numbers.insert(files)
        {
            let there = world.files_of(task).slots().from(&0).map(|(fd, _)| *fd).last();
            let highest = highest.entry(files).or_insert(0);
            *highest = there.unwrap_or(0).max(*highest);
        }
        if accepts && call.ret == EAGAIN {
            if let Some(listener) = world.sock_of(task, call.args[0] as i32) {
                arriving.in_vain(listener, span);
            }
        } else if returned && call.ret > 0 {
            for (listener, _) in world.told_of_connections(task, call, known.sc) {
                arriving.told(listener, span);
            }
        }
        if returned {
            datagrams.note(&mut world, budget, task, call, known.sc)?;
            pools.uses(&world, (task, seq), call, known.sc);
            firsts.call(&world, task, call, known.sc);
            budget.things("connections", firsts.len())?;
        }
        told.call(&world, budget, task, call, &known)?;
        terminals.call(&world, budget, (task, world.tasks[task as usize].ops), call, known.sc)?;
        tracing.call(&world, task, call, &known);
        world.apply_call(source, task, call, &known)?;
        told.applied(&world, task, call, &known);
        pools.saw(&world, task, call, known.sc);
        if accepts
            && returned
            && call.ret >= 0
            && let Some(listener) = world.sock_of(task, call.args[0] as i32)
            && let Some(sock) = world.sock_of(task, call.ret as i32)
        {
            let state = &world.socks[sock as usize];
            let at_ns = connects.established.get(&state.cookie).copied();
            let ends = if at_ns.is_none() { state.local.clone().zip(state.peer.clone()) } else { None };
            arriving.accepted(listener, span, sock, state.cookie, at_ns, ends);
        }
        for (ix, sock) in world.newly_paired() {
            inside.insert(ix);
            inside.insert(sock);
            for (client, server) in [(ix, sock), (sock, ix)] {
                if world.socks[server as usize].accepted {
                    accepted_as.insert(client, server);
                }
            }
        }
        Ok(())
    })?;
    connects.saw_all(&world);
    connects.finish();
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
    let pools = pools.finish(world.fd_numbers);
    let locals = world.socks.iter().map(|s| s.local.clone()).collect();
    for sock in &world.socks {
        if let Some(bytes) = cut_off.get_mut(&sock.cookie) {
            // Nothing tells of a connection that is never closed; what was read has come.
            *bytes = (*bytes).max(sock.received);
        }
    }
    let sent_more = |(sock, sent): (SockIx, u64)| (world.socks[sock as usize].sent > sent).then_some(sent);
    let fin = fin
        .into_iter()
        .map(|(cookie, (at_ns, sent))| (cookie, Fin { at_ns, read: sent.and_then(sent_more) }));
    let fin = fin.collect();
    let shared_addresses = world.groups.shared();
    let (paths, fs, seed) = world.into_parts();
    let links = seed.links.clone();
    let futexes = matcher.finish();
    let mut arrivals = arriving.finish();
    arrivals.connected(connecting.iter().filter_map(|(sock, span)| Some((*accepted_as.get(sock)?, *span))));
    Ok(Facts {
        seed,
        paths,
        fs,
        inside: (0..count as u32).map(|i| inside.contains(&i)).collect(),
        joins: Joins::of(&tid_words, &futexes, &named),
        futexes,
        connects,
        pipes_inside,
        unknown_fds,
        tasks,
        refusals,
        locals,
        firsts,
        reset,
        reset_by,
        unheard: unheard.into_iter().filter(|(_, bytes)| *bytes > 0).collect(),
        cut_off,
        fin,
        arrivals,
        accepted_as,
        closed_late: closed_by_then.values().copied().collect(),
        closed_by_then,
        closed_unseen,
        held_numbers: held_numbers
            .into_iter()
            .map(|files| (files, highest.get(&files).copied().unwrap_or(0)))
            .collect(),
        shared_addresses,
        links,
        blocked_writes,
        reached,
        killed,
        early_accepts,
        datagrams,
        told,
        terminals,
        tracing,
        pools,
    })
}

/// Finds what was there before the first call: descriptors and links, the flags of clones and the addresses of connections.
fn discover(source: &dyn Source) -> Result<Seed, CompileError> {
    let mut cwd = source.began_in();
    loop {
        // Once it is known where the recording began, it is looked at again: relative paths told of links before.
        match discover_from(source, cwd)? {
            Discovered::All(seed) => return Ok(*seed),
            Discovered::BeganIn(known) => cwd = Some(known),
        }
    }
}

/// The result of one look at a recording.
enum Discovered {
    All(Box<Seed>),
    /// The directory that the recording began in; the look ended there.
    BeganIn(Vec<u8>),
}

fn discover_from(source: &dyn Source, cwd: Option<Vec<u8>>) -> Result<Discovered, CompileError> {
    let mut tuples = FxHashMap::default();
    let mut late = FxHashSet::default();
    let mut links = Observed::default();
    let mut overlaps = Finder::default();
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
    let mut began_in: Option<Vec<u8>> = None;
    let mut clones: FxHashMap<u32, Vec<(u64, u64)>> = FxHashMap::default();
    let budget = Budget::of(source);
    let seed = Seed { cwd: cwd.clone(), ..Seed::default() };
    let mut world = World::new(budget, seed, Paths::default(), FsModel::default());
    world.enter_snapshot(source)?;
    let looked = source.for_each(&mut |event| {
        match event {
            Event::Connection(connection) => {
                own(&connection.local);
                let established =
                    matches!(connection.kind, ConnectionKind::State { new: TcpState::Established, .. });
                if connection.cookie.0 != 0 && established {
                    budget.things("connections", tuples.len())?;
                    tuples.insert(connection.cookie.0, (connection.local.clone(), connection.peer.clone()));
                }
                world.apply_other(source, event)?;
            }
            Event::Signal(signal) => {
                world.task_of(source, signal.task)?;
            }
            Event::Syscall(call) => {
                let task = world.task_of(source, call.task)?;
                if !is_work(call) || is_injected(call) {
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
                    clones.entry(tid).or_default().push((event.end_ns(), flags));
                }
                if cwd.is_none()
                    && call.ret >= 0
                    && world.fs_of(task).began_here
                    && (known.sc == Sc::Open
                        || known.sc == Sc::Openat && call.args[0] as i32 == world::AT_FDCWD)
                    && let Some(Object::File { path: found, .. }) = call.object.map(|o| source.object(o))
                    && world::is_whole(source.str(*found))
                    && let arg = u8::from(known.sc == Sc::Openat)
                    && world::detail_str(call, arg).is_some_and(|t| source.str(t).first() != Some(&b'/'))
                    && let Some(target) = world.target(source, task, call, arg, None)
                {
                    began_in = started_in(world.paths.get(target.path), source.str(*found));
                    if began_in.is_some() {
                        // Ends this look at the recording.
                        return Err(CompileError::Empty);
                    }
                }
                if matches!(known.sc, Sc::Open | Sc::Openat | Sc::Openat2)
                    && call.ret >= 0
                    && world::detail_str(call, u8::from(known.sc != Sc::Open)).is_some_and(|t| {
                        source.str(t).first() == Some(&b'/') || !world.fs_of(task).began_here
                    })
                    && let Some(Object::File { path: found, .. }) = call.object.map(|o| source.object(o))
                    && world::is_whole(source.str(*found))
                {
                    let at = known.sc != Sc::Open;
                    let dirfd = at.then_some(call.args[0] as i32);
                    if let Some(target) = world.target(source, task, call, u8::from(at), dirfd) {
                        world.observed(&mut links, task, target.path, source.str(*found));
                    }
                }
                for fd in effects(known.sc, call).filter_map(Effect::taken) {
                    // It was free: what the snapshot shows there is what this call made.
                    let proc = &world.procs[world.tasks[task as usize].proc as usize];
                    let there = world.files_of(task).get(fd);
                    let snapshot = world.tasks[proc.first as usize].origin == Origin::Snapshot;
                    if snapshot && there.is_some_and(|slot| slot.since_ns == 0) {
                        late.insert((proc.tgid, fd));
                    }
                }
                let names = world.names_of(source, task, call, &known);
                overlaps.told(
                    &world,
                    budget,
                    (task, world.tasks[task as usize].ops),
                    call,
                    &known,
                    &names,
                )?;
                world.apply_call(source, task, call, &known)?;
                world.newly_paired();
            }
            _ => world.apply_other(source, event)?,
        }
        Ok(())
    });
    if let Some(cwd) = began_in {
        return Ok(Discovered::BeganIn(cwd));
    }
    looked?;
    let fd_limit = world.told_fd_limit;
    let mut inherited = world.never_used();
    inherited.extend(world.take_discovered());
    let told = world.fs.told_links().map(|(path, len)| (world.paths.get(path).to_vec(), len)).collect();
    let links = links.solve(&told);
    Ok(Discovered::All(Box::new(Seed {
        inherited,
        clone_flags: clones,
        tuples,
        links,
        late,
        own_ips,
        cwd,
        fd_limit,
        overlaps: overlaps.finish(),
    })))
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

const EAGAIN: i64 = -11;
/// Calls that are kept of those that made one number while another close of it had not returned.
const REUSED: usize = 16;
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
    let flags = clone_flags(sc, call)?;
    Some(match sc {
        Sc::Clone => {
            let child = if cfg!(target_arch = "aarch64") { call.args[4] } else { call.args[3] };
            (call.args[0], call.args[2], child)
        }
        Sc::Clone3 => match world::detail_bytes(call, 0) {
            // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, …
            Some(args) => {
                let signal = world::le_u64(args, 32) & 0xff;
                (flags | signal, world::le_u64(args, 24), world::le_u64(args, 16))
            }
            None => (flags, 0, 0),
        },
        _ => (flags | SIGCHLD, 0, 0),
    })
}
