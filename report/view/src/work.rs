//! What the core asks for, done in the background. Each trace is read by threads of its own: some that read all of it once,
//! or search it, and one that fetches the rows of the screen, so that none of those waits for the other.

use crate::app::App;
use crate::book::{self, Page, Series};
use crate::message::{Effect, Message, Want, Why};
use crate::row::{Place, Row, Trail};
use ctrace_format::{Class, Event, Filter, Trace};
use ctrace_report::Paint;
use ctrace_report::text::Events;
use ctrace_report::text::query::Matcher;
use ctrace_report::text::when::Zone;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// What the terminal's thread and the others tell.
#[derive(Debug)]
pub(crate) enum Note {
    /// Something for the core.
    Message(Message),
    /// A signal came.
    Signal(nix::sys::signal::Signal),
    /// The terminal went away.
    NoTerminal(std::io::Error),
    /// A thread could not go on.
    Broken(String),
}

/// Threads that read one trace at a time: more would wait for the disk, or for memory.
const MOST_READERS: usize = 4;

/// Columns of a task's name: half a screen of 80 is left for the call.
const WHO: usize = 16;

/// A trace, and the threads that read it.
struct Desk {
    trace: Arc<Trace>,
    pages: Arc<Vec<Page>>,
    whole: Series,
    /// Pages that somebody reads for the first time, or has read: a search does that by the way.
    taken: Arc<Vec<AtomicBool>>,
    /// The search that is wanted: others stop.
    search: Arc<AtomicU64>,
    rows: Sender<Request>,
}

/// Something for the thread that fetches rows.
enum Request {
    Rows(Vec<Place>),
    Seek { why: Why, page: usize, t_ns: u64, tid: Option<u32> },
    Series { from_ns: u64, to_ns: u64, bins: usize },
}

/// Does what the core asks for.
pub(crate) struct Runner {
    desks: Vec<Desk>,
    notes: Sender<Note>,
    zone: Zone,
}

/// A thread that ends by a panic says so: somebody waits for what it was to do.
struct Guard(Sender<Note>);

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            // Nobody listens any more: then nobody waits either.
            let _ = self.0.send(Note::Broken("a thread that reads the trace ended by a bug".into()));
        }
    }
}

fn spawn(notes: &Sender<Note>, work: impl FnOnce() + Send + 'static) {
    let guard = Guard(notes.clone());
    let spawned = thread::Builder::new().name("ctrace-view".into()).spawn(move || {
        let _guard = guard;
        work();
    });
    if let Err(error) = spawned {
        let _ = notes.send(Note::Broken(format!("no thread could be started: {error}")));
    }
}

impl Runner {
    /// For these traces, in the order of the core's sides.
    pub(crate) fn new(traces: &[Arc<Trace>], app: &App, zone: Zone, notes: Sender<Note>) -> Self {
        let desk = |(side, trace): (usize, &Arc<Trace>)| {
            let (rows, requests) = channel();
            let state = &app.sides[side];
            let desk = Desk {
                trace: Arc::clone(trace),
                pages: Arc::new(state.pages.all.clone()),
                whole: Series::new(state.series.from_ns, state.series.to_ns, state.series.bins.len()),
                taken: Arc::new(state.pages.all.iter().map(|_| AtomicBool::new(false)).collect()),
                search: Arc::new(AtomicU64::new(0)),
                rows,
            };
            let (trace, pages, notes_) = (Arc::clone(trace), Arc::clone(&desk.pages), notes.clone());
            spawn(&notes, move || fetch(side, &trace, &pages, &requests, &notes_));
            desk
        };
        let desks = traces.iter().enumerate().map(desk).collect();
        Self { desks, notes, zone }
    }

    /// Does it, or has it done. What it does not know is for the terminal.
    pub(crate) fn run(&self, effect: Effect) {
        match effect {
            Effect::Scan { side } => self.scan(side),
            Effect::Account { side } => self.account(side),
            Effect::Forget { side, search } => self.desks[side].search.store(search, Ordering::Release),
            Effect::Find { side, search, want } => self.find(side, search, *want),
            Effect::Rows { side, places } => self.ask(side, Request::Rows(places)),
            Effect::Seek { side, why, page, t_ns, tid } => {
                self.ask(side, Request::Seek { why, page, t_ns, tid });
            }
            Effect::Series { side, from_ns, to_ns, bins } => {
                self.ask(side, Request::Series { from_ns, to_ns, bins });
            }
            Effect::Suspend => {}
        }
    }

    fn ask(&self, side: usize, request: Request) {
        // Its end was told by its guard.
        let _ = self.desks[side].rows.send(request);
    }

    /// Runs `work` on every page, on several threads, the first ones first. `work` makes what one thread needs.
    fn on_pages<W>(&self, side: usize, work: impl Fn(Arc<Trace>) -> W + Clone + Send + 'static)
    where
        W: FnMut(&Events, usize, Page) -> bool,
    {
        let desk = &self.desks[side];
        let next = Arc::new(AtomicUsize::new(0));
        let readers = thread::available_parallelism().map_or(1, usize::from).clamp(1, MOST_READERS);
        for _ in 0..readers.min(desk.pages.len()) {
            let (trace, pages, next) = (Arc::clone(&desk.trace), Arc::clone(&desk.pages), Arc::clone(&next));
            let work = work.clone();
            spawn(&self.notes, move || {
                let events = Events::new(&trace, Paint::none());
                let mut work = work(Arc::clone(&trace));
                loop {
                    let page = next.fetch_add(1, Ordering::Relaxed);
                    if page >= pages.len() || !work(&events, page, pages[page]) {
                        break;
                    }
                }
            });
        }
    }

    fn scan(&self, side: usize) {
        let desk = &self.desks[side];
        let (notes, whole, taken) = (self.notes.clone(), desk.whole.clone(), Arc::clone(&desk.taken));
        self.on_pages(side, move |_| {
            let (notes, whole, taken) = (notes.clone(), whole.clone(), Arc::clone(&taken));
            move |events: &Events, page: usize, of: Page| {
                if taken[page].swap(true, Ordering::AcqRel) {
                    return true;
                }
                let (scanned, _) = book::scan(events, of, &whole, |_| false);
                let scanned = Box::new(scanned);
                notes.send(Note::Message(Message::Scanned { side, page, scanned })).is_ok()
            }
        });
    }

    fn find(&self, side: usize, search: u64, want: Want) {
        let desk = &self.desks[side];
        let (current, taken, whole) = (Arc::clone(&desk.search), Arc::clone(&desk.taken), desk.whole.clone());
        current.store(search, Ordering::Release);
        let (notes, zone) = (self.notes.clone(), self.zone);
        let want = Arc::new(want);
        self.on_pages(side, move |trace| {
            let (current, taken, whole) = (Arc::clone(&current), Arc::clone(&taken), whole.clone());
            let (notes, want) = (notes.clone(), Arc::clone(&want));
            let trail = Trail::new(want.follow, &trace);
            let mut matcher = None;
            move |events: &Events, page: usize, of: Page| {
                let is_old = || current.load(Ordering::Acquire) != search;
                if is_old() {
                    return false;
                }
                if matcher.is_none() {
                    match Matcher::new(&want.query, &trace, events.containers(), zone) {
                        Ok(made) => matcher = Some(made),
                        Err(why) => {
                            let _ = notes.send(Note::Message(Message::Refused { side, search, why }));
                            return false;
                        }
                    }
                }
                let Some(matcher) = &mut matcher else { return false };
                let (from, to) = want.brush.unwrap_or((0, u64::MAX));
                let fits = |event: &Event| {
                    event.end_ns() >= from
                        && event.start_ns() <= to
                        && trail.has(&trace, event)
                        && matcher.fits(events, event)
                };
                let part = if taken[page].swap(true, Ordering::AcqRel) {
                    book::find(&trace, of, fits, is_old)
                } else {
                    let (scanned, part) = book::scan(events, of, &whole, fits);
                    let scanned = Box::new(scanned);
                    let note = Note::Message(Message::Scanned { side, page, scanned });
                    notes.send(note).is_ok().then_some(part)
                };
                let note = |part| Note::Message(Message::Found { side, search, page, part });
                part.is_some_and(|part| notes.send(note(part)).is_ok())
            }
        });
    }

    fn account(&self, side: usize) {
        let (trace, notes) = (Arc::clone(&self.desks[side].trace), self.notes.clone());
        spawn(&self.notes, move || {
            let account = ctrace_analysis::account(&trace).map(Box::new).map_err(|e| e.to_string());
            let _ = notes.send(Note::Message(Message::Account { side, account }));
        });
    }
}

/// The thread that fetches rows.
fn fetch(side: usize, trace: &Trace, pages: &[Page], requests: &Receiver<Request>, notes: &Sender<Note>) {
    let mut events = Events::new(trace, Paint::none()).with_who_columns(WHO);
    let mut is_taught = false;
    while let Ok(first) = requests.recv() {
        if !is_taught {
            teach(&mut events, trace);
            is_taught = true;
        }
        // Of rows, only the last ones are still on the screen.
        let mut waiting = vec![first];
        waiting.extend(requests.try_iter());
        let last = waiting.iter().rposition(|request| matches!(request, Request::Rows(_)));
        for (i, request) in waiting.into_iter().enumerate() {
            let message = match request {
                Request::Rows(_) if Some(i) != last => continue,
                Request::Rows(places) => Message::Rows { side, rows: rows(&events, pages, &places) },
                Request::Seek { why, page, t_ns, tid } => {
                    let place = Place { page, at: seek(trace, pages[page], t_ns, tid) };
                    Message::Sought { side, why, t_ns, place }
                }
                Request::Series { from_ns, to_ns, bins } => {
                    Message::Series { side, series: book::series(&events, from_ns, to_ns, bins) }
                }
            };
            if notes.send(Note::Message(message)).is_err() {
                return;
            }
        }
    }
}

/// Teaches what lines need to know: the ends of sockets, and where tasks sleep.
fn teach(events: &mut Events, trace: &Trace) {
    let filter = Filter { classes: vec![Class::Connection, Class::Process], ..Filter::default() };
    for event in trace.events(&filter).flatten() {
        events.learn(&event);
    }
}

/// The rows of these places, which are in order.
fn rows(events: &Events, pages: &[Page], places: &[Place]) -> Vec<(Place, Row)> {
    let mut rows = Vec::with_capacity(places.len());
    for places in places.chunk_by(|a, b| a.page == b.page) {
        let page = places[0].page;
        let (mut at, mut wanted) = (0, places.iter().peekable());
        book::read(events.trace(), pages[page], |event| {
            let Ok(event) = event else { return true };
            if wanted.peek().is_some_and(|place| place.at == at) {
                wanted.next();
                let row = Row::of(events, &event, book::is_error(events, &event));
                rows.push((Place { page, at }, row));
            }
            at += 1;
            wanted.peek().is_some()
        });
        // The file changed since it was read first.
        for place in wanted {
            let text = "this event can no longer be read".into();
            rows.push((*place, Row { text, is_error: true, ..Row::default() }));
        }
    }
    rows
}

/// The place on a page of a thread's event that ended at this time, else of the first that did not end before.
fn seek(trace: &Trace, page: Page, t_ns: u64, tid: Option<u32>) -> u32 {
    let (mut at, mut first, mut exact) = (0, None, None);
    book::read(trace, page, |event| {
        let Ok(event) = event else { return true };
        if event.end_ns() >= t_ns {
            first.get_or_insert(at);
            let its = event.task().map_or(0, |task| trace.task(task).tid.0);
            if event.end_ns() == t_ns && tid == Some(its) {
                exact = Some(at);
            }
        }
        at += 1;
        // Those that end at the same time may be the one.
        exact.is_none() && (event.end_ns() <= t_ns || tid.is_none() && first.is_none())
    });
    exact.or(first).unwrap_or(at)
}
