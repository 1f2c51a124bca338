//! Circles of threads that wait for each other.

use super::super::attempts::attempted;
use super::super::people::Actor;
use super::super::rank::score;
use super::super::{EventId, Facts, Finding, Kind, Level};
use super::{Edge, Waiting, Waits, named_thread};
use ctrace_format::WaitKind;
use petgraph::graphmap::DiGraphMap;
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt::Write as _;

impl Waits {
    /// Threads that wait for each other. Returns who is in a circle.
    pub(super) fn deadlocks(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) -> FxHashSet<u32> {
        let mut graph: DiGraphMap<u32, ()> = DiGraphMap::new();
        for (waiter, edges) in &self.edges {
            for edge in edges {
                // A pipe or a child that several could serve is no circle unless all of them are in it; one holder that
                // is not there at the end can still come.
                graph.add_edge(*waiter, edge.holder.tid, ());
            }
        }
        let blocked: FxHashMap<u32, &Waiting> = self.waiting.iter().map(|w| (w.actor.tid, w)).collect();
        let mut in_circle = FxHashSet::default();
        let mut circles = petgraph::algo::tarjan_scc(&graph);
        for circle in &mut circles {
            circle.sort_unstable();
        }
        circles.sort();
        for circle in circles {
            let own = circle.len() == 1 && graph.contains_edge(circle[0], circle[0]);
            let all_wait = circle.iter().all(|tid| {
                // A lock whose memory tells its holder is no queue of work.
                let locked =
                    |e: &Edge| matches!(e.what, WaitKind::Futex | WaitKind::Flock | WaitKind::PosixLock);
                blocked.get(tid).is_some_and(|w| {
                    !w.is_idle() || self.edges.get(tid).is_some_and(|edges| edges.iter().any(locked))
                }) && self.edges.get(tid).is_some_and(|edges| {
                    edges
                        .iter()
                        .all(|e| circle.binary_search(&e.holder.tid).is_ok() || e.what == WaitKind::Child)
                })
            });
            if circle.len() < 2 && !own || !all_wait {
                continue;
            }
            in_circle.extend(circle.iter().copied());
            out.push(self.circle(facts, &circle, &blocked));
        }
        in_circle
    }

    fn circle(&self, facts: &Facts<'_>, circle: &[u32], blocked: &FxHashMap<u32, &Waiting>) -> Finding {
        const SAID: usize = 4;
        let thread = |actor: &Actor| format!("{} (tid {})", facts.people.role_name(actor.role), actor.tid);
        let mut parts = Vec::new();
        let mut objects = Vec::new();
        let mut from_ns = 0;
        let mut events = Vec::new();
        let mut since = Vec::new();
        for tid in circle {
            let (Some(waiting), Some(edges)) = (blocked.get(tid), self.edges.get(tid)) else { continue };
            let Some(edge) = edges.iter().find(|e| circle.binary_search(&e.holder.tid).is_ok()) else {
                continue;
            };
            let object = facts.places.name(edge.object);
            objects.push(object.to_owned());
            let what = match edge.what {
                WaitKind::Futex => format!("the lock at {object}"),
                WaitKind::Flock => format!("the flock of {object}"),
                WaitKind::PosixLock => format!("the lock of {object}"),
                WaitKind::Pipe | WaitKind::Socket => format!("{object}, whose other end is with"),
                _ => "the end of".to_owned(),
            };
            let joint = match edge.what {
                WaitKind::Futex | WaitKind::Flock | WaitKind::PosixLock => {
                    format!(", held by {}", thread(&edge.holder))
                }
                _ => format!(" {}", thread(&edge.holder)),
            };
            parts.push(format!("{} waits for {what}{joint}", thread(&waiting.actor)));
            from_ns = from_ns.max(waiting.t_ns);
            events.push(EventId { end_ns: waiting.end_ns, tid: *tid });
            since.push(self.since(waiting));
        }
        if let ([tid], Some(waiting)) = (circle, circle.first().and_then(|tid| blocked.get(tid))) {
            let object = objects.first().map_or("", String::as_str);
            let sentence = format!(
                "{} has not returned from {} {}: it waits for itself, nobody else could end that",
                named_thread(facts, &waiting.actor),
                attempted(waiting.call, object),
                self.since(waiting)
            );
            let mut found = Finding::new(Kind::Hang, Level::Cause, score(Kind::Hang), sentence)
                .over(from_ns, facts.duration_ns, 1)
                .by(facts.people.role_name(waiting.actor.role))
                .against(object)
                .seen(waiting.end_ns, *tid);
            found.evidence.events.truncate(1);
            return found;
        }
        let more = parts.len().saturating_sub(SAID);
        parts.truncate(SAID);
        let mut sentence = format!("deadlock: {}", parts.join("; "));
        if more > 0 {
            let _ = write!(sentence, "; and {more} more in the circle");
        }
        if let Some(since) = since.first() {
            let _ = write!(sentence, "; {since}");
        }
        let role = blocked.get(&circle[0]).map_or("", |w| facts.people.role_name(w.actor.role));
        let mut found = Finding::new(Kind::Deadlock, Level::Cause, score(Kind::Deadlock), sentence)
            .over(from_ns, facts.duration_ns, circle.len() as u64)
            .by(role)
            .against(objects.join(", "));
        found.evidence.events = events;
        found
    }
}
