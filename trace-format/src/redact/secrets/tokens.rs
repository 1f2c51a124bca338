//! Tokens that begin as those of well-known services do, and private keys in their text forms.

use super::entropy;
use super::spans::{Spans, rule};
use super::text::{find, run};

/// What a token begins with, how many characters follow at least, and which of them are no letters, digits, `_` or `-`.
const TOKENS: &[(&str, usize, &[u8])] = &[
    // Code hosting and registries.
    ("ghp_", 12, b""),
    ("gho_", 12, b""),
    ("ghu_", 12, b""),
    ("ghs_", 12, b""),
    ("ghr_", 12, b""),
    ("github_pat_", 12, b""),
    ("glpat-", 12, b"."),
    ("gldt-", 16, b""),
    ("glrt-", 16, b"."),
    ("glcbt-", 16, b""),
    ("glptt-", 16, b""),
    ("glft-", 16, b""),
    ("glsoat-", 16, b""),
    ("glimt-", 16, b""),
    ("glagent-", 16, b""),
    ("GR1348941", 16, b""),
    ("ATBB", 24, b""),
    ("ATATT3", 24, b"="),
    ("ATCTT3", 24, b"="),
    ("dckr_pat_", 16, b""),
    ("dckr_oat_", 16, b""),
    ("npm_", 20, b""),
    ("pypi-", 16, b""),
    ("rubygems_", 24, b""),
    ("AKCp", 40, b""),
    ("hf_", 16, b""),
    ("api_org_", 24, b""),
    // Clouds.
    ("AKIA", 12, b""),
    ("ASIA", 12, b""),
    ("ABIA", 16, b""),
    ("ACCA", 16, b""),
    ("AIza", 30, b""),
    ("ya29.", 20, b"."),
    ("1//0", 20, b""),
    ("GOCSPX-", 20, b""),
    ("LTAI", 16, b""),
    ("AKID", 28, b""),
    ("dop_v1_", 20, b""),
    ("doo_v1_", 20, b""),
    ("dor_v1_", 20, b""),
    ("HRKU-", 20, b""),
    ("fo1_", 24, b""),
    ("fm1_", 24, b"+/=,"),
    ("fm2_", 24, b"+/=,"),
    ("nfp_", 24, b""),
    ("scw_", 20, b""),
    // Payment.
    ("sk_live_", 12, b""),
    ("sk_test_", 12, b""),
    ("rk_live_", 12, b""),
    ("rk_test_", 12, b""),
    ("whsec_", 16, b"+/="),
    ("sq0csp-", 16, b""),
    ("sq0atp-", 16, b""),
    ("EAAA", 56, b""),
    ("access_token$production$", 16, b"$"),
    ("FLWSECK", 12, b"-"),
    ("shpat_", 16, b""),
    ("shpca_", 16, b""),
    ("shppa_", 16, b""),
    ("shpss_", 16, b""),
    // Messages and mail.
    ("xoxb-", 12, b""),
    ("xoxp-", 12, b""),
    ("xoxa-", 12, b""),
    ("xoxr-", 12, b""),
    ("xoxs-", 12, b""),
    ("xoxo-", 12, b""),
    ("xoxe-", 12, b"."),
    ("xoxe.", 12, b".-"),
    ("xapp-", 12, b""),
    ("SG.", 20, b"."),
    ("SK", 32, b""),
    ("xkeysib-", 20, b""),
    ("xsmtpsib-", 20, b""),
    ("key-", 32, b""),
    ("pubkey-", 32, b""),
    ("pnu_", 16, b""),
    // Models.
    ("sk-", 16, b""),
    ("gsk_", 24, b""),
    ("pplx-", 24, b""),
    ("r8_", 24, b""),
    ("xai-", 24, b""),
    // Operations.
    ("hvs.", 20, b""),
    ("hvb.", 20, b""),
    ("hvr.", 20, b""),
    ("NRAK-", 16, b""),
    ("NRJS-", 16, b""),
    ("NRII-", 16, b""),
    ("NRAL-", 16, b""),
    ("glsa_", 20, b""),
    ("glc_", 24, b"+/="),
    ("sntrys_", 24, b"+/=."),
    ("sntryu_", 24, b""),
    ("pul-", 24, b""),
    ("lin_api_", 16, b""),
    ("phc_", 24, b""),
    ("phx_", 24, b""),
    ("dapi", 32, b""),
    ("dp.pt.", 24, b""),
    ("dp.st.", 24, b"."),
    ("dp.ct.", 24, b"."),
    ("dt0c01.", 24, b"."),
    ("ops_eyJ", 24, b"+/="),
    ("A3-", 28, b""),
    ("pat_", 24, b""),
    ("sm_aat_", 16, b""),
    ("sm_pat_", 16, b""),
    ("sm_sat_", 16, b""),
    ("s-s4t2ud-", 24, b""),
    ("s-s4t2af-", 24, b""),
    ("dnkey-", 40, b""),
    ("access-production-", 32, b""),
    ("access-sandbox-", 32, b""),
    ("sha256~", 32, b""),
    ("PMAK-", 24, b""),
    ("tskey-", 16, b""),
    ("tk-us-", 24, b""),
    ("rdme_", 24, b""),
    ("sgp_", 24, b""),
    ("figd_", 24, b""),
    ("ntn_", 24, b""),
    ("duffel_", 24, b"="),
    ("EZAK", 40, b""),
    ("EZTK", 40, b""),
    ("shippo_live_", 24, b""),
    ("shippo_test_", 24, b""),
    ("CFPAT-", 24, b""),
    ("PMAT-", 24, b""),
    ("AGE-SECRET-KEY-1", 20, b""),
    // JSON web tokens and what is like them: `{"` in base 64.
    ("eyJ", 16, b".+/="),
];

/// What stands inside the token of a service.
const INFIXES: &[(&str, usize)] = &[(".atlasv1.", 20)];

/// Beginnings of tokens, for the check that comes before all.
pub(super) fn prefixes() -> impl Iterator<Item = &'static [u8]> {
    TOKENS
        .iter()
        .map(|(prefix, _, _)| prefix.as_bytes())
        .chain(INFIXES.iter().map(|(infix, _)| infix.as_bytes()))
}

/// How much of a tail tells whether it is one of a token.
const ENOUGH: usize = 256;

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// By the first letter of a token: what may begin there.
static BY_LETTER: std::sync::LazyLock<Vec<Vec<usize>>> = std::sync::LazyLock::new(|| {
    let mut by_letter = vec![Vec::new(); 256];
    for (i, (prefix, _, _)) in TOKENS.iter().enumerate() {
        by_letter[usize::from(prefix.as_bytes()[0])].push(i);
    }
    by_letter
});

/// Finds tokens anywhere in a text.
pub(super) fn scan(bytes: &[u8], spans: &mut Spans) {
    let by_letter = &*BY_LETTER;
    let mut at = 0;
    while at < bytes.len() {
        let begins = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        let end = if begins {
            by_letter[usize::from(bytes[at])].iter().find_map(|i| token(bytes, at, *i))
        } else {
            None
        };
        match end {
            Some(end) => {
                spans.add(at, end, rule::TOKEN);
                at = end;
            }
            None => at += 1,
        }
    }
    for (infix, least) in INFIXES {
        let mut at = 0;
        while let Some(found) = find(bytes, infix.as_bytes(), at) {
            let from = bytes[at..found].iter().rposition(|b| !is_token(*b)).map_or(at, |n| at + n + 1);
            let end = run(bytes, found + infix.len(), is_token);
            if end - found - infix.len() >= *least {
                spans.add(from, end, rule::TOKEN);
            }
            at = end;
        }
    }
    bot_tokens(bytes, spans);
    private_keys(bytes, spans);
}

/// The end of the token of a kind that begins here.
fn token(bytes: &[u8], at: usize, kind: usize) -> Option<usize> {
    let (prefix, least, more) = TOKENS[kind];
    bytes[at..].starts_with(prefix.as_bytes()).then_some(())?;
    let from = at + prefix.len();
    let limit = bytes.len().min(from + ENOUGH);
    let end = run(&bytes[..limit], from, |b| is_token(b) || more.contains(&b));
    let tail = &bytes[from..end];
    let digits = tail.iter().filter(|b| b.is_ascii_digit()).count();
    // A short prefix may be the beginning of a name: then the tail has to be one piece of letters and digits.
    let is_weak = prefix.len() <= 4;
    let dashes = tail.iter().filter(|b| matches!(b, b'-' | b'_')).count();
    let is_upper = !tail.iter().any(u8::is_ascii_lowercase);
    let is_piece = !is_weak || dashes * if is_upper { 6 } else { 10 } <= tail.len();
    let is_mixed = digits > 0 && (!is_weak || digits * 20 >= tail.len());
    let is_one = tail.len() >= least && is_piece && (is_mixed || !entropy::is_readable(tail));
    is_one.then(|| run(bytes, end, |b| is_token(b) || more.contains(&b)))
}

/// `123456789:AA…`: bots of a chat service, and `id:secret` of others that are alike.
fn bot_tokens(bytes: &[u8], spans: &mut Spans) {
    let mut at = 0;
    while let Some(colon) = find(bytes, b":AA", at) {
        let from = bytes[at..colon].iter().rposition(|b| !b.is_ascii_digit()).map_or(at, |n| at + n + 1);
        let end = run(bytes, colon + 1, is_token);
        if colon - from >= 8 && end - colon > 30 {
            spans.add(from, end, rule::TOKEN);
        }
        at = end;
    }
}

/// `-----BEGIN … PRIVATE KEY-----` to the end of it, or of the text.
fn private_keys(bytes: &[u8], spans: &mut Spans) {
    let mut at = 0;
    while let Some(begin) = find(bytes, b"-----BEGIN ", at) {
        let name_end = run(bytes, begin + 11, |b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ');
        at = name_end;
        if find(&bytes[begin..name_end], b"PRIVATE KEY", 0).is_none() {
            continue;
        }
        let end = find(bytes, b"-----END ", name_end)
            .and_then(|end| find(bytes, b"-----", end + 9))
            .map_or(bytes.len(), |end| end + 5);
        spans.add(begin, end, rule::KEY);
        at = end;
    }
}
