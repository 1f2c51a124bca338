//! Why a file tells little.

use crate::text::units;
use ctrace_analysis::Doubt;
use serde_json::{Value, json};

/// The doubt about a file, as the rest of a sentence.
pub(crate) fn text(doubt: &Doubt) -> String {
    match doubt {
        Doubt::Empty => "no event of the workload is in it".to_owned(),
        Doubt::Cut { after_ns: 0 } => "it was cut before its first event".to_owned(),
        Doubt::Cut { after_ns } => format!(
            "it was cut after {}, and tells nothing of what came later",
            units::duration(after_ns / 1_000_000 * 1_000_000)
        ),
        Doubt::Damaged { parts, events: 0 } => {
            format!("{} of it cannot be read", units::plural(*parts, "part"))
        }
        Doubt::Damaged { parts, events } => format!(
            "{} of it cannot be read, and nothing is told of {} in there",
            units::plural(*parts, "part"),
            units::plural(*events, "event")
        ),
        Doubt::Unwritten { from_ns, events } => format!(
            "it could not be written from +{} on, and tells nothing of {} that came later",
            units::seconds(*from_ns),
            units::plural(*events, "event")
        ),
        other => other.name().to_owned(),
    }
}

/// The same for a program.
pub(super) fn json(doubt: &Doubt) -> Value {
    let mut object = json!({"kind": doubt.name(), "text": text(doubt)});
    match doubt {
        Doubt::Cut { after_ns } => object["after_ns"] = json!(after_ns),
        Doubt::Damaged { parts, events } => {
            object["parts"] = json!(parts);
            object["events"] = json!(events);
        }
        Doubt::Unwritten { from_ns, events } => {
            object["from_ns"] = json!(from_ns);
            object["events"] = json!(events);
        }
        _ => {}
    }
    object
}
