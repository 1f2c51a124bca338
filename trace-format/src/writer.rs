//! Writing a trace.
//!
//! Events collect in one table per class; a full table becomes a chunk, preceded by the dictionary entries it needs.
//! Encoded bytes wait in a buffer until the sink took them, so that a failed write loses nothing that fits it.

use crate::codec::{self, CLASSES, Encoder};
use crate::columns::TableBuilder;
use crate::compress::Compressor;
use crate::dictionary::{self, Ids, Interner};
use crate::index::{self, Index, IndexEntry};
use crate::layout::{self, ChunkHeader, HEADER_LEN, MAX_DECODED, MAX_RATIO, Preamble, flag, kind};
use crate::partial::PartialFile;
use crate::redact::{Gate, Policy, Text};
use crate::ring::{Ring, RingOptions, Stored};
use crate::{
    Class, ClockAnchor, Container, Event, Header, Loss, LossCause, Object, ObjectId, Snapshot, StrId,
    Summary, TaskDef, TaskId, Window, metadata, schema,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
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

/// Which entries of the dictionaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entries {
    /// Those that were not written yet.
    Pending,
    /// Those that were written and are not forgotten.
    All,
}

/// For the index: the packed tasks and cookies of a chunk.
pub(crate) type Lists = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Of a writer whose chunks stay in memory.
struct NoSink;

impl io::Write for NoSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for NoSink {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Encoded bytes that may wait for a sink that refuses them.
const MAX_WAITING: usize = 16 << 20;
/// Keyframes take at most one byte for this many of event chunks.
const KEYFRAME_SHARE: u64 = 16;

/// The open chunk of a class.
struct ClassState {
    table: TableBuilder,
    min_start: u64,
    min_end: u64,
    max_end: u64,
    disorder: u64,
    /// Lost events of the class so far.
    lost: u64,
    /// Events dropped since the last [`Loss`] that says so.
    dropped: u64,
}

impl ClassState {
    fn new() -> Self {
        let table = TableBuilder::new();
        Self { table, min_start: u64::MAX, min_end: u64::MAX, max_end: 0, disorder: 0, lost: 0, dropped: 0 }
    }
    fn clear(&mut self) {
        self.table.clear();
        self.min_start = u64::MAX;
        self.min_end = u64::MAX;
        self.max_end = 0;
        self.disorder = 0;
    }
}

/// Bytes on their way to the sink.
struct Output {
    sink: Box<dyn Sink>,
    path: PathBuf,
    waiting: Vec<u8>,
    /// Bytes at the start of `waiting` that the sink took.
    taken: usize,
    written: u64,
    sha256: Sha256,
}

impl Output {
    /// Offset of the next byte to be queued.
    fn end(&self) -> u64 {
        self.written + (self.waiting.len() - self.taken) as u64
    }

    /// Gives the sink what waits. After an error, what it did not take still waits.
    fn drain(&mut self) -> Result<(), WriteError> {
        while self.taken < self.waiting.len() {
            let refused = match self.sink.write(&self.waiting[self.taken..]) {
                Ok(0) => io::Error::from(io::ErrorKind::WriteZero),
                Ok(n) => {
                    self.sha256.update(&self.waiting[self.taken..self.taken + n]);
                    self.taken += n;
                    self.written += n as u64;
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => e,
            };
            self.waiting.drain(..self.taken);
            self.taken = 0;
            return Err(WriteError::Io { action: "writing", path: self.path.clone(), source: refused });
        }
        self.waiting.clear();
        self.taken = 0;
        Ok(())
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
        writer.out.waiting.extend_from_slice(&preamble.encode());
        writer.queue_header(0);
        writer.queue_metadata(kind::SCHEMA, "schema", schema::schema().as_slice())?;
        writer.out.drain()?;
        Ok(writer)
    }

    pub(crate) fn start_ring(header: &Header, options: RingOptions) -> Result<Self, WriteError> {
        check_header(header)?;
        let (level, chunk_events) = (options.level, options.chunk_events.clamp(1, layout::MAX_EVENTS));
        let redact = options.redact;
        let write = WriteOptions { level, chunk_events, keyframe_bytes: u64::MAX, redact };
        let path = PathBuf::from("the window");
        let gate = gate(redact, &path)?;
        let mut writer = Self::prepare(Box::new(NoSink), path, None, header, write, gate)?;
        writer.dictionary = Interner::endless();
        writer.ring = Some(Box::new(Ring::new(options, header.tick_ns)));
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
            out: Output { sink, path, waiting: Vec::new(), taken: 0, written: 0, sha256: Sha256::new() },
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

    /// The id of a string, new or known: a path, a name, a word, a remark. Only the first MiB of a longer one is kept.
    pub fn str(&mut self, bytes: &[u8]) -> StrId {
        self.text(Text::Any, bytes)
    }
    /// The id of the name of a task.
    pub fn comm(&mut self, bytes: &[u8]) -> StrId {
        self.text(Text::Comm, bytes)
    }
    /// The id of a host name.
    pub fn host(&mut self, bytes: &[u8]) -> StrId {
        self.text(Text::Host, bytes)
    }
    /// The id of a name that the kernel gives to all things of a kind (`eventfd`, `CAP_NET_ADMIN`). No policy hides
    /// it, so it must not be anybody's choice.
    pub fn kernel_name(&mut self, bytes: &[u8]) -> StrId {
        self.text(Text::Kernel, bytes)
    }
    /// The ids of the words of an argument vector. Whether a word is a secret depends on the one in front of it.
    pub fn argv(&mut self, mut words: Vec<Vec<u8>>) -> Vec<StrId> {
        self.gate.argv(&mut words);
        words.iter().map(|word| self.intern(word)).collect()
    }

    fn text(&mut self, text: Text, bytes: &[u8]) -> StrId {
        if self.gate.is_open() {
            return self.intern(bytes);
        }
        if self.gate.keeps_what_it_let_through()
            && let Some(id) = self.dictionary.known_str(bytes)
        {
            self.given(0, id);
            return StrId(id);
        }
        let bytes = self.gate.text(text, bytes);
        self.intern(&bytes)
    }

    /// The id of a string that came through the gate.
    fn intern(&mut self, bytes: &[u8]) -> StrId {
        let id = self.dictionary.str(bytes);
        self.given(0, id);
        StrId(id)
    }

    /// The id of a task, new or known. Its name is an id from [`TraceWriter::comm`].
    pub fn task(&mut self, task: &TaskDef) -> TaskId {
        let id = self.dictionary.task(task);
        self.given(1, id);
        TaskId(id)
    }
    /// The id of an object, new or known.
    pub fn object(&mut self, object: &Object) -> ObjectId {
        let object = self.gate.object(object);
        let id = self.dictionary.object(&object);
        self.given(2, id);
        ObjectId(id)
    }

    fn given(&mut self, kind: usize, id: u32) {
        if let Some(ring) = &mut self.ring {
            ring.given(kind, id);
        }
    }

    /// How often each rule of the redaction was applied so far. [`TraceWriter::finish`] writes it.
    pub fn redacted(&self) -> BTreeMap<String, u64> {
        self.gate.counts()
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
        let state = &self.classes[at];
        if state.table.rows() >= self.options.chunk_events || state.table.is_full(&size) {
            if self.out.waiting.len() - self.out.taken > MAX_WAITING && self.out.drain().is_err() {
                self.drop_event(at);
                let (path, waiting) = (self.out.path.clone(), self.out.waiting.len());
                return Err(WriteError::Backlog { path, waiting });
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
        let state = &mut self.classes[slot_of(event.class())];
        let times = self.encoder.add(event, &mut state.table);
        state.disorder = state.disorder.max(state.max_end.saturating_sub(times.end));
        state.min_start = state.min_start.min(times.start);
        state.min_end = state.min_end.min(times.end);
        state.max_end = state.max_end.max(times.end);
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
        self.out.written
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
        let index = Index {
            sha256: self.out.sha256.clone().finalize().into(),
            lost: self.lost,
            entries: std::mem::take(&mut self.entries),
        };
        self.queue_metadata(kind::INDEX, "index", &index)?;
        let bytes = self.out.end() + layout::TRAILER_LEN as u64;
        self.out.waiting.extend_from_slice(&layout::encode_trailer(index_offset, bytes));
        self.out.drain()?;
        let failed = |action, path: &Path, source| WriteError::Io { action, path: path.into(), source };
        self.out.sink.flush().map_err(|e| failed("writing", &self.out.path, e))?;
        self.out.sink.sync().map_err(|e| failed("syncing", &self.out.path, e))?;
        let path = match self.file {
            Some(file) => file.publish()?,
            None => self.out.path,
        };
        Ok(Finished { path, bytes })
    }

    fn queue_header(&mut self, flags: u32) {
        let header = std::mem::take(&mut self.header);
        let chunk = ChunkHeader { kind: kind::HEADER, flags, records: 1, ..Default::default() };
        self.queue_chunk(chunk, &header, &[]);
        self.header = header;
    }

    fn queue_containers(&mut self, flags: u32) {
        let containers = std::mem::take(&mut self.containers);
        if !containers.is_empty() {
            let chunk = ChunkHeader { kind: kind::CONTAINERS, flags, records: 1, ..Default::default() };
            self.queue_chunk(chunk, &containers, &[]);
        }
        self.containers = containers;
    }

    /// Turns the open table of a class into a chunk, behind the dictionary entries it needs.
    fn close(&mut self, class: Class) -> Result<(), WriteError> {
        let at = slot_of(class);
        if self.classes[at].table.rows() == 0 {
            return Ok(());
        }
        self.queue_dictionaries()?;
        let state = &mut self.classes[at];
        let relation = if class == Class::Syscall { codec::syscall_relation } else { codec::no_relation };
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        let mut cuts = std::mem::take(&mut self.cuts);
        cuts.clear();
        state.table.encode(relation, &mut payload, &mut cuts);
        let header = ChunkHeader {
            kind: kind::EVENTS + class as u16,
            records: state.table.rows(),
            min_start: state.min_start,
            min_end: state.min_end,
            max_end: state.max_end,
            lost_class: state.lost,
            disorder: state.disorder,
            ..ChunkHeader::default()
        };
        let mut tasks = state.table.distinct_tasks();
        if matches!(class, Class::Connection | Class::Socket | Class::Aggregate) {
            // There, 0 is no task.
            tasks = tasks.into_iter().filter_map(|task| task.checked_sub(1)).collect();
        }
        let cookies = match class {
            Class::Connection | Class::Socket | Class::Dns => {
                Some(state.table.distinct_values(codec::field::COOKIE))
            }
            Class::Syscall => {
                let objects = state.table.distinct_values(codec::field::OBJECT);
                // An object that the dictionary forgot may be any socket.
                let cookies: Option<Vec<u64>> =
                    objects.iter().map(|id| self.dictionary.cookie(*id)).collect();
                cookies.map(|mut cookies| {
                    cookies.retain(|cookie| *cookie != 0);
                    cookies.sort_unstable();
                    cookies.dedup();
                    cookies
                })
            }
            // Few, and not looked up.
            Class::Aggregate => None,
            _ => Some(Vec::new()),
        };
        state.clear();
        let before = self.out.end();
        let lists = (index::pack(&tasks), cookies.as_deref().and_then(index::pack));
        self.queue_listed(header, &payload, &cuts, lists);
        self.payload = payload;
        self.cuts = cuts;
        self.since_keyframe += self.out.end() - before;
        self.maybe_keyframe()
    }

    /// Queues the dictionary entries that the file does not have.
    pub(crate) fn queue_dictionaries(&mut self) -> Result<(), WriteError> {
        if self.dictionary.has_pending() {
            self.queue_entries(Entries::Pending, 0)?;
            self.dictionary.set_written();
        }
        Ok(())
    }

    /// Repeats the dictionaries when enough events were written since they last were.
    fn maybe_keyframe(&mut self) -> Result<(), WriteError> {
        // Entries compress to about a quarter.
        let keyframe = self.dictionary.bytes() as u64 / 4;
        if self.since_keyframe >= self.options.keyframe_bytes.max(keyframe * KEYFRAME_SHARE) {
            self.since_keyframe = 0;
            self.queue_header(flag::KEYFRAME);
            self.queue_containers(flag::KEYFRAME);
            self.queue_entries(Entries::All, flag::KEYFRAME)?;
        }
        Ok(())
    }

    /// Queues dictionary chunks.
    fn queue_entries(&mut self, which: Entries, flags: u32) -> Result<(), WriteError> {
        for kind in dictionary::KINDS {
            let payloads = self
                .dictionary
                .payloads(kind, which == Entries::All)
                .map_err(|_| WriteError::Invalid { what: "dictionary", why: "it does not encode" })?;
            let kind = match kind {
                dictionary::Kind::Strings => kind::STRINGS,
                dictionary::Kind::Tasks => kind::TASKS,
                dictionary::Kind::Objects => kind::OBJECTS,
            };
            for (records, payload) in payloads {
                self.queue_chunk(ChunkHeader { kind, flags, records, ..Default::default() }, &payload, &[]);
            }
        }
        Ok(())
    }

    /// Queues a metadata structure, in as many chunks as it takes.
    fn queue_metadata<T: metadata::Told + ?Sized>(
        &mut self,
        kind: u16,
        what: &'static str,
        value: &T,
    ) -> Result<(), WriteError> {
        let mut bytes = Vec::new();
        metadata::encode(value, &mut bytes)
            .map_err(|_| WriteError::Invalid { what, why: "it does not encode" })?;
        if bytes.len() > metadata::LIMIT {
            return Err(WriteError::Invalid { what, why: "it is larger than 32 MiB" });
        }
        let mut parts = bytes.chunks(MAX_DECODED).peekable();
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_some() { flag::MORE } else { 0 };
            self.queue_chunk(ChunkHeader { kind, flags, records: 1, ..Default::default() }, part, &[]);
        }
        Ok(())
    }

    /// Compresses a payload, in blocks that end at `cuts`, and queues it behind its header.
    fn queue_chunk(&mut self, header: ChunkHeader, payload: &[u8], cuts: &[usize]) {
        self.queue_listed(header, payload, cuts, (None, None));
    }

    /// As [`Self::queue_chunk`], with the packed lists of tasks and cookies for the index.
    fn queue_listed(&mut self, mut header: ChunkHeader, payload: &[u8], cuts: &[usize], lists: Lists) {
        self.frame.clear();
        // With room for the worst case, only exhausted memory makes this fail; then the payload is stored as it is.
        let compressed =
            self.options.level > 0 && self.compressor.compress(payload, cuts, &mut self.frame).is_ok();
        if compressed && self.frame.len() < payload.len() {
            header.flags |= flag::ZSTD;
            pad_to_ratio(&mut self.frame, payload.len());
        } else {
            self.frame.clear();
            self.frame.extend_from_slice(payload);
        }
        header.header_len = HEADER_LEN as u16;
        header.stored = self.frame.len() as u32;
        header.decoded = payload.len() as u32;
        header.payload_crc = crc32c::crc32c(&self.frame);
        header.anchor = [self.anchor.t_ns, self.anchor.monotonic_ns, self.anchor.realtime_ns];
        header.lost = self.lost;
        header.needs = self.dictionary.len();
        for (needs, appended) in header.needs.iter_mut().zip(self.appended_ids) {
            *needs = (*needs).max(appended);
        }
        let frame = std::mem::take(&mut self.frame);
        match &mut self.ring {
            Some(ring) => ring.take(header, &frame, lists),
            None => self.place(header, &frame, lists),
        }
        self.frame = frame;
    }

    /// Queues a chunk at the next place of the file.
    fn place(&mut self, mut header: ChunkHeader, frame: &[u8], (tasks, cookies): Lists) {
        header.sequence = self.sequence;
        header.trace_id = self.trace_id;
        self.sequence = self.sequence.wrapping_add(1);
        self.entries.push(IndexEntry { tasks, cookies, ..IndexEntry::new(self.out.end(), &header) });
        header.encode(&mut self.out.waiting);
        self.out.waiting.extend_from_slice(frame);
    }

    /// What window of a longer recording the trace holds. To be told before the first event.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn window(&mut self, window: &Window) -> Result<(), WriteError> {
        let window = self.gate.window(window);
        self.queue_metadata(kind::WINDOW, "window", &window)?;
        self.out.drain()
    }

    /// Writes a chunk of a ring. `lost_before`: losses, by class, that the trace does not tell of.
    pub(crate) fn append(&mut self, chunk: &Stored, lost_before: &[u64]) -> Result<(), WriteError> {
        let mut header = chunk.header;
        header.lost = header.lost.saturating_sub(lost_before.iter().sum());
        if let Some(at) = slot_of_kind(header.kind) {
            header.lost_class = header.lost_class.saturating_sub(lost_before[at]);
        }
        self.lost = self.lost.max(header.lost);
        self.anchor = ClockAnchor {
            t_ns: header.anchor[0],
            monotonic_ns: header.anchor[1],
            realtime_ns: header.anchor[2],
        };
        for (given, needs) in self.appended_ids.iter_mut().zip(header.needs) {
            *given = (*given).max(needs);
        }
        self.place(header, &chunk.payload, (chunk.tasks.clone(), chunk.cookies.clone()));
        self.out.drain()
    }

    /// The gate of a dump: names in it are those of the ring.
    pub(crate) fn gate_for_dump(&self) -> Gate {
        self.gate.again()
    }

    pub(crate) fn ring_ref(&self) -> Option<&Ring> {
        self.ring.as_deref()
    }

    pub(crate) fn ring_mut(&mut self) -> Option<&mut Ring> {
        self.ring.as_deref_mut()
    }

    pub(crate) fn queue_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), WriteError> {
        let snapshot = self.gate.snapshot(snapshot);
        self.queue_metadata(kind::SNAPSHOT, "snapshot", &snapshot)
    }

    /// Losses pushed so far, by class.
    pub(crate) fn lost_by_class(&self) -> [u64; CLASSES.len()] {
        std::array::from_fn(|at| self.classes[at].lost)
    }

    pub(crate) fn dictionary_bytes(&self) -> usize {
        self.dictionary.bytes()
    }

    pub(crate) fn complete_ids(&self, alive: &mut Ids) {
        self.dictionary.complete(alive);
    }

    /// Drops all other entries, and writes those that stay once more.
    pub(crate) fn retain_ids(&mut self, alive: &Ids) -> Result<(), WriteError> {
        self.dictionary.retain(alive);
        self.queue_entries(Entries::All, 0)
    }

    /// Length of a tick, ns.
    pub fn tick_ns(&self) -> u32 {
        self.tick_ns
    }
}

/// Lengthens a frame that decodes to more than readers accept for its size, by a zstd skippable frame.
fn pad_to_ratio(frame: &mut Vec<u8>, decoded: usize) {
    let least = decoded.div_ceil(MAX_RATIO as usize);
    let missing = least.saturating_sub(frame.len() + HEADER_LEN);
    if missing > 0 {
        frame.extend_from_slice(&0x184D_2A50u32.to_le_bytes());
        frame.extend_from_slice(&(missing as u32).to_le_bytes());
        frame.resize(frame.len() + missing, 0);
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
