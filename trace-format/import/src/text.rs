//! Where things end in a line: numbers, strings, what is said of a descriptor, values.

pub(crate) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A number as C writes it.
pub(crate) fn number(digits: &[u8]) -> Option<i128> {
    let (digits, radix) = match digits {
        [b'0', b'x' | b'X', hex @ ..] => (hex, 16),
        [b'0', octal @ ..] if !octal.is_empty() => (octal, 8),
        decimal => (decimal, 10),
    };
    // Twenty digits are more than any 64-bit number has; octal ones have 22.
    if digits.is_empty() || digits.len() > 24 {
        return None;
    }
    i128::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok().filter(|n| *n >= 0)
}

/// Where a string ends: the position of its closing quote, or the end of the text.
pub(crate) fn string_end(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at,
            _ => at += 1,
        }
    }
    text.len()
}

/// Length of what strace says of a descriptor or process, with its brackets, if the text begins with that.
pub(crate) fn decoration(text: &[u8]) -> Option<usize> {
    match text {
        [b'<', b'<' | b' ', ..] => None,
        // A path: `<`, `>` and quotes in it are escaped. A device follows in brackets of its own.
        [b'<', b'/', ..] => {
            let mut depth = 0_usize;
            let mut at = 0;
            while let Some(byte) = text.get(at) {
                match byte {
                    b'\\' => at += 1,
                    b'<' => depth += 1,
                    b'>' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
            None
        }
        [b'<', rest @ ..] => {
            let end = rest.iter().position(|b| matches!(b, b'[' | b'>' | b'"' | b'('))?;
            if rest[end] == b'>' {
                return Some(end + 2);
            }
            // Addresses have `->` in them, names of unix sockets anything, in quotes.
            let mut at = end;
            while let Some(byte) = rest.get(at) {
                match byte {
                    b'"' => at += 1 + string_end(rest.get(at + 1..)?),
                    b']' if rest.get(at + 1) == Some(&b'>') => return Some(at + 3),
                    _ => {}
                }
                at += 1;
            }
            None
        }
        _ => None,
    }
}

/// Where a value ends: at a comma or closing bracket that is not its own.
pub(crate) fn value_end(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at += 1 + string_end(&text[at + 1..]),
            b'<' if at > 0 && is_word(text[at - 1]) => {
                if let Some(len) = decoration(&text[at..]) {
                    at += len - 1;
                }
            }
            b'/' if text.get(at + 1) == Some(&b'*') => match find(&text[at..], b"*/") {
                Some(end) => at += end + 1,
                None => return text.len(),
            },
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' | b',' if depth == 0 => return at,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// Where the number that a text begins with ends, with what lies behind it.
pub(crate) fn decoration_at(text: &[u8]) -> usize {
    let len = text.iter().position(|b| !is_word(*b) && *b != b'-').unwrap_or(text.len());
    len + decoration(&text[len..]).unwrap_or(0)
}

/// Where `what` begins in `text`.
pub(crate) fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// The bytes that a string stands for.
pub(crate) fn unescape(escaped: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let [kind, after @ ..] = rest else { break };
        rest = after;
        match kind {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'v' => out.push(0x0b),
            b'f' => out.push(0x0c),
            b'0'..=b'7' => {
                let mut value = u32::from(kind - b'0');
                for _ in 0..2 {
                    match rest {
                        [digit @ b'0'..=b'7', after @ ..] => {
                            value = value * 8 + u32::from(digit - b'0');
                            rest = after;
                        }
                        _ => break,
                    }
                }
                out.push(value as u8);
            }
            b'x' => {
                let len = rest.iter().take(2).take_while(|b| b.is_ascii_hexdigit()).count();
                let digits = std::str::from_utf8(&rest[..len]).unwrap_or_default();
                out.push(u8::from_str_radix(digits, 16).unwrap_or(0));
                rest = &rest[len..];
            }
            other => out.push(*other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_bytes() {
        assert_eq!(unescape(br#"a\n\t\"\\\0\177\1772\x7f\x00"#), b"a\n\t\"\\\0\x7f\x7f2\x7f\0");
        assert_eq!(unescape(b"\\"), b"");
    }
}
