//! Descriptors: how they come about, what is behind them, when they go.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::fsmodel::{InodeIx, NodeKind};
use super::super::source::Source;
use super::{
    Epoll, FdSlot, Inherited, MAX_FD_SLOTS, O_APPEND, O_NONBLOCK, Ofd, OfdIx, OfdKind, OfdRef, Origin, Pipe,
    PipeIx, ProcIx, Sock, SockState, TaskIx, World, canonical, new_sock,
};
use ctrace_analysis::fds::Held;
use ctrace_format::{FdTarget, Object, ObjectId, SockAddr, Syscall};
use std::collections::BTreeSet;
use std::collections::hash_map::Entry;
use std::rc::{Rc, Weak};

impl World {
    /// Descriptors that an earlier pass found a process to have had that was there from the start.
    pub(crate) fn give_inherited(&mut self, source: &dyn Source, ix: TaskIx) -> Result<(), CompileError> {
        let (tid, start_ns) = (self.tasks[ix as usize].tid, self.tasks[ix as usize].start_ns);
        let proc = self.tasks[ix as usize].proc;
        for at in self.inherited.get(&(tid, start_ns)).cloned().unwrap_or_default() {
            let one = self.seed.inherited[at].clone();
            // What the snapshot shows under the number came later.
            if self.ofd_of(ix, one.fd).is_some() {
                continue;
            }
            let ofd = self.inherited_ofd(source, &one);
            self.put_fd(proc, one.fd, ofd, false, 0)?;
        }
        Ok(())
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
        let flags = if one.written { 2 } else { 0 }
            | if one.nonblock { O_NONBLOCK } else { 0 }
            | if one.append { O_APPEND } else { 0 };
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
                self.passing.made(id, ofd);
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
        let proc = self.procs[self.tasks[task as usize].proc as usize].root;
        let root = self.procs[proc as usize].leader;
        let one = Inherited {
            tid: self.tasks[root as usize].tid,
            start_ns: self.tasks[root as usize].start_ns,
            fd,
            object: Some(object),
            written: writes,
            nonblock: false,
            append: false,
        };
        if self.tasks[root as usize].origin == Origin::Forked {
            self.unknown_fds += 1;
        }
        let ofd = self.inherited_ofd(source, &one);
        match self.found.entry((one.tid, one.start_ns, one.fd)) {
            Entry::Vacant(new) => {
                new.insert(self.discovered.len());
                self.discovered_as.entry(ofd).or_insert(self.discovered.len());
                self.by_number.entry((one.fd, one.object)).or_insert(self.discovered.len());
                self.discovered.push(one);
            }
            // Somebody closed it before another, which had it from the same ancestor, used it: what is learnt of it is told of
            // the one that was there.
            Entry::Occupied(known) => {
                self.discovered_as.entry(ofd).or_insert(*known.get());
                self.discovered[*known.get()].written |= writes;
            }
        }
        let mine = self.tasks[task as usize].proc;
        self.put_fd(mine, fd, ofd, false, 0)?;
        let root_files = self.procs[proc as usize].files;
        if proc != mine && self.files[root_files].get(fd).is_none() {
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
        // It may have other numbers by now.
        let by_number = self.by_number.get(&(fd, known.object));
        for at in by_number.into_iter().chain(self.discovered_as.get(&ofd)) {
            self.discovered[*at].written = true;
        }
    }

    /// An object that was not known yet when its descriptor was made.
    pub(crate) fn learn(&mut self, source: &dyn Source, ofd: OfdIx, object: &Object) {
        let _ = source;
        match (self.ofds[ofd as usize].kind, object) {
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
        self.files.leave(self.procs[proc as usize].files);
        self.bury();
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
            OfdKind::Epoll => {
                self.epolls.insert(ix, Epoll::default());
            }
            OfdKind::Node { inode, .. } | OfdKind::Mem { inode } => self.fs.opened(inode, true),
            _ => {}
        }
        let ofd = Ofd {
            kind,
            has_twin: false,
            nonblock: flags & O_NONBLOCK != 0,
            append: flags & O_APPEND != 0,
            writable: flags & 3 != 0,
            pos: 0,
            handle: Weak::new(),
            watched_by: BTreeSet::new(),
            idle: Vec::new(),
            told: Vec::new(),
            inherited: false,
            ready: None,
            object,
        };
        if let Some(object) = object {
            self.passing.made(object, ix);
        }
        if let Some(ix) = self.free_ofds.pop() {
            self.ofds[ix as usize] = ofd;
            ix
        } else {
            self.ofds.push(ofd);
            (self.ofds.len() - 1) as OfdIx
        }
    }

    /// A descriptor of a process that was there before, or takes the place of whatever had its number.
    pub(crate) fn put_fd(
        &mut self,
        proc: ProcIx,
        fd: i32,
        ofd: OfdIx,
        cloexec: bool,
        at_ns: u64,
    ) -> Result<(), CompileError> {
        let slot = self.slot(fd, ofd, cloexec, at_ns);
        drop(self.files[self.procs[proc as usize].files].put(fd, slot));
        self.bury();
        self.within_limits()
    }

    /// A descriptor of a process that a call made which was given a free number.
    pub(crate) fn take_fd(
        &mut self,
        proc: ProcIx,
        fd: i32,
        ofd: OfdIx,
        cloexec: bool,
        at_ns: u64,
    ) -> Result<(), CompileError> {
        let slot = self.slot(fd, ofd, cloexec, at_ns);
        self.files[self.procs[proc as usize].files].take(fd, slot);
        self.bury();
        self.within_limits()
    }

    fn slot(&mut self, fd: i32, ofd: OfdIx, cloexec: bool, since_ns: u64) -> FdSlot {
        self.fd_numbers = self.fd_numbers.max(u64::try_from(fd).map_or(0, |fd| fd + 1));
        if fd < super::limits::INHERITED_MAX {
            self.numbers_known.insert(fd);
        }
        let of = self.ofds[ofd as usize].handle.upgrade().unwrap_or_else(|| {
            let of = OfdRef::new(ofd, &self.registry);
            self.ofds[ofd as usize].handle = Rc::downgrade(&of);
            of
        });
        FdSlot { what: Held::new(of), cloexec, since_ns }
    }

    /// Refuses a trace with more descriptors than any host has.
    pub(crate) fn within_limits(&self) -> Result<(), CompileError> {
        if self.registry.descriptors() > MAX_FD_SLOTS {
            return Err(CompileError::TooMany { what: "open descriptors", limit: MAX_FD_SLOTS });
        }
        Ok(())
    }

    /// Takes leave of the descriptions whose last descriptor went.
    pub(super) fn bury(&mut self) {
        loop {
            let Some(ofd) = self.registry.gone() else { return };
            self.over(ofd);
        }
    }

    fn over(&mut self, ofd: OfdIx) {
        self.forget_watches(ofd);
        self.ptys.remove(&ofd);
        let state = &mut self.ofds[ofd as usize];
        let kind = std::mem::replace(&mut state.kind, OfdKind::Other);
        match kind {
            OfdKind::Sock(ix) => {
                self.socks[ix as usize].closed = true;
                self.socks[ix as usize].ofd = None;
                self.gone_socks.push(ix);
                self.passing.gone(ix, self.socks[ix as usize].partner);
                let sock = &self.socks[ix as usize];
                if sock.state == SockState::Listening {
                    self.silent(ix);
                }
                self.takes_no_datagrams(ix);
                let sock = &self.socks[ix as usize];
                // Somebody inside may still accept a connection that was closed before.
                let to_come = |peer: &SockAddr| sock.partner.is_none() && self.listener(peer).is_some();
                if let (Some(local), Some(peer)) = (&sock.local, &sock.peer)
                    && !to_come(peer)
                {
                    let key = (canonical(local), canonical(peer));
                    if self.by_tuple.get(&key) == Some(&ix) {
                        self.by_tuple.remove(&key);
                    }
                }
                self.sock_by_cookie.remove(&self.socks[ix as usize].cookie);
            }
            OfdKind::Node { inode, .. } | OfdKind::Mem { inode } => self.fs.opened(inode, false),
            _ => {}
        }
        self.free_ofds.push(ofd);
        self.gone_ofds.push(ofd);
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
            Object::File { path, mode, rdev, size, dev, .. } => {
                let path = self.paths.intern(source.str(*path));
                let inode = self.fs.present(&mut self.paths, path, NodeKind::of_mode(*mode));
                self.fs.placed(inode, *dev, self.paths.get(path));
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
            b"eventpoll" => OfdKind::Epoll,
            b"eventfd" => OfdKind::Event,
            b"timerfd" => {
                self.found_timers = true;
                OfdKind::Timer
            }
            b"signalfd" => OfdKind::Signal,
            b"inotify" => OfdKind::Inotify,
            b"pidfd" => OfdKind::Pid,
            other if other.starts_with(b"memfd") || other.starts_with(b"/memfd") => {
                let path = self.paths.intern(other);
                let inode = self.fs.create(&self.paths, path, NodeKind::File, None);
                self.fs.make_unnamed(inode);
                OfdKind::Mem { inode }
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
            FdTarget::File { path, mode, size, rdev, dev, .. } => {
                let deleted = path.strip_suffix(b" (deleted)");
                let path = self.paths.intern(deleted.unwrap_or(path));
                let inode = self.fs.present(&mut self.paths, path, NodeKind::of_mode(*mode));
                // Of a file that did not answer nothing but its name is known.
                if *mode != 0 {
                    self.fs.placed(inode, *dev, self.paths.get(path));
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
            FdTarget::Epoll { .. } => OfdKind::Epoll,
            FdTarget::Anon { kind, .. } => self.kind_of_anon(kind),
            _ => OfdKind::Other,
        }
    }

    pub(crate) fn new_anon(
        &mut self,
        proc: ProcIx,
        call: &Syscall,
        sc: Sc,
        kind: OfdKind,
        flags: u32,
        end_ns: u64,
    ) -> Result<(), CompileError> {
        let ofd = self.add_ofd(kind, flags, call.object);
        self.give(proc, call, sc, &[ofd], end_ns)
    }
}
