//! The core: what is on the screen, and what becomes of it by a key or by something that was read.

use crate::message::{Effect, Key, Message, Want, Why};
use crate::side::{Jump, Side, Told};
use crate::timeline::Window;
use ctrace_analysis::Finding;
use ctrace_report::escape;
use ctrace_report::text::query::Query;
use ctrace_report::text::units;
use std::collections::BTreeMap;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// What went wrong, as sentences.
    Findings,
    /// Figures over time.
    Timeline,
    /// Event by event.
    Events,
}

/// A key that waits for a second one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pending {
    Mark,
    GoToMark,
}

/// The line in which a filter is typed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Input {
    pub(crate) text: String,
    /// What was typed before.
    before: String,
    pub(crate) error: Option<String>,
}

/// How the times of two traces belong together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Alignment {
    /// Time in the second trace that is 0 in the first, ns.
    pub(crate) shift_ns: i64,
    /// By the clock on the wall, not by the starts.
    pub(crate) by_wall: bool,
    /// The event of the focused side that the other was last taken to.
    locked: Option<(usize, u32, i64)>,
}

impl Alignment {
    /// A time of one side, as the other counts.
    pub(crate) fn other(self, side: usize, t_ns: u64) -> u64 {
        let by = if side == 0 { self.shift_ns } else { self.shift_ns.saturating_neg() };
        t_ns.saturating_add_signed(by)
    }

    /// A time of the first side, as this one counts.
    pub(crate) fn of_first(self, side: usize, t_ns: u64) -> u64 {
        if side == 0 { t_ns } else { self.other(0, t_ns) }
    }
}

/// What is open beside the view.
#[derive(Debug, Default)]
pub(crate) struct Panes {
    pub(crate) help: bool,
    pub(crate) detail: bool,
    /// Rows of the detail, and columns of the lines, that are out of sight.
    pub(crate) detail_top: u16,
    pub(crate) left: u16,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) sides: Vec<Side>,
    pub(crate) focus: usize,
    pub(crate) view: View,
    /// Columns and lines.
    pub(crate) size: (u16, u16),
    pub(crate) colours: bool,
    pub(crate) window: Window,
    pub(crate) alignment: Alignment,
    /// The finding at which somebody is, of each side.
    pub(crate) finding: [usize; 2],
    pub(crate) input: Option<Input>,
    pub(crate) panes: Panes,
    pub(crate) pending: Option<Pending>,
    pub(crate) marks: BTreeMap<char, (usize, u32)>,
    /// Something to be said once.
    pub(crate) notice: String,
    pub(crate) is_over: bool,
    /// Nothing more comes: what is still being done is not shown.
    pub(crate) is_still: bool,
}

impl App {
    /// One trace, or two. Returns what is to be done first.
    pub(crate) fn new(sides: Vec<Side>, view: View, size: (u16, u16), colours: bool) -> (Self, Vec<Effect>) {
        let facts = &sides[0].facts;
        let window = Window::new(facts.from_ns, facts.to_ns);
        let mut app = Self {
            sides,
            focus: 0,
            view,
            size,
            colours,
            window,
            alignment: Alignment::default(),
            finding: [0; 2],
            input: None,
            panes: Panes::default(),
            pending: None,
            marks: BTreeMap::new(),
            notice: String::new(),
            is_over: false,
            is_still: false,
        };
        app.window = app.whole();
        let mut effects = Vec::new();
        for (side, state) in app.sides.iter().enumerate() {
            effects.push(Effect::Scan { side });
            if matches!(state.told, Told::Working) {
                effects.push(Effect::Account { side });
            }
        }
        app.settle(&mut effects);
        (app, effects)
    }

    /// Learns something. Returns what is to be done about it.
    pub(crate) fn update(&mut self, message: Message) -> Vec<Effect> {
        let mut effects = Vec::new();
        match message {
            Message::Key(key) => self.key(key, &mut effects),
            Message::Resize(columns, lines) => self.size = (columns, lines),
            Message::Click(column, line) => self.click(column, line),
            Message::Wheel(lines) => self.wheel(lines),
            Message::Scanned { side, page, scanned } => self.sides[side].scanned(page, *scanned),
            Message::Found { side, search, page, part } => self.sides[side].found(search, page, part),
            Message::Refused { side, search, why } => {
                if self.sides[side].list.search == search {
                    self.sides[side].list.refused = Some(escape::line(&why).into());
                }
            }
            Message::Rows { side, rows } => self.sides[side].add_rows(rows),
            Message::Sought { side, why, t_ns, place } => {
                // Somebody may want to go elsewhere by now.
                if self.sides[side].jump.is_some_and(|j| j.is_asked && (j.why, j.t_ns) == (why, t_ns)) {
                    self.sides[side].jump = None;
                    self.sought(side, why, place, &mut effects);
                }
            }
            Message::Account { side, account } => {
                self.sides[side].told = match account {
                    Ok(account) => Told::Ready(account),
                    Err(why) => Told::Failed(escape::line(&why).into()),
                };
            }
            Message::Series { side, series } => self.sides[side].fine = Some(series),
        }
        self.settle(&mut effects);
        effects
    }

    /// Whether nothing more will change on the screen by itself.
    pub(crate) fn is_settled(&self) -> bool {
        let height = self.list_height();
        self.sides.iter().all(|side| match self.view {
            View::Findings => !matches!(side.told, Told::Working),
            View::Timeline => side.pages.is_done() && !matches!(side.told, Told::Working),
            View::Events => {
                let visible = side.visible(height);
                // A screen that is full stays as it is.
                let is_full = visible.len() >= usize::from(height) && side.list.want.is_all();
                (is_full || side.is_listed() || side.list.refused.is_some())
                    && visible.iter().all(|ordinal| side.rows.contains_key(ordinal))
            }
        })
    }

    fn settle(&mut self, effects: &mut Vec<Effect>) {
        if self.view == View::Timeline {
            self.refine(effects);
        }
        if self.view == View::Events && self.sides.len() == 2 {
            self.lock();
        }
        let height = self.list_height();
        for (i, side) in self.sides.iter_mut().enumerate() {
            side.settle(i, height, effects);
        }
    }

    /// Takes the other trace to the same time.
    fn lock(&mut self) {
        let focus = self.focus;
        let Some((at, row)) =
            self.sides[focus].at().and_then(|at| Some((at, self.sides[focus].rows.get(&at)?)))
        else {
            return;
        };
        let to = (focus, at, self.alignment.shift_ns);
        if self.alignment.locked != Some(to) {
            self.alignment.locked = Some(to);
            let t_ns = self.alignment.other(focus, row.end_ns);
            self.sides[1 - focus].jump = Some(Jump::to(Why::Lock, t_ns, None));
        }
    }

    fn sought(&mut self, side: usize, why: Why, place: crate::row::Place, effects: &mut Vec<Effect>) {
        let Some(ordinal) = self.sides[side].pages.ordinal(place) else { return };
        self.sides[side].cursor = ordinal;
        if why != Why::Evidence {
            return;
        }
        let hides = |side: &Side| !side.listed().has(ordinal);
        if hides(&self.sides[side]) && !self.sides[side].list.want.is_all() {
            self.notice = "the filter hid this event: it was lifted".into();
            effects.push(self.sides[side].want(side, Want::default(), None));
            self.sides[side].cursor = ordinal;
        }
        if hides(&self.sides[side]) {
            self.sides[side].reveal(ordinal);
        }
    }

    /// The findings of a side.
    pub(crate) fn findings(&self, side: usize) -> &[Finding] {
        match &self.sides[side].told {
            Told::Ready(account) => &account.findings,
            _ => &[],
        }
    }

    /// Lists other events: what is typed is for all traces, what is followed for one.
    pub(crate) fn filter(&mut self, typed: &str, query: &Query, effects: &mut Vec<Effect>) {
        for side in 0..self.sides.len() {
            let list = &self.sides[side].list;
            let want = Want { typed: typed.to_owned(), query: query.clone(), ..list.want.clone() };
            let follow = list.follow.clone();
            effects.push(self.sides[side].want(side, want, follow));
        }
    }

    /// Begins with a filter. What makes no sense is an error.
    pub(crate) fn start_with(&mut self, typed: &str) -> Result<Vec<Effect>, String> {
        let query = Query::parse(typed)?;
        let mut effects = Vec::new();
        self.filter(typed, &query, &mut effects);
        self.settle(&mut effects);
        Ok(effects)
    }

    /// Limits the lists to a stretch of time, or no longer.
    pub(crate) fn brush(&mut self, brush: Option<(u64, u64)>, effects: &mut Vec<Effect>) {
        for side in 0..self.sides.len() {
            let of = |t_ns| self.alignment.of_first(side, t_ns);
            let list = &self.sides[side].list;
            let want = Want { brush: brush.map(|(from, to)| (of(from), of(to))), ..list.want.clone() };
            let follow = list.follow.clone();
            effects.push(self.sides[side].want(side, want, follow));
        }
    }

    /// Types into the line of the filter.
    pub(crate) fn typed(&mut self, key: Key, effects: &mut Vec<Effect>) {
        let Some(input) = &mut self.input else { return };
        match key {
            Key::Char(c) => input.text.push(c),
            Key::Backspace => drop(input.text.pop()),
            Key::Ctrl('u') => input.text.clear(),
            Key::Ctrl('w') => {
                let kept = input.text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                input.text.truncate(kept);
            }
            Key::Enter => {
                if input.error.is_none() {
                    self.input = None;
                }
                return;
            }
            Key::Esc => {
                let before = input.before.clone();
                self.input = None;
                if before != self.sides[self.focus].list.want.typed
                    && let Ok(query) = Query::parse(&before)
                {
                    self.filter(&before, &query, effects);
                }
                return;
            }
            Key::Up | Key::Down | Key::PageUp | Key::PageDown => return self.moved(key),
            _ => return,
        }
        let text = input.text.clone();
        match Query::parse(&text) {
            Ok(query) => {
                input.error = None;
                self.filter(&text, &query, effects);
            }
            // What was found before stays until it is typed to its end.
            Err(why) => input.error = Some(escape::line(&why).into()),
        }
    }

    /// Opens the line of the filter.
    pub(crate) fn ask(&mut self) {
        self.view = View::Events;
        let before = self.sides[self.focus].list.want.typed.clone();
        self.input = Some(Input { text: before.clone(), before, error: None });
    }

    /// Changes how the times of two traces belong together.
    pub(crate) fn align_by_wall(&mut self) {
        let [a, b] = self.sides.as_slice() else { return };
        let span = |side: &Side| {
            let start = side.facts.start_realtime_ns;
            (start.saturating_add(side.facts.from_ns), start.saturating_add(side.facts.to_ns))
        };
        let ((a_from, a_to), (b_from, b_to)) = (span(a), span(b));
        let apart = a.facts.start_realtime_ns.wrapping_sub(b.facts.start_realtime_ns) as i64;
        if self.alignment.by_wall {
            self.alignment = Alignment::default();
        } else if a_from <= b_to && b_from <= a_to {
            self.alignment = Alignment { shift_ns: apart, by_wall: true, locked: None };
        } else {
            self.notice = "they were recorded at different times of day: aligned by their starts".into();
            return;
        }
        self.window = self.whole();
        let how = if self.alignment.by_wall { "the clock on the wall" } else { "their starts" };
        self.notice = format!("aligned by {how}");
    }

    /// Makes the events at which somebody is simultaneous.
    pub(crate) fn align_here(&mut self) {
        let times: Vec<u64> = self.sides.iter().filter_map(|side| Some(side.row()?.end_ns)).collect();
        if let [a, b] = times[..] {
            self.shift((b.wrapping_sub(a) as i64).wrapping_sub(self.alignment.shift_ns));
        }
    }

    pub(crate) fn shift(&mut self, by_ns: i64) {
        if self.sides.len() < 2 {
            return;
        }
        let shift_ns = self.alignment.shift_ns.saturating_add(by_ns);
        self.alignment = Alignment { shift_ns, ..self.alignment };
        let sign = if shift_ns < 0 { "-" } else { "+" };
        self.notice =
            format!("the second trace is shifted by {sign}{}", units::duration(shift_ns.unsigned_abs()));
    }
}
