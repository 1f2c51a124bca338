//! The use of time and requests.

use ctrace_format::{Block, BlockOp, Event, Metric, Resource, Usage};

/// Growth of a counter.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Growth(Option<(u64, u64)>);

impl Growth {
    pub(super) fn add(&mut self, value: u64) {
        let (first, _) = self.0.unwrap_or((value, value));
        self.0 = Some((first, value));
    }

    /// `None` where nothing was sampled.
    pub(super) fn get(self) -> Option<u64> {
        self.0.map(|(first, last)| last.saturating_sub(first))
    }
}

/// Time that the tasks of the scope used.
#[derive(Debug, Default, Clone)]
pub struct Spent {
    /// Time that tasks ran, ns.
    pub cpu_ns: u64,
    /// Time that tasks waited for a CPU, ns.
    pub wait_ns: u64,
    /// Page faults that needed no disk.
    pub minor_faults: u64,
    /// Page faults that needed one.
    pub major_faults: u64,
    /// Requests that disks were read by.
    pub reads: Requests,
    /// All others.
    pub writes: Requests,
    /// The slowest request of a disk, ns.
    pub block_max_ns: u64,
    /// Requests of disks that failed.
    pub block_errors: u64,
    /// Requests through an `io_uring`.
    pub uring: u64,
    throttled_ns: Growth,
    overflows: Growth,
}

/// Requests of disks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Requests {
    /// How many.
    pub count: u64,
    /// Bytes that they moved.
    pub bytes: u64,
}

impl Spent {
    fn usage(&mut self, e: &Usage) {
        self.cpu_ns += e.cpu_ns;
        self.wait_ns += e.wait_ns;
        self.minor_faults += e.minor_faults;
        self.major_faults += e.major_faults;
    }

    fn block(&mut self, e: &Block) {
        let side = match e.op {
            BlockOp::Read => &mut self.reads,
            _ => &mut self.writes,
        };
        side.count += 1;
        side.bytes += e.bytes;
        self.block_max_ns = self.block_max_ns.max(e.duration_ns);
        self.block_errors += u64::from(e.error != 0);
    }

    pub(super) fn learn(&mut self, event: &Event) {
        match event {
            Event::Usage(e) => self.usage(e),
            Event::Block(e) => self.block(e),
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

    /// Time that a quota held the scope back, ns.
    pub fn throttled_ns(&self) -> u64 {
        self.throttled_ns.get().unwrap_or(0)
    }

    /// Connections that found the queue of a listener full.
    pub fn overflows(&self) -> u64 {
        self.overflows.get().unwrap_or(0)
    }
}
