//! What the runs used of the machine, over time.

use super::Rows;
use super::both::Both;
use crate::model::{BIN_NS, Model, Series};
use ctrace_format::Metric;

/// The counters that are compared, with their names and units; of each row the first that both runs have.
const COUNTERS: &[(&[Metric], &str, f64, &str)] = &[
    (&[Metric::CpuNs], "CPU", 1e9, "s"),
    (&[Metric::RssBytes, Metric::MemoryBytes], "memory", 1_048_576.0, "MiB"),
    (&[Metric::OpenFds], "descriptors", 1.0, ""),
];
/// Shorter runs have too few samples.
const FEWEST_BINS: usize = 10;

/// How far a counter of one run is from that of the other: the sum of all differences, of what was recorded; and the
/// difference of the peaks.
fn distance(recorded: &[f64], other: &[f64]) -> Option<(f64, f64)> {
    let bins = recorded.len().max(other.len());
    let at = |of: &[f64], i: usize| of.get(i).copied().unwrap_or(0.0);
    let sum: f64 = recorded.iter().sum();
    let apart: f64 = (0..bins).map(|i| (at(recorded, i) - at(other, i)).abs()).sum();
    let peak = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    let (before, after) = (peak(recorded), peak(other));
    (sum > 0.0).then(|| (apart / sum, (after - before).abs() / before))
}

/// What a counter did since the first operation.
fn since_first<'m>(model: &'m Model, metrics: &[Metric]) -> Option<&'m [f64]> {
    let series: &Series = metrics.iter().find_map(|m| model.series.iter().find(|s| s.metric == *m))?;
    let from = (model.first_ns / BIN_NS) as usize;
    series.bins.get(from..).filter(|bins| bins.len() >= FEWEST_BINS)
}

/// The worst of the counters.
pub(crate) fn resources(models: Both<&Model>, rows: &mut Rows<'_>) {
    let (mut worst, mut notes, mut n) = (None, Vec::new(), 0);
    for (metrics, name, unit, unit_name) in COUNTERS {
        let both = models.map(|m| since_first(m, metrics));
        let (Some(recorded), Some(other)) = (both.recorded, both.other) else { continue };
        let Some((apart, peak)) = distance(recorded, other) else { continue };
        n += recorded.len() as u64;
        let most = both.map(|bins| bins.unwrap_or(&[]).iter().copied().fold(0.0, f64::max) / unit);
        notes.push(format!(
            "{name} {:.0} % apart, peak {:.2} → {:.2}{}{unit_name} ({:.0} %)",
            apart * 100.0,
            most.recorded,
            most.other,
            if unit_name.is_empty() { "" } else { " " },
            peak * 100.0
        ));
        worst = Some(worst.unwrap_or(0.0_f64).max(apart));
    }
    let note = if notes.is_empty() { "too few samples".to_owned() } else { notes.join("; ") };
    rows.push("resources", worst, n, "", note);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_of_what_was_recorded() {
        assert_eq!(distance(&[1.0, 2.0, 1.0], &[1.0, 2.0, 1.0]), Some((0.0, 0.0)));
        assert_eq!(distance(&[1.0, 2.0, 1.0], &[1.0, 4.0]), Some((0.75, 1.0)));
        assert_eq!(distance(&[0.0, 0.0], &[1.0]), None);
    }
}
