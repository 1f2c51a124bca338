//! Parts of a text that are to be masked, and texts inside a text.

use crate::redact::names::pseudonym_len;

/// What a masked argument becomes.
pub(super) const MASK: &[u8] = b"***";

/// The rules, as the footer names them.
pub(super) mod rule {
    pub(in super::super) const OPTION: &str = "value of a secret option";
    pub(in super::super) const COMMAND: &str = "secret argument of a known program";
    pub(in super::super) const URL: &str = "password in a URL";
    pub(in super::super) const HEADER: &str = "authorization header";
    pub(in super::super) const TOKEN: &str = "token of a known service";
    pub(in super::super) const KEY: &str = "looks like a key";
    pub(in super::super) const JSON: &str = "secret in JSON";
    pub(in super::super) const FILE: &str = "secret in a name";
    pub(in super::super) const LABEL: &str = "label that is not known to be harmless";
}

/// A part of a text, and the rule that masks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) rule: &'static str,
}

/// Parts of one text.
#[derive(Debug, Default)]
pub(super) struct Spans(Vec<Span>);

impl Spans {
    pub(super) fn add(&mut self, from: usize, to: usize, rule: &'static str) {
        if from < to {
            self.0.push(Span { from, to, rule });
        }
    }

    /// Adds what was found in the end of this text that begins at a position.
    pub(super) fn add_behind(&mut self, found: Self, at: usize) {
        self.0.extend(found.0.into_iter().map(|span| Span {
            from: span.from + at,
            to: span.to + at,
            ..span
        }));
    }

    /// Adds what was found in a text inside this one.
    pub(super) fn add_inner(&mut self, inner: &Self, piece: &Piece) {
        for span in &inner.0 {
            let (from, to) = piece.origin(span.from, span.to);
            self.add(from, to, span.rule);
        }
    }

    /// The text with its parts replaced; `None`: there is nothing to replace. Parts that overlap are replaced as one,
    /// so nothing stays of any of them.
    pub(super) fn apply(
        mut self,
        bytes: &[u8],
        replacement: &dyn Fn(&[u8], &'static str) -> Vec<u8>,
        count: &mut dyn FnMut(&'static str),
    ) -> Option<Vec<u8>> {
        self.0.sort_unstable();
        let mut merged: Vec<Span> = Vec::new();
        for span in self.0 {
            match merged.last_mut() {
                Some(last) if span.from < last.to => last.to = last.to.max(span.to),
                _ => merged.push(span),
            }
        }
        merged.retain(|span| !is_masked(&bytes[span.from..span.to]));
        if merged.is_empty() {
            return None;
        }
        let mut out = Vec::with_capacity(bytes.len());
        let mut copied = 0;
        for Span { from, to, rule } in merged {
            out.extend_from_slice(&bytes[copied..from]);
            out.extend(replacement(&bytes[from..to], rule));
            copied = to;
            count(rule);
        }
        out.extend_from_slice(&bytes[copied..]);
        Some(out)
    }
}

/// Whether a value was masked before.
pub(super) fn is_masked(value: &[u8]) -> bool {
    value == MASK || pseudonym_len(value) == value.len() && !value.is_empty()
}

/// A text inside another, without the quotes and escapes that it is written with there, and where each byte is from.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) text: Vec<u8>,
    /// Where each byte begins and ends in the outer text.
    at: Vec<(usize, usize)>,
}

impl Piece {
    pub(super) fn push(&mut self, byte: u8, from: usize, to: usize) {
        self.text.push(byte);
        self.at.push((from, to));
    }

    /// The part of the outer text that a part of this one is.
    pub(super) fn origin(&self, from: usize, to: usize) -> (usize, usize) {
        match (self.at.get(from), to.checked_sub(1).and_then(|last| self.at.get(last))) {
            (Some((from, _)), Some((_, to))) => (*from, *to),
            _ => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_overlap_leave_nothing() {
        let mut spans = Spans::default();
        spans.add(2, 6, rule::KEY);
        spans.add(4, 8, rule::URL);
        spans.add(0, 0, rule::URL);
        let mut counts = 0;
        let out = spans.apply(b"0123456789", &|_, _| MASK.to_vec(), &mut |_| counts += 1);
        assert_eq!((out.as_deref(), counts), (Some(b"01***89".as_slice()), 1));
    }

    #[test]
    fn a_part_of_an_inner_text_is_found_in_the_outer_one() {
        let mut piece = Piece::default();
        for (i, byte) in b"abc".iter().enumerate() {
            piece.push(*byte, 10 + 2 * i, 12 + 2 * i);
        }
        assert_eq!(piece.origin(1, 3), (12, 16));
        assert_eq!(piece.origin(3, 3), (0, 0));
    }
}
