//! `name=value`, `name: value` and `Header: value` anywhere in a text, and names of files with a secret in them.

use super::entropy;
use super::spans::{Spans, rule};
use super::text::{ends_value, find, run};
use super::words::{self, MAX_NAME, Name};

/// Parts of the names of files, sockets and directories that a secret may follow.
const FILE_NAMES: &[&[u8]] = &[
    b"passw",
    b"passphrase",
    b"secret",
    b"token",
    b"apikey",
    b"credential",
    b"private",
    b"access",
    b"cookie",
];
/// Members whose value is the name of another.
const PAIR_NAMES: &[&[u8]] = &[b"key", b"name"];
/// Longest pattern for a value that is looked at.
const MAX_PATTERN: usize = 64;
/// Headers whose whole line is the secret, scheme and all.
const HEADERS: &[&[u8]] = &[b"authorization:", b"cookie:"];
/// What SQL has in front of a password in quotes.
const SQL: &[&[u8]] = &[b"identified by ", b"password "];

/// What gives away everything here but values of names, in lower case; and URLs, and keys.
pub(super) const SIGNS: &[&[u8]] = &[
    b"passw",
    b"passphrase",
    b"secret",
    b"token",
    b"apikey",
    b"credential",
    b"private",
    b"access",
    b"cookie",
    b"authorization",
    b"bearer ",
    b"identified by ",
    b"@tcp(",
    b"@unix(",
    b"@//",
    b"jdbc:oracle:",
    b":152",
    b":2484",
    b"://",
    b"-----begin ",
    b":aa",
];
/// What gives away a name of a secret.
pub(super) const NAMES: &[&[u8]] = &[
    b"auth", b"code", b"cookie", b"cred", b"jwt", b"key", b"login", b"nonce", b"otp", b"pass", b"pin",
    b"psk", b"pw", b"sas", b"secret", b"sess", b"sid", b"sig",
];

/// Finds values by the names in front of them.
pub(super) fn scan(bytes: &[u8], spans: &mut Spans) {
    let lower = bytes.to_ascii_lowercase();
    headers(&lower, spans);
    sql(&lower, spans);
    let mut at = 0;
    // `name="PASSWORD" value="…"`, `{name: PASSWORD, value: …}`.
    let mut says = Name::Plain;
    while let Some(found) = bytes[at..].iter().position(|b| matches!(b, b'=' | b':')).map(|n| at + n) {
        at = found + 1;
        let name = name_before(bytes, found);
        let name = &bytes[name.0..name.1];
        let mut known = words::name(name);
        if PAIR_NAMES.iter().any(|pair| name.eq_ignore_ascii_case(pair)) {
            says = value_after(bytes, found).map_or(Name::Plain, |(from, to)| words::name(&bytes[from..to]));
            if says > Name::Hint {
                continue;
            }
        } else if name.eq_ignore_ascii_case(b"value") {
            known = std::mem::take(&mut says);
        }
        if known == Name::Plain {
            continue;
        }
        // Behind a pattern that stands for any value there is more: `s/password=.*/password=X/`.
        if let Some(end) = pattern_after(bytes, found) {
            at = end;
            continue;
        }
        if let Some((from, to)) = value_after(bytes, found) {
            if words::is_secret(known, &bytes[from..to]) {
                spans.add(from, to, rule::OPTION);
            }
            at = at.max(to);
        }
    }
}

/// The name in front of a position, with quotes and blanks in between.
fn name_before(bytes: &[u8], at: usize) -> (usize, usize) {
    let is_between = |b: u8| matches!(b, b'"' | b'\'' | b'\\' | b' ' | b']' | b'+' | b'?' | b':');
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$');
    let floor = at.saturating_sub(MAX_NAME + 8);
    let to = bytes[floor..at].iter().rposition(|b| !is_between(*b)).map_or(floor, |n| floor + n + 1);
    let from = bytes[floor..to].iter().rposition(|b| !is_name(*b)).map_or(floor, |n| floor + n + 1);
    (from, to)
}

/// Where what is behind `=` or `:` begins, with its quotes.
fn value_start(bytes: &[u8], at: usize) -> Option<usize> {
    let mut next = at + 1;
    if bytes[at] == b':' {
        match bytes.get(next) {
            // Two colons are a name's. A path behind a colon is a mount.
            None | Some(b':' | b'/') => return None,
            Some(b'=') => next += 1,
            _ => {}
        }
    } else if matches!(bytes.get(next), Some(b'=' | b'>' | b'~')) {
        next += 1;
    }
    Some(run(bytes, next, |b| b == b' '))
}

/// Where the pattern ends that is in place of a value behind `=` or `:`.
fn pattern_after(bytes: &[u8], at: usize) -> Option<usize> {
    let start = value_start(bytes, at)?;
    let escapes = run(bytes, start, |b| b == b'\\');
    let from = if matches!(bytes.get(escapes), Some(b'"' | b'\'')) { escapes + 1 } else { start };
    let pattern = words::pattern_len(&bytes[from..bytes.len().min(from + MAX_PATTERN)]);
    (pattern > 0).then_some(from + pattern)
}

/// The value behind `=` or `:`, without its quotes.
fn value_after(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let next = value_start(bytes, at)?;
    let escapes = run(bytes, next, |b| b == b'\\');
    match bytes.get(escapes) {
        Some(quote @ (b'"' | b'\'')) => {
            let from = escapes + 1;
            // Within quotes that are escaped themselves, the value ends with the same number of backslashes.
            let depth = escapes - next;
            Some((from, quoted_end(bytes, from, *quote, depth)))
        }
        // `[` and `{` begin something with values of its own.
        Some(b'{' | b'[') if !bytes[escapes..].starts_with(b"{{") => None,
        Some(_) => Some((next, run(bytes, next, |b| !ends_value(b)))),
        None => None,
    }
}

/// Where a quoted text ends whose quotes have `depth` backslashes in front of them.
fn quoted_end(bytes: &[u8], from: usize, quote: u8, depth: usize) -> usize {
    let mut at = from;
    let mut escapes = 0;
    while let Some(byte) = bytes.get(at) {
        match *byte {
            b'\\' => escapes += 1,
            b if b == quote && escapes <= depth => return at - escapes,
            _ => escapes = 0,
        }
        at += 1;
    }
    bytes.len()
}

/// `Authorization: …` up to the end of the line or the quotes, `Bearer …`.
fn headers(lower: &[u8], spans: &mut Spans) {
    for header in HEADERS {
        let mut at = 0;
        while let Some(found) = find(lower, header, at) {
            let from = found + header.len();
            let value = run(lower, from, |b| b == b' ');
            let pattern = words::pattern_len(&lower[value..lower.len().min(value + MAX_PATTERN)]);
            if pattern > 0 {
                at = value + pattern;
                continue;
            }
            let end = run(lower, from, |b| !matches!(b, b'\n' | b'\r' | b'"' | b'\''));
            spans.add(from, end, rule::HEADER);
            at = end.max(from);
        }
    }
    let mut at = 0;
    while let Some(found) = find(lower, b"bearer ", at) {
        let from = found + b"bearer ".len();
        let end = run(lower, from, |b| !ends_value(b));
        spans.add(from, end, rule::HEADER);
        at = end.max(from);
    }
}

/// `IDENTIFIED BY '…'`, `PASSWORD '…'`.
fn sql(lower: &[u8], spans: &mut Spans) {
    for words in SQL {
        let mut at = 0;
        while let Some(found) = find(lower, words, at) {
            let open = run(lower, found + words.len(), |b| b == b' ');
            at = open;
            if let Some(quote @ (b'\'' | b'"')) = lower.get(open) {
                let end = quoted_end(lower, open + 1, *quote, 0);
                spans.add(open + 1, end, rule::OPTION);
                at = end.max(open);
            }
        }
    }
}

/// `token-4f9a8b7c`, `session_secret.k3jx81q0`: a name of a file or a socket that has a secret in it.
pub(super) fn file_names(bytes: &[u8], spans: &mut Spans) {
    let lower = bytes.to_ascii_lowercase();
    for name in FILE_NAMES {
        let mut at = 0;
        while let Some(found) = find(&lower, name, at) {
            let mut name_end = run(&lower, found, |b| b.is_ascii_alphabetic());
            at = name_end;
            if !matches!(lower.get(name_end), Some(b'-' | b'_' | b'.' | b':')) {
                continue;
            }
            // `access-key-…`, `private_key.…`.
            if matches!(*name, b"private" | b"access") {
                if !lower[name_end + 1..].starts_with(b"key") {
                    continue;
                }
                name_end += 4;
                if !matches!(lower.get(name_end), Some(b'-' | b'_' | b'.' | b':')) {
                    continue;
                }
            }
            let from = name_end + 1;
            let end = run(bytes, from, |b| b.is_ascii_alphanumeric());
            if entropy::is_made(&bytes[from..end]) {
                spans.add(from, end, rule::FILE);
            }
        }
    }
}
