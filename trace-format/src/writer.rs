//! Writing a trace.
//!
//! Events collect in one table per class; a full table becomes a chunk, preceded by the dictionary entries it needs.
//! Encoded bytes wait in a buffer until the sink took them, so that a failed write loses nothing that fits it.

mod chunks;
mod names;
mod output;
mod window;

pub(crate) use chunks::Lists;
pub use output::Sink;

use crate::codec::{self, CLASSES, Encoder};
use crate::compress::Compressor;
use crate::dictionary::Interner;
use crate::index::{Index, IndexEntry};
use crate::layout::{self, MAX_DECODED, Preamble, flag, kind};
use crate::partial::PartialFile;
use crate::redact::{Gate, Policy};
use crate::ring::Ring;
use crate::{
    Class, ClockAnchor, Container, Event, Header, Loss, LossCause, Snapshot, Summary, metadata, schema,
};
use chunks::ClassState;
use output::Output;
use std::io;
use std::path::{Path, PathBuf};

/// Why a trace could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file system refused. What was pushed is kept in memory; [`TraceWriter::flush`] tries again.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another ctrace is writing this file.
    #[error("{} is being written by another ctrace; choose another name or end that recording first", path.display())]
    Busy {
        /// Which file.
        path: PathBuf,
    },
    /// The sink has refused bytes for so long that no more are kept. The event was dropped and counted: a
    /// [`Loss`] with [`LossCause::WriteFailed`] follows as soon as the sink takes bytes again.
    #[error("{}: {waiting} bytes wait to be written; the event was dropped and counted as lost", path.display())]
    Backlog {
        /// Which file.
        path: PathBuf,
        /// Bytes that wait.
        waiting: usize,
    },
    /// The event alone is larger than a chunk may be. It was dropped and counted as lost.
    #[error("a {class:?} event is larger than a chunk may be; it was dropped and counted as lost")]
    TooLarge {
        /// Its class.
        class: Class,
    },
    /// The event refers to a dictionary entry that [`TraceWriter::sweep`] dropped: its holder did not name it. The event
    /// was dropped and counted as lost.
    #[error(
        "a {class:?} event refers to a dictionary entry that was dropped; it was dropped and counted as lost"
    )]
    Forgotten {
        /// Its class.
        class: Class,
    },
    /// The header's tick is 0, or a metadata structure is larger than a trace may hold.
    #[error("the {what} cannot be written: {why}")]
    Invalid {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
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

/// How to write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOptions {
    /// zstd level, 1 to 19; 0 stores chunks uncompressed.
    pub level: i32,
    /// Events after which a chunk is closed, at most 65,536.
    pub chunk_events: u32,
    /// Event bytes on disk after which the dictionaries are repeated.
    pub keyframe_bytes: u64,
    /// What is redacted before anything is encoded. `None`: nothing, because what comes was redacted before, as its
    /// header says; for copies.
    pub redact: Option<Policy>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            level: 3,
            chunk_events: layout::MAX_EVENTS,
            keyframe_bytes: 8 << 20,
            redact: Some(Policy::Default),
        }
    }
}

/// Writes one trace, as a stream: what was pushed reaches the disk chunk by chunk under `NAME.partial`, which
/// [`TraceWriter::finish`] renames to `NAME`.
///
/// A writer that is dropped without `finish` leaves a readable `NAME.partial`.
pub struct TraceWriter {
    out: Output,
    file: Option<PartialFile>,
    options: WriteOptions,
    encoder: Encoder,
    classes: [ClassState; CLASSES.len()],
    dictionary: Interner,
    /// Everything that names something passes here.
    gate: Gate,
    compressor: Compressor,
    payload: Vec<u8>,
    /// Where the columns of the payload begin that are large enough for blocks of their own.
    cuts: Vec<usize>,
    frame: Vec<u8>,
    entries: Vec<IndexEntry>,
    sequence: u32,
    anchor: ClockAnchor,
    lost: u64,
    last_ns: u64,
    has_snapshot: bool,
    /// The encoded containers, repeated with every keyframe; empty: there are none.
    containers: Vec<u8>,
    /// Stored bytes of event chunks since the last keyframe.
    since_keyframe: u64,
    /// The encoded header, repeated with every keyframe.
    header: Vec<u8>,
    trace_id: u32,
    tick_ns: u32,
    /// Where chunks go instead of a file.
    ring: Option<Box<Ring>>,
    /// Ids that chunks of another writer were given.
    appended_ids: [u32; 3],
}

impl TraceWriter {
    /// Creates `path.partial` (mode 0600, locked while live). A `.partial` that a dead recorder left is moved aside,
    /// to `path.partial.1` and so on.
    ///
    /// # Errors
    /// When the file cannot be created or its header not be written, or another writer is at it.
    pub fn create(path: &Path, header: &Header) -> Result<Self, WriteError> {
        Self::create_with(path, header, WriteOptions::default())
    }

    /// As [`TraceWriter::create`], with options.
    ///
    /// # Errors
    /// As [`TraceWriter::create`].
    pub fn create_with(path: &Path, header: &Header, options: WriteOptions) -> Result<Self, WriteError> {
        check_header(header)?;
        let file = PartialFile::create(path)?;
        let sink = Box::new(file.sink()?);
        let name = file.partial_path().to_path_buf();
        Self::start(sink, name, Some(file), header, options)
    }

    /// Writes to any sink; nothing is renamed.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn over(sink: Box<dyn Sink>, header: &Header) -> Result<Self, WriteError> {
        Self::over_with(sink, header, WriteOptions::default())
    }

    /// As [`TraceWriter::over`], with options.
    ///
    /// # Errors
    /// As [`TraceWriter::over`].
    pub fn over_with(
        sink: Box<dyn Sink>,
        header: &Header,
        options: WriteOptions,
    ) -> Result<Self, WriteError> {
        check_header(header)?;
        Self::start(sink, PathBuf::from("trace"), None, header, options)
    }

    fn start(
        sink: Box<dyn Sink>,
        path: PathBuf,
        file: Option<PartialFile>,
        header: &Header,
        options: WriteOptions,
    ) -> Result<Self, WriteError> {
        let gate = gate(options.redact, &path)?;
        Self::start_gated(sink, path, file, header, options, gate)
    }

    /// As [`TraceWriter::create`], behind a gate that is there already.
    pub(crate) fn create_gated(path: &Path, header: &Header, gate: Gate) -> Result<Self, WriteError> {
        check_header(header)?;
        let file = PartialFile::create(path)?;
        let sink = Box::new(file.sink()?);
        let name = file.partial_path().to_path_buf();
        Self::start_gated(sink, name, Some(file), header, WriteOptions::default(), gate)
    }

    /// As [`TraceWriter::over`], behind a gate that is there already.
    pub(crate) fn over_gated(sink: Box<dyn Sink>, header: &Header, gate: Gate) -> Result<Self, WriteError> {
        check_header(header)?;
        Self::start_gated(sink, PathBuf::from("trace"), None, header, WriteOptions::default(), gate)
    }

    fn start_gated(
        sink: Box<dyn Sink>,
        path: PathBuf,
        file: Option<PartialFile>,
        header: &Header,
        options: WriteOptions,
        gate: Gate,
    ) -> Result<Self, WriteError> {
        let mut writer = Self::prepare(sink, path, file, header, options, gate)?;
        let preamble = Preamble { version: layout::VERSION, required: 0, optional: 0 };
        writer.out.queue().extend_from_slice(&preamble.encode());
        writer.queue_header(0);
        writer.queue_metadata(kind::SCHEMA, "schema", schema::schema().as_slice())?;
        writer.out.drain()?;
        Ok(writer)
    }

    fn prepare(
        sink: Box<dyn Sink>,
        path: PathBuf,
        file: Option<PartialFile>,
        header: &Header,
        options: WriteOptions,
        mut gate: Gate,
    ) -> Result<Self, WriteError> {
        let compressor = Compressor::new(options.level).map_err(|source| WriteError::Io {
            action: "preparing zstd for",
            path: path.clone(),
            source,
        })?;
        let mut encoded = Vec::new();
        metadata::encode(&gate.header(header), &mut encoded)
            .map_err(|_| WriteError::Invalid { what: "header", why: "it does not encode" })?;
        if encoded.len() > MAX_DECODED {
            return Err(WriteError::Invalid { what: "header", why: "it is larger than 4 MiB" });
        }
        Ok(Self {
            out: Output::new(sink, path),
            file,
            options,
            encoder: Encoder::new(header.tick_ns),
            classes: std::array::from_fn(|_| ClassState::new()),
            dictionary: Interner::new(),
            gate,
            compressor,
            payload: Vec::new(),
            cuts: Vec::new(),
            frame: Vec::new(),
            entries: Vec::new(),
            sequence: 0,
            anchor: ClockAnchor { t_ns: 0, monotonic_ns: 0, realtime_ns: 0 },
            lost: 0,
            last_ns: 0,
            has_snapshot: false,
            containers: Vec::new(),
            since_keyframe: 0,
            trace_id: crc32c::crc32c(&encoded),
            header: encoded,
            tick_ns: header.tick_ns,
            ring: None,
            appended_ids: [0; 3],
        })
    }

    /// The start snapshot. At most once: a further one is refused.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn snapshot(&mut self, snapshot: &Snapshot) -> Result<(), WriteError> {
        if self.has_snapshot {
            return Err(WriteError::Invalid { what: "snapshot", why: "the trace has one already" });
        }
        let snapshot = self.gate.snapshot(snapshot);
        self.queue_metadata(kind::SNAPSHOT, "snapshot", &snapshot)?;
        self.has_snapshot = true;
        self.out.drain()
    }

    /// The containers of the scope, all that were met so far: at the start, and whenever there is one more or less.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn containers(&mut self, containers: &[Container]) -> Result<(), WriteError> {
        let what = "list of containers";
        let mut encoded = Vec::new();
        metadata::encode(&self.gate.containers(containers), &mut encoded)
            .map_err(|_| WriteError::Invalid { what, why: "it does not encode" })?;
        if encoded.len() > MAX_DECODED {
            return Err(WriteError::Invalid { what, why: "it is larger than 4 MiB" });
        }
        self.set_containers(encoded)
    }

    /// The encoded list of containers. A ring keeps the last one, for its dumps.
    pub(crate) fn set_containers(&mut self, encoded: Vec<u8>) -> Result<(), WriteError> {
        self.containers = encoded;
        if self.ring.is_none() {
            self.queue_containers(0);
        }
        self.out.drain()
    }

    /// As [`Self::set_containers`] was given it; empty: there are none.
    pub(crate) fn encoded_containers(&self) -> &[u8] {
        &self.containers
    }

    /// Appends an event. Events of a class should come in order of [`Event::end_ns`]; small disorder is kept and
    /// costs bytes, not truth. Arguments of a call that are not in its mask are not kept.
    ///
    /// # Errors
    /// When a full chunk cannot be written. The event is not lost by a failed write alone: after making room,
    /// [`TraceWriter::flush`] tries again. It is lost, and counted, with [`WriteError::Backlog`] and
    /// [`WriteError::TooLarge`].
    pub fn push(&mut self, event: &Event) -> Result<(), WriteError> {
        let event = &*self.gate.event(event);
        let class = event.class();
        let at = slot_of(class);
        self.last_ns = self.last_ns.max(event.end_ns());
        let Some(size) = codec::size(event) else {
            self.drop_event(at);
            return Err(WriteError::TooLarge { class });
        };
        if self.ring.as_ref().is_some_and(|ring| !ring.knows(event)) {
            self.drop_event(at);
            return Err(WriteError::Forgotten { class });
        }
        let mut written = Ok(());
        if !self.classes[at].has_room(&size, self.options.chunk_events) {
            if let Err(backlog) = self.out.make_room() {
                self.drop_event(at);
                return Err(backlog);
            }
            self.close(class)?;
            written = self.out.drain();
        }
        self.add(event);
        written
    }

    fn drop_event(&mut self, at: usize) {
        self.classes[at].dropped += 1;
    }

    /// Adds to the open chunk of its class, which has room.
    fn add(&mut self, event: &Event) {
        match event {
            Event::Anchor(anchor) => self.anchor = *anchor,
            Event::Loss(loss) => {
                self.lost = self.lost.saturating_add(loss.count);
                let lost = &mut self.classes[slot_of(loss.class)].lost;
                *lost = lost.saturating_add(loss.count);
            }
            _ => {}
        }
        if let Some(ring) = &mut self.ring {
            ring.note(event);
        }
        self.classes[slot_of(event.class())].add(event, &mut self.encoder);
    }

    /// Closes the open chunks, so that a crash after this loses nothing pushed before it.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        // First what waits: only then is there room for more.
        self.out.drain()?;
        for class in CLASSES {
            let count = std::mem::take(&mut self.classes[slot_of(class)].dropped);
            if count > 0 {
                let (t_ns, cause) = (self.last_ns, LossCause::WriteFailed);
                let loss = Loss { t_ns, from_ns: t_ns, cpu: u32::MAX, class, cause, count };
                self.push(&Event::Loss(loss))?;
            }
        }
        for class in CLASSES {
            self.close(class)?;
        }
        self.out.drain()
    }

    /// Bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        self.out.written()
    }

    /// Flushes, writes the index, syncs, renames.
    ///
    /// # Errors
    /// When any of it fails; the `.partial` file is then left, and readable up to its last chunk.
    pub fn finish(mut self, summary: &Summary) -> Result<Finished, WriteError> {
        self.flush()?;
        // A second copy at the other end of the file.
        self.queue_header(flag::KEYFRAME);
        let summary = self.gate.summary(summary);
        self.queue_metadata(kind::SUMMARY, "summary", &summary)?;
        self.out.drain()?;
        let index_offset = self.out.end();
        let index =
            Index { sha256: self.out.sha256(), lost: self.lost, entries: std::mem::take(&mut self.entries) };
        self.queue_metadata(kind::INDEX, "index", &index)?;
        let bytes = self.out.end() + layout::TRAILER_LEN as u64;
        self.out.queue().extend_from_slice(&layout::encode_trailer(index_offset, bytes));
        self.out.drain()?;
        self.out.sync()?;
        let path = match self.file {
            Some(file) => file.publish()?,
            None => self.out.into_path(),
        };
        Ok(Finished { path, bytes })
    }

    /// Length of a tick, ns.
    pub fn tick_ns(&self) -> u32 {
        self.tick_ns
    }
}

fn gate(policy: Option<Policy>, path: &Path) -> Result<Gate, WriteError> {
    let Some(policy) = policy else { return Ok(Gate::open()) };
    Gate::new(policy).map_err(|e| WriteError::Io {
        action: "making a key for",
        path: path.into(),
        source: io::Error::other(e),
    })
}

fn check_header(header: &Header) -> Result<(), WriteError> {
    if header.tick_ns == 0 {
        return Err(WriteError::Invalid { what: "header", why: "its tick is 0 ns" });
    }
    Ok(())
}

/// Position in [`CLASSES`] of the class whose events a kind of chunk holds.
pub(crate) fn slot_of_kind(kind: u16) -> Option<usize> {
    let class = kind.checked_sub(kind::EVENTS)?;
    CLASSES.iter().position(|c| *c as u16 == class)
}

/// Position of a class in [`CLASSES`].
pub(crate) fn slot_of(class: Class) -> usize {
    CLASSES.iter().position(|c| *c == class).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_at_its_slot() {
        for (at, class) in CLASSES.into_iter().enumerate() {
            assert_eq!(slot_of(class), at);
        }
    }
}
