//! Reading clocks.

use ctrace_format::ClockAnchor;

fn now(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for the result; the clocks used exist since Linux 2.6.39.
    unsafe { libc::clock_gettime(clock, &raw mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// `CLOCK_BOOTTIME`, ns.
pub(crate) fn boottime_ns() -> u64 {
    now(libc::CLOCK_BOOTTIME)
}

/// `CLOCK_REALTIME`, ns since the epoch.
pub(crate) fn realtime_ns() -> u64 {
    now(libc::CLOCK_REALTIME)
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu() -> std::time::Duration {
    std::time::Duration::from_nanos(now(libc::CLOCK_THREAD_CPUTIME_ID))
}

/// How many of the kernel's timer ticks there are in a time: the coarse clocks advance with them.
pub(crate) fn ticks(time: std::time::Duration) -> u32 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for the result; the clock exists since Linux 2.6.32.
    unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut ts) };
    let tick = u128::from(ts.tv_nsec.unsigned_abs().max(1));
    u32::try_from(time.as_nanos().div_ceil(tick)).unwrap_or(u32::MAX)
}

/// `CLOCK_BOOTTIME` − `CLOCK_MONOTONIC`, modulo 2^64, and by how much it may be wrong: the best of some readings.
pub(crate) fn boot_offset(readings: u32) -> (u64, u64) {
    (0..readings)
        .map(|_| {
            let before = boottime_ns();
            let monotonic = now(libc::CLOCK_MONOTONIC);
            let after = boottime_ns();
            let took = after.saturating_sub(before);
            ((before + took / 2).wrapping_sub(monotonic), took)
        })
        .min_by_key(|(_, took)| *took)
        .unwrap_or_default()
}

/// Readings further apart than this belong to different moments.
const SIMULTANEOUS_NS: u64 = 100_000;
const TRIES: u32 = 10;

/// Simultaneous readings of the three clocks, relative to a start: a pause between them would look like a clock that was
/// set.
pub(crate) fn anchor(start_boottime_ns: u64) -> ClockAnchor {
    let read = || {
        let before = boottime_ns();
        let (monotonic_ns, realtime_ns) = (now(libc::CLOCK_MONOTONIC), realtime_ns());
        (boottime_ns() - before, before, monotonic_ns, realtime_ns)
    };
    let mut best = read();
    for _ in 1..TRIES {
        if best.0 <= SIMULTANEOUS_NS {
            break;
        }
        best = best.min(read());
    }
    let (_, boottime_ns, monotonic_ns, realtime_ns) = best;
    ClockAnchor { t_ns: boottime_ns.saturating_sub(start_boottime_ns), monotonic_ns, realtime_ns }
}
