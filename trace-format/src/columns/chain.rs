//! What a row tells about the next one of its task, and which tasks were active lately: the writer and the reader of
//! a chunk keep the same state, row by row.

/// Slots of the table of tasks. Tasks that share one are told apart by nobody: the state only predicts.
const SLOTS: usize = 1024;
/// Tasks that a [`Recent`] remembers.
const RECENT: usize = 64;

/// The last row of a task.
#[derive(Clone, Copy)]
struct Last {
    end: u64,
    /// Its shape + 1; 0: there was none.
    shape: u32,
}

/// The last row of each task.
pub(super) struct Chain {
    last: Box<[Last]>,
    /// End of the previous row.
    end: u64,
}

impl Chain {
    pub(super) fn new() -> Self {
        Self { last: vec![Last { end: 0, shape: 0 }; SLOTS].into(), end: 0 }
    }

    fn slot(task: u64) -> usize {
        (task.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54) as usize
    }

    /// The shape of the task's last row.
    #[inline]
    pub(super) fn shape(&self, task: u64) -> Option<usize> {
        self.last[Self::slot(task)].shape.checked_sub(1).map(|shape| shape as usize)
    }

    /// How far the task's next row begins behind its last; of its first row, behind the previous row.
    #[inline]
    pub(super) fn gap(&self, task: u64, start: u64) -> u64 {
        let last = self.last[Self::slot(task)];
        if last.shape > 0 {
            start.wrapping_sub(last.end)
        } else {
            crate::varint::zigzag(start.wrapping_sub(self.end) as i64)
        }
    }

    /// Inverse of [`Chain::gap`].
    #[inline]
    pub(super) fn start(&self, task: u64, gap: u64) -> u64 {
        let last = self.last[Self::slot(task)];
        if last.shape > 0 {
            last.end.wrapping_add(gap)
        } else {
            self.end.wrapping_add(crate::varint::unzigzag(gap) as u64)
        }
    }

    /// Takes a row.
    #[inline]
    pub(super) fn push(&mut self, task: u64, shape: usize, end: u64) {
        self.last[Self::slot(task)] = Last { end, shape: shape as u32 + 1 };
        self.end = end;
    }

    pub(super) fn clear(&mut self) {
        self.last.fill(Last { end: 0, shape: 0 });
        self.end = 0;
    }
}

/// The tasks that were active last, the latest first.
pub(super) struct Recent {
    tasks: [u64; RECENT],
    len: usize,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { tasks: [0; RECENT], len: 0 }
    }

    /// Tasks above have no code.
    pub(super) const LIMIT: u64 = u64::MAX - RECENT as u64;

    /// No code of the task is larger.
    pub(super) fn bound(task: u64) -> u64 {
        task.saturating_add(RECENT as u64)
    }

    /// The place of a task, or behind all places the task itself; it then is the latest.
    #[inline]
    pub(super) fn code(&mut self, task: u64) -> u64 {
        if let Some(at) = self.tasks[..self.len].iter().position(|t| *t == task) {
            self.tasks.copy_within(..at, 1);
            self.tasks[0] = task;
            return at as u64;
        }
        self.add(task);
        RECENT as u64 + task
    }

    /// Inverse of [`Recent::code`]; `None` for a place where none is.
    #[inline]
    pub(super) fn task(&mut self, code: u64) -> Option<u64> {
        if let Some(task) = code.checked_sub(RECENT as u64) {
            self.add(task);
            return Some(task);
        }
        let at = code as usize;
        let task = *self.tasks[..self.len].get(at)?;
        self.tasks.copy_within(..at, 1);
        self.tasks[0] = task;
        Some(task)
    }

    fn add(&mut self, task: u64) {
        self.len = (self.len + 1).min(RECENT);
        self.tasks.copy_within(..self.len - 1, 1);
        self.tasks[0] = task;
    }
}
