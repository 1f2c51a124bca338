//! Reasons why a file tells little.

use super::Lost;
use ctrace_format::{Class, Damage, State, Trace};

/// A reason for which a trace tells less than a recording does: that nothing stands out in it says little then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doubt {
    /// No event of the workload is in the file.
    Empty,
    /// The file was cut, or its recorder died: nothing is known of what came later.
    Cut {
        /// The last that is known, ns since the start.
        after_ns: u64,
    },
    /// Parts of the file cannot be read.
    Damaged {
        /// How many.
        parts: u64,
        /// Events that were in them, as far as that is known.
        events: u64,
    },
    /// Events could not be written.
    Unwritten {
        /// From when on, ns since the start.
        from_ns: u64,
        /// How many.
        events: u64,
    },
}

impl Doubt {
    /// Its name, as JSON output has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Cut { .. } => "cut",
            Self::Damaged { .. } => "damaged",
            Self::Unwritten { .. } => "unwritten",
        }
    }
}

pub(super) fn of(trace: &Trace, lost: &Lost, unread: u64) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    if trace.counts().iter().all(|(class, n)| *n == 0 || !is_of_workload(*class)) {
        doubts.push(Doubt::Empty);
    }
    if trace.state() == State::Torn {
        doubts.push(Doubt::Cut { after_ns: trace.end_ns() });
    }
    // The end of a torn file was told above.
    let is_end = |d: &Damage| {
        trace.state() == State::Torn
            && d.lost.is_none()
            && d.offset.saturating_add(d.bytes) >= trace.file_bytes()
    };
    let damage: Vec<&Damage> = trace.damage().iter().filter(|d| !is_end(d)).collect();
    if !damage.is_empty() {
        let events = damage.iter().filter_map(|d| d.lost).map(|lost| lost.count).sum();
        doubts.push(Doubt::Damaged { parts: damage.len() as u64, events });
    }
    if let Some((from_ns, events)) = lost.cut {
        doubts.push(Doubt::Unwritten { from_ns, events });
    }
    with_unread(doubts, unread)
}

/// The same, where so many parts could not be read besides.
pub(super) fn with_unread(mut doubts: Vec<Doubt>, unread: u64) -> Vec<Doubt> {
    if unread == 0 {
        return doubts;
    }
    for doubt in &mut doubts {
        if let Doubt::Damaged { parts, .. } = doubt {
            *parts += unread;
            return doubts;
        }
    }
    doubts.push(Doubt::Damaged { parts: unread, events: 0 });
    doubts
}

/// Whether events of a class are what the workload did; the others are samples of it, and the recorder's own.
const fn is_of_workload(class: Class) -> bool {
    matches!(
        class,
        Class::Syscall
            | Class::Process
            | Class::Connection
            | Class::Signal
            | Class::Dns
            | Class::Block
            | Class::Uring
            | Class::Injection
            | Class::Aggregate
    )
}
