//! What a replay takes, worked out from the recording and from the steps while they are written.

use serde::Serialize;

/// What the replay of one trace takes.
///
/// The figures come from what the steps themselves do, so a trace cannot lie about them in a header. They are not exact:
/// each field says whether it may be too high or too low. What runs is bounded by the limits in any case; these figures
/// only decide whether it is worth beginning, and how high the limits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Need {
    /// Length of the recording, ns. Exact.
    pub duration_ns: u64,
    /// Bytes of memory at the busiest moment: files of the private root (which is in memory), memfds, memory that calls
    /// populate or lock, and what the engine takes for itself. Too high when calls write the same page again at places
    /// that do not follow each other; too low by what lies in pipes and sockets, and by files that only a mapping keeps.
    pub memory_bytes: u64,
    /// Bytes that the files of the private root occupy at the busiest moment; part of `memory_bytes`, and as exact.
    pub disk_bytes: u64,
    /// Bytes of memory that the recording saw in use (`memory.current` of its scope). A replay rarely touches as much.
    pub seen_memory_bytes: u64,
    /// Processes and threads alive at the busiest moment, those that play peers and the sandbox's init included. Too high
    /// when peers do not all live at once.
    pub tasks: u64,
    /// Tasks that the recording saw alive. Higher than `tasks` when the scope had more than what was recorded.
    pub seen_tasks: u64,
    /// Files, directories and links of the private root at the busiest moment. Exact as far as the trace tells of them.
    pub files: u64,
    /// Highest number of a descriptor, plus one: what `RLIMIT_NOFILE` has to allow. Exact.
    pub descriptors: u64,
    /// The highest hard limit of descriptors (`RLIMIT_NOFILE`) that a recorded call set, mostly to raise the soft limit to
    /// it; 0: none.
    pub recorded_descriptor_limit: u64,
    /// Addresses of the private loopback. Exact.
    pub addresses: u64,
}

/// A figure that goes up and down, and how high it was at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Peak {
    now: u64,
    most: u64,
}

impl Peak {
    /// More by `n`.
    pub(crate) fn add(&mut self, n: u64) {
        self.now = self.now.saturating_add(n);
        self.most = self.most.max(self.now);
    }
    /// Less by `n`.
    pub(crate) fn sub(&mut self, n: u64) {
        self.now = self.now.saturating_sub(n);
    }
    /// From one figure to another.
    pub(crate) fn change(&mut self, from: u64, to: u64) {
        self.sub(from);
        self.add(to);
    }
    /// The highest so far.
    pub(crate) fn most(self) -> u64 {
        self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_stays_when_the_figure_falls() {
        let mut peak = Peak::default();
        peak.add(5);
        peak.change(5, 2);
        assert_eq!(peak.most(), 5);
        peak.add(4);
        assert_eq!(peak.most(), 6);
        peak.sub(100);
        peak.add(u64::MAX);
        assert_eq!(peak.most(), u64::MAX);
    }
}
