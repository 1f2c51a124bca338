//! What a trace *means*: the model (tasks with roles, descriptors, streams with turns, resources), the diff engine
//! (metrics, alignment, verdict) and findings.
//!
//! Pure: reads a [`ctrace_format::Trace`] that is handed in; no other I/O, no clock, no kernel.
//!
//! One way in: [`Model::build`], then [`diff`] or [`findings`]. Beside it, [`Trigger`]: conditions on a stream of events
//! that is still coming.
#![forbid(unsafe_code)]

mod align;
mod build;
pub mod busy;
mod calls;
mod clock;
mod conn;
pub mod connects;
mod costs;
mod diff;
pub mod edits;
pub mod faults;
pub mod fds;
mod findings;
mod gates;
mod lacks;
mod model;
mod names;
mod near;
mod order;
mod overview;
mod pattern;
pub mod picture;
mod report;
mod resets;
mod roles;
mod seq;
pub mod shared;
mod symbol;
mod trigger;

pub use calls::{Calls, CallsError};
pub use clock::{Jump, Jumps};
pub use conn::{CloseKind, Conn, ConnKind, Side, Turn};
pub use diff::{Forced, Journal, Starved, Told, diff, diff_replay, judge_journal};
pub use findings::{
    Account, End, EventId, Evidence, Exited, Figures, Finding, Kind, Latency, Level, Watch, account,
};
pub use gates::{GateError, Gates, Profile};
pub use lacks::{RuledOut, ruled_out, without_replay};
pub use model::{BIN_NS, FAULTS, Hung, Missing, Model, ModelError, Process, REPLAY_OF, Series, Thread};
pub use names::{NameId, Names};
pub use overview::{
    CallCount, CallCounts, ContainerCount, Containers, Doubt, Failed, Injections, Lost, Network, On,
    Overview, Requests, Spent, is_complete,
};
pub use pattern::Pattern;
pub use report::{
    Amount, Cause, Divergence, DivergenceKind, Failures, Line, Metric, Report, SideInfo, Verdict,
};
pub use symbol::{OpClass, Outcome};
pub use trigger::{Firing, Rearm, Trigger, TriggerError};
