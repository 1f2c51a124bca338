//! Loads from kernel memory without a helper call, where the kernel allows them.
//!
//! `bpf_rdonly_cast(address, 0)` makes a pointer of an address whose loads cannot fault (Linux 6.17; with a type instead
//! of 0, 6.2). It is a function of the kernel rather than a helper: a program names it by the number of its type, which
//! differs from kernel to kernel. The loader of aya does not know such calls, hence the object has calls of a helper
//! that does not exist ([`RDONLY_CAST`]), which are exchanged here before it is loaded.

use super::syscall::bpf;
use ctrace_abi::RDONLY_CAST;
use std::os::fd::{FromRawFd, OwnedFd};

/// `struct bpf_insn`, include/uapi/linux/bpf.h: code, registers (source in the upper half), offset, immediate.
type Insn = [u8; 8];

/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_KFUNC_CALL` as the source register.
const KERNEL_FUNCTION: u8 = 2 << 4;

const fn insn(code: u8, registers: u8, offset: i16, immediate: u32) -> Insn {
    let (o, i) = (offset.to_le_bytes(), immediate.to_le_bytes());
    [code, registers, o[0], o[1], i[0], i[1], i[2], i[3]]
}

/// The object with calls of the kernel's function; `None` when this kernel does not take them.
pub(super) fn object(object: &[u8], function: u32) -> Option<Vec<u8>> {
    if !is_taken(function) {
        return None;
    }
    Some(exchange(object, function))
}

fn exchange(object: &[u8], function: u32) -> Vec<u8> {
    let mut object = object.to_vec();
    // Sections of instructions begin at multiples of their size.
    for at in object.as_chunks_mut().0 {
        if *at == insn(CALL, 0, 0, RDONLY_CAST) {
            *at = insn(CALL, KERNEL_FUNCTION, 0, function);
        }
    }
    object
}

/// Whether the verifier takes a load of every size through a pointer to `void` that was made of an argument.
fn is_taken(function: u32) -> bool {
    #[repr(C)]
    struct Attr {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
    }
    /// `BPF_PROG_TYPE_RAW_TRACEPOINT`.
    const RAW_TRACEPOINT: u32 = 17;
    /// `BPF_PROG_LOAD`.
    const PROG_LOAD: libc::c_int = 5;
    let program = [
        // r1 = the first argument; r2 = 0; r0 = cast(r1, r2)
        insn(0x79, 0x11, 0, 0),
        insn(0xb7, 0x02, 0, 0),
        insn(CALL, KERNEL_FUNCTION, 0, function),
        // r1 = *(u8 *)(r0 + 1), and of 16, 32 and 64 bits
        insn(0x71, 0x01, 1, 0),
        insn(0x69, 0x01, 2, 0),
        insn(0x61, 0x01, 4, 0),
        insn(0x79, 0x01, 8, 0),
        // return 0
        insn(0xb7, 0x00, 0, 0),
        insn(0x95, 0x00, 0, 0),
    ];
    let attr = Attr {
        prog_type: RAW_TRACEPOINT,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
    };
    match bpf(PROG_LOAD, &attr) {
        Ok(fd) => {
            // SAFETY: the kernel has just made it, and nobody else has it.
            drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
            true
        }
        Err(error) => {
            tracing::debug!(%error, "kernel memory cannot be loaded from directly");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{OBJECT, offsets};
    use super::*;

    #[test]
    fn every_marked_call_is_exchanged_and_nothing_else() {
        let marked =
            |o: &[u8]| o.as_chunks().0.iter().filter(|i| **i == insn(CALL, 0, 0, RDONLY_CAST)).count();
        let after = exchange(OBJECT, 65_486);
        assert!(marked(OBJECT) > 0 && marked(&after) == 0);
        let changed = OBJECT.iter().zip(&after).filter(|(a, b)| a != b).count();
        // The register, and the bytes of 0x7ace_0001 that differ from those of 65,486.
        assert_eq!(changed, marked(OBJECT) * 5);
    }

    #[test]
    fn a_function_that_is_none_is_not_taken() {
        if !crate::caps::can_load() {
            eprintln!("skipped: needs CAP_BPF and CAP_PERFMON");
            return;
        }
        // The number of a type that is no function.
        assert!(object(OBJECT, 1).is_none());
        let (_, offsets) = offsets().unwrap();
        let taken = offsets.rdonly_cast.is_some_and(is_taken);
        let release = crate::verifier::kernel();
        let series: Vec<u32> = release.split(['.', ' ']).filter_map(|n| n.parse().ok()).collect();
        assert_eq!(taken, series >= vec![6, 17], "{release}");
    }
}
