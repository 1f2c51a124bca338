//! How long calls took.

use crate::text::{decode, units};
use ctrace_analysis::{Account, CallCount, CallCounts, Latency};
use std::collections::BTreeMap;

/// Calls that wait for work, a time or a child take as long as they take.
fn is_wait(latency: &Latency) -> bool {
    use ctrace_format::syscalls::{Call, Family, On};
    let row = Call::named(&latency.call).row();
    matches!(row.family, Family::Readiness | Family::Noise | Family::Wait | Family::Accept)
        || matches!(row.waits, Some(On::Time | On::Signal))
}

fn name(latency: &Latency) -> String {
    let object = latency.object.as_deref().map_or_else(String::new, |o| format!(" {o}"));
    decode::plain(format!("{}{object}", latency.call).as_bytes())
}

/// The slowest few, in a line.
pub(super) fn row(account: &Account) -> String {
    const SHOWN: usize = 4;
    const WORTH_A_WORD_NS: u64 = 1_000_000;
    let mut slow: Vec<&Latency> =
        account.latencies.iter().filter(|l| !is_wait(l) && l.max_ns >= WORTH_A_WORD_NS).collect();
    slow.sort_by_key(|l| std::cmp::Reverse(l.max_ns));
    let one = |l: &&Latency| {
        format!("{} {} at {}", name(l), units::duration(l.max_ns), units::seconds(l.max_at_ns))
    };
    slow.iter().take(SHOWN).map(one).collect::<Vec<_>>().join(" · ")
}

/// A table of the calls that took longest: by role and object, with median, 99th percentile, maximum and when that was.
pub fn slowest(account: &Account) -> Vec<String> {
    const SHOWN: usize = 40;
    let all: u64 = account.latencies.iter().map(|l| l.total_ns).sum();
    let mut slow: Vec<&Latency> = account.latencies.iter().collect();
    slow.sort_by_key(|l| (is_wait(l), std::cmp::Reverse(l.max_ns)));
    let mut lines = vec![format!(
        "{:>9} {:>9} {:>9} {:>9} {:>6} {:>10}  {:<16} {}",
        "longest", "p99", "p50", "calls", "time", "at", "who", "call"
    )];
    for l in slow.iter().take(SHOWN) {
        lines.push(format!(
            "{:>9} {:>9} {:>9} {:>9} {:>5.1}% {:>10}  {:<16} {}",
            units::duration(l.max_ns),
            units::duration(l.p99_ns),
            units::duration(l.p50_ns),
            units::count(l.count),
            l.total_ns as f64 * 100.0 / all.max(1) as f64,
            units::seconds(l.max_at_ns),
            decode::plain(l.role.as_bytes()),
            name(l)
        ));
    }
    lines
}

/// A table by call, as strace -c prints it.
pub fn counted(counts: &CallCounts) -> Vec<String> {
    let mut failed: BTreeMap<&str, u64> = BTreeMap::new();
    for errors in counts.errors() {
        *failed.entry(errors.name).or_default() += errors.count;
    }
    let mut rows = counts.calls();
    rows.sort_by_key(|call| (std::cmp::Reverse(call.total_ns), call.name));
    let all: u64 = rows.iter().map(|call| call.total_ns).sum();
    let mut lines = vec![format!(
        "{:>6} {:>11} {:>11} {:>9} {:>9} {}",
        "% time", "seconds", "usecs/call", "calls", "errors", "syscall"
    )];
    for CallCount { name, count, total_ns } in rows {
        let errors = failed.get(name).map_or_else(String::new, u64::to_string);
        lines.push(format!(
            "{:>6.2} {:>11.6} {:>11} {count:>9} {errors:>9} {name}",
            total_ns as f64 * 100.0 / all.max(1) as f64,
            total_ns as f64 / 1e9,
            total_ns / 1000 / count.max(1),
        ));
    }
    lines
}
