//! Stretches over which events are missing, or were counted only.

use super::{Gap, Grid};
use ctrace_format::{Aggregate, Class, Loss, LossCause, ReadError, State, Trace};

/// Gaps that are told.
const MAX_GAPS: usize = 500;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    lost: Vec<Gap>,
    /// The last stretch of counted calls, which the next one may go on.
    counted: Vec<Gap>,
    unread: Vec<Gap>,
}

/// Adds a gap to those of its kind: to the last one of its cause, where both touch, or where there is no more room.
fn add(gaps: &mut Vec<Gap>, near_ns: u64, new: Gap) {
    let room = gaps.len() < MAX_GAPS;
    let last = gaps.iter_mut().rev().take(8).find(|gap| gap.cause == new.cause);
    let goes_on = |gap: &Gap| !room || new.from_ns <= gap.to_ns.saturating_add(near_ns);
    match last.filter(|gap| goes_on(gap)) {
        Some(gap) => {
            gap.from_ns = gap.from_ns.min(new.from_ns);
            gap.to_ns = gap.to_ns.max(new.to_ns);
            gap.count = gap.count.saturating_add(new.count);
        }
        None if room => gaps.push(new),
        None => {}
    }
}

impl Gaps {
    pub(super) fn loss(&mut self, grid: &Grid, loss: &Loss) {
        let kind = if loss.cause == LossCause::WriteFailed { "cut" } else { "lost" };
        let cause = match loss.cause {
            LossCause::RingFull => "the ring between kernel and recorder was full",
            LossCause::MapFull => "a table of the kernel was full",
            LossCause::WriteFailed => "the trace could not be written",
            LossCause::Skipped => "the kernel skipped the recorder",
            LossCause::Malformed => "records could not be decoded",
            LossCause::AggregateFull => "calls were to be counted, and the table of counts was full",
            _ => "another reason",
        };
        let cause = if loss.class == Class::Syscall {
            cause.to_owned()
        } else {
            format!("{cause} ({} events)", loss.class.name())
        };
        let gap =
            Gap { from_ns: loss.from_ns.min(loss.t_ns), to_ns: loss.t_ns, count: loss.count, kind, cause };
        add(&mut self.lost, grid.width_ns, gap);
    }

    pub(super) fn counted(&mut self, grid: &Grid, a: &Aggregate) {
        let cause = "the recorder could not keep up: calls were counted, not recorded one by one".to_owned();
        let (from_ns, to_ns) = (a.from_ns.min(a.t_ns), a.t_ns);
        let gap = Gap { from_ns, to_ns, count: a.count, kind: "counted", cause };
        add(&mut self.counted, grid.width_ns.max(1_000_000), gap);
    }

    /// A part of the file could not be read.
    pub(super) fn unread(&mut self, grid: &Grid, error: &ReadError) {
        let (from_ns, to_ns) = (grid.from_ns, grid.end_ns());
        let cause = error.to_string();
        add(&mut self.unread, 0, Gap { from_ns, to_ns, count: 0, kind: "unread", cause });
    }

    /// All of them, by time.
    pub(super) fn finish(mut self, grid: &Grid, trace: &Trace) -> Vec<Gap> {
        for damage in trace.damage() {
            let cause = damage.what.clone();
            let (from_ns, to_ns, count) = damage
                .lost
                .as_ref()
                .map_or((grid.from_ns, grid.end_ns(), 0), |lost| (lost.from_ns, lost.to_ns, lost.count));
            add(&mut self.unread, 0, Gap { from_ns, to_ns, count, kind: "unread", cause });
        }
        if trace.state() == State::Torn {
            let (from_ns, to_ns) = (grid.end_ns(), grid.end_ns());
            let cause = "the file has no end: its recorder died, or it was cut".to_owned();
            self.unread.push(Gap { from_ns, to_ns, count: 0, kind: "cut", cause });
        }
        let mut all = self.lost;
        all.append(&mut self.counted);
        all.append(&mut self.unread);
        all.sort_by_key(|gap| (gap.from_ns, gap.to_ns));
        all
    }
}
