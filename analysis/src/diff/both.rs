//! A thing of each of the two runs.

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
}

impl<T> Both<T> {
    pub(crate) const fn new(recorded: T, other: T) -> Self {
        Self { recorded, other }
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
}

impl Both<u64> {
    /// How much more the other run has; negative: less.
    pub(crate) fn more(&self) -> i64 {
        self.other.saturating_sub(self.recorded) as i64 - self.recorded.saturating_sub(self.other) as i64
    }
}
