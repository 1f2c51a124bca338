//! A call: whether it takes place, and its result.

use super::super::Injection;
use super::super::acts::{Way, way};
use super::super::contents::Stream;
use super::super::hangups::Finds;
use super::super::names::Use;
use super::super::scout::client;
use super::super::seen::Seen;
use super::{Decided, EINPROGRESS, ESRCH, Fate, Follower, NOT_MADE, SIGPIPE};
use crate::fds::{Change, Descriptor};
use ctrace_format::syscalls::{Call, Family, Kind};
use ctrace_format::{Detail, Known, Syscall, SyscallFlags, Tgid};

/// `ioctl` command, include/uapi/linux/fs.h: its argument is a descriptor.
const FICLONE: u32 = 0x4004_9409;

impl Follower {
    #[expect(clippy::too_many_arguments, reason = "the call, who made it, what is known of it")]
    pub(super) fn call(
        &mut self,
        ordinal: u64,
        call: &Syscall,
        tgid: Tgid,
        injection: Option<&Injection>,
        is_unborn: bool,
        words: &(impl Known + ?Sized),
        revise: &mut dyn FnMut(Decided),
    ) -> Fate {
        let sc = Call::of(call.sysno);
        if self.dead.contains(&tgid) {
            self.lacks(sc, call, tgid, words);
            // Names that it would have used are found by descriptors.
            self.fds.syscall(tgid, sc, call);
            return Fate::Absent;
        }
        let way = injection.map_or(Way::Made, |injection| way(injection, sc, call));
        let fails = matches!(way, Way::Instead(_));
        // The event that tells of a new program comes before the end of the call that executed it.
        let is_the_exec = fails && sc.row().family == Family::Exec;
        let tid = words.task_def(call.task).map_or(0, |task| task.tid.0);
        let mut is_prevented = is_unborn
            || self.unsent.is_in_handler(sc, tid)
            || !is_the_exec && self.is_of_another_program(sc, tgid)
            || self.depends(sc, call, tgid, words);
        let mut fate = Fate::Stays;
        if !is_prevented {
            match self.names.uses(&Seen { tgid, sc, call, fds: &self.fds, words }) {
                Use::Unmade => is_prevented = true,
                Use::Result(result) if !fails => fate = Fate::Other { result, without: Vec::new() },
                Use::Result(_) | Use::Same => {}
            }
        }
        // One fault may prevent another.
        let fails = fails && !is_prevented;
        if is_prevented {
            fate = Fate::Absent;
        } else if !fails {
            fate = self.part(call, way, fate);
            fate = self.moves(tgid, sc, call, fate, words);
            fate = self.hung_up(ordinal, sc, call, tgid, fate, words);
        }
        if let Some(injection) = injection.filter(|_| fate != Fate::Absent) {
            self.struck(ordinal, call, tgid, injection, words);
        }
        if fails {
            self.fails(sc, call, tgid, words);
        }
        if fate == Fate::Stays && !fails {
            let answers = self.ready.answers(sc, call, |fd| self.is_gone(tgid, fd, words));
            if let Some((result, without)) = answers {
                fate = if result > 0 { Fate::Other { result, without } } else { Fate::Absent };
            }
        }
        let done = if fails { &Fate::Absent } else { &fate };
        self.ready.call(ordinal, sc, call, done, revise);
        let not_made = fails || fate == Fate::Absent || is_failure(&fate);
        if fails || fate == Fate::Absent && is_prevented {
            self.lacks(sc, call, tgid, words);
        }
        // It is made, and its caller does not know.
        let is_closed = matches!(way, Way::After(_));
        self.changes(ordinal, sc, call, tgid, not_made, is_closed, words);
        if is_closed && sc.row().family == Family::Accept {
            self.drops(ordinal + 1, call);
        }
        if is_the_exec && fails {
            self.gives_up(ordinal + 1, call, tgid, words);
        }
        if !not_made {
            self.names.took_place(&Seen { tgid, sc, call, fds: &self.fds, words });
            self.took_place(ordinal + 1, sc, call, tgid, tid, &fate, words);
        }
        fate
    }

    /// Applies a call to the descriptors of its task.
    #[expect(
        clippy::too_many_arguments,
        reason = "the call, who made it, what becomes of it, what is known of it"
    )]
    fn changes(
        &mut self,
        ordinal: u64,
        sc: Call,
        call: &Syscall,
        tgid: Tgid,
        not_made: bool,
        is_closed: bool,
        words: &(impl Known + ?Sized),
    ) {
        let changes = self.fds.syscall(tgid, sc, call);
        self.files.opened(sc, call, &changes, !not_made, words);
        let mut closed: Vec<Descriptor> = Vec::new();
        for change in changes {
            match change {
                Change::Opened { fd, .. } if not_made || is_closed => {
                    self.fds.set_tag(tgid, fd, NOT_MADE);
                }
                Change::Opened { .. } => {}
                Change::Closed { descriptor, last_in_table, .. } => {
                    if last_in_table && !not_made && sc == Call::Close {
                        // The kernel tells of it before the call returns.
                        self.leaves_unread(ordinal, call, words);
                    }
                    closed.push(descriptor);
                }
            }
        }
        self.close_pipes(&closed);
    }

    /// A connection that is closed with bytes in it that a fault has left there is reset (`tcp_close`, net/ipv4/tcp.c).
    fn leaves_unread(&mut self, before: u64, call: &Syscall, words: &(impl Known + ?Sized)) {
        let cookie = call.object.and_then(|object| words.cookie(object));
        let Some((own, other)) = cookie.and_then(|cookie| self.sockets.ends.get(&cookie)).cloned() else {
            return;
        };
        if self.contents.has_left(&Stream::Socket(other.clone(), own.clone())) {
            self.resets(before, call.t_ns.saturating_add(call.duration_ns), &(own, other));
        }
    }

    /// A connection is dropped when it is accepted.
    fn drops(&mut self, before: u64, call: &Syscall) {
        let Some(client) = client(call) else { return };
        let Some(ends) = self.sockets.by_ends.keys().find(|(_, other)| other == client).cloned() else {
            return;
        };
        let theirs = (ends.1.clone(), ends.0.clone());
        if self.hangups.has_sent(&Stream::Socket(theirs.0.clone(), theirs.1.clone())) {
            self.resets(before, call.t_ns.saturating_add(call.duration_ns), &ends);
        } else {
            self.sockets.dropped.insert(theirs);
        }
    }

    /// Keeps what is needed should a process end.
    #[expect(
        clippy::too_many_arguments,
        reason = "the call, who made it, what becomes of it, what is known of it"
    )]
    fn took_place(
        &mut self,
        before: u64,
        sc: Call,
        call: &Syscall,
        tgid: Tgid,
        tid: u32,
        fate: &Fate,
        words: &(impl Known + ?Sized),
    ) {
        let row = sc.row();
        if row.family == Family::Clone && call.ret > 0 {
            self.children.is_known(tgid, tid, call.ret);
        }
        self.pairs(call, words);
        if matches!(row.family, Family::Accept | Family::Listen) {
            let listener = self.fds.get(tgid, call.args[0] as i32).map(|it| it.generation);
            self.sockets.listeners.entry(tgid).or_default().extend(listener);
        }
        self.hangups.note(&Seen { tgid, sc, call, fds: &self.fds, words });
        let moved = match fate {
            Fate::Other { result, .. } => *result,
            _ => call.moved() as i64,
        };
        if moved <= 0 || call.flags.contains(SyscallFlags::NO_EXIT) {
            return;
        }
        if row.reads != 0
            && let Some(stream) = self.stream(sc, call, false, words)
        {
            self.hangups.moved(stream, -moved);
        }
        if row.writes != 0
            && let Some(stream) = self.stream(sc, call, true, words)
        {
            if let Stream::Socket(own, other) = &stream
                && self.sockets.dropped.remove(&(own.clone(), other.clone()))
            {
                let t_ns = call.t_ns.saturating_add(call.duration_ns);
                self.resets(before, t_ns, &(other.clone(), own.clone()));
            }
            self.hangups.moved(stream, moved);
        }
    }

    /// A call that moves a part of its bytes.
    #[expect(clippy::unused_self, reason = "alike its siblings")]
    fn part(&self, call: &Syscall, way: Way, fate: Fate) -> Fate {
        match way {
            Way::Part(part) if fate == Fate::Stays && call.ret > 0 => {
                Fate::Other { result: part as i64, without: Vec::new() }
            }
            _ => fate,
        }
    }

    /// The result of a call whose other end is gone, and of a wait whose child is.
    fn hung_up(
        &mut self,
        ordinal: u64,
        sc: Call,
        call: &Syscall,
        tgid: Tgid,
        fate: Fate,
        words: &(impl Known + ?Sized),
    ) -> Fate {
        let row = sc.row();
        match row.family {
            Family::Wait => {
                let reaps = self.children.reaps(sc, call, tgid);
                return reaps.map_or(fate, |(child, status)| Fate::Reaps { child, status });
            }
            Family::Kill
                if call.ret == 0 && self.children.reaped.contains(&i64::from(call.args[0] as i32)) =>
            {
                return Fate::Gone { result: ESRCH };
            }
            Family::Connect if call.ret == 0 || call.ret == EINPROGRESS => {
                let own = call.details.iter().find_map(|detail| match detail {
                    Detail::Local { addr } => Some(addr),
                    _ => None,
                });
                let acceptor = own.and_then(|own| self.foreseen.acceptors.get(own));
                if acceptor.is_none_or(|acceptor| !self.sockets.deaf.contains(acceptor)) {
                    return fate;
                }
                let cookie = call.object.and_then(|object| words.cookie(object));
                self.sockets.unconnected.extend(cookie);
                return Fate::Refused;
            }
            _ => {}
        }
        if self.hangups.is_empty() || fate == Fate::Absent && row.reads == 0 {
            return fate;
        }
        let mut finds = Finds::Same;
        let mut is_socket = false;
        if row.reads != 0
            && let Some(stream) = self.stream(sc, call, false, words)
        {
            is_socket = matches!(stream, Stream::Socket(..));
            let is_over = !call.flags.contains(SyscallFlags::NO_EXIT);
            let gets = match &fate {
                Fate::Other { result, .. } => result.unsigned_abs(),
                Fate::Absent => 0,
                _ if is_over => call.moved(),
                _ => 0,
            };
            finds = self.hangups.reads(&stream, if is_over { call.ret } else { 0 }, gets);
        }
        if finds == Finds::Same
            && row.writes != 0
            && let Some(stream) = self.stream(sc, call, true, words)
        {
            finds = self.hangups.writes(sc, call, &stream);
            if let (Finds::First, Stream::Socket(own, other)) = (finds, &stream) {
                let t_ns = call.t_ns.saturating_add(call.duration_ns);
                self.resets(ordinal + 1, t_ns, &(other.clone(), own.clone()));
            }
        }
        match finds {
            Finds::Same | Finds::First => fate,
            Finds::Known => Fate::Absent,
            Finds::Result(result) if result == call.ret && fate == Fate::Stays => fate,
            Finds::Broken(result) if result == call.ret && fate == Fate::Stays => fate,
            // A peer may still be to do what it does before its end.
            Finds::Result(0) if is_socket => Fate::Gone { result: 0 },
            Finds::Result(0) => Fate::Other { result: 0, without: Vec::new() },
            Finds::Result(result) => Fate::Gone { result },
            Finds::Broken(result) => {
                self.takes(ordinal + 1, call, tgid, SIGPIPE, words);
                Fate::Gone { result }
            }
        }
    }

    /// After an exec that fails, a process ends: how it ended is all that is known of it.
    fn is_of_another_program(&self, sc: Call, tgid: Tgid) -> bool {
        self.children.unexecuted.contains(&tgid) && sc.row().family != Family::Exit
    }

    /// Whether a call is about something that is not there.
    fn depends(&mut self, sc: Call, call: &Syscall, tgid: Tgid, words: &(impl Known + ?Sized)) -> bool {
        let row = sc.row();
        let args = row.args.unwrap_or_default();
        for (i, (_, kind)) in args.iter().enumerate().take(call.args.len()) {
            let fd = call.args[i] as i32;
            // The number that `dup2` makes is given by its second argument, whatever had it before.
            let is_target = matches!(sc, Call::Dup2 | Call::Dup3) && i == 1;
            if fd >= 0
                && !is_target
                && matches!(kind, Kind::Fd | Kind::DirFd)
                && self.fds.meant(tgid, sc, fd, call).is_some_and(|descriptor| descriptor.tag == NOT_MADE)
            {
                return true;
            }
        }
        match row.family {
            Family::Accept => {
                let since = client(call).and_then(|client| self.foreseen.clients.get(client));
                if since.is_some_and(|since| *since <= call.t_ns.saturating_add(call.duration_ns)) {
                    return true;
                }
            }
            // One that had begun is told of; one that is tried again after it failed has another outcome.
            Family::Connect => {
                let cookie = call.object.and_then(|object| words.cookie(object));
                if cookie.is_some_and(|cookie| self.sockets.unconnected.contains(&cookie)) {
                    return true;
                }
            }
            Family::Wait if call.ret > 0 => return self.children.is_unknown(call.ret),
            Family::Kill => return self.children.is_unknown(i64::from(call.args[0] as i32)),
            _ if self.needs_connection(sc) => {
                let cookie = call.object.and_then(|object| words.cookie(object));
                return cookie.is_some_and(|cookie| self.sockets.unconnected.contains(&cookie));
            }
            _ => {}
        }
        sc == Call::Ioctl
            && call.args[1] as u32 == FICLONE
            && self.fds.get(tgid, call.args[2] as i32).is_some_and(|descriptor| descriptor.tag == NOT_MADE)
    }

    /// Whether a call is about the connection of a socket, rather than about the socket.
    #[expect(clippy::unused_self, reason = "alike its siblings")]
    fn needs_connection(&self, sc: Call) -> bool {
        matches!(
            sc.row().family,
            Family::Receive | Family::Send | Family::Transfer | Family::Shutdown | Family::EpollCtl
        ) || sc == Call::Getpeername
    }

    /// A wait does not report what is not there.
    fn is_gone(&self, tgid: Tgid, fd: i32, words: &(impl Known + ?Sized)) -> bool {
        self.fds.get(tgid, fd).is_some_and(|descriptor| {
            descriptor.tag == NOT_MADE
                || descriptor
                    .object
                    .and_then(|object| words.cookie(object))
                    .is_some_and(|cookie| self.sockets.unconnected.contains(&cookie))
        })
    }

    /// Remembers everything that does not come about because a call fails.
    fn fails(&mut self, sc: Call, call: &Syscall, tgid: Tgid, words: &(impl Known + ?Sized)) {
        let row = sc.row();
        let unfinished = call.flags.contains(SyscallFlags::NO_EXIT);
        if unfinished || call.ret < 0 && row.family != Family::Connect {
            return;
        }
        match row.family {
            Family::Connect => {
                let cookie = call.object.and_then(|object| words.cookie(object));
                // Else a call before it began the connection.
                if let Some(cookie) = cookie.filter(|cookie| self.foreseen.connects.contains_key(cookie)) {
                    self.sockets.unconnected.insert(cookie);
                }
            }
            Family::Clone if call.ret > 0 => {
                self.children.lacks(call.ret);
            }
            Family::Exec => {
                self.children.unexecuted.insert(tgid);
            }
            Family::Wait => self.children.stays(tgid, call),
            _ => {}
        }
    }

    /// Remembers the names and bytes that are not there because a call does not take place.
    fn lacks(&mut self, sc: Call, call: &Syscall, tgid: Tgid, words: &(impl Known + ?Sized)) {
        self.names.lacks(&Seen { tgid, sc, call, fds: &self.fds, words });
        self.moves_nothing(tgid, sc, call, words);
    }
}

/// Whether a call fails that did not.
const fn is_failure(fate: &Fate) -> bool {
    matches!(fate, Fate::Other { result: ..0, .. })
}
