//! Samples of resources as counters.

use super::schema::{CounterDescriptor, UNIT_BYTES, UNIT_COUNT};
use super::sheet::{Count, Lane, Uuid};
use super::{Tracks, apart};
use crate::text::Events;
use ctrace_format::{Metric, Resource};
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Write};

/// Samples so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    subjects: FxHashMap<u32, Uuid>,
    series: FxHashMap<(u32, Metric), Series>,
}

#[derive(Debug, Default)]
struct Series {
    /// Its counter, once there is a value.
    lane: Option<Lane>,
    /// The sample before: its time and value.
    before: Option<(u64, u64)>,
}

/// How the samples of a metric are shown.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shown {
    /// As they are.
    Now,
    /// Growth per second, times this.
    Rate(f64),
}

/// Time that is counted in this unit as a share of the time that passed, in percent.
const PERCENT_OF_NS: f64 = 100.0 / 1e9;
const PERCENT_OF_US: f64 = 100.0 / 1e6;

/// Name, unit and kind of a metric's counter.
fn counter(metric: Metric) -> (String, CounterDescriptor, Shown) {
    let name = metric.name();
    let percent = |short: &str, factor| {
        let descriptor = CounterDescriptor { unit: None, unit_name: Some("%".to_owned()) };
        (format!("{short} %"), descriptor, Shown::Rate(factor))
    };
    match (metric.is_cumulative(), name.rsplit_once('_')) {
        (true, Some((short, "ns"))) => percent(short, PERCENT_OF_NS),
        (true, Some((short, "us"))) => percent(short, PERCENT_OF_US),
        (true, Some((short, "bytes"))) => {
            let descriptor = CounterDescriptor { unit: None, unit_name: Some("bytes/s".to_owned()) };
            (format!("{short} bytes/s"), descriptor, Shown::Rate(1.0))
        }
        (true, _) => {
            let descriptor = CounterDescriptor { unit: None, unit_name: Some("1/s".to_owned()) };
            (format!("{name}/s"), descriptor, Shown::Rate(1.0))
        }
        (false, Some((_, "bytes"))) => {
            (name.to_owned(), CounterDescriptor { unit: Some(UNIT_BYTES), unit_name: None }, Shown::Now)
        }
        (false, _) => {
            (name.to_owned(), CounterDescriptor { unit: Some(UNIT_COUNT), unit_name: None }, Shown::Now)
        }
    }
}

impl Counters {
    pub(super) fn sample<W: Write>(
        &mut self,
        e: &Resource,
        show: &Events<'_>,
        tracks: &mut Tracks<W>,
    ) -> io::Result<()> {
        // Without a limit there is nothing to draw.
        if e.value == u64::MAX {
            return Ok(());
        }
        let series = self.series.entry((e.subject, e.metric)).or_default();
        let before = series.before.replace((e.t_ns, e.value));
        let (name, descriptor, shown) = counter(e.metric);
        let (t_ns, value) = match (shown, before) {
            (Shown::Now, _) => (e.t_ns, Count::Whole(i64::try_from(e.value).unwrap_or(i64::MAX))),
            // From the sample before up to this one.
            (Shown::Rate(factor), Some((from_ns, value))) if from_ns < e.t_ns => {
                let grown = e.value.saturating_sub(value) as f64;
                let per_second = grown * 1e9 / (e.t_ns - from_ns) as f64;
                (from_ns, Count::Part(per_second * factor))
            }
            // One sample tells no rate: there is nothing to have a track.
            (Shown::Rate(_), _) => return Ok(()),
        };
        let lane = if let Some(lane) = series.lane {
            lane
        } else {
            let subject = match self.subjects.entry(e.subject) {
                Entry::Occupied(uuid) => *uuid.get(),
                Entry::Vacant(free) => *free.insert(tracks.sheet.track(apart(&show.subject(e.subject)))?),
            };
            *series.lane.insert(tracks.sheet.counter(Some(subject), &name, descriptor)?)
        };
        tracks.sheet.count(lane, t_ns, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_a_rate_in_a_unit_that_people_know() {
        let names = |metric| {
            let (name, descriptor, shown) = counter(metric);
            (name, descriptor.unit_name.unwrap_or_default(), shown)
        };
        let share = Shown::Rate(PERCENT_OF_NS);
        assert_eq!(names(Metric::CpuThrottledNs), ("cpu_throttled %".into(), "%".into(), share));
        let share = Shown::Rate(PERCENT_OF_US);
        assert_eq!(names(Metric::PsiMemorySomeUs), ("psi_memory_some %".into(), "%".into(), share));
        assert_eq!(names(Metric::MajorFaults), ("major_faults/s".into(), "1/s".into(), Shown::Rate(1.0)));
        assert_eq!(names(Metric::MemoryLimitBytes), ("memory_limit_bytes".into(), String::new(), Shown::Now));
        assert_eq!(names(Metric::IoReadBytes).0, "io_read bytes/s");
    }
}
