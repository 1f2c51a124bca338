//! What the core is told, and what it asks for. It does nothing itself: no file, no thread, no terminal, no clock.

use crate::bits::Part;
use crate::book::{Scanned, Series};
use crate::row::{Place, Row, What};
use ctrace_analysis::Account;
use ctrace_report::text::query::Query;

/// A key, as far as it means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Ctrl(char),
    Enter,
    Esc,
    Tab,
    BackTab,
    Backspace,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
}

/// Something the core learns.
#[derive(Debug)]
pub(crate) enum Message {
    Key(Key),
    /// Columns and lines of the terminal.
    Resize(u16, u16),
    /// A click: column and line.
    Click(u16, u16),
    /// The wheel: so many lines.
    Wheel(i32),
    /// A page was read for the first time.
    Scanned {
        side: usize,
        page: usize,
        scanned: Box<Scanned>,
    },
    /// A page was searched.
    Found {
        side: usize,
        search: u64,
        page: usize,
        part: Part,
    },
    /// A search makes no sense for this trace.
    Refused {
        side: usize,
        search: u64,
        why: String,
    },
    /// Events that were asked for.
    Rows {
        side: usize,
        rows: Vec<(Place, Row)>,
    },
    /// The event that was looked for.
    Sought {
        side: usize,
        why: Why,
        t_ns: u64,
        place: Place,
    },
    /// What the trace tells.
    Account {
        side: usize,
        account: Result<Box<Account>, String>,
    },
    /// Figures of a stretch of time.
    Series {
        side: usize,
        series: Series,
    },
}

/// The reason to look for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// To show it, whatever is filtered.
    Evidence,
    /// To go to that time.
    Time,
    /// The other trace is there.
    Lock,
}

/// Which events are to be listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Want {
    /// As it was typed.
    pub(crate) typed: String,
    pub(crate) query: Query,
    pub(crate) follow: Option<What>,
    /// Only what overlaps this time.
    pub(crate) brush: Option<(u64, u64)>,
}

impl Want {
    /// Whether nothing is left out.
    pub(crate) fn is_all(&self) -> bool {
        self.query.is_empty() && self.follow.is_none() && self.brush.is_none()
    }
}

/// Something the core wants done, and to be told of.
#[derive(Debug)]
pub(crate) enum Effect {
    /// To read all pages.
    Scan { side: usize },
    /// To work out what a trace tells.
    Account { side: usize },
    /// To search all pages; a search that began before is given up.
    Find { side: usize, search: u64, want: Box<Want> },
    /// To give up the search.
    Forget { side: usize, search: u64 },
    /// To read these events, in order of their places; those that were asked for before need not come.
    Rows { side: usize, places: Vec<Place> },
    /// To find on a page the first event that ended at this time or later, or else the exact one of a thread.
    Seek { side: usize, why: Why, page: usize, t_ns: u64, tid: Option<u32> },
    /// To work out figures.
    Series { side: usize, from_ns: u64, to_ns: u64, bins: usize },
    /// To stop, as a job of a shell.
    Suspend,
}
