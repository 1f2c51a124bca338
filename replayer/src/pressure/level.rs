//! Levels of pressure that somebody asks for, in place of the recorded ones.

use super::{BIN_NS, BINS_MAX, Counted, Memory, Pressure, Throttle};
use ctrace_analysis::faults::{self, Amount, Levels};

/// A level of CPU time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cpu {
    /// The part of one CPU that the workload may have; 0 < share < 1.
    Share(f64),
    /// The part of each CPU that neighbours want; 0 < share ≤ 1.
    Neighbours(f64),
}

/// Pressure between two moments of the recording.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Level {
    /// CPU time.
    pub cpu: Option<Cpu>,
    /// Memory in use, bytes.
    pub memory_bytes: Option<u64>,
    /// How long it takes to get there from what was recorded, ns.
    pub ramp_ns: u64,
    /// The limit on memory, bytes. It holds all the time.
    pub limit_bytes: Option<u64>,
    /// From when to when, ns since the start of the recording.
    pub window_ns: (u64, u64),
}

/// A level that cannot be told in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// A share of a limit that there is not.
    #[error(
        "the recording has no memory limit to take a share of; say limit: 512MiB, or bytes, or % of node"
    )]
    NoLimit,
    /// A share of the memory of a node that is not known.
    #[error("how much memory this host has is not known: say bytes")]
    NoNode,
}

/// Amounts that shares are shares of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bases {
    /// Length of the recording, ns.
    pub length_ns: u64,
    /// Memory of this host, bytes.
    pub node_bytes: Option<u64>,
}

impl Level {
    /// The levels of a plan, on top of a recording with this pressure.
    ///
    /// # Errors
    /// A share of something that there is not.
    pub fn of(levels: &Levels, recorded: &Pressure, bases: Bases) -> Result<Self, LevelError> {
        let recorded_limit = recorded.memory.as_ref().and_then(|memory| memory.limit_bytes);
        let share = |share: f64, of: u64| (share * of as f64) as u64;
        let bytes = |amount: Amount, limit: Option<u64>| match amount {
            Amount::Bytes(bytes) => Ok(bytes),
            Amount::OfLimit(part) => limit.map(|limit| share(part, limit)).ok_or(LevelError::NoLimit),
            Amount::OfNode(part) => bases.node_bytes.map(|node| share(part, node)).ok_or(LevelError::NoNode),
        };
        let mut level = Self {
            cpu: match levels.cpu {
                Some(faults::Cpu::Throttled(held)) => Some(Cpu::Share(1.0 - held)),
                Some(faults::Cpu::Load(part)) => Some(Cpu::Neighbours(part)),
                // A plan with a quota is refused before.
                Some(faults::Cpu::Recorded | faults::Cpu::Quota(_)) | None => None,
            },
            window_ns: levels.window.map_or((0, bases.length_ns), |window| {
                (window.from_ns, window.to_ns.unwrap_or(bases.length_ns))
            }),
            ..Self::default()
        };
        if let Some(faults::Memory::Level { target, limit, ramp_ns }) = levels.memory {
            level.limit_bytes = limit.map(|limit| bytes(limit, recorded_limit)).transpose()?;
            let limit = level.limit_bytes.or(recorded_limit);
            level.memory_bytes = target.map(|target| bytes(target, limit)).transpose()?;
            level.ramp_ns = ramp_ns;
        }
        Ok(level)
    }
}

impl Memory {
    /// So that there is as much as a level asks for, and what was recorded elsewhere.
    fn with_level(mut self, level: &Level) -> Self {
        let bin = |ns: u64| usize::try_from(ns / BIN_NS).unwrap_or(BINS_MAX).min(BINS_MAX);
        let (from, to) = (bin(level.window_ns.0), bin(level.window_ns.1));
        if let Some(target) = level.memory_bytes {
            let last = self.bins.last().copied().unwrap_or(0);
            self.bins.resize(self.bins.len().max(to), last);
            let begin = self.bins.get(from).copied().unwrap_or(last);
            let ramp = (level.ramp_ns / BIN_NS).max(1);
            for (at, bin) in self.bins.iter_mut().enumerate().take(to).skip(from) {
                let done = (at - from + 1) as u64;
                let grown =
                    u128::from(target.saturating_sub(begin)) * u128::from(done.min(ramp)) / u128::from(ramp);
                *bin = (*bin).max(if done >= ramp { target } else { begin.saturating_add(grown as u64) });
            }
            self.peak_bytes = self.bins.iter().copied().max().unwrap_or(0);
        }
        self.limit_bytes = level.limit_bytes.or(self.limit_bytes);
        self
    }
}

impl Pressure {
    /// With a level in place of what was recorded at the same time; on so many CPUs.
    #[must_use]
    pub fn with(mut self, level: &Level, cpus: u32) -> Self {
        match level.cpu {
            Some(Cpu::Share(share)) => self.cpu = Throttle::with_level(self.cpu, share, level.window_ns),
            Some(Cpu::Neighbours(share)) => {
                let load = self.load.unwrap_or_default().with_neighbours(share, cpus, level.window_ns);
                self.load = Some(load).filter(|load| !load.is_none());
            }
            None => {}
        }
        if level.memory_bytes.is_some() || level.limit_bytes.is_some() {
            let none =
                || Memory { counted: Counted::Resident, bins: vec![0], peak_bytes: 0, limit_bytes: None };
            self.memory = Some(self.memory.unwrap_or_else(none).with_level(level));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctrace_analysis::faults::Window;

    const MS: u64 = 1_000_000;
    const BASES: Bases = Bases { length_ns: 1_000 * MS, node_bytes: Some(8 << 30) };

    #[test]
    fn a_level_takes_the_place_of_what_was_recorded_then() {
        let all = Level { cpu: Some(Cpu::Share(0.2)), window_ns: (0, 1_000 * MS), ..Level::default() };
        let pressure = Pressure::default().with(&all, 2);
        let cpu = pressure.cpu.as_ref().unwrap();
        assert_eq!((cpu.period.quota_ns, cpu.period.length_ns), (20 * MS, 100 * MS));
        assert_eq!((cpu.spans.len(), cpu.throttled_ns()), (10, 800 * MS));
        let later = Level { cpu: Some(Cpu::Share(0.5)), window_ns: (500 * MS, 700 * MS), ..all };
        let both = pressure.with(&later, 2).cpu.unwrap();
        assert!(both.spans.windows(2).all(|pair| pair[0].end_ns <= pair[1].begin_ns), "{:?}", both.spans);
        assert_eq!(both.throttled_ns(), (4 * 80 + 2 * 50 + 3 * 80) * MS);
        // However long it is to last.
        let endless = Level { window_ns: (0, u64::MAX), memory_bytes: Some(1), ..all };
        let endless = Pressure::default().with(&endless, 2);
        assert!(endless.cpu.unwrap().spans.len() <= BINS_MAX);
        assert_eq!(endless.memory.unwrap().bins.len(), BINS_MAX);
        for share in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            let level = Level { cpu: Some(Cpu::Share(share)), ..all };
            assert!(Pressure::default().with(&level, 2).is_none(), "{share}");
        }
    }

    #[test]
    fn memory_gets_to_its_target_in_time() {
        let level = Level {
            memory_bytes: Some(100),
            limit_bytes: Some(120),
            ramp_ns: 400 * MS,
            window_ns: (200 * MS, 800 * MS),
            ..Level::default()
        };
        let memory =
            Memory { counted: Counted::Resident, bins: vec![20; 10], peak_bytes: 20, limit_bytes: None };
        let recorded = Pressure { memory: Some(memory), ..Pressure::default() };
        let memory = recorded.with(&level, 1).memory.unwrap();
        assert_eq!(memory.bins, [20, 20, 40, 60, 80, 100, 100, 100, 20, 20]);
        assert_eq!((memory.peak_bytes, memory.limit_bytes), (100, Some(120)));
    }

    #[test]
    fn shares_are_of_what_there_is() {
        let memory = |target, limit| Levels {
            memory: Some(faults::Memory::Level { target: Some(target), limit, ramp_ns: 0 }),
            window: Some(Window { from_ns: 5, to_ns: None }),
            ..Levels::default()
        };
        let none = Pressure::default();
        let half = Amount::OfLimit(0.5);
        assert_eq!(Level::of(&memory(half, None), &none, BASES), Err(LevelError::NoLimit));
        let level = Level::of(&memory(half, Some(Amount::Bytes(80))), &none, BASES).unwrap();
        assert_eq!((level.memory_bytes, level.limit_bytes), (Some(40), Some(80)));
        assert_eq!(level.window_ns, (5, BASES.length_ns));
        let level = Level::of(&memory(Amount::OfNode(0.25), None), &none, BASES).unwrap();
        assert_eq!(level.memory_bytes, Some(2 << 30));
        let bases = Bases { node_bytes: None, ..BASES };
        assert_eq!(Level::of(&memory(Amount::OfNode(0.25), None), &none, bases), Err(LevelError::NoNode));
    }
}
