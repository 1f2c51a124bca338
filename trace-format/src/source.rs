//! Where a reader's bytes come from: a file, or memory. Positioned reads, shared between threads.

use crate::layout::{self, ChunkHeader, HeaderProblem, MAX_HEADER_LEN, flag};
use crate::positioned::Positioned;
use std::io;
use std::ops::Range;

/// Random access to the bytes of a trace. The length is that at opening: a live file grows on.
pub(crate) struct Source {
    bytes: Bytes,
    /// Where the trace begins in a file.
    start: u64,
    len: u64,
}

enum Bytes {
    File(Positioned),
    Memory(Vec<u8>),
}

/// Why a chunk could not be read.
pub(crate) enum ChunkProblem {
    /// The device refused.
    Io(io::Error),
    /// The bytes are not what was written.
    Bad(String),
}

impl From<io::Error> for ChunkProblem {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl Source {
    pub(crate) fn file(file: Positioned) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { bytes: Bytes::File(file), start: 0, len })
    }

    /// A trace that is a part of a file.
    pub(crate) fn part(file: Positioned, range: &Range<u64>) -> Self {
        let len = range.end.saturating_sub(range.start);
        Self { bytes: Bytes::File(file), start: range.start, len }
    }

    pub(crate) fn memory(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self { bytes: Bytes::Memory(bytes), start: 0, len }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` from `offset` on, as far as there are bytes; returns how many.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match &self.bytes {
            Bytes::Memory(bytes) => {
                let start = offset.min(self.len) as usize;
                buffer[..wanted].copy_from_slice(&bytes[start..start + wanted]);
                Ok(wanted)
            }
            // Fewer come when the file shrank.
            Bytes::File(file) => file.read_at(self.start.saturating_add(offset), &mut buffer[..wanted]),
        }
    }

    /// The chunk header at `offset`.
    pub(crate) fn header_at(&self, offset: u64) -> io::Result<Result<ChunkHeader, HeaderProblem>> {
        let mut buffer = [0; MAX_HEADER_LEN];
        let n = self.read_at(offset, &mut buffer)?;
        Ok(ChunkHeader::parse(&buffer[..n]))
    }

    /// The stored payload of a chunk, checked. `header` was read at `offset`.
    pub(crate) fn stored_payload(&self, offset: u64, header: &ChunkHeader) -> Result<Vec<u8>, ChunkProblem> {
        let start = offset + u64::from(header.header_len);
        let stored = header.stored as usize;
        if self.len.saturating_sub(start) < stored as u64 {
            return Err(ChunkProblem::Bad("the file ends within it".into()));
        }
        let mut payload = vec![0; stored];
        if self.read_at(start, &mut payload)? < stored {
            return Err(ChunkProblem::Bad("the file ends within it".into()));
        }
        if crc32c::crc32c(&payload) != header.payload_crc {
            return Err(ChunkProblem::Bad("its check sum does not fit".into()));
        }
        Ok(payload)
    }

    /// The decoded payload of a chunk, checked.
    pub(crate) fn payload(
        &self,
        offset: u64,
        header: &ChunkHeader,
        zstd: &mut zstd::bulk::Decompressor<'static>,
    ) -> Result<Vec<u8>, ChunkProblem> {
        let stored = self.stored_payload(offset, header)?;
        let decoded = header.decoded as usize;
        if header.flags & flag::ZSTD == 0 {
            return if stored.len() == decoded {
                Ok(stored)
            } else {
                Err(ChunkProblem::Bad("its lengths disagree".into()))
            };
        }
        // One-shot decoding into a buffer of the declared size: neither the window nor the content size that the
        // frame declares makes zstd allocate.
        debug_assert!(decoded <= layout::MAX_DECODED);
        let mut payload = Vec::with_capacity(decoded);
        match zstd.decompress_to_buffer(&stored, &mut payload) {
            Ok(n) if n == decoded => Ok(payload),
            Ok(n) => Err(ChunkProblem::Bad(format!("it decodes to {n} bytes and declares {decoded}"))),
            Err(e) => Err(ChunkProblem::Bad(format!("it does not decode: {e}"))),
        }
    }
}

/// A decoder of frames, with its window capped.
pub(crate) fn decompressor() -> io::Result<zstd::bulk::Decompressor<'static>> {
    let mut zstd = zstd::bulk::Decompressor::new()?;
    // 4 MiB, the most a chunk decodes to.
    zstd.window_log_max(22)?;
    Ok(zstd)
}
