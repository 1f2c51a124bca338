//! Where curves change their level, and how much each change is worth to somebody who looks for what went wrong.

use super::segments::{Point, cut, delta, median};
use super::{Change, Curve, Grid, Panel, PanelKind, Unit};
use crate::findings::words;
use crate::{Finding, Level};

/// Changes that are told.
const SHOWN: usize = 12;
/// The most changes of one panel at one moment.
const ALIKE: usize = 2;
/// A curve is looked at in so many parts: fine ones, and where these tell nothing, coarse ones.
const PARTS: [usize; 2] = [240, 60];
/// Cliff's delta from which on a difference matters.
const EFFECT: f64 = 0.7;
const DEPTH: usize = 4;
/// So much of a trace at its start and its end is how programs start and end.
const EDGE: f64 = 0.1;
/// A change that is worth less is not told.
const WORTH: f64 = 0.08;
/// A finding that began within this time of a change began with it.
const TOGETHER_NS: u64 = 250_000_000;

/// A level that a curve has for a while.
#[derive(Debug, Clone, Copy)]
struct Stay {
    from: usize,
    to: usize,
}

/// Finds the changes of all curves, the most telling first. `telling`: errors that are failures.
pub(super) fn changes(
    grid: &Grid,
    panels: &[Panel],
    telling: &[String],
    findings: &[Finding],
) -> Vec<Change> {
    let mut all: Vec<(f64, Change)> = Vec::new();
    for panel in panels {
        for curve in panel.series.iter().filter(|curve| !curve.is_limit) {
            let importance = importance(panel.kind, &curve.name, telling);
            if importance > 0.0 {
                all.extend(of_curve(grid, panel.kind, curve, importance, findings));
            }
        }
    }
    all.sort_by(|(a, x), (b, y)| {
        b.total_cmp(a).then(x.at_ns.cmp(&y.at_ns)).then_with(|| x.curve.cmp(&y.curve))
    });
    let near_ns = TOGETHER_NS.max(grid.width_ns.saturating_mul(4));
    let mut kept: Vec<Change> = Vec::new();
    for (_, change) in all.into_iter().filter(|(worth, _)| *worth >= WORTH) {
        let is_alike = |k: &&Change| k.panel == change.panel && k.at_ns.abs_diff(change.at_ns) <= near_ns;
        // The median and the 99th percentile of one thing are one change.
        let what = |curve: &str| curve.trim_start_matches("p50 ").trim_start_matches("p99 ").to_owned();
        let rises = |k: &Change| k.after > k.before;
        let is_same = |k: &Change| what(&k.curve) == what(&change.curve) && rises(k) == rises(&change);
        let alike: Vec<&Change> = kept.iter().filter(is_alike).collect();
        if alike.len() < ALIKE && !alike.into_iter().any(is_same) && kept.len() < SHOWN {
            kept.push(change);
        }
    }
    kept
}

/// How much a change of a curve would matter to somebody who looks for what went wrong.
fn importance(kind: PanelKind, name: &str, telling: &[String]) -> f64 {
    let has = |part: &str| name.contains(part);
    match kind {
        PanelKind::Errors if telling.iter().any(|errno| errno == name) => 1.0,
        PanelKind::Errors => 0.15,
        PanelKind::Connections if matches!(name, "opened" | "closed") => 0.35,
        PanelKind::Connections | PanelKind::Backlog => 0.9,
        PanelKind::Latency if has("wait") => 0.1,
        PanelKind::Latency if has("network") => 0.85,
        PanelKind::Latency if has("file") => 0.6,
        PanelKind::Latency => 0.2,
        PanelKind::Network if has("answer") => 0.85,
        PanelKind::Network if has("round trip") => 0.5,
        PanelKind::Network => 0.75,
        PanelKind::Cpu if has("throttled") => 0.8,
        PanelKind::Cpu if has("waited") => 0.6,
        PanelKind::Cpu if has("machine") => 0.2,
        PanelKind::Pressure if has("machine") => 0.3,
        PanelKind::Pressure => 0.6,
        PanelKind::Disk => 0.7,
        PanelKind::Memory if has("swapped") => 0.6,
        PanelKind::Counts if has("descriptors") || has("left open") => 0.55,
        PanelKind::Memory | PanelKind::Counts | PanelKind::Cpu => 0.4,
        PanelKind::Calls if name == "wait" => 0.12,
        PanelKind::Calls => 0.3,
    }
}

/// Whether more of it is worse.
fn is_bad(kind: PanelKind, name: &str) -> bool {
    match kind {
        PanelKind::Calls | PanelKind::Memory | PanelKind::Counts => false,
        PanelKind::Connections => !matches!(name, "opened" | "closed"),
        PanelKind::Cpu => name != "used",
        _ => true,
    }
}

/// Programs do more of it when they start, and less when they end.
const fn is_load(kind: PanelKind) -> bool {
    matches!(
        kind,
        PanelKind::Calls
            | PanelKind::Latency
            | PanelKind::Connections
            | PanelKind::Network
            | PanelKind::Cpu
            | PanelKind::Memory
            | PanelKind::Counts
            | PanelKind::Disk
    )
}

fn of_curve(
    grid: &Grid,
    kind: PanelKind,
    curve: &Curve,
    importance: f64,
    findings: &[Finding],
) -> Vec<(f64, Change)> {
    for parts in PARTS {
        let points = points(curve, parts);
        let mut cuts = Vec::new();
        cut(&points, 0, points.len(), DEPTH, &mut cuts);
        cuts.sort_unstable();
        let found = told(grid, kind, curve, importance, findings, &points, &cuts);
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

fn told(
    grid: &Grid,
    kind: PanelKind,
    curve: &Curve,
    importance: f64,
    findings: &[Finding],
    points: &[Point],
    cuts: &[usize],
) -> Vec<(f64, Change)> {
    let bounds: Vec<usize> =
        std::iter::once(0).chain(cuts.iter().copied()).chain(std::iter::once(points.len())).collect();
    let mut out = Vec::new();
    for (nth, three) in bounds.windows(3).enumerate() {
        let (first, at, end) = (three[0], three[1], three[2]);
        let stays = [Stay { from: first, to: at }, Stay { from: at, to: end }];
        let [before, after] = stays.map(|stay| level(curve.unit, &points[stay.from..stay.to]));
        let effect = delta(&points[first..at], &points[at..end]);
        let Some(size) = size(grid, curve.unit, before, after, &stays, points) else { continue };
        if effect.abs() < EFFECT {
            continue;
        }
        let bin = moment(curve, points, at, before, after);
        let mut at_ns = grid.start_ns(bin);
        let place = bin as f64 / grid.bins as f64;
        let starts = nth == 0 && place <= EDGE;
        let ends = nth + 2 == bounds.len() - 1 && place >= 1.0 - EDGE;
        let is_edge = (starts || ends) && is_load(kind);
        let near_ns = TOGETHER_NS.max(grid.width_ns.saturating_mul(2));
        let began = |found: &&Finding| {
            found.level > Level::Note
                && found.from_ns > grid.from_ns
                && found.from_ns.abs_diff(at_ns) <= near_ns
        };
        let finding = findings.iter().filter(began).min_by_key(|found| found.rank);
        if let Some(found) = finding.filter(|found| grid.bin(found.from_ns).abs_diff(bin) <= 1) {
            at_ns = found.from_ns;
        }
        // The end of something is worth less than its beginning.
        let is_over = after < before && is_bad(kind, &curve.name);
        let worth = importance
            * effect.abs()
            * size
            * if is_edge { 0.15 } else { 1.0 }
            * if is_over { 0.6 } else { 1.0 };
        let change = Change {
            at_ns,
            panel: kind,
            curve: curve.name.clone(),
            unit: curve.unit,
            before,
            after,
            effect,
            finding: finding.map(|found| found.rank),
            text: sentence(kind, curve, before, after, at_ns),
        };
        out.push((worth, change));
    }
    out
}

/// The curve in so many parts at most, each the mean of what is known of it. The last bin is not a whole one.
fn points(curve: &Curve, parts: usize) -> Vec<Point> {
    let values = &curve.values[..curve.values.len().saturating_sub(1)];
    let width = values.len().div_ceil(parts).max(1);
    let part = |(at, values): (usize, &[Option<f64>])| {
        let known: Vec<f64> = values.iter().flatten().copied().filter(|value| value.is_finite()).collect();
        // Half a part tells less than the others.
        if known.is_empty() || values.len() * 2 < width {
            return None;
        }
        let value = known.iter().sum::<f64>() / known.len() as f64;
        Some(Point { first: at * width, end: at * width + values.len(), value })
    };
    values.chunks(width).enumerate().filter_map(part).collect()
}

/// The level of a part: the median; of what is counted the mean, since few moments may have any.
fn level(unit: Unit, points: &[Point]) -> f64 {
    if unit == Unit::PerSecond {
        return points.iter().map(|point| point.value).sum::<f64>() / points.len().max(1) as f64;
    }
    median(points)
}

/// How large a difference is, from 0 to 1; `None`: nobody would call it a change.
fn size(
    grid: &Grid,
    unit: Unit,
    before: f64,
    after: f64,
    stays: &[Stay; 2],
    points: &[Point],
) -> Option<f64> {
    let (low, high) = (before.min(after), before.max(after));
    let difference = high - low;
    let is_notable = match unit {
        Unit::PerSecond => {
            // So many events are no chance.
            const EVENTS: f64 = 5.0;
            let stay = if after > before { stays[1] } else { stays[0] };
            let bins = points[stay.to - 1].end - points[stay.from].first;
            high >= 1.5 * low && difference * bins as f64 * grid.width_s() >= EVENTS
        }
        Unit::Ns => high >= 1.5 * low && difference >= 100_000.0,
        Unit::Bytes => high >= 1.2 * low && difference >= 1_048_576.0,
        Unit::Count => high >= 1.3 * low && difference >= 3.0,
        Unit::Share => high >= 1.3 * low && difference >= 0.05,
    };
    is_notable.then(|| if low <= 0.0 { 1.0 } else { ((high / low).log2() / 5.0).clamp(0.15, 1.0) })
}

/// The bin in which the level changed: near the cut, the first one beyond the middle of both levels, or after the last one.
fn moment(curve: &Curve, points: &[Point], at: usize, before: f64, after: f64) -> usize {
    let first = points[at.saturating_sub(1)].first;
    let end = points[at].end;
    let middle = f64::midpoint(before, after);
    let is_high = |bin: &usize| curve.values[*bin].is_some_and(|value| value > middle);
    let found = if after > before {
        (first..end).find(is_high)
    } else {
        (first..end).rev().find(is_high).map(|bin| bin + 1)
    };
    found.unwrap_or(points[at].first)
}

fn sentence(kind: PanelKind, curve: &Curve, before: f64, after: f64, at_ns: u64) -> String {
    let way = if after > before { "rose" } else { "fell" };
    let [before, after] = [before, after].map(|value| figure(kind, curve.unit, value));
    format!("{} {way} from {before} to {after} at {}", subject(kind, &curve.name), words::at(at_ns))
}

/// The subject of a curve.
fn subject(kind: PanelKind, name: &str) -> String {
    let (first, rest) = name.split_once(' ').unwrap_or((name, ""));
    match kind {
        PanelKind::Calls => format!("{name} calls"),
        PanelKind::Latency if first == "p50" => format!("median time of {rest} calls"),
        PanelKind::Latency => format!("99th percentile of the time of {rest} calls"),
        PanelKind::Errors => format!("{name} failures"),
        PanelKind::Connections => format!("connections {name}"),
        PanelKind::Network if name == "p50 answer of peers" => "median time of answers of peers".to_owned(),
        PanelKind::Network if name == "p50 answer to clients" => {
            "median time of answers to clients".to_owned()
        }
        PanelKind::Network if first == "p99" => {
            format!("99th percentile of the time of {}", rest.replace("answer", "answers"))
        }
        PanelKind::Network | PanelKind::Disk if first == "p50" => format!("median time of a {rest}"),
        PanelKind::Cpu if name == "used" => "CPU used".to_owned(),
        PanelKind::Cpu if name == "waited for" => "time waited for a CPU".to_owned(),
        PanelKind::Cpu if first == "throttled" => format!("time {name} by a CPU quota"),
        PanelKind::Cpu => format!("CPU used by {name}"),
        PanelKind::Memory => format!("memory {name}"),
        PanelKind::Pressure => format!("time in which {name}"),
        PanelKind::Backlog if first == "longest" => "longest accept queue".to_owned(),
        PanelKind::Backlog => format!("connections that {}", name.replace("dropped", "were dropped")),
        PanelKind::Network | PanelKind::Disk | PanelKind::Counts => name.to_owned(),
    }
}

fn figure(kind: PanelKind, unit: Unit, value: f64) -> String {
    let short = |value: f64| match value {
        v if v >= 100.0 => words::count(v.round() as u64),
        v if v == 0.0 || v >= 10.0 => format!("{v:.0}"),
        v => format!("{v:.1}"),
    };
    match unit {
        Unit::PerSecond => format!("{}/s", short(value)),
        Unit::Ns => words::span(value as u64),
        Unit::Bytes => words::bytes(value as u64),
        Unit::Count => words::count(value.round() as u64),
        Unit::Share if kind == PanelKind::Pressure => format!("{:.0} %", value * 100.0),
        Unit::Share => format!("{value:.2} CPUs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grid(bins: usize) -> Grid {
        Grid { from_ns: 0, duration_ns: bins as u64 * 10_000_000, width_ns: 10_000_000, bins }
    }

    fn found(kind: PanelKind, name: &str, unit: Unit, values: Vec<f64>) -> Vec<Change> {
        let grid = grid(values.len());
        let values = values.into_iter().map(Some).collect();
        let series = vec![Curve { name: name.to_owned(), unit, is_limit: false, values }];
        changes(&grid, &[Panel { kind, series, empty: None }], &["ECONNREFUSED".to_owned()], &[])
    }

    /// Numbers without pattern (Marsaglia: Xorshift RNGs, 2003).
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        }

        /// As many of something that happens with this mean.
        fn times(&mut self, mean: f64) -> f64 {
            let (mut product, mut n) = (self.next(), 0.0);
            while product > (-mean).exp() && n < 1_000.0 {
                product *= self.next();
                n += 1.0;
            }
            n
        }
    }

    #[test]
    fn failures_that_begin_and_end_are_two_changes_where_they_are() {
        let mut noise = Noise(7);
        let values =
            (0..800).map(|bin| if (252..560).contains(&bin) { noise.times(0.6) * 100.0 } else { 0.0 });
        let changes = found(PanelKind::Errors, "ECONNREFUSED", Unit::PerSecond, values.collect());
        assert_eq!(changes.len(), 2, "{changes:#?}");
        let mut at: Vec<u64> = changes.iter().map(|change| change.at_ns / 10_000_000).collect();
        at.sort_unstable();
        assert!((252..256).contains(&at[0]) && (552..=560).contains(&at[1]), "{changes:#?}");
        let rose = changes.iter().find(|c| c.after > c.before);
        let text = rose.map(|c| c.text.clone()).unwrap_or_default();
        assert!(text.starts_with("ECONNREFUSED failures rose from 0/s to "), "{text}");
    }

    #[test]
    fn a_few_failures_in_a_row_are_told_wherever_they_are() {
        let values = (0..814).map(|bin| if (524..550).contains(&bin) && bin % 5 == 0 { 100.0 } else { 0.0 });
        let changes = found(PanelKind::Errors, "ECONNREFUSED", Unit::PerSecond, values.collect());
        assert_eq!(changes.len(), 2, "{changes:#?}");
        assert!(changes.iter().any(|change| change.at_ns == 5_250_000_000), "{changes:#?}");
    }

    #[test]
    fn one_outlier_is_no_change_and_neither_is_a_level_that_wanders() {
        let mut values = vec![5.0e6; 600];
        values[300] = 9.0e9;
        assert!(found(PanelKind::Latency, "p99 network", Unit::Ns, values).is_empty());
        let mut noise = Noise(11);
        let mut wrong = 0;
        for _ in 0..100 {
            let mut level = 50.0e6;
            let wander = (0..600).map(|_| {
                level += (noise.next() - 0.5) * 4.0e6;
                level
            });
            wrong += found(PanelKind::Memory, "used", Unit::Bytes, wander.collect()).len();
        }
        assert!(wrong <= 5, "{wrong} changes in 100 curves that wander");
    }

    #[test]
    fn a_slow_peer_is_told_and_a_start_is_worth_little() {
        let mut noise = Noise(3);
        let slow: Vec<f64> = (0..800)
            .map(|bin| (if bin < 400 { 1.0e6 } else { 300.0e6 }) * (0.8 + 0.4 * noise.next()))
            .collect();
        let changes = found(PanelKind::Latency, "p99 network", Unit::Ns, slow);
        assert_eq!(changes.len(), 1, "{changes:#?}");
        assert_eq!(changes[0].at_ns, 4_000_000_000);
        let start: Vec<f64> =
            (0..800).map(|bin| if bin < 60 { 0.0 } else { 1_000.0 * (0.8 + 0.4 * noise.next()) }).collect();
        assert!(found(PanelKind::Calls, "network", Unit::PerSecond, start).is_empty());
    }

    /// One steady curve of several hundred may seem to change; more would be noise in a report.
    #[test]
    fn steady_noise_gives_next_to_no_changes() {
        let mut noise = Noise(0x9E37_79B9);
        let mut wrong = 0;
        for round in 0..400 {
            let mean = [0.05, 0.5, 3.0, 40.0][round % 4];
            let bins = [1_500, 814, 300, 90][round / 4 % 4];
            let values = (0..bins).map(|_| noise.times(mean) * 100.0).collect();
            wrong += found(PanelKind::Errors, "ECONNREFUSED", Unit::PerSecond, values).len();
            let times = (0..bins).map(|_| 1.0e6 / (1.001 - noise.next())).collect();
            wrong += found(PanelKind::Latency, "p50 network", Unit::Ns, times).len();
        }
        assert!(wrong <= 2, "{wrong} changes in 800 steady curves");
    }

    proptest! {
        #[test]
        fn whatever_a_curve_holds_nothing_breaks(
            values in proptest::collection::vec(proptest::option::of(any::<f64>()), 0..400),
        ) {
            let grid = grid(values.len().max(1));
            let mut values = values;
            values.resize(grid.bins, None);
            let curve = Curve { name: "used".to_owned(), unit: Unit::Count, is_limit: false, values };
            let panel = Panel { kind: PanelKind::Counts, series: vec![curve], empty: None };
            for change in changes(&grid, &[panel], &[], &[]) {
                prop_assert!((-1.0..=1.0).contains(&change.effect));
            }
        }
    }
}
