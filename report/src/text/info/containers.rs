//! The containers of a trace.

use crate::text::{containers, units};
use ctrace_analysis::CallCounts;
use ctrace_format::{Scope, Trace};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A row for each container, and for what its runtime said of the pod.
pub(super) fn rows(trace: &Trace, calls: Option<&CallCounts>) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let pairs = |map: &BTreeMap<String, String>| {
        map.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
    };
    if let Scope::Pod(pod) = &trace.header().scope {
        rows.push(("pod", format!("uid {} · {}", pod.uid, pod.runtime)));
        for (name, map) in [("labels", &pod.labels), ("annotations", &pod.annotations)] {
            if !map.is_empty() {
                rows.push((name, pairs(map)));
            }
        }
    }
    for (i, c) in trace.containers().iter().enumerate() {
        let mut parts = vec![containers::name(c)];
        if !c.image.is_empty() {
            parts.push(format!(" ({})", c.image));
        }
        parts.push(format!(" {}", c.id.get(..12).unwrap_or(&c.id)));
        if let Some(counts) = calls.map(|calls| calls.container(c.number)) {
            parts.push(format!(": {}", units::plural(counts.calls, "call")));
            if counts.failed > 0 {
                parts.push(format!(", {} failed", units::count(counts.failed)));
            }
        }
        if c.attempt > 0 {
            parts.push(format!(" · restart {}", c.attempt));
        }
        if c.from_ns > 0 {
            parts.push(format!(" · appeared at {}", units::seconds(c.from_ns)));
        }
        if let Some(to_ns) = c.to_ns {
            parts.push(format!(" · gone at {}", units::seconds(to_ns)));
        }
        rows.push((if i == 0 { "containers" } else { "" }, parts.concat()));
    }
    rows
}

/// The header's scope, with the containers that were met.
pub(super) fn scope_json(trace: &Trace, calls: Option<&CallCounts>) -> Value {
    let mut scope = json!(trace.header().scope);
    let containers: Vec<Value> = trace
        .containers()
        .iter()
        .map(|container| {
            let mut object = containers::as_json(container);
            if let Some(counts) = calls.map(|calls| calls.container(container.number)) {
                object["calls"] = json!(counts.calls);
                object["failed"] = json!(counts.failed);
            }
            object
        })
        .collect();
    if let Some(Value::Object(inner)) = scope.as_object_mut().and_then(|s| s.values_mut().next())
        && !containers.is_empty()
    {
        inner.insert("containers".to_owned(), json!(containers));
    }
    scope
}
