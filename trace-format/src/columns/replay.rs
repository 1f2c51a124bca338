//! Replaying the rows of an encoded payload. Nothing here trusts the payload.

use super::chain::{Chain, Recent};
use super::{
    Encoding, KEYED_SLOTS, MAX_BLOBS, MAX_COLUMNS, MAX_DISTINCT, MAX_ELEMENTS, MAX_KEYED, MAX_SHAPES,
    MIN_KEYED, row, slot,
};
use crate::DecodeError;
use crate::varint::{self, unzigzag};

/// A column being replayed.
struct ColumnReader {
    field: u32,
    encoding: Encoding,
    reference: u32,
    start: usize,
    at: usize,
    end: usize,
    last: u64,
    dictionary: Vec<u64>,
    table: Vec<u64>,
}

struct GroupReader {
    key: std::ops::Range<usize>,
    rows: u32,
    columns: Vec<ColumnReader>,
    hint: usize,
    /// Where the columns of the rows themselves begin.
    first: usize,
}

/// Replays the rows of a decoded payload.
pub(crate) struct TableReader {
    bytes: Vec<u8>,
    blobs: Vec<(u32, u32)>,
    rows: GroupReader,
    shapes: Vec<GroupReader>,
    elements: usize,
    /// Where it ends is not said by a row, but follows from its task's last one.
    chain: Option<Chain>,
    recent: Option<Recent>,
}

/// A column as it is in the payload.
pub(crate) struct RawColumn<'a> {
    pub(crate) of_rows: bool,
    pub(crate) shape: &'a [u8],
    pub(crate) field: u32,
    /// Rows of its shape.
    pub(crate) rows: u32,
    pub(crate) encoding: u8,
    pub(crate) bytes: &'a [u8],
}

/// The part of a row that is not in its shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowHead {
    pub(crate) shape: usize,
    pub(crate) task: u64,
    pub(crate) end: u64,
}

impl GroupReader {
    fn pull(&mut self, bytes: &[u8], field: u32, task: u64) -> Result<u64, DecodeError> {
        let at = match self.columns.get(self.hint) {
            Some(column) if column.field == field => self.hint,
            _ => match self.columns.iter().position(|c| c.field == field) {
                Some(at) => at,
                // Left out: all zero.
                None => return Ok(0),
            },
        };
        self.hint = at + 1;
        let reference = if self.columns[at].encoding.has_reference() {
            let other = self.columns[at].reference;
            self.columns[..at].iter().find(|c| c.field == other).map_or(0, |c| c.last)
        } else {
            0
        };
        let column = &mut self.columns[at];
        let end = column.end;
        let data = &bytes[..end];
        let value = match column.encoding {
            Encoding::Varint => varint::get(data, &mut column.at)?,
            Encoding::Const => column.last,
            Encoding::Delta => column.last.wrapping_add(unzigzag(varint::get(data, &mut column.at)?) as u64),
            Encoding::Rising => column.last.wrapping_add(varint::get(data, &mut column.at)?),
            Encoding::Dict => {
                let code = *data.get(column.at).ok_or(DecodeError::Short)?;
                column.at += 1;
                *column
                    .dictionary
                    .get(usize::from(code))
                    .ok_or(DecodeError::Malformed("a code that its dictionary does not have"))?
            }
            Encoding::Same => reference,
            Encoding::Diff => reference.wrapping_add(unzigzag(varint::get(data, &mut column.at)?) as u64),
            Encoding::Keyed => {
                let residual = unzigzag(varint::get(data, &mut column.at)?) as u64;
                let predicted = &mut column.table[slot(task, reference)];
                *predicted = predicted.wrapping_add(residual);
                *predicted
            }
            // Such columns are read by `next_row`; elsewhere they have no meaning.
            Encoding::Ranked | Encoding::Linked | Encoding::Chained | Encoding::Unknown => {
                return Err(DecodeError::Malformed("a column in an encoding of a newer version"));
            }
        };
        column.last = value;
        Ok(value)
    }

    /// The next task of the rows.
    fn task(&mut self, bytes: &[u8], recent: Option<&mut Recent>) -> Result<u64, DecodeError> {
        let Some(recent) = recent else { return self.pull(bytes, row::TASK, 0) };
        let code = self.raw(bytes, row::TASK)?;
        recent.task(code).ok_or(DecodeError::Malformed("a task by a rank that none has"))
    }

    /// The next integer of a column as it is written.
    fn raw(&mut self, bytes: &[u8], field: u32) -> Result<u64, DecodeError> {
        let column = self.columns.iter_mut().find(|c| c.field == field);
        let column = column.ok_or(DecodeError::Malformed("a column of the rows that is missing"))?;
        varint::get(&bytes[..column.end], &mut column.at)
    }

    /// Whether every byte of every known column was used.
    fn is_exhausted(&self) -> bool {
        self.columns.iter().all(|c| c.at == c.end)
    }
}

impl TableReader {
    /// Parses blobs, shapes and directory; the columns' data stay encoded until their rows are pulled.
    pub(crate) fn new(bytes: Vec<u8>, records: u32) -> Result<Self, DecodeError> {
        let mut at = 0;
        let count = limited(varint::get(&bytes, &mut at)?, MAX_BLOBS, "too many byte strings")?;
        let mut lens = Vec::with_capacity(count);
        for _ in 0..count {
            lens.push(limited(varint::get(&bytes, &mut at)?, bytes.len(), "a byte string behind the end")?);
        }
        let mut blobs = Vec::with_capacity(count);
        for len in lens {
            let end = at.checked_add(len).filter(|e| *e <= bytes.len()).ok_or(DecodeError::Short)?;
            blobs.push((at as u32, end as u32));
            at = end;
        }

        let count = limited(varint::get(&bytes, &mut at)?, MAX_SHAPES, "too many shapes")?;
        let mut shapes = Vec::with_capacity(count);
        let mut total = 0u64;
        for _ in 0..count {
            let len = limited(varint::get(&bytes, &mut at)?, bytes.len(), "a shape behind the end")?;
            let end = at.checked_add(len).filter(|e| *e <= bytes.len()).ok_or(DecodeError::Short)?;
            let key = at..end;
            at = end;
            let rows =
                limited(varint::get(&bytes, &mut at)?, records as usize, "a shape of too many rows")? as u32;
            total += u64::from(rows);
            shapes.push(GroupReader { key, rows, columns: Vec::new(), hint: 0, first: 0 });
        }
        if total != u64::from(records) {
            return Err(DecodeError::Malformed("shapes whose rows are not the chunk's"));
        }

        let rows = GroupReader { key: 0..0, rows: records, columns: Vec::new(), hint: 0, first: 0 };
        let mut table = Self { bytes, blobs, rows, shapes, elements: 0, chain: None, recent: None };
        table.parse_directory(at)?;
        Ok(table)
    }

    fn parse_directory(&mut self, mut at: usize) -> Result<(), DecodeError> {
        let bytes = &self.bytes;
        let count = limited(varint::get(bytes, &mut at)?, MAX_COLUMNS, "too many columns")?;
        let mut pending = Vec::with_capacity(count);
        for _ in 0..count {
            let group = varint::get(bytes, &mut at)?;
            let field = varint::get(bytes, &mut at)?;
            let code = *bytes.get(at).ok_or(DecodeError::Short)?;
            at += 1;
            let encoding = Encoding::from_u8(code);
            let reference = if code >= 128 { varint::get(bytes, &mut at)? } else { 0 };
            let len = limited(varint::get(bytes, &mut at)?, bytes.len(), "a column behind the end")?;
            pending.push((group, field, encoding, reference, len));
        }
        let mut keyed = 0;
        for (group, field, encoding, reference, len) in pending {
            let end = at.checked_add(len).filter(|e| *e <= bytes.len()).ok_or(DecodeError::Short)?;
            let start = at;
            at = end;
            let group = match usize::try_from(group) {
                Ok(0) => &mut self.rows,
                Ok(n) if n <= self.shapes.len() => &mut self.shapes[n - 1],
                _ => return Err(DecodeError::Malformed("a column of a shape that is not there")),
            };
            // Fields of a newer writer, which no code of this reader asks for.
            let (Ok(field), Ok(reference)) = (u32::try_from(field), u32::try_from(reference)) else {
                continue;
            };
            let mut column = ColumnReader {
                field,
                encoding,
                reference,
                start,
                at: start,
                end,
                last: 0,
                dictionary: Vec::new(),
                table: Vec::new(),
            };
            match encoding {
                Encoding::Const => column.last = varint::get(&bytes[..end], &mut column.at)?,
                Encoding::Dict => {
                    let n = varint::get(&bytes[..end], &mut column.at)?;
                    let n = limited(n, MAX_DISTINCT, "too large a column dictionary")?;
                    for _ in 0..n {
                        column.dictionary.push(varint::get(&bytes[..end], &mut column.at)?);
                    }
                }
                Encoding::Keyed => {
                    keyed += 1;
                    if keyed > MAX_KEYED || (group.rows as usize) < MIN_KEYED {
                        return Err(DecodeError::Malformed("too many keyed columns"));
                    }
                    column.table = vec![0; KEYED_SLOTS];
                }
                _ => {}
            }
            group.columns.push(column);
        }
        if at != bytes.len() {
            return Err(DecodeError::Malformed("bytes behind the last column"));
        }
        let has = |field, encoding| {
            self.rows.columns.iter().find(|c| c.field == field).is_some_and(|c| c.encoding == encoding)
        };
        self.recent = has(row::TASK, Encoding::Ranked).then(Recent::new);
        if has(row::END, Encoding::Chained) {
            // The two come together: what a task did last tells when and what it does next.
            if !has(row::SHAPE, Encoding::Linked) {
                return Err(DecodeError::Malformed("chained ends without linked shapes"));
            }
            self.chain = Some(Chain::new());
            for group in &mut self.shapes {
                group.first = usize::from(group.columns.first().is_some_and(|c| c.field == row::NEXT));
            }
        }
        Ok(())
    }

    pub(crate) fn shape_count(&self) -> usize {
        self.shapes.len()
    }
    pub(crate) fn shape_key(&self, shape: usize) -> &[u8] {
        &self.bytes[self.shapes[shape].key.clone()]
    }

    /// The columns as they are in the payload, for looking at their sizes.
    pub(crate) fn columns(&self) -> impl Iterator<Item = RawColumn<'_>> {
        let groups = std::iter::once((true, &self.rows)).chain(self.shapes.iter().map(|g| (false, g)));
        groups.flat_map(move |(of_rows, group)| {
            group.columns.iter().map(move |column| RawColumn {
                of_rows,
                shape: &self.bytes[group.key.clone()],
                field: column.field,
                rows: group.rows,
                encoding: column.encoding as u8,
                bytes: &self.bytes[column.start..column.end],
            })
        })
    }

    /// A byte string of the chunk.
    pub(crate) fn blob(&self, id: u64) -> Result<&[u8], DecodeError> {
        let range = usize::try_from(id).ok().and_then(|id| self.blobs.get(id));
        let (start, end) = range.ok_or(DecodeError::Malformed("a byte string that is not there"))?;
        Ok(&self.bytes[*start as usize..*end as usize])
    }

    /// Begins the next row; the caller knows how many there are.
    pub(crate) fn next_row(&mut self) -> Result<RowHead, DecodeError> {
        self.rows.hint = 0;
        let (shape, task, end) = if let Some(chain) = &self.chain {
            let task = self.rows.task(&self.bytes, self.recent.as_mut())?;
            let shape = match chain.shape(task) {
                None => self.rows.raw(&self.bytes, row::SHAPE)?,
                Some(last) => {
                    let group = &mut self.shapes[last];
                    group.hint = 0;
                    group.pull(&self.bytes, row::NEXT, task)?
                }
            };
            (shape, task, 0)
        } else {
            let shape = self.rows.pull(&self.bytes, row::SHAPE, 0)?;
            let task = self.rows.task(&self.bytes, self.recent.as_mut())?;
            (shape, task, self.rows.pull(&self.bytes, row::END, 0)?)
        };
        let shape = usize::try_from(shape).ok().filter(|s| *s < self.shapes.len());
        let shape = shape.ok_or(DecodeError::Malformed("a row of a shape that is not there"))?;
        let group = &mut self.shapes[shape];
        group.rows =
            group.rows.checked_sub(1).ok_or(DecodeError::Malformed("more rows of a shape than declared"))?;
        group.hint = group.first;
        Ok(RowHead { shape, task, end })
    }

    /// Whether rows do not say when they end: [`TableReader::end`] does.
    pub(crate) fn is_chained(&self) -> bool {
        self.chain.is_some()
    }

    /// When the row ends, `took` after its start, which is `gap` behind what came before. To be called once for every
    /// row.
    pub(crate) fn end(&mut self, row: &RowHead, gap: u64, took: u64) -> u64 {
        let Some(chain) = &mut self.chain else { return row.end };
        let end = chain.start(row.task, gap).wrapping_add(took);
        chain.push(row.task, row.shape, end);
        end
    }

    /// The row's next value of a field.
    #[inline]
    pub(crate) fn pull(&mut self, row: &RowHead, field: u32) -> Result<u64, DecodeError> {
        self.shapes[row.shape].pull(&self.bytes, field, row.task)
    }

    /// The row's next value of a field that counts list elements, which the caller pulls next.
    pub(crate) fn pull_len(&mut self, row: &RowHead, field: u32) -> Result<usize, DecodeError> {
        let len = limited(self.pull(row, field)?, MAX_ELEMENTS, "too long a list")?;
        self.elements += len;
        limited(self.elements as u64, MAX_ELEMENTS, "too many list elements")?;
        Ok(len)
    }

    /// Checks, behind the last row, that nothing of the columns in `known` is left.
    pub(crate) fn check_end(&self) -> Result<(), DecodeError> {
        if self.rows.is_exhausted() {
            Ok(())
        } else {
            Err(DecodeError::Malformed("a row column that is longer than the chunk's rows"))
        }
    }
}

fn limited(value: u64, max: usize, what: &'static str) -> Result<usize, DecodeError> {
    usize::try_from(value).ok().filter(|v| *v <= max).ok_or(DecodeError::Malformed(what))
}
