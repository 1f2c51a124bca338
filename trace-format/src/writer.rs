//! Writing a trace.
//!
//! Events collect in one table per class; a full table becomes a chunk, preceded by the dictionary entries it needs.
//! Encoded bytes wait in a buffer until the sink took them, so that a failed write loses nothing that fits it.

mod chunks;
mod names;
mod output;
mod window;

pub(crate) use chunks::Lists;

/// Lists as they are written; empty: there is none.
pub(crate) type EncodedLists = [Vec<u8>; LISTS.len()];

pub use output::{Sink, SizeLimit};

use crate::codec::{self, CLASSES, Encoder};
use crate::compress::Compressor;
use crate::dictionary::Interner;
use crate::index::{Index, IndexEntry};
use crate::layout::{self, MAX_DECODED, Preamble, flag, kind};
use crate::outfile::{OutFile, Taken};
use crate::redact::{Gate, Policy};
use crate::ring::Ring;
use crate::{
    Account, Class, ClockAnchor, Container, Event, Header, Loss, LossCause, Snapshot, Summary, metadata,
    schema,
};
use chunks::{CONTAINERS, ClassState, Dropped, LISTS, UNLEARNT};
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
    /// What it lacks because there was no room for it, or no way to write it.
    pub cut: Option<Cut>,
}

/// Events that were seen, and are missing from a finished file because it could not be written further: the file tells of
/// them as [`Loss`] with [`LossCause::WriteFailed`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cut {
    /// When the first of them ended, ns since the start.
    pub from_ns: u64,
    /// How many.
    pub events: u64,
    /// Why: the first error.
    pub why: String,
}

/// What ended a trace that could not be written further, for its summary.
fn ended_by(refused: &WriteError) -> &'static str {
    match refused {
        WriteError::Io { source, .. } if is_size_limit(source) => "size reached",
        WriteError::Io { source, .. } => match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                "disk full"
            }
            _ => "write failed",
        },
        _ => "write failed",
    }
}

/// What ended a trace, with what kept it from being written further.
fn with_cause(cause: &str, ended: &str) -> String {
    if cause == ended { ended.to_owned() } else { format!("{cause}; {ended}") }
}

fn is_size_limit(error: &io::Error) -> bool {
    match error.get_ref() {
        Some(cause) => cause.is::<SizeLimit>(),
        None => false,
    }
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
    options: WriteOptions,
    encoder: Encoder,
    classes: [ClassState; CLASSES.len()],
    pub(crate) dictionary: Interner,
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
    /// Losses that the sink may not have yet.
    losses: Vec<Loss>,
    /// Events that are missing because they could not be written.
    missing: Dropped,
    /// The first error of the sink: what it says, and what ends a trace by it.
    refused: Option<(String, &'static str)>,
    last_ns: u64,
    /// What the index would take, of as many entries.
    index_bytes: u64,
    entries_counted: usize,
    has_snapshot: bool,
    /// What is worked out about the events, for the end.
    account: Option<Account>,
    /// The encoded lists of [`chunks::LISTS`]; empty: there is none.
    lists: [Vec<u8>; LISTS.len()],
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
    /// The containers that were told of, see [`Self::keep_known`].
    pub(crate) known_containers: Vec<Container>,
}

impl TraceWriter {
    /// Creates `path.partial` (mode 0600, locked while live). A `.partial` that a dead recorder left is moved aside,
    /// to `path.partial.1` and so on. Where the name is taken, the next free one is (`x-2.ctr`): see
    /// [`TraceWriter::file`].
    ///
    /// # Errors
    /// When the file cannot be created or its header not be written.
    pub fn create(path: &Path, header: &Header) -> Result<Self, WriteError> {
        Self::create_with(path, header, WriteOptions::default())
    }

    /// As [`TraceWriter::create`], with options.
    ///
    /// # Errors
    /// As [`TraceWriter::create`].
    pub fn create_with(path: &Path, header: &Header, options: WriteOptions) -> Result<Self, WriteError> {
        check_header(header)?;
        Self::create_in(OutFile::create(path, &Taken::Next)?, header, options)
    }

    /// Writes to an output that was made before.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn create_in(file: OutFile, header: &Header, options: WriteOptions) -> Result<Self, WriteError> {
        check_header(header)?;
        let name = file.partial_path().to_path_buf();
        Self::start(Box::new(file), name, header, options)
    }

    /// Writes to any sink.
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
        Self::over_as(sink, Path::new("trace"), header, options)
    }

    /// As [`TraceWriter::over_with`]; errors call what is written `name`.
    ///
    /// # Errors
    /// As [`TraceWriter::over`].
    pub fn over_as(
        sink: Box<dyn Sink>,
        name: &Path,
        header: &Header,
        options: WriteOptions,
    ) -> Result<Self, WriteError> {
        check_header(header)?;
        Self::start(sink, name.to_owned(), header, options)
    }

    fn start(
        sink: Box<dyn Sink>,
        path: PathBuf,
        header: &Header,
        options: WriteOptions,
    ) -> Result<Self, WriteError> {
        let gate = gate(options.redact, &path)?;
        Self::start_gated(sink, path, header, options, gate)
    }

    /// As [`TraceWriter::over`], behind a gate that is there already.
    pub(crate) fn over_gated(
        sink: Box<dyn Sink>,
        name: &Path,
        header: &Header,
        gate: Gate,
    ) -> Result<Self, WriteError> {
        check_header(header)?;
        Self::start_gated(sink, name.to_owned(), header, WriteOptions::default(), gate)
    }

    fn start_gated(
        sink: Box<dyn Sink>,
        path: PathBuf,
        header: &Header,
        options: WriteOptions,
        gate: Gate,
    ) -> Result<Self, WriteError> {
        let mut writer = Self::prepare(sink, path, header, options, gate)?;
        let preamble = Preamble { version: layout::VERSION, required: 0, optional: 0 };
        writer.out.queue().extend_from_slice(&preamble.encode());
        writer.queue_header(0);
        writer.queue_metadata(kind::SCHEMA, "schema", schema::schema().as_slice())?;
        writer.keep_free();
        writer.out.drain()?;
        Ok(writer)
    }

    fn prepare(
        sink: Box<dyn Sink>,
        path: PathBuf,
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
            losses: Vec::new(),
            missing: Dropped::default(),
            refused: None,
            last_ns: 0,
            index_bytes: 0,
            entries_counted: 0,
            has_snapshot: false,
            account: None,
            lists: Default::default(),
            since_keyframe: 0,
            trace_id: crc32c::crc32c(&encoded),
            header: encoded,
            tick_ns: header.tick_ns,
            ring: None,
            appended_ids: [0; 3],
            known_containers: Vec::new(),
        })
    }

    /// The start snapshot. At most once: a further one is refused.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn snapshot(&mut self, snapshot: &Snapshot) -> Result<(), WriteError> {
        self.snapshot_shown(snapshot, |_, _| {})
    }

    /// As [`Self::snapshot`], and shows it as it is written: redacted.
    ///
    /// # Errors
    /// As [`Self::snapshot`].
    pub fn snapshot_shown(
        &mut self,
        snapshot: &Snapshot,
        look: impl FnOnce(&Snapshot, &Self),
    ) -> Result<(), WriteError> {
        if self.has_snapshot {
            return Err(WriteError::Invalid { what: "snapshot", why: "the trace has one already" });
        }
        let snapshot = self.gate.snapshot(snapshot);
        look(snapshot.get(), self);
        self.queue_metadata(kind::SNAPSHOT, "snapshot", &snapshot)?;
        self.has_snapshot = true;
        self.out.drain()
    }

    /// From here on, the writer tells what ids mean ([`crate::Known`]). It takes memory of its own.
    pub fn keep_known(&mut self) {
        self.dictionary.keep_known();
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
        self.known_containers = containers.to_vec();
        self.list(CONTAINERS, what, encoded)
    }

    /// What could not be learnt of the scope, all of it so far: see [`crate::Trace::unlearnt`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn unlearnt(&mut self, unlearnt: &[String]) -> Result<(), WriteError> {
        let what = "list of what was not learnt";
        let mut encoded = Vec::new();
        metadata::encode(&self.gate.unlearnt(unlearnt), &mut encoded)
            .map_err(|_| WriteError::Invalid { what, why: "it does not encode" })?;
        self.list(UNLEARNT, what, encoded)
    }

    fn list(&mut self, at: usize, what: &'static str, encoded: Vec<u8>) -> Result<(), WriteError> {
        if encoded.len() > MAX_DECODED {
            return Err(WriteError::Invalid { what, why: "it is larger than 4 MiB" });
        }
        self.lists[at] = encoded;
        if self.ring.is_none() {
            self.queue_list(at, 0);
        }
        self.out.drain()
    }

    /// The encoded lists. A ring keeps the last ones, for its dumps.
    pub(crate) fn encoded_lists(&self) -> EncodedLists {
        self.lists.clone()
    }

    /// As [`Self::encoded_lists`] of another writer.
    pub(crate) fn set_lists(&mut self, lists: EncodedLists) -> Result<(), WriteError> {
        self.lists = lists;
        self.queue_lists(0);
        self.out.drain()
    }

    /// Appends an event. Events of a class should come in order of [`Event::end_ns`]; small disorder is kept and
    /// costs bytes, not truth. Arguments of a call that are not in its mask are not kept.
    ///
    /// # Errors
    /// When a full chunk cannot be written. The event is not lost by a failed write alone: after making room,
    /// [`TraceWriter::flush`] tries again. It is lost, and counted, with [`WriteError::Backlog`] and
    /// [`WriteError::TooLarge`].
    pub fn push(&mut self, event: &Event) -> Result<(), WriteError> {
        self.push_shown(event, |_, _| {})
    }

    /// As [`Self::push`], and shows the event as it is written: redacted.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn push_shown(&mut self, event: &Event, look: impl FnOnce(&Event, &Self)) -> Result<(), WriteError> {
        let event = &*self.gate.event(event);
        look(event, self);
        let class = event.class();
        let at = slot_of(class);
        self.last_ns = self.last_ns.max(event.end_ns());
        let Some(size) = codec::size(event) else {
            self.drop_event(event);
            return Err(WriteError::TooLarge { class });
        };
        if self.ring.as_ref().is_some_and(|ring| !ring.knows(event)) {
            self.drop_event(event);
            return Err(WriteError::Forgotten { class });
        }
        let mut written = Ok(());
        if !self.classes[at].has_room(&size, self.options.chunk_events) {
            if let Err(backlog) = self.out.make_room() {
                self.drop_event(event);
                self.missing.add(1, event.end_ns());
                return Err(backlog);
            }
            self.close(class)?;
            written = self.drain();
        }
        self.add(event);
        written
    }

    /// Counts an event as lost that is not going to be pushed, because the trace cannot be written any more.
    pub fn skip(&mut self, event: &Event) {
        self.last_ns = self.last_ns.max(event.end_ns());
        // A loss tells of others, and is written whatever happens; there is room for it.
        let Event::Loss(loss) = event else {
            self.drop_event(event);
            self.missing.add(1, event.end_ns());
            return;
        };
        if let Err(error) = self.queue_loss(loss.clone()) {
            // Its chunk does not encode, which those of numbers do.
            self.refused.get_or_insert_with(|| (error.to_string(), ended_by(&error)));
        }
    }

    fn drop_event(&mut self, event: &Event) {
        self.classes[slot_of(event.class())].dropped.add(1, event.end_ns());
    }

    /// Adds to the open chunk of its class, which has room.
    fn add(&mut self, event: &Event) {
        match event {
            Event::Anchor(anchor) => self.anchor = *anchor,
            Event::Loss(loss) => {
                self.lost = self.lost.saturating_add(loss.count);
                let lost = &mut self.classes[slot_of(loss.class)].lost;
                *lost = lost.saturating_add(loss.count);
                self.losses.push(loss.clone());
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
        self.drain()?;
        self.tell_dropped()?;
        for class in CLASSES {
            self.close(class)?;
        }
        self.drain()?;
        self.losses.clear();
        Ok(())
    }

    /// Gives the sink what waits, and remembers why it refused.
    fn drain(&mut self) -> Result<(), WriteError> {
        let refused = &mut self.refused;
        self.out.drain().inspect_err(|error| {
            refused.get_or_insert_with(|| (error.to_string(), ended_by(error)));
        })
    }

    /// Pushes losses for the events that were dropped.
    fn tell_dropped(&mut self) -> Result<(), WriteError> {
        for class in CLASSES {
            let Dropped { count, from_ns } = std::mem::take(&mut self.classes[slot_of(class)].dropped);
            if count > 0 {
                let (t_ns, cause) = (self.last_ns.max(from_ns), LossCause::WriteFailed);
                self.queue_loss(Loss { t_ns, from_ns, cpu: u32::MAX, class, cause, count })?;
            }
        }
        Ok(())
    }

    /// Adds a loss, and gives the sink nothing.
    fn queue_loss(&mut self, loss: Loss) -> Result<(), WriteError> {
        let event = Event::Loss(loss);
        let size = codec::size(&event);
        let has_room = |state: &ClassState, most| size.is_some_and(|size| state.has_room(&size, most));
        if !has_room(&self.classes[slot_of(Class::Loss)], self.options.chunk_events) {
            self.close(Class::Loss)?;
        }
        self.add(&event);
        Ok(())
    }

    /// Has room kept for what finishes the trace, however soon the disk is full: the header, the losses, the summary,
    /// and the index, which grows.
    pub(super) fn keep_free(&mut self) {
        /// All but the index, and what an index takes beside its entries.
        const LEAST: u64 = 16 << 10;
        /// An entry without its lists, at most: numbers of up to ten bytes.
        const ENTRY: usize = 112;
        let list = |list: &Option<Vec<u8>>| list.as_ref().map_or(0, Vec::len);
        for entry in &self.entries[self.entries_counted..] {
            self.index_bytes += (ENTRY + list(&entry.tasks) + list(&entry.cookies)) as u64;
        }
        self.entries_counted = self.entries.len();
        self.out.kept_free = LEAST + self.header.len() as u64 + self.index_bytes;
    }

    /// Bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        self.out.written()
    }

    /// What was worked out about the events; [`Self::finish`] writes it.
    ///
    /// # Errors
    /// When it is larger than 4 MiB.
    pub fn account(&mut self, account: Account) -> Result<(), WriteError> {
        if account.json.len() > MAX_DECODED {
            return Err(WriteError::Invalid { what: "account", why: "it is larger than 4 MiB" });
        }
        self.account = Some(account);
        Ok(())
    }

    /// Flushes, writes the index, syncs, gives the file its name. What finds no room is cut off: see [`Finished::cut`].
    ///
    /// # Errors
    /// When not even that can be written; the `.partial` file is then left, and readable up to its last chunk.
    pub fn finish(mut self, summary: &Summary) -> Result<Finished, WriteError> {
        self.tell_dropped()?;
        let mut summary = summary.clone();
        if let Some((_, ended)) = self.refused.as_ref().filter(|_| self.missing.count > 0) {
            summary.ended = with_cause(ended, &summary.ended);
        }
        let (mut bytes, error) = self.end(&summary)?;
        if let Some(error) = error {
            let (_, ended) = self.refused.get_or_insert_with(|| (error.to_string(), ended_by(&error)));
            if self.missing.count == 0 {
                summary.ended = with_cause(ended, &summary.ended);
            }
            let shorter = self.cut_off().and_then(|()| self.end(&summary));
            // The error that matters is the first one.
            let Ok((shorter, None)) = shorter else { return Err(error) };
            bytes = shorter;
        }
        let Dropped { count: events, from_ns } = self.missing;
        // What was refused for a while is not missing.
        let why = self.refused.take().map(|(why, _)| why).filter(|_| events > 0);
        let cut = why.map(|why| Cut { from_ns, events, why });
        let path = self.out.publish()?;
        Ok(Finished { path, bytes, cut })
    }

    /// Writes all there is, and the end, at once: so there is room for both or neither is begun. The length of the file,
    /// and the error with which the sink refused it.
    fn end(&mut self, summary: &Summary) -> Result<(u64, Option<WriteError>), WriteError> {
        for class in CLASSES {
            self.close(class)?;
        }
        // A second copy at the other end of the file.
        self.queue_header(flag::KEYFRAME);
        if let Some(account) = self.account.take() {
            self.queue_metadata(kind::ACCOUNT, "account", &account)?;
        }
        let summary = self.gate.summary(summary);
        self.queue_metadata(kind::SUMMARY, "summary", &summary)?;
        let index_offset = self.out.end();
        let index = Index { sha256: self.out.sha256(), lost: self.lost, entries: self.entries.clone() };
        self.queue_metadata(kind::INDEX, "index", &index)?;
        let bytes = self.out.end() + layout::TRAILER_LEN as u64;
        self.out.queue().extend_from_slice(&layout::encode_trailer(index_offset, bytes));
        self.out.kept_free = 0;
        match self.out.drain() {
            Ok(()) => Ok((bytes, None)),
            Err(refused @ WriteError::Io { .. }) => Ok((bytes, Some(refused))),
            Err(error) => Err(error),
        }
    }

    /// Drops what the sink does not have in whole chunks, and pushes losses that say so.
    fn cut_off(&mut self) -> Result<(), WriteError> {
        // There is no room for dictionaries once more.
        self.options.keyframe_bytes = u64::MAX;
        self.keep_free();
        // As many chunks as there is room for; what finishes the trace is not among them.
        let is_content =
            |kind| kind >= kind::EVENTS || matches!(kind, kind::STRINGS | kind::TASKS | kind::OBJECTS);
        let has = self.out.whole_bytes();
        let mut waiting = self.entries.iter().filter(|entry| entry.offset >= has);
        while waiting.next().is_some_and(|entry| {
            is_content(entry.kind) && self.out.drain_to(entry.offset + entry.total_len())
        }) {}
        let end = self.out.drop_waiting()?;
        let kept = self.entries.partition_point(|entry| entry.offset < end);
        let dropped = self.entries.split_off(kept);
        (self.entries_counted, self.index_bytes) = (0, 0);
        self.sequence = self.entries.last().map_or(0, |entry| entry.sequence.wrapping_add(1));
        let mut lost: [Dropped; CLASSES.len()] = Default::default();
        let tick_ns = u64::from(self.tick_ns);
        for entry in dropped.iter().filter(|entry| entry.kind != kind::EVENTS + Class::Loss as u16) {
            if let Some(at) = slot_of_kind(entry.kind) {
                lost[at].add(u64::from(entry.records), entry.min_end.saturating_mul(tick_ns));
            }
        }
        // The losses that were dropped with the rest: the last ones.
        let is_losses = |entry: &&IndexEntry| entry.kind == kind::EVENTS + Class::Loss as u16;
        let again: usize = dropped.iter().filter(is_losses).map(|entry| entry.records as usize).sum();
        let told = self.losses.len().saturating_sub(again);
        for loss in std::mem::take(&mut self.losses).split_off(told) {
            self.lost = self.lost.saturating_sub(loss.count);
            let of_class = &mut self.classes[slot_of(loss.class)].lost;
            *of_class = of_class.saturating_sub(loss.count);
            self.queue_loss(loss)?;
        }
        for (class, Dropped { count, from_ns }) in CLASSES.into_iter().zip(lost) {
            if count > 0 {
                self.missing.add(count, from_ns);
                let (t_ns, cause) = (self.last_ns.max(from_ns), LossCause::WriteFailed);
                self.queue_loss(Loss { t_ns, from_ns, cpu: u32::MAX, class, cause, count })?;
            }
        }
        Ok(())
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
