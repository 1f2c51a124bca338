//! A trace on a terminal: findings, timeline and events, to walk through; two traces side by side.
//!
//! The core ([`app`]) is pure: messages in, effects out, and a picture of itself. Around it are the threads that read
//! traces ([`work`]), page by page, so that no trace is ever in memory as a whole, and the terminal ([`terminal`]).
#![forbid(unsafe_code)]

mod app;
mod bits;
mod book;
mod keys;
mod message;
mod once;
mod pool;
mod render;
mod row;
mod side;
mod terminal;
#[cfg(test)]
mod tests;
mod timeline;
mod work;

pub use app::View;
pub use once::once;
pub use terminal::{ShowError, Stopped, lacks, show, size};

use crate::app::App;
use crate::message::Effect;
use crate::side::Side;
use ctrace_analysis::Account;
use ctrace_format::Trace;
use ctrace_report::text::when::Zone;
use std::path::PathBuf;
use std::sync::Arc;

/// A trace to be shown.
pub struct Shown {
    /// Its path.
    pub path: PathBuf,
    /// The trace.
    pub trace: Arc<Trace>,
    /// What its recorder kept of what it tells; otherwise it is worked out.
    pub account: Option<Account>,
}

/// How it is to be shown.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is seen first.
    pub view: View,
    /// The first filter.
    pub filter: String,
    /// The zone of times of day that are typed.
    pub zone: Zone,
    /// With colours, or by bold, dim and reversed words alone.
    pub colours: bool,
    /// Whether the terminal's mouse is taken.
    pub mouse: bool,
}

/// The core at its start.
struct Begun {
    app: App,
    /// What is to be done first.
    effects: Vec<Effect>,
    /// In the order of the core's sides.
    traces: Vec<Arc<Trace>>,
}

/// Begins. A sentence when the filter makes no sense.
fn begin(shown: Vec<Shown>, options: &Options, size: (u16, u16)) -> Result<Begun, String> {
    let traces = shown.iter().map(|shown| Arc::clone(&shown.trace)).collect();
    let sides = shown.into_iter().map(|shown| Side::new(&shown.path, &shown.trace, shown.account)).collect();
    let (mut app, mut effects) = App::new(sides, options.view, size, options.colours);
    if !options.filter.is_empty() {
        // What is searched is read by the way.
        effects.splice(..0, app.start_with(&options.filter)?);
    }
    Ok(Begun { app, effects, traces })
}
