//! Header, snapshot, summary, index and dictionary entries as bytes. The only file that names bincode.
//!
//! Every encoding begins with the revision of the structures, so that a later version can keep reading the layout
//! of an earlier one. Decoding is limited: a declared length never allocates more than [`LIMIT`].

use crate::DecodeError;
use serde::{Serialize, de::DeserializeOwned};

/// Most bytes that one structure may have.
pub(crate) const LIMIT: usize = 32 << 20;

/// Most bytes that a structure of a file of this length may have: decoded, they take many times as much memory.
pub(crate) fn limit(file_bytes: u64) -> usize {
    let in_proportion = file_bytes.saturating_mul(64).saturating_add(4 << 20);
    LIMIT.min(usize::try_from(in_proportion).unwrap_or(usize::MAX))
}

/// Of the structures' field lists. Raised when a field is added, removed or reordered.
const REVISION: u16 = 1;

/// What may be written: it came through the gate of the redaction, or it names nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` may not be written: it did not come through the redaction's gate",
    note = "give `redact::Gate` a method that takes it apart field by field and returns it as `Gated`"
)]
pub(crate) trait Told: Serialize {}

/// Numbers, and names of ctrace's own.
impl Told for crate::index::Index {}
impl Told for [crate::schema::ColumnSchema] {}
/// Made of events behind the gate: `TraceWriter::push_shown`.
impl Told for crate::Account {}
/// The gate is in front of the dictionaries: `TraceWriter::task`, `TraceWriter::object`.
impl Told for [&crate::TaskDef] {}
impl Told for [&crate::Object] {}

/// Encodes with the revision in front.
pub(crate) fn encode<T: Told + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    out.extend_from_slice(&REVISION.to_le_bytes());
    bincode::serde::encode_into_std_write(value, out, bincode::config::standard())
        .map(drop)
        .map_err(|_| DecodeError::Malformed("metadata that cannot be encoded"))
}

/// Decodes what [`encode`] made; nothing may follow.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (revision, rest) = bytes.split_first_chunk::<2>().ok_or(DecodeError::Short)?;
    if u16::from_le_bytes(*revision) != REVISION {
        return Err(DecodeError::Malformed("metadata of an unknown revision"));
    }
    let config = bincode::config::standard().with_limit::<LIMIT>();
    match bincode::serde::decode_from_slice(rest, config) {
        Ok((value, used)) if used == rest.len() => Ok(value),
        Ok(_) => Err(DecodeError::Malformed("metadata with bytes behind its end")),
        Err(_) => Err(DecodeError::Malformed("metadata that does not decode")),
    }
}

/// Encoded length of one value, without a revision.
pub(crate) fn encoded_len<T: Serialize>(value: &T) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, b: &[u8]) -> std::io::Result<usize> {
            self.0 += b.len();
            Ok(b.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    bincode::serde::encode_into_std_write(value, &mut count, bincode::config::standard())
        .unwrap_or(usize::MAX)
}
