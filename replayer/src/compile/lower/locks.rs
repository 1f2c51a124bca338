//! Locks on files (`flock`): of several that wait for one, the kernel chooses who gets it; in a recording that is known.

use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Need};
use super::super::world::Mark;
use super::{Cx, Lower};
use ctrace_format::SyscallFlags;
use ctrace_program::Wait;

// include/uapi/asm-generic/fcntl.h
const LOCK_SH: u64 = 1;
const LOCK_EX: u64 = 2;
const LOCK_UN: u64 = 8;
const EAGAIN: i64 = -11;
/// Tries in vain that are kept of one lock, by task.
const TRIES: usize = 16;

/// What was done about the lock of a file.
#[derive(Debug, Default)]
pub(crate) struct Lock {
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
    if cx.call.flags.contains(SyscallFlags::NO_EXIT) {
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

impl Lower<'_> {
    /// Who gets a lock asks for it only when the one before has got it: then it is next, whether it has to wait or not.
    pub(crate) fn lock_needs(&mut self, cx: &Cx<'_>, needs: &mut Vec<Need>, waits: &mut Vec<Wait>) {
        let Some(deed) = deed(cx) else { return };
        let inode = self.world.ofd_of(cx.task, cx.call.args[0] as i32).and_then(|o| self.world.inode_of(o));
        let Some(lock) = inode.and_then(|inode| self.locks.get(&inode)) else { return };
        let kind = EdgeKind::Lock;
        match deed {
            Deed::Get => {
                needs.extend(lock.freed.map(|mark| Need { kind, mark }));
                if let Some(mark) = lock.got.filter(|mark| mark.task != cx.task) {
                    let (me, on) = (self.emit.prog(cx.task), self.emit.prog(mark.task));
                    self.emit.wait(me, kind, Wait::completed(on, mark.step), waits);
                }
            }
            Deed::TryInVain => needs.extend(lock.got.map(|mark| Need { kind, mark })),
            Deed::Free => needs.extend(lock.tries.iter().map(|mark| Need { kind, mark: *mark })),
        }
    }

    pub(crate) fn remember_lock(&mut self, cx: &Cx<'_>, mark: Mark) {
        let Some(deed) = deed(cx) else { return };
        let inode = self.world.ofd_of(cx.task, cx.call.args[0] as i32).and_then(|o| self.world.inode_of(o));
        let Some(inode) = inode else { return };
        let lock = self.locks.entry(inode).or_default();
        match deed {
            Deed::Get => {
                lock.got = Some(mark);
                lock.tries.clear();
            }
            Deed::TryInVain => super::waits::keep_latest(&mut lock.tries, mark, TRIES),
            Deed::Free => lock.freed = Some(mark),
        }
    }
}
