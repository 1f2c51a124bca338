//! Words that are keys by their look: long, letters and digits mixed, and not readable.
//!
//! Hexadecimal digests, numbers, UUIDs, ids of containers, versions, paths and mangled symbols are as long and as random,
//! and are what a trace is read for. They stay; a secret that looks like one is known by its context or not at all.

/// Letters that follow a letter in 88 of 100 places in the identifiers of C and Python headers and modules.
const FOLLOWERS: [&[u8]; 26] = [
    b"bcdgilmnprstuvy",
    b"aeilou",
    b"acehiklorstu",
    b"adeilors",
    b"abcdefgilmnopqrstvwx",
    b"aefiloru",
    b"aeilnrs",
    b"aeio",
    b"abcdefglmnoprstvz",
    b"",
    b"ei",
    b"acdeilostuvy",
    b"abeimopsu",
    b"acdefgiostuv",
    b"abcdfgilmnoprstuvw",
    b"aeiloprstu",
    b"u",
    b"acdegilmnorstuy",
    b"acefhilopstuy",
    b"acdefhilmoprstuy",
    b"abeilmnprst",
    b"aeim",
    b"ai",
    b"et",
    b"p",
    b"e",
];
/// Shortest key that is told by its look alone: 20 digits of base 62 are 119 bits.
const LEAST: usize = 20;
/// Lengths of digests and ids in hexadecimal digits: ids of objects, MD5, SHA-1, SHA-224 to SHA-512.
const DIGESTS: [usize; 7] = [24, 32, 40, 56, 64, 96, 128];

/// Digits and letters mixed, at least so many, as in a word rather than in a path or a name.
pub(super) fn is_mixed(word: &[u8], least: usize) -> bool {
    word.len() >= least
        && word.iter().any(u8::is_ascii_digit)
        && word.iter().any(u8::is_ascii_alphabetic)
        && word
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/' | b'=' | b'%'))
}

/// Whether a value was made by a machine rather than named by somebody: a part of it has letters and digits mixed, or is a
/// digest or a UUID. `name-100`, `page2` and `v1beta1` are names.
pub(super) fn is_made(value: &[u8]) -> bool {
    let is_text = |b: &u8| {
        b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/' | b'=' | b'%' | b'.' | b'~')
    };
    if value.len() < 8 || !value.iter().all(is_text) {
        return false;
    }
    value.split(|b| !b.is_ascii_alphanumeric()).any(|part| {
        let letters = part.iter().filter(|b| b.is_ascii_alphabetic()).count();
        let digits = part.len() - letters;
        let is_mixed = digits >= 2 && letters >= 2 && changes(part) >= 3;
        is_mixed && part.len() >= 6
            || part.len() >= 10 && !is_readable(part) && (digits > 0 || changes(part) >= 4)
    })
}

/// Whether a word is a key by its look.
pub(super) fn looks_random(word: &[u8]) -> bool {
    if word.len() < LEAST || is_known(word) {
        return false;
    }
    // Base 64 has slashes; a path has readable parts, dots, and begins with one.
    let is_base64 =
        word[0] != b'/' && word.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
    if is_base64 {
        return is_key(word);
    }
    if word.contains(&b'/') {
        return false;
    }
    // `name-3f9a…`, `a.b.c`: a part of it, or, with the few dashes of URL-safe base 64, all of it.
    let is_url_safe = word.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'='));
    let parts = word.split(|b| !b.is_ascii_alphanumeric());
    let dashes = word.iter().filter(|b| matches!(b, b'_' | b'-')).count();
    // Names of pods, too, have dashes and random ends, and no capital letters.
    let is_cased = word.iter().any(u8::is_ascii_uppercase) && word.iter().any(u8::is_ascii_lowercase);
    parts.clone().any(is_key)
        || is_url_safe && is_cased && dashes * 12 <= word.len() && {
            // A digest behind a name makes no key of it.
            let rest: Vec<u8> = parts.filter(|part| !is_hex(part)).flatten().copied().collect();
            is_key(&rest)
        }
}

/// Prefixes of what is long and random and no key: mangled symbols, digests with their algorithm.
const KNOWN: &[&[u8]] = &[
    b"_Z", b"__Z", b"_R", b"sha1:", b"sha1-", b"sha256:", b"sha256-", b"sha384-", b"sha512:", b"sha512-",
    b"SHA256:", b"h1:", b"blake",
];

fn is_known(word: &[u8]) -> bool {
    KNOWN.iter().any(|start| word.starts_with(start))
}

fn is_hex(word: &[u8]) -> bool {
    word.iter().all(u8::is_ascii_hexdigit)
}

/// One run of letters and digits, without a structure of its own.
fn is_key(word: &[u8]) -> bool {
    if word.len() < LEAST || is_known(word) {
        return false;
    }
    let digits = word.iter().filter(|b| b.is_ascii_digit()).count();
    let upper = word.iter().filter(|b| b.is_ascii_uppercase()).count();
    let lower = word.iter().filter(|b| b.is_ascii_lowercase()).count();
    if digits == 0 || upper + lower < 4 {
        return false;
    }
    if is_hex(word) {
        let is_number = word.starts_with(b"0x") || word.starts_with(b"0X") || word.starts_with(b"00000");
        return word.len() > 24
            && digits >= 4
            && upper + lower >= 4
            && !is_number
            && !DIGESTS.contains(&word.len());
    }
    // All three classes, or digits all over.
    (upper >= 2 && lower >= 2 || digits >= 3) && changes(word) * 4 >= word.len() && !is_readable(word)
}

/// How often the class of characters changes from one to the next. In three classes at random: every other time.
pub(super) fn changes(word: &[u8]) -> usize {
    let class = |b: u8| match b {
        b'0'..=b'9' => 0,
        b'A'..=b'Z' => 1,
        b'a'..=b'z' => 2,
        _ => 3,
    };
    word.windows(2).filter(|pair| class(pair[0]) != class(pair[1])).count()
}

/// Whether most letters follow one another as they do in words. Of random letters a third does.
pub(super) fn is_readable(word: &[u8]) -> bool {
    let mut pairs = 0;
    let mut usual = 0;
    for pair in word.windows(2) {
        let [first, second] = [pair[0], pair[1]];
        // A hump of camel case is where two words meet.
        let is_in_word = second.is_ascii_lowercase() || first.is_ascii_uppercase();
        if first.is_ascii_alphabetic() && second.is_ascii_alphabetic() && is_in_word {
            pairs += 1;
            let [first, second] = [first.to_ascii_lowercase(), second.to_ascii_lowercase()];
            usual += usize::from(FOLLOWERS[usize::from(first - b'a')].contains(&second));
        }
    }
    // Where classes change as often as at random, chance has to be ruled out.
    let is_restless = changes(word) * 100 >= word.len() * 42;
    pairs >= 5 && usual * 100 >= pairs * if is_restless { 82 } else { 62 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_look_random() {
        for key in [
            "Zq8fL2xWv0RtY7uKp3Ns",
            "wJx/rXUtnF9MI/K7MDZNG/bPxRfiCYzQ1W2E3R4T",
            "q7Zf1-2xWv0RtY7u_Kp3NsB4mJ6hG8dS",
            "k3x9z7q1w8v5t2r4p6n0m1b3",
            "0123456789abcdef0123456789abcdef0",
        ] {
            assert!(looks_random(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn what_is_long_and_harmless_does_not() {
        for word in [
            "0123456789abcdef0123456789abcdef01234567",
            "0b1c2d3e-4f5a-6b7c-8d9e-0f1a2b3c4d5e",
            "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "sha512-Zq8fL2xWv0RtY7uKp3NsZq8fL2xWv0RtY7uKp3Ns==",
            "_ZN4core3ptr85drop_in_place17h0123456789abcdefE",
            "_RNvCs1a2b3c4d5e6f_7mycrate4main",
            "target/release/deps/libserde_json-0123456789abcdef.rlib",
            "checkout-7d9f8b6c5d-x2x4z",
            "AbstractSingletonProxyFactoryBean2Configuration",
            "getHTTPResponseCode2XXHandlerFor3rdParty",
            "2024-01-31T12:34:56.789012345Z",
            "1.5.2+git20240131.0123456-1ubuntu2",
            "src/very/long/path/with/many/parts/and/a/name2",
            "--max-old-space-size=4096",
            "0x00007f1234567890abcdef12",
            "serde_json-0123456789abcdef",
            "17000000001234567890123",
        ] {
            assert!(!looks_random(word.as_bytes()), "{word}");
        }
    }
}
