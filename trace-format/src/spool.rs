//! Traces that are no plain file: what comes through a pipe, and what gzip or zstd made of one.
//!
//! A reader goes back and forth in a trace, so what cannot be read so is copied first, to a file without a name that is gone
//! with its reader. What is compressed is known by its first bytes, whatever its name is.

use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, Chain, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// First bytes of what gzip (RFC 1952) and zstd (RFC 8878) write.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The largest window of zstd that is decoded, as a power of two: 32 MiB.
const WINDOW_LOG: u32 = 25;
/// Bytes that one byte may decode to, over [`FREE`]. A trace is compressed already: what packs it once more saves little.
const RATIO: u64 = 100;
/// Bytes that anything may decode to.
const FREE: u64 = 16 << 20;

/// Why there is no copy.
pub(crate) enum Refused {
    /// A device, or the directory for temporary files.
    Io(io::Error),
    /// It decodes to more than a trace of its length holds.
    TooMuch,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Whether a path is a descriptor of this process, such as a shell's `<(COMMAND)`.
pub(crate) fn is_descriptor(path: &Path) -> bool {
    path == Path::new("/dev/stdin") || ["/dev/fd", "/proc/self/fd"].iter().any(|at| path.starts_with(at))
}

/// A copy of a file that is compressed; `None`: it is not.
pub(crate) fn unpacked(mut file: &File) -> Result<Option<File>, Refused> {
    let mut start = [0; ZSTD.len()];
    file.seek(SeekFrom::Start(0))?;
    let known = fill(&mut file, &mut start)?;
    file.seek(SeekFrom::Start(0))?;
    if is_packed(&start[..known]) { copy(file).map(Some) } else { Ok(None) }
}

/// A copy of what comes, unpacked if it is compressed.
pub(crate) fn copy(mut from: impl Read) -> Result<File, Refused> {
    let mut start = vec![0; ZSTD.len()];
    let known = fill(&mut from, &mut start)?;
    start.truncate(known);
    let packed = is_packed(&start);
    let is_gzip = start.starts_with(&GZIP);
    let mut to = tempfile::tempfile()?;
    let input = Cursor::new(start).chain(from);
    if !packed {
        let mut input = input;
        io::copy(&mut input, &mut to)?;
    } else if is_gzip {
        unpack(MultiGzDecoder::new(Counted { input, taken: 0 }), |gzip| gzip.get_ref().taken, &mut to)?;
    } else {
        let mut zstd = zstd::stream::read::Decoder::new(Counted { input, taken: 0 })?;
        zstd.window_log_max(WINDOW_LOG)?;
        unpack(zstd, |zstd| zstd.get_ref().get_ref().taken, &mut to)?;
    }
    to.seek(SeekFrom::Start(0))?;
    Ok(to)
}

/// A copy of what a decoder makes of so many bytes.
pub(crate) fn copy_unpacked(from: impl Read, packed: u64) -> Result<File, Refused> {
    let mut to = tempfile::tempfile()?;
    unpack(from, |_| packed, &mut to)?;
    to.seek(SeekFrom::Start(0))?;
    Ok(to)
}

fn is_packed(start: &[u8]) -> bool {
    start.starts_with(&GZIP) || start.starts_with(&ZSTD)
}

/// Reads until the buffer is full or nothing comes. How much came.
pub(crate) fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut known = 0;
    while known < buffer.len() {
        match from.read(&mut buffer[known..]) {
            Ok(0) => break,
            Ok(n) => known += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(known)
}

/// Counts what was taken of the input.
struct Counted<R> {
    input: Chain<Cursor<Vec<u8>>, R>,
    taken: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.taken += n as u64;
        Ok(n)
    }
}

/// Decodes all there is. What is cut off or damaged ends there: what came before may be a part of a trace.
fn unpack<D: Read>(mut from: D, taken: impl Fn(&D) -> u64, to: &mut File) -> Result<(), Refused> {
    let mut buffer = vec![0; 64 << 10];
    let mut made = 0_u64;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) if made > 0 => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        made += n as u64;
        if made > taken(&from).saturating_mul(RATIO).saturating_add(FREE) {
            return Err(Refused::TooMuch);
        }
        to.write_all(&buffer[..n])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut file: File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    }

    #[test]
    fn what_was_packed_is_unpacked_by_its_content() {
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let packed = [bytes.clone(), gzip(&bytes), zstd::encode_all(&bytes[..], 3).unwrap()];
        for packed in &packed {
            assert!(copy(&packed[..]).ok().map(all).is_some_and(|copy| copy == bytes));
        }
        // Cut off: as far as it goes.
        let copy = copy(&packed[1][..packed[1].len() / 2]).ok().map(all).unwrap();
        assert!(copy.len() > 1000 && bytes.starts_with(&copy));
        assert!(super::copy(&b""[..]).ok().map(all).unwrap().is_empty());
    }

    #[test]
    fn a_bomb_is_refused() {
        let zeros = vec![0; FREE as usize * 4];
        for bomb in [gzip(&zeros), zstd::encode_all(&zeros[..], 3).unwrap()] {
            assert!(matches!(copy(&bomb[..]), Err(Refused::TooMuch)));
        }
    }
}
