//! Calls that ask which descriptors are ready.

use super::super::CompileError;
use super::super::calls::{Sc, nr};
use super::super::emit::{Emit, Lowered};
use super::super::lower::Lower;
use super::super::model::Cx;
use super::super::wire;
use super::super::world::{
    Epoll, OfdIx, OfdKind, ProcIx, StreamKey, TaskIx, Watch, detail_epoll, detail_time,
};
use super::{EPOLLET, POLLHUP, POLLIN, POLLNVAL, POLLOUT};
use ctrace_format::{Detail, PollEntry};
use ctrace_program::{Expect, Kind, PROGRAM_BASE, Post, REPORTED_ONCE, Sel, Step, flags};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;

/// Most descriptors of a `select`; the C library's sets have 1,024.
const SELECT_MAX: u64 = 4096;

/// The state of epoll instances here that differs from the recorded one.
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

impl Lower<'_> {
    /// An engine's poll before the call, when it would fail if it came too early.
    pub(crate) fn ready_first(
        &mut self,
        cx: &Cx<'_>,
        ofd: OfdIx,
        events: u16,
        pre: &mut Vec<Step>,
    ) -> Result<(), CompileError> {
        // What was seen at a listener that others have, too, may have been another connection than this one.
        let seen =
            self.world.ofds[ofd as usize].ready.is_some() && !self.is_contested(cx, cx.call.args[0] as i32);
        if !self.nonblocking(cx, ofd) || seen {
            return Ok(());
        }
        let entry = PollEntry { fd: cx.call.args[0] as i32, events, revents: 0 };
        let blob = self.emit.data(&wire::pollfds([entry]))?;
        let mut step = Step::of(Kind::AwaitReady);
        step.args[0] = blob;
        pre.push(step);
        Ok(())
    }

    /// An engine's poll before a call that failed because the other end was gone: it must not come before that end has
    /// gone here. `poll` tells it without being asked for an event: `POLLERR` on a pipe without readers (`pipe_poll`,
    /// fs/pipe.c), `POLLHUP` on a socket whose other end was closed.
    pub(crate) fn gone_first(
        &mut self,
        cx: &Cx<'_>,
        ofd: Option<OfdIx>,
        pre: &mut Vec<Step>,
    ) -> Result<(), CompileError> {
        const EPIPE: i64 = -32;
        const ECONNRESET: i64 = -104;
        const ENOTCONN: i64 = -107;
        let Some(ofd) = ofd.filter(|_| matches!(cx.call.ret, EPIPE | ECONNRESET | ENOTCONN)) else {
            return Ok(());
        };
        let gone = match self.world.ofds[ofd as usize].kind {
            OfdKind::Pipe { write, .. } => write,
            // Without the partner's end, the failure comes from a shutdown of one's own, which needs no wait.
            OfdKind::Sock(sock) => self.world.socks[sock as usize]
                .partner
                .is_some_and(|partner| self.world.socks[partner as usize].closed),
            _ => false,
        };
        if gone {
            let entry = PollEntry { fd: cx.call.args[0] as i32, events: 0, revents: 0 };
            let blob = self.emit.data(&wire::pollfds([entry]))?;
            let mut step = Step::of(Kind::AwaitReady);
            step.args[0] = blob;
            pre.push(step);
        }
        Ok(())
    }

    /// Whether a read that found nothing was made while a write to the same stream was under way. Such a write puts its
    /// bytes in as they fit: nothing that the recording tells keeps them from arriving a moment sooner here.
    pub(crate) fn was_being_written(&self, cx: &Cx<'_>, ofd: OfdIx) -> bool {
        let writer = match self.world.ofds[ofd as usize].kind {
            OfdKind::Pipe { pipe, .. } => Some(StreamKey::Pipe(pipe)),
            OfdKind::Sock(sock) => self.world.socks[sock as usize].partner.map(StreamKey::Sock),
            _ => None,
        };
        let Some(writes) = writer.and_then(|end| self.facts.blocked_writes.get(&end)) else { return false };
        let next = writes.partition_point(|(_, end)| *end < cx.call.t_ns);
        writes.get(next).is_some_and(|(start, _)| *start <= cx.call.t_ns + cx.call.duration_ns)
    }

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

    /// After a readiness call whose answer named descriptors: all of them are ready.
    pub(crate) fn all_ready(&mut self, step: Step, entries: Vec<PollEntry>) -> Result<Step, CompileError> {
        if entries.is_empty() {
            return Ok(step);
        }
        let blob = self.emit.data(&wire::pollfds(entries))?;
        Ok(step.post(Post::AwaitReady, blob))
    }

    /// The limit that a wait has here, ns. What became ready in the recording must not lose against a limit because it comes
    /// a moment later: such a wait has none, and ends when it is ready or is forced to.
    fn time_limit(ns: u64, ready: bool) -> u64 {
        if ready && ns > 0 { u64::MAX } else { ns }
    }

    /// A call that was told of nothing but what somebody took at that moment: it lasts as long as it did, and says what there
    /// is then. `arg` is its time limit.
    fn ends_anyway(cx: &Cx<'_>, step: Step, arg: usize) -> Step {
        let sel = match cx.known.sc {
            Sc::EpollPwait2 | Sc::Ppoll | Sc::Pselect6 => Sel::Timespec,
            Sc::Select => Sel::Timeval,
            _ => Sel::Millis,
        };
        step.arg(arg, sel, cx.call.duration_ns).expect(Expect::Any, 0)
    }

    /// Whether others may take what comes to a listener before a task does that looks at it. A look that did not find it
    /// ready in the recording is not to find it ready here.
    fn is_contested(&self, cx: &Cx<'_>, fd: i32) -> bool {
        self.world.ofd_of(cx.task, fd).is_some_and(|ofd| match self.world.ofds[ofd as usize].kind {
            OfdKind::Sock(sock) => {
                self.facts.arrivals.is_listener(sock) && self.world.is_shared(cx.proc, fd, ofd)
            }
            _ => false,
        })
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
                // It reported descriptors that are not known here.
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
            let blob = self.emit.data(&wire::pollfds([entry]))?;
            let mut wait = Step::of(Kind::AwaitReady);
            wait.args[0] = blob;
            pre.push(wait);
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

    /// What interrupted a wait was let through by its mask, which is not recorded, perhaps against the mask of the thread.
    fn let_through(&mut self, cx: &Cx<'_>, step: Step, arg: usize) -> Result<Step, CompileError> {
        if !was_interrupted(cx) {
            return Ok(step);
        }
        let mask = self.emit.data(&[0; MASK_BYTES as usize])?;
        Ok(step.arg(arg, Sel::Data, mask))
    }

    pub(crate) fn poll(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let unfinished = cx.unfinished();
        let ready = cx.call.ret > 0 && !unfinished;
        let mut entries = asked_about(cx);
        let by_files = self.polled_files(cx, &mut entries);
        let count = cx.call.args[1].min(4096) as usize;
        if count > 0 && entries.is_empty() {
            return Ok(self.surrogate(cx));
        }
        let entries = &entries[..entries.len().min(count)];
        let vain = self.model().told_in_vain(cx);
        let mut asked = entries.to_vec();
        for entry in asked.iter_mut().filter(|entry| entry.revents == 0 && self.is_contested(cx, entry.fd)) {
            entry.events &= !POLLIN;
        }
        let blob = self.emit.polled(&asked, count)?;
        let mut step = self.call_step(cx).arg(0, Sel::InOut, blob).imm(1, count as u64);
        let mut at_once = false;
        if cx.known.sc == Sc::Ppoll {
            let ns = detail_time(cx.call, 2);
            step = match ns {
                Some(ns) if ns == 0 || !ready => {
                    at_once = ns == 0;
                    step.arg(2, Sel::Timespec, ns)
                }
                _ => step.imm(2, 0),
            };
            step = self.let_through(cx, step.imm(3, 0).imm(4, MASK_BYTES), 3)?;
        } else {
            let ms = cx.call.args[2] as i32;
            at_once |= ms == 0;
            step = match ms {
                0 => step.imm(2, 0),
                ms if ms < 0 => step.imm(2, u64::from(u32::MAX)),
                ms => step.arg(2, Sel::Millis, Self::time_limit(ms as u64 * 1_000_000, ready)),
            };
        }
        if unfinished {
            return Ok(step.into());
        }
        step = step.expect(Expect::Ready, cx.call.ret);
        if !ready {
            return Ok(step.into());
        }
        if by_files {
            return Ok(Self::in_its_time(cx, step));
        }
        let answered: Vec<PollEntry> = entries
            .iter()
            // POLLNVAL: not open, which nothing will change.
            .filter(|e| e.revents & !POLLNVAL != 0 && e.fd >= 0 && self.world.ofd_of(cx.task, e.fd).is_some())
            .filter(|e| !vain.contains(&e.fd))
            .map(|e| PollEntry { events: e.revents, ..*e })
            .collect();
        if answered.is_empty() && !vain.is_empty() {
            return Ok(Self::ends_anyway(cx, step, 2).into());
        }
        self.with_answers(step, answered, at_once)
    }

    pub(crate) fn with_answers(
        &mut self,
        step: Step,
        answered: Vec<PollEntry>,
        at_once: bool,
    ) -> Result<Lowered, CompileError> {
        if at_once && !answered.is_empty() {
            let blob = self.emit.data(&wire::pollfds(answered))?;
            let mut wait = Step::of(Kind::AwaitReady);
            wait.args[0] = blob;
            return Ok(Lowered::after(vec![wait], step));
        }
        Ok(self.all_ready(step, answered)?.into())
    }

    pub(crate) fn select(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let unfinished = cx.unfinished();
        let ready = cx.call.ret > 0 && !unfinished;
        let mut entries = asked_about(cx);
        let by_files = self.polled_files(cx, &mut entries);
        let nfds = cx.call.args[0].min(SELECT_MAX);
        if ready && entries.is_empty() {
            return Ok(self.surrogate(cx));
        }
        let vain = self.model().told_in_vain(cx);
        let mut step = self.call_step(cx).imm(0, nfds);
        for (arg, bit) in [(1, POLLIN), (2, POLLOUT), (3, 2)] {
            // Of a call that was under way when the recording began only the answer is known.
            let asked = |e: &&PollEntry| {
                (e.events | e.revents) & bit != 0
                    && !(bit == POLLIN && e.revents == 0 && self.is_contested(cx, e.fd))
            };
            let set: Vec<i32> = entries.iter().filter(asked).map(|e| e.fd).collect();
            step = if set.is_empty() {
                step.imm(arg, 0)
            } else {
                let blob = self.emit.data(&wire::fd_set(nfds, set))?;
                step.arg(arg, Sel::InOut, blob)
            };
        }
        let ns = detail_time(cx.call, 4);
        let sel = if cx.known.sc == Sc::Select { Sel::Timeval } else { Sel::Timespec };
        step = match ns {
            Some(0) => step.arg(4, sel, 0),
            Some(ns) if !ready => step.arg(4, sel, ns),
            _ => step.imm(4, 0),
        };
        if cx.known.sc == Sc::Pselect6 {
            step = step.imm(5, 0);
            if was_interrupted(cx) {
                // `struct { const sigset_t *mask; size_t bytes; }`
                let mask = self.emit.data(&[0; MASK_BYTES as usize])?;
                let pair = self.emit.words(&[PROGRAM_BASE + mask, MASK_BYTES])?;
                step = step.arg(5, Sel::Data, pair);
            }
        }
        if unfinished {
            return Ok(step.into());
        }
        step = step.expect(Expect::Ready, cx.call.ret);
        if by_files {
            return Ok(Self::in_its_time(cx, step));
        }
        let answered: Vec<PollEntry> = entries
            .iter()
            .filter(|e| ready && e.revents != 0 && self.world.ofd_of(cx.task, e.fd).is_some())
            .filter(|e| !vain.contains(&e.fd))
            .map(|e| PollEntry { events: e.revents | POLLHUP, ..*e })
            .collect();
        if ready && answered.is_empty() && !vain.is_empty() {
            return Ok(Self::ends_anyway(cx, step, 4).into());
        }
        self.with_answers(step, answered, ns == Some(0))
    }
}

/// Bytes of a signal mask of the kernel.
const MASK_BYTES: u64 = 8;

/// Whether a signal ended a call: EINTR, or ERESTARTNOHAND and its like, which programs see as that.
fn was_interrupted(cx: &Cx<'_>) -> bool {
    matches!(cx.call.ret, -4 | -516..=-512)
}

/// The descriptors of a `poll` or `select`, as they were recorded.
fn asked_about(cx: &Cx<'_>) -> Vec<PollEntry> {
    let entries = cx.call.details.iter().find_map(|d| match d {
        Detail::Poll { entries, .. } => Some(entries.clone()),
        _ => None,
    });
    entries.unwrap_or_default()
}
