//! Names that one call changes while others look at them.
//!
//! Calls are told in the order in which they return, and one that makes or removes a name may return after others have found
//! it made or removed: it was on its way out of the kernel, or waited for a disk. A call that found a name otherwise than
//! those before it had left it was after such a change, which was under way at that time and returns later. The passes apply
//! the change before that call, and the call waits for it.

use super::CompileError;
use super::arrivals::CallId;
use super::budget::Budget;
use super::calls::{Known, Sc};
use super::paths::PathId;
use super::world::{O_CREAT, World, is_told_to_create, open_flags};
use ctrace_format::syscalls::Family;
use ctrace_format::{Syscall, SyscallFlags};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;

/// Calls that are kept of those that were about one name: no more overlap on the machines that we know.
const LOOKS: usize = 16;
/// Directories above a name that may have been missing.
const ABOVE: usize = 16;
pub(crate) const ENOENT: i64 = -2;
const EEXIST: i64 = -17;
const EISDIR: i64 = -21;
pub(crate) const ENOTEMPTY: i64 = -39;
const RENAME_EXCHANGE: u64 = 2;

/// A change that returned after a call that had found it made.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) id: CallId,
    pub(crate) call: Syscall,
}

/// The changes that returned after others had found them made.
#[derive(Debug, Default)]
pub(crate) struct Overlaps {
    /// By who found them.
    before: FxHashMap<CallId, Vec<Change>>,
    /// By change: the calls that come after it, though they returned before.
    after: FxHashMap<CallId, Vec<CallId>>,
}

impl Overlaps {
    /// The changes that a call comes after, though they return later.
    pub(crate) fn before(&self, id: CallId) -> &[Change] {
        self.before.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The calls that returned before a change, and come after it.
    pub(crate) fn after(&self, id: CallId) -> &[CallId] {
        self.after.get(&id).map_or(&[], Vec::as_slice)
    }
}

/// Whether the `at`th name that a call is about is there after it, if it succeeds in changing it.
pub(crate) fn leaves(sc: Sc, call: &Syscall, at: usize) -> bool {
    match sc {
        Sc::Unlink | Sc::Unlinkat | Sc::Rmdir => false,
        Sc::Rename | Sc::Renameat => at > 0,
        Sc::Renameat2 => at > 0 || call.args[4] & RENAME_EXCHANGE != 0,
        _ => true,
    }
}

/// Whether the `at`th of the `count` names that a call is about was there before it, as far as its result tells.
pub(crate) fn found(sc: Sc, call: &Syscall, changes: bool, at: usize, count: usize) -> Option<bool> {
    match call.ret {
        EEXIST | ENOTEMPTY => (at + 1 == count).then_some(true),
        EISDIR => (at == 0).then_some(true),
        ENOENT => (at == 0 && !creates(sc, call)).then_some(false),
        0.. if !changes => Some(true),
        0.. => match sc {
            Sc::Unlink | Sc::Unlinkat | Sc::Rmdir => Some(true),
            Sc::Rename | Sc::Renameat | Sc::Renameat2 | Sc::Link | Sc::Linkat if at == 0 => Some(true),
            Sc::Mkdir
            | Sc::Mkdirat
            | Sc::Mknod
            | Sc::Mknodat
            | Sc::Symlink
            | Sc::Symlinkat
            | Sc::Open
            | Sc::Openat
            | Sc::Openat2
            | Sc::Creat
            | Sc::Bind => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a call makes its only name, so that one that was missing is above that.
fn creates(sc: Sc, call: &Syscall) -> bool {
    match sc {
        Sc::Mkdir | Sc::Mkdirat | Sc::Mknod | Sc::Mknodat | Sc::Symlink | Sc::Symlinkat => true,
        _ => sc.row().family == Family::Open && open_flags(call, sc).0 & O_CREAT != 0,
    }
}

/// A call that was about a name.
#[derive(Debug, Clone, Copy)]
struct Look {
    id: CallId,
    start_ns: u64,
    end_ns: u64,
    /// Whether the name was there.
    found: Option<bool>,
    /// Whether it is there afterwards, by a call that changes it.
    leaves: Option<bool>,
}

/// Calls about one name, in the order in which they came about it.
#[derive(Debug, Default)]
struct Looks(VecDeque<Look>);

impl Looks {
    /// Whether the name is there before the `at`th call.
    fn state(&self, at: usize) -> Option<bool> {
        self.0.iter().take(at).rev().find_map(|look| look.leaves.or(look.found))
    }

    /// The place of a change among those that returned before: before the first that found the name as the change leaves it,
    /// when nothing else had; or where it finds the name as it did, when the others have left it otherwise.
    fn place(&self, change: &Look, leaves: bool) -> Option<usize> {
        let is_under_way = |look: &&Look| look.end_ns > change.start_ns && look.id.0 != change.id.0;
        let first = self.0.len() - self.0.iter().rev().take_while(is_under_way).count();
        let fits =
            |at: usize| change.found.is_none() || self.state(at).is_none_or(|is| change.found == Some(is));
        let next = |at: usize| self.0.iter().skip(at).find_map(|look| look.found);
        let surprises = |at: usize| {
            self.0.get(at).and_then(|look| look.found).is_some_and(|found| self.state(at) == Some(!found))
        };
        let explained =
            (first..self.0.len()).find(|at| surprises(*at) && next(*at) == Some(leaves) && fits(*at));
        explained.or_else(|| {
            let mut places = (first..self.0.len()).rev();
            places.find(|at| !fits(self.0.len()) && fits(*at) && next(*at) == Some(leaves))
        })
    }
}

/// Looks for them: told of all calls in the order of their returns.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    names: FxHashMap<PathId, Looks>,
    /// Calls that missed something which may have been this name, and which nobody had removed.
    missed: FxHashMap<PathId, VecDeque<Look>>,
    explained: FxHashSet<CallId>,
    overlaps: Overlaps,
}

impl Finder {
    /// A call has returned.
    pub(crate) fn told(
        &mut self,
        world: &World,
        budget: Budget,
        id: CallId,
        call: &Syscall,
        known: &Known,
        paths: &[PathId],
    ) -> Result<(), CompileError> {
        if paths.is_empty() || known.sc == Sc::Bind || call.flags.contains(SyscallFlags::NO_EXIT) {
            return Ok(());
        }
        let opens = known.row().family == Family::Open;
        let made = || is_told_to_create(call, open_flags(call, known.sc).0);
        let changes = call.ret >= 0 && (known.row().renames || opens && made());
        for (at, path) in paths.iter().enumerate() {
            let look = Look {
                id,
                start_ns: call.t_ns,
                end_ns: call.t_ns.saturating_add(call.duration_ns),
                found: found(known.sc, call, changes, at, paths.len()),
                leaves: changes.then(|| leaves(known.sc, call, at)),
            };
            if call.ret == ENOENT && at == 0 {
                self.missed(world, *path, look);
            }
            self.look(*path, look, call);
            budget.things("changes that others found made", self.overlaps.after.len())?;
        }
        Ok(())
    }

    /// A call missed something: the name, or one above it. If those were there, somebody was removing one of them.
    fn missed(&mut self, world: &World, path: PathId, look: Look) {
        let is_there = |at: PathId| self.names.get(&at).and_then(|looks| looks.state(looks.0.len()));
        if look.found == Some(false) && is_there(path) != Some(true) {
            return;
        }
        let mut above = Vec::new();
        let (mut below, mut at) = (path, world.paths.parent(path));
        while at != below && above.len() < ABOVE {
            if is_there(at) == Some(false) {
                return;
            }
            above.push(at);
            (below, at) = (at, world.paths.parent(at));
        }
        for at in above {
            let missed = self.missed.entry(at).or_default();
            if missed.len() >= LOOKS {
                missed.pop_front();
            }
            missed.push_back(look);
        }
    }

    fn look(&mut self, path: PathId, look: Look, call: &Syscall) {
        let looks = self.names.entry(path).or_default();
        let at = look.leaves.and_then(|leaves| looks.place(&look, leaves));
        let later: Vec<Look> = looks.0.iter().skip(at.unwrap_or(looks.0.len())).copied().collect();
        looks.0.insert(at.unwrap_or(looks.0.len()), look);
        if looks.0.len() > LOOKS {
            looks.0.pop_front();
        }
        let mut changed_again = false;
        for later in later {
            // A call that comes after the next change comes after this one, too.
            self.comes_after(later.id, &look, call, !changed_again);
            changed_again |= later.leaves.is_some();
        }
        if look.leaves == Some(false)
            && let Some(missed) = self.missed.remove(&path)
        {
            for missed in missed.into_iter().filter(|m| m.end_ns > look.start_ns && m.id.0 != look.id.0) {
                if !self.explained.contains(&missed.id) {
                    self.comes_after(missed.id, &look, call, true);
                }
            }
        }
    }

    /// A call that returned before a change comes after it.
    fn comes_after(&mut self, id: CallId, change: &Look, call: &Syscall, at_once: bool) {
        let after = self.overlaps.after.entry(change.id).or_default();
        if after.contains(&id) {
            return;
        }
        after.push(id);
        if at_once {
            self.explained.insert(id);
            self.overlaps.before.entry(id).or_default().push(Change { id: change.id, call: call.clone() });
        }
    }

    pub(crate) fn finish(self) -> Overlaps {
        self.overlaps
    }
}
