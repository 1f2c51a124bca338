//! Times as people give and read them: since the start of a trace, by the clock on the wall, or since the event before.
//!
//! The zone is the caller's choice: that of the environment (`TZ`, `/etc/localtime`), as for every other tool of the host.

use super::units;

/// How times are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Time {
    /// Seconds since the start of the trace.
    #[default]
    Relative,
    /// The time of day where you are (TZ).
    Wall,
    /// Seconds since the event that was shown before.
    Delta,
}

/// A zone: seconds east of Greenwich at a time, in seconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub struct Zone(pub fn(i64) -> i64);

impl Zone {
    /// Greenwich.
    pub const UTC: Self = Self(|_| 0);

    fn east_s(self, realtime_s: i64) -> i64 {
        (self.0)(realtime_s)
    }

    /// When clocks of the zone show this, given as if it were of Greenwich.
    fn utc_s(self, shown_s: i64) -> i64 {
        let guess = shown_s - self.east_s(shown_s);
        // If the zone changed between the two, the guess is the better time to ask for.
        shown_s - self.east_s(guess)
    }
}

/// A time that somebody gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// After the start of the trace, ns.
    After(u64),
    /// By the clock on the wall.
    Wall(Wall),
}

/// A date, a time of day, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wall {
    /// Year, month, day; `None`: the day on which the trace began.
    date: Option<(i32, u32, u32)>,
    /// Since midnight.
    of_day_ns: u64,
    /// East of Greenwich, s; `None`: the zone of the environment.
    offset_s: Option<i32>,
}

const SECOND_NS: u64 = 1_000_000_000;
const DAY_S: i64 = 86_400;

/// Reads a time: `2.5s`, `18:52:03.5`, `2026-12-01T18:52:03Z`, `2026-12-01 18:52`.
///
/// # Errors
/// A sentence for what is no time.
pub fn parse(text: &str) -> Result<When, String> {
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
    /// Whether it is of the zone of whoever gave it.
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Wall(Wall { offset_s: None, .. }))
    }

    /// Ns since the start of a trace that began then (ns since the epoch); 0 for what was before. What was given without a
    /// zone is of this one.
    pub fn after_start(self, start_realtime_ns: u64, zone: Zone) -> u64 {
        match self {
            Self::After(ns) => ns,
            Self::Wall(wall) => wall.realtime_ns(start_realtime_ns, zone).saturating_sub(start_realtime_ns),
        }
    }
}

impl Wall {
    fn realtime_ns(self, start_realtime_ns: u64, zone: Zone) -> u64 {
        let start_s = (start_realtime_ns / SECOND_NS) as i64;
        let seconds = (self.of_day_ns / SECOND_NS) as i64;
        let east_s = self.offset_s.map_or_else(|| zone.east_s(start_s), i64::from);
        let day_s = match self.date {
            Some(date) => days(date) * DAY_S,
            None => (start_s + east_s).div_euclid(DAY_S) * DAY_S,
        };
        let at_s = match self.offset_s {
            Some(offset) => day_s + seconds - i64::from(offset),
            None => zone.utc_s(day_s + seconds),
        };
        u64::try_from(at_s).unwrap_or(0).saturating_mul(SECOND_NS).saturating_add(self.of_day_ns % SECOND_NS)
    }
}

/// The time of day in a zone: `18:52:03.123456`.
pub fn time_of_day(realtime_ns: u64, zone: Zone) -> String {
    let at_s = (realtime_ns / SECOND_NS) as i64;
    let second = (at_s + zone.east_s(at_s)).rem_euclid(DAY_S);
    let micros = realtime_ns % SECOND_NS / 1000;
    format!("{:02}:{:02}:{:02}.{micros:06}", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-12-01T18:00:00Z.
    const START: u64 = 1_796_148_000 * SECOND_NS;

    #[test]
    fn times_are_given_in_several_ways() {
        let after = |text| parse(text).unwrap().after_start(START, Zone::UTC);
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

    /// As Berlin: summer ends on 2026-10-25 at 01:00 in Greenwich.
    fn berlin(realtime_s: i64) -> i64 {
        if realtime_s < days((2026, 10, 25)) * DAY_S + 3600 { 7200 } else { 3600 }
    }

    #[test]
    fn a_zone_says_what_clocks_show() {
        let zone = Zone(berlin);
        assert_eq!(time_of_day(START, zone), "19:00:00.000000");
        assert_eq!(time_of_day(START + 1_500, Zone::UTC), "18:00:00.000001");
        let after = |text| parse(text).unwrap().after_start(START, zone);
        assert_eq!(after("19:00:02"), 2 * SECOND_NS);
        assert_eq!(after("2026-12-02"), 5 * 3600 * SECOND_NS);
        // The zone of the day itself, not that of the trace's.
        let summer = (days((2026, 10, 24)) * DAY_S) as u64 * SECOND_NS;
        let asked = parse("2026-10-26 00:00").unwrap().after_start(summer, zone);
        assert_eq!(asked, (2 * DAY_S as u64 - 3600) * SECOND_NS);
    }

    #[test]
    fn days_count_from_the_epoch() {
        assert_eq!(days((1970, 1, 1)), 0);
        assert_eq!(days((2000, 2, 29)), 11_016);
        assert_eq!(days((2026, 12, 1)) * 86_400 + 18 * 3600, (START / SECOND_NS) as i64);
    }
}
