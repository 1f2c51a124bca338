//! What makes a comparison less than it seems.

use super::both::Both;
use crate::model::Model;
use std::collections::BTreeSet;

/// What should be known of the two recordings before their comparison is believed.
pub(super) fn warnings(models: Both<&Model>) -> Vec<String> {
    let mut out = Vec::new();
    let origin = models.map(|m| m.origin.clone());
    if origin.recorded.replay && !origin.other.replay {
        out.push(
            "the first trace is of a replay, and the second is not: the recording comes first, as in `ctrace diff incident.ctr \
             incident.replay.ctr`"
                .to_owned(),
        );
    }
    let machines = [&origin.recorded.machine, &origin.other.machine];
    if machines[0] != machines[1] && machines.iter().all(|machine| !machine.is_empty()) {
        out.push(format!(
            "recorded on different machines: {}, and {}: their times say little about the program",
            origin.recorded.machine, origin.other.machine
        ));
    }
    if origin.recorded.policy != origin.other.policy {
        out.push(format!(
            "different things are masked in the two (--redact {} and {}): names in one may mean nothing in the other",
            origin.recorded.policy, origin.other.policy
        ));
    }
    let programs = models.map(|m| programs(m));
    if !programs.recorded.is_empty()
        && !programs.other.is_empty()
        && programs.recorded.is_disjoint(&programs.other)
    {
        out.push(format!(
            "no program is in both recordings ({} in the first, {} in the second): they are not of the same thing",
            some(&programs.recorded),
            some(&programs.other)
        ));
    }
    out
}

/// The programs that made calls.
fn programs(model: &Model) -> BTreeSet<String> {
    let active = model.processes.iter().filter(|p| p.threads.iter().any(|t| model.threads[*t].calls > 0));
    active.map(crate::roles::label).collect()
}

/// A few of them.
fn some(programs: &BTreeSet<String>) -> String {
    let mut words: Vec<&str> = programs.iter().take(3).map(String::as_str).collect();
    if programs.len() > 3 {
        words.push("…");
    }
    words.join(", ")
}
