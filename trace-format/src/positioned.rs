//! Reads of a file at positions that the reader keeps: several readers of one file do not move each other.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

/// A file whose own position nobody relies on. Clones are the same file.
#[derive(Debug, Clone)]
pub(crate) struct Positioned(Arc<Inner>);

#[cfg(unix)]
type Inner = File;
/// Systems whose positioned reads move the position of the file read one after the other.
#[cfg(not(unix))]
type Inner = std::sync::Mutex<File>;

impl Positioned {
    #[cfg(unix)]
    pub(crate) fn new(file: File) -> Self {
        Self(Arc::new(file))
    }

    #[cfg(not(unix))]
    pub(crate) fn new(file: File) -> Self {
        Self(Arc::new(std::sync::Mutex::new(file)))
    }

    /// The length now: a live file grows.
    #[cfg(unix)]
    pub(crate) fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|found| found.len())
    }

    #[cfg(not(unix))]
    pub(crate) fn len(&self) -> io::Result<u64> {
        self.locked().metadata().map(|found| found.len())
    }

    /// One read at `offset`; 0: the file ends there.
    #[cfg(unix)]
    fn read_once(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&*self.0, buffer, offset)
    }

    #[cfg(not(unix))]
    fn read_once(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        use std::io::Seek as _;
        let mut file = self.locked();
        file.seek(io::SeekFrom::Start(offset))?;
        file.read(buffer)
    }

    #[cfg(not(unix))]
    fn locked(&self) -> std::sync::MutexGuard<'_, File> {
        // A panic of another reader leaves the file as usable as before: every read seeks first.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Runs something on the file itself.
    #[cfg(unix)]
    pub(crate) fn with<T>(&self, run: impl FnOnce(&File) -> T) -> T {
        run(&self.0)
    }

    #[cfg(not(unix))]
    pub(crate) fn with<T>(&self, run: impl FnOnce(&File) -> T) -> T {
        run(&self.locked())
    }

    /// Fills `buffer` from `offset` on, as far as there are bytes; returns how many.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_once(offset.saturating_add(done as u64), &mut buffer[done..]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
}

/// Reads a part of a file from its first byte to its last, at a position of its own.
#[derive(Debug)]
pub struct Content {
    file: Positioned,
    left: Range<u64>,
}

impl Content {
    pub(crate) fn new(file: Positioned, range: Range<u64>) -> Self {
        Self { file, left: range }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.left.end.saturating_sub(self.left.start)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let n = self.file.read_once(self.left.start, &mut buffer[..wanted])?;
        self.left.start += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn readers_of_one_file_do_not_move_each_other() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..=255).collect();
        file.write_all(&bytes).unwrap();
        let file = Positioned::new(file);
        let mut readers = [0..u64::MAX, 10..200].map(|range| Content::new(file.clone(), range));
        let mut read = [Vec::new(), Vec::new()];
        for _ in 0..100 {
            for (reader, read) in readers.iter_mut().zip(&mut read) {
                let mut part = [0; 7];
                let n = reader.read(&mut part).unwrap();
                read.extend_from_slice(&part[..n]);
                let mut other = [0; 3];
                assert_eq!(file.read_at(254, &mut other).unwrap(), 2);
                assert_eq!(other, [254, 255, 0]);
            }
        }
        assert_eq!(read, [bytes.clone(), bytes[10..200].to_vec()]);
        assert_eq!(file.len().unwrap(), 256);
    }
}
