//! From selectors and operands to argument registers.

use crate::arch::nr;
use crate::engine::{clock_ns, marked, scaled};
use crate::state::{Task, blob, control, count, futex_address, slot, stack_bottom, value};
use core::sync::atomic::Ordering::Relaxed;
use ctrace_program::control::{STACK_BYTES, STAND_IN_BYTES};
use ctrace_program::{
    CONTROL_BASE, MsgDesc, POOL_THRESHOLD, PathPid, Sel, Step, clock_parts, soft_limit_parts, value_parts,
};

/// Hands out the task's scratch memory, one step at a time.
pub struct Scratch {
    at: u64,
    end: u64,
}

impl Scratch {
    pub fn new(task: &Task) -> Self {
        Self { at: task.slot.scratch_top.load(Relaxed), end: task.arena().1 }
    }

    pub fn top(&self) -> u64 {
        self.at
    }

    /// `None`: the builder's accounting was wrong.
    pub fn take(&mut self, bytes: u64) -> Option<u64> {
        let at = self.at.next_multiple_of(16);
        let end = at.checked_add(bytes)?;
        if end > self.end {
            return None;
        }
        self.at = end;
        Some(at)
    }

    fn buffer(&mut self, bytes: u64) -> Option<u64> {
        if bytes > POOL_THRESHOLD { Some(CONTROL_BASE + control().layout.pool) } else { self.take(bytes) }
    }

    /// A structure of words.
    pub fn words<const N: usize>(&mut self, words: [u64; N]) -> Option<u64> {
        let at = self.take(8 * N as u64)?;
        // SAFETY: scratch of that size, 16-byte aligned.
        unsafe { (at as *mut [u64; N]).write(words) };
        Some(at)
    }

    fn bytes(&mut self, from: u64, len: u64) -> Option<u64> {
        let at = self.take(len)?;
        // SAFETY: `from` is a blob of `len` bytes, `at` scratch of that size.
        unsafe { core::ptr::copy_nonoverlapping(from as *const u8, at as *mut u8, len as usize) };
        Some(at)
    }

    /// `struct iovec[]` over shared scratch, without the first `skip` bytes.
    fn iovec(&mut self, lens: *const u64, count: u64, skip: u64) -> Option<u64> {
        let table = self.take(count.checked_mul(16)?)?;
        let mut longest = 0;
        for i in 0..count {
            // SAFETY: `count` lengths follow `lens`.
            longest = longest.max(unsafe { *lens.add(i as usize) });
        }
        let base = self.buffer(longest)?;
        let mut skip = skip;
        for i in 0..count {
            // SAFETY: as above.
            let len = unsafe { *lens.add(i as usize) };
            let skipped = skip.min(len);
            skip -= skipped;
            // SAFETY: entry `i` of the table taken above.
            unsafe { (table as *mut [u64; 2]).add(i as usize).write([base, len - skipped]) };
        }
        Some(table)
    }

    fn message(&mut self, into: u64, at: u64, end: u64, skip: u64) -> Option<u64> {
        let size = size_of::<MsgDesc>() as u64;
        if at.checked_add(size)? > end {
            return None;
        }
        // SAFETY: within the blob; the builder wrote it 8-byte aligned.
        let desc = unsafe { *(at as *const MsgDesc) };
        let lens = at + size;
        let next = lens.checked_add(u64::from(desc.iovs) * 8)?;
        if next > end {
            return None;
        }
        let name = match desc.name {
            0 if desc.name_len == 0 => 0,
            0 => self.take(u64::from(desc.name_len))?,
            offset => blob(offset)?.0,
        };
        let control = match desc.control {
            0 if desc.control_len == 0 => 0,
            0 => self.take(u64::from(desc.control_len))?,
            offset => {
                let (from, len) = blob(offset)?;
                self.bytes(from, len)?
            }
        };
        let iov = self.iovec(lens as *const u64, u64::from(desc.iovs), skip)?;
        let header = [
            name,
            u64::from(desc.name_len),
            iov,
            u64::from(desc.iovs),
            control,
            u64::from(desc.control_len),
            0,
        ];
        // SAFETY: `into` is scratch of at least 56 bytes.
        unsafe { (into as *mut [u64; 7]).write(header) };
        Some(next)
    }
}

fn split(ns: u64) -> [u64; 2] {
    [ns / 1_000_000_000, ns % 1_000_000_000]
}

fn split_us(ns: u64) -> [u64; 2] {
    [ns / 1_000_000_000, ns % 1_000_000_000 / 1000]
}

fn live_tid(task: u64) -> i64 {
    // A task that was never born has no id; one that cannot exist makes the kernel say ESRCH.
    match slot(task as u32).map(|slot| slot.tid.load(Relaxed)) {
        Some(tid) if tid != 0 => i64::from(tid),
        _ => i64::from(i32::MAX),
    }
}

/// The register for argument `index`. `skip`: bytes of an I/O vector, or messages of several, that were transferred before.
pub fn resolve(task: &Task, step: &Step, index: usize, scratch: &mut Scratch, skip: u64) -> Option<u64> {
    let operand = *step.args.get(index)?;
    let words = |n: u64| -> Option<*const u64> {
        let (at, len) = blob(operand)?;
        (len >= n * 8).then_some(at as *const u64)
    };
    Some(match Sel::from_u8(*step.sel.get(index)?)? {
        Sel::Imm => operand,
        Sel::Data => blob(operand)?.0,
        Sel::InOut => {
            let (from, len) = blob(operand)?;
            scratch.bytes(from, len)?
        }
        Sel::Out => scratch.buffer(operand)?,
        Sel::Pid => live_tid(operand) as u64,
        Sel::PidNeg => live_tid(operand).wrapping_neg() as u64,
        Sel::Value => {
            let (slot, offset) = value_parts(operand);
            value(slot)?.load(Relaxed).wrapping_add_signed(offset)
        }
        Sel::Futex => futex_address(operand)?,
        Sel::Keep => task.keep() + operand % 4096,
        Sel::Iov => {
            let (at, len) = blob(operand)?;
            scratch.iovec(at as *const u64, len / 8, skip)?
        }
        Sel::Msg => {
            let (at, len) = blob(operand)?;
            let into = scratch.take(64)?;
            scratch.message(into, at, at + len, skip)?;
            into
        }
        Sel::Mmsg => {
            let (begin, len) = blob(operand)?;
            let (mut at, end) = (begin, begin + len);
            let mut count = 0;
            while at + size_of::<MsgDesc>() as u64 <= end {
                // SAFETY: within the blob.
                let iovs = unsafe { (*(at as *const MsgDesc)).iovs };
                at += size_of::<MsgDesc>() as u64 + u64::from(iovs) * 8;
                count += 1;
            }
            // The table may begin behind those that were moved before.
            let table = scratch.take(count * 64)?;
            at = begin;
            for i in 0..count {
                at = scratch.message(table + i * 64, at, end, 0)?;
            }
            table + skip.min(count) * 64
        }
        Sel::Timespec => scratch.words(split(scaled(operand)))?,
        Sel::Timeval => scratch.words(split_us(scaled(operand)))?,
        Sel::Millis if operand == u64::MAX => u64::MAX,
        Sel::Millis => scaled(operand).div_ceil(1_000_000),
        Sel::AbsTimespec => {
            let (clock, ns) = clock_parts(operand);
            scratch.words(split(clock_ns(u64::from(clock)).wrapping_add(scaled(ns))))?
        }
        Sel::Itimerspec => {
            let at = words(2)?;
            // SAFETY: checked to hold two words.
            let (interval, value) = unsafe { (scaled(*at), scaled(*at.add(1))) };
            scratch.words([split(interval)[0], split(interval)[1], split(value)[0], split(value)[1]])?
        }
        Sel::Itimerval => {
            let at = words(2)?;
            // SAFETY: checked to hold two words.
            let (interval, value) = unsafe { (scaled(*at), scaled(*at.add(1))) };
            scratch.words([
                split_us(interval)[0],
                split_us(interval)[1],
                split_us(value)[0],
                split_us(value)[1],
            ])?
        }
        Sel::AbsItimerspec => {
            let at = words(3)?;
            // SAFETY: checked to hold three words.
            let (interval, value, clock) = unsafe { (scaled(*at), scaled(*at.add(1)), *at.add(2)) };
            let value = clock_ns(clock).wrapping_add(value);
            scratch.words([split(interval)[0], split(interval)[1], split(value)[0], split(value)[1]])?
        }
        Sel::AltStack => {
            let size = operand.clamp(4096, STACK_BYTES / 4);
            scratch.words([stack_bottom(task.index), 0, size])?
        }
        Sel::SoftLimit => {
            let (resource, soft) = soft_limit_parts(operand);
            let at = scratch.words([0, 0])?;
            if marked(nr::PRLIMIT64, [0, resource, 0, at, 0]) != 0 {
                return None;
            }
            count(&task.slot.counters.engine_calls, 1);
            // SAFETY: scratch of two words, which the kernel filled behind the compiler's back.
            let hard = unsafe { (at as *const u64).add(1).read_volatile() };
            scratch.words([soft.min(hard), hard])?
        }
        Sel::StandIn => CONTROL_BASE + control().layout.stand_in + operand % STAND_IN_BYTES,
        Sel::PathPid => {
            let (at, len) = blob(operand)?;
            // SAFETY: the builder wrote the head in front of the texts.
            let head = unsafe { *(at as *const PathPid) };
            let (prefix, suffix) = (u64::from(head.prefix_len), u64::from(head.suffix_len));
            if len < 8 + prefix + suffix {
                return None;
            }
            let out = scratch.take(prefix + suffix + 24)?;
            let mut to = copy(at + 8, out, prefix);
            to = decimal(live_tid(u64::from(head.task)) as u64, to);
            to = copy(at + 8 + prefix, to, suffix);
            // SAFETY: room for it was taken above.
            unsafe { (to as *mut u8).write(0) };
            out
        }
    })
}

fn copy(from: u64, to: u64, len: u64) -> u64 {
    // SAFETY: the caller checked both ranges.
    unsafe { core::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, len as usize) };
    to + len
}

/// Writes a decimal number (at most 20 bytes) and returns the address after it.
pub fn decimal(value: u64, to: u64) -> u64 {
    let mut digits = 1;
    let mut rest = value / 10;
    while rest > 0 {
        digits += 1;
        rest /= 10;
    }
    let mut rest = value;
    for i in (0..digits).rev() {
        // SAFETY: the caller has room for 20 bytes.
        unsafe { ((to + i) as *mut u8).write(b'0' + (rest % 10) as u8) };
        rest /= 10;
    }
    to + digits
}
