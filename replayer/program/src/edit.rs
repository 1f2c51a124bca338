//! Walks through the steps of a sealed program a chunk at a time, and takes waits back.

use crate::stored::{self, CHUNK_HEAD_BYTES, ChunkHead};
use crate::{CHUNK_STEPS, DecodeError, Program, RESERVED_BYTES, Step, Wait};
use std::os::unix::fs::FileExt;

/// A wait, and where its sequence number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedWait {
    /// The wait.
    pub wait: Wait,
    offset: u64,
    len: u8,
}

/// A step with its waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedStep {
    /// Its index.
    pub index: u32,
    /// The step; its `waits` is not set.
    pub step: Step,
    /// What it waits for.
    pub waits: Vec<PlacedWait>,
}

impl Program {
    /// The steps of a task's chunk, in order; none beyond the last.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn chunk(&self, task: u32, chunk: u32) -> Result<Vec<PlacedStep>, DecodeError> {
        let invalid = |what, value| DecodeError::Invalid { what, value };
        let entry = self.tasks.get(task as usize);
        let entry = entry.ok_or_else(|| invalid("no such task", u64::from(task)))?;
        let first = u64::from(chunk) * u64::from(CHUNK_STEPS);
        if first >= u64::from(entry.steps) {
            return Ok(Vec::new());
        }
        let mut word = [0; 8];
        self.read(entry.chunks + u64::from(chunk) * 8, &mut word)?;
        let at = u64::from_ne_bytes(word);
        let mut head = [0; CHUNK_HEAD_BYTES as usize];
        self.read(at, &mut head)?;
        let [t_ns @ .., e0, e1, e2, e3, s0, s1, s2, s3] = head;
        let head = ChunkHead {
            t_ns: u64::from_ne_bytes(t_ns),
            event: u32::from_ne_bytes([e0, e1, e2, e3]),
            steps: u32::from_ne_bytes([s0, s1, s2, s3]),
        };
        if head.steps > CHUNK_STEPS {
            return Err(invalid("steps of a chunk", u64::from(head.steps)));
        }
        let mut ends = vec![0; head.steps as usize * size_of::<u32>()];
        self.read(at + CHUNK_HEAD_BYTES, &mut ends)?;
        let ends: Vec<u32> = ends.as_chunks().0.iter().map(|end| u32::from_ne_bytes(*end)).collect();
        let base = at + CHUNK_HEAD_BYTES + u64::from(head.steps) * size_of::<u32>() as u64;
        let len = ends.last().copied().unwrap_or(0);
        if u64::from(len) > self.header.len {
            return Err(invalid("end of a step", u64::from(len)));
        }
        let mut bytes = vec![0; len as usize];
        self.read(base, &mut bytes)?;
        let mut out = Vec::with_capacity(ends.len());
        let mut begin = 0;
        for (within, end) in ends.into_iter().enumerate() {
            let short = || invalid("a step that is cut short", base + u64::from(begin));
            let own = bytes.get(begin as usize..end as usize).ok_or_else(short)?;
            let (mut step, mut at) = stored::decode(&head, own).ok_or_else(short)?;
            let mut waits = Vec::new();
            for _ in 0..step.waits_len {
                let (wait, seq_at) = stored::decode_placed_wait(own, &mut at).ok_or_else(short)?;
                let offset = base + u64::from(begin) + seq_at as u64;
                waits.push(PlacedWait { wait, offset, len: (at - seq_at) as u8 });
            }
            step.waits = 0;
            out.push(PlacedStep { index: first as u32 + within as u32, step, waits });
            begin = end;
        }
        Ok(out)
    }

    /// Makes a wait one that always holds.
    ///
    /// # Errors
    /// When the program cannot be written.
    pub fn take_back(&self, wait: &PlacedWait) -> Result<(), DecodeError> {
        // Zero, in as many bytes as the number took.
        let mut zero = vec![0x80; usize::from(wait.len)];
        if let Some(last) = zero.last_mut() {
            *last = 0;
        }
        self.file()
            .write_all_at(&zero, RESERVED_BYTES + wait.offset)
            .map_err(|source| DecodeError::Io { offset: wait.offset, source })
    }
}
