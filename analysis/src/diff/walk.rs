//! Walks all pairs of sequences: aligns them, measures drift, and finds where they part first.

use super::Starved;
use super::joint::Joint;
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
    a: Option<Op>,
    b: Option<Op>,
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
    /// The lane with the most differences, by index.
    pub(crate) worst_lane: Option<(usize, u64)>,
    first: First,
}

/// `late_ns`: a difference in time that the gates of time do not allow.
pub(crate) fn walk<'m>(
    a: &'m Model,
    b: &Model,
    joint: &Joint<'_>,
    pairing: &Pairing<'_>,
    starved: &Starved,
    late_ns: u64,
) -> Walked<'m> {
    let mut walked = Walked {
        partners: Partners::of(&a.edges),
        total: Aligned::default(),
        drift: histogram(),
        own_drift: histogram(),
        end: Explained::default(),
        sizes: FxHashMap::default(),
        worst_lane: None,
        first: First::default(),
    };
    let mut budget = Budget::default();
    // Calls without known arguments, by outcome: the other run's calls without counterpart, and they.
    let wild: FxHashSet<(u32, Outcome)> =
        joint.bases.iter().filter(|b| b.wild).map(|b| (b.call, b.outcome)).collect();
    let mut unknown: FxHashMap<(u32, (u32, Outcome)), (Split, Split)> = FxHashMap::default();
    for (index, lane) in pairing.lanes.iter().enumerate() {
        let mut run = Run {
            lane: index,
            offset: shift(a, b),
            deleted: Vec::new(),
            inserted: Vec::new(),
            wild: &wild,
            unknown: FxHashMap::default(),
        };
        let mut step_index = 0_u64;
        let mut waits = Waits::default();
        let mut cursor = walked.partners.cursor(lane.place);
        let result = align_lane(lane, joint, &mut budget, |step| {
            match step {
                Step::Keep(x, y) => {
                    walked.partners.meet(&mut cursor, index, x, Some(y));
                    run.close(joint, &mut walked.first);
                    let (begin_x, begin_y) =
                        (x.t_ns.saturating_sub(a.first_ns), y.t_ns.saturating_sub(b.first_ns));
                    let (tx, ty) = moments((begin_x, x.duration_ns), (begin_y, y.duration_ns));
                    // What is extra is put beside what it came after.
                    run.offset = (x.t_ns as i64).wrapping_sub(y.t_ns as i64);
                    // Told on the clock of the run, which began before its first call.
                    let lacked_ns = starved.until(ty.saturating_add(b.first_ns));
                    let (off, explained) = waits.step((tx, x.waited_ns), (ty, y.waited_ns), lacked_ns);
                    walked.drift.saturating_record(off.max(1));
                    walked.own_drift.saturating_record((off - explained).max(1));
                    if off - explained > late_ns {
                        run.note(
                            step_index,
                            DivergenceKind::Late,
                            Some(x),
                            Some(y),
                            &mut walked.first,
                            joint,
                        );
                    }
                    if ty >= walked.end.at_ns {
                        walked.end = Explained { at_ns: ty, ns: explained, late: ty > tx };
                    }
                    let sizes = (joint.a[x.symbol as usize].size, joint.b[y.symbol as usize].size);
                    if sizes.0.abs_diff(sizes.1) > 1 {
                        let moved = walked.sizes.entry(joint.a[x.symbol as usize].base).or_default();
                        if sizes.1 > sizes.0 {
                            moved.0 += 1;
                        } else {
                            moved.1 += 1;
                        }
                        run.note(
                            step_index,
                            DivergenceKind::Outcome,
                            Some(x),
                            Some(y),
                            &mut walked.first,
                            joint,
                        );
                    }
                }
                Step::Delete(x) => {
                    walked.partners.meet(&mut cursor, index, x, None);
                    run.deleted.push((step_index, x));
                }
                Step::Insert(y) => run.inserted.push((step_index, y)),
            }
            step_index += 1;
        });
        run.close(joint, &mut walked.first);
        for (key, n) in run.unknown.drain() {
            let slot = unknown.entry((lane.family, key)).or_default();
            slot.0 += n.0;
            slot.1 += n.1;
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
    for (deleted, inserted) in unknown.values() {
        let pairs = deleted.known.min(inserted.wild) + deleted.wild.min(inserted.known);
        walked.total.kept += pairs;
        walked.total.deleted -= pairs;
        walked.total.inserted -= pairs;
    }
    walked
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
    waited_a: u64,
    waited_b: u64,
    starved: u64,
}

impl Waits {
    /// The difference of two matched operations, each as (time, waited so far), and how much of it is explained. `starved`:
    /// how long the other run had lacked CPUs by then.
    fn step(&mut self, a: (u64, u64), b: (u64, u64), starved: u64) -> (u64, u64) {
        let (late, early) = (b.0.saturating_sub(a.0), a.0.saturating_sub(b.0));
        let lacked = b.1.saturating_sub(self.waited_b).max(starved.saturating_sub(self.starved));
        self.late = (self.late + lacked).min(late);
        self.early = (self.early + a.1.saturating_sub(self.waited_a)).min(early);
        (self.waited_a, self.waited_b, self.starved) = (a.1, b.1, self.starved.max(starved));
        (late.max(early), self.late.max(self.early))
    }
}

/// When two matched operations took place, each given as (begin, duration): of those that both waited for others, when they
/// began or when they returned, whichever is closer. Who begins to wait sooner waits longer, and nobody can tell but by
/// that; what both do next shows whether their waits ended at the same time.
fn moments(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    let begun = (a.0, b.0);
    if a.1.min(b.1) <= SHORT_NS {
        return begun;
    }
    let returned = (a.0.saturating_add(a.1), b.0.saturating_add(b.1));
    if returned.0.abs_diff(returned.1) < begun.0.abs_diff(begun.1) { returned } else { begun }
}

fn histogram() -> Histogram<u64> {
    // The bounds are constant and valid; an empty auto-resizing histogram is the same thing.
    Histogram::new_with_bounds(1, 86_400_000_000_000, 2)
        .or_else(|_| Histogram::new(2))
        .unwrap_or_else(|_| std::process::abort())
}

/// What to add to a time of `b` to put it on the clock of `a`.
fn shift(a: &Model, b: &Model) -> i64 {
    (a.first_ns as i64).wrapping_sub(b.first_ns as i64)
}

fn align_lane(
    lane: &Lane<'_>,
    joint: &Joint<'_>,
    budget: &mut Budget,
    visit: impl FnMut(Step<Op>),
) -> Aligned {
    align(
        lane.a.into_iter().flat_map(|s| s.iter()),
        lane.b.into_iter().flat_map(|s| s.iter()),
        |x| joint.a[x.symbol as usize].base,
        |y| joint.b[y.symbol as usize].base,
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
struct Run<'w> {
    lane: usize,
    offset: i64,
    deleted: Vec<(u64, Op)>,
    inserted: Vec<(u64, Op)>,
    wild: &'w FxHashSet<(u32, Outcome)>,
    /// Differences that calls without known arguments may explain.
    unknown: FxHashMap<(u32, Outcome), (Split, Split)>,
}

impl Run<'_> {
    fn note(
        &self,
        step: u64,
        kind: DivergenceKind,
        a: Option<Op>,
        b: Option<Op>,
        first: &mut First,
        joint: &Joint<'_>,
    ) {
        let at_ns = match (a, b) {
            (Some(x), _) => x.t_ns,
            (None, Some(y)) => y.t_ns.saturating_add_signed(self.offset),
            (None, None) => return,
        };
        let place = Place { lane: self.lane, step, at_ns, kind, a, b };
        let put = |slot: &mut Option<Place>| {
            if slot.is_none_or(|p| at_ns < p.at_ns) {
                *slot = Some(place);
            }
        };
        let failed = |symbol: Option<u32>| {
            symbol.is_some_and(|base| match joint.bases[base as usize].outcome {
                Outcome::Errno(_) => true,
                Outcome::Exit(status) => status != 0,
                _ => false,
            })
        };
        match kind {
            DivergenceKind::Late => return put(&mut first.late),
            DivergenceKind::Outcome => put(&mut first.flip),
            DivergenceKind::Missing => put(&mut first.missing),
            _ => {}
        }
        put(&mut first.any);
        if failed(a.map(|x| joint.a[x.symbol as usize].base))
            || failed(b.map(|y| joint.b[y.symbol as usize].base))
        {
            put(&mut first.failure);
        }
        let remarkable = |base: u32| {
            let base = &joint.bases[base as usize];
            matches!(base.outcome, Outcome::Errno(e)
                if is_remarkable(joint.strings[base.call as usize], joint.strings[base.object as usize], e))
        };
        if a.is_some_and(|x| remarkable(joint.a[x.symbol as usize].base))
            || b.is_some_and(|y| remarkable(joint.b[y.symbol as usize].base))
        {
            put(&mut first.remarkable);
        }
    }

    /// Takes out what a call without known arguments is, or may stand for.
    fn set_apart(&mut self, joint: &Joint<'_>) {
        for second in [false, true] {
            let (ops, entries) =
                if second { (&mut self.inserted, &joint.b) } else { (&mut self.deleted, &joint.a) };
            let (wild, unknown) = (self.wild, &mut self.unknown);
            ops.retain(|(_, op)| {
                let base = &joint.bases[entries[op.symbol as usize].base as usize];
                let key = (base.call, base.outcome);
                if !wild.contains(&key) {
                    return true;
                }
                let slot = unknown.entry(key).or_default();
                let side = if second { &mut slot.1 } else { &mut slot.0 };
                *side += Split { known: u64::from(!base.wild), wild: u64::from(base.wild) };
                false
            });
        }
    }

    /// The differences end: find those that are one operation with two outcomes.
    fn close(&mut self, joint: &Joint<'_>, first: &mut First) {
        if self.deleted.is_empty() && self.inserted.is_empty() {
            return;
        }
        if !self.wild.is_empty() {
            self.set_apart(joint);
        }
        let identity = |base: u32| joint.bases[base as usize].identity;
        let begin = [self.deleted.first(), self.inserted.first()].into_iter().flatten().map(|x| x.0).min();
        let mut taken = vec![false; self.inserted.len().min(RUN)];
        for (i, (step, x)) in self.deleted.iter().enumerate() {
            let base = joint.a[x.symbol as usize].base;
            let partner = if i < RUN {
                (0..taken.len()).find(|j| {
                    !taken[*j]
                        && identity(joint.b[self.inserted[*j].1.symbol as usize].base) == identity(base)
                })
            } else {
                None
            };
            match partner {
                Some(j) => {
                    taken[j] = true;
                    self.note(
                        begin.unwrap_or(*step),
                        DivergenceKind::Outcome,
                        Some(*x),
                        Some(self.inserted[j].1),
                        first,
                        joint,
                    );
                }
                None => self.note(*step, DivergenceKind::Missing, Some(*x), None, first, joint),
            }
        }
        for (j, (step, y)) in self.inserted.iter().enumerate() {
            if !taken.get(j).copied().unwrap_or(false) {
                self.note(*step, DivergenceKind::Extra, None, Some(*y), first, joint);
            }
        }
        self.deleted.clear();
        self.inserted.clear();
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
            step: step_of(&pairing.lanes[v.lane], joint, v.a),
            at_ns: v.a.t_ns,
            kind: DivergenceKind::Order,
            a: Some(v.a),
            b: Some(v.b),
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
    let text_a = |x: Op| line_text(joint, joint.a[x.symbol as usize].base, joint.a[x.symbol as usize].size);
    let text_b = |y: Op| line_text(joint, joint.b[y.symbol as usize].base, joint.b[y.symbol as usize].size);
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
            Step::Keep(x, y) => Line { mark: ' ', a_ns: Some(x.t_ns), b_ns: Some(y.t_ns), text: text_a(x) },
            Step::Delete(x) => Line { mark: '-', a_ns: Some(x.t_ns), b_ns: None, text: text_a(x) },
            Step::Insert(y) => Line { mark: '+', a_ns: None, b_ns: Some(y.t_ns), text: text_b(y) },
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
    let operation = place.a.map(text_a).or_else(|| place.b.map(text_b))?;
    let instead = place.b.map(text_b).filter(|b| place.kind == DivergenceKind::Outcome && *b != operation);
    Some(Divergence {
        kind: place.kind,
        role: pairing.who(place.lane),
        operation,
        instead,
        a_ns: place.a.map(|x| x.t_ns),
        b_ns: place.b.map(|y| y.t_ns),
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
        let (kind, a, b) = match step {
            Step::Keep(x, y) => (DivergenceKind::Outcome, Some(x), Some(y)),
            Step::Delete(x) => (DivergenceKind::Missing, Some(x), None),
            Step::Insert(y) => (DivergenceKind::Extra, None, Some(y)),
        };
        let at_ns = a.or(b).map_or(0, |op| op.t_ns);
        let place = Place { lane, step: at, at_ns, kind, a, b };
        if kind != DivergenceKind::Outcome && found.is_none() {
            found = Some(place);
        }
        last = Some(place);
        at += 1;
    });
    found.or(last)
}

fn line_text(joint: &Joint<'_>, base: u32, size: u8) -> String {
    let text = joint.text(base);
    match size {
        0 => text,
        1 => format!("{text} 0 B"),
        n => format!("{text} {}–{} B", 1_u64 << (n - 2), ((1_u128 << (n - 1)) - 1)),
    }
}
