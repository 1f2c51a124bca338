//! Linux's numbers by their names, on any system: a trace is read where it was not recorded.
//!
//! Values are those of x86-64, as 32-bit words. What the other architectures that ctrace records have agrees, except for
//! four flags of `open`: see [`open_flags`]. Error numbers are in [`crate::errno`], system calls in [`crate::syscalls`].

mod file;
mod memory;
mod net;
mod task;

pub use file::*;
pub use memory::*;
pub use net::*;
pub use task::*;

use crate::Abi;
use rustc_hash::FxHashMap;
use std::sync::LazyLock;

/// Defines numbers by their names in the kernel's headers, which say what they are.
macro_rules! numbers {
    ($($name:ident = $value:literal;)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "`.")]
            pub const $name: u32 = $value;
        )*
        /// Names and numbers of this file.
        pub(super) const NUMBERS: &[(&str, u32)] = &[$((stringify!($name), $value)),*];
        #[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
        #[test]
        #[allow(clippy::cast_lossless, reason = "the C library has them in several types")]
        fn they_are_those_of_the_c_library() {
            $(assert_eq!(u64::from($name), libc::$name as u64 & 0xffff_ffff, stringify!($name));)*
        }
    };
}
use numbers;

const ALL: [&[(&str, u32)]; 4] = [file::NUMBERS, memory::NUMBERS, net::NUMBERS, task::NUMBERS];

/// The number of a name in the kernel's headers, where it is one of those that are listed here.
pub fn number(name: &[u8]) -> Option<u32> {
    static BY_NAME: LazyLock<FxHashMap<&[u8], u32>> = LazyLock::new(|| {
        ALL.into_iter().flatten().map(|(name, number)| (name.as_bytes(), *number)).collect()
    });
    BY_NAME.get(name).copied()
}

/// The names that [`number`] knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().flatten().map(|(name, _)| *name)
}

/// The descriptor that stands for the current directory.
pub const AT_FDCWD: i32 = -100;

/// Flags of `open` as x86-64 has them: on arm, four have each other's bits (`arch/arm64/include/uapi/asm/fcntl.h`).
pub const fn open_flags(flags: u64, abi: Abi) -> u64 {
    const OTHERS: [(u64, u64); 4] = [
        // O_DIRECTORY, O_NOFOLLOW, O_DIRECT, O_LARGEFILE.
        (0o40_000, 0o200_000),
        (0o100_000, 0o400_000),
        (0o200_000, 0o40_000),
        (0o400_000, 0o100_000),
    ];
    if !matches!(abi, Abi::Aarch64 | Abi::Arm) {
        return flags;
    }
    let mut out = flags & !0o740_000;
    let mut i = 0;
    while i < OTHERS.len() {
        if flags & OTHERS[i].0 != 0 {
            out |= OTHERS[i].1;
        }
        i += 1;
    }
    out
}

/// Major and minor number of a device, as user space packs them (`gnu_dev_major`).
pub const fn device(dev: u64) -> (u32, u32) {
    let major = (dev >> 8 & 0xfff | dev >> 32 & 0xffff_f000) as u32;
    let minor = (dev & 0xff | dev >> 12 & 0xffff_ff00) as u32;
    (major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_of_arm_is_the_same_flag() {
        assert_eq!(open_flags(0o40_000, Abi::Aarch64), u64::from(O_DIRECTORY));
        assert_eq!(open_flags(0o100_000, Abi::Arm), u64::from(O_NOFOLLOW));
        assert_eq!(open_flags(0o200_000, Abi::Aarch64), u64::from(O_DIRECT));
        assert_eq!(open_flags(0o200_102, Abi::X86_64), u64::from(O_DIRECTORY | O_CREAT | O_RDWR));
        // O_TMPFILE has the bit of O_DIRECTORY.
        assert_eq!(open_flags(0o20_040_002, Abi::Aarch64), u64::from(O_TMPFILE | O_RDWR));
    }

    #[test]
    fn a_name_has_a_number() {
        assert_eq!(number(b"O_CLOEXEC"), Some(O_CLOEXEC));
        assert_eq!(number(b"SOCK_STREAM"), Some(1));
        assert_eq!(number(b"CLONE_VM"), Some(CLONE_VM));
        assert_eq!(number(b"PROT_EXEC"), Some(4));
        assert_eq!(number(b"O_COFFEE"), None);
    }

    #[test]
    fn a_device_has_two_numbers() {
        assert_eq!(device(0xfe01), (254, 1));
        assert_eq!(device(0x1001_0303), (259, 0x1_0003));
    }
}
