//! Whom to force on: the rule, without the kernel.
//!
//! A recorded call or wait ended because of something that was done before its recorded end. So when a task is still in it
//! beyond that end, and nothing that was recorded before it is left to be done by anybody who can move, nothing will ever
//! end it here: the replay differs from the recording, or the plan lacks the cause. This needs no knowledge of causes.

/// Recorded times of two CPUs, and of the beginning of a call and its effect, differ by less than this.
const MARGIN_NS: u64 = 1_000_000;

/// Whether a task goes on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It runs, sleeps until a moment, or is in a call whose recorded time is not over.
    Moves,
    /// It is beyond the recorded end of what it does, and only others can let it go on.
    Stuck,
}

/// Where a task is on the recording's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) task: u32,
    pub(super) stage: Stage,
    /// When, in the recording, it did what it does next.
    pub(super) at_ns: u64,
}

/// The task that is to be forced on: of those that are stuck the earliest, if nobody who moves is before it.
pub(super) fn first_to_force(positions: &[Position]) -> Option<u32> {
    let of = |stage: Stage| positions.iter().filter(move |position| position.stage == stage);
    let stuck = of(Stage::Stuck).min_by_key(|position| (position.at_ns, position.task))?;
    let next_ns = of(Stage::Moves).map(|position| position.at_ns).min();
    next_ns.is_none_or(|next_ns| next_ns > stuck.at_ns.saturating_add(MARGIN_NS)).then_some(stuck.task)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuck(task: u32, at_ms: u64) -> Position {
        Position { task, stage: Stage::Stuck, at_ns: at_ms * 1_000_000 }
    }

    fn moves(task: u32, at_ms: u64) -> Position {
        Position { task, stage: Stage::Moves, at_ns: at_ms * 1_000_000 }
    }

    #[test]
    fn the_earliest_of_a_circle_is_forced() {
        assert_eq!(first_to_force(&[stuck(0, 7), stuck(1, 5), stuck(2, 9)]), Some(1));
    }

    #[test]
    fn nobody_is_forced_while_somebody_may_still_do_what_they_wait_for() {
        assert_eq!(first_to_force(&[stuck(0, 7), moves(1, 3)]), None);
        assert_eq!(first_to_force(&[stuck(0, 7), moves(1, 7)]), None);
        assert_eq!(first_to_force(&[stuck(0, 7), stuck(1, 6), moves(2, 5)]), None);
    }

    #[test]
    fn what_was_recorded_later_ends_nothing() {
        assert_eq!(first_to_force(&[stuck(0, 7), moves(1, 9)]), Some(0));
        assert_eq!(first_to_force(&[stuck(0, 7), stuck(3, 12), moves(1, 9), moves(2, 30)]), Some(0));
    }

    #[test]
    fn who_moves_is_never_forced() {
        assert_eq!(first_to_force(&[moves(1, 9), moves(2, 3)]), None);
        assert_eq!(first_to_force(&[]), None);
    }
}
