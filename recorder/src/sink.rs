//! Where a trace goes besides a file, and how large it may get.

use crate::disk::Disk;
use ctrace_format::{Sink, SizeLimit, WriteError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Events that a chunk may have where the trace may have `most` bytes: the last one that finds no room is a small part of it.
pub(crate) fn chunk_events(most: u64, usual: u32) -> u32 {
    /// An event takes some bytes; a chunk of so many takes a small part of the least trace.
    const LEAST: u64 = 512;
    const PARTS: u64 = 128;
    (most / PARTS).clamp(LEAST, u64::from(usual)) as u32
}

/// A sink that takes so many bytes and no more. Its error, when there is no room, is that of a full disk: what finishes the
/// trace has its room all the same.
pub(crate) struct Bounded {
    sink: Box<dyn Sink>,
    written: u64,
    most: u64,
    reached: Arc<AtomicBool>,
}

impl Bounded {
    pub(crate) fn new(sink: Box<dyn Sink>, most: u64, reached: Arc<AtomicBool>) -> Self {
        Self { sink, written: 0, most, reached }
    }

    fn has_room(&self, bytes: u64) -> io::Result<()> {
        if self.written.saturating_add(bytes) <= self.most {
            return Ok(());
        }
        self.reached.store(true, Ordering::Release);
        Err(io::Error::new(io::ErrorKind::FileTooLarge, SizeLimit))
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.has_room(bytes.len() as u64)?;
        let taken = self.sink.write(bytes)?;
        self.written += taken as u64;
        Ok(taken)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl Sink for Bounded {
    fn sync(&mut self) -> io::Result<()> {
        self.sink.sync()
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        self.has_room(bytes)?;
        self.sink.reserve(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.sink.cut(len)?;
        self.written = len;
        Ok(())
    }

    fn publish(&mut self) -> Result<Option<PathBuf>, WriteError> {
        self.sink.publish()
    }
}

/// Standard output. Whoever reads it may be slow, or stop: what it takes at once is what a pipe takes without waiting, and
/// the end of the recording looks at the same figures as with a disk.
pub(crate) struct Stdout {
    disk: Arc<Disk>,
}

impl Stdout {
    pub(crate) const fn new(disk: Arc<Disk>) -> Self {
        Self { disk }
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        /// A pipe that is ready takes so much (`PIPE_BUF`).
        const PIECE: usize = 4096;
        let out = io::stdout();
        let _waits = self.disk.waiting();
        let mut fds = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::NONE)?;
        Ok(nix::unistd::write(out.as_fd(), &bytes[..bytes.len().min(PIECE)])?)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Stdout {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn publish(&mut self) -> Result<Option<PathBuf>, WriteError> {
        Ok(Some(PathBuf::from("-")))
    }
}
