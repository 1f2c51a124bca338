//! A thing of each of the two runs.

use std::ops::AddAssign;

/// What the recording has, and what the other run has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Both<T> {
    pub(crate) recorded: T,
    pub(crate) other: T,
}

/// One of the two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    Recorded,
    Other,
}

impl Run {
    pub(crate) const BOTH: [Self; 2] = [Self::Recorded, Self::Other];

    /// As sentences call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Recorded => "the recording",
            Self::Other => "the other run",
        }
    }

    /// The one that this is not.
    pub(crate) const fn opposite(self) -> Self {
        match self {
            Self::Recorded => Self::Other,
            Self::Other => Self::Recorded,
        }
    }
}

impl<T> Both<T> {
    pub(crate) const fn new(recorded: T, other: T) -> Self {
        Self { recorded, other }
    }

    /// The values of both runs, the recording's first.
    pub(crate) fn each(mut f: impl FnMut(Run) -> T) -> Self {
        let recorded = f(Run::Recorded);
        Self { recorded, other: f(Run::Other) }
    }

    /// A value of one run, and the default for the other one.
    pub(crate) fn only(run: Run, thing: T) -> Both<Option<T>> {
        match run {
            Run::Recorded => Both::new(Some(thing), None),
            Run::Other => Both::new(None, Some(thing)),
        }
    }

    pub(crate) const fn of(&self, run: Run) -> &T {
        match run {
            Run::Recorded => &self.recorded,
            Run::Other => &self.other,
        }
    }

    pub(crate) const fn of_mut(&mut self, run: Run) -> &mut T {
        match run {
            Run::Recorded => &mut self.recorded,
            Run::Other => &mut self.other,
        }
    }

    pub(crate) fn map<U>(&self, f: impl Fn(&T) -> U) -> Both<U> {
        Both { recorded: f(&self.recorded), other: f(&self.other) }
    }

    /// As [`Both::map`], of what lives as long as this does.
    pub(crate) fn map_ref<'t, U>(&'t self, f: impl Fn(&'t T) -> U) -> Both<U> {
        Both { recorded: f(&self.recorded), other: f(&self.other) }
    }

    pub(crate) fn zip<U>(self, with: Both<U>) -> Both<(T, U)> {
        Both { recorded: (self.recorded, with.recorded), other: (self.other, with.other) }
    }
}

impl<T> Both<Option<T>> {
    /// If both runs have it.
    pub(crate) fn together(self) -> Option<Both<T>> {
        Some(Both { recorded: self.recorded?, other: self.other? })
    }

    /// The value of the recording, or else the value of the other run.
    pub(crate) fn any(self) -> Option<T> {
        self.recorded.or(self.other)
    }
}

impl<T: PartialOrd> Both<T> {
    /// The run that has more; the other one where they have as much.
    pub(crate) fn with_more(&self) -> Run {
        if self.other >= self.recorded { Run::Other } else { Run::Recorded }
    }
}

impl<T: PartialEq> Both<T> {
    pub(crate) fn is_same(&self) -> bool {
        self.recorded == self.other
    }
}

impl Both<u64> {
    /// How much more the other run has; negative: less.
    pub(crate) fn more(&self) -> i64 {
        self.other.saturating_sub(self.recorded) as i64 - self.recorded.saturating_sub(self.other) as i64
    }

    /// How far they are apart.
    pub(crate) const fn apart(&self) -> u64 {
        self.recorded.abs_diff(self.other)
    }

    /// How much both have at least.
    pub(crate) fn shared(&self) -> u64 {
        self.recorded.min(self.other)
    }

    /// How much one of them has at most.
    pub(crate) fn most(&self) -> u64 {
        self.recorded.max(self.other)
    }
}

impl<T: AddAssign> AddAssign for Both<T> {
    fn add_assign(&mut self, more: Self) {
        self.recorded += more.recorded;
        self.other += more.other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_that_has_more_is_told_by_its_name() {
        let n = Both::new(3_u64, 5);
        assert_eq!((n.with_more(), n.more(), n.apart(), n.shared(), n.most()), (Run::Other, 2, 2, 3, 5));
        let n = Both::new(5_u64, 3);
        assert_eq!((n.with_more(), n.more(), n.apart()), (Run::Recorded, -2, 2));
        assert_eq!(Both::new(4_u64, 4).with_more(), Run::Other);
        assert_eq!(Run::Other.opposite(), Run::Recorded);
    }

    #[test]
    fn what_one_run_has_is_of_that_run() {
        let x = Both::only(Run::Other, 7);
        assert_eq!(x, Both::new(None, Some(7)));
        assert_eq!((x.together(), x.any()), (None, Some(7)));
        assert_eq!(Both::new(Some(1), Some(2)).together(), Some(Both::new(1, 2)));
        let mut order = Vec::new();
        assert_eq!(Both::each(|run| order.push(run)), Both::new((), ()));
        assert_eq!(order, Run::BOTH);
    }
}
