//! What stands in front of a line: who did it, when, and where in its program.

use crate::text::{decoration, number};

/// The largest process id that Linux gives (`PID_MAX_LIMIT`, include/linux/threads.h).
const PID_MAX: u64 = 1 << 22;
const SECOND_NS: u64 = 1_000_000_000;

/// How a log tells the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// Since the epoch (`-ttt`).
    Epoch(u64),
    /// Since midnight (`-t`, `-tt`).
    Day(u64),
    /// Since the line before (`-r`).
    Since(u64),
}

/// The front of a line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Leader<'a> {
    /// The thread.
    pub(crate) tid: Option<u32>,
    /// Whether that was written `[pid N]`, as strace does when it writes to a terminal or its standard error.
    pub(crate) bracketed: bool,
    /// The name of the thread (`-Y`).
    pub(crate) comm: Option<&'a [u8]>,
    /// When.
    pub(crate) stamp: Option<Stamp>,
    /// Digits behind the point of the time.
    pub(crate) digits: u8,
    /// The number of the call (`-n`).
    pub(crate) nr: Option<u32>,
    /// The rest.
    pub(crate) rest: &'a [u8],
}

impl<'a> Leader<'a> {
    pub(crate) fn read(line: &'a [u8]) -> Self {
        let mut leader = Self { rest: line, ..Self::default() };
        leader.take_tid();
        leader.take_stamp();
        leader.take_brackets();
        leader
    }

    fn take_tid(&mut self) {
        let (digits_of, bracketed) = match self.rest.strip_prefix(b"[pid ") {
            Some(rest) => (trim(rest), true),
            None => (self.rest, false),
        };
        let len = digits(digits_of);
        let Some(tid) = number(&digits_of[..len]).and_then(|n| u32::try_from(n).ok()) else { return };
        if tid == 0 || u64::from(tid) > PID_MAX {
            return;
        }
        let mut rest = &digits_of[len..];
        let mut comm = None;
        if let Some(len) = decoration(rest) {
            comm = Some(&rest[1..len - 1]);
            rest = &rest[len..];
        }
        let rest = if bracketed { rest.strip_prefix(b"]") } else { Some(rest) };
        // A number that something other than a space follows is a time, or no part of the line's front.
        let Some([b' ', rest @ ..]) = rest else { return };
        *self = Self { tid: Some(tid), bracketed, comm, rest: trim(rest), ..Self::default() };
    }

    fn take_stamp(&mut self) {
        let text = trim(self.rest);
        if let Some((stamp, digits, rest)) = stamp(text) {
            (self.stamp, self.digits, self.rest) = (Some(stamp), digits, trim(rest));
            // `-r` with `-t`: `(+     0.000123)`.
            if let Some(rest) = self.rest.strip_prefix(b"(+")
                && let Some(end) = rest.iter().position(|b| *b == b')')
                && rest[..end].iter().all(|b| matches!(b, b' ' | b'.' | b'0'..=b'9'))
            {
                self.rest = trim(&rest[end + 1..]);
            }
        }
    }

    /// `[  59]`, the number of the call (`-n`), and `[00007f64d17e8ad7]`, where it was made (`-i`).
    fn take_brackets(&mut self) {
        while let Some(inner) = self.rest.strip_prefix(b"[") {
            let Some(end) = inner.iter().position(|b| *b == b']') else { return };
            let text = trim(&inner[..end]);
            let is_hex = !text.is_empty() && text.iter().all(u8::is_ascii_hexdigit);
            // strace does not know it: `[????????????????]`.
            let is_unknown = !text.is_empty() && text.iter().all(|b| *b == b'?');
            if !is_hex && !is_unknown || inner.get(end + 1) != Some(&b' ') {
                return;
            }
            if text.len() < 8 {
                self.nr = number(text).and_then(|n| u32::try_from(n).ok());
            }
            self.rest = trim(&inner[end + 1..]);
        }
    }
}

pub(crate) fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii_start()
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|b| b.is_ascii_digit()).count()
}

/// A decimal number of at most 12 digits.
fn decimal(text: &[u8]) -> Option<(u64, &[u8])> {
    let len = digits(text);
    if len == 0 || len > 12 {
        return None;
    }
    let value = text[..len].iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'));
    Some((value, &text[len..]))
}

/// What stands behind a point, as nanoseconds: with its number of digits.
fn fraction(text: &[u8]) -> Option<(u64, u8, &[u8])> {
    let Some(rest) = text.strip_prefix(b".") else { return Some((0, 0, text)) };
    let len = digits(rest);
    if len == 0 || len > 9 {
        return None;
    }
    let (value, rest) = decimal(rest)?;
    Some((value * 10_u64.pow(9 - len as u32), len as u8, rest))
}

/// Seconds with what stands behind their point: nanoseconds, digits.
fn seconds(text: &[u8]) -> Option<(u64, u8, &[u8])> {
    let (whole, rest) = decimal(text)?;
    let (ns, digits, rest) = fraction(rest)?;
    Some((whole.checked_mul(SECOND_NS)?.checked_add(ns)?, digits, rest))
}

/// How long a call took: `<0.000012>` at the end of its line. What stands before it, and the nanoseconds.
pub(crate) fn duration(text: &[u8]) -> Option<(&[u8], u64)> {
    let inner = text.strip_suffix(b">")?;
    let open = inner.iter().rposition(|b| *b == b'<')?;
    let (ns, _, rest) = seconds(&inner[open + 1..])?;
    let before = text[..open].strip_suffix(b" ")?;
    rest.is_empty().then_some((before, ns))
}

fn stamp(text: &[u8]) -> Option<(Stamp, u8, &[u8])> {
    /// Times of the epoch are larger than process ids and pauses: this is September 2001.
    const EPOCH: u64 = 1_000_000_000;
    let (first, rest) = decimal(text)?;
    let ended = |rest: &[u8]| rest.first() == Some(&b' ');
    if let Some(rest) = rest.strip_prefix(b":") {
        let (minutes, rest) = decimal(rest)?;
        let (ns, digits, rest) = seconds(rest.strip_prefix(b":")?)?;
        if first > 23 || minutes > 59 || ns > 60 * SECOND_NS || !ended(rest) {
            return None;
        }
        let whole = (first * 60 + minutes) * 60 * SECOND_NS;
        return Some((Stamp::Day(whole + ns), digits, rest));
    }
    let (ns, digits, rest) = seconds(text)?;
    if !ended(rest) {
        return None;
    }
    if first >= EPOCH {
        Some((Stamp::Epoch(ns), digits, rest))
    } else if digits > 0 {
        Some((Stamp::Since(ns), digits, rest))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Leader<'_> {
        Leader::read(line.as_bytes())
    }

    #[test]
    fn every_form_of_front_is_read() {
        for (line, tid, stamp) in [
            ("read(3) = 0", None, None),
            ("14302 read(3) = 0", Some(14302), None),
            ("123   read(3) = 0", Some(123), None),
            ("[pid 14302] read(3) = 0", Some(14302), None),
            ("[pid   302] 01:37:29 read(3) = 0", Some(302), Some(Stamp::Day(5849 * SECOND_NS))),
            ("01:37:29.5 read(3) = 0", None, Some(Stamp::Day(5849 * SECOND_NS + 500_000_000))),
            (
                "14302 1796175449.943813 read(3) = 0",
                Some(14302),
                Some(Stamp::Epoch(1_796_175_449_943_813_000)),
            ),
            ("1796175449 read(3) = 0", None, Some(Stamp::Epoch(1_796_175_449_000_000_000))),
            ("     0.000123 read(3) = 0", None, Some(Stamp::Since(123_000))),
            (
                "14315 01:37:29.25 (+     0.000000) [  59] [00007f64d17e8ad7] read(3) = 0",
                Some(14315),
                Some(Stamp::Day(5_849_250_000_000)),
            ),
            (
                "1796175449.943813945 [   0] [????????????????] read(3) = 0",
                None,
                Some(Stamp::Epoch(1_796_175_449_943_813_945)),
            ),
        ] {
            let leader = read(line);
            assert_eq!((leader.tid, leader.stamp), (tid, stamp), "{line}");
            assert_eq!(leader.rest, b"read(3) = 0", "{line}");
        }
        assert_eq!(read("14364<a b> brk(NULL) = 0").comm, Some(&b"a b"[..]));
        assert_eq!(read("[pid 14364<sh>] brk(NULL) = 0").comm, Some(&b"sh"[..]));
        assert_eq!(read("7 1.5 [  59] x").nr, Some(59));
    }

    #[test]
    fn what_only_looks_like_a_front_stays() {
        for line in [
            "",
            "12",
            "99999999 read",
            "[pid ] x",
            "[pid 3",
            "25:00:00 x",
            "1:2 x",
            "3) = 5",
            "[x] y",
            "1.2345678901 x",
        ] {
            let leader = read(line);
            assert!(leader.stamp.is_none(), "{line}");
        }
    }

    #[test]
    fn a_duration_ends_a_line() {
        assert_eq!(duration(b" = 3</etc/x> <0.000040>"), Some((&b" = 3</etc/x>"[..], 40_000)));
        assert_eq!(duration(b" = 3 <1.000000040>"), Some((&b" = 3"[..], 1_000_000_040)));
        for none in [&b" = 3</etc/x>"[..], b" = 3<0.5>", b"", b">", b" = 3 <0.5> "] {
            assert_eq!(duration(none), None);
        }
    }
}
