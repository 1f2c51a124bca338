//! Traces inside ZIP archives: bundles of ours, and what people pack by hand.
//!
//! Only the archive's directory is read through the `zip` crate, within a budget: it is hostile as anything else. The trace
//! itself is then read in place, where it was stored as it is, and copied otherwise.

use crate::spool::{self, Refused};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use zip::{CompressionMethod, ZipArchive};

/// First bytes of a ZIP archive (APPNOTE 4.3.7), and of one without files (4.3.16).
const MAGICS: [[u8; 4]; 2] = [*b"PK\x03\x04", *b"PK\x05\x06"];
/// Bytes that may be read to find out what is in an archive.
const DIRECTORY_BUDGET: u64 = 4 << 20;
/// The file that a bundle has and other archives do not.
const MANIFEST: &str = "manifest.json";

/// Where the bytes of a trace are.
#[derive(Debug)]
pub(crate) enum Place {
    /// In the archive's own file, as they are.
    Within(Range<u64>),
    /// In a file of their own.
    Copied(File),
}

/// Why there is no trace.
pub(crate) enum NoTrace {
    /// As of anything that is packed.
    Refused(Refused),
    /// What is wrong with the archive, for a person.
    Archive(String),
}

impl From<io::Error> for NoTrace {
    fn from(error: io::Error) -> Self {
        Self::Refused(error.into())
    }
}

/// Whether a file begins as ZIP archives do.
pub(crate) fn is_archive(mut file: &File) -> io::Result<bool> {
    let mut start = [0; 4];
    file.seek(SeekFrom::Start(0))?;
    let known = spool::fill(&mut file, &mut start)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(MAGICS.iter().any(|magic| start[..known] == *magic))
}

/// The file that a path leads through, and the name of the member that the rest of it is: `x.zip/replay.ctr`.
pub(crate) fn member_of(path: &Path) -> Option<(PathBuf, String)> {
    let archive = path.ancestors().skip(1).find(|at| at.is_file())?;
    let member = path.strip_prefix(archive).ok()?.to_str()?;
    Some((archive.to_owned(), member.to_owned()))
}

/// Finds a trace in an archive: the one that is asked for; otherwise the only one, or of a bundle the first.
pub(crate) fn find(file: &File, wanted: Option<&str>) -> Result<Place, NoTrace> {
    let entry = entry(file, wanted)?;
    match entry.method {
        CompressionMethod::Stored => Ok(Place::Within(entry.bytes)),
        CompressionMethod::Deflated => {
            let mut from = file;
            from.seek(SeekFrom::Start(entry.bytes.start))?;
            let packed = entry.bytes.end - entry.bytes.start;
            let decoder = flate2::read::DeflateDecoder::new(from.take(packed));
            let copy = spool::copy_unpacked(decoder, packed).map_err(NoTrace::Refused)?;
            Ok(Place::Copied(copy))
        }
        method => Err(NoTrace::Archive(format!(
            "{} is packed by a method that this ctrace does not unpack ({method}). Unpack it: unzip",
            entry.name
        ))),
    }
}

struct Entry {
    name: String,
    method: CompressionMethod,
    bytes: Range<u64>,
}

fn entry(file: &File, wanted: Option<&str>) -> Result<Entry, NoTrace> {
    let budget = Rc::new(Cell::new(DIRECTORY_BUDGET));
    let bad =
        |error: &dyn std::fmt::Display| NoTrace::Archive(format!("its directory cannot be read: {error}"));
    let mut archive = ZipArchive::new(Budgeted { file, budget: Rc::clone(&budget) }).map_err(|e| bad(&e))?;
    let names: Vec<String> = (0..archive.len())
        .filter_map(|at| archive.name_for_index(at)?.ok().map(std::borrow::Cow::into_owned))
        .collect();
    let name = choose(&names, wanted).map_err(NoTrace::Archive)?;
    let at = archive.index_for_name(name).ok_or_else(|| bad(&"its names are ambiguous"))?;
    budget.set(DIRECTORY_BUDGET);
    let found = archive.by_index_raw(at).map_err(|e| bad(&e))?;
    if found.encrypted() {
        return Err(NoTrace::Archive(format!("{name} is encrypted. Unpack it: unzip")));
    }
    let start = found.data_start().ok_or_else(|| bad(&"it does not say where its files begin"))?;
    let end = start
        .checked_add(found.compressed_size())
        .filter(|end| file.metadata().is_ok_and(|m| *end <= m.len()));
    let end = end.ok_or_else(|| NoTrace::Archive(format!("it ends within {name}: the archive was cut")))?;
    Ok(Entry { name: name.to_owned(), method: found.compression(), bytes: start..end })
}

/// Which of the names is the trace.
fn choose<'a>(names: &'a [String], wanted: Option<&str>) -> Result<&'a str, String> {
    let is_trace = |name: &&String| Path::new(name).extension().is_some_and(|e| e == "ctr");
    let mut traces = names.iter().filter(is_trace);
    let all = || {
        let names: Vec<&str> = names.iter().filter(is_trace).take(8).map(String::as_str).collect();
        if names.is_empty() {
            "it holds no trace (no name in it ends in .ctr)".to_owned()
        } else {
            names.join(", ")
        }
    };
    if let Some(wanted) = wanted {
        let found = names.iter().find(|name| *name == wanted);
        return found.map(String::as_str).ok_or_else(|| format!("it has no {wanted}; its traces: {}", all()));
    }
    match (traces.next(), traces.next()) {
        (None, _) => Err(all()),
        (Some(only), None) => Ok(only),
        (Some(first), Some(_)) if names.iter().any(|name| name == MANIFEST) => Ok(first),
        (Some(first), Some(_)) => {
            Err(format!("it holds several traces ({}). Name one below the archive: ARCHIVE/{first}", all()))
        }
    }
}

/// A file of which only so much is read.
struct Budgeted<'a> {
    file: &'a File,
    budget: Rc<Cell<u64>>,
}

impl Read for Budgeted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.budget.get() == 0 && !buffer.is_empty() {
            return Err(io::Error::other("it lists more files than a bundle has"));
        }
        let most = usize::try_from(self.budget.get()).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read(&mut buffer[..most])?;
        self.budget.set(self.budget.get() - n as u64);
        Ok(n)
    }
}

impl Seek for Budgeted<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use zip::write::SimpleFileOptions;

    fn archive(files: &[(&str, &[u8])], method: CompressionMethod) -> File {
        let mut zip = zip::ZipWriter::new(tempfile::tempfile().unwrap());
        for (name, bytes) in files {
            zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap()
    }

    fn found(file: &File, wanted: Option<&str>) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        match find(file, wanted) {
            Ok(Place::Within(range)) => {
                let mut from = file;
                from.seek(SeekFrom::Start(range.start)).unwrap();
                from.take(range.end - range.start).read_to_end(&mut bytes).unwrap();
            }
            Ok(Place::Copied(mut copy)) => {
                copy.read_to_end(&mut bytes).unwrap();
            }
            Err(NoTrace::Archive(what)) => return Err(what),
            Err(NoTrace::Refused(Refused::TooMuch)) => return Err("too much".into()),
            Err(NoTrace::Refused(Refused::Io(error))) => return Err(error.to_string()),
        }
        Ok(bytes)
    }

    #[test]
    fn the_only_trace_is_taken_and_of_a_bundle_the_first() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let one = archive(&[("notes.txt", b"n"), ("a/x.ctr", b"first")], method);
            assert!(is_archive(&one).unwrap());
            assert_eq!(found(&one, None).unwrap(), b"first");
            let two = archive(&[("x.ctr", b"first"), ("y.ctr", b"second")], method);
            let refused = found(&two, None).unwrap_err();
            assert!(refused.contains("x.ctr, y.ctr") && refused.contains("ARCHIVE/x.ctr"), "{refused}");
            assert_eq!(found(&two, Some("y.ctr")).unwrap(), b"second");
            assert!(found(&two, Some("z.ctr")).unwrap_err().contains("no z.ctr"));
            let ours = archive(&[("x.ctr", b"first"), ("y.ctr", b"second"), (MANIFEST, b"{}")], method);
            assert_eq!(found(&ours, None).unwrap(), b"first");
        }
        assert!(found(&archive(&[], CompressionMethod::Stored), None).unwrap_err().contains("no trace"));
    }

    #[test]
    fn bombs_and_directories_without_end_are_refused() {
        let zeros = vec![0; 64 << 20];
        let bomb = archive(&[("x.ctr", &zeros)], CompressionMethod::Deflated);
        assert_eq!(found(&bomb, None).unwrap_err(), "too much");
        let names: Vec<String> =
            (0..60_000).map(|n| format!("a-name-that-is-rather-long-{n:0>60}")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        let many = archive(&files, CompressionMethod::Stored);
        let refused = found(&many, None).unwrap_err();
        assert!(refused.contains("more files than a bundle has"), "{refused}");
    }

    #[test]
    fn an_archive_cut_or_changed_anywhere_gives_words_or_bytes_and_never_a_panic() {
        let mut whole = Vec::new();
        let mut file =
            archive(&[("x.ctr", b"first, of some length"), ("m", b"n")], CompressionMethod::Deflated);
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut whole).unwrap();
        for at in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                let mut changed = tempfile::tempfile().unwrap();
                changed.write_all(&bytes).unwrap();
                let _ = found(&changed, None);
                let mut cut = tempfile::tempfile().unwrap();
                cut.write_all(&whole[..at]).unwrap();
                let _ = found(&cut, None);
            }
        }
    }
}
