//! How often what was done, in both runs.

use super::both::{Both, Run};
use super::joint::Joint;
use super::pairing::Pairing;
use crate::symbol::Outcome;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// How often what was done, in both runs.
#[derive(Default)]
pub(crate) struct Counts {
    /// By (family, base symbol).
    pub(crate) ops: FxHashMap<(u32, u32), Both<u64>>,
    /// By (family, base symbol, next base symbol of the same sequence).
    pub(crate) follows: FxHashMap<(u32, u32, u32), Both<u64>>,
    pub(crate) total: Both<u64>,
}

impl Counts {
    pub(crate) fn take(joint: &Joint<'_>, pairing: &Pairing<'_>) -> Self {
        let mut out = Self::default();
        for lane in &pairing.lanes {
            for run in Run::BOTH {
                let mut last = None;
                for op in lane.seqs.of(run).iter().flat_map(|s| s.iter()) {
                    let base = joint.base(run, op);
                    *out.ops.entry((lane.family, base)).or_default().of_mut(run) += 1;
                    if let Some(last) = last {
                        *out.follows.entry((lane.family, last, base)).or_default().of_mut(run) += 1;
                    }
                    last = Some(base);
                    *out.total.of_mut(run) += 1;
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
        for ((family, from, to), n) in std::mem::take(&mut self.follows) {
            let seen = |base: u32| stands.get(&key(family, base)).copied().unwrap_or(base);
            *self.follows.entry((family, seen(from), seen(to))).or_default() += n;
        }
    }

    /// Calls whose arguments are not known stand for those of their name and outcome that the other run is short of.
    fn settle(&mut self, joint: &Joint<'_>) {
        type Short = Both<Vec<(u32, u32)>>;
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
            let n = self.ops[&key];
            let b = &joint.bases[key.1 as usize];
            if !n.is_same() {
                let of_both = short.entry((key.0, b.call, b.outcome)).or_default();
                of_both.of_mut(n.with_more().opposite()).push(key);
            }
        }
        for key in wild {
            let b = &joint.bases[key.1 as usize];
            let Some(of_both) = short.get_mut(&(key.0, b.call, b.outcome)) else { continue };
            let mut n = self.ops[&key];
            // The run that has more of what is not known is short of what is.
            let run = n.with_more();
            let list = of_both.of_mut(run);
            while !n.is_same()
                && let Some(other) = list.last()
            {
                let slot = self.ops.entry(*other).or_default();
                let moved = n.apart().min(slot.apart());
                *slot.of_mut(run) += moved;
                *n.of_mut(run) -= moved;
                if slot.is_same() {
                    list.pop();
                }
            }
            self.ops.insert(key, n);
        }
    }
}
