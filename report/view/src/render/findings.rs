//! What went wrong, as sentences.

use super::{Canvas, Look, time, wrap};
use crate::app::App;
use crate::side::Told;
use ctrace_analysis::{Finding, Level};
use ctrace_report::escape;
use ctrace_report::text::units;
use ratatui::layout::Rect;

/// Columns in front of a sentence.
const INDENT: usize = 12;

impl App {
    pub(super) fn draw_findings(&self, canvas: &mut Canvas<'_>, area: Rect, side: usize) {
        match &self.sides[side].told {
            Told::Working => canvas.line(area, 1, "working out what went wrong …", Look::Dim),
            Told::Failed(why) => {
                canvas.line(area, 1, &format!("findings cannot be worked out: {why}"), Look::Bad);
            }
            Told::Ready(account) if account.findings.is_empty() => {
                let text = "nothing that went wrong stands out";
                if self.sides[side].facts.tells_all {
                    canvas.line(area, 1, text, Look::Good);
                } else {
                    canvas.line(area, 1, &format!("{text} in what there is of this trace"), Look::Warning);
                }
            }
            Told::Ready(account) => self.list_findings(canvas, area, side, &account.findings),
        }
    }

    fn list_findings(&self, canvas: &mut Canvas<'_>, area: Rect, side: usize, findings: &[Finding]) {
        let chosen = self.finding[side].min(findings.len() - 1);
        let columns = usize::from(area.width).saturating_sub(INDENT);
        let blocks: Vec<Vec<String>> = findings.iter().map(|finding| block(finding, columns)).collect();
        // The chosen one is on the screen, with as many in front of it as there is room for.
        let height = usize::from(area.height);
        let mut first = chosen;
        let mut lines = blocks[chosen].len();
        while first > 0 && lines + blocks[first - 1].len() <= height {
            first -= 1;
            lines += blocks[first].len();
        }
        let mut row = 0;
        for (i, lines) in blocks.iter().enumerate().skip(first) {
            let finding = &findings[i];
            for (n, line) in lines.iter().enumerate() {
                if row >= area.height {
                    return;
                }
                let mark = if i == chosen && side == self.focus { "▶" } else { " " };
                if n == 0 {
                    let look = match finding.level {
                        Level::Cause => Look::Bad,
                        Level::Warning => Look::Warning,
                        Level::Note => Look::Dim,
                    };
                    let label = format!("{mark}{:>2} {}", finding.rank, finding.level.name());
                    canvas.put(area, area.x, area.y + row, &label, look);
                }
                let last = n + 1 == lines.len();
                let look = if last { Look::Dim } else { Look::Plain };
                canvas.put(area, area.x + INDENT as u16, area.y + row, line, look);
                if i == chosen && side == self.focus && !last {
                    canvas.paint(area, row, Look::Chosen);
                }
                row += 1;
            }
        }
    }
}

/// The lines of a finding: its sentence, and when and how often.
fn block(finding: &Finding, columns: usize) -> Vec<String> {
    let mut lines = wrap(&escape::line(&finding.sentence), columns);
    let mut facts = vec![if finding.to_ns > finding.from_ns {
        format!("{} … {} s", time(finding.from_ns), time(finding.to_ns))
    } else {
        format!("{} s", time(finding.from_ns))
    }];
    if finding.count > 1 {
        facts.push(format!("{} times", units::count(finding.count)));
    }
    facts.push(finding.kind.name().to_owned());
    if let Some(during) = finding.evidence.during
        && let Some(p50) = during.p50_ns
    {
        let before = finding.evidence.before.and_then(|before| before.p50_ns);
        let before = before.map_or_else(String::new, |ns| format!(", {} before", units::duration(ns)));
        facts.push(format!("median {}{before}", units::duration(p50)));
    }
    lines.push(facts.join(" · "));
    lines
}
