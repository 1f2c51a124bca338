//! What an import says of itself.

use std::collections::BTreeMap;

/// Lines that are named one by one.
const NAMED: usize = 20;

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Which of the logs, from 0.
    pub log: usize,
    /// The number of the line, from 1.
    pub line: u64,
    /// Why not.
    pub why: &'static str,
}

/// What was read, and what was not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Lines of all logs.
    pub lines: u64,
    /// System calls in the trace.
    pub calls: u64,
    /// Events in the trace, calls included.
    pub events: u64,
    /// Tasks.
    pub tasks: u64,
    /// Lines that tell of something and could not be read: they count as lost.
    pub unread: u64,
    /// The first of them.
    pub first_unread: Vec<Unread>,
    /// How many for which reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Lines that strace did not write: what the program itself printed in between.
    pub foreign: u64,
    /// Calls of which the log has an end and no beginning.
    pub without_begin: u64,
    /// Calls of which the log has a beginning and no end.
    pub without_end: u64,
    /// Children that a call made and of which no line tells.
    pub unseen_children: u64,
    /// Arguments that strace cut short (`-s`).
    pub cut: u64,
    /// Results that strace made (`-e inject`).
    pub injected: u64,
    /// How often the clock of the log was put back.
    pub clock_steps: u64,
    /// How the command ended that the log begins with, as wait(2) tells it.
    pub status: Option<i32>,
    /// Length of the trace, ns.
    pub duration_ns: u64,
}

impl Told {
    pub(crate) fn unread(&mut self, log: usize, line: u64, why: &'static str) {
        self.unread += 1;
        *self.reasons.entry(why).or_default() += 1;
        if self.first_unread.len() < NAMED {
            self.first_unread.push(Unread { log, line, why });
        }
    }
}
