//! What the time of the two runs went on, and what explains that one took longer.
//!
//! Time is compared by role, call and object. A task that waits for another one of the run takes longer because that one
//! does: such waits explain a difference only when nothing else does.

use super::both::{Both, Run};
use super::joint::canonical;
use super::pairing::Pairing;
use crate::costs::{Hist, Spent};
use crate::gates::Profile;
use crate::model::Model;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;

/// Less than that, added up, says nothing on a machine that does other things as well.
const NOISE_NS: u64 = 100_000_000;
/// So does less than this share of the recorded run, in 1/100.
const NOISE_PERCENT: u64 = 5;
/// Times and sums of them that are closer are alike.
const ALIKE: f64 = 1.5;
/// Time on a CPU depends on who else uses the machine; so does what any load may double.
const DOUBLE: f64 = 2.0;
/// How much of such time counts.
const OF_MACHINE: f64 = 0.25;
/// Fewer lengths of one kind have no typical length.
const FEWEST: u64 = 5;
/// Fewer have no tail.
const TAIL: u64 = 1000;
/// What one operation of a replay may be off, ns: the gate of `drift`.
const PACE_NS: u64 = 5_000_000;

/// What time was spent on, in both runs.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) family: u32,
    /// The name of its threads; empty: the first one.
    pub(crate) thread: String,
    pub(crate) spent: Spent,
    pub(crate) call: String,
    pub(crate) object: String,
    pub(crate) lengths: Both<Hist>,
}

impl Item {
    pub(crate) fn totals(&self) -> Both<u64> {
        self.lengths.map(|h| h.total_ns)
    }

    pub(crate) fn counts(&self) -> Both<u64> {
        self.lengths.map(|h| h.count)
    }

    /// How much longer the other run spent on it.
    pub(crate) fn more_ns(&self) -> i64 {
        self.totals().more()
    }
}

/// Everything that time was spent on.
pub(crate) struct Times {
    pub(crate) items: Vec<Item>,
    /// Waiting for a CPU, of all tasks.
    cpu_wait: Both<u64>,
    makespan: Both<u64>,
    /// How long a replay lacked the machine.
    starved_ns: u64,
}

type Key<'k> = (u32, Spent, &'k str, &'k str, &'k str);

impl Times {
    pub(crate) fn take(models: Both<&Model>, pairing: &Pairing<'_>, starved_ns: u64) -> Self {
        let labels = |run: Run| -> FxHashSet<(u32, &str)> {
            let model = models.of(run);
            let label =
                |c: &crate::costs::Cost| (pairing.family.of(run)[c.process], model.name(c.key.thread));
            model.costs.iter().map(label).collect()
        };
        let labels = Both::each(labels);
        let mut cpu_wait = Both::new(0_u64, 0_u64);
        let mut all: BTreeMap<Key<'_>, Both<Hist>> = BTreeMap::new();
        for run in Run::BOTH {
            let (model, opposite) = (*models.of(run), *models.of(run.opposite()));
            for cost in &model.costs {
                let family = pairing.family.of(run)[cost.process];
                let label = model.name(cost.key.thread);
                let shared =
                    labels.recorded.contains(&(family, label)) && labels.other.contains(&(family, label));
                // Threads that are called otherwise in the other run are told together.
                let thread = if shared { label } else { "…" };
                let object = canonical(model, opposite, cost.key.object);
                let key = (family, cost.key.spent, model.name(cost.key.call), thread, object);
                all.entry(key).or_default().of_mut(run).merge(&cost.lengths);
                if cost.key.spent == Spent::CpuWait {
                    let sum = cpu_wait.of_mut(run);
                    *sum = sum.saturating_add(cost.lengths.total_ns);
                }
            }
        }
        let makespan = models.map(|m| m.makespan_ns());
        Self { items: together(all), cpu_wait, makespan, starved_ns }
    }

    /// Differences up to this, added up, are noise.
    pub(crate) fn noise_ns(&self) -> u64 {
        (self.makespan.recorded / 100 * NOISE_PERCENT).max(NOISE_NS)
    }

    /// By how much longer or shorter the run is, had it been spent by one task after the other: time that many spend at once
    /// counts once. What waiting for a CPU explains, by whomever, is left out.
    fn effect_ns(&self, item: &Item) -> u64 {
        let more = item.more_ns();
        let share = |total: u64, length: u64| total as f64 / length.max(1) as f64;
        let totals = item.totals();
        let at_once =
            share(totals.recorded, self.makespan.recorded).max(share(totals.other, self.makespan.other));
        let waited = self.cpu_wait.more();
        let explained =
            if item.spent.is_of_machine() || (more > 0) != (waited > 0) { 0 } else { waited.unsigned_abs() };
        let starved = if more > 0 { self.starved_ns } else { 0 };
        let mut alone = (more.unsigned_abs() as f64 / at_once.max(1.0)) as u64;
        if item.spent.is_consequence() {
            // Who waits for others may do so while all goes on: it matters where all took longer.
            let longer = self.makespan.more();
            alone = if (longer > 0) == (more > 0) { alone.min(longer.unsigned_abs()) } else { 0 };
        }
        alone.saturating_sub(explained.max(starved))
    }

    fn is_alike(item: &Item) -> bool {
        let ratio = |of: Both<u64>| {
            let (x, y) = (of.recorded.max(1) as f64, of.other.max(1) as f64);
            (x / y).max(y / x)
        };
        let totals = ratio(item.totals());
        let means = ratio(item.lengths.map(Hist::mean_ns));
        if item.spent.is_of_machine() {
            totals < DOUBLE
        } else if item.spent.is_consequence() {
            means < ALIKE
        } else {
            totals < ALIKE
        }
    }

    /// What took notably longer or shorter, most first, and the share of the whole difference. Waits for others of the run
    /// are told when nothing else is.
    pub(crate) fn notable(&self) -> Vec<(&Item, f64)> {
        for consequences in [false, true] {
            let mut found: Vec<&Item> = self
                .items
                .iter()
                .filter(|i| i.spent.is_consequence() == consequences && !is_idle(i.spent))
                .filter(|i| self.effect_ns(i) > self.noise_ns() && !Self::is_alike(i))
                .collect();
            if found.is_empty() {
                continue;
            }
            found.sort_by_key(|i| std::cmp::Reverse(i.more_ns().unsigned_abs()));
            let all = |longer: bool| -> f64 {
                let of_kind = self
                    .items
                    .iter()
                    .filter(|i| i.spent.is_consequence() == consequences && !is_idle(i.spent));
                of_kind
                    .map(Item::more_ns)
                    .filter(|ns| (*ns > 0) == longer)
                    .map(|ns| ns.unsigned_abs() as f64)
                    .sum()
            };
            let (longer, shorter) = (all(true), all(false));
            let share = |i: &Item| {
                let all = if i.more_ns() > 0 { longer } else { shorter };
                i.more_ns().unsigned_abs() as f64 / all.max(1.0)
            };
            return found.into_iter().map(|i| (i, share(i))).collect();
        }
        Vec::new()
    }

    /// The most that is notable, as a share of the recorded run.
    pub(crate) fn added(&self) -> Option<(f64, &Item)> {
        let length = self.makespan.recorded.max(NOISE_NS) as f64;
        self.notable()
            .into_iter()
            .map(|(item, _)| {
                let weight = if item.spent.is_of_machine() { OF_MACHINE } else { 1.0 };
                (self.effect_ns(item) as f64 / length * weight, item)
            })
            .max_by(|x, y| x.0.total_cmp(&y.0))
    }

    /// Kinds of waits and calls whose lengths are compared.
    fn comparable(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|i| !i.spent.is_consequence() && !i.spent.is_of_machine())
    }

    /// By how much typical lengths are shifted: the worst ratio of those that matter, and over how many lengths.
    pub(crate) fn shift(&self, profile: Profile) -> (Option<(f64, &Item)>, u64) {
        let mut n = 0;
        let mut worst: Option<(f64, &Item)> = None;
        for item in self.comparable().filter(|i| i.counts().shared() >= FEWEST) {
            n += item.counts().recorded;
            if self.effect_ns(item) <= self.noise_ns() || profile == Profile::Synthetic && in_pace(item, 0.5)
            {
                continue;
            }
            let Some(ratio) = item.lengths.recorded.shift(&item.lengths.other) else { continue };
            let ratio = ratio.max(1.0 / ratio);
            if worst.is_none_or(|w| ratio > w.0) {
                worst = Some((ratio, item));
            }
        }
        (worst, n)
    }

    /// By how much the longest hundredth is shifted: the worst logarithm of a ratio, and over how many lengths.
    pub(crate) fn tail(&self, profile: Profile) -> (Option<(f64, &Item)>, u64) {
        let mut n = 0;
        let mut worst: Option<(f64, &Item)> = None;
        for item in self.comparable().filter(|i| i.counts().shared() >= TAIL) {
            n += item.counts().recorded;
            let q99 = item.lengths.map(|h| h.quantile_ns(0.99));
            let tail = q99.more().unsigned_abs().saturating_mul(item.counts().shared() / 100);
            if tail.min(self.effect_ns(item)) <= self.noise_ns()
                || profile == Profile::Synthetic && in_pace(item, 0.99)
            {
                continue;
            }
            let ratio = (q99.other.max(1) as f64 / q99.recorded.max(1) as f64).ln().abs();
            if worst.is_none_or(|w| ratio > w.0) {
                worst = Some((ratio, item));
            }
        }
        (worst, n)
    }
}

/// Whether a replay is as close to the recorded length as it has to be to any moment.
fn in_pace(item: &Item, q: f64) -> bool {
    item.lengths.map(|h| h.quantile_ns(q)).more().unsigned_abs() <= PACE_NS
}

/// Time in which nothing was to be done: how long that is depends on when the recording ended, and on others.
const fn is_idle(spent: Spent) -> bool {
    matches!(spent, Spent::Request | Spent::Event | Spent::Condition | Spent::Signal)
}

/// What has a name that is only in one of the runs is told together: a path with a date in it is no other path.
fn together(all: BTreeMap<Key<'_>, Both<Hist>>) -> Vec<Item> {
    // By all but the object: what is only in one run, and the object that took most in each.
    type Lone<'k> = (Both<Hist>, Both<(u64, &'k str)>);
    let mut lone: FxHashMap<(u32, Spent, &str, &str), Lone<'_>> = FxHashMap::default();
    let mut items = Vec::new();
    for ((family, spent, call, thread, object), lengths) in all {
        if lengths.map(|h| h.count).shared() > 0 {
            let (thread, call, object) = (thread.to_owned(), call.to_owned(), object.to_owned());
            items.push(Item { family, thread, spent, call, object, lengths });
            continue;
        }
        let (sum, most) = lone.entry((family, spent, call, thread)).or_default();
        for run in Run::BOTH {
            let of_run = lengths.of(run);
            sum.of_mut(run).merge(of_run);
            let most = most.of_mut(run);
            if of_run.total_ns > most.0 {
                *most = (of_run.total_ns, object);
            }
        }
    }
    for ((family, spent, call, thread), (lengths, most)) in lone {
        let run = lengths.map(|h| h.total_ns).with_more();
        let (ns, name) = *most.of(run);
        // One object makes most of it, or it is many.
        let object = if ns * 2 > lengths.of(run).total_ns { name } else { "" };
        let (thread, call, object) = (thread.to_owned(), call.to_owned(), object.to_owned());
        items.push(Item { family, thread, spent, call, object, lengths });
    }
    items.sort_by(|x, y| {
        (x.family, x.spent, &x.call, &x.thread, &x.object)
            .cmp(&(y.family, y.spent, &y.call, &y.thread, &y.object))
    });
    items
}
