//! A bundle: a ZIP archive with a trace and all that was made of it, to attach to a postmortem.
//!
//! Mail and ticket systems take `.zip`, and show what is in it. Every command that reads a trace reads the one inside; the
//! recording is the first trace of the archive, and the manifest its last file. The same files make the same archive, byte
//! for byte: its times are those of the recording.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

/// The kind of file that a manifest describes.
pub const KIND: &str = "ctrace.bundle";
/// Version of the manifest.
const SCHEMA: u32 = 1;
/// The name of the manifest, by which a bundle is known.
const MANIFEST: &str = "manifest.json";
/// Larger files take another kind of header (APPNOTE 4.5.3).
const LARGE: u64 = u32::MAX as u64 - (1 << 20);

/// A file of a bundle.
pub struct Member<'a> {
    /// Its name in the archive.
    pub name: String,
    /// Its purpose, for a person.
    pub what: &'static str,
    /// More about it, for programs.
    pub facts: Value,
    /// What is in it.
    pub content: Content<'a>,
}

/// What is in a file of a bundle.
pub enum Content<'a> {
    /// Text, which is packed.
    Text(String),
    /// A trace, which is packed already.
    Trace(&'a mut dyn Read, u64),
}

/// Writes a bundle; `start_realtime_ns` is the start of the recording, `maker` the version of the program.
///
/// # Errors
/// As the output, or a trace, cannot be written or read.
pub fn write(
    to: impl Write,
    members: Vec<Member<'_>>,
    start_realtime_ns: u64,
    maker: &str,
) -> io::Result<()> {
    let mut zip = Zip { zip: ZipWriter::new_stream(to), at: time(start_realtime_ns) };
    let mut files = Vec::new();
    for mut member in members {
        let (bytes, sha256) = match &mut member.content {
            Content::Text(text) => {
                zip.put(&member.name, CompressionMethod::Deflated, &mut text.as_bytes(), text.len() as u64)?
            }
            Content::Trace(from, bytes) => zip.put(&member.name, CompressionMethod::Stored, from, *bytes)?,
        };
        let mut entry = json!({"path": member.name, "what": member.what, "bytes": bytes, "sha256": sha256});
        if let (Some(entry), Value::Object(facts)) = (entry.as_object_mut(), member.facts) {
            entry.extend(facts);
        }
        files.push(entry);
    }
    let manifest = json!({"schema": SCHEMA, "kind": KIND, "made_by": maker, "files": files});
    let text = format!("{manifest:#}\n");
    zip.put(MANIFEST, CompressionMethod::Deflated, &mut text.as_bytes(), text.len() as u64)?;
    zip.zip.finish()?;
    Ok(())
}

struct Zip<W: Write> {
    zip: ZipWriter<StreamWriter<W>>,
    at: DateTime,
}

impl<W: Write> Zip<W> {
    /// Adds a file. Its length and its SHA-256.
    fn put(
        &mut self,
        name: &str,
        method: CompressionMethod,
        from: &mut dyn Read,
        expected: u64,
    ) -> io::Result<(u64, String)> {
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .last_modified_time(self.at)
            .unix_permissions(0o600)
            .large_file(expected >= LARGE);
        self.zip.start_file(name, options)?;
        hashed(from, |part| self.zip.write_all(part))
    }
}

/// Hands all that can be read on, in parts. Its length and its SHA-256.
fn hashed(mut from: impl Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok((bytes, hex(&hash.finalize()))),
            Ok(n) => {
                hash.update(&buffer[..n]);
                each(&buffer[..n])?;
                bytes += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// SHA-256 of what can be read, in hexadecimal digits.
///
/// # Errors
/// As reading fails.
pub fn sha256(from: impl Read) -> io::Result<String> {
    hashed(from, |_| Ok(())).map(|(_, sha256)| sha256)
}

/// A time as ZIP keeps it: from 1980 to 2107, in steps of two seconds.
fn time(realtime_ns: u64) -> DateTime {
    // `2026-12-01T18:52:03…`
    let text = crate::text::units::rfc3339(realtime_ns);
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse::<u16>().ok());
    let parts = (part(0..4), part(5..7), part(8..10), part(11..13), part(14..16), part(17..19));
    let (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) = parts else {
        return DateTime::default();
    };
    let [month, day, hour, minute, second] = [month, day, hour, minute, second].map(|n| n as u8);
    DateTime::from_date_and_time(year, month, day, hour, minute, second).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn bundle() -> Vec<u8> {
        let mut trace = &b"CTRACE..."[..];
        let mut to = Vec::new();
        let member =
            |name: &str, what, content| Member { name: name.to_owned(), what, facts: json!({}), content };
        let members = vec![
            member("README.txt", "how to open this", Content::Text("read me".into())),
            member("x.ctr", "the recording", Content::Trace(&mut trace, 9)),
        ];
        write(&mut to, members, 1_764_615_123_000_000_000, "ctrace 0.1.0").unwrap();
        to
    }

    #[test]
    fn the_manifest_tells_the_truth_and_stands_last() {
        let bytes = bundle();
        assert_eq!(bytes, bundle(), "the same files make the same archive");
        let mut zip = zip::ZipArchive::new(Cursor::new(&bytes)).unwrap();
        let names: Vec<String> =
            (0..zip.len()).map(|at| zip.name_for_index(at).unwrap().unwrap().into_owned()).collect();
        assert_eq!(names, ["README.txt", "x.ctr", MANIFEST]);
        let mut text = String::new();
        zip.by_index(2).unwrap().read_to_string(&mut text).unwrap();
        let manifest: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&manifest["kind"], &manifest["schema"]), (&json!(KIND), &json!(1)));
        for file in manifest["files"].as_array().unwrap() {
            let mut content = Vec::new();
            zip.by_name(file["path"].as_str().unwrap()).unwrap().read_to_end(&mut content).unwrap();
            assert_eq!(file["bytes"], json!(content.len()));
            assert_eq!(file["sha256"], json!(sha256(&content[..]).unwrap()));
        }
        let at = zip.by_index(1).unwrap().last_modified().unwrap();
        assert_eq!((at.year(), at.month(), at.day(), at.hour()), (2025, 12, 1, 18));
    }

    #[test]
    fn a_time_that_zip_does_not_know_is_its_first() {
        assert_eq!(time(0).year(), 1980);
    }
}
