//! What was pushed becomes chunks: columns, compressed, behind the dictionary entries that they need.

use super::{TraceWriter, WriteError, slot_of};
use crate::codec::{self, Encoder};
use crate::columns::{EventSize, TableBuilder};
use crate::index::{self, IndexEntry};
use crate::layout::{ChunkHeader, HEADER_LEN, MAX_DECODED, MAX_RATIO, flag, kind};
use crate::{Class, Event, dictionary, metadata};

/// For the index: the packed tasks and cookies of a chunk.
pub(crate) type Lists = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Which entries of the dictionaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entries {
    /// Those that were not written yet.
    Pending,
    /// Those that were written and are not forgotten.
    All,
}

/// Kinds of lists that are written as a whole whenever they change, and repeated with keyframes.
pub(super) const LISTS: [u16; 2] = [kind::CONTAINERS, kind::UNLEARNT];
/// Where each is.
pub(super) const CONTAINERS: usize = 0;
pub(super) const UNLEARNT: usize = 1;

/// Keyframes take at most one byte for this many of event chunks.
const KEYFRAME_SHARE: u64 = 16;

/// The open chunk of a class.
pub(super) struct ClassState {
    table: TableBuilder,
    min_start: u64,
    min_end: u64,
    max_end: u64,
    disorder: u64,
    /// Lost events of the class so far.
    pub(super) lost: u64,
    /// Events dropped since the last [`crate::Loss`] that says so.
    pub(super) dropped: Dropped,
}

/// Events that are not in the file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dropped {
    pub(super) count: u64,
    /// When the first of them ended, ns.
    pub(super) from_ns: u64,
}

impl Dropped {
    pub(super) fn add(&mut self, count: u64, end_ns: u64) {
        self.from_ns = if self.count == 0 { end_ns } else { self.from_ns.min(end_ns) };
        self.count = self.count.saturating_add(count);
    }
}

impl ClassState {
    pub(super) fn new() -> Self {
        let table = TableBuilder::new();
        let dropped = Dropped::default();
        Self { table, min_start: u64::MAX, min_end: u64::MAX, max_end: 0, disorder: 0, lost: 0, dropped }
    }

    /// Whether an event of this size fits into a chunk of at most so many.
    pub(super) fn has_room(&self, size: &EventSize, chunk_events: u32) -> bool {
        self.table.rows() < chunk_events && !self.table.is_full(size)
    }

    /// Adds an event, for which there is room.
    pub(super) fn add(&mut self, event: &Event, encoder: &mut Encoder) {
        let times = encoder.add(event, &mut self.table);
        self.disorder = self.disorder.max(self.max_end.saturating_sub(times.end));
        self.min_start = self.min_start.min(times.start);
        self.min_end = self.min_end.min(times.end);
        self.max_end = self.max_end.max(times.end);
    }

    fn clear(&mut self) {
        self.table.clear();
        self.min_start = u64::MAX;
        self.min_end = u64::MAX;
        self.max_end = 0;
        self.disorder = 0;
    }
}

impl TraceWriter {
    pub(super) fn queue_header(&mut self, flags: u32) {
        let header = std::mem::take(&mut self.header);
        let chunk = ChunkHeader { kind: kind::HEADER, flags, records: 1, ..Default::default() };
        self.queue_chunk(chunk, &header, &[]);
        self.header = header;
    }

    /// Queues the lists that are repeated as a whole, those that there are.
    pub(super) fn queue_lists(&mut self, flags: u32) {
        for at in 0..self.lists.len() {
            self.queue_list(at, flags);
        }
    }

    pub(super) fn queue_list(&mut self, at: usize, flags: u32) {
        let list = std::mem::take(&mut self.lists[at]);
        if !list.is_empty() {
            let kind = LISTS[at];
            let chunk = ChunkHeader { kind, flags, records: 1, ..Default::default() };
            self.queue_chunk(chunk, &list, &[]);
        }
        self.lists[at] = list;
    }

    /// Turns the open table of a class into a chunk, behind the dictionary entries it needs.
    pub(super) fn close(&mut self, class: Class) -> Result<(), WriteError> {
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
        self.maybe_keyframe()?;
        self.keep_free();
        Ok(())
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
            self.queue_lists(flag::KEYFRAME);
            self.queue_entries(Entries::All, flag::KEYFRAME)?;
        }
        Ok(())
    }

    /// Queues dictionary chunks.
    pub(super) fn queue_entries(&mut self, which: Entries, flags: u32) -> Result<(), WriteError> {
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
    pub(super) fn queue_metadata<T: metadata::Told + ?Sized>(
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
    pub(super) fn place(&mut self, mut header: ChunkHeader, frame: &[u8], (tasks, cookies): Lists) {
        header.sequence = self.sequence;
        header.trace_id = self.trace_id;
        self.sequence = self.sequence.wrapping_add(1);
        self.entries.push(IndexEntry { tasks, cookies, ..IndexEntry::new(self.out.end(), &header) });
        header.encode(self.out.queue());
        self.out.queue().extend_from_slice(frame);
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
