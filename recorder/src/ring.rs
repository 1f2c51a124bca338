//! Reading the kernel's ring buffers.
//!
//! Own code rather than aya's, for two reasons: aya maps the data twice in a row so that records never wrap, which
//! counts twice in the recorder's resident memory, and it moves the consumer position once per record.

use crate::error::RecordError;
use crate::mapped::{Mapping, page_size};
use ctrace_abi::{Head, SEGMENT, SEGMENT_LAST, Short, short_flag};
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// `BPF_RINGBUF_BUSY_BIT` and `BPF_RINGBUF_DISCARD_BIT`, include/uapi/linux/bpf.h.
const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
/// `BPF_RINGBUF_HDR_SZ`.
const HEADER: u64 = 8;

/// What one look at a ring found.
pub(crate) struct Drained {
    /// The share of the ring that was filled, in 1/256.
    pub(crate) filled: u32,
    /// Whether all that was there when the look began was taken.
    pub(crate) complete: bool,
    /// Where the last record that was taken lies in the output.
    pub(crate) last: Option<std::ops::Range<usize>>,
}

/// A source of records.
pub(crate) enum Ring {
    /// A ring buffer of the kernel, which any CPU may write to.
    Shared(SharedRing),
    /// A CPU's own ring, for calls.
    Bulk(BulkRing),
}

impl Ring {
    /// Appends the finished records to `out`, each after its length (u32, little-endian), at most about `max` bytes.
    pub(crate) fn drain(&self, out: &mut Vec<u8>, max: usize) -> Drained {
        match self {
            Self::Shared(ring) => ring.drain(out, max),
            Self::Bulk(ring) => ring.drain(out, max),
        }
    }
}

/// A CPU's bulk ring, see `bulk.rs` of the kernel half: whole records, none across the end of a segment.
pub(crate) struct BulkRing {
    heads: Arc<Mapping>,
    data: Arc<Mapping>,
    cpu: usize,
    size: u64,
}

impl BulkRing {
    /// The ring of a CPU. `heads` is an array of [`Head`], `data` of `segments` segments for each CPU.
    pub(crate) fn new(heads: Arc<Mapping>, data: Arc<Mapping>, cpu: usize, segments: u32) -> Self {
        Self { heads, data, cpu, size: u64::from(segments) * SEGMENT as u64 }
    }

    fn position(&self, field: usize) -> Option<&AtomicU64> {
        let at = self.heads.element::<AtomicU64>(self.cpu * size_of::<Head>() + field)?;
        // SAFETY: inside the mapping, and aligned (checked by `element`).
        Some(unsafe { at.as_ref() })
    }

    fn record(&self, at: u64) -> Option<&[u8]> {
        let start = (self.cpu as u64 * self.size + (at & (self.size - 1))) as usize;
        let flags = self.data.element::<u16>(start + offset_of!(Short, flags))?;
        // SAFETY: inside the mapping, and aligned (checked by `element`).
        let flags = unsafe { flags.read() };
        let mut len = crate::raw::short_len(flags);
        if flags & short_flag::TAIL != 0 {
            let tail = self.data.element::<u64>(start + len)?;
            // SAFETY: as above.
            len += 8 + unsafe { tail.read() } as usize;
        }
        self.data.element::<u8>(start + len - 1)?;
        let first = self.data.element::<u8>(start)?;
        // SAFETY: first and last byte are inside the mapping. The kernel does not write a record again until `taken`
        // passes it.
        Some(unsafe { std::slice::from_raw_parts(first.as_ptr(), len) })
    }

    fn drain(&self, out: &mut Vec<u8>, max: usize) -> Drained {
        let mut drained = Drained { filled: 0, complete: true, last: None };
        let positions = (self.position(offset_of!(Head, written)), self.position(offset_of!(Head, taken)));
        let (Some(written), Some(taken)) = positions else { return drained };
        let limit = out.len() + max;
        let mut at = taken.load(Ordering::Relaxed);
        // Pairs with `publish` of the kernel half.
        let end = written.load(Ordering::Acquire);
        drained.filled = ((end - at) * 256 / self.size) as u32;
        while at < end && out.len() < limit {
            let Some(record) = self.record(at) else { break };
            drained.last = Some(out.len() + 4..out.len() + 4 + record.len());
            out.extend_from_slice(&(record.len() as u32).to_le_bytes());
            out.extend_from_slice(record);
            at += record.len() as u64;
            if at & (SEGMENT as u64 - 1) > SEGMENT_LAST {
                at = at.next_multiple_of(SEGMENT as u64);
            }
        }
        // What was read must not be written over before it was read.
        taken.store(at, Ordering::Release);
        drained.complete = at >= end;
        drained
    }
}

/// One mapped ring buffer.
pub(crate) struct SharedRing {
    consumer: Mapping,
    /// The producer's page, then the data.
    producer: Mapping,
    page: usize,
    size: u64,
}

impl SharedRing {
    /// Maps a `BPF_MAP_TYPE_RINGBUF` of `size` bytes.
    pub(crate) fn open(fd: BorrowedFd<'_>, size: u32) -> Result<Self, RecordError> {
        let page = page_size();
        let action = "mapping a ring buffer";
        let consumer = Mapping::new(fd, page, 0, true).map_err(RecordError::system(action))?;
        // The kernel offers the data twice (kernel/bpf/ringbuf.c); once is enough.
        let producer =
            Mapping::new(fd, page + size as usize, page, false).map_err(RecordError::system(action))?;
        Ok(Self { consumer, producer, page, size: u64::from(size) })
    }

    /// Appends the finished records to `out`, each after its length (u32, little-endian), at most about `max` bytes.
    fn drain(&self, out: &mut Vec<u8>, max: usize) -> Drained {
        let limit = out.len() + max;
        let mut last = None;
        let mut at = position(&self.consumer).load(Ordering::Relaxed);
        // Pairs with the smp_store_release of producer_pos in __bpf_ringbuf_reserve.
        let end = position(&self.producer).load(Ordering::Acquire);
        let filled = ((end - at) * 256 / self.size) as u32;
        while at < end && out.len() < limit {
            // Pairs with the xchg of the header in bpf_ringbuf_commit: the record is complete when BUSY is gone.
            let header = self.header(at).load(Ordering::Acquire);
            if header & BUSY != 0 {
                break;
            }
            let len = header & !DISCARD;
            if header & DISCARD == 0 {
                last = Some(out.len() + 4..out.len() + 4 + len as usize);
                out.extend_from_slice(&len.to_le_bytes());
                self.copy(at + HEADER, u64::from(len), out);
            }
            at += (HEADER + u64::from(len)).next_multiple_of(8);
        }
        // Pairs with the smp_load_acquire of consumer_pos in __bpf_ringbuf_reserve.
        position(&self.consumer).store(at, Ordering::Release);
        Drained { filled, complete: at >= end, last }
    }

    fn header(&self, at: u64) -> &AtomicU32 {
        let offset = self.page + (at & (self.size - 1)) as usize;
        // SAFETY: the offset is inside the mapping.
        let at = unsafe { self.producer.start().add(offset) };
        // SAFETY: records are aligned to 8 bytes, and the mapping lives as long as `self`.
        unsafe { at.cast::<AtomicU32>().as_ref() }
    }

    fn copy(&self, at: u64, len: u64, out: &mut Vec<u8>) {
        let begin = at & (self.size - 1);
        let first = len.min(self.size - begin);
        out.extend_from_slice(self.data(begin, first));
        out.extend_from_slice(self.data(0, len - first));
    }

    fn data(&self, begin: u64, len: u64) -> &[u8] {
        // SAFETY: `begin + len ≤ size`, inside the mapping.
        let start = unsafe { self.producer.start().add(self.page + begin as usize) };
        // SAFETY: the kernel does not write a committed record until the consumer position passes it.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len as usize) }
    }
}

/// The position word at the start of a ring's consumer or producer page (`struct bpf_ringbuf`).
fn position(page: &Mapping) -> &AtomicU64 {
    // SAFETY: a mapping is at least a page, and aligned to one.
    unsafe { page.start().cast::<AtomicU64>().as_ref() }
}
