//! Names lie in directories: who looks one up comes after those who made the directories on the way, and who removes a
//! directory after those who emptied it.

use super::super::calls::Sc;
use super::super::deps::{EdgeKind, Need};
use super::super::fsmodel::{PathId, parent_of};
use super::super::world::Mark;
use super::waits::{before, keep};
use super::{Cx, Lower};

impl Lower<'_> {
    /// What a call that is about a name needs of the directories that the name lies in, and that it is.
    pub(super) fn among_directories(&self, cx: &Cx<'_>, path: PathId, needs: &mut Vec<Need>) {
        let mut at = self.world.paths.get(path);
        loop {
            let above = parent_of(at);
            if above.len() >= at.len() {
                break;
            }
            let changed = self.world.paths.find(above).and_then(|above| self.path_marks.get(&above));
            if let Some((changed, _)) = changed {
                needs.extend(before([changed], cx.call.t_ns, EdgeKind::Path));
            }
            at = above;
        }
        if matches!(cx.known.sc, Sc::Rmdir | Sc::Unlinkat | Sc::Rename | Sc::Renameat | Sc::Renameat2) {
            needs.extend(before(self.entries_changed.get(&path), cx.call.t_ns, EdgeKind::Path));
        }
    }

    /// A call made, moved or removed a name.
    pub(super) fn remember_entry(&mut self, path: PathId, mark: Mark) {
        let above = parent_of(self.world.paths.get(path));
        if let Some(above) = self.world.paths.find(above) {
            keep(self.entries_changed.entry(above).or_default(), mark);
        }
    }
}
