//! Masking what looks secret in argument vectors, before anything reaches the disk.

use std::collections::BTreeMap;

/// What a masked value becomes.
const MASK: &[u8] = b"***";
/// Parts of option and variable names whose values are secrets.
const NAMES: &[&str] = &[
    "passw",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "credential",
    "private-key",
    "private_key",
    "access-key",
    "access_key",
    "auth",
];
/// Prefixes of well-known tokens.
const PREFIXES: &[&str] =
    &["ghp_", "gho_", "github_pat_", "glpat-", "xox", "AKIA", "ASIA", "eyJ", "sk-", "hf_"];

/// Masks words in place and counts by rule.
pub(crate) fn argv(words: &mut [Vec<u8>], counts: &mut BTreeMap<String, u64>) {
    let mut count = |rule: &str| *counts.entry(rule.to_owned()).or_default() += 1;
    let mut mask_next = false;
    for (i, word) in words.iter_mut().enumerate() {
        let text = String::from_utf8_lossy(word).into_owned();
        if mask_next && !text.starts_with("--") {
            mask_next = false;
            *word = MASK.to_vec();
            count("argv: value of a secret option");
            continue;
        }
        mask_next = false;
        if i == 0 {
            continue;
        }
        let lower = text.to_ascii_lowercase();
        if let Some((name, value)) = text.split_once('=')
            && is_secret_name(&name.to_ascii_lowercase())
            && !value.is_empty()
        {
            *word = [name.as_bytes(), b"=", MASK].concat();
            count("argv: value of a secret option");
        } else if lower.starts_with('-') && is_secret_name(&lower) {
            mask_next = true;
        } else if let Some((scheme, rest)) = text.split_once("://")
            && let Some((user, host)) = rest.split_once('@')
            && user.contains(':')
            && !user.contains('/')
        {
            let name = user.split(':').next().unwrap_or_default();
            *word = format!("{scheme}://{name}:***@{host}").into_bytes();
            count("argv: password in a URL");
        } else if let Some(at) = lower.find("authorization:").or_else(|| lower.find("bearer ")) {
            let end = at + if lower[at..].starts_with("bearer") { 7 } else { 14 };
            *word = [&text.as_bytes()[..end], MASK].concat();
            count("argv: authorization header");
        } else if looks_random(&text)
            || PREFIXES.iter().any(|p| text.starts_with(p) && text.len() >= p.len() + 12)
        {
            *word = MASK.to_vec();
            count("argv: looks like a key");
        }
    }
}

fn is_secret_name(lower: &str) -> bool {
    NAMES.iter().any(|n| lower.contains(n)) && !lower.contains("author=") && !lower.starts_with("--author")
}

/// A long word of hexadecimal or base64 digits, letters and digits mixed: a key rather than a word or a path.
fn looks_random(text: &str) -> bool {
    if text.len() < 32 || text.starts_with('/') || text.starts_with('-') || text.contains("://") {
        return false;
    }
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    let alphabet =
        text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'_' | b'-'));
    let separators = text.bytes().filter(|b| matches!(b, b'/' | b'-' | b'_')).count();
    alphabet && digits >= 4 && letters >= 4 && separators * 12 <= text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(words: &[&str]) -> Vec<String> {
        let mut words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
        argv(&mut words, &mut BTreeMap::new());
        words.into_iter().map(|w| String::from_utf8(w).unwrap()).collect()
    }

    #[test]
    fn secrets_are_masked_and_ordinary_words_are_not() {
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
    fn what_was_masked_is_counted_by_rule() {
        let mut counts = BTreeMap::new();
        argv(&mut [b"x".to_vec(), b"--secret=1".to_vec()], &mut counts);
        assert_eq!(counts.values().sum::<u64>(), 1);
    }
}
