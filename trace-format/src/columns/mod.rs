//! The columnar payload of an event chunk: rows grouped by shape, one column of integers per (shape, field).
//!
//! A *shape* is everything about an event that decides which fields it has (for a call: its number, its flags, which
//! arguments were kept, which details follow). Events of one shape share columns, so a column holds one argument of
//! one call and is homogeneous. [`TableBuilder`] collects, [`TableReader`] replays row by row without
//! materialising rows; both know nothing of what fields mean.

mod build;
mod chain;
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
    /// Of a shape's group: the shape of the next row of the row's task.
    pub(crate) const NEXT: u32 = 0;
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
    // Of the columns of the rows only.
    Ranked = 5,
    Linked = 6,
    Chained = 7,
    // From 128 on, the directory entry carries a reference to another column.
    Same = 128,
    Diff = 129,
    Keyed = 130,
    /// Of a newer version: can be stepped over, not read.
    Unknown = 255,
}

impl Encoding {
    fn from_u8(byte: u8) -> Self {
        use Encoding::{
            Chained, Const, Delta, Dict, Diff, Keyed, Linked, Ranked, Rising, Same, Unknown, Varint,
        };
        let known = [Varint, Const, Delta, Rising, Dict, Ranked, Linked, Chained, Same, Diff, Keyed];
        known.into_iter().find(|e| *e as u8 == byte).unwrap_or(Unknown)
    }
    fn has_reference(self) -> bool {
        matches!(self, Self::Same | Self::Diff | Self::Keyed)
    }
}

/// What to know of a column when choosing its encoding: what its values may have to do with another column of its
/// shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// Nothing.
    None,
    /// They often equal or resemble those of one of these fields.
    Near(&'static [u32]),
    /// They are often the last ones seen with the same task and the same value of this field.
    KeyedBy(u32),
    /// Nothing, and every row has a byte of it at least: it may not be left out.
    Present,
}

/// Slot of a keyed column's table.
#[inline]
fn slot(task: u64, key: u64) -> usize {
    let mixed = (key ^ task.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 54) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const FIRST: u32 = 2;
    const NEAR: u32 = 8;
    const KEYED: u32 = 9;
    const LIST: u32 = 64;

    fn relation(field: u32) -> Relation {
        match field {
            NEAR => Relation::Near(&[FIRST, 3]),
            KEYED => Relation::KeyedBy(FIRST),
            _ => Relation::None,
        }
    }

    /// A row: shape, task, end, the values of its scalar fields, its list.
    type Input = (u8, u64, u64, [u64; 4], Vec<u64>);

    /// Values as calls have them: few, or equal, or growing, or anything.
    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![8 => 0u64..4, 4 => 1000u64..1008, 2 => (0u64..60).prop_map(|n| n << 34), 1 => any::<u64>()]
    }

    fn rows() -> impl Strategy<Value = Vec<Input>> {
        let row = (0u8..3, 0u64..3, any::<u32>(), [value(), value(), value(), value()], vec(value(), 0..3));
        (vec(row, 1..700), 0u8..4).prop_map(|(rows, order)| {
            let mut clock = 0u64;
            let rows = rows.into_iter().map(|(shape, task, step, mut values, list)| {
                clock = clock.wrapping_add(match order {
                    0 => u64::from(step % 100),
                    1 => u64::from(step),
                    2 => u64::from(step) << 32,
                    _ => u64::from(step % 100).wrapping_sub(50),
                });
                // Near and keyed columns that mostly are what their relation says.
                if step % 9 > 0 {
                    values[2] = values[0];
                    values[3] = values[0].wrapping_mul(7).wrapping_add(task);
                }
                if order == 1 {
                    values[1] = clock;
                }
                (shape, task, clock, values, list)
            });
            rows.collect()
        })
    }

    /// Rows of few or many tasks: shape, task, start, how long it took.
    fn chained() -> impl Strategy<Value = Vec<(u8, u64, u64, u64)>> {
        let task = prop_oneof![8 => 0u64..3, 4 => 0u64..5000, 1 => any::<u64>()];
        let start = prop_oneof![9 => 0u64..50_000, 1 => any::<u64>()];
        vec((0u8..5, task, start, value()), 1..700)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn every_value_comes_back_within_the_announced_size(first in rows(), second in rows()) {
            let mut table = TableBuilder::new();
            // The second chunk reuses what the first one allocated.
            for rows in [first, second] {
                for (shape, task, end, values, list) in &rows {
                    let blob = table.blob(&[*shape; 3]);
                    let mut row = table.row(&[*shape], *task, *end, list.len());
                    for (field, value) in [FIRST, 3, NEAR, KEYED].into_iter().zip(values) {
                        row.put(field, *value);
                    }
                    row.put(LIST, list.len() as u64);
                    for value in list {
                        row.put(LIST + 1, *value);
                        row.put(LIST + 2, !*value);
                    }
                    row.put(LIST + 3, blob);
                }
                let mut payload = Vec::new();
                table.encode(relation, &mut payload, &mut Vec::new());
                prop_assert!(payload.len() <= table.bound(), "{} > {}", payload.len(), table.bound());
                table.clear();

                let mut reader = TableReader::new(payload, rows.len() as u32).unwrap();
                for (shape, task, end, values, list) in &rows {
                    let row = reader.next_row().unwrap();
                    prop_assert_eq!((row.task, row.end), (*task, *end));
                    prop_assert_eq!(reader.shape_key(row.shape), &[*shape]);
                    for (field, value) in [FIRST, 3, NEAR, KEYED].into_iter().zip(values) {
                        prop_assert_eq!(reader.pull(&row, field).unwrap(), *value);
                    }
                    prop_assert_eq!(reader.pull_len(&row, LIST).unwrap(), list.len());
                    for value in list {
                        prop_assert_eq!(reader.pull(&row, LIST + 1).unwrap(), *value);
                        prop_assert_eq!(reader.pull(&row, LIST + 2).unwrap(), !*value);
                    }
                    let blob = reader.pull(&row, LIST + 3).unwrap();
                    prop_assert_eq!(reader.blob(blob).unwrap(), &[*shape; 3]);
                }
                prop_assert!(reader.check_end().is_ok());
                prop_assert!(reader.next_row().is_err(), "a row behind the last");
            }
        }

        #[test]
        fn chained_rows_come_back_within_the_announced_size(
            first in chained(),
            second in chained(),
        ) {
            let mut table = TableBuilder::new();
            for rows in [first, second] {
                for (shape, task, start, took) in &rows {
                    let times = (*start, start.wrapping_add(*took));
                    table.row_in_chain(&[*shape], *task, times, 0, 12).put(FIRST, *took);
                }
                let mut payload = Vec::new();
                let present = |field| if field == 12 { Relation::Present } else { Relation::None };
                table.encode(present, &mut payload, &mut Vec::new());
                prop_assert!(payload.len() <= table.bound(), "{} > {}", payload.len(), table.bound());
                prop_assert!(payload.len() >= rows.len());
                table.clear();

                let mut reader = TableReader::new(payload, rows.len() as u32).unwrap();
                prop_assert!(reader.is_chained());
                for (shape, task, start, took) in &rows {
                    let row = reader.next_row().unwrap();
                    prop_assert_eq!(row.task, *task);
                    prop_assert_eq!(reader.shape_key(row.shape), &[*shape]);
                    let gap = reader.pull(&row, 12).unwrap();
                    prop_assert_eq!(reader.pull(&row, FIRST).unwrap(), *took);
                    prop_assert_eq!(reader.end(&row, gap, *took), start.wrapping_add(*took));
                }
                prop_assert!(reader.check_end().is_ok());
                prop_assert!(reader.next_row().is_err(), "a row behind the last");
            }
        }
    }
}
