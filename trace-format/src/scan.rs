//! Finding the chunks of a file without a usable index: live, torn, or damaged.
//!
//! Walks from header to header. Where none is, searches the next sync marker with a valid header behind it. The work
//! is linear in the length of the file, whatever its bytes are.

use crate::index::IndexEntry;
use crate::layout::{HeaderProblem, PREAMBLE_LEN, SYNC, TRAILER_LEN, TRAILER_MAGIC};
use crate::reader::Damage;
use crate::source::{ChunkProblem, Source};
use std::io;

/// Bytes searched at a time.
const BLOCK: usize = 64 << 10;

/// What a scan found.
pub(crate) struct Scan {
    pub(crate) entries: Vec<IndexEntry>,
    pub(crate) damage: Vec<Damage>,
    /// The id of the trace whose chunks these are.
    pub(crate) trace_id: Option<u32>,
}

/// `growing`: an incomplete chunk at the end is no damage. `trace_id`: whose chunks to take; `None`: those of the
/// first chunk found.
pub(crate) fn scan(source: &Source, growing: bool, trace_id: Option<u32>) -> io::Result<Scan> {
    let len = source.len();
    let mut scan = Scan { entries: Vec::new(), damage: Vec::new(), trace_id };
    let mut at = PREAMBLE_LEN as u64;
    // Bytes that may be read again because a chunk turned out to be shorter than its header says.
    let mut again = len.saturating_mul(4).saturating_add(64 << 20);
    while at < len {
        let problem = match source.header_at(at)? {
            Ok(header) => {
                let next = at + header.total_len();
                let fits = next <= len;
                let followed = fits && (next == len || begins_something(source, next)?);
                if followed {
                    take(&mut scan, at, &header);
                    at = next;
                    continue;
                }
                let intact = fits && {
                    let cost = u64::from(header.stored);
                    if again < cost {
                        true
                    } else {
                        again -= cost;
                        match source.stored_payload(at, &header) {
                            Ok(_) => true,
                            Err(ChunkProblem::Bad(_)) => false,
                            Err(ChunkProblem::Io(e)) => return Err(e),
                        }
                    }
                };
                if intact {
                    take(&mut scan, at, &header);
                    at = next;
                    continue;
                }
                if fits { "a chunk was overwritten or has bytes missing".into() } else { cut(at, next, len) }
            }
            Err(problem) => {
                if is_trailer(source, at)? {
                    break;
                }
                match problem {
                    HeaderProblem::Short => "the file ends within a chunk header".into(),
                    problem => problem.to_string(),
                }
            }
        };
        let next = find_sync(source, at + 1)?;
        let end = next.unwrap_or(len);
        if next.is_some() || !growing {
            scan.damage.push(Damage { offset: at, bytes: end - at, what: problem, lost: None });
        }
        at = end;
    }
    order(&mut scan);
    Ok(scan)
}

fn cut(at: u64, next: u64, len: u64) -> String {
    format!("the file ends within a chunk: {} of its {} bytes are there", len - at, next - at)
}

fn take(scan: &mut Scan, at: u64, header: &crate::layout::ChunkHeader) {
    let own = *scan.trace_id.get_or_insert(header.trace_id);
    if own == header.trace_id {
        scan.entries.push(IndexEntry::new(at, header));
    } else {
        let what = "a chunk of another trace".into();
        scan.damage.push(Damage { offset: at, bytes: header.total_len(), what, lost: None });
    }
}

/// Chunks in the order they were written, each once; what is missing between them is damage.
fn order(scan: &mut Scan) {
    if !scan.entries.is_sorted_by_key(|e| e.sequence) {
        scan.entries.sort_by_key(|e| e.sequence);
    }
    let damage = &mut scan.damage;
    let mut previous: Option<u32> = None;
    scan.entries.retain(|entry| {
        let known = previous;
        previous = Some(entry.sequence);
        match known {
            Some(p) if p == entry.sequence => {
                let what = format!("chunk {p} a second time");
                damage.push(Damage { offset: entry.offset, bytes: entry.total_len(), what, lost: None });
                false
            }
            _ => {
                let missing = entry.sequence - known.map_or(0, |p| p + 1);
                if missing > 0 {
                    let what = format!("{missing} chunks are missing in front of this one");
                    damage.push(Damage { offset: entry.offset, bytes: 0, what, lost: None });
                }
                true
            }
        }
    });
    damage.sort_by_key(|d| d.offset);
}

fn begins_something(source: &Source, at: u64) -> io::Result<bool> {
    Ok(source.header_at(at)?.is_ok() || is_trailer(source, at)?)
}

fn is_trailer(source: &Source, at: u64) -> io::Result<bool> {
    let mut bytes = [0; TRAILER_LEN];
    Ok(at + TRAILER_LEN as u64 == source.len()
        && source.read_at(at, &mut bytes)? == TRAILER_LEN
        && bytes[..8] == TRAILER_MAGIC)
}

/// The next offset, from `from` on, where a chunk with a valid header begins.
fn find_sync(source: &Source, from: u64) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; BLOCK + SYNC.len() - 1];
    let mut base = from;
    while base < source.len() {
        let n = source.read_at(base, &mut buffer)?;
        let mut start = 0;
        while let Some(found) = buffer[start..n].windows(SYNC.len()).position(|w| w == SYNC) {
            let at = base + (start + found) as u64;
            if source.header_at(at)?.is_ok() {
                return Ok(Some(at));
            }
            start += found + 1;
        }
        if n < buffer.len() {
            break;
        }
        base += BLOCK as u64;
    }
    Ok(None)
}
