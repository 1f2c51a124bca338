//! How findings are said: figures, times, names.

use ctrace_format::{Object, SockAddr, errno};

/// `+2.557 s`.
pub(crate) fn at(ns: u64) -> String {
    format!("+{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1000)
}

/// `at +2.557 s`, or `from +2.557 s to +5.506 s`.
pub(crate) fn when(from_ns: u64, to_ns: u64) -> String {
    // Within a millisecond nobody tells two times apart.
    if to_ns / 1_000_000 <= from_ns / 1_000_000 {
        format!("at {}", at(from_ns))
    } else {
        format!("from {} to {}", at(from_ns), at(to_ns))
    }
}

/// `4.1 ms`.
pub(crate) fn span(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// `1.5 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `1,234`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `once`, `twice`, `1,234 times`.
pub(crate) fn times(n: u64) -> String {
    match n {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{} times", count(n)),
    }
}

/// `1 thread`, `8 threads`.
pub(crate) fn plural(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `37 %`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    format!("{:.0} %", part as f64 * 100.0 / whole.max(1) as f64)
}

/// `ECONNREFUSED`.
pub(crate) fn errno_name(errno: u16) -> String {
    errno::name(u32::from(errno)).map_or_else(|| format!("errno {errno}"), str::to_owned)
}

/// A name of the trace as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    const LONGEST: usize = 4096;
    String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]).into_owned()
}

/// An address as people write it.
pub(crate) fn address(addr: &SockAddr) -> String {
    match addr {
        SockAddr::Inet(addr) => addr.to_string(),
        SockAddr::Unix(path) if path.is_empty() => "an unnamed unix socket".to_owned(),
        SockAddr::Unix(path) => text(path),
        SockAddr::Other { family, .. } => format!("an address of family {family}"),
        _ => "an address".to_owned(),
    }
}

/// An object as people call it.
pub(crate) fn object<'a>(object: &Object, name: impl Fn(ctrace_format::StrId) -> &'a [u8]) -> String {
    match object {
        Object::File { path, .. } => text(name(*path)),
        Object::Socket { peer: Some(peer), .. } => address(peer),
        Object::Socket { local: Some(local), .. } => format!("socket {}", address(local)),
        Object::Socket { .. } => "socket".to_owned(),
        Object::Pipe { .. } => "pipe".to_owned(),
        Object::Anon { kind, .. } => text(name(*kind)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(at(2_557_999_999), "+2.557 s");
        assert_eq!(when(5_000_000, 5_900_000), "at +0.005 s");
        assert_eq!(when(5_000_000, 6_000_000), "from +0.005 s to +0.006 s");
        assert_eq!(
            (span(999), span(1_500), span(1_200_000_000)),
            ("999 ns".into(), "1.5 µs".into(), "1.20 s".into())
        );
        assert_eq!((bytes(1023), bytes(24 << 20)), ("1023 B".into(), "24.0 MiB".into()));
        assert_eq!((count(999), count(1_234_567)), ("999".into(), "1,234,567".into()));
        assert_eq!((times(1), times(2), times(9000)), ("once".into(), "twice".into(), "9,000 times".into()));
    }
}
