//! Reading kernel memory.

use crate::maps::{SHARED, global};
use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_jiffies64, bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_probe_read_user_str,
};
use core::{arch::asm, ffi::c_void};
use ctrace_abi::{COPIES, MISSING, Shared, Slot};

/// The time, `CLOCK_BOOTTIME`: a fifth faster than the kernel's own helper for it.
#[inline(always)]
pub fn now() -> u64 {
    let offset = match SHARED.get(0) {
        Some(shared) => boot_offset(shared),
        None => 0,
    };
    // SAFETY: no preconditions.
    unsafe { bpf_ktime_get_ns() }.wrapping_add(offset)
}

/// As [`now`], for who has looked [`Shared`] up already.
#[inline(always)]
pub fn now_by(shared: *const Shared) -> u64 {
    // SAFETY: no preconditions; the value of the map is there as long as the map.
    unsafe { bpf_ktime_get_ns().wrapping_add(boot_offset(&*shared)) }
}

#[inline(always)]
fn boot_offset(shared: &Shared) -> u64 {
    // SAFETY: user space writes whole words.
    unsafe { core::ptr::read_volatile(&raw const shared.boot_offset) }
}

/// The kernel's count of timer ticks: a load, where the time is a helper call and a look at the clock.
#[inline(always)]
pub fn ticks() -> u32 {
    // SAFETY: no preconditions (Linux 5.6).
    unsafe { bpf_jiffies64() as u32 }
}

/// Kernel memory, as a pointer that can be loaded through: a fault reads as 0 (`bpf_rdonly_cast` to `void`, since Linux
/// 6.17). The verifier drops the call itself, so that a field costs a load and a compare, where `bpf_probe_read_kernel`
/// costs as much as half a system call. Only where [`ctrace_abi::Globals::direct`] says so: elsewhere there is no such
/// function, and the verifier never comes here.
#[inline(always)]
fn memory(address: u64) -> *const u8 {
    // SAFETY: no helper has this number: user space puts the kernel's function in its place before the programs are
    // loaded.
    let cast: unsafe extern "C" fn(u64, u64) -> *const u8 =
        unsafe { core::mem::transmute(ctrace_abi::RDONLY_CAST as usize) };
    // SAFETY: takes any address.
    unsafe { cast(address, 0) }
}

/// A pointer that was loaded from a structure that [`current_of`] leads to.
#[inline(always)]
pub fn follow(pointer: *const u8) -> *const u8 {
    if global!(direct) != 0 { memory(pointer as u64) } else { pointer }
}

/// The calling task, which has this slot.
#[inline(always)]
pub fn current_of(slot: &Slot) -> *const u8 {
    if global!(direct) != 0 { memory(slot.task) } else { current() }
}

/// The calling task. Loads from it need no helper call: it is a typed pointer, whose faults the kernel catches.
#[inline(always)]
pub fn current() -> *const u8 {
    // SAFETY: no preconditions (Linux 5.11).
    unsafe { bpf_get_current_task_btf() as *const u8 }
}

/// Copies a record word by word: the compiler's own `memmove` for this target goes byte by byte.
///
/// # Safety
/// Both are valid, and aligned to 8; `T` is a multiple of 8 bytes.
#[inline(always)]
pub unsafe fn copy_words<T>(to: *mut T, from: *const T) {
    for i in 0..size_of::<T>() / 8 {
        // SAFETY: as above. Volatile, or it would become a `memmove` again.
        unsafe { to.cast::<u64>().add(i).write_volatile(from.cast::<u64>().add(i).read_volatile()) };
    }
}

/// Copies `words` words, at most as many as a slot keeps.
///
/// # Safety
/// Both are valid for `COPIES` bytes, and aligned to 8.
#[inline(always)]
pub unsafe fn copy_some_words(to: *mut u64, from: *const u64, words: u32) {
    for i in 0..COPIES / 8 {
        if i as u32 >= words {
            break;
        }
        // SAFETY: as above. Volatile, or it would become a `memmove` again.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
}

/// Adds to a word of a map, whoever else adds to it. (The target's `core` has no such operation.)
#[inline(always)]
pub fn add(to: *mut u64, n: u64) {
    // SAFETY: the verifier checks the place.
    unsafe { asm!("lock *(u64 *)({to} + 0) += {n}", to = in(reg) to, n = in(reg) n, options(nostack)) };
}

/// Replaces a word; what was written before is visible before it.
#[inline(always)]
pub fn exchange(to: *mut u64, n: u64) {
    // SAFETY: the verifier checks the place.
    unsafe { asm!("{n} = xchg_64({to} + 0, {n})", to = in(reg) to, n = inout(reg) n => _, options(nostack)) };
}

/// As [`add`]; gives the value before.
#[inline(always)]
pub fn fetch_add(to: *mut u64, mut n: u64) -> u64 {
    // SAFETY: the verifier checks the place.
    unsafe {
        asm!("{n} = atomic_fetch_add((u64 *)({to} + 0), {n})", to = in(reg) to, n = inout(reg) n, options(nostack));
    }
    n
}

/// As [`add`].
#[inline(always)]
pub fn add_32(to: *mut u32, n: u64) {
    // SAFETY: the verifier checks the place.
    unsafe { asm!("lock *(u32 *)({to} + 0) += {n}", to = in(reg) to, n = in(reg) n, options(nostack)) };
}

/// Whether a `T` is one integer, or some of 64 bits.
#[inline(always)]
const fn is_words<T>() -> bool {
    align_of::<T>() == 8 || size_of::<T>() == align_of::<T>()
}

/// Loads a `T`, word by word.
///
/// # Safety
/// `T` is as [`is_words`] asks; `to` is valid, `from` is [`memory`].
#[inline(always)]
unsafe fn load<T>(to: *mut T, from: *const u8) {
    // SAFETY: as above.
    unsafe {
        match size_of::<T>() {
            1 => to.cast::<u8>().write(from.read_volatile()),
            2 => to.cast::<u16>().write(from.cast::<u16>().read_volatile()),
            4 => to.cast::<u32>().write(from.cast::<u32>().read_volatile()),
            n => {
                for i in 0..n / 8 {
                    to.cast::<u64>().add(i).write(from.cast::<u64>().add(i).read_volatile());
                }
            }
        }
    }
}

/// Reads a `T` at `base + offset`. `None` when the field does not exist on this kernel or cannot be read.
#[inline(always)]
pub fn read<T: Copy>(base: u64, offset: u32) -> Option<T> {
    if offset == MISSING || base == 0 {
        return None;
    }
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    let from = base + u64::from(offset);
    if is_words::<T>() && global!(direct) != 0 {
        // SAFETY: all of the value is written.
        unsafe { load(value.as_mut_ptr(), memory(from)) };
    } else {
        // SAFETY: the helper writes `size_of::<T>()` bytes, or zeroes them when it fails.
        let failed = unsafe {
            bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from as *const c_void)
        };
        if failed != 0 {
            return None;
        }
    }
    // SAFETY: written above; `T` is an integer or an array of integers.
    Some(unsafe { value.assume_init() })
}

/// As [`read`], with 0 for what is missing.
#[inline(always)]
pub fn read_or_zero<T: Copy + Default>(base: u64, offset: u32) -> T {
    read_or(base, offset, T::default())
}

/// As [`read`], with a value for what is missing. Not by way of an `Option`: the compiler computes with what a `None`
/// holds before it asks which of both it is, and the verifier takes no register that nobody set.
#[inline(always)]
pub fn read_or<T: Copy>(base: u64, offset: u32, missing: T) -> T {
    let mut value = missing;
    if offset == MISSING || base == 0 {
        return missing;
    }
    let from = base + u64::from(offset);
    if is_words::<T>() && global!(direct) != 0 {
        // SAFETY: a local.
        unsafe { load(&raw mut value, memory(from)) };
        return value;
    }
    // SAFETY: a local; the helper writes `size_of::<T>()` bytes, integers or arrays of integers.
    let failed = unsafe {
        bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, from as *const c_void)
    };
    if failed == 0 { value } else { missing }
}

/// As [`read`], straight to where it belongs; zeroes it when there is nothing to read. A function that other functions
/// call keeps its frame small with it: until Linux 6.13 the frames of a chain of calls share 512 bytes
/// (`check_max_stack_depth`, kernel/bpf/verifier.c).
#[inline(always)]
pub fn read_to<T>(to: *mut T, base: u64, offset: u32) {
    let from = if offset == MISSING || base == 0 { 0 } else { base + u64::from(offset) };
    if is_words::<T>() && global!(direct) != 0 {
        // SAFETY: as below; a load from address 0 reads 0.
        return unsafe { load(to, memory(from)) };
    }
    // SAFETY: the verifier checks that `to` has `size_of::<T>()` bytes. The helper zeroes them when it fails, as it
    // does for address 0. Callers pass integers and arrays of integers.
    unsafe { bpf_probe_read_kernel(to.cast(), size_of::<T>() as u32, from as *const c_void) };
}

/// Copies a string of the calling process, at most `max` bytes with its NUL: how many, or an error below 0.
///
/// # Safety
/// `to` has `max` bytes.
#[inline(always)]
pub unsafe fn read_user_str(to: *mut u8, max: usize, from: u64) -> i64 {
    // SAFETY: as above.
    let n = unsafe { bpf_probe_read_user_str(to.cast(), max as u32, from as *const c_void) };
    // Before Linux 6.2 the NUL of an empty string is not counted (8678ea06852c, "maccess: Fix
    // strncpy_from_user_nofault() empty string handling"); it is there.
    if n == 0 { 1 } else { n }
}
