//! Strings, tasks and objects by id: the writer's side interns, the reader's side looks up.
//!
//! An id is given once and keeps its meaning for the whole file. Entries reach the file in dictionary chunks: a run
//! of entries from a first id on.

use crate::metadata;
use crate::varint;
use crate::{DecodeError, Object, SockAddr, StrId, TaskDef};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::ops::Range;

/// Bytes a string may have; longer ones are cut.
pub(crate) const MAX_STRING: usize = 1 << 20;
/// Decoded bytes a dictionary chunk is filled to, unless one entry alone is longer.
const CHUNK_TARGET: usize = 256 << 10;
/// Entries a reader keeps of one dictionary. An id costs the reader memory even when its entry was lost.
pub(crate) const MAX_ENTRIES: usize = 1 << 25;
/// Memory that dictionaries may take for every byte of the file. An entry of 8 bytes, compressed, takes about 100.
const MEMORY_PER_BYTE: usize = 64;
/// Memory that dictionaries may take in any case.
const MIN_MEMORY: usize = 16 << 20;
/// Memory that dictionaries never exceed.
const MAX_MEMORY: usize = 2 << 30;

/// The strings of a trace, one behind the other.
#[derive(Debug, Default)]
struct Strings {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Strings {
    fn get(&self, id: usize) -> Option<&[u8]> {
        let end = *self.ends.get(id)?;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        Some(&self.bytes[start..end])
    }
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }
}

/// The writer's side. Hashes are keyed: what a recorded program calls its files must not slow the recorder down.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    strings: Strings,
    /// Hash of a string → the latest id with that hash; older ones follow by `chain`.
    by_hash: HashMap<u64, u32>,
    chain: Vec<u32>,
    state: RandomState,
    tasks: Vec<TaskDef>,
    task_ids: HashMap<TaskDef, u32>,
    objects: Vec<Object>,
    object_ids: HashMap<Object, u32>,
    /// How many entries of each dictionary are in the file.
    written: [usize; 3],
    /// Bytes that the entries take, roughly.
    size: usize,
}

/// End of a hash chain.
const NO_ID: u32 = u32::MAX;

impl Interner {
    pub(crate) fn str(&mut self, bytes: &[u8]) -> u32 {
        let bytes = &bytes[..bytes.len().min(MAX_STRING)];
        let hash = self.state.hash_one(bytes);
        let latest = self.by_hash.get(&hash).copied().unwrap_or(NO_ID);
        let mut id = latest;
        while id != NO_ID {
            if self.strings.get(id as usize) == Some(bytes) {
                return id;
            }
            id = self.chain[id as usize];
        }
        let id = self.chain.len() as u32;
        self.strings.push(bytes);
        self.chain.push(latest);
        self.by_hash.insert(hash, id);
        self.size += bytes.len() + 4;
        id
    }

    pub(crate) fn task(&mut self, task: &TaskDef) -> u32 {
        intern(&mut self.tasks, &mut self.task_ids, task, &mut self.size)
    }

    pub(crate) fn object(&mut self, object: &Object) -> u32 {
        if let Some(id) = self.object_ids.get(object) {
            return *id;
        }
        // Addresses of the kernel are at most 128 bytes; anything longer must not outgrow a chunk.
        let mut object = object.clone();
        if let Object::Socket { local, peer, .. } = &mut object {
            for addr in [local, peer].into_iter().flatten() {
                if let SockAddr::Unix(data) | SockAddr::Other { data, .. } = addr {
                    data.truncate(MAX_STRING);
                }
            }
        }
        intern(&mut self.objects, &mut self.object_ids, &object, &mut self.size)
    }

    /// The cookie of an object that is a socket.
    pub(crate) fn cookie(&self, id: usize) -> Option<u64> {
        match self.objects.get(id) {
            Some(Object::Socket { cookie, .. }) => Some(cookie.0),
            _ => None,
        }
    }

    /// How many entries there are: strings, tasks, objects.
    pub(crate) fn len(&self) -> [usize; 3] {
        [self.chain.len(), self.tasks.len(), self.objects.len()]
    }

    /// How many entries are in the file.
    pub(crate) fn written(&self) -> [usize; 3] {
        self.written
    }

    pub(crate) fn set_written(&mut self, written: [usize; 3]) {
        self.written = written;
    }

    /// Bytes that a repetition of all entries takes, roughly, before compression.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The payload of a chunk with strings from `from` on, and where the next one begins.
    pub(crate) fn encode_strings(&self, from: usize, out: &mut Vec<u8>) -> usize {
        let mut end = from;
        let mut bytes = 0;
        while let Some(string) = self.strings.get(end) {
            bytes += string.len() + 3;
            if end > from && bytes > CHUNK_TARGET {
                break;
            }
            end += 1;
        }
        varint::put(out, from as u64);
        varint::put(out, (end - from) as u64);
        let strings = (from..end).filter_map(|id| self.strings.get(id));
        strings.clone().for_each(|s| varint::put(out, s.len() as u64));
        strings.for_each(|s| out.extend_from_slice(s));
        end
    }

    /// As [`Interner::encode_strings`], for tasks.
    pub(crate) fn encode_tasks(&self, from: usize, out: &mut Vec<u8>) -> Result<usize, DecodeError> {
        encode_entries(&self.tasks, from, out)
    }

    /// As [`Interner::encode_strings`], for objects.
    pub(crate) fn encode_objects(&self, from: usize, out: &mut Vec<u8>) -> Result<usize, DecodeError> {
        encode_entries(&self.objects, from, out)
    }
}

fn intern<T: Clone + Eq + Hash>(
    all: &mut Vec<T>,
    ids: &mut HashMap<T, u32>,
    entry: &T,
    size: &mut usize,
) -> u32 {
    if let Some(id) = ids.get(entry) {
        return *id;
    }
    let id = all.len() as u32;
    all.push(entry.clone());
    ids.insert(entry.clone(), id);
    *size += 16;
    id
}

fn encode_entries<T: serde::Serialize>(
    all: &[T],
    from: usize,
    out: &mut Vec<u8>,
) -> Result<usize, DecodeError> {
    let mut end = from;
    let mut bytes = 0;
    while let Some(entry) = all.get(end) {
        bytes += metadata::encoded_len(entry);
        if end > from && bytes > CHUNK_TARGET {
            break;
        }
        end += 1;
    }
    varint::put(out, from as u64);
    metadata::encode(&all[from..end], out)?;
    Ok(end)
}

/// The reader's side: entries by id, some of which may be lost.
#[derive(Debug)]
struct Sparse<T> {
    entries: Vec<T>,
    /// Ids below the longest known one that no chunk gave; empty in an intact file.
    lost: Vec<Range<usize>>,
    filler: T,
}

impl<T: Clone> Sparse<T> {
    fn new(filler: T) -> Self {
        Self { entries: Vec::new(), lost: Vec::new(), filler }
    }

    /// `budget`: bytes that the entries may still take.
    fn insert(&mut self, first: usize, new: Vec<T>, budget: &mut usize) -> Result<(), DecodeError> {
        let end = first.checked_add(new.len()).filter(|e| *e <= MAX_ENTRIES);
        let end = end.ok_or(DecodeError::Malformed("more dictionary entries than a trace may have"))?;
        let grows = end.saturating_sub(self.entries.len()).saturating_mul(size_of::<T>());
        *budget = budget.checked_sub(grows).ok_or(OVER_BUDGET)?;
        if first > self.entries.len() {
            self.lost.push(self.entries.len()..first);
            self.entries.resize(first, self.filler.clone());
        }
        let known = self.entries.len().min(end);
        for (id, entry) in (first..).zip(new) {
            if id < known {
                if self.is_lost(id) {
                    self.entries[id] = entry;
                }
            } else {
                self.entries.push(entry);
            }
        }
        self.found(first..end);
        Ok(())
    }

    fn is_lost(&self, id: usize) -> bool {
        self.lost.iter().any(|r| r.contains(&id))
    }

    /// Takes a range out of what is lost.
    fn found(&mut self, found: Range<usize>) {
        if !self.lost.is_empty() {
            self.lost = self
                .lost
                .iter()
                .flat_map(|r| [r.start..r.end.min(found.start), r.start.max(found.end)..r.end])
                .filter(|r| r.start < r.end)
                .collect();
        }
    }

    /// Declares a known entry lost.
    fn lose(&mut self, id: usize) {
        if !self.is_lost(id) {
            self.entries[id] = self.filler.clone();
            match self.lost.last_mut() {
                Some(range) if range.end == id => range.end += 1,
                _ => self.lost.push(id..id + 1),
            }
        }
    }

    fn knows(&self, id: usize) -> bool {
        id < self.entries.len() && (self.lost.is_empty() || !self.is_lost(id))
    }
}

/// Strings, tasks and objects of a trace that is being read.
#[derive(Debug)]
pub(crate) struct Dictionaries {
    strings: Sparse<(usize, u32)>,
    bytes: Vec<u8>,
    tasks: Sparse<TaskDef>,
    objects: Sparse<Object>,
    /// Bytes that may still be added.
    budget: usize,
}

const OVER_BUDGET: DecodeError =
    DecodeError::Malformed("larger dictionaries than a file of this size can have");

/// Stands for a task whose entry was lost. No event refers to it.
static UNKNOWN_TASK: TaskDef =
    TaskDef { tid: crate::Tid(0), tgid: crate::Tgid(0), comm: StrId(u32::MAX), start_ns: 0 };
/// Stands for an object whose entry was lost. No event refers to it.
static UNKNOWN_OBJECT: Object = Object::Anon { kind: StrId(u32::MAX), id: 0 };

impl Dictionaries {
    /// For a file of this length: what dictionaries may take in memory is in proportion to it.
    pub(crate) fn new(file_bytes: u64) -> Self {
        let file_bytes = usize::try_from(file_bytes).unwrap_or(usize::MAX);
        Self {
            budget: file_bytes.saturating_mul(MEMORY_PER_BYTE).saturating_add(MIN_MEMORY).min(MAX_MEMORY),
            strings: Sparse::new((0, 0)),
            bytes: Vec::new(),
            tasks: Sparse::new(UNKNOWN_TASK.clone()),
            objects: Sparse::new(UNKNOWN_OBJECT.clone()),
        }
    }

    pub(crate) fn add_strings(&mut self, payload: &[u8]) -> Result<(), DecodeError> {
        let mut at = 0;
        let first = first_id(payload, &mut at)?;
        let count = varint::get(payload, &mut at)?;
        // Every string costs at least its length's byte.
        let count = usize::try_from(count).ok().filter(|c| *c <= payload.len()).ok_or(DecodeError::Short)?;
        let mut lens = Vec::with_capacity(count);
        for _ in 0..count {
            lens.push(varint::get(payload, &mut at)?);
        }
        let mut new = Vec::with_capacity(count);
        let mut offset = self.bytes.len();
        let rest = &payload[at..];
        let mut total = 0usize;
        for len in lens {
            let len =
                usize::try_from(len).ok().filter(|l| *l <= rest.len() - total).ok_or(DecodeError::Short)?;
            new.push((offset, len as u32));
            offset += len;
            total += len;
        }
        if total != rest.len() {
            return Err(DecodeError::Malformed("bytes behind the last string"));
        }
        // A keyframe repeats what is there: only what was lost is worth the memory.
        let end = first + count;
        if end <= self.strings.entries.len()
            && self.strings.lost.iter().all(|r| r.end <= first || r.start >= end)
        {
            return Ok(());
        }
        self.budget = self.budget.checked_sub(rest.len()).ok_or(OVER_BUDGET)?;
        self.strings.insert(first, new, &mut self.budget)?;
        self.bytes.extend_from_slice(rest);
        Ok(())
    }

    pub(crate) fn add_tasks(&mut self, payload: &[u8]) -> Result<(), DecodeError> {
        let mut at = 0;
        let first = first_id(payload, &mut at)?;
        self.tasks.insert(first, metadata::decode(&payload[at..])?, &mut self.budget)
    }

    pub(crate) fn add_objects(&mut self, payload: &[u8]) -> Result<(), DecodeError> {
        let mut at = 0;
        let first = first_id(payload, &mut at)?;
        self.objects.insert(first, metadata::decode(&payload[at..])?, &mut self.budget)
    }

    /// Where strings are lost, so are the tasks and objects that they name: half an entry would be wrong data.
    pub(crate) fn lose_the_nameless(&mut self) {
        let nameless = |strings: &Sparse<_>, id: StrId| !strings.knows(id.0 as usize);
        for id in 0..self.tasks.entries.len() {
            if nameless(&self.strings, self.tasks.entries[id].comm) {
                self.tasks.lose(id);
            }
        }
        for id in 0..self.objects.entries.len() {
            let name = match &self.objects.entries[id] {
                Object::File { path, .. } => Some(*path),
                Object::Anon { kind, .. } => Some(*kind),
                Object::Socket { .. } | Object::Pipe { .. } => None,
            };
            if name.is_some_and(|name| nameless(&self.strings, name)) {
                self.objects.lose(id);
            }
        }
    }

    pub(crate) fn str(&self, id: u32) -> &[u8] {
        let (start, len) = self.strings.entries.get(id as usize).copied().unwrap_or((0, 0));
        &self.bytes[start..start + len as usize]
    }
    pub(crate) fn task(&self, id: u32) -> &TaskDef {
        self.tasks.entries.get(id as usize).unwrap_or(&UNKNOWN_TASK)
    }
    pub(crate) fn object(&self, id: u32) -> &Object {
        self.objects.entries.get(id as usize).unwrap_or(&UNKNOWN_OBJECT)
    }
    pub(crate) fn tasks(&self) -> &[TaskDef] {
        &self.tasks.entries
    }
    pub(crate) fn objects(&self) -> &[Object] {
        &self.objects.entries
    }
    pub(crate) fn len(&self) -> [usize; 3] {
        [self.strings.entries.len(), self.tasks.entries.len(), self.objects.entries.len()]
    }

    /// Whether an event may refer to it.
    pub(crate) fn knows(&self, reference: crate::codec::Ref) -> bool {
        use crate::codec::Ref;
        match reference {
            Ref::Str(id) => self.strings.knows(id.0 as usize),
            Ref::Task(id) => self.tasks.knows(id.0 as usize),
            Ref::Object(id) => self.objects.knows(id.0 as usize),
        }
    }

    /// How many entries were lost.
    pub(crate) fn lost(&self) -> usize {
        let count = |ranges: &[Range<usize>]| ranges.iter().map(ExactSizeIterator::len).sum::<usize>();
        count(&self.strings.lost) + count(&self.tasks.lost) + count(&self.objects.lost)
    }
}

fn first_id(payload: &[u8], at: &mut usize) -> Result<usize, DecodeError> {
    let first = varint::get(payload, at)?;
    usize::try_from(first)
        .ok()
        .filter(|f| *f <= MAX_ENTRIES)
        .ok_or(DecodeError::Malformed("more dictionary entries than a trace may have"))
}
