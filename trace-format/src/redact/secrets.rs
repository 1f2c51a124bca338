//! The default policy: what looks secret in a string is masked, the rest stays.
//!
//! A secret in an argument becomes `***`. Elsewhere (a path, a socket's name) it becomes a pseudonym, because there the
//! difference between two names is part of what happened. Masking what is masked changes nothing.

use super::names::pseudonym_len;
use std::sync::LazyLock;

/// What a masked argument becomes.
const MASK: &[u8] = b"***";
/// Parts of option, variable and header names whose values are secrets.
const NAMES: &[&[u8]] = &[
    b"passw",
    b"passphrase",
    b"secret",
    b"token",
    b"apikey",
    b"api-key",
    b"api_key",
    b"credential",
    b"private-key",
    b"private_key",
    b"access-key",
    b"access_key",
    b"authorization",
    b"cookie",
];
/// Prefixes of well-known tokens, and how many characters follow at least.
const PREFIXES: &[(&[u8], usize)] = &[
    (b"ghp_", 12),
    (b"gho_", 12),
    (b"ghs_", 12),
    (b"github_pat_", 12),
    (b"glpat-", 12),
    (b"xoxb-", 12),
    (b"xoxp-", 12),
    (b"xoxa-", 12),
    (b"AKIA", 12),
    (b"ASIA", 12),
    (b"AIza", 30),
    (b"eyJ", 16),
    (b"sk-", 16),
    (b"sk_live_", 12),
    (b"rk_live_", 12),
    (b"hf_", 16),
    (b"npm_", 20),
    (b"dop_v1_", 20),
];
/// What a secret-named part of a file name must be followed by, to be one with a secret in it.
const MIN_VALUE: usize = 8;

const OPTION: &str = "value of a secret option";
const URL: &str = "password in a URL";
const HEADER: &str = "authorization header";
const KEY: &str = "looks like a key";
const FILE: &str = "secret in a name";

/// What was masked may leave something behind that only now looks secret. More rounds than this leave it there.
const ROUNDS: usize = 8;

/// Masks until nothing is left to mask; `None`: there was nothing.
fn settle(bytes: &[u8], mut mask: impl FnMut(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut masked = mask(bytes)?;
    for _ in 0..ROUNDS {
        match mask(&masked) {
            Some(more) => masked = more,
            None => break,
        }
    }
    Some(masked)
}

/// Masks any string but an argument; `None`: there is nothing to mask.
pub(super) fn text(
    bytes: &[u8],
    pseudonym: &dyn Fn(&[u8]) -> Vec<u8>,
    count: &mut dyn FnMut(&'static str),
) -> Option<Vec<u8>> {
    // Every new string of a recording comes here, and hardly one has anything to hide.
    if !gives_away(bytes) {
        return None;
    }
    settle(bytes, |bytes| {
        let mut spans = Spans::default();
        scan(bytes, &mut spans);
        named_words(bytes, &mut spans);
        spans.apply(bytes, &|secret, _| pseudonym(secret), count)
    })
}

/// Masks the words of an argument vector in place.
pub(super) fn argv(
    words: &mut [Vec<u8>],
    pseudonym: &dyn Fn(&[u8]) -> Vec<u8>,
    count: &mut dyn FnMut(&'static str),
) {
    // A name has to stay the one that the program's calls use.
    let mask = |secret: &[u8], rule: &str| if rule == FILE { pseudonym(secret) } else { MASK.to_vec() };
    let mut mask_next = false;
    for (i, word) in words.iter_mut().enumerate() {
        if std::mem::take(&mut mask_next) && !word.starts_with(b"--") {
            if !is_masked(word) {
                *word = MASK.to_vec();
                count(OPTION);
            }
            continue;
        }
        let lower = word.to_ascii_lowercase();
        mask_next = i > 0
            && lower.starts_with(b"-")
            && !lower.iter().any(|b| matches!(b, b' ' | b'='))
            && is_secret_option(&lower);
        let masked = settle(word, |word| {
            let mut spans = Spans::default();
            if i > 0 {
                option_value(word, &mut spans);
            }
            scan(word, &mut spans);
            named_words(word, &mut spans);
            if i > 0 {
                random_words(word, &mut spans);
            }
            spans.apply(word, &mask, count)
        });
        if let Some(masked) = masked {
            *word = masked;
        }
    }
}

/// `NAME=value`, where the whole word is that.
fn option_value(word: &[u8], spans: &mut Spans) {
    if let Some(at) = word.iter().position(|b| *b == b'=')
        && !word[..at].contains(&b' ')
        && is_secret_option(&word[..at].to_ascii_lowercase())
    {
        spans.add(at + 1, word.len(), OPTION);
    }
}

/// Whether the value of an option or variable of this name is a secret.
fn is_secret_option(lower: &[u8]) -> bool {
    let has = |part: &[u8]| find(lower, part, 0).is_some();
    NAMES.iter().any(|name| has(name)) || has(b"auth") && !has(b"author")
}

/// Parts of a string that are to be masked.
#[derive(Default)]
struct Spans(Vec<(usize, usize, &'static str)>);

impl Spans {
    fn add(&mut self, from: usize, to: usize, rule: &'static str) {
        if from < to && self.0.iter().all(|(f, t, _)| to <= *f || *t <= from) {
            self.0.push((from, to, rule));
        }
    }

    fn apply(
        mut self,
        bytes: &[u8],
        replacement: &dyn Fn(&[u8], &'static str) -> Vec<u8>,
        count: &mut dyn FnMut(&'static str),
    ) -> Option<Vec<u8>> {
        self.0.retain(|(from, to, _)| !is_masked(&bytes[*from..*to]));
        if self.0.is_empty() {
            return None;
        }
        self.0.sort_unstable();
        let mut out = Vec::with_capacity(bytes.len());
        let mut copied = 0;
        for (from, to, rule) in self.0 {
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
fn is_masked(value: &[u8]) -> bool {
    value == MASK || pseudonym_len(value) == value.len()
}

fn find(bytes: &[u8], what: &[u8], from: usize) -> Option<usize> {
    bytes.get(from..)?.windows(what.len()).position(|w| w == what).map(|at| at + from)
}

/// What ends a value in a longer text.
fn ends_value(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(byte, b'"' | b'\'' | b'&' | b';' | b',' | b')' | b'|' | b'`' | b'}')
}

/// The end of the run from `at` on of bytes for which `is` holds.
fn run(bytes: &[u8], at: usize, is: impl Fn(u8) -> bool) -> usize {
    bytes[at..].iter().position(|b| !is(*b)).map_or(bytes.len(), |n| at + n)
}

/// What every secret outside of an argument vector has in it or in front of it, by its first letter, in lower case.
static SIGNS: LazyLock<Vec<Vec<Vec<u8>>>> = LazyLock::new(|| {
    let mut by_letter = vec![Vec::new(); 256];
    let others: [&[u8]; 3] = [b"://", b"bearer ", b"-----begin "];
    for sign in NAMES.iter().chain(PREFIXES.iter().map(|(prefix, _)| prefix)).chain(&others) {
        let sign = sign.to_ascii_lowercase();
        by_letter[usize::from(sign[0])].push(sign);
    }
    by_letter
});

/// Whether there may be something to mask: one pass.
fn gives_away(bytes: &[u8]) -> bool {
    let signs = &*SIGNS;
    bytes.iter().enumerate().any(|(at, byte)| {
        signs[usize::from(byte.to_ascii_lowercase())]
            .iter()
            .any(|sign| bytes.get(at..at + sign.len()).is_some_and(|part| part.eq_ignore_ascii_case(sign)))
    })
}

/// Finds what looks secret wherever it is in a text.
fn scan(bytes: &[u8], spans: &mut Spans) {
    // The shortest secret with what gives it away is longer.
    if bytes.len() < 6 {
        return;
    }
    urls(bytes, spans);
    let lower = bytes.to_ascii_lowercase();
    headers(&lower, spans);
    assignments(&lower, spans);
    prefixed(bytes, spans);
    if let Some(at) = find(bytes, b"-----BEGIN ", 0)
        && find(bytes, b"PRIVATE KEY", at).is_some()
    {
        spans.add(at, bytes.len(), KEY);
    }
}

/// `scheme://user:password@host`, `scheme://token@host`.
fn urls(bytes: &[u8], spans: &mut Spans) {
    let mut at = 0;
    while let Some(found) = find(bytes, b"://", at) {
        let from = found + 3;
        let end = run(bytes, from, |b| {
            !matches!(b, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>') && !b.is_ascii_whitespace()
        });
        at = end.max(from);
        let Some(host) = bytes[from..end].iter().rposition(|b| *b == b'@').map(|n| from + n) else {
            continue;
        };
        match bytes[from..host].iter().position(|b| *b == b':') {
            Some(colon) => spans.add(from + colon + 1, host, URL),
            None if is_mixed(&bytes[from..host], 16) => spans.add(from, host, URL),
            None => {}
        }
    }
}

/// `Authorization: …` up to the end of the line or the quotes, `Bearer …`.
fn headers(lower: &[u8], spans: &mut Spans) {
    let mut at = 0;
    while let Some(found) = find(lower, b"authorization:", at) {
        let from = found + b"authorization:".len();
        let end = run(lower, from, |b| !matches!(b, b'\n' | b'\r' | b'"' | b'\''));
        spans.add(from, end, HEADER);
        at = end;
    }
    at = 0;
    while let Some(found) = find(lower, b"bearer ", at) {
        let from = found + b"bearer ".len();
        let end = run(lower, from, |b| !ends_value(b));
        spans.add(from, end, HEADER);
        at = end.max(from);
    }
}

/// `password=…`, `"token": "…"`, `--secret …`.
fn assignments(lower: &[u8], spans: &mut Spans) {
    for name in NAMES {
        let mut at = 0;
        while let Some(found) = find(lower, name, at) {
            let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            let name_end = run(lower, found, is_name);
            at = name_end;
            let name_start = lower[..found].iter().rposition(|b| !is_name(*b)).map_or(0, |n| n + 1);
            let mut next = run(lower, name_end, |b| matches!(b, b'"' | b'\''));
            let is_option = lower[name_start..].starts_with(b"-");
            match lower.get(next) {
                Some(b'=') => next += 1,
                // A path behind a colon is a mount, two colons are a name's.
                Some(b':') if !matches!(lower.get(next + 1), None | Some(b':' | b'/')) => next += 1,
                Some(b' ') if is_option => {}
                _ => continue,
            }
            let from = run(lower, next, |b| matches!(b, b'"' | b'\'' | b' '));
            // The next option is no value of this one.
            if lower.get(from..).is_some_and(|rest| rest.starts_with(b"--")) {
                continue;
            }
            let end = run(lower, from.min(lower.len()), |b| !ends_value(b));
            spans.add(from, end, OPTION);
            at = end.max(at);
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Tokens that begin as those of well-known services do.
fn prefixed(bytes: &[u8], spans: &mut Spans) {
    for (prefix, least) in PREFIXES {
        let mut at = 0;
        while let Some(found) = find(bytes, prefix, at) {
            let from = found + prefix.len();
            // A JSON web token has dots in it.
            let end = run(bytes, from, |b| is_token(b) || (*prefix == b"eyJ" && b == b'.'));
            let begins = found == 0 || !bytes[found - 1].is_ascii_alphanumeric();
            if begins && end - from >= *least && bytes[from..end].iter().any(u8::is_ascii_digit) {
                spans.add(found, end, KEY);
            }
            at = end.max(from);
        }
    }
}

/// Digits and letters mixed, at least so many.
fn is_mixed(word: &[u8], least: usize) -> bool {
    word.len() >= least
        && word.iter().any(u8::is_ascii_digit)
        && word.iter().any(u8::is_ascii_alphabetic)
        && word.iter().all(|b| is_token(*b))
}

/// `token-4f9a8b7c`, `session_secret.k3jx81q0`: a name of a file or a socket that has a secret in it.
fn named_words(bytes: &[u8], spans: &mut Spans) {
    let lower = bytes.to_ascii_lowercase();
    for name in NAMES {
        let mut at = 0;
        while let Some(found) = find(&lower, name, at) {
            let name_end = run(&lower, found, |b| b.is_ascii_alphabetic());
            at = name_end;
            if !matches!(lower.get(name_end), Some(b'-' | b'_' | b'.' | b':')) {
                continue;
            }
            let from = name_end + 1;
            let end = run(bytes, from, |b| b.is_ascii_alphanumeric());
            if is_mixed(&bytes[from..end], MIN_VALUE) {
                spans.add(from, end, FILE);
            }
        }
    }
}

/// Words that are keys by their look. For arguments: elsewhere they are names of containers, layers and objects.
fn random_words(bytes: &[u8], spans: &mut Spans) {
    let mut at = 0;
    while at < bytes.len() {
        let end = run(bytes, at, |b| !ends_value(b));
        let start = if bytes[at..end].starts_with(b"-") {
            end
        } else {
            bytes[at..end]
                .iter()
                .position(|b| *b == b'=')
                .filter(|n| at + n + 1 < end)
                .map_or(at, |n| at + n + 1)
        };
        if looks_random(&bytes[start..end]) {
            spans.add(start, end, KEY);
        }
        at = end + 1;
    }
}

/// A long word of hexadecimal or base64 digits, letters and digits mixed: a key rather than a word or a path.
fn looks_random(word: &[u8]) -> bool {
    if word.len() < 32 || word.starts_with(b"/") || word.starts_with(b"-") {
        return false;
    }
    let digits = word.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = word.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let alphabet =
        word.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'_' | b'-'));
    let separators = word.iter().filter(|b| matches!(b, b'/' | b'-' | b'_')).count();
    alphabet && digits >= 4 && letters >= 4 && separators * 12 <= word.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(words: &[&str]) -> Vec<String> {
        let mut words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
        argv(&mut words, &|_| b"~000000000".to_vec(), &mut |_| {});
        words.into_iter().map(|w| String::from_utf8(w).unwrap()).collect()
    }

    fn named(name: &str) -> Option<String> {
        text(name.as_bytes(), &|_| b"~".to_vec(), &mut |_| {}).map(|t| String::from_utf8(t).unwrap())
    }

    #[test]
    fn secrets_in_arguments_are_masked_and_ordinary_words_are_not() {
        assert_eq!(masked(&["x", "--password=hunter2", "-v"]), ["x", "--password=***", "-v"]);
        assert_eq!(masked(&["x", "--token", "abc", "out"]), ["x", "--token", "***", "out"]);
        assert_eq!(masked(&["env", "DB_PASSWORD=x", "HOME=/root"]), ["env", "DB_PASSWORD=***", "HOME=/root"]);
        assert_eq!(masked(&["curl", "https://u:p@h/x"]), ["curl", "https://u:***@h/x"]);
        assert_eq!(masked(&["curl", "-H", "Authorization: Basic Zm9v"])[2], "Authorization:***");
        assert_eq!(masked(&["x", "0123456789abcdef0123456789abcdef01234567"]), ["x", "***"]);
        let plain =
            ["git", "log", "--author=me", "src/very/long/path/with/many/parts/and/a/name-2024-01-01.txt"];
        assert_eq!(masked(&plain), plain);
    }

    #[test]
    fn secrets_inside_a_script_or_a_title_are_masked() {
        for (raw, shown) in [
            ("mysql --password hunter2 -h db", "mysql --password *** -h db"),
            ("export DB_PASSWORD='hunter2'; run", "export DB_PASSWORD='***'; run"),
            ("curl -H 'Authorization: Bearer abc.def' http://x/", "curl -H 'Authorization:***' http://x/"),
            ("curl -H \"X-Api-Key: abc123\" http://x/", "curl -H \"X-Api-Key: ***\" http://x/"),
            ("{\"password\":\"hunter2\",\"user\":\"me\"}", "{\"password\":\"***\",\"user\":\"me\"}"),
            (
                "git clone https://x:ghp_abcdefghij0123456789@github.com/a/b",
                "git clone https://x:***@github.com/a/b",
            ),
            ("echo ghp_abcdefghij0123456789 >x", "echo *** >x"),
            ("docker run -v /run/secrets:/run/secrets app", "docker run -v /run/secrets:/run/secrets app"),
            ("sleep 5; echo done", "sleep 5; echo done"),
        ] {
            assert_eq!(masked(&["sh", "-c", raw])[2], shown);
        }
    }

    #[test]
    fn secrets_in_names_are_masked_and_names_about_secrets_are_not() {
        assert_eq!(named("/tmp/token-4f9a8b7c6d5e").as_deref(), Some("/tmp/token-~"));
        assert_eq!(
            named("/run/app/session_secret.k3jx81q0/sock").as_deref(),
            Some("/run/app/session_secret.~/sock")
        );
        assert_eq!(named("@/x/api_key=abcdef").as_deref(), Some("@/x/api_key=~"));
        assert_eq!(named("postgres://app:pw@db:5432/x").as_deref(), Some("postgres://app:~@db:5432/x"));
        for plain in [
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
            "/usr/lib/python3/dist-packages/secretstorage/__init__.py",
            "/etc/security/passwd-2024.bak",
            "/sys/fs/cgroup/kubepods/pod0b1c/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "/src/token_bucket.rs",
            "tokio-runtime-w",
            "",
        ] {
            assert_eq!(named(plain), None, "{plain}");
        }
    }

    #[test]
    fn masking_twice_masks_once() {
        let mut counts = 0;
        let mut words = vec![b"x".to_vec(), b"--secret=1".to_vec(), b"--token".to_vec(), b"t".to_vec()];
        argv(&mut words, &|_| b"~000000000".to_vec(), &mut |_| counts += 1);
        let once = words.clone();
        argv(&mut words, &|_| b"~000000000".to_vec(), &mut |_| counts += 1);
        assert_eq!((words, counts), (once, 2));
    }

    #[test]
    fn no_text_makes_it_panic() {
        use proptest::prelude::*;
        let parts = prop_oneof![
            Just("password".to_owned()),
            Just("=".to_owned()),
            Just(":".to_owned()),
            Just("://".to_owned()),
            Just("@".to_owned()),
            Just(" ".to_owned()),
            Just("--".to_owned()),
            Just("Bearer ".to_owned()),
            Just("authorization:".to_owned()),
            Just("eyJ".to_owned()),
            Just("\"".to_owned()),
            "[a-z0-9]{0,20}",
        ];
        proptest!(|(parts in proptest::collection::vec(parts, 0..9), raw in any::<Vec<u8>>())| {
            for bytes in [parts.concat().into_bytes(), raw] {
                let once = text(&bytes, &|_| b"~000000000".to_vec(), &mut |_| {}).unwrap_or(bytes.clone());
                prop_assert_eq!(text(&once, &|_| b"~000000000".to_vec(), &mut |_| {}), None);
                let mut words = vec![b"x".to_vec(), bytes];
                argv(&mut words, &|_| b"~000000000".to_vec(), &mut |_| {});
                let once = words.clone();
                argv(&mut words, &|_| b"~000000000".to_vec(), &mut |_| {});
                prop_assert_eq!(words, once);
            }
        });
    }
}
