//! One log, or several in the order of their times.

use crate::clock::Clock;
use crate::importer::Importer;
use crate::later::Shown;
use crate::leader::Leader;
use crate::lines::{Line, Lines};
use crate::survey::{Survey, Times};
use crate::told::Told;
use ctrace_format::{TraceWriter, WriteError};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io::{self, BufRead};

/// Why an import ended early.
#[derive(Debug)]
pub enum ImportError {
    /// A log could not be read: which.
    Read(usize, io::Error),
    /// The trace could not be written.
    Write(WriteError),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(_, _) => write!(f, "reading the log"),
            Self::Write(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(_, error) => Some(error),
            Self::Write(error) => error.source(),
        }
    }
}

impl From<WriteError> for ImportError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// A log to be read.
pub struct Log<R> {
    /// Its lines.
    pub from: R,
    /// Its thread, by the name of its file (`strace -ff`).
    pub tid: Option<u32>,
}

/// A log with its next line.
struct Source<R> {
    lines: Lines<R>,
    tid: Option<u32>,
    clock: Clock,
    next: Option<Held>,
    /// The time of its last line, as the log has it.
    key: u64,
}

struct Held {
    number: u64,
    text: Vec<u8>,
    too_long: bool,
    unended: bool,
}

/// Reads logs, and writes what they tell. `shown` hears of each event, `progress` how many lines were read.
///
/// # Errors
/// When a log cannot be read, or the trace not be written.
pub fn import<'s, R: BufRead>(
    survey: &'s Survey,
    logs: Vec<Log<R>>,
    w: &mut TraceWriter,
    shown: &'s mut Shown<'s>,
    progress: &mut dyn FnMut(u64),
) -> Result<Told, ImportError> {
    let mut importer = Importer::new(survey, shown);
    let mut sources: Vec<Source<R>> = logs
        .into_iter()
        .map(|log| Source {
            lines: Lines::new(log.from),
            tid: log.tid,
            clock: Clock::new(survey.start_ns, survey.is_coarse()),
            next: None,
            key: 0,
        })
        .collect();
    let mut count = 0_u64;
    let mut heard = |lines: u64| {
        count += lines;
        if count.is_multiple_of(1 << 14) {
            progress(count);
        }
    };
    if sources.len() == 1 || matches!(survey.times, Times::None | Times::Relative) {
        for (at, source) in by_parent(survey, &mut sources) {
            source.clock.begin_at(importer.began(source.tid));
            let tid = source.tid;
            while let Some(line) = source.lines.next().map_err(|e| ImportError::Read(at, e))? {
                importer.line(w, at, line, tid, &mut source.clock)?;
                heard(1);
            }
        }
        return Ok(importer.finish(w)?);
    }
    let mut order = BinaryHeap::new();
    for (at, source) in sources.iter_mut().enumerate() {
        if source.advance().map_err(|e| ImportError::Read(at, e))? {
            order.push(Reverse((source.key, at)));
        }
    }
    while let Some(Reverse((_, at))) = order.pop() {
        let source = &mut sources[at];
        let Some(held) = source.next.take() else { continue };
        let line =
            Line { number: held.number, text: &held.text, too_long: held.too_long, unended: held.unended };
        importer.line(w, at, line, source.tid, &mut source.clock)?;
        heard(1);
        if source.advance().map_err(|e| ImportError::Read(at, e))? {
            order.push(Reverse((source.key, at)));
        }
    }
    Ok(importer.finish(w)?)
}

/// The logs, that of the first thread in front: children follow those who made them, as far as ids tell.
fn by_parent<'s, R>(survey: &Survey, sources: &'s mut [Source<R>]) -> Vec<(usize, &'s mut Source<R>)> {
    let mut all: Vec<(usize, &mut Source<R>)> = sources.iter_mut().enumerate().collect();
    all.sort_by_key(|(at, source)| (source.tid != Some(survey.main), source.tid, *at));
    all
}

impl<R: BufRead> Source<R> {
    /// Reads the next line. `false`: there is none.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(line) = self.lines.next()? else { return Ok(false) };
        // A line without a time follows the one before it.
        if let Some(crate::leader::Stamp::Epoch(ns) | crate::leader::Stamp::Day(ns)) =
            Leader::read(line.text).stamp
        {
            self.key = ns;
        }
        let Line { number, text, too_long, unended } = line;
        self.next = Some(Held { number, text: text.to_vec(), too_long, unended });
        Ok(true)
    }
}
