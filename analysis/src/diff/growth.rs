//! Growth in one run and not in the other, though nothing failed for it yet: descriptors that are not closed, memory
//! that is not given back.

use super::both::{Both, Run};
use super::pairing::Pairing;
use super::words::count;
use crate::model::{Held, Model, Process};
use crate::names::shorten;
use crate::report::{Amount, Cause};
use ctrace_format::Metric;
use std::collections::BTreeMap;

/// So many descriptors more or less are no leak.
pub(super) const FEW_DESCRIPTORS: u64 = 20;
/// Nor is it when the other run has more than half of them.
const MORE: u64 = 2;
/// So much memory more or less says nothing of a program, bytes.
pub(super) const LITTLE_MEMORY: f64 = 16.0 * MIB;
const MIB: f64 = 1_048_576.0;
/// A heap that is collected may be nearly so many times as large in another run.
pub(super) const LARGER: f64 = 2.0;
/// Memory grows that is so much larger in its last half than it was when a quarter of the run was over.
const GROWS: f64 = 1.3;
/// The calls by which a process takes memory.
const TAKES_MEMORY: [&str; 3] = ["brk", "mmap", "mremap"];

/// The memory counters of which the first that both runs have is compared. What a cgroup is charged for files is the
/// host's affair, and not among them.
pub(super) const MEMORY: &[Metric] = &[Metric::RssBytes, Metric::MemoryAnonBytes];

/// Descriptors of a family of tasks that only one of the runs holds in the end.
struct Kept {
    family: u32,
    held: Both<u64>,
    /// The kind that makes most of the difference, and how many more there are of it.
    kind: String,
    more: u64,
}

/// Memory that grows, or is larger, in one of the runs.
struct Grown {
    /// The most there was, bytes.
    most: Both<f64>,
    /// Whether there was more and more of it.
    grows: bool,
    /// The role whose calls took it, where that can be told.
    family: Option<u32>,
}

/// See the module.
pub(crate) struct Growth {
    kept: Vec<Kept>,
    memory: Option<Grown>,
}

impl Growth {
    /// `levels`: the memory of both runs over time, where it was sampled.
    pub(super) fn take(models: Both<&Model>, pairing: &Pairing<'_>, levels: Option<Both<&[f64]>>) -> Self {
        let memory = levels.and_then(grown).map(|memory| Grown { family: taker(models, pairing), ..memory });
        Self { kept: kept(models, pairing), memory }
    }

    /// The descriptors that a family of tasks holds in the end, and the difference, of what was recorded; the worst family.
    pub(super) fn descriptors(&self) -> Option<(Both<u64>, f64)> {
        let apart = |kept: &Kept| (kept.held, kept.held.apart() as f64 / kept.held.recorded.max(1) as f64);
        self.kept.iter().map(apart).reduce(|x, y| if y.1 > x.1 { y } else { x })
    }

    /// As causes, the one that is more of its kind first.
    pub(super) fn causes(&self, pairing: &Pairing<'_>) -> Vec<Cause> {
        let mut out: Vec<Cause> = self.kept.iter().map(|kept| descriptors(kept, pairing)).collect();
        if let Some(memory) = &self.memory {
            out.push(memory_cause(memory, pairing));
        }
        out
    }
}

/// The process of each family that holds most in the end.
fn most_held<'m>(model: &'m Model, families: &[u32]) -> BTreeMap<u32, &'m Process> {
    let mut out: BTreeMap<u32, &Process> = BTreeMap::new();
    for (process, family) in model.processes.iter().zip(families) {
        let most = out.entry(*family).or_insert(process);
        if process.held.count > most.held.count {
            *most = process;
        }
    }
    out
}

fn kept(models: Both<&Model>, pairing: &Pairing<'_>) -> Vec<Kept> {
    let most = Both::each(|run| most_held(models.of(run), pairing.family.of(run)));
    let mut out = Vec::new();
    for (family, recorded) in &most.recorded {
        let Some(other) = most.other.get(family) else { continue };
        let processes = Both::new(*recorded, *other);
        let held = processes.map(|p| p.held.count);
        let run = held.with_more();
        // Descriptors that a process began with come from others, or from the time before.
        let began = processes.of(run).start_fds as u64;
        let grew = held.of(run).saturating_sub(began);
        if held.apart() < FEW_DESCRIPTORS || grew < FEW_DESCRIPTORS || held.most() < held.shared() * MORE {
            continue;
        }
        // Files of many names are a cache.
        let kind = kind(processes.map(|p| &p.held), run).filter(|(_, n)| n * 2 > held.apart());
        let Some((kind, more)) = kind else { continue };
        out.push(Kept { family: *family, held, kind, more });
    }
    out.sort_by_key(|kept| (std::cmp::Reverse(kept.held.apart()), kept.family));
    out
}

/// The kind of descriptor of which one run holds most more.
fn kind(held: Both<&Held>, run: Run) -> Option<(String, u64)> {
    let fewer = |name: &str| {
        let same = held.of(run.opposite()).kinds.iter().find(|other| other.name == name);
        same.map_or(0, |other| other.count)
    };
    let more = held.of(run).kinds.iter().map(|kind| (kind, kind.count.saturating_sub(fewer(&kind.name))));
    let (most, n) = more.max_by(|x, y| x.1.cmp(&y.1).then_with(|| y.0.name.cmp(&x.0.name)))?;
    Some((most.shown.clone(), n))
}

/// Descriptors of a kind in words: what they are, and whom they lead to.
fn of_kind(name: &str) -> String {
    let name = shorten(name, 80);
    if let Some(("tcp" | "udp" | "unix", peer)) = name.split_once(" to ") {
        return format!("sockets to {peer}");
    }
    match name.split_once(" at ") {
        Some(("tcp" | "unix", local)) => format!("sockets of clients of {local} that have left"),
        _ if name.is_empty() || name == "?" => "descriptors".to_owned(),
        _ if name == "pipe" => "ends of pipes".to_owned(),
        _ if name.starts_with('/') => format!("descriptors of {name}"),
        _ => format!("descriptors ({name})"),
    }
}

fn descriptors(kept: &Kept, pairing: &Pairing<'_>) -> Cause {
    let run = kept.held.with_more();
    let role = pairing.role(kept.family, run).to_owned();
    let there = match run {
        Run::Other => "are not closed",
        Run::Recorded => "were not closed there",
    };
    let text = format!(
        "{role} holds {} descriptors at the end, {} in the recording: {} {} {there}",
        count(kept.held.other),
        count(kept.held.recorded),
        count(kept.more),
        of_kind(&kept.kind)
    );
    Cause {
        kind: "descriptors",
        call: None,
        errno: None,
        role,
        object: (!kept.kind.is_empty()).then(|| kept.kind.clone()),
        before: Amount::times(kept.held.recorded),
        after: Amount::times(kept.held.other),
        share: None,
        text,
    }
}

/// Whether memory is larger in one of the runs by more than programs vary.
fn grown(levels: Both<&[f64]>) -> Option<Grown> {
    let most = levels.map(|level| level.iter().copied().fold(0.0, f64::max));
    let run = most.with_more();
    let (more, less) = (*most.of(run), *most.of(run.opposite()));
    (more - less >= LITTLE_MEMORY && more >= less * LARGER).then(|| Grown {
        most,
        grows: grows(levels.of(run)),
        family: None,
    })
}

/// Whether a level goes on growing after the beginning of a run.
fn grows(level: &[f64]) -> bool {
    let first = level.get(level.len() / 4).copied().unwrap_or(0.0);
    let last = level[level.len() / 2..].iter().copied().fold(0.0, f64::max);
    last >= first * GROWS
}

/// The family of tasks that makes most of the calls that one of the runs makes more of to take memory; the only one that
/// there is.
fn taker(models: Both<&Model>, pairing: &Pairing<'_>) -> Option<u32> {
    let mut made: BTreeMap<u32, Both<u64>> = BTreeMap::new();
    for run in Run::BOTH {
        let model = *models.of(run);
        for (process, family) in model.processes.iter().zip(pairing.family.of(run)) {
            let slot = made.entry(*family).or_default().of_mut(run);
            for ((call, errno), n) in &process.counts {
                if *errno == 0 && TAKES_MEMORY.contains(&model.name(*call)) {
                    *slot += n;
                }
            }
        }
    }
    if made.len() == 1 {
        return made.into_keys().next();
    }
    let apart: u64 = made.values().map(Both::apart).sum();
    let (family, n) = made.into_iter().max_by_key(|(family, n)| (n.apart(), std::cmp::Reverse(*family)))?;
    (n.apart() * 2 > apart).then_some(family)
}

fn memory_cause(memory: &Grown, pairing: &Pairing<'_>) -> Cause {
    let run = memory.most.with_more();
    let role = memory.family.map_or(String::new(), |family| pairing.role(family, run).to_owned());
    let whose = if role.is_empty() { "memory".to_owned() } else { format!("the memory of {role}") };
    let mib = memory.most.map(|bytes| bytes / MIB);
    let text = match (run, memory.grows) {
        (Run::Other, true) => {
            format!("{whose} grows to {:.1} MiB, at most {:.1} MiB in the recording", mib.other, mib.recorded)
        }
        (Run::Recorded, true) => {
            format!(
                "{whose} is at most {:.1} MiB, and grew to {:.1} MiB in the recording",
                mib.other, mib.recorded
            )
        }
        (_, false) => {
            format!("{whose} is at most {:.1} MiB, {:.1} MiB in the recording", mib.other, mib.recorded)
        }
    };
    let amount = |bytes: f64| Amount { bytes: Some(bytes as u64), ..Amount::default() };
    Cause {
        kind: "memory",
        call: None,
        errno: None,
        role,
        object: None,
        before: amount(memory.most.recorded),
        after: amount(memory.most.other),
        share: None,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_larger_all_along_does_not_grow() {
        let level: Vec<f64> = (0..20).map(|i| if i == 0 { 5.0 * MIB } else { 100.0 * MIB }).collect();
        assert!(!grows(&level));
        let leak: Vec<f64> = (0..20).map(|i| (20.0 + 10.0 * f64::from(i)) * MIB).collect();
        assert!(grows(&leak));
        let small = [20.0 * MIB; 20];
        let told = grown(Both::new(&small, &leak)).unwrap();
        assert!(told.grows);
        assert_eq!(told.most, Both::new(20.0 * MIB, 210.0 * MIB));
        assert!(!grown(Both::new(&small, &level)).unwrap().grows);
    }

    #[test]
    fn memory_varies_by_half_and_by_a_little() {
        assert!(grown(Both::new(&[100.0 * MIB; 10], &[140.0 * MIB; 10])).is_none());
        assert!(grown(Both::new(&[4.0 * MIB; 10], &[15.0 * MIB; 10])).is_none());
        assert!(grown(Both::new(&[140.0 * MIB; 10], &[60.0 * MIB; 10])).is_some());
    }

    #[test]
    fn kinds_are_told_in_words() {
        assert_eq!(of_kind("tcp to 10.0.0.5:5432"), "sockets to 10.0.0.5:5432");
        assert_eq!(of_kind("tcp at 127.0.0.1:80"), "sockets of clients of 127.0.0.1:80 that have left");
        assert_eq!(of_kind("/etc/hostname"), "descriptors of /etc/hostname");
        assert_eq!(of_kind("pipe"), "ends of pipes");
        assert_eq!(of_kind("eventfd"), "descriptors (eventfd)");
        assert_eq!(of_kind("?"), "descriptors");
    }
}
