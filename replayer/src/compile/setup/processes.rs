//! The processes that were there before: their tree, programs, names and signals.

use super::sockets::{find_unix_pairs, v4_ports};
use super::{Making, PR_SET_NAME, SIGCHLD, THREAD, Thing, extra, identity, nonblock, open};
use crate::compile::calls::nr;
use crate::compile::facts::{CLONE_THREAD, TaskFact};
use crate::compile::lower::Lower;
use crate::compile::order::early;
use crate::compile::world::limits::RLIMIT_NOFILE;
use crate::compile::world::{O_CLOEXEC, OfdIx, OfdKind, Origin, ProcIx, SockState, TaskIx, Watch};
use crate::compile::{CompileError, wire};
use crate::plan::environment::PreopenedKind;
use ctrace_analysis::fds::TableId;
use ctrace_program::{Expect, Kind, Post, SIG_HANDLER, SIG_IGNORE, Sel, Step, fd_operand, flags, soft_limit};
use rustc_hash::FxHashMap;

/// The limit of descriptors that a process began with: not before everything of its own is in its place.
pub(super) fn descriptor_limit(lower: &mut Lower<'_>, me: u32, proc: ProcIx) -> Result<(), CompileError> {
    let Some(soft) = lower.world.procs[proc as usize].fd_limit else { return Ok(()) };
    let limit = extra(nr::prlimit64).imm(0, 0).imm(1, RLIMIT_NOFILE).imm(3, 0);
    lower.emit.put(me, &limit.arg(2, Sel::SoftLimit, soft_limit(RLIMIT_NOFILE, soft)))?;
    Ok(())
}

/// Lets the table of a process grow as long as its threads do not share it.
pub(super) fn make_room(lower: &mut Lower<'_>, me: u32, proc: ProcIx) -> Result<(), CompileError> {
    for step in lower.room_for_parked(proc, flags::EXTRA).into_iter().flatten() {
        lower.emit.put(me, &step)?;
    }
    Ok(())
}

pub(super) fn gate(lower: &mut Lower<'_>, task: TaskIx) -> Result<(), CompileError> {
    let me = lower.emit.prog(task);
    lower.emit.put(me, &Step::of(Kind::Gate))?;
    Ok(())
}

pub(super) fn clone(
    lower: &mut Lower<'_>,
    me: u32,
    child: TaskIx,
    clone_flags: u64,
) -> Result<(), CompileError> {
    let step = Step { nr: nr::clone, ..Step::of(Kind::Clone) }
        .with(flags::EXTRA)
        .imm(0, clone_flags)
        .expect(Expect::Success, 0)
        .aux(u64::from(lower.emit.prog(child)));
    lower.emit.put(me, &step)?;
    Ok(())
}

/// Processes that were there: a first task makes everything that was open, then the processes, which put things into
/// their places and make their threads.
pub(super) fn tree(lower: &mut Lower<'_>) -> Result<(), CompileError> {
    let facts: Vec<TaskFact> = lower.facts.tasks.clone();
    let there = There::of(lower, &facts);
    if !lower.emit.has_start() {
        program(lower, 0, there.snapshots.get(&facts[0].tgid).copied())?;
    }
    let base: u32 = lower
        .world
        .files
        .all()
        .filter_map(|f| f.slots().last().map(|(fd, _)| fd))
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
            lower.world.files[lower.world.procs[proc].files].slots().iter().map(|(_, s)| s.what.id())
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
            // Made as the other end of another one, or known by another name: what `F_SETFL` sets is its own.
            let state = &lower.world.ofds[ofd as usize];
            let (nonblocks, appends) = (state.nonblock, state.append);
            if !by_ofd.contains_key(&ofd) {
                nonblock(lower, *at, nonblocks, appends)?;
            }
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
        let slots: Vec<(i32, OfdIx, bool)> = lower.world.files[state.files]
            .slots()
            .iter()
            .map(|(fd, s)| (*fd, s.what.id(), s.cloexec))
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
        if there.threads.contains_key(&ix) {
            make_room(lower, me, proc)?;
        }
        descriptor_limit(lower, me, proc)?;
    }
    name(lower, ix, fact)?;
    for thread in there.threads.get(&ix).into_iter().flatten() {
        clone(lower, me, *thread, THREAD | CLONE_THREAD)?;
    }
    gate(lower, ix)?;
    proc.map_or(Ok(()), |proc| set_timers(lower, me, proc))
}

/// Timers that somebody had set go on from the start of the recording.
fn set_timers(lower: &mut Lower<'_>, me: u32, proc: ProcIx) -> Result<(), CompileError> {
    let files = lower.world.procs[proc as usize].files;
    let slots = lower.world.files[files].slots().iter();
    let running: Vec<(i32, [u64; 2])> = slots
        .filter(|(_, slot)| matches!(lower.world.ofds[slot.what.id() as usize].kind, OfdKind::Timer))
        .filter_map(|(fd, slot)| Some((*fd, lower.facts.told.running.get(&slot.what.id())?.setting()?)))
        .collect();
    for (fd, setting) in running {
        let setting = lower.emit.words(&setting)?;
        let set = Step::call(nr::timerfd_settime).with(flags::ENGINE).imm(0, fd as u64).imm(1, 0);
        lower.emit.put(me, &set.arg(2, Sel::Itimerspec, setting).imm(3, 0))?;
    }
    Ok(())
}

/// An accept takes a number before it waits for a connection. One that was under way at the start had taken a number when
/// lower ones were in use; here something holds those until it has taken it again.
fn hold_numbers(
    lower: &mut Lower<'_>,
    me: u32,
    files: TableId,
    slots: &[(i32, OfdIx, bool)],
) -> Result<(), CompileError> {
    const HELD_MAX: i32 = 1024;
    let Some(accepts) = lower.facts.early_accepts.get(&files) else { return Ok(()) };
    let taken: Vec<i32> = accepts.iter().map(|(fd, _)| *fd).collect();
    let highest = taken.iter().copied().max().unwrap_or(0).min(HELD_MAX);
    let is_free = |fd: &i32| !taken.contains(fd) && !slots.iter().any(|(used, ..)| used == fd);
    let held: Vec<i32> = (0..highest).filter(is_free).collect();
    // Those that an accept frees itself.
    let own: Vec<i32> =
        early(accepts).filter(|(_, fd, held)| *held && *fd < HELD_MAX).map(|one| one.1).collect();
    for fd in held.iter().chain(&own) {
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
