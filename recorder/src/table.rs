//! The task table and the slots, which the programs and whoever takes tasks in share.

use crate::clock;
use crate::mapped::{Mapping, Windows};
use ctrace_abi::{Call, HELD, NO_SLOT, SLOTS, Shared, Slot, progress};
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering, fence};

/// What a slot tells of its thread.
#[derive(Clone, Copy)]
pub(crate) struct Thread {
    /// The call in flight, if `busy` says so.
    pub(crate) call: Call,
    pub(crate) busy: u32,
    pub(crate) fresh: u32,
    pub(crate) out_ns: u64,
    pub(crate) woken_ns: u64,
    pub(crate) on_ns: u64,
}

impl Thread {
    fn of(slot: &Slot) -> Self {
        let (call, busy, fresh) = (slot.call, slot.busy, slot.fresh);
        Self { call, busy, fresh, out_ns: slot.out_ns, woken_ns: slot.woken_ns, on_ns: slot.usage.on_ns }
    }
}

/// See the module.
pub(crate) struct Table {
    tasks: Windows,
    slots: Windows,
    shared: Mapping,
    pid_max: u32,
}

impl Table {
    /// Over `TASKS`, `SLOT` and `SHARED` of the programs.
    pub(crate) fn new(tasks: Windows, slots: Windows, shared: Mapping, pid_max: u32) -> Self {
        let this = Self { tasks, slots, shared, pid_max };
        this.set_boot_offset();
        this
    }

    fn entry(&self, tid: u32) -> Option<&AtomicU16> {
        if tid > self.pid_max {
            return None;
        }
        // SAFETY: inside the mapping (checked by `element`); the kernel writes whole halfwords.
        self.tasks.element::<AtomicU16>(tid as usize * 2).map(|p| unsafe { p.as_ref() })
    }

    fn slot(&self, number: usize) -> Option<NonNull<Slot>> {
        self.slots.element::<Slot>(number * size_of::<Slot>())
    }

    fn shared_word(&self, field: usize) -> Option<&AtomicU64> {
        // SAFETY: inside the mapping, and aligned (checked by `element`).
        self.shared.element::<AtomicU64>(field).map(|p| unsafe { p.as_ref() })
    }

    /// Makes the programs look every task up again.
    fn next_epoch(&self) {
        if let Some(epoch) = self.shared_word(offset_of!(Shared, epoch)) {
            epoch.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether a thread is in the table.
    pub(crate) fn is_recorded(&self, tid: u32) -> bool {
        self.entry(tid).is_some_and(|e| e.load(Ordering::Relaxed) != 0)
    }

    /// Puts a thread into the table. `held`: nothing is recorded before its first `execve`.
    ///
    /// `faults` are its counters of minor and major page faults, which are not of this recording.
    pub(crate) fn admit(&self, tid: u32, tgid: u32, held: bool, faults: [u64; 2]) {
        let Some(entry) = self.entry(tid) else { return };
        let used = self.shared_word(offset_of!(Shared, slots_used));
        let number = used.map_or(u64::from(SLOTS), |used| used.fetch_add(1, Ordering::Relaxed) + 1);
        let slot = if number < u64::from(SLOTS) { self.slot(number as usize) } else { None };
        let Some(slot) = slot else {
            entry.store(NO_SLOT, Ordering::Relaxed);
            self.next_epoch();
            return;
        };
        // SAFETY: all zeros is a valid Slot.
        let mut fresh: Slot = unsafe { std::mem::zeroed() };
        fresh.call.tid = tid;
        fresh.call.tgid = tgid;
        fresh.fresh = if held { HELD } else { 0 };
        fresh.usage.from_ns = clock::boottime_ns();
        fresh.usage.faults = faults;
        // SAFETY: inside the mapping; the kernel does not use the slot before the table names it.
        unsafe { slot.write(fresh) };
        fence(Ordering::SeqCst);
        entry.store(number as u16, Ordering::Release);
        self.next_epoch();
    }

    /// Takes a thread out of the table.
    pub(crate) fn expel(&self, tid: u32) {
        let Some(entry) = self.entry(tid) else { return };
        let number = entry.swap(0, Ordering::Relaxed);
        let stack = usize::from(number) * size_of::<Slot>() + offset_of!(Slot, stack);
        if let Some(stack) = self.slots.element::<AtomicU64>(stack).filter(|_| number != NO_SLOT) {
            // SAFETY: inside the mapping, and aligned (checked by `element`).
            unsafe { stack.as_ref() }.store(0, Ordering::Relaxed);
        }
    }

    /// Whether no thread is in the table any more. Not known, and no, when there were more threads than slots.
    pub(crate) fn is_empty(&self) -> bool {
        let numbers = self.numbers();
        numbers.end < SLOTS as usize
            && numbers.into_iter().all(|number| {
                let tid = self.slot(number).map(|slot| {
                    // SAFETY: inside the mapping; nothing is read.
                    let tid = unsafe { &raw const (*slot.as_ptr()).call.tid };
                    // SAFETY: inside the mapping. A slot that the kernel half changes meanwhile is of a thread that lives.
                    unsafe { tid.read_volatile() }
                });
                tid.is_none_or(|tid| {
                    self.entry(tid).map_or(0, |e| e.load(Ordering::Acquire)) != number as u16
                })
            })
    }

    /// The slots that have a call in flight, after detaching.
    pub(crate) fn in_flight(&self) -> Vec<Slot> {
        self.members().into_iter().filter(|slot| slot.busy == progress::IN_CALL).collect()
    }

    /// The slots that have a call in flight now, while the programs go on. A slot that changes is left out: its call
    /// has just returned.
    pub(crate) fn in_flight_now(&self) -> Vec<Slot> {
        let mut out = Vec::new();
        for number in self.numbers() {
            let Some(at) = self.slot(number) else { continue };
            // SAFETY: inside the mapping. The kernel half may write it meanwhile, which the second look notices.
            let slot = unsafe { at.read_volatile() };
            let current = self.entry(slot.call.tid).map_or(0, |e| e.load(Ordering::Acquire));
            // SAFETY: as above.
            let again = unsafe { at.read_volatile() };
            let same = again.busy == slot.busy
                && (again.call.t_ns, again.call.tid, again.call.nr, again.call.args)
                    == (slot.call.t_ns, slot.call.tid, slot.call.nr, slot.call.args);
            if slot.busy == progress::IN_CALL && usize::from(current) == number && same {
                out.push(slot);
            }
        }
        out
    }

    /// The numbers that were ever given out: to look at the others would map them.
    fn numbers(&self) -> std::ops::Range<usize> {
        let used = self.shared_word(offset_of!(Shared, slots_used));
        let used = used.map_or(SLOTS.into(), |used| used.load(Ordering::Acquire).saturating_add(1));
        1..SLOTS.min(u32::try_from(used).unwrap_or(SLOTS)) as usize
    }

    /// Every thread of the table with its slot, after detaching.
    pub(crate) fn members(&self) -> Vec<Slot> {
        let mut out = Vec::new();
        for number in self.numbers() {
            if let Some(at) = self.slot(number) {
                // SAFETY: inside the mapping; the programs are detached.
                let slot = unsafe { at.read() };
                let current = self.entry(slot.call.tid).map_or(0, |e| e.load(Ordering::Relaxed));
                if usize::from(current) == number {
                    out.push(slot);
                }
            }
        }
        out
    }

    /// Every thread of the table whose calls are recorded, with what is known of it. While the programs go on it may
    /// be in another call by now.
    pub(crate) fn threads(&self) -> Vec<Thread> {
        let mut out = Vec::new();
        for number in self.numbers() {
            let Some(at) = self.slot(number) else { continue };
            // SAFETY: inside the mapping. The kernel half may write it meanwhile: integers, each of which was true.
            let thread = Thread::of(&unsafe { at.read_volatile() });
            let current = self.entry(thread.call.tid).map_or(0, |e| e.load(Ordering::Acquire));
            if usize::from(current) == number && thread.fresh != HELD {
                out.push(thread);
            }
        }
        out
    }

    /// Tells the programs how far `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`. It changes when the machine was
    /// suspended, and only then; to be called often.
    pub(crate) fn keep_boot_offset(&self) {
        // A suspension is longer than this, and a reading of the clocks is seldom wrong by as much.
        const NOTABLE_NS: u64 = 100_000;
        let Some(offset) = self.shared_word(offset_of!(Shared, boot_offset)) else { return };
        let known = offset.load(Ordering::Relaxed);
        let (read, took) = clock::boot_offset(1);
        if took < NOTABLE_NS && read.wrapping_sub(known).cast_signed().unsigned_abs() > NOTABLE_NS {
            self.set_boot_offset();
        }
    }

    fn set_boot_offset(&self) {
        let (offset, uncertain) = clock::boot_offset(200);
        // Most machines have never been suspended.
        let offset = if offset.cast_signed().unsigned_abs() <= uncertain { 0 } else { offset };
        if let Some(word) = self.shared_word(offset_of!(Shared, boot_offset)) {
            word.store(offset, Ordering::Relaxed);
        }
    }
}
