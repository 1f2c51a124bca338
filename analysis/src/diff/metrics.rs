//! What was done: how much of it again, in which order, by whose doing.

use super::both::{Both, Run};
use super::counts::Counts;
use super::joint::Joint;
use super::pairing::Pairing;
use super::walk::Walked;
use super::{Forced, Rows};
use crate::model::Model;
use crate::symbol::{OpClass, Outcome};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Classes with fewer recorded operations are judged together with the next larger one.
const SMALL_CLASS: u64 = 20;

/// Recorded operations, and how many of them took place again.
#[derive(Debug, Clone, Copy, Default)]
struct Covered {
    of: u64,
    again: u64,
}

impl Covered {
    fn add(&mut self, n: Both<u64>) {
        self.of += n.recorded;
        self.again += n.shared();
    }
}

/// Recorded operations that took place again, by class; the least covered class counts. Returns the share over all
/// classes.
pub(crate) fn coverage(
    models: Both<&Model>,
    joint: &Joint<'_>,
    pairing: &Pairing<'_>,
    counts: &Counts,
    rows: &mut Rows<'_>,
) -> Option<f64> {
    // By (family, call): whether an operation took place again is not a question of its outcome.
    let mut calls: FxHashMap<(OpClass, u32, u32), Both<u64>> = FxHashMap::default();
    for ((family, base), n) in &counts.ops {
        let base = &joint.bases[*base as usize];
        if base.class == OpClass::Memory && base.outcome == Outcome::Ok {
            continue;
        }
        *calls.entry((base.class, *family, base.call)).or_default() += *n;
    }
    // Successful memory calls: only those that map files are in a sequence.
    let mut memory: FxHashMap<(u32, &str), Both<u64>> = FxHashMap::default();
    for run in Run::BOTH {
        let model = *models.of(run);
        for (process, family) in model.processes.iter().zip(pairing.family.of(run)) {
            for ((call, errno), n) in &process.counts {
                if *errno == 0 && model.call_class.get(call) == Some(&OpClass::Memory) {
                    *memory.entry((*family, model.name(*call))).or_default().of_mut(run) += n;
                }
            }
        }
    }
    let mut classes: BTreeMap<OpClass, Covered> = BTreeMap::new();
    for ((class, _, _), n) in &calls {
        classes.entry(*class).or_default().add(*n);
    }
    for n in memory.values() {
        classes.entry(OpClass::Memory).or_default().add(*n);
    }
    let n: u64 = classes.values().map(|c| c.of).sum();
    // From small to large; too few operations to judge go with the next class.
    let mut by_size: Vec<_> = classes.iter().filter(|c| c.1.of > 0).collect();
    by_size.sort_by_key(|c| c.1.of);
    let mut worst: Option<(f64, String)> = None;
    let mut group: (Vec<&str>, Covered) = (Vec::new(), Covered::default());
    for (i, (class, slot)) in by_size.iter().enumerate() {
        group.0.push(class.name());
        group.1.of += slot.of;
        group.1.again += slot.again;
        if group.1.of < SMALL_CLASS && i + 1 < by_size.len() {
            continue;
        }
        let (names, Covered { of, again }) = std::mem::take(&mut group);
        let value = again as f64 / of as f64;
        if worst.as_ref().is_none_or(|w| value < w.0) {
            worst = Some((value, format!("{}: {again} of {of}", names.join(", "))));
        }
    }
    let (value, note) =
        worst.map_or((None, String::new()), |(v, note)| (Some(v), format!("least covered: {note}")));
    rows.push("coverage", value, n, "", note);
    let again: u64 = classes.values().map(|c| c.again).sum();
    (n > 0).then(|| again as f64 / n as f64)
}

/// Order of operations within each task and stream.
pub(crate) fn alignment(walked: &Walked<'_>, pairing: &Pairing<'_>, rows: &mut Rows<'_>) {
    let t = &walked.total;
    let n = 2 * t.kept + t.deleted + t.inserted;
    let value = (n > 0).then(|| 1.0 - (t.deleted + t.inserted) as f64 / n as f64);
    let mut note = walked.worst_lane.map_or(String::new(), |(lane, edits)| {
        format!("{} missing, {} extra; most ({edits}) in {}", t.deleted, t.inserted, pairing.who(lane))
    });
    let alone = pairing.alone.map(Vec::len);
    if alone != Both::default() {
        note = format!(
            "{note}; {} processes only in the recording, {} only in the other run",
            alone.recorded, alone.other
        );
    }
    if t.by_count > 0 {
        note = format!("{note}; {} operations compared by count, not by order", t.by_count);
    }
    rows.push("alignment", value, n, "", note);
}

/// How often one operation directly follows another in a sequence.
pub(crate) fn dfg(counts: &Counts, joint: &Joint<'_>, rows: &mut Rows<'_>) {
    let mut total = Both::new(0_u64, 0);
    for n in counts.follows.values() {
        total += *n;
    }
    if total.shared() == 0 {
        let value = (total.recorded > 0).then_some(0.0);
        rows.push("dfg", value, total.recorded, "", String::new());
        return;
    }
    let mut distance = 0.0;
    let mut worst = (0.0, None);
    for ((_, from, to), n) in &counts.follows {
        let share = n.zip(total).map(|(n, of)| *n as f64 / *of as f64);
        let delta = (share.recorded - share.other).abs();
        distance += delta;
        if delta > worst.0 + 1e-12
            || (delta - worst.0).abs() <= 1e-12 && worst.1.is_some_and(|w| (*from, *to) < w)
        {
            worst = (delta, Some((*from, *to)));
        }
    }
    let note = match worst.1 {
        Some((from, to)) if worst.0 > 0.01 => {
            format!("largest shift {:.1} %: {} then {}", worst.0 * 100.0, joint.text(from), joint.text(to))
        }
        _ => String::new(),
    };
    rows.push("dfg", Some((1.0 - distance / 2.0).clamp(0.0, 1.0)), total.recorded, "", note);
}

/// Ends that the engine forced, for 10,000 operations. Of a run that is no replay, or whose engine is not asked, nothing
/// can be said.
pub(crate) fn forced(forced: Option<&Forced>, counts: &Counts, rows: &mut Rows<'_>) {
    forced_of(forced, counts.total.recorded, rows);
}

/// The same of so many operations.
pub(super) fn forced_of(forced: Option<&Forced>, of: u64, rows: &mut Rows<'_>) {
    let all = forced.map(|f| f.by_kind.values().sum::<u64>());
    let value = all.filter(|_| of > 0).map(|n| n as f64 * 10_000.0 / of as f64);
    let note = match forced {
        None => "only a replay that has just ended can say".to_owned(),
        Some(f) => {
            let kinds: Vec<String> = f.by_kind.iter().map(|(kind, n)| format!("{kind} ×{n}")).collect();
            let first = f.first.as_ref().map_or(String::new(), |first| format!("; first: {first}"));
            format!(
                "{} of {of} operations{}{}{first}",
                all.unwrap_or(0),
                if kinds.is_empty() { "" } else { ": " },
                kinds.join(", ")
            )
        }
    };
    rows.push("forced", value, of, "", note);
}
