//! Figures over time: calls, errors, loss, and findings as spans.

use super::{Canvas, LABEL, Look, time};
use crate::app::App;
use crate::book::Bin;
use crate::timeline::columns;
use ctrace_analysis::{Finding, Level};
use ctrace_report::text::units;
use ratatui::layout::Rect;

/// Eighths of a line.
const STEPS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

impl App {
    pub(super) fn draw_timeline(&self, canvas: &mut Canvas<'_>, area: Rect, side: usize) {
        let width = area.width.saturating_sub(LABEL);
        let plot = Rect { x: area.x + LABEL, width, ..area };
        let (from_ns, to_ns) = (
            self.alignment.of_first(side, self.window.from_ns),
            self.alignment.of_first(side, self.window.to_ns).max(1),
        );
        let state = &self.sides[side];
        let series = state.fine.as_ref().unwrap_or(&state.series);
        let bins = columns(series, from_ns, to_ns, width);
        let column_ns = (to_ns.saturating_sub(from_ns) / u64::from(width.max(1))).max(1);
        // Of what there is, half is for the figures.
        let figures = (area.height / 2).clamp(3, 12);
        let errors = figures / 3;
        let calls = figures - errors - 1;
        let mut row = 0;
        bars(canvas, area, (row, calls.max(1)), ("calls/s", column_ns), &bins, |bin| bin.calls);
        row += calls.max(1);
        bars(canvas, area, (row, errors.max(1)), ("errors/s", column_ns), &bins, |bin| bin.errors);
        row += errors.max(1);
        let lost: u64 = bins.iter().map(|bin| bin.lost).sum();
        canvas.line(
            area,
            row,
            &format!("lost {}", short(lost)),
            if lost > 0 { Look::Bad } else { Look::Dim },
        );
        for (x, _) in bins.iter().enumerate().filter(|(_, bin)| bin.lost > 0) {
            canvas.put(plot, plot.x + x as u16, plot.y + row, "▓", Look::Bad);
        }
        row += 1;
        axis(canvas, plot, row, from_ns, to_ns);
        row += 1;
        for finding in self.findings(side) {
            if row >= area.height {
                break;
            }
            if finding.to_ns < from_ns || finding.from_ns > to_ns {
                continue;
            }
            self.span(canvas, area, plot, row, finding, side);
            row += 1;
        }
        let cursor = self.window.column(self.window.cursor_ns, width);
        if let Some((begin, end)) = self.window.brushed() {
            let begin = self.window.column(begin.max(self.window.from_ns), width);
            let end = self.window.column(end.min(self.window.to_ns), width);
            if let (Some(begin), Some(end)) = (begin, end) {
                for x in begin..=end {
                    canvas.column(Rect { height: figures, ..plot }, plot.x + x, Look::Chosen);
                }
            }
        }
        if let Some(x) = cursor {
            canvas.column(plot, plot.x + x, Look::Chosen);
        }
    }

    /// A finding as a span with its name.
    fn span(
        &self,
        canvas: &mut Canvas<'_>,
        area: Rect,
        plot: Rect,
        row: u16,
        finding: &Finding,
        side: usize,
    ) {
        let look = match finding.level {
            Level::Cause => Look::Bad,
            Level::Warning => Look::Warning,
            Level::Note => Look::Dim,
        };
        canvas.line(area, row, &format!("{:>2} {}", finding.rank, finding.level.name()), look);
        let of = |t_ns: u64| if side == 0 { t_ns } else { self.alignment.other(1, t_ns) };
        let (from, to) = (self.window.from_ns, self.window.to_ns);
        let begin = self.window.column(of(finding.from_ns).clamp(from, to), plot.width).unwrap_or(0);
        let end = self.window.column(of(finding.to_ns).clamp(from, to), plot.width).unwrap_or(begin);
        let bar = "━".repeat(usize::from(end - begin) + 1);
        let x = canvas.put(plot, plot.x + begin, plot.y + row, &bar, look);
        let name = match &finding.object {
            Some(object) => format!("{} {}", finding.kind.name(), ctrace_report::escape::line(object)),
            None => finding.kind.name().to_owned(),
        };
        let room = usize::from(plot.right().saturating_sub(x + 1));
        // Where there is no room behind the span, the name is in front of it, or on it.
        if room >= name.chars().count() || usize::from(begin) <= name.chars().count() {
            canvas.put(plot, if room > 3 { x + 1 } else { plot.x }, plot.y + row, &name, Look::Plain);
        } else {
            let x = plot.x + begin - name.chars().count() as u16 - 1;
            canvas.put(Rect { width: begin.saturating_sub(1), ..plot }, x, plot.y + row, &name, Look::Plain);
        }
    }
}

/// A row of bars, as high as there are lines, and the largest figure beside it.
fn bars(
    canvas: &mut Canvas<'_>,
    area: Rect,
    (row, lines): (u16, u16),
    (name, column_ns): (&str, u64),
    bins: &[Bin],
    figure: impl Fn(&Bin) -> u64,
) {
    let largest = bins.iter().map(&figure).max().unwrap_or(0);
    let rate = (u128::from(largest) * 1_000_000_000 / u128::from(column_ns)) as u64;
    if lines > 1 {
        canvas.line(area, row, name, Look::Title);
        canvas.line(area, row + 1, &format!("≤ {}", short(rate)), Look::Dim);
    } else {
        // Both stand in front of the bars, with a blank behind them.
        let name = name.trim_end_matches("/s");
        let room = Rect { width: area.width.min(LABEL - 1), ..area };
        let x = canvas.put(room, area.x, area.y + row, name, Look::Title);
        canvas.put(room, x + 1, area.y + row, &short(rate), Look::Dim);
    }
    let look = if name.starts_with("errors") { Look::Bad } else { Look::Plain };
    for (x, bin) in bins.iter().enumerate() {
        let full = u64::from(lines) * 8;
        let value = figure(bin);
        // What is there is seen, however small beside the largest.
        let eighths = match value {
            0 => 0,
            _ => (u128::from(value) * u128::from(full) / u128::from(largest.max(1))).max(1) as u64,
        };
        for line in 0..lines {
            let below = u64::from(lines - 1 - line) * 8;
            let step = eighths.saturating_sub(below).min(8) as usize;
            if step > 0 {
                canvas.put(area, area.x + LABEL + x as u16, area.y + row + line, STEPS[step], look);
            }
        }
    }
}

/// The times, at equal distances.
fn axis(canvas: &mut Canvas<'_>, plot: Rect, row: u16, from_ns: u64, to_ns: u64) {
    canvas.put(plot, plot.x, plot.y + row, &"─".repeat(plot.width.into()), Look::Dim);
    let labels = (plot.width / 18).max(1);
    let length = u128::from(to_ns.saturating_sub(from_ns));
    for label in 0..labels {
        let x = plot.width * label / labels;
        let t_ns = from_ns + (length * u128::from(label) / u128::from(labels)) as u64;
        canvas.put(plot, plot.x + x, plot.y + row, &format!("┬{} ", time(t_ns)), Look::Dim);
    }
}

/// `12.3k`: a figure in five columns.
fn short(number: u64) -> String {
    match number {
        0..10_000 => units::count(number),
        10_000..1_000_000 => format!("{:.1}k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.1}G", number as f64 / 1e9),
    }
}
