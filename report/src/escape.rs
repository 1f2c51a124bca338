//! How words that may not be ours are shown. A trace comes from somebody else's machine: no name in it may end a line,
//! steer a terminal, hide or reorder what stands beside it, or be markup where it is shown.
//!
//! [`crate::shown`] passes every line through [`line`], and so do the writers of Markdown and XML with
//! every word that they are given. What makes lines, colours, tables and elements is therefore never in the words.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Characters that show as nothing, as an ambiguous blank, or that act: the general categories Cc, Cf, Zl, Zp and Zs but
/// the space, `Default_Ignorable_Code_Point`, the blank Braille pattern, and noncharacters (Unicode 15.0,
/// `UnicodeData.txt` and `DerivedCoreProperties.txt`). The noncharacters of the other planes are in [`is_hostile`].
const HOSTILE: [(u32, u32); 33] = [
    (0x00, 0x1f),
    (0x7f, 0xa0),
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x600, 0x605),
    (0x61c, 0x61c),
    (0x6dd, 0x6dd),
    (0x70f, 0x70f),
    (0x890, 0x891),
    (0x8e2, 0x8e2),
    (0x115f, 0x1160),
    (0x1680, 0x1680),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x2000, 0x200f),
    (0x2028, 0x202f),
    (0x205f, 0x206f),
    (0x2800, 0x2800),
    (0x3000, 0x3000),
    (0x3164, 0x3164),
    (0xfdd0, 0xfdef),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0x110bd, 0x110bd),
    (0x110cd, 0x110cd),
    (0x13430, 0x1343f),
    (0x16fe4, 0x16fe4),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0000, 0xe0fff),
    (0x10_fffe, 0x10_ffff),
];

/// Whether a character must not be shown as it is.
pub fn is_hostile(c: char) -> bool {
    let c = u32::from(c);
    if (0x20..0x7f).contains(&c) {
        return false;
    }
    // The last two of every plane are noncharacters.
    c & 0xfffe == 0xfffe
        || HOSTILE
            .binary_search_by(|(first, last)| {
                if *last < c {
                    std::cmp::Ordering::Less
                } else if *first > c {
                    std::cmp::Ordering::Greater
                } else {
                    std::cmp::Ordering::Equal
                }
            })
            .is_ok()
}

/// Appends a character, or what stands for it.
pub fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        c if is_hostile(c) => {
            let _ = write!(out, "{}", c.escape_unicode());
        }
        c => out.push(c),
    }
}

/// Words as a part of one line.
pub fn line(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| (b' '..0x7f).contains(&b)) || !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        push(&mut out, c);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_spelled_out() {
        for c in "\0\x07\n\r\t\x1b\x7f\u{80}\u{85}\u{9b}\u{9f}\u{a0}\u{ad}\u{61c}\u{180e}\u{200b}\u{200d}\u{200e}\u{200f}\
                  \u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{206f}\u{3000}\u{fe0f}\u{feff}\u{fff9}\u{ffff}\
                  \u{1fffe}\u{e0001}\u{e0041}\u{e007f}\u{10ffff}"
            .chars()
        {
            assert!(is_hostile(c), "{c:?}");
            let shown = line(c.encode_utf8(&mut [0; 4])).into_owned();
            assert!(shown.starts_with('\\') && !shown.chars().any(is_hostile), "{shown}");
        }
        for c in " ~aé→│漢🙂".chars() {
            assert!(!is_hostile(c), "{c:?}");
        }
        assert_eq!(line("a\nb\u{202e}c"), "a\\nb\\u{202e}c");
        assert!(HOSTILE.windows(2).all(|w| w[0].1 < w[1].0), "binary search needs order");
    }
}
