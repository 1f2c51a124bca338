//! The look at a text that comes before all others: whether there may be a secret in it. Every new string of a recording
//! is looked at, and hardly one has anything to hide.

use super::{assign, tokens};
use std::sync::LazyLock;

/// Bits of the hash of three bytes.
const BITS: u32 = 14;

/// Signs by the hash of their first three bytes, in lower case.
struct Signs {
    has: Vec<u64>,
    by_letter: Vec<Vec<Vec<u8>>>,
}

fn hash(a: u8, b: u8, c: u8) -> usize {
    let [a, b, c] = [a, b, c].map(|byte| u32::from(byte.to_ascii_lowercase()));
    (((a << 16 | b << 8 | c).wrapping_mul(0x9e37_79b1)) >> (32 - BITS)) as usize
}

impl Signs {
    fn new(signs: impl Iterator<Item = &'static [u8]>) -> Self {
        let mut new = Self { has: vec![0; 1 << BITS >> 6], by_letter: vec![Vec::new(); 256] };
        for sign in signs {
            let sign = sign.to_ascii_lowercase();
            // Two bytes begin with any third.
            let thirds = sign.get(2).map_or(0..=u8::MAX, |third| *third..=*third);
            for third in thirds {
                let hash = hash(sign[0], sign[1], third);
                new.has[hash >> 6] |= 1 << (hash & 63);
            }
            new.by_letter[usize::from(sign[0])].push(sign);
        }
        new
    }

    fn are_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(3).enumerate().any(|(at, three)| {
            let hash = hash(three[0], three[1], three[2]);
            self.has[hash >> 6] & 1 << (hash & 63) != 0
                && self.by_letter[usize::from(three[0].to_ascii_lowercase())].iter().any(|sign| {
                    bytes.get(at..at + sign.len()).is_some_and(|part| part.eq_ignore_ascii_case(sign))
                })
        })
    }
}

/// What is in every text with a secret, and what is in those that give a value to a name.
static ANYWHERE: LazyLock<Signs> = LazyLock::new(|| Signs::new(anywhere()));
static WITH_NAMES: LazyLock<Signs> =
    LazyLock::new(|| Signs::new(anywhere().chain(assign::NAMES.iter().copied())));

fn anywhere() -> impl Iterator<Item = &'static [u8]> {
    assign::SIGNS.iter().copied().chain(tokens::prefixes())
}

/// Whether there may be something to mask in a text: one pass.
pub(super) fn are_in(bytes: &[u8]) -> bool {
    let has_names = bytes.iter().any(|b| matches!(b, b'=' | b':'));
    let signs = if has_names { &*WITH_NAMES } else { &*ANYWHERE };
    signs.are_in(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_seen_anywhere_and_in_any_case() {
        for text in
            ["Password=x", "x token-4f9a8b7c", "ghp_abc", "a SK0", "https://u:p@h", "my AUTH=1", "Bearer x"]
        {
            assert!(are_in(text.as_bytes()), "{text}");
        }
        for text in ["", "ab", "/usr/lib/python3/keyring", "spinning", "a=b", "x:y", "/etc/auth/pin"] {
            assert!(!are_in(text.as_bytes()), "{text}");
        }
    }
}
