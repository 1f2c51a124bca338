//! Descriptors: how they come about, what is behind them, when they go.

use super::super::CompileError;
use super::super::fsmodel::{InodeIx, NodeKind};
use super::super::source::Source;
use super::{
    FdSlot, Inherited, MAX_FD_SLOTS, MAX_TASKS, O_APPEND, O_CLOEXEC, O_NONBLOCK, Ofd, OfdIx, OfdKind, Origin,
    Pipe, PipeIx, ProcIx, Sock, SockState, TaskIx, Watch, World, canonical, new_sock,
};
use ctrace_format::{FdTarget, Object, ObjectId, SockAddr, Syscall};
use std::collections::BTreeMap;

impl World {
    /// Descriptors that an earlier pass found a process to have had that was there from the start.
    pub(crate) fn give_inherited(&mut self, source: &dyn Source, ix: TaskIx) -> Result<(), CompileError> {
        let (tid, start_ns) = (self.tasks[ix as usize].tid, self.tasks[ix as usize].start_ns);
        let proc = self.tasks[ix as usize].proc;
        let mine: Vec<Inherited> =
            self.seed.inherited.iter().filter(|i| i.tid == tid && i.start_ns == start_ns).cloned().collect();
        for one in mine {
            // What the snapshot shows under the number came later.
            if self.ofd_of(ix, one.fd).is_some() {
                continue;
            }
            let ofd = self.inherited_ofd(source, &one);
            self.put_fd(proc, one.fd, ofd, false, 0)?;
        }
        Ok(())
    }

    fn is_of_snapshot(&self, proc: ProcIx) -> bool {
        self.tasks[self.procs[proc as usize].leader as usize].origin == Origin::Snapshot
    }

    pub(crate) fn inherited_ofd(&mut self, source: &dyn Source, one: &Inherited) -> OfdIx {
        let kind = one
            .object
            .map_or(OfdKind::Other, |id| self.kind_of_object(source, source.object(id), one.written));
        match &kind {
            OfdKind::Pipe { pipe, .. } => self.pipes[*pipe as usize].inherited = true,
            OfdKind::Sock(sock) => {
                let sock = &mut self.socks[*sock as usize];
                sock.inherited = true;
                if sock.state == SockState::Fresh && sock.peer.is_some() {
                    sock.state = SockState::Connected;
                }
            }
            _ => {}
        }
        let flags = if one.written { 2 } else { 0 };
        let ofd = self.add_ofd(kind, flags, one.object);
        self.ofds[ofd as usize].inherited = true;
        ofd
    }

    /// Makes sure that the descriptor a call succeeded on is known: one that nothing made was inherited.
    pub(crate) fn ensure_fd(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        fd: i32,
        object: Option<ObjectId>,
        writes: bool,
    ) -> Result<Option<OfdIx>, CompileError> {
        if fd < 0 {
            return Ok(None);
        }
        if let Some(ofd) = self.ofd_of(task, fd) {
            if writes {
                self.known_writable(ofd, fd);
            }
            let known = &mut self.ofds[ofd as usize];
            if known.object != object
                && let Some(id) = object
            {
                known.object = Some(id);
                self.learn(source, ofd, source.object(id));
            }
            return Ok(Some(ofd));
        }
        let writes = writes || self.written_to.contains(&(self.tasks[task as usize].proc, fd));
        let Some(object) = object else {
            self.unknown_fds += 1;
            return Ok(None);
        };
        // The oldest ancestor inside is where it came from; or the youngest that the snapshot shows, which was taken a
        // little after the first call.
        let mut proc = self.tasks[task as usize].proc;
        let mut depth = 0;
        while !self.is_of_snapshot(proc)
            && let Some(parent) = self.procs[proc as usize].parent
        {
            proc = parent;
            depth += 1;
            if depth > MAX_TASKS {
                break;
            }
        }
        let root = self.procs[proc as usize].leader;
        let one = Inherited {
            tid: self.tasks[root as usize].tid,
            start_ns: self.tasks[root as usize].start_ns,
            fd,
            object: Some(object),
            written: writes,
        };
        if self.tasks[root as usize].origin == Origin::Forked {
            self.unknown_fds += 1;
        }
        let ofd = self.inherited_ofd(source, &one);
        if !self.discovered.iter().any(|d| (d.tid, d.start_ns, d.fd) == (one.tid, one.start_ns, one.fd)) {
            self.discovered.push(one);
        }
        let mine = self.tasks[task as usize].proc;
        self.put_fd(mine, fd, ofd, false, 0)?;
        let root_files = self.procs[proc as usize].files;
        if proc != mine && !self.files[root_files as usize].slots.contains_key(&fd) {
            self.put_fd(proc, fd, ofd, false, 0)?;
        }
        Ok(Some(ofd))
    }

    /// An inherited descriptor turned out to be one to write to.
    pub(crate) fn known_writable(&mut self, ofd: OfdIx, fd: i32) {
        let known = &mut self.ofds[ofd as usize];
        if !known.inherited || known.writable {
            return;
        }
        known.writable = true;
        if let OfdKind::Pipe { write, .. } = &mut known.kind {
            *write = true;
        }
        if let Some(one) = self.discovered.iter_mut().find(|d| d.fd == fd && d.object == known.object) {
            one.written = true;
        }
    }

    /// An object that was not known yet when its descriptor was made.
    pub(crate) fn learn(&mut self, source: &dyn Source, ofd: OfdIx, object: &Object) {
        let _ = source;
        match (self.ofds[ofd as usize].kind.clone(), object) {
            (OfdKind::Node { inode, .. }, Object::File { mode, rdev, size, .. }) => {
                self.correct(inode, *mode, *size);
                self.tell(inode, *mode, *rdev, *size);
            }
            (OfdKind::Sock(ix), Object::Socket { cookie, local, peer, .. }) if cookie.0 != 0 => {
                let sock = &mut self.socks[ix as usize];
                // An identity by inode, of the snapshot, yields to the real one.
                if sock.cookie == 0 || sock.cookie >> 63 != 0 {
                    sock.cookie = cookie.0;
                    self.sock_by_cookie.insert(cookie.0, ix);
                }
                let unsure = |a: &SockAddr| matches!(a, SockAddr::Inet(at) if at.port() == 0);
                if sock.local.as_ref().is_none_or(unsure) {
                    sock.local.clone_from(local);
                }
                if sock.peer.is_none() {
                    sock.peer.clone_from(peer);
                }
                if let Some((local, peer)) = self.seed.tuples.get(&cookie.0).cloned()
                    && sock.state == SockState::Connected
                {
                    sock.local = Some(local);
                    sock.peer = Some(peer);
                }
                if self.socks[ix as usize].state == SockState::Connected {
                    self.join_tuple(ix);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn drop_files(&mut self, proc: ProcIx) {
        let files = self.procs[proc as usize].files;
        let table = &mut self.files[files as usize];
        table.users = table.users.saturating_sub(1);
        if table.users == 0 {
            let fds: Vec<i32> = table.slots.keys().copied().collect();
            for fd in fds {
                self.drop_fd(files, fd);
            }
        }
    }

    pub(crate) fn add_ofd(&mut self, kind: OfdKind, flags: u32, object: Option<ObjectId>) -> OfdIx {
        let ix = self.free_ofds.last().copied().unwrap_or(self.ofds.len() as OfdIx);
        match kind {
            OfdKind::Pipe { pipe, write: true } => self.pipes[pipe as usize].writers = true,
            OfdKind::Pipe { pipe, write: false } => {
                let pipe = &mut self.pipes[pipe as usize];
                pipe.readers = true;
                pipe.reader = Some(ix);
            }
            OfdKind::Sock(sock) => self.socks[sock as usize].ofd = Some(ix),
            _ => {}
        }
        let ofd = Ofd {
            kind,
            nonblock: flags & O_NONBLOCK != 0,
            append: flags & O_APPEND != 0,
            writable: flags & 3 != 0,
            pos: 0,
            refs: 0,
            watched_by: Vec::new(),
            idle: Vec::new(),
            told: Vec::new(),
            inherited: false,
            ready: None,
            object,
        };
        if let Some(ix) = self.free_ofds.pop() {
            self.ofds[ix as usize] = ofd;
            ix
        } else {
            self.ofds.push(ofd);
            (self.ofds.len() - 1) as OfdIx
        }
    }

    pub(crate) fn put_fd(
        &mut self,
        proc: ProcIx,
        fd: i32,
        ofd: OfdIx,
        cloexec: bool,
        at_ns: u64,
    ) -> Result<(), CompileError> {
        let files = self.procs[proc as usize].files;
        self.ofds[ofd as usize].refs += 1;
        let old = self.files[files as usize].slots.insert(fd, FdSlot { ofd, cloexec, since_ns: at_ns });
        if let Some(old) = old {
            self.unref(old.ofd);
        } else {
            self.slots += 1;
            if self.slots > MAX_FD_SLOTS {
                return Err(CompileError::TooMany { what: "open descriptors", limit: MAX_FD_SLOTS });
            }
        }
        Ok(())
    }

    pub(crate) fn drop_fd(&mut self, files: u32, fd: i32) {
        if let Some(slot) = self.files[files as usize].slots.remove(&fd) {
            self.slots = self.slots.saturating_sub(1);
            self.unref(slot.ofd);
        }
    }

    pub(crate) fn unref(&mut self, ofd: OfdIx) {
        let state = &mut self.ofds[ofd as usize];
        state.refs = state.refs.saturating_sub(1);
        if state.refs > 0 {
            return;
        }
        let kind = std::mem::replace(&mut state.kind, OfdKind::Other);
        let watchers = std::mem::take(&mut state.watched_by);
        for epoll in watchers {
            if let OfdKind::Epoll { watches } = &mut self.ofds[epoll as usize].kind {
                watches.retain(|_, w| w.ofd != ofd);
            }
        }
        match kind {
            OfdKind::Epoll { watches } => {
                for watch in watches.values() {
                    self.ofds[watch.ofd as usize].watched_by.retain(|e| *e != ofd);
                }
            }
            OfdKind::Sock(ix) => {
                self.socks[ix as usize].closed = true;
                self.socks[ix as usize].ofd = None;
                self.gone_socks.push(ix);
                let sock = &self.socks[ix as usize];
                if sock.state == SockState::Listening
                    && let Some(local) = &sock.local
                {
                    let key = canonical(local);
                    if self.listeners.get(&key) == Some(&ix) {
                        self.listeners.remove(&key);
                    }
                }
                if let (Some(local), Some(peer)) = (&sock.local, &sock.peer) {
                    let key = (canonical(local), canonical(peer));
                    if self.by_tuple.get(&key) == Some(&ix) {
                        self.by_tuple.remove(&key);
                    }
                }
                self.sock_by_cookie.remove(&self.socks[ix as usize].cookie);
            }
            _ => {}
        }
        self.free_ofds.push(ofd);
        self.gone_ofds.push(ofd);
    }

    pub(crate) fn watch(&mut self, proc: ProcIx, epfd: i32, fd: i32, events: u32, data: u64) {
        let files = &self.files[self.procs[proc as usize].files as usize];
        let (Some(ep), Some(watched)) = (files.slots.get(&epfd), files.slots.get(&fd)) else { return };
        let (ep, watched) = (ep.ofd, watched.ofd);
        if let OfdKind::Epoll { watches } = &mut self.ofds[ep as usize].kind {
            watches.retain(|_, w| w.fd != fd || w.ofd != watched);
            watches.insert(data, Watch { fd, ofd: watched, events });
            let list = &mut self.ofds[watched as usize].watched_by;
            if !list.contains(&ep) {
                list.push(ep);
            }
        }
    }

    pub(crate) fn pipe(&mut self, ino: u64) -> PipeIx {
        if ino != 0
            && let Some(ix) = self.pipe_by_ino.get(&ino)
        {
            return *ix;
        }
        let ix = self.pipes.len() as PipeIx;
        self.pipes.push(Pipe::default());
        if ino != 0 {
            self.pipe_by_ino.insert(ino, ix);
        }
        ix
    }

    pub(crate) fn kind_of_object(&mut self, source: &dyn Source, object: &Object, written: bool) -> OfdKind {
        match object {
            Object::File { path, mode, rdev, size, .. } => {
                let path = self.paths.intern(source.str(*path));
                let inode = self.fs.present(path, NodeKind::of_mode(*mode));
                self.tell(inode, *mode, *rdev, *size);
                OfdKind::Node { path, inode }
            }
            Object::Socket { family, kind, protocol, cookie, local, peer } => {
                OfdKind::Sock(self.sock(Sock {
                    local: local.clone(),
                    peer: peer.clone(),
                    state: if peer.is_some() { SockState::Connected } else { SockState::Fresh },
                    ..new_sock(*family, *kind, *protocol, cookie.0, 0)
                }))
            }
            Object::Pipe { ino } => OfdKind::Pipe { pipe: self.pipe(*ino), write: written },
            Object::Anon { kind, .. } => self.kind_of_anon(source.str(*kind)),
            _ => OfdKind::Other,
        }
    }

    pub(crate) fn kind_of_anon(&mut self, kind: &[u8]) -> OfdKind {
        match kind {
            b"eventpoll" => OfdKind::Epoll { watches: BTreeMap::new() },
            b"eventfd" => OfdKind::Event,
            b"timerfd" => OfdKind::Timer,
            b"signalfd" => OfdKind::Signal,
            b"inotify" => OfdKind::Inotify,
            b"pidfd" => OfdKind::Pid,
            other if other.starts_with(b"memfd") || other.starts_with(b"/memfd") => {
                let path = self.paths.intern(other);
                OfdKind::Mem { inode: self.fs.create(path, NodeKind::File, None) }
            }
            _ => OfdKind::Other,
        }
    }

    /// What a file is said to be by somebody who looked at it overrides what was thought.
    pub(crate) fn correct(&mut self, inode: InodeIx, mode: u32, size: u64) {
        let kind = NodeKind::of_mode(mode);
        let node = self.fs.node_mut(inode);
        // A link is seen through by most who look.
        if kind != NodeKind::Unknown && node.kind != kind && node.kind != NodeKind::Symlink {
            node.kind = kind;
            node.mode = Some(mode & 0o7777);
            if !node.written && kind == NodeKind::File {
                node.initial_size = Some(size);
                node.size = node.size.max(size);
            }
        }
    }

    pub(crate) fn tell(&mut self, inode: InodeIx, mode: u32, rdev: u64, size: u64) {
        if NodeKind::of_mode(mode) == NodeKind::File {
            self.fs.told_size(inode, size);
        }
        let node = self.fs.node_mut(inode);
        if node.kind == NodeKind::Unknown {
            node.kind = NodeKind::of_mode(mode);
        }
        if node.mode.is_none() && mode & 0o170_000 != 0 {
            node.mode = Some(mode & 0o7777);
        }
        if rdev != 0 {
            node.rdev = rdev;
        }
    }

    pub(crate) fn kind_of_target(&mut self, target: &FdTarget, flags: u32) -> OfdKind {
        match target {
            FdTarget::File { path, mode, size, rdev, .. } => {
                let deleted = path.strip_suffix(b" (deleted)");
                let path = self.paths.intern(deleted.unwrap_or(path));
                let inode = self.fs.present(path, NodeKind::of_mode(*mode));
                // Of a file that did not answer nothing but its name is known.
                if *mode != 0 {
                    self.tell(inode, *mode, *rdev, *size);
                }
                OfdKind::Node { path, inode }
            }
            FdTarget::Pipe { ino } => {
                let pipe = self.pipe(*ino);
                self.pipes[pipe as usize].inherited = true;
                OfdKind::Pipe { pipe, write: flags & 3 == 1 }
            }
            FdTarget::Socket { cookie, ino, family, kind, protocol, listening, local, peer, .. } => {
                // Without a cookie the inode tells sockets apart; the top bit keeps the two kinds of identity apart.
                let identity = if *cookie == 0 { *ino | 1 << 63 } else { *cookie };
                let state = if listening.is_some() {
                    SockState::Listening
                } else if peer.is_some() {
                    SockState::Connected
                } else {
                    SockState::Fresh
                };
                for addr in local.iter().chain(peer) {
                    self.directory_of(addr);
                }
                OfdKind::Sock(self.sock(Sock {
                    local: local.clone(),
                    peer: peer.clone(),
                    state,
                    inherited: true,
                    ..new_sock(*family, *kind, *protocol, identity, 0)
                }))
            }
            FdTarget::Epoll { .. } => OfdKind::Epoll { watches: BTreeMap::new() },
            FdTarget::Anon { kind, .. } => self.kind_of_anon(kind),
            _ => OfdKind::Other,
        }
    }

    pub(crate) fn new_anon(
        &mut self,
        proc: ProcIx,
        call: &Syscall,
        kind: OfdKind,
        flags: u32,
        end_ns: u64,
    ) -> Result<(), CompileError> {
        let ofd = self.add_ofd(kind, flags, call.object);
        self.put_fd(proc, call.ret as i32, ofd, flags & O_CLOEXEC != 0, end_ns)
    }

    pub(crate) fn fcntl(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        proc: ProcIx,
        call: &Syscall,
        end_ns: u64,
    ) -> Result<(), CompileError> {
        let fd0 = call.args[0] as i32;
        let ofd = self.ensure_fd(source, task, fd0, call.object, false)?;
        let files = self.procs[proc as usize].files;
        match call.args[1] {
            0 | 1030 => {
                if let Some(ofd) = ofd {
                    self.put_fd(proc, call.ret as i32, ofd, call.args[1] == 1030, end_ns)?;
                }
            }
            2 => {
                if let Some(slot) = self.files[files as usize].slots.get_mut(&fd0) {
                    slot.cloexec = call.args[2] & 1 != 0;
                }
            }
            3 => {
                if let Some(ofd) = ofd
                    && self.ofds[ofd as usize].inherited
                {
                    self.ofds[ofd as usize].nonblock = call.ret as u32 & O_NONBLOCK != 0;
                    self.ofds[ofd as usize].append = call.ret as u32 & O_APPEND != 0;
                    if call.ret & 3 != 0 {
                        self.known_writable(ofd, fd0);
                    }
                }
            }
            4 => {
                if let Some(ofd) = ofd {
                    self.ofds[ofd as usize].nonblock = call.args[2] as u32 & O_NONBLOCK != 0;
                    self.ofds[ofd as usize].append = call.args[2] as u32 & O_APPEND != 0;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
