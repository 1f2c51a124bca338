//! Strings, tasks and objects by id: the writer's side interns, the reader's side looks up.
//!
//! An id is given once and keeps its meaning for the whole file. Entries reach the file in dictionary chunks: a run
//! of entries from a first id on.

use crate::codec::Ref;
use crate::metadata;
use crate::varint;
use crate::{DecodeError, Object, SockAddr, StrId, TaskDef};
use rustc_hash::{FxHashMap, FxHashSet};
use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Bytes a string may have; longer ones are cut.
pub(crate) const MAX_STRING: usize = 1 << 20;
/// Decoded bytes a dictionary chunk is filled to, unless one entry alone is longer.
const CHUNK_TARGET: usize = 256 << 10;
/// Decoded bytes that a chunk of tasks or objects may have: what they take in memory is many times as much.
const MAX_ENTRIES_PAYLOAD: usize = 512 << 10;
/// Bytes an address of an object may have; the kernel's have at most 128.
const MAX_ADDRESS: usize = 4096;
/// Entries a reader keeps of one dictionary. An id costs the reader memory even when its entry was lost.
pub(crate) const MAX_ENTRIES: usize = 1 << 25;
/// Memory that dictionaries may take for every byte of the file. An entry of 8 bytes, compressed, takes about 100.
const MEMORY_PER_BYTE: usize = 64;
/// Memory that dictionaries may take in any case.
const MIN_MEMORY: usize = 16 << 20;
/// Memory that dictionaries never exceed.
const MAX_MEMORY: usize = 2 << 30;

/// Bytes of entries after which a generation is closed. Two are kept.
const GENERATION_BYTES: usize = 8 << 20;
/// Of a dictionary that forgets nothing by itself.
const ENDLESS: usize = usize::MAX;
/// What an entry takes besides its own bytes, roughly: its slot in a hash table.
const ENTRY_OVERHEAD: usize = 48;

/// One dictionary of the writer: what was seen lately, by content.
///
/// Entries live in two generations, so memory stays bounded while a recording goes on for days: an entry that was not
/// asked for while a whole generation filled is forgotten, and gets a new id when it comes again.
struct Interned<T> {
    young: HashMap<T, u32>,
    old: HashMap<T, u32>,
    young_bytes: usize,
    old_bytes: usize,
    /// After how many bytes a generation is closed.
    generation_bytes: usize,
    next_id: u32,
    /// Ids below `next_id` whose entries [`Interned::retain`] dropped, to be given again, the longest free one first.
    free: VecDeque<u32>,
    /// Entries that are not in the file yet.
    pending: Vec<(u32, T)>,
    /// What ids mean, where somebody asks that. Forgets with the entries, later.
    known: Option<FxHashMap<u32, T>>,
}

impl<T: Clone + Eq + Hash> Interned<T> {
    fn new(generation_bytes: usize) -> Self {
        let (young, old) = (HashMap::new(), HashMap::new());
        let (free, pending) = (VecDeque::new(), Vec::new());
        let (next_id, known) = (0, None);
        Self { young, old, young_bytes: 0, old_bytes: 0, generation_bytes, next_id, free, pending, known }
    }

    /// The id of an entry; `bytes` is what it takes. The second value: whether the entry is new.
    fn id<Q>(&mut self, entry: &Q, bytes: usize, own: impl FnOnce() -> T) -> (u32, bool)
    where
        T: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(id) = self.young.get(entry) {
            return (*id, false);
        }
        let bytes = bytes + ENTRY_OVERHEAD;
        let (entry, id, is_new) = if let Some((entry, id)) = self.old.remove_entry(entry) {
            self.old_bytes -= bytes.min(self.old_bytes);
            (entry, id, false)
        } else {
            let entry = own();
            let id = self.free.pop_front().unwrap_or_else(|| {
                self.next_id += 1;
                self.next_id - 1
            });
            self.pending.push((id, entry.clone()));
            if let Some(known) = &mut self.known {
                known.insert(id, entry.clone());
            }
            (entry, id, true)
        };
        if self.young_bytes + bytes > self.generation_bytes {
            self.old = std::mem::take(&mut self.young);
            self.old_bytes = std::mem::take(&mut self.young_bytes);
            if let Some(known) = &mut self.known {
                let old: FxHashSet<u32> = self.old.values().copied().collect();
                known.retain(|known_id, _| old.contains(known_id) || *known_id == id);
            }
        }
        self.young.insert(entry, id);
        self.young_bytes += bytes;
        (id, is_new)
    }

    /// All entries that are not forgotten and are in the file, in id order.
    fn written(&self) -> Vec<(u32, &T)> {
        let pending: FxHashSet<u32> = self.pending.iter().map(|(id, _)| *id).collect();
        let all = self.young.iter().chain(&self.old).map(|(entry, id)| (*id, entry));
        let mut all: Vec<(u32, &T)> = all.filter(|(id, _)| !pending.contains(id)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// The entries that are not in the file, in id order.
    fn pending(&self) -> Vec<(u32, &T)> {
        let mut all: Vec<(u32, &T)> = self.pending.iter().map(|(id, entry)| (*id, entry)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Drops the entries whose ids are not alive; their ids will be given again. `size`: what was given to
    /// [`Interned::id`].
    fn retain(&mut self, alive: impl Fn(u32) -> bool, size: impl Fn(&T) -> usize) {
        let Self { young, old, young_bytes, old_bytes, free, pending, known, .. } = self;
        pending.retain(|(id, _)| alive(*id));
        if let Some(known) = known {
            known.retain(|id, _| alive(*id));
        }
        let mut dropped = Vec::new();
        for (entries, bytes) in [(young, young_bytes), (old, old_bytes)] {
            entries.retain(|entry, id| {
                let keep = alive(*id);
                if !keep {
                    *bytes -= (size(entry) + ENTRY_OVERHEAD).min(*bytes);
                    dropped.push(*id);
                }
                keep
            });
            entries.shrink_to_fit();
        }
        dropped.sort_unstable();
        free.extend(dropped);
    }

    /// From here on, tells what ids mean.
    fn keep_known(&mut self) {
        let known = self.entries().map(|(entry, id)| (id, entry.clone())).collect();
        self.known = Some(known);
    }

    fn known(&self, id: u32) -> Option<&T> {
        self.known.as_ref()?.get(&id)
    }

    fn entries(&self) -> impl Iterator<Item = (&T, u32)> {
        self.young.iter().chain(&self.old).map(|(entry, id)| (entry, *id))
    }

    fn bytes(&self) -> usize {
        self.young_bytes + self.old_bytes
    }
}

/// Which dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Strings,
    Tasks,
    Objects,
}

/// All dictionaries, in the order in which they are written: entries refer to those in front.
pub(crate) const KINDS: [Kind; 3] = [Kind::Strings, Kind::Tasks, Kind::Objects];

/// A set of ids of one dictionary.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdSet(Vec<u64>);

impl IdSet {
    pub(crate) fn add(&mut self, id: u32) {
        let word = id as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (id % 64);
    }

    pub(crate) fn has(&self, id: u32) -> bool {
        self.0.get(id as usize / 64).is_some_and(|word| word & 1 << (id % 64) != 0)
    }
}

/// Sets of ids of all dictionaries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids {
    pub(crate) strings: IdSet,
    pub(crate) tasks: IdSet,
    pub(crate) objects: IdSet,
}

impl Ids {
    pub(crate) fn add(&mut self, reference: Ref) {
        match reference {
            Ref::Str(id) => self.strings.add(id.0),
            Ref::Task(id) => self.tasks.add(id.0),
            Ref::Object(id) => self.objects.add(id.0),
        }
    }

    pub(crate) fn has(&self, reference: Ref) -> bool {
        match reference {
            Ref::Str(id) => self.strings.has(id.0),
            Ref::Task(id) => self.tasks.has(id.0),
            Ref::Object(id) => self.objects.has(id.0),
        }
    }
}

/// The writer's side. Hashes are keyed: what a recorded program calls its files must not slow the recorder down.
pub(crate) struct Interner {
    strings: Interned<Box<[u8]>>,
    tasks: Interned<TaskDef>,
    objects: Interned<Object>,
    /// Object id → cookie, 0 for what is no socket. Forgets with `objects`, later.
    cookies: FxHashMap<u32, u64>,
}

impl Interner {
    pub(crate) fn new() -> Self {
        Self::with(GENERATION_BYTES)
    }

    /// One that forgets nothing until [`Interner::retain`].
    pub(crate) fn endless() -> Self {
        Self::with(ENDLESS)
    }

    fn with(generation_bytes: usize) -> Self {
        Self {
            strings: Interned::new(generation_bytes),
            tasks: Interned::new(generation_bytes),
            objects: Interned::new(generation_bytes),
            cookies: FxHashMap::default(),
        }
    }

    /// Adds the strings that the living tasks and objects are named by.
    pub(crate) fn complete(&self, alive: &mut Ids) {
        let tasks = self.tasks.entries().filter(|(_, id)| alive.tasks.has(*id));
        let mut names: Vec<StrId> = tasks.map(|(task, _)| task.comm).collect();
        let objects = self.objects.entries().filter(|(_, id)| alive.objects.has(*id));
        names.extend(objects.filter_map(|(object, _)| name_of(object)));
        for name in names {
            alive.strings.add(name.0);
        }
    }

    /// Drops what is not alive; the ids will be given again.
    pub(crate) fn retain(&mut self, alive: &Ids) {
        self.strings.retain(|id| alive.strings.has(id), |string| string.len());
        self.tasks.retain(|id| alive.tasks.has(id), |_| size_of::<TaskDef>());
        self.objects.retain(|id| alive.objects.has(id), object_bytes);
        self.cookies.retain(|id, _| alive.objects.has(*id));
    }

    pub(crate) fn str(&mut self, bytes: &[u8]) -> u32 {
        let bytes = &bytes[..bytes.len().min(MAX_STRING)];
        self.strings.id(bytes, bytes.len(), || bytes.into()).0
    }

    /// The id of a string that is in the dictionary already.
    pub(crate) fn known_str(&mut self, bytes: &[u8]) -> Option<u32> {
        match self.strings.young.get(bytes) {
            Some(id) => Some(*id),
            None if self.strings.old.contains_key(bytes) => Some(self.str(bytes)),
            None => None,
        }
    }

    pub(crate) fn task(&mut self, task: &TaskDef) -> u32 {
        self.tasks.id(task, size_of::<TaskDef>(), || task.clone()).0
    }

    pub(crate) fn object(&mut self, object: &Object) -> u32 {
        let cookie = match object {
            Object::Socket { local, peer, cookie, .. } => {
                let long = [local, peer].into_iter().flatten().any(|addr| addr_bytes(addr) > MAX_ADDRESS);
                if long {
                    return self.object(&with_short_addresses(object));
                }
                cookie.0
            }
            _ => 0,
        };
        let (id, is_new) = self.objects.id(object, object_bytes(object), || object.clone());
        if is_new {
            self.cookies.insert(id, cookie);
            if self.cookies.len() > 2 * (self.objects.young.len() + self.objects.old.len()) {
                let known: FxHashSet<u32> =
                    self.objects.young.values().chain(self.objects.old.values()).copied().collect();
                self.cookies.retain(|id, _| known.contains(id));
            }
        }
        id
    }

    /// The cookie of an object, 0 for what is no socket; `None` when it is forgotten.
    pub(crate) fn cookie(&self, id: u64) -> Option<u64> {
        u32::try_from(id).ok().and_then(|id| self.cookies.get(&id)).copied()
    }

    /// From here on, tells what ids mean. It takes the memory of the entries once more.
    pub(crate) fn keep_known(&mut self) {
        self.strings.keep_known();
        self.tasks.keep_known();
        self.objects.keep_known();
    }

    pub(crate) fn known_string(&self, id: u32) -> Option<&[u8]> {
        self.strings.known(id).map(|string| &**string)
    }

    pub(crate) fn known_task(&self, id: u32) -> Option<&TaskDef> {
        self.tasks.known(id)
    }

    pub(crate) fn known_object(&self, id: u32) -> Option<&Object> {
        self.objects.known(id)
    }

    /// How many ids were given: strings, tasks, objects.
    pub(crate) fn len(&self) -> [u32; 3] {
        [self.strings.next_id, self.tasks.next_id, self.objects.next_id]
    }

    /// Bytes that a repetition of all entries takes, roughly, before compression.
    pub(crate) fn bytes(&self) -> usize {
        self.strings.bytes() + self.tasks.bytes() + self.objects.bytes()
    }

    /// Payloads of dictionary chunks: entries that are not in the file yet, or all that are.
    pub(crate) fn payloads(&self, kind: Kind, repeat: bool) -> Result<Vec<(u32, Vec<u8>)>, DecodeError> {
        match kind {
            Kind::Strings => {
                let all = if repeat { self.strings.written() } else { self.strings.pending() };
                split(&all, |string| string.len() + 3, encode_strings)
            }
            Kind::Tasks => {
                let all = if repeat { self.tasks.written() } else { self.tasks.pending() };
                split(&all, metadata::encoded_len, encode_entries)
            }
            Kind::Objects => {
                let all = if repeat { self.objects.written() } else { self.objects.pending() };
                split(&all, metadata::encoded_len, encode_entries)
            }
        }
    }

    /// What was pending is in the file.
    pub(crate) fn set_written(&mut self) {
        self.strings.pending.clear();
        self.tasks.pending.clear();
        self.objects.pending.clear();
    }

    pub(crate) fn has_pending(&self) -> bool {
        !(self.strings.pending.is_empty() && self.tasks.pending.is_empty() && self.objects.pending.is_empty())
    }
}

/// What an object takes.
fn object_bytes(object: &Object) -> usize {
    let addresses = match object {
        Object::Socket { local, peer, .. } => [local, peer].into_iter().flatten().map(addr_bytes).sum(),
        _ => 0,
    };
    size_of::<Object>() + addresses
}

/// The string that names an object.
fn name_of(object: &Object) -> Option<StrId> {
    match object {
        Object::File { path, .. } => Some(*path),
        Object::Anon { kind, .. } => Some(*kind),
        Object::Socket { .. } | Object::Pipe { .. } => None,
    }
}

fn addr_bytes(addr: &SockAddr) -> usize {
    match addr {
        SockAddr::Inet(_) => 0,
        SockAddr::Unix(data) | SockAddr::Other { data, .. } => data.len(),
    }
}

/// Anything longer must not outgrow a chunk.
fn with_short_addresses(object: &Object) -> Object {
    let mut object = object.clone();
    if let Object::Socket { local, peer, .. } = &mut object {
        for addr in [local, peer].into_iter().flatten() {
            if let SockAddr::Unix(data) | SockAddr::Other { data, .. } = addr {
                data.truncate(MAX_ADDRESS);
            }
        }
    }
    object
}

/// Splits entries into payloads: (number of entries, bytes).
fn split<T>(
    all: &[(u32, &T)],
    len: impl Fn(&T) -> usize,
    encode: impl Fn(&[&T], &mut Vec<u8>) -> Result<(), DecodeError>,
) -> Result<Vec<(u32, Vec<u8>)>, DecodeError> {
    let mut payloads = Vec::new();
    let mut rest = all;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|(_, entry)| {
            bytes += len(entry);
            bytes <= CHUNK_TARGET
        });
        let count = fits.count().max(1);
        let (part, behind) = rest.split_at(count);
        let mut payload = Vec::new();
        varint::put(&mut payload, count as u64);
        let mut expected = 0;
        for (id, _) in part {
            // Distance to the id behind the previous one: 0, except where entries are forgotten.
            varint::put(&mut payload, u64::from(*id) - expected);
            expected = u64::from(*id) + 1;
        }
        let entries: Vec<&T> = part.iter().map(|(_, entry)| *entry).collect();
        encode(&entries, &mut payload)?;
        payloads.push((count as u32, payload));
        rest = behind;
    }
    Ok(payloads)
}

#[expect(clippy::unnecessary_wraps, clippy::borrowed_box, reason = "the signature of its sibling")]
fn encode_strings(strings: &[&Box<[u8]>], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    for string in strings {
        varint::put(out, string.len() as u64);
    }
    for string in strings {
        out.extend_from_slice(string);
    }
    Ok(())
}

fn encode_entries<T>(entries: &[&T], out: &mut Vec<u8>) -> Result<(), DecodeError>
where
    for<'a> [&'a T]: metadata::Told,
{
    metadata::encode(entries, out)
}

/// The reader's side: entries by id, some of which may be lost.
#[derive(Debug)]
struct Sparse<T> {
    entries: Vec<T>,
    /// Whether an entry is lost, by id; ids behind the end are not. Empty in an intact file.
    lost: Vec<bool>,
    lost_count: usize,
    filler: T,
}

impl<T: Clone> Sparse<T> {
    fn new(filler: T) -> Self {
        Self { entries: Vec::new(), lost: Vec::new(), lost_count: 0, filler }
    }

    /// Adds entries; known ones stay as they are. `budget`: bytes that the entries may still take.
    fn insert(&mut self, ids: &[usize], new: Vec<T>, budget: &mut usize) -> Result<(), DecodeError> {
        let end = ids.last().map_or(0, |id| id + 1);
        let grows = end.saturating_sub(self.entries.len()).saturating_mul(size_of::<T>());
        *budget = budget.checked_sub(grows).ok_or(OVER_BUDGET)?;
        for (id, entry) in ids.iter().copied().zip(new) {
            let known = self.entries.len();
            if id == known {
                self.entries.push(entry);
            } else if id > known {
                self.entries.resize(id, self.filler.clone());
                (known..id).for_each(|id| self.set_lost(id));
                self.entries.push(entry);
            } else if self.is_lost(id) {
                self.entries[id] = entry;
                self.lost[id] = false;
                self.lost_count -= 1;
            }
        }
        Ok(())
    }

    fn is_lost(&self, id: usize) -> bool {
        self.lost.get(id).copied().unwrap_or(false)
    }

    fn set_lost(&mut self, id: usize) {
        if self.lost.len() <= id {
            self.lost.resize(id + 1, false);
        }
        self.lost[id] = true;
        self.lost_count += 1;
    }

    /// Declares a known entry lost.
    fn lose(&mut self, id: usize) {
        if !self.is_lost(id) {
            self.entries[id] = self.filler.clone();
            self.set_lost(id);
        }
    }

    fn knows(&self, id: usize) -> bool {
        id < self.entries.len() && !self.is_lost(id)
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

    /// Adds the payload of a dictionary chunk.
    pub(crate) fn add(&mut self, kind: Kind, payload: &[u8]) -> Result<(), DecodeError> {
        if kind != Kind::Strings && payload.len() > MAX_ENTRIES_PAYLOAD {
            return Err(DecodeError::Malformed("more entries than a chunk may have"));
        }
        let mut at = 0;
        let ids = parse_ids(payload, &mut at)?;
        let rest = &payload[at..];
        match kind {
            Kind::Strings => self.add_strings(&ids, rest),
            Kind::Tasks => self.tasks.insert(&ids, decode_entries(&ids, rest)?, &mut self.budget),
            Kind::Objects => self.objects.insert(&ids, decode_entries(&ids, rest)?, &mut self.budget),
        }
    }

    fn add_strings(&mut self, ids: &[usize], payload: &[u8]) -> Result<(), DecodeError> {
        let mut at = 0;
        let mut lens = Vec::with_capacity(ids.len());
        for _ in ids {
            lens.push(varint::get(payload, &mut at)?);
        }
        let mut rest = &payload[at..];
        // A keyframe repeats what is there: only what was lost is worth the memory.
        let mut new_ids = Vec::new();
        let mut new = Vec::new();
        let mut bytes = Vec::new();
        for (id, len) in ids.iter().zip(lens) {
            let len = usize::try_from(len).ok().filter(|l| *l <= rest.len()).ok_or(DecodeError::Short)?;
            let (string, behind) = rest.split_at(len);
            rest = behind;
            if !self.strings.knows(*id) {
                new_ids.push(*id);
                new.push((self.bytes.len() + bytes.len(), len as u32));
                bytes.extend_from_slice(string);
            }
        }
        if !rest.is_empty() {
            return Err(DecodeError::Malformed("bytes behind the last string"));
        }
        self.budget = self.budget.checked_sub(bytes.len()).ok_or(OVER_BUDGET)?;
        self.strings.insert(&new_ids, new, &mut self.budget)?;
        self.bytes.extend_from_slice(&bytes);
        Ok(())
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
            if name_of(&self.objects.entries[id]).is_some_and(|name| nameless(&self.strings, name)) {
                self.objects.lose(id);
            }
        }
    }

    /// Tasks that began before this time were there at the start.
    pub(crate) fn rebase(&mut self, origin_ns: u64) {
        for task in &mut self.tasks.entries {
            task.start_ns = task.start_ns.saturating_sub(origin_ns);
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
    /// Whether an event may refer to it.
    pub(crate) fn knows(&self, reference: Ref) -> bool {
        match reference {
            Ref::Str(id) => self.strings.knows(id.0 as usize),
            Ref::Task(id) => self.tasks.knows(id.0 as usize),
            Ref::Object(id) => self.objects.knows(id.0 as usize),
        }
    }

    /// How many entries were lost.
    pub(crate) fn lost(&self) -> usize {
        self.strings.lost_count + self.tasks.lost_count + self.objects.lost_count
    }
}

/// The ascending ids at the start of a dictionary payload.
fn parse_ids(payload: &[u8], at: &mut usize) -> Result<Vec<usize>, DecodeError> {
    let count = varint::get(payload, at)?;
    // Every entry costs at least its id's byte.
    let count = usize::try_from(count).ok().filter(|c| *c <= payload.len()).ok_or(DecodeError::Short)?;
    let mut ids = Vec::with_capacity(count);
    let mut expected = 0usize;
    for _ in 0..count {
        let distance = usize::try_from(varint::get(payload, at)?).unwrap_or(usize::MAX);
        let id = expected.checked_add(distance).filter(|id| *id < MAX_ENTRIES);
        let id = id.ok_or(DecodeError::Malformed("more dictionary entries than a trace may have"))?;
        ids.push(id);
        expected = id + 1;
    }
    Ok(ids)
}

fn decode_entries<T: serde::de::DeserializeOwned>(
    ids: &[usize],
    payload: &[u8],
) -> Result<Vec<T>, DecodeError> {
    let entries: Vec<T> = metadata::decode(payload)?;
    if entries.len() == ids.len() {
        Ok(entries)
    } else {
        Err(DecodeError::Malformed("another number of entries than of ids"))
    }
}
