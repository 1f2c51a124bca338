//! Event by event, and all that one of them knows.

use super::{Canvas, Look, skip, wrap};
use crate::app::App;
use ratatui::layout::Rect;

/// Columns in front of a line: the mark of an error, the letter of a mark.
const GUTTER: u16 = 2;

impl App {
    pub(super) fn draw_events(&self, canvas: &mut Canvas<'_>, area: Rect, side: usize) {
        let detail = self.detail_height();
        let list = Rect { height: area.height.saturating_sub(detail), ..area };
        let state = &self.sides[side];
        let visible = state.visible(list.height);
        if visible.is_empty() {
            let text = match (&state.list.refused, state.is_listed()) {
                (Some(why), _) => why.as_str(),
                (None, false) => "reading …",
                (None, true) if state.list.want.is_all() => "this trace has no events",
                (None, true) => "no event fits; Esc takes the filter back",
            };
            canvas.line(list, 0, text, Look::Dim);
        }
        let at = state.at();
        // Times have room for days; most traces have seconds.
        let unused = if state.facts.to_ns < 1_000_000_000_000 { 3 } else { 0 };
        for (line, ordinal) in visible.iter().enumerate() {
            let line = line as u16;
            let chosen = at == Some(*ordinal);
            let mark =
                self.marks.iter().find(|(_, mark)| **mark == (side, *ordinal)).map(|(letter, _)| *letter);
            let Some(row) = state.rows.get(ordinal) else {
                canvas.line(list, line, "  …", Look::Dim);
                continue;
            };
            let look = match (row.is_error, row.is_call) {
                (true, _) => Look::Bad,
                (false, true) => Look::Plain,
                (false, false) => Look::Warning,
            };
            let sign = if row.is_error { "!" } else { " " };
            let mark = mark.map_or_else(|| " ".to_owned(), |letter| letter.escape_default().to_string());
            let x = canvas.put(list, list.x, list.y + line, sign, Look::Bad);
            canvas.put(list, x, list.y + line, &mark, Look::Title);
            let text = skip(&row.text, usize::from(self.panes.left) + unused);
            canvas.put(list, list.x + GUTTER, list.y + line, text, look);
            if chosen && side == self.focus {
                canvas.paint(list, line, Look::Chosen);
            } else if chosen {
                canvas.put(list, list.x, list.y + line, "▶", Look::Title);
            }
        }
        if detail > 0 {
            self.draw_detail(canvas, Rect { y: list.bottom(), height: detail, ..area }, side);
        }
    }

    fn draw_detail(&self, canvas: &mut Canvas<'_>, area: Rect, side: usize) {
        canvas.line(area, 0, &"─".repeat(area.width.into()), Look::Dim);
        canvas.put(area, area.x + 2, area.y, " detail ", Look::Title);
        let Some(row) = self.sides[side].row() else { return };
        let width = row.detail.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(24);
        let columns = usize::from(area.width).saturating_sub(width + 2);
        let mut lines: Vec<(String, String)> = Vec::new();
        for (name, value) in &row.detail {
            for (n, part) in wrap(value, columns).into_iter().enumerate() {
                let name = if n == 0 { name.clone() } else { String::new() };
                lines.push((name, part));
            }
        }
        let room = usize::from(area.height.saturating_sub(1));
        let top = usize::from(self.panes.detail_top).min(lines.len().saturating_sub(room));
        for (i, (name, value)) in lines.iter().skip(top).take(room).enumerate() {
            let y = area.y + 1 + i as u16;
            canvas.put(Rect { width: width as u16, ..area }, area.x, y, name, Look::Dim);
            canvas.put(area, area.x + width as u16 + 2, y, value, Look::Plain);
        }
        if lines.len() > top + room {
            let more = format!(" {} more: J ", lines.len() - top - room);
            let x = area.right().saturating_sub(more.len() as u16 + 2);
            canvas.put(area, x, area.y, &more, Look::Dim);
        }
    }
}
