//! Lines of a log, of bounded length.

use std::io::{self, BufRead};

/// The longest line that is read. strace writes longer ones only when it was told to print more than a quarter of this of
/// each string.
pub const MAX_LINE: usize = 1 << 20;

/// A line of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// Without its end.
    pub(crate) text: &'a [u8],
    /// It is longer than [`MAX_LINE`]; the rest was skipped.
    pub(crate) too_long: bool,
    /// The log ends with it, and it has no end of its own.
    pub(crate) unended: bool,
}

/// Reads a log line by line.
pub(crate) struct Lines<R> {
    from: R,
    number: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, number: 0, text: Vec::new() }
    }

    /// The next line.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.text.clear();
        let (mut too_long, mut any) = (false, false);
        let unended = loop {
            let available = match self.from.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                break true;
            }
            any = true;
            let end = memchr(available);
            let part = &available[..end.unwrap_or(available.len())];
            let room = MAX_LINE - self.text.len();
            too_long |= part.len() > room;
            self.text.extend_from_slice(&part[..part.len().min(room)]);
            let taken = part.len() + usize::from(end.is_some());
            self.from.consume(taken);
            if end.is_some() {
                break false;
            }
        };
        if !any {
            return Ok(None);
        }
        self.number += 1;
        let mut text = self.text.strip_suffix(b"\r").unwrap_or(&self.text);
        if self.number == 1 {
            // An editor of another system has marked it as UTF-8.
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        Ok(Some(Line { number: self.number, text, too_long, unended }))
    }
}

/// Where a line ends. The standard library's search is in `BufRead::skip_until` and its like, none of which is bounded.
fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<(u64, usize, bool, bool)> {
        let mut lines = Lines::new(io::BufReader::with_capacity(7, bytes));
        let mut out = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            out.push((line.number, line.text.len(), line.too_long, line.unended));
        }
        out
    }

    #[test]
    fn lines_end_where_they_end() {
        assert_eq!(
            all(b"ab\n\r\ncdefghijklm\nx"),
            [(1, 2, false, false), (2, 0, false, false), (3, 11, false, false), (4, 1, false, true)]
        );
        assert!(all(b"").is_empty());
    }

    #[test]
    fn a_mark_in_front_of_the_first_line_is_none_of_it() {
        assert_eq!(all(b"\xef\xbb\xbfab\ncd\n"), [(1, 2, false, false), (2, 2, false, false)]);
        assert_eq!(all(b"ab\n\xef\xbb\xbfcd\n"), [(1, 2, false, false), (2, 5, false, false)]);
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut bytes = vec![b'x'; 3 * MAX_LINE];
        bytes.extend_from_slice(b"\ny\n");
        assert_eq!(all(&bytes), [(1, MAX_LINE, true, false), (2, 1, false, false)]);
    }
}
