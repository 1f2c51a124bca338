//! The use of time and requests.

use crate::text::units;
use ctrace_analysis::{Requests, Spent};
use serde_json::{Value, json};

/// In a line; empty where nothing was sampled.
pub(super) fn text(spent: &Spent) -> String {
    let mut parts = Vec::new();
    if spent.cpu_ns > 0 {
        parts.push(format!(
            "tasks ran {} and waited {} for a CPU",
            units::duration(spent.cpu_ns),
            units::duration(spent.wait_ns)
        ));
    }
    if spent.throttled_ns() > 0 {
        parts.push(format!("throttled {}", units::duration(spent.throttled_ns())));
    }
    if spent.overflows() > 0 {
        parts.push(format!("accept queue full {}×", units::count(spent.overflows())));
    }
    if spent.major_faults > 0 {
        parts.push(units::plural(spent.major_faults, "major fault"));
    }
    for (Requests { count, bytes }, what) in [(spent.reads, "disk read"), (spent.writes, "disk write")] {
        if count > 0 {
            parts.push(format!("{} ({})", units::plural(count, what), units::bytes(bytes)));
        }
    }
    if spent.block_max_ns > 0 {
        parts.push(format!("slowest {}", units::duration(spent.block_max_ns)));
    }
    if spent.block_errors > 0 {
        parts.push(format!("{} failed", units::plural(spent.block_errors, "request")));
    }
    if spent.uring > 0 {
        parts.push(format!("{} through io_uring", units::plural(spent.uring, "request")));
    }
    parts.join(" · ")
}

/// The same for a program.
pub(super) fn json(spent: &Spent) -> Value {
    json!({
        "cpu_ns": spent.cpu_ns, "wait_ns": spent.wait_ns, "throttled_ns": spent.throttled_ns(),
        "minor_faults": spent.minor_faults, "major_faults": spent.major_faults,
        "listen_overflows": spent.overflows(),
        "block": {
            "reads": spent.reads.count, "bytes_read": spent.reads.bytes, "writes": spent.writes.count,
            "bytes_written": spent.writes.bytes, "max_ns": spent.block_max_ns, "errors": spent.block_errors,
        },
        "uring": spent.uring,
    })
}
