//! For how long nothing has come of the scope.
//!
//! A sign of life is whatever its tasks did: a call that returned (the engine's own in a replay are not the workload's), a
//! process, a connection, a signal, a request; or CPU time that grew from one sample to the next. A sample by which nothing
//! grew is none: samples come ten times a second, of a scope that hangs too.

use super::measure::SCOPE;
use ctrace_format::{Event, Metric, SyscallFlags};

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Silence {
    /// The last sign of life; before there was one, the first event at all.
    since_ns: Option<u64>,
    /// CPU time of the scope, as it was sampled last.
    cpu_ns: Option<u64>,
}

impl Silence {
    pub(super) fn observe(&mut self, event: &Event, now_ns: u64) {
        self.since_ns.get_or_insert(now_ns);
        if self.is_alive(event) {
            self.note(now_ns);
        }
    }

    /// Somebody else saw a sign of life.
    pub(super) fn note(&mut self, now_ns: u64) {
        self.since_ns = Some(now_ns);
    }

    fn is_alive(&mut self, event: &Event) -> bool {
        match event {
            Event::Syscall(call) => !call.flags.contains(SyscallFlags::ENGINE),
            Event::Resource(sample) if sample.subject == SCOPE && sample.metric == Metric::CpuNs => {
                self.cpu_ns.replace(sample.value).is_some_and(|before| sample.value > before)
            }
            Event::Resource(_) | Event::Marker(_) | Event::Anchor(_) | Event::Fidelity(_) => false,
            // Calls that were lost or only counted were made.
            _ => true,
        }
    }

    /// How long it has lasted; `None`: nobody has looked yet.
    pub(super) fn lasts_ns(&self, now_ns: u64) -> Option<u64> {
        self.since_ns.map(|since_ns| now_ns.saturating_sub(since_ns))
    }
}
