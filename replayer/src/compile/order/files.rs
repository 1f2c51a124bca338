//! Files: their names, their contents, and the offsets that descriptions of them have.

use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Needs};
use super::super::fsmodel::InodeIx;
use super::super::model::{Cx, Model};
use super::super::paths::PathId;
use super::super::world::{Mark, OfdIx, OfdKind};
use super::{before, keep, keep_latest};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Readers that are kept of one file, and tasks that looked at one name.
const READERS: usize = 32;
const LOOKERS: usize = 8;

/// The last calls that wrote a file's content, or made or removed a name; and the calls that looked at it since.
#[derive(Debug, Default)]
struct Versions {
    changed: VecDeque<Mark>,
    seen: Vec<Mark>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Files {
    offsets: FxHashMap<OfdIx, VecDeque<Mark>>,
    names: FxHashMap<PathId, Versions>,
    /// The last calls that made, moved or removed names in a directory.
    entries: FxHashMap<PathId, VecDeque<Mark>>,
    content: FxHashMap<InodeIx, Versions>,
    /// The last calls that appended to a file.
    appended: FxHashMap<InodeIx, VecDeque<Mark>>,
}

/// Whether a description has an offset.
fn has_offset(model: &Model<'_>, ofd: OfdIx) -> bool {
    matches!(model.kind(ofd), OfdKind::Node { .. } | OfdKind::Mem { .. })
}

impl Files {
    pub(super) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        let start_ns = cx.call.t_ns;
        let ofd_of = |fd: i32| model.world.ofd_of(cx.task, fd);
        for ofd in cx.reads().chain(cx.writes()).filter_map(ofd_of) {
            if has_offset(model, ofd) && !model.appends(cx, ofd) {
                needs.recorded(EdgeKind::Offset, before(self.offsets.get(&ofd), start_ns));
            }
        }
        for inode in cx.reads().filter_map(ofd_of).filter_map(|ofd| model.world.inode_of(ofd)) {
            let written = self.content.get(&inode).map(|content| &content.changed);
            let written = written.into_iter().chain(self.appended.get(&inode));
            needs.recorded(EdgeKind::Content, before(written, start_ns));
        }
        for ofd in cx.writes().filter_map(ofd_of) {
            if let Some(inode) = model.world.inode_of(ofd)
                && let Some(content) = self.content.get(&inode)
            {
                needs.recorded(EdgeKind::Content, before([&content.changed], start_ns));
                needs.recorded(EdgeKind::Content, &content.seen);
                if !model.appends(cx, ofd) {
                    needs.recorded(EdgeKind::Content, before(self.appended.get(&inode), start_ns));
                }
            }
        }
        for name in cx.paths.iter().filter_map(|path| self.names.get(path)) {
            needs.recorded(EdgeKind::Path, before([&name.changed], start_ns));
            if cx.changes_names() {
                needs.recorded(EdgeKind::Path, &name.seen);
            }
        }
        for path in cx.paths {
            self.among_directories(model, cx, *path, needs);
        }
    }

    /// A name lies in directories: who looks it up comes after those who made the directories on the way. One that goes, or
    /// goes elsewhere, comes after what was made and removed in it.
    fn among_directories(&self, model: &Model<'_>, cx: &Cx<'_>, path: PathId, needs: &mut Needs) {
        let paths = &model.world.paths;
        let (mut below, mut at) = (path, paths.parent(path));
        while at != below {
            let changed = self.names.get(&at).map(|name| &name.changed);
            needs.recorded(EdgeKind::Path, before(changed, cx.call.t_ns));
            (below, at) = (at, paths.parent(at));
        }
        if matches!(cx.known.sc, Sc::Rmdir | Sc::Unlinkat | Sc::Rename | Sc::Renameat | Sc::Renameat2) {
            needs.recorded(EdgeKind::Path, before(self.entries.get(&path), cx.call.t_ns));
        }
    }

    pub(super) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        if cx.call.ret >= 0 {
            self.transferred(model, cx, mark);
        }
        let changes = cx.call.ret >= 0 && cx.changes_names();
        for path in cx.paths {
            let name = self.names.entry(*path).or_default();
            if changes {
                keep(&mut name.changed, mark);
                name.seen.clear();
                keep(self.entries.entry(model.world.paths.parent(*path)).or_default(), mark);
            } else {
                keep_latest(&mut name.seen, mark, LOOKERS);
            }
        }
    }

    fn transferred(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        let ofd_of = |fd: i32| model.world.ofd_of(cx.task, fd);
        for ofd in cx.reads().chain(cx.writes()).filter_map(ofd_of) {
            if has_offset(model, ofd) {
                keep(self.offsets.entry(ofd).or_default(), mark);
            }
        }
        for inode in cx.reads().filter_map(ofd_of).filter_map(|ofd| model.world.inode_of(ofd)) {
            keep_latest(&mut self.content.entry(inode).or_default().seen, mark, READERS);
        }
        for ofd in cx.writes().filter_map(ofd_of) {
            let Some(inode) = model.world.inode_of(ofd) else { continue };
            let content = self.content.entry(inode).or_default();
            if model.appends(cx, ofd) {
                keep(self.appended.entry(inode).or_default(), mark);
            } else {
                keep(&mut content.changed, mark);
            }
            // The others have been waited for.
            content.seen.retain(|reader| reader.end_ns > mark.start_ns);
        }
    }

    pub(super) fn forget(&mut self, ofd: OfdIx) {
        self.offsets.remove(&ofd);
    }

    pub(super) fn kept(&self) -> usize {
        self.names.len()
    }
}
