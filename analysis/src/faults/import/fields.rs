//! Tables of the fields of other tools' formats.

use super::{chaos_mesh, toolkit, toxiproxy};
use std::fmt::Write as _;

/// A field, and what becomes of it.
#[derive(Debug)]
pub(super) struct Field {
    /// Where it stands: `*` is any key or place of a list, a last `**` whatever is below.
    pub(super) path: &'static str,
    pub(super) to: To,
}

/// What becomes of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum To {
    /// This of a plan.
    Plan(&'static str),
    /// Nothing, for this reason.
    Not(&'static str),
}

pub(super) const fn to(path: &'static str, plan: &'static str) -> Field {
    Field { path, to: To::Plan(plan) }
}

pub(super) const fn not(path: &'static str, why: &'static str) -> Field {
    Field { path, to: To::Not(why) }
}

/// The field that stands at a path.
pub(super) fn find<'t>(table: &'t [Field], path: &str) -> Option<&'t Field> {
    table.iter().find(|field| fits(field.path, path))
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('.'), path.split('.'));
    loop {
        match (pattern.next(), path.next()) {
            (Some("**"), _) | (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == "*" || wanted == found => {}
            _ => return false,
        }
    }
}

/// What becomes of every field of every format, as Markdown.
pub fn field_table() -> String {
    let tables = [
        ("Chaos Mesh, every kind", chaos_mesh::COMMON),
        ("Chaos Mesh, IOChaos", chaos_mesh::IO),
        ("Chaos Mesh, NetworkChaos", chaos_mesh::NETWORK),
        ("Chaos Mesh, StressChaos", chaos_mesh::STRESS),
        ("Chaos Mesh, TimeChaos", chaos_mesh::TIME),
        ("Chaos Mesh, DNSChaos", chaos_mesh::DNS),
        ("Chaos Toolkit", toolkit::FIELDS),
        ("toxiproxy, a proxy", toxiproxy::PROXY),
        ("toxiproxy, a toxic", toxiproxy::TOXIC),
    ];
    let mut text = String::new();
    for (title, fields) in tables {
        let _ = write!(text, "\n#### {title}\n\n| field | in a plan |\n|---|---|\n");
        for field in fields {
            let _ = match field.to {
                To::Plan(plan) => writeln!(text, "| `{}` | {plan} |", field.path),
                To::Not(why) => writeln!(text, "| `{}` | not mapped: {why} |", field.path),
            };
        }
    }
    text
}
