//! How often what was done, in both runs.

use super::joint::Joint;
use super::pairing::Pairing;
use crate::symbol::Outcome;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

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

pub(super) fn add<K: std::hash::Hash + Eq>(map: &mut FxHashMap<K, (u64, u64)>, key: K, second: bool, n: u64) {
    let slot = map.entry(key).or_default();
    *(if second { &mut slot.1 } else { &mut slot.0 }) += n;
}
