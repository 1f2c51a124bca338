//! What a call has to wait for, and what those after it will have to know.

use super::super::calls::Sc;
use super::super::deps::{EdgeKind, Need};
use super::super::fsmodel::PathId;
use super::super::world::{Mark, OfdIx, OfdKind, TaskIx, detail_addr};
use super::{ACCEPTS, Cx, FdMarks, Lower, accepting, fd_args, is_name_change, made_fds, transfers};
use ctrace_program::Wait;

impl Lower<'_> {
    pub(crate) fn find_joins(&mut self) {
        for (word, tasks) in &self.facts.tid_words {
            let Some(waits) = self.facts.futexes.by_word.get(word) else { continue };
            // The same word serves one thread after the other; waits and threads pair up in order.
            for (child, wait) in tasks.iter().zip(waits) {
                self.joins.insert(*child, *wait);
            }
        }
    }

    /// What a call has to wait for, as far as other tasks made it.
    pub(crate) fn needs(&mut self, cx: &Cx<'_>, waits: &mut Vec<Wait>) {
        let mut needs: Vec<Need> = Vec::new();
        let files = self.world.procs[cx.proc as usize].files;
        let call = cx.call;
        for fd in fd_args(cx) {
            if let Some(marks) = self.fd_marks.get(&(files, fd)) {
                needs.extend(marks.made.map(|mark| Need { kind: EdgeKind::Descriptor, mark }));
                if cx.known.sc == Sc::Close {
                    needs.extend(marks.used.map(|mark| Need { kind: EdgeKind::Descriptor, mark }));
                }
            }
        }
        if call.ret >= 0 {
            for fd in made_fds(cx) {
                if let Some(marks) = self.fd_marks.get(&(files, fd)) {
                    needs.extend(marks.freed.map(|mark| Need { kind: EdgeKind::Descriptor, mark }));
                }
            }
        }
        let (reads, writes) = transfers(cx);
        for fd in reads.iter().chain(&writes) {
            let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
            if matches!(self.world.ofds[ofd as usize].kind, OfdKind::Node { .. } | OfdKind::Mem { .. }) {
                needs.extend(self.offsets.get(&ofd).map(|mark| Need { kind: EdgeKind::Offset, mark: *mark }));
            }
        }
        for fd in &reads {
            let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
            if let Some(inode) = self.world.inode_of(ofd) {
                let marks = self.content.get(&inode).and_then(|(write, _)| *write);
                needs.extend(marks.map(|mark| Need { kind: EdgeKind::Content, mark }));
            }
            if let Some(key) = self.stream_key(ofd, false) {
                needs.extend(self.stream_reads.get(&key).map(|m| Need { kind: EdgeKind::Stream, mark: *m }));
            }
        }
        if let Some(listener) = accepting(cx).and_then(|fd| self.world.sock_of(cx.task, fd)) {
            // Who accepts which connection is decided by who comes first.
            let last = self.stream_reads.get(&(ACCEPTS, listener));
            needs.extend(last.map(|mark| Need { kind: EdgeKind::Connection, mark: *mark }));
        }
        for fd in &writes {
            let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
            if let Some(inode) = self.world.inode_of(ofd)
                && let Some((write, read)) = self.content.get(&inode)
            {
                needs.extend(
                    write.iter().chain(read).map(|mark| Need { kind: EdgeKind::Content, mark: *mark }),
                );
            }
            if let Some(key) = self.stream_key(ofd, true) {
                needs.extend(self.stream_writes.get(&key).map(|m| Need { kind: EdgeKind::Stream, mark: *m }));
            }
            for mark in self.idle_of_reader(ofd) {
                needs.push(Need { kind: EdgeKind::NotYet, mark });
            }
        }
        for (path, _) in self.named_paths(cx) {
            if let Some((changed, seen)) = self.path_marks.get(&path) {
                needs.extend(changed.map(|mark| Need { kind: EdgeKind::Path, mark }));
                if is_name_change(cx) {
                    needs.extend(seen.iter().map(|mark| Need { kind: EdgeKind::Path, mark: *mark }));
                }
            }
        }
        if cx.known.sc == Sc::Connect
            && call.ret >= -115
            && let Some(addr) = detail_addr(call, 1)
        {
            let addr = self.world.absolute(cx.task, addr);
            if let Some(listener) = self.world.listener(&addr) {
                needs.extend(
                    self.listens.get(&listener).map(|m| Need { kind: EdgeKind::Connection, mark: *m }),
                );
                for mark in self.idle_marks(self.world.socks[listener as usize].ofd) {
                    needs.push(Need { kind: EdgeKind::NotYet, mark });
                }
            }
        }
        if matches!(cx.known.sc, Sc::Kill | Sc::Tkill | Sc::Tgkill) {
            // A signal to one that had ended must not come before that.
            let target = cx.call.args[usize::from(cx.known.sc == Sc::Tgkill)];
            let ended = self.by_pid.get(&target).and_then(|task| self.exit_marks.get(task));
            needs.extend(ended.map(|mark| Need { kind: EdgeKind::NotEnded, mark: *mark }));
        }
        if let Some(child) = self.reaped(cx) {
            // Who could still be sent a signal had not been waited for.
            let killed = self.kill_marks.get(&child);
            needs.extend(killed.map(|mark| Need { kind: EdgeKind::NotEnded, mark: *mark }));
        }
        for ofd in self.closing(cx) {
            // Somebody's writes succeeded while this end was open.
            let written = match self.world.ofds[ofd as usize].kind {
                OfdKind::Pipe { pipe, write: false } => Some((0, pipe)),
                OfdKind::Sock(sock) => self.world.socks[sock as usize].partner.map(|p| (1, p)),
                _ => None,
            };
            needs.extend(
                written
                    .and_then(|key| self.stream_writes.get(&key))
                    .map(|mark| Need { kind: EdgeKind::Stream, mark: *mark }),
            );
        }
        let parent = self.world.procs[cx.proc as usize].parent;
        if let Some(parent) = parent.filter(|_| self.ends_process(cx)) {
            // Two SIGCHLDs at once are one: the next child ends after the last one's was dealt with.
            let dealt_with = self.handled.get(&parent).copied();
            needs.extend(dealt_with.map(|mark| Need { kind: EdgeKind::NotEnded, mark }));
        }
        if matches!(cx.known.sc, Sc::Exit | Sc::ExitGroup) {
            let leader_exits = cx.known.sc == Sc::ExitGroup;
            if leader_exits && let Some(parent) = parent {
                // An exit takes its time, and the parent may look in vain meanwhile. Nothing of this task comes after
                // it, so waiting for a look that began later cannot turn into a circle.
                if let Some(mark) = self.world.procs[parent as usize].no_child
                    && mark.task != cx.task
                {
                    let (me, on) = (self.prog(cx.task), self.prog(mark.task));
                    self.deps.add(me, EdgeKind::NotEnded, Wait::completed(on, mark.step), waits);
                }
            }
        }
        let me = self.prog(cx.task);
        for need in needs {
            if need.mark.task != cx.task {
                let on = self.prog(need.mark.task);
                self.deps.need(me, on, &need, call.t_ns, waits);
            }
        }
        if matches!(cx.known.sc, Sc::Exit | Sc::ExitGroup) {
            self.join_wait(cx.task, call.t_ns, waits);
        }
    }

    /// The child that a wait ends the life of.
    fn reaped(&self, cx: &Cx<'_>) -> Option<TaskIx> {
        const P_PID: u64 = 1;
        let pid = match cx.known.sc {
            Sc::Wait4 if cx.call.ret > 0 => cx.call.ret as u64,
            Sc::Waitid if cx.call.ret == 0 && cx.call.args[0] == P_PID => cx.call.args[1],
            _ => return None,
        };
        self.by_pid.get(&pid).copied()
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
            Sc::Close => table.slots.get(&(cx.call.args[0] as i32)).map(|s| s.ofd).into_iter().collect(),
            Sc::Dup2 | Sc::Dup3 => {
                table.slots.get(&(cx.call.args[1] as i32)).map(|s| s.ofd).into_iter().collect()
            }
            Sc::ExitGroup => table.slots.values().map(|s| s.ofd).collect(),
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

    pub(crate) fn stream_key(&self, ofd: OfdIx, write: bool) -> Option<(u8, u32)> {
        match self.world.ofds[ofd as usize].kind {
            OfdKind::Pipe { pipe, write: end } if end == write => Some((0, pipe)),
            OfdKind::Sock(sock) => Some((1, sock)),
            OfdKind::Event => Some((2, ofd)),
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
        let mut marks: Vec<Mark> = state.idle.into_iter().collect();
        marks.extend(state.watched_by.iter().filter_map(|e| self.world.ofds[*e as usize].idle));
        marks
    }

    /// Remembers what a call did, for those that come after it.
    pub(crate) fn remember(&mut self, cx: &Cx<'_>, mark: Mark) {
        let files = self.world.procs[cx.proc as usize].files;
        let shared = true;
        if shared {
            for fd in fd_args(cx) {
                let marks = self.fd_marks.entry((files, fd)).or_default();
                if cx.known.sc == Sc::Close && cx.call.ret == 0 {
                    *marks = FdMarks { made: None, used: None, freed: Some(mark) };
                } else {
                    marks.used = Some(mark);
                }
            }
            if cx.call.ret >= 0 {
                for fd in made_fds(cx) {
                    let marks = self.fd_marks.entry((files, fd)).or_default();
                    *marks = FdMarks { made: Some(mark), used: None, freed: None };
                }
            }
        }
        if cx.call.ret >= 0 {
            let (reads, writes) = transfers(cx);
            for fd in reads.iter().chain(&writes) {
                let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
                if matches!(self.world.ofds[ofd as usize].kind, OfdKind::Node { .. } | OfdKind::Mem { .. }) {
                    self.offsets.insert(ofd, mark);
                }
            }
            for fd in &reads {
                let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
                if let Some(inode) = self.world.inode_of(ofd) {
                    self.content.entry(inode).or_default().1 = Some(mark);
                }
                if let Some(key) = self.stream_key(ofd, false) {
                    self.stream_reads.insert(key, mark);
                }
            }
            for fd in &writes {
                let Some(ofd) = self.world.ofd_of(cx.task, *fd) else { continue };
                if let Some(inode) = self.world.inode_of(ofd) {
                    self.content.entry(inode).or_default().0 = Some(mark);
                }
                if let Some(key) = self.stream_key(ofd, true) {
                    self.stream_writes.insert(key, mark);
                }
            }
            if let Some(listener) = accepting(cx).and_then(|fd| self.world.sock_of(cx.task, fd)) {
                self.stream_reads.insert((ACCEPTS, listener), mark);
            }
            if cx.known.sc == Sc::Listen
                && let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32)
            {
                self.listens.insert(sock, mark);
            }
        }
        if matches!(cx.known.sc, Sc::Kill | Sc::Tkill | Sc::Tgkill) && cx.call.ret == 0 {
            let target = cx.call.args[usize::from(cx.known.sc == Sc::Tgkill)];
            if let Some(task) = self.by_pid.get(&target) {
                self.kill_marks.insert(*task, mark);
            }
        }
        if let Some(child) = self.reaped(cx)
            && let Some(zombies) = self.zombies.get_mut(&cx.proc)
        {
            zombies.remove(&child);
        }
        if cx.known.sc == Sc::RtSigreturn {
            self.handled.insert(cx.proc, mark);
        }
        let change = cx.call.ret >= 0 && is_name_change(cx);
        for (path, _) in self.named_paths(cx) {
            let marks = self.path_marks.entry(path).or_default();
            if change {
                marks.0 = Some(mark);
                marks.1.clear();
            } else {
                marks.1.retain(|m| m.task != mark.task);
                if marks.1.len() >= 8 {
                    marks.1.remove(0);
                }
                marks.1.push(mark);
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
