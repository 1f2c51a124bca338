//! One trace as far as it was read, and where somebody is in it.

use crate::bits::{Bits, Part};
use crate::book::{Page, Scanned, Series, pages, stretch};
use crate::message::{Effect, Want, Why};
use crate::row::{Place, Row};
use ctrace_analysis::{Account, is_complete};
use ctrace_format::{Class, DumpReason, Policy, State, Trace};
use ctrace_report::escape;
use ctrace_report::text::units;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Bins of the series of a whole trace: more than a terminal has columns, so that some zooming needs no reading.
const BINS: usize = 4096;
/// Sentences about what cannot be read that are kept: more would say no more.
const KEPT_WHATS: usize = 20;
/// Rows that are kept when they are out of sight.
const KEPT_ROWS: usize = 4096;

/// Facts that are known as soon as the trace is open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// Its file, in which nothing acts.
    pub(crate) name: String,
    /// What to know before anything else: torn, live, lossy, damaged, unmasked.
    pub(crate) notes: Vec<String>,
    /// It was finished, nothing is damaged, nothing is missing.
    pub(crate) tells_all: bool,
    pub(crate) start_realtime_ns: u64,
    /// Where it begins and ends, ns since the start of the recording.
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
    /// How many events it has, as its chunks say.
    pub(crate) events: u64,
}

impl Facts {
    pub(crate) fn of(path: &Path, trace: &Trace) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let mut notes: Vec<String> = Vec::new();
        match trace.state() {
            State::Complete => {}
            State::Live => notes.push("live: this is the trace so far".into()),
            State::Torn => notes.push("torn: not finished, or cut".into()),
        }
        match trace.lost_events() {
            0 => {}
            lost => notes.push(format!("{} LOST", units::plural(lost, "event"))),
        }
        match trace.damage().len() as u64 {
            0 => {}
            parts => notes.push(format!("{} damaged", units::plural(parts, "part"))),
        }
        let header = trace.header();
        match Policy::of_header(&header.redaction) {
            Policy::Off => notes.push("redaction off: it may hold secrets".into()),
            _ => notes.push(format!("redaction {}", header.redaction)),
        }
        if let Some(window) = trace.window() {
            let why = match &window.reason {
                DumpReason::Trigger { text, .. } => format!(" by {text}"),
                _ => String::new(),
            };
            notes.push(format!("dump {} of a flight recorder{why}", window.number));
        }
        let counts = trace.counts();
        if counts.get(&Class::Aggregate).is_some_and(|n| *n > 0) {
            notes.push("some calls only counted".into());
        }
        let events = counts.iter().filter(|(class, _)| **class != Class::Anchor).map(|(_, n)| n).sum();
        if events == 0 {
            notes.push("no events".into());
        }
        let from_ns = trace.window().map_or(0, |window| window.from_ns);
        let length_ns = trace.summary().map_or(0, |summary| summary.duration_ns);
        let (from_ns, to_ns) = stretch(from_ns, trace.end_ns().max(length_ns));
        Self {
            name: escape::line(&name).into(),
            tells_all: is_complete(trace) && trace.lost_events() == 0 && events > 0,
            notes: notes.iter().map(|note| escape::line(note).into_owned()).collect(),
            start_realtime_ns: header.start_realtime_ns,
            from_ns,
            to_ns,
            events,
        }
    }
}

/// The pages, and the number of the first event of each that was read.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pub(crate) all: Vec<Page>,
    /// Of each page that was read, and of the next one.
    firsts: Vec<u32>,
    /// Pages that were read before one in front of them.
    waiting: BTreeMap<usize, Scanned>,
}

impl Pages {
    /// How many were read, in order.
    pub(crate) fn read(&self) -> usize {
        self.firsts.len().saturating_sub(1)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.read() == self.all.len()
    }

    /// The part of the events that was read, in percent.
    pub(crate) fn percent(&self, read: usize) -> u64 {
        let sum = |pages: &[Page]| pages.iter().map(|page| page.about).sum::<u64>();
        let whole = sum(&self.all).max(1);
        if read == self.all.len() { 100 } else { (sum(&self.all[..read]) * 100 / whole).min(99) }
    }

    pub(crate) fn ordinal(&self, place: Place) -> Option<u32> {
        (place.page < self.read()).then(|| self.firsts[place.page] + place.at)
    }

    pub(crate) fn place(&self, ordinal: u32) -> Option<Place> {
        let page = self.firsts.partition_point(|first| *first <= ordinal).checked_sub(1)?;
        (page < self.read()).then(|| Place { page, at: ordinal - self.firsts[page] })
    }

    /// The page on which events of this time are.
    pub(crate) fn at(&self, t_ns: u64) -> usize {
        self.all.partition_point(|page| page.to_ns < t_ns).min(self.all.len().saturating_sub(1))
    }
}

/// What a trace tells, or that it is not known yet.
#[derive(Debug)]
pub(crate) enum Told {
    Working,
    Ready(Box<Account>),
    Failed(String),
}

/// The events that are listed.
#[derive(Debug, Default)]
pub(crate) struct List {
    pub(crate) want: Want,
    /// The name of what is followed.
    pub(crate) follow: Option<String>,
    /// Which search it is.
    pub(crate) search: u64,
    found: Bits,
    waiting: BTreeMap<usize, Part>,
    /// Pages that were searched.
    pub(crate) searched: usize,
    /// Why there is no search.
    pub(crate) refused: Option<String>,
}

/// An event that is to be gone to as soon as its page was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Jump {
    pub(crate) why: Why,
    pub(crate) t_ns: u64,
    pub(crate) tid: Option<u32>,
    /// Somebody looks for it.
    pub(crate) is_asked: bool,
}

impl Jump {
    /// To the first event that ended at this time or later, or to the one of a thread.
    pub(crate) const fn to(why: Why, t_ns: u64, tid: Option<u32>) -> Self {
        Self { why, t_ns, tid, is_asked: false }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) facts: Facts,
    pub(crate) pages: Pages,
    pub(crate) shown: Bits,
    pub(crate) errors: Bits,
    pub(crate) series: Series,
    /// Of the window that is shown, when the series of the whole is too coarse.
    pub(crate) fine: Option<Series>,
    pub(crate) unreadable: BTreeSet<String>,
    pub(crate) told: Told,
    pub(crate) list: List,
    /// The event at which somebody is, or the first listed one behind it.
    pub(crate) cursor: u32,
    /// How many listed events are above the screen.
    pub(crate) top: u32,
    pub(crate) rows: BTreeMap<u32, Row>,
    asked: Vec<Place>,
    pub(crate) jump: Option<Jump>,
}

impl Side {
    pub(crate) fn new(path: &Path, trace: &Trace, account: Option<Account>) -> Self {
        let facts = Facts::of(path, trace);
        Self {
            pages: Pages { all: pages(trace), firsts: vec![0], waiting: BTreeMap::new() },
            shown: Bits::default(),
            errors: Bits::default(),
            series: Series::new(facts.from_ns, facts.to_ns, BINS),
            fine: None,
            unreadable: BTreeSet::new(),
            told: account.map_or(Told::Working, |account| Told::Ready(Box::new(account))),
            list: List::default(),
            cursor: 0,
            top: 0,
            rows: BTreeMap::new(),
            asked: Vec::new(),
            jump: None,
            facts,
        }
    }

    /// The events that are listed.
    pub(crate) fn listed(&self) -> &Bits {
        if self.list.want.is_all() { &self.shown } else { &self.list.found }
    }

    /// Whether the list is as long as it gets.
    pub(crate) fn is_listed(&self) -> bool {
        if self.list.want.is_all() {
            self.pages.is_done()
        } else {
            self.list.searched == self.pages.all.len()
        }
    }

    /// The listed event at which somebody is.
    pub(crate) fn at(&self) -> Option<u32> {
        let listed = self.listed();
        listed.next(self.cursor).or_else(|| listed.previous(self.cursor))
    }

    /// The same, as it is shown.
    pub(crate) fn row(&self) -> Option<&Row> {
        self.rows.get(&self.at()?)
    }

    /// Goes so many listed events on, or back.
    pub(crate) fn go(&mut self, by: i64) {
        let Some(at) = self.at() else { return };
        let listed = self.listed();
        let last = i64::from(listed.count()) - 1;
        let rank = (i64::from(listed.rank(at)).saturating_add(by)).clamp(0, last.max(0));
        self.cursor = listed.select(rank as u32).unwrap_or(at);
    }

    /// Adds what was read, as far as there is no gap.
    pub(crate) fn scanned(&mut self, page: usize, scanned: Scanned) {
        self.pages.waiting.insert(page, scanned);
        while let Some(scanned) = self.pages.waiting.remove(&self.pages.read()) {
            let next = self.pages.firsts.last().copied().unwrap_or(0).saturating_add(scanned.shown.len());
            self.pages.firsts.push(next);
            self.shown.append(&scanned.shown);
            self.errors.append(&scanned.errors);
            self.series.merge(&scanned.bins);
            for what in scanned.unreadable {
                if self.unreadable.len() < KEPT_WHATS {
                    self.unreadable.insert(escape::line(&what).into());
                }
            }
        }
    }

    /// Adds what was found, as far as there is no gap.
    pub(crate) fn found(&mut self, search: u64, page: usize, part: Part) {
        if search != self.list.search {
            return;
        }
        self.list.waiting.insert(page, part);
        while let Some(part) = self.list.waiting.remove(&self.list.searched) {
            self.list.found.append(&part);
            self.list.searched += 1;
        }
    }

    /// Lists other events.
    pub(crate) fn want(&mut self, side: usize, want: Want, follow: Option<String>) -> Effect {
        if let Some(at) = self.at() {
            self.cursor = at;
        }
        let search = self.list.search + 1;
        let all = want.is_all();
        self.list = List { want, follow, search, ..List::default() };
        if all {
            return Effect::Forget { side, search };
        }
        Effect::Find { side, search, want: Box::new(self.list.want.clone()) }
    }

    /// Shows an event though it is not listed otherwise.
    pub(crate) fn reveal(&mut self, ordinal: u32) {
        if self.list.want.is_all() {
            self.shown.insert(ordinal);
        }
    }

    /// The listed events that are on a screen of so many lines.
    pub(crate) fn visible(&self, height: u16) -> Vec<u32> {
        let listed = self.listed();
        (self.top..self.top.saturating_add(height.into())).map_while(|rank| listed.select(rank)).collect()
    }

    /// Brings the cursor onto the screen, and asks for rows that are not there yet.
    pub(crate) fn settle(&mut self, side: usize, height: u16, effects: &mut Vec<Effect>) {
        let height = height.max(1);
        let count = self.listed().count();
        let rank = self.at().map_or(0, |at| self.listed().rank(at));
        let lines = u32::from(height);
        if rank < self.top || rank >= self.top.saturating_add(lines) {
            // What was jumped to is in the middle.
            let near = rank + 1 == self.top || rank == self.top.saturating_add(lines);
            self.top = match near {
                true if rank < self.top => rank,
                true => rank + 1 - lines,
                false => rank.saturating_sub(lines / 2),
            };
        }
        self.top = self.top.min(count.saturating_sub(lines));
        // A screen above, and one below, are read before somebody gets there.
        let from = self.top.saturating_sub(lines);
        let to = self.top.saturating_add(lines * 2).min(count);
        let ordinals = |from, to| (from..to).filter_map(|rank| self.listed().select(rank));
        let screen_misses =
            ordinals(self.top, (self.top + lines).min(count)).any(|o| !self.rows.contains_key(&o));
        let near: Vec<u32> = ordinals(from, to).collect();
        if self.rows.len() > KEPT_ROWS {
            self.rows.retain(|ordinal, _| near.binary_search(ordinal).is_ok());
        }
        let missing = near.iter().filter(|ordinal| !self.rows.contains_key(ordinal));
        let places: Vec<Place> = missing.filter_map(|ordinal| self.pages.place(*ordinal)).collect();
        // Reading ahead waits until half of what was read is used up.
        let wanted = screen_misses || places.len() as u32 >= lines / 2;
        if wanted && !places.is_empty() && places != self.asked {
            self.asked.clone_from(&places);
            effects.push(Effect::Rows { side, places });
        }
        if let Some(jump) = &mut self.jump {
            let page = self.pages.at(jump.t_ns);
            if page < self.pages.read() && !jump.is_asked {
                jump.is_asked = true;
                effects.push(Effect::Seek { side, why: jump.why, page, t_ns: jump.t_ns, tid: jump.tid });
            }
        }
    }

    /// Takes rows that were asked for.
    pub(crate) fn add_rows(&mut self, rows: Vec<(Place, Row)>) {
        for (place, row) in rows {
            if let Some(ordinal) = self.pages.ordinal(place) {
                self.rows.insert(ordinal, row);
            }
        }
        self.asked.clear();
    }
}
