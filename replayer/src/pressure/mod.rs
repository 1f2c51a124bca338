//! Pressure on a replay: how scarce CPU time, memory, the disk and tasks were, over time. Pure data: made from a recording, or from
//! constants, and followed by a process of the sandbox (`run::init::press`).

mod disk;
mod gather;
mod level;
mod load;
mod selection;
mod throttle;

pub use disk::Disk;
pub(crate) use disk::LEAST_WAIT_NS;
pub(crate) use gather::Gather;
pub use level::{Bases, Cpu, Level, LevelError};
pub use load::{Demand, Load};
pub use selection::{Kind, Selection, UnknownKind};
pub use throttle::{Period, Span, Throttle};

use crate::plan::need::Need;
use ctrace_format::Event;
use serde::Serialize;

/// Length of a bin, ns.
pub const BIN_NS: u64 = 100_000_000;
/// Most bins that are followed: an hour. What a recording says of later is not replayed, and that is said.
pub const BINS_MAX: usize = 36_000;
/// Most CPUs that are throttled at a time.
pub const CPUS_MAX: u32 = 16;
/// A quota that lets a group run without end, as a number of CPUs.
pub(crate) const OPEN_CPUS: u64 = 1024;

/// Memory that a replay needs beside its workload's, when the workload's is bounded.
const ROOM_BYTES: u64 = 32 << 20;

/// The least limit on memory that a replay with this need can have, bytes.
pub fn least_memory_limit(need: &Need) -> u64 {
    need.memory_bytes.saturating_add(ROOM_BYTES)
}

/// The memory that a series counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// The resident memory of processes, added up.
    Resident,
    /// The anonymous memory of a cgroup.
    Anonymous,
}

/// Memory over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The memory that is counted.
    pub counted: Counted,
    /// How much there was, bytes, by bins of [`BIN_NS`].
    #[serde(skip)]
    pub bins: Vec<u64>,
    /// The most of it, bytes.
    pub peak_bytes: u64,
    /// The lowest limit on it, bytes.
    pub limit_bytes: Option<u64>,
}

/// The pressure of a recording, or a level of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pressure {
    /// Tasks kept from running by a quota on CPU time.
    pub cpu: Option<Throttle>,
    /// CPU time used by the workload, and by neighbours that kept it waiting.
    pub load: Option<Load>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Calls that waited for a disk.
    pub disk: Option<Disk>,
    /// Most tasks at a time.
    pub pids: Option<u64>,
    /// Kills by the kernel for want of memory.
    pub oom_kills: u64,
    /// Parts of the recorded pressure that are left out, for people.
    pub notes: Vec<String>,
}

impl Pressure {
    /// The pressure that a recording shows, of a machine with so many CPUs; 0: not known.
    ///
    /// # Errors
    /// Those of reading its events.
    pub fn recorded<E>(
        cpus: u32,
        events: impl FnOnce(&mut dyn FnMut(&Event)) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut gather = Gather::default();
        events(&mut |event| gather.event(event))?;
        Ok(gather.finish(cpus))
    }

    /// Without the kinds that are not asked for.
    #[must_use]
    pub fn only(mut self, selection: Selection) -> Self {
        let has = |kind| selection.has(kind);
        self.cpu = self.cpu.filter(|_| has(Kind::Cpu));
        self.load = self.load.and_then(|load| match (has(Kind::Cpu), has(Kind::Contention)) {
            (true, true) => Some(load),
            (true, false) => Some(load.without_neighbours()),
            (false, true) => Some(load.of_neighbours()),
            (false, false) => None,
        });
        self.load = self.load.filter(|load| !load.is_none());
        self.memory = self.memory.filter(|_| has(Kind::Memory));
        self.disk = self.disk.filter(|_| has(Kind::Disk));
        self.pids = self.pids.filter(|_| has(Kind::Pids));
        if selection == Selection::NONE {
            self.notes.clear();
        }
        self
    }

    /// Whether there is anything to follow.
    pub fn is_none(&self) -> bool {
        self.cpu.is_none()
            && self.load.is_none()
            && self.memory.is_none()
            && self.disk.is_none()
            && self.pids.is_none()
    }

    /// For people: one line for each kind.
    pub fn lines(&self) -> Vec<String> {
        let ms = |ns: u64| ns as f64 / 1e6;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let mut lines = Vec::new();
        if let Some(cpu) = &self.cpu {
            lines.push(format!(
                "CPU quota {:.1} of {:.0} ms; throttled for {:.1} s of CPU time in {} periods",
                ms(cpu.period.quota_ns),
                ms(cpu.period.length_ns),
                cpu.throttled_ns() as f64 / 1e9,
                cpu.spans.len()
            ));
        }
        if let Some(load) = &self.load {
            let seconds = |figure: fn(&Demand) -> u64| load.sum(figure) as f64 / 1e9;
            let used = seconds(|bin| bin.used_ns);
            if used > 0.0 {
                lines.push(format!("CPU time: {used:.1} s"));
            }
            let crowding = seconds(Demand::crowding_ns);
            if crowding > 0.0 {
                let waited = seconds(|bin| bin.waited_ns);
                lines.push(format!(
                    "waited {waited:.1} s for a CPU, beside neighbours that used {crowding:.1} s then"
                ));
            }
        }
        if let Some(memory) = &self.memory {
            let limit = memory
                .limit_bytes
                .map_or_else(|| "no limit".to_owned(), |limit| format!("limit {:.1} MiB", mib(limit)));
            lines.push(format!("memory up to {:.1} MiB, {limit}", mib(memory.peak_bytes)));
        }
        if let Some(disk) = &self.disk {
            lines.push(format!(
                "{:.1} s in {} calls of fsync and its like that waited for a disk",
                disk.waited_ns as f64 / 1e9,
                disk.calls
            ));
        }
        lines.extend(self.pids.map(|most| format!("{most} tasks at most")));
        if self.oom_kills > 0 {
            lines.push(format!("{} OOM kills, replayed as the signal that ended the victim", self.oom_kills));
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_left_out() {
        let level = Level {
            cpu: Some(Cpu::Share(0.2)),
            memory_bytes: Some(1),
            window_ns: (0, 1_000_000_000),
            ..Level::default()
        };
        let neighbours = Level { cpu: Some(Cpu::Neighbours(0.5)), ..level };
        let none = Pressure { pids: Some(9), ..Pressure::default() };
        let all = none.with(&level, 2).with(&neighbours, 2);
        assert_eq!(all.lines().len(), 4);
        assert_eq!(all.clone().only(Selection::ALL), all);
        assert!(all.clone().only(Selection::NONE).is_none());
        let some = all.only("cpu,pids".parse().unwrap());
        assert!(some.load.is_none());
        assert!(some.cpu.is_some() && some.pids.is_some() && some.memory.is_none());
    }
}
