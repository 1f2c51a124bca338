//! Which raw arguments of a call say something, per number, looked up once.

use crate::arch::{HOST, is_narrow};
use ctrace_abi::SPEC_COMPAT;
use ctrace_format::syscalls::{self, Arg, Kind};
use ctrace_format::{Abi, Sysno};

/// Calls whose arguments depend on each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// None of these.
    None,
    Open,
    Openat,
    Fcntl,
    Mremap,
    Futex,
    Mmap,
    Bind,
    Execve,
    Execveat,
}

impl Rule {
    fn of(name: &str) -> Self {
        match name {
            "open" => Self::Open,
            "openat" => Self::Openat,
            "fcntl" => Self::Fcntl,
            "mremap" => Self::Mremap,
            "futex" => Self::Futex,
            "mmap" => Self::Mmap,
            "bind" => Self::Bind,
            "execve" => Self::Execve,
            "execveat" => Self::Execveat,
            _ => Self::None,
        }
    }
}

/// What is known about a call.
pub(crate) struct Meaning {
    pub(crate) rule: Rule,
    pub(crate) args: &'static [Arg],
    /// Arguments to keep raw.
    pub(crate) mask: u8,
    /// The argument that points to a time.
    pub(crate) time_arg: Option<u8>,
}

impl Meaning {
    /// A number that no table has: everything is kept.
    pub(crate) const fn unknown() -> Self {
        Self { rule: Rule::None, args: &[], mask: 0x3f, time_arg: None }
    }
}

/// By table and number.
pub(crate) struct Meanings {
    native: Vec<Meaning>,
    compat: Vec<Meaning>,
}

impl Meanings {
    pub(crate) fn new() -> Self {
        Self { native: all(HOST.native), compat: all(HOST.compat) }
    }

    pub(crate) fn get(&self, sysno: Sysno) -> Option<&Meaning> {
        let table = if sysno.abi == HOST.compat { &self.compat } else { &self.native };
        table.get(sysno.nr as usize)
    }
}

fn all(abi: Abi) -> Vec<Meaning> {
    (0..SPEC_COMPAT)
        .map(|nr| {
            let Some(name) = syscalls::name(Sysno { abi, nr }) else { return Meaning::unknown() };
            let args = syscalls::args(name).unwrap_or_default();
            let time_arg = args
                .iter()
                .position(|a| matches!(a.1, Kind::Timespec | Kind::Timeval))
                .filter(|_| !is_narrow(abi));
            let mask = crate::specs::kept_args(name);
            Meaning { rule: Rule::of(name), args, mask, time_arg: time_arg.map(|i| i as u8) }
        })
        .collect()
}

/// `FUTEX_CMD_MASK`, include/uapi/linux/futex.h.
fn futex_op(args: &[u64; 6]) -> u64 {
    args[1] & !(128 | 256)
}

/// Whether the time argument is one for these arguments: `futex` uses the register for something else in most
/// operations.
pub(crate) fn time_counts(meaning: &Meaning, args: &[u64; 6]) -> bool {
    // WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2.
    meaning.rule != Rule::Futex || matches!(futex_op(args), 0 | 6 | 9 | 11 | 13)
}

/// The arguments to keep, and which these are. Registers that a call ignores for these arguments hold left-overs of
/// the program, and are dropped.
pub(crate) fn kept(meaning: &Meaning, args: &[u64; 6]) -> ([u64; 6], u8) {
    let mut mask = meaning.mask;
    match meaning.rule {
        // A mode counts with O_CREAT and O_TMPFILE only.
        Rule::Open if args[1] & (0o100 | 0o20_000_000) == 0 => mask &= !(1 << 2),
        Rule::Openat if args[2] & (0o100 | 0o20_000_000) == 0 => mask &= !(1 << 3),
        // F_GETFD, F_GETFL, F_GETOWN, F_GETSIG, F_GETLEASE, F_GETPIPE_SZ, F_GET_SEALS take no argument.
        Rule::Fcntl if matches!(args[1], 1 | 3 | 9 | 11 | 1025 | 1032 | 1034) => mask &= !(1 << 2),
        // MREMAP_FIXED.
        Rule::Mremap if args[3] & 2 == 0 => mask &= !(1 << 4),
        Rule::Futex => {
            mask = match futex_op(args) {
                // WAIT, WAKE.
                0 | 1 => 0b00_0111,
                // REQUEUE: the time register is a count.
                3 => 0b01_1111,
                // CMP_REQUEUE, WAKE_OP, CMP_REQUEUE_PI.
                4 | 5 | 12 => 0b11_1111,
                // LOCK_PI, UNLOCK_PI, TRYLOCK_PI, LOCK_PI2.
                6..=8 | 13 => 0b00_0011,
                // WAIT_BITSET, WAKE_BITSET.
                9 | 10 => 0b10_0111,
                _ => mask,
            }
        }
        _ => {}
    }
    let mut out = [0; 6];
    for (i, arg) in args.iter().enumerate() {
        if mask & (1 << i) != 0 {
            out[i] = *arg;
        }
    }
    (out, mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_over_registers_are_dropped() {
        let meanings = Meanings::new();
        let get = |name| meanings.get(syscalls::number(HOST.native, name).unwrap()).unwrap();
        assert_eq!(kept(get("read"), &[3, 0x7fff_0000, 10, 9, 9, 9]), ([3, 0, 10, 0, 0, 0], 0b101));
        assert_eq!(kept(get("futex"), &[0x1000, 129, 1, 7, 7, 7]).1, 0b111);
        assert!(!time_counts(get("futex"), &[0, 129, 1, 7, 0, 0]));
        assert!(time_counts(get("futex"), &[0, 128, 1, 7, 0, 0]));
        assert_eq!(kept(get("openat"), &[1, 2, 0, 9, 0, 0]).1 & 0b1000, 0);
    }
}
