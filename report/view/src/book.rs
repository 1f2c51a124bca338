//! A trace as a book: pages of events that lie together in time, each of which is read by itself. Nothing but the page that
//! is being read is decoded, and the number of an event is how many are on the pages in front of it, and before it on its own.

use crate::bits::Part;
use ctrace_format::{Class, ConnectionKind, Event, Filter, ProcessKind, Trace};
use ctrace_report::text::Events;
use ctrace_report::text::query::is_quiet;

/// The classes of what is numbered: everything that happened.
const CLASSES: [Class; 14] = ctrace_report::text::filter::CLASSES;

/// About so many events are on a page: as many as a few chunks of the file hold.
const PAGE_EVENTS: u64 = 60_000;

/// The events that ended in a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// From when on, ns since the start of the trace.
    pub(crate) from_ns: u64,
    /// The last moment of it.
    pub(crate) to_ns: u64,
    /// About how many events it has.
    pub(crate) about: u64,
}

/// The pages of a trace, in order; together they have every moment.
pub(crate) fn pages(trace: &Trace) -> Vec<Page> {
    let mut stretches: Vec<_> = trace.stretches().filter(|s| CLASSES.contains(&s.class)).collect();
    stretches.sort_by_key(|s| s.to_ns);
    let mut pages = Vec::new();
    let (mut from_ns, mut about) = (0, 0);
    for stretch in stretches {
        about += stretch.events;
        if about >= PAGE_EVENTS && stretch.to_ns >= from_ns {
            pages.push(Page { from_ns, to_ns: stretch.to_ns, about });
            (from_ns, about) = (stretch.to_ns.saturating_add(1), 0);
        }
    }
    pages.push(Page { from_ns, to_ns: u64::MAX, about });
    pages
}

/// Passes the events of a page in order. What cannot be read is passed as a sentence.
pub(crate) fn read(trace: &Trace, page: Page, mut each: impl FnMut(Result<Event, String>) -> bool) {
    let filter = Filter {
        classes: CLASSES.to_vec(),
        from_ns: Some(page.from_ns),
        to_ns: Some(page.to_ns),
        ..Filter::default()
    };
    for event in trace.events(&filter) {
        let more = match event {
            // One that began on this page may end on a later one.
            Ok(event) if event.end_ns() > page.to_ns => true,
            Ok(event) => each(Ok(event)),
            Err(error) => each(Err(error.to_string())),
        };
        if !more {
            break;
        }
    }
}

/// Figures of a stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bin {
    /// Calls that ended, counted ones included.
    pub(crate) calls: u64,
    /// What went wrong.
    pub(crate) errors: u64,
    /// Events that are missing.
    pub(crate) lost: u64,
}

impl Bin {
    pub(crate) const fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.lost += other.lost;
    }
}

/// A stretch of time that is not empty, whatever a file says.
pub(crate) fn stretch(from_ns: u64, to_ns: u64) -> (u64, u64) {
    let from_ns = from_ns.min(u64::MAX - 1);
    (from_ns, to_ns.max(from_ns + 1))
}

/// Figures over a stretch of time, cut into equal bins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Series {
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
    pub(crate) bins: Vec<Bin>,
}

impl Series {
    pub(crate) fn new(from_ns: u64, to_ns: u64, bins: usize) -> Self {
        let (from_ns, to_ns) = stretch(from_ns, to_ns);
        Self { from_ns, to_ns, bins: vec![Bin::default(); bins.max(1)] }
    }

    /// The bin of a moment, as far as it is among them.
    fn at(&self, t_ns: u64) -> Option<usize> {
        if t_ns < self.from_ns || t_ns > self.to_ns {
            return None;
        }
        let length = u128::from(self.to_ns - self.from_ns);
        let at = u128::from(t_ns - self.from_ns) * self.bins.len() as u128 / length;
        Some((at as usize).min(self.bins.len() - 1))
    }

    /// The moment at which a bin begins.
    pub(crate) fn begin_ns(&self, bin: usize) -> u64 {
        let length = u128::from(self.to_ns - self.from_ns);
        self.from_ns + (length * bin as u128 / self.bins.len() as u128) as u64
    }

    /// Spreads a count over a stretch of time; what is outside of the series is left out.
    fn spread(&mut self, from_ns: u64, to_ns: u64, count: u64, add: impl Fn(&mut Bin, u64)) {
        let whole = u128::from(to_ns.saturating_sub(from_ns));
        let inside = u128::from(to_ns.min(self.to_ns).saturating_sub(from_ns.max(self.from_ns)));
        let count = (u128::from(count) * inside).checked_div(whole).map_or(count, |part| part as u64);
        let first = self.at(from_ns.max(self.from_ns));
        let last = self.at(to_ns.min(self.to_ns));
        let (Some(first), Some(last)) = (first, last) else { return };
        let bins = (last.max(first) - first + 1) as u64;
        for (i, bin) in self.bins[first..=last.max(first)].iter_mut().enumerate() {
            // What does not divide is in the first ones.
            add(bin, count / bins + u64::from((i as u64) < count % bins));
        }
    }

    fn count(&mut self, event: &Event, is_error: bool) {
        match event {
            Event::Syscall(_) => {
                if let Some(at) = self.at(event.end_ns()) {
                    self.bins[at].calls += 1;
                }
            }
            Event::Aggregate(e) => self.spread(e.from_ns, e.t_ns, e.count, |bin, n| bin.calls += n),
            Event::Loss(e) => self.spread(e.from_ns, e.t_ns, e.count, |bin, n| bin.lost += n),
            _ => {}
        }
        if is_error && let Some(at) = self.at(event.end_ns()) {
            self.bins[at].errors += 1;
        }
    }

    /// Adds what was counted of the same stretch elsewhere.
    pub(crate) fn merge(&mut self, bins: &[(usize, Bin)]) {
        for (at, bin) in bins {
            if let Some(mine) = self.bins.get_mut(*at) {
                mine.add(*bin);
            }
        }
    }

    /// The bins that are not empty.
    fn filled(self) -> Vec<(usize, Bin)> {
        self.bins.into_iter().enumerate().filter(|(_, bin)| *bin != Bin::default()).collect()
    }
}

/// Whether an event tells of something that went wrong.
pub(crate) fn is_error(events: &Events, event: &Event) -> bool {
    match event {
        Event::Syscall(_) => events.is_failure(event, None),
        Event::Connection(e) => match e.kind {
            ConnectionKind::State { error, .. } => error != 0,
            ConnectionKind::ResetSent | ConnectionKind::ResetReceived => true,
            _ => false,
        },
        Event::Process(e) => match e.kind {
            ProcessKind::Exit { status, group_dead } => group_dead && status != 0,
            ProcessKind::OomKill { .. } => true,
            _ => false,
        },
        Event::Dns(e) => e.answer.is_none_or(|(code, _)| code != 0),
        Event::Block(e) => e.error != 0,
        Event::Uring(e) => e.ret < 0,
        Event::Loss(_) | Event::Injection(_) => true,
        _ => false,
    }
}

/// What the first reading of a page tells.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scanned {
    /// Events that are shown to those who ask for nothing.
    pub(crate) shown: Part,
    /// Those that tell of something that went wrong.
    pub(crate) errors: Part,
    pub(crate) bins: Vec<(usize, Bin)>,
    /// What could not be read.
    pub(crate) unreadable: Vec<String>,
}

/// Reads a page for the first time. `whole`: an empty series of the whole trace. What `fits` is the second part.
pub(crate) fn scan(
    events: &Events,
    page: Page,
    whole: &Series,
    mut fits: impl FnMut(&Event) -> bool,
) -> (Scanned, Part) {
    let (mut scanned, mut part) = (Scanned::default(), Part::default());
    let mut series = Series::new(whole.from_ns, whole.to_ns, whole.bins.len());
    let engine = ctrace_format::SyscallFlags::ENGINE;
    read(events.trace(), page, |event| {
        match event {
            Ok(event) => {
                let is_error = is_error(events, &event);
                let is_engine = matches!(&event, Event::Syscall(call) if call.flags.contains(engine));
                scanned.shown.push(!is_engine && !is_quiet(&event));
                scanned.errors.push(is_error);
                series.count(&event, is_error);
                part.push(fits(&event));
            }
            Err(what) => scanned.unreadable.push(what),
        }
        true
    });
    scanned.bins = series.filled();
    (scanned, part)
}

/// The events of a page that fit; `None` when it was cancelled.
pub(crate) fn find(
    trace: &Trace,
    page: Page,
    mut fits: impl FnMut(&Event) -> bool,
    cancelled: impl Fn() -> bool,
) -> Option<Part> {
    let mut part = Part::default();
    let mut stopped = false;
    read(trace, page, |event| {
        if let Ok(event) = event {
            part.push(fits(&event));
            // To look more often would take longer than what it saves.
            stopped = part.len().is_multiple_of(4096) && cancelled();
        }
        !stopped
    });
    (!stopped).then_some(part)
}

/// Figures of a stretch of time, finer than the whole trace's.
pub(crate) fn series(events: &Events, from_ns: u64, to_ns: u64, bins: usize) -> Series {
    let mut series = Series::new(from_ns, to_ns, bins);
    let page = Page { from_ns, to_ns: u64::MAX, about: 0 };
    let filter = Filter {
        classes: CLASSES.to_vec(),
        from_ns: Some(page.from_ns),
        to_ns: Some(to_ns),
        ..Filter::default()
    };
    for event in events.trace().events(&filter).flatten() {
        let is_error = is_error(events, &event);
        series.count(&event, is_error);
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spread_keeps_its_sum_and_stays_inside() {
        let mut series = Series::new(100, 200, 10);
        // A tenth of the time is inside.
        series.spread(0, 1000, 250, |bin, n| bin.lost += n);
        assert_eq!(series.bins.iter().map(|b| b.lost).sum::<u64>(), 25);
        assert_eq!((series.bins[0].lost, series.bins[9].lost), (3, 2));
        series.spread(150, 150, 4, |bin, n| bin.calls += n);
        assert_eq!(series.bins[5].calls, 4);
        series.spread(900, 950, 9, |bin, n| bin.calls += n);
        assert_eq!(series.bins.iter().map(|b| b.calls).sum::<u64>(), 4, "it was later");
        assert_eq!((series.at(200), series.at(201), series.at(99)), (Some(9), None, None));
        assert_eq!(Series::new(5, 5, 0).at(5), Some(0));
        assert_eq!(Series::new(u64::MAX, 0, 3).at(u64::MAX), Some(2));
    }
}
