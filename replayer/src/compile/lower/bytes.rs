//! Bytes between tasks inside: who wrote what a call took.

use super::super::calls::Sc;
use super::super::deps::{EdgeKind, Need};
use super::super::io::MSG_PEEK;
use super::super::world::{Mark, OfdIx, OfdKind, StreamKey};
use super::{Cx, Lower, transfers};
use std::collections::VecDeque;

/// Writes of one stream that are kept.
const WRITES: usize = 32;

/// How many bytes of a stream were written and taken, and by which calls the last were written: the number with those.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    written: u64,
    taken: u64,
    last: VecDeque<(u64, Mark)>,
}

impl Lower<'_> {
    /// The stream that is read from a description, by who writes it.
    fn stream_into(&self, ofd: OfdIx) -> Option<StreamKey> {
        match self.world.ofds[ofd as usize].kind {
            OfdKind::Sock(sock) => self.world.socks[sock as usize].partner.map(StreamKey::Sock),
            OfdKind::Pipe { .. } => self.stream_key(ofd, false),
            _ => None,
        }
    }

    /// The stream that is written to a description, when somebody inside reads it.
    fn stream_out_of(&self, ofd: OfdIx) -> Option<StreamKey> {
        match self.world.ofds[ofd as usize].kind {
            OfdKind::Sock(sock) if self.world.socks[sock as usize].partner.is_none() => None,
            OfdKind::Sock(_) | OfdKind::Pipe { .. } => self.stream_key(ofd, true),
            _ => None,
        }
    }

    /// A call that took what several had written comes after the last of them: with what the first wrote there is something
    /// to take, but less. Only those that had written when it began: what came later, it waited for in the kernel.
    pub(super) fn after_writers(&self, cx: &Cx<'_>, needs: &mut Vec<Need>) {
        if cx.call.ret <= 0 {
            return;
        }
        for fd in transfers(cx).0 {
            let stream = self.world.ofd_of(cx.task, fd).and_then(|ofd| self.stream_into(ofd));
            let Some(bytes) = stream.and_then(|stream| self.bytes.get(&stream)) else { continue };
            let upto = bytes.taken.saturating_add(cx.call.moved());
            let last = bytes.last.iter().find(|(written, _)| *written >= upto).map(|(_, mark)| *mark);
            let before = last.filter(|mark| mark.task != cx.task && mark.end_ns <= cx.call.t_ns);
            needs.extend(before.map(|mark| Need { kind: EdgeKind::Stream, mark }));
        }
    }

    /// Counts what a successful call wrote and took.
    pub(super) fn remember_bytes(&mut self, cx: &Cx<'_>, mark: Mark) {
        let moved = cx.call.moved();
        let (mut reads, writes) = transfers(cx);
        if looks_only(cx) {
            reads.clear();
        }
        for fd in reads {
            let stream = self.world.ofd_of(cx.task, fd).and_then(|ofd| self.stream_into(ofd));
            if let Some(bytes) = stream.and_then(|stream| self.bytes.get_mut(&stream)) {
                bytes.taken = bytes.taken.saturating_add(moved);
                let taken = bytes.taken;
                bytes.last.retain(|(written, _)| *written > taken);
            }
        }
        for fd in writes {
            let stream = self.world.ofd_of(cx.task, fd).and_then(|ofd| self.stream_out_of(ofd));
            let Some(bytes) = stream.map(|stream| self.bytes.entry(stream).or_default()) else { continue };
            bytes.written = bytes.written.saturating_add(moved);
            if bytes.last.len() >= WRITES {
                bytes.last.pop_front();
            }
            bytes.last.push_back((bytes.written, mark));
        }
    }
}

/// Whether a call leaves what it receives where it is.
fn looks_only(cx: &Cx<'_>) -> bool {
    let flags = match cx.known.sc {
        Sc::Recvfrom => cx.call.args[3],
        Sc::Recvmsg => cx.call.args[2],
        _ => 0,
    };
    flags & MSG_PEEK != 0 || cx.known.sc == Sc::Tee
}
