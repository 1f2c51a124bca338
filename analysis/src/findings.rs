//! Findings: what a trace shows, in words.

use crate::model::Model;
use serde::Serialize;

/// What kind of thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// Operations failed.
    Failing,
    /// A call had not returned at the end.
    Hung,
}

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// The sentence.
    pub text: String,
    /// When it began, ns since the start of the trace.
    pub t_ns: u64,
    /// How important: larger is more.
    pub weight: u64,
}

/// What the trace shows, most important first.
pub fn findings(model: &Model) -> Vec<Finding> {
    model
        .hung
        .iter()
        .map(|h| Finding {
            kind: FindingKind::Hung,
            text: format!("{}({}) never returned", model.name(h.call), model.name(h.object)),
            t_ns: h.t_ns,
            weight: h.duration_ns,
        })
        .collect()
}
