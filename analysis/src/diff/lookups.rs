//! Names that were asked for, and what that came to.

use super::both::{Both, Run};
use super::joint::canonical;
use super::pairing::Pairing;
use super::words;
use crate::build::Answer;
use crate::gates::Profile;
use crate::model::Model;
use crate::report::{Amount, Cause};
use std::collections::{BTreeMap, BTreeSet};

/// Questions of a family of tasks that failed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Failed<'m> {
    family: u32,
    /// Empty: names that only one of the runs asks for, in both.
    name: &'m str,
    server: &'m str,
    answer: Answer,
}

/// Failed questions of both runs. A replay answers them from the recording: there are none to compare.
pub(super) struct Lookups<'m> {
    failed: BTreeMap<Failed<'m>, Both<u64>>,
}

impl<'m> Lookups<'m> {
    pub(super) fn take(models: Both<&'m Model>, pairing: &Pairing<'_>, profile: Profile) -> Self {
        let mut failed: BTreeMap<Failed<'m>, Both<u64>> = BTreeMap::new();
        if profile == Profile::Synthetic {
            return Self { failed };
        }
        let mut asked: Both<BTreeSet<(u32, &str)>> = Both::default();
        let mut all = Vec::new();
        for run in Run::BOTH {
            let (model, opposite) = (*models.of(run), *models.of(run.opposite()));
            for (lookup, n) in &model.lookups {
                let family = pairing.family.of(run)[lookup.process];
                let object = canonical(model, opposite, lookup.object);
                let (name, server) = object.rsplit_once(" at ").unwrap_or((object, ""));
                asked.of_mut(run).insert((family, name));
                if lookup.answer != Answer::FOUND {
                    all.push((run, Failed { family, name, server, answer: lookup.answer }, *n));
                }
            }
        }
        let of_one = |key: &Failed<'m>| {
            let name = &(key.family, key.name);
            asked.recorded.contains(name) != asked.other.contains(name)
        };
        // Names that are new in every run are told together, where both runs have such ones.
        let mut kinds: BTreeMap<Failed<'m>, Both<u64>> = BTreeMap::new();
        for (run, key, n) in all.iter().filter(|(_, key, _)| of_one(key)) {
            *kinds.entry(Failed { name: "", ..*key }).or_default().of_mut(*run) += n;
        }
        for (run, key, n) in all {
            let kind = Failed { name: "", ..key };
            let both = kinds.get(&kind).is_some_and(|n| n.shared() > 0);
            let key = if of_one(&key) && both { kind } else { key };
            *failed.entry(key).or_default().of_mut(run) += n;
        }
        Self { failed }
    }

    /// Failures of both runs, by kind.
    pub(super) fn counts(&self) -> impl Iterator<Item = Both<u64>> + '_ {
        self.failed.values().copied()
    }

    /// The failures that differ: how many there are more than chance explains, of how many, and the worst of them in words.
    pub(super) fn distance(&self, pairing: &Pairing<'_>) -> (f64, f64, String) {
        let (mut distance, mut sum) = (0.0, 0.0);
        let mut worst = (0.0, String::new());
        for (key, n) in &self.failed {
            let delta = beyond_chance(*n);
            distance += delta;
            sum += (n.recorded + n.other) as f64;
            if delta > worst.0 {
                worst = (delta, text(key, *n, pairing));
            }
        }
        (distance, sum, worst.1)
    }

    /// The failures that one of the runs has more of, as causes, most first.
    pub(super) fn causes(&self, pairing: &Pairing<'_>) -> Vec<Cause> {
        let mut found: Vec<_> = self.failed.iter().filter(|(_, n)| beyond_chance(**n) > 0.0).collect();
        found.sort_by_key(|(key, n)| (std::cmp::Reverse(n.more().unsigned_abs()), **key));
        let cause = |(key, n): (&Failed<'m>, &Both<u64>)| Cause {
            kind: "name",
            call: None,
            errno: None,
            role: pairing.role(key.family, n.with_more()).to_owned(),
            object: Some(format!("{} at {}", name(key), key.server)),
            before: Amount::times(n.recorded),
            after: Amount::times(n.other),
            share: None,
            text: text(key, *n, pairing),
        };
        found.into_iter().map(cause).collect()
    }
}

/// Independent failures vary by the square root of their number.
fn beyond_chance(n: Both<u64>) -> f64 {
    let (x, y) = (n.recorded as f64, n.other as f64);
    let slack = if x > 0.0 && y > 0.0 { 2.0 * (x + y).sqrt() } else { 0.0 };
    ((x - y).abs() - slack).max(0.0)
}

fn name<'k>(key: &Failed<'k>) -> &'k str {
    if key.name.is_empty() { "other names" } else { key.name }
}

fn text(key: &Failed<'_>, n: Both<u64>, pairing: &Pairing<'_>) -> String {
    let role = pairing.role(key.family, n.with_more());
    let server = if key.server.is_empty() { "a name server" } else { key.server };
    let name = crate::names::shorten(name(key), 80);
    format!("{role} asks {server} for {name}: {}: {}", key.answer.text(), words::how_often(n))
}
