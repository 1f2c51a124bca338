//! Reading a trace.

use crate::{Class, Event, Header, Object, ObjectId, Snapshot, StrId, Summary, TaskDef, TaskId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why a trace, or a part of it, could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file system refused.
    #[error("reading {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Whether a file was finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Finished: it has its footer.
    Complete,
    /// Its writer is still running.
    Live,
    /// Its writer died, or the file was cut.
    Torn,
}

/// A part of a file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes were skipped.
    pub bytes: u64,
    /// What is wrong, for a person.
    pub what: String,
}

/// Which events to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only these classes; empty: all.
    pub classes: Vec<Class>,
    /// Only events that overlap this time, ns since the start of the trace.
    pub from_ns: Option<u64>,
    /// See `from_ns`.
    pub to_ns: Option<u64>,
}

/// An open trace: header, snapshot, dictionaries and counts in memory, events streamed.
pub struct Trace {}

impl Trace {
    /// Opens a finished, live or torn file. Intact parts of a damaged file can be read, see [`Trace::damage`].
    ///
    /// # Errors
    /// When it is no trace, is of a newer version, or its header is damaged.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let _ = path;
        unimplemented!()
    }
    /// What the trace says about itself.
    pub fn header(&self) -> &Header {
        unimplemented!()
    }
    /// The state at the start; empty when the trace has none.
    pub fn snapshot(&self) -> &Snapshot {
        unimplemented!()
    }
    /// The recorder's summary, in a finished file.
    pub fn summary(&self) -> Option<&Summary> {
        unimplemented!()
    }
    /// Whether it was finished.
    pub fn state(&self) -> State {
        unimplemented!()
    }
    /// What could not be read.
    pub fn damage(&self) -> &[Damage] {
        unimplemented!()
    }
    /// Number of events by class, without reading them.
    pub fn counts(&self) -> &BTreeMap<Class, u64> {
        unimplemented!()
    }
    /// Time of the last event's end, ns since the start of the trace.
    pub fn end_ns(&self) -> u64 {
        unimplemented!()
    }
    /// Length of the file, bytes.
    pub fn file_bytes(&self) -> u64 {
        unimplemented!()
    }
    /// Length of all chunks decoded, bytes.
    pub fn decoded_bytes(&self) -> u64 {
        unimplemented!()
    }
    /// A string of the dictionary; empty for an id that is not in it.
    pub fn str(&self, id: StrId) -> &[u8] {
        let _ = id;
        unimplemented!()
    }
    /// A task of the dictionary. Events never carry an id that is not in it (the reader checks).
    pub fn task(&self, id: TaskId) -> &TaskDef {
        let _ = id;
        unimplemented!()
    }
    /// An object of the dictionary. Events never carry an id that is not in it (the reader checks).
    pub fn object(&self, id: ObjectId) -> &Object {
        let _ = id;
        unimplemented!()
    }
    /// All tasks, in id order.
    pub fn tasks(&self) -> &[TaskDef] {
        unimplemented!()
    }
    /// All objects, in id order.
    pub fn objects(&self) -> &[Object] {
        unimplemented!()
    }
    /// Streams the events that match, in order of [`Event::end_ns`]. Memory is O(chunk). A damaged chunk was
    /// reported by [`Trace::damage`] or is an `Err` item; events after it follow.
    pub fn events(&self, filter: &Filter) -> Events<'_> {
        let _ = filter;
        unimplemented!()
    }
}

/// See [`Trace::events`].
pub struct Events<'a> {
    _trace: &'a Trace,
}

impl Iterator for Events<'_> {
    type Item = Result<Event, ReadError>;
    fn next(&mut self) -> Option<Self::Item> {
        unimplemented!()
    }
}
