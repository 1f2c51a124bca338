//! Colours, as far as whoever prints wants them.

use crate::escape;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

/// How a word is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Like everything around it.
    Plain,
    /// The words that matter most.
    Bold,
    /// The words that matter least.
    Dim,
    /// Good.
    Green,
    /// Bad.
    Red,
    /// Worth a look.
    Yellow,
    /// A name.
    Cyan,
}

/// Colours words, or does not: the choice of whoever prints them, with [`shown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    /// With colours, or without.
    pub const fn new(colours: bool) -> Self {
        Self(colours)
    }

    /// No colours, for files.
    pub const fn none() -> Self {
        Self(false)
    }

    /// The word in its style.
    pub fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            _ if !self.0 => return text.to_owned(),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Green => "32",
            Style::Red => "31",
            Style::Yellow => "33",
            Style::Cyan => "36",
        };
        let mark = mark();
        format!("{mark}{code}m{text}{mark}0m")
    }

    /// As [`Paint::paint`], of a word that is followed by blanks up to a width.
    pub fn padded(self, style: Style, text: &str, width: usize) -> String {
        self.paint(style, &format!("{:<width$}", escape::line(text)))
    }
}

/// The mark in front of a style in a line that waits to be printed. Nobody can put it into a trace: it is drawn by lot
/// in each process. [`shown`] writes the terminal's own sequence for it; any other escape character is spelled out.
fn mark() -> &'static str {
    static MARK: OnceLock<String> = OnceLock::new();
    MARK.get_or_init(|| {
        // Its keys are the system's random numbers.
        let random = std::hash::RandomState::new().build_hasher().finish();
        format!("\x1b{random:016x};")
    })
}

/// A line as it is printed: our styles are made visible, and everything else is words, whoever they are from
/// ([`escape::line`]). A line break in it ends no line: each line is printed by a call of its own.
pub fn shown(line: &str) -> Cow<'_, str> {
    if !line.contains(mark()) {
        return escape::line(line);
    }
    let mut out = String::with_capacity(line.len());
    let mut parts = line.split(mark());
    out.push_str(&escape::line(parts.next().unwrap_or_default()));
    for part in parts {
        let (code, text) = part.split_once('m').unwrap_or((part, ""));
        let _ = write!(out, "\x1b[{code}m{}", escape::line(text));
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_sequences_reach_a_terminal() {
        let red = Paint(true).paint(Style::Red, "x\x1b[1my\n");
        assert_eq!(shown(&red), "\x1b[31mx\\u{1b}[1my\\n\x1b[0m");
        assert_eq!(shown("a\x1b]0;title\x07\u{9b}2J\rb\n"), "a\\u{1b}]0;title\\u{7}\\u{9b}2J\\rb\\n");
        assert_eq!(shown("plain → text"), "plain → text");
    }
}
