//! Events in order of their ends, where lines come in order of their begins.

use ctrace_format::{Event, TraceWriter, WriteError};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events that wait for their turn at most.
const MAX_WAITING: usize = 1 << 14;

struct Waiting {
    key: Reverse<(u64, u64)>,
    event: Event,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// Hears of each event as it is written: redacted.
pub type Shown<'s> = dyn FnMut(&Event, &TraceWriter) + 's;

/// See the module.
pub(crate) struct Later<'s> {
    waiting: BinaryHeap<Waiting>,
    count: u64,
    /// The latest end so far.
    pub(crate) last_ns: u64,
    shown: &'s mut Shown<'s>,
}

impl<'s> Later<'s> {
    pub(crate) fn new(shown: &'s mut Shown<'s>) -> Self {
        Self { waiting: BinaryHeap::new(), count: 0, last_ns: 0, shown }
    }

    /// An event that is known at `now_ns`.
    pub(crate) fn push(&mut self, w: &mut TraceWriter, event: Event, now_ns: u64) -> Result<(), WriteError> {
        let end_ns = event.end_ns();
        self.last_ns = self.last_ns.max(end_ns);
        if end_ns <= now_ns && self.waiting.is_empty() {
            return self.write(w, &event);
        }
        self.count += 1;
        self.waiting.push(Waiting { key: Reverse((end_ns, self.count)), event });
        if self.waiting.len() > MAX_WAITING
            && let Some(first) = self.waiting.pop()
        {
            self.write(w, &first.event)?;
        }
        Ok(())
    }

    /// Writes what ended by `now_ns`.
    pub(crate) fn flush(&mut self, w: &mut TraceWriter, now_ns: u64) -> Result<(), WriteError> {
        while self.waiting.peek().is_some_and(|first| first.key.0.0 <= now_ns) {
            if let Some(first) = self.waiting.pop() {
                self.write(w, &first.event)?;
            }
        }
        Ok(())
    }

    /// An event that is larger than a chunk may be is counted as lost by the writer.
    fn write(&mut self, w: &mut TraceWriter, event: &Event) -> Result<(), WriteError> {
        match w.push_shown(event, &mut *self.shown) {
            Err(WriteError::TooLarge { .. } | WriteError::Forgotten { .. }) => Ok(()),
            other => other,
        }
    }
}
