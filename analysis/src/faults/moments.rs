//! Times, stretches of time and amounts, as plans write them.

use crate::near::similar;

/// Longest time: ten days.
const MAX_NS: f64 = 864_000e9;
/// Nanoseconds of the units of time.
const UNITS: [(&str, f64); 6] =
    [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// A mistake in a scalar: where, in bytes from its beginning, and what.
pub(super) type Mistake = (usize, String);

/// A time with its unit, in ns.
pub(super) fn time(text: &str) -> Result<u64, Mistake> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let what = if unit.is_empty() {
            format!("{text:?} is a time without a unit; write {text}ms, or ns, us, s, m, h")
        } else {
            let hint = similar(unit, UNITS.map(|(name, _)| name));
            format!("{unit:?} is no unit of time{hint}; there are ns, us, ms, s, m, h")
        };
        return Err((digits.len(), what));
    };
    let ns = digits.parse().ok().map(|number: f64| number * scale);
    match ns.filter(|ns| ns.is_finite() && *ns >= 0.0 && digits.starts_with(|c: char| c.is_ascii_digit())) {
        Some(ns) if ns <= MAX_NS => Ok(ns.round() as u64),
        Some(_) => Err((0, "a time is ten days at most".to_owned())),
        None => Err((0, format!("{text:?} is no time; write 200us, 5ms, 1.5s"))),
    }
}

/// A stretch of the recording's clock, which begins with the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Calls that begin from here on, ns.
    pub from_ns: u64,
    /// And before this; `None`: to the end.
    pub to_ns: Option<u64>,
}

impl Window {
    /// Whether a time is in it.
    pub const fn has(self, t_ns: u64) -> bool {
        let ended = match self.to_ns {
            Some(to_ns) => t_ns >= to_ns,
            None => false,
        };
        t_ns >= self.from_ns && !ended
    }

    /// `12s..40s`, `12s..`, `..40s`.
    pub(super) fn parse(text: &str) -> Result<Self, Mistake> {
        let Some((from, to)) = text.split_once("..") else {
            return Err((0, format!("{text:?} is no window; write 12s..40s, 12s.., or ..40s")));
        };
        let from_ns = if from.is_empty() { 0 } else { time(from)? };
        let after = from.len() + 2;
        let to_ns =
            if to.is_empty() { None } else { Some(time(to).map_err(|(at, what)| (after + at, what))?) };
        if to_ns.is_some_and(|to_ns| to_ns <= from_ns) {
            return Err((after, "the window ends before it begins".to_owned()));
        }
        if from.is_empty() && to.is_empty() {
            return Err((0, "a window has a beginning or an end".to_owned()));
        }
        Ok(Self { from_ns, to_ns })
    }
}

/// Stretches that come again and again: as many ns on, then as many off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// How long one lasts; not 0.
    pub active_ns: u64,
    /// The time between two.
    pub dormant_ns: u64,
    /// When the first begins, on the recording's clock.
    pub delay_ns: u64,
}

impl Burst {
    /// Whether a time is in one.
    pub const fn has(self, t_ns: u64) -> bool {
        match t_ns.checked_sub(self.delay_ns) {
            Some(since_ns) => since_ns % (self.active_ns.saturating_add(self.dormant_ns)) < self.active_ns,
            None => false,
        }
    }

    /// `ACTIVE/DORMANT[/DELAY]`.
    pub(super) fn parse(text: &str) -> Result<Self, Mistake> {
        let mut times = Vec::new();
        let mut at = 0;
        for part in text.split('/') {
            times.push(time(part).map_err(|(inner, what)| (at + inner, what))?);
            at += part.len() + 1;
        }
        match times[..] {
            [0, ..] => Err((0, "a burst lasts longer than 0".to_owned())),
            [active_ns, dormant_ns] => Ok(Self { active_ns, dormant_ns, delay_ns: 0 }),
            [active_ns, dormant_ns, delay_ns] => Ok(Self { active_ns, dormant_ns, delay_ns }),
            _ => Err((0, format!("{text:?} is no burst; write ACTIVE/DORMANT[/DELAY], as 2s/8s/1s"))),
        }
    }
}

/// Most times that errors may come as often.
pub(super) const MAX_RATE: f64 = 10_000.0;

/// `recorded*K`: errors are to come K times as often as in the recording.
pub(super) fn rate(text: &str) -> Result<f64, Mistake> {
    let Some((word, times)) = text.split_once('*') else {
        return Err((0, format!("{text:?} is no rate; write recorded*5: five times as often as recorded")));
    };
    if word.trim_end() != "recorded" {
        let hint = similar(word.trim_end(), ["recorded"]);
        return Err((0, format!("{word:?} is no rate{hint}; write recorded*5")));
    }
    let number = times.trim_start();
    let factor = number.parse().ok().filter(|factor: &f64| *factor > 1.0 && *factor <= MAX_RATE);
    factor.ok_or_else(|| {
        let what = format!("{number:?} is no factor; one is more than 1 and {MAX_RATE} at most");
        (text.len() - number.len(), what)
    })
}

/// `finding:N`, or `N`: the finding that `ctrace info` gives this number.
pub(super) fn finding(text: &str) -> Result<u32, Mistake> {
    let number = text.strip_prefix("finding:").unwrap_or(text);
    let rank =
        number.parse().ok().filter(|rank| *rank > 0 && number.starts_with(|c: char| c.is_ascii_digit()));
    rank.ok_or_else(|| (0, format!("{text:?} is no finding; write finding:1, as ctrace info numbers them")))
}

/// A number of bytes: `4096`, `4KiB`, `10kB`, `1MiB`, `2GB`.
pub(super) fn bytes(text: &str) -> Result<u64, Mistake> {
    const BYTES: [(&str, u64); 9] = [
        ("", 1),
        ("B", 1),
        ("kB", 1000),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let Some((_, scale)) = BYTES.iter().find(|(name, _)| *name == unit) else {
        let hint = similar(unit, BYTES.map(|(name, _)| name));
        return Err((
            digits.len(),
            format!("{unit:?} is no unit of bytes{hint}; there are B, kB, MB, GB, KiB, MiB, GiB"),
        ));
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let bytes = digits.parse().ok().filter(|_| is_number).and_then(|n: u64| n.checked_mul(*scale));
    bytes.ok_or_else(|| (0, format!("{text:?} is no number of bytes; write 4096, 64KiB, 1MB")))
}

/// A share: `40%`, as 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, Mistake> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    let share = number
        .filter(|number| (0.0..=100.0).contains(number) && text.starts_with(|c: char| c.is_ascii_digit()));
    share.map(|number| number / 100.0).ok_or_else(|| (0, format!("{text:?} is no share; write 0% to 100%")))
}

/// A part, 0 to 1.
pub(super) fn part(text: &str) -> Result<f64, Mistake> {
    let part = text.parse().ok().filter(|part: &f64| (0.0..1.0).contains(part));
    part.ok_or_else(|| (0, format!("{text:?} is no part of what a call moves: from 0 to below 1")))
}

/// `@argN=HEX,…`.
pub(super) fn pokes(text: &str) -> Result<(), Mistake> {
    let mut at = 0;
    for poke in text.split(',') {
        let parsed = poke.strip_prefix("@arg").and_then(|rest| rest.split_once('=')).filter(|(arg, data)| {
            matches!(arg.parse(), Ok(1..=7_u8))
                && !data.is_empty()
                && data.len().is_multiple_of(2)
                && data.bytes().all(|b| b.is_ascii_hexdigit())
        });
        if parsed.is_none() {
            return Err((at, format!("{poke:?} is no change of an argument; write @arg2=00ff")));
        }
        at += poke.len() + 1;
    }
    Ok(())
}
