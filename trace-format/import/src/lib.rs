//! Logs of other tools, read as traces.
//!
//! [`Survey`] looks at the beginnings of logs: whether they are strace's, how they tell who and when, and what they do not
//! tell. [`import`] reads them as a stream, line by line, and writes the events that ctrace's own recorder would have written,
//! as far as the log knows them. What a call does is asked of the one table, [`ctrace_format::syscalls`].
//!
//! A log is hostile input: lines, nesting, lists, threads and what waits for something are bounded, and a line that makes no
//! sense costs that line.
#![forbid(unsafe_code)]

mod address;
mod calls;
mod clock;
mod decode;
mod effects;
mod form;
mod importer;
mod later;
mod leader;
mod lines;
mod lives;
mod merge;
mod names;
mod objects;
mod structures;
mod survey;
mod tasks;
mod text;
mod told;
mod value;

pub use later::Shown;
pub use lines::MAX_LINE;
pub use merge::{ImportError, Log, import};
pub use survey::{Refused, SAMPLE, Sample, Survey, Times};
pub use told::{Told, Unread};
