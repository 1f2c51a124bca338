//! What no step of a trace may act on, whatever its operands come to: the engine's own memory, and device nodes that are the
//! host's.

use crate::arch::nr;
use crate::engine::marked;
use crate::state::{Task, control, count, header};
use core::sync::atomic::Ordering::Relaxed;
use ctrace_program::{CONTROL_BASE, PROGRAM_BASE, RESERVED_BYTES};

const MAP_FIXED: u64 = 0x10;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
const MREMAP_FIXED: u64 = 2;
const AT_FDCWD: u64 = -100_i64 as u64;
const AT_EMPTY_PATH: u64 = 0x1000;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const IN_DONT_FOLLOW: u64 = 0x0200_0000;
const STATX_TYPE: u64 = 1;
const S_IFMT: u64 = 0o170_000;
const S_IFCHR: u64 = 0o020_000;
/// Words of `struct statx` to the one with the mode, and to the one with the device's number.
const STATX_MODE_WORD: usize = 3;
const STATX_RDEV_WORD: usize = 16;
/// Device numbers of memory devices, and of the terminal of a session (Documentation/admin-guide/devices.txt).
const MEMORY_MAJOR: u64 = 1;
const SESSION_TERMINAL: (u64, u64) = (5, 0);

// Of the linker: where the worker's image lies.
unsafe extern "C" {
    static __executable_start: u8;
    static _end: u8;
}

/// Whether a range of addresses has a page of the engine's: the program, the control region up to what stands for the
/// program's own mappings, the worker's image. A range that wraps around has.
pub fn is_engine_memory(address: u64, bytes: u64) -> bool {
    // As the kernel does: whole pages.
    let begin = address & !4095;
    let Some(end) = address.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(4096)) else {
        return true;
    };
    let (image, image_end) = (&raw const __executable_start as u64, &raw const _end as u64);
    [
        (PROGRAM_BASE - RESERVED_BYTES, PROGRAM_BASE + header().len),
        (CONTROL_BASE, CONTROL_BASE + control().layout.stand_in),
        (image & !4095, image_end),
    ]
    .iter()
    .any(|&(from, to)| begin < to && end > from)
}

/// Whether a call may be made with these arguments.
#[inline]
pub fn allows(task: &Task, number: u32, regs: &[u64; 6]) -> bool {
    let [first, second, third, fourth, fifth, _] = *regs;
    match number {
        nr::MUNMAP
        | nr::MPROTECT
        | nr::MADVISE
        | nr::MSYNC
        | nr::MLOCK
        | nr::MUNLOCK
        | nr::MLOCK2
        | nr::MINCORE
        | nr::PKEY_MPROTECT
        | nr::REMAP_FILE_PAGES
        | nr::MSEAL => !is_engine_memory(first, second),
        nr::MMAP if fourth & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 => !is_engine_memory(first, second),
        nr::MREMAP => {
            let to = if fourth & MREMAP_FIXED != 0 { (fifth, third) } else { (0, 0) };
            !is_engine_memory(first, second.max(third)) && !is_engine_memory(to.0, to.1)
        }
        nr::SHMDT => !is_engine_memory(first, 1),
        nr::SHMAT => {
            first as i32 != control().shm_id.load(Relaxed) && (second == 0 || !is_engine_memory(second, 1))
        }
        nr::SHMCTL => first as i32 != control().shm_id.load(Relaxed),
        nr::FLOCK | nr::INOTIFY_ADD_WATCH if control().host_devices.load(Relaxed) != 0 => {
            count(&task.slot.counters.engine_calls, 1);
            if number == nr::FLOCK {
                !is_device_of_the_host(first, c"".as_ptr() as u64, AT_EMPTY_PATH)
            } else {
                let follow = if third & IN_DONT_FOLLOW != 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
                !is_device_of_the_host(AT_FDCWD, second, follow)
            }
        }
        _ => true,
    }
}

fn is_device_of_the_host(directory: u64, path: u64, flags: u64) -> bool {
    let mut statx = [0_u64; 32];
    let ret = marked(nr::STATX, [directory, path, flags, STATX_TYPE, statx.as_mut_ptr() as u64]);
    // SAFETY: the kernel wrote it behind the compiler's back.
    let statx = unsafe { core::ptr::from_ref(&statx).read_volatile() };
    let mode = statx[STATX_MODE_WORD] >> 32 & 0xffff;
    let (major, minor) = (statx[STATX_RDEV_WORD] & 0xffff_ffff, statx[STATX_RDEV_WORD] >> 32);
    ret == 0 && mode & S_IFMT == S_IFCHR && (major == MEMORY_MAJOR || (major, minor) == SESSION_TERMINAL)
}
