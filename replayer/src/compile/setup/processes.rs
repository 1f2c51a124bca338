//! Processes that were there when the recording began.

use super::super::CompileError;
use super::super::calls::nr;
use super::super::facts::{CLONE_THREAD, TaskFact};
use super::super::steps::Steps;
use super::super::wire;
use super::super::world::{O_CLOEXEC, OfdIx, ProcIx, TaskIx, Watch};
use super::{Making, PR_SET_NAME, SIGCHLD, THREAD, There, clone, descriptor_limit, extra, gate, make_room};
use ctrace_program::{Expect, Kind, Post, SIG_HANDLER, SIG_IGNORE, Sel, Step, fd_operand, flags};
use rustc_hash::FxHashMap;

#[expect(clippy::too_many_arguments, reason = "what the process is, and what was there")]
pub(super) fn process(
    steps: &mut Steps<'_>,
    making: &mut Making,
    ix: TaskIx,
    fact: &TaskFact,
    there: &There<'_>,
    proc: Option<ProcIx>,
    base: u32,
    by_ofd: &FxHashMap<OfdIx, u32>,
) -> Result<(), CompileError> {
    let me = steps.emit.prog(ix);
    let snapshot = there.snapshots.get(&fact.tgid).copied();
    if me != 0 {
        program(steps, ix, snapshot)?;
    }
    for child in there.children.get(&ix).into_iter().flatten() {
        clone(steps, me, *child, SIGCHLD)?;
    }
    if let Some(proc) = proc {
        let state = steps.world.procs[proc as usize].clone();
        let slots: Vec<(i32, OfdIx, bool)> = steps.world.files[state.files as usize]
            .slots
            .iter()
            .map(|(fd, s)| (*fd, s.ofd(), s.cloexec))
            .collect();
        steps.emit.put(me, &extra(nr::close_range).imm(0, 0).imm(1, u64::from(base) - 1).imm(2, 0))?;
        for (fd, ofd, cloexec) in &slots {
            if let Some(at) = by_ofd.get(ofd) {
                let flags = if *cloexec { u64::from(O_CLOEXEC) } else { 0 };
                let dup = extra(nr::dup3).imm(0, u64::from(*at)).imm(1, *fd as u64).imm(2, flags);
                steps.emit.put(me, &dup.expect(Expect::Success, 0))?;
            }
        }
        steps
            .emit
            .put(me, &extra(nr::close_range).imm(0, u64::from(base)).imm(1, u64::from(u32::MAX)).imm(2, 0))?;
        hold_numbers(steps, making, me, state.files, &slots)?;
        for (fd, ofd, _) in &slots {
            let watches: Vec<Watch> =
                steps.world.epoll(*ofd).into_iter().flat_map(|epoll| epoll.watches().copied()).collect();
            for watch in watches {
                let blob = steps.emit.data(&wire::epoll_event(watch.fd, watch.events))?;
                let add = extra(nr::epoll_ctl).imm(0, *fd as u64).imm(1, 1).imm(2, watch.fd as u64);
                steps.emit.put(me, &add.arg(3, Sel::Data, blob))?;
            }
        }
        let fs = steps.world.fs_states[state.fs as usize].clone();
        let cwd = steps.world.paths.get(fs.cwd).to_vec();
        let cwd = steps.emit.cstr(&cwd)?;
        steps.emit.put(me, &extra(nr::chdir).arg(0, Sel::Data, cwd))?;
        steps.emit.put(me, &extra(nr::umask).imm(0, u64::from(fs.umask)))?;
        signals(steps, me, proc, snapshot)?;
        if there.threads.contains_key(&ix) {
            make_room(steps, me, proc)?;
        }
        descriptor_limit(steps, me, proc)?;
    }
    name(steps, ix, fact)?;
    for thread in there.threads.get(&ix).into_iter().flatten() {
        clone(steps, me, *thread, THREAD | CLONE_THREAD)?;
    }
    gate(steps, ix)
}

/// An accept takes a number before it waits for a connection. One that was under way at the start had taken a number when
/// steps ones were in use; here something holds those until it has taken it again.
fn hold_numbers(
    steps: &mut Steps<'_>,
    making: &mut Making,
    me: u32,
    files: u32,
    slots: &[(i32, OfdIx, bool)],
) -> Result<(), CompileError> {
    const HELD_MAX: i32 = 1024;
    let Some(accepts) = steps.facts.early_accepts.get(&files) else { return Ok(()) };
    let taken: Vec<i32> = accepts.iter().map(|(fd, _)| *fd).collect();
    let highest = taken.last().copied().unwrap_or(0).min(HELD_MAX);
    let is_free = |fd: &i32| !taken.contains(fd) && !slots.iter().any(|(used, ..)| used == fd);
    let held: Vec<i32> = (0..highest).filter(is_free).collect();
    for fd in &held {
        let step = extra(nr::eventfd2).imm(0, 0).imm(1, 0).expect(Expect::Success, 0);
        steps.emit.put(me, &step.post(Post::Fd, fd_operand(*fd as u32, false)))?;
    }
    making.held.insert(files, held);
    Ok(())
}

/// A process of the snapshot begins as the program it was, so that it is called and shown as that.
pub(super) fn program(
    steps: &mut Steps<'_>,
    ix: TaskIx,
    snapshot: Option<&ctrace_format::ProcessSnapshot>,
) -> Result<(), CompileError> {
    let Some(snapshot) = snapshot else { return Ok(()) };
    if snapshot.exe.first() != Some(&b'/') {
        return Ok(());
    }
    let exe = steps.world.paths.intern(&snapshot.exe);
    let exe = steps.world.resolve(exe, true);
    let text = steps.world.paths.get(exe).to_vec();
    steps.surroundings.executed(text.clone());
    let path = steps.emit.cstr(&text)?;
    let mut words = Vec::new();
    for word in snapshot.argv.iter().take(64) {
        words.push(steps.emit.cstr(word)?);
    }
    if words.is_empty() {
        words.push(path);
    }
    let argv = steps.emit.pointers(&words)?;
    let me = steps.emit.prog(ix);
    let next = steps.emit.next_step(me) + 1;
    let step =
        extra(nr::execve).arg(0, Sel::Data, path).arg(1, Sel::Data, argv).imm(2, 0).expect(Expect::Exact, 0);
    steps.emit.put(
        me,
        &Step { kind: Kind::Exec as u8, ..step }.aux(u64::from(me)).post(Post::None, u64::from(next)),
    )?;
    Ok(())
}

pub(super) fn name(steps: &mut Steps<'_>, ix: TaskIx, fact: &TaskFact) -> Result<(), CompileError> {
    let me = steps.emit.prog(ix);
    let comm = &fact.comm[..fact.comm.len().min(15)];
    let blob = steps.emit.cstr(comm)?;
    steps.emit.put(me, &extra(nr::prctl).imm(0, PR_SET_NAME).arg(1, Sel::Data, blob))?;
    Ok(())
}

fn signals(
    steps: &mut Steps<'_>,
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
        steps.kept.caught.set(proc, signo, caught);
        let mut step = Step::of(Kind::Sigaction).with(flags::EXTRA);
        step.nr = nr::rt_sigaction;
        steps.emit.put(me, &step.imm(0, u64::from(signo)).imm(1, SA_RESTART).imm(2, 0).aux(kind))?;
    }
    Ok(())
}
