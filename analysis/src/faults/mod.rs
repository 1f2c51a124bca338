//! Fault plans: which calls of a recording are to fail, or to take longer, in its replay.
//!
//! A [`Plan`] is a list of rules, each written as an expression of strace's (`connect:error=ECONNREFUSED:when=3+`, strace(1),
//! "Tampering"), with more to choose by: the task, the other end, the path, arguments, chance. [`Plan::resolve`] tells which
//! calls of a recording it hits, without running anything; the same plan and seed hit the same calls.
//! [`Plan::of_document`] reads the same from files, `ctrace.faults/v1` (docs/faults.md).
//!
//! A plan comes from elsewhere: reading one is bounded, and panics on nothing.

mod asks;
mod choose;
mod document;
mod export;
mod fits;
mod import;
mod keys;
mod matching;
mod moments;
mod natural;
mod net;
mod parse;
mod plan;
mod resolve;
mod schema;
mod seats;
mod sweep;
mod tree;
mod yaml;

pub use asks::{Amount, Ask, Cpu, Disk, Levels, Memory, Other};
pub use export::Export;
pub use import::{Format, Import, Unmapped, field_table};
pub use keys::VERSION;
pub use matching::{Comparison, Match, Peer, Predicate};
pub use moments::{Burst, Window};
pub use natural::{Natural, amplify, natural};
pub use parse::PlanError;
pub use plan::{Action, Delay, Nth, Phase, Plan, Rule, When};
pub use resolve::{Hit, Resolution, ResolveError, Resolved};
pub use schema::{json_schema, key_table};
pub use sweep::{Sweep, Tried};
pub use tree::{Entry, Mark, Node, Value};
pub use yaml::{DocumentError, MAX_BYTES};

use ctrace_format::Header;

/// Rules of a replay that are told one by one.
const TOLD: usize = 8;

/// Whether the trace whose header this is is of a replay with rules that hit calls.
pub fn has_rules(header: &Header) -> bool {
    let plan = header.host.facts.get(crate::FAULTS).map(|text| Plan::of_text(text));
    plan.is_some_and(|plan| plan.is_ok_and(|plan| !plan.rules.is_empty()))
}

/// The faults of the replay whose header this is, a line for each rule; none: it had no faults.
pub fn told(header: &Header) -> Vec<String> {
    let Some(text) = header.host.facts.get(crate::FAULTS) else { return Vec::new() };
    let Ok(plan) = Plan::of_text(text) else {
        return vec!["not known: the plan was redacted".to_owned()];
    };
    let mut lines: Vec<String> = plan.rules.iter().take(TOLD).map(|rule| rule.text.clone()).collect();
    if let Some(more) = plan.rules.len().checked_sub(TOLD).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    lines
}
