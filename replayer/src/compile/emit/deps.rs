//! Waits between tasks: which are needed, and which are implied by others.

use ctrace_analysis::shared::SharedMap;
use ctrace_program::Wait;
use serde::Serialize;
use std::collections::BTreeMap;

/// Why a step waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// A descriptor is used after it was made, made after its number was freed, closed after it was used.
    Descriptor,
    /// Calls that share a file offset.
    Offset,
    /// A name is used after it was made, removed after it was used.
    Path,
    /// A file's content or size.
    Content,
    /// Order of the writers, or of the readers, of one stream.
    Stream,
    /// Something had not arrived yet: the one who sends waits until the other has looked in vain.
    NotYet,
    /// Somebody saw that something had arrived before another took it.
    Seen,
    /// A signal is sent after the one before was taken, and taken after it was sent.
    Signal,
    /// A child had not ended yet.
    NotEnded,
    /// A mapping is used after it was made.
    Mapping,
    /// A connection is made after somebody listens, in the recorded order, or after nobody listens any more.
    Connection,
    /// A thread is waited for before it ends.
    Join,
    /// Who is to be woken waits.
    Futex,
    /// A lock is had by one after the other.
    Lock,
}

/// Chooses waits and counts them.
#[derive(Debug, Default)]
pub(crate) struct Deps {
    /// Per program task: how far it knows others to be, by what it waited for itself.
    known: Vec<SharedMap<u32, u32>>,
    /// Waits made, by reason.
    pub(crate) edges: BTreeMap<EdgeKind, u64>,
    /// Waits that others implied.
    pub(crate) implied: u64,
}

impl Deps {
    /// A task appeared; it knows what its parent knew, and its parent up to its last completed step.
    pub(crate) fn born(&mut self, task: u32, parent: Option<(u32, u32)>) {
        while self.known.len() <= task as usize {
            self.known.push(SharedMap::default());
        }
        if let Some((parent, step)) = parent {
            let mut known = self.known.get(parent as usize).cloned().unwrap_or_default();
            if step > 0 {
                known.insert(parent, Wait::completed(parent, step - 1).seq);
            }
            self.known[task as usize] = known;
        }
    }

    /// Adds what `task`'s next step has to wait for.
    pub(crate) fn add(&mut self, task: u32, kind: EdgeKind, wait: Wait, waits: &mut Vec<Wait>) {
        if wait.task == task || wait.seq == 0 {
            return;
        }
        self.born(task, None);
        let known = &mut self.known[task as usize];
        if known.get(&wait.task).is_some_and(|seq| *seq >= wait.seq) {
            self.implied += 1;
            return;
        }
        known.insert(wait.task, wait.seq);
        *self.edges.entry(kind).or_default() += 1;
        if let Some(same) = waits.iter_mut().find(|w| w.task == wait.task) {
            same.seq = same.seq.max(wait.seq);
        } else {
            waits.push(wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_an_earlier_one_implies_is_dropped() {
        let mut deps = Deps::default();
        let mut waits = Vec::new();
        deps.add(1, EdgeKind::Path, Wait::completed(0, 5), &mut waits);
        deps.add(1, EdgeKind::Path, Wait::completed(0, 3), &mut waits);
        assert_eq!(waits, [Wait::completed(0, 5)]);
        assert_eq!(deps.implied, 1);
    }
}
