//! What a trace that was made of another tool's log lacks, so that commands know what they cannot say of it.

use crate::Header;

/// Something that a trace lacks as a whole. The header's list of blind spots has it by its name, with the reason behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Lack {
    /// The program was stopped at each call to be looked at: it was slower than it is.
    Pace,
    /// When calls were made.
    Times,
    /// How long calls took.
    Durations,
    /// In which order calls of different tasks were made.
    Order,
    /// What the children did.
    Children,
    /// Calls that were left out.
    Calls,
    /// Names and structures that arguments point to.
    Arguments,
}

impl Lack {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Pace, Self::Times, Self::Durations, Self::Order, Self::Children, Self::Calls, Self::Arguments];

    /// Its name in the list of blind spots.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pace => "pace",
            Self::Times => "times",
            Self::Durations => "durations",
            Self::Order => "order",
            Self::Children => "children",
            Self::Calls => "calls",
            Self::Arguments => "arguments",
        }
    }

    /// As the list of blind spots has it.
    pub fn because(self, why: &str) -> String {
        format!("{}: {why}", self.name())
    }

    /// What a trace lacks.
    pub fn of(header: &Header) -> Vec<Self> {
        let names = |lack: Self| {
            header
                .blind
                .iter()
                .any(|blind| blind.split_once(": ").is_some_and(|(name, _)| name == lack.name()))
        };
        Self::ALL.into_iter().filter(|lack| names(*lack)).collect()
    }
}
