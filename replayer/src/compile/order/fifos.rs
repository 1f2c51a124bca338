//! FIFOs: an `open` waits for who opens the other end, and finds it open as long as somebody has it (fs/pipe.c, `fifo_open`).

use super::super::emit::{EdgeKind, Needs};
use super::super::fsmodel::NodeKind;
use super::super::model::{Cx, Model};
use super::super::paths::PathId;
use super::super::world::{Mark, OfdIx, OfdKind};
use super::{before, keep};
use ctrace_format::Object;
use ctrace_format::syscalls::Family;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Calls by which the ends of a FIFO came and went, or that told that nobody had the other end: the last, by name.
#[derive(Debug, Default)]
pub(super) struct Fifos {
    ends: FxHashMap<PathId, VecDeque<Mark>>,
}

/// The FIFO that a description is of.
fn fifo_of(model: &Model<'_>, ofd: OfdIx) -> Option<PathId> {
    match model.kind(ofd) {
        OfdKind::Node { path, inode } if model.world.fs.node(inode).kind == NodeKind::Fifo => Some(path),
        _ => None,
    }
}

/// The FIFO whose ends a call opens.
fn opened(model: &Model<'_>, cx: &Cx<'_>) -> Option<PathId> {
    let path = cx.paths.first().copied().filter(|_| cx.known.row().family == Family::Open)?;
    let told = match cx.call.object.map(|object| model.source.object(object)) {
        Some(Object::File { mode, .. }) => Some(NodeKind::of_mode(*mode)),
        _ => model.world.fs.lookup(path).map(|inode| model.world.fs.node(inode).kind),
    };
    (told == Some(NodeKind::Fifo)).then_some(path)
}

/// The FIFOs whose ends come or go by a call.
fn changed(model: &Model<'_>, cx: &Cx<'_>) -> Vec<PathId> {
    let closed = model.closing(cx).into_iter().filter_map(|ofd| fifo_of(model, ofd));
    closed.chain(opened(model, cx)).collect()
}

impl Fifos {
    pub(super) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        for path in changed(model, cx) {
            needs.recorded(EdgeKind::Stream, before(self.ends.get(&path), cx.call.t_ns));
        }
    }

    pub(super) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        let ofd_of = |fd: i32| model.world.ofd_of(cx.task, fd);
        // The end of the stream was read: nobody had it open for writing.
        let read =
            cx.reads().filter(|_| cx.call.ret == 0).filter_map(ofd_of).filter_map(|ofd| fifo_of(model, ofd));
        for path in read.chain(changed(model, cx)) {
            keep(self.ends.entry(path).or_default(), mark);
        }
    }
}
