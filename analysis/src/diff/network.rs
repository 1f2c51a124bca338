//! Streams: bytes, turns and ends.

use super::Rows;
use super::pairing::Pairing;
use crate::conn::{CloseKind, Conn, ConnKind};
use crate::gates::Profile;
use crate::model::Model;
use std::collections::BTreeMap;

/// What a pipe holds by default (pipe(7)).
const PIPE_CAPACITY: u64 = 65_536;

/// Streams whose bytes, turns and end are alike.
/// Returns the lane of the first other one.
pub(crate) fn network(
    a: &Model,
    b: &Model,
    pairing: &Pairing<'_>,
    profile: Profile,
    rows: &mut Rows<'_>,
) -> Option<usize> {
    type Pair<'c> = (Option<&'c Conn>, Option<&'c Conn>, usize);
    let mut groups: BTreeMap<u32, Vec<Pair<'_>>> = BTreeMap::new();
    for pair in &pairing.conns {
        let (x, y) = (pair.a.map(|c| &a.conns[c]), pair.b.map(|c| &b.conns[c]));
        groups.entry(pair.group).or_default().push((x, y, pair.lane));
    }
    let (mut matched, mut all) = (0, 0);
    let mut first: Option<(u64, String, usize)> = None;
    // What nothing crossed is no stream.
    let empty = |c: &Conn| matches!(c.kind, ConnKind::Pipe | ConnKind::Stdio) && c.sent + c.received == 0;
    for pairs in groups.values_mut() {
        pairs.retain(|(x, y, _)| !(x.is_none_or(empty) && y.is_none_or(empty)));
        let pooled = profile == Profile::RealBinary && totals_alike(pairs);
        for (x, y, lane) in pairs.iter() {
            all += 1;
            let difference = match (x, y) {
                (Some(x), Some(y)) => difference(x, y, profile, pooled),
                // Which worker took work from a shared pipe, and whether one took any, is scheduling.
                (Some(c), None) | (None, Some(c)) if pooled && c.kind == ConnKind::Pipe => None,
                (Some(_), None) => Some("is missing".to_owned()),
                (None, Some(_)) => Some("is extra".to_owned()),
                (None, None) => None,
            };
            match difference {
                None => matched += 1,
                Some(what) => {
                    let (model, conn) = if let Some(x) = x {
                        (a, *x)
                    } else if let Some(y) = y {
                        (b, *y)
                    } else {
                        continue;
                    };
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
fn totals_alike(pairs: &[(Option<&Conn>, Option<&Conn>, usize)]) -> bool {
    let lacks = |p: &(Option<&Conn>, Option<&Conn>, usize)| match p {
        (Some(_), Some(_), _) => false,
        (Some(c), None, _) | (None, Some(c), _) => c.kind != ConnKind::Pipe,
        (None, None, _) => true,
    };
    if pairs.len() < 2 || pairs.iter().any(lacks) {
        return false;
    }
    let sum = |f: &dyn Fn(&Conn) -> u64, second: bool| -> u64 {
        pairs.iter().filter_map(|p| if second { p.1 } else { p.0 }).map(f).fold(0, u64::saturating_add)
    };
    close(sum(&|c| c.sent, false), sum(&|c| c.sent, true), 0.05)
        && close(sum(&|c| c.received, false), sum(&|c| c.received, true), 0.05)
}

/// Within a share, or within the few bytes by which times and counters in text differ.
pub(super) fn close(x: u64, y: u64, share: f64) -> bool {
    x.abs_diff(y) as f64 <= (x.max(y) as f64 * share).max(64.0)
}

fn difference(x: &Conn, y: &Conn, profile: Profile, pooled: bool) -> Option<String> {
    let alike = |m: u64, n: u64| match profile {
        Profile::Synthetic => m == n,
        Profile::RealBinary => pooled || close(m, n, 0.05),
    };
    // How far a writer came before its reader left, and how much a reader had taken by then, is a race over what fits
    // into the pipe.
    let pipe = |c: &Conn| matches!(c.kind, ConnKind::Pipe | ConnKind::Stdio);
    let raced = |m: u64, n: u64| pipe(x) && m.min(n) >= 4096 && m.abs_diff(n) <= PIPE_CAPACITY;
    let cut_sent = x.broken && y.broken && raced(x.sent, y.sent);
    let cut_received = !x.saw_eof && !y.saw_eof && raced(x.received, y.received);
    if !cut_sent && !alike(x.sent, y.sent) {
        return Some(format!("sent {} bytes, in the other run {}", x.sent, y.sent));
    }
    if !cut_received && !alike(x.received, y.received) {
        return Some(format!("received {} bytes, in the other run {}", x.received, y.received));
    }
    if pipe(x) {
        // It has one direction. Between a writer and a reader of one process, who is faster is scheduling.
        return None;
    }
    // Full-duplex traffic changes direction as the schedule has it; the order of first words does not.
    let few = x.turn_count().min(y.turn_count()) <= 4;
    let (tx, ty) = (x.turn_count(), y.turn_count());
    let order = match profile {
        Profile::Synthetic => {
            tx.abs_diff(ty) as f64 <= (tx.max(ty) as f64 * 0.02).floor() && first_turns(x) == first_turns(y)
        }
        Profile::RealBinary => pooled || few || first_turns(x) == first_turns(y),
    };
    if !order {
        return Some(format!("{tx} turns, in the other run {ty}"));
    }
    let (cx, cy) = (ending(x), ending(y));
    let text = |(what, errno): (&str, Option<u16>)| match errno {
        Some(e) => {
            let name = ctrace_format::errno::name(u32::from(e)).map_or_else(|| e.to_string(), str::to_owned);
            format!("{what} {name}")
        }
        None => what.to_owned(),
    };
    (cx != cy).then(|| format!("{}, in the other run {}", text(cx), text(cy)))
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
