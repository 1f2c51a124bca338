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

    /// Makes sure that so many bytes more can be written, and keeps room for them until they are. Without it, or where
    /// a file system cannot do it, what finishes a trace may find no room.
    ///
    /// # Errors
    /// When there is not so much room: nothing was written.
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }

    /// Drops what was written behind the first `len` bytes: part of a chunk.
    ///
    /// # Errors
    /// When it cannot be taken back.
    fn cut(&mut self, len: u64) -> io::Result<()> {
        let _ = len;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives the finished trace its name, durably; where it lies then. `None`: a sink without names.
    ///
    /// # Errors
    /// When it cannot have it.
    fn publish(&mut self) -> Result<Option<PathBuf>, WriteError> {
        Ok(None)
    }
}

/// The cause of a sink's error when a trace has the size that it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the trace has the size that it may have")]
pub struct SizeLimit;

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
    /// Bytes and hash when nothing waited last: the end of a chunk.
    whole: (u64, Sha256),
    /// Bytes that are kept free behind what is written, for what finishes the trace.
    pub(super) kept_free: u64,
}

impl Output {
    /// `path` is for errors.
    pub(super) fn new(sink: Box<dyn Sink>, path: PathBuf) -> Self {
        let whole = (0, Sha256::new());
        Self {
            sink,
            path,
            waiting: Vec::new(),
            taken: 0,
            written: 0,
            sha256: Sha256::new(),
            whole,
            kept_free: 0,
        }
    }

    /// Where bytes are queued, behind those that wait.
    pub(super) fn queue(&mut self) -> &mut Vec<u8> {
        &mut self.waiting
    }

    /// Bytes that the sink took.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that the sink took, up to the end of a chunk.
    pub(super) fn whole_bytes(&self) -> u64 {
        self.whole.0
    }

    /// SHA-256 of the bytes that the sink took, and of those that wait.
    pub(super) fn sha256(&self) -> [u8; 32] {
        let mut sha256 = self.sha256.clone();
        sha256.update(&self.waiting[self.taken..]);
        sha256.finalize().into()
    }

    /// Offset of the next byte to be queued.
    pub(super) fn end(&self) -> u64 {
        self.written + (self.waiting.len() - self.taken) as u64
    }

    /// Gives the sink what waits. After an error, what it did not take still waits.
    pub(super) fn drain(&mut self) -> Result<(), WriteError> {
        let waits = (self.waiting.len() - self.taken) as u64;
        if waits > 0
            && let Err(refused) = self.sink.reserve(waits + self.kept_free)
        {
            return Err(self.failed("writing", refused));
        }
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
        self.whole = (self.written, self.sha256.clone());
        Ok(())
    }

    /// Gives the sink what waits up to this offset, the end of a chunk, if there is room for it and as much again as is to
    /// be kept free. Whether it has it.
    pub(super) fn drain_to(&mut self, end: u64) -> bool {
        let len = end.saturating_sub(self.written);
        let to = self.taken.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
        if to > self.waiting.len() || self.sink.reserve(len + self.kept_free).is_err() {
            return false;
        }
        while self.taken < to {
            match self.sink.write(&self.waiting[self.taken..to]) {
                Ok(n @ 1..) => {
                    self.sha256.update(&self.waiting[self.taken..self.taken + n]);
                    self.taken += n;
                    self.written += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                _ => return false,
            }
        }
        self.whole = (self.written, self.sha256.clone());
        true
    }

    /// Drops what waits, and takes back what the sink has of it. What the sink has then: whole chunks.
    pub(super) fn drop_waiting(&mut self) -> Result<u64, WriteError> {
        let (whole, sha256) = self.whole.clone();
        if self.written > whole {
            self.sink.cut(whole).map_err(|e| self.failed("cutting", e))?;
        }
        self.waiting.clear();
        self.taken = 0;
        self.written = whole;
        self.sha256 = sha256;
        Ok(whole)
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

    /// Makes what the sink took durable, and gives it its name.
    pub(super) fn publish(mut self) -> Result<PathBuf, WriteError> {
        self.sink.flush().map_err(|e| self.failed("writing", e))?;
        self.sink.sync().map_err(|e| self.failed("syncing", e))?;
        Ok(self.sink.publish()?.unwrap_or(self.path))
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
