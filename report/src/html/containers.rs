//! Containers and their pod.

use super::kit::{Column, Side, code, more, name, sentence, table};
use crate::text::{containers, units};
use ctrace_format::{Container, Pod, Scope};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Rows that are shown.
const ROWS: usize = 100;
/// Labels and annotations that are shown.
const LABELS: usize = 60;
/// Characters of an id that tell it from others.
const ID: usize = 12;

/// The containers of a trace; nothing where there are none.
pub(super) fn containers(side: Side) -> Markup {
    let all = side.traced.trace.containers();
    if all.is_empty() {
        return html! {};
    }
    let columns: [Column; 5] =
        [("container", false), ("image", false), ("id", false), ("restarts before", true), ("there", false)];
    let rows = html! { @for container in all.iter().take(ROWS) { (row(side, container)) } };
    html! {
        (table(&side.titled("Containers"), &columns, &rows))
        (more(all.len().saturating_sub(ROWS) as u64, "container"))
    }
}

fn row(side: Side, container: &Container) -> Markup {
    let end_ns = container.to_ns.unwrap_or_else(|| side.traced.picture.grid.end_ns());
    html! {
        tr data-from=(side.on_axis(container.from_ns)) data-to=[container.to_ns.map(|to_ns| side.on_axis(to_ns))] data-trace=(side.n) {
            th scope="row" { (name(&containers::name(container))) }
            td { (name(&container.image)) }
            td { (code(container.id.get(..ID).unwrap_or(&container.id))) }
            td.number { (units::count(u64::from(container.attempt))) }
            td {
                @if container.from_ns == 0 && container.to_ns.is_none() { "all the time" }
                @else { (side.stretch(container.from_ns, end_ns)) @if container.to_ns.is_none() { ", lived on" } }
            }
        }
    }
}

/// The pod that was recorded, as its runtime described it.
pub(super) fn pod(side: Side) -> Markup {
    let Scope::Pod(pod) = &side.traced.trace.header().scope else { return html! {} };
    let Pod { name, namespace, uid, id, attempt, labels, annotations, runtime, only } = pod;
    let restarts = units::count(u64::from(*attempt));
    let rows = html! {
        @for (key, value) in [("name", name), ("namespace", namespace), ("uid", uid), ("sandbox", id), ("runtime", runtime), ("sandboxes before", &restarts)] {
            (fact(key, value))
        }
        @if let Some(only) = only { (fact("only its container", only)) }
        (pairs("label", labels))
        (pairs("annotation", annotations))
    };
    html! {
        (table(&side.titled("The pod"), &[("fact", false), ("value", false)], &rows))
        (more((labels.len().saturating_sub(LABELS) + annotations.len().saturating_sub(LABELS)) as u64, "label"))
    }
}

fn pairs(kind: &str, map: &BTreeMap<String, String>) -> Markup {
    html! { @for (key, value) in map.iter().take(LABELS) { tr { th scope="row" { (kind) " " (name(key)) } td { (sentence(value)) } } } }
}

fn fact(key: &str, value: &str) -> Markup {
    html! { tr { th scope="row" { (key) } td { (sentence(value)) } } }
}
