//! Bytes that calls move: along streams, and in files.

use super::super::contents::{Stream, asked};
use super::super::files::Does;
use super::super::seen::Seen;
use super::{Fate, Follower};
use ctrace_format::syscalls::Call;
use ctrace_format::{Detail, Known, Object, Syscall, SyscallFlags, Tgid};

/// include/linux/net.h.
const SOCK_STREAM: u16 = 1;
/// include/linux/socket.h.
const MSG_PEEK: u64 = 2;

impl Follower {
    /// Bytes that a call does not move: they are not there for who reads them, or still there for who reads next.
    pub(super) fn moves_nothing(
        &mut self,
        tgid: Tgid,
        sc: Call,
        call: &Syscall,
        words: &(impl Known + ?Sized),
    ) {
        let row = sc.row();
        self.files.call(&Seen { tgid, sc, call, fds: &self.fds, words }, Does::Nothing);
        if call.flags.contains(SyscallFlags::NO_EXIT) || call.ret <= 0 || peeks(sc, call) {
            return;
        }
        if row.reads != 0
            && let Some(stream) = self.stream(sc, call, false, words)
        {
            self.contents.reads(&stream, call.moved(), 0);
        }
        if row.writes != 0
            && let Some(stream) = self.stream(sc, call, true, words)
        {
            self.contents.writes(&stream, call.moved(), 0);
        }
    }

    /// A read gets less when less was written, and more when one before it failed; a seek goes elsewhere.
    pub(super) fn moves(
        &mut self,
        tgid: Tgid,
        sc: Call,
        call: &Syscall,
        fate: Fate,
        words: &(impl Known + ?Sized),
    ) -> Fate {
        let row = sc.row();
        let part = match &fate {
            Fate::Stays => None,
            Fate::Other { result, .. } if *result > 0 => Some(result.unsigned_abs().min(call.moved())),
            _ => return fate,
        };
        let does = part.map_or(Does::All, Does::Part);
        if let Some(result) = self.files.call(&Seen { tgid, sc, call, fds: &self.fds, words }, does) {
            return Fate::Other { result, without: Vec::new() };
        }
        if call.flags.contains(SyscallFlags::NO_EXIT) {
            return fate;
        }
        let had = call.moved();
        let mut there = part.unwrap_or(had);
        if row.reads != 0
            && let Some(stream) = self.stream(sc, call, false, words)
        {
            let room = part.unwrap_or_else(|| asked(sc, call).unwrap_or(had).max(had));
            let gets = self.contents.gets(&stream, had, room).min(room);
            if !peeks(sc, call) {
                self.contents.reads(&stream, had, gets);
            }
            there = gets;
        }
        if row.writes != 0
            && let Some(stream) = self.stream(sc, call, true, words)
        {
            self.contents.writes(&stream, had, there.min(had));
        }
        let several = matches!(sc, Call::Sendmmsg | Call::Recvmmsg);
        match there {
            _ if there == had || several => fate,
            // It is the end of the stream that is read next, whether that is there or not.
            0 => Fate::Absent,
            _ => Fate::Other { result: there as i64, without: Vec::new() },
        }
    }

    /// A call that makes two sockets that are connected to one another.
    pub(super) fn pairs(&mut self, call: &Syscall, words: &(impl Known + ?Sized)) {
        if Call::of(call.sysno) != Call::Socketpair {
            return;
        }
        for detail in &call.details {
            if let Detail::NewFds { objects: [Some(one), Some(other)], .. } = detail
                && let (Some(one), Some(other)) = (words.cookie(*one), words.cookie(*other))
            {
                self.sockets.pairs.insert(one, other);
                self.sockets.pairs.insert(other, one);
            }
        }
    }

    /// The bytes that a call writes, or reads.
    pub(super) fn stream(
        &self,
        sc: Call,
        call: &Syscall,
        writes: bool,
        words: &(impl Known + ?Sized),
    ) -> Option<Stream> {
        let row = sc.row();
        let object = match if writes { row.writes } else { row.reads }.trailing_zeros() {
            0 => call.object,
            at => call.details.iter().find_map(|detail| match detail {
                Detail::Object { arg, object } if u32::from(*arg) == at => Some(*object),
                _ => None,
            }),
        };
        match words.object_def(object?)? {
            Object::Pipe { ino } => Some(Stream::Pipe(*ino)),
            Object::Socket { cookie, local, peer, kind: SOCK_STREAM, .. } => {
                if let Some(other) = self.sockets.pairs.get(cookie) {
                    return Some(Stream::Pair(if writes { *cookie } else { *other }));
                }
                let known = self.sockets.ends.get(cookie).map(|(own, other)| (own.clone(), other.clone()));
                let (own, other) = known.or_else(|| Some((local.clone()?, peer.clone()?)))?;
                Some(if writes { Stream::Socket(own, other) } else { Stream::Socket(other, own) })
            }
            _ => None,
        }
    }
}

/// Whether a read leaves what it reads.
fn peeks(sc: Call, call: &Syscall) -> bool {
    match sc {
        Call::Recvfrom => call.args[3] & MSG_PEEK != 0,
        Call::Recvmsg => call.args[2] & MSG_PEEK != 0,
        _ => false,
    }
}
