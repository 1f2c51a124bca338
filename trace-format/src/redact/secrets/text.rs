//! Small helpers over bytes.

/// Where `what` is, from a position on.
pub(super) fn find(bytes: &[u8], what: &[u8], from: usize) -> Option<usize> {
    bytes.get(from..)?.windows(what.len()).position(|w| w == what).map(|at| at + from)
}

/// The end of the run from `at` on of bytes for which `is` holds.
pub(super) fn run(bytes: &[u8], at: usize, is: impl Fn(u8) -> bool) -> usize {
    bytes[at..].iter().position(|b| !is(*b)).map_or(bytes.len(), |n| at + n)
}

/// What ends a value in a longer text.
pub(super) fn ends_value(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(byte, b'"' | b'\'' | b'&' | b';' | b',' | b')' | b'|' | b'`' | b'}')
}
