//! What keys do.

use crate::app::{App, Pending, View};
use crate::message::{Effect, Key, Want, Why};
use crate::row::Follow;
use crate::side::Jump;

/// How far one press shifts the second trace.
const SHIFT_NS: i64 = 1_000_000;

/// The help, by what the keys are for.
pub(crate) const HELP: [(&str, &[(&str, &str)]); 5] = [
    (
        "everywhere",
        &[
            ("1 2 3  Tab", "findings, timeline, events"),
            ("?", "this help; q or Ctrl-C ends, Ctrl-Z stops"),
            ("/", "filter events as you type, as `ctrace events` does"),
            ("Esc", "takes back: what was typed, followed, brushed"),
            ("{ }", "the finding before, the next one"),
        ],
    ),
    ("findings", &[("↑ ↓  Enter", "choose one, go to the event that shows it")]),
    (
        "timeline",
        &[
            ("← →  PgUp PgDn", "move the cursor, the window"),
            ("+ -  0", "zoom in, out, to the whole"),
            ("v  Enter", "begin a brush; list the events at it, or here"),
        ],
    ),
    (
        "events",
        &[
            ("↑ ↓ PgUp PgDn g G", "move; ← → move the lines"),
            ("Enter", "all that the event knows; J K move in it"),
            ("e E (n N)", "the next thing that went wrong, the one before"),
            ("t f c", "follow its task, its descriptor, its connection"),
            ("m a   ' a", "set mark a, go to mark a"),
        ],
    ),
    (
        "two traces",
        &[
            ("o", "the other one; they move together"),
            ("w", "align by the clock on the wall, or by the starts"),
            ("< >  =", "shift the second by 1 ms; make both events one"),
        ],
    ),
];

impl App {
    /// A key was pressed.
    pub(crate) fn key(&mut self, key: Key, effects: &mut Vec<Effect>) {
        self.notice.clear();
        match key {
            Key::Ctrl('c') => self.is_over = true,
            Key::Ctrl('z') => effects.push(Effect::Suspend),
            _ if self.panes.help => self.panes.help = false,
            _ if self.input.is_some() => self.typed(key, effects),
            _ if self.pending.is_some() => self.second(key),
            _ => self.first(key, effects),
        }
    }

    fn first(&mut self, key: Key, effects: &mut Vec<Effect>) {
        match key {
            Key::Char('q') => self.is_over = true,
            Key::Char('?') => self.panes.help = true,
            Key::Char('1') => self.view = View::Findings,
            Key::Char('2') => self.view = View::Timeline,
            Key::Char('3') => self.view = View::Events,
            Key::Tab => {
                self.view = match self.view {
                    View::Findings => View::Timeline,
                    View::Timeline => View::Events,
                    View::Events => View::Findings,
                }
            }
            Key::BackTab => {
                self.view = match self.view {
                    View::Findings => View::Events,
                    View::Timeline => View::Findings,
                    View::Events => View::Timeline,
                }
            }
            Key::Char('/') => self.ask(),
            Key::Esc => self.take_back(effects),
            Key::Char('}') => self.next_finding(1),
            Key::Char('{') => self.next_finding(-1),
            Key::Char('o') if self.sides.len() == 2 => self.focus = 1 - self.focus,
            Key::Char('w') => self.align_by_wall(),
            Key::Char('<') => self.shift(-SHIFT_NS),
            Key::Char('>') => self.shift(SHIFT_NS),
            _ => match self.view {
                View::Findings => self.findings_key(key),
                View::Timeline => self.timeline_key(key, effects),
                View::Events => self.events_key(key, effects),
            },
        }
    }

    /// The letter of a mark.
    fn second(&mut self, key: Key) {
        let pending = self.pending.take();
        let Key::Char(letter) = key else { return };
        if pending == Some(Pending::Mark) {
            if let Some(at) = self.sides[self.focus].at() {
                self.marks.insert(letter, (self.focus, at));
                self.notice = format!("mark {} is here", letter.escape_default());
            }
            return;
        }
        match self.marks.get(&letter) {
            Some((side, at)) => {
                self.focus = *side;
                self.sides[*side].cursor = *at;
                if !self.sides[*side].listed().has(*at) {
                    self.notice = "the filter hides the marked event: this is the next one".into();
                }
            }
            None => self.notice = format!("there is no mark {}", letter.escape_default()),
        }
    }

    fn take_back(&mut self, effects: &mut Vec<Effect>) {
        if self.view == View::Timeline && self.window.brush_ns.take().is_some() {
            return;
        }
        if self.panes.detail && self.view == View::Events {
            self.panes.detail = false;
            return;
        }
        let list = &self.sides[self.focus].list;
        if list.want.follow.is_some() {
            let want = Want { follow: None, ..list.want.clone() };
            effects.push(self.sides[self.focus].want(self.focus, want, None));
        } else if list.want.brush.is_some() {
            self.brush(None, effects);
        } else if !list.want.typed.is_empty() {
            self.filter("", &ctrace_report::text::query::Query::default(), effects);
        }
    }

    fn findings_key(&mut self, key: Key) {
        let last = self.findings(self.focus).len().saturating_sub(1);
        let at = &mut self.finding[self.focus];
        match key {
            Key::Down | Key::Char('j') => *at = (*at + 1).min(last),
            Key::Up | Key::Char('k') => *at = at.saturating_sub(1),
            Key::PageDown | Key::End | Key::Char('G') => *at = last,
            Key::PageUp | Key::Home | Key::Char('g') => *at = 0,
            Key::Enter => self.show_finding(),
            _ => {}
        }
    }

    fn next_finding(&mut self, by: i64) {
        let count = self.findings(self.focus).len();
        if count == 0 {
            self.notice = "there are no findings".into();
            return;
        }
        if self.view != View::Findings {
            let at = self.finding[self.focus] as i64;
            self.finding[self.focus] = (at + by).clamp(0, count as i64 - 1) as usize;
            self.show_finding();
        } else if by > 0 {
            self.findings_key(Key::Down);
        } else {
            self.findings_key(Key::Up);
        }
    }

    /// Goes to the event that shows a finding.
    fn show_finding(&mut self) {
        let side = self.focus;
        let Some(finding) = self.findings(side).get(self.finding[side]) else { return };
        let event = finding.evidence.events.first().copied();
        let t_ns = event.map_or(finding.from_ns, |event| event.end_ns);
        let why = if event.is_some() { Why::Evidence } else { Why::Time };
        self.notice = format!("finding {}: {}", finding.rank, ctrace_report::escape::line(&finding.sentence));
        if self.view == View::Timeline {
            self.window.cursor_ns = self.alignment.other(1, t_ns);
            if side == 0 {
                self.window.cursor_ns = t_ns;
            }
            let whole = self.whole();
            self.window.cursor_ns = self.window.cursor_ns.clamp(whole.from_ns, whole.to_ns);
            if !(self.window.from_ns..=self.window.to_ns).contains(&self.window.cursor_ns) {
                (self.window.from_ns, self.window.to_ns) = (whole.from_ns, whole.to_ns);
            }
            return;
        }
        self.view = View::Events;
        self.panes.detail = true;
        self.sides[side].jump = Some(Jump::to(why, t_ns, event.map(|event| event.tid)));
    }

    /// Goes to the first event of a time, given in that of the first trace.
    pub(crate) fn go_to_time(&mut self, t_ns: u64) {
        for side in 0..self.sides.len() {
            let t_ns = self.alignment.of_first(side, t_ns);
            self.sides[side].jump = Some(Jump::to(Why::Time, t_ns, None));
        }
    }

    /// Moves in the list.
    pub(crate) fn moved(&mut self, key: Key) {
        let page = i64::from(self.list_height().max(2)) - 1;
        let by = match key {
            Key::Up | Key::Char('k') => -1,
            Key::Down | Key::Char('j') => 1,
            Key::PageUp | Key::Char('b') => -page,
            Key::PageDown | Key::Char(' ') => page,
            Key::Home | Key::Char('g') => i64::MIN,
            Key::End | Key::Char('G') => {
                if !self.sides[self.focus].is_listed() {
                    self.notice = "as far as it was read".into();
                }
                i64::MAX
            }
            _ => return,
        };
        self.panes.detail_top = 0;
        self.sides[self.focus].go(by);
    }

    fn events_key(&mut self, key: Key, effects: &mut Vec<Effect>) {
        match key {
            Key::Enter => {
                self.panes.detail = !self.panes.detail;
                self.panes.detail_top = 0;
            }
            Key::Right | Key::Char('l') => self.panes.left = self.panes.left.saturating_add(8),
            Key::Left | Key::Char('h') => self.panes.left = self.panes.left.saturating_sub(8),
            Key::Char('J') => self.panes.detail_top = self.panes.detail_top.saturating_add(1),
            Key::Char('K') => self.panes.detail_top = self.panes.detail_top.saturating_sub(1),
            Key::Char('e' | 'n') => self.next_error(true),
            Key::Char('E' | 'N') => self.next_error(false),
            Key::Char('m') => self.pending = Some(Pending::Mark),
            Key::Char('\'') => self.pending = Some(Pending::GoToMark),
            Key::Char('=') => self.align_here(),
            Key::Char('t') => self.follow(|row| row.task.clone(), "task", effects),
            Key::Char('f') => self.follow(|row| row.object.clone(), "descriptor", effects),
            Key::Char('c') => self.follow(|row| row.socket.clone(), "connection", effects),
            other => self.moved(other),
        }
    }

    fn next_error(&mut self, forward: bool) {
        let side = &self.sides[self.focus];
        let Some(mut at) = side.at() else { return };
        let listed = side.listed();
        let next = |at: u32| if forward { side.errors.next(at + 1) } else { side.errors.previous(at) };
        while let Some(found) = next(at) {
            if listed.has(found) {
                self.sides[self.focus].cursor = found;
                self.panes.detail_top = 0;
                return;
            }
            at = found;
        }
        let so_far = if side.pages.is_done() { "" } else { ", as far as it was read" };
        let where_ = if forward { "after" } else { "before" };
        self.notice = format!("nothing listed went wrong {where_} this{so_far}");
    }

    fn follow(
        &mut self,
        what: impl Fn(&crate::row::Row) -> Option<Follow>,
        name: &str,
        effects: &mut Vec<Effect>,
    ) {
        let focus = self.focus;
        let Some(follow) = self.sides[focus].row().map(what) else { return };
        let Some(follow) = follow else {
            self.notice = format!("this event has no {name}");
            return;
        };
        let want = Want { follow: Some(follow.what), ..self.sides[focus].list.want.clone() };
        self.notice = format!("following {}; Esc ends it", follow.label);
        effects.push(self.sides[focus].want(focus, want, Some(follow.label)));
    }

    pub(crate) fn wheel(&mut self, lines: i32) {
        match self.view {
            View::Events => self.sides[self.focus].go(lines.into()),
            View::Findings => self.findings_key(if lines > 0 { Key::Down } else { Key::Up }),
            View::Timeline => {}
        }
    }

    /// A click on a line of the list goes there.
    pub(crate) fn click(&mut self, column: u16, line: u16) {
        if self.view != View::Events {
            return;
        }
        for (i, area) in self.list_areas().into_iter().enumerate() {
            if area.contains(ratatui::layout::Position { x: column, y: line }) {
                self.focus = i;
                let side = &mut self.sides[i];
                let rank = side.top + u32::from(line - area.y);
                if let Some(at) = side.listed().select(rank) {
                    side.cursor = at;
                }
            }
        }
    }
}
