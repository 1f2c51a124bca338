//! A verdict as XML for CI.

use super::{divergence_lines, gate_text, number};
use crate::Paint;
use crate::xml::Xml;
use ctrace_analysis::{Metric, Report, Verdict};
use std::path::{Path, PathBuf};

/// How a file begins that [`junit`] wrote.
pub const JUNIT_BEGINS: &str =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"ctrace diff\">";

/// One test suite per run, one test case per metric. `a` is the recording; each report is of the run in its file.
pub fn junit(a: &Path, reports: &[(PathBuf, Report)]) -> String {
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
