//! The tasks of a recording, by role, so that those of another recording of the same program can be told to be the same.

use crate::names::lossy;
use crate::roles;
use ctrace_format::{TaskDef, TaskId, Tgid, Trace};
use rustc_hash::FxHashMap;

/// A task among those of its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Seat {
    role: u32,
    /// From 0 on, in the order in which tasks of this role made their first calls.
    pub(super) rank: u32,
}

/// The places of tasks. A thread id that is used again is another task.
#[derive(Debug, Default)]
pub(super) struct Seats {
    roles: FxHashMap<String, u32>,
    names: Vec<String>,
    taken: Vec<u32>,
    of: FxHashMap<(u32, u64), Seat>,
}

impl Seats {
    pub(super) fn seat(&mut self, def: &TaskDef, role: impl FnOnce() -> String) -> Seat {
        *self.of.entry((def.tid.0, def.start_ns)).or_insert_with(|| {
            let name = role();
            let role = *self.roles.entry(name).or_insert_with_key(|name| {
                self.names.push(name.clone());
                self.taken.push(0);
                self.taken.len() as u32 - 1
            });
            let taken = &mut self.taken[role as usize];
            *taken += 1;
            Seat { role, rank: *taken - 1 }
        })
    }

    pub(super) fn name(&self, seat: Seat) -> &str {
        &self.names[seat.role as usize]
    }
}

/// The names of a task.
pub(super) struct Names<'a> {
    pub(super) thread: &'a [u8],
    pub(super) process: &'a [u8],
}

impl<'a> Names<'a> {
    pub(super) fn of(trace: &'a Trace, processes: &FxHashMap<Tgid, TaskId>, task: TaskId) -> Self {
        let name = |task: TaskId| trace.str(trace.task(task).comm);
        Self { thread: name(task), process: name(*processes.get(&trace.task(task).tgid).unwrap_or(&task)) }
    }

    pub(super) fn role(&self) -> String {
        roles::of_thread(&lossy(self.process), &lossy(self.thread))
    }
}
