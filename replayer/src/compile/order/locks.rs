//! Locks on files (`flock`): of several that wait for one, the kernel chooses who gets it; in a recording that is known.

use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Needs};
use super::super::fsmodel::InodeIx;
use super::super::model::{Cx, Model};
use super::super::world::Mark;
use super::keep_latest;
use rustc_hash::FxHashMap;

// include/uapi/asm-generic/fcntl.h
const LOCK_SH: u64 = 1;
const LOCK_EX: u64 = 2;
const LOCK_UN: u64 = 8;
const EAGAIN: i64 = -11;
/// Tries in vain that are kept of one lock, by task.
const TRIES: usize = 16;
const KIND: EdgeKind = EdgeKind::Lock;

/// What was done about the lock of a file.
#[derive(Debug, Default)]
struct Lock {
    /// Who got it last.
    got: Option<Mark>,
    /// Who gave it back last.
    freed: Option<Mark>,
    /// Who tried since it was got, and was refused.
    tries: Vec<Mark>,
}

/// What a call does about a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Get,
    TryInVain,
    Free,
}

fn deed(cx: &Cx<'_>) -> Option<Deed> {
    if cx.known.sc != Sc::Flock {
        return None;
    }
    let how = cx.call.args[1];
    if cx.unfinished() {
        // It would have been next.
        return (how & (LOCK_SH | LOCK_EX) != 0).then_some(Deed::Get);
    }
    match (how, cx.call.ret) {
        (how, 0) if how & (LOCK_SH | LOCK_EX) != 0 => Some(Deed::Get),
        (how, EAGAIN) if how & (LOCK_SH | LOCK_EX) != 0 => Some(Deed::TryInVain),
        (how, 0) if how & LOCK_UN != 0 => Some(Deed::Free),
        _ => None,
    }
}

/// The file whose lock a call is about.
fn file(model: &Model<'_>, cx: &Cx<'_>) -> Option<InodeIx> {
    model.world.ofd_of(cx.task, cx.fd(0)).and_then(|ofd| model.world.inode_of(ofd))
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Locks {
    by_file: FxHashMap<InodeIx, Lock>,
}

impl Locks {
    /// Who gets a lock asks for it only when the one before has got it: then it is next, whether it has to wait or not.
    pub(super) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        let Some(deed) = deed(cx) else { return };
        let Some(lock) = file(model, cx).and_then(|file| self.by_file.get(&file)) else { return };
        match deed {
            Deed::Get => {
                needs.recorded(KIND, &lock.freed);
                needs.done(KIND, &lock.got);
            }
            Deed::TryInVain => needs.recorded(KIND, &lock.got),
            Deed::Free => needs.recorded(KIND, &lock.tries),
        }
    }

    pub(super) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        let Some(deed) = deed(cx) else { return };
        let Some(file) = file(model, cx) else { return };
        let lock = self.by_file.entry(file).or_default();
        match deed {
            Deed::Get => {
                lock.got = Some(mark);
                lock.tries.clear();
            }
            Deed::TryInVain => keep_latest(&mut lock.tries, mark, TRIES),
            Deed::Free => lock.freed = Some(mark),
        }
    }
}
