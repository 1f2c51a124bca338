//! The machine and its limits: CPU, memory, disks, queues, clocks.

use super::backlog::Overflow;
use super::people::{Actor, ProcessId, RoleId};
use super::tally::Series as Durations;
use super::words::{at, bytes, count, percent, plural, span, times, when};
use super::{Facts, Finding, Kind, Level};
use crate::clock::{Jump, Jumps};
use ctrace_format::{Block, BlockOp, ClockAnchor, Container, Header, Metric, Resource, Usage};
use rustc_hash::FxHashMap;
use std::fmt::Write as _;

/// Subjects of samples: the host, the scope; a container is its number and one.
const HOST: u32 = 0;
const SCOPE: u32 = 1;
const MAX_SUBJECTS: usize = 4096;

/// The samples of one counter.
#[derive(Debug, Clone, Copy, Default)]
struct Sampled {
    n: u64,
    first: (u64, u64),
    last: (u64, u64),
    max: (u64, u64),
    /// When it grew first and last.
    grew: Option<(u64, u64)>,
    /// The longest stretch of growth, for figures of the worst second.
    worst: (u64, u64),
    second: (u64, u64),
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

    fn growth(&self) -> u64 {
        self.last.1.saturating_sub(self.first.1)
    }
}

/// The time of a role.
#[derive(Debug, Default)]
struct Spent {
    cpu_ns: u64,
    wait_ns: u64,
    /// When most of it was waiting, first and last.
    starved: Option<(u64, u64)>,
    /// The stretch with most of it: how long, its end, and whose.
    longest: (u64, u64, u32),
}

/// A memory cgroup at its limit.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub(super) group: String,
    pub(super) bytes: u64,
    pub(super) used: u64,
}

#[derive(Debug)]
struct Kill {
    t_ns: u64,
    victim: Actor,
    by: Option<ProcessId>,
    rss: u64,
    limit: Option<Limit>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    cpus: u64,
    samples: FxHashMap<(u32, Metric), Sampled>,
    spent: FxHashMap<RoleId, Spent>,
    kills: Vec<Kill>,
    disk: [Durations; 3],
    disk_errors: u64,
    faults: Durations,
    clock: Jumps,
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

    pub(super) fn usage(&mut self, usage: &Usage, actor: Actor) {
        let spent = self.spent.entry(actor.role).or_default();
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

    fn get(&self, subject: u32, metric: Metric) -> Option<&Sampled> {
        self.samples.get(&(subject, metric))
    }

    /// The scope and its containers: those that have limits of their own.
    fn subjects(&self) -> Vec<u32> {
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

    fn memory(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        for kill in &self.kills {
            let subject = facts.people.process(kill.victim.process).container.map_or(SCOPE, |n| n + 1);
            let mut sentence = format!(
                "the kernel killed {} for lack of memory {}",
                facts.people.named_process(kill.victim.process, facts.containers),
                when(kill.t_ns, kill.t_ns)
            );
            if kill.rss > 0 {
                let _ = write!(sentence, ", with {} resident", bytes(kill.rss));
            }
            let limit = [subject, SCOPE].into_iter().find_map(|s| self.limit(s).map(|l| (s, l)));
            match (&kill.limit, limit) {
                (Some(group), _) => {
                    let _ = write!(
                        sentence,
                        ": the memory cgroup {} had reached its limit of {}, using {}",
                        group.group,
                        bytes(group.bytes),
                        bytes(group.used)
                    );
                }
                (None, Some((subject, limit))) => {
                    let _ = write!(
                        sentence,
                        ": {} had reached its limit of {}",
                        subject_name(subject, facts.containers),
                        bytes(limit)
                    );
                }
                (None, None) => {
                    let host = self.get(HOST, Metric::MemoryLimitBytes).map(|s| s.last.1);
                    if let Some(host) = host.filter(|h| *h != u64::MAX) {
                        let _ = write!(
                            sentence,
                            ": a limit above what was recorded, or the machine's {}",
                            bytes(host)
                        );
                    }
                }
            }
            let used = [Metric::MemoryBytes, Metric::RssBytes, Metric::MemoryAnonBytes]
                .into_iter()
                .filter_map(|m| self.get(subject, m).or_else(|| self.get(SCOPE, m)))
                .find(|s| s.n >= 2 && s.max.1 > s.first.1);
            if let Some(used) = used {
                let took = used.max.0.saturating_sub(used.first.0).max(1);
                let rate = u128::from(used.max.1 - used.first.1) * 1_000_000_000 / u128::from(took);
                let _ = write!(
                    sentence,
                    "; it grew from {} to {} in {} ({} a second)",
                    bytes(used.first.1),
                    bytes(used.max.1),
                    span(took),
                    bytes(rate as u64)
                );
            }
            if let Some(by) = kill.by.filter(|by| *by != kill.victim.process) {
                let _ = write!(
                    sentence,
                    "; an allocation of {} set it off",
                    facts.people.named_process(by, facts.containers)
                );
            }
            out.push(
                Finding::new(Kind::Oom, Level::Cause, super::rank::score(Kind::Oom), sentence)
                    .over(kill.t_ns, kill.t_ns, 1)
                    .by(facts.people.process(kill.victim.process).comm.as_str())
                    .against(limit.map_or_else(String::new, |l| subject_name(l.0, facts.containers)))
                    .seen(kill.t_ns, kill.victim.tid),
            );
        }
        for subject in self.subjects() {
            let name = subject_name(subject, facts.containers);
            let growth = |metric| self.get(subject, metric).map_or(0, Sampled::growth);
            if growth(Metric::OomKills) > 0 && self.kills.is_empty() {
                let t_ns = self.get(subject, Metric::OomKills).and_then(|s| s.grew).map_or(0, |g| g.1);
                let sentence = format!(
                    "the kernel killed {} of {name} for lack of memory by {}",
                    plural(growth(Metric::OomKills), "process"),
                    at(t_ns)
                );
                out.push(
                    Finding::new(Kind::Oom, Level::Cause, super::rank::score(Kind::Oom), sentence)
                        .over(t_ns, t_ns, growth(Metric::OomKills))
                        .against(name.as_str())
                        .seen(t_ns, 0),
                );
            }
            let hits = growth(Metric::MemoryMaxEvents) + growth(Metric::MemoryHighEvents);
            let (Some(limit), Some(used)) = (self.limit(subject), self.get(subject, Metric::MemoryBytes))
            else {
                continue;
            };
            if hits >= 10 && used.max.1.saturating_mul(100) >= limit.saturating_mul(95) {
                let grew =
                    self.get(subject, Metric::MemoryMaxEvents).and_then(|s| s.grew).unwrap_or(used.max);
                // A cache that fills its group is what memory is for; anonymous memory cannot be dropped.
                let anon = self.get(subject, Metric::MemoryAnonBytes).map_or(0, |s| s.max.1);
                let level = if anon.saturating_mul(100) >= limit.saturating_mul(80) {
                    Level::Cause
                } else {
                    Level::Note
                };
                let sentence = format!(
                    "{name} ran into its memory limit of {} {} {}: it used up to {}, {} of it anonymous",
                    bytes(limit),
                    times(hits),
                    when(grew.0, grew.1),
                    bytes(used.max.1),
                    bytes(anon)
                );
                out.push(
                    Finding::new(Kind::MemoryLimit, level, super::rank::score(Kind::MemoryLimit), sentence)
                        .over(grew.0, grew.1, hits)
                        .against(name)
                        .seen(grew.1, 0),
                );
            }
        }
    }

    fn limit(&self, subject: u32) -> Option<u64> {
        let limit = self.get(subject, Metric::MemoryLimitBytes)?.last.1;
        let host = self.get(HOST, Metric::MemoryLimitBytes).map_or(u64::MAX, |s| s.last.1);
        (limit != u64::MAX && limit > 0 && limit < host).then_some(limit)
    }

    fn cpu(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        let mut throttled = false;
        for subject in self.subjects() {
            let Some(held) = self.get(subject, Metric::CpuThrottledNs) else { continue };
            let (lost, (from_ns, to_ns)) = (held.growth(), held.grew.unwrap_or_default());
            if lost < 100_000_000 {
                continue;
            }
            let growth = |metric| self.get(subject, metric).map_or(0, Sampled::growth);
            let (periods, all) = (growth(Metric::CpuThrottledPeriods), growth(Metric::CpuPeriods));
            // A burst now and then is what quotas are for.
            let level = if periods * 10 >= all
                && lost.saturating_mul(20) >= to_ns.saturating_sub(from_ns)
                && periods >= 5
            {
                throttled = true;
                Level::Cause
            } else {
                Level::Note
            };
            let name = subject_name(subject, facts.containers);
            let used = growth(Metric::CpuNs);
            let mut sentence = format!(
                "the CPU quota of {name} held its tasks back for {} {}, in {} of {} periods ({})",
                span(lost),
                when(from_ns, to_ns),
                count(periods),
                count(all),
                percent(periods, all)
            );
            if used > 0 {
                let _ = write!(sentence, "; it used {} of CPU time", span(used));
            }
            out.push(
                Finding::new(Kind::Throttled, level, super::rank::score(Kind::Throttled), sentence)
                    .over(from_ns, to_ns, periods)
                    .against(name)
                    .seen(to_ns, 0),
            );
        }
        self.starved(facts, throttled, out);
    }

    fn starved(&self, facts: &Facts<'_>, throttled: bool, out: &mut Vec<Finding>) {
        let waited: u64 = self.spent.values().map(|s| s.wait_ns).sum();
        let ran: u64 = self.spent.values().map(|s| s.cpu_ns).sum();
        let Some((role, worst)) =
            self.spent.iter().max_by_key(|(role, s)| (s.wait_ns, std::cmp::Reverse(**role)))
        else {
            return;
        };
        // A quota that holds tasks back makes them wait, too, and is told.
        if throttled
            || waited < 500_000_000
            || waited < ran
            || worst.wait_ns.saturating_mul(5) < facts.duration_ns
        {
            return;
        }
        let (from_ns, to_ns) = worst.starved.unwrap_or((0, facts.duration_ns));
        let host = self.get(HOST, Metric::CpuNs).map(|s| (s.growth(), s.last.0.saturating_sub(s.first.0)));
        let mut sentence = format!(
            "{} was ready to run and waited for a CPU for {} {}, and ran for {}",
            facts.who(*role),
            span(worst.wait_ns),
            when(from_ns, to_ns),
            span(worst.cpu_ns)
        );
        // Tasks that take all CPUs themselves wait for each other.
        let (mut own, mut busy) = (false, false);
        if let Some((used, over)) = host.filter(|h| h.1 > 0) {
            let all = over.saturating_mul(self.cpus);
            own = ran.saturating_mul(10) >= all.saturating_mul(5);
            busy = used.saturating_mul(10) >= all.saturating_mul(9);
            let _ = write!(
                sentence,
                "; the machine's {} were {} busy, {} of it with others",
                plural(self.cpus, "CPU"),
                percent(used, all),
                percent(used.saturating_sub(ran), used)
            );
        }
        let lost = waited >= 1_000_000_000 && waited >= ran.saturating_mul(2);
        let level = if own || !busy || !lost { Level::Note } else { Level::Cause };
        out.push(
            Finding::new(Kind::CpuStarved, level, super::rank::score(Kind::CpuStarved), sentence)
                .over(from_ns, to_ns, 1)
                .by(facts.people.role_name(*role))
                .seen(worst.longest.1, worst.longest.2),
        );
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
fn subject_name(subject: u32, containers: &[Container]) -> String {
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
