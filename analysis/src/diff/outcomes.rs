//! What operations came to: outcomes, sizes, failures.

use super::Rows;
use super::both::{Both, Run};
use super::counts::Counts;
use super::joint::Joint;
use super::lookups::Lookups;
use super::network::close;
use super::pairing::Pairing;
use super::walk::Walked;
use crate::findings::is_remarkable;
use crate::gates::Profile;
use crate::model::{Model, OutcomeStat};
use crate::report::Failures;
use crate::symbol::{self, Kind, Outcome};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;

/// The signal that asks a process to end.
const SIGTERM: u32 = 15;

/// Outcomes of what was attempted in both runs.
pub(crate) fn semantic(
    models: Both<&Model>,
    joint: &Joint<'_>,
    counts: &Counts,
    walked: &Walked<'_>,
    pairing: &Pairing<'_>,
    profile: Profile,
    rows: &mut Rows<'_>,
) {
    // By base.
    type Outcomes = Vec<(u32, Both<u64>)>;
    let mut attempts: FxHashMap<(u32, u32), Outcomes> = FxHashMap::default();
    for ((family, base), n) in &counts.ops {
        let identity = joint.bases[*base as usize].identity;
        attempts.entry((*family, identity)).or_default().push((*base, *n));
    }
    let (mut wrong, mut flipped) = (0, Vec::new());
    for ((family, _), outcomes) in &attempts {
        let mut only = Both::new(0_u64, 0);
        let mut had: Both<Vec<u32>> = Both::default();
        for &(base, n) in outcomes {
            if matches!(joint.bases[base as usize].outcome, Outcome::Errno(e) if symbol::is_race(e)) {
                continue;
            }
            *only.of_mut(n.with_more()) += n.apart();
            for run in Run::BOTH {
                if *n.of(run) > 0 {
                    had.of_mut(run).push(base);
                }
            }
        }
        wrong += only.shared();
        if let ([before], [after]) = (&had.recorded[..], &had.other[..])
            && before != after
            // Whether a stream ends or delivers is a question of turns.
            && !joint.strings[joint.bases[*before as usize].call as usize].starts_with("receive")
        {
            flipped.push((*family, *before, *after));
        }
    }
    let alike = if profile == Profile::Synthetic { FxHashSet::default() } else { moved_alike(models, joint) };
    let sizes: u64 = walked
        .sizes
        .iter()
        // As many bytes in all, in larger or smaller parts.
        .filter(|(base, _)| !alike.contains(base))
        .map(|(_, n)| wrong_sizes(*n, profile))
        .sum();
    wrong += sizes;
    let of = counts.total.recorded;
    let value = (of > 0).then(|| 1.0 - (wrong as f64 / of as f64).min(1.0));
    let sizes = if sizes > 0 { format!(", {sizes} of them by size") } else { String::new() };
    rows.push(
        "semantic",
        value,
        of,
        "",
        format!(
            "{} of {of} with the recorded outcome{}",
            of.saturating_sub(wrong),
            if wrong > 0 { sizes } else { String::new() }
        ),
    );
    flipped.sort_unstable();
    let note = flipped.first().map_or(String::new(), |(family, before, after)| {
        format!(
            "{}: always {} in the recording, always {} in the other run",
            pairing.families[*family as usize],
            joint.text(*before),
            joint.text(*after)
        )
    });
    let made = |of: &Outcomes, run| of.iter().any(|(_, n)| *n.of(run) > 0);
    let n = attempts.values().filter(|of| Run::BOTH.into_iter().all(|run| made(of, run))).count();
    let value = (n > 0).then_some(flipped.len() as f64);
    rows.push("outcomes", value, n as u64, "", note);
}

/// The kinds of operations that moved as many bytes in all.
fn moved_alike(models: Both<&Model>, joint: &Joint<'_>) -> FxHashSet<u32> {
    let mut bytes: FxHashMap<u32, Both<u64>> = FxHashMap::default();
    for run in Run::BOTH {
        for (stat, entry) in models.of(run).stats.iter().zip(joint.entries.of(run)) {
            let sum = bytes.entry(entry.base).or_default().of_mut(run);
            *sum = sum.saturating_add(stat.bytes);
        }
    }
    bytes.into_iter().filter(|(_, n)| n.recorded > 0 && close(*n, 0.05)).map(|(base, _)| base).collect()
}

/// Of operations that moved more and operations that moved less than recorded, how many are wrong. A real program moves
/// what has come together by the time it gets to it, now more and now less; only what goes one way is another behaviour.
fn wrong_sizes((more, less): (u64, u64), profile: Profile) -> u64 {
    match profile {
        Profile::Synthetic => more + less,
        Profile::RealBinary if more == 0 || less == 0 => more + less,
        Profile::RealBinary => {
            let chance = 2.0 * ((more + less) as f64).sqrt();
            (more.abs_diff(less) as f64 - chance).max(0.0) as u64
        }
    }
}

/// Failures by call, errno and object, in each family of tasks; the worst call counts, or a thousand failed lookups of
/// libraries would hide a refused connection.
pub(crate) fn errors(
    models: Both<&Model>,
    joint: &Joint<'_>,
    counts: &Counts,
    pairing: &Pairing<'_>,
    names: &Lookups<'_>,
    profile: Profile,
    rows: &mut Rows<'_>,
) -> Failures {
    // By base and family.
    type Kind = (u32, u32, Both<u64>);
    let probes = |call: &str, base: u32| {
        let b = &joint.bases[base as usize];
        matches!(b.outcome, Outcome::Errno(e) if !is_remarkable(call, joint.strings[b.object as usize], e))
    };
    // By (call, race).
    let mut by_call: BTreeMap<(&str, bool), Vec<Kind>> = BTreeMap::new();
    // Where lookups of a family that failed alike are counted.
    let mut lookups: FxHashMap<(&str, bool, u32, Outcome), usize> = FxHashMap::default();
    // A pool that is told to end and ended by its owner: which of the two comes first is a race.
    let own_ends = models.map(|m| ends_its_own(m)) == Both::new(true, true);
    for ((family, base), n) in &counts.ops {
        let b = &joint.bases[*base as usize];
        let call = joint.strings[b.call as usize];
        // Each attempt counts once, however often the program asked what it came to.
        if b.learns {
            continue;
        }
        let race = match b.outcome {
            Outcome::Errno(e) if !is_benign(call, e) => symbol::is_race(e),
            Outcome::Exit(status) if status != 0 => own_ends && status & 0x7f == SIGTERM,
            _ => continue,
        };
        // Which of many possible places a program looks into follows from what else is there; that it fails to find
        // something it found before is told by the outcomes.
        let lookup = profile == Profile::RealBinary && probes(call, *base);
        let kinds = by_call.entry((call, race)).or_default();
        if lookup {
            let next = kinds.len();
            let at = *lookups.entry((call, race, *family, b.outcome)).or_insert(next);
            if let Some(kind) = kinds.get_mut(at) {
                kind.2 += *n;
                continue;
            }
        }
        kinds.push((*base, *family, *n));
    }
    let mut n = 0;
    let mut failures = Failures { emulated: emulated_failures(models.other), ..Failures::default() };
    let mut worst: Option<(f64, String)> = None;
    for ((call, race), kinds) in &by_call {
        let (mut distance, mut sum) = (0.0, 0.0);
        let mut most: (f64, Option<&Kind>) = (0.0, None);
        for kind in kinds {
            let of = kind.2;
            n += of.recorded + of.other;
            tell(&mut failures, of);
            let (x, y) = (of.recorded as f64, of.other as f64);
            // Independent failures vary by the square root of their number; who closes first, or finds what another one
            // has made, varies by a few.
            let slack = match profile {
                Profile::RealBinary if of.shared() > 0 => 2.0 * (x + y).sqrt(),
                Profile::RealBinary if *race || probes(call, kind.0) => 3.0 + 2.0 * (x + y).sqrt(),
                _ => 0.0,
            };
            let delta = ((x - y).abs() - slack).max(0.0);
            distance += delta;
            sum += x + y;
            if delta > most.0 {
                most = (delta, Some(kind));
            }
        }
        if sum > 0.0 {
            let value = 1.0 - distance / sum;
            if worst.as_ref().is_none_or(|w| value < w.0) {
                let note = most.1.map_or_else(
                    || format!("{call}: alike"),
                    |(base, family, n)| {
                        format!(
                            "{}: {} ×{}, in the other run ×{}",
                            pairing.role(*family, n.with_more()),
                            joint.text(*base),
                            n.recorded,
                            n.other
                        )
                    },
                );
                worst = Some((value, note));
            }
        }
    }
    for of in names.counts() {
        n += of.recorded + of.other;
        tell(&mut failures, of);
    }
    let (distance, sum, note) = names.distance(pairing);
    let value = 1.0 - distance / f64::max(sum, 1.0);
    if sum > 0.0 && worst.as_ref().is_none_or(|w| value < w.0) {
        worst = Some((value, note));
    }
    let (value, mut note) = worst.map_or((None, "no failures in either run".to_owned()), |(v, note)| {
        (Some(v), if v < 1.0 { note } else { String::new() })
    });
    if failures.emulated > 0 {
        let separator = if note.is_empty() { "" } else { "; " };
        note = format!("{note}{separator}{} of {} emulated", failures.emulated, failures.other);
    }
    rows.push("errors", value, n, "", note);
    failures
}

/// Counts failures of one kind.
fn tell(failures: &mut Failures, n: Both<u64>) {
    failures.recorded += n.recorded;
    failures.missing += n.recorded.saturating_sub(n.other);
    failures.other += n.other;
}

/// Failures, other than by design, that the sandbox of a replay answered.
fn emulated_failures(model: &Model) -> u64 {
    let counted = |(symbol, _): &(&symbol::Symbol, &OutcomeStat)| matches!(symbol.outcome, Outcome::Errno(e) if !symbol.learns() && !is_benign(model.name(symbol.call), e));
    model.symbols.iter().zip(&model.stats).filter(counted).map(|(_, stat)| stat.emulated).sum()
}

/// Whether every process that SIGTERM ended may have been sent it by another process of the run.
fn ends_its_own(model: &Model) -> bool {
    let (mut sent, mut ended) = (0, 0);
    for (symbol, stat) in model.symbols.iter().zip(&model.stats) {
        match symbol.outcome {
            Outcome::Ok
                if symbol.qualifier == SIGTERM
                    && matches!(
                        model.name(symbol.call),
                        "kill" | "tgkill" | "tkill" | "pidfd_send_signal"
                    ) =>
            {
                sent += stat.count;
            }
            Outcome::Exit(status) if status & 0x7f == SIGTERM => ended += stat.count,
            _ => {}
        }
    }
    sent >= ended
}

fn is_benign(call: &str, errno: u16) -> bool {
    let kind = match symbol::kind_of(call) {
        // Streams are compared under names of their own.
        Kind::Other if call == "receive" => Kind::Receive,
        Kind::Other if call == "send" => Kind::Send,
        kind => kind,
    };
    kind.is_benign(errno)
}
