//! The use of time and requests, in a line.

use crate::units;
use ctrace_format::{BlockOp, Event, Metric, Resource};
use serde_json::{Value, json};

/// Growth of a counter, and its last value.
#[derive(Default)]
struct Growth(Option<(u64, u64)>);

impl Growth {
    fn add(&mut self, value: u64) {
        let (first, _) = self.0.unwrap_or((value, value));
        self.0 = Some((first, value));
    }
    fn get(&self) -> u64 {
        self.0.map_or(0, |(first, last)| last.saturating_sub(first))
    }
}

/// The use of time and requests: needs a pass over more than the rare classes.
#[derive(Default)]
pub(super) struct Spent {
    cpu_ns: u64,
    wait_ns: u64,
    minor_faults: u64,
    major_faults: u64,
    reads: (u64, u64),
    writes: (u64, u64),
    block_max_ns: u64,
    block_errors: u64,
    uring: u64,
    throttled_ns: Growth,
    overflows: Growth,
}

impl Spent {
    pub(super) fn learn(&mut self, event: &Event) {
        match event {
            Event::Usage(e) => {
                self.cpu_ns += e.cpu_ns;
                self.wait_ns += e.wait_ns;
                self.minor_faults += e.minor_faults;
                self.major_faults += e.major_faults;
            }
            Event::Block(e) => {
                let side = match e.op {
                    BlockOp::Read => &mut self.reads,
                    _ => &mut self.writes,
                };
                side.0 += 1;
                side.1 += e.bytes;
                self.block_max_ns = self.block_max_ns.max(e.duration_ns);
                self.block_errors += u64::from(e.error != 0);
            }
            Event::Uring(_) => self.uring += 1,
            _ => {}
        }
    }

    pub(super) fn sample(&mut self, e: &Resource) {
        match e.metric {
            Metric::CpuThrottledNs => self.throttled_ns.add(e.value),
            Metric::ListenOverflows => self.overflows.add(e.value),
            _ => {}
        }
    }

    pub(super) fn text(&self) -> String {
        let mut parts = Vec::new();
        if self.cpu_ns > 0 {
            parts.push(format!(
                "tasks ran {} and waited {} for a CPU",
                units::duration(self.cpu_ns),
                units::duration(self.wait_ns)
            ));
        }
        if self.throttled_ns.get() > 0 {
            parts.push(format!("throttled {}", units::duration(self.throttled_ns.get())));
        }
        if self.overflows.get() > 0 {
            parts.push(format!("accept queue full {}×", units::count(self.overflows.get())));
        }
        if self.major_faults > 0 {
            parts.push(units::plural(self.major_faults, "major fault"));
        }
        for ((count, bytes), what) in [(self.reads, "disk read"), (self.writes, "disk write")] {
            if count > 0 {
                parts.push(format!("{} ({})", units::plural(count, what), units::bytes(bytes)));
            }
        }
        if self.block_max_ns > 0 {
            parts.push(format!("slowest {}", units::duration(self.block_max_ns)));
        }
        if self.block_errors > 0 {
            parts.push(format!("{} failed", units::plural(self.block_errors, "request")));
        }
        if self.uring > 0 {
            parts.push(format!("{} through io_uring", units::plural(self.uring, "request")));
        }
        parts.join(" · ")
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "cpu_ns": self.cpu_ns, "wait_ns": self.wait_ns, "throttled_ns": self.throttled_ns.get(),
            "minor_faults": self.minor_faults, "major_faults": self.major_faults,
            "listen_overflows": self.overflows.get(),
            "block": {
                "reads": self.reads.0, "bytes_read": self.reads.1, "writes": self.writes.0,
                "bytes_written": self.writes.1, "max_ns": self.block_max_ns, "errors": self.block_errors,
            },
            "uring": self.uring,
        })
    }
}
