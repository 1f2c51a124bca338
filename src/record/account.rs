//! Works out what a trace tells while it is recorded, so that nobody has to read all of it for that.

use ctrace_analysis::{End, Watch};
use ctrace_format::{Account, Event, Header, Known, Scope, Snapshot, Trace};
use ctrace_recorder::Watcher;

/// Events that wait for the snapshot of a scope that was there before: it is taken while they come.
const EARLY: usize = 65_536;

/// See the module.
#[derive(Default)]
pub(super) struct Accountant {
    watch: Option<Watch>,
    /// Events that came before the snapshot; `None`: it was there, or comes no more.
    early: Option<Vec<Event>>,
}

/// The account of a dump, which keeps it as a recording does.
pub(super) fn of_dump(dump: &Trace) -> Option<Account> {
    crate::account::to_keep(&ctrace_analysis::account(dump).ok()?)
}

impl Accountant {
    fn catch_up(&mut self, known: &dyn Known) {
        let (Some(watch), Some(early)) = (&mut self.watch, self.early.take()) else { return };
        for event in &early {
            watch.event(event, known);
        }
    }
}

impl Watcher for Accountant {
    fn begin(&mut self, header: &Header) {
        self.watch = Some(Watch::new(header));
        // A command has no past.
        self.early = (!matches!(header.scope, Scope::Command { .. })).then(Vec::new);
    }

    fn snapshot(&mut self, snapshot: &Snapshot, known: &dyn Known) {
        if let Some(watch) = &mut self.watch {
            watch.snapshot(snapshot);
        }
        self.catch_up(known);
    }

    fn event(&mut self, event: &Event, known: &dyn Known) {
        if let Some(early) = &mut self.early {
            early.push(event.clone());
            if early.len() >= EARLY {
                self.catch_up(known);
            }
        } else if let Some(watch) = &mut self.watch {
            watch.event(event, known);
        }
    }

    fn end(mut self: Box<Self>, duration_ns: u64, known: &dyn Known) -> Option<Account> {
        self.catch_up(known);
        let account = self.watch?.finish(End { duration_ns, containers: known.all_containers() });
        crate::account::to_keep(&account)
    }
}
