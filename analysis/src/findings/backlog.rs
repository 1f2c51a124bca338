//! Queues of listeners that were full: the kernel counts what it dropped for a whole network, the queues tell whose it
//! was.

use super::network::Listener;
use super::words::{count, times, when};
use super::{Facts, Finding, Kind, Level};
use std::fmt::Write as _;

/// Connections that found a queue full, as samples of a group count them.
#[derive(Debug, Clone)]
pub(super) struct Overflow {
    /// The scope or container that the samples are of.
    pub(super) group: String,
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    pub(super) count: u64,
    /// The longest queue of its listeners.
    pub(super) longest: u64,
}

/// The listeners whose queue can have been the full one: the kernel lets one more in than was asked for
/// (`sk_acceptq_is_full`, include/net/sock.h).
fn full<'a>(listeners: &'a [Listener], longest: u64) -> Vec<&'a Listener> {
    let is_full = |l: &&'a Listener| l.backlog.is_some_and(|b| (b..=b + 1).contains(&longest));
    let full: Vec<&Listener> = listeners.iter().filter(is_full).collect();
    if full.is_empty() { listeners.iter().collect() } else { full }
}

/// Says whose queue was full.
pub(super) fn findings(
    facts: &Facts<'_>,
    overflows: &[Overflow],
    listeners: &[Listener],
    out: &mut Vec<Finding>,
) {
    const NAMED: usize = 3;
    for overflow in overflows {
        let Overflow { group, from_ns, to_ns, count: n, longest } = overflow;
        let full = full(listeners, *longest);
        let named: Vec<String> = full
            .iter()
            .take(NAMED)
            .map(|l| format!("{} of {}", facts.places.name(l.place), facts.who(l.role)))
            .collect();
        let whose = match (named.as_slice(), full.len()) {
            ([], _) => format!("of {group}"),
            ([one], _) => format!("of the listener {one}"),
            (some, all) if all > NAMED => {
                format!("of a listener ({}, or of {} more)", some.join(", "), count((all - NAMED) as u64))
            }
            (some, _) => format!("of a listener ({})", some.join(", or ")),
        };
        let mut sentence = format!(
            "connections found the accept queue {whose} full {} {}: they had to try again, or were refused",
            times(*n),
            when(*from_ns, *to_ns)
        );
        if *longest > 0 {
            let _ = write!(sentence, " (up to {} waited in it)", count(*longest));
        }
        if let [Listener { backlog: Some(backlog), .. }] = full.as_slice() {
            let _ = write!(sentence, "; it listens with a backlog of {}", count(*backlog));
        }
        let mut found =
            Finding::new(Kind::BacklogFull, Level::Cause, super::rank::score(Kind::BacklogFull), sentence)
                .over(*from_ns, *to_ns, *n)
                .seen(*to_ns, 0);
        found = match full.as_slice() {
            [one] => found.by(facts.people.role_name(one.role)).against(facts.places.name(one.place)),
            _ => found.against(group.as_str()),
        };
        out.push(found);
    }
}
