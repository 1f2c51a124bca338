//! What a trace has besides calls, in a line: what went wrong, and what time was spent on.

use crate::decode::names::{capability, dns_code};
use crate::show::is_overcommit;
use crate::units;
use ctrace_format::{BlockOp, Event, Metric, ProcessKind, Resource, syscalls};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An answer that took so long is worth a word.
const SLOW_DNS_NS: u64 = 100_000_000;

/// What went wrong, of the rare classes.
#[derive(Default)]
pub(super) struct Incidents {
    oom_kills: u64,
    /// Denials by capability and call.
    denied: BTreeMap<(String, String), u64>,
    identities: u64,
    libraries: u64,
    faults: u64,
    fault_ns: u64,
    dns: u64,
    dns_failed: BTreeMap<String, u64>,
    dns_unanswered: u64,
    dns_slow: u64,
    dns_max_ns: u64,
}

impl Incidents {
    pub(super) fn learn(&mut self, event: &Event) {
        match event {
            Event::Process(e) => match &e.kind {
                ProcessKind::OomKill { .. } => self.oom_kills += 1,
                ProcessKind::Capability { granted: false, capability: number, count, call }
                    if !is_overcommit(*number, *call) =>
                {
                    let call = call.and_then(syscalls::name).unwrap_or_default().to_owned();
                    *self.denied.entry((capability(*number), call)).or_default() += u64::from(*count);
                }
                ProcessKind::Identity { .. } => self.identities += 1,
                ProcessKind::Load { .. } => self.libraries += 1,
                ProcessKind::Fault { blocked_ns, .. } => {
                    self.faults += 1;
                    self.fault_ns += blocked_ns;
                }
                _ => {}
            },
            Event::Dns(e) => {
                self.dns += 1;
                match e.answer {
                    None => self.dns_unanswered += 1,
                    Some((0, _)) => {}
                    Some((code, _)) => *self.dns_failed.entry(dns_code(code)).or_default() += 1,
                }
                if e.answer.is_some() {
                    self.dns_slow += u64::from(e.duration_ns >= SLOW_DNS_NS);
                    self.dns_max_ns = self.dns_max_ns.max(e.duration_ns);
                }
            }
            _ => {}
        }
    }

    pub(super) fn text(&self) -> String {
        let mut parts = Vec::new();
        if self.oom_kills > 0 {
            parts.push(format!("{} OOM-killed", units::plural(self.oom_kills, "time")));
        }
        for ((name, call), count) in self.denied.iter().take(3) {
            let call = if call.is_empty() { String::new() } else { format!(" in {call}") };
            parts.push(format!("{name} denied{call} {}×", units::count(*count)));
        }
        if self.denied.len() > 3 {
            parts.push(format!("{} more kinds of denials", self.denied.len() - 3));
        }
        if self.faults > 0 {
            let time = units::duration(self.fault_ns);
            parts.push(format!("{} blocked for {time}", units::plural(self.faults, "page fault")));
        }
        for (code, count) in &self.dns_failed {
            parts.push(format!("{} {code}", units::plural(*count, "name")));
        }
        if self.dns_unanswered > 0 {
            parts.push(format!("{} without answer", units::plural(self.dns_unanswered, "name")));
        }
        if self.dns_slow > 0 {
            let max = units::duration(self.dns_max_ns);
            parts.push(format!("{} answered slowly (up to {max})", units::plural(self.dns_slow, "name")));
        }
        parts.join(" · ")
    }

    pub(super) fn json(&self) -> Value {
        let denied: Vec<Value> = self
            .denied
            .iter()
            .map(|((name, call), count)| {
                json!({"capability": name, "call": (!call.is_empty()).then_some(call), "count": count})
            })
            .collect();
        json!({
            "oom_kills": self.oom_kills, "capabilities_denied": denied, "identity_changes": self.identities,
            "libraries": self.libraries,
            "blocking_faults": {"count": self.faults, "blocked_ns": self.fault_ns},
            "dns": {
                "queries": self.dns, "failed": self.dns_failed, "unanswered": self.dns_unanswered,
                "slow": self.dns_slow, "max_ns": self.dns_max_ns,
            },
        })
    }
}

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

/// What time and requests were spent on: needs a pass over more than the rare classes.
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

#[cfg(test)]
mod tests {
    use super::*;
    use ctrace_format::{Abi, Process, TaskId};

    #[test]
    fn what_went_wrong_is_said_and_what_is_usual_is_not() {
        let mut incidents = Incidents::default();
        let mut push = |kind| incidents.learn(&Event::Process(Process { t_ns: 0, task: TaskId(0), kind }));
        let call = |name| syscalls::number(Abi::X86_64, name);
        push(ProcessKind::Capability { capability: 12, granted: false, count: 3, call: call("ioctl") });
        push(ProcessKind::Capability { capability: 12, granted: true, count: 9, call: None });
        push(ProcessKind::Capability { capability: 21, granted: false, count: 70, call: call("mmap") });
        push(ProcessKind::OomKill { by: None, rss_bytes: 0, limit: None });
        assert_eq!(incidents.text(), "1 time OOM-killed · CAP_NET_ADMIN denied in ioctl 3×");
    }
}
