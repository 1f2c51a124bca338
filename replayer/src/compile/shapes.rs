//! Data that many steps have in common, by what they were made of, so that it is made once.

use super::CompileError;
use super::lower::Lower;
use ctrace_format::{PollEntry, StrId};
use ctrace_program::MsgDesc;
use rustc_hash::FxHashMap;
use std::hash::Hash;

/// Most entries of each kind.
const ENTRIES_MAX: usize = 1 << 16;

/// Where the data is, by what it was made of.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    strings: FxHashMap<StrId, u64>,
    /// Words and their number.
    pub(crate) arguments: FxHashMap<(Box<[StrId]>, usize), u64>,
    /// Bytes and parts.
    vectors: FxHashMap<(u64, u64), u64>,
    /// Name, its length, control data, their length, bytes, parts.
    messages: FxHashMap<(u64, u32, u64, u32, u64, u64), u64>,
    /// A word that is longer than an argument may be.
    pub(crate) long_word: Option<u64>,
    /// Descriptors and events, and how many there are.
    polls: FxHashMap<(Box<[u64]>, usize), u64>,
}

impl Shapes {
    pub(crate) fn keep<K: Eq + Hash>(map: &mut FxHashMap<K, u64>, key: K, at: u64) {
        if map.len() < ENTRIES_MAX {
            map.insert(key, at);
        }
    }
}

impl Lower<'_> {
    /// A string of the trace, as the kernel takes it. Longer than any path or argument can be, it is cut.
    pub(crate) fn string(&mut self, id: StrId) -> Result<u64, CompileError> {
        /// `MAX_ARG_STRLEN` (include/uapi/linux/binfmts.h): 32 pages.
        const LONGEST: usize = 128 << 10;
        if let Some(known) = self.shapes.strings.get(&id) {
            return Ok(*known);
        }
        let text = self.source.str(id);
        let at = self.b.cstr(&text[..text.len().min(LONGEST)])?;
        self.shapes.strings.insert(id, at);
        Ok(at)
    }

    /// An I/O vector of `bytes` in `parts` of about the same length.
    pub(crate) fn vector(&mut self, bytes: u64, parts: u64) -> Result<u64, CompileError> {
        if let Some(known) = self.shapes.vectors.get(&(bytes, parts)) {
            return Ok(*known);
        }
        let at = self.b.words(&super::io::split(bytes, parts))?;
        Shapes::keep(&mut self.shapes.vectors, (bytes, parts), at);
        Ok(at)
    }

    /// A message of `bytes` in `parts`.
    pub(crate) fn message(&mut self, desc: MsgDesc, bytes: u64, parts: u64) -> Result<u64, CompileError> {
        let key = (desc.name, desc.name_len, desc.control, desc.control_len, bytes, parts);
        if let Some(known) = self.shapes.messages.get(&key) {
            return Ok(*known);
        }
        let lens = super::io::split(bytes, parts);
        let at = self.b.messages(&[(MsgDesc { iovs: lens.len() as u32, ..desc }, lens)])?;
        Shapes::keep(&mut self.shapes.messages, key, at);
        Ok(at)
    }

    /// A `struct pollfd[]` of `count`, of which these are known; the rest is ignored by the kernel.
    pub(crate) fn polled(&mut self, entries: &[PollEntry], count: usize) -> Result<u64, CompileError> {
        let pack = |e: &PollEntry| u64::from(e.fd as u32) << 16 | u64::from(e.events);
        let known = &entries[..entries.len().min(count)];
        let key = (known.iter().map(pack).collect(), count);
        if let Some(known) = self.shapes.polls.get(&key) {
            return Ok(*known);
        }
        let mut all = known.to_vec();
        all.resize(count, PollEntry { fd: -1, events: 0, revents: 0 });
        let at = self.b.data(&super::wire::pollfds(all))?;
        // Long lists of their own are not kept: their keys would take as much as they do.
        if entries.len() <= 64 {
            Shapes::keep(&mut self.shapes.polls, key, at);
        }
        Ok(at)
    }
}
