//! How steps are stored: what is not as usual, in as few bytes as it takes.
//!
//! A chunk of up to [`crate::CHUNK_STEPS`] steps is a [`ChunkHead`], a `u32` per step with where it ends (counted from the
//! end of this table), and the steps one behind the other. A step is a word that says which of its fields follow, its
//! call number, then those fields, as LEB128 numbers; signed ones and operands, which are often −1, in zigzag order. Times
//! and event numbers count from those of the chunk. What a step waits for is behind it.

use crate::{Expect, Kind, Post, Step, Wait};

/// The first structure of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct ChunkHead {
    /// [`Step::t_ns`] of its first step.
    pub t_ns: u64,
    /// [`Step::event`] of its first step.
    pub event: u32,
    /// Number of steps.
    pub steps: u32,
}

/// Bytes of a [`ChunkHead`].
pub const CHUNK_HEAD_BYTES: u64 = size_of::<ChunkHead>() as u64;
/// Which fields follow, in this order. Operands and selectors have a bit per argument.
mod field {
    pub(super) const ARGS: u32 = 1;
    pub(super) const SELS: u32 = 1 << 6;
    pub(super) const FLAGS: u32 = 1 << 12;
    pub(super) const KIND: u32 = 1 << 13;
    pub(super) const EXPECT_KIND: u32 = 1 << 14;
    pub(super) const EXPECT: u32 = 1 << 15;
    pub(super) const POST: u32 = 1 << 16;
    pub(super) const POST_ARG: u32 = 1 << 17;
    pub(super) const AUX: u32 = 1 << 18;
    pub(super) const THINK_CPU: u32 = 1 << 19;
    pub(super) const THINK_SLEEP: u32 = 1 << 20;
    pub(super) const DURATION: u32 = 1 << 21;
    pub(super) const TIME: u32 = 1 << 22;
    pub(super) const EVENT: u32 = 1 << 23;
    pub(super) const STREAM_ARGS: u32 = 1 << 24;
    pub(super) const WAITS: u32 = 1 << 25;
}

/// [`Step::len_arg`] and [`Step::fd_arg`] of most steps.
#[cfg(feature = "std")]
const LEN_ARG: u8 = Step::call(0).len_arg;
#[cfg(feature = "std")]
const FD_ARG: u8 = Step::call(0).fd_arg;

const fn zigzag(value: u64) -> u64 {
    (value << 1) ^ ((value as i64 >> 63) as u64)
}

const fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

/// A number at the beginning of `bytes`, and how many bytes it takes.
#[inline]
fn number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 {
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    let mut shift = 7;
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
}

/// The step that begins `bytes`, and where its waits begin. `None` when there is none.
#[inline]
pub fn decode(head: &ChunkHead, bytes: &[u8]) -> Option<(Step, usize)> {
    let mut at = 0;
    let has = number(bytes, &mut at)? as u32;
    let mut step = Step::call(number(bytes, &mut at)? as u32);
    let mut left = has & (field::SELS - field::ARGS);
    while left != 0 {
        let index = left.trailing_zeros() as usize;
        left &= left - 1;
        *step.args.get_mut(index)? = unzigzag(number(bytes, &mut at)?);
    }
    let mut left = (has / field::SELS) & 0x3f;
    while left != 0 {
        let index = left.trailing_zeros() as usize;
        left &= left - 1;
        *step.sel.get_mut(index)? = *bytes.get(at)?;
        at += 1;
    }
    let byte = |at: &mut usize| {
        *at += 1;
        bytes.get(*at - 1).copied()
    };
    if has & field::FLAGS != 0 {
        step.flags = number(bytes, &mut at)? as u32;
    }
    if has & field::KIND != 0 {
        step.kind = byte(&mut at)?;
    }
    if has & field::EXPECT_KIND != 0 {
        step.expect_kind = byte(&mut at)?;
    }
    if has & field::EXPECT != 0 {
        step.expect = unzigzag(number(bytes, &mut at)?) as i64;
    }
    if has & field::POST != 0 {
        step.post = byte(&mut at)?;
    }
    if has & field::POST_ARG != 0 {
        step.post_arg = number(bytes, &mut at)?;
    }
    if has & field::AUX != 0 {
        step.aux = number(bytes, &mut at)?;
    }
    if has & field::THINK_CPU != 0 {
        step.think_cpu_ns = number(bytes, &mut at)?;
    }
    if has & field::THINK_SLEEP != 0 {
        step.think_sleep_ns = number(bytes, &mut at)?;
    }
    if has & field::DURATION != 0 {
        step.duration_ns = number(bytes, &mut at)?;
    }
    step.t_ns = head.t_ns;
    if has & field::TIME != 0 {
        step.t_ns = step.t_ns.wrapping_add(unzigzag(number(bytes, &mut at)?));
    }
    step.event = head.event;
    if has & field::EVENT != 0 {
        step.event = step.event.wrapping_add(unzigzag(number(bytes, &mut at)?) as u32);
    }
    if has & field::STREAM_ARGS != 0 {
        step.len_arg = byte(&mut at)?;
        step.fd_arg = byte(&mut at)?;
    }
    if has & field::WAITS != 0 {
        step.waits_len = number(bytes, &mut at)? as u32;
    }
    Some((step, at))
}

/// The next of the waits behind a step.
#[inline]
pub fn decode_wait(bytes: &[u8], at: &mut usize) -> Option<Wait> {
    decode_placed_wait(bytes, at).map(|(wait, _)| wait)
}

/// As [`decode_wait`], with where its sequence number begins.
#[inline]
pub fn decode_placed_wait(bytes: &[u8], at: &mut usize) -> Option<(Wait, usize)> {
    let task = number(bytes, at)? as u32;
    let seq_at = *at;
    Some((Wait { task, seq: number(bytes, at)? as u32 }, seq_at))
}

const _: () = assert!(Kind::Call as u8 == 0 && Expect::Any as u8 == 0 && Post::None as u8 == 0);

/// Numbers one behind the other.
#[cfg(feature = "std")]
struct Numbers<const N: usize> {
    /// A step has at most 6 operands and 7 further fields of up to 10 bytes, and 20 smaller ones of up to 5.
    bytes: [u8; N],
    len: usize,
}

#[cfg(feature = "std")]
impl<const N: usize> Numbers<N> {
    #[inline]
    fn put(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes[self.len] = value as u8 | 0x80;
            self.len += 1;
            value >>= 7;
        }
        self.bytes[self.len] = value as u8;
        self.len += 1;
    }

    /// A field that is stored when it is not as usual. Returns its bit, if it was.
    #[inline]
    fn field(&mut self, bit: u32, differs: bool, value: u64) -> u32 {
        if differs {
            self.put(value);
            return bit;
        }
        0
    }
}

/// Appends a step and what it waits for.
#[cfg(feature = "std")]
pub fn encode(head: &ChunkHead, step: &Step, waits: &[Wait], out: &mut Vec<u8>) {
    let mut n = Numbers { bytes: [0; 240], len: 0 };
    let mut has = 0;
    n.put(u64::from(step.nr));
    for (index, operand) in step.args.iter().enumerate() {
        has |= n.field(field::ARGS << index, *operand != 0, zigzag(*operand));
    }
    // Selectors and kinds are below 128: a number of one byte is that byte.
    for (index, sel) in step.sel.iter().enumerate() {
        has |= n.field(field::SELS << index, *sel != 0, u64::from(sel & 0x7f));
    }
    let mut field = |bit: u32, value: u64| has |= n.field(bit, value != 0, value);
    field(field::FLAGS, u64::from(step.flags));
    field(field::KIND, u64::from(step.kind & 0x7f));
    field(field::EXPECT_KIND, u64::from(step.expect_kind & 0x7f));
    field(field::EXPECT, zigzag(step.expect as u64));
    field(field::POST, u64::from(step.post & 0x7f));
    field(field::POST_ARG, step.post_arg);
    field(field::AUX, step.aux);
    field(field::THINK_CPU, step.think_cpu_ns);
    field(field::THINK_SLEEP, step.think_sleep_ns);
    field(field::DURATION, step.duration_ns);
    field(field::TIME, zigzag(step.t_ns.wrapping_sub(head.t_ns)));
    field(field::EVENT, zigzag(i64::from(step.event.wrapping_sub(head.event) as i32) as u64));
    if (step.len_arg, step.fd_arg) != (LEN_ARG, FD_ARG) {
        has |= field::STREAM_ARGS;
        n.put(u64::from(step.len_arg & 0x7f));
        n.put(u64::from(step.fd_arg & 0x7f));
    }
    if !waits.is_empty() {
        has |= field::WAITS;
        n.put(waits.len() as u64);
    }
    let mut first = Numbers { bytes: [0; 8], len: 0 };
    first.put(u64::from(has));
    out.extend_from_slice(&first.bytes[..first.len]);
    out.extend_from_slice(&n.bytes[..n.len]);
    for wait in waits {
        let mut n = Numbers { bytes: [0; 16], len: 0 };
        n.put(u64::from(wait.task));
        n.put(u64::from(wait.seq));
        out.extend_from_slice(&n.bytes[..n.len]);
    }
}
