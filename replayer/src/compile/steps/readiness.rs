//! Calls that ask which of the descriptors that they name are ready, and what every call about readiness needs.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::emit::Lowered;
use super::super::model::Cx;
use super::super::wire;
use super::super::world::{OfdIx, OfdKind, StreamKey, detail_time};
use super::Steps;
use super::transfers::{POLLHUP, POLLIN, POLLNVAL, POLLOUT};
use ctrace_format::{Detail, PollEntry};
use ctrace_program::{Expect, PROGRAM_BASE, Post, Sel, Step};

/// Most descriptors of a `select`; the C library's sets have 1,024.
const SELECT_MAX: u64 = 4096;

impl Steps<'_> {
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
        pre.push(self.emit.await_ready([entry])?);
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
            pre.push(self.emit.await_ready([entry])?);
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

    /// After a readiness call whose answer named descriptors: all of them are ready.
    pub(super) fn all_ready(&mut self, step: Step, entries: Vec<PollEntry>) -> Result<Step, CompileError> {
        if entries.is_empty() {
            return Ok(step);
        }
        let blob = self.emit.data(&wire::pollfds(entries))?;
        Ok(step.post(Post::AwaitReady, blob))
    }

    /// The limit that a wait has here, ns. What became ready in the recording must not lose against a limit because it comes
    /// a moment later: such a wait has none, and ends when it is ready or is forced to.
    pub(super) fn time_limit(ns: u64, ready: bool) -> u64 {
        if ready && ns > 0 { u64::MAX } else { ns }
    }

    /// A call that was told of nothing but what somebody took at that moment: it lasts as long as it did, and says what there
    /// is then. `arg` is its time limit.
    pub(super) fn ends_anyway(cx: &Cx<'_>, step: Step, arg: usize) -> Step {
        let sel = match cx.known.sc {
            Sc::EpollPwait2 | Sc::Ppoll | Sc::Pselect6 => Sel::Timespec,
            Sc::Select => Sel::Timeval,
            _ => Sel::Millis,
        };
        step.arg(arg, sel, cx.call.duration_ns).expect(Expect::Any, 0)
    }

    /// Whether others may take what comes to a listener before a task does that looks at it. A look that did not find it
    /// ready in the recording is not to find it ready here.
    pub(super) fn is_contested(&self, cx: &Cx<'_>, fd: i32) -> bool {
        self.world.ofd_of(cx.task, fd).is_some_and(|ofd| match self.world.ofds[ofd as usize].kind {
            OfdKind::Sock(sock) => {
                self.facts.arrivals.is_listener(sock) && self.world.is_shared(cx.proc, fd, ofd)
            }
            _ => false,
        })
    }

    /// What interrupted a wait was let through by its mask, which is not recorded, perhaps against the mask of the thread.
    pub(super) fn let_through(&mut self, cx: &Cx<'_>, step: Step, arg: usize) -> Result<Step, CompileError> {
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
            let wait = self.emit.await_ready(answered)?;
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
pub(super) const MASK_BYTES: u64 = 8;

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
