//! Whether what had to come before something in the recording came before it in the other run.
//!
//! An operation is judged by its counterpart in the other run. Tasks and streams that did the same are interchangeable, and
//! which of them is which one's counterpart is a guess; so edges of one kind are judged together: the k-th effect of the
//! kind needs k of its causes. That holds whenever it holds for every edge by itself, whatever was guessed.

use super::Rows;
use super::both::{Both, Run};
use super::joint::Joint;
use super::pairing::Pairing;
use crate::order::{Edge, Edges, Place, Why};
use crate::seq::Op;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Where the counterpart of an operation is in time.
#[derive(Debug, Clone, Copy)]
struct Partner {
    lane: usize,
    ops: Both<Op>,
}

/// The operations that edges are about, and their counterparts as far as they were met.
pub(crate) struct Partners<'a> {
    edges: &'a Edges,
    /// Sorted.
    places: Vec<Place>,
    found: Vec<Option<Partner>>,
}

/// The places of one lane, in the order in which it is walked.
pub(crate) struct Cursor {
    next: usize,
    at: u32,
    place: Option<Place>,
}

impl<'a> Partners<'a> {
    pub(crate) fn of(edges: &'a Edges) -> Self {
        let mut places: Vec<Place> = edges.list().iter().flat_map(|e| [e.cause, e.effect]).collect();
        places.sort_unstable();
        places.dedup();
        let found = vec![None; places.len()];
        Self { edges, places, found }
    }

    pub(crate) fn cursor(&self, place: Option<Place>) -> Cursor {
        let next = place.map_or(self.places.len(), |p| self.places.partition_point(|q| *q < p.first()));
        Cursor { next, at: 0, place }
    }

    /// The next operation of a lane, with its counterpart if it has one.
    pub(crate) fn meet(&mut self, cursor: &mut Cursor, lane: usize, ops: Both<Option<Op>>) {
        let at = cursor.at;
        cursor.at = at.saturating_add(1);
        let Some(place) = self.places.get(cursor.next) else { return };
        if !cursor.place.is_some_and(|p| p.is_sibling(*place)) || place.at() != at {
            return;
        }
        self.found[cursor.next] = ops.together().map(|ops| Partner { lane, ops });
        cursor.next += 1;
    }

    fn partner(&self, place: Place) -> Option<Partner> {
        self.places.binary_search(&place).ok().and_then(|i| self.found[i])
    }
}

/// An effect that came before its cause.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Violation {
    pub(crate) lane: usize,
    /// The effect.
    pub(crate) effect: Both<Op>,
}

/// Edges whose ends did the same: family and base of the cause, family and base of the effect.
type Alike = (Why, (u32, u32), (u32, u32));

/// Counts edges whose effect was over in the other run before their cause began there. Returns the first.
pub(crate) fn order(
    partners: &Partners<'_>,
    joint: &Joint<'_>,
    pairing: &Pairing<'_>,
    tick_ns: u64,
    rows: &mut Rows<'_>,
) -> Option<Violation> {
    let kind = |p: Partner| (pairing.lanes[p.lane].family, joint.base(Run::Recorded, p.ops.recorded));
    let end = |op: &Op| op.t_ns.saturating_add(op.duration_ns).saturating_add(tick_ns);
    let mut alike: BTreeMap<Alike, Vec<(Partner, Partner)>> = BTreeMap::new();
    let mut judged = 0_u64;
    for Edge { cause, effect, why } in partners.edges.list() {
        let (Some(cause), Some(effect)) = (partners.partner(*cause), partners.partner(*effect)) else {
            continue;
        };
        // Its clock or its events are wrong where the recording itself has the effect first.
        if end(&effect.ops.recorded) < cause.ops.recorded.t_ns {
            continue;
        }
        alike.entry((*why, kind(cause), kind(effect))).or_default().push((cause, effect));
        judged += 1;
    }
    let mut violated: FxHashMap<Why, u64> = FxHashMap::default();
    let mut first: Option<(Violation, Why)> = None;
    for ((why, _, _), edges) in &alike {
        let mut begins: Vec<u64> = edges.iter().map(|(cause, _)| cause.ops.other.t_ns).collect();
        let mut effects: Vec<Partner> = edges.iter().map(|(_, effect)| *effect).collect();
        begins.sort_unstable();
        effects.sort_by_key(|effect| end(&effect.ops.other));
        for (begin, effect) in begins.into_iter().zip(&effects) {
            if end(&effect.ops.other) < begin {
                *violated.entry(*why).or_default() += 1;
                if first.is_none_or(|(f, _)| effect.ops.recorded.t_ns < f.effect.recorded.t_ns) {
                    first = Some((Violation { lane: effect.lane, effect: effect.ops }, *why));
                }
            }
        }
    }
    let wrong: u64 = violated.values().sum();
    let value = (judged > 0).then(|| wrong as f64 / judged as f64);
    let seen = partners.edges.seen();
    let mut note = format!("{wrong} of {judged} edges");
    if seen > partners.edges.list().len() as u64 {
        note = format!("{note}, a sample of {seen}");
    }
    if let Some((_, why)) = first {
        note = format!("{note}; first: {}", why.text());
    }
    rows.push("order", value, judged, "", if judged > 0 { note } else { String::new() });
    first.map(|(violation, _)| violation)
}
