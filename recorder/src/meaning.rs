//! Which raw arguments of a call say something, per number, looked up once.

use crate::arch::{HOST, is_narrow};
use ctrace_abi::SPEC_COMPAT;
pub(crate) use ctrace_format::syscalls::Rule;
use ctrace_format::syscalls::{self, Arg, Kind};
use ctrace_format::{Abi, Sysno};

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
            let mask = syscalls::kept_args(name);
            Meaning { rule: Rule::of(name), args, mask, time_arg: time_arg.map(|i| i as u8) }
        })
        .collect()
}

/// As [`Rule::time_counts`].
pub(crate) fn time_counts(meaning: &Meaning, args: &[u64; 6]) -> bool {
    meaning.rule.time_counts(args)
}

/// As [`Rule::kept`].
pub(crate) fn kept(meaning: &Meaning, args: &[u64; 6]) -> ([u64; 6], u8) {
    meaning.rule.kept(meaning.mask, args)
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
