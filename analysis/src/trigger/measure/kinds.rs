//! What a condition measures, and how that is compared.

use super::super::about::About;
use ctrace_format::syscalls::Call;
use ctrace_format::{Metric, Sysno};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Comparison {
    Greater,
    AtLeast,
    Less,
    AtMost,
    Equal,
    Unequal,
}

impl Comparison {
    /// The one that holds where this does not.
    pub(in super::super) const fn negated(self) -> Self {
        match self {
            Self::Greater => Self::AtMost,
            Self::AtLeast => Self::Less,
            Self::Less => Self::AtLeast,
            Self::AtMost => Self::Greater,
            Self::Equal => Self::Unequal,
            Self::Unequal => Self::Equal,
        }
    }
    pub(in super::super) fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Greater => value > limit,
            Self::AtLeast => value >= limit,
            Self::Less => value < limit,
            Self::AtMost => value <= limit,
            Self::Equal => value.total_cmp(&limit).is_eq(),
            Self::Unequal => value.total_cmp(&limit).is_ne(),
        }
    }

    /// Whether it may hold because nothing has been seen yet.
    pub(super) fn is_eager(self) -> bool {
        matches!(self, Self::Less | Self::AtMost | Self::Equal)
    }
}

/// Which calls; empty: all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Calls(pub(in super::super) Vec<Sysno>);

impl Calls {
    pub(super) fn has(&self, sysno: Sysno) -> bool {
        self.0.is_empty() || self.0.contains(&sysno)
    }

    /// Whether attempts to connect are meant.
    pub(in super::super) fn has_connect(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|sysno| Call::of(*sysno) == Call::Connect)
    }
}

/// What a condition is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Measure {
    /// Without an error: what is a failure by [`syscalls::failing`].
    Failed {
        calls: Calls,
        errno: Option<u32>,
    },
    /// Connections that nobody took.
    Refused {
        about: Option<About>,
    },
    Returned {
        calls: Calls,
        about: Option<About>,
    },
    /// In 1/1000; 1000: the longest.
    Quantile {
        calls: Calls,
        permille: u64,
        about: Option<About>,
    },
    Signal {
        signo: u32,
    },
    Retransmits,
    Resets,
    Lost,
    /// The status is compared, not a count.
    Exit,
    /// The same of containers.
    ContainerExit,
    Oom,
    Memory {
        of_limit: bool,
    },
    /// A value as it is now.
    Now(Metric),
    /// Growth in percent of the time; the metric's unit in ns; whether the host's stands in where the scope has none.
    Share {
        metric: Metric,
        unit_ns: u32,
        or_host: bool,
    },
    /// How long nothing has come of the scope.
    Silent,
}
