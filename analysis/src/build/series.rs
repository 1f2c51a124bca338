//! Resource samples, put on bins.

use crate::model::{BIN_NS, Series};
use ctrace_format::Metric;

/// Puts samples on bins: growth is shared among the bins it spans, a level holds until the next sample.
pub(super) fn series(metric: Metric, samples: &[(u64, u64)]) -> Series {
    let end = samples.last().map_or(0, |s| s.0);
    // Samples come about once a bin: what is far beyond that is a damaged time stamp, and must not allocate.
    let count = ((end / BIN_NS) as usize).saturating_add(1).min(samples.len().saturating_mul(8) + 16);
    let mut bins = vec![0.0; if samples.is_empty() { 0 } else { count }];
    let bin = |t: u64| ((t / BIN_NS) as usize).min(count - 1);
    for pair in samples.windows(2) {
        let ((t0, v0), (t1, v1)) = (pair[0], pair[1]);
        let (from, to) = (bin(t0), bin(t1.max(t0)));
        if metric.is_cumulative() {
            let growth = v1.saturating_sub(v0) as f64;
            let parts = (to - from).max(1);
            for b in &mut bins[to + 1 - parts.min(to + 1)..=to] {
                *b += growth / parts as f64;
            }
        } else {
            for b in &mut bins[from..=to] {
                *b = v0 as f64;
            }
        }
    }
    if !metric.is_cumulative()
        && let (Some(last), Some(sample)) = (bins.last_mut(), samples.last())
    {
        *last = sample.1 as f64;
    }
    Series { metric, bins }
}
