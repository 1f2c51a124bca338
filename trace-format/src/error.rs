//! Why bytes do not decode, before anybody knows which file and offset they came from.

/// A problem of a payload. Becomes part of a [`crate::ReadError`] where the place is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// The bytes end too early.
    #[error("it ends too early")]
    Short,
    /// They say something impossible.
    #[error("it has {0}")]
    Malformed(&'static str),
}
