//! The forms of a line behind its front.

use crate::leader::{duration, trim};
use crate::text::{decoration, find, number, string_end};
use smallvec::SmallVec;

/// Arguments that a line has at most; what follows is no argument of any call.
const MAX_ARGS: usize = 32;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form<'a> {
    /// A call, complete or (`NO_RESULT`) not.
    Call(CallText<'a>),
    /// The beginning of a call that another line ends.
    Unfinished(&'a [u8]),
    /// The end of a call that another line began: its name, and the rest of its text.
    Resumed { name: &'a [u8], rest: &'a [u8] },
    /// `--- SIGCHLD {…} ---`: the name of the signal, and its structure.
    Signal { name: &'a [u8], info: &'a [u8] },
    /// `--- stopped by SIGSTOP ---`.
    Stopped,
    /// `+++ exited with 3 +++`.
    Exited(u8),
    /// `+++ killed by SIGSEGV (core dumped) +++`.
    Killed { signal: &'a [u8], core: bool },
    /// `+++ superseded by execve in pid 42 +++`.
    Superseded(u32),
    /// `strace: Process 42 attached`.
    Attached(u32),
    /// `strace: Process 42 detached`.
    Detached(u32),
    /// `strace: [ Process PID=42 runs in 32 bit mode. ]`.
    Mode { tid: u32, mode: &'a [u8] },
    /// Something that tells of no call: a frame of a stack, another word of strace.
    Remark,
    /// An empty line.
    Empty,
    /// A line that strace does not write, or a damaged one: why it cannot be read.
    Bad(&'static str),
}

/// The text of a call, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallText<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) args: SmallVec<[&'a [u8]; 6]>,
    /// What stands behind `=`.
    pub(crate) result: &'a [u8],
    /// How long it took (`-T`).
    pub(crate) duration_ns: Option<u64>,
    /// The text of the line ended before the call did: the task was let go, or died.
    pub(crate) open: bool,
}

/// Reads a line behind its front.
pub(crate) fn form(text: &[u8]) -> Form<'_> {
    let text = text.trim_ascii();
    match text {
        [] => Form::Empty,
        [b'-', b'-', b'-', b' ', ..] => signal(text),
        [b'+', b'+', b'+', b' ', ..] => end(text),
        [b'<', b'.', b'.', b'.', b' ', rest @ ..] => resumed(rest),
        // A frame of a stack (-k); a row of bytes (-e read=, -e write=); the table of calls behind a log (-C).
        [b'>', b' ', ..] => Form::Remark,
        [b'|', b' ', rest @ ..] if is_offset(rest) => Form::Remark,
        _ if is_summary(text) => Form::Remark,
        _ => match text.strip_prefix(b"strace: ").or_else(|| text.starts_with(b"[ ").then_some(text)) {
            Some(remark) => remarked(remark),
            None => begun(text),
        },
    }
}

/// Whether a row of bytes follows: `00010  03 00 3e`.
fn is_offset(text: &[u8]) -> bool {
    let digits = text.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    digits >= 5 && text[digits..].starts_with(b"  ")
}

/// Whether a line is one of the table that `-C` writes behind the log: `% time`, rules, and rows of numbers.
fn is_summary(text: &[u8]) -> bool {
    if text.starts_with(b"% time ")
        || text.starts_with(b"------ -----------")
        || text.starts_with(b"System call usage")
    {
        return true;
    }
    let text = trim(text);
    let is_number = |word: &[u8]| word.iter().all(|b| matches!(b, b'0'..=b'9' | b'.'));
    let mut words = text.split(|b| *b == b' ').filter(|word| !word.is_empty());
    let is_share = words.next().is_some_and(|word| is_number(word) && word.contains(&b'.'));
    is_share && words.next().is_some_and(is_number) && words.next_back().is_some_and(is_name)
}

fn begun(text: &[u8]) -> Form<'_> {
    if let Some(before) = text.strip_suffix(b"<unfinished ...>") {
        return Form::Unfinished(before.strip_suffix(b" ").unwrap_or(before));
    }
    match call(text) {
        Ok(call) => Form::Call(call),
        Err(why) => Form::Bad(why),
    }
}

fn resumed(rest: &[u8]) -> Form<'_> {
    const RESUMED: &[u8] = b" resumed>";
    match find(rest, RESUMED) {
        Some(len) if is_name(&rest[..len]) => {
            let (name, rest) = (&rest[..len], &rest[len + RESUMED.len()..]);
            // Up to 4.x a space followed the bracket; in the call's text it is part of it, or does no harm.
            Form::Resumed { name, rest }
        }
        _ => Form::Bad("it continues a call that has no name"),
    }
}

pub(crate) fn is_name(text: &[u8]) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && !text[0].is_ascii_digit()
        && text
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'A'..=b'Z'))
}

fn signal(text: &[u8]) -> Form<'_> {
    let Some(inner) = text.strip_prefix(b"--- ").and_then(|t| t.strip_suffix(b" ---")) else {
        return Form::Bad("it tells of a signal and has no end");
    };
    if inner.starts_with(b"stopped by ") {
        return Form::Stopped;
    }
    let len = inner.iter().position(|b| *b == b' ').unwrap_or(inner.len());
    Form::Signal { name: &inner[..len], info: trim(&inner[len..]) }
}

fn end(text: &[u8]) -> Form<'_> {
    let Some(inner) = text.strip_prefix(b"+++ ").and_then(|t| t.strip_suffix(b" +++")) else {
        return Form::Bad("it tells of an end and is cut");
    };
    let parsed = |digits: &[u8]| number(digits).and_then(|n| u32::try_from(n).ok());
    if let Some(status) = inner.strip_prefix(b"exited with ") {
        return match parsed(status) {
            Some(status) => Form::Exited(status as u8),
            None => Form::Bad("it tells of an end without a status"),
        };
    }
    if let Some(by) = inner.strip_prefix(b"killed by ") {
        let core = by.ends_with(b" (core dumped)");
        let len = by.iter().position(|b| *b == b' ').unwrap_or(by.len());
        return Form::Killed { signal: &by[..len], core };
    }
    match inner.strip_prefix(b"superseded by execve in pid ").map(parsed) {
        Some(Some(tid)) => Form::Superseded(tid),
        _ => Form::Bad("it tells of an end that strace does not know"),
    }
}

fn remarked(remark: &[u8]) -> Form<'_> {
    let tid_in = |text: &[u8]| {
        let len = text.iter().take_while(|b| b.is_ascii_digit()).count();
        Some((u32::try_from(number(&text[..len])?).ok()?, len))
    };
    if let Some(rest) = remark.strip_prefix(b"Process ")
        && let Some((tid, len)) = tid_in(rest)
    {
        return match trim(&rest[len..]) {
            rest if rest.starts_with(b"attached") => Form::Attached(tid),
            rest if rest.starts_with(b"detached") => Form::Detached(tid),
            _ => Form::Remark,
        };
    }
    if let Some(rest) = remark.strip_prefix(b"[ Process PID=")
        && let Some((tid, len)) = tid_in(rest)
        && let Some(mode) = rest[len..].strip_prefix(b" runs in ")
    {
        let len = find(mode, b" mode").unwrap_or(mode.len());
        return Form::Mode { tid, mode: &mode[..len] };
    }
    Form::Remark
}

/// Takes the text of a call apart.
pub(crate) fn call(text: &[u8]) -> Result<CallText<'_>, &'static str> {
    let name_len = text.iter().position(|b| *b == b'(').ok_or("it has no call")?;
    let name = &text[..name_len];
    if !is_name(name) {
        return Err("it has no call");
    }
    let mut args: SmallVec<[&[u8]; 6]> = SmallVec::new();
    let mut closing: SmallVec<[u8; 16]> = SmallVec::new();
    let mut start = name_len + 1;
    let mut at = start;
    loop {
        let Some(byte) = text.get(at) else { return Err("its call does not end") };
        match byte {
            b'"' => {
                at += 1 + string_end(&text[at + 1..]);
                if at >= text.len() {
                    return Err("a string in it does not end");
                }
            }
            b'<' => {
                let rest = &text[at..];
                if rest == b"<detached ...>" || rest.starts_with(b"<unfinished ...>") {
                    let last = text[start..at].trim_ascii();
                    if !last.is_empty() {
                        args.push(last);
                    }
                    // `exit_group(0) <unfinished ...>) = ?`, in some versions.
                    return Ok(CallText {
                        name,
                        args,
                        result: result_behind(rest),
                        duration_ns: None,
                        open: true,
                    });
                }
                if rest.starts_with(b"<... resuming interrupted ") {
                    // `restart_syscall(<... resuming interrupted read ...>)`.
                    match find(&rest[4..], b"...>") {
                        Some(len) => at += len + 7,
                        None => return Err("the call that it goes on with has no name"),
                    }
                } else if at > 0
                    && (text[at - 1].is_ascii_alphanumeric() || text[at - 1] == b'_')
                    && rest.get(1) != Some(&b'<')
                {
                    match decoration(rest) {
                        Some(len) => at += len - 1,
                        None => return Err("what lies behind a descriptor does not end"),
                    }
                } else if rest.get(1) == Some(&b'<') {
                    at += 1;
                }
            }
            b'/' if text.get(at + 1) == Some(&b'*') => match find(&text[at..], b"*/") {
                Some(len) => at += len + 1,
                None => return Err("a comment in it does not end"),
            },
            b'(' => closing.push(b')'),
            b'[' => closing.push(b']'),
            b'{' => closing.push(b'}'),
            b')' | b']' | b'}' => match closing.pop() {
                Some(expected) if expected == *byte => {}
                None if *byte == b')' => break,
                Some(_) | None => return Err("its brackets do not fit"),
            },
            b',' if closing.is_empty() => {
                if args.len() < MAX_ARGS {
                    args.push(text[start..at].trim_ascii());
                }
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    let last = text[start..at].trim_ascii();
    if (!last.is_empty() || !args.is_empty()) && args.len() < MAX_ARGS {
        args.push(last);
    }
    let rest = &text[at + 1..];
    let (rest, duration_ns) = match duration(rest) {
        Some((before, ns)) => (before, Some(ns)),
        None => (rest, None),
    };
    let rest = trim(rest);
    if matches!(rest, b"<unfinished ...>" | b"<detached ...>") {
        return Ok(CallText { name, args, result: b"", duration_ns: None, open: true });
    }
    let result = rest.strip_prefix(b"=").ok_or("it has no result")?.trim_ascii();
    if result.is_empty() {
        return Err("it has no result");
    }
    Ok(CallText { name, args, result, duration_ns, open: false })
}

/// `?`, if that is what stands behind the sign that a call did not end.
fn result_behind(rest: &[u8]) -> &[u8] {
    if rest.ends_with(b"= ?") { b"?" } else { b"" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Form<'_> {
        form(text.as_bytes())
    }

    fn taken(text: &str) -> CallText<'_> {
        call(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_call_is_taken_apart() {
        let call = taken(r#"openat(AT_FDCWD</a, b>, "x\"), (", O_RDONLY|O_CLOEXEC) = 3</x> <0.000040>"#);
        assert_eq!(call.name, b"openat");
        assert_eq!(call.args[..], [&b"AT_FDCWD</a, b>"[..], br#""x\"), (""#, b"O_RDONLY|O_CLOEXEC"]);
        assert_eq!((call.result, call.duration_ns), (&b"3</x>"[..], Some(40_000)));
        let call = taken("poll([{fd=3, events=POLLIN}], 1, 100)     = 1 ([{fd=3, revents=POLLIN}])");
        assert_eq!(call.args.len(), 3);
        assert_eq!(call.result, b"1 ([{fd=3, revents=POLLIN}])");
        assert!(taken("getpid() = 3").args.is_empty());
        assert_eq!(taken("exit_group(0)                 = ?").result, b"?");
        let call =
            taken("futex(0x1, FUTEX_WAKE_OP, 1, 1, 0x2, FUTEX_OP_SET<<28|0<<12|FUTEX_OP_CMP_GT<<24|0x1) = 1");
        assert_eq!(call.args.len(), 6);
        assert_eq!(taken("restart_syscall(<... resuming interrupted read ...>) = 0").args.len(), 1);
        assert!(taken("epoll_wait(3<anon_inode:[eventpoll]>,  <detached ...>").open);
        assert!(taken("exit(0 <unfinished ...>) = ?").open);
        assert_eq!(taken("wait4(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 7").args.len(), 4);
    }

    #[test]
    fn every_form_is_known() {
        let signal = of("--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---");
        assert!(matches!(signal, Form::Signal { name: b"SIGCHLD", .. }), "{signal:?}");
        assert_eq!(of("--- stopped by SIGSTOP ---"), Form::Stopped);
        assert_eq!(of("+++ exited with 3 +++"), Form::Exited(3));
        for remark in [
            " > /usr/lib/x86_64-linux-gnu/libc.so.6(__write+0x10) [0xf8350]",
            " > unexpected_backtracing_error [0x7f0c]",
            " | 00000  68 69 0a                                          hi.              |",
            " | 1ffff0  68 69                                             hi               |",
        ] {
            assert_eq!(of(remark), Form::Remark, "{remark}");
        }
        assert!(matches!(of(" | words of a program"), Form::Bad(_)));
        assert_eq!(
            of("+++ killed by SIGSEGV (core dumped) +++"),
            Form::Killed { signal: b"SIGSEGV", core: true }
        );
        assert_eq!(of("+++ superseded by execve in pid 42 +++"), Form::Superseded(42));
        assert_eq!(of("strace: Process 42 attached"), Form::Attached(42));
        assert_eq!(of("strace: Process 42 detached"), Form::Detached(42));
        let mode = of("strace: [ Process PID=42 runs in 32 bit mode. ]");
        assert_eq!(mode, Form::Mode { tid: 42, mode: b"32 bit" });
        assert_eq!(of("> /usr/lib/libc.so.6(__read+0x14) [0x108f1e]"), Form::Remark);
        for row in [
            "% time     seconds  usecs/call     calls    errors syscall",
            " 24.33    0.000466          13        34        13 openat",
            "100.00    0.001915          12       149        21 total",
            "------ ----------- ----------- --------- --------- ----------------",
        ] {
            assert_eq!(of(row), Form::Remark, "{row}");
        }
        assert_eq!(of(""), Form::Empty);
        let resumed = of("<... read resumed>\"x\", 1) = 1");
        assert_eq!(resumed, Form::Resumed { name: b"read", rest: b"\"x\", 1) = 1" });
        assert_eq!(of("read(3,  <unfinished ...>"), Form::Unfinished(b"read(3, "));
    }

    #[test]
    fn damage_is_told() {
        for (text, why) in [
            ("hello", "it has no call"),
            ("a b(c) = 3", "it has no call"),
            ("read(3, \"abc", "a string in it does not end"),
            ("read(3, [1, 2", "its call does not end"),
            ("read(3, [1, 2}) = 3", "its brackets do not fit"),
            ("read(3</etc", "what lies behind a descriptor does not end"),
            ("read(3, 4)", "it has no result"),
            ("read(3, 4) = ", "it has no result"),
            ("+++ exited with", "it tells of an end and is cut"),
            ("--- SIGCHLD {", "it tells of a signal and has no end"),
            ("mmap(NULL /* x", "a comment in it does not end"),
        ] {
            assert_eq!(of(text), Form::Bad(why), "{text}");
        }
    }
}
