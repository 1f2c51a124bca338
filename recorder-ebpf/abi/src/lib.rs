//! The types that the kernel half and the user half of the recorder share.
#![no_std]

/// Value of a system call's sixth argument register that marks a coordination call of the replay engine.
///
/// The kernel ignores that register for calls with fewer than six arguments, and `FUTEX_WAIT`/`FUTEX_WAKE` ignore
/// it too (`kernel/futex/syscalls.c`: `val3` is only used by the bitset, requeue-compare and wake-op operations).
pub const ENGINE_MARK: u64 = 0xC7AC_E0E0_5EED_0001;
