//! A verdict as XML for CI.

use super::{divergence_lines, gate_text, number};
use crate::Paint;
use crate::escape::line;
use ctrace_analysis::{Metric, Report, Verdict};
use quick_junit::{NonSuccessKind, SerializeError, TestCase, TestCaseStatus, TestSuite};
use std::path::{Path, PathBuf};

/// How a file begins that [`junit`] wrote.
pub const JUNIT_BEGINS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"ctrace diff\"";

/// One test suite per run, one test case per metric and one for the verdict. `a` is the recording; each report is of the
/// run in its file.
///
/// # Errors
/// When the XML cannot be formed, which names from a trace cannot bring about: what XML forbids is spelled out.
pub fn junit(a: &Path, reports: &[(PathBuf, Report)]) -> Result<String, SerializeError> {
    let mut xml = quick_junit::Report::new("ctrace diff");
    for (b, report) in reports {
        let mut suite = TestSuite::new(line(&format!("{} against {}", b.display(), a.display())));
        for metric in &report.metrics {
            suite.add_test_case(case(metric.name, of_metric(metric), metric.value.map(|v| (v, metric.unit))));
        }
        suite.add_test_case(case("verdict", of_verdict(report), None));
        xml.add_test_suite(suite);
    }
    xml.to_string()
}

fn case(name: &str, status: TestCaseStatus, value: Option<(f64, &str)>) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname("ctrace.diff");
    if let Some((value, unit)) = value {
        case.set_system_out(number(value, unit));
    }
    case
}

fn of_metric(metric: &Metric) -> TestCaseStatus {
    match (metric.value, metric.pass) {
        (None, _) => {
            let mut skipped = TestCaseStatus::skipped();
            skipped.set_message("nothing to compare");
            skipped
        }
        (Some(value), Some(false)) => {
            let value = number(value, metric.unit);
            failed(
                NonSuccessKind::Failure,
                &format!("{} is {value}, gate {}", metric.name, gate_text(metric)),
            )
        }
        (Some(_), _) => TestCaseStatus::success(),
    }
}

fn of_verdict(report: &Report) -> TestCaseStatus {
    let reasons = report.reasons.join("; ");
    match report.verdict {
        Verdict::Match => TestCaseStatus::success(),
        Verdict::Deviated => {
            let mut status = failed(NonSuccessKind::Failure, &format!("deviated: {reasons}"));
            if let Some(first) = &report.first_divergence {
                let lines = divergence_lines(first, Paint::none());
                let lines: Vec<_> = lines.iter().map(|text| line(text)).collect();
                status.set_description(lines.join("\n"));
            }
            status
        }
        Verdict::Inconclusive => failed(NonSuccessKind::Error, &format!("inconclusive: {reasons}")),
    }
}

/// XML 1.0 forbids some characters (section 2.2) and normalises others in attributes (section 3.3.3); [`line`] spells all of
/// them out.
fn failed(kind: NonSuccessKind, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(line(message));
    status
}
