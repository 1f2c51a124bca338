//! The metrics, one function each.

use super::joint::Joint;
use super::pairing::Pairing;
use super::walk::Walked;
use super::{Forced, Rows};
use crate::conn::{CloseKind, Conn, ConnKind};
use crate::findings::is_remarkable;
use crate::gates::{self, Gates, Profile};
use crate::model::{Model, OutcomeStat};
use crate::report::{Failures, Metric};
use crate::symbol::{self, Kind, OpClass, Outcome};
use hdrhistogram::Histogram;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;

/// What a pipe holds by default (pipe(7)).
const PIPE_CAPACITY: u64 = 65_536;

/// The signal that asks a process to end.
const SIGTERM: u32 = 15;

/// The recorder adds at most this to a call, ns (`cargo xtask bench record --only cost` measures it).
const RECORDING_NS: u64 = 300;
/// The tick of the scheduler, ns: 1/`CONFIG_HZ`, of kernels with the lowest that distributions build (250).
const SCHEDULER_NS: u64 = 4_000_000;

/// Classes with fewer recorded operations are judged together with the next larger one.
const SMALL_CLASS: u64 = 20;

/// How often what was done, in both runs.
#[derive(Default)]
pub(crate) struct Counts {
    /// By (family, base symbol).
    pub(crate) ops: FxHashMap<(u32, u32), (u64, u64)>,
    /// By (family, base symbol, next base symbol of the same sequence).
    pub(crate) follows: FxHashMap<(u32, u32, u32), (u64, u64)>,
    pub(crate) total_a: u64,
    pub(crate) total_b: u64,
}

impl Counts {
    pub(crate) fn take(joint: &Joint<'_>, pairing: &Pairing<'_>) -> Self {
        let mut out = Self::default();
        for lane in &pairing.lanes {
            for (second, seq) in [(false, lane.a), (true, lane.b)] {
                let entries = if second { &joint.b } else { &joint.a };
                let mut last = None;
                for op in seq.into_iter().flat_map(|s| s.iter()) {
                    let base = entries[op.symbol as usize].base;
                    add(&mut out.ops, (lane.family, base), second, 1);
                    if let Some(last) = last {
                        add(&mut out.follows, (lane.family, last, base), second, 1);
                    }
                    last = Some(base);
                    *(if second { &mut out.total_b } else { &mut out.total_a }) += 1;
                }
            }
        }
        out.blur(joint);
        out.settle(joint);
        out
    }

    /// Where calls of a name and an outcome have unknown arguments in one run, what follows what is told by name and
    /// outcome in both.
    fn blur(&mut self, joint: &Joint<'_>) {
        let key = |family: u32, base: u32| {
            let b = &joint.bases[base as usize];
            (family, b.call, b.outcome)
        };
        let mut stands: FxHashMap<(u32, u32, Outcome), u32> = FxHashMap::default();
        for (family, base) in self.ops.keys().filter(|(_, base)| joint.bases[*base as usize].wild) {
            let slot = stands.entry(key(*family, *base)).or_insert(*base);
            *slot = (*slot).min(*base);
        }
        if stands.is_empty() {
            return;
        }
        for ((family, from, to), (x, y)) in std::mem::take(&mut self.follows) {
            let seen = |base: u32| stands.get(&key(family, base)).copied().unwrap_or(base);
            let slot = self.follows.entry((family, seen(from), seen(to))).or_default();
            *slot = (slot.0 + x, slot.1 + y);
        }
    }

    /// Calls whose arguments are not known stand for those of their name and outcome that the other run is short of.
    fn settle(&mut self, joint: &Joint<'_>) {
        type Short = [Vec<(u32, u32)>; 2];
        let mut wild: Vec<(u32, u32)> =
            self.ops.keys().copied().filter(|(_, base)| joint.bases[*base as usize].wild).collect();
        if wild.is_empty() {
            return;
        }
        wild.sort_unstable();
        // The operations that either run is short of; who is served goes, so that nobody is looked at in vain.
        let mut short: BTreeMap<(u32, u32, Outcome), Short> = BTreeMap::new();
        let mut known: Vec<(u32, u32)> =
            self.ops.keys().copied().filter(|(_, base)| !joint.bases[*base as usize].wild).collect();
        known.sort_unstable_by(|x, y| y.cmp(x));
        for key in known {
            let (x, y) = self.ops[&key];
            let b = &joint.bases[key.1 as usize];
            if x != y {
                short.entry((key.0, b.call, b.outcome)).or_default()[usize::from(x < y)].push(key);
            }
        }
        for key in wild {
            let b = &joint.bases[key.1 as usize];
            let Some(of_both) = short.get_mut(&(key.0, b.call, b.outcome)) else { continue };
            let (mut x, mut y) = self.ops[&key];
            let list = &mut of_both[usize::from(x > y)];
            while x != y
                && let Some(other) = list.last()
            {
                let slot = self.ops.entry(*other).or_default();
                let n = x.abs_diff(y).min(slot.0.abs_diff(slot.1));
                if y > x {
                    slot.1 += n;
                    y -= n;
                } else {
                    slot.0 += n;
                    x -= n;
                }
                if slot.0 == slot.1 {
                    list.pop();
                }
            }
            self.ops.insert(key, (x, y));
        }
    }
}

fn add<K: std::hash::Hash + Eq>(map: &mut FxHashMap<K, (u64, u64)>, key: K, second: bool, n: u64) {
    let slot = map.entry(key).or_default();
    *(if second { &mut slot.1 } else { &mut slot.0 }) += n;
}

/// Recorded operations that took place again, by class; the least covered class counts. Returns the share over all
/// classes.
pub(crate) fn coverage(
    a: &Model,
    b: &Model,
    joint: &Joint<'_>,
    pairing: &Pairing<'_>,
    counts: &Counts,
    rows: &mut Rows<'_>,
) -> Option<f64> {
    // By (family, call): whether an operation took place again is not a question of its outcome.
    let mut calls: FxHashMap<(OpClass, u32, u32), (u64, u64)> = FxHashMap::default();
    for ((family, base), (x, y)) in &counts.ops {
        let base = &joint.bases[*base as usize];
        if base.class == OpClass::Memory && base.outcome == Outcome::Ok {
            continue;
        }
        let key = (base.class, *family, base.call);
        add(&mut calls, key, false, *x);
        add(&mut calls, key, true, *y);
    }
    // Successful memory calls: only those that map files are in a sequence.
    let mut memory: FxHashMap<(u32, &str), (u64, u64)> = FxHashMap::default();
    for (second, model, families) in [(false, a, &pairing.family_a), (true, b, &pairing.family_b)] {
        for (process, family) in model.processes.iter().zip(families) {
            for ((call, errno), n) in &process.counts {
                if *errno == 0 && model.call_class.get(call) == Some(&OpClass::Memory) {
                    add(&mut memory, (*family, model.name(*call)), second, *n);
                }
            }
        }
    }
    let mut classes: BTreeMap<OpClass, (u64, u64)> = BTreeMap::new();
    for ((class, _, _), (x, y)) in &calls {
        let slot = classes.entry(*class).or_default();
        slot.0 += x;
        slot.1 += x.min(y);
    }
    for (x, y) in memory.values() {
        let slot = classes.entry(OpClass::Memory).or_default();
        slot.0 += x;
        slot.1 += x.min(y);
    }
    let n: u64 = classes.values().map(|c| c.0).sum();
    // From small to large; too few operations to judge go with the next class.
    let mut by_size: Vec<_> = classes.iter().filter(|c| c.1.0 > 0).collect();
    by_size.sort_by_key(|c| c.1.0);
    let mut worst: Option<(f64, String)> = None;
    let mut group: (Vec<String>, u64, u64) = (Vec::new(), 0, 0);
    for (i, (class, slot)) in by_size.iter().enumerate() {
        group.0.push(format!("{class:?}").to_lowercase());
        group.1 += slot.0;
        group.2 += slot.1;
        if group.1 < SMALL_CLASS && i + 1 < by_size.len() {
            continue;
        }
        let (names, of, again) = std::mem::take(&mut group);
        let value = again as f64 / of as f64;
        if worst.as_ref().is_none_or(|w| value < w.0) {
            worst = Some((value, format!("{}: {again} of {of}", names.join(", "))));
        }
    }
    let (value, note) =
        worst.map_or((None, String::new()), |(v, note)| (Some(v), format!("least covered: {note}")));
    rows.push("coverage", value, n, "", note);
    let again: u64 = classes.values().map(|c| c.1).sum();
    (n > 0).then(|| again as f64 / n as f64)
}

/// Outcomes of what was attempted in both runs.
pub(crate) fn semantic(
    models: (&Model, &Model),
    joint: &Joint<'_>,
    counts: &Counts,
    walked: &Walked<'_>,
    pairing: &Pairing<'_>,
    profile: Profile,
    rows: &mut Rows<'_>,
) {
    // (base, a, b)
    type Outcomes = Vec<(u32, u64, u64)>;
    let mut attempts: FxHashMap<(u32, u32), Outcomes> = FxHashMap::default();
    for ((family, base), (x, y)) in &counts.ops {
        let identity = joint.bases[*base as usize].identity;
        attempts.entry((*family, identity)).or_default().push((*base, *x, *y));
    }
    let (mut wrong, mut flipped) = (0, Vec::new());
    for ((family, _), outcomes) in &attempts {
        let (mut only_a, mut only_b) = (0, 0);
        let (mut in_a, mut in_b) = (Vec::new(), Vec::new());
        for &(base, x, y) in outcomes {
            if matches!(joint.bases[base as usize].outcome, Outcome::Errno(e) if symbol::is_race(e)) {
                continue;
            }
            only_a += x.saturating_sub(y);
            only_b += y.saturating_sub(x);
            if x > 0 {
                in_a.push(base);
            }
            if y > 0 {
                in_b.push(base);
            }
        }
        wrong += only_a.min(only_b);
        if let ([x], [y]) = (&in_a[..], &in_b[..])
            && x != y
            // Whether a stream ends or delivers is a question of turns.
            && !joint.strings[joint.bases[*x as usize].call as usize].starts_with("receive")
        {
            flipped.push((*family, *x, *y));
        }
    }
    let alike = if profile == Profile::Synthetic { FxHashSet::default() } else { moved_alike(models, joint) };
    let sizes: u64 = walked
        .sizes
        .iter()
        // As many bytes in all, in larger or smaller parts.
        .filter(|(base, _)| !alike.contains(base))
        .map(|(_, n)| wrong_sizes(*n, profile))
        .sum();
    wrong += sizes;
    let of = counts.total_a;
    let value = (of > 0).then(|| 1.0 - (wrong as f64 / of as f64).min(1.0));
    let sizes = if sizes > 0 { format!(", {sizes} of them by size") } else { String::new() };
    rows.push(
        "semantic",
        value,
        of,
        "",
        format!(
            "{} of {of} with the recorded outcome{}",
            of.saturating_sub(wrong),
            if wrong > 0 { sizes } else { String::new() }
        ),
    );
    flipped.sort_unstable();
    let note = flipped.first().map_or(String::new(), |(family, x, y)| {
        format!(
            "{}: always {} in the recording, always {} in the other run",
            pairing.families[*family as usize],
            joint.text(*x),
            joint.text(*y)
        )
    });
    let n = attempts.values().filter(|o| o.iter().any(|x| x.1 > 0) && o.iter().any(|x| x.2 > 0)).count();
    let value = (n > 0).then_some(flipped.len() as f64);
    rows.push("outcomes", value, n as u64, "", note);
}

/// The kinds of operations that moved as many bytes in all.
fn moved_alike((first, second): (&Model, &Model), joint: &Joint<'_>) -> FxHashSet<u32> {
    let mut bytes: FxHashMap<u32, (u64, u64)> = FxHashMap::default();
    for (is_second, model, entries) in [(false, first, &joint.a), (true, second, &joint.b)] {
        for (stat, entry) in model.stats.iter().zip(entries) {
            let sums = bytes.entry(entry.base).or_default();
            let sum = if is_second { &mut sums.1 } else { &mut sums.0 };
            *sum = sum.saturating_add(stat.bytes);
        }
    }
    bytes.into_iter().filter(|(_, (x, y))| *x > 0 && close(*x, *y, 0.05)).map(|(base, _)| base).collect()
}

/// Of operations that moved more and operations that moved less than recorded, how many are wrong. A real program moves
/// what has come together by the time it gets to it, now more and now less; only what goes one way is another behaviour.
fn wrong_sizes((more, less): (u64, u64), profile: Profile) -> u64 {
    match profile {
        Profile::Synthetic => more + less,
        Profile::RealBinary if more == 0 || less == 0 => more + less,
        Profile::RealBinary => {
            let chance = 2.0 * ((more + less) as f64).sqrt();
            (more.abs_diff(less) as f64 - chance).max(0.0) as u64
        }
    }
}

/// Order of operations within each task and stream.
pub(crate) fn alignment(walked: &Walked<'_>, pairing: &Pairing<'_>, rows: &mut Rows<'_>) {
    let t = &walked.total;
    let n = 2 * t.kept + t.deleted + t.inserted;
    let value = (n > 0).then(|| 1.0 - (t.deleted + t.inserted) as f64 / n as f64);
    let mut note = walked.worst_lane.map_or(String::new(), |(lane, edits)| {
        format!("{} missing, {} extra; most ({edits}) in {}", t.deleted, t.inserted, pairing.who(lane))
    });
    if !pairing.alone_a.is_empty() || !pairing.alone_b.is_empty() {
        note = format!(
            "{note}; {} processes only in the recording, {} only in the other run",
            pairing.alone_a.len(),
            pairing.alone_b.len()
        );
    }
    if t.by_count > 0 {
        note = format!("{note}; {} operations compared by count, not by order", t.by_count);
    }
    rows.push("alignment", value, n, "", note);
}

/// How often one operation directly follows another in a sequence.
pub(crate) fn dfg(counts: &Counts, joint: &Joint<'_>, rows: &mut Rows<'_>) {
    let (mut total_a, mut total_b) = (0, 0);
    for (x, y) in counts.follows.values() {
        total_a += x;
        total_b += y;
    }
    if total_a == 0 || total_b == 0 {
        let value = (total_a > 0).then_some(0.0);
        rows.push("dfg", value, total_a, "", String::new());
        return;
    }
    let mut distance = 0.0;
    let mut worst = (0.0, None);
    for ((_, from, to), (x, y)) in &counts.follows {
        let delta = (*x as f64 / total_a as f64 - *y as f64 / total_b as f64).abs();
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
    rows.push("dfg", Some((1.0 - distance / 2.0).clamp(0.0, 1.0)), total_a, "", note);
}

/// Length of the run.
pub(crate) fn makespan(a: &Model, b: &Model, counts: &Counts, walked: &Walked<'_>, rows: &mut Rows<'_>) {
    let (x, y) = (a.makespan_ns(), b.makespan_ns());
    let noise = noise_ns(a, b);
    let difference = y.abs_diff(x);
    let waited = if walked.end.late == (y > x) { walked.end.ns.min(difference) } else { 0 };
    let value =
        (counts.total_a > 0 && counts.total_b > 0 && x > 0).then(|| (difference - waited) as f64 / x as f64);
    let mut note = format!("{:.3} s against {:.3} s", y as f64 / 1e9, x as f64 / 1e9);
    if waited >= 1_000_000 {
        note = format!("{note}; {:.0} ms of it waiting for a CPU, not counted", waited as f64 / 1e6);
    }
    let gate = rows.gates.gate("makespan");
    let within = difference - waited <= noise;
    if within && value.zip(gate).is_some_and(|(v, g)| !gates::passes("makespan", v, g)) {
        note = format!("{note}; less than {:.1} ms are noise", noise as f64 / 1e6);
    }
    let pass = value.zip(gate).map(|(v, g)| within || gates::passes("makespan", v, g));
    rows.rows.push(Metric {
        name: "makespan",
        value,
        gate,
        pass,
        n: u64::from(value.is_some()),
        unit: "",
        note,
    });
}

/// The least difference of two lengths of time that says something about what was done rather than about the clocks: the
/// resolution of both recordings at both ends, what recording a call costs for as many calls as one run has more, and
/// the tick of the scheduler, which may pass before a task that can run is noticed.
fn noise_ns(a: &Model, b: &Model) -> u64 {
    let more = (a.calls + a.engine_calls).abs_diff(b.calls + b.engine_calls);
    2 * (a.tick_ns + b.tick_ns) + more * RECORDING_NS + SCHEDULER_NS
}

/// By how much a matched operation is off its recorded time that the gates of time do not allow.
pub(crate) fn late_ns(a: &Model, b: &Model, gates: &Gates) -> u64 {
    let share = gates.gate("makespan").map_or(0, |g| (a.makespan_ns() as f64 * g) as u64);
    let drift = drift_gate(a, b, gates).map_or(u64::MAX, |ms| (ms * 1e6) as u64);
    share.max(noise_ns(a, b)).min(drift)
}

fn drift_gate(a: &Model, b: &Model, gates: &Gates) -> Option<f64> {
    let gate = gates.gate("drift");
    // 1 % of the longer run, and never less than what a scheduler may take.
    let longer_ms = a.makespan_ns().max(b.makespan_ns()) as f64 / 1e6;
    if gates.is_overridden("drift") { gate } else { gate.map(|g| g.max(longer_ms * 0.01)) }
}

/// Ends that the engine forced, for 10,000 operations. Of a run that is no replay, or whose engine is not asked, nothing
/// can be said.
pub(crate) fn forced(forced: Option<&Forced>, counts: &Counts, rows: &mut Rows<'_>) {
    let (of, all) = (counts.total_a, forced.map(|f| f.by_kind.values().sum::<u64>()));
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

/// How far matched operations are from their recorded time, starts aligned.
pub(crate) fn drift(a: &Model, b: &Model, walked: &Walked<'_>, gates: &Gates, rows: &mut Rows<'_>) {
    let (h, all) = (&walked.own_drift, &walked.drift);
    let ms = |h: &Histogram<u64>, q: f64| h.value_at_quantile(q) as f64 / 1e6;
    let gate = drift_gate(a, b, gates);
    if h.is_empty() {
        rows.push_gated("drift", None, gate, 0, "ms", String::new());
        return;
    }
    let p99 = ms(h, 0.99);
    let mut note = format!("p50 {:.3} ms, p99 {p99:.3} ms", ms(h, 0.5));
    if ms(all, 0.99) >= p99 + 1.0 {
        note = format!(
            "{note}; p50 {:.3} ms, p99 {:.3} ms with the time spent waiting for a CPU",
            ms(all, 0.5),
            ms(all, 0.99)
        );
    }
    rows.push_gated("drift", Some(p99), gate, h.len(), "ms", note);
}

/// Failures by call, errno and object, in each family of tasks; the worst call counts, or a thousand failed lookups of
/// libraries would hide a refused connection.
pub(crate) fn errors(
    (first, second): (&Model, &Model),
    joint: &Joint<'_>,
    counts: &Counts,
    pairing: &Pairing<'_>,
    profile: Profile,
    rows: &mut Rows<'_>,
) -> Failures {
    // (base, family, a, b)
    type Kinds = Vec<(u32, u32, u64, u64)>;
    // By (call, race).
    let mut by_call: BTreeMap<(&str, bool), Kinds> = BTreeMap::new();
    // Where lookups of a family that failed alike are counted.
    let mut lookups: FxHashMap<(&str, bool, u32, Outcome), usize> = FxHashMap::default();
    // A pool that is told to end and ended by its owner: which of the two comes first is a race.
    let own_ends = ends_its_own(first) && ends_its_own(second);
    for ((family, base), (x, y)) in &counts.ops {
        let b = &joint.bases[*base as usize];
        let call = joint.strings[b.call as usize];
        let race = match b.outcome {
            Outcome::Errno(e) if !is_benign(call, e) => symbol::is_race(e),
            Outcome::Exit(status) if status != 0 => own_ends && status & 0x7f == SIGTERM,
            _ => continue,
        };
        // Which of many possible places a program looks into follows from what else is there; that it fails to find
        // something it found before is told by the outcomes.
        let lookup = profile == Profile::RealBinary
            && matches!(b.outcome, Outcome::Errno(e) if !is_remarkable(call, joint.strings[b.object as usize], e));
        let kinds = by_call.entry((call, race)).or_default();
        if lookup {
            let next = kinds.len();
            let at = *lookups.entry((call, race, *family, b.outcome)).or_insert(next);
            if let Some(kind) = kinds.get_mut(at) {
                kind.2 += x;
                kind.3 += y;
                continue;
            }
        }
        kinds.push((*base, *family, *x, *y));
    }
    let mut n = 0;
    let mut failures = Failures { emulated: emulated_failures(second), ..Failures::default() };
    let mut worst: Option<(f64, String)> = None;
    for ((call, race), kinds) in &by_call {
        let (mut distance, mut sum) = (0.0, 0.0);
        let mut most: (f64, Option<&(u32, u32, u64, u64)>) = (0.0, None);
        for kind in kinds {
            let (x, y) = (kind.2 as f64, kind.3 as f64);
            n += kind.2 + kind.3;
            failures.recorded += kind.2;
            failures.missing += kind.2.saturating_sub(kind.3);
            failures.other += kind.3;
            // Independent failures vary by the square root of their number; who closes first varies by a few.
            let slack = match profile {
                Profile::RealBinary if kind.2 > 0 && kind.3 > 0 => 2.0 * (x + y).sqrt(),
                Profile::RealBinary if *race => 3.0 + 2.0 * (x + y).sqrt(),
                _ => 0.0,
            };
            let delta = ((x - y).abs() - slack).max(0.0);
            distance += delta;
            sum += x + y;
            if delta > most.0 {
                most = (delta, Some(kind));
            }
        }
        if sum > 0.0 {
            let value = 1.0 - distance / sum;
            if worst.as_ref().is_none_or(|w| value < w.0) {
                let note = most.1.map_or_else(
                    || format!("{call}: alike"),
                    |(base, family, x, y)| {
                        format!(
                            "{}: {} ×{x}, in the other run ×{y}",
                            pairing.families[*family as usize],
                            joint.text(*base)
                        )
                    },
                );
                worst = Some((value, note));
            }
        }
    }
    let (value, mut note) = worst.map_or((None, "no failures in either run".to_owned()), |(v, note)| {
        (Some(v), if v < 1.0 { note } else { String::new() })
    });
    if failures.emulated > 0 {
        let separator = if note.is_empty() { "" } else { "; " };
        note = format!("{note}{separator}{} of {} emulated", failures.emulated, failures.other);
    }
    rows.push("errors", value, n, "", note);
    failures
}

/// Failures, other than by design, that the sandbox of a replay answered.
fn emulated_failures(model: &Model) -> u64 {
    let counted = |(symbol, _): &(&symbol::Symbol, &OutcomeStat)| matches!(symbol.outcome, Outcome::Errno(e) if !is_benign(model.name(symbol.call), e));
    model.symbols.iter().zip(&model.stats).filter(counted).map(|(_, stat)| stat.emulated).sum()
}

/// Whether every process that SIGTERM ended may have been sent it by another process of the run.
fn ends_its_own(model: &Model) -> bool {
    let (mut sent, mut ended) = (0, 0);
    for (symbol, stat) in model.symbols.iter().zip(&model.stats) {
        match symbol.outcome {
            Outcome::Ok
                if symbol.qualifier == SIGTERM
                    && matches!(
                        model.name(symbol.call),
                        "kill" | "tgkill" | "tkill" | "pidfd_send_signal"
                    ) =>
            {
                sent += stat.count;
            }
            Outcome::Exit(status) if status & 0x7f == SIGTERM => ended += stat.count,
            _ => {}
        }
    }
    sent >= ended
}

fn is_benign(call: &str, errno: u16) -> bool {
    let kind = match symbol::kind_of(call) {
        // Streams are compared under names of their own.
        Kind::Other if call == "receive" => Kind::Receive,
        Kind::Other if call == "send" => Kind::Send,
        kind => kind,
    };
    kind.is_benign(errno)
}

/// Streams whose bytes, turns and end are alike.
/// Returns the lane of the first other one.
pub(crate) fn network(
    a: &Model,
    b: &Model,
    pairing: &Pairing<'_>,
    profile: Profile,
    rows: &mut Rows<'_>,
) -> Option<usize> {
    type Pair<'c> = (Option<&'c Conn>, Option<&'c Conn>, usize);
    let mut groups: BTreeMap<u32, Vec<Pair<'_>>> = BTreeMap::new();
    for pair in &pairing.conns {
        let (x, y) = (pair.a.map(|c| &a.conns[c]), pair.b.map(|c| &b.conns[c]));
        groups.entry(pair.group).or_default().push((x, y, pair.lane));
    }
    let (mut matched, mut all) = (0, 0);
    let mut first: Option<(u64, String, usize)> = None;
    // What nothing crossed is no stream.
    let empty = |c: &Conn| matches!(c.kind, ConnKind::Pipe | ConnKind::Stdio) && c.sent + c.received == 0;
    for pairs in groups.values_mut() {
        pairs.retain(|(x, y, _)| !(x.is_none_or(empty) && y.is_none_or(empty)));
        let pooled = profile == Profile::RealBinary && totals_alike(pairs);
        for (x, y, lane) in pairs.iter() {
            all += 1;
            let difference = match (x, y) {
                (Some(x), Some(y)) => difference(x, y, profile, pooled),
                // Which worker took work from a shared pipe, and whether one took any, is scheduling.
                (Some(c), None) | (None, Some(c)) if pooled && c.kind == ConnKind::Pipe => None,
                (Some(_), None) => Some("is missing".to_owned()),
                (None, Some(_)) => Some("is extra".to_owned()),
                (None, None) => None,
            };
            match difference {
                None => matched += 1,
                Some(what) => {
                    let (model, conn) = if let Some(x) = x {
                        (a, *x)
                    } else if let Some(y) = y {
                        (b, *y)
                    } else {
                        continue;
                    };
                    if first.as_ref().is_none_or(|f| conn.first_ns < f.0) {
                        let who = &model.processes[conn.process].role;
                        let text = format!("{who} · {}: {what}", model.name(conn.name));
                        first = Some((conn.first_ns, text, *lane));
                    }
                }
            }
        }
    }
    let value = (all > 0).then(|| f64::from(matched) / f64::from(all));
    let note = match &first {
        Some((_, what, _)) => format!("{matched} of {all} streams alike; first other: {what}"),
        None => format!("{matched} of {all} streams alike"),
    };
    rows.push("network", value, u64::from(all as u32), "", note);
    first.map(|(_, _, lane)| lane)
}

/// Connections to one endpoint are interchangeable for a load generator or a pool: how many bytes go over which one is
/// scheduling, how many in all is not.
fn totals_alike(pairs: &[(Option<&Conn>, Option<&Conn>, usize)]) -> bool {
    let lacks = |p: &(Option<&Conn>, Option<&Conn>, usize)| match p {
        (Some(_), Some(_), _) => false,
        (Some(c), None, _) | (None, Some(c), _) => c.kind != ConnKind::Pipe,
        (None, None, _) => true,
    };
    if pairs.len() < 2 || pairs.iter().any(lacks) {
        return false;
    }
    let sum = |f: &dyn Fn(&Conn) -> u64, second: bool| -> u64 {
        pairs.iter().filter_map(|p| if second { p.1 } else { p.0 }).map(f).fold(0, u64::saturating_add)
    };
    close(sum(&|c| c.sent, false), sum(&|c| c.sent, true), 0.05)
        && close(sum(&|c| c.received, false), sum(&|c| c.received, true), 0.05)
}

/// Within a share, or within the few bytes by which times and counters in text differ.
fn close(x: u64, y: u64, share: f64) -> bool {
    x.abs_diff(y) as f64 <= (x.max(y) as f64 * share).max(64.0)
}

fn difference(x: &Conn, y: &Conn, profile: Profile, pooled: bool) -> Option<String> {
    let alike = |m: u64, n: u64| match profile {
        Profile::Synthetic => m == n,
        Profile::RealBinary => pooled || close(m, n, 0.05),
    };
    // How far a writer came before its reader left, and how much a reader had taken by then, is a race over what fits
    // into the pipe.
    let pipe = |c: &Conn| matches!(c.kind, ConnKind::Pipe | ConnKind::Stdio);
    let raced = |m: u64, n: u64| pipe(x) && m.min(n) >= 4096 && m.abs_diff(n) <= PIPE_CAPACITY;
    let cut_sent = x.broken && y.broken && raced(x.sent, y.sent);
    let cut_received = !x.saw_eof && !y.saw_eof && raced(x.received, y.received);
    if !cut_sent && !alike(x.sent, y.sent) {
        return Some(format!("sent {} bytes, in the other run {}", x.sent, y.sent));
    }
    if !cut_received && !alike(x.received, y.received) {
        return Some(format!("received {} bytes, in the other run {}", x.received, y.received));
    }
    if pipe(x) {
        // It has one direction. Between a writer and a reader of one process, who is faster is scheduling.
        return None;
    }
    // Full-duplex traffic changes direction as the schedule has it; the order of first words does not.
    let few = x.turn_count().min(y.turn_count()) <= 4;
    let (tx, ty) = (x.turn_count(), y.turn_count());
    let order = match profile {
        Profile::Synthetic => {
            tx.abs_diff(ty) as f64 <= (tx.max(ty) as f64 * 0.02).floor() && first_turns(x) == first_turns(y)
        }
        Profile::RealBinary => pooled || few || first_turns(x) == first_turns(y),
    };
    if !order {
        return Some(format!("{tx} turns, in the other run {ty}"));
    }
    let (cx, cy) = (ending(x), ending(y));
    let text = |(what, errno): (&str, Option<u16>)| match errno {
        Some(e) => {
            let name = ctrace_format::errno::name(u32::from(e)).map_or_else(|| e.to_string(), str::to_owned);
            format!("{what} {name}")
        }
        None => what.to_owned(),
    };
    (cx != cy).then(|| format!("{}, in the other run {}", text(cx), text(cy)))
}

/// The directions of a stream's first turns; true: this end sends.
pub(super) fn first_turns(c: &Conn) -> Vec<bool> {
    c.turns().take(4).map(|turn| turn.sent).collect()
}

/// How a stream ended, as far as it does not depend on when the recording did.
pub(super) fn ending(c: &Conn) -> (&'static str, Option<u16>) {
    match c.close {
        CloseKind::Open | CloseKind::Exit | CloseKind::Local => ("was ended here", None),
        CloseKind::Peer => ("was ended by the other side", None),
        CloseKind::Reset => ("was reset", None),
        CloseKind::Failed(e) => ("failed with", Some(e)),
    }
}
