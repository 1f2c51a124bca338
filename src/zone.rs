//! The zone of the environment: `TZ`, else `/etc/localtime`.

use crate::output::Output;
use ctrace_report::text::when::Zone;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The zone of the environment. Says so when `TZ` names none: the C library then takes UTC.
pub(crate) fn here(out: &mut Output) -> Zone {
    if let Some(name) = std::env::var_os("TZ").filter(|name| !is_known(name, is_zone_file)) {
        out.warn(&format!("TZ: there is no zone {}: times are UTC", name.display()));
        return Zone::UTC;
    }
    Zone(east_s)
}

/// Seconds east of Greenwich at a time, s since the epoch.
fn east_s(realtime_s: i64) -> i64 {
    // SAFETY: all zeros are a valid `tm`: numbers, and a zone's name that is null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both point to values that live until the call returns.
    unsafe { libc::localtime_r(&raw const realtime_s, &raw mut parts) };
    parts.tm_gmtoff
}

/// Whether the C library knows what this value of `TZ` means (tzset(3)): a file, or a rule as POSIX has it. `is_file`: whether
/// there is a zone in this file.
fn is_known(value: &OsStr, is_file: impl Fn(&Path) -> bool) -> bool {
    let value = value.as_bytes();
    let name = value.strip_prefix(b":").unwrap_or(value);
    // Empty: UTC, as the C library has it.
    name.is_empty() || is_file(&zone_file(Path::new(OsStr::from_bytes(name)))) || is_rule(name)
}

fn zone_file(name: &Path) -> PathBuf {
    let directory = std::env::var_os("TZDIR").filter(|d| !d.is_empty());
    // An absolute name replaces the directory.
    directory.map_or_else(|| PathBuf::from("/usr/share/zoneinfo"), PathBuf::from).join(name)
}

fn is_zone_file(path: &Path) -> bool {
    // Anything else that may be there is not read.
    fs::metadata(path).is_ok_and(|m| m.is_file())
        && fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"TZif"))
}

/// `CET-1`, `<+03>-3`, and what may follow: a name of at least three letters, and how far west of Greenwich it is.
fn is_rule(text: &[u8]) -> bool {
    let rest = if let Some(quoted) = text.strip_prefix(b"<") {
        quoted.iter().position(|b| *b == b'>').map(|end| &quoted[end + 1..])
    } else {
        let letters = text.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        (letters >= 3).then(|| &text[letters..])
    };
    let offset = rest.map(|rest| rest.strip_prefix(b"-").or(rest.strip_prefix(b"+")).unwrap_or(rest));
    offset.and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_nobody_knows_is_told_from_one_that_is() {
        let known = |value: &str| is_known(OsStr::new(value), |path| path.ends_with("Europe/Berlin"));
        for value in
            ["", ":", "Europe/Berlin", ":Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3", "<+03>-3", "UTC0"]
        {
            assert!(known(value), "{value}");
        }
        for value in ["Nowhere/Nope", "Berlin", "CET", "<+03", "X1", "12"] {
            assert!(!known(value), "{value}");
        }
    }
}
