//! The machine and its limits: CPU, memory, disks, queues, clocks.

use super::backlog::Overflow;
use super::people::{Actor, ProcessId, RoleId};
use super::tally::Series as Durations;
use super::words::{at, count, plural, span, when};
use super::{Facts, Finding, Kind, Level};
use crate::clock::{Jump, Jumps};
use ctrace_format::{Block, BlockOp, ClockAnchor, Container, Header, Metric, Resource, Usage};
use rustc_hash::FxHashMap;

/// Subjects of samples: the host, the scope; a container is its number and one.
pub(crate) const HOST: u32 = 0;
pub(crate) const SCOPE: u32 = 1;
const MAX_SUBJECTS: usize = 4096;

/// The samples of one counter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sampled {
    pub(super) n: u64,
    pub(super) first: (u64, u64),
    pub(super) last: (u64, u64),
    pub(super) max: (u64, u64),
    /// When it grew first and last.
    pub(super) grew: Option<(u64, u64)>,
    /// The longest stretch of growth, for figures of the worst second.
    pub(super) worst: (u64, u64),
    pub(super) second: (u64, u64),
}

impl Sampled {
    fn add(&mut self, t_ns: u64, value: u64) {
        const SECOND_NS: u64 = 1_000_000_000;
        if self.n == 0 {
            (self.first, self.max, self.second) = ((t_ns, value), (t_ns, value), (t_ns, value));
        }
        if self.n > 0 && value > self.last.1 {
            self.grew = Some((self.grew.map_or(self.last.0, |g| g.0), t_ns));
        }
        if t_ns >= self.second.0 + SECOND_NS {
            let growth = value.saturating_sub(self.second.1);
            if growth > self.worst.1 {
                self.worst = (self.second.0, growth);
            }
            self.second = (t_ns, value);
        }
        self.n += 1;
        self.last = (t_ns, value);
        if value > self.max.1 {
            self.max = (t_ns, value);
        }
    }

    pub(super) fn growth(&self) -> u64 {
        self.last.1.saturating_sub(self.first.1)
    }
}

/// The time of a role in a container.
#[derive(Debug, Default)]
pub(super) struct Spent {
    /// A process that has it.
    pub(super) process: Option<ProcessId>,
    pub(super) cpu_ns: u64,
    pub(super) wait_ns: u64,
    /// When most of it was waiting, first and last.
    pub(super) starved: Option<(u64, u64)>,
    /// The stretch with most of it: how long, its end, and whose.
    pub(super) longest: (u64, u64, u32),
}

/// A memory cgroup at its limit.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub(super) group: String,
    pub(super) bytes: u64,
    pub(super) used: u64,
}

/// A process that the kernel killed for lack of memory, as others need it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Killed {
    pub(super) t_ns: u64,
    pub(super) victim: ProcessId,
    /// The process whose allocation set it off.
    pub(super) by: Option<ProcessId>,
}

#[derive(Debug)]
pub(super) struct Kill {
    pub(super) t_ns: u64,
    pub(super) victim: Actor,
    pub(super) by: Option<ProcessId>,
    pub(super) rss: u64,
    pub(super) limit: Option<Limit>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) cpus: u64,
    pub(super) samples: FxHashMap<(u32, Metric), Sampled>,
    pub(super) spent: FxHashMap<(RoleId, Option<u32>), Spent>,
    pub(super) kills: Vec<Kill>,
    pub(super) disk: [Durations; 3],
    pub(super) disk_errors: u64,
    pub(super) faults: Durations,
    pub(super) clock: Jumps,
}

impl Machine {
    pub(super) fn new(header: &Header) -> Self {
        Self {
            cpus: u64::from(header.host.cpus.max(1)),
            samples: FxHashMap::default(),
            spent: FxHashMap::default(),
            kills: Vec::new(),
            disk: Default::default(),
            disk_errors: 0,
            faults: Durations::default(),
            clock: Jumps::default(),
        }
    }

    pub(super) fn sample(&mut self, r: Resource) {
        let key = (r.subject, r.metric);
        if self.samples.len() < MAX_SUBJECTS || self.samples.contains_key(&key) {
            self.samples.entry(key).or_default().add(r.t_ns, r.value);
        }
    }

    /// A task of a container spent time.
    pub(super) fn usage(&mut self, usage: &Usage, actor: Actor, container: Option<u32>) {
        let spent = self.spent.entry((actor.role, container)).or_default();
        spent.process.get_or_insert(actor.process);
        spent.cpu_ns = spent.cpu_ns.saturating_add(usage.cpu_ns);
        spent.wait_ns = spent.wait_ns.saturating_add(usage.wait_ns);
        if usage.wait_ns > spent.longest.0 {
            spent.longest = (usage.wait_ns, usage.t_ns, actor.tid);
        }
        if usage.wait_ns > usage.cpu_ns && usage.wait_ns >= 1_000_000 {
            spent.starved =
                Some((spent.starved.map_or(usage.from_ns, |s| s.0.min(usage.from_ns)), usage.t_ns));
        }
    }

    pub(super) fn block(&mut self, block: &Block) {
        let side = match block.op {
            BlockOp::Read => 0,
            BlockOp::Flush => 2,
            _ => 1,
        };
        self.disk[side].add(block.t_ns, block.duration_ns);
        self.disk_errors += u64::from(block.error != 0);
    }

    pub(super) fn anchor(&mut self, anchor: ClockAnchor) {
        self.clock.add(anchor);
    }

    pub(super) fn fault(&mut self, t_ns: u64, blocked_ns: u64) {
        self.faults.add(t_ns, blocked_ns);
    }

    pub(super) fn oom_kill(
        &mut self,
        t_ns: u64,
        victim: Actor,
        by: Option<ProcessId>,
        rss: u64,
        limit: Option<Limit>,
    ) {
        if self.kills.len() < MAX_SUBJECTS {
            self.kills.push(Kill { t_ns, victim, by, rss, limit });
        }
    }

    /// Processes that the kernel killed for lack of memory.
    pub(super) fn victims(&self) -> Vec<ProcessId> {
        self.kills.iter().map(|k| k.victim.process).collect()
    }

    /// As [`Self::victims`], with when and whose allocation it was.
    pub(super) fn killed(&self) -> Vec<Killed> {
        let killed = |k: &Kill| Killed { t_ns: k.t_ns, victim: k.victim.process, by: k.by };
        self.kills.iter().map(killed).collect()
    }

    pub(super) fn get(&self, subject: u32, metric: Metric) -> Option<&Sampled> {
        self.samples.get(&(subject, metric))
    }

    /// The scope and its containers: those that have limits of their own.
    pub(super) fn subjects(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.samples.keys().map(|k| k.0).filter(|s| *s != HOST).collect();
        all.sort_unstable();
        all.dedup();
        // Where containers are told apart, each is against its own limit.
        if all.iter().any(|s| *s > SCOPE) {
            all.retain(|s| *s > SCOPE);
        }
        all
    }

    pub(super) fn findings(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        self.memory(facts, out);
        self.cpu(facts, out);
        self.queues(facts, out);
        self.disks(facts, out);
        for jump in &self.clock.found {
            out.push(clock(jump));
        }
    }

    /// Connections that found a queue full.
    pub(super) fn overflows(&self, containers: &[Container]) -> Vec<Overflow> {
        let of = |subject| {
            let overflows = self.get(subject, Metric::ListenOverflows).filter(|s| s.growth() > 0)?;
            let (from_ns, to_ns) = overflows.grew.unwrap_or_default();
            let longest = self.get(subject, Metric::AcceptQueue).map_or(0, |s| s.max.1);
            let group = subject_name(subject, containers);
            Some(Overflow { group, from_ns, to_ns, count: overflows.growth(), longest })
        };
        self.subjects().into_iter().filter_map(of).collect()
    }

    fn queues(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        for subject in self.subjects() {
            let (Some(pids), Some(limit)) =
                (self.get(subject, Metric::Pids), self.get(subject, Metric::PidsLimit))
            else {
                continue;
            };
            if limit.last.1 != u64::MAX && pids.max.1 >= limit.last.1 {
                let name = subject_name(subject, facts.containers);
                let sentence =
                    format!("{name} had {} tasks at {}, its limit", count(pids.max.1), at(pids.max.0));
                out.push(
                    Finding::new(
                        Kind::PidsLimit,
                        Level::Warning,
                        super::rank::score(Kind::PidsLimit),
                        sentence,
                    )
                    .over(pids.max.0, pids.last.0, 1)
                    .against(name)
                    .seen(pids.max.0, 0),
                );
            }
        }
    }

    fn disks(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        const SLOW_NS: u64 = 200_000_000;
        const VERY_SLOW_NS: u64 = 1_000_000_000;
        for (durations, what) in self.disk.iter().zip(["reads", "writes", "flushes"]) {
            let slow: Vec<(u64, u64)> = durations.sorted().into_iter().filter(|x| x.1 >= SLOW_NS).collect();
            if slow.is_empty() {
                continue;
            }
            let (from_ns, to_ns) = (slow[0].0, slow[slow.len() - 1].0);
            let sentence = format!(
                "{} of {} disk {what} took more than {} {} (up to {})",
                count(slow.len() as u64),
                count(durations.len()),
                span(SLOW_NS),
                when(from_ns, to_ns),
                span(durations.max_ns)
            );
            let level = if durations.max_ns >= VERY_SLOW_NS && slow.len() >= 3 {
                Level::Warning
            } else {
                Level::Note
            };
            out.push(
                Finding::new(Kind::SlowDisk, level, super::rank::score(Kind::SlowDisk) - 10, sentence)
                    .over(from_ns, to_ns, slow.len() as u64)
                    .against("the block device")
                    .seen(from_ns.saturating_add(slow[0].1), 0),
            );
        }
        if self.disk_errors > 0 {
            let sentence = format!("{} of the disk failed", plural(self.disk_errors, "request"));
            out.push(
                Finding::new(Kind::SlowDisk, Level::Cause, super::rank::score(Kind::SlowDisk), sentence)
                    .over(0, facts.duration_ns, self.disk_errors)
                    .against("the block device"),
            );
        }
        if self.faults.sum_ns >= SLOW_NS {
            let sentence = format!(
                "{} blocked for {} in all (longest {}): memory was short, or a file was read through a mapping",
                plural(self.faults.len(), "page fault"),
                span(self.faults.sum_ns),
                span(self.faults.max_ns)
            );
            out.push(
                Finding::new(Kind::SlowDisk, Level::Note, super::rank::score(Kind::SlowDisk) - 20, sentence)
                    .over(self.faults.max_at_ns, self.faults.max_at_ns, self.faults.len()),
            );
        }
    }
}

/// The subject of samples.
pub(crate) fn subject_name(subject: u32, containers: &[Container]) -> String {
    match subject {
        HOST => "the machine".to_owned(),
        SCOPE => "the recorded group".to_owned(),
        n => containers.iter().find(|c| c.number + 1 == n).map_or_else(
            || format!("container {}", n - 1),
            |c| {
                if c.sandbox {
                    "the pod's sandbox".to_owned()
                } else if c.name.is_empty() {
                    format!("container {}", c.id.chars().take(12).collect::<String>())
                } else {
                    format!("container {}", c.name)
                }
            },
        ),
    }
}

fn clock(jump: &Jump) -> Finding {
    let (sentence, t_ns, by_ns) = match jump {
        Jump::Stepped { t_ns, by_ns } => (
            format!(
                "the clock was set {} by {} before {}: times that programs compare may be wrong; times here are not affected",
                if *by_ns < 0 { "back" } else { "forward" },
                span(by_ns.unsigned_abs()),
                at(*t_ns)
            ),
            *t_ns,
            by_ns.unsigned_abs(),
        ),
        Jump::Slept { t_ns, for_ns } => {
            (format!("the machine slept for {} before {}", span(*for_ns), at(*t_ns)), *t_ns, *for_ns)
        }
    };
    let level = if by_ns >= 1_000_000_000 { Level::Cause } else { Level::Note };
    Finding::new(Kind::ClockJump, level, super::rank::score(Kind::ClockJump), sentence).over(t_ns, t_ns, 1)
}
