//! What a call has to wait for, and what those after it will have to know.

use super::super::CompileError;
use super::super::calls::{Sc, nr};
use super::super::deps::{EdgeKind, Need};
use super::super::paths::PathId;
use super::super::world::{
    BLOCKED_NS, CLOSE_RANGE_CLOEXEC, CLOSE_RANGE_UNSHARE, FdSlot, MAX_WATCHERS, Mark, OfdIx, OfdKind, ProcIx,
    SOCK_DGRAM, StreamKey, TaskIx, World, detail_epoll,
};
use super::{
    Cx, FdMarks, Leaving, Lower, Lowered, accepting, fd_args, is_name_change, looking, made_fds, transfers,
};
use ctrace_format::Detail;
use ctrace_program::{Kind, Sel, Step, Wait, flags};
use std::collections::{BTreeSet, VecDeque};

/// Calls that made descriptors that are kept of one table of descriptors.
const MAKERS: usize = 32;
/// Tasks that are kept of those that used a descriptor.
const USERS: usize = 16;
/// Senders of signals that are kept of one process.
const SENDERS: usize = 16;
/// Readers that are kept of one file, and tasks that looked at one name.
const READERS: usize = 32;
const LOOKERS: usize = 8;
/// Descriptors of a process among which one for signals is looked for.
const MAX_LOOKED_AT: usize = 256;
/// Descriptors of a range that is closed whose users are waited for.
const RANGE_MAX: usize = 1024;
const EBADF: i64 = -9;

/// Calls that are kept of those that read or wrote the same. The last one alone would not do: calls are told in the order in
/// which they ended, and those that began late and were quick hide who is to be waited for.
const RIVALS: usize = 16;

/// Every mark is needed.
fn all<'a>(marks: impl IntoIterator<Item = &'a Vec<Mark>>, kind: EdgeKind) -> impl Iterator<Item = Need> {
    marks.into_iter().flatten().map(move |mark| Need { kind, mark: *mark })
}

/// Of each task, the last call that began before `start_ns`.
fn before<'a>(
    marks: impl IntoIterator<Item = &'a VecDeque<Mark>>,
    start_ns: u64,
    kind: EdgeKind,
) -> impl Iterator<Item = Need> {
    let mut met: Vec<TaskIx> = Vec::new();
    let marks = marks.into_iter().flat_map(|marks| marks.iter().rev());
    marks.filter(move |mark| mark.start_ns < start_ns).filter_map(move |mark| {
        let known = met.contains(&mark.task);
        if !known && mark.end_ns <= start_ns {
            met.push(mark.task);
        }
        (!known).then_some(Need { kind, mark: *mark })
    })
}

/// Keeps the last marks.
fn keep(marks: &mut VecDeque<Mark>, mark: Mark) {
    if marks.len() >= RIVALS {
        marks.pop_front();
    }
    marks.push_back(mark);
}

/// Keeps the last mark of each task, and of the tasks the last `most`.
pub(super) fn keep_latest(marks: &mut Vec<Mark>, mark: Mark, most: usize) {
    marks.retain(|m| m.task != mark.task);
    if marks.len() >= most {
        marks.remove(0);
    }
    marks.push(mark);
}

impl Lower<'_> {
    pub(crate) fn find_joins(&mut self) {
        for (word, tasks) in &self.facts.tid_words {
            let Some(waits) = self.facts.futexes.by_word.get(word) else { continue };
            // The same word serves one thread after the other; waits and threads pair up in order.
            for (child, wait) in tasks.iter().zip(waits) {
                self.joins.insert(*child, *wait);
            }
            for child in tasks {
                self.join_words.entry(*child).or_insert(*word);
            }
        }
        self.joined = self.joins.iter().map(|(child, wait)| (*wait, *child)).collect();
    }

    /// What a call has to wait for, as far as other tasks made it.
    pub(crate) fn needs(&mut self, cx: &Cx<'_>, waits: &mut Vec<Wait>) {
        let mut needs: Vec<Need> = Vec::new();
        let files = self.world.procs[cx.proc as usize].files;
        let call = cx.call;
        for fd in fd_args(cx) {
            if let Some(marks) = self.fd_marks.get(&(files, fd)) {
                needs.extend(marks.made.map(|mark| Need { kind: EdgeKind::Descriptor, mark }));
                if call.ret == EBADF {
                    // Somebody else had closed it by then.
                    needs.extend(marks.freed.map(|mark| Need { kind: EdgeKind::Descriptor, mark }));
                }
                if cx.known.sc == Sc::Close {
                    needs.extend(
                        marks.used.iter().map(|mark| Need { kind: EdgeKind::Descriptor, mark: *mark }),
                    );
                }
            }
        }
        if call.ret >= 0 {
            for fd in made_fds(cx) {
                // After who found it free.
                let used = self.fd_marks.get(&(files, fd)).map(|marks| marks.used.as_slice());
                needs.extend(
                    used.into_iter().flatten().map(|mark| Need { kind: EdgeKind::Descriptor, mark: *mark }),
                );
                // A close gives the number back when it begins, so that another thread may have it before the close returns.
                // Here it has it after that: what came sooner would be what is closed.
                let freed = self.fd_marks.get(&(files, fd)).and_then(|marks| marks.freed);
                // An accept has its number when it begins, however long it takes.
                let accepts = accepting(cx).is_some();
                let before = |mark: &Mark| !accepts || mark.start_ns < call.t_ns;
                if let Some(mark) = freed.filter(|mark| mark.task != cx.task && before(mark)) {
                    let (me, on) = (self.prog(cx.task), self.prog(mark.task));
                    self.deps.add(me, EdgeKind::Descriptor, Wait::completed(on, mark.step), waits);
                }
            }
        }
        let seq = self.world.tasks[cx.task as usize].ops;
        if let Some((other, at)) = self.facts.closed_by_then.get(&(cx.task, seq)).copied()
            && self.world.tasks.get(other as usize).is_some_and(|state| state.ops == at)
        {
            // It has not returned yet: a close is one step, and the next of its task.
            let (me, on) = (self.prog(cx.task), self.prog(other));
            let close = self.b.next_step(on);
            self.deps.add(me, EdgeKind::Descriptor, Wait::completed(on, close), waits);
        }
        if let Some((other, at)) = self.facts.waiting_by_then.get(&(cx.task, seq)).copied()
            && self.world.tasks.get(other as usize).is_some_and(|state| state.ops == at)
        {
            // It is the next step of its task, and waits still.
            let (me, on) = (self.prog(cx.task), self.prog(other));
            let accept = self.b.next_step(on);
            self.deps.add(me, EdgeKind::Descriptor, Wait::entered(on, accept), waits);
        }
        for fd in self.range_closed(cx) {
            if let Some(marks) = self.fd_marks.get(&(files, fd)) {
                let before = marks.made.iter().chain(&marks.used);
                needs.extend(before.map(|mark| Need { kind: EdgeKind::Descriptor, mark: *mark }));
            }
        }
        self.after_who_made_descriptors(cx, files, &mut needs);
        let (reads, writes) = transfers(cx);
        for fd in reads.iter().chain(&writes) {
            let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
            if matches!(self.world.ofds[ofd as usize].kind, OfdKind::Node { .. } | OfdKind::Mem { .. })
                && !self.appends(cx, ofd)
            {
                needs.extend(before(self.offsets.get(&ofd), call.t_ns, EdgeKind::Offset));
            }
        }
        for fd in &reads {
            let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
            if let Some(inode) = self.world.inode_of(ofd) {
                let written = self.content.get(&inode).map(|(written, _)| written);
                let written = written.into_iter().chain(self.appended.get(&inode));
                needs.extend(before(written, call.t_ns, EdgeKind::Content));
            }
            if let Some(key) = self.stream_key(ofd, false) {
                self.after_rivals(cx, ofd, key, EdgeKind::Stream, &mut needs, waits);
            }
        }
        if let Some(listener) = looking(cx).and_then(|fd| self.world.sock_of(cx.task, fd)) {
            // Who accepts which connection is decided by who comes first, and so is who comes in vain.
            if let Some(place) = self.place_taken(cx) {
                self.after_earlier_connections(cx, place, waits);
            } else if let Some(ofd) = self.world.ofd_of(cx.task, call.args[0] as i32) {
                let key = StreamKey::Accepts(listener);
                self.after_rivals(cx, ofd, key, EdgeKind::Connection, &mut needs, waits);
            }
        }
        if let Some(ofd) = accepting(cx).and_then(|fd| self.world.ofd_of(cx.task, fd))
            && let OfdKind::Sock(listener) = self.world.ofds[ofd as usize].kind
            && let Some(marks) = self.sightings.get(&ofd).cloned()
        {
            self.after_who_was_told(cx, listener, &marks, waits);
        }
        for fd in reads.iter().copied() {
            // Others that saw it ready would look in vain after it was taken.
            if call.ret >= 0
                && let Some(ofd) = self.world.ofd_of(cx.task, fd)
                && let Some(sightings) = self.sightings.get(&ofd)
            {
                // Even those that began to look while this one was about to take it: it was taken after they saw it.
                for mark in sightings.iter().filter(|m| m.task != cx.task) {
                    let (me, on) = (self.prog(cx.task), self.prog(mark.task));
                    self.deps.add(me, EdgeKind::Seen, Wait::completed(on, mark.step), waits);
                }
            }
        }
        for fd in &writes {
            let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
            if let Some(inode) = self.world.inode_of(ofd)
                && let Some((written, readers)) = self.content.get(&inode)
            {
                needs.extend(before([written], call.t_ns, EdgeKind::Content));
                needs.extend(all([readers], EdgeKind::Content));
                if !self.appends(cx, ofd) {
                    let appended = self.appended.get(&inode);
                    needs.extend(before(appended, call.t_ns, EdgeKind::Content));
                }
            }
            if let Some(key) = self.stream_key(ofd, true) {
                needs.extend(before(self.stream_writes.get(&key), call.t_ns, EdgeKind::Stream));
                if self.world.ofds[ofd as usize].kind == OfdKind::Event {
                    // A read takes all that was added: what is added too early is not there for the next one.
                    needs.extend(before(self.stream_reads.get(&key), call.t_ns, EdgeKind::Stream));
                }
            }
            for mark in self.idle_of_reader(ofd) {
                needs.push(Need { kind: EdgeKind::NotYet, mark });
            }
        }
        for receiver in self.datagram_receivers(cx) {
            // Who receives several's datagrams has them in the order in which they were sent.
            needs.extend(before(
                self.stream_writes.get(&StreamKey::Datagrams(receiver)),
                call.t_ns,
                EdgeKind::Stream,
            ));
            let looked = self.idle_marks(self.world.socks[receiver as usize].ofd);
            needs.extend(looked.into_iter().map(|mark| Need { kind: EdgeKind::NotYet, mark }));
        }
        self.after_those_sent(cx, &mut needs);
        for (path, _) in self.named_paths(cx) {
            if let Some((changed, seen)) = self.path_marks.get(&path) {
                needs.extend(before([changed], call.t_ns, EdgeKind::Path));
                if is_name_change(cx) {
                    needs.extend(all([seen], EdgeKind::Path));
                }
            }
            // And after its directory got its name, when that was made meanwhile.
            let (mut below, mut at) = (path, self.world.paths.parent(path));
            while at != below && self.world.fs.made().contains(&at) {
                let changed = self.path_marks.get(&at).map(|(changed, _)| changed);
                needs.extend(before(changed, call.t_ns, EdgeKind::Path));
                (below, at) = (at, self.world.paths.parent(at));
            }
        }
        self.among_companions(cx, &mut needs, waits);
        self.lock_needs(cx, &mut needs, waits);
        self.after_earlier_reports(cx, waits);
        if let Some(listener) = self.before_arriving(cx, waits) {
            let companions = self.companions(listener);
            let listens = companions.iter().filter_map(|member| self.listens.get(member));
            needs.extend(listens.map(|m| Need { kind: EdgeKind::Connection, mark: *m }));
            for mark in self.idle_marks(self.world.socks[listener as usize].ofd) {
                needs.push(Need { kind: EdgeKind::NotYet, mark });
            }
        }
        if matches!(cx.known.sc, Sc::Kill | Sc::Tkill | Sc::Tgkill) {
            // A signal to one that had ended must not come before that.
            let target = cx.call.args[usize::from(cx.known.sc == Sc::Tgkill)];
            let ended = self.by_pid.get(&target).and_then(|task| self.exit_marks.get(task));
            needs.extend(ended.map(|mark| Need { kind: EdgeKind::NotEnded, mark: *mark }));
            self.unsent(cx, target, &mut needs);
            self.as_far_as(cx, target, &mut needs);
            if let Some(task) =
                self.by_pid.get(&target).copied().filter(|task| self.leaving.contains_key(task))
            {
                // It had begun to end, and its next step is that: to block signals, or to exit.
                let (me, on) = (self.prog(cx.task), self.prog(task));
                let next = self.b.next_step(on);
                self.deps.add(me, EdgeKind::NotEnded, Wait::completed(on, next), waits);
            }
        }
        for fd in &reads {
            let is_signals = |o: OfdIx| self.world.ofds[o as usize].kind == OfdKind::Signal;
            if self.world.ofd_of(cx.task, *fd).is_some_and(is_signals)
                && let Some(sent) = self.signals_sent.get(&cx.proc)
            {
                // What had been sent by then comes with one read, or is one signal.
                needs.extend(sent.iter().map(|mark| Need { kind: EdgeKind::Signal, mark: *mark }));
            }
        }
        if let Some(child) = self.reaped_child(cx) {
            // Who could still be sent a signal had not been waited for.
            let killed = self.kill_marks.get(&child);
            needs.extend(killed.map(|mark| Need { kind: EdgeKind::NotEnded, mark: *mark }));
        }
        for ofd in self.closing(cx) {
            // Somebody's writes succeeded while this end was open.
            match self.world.ofds[ofd as usize].kind {
                OfdKind::Pipe { pipe, write: false } => {
                    needs.extend(before(
                        self.stream_writes.get(&StreamKey::Pipe(pipe)),
                        call.t_ns,
                        EdgeKind::Stream,
                    ));
                }
                OfdKind::Sock(sock) => {
                    // Even those that this close was under way with: it did not reach them.
                    let partner = self.world.socks[sock as usize].partner;
                    let written =
                        partner.and_then(|partner| self.stream_writes.get(&StreamKey::Sock(partner)));
                    let last = written.and_then(|marks| marks.back()).copied();
                    if let Some(mark) = last.filter(|mark| mark.task != cx.task) {
                        let (me, on) = (self.prog(cx.task), self.prog(mark.task));
                        self.deps.add(me, EdgeKind::Stream, Wait::completed(on, mark.step), waits);
                    }
                    needs.extend(before(written, call.t_ns, EdgeKind::Stream));
                }
                _ => {}
            }
        }
        let parent = self.world.procs[cx.proc as usize].parent;
        if let Some(parent) = parent.filter(|_| self.ends_process(cx)) {
            // Two SIGCHLDs at once are one: the next child ends after the last one's was dealt with.
            let dealt_with = self.handled.get(&parent).copied();
            needs.extend(dealt_with.map(|mark| Need { kind: EdgeKind::NotEnded, mark }));
        }
        let me = self.prog(cx.task);
        for need in needs {
            if need.mark.task != cx.task {
                let on = self.prog(need.mark.task);
                self.deps.need(me, on, &need, call.t_ns, waits);
            }
        }
        if cx.known.sc == Sc::ExitGroup {
            self.after_other_threads(cx, waits);
        }
        if matches!(cx.known.sc, Sc::Exit | Sc::ExitGroup) {
            self.join_wait(cx.task, call.t_ns, waits);
        }
    }

    /// The end of a process ends all of its threads, wherever they are: not before the calls that they had made by then.
    fn after_other_threads(&mut self, cx: &Cx<'_>, waits: &mut Vec<Wait>) {
        let me = self.prog(cx.task);
        let threads = self.threads_of.get(&cx.proc).cloned().unwrap_or_default();
        for other in threads {
            let state = &self.world.tasks[other as usize];
            if other == cx.task || state.proc != cx.proc || state.ops == 0 || state.exited {
                continue;
            }
            let (start_ns, end_ns) = (state.last_start_ns, state.last_end_ns);
            let mark = Mark { task: other, seq: state.ops - 1, step: state.label, start_ns, end_ns };
            let on = self.prog(other);
            self.deps.need(me, on, &Need { kind: EdgeKind::NotEnded, mark }, cx.call.t_ns, waits);
        }
    }

    /// Whether a call appends to a file: where its bytes go is up to nobody who appends as well, and what they come to in all
    /// is the same in every order.
    fn appends(&self, cx: &Cx<'_>, ofd: OfdIx) -> bool {
        matches!(cx.known.sc, Sc::Write | Sc::Writev) && self.world.ofds[ofd as usize].append
    }

    /// Several messages are taken at once when they are there: those from inside are sent by then.
    fn after_those_sent(&self, cx: &Cx<'_>, needs: &mut Vec<Need>) {
        if cx.known.sc != Sc::Recvmmsg || cx.call.ret < 2 {
            return;
        }
        let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32) else { return };
        let Some(datagrams) = self.datagrams.get(&sock) else { return };
        let wanted = datagrams.taken.saturating_add(cx.call.ret as u64);
        let last = datagrams.last.iter().find(|(upto, _)| *upto >= wanted);
        needs.extend(last.map(|(_, mark)| Need { kind: EdgeKind::Stream, mark: *mark }));
    }

    /// Counts the datagrams that a call sent to sockets inside, or took.
    fn remember_datagrams(&mut self, cx: &Cx<'_>, mark: Mark) {
        let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32) else { return };
        if self.world.socks[sock as usize].kind & 0xf != SOCK_DGRAM {
            return;
        }
        let taken = match cx.known.sc {
            Sc::Read | Sc::Readv | Sc::Recvfrom | Sc::Recvmsg => 1,
            Sc::Recvmmsg => cx.call.ret.unsigned_abs(),
            _ => 0,
        };
        if taken > 0
            && let Some(datagrams) = self.datagrams.get_mut(&sock)
        {
            datagrams.taken = datagrams.taken.saturating_add(taken);
        }
        for to in World::destinations(cx.call, cx.known.sc) {
            let Some(receiver) = self.world.receiver_of(cx.task, sock, to.as_ref()) else { continue };
            let datagrams = self.datagrams.entry(receiver).or_default();
            datagrams.sent += 1;
            if datagrams.last.back().is_some_and(|(_, last)| *last == mark) {
                datagrams.last.pop_back();
            } else if datagrams.last.len() >= RIVALS {
                datagrams.last.pop_front();
            }
            datagrams.last.push_back((datagrams.sent, mark));
        }
    }

    /// Descriptors that a call on a range of them closes, as far as their table is others' as well.
    fn range_closed(&self, cx: &Cx<'_>) -> Vec<i32> {
        if cx.known.sc != Sc::CloseRange
            || cx.call.ret != 0
            || cx.call.args[2] & (CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0
            || !self.world.has_shared_files(cx.proc)
        {
            return Vec::new();
        }
        let number = |value: u64| i32::try_from(value as u32).unwrap_or(i32::MAX);
        let (first, last) = (number(cx.call.args[0]), number(cx.call.args[1]));
        let inside = self.world.files_of(cx.task).slots.from(&first).map(|(fd, _)| *fd);
        inside.take_while(|fd| *fd <= last).take(RANGE_MAX).collect()
    }

    /// The child that a wait ends the life of.
    fn reaped_child(&self, cx: &Cx<'_>) -> Option<TaskIx> {
        const P_PID: u64 = 1;
        let pid = match cx.known.sc {
            Sc::Wait4 if cx.call.ret > 0 => cx.call.ret as u64,
            Sc::Waitid if cx.call.ret == 0 && cx.call.args[0] == P_PID => cx.call.args[1],
            _ => return None,
        };
        self.by_pid.get(&pid).copied()
    }

    /// An accept takes a number before it waits for a connection (`__sys_accept4_file`, net/socket.c). Begun too early,
    /// it would keep the number from who got it in the recording.
    fn after_who_made_descriptors(&self, cx: &Cx<'_>, files: u32, needs: &mut Vec<Need>) {
        if !matches!(cx.known.sc, Sc::Accept | Sc::Accept4) {
            return;
        }
        let listener = self.world.ofd_of(cx.task, cx.call.args[0] as i32);
        if listener.is_none_or(|ofd| self.world.ofds[ofd as usize].nonblock) {
            return;
        }
        let mut met: Vec<TaskIx> = vec![cx.task];
        for mark in self.makers.get(&files).into_iter().flatten().rev() {
            if mark.end_ns <= cx.call.t_ns && !met.contains(&mark.task) {
                met.push(mark.task);
                needs.push(Need { kind: EdgeKind::Descriptor, mark: *mark });
            }
        }
    }

    /// Accepts that were under way when the recording began take their numbers in the order of these, and before anybody else
    /// takes one.
    pub(crate) fn early_accepts(&mut self, cx: &Cx<'_>, lowered: &mut Lowered, waits: &mut Vec<Wait>) {
        let files = self.world.procs[cx.proc as usize].files;
        let Some(accepts) = self.facts.early_accepts.get(&files) else { return };
        let is_one = |task: TaskIx| self.world.tasks[task as usize].ops == 0;
        let own = accepts.iter().find(|(_, task)| *task == cx.task && is_one(*task)).map(|(fd, _)| *fd);
        if own.is_none() && !self.held_numbers.contains_key(&files) {
            return;
        }
        if own.is_none() && (cx.call.ret < 0 || made_fds(cx).is_empty()) {
            return;
        }
        let earlier = accepts.iter().filter(|(fd, task)| is_one(*task) && own.is_none_or(|own| *fd < own));
        for (_, task) in earlier {
            let (me, on) = (self.first + cx.task, self.first + task);
            let accept = self.b.next_step(on);
            self.deps.add(me, EdgeKind::Descriptor, Wait::entered(on, accept), waits);
        }
        if own.is_some() {
            return;
        }
        let close = Step::call(nr::close).with(flags::ENGINE);
        let numbers = self.held_numbers.remove(&files).unwrap_or_default();
        lowered.late.0 += numbers.len();
        lowered.pre.splice(0..0, numbers.into_iter().map(|fd| close.imm(0, fd as u64)));
    }

    /// Of several that wait for the same, the kernel chooses who gets it; here that is known: who got it later waits until
    /// the others have it.
    fn after_rivals(
        &mut self,
        cx: &Cx<'_>,
        ofd: OfdIx,
        key: StreamKey,
        kind: EdgeKind,
        needs: &mut Vec<Need>,
        waits: &mut Vec<Wait>,
    ) {
        const EAGAIN: i64 = -11;
        let Some(marks) = self.stream_reads.get(&key) else { return };
        needs.extend(before([marks], cx.call.t_ns, kind));
        let blocks = cx.call.duration_ns >= BLOCKED_NS && !self.world.ofds[ofd as usize].nonblock;
        // Who came in vain found it taken, too.
        if (blocks || cx.call.ret == EAGAIN)
            && let Some(last) = marks.back().filter(|mark| mark.task != cx.task)
        {
            let (me, on) = (self.prog(cx.task), self.prog(last.task));
            self.deps.add(me, kind, Wait::completed(on, last.step), waits);
        }
    }

    /// A standard signal that is sent before the last one was taken is lost: one is sent after the other was, and after
    /// a look that found none.
    fn unsent(&self, cx: &Cx<'_>, target: u64, needs: &mut Vec<Need>) {
        let Some(proc) = self.by_pid.get(&target).map(|task| self.world.tasks[*task as usize].proc) else {
            return;
        };
        let signo = cx.call.args[if cx.known.sc == Sc::Tgkill { 2 } else { 1 }] as u32;
        let taken = [Some(signo), None].into_iter().filter_map(|by| self.signals_taken.get(&(proc, by)));
        needs.extend(taken.map(|mark| Need { kind: EdgeKind::Signal, mark: *mark }));
        let files = &self.world.files[self.world.procs[proc as usize].files as usize];
        for (_, slot) in files.slots.iter().take(MAX_LOOKED_AT) {
            if self.world.ofds[slot.ofd() as usize].kind == OfdKind::Signal {
                let idle = self.idle_marks(Some(slot.ofd()));
                needs.extend(idle.into_iter().map(|mark| Need { kind: EdgeKind::NotYet, mark }));
            }
        }
    }

    /// A signal found its target where the recording has it: born, with the handlers it had set by then. Sent to one that is
    /// late, it would find nobody, or end what was about to catch it.
    fn as_far_as(&self, cx: &Cx<'_>, target: u64, needs: &mut Vec<Need>) {
        let number = target as u32 as i32;
        let target = if cx.known.sc == Sc::Kill { u64::from(number.unsigned_abs()) } else { target };
        let Some(task) = self.by_pid.get(&target).copied() else { return };
        let state = &self.world.tasks[task as usize];
        let mark = if state.ops == 0 {
            self.births.get(&task).copied()
        } else {
            let (start_ns, end_ns) = (state.last_start_ns, state.last_end_ns);
            Some(Mark { task, seq: state.ops - 1, step: state.label, start_ns, end_ns })
        };
        needs.extend(mark.map(|mark| Need { kind: EdgeKind::Signal, mark }));
    }

    /// Remembers who sent a signal to whom, and who took one from a descriptor.
    fn remember_signals(&mut self, cx: &Cx<'_>, mark: Mark) {
        match cx.known.sc {
            Sc::Kill | Sc::Tkill | Sc::Tgkill if cx.call.ret == 0 => {
                let target = cx.call.args[usize::from(cx.known.sc == Sc::Tgkill)];
                if let Some(task) = self.by_pid.get(&target) {
                    let sent = self.signals_sent.entry(self.world.tasks[*task as usize].proc).or_default();
                    keep_latest(sent, mark, SENDERS);
                }
            }
            Sc::RtSigtimedwait if cx.call.ret > 0 => {
                self.signals_taken.insert((cx.proc, Some(cx.call.ret as u32)), mark);
            }
            Sc::Read | Sc::Readv if cx.call.ret > 0 => {
                let ofd = self.world.ofd_of(cx.task, cx.call.args[0] as i32);
                if ofd.is_some_and(|o| self.world.ofds[o as usize].kind == OfdKind::Signal) {
                    self.signals_taken.insert((cx.proc, None), mark);
                }
            }
            _ => {}
        }
    }

    /// Remembers who saw what ready, and forgets it when it is taken.
    fn remember_sightings(&mut self, cx: &Cx<'_>, mark: Mark) {
        const READABLE: u32 = 0x2019;
        let mut seen: Vec<(i32, OfdIx)> = Vec::new();
        match cx.known.sc {
            Sc::EpollWait | Sc::EpollPwait | Sc::EpollPwait2 if cx.call.ret > 0 => {
                let ep = self.world.ofd_of(cx.task, cx.call.args[0] as i32);
                if let Some(epoll) = ep.and_then(|ep| self.world.epoll(ep)) {
                    let entries = detail_epoll(cx.call).unwrap_or_default();
                    let readable = entries.iter().filter(|e| e.events & READABLE != 0);
                    seen.extend(readable.filter_map(|e| epoll.by_data(e.data)).map(|w| (w.fd, w.ofd)));
                }
            }
            Sc::Poll | Sc::Ppoll | Sc::Select | Sc::Pselect6 if cx.call.ret > 0 => {
                for detail in &cx.call.details {
                    let Detail::Poll { entries, .. } = detail else { continue };
                    let readable = entries.iter().filter(|e| u32::from(e.revents) & READABLE != 0);
                    seen.extend(readable.filter_map(|e| Some((e.fd, self.world.ofd_of(cx.task, e.fd)?))));
                }
            }
            _ if cx.call.ret >= 0 => {
                for fd in transfers(cx).0 {
                    if let Some(ofd) = self.world.ofd_of(cx.task, fd) {
                        self.sightings.remove(&ofd);
                    }
                }
            }
            _ => {}
        }
        for (fd, ofd) in seen {
            // Files that nobody else has can be taken by nobody else.
            if self.world.is_shared(cx.proc, fd, ofd) {
                keep_latest(self.sightings.entry(ofd).or_default(), mark, MAX_WATCHERS);
            }
        }
    }

    /// An exit takes its time: a child that the parent found running may have begun to end before. Its end comes after
    /// the last of those looks, which is known when the parent has it. Its descriptors are closed at once, since the
    /// parent may see that first.
    fn leave_after_looks(&mut self, task: TaskIx, leaving: &mut Leaving) -> Result<(), CompileError> {
        let proc = &self.world.procs[self.world.tasks[task as usize].proc as usize];
        let Some(parent) = proc.parent else { return Ok(()) };
        let whom = u64::from(proc.tgid);
        let looks = &self.world.procs[parent as usize].no_child;
        let marks: Vec<Mark> = [0, whom].iter().filter_map(|w| looks.get(w)).copied().collect();
        let me = self.prog(task);
        let (known, later): (Vec<Mark>, Vec<Mark>) =
            marks.into_iter().filter(|m| m.task != task).partition(|m| m.end_ns <= leaving.call.t_ns);
        for mark in known {
            let on = self.prog(mark.task);
            self.deps.add(me, EdgeKind::NotEnded, Wait::completed(on, mark.step), &mut leaving.waits);
        }
        let mut after = Vec::new();
        for mark in later {
            let on = self.prog(mark.task);
            self.deps.add(me, EdgeKind::NotEnded, Wait::completed(on, mark.step), &mut after);
        }
        if !after.is_empty() {
            // Signals that are sent to it meanwhile found it ending.
            let all = self.b.data(&u64::MAX.to_ne_bytes())?;
            let block = Step::call(nr::rt_sigprocmask).with(flags::ENGINE);
            leaving.lowered.pre.insert(0, block.imm(0, 0).arg(1, Sel::Data, all).imm(2, 0).imm(3, 8));
            let close = Step::call(nr::close_range).with(flags::ENGINE);
            leaving.lowered.pre.push(close.imm(0, 0).imm(1, u64::from(u32::MAX)).imm(2, 0));
            leaving.lowered.late = (leaving.lowered.pre.len(), after);
            leaving.lowered.pre.push(Step::of(Kind::Sync));
        }
        Ok(())
    }

    /// Writes the ends of children that a wait is about to return.
    pub(crate) fn reaped(&mut self, cx: &Cx<'_>) -> Result<(), CompileError> {
        let one = match cx.known.sc {
            Sc::Wait4 if cx.call.ret > 0 => Some(cx.call.ret as u64),
            Sc::Waitid if cx.call.ret == 0 => None,
            _ => return Ok(()),
        };
        let its_proc = one.and_then(|pid| self.by_pid.get(&pid)).map(|t| self.world.tasks[*t as usize].proc);
        let procs: Vec<ProcIx> = match its_proc {
            Some(its) => vec![its],
            None => self.leaving_children.get(&cx.proc).into_iter().flatten().copied().collect(),
        };
        let waited_for: BTreeSet<TaskIx> =
            procs.iter().filter_map(|proc| self.leaving_of.get(proc)).flatten().copied().collect();
        for task in waited_for {
            self.leave(task)?;
        }
        Ok(())
    }

    /// Writes the end of a task that had begun to leave.
    pub(crate) fn leave(&mut self, task: TaskIx) -> Result<(), CompileError> {
        let Some(mut leaving) = self.leaving.remove(&task) else { return Ok(()) };
        let proc = self.world.tasks[task as usize].proc;
        if let Some(tasks) = self.leaving_of.get_mut(&proc) {
            tasks.remove(&task);
            if tasks.is_empty() {
                self.leaving_of.remove(&proc);
                let parent = self.world.procs[proc as usize].parent;
                if let Some(children) = parent.and_then(|parent| self.leaving_children.get_mut(&parent)) {
                    children.remove(&proc);
                }
            }
        }
        self.leave_after_looks(task, &mut leaving)?;
        self.push(task, &leaving.call, leaving.lowered, &leaving.waits)?;
        Ok(())
    }

    /// Whether a call may be the last of its process: an exit, or what brings the signal that ended it.
    fn ends_process(&self, cx: &Cx<'_>) -> bool {
        const EPIPE: i64 = -32;
        let signals = matches!(cx.known.sc, Sc::Kill | Sc::Tkill | Sc::Tgkill) || cx.call.ret == EPIPE;
        cx.known.sc == Sc::ExitGroup
            || signals && self.facts.killed.contains(&self.world.procs[cx.proc as usize].first)
    }

    /// Descriptions of pipes and sockets that lose a descriptor by this call.
    pub(crate) fn closing(&self, cx: &Cx<'_>) -> Vec<OfdIx> {
        let table = self.world.files_of(cx.task);
        match cx.known.sc {
            Sc::Close => table.slots.get(&(cx.call.args[0] as i32)).map(FdSlot::ofd).into_iter().collect(),
            Sc::Dup2 | Sc::Dup3 => {
                table.slots.get(&(cx.call.args[1] as i32)).map(FdSlot::ofd).into_iter().collect()
            }
            // What another process has by the same fork does not lose its last.
            Sc::ExitGroup => table.slots.own().map(|(_, slot)| slot.ofd()).collect(),
            _ => Vec::new(),
        }
    }

    /// The thread that waits for this one to end is already waiting when it ends.
    pub(crate) fn join_wait(&mut self, task: TaskIx, at_ns: u64, waits: &mut Vec<Wait>) {
        let Some((waiter, seq)) = self.joins.get(&task).copied() else { return };
        let Some(state) = self.world.tasks.get(waiter as usize) else { return };
        // Its wait is the call it is in now, if it began before.
        if state.ops == seq && state.last_end_ns <= at_ns && !state.exited {
            let on = self.prog(waiter);
            let step = self.b.next_step(on);
            let me = self.prog(task);
            self.deps.add(me, EdgeKind::Join, Wait::entered(on, step), waits);
        }
    }

    pub(crate) fn stream_key(&self, ofd: OfdIx, write: bool) -> Option<StreamKey> {
        match self.world.ofds[ofd as usize].kind {
            OfdKind::Pipe { pipe, write: end } if end == write => Some(StreamKey::Pipe(pipe)),
            OfdKind::Sock(sock) => Some(StreamKey::Sock(sock)),
            OfdKind::Event => Some(StreamKey::Event(ofd)),
            _ => None,
        }
    }

    /// When the one who reads what is written to `ofd` had last found nothing.
    pub(crate) fn idle_of_reader(&self, ofd: OfdIx) -> Vec<Mark> {
        let reader = match self.world.ofds[ofd as usize].kind {
            OfdKind::Pipe { pipe, .. } => self.world.pipes[pipe as usize].reader,
            OfdKind::Sock(sock) => {
                self.world.socks[sock as usize].partner.and_then(|p| self.world.socks[p as usize].ofd)
            }
            OfdKind::Event => Some(ofd),
            _ => None,
        };
        self.idle_marks(reader)
    }

    pub(crate) fn idle_marks(&self, ofd: Option<OfdIx>) -> Vec<Mark> {
        let Some(ofd) = ofd else { return Vec::new() };
        let state = &self.world.ofds[ofd as usize];
        let mut marks = state.idle.clone();
        let watchers = state.watched_by.iter().take(MAX_WATCHERS);
        marks.extend(watchers.flat_map(|e| &self.world.ofds[*e as usize].idle));
        marks
    }

    /// Remembers what a call did, for those that come after it.
    pub(crate) fn remember(&mut self, cx: &Cx<'_>, mark: Mark) {
        let files = self.world.procs[cx.proc as usize].files;
        let shared = true;
        if shared {
            for fd in fd_args(cx) {
                let marks = self.fd_marks.entry((files, fd)).or_default();
                let another = marks.made.is_some_and(|made| made.start_ns > cx.call.t_ns);
                if cx.known.sc == Sc::Close && another {
                    // Somebody has the number again already.
                } else if cx.known.sc == Sc::Close && cx.call.ret == 0 {
                    *marks = FdMarks { freed: Some(mark), ..FdMarks::default() };
                } else {
                    keep_latest(&mut marks.used, mark, USERS);
                }
            }
            for fd in self.range_closed(cx) {
                let marks = self.fd_marks.entry((files, fd)).or_default();
                *marks = FdMarks { freed: Some(mark), ..FdMarks::default() };
            }
            if cx.call.ret >= 0 {
                for fd in made_fds(cx) {
                    let marks = self.fd_marks.entry((files, fd)).or_default();
                    *marks = FdMarks { made: Some(mark), ..FdMarks::default() };
                    let makers = self.makers.entry(files).or_default();
                    if makers.len() >= MAKERS {
                        makers.pop_front();
                    }
                    makers.push_back(mark);
                }
            }
        }
        if cx.call.ret >= 0 {
            let (reads, writes) = transfers(cx);
            for fd in reads.iter().chain(&writes) {
                let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
                if matches!(self.world.ofds[ofd as usize].kind, OfdKind::Node { .. } | OfdKind::Mem { .. }) {
                    keep(self.offsets.entry(ofd).or_default(), mark);
                }
            }
            for fd in &reads {
                let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
                if let Some(inode) = self.world.inode_of(ofd) {
                    keep_latest(&mut self.content.entry(inode).or_default().1, mark, READERS);
                }
                if let Some(key) = self.stream_key(ofd, false) {
                    keep(self.stream_reads.entry(key).or_default(), mark);
                }
            }
            for fd in &writes {
                let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
                if let Some(inode) = self.world.inode_of(ofd) {
                    let appends = self.appends(cx, ofd);
                    let (written, readers) = self.content.entry(inode).or_default();
                    keep(if appends { self.appended.entry(inode).or_default() } else { written }, mark);
                    // The others have been waited for.
                    readers.retain(|reader| reader.end_ns > mark.start_ns);
                }
                if let Some(key) = self.stream_key(ofd, true) {
                    keep(self.stream_writes.entry(key).or_default(), mark);
                }
            }
            for receiver in self.datagram_receivers(cx) {
                keep(self.stream_writes.entry(StreamKey::Datagrams(receiver)).or_default(), mark);
            }
            self.remember_datagrams(cx, mark);
            if let Some(listener) = accepting(cx).and_then(|fd| self.world.sock_of(cx.task, fd)) {
                keep(self.stream_reads.entry(StreamKey::Accepts(listener)).or_default(), mark);
                if let Some(place) = self.place_taken(cx) {
                    self.remember_accept(place, mark);
                }
            }
            if cx.known.sc == Sc::Shutdown
                && let Some(key) = self.world.sock_of(cx.task, cx.call.args[0] as i32).map(StreamKey::Sock)
            {
                // As a write: it found the other end there.
                keep(self.stream_writes.entry(key).or_default(), mark);
            }
            if cx.known.sc == Sc::Listen
                && let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32)
            {
                // Several sockets at one address are complete when a filter tells them apart, see `Lower::listen`.
                let filter = u32::from(self.shares_its_address(sock));
                self.listens.insert(sock, Mark { step: mark.step + filter, ..mark });
            }
        }
        if matches!(cx.known.sc, Sc::Kill | Sc::Tkill | Sc::Tgkill) && cx.call.ret == 0 {
            let target = cx.call.args[usize::from(cx.known.sc == Sc::Tgkill)];
            if let Some(task) = self.by_pid.get(&target) {
                self.kill_marks.insert(*task, mark);
            }
        }
        self.remember_lock(cx, mark);
        self.remember_reports(cx, mark);
        self.remember_signals(cx, mark);
        self.remember_sightings(cx, mark);
        if cx.known.sc == Sc::RtSigreturn {
            self.handled.insert(cx.proc, mark);
        }
        let change = cx.call.ret >= 0 && is_name_change(cx);
        for (path, _) in self.named_paths(cx) {
            let marks = self.path_marks.entry(path).or_default();
            if change {
                keep(&mut marks.0, mark);
                marks.1.clear();
            } else {
                keep_latest(&mut marks.1, mark, LOOKERS);
            }
        }
    }

    /// The names a call is about, and whether it makes or removes them.
    pub(crate) fn named_paths(&mut self, cx: &Cx<'_>) -> Vec<(PathId, bool)> {
        let Some(args) = cx.known.args else { return Vec::new() };
        let mut out = Vec::new();
        let mut dirfd = None;
        for (i, (_, kind)) in args.iter().enumerate() {
            use ctrace_format::syscalls::Kind as K;
            match kind {
                K::DirFd => dirfd = Some(cx.call.args[i] as i32),
                K::Path => {
                    if let Some(target) = self.world.target(self.source, cx.task, cx.call, i as u8, dirfd)
                        && !target.by_fd
                    {
                        out.push((target.path, true));
                    }
                    dirfd = None;
                }
                _ => {}
            }
        }
        out
    }
}
