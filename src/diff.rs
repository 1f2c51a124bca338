//! `ctrace diff`: whether another run did what the recording shows.

use crate::escape::markdown::{Markdown, Part};
use crate::escape::xml::Xml;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Paint, Style};
use crate::{read, units};
use anyhow::Context;
use ctrace_analysis::{Divergence, Gates, Metric, Model, Profile, Report, Verdict, diff};
use ctrace_format::{OutFile, Policy, Taken, Trace, TraceFile};
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
    /// Replace files of these names, if they are yours; without this, only what diff wrote before is replaced
    #[arg(long)]
    force: bool,
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
    let first = TraceFile::open(&args.a)?;
    let others = args.b.iter().map(|path| TraceFile::open(path)).collect::<Result<Vec<_>, _>>()?;
    let outputs: Vec<&Path> =
        [&args.junit, &args.markdown].into_iter().flatten().map(PathBuf::as_path).collect();
    let inputs: Vec<&TraceFile> = std::iter::once(&first).chain(&others).collect();
    for output in &outputs {
        crate::keep_inputs(&inputs, output)?;
    }
    let junit_file = written_to(args.junit.as_deref(), JUNIT_BEGINS, args.force, out)?;
    let markdown_file = written_to(args.markdown.as_deref(), MARKDOWN_BEGINS, args.force, out)?;
    crate::give_up(&outputs)?;
    let first = read(first, out)?;
    let redaction = first.header().redaction.clone();
    let a = model(&args.a, &first.rebased())?;
    let mut reports = Vec::new();
    for file in others {
        let path = file.path().to_owned();
        let trace = read(file, out)?;
        if strangers(&redaction, &trace.header().redaction) {
            out.warn(
                "both traces have pseudonyms, of different keys: names in one mean nothing in the other",
            );
        }
        let trace = trace.rebased();
        let replay = trace.summary().is_some_and(|s| s.engine_calls > 0);
        let b = model(&path, &trace)?;
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
            print(&args.a, Some(&path), &report, out)?;
        }
        reports.push((path, report));
    }
    if let Some(file) = junit_file {
        file.write_whole(junit(&args.a, &reports).as_bytes())?;
    }
    if let Some(file) = markdown_file {
        file.write_whole(markdown(&args.a, &reports).as_bytes())?;
    }
    Ok(worst(reports.iter().map(|(_, r)| r.verdict)))
}

/// Makes a file that is written at the end. An earlier one of its kind, which begins like this, is replaced.
fn written_to(
    path: Option<&Path>,
    begins: &'static str,
    force: bool,
    out: &mut Output,
) -> Result<Option<OutFile>, Failure> {
    let taken = if force { Taken::Replace } else { Taken::replace_if_begins(begins) };
    path.map(|path| crate::output(path, &taken, out)).transpose()
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

const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Match => "match",
        Verdict::Deviated => "deviated",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// Prints the verdict, the reasons, the table of metrics and the first divergence. `b` is nothing when a replay was judged by
/// its journal.
///
/// # Errors
/// As the standard output fails.
pub(crate) fn print(a: &Path, b: Option<&Path>, report: &Report, out: &mut Output) -> Result<(), Failure> {
    let paint = out.data_paint();
    out.data(&verdict_line(a, b, report, paint))?;
    // The first is in the line above.
    for cause in report.causes.iter().skip(1) {
        out.data(&format!("    then: {}", safe(&cause.text)))?;
    }
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

fn verdict_line(a: &Path, b: Option<&Path>, report: &Report, paint: Paint) -> String {
    let (style, text) = match report.verdict {
        Verdict::Match => (Style::Green, "match".to_owned()),
        Verdict::Deviated => (Style::Red, "deviated".to_owned()),
        Verdict::Inconclusive => (Style::Yellow, "inconclusive".to_owned()),
    };
    let other = b.map_or_else(|| "the replay's own journal".to_owned(), |b| b.display().to_string());
    let compared = format!("({other} against {})", a.display());
    let reason = report.reasons.first().map_or_else(
        || format!("every gate passed over {}", units::plural(report.a.compared, "operation")),
        |reason| safe(reason),
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

fn gate_text(metric: &Metric) -> String {
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

/// How a file begins that [`junit`] wrote.
const JUNIT_BEGINS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"ctrace diff\">";
/// How a file begins that [`markdown`] wrote.
const MARKDOWN_BEGINS: &str = "<!-- ctrace diff -->";

/// One test suite per run, one test case per metric.
fn junit(a: &Path, reports: &[(PathBuf, Report)]) -> String {
    let mut xml = Xml::new();
    xml.open("testsuites", &[("name", "ctrace diff")]);
    for (b, report) in reports {
        let count =
            |yes: &dyn Fn(&Metric) -> bool| report.metrics.iter().filter(|m| yes(m)).count().to_string();
        xml.open(
            "testsuite",
            &[
                ("name", &format!("{} against {}", b.display(), a.display())),
                ("tests", &(report.metrics.len() + 1).to_string()),
                ("failures", &count(&|m| m.pass == Some(false))),
                ("errors", &u8::from(report.verdict == Verdict::Inconclusive).to_string()),
                ("skipped", &count(&|m| m.value.is_none())),
            ],
        );
        for metric in &report.metrics {
            xml.open("testcase", &[("classname", "ctrace.diff"), ("name", metric.name)]);
            match (metric.value, metric.pass) {
                (None, _) => xml.element("skipped", &[("message", "nothing to compare")], &[]),
                (Some(value), Some(false)) => {
                    let value = number(value, metric.unit);
                    let message = format!("{} is {value}, gate {}", metric.name, gate_text(metric));
                    xml.element("failure", &[("message", &message)], &[]);
                }
                (Some(value), _) => xml.element("system-out", &[], &[number(value, metric.unit)]),
            }
            xml.close();
        }
        xml.open("testcase", &[("classname", "ctrace.diff"), ("name", "verdict")]);
        let reasons = report.reasons.join("; ");
        match report.verdict {
            Verdict::Match => {}
            Verdict::Deviated => {
                let first = report.first_divergence.as_ref();
                let first = first.map_or_else(Vec::new, |d| divergence_lines(d, Paint::none()));
                xml.element("failure", &[("message", &format!("deviated: {reasons}"))], &first);
            }
            Verdict::Inconclusive => {
                xml.element("error", &[("message", &format!("inconclusive: {reasons}"))], &[]);
            }
        }
        xml.close();
        xml.close();
    }
    xml.finish()
}

fn markdown(a: &Path, reports: &[(PathBuf, Report)]) -> String {
    let mut out = Markdown::default();
    out.comment("ctrace diff");
    for (b, report) in reports {
        out.heading(&[
            Part::Word(&b.display().to_string()),
            Part::Ours(" against "),
            Part::Word(&a.display().to_string()),
            Part::Ours(": **"),
            Part::Ours(verdict_name(report.verdict)),
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
    fn numbers_show_the_digits_that_matter() {
        assert_eq!(number(1.0, ""), "1");
        assert_eq!(number(0.999_93, ""), "0.99993");
        assert_eq!(number(0.0123, ""), "0.0123");
        assert_eq!(number(3.25, "ms"), "3.25 ms");
    }
}
