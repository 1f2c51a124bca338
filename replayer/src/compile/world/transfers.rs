//! Calls that move bytes or say that they could be moved.

use super::super::CompileError;
use super::super::calls::{Known, Sc};
use super::super::fsmodel::{InodeIx, NodeKind};
use super::super::source::Source;
use super::{
    Arrival, BLOCKED_NS, MAX_WATCHERS, Mark, OfdIx, OfdKind, TaskIx, World, detail_addr, detail_epoll,
    detail_object, detail_value, positional,
};
use ctrace_format::{Detail, EpollEntry, Syscall};

// linux/falloc.h
const FALLOC_FL_KEEP_SIZE: u64 = 1;
const FALLOC_FL_PUNCH_HOLE: u64 = 2;

/// Whether a call looks at what has come without taking it.
pub(crate) fn is_peek(sc: Sc, call: &Syscall) -> bool {
    const MSG_PEEK: u64 = 2;
    let flags = match sc {
        Sc::Recvfrom | Sc::Recvmmsg => call.args[3],
        Sc::Recvmsg => call.args[2],
        _ => 0,
    };
    flags & MSG_PEEK != 0
}

impl World {
    pub(crate) fn epoll_waited(&mut self, task: TaskIx, call: &Syscall, mark: Mark) {
        let Some(ep) = self.ofd_of(task, call.args[0] as i32) else { return };
        if call.ret == 0 {
            self.ofds[ep as usize].looked_in_vain(mark);
            return;
        }
        let waited = call.duration_ns >= BLOCKED_NS;
        let Some(entries) = detail_epoll(call) else { return };
        for EpollEntry { data, events } in entries.iter().copied() {
            if events & 0x19 != 0
                && let Some(watch) = self.epoll(ep).and_then(|epoll| epoll.by_data(data)).copied()
            {
                self.readable(watch.ofd, watch.fd, mark, waited);
            }
        }
    }

    fn readable(&mut self, ofd: OfdIx, fd: i32, mark: Mark, exact: bool) {
        let shared = self.has_others(self.tasks[mark.task as usize].proc, fd, ofd);
        let state = &mut self.ofds[ofd as usize];
        if shared && state.told.len() < MAX_WATCHERS && !state.told.contains(&mark.task) {
            state.told.push(mark.task);
        }
        let at_ns = mark.end_ns;
        let after_sent = match self.ofds[ofd as usize].kind {
            OfdKind::Sock(ix) => self.socks[ix as usize].sent,
            _ => 0,
        };
        let ready = &mut self.ofds[ofd as usize].ready;
        if ready.is_none() {
            *ready = Some(Arrival { at_ns, after_sent, exact });
        }
    }

    /// A look at what has come, which takes nothing: as a readiness call, it tells when it was there.
    fn peeked(&mut self, ofd: OfdIx, call: &Syscall, at_ns: u64) {
        let OfdKind::Sock(sock) = self.ofds[ofd as usize].kind else { return };
        let after_sent = self.socks[sock as usize].sent;
        let exact = call.duration_ns >= BLOCKED_NS;
        self.ofds[ofd as usize].ready.get_or_insert(Arrival { at_ns, after_sent, exact });
    }

    pub(crate) fn polled(&mut self, task: TaskIx, call: &Syscall, mark: Mark) {
        let waited = call.duration_ns >= BLOCKED_NS;
        for detail in &call.details {
            let Detail::Poll { entries, .. } = detail else { continue };
            for entry in entries {
                let Some(ofd) = self.ofd_of(task, entry.fd) else {
                    if entry.revents & 5 == 4 && self.written_to.len() < 4096 {
                        self.written_to.insert((self.tasks[task as usize].proc, entry.fd));
                    }
                    continue;
                };
                if entry.revents & 4 != 0 {
                    self.known_writable(ofd, entry.fd);
                }
                if entry.revents & 0x19 != 0 {
                    self.readable(ofd, entry.fd, mark, waited);
                } else if entry.events & 1 != 0 && call.ret == 0 {
                    self.ofds[ofd as usize].looked_in_vain(mark);
                }
            }
        }
    }

    /// Where a transfer that was told its offset began: what is recorded is what the call left behind.
    fn began_at(call: &Syscall, arg: u8) -> Option<u64> {
        detail_value(call, arg).map(|after| after.saturating_sub(call.ret.max(0) as u64))
    }

    pub(crate) fn apply_io(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        known: &Known,
        end_ns: u64,
    ) -> Result<(), CompileError> {
        let n = call.ret.max(0) as u64;
        let fd0 = call.args[0] as i32;
        match known.sc {
            Sc::Read
            | Sc::Readv
            | Sc::Recvfrom
            | Sc::Recvmsg
            | Sc::Recvmmsg
            | Sc::Pread64
            | Sc::Preadv
            | Sc::Preadv2 => {
                let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)? else { return Ok(()) };
                if is_peek(known.sc, call) {
                    self.peeked(ofd, call, end_ns);
                } else {
                    let at = positional(known.sc, call);
                    self.moved_in(ofd, call.moved(), at);
                }
                if matches!(known.sc, Sc::Recvmsg | Sc::Recvmmsg) {
                    self.receive(source, task, call, known.sc, end_ns)?;
                }
                let from = if known.sc == Sc::Recvmsg { 1 } else { 4 };
                if let Some(from) = detail_addr(call, from) {
                    let from = self.absolute(task, from);
                    self.directory_of(&from);
                }
            }
            Sc::Write
            | Sc::Writev
            | Sc::Sendto
            | Sc::Sendmsg
            | Sc::Sendmmsg
            | Sc::Pwrite64
            | Sc::Pwritev
            | Sc::Pwritev2 => {
                let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, true)? else { return Ok(()) };
                let at = positional(known.sc, call);
                self.moved_out(ofd, call.moved(), at, end_ns);
                if matches!(known.sc, Sc::Sendmsg | Sc::Sendmmsg) {
                    self.pass(source, task, call, known.sc)?;
                }
            }
            Sc::Shutdown => {
                const SHUT_RD: u64 = 0;
                self.ensure_fd(source, task, fd0, call.object, false)?;
                if let Some(sock) = self.sock_of(task, fd0).filter(|_| call.args[1] != SHUT_RD) {
                    self.socks[sock as usize].finished = true;
                }
            }
            Sc::Sendfile => {
                let input = call.args[1] as i32;
                let other = detail_object(call, 1);
                if let Some(ofd) = self.ensure_fd(source, task, input, other, false)? {
                    self.moved_in(ofd, n, Self::began_at(call, 2));
                }
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, true)? {
                    self.moved_out(ofd, n, None, end_ns);
                }
            }
            Sc::CopyFileRange | Sc::Splice | Sc::Tee => {
                let out = call.args[if known.sc == Sc::Tee { 1 } else { 2 }] as i32;
                let other = detail_object(call, if known.sc == Sc::Tee { 1 } else { 2 });
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)?
                    && known.sc != Sc::Tee
                {
                    self.moved_in(ofd, n, Self::began_at(call, 1));
                }
                if let Some(ofd) = self.ensure_fd(source, task, out, other, true)? {
                    self.moved_out(ofd, n, Self::began_at(call, 3), end_ns);
                }
            }
            Sc::Lseek => {
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)? {
                    self.ofds[ofd as usize].pos = n;
                    if call.args[2] == 2
                        && let Some(inode) = self.inode_of(ofd)
                        && self.fs.node(inode).kind != NodeKind::Dir
                    {
                        let size = (n as i64).saturating_sub(call.args[1] as i64);
                        if size >= 0 {
                            self.fs.told_size(inode, size as u64);
                        }
                    }
                }
            }
            Sc::Ftruncate | Sc::Fallocate => {
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, true)?
                    && let Some(inode) = self.inode_of(ofd)
                {
                    if known.sc == Sc::Ftruncate {
                        self.fs.truncated(inode, call.args[1]);
                    } else if call.args[1] & FALLOC_FL_PUNCH_HOLE == 0 {
                        if call.args[1] & FALLOC_FL_KEEP_SIZE == 0 {
                            self.fs.written(inode, call.args[2], call.args[3]);
                        } else {
                            self.fs.occupy(inode, call.args[2], call.args[3]);
                        }
                    }
                }
            }
            Sc::Getdents | Sc::Getdents64 => {
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)? {
                    let state = &mut self.ofds[ofd as usize];
                    state.pos = if n == 0 { 0 } else { state.pos.saturating_add(n) };
                    let pos = state.pos;
                    if let Some(inode) = self.inode_of(ofd) {
                        self.fs.listed(inode, pos);
                    }
                }
            }
            Sc::Fstat => {
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)?
                    && let Some(inode) = self.inode_of(ofd)
                {
                    self.told_stat(inode, call);
                }
            }
            Sc::Mmap => {
                let fd = call.args[4] as i32;
                if call.args[3] & 0x20 == 0 && fd >= 0 {
                    self.ensure_fd(source, task, fd, call.object, false)?;
                    if let Some(ofd) = self.ofd_of(task, fd)
                        && let Some(inode) = self.inode_of(ofd)
                        && !self.fs.node(inode).written
                        && self.fs.node(inode).kind == NodeKind::File
                        && self.fs.node(inode).initial_size.is_none()
                    {
                        // Touched pages have to be inside the file.
                        self.fs.read_up_to(inode, call.args[5].saturating_add(call.args[1]).min(1 << 32));
                    }
                }
            }
            Sc::Fsync
            | Sc::Fdatasync
            | Sc::Getsockopt
            | Sc::Setsockopt
            | Sc::Getpeername
            | Sc::Fchmod
            | Sc::TimerfdSettime
            | Sc::InotifyAddWatch
            | Sc::Syncfs => {
                self.ensure_fd(source, task, fd0, call.object, false)?;
            }
            _ => {
                if let Some(args) = known.args
                    && args.first().is_some_and(|(_, kind)| *kind == ctrace_format::syscalls::Kind::Fd)
                    && call.object.is_some()
                {
                    self.ensure_fd(source, task, fd0, call.object, false)?;
                }
            }
        }
        Ok(())
    }

    /// The inode behind a description.
    pub(crate) fn inode_of(&self, ofd: OfdIx) -> Option<InodeIx> {
        match self.ofds[ofd as usize].kind {
            OfdKind::Node { inode, .. } | OfdKind::Mem { inode } => Some(inode),
            _ => None,
        }
    }

    pub(crate) fn moved_in(&mut self, ofd: OfdIx, n: u64, at: Option<u64>) {
        self.ofds[ofd as usize].ready = None;
        self.ofds[ofd as usize].told.clear();
        match self.ofds[ofd as usize].kind {
            OfdKind::Sock(ix) => {
                let sock = &mut self.socks[ix as usize];
                sock.received = sock.received.saturating_add(n);
                if n > 0 {
                    sock.answered = sock.sent;
                }
            }
            OfdKind::Node { inode, .. } | OfdKind::Mem { inode } => {
                let start = at.unwrap_or(self.ofds[ofd as usize].pos);
                let end = start.saturating_add(n);
                if n > 0 {
                    self.fs.read_up_to(inode, end);
                }
                if at.is_none() {
                    self.ofds[ofd as usize].pos = end;
                }
            }
            _ => {}
        }
    }

    pub(crate) fn moved_out(&mut self, ofd: OfdIx, n: u64, at: Option<u64>, end_ns: u64) {
        match self.ofds[ofd as usize].kind {
            OfdKind::Sock(ix) => {
                let sock = &mut self.socks[ix as usize];
                sock.sent = sock.sent.saturating_add(n);
                sock.sends = sock.sends.saturating_add(1);
                sock.last_send_ns = sock.last_send_ns.max(end_ns);
            }
            OfdKind::Node { inode, .. } | OfdKind::Mem { inode } => {
                let state = &self.ofds[ofd as usize];
                let start = match at {
                    Some(at) => at,
                    None if state.append => self.fs.node(inode).size,
                    None => state.pos,
                };
                let end = start.saturating_add(n);
                if self.fs.node(inode).kind == NodeKind::File || self.fs.node(inode).kind == NodeKind::Unknown
                {
                    self.fs.written(inode, start, n);
                }
                if at.is_none() {
                    self.ofds[ofd as usize].pos = end;
                }
            }
            _ => {}
        }
    }
}
