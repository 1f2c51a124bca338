//! Small pieces that the sections are made of.

use crate::incident::words::{self, Short};
use crate::incident::{Incident, Tone, Traced, after_start};
use crate::text::units;
use ctrace_analysis::EventId;
use ctrace_analysis::picture::Grid;
use maud::{Markup, PreEscaped, html};
use std::fmt::Write as _;

/// One of the traces of a report, and what its links say.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    /// Its number.
    pub(super) n: usize,
    /// The trace.
    pub(super) traced: &'a Traced<'a>,
    /// Whether there are others.
    pub(super) of_many: bool,
    /// The axis of the first trace, on which all are shown from their beginnings.
    axis: Grid,
}

/// The traces of a report.
pub(super) fn sides<'a>(incident: &'a Incident<'a>) -> impl Iterator<Item = Side<'a>> {
    (0..incident.traces.len()).filter_map(|n| Side::of(incident, n))
}

/// A part of a section for each trace: side by side where there is room, else one below the other.
pub(super) fn both<'a>(incident: &'a Incident<'a>, part: impl Fn(Side<'a>) -> Markup) -> Markup {
    beside("sides", incident, part)
}

/// The same of parts that need more room.
pub(super) fn both_wide<'a>(incident: &'a Incident<'a>, part: impl Fn(Side<'a>) -> Markup) -> Markup {
    beside("sides wide", incident, part)
}

fn beside<'a>(class: &str, incident: &'a Incident<'a>, part: impl Fn(Side<'a>) -> Markup) -> Markup {
    let parts: Vec<(Side, Markup)> = sides(incident).map(|side| (side, part(side))).collect();
    if let [(_, only)] = parts.as_slice() {
        return only.clone();
    }
    html! {
        div class=(class) {
            @for (side, part) in parts {
                div.side {
                    h3.side-name { (letter(side.n)) " " (side.label()) }
                    (part)
                }
            }
        }
    }
}

/// The letter of a trace, which its rows have beside its colour.
pub(super) fn letter(n: usize) -> Markup {
    html! { b.letter.{"letter-" (n.min(5))} { (letter_of(n)) } }
}

/// The same for words that are no markup.
pub(super) fn letter_of(n: usize) -> char {
    char::from(b'A' + n.min(25) as u8)
}

impl<'a> Side<'a> {
    /// A trace by its number.
    pub(super) fn of(incident: &Incident<'a>, n: usize) -> Option<Self> {
        let traced = incident.traces.get(n)?;
        let axis = incident.traces.first()?.picture.grid;
        Some(Self { n, traced, of_many: incident.traces.len() > 1, axis })
    }

    /// A time of the trace as the page has it: on the axis of the first trace, and none before its own beginning.
    pub(super) fn on_axis(&self, t_ns: u64) -> u64 {
        let from_ns = self.traced.picture.grid.from_ns;
        t_ns.saturating_sub(from_ns).saturating_add(self.axis.from_ns)
    }

    /// By how much later its times are shown than they are, and whether later: a dump begins where its window does.
    pub(super) fn moved_ns(&self) -> (u64, bool) {
        let from_ns = self.traced.picture.grid.from_ns;
        (self.axis.from_ns.abs_diff(from_ns), self.axis.from_ns > from_ns)
    }

    /// A link to what is so of this trace.
    fn link(&self, kind: &str, id: u32) -> String {
        if self.of_many { format!("#{kind}={id}&trace={}", self.n) } else { format!("#{kind}={id}") }
    }

    /// What it is called.
    pub(super) fn label(&self) -> Markup {
        html! { (self.traced.role.name()) ": " (name(self.traced.name)) }
    }

    /// A title for something of it, not that of another trace.
    pub(super) fn titled(&self, title: &str) -> String {
        if self.of_many {
            format!("{title}, {} {}", self.traced.role.name(), letter_of(self.n))
        } else {
            title.to_owned()
        }
    }

    /// A moment, or the beginning of a stretch: a link that shows it on the timeline.
    pub(super) fn at(&self, from_ns: u64, to_ns: u64) -> Markup {
        let (from, to) = (from_ns.min(to_ns), to_ns.max(from_ns));
        let grid = &self.traced.picture.grid;
        // A moment is shown with a hundredth of the trace on each side.
        let margin = if from == to { grid.duration_ns / 100 } else { 0 };
        let seconds = |ns: u64| {
            let ns = self.on_axis(grid.within(ns));
            format!("{}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000)
        };
        let window =
            format!("#t={}-{}", seconds(from.saturating_sub(margin)), seconds(to.saturating_add(margin)));
        let utc = self.traced.utc(from);
        html! {
            a.at href=(window) data-from=(self.on_axis(from)) data-to=(self.on_axis(to)) data-trace=(self.n) title=[&utc] {
                time datetime=[&utc] { (after_start(from_ns)) }
            }
        }
    }

    /// Both ends of a stretch.
    pub(super) fn stretch(&self, from_ns: u64, to_ns: u64) -> Markup {
        if from_ns == to_ns {
            return self.at(from_ns, to_ns);
        }
        html! { (self.at(from_ns, to_ns)) " to " span.at-end { (after_start(to_ns)) } }
    }

    /// A link to an event.
    pub(super) fn event(&self, id: EventId) -> Markup {
        html! { a.event href=(self.event_link(&id.to_string())) data-event=(id) data-trace=(self.n) { "event" } }
    }

    /// The address of an event.
    pub(super) fn event_link(&self, id: &str) -> String {
        if self.n == 0 { format!("#event={id}") } else { format!("#event={id}@{}", self.n) }
    }

    /// A task.
    pub(super) fn task(&self, comm: &str, tid: u32) -> Markup {
        html! {
            a href=(self.link("task", tid)) data-tid=(tid) data-trace=(self.n) { (name(comm)) "[" (tid) "]" }
        }
    }

    /// The address of a process.
    pub(super) fn process_link(&self, tgid: u32) -> String {
        self.link("process", tgid)
    }

    /// A process.
    pub(super) fn process(&self, comm: &str, tgid: u32) -> Markup {
        html! {
            a href=(self.process_link(tgid)) data-tgid=(tgid) data-trace=(self.n) { (name(comm)) "[" (tgid) "]" }
        }
    }
}

fn shown(short: Short) -> Markup {
    html! {
        (short.head)
        @if let Some((count, tail)) = short.rest {
            span.cut { "…(" (units::count(count)) " characters)…" } (tail)
        }
    }
}

/// A name of the trace.
pub(super) fn name(text: &str) -> Markup {
    html! { bdi.name { (shown(words::short(text, words::NAME))) } }
}

/// A sentence with names in it.
pub(super) fn sentence(text: &str) -> Markup {
    html! { bdi dir="ltr" { (shown(words::short(text, words::SENTENCE))) } }
}

/// A line of code.
pub(super) fn code(text: &str) -> Markup {
    html! { code { bdi dir="ltr" { (shown(words::short(text, words::SENTENCE))) } } }
}

/// A link that filters by a call.
pub(super) fn call(call: &str) -> Markup {
    let call = words::name(call);
    html! { a href={"#call=" (percent(&call))} data-call=(call) { bdi.name { (call) } } }
}

/// A link that filters by an error.
pub(super) fn errno(errno: &str) -> Markup {
    let errno = words::name(errno);
    html! { a.errno href={"#errno=" (percent(&errno))} data-errno=(errno) { bdi.name { (errno) } } }
}

/// A link that filters by an end of connections.
pub(super) fn peer(peer: &str) -> Markup {
    let key = words::name(peer);
    html! { a href={"#peer=" (percent(&key))} data-peer=(key) { (name(peer)) } }
}

/// Words as a part of a URL's fragment.
pub(super) fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/,@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A sign with its meaning in words for those who do not see it.
pub(super) fn sign(tone: Tone) -> Markup {
    let word = match tone {
        Tone::Plain => "",
        Tone::Good => "good: ",
        Tone::Care => "care: ",
        Tone::Bad => "bad: ",
    };
    html! {
        span class={"sign " (tone_class(tone))} aria-hidden="true" { (tone.sign()) }
        @if !word.is_empty() { span.unseen { (word) } }
    }
}

pub(super) const fn tone_class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Care => "care",
        Tone::Bad => "bad",
    }
}

/// A column of a table: its name, and whether it has numbers.
pub(super) type Column = (&'static str, bool);

/// A table in a box of its own, in which it scrolls where the page is too narrow for it.
pub(super) fn table(caption: &str, columns: &[Column], rows: &Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr {
                    @for (column, is_number) in columns {
                        th scope="col" class=[is_number.then_some("number")] { (column) }
                    }
                } }
                tbody { (rows) }
            }
        }
    }
}

/// How many rows are not there.
pub(super) fn more(count: u64, noun: &str) -> Markup {
    html! { @if let Some(text) = crate::incident::left_out(count, noun) { p.more { (text) "." } } }
}

/// A section of the page.
pub(super) fn section(id: &str, title: &str, lead: &str, body: &Markup) -> Markup {
    html! {
        section id=(id) aria-labelledby={"h-" (id)} {
            h2 id={"h-" (id)} { (title) }
            @if !lead.is_empty() { p.lead { (lead) } }
            (body)
        }
    }
}

/// A bar from the middle, to the right for more and to the left for less: `share` from −1 to 1.
pub(super) fn two_way_bar(share: f64) -> Markup {
    let share = if share.is_finite() { share.clamp(-1.0, 1.0) } else { 0.0 };
    let width = share.abs() * 38.0;
    let from = if share < 0.0 { 40.0 - width } else { 40.0 };
    html! {
        svg.bar viewBox="0 0 80 10" width="80" height="10" aria-hidden="true" {
            (line("bar-axis", 40.0, 0.0, 40.0, 10.0))
            (rect(if share < 0.0 { "bar-less" } else { "bar-more" }, from, 2.0, width.max(1.0), 6.0))
        }
    }
}

/// A bar of parts of a whole, each in a class of its own.
pub(super) fn parts_bar(parts: &[(&str, u64)], whole: u64) -> Markup {
    let mut from = 0.0;
    let mut drawn = String::new();
    for (class, part) in parts {
        let width = *part as f64 * 100.0 / whole.max(1) as f64;
        let width = width.min(100.0 - from);
        drawn.push_str(&rect(class, from, 0.0, width, 10.0).into_string());
        from += width;
    }
    html! {
        svg.parts viewBox="0 0 100 10" width="100" height="10" preserveAspectRatio="none" aria-hidden="true" {
            (PreEscaped(drawn))
        }
    }
}

/// Bars for values along time.
pub(super) fn spark(values: &[u32]) -> Markup {
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let step = 120.0 / values.len().max(1) as f64;
    let mut drawn = String::new();
    for (at, value) in values.iter().enumerate().filter(|(_, value)| **value > 0) {
        let height = (f64::from(*value) * 20.0 / f64::from(most)).max(1.5);
        drawn.push_str(
            &rect("spark-bar", at as f64 * step, 20.0 - height, (step - 0.3).max(0.5), height).into_string(),
        );
    }
    html! {
        svg.spark viewBox="0 0 120 20" width="120" height="20" aria-hidden="true" {
            (line("spark-axis", 0.0, 19.75, 120.0, 19.75))
            (PreEscaped(drawn))
        }
    }
}

pub(super) fn rect(class: &str, x: f64, y: f64, width: f64, height: f64) -> Markup {
    html! { rect class=(class) x=(digits(x)) y=(digits(y)) width=(digits(width)) height=(digits(height)) {} }
}

pub(super) fn line(class: &str, x1: f64, y1: f64, x2: f64, y2: f64) -> Markup {
    html! { line class=(class) x1=(digits(x1)) y1=(digits(y1)) x2=(digits(x2)) y2=(digits(y2)) {} }
}

/// A coordinate, with as many digits as show.
pub(super) fn digits(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}
