//! Episodes of failure: does what went wrong in the recording go wrong again, when and as often as it did?

use super::Rows;
use super::both::{Both, Run};
use super::counts::Counts;
use super::joint::Joint;
use super::pairing::Pairing;
use crate::findings::is_remarkable;
use crate::gates::Profile;
use crate::model::Model;
use crate::symbol::{self, Outcome};
use std::collections::BTreeMap;

/// Failures of one kind further apart are two episodes.
const QUIET_NS: u64 = 2_000_000_000;
/// Fewer failures are no episode.
const FEWEST: u64 = 3;
/// Failures of one kind that are looked at; more of them are one long episode anyway.
const MOST: usize = 1_000_000;
/// Episodes of one kind that are looked for in the other run; more than two seconds lie between any two.
const MOST_EPISODES: usize = 2000;

#[derive(Debug, Clone, Copy)]
struct Episode {
    /// After the start of the run.
    onset_ns: u64,
    count: u64,
}

/// Episodes of failure that occur again: of the same kind, at the same time after the start, as often.
pub(super) fn incident_recall(
    models: Both<&Model>,
    joint: &Joint<'_>,
    counts: &Counts,
    pairing: &Pairing<'_>,
    profile: Profile,
    rows: &mut Rows<'_>,
) {
    let found = Both::each(|run| episodes(models, joint, pairing, run));
    let took = models.map(|m| m.makespan_ns());
    let slower = match profile {
        Profile::Synthetic => 0,
        // A run that takes longer comes to the same point later.
        Profile::RealBinary => took.apart(),
    };
    let late = (took.recorded / 50).max(50_000_000).saturating_add(slower);
    let (mut matched, mut all) = (0_u64, 0_u64);
    let mut first_lost: Option<(u64, String)> = None;
    let none = Vec::new();
    for (kind, list) in &found.recorded {
        let candidates = found.other.get(kind).unwrap_or(&none);
        let mut used = vec![false; candidates.len()];
        for episode in list {
            all += 1;
            let again = (0..candidates.len()).find(|i| {
                let c = candidates[*i];
                !used[*i]
                    && c.onset_ns.abs_diff(episode.onset_ns) <= late
                    && c.count.abs_diff(episode.count) as f64 <= (episode.count as f64 * 0.2).max(1.0)
            });
            if let Some(i) = again {
                used[i] = true;
                matched += 1;
            } else if first_lost.as_ref().is_none_or(|l| episode.onset_ns < l.0) {
                let text = match candidates.iter().min_by_key(|c| c.onset_ns.abs_diff(episode.onset_ns)) {
                    Some(c) => format!(
                        "{} ×{} at +{:.3} s, in the other run ×{} at +{:.3} s",
                        joint.text(kind.1),
                        episode.count,
                        episode.onset_ns as f64 / 1e9,
                        c.count,
                        c.onset_ns as f64 / 1e9
                    ),
                    None => format!(
                        "{} ×{} at +{:.3} s, {}",
                        joint.text(kind.1),
                        episode.count,
                        episode.onset_ns as f64 / 1e9,
                        elsewhere(*kind, joint, counts)
                    ),
                };
                first_lost = Some((episode.onset_ns, text));
            }
        }
    }
    let value = (all > 0).then(|| matched as f64 / all as f64);
    let note = match (all, first_lost) {
        (0, _) => "no episode of failure in the recording".to_owned(),
        (_, None) => format!("{matched} of {all} episodes of failure again"),
        (_, Some((_, lost))) => format!("{matched} of {all} episodes of failure again; not: {lost}"),
    };
    rows.push("incident_recall", value, all, "", note);
}

/// How often the other run has a failure of which it has no episode.
fn elsewhere((family, base): (u32, u32), joint: &Joint<'_>, counts: &Counts) -> String {
    let same = counts.ops.get(&(family, base)).map_or(0, |n| n.other);
    if same > 0 {
        return format!("in the other run ×{same} in all");
    }
    let sought = &joint.bases[base as usize];
    let alike = counts.ops.iter().filter(|((_, other), _)| {
        let other = &joint.bases[*other as usize];
        other.call == sought.call && other.outcome == sought.outcome
    });
    match alike.map(|(_, n)| n.other).sum() {
        0 => "never in the other run".to_owned(),
        n => format!("in the other run ×{n}, of other tasks or objects"),
    }
}

/// Episodes by (family, kind of failure).
fn episodes(
    models: Both<&Model>,
    joint: &Joint<'_>,
    pairing: &Pairing<'_>,
    run: Run,
) -> BTreeMap<(u32, u32), Vec<Episode>> {
    let remarkable: Vec<bool> = joint
        .bases
        .iter()
        .map(|b| match b.outcome {
            // Who closes first is no incident; calls without known arguments are matched by the errors metric.
            Outcome::Errno(e) => {
                !b.wild
                    && !symbol::is_race(e)
                    && is_remarkable(joint.strings[b.call as usize], joint.strings[b.object as usize], e)
            }
            _ => false,
        })
        .collect();
    let mut times: BTreeMap<(u32, u32), Vec<u64>> = BTreeMap::new();
    if remarkable.iter().any(|r| *r) {
        for lane in &pairing.lanes {
            for op in lane.seqs.of(run).iter().flat_map(|s| s.iter()) {
                let base = joint.base(run, op);
                if remarkable[base as usize] {
                    let list = times.entry((lane.family, base)).or_default();
                    if list.len() < MOST {
                        list.push(op.t_ns.saturating_sub(models.of(run).first_ns));
                    }
                }
            }
        }
    }
    times
        .into_iter()
        .map(|(kind, mut list)| {
            list.sort_unstable();
            let episodes = list
                .chunk_by(|x, y| y - x <= QUIET_NS)
                .filter(|chunk| chunk.len() as u64 >= FEWEST)
                .map(|chunk| Episode { onset_ns: chunk[0], count: chunk.len() as u64 })
                .take(MOST_EPISODES)
                .collect();
            (kind, episodes)
        })
        .collect()
}
