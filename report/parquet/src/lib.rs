//! A trace as Parquet tables, one for each class of events: for `DuckDB`, pandas, Spark and whatever else reads them.
//!
//! [`TABLES`] says which tables and columns there are. Every table is written, also an empty one: a query that fits one
//! trace fits all. Names that are no UTF-8 are written as in JSON: a byte that is none becomes U+10FF00 + byte.
//!
//! Memory is bounded: a table keeps the rows of one row group, and some thousand calls wait for the thread that writes them.
#![forbid(unsafe_code)]

mod behind;
mod calls;
mod columns;
mod file;

pub use columns::{Column, Common, TABLES, Table, Type};

use behind::Behind;
use calls::Calls;
use columns::number;
use ctrace_analysis::Finding;
use ctrace_analysis::connects::Connects;
use ctrace_format::{Class, Event, Filter, Known, ReadError, Trace};
use ctrace_report::Paint;
use ctrace_report::text::{Events, state};
use file::{Cell, TableFile, Texts, once};
use parquet::errors::ParquetError;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::thread::Scope;

/// Why tables could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The trace is not to be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A table could not be made.
    #[error("making {table}.parquet: {source}")]
    Create {
        /// Its name.
        table: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A table could not be written.
    #[error("writing {table}.parquet: {source}")]
    Write {
        /// Its name.
        table: &'static str,
        /// Why.
        source: ParquetError,
    },
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows by table.
    pub rows: BTreeMap<&'static str, u64>,
    /// Events by class.
    pub events: BTreeMap<Class, u64>,
    /// Calls that were counted instead of recorded.
    pub counted: u64,
    /// Events that the trace says were lost.
    pub lost: u64,
    /// Parts of the trace that could not be read.
    pub unreadable: u64,
}

/// The table of an event.
fn table_of(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Syscall(_) => "syscalls",
        Event::Process(_) => "processes",
        Event::Connection(_) => "connections",
        Event::Signal(_) => "signals",
        Event::Resource(_) => "resources",
        Event::Usage(_) => "usage",
        Event::Socket(_) => "sockets",
        Event::Dns(_) => "dns",
        Event::Block(_) => "blocks",
        Event::Uring(_) => "urings",
        Event::Injection(_) => "injections",
        Event::Aggregate(_) => "aggregates",
        Event::Fidelity(_) => "fidelity",
        Event::Loss(_) => "losses",
        Event::Marker(_) => "markers",
        Event::Anchor(_) => "clocks",
        _ => return None,
    })
}

/// All tables of a trace while they are written, but that of the calls.
struct Files<W: Write + Send> {
    /// `None`: the table of the calls, which a thread of its own writes.
    tables: Vec<Option<TableFile<W>>>,
    texts: Vec<Texts>,
    start_ns: u64,
}

impl<W: Write + Send> Files<W> {
    fn row(&mut self, table: usize, cells: impl IntoIterator<Item = Cell>) -> Result<(), Error> {
        match &mut self.tables[table] {
            Some(file) => file.row(cells).map_err(|source| failed(table, source)),
            None => Ok(()),
        }
    }

    /// A row of what the fields of an object say.
    fn object(&mut self, table: usize, object: &Value) -> Result<(), Error> {
        let texts = &mut self.texts[table];
        let start_ns = self.start_ns;
        let cells: Vec<Cell> =
            TABLES[table].all().map(|column| cell(column, object, start_ns, texts)).collect();
        self.row(table, cells)
    }
}

fn failed(table: usize, source: ParquetError) -> Error {
    Error::Write { table: TABLES[table].name, source }
}

/// The value of a column: the object's field of that name.
fn cell(column: &Column, object: &Value, start_ns: u64, texts: &mut Texts) -> Cell {
    if column.name == "time" {
        return time(object["t_ns"].as_u64().unwrap_or(0), start_ns);
    }
    match (column.kind, &object[column.name]) {
        (_, Value::Null) => Cell::None,
        (Type::Bool, Value::Bool(yes)) => Cell::Truth(*yes),
        (Type::Int | Type::UInt | Type::Time, Value::Number(n)) => {
            n.as_u64().map_or_else(|| Cell::from(n.as_i64()), Cell::from)
        }
        (Type::Text, Value::String(text)) => Cell::Text(texts.often(text)),
        (Type::Text, other) => Cell::Text(once(other.to_string())),
        _ => Cell::None,
    }
}

fn time(t_ns: u64, start_ns: u64) -> Cell {
    Cell::from(start_ns.saturating_add(t_ns))
}

/// Writes a trace. `open` makes the file of a table, by its name.
///
/// # Errors
/// When a table cannot be made or written, or the trace is not to be read.
pub fn write<W: Write + Send>(
    trace: &Trace,
    findings: &[Finding],
    filter: &Filter,
    mut open: impl FnMut(&'static str) -> io::Result<W>,
    mut done: impl FnMut(W) -> io::Result<()>,
) -> Result<Written, Error> {
    let start_ns = trace.header().start_realtime_ns;
    let mut files = Files { tables: Vec::new(), texts: Vec::new(), start_ns };
    for (n, table) in TABLES.iter().enumerate() {
        let out = open(table.name).map_err(|source| Error::Create { table: table.name, source })?;
        files.tables.push(Some(TableFile::new(table, out).map_err(|source| failed(n, source))?));
        files.texts.push(Texts::default());
    }
    let mut written = Written::default();
    std::thread::scope(|scope| gather(scope, trace, filter, &mut files, &mut written))?;
    for finding in findings {
        files.object(number::FINDINGS, &serde_json::to_value(finding).unwrap_or_default())?;
    }
    files.object(number::TRACE, &about(trace, written.unreadable))?;
    for (n, file) in files.tables.into_iter().enumerate() {
        let Some(file) = file else { continue };
        let (rows, out) = file.finish().map_err(|source| failed(n, source))?;
        done(out).map_err(|e| failed(n, ParquetError::External(Box::new(e))))?;
        written.rows.insert(TABLES[n].name, rows);
    }
    Ok(written)
}

/// Puts the events of a trace into the tables.
fn gather<'scope, W: Write + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    trace: &Trace,
    filter: &Filter,
    files: &mut Files<W>,
    written: &mut Written,
) -> Result<(), Error> {
    let mut behind = match files.tables[number::SYSCALLS].take() {
        Some(file) => Behind::new(scope, file).map_err(|source| failed(number::SYSCALLS, source))?,
        None => return Ok(()),
    };
    let numbers: BTreeMap<&str, usize> =
        TABLES.iter().enumerate().map(|(n, table)| (table.name, n)).collect();
    let mut show = Events::new(trace, Paint::new(false));
    let mut connects = Connects::new();
    let mut calls = Calls::default();
    for event in trace.events(filter) {
        let event = match event {
            Ok(event) => event,
            Err(error @ ReadError::TooDense { .. }) => return Err(error.into()),
            Err(_) => {
                written.unreadable += 1;
                continue;
            }
        };
        show.learn(&event);
        let connected = connects.observe(&event, |object| trace.cookie(object));
        *written.events.entry(event.class()).or_default() += 1;
        match &event {
            Event::Syscall(call) => {
                let failed = show.is_failure(&event, connected.as_ref());
                if !behind.row(calls.row(trace, &show, call, failed)) {
                    break;
                }
                continue;
            }
            Event::Aggregate(e) => written.counted += e.count,
            Event::Loss(e) => written.lost += e.count,
            _ => {}
        }
        let Some(table) = table_of(&event).and_then(|name| numbers.get(name)) else { continue };
        let object = match &event {
            Event::Anchor(e) => serde_json::json!({
                "t_ns": e.t_ns, "boottime_ns": trace.header().start_boottime_ns + e.t_ns,
                "monotonic_ns": e.monotonic_ns, "realtime_ns": e.realtime_ns,
            }),
            event => show.value(event).unwrap_or_default(),
        };
        files.object(*table, &object)?;
    }
    let file = behind.finish().map_err(|source| failed(number::SYSCALLS, source))?;
    files.tables[number::SYSCALLS] = Some(file);
    Ok(())
}

/// The facts of the trace itself.
fn about(trace: &Trace, unreadable: u64) -> Value {
    let header = trace.header();
    serde_json::json!({
        "start": header.start_realtime_ns, "start_boottime_ns": header.start_boottime_ns,
        "duration_ns": trace.summary().map_or(trace.end_ns(), |summary| summary.duration_ns),
        "tick_ns": header.tick_ns, "state": state(trace.state()), "writer": header.writer,
        "hostname": header.host.hostname, "kernel": header.host.kernel, "arch": header.host.arch,
        "cpus": header.host.cpus, "scope": header.scope, "redaction": header.redaction, "blind": header.blind,
        "lost": trace.lost_events(), "unreadable_chunks": unreadable,
    })
}

/// Whether this is the name of a table's file.
pub fn is_table(name: &str) -> bool {
    name.strip_suffix(".parquet").is_some_and(|name| TABLES.iter().any(|table| table.name == name))
}
