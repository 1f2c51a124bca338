//! Epoll instances that several tasks use.
//!
//! Whom of those who wait the kernel tells of a change is up to the order in which they wait (`__add_wait_queue_exclusive`,
//! fs/eventpoll.c), and how often it tells is up to how many changes come before somebody looks. Here both are known. So
//! each of these tasks waits on an instance of its own, which watches what the recorded wait reported for as long as the
//! wait lasts: it is woken by the same cause, and nobody else is. The recorded instance stays, for the calls that change it.
//!
//! A wait may be told of what others registered, or found empty, while it lasted: they put it into the waiter's instance when
//! they have done so. Before that it would be told of what was there then.

use super::CompileError;
use super::arrivals::CallId;
use super::calls::{Sc, nr};
use super::emit::{EdgeKind, Late, Lowered};
use super::io::{POLLIN, POLLOUT};
use super::lower::Lower;
use super::model::Cx;
use super::wire;
use super::world::{O_CLOEXEC, OfdIx, TaskIx, Watch, World, detail_epoll, detail_time};
use ctrace_format::{PollEntry, Syscall};
use ctrace_program::{Kind, PARKED, Post, Sel, Step, Wait, fd_operand, flags};
use rustc_hash::{FxHashMap, FxHashSet};

/// First number of the tasks' own instances, if the recording has no higher one.
const FIRST: u64 = PARKED + 128;
/// Numbers below which a close that failed counts as one that the recording has.
const CLOSED_MAX: u64 = 4096;
/// Most tasks with an instance of their own.
const TASKS_MAX: u64 = 4096;
const EPOLL_CTL_ADD: u64 = 1;
const EPOLL_CTL_DEL: u64 = 2;
const EPOLL_CTL_MOD: u64 = 3;
const EPOLLONESHOT: u32 = 1 << 30;

/// What is known of such instances before any step is written.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    /// By instance: who used it first.
    first: FxHashMap<OfdIx, TaskIx>,
    pooled: FxHashSet<OfdIx>,
    waiters: FxHashSet<TaskIx>,
    /// One more than the highest number that a close names.
    closed: u64,
    /// The number of the first instance.
    base: u64,
    /// By instance and descriptor: who registered it last.
    registered: FxHashMap<(OfdIx, i32), Use>,
    /// By description: who found nothing in it last, and who found no room.
    empty: FxHashMap<OfdIx, Use>,
    full: FxHashMap<OfdIx, Use>,
    /// What a call puts into the instances of those who wait.
    armed: FxHashMap<CallId, Vec<Armed>>,
    /// What others put into the instance of a wait.
    meanwhile: FxHashMap<CallId, Vec<i32>>,
}

/// A call that changed what a wait would be told, and when it returned.
#[derive(Debug, Clone, Copy)]
struct Use {
    call: CallId,
    end_ns: u64,
}

/// A descriptor that a wait is told of.
#[derive(Debug, Clone, Copy)]
struct Armed {
    wait: CallId,
    ep: OfdIx,
    ofd: OfdIx,
    fd: i32,
    cause: u16,
}

/// Whether a call waits on an epoll instance.
pub(crate) fn waits_on_epoll(sc: Sc) -> bool {
    matches!(sc, Sc::EpollWait | Sc::EpollPwait | Sc::EpollPwait2)
}

/// Whether a wait does not wait.
fn asks_at_once(call: &Syscall, sc: Sc) -> bool {
    match sc {
        Sc::EpollPwait2 => detail_time(call, 3) == Some(0),
        _ => call.args[3] as i32 == 0,
    }
}

impl Pools {
    /// Notes a call, after what it changed.
    pub(crate) fn saw(&mut self, world: &World, task: TaskIx, call: &Syscall, sc: Sc) {
        if sc == Sc::Close {
            let number = u64::from(call.args[0] as u32) + 1;
            self.closed = self.closed.max(if number <= CLOSED_MAX { number } else { 0 });
        }
        let waits = waits_on_epoll(sc);
        if !waits && (sc != Sc::EpollCtl || call.ret != 0) {
            return;
        }
        let Some(ep) = world.ofd_of(task, call.args[0] as i32) else { return };
        if *self.first.entry(ep).or_insert(task) != task {
            self.pooled.insert(ep);
        }
        if !waits {
            return;
        }
        self.waiters.insert(task);
        self.told(world, ep, task, call, sc);
    }

    /// Notes a call that changes what a wait would be told, before it does.
    pub(crate) fn uses(&mut self, world: &World, call_id: CallId, call: &Syscall, sc: Sc) {
        const EAGAIN: i64 = -11;
        let task = call_id.0;
        if !world.has_shared_files(world.tasks[task as usize].proc) {
            return;
        }
        let used = Use { call: call_id, end_ns: call.t_ns.saturating_add(call.duration_ns) };
        let first = call.args[0] as i32;
        match sc {
            Sc::EpollCtl if call.ret == 0 && call.args[1] != EPOLL_CTL_DEL => {
                if let Some(ep) = world.ofd_of(task, first) {
                    self.registered.insert((ep, call.args[2] as i32), used);
                }
            }
            // Who took something may have taken what the wait is told of, before that had returned.
            Sc::Read
            | Sc::Readv
            | Sc::Recvfrom
            | Sc::Recvmsg
            | Sc::Recvmmsg
            | Sc::Splice
            | Sc::Accept
            | Sc::Accept4
                if call.ret == EAGAIN =>
            {
                if let Some(ofd) = world.ofd_of(task, first) {
                    self.empty.insert(ofd, used);
                }
            }
            Sc::Write | Sc::Writev | Sc::Sendto | Sc::Sendmsg | Sc::Sendmmsg if call.ret == EAGAIN => {
                if let Some(ofd) = world.ofd_of(task, first) {
                    self.full.insert(ofd, used);
                }
            }
            _ => {}
        }
    }

    /// Finds those during whose calls a wait was going on that was told of what they changed.
    fn told(&mut self, world: &World, ep: OfdIx, task: TaskIx, call: &Syscall, sc: Sc) {
        if call.ret <= 0 || asks_at_once(call, sc) {
            return;
        }
        let proc = |task: TaskIx| world.procs[world.tasks[task as usize].proc as usize].files;
        // It has been applied.
        let wait = (task, world.tasks[task as usize].ops.saturating_sub(1));
        let Some(epoll) = world.epoll(ep) else { return };
        for entry in detail_epoll(call).unwrap_or_default() {
            let Some(watch) = epoll.by_data(entry.data) else { continue };
            let cause = cause(entry.events);
            let uses = if cause == POLLOUT { &self.full } else { &self.empty };
            let last = [self.registered.get(&(ep, watch.fd)), uses.get(&watch.ofd)]
                .into_iter()
                .flatten()
                .max_by_key(|used| used.end_ns)
                .filter(|used| {
                    used.end_ns > call.t_ns && used.call.0 != task && proc(used.call.0) == proc(task)
                });
            if let Some(used) = last {
                let armed = Armed { wait, ep, ofd: watch.ofd, fd: watch.fd, cause };
                self.armed.entry(used.call).or_default().push(armed);
                self.meanwhile.entry(wait).or_default().push(watch.fd);
            }
        }
    }

    pub(crate) fn finish(mut self, numbers: u64) -> Self {
        self.base = FIRST.max(self.closed).max(numbers);
        (self.registered, self.empty, self.full) = Default::default();
        let pooled = &self.pooled;
        self.armed.retain(|_, armed| {
            armed.retain(|armed| pooled.contains(&armed.ep));
            !armed.is_empty()
        });
        self
    }

    /// Whether several tasks use an instance.
    pub(crate) fn has(&self, ep: OfdIx) -> bool {
        self.pooled.contains(&ep)
    }

    /// Whether others put a descriptor into the instance of a wait while that lasts.
    pub(crate) fn comes_meanwhile(&self, wait: CallId, fd: i32) -> bool {
        self.meanwhile.get(&wait).is_some_and(|fds| fds.contains(&fd))
    }

    /// One more than the highest number that the engine uses of a table.
    pub(crate) fn top(&self) -> u64 {
        if self.pooled.is_empty() {
            PARKED + 1
        } else {
            self.base + (self.waiters.len() as u64).min(TASKS_MAX)
        }
    }
}

/// The instances that tasks have.
#[derive(Debug, Default)]
pub(crate) struct Own {
    numbers: FxHashMap<TaskIx, u64>,
    /// Tasks that have made theirs.
    made: FxHashSet<TaskIx>,
    /// By description: the instances that know it, and by which descriptor. Each reports it once, when it is asked to.
    known: FxHashMap<OfdIx, FxHashSet<(u64, i32)>>,
    /// The descriptors that others put into the instance for a wait, and the end of the step that does.
    by_others: FxHashMap<CallId, Vec<(i32, Wait)>>,
    /// Numbers that were given. None is given twice: a process that was forked has those of its parent.
    given: u64,
}

impl Own {
    /// A task executed another program, which has none.
    pub(crate) fn executed(&mut self, task: TaskIx) {
        self.numbers.remove(&task);
        self.made.remove(&task);
    }

    /// A description is over; its index will be used again.
    pub(crate) fn forget(&mut self, ofd: OfdIx) {
        self.known.remove(&ofd);
    }
}

/// What a wait is to be woken by. What a description is told to be besides (room to write, mostly) it was before.
fn cause(events: u32) -> u16 {
    let events = events as u16 & 0x201f;
    match events & POLLIN {
        0 if events & !POLLOUT == 0 => POLLOUT,
        0 => events & !POLLOUT,
        _ => POLLIN,
    }
}

impl Lower<'_> {
    /// The number of the instance that a task waits on instead of the one that several wait on; made before its first wait.
    pub(crate) fn own_instance(&mut self, cx: &Cx<'_>, pre: &mut Vec<Step>) -> Option<u64> {
        let ep = self.ofd(cx, 0)?;
        if !self.facts.pools.has(ep) || self.world.epoll(ep).is_none() {
            return None;
        }
        let number = self.own_number(cx.task)?;
        if self.kept.instances.made.insert(cx.task) {
            let make = Step::call(nr::epoll_create1).with(flags::ENGINE).imm(0, u64::from(O_CLOEXEC));
            pre.push(make.post(Post::Fd, fd_operand(number as u32, true)));
        }
        Some(number)
    }

    /// The number of a task's own instance.
    fn own_number(&mut self, task: TaskIx) -> Option<u64> {
        if let Some(number) = self.kept.instances.numbers.get(&task) {
            return Some(*number);
        }
        let number = self.facts.pools.base + self.kept.instances.given;
        let proc = self.world.tasks[task as usize].proc;
        let limit = self.world.procs[proc as usize].fd_limit;
        if self.kept.instances.given >= TASKS_MAX || limit.is_some_and(|limit| number >= limit) {
            return None;
        }
        self.kept.instances.given += 1;
        self.kept.instances.numbers.insert(task, number);
        self.emit.meter.descriptor(i32::try_from(number).unwrap_or(i32::MAX - 1));
        Some(number)
    }

    /// After a call that changed what others are told who wait already, what they are told of is put into their instances.
    pub(crate) fn arm(
        &mut self,
        cx: &Cx<'_>,
        lowered: &mut Lowered,
        waits: &mut Vec<Wait>,
    ) -> Result<(), CompileError> {
        for armed in self.facts.pools.armed.remove(&cx.id()).unwrap_or_default() {
            let (waiter, its) = armed.wait;
            let Some(state) = self.world.tasks.get(waiter as usize).filter(|state| state.ops == its) else {
                continue;
            };
            if state.exited || !self.emit.has(waiter) {
                continue;
            }
            let Some(own) = self.own_number(waiter) else { continue };
            let (me, on) = (self.emit.prog(cx.task), self.emit.prog(waiter));
            // The wait is what it does next, after the engine's own.
            let makes = u32::from(!self.kept.instances.made.contains(&waiter));
            let waiting = self.emit.next_step(on) + makes;
            self.emit.wait(me, EdgeKind::Seen, Wait::entered(on, waiting), waits);
            let arming = self.emit.next_step(me) + (lowered.pre.len() + 1 + lowered.then.len()) as u32;
            let by_others = self.kept.instances.by_others.entry(armed.wait).or_default();
            by_others.push((armed.fd, Wait::completed(me, arming)));
            lowered.then.push(self.ask(own, armed.ofd, armed.fd, armed.cause)?);
        }
        Ok(())
    }

    /// Lets an instance report a descriptor once.
    fn ask(&mut self, own: u64, ofd: OfdIx, fd: i32, events: u16) -> Result<Step, CompileError> {
        let new = self.kept.instances.known.entry(ofd).or_default().insert((own, fd));
        let event = self.emit.data(&wire::epoll_event(fd, EPOLLONESHOT | u32::from(events)))?;
        let step = Step::call(nr::epoll_ctl).with(flags::ENGINE).imm(0, own);
        let step = step.imm(1, if new { EPOLL_CTL_ADD } else { EPOLL_CTL_MOD });
        Ok(step.imm(2, fd as u64).arg(3, Sel::Data, event))
    }

    /// A wait on a task's own instance, which reported `named`.
    pub(crate) fn told_of(
        &mut self,
        cx: &Cx<'_>,
        own: u64,
        mut step: Step,
        named: &[(PollEntry, Watch)],
        at_once: bool,
        mut pre: Vec<Step>,
    ) -> Result<Lowered, CompileError> {
        let entries: Vec<PollEntry> = named
            .iter()
            .map(|(entry, _)| PollEntry { events: cause(u32::from(entry.events)), ..*entry })
            .collect();
        let answers = self.emit.data(&wire::pollfds(entries.iter().copied()))?;
        if at_once {
            let mut wait = Step::of(Kind::AwaitReady);
            wait.args[0] = answers;
            pre.push(wait);
        } else {
            step = step.post(Post::AwaitReady, answers);
        }
        let by_others = self.kept.instances.by_others.remove(&cx.id()).unwrap_or_default();
        let (mut then, mut after) = (Vec::new(), Vec::new());
        let me = self.emit.prog(cx.task);
        for (entry, (_, watch)) in entries.iter().zip(named) {
            let mut others = by_others.iter().filter(|(fd, _)| *fd == entry.fd).peekable();
            if others.peek().is_none() {
                pre.push(self.ask(own, watch.ofd, entry.fd, entry.events)?);
            }
            // A report that comes after the call has returned is not for the next call; a descriptor that another thread puts in
            // is taken out after that.
            if !at_once && entries.len() > 1 {
                if let Some(known) = self.kept.instances.known.get_mut(&watch.ofd) {
                    known.remove(&(own, entry.fd));
                }
                let forget = Step::call(nr::epoll_ctl).with(flags::ENGINE).imm(0, own).imm(1, EPOLL_CTL_DEL);
                then.push(forget.imm(2, entry.fd as u64));
                for (_, armed) in others {
                    self.emit.wait(me, EdgeKind::Descriptor, *armed, &mut after);
                }
            }
        }
        let late = Late { at: pre.len() + 1, waits: after };
        Ok(Lowered { late, then, ..Lowered::after(pre, step) })
    }
}
