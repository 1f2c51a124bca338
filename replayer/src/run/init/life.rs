//! Tells, while a replay runs, that calls are made: for who does not record it.

use super::super::Counters;
use super::super::message::{Up, mention};
use std::os::unix::net::UnixStream;

/// How often it is told.
const EVERY_NS: u64 = 20_000_000;

/// Counts of all that was told.
#[derive(Debug)]
pub(super) struct Life {
    is_asked_for: bool,
    told_ns: u64,
    made: u64,
}

impl Life {
    pub(super) fn new(is_asked_for: bool) -> Self {
        Self { is_asked_for, told_ns: 0, made: 0 }
    }

    /// Tells it, if it is time to and calls were made since.
    pub(super) fn tell(&mut self, now_ns: u64, counters: impl FnOnce() -> Counters, channel: &UnixStream) {
        if !self.is_asked_for || now_ns < self.told_ns + EVERY_NS {
            return;
        }
        let Counters { done, refused, surrogate, missing, extra, .. } = counters();
        let made = done + refused + surrogate + missing + extra;
        if made > self.made {
            mention(channel, &Up::Alive);
        }
        (self.told_ns, self.made) = (now_ns, made);
    }
}
