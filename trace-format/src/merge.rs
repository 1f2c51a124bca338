//! Streaming events in order of their ends, out of chunks that overlap in time.
//!
//! A chunk is opened when its earliest end is due and replayed row by row, so memory is that of the chunks that
//! overlap at one time: usually one per class.

use crate::codec::{self, Decoder};
use crate::density::{self, Density};
use crate::index::{self, IndexEntry};
use crate::reader::{Damage, Filter, LostEvents, ReadError, Trace};
use crate::source::{self, ChunkProblem};
use crate::{Aggregate, Class, Event, Object, Process, ProcessKind, Syscall};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Memory that open chunks may take together before order is given up.
const MAX_OPEN_BYTES: usize = 40 << 20;
/// Chunks that may be open in any case: one per class, and their successors.
const MIN_OPEN: usize = 4;
/// What an event that waits for its turn takes, and each element of its lists.
const HELD_BYTES: usize = 320;
const ELEMENT_BYTES: usize = 16;

fn held_bytes(event: &Event) -> usize {
    HELD_BYTES + density::elements(event) * ELEMENT_BYTES
}

/// An event that waits for its turn within a disordered chunk.
struct Held {
    key: Reverse<(u64, u32)>,
    event: Event,
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl Eq for Held {}
impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// An open chunk.
struct Cursor {
    decoder: Decoder,
    entry: usize,
    left: u32,
    row: u32,
    disorder_ns: u64,
    latest_ns: u64,
    held: BinaryHeap<Held>,
    /// The next event, decoded.
    peeked: Option<Event>,
    /// Events that refer to lost dictionary entries.
    unresolved: u32,
    memory: usize,
}

/// When an event is due: its end, the rank of its class, the sequence of its chunk; and the slot of the chunk.
type Due = (u64, u8, u32, usize);

/// See [`Trace::events`].
pub struct Events<'a> {
    trace: &'a Trace,
    filter: Filter,
    /// Chunks to be opened, the next one last.
    closed: Vec<usize>,
    open: Vec<Option<Box<Cursor>>>,
    open_bytes: usize,
    /// Bytes of events that wait for their turn, in all open chunks.
    held: usize,
    density: Density,
    /// The next event of each open chunk.
    due: BinaryHeap<Reverse<Due>>,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    errors: Vec<ReadError>,
    disordered: bool,
    too_dense: bool,
}

/// Events that end at the same tick: causes come before calls, and the end of a task after the call that it was in, which
/// ends at the same moment.
fn rank(event: &Event) -> u8 {
    match (event.class(), event) {
        (_, Event::Process(Process { kind: ProcessKind::Exit { .. }, .. })) => 5,
        (Class::Process, _) => 0,
        (Class::Connection, _) => 1,
        (Class::Signal, _) => 2,
        (Class::Syscall, _) => 4,
        _ => 3,
    }
}

impl<'a> Events<'a> {
    pub(crate) fn new(trace: &'a Trace, filter: &Filter) -> Self {
        // From here on times are those of the file; `next` gives them those of the trace.
        let mut filter = filter.clone();
        for time in [&mut filter.from_ns, &mut filter.to_ns].into_iter().flatten() {
            *time = time.saturating_add(trace.origin_ns());
        }
        let mut closed: Vec<usize> = (0..trace.entries().len())
            .filter(|at| {
                let entry = &trace.entries()[*at];
                class_of(entry).is_some_and(|class| filter.wants_chunk(class, entry, trace.header().tick_ns))
            })
            .collect();
        closed.sort_by_key(|at| {
            let entry = &trace.entries()[*at];
            Reverse((entry.min_end, entry.sequence))
        });
        let density = Density::of(trace);
        let mut errors = Vec::new();
        if let Err(error) = density.events(trace) {
            errors.push(error);
            closed.clear();
        }
        Self {
            trace,
            filter,
            density,
            closed,
            open: Vec::new(),
            open_bytes: 0,
            held: 0,
            due: BinaryHeap::new(),
            zstd: None,
            errors,
            disordered: false,
            too_dense: false,
        }
    }

    fn entry(&self, at: usize) -> &'a IndexEntry {
        &self.trace.entries()[at]
    }

    /// Reports a chunk of which `count` events are lost.
    fn damaged(&mut self, at: usize, count: u32, what: &dyn std::fmt::Display) {
        let entry = self.entry(at);
        let tick_ns = u64::from(self.trace.header().tick_ns);
        let lost = class_of(entry).filter(|_| count > 0).map(|class| LostEvents {
            class,
            count: count.into(),
            from_ns: entry.min_start.saturating_mul(tick_ns),
            to_ns: entry.max_end.saturating_mul(tick_ns),
        });
        let name = class_of(entry).map_or("?", Class::name);
        let what = match count {
            0 => what.to_string(),
            n if n == entry.records => format!("a chunk of {n} {name} events is lost: {what}"),
            n => format!("{n} of {} {name} events of a chunk are lost: {what}", entry.records),
        };
        let damage = Damage { offset: entry.offset, bytes: entry.total_len(), what, lost };
        self.errors.push(ReadError::Damaged { path: self.trace.path().into(), damage });
    }

    /// Opens a chunk and decodes its first event.
    fn open(&mut self, at: usize) {
        let entry = self.entry(at);
        let Some(class) = class_of(entry) else { return };
        let payload = match self.payload(entry) {
            Ok(payload) => payload,
            Err(ChunkProblem::Io(source)) => {
                self.errors.push(ReadError::Io { path: self.trace.path().into(), source });
                return;
            }
            Err(ChunkProblem::Bad(what)) => {
                return self.damaged(at, entry.records, &what);
            }
        };
        let memory = entry_memory(entry);
        let tick_ns = self.trace.header().tick_ns;
        let decoder = match Decoder::new(class, tick_ns, payload, entry.records) {
            Ok(decoder) => decoder,
            Err(e) => {
                return self.damaged(at, entry.records, &e);
            }
        };
        let mut cursor = Box::new(Cursor {
            decoder,
            entry: at,
            left: entry.records,
            row: 0,
            disorder_ns: entry.disorder.saturating_mul(tick_ns.into()),
            latest_ns: 0,
            held: BinaryHeap::new(),
            peeked: None,
            unresolved: 0,
            memory,
        });
        self.advance(&mut cursor);
        if cursor.peeked.is_some() {
            self.open_bytes += memory;
            let slot = self.open.iter().position(Option::is_none).unwrap_or_else(|| {
                self.open.push(None);
                self.open.len() - 1
            });
            self.due.extend(self.key(slot, &cursor).map(Reverse));
            self.open[slot] = Some(cursor);
        }
    }

    fn payload(&mut self, entry: &IndexEntry) -> Result<Vec<u8>, ChunkProblem> {
        let source = self.trace.source();
        let header = source.header_at(entry.offset)?.map_err(|e| ChunkProblem::Bad(e.to_string()))?;
        if !entry.agrees(&header) || header.trace_id != self.trace.id() {
            return Err(ChunkProblem::Bad("it is not the chunk that the index says".into()));
        }
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(source::decompressor()?),
        };
        source.payload(entry.offset, &header, zstd)
    }

    /// When the cursor's next event is due.
    fn key(&self, slot: usize, cursor: &Cursor) -> Option<Due> {
        let event = cursor.peeked.as_ref()?;
        Some((event.end_ns(), rank(event), self.entry(cursor.entry).sequence, slot))
    }

    /// Decodes the cursor's next event in order into `peeked`; reports what is wrong with the chunk at its end.
    fn advance(&mut self, cursor: &mut Cursor) {
        cursor.peeked = None;
        while cursor.left > 0 {
            cursor.left -= 1;
            let event = match cursor.decoder.next() {
                Ok(event) => event,
                Err(e) => {
                    let lost = cursor.left + 1;
                    self.damaged(cursor.entry, lost, &e);
                    cursor.left = 0;
                    break;
                }
            };
            if cursor.left == 0
                && let Err(e) = cursor.decoder.check_end()
            {
                self.damaged(cursor.entry, 0, &e);
            }
            let Some(event) = event else { continue };
            if let Err(error) = self.density.elements(self.trace, &event) {
                // Nothing more of it is read.
                self.errors.push(error);
                self.closed.clear();
                self.too_dense = true;
                return;
            }
            let dictionaries = self.trace.dictionaries();
            if !codec::all_refs(&event, |id| dictionaries.knows(id)) {
                cursor.unresolved += 1;
                continue;
            }
            if cursor.disorder_ns == 0 {
                if self.filter.wants(&event, self.trace) {
                    cursor.peeked = Some(event);
                    return;
                }
                continue;
            }
            let end = event.end_ns();
            cursor.latest_ns = cursor.latest_ns.max(end);
            if self.filter.wants(&event, self.trace) {
                self.held += held_bytes(&event);
                cursor.held.push(Held { key: Reverse((end, cursor.row)), event });
                cursor.row += 1;
            }
            let safe = cursor.latest_ns.saturating_sub(cursor.disorder_ns);
            let is_due = cursor.held.peek().is_some_and(|held| held.key.0.0 <= safe);
            let is_full = self.held > MAX_OPEN_BYTES;
            if is_full && !is_due {
                self.give_up_order(cursor.entry);
            }
            if is_due || is_full {
                self.release(cursor);
                if cursor.peeked.is_some() {
                    return;
                }
            }
        }
        if cursor.unresolved > 0 {
            let n = std::mem::take(&mut cursor.unresolved);
            self.damaged(cursor.entry, n, &"they refer to dictionary entries that are lost");
        }
        self.release(cursor);
    }

    /// The earliest of the events that wait is the next.
    fn release(&mut self, cursor: &mut Cursor) {
        if let Some(held) = cursor.held.pop() {
            self.held -= held_bytes(&held.event);
            cursor.peeked = Some(held.event);
        }
    }

    /// Says once that events come out of order from here on.
    fn give_up_order(&mut self, at: usize) {
        if !self.disordered {
            self.disordered = true;
            let (path, offset) = (self.trace.path().into(), self.entry(at).offset);
            self.errors.push(ReadError::Disordered { path, offset });
        }
    }

    /// Whether one more chunk may be open.
    fn has_room(&self, entry: &IndexEntry) -> bool {
        let taken = self.open_bytes + self.held;
        self.due.len() < MIN_OPEN || taken + entry_memory(entry) <= MAX_OPEN_BYTES
    }
}

/// What an open chunk takes, besides the events that wait.
fn entry_memory(entry: &IndexEntry) -> usize {
    entry.decoded as usize * 2 + 4096
}

impl Iterator for Events<'_> {
    type Item = Result<Event, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(error) = self.errors.pop() {
                return Some(Err(error));
            }
            if self.too_dense {
                return None;
            }
            let due = self.due.peek().map(|Reverse((end, ..))| *end);
            if let Some(at) = self.closed.last().copied() {
                let entry = self.entry(at);
                let min_end = entry.min_end.saturating_mul(self.trace.header().tick_ns.into());
                if due.is_none_or(|due| min_end <= due) {
                    if self.has_room(entry) {
                        self.closed.pop();
                        self.open(at);
                        continue;
                    }
                    if !self.disordered {
                        self.give_up_order(at);
                        continue;
                    }
                }
            }
            let Reverse((.., slot)) = *self.due.peek()?;
            let mut cursor = self.open[slot].take()?;
            let event = cursor.peeked.take();
            self.advance(&mut cursor);
            if let Some(key) = self.key(slot, &cursor) {
                self.open[slot] = Some(cursor);
                // In place: usually the same chunk's next event is due next.
                if let Some(mut first) = self.due.peek_mut() {
                    *first = Reverse(key);
                }
            } else {
                self.due.pop();
                self.open_bytes -= cursor.memory;
            }
            let origin_ns = self.trace.origin_ns();
            if let Some(mut event) = event
                && (origin_ns == 0 || event.rebase(origin_ns))
            {
                return Some(Ok(event));
            }
        }
    }
}

/// The class whose events a chunk holds.
pub(crate) fn class_of(entry: &IndexEntry) -> Option<Class> {
    codec::class_of(u64::from(entry.kind.checked_sub(crate::layout::kind::EVENTS)?))
}

impl Filter {
    fn wants_chunk(&self, class: Class, entry: &IndexEntry, tick_ns: u32) -> bool {
        let ns = |ticks: u64| ticks.saturating_mul(tick_ns.into());
        (self.classes.is_empty() || self.classes.contains(&class))
            && self.from_ns.is_none_or(|from| ns(entry.max_end) >= from)
            && self.to_ns.is_none_or(|to| ns(entry.min_start) <= to)
            && (self.tasks.is_empty()
                || !matches!(class, Class::Resource | Class::Loss | Class::Marker | Class::Anchor)
                    && index::may_contain(entry.tasks.as_ref(), |id| {
                        self.tasks.iter().any(|task| u64::from(task.0) == id)
                    }))
            && (self.cookies.is_empty()
                || matches!(
                    class,
                    Class::Syscall | Class::Connection | Class::Socket | Class::Dns | Class::Aggregate
                ) && index::may_contain(entry.cookies.as_ref(), |id| {
                    self.cookies.iter().any(|cookie| cookie.0 == id)
                }))
    }

    fn wants(&self, event: &Event, trace: &Trace) -> bool {
        self.from_ns.is_none_or(|from| event.end_ns() >= from)
            && self.to_ns.is_none_or(|to| event.start_ns() <= to)
            && (self.tasks.is_empty() || event.task().is_some_and(|task| self.tasks.contains(&task)))
            && (self.cookies.is_empty()
                || match event {
                    Event::Connection(e) => self.cookies.contains(&e.cookie),
                    Event::Socket(e) => self.cookies.contains(&e.cookie),
                    Event::Dns(e) => self.cookies.contains(&e.cookie),
                    Event::Syscall(Syscall { object, .. }) | Event::Aggregate(Aggregate { object, .. }) => {
                        object.is_some_and(|object| match trace.object(object) {
                            Object::Socket { cookie, .. } => self.cookies.contains(cookie),
                            _ => false,
                        })
                    }
                    _ => false,
                })
    }
}
