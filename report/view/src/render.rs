//! The screen. Everything on it was made harmless before it came here, and is cut to columns here.

mod events;
mod findings;
mod timeline;

use crate::app::{App, Pending, View};
use crate::keys::HELP;
use crate::side::Told;
use ctrace_report::text::units;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use std::fmt::Write as _;
use unicode_width::UnicodeWidthChar;

/// Columns in front of the timeline's figures.
pub(crate) const LABEL: u16 = 13;
/// The least that everything fits on.
const LEAST: (u16, u16) = (40, 10);
/// Two traces are side by side from so many columns on, else one above the other.
const WIDE: u16 = 140;

/// How words look. Nothing is said by a colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Title,
    Chosen,
    Dim,
    Bad,
    Warning,
    Good,
}

impl Look {
    pub(super) fn style(self, colours: bool) -> Style {
        let style = Style::new();
        let tint = |style: Style, colour| if colours { style.fg(colour) } else { style };
        match self {
            Self::Plain => style,
            Self::Title => style.add_modifier(Modifier::BOLD),
            Self::Chosen => style.add_modifier(Modifier::REVERSED),
            Self::Dim => style.add_modifier(Modifier::DIM),
            Self::Bad => tint(style, Color::Red).add_modifier(Modifier::BOLD),
            Self::Warning => tint(style, Color::Yellow),
            Self::Good => tint(style, Color::Green),
        }
    }
}

/// Where something is drawn.
pub(super) struct Canvas<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) colours: bool,
}

impl Canvas<'_> {
    /// Writes words from a column on, and returns the column behind them. What has no room is cut.
    pub(super) fn put(&mut self, area: Rect, x: u16, y: u16, text: &str, look: Look) -> u16 {
        let area = area.intersection(self.buffer.area);
        if y >= area.bottom() || x >= area.right() || y < area.y {
            return x;
        }
        let room = usize::from(area.right() - x);
        let text = fit(text, room);
        self.buffer.set_stringn(x, y, &text, room, look.style(self.colours)).0
    }

    /// Writes a line at the left end.
    pub(super) fn line(&mut self, area: Rect, row: u16, text: &str, look: Look) {
        self.put(area, area.x, area.y + row, text, look);
    }

    /// Makes a line of the screen look so.
    pub(super) fn paint(&mut self, area: Rect, row: u16, look: Look) {
        let line = Rect { y: area.y + row, height: 1, ..area }.intersection(self.buffer.area);
        self.buffer.set_style(line, look.style(self.colours));
    }

    /// Makes a column look so.
    pub(super) fn column(&mut self, area: Rect, x: u16, look: Look) {
        let column = Rect { x, width: 1, ..area }.intersection(self.buffer.area);
        self.buffer.set_style(column, look.style(self.colours));
    }
}

/// Characters of no width that may stand on one that has: more would reach into other lines.
const MOST_MARKS: usize = 2;

/// A text that takes at most so many columns; what was cut off is told by an ellipsis.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if text.len() <= columns && text.is_ascii() {
        return text.to_owned();
    }
    let (mut out, mut width, mut marks) = (String::new(), 0, 0);
    // Up to here there is still room for the ellipsis.
    let mut safe = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if wide == 0 {
            marks += 1;
            if marks <= MOST_MARKS {
                out.push(c);
            }
            continue;
        }
        marks = 0;
        if width + wide > columns {
            out.truncate(safe);
            if columns > 0 {
                out.push('…');
            }
            return out;
        }
        out.push(c);
        width += wide;
        if width < columns {
            safe = out.len();
        }
    }
    out
}

/// A text without its first columns.
pub(super) fn skip(text: &str, columns: usize) -> &str {
    let mut width = 0;
    for (at, c) in text.char_indices() {
        let wide = c.width().unwrap_or(0);
        if width >= columns && wide > 0 {
            return &text[at..];
        }
        width += wide;
    }
    if columns == 0 { text } else { "" }
}

/// Lines of at most so many columns, broken at blanks.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let width = |text: &str| text.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        let mut word = word;
        let gap = usize::from(!line.is_empty());
        if width(&line) + gap + width(word) > columns && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        } else if gap == 1 {
            line.push(' ');
        }
        while width(word) > columns.max(1) {
            let rest = skip(word, columns.max(1));
            // A wide character that has no room at all is left out.
            lines.push(fit(&word[..word.len() - rest.len()], columns.max(2)));
            word = rest;
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// `12.345678`: a time since the start.
pub(super) fn time(t_ns: u64) -> String {
    format!("{}.{:06}", t_ns / 1_000_000_000, t_ns % 1_000_000_000 / 1_000)
}

impl App {
    /// Where each trace is shown.
    pub(super) fn areas(&self) -> Vec<Rect> {
        let (width, height) = self.size;
        let body = Rect::new(0, 1, width, height.saturating_sub(3));
        if self.sides.len() == 1 {
            return vec![body];
        }
        if width >= WIDE && self.view != View::Timeline {
            let half = width / 2;
            return vec![
                Rect { width: half.saturating_sub(1), ..body },
                Rect { x: half, width: width - half, ..body },
            ];
        }
        let half = body.height / 2;
        vec![Rect { height: half, ..body }, Rect { y: body.y + half, height: body.height - half, ..body }]
    }

    /// Where the lists of events are.
    pub(crate) fn list_areas(&self) -> Vec<Rect> {
        let detail = self.detail_height();
        self.areas()
            .into_iter()
            .map(|area| {
                let list = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
                Rect { height: list.height.saturating_sub(detail), ..list }
            })
            .collect()
    }

    /// Lines of the detail, with its title; of each trace.
    pub(super) fn detail_height(&self) -> u16 {
        let area = self.areas().first().map_or(0, |area| area.height);
        if self.panes.detail && self.view == View::Events { (area / 2).min(24) } else { 0 }
    }

    /// Lines of a list of events.
    pub(crate) fn list_height(&self) -> u16 {
        self.list_areas().iter().map(|area| area.height).min().unwrap_or(1).max(1)
    }

    /// Draws everything.
    pub(crate) fn render(&self, buffer: &mut Buffer) {
        let mut canvas = Canvas { buffer, colours: self.colours };
        let whole = canvas.buffer.area;
        if whole.width < LEAST.0 || whole.height < LEAST.1 {
            let text = format!("too small: {}x{} at least", LEAST.0, LEAST.1);
            canvas.line(whole, 0, &text, Look::Title);
            return;
        }
        self.title(&mut canvas, whole);
        if self.panes.help {
            help(&mut canvas, Rect { y: 1, height: whole.height - 1, ..whole });
            return;
        }
        for (side, area) in self.areas().into_iter().enumerate() {
            self.head(&mut canvas, area, side);
            let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
            match self.view {
                View::Findings => self.draw_findings(&mut canvas, body, side),
                View::Timeline => self.draw_timeline(&mut canvas, body, side),
                View::Events => self.draw_events(&mut canvas, body, side),
            }
        }
        self.foot(&mut canvas, whole);
    }

    fn title(&self, canvas: &mut Canvas<'_>, whole: Rect) {
        let mut x = canvas.put(whole, 0, 0, "ctrace view ", Look::Title);
        for (view, name) in
            [(View::Findings, "1 findings"), (View::Timeline, "2 timeline"), (View::Events, "3 events")]
        {
            let chosen = view == self.view;
            let (text, look) =
                if chosen { (format!("[{name}]"), Look::Chosen) } else { (format!(" {name} "), Look::Plain) };
            x = canvas.put(whole, x, 0, &text, look);
        }
        let keys = "? help  q quit";
        let at = whole.width.saturating_sub(keys.len() as u16);
        if at > x {
            canvas.put(whole, at, 0, keys, Look::Dim);
        }
    }

    /// The trace, and what to know of it before anything else.
    fn head(&self, canvas: &mut Canvas<'_>, area: Rect, side: usize) {
        let state = &self.sides[side];
        let focus = if self.sides.len() == 1 {
            ""
        } else if side == self.focus {
            "▶ "
        } else {
            "  "
        };
        let x = canvas.put(area, area.x, area.y, &format!("{focus}{}", state.facts.name), Look::Title);
        let mut notes = state.facts.notes.clone();
        if !state.unreadable.is_empty() {
            notes.push(format!("{} unreadable", units::plural(state.unreadable.len() as u64, "part")));
        }
        if side == 1 && (self.alignment.shift_ns != 0 || self.alignment.by_wall) {
            let shift = self.alignment.shift_ns;
            let sign = if shift < 0 { '-' } else { '+' };
            notes.push(format!("shifted {sign}{}", units::duration(shift.unsigned_abs())));
        }
        canvas.put(area, x, area.y, &format!("  {}", notes.join(" · ")), Look::Warning);
    }

    /// The last two lines: where somebody is, and what is typed or said.
    fn foot(&self, canvas: &mut Canvas<'_>, whole: Rect) {
        let row = whole.height - 2;
        let (status, progress) = (self.status(), self.progress());
        canvas.line(whole, row, &status, Look::Plain);
        let at = whole.width.saturating_sub(progress.chars().count() as u16);
        canvas.put(whole, at, row, &progress, Look::Title);
        canvas.paint(whole, row, Look::Chosen);
        let last = whole.height - 1;
        if let Some(input) = &self.input {
            let x = canvas.put(whole, 0, last, "/", Look::Title);
            let text = ctrace_report::escape::line(&input.text);
            let x = canvas.put(whole, x, last, &text, Look::Plain);
            let x = canvas.put(whole, x, last, "▏", Look::Title);
            let why = input.error.as_deref().or(self.sides[self.focus].list.refused.as_deref());
            if let Some(why) = why {
                canvas.put(whole, x + 1, last, why, Look::Warning);
            }
            return;
        }
        let text = match self.pending {
            Some(Pending::Mark) => "mark: press a letter",
            Some(Pending::GoToMark) => "go to mark: press its letter",
            None if !self.notice.is_empty() => &self.notice,
            None => match self.view {
                View::Findings => "↑↓ choose  Enter its event  Tab timeline  / filter",
                View::Timeline => "←→ cursor  +- zoom  0 whole  v brush  Enter events  Tab events",
                View::Events => "/ filter  e error  t f c follow  Enter detail  m ' marks  Esc back",
            },
        };
        let look = if self.notice.is_empty() { Look::Dim } else { Look::Plain };
        canvas.line(whole, last, text, look);
    }

    /// What is still being done.
    fn progress(&self) -> String {
        let mut doing = Vec::new();
        if self.is_still {
            return String::new();
        }
        for side in &self.sides {
            let list = &side.list;
            if !list.want.is_all() && list.refused.is_none() && !side.is_listed() {
                doing.push(format!("searching {} %", side.pages.percent(list.searched)));
            } else if !side.pages.is_done() {
                doing.push(format!("reading {} %", side.pages.percent(side.pages.read())));
            }
            if matches!(side.told, Told::Working) && self.view != View::Events {
                doing.push("looking for findings".into());
            }
        }
        if doing.is_empty() { String::new() } else { format!(" {} ", doing.join(" · ")) }
    }

    fn status(&self) -> String {
        let side = &self.sides[self.focus];
        match self.view {
            View::Findings => match &side.told {
                Told::Ready(account) => {
                    let count = account.findings.len() as u64;
                    format!(
                        "{} · {}",
                        units::plural(count, "finding"),
                        units::plural(side.facts.events, "event")
                    )
                }
                _ => units::plural(side.facts.events, "event"),
            },
            View::Timeline => {
                let window = &self.window;
                let mut text = format!(
                    "{} … {} s, cursor {}",
                    time(window.from_ns),
                    time(window.to_ns),
                    time(window.cursor_ns)
                );
                if let Some((from, to)) = window.brushed() {
                    let _ = write!(text, ", brush {} from {}", units::duration(to - from), time(from));
                }
                text
            }
            View::Events => {
                let mut text = match side.at() {
                    Some(at) if !side.list.want.is_all() => {
                        let listed = side.listed();
                        let (rank, count) = (u64::from(listed.rank(at)) + 1, u64::from(listed.count()));
                        let (rank, count) = (units::count(rank), units::count(count));
                        format!("{rank} of {count} found, event {}", units::count(u64::from(at) + 1))
                    }
                    Some(at) => format!("event {}", units::count(u64::from(at) + 1)),
                    None if !side.is_listed() && side.list.refused.is_none() => "nothing yet".into(),
                    None => "none".into(),
                };
                let _ = write!(text, " of {}", units::count(side.facts.events));
                if let Some(label) = &side.list.follow {
                    let _ = write!(text, " · follows {label}");
                }
                if let Some((from, to)) = side.list.want.brush {
                    let _ = write!(text, " · {} … {} s", time(from), time(to));
                }
                if !side.list.want.typed.is_empty() && self.input.is_none() {
                    let _ = write!(text, " · /{}", ctrace_report::escape::line(&side.list.want.typed));
                }
                text
            }
        }
    }
}

fn help(canvas: &mut Canvas<'_>, area: Rect) {
    let mut row = 0;
    for (topic, keys) in HELP {
        // On a small screen the lines take the room of the gaps.
        if row > 0 && area.height > 24 {
            row += 1;
        }
        for (i, (key, what)) in keys.iter().enumerate() {
            let name = if i == 0 { topic } else { "" };
            canvas.line(area, row, name, Look::Title);
            let at = Position { x: area.x + 12, y: area.y + row };
            canvas.put(area, at.x, at.y, key, Look::Plain);
            canvas.put(area, at.x + 20, at.y, what, Look::Plain);
            row += 1;
        }
    }
    row += 1;
    canvas.line(area, row, "any key closes this", Look::Dim);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_columns() {
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdefg", 6), "abcde…");
        assert_eq!(fit("漢字漢字", 8), "漢字漢字");
        assert_eq!(fit("漢字漢字", 7), "漢字漢…");
        assert_eq!(fit("漢字漢字", 6), "漢字…");
        assert_eq!(fit("a", 0), "");
        let pile = format!("e{}x", "\u{301}".repeat(500));
        assert_eq!(fit(&pile, 10), "e\u{301}\u{301}x");
        assert_eq!(skip("abc", 2), "c");
        assert_eq!(skip("漢字", 1), "字");
        assert_eq!(skip("abc", 9), "");
    }

    #[test]
    fn sentences_are_broken_at_blanks_and_long_words_anywhere() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 3), [""]);
        for line in wrap("漢字漢字 x", 3) {
            assert!(!line.is_empty() && line.chars().count() <= 2, "{line}");
        }
    }
}
