//! How much a trace may make the compiler keep.
//!
//! What a recording mentions, it mentions in a few bytes each at least: a path, a socket, a mapping. Columns and zstd make
//! less of what a trace made for that repeats; the compiler's memory is bounded by the length of the file all the same.

use super::CompileError;
use super::source::Source;

/// Things of one kind for every byte of the file, and in any case. Recorded ones take 5 bytes and more.
const PER_BYTE: u64 = 1;
const FREE: u64 = 1 << 18;
/// Bytes of names for every byte of the file, and in any case. Recorded ones take a fifth of their length.
const NAME_BYTES_PER_BYTE: u64 = 16;
const NAME_BYTES_FREE: u64 = 64 << 20;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    things: usize,
    name_bytes: usize,
}

impl Budget {
    /// For a trace of its length.
    pub(crate) fn of(source: &dyn Source) -> Self {
        let within = |per_byte: u64, free: u64| {
            let most = source.file_bytes().saturating_mul(per_byte).saturating_add(free);
            usize::try_from(most).unwrap_or(usize::MAX)
        };
        Self { things: within(PER_BYTE, FREE), name_bytes: within(NAME_BYTES_PER_BYTE, NAME_BYTES_FREE) }
    }

    /// Whether there may be so many of any kind.
    pub(crate) fn holds(self, count: usize) -> bool {
        count <= self.things
    }

    /// Whether names of any kind may have so many bytes.
    pub(crate) fn holds_names(self, bytes: usize) -> bool {
        bytes <= self.name_bytes
    }

    /// There are so many of a kind.
    pub(crate) fn things(self, what: &'static str, count: usize) -> Result<(), CompileError> {
        if count > self.things { Err(CompileError::TooMany { what, limit: self.things }) } else { Ok(()) }
    }

    /// Names of a kind have so many bytes.
    pub(crate) fn names(self, what: &'static str, bytes: usize) -> Result<(), CompileError> {
        if bytes > self.name_bytes {
            return Err(CompileError::TooMany { what, limit: self.name_bytes });
        }
        Ok(())
    }
}
