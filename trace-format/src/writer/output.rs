//! Bytes on their way to the disk, or wherever a trace goes.

use super::WriteError;
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::PathBuf;

/// Where the bytes of a trace go. Append-only.
pub trait Sink: io::Write + Send {
    /// Makes what was written durable.
    ///
    /// # Errors
    /// As the device reports.
    fn sync(&mut self) -> io::Result<()>;
}

/// Encoded bytes that may wait for a sink that refuses them.
const MAX_WAITING: usize = 16 << 20;

/// Bytes on their way to the sink.
pub(super) struct Output {
    sink: Box<dyn Sink>,
    path: PathBuf,
    waiting: Vec<u8>,
    /// Bytes at the start of `waiting` that the sink took.
    taken: usize,
    written: u64,
    sha256: Sha256,
}

impl Output {
    /// `path` is for errors.
    pub(super) fn new(sink: Box<dyn Sink>, path: PathBuf) -> Self {
        Self { sink, path, waiting: Vec::new(), taken: 0, written: 0, sha256: Sha256::new() }
    }

    /// Where bytes are queued, behind those that wait.
    pub(super) fn queue(&mut self) -> &mut Vec<u8> {
        &mut self.waiting
    }

    /// Bytes that the sink took.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// SHA-256 of the bytes that the sink took.
    pub(super) fn sha256(&self) -> [u8; 32] {
        self.sha256.clone().finalize().into()
    }

    pub(super) fn into_path(self) -> PathBuf {
        self.path
    }

    /// Offset of the next byte to be queued.
    pub(super) fn end(&self) -> u64 {
        self.written + (self.waiting.len() - self.taken) as u64
    }

    /// Gives the sink what waits. After an error, what it did not take still waits.
    pub(super) fn drain(&mut self) -> Result<(), WriteError> {
        while self.taken < self.waiting.len() {
            let refused = match self.sink.write(&self.waiting[self.taken..]) {
                Ok(0) => io::Error::from(io::ErrorKind::WriteZero),
                Ok(n) => {
                    self.sha256.update(&self.waiting[self.taken..self.taken + n]);
                    self.taken += n;
                    self.written += n as u64;
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => e,
            };
            self.waiting.drain(..self.taken);
            self.taken = 0;
            return Err(self.failed("writing", refused));
        }
        self.waiting.clear();
        self.taken = 0;
        Ok(())
    }

    /// Gives the sink what waits if that is as much as may wait.
    ///
    /// # Errors
    /// [`WriteError::Backlog`]: nothing more may be queued.
    pub(super) fn make_room(&mut self) -> Result<(), WriteError> {
        if self.waiting.len() - self.taken > MAX_WAITING && self.drain().is_err() {
            return Err(WriteError::Backlog { path: self.path.clone(), waiting: self.waiting.len() });
        }
        Ok(())
    }

    /// Makes what the sink took durable.
    pub(super) fn sync(&mut self) -> Result<(), WriteError> {
        self.sink.flush().map_err(|e| self.failed("writing", e))?;
        self.sink.sync().map_err(|e| self.failed("syncing", e))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> WriteError {
        WriteError::Io { action, path: self.path.clone(), source }
    }
}

/// Of a writer whose chunks stay in memory.
pub(super) struct NoSink;

impl io::Write for NoSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for NoSink {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
