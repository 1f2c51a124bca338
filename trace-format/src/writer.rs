//! Writing a trace.

use crate::{Event, Header, Object, ObjectId, Snapshot, StrId, Summary, TaskDef, TaskId};
use std::io;
use std::path::{Path, PathBuf};

/// Where the bytes of a trace go. Append-only.
pub trait Sink: io::Write + Send {
    /// Makes what was written durable.
    ///
    /// # Errors
    /// As the device reports.
    fn sync(&mut self) -> io::Result<()>;
}

/// Why a trace could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// A finished file.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its final name.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Writes one trace, as a stream: what was pushed reaches the disk chunk by chunk under `NAME.partial`, which
/// [`TraceWriter::finish`] renames to `NAME`.
pub struct TraceWriter {}

impl TraceWriter {
    /// Creates `path.partial` (mode 0600, locked while live).
    ///
    /// # Errors
    /// When the file cannot be created or its header not be written.
    pub fn create(path: &Path, header: &Header) -> Result<Self, WriteError> {
        let _ = (path, header);
        unimplemented!()
    }
    /// Writes to any sink; nothing is renamed.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn over(sink: Box<dyn Sink>, header: &Header) -> Result<Self, WriteError> {
        let _ = (sink, header);
        unimplemented!()
    }
    /// The id of a string, new or known.
    pub fn str(&mut self, bytes: &[u8]) -> StrId {
        let _ = bytes;
        unimplemented!()
    }
    /// The id of a task, new or known.
    pub fn task(&mut self, task: &TaskDef) -> TaskId {
        let _ = task;
        unimplemented!()
    }
    /// The id of an object, new or known.
    pub fn object(&mut self, object: &Object) -> ObjectId {
        let _ = object;
        unimplemented!()
    }
    /// The start snapshot. At most once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn snapshot(&mut self, snapshot: &Snapshot) -> Result<(), WriteError> {
        let _ = snapshot;
        unimplemented!()
    }
    /// Appends an event. Events of a class should come in order of [`Event::end_ns`]; small disorder is kept and
    /// costs bytes, not truth.
    ///
    /// # Errors
    /// When a full chunk cannot be written. The event is not lost by a failed write alone: after making room,
    /// [`TraceWriter::flush`] tries again.
    pub fn push(&mut self, event: &Event) -> Result<(), WriteError> {
        let _ = event;
        unimplemented!()
    }
    /// Closes the open chunks, so that a crash after this loses nothing pushed before it.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        unimplemented!()
    }
    /// Bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        unimplemented!()
    }
    /// Flushes, writes the index, syncs, renames.
    ///
    /// # Errors
    /// When any of it fails; the `.partial` file is then left, and readable up to its last chunk.
    pub fn finish(self, summary: &Summary) -> Result<Finished, WriteError> {
        let _ = summary;
        unimplemented!()
    }
}
