//! One table: rows that are gathered column by column, and written as row groups.

use crate::columns::{Column, Table, Type};
use parquet::basic::{
    Compression, ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel,
};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type as Schema;
use rustc_hash::FxHashMap;
use std::io::Write;
use std::sync::Arc;

/// Rows of a row group: what is kept in memory.
const ROWS: usize = 1 << 16;
/// Texts that are kept for when they come again.
const TEXTS: usize = 1 << 14;

/// The values of one column since the last row group.
struct Buffer {
    column: &'static Column,
    /// 1 where there is a value; of a column that may have none.
    levels: Vec<i16>,
    values: Values,
    rows: usize,
}

enum Values {
    Numbers(Vec<i64>),
    Truths(Vec<bool>),
    Texts(Vec<ByteArray>),
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    None,
    Number(i64),
    Truth(bool),
    Text(ByteArray),
}

impl From<i64> for Cell {
    fn from(n: i64) -> Self {
        Self::Number(n)
    }
}

impl From<u64> for Cell {
    fn from(n: u64) -> Self {
        // Of a column of unsigned numbers the bits count.
        Self::Number(n as i64)
    }
}

impl From<u32> for Cell {
    fn from(n: u32) -> Self {
        Self::Number(i64::from(n))
    }
}

impl From<bool> for Cell {
    fn from(yes: bool) -> Self {
        Self::Truth(yes)
    }
}

impl From<ByteArray> for Cell {
    fn from(text: ByteArray) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

/// Texts, of which those that come again are kept once.
#[derive(Default)]
pub(crate) struct Texts(FxHashMap<Box<str>, ByteArray>);

impl Texts {
    /// A text that is likely to come again.
    pub(crate) fn often(&mut self, text: &str) -> ByteArray {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        if self.0.len() >= TEXTS {
            self.0.clear();
        }
        let bytes = ByteArray::from(text.as_bytes().to_vec());
        self.0.insert(text.into(), bytes.clone());
        bytes
    }
}

/// A text that comes once.
pub(crate) fn once(text: String) -> ByteArray {
    ByteArray::from(text.into_bytes())
}

/// A table that is being written.
pub(crate) struct TableFile<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    buffers: Vec<Buffer>,
    rows: usize,
    total: u64,
}

fn schema(table: &Table) -> Result<Arc<Schema>> {
    let field = |column: &Column| {
        let (physical, logical) = match column.kind {
            Type::Int => (Physical::INT64, None),
            Type::UInt => (Physical::INT64, Some(LogicalType::integer(64, false))),
            Type::Bool => (Physical::BOOLEAN, None),
            Type::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Type::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::NANOS))),
        };
        let repetition = if column.required { Repetition::REQUIRED } else { Repetition::OPTIONAL };
        let field = Schema::primitive_type_builder(column.name, physical)
            .with_repetition(repetition)
            .with_converted_type(ConvertedType::NONE)
            .with_logical_type(logical);
        field.build().map(Arc::new)
    };
    let fields = table.all().map(field).collect::<Result<Vec<_>>>()?;
    Schema::group_type_builder(table.name).with_fields(fields).build().map(Arc::new)
}

impl<W: Write + Send> TableFile<W> {
    pub(crate) fn new(table: &'static Table, out: W) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_created_by(concat!("ctrace ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        let writer = SerializedFileWriter::new(out, schema(table)?, Arc::new(properties))?;
        let buffer = |column: &'static Column| Buffer {
            column,
            levels: Vec::new(),
            values: match column.kind {
                Type::Int | Type::UInt | Type::Time => Values::Numbers(Vec::new()),
                Type::Bool => Values::Truths(Vec::new()),
                Type::Text => Values::Texts(Vec::new()),
            },
            rows: 0,
        };
        Ok(Self { writer, buffers: table.all().map(buffer).collect(), rows: 0, total: 0 })
    }

    /// A row: a value for each column, in their order.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) -> Result<()> {
        let mut cells = cells.into_iter();
        for buffer in &mut self.buffers {
            buffer.push(cells.next().unwrap_or(Cell::None));
        }
        self.rows += 1;
        self.total += 1;
        if self.rows == ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        self.rows = 0;
        let mut group = self.writer.next_row_group()?;
        for buffer in &mut self.buffers {
            buffer.write(&mut group)?;
        }
        group.close()?;
        Ok(())
    }

    /// Writes what is left; how many rows there are, and where they went.
    pub(crate) fn finish(mut self) -> Result<(u64, W)> {
        self.flush()?;
        let total = self.total;
        Ok((total, self.writer.into_inner()?))
    }
}

impl Buffer {
    fn push(&mut self, cell: Cell) {
        self.rows += 1;
        let is_some = match (&mut self.values, cell) {
            (Values::Numbers(values), Cell::Number(n)) => {
                values.push(n);
                true
            }
            (Values::Truths(values), Cell::Truth(yes)) => {
                values.push(yes);
                true
            }
            (Values::Texts(values), Cell::Text(text)) => {
                values.push(text);
                true
            }
            // A value that is always there, and was not known after all.
            (values, _) if self.column.required => {
                match values {
                    Values::Numbers(values) => values.push(0),
                    Values::Truths(values) => values.push(false),
                    Values::Texts(values) => values.push(ByteArray::from(Vec::new())),
                }
                true
            }
            _ => false,
        };
        if !self.column.required {
            self.levels.push(i16::from(is_some));
        }
    }

    fn write<W: Write + Send>(&mut self, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<()> {
        let levels = (!self.column.required).then_some(self.levels.as_slice());
        match &mut self.values {
            Values::Numbers(values) => batch::<Int64Type, W>(group, values, levels)?,
            Values::Truths(values) => batch::<BoolType, W>(group, values, levels)?,
            Values::Texts(values) => batch::<ByteArrayType, W>(group, values, levels)?,
        }
        self.levels.clear();
        self.rows = 0;
        Ok(())
    }
}

fn batch<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &mut Vec<T::T>,
    levels: Option<&[i16]>,
) -> Result<()> {
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(values, levels, None)?;
        column.close()?;
    }
    values.clear();
    Ok(())
}
