//! Collecting rows and encoding their columns.

use super::chain::{Chain, Recent};
use super::{
    Encoding, KEYED_SLOTS, MAX_BLOBS, MAX_COLUMNS, MAX_DISTINCT, MAX_ELEMENTS, MAX_KEYED, MAX_SHAPES,
    MIN_KEYED, Relation, row, slot,
};
use crate::layout::MAX_EVENTS;
use crate::varint::{self, zigzag};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::HashMap;

/// What a new shape costs in the payload at most, besides its columns' values: its key and its counts.
const SHAPE_COST: usize = 16;
/// What a new column costs in the payload at most: its directory entry.
const COLUMN_COST: usize = 24;

/// Bytes from which on a column gets code lengths of its own: what a block costs is then well spent.
const LARGE: usize = 1024;

struct Column {
    field: u32,
    values: Vec<u64>,
}

struct Group {
    key: Box<[u8]>,
    rows: u32,
    columns: Vec<Column>,
    hint: usize,
    /// Of each row but a task's last: the shape of the task's next row.
    next: Vec<u32>,
}

impl Group {
    fn new(key: &[u8]) -> Self {
        Self { key: key.into(), rows: 0, columns: Vec::new(), hint: 0, next: Vec::new() }
    }
}

/// Collects the rows of one chunk.
pub(crate) struct TableBuilder {
    /// By [`packed`] key, and the others.
    packed_ids: FxHashMap<u128, u32>,
    shape_ids: FxHashMap<Box<[u8]>, u32>,
    shapes: Vec<Group>,
    used_shapes: usize,
    used_columns: usize,
    row_shape: Vec<u64>,
    row_task: Vec<u64>,
    /// Empty when the rows are chained.
    row_end: Vec<u64>,
    chain: Option<Chain>,
    /// Of chained rows whose task had none before: their shapes.
    firsts: Vec<u32>,
    blob_ids: HashMap<Box<[u8]>, u64>,
    blob_bytes: Vec<u8>,
    blob_lens: Vec<u32>,
    elements: usize,
    /// Upper bound of the encoded length.
    bound: usize,
}

/// Upper bounds of what one event adds to a chunk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EventSize {
    pub(crate) bytes: usize,
    /// List elements.
    pub(crate) elements: usize,
    /// Byte strings.
    pub(crate) blobs: usize,
    /// Columns, if its shape is new.
    pub(crate) columns: usize,
}

/// Where the values of one event go.
pub(crate) struct Row<'a> {
    group: &'a mut Group,
    bound: &'a mut usize,
    columns: &'a mut usize,
}

impl Row<'_> {
    /// Appends a value to the field's column.
    #[inline]
    pub(crate) fn put(&mut self, field: u32, value: u64) {
        *self.bound += varint::len(value);
        let hint = self.group.hint;
        match self.group.columns.get_mut(hint) {
            // A shape's rows have the same fields in the same order, except where lists are.
            Some(column) if column.field == field && !column.values.is_empty() => {
                self.group.hint = hint + 1;
                column.values.push(value);
            }
            _ => self.put_elsewhere(field, value),
        }
    }

    #[cold]
    fn put_elsewhere(&mut self, field: u32, value: u64) {
        let group = &mut *self.group;
        let expected = group.columns.get(group.hint).is_some_and(|c| c.field == field);
        let at =
            if expected { Some(group.hint) } else { group.columns.iter().position(|c| c.field == field) };
        let at = at.unwrap_or_else(|| {
            group.columns.push(Column { field, values: Vec::new() });
            group.columns.len() - 1
        });
        if group.columns[at].values.is_empty() {
            *self.bound += COLUMN_COST;
            *self.columns += 1;
        }
        group.columns[at].values.push(value);
        group.hint = at + 1;
    }
}

impl TableBuilder {
    pub(crate) fn new() -> Self {
        Self {
            packed_ids: FxHashMap::default(),
            shape_ids: FxHashMap::default(),
            shapes: Vec::new(),
            used_shapes: 0,
            used_columns: 3,
            row_shape: Vec::new(),
            row_task: Vec::new(),
            row_end: Vec::new(),
            chain: None,
            firsts: Vec::new(),
            blob_ids: HashMap::new(),
            blob_bytes: Vec::new(),
            blob_lens: Vec::new(),
            elements: 0,
            bound: 64,
        }
    }

    pub(crate) fn rows(&self) -> u32 {
        self.row_task.len() as u32
    }

    /// Upper bound of the encoded length.
    #[cfg(test)]
    pub(crate) fn bound(&self) -> usize {
        self.bound
    }

    /// Whether another event, which is at most this large, needs a new chunk.
    pub(crate) fn is_full(&self, size: &EventSize) -> bool {
        let EventSize { bytes, elements, blobs, columns } = *size;
        self.rows() >= MAX_EVENTS
            || self.bound + bytes > crate::layout::MAX_DECODED
            || self.elements + elements > MAX_ELEMENTS
            || self.blob_lens.len() + blobs > MAX_BLOBS
            || self.used_shapes >= MAX_SHAPES
            || self.used_columns + columns > MAX_COLUMNS
    }

    /// The index of a byte string of the chunk.
    pub(crate) fn blob(&mut self, bytes: &[u8]) -> u64 {
        if let Some(id) = self.blob_ids.get(bytes) {
            return *id;
        }
        let id = self.blob_lens.len() as u64;
        self.blob_ids.insert(bytes.into(), id);
        self.blob_bytes.extend_from_slice(bytes);
        self.blob_lens.push(bytes.len() as u32);
        self.bound += bytes.len() + varint::len(bytes.len() as u64);
        id
    }

    /// Begins a row; its fields follow through the [`Row`].
    pub(crate) fn row(&mut self, key: &[u8], task: u64, end: u64, elements: usize) -> Row<'_> {
        let id = self.begin(key, task, elements);
        self.row_end.push(end);
        // Deltas may take ten bytes where the difference wraps; the shape index at most two (`MAX_SHAPES`).
        self.bound += 2 + varint::len(task) + 10;
        Row { group: &mut self.shapes[id], bound: &mut self.bound, columns: &mut self.used_columns }
    }

    /// As [`TableBuilder::row`], for a class whose tasks do one thing after the other: the row's time is `gap_field`,
    /// its start's distance from the end of the task's last row. All rows of a chunk are such rows, or none is.
    pub(crate) fn row_in_chain(
        &mut self,
        key: &[u8],
        task: u64,
        (start, end): (u64, u64),
        elements: usize,
        gap_field: u32,
    ) -> Row<'_> {
        let id = self.begin(key, task, elements);
        let chain = self.chain.get_or_insert_with(Chain::new);
        let gap = chain.gap(task, start);
        if let Some(last) = chain.shape(task) {
            let last = &mut self.shapes[last];
            if last.next.is_empty() {
                self.bound += COLUMN_COST;
                self.used_columns += 1;
            }
            last.next.push(id as u32);
        } else {
            self.firsts.push(id as u32);
        }
        chain.push(task, id, end);
        self.bound += 2 + varint::len(Recent::bound(task));
        let mut row =
            Row { group: &mut self.shapes[id], bound: &mut self.bound, columns: &mut self.used_columns };
        row.put(gap_field, gap);
        row
    }

    fn begin(&mut self, key: &[u8], task: u64, elements: usize) -> usize {
        let packed = packed(key);
        let known = packed.map_or_else(|| self.shape_ids.get(key), |packed| self.packed_ids.get(&packed));
        let id = if let Some(id) = known {
            *id
        } else {
            let id = self.shapes.len() as u32;
            match packed {
                Some(packed) => self.packed_ids.insert(packed, id),
                None => self.shape_ids.insert(key.into(), id),
            };
            self.shapes.push(Group::new(key));
            id
        };
        let group = &mut self.shapes[id as usize];
        if group.rows == 0 {
            self.used_shapes += 1;
            self.bound += SHAPE_COST + key.len();
        }
        group.rows += 1;
        group.hint = 0;
        self.row_shape.push(id.into());
        self.row_task.push(task);
        self.elements += elements;
        id as usize
    }

    /// The distinct values of the task column.
    pub(crate) fn distinct_tasks(&self) -> Vec<u64> {
        distinct(&self.row_task)
    }

    /// The distinct values of a field over all shapes.
    pub(crate) fn distinct_values(&self, field: u32) -> Vec<u64> {
        let mut all: Vec<u64> = self
            .shapes
            .iter()
            .flat_map(|g| &g.columns)
            .filter(|c| c.field == field)
            .flat_map(|c| distinct(&c.values))
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Writes the payload. `relation` says what to try for a field's column. `cuts` gets the places in `out` where
    /// bytes of another kind begin, as far as it pays to treat them apart.
    pub(crate) fn encode(&self, relation: fn(u32) -> Relation, out: &mut Vec<u8>, cuts: &mut Vec<usize>) {
        varint::put(out, self.blob_lens.len() as u64);
        for len in &self.blob_lens {
            varint::put(out, (*len).into());
        }
        out.extend_from_slice(&self.blob_bytes);

        // Shapes that the builder keeps from earlier chunks and that this one does not use are left out.
        let mut index = vec![0u64; self.shapes.len()];
        let mut used = Vec::new();
        for (id, group) in self.shapes.iter().enumerate().filter(|(_, g)| g.rows > 0) {
            index[id] = used.len() as u64;
            used.push((id, group));
        }
        varint::put(out, used.len() as u64);
        let mut tasks_of = vec![Vec::new(); self.shapes.len()];
        for (id, group) in &used {
            varint::put(out, group.key.len() as u64);
            out.extend_from_slice(&group.key);
            varint::put(out, group.rows.into());
            tasks_of[*id].reserve_exact(group.rows as usize);
        }
        for (shape, task) in self.row_shape.iter().zip(&self.row_task) {
            tasks_of[*shape as usize].push(*task);
        }

        let mut directory = Vec::new();
        let mut data = Vec::with_capacity(self.bound);
        let mut writer =
            ColumnWriter { directory: &mut directory, data: &mut data, count: 0, keyed: 0, cuts: Vec::new() };
        let mut numbers = Vec::new();
        if self.chain.is_some() {
            writer.entry(0, row::SHAPE, Encoding::Linked, None, |data| {
                put_all(data, self.firsts.iter().map(|id| index[*id as usize]));
            });
            writer.ranked(&self.row_task);
            writer.entry(0, row::END, Encoding::Chained, None, |_| {});
        } else {
            numbers.extend(self.row_shape.iter().map(|id| index[*id as usize]));
            writer.column(0, row::SHAPE, &numbers, None);
            writer.column(0, row::TASK, &self.row_task, None);
            writer.times(&self.row_end);
        }
        for (number, (id, group)) in used.iter().enumerate() {
            let number = number as u64 + 1;
            numbers.clear();
            numbers.extend(group.next.iter().map(|id| index[*id as usize]));
            writer.column(number, row::NEXT, &numbers, None);
            for column in group.columns.iter().filter(|c| !c.values.is_empty()) {
                let context = Context { group, tasks: &tasks_of[*id], relation: relation(column.field) };
                writer.column(number, column.field, &column.values, Some(&context));
            }
        }
        let (count, places) = (writer.count, writer.cuts);
        varint::put(out, count);
        out.extend_from_slice(&directory);
        cuts.extend(places.iter().map(|place| out.len() + place));
        out.extend_from_slice(&data);
    }

    /// Forgets the rows, keeps allocations.
    pub(crate) fn clear(&mut self) {
        // A stream with ever new shapes must not make this grow without end.
        if self.shapes.len() > MAX_SHAPES {
            self.shapes.clear();
            self.packed_ids.clear();
            self.shape_ids.clear();
        }
        for group in &mut self.shapes {
            group.rows = 0;
            group.next.clear();
            group.columns.iter_mut().for_each(|c| c.values.clear());
        }
        self.used_shapes = 0;
        self.used_columns = 3;
        self.row_shape.clear();
        self.row_task.clear();
        self.row_end.clear();
        if let Some(chain) = &mut self.chain {
            chain.clear();
        }
        self.firsts.clear();
        self.blob_ids.clear();
        self.blob_bytes.clear();
        self.blob_lens.clear();
        self.elements = 0;
        self.bound = 64;
    }
}

/// A key of less than 16 bytes as a number, which is compared without a call: nearly every row's is that short.
fn packed(key: &[u8]) -> Option<u128> {
    if key.len() > 15 {
        return None;
    }
    // No copy of variable length, which would be a call as well.
    let word = if let (Some(first), Some(last)) = (key.first_chunk(), key.last_chunk()) {
        let past = 8 * (key.len() as u32 - 8);
        u128::from(u64::from_le_bytes(*first)) | u128::from(u64::from_le_bytes(*last)) << past
    } else {
        key.iter().rev().fold(0, |word, byte| word << 8 | u128::from(*byte))
    };
    Some(word | (key.len() as u128) << 120)
}

fn distinct(values: &[u64]) -> Vec<u64> {
    let mut seen = FxHashSet::default();
    let mut last = None;
    for value in values {
        if last != Some(*value) {
            seen.insert(*value);
            last = Some(*value);
        }
    }
    let mut all: Vec<u64> = seen.into_iter().collect();
    all.sort_unstable();
    all
}

/// What the encoder of a column may look at.
struct Context<'a> {
    group: &'a Group,
    tasks: &'a [u64],
    relation: Relation,
}

impl Context<'_> {
    /// Columns in front of `field` with the same number of values as the group has rows.
    fn scalar(&self, field: u32, before: u32) -> Option<&[u64]> {
        let position = |f| self.group.columns.iter().position(|c| c.field == f);
        let (at, limit) = (position(field)?, position(before)?);
        let column = &self.group.columns[at];
        (at < limit && column.values.len() == self.tasks.len()).then_some(&column.values)
    }
}

struct ColumnWriter<'a> {
    directory: &'a mut Vec<u8>,
    data: &'a mut Vec<u8>,
    count: u64,
    keyed: usize,
    /// Where in `data` large columns begin and end.
    cuts: Vec<usize>,
}

impl ColumnWriter<'_> {
    fn column(&mut self, group: u64, field: u32, values: &[u64], context: Option<&Context<'_>>) {
        let Some(first) = values.first() else { return };
        if context.is_some_and(|c| c.relation == Relation::Present) {
            return self.plain(group, field, values);
        }
        if values.iter().all(|v| v == first) {
            // A column of zeros is left out: it is what a reader assumes.
            if *first != 0 {
                self.entry(group, field, Encoding::Const, None, |data| varint::put(data, *first));
            }
            return;
        }
        if let Some(context) = context
            && self.related(group, field, values, context)
        {
            return;
        }
        if is_bytes(values) {
            return self.plain(group, field, values);
        }
        let plain: usize = values.iter().map(|v| varint::len(*v)).sum();
        let mut previous = 0u64;
        let mut delta = 0usize;
        for value in values {
            delta += varint::len(zigzag(value.wrapping_sub(previous) as i64));
            previous = *value;
        }
        if plain > values.len() + values.len() / 4
            && let Some((dictionary, cost)) = dictionary(values)
            && cost < plain.min(delta)
        {
            let codes: FxHashMap<u64, u8> = dictionary.iter().zip(0..).map(|(v, i)| (*v, i)).collect();
            self.entry(group, field, Encoding::Dict, None, |data| {
                varint::put(data, dictionary.len() as u64);
                put_all(data, dictionary.iter().copied());
                data.extend(values.iter().map(|v| codes[v]));
            });
        } else if delta < plain - plain / 4 {
            self.entry(group, field, Encoding::Delta, None, |data| {
                let mut previous = 0u64;
                for value in values {
                    varint::put(data, zigzag(value.wrapping_sub(previous) as i64));
                    previous = *value;
                }
            });
        } else {
            self.plain(group, field, values);
        }
    }

    fn plain(&mut self, group: u64, field: u32, values: &[u64]) {
        let is_bytes = is_bytes(values);
        self.entry(group, field, Encoding::Varint, None, |data| {
            if is_bytes {
                data.extend(values.iter().map(|value| *value as u8));
            } else {
                put_all(data, values.iter().copied());
            }
        });
    }

    /// Writes the column by its relation to another one, where that pays.
    fn related(&mut self, group: u64, field: u32, values: &[u64], context: &Context<'_>) -> bool {
        if values.len() != context.tasks.len() {
            return false;
        }
        match context.relation {
            Relation::None | Relation::Present => false,
            Relation::Near(fields) => {
                for other in fields {
                    let Some(near) = context.scalar(*other, field) else { continue };
                    let equal = values.iter().zip(near).filter(|(a, b)| a == b).count();
                    if equal == values.len() {
                        self.entry(group, field, Encoding::Same, Some(*other), |_| {});
                        return true;
                    }
                    let cost = |pairs: &mut dyn Iterator<Item = u64>| pairs.map(varint::len).sum::<usize>();
                    let differences =
                        || values.iter().zip(near).map(|(a, b)| zigzag(a.wrapping_sub(*b) as i64));
                    if equal * 2 >= values.len()
                        && cost(&mut differences()) <= cost(&mut values.iter().copied())
                    {
                        self.entry(group, field, Encoding::Diff, Some(*other), |data| {
                            put_all(data, differences());
                        });
                        return true;
                    }
                }
                false
            }
            Relation::KeyedBy(other) => {
                if values.len() < MIN_KEYED || self.keyed == MAX_KEYED {
                    return false;
                }
                let Some(keys) = context.scalar(other, field) else { return false };
                let mut table = vec![0u64; KEYED_SLOTS];
                let mut hits = 0;
                let mut cost = 0;
                let residuals: Vec<u64> = values
                    .iter()
                    .zip(keys)
                    .zip(context.tasks)
                    .map(|((value, key), task)| {
                        let predicted = &mut table[slot(*task, *key)];
                        let residual = zigzag(value.wrapping_sub(*predicted) as i64);
                        *predicted = *value;
                        hits += usize::from(residual == 0);
                        cost += varint::len(residual);
                        residual
                    })
                    .collect();
                if hits * 2 < values.len() || cost > values.iter().map(|v| varint::len(*v)).sum() {
                    return false;
                }
                self.keyed += 1;
                self.entry(group, field, Encoding::Keyed, Some(other), |data| {
                    put_all(data, residuals.into_iter());
                });
                true
            }
        }
    }

    /// The tasks of the rows, by how recently they were active.
    fn ranked(&mut self, tasks: &[u64]) {
        if tasks.windows(2).all(|w| w[0] == w[1]) || tasks.iter().any(|task| *task > Recent::LIMIT) {
            return self.column(0, row::TASK, tasks, None);
        }
        let mut recent = Recent::new();
        self.entry(0, row::TASK, Encoding::Ranked, None, |data| {
            put_all(data, tasks.iter().map(|task| recent.code(*task)));
        });
    }

    /// The ends of the rows. Never left out, so that every row costs at least a byte.
    fn times(&mut self, ends: &[u64]) {
        let rising = ends.windows(2).all(|w| w[0] <= w[1]);
        let encoding = if rising { Encoding::Rising } else { Encoding::Delta };
        self.entry(0, row::END, encoding, None, |data| {
            let mut previous = 0u64;
            for end in ends {
                let delta = end.wrapping_sub(previous);
                varint::put(data, if rising { delta } else { zigzag(delta as i64) });
                previous = *end;
            }
        });
    }

    fn entry(
        &mut self,
        group: u64,
        field: u32,
        encoding: Encoding,
        reference: Option<u32>,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.data.len();
        fill(self.data);
        varint::put(self.directory, group);
        varint::put(self.directory, field.into());
        self.directory.push(encoding as u8);
        if let Some(reference) = reference {
            varint::put(self.directory, reference.into());
        }
        let len = self.data.len() - start;
        varint::put(self.directory, len as u64);
        self.count += 1;
        if len >= LARGE {
            if self.cuts.last() != Some(&start) {
                self.cuts.push(start);
            }
            self.cuts.push(start + len);
        }
    }
}

/// Whether each value takes one byte as it is: nothing takes less.
fn is_bytes(values: &[u64]) -> bool {
    values.iter().fold(0, |all, value| all | value) < 0x80
}

fn put_all(out: &mut Vec<u8>, values: impl Iterator<Item = u64>) {
    for value in values {
        varint::put(out, value);
    }
}

/// The distinct values, most frequent first, and the cost of a dictionary column; `None` when there are too many.
fn dictionary(values: &[u64]) -> Option<(Vec<u64>, usize)> {
    let mut counts: FxHashMap<u64, u32> = FxHashMap::default();
    for value in values {
        *counts.entry(*value).or_insert(0) += 1;
        if counts.len() > MAX_DISTINCT {
            return None;
        }
    }
    let mut all: Vec<(u64, u32)> = counts.into_iter().collect();
    all.sort_unstable_by_key(|(value, count)| (std::cmp::Reverse(*count), *value));
    let dictionary: Vec<u64> = all.into_iter().map(|(value, _)| value).collect();
    let cost = 2 + values.len() + dictionary.iter().map(|v| varint::len(*v)).sum::<usize>();
    Some((dictionary, cost))
}

#[cfg(test)]
mod tests {
    use super::packed;

    #[test]
    fn short_keys_are_told_apart_as_numbers() {
        let bytes: Vec<u8> = (1..18).map(|n| n * 11).collect();
        let mut keys: Vec<Vec<u8>> = (0..=15).map(|len| bytes[..len].to_vec()).collect();
        // Zeros count, wherever they are.
        keys.extend((1..=15).map(|len| vec![0; len]));
        for at in 0..15 {
            let mut key = bytes[..15].to_vec();
            key[at] ^= 0x80;
            keys.push(key);
        }
        let numbers: std::collections::BTreeSet<u128> = keys.iter().map(|key| packed(key).unwrap()).collect();
        assert_eq!(numbers.len(), keys.len());
        assert_eq!(packed(&bytes[..16]), None);
    }
}
