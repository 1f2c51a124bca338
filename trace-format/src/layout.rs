//! The fixed-size structures of a file: preamble, chunk header, trailer, and the limits every reader enforces.
//!
//! Normative text: `FORMAT.md`. Everything here is pure: bytes to structures and back.

use crate::ClockAnchor;

/// First bytes of every trace. Not text, survives no newline conversion, in the manner of PNG's.
pub(crate) const MAGIC: [u8; 8] = *b"\x89CTR\r\n\x1a\n";
/// The version this crate writes, and the newest it reads.
pub(crate) const VERSION: u16 = 1;
/// Length of the preamble.
pub(crate) const PREAMBLE_LEN: usize = 32;
/// Required features this crate understands.
pub(crate) const KNOWN_REQUIRED: u64 = 0;
/// Begins every chunk.
pub(crate) const SYNC: [u8; 8] = [0xC7, 0xAC, 0xE0, 0x1D, 0x0A, 0x5F, 0x0D, 0xFE];
/// Length of a chunk header in version 1. Readers accept longer ones and ignore what is behind.
pub(crate) const HEADER_LEN: usize = 128;
/// The longest chunk header a reader accepts.
pub(crate) const MAX_HEADER_LEN: usize = 512;
/// Decoded bytes a chunk may hold.
pub(crate) const MAX_DECODED: usize = 4 << 20;
/// Stored bytes a chunk may hold: incompressible data grows a little.
pub(crate) const MAX_STORED: usize = MAX_DECODED + (64 << 10);
/// Events a chunk may hold.
pub(crate) const MAX_EVENTS: u32 = 65_536;
/// Decoded bytes for every stored byte, headers included. Writers pad a payload that would exceed it.
pub(crate) const MAX_RATIO: u64 = 1024;
/// Length of the trailer.
pub(crate) const TRAILER_LEN: usize = 32;
/// Begins the trailer.
pub(crate) const TRAILER_MAGIC: [u8; 8] = *b"CTRINDEX";

/// Kinds of chunks. An event class has type `EVENTS + class`.
pub(crate) mod kind {
    pub(crate) const HEADER: u16 = 1;
    pub(crate) const SNAPSHOT: u16 = 2;
    pub(crate) const SUMMARY: u16 = 3;
    pub(crate) const STRINGS: u16 = 4;
    pub(crate) const TASKS: u16 = 5;
    pub(crate) const OBJECTS: u16 = 6;
    pub(crate) const INDEX: u16 = 7;
    pub(crate) const SCHEMA: u16 = 8;
    pub(crate) const WINDOW: u16 = 9;
    pub(crate) const CONTAINERS: u16 = 16;
    pub(crate) const UNLEARNT: u16 = 17;
    pub(crate) const ACCOUNT: u16 = 18;
    pub(crate) const EVENTS: u16 = 64;
}

/// Bits of [`ChunkHeader::flags`].
pub(crate) mod flag {
    /// A dictionary chunk that repeats entries written before.
    pub(crate) const KEYFRAME: u32 = 1;
    /// The next chunk of this type continues the payload.
    pub(crate) const MORE: u32 = 1 << 1;
    /// The payload is one zstd frame; otherwise it is stored as it is.
    pub(crate) const ZSTD: u32 = 1 << 2;
}

/// What is known of a chunk without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ChunkHeader {
    pub(crate) header_len: u16,
    pub(crate) kind: u16,
    pub(crate) flags: u32,
    pub(crate) payload_crc: u32,
    pub(crate) stored: u32,
    pub(crate) decoded: u32,
    pub(crate) records: u32,
    pub(crate) sequence: u32,
    /// Earliest start of an event, ticks.
    pub(crate) min_start: u64,
    /// Earliest end of an event, ticks.
    pub(crate) min_end: u64,
    /// Latest end of an event, ticks.
    pub(crate) max_end: u64,
    /// Latest clock readings before the chunk was closed; all 0 before the first.
    pub(crate) anchor: [u64; 3],
    /// Lost events of the chunk's class so far.
    pub(crate) lost_class: u64,
    /// Lost events of all classes so far.
    pub(crate) lost: u64,
    /// Dictionary entries (strings, tasks, objects) that exist when the chunk is written: its ids are below these.
    pub(crate) needs: [u32; 3],
    /// Which trace the chunk belongs to: a chunk of another one that got into the file must not be read as its own.
    pub(crate) trace_id: u32,
    /// By how much, at most, an event's end lies before that of an event in front of it, ticks. 0: sorted.
    pub(crate) disorder: u64,
}

/// Why bytes are no chunk header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderProblem {
    /// No sync marker.
    NoSync,
    /// Fewer bytes than a header.
    Short,
    /// Its check sum does not fit.
    Crc,
    /// It declares more than a chunk may hold.
    Limit(&'static str, u64),
}

impl std::fmt::Display for HeaderProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSync => f.write_str("no chunk begins here"),
            Self::Short => f.write_str("the file ends within a chunk header"),
            Self::Crc => f.write_str("the chunk header's check sum does not fit"),
            Self::Limit(what, value) => {
                write!(f, "the chunk header declares {value} {what}, more than a chunk may hold")
            }
        }
    }
}

pub(crate) fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}
pub(crate) fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}
pub(crate) fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

impl ChunkHeader {
    /// Header and payload together.
    pub(crate) fn total_len(&self) -> u64 {
        u64::from(self.header_len) + u64::from(self.stored)
    }

    pub(crate) fn anchor(&self) -> ClockAnchor {
        let [t_ns, monotonic_ns, realtime_ns] = self.anchor;
        ClockAnchor { t_ns, monotonic_ns, realtime_ns }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&SYNC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.header_len.to_le_bytes());
        out.extend_from_slice(&self.kind.to_le_bytes());
        for word in [self.flags, self.payload_crc, self.stored, self.decoded, self.records, self.sequence] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for long in [self.min_start, self.min_end, self.max_end].iter().chain(&self.anchor) {
            out.extend_from_slice(&long.to_le_bytes());
        }
        for long in [self.lost_class, self.lost] {
            out.extend_from_slice(&long.to_le_bytes());
        }
        for word in self.needs {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.trace_id.to_le_bytes());
        out.extend_from_slice(&self.disorder.to_le_bytes());
        debug_assert_eq!(out.len() - start, HEADER_LEN);
        let crc = crc32c::crc32c(&out[start + 12..]);
        out[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
    }

    /// Parses what begins at the start of `b`.
    pub(crate) fn parse(b: &[u8]) -> Result<Self, HeaderProblem> {
        if b.len() < SYNC.len() || b[..8] != SYNC {
            return Err(if b.len() < 8 { HeaderProblem::Short } else { HeaderProblem::NoSync });
        }
        if b.len() < HEADER_LEN {
            return Err(HeaderProblem::Short);
        }
        let header_len = usize::from(u16_at(b, 12));
        if !(HEADER_LEN..=MAX_HEADER_LEN).contains(&header_len) {
            return Err(HeaderProblem::Limit("bytes of header", header_len as u64));
        }
        if b.len() < header_len {
            return Err(HeaderProblem::Short);
        }
        if crc32c::crc32c(&b[12..header_len]) != u32_at(b, 8) {
            return Err(HeaderProblem::Crc);
        }
        let h = Self {
            header_len: header_len as u16,
            kind: u16_at(b, 14),
            flags: u32_at(b, 16),
            payload_crc: u32_at(b, 20),
            stored: u32_at(b, 24),
            decoded: u32_at(b, 28),
            records: u32_at(b, 32),
            sequence: u32_at(b, 36),
            min_start: u64_at(b, 40),
            min_end: u64_at(b, 48),
            max_end: u64_at(b, 56),
            anchor: [u64_at(b, 64), u64_at(b, 72), u64_at(b, 80)],
            lost_class: u64_at(b, 88),
            lost: u64_at(b, 96),
            needs: [u32_at(b, 104), u32_at(b, 108), u32_at(b, 112)],
            trace_id: u32_at(b, 116),
            disorder: u64_at(b, 120),
        };
        h.check_limits()?;
        Ok(h)
    }

    fn check_limits(&self) -> Result<(), HeaderProblem> {
        let limit = |what, value: u64, max: u64| {
            if value > max { Err(HeaderProblem::Limit(what, value)) } else { Ok(()) }
        };
        limit("stored bytes", self.stored.into(), MAX_STORED as u64)?;
        limit("decoded bytes", self.decoded.into(), MAX_DECODED as u64)?;
        limit("decoded bytes for its stored bytes", self.decoded.into(), self.total_len() * MAX_RATIO)?;
        if self.kind >= kind::EVENTS {
            limit("events", self.records.into(), MAX_EVENTS.into())?;
            // Every event costs at least a byte.
            limit("events for its decoded bytes", self.records.into(), self.decoded.into())?;
        }
        Ok(())
    }
}

/// The first bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preamble {
    pub(crate) version: u16,
    pub(crate) required: u64,
    pub(crate) optional: u64,
}

impl Preamble {
    pub(crate) fn encode(self) -> [u8; PREAMBLE_LEN] {
        let mut b = [0; PREAMBLE_LEN];
        b[..8].copy_from_slice(&MAGIC);
        b[8..10].copy_from_slice(&self.version.to_le_bytes());
        b[16..24].copy_from_slice(&self.required.to_le_bytes());
        b[24..32].copy_from_slice(&self.optional.to_le_bytes());
        let crc = Self::crc(&b);
        b[12..16].copy_from_slice(&crc.to_le_bytes());
        b
    }

    fn crc(b: &[u8; PREAMBLE_LEN]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&b[..12]), &b[16..])
    }

    /// `None` when the check sum does not fit. The magic is the caller's to check.
    pub(crate) fn parse(b: &[u8; PREAMBLE_LEN]) -> Option<Self> {
        (Self::crc(b) == u32_at(b, 12)).then(|| Self {
            version: u16_at(b, 8),
            required: u64_at(b, 16),
            optional: u64_at(b, 24),
        })
    }
}

/// The last bytes of a finished file: where its index begins.
pub(crate) fn encode_trailer(index_offset: u64, file_len: u64) -> [u8; TRAILER_LEN] {
    let mut b = [0; TRAILER_LEN];
    b[..8].copy_from_slice(&TRAILER_MAGIC);
    b[8..16].copy_from_slice(&index_offset.to_le_bytes());
    b[16..24].copy_from_slice(&file_len.to_le_bytes());
    let crc = crc32c::crc32c(&b[..28]);
    b[28..].copy_from_slice(&crc.to_le_bytes());
    b
}

/// The offset of the index, when `b` is the trailer of a file of this length.
pub(crate) fn parse_trailer(b: &[u8; TRAILER_LEN], file_len: u64) -> Option<u64> {
    let good =
        b[..8] == TRAILER_MAGIC && crc32c::crc32c(&b[..28]) == u32_at(b, 28) && u64_at(b, 16) == file_len;
    good.then(|| u64_at(b, 8))
}
