//! Reading what is in front of the events: preamble, index, header, metadata, dictionaries.

use crate::dictionary::{self, Dictionaries};
use crate::index::{Index, IndexEntry};
use crate::layout::{self, KNOWN_REQUIRED, MAGIC, PREAMBLE_LEN, Preamble, SYNC, TRAILER_LEN, flag, kind};
use crate::reader::{Damage, ReadError};
use crate::source::{ChunkProblem, Source};
use crate::{Account, Header, Snapshot, Summary, Window, metadata};
use serde::de::DeserializeOwned;
use std::io;
use std::path::Path;

/// What the header is followed by.
pub(crate) struct Rest {
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) summary: Option<Summary>,
    pub(crate) account: Option<Account>,
    pub(crate) window: Option<Window>,
    pub(crate) dictionaries: Dictionaries,
}

/// Reads what is in front of the events.
pub(crate) struct Loader<'a> {
    pub(crate) source: &'a Source,
    pub(crate) zstd: zstd::bulk::Decompressor<'static>,
    pub(crate) damage: Vec<Damage>,
}

impl Loader<'_> {
    /// The index: its offset, the trace's id, and its content. `None`: the file has no trailer.
    pub(crate) fn index(&mut self) -> Result<Option<(u64, u32, Index)>, ChunkProblem> {
        let len = self.source.len();
        let mut trailer = [0; TRAILER_LEN];
        let Some(at) = len.checked_sub(TRAILER_LEN as u64) else { return Ok(None) };
        self.source.read_at(at, &mut trailer)?;
        if trailer[..8] != layout::TRAILER_MAGIC {
            return Ok(None);
        }
        let bad = |what: &str| ChunkProblem::Bad(what.into());
        let offset = layout::parse_trailer(&trailer, len).ok_or_else(|| bad("the trailer is damaged"))?;
        let mut bytes = Vec::new();
        let mut next = offset;
        let id = loop {
            let header = self.source.header_at(next)?.map_err(|e| ChunkProblem::Bad(e.to_string()))?;
            if header.kind != kind::INDEX {
                return Err(bad("the trailer points at no index"));
            }
            let part = self.source.payload(next, &header, &mut self.zstd)?;
            if bytes.len() + part.len() > metadata::limit(self.source.len()) {
                return Err(bad("it is too large"));
            }
            bytes.extend_from_slice(&part);
            next += header.total_len();
            if header.flags & flag::MORE == 0 {
                break header.trace_id;
            }
        };
        let index: Index = metadata::decode(&bytes).map_err(|e| ChunkProblem::Bad(e.to_string()))?;
        let mut end = PREAMBLE_LEN as u64;
        for entry in &index.entries {
            if entry.offset < end || entry.offset.checked_add(entry.total_len()).is_none_or(|e| e > offset) {
                return Err(bad("it lists a chunk where none can be"));
            }
            end = entry.offset + entry.total_len();
        }
        Ok(Some((offset, id, index)))
    }

    /// The payload of a chunk; what is wrong with it becomes damage.
    fn payload(&mut self, entry: &IndexEntry, id: Option<u32>) -> io::Result<Option<(Vec<u8>, u32)>> {
        let read = match self.source.header_at(entry.offset)? {
            Ok(h) if entry.agrees(&h) && id.is_none_or(|id| id == h.trace_id) => {
                self.source.payload(entry.offset, &h, &mut self.zstd).map(|payload| (payload, h.trace_id))
            }
            Ok(_) => Err(ChunkProblem::Bad("it is not the chunk that the index says".into())),
            Err(e) => Err(ChunkProblem::Bad(e.to_string())),
        };
        match read {
            Ok(read) => Ok(Some(read)),
            Err(ChunkProblem::Io(e)) => Err(e),
            Err(ChunkProblem::Bad(what)) => {
                self.bad(entry, &what);
                Ok(None)
            }
        }
    }

    fn bad(&mut self, entry: &IndexEntry, what: &str) {
        let what = format!("{}: {what}", kind_name(entry.kind));
        self.damage.push(Damage { offset: entry.offset, bytes: entry.total_len(), what, lost: None });
    }

    /// The header, from the first intact of its copies, and the id of the trace.
    pub(crate) fn header(
        &mut self,
        entries: &[IndexEntry],
        id: Option<u32>,
    ) -> io::Result<Option<(Header, u32)>> {
        for entry in entries.iter().filter(|e| e.kind == kind::HEADER) {
            if let Some((payload, id)) = self.payload(entry, id)? {
                match metadata::decode::<Header>(&payload) {
                    Ok(header) if header.tick_ns > 0 => return Ok(Some((header, id))),
                    Ok(_) => self.bad(entry, "its tick is 0 ns"),
                    Err(e) => self.bad(entry, &e.to_string()),
                }
            }
        }
        Ok(None)
    }

    /// A metadata structure in one or more chunks.
    fn metadata<T: serde::de::DeserializeOwned>(
        &mut self,
        entries: &[IndexEntry],
        kind: u16,
        id: u32,
    ) -> io::Result<Option<T>> {
        let mut bytes = Vec::new();
        let mut parts = entries.iter().filter(|e| e.kind == kind);
        let Some(mut entry) = parts.next() else { return Ok(None) };
        let first = entry;
        loop {
            let Some((part, _)) = self.payload(entry, Some(id))? else { return Ok(None) };
            if bytes.len() + part.len() > metadata::limit(self.source.len()) {
                self.bad(entry, "it is too large");
                return Ok(None);
            }
            bytes.extend_from_slice(&part);
            if entry.flags & flag::MORE == 0 {
                break;
            }
            match parts.next() {
                Some(next) if next.sequence == entry.sequence.wrapping_add(1) => entry = next,
                _ => {
                    self.bad(entry, "its continuation is missing");
                    return Ok(None);
                }
            }
        }
        match metadata::decode(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(e) => {
                self.bad(first, &e.to_string());
                Ok(None)
            }
        }
    }

    /// A list that is written again, as a whole, when it changes (containers, what was not learnt): the last intact one.
    pub(crate) fn last_list<T: DeserializeOwned>(
        &mut self,
        entries: &[IndexEntry],
        kind: u16,
        id: u32,
    ) -> io::Result<Vec<T>> {
        for entry in entries.iter().rev().filter(|e| e.kind == kind) {
            let Some((payload, _)) = self.payload(entry, Some(id))? else { continue };
            match metadata::decode(&payload) {
                Ok(list) => return Ok(list),
                Err(e) => self.bad(entry, &e.to_string()),
            }
        }
        Ok(Vec::new())
    }

    pub(crate) fn rest(&mut self, entries: &[IndexEntry], id: u32) -> io::Result<Rest> {
        let snapshot = self.metadata(entries, kind::SNAPSHOT, id)?;
        let window: Option<Window> = self.metadata(entries, kind::WINDOW, id)?;
        let summary = self.metadata(entries, kind::SUMMARY, id)?;
        let account = self.metadata(entries, kind::ACCOUNT, id)?;
        let mut dictionaries = Dictionaries::new(self.source.len());
        let is_dictionary = |e: &&IndexEntry| matches!(e.kind, kind::STRINGS | kind::TASKS | kind::OBJECTS);
        let mut damaged = false;
        // Entries come in their first writing; keyframes repeat them for files that lost it.
        for keyframes in [false, true] {
            if keyframes && !damaged && dictionaries.lost() == 0 && !misses_chunks(entries) {
                break;
            }
            for entry in entries.iter().filter(is_dictionary) {
                if (entry.flags & flag::KEYFRAME != 0) != keyframes {
                    continue;
                }
                let Some((payload, _)) = self.payload(entry, Some(id))? else {
                    damaged = true;
                    continue;
                };
                let kind = match entry.kind {
                    kind::STRINGS => dictionary::Kind::Strings,
                    kind::TASKS => dictionary::Kind::Tasks,
                    _ => dictionary::Kind::Objects,
                };
                let added = dictionaries.add(kind, &payload);
                if let Err(e) = added {
                    self.bad(entry, &e.to_string());
                    damaged = true;
                }
            }
        }
        // A window lacks the entries that nothing in it needs.
        let may_lack = window.is_some() && !damaged && !misses_chunks(entries);
        let lost = if may_lack { 0 } else { dictionaries.lost() };
        if damaged || lost > 0 || misses_chunks(entries) {
            dictionaries.lose_the_nameless();
        }
        let lost = if may_lack { 0 } else { dictionaries.lost() };
        if lost > 0 {
            let what = format!("{lost} dictionary entries are lost; events that refer to them are left out");
            self.damage.push(Damage { offset: 0, bytes: 0, what, lost: None });
        }
        Ok(Rest { snapshot, summary, account, window, dictionaries })
    }
}

/// Whether chunks are missing, so that dictionary entries may be.
fn misses_chunks(entries: &[IndexEntry]) -> bool {
    let mut expected = 0;
    entries.iter().any(|e| {
        let missing = e.sequence != expected;
        expected = e.sequence.wrapping_add(1);
        missing
    })
}

fn kind_name(kind: u16) -> &'static str {
    match kind {
        kind::HEADER => "header chunk",
        kind::SNAPSHOT => "snapshot chunk",
        kind::SUMMARY => "summary chunk",
        kind::STRINGS => "string dictionary chunk",
        kind::TASKS => "task dictionary chunk",
        kind::OBJECTS => "object dictionary chunk",
        kind::INDEX => "index chunk",
        kind::SCHEMA => "schema chunk",
        kind::WINDOW => "window chunk",
        kind::CONTAINERS => "list of containers",
        kind::UNLEARNT => "list of what was not learnt",
        kind::ACCOUNT => "account",
        _ => "chunk",
    }
}

/// What to do about a damaged preamble.
const REPAIR: &str = "`ctrace repair FILE -o OUT` restores it";

/// Checks the first bytes, and tells what the file is when it is no trace.
pub(crate) fn check_preamble(path: &Path, source: &Source) -> Result<(), ReadError> {
    let mut bytes = [0; PREAMBLE_LEN + SYNC.len()];
    let read = source.read_at(0, &mut bytes).map_err(|source| ReadError::Io { path: path.into(), source })?;
    let start = &bytes[..read];
    let damaged = |what: &str, advice| ReadError::HeaderDamaged {
        path: path.into(),
        damage: Damage { offset: 0, bytes: (read.min(PREAMBLE_LEN)) as u64, what: what.into(), lost: None },
        advice,
    };
    if start.is_empty() {
        return Err(ReadError::Empty { path: path.into() });
    }
    if !start.starts_with(&MAGIC) {
        if read < PREAMBLE_LEN && MAGIC.starts_with(&start[..read.min(MAGIC.len())]) {
            return Err(damaged("the file ends within its first bytes", "Nothing in it can be read"));
        }
        // The first chunk follows the preamble: only the preamble is damaged.
        if start.get(PREAMBLE_LEN..) == Some(&SYNC) {
            return Err(damaged("its first bytes are not those of a trace", REPAIR));
        }
        return Err(ReadError::Foreign { path: path.into(), what: looks_like(start) });
    }
    let Some(first) = start.first_chunk::<PREAMBLE_LEN>() else {
        return Err(damaged("the file ends within its first bytes", "Nothing in it can be read"));
    };
    let Some(preamble) = Preamble::parse(first) else {
        let version = layout::u16_at(first, 8);
        if version > layout::VERSION {
            let what = format!(
                "it says format version {version}, newer than this ctrace reads ({}), but the check sum of its first \
                 bytes does not fit",
                layout::VERSION
            );
            let advice = "Update ctrace, or, if it is no newer file, `ctrace repair FILE -o OUT` restores it";
            return Err(damaged(&what, advice));
        }
        return Err(damaged("the check sum of its first bytes does not fit", REPAIR));
    };
    if preamble.version > layout::VERSION {
        let (found, newest) = (preamble.version, layout::VERSION);
        return Err(ReadError::Newer { path: path.into(), found, newest });
    }
    let bits = preamble.required & !KNOWN_REQUIRED;
    if bits != 0 {
        return Err(ReadError::UnknownFeatures { path: path.into(), bits });
    }
    Ok(())
}

/// What a foreign file looks like.
fn looks_like(start: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 14] = [
        (b"\x7fELF", "an executable or library (ELF)"),
        (b"\xd4\xc3\xb2\xa1", "a packet capture (pcap)"),
        (b"\xa1\xb2\xc3\xd4", "a packet capture (pcap)"),
        (b"\x0a\x0d\x0d\x0a", "a packet or system call capture (pcapng, scap)"),
        (b"PERFILE2", "a perf recording; read it with `perf script`"),
        (b"\x1f\x8b", "gzip data; unpack it first"),
        (b"\x28\xb5\x2f\xfd", "zstd data; unpack it first"),
        (b"\xfd7zXZ", "xz data; unpack it first"),
        (b"PK\x03\x04", "a zip archive; unpack it first"),
        (b"\x89CTR", "a trace that went through a text-mode transfer; copy it again in binary mode"),
        (b"SQLite format 3", "an SQLite database"),
        (b"\x89PNG", "an image"),
        (b"{", "JSON text"),
        (b"#!", "a script"),
    ];
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| start.starts_with(magic)) {
        return what;
    }
    if start.iter().all(|b| *b == 0) {
        return "zeros; a crash of the machine may have left them";
    }
    let is_text = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..);
    if start.iter().all(is_text) { "text" } else { "another kind of file" }
}
