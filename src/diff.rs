//! `ctrace diff`: whether another run did what the recording shows.

use crate::exit::{Exit, Failure};
use crate::output::{Output, Paint, Style};
use crate::{open, units};
use anyhow::Context;
use ctrace_analysis::{Divergence, Gates, Metric, Model, Profile, Report, Verdict, diff};
use ctrace_format::{Policy, Trace};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Compare a recording with other runs, metric by metric.
///
/// Exit 0: match; 1: deviated; 3: inconclusive.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctrace diff incident.ctr replay.ctr
  ctrace diff before.ctr after.ctr --fail-on alignment=0.9 --junit diff.xml")]
pub(crate) struct Args {
    /// The recording
    a: PathBuf,
    /// The other runs
    #[arg(required = true)]
    b: Vec<PathBuf>,
    /// What the other run is: a replay must do everything again, a real program the same on the whole
    #[arg(long, value_name = "KIND", default_value = "auto")]
    profile: ProfileName,
    #[arg(long, value_name = "METRIC=GATE", help = gate_help("alignment=0.9"))]
    fail_on: Vec<String>,
    /// Write the result as XML for CI (`JUnit`)
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the result as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// One JSON object per run
    #[arg(long)]
    json: bool,
}

/// Which metrics there are.
pub(crate) fn gate_help(example: &str) -> String {
    let metrics = Gates::metrics().collect::<Vec<_>>().join(", ");
    format!("Another gate for a metric, as in {example}; metrics: {metrics}")
}

/// The profiles as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ProfileName {
    /// A replay when the trace is one of a replay
    Auto,
    /// A replay
    Synthetic,
    /// A run of a real program
    Real,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let first = open(&args.a, out)?;
    let redaction = first.header().redaction.clone();
    let a = model(&args.a, &first.rebased())?;
    let mut reports = Vec::new();
    for path in &args.b {
        let trace = open(path, out)?;
        if strangers(&redaction, &trace.header().redaction) {
            out.warn(
                "both traces have pseudonyms, of different keys: names in one mean nothing in the other",
            );
        }
        let trace = trace.rebased();
        let replay = trace.summary().is_some_and(|s| s.engine_calls > 0);
        let b = model(path, &trace)?;
        drop(trace);
        let profile = match args.profile {
            ProfileName::Synthetic => Profile::Synthetic,
            ProfileName::Auto if replay => Profile::Synthetic,
            ProfileName::Auto | ProfileName::Real => Profile::RealBinary,
        };
        let report = diff(&a, &b, &gates(profile, &args.fail_on)?);
        if args.json {
            out.json(&report)?;
        } else {
            print(&args.a, path, &report, out)?;
        }
        reports.push((path.as_path(), report));
    }
    write_to(args.junit.as_deref(), || junit(&args.a, &reports))?;
    write_to(args.markdown.as_deref(), || markdown(&args.a, &reports))?;
    Ok(worst(reports.iter().map(|(_, r)| r.verdict)))
}

/// Whether two headers tell of pseudonyms that cannot be compared.
fn strangers(a: &str, b: &str) -> bool {
    Policy::of_header(a) == Policy::Strict && Policy::of_header(b) == Policy::Strict && a != b
}

/// The gates of a profile with the changes of `--fail-on`.
pub(crate) fn gates(profile: Profile, fail_on: &[String]) -> Result<Gates, Failure> {
    let mut gates = Gates::new(profile);
    for text in fail_on {
        gates.fail_on(text).map_err(|e| Failure::new(Exit::Usage, e))?;
    }
    Ok(gates)
}

/// What a trace means.
pub(crate) fn model(path: &Path, trace: &Trace) -> Result<Model, Failure> {
    Model::build(trace)
        .with_context(|| format!("understanding {}", path.display()))
        .map_err(|e| Failure::new(Exit::BadTrace, e))
}

/// The exit code of a verdict.
pub(crate) const fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Match => Exit::Done,
        Verdict::Deviated => Exit::Deviated,
        Verdict::Inconclusive => Exit::Inconclusive,
    }
}

/// One deviation decides; without one, one doubt does.
fn worst(verdicts: impl Iterator<Item = Verdict>) -> Exit {
    let rank = |v: &Verdict| match v {
        Verdict::Match => 0,
        Verdict::Inconclusive => 1,
        Verdict::Deviated => 2,
    };
    verdicts.max_by_key(rank).map_or(Exit::Inconclusive, exit)
}

fn write_to(path: Option<&Path>, text: impl FnOnce() -> String) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    // It names files and addresses, as the traces do.
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text().as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
        .map_err(|e| Failure::new(Exit::Output, e))
}

const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Match => "match",
        Verdict::Deviated => "deviated",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// Prints the verdict, the table of metrics and the first divergence.
///
/// # Errors
/// As the standard output fails.
pub(crate) fn print(a: &Path, b: &Path, report: &Report, out: &mut Output) -> Result<(), Failure> {
    let paint = out.data_paint();
    out.data(&verdict_line(a, b, report, paint))?;
    for line in table(&report.metrics, paint) {
        out.data(&line)?;
    }
    for warning in &report.warnings {
        out.data(&format!("{} {warning}", paint.paint(Style::Yellow, "note:")))?;
    }
    if let Some(divergence) = &report.first_divergence {
        out.data("")?;
        for line in divergence_lines(divergence, paint) {
            out.data(&line)?;
        }
    }
    Ok(())
}

fn verdict_line(a: &Path, b: &Path, report: &Report, paint: Paint) -> String {
    let (style, text) = match report.verdict {
        Verdict::Match => (Style::Green, "match".to_owned()),
        Verdict::Deviated => (Style::Red, "deviated".to_owned()),
        Verdict::Inconclusive => (Style::Yellow, "inconclusive".to_owned()),
    };
    let compared = format!("({} against {})", b.display(), a.display());
    let reason = report.reasons.first().map_or_else(
        || format!("every gate passed over {}", units::plural(report.a.compared, "operation")),
        Clone::clone,
    );
    format!("{} {compared}: {reason}", paint.paint(style, &format!("verdict: {text}")))
}

fn mark(metric: &Metric) -> (Style, &'static str) {
    match (metric.value, metric.pass) {
        (None, _) => (Style::Dim, "n/a"),
        (_, Some(true)) => (Style::Green, "✔"),
        (_, Some(false)) => (Style::Red, "✕"),
        (_, None) => (Style::Dim, "·"),
    }
}

fn number(value: f64, unit: &str) -> String {
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

/// Metrics that are better when smaller.
fn at_most(name: &str) -> bool {
    matches!(name, "outcomes" | "order" | "makespan" | "drift" | "resources")
}

fn gate_text(metric: &Metric) -> String {
    metric.gate.map_or_else(String::new, |gate| {
        format!("{} {}", if at_most(metric.name) { "≤" } else { "≥" }, number(gate, metric.unit))
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

fn divergence_lines(divergence: &Divergence, paint: Paint) -> Vec<String> {
    let at = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), units::duration);
    let instead = divergence.instead.as_ref().map_or_else(String::new, |i| format!(" → {}", safe(i)));
    let mut lines = vec![
        format!("{} in {}", paint.paint(Style::Bold, "first divergence"), safe(&divergence.role)),
        format!(
            "    {:?}: {}{instead}, at {} of the recording and {} of the other run",
            divergence.kind,
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
    crate::decode::plain(text.as_bytes())
}

fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn plain_divergence(divergence: &Divergence) -> String {
    divergence_lines(divergence, Paint::none()).join("\n")
}

/// One test suite per run, one test case per metric.
fn junit(a: &Path, reports: &[(&Path, Report)]) -> String {
    let mut out =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"ctrace diff\">\n");
    for (b, report) in reports {
        let failures = report.metrics.iter().filter(|m| m.pass == Some(false)).count();
        let skipped = report.metrics.iter().filter(|m| m.value.is_none()).count();
        let errors = usize::from(report.verdict == Verdict::Inconclusive);
        let name = xml(&format!("{} against {}", b.display(), a.display()));
        let _ = writeln!(
            out,
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\">",
            report.metrics.len() + 1
        );
        for metric in &report.metrics {
            let text =
                metric.value.map_or_else(|| "nothing to compare".to_owned(), |v| number(v, metric.unit));
            let body = match (metric.value, metric.pass) {
                (None, _) => "<skipped message=\"nothing to compare\"/>".to_owned(),
                (_, Some(false)) => {
                    format!(
                        "<failure message=\"{} is {}, gate {}\"/>",
                        metric.name,
                        xml(&text),
                        xml(&gate_text(metric))
                    )
                }
                _ => format!("<system-out>{}</system-out>", xml(&text)),
            };
            let _ = writeln!(
                out,
                "    <testcase classname=\"ctrace.diff\" name=\"{}\">{body}</testcase>",
                metric.name
            );
        }
        let reasons = xml(&report.reasons.join("; "));
        let body = match report.verdict {
            Verdict::Match => String::new(),
            Verdict::Deviated => {
                let first = report.first_divergence.as_ref().map_or_else(String::new, plain_divergence);
                format!("<failure message=\"deviated: {reasons}\">{}</failure>", xml(&first))
            }
            Verdict::Inconclusive => format!("<error message=\"inconclusive: {reasons}\"/>"),
        };
        let _ = writeln!(
            out,
            "    <testcase classname=\"ctrace.diff\" name=\"verdict\">{body}</testcase>\n  </testsuite>"
        );
    }
    out.push_str("</testsuites>\n");
    out
}

fn markdown(a: &Path, reports: &[(&Path, Report)]) -> String {
    let mut out = String::new();
    for (b, report) in reports {
        let _ = writeln!(
            out,
            "## `{}` against `{}`: **{}**\n",
            b.display(),
            a.display(),
            verdict_name(report.verdict)
        );
        for reason in &report.reasons {
            let _ = writeln!(out, "- {reason}");
        }
        out.push_str("\n| | metric | value | gate | n | |\n|---|---|---|---|---|---|\n");
        for metric in &report.metrics {
            let value = metric.value.map_or_else(|| "n/a".to_owned(), |v| number(v, metric.unit));
            let _ = writeln!(
                out,
                "| {} | {} | {value} | {} | {} | {} |",
                mark(metric).1,
                metric.name,
                gate_text(metric),
                units::count(metric.n),
                metric.note.replace('|', "\\|")
            );
        }
        if let Some(divergence) = &report.first_divergence {
            // A fence longer than any run of backticks inside cannot be closed from inside.
            let body = plain_divergence(divergence);
            let fence = "`".repeat(4.max(longest_run(&body, '`') + 1));
            let _ = writeln!(out, "\n{fence}\n{body}\n{fence}");
        }
        out.push('\n');
    }
    out
}

fn longest_run(text: &str, of: char) -> usize {
    text.split(|c| c != of).map(|run| run.chars().count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_deviation_decides_and_then_one_doubt() {
        use Verdict::{Deviated, Inconclusive, Match};
        assert_eq!(worst([Match, Match].into_iter()), Exit::Done);
        assert_eq!(worst([Match, Inconclusive].into_iter()), Exit::Inconclusive);
        assert_eq!(worst([Inconclusive, Deviated, Match].into_iter()), Exit::Deviated);
    }

    #[test]
    fn text_from_a_trace_stays_text_in_xml() {
        assert_eq!(xml("<a href=\"x\">&\u{1b}"), "&lt;a href=&quot;x&quot;&gt;&amp;\u{fffd}");
    }

    #[test]
    fn numbers_show_the_digits_that_matter() {
        assert_eq!(number(1.0, ""), "1");
        assert_eq!(number(0.999_93, ""), "0.99993");
        assert_eq!(number(0.0123, ""), "0.0123");
        assert_eq!(number(3.25, "ms"), "3.25 ms");
        assert_eq!(longest_run("a ``` b", '`'), 3);
    }
}
