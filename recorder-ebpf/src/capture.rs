//! Copying what a call's pointers point to, as the call's specification asks.
//!
//! [`run_op`] is a global function: the verifier checks it once, with unknown numbers as arguments, instead of along
//! every path that leads to it (Linux 5.6, `btf_func_linkage`). It therefore looks its maps up again.

use crate::{
    files::{fix_now, known_file, open_file},
    kernel::{add, copy_some_words, current, current_of, read_user_str},
    maps::{SHARED, SPEC, WALK, global, scratch},
    messages::{NAMED, all_messages, how, is_unbound, local, message_items},
    scope::slot,
};
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use core::arch::asm;
use ctrace_abi::{
    COPIES, Creds, MAX_ARGV, MAX_ITEMS, MAX_STR, MAX_WORD, Op, SPEC_COMPAT, Slot, Spec, Tlv, abi, call_flag,
    op,
};

/// Set in a result of [`run_op`]: something could not be read.
pub const FAULT: u32 = 1 << 31;
/// Set in a result of [`run_op`]: something was longer than is copied.
pub const CUT: u32 = 1 << 30;
/// The position in a result of [`run_op`].
pub const POSITION: u32 = 0x3fff;
/// Set in a result of [`run_op`]: the call's socket has no address of its own yet.
pub const UNBOUND: u32 = 1 << 29;
/// Last position at which an item may begin; what follows it fits into the buffer.
pub const LAST: u32 = 0x1fff;

/// `x & MASK`, where the compiler can neither move nor drop the mask: the verifier must see it right before its use.
#[inline(always)]
pub fn bounded<const MASK: i32>(mut x: u64) -> u64 {
    // SAFETY: one register operation.
    unsafe { asm!("{x} &= {mask}", x = inout(reg) x, mask = const MASK, options(pure, nomem, nostack)) };
    x
}

/// Whether the call of a slot has an exit only, at which everything of it is copied.
#[inline(always)]
pub fn is_unentered(slot: &Slot) -> bool {
    slot.call.flags & (call_flag::NO_ENTER | call_flag::FILTERED) != 0
}

/// What to do for a call.
#[inline(always)]
pub fn spec(how: u8, nr: u32) -> Option<&'static Spec> {
    if nr >= SPEC_COMPAT {
        return None;
    }
    SPEC.get(if how == abi::COMPAT { nr + SPEC_COMPAT } else { nr })
}

#[inline(always)]
pub fn read_user(to: *mut u8, size: u64, from: u64) -> bool {
    // SAFETY: the verifier checks the destination and the bound of the size.
    unsafe { bpf_probe_read_user(to.cast(), size as u32, from as *const _) == 0 }
}

#[inline(always)]
pub fn read_user_u64(from: u64) -> Option<u64> {
    let mut value = 0_u64;
    // SAFETY: a local of 8 bytes.
    let failed = unsafe { bpf_probe_read_user((&raw mut value).cast(), 8, from as *const _) };
    (failed == 0).then_some(value)
}

#[inline(always)]
pub fn read_user_u32(from: u64) -> Option<u32> {
    let mut value = 0_u32;
    // SAFETY: a local of 4 bytes.
    let failed = unsafe { bpf_probe_read_user((&raw mut value).cast(), 4, from as *const _) };
    (failed == 0).then_some(value)
}

/// Keeps the items at `begin` to `end` of a buffer in the slot of the call in flight, behind those that are there.
/// False: there is no room.
#[inline(always)]
pub fn keep(slot: &mut Slot, buffer: *const u8, begin: u32, end: u32) -> bool {
    let len = end - begin;
    if slot.copied + len > COPIES as u32 {
        return false;
    }
    let at = bounded::<{ COPIES as i32 - 8 }>(u64::from(slot.copied));
    slot.copied += len;
    // SAFETY: both places are bounded, and have COPIES bytes behind them that belong to the slot and to the buffer.
    unsafe {
        let to = slot.copies.as_mut_ptr().cast::<u8>().add(at as usize).cast::<u64>();
        let from = buffer.add(bounded::<0x1ff8>(u64::from(begin)) as usize).cast::<u64>();
        copy_some_words(to, from, len / 8);
    }
    true
}

/// Writes an item's head at `at` and returns the position after the item.
#[inline(always)]
pub fn head(at: *mut u8, pos: u64, op: u8, arg: u8, len: u64, fault: u16, aux: u16) -> u32 {
    // SAFETY: `at` is a checked position in the buffer, a multiple of 8.
    unsafe { *at.cast::<Tlv>() = Tlv { op, arg, len: len as u16, fault, aux } };
    let next = ((pos + 8 + len + 7) & !7) as u32;
    match fault {
        0 => next,
        1 => next | CUT,
        _ => next | FAULT,
    }
}

/// Runs op `index` of the call in slot `number` and appends its item to the record under construction in scratch
/// buffer `phase` (0 at entry, 1 at exit) at `pos`. Returns the new position with [`FAULT`] and [`CUT`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn run_op(number: u32, index: u32, phase: u32, pos: u32) -> u32 {
    let Some(slot) = slot(number as u16) else { return pos };
    let Some(spec) = spec(slot.call.abi, slot.call.nr) else { return pos };
    let Some(buffer) = scratch(phase & 1) else { return pos };
    if pos > LAST {
        return pos | CUT;
    }
    let pos = bounded::<0x1ff8>(u64::from(pos));
    // SAFETY: `pos` ≤ 0x1ff8, and the buffer has 16 KiB.
    let at = unsafe { buffer.add(pos as usize) };
    // SAFETY: as above; every op writes at most 4 KiB after its head.
    let data = unsafe { at.add(8) };
    let index = bounded::<7>(u64::from(index));
    if index >= spec.ops.len() as u64 {
        return pos as u32;
    }
    let Op { op: what, arg, len, size, .. } = spec.ops[index as usize];
    let pointer = argument(slot, arg);
    let aux = phase as u16;
    if what == op::OBJECT {
        let file = open_file(current_of(slot), pointer as u32);
        if file == 0 {
            return pos as u32;
        }
        if phase != 0 || is_unentered(slot) {
            fix_now(slot.call.t_ns + slot.call.dur_ns);
        }
        known_file(file, slot.call.tid);
        fix_now(0);
        // SAFETY: inside the buffer.
        unsafe { *data.cast::<u64>() = file };
        return head(at, pos, what, arg, 8, 0, aux);
    }
    if what == op::UNBOUND {
        return pos as u32 | is_unbound(slot.call.file, u32::from(size));
    }
    if what == op::LOCAL {
        return local(slot.call.file, pos as u32);
    }
    if what == op::MOVES {
        if let Some(shared) = SHARED.get_ptr_mut(0) {
            // SAFETY: the value of the map.
            add(unsafe { &raw mut (*shared).moves }, 1);
        }
        return pos as u32;
    }
    if what == op::CREDS {
        // SAFETY: inside the buffer.
        unsafe { *data.cast::<Creds>() = crate::caps::creds(current() as u64) };
        return head(at, pos, what, arg, size_of::<Creds>() as u64, 0, aux);
    }
    if pointer == 0 {
        return pos as u32;
    }
    match what {
        op::STR => string(at, data, pos, arg, pointer, aux),
        op::ADDR | op::ADDR_OUT => {
            let want = if what == op::ADDR {
                argument(slot, len)
            } else {
                match read_user_u32(argument(slot, len)) {
                    Some(n) => u64::from(n),
                    None => 0,
                }
            };
            sized(at, data, pos, [op::ADDR, arg], want, 128, pointer, aux)
        }
        op::OPT => sized(at, data, pos, [op::BYTES, arg], argument(slot, len), 64, pointer, aux),
        op::BYTES => sized(at, data, pos, [what, arg], u64::from(size), 64, pointer, aux),
        op::PEEK => {
            let size = bounded::<0x7f>(u64::from(size));
            if !read_user(data, size, pointer) {
                return pos as u32;
            }
            head(at, pos, what, arg, size, 0, aux)
        }
        op::FDSET => {
            let bytes = (argument(slot, 0).min(1024) + 63) / 64 * 8;
            sized(at, data, pos, [what, arg], bytes, 128, pointer, aux)
        }
        op::POLL => {
            let n = argument(slot, len);
            let take = n.min(MAX_ITEMS as u64);
            let size = bounded::<0x3ff>(take * 8);
            if !read_user(data, size, pointer) {
                return head(at, pos, what, arg, 0, 2, aux);
            }
            head(at, pos, what, arg, size, u16::from(n > take), aux)
        }
        op::EPOLL => epoll(at, data, pos, arg, slot.call.ret as u64, pointer, aux),
        op::IOV => iovec(at, data, pos, arg, pointer, argument(slot, len), aux),
        op::MSG => {
            let result = message_items(pointer, phase & how::EXIT, pos as u32);
            if size != 0 && result & NAMED != 0 { result | is_unbound(slot.call.file, 0) } else { result }
        }
        op::MSGS => {
            let ret = slot.call.ret;
            let count = if ret >= 0 { ret as u64 } else { argument(slot, len) };
            all_messages(pointer, count, pos as u32)
        }
        op::FDS => {
            if !read_user(data, 8, pointer) {
                return head(at, pos, what, arg, 0, 2, aux);
            }
            // SAFETY: read above.
            let fds = unsafe { *data.cast::<[u32; 2]>() };
            let first = open_file(current_of(slot), fds[0]);
            let second = open_file(current_of(slot), fds[1]);
            if phase != 0 {
                fix_now(slot.call.t_ns + slot.call.dur_ns);
            }
            crate::files::announce(first, slot.call.tid, 1);
            crate::files::announce(second, slot.call.tid, 1);
            fix_now(0);
            // SAFETY: 24 bytes inside the buffer.
            unsafe { *data.add(8).cast::<[u64; 2]>() = [first, second] };
            head(at, pos, what, arg, 24, 0, aux)
        }
        op::ARGV => argv(at, data, pos, arg, pointer, aux),
        _ => pos as u32,
    }
}

/// As [`run_op`], inlined: the return of a function costs as much as most ops (SRSO). Ops that few calls ask for are left
/// to the function, for the verifier's sake and that of the stack.
#[inline(always)]
pub fn run_first(
    number: u32,
    slot: &Slot,
    spec: &Spec,
    buffer: *mut u8,
    index: u32,
    phase: u32,
    pos: u32,
) -> u32 {
    if pos > LAST {
        return pos | CUT;
    }
    let place = bounded::<7>(u64::from(index)) as usize;
    if place >= spec.ops.len() {
        return pos;
    }
    let Op { op: what, arg, len, size, .. } = spec.ops[place];
    if !matches!(what, op::STR | op::BYTES | op::IOV | op::EPOLL) {
        return run_op(number, index, phase, pos);
    }
    let pos = bounded::<0x1ff8>(u64::from(pos));
    // SAFETY: as in `run_op`.
    let (at, data) = unsafe { (buffer.add(pos as usize), buffer.add(pos as usize + 8)) };
    let (pointer, aux) = (argument(slot, arg), phase as u16);
    if pointer == 0 {
        return pos as u32;
    }
    match what {
        op::STR => string(at, data, pos, arg, pointer, aux),
        op::BYTES => sized(at, data, pos, [what, arg], u64::from(size), 64, pointer, aux),
        op::IOV => iovec(at, data, pos, arg, pointer, argument(slot, len), aux),
        _ => epoll(at, data, pos, arg, slot.call.ret as u64, pointer, aux),
    }
}

/// An argument of the call in flight.
#[inline(always)]
pub fn argument(slot: &Slot, n: u8) -> u64 {
    // SAFETY: a call has six arguments, and behind them the slot has two words more.
    unsafe { slot.call.args.as_ptr().add(bounded::<7>(u64::from(n)) as usize).read() }
}

/// Copies a string.
#[inline(always)]
fn string(at: *mut u8, data: *mut u8, pos: u64, arg: u8, from: u64, aux: u16) -> u32 {
    // SAFETY: the helper writes at most MAX_STR bytes, which fit.
    let n = unsafe { read_user_str(data, MAX_STR, from) };
    if n <= 0 {
        return head(at, pos, op::STR, arg, 0, 2, aux);
    }
    let n = bounded::<0x1fff>(n as u64);
    head(at, pos, op::STR, arg, n - 1, u16::from(n == MAX_STR as u64), aux)
}

/// Copies the `n` events that the call returned.
#[inline(always)]
fn epoll(at: *mut u8, data: *mut u8, pos: u64, arg: u8, n: u64, from: u64, aux: u16) -> u32 {
    let take = n.min(MAX_ITEMS as u64);
    let size = bounded::<0x7ff>(take * u64::from(global!(epoll_event_bytes)));
    if !read_user(data, size, from) {
        return head(at, pos, op::EPOLL, arg, 0, 2, aux);
    }
    head(at, pos, op::EPOLL, arg, size, u16::from(n > take), aux)
}

/// Copies `want` bytes, at most `max` (≤ 128).
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "inlined into one place")]
pub fn sized(
    at: *mut u8,
    data: *mut u8,
    pos: u64,
    kind: [u8; 2],
    want: u64,
    max: u64,
    from: u64,
    aux: u16,
) -> u32 {
    let [op, arg] = kind;
    let size = bounded::<0xff>(want.min(max));
    if !read_user(data, size, from) {
        return head(at, pos, op, arg, 0, 2, aux);
    }
    head(at, pos, op, arg, size, u16::from(want > max), aux)
}

/// Sum and number of an I/O vector's parts.
#[inline(always)]
pub fn iovec(at: *mut u8, data: *mut u8, pos: u64, arg: u8, from: u64, count: u64, aux: u16) -> u32 {
    let take = count.min(MAX_ITEMS as u64);
    let size = bounded::<0x7ff>(take * 16);
    if !read_user(data, size, from) {
        return head(at, pos, op::IOV, arg, 0, 2, aux);
    }
    let mut sum = 0_u64;
    for i in 0..MAX_ITEMS {
        if i as u64 >= take {
            break;
        }
        // SAFETY: `i` < 64, so the length word lies inside the 1 KiB read above.
        sum = sum.wrapping_add(unsafe { *data.add(i * 16 + 8).cast::<u64>() });
    }
    // SAFETY: inside the buffer.
    unsafe { *data.cast::<[u64; 2]>() = [sum, count] };
    head(at, pos, op::IOV, arg, 16, u16::from(count > take), aux)
}

/// The number of words, with a bit for each that could not be read from bit 32 on; then the words, each with its NUL.
#[inline(always)]
fn argv(at: *mut u8, data: *mut u8, pos: u64, arg: u8, from: u64, aux: u16) -> u32 {
    let Some(walk) = WALK.get_ptr_mut(1) else { return pos as u32 };
    // SAFETY: this CPU's memory.
    let walk = unsafe { &mut *walk };
    walk.used = 8;
    walk.count = 0;
    // Which words could not be read: a bit each.
    walk.mnt = 0;
    walk.next = from;
    walk.base = pos + 8;
    walk.fault = 0;
    for _ in 0..512 {
        if argv_step(u32::from(aux)) != 0 {
            break;
        }
    }
    // SAFETY: inside the buffer.
    unsafe { *data.cast::<u64>() = walk.count | walk.mnt << 32 };
    head(at, pos, op::ARGV, arg, bounded::<0x1fff>(walk.used), walk.fault as u16, aux)
}

/// Copies one word of the argument vector that `WALK` describes. Not 0: done. A global function, as [`run_op`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn argv_step(phase: u32) -> u32 {
    let Some(walk) = WALK.get_ptr_mut(1) else { return 1 };
    // SAFETY: this CPU's memory.
    let walk = unsafe { &mut *walk };
    let Some(buffer) = scratch(phase & 1) else { return 1 };
    let Some(word) = read_user_u64(walk.next) else {
        walk.fault |= 2;
        return 1;
    };
    if word == 0 {
        return 1;
    }
    walk.count += 1;
    walk.next += 8;
    if walk.count > MAX_ARGV as u64 || walk.used > 0xe00 {
        walk.fault |= 1;
        return 0;
    }
    let used = bounded::<0xfff>(walk.used);
    let base = bounded::<0x1fff>(walk.base);
    // SAFETY: both offsets are bounded, and a word is at most 256 bytes: below 16 KiB.
    let to = unsafe { buffer.add(base as usize).add(used as usize) };
    // SAFETY: the helper writes at most MAX_WORD bytes.
    let n = unsafe { read_user_str(to, MAX_WORD, word) };
    if n > 0 {
        walk.used = used + bounded::<0x1ff>(n as u64);
        if n == MAX_WORD as i64 {
            walk.fault |= 1;
        }
    } else {
        // SAFETY: as above. An unreadable word is an empty word, and marked.
        unsafe { *to = 0 };
        walk.used = used + 1;
        walk.mnt |= 1 << bounded::<31>(walk.count - 1);
        walk.fault |= 4;
    }
    0
}

/// Reads a time behind a pointer, in ns.
#[inline(always)]
pub fn time(kind: u8, pointer: u64) -> Option<u64> {
    let mut raw = [0_u64; 2];
    let at = if kind & 3 == 2 { pointer + 16 } else { pointer };
    // SAFETY: a local of 16 bytes.
    let failed = unsafe { bpf_probe_read_user(raw.as_mut_ptr().cast(), 16, at as *const _) };
    if failed != 0 {
        return None;
    }
    let unit = if kind & 3 == 1 { 1000 } else { 1 };
    Some(raw[0].wrapping_mul(1_000_000_000).wrapping_add(raw[1].wrapping_mul(unit)))
}
