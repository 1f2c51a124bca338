//! Where the bytes of a trace go: chunks by type, and the columns of its events.

use crate::columns::TableReader;
use crate::layout::kind;
use crate::merge::class_of;
use crate::source::{self, ChunkProblem};
use crate::{Class, ReadError, Trace, codec};
use std::collections::BTreeMap;

/// A column, summed over the chunks of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ColumnSize {
    /// Values.
    pub values: u64,
    /// Bytes as encoded.
    pub encoded: u64,
    /// Bytes when each chunk's column is compressed by itself. The sum over the columns is about what they take
    /// together.
    pub compressed: u64,
    /// How many chunks have it in which encoding (`FORMAT.md`).
    pub encodings: BTreeMap<u8, u32>,
}

/// Names a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnName {
    /// Of events of this class.
    pub class: Class,
    /// Key of the shape; empty for the columns of the rows.
    pub shape: Vec<u8>,
    /// The call, for shapes of calls.
    pub sysno: Option<crate::Sysno>,
    /// Field of the shape, or of the rows.
    pub field: u32,
    /// Whether it is one of the columns of the rows.
    pub of_rows: bool,
}

/// Where the bytes of a trace go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Sizes {
    /// Bytes on disk by type of chunk, headers included, and their number.
    pub chunks: BTreeMap<String, (u64, u64)>,
    /// The columns of the events.
    pub columns: BTreeMap<ColumnName, ColumnSize>,
}

/// Takes a trace apart.
///
/// # Errors
/// When the device refuses, or a chunk of events is damaged.
pub fn sizes(trace: &Trace) -> Result<Sizes, ReadError> {
    let io = |source| ReadError::Io { path: trace.path().into(), source };
    let mut zstd = source::decompressor().map_err(io)?;
    let mut compressor = zstd::bulk::Compressor::new(3).map_err(io)?;
    let mut sizes = Sizes::default();
    for entry in trace.entries() {
        let class = class_of(entry);
        let (bytes, count) = sizes.chunks.entry(chunk_name(entry.kind, class)).or_default();
        *bytes += entry.total_len();
        *count += 1;
        let Some(class) = class else { continue };
        let damaged = |what: String| {
            let damage = crate::Damage { offset: entry.offset, bytes: entry.total_len(), what, lost: None };
            ReadError::Damaged { path: trace.path().into(), damage }
        };
        let header = trace.source().header_at(entry.offset).map_err(io)?;
        let header = header.map_err(|e| damaged(e.to_string()))?;
        let payload = trace.source().payload(entry.offset, &header, &mut zstd).map_err(|e| match e {
            ChunkProblem::Io(source) => io(source),
            ChunkProblem::Bad(what) => damaged(what),
        })?;
        let table = TableReader::new(payload, entry.records).map_err(|e| damaged(e.to_string()))?;
        for column in table.columns() {
            let name = ColumnName {
                class,
                shape: column.shape.to_vec(),
                sysno: if class == Class::Syscall { codec::sysno_of(column.shape) } else { None },
                field: column.field,
                of_rows: column.of_rows,
            };
            let size = sizes.columns.entry(name).or_default();
            size.values += u64::from(column.rows);
            size.encoded += column.bytes.len() as u64;
            size.compressed +=
                compressor.compress(column.bytes).map_err(io)?.len().min(column.bytes.len()) as u64;
            *size.encodings.entry(column.encoding).or_default() += 1;
        }
    }
    Ok(sizes)
}

fn chunk_name(number: u16, class: Option<Class>) -> String {
    let name = match number {
        kind::HEADER => "header",
        kind::SNAPSHOT => "snapshot",
        kind::SUMMARY => "summary",
        kind::STRINGS => "strings",
        kind::TASKS => "tasks",
        kind::OBJECTS => "objects",
        kind::SCHEMA => "schema",
        kind::ACCOUNT => "account",
        _ => {
            return class
                .map_or_else(|| format!("type {number}"), |class| format!("{} events", class.name()));
        }
    };
    name.to_owned()
}
