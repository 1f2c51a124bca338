//! Data that many steps have in common, by what they were made of, so that it is made once.

use super::super::CompileError;
use super::super::source::Source;
use super::super::wire;
use super::Emit;
use ctrace_format::{PollEntry, StrId};
use ctrace_program::MsgDesc;
use rustc_hash::FxHashMap;
use std::hash::Hash;

/// Most entries of each kind.
const ENTRIES_MAX: usize = 1 << 16;
/// A buffer is never larger than this; the kernel itself moves no more than 2 GiB at once.
pub(crate) const BUFFER_MAX: u64 = 1 << 28;
/// Words of an argument list in all.
const ARGUMENTS_MAX: usize = 4096;
/// `MAX_ARG_STRLEN` (include/uapi/linux/binfmts.h): 32 pages.
const ARGUMENT_BYTES_MAX: usize = 128 << 10;
/// Entries of a list of descriptors that is kept: the keys of longer ones would take as much as they do.
const POLLED_MAX: usize = 64;

/// The parts of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct MessageShape {
    name: (u64, u32),
    control: (u64, u32),
    bytes: u64,
    parts: u64,
}

/// The place of the data, by its contents.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    strings: FxHashMap<StrId, u64>,
    /// Words and their number.
    arguments: FxHashMap<(Box<[StrId]>, usize), u64>,
    /// Bytes and parts.
    vectors: FxHashMap<(u64, u64), u64>,
    messages: FxHashMap<MessageShape, u64>,
    /// A word that is longer than an argument may be.
    long_word: Option<u64>,
    /// Descriptors and events, and how many there are.
    polls: FxHashMap<(Box<[u64]>, usize), u64>,
}

fn keep<K: Eq + Hash>(map: &mut FxHashMap<K, u64>, key: K, at: u64) {
    if map.len() < ENTRIES_MAX {
        map.insert(key, at);
    }
}

/// `bytes` in `count` parts of about the same length.
pub(crate) fn split(bytes: u64, count: u64) -> Vec<u64> {
    let bytes = bytes.min(BUFFER_MAX);
    let count = count.max(1);
    (0..count).map(|i| bytes / count + u64::from(i < bytes % count)).collect()
}

impl Emit {
    /// A string of the trace, as the kernel takes it. Longer than any path or argument can be, it is cut.
    pub(crate) fn string(&mut self, source: &dyn Source, id: StrId) -> Result<u64, CompileError> {
        if let Some(known) = self.shapes.strings.get(&id) {
            return Ok(*known);
        }
        let text = source.str(id);
        let at = self.cstr(&text[..text.len().min(ARGUMENT_BYTES_MAX)])?;
        self.shapes.strings.insert(id, at);
        Ok(at)
    }

    /// An I/O vector of `bytes` in `parts` of about the same length.
    pub(crate) fn vector(&mut self, bytes: u64, parts: u64) -> Result<u64, CompileError> {
        if let Some(known) = self.shapes.vectors.get(&(bytes, parts)) {
            return Ok(*known);
        }
        let at = self.words(&split(bytes, parts))?;
        keep(&mut self.shapes.vectors, (bytes, parts), at);
        Ok(at)
    }

    /// A message of `bytes` in `parts`.
    pub(crate) fn message(&mut self, desc: MsgDesc, bytes: u64, parts: u64) -> Result<u64, CompileError> {
        let key = MessageShape {
            name: (desc.name, desc.name_len),
            control: (desc.control, desc.control_len),
            bytes,
            parts,
        };
        if let Some(known) = self.shapes.messages.get(&key) {
            return Ok(*known);
        }
        let lens = split(bytes, parts);
        let at = self.messages(&[(MsgDesc { iovs: lens.len() as u32, ..desc }, lens)])?;
        keep(&mut self.shapes.messages, key, at);
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
        let at = self.data(&wire::pollfds(all))?;
        if entries.len() <= POLLED_MAX {
            keep(&mut self.shapes.polls, key, at);
        }
        Ok(at)
    }

    /// An argument list: the words that are known, and as many empty ones as there were more.
    pub(crate) fn arguments(
        &mut self,
        source: &dyn Source,
        words: &[StrId],
        count: usize,
    ) -> Result<u64, CompileError> {
        let count = count.clamp(1, ARGUMENTS_MAX).max(words.len());
        let key = (words.into(), count);
        if let Some(known) = self.shapes.arguments.get(&key) {
            return Ok(*known);
        }
        let mut blobs = Vec::with_capacity(count);
        for word in words {
            blobs.push(self.string(source, *word)?);
        }
        blobs.resize(count, self.cstr(b"")?);
        let list = self.pointers(&blobs)?;
        keep(&mut self.shapes.arguments, key, list);
        Ok(list)
    }

    /// An argument list with a last word that no call takes.
    pub(crate) fn long_argument(
        &mut self,
        source: &dyn Source,
        words: &[StrId],
    ) -> Result<u64, CompileError> {
        let mut blobs = Vec::with_capacity(words.len() + 1);
        for word in words {
            blobs.push(self.string(source, *word)?);
        }
        let long = match self.shapes.long_word {
            Some(long) => long,
            None => self.cstr(&vec![b'x'; ARGUMENT_BYTES_MAX])?,
        };
        self.shapes.long_word = Some(long);
        blobs.push(long);
        self.pointers(&blobs)
    }
}
