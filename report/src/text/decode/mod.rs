//! Meanings of a trace's numbers, in the words a person knows from `strace` and the manual pages. Pure: nothing
//! here prints.

mod args;
mod errno;
mod flags;
mod json;
mod names;
mod object;
mod status;
mod values;

pub(crate) use args::{Arg, Call};
pub(crate) use errno::{name as errno_name, text as errno_text};
pub(crate) use names::{capability, dns_code, dns_type, uring_op};
pub(crate) use object::{Ends, abi_mark, address, ends, object, socket_kind};
pub use status::{command_status, exit_code};
pub(crate) use status::{exit_signal, signal, signal_set, task_state, wait_status};

use std::fmt::Write as _;

/// A byte string in quotes, escaped as C would.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                // A trace is hostile input: no byte of it may steer the terminal.
                c => crate::escape::push(&mut out, c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// A byte string for JSON. Bytes that are no UTF-8 become U+10FF00 + byte, and so do those of such characters
/// themselves: nothing is lost.
pub(crate) fn json_text(bytes: &[u8]) -> String {
    const FIRST: u32 = 0x10_FF00;
    let stand_in =
        |byte: &u8| char::from_u32(FIRST + u32::from(*byte)).unwrap_or(char::REPLACEMENT_CHARACTER);
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if u32::from(c) & !0xff == FIRST {
                out.extend(c.encode_utf8(&mut [0; 4]).as_bytes().iter().map(stand_in));
            } else {
                out.push(c);
            }
        }
        out.extend(chunk.invalid().iter().map(stand_in));
    }
    out
}

/// A byte string without quotes, safe to show in a line.
pub fn plain(bytes: &[u8]) -> String {
    let quoted = quoted(bytes);
    quoted[1..quoted.len() - 1].replace("\\\"", "\"")
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_a_trace_cannot_steer_the_terminal() {
        assert_eq!(quoted(b"a\x1b[2Jb\"\n\xff"), "\"a\\u{1b}[2Jb\\\"\\n\\xff\"");
        assert_eq!(quoted("\u{202e}gpj".as_bytes()), "\"\\u{202e}gpj\"");
    }

    #[test]
    fn json_text_loses_nothing() {
        let bytes = |text: &str| -> Vec<u8> {
            let mut out = Vec::new();
            for c in text.chars() {
                match u32::from(c) {
                    n if n & !0xff == 0x10_FF00 => out.push(n as u8),
                    _ => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            out
        };
        for raw in [b"plain".as_slice(), b"a\xff\xfeb", "é→\u{10ff41}".as_bytes(), b"\xf4\x8f\xbf"] {
            assert_eq!(bytes(&json_text(raw)), raw);
        }
        assert_eq!(json_text("é".as_bytes()), "é");
    }
}
