//! A verdict as Markdown.

use super::{divergence_lines, gate_text, mark, number};
use crate::Paint;
use crate::markdown::{Markdown, Part};
use crate::text::units;
use ctrace_analysis::Report;
use std::path::{Path, PathBuf};

/// How a file begins that [`markdown`] wrote.
pub const MARKDOWN_BEGINS: &str = "<!-- ctrace diff -->";

/// A section per run, with a table of the metrics. `a` is the recording; each report is of the run in its file.
pub fn markdown(a: &Path, reports: &[(PathBuf, Report)]) -> String {
    let mut out = Markdown::default();
    out.comment("ctrace diff");
    for (b, report) in reports {
        out.heading(&[
            Part::Word(&b.display().to_string()),
            Part::Ours(" against "),
            Part::Word(&a.display().to_string()),
            Part::Ours(": **"),
            Part::Ours(report.verdict.name()),
            Part::Ours("**"),
        ]);
        out.list(report.reasons.iter().map(String::as_str));
        let cells: Vec<_> = report
            .metrics
            .iter()
            .map(|m| {
                let value = m.value.map_or_else(|| "n/a".to_owned(), |v| number(v, m.unit));
                (m, value, gate_text(m), units::count(m.n))
            })
            .collect();
        let rows: Vec<_> = cells
            .iter()
            .map(|(m, value, gate, n)| {
                [
                    Part::Ours(mark(m).1),
                    Part::Ours(m.name),
                    Part::Word(value),
                    Part::Word(gate),
                    Part::Word(n),
                    Part::Word(&m.note),
                ]
            })
            .collect();
        out.table(["", "metric", "value", "gate", "n", ""], &rows);
        if let Some(divergence) = &report.first_divergence {
            out.code(&divergence_lines(divergence, Paint::none()));
        }
    }
    out.finish()
}
