//! Delays that a fault plan adds to calls of a replay.
//!
//! An engine makes a task stand still before its call or after it. To the task that is part of the call, and so it is to
//! whoever reads what the call took.

use ctrace_format::{Injection, Syscall, Sysno, TaskId};
use rustc_hash::FxHashMap;

/// Tasks whose next call is delayed.
const MOST: usize = 65_536;

/// The delays that a fault plan adds to a call, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Added {
    pub(crate) before_ns: u64,
    pub(crate) after_ns: u64,
}

impl Added {
    pub(crate) const fn is_none(self) -> bool {
        self.before_ns == 0 && self.after_ns == 0
    }
}

#[derive(Debug, Clone, Copy)]
struct Due {
    sysno: Sysno,
    /// When the task got to the call.
    t_ns: u64,
    added: Added,
}

/// Delays that were told of, until their calls come.
#[derive(Debug, Default)]
pub(super) struct Delays {
    due: FxHashMap<TaskId, Due>,
}

impl Delays {
    /// A rule hits the next call of a task. Several may.
    pub(super) fn told(&mut self, hit: &Injection) {
        let fault = hit.fault;
        if fault.enter_ns == 0 && fault.exit_ns == 0 {
            return;
        }
        if self.due.len() >= MOST && !self.due.contains_key(&hit.task) {
            return;
        }
        let none = Due { sysno: hit.sysno, t_ns: hit.t_ns, added: Added::default() };
        let due = self.due.entry(hit.task).or_insert(none);
        if due.sysno != hit.sysno {
            *due = none;
        }
        due.added.before_ns = due.added.before_ns.saturating_add(fault.enter_ns);
        due.added.after_ns = due.added.after_ns.saturating_add(fault.exit_ns);
    }

    /// Takes the delays of a call that comes now.
    pub(super) fn of(&mut self, call: &Syscall) -> Added {
        if self.due.is_empty() {
            return Added::default();
        }
        match self.due.remove(&call.task).filter(|due| due.sysno == call.sysno) {
            // The plan asked for so much; the engine waited no longer than there was time for.
            Some(due) => {
                let room_ns = call.t_ns.saturating_sub(due.t_ns);
                Added { before_ns: due.added.before_ns.min(room_ns), ..due.added }
            }
            None => Added::default(),
        }
    }
}
