//! Threads that read pages of one trace: all of them once, and again what is searched. A search comes first, and reads what
//! nobody has read yet by the way, so that no page is decoded twice for one answer.

use crate::book::{self, Page, Series};
use crate::message::{Message, Want};
use crate::row::Trail;
use crate::work::Note;
use ctrace_format::{Event, Trace};
use ctrace_report::Paint;
use ctrace_report::text::Events;
use ctrace_report::text::query::Matcher;
use ctrace_report::text::when::Zone;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Which events are looked for.
struct Search {
    number: u64,
    want: Want,
}

/// A page that is to be read.
enum Job {
    /// For the first time.
    Scan(usize),
    /// To search it; for the first time, too, or not.
    Find(Arc<Search>, usize, bool),
}

/// What there is to do.
#[derive(Default)]
struct Jobs {
    /// The first page that may not have been taken, once all of them are wanted.
    scan: Option<usize>,
    /// Pages that somebody reads, or has read.
    taken: Vec<bool>,
    search: Option<Arc<Search>>,
    /// The next page that is to be searched.
    next: usize,
    closed: bool,
}

impl Jobs {
    fn take(&mut self) -> Option<Job> {
        let pages = self.taken.len();
        if let Some(search) = self.search.as_ref().filter(|_| self.next < pages) {
            let (search, page) = (Arc::clone(search), self.next);
            self.next += 1;
            let is_first = !std::mem::replace(&mut self.taken[page], true);
            return Some(Job::Find(search, page, is_first));
        }
        let from = self.scan?;
        let page = (from..pages).find(|page| !self.taken[*page]);
        self.scan = Some(page.unwrap_or(pages));
        let page = page?;
        self.taken[page] = true;
        Some(Job::Scan(page))
    }
}

/// See the module.
pub(crate) struct Pool {
    side: usize,
    trace: Arc<Trace>,
    pages: Arc<Vec<Page>>,
    /// An empty series of the whole trace.
    whole: Series,
    zone: Zone,
    notes: Sender<Note>,
    jobs: Mutex<Jobs>,
    more: Condvar,
    /// The search that is wanted: others stop.
    current: AtomicU64,
}

impl Pool {
    pub(crate) fn new(
        side: usize,
        trace: Arc<Trace>,
        pages: Arc<Vec<Page>>,
        whole: Series,
        zone: Zone,
        notes: Sender<Note>,
    ) -> Self {
        let jobs = Jobs { taken: vec![false; pages.len()], ..Jobs::default() };
        let (jobs, more) = (Mutex::new(jobs), Condvar::new());
        Self { side, trace, pages, whole, zone, notes, jobs, more, current: AtomicU64::new(0) }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // A thread that panicked held it for a moment at most, and told of its end.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All pages are wanted.
    pub(crate) fn scan(&self) {
        self.jobs().scan = Some(0);
        self.more.notify_all();
    }

    /// Another search is wanted, or none.
    pub(crate) fn search(&self, number: u64, want: Option<Want>) {
        self.current.store(number, Ordering::Release);
        let mut jobs = self.jobs();
        jobs.search = want.map(|want| Arc::new(Search { number, want }));
        jobs.next = 0;
        drop(jobs);
        self.more.notify_all();
    }

    /// Nothing is wanted any more.
    pub(crate) fn close(&self) {
        self.current.store(u64::MAX, Ordering::Release);
        self.jobs().closed = true;
        self.more.notify_all();
    }

    /// What one thread does until the end.
    pub(crate) fn work(&self) {
        let events = Events::new(&self.trace, Paint::none());
        let mut ready: Option<(u64, Trail, Matcher)> = None;
        loop {
            let mut jobs = self.jobs();
            let job = loop {
                if jobs.closed {
                    return;
                }
                match jobs.take() {
                    Some(job) => break job,
                    None => jobs = self.more.wait(jobs).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(jobs);
            let told = match job {
                Job::Scan(page) => {
                    let (scanned, _) = book::scan(&events, self.pages[page], &self.whole, |_| false);
                    self.tell_scanned(page, scanned)
                }
                Job::Find(search, page, is_first) => {
                    if ready.as_ref().is_none_or(|(number, ..)| *number != search.number) {
                        ready = self.prepare(&events, &search);
                    }
                    self.find(&events, &search, (page, is_first), &mut ready)
                }
            };
            if !told {
                return;
            }
        }
    }

    /// Makes a search ready, or says why it makes no sense here.
    fn prepare(&self, events: &Events, search: &Search) -> Option<(u64, Trail, Matcher)> {
        match Matcher::new(&search.want.query, &self.trace, events.containers(), self.zone) {
            Ok(matcher) => Some((search.number, Trail::new(search.want.follow, &self.trace), matcher)),
            Err(why) => {
                let mut jobs = self.jobs();
                jobs.search.take_if(|current| current.number == search.number);
                drop(jobs);
                let refused = Message::Refused { side: self.side, search: search.number, why };
                let _ = self.notes.send(Note::Message(refused));
                None
            }
        }
    }

    /// Searches a page. `false`: nobody listens any more.
    fn find(
        &self,
        events: &Events,
        search: &Search,
        (page, is_first): (usize, bool),
        ready: &mut Option<(u64, Trail, Matcher)>,
    ) -> bool {
        let Some((_, trail, matcher)) = ready else {
            if is_first {
                let (scanned, _) = book::scan(events, self.pages[page], &self.whole, |_| false);
                return self.tell_scanned(page, scanned);
            }
            return true;
        };
        let (from, to) = search.want.brush.unwrap_or((0, u64::MAX));
        let fits = |event: &Event| {
            event.end_ns() >= from
                && event.start_ns() <= to
                && trail.has(&self.trace, event)
                && matcher.fits(events, event)
        };
        let part = if is_first {
            let (scanned, part) = book::scan(events, self.pages[page], &self.whole, fits);
            if !self.tell_scanned(page, scanned) {
                return false;
            }
            Some(part)
        } else {
            let is_old = || self.current.load(Ordering::Acquire) != search.number;
            book::find(&self.trace, self.pages[page], fits, is_old)
        };
        let (side, search) = (self.side, search.number);
        let found = |part| Note::Message(Message::Found { side, search, page, part });
        part.is_none_or(|part| self.notes.send(found(part)).is_ok())
    }

    fn tell_scanned(&self, page: usize, scanned: book::Scanned) -> bool {
        let scanned = Box::new(scanned);
        self.notes.send(Note::Message(Message::Scanned { side: self.side, page, scanned })).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_comes_first_and_no_page_is_read_twice_for_it() {
        let search = |number| Arc::new(Search { number, want: Want::default() });
        let mut jobs = Jobs { taken: vec![false; 4], ..Jobs::default() };
        let take = |jobs: &mut Jobs| match jobs.take() {
            None => "nothing".to_owned(),
            Some(Job::Scan(page)) => format!("scan {page}"),
            Some(Job::Find(search, page, first)) => format!("find {} {page} {first}", search.number),
        };
        assert_eq!(take(&mut jobs), "nothing");
        jobs.scan = Some(0);
        assert_eq!(take(&mut jobs), "scan 0");
        (jobs.search, jobs.next) = (Some(search(1)), 0);
        assert_eq!(take(&mut jobs), "find 1 0 false");
        assert_eq!(take(&mut jobs), "find 1 1 true");
        (jobs.search, jobs.next) = (None, 0);
        assert_eq!(take(&mut jobs), "scan 2");
        (jobs.search, jobs.next) = (Some(search(2)), 0);
        let all: Vec<String> = (0..6).map(|_| take(&mut jobs)).collect();
        let found =
            ["find 2 0 false", "find 2 1 false", "find 2 2 false", "find 2 3 true", "nothing", "nothing"];
        assert_eq!(all, found);
    }
}
