//! What a script of Expect types: `send "X\r"` behind a prompt for a password, or behind the start of a program that asks
//! for one. Commands are sent as well, and stay: a text that nothing asks for is a secret only by its look.

use super::entropy;
use super::spans::{Spans, rule};
use super::text::{find, run};
use super::words::{self, Name};

/// Programs that ask for a password first.
const LOGINS: &[&[u8]] = &[
    b"ftp",
    b"kinit",
    b"login",
    b"passwd",
    b"rsync",
    b"scp",
    b"sftp",
    b"ssh",
    b"ssh-add",
    b"ssh-copy-id",
    b"su",
    b"sudo",
    b"telnet",
];
/// Parts of prompts for a secret.
const PROMPTS: &[&[u8]] = &[b"assword", b"assphrase", b"asscode", b"verification code"];
/// Commands that start a program, and that send what follows.
const SPAWN: &[u8] = b"spawn";
const SENDS: &[&[u8]] = &[b"send", b"exp_send"];

/// Finds what a script sends as a secret. A text that is not said to be one has to start a program.
pub(super) fn scan(bytes: &[u8], is_script: bool, spans: &mut Spans) {
    if find(bytes, b"send", 0).is_none() || !is_script && find(bytes, b"spawn ", 0).is_none() {
        return;
    }
    let lower = bytes.to_ascii_lowercase();
    let has_prompts = PROMPTS.iter().any(|prompt| find(&lower, prompt, 0).is_some());
    let mut is_asked = false;
    let mut at = 0;
    while at < bytes.len() {
        let is_start = at == 0 || !is_name(bytes[at - 1]);
        let rest = &lower[at..];
        if PROMPTS.iter().any(|prompt| rest.starts_with(prompt)) {
            is_asked = true;
        } else if is_start && is_word(rest, SPAWN) {
            is_asked |= !has_prompts && starts_login(&bytes[at + SPAWN.len()..]);
        } else if let Some(send) = SENDS.iter().find(|send| is_start && is_word(rest, send)) {
            let (from, to) = sent(bytes, at + send.len(), is_script);
            let value = &bytes[from..to];
            let is_secret = is_asked && words::is_secret(Name::Secret, value) && value[0] != b'$';
            if is_secret || entropy::is_made(value) {
                spans.add(from, to, rule::COMMAND);
                is_asked = false;
            }
            at = to.max(at + 1);
            continue;
        }
        at += 1;
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/')
}

fn is_word(rest: &[u8], word: &[u8]) -> bool {
    rest.starts_with(word) && rest.get(word.len()).is_some_and(u8::is_ascii_whitespace)
}

/// Whether a program that asks for a password is among the first words of a command.
fn starts_login(command: &[u8]) -> bool {
    let line = command.split(|b| matches!(b, b'\n' | b';')).next().unwrap_or_default();
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty() && !word.starts_with(b"-"))
        .take(2)
        .any(|word| LOGINS.contains(&word.rsplit(|b| *b == b'/').next().unwrap_or(word)))
}

/// What a `send` sends, without quotes, options and the return at its end. Without quotes only in what is a script: in
/// other texts it is a word.
fn sent(bytes: &[u8], from: usize, is_script: bool) -> (usize, usize) {
    let mut from = run(bytes, from, |b| b.is_ascii_whitespace());
    while bytes.get(from) == Some(&b'-') {
        let end = run(bytes, from, |b| !b.is_ascii_whitespace());
        from = run(bytes, end, |b| b.is_ascii_whitespace());
    }
    let open = run(bytes, from, |b| b == b'\\');
    let (from, to) = match bytes.get(open) {
        Some(quote @ (b'"' | b'\'')) => (open + 1, run(bytes, open + 1, |b| b != *quote)),
        Some(b'{') => (open + 1, run(bytes, open + 1, |b| b != b'}')),
        _ if !is_script => (from, from),
        _ => (from, run(bytes, from, |b| !b.is_ascii_whitespace() && !matches!(b, b';' | b'"' | b'\''))),
    };
    let mut value = &bytes[from..to];
    // The backslash of an escaped quote, and returns, escaped once or twice.
    loop {
        let cut = value.strip_suffix(b"\\r").or_else(|| value.strip_suffix(b"\\n"));
        match cut.or_else(|| value.strip_suffix(b"\\")).or_else(|| value.strip_suffix(b"\r")) {
            Some(shorter) => value = shorter,
            None => return (from, from + value.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, is_script: bool) -> String {
        let mut spans = Spans::default();
        scan(text.as_bytes(), is_script, &mut spans);
        let shown = spans.apply(text.as_bytes(), &|_, _| b"***".to_vec(), &mut |_| {});
        String::from_utf8(shown.unwrap_or(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn what_a_script_answers_to_a_prompt_is_found_and_its_commands_stay() {
        for (text, masked) in [
            (
                r#"spawn ssh h; expect "yes/no" {send "yes\r"}; expect "assword:" {send -- "blue moon\r"}; send "ls -l\r""#,
                r#"spawn ssh h; expect "yes/no" {send "yes\r"}; expect "assword:" {send -- "***\r"}; send "ls -l\r""#,
            ),
            (r#"spawn su -; send "blue\r"; send "ls\r""#, r#"spawn su -; send "***\r"; send "ls\r""#),
            (r#"expect -c "spawn ssh h; send \"blue\\r\"""#, r#"expect -c "spawn ssh h; send \"***\\r\"""#),
            ("spawn ./install\nsend \"yes please\\r\"", "spawn ./install\nsend \"yes please\\r\""),
            (
                "spawn ssh h\nexpect \"assword\"\nsend \"$pw\\r\"",
                "spawn ssh h\nexpect \"assword\"\nsend \"$pw\\r\"",
            ),
        ] {
            assert_eq!(shown(text, false), masked);
        }
        assert_eq!(shown(r#"send "k7Q2x9Bf4z\r""#, true), r#"send "***\r""#);
        for text in [r#"send "make install\r""#, "send", "send ", "send \"", r#"send -- "\r""#] {
            assert_eq!(shown(text, true), text);
        }
    }
}
