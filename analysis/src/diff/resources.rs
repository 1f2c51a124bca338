//! What the runs used of the machine, over time.
//!
//! Memory and descriptors of a real program are judged: two runs of it have as much of both. Its CPU time depends on
//! who else uses the machine, and is told. A replay has of all of it as much as its pressure makes.

use super::Rows;
use super::both::{Both, Run};
use super::growth::{FEW_DESCRIPTORS, Growth, LARGER, LITTLE_MEMORY, MEMORY};
use super::pairing::Pairing;
use crate::busy::{Bins, Busy};
use crate::gates;
use crate::model::{BIN_NS, Model, Series};
use crate::report::ResourceDistance;
use ctrace_format::Metric;

/// Where the figures of a counter are from.
enum Source {
    /// The first that was sampled in both runs.
    Sampled(&'static [Metric]),
    /// CPU time used, as the scheduler's events have it, or as it was sampled.
    CpuUsed,
    /// Time that tasks waited for a CPU.
    CpuWaited,
    /// Time in calls that wait for a disk.
    Synced,
}

/// A counter that is compared.
struct Counter {
    source: Source,
    name: &'static str,
    unit: f64,
    unit_name: &'static str,
    /// Differences that are less on the average are noise; of a counter without, every difference is.
    noise: Option<f64>,
}

const COUNTERS: &[Counter] = &[
    Counter { source: Source::CpuUsed, name: "CPU", unit: 1e9, unit_name: " s", noise: None },
    Counter { source: Source::CpuWaited, name: "waits for a CPU", unit: 1e9, unit_name: " s", noise: None },
    Counter {
        source: Source::Sampled(&[Metric::CpuThrottledNs]),
        name: "throttled",
        unit: 1e9,
        unit_name: " s",
        noise: None,
    },
    Counter { source: Source::Synced, name: "waits for a disk", unit: 1e9, unit_name: " s", noise: None },
    Counter {
        source: Source::Sampled(MEMORY),
        name: "memory",
        unit: 1_048_576.0,
        unit_name: " MiB",
        noise: Some(LITTLE_MEMORY),
    },
    Counter {
        source: Source::Sampled(&[Metric::OpenFds]),
        name: "descriptors",
        unit: 1.0,
        unit_name: "",
        noise: Some(FEW_DESCRIPTORS as f64),
    },
];
/// Shorter runs have too few samples.
const FEWEST_BINS: usize = 10;

/// How far a counter of one run is from that of the other.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Distance {
    /// All differences, of what was recorded.
    share: f64,
    /// The peaks.
    most: Both<f64>,
    /// The difference of one bin on the average.
    mean: f64,
}

impl Distance {
    /// The difference of the peaks, of the recorded one.
    fn peak(&self) -> f64 {
        (self.most.other - self.most.recorded).abs() / self.most.recorded
    }

    /// Whether programs differ by so much that do the same.
    fn is_noise(&self, mean: f64) -> bool {
        let run = self.most.with_more();
        self.mean < mean || *self.most.of(run) < self.most.of(run.opposite()) * LARGER
    }
}

fn distance(levels: Both<&[f64]>) -> Option<Distance> {
    let bins = levels.recorded.len().max(levels.other.len());
    let at = |of: &[f64], i: usize| of.get(i).copied().unwrap_or(0.0);
    let sum: f64 = levels.recorded.iter().sum();
    let apart: f64 = (0..bins).map(|i| (at(levels.recorded, i) - at(levels.other, i)).abs()).sum();
    let most = levels.map(|of| of.iter().copied().fold(0.0, f64::max));
    (sum > 0.0).then(|| Distance { share: apart / sum, most, mean: apart / bins as f64 })
}

/// The same when each run may be ahead of the other for a while (dynamic time warping): all differences along the best
/// pairing of bins in order, of what was recorded. As in [`distance`], a run that is over has nothing of it, so that this
/// is never more than that.
fn warped(levels: Both<&[f64]>) -> Option<f64> {
    /// Bins that one run may be ahead at most.
    const AHEAD: usize = 20;
    const AROUND: usize = 2 * AHEAD + 1;
    let bins = levels.recorded.len().max(levels.other.len());
    let at = |of: &[f64], i: usize| of.get(i).copied().unwrap_or(0.0);
    let sum: f64 = levels.recorded.iter().sum();
    // The least differences up to a bin of the one run and, for each of the bins around it, that of the other: a day has so
    // many bins that all pairs of them could not be looked at.
    let mut row = [f64::INFINITY; AROUND + 1];
    row[AHEAD] = 0.0;
    for i in 0..bins {
        let mut next = [f64::INFINITY; AROUND + 1];
        for k in 0..AROUND {
            let Some(j) = (i + k).checked_sub(AHEAD).filter(|j| *j < bins) else { continue };
            let differs = (at(levels.recorded, i) - at(levels.other, j)).abs();
            let before = if k == 0 { f64::INFINITY } else { next[k - 1] };
            next[k] = differs + row[k].min(row[k + 1]).min(before);
        }
        row = next;
    }
    (sum > 0.0).then(|| row[AHEAD] / sum)
}

/// The levels of a run from the least to the highest, as many as the recording has. When a collector gives memory back is
/// another moment in every run, and a run that takes longer comes to the same point later; for how long there was how much
/// is the same.
fn ranked(level: &[f64], bins: usize) -> Vec<f64> {
    let mut sorted = level.to_vec();
    sorted.sort_by(f64::total_cmp);
    (1..=bins).map(|i| sorted[(i * sorted.len()).div_ceil(bins) - 1]).collect()
}

/// Bins that begin with the first operation. It came within a bin: what that has is shared by time.
fn since_first(first_ns: u64, bins: &[f64]) -> Option<Vec<f64>> {
    let from = (first_ns / BIN_NS) as usize;
    let after = (first_ns % BIN_NS) as f64 / BIN_NS as f64;
    let bins = bins.get(from..).filter(|bins| bins.len() >= FEWEST_BINS)?;
    let next = bins.iter().skip(1).chain(bins.last());
    Some(bins.iter().zip(next).map(|(bin, next)| bin * (1.0 - after) + next * after).collect())
}

/// The first of some counters that both runs have.
fn sampled(models: Both<&Model>, metrics: &[Metric]) -> Option<Both<Vec<f64>>> {
    let of = |model: &Model, metric: Metric| {
        let series: &Series = model.series.iter().find(|s| s.metric == metric)?;
        since_first(model.first_ns, &series.bins)
    };
    metrics.iter().find_map(|metric| Both::each(|run: Run| of(models.of(run), *metric)).together())
}

impl Source {
    /// The figures of both runs.
    fn levels(&self, models: Both<&Model>) -> Option<Both<Vec<f64>>> {
        let busy = |bins: fn(&Busy) -> &Bins| {
            let of = |model: &Model| {
                let bins: Vec<f64> = bins(&model.busy).iter().map(|ns| ns as f64).collect();
                since_first(model.first_ns, &bins)
            };
            Both::each(|run: Run| of(models.of(run))).together()
        };
        match self {
            Self::Sampled(metrics) => sampled(models, metrics),
            Self::CpuUsed => busy(|busy| &busy.used).or_else(|| sampled(models, &[Metric::CpuNs])),
            Self::CpuWaited => busy(|busy| &busy.waited),
            Self::Synced => {
                let most = |run: Run| models.of(run).busy.synced.len();
                // A run that waits for no disk any more still goes on.
                let len = |model: &Model| model.busy.synced.len().max(model.busy.used.len());
                let of = |model: &Model| {
                    let bins = (0..len(model)).map(|bin| model.busy.synced.get(bin) as f64);
                    since_first(model.first_ns, &bins.collect::<Vec<f64>>())
                };
                let any = most(Run::Recorded).max(most(Run::Other)) > 0;
                any.then(|| Both::each(|run: Run| of(models.of(run))).together()).flatten()
            }
        }
    }
}

/// The worst of the counters that are judged; what grew in one of the runs, and all that was compared.
pub(crate) fn resources(
    models: Both<&Model>,
    pairing: &Pairing<'_>,
    rows: &mut Rows<'_>,
) -> (Growth, Vec<ResourceDistance>) {
    let memory = sampled(models, MEMORY);
    let memory = memory.as_ref().map(|levels| Both::new(levels.recorded.as_slice(), &levels.other));
    let growth = Growth::take(models, pairing, memory);
    let mut compared = Vec::new();
    let (mut judged, mut within) = (None, None);
    let (mut notes, mut n) = (Vec::new(), 0);
    let worse = |worst: Option<f64>, share: f64| Some(worst.map_or(share, |worst| worst.max(share)));
    for counter in COUNTERS {
        let Some(levels) = counter.source.levels(models) else { continue };
        let levels = Both::new(levels.recorded.as_slice(), levels.other.as_slice());
        let bins = levels.recorded.len();
        let apart = match counter.noise {
            Some(_) => {
                let ranks = levels.map(|level| ranked(level, bins));
                distance(Both::new(&ranks.recorded, &ranks.other))
            }
            None => distance(levels),
        };
        let Some(apart) = apart else { continue };
        n += levels.recorded.len() as u64;
        match counter.noise {
            Some(mean) if apart.is_noise(mean) => within = worse(within, apart.share),
            Some(_) => judged = worse(judged, apart.share),
            None => {}
        }
        let most = apart.most.map(|most| most / counter.unit);
        let in_order = distance(levels).map_or(apart.share, |apart| apart.share);
        let warped = warped(levels);
        compared.push(ResourceDistance {
            name: counter.name,
            error: in_order,
            peak_error: apart.peak(),
            warped_error: warped,
            recorded_peak: apart.most.recorded,
            other_peak: apart.most.other,
        });
        let warped =
            warped.map_or_else(String::new, |share| format!(" (warped in time: {:.0} %)", share * 100.0));
        notes.push(format!(
            "{} {:.0} % apart{warped}, peak {:.2} → {:.2}{} ({:.0} %)",
            counter.name,
            apart.share * 100.0,
            most.recorded,
            most.other,
            counter.unit_name,
            apart.peak() * 100.0
        ));
    }
    if let Some((held, apart)) = growth.descriptors() {
        judged = worse(judged, apart);
        notes.push(format!("at the end {} → {} descriptors of one process", held.recorded, held.other));
        n += 1;
    }
    let value = judged.or(within);
    let gate = rows.gates.gate("resources");
    let missed = value.zip(gate).is_some_and(|(v, g)| !gates::passes("resources", v, g));
    if missed && judged.is_none() {
        notes.push("less than 16 MiB, 20 descriptors or twice as much is noise".to_owned());
    }
    let note = if notes.is_empty() { "too few samples".to_owned() } else { notes.join("; ") };
    let pass = value.zip(gate).map(|_| !missed || judged.is_none());
    rows.push_judged("resources", value, gate, pass, n, note);
    (growth, compared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(recorded: &[f64], other: &[f64]) -> Option<(f64, f64, f64)> {
        distance(Both::new(recorded, other)).map(|d| (d.share, d.peak(), d.mean))
    }

    #[test]
    fn the_distance_is_of_what_was_recorded() {
        assert_eq!(apart(&[1.0, 2.0, 1.0], &[1.0, 2.0, 1.0]), Some((0.0, 0.0, 0.0)));
        assert_eq!(apart(&[1.0, 2.0, 1.0], &[1.0, 4.0]), Some((0.75, 1.0, 1.0)));
        assert_eq!(apart(&[0.0, 0.0], &[1.0]), None);
    }

    #[test]
    fn what_came_a_little_later_is_no_difference_when_time_is_warped() {
        let of = |recorded: &[f64], other: &[f64]| warped(Both::new(recorded, other));
        let (recorded, later) = ([0.0, 8.0, 0.0, 0.0, 8.0, 0.0], [0.0, 0.0, 8.0, 0.0, 0.0, 8.0, 0.0]);
        assert_eq!(of(&recorded, &later), Some(0.0));
        assert_eq!(apart(&recorded, &later).map(|d| d.0), Some(2.0));
        assert_eq!(of(&[4.0, 4.0], &[3.0, 3.0]), Some(0.25));
        assert_eq!(of(&[0.0], &[1.0]), None);
        assert_eq!(of(&[1.0], &[]), Some(1.0));
        // What the other run has after the end of the recording counts, as it does without warping.
        assert_eq!(of(&[2.0, 2.0], &[2.0, 2.0, 1.0]), Some(0.25));
        // A day has so many bins.
        let day = vec![1.0; 864_000];
        assert_eq!(of(&day, &day), Some(0.0));
    }

    #[test]
    fn bins_begin_with_the_first_operation() {
        let first_ns = BIN_NS * 5 / 4;
        let bins: Vec<f64> = (0..12).map(|i| f64::from(i * 4)).collect();
        let since = since_first(first_ns, &bins).unwrap();
        assert_eq!((since.len(), since[0], since[1], since[10]), (11, 5.0, 9.0, 44.0));
        assert_eq!(since_first(first_ns, &bins[..10]), None);
    }

    #[test]
    fn when_a_level_was_reached_is_not_compared() {
        assert_eq!(ranked(&[3.0, 1.0, 2.0, 3.0, 1.0, 2.0], 3), [1.0, 2.0, 3.0]);
        assert_eq!(ranked(&[2.0, 1.0], 4), [1.0, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn only_what_is_twice_as_much_is_no_noise() {
        let of = |recorded: f64, other: f64| distance(Both::new(&[recorded; 4], &[other; 4])).unwrap();
        assert!(of(100.0, 190.0).is_noise(16.0));
        assert!(of(190.0, 100.0).is_noise(16.0));
        assert!(of(5.0, 20.0).is_noise(16.0));
        assert!(!of(100.0, 210.0).is_noise(16.0));
        assert!(!of(210.0, 100.0).is_noise(16.0));
    }
}
