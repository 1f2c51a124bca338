//! x86-64.

use core::arch::{asm, global_asm};

pub mod nr {
    pub const OPENAT: u32 = 257;
    pub const FCHMOD: u32 = 91;
    pub const PWRITE64: u32 = 18;
    pub const SENDFILE: u32 = 40;
    pub const STATX: u32 = 332;
    pub const UNLINKAT: u32 = 263;
    pub const EPOLL_CTL: u32 = 233;
    pub const EPOLL_PWAIT: u32 = 281;
    pub const CLOSE: u32 = 3;
    pub const SOCKET: u32 = 41;
    pub const BIND: u32 = 49;
    pub const GETSOCKNAME: u32 = 51;
    pub const SETSOCKOPT: u32 = 54;
    pub const CONNECT: u32 = 42;
    pub const PPOLL: u32 = 271;
    /// With five arguments.
    pub const SELECT: Option<u32> = Some(23);
    pub const MADVISE: u32 = 28;
    pub const SHMAT: u32 = 30;
    pub const CLONE: u32 = 56;
    pub const CLONE3: u32 = 435;
    pub const EXIT_GROUP: u32 = 231;
    pub const GETTID: u32 = 186;
    pub const GETCPU: u32 = 309;
    pub const FUTEX: u32 = 202;
    pub const CLOCK_GETTIME: u32 = 228;
    pub const CLOCK_NANOSLEEP: u32 = 230;
    pub const GETITIMER: u32 = 36;
    pub const TKILL: u32 = 200;
    pub const WAITID: u32 = 247;
    pub const RT_SIGPENDING: u32 = 127;
    pub const RT_TGSIGQUEUEINFO: u32 = 297;
    pub const DUP3: u32 = 292;
    pub const EVENTFD2: u32 = 290;
    pub const LSEEK: u32 = 8;
    pub const FTRUNCATE: u32 = 77;
    pub const PRLIMIT64: u32 = 302;
    pub const FCNTL: u32 = 72;
    pub const RT_SIGPROCMASK: u32 = 14;
    pub const EXECVEAT: u32 = 322;
    pub const MMAP: u32 = 9;
    pub const MPROTECT: u32 = 10;
    pub const MUNMAP: u32 = 11;
    pub const MREMAP: u32 = 25;
    pub const MSYNC: u32 = 26;
    pub const MINCORE: u32 = 27;
    pub const SHMCTL: u32 = 31;
    pub const FLOCK: u32 = 73;
    pub const MLOCK: u32 = 149;
    pub const MUNLOCK: u32 = 150;
    pub const PRCTL: u32 = 157;
    pub const SHMDT: u32 = 67;
    pub const REMAP_FILE_PAGES: u32 = 216;
    pub const INOTIFY_ADD_WATCH: u32 = 254;
    pub const MLOCK2: u32 = 325;
    pub const PKEY_MPROTECT: u32 = 329;
    pub const MSEAL: u32 = 462;
}

/// `struct epoll_event`.
#[derive(Clone, Copy)]
#[repr(C, packed)]
pub struct EpollEvent {
    pub events: u32,
    pub data: u64,
}

/// Index of the TLS and child-tid arguments of `clone`.
pub const CLONE_TLS_ARG: usize = 4;
pub const CLONE_CTID_ARG: usize = 3;
/// `sa_flags` bit that says `sa_restorer` is valid; the kernel insists on it.
pub const SA_RESTORER: u64 = 0x0400_0000;

global_asm!(
    // The kernel jumps here with the argument block at the stack pointer.
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    // i64 ctrace_call(nr, args: *const [u64; 6], unless: *const u32): the replayed call, or NOT_MADE when `unless` is set.
    // The labels tell a signal handler where it struck: before the look at `unless` it sets that, after it skips the call.
    ".globl ctrace_call, ctrace_call_insn, ctrace_call_done",
    "ctrace_call:",
    "cmp dword ptr [rdx], 0",
    "jne 3f",
    "mov eax, edi",
    "mov rdi, [rsi]",
    "mov rdx, [rsi + 16]",
    "mov r10, [rsi + 24]",
    "mov r8, [rsi + 32]",
    "mov r9, [rsi + 40]",
    "mov rsi, [rsi + 8]",
    "ctrace_call_insn:",
    "syscall",
    "ctrace_call_done:",
    "ret",
    "3:",
    "mov eax, 1",
    "shl rax, 63",
    "ret",
    // i64 ctrace_clone(nr, args, child_stack, child_task): the child does not return but enters child_entry.
    // No memory is touched between the call and the change of stacks: the child may share the parent's.
    ".globl ctrace_clone",
    "ctrace_clone:",
    "push r12",
    "push r13",
    "mov r12, rdx",
    "mov r13, rcx",
    "mov eax, edi",
    "mov rdi, [rsi]",
    "mov rdx, [rsi + 16]",
    "mov r10, [rsi + 24]",
    "mov r8, [rsi + 32]",
    "mov r9, [rsi + 40]",
    "mov rsi, [rsi + 8]",
    "syscall",
    "test rax, rax",
    "jz 2f",
    "pop r13",
    "pop r12",
    "ret",
    "2:",
    "mov rsp, r12",
    "xor ebp, ebp",
    "mov rdi, r13",
    "call {child}",
    "ud2",
    // The end of a signal handler: the replayed rt_sigreturn.
    ".globl ctrace_restorer",
    "ctrace_restorer:",
    "mov eax, 15",
    "syscall",
    "ud2",
    // void ctrace_switch(task, stack): leaves the kernel's stack for the task's.
    ".globl ctrace_switch",
    "ctrace_switch:",
    "mov rsp, rsi",
    "xor ebp, ebp",
    "call {resume}",
    "ud2",
    start = sym crate::start,
    child = sym crate::interp::child_entry,
    resume = sym crate::interp::resume_entry,
);

/// The engine's own call.
#[inline(always)]
pub fn syscall(nr: u32, a: [u64; 6]) -> i64 {
    let mut ret = nr as u64;
    // SAFETY: the caller answers for the call; the kernel clobbers rcx and r11 only.
    unsafe {
        asm!("syscall", inlateout("rax") ret, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3],
            in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    ret as i64
}

/// The cycle counter.
#[inline(always)]
pub fn counter() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: rdtsc has no effect but its result; the runner checks that it is usable.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack)) };
    (high as u64) << 32 | low as u64
}

#[inline(always)]
pub fn relax() {
    // SAFETY: pause has no effect.
    unsafe { asm!("pause", options(nomem, nostack)) };
}

pub fn stack_pointer() -> u64 {
    let sp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack)) };
    sp
}

// struct ucontext: flags, link, stack (3 words), then sigcontext: r8..r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
/// Words from a signal's `ucontext` to the register of a call's result.
pub const RESULT_WORD: usize = 5 + 13;
/// To the registers of its first arguments.
pub const ARG_WORDS: [usize; 3] = [5 + 8, 5 + 9, 5 + 12];
/// And to the instruction pointer.
pub const PC_WORD: usize = 5 + 16;

// What core expects of a C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise is memcpy's.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise is memset's.
    unsafe {
        asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte as u8, options(nostack, preserves_flags));
    }
    to
}
