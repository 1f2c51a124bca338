//! The data that the script of a page draws: one object of JSON.

use crate::escape;
use crate::incident::{Incident, Traced, words};
use crate::text::Events;
use crate::text::decode;
use crate::{Paint, text::units};
use ctrace_analysis::picture::{Lane, Ranked};
use ctrace_format::{Class, Event, Filter, Trace};
use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};
use std::io::{self, Write};

/// How much of the lists travels in a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amount {
    /// Events of each trace.
    pub(super) events: usize,
    /// Lanes of each trace.
    pub(super) lanes: usize,
}

/// Amounts that are tried, until the data fit.
pub(super) const AMOUNTS: [Amount; 7] = [
    Amount { events: usize::MAX, lanes: usize::MAX },
    Amount { events: 2_000, lanes: 30 },
    Amount { events: 1_000, lanes: 20 },
    Amount { events: 500, lanes: 12 },
    Amount { events: 200, lanes: 8 },
    Amount { events: 50, lanes: 4 },
    Amount { events: 0, lanes: 0 },
];

#[derive(Serialize)]
struct Data<'a> {
    schema: u32,
    traces: Vec<One<'a>>,
    first_divergence: Option<Moments>,
}

#[derive(Serialize)]
struct Moments {
    a_ns: Option<u64>,
    b_ns: Option<u64>,
}

#[derive(Serialize)]
struct One<'a> {
    name: String,
    label: &'static str,
    start_realtime_ns: String,
    grid: &'a ctrace_analysis::picture::Grid,
    panels: &'a [ctrace_analysis::picture::Panel],
    gaps: &'a [ctrace_analysis::picture::Gap],
    spans: &'a [ctrace_analysis::picture::Span],
    lanes: Ranked<&'a Lane>,
    sample: Shown<'a>,
}

#[derive(Serialize)]
struct Shown<'a> {
    of: u64,
    events: Vec<&'a Row>,
}

/// An event of the sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// Its id, as `ctrace events --at` takes it.
    pub(super) id: String,
    /// When it began.
    pub(super) t: u64,
    /// How long it took.
    pub(super) d: u64,
    pub(super) tid: u32,
    pub(super) tgid: u32,
    pub(super) comm: String,
    pub(super) role: String,
    #[serde(rename = "type")]
    pub(super) class: &'static str,
    pub(super) call: String,
    pub(super) errno: Option<String>,
    pub(super) peer: Option<String>,
    pub(super) text: String,
}

/// The events of a trace's sample as rows, in order of their ends.
pub(super) fn rows(traced: &Traced) -> Vec<Row> {
    let trace = traced.trace;
    let mut events = Events::new(trace, Paint::none());
    // What descriptors refer to is learnt from events that come rarely.
    let classes = vec![Class::Process, Class::Connection];
    let mut rare = trace.events(&Filter { classes, ..Filter::default() }).flatten().peekable();
    let mut rows = Vec::with_capacity(traced.picture.sample.events.len());
    for event in &traced.picture.sample.events {
        while let Some(before) = rare.next_if(|rare| rare.end_ns() <= event.end_ns()) {
            events.learn(&before);
        }
        if let Some(line) = events.line(event) {
            rows.push(row(traced, &events, event, &line));
        }
    }
    rows
}

fn row(traced: &Traced, events: &Events, event: &Event, line: &str) -> Row {
    let trace: &Trace = traced.trace;
    let task = event.task().map(|id| trace.task(id));
    let (tid, tgid) = task.map_or((0, 0), |task| (task.tid.0, task.tgid.0));
    let comm = task.map_or_else(String::new, |task| decode::plain(trace.str(task.comm)));
    let (call, errno, peer) = match event {
        Event::Syscall(call) => {
            let peer = events.call(call).peer();
            let errno = call.errno().map(decode::errno_name);
            (events.call(call).name.to_owned(), errno, peer)
        }
        Event::Connection(connection) => (String::new(), None, Some(decode::address(&connection.peer))),
        _ => (String::new(), None, None),
    };
    let line = without_prefix(line, &comm, tid);
    let role = traced.picture.processes.rows.iter().find(|p| p.tgid == tgid).map(|p| words::name(&p.role));
    let duration_ns = event.end_ns().saturating_sub(event.start_ns());
    Row {
        id: format!("{}-{tid}", event.end_ns()),
        t: event.start_ns(),
        d: duration_ns,
        tid,
        tgid,
        role: role.unwrap_or_else(|| words::name(&comm)),
        comm: words::name(&comm),
        class: event.class().name(),
        call: words::name(&call),
        errno,
        peer: peer.map(|peer| words::name(&peer)),
        text: words::sentence(line),
    }
}

/// A line of an event without its time and its task, which have places of their own.
fn without_prefix<'a>(line: &'a str, comm: &str, tid: u32) -> &'a str {
    let rest = line.trim_start().split_once(' ').map_or(line, |(_, rest)| rest.trim_start());
    let who = format!("{}[{tid}]", if comm.is_empty() { "?" } else { comm });
    rest.strip_prefix(who.as_str()).map_or(rest, str::trim_start)
}

/// The object, of which nothing is taken for markup.
pub(super) fn json(incident: &Incident, rows: &[Vec<Row>], amount: Amount) -> String {
    let traces = incident.traces.iter().zip(rows).map(|(traced, rows)| one(traced, rows, amount)).collect();
    let first_divergence = incident.compared.first().and_then(|compared| {
        let told = compared.report.first_divergence.as_ref()?;
        let at = |n: usize, ns: Option<u64>| Some(incident.traces.get(n)?.in_trace(ns?));
        Some(Moments { a_ns: at(0, told.a_ns), b_ns: at(compared.b, told.b_ns) })
    });
    let data = Data { schema: 1, traces, first_divergence };
    let mut out = Vec::new();
    // Neither a value nor memory refuses.
    let _ = data.serialize(&mut Serializer::with_formatter(&mut out, Inert::default()));
    String::from_utf8(out).unwrap_or_default()
}

fn one<'a>(traced: &Traced<'a>, rows: &'a [Row], amount: Amount) -> One<'a> {
    let picture = traced.picture;
    let lanes: Vec<&Lane> = picture.lanes.rows.iter().take(amount.lanes).collect();
    let left_out = picture.lanes.left_out + (picture.lanes.rows.len() - lanes.len()) as u64;
    One {
        name: words::name(traced.name),
        label: traced.role.name(),
        start_realtime_ns: traced.trace.header().start_realtime_ns.to_string(),
        grid: &picture.grid,
        panels: &picture.panels,
        gaps: &picture.gaps,
        spans: &picture.spans,
        lanes: Ranked { rows: lanes, left_out },
        sample: Shown { of: picture.sample.of, events: thinned(rows, amount.events) },
    }
}

/// Every n-th event, so that no stretch of time loses all of its own.
fn thinned(rows: &[Row], most: usize) -> Vec<&Row> {
    if most == 0 {
        return Vec::new();
    }
    rows.iter().step_by(rows.len().div_ceil(most).max(1)).collect()
}

/// JSON in a page: what could end its element, or act on who reads it, is spelled out; numbers have five digits, and strings
/// are bounded.
#[derive(Default)]
struct Inert {
    written: usize,
    dropped: usize,
}

impl Inert {
    /// Characters of a string that are kept.
    const MOST: usize = 1_024;

    fn push<W: ?Sized + Write>(&mut self, writer: &mut W, c: char) -> io::Result<()> {
        if self.written >= Self::MOST {
            self.dropped += 1;
            return Ok(());
        }
        self.written += 1;
        if "<>&".contains(c) {
            return write!(writer, "\\u{:04x}", u32::from(c));
        }
        let mut text = String::new();
        escape::push(&mut text, c);
        write!(writer, "{}", text.replace('\\', "\\\\"))
    }
}

impl Formatter for Inert {
    fn begin_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        (self.written, self.dropped) = (0, 0);
        CompactFormatter.begin_string(writer)
    }

    fn end_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.dropped > 0 {
            write!(writer, "…({} more characters)", units::count(self.dropped as u64))?;
        }
        CompactFormatter.end_string(writer)
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let is_plain = |b: u8| (b' '..0x7f).contains(&b) && !b"<>&".contains(&b);
        if fragment.bytes().all(is_plain) && self.written + fragment.len() <= Self::MOST {
            self.written += fragment.len();
            return writer.write_all(fragment.as_bytes());
        }
        fragment.chars().try_for_each(|c| self.push(writer, c))
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::Quote | CharEscape::ReverseSolidus | CharEscape::Solidus => {
                if self.written >= Self::MOST {
                    self.dropped += 1;
                    return Ok(());
                }
                self.written += 1;
                CompactFormatter.write_char_escape(writer, escape)
            }
            CharEscape::Backspace => self.push(writer, '\u{8}'),
            CharEscape::FormFeed => self.push(writer, '\u{c}'),
            CharEscape::LineFeed => self.push(writer, '\n'),
            CharEscape::CarriageReturn => self.push(writer, '\r'),
            CharEscape::Tab => self.push(writer, '\t'),
            CharEscape::AsciiControl(byte) => self.push(writer, char::from(byte)),
        }
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value.fract() == 0.0 && value.abs() < 1e15 {
            return write!(writer, "{}", value as i64);
        }
        // Five digits that matter are more than a screen shows.
        let places = (4 - value.abs().log10().floor() as i64).clamp(0, 12) as usize;
        let text = format!("{value:.places$}");
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        writer.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inert(value: &impl Serialize) -> String {
        let mut out = Vec::new();
        value.serialize(&mut Serializer::with_formatter(&mut out, Inert::default())).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_in_the_data_ends_their_element() {
        let text = inert(&["</script><!--", "a&b\u{2028}\u{202e}\n\0", "\"\\/"]);
        assert!(!text.contains(['<', '>', '&', '\u{2028}', '\u{202e}']), "{text}");
        let read: Vec<String> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, ["</script><!--", "a&b\\u{2028}\\u{202e}\\n\\u{0}", "\"\\/"]);
    }

    #[test]
    fn strings_and_numbers_are_bounded() {
        let text = inert(&"x".repeat(1 << 20));
        assert!(text.len() < 5_000 && text.contains("1,047,552 more characters"), "{}", text.len());
        let text = inert(&[1.0, 0.123_456_789, 1_234.567_89, -0.5, 1e300, 0.0]);
        assert!(text.starts_with("[1,0.12346,1234.6,-0.5,1"), "{text}");
        let read: Vec<f64> = serde_json::from_str(&text).unwrap();
        assert!((read[4] / 1e300 - 1.0).abs() < 1e-3, "{text}");
        assert_eq!(inert(&f64::NAN), "null");
    }
}
