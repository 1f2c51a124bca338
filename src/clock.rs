//! The clock of recordings.

/// `CLOCK_BOOTTIME`, ns.
pub(crate) fn boottime_ns() -> u64 {
    let now = nix::time::ClockId::CLOCK_BOOTTIME.now();
    // The clock exists since Linux 2.6.39.
    now.map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}
