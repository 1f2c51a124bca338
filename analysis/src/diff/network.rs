//! Streams: bytes, turns and ends.

use super::Rows;
use super::both::{Both, Run};
use super::pairing::Pairing;
use crate::conn::{CloseKind, Conn, ConnKind};
use crate::gates::Profile;
use crate::model::Model;
use std::collections::BTreeMap;

/// What a pipe holds by default (pipe(7)).
const PIPE_CAPACITY: u64 = 65_536;

/// A stream in both runs, or in one of them, and the lane of its operations.
type Pair<'c> = (Both<Option<&'c Conn>>, usize);

/// Streams whose bytes, turns and end are alike.
/// Returns the lane of the first other one.
pub(crate) fn network(
    models: Both<&Model>,
    pairing: &Pairing<'_>,
    profile: Profile,
    rows: &mut Rows<'_>,
) -> Option<usize> {
    let mut groups: BTreeMap<u32, Vec<Pair<'_>>> = BTreeMap::new();
    for pair in &pairing.conns {
        let conns = pair.conns.zip(models).map(|(c, model)| c.map(|c| &model.conns[c]));
        groups.entry(pair.group).or_default().push((conns, pair.lane));
    }
    let (mut matched, mut all) = (0, 0);
    let mut first: Option<(u64, String, usize)> = None;
    // What nothing crossed is no stream.
    let empty = |c: &Conn| matches!(c.kind, ConnKind::Pipe | ConnKind::Stdio) && c.sent + c.received == 0;
    for pairs in groups.values_mut() {
        pairs.retain(|(conns, _)| conns.map(|c| c.is_none_or(empty)) != Both::new(true, true));
        let pooled = profile == Profile::RealBinary && totals_alike(pairs);
        for (conns, lane) in pairs.iter() {
            all += 1;
            let difference = match (conns.recorded, conns.other) {
                (Some(recorded), Some(other)) => difference(Both::new(recorded, other), profile, pooled),
                // Which worker took work from a shared pipe, and whether one took any, is scheduling.
                (Some(c), None) | (None, Some(c)) if pooled && c.kind == ConnKind::Pipe => None,
                (Some(_), None) => Some("is missing".to_owned()),
                (None, Some(_)) => Some("is extra".to_owned()),
                (None, None) => None,
            };
            match difference {
                None => matched += 1,
                Some(what) => {
                    let found = models.zip(*conns).map(|(model, conn)| conn.map(|conn| (*model, conn)));
                    let Some((model, conn)) = found.any() else { continue };
                    if first.as_ref().is_none_or(|f| conn.first_ns < f.0) {
                        let who = &model.processes[conn.process].role;
                        let text = format!("{who} · {}: {what}", model.name(conn.name));
                        first = Some((conn.first_ns, text, *lane));
                    }
                }
            }
        }
    }
    let value = (all > 0).then(|| f64::from(matched) / f64::from(all));
    let note = match &first {
        Some((_, what, _)) => format!("{matched} of {all} streams alike; first other: {what}"),
        None => format!("{matched} of {all} streams alike"),
    };
    rows.push("network", value, u64::from(all as u32), "", note);
    first.map(|(_, _, lane)| lane)
}

/// Connections to one endpoint are interchangeable for a load generator or a pool: how many bytes go over which one is
/// scheduling, how many in all is not.
fn totals_alike(pairs: &[Pair<'_>]) -> bool {
    let lacks = |(conns, _): &Pair<'_>| match (conns.recorded, conns.other) {
        (Some(_), Some(_)) => false,
        (Some(c), None) | (None, Some(c)) => c.kind != ConnKind::Pipe,
        (None, None) => true,
    };
    if pairs.len() < 2 || pairs.iter().any(lacks) {
        return false;
    }
    let sum = |f: fn(&Conn) -> u64| {
        let of = |run| pairs.iter().filter_map(move |(conns, _)| *conns.of(run)).map(f);
        Both::each(|run: Run| of(run).fold(0, u64::saturating_add))
    };
    close(sum(|c| c.sent), 0.05) && close(sum(|c| c.received), 0.05)
}

/// Within a share, or within the few bytes by which times and counters in text differ.
pub(super) fn close(n: Both<u64>, share: f64) -> bool {
    n.apart() as f64 <= (n.most() as f64 * share).max(64.0)
}

fn difference(conns: Both<&Conn>, profile: Profile, pooled: bool) -> Option<String> {
    let alike = |n: Both<u64>| match profile {
        Profile::Synthetic => n.is_same(),
        Profile::RealBinary => pooled || close(n, 0.05),
    };
    // How far a writer came before its reader left, and how much a reader had taken by then, is a race over what fits
    // into the pipe.
    let pipe = matches!(conns.recorded.kind, ConnKind::Pipe | ConnKind::Stdio);
    let raced = |n: Both<u64>| pipe && n.shared() >= 4096 && n.apart() <= PIPE_CAPACITY;
    let (sent, received) = (conns.map(|c| c.sent), conns.map(|c| c.received));
    let cut_sent = conns.map(|c| c.broken) == Both::new(true, true) && raced(sent);
    let cut_received = conns.map(|c| c.saw_eof) == Both::new(false, false) && raced(received);
    if !cut_sent && !alike(sent) {
        return Some(format!("sent {} bytes, in the other run {}", sent.recorded, sent.other));
    }
    if !cut_received && !alike(received) {
        return Some(format!("received {} bytes, in the other run {}", received.recorded, received.other));
    }
    if pipe {
        // It has one direction. Between a writer and a reader of one process, who is faster is scheduling.
        return None;
    }
    // Full-duplex traffic changes direction as the schedule has it; the order of first words does not.
    let turns = conns.map(|c| c.turn_count());
    let begin_alike = || conns.map(|c| first_turns(c)).is_same();
    let order = match profile {
        Profile::Synthetic => turns.apart() as f64 <= (turns.most() as f64 * 0.02).floor() && begin_alike(),
        Profile::RealBinary => pooled || turns.shared() <= 4 || begin_alike(),
    };
    if !order {
        return Some(format!("{} turns, in the other run {}", turns.recorded, turns.other));
    }
    let ends = conns.map(|c| ending(c));
    let text = |(what, errno): (&str, Option<u16>)| match errno {
        Some(e) => {
            let name = ctrace_format::errno::name(u32::from(e)).map_or_else(|| e.to_string(), str::to_owned);
            format!("{what} {name}")
        }
        None => what.to_owned(),
    };
    (!ends.is_same()).then(|| format!("{}, in the other run {}", text(ends.recorded), text(ends.other)))
}

/// The directions of a stream's first turns; true: this end sends.
pub(super) fn first_turns(c: &Conn) -> Vec<bool> {
    c.turns().take(4).map(|turn| turn.sent).collect()
}

/// How a stream ended, as far as it does not depend on when the recording did.
pub(super) fn ending(c: &Conn) -> (&'static str, Option<u16>) {
    match c.close {
        CloseKind::Open | CloseKind::Exit | CloseKind::Local => ("was ended here", None),
        CloseKind::Peer => ("was ended by the other side", None),
        CloseKind::Reset => ("was reset", None),
        CloseKind::Failed(e) => ("failed with", Some(e)),
    }
}
