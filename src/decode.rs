//! What the numbers of a trace mean, in the words a person knows from `strace` and the manual pages. Pure: nothing
//! here prints.

pub(crate) mod args;
pub(crate) mod flags;
pub(crate) mod names;

use ctrace_format::{Abi, Object, SockAddr, Trace, errno};
use std::fmt::Write as _;

/// The kernel's text for an error number, without the number.
pub(crate) fn errno_text(number: u32) -> String {
    let text = std::io::Error::from_raw_os_error(number as i32).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// `ENOENT`, or the number for one without a name.
pub(crate) fn errno_name(number: u32) -> String {
    errno::name(number).map_or_else(|| restart(number).unwrap_or_else(|| number.to_string()), str::to_owned)
}

/// Results that never reach the program: the call is restarted (include/linux/errno.h).
fn restart(number: u32) -> Option<String> {
    let name = match number {
        512 => "ERESTARTSYS",
        513 => "ERESTARTNOINTR",
        514 => "ERESTARTNOHAND",
        516 => "ERESTART_RESTARTBLOCK",
        _ => return None,
    };
    Some(name.to_owned())
}

/// `SIGTERM`, `SIGRT_3`.
pub(crate) fn signal(number: u32) -> String {
    const NAMES: [&str; 32] = [
        "0",
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    match NAMES.get(number as usize) {
        Some(name) => (*name).to_owned(),
        None if number <= 64 => format!("SIGRT_{}", number - 32),
        None => number.to_string(),
    }
}

/// A set of signals, bit (signo − 1).
pub(crate) fn signal_set(set: u64) -> String {
    // More than half: say what is missing, as strace does.
    let (prefix, shown) = if set.count_ones() > 32 { ("~", !set) } else { ("", set) };
    let names: Vec<String> = (1..=64_u32)
        .filter(|n| shown & (1 << (n - 1)) != 0)
        .map(|n| signal(n).trim_start_matches("SIG").to_owned())
        .collect();
    format!("{prefix}[{}]", names.join(" "))
}

/// The exit code in a status as wait(2) packs it, unless a signal ended the task.
pub(crate) const fn exit_code(status: u32) -> Option<u32> {
    match status & 0x7f {
        0 => Some((status >> 8) & 0xff),
        _ => None,
    }
}

/// The signal that ended a task, in a status as wait(2) packs it.
pub(crate) const fn exit_signal(status: u32) -> Option<u32> {
    match status & 0x7f {
        0 => None,
        signal => Some(signal),
    }
}

/// What the scheduler's letter of a task says.
pub(crate) const fn task_state(letter: u8) -> &'static str {
    match letter {
        b'R' => "running",
        b'S' => "sleeping",
        b'D' => "in uninterruptible sleep",
        b'T' => "stopped",
        b't' => "stopped by a tracer",
        b'I' => "idle",
        _ => "in an unknown state",
    }
}

/// An exit status as wait(2) packs it.
pub(crate) fn wait_status(status: u32) -> String {
    match status & 0x7f {
        0 => format!("exited with {}", (status >> 8) & 0xff),
        0x7f if status & 0xff == 0x7f => format!("stopped by {}", signal((status >> 8) & 0xff)),
        number => {
            let core = if status & 0x80 != 0 { " (core dumped)" } else { "" };
            format!("killed by {}{core}", signal(number))
        }
    }
}

/// The same as the rest of a sentence about a command.
pub(crate) fn command_status(status: u32) -> String {
    let how = wait_status(status);
    if exit_code(status).is_some() { how } else { format!("was {how}") }
}

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
pub(crate) fn plain(bytes: &[u8]) -> String {
    let quoted = quoted(bytes);
    quoted[1..quoted.len() - 1].replace("\\\"", "\"")
}

/// A socket address.
pub(crate) fn address(addr: &SockAddr) -> String {
    match addr {
        SockAddr::Inet(addr) => addr.to_string(),
        SockAddr::Unix(path) if path.is_empty() => "unix:unnamed".to_owned(),
        SockAddr::Unix(path) => format!("unix:{}", plain(path)),
        SockAddr::Other { family, data } if i32::from(*family) == libc::AF_NETLINK && data.len() >= 10 => {
            netlink(data)
        }
        SockAddr::Other { family, data } => {
            let family = flags::one(u64::from(*family), flags::DOMAIN);
            format!("{family}:{}", hex(data))
        }
        _ => "?".to_owned(),
    }
}

/// `struct sockaddr_nl` behind the family: padding, port (0: the kernel), groups.
fn netlink(data: &[u8]) -> String {
    let word =
        |at: usize| data[at..at + 4].iter().rev().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
    match (word(2), word(6)) {
        (port, 0) => format!("netlink:{port}"),
        (port, groups) => format!("netlink:{port} groups=0x{groups:x}"),
    }
}

/// `tcp`, `udp`, `unix`, `netlink`, …
pub(crate) fn socket_kind(family: u16, kind: u16, protocol: u16) -> String {
    let family = i32::from(family);
    let kind = i32::from(kind);
    match (family, kind) {
        (libc::AF_INET, libc::SOCK_STREAM) => "tcp".to_owned(),
        (libc::AF_INET, libc::SOCK_DGRAM) => "udp".to_owned(),
        (libc::AF_INET6, libc::SOCK_STREAM) => "tcp6".to_owned(),
        (libc::AF_INET6, libc::SOCK_DGRAM) => "udp6".to_owned(),
        (libc::AF_UNIX, libc::SOCK_STREAM) => "unix".to_owned(),
        (libc::AF_UNIX, libc::SOCK_DGRAM) => "unix-dgram".to_owned(),
        (libc::AF_UNIX, libc::SOCK_SEQPACKET) => "unix-seqpacket".to_owned(),
        (libc::AF_NETLINK, _) => "netlink".to_owned(),
        _ => format!("socket {} {kind} {protocol}", flags::one(family as u64, flags::DOMAIN)),
    }
}

/// Both ends of a socket: `local→peer`, or the one that is known.
pub(crate) fn ends(local: Option<&SockAddr>, peer: Option<&SockAddr>) -> Option<String> {
    let known =
        |a: Option<&SockAddr>| a.filter(|a| !matches!(a, SockAddr::Unix(p) if p.is_empty())).map(address);
    match (known(local), known(peer)) {
        (Some(local), Some(peer)) => Some(format!("{local}→{peer}")),
        (Some(local), None) => Some(local),
        (None, Some(peer)) => Some(format!("→{peer}")),
        (None, None) => None,
    }
}

/// The recorder's cookie of a socket that never had one of the kernel's: its inode, and this bit.
const INODE_COOKIE: u64 = 1 << 63;

/// What lies behind a descriptor, as `strace -yy` would put it between angle brackets. `known` are the ends of a
/// socket learned later than the dictionary's entry.
pub(crate) fn object(trace: &Trace, object: &Object, known: Option<&(SockAddr, SockAddr)>) -> String {
    match object {
        Object::File { path, .. } => plain(trace.str(*path)),
        Object::Socket { family, kind, protocol, cookie, local, peer } => {
            let name = socket_kind(*family, *kind, *protocol);
            let ends = ends(local.as_ref().or(known.map(|k| &k.0)), peer.as_ref().or(known.map(|k| &k.1)));
            ends.map_or_else(
                || match cookie.0.checked_sub(INODE_COOKIE) {
                    // As in /proc/PID/fd.
                    Some(ino) => format!("{name}:[{ino}]"),
                    None => format!("{name} #{}", cookie.0),
                },
                |ends| format!("{name} {ends}"),
            )
        }
        Object::Pipe { ino } => format!("pipe:[{ino}]"),
        Object::Anon { kind, id } => format!("{}:[{id}]", plain(trace.str(*kind))),
        _ => "?".to_owned(),
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The word that marks a call of a foreign table.
pub(crate) const fn abi_mark(abi: Abi, native: Abi) -> &'static str {
    if abi as u8 == native as u8 {
        return "";
    }
    match abi {
        Abi::I386 => "[i386] ",
        Abi::X32 => "[x32] ",
        Abi::Arm => "[arm] ",
        Abi::X86_64 => "[x86_64] ",
        Abi::Aarch64 => "[aarch64] ",
    }
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
    fn an_address_of_netlink_is_a_port_and_groups() {
        let of =
            |data: &[u8]| address(&SockAddr::Other { family: libc::AF_NETLINK as u16, data: data.to_vec() });
        assert_eq!(of(&[0, 0, 0x77, 0x2d, 0, 0, 0, 0, 0, 0]), "netlink:11639");
        assert_eq!(of(&[0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0]), "netlink:0 groups=0x11");
        // Too short to be one.
        assert_eq!(of(&[0, 1]), "AF_NETLINK:0001");
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

    #[test]
    fn statuses_and_signals_have_names() {
        assert_eq!(wait_status(0x0300), "exited with 3");
        assert_eq!(wait_status(9), "killed by SIGKILL");
        assert_eq!(
            (command_status(0x0300).as_str(), command_status(9).as_str()),
            ("exited with 3", "was killed by SIGKILL")
        );
        assert_eq!(wait_status(0x8b), "killed by SIGSEGV (core dumped)");
        assert_eq!(signal(34), "SIGRT_2");
        assert_eq!(signal_set(0b100_0000_0000_0010), "[INT TERM]");
        assert_eq!(errno_text(111), "Connection refused");
    }
}
