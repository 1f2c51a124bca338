//! A table that is written by a thread of its own, while the next rows are worked out: encoding a row takes about as long
//! as finding out what is in it.

use crate::file::{Cell, TableFile};
use parquet::errors::{ParquetError, Result};
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// Rows that are handed over at a time.
const BATCH: usize = 2048;
/// Batches that wait to be written; with more, whoever finds rows waits.
const WAITING: usize = 4;

/// A table with rows of `N` columns.
pub(crate) struct Behind<'scope, W: Write + Send, const N: usize> {
    batch: Vec<[Cell; N]>,
    to: SyncSender<Vec<[Cell; N]>>,
    writer: ScopedJoinHandle<'scope, Result<TableFile<W>>>,
}

impl<'scope, W: Write + Send + 'scope, const N: usize> Behind<'scope, W, N> {
    pub(crate) fn new<'env>(scope: &'scope Scope<'scope, 'env>, file: TableFile<W>) -> Result<Self> {
        let (to, rows) = sync_channel(WAITING);
        let writer = std::thread::Builder::new()
            .name("ctrace-parquet".into())
            .spawn_scoped(scope, move || write(file, &rows))
            .map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(Self { batch: Vec::with_capacity(BATCH), to, writer })
    }

    /// Hands a row over. `false`: the writer has failed, and [`Self::finish`] says why.
    pub(crate) fn row(&mut self, row: [Cell; N]) -> bool {
        self.batch.push(row);
        self.batch.len() < BATCH || self.hand_over()
    }

    fn hand_over(&mut self) -> bool {
        self.to.send(std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH))).is_ok()
    }

    /// Waits until all rows are in the table.
    pub(crate) fn finish(mut self) -> Result<TableFile<W>> {
        // A writer that has failed takes no more.
        let _ = self.hand_over();
        let Self { to, writer, .. } = self;
        drop(to);
        writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn write<W: Write + Send, const N: usize>(
    mut file: TableFile<W>,
    rows: &Receiver<Vec<[Cell; N]>>,
) -> Result<TableFile<W>> {
    for batch in rows {
        for row in batch {
            file.row(row)?;
        }
    }
    Ok(file)
}
