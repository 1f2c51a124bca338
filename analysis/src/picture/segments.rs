//! A sequence of values cut where its level changes: binary segmentation by ranks.
//!
//! Of all stretches of a curve, the one is looked at whose values differ most from the rest by the test of Mann and Whitney
//! (with its correction for ties: Lehmann, Nonparametrics, 1975, section 1.4). Neighbouring values that resemble each other
//! count for less. What is cut so is looked at again, each part apart.

use std::cmp::Ordering;

/// Values on either side of a cut.
const LEAST: usize = 8;
/// Values of a stretch between two cuts.
const LEAST_WITHIN: usize = 5;
/// Deviations of a rank sum from its mean from which on it is no chance, for the best of all stretches.
const SURE: f64 = 5.5;

/// A part of a curve.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    /// The bins that it stands for.
    pub(super) first: usize,
    pub(super) end: usize,
    pub(super) value: f64,
}

/// Cuts the stretch out of a part of the points that differs most from the rest of it, as long as that is no chance, and
/// looks at what is left apart. A stretch that begins or ends with the part is one cut.
pub(super) fn cut(points: &[Point], from: usize, to: usize, depth: usize, cuts: &mut Vec<usize>) {
    if depth == 0 || to - from < 2 * LEAST {
        return;
    }
    let part = &points[from..to];
    let Some((begin, end, deviation)) = best(part) else { return };
    if deviation * independence([&part[..begin], &part[begin..end], &part[end..]]) < SURE {
        return;
    }
    let (begin, end) = (from + begin, from + end);
    cuts.extend([begin, end].into_iter().filter(|at| *at > from && *at < to));
    for (from, to) in [(from, begin), (begin, end), (end, to)] {
        cut(points, from, to, depth - 1, cuts);
    }
}

/// The stretch that differs most from the rest, and by how many deviations its rank sum differs from what chance gives
/// (Olshen and others: Circular binary segmentation, Biostatistics 5, 2004).
fn best(points: &[Point]) -> Option<(usize, usize, f64)> {
    let n = points.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| points[*a].value.total_cmp(&points[*b].value));
    // Equal values have the middle one of their ranks.
    let mut ranks = vec![0.0; n];
    let mut ties = 0.0;
    let mut at = 0;
    while at < n {
        let value = points[order[at]].value;
        let same = order[at..].iter().take_while(|i| points[**i].value.total_cmp(&value) == Ordering::Equal);
        let same = same.count();
        for i in &order[at..at + same] {
            ranks[*i] = at as f64 + f64::midpoint(same as f64, 1.0);
        }
        ties += (same as f64).powi(3) - same as f64;
        at += same;
    }
    let all = n as f64;
    let correction = 1.0 - ties / (all.powi(3) - all);
    if correction <= 0.0 {
        return None;
    }
    let mut sums = vec![0.0; n + 1];
    for (i, rank) in ranks.iter().enumerate() {
        sums[i + 1] = sums[i] + rank - f64::midpoint(all, 1.0);
    }
    let mut best: Option<(usize, usize, f64)> = None;
    for begin in 0..n {
        // Nothing at either end is shorter than what is cut out of the middle.
        if begin > 0 && begin < LEAST_WITHIN {
            continue;
        }
        for end in begin + LEAST_WITHIN..=n {
            let length = end - begin;
            let is_side = begin == 0 || end == n;
            if n - length < LEAST || is_side && length < LEAST || end < n && n - end < LEAST_WITHIN {
                continue;
            }
            let (k, m) = (length as f64, (n - length) as f64);
            let variance = k * m * (all + 1.0) / 12.0 * correction;
            let deviation = (sums[end] - sums[begin]).abs() / variance.sqrt();
            if best.is_none_or(|best| deviation > best.2) {
                best = Some((begin, end, deviation));
            }
        }
    }
    best
}

/// How much of a number of values is worth as many that have nothing to do with each other: less, the more neighbours
/// resemble each other. Looked at in short windows of each part, so that a level that changes is not taken for that.
fn independence(parts: [&[Point]; 3]) -> f64 {
    const WINDOW: usize = 2 * LEAST;
    let mut rest: Vec<Vec<f64>> = Vec::new();
    for window in parts.iter().flat_map(|part| part.chunks_exact(WINDOW.min(part.len().max(1)))) {
        let middle = median(window);
        rest.push(window.iter().map(|point| point.value - middle).collect());
    }
    // Outliers do not decide.
    let mut sizes: Vec<f64> = rest.iter().flatten().map(|x| x.abs()).filter(|x| *x > 0.0).collect();
    if sizes.is_empty() {
        return 1.0;
    }
    sizes.sort_by(f64::total_cmp);
    let bound = sizes[sizes.len() * 9 / 10];
    let (mut products, mut squares) = (0.0, 0.0);
    for window in &mut rest {
        for x in window.iter_mut() {
            *x = (*x / bound).clamp(-1.0, 1.0);
        }
        products += window.windows(2).map(|two| two[0] * two[1]).sum::<f64>();
        squares += window.iter().map(|x| x * x).sum::<f64>();
    }
    let seen = if squares > 0.0 { products / squares } else { 0.0 };
    // A short window shows less of it than there is (Kendall, Biometrika 41, 1954).
    let n = WINDOW as f64;
    let alike = ((n * seen + 1.0) / (n - 3.0)).clamp(0.0, 0.98);
    ((1.0 - alike) / (1.0 + alike)).sqrt()
}

pub(super) fn median(points: &[Point]) -> f64 {
    let mut values: Vec<f64> = points.iter().map(|point| point.value).collect();
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// Cliff's delta: how much more often one after is larger than one before, than the other way round.
pub(super) fn delta(before: &[Point], after: &[Point]) -> f64 {
    let mut earlier: Vec<f64> = before.iter().map(|point| point.value).collect();
    earlier.sort_by(f64::total_cmp);
    let mut sum = 0.0;
    for point in after {
        let below = earlier.partition_point(|x| *x < point.value) as f64;
        let above = earlier.len() as f64 - earlier.partition_point(|x| *x <= point.value) as f64;
        sum += below - above;
    }
    sum / (before.len().max(1) * after.len().max(1)) as f64
}
