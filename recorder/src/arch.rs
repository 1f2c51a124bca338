//! What differs between the architectures that are recorded: the tables of calls, where a call's entry leaves the
//! registers, how 32-bit calls are told apart, and the layout of the few user structures that are not the same.
//!
//! The kernel half knows no machine by itself: it is told here, through `Globals`. Every description is compiled
//! everywhere, so that tests of one machine check the tables of the other.

use crate::btf::Kernel;
use ctrace_abi::{Globals, abi, machine};
use ctrace_format::{Abi, syscalls};

/// One architecture.
pub(crate) struct Arch {
    /// Table of its own calls.
    pub(crate) native: Abi,
    /// Table of 32-bit calls on it.
    pub(crate) compat: Abi,
    /// Size of `struct epoll_event`, and where its data lies.
    pub(crate) epoll_event: [usize; 2],
    /// Where `struct stat` has `st_mode`; `st_ino` and `st_size` lie at 8 and 48 on both.
    pub(crate) stat_mode: usize,
    machine: u32,
    x32_bit: u32,
    compat_field: &'static str,
    compat_mask: u32,
    args: &'static str,
    more: &'static str,
    nr: &'static str,
    /// Where a function leaves its result.
    result: &'static str,
    /// Fields of `struct pt_regs` that the kernel half takes from one read, and the distance that it relies on.
    layout: &'static [(&'static str, &'static str, u32)],
}

pub(crate) static X86_64: Arch = Arch {
    native: Abi::X86_64,
    compat: Abi::I386,
    // Packed, include/uapi/linux/eventpoll.h.
    epoll_event: [12, 4],
    // arch/x86/include/uapi/asm/stat.h.
    stat_mode: 24,
    machine: machine::X86_64,
    // __X32_SYSCALL_BIT, arch/x86/include/uapi/asm/unistd.h.
    x32_bit: 0x4000_0000,
    // TS_COMPAT, arch/x86/include/asm/thread_info.h.
    compat_field: "thread_info.status",
    compat_mask: 2,
    args: "r10",
    more: "bp",
    nr: "orig_ax",
    result: "ax",
    layout: &[
        ("r10", "r9", 8),
        ("r10", "r8", 16),
        ("r10", "ax", 24),
        ("r10", "cx", 32),
        ("r10", "dx", 40),
        ("r10", "si", 48),
        ("r10", "di", 56),
        ("bp", "bx", 8),
    ],
};

pub(crate) static AARCH64: Arch = Arch {
    native: Abi::Aarch64,
    compat: Abi::Arm,
    epoll_event: [16, 8],
    // include/uapi/asm-generic/stat.h.
    stat_mode: 16,
    machine: machine::AARCH64,
    x32_bit: 0,
    // TIF_32BIT, arch/arm64/include/asm/thread_info.h.
    compat_field: "thread_info.flags",
    compat_mask: 1 << 22,
    args: "regs",
    more: "orig_x0",
    nr: "syscallno",
    result: "regs",
    // An array: its elements cannot be apart. `sp` follows its 31 words.
    layout: &[("regs", "sp", 31 * 8)],
};

/// The architecture that this build runs on.
pub(crate) static HOST: &Arch = if cfg!(target_arch = "aarch64") { &AARCH64 } else { &X86_64 };
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!(
    "ctrace records on x86-64 and aarch64; another architecture needs a description in recorder/src/arch.rs"
);

impl Arch {
    /// Tells the kernel half about this machine. The names of what its kernel lacks.
    pub(crate) fn describe(&self, kernel: &Kernel, globals: &mut Globals) -> Vec<String> {
        let mut missing = Vec::new();
        globals.machine = self.machine;
        globals.x32_bit = self.x32_bit;
        globals.epoll_event_bytes = self.epoll_event[0] as u32;
        globals.compat_mask = self.compat_mask;
        globals.nr_execve = self.number("execve");
        match kernel.offset("task_struct", self.compat_field) {
            Some(at) => globals.task_compat = at,
            None => missing.push(format!("task_struct.{}", self.compat_field)),
        }
        let register = |name: &str| kernel.offset("pt_regs", name);
        let apart = |from: &str, to: &str| register(to)?.checked_sub(register(from)?);
        for (from, to, distance) in self.layout {
            if apart(from, to) != Some(*distance) {
                missing.push(format!("pt_regs.{to} {distance} bytes after {from}"));
            }
        }
        for (slot, name) in [
            (&mut globals.regs_args, self.args),
            (&mut globals.regs_more, self.more),
            (&mut globals.regs_nr, self.nr),
            (&mut globals.regs_result, self.result),
        ] {
            match register(name) {
                Some(at) => *slot = at,
                None => missing.push(format!("pt_regs.{name}")),
            }
        }
        missing
    }

    /// The number of a call in this machine's own table; one that no call has when it is not there.
    pub(crate) fn number(&self, name: &str) -> u32 {
        syscalls::number(self.native, name).map_or(u32::MAX, |s| s.nr)
    }

    /// A number of x32 without the bit that says so.
    pub(crate) fn without_x32(&self, nr: u32) -> Option<u32> {
        (nr & self.x32_bit != 0).then_some(nr & !self.x32_bit)
    }

    /// The table of a recorded call.
    pub(crate) fn table(&self, how: u8) -> Abi {
        match how {
            abi::COMPAT => self.compat,
            abi::X32 => Abi::X32,
            _ => self.native,
        }
    }
}

/// Whether pointers and longs have 32 bits in the calls of a table.
pub(crate) fn is_narrow(abi: Abi) -> bool {
    matches!(abi, Abi::I386 | Abi::Arm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctrace_abi::MISSING;

    #[test]
    fn the_running_kernel_keeps_registers_where_the_kernel_half_looks() {
        let Ok(kernel) = Kernel::open() else {
            eprintln!("skipped: no readable BTF");
            return;
        };
        let mut globals = Globals::unknown();
        assert_eq!(HOST.describe(&kernel, &mut globals), Vec::<String>::new());
        for offset in
            [globals.regs_args, globals.regs_more, globals.regs_nr, globals.regs_result, globals.task_compat]
        {
            assert_ne!(offset, MISSING);
        }
        assert_ne!(globals.machine, 0);
    }

    #[test]
    fn a_kernel_of_another_machine_is_recognised_by_its_registers() {
        let Ok(kernel) = Kernel::open() else {
            eprintln!("skipped: no readable BTF");
            return;
        };
        let other = if HOST.native == Abi::X86_64 { &AARCH64 } else { &X86_64 };
        let missing = other.describe(&kernel, &mut Globals::unknown());
        assert!(missing.iter().any(|m| m.starts_with("pt_regs.")), "{missing:?}");
    }

    #[test]
    fn calls_have_the_numbers_of_their_own_machine() {
        // arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h.
        assert_eq!((X86_64.number("execve"), AARCH64.number("execve")), (59, 221));
        assert_eq!((X86_64.number("open"), AARCH64.number("open")), (2, u32::MAX));
        assert_eq!((X86_64.table(abi::COMPAT), AARCH64.table(abi::COMPAT)), (Abi::I386, Abi::Arm));
        assert_eq!((X86_64.table(abi::NATIVE), AARCH64.table(abi::NATIVE)), (Abi::X86_64, Abi::Aarch64));
    }
}
