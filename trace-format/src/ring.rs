//! The window of a flight recorder: the last chunks of an endless recording, compressed, in memory.
//!
//! A [`TraceWriter`] made by [`TraceWriter::ring`] has no file. Its chunks go to a [`Ring`], which drops the oldest
//! by time and size. [`TraceWriter::dump`] takes what is there as a [`Dump`]: chunks are counted by reference, so that
//! takes no copy and no time, and any thread may write it to a file while recording goes on.
//!
//! A dump is a trace like any other. Its dictionary chunks stand in front, its chunks are numbered anew, and its counts
//! of losses are those of the window. What was dropped at the front is no loss: the file's [`Window`] says where it
//! begins. Entries of the dictionaries that no chunk needs are dropped by [`TraceWriter::sweep`] and their ids given
//! again, so that memory is bounded however long a recording goes on.

use crate::codec::{self, CLASSES, Ref};
use crate::dictionary::Ids;
use crate::index;
use crate::layout::{ChunkHeader, HEADER_LEN, MAX_EVENTS, kind};
use crate::outfile::{OutFile, Taken};
use crate::redact::{Gate, Policy};
use crate::writer::{EncodedLists, Lists, Sink, TraceWriter, slot_of, slot_of_kind};
use crate::{Account, DumpReason, Event, Finished, Header, Snapshot, Summary, Window, WriteError};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// How much a ring keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingOptions {
    /// Length of the window, ns.
    pub span_ns: u64,
    /// Bytes that its chunks may take; when they would take more, the window gets shorter.
    pub bytes: u64,
    /// zstd level, 1 to 19; 0 stores chunks uncompressed.
    pub level: i32,
    /// Events after which a chunk is closed, at most 65,536.
    pub chunk_events: u32,
    /// What is redacted; `None`: nothing, as what comes was redacted before.
    pub redact: Option<Policy>,
}

impl RingOptions {
    /// A window of this length in this memory.
    pub fn new(span_ns: u64, bytes: u64) -> Self {
        // A sixteenth of the memory at most, at the four bytes that a call takes, so that what is dropped is small
        // beside what is kept.
        let chunk_events = (bytes / 64).clamp(1024, MAX_EVENTS.into()) as u32;
        Self { span_ns, bytes, level: 3, chunk_events, redact: None }
    }

    /// How long a chunk stays open: what is dropped at once is small beside the window.
    fn chunk_ns(&self) -> u64 {
        (self.span_ns / 32).clamp(20_000_000, 10_000_000_000)
    }
}

/// Who keeps dictionary ids between events, for [`TraceWriter::sweep`].
pub trait Holder {
    /// Passes every id that will be used again without asking the writer for it.
    fn held(&self, keep: &mut dyn FnMut(Ref));
    /// Drops what is only remembered to save work: ids that are not alive get another meaning.
    fn forget(&mut self, alive: &dyn Fn(Ref) -> bool);
}

/// A chunk, complete but for its place in a file.
pub(crate) struct Stored {
    pub(crate) header: ChunkHeader,
    pub(crate) payload: Box<[u8]>,
    /// For the index: see [`index::IndexEntry`].
    pub(crate) tasks: Option<Vec<u8>>,
    pub(crate) cookies: Option<Vec<u8>>,
    /// Ids that its events refer to, packed: strings, tasks, objects.
    refs: [Box<[u8]>; 3],
    /// Losses that its events tell of, by class; empty for other chunks.
    lost: Box<[u64]>,
}

impl Stored {
    fn bytes(&self) -> u64 {
        let lists = self.tasks.as_ref().map_or(0, Vec::len) + self.cookies.as_ref().map_or(0, Vec::len);
        let refs: usize = self.refs.iter().map(|r| r.len()).sum();
        (HEADER_LEN + size_of::<Self>() + self.payload.len() + lists + refs) as u64
    }
}

/// What the open chunk of a class refers to.
#[derive(Default)]
struct OpenRefs {
    ids: [Vec<u64>; 3],
    lost: [u64; CLASSES.len()],
}

/// The chunks in memory.
pub(crate) struct Ring {
    options: RingOptions,
    tick_ns: u64,
    /// What dictionary chunks are needed for `events`, in the order in which they were made.
    dictionaries: Vec<Arc<Stored>>,
    events: VecDeque<Arc<Stored>>,
    /// Snapshots and their times; the first is the newest from before the window.
    snapshots: VecDeque<(u64, Vec<Arc<Stored>>)>,
    bytes: u64,
    /// Latest end of a dropped event, ticks; 0 before the first.
    from: u64,
    /// Events dropped.
    evicted: u64,
    /// When chunks were last closed.
    closed_ns: u64,
    /// Refs of the open chunks, by class.
    open: Vec<OpenRefs>,
    /// For every id, the class whose open chunk listed it last, and that chunk's number.
    marks: [Vec<u64>; 3],
    chunk_numbers: [u64; CLASSES.len()],
    /// Chunks that go to the dump alone.
    aside: Option<Vec<Arc<Stored>>>,
    /// Bytes of the dictionaries after the last sweep.
    swept_bytes: usize,
}

/// Dictionary bytes that are never worth a sweep.
const MIN_SWEEP: usize = 4 << 20;
/// Dictionary chunks after which they are made anew: each has a header, and few entries each compress badly.
const MAX_DICTIONARY_CHUNKS: usize = 512;
/// In [`Ring::marks`]: the entry was dropped.
const FORGOTTEN: u64 = u64::MAX;

impl Ring {
    pub(crate) fn new(options: RingOptions, tick_ns: u32) -> Self {
        Self {
            options,
            tick_ns: tick_ns.into(),
            dictionaries: Vec::new(),
            events: VecDeque::new(),
            snapshots: VecDeque::new(),
            bytes: 0,
            from: 0,
            evicted: 0,
            closed_ns: 0,
            open: CLASSES.iter().map(|_| OpenRefs::default()).collect(),
            marks: [Vec::new(), Vec::new(), Vec::new()],
            chunk_numbers: [1; CLASSES.len()],
            aside: None,
            swept_bytes: 0,
        }
    }

    /// Whether all entries that the event refers to are there.
    pub(crate) fn knows(&self, event: &Event) -> bool {
        codec::all_refs(event, |reference| {
            let (kind, id) = parts(reference);
            self.marks[kind].get(id) != Some(&FORGOTTEN)
        })
    }

    /// Notes what an event that goes to the open chunk of its class refers to.
    pub(crate) fn note(&mut self, event: &Event) {
        let at = slot_of(event.class());
        let mark = self.chunk_numbers[at] << 8 | at as u64;
        let (open, marks) = (&mut self.open[at], &mut self.marks);
        codec::all_refs(event, |reference| {
            let (kind, id) = parts(reference);
            let marks = &mut marks[kind];
            if marks.len() <= id {
                marks.resize(id + 1, 0);
            }
            if marks[id] != mark {
                marks[id] = mark;
                open.ids[kind].push(id as u64);
            }
            true
        });
        if let Event::Loss(loss) = event {
            let lost = &mut open.lost[slot_of(loss.class)];
            *lost = lost.saturating_add(loss.count);
        }
    }

    /// An id got a new entry.
    pub(crate) fn given(&mut self, kind: usize, id: u32) {
        if let Some(mark) = self.marks[kind].get_mut(id as usize)
            && *mark == FORGOTTEN
        {
            *mark = 0;
        }
    }

    /// Takes a chunk. Events come with what the index says about them.
    pub(crate) fn take(&mut self, header: ChunkHeader, payload: &[u8], (tasks, cookies): Lists) {
        let class = slot_of_kind(header.kind);
        let (mut refs, mut lost): ([Box<[u8]>; 3], Box<[u64]>) = Default::default();
        if let Some(at) = class {
            let open = std::mem::take(&mut self.open[at]);
            self.chunk_numbers[at] += 1;
            refs = open.ids.map(|mut ids| {
                ids.sort_unstable();
                ids.dedup();
                index::pack_all(&ids).into()
            });
            if open.lost.iter().any(|n| *n > 0) {
                lost = open.lost.into();
            }
        }
        let stored = Arc::new(Stored { header, payload: payload.into(), tasks, cookies, refs, lost });
        if class.is_none() {
            if let (kind::SNAPSHOT, Some((_, parts))) = (header.kind, self.snapshots.back_mut()) {
                parts.push(stored);
            } else {
                self.bytes += stored.bytes();
                self.dictionaries.push(stored);
            }
        } else if let Some(aside) = &mut self.aside {
            aside.push(stored);
        } else {
            self.bytes += stored.bytes();
            self.events.push_back(stored);
            while self.bytes > self.options.bytes && self.events.len() > 1 {
                self.drop_first();
            }
        }
    }

    fn drop_first(&mut self) {
        if let Some(chunk) = self.events.pop_front() {
            self.bytes -= chunk.bytes();
            self.from = self.from.max(chunk.header.max_end);
            self.evicted += u64::from(chunk.header.records);
        }
    }

    /// Everything that ended later is there.
    fn begins_ns(&self) -> u64 {
        self.from.saturating_mul(self.tick_ns)
    }

    /// Drops what is older than the window.
    fn evict(&mut self, now_ns: u64) {
        let start_ns = now_ns.saturating_sub(self.options.span_ns);
        let reached = start_ns.max(self.begins_ns());
        while self.snapshots.get(1).is_some_and(|(t_ns, _)| *t_ns <= reached) {
            self.snapshots.pop_front();
        }
        // From a snapshot on, events tell what changed: those in front of the window are kept as far back as that.
        let cutoff_ns = match self.snapshots.front() {
            Some((t_ns, _)) => (*t_ns).min(start_ns),
            None => start_ns,
        };
        let cutoff = cutoff_ns / self.tick_ns;
        while self.events.front().is_some_and(|chunk| chunk.header.max_end < cutoff) {
            self.drop_first();
        }
    }

    fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.closed_ns) >= self.options.chunk_ns()
    }

    fn is_sweep_due(&self, dictionary_bytes: usize) -> bool {
        dictionary_bytes > MIN_SWEEP.max(self.swept_bytes * 2)
            || self.dictionaries.len() > MAX_DICTIONARY_CHUNKS
    }

    /// All ids that events in the ring refer to.
    fn mark(&self, alive: &mut Ids) {
        for chunk in &self.events {
            let [strings, tasks, objects] = &chunk.refs;
            for (packed, set) in
                [(strings, &mut alive.strings), (tasks, &mut alive.tasks), (objects, &mut alive.objects)]
            {
                index::unpack(packed, |id| set.add(id as u32));
            }
        }
    }

    fn forget(&mut self, alive: &Ids) {
        let Ids { strings, tasks, objects } = alive;
        for (marks, set) in self.marks.iter_mut().zip([strings, tasks, objects]) {
            for (id, mark) in (0..).zip(marks.iter_mut()) {
                if !set.has(id) {
                    *mark = FORGOTTEN;
                }
            }
        }
        for chunk in self.dictionaries.drain(..) {
            self.bytes -= chunk.bytes();
        }
    }
}

/// Which dictionary, and the place of the entry in it.
fn parts(reference: Ref) -> (usize, usize) {
    match reference {
        Ref::Str(id) => (0, id.0 as usize),
        Ref::Task(id) => (1, id.0 as usize),
        Ref::Object(id) => (2, id.0 as usize),
    }
}

/// Figures of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingStats {
    /// Bytes that its chunks take.
    pub bytes: u64,
    /// Everything that ended after this time is there, ns since the start of the recording. 0: from the start.
    pub from_ns: u64,
    /// Events in closed chunks.
    pub events: u64,
    /// Of these, calls.
    pub calls: u64,
}

/// What a ring held at one time. Costs no copy; holds the memory of its chunks until it is dropped.
pub struct Dump {
    dictionaries: Vec<Arc<Stored>>,
    events: Vec<Arc<Stored>>,
    snapshot: Option<(u64, Vec<Arc<Stored>>)>,
    lists: EncodedLists,
    from_ns: u64,
    to_ns: u64,
    evicted: u64,
    /// Losses told of by events that were dropped, by class.
    lost_before: [u64; CLASSES.len()],
    /// What header, reason and summary go through; the rest did.
    gate: Gate,
    /// The account of its events.
    account: Option<Account>,
}

impl Dump {
    /// Has its file keep what was worked out about its events.
    pub fn keep(&mut self, account: Account) {
        self.account = Some(account);
    }
    /// Bytes of its chunks.
    pub fn bytes(&self) -> u64 {
        let snapshot = self.snapshot.iter().flat_map(|(_, parts)| parts);
        snapshot.chain(&self.dictionaries).chain(&self.events).map(|c| c.bytes()).sum()
    }
    /// Everything that ended after this time is there. 0: from the start of the recording.
    pub fn begins_ns(&self) -> u64 {
        self.from_ns
    }
    /// When it was taken.
    pub fn ends_ns(&self) -> u64 {
        self.to_ns
    }
    /// Events in it.
    pub fn events(&self) -> u64 {
        self.events.iter().map(|c| u64::from(c.header.records)).sum()
    }
    /// Calls in it.
    pub fn calls(&self) -> u64 {
        calls(self.events.iter())
    }
    /// Losses that it tells of.
    pub fn lost(&self) -> u64 {
        self.events.iter().flat_map(|c| c.lost.iter()).sum()
    }

    /// Writes it as a trace. `number`: which dump of the recording it is, from 1 on. It can be written again elsewhere.
    ///
    /// # Errors
    /// As [`TraceWriter::create`] and [`TraceWriter::finish`]; the `.partial` file is then left, if there was room for
    /// one.
    pub fn write(
        &self,
        path: &Path,
        header: &Header,
        number: u32,
        reason: DumpReason,
        summary: &Summary,
    ) -> Result<Finished, WriteError> {
        let file = Box::new(OutFile::create(path, &Taken::Next)?);
        self.write_over(file, path, header, number, reason, summary)
    }

    /// As [`Dump::write`], to any sink; errors call what is written `name`.
    ///
    /// # Errors
    /// When the sink fails; what it took is readable.
    pub fn write_over(
        &self,
        sink: Box<dyn Sink>,
        name: &Path,
        header: &Header,
        number: u32,
        reason: DumpReason,
        summary: &Summary,
    ) -> Result<Finished, WriteError> {
        self.write_with(
            TraceWriter::over_gated(sink, name, header, self.gate.again())?,
            number,
            reason,
            summary,
        )
    }

    fn write_with(
        &self,
        mut writer: TraceWriter,
        number: u32,
        reason: DumpReason,
        summary: &Summary,
    ) -> Result<Finished, WriteError> {
        writer.window(&Window {
            from_ns: self.from_ns,
            to_ns: self.to_ns,
            snapshot_ns: self.snapshot.as_ref().map(|(t_ns, _)| *t_ns),
            evicted: self.evicted,
            number,
            reason,
        })?;
        writer.set_lists(self.lists.clone())?;
        let snapshot = self.snapshot.iter().flat_map(|(_, parts)| parts);
        for chunk in snapshot.chain(&self.dictionaries).chain(&self.events) {
            writer.append(chunk, &self.lost_before)?;
        }
        if let Some(account) = &self.account {
            writer.account(account.clone())?;
        }
        writer.finish(summary)
    }
}

fn calls<'a>(chunks: impl Iterator<Item = &'a Arc<Stored>>) -> u64 {
    let is_calls = |c: &&Arc<Stored>| c.header.kind == kind::EVENTS + crate::Class::Syscall as u16;
    chunks.filter(is_calls).map(|c| u64::from(c.header.records)).sum()
}

/// The flight recorder's side of a writer. All but [`TraceWriter::ring`] do nothing to a writer with a file.
impl TraceWriter {
    /// A writer that keeps the last window of what it is given in memory, for [`TraceWriter::dump`].
    ///
    /// # Errors
    /// When the header cannot be written, or zstd not be prepared.
    pub fn ring(header: &Header, options: RingOptions) -> Result<Self, WriteError> {
        Self::start_ring(header, options)
    }

    /// A snapshot of the scope as it was at `t_ns`. A ring keeps the newest from before its window, and those since:
    /// give it one every now and then. Other writers take one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn snapshot_at(
        &mut self,
        t_ns: u64,
        snapshot: &Snapshot,
        look: impl FnOnce(&Snapshot, &Self),
    ) -> Result<(), WriteError> {
        match self.ring_mut() {
            None => self.snapshot_shown(snapshot, look),
            Some(ring) => {
                ring.snapshots.push_back((t_ns, Vec::new()));
                self.queue_snapshot(snapshot)
            }
        }
    }

    /// Time passed: closes chunks that have been open for long, and drops what the window has left behind.
    ///
    /// # Errors
    /// When a chunk cannot be encoded.
    pub fn turn(&mut self, now_ns: u64) -> Result<(), WriteError> {
        let Some(ring) = self.ring_mut() else { return Ok(()) };
        if ring.is_due(now_ns) {
            ring.closed_ns = now_ns;
            self.flush()?;
        }
        if let Some(ring) = self.ring_mut() {
            ring.evict(now_ns);
        }
        Ok(())
    }

    /// Closes all chunks and drops what is older than the window at `now_ns`: everything that ended after the time
    /// that is returned is there, and will be in the next [`TraceWriter::dump`]. `None` for a writer with a file.
    ///
    /// # Errors
    /// When a chunk cannot be encoded.
    pub fn settle(&mut self, now_ns: u64) -> Result<Option<u64>, WriteError> {
        if self.ring_ref().is_none() {
            return Ok(None);
        }
        self.flush()?;
        Ok(self.ring_mut().map(|ring| {
            ring.closed_ns = now_ns;
            ring.evict(now_ns);
            ring.begins_ns()
        }))
    }

    /// Takes what the window holds at `now_ns`. `more` goes into this dump alone: what is true of this moment only,
    /// such as calls that have not returned.
    ///
    /// # Errors
    /// When a chunk cannot be encoded, or the writer is no ring.
    pub fn dump(&mut self, now_ns: u64, more: &[Event]) -> Result<Dump, WriteError> {
        self.settle(now_ns)?;
        let Some(ring) = self.ring_mut() else {
            return Err(WriteError::Invalid { what: "dump", why: "the writer keeps no window" });
        };
        ring.aside = Some(Vec::new());
        let added = more.iter().try_for_each(|event| self.push(event)).and_then(|()| self.flush());
        let lost = self.lost_by_class();
        let lists = self.encoded_lists();
        let gate = self.gate_for_dump();
        let Some(ring) = self.ring_mut() else { unreachable!("it was there above") };
        let aside = ring.aside.take().unwrap_or_default();
        added?;
        let events: Vec<_> = ring.events.iter().cloned().chain(aside).collect();
        let mut lost_before = lost;
        for chunk in &events {
            for (before, lost) in lost_before.iter_mut().zip(&chunk.lost) {
                *before = before.saturating_sub(*lost);
            }
        }
        Ok(Dump {
            dictionaries: ring.dictionaries.clone(),
            events,
            snapshot: ring.snapshots.front().cloned(),
            lists,
            from_ns: ring.begins_ns(),
            to_ns: now_ns,
            evicted: ring.evicted,
            lost_before,
            gate,
            account: None,
        })
    }

    /// Drops the dictionary entries that nothing needs, when there are enough of them. What `holder` names stays.
    ///
    /// # Errors
    /// When a chunk cannot be encoded.
    pub fn sweep(&mut self, holder: &mut dyn Holder) -> Result<(), WriteError> {
        let bytes = self.dictionary_bytes();
        match self.ring_mut() {
            Some(ring) if ring.is_sweep_due(bytes) => self.sweep_now(holder),
            _ => Ok(()),
        }
    }

    /// As [`TraceWriter::sweep`], whether it is worth it or not.
    ///
    /// # Errors
    /// As [`TraceWriter::sweep`].
    pub fn sweep_now(&mut self, holder: &mut dyn Holder) -> Result<(), WriteError> {
        // What open chunks refer to is known when they are closed.
        self.flush()?;
        self.queue_dictionaries()?;
        let mut alive = Ids::default();
        holder.held(&mut |id| alive.add(id));
        let Some(ring) = self.ring_mut() else { return Ok(()) };
        ring.mark(&mut alive);
        self.complete_ids(&mut alive);
        holder.forget(&|id| alive.has(id));
        if let Some(ring) = self.ring_mut() {
            ring.forget(&alive);
        }
        self.retain_ids(&alive)?;
        let bytes = self.dictionary_bytes();
        if let Some(ring) = self.ring_mut() {
            ring.swept_bytes = bytes;
        }
        Ok(())
    }

    /// Figures of the ring; `None` for a writer with a file.
    pub fn ring_stats(&self) -> Option<RingStats> {
        self.ring_ref().map(|ring| RingStats {
            bytes: ring.bytes,
            from_ns: ring.begins_ns(),
            events: ring.events.iter().map(|c| u64::from(c.header.records)).sum(),
            calls: calls(ring.events.iter()),
        })
    }
}
