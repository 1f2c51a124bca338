//! What the runs used of the machine, over time.
//!
//! Memory and descriptors of a real program are judged: two runs of it have as much of both. Its CPU time depends on
//! who else uses the machine, and is told. A replay does not compute, and has none of the memory of what it replays.

use super::Rows;
use super::both::{Both, Run};
use super::growth::{FEW_DESCRIPTORS, Growth, LARGER, LITTLE_MEMORY, MEMORY};
use super::pairing::Pairing;
use crate::gates;
use crate::model::{BIN_NS, Model, Series};
use ctrace_format::Metric;

/// A counter that is compared.
struct Counter {
    /// The first that both runs have.
    metrics: &'static [Metric],
    name: &'static str,
    unit: f64,
    unit_name: &'static str,
    /// Differences that are less on the average are noise; of a counter without, every difference is.
    noise: Option<f64>,
}

const COUNTERS: &[Counter] = &[
    Counter { metrics: &[Metric::CpuNs], name: "CPU", unit: 1e9, unit_name: " s", noise: None },
    Counter {
        metrics: MEMORY,
        name: "memory",
        unit: 1_048_576.0,
        unit_name: " MiB",
        noise: Some(LITTLE_MEMORY),
    },
    Counter {
        metrics: &[Metric::OpenFds],
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

/// The levels of a run from the least to the highest, as many as the recording has. When a collector gives memory back is
/// another moment in every run, and a run that takes longer comes to the same point later; for how long there was how much
/// is the same.
fn ranked(level: &[f64], bins: usize) -> Vec<f64> {
    let mut sorted = level.to_vec();
    sorted.sort_by(f64::total_cmp);
    (1..=bins).map(|i| sorted[(i * sorted.len()).div_ceil(bins) - 1]).collect()
}

/// What a counter did since the first operation.
fn since_first(model: &Model, metric: Metric) -> Option<&[f64]> {
    let series: &Series = model.series.iter().find(|s| s.metric == metric)?;
    let from = (model.first_ns / BIN_NS) as usize;
    series.bins.get(from..).filter(|bins| bins.len() >= FEWEST_BINS)
}

/// The first of some counters that both runs have.
fn of_both<'m>(models: Both<&'m Model>, metrics: &[Metric]) -> Option<Both<&'m [f64]>> {
    metrics.iter().find_map(|metric| Both::each(|run: Run| since_first(models.of(run), *metric)).together())
}

/// The worst of the counters that are judged; what grew in one of the runs.
pub(crate) fn resources(models: Both<&Model>, pairing: &Pairing<'_>, rows: &mut Rows<'_>) -> Growth {
    let growth = Growth::take(models, pairing, of_both(models, MEMORY));
    let (mut judged, mut within) = (None, None);
    let (mut notes, mut n) = (Vec::new(), 0);
    let worse = |worst: Option<f64>, share: f64| Some(worst.map_or(share, |worst| worst.max(share)));
    for counter in COUNTERS {
        let Some(levels) = of_both(models, counter.metrics) else { continue };
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
        notes.push(format!(
            "{} {:.0} % apart, peak {:.2} → {:.2}{} ({:.0} %)",
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
    growth
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
