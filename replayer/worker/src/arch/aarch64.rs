//! aarch64.

use core::arch::{asm, global_asm};

pub mod nr {
    pub const OPENAT: u32 = 56;
    pub const FCHMOD: u32 = 52;
    pub const PWRITE64: u32 = 68;
    pub const SENDFILE: u32 = 71;
    pub const STATX: u32 = 291;
    pub const UNLINKAT: u32 = 35;
    pub const EPOLL_CTL: u32 = 21;
    pub const EPOLL_PWAIT: u32 = 22;
    pub const CLOSE: u32 = 57;
    pub const SOCKET: u32 = 198;
    pub const BIND: u32 = 200;
    pub const GETSOCKNAME: u32 = 204;
    pub const SETSOCKOPT: u32 = 208;
    pub const CONNECT: u32 = 203;
    pub const PPOLL: u32 = 73;
    /// With five arguments.
    pub const SELECT: Option<u32> = None;
    pub const MADVISE: u32 = 233;
    pub const SHMAT: u32 = 196;
    pub const CLONE: u32 = 220;
    pub const CLONE3: u32 = 435;
    pub const EXIT_GROUP: u32 = 94;
    pub const GETTID: u32 = 178;
    pub const GETCPU: u32 = 168;
    pub const FUTEX: u32 = 98;
    pub const CLOCK_GETTIME: u32 = 113;
    pub const CLOCK_NANOSLEEP: u32 = 115;
    pub const GETITIMER: u32 = 102;
    pub const TKILL: u32 = 130;
    pub const WAITID: u32 = 95;
    pub const RT_SIGPENDING: u32 = 136;
    pub const RT_TGSIGQUEUEINFO: u32 = 240;
    pub const DUP3: u32 = 24;
    pub const EVENTFD2: u32 = 19;
    pub const LSEEK: u32 = 62;
    pub const FTRUNCATE: u32 = 46;
    pub const PRLIMIT64: u32 = 261;
    pub const FCNTL: u32 = 25;
    pub const RT_SIGPROCMASK: u32 = 135;
    pub const EXECVEAT: u32 = 281;
    pub const MMAP: u32 = 222;
    pub const MPROTECT: u32 = 226;
    pub const MUNMAP: u32 = 215;
    pub const MREMAP: u32 = 216;
    pub const MSYNC: u32 = 227;
    pub const MINCORE: u32 = 232;
    pub const SHMCTL: u32 = 195;
    pub const FLOCK: u32 = 32;
    pub const MLOCK: u32 = 228;
    pub const MUNLOCK: u32 = 229;
    pub const PRCTL: u32 = 167;
    pub const SHMDT: u32 = 197;
    pub const REMAP_FILE_PAGES: u32 = 234;
    pub const INOTIFY_ADD_WATCH: u32 = 27;
    pub const MLOCK2: u32 = 284;
    pub const PKEY_MPROTECT: u32 = 288;
    pub const MSEAL: u32 = 462;
}

/// `struct epoll_event`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct EpollEvent {
    pub events: u32,
    pub data: u64,
}

/// Index of the TLS and child-tid arguments of `clone` (CONFIG_CLONE_BACKWARDS).
pub const CLONE_TLS_ARG: usize = 3;
pub const CLONE_CTID_ARG: usize = 4;
/// The kernel returns through its vDSO unless told otherwise.
pub const SA_RESTORER: u64 = 0x0400_0000;

global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x0, sp",
    "bl {start}",
    "brk #1",
    ".globl ctrace_call, ctrace_call_insn, ctrace_call_done",
    "ctrace_call:",
    "ldr w9, [x2]",
    "cbnz w9, 3f",
    "mov w8, w0",
    "mov x9, x1",
    "ldp x0, x1, [x9]",
    "ldp x2, x3, [x9, #16]",
    "ldp x4, x5, [x9, #32]",
    "ctrace_call_insn:",
    "svc #0",
    "ctrace_call_done:",
    "ret",
    "3:",
    "mov x0, #1",
    "lsl x0, x0, #63",
    "ret",
    ".globl ctrace_clone",
    "ctrace_clone:",
    "mov w8, w0",
    "mov x9, x1",
    "mov x10, x2",
    "mov x11, x3",
    "ldp x0, x1, [x9]",
    "ldp x2, x3, [x9, #16]",
    "ldp x4, x5, [x9, #32]",
    "svc #0",
    "cbz x0, 2f",
    "ret",
    "2:",
    "mov sp, x10",
    "mov x29, xzr",
    "mov x0, x11",
    "bl {child}",
    "brk #1",
    ".globl ctrace_restorer",
    "ctrace_restorer:",
    "mov x8, #139",
    "svc #0",
    "brk #1",
    ".globl ctrace_switch",
    "ctrace_switch:",
    "mov sp, x1",
    "mov x29, xzr",
    "bl {resume}",
    "brk #1",
    start = sym crate::start,
    child = sym crate::interp::child_entry,
    resume = sym crate::interp::resume_entry,
);

/// The engine's own call.
#[inline(always)]
pub fn syscall(nr: u32, a: [u64; 6]) -> i64 {
    let mut ret = a[0];
    // SAFETY: the caller answers for the call.
    unsafe {
        asm!("svc #0", in("x8") nr as u64, inlateout("x0") ret, in("x1") a[1], in("x2") a[2], in("x3") a[3],
            in("x4") a[4], in("x5") a[5], options(nostack));
    }
    ret as i64
}

/// The virtual counter.
#[inline(always)]
pub fn counter() -> u64 {
    let value: u64;
    // SAFETY: reads a register that user space may read.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) value, options(nomem, nostack)) };
    value
}

#[inline(always)]
pub fn relax() {
    // SAFETY: yield has no effect.
    unsafe { asm!("yield", options(nomem, nostack)) };
}

pub fn stack_pointer() -> u64 {
    let sp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) sp, options(nomem, nostack)) };
    sp
}

// struct ucontext: flags, link, stack (3 words), sigmask (1 word, padded to 128 bytes), then sigcontext aligned to 16:
// fault address, x0..x30, sp, pc.
const CONTEXT: usize = (40 + 128 + 8) / 8;
/// Words from a signal's `ucontext` to the register of a call's result.
pub const RESULT_WORD: usize = CONTEXT + 1;
/// To the registers of its first arguments.
pub const ARG_WORDS: [usize; 3] = [CONTEXT + 1, CONTEXT + 2, CONTEXT + 3];
/// And to the instruction pointer.
pub const PC_WORD: usize = CONTEXT + 1 + 31 + 1;

// What core expects of a C library. Byte stores that the compiler may not turn back into calls of these functions.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    for i in 0..len {
        // SAFETY: the caller's promise is memcpy's.
        unsafe { to.add(i).write_volatile(from.add(i).read()) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    for i in 0..len {
        // SAFETY: the caller's promise is memset's.
        unsafe { to.add(i).write_volatile(byte as u8) };
    }
    to
}
