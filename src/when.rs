//! Times as people give and read them: since the start of a trace, by the clock on the wall, or since the event before.
//!
//! The zone is that of the environment (`TZ`, `/etc/localtime`), as for every other tool of the host.

use crate::units;

/// How times are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Time {
    /// Seconds since the start of the trace.
    #[default]
    Relative,
    /// The time of day where you are (TZ).
    Wall,
    /// Seconds since the event that was shown before.
    Delta,
}

/// A time that somebody gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// After the start of the trace, ns.
    After(u64),
    /// By the clock on the wall.
    Wall(Wall),
}

/// A date, a time of day, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wall {
    /// Year, month, day; `None`: the day on which the trace began.
    date: Option<(i32, u32, u32)>,
    /// Since midnight.
    of_day_ns: u64,
    /// East of Greenwich, s; `None`: the zone of the environment.
    offset_s: Option<i32>,
}

const SECOND_NS: u64 = 1_000_000_000;

/// Parses a time: `2.5s`, `18:52:03.5`, `2026-12-01T18:52:03Z`, `2026-12-01 18:52`.
pub(crate) fn parse(text: &str) -> Result<When, String> {
    let text = text.trim();
    if let Ok(after) = units::parse_duration(text) {
        return Ok(When::After(after));
    }
    wall(text).map(When::Wall).ok_or_else(|| {
        format!(
            "{text:?} is no time: say how long after the start of the trace (2.5s, 3m), a time of day (18:52:03.5), or a date \
             (2026-12-01T18:52:03Z, 2026-12-01 18:52)"
        )
    })
}

fn wall(text: &str) -> Option<Wall> {
    let (date, rest) = match text.split_once(['T', ' ']) {
        Some((date, rest)) => (Some(day(date)?), rest),
        None if text.contains(':') => (None, text),
        None => return Some(Wall { date: Some(day(text)?), of_day_ns: 0, offset_s: None }),
    };
    let (time, offset_s) = zone(rest.trim())?;
    Some(Wall { date, of_day_ns: of_day(time)?, offset_s })
}

fn number<T: std::str::FromStr>(digits: &str) -> Option<T> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

fn day(text: &str) -> Option<(i32, u32, u32)> {
    let mut parts = text.split('-');
    let date = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    let (year, month, day) = date;
    let is_day = parts.next().is_none()
        && (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day);
    is_day.then_some(date)
}

/// The time without the zone, and the zone.
fn zone(text: &str) -> Option<(&str, Option<i32>)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, Some(0)));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, None)) };
    let (hours, minutes) = text[at + 1..].split_once(':').unwrap_or((&text[at + 1..], "0"));
    let (hours, minutes): (i32, i32) = (number(hours)?, number(minutes)?);
    let offset = hours * 3600 + minutes * 60;
    let is_offset = hours <= 14 && minutes < 60;
    is_offset.then_some((&text[..at], Some(if text[at..].starts_with('-') { -offset } else { offset })))
}

fn of_day(text: &str) -> Option<u64> {
    let mut parts = text.split(':');
    let (hours, minutes): (u64, u64) = (number(parts.next()?)?, number(parts.next()?)?);
    let seconds = parts.next().unwrap_or("0");
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let whole: u64 = number(whole)?;
    let digits = fraction.len().min(9);
    let nanos = if fraction.is_empty() {
        0
    } else {
        number::<u64>(&fraction[..digits])? * 10_u64.pow(9 - digits as u32)
    };
    let is_time = parts.next().is_none() && hours < 24 && minutes < 60 && whole < 61;
    is_time.then_some((hours * 3600 + minutes * 60 + whole) * SECOND_NS + nanos)
}

/// Days since 1970-01-01 of a day of the proleptic Gregorian calendar.
fn days((year, month, day): (i32, u32, u32)) -> i64 {
    let (year, month, day) = (i64::from(year), i64::from(month), i64::from(day));
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

impl When {
    /// Since the start of a trace that began then; 0 for what was before.
    pub(crate) fn after_start(self, start_realtime_ns: u64) -> u64 {
        match self {
            Self::After(ns) => ns,
            Self::Wall(wall) => wall.realtime_ns(start_realtime_ns).saturating_sub(start_realtime_ns),
        }
    }
}

impl Wall {
    fn realtime_ns(self, start_realtime_ns: u64) -> u64 {
        let start_s = (start_realtime_ns / SECOND_NS) as i64;
        let seconds = (self.of_day_ns / SECOND_NS) as i64;
        let at_s = match (self.offset_s, self.date) {
            (Some(offset), Some(date)) => days(date) * 86_400 + seconds - i64::from(offset),
            (Some(offset), None) => {
                let offset = i64::from(offset);
                (start_s + offset).div_euclid(86_400) * 86_400 + seconds - offset
            }
            (None, date) => {
                let here = local(start_s);
                let date = date.unwrap_or((here.tm_year + 1900, here.tm_mon as u32 + 1, here.tm_mday as u32));
                from_local(date, seconds)
            }
        };
        u64::try_from(at_s).unwrap_or(0).saturating_mul(SECOND_NS).saturating_add(self.of_day_ns % SECOND_NS)
    }
}

/// The parts of a time, in the zone of the environment.
fn local(realtime_s: i64) -> libc::tm {
    // SAFETY: all zeros are a valid `tm`: numbers, and a zone's name that is null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both point to values that live until the call returns.
    unsafe { libc::localtime_r(&raw const realtime_s, &raw mut parts) };
    parts
}

fn from_local((year, month, day): (i32, u32, u32), seconds: i64) -> i64 {
    // SAFETY: as in `local`.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    parts.tm_year = year - 1900;
    parts.tm_mon = month as i32 - 1;
    parts.tm_mday = day as i32;
    parts.tm_hour = (seconds / 3600) as i32;
    parts.tm_min = (seconds / 60 % 60) as i32;
    parts.tm_sec = (seconds % 60) as i32;
    parts.tm_isdst = -1;
    // SAFETY: it points to a value that lives until the call returns.
    unsafe { libc::mktime(&raw mut parts) }
}

/// The time of day, in the zone of the environment: `18:52:03.123456`.
pub(crate) fn time_of_day(realtime_ns: u64) -> String {
    let parts = local((realtime_ns / SECOND_NS) as i64);
    let micros = realtime_ns % SECOND_NS / 1000;
    format!("{:02}:{:02}:{:02}.{micros:06}", parts.tm_hour, parts.tm_min, parts.tm_sec)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-12-01T18:00:00Z.
    const START: u64 = 1_796_148_000 * SECOND_NS;

    #[test]
    fn times_are_given_in_several_ways() {
        let after = |text| parse(text).unwrap().after_start(START);
        assert_eq!(after("2.5s"), 2_500_000_000);
        assert_eq!(after("2026-12-01T18:00:03.25Z"), 3_250_000_000);
        assert_eq!(after("2026-12-01T20:00:01+02:00"), SECOND_NS);
        assert_eq!(after("18:00:07Z"), 7 * SECOND_NS);
        assert_eq!(after("2026-12-02T00:00:00Z"), 6 * 3600 * SECOND_NS);
        // It was before the trace began.
        assert_eq!(after("2026-12-01T17:00:00Z"), 0);
        for none in
            ["", "soon", "25:00", "2026-13-01", "12:61", "2026-12-01T18:00:00+99:00", "1:2:3:4", "-1s"]
        {
            assert!(parse(none).is_err(), "{none}");
        }
    }

    #[test]
    fn days_count_from_the_epoch() {
        assert_eq!(days((1970, 1, 1)), 0);
        assert_eq!(days((2000, 2, 29)), 11_016);
        assert_eq!(days((2026, 12, 1)) * 86_400 + 18 * 3600, (START / SECOND_NS) as i64);
    }
}
