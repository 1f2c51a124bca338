//! Memory of the scope and of its containers, and what limits each.

use super::measure::SCOPE;
use ctrace_format::{Metric, Resource};
use std::collections::BTreeMap;

/// Containers that are told apart.
const MAX_SUBJECTS: usize = 4096;
const HOST: u32 = 0;

#[derive(Debug, Clone, Copy, Default)]
struct Subject {
    value: Option<u64>,
    limit: Option<u64>,
    t_ns: u64,
}

/// The last samples.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    subjects: BTreeMap<u32, Subject>,
    /// When the last samples were taken, and those before.
    taken_ns: [u64; 2],
}

impl Memory {
    /// Takes a sample in. Returns whether it is about memory.
    pub(super) fn sample(&mut self, sample: &Resource) -> bool {
        let is_value = matches!(sample.metric, Metric::MemoryBytes | Metric::RssBytes);
        if !is_value && sample.metric != Metric::MemoryLimitBytes || is_value && sample.subject == HOST {
            return false;
        }
        if sample.t_ns > self.taken_ns[0] {
            self.taken_ns = [sample.t_ns, self.taken_ns[0]];
            // A container that is gone has no memory any more.
            let before_ns = self.taken_ns[1];
            self.subjects.retain(|_, subject| subject.t_ns >= before_ns);
        }
        if self.subjects.len() >= MAX_SUBJECTS && !self.subjects.contains_key(&sample.subject) {
            return false;
        }
        let subject = self.subjects.entry(sample.subject).or_default();
        subject.t_ns = sample.t_ns;
        *(if is_value { &mut subject.value } else { &mut subject.limit }) = Some(sample.value);
        true
    }

    pub(super) fn is_sampled(&self) -> bool {
        self.subjects.iter().any(|(subject, one)| *subject >= SCOPE && one.value.is_some())
    }

    /// What limits a subject. A container has its own limit or none; a scope without one has the host's memory.
    pub(super) fn limit(&self, subject: u32) -> Option<u64> {
        let own = |subject| {
            let limit = self.subjects.get(&subject)?.limit?;
            (limit != u64::MAX && limit > 0).then_some(limit)
        };
        if subject == SCOPE { own(SCOPE).or_else(|| own(HOST)) } else { own(subject) }
    }

    /// What is compared: in bytes the scope; in percent each container that has a limit, or else the scope.
    pub(super) fn subjects(&self, of_limit: bool) -> impl Iterator<Item = (u32, f64)> + '_ {
        let is_limited = |subject: u32| subject > SCOPE && self.limit(subject).is_some();
        let by_container = of_limit && self.subjects.keys().any(|subject| is_limited(*subject));
        self.subjects.iter().filter_map(move |(subject, one)| {
            if *subject < SCOPE || (*subject == SCOPE) == by_container {
                return None;
            }
            let value = one.value? as f64;
            Some((*subject, if of_limit { value * 100.0 / self.limit(*subject)? as f64 } else { value }))
        })
    }
}
