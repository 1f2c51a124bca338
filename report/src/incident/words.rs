//! Words of a trace in a report: visible, on one line, and no longer than a reader bears.

use crate::escape;
use crate::text::units;
use ctrace_analysis::picture::Unit;

/// Characters of a name that are shown.
pub(crate) const NAME: usize = 160;
/// Characters of a sentence or of an event's line that are shown.
pub(crate) const SENTENCE: usize = 700;

/// Words that were made visible, in at most two parts around what was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Short {
    /// The first characters, or all of them.
    pub(crate) head: String,
    /// How many there are in all, and the last ones, when some are left out.
    pub(crate) rest: Option<(u64, String)>,
}

/// Makes words visible and leaves their middle out where there are more than `most` characters of them.
pub(crate) fn short(text: &str, most: usize) -> Short {
    // A text of so few bytes has no more characters.
    let count = if text.len() <= most { text.len() } else { text.chars().count() };
    if count <= most {
        return Short { head: escape::line(text).into_owned(), rest: None };
    }
    let (head, tail) = (most * 2 / 3, most / 3);
    let at = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    let from = text.char_indices().rev().nth(tail.max(1) - 1).map_or(0, |(at, _)| at);
    Short {
        head: escape::line(&text[..at(head)]).into_owned(),
        rest: Some((count as u64, escape::line(&text[from..]).into_owned())),
    }
}

impl Short {
    /// As one text.
    pub(crate) fn text(self) -> String {
        match self.rest {
            None => self.head,
            Some((count, tail)) => format!("{}…({} characters)…{tail}", self.head, units::count(count)),
        }
    }
}

/// A name as one text.
pub(crate) fn name(text: &str) -> String {
    short(text, NAME).text()
}

/// A sentence as one text.
pub(crate) fn sentence(text: &str) -> String {
    short(text, SENTENCE).text()
}

/// A number with three digits that matter.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "?".to_owned();
    }
    let size = value.abs();
    let text = if size == 0.0 || (value.fract() == 0.0 && size < 1e15) || size >= 1_000.0 {
        let whole = units::count(size.round() as u64);
        return if value < 0.0 && size.round() > 0.0 { format!("−{whole}") } else { whole };
    } else if size >= 100.0 {
        format!("{size:.0}")
    } else if size >= 10.0 {
        format!("{size:.1}")
    } else if size >= 1.0 {
        format!("{size:.2}")
    } else {
        format!("{size:.3}")
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if value < 0.0 && text != "0" { format!("−{text}") } else { text.to_owned() }
}

/// A value of a curve.
pub(crate) fn value(value: f64, unit: Unit) -> String {
    if !value.is_finite() {
        return "?".to_owned();
    }
    match unit {
        Unit::PerSecond => format!("{}/s", number(value)),
        Unit::Ns => nanoseconds(value),
        Unit::Bytes => units::bytes(value.max(0.0) as u64),
        Unit::Count => number(value),
        Unit::Share => format!("{} %", number(value * 100.0)),
    }
}

/// A duration as tables show it: three digits that matter.
pub(crate) fn time(ns: u64) -> String {
    nanoseconds(ns as f64)
}

fn nanoseconds(ns: f64) -> String {
    match ns.abs() {
        size if size < 1e3 => format!("{} ns", number(ns.round())),
        size if size < 1e6 => format!("{} µs", number(ns / 1e3)),
        size if size < 1e9 => format!("{} ms", number(ns / 1e6)),
        size if size < 120e9 => format!("{} s", number(ns / 1e9)),
        _ => format!("{} min", number(ns / 60e9)),
    }
}

/// How large an effect is, by the usual bounds for Cliff's delta (Romano et al. 2006).
pub(crate) fn effect(delta: f64) -> &'static str {
    match delta.abs() {
        size if size < 0.147 => "negligible",
        size if size < 0.33 => "small",
        size if size < 0.474 => "medium",
        size if size < 1.0 => "large",
        _ => "complete",
    }
}

/// How often out of how many, in percent, never rounded to none or all.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 || part == 0 {
        return "0 %".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    match percent {
        p if p < 0.1 => "< 0.1 %".to_owned(),
        p if p > 99.9 && part < whole => "> 99.9 %".to_owned(),
        p => format!("{} %", number((p * 10.0).round() / 10.0)),
    }
}

/// `▁▂█`: values as a line of blocks of rising height.
pub(crate) fn spark(values: &[u32]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = u64::from(values.iter().copied().max().unwrap_or(0));
    let block = |value: u32| match value {
        // What is there at all must be seen.
        0 => BLOCKS[0],
        value => BLOCKS[(u64::from(value) * 7).div_ceil(most.max(1)).min(7) as usize],
    };
    values.iter().map(|value| block(*value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_its_ends_and_tells_its_length() {
        let long = format!("/srv/{}/end", "é".repeat(1 << 20));
        let shown = name(&long);
        assert!(shown.starts_with("/srv/é") && shown.ends_with("é/end"), "{shown}");
        assert!(shown.contains("1,048,585 characters") && shown.chars().count() < NAME + 40, "{shown}");
        assert_eq!(name("a\u{202e}b\0"), "a\\u{202e}b\\u{0}");
        // What is spelled out takes more room, but not without bound.
        assert!(name(&"\u{202e}".repeat(5_000)).len() < 10 * NAME + 40);
        assert_eq!(name(&"é".repeat(NAME)).chars().count(), NAME);
    }

    #[test]
    fn values_have_their_units_and_three_digits() {
        assert_eq!(value(1_234.56, Unit::PerSecond), "1,235/s");
        assert_eq!(value(2_512_345.0, Unit::Ns), "2.51 ms");
        assert_eq!(value(0.5, Unit::Share), "50 %");
        assert_eq!(value(-0.0001, Unit::Count), "0");
        assert_eq!(value(f64::NAN, Unit::Count), "?");
        assert_eq!(value(12.0, Unit::Count), "12");
        assert_eq!((share(1, 100_000), share(99_999, 100_000)), ("< 0.1 %".into(), "> 99.9 %".into()));
        assert_eq!(share(180, 181), "99.4 %");
    }

    #[test]
    fn a_sparkline_shows_what_is_there_at_all() {
        assert_eq!(spark(&[0, 1, 50, 100]), "▁▂▅█");
        assert_eq!(spark(&[0, 0]), "▁▁");
        assert_eq!(spark(&[u32::MAX, 1]), "█▂");
        assert_eq!(spark(&[]), "");
    }
}
