//! Walks all pairs of sequences: aligns them, measures drift, and finds where they part first.

use super::Starved;
use super::both::{Both, Run};
use super::joint::{Entry, Joint};
use super::order::Partners;
use super::order::Violation;
use super::pairing::{Lane, Pairing};
use crate::align::{Aligned, Budget, Step, align};
use crate::findings::is_remarkable;
use crate::model::Model;
use crate::report::{Divergence, DivergenceKind, Line};
use crate::seq::{Op, SHORT_NS};
use crate::symbol::Outcome;
use hdrhistogram::Histogram;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;

/// Operations shown before and after a divergence.
const CONTEXT: usize = 4;
/// Differences in a row that are searched for operations that only changed their outcome.
const RUN: usize = 64;

/// A difference, to be shown when it is the first of its kind.
#[derive(Debug, Clone, Copy)]
struct Place {
    lane: usize,
    /// Index of the step in the lane's alignment.
    step: u64,
    /// When, on the recording's clock.
    at_ns: u64,
    kind: DivergenceKind,
    ops: Both<Option<Op>>,
}

/// The first difference by kind: a changed outcome, a failure that is only in one run, anything.
#[derive(Debug, Default)]
struct First {
    flip: Option<Place>,
    failure: Option<Place>,
    /// A failure that programs do not meet by design.
    remarkable: Option<Place>,
    /// An operation that is only in the recording.
    missing: Option<Place>,
    /// An operation at another time.
    late: Option<Place>,
    /// Anything but another time.
    any: Option<Place>,
}

pub(crate) struct Walked<'m> {
    /// The counterparts of operations that depend on one another.
    pub(crate) partners: Partners<'m>,
    pub(crate) total: Aligned,
    pub(crate) drift: Histogram<u64>,
    /// The same without what is explained by waiting for a CPU.
    pub(crate) own_drift: Histogram<u64>,
    /// What is explained of the difference of the last operation.
    pub(crate) end: Explained,
    /// Operations whose number of bytes differs by more than a factor of two: by base, how many are larger in the
    /// other run, and how many are smaller.
    pub(crate) sizes: FxHashMap<u32, (u64, u64)>,
    /// The first operation that both have: its times.
    pub(crate) first_match: Option<(u64, u64)>,
    /// The lane with the most differences, by index.
    pub(crate) worst_lane: Option<(usize, u64)>,
    first: First,
}

/// `late_ns`: a difference in time that the gates of time do not allow.
pub(crate) fn walk<'m>(
    models: Both<&'m Model>,
    joint: &Joint<'_>,
    pairing: &Pairing<'_>,
    starved: &Starved,
    late_ns: u64,
) -> Walked<'m> {
    let mut walked = Walked {
        partners: Partners::of(&models.recorded.edges),
        total: Aligned::default(),
        drift: histogram(),
        own_drift: histogram(),
        end: Explained::default(),
        sizes: FxHashMap::default(),
        first_match: None,
        worst_lane: None,
        first: First::default(),
    };
    let mut budget = Budget::default();
    // Calls without known arguments, by outcome: the other run's calls without counterpart, and they.
    let wild: FxHashSet<(u32, Outcome)> =
        joint.bases.iter().filter(|b| b.wild).map(|b| (b.call, b.outcome)).collect();
    let mut unknown: FxHashMap<(u32, (u32, Outcome)), Both<Split>> = FxHashMap::default();
    for (index, lane) in pairing.lanes.iter().enumerate() {
        let mut parted = Parted {
            lane: index,
            offset: shift(models),
            alone: Both::default(),
            wild: &wild,
            unknown: FxHashMap::default(),
        };
        let mut step_index = 0_u64;
        let mut waits = Waits::default();
        let mut cursor = walked.partners.cursor(lane.place);
        let result = align_lane(lane, joint, &mut budget, |step| {
            match step {
                Step::Keep(x, y) => {
                    let ops = Both::new(x, y);
                    let met = ops.map(|op| Some(*op));
                    let times = (told_ns(x), told_ns(y));
                    walked.first_match = Some(walked.first_match.map_or(times, |first| first.min(times)));
                    walked.partners.meet(&mut cursor, index, met);
                    parted.close(joint, &mut walked.first);
                    let begun = ops.zip(models).map(|(op, model)| op.t_ns.saturating_sub(model.first_ns));
                    let at = moments(begun, ops.map(|op| op.duration_ns));
                    // What is extra is put beside what it came after.
                    parted.offset = (x.t_ns as i64).wrapping_sub(y.t_ns as i64);
                    // Told on the clock of the run, which began before its first call.
                    let lacked_ns = starved.until(at.other.saturating_add(models.other.first_ns));
                    let (off, explained) = waits.step(at, ops.map(|op| op.waited_ns), lacked_ns);
                    walked.drift.saturating_record(off.max(1));
                    walked.own_drift.saturating_record((off - explained).max(1));
                    if off - explained > late_ns {
                        parted.note(step_index, DivergenceKind::Late, met, &mut walked.first, joint);
                    }
                    if at.other >= walked.end.at_ns {
                        walked.end = Explained { at_ns: at.other, ns: explained, late: at.more() > 0 };
                    }
                    let sizes = Both::each(|run| joint.entry(run, *ops.of(run)).size);
                    if sizes.recorded.abs_diff(sizes.other) > 1 {
                        let moved = walked.sizes.entry(joint.base(Run::Recorded, x)).or_default();
                        if sizes.other > sizes.recorded {
                            moved.0 += 1;
                        } else {
                            moved.1 += 1;
                        }
                        parted.note(step_index, DivergenceKind::Outcome, met, &mut walked.first, joint);
                    }
                }
                Step::Delete(x) => {
                    walked.partners.meet(&mut cursor, index, Both::new(Some(x), None));
                    parted.alone.recorded.push((step_index, x));
                }
                Step::Insert(y) => parted.alone.other.push((step_index, y)),
            }
            step_index += 1;
        });
        parted.close(joint, &mut walked.first);
        for (key, n) in parted.unknown.drain() {
            *unknown.entry((lane.family, key)).or_default() += n;
        }
        let edits = result.deleted + result.inserted;
        if edits > walked.worst_lane.map_or(0, |w| w.1) {
            walked.worst_lane = Some((index, edits));
        }
        walked.total.kept += result.kept;
        walked.total.deleted += result.deleted;
        walked.total.inserted += result.inserted;
        walked.total.by_count += result.by_count;
    }
    for Both { recorded, other } in unknown.values() {
        let pairs = recorded.known.min(other.wild) + recorded.wild.min(other.known);
        walked.total.kept += pairs;
        walked.total.deleted -= pairs;
        walked.total.inserted -= pairs;
    }
    walked
}

/// The moment of an operation: its end, which is known also of a call that began before the recording did.
fn told_ns(op: Op) -> u64 {
    if op.duration_ns > SHORT_NS { op.t_ns.saturating_add(op.duration_ns) } else { op.t_ns }
}

/// How much of a difference in time is explained by waiting for a CPU.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Explained {
    /// Time in the other run.
    at_ns: u64,
    /// How much.
    pub(crate) ns: u64,
    /// Whether the other run was late there.
    pub(crate) late: bool,
}

/// Waiting for a CPU along one sequence. The other run may be late by what it waited, or by what all of it lacked CPUs
/// meanwhile, since who waits for others waits for those whom they wait for; and early by what the recording waited. What it
/// made up for no longer explains anything.
#[derive(Debug, Default)]
struct Waits {
    late: u64,
    early: u64,
    waited: Both<u64>,
    starved: u64,
}

impl Waits {
    /// The difference of two matched operations, and how much of it is explained. `at`: when they were; `waited`: for how
    /// long their tasks had waited by then; `starved`: how long the other run had lacked CPUs by then.
    fn step(&mut self, at: Both<u64>, waited: Both<u64>, starved: u64) -> (u64, u64) {
        let (late, early) = (at.other.saturating_sub(at.recorded), at.recorded.saturating_sub(at.other));
        let more = waited.zip(self.waited).map(|(now, before)| now.saturating_sub(*before));
        self.late = (self.late + more.other.max(starved.saturating_sub(self.starved))).min(late);
        self.early = (self.early + more.recorded).min(early);
        (self.waited, self.starved) = (waited, self.starved.max(starved));
        (late.max(early), self.late.max(self.early))
    }
}

/// When two matched operations took place: of those that both waited for others, when they
/// began or when they returned, whichever is closer. Who begins to wait sooner waits longer, and nobody can tell but by
/// that; what both do next shows whether their waits ended at the same time.
fn moments(begun: Both<u64>, took: Both<u64>) -> Both<u64> {
    if took.shared() <= SHORT_NS {
        return begun;
    }
    let returned = begun.zip(took).map(|(begun, took)| begun.saturating_add(*took));
    if returned.apart() < begun.apart() { returned } else { begun }
}

fn histogram() -> Histogram<u64> {
    // The bounds are constant and valid; an empty auto-resizing histogram is the same thing.
    Histogram::new_with_bounds(1, 86_400_000_000_000, 2)
        .or_else(|_| Histogram::new(2))
        .unwrap_or_else(|_| std::process::abort())
}

/// Nanoseconds to add to a time of the other run to put it on the recording's clock.
fn shift(models: Both<&Model>) -> i64 {
    (models.recorded.first_ns as i64).wrapping_sub(models.other.first_ns as i64)
}

fn align_lane(
    lane: &Lane<'_>,
    joint: &Joint<'_>,
    budget: &mut Budget,
    visit: impl FnMut(Step<Op>),
) -> Aligned {
    align(
        lane.seqs.recorded.into_iter().flat_map(|s| s.iter()),
        lane.seqs.other.into_iter().flat_map(|s| s.iter()),
        |x| joint.base(Run::Recorded, *x),
        |y| joint.base(Run::Other, *y),
        budget,
        visit,
    )
}

/// Differences by whether their arguments are known.
#[derive(Debug, Clone, Copy, Default)]
struct Split {
    known: u64,
    wild: u64,
}

impl std::ops::AddAssign for Split {
    fn add_assign(&mut self, other: Self) {
        self.known += other.known;
        self.wild += other.wild;
    }
}

/// Consecutive differences of one lane.
struct Parted<'w> {
    lane: usize,
    offset: i64,
    /// Operations that only one run did, each with its step.
    alone: Both<Vec<(u64, Op)>>,
    wild: &'w FxHashSet<(u32, Outcome)>,
    /// Differences that calls without known arguments may explain.
    unknown: FxHashMap<(u32, Outcome), Both<Split>>,
}

impl Parted<'_> {
    fn note(
        &self,
        step: u64,
        kind: DivergenceKind,
        ops: Both<Option<Op>>,
        first: &mut First,
        joint: &Joint<'_>,
    ) {
        let at_ns = match (ops.recorded, ops.other) {
            (Some(x), _) => x.t_ns,
            (None, Some(y)) => y.t_ns.saturating_add_signed(self.offset),
            (None, None) => return,
        };
        let place = Place { lane: self.lane, step, at_ns, kind, ops };
        let put = |slot: &mut Option<Place>| {
            if slot.is_none_or(|p| at_ns < p.at_ns) {
                *slot = Some(place);
            }
        };
        let bases = Both::each(|run| ops.of(run).map(|op| joint.base(run, op)));
        let is_any = |what: &dyn Fn(u32) -> bool| bases.map(|base| base.is_some_and(what)) != Both::default();
        let failed = |base: u32| match joint.bases[base as usize].outcome {
            Outcome::Errno(_) => true,
            Outcome::Exit(status) => status != 0,
            _ => false,
        };
        match kind {
            DivergenceKind::Late => return put(&mut first.late),
            DivergenceKind::Outcome => put(&mut first.flip),
            DivergenceKind::Missing => put(&mut first.missing),
            _ => {}
        }
        put(&mut first.any);
        if is_any(&failed) {
            put(&mut first.failure);
        }
        let remarkable = |base: u32| {
            let base = &joint.bases[base as usize];
            matches!(base.outcome, Outcome::Errno(e)
                if is_remarkable(joint.strings[base.call as usize], joint.strings[base.object as usize], e))
        };
        if is_any(&remarkable) {
            put(&mut first.remarkable);
        }
    }

    /// Takes out what a call without known arguments is, or may stand for.
    fn set_apart(&mut self, joint: &Joint<'_>) {
        for run in Run::BOTH {
            let (wild, unknown) = (self.wild, &mut self.unknown);
            self.alone.of_mut(run).retain(|(_, op)| {
                let base = &joint.bases[joint.base(run, *op) as usize];
                let key = (base.call, base.outcome);
                if !wild.contains(&key) {
                    return true;
                }
                let one = Split { known: u64::from(!base.wild), wild: u64::from(base.wild) };
                *unknown.entry(key).or_default().of_mut(run) += one;
                false
            });
        }
    }

    /// The differences end: find those that are one operation with two outcomes.
    fn close(&mut self, joint: &Joint<'_>, first: &mut First) {
        if self.alone.recorded.is_empty() && self.alone.other.is_empty() {
            return;
        }
        if !self.wild.is_empty() {
            self.set_apart(joint);
        }
        let identity = |base: u32| joint.bases[base as usize].identity;
        let Both { recorded: deleted, other: inserted } = &self.alone;
        let begin = [deleted.first(), inserted.first()].into_iter().flatten().map(|x| x.0).min();
        let mut taken = vec![false; inserted.len().min(RUN)];
        for (i, (step, x)) in deleted.iter().enumerate() {
            let sought = identity(joint.base(Run::Recorded, *x));
            let is_it = |j: &usize| !taken[*j] && identity(joint.base(Run::Other, inserted[*j].1)) == sought;
            let partner = if i < RUN { (0..taken.len()).find(is_it) } else { None };
            match partner {
                Some(j) => {
                    taken[j] = true;
                    let ops = Both::new(Some(*x), Some(inserted[j].1));
                    self.note(begin.unwrap_or(*step), DivergenceKind::Outcome, ops, first, joint);
                }
                None => self.note(*step, DivergenceKind::Missing, Both::new(Some(*x), None), first, joint),
            }
        }
        for (j, (step, y)) in inserted.iter().enumerate() {
            if !taken.get(j).copied().unwrap_or(false) {
                self.note(*step, DivergenceKind::Extra, Both::new(None, Some(*y)), first, joint);
            }
        }
        self.alone.recorded.clear();
        self.alone.other.clear();
    }
}

/// The findings of other metrics, one of which may be the first divergence.
pub(crate) struct Found {
    /// The first effect before its cause.
    pub(crate) order: Option<Violation>,
    /// The lane of the first stream that is another.
    pub(crate) stream: Option<usize>,
    /// Whether the order of operations is as recorded on the whole.
    pub(crate) in_order: bool,
}

/// The first difference of the kind that the worst metric is about.
pub(crate) fn first_divergence(
    joint: &Joint<'_>,
    pairing: &Pairing<'_>,
    walked: &Walked<'_>,
    worst: Option<&str>,
    found: &Found,
) -> Option<Divergence> {
    let first = &walked.first;
    let place = match worst {
        Some("order") => found.order.map(|v| Place {
            lane: v.lane,
            step: step_of(&pairing.lanes[v.lane], joint, v.effect.recorded),
            at_ns: v.effect.recorded.t_ns,
            kind: DivergenceKind::Order,
            ops: v.effect.map(|op| Some(*op)),
        }),
        // When nothing in both is at another time, one of the runs goes on for longer than the other.
        Some("makespan" | "drift") => first.late.or(first.any),
        Some("network") => found.stream.and_then(|lane| first_of_lane(lane, pairing, joint)).or(first.any),
        // What the runs do differs as a whole: where that began says more than how it ended.
        _ if !found.in_order => first.any,
        Some("coverage") => first.missing.or(first.any),
        Some("incident_recall") => first.remarkable.or(first.failure).or(first.any),
        // A failure before the first changed outcome is its cause rather than its effect.
        Some("semantic" | "outcomes") => [first.flip, first.remarkable]
            .into_iter()
            .flatten()
            .min_by_key(|p| p.at_ns)
            .or(first.failure)
            .or(first.any),
        Some("errors") => first.failure.or(first.flip).or(first.any),
        _ => first.any,
    }?;
    let lane = &pairing.lanes[place.lane];
    let text = |run: Run, op: Op| line_text(joint, joint.entry(run, op));
    let mut before: VecDeque<Line> = VecDeque::new();
    let mut after: Vec<Line> = Vec::new();
    let mut index = 0;
    align_lane(lane, joint, &mut Budget::default(), |step| {
        let at = index;
        index += 1;
        if at > place.step + CONTEXT as u64 + 4 {
            return;
        }
        let line = match step {
            Step::Keep(x, y) => {
                Line { mark: ' ', a_ns: Some(x.t_ns), b_ns: Some(y.t_ns), text: text(Run::Recorded, x) }
            }
            Step::Delete(x) => {
                Line { mark: '-', a_ns: Some(x.t_ns), b_ns: None, text: text(Run::Recorded, x) }
            }
            Step::Insert(y) => Line { mark: '+', a_ns: None, b_ns: Some(y.t_ns), text: text(Run::Other, y) },
        };
        if at < place.step {
            before.push_back(line);
            if before.len() > CONTEXT {
                before.pop_front();
            }
        } else {
            after.push(line);
        }
    });
    // What the recording has comes before what the other run has instead.
    let run = after.iter().take_while(|l| l.mark != ' ').count();
    after[..run].sort_by_key(|l| l.mark == '+');
    let texts = Both::each(|run| place.ops.of(run).map(|op| text(run, op)));
    let operation = texts.clone().any()?;
    let instead = texts.other.filter(|other| place.kind == DivergenceKind::Outcome && *other != operation);
    Some(Divergence {
        kind: place.kind,
        role: pairing.who(place.lane),
        operation,
        instead,
        a_ns: place.ops.recorded.map(|op| op.t_ns),
        b_ns: place.ops.other.map(|op| op.t_ns),
        context: before.into_iter().chain(after).collect(),
    })
}

/// The step of a lane's alignment at which an operation of the recording is.
fn step_of(lane: &Lane<'_>, joint: &Joint<'_>, op: Op) -> u64 {
    let (mut at, mut found) = (0, 0);
    align_lane(lane, joint, &mut Budget::default(), |step| {
        if matches!(step, Step::Keep(x, _) | Step::Delete(x) if x == op) {
            found = at;
        }
        at += 1;
    });
    found
}

/// The first difference of a lane, or its first operation when only numbers of bytes or its end are others.
fn first_of_lane(lane: usize, pairing: &Pairing<'_>, joint: &Joint<'_>) -> Option<Place> {
    let (mut at, mut found, mut last) = (0, None, None);
    align_lane(&pairing.lanes[lane], joint, &mut Budget::default(), |step| {
        let (kind, ops) = match step {
            Step::Keep(x, y) => (DivergenceKind::Outcome, Both::new(Some(x), Some(y))),
            Step::Delete(x) => (DivergenceKind::Missing, Both::new(Some(x), None)),
            Step::Insert(y) => (DivergenceKind::Extra, Both::new(None, Some(y))),
        };
        let at_ns = ops.any().map_or(0, |op| op.t_ns);
        let place = Place { lane, step: at, at_ns, kind, ops };
        if kind != DivergenceKind::Outcome && found.is_none() {
            found = Some(place);
        }
        last = Some(place);
        at += 1;
    });
    found.or(last)
}

fn line_text(joint: &Joint<'_>, entry: Entry) -> String {
    let text = joint.text(entry.base);
    match entry.size {
        0 => text,
        1 => format!("{text} 0 B"),
        n => format!("{text} {}–{} B", 1_u64 << (n - 2), ((1_u128 << (n - 1)) - 1)),
    }
}
