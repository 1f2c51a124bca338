//! Epoll instances: what they watch, and what they report.

use super::super::CompileError;
use super::super::calls::{Sc, nr};
use super::super::emit::{Emit, Lowered};
use super::super::model::Cx;
use super::super::wire;
use super::super::world::{Epoll, OfdIx, ProcIx, TaskIx, Watch, detail_epoll, detail_time};
use super::Steps;
use super::readiness::MASK_BYTES;
use super::transfers::{EPOLLET, POLLIN};
use ctrace_format::PollEntry;
use ctrace_program::{Expect, Post, REPORTED_ONCE, Sel, Step, flags};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;

/// What is different about epoll instances here.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// Watches of descriptions that several epoll instances have, and that are out for a while: instance, descriptor.
    out: FxHashMap<OfdIx, FxHashSet<i32>>,
    /// By task: the value slot of what stands for a file that an instance of its reports.
    stand_ins: FxHashMap<(ProcIx, TaskIx), u32>,
}

impl Watches {
    /// A description is over.
    pub(crate) fn forget(&mut self, ofd: OfdIx) {
        self.out.remove(&ofd);
    }
    pub(crate) fn len(&self) -> usize {
        self.stand_ins.len()
    }
    /// The value slot of what stands for a file.
    pub(super) fn stand_in(&mut self, cx: &Cx<'_>, emit: &mut Emit) -> u32 {
        *self.stand_ins.entry((cx.proc, cx.task)).or_insert_with(|| emit.value_slot())
    }
}

impl Steps<'_> {
    pub(crate) fn epoll_ctl(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        if self.watches_file(cx) {
            return Ok(self.fault(cx));
        }
        let mut pre = Vec::new();
        let fd = cx.call.args[2] as i32;
        if let Some(ep) = self.ofd(cx, 0)
            && self.kept.watches.out.get(&ep).is_some_and(|fds| fds.contains(&fd))
            && let Some(ofd) = self.world.ofd_of(cx.task, fd)
            && let Some(epoll) = self.world.epoll(ep)
            && let Some(watch) = epoll.data_of(ofd, fd).and_then(|data| epoll.by_data(data)).copied()
        {
            self.set_watched(cx, ep, watch, true, &mut pre)?;
        }
        if let Some(ep) = self.ofd(cx, 0) {
            // Of a descriptor that was closed meanwhile.
            if let Some(fds) = self.kept.watches.out.get_mut(&ep) {
                fds.remove(&fd);
            }
        }
        let step = self.plain(cx, &[0, 1, 2]);
        let step = match detail_epoll(cx.call).and_then(<[_]>::first) {
            Some(entry) => {
                let blob = self.emit.data(&wire::epoll_event(fd, entry.events))?;
                step.arg(3, Sel::Data, blob)
            }
            None => step.imm(3, 0),
        };
        Ok(Lowered::after(pre, step))
    }

    /// Which of the processes that wait for the same socket is told of a connection, is up to the kernel, and the others
    /// may be told as well. Here those are told that were: a descriptor that several epoll instances watch is out of
    /// those whose waits do not report it.
    fn rewatch(&mut self, cx: &Cx<'_>, pre: &mut Vec<Step>) -> Result<(), CompileError> {
        let Some(ep) = self.ofd(cx, 0) else { return Ok(()) };
        let reported = detail_epoll(cx.call);
        if cx.call.ret > 0 && reported.is_none() {
            return Ok(());
        }
        let told: BTreeSet<u64> = reported.unwrap_or_default().iter().map(|e| e.data).collect();
        // Those that were not reported before are out already.
        let Some(epoll) = self.world.epoll_mut(ep) else { return Ok(()) };
        let mut changed = epoll.take_contested();
        changed.extend(&told);
        for data in changed {
            let Some(watch) = self.world.epoll(ep).and_then(|epoll| epoll.by_data(data)).copied() else {
                continue;
            };
            let told = told.contains(&data);
            // The others may have taken it out themselves, for a moment.
            let out = self.kept.watches.out.get(&ep).is_some_and(|fds| fds.contains(&watch.fd));
            let contested = self.world.ofds[watch.ofd as usize].watched_by.len() > 1 || told && out;
            if !contested || self.world.ofd_of(cx.task, watch.fd) != Some(watch.ofd) {
                continue;
            }
            self.set_watched(cx, ep, watch, told, pre)?;
            if told && let Some(epoll) = self.world.epoll_mut(ep) {
                epoll.contest(data);
            }
        }
        Ok(())
    }

    fn set_watched(
        &mut self,
        cx: &Cx<'_>,
        ep: OfdIx,
        watch: Watch,
        watched: bool,
        pre: &mut Vec<Step>,
    ) -> Result<(), CompileError> {
        const ADD: u64 = 1;
        const DEL: u64 = 2;
        let out = self.kept.watches.out.entry(ep).or_default();
        let changes = if watched { out.remove(&watch.fd) } else { out.insert(watch.fd) };
        if changes {
            let blob = self.emit.data(&wire::epoll_event(watch.fd, watch.events))?;
            let step = Step::call(nr::epoll_ctl)
                .with(flags::ENGINE)
                .imm(0, cx.call.args[0])
                .imm(1, if watched { ADD } else { DEL })
                .imm(2, watch.fd as u64)
                .arg(3, Sel::Data, blob);
            pre.push(step);
        }
        Ok(())
    }

    pub(crate) fn epoll_wait(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let unfinished = cx.unfinished();
        let ready = cx.call.ret > 0 && !unfinished;
        let max = cx.call.args[2].clamp(1, 4096);
        let mut step = self.plain(cx, &[0]).arg(1, Sel::Out, max * 16).imm(2, max);
        let mut pre = Vec::new();
        let own = self.own_instance(cx, &mut pre);
        if own.is_none() {
            self.rewatch(cx, &mut pre)?;
        }
        let instance = own.unwrap_or(cx.call.args[0]);
        step = step.imm(0, instance);
        let at_once;
        if cx.known.sc == Sc::EpollPwait2 {
            let ns = detail_time(cx.call, 3);
            at_once = ns == Some(0);
            step = match ns {
                Some(0) => step.arg(3, Sel::Timespec, 0),
                Some(ns) if !ready => step.arg(3, Sel::Timespec, ns),
                _ => step.imm(3, 0),
            };
        } else {
            let ms = cx.call.args[3] as i32;
            at_once = ms == 0;
            step = match ms {
                0 => step.imm(3, 0),
                ms if ms < 0 => step.imm(3, u64::from(u32::MAX)),
                ms => step.arg(3, Sel::Millis, Self::time_limit(ms as u64 * 1_000_000, ready)),
            };
        }
        if cx.known.sc != Sc::EpollWait {
            step = self.let_through(cx, step.imm(4, 0).imm(5, MASK_BYTES), 4)?;
        }
        if unfinished {
            return Ok(Lowered::after(pre, step));
        }
        step = step.expect(Expect::Ready, cx.call.ret);
        let vain = self.model().told_in_vain(cx);
        let mut named = self.named_by(cx);
        if ready && !vain.is_empty() && vain.len() as i64 == cx.call.ret {
            // It ends when it did, whether somebody is there at that moment or not.
            step = Self::ends_anyway(cx, step, 3);
            return Ok(Lowered::after(pre, step));
        }
        named.retain(|(entry, _)| !vain.contains(&entry.fd));
        if let Some(file) = self.without_files(cx, &mut named) {
            return self.with_stand_in(cx, instance, file, pre, step);
        }
        if let Some(own) = own {
            if !ready {
                return Ok(Lowered::after(pre, step));
            }
            if named.is_empty() {
                // Of what is not known here.
                step = Self::ends_anyway(cx, step, 3);
                return Ok(Lowered::after(pre, step));
            }
            return self.told_of(cx, own, step, &named, at_once, pre);
        }
        let once = self.reports_once(cx);
        if once {
            self.report_again(cx, &named, &mut pre)?;
            step = self.deliver(step, &named)?;
        }
        if !ready {
            return Ok(Lowered::after(pre, step));
        }
        if at_once {
            let entry = PollEntry { fd: cx.call.args[0] as i32, events: POLLIN, revents: 0 };
            pre.push(self.emit.await_ready([entry])?);
        }
        if !once {
            let answers = named.iter().map(|(entry, _)| *entry).collect();
            step = self.all_ready(step, answers)?;
        }
        Ok(Lowered::after(pre, step))
    }

    /// What an `epoll_wait` reported, and how that was being watched.
    fn named_by(&self, cx: &Cx<'_>) -> Vec<(PollEntry, Watch)> {
        let mut named = Vec::new();
        if let Some(epoll) = self.ofd(cx, 0).and_then(|ep| self.world.epoll(ep))
            && cx.call.ret > 0
        {
            for entry in detail_epoll(cx.call).unwrap_or_default() {
                if let Some(watch) = epoll.by_data(entry.data)
                    && self.world.ofd_of(cx.task, watch.fd) == Some(watch.ofd)
                {
                    let events = entry.events as u16 & 0x201f;
                    named.push((PollEntry { fd: watch.fd, events, revents: 0 }, *watch));
                }
            }
        }
        named
    }

    /// Whether some change is reported by one wait on the instance, and by no later one.
    fn reports_once(&self, cx: &Cx<'_>) -> bool {
        self.ofd(cx, 0).and_then(|ep| self.world.epoll(ep)).is_some_and(Epoll::reports_once)
    }

    /// What this call is to report may have been reported before, when it came sooner than it did, or several changes
    /// became one, or (room to write) nothing changed: registered anew, it is reported if it is so.
    fn report_again(
        &mut self,
        cx: &Cx<'_>,
        named: &[(PollEntry, Watch)],
        pre: &mut Vec<Step>,
    ) -> Result<(), CompileError> {
        const MOD: u64 = 3;
        for (_, watch) in named.iter().filter(|(_, watch)| watch.events & EPOLLET != 0) {
            let blob = self.emit.data(&wire::epoll_event(watch.fd, watch.events))?;
            let step = Step::call(nr::epoll_ctl).with(flags::ENGINE);
            pre.push(step.imm(0, cx.call.args[0]).imm(1, MOD).imm(2, watch.fd as u64).arg(
                3,
                Sel::Data,
                blob,
            ));
        }
        Ok(())
    }

    /// After the call, what it reported in the recording has been reported.
    fn deliver(&mut self, step: Step, named: &[(PollEntry, Watch)]) -> Result<Step, CompileError> {
        let entries = named.iter().map(|(entry, watch)| PollEntry {
            revents: u16::from(watch.events & REPORTED_ONCE != 0),
            ..*entry
        });
        let blob = self.emit.data(&wire::marked_pollfds(entries))?;
        Ok(step.post(Post::Delivered, blob))
    }
}
