//! Which tasks are recorded: the task table.

use crate::{
    capture::bounded,
    kernel::{add, current, fetch_add},
    maps::{FREE, SHARED, SLOT, TASKS, global},
};
use aya_ebpf::{EbpfContext as _, helpers::bpf_get_current_pid_tgid, programs::RawTracePointContext};
use core::sync::atomic::{Ordering, compiler_fence};
use ctrace_abi::{NO_SLOT, SLOTS, STACKS, Shared, Slot, Usage, machine, progress};

/// The table entry of a thread; 0 when it is not recorded.
#[inline(always)]
pub fn slot_number(tid: u32) -> u16 {
    match TASKS.get(tid >> 2) {
        Some(four) => four[(tid & 3) as usize],
        None => 0,
    }
}

/// Sets the table entry of a thread.
#[inline(always)]
pub fn set_slot_number(tid: u32, number: u16) {
    if let Some(four) = TASKS.get_ptr_mut(tid >> 2) {
        // SAFETY: the index is masked; entries of different threads are different halfwords.
        unsafe { (*four)[(tid & 3) as usize] = number };
    }
    if number != 0 {
        if let Some(shared) = SHARED.get_ptr_mut(0) {
            // What is known to be foreign may be so no more.
            // SAFETY: the value of the map.
            add(unsafe { &raw mut (*shared).epoch }, 1);
        }
    }
}

/// A kernel stack, by an address on it. The address of the registers is the same at each entry and exit of a task.
#[derive(Clone, Copy)]
pub struct Stack {
    id: u64,
    index: u64,
}

impl Stack {
    /// The stack that `struct pt_regs` lies on. Stacks are aligned to their size, 16 KiB or more.
    #[inline(always)]
    pub fn of(regs: u64) -> Self {
        let id = regs >> 14;
        Self { id, index: bounded::<{ STACKS as i32 - 1 }>(id ^ (id >> 9)) }
    }

    /// The slot of the task that runs on this stack, if it is known.
    #[inline(always)]
    pub fn slot(self, shared: *const Shared) -> Option<(&'static mut Slot, u32)> {
        // SAFETY: the index is bounded.
        let number = unsafe { (*shared).slots.as_ptr().add(self.index as usize).read_volatile() };
        if number == 0 {
            return None;
        }
        let slot = slot(number)?;
        if slot.stack == self.id { Some((slot, u32::from(number))) } else { None }
    }

    /// Whether the task that runs on this stack is known not to be recorded.
    #[inline(always)]
    pub fn is_foreign(self, shared: *const Shared) -> bool {
        // SAFETY: the index is bounded.
        let found = unsafe { (*shared).foreign.as_ptr().add(self.index as usize).read_volatile() };
        found == self.mark(shared)
    }

    #[inline(always)]
    fn mark(self, shared: *const Shared) -> u64 {
        // SAFETY: whole words.
        let epoch = unsafe { (&raw const (*shared).epoch).read_volatile() };
        self.id << 31 | epoch & 0x7fff_ffff
    }

    /// Looks the calling task up, and remembers what it found. 0: not recorded.
    #[inline(always)]
    pub fn find(self, shared: *mut Shared) -> u16 {
        let mark = self.mark(shared);
        let tid = bpf_get_current_pid_tgid() as u32;
        // The epoch is read first: who enters the scope is in the table before the epoch changes.
        compiler_fence(Ordering::SeqCst);
        let number = slot_number(tid);
        if number == 0 {
            // Elsewhere loads may be reordered, and then the table may be older than the epoch.
            if global!(machine) == machine::X86_64 {
                // SAFETY: the index is bounded.
                unsafe { (*shared).foreign.as_mut_ptr().add(self.index as usize).write_volatile(mark) };
            }
        } else if number != NO_SLOT {
            self.belongs_to(shared, number);
        }
        number
    }

    #[inline(always)]
    fn belongs_to(self, shared: *mut Shared, number: u16) {
        if let Some(slot) = slot(number) {
            slot.task = current() as u64;
            slot.stack = self.id;
            // SAFETY: the index is bounded.
            unsafe { (*shared).slots.as_mut_ptr().add(self.index as usize).write_volatile(number) };
        }
    }
}

/// The state of a recorded thread.
#[inline(always)]
pub fn slot(number: u16) -> Option<&'static mut Slot> {
    // SAFETY: a slot belongs to one task, and a task runs on one CPU.
    SLOT.get_ptr_mut(u32::from(number)).map(|s| unsafe { &mut *s })
}

/// Takes a thread into the scope. Its calls are counted as lost when there is no free slot.
#[inline(always)]
pub fn admit(tid: u32, tgid: u32, start_ns: u64, fresh: bool) {
    let mut number = NO_SLOT;
    let free = match FREE.pop() {
        Ok(Some(free)) => free,
        _ => match SHARED.get_ptr_mut(0) {
            // SAFETY: the value of the map.
            Some(shared) => fetch_add(unsafe { &raw mut (*shared).slots_used }, 1) as u32 + 1,
            None => SLOTS,
        },
    };
    if free < SLOTS {
        number = free as u16;
        if let Some(slot) = slot(number) {
            slot.busy = progress::UNSEEN;
            slot.fresh = u32::from(fresh);
            slot.stack = 0;
            slot.task = 0;
            slot.last_file = 0;
            for known in &mut slot.known {
                known.file = 0;
            }
            slot.opened.file = 0;
            slot.copied = 0;
            slot.out_ns = 0;
            slot.woken_ns = 0;
            slot.wait_cpu_ns = 0;
            slot.blocked_ns = 0;
            slot.call.run_wait_ns = 0;
            slot.start_ns = start_ns;
            slot.out_state = 0;
            slot.trapped = 0;
            slot.fault_address = 0;
            slot.usage = Usage::default();
            slot.call.tid = tid;
            slot.call.tgid = tgid;
        }
    }
    set_slot_number(tid, number);
}

/// Removes a thread from the scope.
#[inline(always)]
pub fn release(tid: u32, number: u16) {
    set_slot_number(tid, 0);
    if number != NO_SLOT {
        if let Some(slot) = slot(number) {
            slot.stack = 0;
        }
        let _ = FREE.push(u32::from(number), 0);
    }
}

/// Argument `n` of a raw tracepoint.
#[inline(always)]
pub fn arg(ctx: &RawTracePointContext, n: usize) -> u64 {
    // SAFETY: the context of a raw tracepoint is an array of its arguments; the verifier checks `n`.
    unsafe { *ctx.as_ptr().cast::<u64>().add(n) }
}
