//! What the core asks for, done in the background. Each trace is read by threads of its own: some that read all of it once,
//! or search it, and one that fetches the rows of the screen, so that none of those waits for the other.

use crate::app::App;
use crate::book::{self, Page, Series};
use crate::message::{Effect, Message, Why};
use crate::pool::Pool;
use crate::row::{Place, Row};
use ctrace_format::{Class, Filter, Trace};
use ctrace_report::Paint;
use ctrace_report::text::Events;
use ctrace_report::text::when::Zone;
use std::sync::Arc;
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
    pool: Arc<Pool>,
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
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.desks.iter().for_each(|desk| desk.pool.close());
    }
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
        let readers = thread::available_parallelism().map_or(1, usize::from).clamp(1, MOST_READERS);
        let desk = |(side, trace): (usize, &Arc<Trace>)| {
            let state = &app.sides[side];
            let pages = Arc::new(state.pages.all.clone());
            let whole = Series::new(state.series.from_ns, state.series.to_ns, state.series.bins.len());
            let pool = Pool::new(side, Arc::clone(trace), Arc::clone(&pages), whole, zone, notes.clone());
            let pool = Arc::new(pool);
            for _ in 0..readers.min(pages.len()) {
                let pool = Arc::clone(&pool);
                spawn(&notes, move || pool.work());
            }
            let (rows, requests) = channel();
            let (of, told) = (Arc::clone(trace), notes.clone());
            spawn(&notes, move || fetch(side, &of, &pages, &requests, &told));
            Desk { trace: Arc::clone(trace), pool, rows }
        };
        let desks = traces.iter().enumerate().map(desk).collect();
        Self { desks, notes }
    }

    /// Does it, or has it done. What it does not know is for the terminal.
    pub(crate) fn run(&self, effect: Effect) {
        match effect {
            Effect::Scan { side } => self.desks[side].pool.scan(),
            Effect::Account { side } => self.account(side),
            Effect::Forget { side, search } => self.desks[side].pool.search(search, None),
            Effect::Find { side, search, want } => self.desks[side].pool.search(search, Some(*want)),
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

    /// Does all of them.
    pub(crate) fn run_all(&self, effects: Vec<Effect>) {
        for effect in effects {
            self.run(effect);
        }
    }

    fn ask(&self, side: usize, request: Request) {
        // Its end was told by its guard.
        let _ = self.desks[side].rows.send(request);
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
