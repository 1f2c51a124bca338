//! Waits for a disk: calls that return when what was written is there.

use super::BIN_NS;
use serde::Serialize;

/// Shorter waits are those of a disk that nothing presses, ns.
pub(crate) const LEAST_WAIT_NS: u64 = 1_000_000;

/// The calls that waited for a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// How many waited.
    pub calls: u64,
    /// How long all of them did, added up, ns.
    pub waited_ns: u64,
}

impl Disk {
    /// A call of this length returned.
    pub(super) fn add(&mut self, duration_ns: u64) {
        if duration_ns >= LEAST_WAIT_NS {
            self.calls += 1;
            self.waited_ns = self.waited_ns.saturating_add(duration_ns);
        }
    }

    /// All of them, if they are as long as a bin together.
    pub(super) fn finish(self) -> Option<Self> {
        (self.waited_ns >= BIN_NS).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_nothing_presses_has_none() {
        let mut disk = Disk::default();
        for _ in 0..10_000 {
            disk.add(LEAST_WAIT_NS - 1);
        }
        assert_eq!(disk.finish(), None);
        disk.add(BIN_NS - 1);
        assert_eq!(disk.finish(), None);
        disk.add(u64::MAX);
        assert_eq!(disk.finish(), Some(Disk { calls: 2, waited_ns: u64::MAX }));
    }
}
