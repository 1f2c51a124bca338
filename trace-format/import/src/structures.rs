//! Structures that calls take, as bytes of a 64-bit machine or as the number that matters in them.

use crate::names;
use crate::text::unescape;
use crate::value::Value;
use ctrace_format::syscalls::Call;

const SECOND_NS: i128 = 1_000_000_000;
const MICROSECOND_NS: i128 = 1_000;
/// Bytes of an option's value that are kept, as a recorder does.
const MAX_OPTION: usize = 64;

/// A `timespec` or `timeval`.
pub(crate) fn time_ns(value: &Value<'_>) -> Option<u64> {
    let seconds = value.number_of(b"tv_sec")?;
    let rest = match value.number_of(b"tv_nsec") {
        Some(ns) => ns,
        None => value.number_of(b"tv_usec")?.checked_mul(MICROSECOND_NS)?,
    };
    Some(u64::try_from(seconds.checked_mul(SECOND_NS)?.checked_add(rest)?).unwrap_or(u64::MAX))
}

fn words(words: &[i128]) -> Vec<u8> {
    words.iter().flat_map(|word| (*word as u64).to_ne_bytes()).collect()
}

fn pair(value: &Value<'_>, first: &[u8], second: &[u8]) -> Option<[i128; 2]> {
    Some([value.number_of(first)?, value.number_of(second)?])
}

/// A `struct itimerspec`: nanoseconds until it expires, and its bytes.
pub(crate) fn itimerspec(value: &Value<'_>) -> Option<(u64, Vec<u8>)> {
    let interval = pair(value.field(b"it_interval")?, b"tv_sec", b"tv_nsec")?;
    let expires = pair(value.field(b"it_value")?, b"tv_sec", b"tv_nsec")?;
    let ns = time_ns(value.field(b"it_value")?)?;
    Some((ns, words(&[interval, expires].concat())))
}

/// A `struct itimerval`.
pub(crate) fn itimerval(value: &Value<'_>) -> Option<Vec<u8>> {
    let interval = pair(value.field(b"it_interval")?, b"tv_sec", b"tv_usec")?;
    let expires = pair(value.field(b"it_value")?, b"tv_sec", b"tv_usec")?;
    Some(words(&[interval, expires].concat()))
}

/// A `struct rlimit64`.
pub(crate) fn rlimit(value: &Value<'_>) -> Option<Vec<u8>> {
    Some(words(&pair(value, b"rlim_cur", b"rlim_max")?))
}

/// The 64 bytes of a `struct clone_args` that its first version has.
pub(crate) fn clone_args(value: &Value<'_>) -> Option<Vec<u8>> {
    let flags = value.number_of(b"flags")?;
    let field = |name: &[u8]| value.number_of(name).unwrap_or(0);
    Some(words(&[
        flags,
        field(b"pidfd"),
        field(b"child_tid"),
        field(b"parent_tid"),
        field(b"exit_signal"),
        field(b"stack"),
        field(b"stack_size"),
        field(b"tls"),
    ]))
}

/// A `struct open_how`.
pub(crate) fn open_how(value: &Value<'_>) -> Option<Vec<u8>> {
    let field = |name: &[u8]| value.number_of(name).unwrap_or(0);
    Some(words(&[value.number_of(b"flags")?, field(b"mode"), field(b"resolve")]))
}

/// A set of signals, as bits.
pub(crate) fn signals(value: &Value<'_>) -> Option<u64> {
    let bit = |part: &Value<'_>| -> Option<u64> {
        let signo = u32::try_from(part.number()?).ok()?;
        1_u64.checked_shl(signo.checked_sub(1)?)
    };
    let bits = |parts: &[Value<'_>]| parts.iter().filter_map(bit).fold(0, |all, bit| all | bit);
    match value.after() {
        Value::List { parts, .. } => Some(bits(parts)),
        Value::Others(parts) => Some(!bits(parts)),
        _ => None,
    }
}

/// The number behind a pointer, as the call left it.
pub(crate) fn pointed_number(call: Call, value: &Value<'_>) -> Option<u64> {
    let parts = value.after().parts()?;
    if call == Call::SchedSetaffinity {
        // A set of CPUs.
        let bit = |part: &Value<'_>| 1_u64.checked_shl(u32::try_from(part.number()?).ok()?);
        return Some(parts.iter().filter_map(bit).fold(0, |all, bit| all | bit));
    }
    match parts.first()?.after() {
        // A status of wait(2): `[{WIFEXITED(s) && WEXITSTATUS(s) == 3}]`.
        Value::Struct(fields) => {
            let fields = fields.first()?;
            match &fields.1 {
                Value::Status(status) => Some(u64::from(*status)),
                _ => None,
            }
        }
        part => Some(part.number()? as u64),
    }
}

/// A number such as `0x1b5`.
pub(crate) fn hexadecimal(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits.strip_prefix("0x")?, 16).ok()
}

/// The status that strace describes: `WIFEXITED(s) && WEXITSTATUS(s) == 3`.
pub(crate) fn wait_status(text: &[u8]) -> Option<u32> {
    /// `WIFCONTINUED`.
    const CONTINUED: u32 = 0xffff;
    let text = std::str::from_utf8(text).ok()?;
    let told = |macro_name: &str| {
        let rest = text.split_once(macro_name)?.1;
        let rest = rest.strip_prefix("(s) == ")?;
        let end = rest.find([' ', '}', '&']).unwrap_or(rest.len());
        Some(&rest[..end])
    };
    let signal = |name: &str| names::signal(name.as_bytes()).or_else(|| name.parse().ok());
    let status = if let Some(status) = told("WEXITSTATUS") {
        (status.parse::<u32>().ok()? & 0xff) << 8
    } else if let Some(by) = told("WTERMSIG") {
        signal(by)? & 0x7f | if text.contains("WCOREDUMP(s)") { 0x80 } else { 0 }
    } else if let Some(by) = told("WSTOPSIG") {
        (signal(by)? & 0xff) << 8 | 0x7f
    } else if text.starts_with("WIFCONTINUED") {
        CONTINUED
    } else {
        return None;
    };
    Some(status)
}

/// The value of a socket option.
pub(crate) fn option(value: &Value<'_>, room: i128) -> Option<Vec<u8>> {
    let room = usize::try_from(room).unwrap_or(0).min(MAX_OPTION);
    let int = |number: i128| (number as u32).to_ne_bytes();
    let mut data = match value {
        Value::List { parts, .. } => {
            parts.iter().filter_map(Value::number).flat_map(int).take(MAX_OPTION).collect()
        }
        Value::Text { escaped, .. } => unescape(escaped),
        Value::Struct(_) if value.field(b"l_onoff").is_some() => {
            [int(value.number_of(b"l_onoff")?), int(value.number_of(b"l_linger")?)].concat()
        }
        Value::Struct(_) if value.field(b"tv_sec").is_some() => words(&pair(value, b"tv_sec", b"tv_usec")?),
        _ => return None,
    };
    data.truncate(room);
    if data.is_empty() {
        return None;
    }
    data.resize(room, 0);
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::number;

    fn read(text: &str) -> Value<'_> {
        Value::read(text.as_bytes(), &number)
    }

    #[test]
    fn structures_have_the_bytes_of_the_kernels() {
        assert_eq!(time_ns(&read("{tv_sec=1, tv_nsec=5}")), Some(1_000_000_005));
        assert_eq!(time_ns(&read("{tv_sec=0, tv_usec=5}")), Some(5_000));
        let limit = rlimit(&read("{rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}")).unwrap();
        assert_eq!(limit, [(8192_u64 * 1024).to_ne_bytes(), u64::MAX.to_ne_bytes()].concat());
        let (ns, timer) =
            itimerspec(&read("{it_interval={tv_sec=1, tv_nsec=2}, it_value={tv_sec=3, tv_nsec=4}}")).unwrap();
        assert_eq!((ns, timer.len()), (3_000_000_004, 32));
        assert_eq!(signals(&read("[INT CHLD]")), Some(1 << 1 | 1 << 16));
        assert_eq!(signals(&read("~[KILL]")), Some(!(1 << 8)));
        assert_eq!(signals(&read("[]")), Some(0));
        assert_eq!(option(&read("[1]"), 4), Some(vec![1, 0, 0, 0]));
        assert_eq!(option(&read("{l_onoff=1, l_linger=5}"), 8), Some(vec![1, 0, 0, 0, 5, 0, 0, 0]));
        let clone =
            clone_args(&read("{flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD, stack=0x7f00}")).unwrap();
        assert_eq!(clone[..8], 0x4100_u64.to_ne_bytes());
        assert_eq!(clone[32..40], 17_u64.to_ne_bytes());
    }

    #[test]
    fn what_wait_says_is_a_status() {
        for (text, status) in [
            ("WIFEXITED(s) && WEXITSTATUS(s) == 3", 0x300),
            ("WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL", 9),
            ("WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)", 0x8b),
            ("WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP", 0x137f),
            ("WIFCONTINUED(s)", 0xffff),
        ] {
            assert_eq!(wait_status(text.as_bytes()), Some(status), "{text}");
        }
        let status = |text| pointed_number(Call::Wait4, &read(text));
        assert_eq!(status("[{WIFEXITED(s) && WEXITSTATUS(s) == 3}]"), Some(0x300));
        assert_eq!(status("[0x137f]"), Some(0x137f));
        assert_eq!(pointed_number(Call::Sendfile, &read("[0] => [5]")), Some(5));
        assert_eq!(pointed_number(Call::SchedSetaffinity, &read("[0 2]")), Some(5));
    }
}
