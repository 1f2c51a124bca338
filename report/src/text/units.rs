//! Times, sizes and counts as people write and read them.

/// `1.5ms`, `2.25s`: a duration in ns with at most three digits after the point.
pub fn duration(ns: u64) -> String {
    let (unit, name) = match ns {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{ns}ns"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        1_000_000_000..120_000_000_000 => (1e9, "s"),
        _ => (60e9, "min"),
    };
    let text = format!("{:.3}", ns as f64 / unit);
    format!("{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `12.3 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 connection`, `2 connections`.
pub fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `10s`, `250ms`, `1.5m`, `2h`, `90` (seconds), in ns.
///
/// # Errors
/// A sentence for what is no duration.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "" | "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        _ => return Err(format!("{text:?} is no duration; write 10s, 250ms, 1.5m")),
    };
    match number.parse::<f64>() {
        Ok(n) if (n * scale) < u64::MAX as f64 => Ok((n * scale).round() as u64),
        _ => Err(format!("{text:?} is no duration; write 10s, 250ms, 1.5m")),
    }
}

/// `64M`, `1.5GiB`, `4096`, in bytes.
///
/// # Errors
/// A sentence for what is no size.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale: f64 = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 1.0,
        "k" | "K" => 1024.0,
        "M" => 1024.0 * 1024.0,
        "G" => 1024.0 * 1024.0 * 1024.0,
        "T" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("{text:?} is no size; write 64M, 1.5G")),
    };
    match number.parse::<f64>() {
        Ok(n) if n * scale >= 1.0 && n * scale < 9e18 => Ok((n * scale) as u64),
        _ => Err(format!("{text:?} is no size; write 64M, 1.5G")),
    }
}

/// As [`parse_size`], or nothing.
///
/// # Errors
/// A sentence for what is no size.
pub fn parse_size_or_none(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches("iB").trim_end_matches(['k', 'K', 'M', 'G', 'T', 'B']);
    if digits.parse::<f64>().is_ok_and(|n| n == 0.0) { Ok(0) } else { parse_size(text) }
}

/// The least size that a trace may be bounded to: what describes it takes some of that.
const LEAST_TRACE: u64 = 64 << 10;

/// How large a trace may get.
///
/// # Errors
/// A sentence for what is no size, and for one that holds no trace.
pub fn parse_trace_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        size if size < LEAST_TRACE => {
            Err(format!("{text:?} is too small: a trace takes 64K for what describes it; write 64K, 10M"))
        }
        size => Ok(size),
    }
}

/// `N%` or a fraction, as a fraction.
///
/// # Errors
/// A sentence for what is neither.
pub fn parse_fraction(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |n| (n, 100.0));
    match number.parse::<f64>() {
        Ok(n) if (0.0..=1.0).contains(&(n / scale)) => Ok(n / scale),
        _ => Err(format!("{text:?} is no part of a whole; write 0.1% or 0.001")),
    }
}

/// `2.345s`: a time since the start, ns, to the millisecond.
pub fn seconds(ns: u64) -> String {
    format!("{}.{:03}s", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000_000)
}

/// A time of the civil calendar (UTC), ns since the epoch, as RFC 3339 wants it.
pub fn rfc3339(realtime_ns: u64) -> String {
    let (seconds, ns) = (realtime_ns / 1_000_000_000, realtime_ns % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days as i64);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

/// Date of a day number since 1970-01-01 (proleptic Gregorian; the era arithmetic of Howard Hinnant's `civil_from_days`).
pub(super) fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_as_they_are_written() {
        assert_eq!(parse_duration("250ms"), Ok(250_000_000));
        assert_eq!(parse_duration("1.5m"), Ok(90_000_000_000));
        assert_eq!(parse_duration("2"), Ok(2_000_000_000));
        assert!(
            parse_duration("soon").is_err() && parse_duration("").is_err() && parse_duration("1e9s").is_err()
        );
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("1.5GiB"), Ok(3 << 29));
        assert!(parse_size("0").is_err() && parse_size("1X").is_err());
        assert_eq!(parse_fraction("0.1%"), Ok(0.001));
        assert!(parse_fraction("2").is_err());
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!(duration(1_500_000), "1.5ms");
        assert_eq!(duration(61_000_000_000), "61s");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(bytes(3 << 20), "3.0 MiB");
        assert_eq!(plural(1, "event"), "1 event");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_400_000_000_000), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(rfc3339(1_795_343_960_000_000_005), "2026-11-22T10:39:20.000000005Z");
    }
}
