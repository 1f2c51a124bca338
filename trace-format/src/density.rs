//! How much a file may hold for its size.
//!
//! Columns and zstd make little of what repeats, and a file made for that can hold millions of events in a few KB: every
//! command that looks at each of them would take hours. A recording cannot: times vary, if by nothing else then by
//! interrupts and caches. Measured: a loop in C that calls `getppid` two million times, the densest that there is, has 11
//! events a byte; a copy by single bytes has 6, a web server less than 1.

use crate::{Detail, Event, ProcessKind, ReadError, Trace};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Events for every byte of the file, and events that any file may have.
const EVENTS_PER_BYTE: u64 = 32;
const EVENTS_FREE: u64 = 1 << 18;
/// Elements of lists (polled descriptors, words of arguments) for every byte of the file; a recorded list has at most 64.
const ELEMENTS_PER_BYTE: u64 = 512;
const ELEMENTS_FREE: u64 = 1 << 22;
/// Bytes of strings that a copy reads anew for every event, for every byte of the file.
const TEXT_PER_BYTE: u64 = 1024;
const TEXT_FREE: u64 = 64 << 20;

static ALLOWED: AtomicBool = AtomicBool::new(false);

/// Lets this process read files that are denser than any recording.
pub fn allow_dense() {
    ALLOWED.store(true, Relaxed);
}

/// Counts what was read of a file, and says when that is more than a file of its size can hold.
pub(crate) struct Density {
    file_bytes: u64,
    elements: u64,
    text: u64,
}

impl Density {
    pub(crate) fn of(trace: &Trace) -> Self {
        Self { file_bytes: trace.file_bytes(), elements: 0, text: 0 }
    }

    fn check(&self, trace: &Trace, what: &'static str, count: u64, most: u64) -> Result<(), ReadError> {
        if count <= most || ALLOWED.load(Relaxed) {
            return Ok(());
        }
        Err(ReadError::TooDense { path: trace.path().into(), what, count, most, bytes: self.file_bytes })
    }

    /// The events that the index tells of, before any is read.
    pub(crate) fn events(&self, trace: &Trace) -> Result<(), ReadError> {
        let count = trace.counts().values().sum();
        let most = self.file_bytes.saturating_mul(EVENTS_PER_BYTE).saturating_add(EVENTS_FREE);
        self.check(trace, "events", count, most)
    }

    /// The lists of an event.
    pub(crate) fn elements(&mut self, trace: &Trace, event: &Event) -> Result<(), ReadError> {
        let elements = elements(event);
        if elements == 0 {
            return Ok(());
        }
        self.elements = self.elements.saturating_add(elements as u64);
        let most = self.file_bytes.saturating_mul(ELEMENTS_PER_BYTE).saturating_add(ELEMENTS_FREE);
        self.check(trace, "list elements", self.elements, most)
    }

    /// Strings that are looked at for each event anew.
    pub(crate) fn text(&mut self, trace: &Trace, bytes: usize) -> Result<(), ReadError> {
        self.text = self.text.saturating_add(bytes as u64);
        let most = self.file_bytes.saturating_mul(TEXT_PER_BYTE).saturating_add(TEXT_FREE);
        self.check(trace, "bytes of text", self.text, most)
    }
}

/// Elements of the lists of an event.
pub(crate) fn elements(event: &Event) -> usize {
    match event {
        Event::Syscall(call) => call
            .details
            .iter()
            .map(|detail| match detail {
                Detail::Poll { entries, .. } => entries.len(),
                Detail::Epoll { entries, .. } => entries.len(),
                Detail::Argv { words, .. } => words.len(),
                _ => 0,
            })
            .sum(),
        Event::Process(process) => match &process.kind {
            ProcessKind::Exec { argv, .. } => argv.len(),
            _ => 0,
        },
        Event::Aggregate(aggregate) => aggregate.histogram.len(),
        _ => 0,
    }
}
