//! Typed views of the program and of the control region.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicU64};
use ctrace_program::control::{
    Cause, ControlHeader, FUTEX_STRIDE, JOURNAL_ENTRIES, JournalEntry, KEEP_BYTES, STACK_BYTES, TaskSlot,
    status,
};
use ctrace_program::stored::{self, CHUNK_HEAD_BYTES, ChunkHead};
use ctrace_program::{CHUNK_STEPS, CONTROL_BASE, PROGRAM_BASE, ProgramHeader, Step, TaskEntry};

pub fn header() -> &'static ProgramHeader {
    // SAFETY: the runner mapped a checked program there.
    unsafe { &*(PROGRAM_BASE as *const ProgramHeader) }
}

pub fn control() -> &'static ControlHeader {
    // SAFETY: the region is mapped for the life of the image; shared fields are atomics.
    unsafe { &*(CONTROL_BASE as *const ControlHeader) }
}

pub fn slot(task: u32) -> Option<&'static TaskSlot> {
    if task >= header().tasks {
        return None;
    }
    let at = CONTROL_BASE + control().layout.slots + u64::from(task) * size_of::<TaskSlot>() as u64;
    // SAFETY: in bounds by the check above; shared fields are atomics.
    Some(unsafe { &*(at as *const TaskSlot) })
}

pub fn value(index: u32) -> Option<&'static AtomicU64> {
    if index >= header().value_slots {
        return None;
    }
    let at = CONTROL_BASE + control().layout.values + u64::from(index) * 8;
    // SAFETY: in bounds by the check above.
    Some(unsafe { &*(at as *const AtomicU64) })
}

pub fn futex_address(index: u64) -> Option<u64> {
    (index < u64::from(header().futex_slots))
        .then(|| CONTROL_BASE + control().layout.futexes + index * FUTEX_STRIDE)
}

/// Top of a task's stack block.
pub fn stack_top(task: u32) -> u64 {
    CONTROL_BASE + control().layout.stacks + (u64::from(task) + 1) * STACK_BYTES - 64
}

/// Bottom of a task's stack block: its alternate signal stack is the lower quarter.
pub fn stack_bottom(task: u32) -> u64 {
    CONTROL_BASE + control().layout.stacks + u64::from(task) * STACK_BYTES
}

/// Which task's stack an address is in.
pub fn task_of_stack(address: u64) -> u32 {
    ((address - CONTROL_BASE - control().layout.stacks) / STACK_BYTES) as u32
}

/// The bytes of a blob: address and length.
pub fn blob(offset: u64) -> Option<(u64, u64)> {
    if offset < 16 || offset >= header().len {
        return None;
    }
    // SAFETY: in bounds by the check above; the program is read-only.
    let len = unsafe { *((PROGRAM_BASE + offset - 8) as *const u64) };
    (len <= header().len - offset).then_some((PROGRAM_BASE + offset, len))
}

/// A task, as the interpreter sees it.
#[derive(Clone, Copy)]
pub struct Task {
    pub index: u32,
    pub entry: &'static TaskEntry,
    pub slot: &'static TaskSlot,
}

impl Task {
    pub fn new(index: u32) -> Option<Self> {
        let slot = slot(index)?;
        let at = PROGRAM_BASE + header().task_table + u64::from(index) * size_of::<TaskEntry>() as u64;
        // SAFETY: `slot` checked the index; the table has that many entries.
        Some(Self { index, entry: unsafe { &*(at as *const TaskEntry) }, slot })
    }

    pub fn step(&self, index: u32) -> Option<Step> {
        if index >= self.entry.steps {
            return None;
        }
        let chunk = (PROGRAM_BASE + self.entry.chunks + u64::from(index / CHUNK_STEPS) * 8) as *const u64;
        // SAFETY: the builder wrote a chunk for every CHUNK_STEPS steps.
        let chunk = PROGRAM_BASE + unsafe { *chunk };
        // SAFETY: a chunk begins with its head.
        let head = unsafe { &*(chunk as *const ChunkHead) };
        let within = index % CHUNK_STEPS;
        let ends = (chunk + CHUNK_HEAD_BYTES) as *const u32;
        // SAFETY: the head is followed by the ends of all its steps; the first begins at 0.
        let (begin, end) = unsafe {
            (if within == 0 { 0 } else { *ends.add(within as usize - 1) }, *ends.add(within as usize))
        };
        let at = chunk + CHUNK_HEAD_BYTES + u64::from(head.steps) * 4 + u64::from(begin);
        // SAFETY: the step's bytes are between both.
        let bytes =
            unsafe { core::slice::from_raw_parts(at as *const u8, end.saturating_sub(begin) as usize) };
        let (mut step, waits) = stored::decode(head, bytes)?;
        step.waits = at - PROGRAM_BASE + waits as u64;
        Some(step)
    }

    pub fn arena(&self) -> (u64, u64) {
        let begin = CONTROL_BASE + control().layout.arenas + self.entry.arena_offset;
        (begin, begin + self.entry.arena_bytes)
    }

    pub fn keep(&self) -> u64 {
        self.arena().0
    }

    pub fn scratch_begin(&self) -> u64 {
        self.arena().0 + KEEP_BYTES
    }

    /// Makes the calling kernel thread this task.
    pub fn adopt(&self) {
        self.slot.tid.store(crate::engine::own_tid(), Relaxed);
        self.slot.handler_depth.store(0, Relaxed);
        self.slot.scratch_top.store(self.scratch_begin(), Relaxed);
        self.slot.last_end.store(crate::engine::now_ns(), Relaxed);
        self.set_status(status::RUNNING);
        count(&self.slot.counters.engine_calls, 1);
    }

    pub fn set_status(&self, status: u32) {
        self.slot.status.store(status, Relaxed);
    }

    /// Counts and journals a divergence.
    pub fn diverge(&self, index: u32, step: &Step, cause: Cause, expected: i64, got: i64) {
        count(&self.slot.counters.diverged, 1);
        let at = control().journal.fetch_add(1, Relaxed);
        if at >= JOURNAL_ENTRIES {
            return;
        }
        let entry = (CONTROL_BASE
            + control().layout.journal
            + u64::from(at) * size_of::<JournalEntry>() as u64) as *mut JournalEntry;
        // SAFETY: in bounds by the check above; every index is given out once.
        unsafe {
            entry.write(JournalEntry {
                task: self.index,
                step: index,
                nr: step.nr,
                cause: cause as u32,
                expected,
                got,
                t_ns: crate::engine::now_ns(),
            });
        }
    }
}

/// Adds to a counter that only its task writes.
pub fn count(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

/// The word of an atomic, as a futex address.
pub fn word(atomic: &AtomicU32) -> u64 {
    core::ptr::from_ref(atomic) as u64
}
