//! Files: their names, their contents, and the offsets that descriptions of them have.

use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Needs};
use super::super::fsmodel::InodeIx;
use super::super::model::{Cx, Model};
use super::super::overlaps::{self, ENOENT, ENOTEMPTY};
use super::super::paths::PathId;
use super::super::world::{Mark, OfdIx, OfdKind};
use super::{before, keep, keep_latest};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Tasks that are kept of those that read one file, that looked at one name, or that listed one directory.
const READERS: usize = 32;

/// The last calls that wrote a file's content, and those that read it since.
#[derive(Debug, Default)]
struct Content {
    changed: VecDeque<Mark>,
    read: Vec<Mark>,
}

/// The last calls that made or removed a name, and those that looked at it since.
#[derive(Debug, Default)]
struct Name {
    changed: VecDeque<Mark>,
    /// The last change made it.
    there: bool,
    seen: Vec<Look>,
}

/// A call that looked at a name, and whether it found it, as far as that is known.
#[derive(Debug, Clone, Copy)]
struct Look {
    by: Mark,
    found: Option<bool>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Files {
    offsets: FxHashMap<OfdIx, VecDeque<Mark>>,
    names: FxHashMap<PathId, Name>,
    /// The last calls that made, moved or removed names in a directory.
    entries: FxHashMap<PathId, VecDeque<Mark>>,
    /// The last call that made a name in a directory.
    filled: FxHashMap<PathId, Mark>,
    /// The last calls that told which names are in a directory, or that there are some.
    listed: FxHashMap<PathId, Vec<Mark>>,
    /// Those of them that told as many as the changes before them had left.
    counted: FxHashMap<PathId, Vec<Mark>>,
    content: FxHashMap<InodeIx, Content>,
    /// The calls that removed directories.
    removed: FxHashMap<InodeIx, Mark>,
    /// The last calls that appended to a file.
    appended: FxHashMap<InodeIx, VecDeque<Mark>>,
}

/// Whether the `at`th name that a call is about was there before it, as far as its result tells.
fn found(model: &Model<'_>, cx: &Cx<'_>, at: usize) -> Option<bool> {
    overlaps::found(cx.known.sc, cx.call, model.changes_names(cx), at, cx.paths.len())
}

/// Whether a call removes a directory, if it succeeds.
fn removes_directory(cx: &Cx<'_>) -> bool {
    cx.known.sc == Sc::Rmdir || cx.known.sc == Sc::Unlinkat && cx.call.args[2] & AT_REMOVEDIR != 0
}
const AT_REMOVEDIR: u64 = 0x200;

/// The directory whose entries a call reads, as its descriptor has it.
fn lists(model: &Model<'_>, cx: &Cx<'_>) -> Option<PathId> {
    if !matches!(cx.known.sc, Sc::Getdents | Sc::Getdents64) {
        return None;
    }
    match model.kind(model.world.ofd_of(cx.task, cx.fd(0))?) {
        OfdKind::Node { path, .. } => Some(path),
        _ => None,
    }
}

/// Whether a call lists a directory whole, and tells as many bytes as what has come and gone in it so far leaves.
fn counts(model: &Model<'_>, cx: &Cx<'_>) -> bool {
    let ofd = model.world.ofd_of(cx.task, cx.fd(0));
    let inode = ofd.and_then(|ofd| model.world.inode_of(ofd));
    let bytes = inode.and_then(|inode| model.world.fs.node(inode).listed_bytes());
    cx.call.ret > 0 && bytes == Some(cx.call.ret as u64)
}

/// Those of the marks that returned while a call of another task was under way, and found things as it did. Nothing is known
/// of them when the call returns after others that come after it: they may come after those.
fn meanwhile<'a>(
    model: &Model<'_>,
    cx: &Cx<'_>,
    marks: impl IntoIterator<Item = &'a Mark>,
) -> impl Iterator<Item = &'a Mark> {
    let (task, start_ns) = (cx.task, cx.call.t_ns);
    let is_overtaken = !model.world.overlaps().after(cx.id()).is_empty();
    marks.into_iter().filter(move |mark| !is_overtaken && mark.end_ns > start_ns && mark.task != task)
}

/// Whether a description has an offset.
fn has_offset(model: &Model<'_>, ofd: OfdIx) -> bool {
    matches!(model.kind(ofd), OfdKind::Node { .. } | OfdKind::Mem { .. })
}

/// The files whose content a call changes, and whether it appends.
fn written(model: &Model<'_>, cx: &Cx<'_>) -> Vec<(InodeIx, bool)> {
    let ofds = cx.writes().filter_map(|fd| model.world.ofd_of(cx.task, fd));
    let written = ofds.filter_map(|ofd| Some((model.world.inode_of(ofd)?, model.appends(cx, ofd))));
    written.chain(model.truncates(cx).map(|inode| (inode, false))).collect()
}

/// A change waits for a call that looked before it: one that returned without having found the name as this change leaves it
/// looked before the change took place, even if this call was under way by then; unless other changes came in between.
fn after(look: &Look, leaves: bool, is_overtaken: bool, cx: &Cx<'_>, needs: &mut Needs) {
    if cx.call.ret >= 0 && !is_overtaken && look.found == Some(!leaves) && look.by.task != cx.task {
        needs.done(EdgeKind::Path, [&look.by]);
    } else {
        needs.recorded(EdgeKind::Path, [&look.by]);
    }
}

/// Keeps the last look of each task, and of the tasks the last.
fn keep_look(looks: &mut Vec<Look>, look: Look) {
    looks.retain(|other| other.by.task != look.by.task);
    if looks.len() >= READERS {
        looks.remove(0);
    }
    looks.push(look);
}

impl Files {
    pub(super) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        let start_ns = cx.call.t_ns;
        let overlaps = model.world.overlaps();
        let ofd_of = |fd: i32| model.world.ofd_of(cx.task, fd);
        for ofd in cx.reads().chain(cx.writes()).filter_map(ofd_of) {
            if has_offset(model, ofd) && !model.appends(cx, ofd) {
                needs.recorded(EdgeKind::Offset, before(self.offsets.get(&ofd), start_ns));
            }
        }
        for inode in cx.reads().filter_map(ofd_of).filter_map(|ofd| model.world.inode_of(ofd)) {
            let changed = self.content.get(&inode).map(|content| &content.changed);
            let changed = changed.into_iter().chain(self.appended.get(&inode));
            needs.recorded(EdgeKind::Content, before(changed, start_ns));
        }
        for (inode, appends) in written(model, cx) {
            if let Some(content) = self.content.get(&inode) {
                needs.recorded(EdgeKind::Content, before([&content.changed], start_ns));
                needs.recorded(EdgeKind::Content, &content.read);
                if !appends {
                    needs.recorded(EdgeKind::Content, before(self.appended.get(&inode), start_ns));
                }
            }
        }
        for (at, path) in cx.paths.iter().enumerate() {
            let Some(name) = self.names.get(path) else { continue };
            needs.recorded(EdgeKind::Path, before([&name.changed], start_ns));
            if found(model, cx, at) == Some(name.there) {
                // It was changed while this call was under way, and not before that, or this call would have found it otherwise.
                let last = name.changed.back().filter(|last| last.end_ns > start_ns && last.task != cx.task);
                needs.done(EdgeKind::Path, last);
            }
            if model.changes_names(cx) {
                let is_overtaken = !overlaps.after(cx.id()).is_empty();
                let leaves = overlaps::leaves(cx.known.sc, cx.call, at);
                name.seen.iter().for_each(|look| after(look, leaves, is_overtaken, cx, needs));
            }
        }
        for path in cx.paths {
            self.among_directories(model, cx, *path, needs);
        }
        // Changes that return later: each is one step, and the next of its task.
        for change in overlaps.before(cx.id()).iter().filter(|change| model.is_next(change.id)) {
            needs.passed(EdgeKind::Path, change.id.0, 0);
        }
        if let Some(directory) = lists(model, cx) {
            let gone = self.names.get(&directory).map(|name| &name.changed);
            let changed = gone.into_iter().chain(self.entries.get(&directory));
            needs.recorded(EdgeKind::Path, before(changed, start_ns));
            if counts(model, cx) {
                let entries = self.entries.get(&directory).into_iter().flatten();
                needs.done(EdgeKind::Path, meanwhile(model, cx, entries));
            }
            let ofd = model.world.ofd_of(cx.task, cx.fd(0));
            let removed =
                ofd.and_then(|ofd| model.world.inode_of(ofd)).and_then(|inode| self.removed.get(&inode));
            needs.done(EdgeKind::Path, removed.filter(|_| cx.call.ret == ENOENT));
        }
        needs.spare(EdgeKind::Path, overlaps.after(cx.id()));
    }

    /// A name lies in directories: who looks it up comes after those who made the directories on the way, and who makes or
    /// removes it comes after those who saw what was in its directory. One that goes, or goes elsewhere, comes after what was
    /// made and removed in it.
    fn among_directories(&self, model: &Model<'_>, cx: &Cx<'_>, path: PathId, needs: &mut Needs) {
        let paths = &model.world.paths;
        let (mut below, mut at) = (path, paths.parent(path));
        if model.changes_names(cx)
            && let Some(listed) = self.listed.get(&at)
        {
            needs.recorded(EdgeKind::Path, listed);
            needs.done(
                EdgeKind::Path,
                self.counted.get(&at).into_iter().flat_map(|all| meanwhile(model, cx, all)),
            );
        }
        let misses = cx.call.ret == ENOENT;
        while at != below {
            let name = self.names.get(&at);
            needs.recorded(EdgeKind::Path, before(name.map(|name| &name.changed), cx.call.t_ns));
            let removed = model.world.fs.lookup(at).and_then(|inode| self.removed.get(&inode));
            let removed = removed.or_else(|| name.filter(|name| !name.there)?.changed.back());
            // Whoever missed a name came after who removed what is above it, though that began later.
            needs.done(EdgeKind::Path, removed.filter(|removed| misses && removed.end_ns > cx.call.t_ns));
            needs.recorded(EdgeKind::Path, removed);
            (below, at) = (at, paths.parent(at));
        }
        if removes_directory(cx) && cx.call.ret == 0 {
            // Nothing was in it, and nothing comes into it any more: whatever was done there was done before.
            needs.done(EdgeKind::Path, meanwhile(model, cx, self.entries.get(&path).into_iter().flatten()));
        }
        if cx.call.ret == ENOTEMPTY {
            // Something was in it: what came into it meanwhile, for all that is known.
            needs.done(EdgeKind::Path, meanwhile(model, cx, self.filled.get(&path)));
        }
        if matches!(cx.known.sc, Sc::Rmdir | Sc::Unlinkat | Sc::Rename | Sc::Renameat | Sc::Renameat2) {
            needs.recorded(EdgeKind::Path, before(self.entries.get(&path), cx.call.t_ns));
        }
    }

    pub(super) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        if cx.call.ret >= 0 {
            self.transferred(model, cx, mark);
        }
        let changes = cx.call.ret >= 0 && model.changes_names(cx);
        let overlaps = model.world.overlaps();
        let is_overtaken = !overlaps.after(cx.id()).is_empty();
        let overtakes = !overlaps.before(cx.id()).is_empty();
        if changes && removes_directory(cx) && !is_overtaken {
            let removed = cx.paths.first().and_then(|path| model.world.fs.lookup(*path));
            self.removed.extend(removed.map(|inode| (inode, mark)));
        }
        for (at, path) in cx.paths.iter().enumerate() {
            let name = self.names.entry(*path).or_default();
            if changes {
                keep(&mut name.changed, mark);
                if !is_overtaken {
                    name.there = overlaps::leaves(cx.known.sc, cx.call, at);
                }
                let parent = model.world.paths.parent(*path);
                keep(self.entries.entry(parent).or_default(), mark);
                if overlaps::leaves(cx.known.sc, cx.call, at) {
                    self.filled.insert(parent, mark);
                }
                // The others have been waited for.
                let under_way = |looker: &Mark| looker.end_ns > mark.start_ns;
                name.seen.retain(|look| under_way(&look.by));
                self.counted.remove(&parent);
                if let Some(listed) = self.listed.get_mut(&parent) {
                    listed.retain(under_way);
                }
            } else {
                let found = found(model, cx, at);
                keep_look(&mut name.seen, Look { by: mark, found });
                if overtakes && let Some(found) = found {
                    name.there = found;
                }
            }
            match cx.call.ret {
                ENOENT => self.found_absent(model, *path, mark),
                ENOTEMPTY => keep_latest(self.listed.entry(*path).or_default(), mark, READERS),
                _ => {}
            }
        }
        if let Some(directory) = lists(model, cx) {
            let look = Look { by: mark, found: (cx.call.ret >= 0).then_some(true) };
            keep_look(&mut self.names.entry(directory).or_default().seen, look);
            keep_latest(self.listed.entry(directory).or_default(), mark, READERS);
            if counts(model, cx) {
                keep_latest(self.counted.entry(directory).or_default(), mark, READERS);
            }
        }
    }

    /// A name was not there: a directory above it may not have been, which is made after that, then.
    fn found_absent(&mut self, model: &Model<'_>, path: PathId, mark: Mark) {
        let (fs, paths) = (&model.world.fs, &model.world.paths);
        let (mut below, mut at) = (path, paths.parent(path));
        while at != below && fs.lookup(at).is_none() {
            let look = Look { by: mark, found: Some(false) };
            keep_look(&mut self.names.entry(at).or_default().seen, look);
            (below, at) = (at, paths.parent(at));
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
            keep_latest(&mut self.content.entry(inode).or_default().read, mark, READERS);
        }
        for (inode, appends) in written(model, cx) {
            let content = self.content.entry(inode).or_default();
            if appends {
                keep(self.appended.entry(inode).or_default(), mark);
            } else {
                keep(&mut content.changed, mark);
            }
            // The others have been waited for.
            content.read.retain(|reader| reader.end_ns > mark.start_ns);
        }
    }

    pub(super) fn forget(&mut self, ofd: OfdIx) {
        self.offsets.remove(&ofd);
    }

    pub(super) fn kept(&self) -> usize {
        self.names.len()
    }
}
