//! The writing pass: every recorded call becomes a step of its task's program, with the waits it needs; what comes from
//! outside becomes steps of peers.
//!
//! It goes through the events once. Of each call it asks what has to be waited for ([`super::order`]), makes its steps
//! ([`super::steps`]), writes them ([`super::emit`]), and lets the order and the world know of it, in this sequence.

mod connections;
mod ends;
mod outside;

use super::CompileError;
use super::budget::Budget;
use super::calls::{Sc, nr};
use super::emit::{As, BUFFER_MAX, Beside, EdgeKind, Emit, Lowered};
use super::environment::Surroundings;
use super::facts::{Facts, is_engines, is_injected, is_work};
use super::fsmodel::FsModel;
use super::model::{Cx, Model};
use super::order::{Descriptors, Order, Processes};
use super::peers::Peers;
use super::setup;
use super::source::{Delay, Moment, Source};
use super::steps::Kept;
use super::world::{Mark, TaskIx, World};
use crate::plan::environment::PeerProcess;
use crate::plan::{CompileOptions, Plan};
use crate::pressure::Gather;
use ctrace_analysis::edits::{Told, is_of_a_fault, strike};
use ctrace_format::syscalls::Family;
use ctrace_format::{
    ConnectionKind, Event, InjectionNote, Process, ProcessKind, SockAddr, Syscall, TcpState,
};
use ctrace_program::{BuildError, Expect, Kind, NUMBER_ARG, Step, Wait, flags};
use ends::Ends;
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// The pass.
pub(crate) struct Lower<'a> {
    pub(crate) source: &'a dyn Source,
    /// The findings of the earlier passes.
    pub(crate) facts: Facts,
    /// The state at the moment.
    pub(crate) world: World,
    /// The calls so far that others have to wait for.
    pub(crate) order: Order,
    /// The state that steps keep from call to call.
    pub(crate) kept: Kept,
    /// Ends of tasks that are to be written.
    ends: Ends,
    pub(crate) peers: Peers,
    pub(crate) surroundings: Surroundings,
    pressure: Gather,
    /// The hits that have their notes, by the numbers of events.
    noted: FxHashSet<u64>,
    /// The output.
    pub(crate) emit: Emit,
}

/// Writes the program.
pub(crate) fn write(
    source: &dyn Source,
    facts: Facts,
    options: &CompileOptions,
) -> Result<Plan, CompileError> {
    let dir = options.spool();
    let by_disk = free_bytes(&dir).unwrap_or(u64::MAX) / 2;
    let by_trace = options.max_program.unwrap_or_else(|| program_bytes(source.file_bytes()));
    let file = spool(&dir).map_err(|source| CompileError::Spool { dir: dir.clone(), source })?;
    let prevented = options.edits.iter().flat_map(|edits| edits.left_out());
    let prevented = prevented.map(|(name, count)| (name.to_owned(), count)).collect();
    write_to(file, by_trace.min(by_disk), source, facts, prevented).map_err(|error| match error {
        CompileError::TooLarge { max, .. } if max == by_disk => CompileError::NoRoom { dir, max },
        CompileError::Build(BuildError::Io { source, .. }) => CompileError::Spool { dir, source },
        other => other,
    })
}

/// The most bytes of a program for a recording of that length. A recorded call takes a fifth of a byte (of loops that do
/// little else) to 10 bytes; a step, with what it shares with others, about 30.
fn program_bytes(file_bytes: u64) -> u64 {
    const PER_BYTE: u64 = 256;
    const FREE: u64 = 64 << 20;
    file_bytes.saturating_mul(PER_BYTE).saturating_add(FREE)
}

/// What is free for us where a directory is.
fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(dir).ok()?;
    Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// A file that never has a name, so that nothing is left whatever happens: on the disk of `dir`, or in memory where its file
/// system has no such files.
pub(crate) fn spool(dir: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
    match options.open(dir) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            let memory = rustix::fs::memfd_create("ctrace-program", rustix::fs::MemfdFlags::CLOEXEC)?;
            Ok(memory.into())
        }
        opened => opened,
    }
}

fn write_to(
    file: File,
    max_bytes: u64,
    source: &dyn Source,
    mut facts: Facts,
    prevented: BTreeMap<String, u64>,
) -> Result<Plan, CompileError> {
    let budget = Budget::of(source);
    let mut emit = Emit::new(file, max_bytes, source.end_ns())?;
    emit.create_tasks(&facts.tasks)?;
    let paths = std::mem::take(&mut facts.paths);
    let files = std::mem::take(&mut facts.fs);
    let seed = std::mem::take(&mut facts.seed);
    let surroundings = Surroundings::of(&files, &paths, &facts, budget)?;
    let mut lower = Lower {
        source,
        world: World::new(budget, seed, paths, FsModel::seeded(&files)),
        order: Order::default(),
        kept: Kept::default(),
        ends: Ends::of(facts.tasks.len()),
        facts,
        peers: Peers::default(),
        surroundings,
        pressure: Gather::default(),
        noted: FxHashSet::default(),
        emit,
    };
    drop(files);
    lower.world.enter_snapshot(source)?;
    setup::before(&mut lower)?;
    source.for_each(&mut |event| lower.event(event))?;
    lower.finish(prevented)
}

impl Lower<'_> {
    /// The order, and what it looks at.
    fn looking(&mut self) -> (&mut Order, Model<'_>) {
        let model = Model { source: self.source, world: &self.world, facts: &self.facts };
        (&mut self.order, model)
    }

    /// The state at the moment.
    pub(crate) fn model(&self) -> Model<'_> {
        Model { source: self.source, world: &self.world, facts: &self.facts }
    }

    fn event(&mut self, event: &Event) -> Result<(), CompileError> {
        self.pressure.event(event);
        match event {
            Event::Syscall(call) => self.call(call)?,
            Event::Signal(signal) => self.signal(signal)?,
            Event::Connection(connection) => {
                self.world.apply_other(self.source, event)?;
                if matches!(connection.kind, ConnectionKind::State { new: TcpState::Established, .. }) {
                    self.came_about(connection.cookie.0)?;
                }
            }
            Event::Process(process) if process.kind.is_life() => self.life(process, event)?,
            Event::Resource(sample) => self.emit.meter.sample(sample),
            _ => {}
        }
        self.check()?;
        let by = match event {
            Event::Syscall(call) => self.last_step_of(call)?,
            _ => None,
        };
        self.drain_gone(event.end_ns(), by)
    }

    /// The last step so far of who made a call, when that ended connections.
    fn last_step_of(&mut self, call: &Syscall) -> Result<Option<Wait>, CompileError> {
        if self.world.gone_socks.is_empty() {
            return Ok(None);
        }
        let me = self.world.task_of(self.source, call.task)?;
        let me = self.emit.prog(me);
        Ok(self.emit.next_step(me).checked_sub(1).map(|step| Wait::completed(me, step)))
    }

    /// A process or a thread was made, replaced, or ended.
    fn life(&mut self, process: &Process, event: &Event) -> Result<(), CompileError> {
        let task = self.world.task_of(self.source, process.task)?;
        if let ProcessKind::Exit { status, group_dead } = process.kind {
            self.ends.exited(task, status, process.t_ns, group_dead);
            self.emit.meter.died();
            if group_dead {
                self.died(task);
                self.emit.meter.emptied(self.world.tasks[task as usize].proc);
            }
        }
        self.world.apply_other(self.source, event)?;
        match process.kind {
            ProcessKind::Fork { child } => {
                let child = self.world.task_of(self.source, child)?;
                self.forked(task, child, process.t_ns);
            }
            ProcessKind::Exec { .. } => {
                let proc = self.world.tasks[task as usize].proc;
                self.kept.executed(proc);
                self.kept.instances.executed(task);
                self.emit.meter.emptied(proc);
            }
            _ => {}
        }
        Ok(())
    }

    fn forked(&mut self, parent: TaskIx, child: TaskIx, at_ns: u64) {
        self.emit.forked(parent, child, at_ns);
        let task = &self.world.tasks[child as usize];
        let (from, to, tid) = (self.world.tasks[parent as usize].proc, task.proc, task.tid);
        self.world.number(child, u64::from(tid));
        if from == to {
            let first = self.world.procs[to as usize].first;
            self.order.processes.thread(to, first, child);
        } else {
            self.kept.forked(from, to);
        }
    }

    /// Refuses a trace that makes more of something than a recording of its length has.
    fn check(&self) -> Result<(), CompileError> {
        let [numbers, names] = self.order.kept();
        let [handles, words, spaces] = self.kept.kept();
        let connects = ("addresses connected to", self.peers.asked());
        let kept = [numbers, names, connects, handles, words, ("mappings", self.emit.slots()), spaces];
        let budget = self.world.budget;
        if budget.holds(kept.iter().map(|(_, count)| *count).fold(0, usize::max)) {
            return Ok(());
        }
        kept.into_iter().try_for_each(|(what, count)| budget.things(what, count))
    }

    fn call(&mut self, call: &Syscall) -> Result<(), CompileError> {
        let task = self.world.task_of(self.source, call.task)?;
        if is_engines(call) || !self.emit.has(task) {
            return Ok(());
        }
        let known = self.world.calls.get(call.sysno);
        let name = known.name.unwrap_or("unknown");
        let state = &self.world.tasks[task as usize];
        let (proc, seq) = (state.proc, state.ops);
        if let Some(strike) = strike(call) {
            return self.strike(task, call, strike);
        }
        if !is_work(call) {
            let step = Step::of(Kind::Skip).with(flags::SURROGATE);
            self.emit.count(As::Surrogate, name);
            self.emit.call(task, call, seq, Lowered::from(step), &[])?;
            self.emit.returned(task, call.t_ns.saturating_add(call.duration_ns));
            return Ok(());
        }
        let nr = known.native.unwrap_or(0);
        let mut cx = Cx { task, proc, call, known, nr, name, seq, paths: &[] };
        if is_injected(call) {
            return self.answer(&cx);
        }
        self.world.catch_up(self.source, task)?;
        let paths = self.world.names_of(self.source, task, call, &known);
        cx.paths = &paths;
        self.one(&cx)
    }

    /// Has the hits of rules at a call told before anything is done for it: those of a call with one of these moments.
    pub(super) fn note_hits(&mut self, call: &Syscall, lowered: &mut Lowered, moments: &[Moment]) {
        let found = moments.iter().find_map(|at| self.source.hits(call.task, *at));
        let Some(hits) = found.filter(|hits| self.noted.insert(hits.ordinal)) else { return };
        let notes: Vec<Step> = hits.told.iter().map(|told| note(hits.sysno.nr, told)).collect();
        lowered.late.at += notes.len();
        lowered.pre.splice(0..0, notes);
    }

    /// Writes a call that a fault answers, whatever is there.
    fn answer(&mut self, cx: &Cx<'_>) -> Result<(), CompileError> {
        let mut lowered = self.injected(cx);
        if let Some(delay) = self.source.delay(cx.call) {
            delayed(&mut lowered, delay);
        }
        self.note_hits(cx.call, &mut lowered, &[Moment::End(cx.end_ns()), Moment::Begin(cx.end_ns())]);
        self.emit.call(cx.task, cx.call, cx.seq, lowered, &[])?;
        self.emit.returned(cx.task, cx.end_ns());
        Ok(())
    }

    /// Writes a call.
    fn one(&mut self, cx: &Cx<'_>) -> Result<(), CompileError> {
        let Cx { task, call, known, .. } = *cx;
        let mut waits = self.waits(cx)?;
        self.reaped(cx)?;
        let mut lowered = self.lower(cx)?;
        match self.source.delay(call) {
            // Its task sees another call, which is later.
            _ if is_of_a_fault(call) => lowered.step = unseen(lowered.step),
            Some(delay) => delayed(&mut lowered, delay),
            None => {}
        }
        self.note_hits(call, &mut lowered, &[Moment::End(cx.end_ns())]);
        self.stand_for_result(cx, &mut lowered)?;
        self.set_offsets(cx, &mut lowered);
        if lowered.step.kind == Kind::Exit as u8 {
            self.ended(task);
        }
        self.free_numbers(cx, &mut lowered, &mut waits);
        if let Some((path, _)) = self.world.waited_for(task, call, &known)
            && self.surroundings.is_slow(self.world.paths.get(path))
        {
            lowered.step.flags |= flags::WAITS_FOR_DISK;
        }
        self.arm(cx, &mut lowered, &mut waits)?;
        let step = if known.sc == Sc::ExitGroup && self.world.procs[cx.proc as usize].parent.is_some() {
            self.leaves(cx, lowered, waits)
        } else {
            self.emit.call(task, call, cx.seq, lowered, &waits)?
        };
        self.world.tasks[task as usize].label = step;
        self.surroundings.called(self.emit.prog(task), step, call.t_ns);
        let mark = Mark { task, seq: cx.seq, step, start_ns: call.t_ns, end_ns: cx.end_ns() };
        self.order.processes.ends(cx, mark);
        if cx.unfinished() {
            return self.world.apply_call(self.source, task, call, &known);
        }
        let arrival = self.arrivals(cx)?;
        self.unread_end(cx)?;
        let (order, model) = self.looking();
        order.remember(&model, cx, mark);
        if call.ret >= 0 {
            self.emit.meter.call(cx.proc, known.sc, call);
        }
        if call.ret > 0
            && known.row().family == Family::Clone
            && let Some(child) = self.world.child_of_clone(task, call.ret)
        {
            self.world.number(child, call.ret as u64);
            self.order.processes.born(child, mark);
        }
        self.world.apply_call(self.source, task, call, &known)?;
        self.after_connect(cx, mark, arrival)?;
        self.emit.returned(task, cx.end_ns());
        Ok(())
    }

    /// Accepts that were under way when the recording began have taken their numbers by then, and numbers are free whose
    /// descriptors nobody was seen to close. An accept takes its own number, and others let it.
    fn free_numbers(&mut self, cx: &Cx<'_>, lowered: &mut Lowered, waits: &mut Vec<Wait>) {
        let (order, model) = self.looking();
        let (number, shares) = (model.number_held(cx), model.shares_numbers(cx));
        let (needs, mut free) = order.descriptors.after_early_accepts(&model, cx);
        free.extend(Descriptors::closed_unseen(&model, cx));
        self.emit.wait_for(cx.task, cx.call.t_ns, needs, waits);
        let close = Step::call(nr::close).with(flags::ENGINE);
        let first = free.into_iter().map(|fd| close.imm(0, fd as u64));
        let first: Vec<Step> = first.collect();
        if let Some(number) = number {
            lowered.step = lowered.step.with(flags::HOLDS_NUMBER).imm(NUMBER_ARG, number as u64);
        } else if shares {
            lowered.step.flags |= flags::SHARES_NUMBERS;
        }
        lowered.late.at += first.len();
        lowered.pre.splice(0..0, first);
    }

    /// The waits of a call.
    fn waits(&mut self, cx: &Cx<'_>) -> Result<Vec<Wait>, CompileError> {
        let mut waits = Vec::new();
        let start_ns = cx.call.t_ns;
        let (order, model) = self.looking();
        let mut all = vec![order.needs(&model, cx)];
        if cx.known.row().family == Family::Exit {
            all.push(order.processes.other_threads(&model, cx));
            all.push(Processes::joined(&model, cx.task, start_ns));
        }
        for needs in all {
            self.emit.wait_for(cx.task, start_ns, needs, &mut waits);
        }
        let me = self.emit.prog(cx.task);
        for wait in [self.before_connect(cx)?, self.peer_failure(cx)?].into_iter().flatten() {
            self.emit.wait(me, EdgeKind::Connection, wait, &mut waits);
        }
        if let Some(sent) = self.come_together(cx)? {
            self.emit.wait(me, EdgeKind::Stream, sent, &mut waits);
        }
        Ok(waits)
    }

    fn finish(mut self, prevented: BTreeMap<String, u64>) -> Result<Plan, CompileError> {
        self.write_ends()?;
        let socks = &self.world.socks;
        let sent = |sock: u32| socks.get(sock as usize).map_or(0, |s| s.sent);
        let peer_root = self.peers.finish(&mut self.emit, &sent, self.source.end_ns())?;
        let preopened = setup::peer_ends(&self);
        let notes = self.notes();
        let hostname = self.source.header().host.hostname.clone().into_bytes();
        let (environment, entries, content_bytes) = self.surroundings.finish(&self.peers.addresses, hostname);
        let beside = Beside {
            space: self.world.fs.space,
            descriptions: self.world.ofds.len() as u64,
            fd_numbers: self.world.fd_numbers,
            entries,
            content_bytes,
            addresses: environment.addresses.len() as u64,
        };
        let summary = &mut self.emit.summary;
        summary.prevented = prevented;
        summary.files = environment.files.len() as u64;
        summary.peers_served = self.peers.served;
        summary.peers_clients = self.peers.clients;
        summary.peers_datagram = self.peers.datagram;
        summary.notes = notes;
        let pressure = self.pressure.finish(self.source.header().host.cpus);
        let (program, need, summary) = self.emit.seal(beside)?;
        let peers = peer_root.map(|task| PeerProcess { task, preopened }).into_iter().collect();
        Ok(Plan { program, environment, peers, need, pressure, summary })
    }

    /// The differences that the plan knows of.
    fn notes(&self) -> Vec<String> {
        let (origins, shorter) = (self.facts.unknown_fds, self.kept.shortened);
        let (most, by_others) = (BUFFER_MAX >> 20, self.world.fs.unexplained);
        let notes = [
            (origins, format!("{origins} calls used descriptors whose origin the recording does not show")),
            (shorter, format!("{shorter} calls moved more than {most} MiB at once, and move that much")),
            (
                by_others,
                format!("{by_others} times a file appeared or vanished by a hand outside the recording"),
            ),
        ];
        notes.into_iter().filter(|(count, _)| *count > 0).map(|(_, note)| note).collect()
    }
}

/// A call whose task does not know of it.
fn unseen(step: Step) -> Step {
    let is_made = step.kind == Kind::Call as u8 && step.flags & flags::FAULT == 0;
    if is_made { step.with(flags::ENGINE) } else { Step::of(Kind::Sync) }
}

/// Tells the recorder of a hit.
fn note(nr: u32, told: &Told) -> Step {
    let note = InjectionNote { rule: told.rule, nr, nth: told.nth, fault: told.fault };
    let args = note.arguments().into_iter().enumerate();
    args.fold(Step::of(Kind::Note), |step, (at, value)| step.imm(at, value))
}

/// The call is made later, and its task goes on later; or it moves fewer bytes.
fn delayed(lowered: &mut Lowered, delay: Delay) {
    if delay.is_short {
        lowered.step.flags |= flags::INJECTED;
    }
    // A call that is answered as well is counted as such.
    let mut counts = i64::from(lowered.step.flags & flags::INJECTED == 0);
    let mut stand = |ns| Step::of(Kind::Delay).aux(ns).expect(Expect::Any, std::mem::take(&mut counts));
    if delay.enter_ns > 0 {
        lowered.pre.insert(0, stand(delay.enter_ns));
        lowered.late.at += 1;
    }
    if delay.exit_ns > 0 {
        lowered.then.push(stand(delay.exit_ns));
    }
}

/// A wildcard address as somebody who connects to it has to say it.
pub(crate) fn reachable(addr: SockAddr) -> SockAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    match addr {
        SockAddr::Inet(at) if at.ip().is_unspecified() => {
            let ip =
                if at.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
            SockAddr::Inet(SocketAddr::new(ip, at.port()))
        }
        other => other,
    }
}
