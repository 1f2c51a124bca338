//! The footer's index: every chunk with what is known of it without reading it, and totals.

use crate::layout::ChunkHeader;
use crate::varint;
use serde::{Deserialize, Serialize};

/// Ids an entry lists at most; a chunk with more is listed without, and always read.
const MAX_LISTED: usize = 4096;

/// A chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexEntry {
    pub(crate) offset: u64,
    pub(crate) kind: u16,
    pub(crate) flags: u32,
    pub(crate) stored: u32,
    pub(crate) decoded: u32,
    pub(crate) records: u32,
    pub(crate) sequence: u32,
    pub(crate) min_start: u64,
    pub(crate) min_end: u64,
    pub(crate) max_end: u64,
    pub(crate) disorder: u64,
    pub(crate) header_len: u16,
    /// Task ids, ascending, as differences; `None`: not listed.
    pub(crate) tasks: Option<Vec<u8>>,
    /// Socket cookies, ascending, as differences; `None`: not listed.
    pub(crate) cookies: Option<Vec<u8>>,
}

impl IndexEntry {
    pub(crate) fn new(offset: u64, h: &ChunkHeader) -> Self {
        Self {
            offset,
            kind: h.kind,
            flags: h.flags,
            stored: h.stored,
            decoded: h.decoded,
            records: h.records,
            sequence: h.sequence,
            min_start: h.min_start,
            min_end: h.min_end,
            max_end: h.max_end,
            disorder: h.disorder,
            header_len: h.header_len,
            tasks: None,
            cookies: None,
        }
    }

    pub(crate) fn total_len(&self) -> u64 {
        u64::from(self.header_len) + u64::from(self.stored)
    }

    /// Whether the chunk's own header says the same.
    pub(crate) fn agrees(&self, h: &ChunkHeader) -> bool {
        let mut own = Self::new(self.offset, h);
        own.tasks.clone_from(&self.tasks);
        own.cookies.clone_from(&self.cookies);
        own == *self
    }
}

/// Content of the index chunks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    /// SHA-256 of all bytes in front of the index.
    pub(crate) sha256: [u8; 32],
    /// Lost events in all.
    pub(crate) lost: u64,
    /// All chunks in front of the index.
    pub(crate) entries: Vec<IndexEntry>,
}

/// Packs sorted ids.
pub(crate) fn pack(sorted: &[u64]) -> Option<Vec<u8>> {
    (sorted.len() <= MAX_LISTED).then(|| pack_all(sorted))
}

/// Packs sorted ids, however many.
pub(crate) fn pack_all(sorted: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut previous = 0;
    for id in sorted {
        varint::put(&mut out, id - previous);
        previous = *id;
    }
    out
}

/// Passes every id of what [`pack_all`] made.
pub(crate) fn unpack(packed: &[u8], mut each: impl FnMut(u64)) {
    let (mut at, mut id) = (0, 0u64);
    while let Ok(delta) = varint::get(packed, &mut at) {
        id = id.wrapping_add(delta);
        each(id);
    }
}

/// Whether a packed list may contain one of `wanted`. Anything unreadable may.
pub(crate) fn may_contain(packed: Option<&Vec<u8>>, wanted: impl Fn(u64) -> bool) -> bool {
    let Some(packed) = packed else { return true };
    let (mut at, mut id) = (0, 0u64);
    while at < packed.len() {
        let Ok(delta) = varint::get(packed, &mut at) else { return true };
        id = id.wrapping_add(delta);
        if wanted(id) {
            return true;
        }
    }
    false
}
