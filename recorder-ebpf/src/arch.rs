//! What differs between architectures: where the entry of a call left the caller's registers, and how 32-bit calls are
//! told apart. One object serves them all: user space names the machine and the offsets in `GLOBALS`, and the verifier
//! drops the code of the other machines.

use crate::{
    kernel::{read, read_or_zero},
    maps::global,
};
use ctrace_abi::{MISSING, machine};

/// Whether the running call of the calling task is a 32-bit one. On x86-64 this is `TS_COMPAT` in
/// `thread_info.status`, set by the 32-bit entries; on aarch64 `TIF_32BIT` in `thread_info.flags`, a property of the task.
#[inline(always)]
pub fn is_compat(task: *const u8) -> bool {
    let offset = global!(task_compat);
    if offset == MISSING {
        return false;
    }
    // SAFETY: a typed pointer plus the offset of a field of `thread_info`; the verifier checks the access.
    let word = unsafe { core::ptr::read_volatile(task.add(offset as usize).cast::<u32>()) };
    word & global!(compat_mask) != 0
}

/// Whether a number that is no 32-bit call's is an x32 call's (`__X32_SYSCALL_BIT`).
#[inline(always)]
pub fn is_x32(id: u64) -> bool {
    id & u64::from(global!(x32_bit)) != 0
}

/// The number of the call whose registers these are.
#[inline(always)]
pub fn nr(regs: u64) -> u32 {
    read_or_zero(regs, global!(regs_nr))
}

/// The arguments, at a call's entry.
#[inline(always)]
pub fn arguments(regs: u64, compat: bool) -> Option<[u64; 6]> {
    match global!(machine) {
        machine::X86_64 => x86_64(regs, compat),
        machine::AARCH64 => aarch64(regs, compat),
        _ => None,
    }
}

/// The arguments, at a call's exit: the kernel restores the registers that held them. On x86-64 only `ax`, `cx` and
/// `r11` change, which hold none of a 64-bit call's (arch/x86/entry/entry_64.S). On aarch64 the result replaces the
/// first argument, which the entry kept in `orig_x0` (arch/arm64/kernel/syscall.c).
#[inline(always)]
pub fn arguments_at_exit(regs: u64, compat: bool) -> Option<[u64; 6]> {
    let mut args = arguments(regs, compat)?;
    if global!(machine) == machine::AARCH64 {
        let first: u64 = read(regs, global!(regs_more))?;
        args[0] = if compat { narrow(first) } else { first };
    }
    Some(args)
}

/// The first four arguments of a function, at its entry (a kprobe's context). On x86-64 the fourth is not where a
/// call's is.
#[inline(always)]
pub fn parameters(regs: u64) -> Option<[u64; 4]> {
    match global!(machine) {
        machine::X86_64 => {
            let r = read::<[u64; 8]>(regs, global!(regs_args))?;
            Some([r[7], r[6], r[5], r[4]])
        }
        machine::AARCH64 => read(regs, global!(regs_args)),
        _ => None,
    }
}

/// The result of a function, when it returns (a kretprobe's context).
#[inline(always)]
pub fn result(regs: u64) -> Option<u64> {
    read(regs, global!(regs_result))
}

#[inline(always)]
fn x86_64(regs: u64, compat: bool) -> Option<[u64; 6]> {
    // r10 r9 r8 ax cx dx si di
    let r = read::<[u64; 8]>(regs, global!(regs_args))?;
    if compat {
        // bp bx
        let low = read_or_zero::<[u64; 2]>(regs, global!(regs_more));
        Some([narrow(low[1]), narrow(r[4]), narrow(r[5]), narrow(r[6]), narrow(r[7]), narrow(low[0])])
    } else {
        Some([r[7], r[6], r[5], r[0], r[2], r[1]])
    }
}

/// Both tables take their arguments from the first six registers.
#[inline(always)]
fn aarch64(regs: u64, compat: bool) -> Option<[u64; 6]> {
    let r = read::<[u64; 6]>(regs, global!(regs_args))?;
    Some(if compat { r.map(narrow) } else { r })
}

#[inline(always)]
fn narrow(v: u64) -> u64 {
    v & 0xffff_ffff
}
