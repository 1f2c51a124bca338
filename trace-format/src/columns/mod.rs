//! The columnar payload of an event chunk: rows grouped by shape, one column of integers per (shape, field).
//!
//! A *shape* is everything about an event that decides which fields it has (for a call: its number, its flags, which
//! arguments were kept, which details follow). Events of one shape share columns, so a column holds one argument of
//! one call and is homogeneous. [`TableBuilder`] collects, [`TableReader`] replays row by row without
//! materialising rows; both know nothing of what fields mean.

mod build;
mod replay;

pub(crate) use build::{EventSize, TableBuilder};
pub(crate) use replay::{RowHead, TableReader};

/// Columns a chunk may have.
pub(crate) const MAX_COLUMNS: usize = 32_768;
/// Shapes a chunk may have.
pub(crate) const MAX_SHAPES: usize = 4096;
/// Byte strings a chunk may have.
pub(crate) const MAX_BLOBS: usize = 262_144;
/// List elements a chunk may have, all lists together.
pub(crate) const MAX_ELEMENTS: usize = 1 << 20;
/// Keyed columns a chunk may have: each costs the reader a table.
const MAX_KEYED: usize = 256;
/// Values below which a keyed column is not worth its table.
const MIN_KEYED: usize = 64;
/// Slots of a keyed column's table.
const KEYED_SLOTS: usize = 1024;
/// Distinct values a dictionary column may have: an index then fits one byte.
const MAX_DISTINCT: usize = 128;
/// Fields of the rows themselves.
pub(crate) mod row {
    /// Index of the row's shape.
    pub(crate) const SHAPE: u32 = 0;
    /// The task, as the class encodes it.
    pub(crate) const TASK: u32 = 1;
    /// End of the event, ticks.
    pub(crate) const END: u32 = 2;
}

/// How a column's values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Encoding {
    Varint = 0,
    Const = 1,
    Delta = 2,
    Rising = 3,
    Dict = 4,
    // From 128 on, the directory entry carries a reference to another column.
    Same = 128,
    Diff = 129,
    Keyed = 130,
    /// Of a newer version: can be stepped over, not read.
    Unknown = 255,
}

impl Encoding {
    fn from_u8(byte: u8) -> Self {
        use Encoding::{Const, Delta, Dict, Diff, Keyed, Rising, Same, Unknown, Varint};
        let known = [Varint, Const, Delta, Rising, Dict, Same, Diff, Keyed];
        known.into_iter().find(|e| *e as u8 == byte).unwrap_or(Unknown)
    }
    fn has_reference(self) -> bool {
        matches!(self, Self::Same | Self::Diff | Self::Keyed)
    }
}

/// What a column's values may have to do with another column of its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// Nothing.
    None,
    /// They often equal or resemble those of one of these fields.
    Near(&'static [u32]),
    /// They are often the last ones seen with the same task and the same value of this field.
    KeyedBy(u32),
}

/// Slot of a keyed column's table.
#[inline]
fn slot(task: u64, key: u64) -> usize {
    let mixed = (key ^ task.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 54) as usize
}
