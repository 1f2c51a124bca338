//! The commands that show what a report says, ready to be pasted into a shell.

use super::{Incident, Role, Traced};
use std::fmt::Write as _;
use std::path::Path;

/// A command, and what it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// What it shows.
    pub(crate) what: &'static str,
    /// The line.
    pub(crate) line: String,
}

/// A word as POSIX shells take it; one with characters that cannot be seen as `$'…'`, which most of them know.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    if !word.chars().any(crate::escape::is_hostile) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut out = String::from("$'");
    word.chars().for_each(|c| push(&mut out, c));
    out.push('\'');
    out
}

/// A path, never taken for an option. Names of files are bytes, which need be no text.
fn file(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = path.as_os_str().as_bytes();
    let front = if bytes.starts_with(b"-") && bytes.len() > 1 { "./" } else { "" };
    if let Ok(text) = std::str::from_utf8(bytes) {
        return quoted(&format!("{front}{text}"));
    }
    let mut out = format!("$'{front}");
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push(&mut out, c));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('\'');
    out
}

/// A character between `$'` and `'`.
fn push(out: &mut String, c: char) {
    match c {
        '\'' | '\\' => out.extend(['\\', c]),
        c if crate::escape::is_hostile(c) => {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
        c => out.push(c),
    }
}

fn of(traced: &Traced) -> String {
    file(traced.path)
}

/// The commands for a report.
pub(crate) fn commands(incident: &Incident) -> Vec<Command> {
    let Some(first) = incident.traces.first() else { return Vec::new() };
    let a = of(first);
    let mut commands =
        vec![Command { what: "The findings and figures again", line: format!("ctrace info {a}") }];
    let telling = first.telling();
    if let Some(id) = telling.first().and_then(|f| f.evidence.events.first()) {
        commands.push(Command {
            what: "The event behind the first finding, with what surrounds it",
            line: format!("ctrace events {a} --at {id}"),
        });
    }
    if let Some(finding) = telling.first() {
        let seconds = |ns: u64| format!("{}.{:06}s", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000);
        let (from, to) =
            (finding.from_ns.saturating_sub(50_000_000), finding.to_ns.saturating_add(50_000_000));
        commands.push(Command {
            what: "Everything around it",
            line: format!("ctrace events {a} --since {} --until {}", seconds(from), seconds(to)),
        });
    }
    let pair = match &incident.traces[1..] {
        [other] => format!(" --diff {}", of(other)),
        _ => String::new(),
    };
    commands.push(Command {
        what: "The timeline in ui.perfetto.dev, at the first finding; nothing leaves the machine",
        line: format!("ctrace report {a}{pair} --serve --perfetto"),
    });
    commands.push(Command { what: "Every call that failed", line: format!("ctrace events {a} --failed") });
    commands.push(Command {
        what: "The same calls to a real kernel again, in a sandbox, and the comparison",
        line: format!("sudo ctrace replay {a}"),
    });
    for other in incident.traces.iter().skip(1) {
        let what = match other.role {
            Role::Replay => "The replay against the recording",
            _ => "The other run against the recording",
        };
        commands.push(Command { what, line: format!("ctrace diff {a} {}", of(other)) });
    }
    commands.push(Command { what: "Whether the file is intact", line: format!("ctrace verify {a}") });
    commands.push(Command { what: "This report", line: report(incident) });
    commands
}

fn report(incident: &Incident) -> String {
    let paths: Vec<&Path> = incident.traces.iter().map(|traced| traced.path).collect();
    report_command(&paths)
}

/// The command that makes a report of a recording, the first, and of the runs that it is compared with.
pub fn report_command(paths: &[&Path]) -> String {
    let mut line = String::from("ctrace report");
    for (at, path) in paths.iter().enumerate() {
        line.push_str(if at == 0 { " " } else { " --diff " });
        line.push_str(&file(path));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_a_shell_reads_them() {
        for (word, line) in [
            ("incident.ctr", "incident.ctr"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(rm -rf ~)", "'$(rm -rf ~)'"),
            ("a\nb'\\", r"$'a\x0ab\'\\'"),
            ("\u{202e}x", r"$'\xe2\x80\xaex'"),
        ] {
            assert_eq!(quoted(word), line);
            let read = std::process::Command::new("bash").arg("-c").arg(format!("printf %s {line}")).output();
            if let Ok(read) = read {
                assert_eq!(read.stdout, word.as_bytes(), "{line}");
            }
        }
        assert_eq!(file(Path::new("-o.ctr")), "./-o.ctr");
        assert_eq!(file(Path::new("-")), "-");
        let bytes = std::os::unix::ffi::OsStrExt::from_bytes(b"a\xffb '.ctr");
        assert_eq!(file(Path::new::<std::ffi::OsStr>(bytes)), r"$'a\xffb \'.ctr'");
    }
}
