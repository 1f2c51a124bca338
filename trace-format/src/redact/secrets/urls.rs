//! Credentials in URLs: in front of the host, and in the paths of hooks, where the path is the key.

use super::entropy::{changes, is_made, is_mixed};
use super::spans::{Spans, rule};
use super::text::{find, run};

/// Path components behind which the rest of a path lets anybody in who knows it.
const HOOKS: &[&[u8]] = &[
    b"hook",
    b"hooks",
    b"webhook",
    b"webhooks",
    b"webhookb2",
    b"catch",
    b"services",
    b"workflows",
    b"triggers",
];
/// How far a URL is read: longer ones are no addresses, and reading each to its end would take time without bound.
const MAX_URL: usize = 512;
/// Longest password with characters in it that a URL must not have.
const MAX_PASSWORD: usize = 128;
/// Shortest part of such a path that is a key.
const MIN_KEY: usize = 8;

/// Finds credentials in all URLs of a text.
pub(super) fn scan(bytes: &[u8], spans: &mut Spans) {
    let mut at = 0;
    while let Some(found) = find(bytes, b"://", at) {
        let from = found + 3;
        let host_end = run(bytes, from, |b| {
            !matches!(b, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>') && !b.is_ascii_whitespace()
        });
        at = host_end.max(from);
        let limit = bytes.len().min(host_end + MAX_URL);
        let end = run(&bytes[..limit], host_end, |b| {
            !matches!(b, b'?' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'`' | b')' | b',')
                && !b.is_ascii_whitespace()
        });
        let scheme = bytes[..found].iter().rposition(|b| !b.is_ascii_alphanumeric()).map_or(0, |n| n + 1);
        user(&bytes[scheme..found], bytes, (from, host_end), spans);
        path(&bytes[scheme..found], bytes, (from, host_end), end, spans);
    }
    databases(bytes, spans);
    oracle(bytes, spans);
}

/// `user:password@`, `token@`.
fn user(scheme: &[u8], bytes: &[u8], host: (usize, usize), spans: &mut Spans) {
    let (from, mut end) = host;
    // Behind a colon a host has a port. What is no port is a password with a `/`, `?` or `#` in it.
    let colon = bytes[from..end].iter().position(|b| *b == b':').map(|n| from + n);
    if let Some(colon) = colon
        && !bytes[from..end].contains(&b'@')
        && !bytes[colon + 1..end].iter().all(u8::is_ascii_digit)
        && bytes[from] != b'['
    {
        let limit = bytes.len().min(end + MAX_PASSWORD);
        let is_in = |b: u8| !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'@') && !b.is_ascii_whitespace();
        end = run(&bytes[..limit], end, is_in);
        end += usize::from(bytes.get(end) == Some(&b'@'));
    }
    let Some(host) = bytes[from..end].iter().rposition(|b| *b == b'@').map(|n| from + n) else { return };
    match bytes[from..host].iter().position(|b| *b == b':') {
        Some(colon) => spans.add(from + colon + 1, host, rule::URL),
        None if is_mixed(&bytes[from..host], 16) => spans.add(from, host, rule::URL),
        // A web server takes a token as the user; other servers (`ssh://`) have users with names. `jsmith1234` is one.
        None if scheme.starts_with(b"http")
            && is_made(&bytes[from..host])
            && changes(&bytes[from..host]) >= 3 =>
        {
            spans.add(from, host, rule::URL);
        }
        None => {}
    }
}

/// The keys in the paths of hooks, bots and live streams.
fn path(scheme: &[u8], bytes: &[u8], host: (usize, usize), end: usize, spans: &mut Spans) {
    let (from, host) = (host.1, &bytes[host.0..host.1]);
    let mut parts = Vec::new();
    let mut start = from + 1;
    while start < end {
        let stop = run(&bytes[..end], start, |b| b != b'/');
        parts.push((start, stop));
        start = stop + 1;
    }
    let is_key = |part: &(usize, usize)| is_mixed(&bytes[part.0..part.1], MIN_KEY);
    // The last part of a stream's address is its key: rtmp://host/app/key.
    if scheme.starts_with(b"rtmp")
        && parts.len() >= 2
        && let Some(last) = parts.last().filter(|part| is_key(part))
    {
        spans.add(last.0, last.1, rule::URL);
        return;
    }
    // https://api.telegram.org/bot123456:AA…/method
    if let Some((from, to)) = parts.first()
        && bytes[*from..*to].starts_with(b"bot")
        && bytes[*from..*to].contains(&b':')
    {
        spans.add(from + 3, *to, rule::URL);
    }
    let hook = parts.iter().position(|(from, to)| {
        let part = bytes[*from..*to].to_ascii_lowercase();
        HOOKS.contains(&part.as_slice())
            && (part != b"services" && part != b"catch" || host.starts_with(b"hooks."))
    });
    if let Some(hook) = hook
        && let Some(rest) =
            parts.get(hook + 1..).filter(|rest| host.starts_with(b"hooks.") || rest.iter().any(is_key))
        && !rest.is_empty()
    {
        let to = rest.last().map_or(end, |last| last.1);
        spans.add(rest[0].0, to, rule::URL);
    }
}

/// What the ports of an Oracle listener begin with: 1521 to 1529, and 2484 for TLS.
const ORACLE_PORTS: &[&[u8]] = &[b":152", b":2484"];

/// `user/password@` behind `jdbc:oracle:thin:`, and in front of a host with a port of Oracle.
fn oracle(bytes: &[u8], spans: &mut Spans) {
    let is_in = |b: u8| !b.is_ascii_whitespace() && !matches!(b, b'"' | b'\'' | b'=' | b'<' | b'>' | b'`');
    let mut at = 0;
    while let Some(found) = find(bytes, b"jdbc:oracle:", at) {
        at = run(bytes, found, is_in);
        login(bytes, found, at, spans);
    }
    for port in ORACLE_PORTS {
        at = 0;
        while let Some(found) = find(bytes, port, at) {
            let floor = at.max(found.saturating_sub(MAX_URL));
            let from = bytes[floor..found].iter().rposition(|b| !is_in(*b)).map_or(floor, |n| floor + n + 1);
            let port_end = run(bytes, found + 1, |b| b.is_ascii_digit());
            if port_end == found + 5 {
                login(bytes, from, found, spans);
            }
            at = port_end;
        }
    }
}

/// Marks what is between the first `/` and the last `@` of a part of a text that is no URL.
fn login(bytes: &[u8], from: usize, to: usize, spans: &mut Spans) {
    let part = &bytes[from..to];
    if let Some(slash) = part.iter().position(|b| *b == b'/').filter(|at| *at > 0)
        && let Some(host) = part.iter().rposition(|b| *b == b'@').filter(|at| *at > slash)
        && part[slash + 1] != b'/'
    {
        spans.add(from + slash + 1, from + host, rule::URL);
    }
}

/// `user:password@tcp(host:port)/name`, as drivers of databases write it without a scheme; `user/password@//host`.
fn databases(bytes: &[u8], spans: &mut Spans) {
    let starts_user = |before: &[u8]| {
        before.iter().rposition(|b| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'='))
    };
    for (sign, parts) in [(b"@tcp(".as_slice(), b':'), (b"@unix(", b':'), (b"@//", b'/')] {
        let mut at = 0;
        while let Some(found) = find(bytes, sign, at) {
            let from = starts_user(&bytes[at..found]).map_or(at, |n| at + n + 1);
            // The last mark in front of the user, then the first behind: `jdbc:oracle:thin:scott/tiger@//`.
            if let Some(mark) = bytes[from..found].iter().position(|b| *b == parts)
                && !bytes[from..found].windows(3).any(|w| w == b"://")
            {
                spans.add(from + mark + 1, found, rule::URL);
            }
            at = found + sign.len();
        }
    }
}
