//! What a completed call changes.

use super::super::CompileError;
use super::super::calls::{Known, Sc};
use super::super::fsmodel::{InodeIx, NodeKind};
use super::super::netlink;
use super::super::paths::PathId;
use super::super::source::Source;
use super::super::steps::terminals::{TIOCGPTN, TIOCGPTPEER};
use super::{
    CLONE_FS, CLONE_NEWNS, CLONE_NEWUSER, FIONBIO, MAX_MARKED, Mark, OfdIx, OfdKind, ProcIx, Sock, SockState,
    TaskIx, World, canonical, detail_addr, detail_epoll, detail_local, detail_newfds, detail_object,
    detail_str, detail_value, new_sock, open_flags,
};
use crate::pressure::LEAST_WAIT_NS;
use ctrace_analysis::fds::{Effect, Said, SocketEffect, effects, socket_effect};
use ctrace_format::syscalls::{self, Kind, On};
use ctrace_format::{Object, SockAddr, Syscall, SyscallFlags};

pub(crate) const ENOSPC: i64 = -28;
/// A device number of `devpts`.
const PTS_RDEV: u64 = 136 << 8;
/// Path arguments that are remembered as seen from a directory.
const TARGETS_KEPT: usize = 1 << 20;

/// The numbers that a call made something new for, and whether exec closes them.
fn made(sc: Sc, call: &Syscall) -> impl Iterator<Item = (i32, bool)> + '_ {
    effects(sc, call).filter_map(|effect| match effect {
        Effect::Makes { fd, cloexec, .. } => Some((fd, cloexec)),
        _ => None,
    })
}

impl World {
    /// Applies a completed call. `task` made it, `known` says which it is.
    pub(crate) fn apply_call(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        known: &Known,
    ) -> Result<(), CompileError> {
        self.apply(source, task, call, known)?;
        if self.targets.len() > TARGETS_KEPT {
            self.targets.clear();
        }
        self.check()
    }

    fn apply(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        known: &Known,
    ) -> Result<(), CompileError> {
        let end_ns = call.t_ns.saturating_add(call.duration_ns);
        {
            let state = &mut self.tasks[task as usize];
            state.ops = state.ops.saturating_add(1);
            state.last_start_ns = call.t_ns;
            state.last_end_ns = end_ns;
        }
        if call.flags.contains(SyscallFlags::NO_EXIT) {
            return Ok(());
        }
        let seq = self.tasks[task as usize].ops - 1;
        let step = self.tasks[task as usize].label;
        let mark = Mark { task, seq, step, start_ns: call.t_ns, end_ns };
        let proc = self.tasks[task as usize].proc;
        let ok = call.ret >= 0;
        let fd0 = call.args[0] as i32;
        if let Some(addr) = detail_local(call).filter(|_| known.sc != Sc::Bind) {
            // Also by calls that fail: a send that is refused, a connect that is under way.
            self.got_address(task, fd0, addr);
        }
        if ok {
            self.judge_lower(call, known.sc);
            if let Some((path, inode)) = self.waited_for(task, call, known) {
                let dev = self.fs.node(inode).dev;
                self.fs.devices.synced(dev, self.paths.get(path), call.duration_ns);
            }
        }
        self.change_table(source, task, call, known.sc, end_ns)?;
        if let Some(effect) = socket_effect(known.sc, call) {
            self.change_socket(task, call, effect, end_ns);
        }
        if !ok {
            return self.apply_failure(source, task, call, known, mark);
        }
        match known.sc {
            Sc::Open | Sc::Openat | Sc::Openat2 | Sc::Creat => {
                let (flags, mode) = open_flags(call, known.sc);
                let dirfd = matches!(known.sc, Sc::Openat | Sc::Openat2).then_some(fd0);
                let path_arg = u8::from(dirfd.is_some());
                // What is opened once more by the name of its descriptor is known by that.
                let named =
                    detail_str(call, path_arg).and_then(|id| syscalls::descriptor_named(source.str(id)));
                let twin = match named {
                    Some(fd) => self.ensure_fd(source, task, fd, call.object, flags & 3 != 0)?,
                    None => None,
                };
                let kind = self.opened(source, task, call, path_arg, dirfd, flags, mode);
                let ofd = self.add_ofd(kind, flags, call.object);
                if let Some(twin) = twin.filter(|twin| self.is_nameless_file(*twin)) {
                    self.ofds[twin as usize].has_twin = true;
                    self.ofds[ofd as usize].has_twin = true;
                }
                self.give(proc, call, known.sc, &[ofd], end_ns)?;
            }
            Sc::Socket => {
                let sock = self.sock(new_sock(
                    call.args[0] as u16,
                    (call.args[1] & 0xff) as u16,
                    call.args[2] as u16,
                    self.cookie_of(source, call.object),
                    end_ns,
                ));
                let ofd = self.add_ofd(OfdKind::Sock(sock), call.args[1] as u32, call.object);
                self.give(proc, call, known.sc, &[ofd], end_ns)?;
            }
            Sc::Socketpair | Sc::Pipe | Sc::Pipe2 => {
                let Some((_, objects)) = detail_newfds(call) else { return Ok(()) };
                let flags = match known.sc {
                    Sc::Pipe2 => call.args[1] as u32,
                    Sc::Socketpair => call.args[1] as u32 & !0xff,
                    _ => 0,
                };
                let kinds = if known.sc == Sc::Socketpair {
                    let cookies = objects.map(|o| self.cookie_of(source, o));
                    let make = |cookie| Sock {
                        state: SockState::Connected,
                        ..new_sock(call.args[0] as u16, (call.args[1] & 0xff) as u16, 0, cookie, end_ns)
                    };
                    let a = self.sock(make(cookies[0]));
                    let b = self.sock(make(cookies[1]));
                    self.pair(a, b);
                    [OfdKind::Sock(a), OfdKind::Sock(b)]
                } else {
                    let ino = match objects[0].or(objects[1]).map(|o| source.object(o)) {
                        Some(Object::Pipe { ino }) => *ino,
                        _ => 0,
                    };
                    self.pipe_by_ino.remove(&ino);
                    let pipe = self.pipe(ino);
                    [OfdKind::Pipe { pipe, write: false }, OfdKind::Pipe { pipe, write: true }]
                };
                let mut made = [0, 0];
                for (i, kind) in kinds.into_iter().enumerate() {
                    let access = if known.sc == Sc::Socketpair || i == 1 { 2 } else { 0 };
                    made[i] = self.add_ofd(kind, flags & !3 | access, objects[i]);
                }
                self.give(proc, call, known.sc, &made, end_ns)?;
            }
            Sc::Accept | Sc::Accept4 => {
                self.ensure_fd(source, task, fd0, None, false)?;
                let listener = match self.ofd_of(task, fd0).map(|o| &self.ofds[o as usize].kind) {
                    Some(OfdKind::Sock(ix)) => Some(*ix),
                    _ => None,
                };
                let flags = if known.sc == Sc::Accept4 { call.args[3] as u32 } else { 0 };
                let sock = self.accepted(source, call, listener, end_ns);
                let ofd = self.add_ofd(OfdKind::Sock(sock), flags | 2, call.object);
                self.give(proc, call, known.sc, &[ofd], end_ns)?;
                if let Some(l) = self.ofd_of(task, fd0) {
                    self.ofds[l as usize].ready = None;
                    self.ofds[l as usize].untold(task);
                }
            }
            Sc::Bind | Sc::Getsockname | Sc::Listen | Sc::Connect | Sc::Close | Sc::CloseRange => {}
            Sc::Fcntl => self.fcntl(source, task, call)?,
            Sc::Ioctl => match call.args[1] as u32 {
                TIOCGPTN => {
                    let ofd = self.ensure_fd(source, task, fd0, call.object, false)?;
                    if let (Some(ofd), Some(number)) = (ofd, detail_value(call, 2)) {
                        self.ptys.insert(ofd, number);
                    }
                }
                TIOCGPTPEER => {
                    let number = self.ofd_of(task, fd0).and_then(|ofd| self.ptys.get(&ofd));
                    let name = format!("/dev/pts/{}", number.copied().unwrap_or(0));
                    let path = self.paths.intern(name.as_bytes());
                    let inode = self.fs.present(&mut self.paths, path, NodeKind::Device);
                    self.fs.node_mut(inode).rdev = PTS_RDEV;
                    let kind = OfdKind::Node { path, inode };
                    self.new_anon(proc, call, known.sc, kind, call.args[2] as u32, end_ns)?;
                }
                FIONBIO => {
                    if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)? {
                        self.ofds[ofd as usize].nonblock = detail_value(call, 2).unwrap_or(1) != 0;
                    }
                }
                _ => {
                    self.ensure_fd(source, task, fd0, call.object, false)?;
                }
            },
            Sc::EpollCreate | Sc::EpollCreate1 => {
                let flags = if known.sc == Sc::EpollCreate1 { call.args[0] as u32 } else { 0 };
                let ofd = self.add_ofd(OfdKind::Epoll, flags, call.object);
                self.give(proc, call, known.sc, &[ofd], end_ns)?;
            }
            Sc::EpollCtl => {
                let fd = call.args[2] as i32;
                let object = detail_object(call, 2);
                self.ensure_fd(source, task, fd0, call.object, false)?;
                self.ensure_fd(source, task, fd, object, false)?;
                match call.args[1] {
                    1 | 3 => {
                        let entry = detail_epoll(call).and_then(<[_]>::first).copied();
                        let (data, events) = entry.map_or((fd as u64, 1), |e| (e.data, e.events));
                        self.watch(proc, fd0, fd, events, data);
                    }
                    _ => {
                        if let (Some(ep), Some(ofd)) = (self.ofd_of(task, fd0), self.ofd_of(task, fd)) {
                            self.unwatch(ep, ofd, fd);
                        }
                    }
                }
            }
            Sc::EpollWait | Sc::EpollPwait | Sc::EpollPwait2 => self.epoll_waited(task, call, mark),
            Sc::Poll | Sc::Ppoll | Sc::Select | Sc::Pselect6 => self.polled(task, call, mark),
            Sc::Eventfd | Sc::Eventfd2 => {
                let flags = if known.sc == Sc::Eventfd2 { call.args[1] as u32 } else { 0 };
                self.new_anon(proc, call, known.sc, OfdKind::Event, flags | 2, end_ns)?;
            }
            Sc::TimerfdCreate => {
                self.new_anon(proc, call, known.sc, OfdKind::Timer, call.args[1] as u32, end_ns)?;
            }
            Sc::Signalfd | Sc::Signalfd4 => {
                if fd0 == -1 {
                    let flags = if known.sc == Sc::Signalfd4 { call.args[3] as u32 } else { 0 };
                    self.new_anon(proc, call, known.sc, OfdKind::Signal, flags, end_ns)?;
                }
            }
            Sc::InotifyInit | Sc::InotifyInit1 => {
                let flags = if known.sc == Sc::InotifyInit1 { call.args[0] as u32 } else { 0 };
                self.new_anon(proc, call, known.sc, OfdKind::Inotify, flags, end_ns)?;
            }
            Sc::MemfdCreate => {
                let name = [b"/memfd:".as_slice(), &call.ret.to_le_bytes()].concat();
                let path = self.paths.intern(&name);
                let inode = self.fs.create(&self.paths, path, NodeKind::File, None);
                self.fs.make_unnamed(inode);
                self.new_anon(proc, call, known.sc, OfdKind::Mem { inode }, 2, end_ns)?;
            }
            Sc::PidfdOpen => {
                self.new_anon(proc, call, known.sc, OfdKind::Pid, call.args[1] as u32, end_ns)?;
            }
            Sc::Chdir => {
                if let Some(target) = self.target(source, task, call, 0, None) {
                    let directory = self.fs.present(&mut self.paths, target.path, NodeKind::Dir);
                    let fs = self.procs[proc as usize].fs;
                    let state = &mut self.fs_states[fs as usize];
                    (state.cwd, state.directory) = (target.path, Some(directory));
                    // From an unknown one, a relative path leads to an unknown one.
                    let text = detail_str(call, 0).map(|id| source.str(id));
                    state.began_here &= text.is_some_and(|text| text.first() != Some(&b'/'));
                }
            }
            Sc::Chroot => {
                if let Some(target) = self.target(source, task, call, 0, None) {
                    self.fs.present(&mut self.paths, target.path, NodeKind::Dir);
                    let fs = self.procs[proc as usize].fs;
                    self.fs_states[fs as usize].root = target.path;
                }
            }
            Sc::Fchdir => {
                if let Some(ofd) = self.ensure_fd(source, task, fd0, call.object, false)?
                    && let OfdKind::Node { path, inode } = self.ofds[ofd as usize].kind
                {
                    let fs = self.procs[proc as usize].fs;
                    let state = &mut self.fs_states[fs as usize];
                    (state.cwd, state.directory) = (path, Some(inode));
                    state.began_here = false;
                }
            }
            Sc::Unshare => {
                // A mount namespace and a user namespace come with a working directory of one's own (kernel/fork.c).
                if call.args[0] & (CLONE_FS | CLONE_NEWNS | CLONE_NEWUSER) != 0 {
                    self.unshare_directory(task);
                }
            }
            Sc::Prlimit64 | Sc::Setrlimit => self.limited(task, call, known.sc),
            Sc::Setsid => self.procs[proc as usize].own_group = true,
            Sc::Setpgid => self.regrouped(proc, call),
            Sc::Umask => {
                let fs = self.procs[proc as usize].fs;
                self.fs_states[fs as usize].umask = call.args[0] as u32 & 0o777;
            }
            Sc::Wait4 | Sc::Waitid => {
                let nohang =
                    if known.sc == Sc::Wait4 { call.args[2] & 1 != 0 } else { call.args[3] & 1 != 0 };
                if call.ret == 0 && nohang && known.sc == Sc::Wait4 {
                    let whom = (call.args[0] as u32 as i32).max(0) as u64;
                    self.procs[proc as usize].no_child.insert(whom, mark);
                } else if call.ret > 0 && known.sc == Sc::Wait4 {
                    self.procs[proc as usize].no_child.remove(&(call.ret as u64));
                }
            }
            Sc::Clone | Sc::Clone3 | Sc::Fork | Sc::Vfork => {
                if call.ret > 0 {
                    self.tasks[task as usize].newborn.pop_front();
                }
            }
            _ => {
                self.apply_io(source, task, call, known, end_ns)?;
                if !self.took_effect.remove(&(task, seq)) {
                    self.apply_names(source, task, call, known)?;
                }
                let is_made = |world: &Self, fd: i32| {
                    world.files_of(task).get(fd).is_some_and(|slot| slot.since_ns == end_ns)
                };
                if made(known.sc, call).any(|(fd, _)| !is_made(self, fd)) {
                    self.new_anon(proc, call, known.sc, OfdKind::Other, 0, end_ns)?;
                }
            }
        }
        Ok(())
    }

    /// Changes the table of a task, except for what the call makes: what that stands for is worked out with it.
    fn change_table(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        sc: Sc,
        end_ns: u64,
    ) -> Result<(), CompileError> {
        let proc = self.tasks[task as usize].proc;
        for effect in effects(sc, call) {
            match effect {
                // The last was known when the task was made.
                Effect::Makes { .. } | Effect::Receives { .. } | Effect::Shares { .. } => {}
                Effect::Copies { from, to, cloexec, .. } => {
                    if let Some(ofd) = self.ensure_fd(source, task, from, call.object, false)? {
                        self.take_fd(proc, to, ofd, cloexec, end_ns)?;
                    }
                }
                Effect::Closes { fd } => {
                    // The first that is seen of a descriptor may be its end. One that is there may be another thread's by now,
                    // and nothing is to be learned of it.
                    let files = self.procs[proc as usize].files;
                    if call.object.is_some() && self.files[files].closing(fd, call.t_ns).is_none() {
                        self.ensure_fd(source, task, fd, call.object, false)?;
                    }
                    drop(self.files[files].close(fd, call.t_ns));
                    self.bury();
                }
                Effect::ClosesRange { first, last } => {
                    self.files[self.procs[proc as usize].files].remove_range(first, last);
                    self.bury();
                }
                Effect::Marks { fd, cloexec } => {
                    self.ensure_fd(source, task, fd, call.object, false)?;
                    self.files[self.procs[proc as usize].files].mark(fd, cloexec);
                }
                Effect::MarksRange { first, last } => {
                    self.marked += self.files.mark_range(self.procs[proc as usize].files, first, last);
                    if self.marked > MAX_MARKED {
                        let what = "descriptors marked close-on-exec by ranges";
                        return Err(CompileError::TooMany { what, limit: MAX_MARKED });
                    }
                    self.within_limits()?;
                }
                Effect::Unshares => self.unshare_files(task),
            }
        }
        Ok(())
    }

    /// Gives the numbers that a call made to descriptions, in order.
    pub(super) fn give(
        &mut self,
        proc: ProcIx,
        call: &Syscall,
        sc: Sc,
        ofds: &[OfdIx],
        end_ns: u64,
    ) -> Result<(), CompileError> {
        for ((fd, cloexec), ofd) in made(sc, call).zip(ofds) {
            self.take_fd(proc, fd, *ofd, cloexec, end_ns)?;
        }
        Ok(())
    }

    /// Changes the socket that a call is about.
    fn change_socket(&mut self, task: TaskIx, call: &Syscall, effect: SocketEffect<'_>, end_ns: u64) {
        let Some(ix) = self.sock_of(task, call.args[0] as i32) else { return };
        match effect {
            SocketEffect::Bound { asked, got } => {
                if let SockAddr::Unix(path) = asked
                    && path.first().is_some_and(|b| *b != b'@' && *b != 0)
                {
                    let path = self.seen(task, path);
                    let path = self.paths.intern(&path);
                    self.fs.create(&self.paths, path, NodeKind::Socket, None);
                    self.bound_at(ix, path);
                }
                let local = self.absolute(task, got.unwrap_or(asked));
                self.socks[ix as usize].anywhere =
                    matches!(&local, SockAddr::Inet(at) if at.ip().is_unspecified());
                self.socks[ix as usize].local = Some(local);
                if self.socks[ix as usize].is_datagram() && !netlink::is(&self.socks[ix as usize]) {
                    self.takes_datagrams(ix);
                }
            }
            SocketEffect::Named(addr) => {
                let state = &self.socks[ix as usize];
                let listens = state.state == SockState::Listening;
                if listens && state.local.as_ref().map(canonical) != Some(canonical(addr)) {
                    self.silent(ix);
                }
                let sock = &mut self.socks[ix as usize];
                if !matches!(addr, SockAddr::Unix(_)) {
                    sock.local = Some(addr.clone());
                }
                if listens {
                    self.listening(ix);
                } else if sock.state == SockState::Connected {
                    self.join_tuple(ix);
                }
            }
            SocketEffect::Listens => self.listening(ix),
            SocketEffect::Connects { to: Some(addr), said: Said::Yes | Said::Later } => {
                self.connected(task, ix, addr, end_ns);
            }
            SocketEffect::Connects { .. } => {}
        }
    }

    /// The file that a call waited for until it was on its disk.
    pub(crate) fn waited_for(
        &self,
        task: TaskIx,
        call: &Syscall,
        known: &Known,
    ) -> Option<(PathId, InodeIx)> {
        if known.row().waits != Some(On::Disk) || call.duration_ns < LEAST_WAIT_NS || call.ret < 0 {
            return None;
        }
        let is_of_one = matches!(known.sc, Sc::Fsync | Sc::Fdatasync | Sc::SyncFileRange);
        let ofd = is_of_one.then(|| self.ofd_of(task, call.args[0] as i32)).flatten()?;
        match self.ofds[ofd as usize].kind {
            OfdKind::Node { path, inode } => Some((path, inode)),
            _ => None,
        }
    }

    pub(crate) fn apply_failure(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
        known: &Known,
        mark: Mark,
    ) -> Result<(), CompileError> {
        const EAGAIN: i64 = -11;
        const ECONNREFUSED: i64 = -111;
        let fd0 = call.args[0] as i32;
        match (known.sc, call.ret) {
            (Sc::Connect | Sc::Sendto | Sc::Sendmsg, ECONNREFUSED) => {
                // A name of a unix socket that nobody has any more: the file is there.
                let arg = if known.sc == Sc::Sendto { 4 } else { 1 };
                if let Some(addr @ SockAddr::Unix(_)) = detail_addr(call, arg)
                    && let SockAddr::Unix(path) = self.absolute(task, addr)
                    && path.first() == Some(&b'/')
                {
                    let path = self.paths.intern(&path);
                    self.fs.present(&mut self.paths, path, NodeKind::File);
                }
            }
            (
                Sc::Read | Sc::Readv | Sc::Recvfrom | Sc::Recvmsg | Sc::Recvmmsg | Sc::Accept | Sc::Accept4,
                EAGAIN,
            ) => {
                if let Some(ofd) = self.ofd_of(task, fd0) {
                    let ofd = &mut self.ofds[ofd as usize];
                    // Told that something was there, it found that somebody else had taken it: nothing is known of when
                    // the next arrives. Of a connection one knows: after it was looked for in vain.
                    let accepts = matches!(known.sc, Sc::Accept | Sc::Accept4);
                    if !ofd.untold(task) || accepts {
                        ofd.looked_in_vain(mark);
                    }
                    ofd.ready = None;
                }
            }
            _ => {}
        }
        self.refused_descriptor(task, call);
        if call.ret == ENOSPC
            && let Some(inode) = self.ofd_of(task, fd0).and_then(|ofd| self.inode_of(ofd))
        {
            let dev = self.fs.node(inode).dev;
            self.fs.devices.found_full(dev);
        }
        if call.object.is_some()
            && call.ret != -9
            && known.sc != Sc::Close
            && known.args.is_some_and(|a| a.first().is_some_and(|k| k.1 == Kind::Fd))
        {
            let writes = matches!(known.sc, Sc::Write | Sc::Writev | Sc::Sendto | Sc::Sendmsg | Sc::Sendmmsg);
            self.ensure_fd(source, task, fd0, call.object, writes)?;
        }
        self.would_have_blocked(task, call, known.sc);
        self.would_have_appended(task, call, known.sc);
        self.failed_name(source, task, call, known);
        Ok(())
    }
}
