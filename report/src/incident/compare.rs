//! Rows of several traces side by side, for the tables of a report.

use super::Traced;
use crate::text::units;
use ctrace_analysis::picture::{Change, ErrorRow};

/// A call and an error, in the traces of a report.
#[derive(Debug)]
pub(crate) struct ErrorPair<'a> {
    /// The row in each trace.
    pub(crate) rows: Vec<Option<&'a ErrorRow>>,
}

impl<'a> ErrorPair<'a> {
    /// A row of it, for what is the same in all.
    pub(crate) fn any(&self) -> Option<&'a ErrorRow> {
        self.rows.iter().copied().flatten().next()
    }

    /// How often, in each trace.
    pub(crate) fn counts(&self) -> Vec<u64> {
        self.rows.iter().map(|row| row.map_or(0, |row| row.count)).collect()
    }

    /// How many of them healthy programs meet, too: `by design`, `12 of them by design`; `None`: none of them, or, of several
    /// traces, some.
    pub(crate) fn by_design(&self) -> Option<String> {
        let rows: Vec<&ErrorRow> = self.rows.iter().copied().flatten().collect();
        match rows[..] {
            _ if rows.iter().all(|row| row.is_benign()) => Some("by design".to_owned()),
            [row] if row.failures < row.count => {
                Some(format!("{} of them by design", units::count(row.count - row.failures)))
            }
            _ => None,
        }
    }
}

/// The failures of all traces, those of the first in its order, then what only later ones have.
pub(crate) fn errors<'a>(traces: &[Traced<'a>]) -> Vec<ErrorPair<'a>> {
    let mut pairs: Vec<ErrorPair> = Vec::new();
    for (at, traced) in traces.iter().enumerate() {
        for row in &traced.picture.errors.rows {
            let known = pairs
                .iter_mut()
                .find(|pair| pair.any().is_some_and(|r| (&r.call, &r.errno) == (&row.call, &row.errno)));
            if let Some(pair) = known {
                pair.rows[at].get_or_insert(row);
            } else {
                let mut rows = vec![None; traces.len()];
                rows[at] = Some(row);
                pairs.push(ErrorPair { rows });
            }
        }
    }
    pairs
}

/// The change of another trace that is the like of this one: of the same curve, in the same direction, nearest in time.
pub(crate) fn twin<'a>(change: &Change, other: &Traced<'a>) -> Option<&'a Change> {
    let up = |c: &Change| c.after > c.before;
    let near = |c: &&Change| c.at_ns.abs_diff(change.at_ns);
    let alike = |c: &&Change| (c.panel, &c.curve, up(c)) == (change.panel, &change.curve, up(change));
    other.picture.changes.iter().filter(alike).min_by_key(near)
}
