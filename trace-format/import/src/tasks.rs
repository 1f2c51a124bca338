//! The tasks of a log: who is who, from birth to end.

use crate::objects::{Objects, Table};
use ctrace_format::{Abi, StrId, TaskDef, TaskId, Tgid, Tid, TraceWriter};
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, VecDeque};

/// Tasks that live at one time at most. Linux has as many threads only where somebody raised its limits.
const MAX_TASKS: usize = 1 << 18;
/// Tasks that ended and may still be told of, as the senders of signals.
const MAX_ENDED: usize = 4096;

/// A call that a line has begun and another ends.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) text: Vec<u8>,
    pub(crate) t_ns: u64,
    pub(crate) nr: Option<u32>,
}

/// A task as it is now.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) tid: u32,
    pub(crate) tgid: u32,
    pub(crate) comm: StrId,
    pub(crate) start_ns: u64,
    pub(crate) id: Option<TaskId>,
    pub(crate) table: Table,
    pub(crate) open: Option<Open>,
    /// Its calls are of this table.
    pub(crate) abi: Abi,
    /// The id of the thread that executes a program in its place.
    pub(crate) executes: Option<u32>,
    /// When a wait returned that told of its end.
    pub(crate) reaped_ns: Option<u64>,
}

/// A task that lives no more.
#[derive(Debug, Clone, Copy)]
struct Ended {
    id: TaskId,
    t_ns: u64,
}

impl Task {
    /// Its id in the trace, under the name that it has now.
    pub(crate) fn id(&mut self, w: &mut TraceWriter) -> TaskId {
        *self.id.get_or_insert_with(|| {
            w.task(&TaskDef {
                tid: Tid(self.tid),
                tgid: Tgid(self.tgid),
                comm: self.comm,
                start_ns: self.start_ns,
            })
        })
    }

    /// It has another name from now on.
    pub(crate) fn rename(&mut self, comm: StrId) {
        if self.comm != comm {
            self.comm = comm;
            self.id = None;
        }
    }
}

/// All tasks of a log.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    living: FxHashMap<u32, Task>,
    /// Threads that live, by process.
    threads: FxHashMap<u32, u32>,
    /// Those that are in a call that makes a task.
    making: BTreeSet<u32>,
    ended: FxHashMap<u32, Ended>,
    ended_order: VecDeque<u32>,
}

impl Tasks {
    pub(crate) fn get(&mut self, tid: u32) -> Option<&mut Task> {
        self.living.get_mut(&tid)
    }

    pub(crate) fn knows(&self, tid: u32) -> bool {
        self.living.contains_key(&tid)
    }

    /// The only one that lives.
    pub(crate) fn only(&self) -> Option<u32> {
        if self.living.len() == 1 { self.living.keys().next().copied() } else { None }
    }

    /// A task with this id or the one that had it last.
    pub(crate) fn known_id(&mut self, w: &mut TraceWriter, tid: u32) -> Option<TaskId> {
        match self.living.get_mut(&tid) {
            Some(task) => Some(task.id(w)),
            None => self.ended.get(&tid).map(|ended| ended.id),
        }
    }

    /// A wait that was to return at this time tells of the end of a task: the time of both, so that the end is not after
    /// the return. strace writes the end once it has waited for the task itself, and how long the wait of the parent took
    /// by another clock.
    pub(crate) fn reaped(&mut self, tid: u32, returned_ns: u64) -> u64 {
        if let Some(task) = self.living.get_mut(&tid) {
            task.reaped_ns = Some(returned_ns);
            return returned_ns;
        }
        self.ended.get(&tid).map_or(returned_ns, |ended| ended.t_ns.max(returned_ns))
    }

    /// A task has begun a call that another line ends.
    pub(crate) fn open(&mut self, tid: u32, open: Open) {
        let Some(task) = self.living.get_mut(&tid) else { return };
        if makes_task(&open.text) {
            self.making.insert(tid);
        }
        task.open = Some(open);
    }

    /// The call that a task has begun, which ends.
    pub(crate) fn close(&mut self, tid: u32) -> Option<Open> {
        self.making.remove(&tid);
        self.living.get_mut(&tid)?.open.take()
    }

    /// Those that are in a call that makes a task: the first two.
    pub(crate) fn making(&self) -> [Option<u32>; 2] {
        let mut making = self.making.iter().copied();
        [making.next(), making.next()]
    }

    /// All that live, by their ids.
    pub(crate) fn tids(&self) -> Vec<u32> {
        let mut tids: Vec<u32> = self.living.keys().copied().collect();
        tids.sort_unstable();
        tids
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.living.len() < MAX_TASKS
    }

    /// A task that was there before the log, or that nobody knows the parent of.
    pub(crate) fn found(
        &mut self,
        [tid, tgid]: [u32; 2],
        comm: StrId,
        start_ns: u64,
        abi: Abi,
        table: Table,
    ) -> &mut Task {
        if self.knows(tid) {
            self.end(tid, start_ns);
        }
        *self.threads.entry(tgid).or_default() += 1;
        self.ended.remove(&tid);
        let task = Task {
            tid,
            tgid,
            comm,
            start_ns,
            id: None,
            table,
            open: None,
            abi,
            executes: None,
            reaped_ns: None,
        };
        self.living.entry(tid).insert_entry(task).into_mut()
    }

    /// A child of another task.
    pub(crate) fn born(
        &mut self,
        objects: &mut Objects,
        parent: u32,
        child: u32,
        start_ns: u64,
        shares: Shares,
    ) -> Option<&mut Task> {
        let parent = self.living.get(&parent)?;
        let table = if shares.files { parent.table.clone() } else { objects.fork(&parent.table) };
        let (comm, abi) = (parent.comm, parent.abi);
        let tgid = if shares.process { parent.tgid } else { child };
        Some(self.found([child, tgid], comm, start_ns, abi, table))
    }

    /// A task has ended. Whether its process has, too.
    pub(crate) fn end(&mut self, tid: u32, t_ns: u64) -> bool {
        self.making.remove(&tid);
        let Some(task) = self.living.remove(&tid) else { return false };
        if let Some(id) = task.id {
            if self.ended_order.len() >= MAX_ENDED
                && let Some(oldest) = self.ended_order.pop_front()
            {
                self.ended.remove(&oldest);
            }
            self.ended.insert(tid, Ended { id, t_ns });
            self.ended_order.push_back(tid);
        }
        let left = self.threads.entry(task.tgid).or_insert(1);
        *left -= 1;
        let is_last = *left == 0;
        if is_last {
            self.threads.remove(&task.tgid);
        }
        is_last
    }
}

/// Whether the text of a call that has not ended is of one that makes a task.
fn makes_task(text: &[u8]) -> bool {
    let len = text.iter().position(|b| *b == b'(').unwrap_or(0);
    matches!(&text[..len], b"clone" | b"clone2" | b"clone3" | b"fork" | b"vfork")
}

/// What a child has in common with its parent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shares {
    /// The process: it is a thread.
    pub(crate) process: bool,
    /// The descriptors.
    pub(crate) files: bool,
}
