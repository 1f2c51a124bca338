//! The part of the time that the timeline shows, and what is marked on it.

use crate::app::{App, View};
use crate::book::{Bin, Series, stretch};
use crate::message::{Effect, Key};

/// The least that is shown: the file's times are no finer.
const LEAST_NS: u64 = 1_000;

/// See the module. Times are those of the first trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the unit is part of every name of a time")]
pub(crate) struct Window {
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
    pub(crate) cursor_ns: u64,
    /// Where a brush was begun.
    pub(crate) brush_ns: Option<u64>,
}

impl Window {
    pub(crate) fn new(from_ns: u64, to_ns: u64) -> Self {
        let (from_ns, to_ns) = stretch(from_ns, to_ns);
        Self { from_ns, to_ns, cursor_ns: from_ns, brush_ns: None }
    }

    pub(crate) const fn length(&self) -> u64 {
        self.to_ns - self.from_ns
    }

    /// The column of a moment, of so many.
    pub(crate) fn column(&self, t_ns: u64, columns: u16) -> Option<u16> {
        if t_ns < self.from_ns || t_ns > self.to_ns || columns == 0 {
            return None;
        }
        let at = u128::from(t_ns - self.from_ns) * u128::from(columns) / u128::from(self.length());
        Some((at as u16).min(columns - 1))
    }

    /// Goes so many columns on, and takes the window along.
    fn go(&mut self, by: i64, columns: u16, whole: Self) {
        let step = (self.length() / u64::from(columns.max(1))).max(1) as i64;
        self.cursor_ns =
            self.cursor_ns.saturating_add_signed(step.saturating_mul(by)).clamp(whole.from_ns, whole.to_ns);
        let length = self.length();
        if self.cursor_ns < self.from_ns {
            (self.from_ns, self.to_ns) = (self.cursor_ns, self.cursor_ns + length);
        } else if self.cursor_ns > self.to_ns {
            (self.from_ns, self.to_ns) = (self.cursor_ns - length, self.cursor_ns);
        }
    }

    fn pan(&mut self, by_ns: i64, whole: Self) {
        let length = self.length();
        let last = whole.to_ns.saturating_sub(length).max(whole.from_ns);
        self.from_ns = self.from_ns.saturating_add_signed(by_ns).clamp(whole.from_ns, last);
        self.to_ns = self.from_ns + length;
        self.cursor_ns = self.cursor_ns.clamp(self.from_ns, self.to_ns);
    }

    /// Shows half as much, or twice as much; the cursor stays where it is.
    fn zoom(&mut self, closer: bool, whole: Self) {
        let length = self.length();
        let new = if closer { length / 2 } else { length.saturating_mul(2) };
        let new = new.max(LEAST_NS).min(whole.length());
        let part = u128::from(self.cursor_ns - self.from_ns) * u128::from(new) / u128::from(length);
        let from = self.cursor_ns.saturating_sub(part as u64);
        self.from_ns = from.clamp(whole.from_ns, whole.to_ns - new);
        self.to_ns = self.from_ns + new;
    }

    /// What was brushed.
    pub(crate) fn brushed(&self) -> Option<(u64, u64)> {
        let begin = self.brush_ns?;
        Some((begin.min(self.cursor_ns), begin.max(self.cursor_ns)))
    }
}

/// Figures of so many columns: those of a series, whose bins may be finer or coarser.
pub(crate) fn columns(series: &Series, from_ns: u64, to_ns: u64, columns: u16) -> Vec<Bin> {
    let window = Window::new(from_ns, to_ns);
    let mut out = vec![Bin::default(); columns.into()];
    for (i, bin) in series.bins.iter().enumerate() {
        if *bin == Bin::default() {
            continue;
        }
        // A bin that is wider than a column is in the first that it touches.
        let (begin, end) = (series.begin_ns(i), series.begin_ns(i + 1));
        let t_ns = if begin < from_ns && end > from_ns { from_ns } else { begin };
        if let Some(at) = window.column(t_ns, columns).filter(|_| t_ns < to_ns || t_ns == series.to_ns) {
            out[usize::from(at)].add(*bin);
        }
    }
    out
}

impl App {
    /// All the time there is, in the first trace's time.
    pub(crate) fn whole(&self) -> Window {
        let mut window = Window::new(self.sides[0].facts.from_ns, self.sides[0].facts.to_ns);
        if let Some(other) = self.sides.get(1) {
            window.from_ns = window.from_ns.min(self.alignment.other(1, other.facts.from_ns));
            window.to_ns = window.to_ns.max(self.alignment.other(1, other.facts.to_ns));
        }
        window
    }

    /// Columns of the timeline's figures.
    pub(crate) fn timeline_columns(&self) -> u16 {
        self.size.0.saturating_sub(crate::render::LABEL).max(1)
    }

    /// Asks for finer figures when those of the whole are too coarse for what is shown.
    pub(crate) fn refine(&mut self, effects: &mut Vec<Effect>) {
        let columns = self.timeline_columns();
        for (side, state) in self.sides.iter_mut().enumerate() {
            let bin_ns = (state.series.to_ns - state.series.from_ns) / state.series.bins.len() as u64;
            if self.window.length() / u64::from(columns) >= bin_ns {
                state.fine = None;
                continue;
            }
            let from_ns = self.alignment.of_first(side, self.window.from_ns);
            let to_ns = self.alignment.of_first(side, self.window.to_ns);
            let is_there =
                state.fine.as_ref().is_some_and(|fine| (fine.from_ns, fine.to_ns) == (from_ns, to_ns));
            if !is_there && state.pages.is_done() {
                // Until it was worked out, nothing is asked for twice.
                state.fine = Some(Series::new(from_ns, to_ns, 0));
                effects.push(Effect::Series { side, from_ns, to_ns, bins: columns.into() });
            }
        }
    }

    /// A key on the timeline.
    pub(crate) fn timeline_key(&mut self, key: Key, effects: &mut Vec<Effect>) {
        let (whole, columns) = (self.whole(), self.timeline_columns());
        let half = (self.window.length() / 2) as i64;
        match key {
            Key::Left | Key::Char('h') => self.window.go(-1, columns, whole),
            Key::Right | Key::Char('l') => self.window.go(1, columns, whole),
            Key::PageUp | Key::Char('H') => self.window.pan(-half, whole),
            Key::PageDown | Key::Char('L' | ' ') => self.window.pan(half, whole),
            Key::Home | Key::Char('g') => {
                self.window.pan(i64::MIN / 2, whole);
                self.window.cursor_ns = self.window.from_ns;
            }
            Key::End | Key::Char('G') => {
                self.window.pan(i64::MAX / 2, whole);
                self.window.cursor_ns = self.window.to_ns;
            }
            Key::Up | Key::Char('+' | '=' | 'k') => self.window.zoom(true, whole),
            Key::Down | Key::Char('-' | 'j') => self.window.zoom(false, whole),
            Key::Char('0') => {
                (self.window.from_ns, self.window.to_ns) = (whole.from_ns, whole.to_ns);
            }
            Key::Char('v') => {
                self.window.brush_ns = match self.window.brush_ns {
                    None => Some(self.window.cursor_ns),
                    Some(_) => None,
                };
            }
            Key::Enter => {
                let brushed = self.window.brushed();
                let t_ns = brushed.map_or(self.window.cursor_ns, |(from, _)| from);
                if brushed.is_some() {
                    self.window.brush_ns = None;
                    self.brush(brushed, effects);
                }
                self.view = View::Events;
                self.go_to_time(t_ns);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zooming_keeps_the_cursor_and_panning_stays_inside() {
        let whole = Window::new(0, 1_000_000);
        let mut window = Window { cursor_ns: 750_000, ..whole };
        window.zoom(true, whole);
        assert_eq!((window.from_ns, window.to_ns, window.cursor_ns), (375_000, 875_000, 750_000));
        window.pan(900_000, whole);
        assert_eq!((window.from_ns, window.to_ns), (500_000, 1_000_000));
        window.pan(i64::MIN / 2, whole);
        assert_eq!((window.from_ns, window.cursor_ns), (0, 500_000));
        for _ in 0..40 {
            window.zoom(true, whole);
        }
        assert_eq!(window.length(), LEAST_NS);
        for _ in 0..40 {
            window.zoom(false, whole);
        }
        assert_eq!((window.from_ns, window.to_ns), (0, 1_000_000));
        window.go(i64::MAX, 80, whole);
        assert_eq!(window.cursor_ns, 1_000_000);
        // However long a hostile file says that it is.
        let whole = Window::new(0, u64::MAX);
        let mut window = whole;
        for _ in 0..200 {
            window.go(3, 80, whole);
            window.zoom(true, whole);
            window.pan(i64::MAX, whole);
            window.go(-9, 80, whole);
            assert!(window.from_ns < window.to_ns && window.column(window.cursor_ns, 80).is_some());
        }
    }

    #[test]
    fn columns_have_all_that_is_in_their_time() {
        let mut series = Series::new(0, 1000, 100);
        series.bins[0].calls = 1;
        series.bins[55].calls = 10;
        series.bins[99].calls = 100;
        let all = columns(&series, 0, 1000, 10);
        assert_eq!(all.iter().map(|b| b.calls).collect::<Vec<_>>(), [1, 0, 0, 0, 0, 10, 0, 0, 0, 100]);
        let part = columns(&series, 500, 600, 5);
        assert_eq!(part.iter().map(|b| b.calls).collect::<Vec<_>>(), [0, 0, 10, 0, 0]);
        assert_eq!(columns(&series, 990, 991, 4).iter().map(|b| b.calls).sum::<u64>(), 100);
    }

    #[test]
    fn a_brush_has_two_ends_whichever_way_it_was_drawn() {
        let window = Window { cursor_ns: 10, brush_ns: Some(90), ..Window::new(0, 100) };
        assert_eq!(window.brushed(), Some((10, 90)));
    }
}
