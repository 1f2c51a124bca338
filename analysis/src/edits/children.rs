//! Processes and threads that are not made, those that are made and what their parents are told of their ends, and signals that
//! nobody sends for that.

use ctrace_format::syscalls::Call;
use ctrace_format::{Detail, Signal, Syscall, Tgid};
use rustc_hash::{FxHashMap, FxHashSet};

/// asm-generic/signal.h.
const SIGCHLD: u32 = 17;
/// `ECHILD`, asm-generic/errno-base.h.
const ECHILD: i64 = -10;
/// The argument of a wait for any child.
const ANY: i32 = -1;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Children {
    /// Threads that are not made, and the processes that would have made them.
    unborn: FxHashMap<u32, Tgid>,
    /// Processes to which the deaths of such children are not told, and how many.
    unmourned: FxHashMap<Tgid, u32>,
    /// Their ids, as those who would have made them know them.
    unknown_pids: FxHashSet<i64>,
    /// Processes that have failed to execute a program.
    pub(super) unexecuted: FxHashSet<Tgid>,
    /// Those whose ends no wait has told of, though they have ended or one has in the recording; and how they ended.
    unreaped: FxHashMap<Tgid, u64>,
    /// The last child of a thread, until the call returns that made it; then the children by what it returned.
    newborn: FxHashMap<u32, Tgid>,
    known: FxHashMap<(Tgid, i64), Tgid>,
    /// Ids that nobody has any more.
    pub(super) reaped: FxHashSet<i64>,
}

impl Children {
    /// Whether a thread is not made.
    pub(super) fn is_unborn(&self, tid: u32) -> bool {
        self.unborn.contains_key(&tid)
    }

    /// Whether this is the id of a task that is not made.
    pub(super) fn is_unknown(&self, id: i64) -> bool {
        self.unknown_pids.contains(&id)
    }

    /// A call that would have made a task fails.
    pub(super) fn lacks(&mut self, id: i64) {
        self.unknown_pids.insert(id);
    }

    /// A process is made by a thread, if it is.
    pub(super) fn process(&mut self, by: u32, child: Tgid) {
        self.newborn.insert(by, child);
        self.unreaped.remove(&child);
    }

    /// A thread is made by a process, or it is not.
    pub(super) fn thread(&mut self, by: Tgid, tid: u32, tgid: Tgid, is_made: bool) {
        if is_made {
            // Somebody else has the number now.
            self.unborn.remove(&tid);
            self.unexecuted.remove(&tgid);
        } else {
            self.unborn.insert(tid, by);
        }
    }

    /// The call returned that made a process.
    pub(super) fn is_known(&mut self, parent: Tgid, tid: u32, as_id: i64) {
        if let Some(child) = self.newborn.remove(&tid) {
            self.reaped.remove(&as_id);
            self.known.insert((parent, as_id), child);
        }
    }

    /// A process has ended in the recording.
    pub(super) fn ended(&mut self, tgid: Tgid) {
        if let Some(parent) = self.unborn.get(&tgid.0) {
            *self.unmourned.entry(*parent).or_default() += 1;
        }
    }

    /// A process ends by a signal.
    pub(super) fn is_killed(&mut self, tgid: Tgid, signo: u32) {
        self.unreaped.insert(tgid, signo.into());
    }

    /// A wait that told of a child does not take place.
    pub(super) fn stays(&mut self, parent: Tgid, call: &Syscall) {
        if let Some(child) = self.known.get(&(parent, call.ret)).copied().filter(|_| call.ret > 0) {
            self.unreaped.entry(child).or_insert_with(|| status(call));
        }
    }

    /// The child that a wait tells of, and how that ended, where it is another one than in the recording, or has ended otherwise.
    /// One for any child tells of the first that is there; the child of the recording is told of later.
    pub(super) fn reaps(&mut self, sc: Call, call: &Syscall, parent: Tgid) -> Option<(i64, u64)> {
        if self.unreaped.is_empty() || sc != Call::Wait4 || call.ret < 0 && call.ret != ECHILD {
            return None;
        }
        let of = |number: i64| self.known.get(&(parent, number)).copied();
        let asked = i64::from(call.args[0] as i32);
        let told = (call.ret > 0).then(|| of(call.ret).unwrap_or(Tgid(call.ret as u32)));
        let known = self.known.iter().filter(|((of, _), _)| *of == parent);
        let mine = known
            .filter(|(_, child)| self.unreaped.contains_key(child))
            .map(|((_, id), child)| (*id, *child));
        let is_meant = |id: i64| asked == i64::from(ANY) || asked == id;
        let first = mine.filter(|(id, _)| is_meant(*id)).min();
        let (id, child) = match told {
            Some(told) if self.unreaped.contains_key(&told) => (call.ret, told),
            _ => first?,
        };
        let how = self.unreaped.remove(&child)?;
        self.reaped.insert(id);
        if let Some(other) = told.filter(|told| *told != child && !self.reaped.contains(&call.ret)) {
            self.unreaped.insert(other, status(call));
        }
        Some((id, how))
    }
}

/// The status that a wait told.
fn status(call: &Syscall) -> u64 {
    let told = call.details.iter().find_map(|detail| match detail {
        Detail::Value { arg: 1, value } => Some(*value),
        _ => None,
    });
    told.unwrap_or(0)
}

/// Signals that are not sent.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    /// By process and number: so many.
    signals: FxHashMap<(Tgid, u32), u32>,
    /// Threads in a handler of such a signal.
    handling: FxHashSet<u32>,
}

impl Unsent {
    /// Whether a signal to a thread of a process is not sent, or not delivered for that. `is_unsent`: its sender is not there.
    pub(super) fn signal(
        &mut self,
        signal: &Signal,
        (tid, tgid): (u32, Tgid),
        is_unsent: bool,
        children: &mut Children,
    ) -> bool {
        let key = (tgid, signal.signo);
        if !signal.delivered {
            let mut tells_of_unborn = || {
                signal.signo == SIGCHLD
                    && signal.sender.is_none()
                    && children.unmourned.get_mut(&tgid).is_some_and(|left| {
                        let any = *left > 0;
                        *left -= u32::from(any);
                        any
                    })
            };
            let is_unsent = is_unsent || tells_of_unborn();
            if is_unsent {
                *self.signals.entry(key).or_default() += 1;
            }
            return is_unsent;
        }
        let Some(left) = self.signals.get_mut(&key) else { return false };
        *left -= 1;
        if *left == 0 {
            self.signals.remove(&key);
        }
        self.handling.insert(tid);
        true
    }

    /// Whether a call is made in the handler of a signal that is not sent, the return from it included.
    pub(super) fn is_in_handler(&mut self, sc: Call, tid: u32) -> bool {
        let is_in = self.handling.contains(&tid);
        if is_in && sc == Call::RtSigreturn {
            self.handling.remove(&tid);
        }
        is_in
    }
}
