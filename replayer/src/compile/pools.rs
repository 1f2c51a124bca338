//! Epoll instances on which several tasks wait.
//!
//! Whom of them the kernel tells of a change is up to the order in which they wait (`__add_wait_queue_exclusive`,
//! fs/eventpoll.c), and how often it tells is up to how many changes come before somebody looks. Here both are known. So
//! each of these tasks waits on an instance of its own, which watches what the recorded wait reported for as long as the
//! wait lasts: it is woken by the same cause, and nobody else is. The recorded instance stays, for the calls that change it.

use super::CompileError;
use super::calls::{Sc, nr};
use super::io::{POLLIN, POLLOUT};
use super::lower::{Cx, Lower, Lowered};
use super::wire;
use super::world::{O_CLOEXEC, OfdIx, TaskIx, Watch, World};
use ctrace_format::{PollEntry, Syscall};
use ctrace_program::{Kind, PARKED, Post, Sel, Step, fd_operand, flags};
use rustc_hash::{FxHashMap, FxHashSet};

/// First number of the tasks' own instances, if the recording has no higher one.
const FIRST: u64 = PARKED + 128;
/// Numbers below which a close that failed counts as one that the recording has.
const CLOSED_MAX: u64 = 4096;
/// Most tasks with an instance of their own.
const TASKS_MAX: u64 = 4096;
const EPOLL_CTL_ADD: u64 = 1;
const EPOLL_CTL_DEL: u64 = 2;

/// What is known of such instances before any step is written.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    /// By instance: who waited on it first.
    first: FxHashMap<OfdIx, TaskIx>,
    pooled: FxHashSet<OfdIx>,
    waiters: FxHashSet<TaskIx>,
    /// One more than the highest number that a close names.
    closed: u64,
    /// The number of the first instance.
    base: u64,
}

/// Whether a call waits on an epoll instance.
pub(crate) fn waits_on_epoll(sc: Sc) -> bool {
    matches!(sc, Sc::EpollWait | Sc::EpollPwait | Sc::EpollPwait2)
}

impl Pools {
    /// Notes a call, after what it changed.
    pub(crate) fn saw(&mut self, world: &World, task: TaskIx, call: &Syscall, sc: Sc) {
        if sc == Sc::Close {
            let number = u64::from(call.args[0] as u32) + 1;
            self.closed = self.closed.max(if number <= CLOSED_MAX { number } else { 0 });
        }
        if !waits_on_epoll(sc) {
            return;
        }
        let Some(ep) = world.ofd_of(task, call.args[0] as i32) else { return };
        let first = *self.first.entry(ep).or_insert(task);
        if first != task {
            self.pooled.insert(ep);
            self.waiters.extend([first, task]);
        }
    }

    pub(crate) fn finish(mut self, numbers: u64) -> Self {
        self.base = FIRST.max(self.closed).max(numbers);
        self
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
    /// Numbers that were given. None is given twice: a process that was forked has those of its parent.
    given: u64,
}

impl Own {
    /// A task executed another program, which has none.
    pub(crate) fn executed(&mut self, task: TaskIx) {
        self.numbers.remove(&task);
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
        if !self.facts.pools.pooled.contains(&ep) || self.world.epoll(ep).is_none() {
            return None;
        }
        if let Some(number) = self.own_instances.numbers.get(&cx.task) {
            return Some(*number);
        }
        let number = self.facts.pools.base + self.own_instances.given;
        let limit = self.world.procs[cx.proc as usize].fd_limit;
        if self.own_instances.given >= TASKS_MAX || limit.is_some_and(|limit| number >= limit) {
            return None;
        }
        self.own_instances.given += 1;
        self.own_instances.numbers.insert(cx.task, number);
        self.meter.descriptor(i32::try_from(number).unwrap_or(i32::MAX - 1));
        let make = Step::call(nr::epoll_create1).with(flags::ENGINE).imm(0, u64::from(O_CLOEXEC));
        pre.push(make.post(Post::Fd, fd_operand(number as u32, true)));
        Some(number)
    }

    /// A wait on a task's own instance, which reported `named`.
    pub(crate) fn told_of(
        &mut self,
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
        let answers = self.b.data(&wire::pollfds(entries.iter().copied()))?;
        if at_once {
            let mut wait = Step::of(Kind::AwaitReady);
            wait.args[0] = answers;
            pre.push(wait);
        } else {
            step = step.post(Post::AwaitReady, answers);
        }
        let engine = Step::call(nr::epoll_ctl).with(flags::ENGINE).imm(0, own);
        let mut then = Vec::new();
        for entry in &entries {
            let event = self.b.data(&wire::epoll_event(entry.fd, u32::from(entry.events)))?;
            let change = engine.imm(2, entry.fd as u64);
            pre.push(change.imm(1, EPOLL_CTL_ADD).arg(3, Sel::Data, event));
            then.push(change.imm(1, EPOLL_CTL_DEL).imm(3, 0));
        }
        Ok(Lowered { then, ..Lowered::after(pre, step) })
    }
}
