//! What explains that two runs differ, the cause first: failures that are only in one of them, then time.

use super::both::{Both, Run};
use super::counts::Counts;
use super::growth::Growth;
use super::joint::Joint;
use super::lookups::Lookups;
use super::pairing::Pairing;
use super::spent::Times;
use super::words;
use crate::costs::Hist;
use crate::findings::is_remarkable;
use crate::model::Model;
use crate::report::{Amount, Cause};
use crate::symbol::{self, Outcome};
use ctrace_format::Metric as Counter;
use rustc_hash::{FxHashMap, FxHashSet};

/// Causes that are told.
const MOST: usize = 8;
/// A part of the difference that is told, unless it is the largest one.
const PART: f64 = 0.05;
/// `EMFILE`.
const TOO_MANY_FILES: u16 = 24;
/// Failures of one kind whose number differs by less are chance, unless there were none.
const CHANCE: f64 = 1.2;

/// Findings of the comparison that are not about operations.
pub(super) struct Found<'f> {
    pub(super) lookups: &'f Lookups<'f>,
    pub(super) growth: &'f Growth,
    pub(super) times: &'f Times,
}

/// The kinds of causes that explain a gate that was missed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Explains {
    pub(super) failures: bool,
    pub(super) growth: bool,
    pub(super) time: bool,
}

/// Causes from outcomes of operations, from growth and from time, the one that explains most first.
pub(super) fn causes(
    models: Both<&Model>,
    joint: &Joint<'_>,
    counts: &Counts,
    pairing: &Pairing<'_>,
    found: &Found<'_>,
    explains: Explains,
) -> Vec<Cause> {
    let mut out = Vec::new();
    let mut statuses = Vec::new();
    if explains.failures {
        let signals;
        (signals, statuses) = ends(models, joint, counts, pairing);
        out.extend(signals);
        // What cannot be found is not connected to either.
        out.extend(found.lookups.causes(pairing));
        failures(models, joint, counts, pairing, &mut out);
    }
    if explains.growth {
        out.extend(found.growth.causes(pairing));
    }
    out.extend(statuses);
    if explains.time {
        for (at, (item, share)) in found.times.notable().into_iter().enumerate() {
            if at > 0 && share < PART {
                break;
            }
            let amount = |h: &Hist| Amount {
                count: h.count,
                total_ns: Some(h.total_ns),
                p50_ns: (h.count > 0).then(|| h.quantile_ns(0.5)),
                p99_ns: (h.count > 0).then(|| h.quantile_ns(0.99)),
                max_ns: (h.count > 0).then_some(h.max_ns),
                bytes: None,
            };
            out.push(Cause {
                kind: item.spent.name(),
                call: (!item.call.is_empty()).then(|| item.call.clone()),
                errno: None,
                role: words::who(item, pairing),
                object: (!item.object.is_empty()).then(|| item.object.clone()),
                before: amount(&item.lengths.recorded),
                after: amount(&item.lengths.other),
                share: Some(share),
                text: words::sentence(item, share, pairing),
            });
        }
    }
    out.truncate(MOST);
    out
}

/// The most that a counter of a run reached.
fn peak(model: &Model, counters: &[Counter]) -> Option<f64> {
    let of = |counter: &Counter| model.series.iter().find(|s| s.metric == *counter);
    let series = counters.iter().find_map(of)?;
    series.bins.iter().copied().reduce(f64::max)
}

/// How processes ended: by signals, which is the first thing to know, and with statuses, which come of something else that
/// failed.
fn ends(
    models: Both<&Model>,
    joint: &Joint<'_>,
    counts: &Counts,
    pairing: &Pairing<'_>,
) -> (Vec<Cause>, Vec<Cause>) {
    let mut found: Vec<(bool, Cause)> = Vec::new();
    for ((family, base), n) in &counts.ops {
        let Outcome::Exit(status) = joint.bases[*base as usize].outcome else { continue };
        if status == 0 || n.is_same() {
            continue;
        }
        let more = n.with_more();
        let role = pairing.role(*family, more).to_owned();
        let model = models.of(more);
        let killed = model.oom_kills.iter().find(|process| pairing.family.of(more)[**process] == *family);
        let signal = status & 0x7f;
        let what = match (killed, signal) {
            (Some(_), _) => format!("{role} is killed for lack of memory (signal {signal})"),
            (None, 0) => format!("{role} ends with status {}", status >> 8),
            (None, signal) => format!("{role} is killed by signal {signal}"),
        };
        let mut text = format!("{what}: {}", words::how_often(*n));
        if killed.is_some() || signal == 9 {
            let memory = models.map(|m| peak(m, &[Counter::RssBytes, Counter::MemoryBytes]));
            if let (Some(before), Some(after)) = (memory.recorded, memory.other) {
                let mib = |bytes: f64| bytes / f64::from(1 << 20);
                text = format!("{text}; memory at most {:.1} → {:.1} MiB", mib(before), mib(after));
            }
        }
        let kind = match (killed, signal) {
            (Some(_), _) => "oom",
            (None, 0) => "exit",
            (None, _) => "crash",
        };
        let cause = Cause {
            kind,
            call: None,
            errno: None,
            role,
            object: None,
            before: Amount::times(n.recorded),
            after: Amount::times(n.other),
            share: None,
            text,
        };
        found.push((signal == 0, cause));
    }
    found.sort_by(|x, y| (&x.1.role, &x.1.text).cmp(&(&y.1.role, &y.1.text)));
    let (statuses, signals): (Vec<_>, Vec<_>) = found.into_iter().partition(|f| f.0);
    let causes = |of: Vec<(bool, Cause)>| of.into_iter().map(|f| f.1).collect();
    (causes(signals), causes(statuses))
}

/// Family, call, object and errno.
type Attempt = (u32, u32, u32, u16);

/// Failures that one of the runs has more of.
fn failures(
    models: Both<&Model>,
    joint: &Joint<'_>,
    counts: &Counts,
    pairing: &Pairing<'_>,
    out: &mut Vec<Cause>,
) {
    let turned = turned(joint, counts);
    // Told by what was attempted; a connect that failed is told once, however the program learnt of it.
    let mut found: FxHashMap<Attempt, Both<u64>> = FxHashMap::default();
    for ((family, base), n) in &counts.ops {
        let b = &joint.bases[*base as usize];
        let Outcome::Errno(errno) = b.outcome else { continue };
        if b.wild || b.learns || symbol::is_race(errno) {
            continue;
        }
        let remarkable =
            is_remarkable(joint.strings[b.call as usize], joint.strings[b.object as usize], errno);
        // What programs look for in vain by design is none, unless the other run finds it.
        if !remarkable && !turned.contains(&(*family, *base)) {
            continue;
        }
        *found.entry((*family, b.call, b.object, errno)).or_default() += *n;
    }
    let connects: Vec<(u32, u32, u16)> = found
        .keys()
        .filter(|key| joint.strings[key.1 as usize] == "connect")
        .map(|key| (key.0, key.2, key.3))
        .collect();
    let mut all: Vec<(&Attempt, &Both<u64>)> = found
        .iter()
        .filter(|((family, call, object, errno), n)| {
            let asked = joint.strings[*call as usize] == "getsockopt";
            let told = asked && connects.contains(&(*family, *object, *errno));
            !told && n.most() as f64 > n.shared() as f64 * CHANCE
        })
        .collect();
    all.sort_by_key(|(key, n)| (std::cmp::Reverse(n.more().unsigned_abs()), **key));
    for ((family, call, object, errno), n) in all {
        let role = pairing.role(*family, n.with_more()).to_owned();
        let (call, object) = (joint.strings[*call as usize], joint.strings[*object as usize]);
        let name = symbol::outcome_text(Outcome::Errno(*errno));
        let on = match object {
            "" | "?" => String::new(),
            object => format!(" of {}", crate::names::shorten(object, 80)),
        };
        let mut text = match (call, object.split_once(" to ")) {
            ("connect", Some((_, peer))) => format!("{role}: connect to {peer} fails with {name}"),
            _ => format!("{role}: {call}{on} fails with {name}"),
        };
        text = format!("{text}: {}", words::how_often(*n));
        if *errno == TOO_MANY_FILES {
            let open = Both::each(|run| {
                let processes = models.of(run).processes.iter().zip(pairing.family.of(run));
                let of_family = processes.filter(|(_, f)| *f == family);
                of_family.map(|(p, _)| p.max_fds).max().unwrap_or(0)
            });
            text = format!("{text}; descriptors open at most {} → {}", open.recorded, open.other);
        }
        out.push(Cause {
            kind: "failure",
            call: Some(call.to_owned()),
            errno: Some(name),
            role,
            object: (!object.is_empty()).then(|| object.to_owned()),
            before: Amount::times(n.recorded),
            after: Amount::times(n.other),
            share: None,
            text,
        });
    }
}

/// Failures, by family and base, of what always failed so in one run and always succeeded in the other.
fn turned(joint: &Joint<'_>, counts: &Counts) -> FxHashSet<(u32, u32)> {
    // By what was attempted: whether it succeeded.
    let mut succeeded: FxHashMap<(u32, u32), Both<bool>> = FxHashMap::default();
    for ((family, base), n) in &counts.ops {
        let b = &joint.bases[*base as usize];
        if !matches!(b.outcome, Outcome::Errno(_)) {
            let slot = succeeded.entry((*family, b.identity)).or_default();
            for run in Run::BOTH {
                *slot.of_mut(run) |= *n.of(run) > 0;
            }
        }
    }
    let has_turned = |(family, base): &(u32, u32), n: Both<u64>| {
        let b = &joint.bases[*base as usize];
        let good = succeeded.get(&(*family, b.identity)).copied().unwrap_or_default();
        // Good in one run alone, and failed in the other one alone.
        let failed_after = |run: Run| {
            *n.of(run) == 0 && *n.of(run.opposite()) > 0 && *good.of(run) && !*good.of(run.opposite())
        };
        matches!(b.outcome, Outcome::Errno(_)) && Run::BOTH.into_iter().any(failed_after)
    };
    counts.ops.iter().filter(|(key, n)| has_turned(key, **n)).map(|(key, _)| *key).collect()
}
