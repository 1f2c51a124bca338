//! Reading kernel memory.

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_kernel};
use ctrace_abi::MISSING;

/// The calling task. Loads from it need no helper call: it is a typed pointer, whose faults the kernel catches.
#[inline(always)]
pub fn current() -> *const u8 {
    // SAFETY: no preconditions (Linux 5.11).
    unsafe { bpf_get_current_task_btf() as *const u8 }
}

/// Reads a `T` at `base + offset`. `None` when the field does not exist on this kernel or cannot be read.
#[inline(always)]
pub fn read<T: Copy>(base: u64, offset: u32) -> Option<T> {
    if offset == MISSING || base == 0 {
        return None;
    }
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes `size_of::<T>()` bytes, or zeroes them when it fails.
    let failed = unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            (base + u64::from(offset)) as *const core::ffi::c_void,
        )
    };
    // SAFETY: written above; `T` is an integer or an array of integers.
    if failed == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// As [`read`], straight to where it belongs; zeroes it when there is nothing to read. A function that other functions
/// call keeps its frame small with it: until Linux 6.13 the frames of a chain of calls share 512 bytes
/// (`check_max_stack_depth`, kernel/bpf/verifier.c).
#[inline(always)]
pub fn read_to<T>(to: *mut T, base: u64, offset: u32) {
    let from = if offset == MISSING || base == 0 { 0 } else { base + u64::from(offset) };
    // SAFETY: the verifier checks that `to` has `size_of::<T>()` bytes. The helper zeroes them when it fails, as it
    // does for address 0. Callers pass integers and arrays of integers.
    unsafe { bpf_probe_read_kernel(to.cast(), size_of::<T>() as u32, from as *const core::ffi::c_void) };
}

/// As [`read`], with 0 for what is missing.
#[inline(always)]
pub fn read_or_zero<T: Copy + Default>(base: u64, offset: u32) -> T {
    read(base, offset).unwrap_or_default()
}
