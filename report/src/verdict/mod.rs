//! How a comparison of two runs reads: lines for a terminal, `JUnit` and Markdown for CI. JSON is
//! [`Document::of_report`](crate::Document::of_report).

mod junit;
mod markdown;

pub use junit::{JUNIT_BEGINS, junit};
pub use markdown::{MARKDOWN_BEGINS, markdown};

use crate::text::decode::plain;
use crate::text::units;
use crate::{Paint, Style};
use ctrace_analysis::{Divergence, DivergenceKind, Gates, Metric, Report, Verdict};
use std::path::Path;

/// The verdict, the reasons, the table of metrics and the first divergence. `b` is nothing when a replay was judged by its
/// journal.
pub fn lines(a: &Path, b: Option<&Path>, report: &Report, paint: Paint) -> Vec<String> {
    let mut lines = vec![verdict_line(a, b, report, paint)];
    // The first is in the line above.
    lines.extend(report.causes.iter().skip(1).map(|cause| format!("    then: {}", safe(&cause.text))));
    lines.extend(table(&report.metrics, paint));
    let note = paint.paint(Style::Yellow, "note:");
    lines.extend(report.warnings.iter().map(|warning| format!("{note} {warning}")));
    if let Some(divergence) = &report.first_divergence {
        lines.push(String::new());
        lines.extend(divergence_lines(divergence, paint));
    }
    lines
}

fn verdict_line(a: &Path, b: Option<&Path>, report: &Report, paint: Paint) -> String {
    let style = match report.verdict {
        Verdict::Match => Style::Green,
        Verdict::Deviated => Style::Red,
        Verdict::Inconclusive => Style::Yellow,
    };
    let text = report.verdict.name();
    let other = b.map_or_else(|| "the replay's own journal".to_owned(), |b| b.display().to_string());
    let compared = format!("({other} against {})", a.display());
    let reason = report.reasons.first().map_or_else(
        || format!("every gate passed over {}", units::plural(report.a.compared, "operation")),
        |reason| safe(reason),
    );
    format!("{} {compared}: {reason}", paint.paint(style, &format!("verdict: {text}")))
}

pub(crate) fn mark(metric: &Metric) -> (Style, &'static str) {
    match (metric.value, metric.pass) {
        (None, _) => (Style::Dim, "n/a"),
        (_, Some(true)) => (Style::Green, "✔"),
        (_, Some(false)) => (Style::Red, "✕"),
        (_, None) => (Style::Dim, "·"),
    }
}

pub(crate) fn number(value: f64, unit: &str) -> String {
    let text = if value == 0.0 || value.fract() == 0.0 && value.abs() < 1e6 {
        format!("{value}")
    } else if value.abs() >= 0.9 && value.abs() < 1.1 {
        // Near 1 the last digits are what matters.
        format!("{value:.5}").trim_end_matches('0').to_owned()
    } else {
        format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if unit.is_empty() { text } else { format!("{text} {unit}") }
}

pub(crate) fn gate_text(metric: &Metric) -> String {
    metric.gate.map_or_else(String::new, |gate| {
        format!("{} {}", if Gates::is_upper(metric.name) { "≤" } else { "≥" }, number(gate, metric.unit))
    })
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.chars().count())))
}

fn table(metrics: &[Metric], paint: Paint) -> Vec<String> {
    let head = format!("    {} {} {} {}", pad("metric", 12), pad("value", 12), pad("gate", 14), pad("n", 10));
    let mut lines = vec![paint.paint(Style::Dim, head.trim_end())];
    for metric in metrics {
        let (style, sign) = mark(metric);
        let value = metric.value.map_or_else(String::new, |v| number(v, metric.unit));
        let row = format!(
            "{} {} {} {} {}",
            pad(metric.name, 12),
            pad(&value, 12),
            pad(&gate_text(metric), 14),
            pad(&units::count(metric.n), 10),
            metric.note
        );
        lines.push(format!("{} {}", paint.paint(style, &pad(sign, 3)), row.trim_end()));
    }
    lines
}

fn time(ns: Option<u64>) -> String {
    ns.map_or_else(
        || " ".repeat(11),
        |ns| format!("{:>4}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000),
    )
}

/// How two runs part, in a word.
pub(crate) const fn how(kind: DivergenceKind) -> &'static str {
    match kind {
        DivergenceKind::Outcome => "Outcome",
        DivergenceKind::Missing => "Missing",
        DivergenceKind::Extra => "Extra",
        DivergenceKind::Late => "Late",
        DivergenceKind::Order => "Order",
    }
}

pub(crate) fn divergence_lines(divergence: &Divergence, paint: Paint) -> Vec<String> {
    let at = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), units::duration);
    let instead = divergence.instead.as_ref().map_or_else(String::new, |i| format!(" → {}", safe(i)));
    let mut lines = vec![
        format!("{} in {}", paint.paint(Style::Bold, "first divergence"), safe(&divergence.role)),
        format!(
            "    {}: {}{instead}, at {} of the recording and {} of the other run",
            how(divergence.kind),
            safe(&divergence.operation),
            at(divergence.a_ns),
            at(divergence.b_ns)
        ),
    ];
    for line in &divergence.context {
        let style = match line.mark {
            '-' => Style::Red,
            '+' => Style::Green,
            _ => Style::Plain,
        };
        let text = format!("  {} {} {} {}", line.mark, time(line.a_ns), time(line.b_ns), safe(&line.text));
        lines.push(paint.paint(style, &text));
    }
    lines
}

/// A text from a trace, harmless to a terminal.
fn safe(text: &str) -> String {
    plain(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_show_the_digits_that_matter() {
        assert_eq!(number(1.0, ""), "1");
        assert_eq!(number(0.999_93, ""), "0.99993");
        assert_eq!(number(0.0123, ""), "0.0123");
        assert_eq!(number(3.25, "ms"), "3.25 ms");
    }
}
