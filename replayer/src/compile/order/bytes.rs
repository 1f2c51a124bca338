//! Bytes between tasks inside: who wrote what a call took.

use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Needs};
use super::super::model::{Cx, Model};
use super::super::world::{Mark, SockIx, StreamKey};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Writes of one stream that are kept.
const WRITES: usize = 32;
const MSG_PEEK: u64 = 2;

/// How many bytes of a stream were written and taken, and by which calls the last were written: the number with those.
#[derive(Debug, Default)]
struct Moved {
    written: u64,
    taken: u64,
    last: VecDeque<(u64, Mark)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Bytes(FxHashMap<StreamKey, Moved>);

impl Bytes {
    /// A call that took what several had written comes after the last of them: with what the first wrote there is something
    /// to take, but less. Only those that had written when it began: what came later, it waited for in the kernel.
    pub(super) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        if cx.call.ret <= 0 {
            return;
        }
        for ofd in cx.reads().filter_map(|fd| model.world.ofd_of(cx.task, fd)) {
            let Some(moved) = model.stream_into(ofd).and_then(|stream| self.0.get(&stream)) else { continue };
            let upto = moved.taken.saturating_add(cx.call.moved());
            let last = moved.last.iter().find(|(written, _)| *written >= upto).map(|(_, mark)| mark);
            needs.recorded(EdgeKind::Stream, last.filter(|mark| mark.end_ns <= cx.call.t_ns));
        }
    }

    pub(super) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        if cx.call.ret <= 0 {
            return;
        }
        let ofd_of = |fd: i32| model.world.ofd_of(cx.task, fd);
        for ofd in cx.reads().filter_map(ofd_of).filter(|_| !looks_only(cx)) {
            if let Some(moved) = model.stream_into(ofd).and_then(|stream| self.0.get_mut(&stream)) {
                moved.taken = moved.taken.saturating_add(cx.call.moved());
                moved.last.retain(|(written, _)| *written > moved.taken);
            }
        }
        for stream in cx.writes().filter_map(ofd_of).filter_map(|ofd| model.stream_out_of(ofd)) {
            let moved = self.0.entry(stream).or_default();
            moved.written = moved.written.saturating_add(cx.call.moved());
            if moved.last.len() >= WRITES {
                moved.last.pop_front();
            }
            moved.last.push_back((moved.written, mark));
        }
    }

    /// A socket is over. What was written to it may still be read at the other end.
    pub(super) fn forget(&mut self, model: &Model<'_>, sock: SockIx) {
        for over in model.nobody_waits_for(sock) {
            self.0.remove(&StreamKey::Sock(over));
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
