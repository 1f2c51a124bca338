//! How calls leave the kernel: the bulk ring of each CPU, and what happens when it fills up.
//!
//! A ring of our own in an array map that the reader maps, because a ring with one producer needs neither a lock nor
//! a helper call. Its fill decides how much is recorded of a call (`level`): a reader that is slow or stopped costs
//! detail, and the last level only counts calls, so that none is lost.

use crate::{
    capture::{argument, bounded, spec},
    kernel::{add, add_32, copy_some_words, exchange, now},
    maps::{AGGREGATE, BULK, HEADS, NOTHING, global, lost, send_life},
    scope::slot,
};
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use core::sync::atomic::{Ordering, compiler_fence};
use ctrace_abi::{
    AggregateKey, BUCKETS, Head, LevelChange, SEGMENT, SEGMENT_LAST, Short, Slot, WINDOW_NS, call_flag, kind,
    level, loss, machine, short_flag, spec_flag,
};

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: no preconditions.
    unsafe { bpf_get_smp_processor_id() }
}

#[inline(always)]
fn head(cpu: u32) -> Option<&'static mut Head> {
    // SAFETY: this CPU's, but for `taken`, which is read as volatile.
    HEADS.get_ptr_mut(cpu).map(|h| unsafe { &mut *h })
}

/// Whether calls are recorded with what their pointers point to, on this CPU now.
#[inline(always)]
pub fn is_full() -> bool {
    head(cpu()).is_none_or(|h| h.level == level::FULL)
}

/// Looks at what the reader has taken, and decides the level. 0: there is no room for records. A global function,
/// see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn look(cpu: u32) -> u32 {
    let Some(head) = head(cpu) else { return 0 };
    // SAFETY: a plain load of what user space writes.
    let taken = unsafe { core::ptr::read_volatile(&raw const head.taken) };
    let size = u64::from(global!(segments)) * SEGMENT as u64;
    let used = head.written - taken;
    let old = head.level;
    let new = if used >= size / 4 * 3 {
        level::AGGREGATED
    } else if used >= size / 2 {
        if old == level::FULL { level::NO_ARGUMENTS } else { old }
    } else if used >= size / 4 {
        if old == level::AGGREGATED { level::NO_ARGUMENTS } else { old }
    } else {
        level::FULL
    };
    if new != old {
        head.level = new;
        let change =
            LevelChange { kind: kind::LEVEL, from: old as u8, to: new as u8, reserved: 0, cpu, t_ns: now() };
        send_life(&change, loss::LEVEL_RING);
    }
    if new == level::AGGREGATED {
        // Every call looks again.
        head.limit = head.written;
        return 0;
    }
    head.limit = head.written + size / 16;
    1
}

/// Tells of the call of a slot, which ends now: in the ring, or in the map of aggregates.
#[inline(always)]
pub fn tell(slot: &mut Slot, number: u32, end_ns: u64, ret: i64) {
    if !write(slot, end_ns, ret) {
        count(number, end_ns, ret as u64);
    }
    if waits(slot) != 0 {
        waited_for_nothing(slot);
    }
}

/// Not 0: the task has waited since the last record.
#[inline(always)]
fn waits(slot: &Slot) -> u64 {
    slot.wait_cpu_ns | slot.blocked_ns | slot.call.run_wait_ns
}

/// The times since the last record begin anew. Volatile: neighbours that are zeroed become a call of `memset`.
#[inline(always)]
pub fn waited_for_nothing(slot: &mut Slot) {
    for word in [&raw mut slot.wait_cpu_ns, &raw mut slot.blocked_ns, &raw mut slot.call.run_wait_ns] {
        // SAFETY: fields of the slot.
        unsafe { word.write_volatile(0) };
    }
}

#[inline(always)]
fn write(slot: &Slot, end_ns: u64, ret: i64) -> bool {
    let cpu = cpu();
    let Some(head) = head(cpu) else { return false };
    // Where programs can be preempted, another one may be in the middle of its record.
    if head.busy != 0 {
        return false;
    }
    let at = head.written;
    if at >= head.limit && look(cpu) == 0 {
        return false;
    }
    let segments = global!(segments);
    let segment = (at >> 16) as u32 & (segments - 1);
    let Some(segment) = BULK.get_ptr_mut(cpu * segments + segment) else { return false };
    let offset = bounded::<0xffff>(at);
    if offset > SEGMENT_LAST {
        return false;
    }
    // SAFETY: a plain store, visible to programs that interrupt this one.
    unsafe { core::ptr::write_volatile(&raw mut head.busy, 1) };
    let call = &slot.call;
    let nargs = slot.nargs;
    let mut flags = call.flags;
    // SAFETY: the offset leaves room for the longest record, and the verifier checks it.
    let mut to = unsafe { segment.cast::<u8>().add(offset as usize) };
    let start = to.cast::<Short>();
    let mut len = size_of::<Short>() as u64;
    // SAFETY: as above.
    to = unsafe { to.add(size_of::<Short>()) };
    if nargs > 0 {
        flags |= short_flag::ARGS;
        // SAFETY: as above.
        unsafe { *to.cast::<[u64; 3]>() = [call.args[0], call.args[1], call.args[2]] };
        // SAFETY: as above.
        to = unsafe { to.add(24) };
        len += 24;
        if nargs > 3 {
            flags |= short_flag::MORE_ARGS;
            // SAFETY: as above.
            unsafe { *to.cast::<[u64; 3]>() = [call.args[3], call.args[4], call.args[5]] };
            // SAFETY: as above.
            to = unsafe { to.add(24) };
            len += 24;
        }
    }
    if waits(slot) != 0 {
        flags |= short_flag::WAITS;
        // SAFETY: as above.
        unsafe { *to.cast::<[u64; 3]>() = [slot.wait_cpu_ns, slot.blocked_ns, call.run_wait_ns] };
        // SAFETY: as above.
        to = unsafe { to.add(24) };
        len += 24;
    }
    if flags & call_flag::HAS_TIME != 0 {
        flags |= short_flag::TIME;
        // SAFETY: as above.
        unsafe { *to.cast::<u64>() = call.time_ns };
        // SAFETY: as above.
        to = unsafe { to.add(8) };
        len += 8;
    }
    let copied = slot.copied;
    if copied != 0 {
        flags |= short_flag::TAIL;
        // SAFETY: as above.
        unsafe { *to.cast::<u64>() = u64::from(copied) };
        // SAFETY: as above.
        unsafe { copy_some_words(to.add(8).cast(), slot.copies.as_ptr(), copied / 8) };
        len += 8 + u64::from(copied);
    }
    // SAFETY: as above.
    unsafe {
        *start = Short {
            kind: kind::SHORT,
            abi: call.abi,
            flags,
            tid: call.tid,
            t_ns: call.t_ns,
            dur_ns: end_ns - call.t_ns,
            ret,
            nr: call.nr,
            tgid: call.tgid,
            file: call.file,
        };
    }
    let mut next = at + len;
    if next & (SEGMENT as u64 - 1) > SEGMENT_LAST {
        next = (next | (SEGMENT as u64 - 1)) + 1;
    }
    publish(head, next);
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(&raw mut head.busy, 0) };
    true
}

/// Makes what was written before visible to the reader. x86 keeps the order of stores; elsewhere an atomic exchange,
/// which orders all (`Documentation/bpf/standardization/instruction-set.rst`).
#[inline(always)]
fn publish(head: &mut Head, written: u64) {
    let at = &raw mut head.written;
    if global!(machine) == machine::X86_64 {
        compiler_fence(Ordering::Release);
        // SAFETY: a valid place.
        unsafe { core::ptr::write_volatile(at, written) };
    } else {
        exchange(at, written);
    }
}

/// `floor(log2(n))`, at most the last bucket.
#[inline(always)]
fn bucket(mut n: u64) -> usize {
    let mut at = 0;
    if n >> 32 != 0 {
        at += 32;
        n >>= 32;
    }
    if n >> 16 != 0 {
        at += 16;
        n >>= 16;
    }
    if n >> 8 != 0 {
        at += 8;
        n >>= 8;
    }
    if n >> 4 != 0 {
        at += 4;
        n >>= 4;
    }
    if n >> 2 != 0 {
        at += 2;
        n >>= 2;
    }
    if n >> 1 != 0 {
        at += 1;
    }
    at
}

/// Counts the call of a slot in the map of aggregates. A global function, see [`crate::capture`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count(number: u32, end_ns: u64, ret: u64) -> u32 {
    let Some(slot) = slot(number as u16) else { return 0 };
    let call = &slot.call;
    let cpu = cpu();
    let mut fd = -1;
    if let Some(spec) = spec(call.abi, call.nr) {
        if spec.flags & spec_flag::FD != 0 {
            fd = argument(slot, spec.fd_arg) as i32;
        }
    }
    let ret = ret as i64;
    let key = AggregateKey {
        tid: call.tid,
        tgid: call.tgid,
        nr: call.nr,
        fd,
        file: call.file,
        window: (end_ns / WINDOW_NS) as u32,
        cpu: cpu as u16,
        errno: if ret < 0 && ret >= -4095 { (-ret) as u16 } else { 0 },
        abi: call.abi,
        flags: call.flags as u8 & (call_flag::NO_ENTER | call_flag::NO_EXIT | call_flag::ENGINE) as u8,
        reserved: [0; 6],
    };
    let mut entry = AGGREGATE.get_ptr_mut(&key);
    if entry.is_none() {
        if let Some(nothing) = NOTHING.get(0) {
            let _ = AGGREGATE.insert(&key, nothing, 0);
        }
        entry = AGGREGATE.get_ptr_mut(&key);
    }
    let Some(entry) = entry else {
        lost(loss::AGGREGATE_MAP);
        return 0;
    };
    let duration = end_ns - call.t_ns;
    let mut at = bucket(duration);
    if at >= BUCKETS {
        at = BUCKETS - 1;
    }
    // SAFETY: a value of the map; the bucket is bounded.
    unsafe {
        add(&raw mut (*entry).dur_ns, duration);
        add_32((&raw mut (*entry).buckets).cast::<u32>().add(at), 1);
        add(&raw mut (*entry).count, 1);
    }
    if let Some(head) = head(cpu) {
        head.aggregated += 1;
    }
    1
}
