//! A writer whose chunks stay in a ring, and one that a ring's chunks are dumped to: what [`crate::ring`] needs of both.

use super::chunks::Entries;
use super::output::NoSink;
use super::{TraceWriter, WriteError, WriteOptions, check_header, gate, slot_of_kind};
use crate::codec::CLASSES;
use crate::dictionary::{Ids, Interner};
use crate::layout::{self, kind};
use crate::redact::Gate;
use crate::ring::{Ring, RingOptions, Stored};
use crate::{ClockAnchor, Header, Snapshot, Window};
use std::path::PathBuf;

impl TraceWriter {
    pub(crate) fn start_ring(header: &Header, options: RingOptions) -> Result<Self, WriteError> {
        check_header(header)?;
        let (level, chunk_events) = (options.level, options.chunk_events.clamp(1, layout::MAX_EVENTS));
        let redact = options.redact;
        let write = WriteOptions { level, chunk_events, keyframe_bytes: u64::MAX, redact };
        let path = PathBuf::from("the window");
        let gate = gate(redact, &path)?;
        let mut writer = Self::prepare(Box::new(NoSink), path, header, write, gate)?;
        writer.dictionary = Interner::endless();
        writer.ring = Some(Box::new(Ring::new(options, header.tick_ns)));
        Ok(writer)
    }

    /// What window of a longer recording the trace holds. To be told before the first event.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn window(&mut self, window: &Window) -> Result<(), WriteError> {
        let window = self.gate.window(window);
        self.queue_metadata(kind::WINDOW, "window", &window)?;
        self.out.drain()
    }

    /// Writes a chunk of a ring. `lost_before`: losses, by class, that the trace does not tell of.
    pub(crate) fn append(&mut self, chunk: &Stored, lost_before: &[u64]) -> Result<(), WriteError> {
        let mut header = chunk.header;
        header.lost = header.lost.saturating_sub(lost_before.iter().sum());
        if let Some(at) = slot_of_kind(header.kind) {
            header.lost_class = header.lost_class.saturating_sub(lost_before[at]);
        }
        self.lost = self.lost.max(header.lost);
        self.anchor = ClockAnchor {
            t_ns: header.anchor[0],
            monotonic_ns: header.anchor[1],
            realtime_ns: header.anchor[2],
        };
        for (given, needs) in self.appended_ids.iter_mut().zip(header.needs) {
            *given = (*given).max(needs);
        }
        self.place(header, &chunk.payload, (chunk.tasks.clone(), chunk.cookies.clone()));
        self.out.drain()
    }

    /// The gate of a dump: names in it are those of the ring.
    pub(crate) fn gate_for_dump(&self) -> Gate {
        self.gate.again()
    }

    pub(crate) fn ring_ref(&self) -> Option<&Ring> {
        self.ring.as_deref()
    }

    pub(crate) fn ring_mut(&mut self) -> Option<&mut Ring> {
        self.ring.as_deref_mut()
    }

    pub(crate) fn queue_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), WriteError> {
        let snapshot = self.gate.snapshot(snapshot);
        self.queue_metadata(kind::SNAPSHOT, "snapshot", &snapshot)
    }

    /// Losses pushed so far, by class.
    pub(crate) fn lost_by_class(&self) -> [u64; CLASSES.len()] {
        std::array::from_fn(|at| self.classes[at].lost)
    }

    pub(crate) fn dictionary_bytes(&self) -> usize {
        self.dictionary.bytes()
    }

    pub(crate) fn complete_ids(&self, alive: &mut Ids) {
        self.dictionary.complete(alive);
    }

    /// Drops all other entries, and writes those that stay once more.
    pub(crate) fn retain_ids(&mut self, alive: &Ids) -> Result<(), WriteError> {
        self.dictionary.retain(alive);
        self.queue_entries(Entries::All, 0)
    }
}
