//! How much a replay may take, and why that much: worked out once, before anything of the trace runs.

use super::host::Free;
pub use super::resource::Resource;
use crate::plan::need::Need;
use serde::Serialize;
use std::fmt;

/// Where a limit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Twice what the recording needs or was seen to use; for the duration four times, and 30 s.
    Recording,
    /// The least that any replay is given.
    Floor,
    /// Half of what is free here: on the host, and in the cgroups around ctrace.
    Host,
    /// All that is free here: no flag gives more.
    Free,
    /// What ctrace itself may have: nobody can be given more.
    Own,
    /// A day: longer only when somebody says so.
    Day,
    /// The command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recording => "from the recording",
            Self::Floor => "the least given",
            Self::Host => "half of what is free here",
            Self::Free => "all that is free here",
            Self::Own => "what ctrace itself may have, see `ulimit -Hn`",
            Self::Day => "a day, unless the flag says more",
            Self::Flag => "the flag",
        })
    }
}

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Limit {
    /// The most there may be.
    pub limit: u64,
    /// Why.
    pub source: Source,
}

impl Limit {
    /// A limit that somebody chose.
    pub const fn flag(limit: u64) -> Self {
        Self { limit, source: Source::Flag }
    }
    const fn floor(limit: u64) -> Self {
        Self { limit, source: Source::Floor }
    }
}

/// Bounds on what a replay may take, whatever its trace says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Limits {
    /// See [`Resource::Memory`].
    pub memory: Limit,
    /// See [`Resource::Tasks`].
    pub tasks: Limit,
    /// See [`Resource::Disk`].
    pub disk: Limit,
    /// See [`Resource::Files`].
    pub files: Limit,
    /// See [`Resource::Descriptors`].
    pub descriptors: Limit,
    /// See [`Resource::Addresses`].
    pub addresses: Limit,
    /// See [`Resource::Duration`].
    pub duration: Limit,
}

/// Largest size of a sparse file: what the compiler gives files at most.
pub(crate) const FILE_BYTES: u64 = 1 << 40;

const SECOND_NS: u64 = 1_000_000_000;
const DAY_NS: u64 = 86_400 * SECOND_NS;
/// What every replay gets on top of four times its recording: starting and stopping count, too.
const DURATION_FLOOR_NS: u64 = 30 * SECOND_NS;
/// An inode and a directory entry of a tmpfs.
const FILE_MEMORY_BYTES: u64 = 1 << 10;

impl Default for Limits {
    /// The least that any replay is given, where the host has that much.
    fn default() -> Self {
        Self {
            memory: Limit::floor(1 << 30),
            tasks: Limit::floor(1024),
            disk: Limit::floor(1 << 30),
            files: Limit::floor(100_000),
            descriptors: Limit::floor(8192),
            addresses: Limit::floor(1024),
            duration: Limit::floor(DURATION_FLOOR_NS),
        }
    }
}

/// Figures above which no recording of a real program can be: a trace that has them was made to do harm, or is damaged.
const fn ceiling(resource: Resource) -> u64 {
    match resource {
        // More than any machine that runs Linux has (the largest x86-64 systems sold: 32 to 64 TiB).
        Resource::Memory | Resource::Disk => 1 << 46,
        // PID_MAX_LIMIT (linux/threads.h).
        Resource::Tasks => 4 << 20,
        // A recording names each of its files; at 20 bytes a name that is a trace of 20 GB.
        Resource::Files => 1 << 30,
        // The highest value of fs.nr_open (fs/file.c: sysctl_nr_open_max).
        Resource::Descriptors => i32::MAX as u64 & !63,
        // More than the ports of a busy proxy's every connection.
        Resource::Addresses => 1 << 20,
        // Two years: an incident is recorded in minutes, a flight recorder keeps a window.
        Resource::Duration => 730 * DAY_NS,
    }
}

/// What the command line says: nothing is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags([Option<u64>; Resource::ALL.len()]);

impl Flags {
    /// With a limit on `resource`, if there is one.
    #[must_use]
    pub fn with(mut self, resource: Resource, limit: Option<u64>) -> Self {
        self.0[resource as usize] = limit;
        self
    }
    fn get(&self, resource: Resource) -> Option<u64> {
        self.0[resource as usize]
    }
}

/// A trace that asks for more than it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct TooMuch {
    /// Of what.
    pub resource: Resource,
    /// What it needs.
    pub need: u64,
    /// The limit.
    pub limit: Limit,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, need, limit } = self;
        let (need, most) = (resource.phrase(*need), resource.text(limit.limit));
        if self.is_dishonest() {
            return write!(
                f,
                "the trace asks for {need}, which no recording of a real program can need (at most {})",
                resource.text(ceiling(*resource))
            );
        }
        write!(f, "the replay needs {need}; it may have {most} ({})", limit.source)
    }
}

impl TooMuch {
    /// Whether no honest trace can need that much.
    pub fn is_dishonest(&self) -> bool {
        self.need > ceiling(self.resource)
    }
}

/// The most that a recorded hard limit of descriptors counts for: what kernels allow unless told otherwise
/// (`sysctl_nr_open`, fs/file.c).
const RECORDED_DESCRIPTORS_MOST: u64 = 1 << 20;

impl Limits {
    /// Works the limits out: twice the need and not less than the floor, at most half of what is free, and whatever
    /// `flags` say, which is taken as it is. `speed` is recorded time divided by replayed time.
    pub fn resolve(need: &Need, free: &Free, flags: &Flags, speed: f64) -> Self {
        let floors = Self::default();
        let twice = |need: u64, seen: u64, floor: Limit| {
            let wanted = need.max(seen).saturating_mul(2);
            if wanted > floor.limit { Limit { limit: wanted, source: Source::Recording } } else { floor }
        };
        let at_most = |limit: Limit, free: Option<u64>, source: Source| match free {
            Some(most) if most < limit.limit => Limit { limit: most, source },
            _ => limit,
        };
        let half = |free: Option<u64>| free.map(|free| free / 2);
        let chosen = |resource, limit| flags.get(resource).map_or(limit, Limit::flag);

        let wanted = twice(need.memory_bytes, need.seen_memory_bytes, floors.memory);
        let memory = at_most(wanted, half(free.memory_bytes), Source::Host);
        // A flag may have the other half as well, but not what is not there.
        let memory = at_most(chosen(Resource::Memory, memory), free.memory_bytes, Source::Free);
        // The private root is in memory: it cannot have more than there is of that.
        let disk = twice(need.disk_bytes, 0, floors.disk);
        let disk = at_most(disk, Some(memory.limit), memory.source);
        let files = twice(need.files, 0, floors.files);
        let files = at_most(files, Some(memory.limit / 2 / FILE_MEMORY_BYTES), memory.source);
        let tasks = twice(need.tasks, need.seen_tasks, floors.tasks);
        let tasks = at_most(tasks, half(free.tasks), Source::Host);
        let descriptors = twice(need.descriptors, 0, floors.descriptors);
        // A program that raises its soft limit to the hard one opens no more for that, but must not fail: the guard
        // watches how many files there are.
        let recorded = need.recorded_descriptor_limit.min(RECORDED_DESCRIPTORS_MOST);
        let descriptors = if recorded > descriptors.limit {
            Limit { limit: recorded, source: Source::Recording }
        } else {
            descriptors
        };
        // Nobody can be given more than ctrace itself may have, free or not.
        let descriptors = at_most(descriptors, free.descriptors, Source::Own);
        let recorded = scaled(need.duration_ns, speed);
        let duration = Limit {
            limit: recorded.saturating_mul(4).saturating_add(DURATION_FLOOR_NS),
            source: if recorded == 0 { Source::Floor } else { Source::Recording },
        };
        Self {
            memory,
            tasks: at_most(chosen(Resource::Tasks, tasks), free.tasks, Source::Free),
            disk: chosen(Resource::Disk, disk),
            files: chosen(Resource::Files, files),
            descriptors: chosen(Resource::Descriptors, descriptors),
            addresses: chosen(Resource::Addresses, twice(need.addresses, 0, floors.addresses)),
            duration: chosen(Resource::Duration, at_most(duration, Some(DAY_NS), Source::Day)),
        }
    }

    /// One of them.
    pub fn get(&self, resource: Resource) -> Limit {
        match resource {
            Resource::Memory => self.memory,
            Resource::Tasks => self.tasks,
            Resource::Disk => self.disk,
            Resource::Files => self.files,
            Resource::Descriptors => self.descriptors,
            Resource::Addresses => self.addresses,
            Resource::Duration => self.duration,
        }
    }

    /// Checks what a trace asks for before anything is made. `speed` as for [`Self::resolve`].
    ///
    /// # Errors
    /// The first resource of which it needs more than it may have; one that no honest trace needs comes first.
    pub fn check(&self, need: &Need, speed: f64) -> Result<(), TooMuch> {
        let asked = Resource::ALL.map(|resource| {
            let need = match resource {
                Resource::Duration => scaled(need.duration_ns, speed),
                _ => needed(need, resource),
            };
            TooMuch { resource, need, limit: self.get(resource) }
        });
        // Who says how long it may take wants the part of it that fits.
        let chosen = self.duration.source == Source::Flag;
        let over =
            |one: &&TooMuch| one.need > one.limit.limit && !(chosen && one.resource == Resource::Duration);
        // How long a recording is does not depend on the speed.
        let endless = TooMuch {
            resource: Resource::Duration,
            need: need.duration_ns,
            limit: self.get(Resource::Duration),
        };
        if endless.is_dishonest() && !chosen {
            return Err(endless);
        }
        let mut refused = asked.iter().filter(over);
        let dishonest = refused.clone().find(|one| one.is_dishonest());
        dishonest.or_else(|| refused.next()).map_or(Ok(()), |one| Err(*one))
    }
}

/// What a trace needs of something.
pub(crate) fn needed(need: &Need, resource: Resource) -> u64 {
    match resource {
        Resource::Memory => need.memory_bytes,
        Resource::Tasks => need.tasks,
        Resource::Disk => need.disk_bytes,
        Resource::Files => need.files,
        Resource::Descriptors => need.descriptors,
        Resource::Addresses => need.addresses,
        Resource::Duration => need.duration_ns,
    }
}

fn scaled(recorded_ns: u64, speed: f64) -> u64 {
    (recorded_ns as f64 / speed) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn free() -> Free {
        Free { memory_bytes: Some(16 * GIB), tasks: Some(30_000), descriptors: Some(20_000) }
    }

    fn resolve(need: &Need, flags: &Flags) -> Limits {
        Limits::resolve(need, &free(), flags, 1.0)
    }

    #[test]
    fn a_hard_limit_of_descriptors_that_a_program_sets_can_be_set() {
        let need = |hard| Need { descriptors: 10, recorded_descriptor_limit: hard, ..Need::default() };
        let limit = |hard| Limits::resolve(&need(hard), &free(), &Flags::default(), 1.0).descriptors;
        assert_eq!(limit(15_000), Limit { limit: 15_000, source: Source::Recording });
        assert_eq!(limit(100), Limits::default().descriptors);
        // Nobody gets more than ctrace itself has.
        assert_eq!(limit(u64::MAX), Limit { limit: 20_000, source: Source::Own });
    }

    #[test]
    fn no_flag_gives_what_is_not_there() {
        let flags =
            Flags::default().with(Resource::Memory, Some(64 * GIB)).with(Resource::Tasks, Some(1 << 20));
        let limits = Limits::resolve(&Need::default(), &free(), &flags, 1.0);
        assert_eq!(limits.memory, Limit { limit: 16 * GIB, source: Source::Free });
        assert_eq!(limits.tasks, Limit { limit: 30_000, source: Source::Free });
        let flags = Flags::default().with(Resource::Memory, Some(12 * GIB));
        assert_eq!(Limits::resolve(&Need::default(), &free(), &flags, 1.0).memory, Limit::flag(12 * GIB));
    }

    #[test]
    fn a_small_trace_gets_the_floor_a_larger_one_twice_its_need() {
        let limits = resolve(&Need::default(), &Flags::default());
        assert_eq!(limits, Limits { duration: limits.duration, ..Limits::default() });
        assert_eq!(limits.duration, Limit { limit: 30 * SECOND_NS, source: Source::Floor });

        let need = Need { memory_bytes: 2 * GIB, tasks: 700, duration_ns: 10 * SECOND_NS, ..Need::default() };
        let limits = resolve(&need, &Flags::default());
        assert_eq!(limits.memory, Limit { limit: 4 * GIB, source: Source::Recording });
        assert_eq!(limits.tasks, Limit { limit: 1400, source: Source::Recording });
        assert_eq!(limits.duration, Limit { limit: 70 * SECOND_NS, source: Source::Recording });
        assert_eq!(limits.check(&need, 1.0), Ok(()));
    }

    #[test]
    fn what_was_seen_raises_a_limit_but_refuses_nothing() {
        let need = Need { seen_memory_bytes: 100 * GIB, seen_tasks: 1_000_000, ..Need::default() };
        let limits = resolve(&need, &Flags::default());
        assert_eq!(limits.memory, Limit { limit: 8 * GIB, source: Source::Host });
        assert_eq!(limits.tasks, Limit { limit: 15_000, source: Source::Host });
        assert_eq!(limits.check(&need, 1.0), Ok(()));
    }

    #[test]
    fn the_host_lends_half_of_what_is_free_and_a_flag_more() {
        let need = Need { memory_bytes: 9 * GIB, disk_bytes: 6 * GIB, ..Need::default() };
        let limits = resolve(&need, &Flags::default());
        assert_eq!(limits.memory, Limit { limit: 8 * GIB, source: Source::Host });
        assert_eq!(limits.disk, Limit { limit: 8 * GIB, source: Source::Host });
        let refused = limits.check(&need, 1.0).unwrap_err();
        assert_eq!((refused.resource, refused.need), (Resource::Memory, 9 * GIB));
        assert!(!refused.is_dishonest());
        let text = refused.to_string();
        assert_eq!(
            text,
            "the replay needs 9.0 GiB of memory; it may have 8.0 GiB (half of what is free here)"
        );
        let flags = Flags::default().with(Resource::Memory, Some(10 * GIB));
        let limits = resolve(&need, &flags);
        assert_eq!(limits.memory, Limit::flag(10 * GIB));
        assert_eq!(limits.check(&need, 1.0), Ok(()));
    }

    #[test]
    fn a_host_with_nothing_free_lends_nothing() {
        let free = Free { memory_bytes: Some(100 << 20), tasks: Some(10), descriptors: Some(64) };
        let limits = Limits::resolve(&Need::default(), &free, &Flags::default(), 1.0);
        assert_eq!(limits.memory.limit, 50 << 20);
        assert_eq!(limits.disk, limits.memory);
        assert_eq!(limits.tasks, Limit { limit: 5, source: Source::Host });
        assert_eq!(limits.descriptors.limit, 64);
        let need = Need { memory_bytes: 60 << 20, ..Need::default() };
        assert_eq!(limits.check(&need, 1.0).unwrap_err().limit.source, Source::Host);
    }

    #[test]
    fn time_is_four_times_the_recording_and_a_day_at_most() {
        let recorded = |duration_ns| Need { duration_ns, ..Need::default() };
        let limits = resolve(&recorded(20 * 3600 * SECOND_NS), &Flags::default());
        assert_eq!(limits.duration, Limit { limit: DAY_NS, source: Source::Day });
        assert_eq!(limits.check(&recorded(20 * 3600 * SECOND_NS), 1.0), Ok(()));
        // Two days: refused, unless they are allowed or replayed faster.
        let two = recorded(2 * DAY_NS);
        let refused = resolve(&two, &Flags::default()).check(&two, 1.0).unwrap_err();
        assert_eq!((refused.resource, refused.limit.source), (Resource::Duration, Source::Day));
        assert!(!refused.is_dishonest());
        assert_eq!(Limits::resolve(&two, &free(), &Flags::default(), 10.0).check(&two, 10.0), Ok(()));
        // A limit on the time is no demand that all of it fits.
        for allowed in [3 * DAY_NS, SECOND_NS] {
            let limits = resolve(&two, &Flags::default().with(Resource::Duration, Some(allowed)));
            assert_eq!(limits.duration, Limit::flag(allowed));
            assert_eq!(limits.check(&two, 1.0), Ok(()));
        }
    }

    #[test]
    fn three_hundred_million_minutes_are_no_recording() {
        let need = Need { duration_ns: 300_000_000 * 60 * SECOND_NS, ..Need::default() };
        for speed in [1.0, 1e9] {
            let limits = Limits::resolve(&need, &free(), &Flags::default(), speed);
            assert!(limits.duration.limit <= DAY_NS);
            assert!(limits.check(&need, speed).unwrap_err().is_dishonest(), "speed {speed}");
        }
    }

    #[test]
    fn what_no_honest_trace_needs_is_said_first() {
        let need = Need { memory_bytes: 9 * GIB, files: u64::MAX, ..Need::default() };
        let refused = resolve(&need, &Flags::default()).check(&need, 1.0).unwrap_err();
        assert_eq!((refused.resource, refused.is_dishonest()), (Resource::Files, true));
    }

    #[test]
    fn every_resource_is_refused_by_its_flag() {
        for resource in Resource::ALL.into_iter().filter(|resource| *resource != Resource::Duration) {
            let mut need = Need::default();
            *match resource {
                Resource::Memory => &mut need.memory_bytes,
                Resource::Disk => &mut need.disk_bytes,
                Resource::Tasks => &mut need.tasks,
                Resource::Files => &mut need.files,
                Resource::Descriptors => &mut need.descriptors,
                Resource::Addresses => &mut need.addresses,
                Resource::Duration => &mut need.duration_ns,
            } = 101;
            assert_eq!(needed(&need, resource), 101);
            let flags = Flags::default().with(resource, Some(100));
            let refused = resolve(&need, &flags).check(&need, 1.0).unwrap_err();
            assert_eq!(refused, TooMuch { resource, need: 101, limit: Limit::flag(100) });
            assert!(resource.flag(101).starts_with(&format!("--max-{} ", resource.word())));
            let flags = Flags::default().with(resource, Some(101));
            assert_eq!(resolve(&need, &flags).check(&need, 1.0), Ok(()), "{resource:?}");
        }
    }
}
