//! Kernel records as bytes: taking a batch apart, and when each record ended.

use ctrace_abi::{
    AggregateRecord, BlockEvent, Call, CallArgs, CapEvent, Comm, Creds, DnsEvent, Exec, Exit, FaultEvent,
    FileObject, Fork, Group, Join, LevelChange, OomEvent, Short, SignalEvent, SockObject, TcpEvent,
    TrafficEvent, UringEvent, UsageEvent, kind, short_flag,
};

/// A structure that the kernel half sends: any bytes are a value of it.
pub(crate) trait Record: Copy {}
impl Record for Call {}
impl Record for CallArgs {}
impl Record for Fork {}
impl Record for Exec {}
impl Record for Exit {}
impl Record for Comm {}
impl Record for Join {}
impl Record for Group {}
impl Record for FileObject {}
impl Record for SockObject {}
impl Record for TcpEvent {}
impl Record for SignalEvent {}
impl Record for ctrace_abi::Tlv {}
impl Record for UsageEvent {}
impl Record for FaultEvent {}
impl Record for OomEvent {}
impl Record for CapEvent {}
impl Record for TrafficEvent {}
impl Record for DnsEvent {}
impl Record for BlockEvent {}
impl Record for UringEvent {}
impl Record for Creds {}
impl Record for Short {}
impl Record for LevelChange {}
impl Record for AggregateRecord {}
impl Record for [u64; 3] {}
impl Record for u64 {}

/// Length of a [`Short`] with these flags and what follows it, before the word of [`short_flag::TAIL`].
pub(crate) fn short_len(flags: u16) -> usize {
    let part = |flag: u16, len: usize| if flags & flag == 0 { 0 } else { len };
    size_of::<Short>()
        + part(short_flag::ARGS, 24)
        + part(short_flag::MORE_ARGS, 24)
        + part(short_flag::WAITS, 24)
        + part(short_flag::TIME, 8)
}

/// A [`Short`] and what follows it, as the long form: the call, and its items.
pub(crate) fn long(record: &[u8]) -> Option<(Call, &[u8])> {
    let short: Short = read(record)?;
    let mut call = Call {
        kind: kind::CALL,
        abi: short.abi,
        flags: short.flags & (short_flag::TAIL - 1),
        tid: short.tid,
        t_ns: short.t_ns,
        dur_ns: short.dur_ns,
        ret: short.ret,
        nr: short.nr,
        tgid: short.tgid,
        file: short.file,
        ..Call::default()
    };
    let mut rest = record.get(size_of::<Short>()..)?;
    let mut three = || {
        let words = read::<[u64; 3]>(rest)?;
        rest = &rest[24..];
        Some(words)
    };
    if short.flags & short_flag::ARGS != 0 {
        call.args[..3].copy_from_slice(&three()?);
    }
    if short.flags & short_flag::MORE_ARGS != 0 {
        call.args[3..].copy_from_slice(&three()?);
    }
    if short.flags & short_flag::WAITS != 0 {
        [call.wait_cpu_ns, call.blocked_ns, call.run_wait_ns] = three()?;
    }
    if short.flags & short_flag::TIME != 0 {
        call.time_ns = read(rest)?;
        rest = &rest[8..];
    }
    let tail = if short.flags & short_flag::TAIL != 0 { rest.get(8..)? } else { &[] };
    Some((call, tail))
}

/// The bytes of a record that user space makes of an entry of the map of aggregates, after their length.
pub(crate) fn push_aggregate(out: &mut Vec<u8>, record: &AggregateRecord) {
    let len = size_of::<AggregateRecord>();
    out.extend_from_slice(&(len as u32).to_le_bytes());
    // SAFETY: integers only, without padding (ctrace-abi checks the size).
    out.extend_from_slice(unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast(), len) });
}

/// Reads a structure from the start of `bytes`.
pub(crate) fn read<T: Record>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough, and every bit pattern is a value (see `Record`).
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// When a record's event was complete, `CLOCK_BOOTTIME`: the order in which records are processed.
pub(crate) fn end_ns(record: &[u8]) -> u64 {
    let word =
        |at: usize| record.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    match record.first() {
        // t_ns is at 8 in every record; a call ends `dur_ns` later.
        Some(&(kind::CALL | kind::SHORT)) => word(8).saturating_add(word(16)),
        Some(_) => word(8),
        None => 0,
    }
}

/// Iterates over the records of a batch, as [`crate::ring::Ring::drain`] lays them out.
pub(crate) struct Records<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    pub(crate) fn new(batch: &'a [u8]) -> Self {
        Self { rest: batch, at: 0 }
    }
}

impl Iterator for Records<'_> {
    /// Offset and length of the record in the batch.
    type Item = (usize, usize);
    fn next(&mut self) -> Option<Self::Item> {
        let head = self.rest.get(self.at..self.at + 4)?;
        let len = u32::from_le_bytes(head.try_into().ok()?) as usize;
        let start = self.at + 4;
        self.rest.get(start..start + len)?;
        self.at = start + len;
        Some((start, len))
    }
}

/// Holds records back until nothing earlier can come, and releases them in order of their end.
///
/// A record may be released when its end is before the time at which a complete pass over all rings began, less
/// [`Sorter::SLACK_NS`]: every program takes its time stamp and submits within microseconds, unless the machine's
/// hypervisor takes the CPU away in between. What comes later still is released at once: it is late, not lost.
#[derive(Default)]
pub(crate) struct Sorter {
    bytes: Vec<u8>,
    index: Vec<Held>,
    spare: Vec<u8>,
}

/// A record that is held back.
#[derive(Clone, Copy)]
struct Held {
    end_ns: u64,
    start: u32,
    len: u32,
}

/// Set in the length of the record of an exit: a task's last call ends at the very time of its exit, and comes first.
/// The rings are read one by one.
const LAST: u32 = 1 << 31;
/// Set in the length of every other record but the description of an object, which has the very time of the end of the call
/// that made it. That call may be told of from another CPU, hence in a ring that is read sooner, when its task has moved;
/// described later, it would be about what was at that address of the kernel's before.
const AFTER: u32 = 1 << 30;
/// What comes first of what has the same time.
const RANK: u32 = LAST | AFTER;

fn rank(record: &[u8]) -> u32 {
    match record.first() {
        Some(&kind::EXIT) => LAST,
        Some(&(kind::FILE | kind::SOCK)) => 0,
        _ => AFTER,
    }
}

impl Sorter {
    /// How long a program may take from its time stamp to its submission.
    pub(crate) const SLACK_NS: u64 = 1_000_000;

    /// Takes a batch in. What is held is the smaller part, and goes behind it.
    pub(crate) fn add(&mut self, mut batch: Vec<u8>) {
        let taken = self.index.len();
        self.index.reserve(batch.len() / 64);
        for (start, len) in Records::new(&batch) {
            let record = &batch[start..start + len];
            let len = len as u32 | rank(record);
            self.index.push(Held { end_ns: end_ns(record), start: start as u32, len });
        }
        let base = batch.len() as u32;
        batch.extend_from_slice(&self.bytes);
        for held in &mut self.index[..taken] {
            held.start += base;
        }
        self.bytes = batch;
    }

    /// Releases what ended before `watermark`.
    pub(crate) fn release(&mut self, watermark: u64, mut each: impl FnMut(&[u8])) {
        // Stable, and fast on runs that are sorted already, which the rings are nearly.
        self.index.sort_by_key(|held| (held.end_ns, held.len & RANK));
        let split = self.index.partition_point(|held| held.end_ns < watermark);
        let range = |held: &Held| held.start as usize..(held.start + (held.len & !RANK)) as usize;
        for held in &self.index[..split] {
            each(&self.bytes[range(held)]);
        }
        self.spare.clear();
        let mut kept = Vec::with_capacity(self.index.len() - split);
        for held in &self.index[split..] {
            kept.push(Held { start: self.spare.len() as u32, ..*held });
            self.spare.extend_from_slice(&self.bytes[range(held)]);
        }
        self.index = kept;
        std::mem::swap(&mut self.bytes, &mut self.spare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctrace_abi::call_flag;

    fn exit_at(t: u64) -> Vec<u8> {
        let mut r = vec![0_u8; 24];
        r[0] = kind::EXIT;
        r[8..16].copy_from_slice(&t.to_le_bytes());
        let mut out = 24_u32.to_le_bytes().to_vec();
        out.extend(r);
        out
    }

    #[test]
    fn records_are_released_in_order_and_not_before_the_watermark() {
        let mut sorter = Sorter::default();
        sorter.add([exit_at(30), exit_at(10)].concat());
        sorter.add([exit_at(20), exit_at(40)].concat());
        let mut seen = Vec::new();
        sorter.release(35, |r| seen.push(end_ns(r)));
        assert_eq!(seen, [10, 20, 30]);
        sorter.release(u64::MAX, |r| seen.push(end_ns(r)));
        assert_eq!(seen, [10, 20, 30, 40]);
        sorter.release(u64::MAX, |_| panic!("released twice"));
    }

    #[test]
    fn what_a_call_made_is_described_before_the_call_whatever_ring_is_read_first() {
        let record = |kind: u8| {
            let mut r = vec![0_u8; 24];
            r[0] = kind;
            r[8..16].copy_from_slice(&30_u64.to_le_bytes());
            [24_u32.to_le_bytes().to_vec(), r].concat()
        };
        let mut sorter = Sorter::default();
        sorter
            .add([record(kind::EXIT), record(kind::SHORT), record(kind::SOCK), record(kind::FILE)].concat());
        let mut seen = Vec::new();
        sorter.release(u64::MAX, |r| seen.push(r[0]));
        assert_eq!(seen, [kind::SOCK, kind::FILE, kind::SHORT, kind::EXIT]);
    }

    #[test]
    fn a_call_comes_with_the_items_behind_its_words() {
        let flags = short_flag::ARGS | short_flag::TIME | short_flag::TAIL | call_flag::TRUNCATED;
        let mut record = vec![kind::SHORT, 0];
        record.extend(flags.to_ne_bytes());
        record.resize(size_of::<Short>(), 0);
        for word in [1_u64, 2, 3, 77, 16, 0xaa, 0xbb] {
            record.extend(word.to_ne_bytes());
        }
        assert_eq!(short_len(flags) + 8 + 16, record.len());
        let (call, tail) = long(&record).expect("a call");
        assert_eq!((call.args, call.time_ns, call.flags), ([1, 2, 3, 0, 0, 0], 77, call_flag::TRUNCATED));
        assert_eq!(tail, [0xaa_u64.to_ne_bytes(), 0xbb_u64.to_ne_bytes()].concat());
        assert!(long(&record[..short_len(flags) - 1]).is_none());
    }

    #[test]
    fn a_cut_batch_ends_instead_of_panicking() {
        let batch = exit_at(1);
        assert_eq!(Records::new(&batch[..10]).count(), 0);
        assert_eq!(Records::new(&[1, 2]).count(), 0);
    }
}
