//! Bytes of pipes and connections: which of those that were written in the recording are there, and which of them a read gets.
//!
//! Bytes are counted from the first that the recording has of a stream. A write that does not take place, or only a part of it,
//! leaves a hole; a read gets what the writers had written by the end of what it got in the recording, without the holes, and with
//! what reads before it have left. Holes are foreseen: a write may return after the read of what it wrote.

use ctrace_format::syscalls::Call;
use ctrace_format::{Detail, SockAddr, SockCookie, Syscall};
use rustc_hash::FxHashMap;

/// One direction of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Stream {
    Pipe(u64),
    /// From an address to an address.
    Socket(SockAddr, SockAddr),
    /// From one socket of a pair to the other.
    Pair(SockCookie),
}

/// Stretches of streams that are not written: where each begins, and where it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holes(FxHashMap<Stream, Vec<(u64, u64)>>);

impl Holes {
    /// How many bytes before this one are not there.
    fn before(&self, stream: &Stream, end: u64) -> u64 {
        let holes = self.0.get(stream).into_iter().flatten();
        holes.map(|(from, to)| end.min(*to).saturating_sub(*from)).sum()
    }
}

/// How far a stream has got.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    /// Bytes written, and read, in the recording.
    written: u64,
    read: u64,
    /// Bytes that are read.
    taken: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Contents {
    flows: FxHashMap<Stream, Flow>,
    /// The holes, if the recording was gone through before.
    foreseen: Option<Holes>,
    found: Holes,
}

impl Contents {
    pub(super) fn new(foreseen: Option<Holes>) -> Self {
        Self { foreseen, ..Self::default() }
    }

    /// The holes that this pass has found.
    pub(super) fn holes(self) -> Holes {
        self.found
    }

    /// A write of `had` bytes, of which `there` are.
    pub(super) fn writes(&mut self, stream: &Stream, had: u64, there: u64) {
        let flow = self.flows.entry(stream.clone()).or_default();
        let from = flow.written;
        flow.written = from.saturating_add(had);
        if there < had {
            let hole = (from.saturating_add(there), flow.written);
            self.found.0.entry(stream.clone()).or_default().push(hole);
        }
    }

    /// How many bytes a read gets that got `had` and has room for `asked`.
    pub(super) fn gets(&self, stream: &Stream, had: u64, asked: u64) -> u64 {
        let flow = self.flows.get(stream).copied().unwrap_or_default();
        let end = flow.read.saturating_add(had);
        let missing = self.foreseen.as_ref().unwrap_or(&self.found).before(stream, end);
        end.saturating_sub(missing).saturating_sub(flow.taken).min(asked.max(had))
    }

    /// How many of the bytes that were written so far are not there.
    pub(super) fn missing(&self, stream: &Stream) -> u64 {
        let written = self.flows.get(stream).map_or(0, |flow| flow.written);
        self.foreseen.as_ref().unwrap_or(&self.found).before(stream, written)
    }

    /// A read that got `had` bytes gets `gets`.
    pub(super) fn reads(&mut self, stream: &Stream, had: u64, gets: u64) {
        let flow = self.flows.entry(stream.clone()).or_default();
        flow.read = flow.read.saturating_add(had);
        flow.taken = flow.taken.saturating_add(gets);
    }

    /// Whether bytes are there that were read in the recording.
    pub(super) fn has_left(&self, stream: &Stream) -> bool {
        self.flows.contains_key(stream) && self.gets(stream, 0, u64::MAX) > 0
    }
}

/// How many bytes a read has room for.
pub(super) fn asked(sc: Call, call: &Syscall) -> Option<u64> {
    match sc {
        Call::Read | Call::Recvfrom | Call::Pread64 => Some(call.args[2]),
        Call::CopyFileRange => Some(call.args[4]),
        Call::Sendfile => Some(call.args[3]),
        _ => call.details.iter().find_map(|detail| match detail {
            Detail::Iov { bytes, .. } => Some(*bytes),
            _ => None,
        }),
    }
}
